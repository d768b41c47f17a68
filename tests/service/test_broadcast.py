"""Each message arrives at all other nodes, once and in order."""

from __future__ import annotations

import contextlib

from tests.support.length import at_length
from tests.support.meshcase import PORT, TlsCase
from twisted_mesh.service import MeshService
from twisted_mesh.wire.broadcast import SignedBatch


class TestBroadcast(TlsCase):
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
        """Let each of *nodes* send 50 messages, several in one turn; assert that all others get them."""
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
        self.send(node, *range(300))
        self.send(node, 300)
        batches = [frame.batch for frame in puppet.frames() if isinstance(frame, SignedBatch)]
        self.assertEqual([(one.first, one.count) for one in batches], [(1, 300), (301, 1)])

    def test_what_is_sent_before_any_link_reaches_the_first_peer(self) -> None:
        a, b = self.node(), self.node()
        for number in range(10):
            self.send(a, number)
        self.link((b, a))
        self.assertEqual(self.got(b), list(range(10)))

    def test_whoever_joins_through_a_node_that_just_joined_misses_nothing_later(self) -> None:
        a, b = self.chain(2)
        self.send(a, *range(5))
        joined = [a]
        for _ in range(2):
            joined.append(self.node())
            self.link((joined[-1], joined[-2]))
        self.send(a, 5)
        self.assertEqual([self.got(node) for node in joined[1:]], [[5], [5]])
        # It also holds the messages below its base.
        self.assertEqual(joined[-1].footprint()["held_batches"], b.footprint()["held_batches"])

    def test_while_links_come_and_are_closed_politely_nothing_is_lost(self) -> None:
        for seed in range(at_length(20, 5)):
            self.network.random.seed(seed)
            self.network.cuts = True
            nodes = [self.node(encryption="Plaintext") for _ in range(3)]
            a, b, c = nodes
            self.link((a, b), (b, c), (c, a))
            closed, made = [(a, c), (b, a), (c, b)], [(c, a), (a, b), (b, c)]
            for number in range(9):
                nodes[number % 3].send(number)
                if number % 3 == 1:
                    one, other = closed.pop()
                    one.disconnect(one.routing_table[other.id])
                elif number % 3 == 2:
                    one, other = made.pop()
                    one.connect(self.host(other), PORT)
                with contextlib.suppress(RuntimeError):  # more steps are left
                    self.network.pump(self.network.random.randrange(30))
            self.network.advance(5)
            for node in nodes:
                for first, author in enumerate(nodes):
                    expected = [] if author is node else [*range(first, 9, 3)]
                    self.assertEqual(self.got(node, author), expected, seed)
                self.assertEqual(len(node.routing_table), 2)
                node.stopService()
            self.network.pump()
