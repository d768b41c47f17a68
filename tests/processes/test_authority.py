"""Nine processes with an authority: members are added, removed and replaced while all of them talk."""

from __future__ import annotations

from functools import partial

from tests.support.length import only_at_length
from tests.support.processes import Child, ProcessCase
from twisted_mesh.identity import Identity
from twisted_mesh.trust.authority import roles_of
from twisted_mesh.trust.grants import AuthorityFiles

NODES = 9
OUT = 8  # the node that is removed
CHANGED = "who belongs to the mesh was read again, and has changed"


class NineNodesTests(ProcessCase):
    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.nodes: list[Child] = []
        self.ids: list[str] = []
        self.said: list[tuple[int, str]] = []  # each line, with the number of the node that said it

    async def test_who_stays_loses_nothing_while_members_come_and_go_and_grants_are_renewed(self) -> None:
        only_at_length()
        self.authority = AuthorityFiles.create(self.directory / "mesh.authority", "mesh")
        await self.until_listening(self.node())
        for _ in range(NODES - 1):
            self.node(self.nodes[0])
        await self.until(lambda: all(node.log.count("is up") >= NODES - 1 for node in self.nodes))
        self.talk(range(NODES))
        added = self.node(self.nodes[1])
        self.talk(range(NODES))
        await self.until(lambda: added.links)
        self.talk([NODES, *range(NODES)])
        await self.until(lambda: all(self.last(OUT) in node.lines for node in self.nodes[:OUT]))
        self.before = sum(author == OUT for author, _ in self.said)
        await self.remove(self.ids[OUT])
        self.talk(range(NODES + 1))  # the removed one goes on, too
        await self.until(lambda: not self.nodes[OUT].links)
        self.nodes[OUT].signal("KILL")
        replaced = self.node(self.nodes[2])  # on the same machine, with a key and a grant of its own
        self.talk(self.staying())
        await self.until(lambda: replaced.links)
        self.talk([NODES + 1, *self.staying()])
        await self.renew()
        self.talk([*self.staying(), NODES + 1])
        await self.all_heard()

    def staying(self) -> list[int]:
        """The nodes that are there from the first message on to the end, and the one that was added."""
        return [at for at in range(NODES + 1) if at != OUT]

    def node(self, *peers: Child) -> Child:
        """Start one more node, with a grant."""
        at = len(self.nodes)
        self.ids.append(Identity.create(self.directory / f"key{at}").id.decode())
        self.grant(at)
        words = ["--authority=mesh.authority.pub", f"--grant=grant{at}", f"--identity=key{at}"]
        words.append("--no-control" if at else "--control=control")
        self.nodes.append(self.mesh("--stdio", *words, peers=peers))
        return self.nodes[-1]

    def grant(self, at: int, generation: int = 0) -> None:
        """Give a node its first grant, or another one."""
        path = self.directory / f"new{at}"
        self.authority.grant(self.ids[at], roles_of("link,author"), path, generation)
        path.rename(self.directory / f"grant{at}")

    def last(self, speaker: int) -> str:
        """The last line that *speaker* has said."""
        return [text for author, text in self.said if author == speaker][-1]

    def talk(self, speakers: list[int] | range) -> None:
        """Let each of *speakers* say a line."""
        for at in speakers:
            if self.nodes[at].status is not None:
                continue
            self.said.append((at, f"line {len(self.said)} of {at}"))
            self.nodes[at].type(self.said[-1][1] + "\n")

    async def remove(self, *words: str) -> None:
        """Have the authority remove a member, by way of the first node, while all talk."""
        command = ("authority", "remove", "mesh.authority", *words, "--node=control")
        removing = self.run_module("twisted_mesh.cli.main", *command)
        self.talk(range(NODES + 1))
        self.assertEqual(await self.until_ended(removing), [0])

    async def renew(self) -> None:
        """Give all nodes new grants, and end the old ones."""
        there = [*self.staying(), NODES + 1]
        for at in there:
            self.grant(at, 2)
            self.nodes[at].signal("HUP")
            self.talk([at])
        await self.until(lambda: all(CHANGED in self.nodes[at].log for at in there))
        await self.remove("--below=2")
        await self.until(lambda: all("policy 2 of the authority" in self.nodes[at].log for at in there))

    async def all_heard(self) -> None:
        """All have each line of those who stay, once, and the same lines of the one that was removed."""
        beginning = self.staying()[:-1]
        texts = {at: [text for author, text in self.said if author == at] for at in range(NODES + 2)}
        for at in beginning:
            others = [
                text for author in (*self.staying(), NODES + 1) if author != at for text in texts[author]
            ]
            await self.until(partial(self.has_all, self.nodes[at], others))
        ends = set()
        for at in beginning:
            node = self.nodes[at]
            self.assertEqual(len(set(node.lines)), len(node.lines), str(node))
            self.assertNotRegex(node.log, "(is|are) lost: ")
            heard = [line for line in node.lines if line in texts[OUT]]
            self.assertEqual(heard, texts[OUT][: len(heard)])
            self.assertGreaterEqual(len(heard), self.before)
            if "are not elsewhere" not in node.log:  # else it had delivered more, and says so
                ends.add(len(heard))
        self.assertLessEqual(len(ends), 1)

    @staticmethod
    def has_all(node: Child, expected: list[str]) -> bool:
        """Whether *node* has printed each of *expected*."""
        return set(expected) <= set(node.lines)
