"""The commands of docs/trust.rst: two nodes in, one out, and a new secret and list while they run."""

from __future__ import annotations

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
        self.assertEqual(len(COMMANDS), 3)
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
