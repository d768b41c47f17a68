"""Three ``twistd mesh`` processes: what is typed at one arrives at the others."""

from __future__ import annotations

from tests.support.processes import Child, ProcessCase

LINES = 1000
NAMES = "abc"


class ThreeNodesTests(ProcessCase):
    async def type_all_at_once(self, nodes: list[Child], links: list[int]) -> None:
        """Type at all nodes, see that it arrives, and end them as a user does."""
        await self.until(lambda: [node.links for node in nodes] == links)
        for name, node in zip(NAMES, nodes, strict=True):
            node.type("".join(f"{name} {number}\n" for number in range(LINES)))
        await self.until(lambda: all(len(node.lines) >= 2 * LINES for node in nodes))
        for node in nodes:
            node.end_input()
        self.assertEqual(await self.until_ended(*nodes), [0, 0, 0])
        for name, node in zip(NAMES, nodes, strict=True):
            # All of standard output is looked at: it is messages and nothing else.
            self.assertEqual(len(node.lines), 2 * LINES)
            for other in NAMES.replace(name, ""):
                got = [line for line in node.lines if line.startswith(other)]
                self.assertEqual(got, [f"{other} {number}" for number in range(LINES)])

    async def test_chain_delivers_a_thousand_lines_of_each_once_and_in_order(self) -> None:
        middle = self.mesh("--no-overlay", "--stdio")
        await self.until_listening(middle)
        ends = [self.mesh("--no-overlay", "--stdio", peers=(middle,)) for _ in range(2)]
        await self.type_all_at_once([ends[0], middle, ends[1]], [1, 2, 1])

    async def test_triangle_delivers_a_thousand_lines_of_each_once_and_in_order(self) -> None:
        first = self.mesh("--stdio")
        await self.until_listening(first)
        second = self.mesh("--stdio", peers=(first,))
        await self.until_listening(second)
        third = self.mesh("--stdio", peers=(second,))  # it finds the first by itself
        await self.type_all_at_once([first, second, third], [2, 2, 2])
