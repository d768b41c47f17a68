"""The messages that a node holds, as somebody looks at them."""

from __future__ import annotations

from itertools import islice

from tests.support.meshcase import MeshCase
from twisted_mesh.delivery import backlog


class TestPast(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b, self.c = self.chain(3)
        self.network.advance(1)  # a time of 0 is none
        for number in range(3):
            for node in (self.a, self.c):
                self.send(node, number, after=1)

    def told(self) -> list[tuple[str, int]]:
        """Author and text of each message."""
        names = {self.a.id: "a", self.c.id: "c"}
        return [(names[message.sender], message.packets[1]) for message in self.b.past()]

    def test_messages_of_several_authors_come_by_the_times_of_sending(self) -> None:
        self.assertEqual(self.told(), [(name, number) for number in range(3) for name in "ac"])

    def test_of_too_many_runs_those_that_began_later_follow(self) -> None:
        self.patch(backlog, "MERGED", 1)
        self.assertEqual(sorted(self.told()), [(name, number) for name in "ac" for number in range(3)])
        self.assertEqual([number for _, number in self.told()], [0, 1, 2, 0, 1, 2])

    def test_they_are_read_while_they_are_asked_for(self) -> None:
        self.patch(backlog, "PAST_BYTES", 2)
        reads: list[object] = []
        node = self.b._running().driver.node
        read = node.read
        self.patch(node, "read", lambda *asked: reads.append(asked) or read(*asked))
        self.assertEqual(len([*islice(self.b.past(), 2)]), 2)
        self.assertLess(len(reads), 5)
