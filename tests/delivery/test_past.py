"""The messages that a node holds, as somebody looks at them."""

from __future__ import annotations

from itertools import islice

from tests.support.meshcase import MeshCase
from twisted_mesh.delivery import backlog


class TestPast(MeshCase):
    def test_messages_of_several_authors_come_by_time_and_are_read_while_they_are_asked_for(self) -> None:
        a, b, c = self.chain(3)
        self.network.advance(1)  # a time of 0 is none
        for number in range(3):
            for node in (a, c):
                self.send(node, number, after=1)
        names = {a.id: "a", c.id: "c"}

        def told() -> list[tuple[str, int]]:
            return [(names[message.sender], message.packets[1]) for message in b.past()]

        self.assertEqual(told(), [(name, number) for number in range(3) for name in "ac"])
        self.patch(backlog, "PAST_BYTES", 2)
        reads: list[object] = []
        node = self.parts_of(b).driver.node
        read = node.read
        self.patch(node, "read", lambda *asked: reads.append(asked) or read(*asked))
        self.assertEqual(len([*islice(b.past(), 2)]), 2)
        self.assertLess(len(reads), 5)
        self.patch(backlog, "MERGED", 1)  # of too many runs, those that began later follow
        self.assertEqual([number for _, number in told()], [0, 1, 2, 0, 1, 2])
