"""What is sent arrives: everywhere else, once, in order."""

from __future__ import annotations

from tests.support.meshcase import MeshCase
from twisted_mesh.service import MeshService
from twisted_mesh.wire import native


class TestBroadcast(MeshCase):
    def triangle(self) -> list[MeshService]:
        a, b, c = (self.node() for _ in range(3))
        self.link((a, b), (b, c), (c, a))
        return [a, b, c]

    def assert_all_to_all(self, nodes: list[MeshService], count: int) -> None:
        for node in nodes:
            for author in nodes:
                expected = [] if author is node else list(range(count))
                self.assertEqual(self.got(node, author), expected)

    def assert_each_reaches_all(self, nodes: list[MeshService]) -> None:
        """What each sends, some of it in one turn, the others get."""
        for number in range(50):
            for node in nodes:
                node.send(number)
            if number % 7 == 0:
                self.network.pump()
        self.network.pump()
        self.assert_all_to_all(nodes, 50)

    def test_a_chain_delivers_exactly_once_in_order_to_all_but_the_sender(self) -> None:
        self.assert_each_reaches_all(self.chain(4))

    def test_a_triangle_delivers_exactly_once_in_order_to_all_but_the_sender(self) -> None:
        nodes = self.triangle()
        self.network.cuts = True
        self.assert_each_reaches_all(nodes)

    def test_one_turn_is_one_batch(self) -> None:
        node = self.node()
        puppet = self.joined(node)
        for number in range(300):
            node.send(number)
        self.network.pump()
        node.send(300)
        self.network.pump()
        batches = [frame.batch for frame in puppet.frames() if isinstance(frame, native.SignedBatch)]
        self.assertEqual([(one.first, one.count) for one in batches], [(1, 300), (301, 1)])

    def test_what_is_sent_before_any_link_reaches_the_first_peer(self) -> None:
        a, b = self.node(), self.node()
        for number in range(10):
            a.send(number)
            self.network.pump()
        self.link((b, a))
        self.network.pump()
        self.assertEqual(self.got(b), list(range(10)))
