"""A peer that reads slowly or not at all delays nobody, is told what it missed, and pulls that later."""

from __future__ import annotations

from typing import Any

from tests.support.meshcase import BIG, MIB, PORT, MeshCase, Puppet
from twisted_mesh.core.handshake import Stage
from twisted_mesh.core.signing import Signer
from twisted_mesh.errors import Congested, Unreachable
from twisted_mesh.memory.transport import BUFFER, MemoryTransport
from twisted_mesh.service import MeshService
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Have, SignedBatch, Want
from twisted_mesh.wire.membership import Presence, Roster, RosterEntry

LIMIT = 2 * MIB
SLOW_LINE = "the peer reads too slowly for what is sent [slow]"


class SlowCase(MeshCase):
    def stuck(self, near: MeshService, far: MeshService) -> MemoryTransport:
        """The end at *far* of the link between them, which reads nothing from now on."""
        end = self.network.between(self.host(near), self.host(far))[1]
        end.reads = False
        return end

    def stuck_puppet(self, near: MeshService) -> MemoryTransport:
        """The end of a scripted peer that is linked with *near*, which reads nothing from now on."""
        end = self.network.between("10.9.9.9", self.host(near))[0]
        end.reads = False
        return end

    def say(self, author: MeshService, count: int, *to: MeshService) -> None:
        """Send big messages one by one, and assert that each arrives at all of *to* at once."""
        for number in range(count):
            author.send(number, BIG)
            self.network.pump()
            for node in to:
                self.assertEqual(self.got(node), list(range(number + 1)))

    def assert_has_all(self, node: MeshService, count: int) -> None:
        """Assert that *node* got all *count* messages, once and in order, and emitted only connect."""
        self.assertEqual(self.got(node), list(range(count)))
        names = [name for name, _ in self.events(node) if name != "caught_up"]
        self.assertEqual(names, ["connect"])


class TestSlowNewcomer(SlowCase):
    def test_a_full_roster_does_not_close_its_link(self) -> None:
        # Answers and messages are small here, so a link may leave little more than 2 MiB unread.
        a = self.node(
            encryption="Plaintext", limits={"link_queue_bytes": 1, "answer_bytes": 1, "authors_burst": 2000}
        )
        teller = self.joined(a, encrypted=False, roster=False)
        for _ in range(1400):
            teller.send(Roster(False, [self.record()], 0))
        self.network.pump()
        self.assertEqual(len(a.members), 1400)
        slow = self.puppet(encrypted=False)

        def prove_and_read_no_more(proof: bytes) -> bytes:
            slow.transport.reads = False
            return proof

        slow.twist = {Stage.INTRO: prove_and_read_no_more}
        self.dial(slow, a, encrypted=False)
        self.network.advance(3)
        self.assertIsNone(slow.lost)
        self.assertLess(a.footprint()["queued_bytes"], MIB)
        slow.transport.reads = True  # type: ignore[union-attr]
        self.network.pump()
        rosters = [frame for frame in slow.frames() if isinstance(frame, Roster)]
        self.assertGreaterEqual(sum(len(frame.entries) for frame in rosters), 1400)
        self.assertEqual(rosters[-1].last, True)
        self.assertIsNone(slow.lost)

    def record(self) -> RosterEntry:
        """A record of a member, as large as one can be."""
        me = self.puppet(encrypted=False).me
        tags = {f"tag {number}": "x" * 100 for number in range(6)}
        described = (None, 0, "x" * 64, tags, 0, 30_000, 0, b"x" * 1024, 0, bytes(range(32)))
        return RosterEntry(0, codec.payload(Signer(me).signed(Presence(me.origin, 1, 1, 0, *described))))


class TestSlowReader(SlowCase):
    def test_of_an_author(self) -> None:
        a = self.node(limits={"link_queue_bytes": LIMIT})
        slow, fast = self.node(), self.node()
        self.link((slow, a), (a, fast))
        self.assert_catches_up(a, a, slow, fast)

    def test_of_a_relay(self) -> None:
        a, b, slow = self.chain(3, limits={"link_queue_bytes": LIMIT})
        fast = self.node()
        self.link((fast, b))
        self.assert_catches_up(a, b, slow, fast)

    def assert_catches_up(
        self, a: MeshService, near: MeshService, slow: MeshService, fast: MeshService
    ) -> None:
        """Assert that *slow* catches up after it did not read from *near* while *a* sent."""
        self.measured(a)
        stuck = self.stuck(near, slow)
        self.say(a, 16, fast)
        # It is still linked; the bytes queued for it are bounded; none of them counts as unsent.
        self.assertIn(slow.id, near.routing_table)
        queued = near.routing_table[slow.id].queued_bytes
        self.assertGreater(queued, LIMIT)
        self.assertLess(queued, LIMIT + 2 * len(BIG))
        self.assertEqual(a.footprint()["unsent_bytes"], 0)
        self.assertEqual(self.got(slow), [])
        stuck.reads = True
        self.network.pump()
        self.assertLess(len(self.got(slow)), 9)  # the messages that were queued; the rest is announced
        self.network.advance(1)
        self.assert_has_all(slow, 16)
        self.assert_has_all(fast, 16)
        self.assertEqual(self.log("[slow]"), [])
        # From now on messages are pushed to it as to any neighbour: in the turn in which they are sent.
        self.send(a, 16)
        self.assert_has_all(slow, 17)

    def test_it_catches_up_while_others_send(self) -> None:
        a, b, slow = self.chain(3, limits={"link_queue_bytes": LIMIT})
        stuck = self.stuck(b, slow)
        self.say(a, 12, b)
        stuck.reads = True
        stuck.chunk = 30_000
        for number in range(12, 24):
            a.send(number, BIG)
            self.network.advance(0.02)
            self.assertEqual(self.got(b), list(range(number + 1)))
        self.network.advance(2)
        self.assert_has_all(slow, 24)

    def test_it_gets_from_another_what_one_link_is_too_slow_for(self) -> None:
        a, slow, other = (self.node(limits={"link_queue_bytes": LIMIT}) for _ in range(3))
        self.link((a, slow), (a, other), (other, slow), after=1)
        self.stuck(a, slow)
        for number in range(12):
            a.send(number, BIG)
            self.network.advance(0.5)
            self.assertEqual((self.got(slow), self.got(other)), (list(range(number + 1)),) * 2)

    def test_it_is_told_only_once_what_it_is_owed(self) -> None:
        a, fast = self.node(limits={"link_queue_bytes": LIMIT}), self.node()
        puppet = self.joined(a)
        self.link((a, fast))  # else the sender would wait for the slow one
        self.measured(a)
        stuck = self.stuck_puppet(a)
        for number in range(20):
            a.send(number, BIG)
            self.network.advance(0.1)
        stuck.reads = True
        self.network.advance(0.1)
        batches = [frame.batch for frame in puppet.frames() if isinstance(frame, SignedBatch)]
        pushed = len(batches)
        self.assertEqual([one.first for one in batches], list(range(1, pushed + 1)))
        (told,) = self.haves(puppet)
        self.assertEqual((told.low, told.high), (1, 21))
        # The answer to its WANT begins where it asks, and is closed by a HAVE.
        self.send_frames(puppet, Want(told.origin, told.epoch, pushed + 1, 21, True))
        batches = [frame.batch.first for frame in puppet.frames() if isinstance(frame, SignedBatch)]
        self.assertEqual(batches, list(range(1, pushed + 4)))  # answer_bytes is three messages
        self.assertEqual([(one.low, one.high) for one in self.haves(puppet)], [(1, 21)] * 2)

    def haves(self, puppet: Puppet) -> list[Any]:
        """The entries of all HAVEs that *puppet* has got."""
        return [entry for frame in puppet.frames() if isinstance(frame, Have) for entry in frame.streams]


class TestItsOwnDoing(SlowCase):
    """The core does not bound whispers: at twice the limit of a link's queue the link is closed."""

    def test_whispers(self) -> None:
        a, b = self.chain(2, limits={"link_queue_bytes": LIMIT})
        self.stuck(a, b)
        whispers = [a.routing_table[b.id].whisper(number, BIG) for number in range(13)]
        self.network.pump()
        self.assertEqual(list(a.routing_table), [b.id])
        self.assertLess(a.routing_table[b.id].queued_bytes, 2 * LIMIT)
        whispers += [a.routing_table[b.id].whisper(number, BIG) for number in range(2)]
        self.result_of(whispers[0])
        for whisper in whispers[1:]:
            self.failureResultOf(whisper, Unreachable)
        self.assertEqual(dict(a.routing_table), {})
        self.assertEqual(len(self.log(SLOW_LINE)), 1)

    def test_asking_for_everything_again_and_again_is_not_answered_faster_than_it_is_read(self) -> None:
        a = self.node()
        puppet = self.joined(a)
        self.measured(a)
        self.say(a, 30)
        self.stuck_puppet(a)
        run = self.status_of(a).stream
        for _ in range(200):
            self.send_frames(puppet, Want(*run, 1, 30, True))
        self.assertEqual(list(a.routing_table), [puppet.me.id])
        self.assertLess(a.footprint()["queued_bytes"], 2 * MIB + BUFFER)
        self.assertLessEqual(a.footprint()["wants"], 1)

    def test_a_small_bound_leaves_room_for_the_largest_message_and_for_an_answer(self) -> None:
        a, b = self.node(limits={"link_queue_bytes": 1}), self.node()
        largest = b"x" * (MIB - 100)
        for _ in range(4):
            self.send(a, largest)
        self.link((b, a), after=1)
        for _ in range(4):
            self.send(a, largest, after=1)
        self.assertEqual(len(self.got(b)), 8)
        self.assertEqual(self.log(SLOW_LINE), [])


class TestCongestion(SlowCase):
    def test_an_only_neighbour_that_pulls(self) -> None:
        a = self.node(limits={"unsent_bytes": 4 * MIB, "link_queue_bytes": MIB})
        b = self.node()
        self.link((a, b))
        stuck = self.stuck(a, b)
        count = self.fill(a)
        drained, handed_over = a.drained(), a.handed_over(60)
        # Most of it is not in the link's queue: it must be pulled before there is room.
        self.assertLess(a.routing_table[b.id].queued_bytes, 2 * MIB)
        self.assertGreater(a.footprint()["unsent_bytes"], 3 * MIB)
        self.network.advance(1)
        self.assertNoResult(drained)
        self.assertRaises(Congested, a.send, BIG)
        stuck.reads = True
        self.result_of(drained, after=1)
        self.successResultOf(handed_over)
        self.assertEqual(a.footprint()["unsent_bytes"], 0)
        self.send(a, count, after=1)
        self.assert_has_all(b, count + 1)

    def test_it_is_over_below_half(self) -> None:
        a = self.node(limits={"unsent_bytes": 4 * MIB, "link_queue_bytes": MIB})
        puppet = self.joined(a)
        self.measured(a)
        stuck = self.stuck_puppet(a)
        count = self.fill(a)
        drained = a.drained()
        stuck.reads = True
        self.network.advance(0.1)
        pushed = sum(isinstance(frame, SignedBatch) for frame in puppet.frames())
        run = self.status_of(a).stream
        for last in range(pushed + 1, count + 2):
            self.assertEqual(drained.called, a.footprint()["unsent_bytes"] < 2 * MIB)
            self.send_frames(puppet, Want(*run, last, last, True))
        self.successResultOf(drained)

    def test_the_fastest_neighbour_decides(self) -> None:
        a = self.node(limits={"unsent_bytes": 2 * MIB, "link_queue_bytes": MIB})
        slow, fast = self.node(), self.node()
        self.link((a, slow), (a, fast))
        self.stuck(a, slow)
        self.say(a, 16, fast)
        self.successResultOf(a.drained())

    def test_a_peer_that_comes_back_is_asked_what_it_has(self) -> None:
        a, b = self.node(limits={"unsent_bytes": 2 * MIB, "link_queue_bytes": MIB}), self.node()
        self.link((a, b))
        self.stuck(a, b)
        count = self.fill(a)
        drained = a.drained()
        self.network.cut(self.host(a), self.host(b))
        self.network.advance(0.1)
        self.assertNoResult(drained)
        self.result_of(b.connect(self.host(a), PORT), after=2)
        self.successResultOf(drained)
        self.assertEqual(self.got(b), list(range(count)))
