"""Slow lines: a link lives while bytes flow over it, however long a frame takes."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import LoopingCall

from tests.support.meshcase import PORT, Puppet, Raw, TlsCase, batch
from twisted_mesh.core.handshake import Side
from twisted_mesh.core.membership.keepalive import ALIVE
from twisted_mesh.errors import HandshakeTimeout
from twisted_mesh.memory.transport import MemoryTransport
from twisted_mesh.service import MeshService
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Have, HaveEntry, Snapshot, SnapshotEntry, Want
from twisted_mesh.wire.link import Bye, Pong
from twisted_mesh.wire.membership import Purpose

LIMITS = {"ping_after": 2.0, "dead_after": 6.0}
_STEP = 0.125  # seconds; a power of two, so that rounding makes no second call


class SlowLineCase(TlsCase):
    def setUp(self) -> None:
        super().setUp()
        self._reading: list[LoopingCall] = []
        self.addCleanup(lambda: [call.stop() for call in self._reading])

    def slow(self, end: MemoryTransport, rate: int) -> None:
        """Let *end* read *rate* bytes a second from now on."""
        end.reads = False
        end.chunk = int(rate * _STEP)

        def read() -> None:
            others = len(end.steps())
            end.reads = True
            for arrive in end.steps()[others:]:
                arrive()
            end.reads = False

        call = LoopingCall(read)
        call.clock = self.network.clock
        call.start(_STEP, now=False)
        self._reading.append(call)

    def slowed(self, one: MeshService, other: MeshService, rate: int) -> None:
        """Let both ends of a link read *rate* bytes a second."""
        for end in self.network.between(self.host(one), self.host(other)):
            self.slow(end, rate)

    def drip(self, puppet: Puppet, data: bytes, seconds: int) -> None:
        """Let *puppet* send *data* in equal parts, one a second for so many *seconds*."""
        size = -(-len(data) // seconds)
        for at in range(0, len(data), size):
            puppet.write(data[at : at + size])
            self.network.advance(1)

    def signs(self, puppet: Puppet) -> int:
        """How many signs of life *puppet* has got."""
        return puppet.frames().count(Pong(ALIVE))


class TestLife(SlowLineCase):
    def test_a_frame_a_frame_each_way_and_a_tls_record_may_take_longer_than_dead_after(self) -> None:
        for name, size, authors, rate, seconds in (
            ("a frame", 60_000, 1, 2_000, 35),
            ("a frame each way", 60_000, 2, 2_000, 40),
            ("a record", 30_000, 1, 1_000, 45),  # takes 16 s
        ):
            with self.subTest(name):
                nodes = a, b = self.chain(2, limits=LIMITS, overlay=False)
                self.slowed(a, b, rate)
                for node in nodes[:authors]:
                    node.send("large", b"x" * size)
                    node.send("small")
                self.network.advance(seconds)
                for reader in nodes[2 - authors :]:
                    self.assertEqual(self.got(reader), ["large", "small"])
                self.assertEqual(self.log("silent"), [])

    def test_who_reads_a_long_frame_says_so_within_ping_after(self) -> None:
        for encrypted in (True, False):
            with self.subTest(encrypted=encrypted):
                a = self.node(limits=LIMITS, encryption="SSL" if encrypted else "Plaintext")
                puppet = self.met(a, encrypted=encrypted)
                said = codec.encode(batch(puppet.me, 1, b"x" * 10_000))
                for count in range(1, 6):
                    self.drip(puppet, said[:1000], 2)
                    said = said[1000:]
                    self.assertGreaterEqual(self.signs(puppet), count)
                self.assertEqual(self.got(a), [])

    def test_who_reads_says_so_in_an_exchange_and_before_a_link_is_up(self) -> None:
        for purpose in (Purpose.EXCHANGE, Purpose.JOIN):
            with self.subTest(purpose=purpose):
                a = self.node(limits=LIMITS)
                puppet = self.met(a, purpose=purpose, frontier=purpose is Purpose.EXCHANGE)
                self.drip(puppet, codec.encode(batch(puppet.me, 1, b"x" * 10_000))[:9_000], 9)
                self.assertNotIn(puppet.me.id, a.routing_table)
                self.assertIsNone(puppet.bye)
                self.assertGreaterEqual(self.signs(puppet), 4)

    def test_where_nothing_comes_nobody_says_that_it_lives(self) -> None:
        a = self.node(limits=LIMITS)
        puppet = self.joined(a)
        self.network.advance(5)
        self.assertEqual(self.signs(puppet), 0)

    def test_a_sign_of_life_means_nothing_else(self) -> None:
        a = self.node(limits=LIMITS)
        puppet = self.joined(a)
        for _ in range(20):
            self.send_frames(puppet, Pong(ALIVE), after=1)
        self.assertIsNone(puppet.bye)
        self.assertIn(puppet.me.id, a.routing_table)

    def test_a_peer_that_says_nothing_while_it_takes_nothing_is_dead(self) -> None:
        a, b = self.chain(2, limits=LIMITS, overlay=False)
        for end in self.network.between(self.host(a), self.host(b)):
            end.reads = False
        a.send("large", b"x" * 100_000)
        self.network.advance(7)
        self.assertEqual(len(self.log("silent for")), 2)

    def test_a_gap_is_not_told_while_it_comes(self) -> None:
        a = self.node()
        puppet = self.joined(a)
        first, second = batch(puppet.me, 1, b"x" * 50_000), batch(puppet.me, 2, "second")
        self.send_frames(puppet, second, after=1)
        self.drip(puppet, codec.encode(first), 70)  # gap_patience is 30 s
        self.assertEqual(self.happened(a, "gap"), [])
        self.assertEqual(self.got(a), [b"x" * 50_000, "second"])


class TestArriving(SlowLineCase):
    def test_nobody_else_is_asked_for_what_is_coming(self) -> None:
        for encrypted in (True, False):
            with self.subTest(encrypted=encrypted):
                a = self.node(encryption="SSL" if encrypted else "Plaintext")
                author, other = (self.joined(a, encrypted=encrypted) for _ in range(2))
                said = codec.encode(batch(author.me, 1, b"x" * 50_000))
                self.drip(author, said[:5_000], 3)
                other.send(Have([HaveEntry(author.me.origin, author.me.epoch, 1, 1)], False))
                self.drip(author, said[5_000:], 15)
                self.assertEqual(self.got(a), [b"x" * 50_000])
                self.assertEqual([frame for frame in other.frames() if isinstance(frame, Want)], [])


class TestFrontier(SlowLineCase):
    def long(self) -> bytes:
        """A SNAPSHOT of so many entries that a slow line takes long for it."""
        entries = [SnapshotEntry(bytes([number]) * 32, 1, 1, 1, 0, b"") for number in range(1, 200)]
        return codec.encode(Snapshot(True, entries))

    def test_it_may_take_longer_than_a_handshake(self) -> None:
        a = self.node(limits={"handshake_timeout": 3.0})
        puppet = self.met(a, frontier=False, settled=False)
        self.drip(puppet, self.long(), 20)
        self.assertIn(puppet.me.id, a.routing_table)

    def dialled(self, **options: Any) -> tuple[MeshService, Puppet]:
        """A node with short time-outs, and a peer for it to dial that sends no frontier by itself."""
        puppet = self.puppet(Side.ACCEPTOR, frontier=False, settled=False)
        self.serve([puppet])
        a = self.node(limits={"connect_timeout": 3.0, "handshake_timeout": 3.0}, **options)
        self.network.pump()
        return a, puppet

    def test_nor_has_who_dials_less_patience(self) -> None:
        a, puppet = self.dialled(peers=[f"10.9.9.9:{PORT}"])
        self.drip(puppet, self.long(), 20)
        self.assertIn(puppet.me.id, a.routing_table)
        self.assertEqual(len(self.network.dials), 1)

    def test_who_dials_cuts_off_whoever_drips_it_and_dials_again(self) -> None:
        a, puppet = self.dialled(peers=[f"10.9.9.9:{PORT}"])
        another = self.puppet(Side.ACCEPTOR)
        self.network.ports.clear()
        self.serve([another])
        self.drip(puppet, self.long()[:500], 5)
        self.assertEqual(puppet.bye.reason, "timeout")
        self.network.advance(5)
        self.assertEqual(list(a.routing_table), [another.me.id])

    def test_connect_tells_when_it_said_it_would(self) -> None:
        a, puppet = self.dialled()
        connecting = a.connect("10.9.9.9", PORT)
        self.network.pump()
        self.drip(puppet, self.long()[:7_000], 5)
        self.assertNoResult(connecting)
        error = self.failure_of(connecting, HandshakeTimeout, after=1)
        self.assertIn("was not over after 6.0 s", str(error))
        self.assertEqual(puppet.bye.reason, "timeout")
        self.assertEqual(a.footprint()["connections"], 0)

    def test_a_dial_that_is_cancelled_leaves_no_connection(self) -> None:
        a, puppet = self.dialled(peers=[f"10.9.9.9:{PORT}"])
        self.drip(puppet, self.long()[:9_000], 8)
        self.assertIsNone(puppet.bye)
        self.stop(a)
        self.assertEqual(puppet.bye.reason, "leaving")


class TestTheEnd(SlowLineCase):
    def test_a_frame_in_the_middle_of_which_a_link_is_closed_still_comes(self) -> None:
        for closing in (0, 1):
            with self.subTest(closing=("author", "reader")[closing]):
                nodes = a, b = self.chain(2, overlay=False)
                self.slowed(a, b, 5_000)
                a.send("large", b"x" * 50_000)
                self.network.advance(3)
                ends = self.network.between(self.host(a), self.host(b))
                nodes[closing].disconnect(nodes[closing].routing_table[nodes[not closing].id])
                self.network.advance(5)
                self.assertEqual([end.closed for end in ends], [False, False])
                self.network.advance(5)
                self.assertEqual([end.closed for end in ends], [True, True])
                self.assertEqual(self.got(b), ["large"])

    def test_a_peer_that_does_not_read_is_not_waited_for(self) -> None:
        a, b = self.chain(2, overlay=False)
        a.send("large", b"x" * 50_000)
        self.network.between(self.host(a), self.host(b))[1].reads = False
        self.network.pump()
        self.unlink(a, b, after=2.1)
        self.assertEqual(a.footprint()["connections"], 0)

    def test_a_node_that_stops_does_not_wait_for_it(self) -> None:
        a = self.node()
        puppet = self.joined(a)
        a.disconnect(a.routing_table[puppet.me.id])
        said = codec.encode(batch(puppet.me, 1, b"x" * 10_000))
        self.drip(puppet, said[:1000], 5)
        stopped = a.stopService()
        self.drip(puppet, said[1000:2000], 3)
        self.successResultOf(stopped)
        self.assertEqual(self.log("has not told the end"), [])

    def test_links_at_their_end_count_as_links(self) -> None:
        a = self.node(limits={"links_limit": 1})
        puppet = self.joined(a)
        a.disconnect(a.routing_table[puppet.me.id])
        other = self.met(a)
        self.assertEqual(other.bye.reason, "full")

    def test_and_give_way_to_others_when_they_last(self) -> None:
        # Else a peer that opens many links, closes them, and drips over each, would keep everybody out.
        a = self.node(limits={"links_limit": 1})
        puppet = self.joined(a)
        a.disconnect(a.routing_table[puppet.me.id])
        said = codec.encode(batch(puppet.me, 1, b"x" * 10_000))
        self.drip(puppet, said[:1000], 5)
        other = self.dial(self.puppet(), a)
        self.network.advance(1)
        self.assertIsNone(other.bye)
        self.assertEqual(a.footprint()["connections"], 1)

    def test_a_stranger_has_close_timeout_and_no_more_whatever_its_bye_says(self) -> None:
        for reason in ("order", "room", "duplicate", "key", "done", "disconnect"):
            with self.subTest(reason=reason):
                a = self.node(limits={"links_limit": 1})
                stranger = self.dial(Raw(), a)
                self.network.pump()
                self.network.between("10.9.9.9", self.host(a))[0].reads = False  # nor does it close
                stranger.write(codec.encode(Bye(reason, "")))
                other = self.dial(self.puppet(), a, host="10.9.9.8")
                for connections in (2, 2, 2, 1):  # after each half second
                    stranger.write(b"x")
                    self.network.advance(0.5)
                    self.assertIsNone(other.bye)  # the stranger takes no link's place
                    self.assertEqual(a.footprint()["connections"], connections)
