"""Links that the overlay makes from one address, and links that it leaves alone."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.delivery.test_members import presence
from tests.support.length import at_length, only_at_length
from tests.support.meshcase import PORT, MeshCase
from twisted_mesh.addressing.addresses import PeerAddress
from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.errors import NotHandedOver, Reason
from twisted_mesh.identity import Identity
from twisted_mesh.links.connections import Unlinked
from twisted_mesh.links.cooldown import CoolDown
from twisted_mesh.links.peers import PersistentPeers
from twisted_mesh.links.redial import Redial
from twisted_mesh.service import MeshService
from twisted_mesh.wire.link import Ping
from twisted_mesh.wire.membership import Contact, Purpose, Roster, Shuffle


class OverlayCase(MeshCase):
    def node(self, **options: Any) -> MeshService:
        return super().node(**{"overlay": True, **options})

    def bootstrapped(self, count: int, **options: Any) -> list[MeshService]:
        """Nodes that all know the address of the first one."""
        first = self.node(**options)
        return [first, *(self.node(peers=[self.address(first)], **options) for _ in range(count - 1))]

    def neighbours(self, service: MeshService) -> set[bytes]:
        """The ids of its routing table."""
        return set(service.routing_table)

    def dials(self, source: MeshService, target: MeshService) -> list[float]:
        """The times at which *source* dialled *target*."""
        hosts = self.host(source), (self.host(target), PORT)
        return [when for from_, to, when in self.network.dials if (from_, to) == hosts]

    def dial_for(self, service: MeshService, contact: Contact, purpose: Purpose) -> None:
        """Let the core of *service* ask for a link with *contact*."""
        self.parts_of(service)._connector.dial(events.Dial(contact, purpose))
        self.network.pump()

    def contact(self, service: MeshService) -> Contact:
        """The id and the address of a service."""
        return Contact(service.id, self.host(service), PORT)

    def exchanges(self, service: MeshService) -> list[Any]:
        """The links of *service* that are exchanges."""
        return [link for link in self.parts_of(service).connections if link.is_exchange]


class TestForming(OverlayCase):
    def test_more_become_one_mesh_in_which_nobody_has_too_many(self) -> None:
        count = at_length(14, 7)
        nodes = self.bootstrapped(count)
        self.network.advance(20)
        for node in nodes:
            self.assertEqual(len(node.members), count - 1)
            self.assertTrue(3 <= len(node.routing_table) <= 7, len(node.routing_table))
        for number, node in enumerate(nodes):
            node.send(number)
        self.network.advance(2)
        for number, node in enumerate(nodes):
            self.assertEqual(sorted(self.got(node)), [n for n in range(count) if n != number])

    def test_one_that_nobody_can_dial_gets_neighbours_as_well(self) -> None:
        nodes = self.bootstrapped(4)
        hidden = self.node(listen=(), peers=[self.address(nodes[0])])
        self.network.advance(10)
        self.assertEqual(self.neighbours(hidden), {node.id for node in nodes})
        self.assertIsNone(nodes[0].members[hidden.id].address)

    def test_the_first_may_die_and_others_find_the_mesh_through_any(self) -> None:
        nodes = self.bootstrapped(5)
        self.network.advance(5)
        self.stop(nodes[0])
        late = self.node(peers=[self.address(nodes[3])])
        self.network.advance(10)
        self.assertEqual(self.neighbours(late), {node.id for node in nodes[1:]})
        self.send(nodes[1], "still here", after=1)
        self.assertEqual(self.got(late), ["still here"])

    def test_what_it_does_is_logged_from_level_two_on(self) -> None:
        first, second, third = (self.node(debug_level=level) for level in (1, 1, 2))
        self.link((second, first), (third, first), after=5)
        self.assertIn(second.id, third.routing_table)
        lines = self.log("dials ")
        self.assertTrue(all(line.startswith("dials 10.0.0.") for line in lines), lines)
        self.assertEqual(
            len(lines), sum(source == self.host(third) for source, _, _ in self.network.dials) - 1
        )


class TestNoOverlay(OverlayCase):
    def test_it_has_the_links_that_are_made_and_no_others(self) -> None:
        nodes = [self.node(overlay=False) for _ in range(5)]
        self.link(*itertools.pairwise(nodes), after=at_length(300, 100))
        self.assertEqual([len(node.routing_table) for node in nodes], [1, 2, 2, 2, 1])
        self.assertTrue(all(len(node.members) == 4 for node in nodes))

    def test_it_visits_others_all_the_same(self) -> None:
        a, b, c = self.chain(3, overlay=False, after=200)
        self.assertTrue(self.dials(a, c) or self.dials(c, a))
        self.assertEqual((self.exchanges(a), self.neighbours(a)), ([], {b.id}))


class TestPassedOn(OverlayCase):
    """A configured peer that has no room for this node."""

    def passed_on(self, *, others: bool) -> tuple[MeshService, MeshService, MeshService]:
        """A node, its configured peer that has sent it away, and a third, linked with it if *others*."""
        there, other = self.node(overlay=False), self.node(overlay=False)
        node = self.node(overlay=False, peers=[self.address(there)])
        self.network.pump()
        if others:
            self.link((other, node))
        self.send_away(there, node)
        return node, there, other

    def send_away(self, there: MeshService, node: MeshService) -> None:
        """Let *there* close its link with *node* for want of room, as an overlay does."""
        close = events.Close(there.routing_table[node.id].number, events.Reason.ROOM, "no room")
        self.parts_of(there).driver._carry_out(close)
        self.network.pump()

    def test_while_there_are_others_it_is_visited_and_no_more(self) -> None:
        node, there, other = self.passed_on(others=True)
        began = self.network.clock.seconds()
        self.assertEqual(self.neighbours(node), {other.id})
        before = len(self.dials(node, there))
        # Some dials are for ordinary exchanges: there must be more dials than those.
        self.network.advance(at_length(1000, 300))
        times = [when - began for when in self.dials(node, there)[before:]]
        self.assertTrue(times)
        self.assertEqual(self.neighbours(node), {other.id})

    def test_without_any_it_is_dialled_at_once(self) -> None:
        node, there, _ = self.passed_on(others=False)
        self.network.advance(2)
        self.assertEqual(self.neighbours(node), {there.id})

    def test_and_when_the_others_go(self) -> None:
        node, there, other = self.passed_on(others=True)
        self.network.advance(20)
        self.stop(other)
        self.assertEqual(self.neighbours(node), {there.id})

    def test_what_the_overlay_does_with_many_stays_done(self) -> None:
        only_at_length()
        nodes = self.bootstrapped(16, limits={"peer_interval": 40.0})
        self.network.advance(30)
        first = nodes[0]
        self.assertLessEqual(len(first.routing_table), 8)
        away = [node for node in nodes[1:] if first.id not in node.routing_table]
        self.assertGreater(len(away), 5)
        before = {node.id: len(self.dials(node, first)) for node in away}
        self.network.advance(60)
        self.assertLessEqual(len(first.routing_table), 8)
        # One that has become a neighbour meanwhile needs no visit.
        away = [node for node in away if first.id not in node.routing_table]
        self.assertGreater(len(away), 5)
        self.assertTrue(all(len(self.dials(node, first)) > before[node.id] for node in away))


class TestTargets(SynchronousTestCase):
    """The dialler alone: when it dials a peer that had no room for this node, and for what."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.attempts: list[tuple[str, float]] = []
        self.table = {b"other": None}
        self.outcome: list[Deferred[Any]] = []
        config = MeshConfig(peer_interval=100.0)
        self.away = CoolDown(self.clock, config)
        redial = Redial(self.clock, config, self.away, lambda: 0.5)
        self.dialler = PersistentPeers(config, self, redial, self.table)
        self.dialler.add(PeerAddress("10.0.0.9", 1), b"node")

    def link_to(self, address: PeerAddress) -> Deferred[Any]:
        return self.attempt("link")

    def exchange_with(self, address: PeerAddress) -> Deferred[Any]:
        return self.attempt("visit")

    def attempt(self, kind: str) -> Deferred[Any]:
        self.attempts.append((kind, self.clock.seconds()))
        self.outcome.append(Deferred())
        return self.outcome[-1]

    class Visit:
        is_exchange = True
        id = b"node"

    def lost(self, node_id: bytes = b"node", passed_on: bool = False, left: int = 1) -> None:
        link: Any = self.Visit()
        link.id = node_id
        self.dialler.unlinked(Unlinked(link, Reason.ROOM if passed_on else Reason.LOST, left))

    def test_it_is_visited_again_and_again(self) -> None:
        self.lost(passed_on=True)
        for _ in range(3):
            self.clock.advance(100.0)
            self.outcome.pop().callback(self.Visit())
        self.assertEqual(self.attempts, [("visit", 100.0), ("visit", 200.0), ("visit", 300.0)])

    def test_a_visit_that_fails_is_one_as_well(self) -> None:
        self.lost(passed_on=True)
        self.clock.advance(100.0)
        self.outcome.pop().errback(NotHandedOver("nobody there"))
        self.clock.advance(99.0)
        self.assertEqual(len(self.attempts), 1)
        self.clock.advance(1.0)
        self.assertEqual(self.attempts[1:], [("visit", 200.0)])

    def test_when_no_link_is_left_it_is_dialled_at_once(self) -> None:
        self.lost(passed_on=True)
        self.clock.advance(10.0)
        self.lost(b"other", left=0)
        self.clock.advance(1.0)
        self.assertEqual(self.attempts, [("link", 11.0)])

    def test_also_in_the_middle_of_a_visit(self) -> None:
        self.lost(passed_on=True)
        self.clock.advance(100.0)
        self.lost(b"other", left=0)
        self.outcome.pop().callback(self.Visit())
        self.clock.advance(1.0)
        self.assertEqual(self.attempts, [("visit", 100.0), ("link", 101.0)])

    def test_a_link_that_is_lost_later_is_made_again(self) -> None:
        self.lost(passed_on=True)
        self.clock.advance(100.0)
        self.table[b"node"] = None
        self.outcome.pop().callback(self.Visit())  # the exchange became a link
        self.clock.advance(100.0)
        self.assertEqual(len(self.attempts), 1)
        del self.table[b"node"]
        self.lost(passed_on=False)
        self.clock.advance(1.0)
        self.assertEqual(self.attempts[1:], [("link", 201.0)])

    def test_another_node_there_is_the_one_that_counts(self) -> None:
        self.lost(passed_on=True)
        self.clock.advance(100.0)
        visit = self.Visit()
        visit.id = b"new"
        self.outcome.pop().callback(visit)
        self.assertEqual(self.dialler.found_at(PeerAddress("10.0.0.9", 1)), b"new")

    def test_not_while_the_application_forbids_it(self) -> None:
        self.clock.advance(1.0)
        self.away.add(b"node")
        self.lost(passed_on=False)
        self.clock.advance(59.9)
        self.assertEqual(self.attempts, [])
        self.clock.advance(0.1)
        self.assertEqual(self.attempts, [("link", 61.0)])


class TestDisconnecting(OverlayCase):
    def test_the_overlay_leaves_it_alone_for_a_minute_at_both_ends(self) -> None:
        a, b, c = self.bootstrapped(3)
        self.network.advance(5)
        b.disconnect(b.routing_table[c.id])
        for _ in range(58):
            self.network.advance(1)
            self.assertEqual((self.neighbours(b), self.neighbours(c)), ({a.id}, {a.id}))
        self.network.advance(120)
        self.assertEqual((self.neighbours(b), self.neighbours(c)), ({a.id, c.id}, {a.id, b.id}))

    def test_what_the_core_wants_of_it_is_told_to_fail(self) -> None:
        a, b = self.chain(2)
        self.unlink(a, b)
        dials = len(self.network.dials)
        for purpose in Purpose:
            self.dial_for(a, self.contact(b), purpose)
        self.assertEqual(len(self.network.dials), dials)

    def test_its_application_may_link_and_its_overlay_may_not(self) -> None:
        for purpose, refused in (
            (Purpose.NEIGHBOUR, True),
            (Purpose.URGENT, True),
            (Purpose.JOIN, False),
            (Purpose.EXCHANGE, False),
        ):
            a = self.node(overlay=False)
            puppet = self.joined(a, identity=(key := Identity.generate()))
            self.unlink(a, puppet.me, after=3)
            again = self.met(a, identity=key, purpose=purpose)
            self.assertEqual(again.bye is not None and again.bye.reason == "room", refused, purpose)
            self.assertEqual(self.reasons(a), [])


class TestVisits(OverlayCase):
    def visited(self, *, linked: bool = False, **options: Any) -> tuple[MeshService, MeshService]:
        """Two nodes with an exchange between them; if *linked*, each has another neighbour."""
        one, two = (self.node(overlay=False, debug_level=2, **options) for _ in range(2))
        for node in (one, two) if linked else ():
            self.link((node, self.node(overlay=False)))
        self.dial_for(one, self.contact(two), Purpose.EXCHANGE)
        return one, two

    def test_it_is_in_no_table_and_tells_what_there_is(self) -> None:
        one, two = self.visited(linked=True)
        for node, other in ((one, two), (two, one)):
            self.assertEqual(len(self.exchanges(node)), 1)
            self.assertNotIn(other.id, node.routing_table)
            self.assertEqual(self.parts_of(node).connections.awaiting(), [])
            self.assertEqual(self.events(node), [("connect", node)])
            self.assertEqual(len(node.members), 3)
        self.network.advance(5)
        self.assertEqual((self.exchanges(one), len(self.network.ends)), ([], 4))
        self.assertEqual(self.log("refused"), [])
        begun, ended = self.log("exchange with"), self.log("ended: ")
        self.assertEqual((len(begun), len(ended)), (4, 2))

    def test_it_is_no_neighbour_that_can_take_what_is_sent(self) -> None:
        one, two = self.visited()
        one.send("while it is here")
        self.failure_of(one.handed_over(1.0), NotHandedOver, after=1.1)
        self.assertEqual(self.got(two), [])
        self.assertNoResult(one.joined().addErrback(lambda _: None))

    def test_what_was_missing_is_brought(self) -> None:
        one, two = (self.node(overlay=False) for _ in range(2))
        for node in (one, two):
            self.link((node, self.node(overlay=False)))
        self.send(one, *range(3), after=1)
        self.dial_for(two, self.contact(one), Purpose.EXCHANGE)
        self.network.advance(5)
        self.assertEqual(self.exchanges(one), [])
        for node in (two, self.services[-1]):
            self.assertEqual(self.got(node), [0, 1, 2])

    def test_between_overlays_that_do_not_know_each_other_it_becomes_a_link(self) -> None:
        one, two = self.node(), self.node()
        self.dial_for(one, self.contact(two), Purpose.EXCHANGE)
        self.assertEqual((self.neighbours(one), self.neighbours(two)), ({two.id}, {one.id}))
        self.assertEqual(self.happened(one, "connect"), [one])
        self.successResultOf(one.joined())
        self.network.advance(100)
        self.assertEqual(self.neighbours(one), {two.id})

    def test_those_of_others_are_bounded(self) -> None:
        a = self.node(overlay=False, limits={"exchanges_limit": 3})
        puppets = [self.met(a, purpose=Purpose.EXCHANGE) for _ in range(6)]
        told = [puppet.bye and puppet.bye.reason for puppet in puppets]
        self.assertEqual(told, [None] * 3 + ["room"] * 3)
        self.assertEqual((a.footprint()["exchange_links"], len(a.routing_table)), (3, 0))
        self.network.advance(70)
        self.assertEqual({puppet.bye and puppet.bye.reason for puppet in puppets}, {"room", "done"})
        self.assertEqual(a.footprint()["connections"], 0)

    def test_links_and_visits_have_one_limit(self) -> None:
        a = self.node(overlay=False, limits={"links_limit": 2})
        self.joined(a)
        for reason in (None, "full"):
            puppet = self.met(a, purpose=Purpose.EXCHANGE)
            self.assertEqual(puppet.bye and puppet.bye.reason, reason)

    def test_one_that_never_begins_is_closed_in_time(self) -> None:
        a = self.node(overlay=False)
        puppet = self.met(a, frontier=False, purpose=Purpose.EXCHANGE)
        self.network.advance(9)
        self.assertIsNone(puppet.bye)
        self.assertEqual(self.parts_of(a).connections.awaiting(), [])
        self.network.advance(4)
        self.assertEqual(puppet.bye.reason, "timeout")  # type: ignore[union-attr]

    def test_connect_does_not_wait_for_one(self) -> None:
        one, two = self.visited()
        self.assertEqual(self.result_of(one.connect(self.host(two), PORT)).id, two.id)

    def test_a_stop_in_the_middle_leaves_nothing(self) -> None:
        one, two = self.visited()
        one.send("unsent")
        self.stop(one)
        self.stop(two)
        self.assertEqual(self.network.ends, [])

    def test_a_stop_in_the_middle_of_a_dial_leaves_nothing(self) -> None:
        one, two = self.node(), self.node()
        self.stop(two)
        self.network.connect_takes = 100.0
        self.dial_for(one, self.contact(two), Purpose.URGENT)
        self.stop(one)
        self.assertEqual((self.network.ends, self.log("failed")), ([], []))
        self.assertEqual(self.network.clock.getDelayedCalls(), [])


class TestToldAddresses(OverlayCase):
    def told(self, host: str, source: str) -> list[tuple[str, int]]:
        """The targets that nodes dial if a peer at *source* tells them the address *host*.

        One node is told by a SHUFFLE, and another by a record.
        """
        dialled = []
        for in_shuffle in (True, False):
            node = self.node()
            puppet = self.met(node, host=source)
            contact, author = Contact(Identity.generate().id, host, 7777), self.puppet().me
            told = Shuffle(1, [contact], 0) if in_shuffle else presence(author, address=(host, 8888))
            puppet.send(Roster(True, [], 0))
            self.send_frames(puppet, told, after=3)
            dialled += [
                target
                for source, target, _ in self.network.dials
                if source == self.host(node) and target[1] != PORT
            ]
            self.assertIsNone(puppet.lost)
            self.stop(node)
        return dialled

    def test_loopback_and_local_ones_are_believed_where_they_can_be_meant(self) -> None:
        far, here = "10.9.9.9", "127.0.0.1"
        self.assertEqual(self.told("10.1.1.1", far), [("10.1.1.1", 7777), ("10.1.1.1", 8888)])
        for host in (
            "127.0.0.1",
            "localhost",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "0.0.0.0",
            "224.0.0.1",
            "a b",
        ):
            self.assertEqual(self.told(host, far), [], host)
        self.assertEqual(self.told("127.0.0.1", here), [("127.0.0.1", 7777), ("127.0.0.1", 8888)])

    def test_what_is_told_is_dialled_at_a_bounded_rate(self) -> None:
        node = self.node()
        for number in range(6):
            puppet = self.joined(node)
            puppet.send(Roster(True, [], 0))
            for at in range(50):
                contact = Contact(Identity.generate().id, f"10.{number}.{at}.1", 9)
                puppet.send(Shuffle(at, [contact], 0))
        self.network.advance(60)
        dials = [target for source, target, _ in self.network.dials if source == self.host(node)]
        self.assertLess(len(dials), 10 + 2 * 60)
        self.assertLessEqual(node.footprint()["passive_view"], 30)


class TestTheBook(OverlayCase):
    """With an overlay, the nodes of the address book: neighbours of earlier runs."""

    def test_they_are_dialled_at_once_and_for_ever(self) -> None:
        others = [self.node() for _ in range(3)]
        node = self.known("key")
        self.link(*((node, other) for other in others))
        for service in (node, *others):
            self.stop(service)
        again = self.known("key")
        self.network.advance(1000)
        self.assertEqual(self.neighbours(again), set())
        tried = {target for source, target, when in self.network.dials if source == self.host(again)}
        self.assertEqual(tried, {(self.host(other), PORT) for other in others})
        others[1].startService()
        self.network.advance(150)
        self.assertEqual(self.neighbours(again), {others[1].id})

    def test_at_the_start_nobody_has_to_wait(self) -> None:
        node, other = self.linked(self.known("key"), self.node())
        self.stop(node)
        again = self.known("key")
        self.network.advance(1)
        self.assertEqual(self.neighbours(again), {other.id})

    def test_one_way_of_dialling_them(self) -> None:
        node, other = self.linked(self.known("key"), self.node())
        self.stop(node)
        self.stop(other)
        again = self.known("key")
        self.network.advance(600)
        times = self.dials(again, other)
        self.assertLess(len(times), 12)  # after a failed dial the address is left alone for a minute

    def test_an_id_that_nobody_could_read_is_told_to_nobody(self) -> None:
        other = self.node()
        (self.folder / "key.peers").write_text(
            f"{'2' * 70}@10.0.0.77:4444\n{other.id.decode()}@{self.address(other)}\n"
        )
        node = self.known("key")
        self.network.advance(2)
        self.assertEqual(self.neighbours(node), {other.id})
        self.assertEqual([at for _, at, _ in self.network.dials if at[0] == "10.0.0.77"], [])


class TestOrder(OverlayCase):
    def test_a_word_between_overlays_before_the_frontier_closes_the_link(self) -> None:
        a = self.node()
        puppet = self.met(a, frontier=False)
        self.send_frames(puppet, Shuffle(1, [], 0), Ping(1), after=3)
        self.assertEqual(puppet.bye.reason, "order")  # type: ignore[union-attr]
