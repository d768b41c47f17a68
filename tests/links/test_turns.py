"""Links take turns: one that floods keeps no other waiting, and nothing of it is lost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.task import Clock

from tests.support.meshcase import MeshCase, Puppet
from twisted_mesh.core.broadcast.inbound import Inbound
from twisted_mesh.core.handshake import Side, Stage
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService
from twisted_mesh.testing import PORT
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.link import Bye, Whisper

COST = 0.0002  # seconds that each message takes
CROWD = "10.9.9.9"
FLOOD = 500  # whispers of one link in a row: 100 ms of work


class TurnClock(Clock):
    """A Clock whose calls of one turn make further calls for the next one, as a reactor's do."""

    def advance(self, amount: float) -> None:
        self.rightNow += amount
        for call in [call for call in self.calls if call.getTime() <= self.rightNow]:
            if call in self.calls:
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


def whisper(*packets: object) -> Whisper:
    """A frame with one message."""
    return Whisper(join_entries((pack_entry(0, packets),)))


class TestTurns(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = self.network.clock = self.mesh.clock = TurnClock()
        self.handled: list[tuple[object, float]] = []  # the packet of each message, and when it was handled
        self.longest = 0.0  # seconds of the longest turn
        self.unread = 0.0  # the longest seconds from one look for bytes to the next
        self.looked = 0.0
        self.cost = COST

    def hub(self, **options: object) -> MeshService:
        """A node at which each message takes ``cost`` seconds."""
        node = self.node(encryption="Plaintext", **options)
        node.register_handler(self.take)
        return node

    def take(self, message: Message, link: MeshProtocol | None) -> bool:
        self.clock.rightNow += self.cost
        self.handled.append((message.packets[1], self.clock.seconds()))
        return True

    def linked_from(self, hub: MeshService, host: str, count: int = 1) -> list[Puppet]:
        """Puppets at *host* that are linked with *hub*."""
        peers = [self.met(hub, host=host, encrypted=False) for _ in range(count)]
        self.assertEqual([peer.me.id in hub.routing_table for peer in peers], [True] * count)
        return peers

    def turn(self) -> None:
        """One turn of the reactor: its calls are made, and each connection is read once."""
        began = self.clock.seconds()
        self.clock.advance(0)
        self.unread = max(self.unread, self.clock.seconds() - self.looked)
        self.looked = self.clock.seconds()
        steps: list[Callable[[], None]] = [end.steps()[-1] for end in self.network.ends if end.steps()]
        for step in steps:
            step()
        self.longest = max(self.longest, self.clock.seconds() - began)
        self.clock.rightNow += COST  # nobody gets all of the time
        self.looked += COST

    def turns(self, seconds: float, *each: Callable[[], None]) -> None:
        """Take turns for *seconds*, and call *each* before every tenth."""
        until, count = self.clock.seconds() + seconds, 0
        while self.clock.seconds() < until:
            if count % 10 == 0:
                for call in each:
                    call()
            count += 1
            self.turn()

    def flood(self, peers: list[Puppet], packet: object = "flood") -> None:
        for peer in peers:
            peer.send(*[whisper(packet)] * FLOOD)

    def ask(self, peer: Puppet) -> None:
        """Let *peer* send a message that tells when it was sent."""
        peer.send(whisper(self.clock.seconds()))

    @property
    def delays(self) -> list[float]:
        """The seconds that each message of :meth:`ask` took, in order of their length."""
        return sorted(at - sent for sent, at in self.handled if isinstance(sent, float))

    def test_links_with_many_frames_do_not_hold_the_reactor(self) -> None:
        self.flood(self.linked_from(self.hub(), CROWD, 30))
        self.turns(2.0)
        self.assertLess(self.longest, 0.03)

    def test_nor_do_frames_that_take_long(self) -> None:
        hub = self.hub()
        flooding, honest = self.linked_from(hub, CROWD), self.linked_from(hub, "10.8.0.1")
        self.cost = 2e-3
        self.flood(flooding)
        self.turns(0.1)  # by now the node knows how long they take
        self.longest = 0.0
        self.turns(0.5, partial(self.ask, *honest))
        self.assertLess(self.longest, 0.012)
        self.assertLess(self.delays[-1], 0.02)

    def test_what_a_host_got_for_bytes_that_waited_counts_when_more_come_in_the_same_turn(self) -> None:
        hub = self.hub()
        (flooding,), (honest,) = self.linked_from(hub, CROWD), self.linked_from(hub, "10.8.0.1")
        self.flood([flooding])
        self.ask(honest)
        self.turns(1.0)
        most = 0
        for _ in range(50):
            flooding.send(*[whisper("more")] * 36)  # 7 ms of work
            self.ask(honest)
            before = len(self.handled)
            self.turn()
            most = max(most, [packet for packet, _ in self.handled[before:]].count("more"))
        self.assertLess(most * COST, 0.0065)  # a slice, and the rest of an event

    def test_nor_do_bytes_that_wait_have_it_twice_before_the_next_look_for_bytes(self) -> None:
        hub = self.hub()
        (flooding,), (honest,) = self.linked_from(hub, CROWD), self.linked_from(hub, "10.8.0.1")
        self.ask(honest)
        self.turns(0.1)
        self.unread = 0.0
        for _ in range(50):
            flooding.send(*[whisper("more")] * 60)  # 12 ms of work
            self.ask(honest)
            self.turn()
        self.assertLess(self.unread, 0.0075)
        self.turns(1.0)
        self.assertEqual([packet for packet, _ in self.handled].count("more"), 50 * 60)

    def test_a_host_that_floods_over_many_links_keeps_no_other_host_waiting(self) -> None:
        hub = self.hub()
        crowd, (honest,) = self.linked_from(hub, CROWD, 30), self.linked_from(hub, "10.8.0.1")
        self.flood(crowd)
        self.turns(3.0, partial(self.ask, honest))
        self.assertGreater(len(self.delays), 30)
        self.assertLess(self.delays[-1], 0.02)
        self.assertIsNone(honest.lost)
        self.assertEqual([peer.lost for peer in crowd], [None] * 30)

    def test_nor_does_one_link_keep_the_others_of_its_own_host_waiting(self) -> None:
        hub = self.hub()
        (crowd, *honest) = self.linked_from(hub, "127.0.0.1", 6)
        self.flood([crowd] * 20)
        self.turns(2.0, *(partial(self.ask, peer) for peer in honest))
        self.assertGreater(len(self.delays), 100)
        self.assertLess(self.delays[-1], 0.02)

    def test_nor_do_many_a_link_that_wants_more_than_its_share(self) -> None:
        hub = self.hub()
        *crowd, honest = self.linked_from(hub, "127.0.0.1", 31)
        self.flood(crowd)
        for _ in range(200):
            for _ in range(5):  # a millisecond in each turn
                self.ask(honest)
            self.turn()
        self.assertGreater(len(self.delays), 900)
        self.assertLess(self.delays[-1], 0.03)

    def test_nor_do_many_with_few_frames_one_that_has_many(self) -> None:
        hub = self.hub()
        *crowd, busy = self.linked_from(hub, "127.0.0.1", 41)
        self.flood([busy], "busy")
        for _ in range(200):
            for peer in crowd:
                self.ask(peer)
            self.turn()
        self.assertGreater([packet for packet, _ in self.handled].count("busy"), 200)

    def test_nor_do_some_whose_bytes_are_always_fewer(self) -> None:
        hub = self.hub()
        *crowd, busy = self.linked_from(hub, CROWD, 5)
        self.flood([busy] * 4, "busy")
        few = [whisper("few")] * (FLOOD // 4)
        self.turns(1.0, *(partial(peer.send, *few) for peer in crowd))
        self.assertGreater([packet for packet, _ in self.handled].count("busy"), 400)

    def test_hosts_that_wait_share_the_time_however_many_links_each_has(self) -> None:
        hub = self.hub()
        crowd, few = self.linked_from(hub, CROWD, 12), self.linked_from(hub, "10.8.0.1")
        self.flood(crowd, "crowd")
        self.flood(few * 12, "few")
        self.turns(1.0)
        of = [packet for packet, _ in self.handled]
        self.assertLess(abs(of.count("few") / of.count("crowd") - 1), 0.1)

    def test_a_host_that_was_busy_alone_does_not_wait_until_others_got_as_much(self) -> None:
        hub = self.hub()
        crowd, (busy, honest) = self.linked_from(hub, CROWD, 3), self.linked_from(hub, "10.8.0.1", 2)
        self.flood([busy] * 6)
        self.turns(0.4)
        self.flood(crowd)
        self.ask(honest)
        self.turns(0.05)
        self.assertGreater(hub.footprint()["waiting_links"], 2)
        self.assertEqual(len(self.delays), 1)

    def test_all_is_handled_in_order_though_the_connection_ends_meanwhile(self) -> None:
        for encrypted in (False, True):
            hub = self.node(encryption="SSL" if encrypted else "Plaintext")
            hub.register_handler(self.take)
            peer = self.met(hub, host="10.8.0.1", encrypted=encrypted)
            self.handled.clear()
            peer.send(*(whisper(number) for number in range(1000)), Bye("leaving", ""))
            peer.close()
            self.turns(1.0)
            self.assertEqual([packet for packet, _ in self.handled], list(range(1000)))
            self.assertEqual(hub.footprint()["connections"], 0)

    def test_a_link_that_is_closed_while_its_bytes_wait_leaves_nothing(self) -> None:
        hub = self.hub()
        crowd = self.linked_from(hub, CROWD, 10)
        self.flood(crowd)
        for _ in range(5):
            self.turn()
        self.assertGreater(hub.footprint()["waiting_links"], 5)
        self.assertGreater(hub.footprint()["half_frames_bytes"], 0)
        for peer in crowd[:5]:
            hub.disconnect(hub.routing_table[peer.me.id])
        for peer in crowd[5:]:
            peer.write(codec.encode(whisper("last")) + b"\xff\xff\xff\xff")
        self.turns(3.0)
        self.assertEqual(len(hub.routing_table), 0)
        self.assertEqual({peer.bye.reason for peer in crowd[5:] if peer.bye}, {"framing"})
        footprint = hub.footprint()
        self.assertEqual((footprint["waiting_links"], footprint["half_frames_bytes"]), (0, 0))

    def test_a_node_that_stops_handles_what_waits_though_its_peers_are_gone(self) -> None:
        hub = self.node()
        hub.register_handler(self.take)
        crowd = [self.met(hub, host=CROWD) for _ in range(3)]
        self.flood(crowd)
        for peer in crowd:
            peer.close()
        for _ in range(5):
            self.turn()
        self.assertGreater(hub.footprint()["waiting_links"], 1)
        stopped = hub.stopService()
        self.turns(5.0)
        self.successResultOf(stopped)
        self.assertEqual(len(self.handled), 3 * FLOOD)

    def test_a_fault_of_ours_ends_the_link_whose_turn_it_is_and_no_other(self) -> None:
        hub = self.hub()
        crowd = self.linked_from(hub, CROWD, 3)
        self.flood(crowd)
        while hub.footprint()["waiting_links"] < 3:
            self.turn()
        self.fail_once(Inbound, "whisper")
        self.assertRaises(ZeroDivisionError, self.turn)
        self.turns(1.0)
        self.assertEqual(sum(peer.lost is None for peer in crowd), 2)
        self.assertEqual(hub.footprint()["waiting_links"], 0)

    def test_a_refusal_is_read_though_its_connection_ends_before_its_turn(self) -> None:
        hub = self.node()
        hub.register_handler(self.take)
        crowd = [self.met(hub, host=CROWD) for _ in range(3)]
        refuser = self.puppet(Side.ACCEPTOR)

        refuser.twist = {Stage.INTRO: lambda _: codec.encode(Bye("full", "no room"))}
        self.serve([refuser], host=CROWD)
        connecting = hub.connect(CROWD, PORT)
        self.flood(crowd)
        while refuser.handshake.stage is not Stage.PROOF:
            self.turn()
        for _ in range(2):
            self.turn()
        self.network.cut(self.host(hub), CROWD)
        self.assertIn("no room", str(self.failureResultOf(connecting).value))

    def test_the_time_for_which_bytes_wait_counts_for_no_silence(self) -> None:
        hub = self.hub(limits={"dead_after": 0.06, "ping_after": 0.02})
        crowd = self.linked_from(hub, CROWD, 30)
        self.flood(crowd)
        self.turns(0.5)
        self.assertGreater(hub.footprint()["waiting_links"], 20)
        self.assertEqual([peer.lost for peer in crowd], [None] * 30)
