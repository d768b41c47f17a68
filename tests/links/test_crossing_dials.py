"""Two nodes dial each other at the same time: one link stays, and the application notices no second one."""

from __future__ import annotations

from tests.support.length import at_length
from tests.support.meshcase import PORT, MeshCase
from twisted_mesh.core.handshake import Side
from twisted_mesh.identity import Identity
from twisted_mesh.service import MeshService
from twisted_mesh.wire.broadcast import Snapshot
from twisted_mesh.wire.link import Bye

COUNT = 3


class TestTheWrongOneEndsFirst(MeshCase):
    """A BYE that ends one of two links can come before the other link is up."""

    def setUp(self) -> None:
        super().setUp()
        self.a = self.node()
        # The greater id decides which link must go.
        key = next(key for key in iter(Identity.generate, None) if key.id > self.a.id)
        self.first, self.third = (self.puppet(Side.ACCEPTOR, identity=key) for _ in range(2))
        self.serve([self.first, self.third], host="10.7.7.7")
        self.result_of(self.a.connect("10.7.7.7", PORT))
        # The peer has dialled as well; its SNAPSHOT has not come yet.
        self.second = self.met(self.a, identity=key, frontier=False)
        self.first.send(Bye("duplicate", "another link to this node is kept"))
        self.first.close()
        self.network.pump()

    def names(self) -> list[str]:
        return [name for name, _ in self.events(self.a) if "connect" in name]

    def test_the_node_is_not_gone(self) -> None:
        self.assertEqual(list(self.a.routing_table), [self.second.me.id])
        self.send_frames(self.second, Snapshot(True, []), after=1)
        self.assertFalse(self.a.routing_table[self.second.me.id].outgoing)
        self.assertEqual(self.names(), ["connect"])
        self.assertEqual(self.a.footprint()["lingering_links"], 0)

    def test_it_is_when_the_other_goes_as_well(self) -> None:
        self.second.close()
        self.network.pump()
        self.assertEqual(dict(self.a.routing_table), {})
        self.assertEqual(self.names(), ["connect", "disconnect"])
        self.assertEqual(self.a.footprint()["lingering_links"], 0)

    def test_it_is_when_the_other_never_comes_up(self) -> None:
        self.network.advance(9)
        self.assertEqual(self.names(), ["connect"])
        self.network.advance(4)  # handshake_timeout, and the first wait of a dialler
        self.assertEqual(self.names(), ["connect", "disconnect", "connect"])
        self.assertIsNone(self.a.routing_table[self.third.me.id].error)

    def test_connect_gives_no_link_that_is_closed(self) -> None:
        self.assertIsNotNone(self.a.routing_table[self.second.me.id].error)
        link = self.result_of(self.a.connect("10.7.7.7", PORT))
        self.assertIsNone(link.error)
        self.assertIs(self.a.routing_table[self.third.me.id], link)


class TestCrossingDials(MeshCase):
    def cross(self, seed: int, **options: object) -> tuple[MeshService, MeshService]:
        """Two nodes that have dialled each other; each sent messages before and after that."""
        self.network.random.seed(seed)
        self.network.cuts = True
        a, b = self.node(**options), self.node(**options)
        for number in range(COUNT):
            a.send(number)
            b.send(number)
        one, other = a.connect(self.host(b), PORT), b.connect(self.host(a), PORT)
        self.network.advance(1)
        # Each Deferred fired with a link that was up; that link may have been replaced since.
        self.assertEqual((self.successResultOf(one).id, self.successResultOf(other).id), (b.id, a.id))
        a.send("after")
        self.send(b, "after", after=1)
        return a, b

    def assert_settled(self, seed: int, a: MeshService, b: MeshService) -> None:
        """Assert that one link is left, each node emitted ``connect`` once, and every message came once."""
        self.assertEqual(len(self.network.between(self.host(a), self.host(b))), 2, seed)
        self.assertNotEqual(a.routing_table[b.id].outgoing, b.routing_table[a.id].outgoing)
        for node in (a, b):
            self.assertEqual(self.got(node), [*range(COUNT), "after"], seed)
            names = [name for name, _ in self.events(node) if name != "caught_up"]
            self.assertEqual(names, ["connect"], seed)
            self.assertEqual(node.footprint()["lingering_links"], 0)

    def assert_crossings_settle(self, seeds: int, encryption: str) -> None:
        for seed in range(seeds):
            a, b = self.cross(seed, encryption=encryption)
            self.assert_settled(seed, a, b)
            for node in (a, b):
                node.stopService()
            self.network.pump()

    def test_every_message_arrives_once_and_connect_is_told_once(self) -> None:
        self.assert_crossings_settle(at_length(60, 10), "Plaintext")

    def test_under_tls(self) -> None:
        self.assert_crossings_settle(at_length(12, 3), "SSL")

    def test_two_that_dial_each_other_as_peers_stay_with_one_link(self) -> None:
        a = self.make(peers=["10.0.0.2:4444"])
        b = self.make(peers=["10.0.0.1:4444"])
        a.startService()
        b.startService()
        self.network.advance(30)
        self.assertEqual(len(self.network.between(self.host(a), self.host(b))), 2)
        self.assertEqual(list(a.routing_table), [b.id])
        self.assertEqual(list(b.routing_table), [a.id])
        dials = len(self.network.dials)
        self.network.advance(300)
        self.assertEqual(len(self.network.dials), dials)
