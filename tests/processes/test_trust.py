"""The commands of docs/trust.rst: two nodes in, one out, and a new secret while they run."""

from __future__ import annotations

import os
import re
import subprocess
from functools import partial

from tests.support.processes import ROOT, Child, ProcessCase
from twisted_mesh.identity import Identity

PAGE = (ROOT / "docs" / "trust.rst").read_text()
COMMANDS = re.findall(r"^    (.*> mesh\.secret)$", PAGE, flags=re.M)


class TrustTests(ProcessCase):
    async def made(self, *names: str) -> None:
        """Make a secret in each of the files *names*, as the page says."""
        for name in names:
            child = self.run_module("twisted_mesh.cli.main", "secret", "new", name)
            self.assertEqual(await self.until_ended(child), [0])
            self.assertRegex(
                child.lines[0], rf"^secret [0-9a-f]{{16}} in {name}: copy the file to all nodes"
            )
            self.assertEqual((self.directory / name).stat().st_mode & 0o777, 0o600)

    def run_all(self, command: str) -> None:
        subprocess.run(["sh", "-c", command], cwd=self.directory, check=True)

    def have_read(self, times: int, *children: Child) -> bool:
        """Whether each of *children* has read its file again so many times."""
        changed = "who belongs to the mesh was read again, and has changed"
        return all(child.log.count(changed) == times for child in children)

    def node(self, *arguments: str, peers: tuple[Child, ...] = ()) -> Child:
        return self.mesh("--stdio", "--no-control", *arguments, peers=peers)

    async def test_two_nodes_with_the_secret_are_in_and_others_read_why_they_are_not(self) -> None:
        self.assertIn("$ mesh secret new mesh.secret\n", PAGE)
        await self.made("mesh.secret", "other.secret")
        inside = self.node("--secret=mesh.secret")
        await self.until_listening(inside)
        second = self.node("--secret=mesh.secret", peers=(inside,))
        other = self.node("--secret=other.secret", "--debug-level=2", peers=(inside,))
        without = self.node(peers=(inside,))
        await self.until(lambda: inside.links and second.links)
        second.type("for those inside\n")
        await self.until(lambda: inside.lines == ["for those inside"])
        told = "closed at our knock: the secret differs, or it is no node of this mesh"
        await self.until(lambda: told in other.log)
        await self.until(lambda: "it may want a secret" in without.log)
        page = " ".join(PAGE.split())
        for words in (told, "it may want a secret"):
            self.assertIn(words, page)
        self.assertEqual((other.links, without.links, other.lines, without.lines), (0, 0, [], []))
        self.assertEqual([child.status for child in self.children[2:]], [None] * 4)

    async def test_a_new_secret_comes_in_by_the_three_steps_of_the_page(self) -> None:
        await self.made("old.secret", "new.secret")
        self.run_all("cp -p old.secret mesh.secret")
        first = self.node("--secret=mesh.secret")
        await self.until_listening(first)
        second = self.node("--secret=mesh.secret", peers=(first,))
        await self.until(lambda: first.links and second.links)
        self.assertEqual(len(COMMANDS), 3)
        for number, command in enumerate(COMMANDS, 1):
            self.run_all(command)
            for child in (first, second):
                child.signal("HUP")
            await self.until(partial(self.have_read, number, first, second))
            second.type(f"after step {number}\n")
        expected = [f"after step {number}" for number in (1, 2, 3)]
        await self.until(lambda: first.lines == expected)
        late = self.node("--secret=new.secret", peers=(first,))
        await self.until(lambda: late.links)
        (self.directory / "mesh.secret").write_text("too short\n")
        first.signal("HUP")
        await self.until(lambda: "what was read before stays in force" in first.log)
        self.assertIn("line 1: not 64 hexadecimal digits", first.log)
        late.type("still there\n")
        await self.until(lambda: first.lines == [*expected, "still there"])

    async def test_nine_nodes_get_a_new_secret_and_other_members_under_traffic(self) -> None:
        await self.made("old.secret", "new.secret")
        self.run_all("cp -p old.secret mesh.secret")
        ids = []
        for number in range(11):
            identity = Identity.create(self.directory / f"key{number}")
            ids.append(identity.id.decode())
        members = self.directory / "members"
        members.write_text("".join(f"{node_id}\n" for node_id in ids[:9]))
        trusted = ("--secret=mesh.secret", "--allow=members")
        first = self.node("--identity=key0", *trusted)
        await self.until_listening(first)
        nodes = [first, *(self.node(f"--identity=key{at}", *trusted, peers=(first,)) for at in range(1, 9))]
        await self.until(lambda: all(node.links for node in nodes))
        await self.until(lambda: all(node.log.count("is up") >= 8 for node in nodes))
        said: list[tuple[int, str]] = []

        def talk(*speakers: int) -> None:
            for at in speakers:
                said.append((at, f"line {len(said)} of {at}"))
                nodes[at].type(said[-1][1] + "\n")

        def reload() -> None:
            for at, node in enumerate(nodes):
                if node.status is None:
                    node.signal("HUP")
                    talk(at)

        talk(*range(9))
        for number, command in enumerate(COMMANDS, 1):
            self.run_all(command)
            reload()
            await self.until(partial(self.have_read, number, *nodes))
            talk(*range(9))
        for at, node in enumerate(nodes):
            await self.until(partial(self.has_all, node, [text for author, text in said if author != at]))
        # The last node is struck out, and another takes its place.
        members.write_text("".join(f"{node_id}\n" for node_id in (*ids[:8], ids[9])))
        reload()
        await self.until(lambda: not nodes[8].links)
        tenth = self.node("--identity=key9", *trusted, peers=(first,))
        await self.until(lambda: tenth.links)
        nodes[8].type("from outside\n")
        talk(*range(8))
        tenth.type("let in\n")
        for at, node in enumerate(nodes[:8]):
            texts = [text for author, text in said if author not in (at, 8)]
            await self.until(partial(self.has_all, node, [*texts, "let in"]))
            self.assertNotIn("from outside", node.lines)
            self.assertNotRegex(node.log, "(is|are) lost: ")
            self.assertEqual(len(set(node.lines)), len(node.lines))

    @staticmethod
    def has_all(node: Child, expected: list[str]) -> bool:
        """Whether *node* has printed each of *expected*."""
        return set(expected) <= set(node.lines)

    async def test_a_file_that_cannot_be_used_ends_the_start(self) -> None:
        await self.made("mesh.secret")
        os.chmod(self.directory / "mesh.secret", 0o644)
        child = self.node("--secret=mesh.secret")
        self.assertEqual(await self.until_ended(child), [1])
        said = child.log + child.out.decode()
        self.assertIn("can be read by others: chmod 600", said)
        self.assertNotIn("listens on", said)

    async def test_a_list_names_the_nodes_that_are_in(self) -> None:
        self.assertIn("--allow members", PAGE)
        ids = {}
        for name in ("one", "two", "three"):
            script = "from twisted_mesh import Identity; print(Identity.create('{0}').id.decode())"
            child = self.fork(script.format(name))
            await self.until_ended(child)
            ids[name] = child.lines[0]
        members = self.directory / "members"
        members.write_text(f"{ids['one']}  # web1\n{ids['two']}  # db\n")
        one = self.node("--identity=one", "--allow=members")
        await self.until_listening(one)
        two = self.node("--identity=two", "--allow=members", peers=(one,))
        three = self.node("--identity=three", "--allow=members", "--debug-level=2", peers=(one,))
        await self.until(lambda: one.links and two.links)
        told = "the list of members does not have"
        await self.until(lambda: f"{told} {ids['one' if three.links else 'three']}" in three.log)
        self.assertIn(told, PAGE)
        members.write_text("".join(f"{node}\n" for node in ids.values()))
        for child in (one, two, three):
            child.signal("HUP")
        await self.until(lambda: three.links, deadline=60)
        three.type("let in\n")
        await self.until(lambda: one.lines == two.lines == ["let in"])
