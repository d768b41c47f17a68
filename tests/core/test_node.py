"""A node and its links: how they begin, join, break the rules and double."""

from __future__ import annotations

from tests.core import network
from tests.core.network import batch, entries, entry, myself, of, origin_of, peer
from tests.core.node_case import ALL, NodeTestCase
from twisted_mesh.core.events import (
    Accepted,
    Close,
    Deliver,
    LinkClosed,
    LinkClosing,
    LinkDown,
    LinkUp,
    Received,
    Send,
)
from twisted_mesh.core.links import Links
from twisted_mesh.errors import Reason
from twisted_mesh.identity import MAX_EPOCH
from twisted_mesh.wire import native
from twisted_mesh.wire.framing import HANDSHAKE_FRAME_BYTES
from twisted_mesh.wire.native import SignedBatch, Snapshot, SnapshotEntry, Whisper
from twisted_mesh.wire.packets import join_entries


def most_of(one: SnapshotEntry) -> tuple[int, int, int, int]:
    """All of an entry but its origin; low may be one beyond high, but no number beyond 2^62."""
    return one.epoch, one.low, one.high - 1, one.base - 1


class TestOpening(NodeTestCase):
    """The snapshot comes first, describes that moment, and everything new follows it."""

    def test_a_node_that_knows_nothing_says_so(self) -> None:
        self.assertEqual(self.open(1), [Send((1,), ALL)])

    def test_the_snapshot_is_first_and_describes_that_moment(self) -> None:
        self.up(1, "bert")
        self.receive(1, batch("bert", 1, 3), batch("cleo", 1, 2))
        self.publish("mine")
        effects = self.open(2, "dora")
        first = effects[0]
        assert isinstance(first, Send)
        self.assertEqual(first.links, (2,))
        own = SnapshotEntry(origin_of("me"), 1, 1, 1, 0)
        self.assertEqual(first.frame, Snapshot(True, [entry("bert", 3), entry("cleo", 2), own]))
        # What is new since goes to the newcomer, although its own snapshot has not come.
        self.assertEqual(self.sent(self.receive(1, batch("bert", 4)), 2), [(4, 4)])

    def test_own_messages_no_link_has_taken_are_ahead_of_the_base(self) -> None:
        self.up(1, "bert")
        self.publish("a", "b")
        self.node.handle(Accepted(1, 2), self.now)
        self.publish("c")
        effects = self.open(2, "dora")
        self.assertEqual(
            self.snapshots(effects), [Snapshot(True, [SnapshotEntry(origin_of("me"), 1, 3, 3, 2)])]
        )
        self.assertEqual(self.sent(effects, 2), [(3, 3)])

    def test_a_stream_of_which_all_is_behind_a_hole_is_not_in_it(self) -> None:
        self.up(1)
        self.receive(1, batch("bert", 5))
        self.assertEqual(self.snapshots(self.open(2, "dora")), [ALL])

    def test_what_waits_behind_a_hole_follows_the_snapshot(self) -> None:
        # It went to the others when it came: nobody would send it to the newcomer again.
        self.up(1)
        self.receive(1, batch("bert", 1), batch("bert", 9), batch("bert", 5, 2))
        effects = self.open(2, "dora")
        self.assertIsInstance(of(effects, Send)[0].frame, Snapshot)
        self.assertEqual(self.sent(effects, 2), [(5, 6), (9, 9)])
        self.assertEqual({send.frame.hops for send in of(effects, Send)[1:]}, {1})  # type: ignore[union-attr]

    def test_many_streams_take_several_frames_each_small_enough(self) -> None:
        self.open(1)
        most = SnapshotEntry(bytes(32), MAX_EPOCH, MAX_EPOCH, MAX_EPOCH, MAX_EPOCH)
        streams = [SnapshotEntry(number.to_bytes(32, "big"), *most_of(most)) for number in range(1, 2001)]
        self.receive(1, Snapshot(True, streams))
        frames = self.snapshots(self.open(2, "dora"))
        self.assertEqual([frame.last for frame in frames], [False, False, True])
        told = [one for frame in frames for one in frame.streams]
        self.assertEqual([one.origin for one in told], [one.origin for one in streams])
        for frame in frames:
            self.assertLessEqual(len(native.encode(frame)), HANDSHAKE_FRAME_BYTES)

    def test_as_many_streams_as_a_frame_holds_take_one_frame(self) -> None:
        streams = [SnapshotEntry(number.to_bytes(32, "big"), 1, 2, 1, 1) for number in range(800)]
        self.up(1, "bert", *streams)
        self.assertEqual(self.snapshots(self.open(2, "dora")), [Snapshot(True, streams)])

    def test_a_link_is_up_when_the_peers_snapshot_is_whole(self) -> None:
        self.open(1)
        self.assertEqual(self.receive(1, Snapshot(False, [])), [])
        self.assertEqual(of(self.receive(1, ALL), LinkUp), [LinkUp(1)])

    def test_a_link_that_was_up_goes_down_once(self) -> None:
        self.up(1)
        self.assertEqual(of(self.node.handle(LinkClosing(1), self.now), LinkDown), [LinkDown(1)])
        self.assertEqual(self.node.handle(LinkClosed(1), self.now), [])

    def test_a_link_that_was_never_up_does_not_go_down(self) -> None:
        self.open(1)
        self.assertEqual(self.node.handle(LinkClosed(1), self.now), [])


class TestJoining(NodeTestCase):
    """The first snapshot is where a node starts."""

    def test_a_joiner_starts_at_the_first_snapshots_base(self) -> None:
        self.up(1, "bert", entry("anna", 5))
        self.assertTrue(self.node.settled)
        self.assertEqual(self.receive(1, batch("anna", 4, 2)), [])
        self.assertEqual(self.delivered(self.receive(1, batch("anna", 5, 3))), [(6, [6, 7])])
        self.assertEqual(self.node.counts["duplicates"], 1)

    def test_a_stream_without_a_base_starts_at_1(self) -> None:
        self.up(1, "bert", SnapshotEntry(origin_of("anna"), 1, 1, 3, 0))
        self.assertEqual(self.node.footprint()["open_streams"], 0)
        self.assertEqual(self.delivered(self.receive(1, batch("anna", 1, 3))), [(1, [1, 2, 3])])

    def test_a_snapshot_in_several_frames_is_one(self) -> None:
        self.open(1)
        self.receive(1, Snapshot(False, [entry("anna", 5)]))
        self.assertFalse(self.node.settled)
        self.receive(1, Snapshot(True, [entry("cleo", 7)]))
        effects = self.receive(1, batch("anna", 6), batch("cleo", 8))
        self.assertEqual(self.delivered(effects), [(6, [6]), (8, [8])])

    def test_later_snapshots_change_nothing(self) -> None:
        self.up(1, "bert", entry("anna", 5))
        self.up(2, "cleo", entry("anna", 50), entry("dora", 50))
        self.assertEqual(self.delivered(self.receive(2, batch("anna", 6))), [(6, [6])])
        self.assertEqual(self.delivered(self.receive(2, batch("dora", 1))), [(1, [1])])

    def test_of_two_snapshots_that_come_at_once_the_first_whole_one_counts(self) -> None:
        self.open(1, "bert")
        self.open(2, "cleo")
        self.receive(1, Snapshot(False, [entry("anna", 9)]))
        self.receive(2, Snapshot(True, [entry("anna", 5)]))
        self.receive(1, Snapshot(True, [entry("anna", 9)]))
        self.assertEqual(self.delivered(self.receive(2, batch("anna", 6))), [(6, [6])])
        self.assertEqual(self.node.footprint()["snapshot_entries"], 0)

    def test_what_a_node_joined_at_is_told_to_those_who_join_through_it(self) -> None:
        # No batch has come since; who joins here would else take all before it for a hole.
        self.up(1, "bert", entry("anna", 5))
        self.assertEqual(self.snapshots(self.open(2, "cleo")), [Snapshot(True, [entry("anna", 5)])])

    def test_a_base_of_its_own_run_is_not_taken(self) -> None:
        self.up(1, "bert", entry("me", 5))
        self.assertEqual(self.node.footprint()["open_streams"], 0)

    def test_bases_beyond_open_streams_are_closed_streams(self) -> None:
        self.make(open_streams=2)
        self.up(1, "bert", entry("anna", 5), entry("cleo", 6), entry("dora", 7))
        footprint = self.node.footprint()
        self.assertEqual((footprint["open_streams"], footprint["closed_streams"]), (2, 1))
        self.assertEqual(self.delivered(self.receive(1, batch("anna", 6))), [(6, [6])])

    def test_a_giant_snapshot_closes_the_link(self) -> None:
        self.make(closed_streams=3)
        before = self.node.footprint()
        self.open(1)
        effects = self.receive(1, Snapshot(False, [entry("anna", base) for base in range(1, 4)]))
        self.assertEqual(effects, [])
        effects = self.receive(1, Snapshot(True, [entry("anna", 5)]))
        self.assertEqual(self.closed(effects), [(1, Reason.LIMIT)])
        self.assertFalse(self.node.settled)
        self.assert_untouched(before, 1)

    def test_a_giant_snapshot_to_a_settled_node_is_not_kept(self) -> None:
        self.make(closed_streams=3)
        self.up(1, "bert")
        self.open(2, "cleo")
        for base in range(1, 9):
            self.receive(2, Snapshot(False, [entry("anna", base)]))
        self.assertEqual(self.node.footprint()["snapshot_entries"], 0)
        self.assertEqual(of(self.receive(2, ALL), LinkUp), [LinkUp(2)])


class TestOrderOfFrames(NodeTestCase):
    """What has no place on a link closes it, with a reason, and changes nothing else."""

    def assert_closes(self, reason: Reason, *frames: native.Frame, told: bool = True) -> str:
        """Assert that *frames* close a link and leave nothing behind; the sentence for people."""
        self.make()
        self.up(1, "bert")
        before = self.node.footprint()
        self.open(2, "cleo")
        if told:
            self.receive(2, ALL)
        effects = self.receive(2, *frames)
        self.assertEqual(self.closed(effects), [(2, reason)])
        self.assertEqual(of(effects, LinkDown), [LinkDown(2)] if told else [])
        self.assertEqual(of(effects, Send) + of(effects, Deliver), [])
        self.assertEqual(self.receive(2, batch("cleo", 1)), [])
        self.assert_untouched(before, 2)
        self.assertEqual(self.delivered(self.receive(1, batch("cleo", 1))), [(1, [1])])
        return of(effects, Close)[0].detail

    def test_a_message_before_the_snapshot(self) -> None:
        for early in (batch("cleo", 1), Whisper(join_entries(entries("psst")))):
            said = self.assert_closes(Reason.ORDER, early, told=False)
            self.assertIn("before the snapshot", said)

    def test_a_message_before_the_snapshots_end(self) -> None:
        self.assert_closes(Reason.ORDER, Snapshot(False, []), batch("cleo", 1), told=False)

    def test_a_second_snapshot(self) -> None:
        for second in (ALL, Snapshot(False, [])):
            self.assertIn("second", self.assert_closes(Reason.ORDER, second))

    def test_a_handshake_frame_on_an_open_link(self) -> None:
        frames = (
            native.Intro(1, 1, 0, False, bytes(32), bytes(32), 0, 0),
            native.Proof(bytes(64), b""),
            native.Bye("full", ""),
        )
        for frame in frames:
            said = self.assert_closes(Reason.ORDER, frame)
            self.assertIn(f"{type(frame).__name__} on an open link", said)

    def test_a_false_signature(self) -> None:
        good = batch("cleo", 1)
        for signature, array in (
            (bytes(64), good.array),
            (batch("dora", 1).signature, good.array),
            (good.signature, batch("cleo", 2).array),
        ):
            self.assert_closes(Reason.SIGNATURE, SignedBatch(good.batch, signature, array))

    def test_a_batch_of_another_network(self) -> None:
        good = batch("cleo", 1)
        elsewhere = native.signed_text(native.network_digest(b"elsewhere"), good.array)
        signature = network.signature_of(origin_of("cleo"), elsewhere)
        self.assert_closes(Reason.SIGNATURE, SignedBatch(good.batch, signature, good.array))

    def test_a_whisper_with_a_bad_body(self) -> None:
        for body in (b"", b"\x91\xc1", b"\x01", b"\x91\x92\x00\x05", join_entries(entries("x")) + b"x"):
            self.assert_closes(Reason.SHAPE, Whisper(body))

    def test_frames_before_the_bad_one_count_and_those_behind_it_do_not(self) -> None:
        self.up(1)
        effects = self.receive(1, batch("bert", 1), ALL, batch("bert", 2))
        self.assertEqual(self.delivered(effects), [(1, [1])])
        self.assertEqual(self.closed(effects), [(1, Reason.ORDER)])

    def test_a_bad_frame_on_a_draining_link_ends_its_draining(self) -> None:
        self.up(1)
        self.node.handle(LinkClosing(1), self.now)
        self.assertEqual(self.closed(self.receive(1, ALL)), [(1, Reason.ORDER)])
        self.assertEqual(self.receive(1, batch("bert", 1)), [])

    def test_frames_of_a_later_version_are_counted_and_ignored(self) -> None:
        self.open(1)
        self.assertEqual(self.receive(1, native.Unknown(99)), [])
        self.receive(1, ALL)
        self.assertEqual(self.delivered(self.receive(1, native.Unknown(4), batch("bert", 1))), [(1, [1])])
        self.assertEqual(self.node.counts["unknown_frames"], 2)

    def test_a_ping_is_answered_and_a_pong_is_not(self) -> None:
        self.open(1)
        self.assertEqual(self.receive(1, native.Ping(7)), [Send((1,), native.Pong(7))])
        self.assertEqual(self.receive(1, native.Pong(7)), [])

    def test_events_of_links_that_are_gone_are_ignored(self) -> None:
        self.up(1)
        self.publish("a")
        before = self.node.footprint()
        for event in (Received(9, [batch("bert", 1)]), Accepted(9, 1), LinkClosing(9), LinkClosed(9)):
            self.assertEqual(self.node.handle(event, self.now), [])
        self.assertEqual(self.node.footprint(), before)


class TestDoubleLinks(NodeTestCase):
    """Two links to one node become one, and nothing is lost on the way."""

    def test_the_newer_replaces_the_older_when_it_is_up(self) -> None:
        self.up(1)
        effects = self.open(2)
        self.assertEqual(self.closed(effects), [])
        self.assertEqual([send.links for send in of(effects, Send)], [(2,)])
        effects = self.receive(2, ALL)
        # There is always one in the routing table.
        self.assertEqual(of(effects, LinkUp) + of(effects, LinkDown), [LinkUp(2), LinkDown(1)])
        self.assertLess(
            effects.index(network.events.Emit(LinkUp(2))), effects.index(network.events.Emit(LinkDown(1)))
        )
        self.assertEqual(self.closed(effects), [(1, Reason.DUPLICATE)])

    def test_of_two_dialled_from_here_the_peer_says_which_goes(self) -> None:
        self.up(1, outgoing=True)
        effects = self.up(2, outgoing=True)
        self.assertEqual(self.closed(effects), [])
        self.assertEqual(of(effects, LinkUp), [LinkUp(2)])
        # The peer closes the newer one: the older takes its place before it goes.
        effects = self.node.handle(LinkClosing(2), self.now)
        self.assertEqual(of(effects, LinkUp) + of(effects, LinkDown), [LinkUp(1), LinkDown(2)])
        effects = self.node.handle(LinkClosing(1), self.now)
        self.assertEqual(of(effects, LinkUp) + of(effects, LinkDown), [LinkDown(1)])

    def test_what_waited_for_another_to_come_up_is_settled_when_that_goes(self) -> None:
        # Two come in, a third is dialled to the same node: it is kept, but never comes up.
        self.up(1)
        self.open(2)
        self.open(3, outgoing=True)
        self.assertEqual(self.closed(self.receive(2, ALL)), [])
        effects = self.node.handle(LinkClosing(3), self.now)
        self.assertEqual(self.closed(effects), [(1, Reason.DUPLICATE)])

    def test_any_number_of_links_of_one_node_become_one(self) -> None:
        for number in range(1, 600):
            self.open(number)
        effects = self.receive(599, ALL)
        self.assertEqual(len(self.closed(effects)), 598)
        self.assertEqual(self.node.footprint()["fed_links"], 1)

    def test_one_that_loses_at_once_gets_nothing_but_a_bye(self) -> None:
        self.up(1)
        self.node.handle(LinkClosed(1), self.now)
        self.open(1, epoch=5)
        effects = self.open(2, epoch=4)
        self.assertEqual(effects, [Close(2, Reason.DUPLICATE, "another link to this node is kept")])

    def test_a_crossing_dial_wins_only_over_a_silent_link(self) -> None:
        lesser = min("abcdefghijklmnopqrstuvwxyz", key=lambda name: peer(name).id)
        self.assertLess(peer(lesser).id, peer("me").id)
        self.make(crossing_silence=5.0)
        self.up(1, lesser, outgoing=True)
        self.now = 57.0
        self.receive(1, native.Pong(1))
        self.now = 61.9
        self.assertEqual(self.closed(self.up(2, lesser)), [(2, Reason.DUPLICATE)])
        self.now = 62.0
        self.assertEqual(self.closed(self.up(3, lesser)), [(1, Reason.DUPLICATE)])

    def test_what_the_loser_brings_still_counts(self) -> None:
        self.open(1, epoch=5)
        self.open(2, epoch=4)
        effects = self.receive(2, ALL, batch("bert", 1), native.Ping(1))
        self.assertTrue(self.node.settled)
        self.assertEqual(of(effects, LinkUp), [])
        self.assertEqual(self.delivered(effects), [(1, [1])])
        # Nothing goes out over it, not even an answer.
        self.assertEqual([send.links for send in of(effects, Send)], [[1]])

    def test_a_new_link_goes_on_where_the_older_is(self) -> None:
        # Another link has taken more than the older was given: none of it may be skipped.
        self.make(batch_bytes=1, write_bytes=1, crossing_silence=5.0)
        self.up(1, "slow")
        self.up(2, "fast")
        self.publish("a", "b", "c")
        for sequence in (1, 2, 3):
            self.node.handle(Accepted(2, sequence), self.now)
        effects = self.open(3, "slow")
        effects += self.node.handle(Accepted(3, 2), self.now)
        self.assertEqual(self.sent(effects, 3), [(2, 2), (3, 3)])

    def test_what_was_kept_for_the_older_goes_with_it(self) -> None:
        self.make(batch_bytes=1, write_bytes=1)
        self.up(1, "fast")
        self.up(2, "slow")
        self.publish("a", "b")
        for sequence in (1, 2):
            self.node.handle(Accepted(1, sequence), self.now)
        self.open(3, "slow")
        self.node.handle(Accepted(3, 2), self.now)
        self.assertEqual(self.node.footprint()["own_batches"], 1)
        self.receive(3, ALL)
        self.assertEqual(self.node.footprint()["own_batches"], 0)

    def test_what_the_older_has_not_been_asked_to_take_goes_over_the_new_one(self) -> None:
        self.up(1)
        self.publish("a")
        self.assertEqual(self.sent(self.open(2), 2), [(1, 1)])


class TestFootprint(NodeTestCase):
    """Every table is counted, and empty again when what filled it is gone."""

    def test_a_fresh_node_holds_nothing(self) -> None:
        self.assertEqual(set(self.node.footprint().values()), {0})

    def test_everything_is_given_back_when_links_go(self) -> None:
        self.make(batch_bytes=1, write_bytes=1)
        self.up(1, "anna")
        self.publish("a")
        self.node.handle(Accepted(1, 1), self.now)
        self.receive(1, batch("anna", 1))
        before = self.node.footprint()
        self.up(2, "bert")
        self.open(3, "cleo")
        self.receive(3, Snapshot(False, [entry("x", 1)]))
        self.up(4, "bert")
        self.publish("b", "c")
        self.node.handle(Accepted(1, 2), self.now)
        self.node.handle(Accepted(1, 3), self.now)
        self.receive(2, batch("anna", 5), batch("anna", 2, 3))
        self.assertNotEqual(self.node.footprint(), before)
        for number in (2, 3, 4):
            self.node.handle(LinkClosing(number), self.now)
            self.node.handle(LinkClosed(number), self.now)
        self.assertEqual(self.node.footprint(), before)

    def test_every_table_that_links_fill_is_seen(self) -> None:
        self.assertLessEqual(set(Links(myself("me"), self.config).footprint()), set(self.node.footprint()))
