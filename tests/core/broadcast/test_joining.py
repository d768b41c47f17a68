"""Where a node starts in each stream: the snapshot of its first neighbour, and the base that follows."""

from __future__ import annotations

from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import (
    DIGEST,
    batch,
    contact_of,
    entries,
    entry,
    link_of,
    local_node,
    origin_of,
    signature_of,
)
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast import joining
from twisted_mesh.core.broadcast.forks import Forks
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.links import Links
from twisted_mesh.core.renewal import Renewal
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Batch, SignedHeader, Snapshot, SnapshotEntry
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.framing import HANDSHAKE_FRAME_BYTES

ANNA, BERT, ME = origin_of("anna"), origin_of("bert"), origin_of("me")


class JoiningTestCase(SynchronousTestCase):
    """The history and the outbox of the node "me" in its run 5."""

    def setUp(self) -> None:
        self.history = History(MeshConfig())
        self.outbox = Outbox(ME, 5, DIGEST, lambda text: signature_of(ME, text), 2**18)

    def publish(self, *texts: object) -> None:
        """Publish own messages, which the history holds."""
        for signed in self.outbox.publish(entries(*texts), 0):
            self.history.add(signed, 0)

    def snapshot(self) -> list[SnapshotEntry]:
        """What a newcomer is told, in one frame."""
        return self.told(joining.bases(self.history, self.outbox, 0, 0))

    def told(self, starts: dict[StreamId, int]) -> list[SnapshotEntry]:
        """What a newcomer is told that is to start there, without the proofs, which are looked at here."""
        (frame,) = joining.snapshot(self.history, starts)
        self.assertTrue(frame.last)
        for told in frame.streams:
            stream = self.history.get((told.origin, told.epoch))
            assert stream is not None
            if told.proof:
                self.assertEqual(codec.unpack_header(told.proof).batch.last, told.high)
            self.assertEqual(bool(told.proof), stream.header is not None)
        return [structs.replace(told, proof=b"") for told in frame.streams]


class TestSnapshot(JoiningTestCase):
    """The snapshot that a node tells a newcomer."""

    def test_a_node_that_knows_nothing_says_so(self) -> None:
        # A link is up with the snapshot: it must come, whatever there is to tell.
        self.assertEqual(joining.bases(self.history, self.outbox, 0, 0), {})
        self.assertEqual(list(joining.snapshot(self.history, {})), [Snapshot(True, [])])

    def test_a_newcomer_starts_behind_the_head_of_each_stream(self) -> None:
        self.history.add(batch("anna", 1, 3), 0)
        self.history.add(batch("bert", 1, 2, epoch=9), 100)
        self.history.age(650, self.outbox.run, 0)
        self.history.add(batch("anna", 4, 2), 700)
        self.assertEqual(
            self.snapshot(),
            [SnapshotEntry(BERT, 9, 1, 2, 2, b""), SnapshotEntry(ANNA, 1, 4, 5, 5, b"")],
        )

    def test_what_waits_is_not_told(self) -> None:
        self.history.add(batch("anna", 3), 0)
        self.assertEqual(self.snapshot(), [])
        self.history.add(batch("anna", 1), 0)
        self.assertEqual(self.snapshot(), [SnapshotEntry(ANNA, 1, 1, 1, 1, b"")])

    def test_own_messages_no_neighbour_has_are_the_newcomers_too(self) -> None:
        # A node that publishes before its first link would else say it to nobody.
        self.publish("a", "b")
        self.assertEqual(self.snapshot(), [SnapshotEntry(ME, 5, 1, 2, 0, b"")])
        self.publish("c")
        self.outbox.accept(2)
        self.assertEqual(self.snapshot(), [SnapshotEntry(ME, 5, 1, 3, 2, b"")])

    def test_of_earlier_own_runs_what_no_neighbour_has_is_the_newcomers_too(self) -> None:
        self.history.add(batch("me", 1, 3, epoch=4), 0)
        for taken, base in ((2, 2), (1, 2), (9, 3)):
            self.history.accepted_of_earlier((ME, 4), taken)
            self.assertEqual(self.snapshot(), [SnapshotEntry(ME, 4, 1, 3, base, b"")])
        self.history.accepted_of_earlier((ME, 3), 1)

    def test_another_link_can_repeat_the_bases_of_the_first(self) -> None:
        # What goes out over the first meanwhile may be lost with it, and counts as told by neither.
        self.history.add(batch("anna", 1, 3), 0)
        starts = joining.bases(self.history, self.outbox, 0, 0)
        self.history.add(batch("anna", 4, 2), 0)
        self.history.add(batch("bert", 1, 2), 0)
        self.assertEqual(
            self.told(starts), [SnapshotEntry(ANNA, 1, 1, 5, 3, b""), SnapshotEntry(BERT, 1, 1, 2, 0, b"")]
        )

    def test_a_replay_starts_before_what_came_within_its_time_and_is_held(self) -> None:
        for first, at in ((1, 10), (3, 20), (5, 30)):
            self.history.add(batch("anna", first, 2), at)
        for replay, base in ((0, 6), (5, 6), (10, 4), (19, 4), (20, 2), (30, 0), (MAX_NUMBER, 0)):
            starts = joining.bases(self.history, self.outbox, replay, 40)
            self.assertEqual(starts, {(ANNA, 1): base}, replay)

    def test_a_replay_of_all_starts_with_what_is_held_without_a_hole(self) -> None:
        for first, at in ((1, 0), (3, 300), (6, 400)):
            self.history.add(batch("anna", first, 2), at)
        self.history.age(601, self.outbox.run, 0)
        self.assertEqual(joining.bases(self.history, self.outbox, MAX_NUMBER, 601), {(ANNA, 1): 2})

    def test_a_replay_of_own_messages_is_not_less_than_what_nobody_has(self) -> None:
        self.publish("a")
        self.publish("b", "c")
        self.outbox.accept(1)
        self.assertEqual(joining.bases(self.history, self.outbox, 1, 100), {(ME, 5): 1})
        self.assertEqual(joining.bases(self.history, self.outbox, MAX_NUMBER, 100), {(ME, 5): 0})

    def test_a_base_is_never_beyond_the_head(self) -> None:
        # Of a stream that was forgotten and met anew; such an entry would close the link.
        self.history.add(batch("anna", 1, 3), 0)
        self.assertEqual(self.told({(ANNA, 1): 9}), [SnapshotEntry(ANNA, 1, 1, 3, 3, b"")])

    def test_many_streams_are_told_in_frames_that_fit(self) -> None:
        # A frame of 64 KiB is what any node reads, proven or not.
        largest = SignedHeader.of(
            Batch(ANNA, 1, MAX_NUMBER - 1, 1, 0, 0, bytes(32)), bytes(64), bytes(255), bytes(32)
        )
        for number in range(joining.STREAMS_A_FRAME * 2 + 1):
            run = (b"\xff" * 24 + number.to_bytes(8, "big"), MAX_NUMBER)
            self.history.start_at(run, MAX_NUMBER - 1, MAX_NUMBER - 1, 0, largest)
        frames = list(joining.snapshot(self.history, joining.bases(self.history, self.outbox, 0, 0)))
        self.assertEqual([frame.last for frame in frames], [False, False, True])
        self.assertEqual([len(frame.streams) for frame in frames], [joining.STREAMS_A_FRAME] * 2 + [1])
        for frame in frames:
            self.assertLessEqual(codec.size(frame), HANDSHAKE_FRAME_BYTES)

    def test_a_full_frame_has_no_empty_one_behind_it(self) -> None:
        for number in range(joining.STREAMS_A_FRAME):
            self.history.start_at((number.to_bytes(32, "big"), 1), 1, 1, 0)
        self.assertEqual(len(self.snapshot()), joining.STREAMS_A_FRAME)


class TestEpochTaken(JoiningTestCase):
    """Other nodes may know numbers of the own run already: then its epoch is taken."""

    def taken(self, *runs: tuple[bytes, int, int]) -> int | None:
        """What follows from streams of (origin, epoch, high)."""
        streams = [SnapshotEntry(origin, epoch, 1, high, high, b"") for origin, epoch, high in runs]
        return joining.epoch_conflict(streams, self.outbox)

    def test_nothing_known_is_no_matter(self) -> None:
        self.assertIsNone(self.taken())

    def test_other_nodes_runs_are_no_matter(self) -> None:
        self.assertIsNone(self.taken((ANNA, 9, 9)))

    def test_earlier_own_runs_are_no_matter(self) -> None:
        self.assertIsNone(self.taken((ME, 4, 9)))

    def test_a_later_own_run_is_taken(self) -> None:
        self.assertEqual(self.taken((ME, 6, 0)), 6)

    def test_of_several_the_highest(self) -> None:
        self.assertEqual(self.taken((ME, 7, 1), (ME, 9, 1), (ME, 8, 1), (ME, 1, 1), (ANNA, 10, 1)), 9)

    def test_the_own_run_is_taken_if_more_is_known_than_was_said(self) -> None:
        # A second link to one that has everything is no second user of the key.
        self.publish("a", "b")
        self.assertIsNone(self.taken((ME, 5, 2)))
        self.assertEqual(self.taken((ME, 5, 3)), 5)


class TestSettle(JoiningTestCase):
    """A newcomer starts at the bases of a snapshot."""

    def settle(self, *streams: SnapshotEntry) -> None:
        """Start where *streams* say, and no roster says more."""
        config, effects, me = MeshConfig(), Effects(self.outbox.run), local_node("me", 5)
        renewal = Renewal(config, effects)
        forks = Forks(me, self.history, self.outbox, renewal, Links(me, config), effects)
        begins = joining.Joining(forks, renewal, config, self.history, self.outbox, effects, False)
        begins.on_snapshot(link_of(1, contact_of(1)), Snapshot(True, list(streams)), 0)
        list(begins.start([], 0))

    def delivered(self, first: int, count: int = 1, name: str = "anna") -> list[int]:
        """The messages that can be delivered when a batch has come."""
        ready = self.history.add(batch(name, first, count), 0)
        return [number for item in ready for number in range(item.start, item.signed.batch.last + 1)]

    def test_what_was_said_before_is_held_and_not_delivered(self) -> None:
        self.settle(entry("anna", 6, low=3))
        self.assertEqual(self.history.head((ANNA, 1)), 2)
        self.assertEqual(self.delivered(3, 2), [])
        self.assertEqual(self.delivered(5, 4), [7, 8])
        self.assertEqual(self.snapshot(), [SnapshotEntry(ANNA, 1, 3, 8, 8, b"")])

    def test_what_the_author_said_to_nobody_else_is_delivered(self) -> None:
        self.settle(entry("anna", 1, low=1, high=3))
        self.assertEqual(self.delivered(1, 3), [2, 3])

    def test_what_nobody_holds_is_not_waited_for(self) -> None:
        self.settle(entry("anna", 6))
        self.assertEqual(self.delivered(7), [7])

    def test_what_only_the_one_that_told_holds_no_more_is_not_passed_over(self) -> None:
        # Others may hold it; if not, it is a gap and not silence.
        self.settle(entry("anna", 4, low=7, high=9))
        self.assertEqual(self.history.head((ANNA, 1)), 4)
        self.assertEqual(self.delivered(7, 3), [])
        self.assertEqual(self.delivered(5, 2), [5, 6, 7, 8, 9])

    def test_a_stream_met_later_starts_at_1(self) -> None:
        self.settle(entry("anna", 6, low=3))
        self.assertEqual(self.delivered(1, 2, "bert"), [1, 2])

    def test_the_own_run_goes_on_as_it_is(self) -> None:
        self.publish("a")
        self.settle(SnapshotEntry(ME, 5, 2, 1, 1, b""), SnapshotEntry(ME, 4, 1, 9, 9, b""))
        self.assertEqual(self.history.head(self.outbox.run), 1)
        self.assertEqual(self.history.head((ME, 4)), 0)
        self.publish("b")
        self.assertEqual(self.history.head(self.outbox.run), 2)

    def test_the_own_run_is_not_opened_by_others(self) -> None:
        self.settle(SnapshotEntry(ME, 5, 1, 0, 0, b""))
        self.assertIsNone(self.history.get(self.outbox.run))
