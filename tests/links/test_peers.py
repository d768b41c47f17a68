"""Peers that a node dials again: which ones, and when."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.meshcase import PORT, MeshCase, Raw
from twisted_mesh.addressing.addresses import PeerAddress
from twisted_mesh.addressing.endpoints import ClientEndpoints
from twisted_mesh.config import MeshConfig
from twisted_mesh.errors import ConnectFailed, LocalError, NotRunning, Reason
from twisted_mesh.links.connections import Unlinked
from twisted_mesh.links.cooldown import CoolDown
from twisted_mesh.links.peers import PersistentPeers
from twisted_mesh.links.redial import Redial


class TestBackOff(SynchronousTestCase):
    """The dialler alone; the test decides how each attempt ends."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.attempts: list[float] = []
        self.outcome: list[Deferred] = []
        self.jitter = 0.0

    def dialler(self, **limits: float) -> PersistentPeers:
        config = MeshConfig(**limits)  # type: ignore[arg-type]
        redial = Redial(self.clock, config, CoolDown(self.clock, config), lambda: self.jitter)
        return PersistentPeers(config, self, redial, {})

    def link_to(self, address: PeerAddress) -> Deferred:
        self.attempts.append(self.clock.seconds())
        attempt: Deferred = Deferred()
        self.outcome.append(attempt)
        return attempt

    def fail_for(self, seconds: float) -> list[float]:
        """Fail every attempt at once for so many *seconds*; return the waits between them."""
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            while self.outcome:
                self.outcome.pop().errback(ConnectFailed("no"))
            calls = [call.getTime() for call in self.clock.getDelayedCalls()]
            self.clock.advance(max(1e-6, min(calls) - self.clock.seconds()))
        return [b - a for a, b in zip(self.attempts, self.attempts[1:], strict=False)]

    def test_waits_grow_to_the_longest_and_go_on_for_ever(self) -> None:
        self.dialler().add(PeerAddress("10.0.0.9", 1))
        waits = self.fail_for(3000)
        for shorter, longer in itertools.pairwise(waits):
            self.assertLessEqual(shorter, longer + 1e-6)
        self.assertAlmostEqual(waits[0], 0.75, places=3)
        self.assertAlmostEqual(waits[1] / waits[0], 1.5, places=2)
        self.assertAlmostEqual(waits[-1], 60.0, places=3)
        self.assertGreater(len(waits), 40)

    def test_waits_are_jittered(self) -> None:
        self.jitter = 0.5
        self.dialler().add(PeerAddress("10.0.0.9", 1))
        self.assertAlmostEqual(self.fail_for(10)[0], 1.25, places=3)

    def test_the_configured_waits(self) -> None:
        dialler = self.dialler(redial_initial=2.0, redial_factor=3.0, redial_longest=10.0)
        dialler.add(PeerAddress("10.0.0.9", 1))
        waits = self.fail_for(60)
        self.assertEqual([round(wait, 3) for wait in waits[:4]], [6.0, 10.0, 10.0, 10.0])

    def test_one_attempt_at_a_time_and_none_after_the_stop(self) -> None:
        dialler = self.dialler()
        address = PeerAddress("10.0.0.9", 1)
        dialler.add(address)
        dialler.add(address)
        self.assertEqual((len(self.attempts), len(dialler)), (1, 1))
        unknown: Any = SimpleNamespace(id=b"unknown")
        dialler.unlinked(Unlinked(unknown, Reason.LOST, 1))
        waiting = dialler.outcomes()
        self.assertNoResult(waiting)
        dialler.stop()
        self.assertEqual((len(dialler), self.clock.getDelayedCalls()), (0, []))
        self.successResultOf(waiting)
        dialler.add(address)
        self.outcome.pop().errback(ConnectFailed("no"))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        dialler.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_fault_of_ours_is_logged(self) -> None:
        self.dialler().add(PeerAddress("10.0.0.9", 1))
        self.outcome.pop().errback(ZeroDivisionError("a fault of ours"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class TestPeers(MeshCase):
    def test_a_peer_that_is_not_there_yet(self) -> None:
        a = self.node(peers=["10.0.0.2:4444"])
        self.network.advance(20)
        self.assertGreater(len(self.network.dials), 4)
        self.assertLessEqual(len(self.log("cannot link with 10.0.0.2:4444: connection refused")), 5)
        self.assertIn("; next attempt in ", self.log("cannot link with")[0])
        b = self.node()
        self.network.advance(30)
        self.assertEqual(list(a.routing_table), [b.id])

    def test_a_lost_link_is_dialled_again(self) -> None:
        b = self.node()
        a = self.node(peers=[self.address(b)])
        self.network.pump()
        for _ in range(3):
            self.network.cut(self.host(a), self.host(b))
            self.assertEqual(dict(a.routing_table), {})
            self.network.advance(3)
            self.assertEqual(list(a.routing_table), [b.id])

    def test_a_peer_that_refuses_is_a_failed_attempt(self) -> None:
        self.node(subnet="another")
        self.node(peers=["10.0.0.1:4444"])
        self.network.advance(300)
        times = [when for _, _, when in self.network.dials]
        self.assertLess(len(times), 25)
        self.assertGreater(times[-1] - times[-2], 30)

    def test_no_attempt_while_the_peer_is_linked_by_its_own_dial(self) -> None:
        b = self.node()
        a = self.node(peers=[self.address(b)])
        self.network.pump()
        self.network.cut(self.host(a), self.host(b))
        self.link((b, a))
        dials = len(self.network.dials)
        self.network.advance(100)
        self.assertEqual(len(self.network.dials), dials)

    def test_what_is_forgotten_is_not_dialled_again(self) -> None:
        a, b = self.chain(2)
        self.assertIs(a.stop_dialling(self.host(b), PORT), True)
        self.assertIs(a.stop_dialling(self.host(b), PORT), False)
        self.assertEqual(list(a.routing_table), [b.id])
        a.disconnect(a.routing_table[b.id])
        for _ in range(20):
            self.network.advance(10)
            self.assertEqual(dict(a.routing_table), {})
        self.assertEqual(a.footprint()["dialled_peers"], 0)
        self.link((a, b))
        self.network.cut(self.host(a), self.host(b))
        self.network.advance(3)
        self.assertEqual(list(a.routing_table), [b.id])

    def test_a_peer_can_be_forgotten_whatever_its_id_and_while_it_is_dialled(self) -> None:
        name = "1" * 60
        self.network.connect_takes = 1.0
        a = self.node(peers=["10.0.0.9:4444", f"{name}@10.0.0.9:4444", "10.0.0.8:4444"])
        self.network.advance(0.5)
        self.assertIs(a.stop_dialling("10.0.0.9", 4444), True)
        self.network.advance(30)
        dialled = [host for _, (host, _), _ in self.network.dials]
        self.assertEqual(dialled.count("10.0.0.9"), 2)
        self.assertGreater(dialled.count("10.0.0.8"), 2)
        self.assertEqual(self.log("10.0.0.9"), [])

    def test_what_cannot_be_forgotten(self) -> None:
        a = self.node()
        self.assertRaises(LocalError, a.stop_dialling, "10.0.0.9", 0)
        self.stop(a)
        self.assertRaises(NotRunning, a.stop_dialling, "10.0.0.9", 1)

    def test_disconnect_forbids_dialling_for_as_long_as_the_configuration_says(self) -> None:
        for limits, forbidden in (({}, 60.0), ({"redial_forbidden": 5.0}, 5.0)):
            a, b, c = (self.node(limits=limits) for _ in range(3))
            self.link((a, b), (a, c))
            for neighbour in (b, c):
                a.disconnect(a.routing_table[neighbour.id])
            self.network.advance(forbidden - 0.1)
            self.assertEqual(dict(a.routing_table), {})
            self.network.advance(3)
            self.assertEqual(set(a.routing_table), {b.id, c.id})

    def test_connect_allows_it_again(self) -> None:
        a, b = self.chain(2)
        self.unlink(a, b)
        self.link((a, b))
        self.network.cut(self.host(a), self.host(b))
        dials = len(self.network.dials)
        self.network.advance(70)
        self.assertGreater(len(self.network.dials), dials)
        self.assertEqual(list(a.routing_table), [b.id])

    def test_a_peer_given_as_an_endpoint(self) -> None:
        b = self.node()
        endpoint = self.network.dial_from("10.0.0.2")(self.host(b), PORT)
        a = self.node(peers=[endpoint])
        self.network.pump()
        self.assertEqual(list(a.routing_table), [b.id])

    def test_a_peer_that_accepts_and_hangs_up(self) -> None:
        class Rude(Raw):
            def connectionMade(self) -> None:
                self.close()

        self.serve([Rude() for _ in range(20)])
        a = self.node(peers=["10.9.9.9:4444"])
        self.network.advance(20)
        self.assertLess(len(self.network.dials), 12)
        self.assertEqual(dict(a.routing_table), {})
        self.assertLessEqual(len(self.log()), 12)


class TestEndpoints(MeshCase):
    def test_the_endpoint_for_each_kind_of_address(self) -> None:
        a = self.node()
        endpoints = ClientEndpoints(MemoryReactorClock(), a.config, None)
        lookup = endpoints.lookup()
        for address, kind in (
            (PeerAddress("10.0.0.9", 1), "TCP4ClientEndpoint"),
            (PeerAddress("::1", 1), "TCP6ClientEndpoint"),
            (PeerAddress("mesh.example", 1), "HostnameEndpoint"),
            (PeerAddress(endpoint="tcp:10.0.0.9:1"), "TCP4ClientEndpoint"),
            (PeerAddress(endpoint="tcp:mesh.example:1"), "HostnameEndpoint"),
            (
                PeerAddress(endpoint="tcp:host=mesh.example:port=1:bindAddress=10.0.0.1:timeout=9"),
                "HostnameEndpoint",
            ),
            (PeerAddress(endpoint="unix:/tmp/x"), "UNIXClientEndpoint"),
        ):
            self.assertEqual(type(endpoints.endpoint(address, lookup)).__name__, kind)
        self.assertRaises(LocalError, self.make, peers=["tls:10.0.0.9:1"])
