"""A node and its links: how they begin, break the rules and end."""

from __future__ import annotations

import msgspec

from tests.core import network
from tests.core.network import (
    batch,
    closing,
    entries,
    entry,
    have,
    local_node,
    of,
    origin_of,
    prune,
    roster,
    want,
)
from tests.core.node_case import ALL, PING, NodeTestCase
from twisted_mesh.core.broadcast.frontier import digest
from twisted_mesh.core.events import (
    Accepted,
    Close,
    Deliver,
    LinkClosed,
    LinkDown,
    LinkUp,
    Received,
    Send,
)
from twisted_mesh.core.links import Links
from twisted_mesh.errors import Reason
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT, Snapshot
from twisted_mesh.wire.link import Bye, Intro, Ping, Pong, Proof, Unknown, Whisper


class TestOpening(NodeTestCase):
    """The snapshot comes first and describes that moment; every new message follows it."""

    def test_a_node_that_knows_nothing_says_so(self) -> None:
        self.assertEqual(self.frames(self.open(1), 1), [ALL, PING])

    def test_the_snapshot_is_first_and_describes_that_moment(self) -> None:
        # A later snapshot would name as old messages that the newcomer has never had.
        self.up(1, "bert")
        self.receive(1, batch("bert", 1, 3), batch("cleo", 1, 2))
        self.publish("mine")
        self.accept(1)
        effects = self.open(2, "dora")
        told, ping = self.frames(effects, 2)
        assert isinstance(told, Snapshot)
        self.assertEqual(
            [(one.origin, one.low, one.high, one.base) for one in told.streams],
            [(origin_of("bert"), 1, 3, 3), (origin_of("cleo"), 1, 2, 2), (origin_of("me"), 1, 1, 1)],
        )
        headers = [codec.unpack_header(one.proof).batch for one in told.streams]
        self.assertEqual([(one.first, one.last) for one in headers], [(1, 3), (1, 2), (1, 1)])
        self.assertEqual(ping, PING)
        # What is new since goes to the newcomer, although its own snapshot has not come.
        self.assertEqual(self.sent(self.receive(1, batch("bert", 4)), 2), [(4, 4)])

    def test_a_link_is_up_when_the_peers_snapshot_is_whole(self) -> None:
        self.open(1)
        self.assertEqual(self.receive(1, Snapshot(False, [])), [])
        self.assertEqual(of(self.receive(1, ALL), LinkUp), [LinkUp(1)])

    def test_a_link_that_was_up_goes_down_once(self) -> None:
        self.up(1)
        self.assertEqual(of(self.handle(closing(1)), LinkDown), [LinkDown(1, Reason.DISCONNECT)])
        self.assertEqual(self.handle(LinkClosed(1)), [])

    def test_a_link_that_was_never_up_does_not_go_down(self) -> None:
        self.open(1)
        self.assertEqual(self.handle(LinkClosed(1)), [])


class TestOrderOfFrames(NodeTestCase):
    """A frame that has no place on a link closes it with a reason, and changes nothing else."""

    def assert_closes(self, reason: Reason, *frames: codec.Frame, told: bool = True) -> str:
        """Assert that *frames* close a link and leave nothing behind; the detail of the close."""
        self.make()
        self.up(1, "bert")
        before = self.node.footprint()
        self.open(2, "cleo")
        if told:
            self.receive(2, ALL)
        effects = self.receive(2, *frames)
        self.assertEqual(self.closed(effects), [(2, reason)])
        self.assertEqual(of(effects, LinkDown), [LinkDown(2, reason)] if told else [])
        self.assertEqual(of(effects, Send) + of(effects, Deliver), [])
        self.assertEqual(self.receive(2, batch("cleo", 1)), [])
        self.assert_untouched(before, 2)
        self.assertEqual(self.delivered(self.receive(1, batch("cleo", 1))), [(1, [1])])
        return of(effects, Close)[0].detail

    def test_anything_else_before_the_whole_snapshot(self) -> None:
        whisper = Whisper(join_entries(entries("psst")))
        for early in (batch("cleo", 1), whisper, have("cleo", 1, 2), want("cleo", 1)):
            for begun in ([], [Snapshot(False, [])]):
                said = self.assert_closes(Reason.ORDER, *begun, early, told=False)
                self.assertIn("before the snapshot", said)

    def test_a_second_snapshot(self) -> None:
        for second in (ALL, Snapshot(False, [])):
            self.assertIn("no place", self.assert_closes(Reason.ORDER, second))

    def test_a_digest_where_a_snapshot_was_due(self) -> None:
        said = self.assert_closes(Reason.ORDER, digest([]), told=False)
        self.assertIn("a snapshot was due", said)

    def test_a_snapshot_where_a_digest_was_due(self) -> None:
        self.up(1)
        self.open(2, "cleo", settled=True)
        self.assertEqual(self.closed(self.receive(2, ALL)), [(2, Reason.ORDER)])

    def test_a_handshake_frame_on_an_open_link(self) -> None:
        frames = (
            Intro(1, 1, 0, False, bytes(32), bytes(32), 0, 0),
            Proof(bytes(64), bytes(32)),
            Bye("full", ""),
        )
        for frame in frames:
            said = self.assert_closes(Reason.ORDER, frame)
            self.assertIn(f"{type(frame).__name__} on an open link", said)

    def test_a_false_signature(self) -> None:
        good = batch("cleo", 1)
        for changed in (
            {"signature": bytes(64)},
            {"signature": batch("dora", 1).signature},
            {"array": batch("cleo", 2).array},
            {"body": batch("cleo", 2).body},
        ):
            self.assert_closes(Reason.SIGNATURE, msgspec.structs.replace(good, **changed))

    def test_a_batch_of_another_network(self) -> None:
        good = batch("cleo", 1)
        elsewhere = codec.batch_text(codec.network_digest(b"elsewhere"), good.header.hash)
        signature = network.signature_of(origin_of("cleo"), elsewhere)
        self.assert_closes(Reason.SIGNATURE, msgspec.structs.replace(good, signature=signature))

    def test_a_whisper_with_a_bad_body(self) -> None:
        for body in (b"", b"\x91\xc1", b"\x01", b"\x91\x92\x00\x05", join_entries(entries("x")) + b"x"):
            self.assert_closes(Reason.SHAPE, Whisper(body))

    def test_a_whisper_of_too_many_messages(self) -> None:
        most = MAX_BATCH_COUNT
        body = join_entries(entries("x") * (most + 1))
        self.assert_closes(Reason.SHAPE, Whisper(body))

    def test_frames_before_the_bad_one_count_and_those_behind_it_do_not(self) -> None:
        self.up(1)
        effects = self.receive(1, batch("bert", 1), ALL, batch("bert", 2))
        self.assertEqual(self.delivered(effects), [(1, [1])])
        self.assertEqual(self.closed(effects), [(1, Reason.ORDER)])

    def test_a_bad_frame_on_a_draining_link_ends_its_draining(self) -> None:
        self.up(1)
        self.handle(closing(1))
        self.assertEqual(self.closed(self.receive(1, ALL)), [(1, Reason.ORDER)])
        self.assertEqual(self.receive(1, batch("bert", 1)), [])

    def test_frames_of_a_later_version_are_counted_and_ignored(self) -> None:
        self.open(1)
        self.assertEqual(self.receive(1, Unknown(99)), [])
        self.receive(1, ALL, roster())
        self.assertEqual(self.delivered(self.receive(1, Unknown(4), batch("bert", 1))), [(1, [1])])
        self.assertEqual(self.node.counts["unknown_frames"], 2)

    def test_a_ping_is_answered_and_a_pong_is_not(self) -> None:
        self.open(1)
        self.assertEqual(self.frames(self.receive(1, Ping(7)), 1), [Pong(7)])
        self.assertEqual(self.receive(1, Pong(7)), [])
        self.handle(closing(1))
        self.assertEqual(self.receive(1, Ping(7)), [])

    def test_events_of_links_that_are_gone_are_ignored(self) -> None:
        self.up(1)
        self.publish("a")
        before = self.node.footprint()
        for event in (Received(9, [batch("bert", 1)]), Accepted(9, 1), closing(9), LinkClosed(9)):
            self.assertEqual(self.handle(event), [])
        self.assertEqual(self.node.footprint(), before)


class TestFootprint(NodeTestCase):
    """The footprint counts every table; each is empty again when the links or messages in it are gone."""

    def test_a_fresh_node_holds_nothing(self) -> None:
        self.assertEqual(set(self.node.footprint().values()), {0})

    def test_everything_is_given_back_when_links_go(self) -> None:
        self.make(waiting_bytes=10**6)
        self.up(1, "anna")
        self.publish("a")
        self.accept(1)
        self.receive(1, batch("anna", 1))
        self.wait(20)
        before = self.node.footprint()
        self.up(2, "bert")
        self.open(3, "cleo")
        self.receive(3, Snapshot(False, [entry("x", 1)]))
        self.up(4, "bert")
        self.receive(2, batch("anna", 1), have("anna", 1, 9), have("dora", 1, 200), prune("emil"))
        self.receive(4, have("anna", 1, 7), prune("me"), have("dora", 1, 3, answer=True))
        self.publish("b", "c")
        self.accept(1)
        self.assertNotEqual(self.node.footprint(), before)
        for number in (2, 3, 4):
            self.handle(closing(number))
            self.handle(LinkClosed(number))
        self.wait(20)
        after = self.node.footprint()
        for table in ("held_bytes", "held_batches", "own_hashes", "ways"):  # the own messages
            before[table] = after[table]
        self.assertEqual(after, before)

    def test_every_table_that_links_fill_is_seen(self) -> None:
        self.assertLessEqual(
            set(Links(local_node("me"), self.config).footprint()), set(self.node.footprint())
        )

    def test_what_is_old_is_given_up_in_time(self) -> None:
        self.make(history_seconds=600)
        self.up(1)
        self.receive(1, batch("anna", 1), batch("dora", 1))
        self.wait(500)
        self.receive(1, batch("dora", 2))
        self.wait(200)
        self.assertEqual(self.node.footprint()["held_batches"], 1)
        self.assertEqual(self.node.footprint()["closed_streams"], 1)
        self.wait(600)
        self.assertEqual(self.node.footprint()["held_batches"], 0)
        # A closed stream is not forgotten.
        self.assertEqual(self.delivered(self.receive(1, batch("anna", 1))), [])
