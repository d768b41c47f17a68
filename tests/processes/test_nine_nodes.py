"""Nine ``twistd mesh`` processes that know one address: they find each other, and lose nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from tests.support.processes import Child, ProcessCase
from twisted_mesh.identity import Identity

NODES = 9
LINES = 2500  # of each of the two speakers
SLICE = 250  # typed at a time


class NineNodesTests(ProcessCase):
    timeout = 120

    async def test_they_form_from_one_address_and_outlive_whom_they_joined_through(self) -> None:
        first = self.node(0)
        await self.until_listening(first)
        nodes = [first, *(self.node(number, first) for number in range(1, NODES))]
        # Each looks for five neighbours, and may come to rest with three.
        await self.until(lambda: all(node.links >= 2 for node in nodes))
        speakers, victim = nodes[1:3], nodes[5]
        await self.speak(speakers, nodes, range(0, LINES // 2, SLICE))
        victim.signal("KILL")
        await self.until_ended(victim)
        taken = self.taken(5)
        rest = range(LINES // 2, LINES, SLICE)
        await self.speak(speakers, [node for node in nodes if node is not victim], rest)
        nodes[5] = back = self.node(5, first)
        await self.until(lambda: all(f"\n{name} {LINES - 1}\n".encode() in back.out for name in "12"))
        for number, node in enumerate(nodes):
            for name in {"1", "2"} - {str(number)}:
                got = self.numbers(node, name)
                if node is back:
                    # The lines that it had committed do not come again, and no other line is missing.
                    self.assertEqual(got, list(range(taken[name], LINES)))
                    got = sorted({*self.numbers(victim, name), *got})
                self.assertEqual(got, list(range(LINES)), str(node))
            self.assertNotRegex(node.log, "(is|are) lost: ")
        await self.outlive(nodes)

    async def outlive(self, nodes: list[Child]) -> None:
        """Kill the node that all joined through; let a newcomer join through another one."""
        nodes.pop(0).signal("KILL")
        newcomer = self.node(NODES, nodes[3])
        await self.until(lambda: newcomer.links)
        nodes.append(newcomer)
        for speaker in (nodes[0], newcomer):
            line = f"from {nodes.index(speaker)}"
            speaker.type(f"{line}\n")
            others = [node for node in nodes if node is not speaker]
            await self.until(lambda line=line, others=others: all(line in node.lines for node in others))
        self.assertEqual([node.lines.count(line) for node in others], [1] * len(others))

    def node(self, number: int, *peers: Child) -> Child:
        """Start the node with that number, with the key and history of its last run."""
        return self.mesh("--stdio", f"--identity=key{number}", f"--history=history{number}", peers=peers)

    async def speak(self, speakers: Sequence[Child], nodes: Sequence[Child], firsts: range) -> None:
        """Type lines at the speakers, a slice at a time, until all of *nodes* have them."""
        for first in firsts:
            for name, speaker in zip("12", speakers, strict=True):
                speaker.type("".join(f"{name} {number}\n" for number in range(first, first + SLICE)))
            for name, speaker in zip("12", speakers, strict=True):
                hearers = [node for node in nodes if node is not speaker]
                # They may be a slice behind, so that the kill comes in the middle of the traffic.
                much = first - SLICE
                line = f"\n{name} ".encode()
                await self.until(
                    lambda line=line, hearers=hearers, much=much: all(
                        node.out.count(line) >= much for node in hearers
                    )
                )

    def numbers(self, node: Child, name: str) -> list[int]:
        """The numbers of the lines of the speaker *name* that *node* printed."""
        return [int(line.split()[1]) for line in node.lines if line.split()[0] == name]

    def taken(self, number: int) -> dict[str, int]:
        """How many lines of each speaker the killed node with that number has committed."""
        history = sqlite3.connect(self.directory / f"history{number}")
        try:
            rows = dict(history.execute("SELECT origin, taken FROM stream").fetchall())
        finally:
            history.close()
        origins = {name: Identity.load(self.directory / f"key{name}").origin for name in "12"}
        return {name: rows.get(origin, 0) for name, origin in origins.items()}
