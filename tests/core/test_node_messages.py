"""What a node does with the messages of others."""

from __future__ import annotations

from random import Random

import msgspec

from tests.core.network import batch, cut, entries, entry, forged, have, of, origin_of, raw_batch
from tests.core.node_case import NodeTestCase, TriangleTestCase
from twisted_mesh.core.events import (
    Close,
    Deliver,
    Effect,
    EpochConflict,
    Equivocation,
    GapFound,
    Poisoned,
    Send,
    SetTimer,
    Timer,
)
from twisted_mesh.errors import Reason
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries
from twisted_mesh.wire.broadcast import SignedBatch
from twisted_mesh.wire.link import Whisper


class TestRelaying(TriangleTestCase):
    """A new batch goes to every link but the one it came over; a known batch goes nowhere."""

    def test_the_very_bytes_are_relayed_one_hop_further(self) -> None:
        came = batch("anna", 1)
        came = msgspec.structs.replace(came, hops=3)
        frame = of(self.receive(1, came), Send)[0].frame
        assert isinstance(frame, SignedBatch)
        self.assertEqual((frame.array, frame.signature, frame.hops), (came.array, came.signature, 4))

    def test_hops_saturate(self) -> None:
        came = batch("anna", 1)
        for hops in (254, 255):
            self.triangle()
            far = msgspec.structs.replace(came, hops=hops)
            frame = of(self.receive(1, far), Send)[0].frame
            assert isinstance(frame, SignedBatch)
            self.assertEqual(frame.hops, 255)

    def test_duplicates_are_found_before_verification(self) -> None:
        self.receive(1, batch("anna", 1, 2), batch("anna", 9))
        self.verified = 0
        false = msgspec.structs.replace(batch("anna", 1, 2), body=b"")
        for again in (batch("anna", 1, 2), batch("anna", 2), batch("anna", 9)):
            self.assertEqual(self.delivered(self.receive(2, again)), [])
        self.assertEqual(self.verified, 0)
        # A batch that differs from the held one is verified: its sender may have made it up.
        self.assertEqual(self.closed(self.receive(2, false)), [(2, Reason.SIGNATURE)])
        self.assertEqual(self.node.counts["duplicates"], 4)

    def test_own_messages_that_come_back_are_duplicates(self) -> None:
        self.publish("a")
        self.verified = 0
        [mine] = of(self.frames(self.publish("b"), 1), SignedBatch)
        came = codec.decode(codec.encode(mine)[4:])
        assert isinstance(came, SignedBatch)
        self.assertEqual(self.delivered(self.receive(1, came)), [])
        self.assertEqual((self.verified, self.node.counts["duplicates"]), (0, 1))
        self.assertNotIn("header", vars(came))  # its body was not even hashed
        # Messages beyond the own head: another node signs in this run, with this key.
        effects = self.receive(1, batch("me", 5))
        self.assertEqual((self.delivered(effects), of(effects, EpochConflict)), ([], [EpochConflict(1)]))

    def test_an_earlier_run_of_its_own_is_relayed_and_not_delivered(self) -> None:
        self.triangle(epoch=2)
        effects = self.receive(1, batch("me", 1, epoch=1))
        self.assertEqual(of(effects, Deliver), [])
        self.assertEqual(self.frames(effects, 2), [batch("me", 1, epoch=1).relayed()])
        self.assertEqual(self.sent(self.receive(2, batch("me", 1, epoch=1)), 3), [])

    def test_nor_is_a_hole_in_it_told_as_a_gap(self) -> None:
        self.triangle(epoch=2)
        self.receive(1, batch("me", 1, epoch=1), batch("me", 4, epoch=1))
        self.assertEqual(of(self.wait(40), GapFound), [])
        self.assertEqual(self.node.history.head((origin_of("me"), 1)), 4)

    def test_an_earlier_run_of_its_own_goes_on_behind_its_base(self) -> None:
        self.make(epoch=2)
        self.up(1, "bert", entry("me", 5))
        self.up(2, "cleo", entry("me", 5))
        effects = self.receive(1, batch("me", 6))
        self.assertEqual(self.sent(effects, 2), [(6, 6)])
        self.assertEqual(of(effects, SetTimer), [])

    def test_what_waits_behind_a_hole_is_relayed_to_who_is_not_further_behind(self) -> None:
        # A peer with the same hole gets the batch as well. Otherwise, if each peer had asked the others too
        # early, the batch would reach none of them, and be told as lost.
        self.receive(1, batch("anna", 1, 2))
        self.receive(3, have("anna", 1, 4))
        self.up(4, "dora")
        effects = self.receive(1, batch("anna", 5))
        self.assertEqual([self.sent(effects, link) for link in (2, 3, 4)], [[(5, 5)], [(5, 5)], []])
        self.assertEqual(of(effects, Deliver), [])

    def test_what_has_no_room_is_neither_kept_nor_relayed(self) -> None:
        # A batch that is relayed and not kept would go in circles.
        self.triangle(waiting_bytes=1100)
        cut("anna", 4)
        self.receive(3, have("anna", 1, 8))
        self.receive(1, batch("anna", 5), batch("anna", 7))
        self.assertEqual(self.receive(1, batch("anna", 9)), [])
        self.assertEqual(self.node.counts["no_room"], 1)
        self.assertLessEqual(self.node.footprint()["waiting_bytes"], 1100)
        # When the batch comes again, it is new.
        self.receive(1, batch("anna", 1, 4))
        self.assertEqual(self.sent(self.receive(1, batch("anna", 9)), 3), [(9, 9)])

    def test_whispers_are_delivered_and_not_relayed(self) -> None:
        body = join_entries(entries("psst", "hey"))
        effects = self.receive(1, Whisper(body))
        [deliver] = of(effects, Deliver)
        self.assertEqual(len(effects), 1)
        self.assertEqual(
            (deliver.link, deliver.origin, deliver.epoch, deliver.first, deliver.sent, deliver.size),
            (1, origin_of("anna"), 1, 0, 0, len(body)),
        )
        self.assertEqual(self.delivered(effects), [(0, ["psst", "hey"])])

    def test_a_delivery_says_where_it_is_from(self) -> None:
        [deliver] = of(self.receive(2, batch("anna", 1, 2, epoch=7)), Deliver)
        self.assertEqual(
            (deliver.link, deliver.origin, deliver.epoch, deliver.first, deliver.sent),
            (2, origin_of("anna"), 7, 1, 1000),
        )


class TestPoison(NodeTestCase):
    """A body that its author signed and nobody can read is the author's fault, never the link's."""

    def poisoned(self, count: int, body: bytes, encoding: int = 0) -> Poisoned:
        """Let a poisoned batch from message 3 on come; its event. All else must be as usual."""
        self.make()
        self.up(1, "bert")
        self.up(2, "cleo")
        self.receive(1, batch("anna", 1, 2))
        bad = raw_batch("anna", 3, count, body, encoding)
        effects = self.receive(1, bad)
        self.assertEqual(of(effects, Close) + of(effects, Deliver), [])
        self.assertEqual(self.frames(effects, 2), [bad.relayed()])
        self.assertEqual(self.node.counts["poisoned"], 1)
        # The batch counts as received: duplicates are found, and later batches are delivered.
        self.assertEqual(of(self.receive(2, bad), Poisoned), [])
        after = self.receive(1, batch("anna", 3 + count))
        self.assertEqual(self.delivered(after), [(3 + count, [3 + count])])
        [found] = of(effects, Poisoned)
        self.assertEqual((found.origin, found.epoch), (origin_of("anna"), 1))
        self.assertEqual((found.first, found.last), (3, 2 + count))
        return found

    def test_bodies_that_cannot_be_read(self) -> None:
        head = b"\x91\x93\x00\x00"  # one message, of one packet
        for body in (
            b"",
            b"\xc1",
            b"\xc0",
            head,
            head + b"\x91" * 33 + b"\x01",  # too deep
            head + b"\x91" * 5000 + b"\x01",  # deeper than a stack
            head + b"\xd4\x05\x00",  # an extension
            head + b"\xd6\xff\x00\x00\x00\x00",  # a time
            head + b"\x81\x81\x01\x01\x01",  # a dict as a key
            head + b"\xa1\xff",  # text that is none
            head + b"\x01\x01",  # something behind the end
            head + b"\xdd\xff\xff\xff\xff",  # a list that claims four thousand million items
            b"\x91\x91\x00",
            b"\x91\x93\x00\x05\x01",  # a type of the protocol's own
            b"\x91\xdd\x00\x0f\xff\x02\x00\x00" + b"\x90" * 0xFFF00,  # 1 MiB of empty lists
        ):
            self.poisoned(1, body)

    def test_wrong_count(self) -> None:
        for count in (1, 3):
            self.poisoned(count, join_entries(entries("a", "b")))

    def test_unknown_encoding(self) -> None:
        found = self.poisoned(2, join_entries(entries("a", "b")), encoding=1)
        self.assertIn("encoding 1", found.error.detail)

    def test_poison_behind_a_hole_is_told_when_its_turn_comes(self) -> None:
        self.up(1)
        poison = raw_batch("anna", 2, 1, b"\xc1")
        effects = self.receive(1, batch("anna", 3), poison)
        self.assertEqual(of(effects, Poisoned), [])
        effects = self.receive(1, batch("anna", 1))
        self.assertEqual(self.delivered(effects), [(1, [1]), (3, [3])])
        self.assertEqual([found.first for found in of(effects, Poisoned)], [2])


class TestGaps(NodeTestCase):
    """If nothing fills a hole, the application is told of a gap, and gets what is behind it."""

    def set_for_gaps(self, effects: list[Effect]) -> list[float]:
        """The times that the timer for gaps is set to."""
        return [timer.at for timer in of(effects, SetTimer) if timer.timer is Timer.GAPS]

    def test_a_hole_sets_the_timer_once(self) -> None:
        self.make(gap_patience=30.0)
        self.up(1)
        effects = self.receive(1, batch("anna", 1), batch("anna", 3), batch("bert", 5))
        self.assertEqual(self.set_for_gaps(effects), [80.0])

    def test_without_a_hole_there_is_no_timer(self) -> None:
        self.up(1)
        self.assertEqual(self.set_for_gaps(self.receive(1, batch("anna", 1))), [])

    def test_the_gap_is_told_and_what_is_behind_it_delivered(self) -> None:
        self.make(gap_patience=30.0)
        self.up(1)
        self.receive(1, batch("anna", 1), batch("anna", 4, 2))
        effects = self.fire(Timer.GAPS, 80.0)
        self.assertEqual(of(effects, GapFound), [GapFound(origin_of("anna"), 1, 2, 3)])
        self.assertEqual(self.delivered(effects), [(4, [4, 5])])
        self.assertEqual([deliver.link for deliver in of(effects, Deliver)], [0])
        self.assertEqual(self.set_for_gaps(effects), [])

    def test_what_waited_behind_it_keeps_to_the_limit_of_the_history(self) -> None:
        """A fuzzer found this: nothing was given up before the next batch came."""
        self.make(gap_patience=30.0, history_bytes=4000)
        self.up(1)
        self.receive(1, *(batch("anna", at) for at in range(2, 12)))
        delivered = self.delivered(self.fire(Timer.GAPS, 80.0))
        self.assertEqual([first for first, _ in delivered], list(range(2, 12)))
        self.assertLessEqual(self.node.footprint()["held_bytes"], 4000)

    def test_a_timer_that_fires_early_looks_again(self) -> None:
        self.make(gap_patience=30.0)
        self.up(1)
        cut("anna", 2)
        self.receive(1, batch("anna", 3))
        self.now = 60.0
        # The first hole is filled, and another has come meanwhile: no second timer is set for it.
        effects = self.receive(1, batch("anna", 1, 2), batch("anna", 9))
        self.assertEqual(self.set_for_gaps(effects), [])
        self.assertEqual(self.set_for_gaps(self.fire(Timer.GAPS, 80.0)), [90.0])
        self.assertEqual(of(self.fire(Timer.GAPS, 90.0), GapFound), [GapFound(origin_of("anna"), 1, 4, 8)])

    def test_a_timer_whose_hole_was_filled_does_nothing(self) -> None:
        self.up(1)
        self.receive(1, batch("anna", 2), batch("anna", 1))
        self.assertEqual(self.fire(Timer.GAPS, 100.0), [])
        self.assertEqual(len(self.set_for_gaps(self.receive(1, batch("anna", 4)))), 1)

    def test_a_timer_on_time_finds_its_hole_due_whatever_the_floats(self) -> None:
        random = Random(2)
        for _ in range(200):
            self.make(gap_patience=random.uniform(1, 40))
            self.now = random.uniform(0, 20)
            self.up(1)
            [at] = self.set_for_gaps(self.receive(1, batch("anna", 2)))
            effects = self.fire(Timer.GAPS, at)
            self.assertEqual(len(of(effects, GapFound)), 1)
            self.assertEqual(self.set_for_gaps(effects), [])

    def test_claims_are_no_evidence(self) -> None:
        # Otherwise anyone could make a node tell of gaps in messages that were never sent.
        self.make(gap_patience=30.0)
        self.up(1)
        self.receive(1, batch("anna", 1), have("anna", 1, 50))
        self.assertEqual(of(self.wait(500), GapFound), [])

    def test_what_was_not_to_be_delivered_is_no_gap(self) -> None:
        self.make(gap_patience=30.0)
        self.up(1, "bert", entry("anna", 5, low=1, count=2))
        self.receive(1, batch("anna", 4, 2), batch("anna", 6))
        effects = self.wait(61)
        self.assertEqual((of(effects, GapFound), self.delivered(effects)), ([], [(6, [6])]))

    def test_what_is_behind_a_gap_is_announced_to_those_who_never_had_it(self) -> None:
        # The batch was not pushed to them, since it did not join on: nobody else would tell them of it.
        self.make(gap_patience=30.0, compare_interval=1000)
        self.up(1, "anna")
        self.up(2, "bert")
        self.receive(1, batch("anna", 1), batch("anna", 4, 2))
        effects = self.wait(31)
        self.assertEqual(self.haves(effects, 2), [("anna", 4, 5)])

    def test_own_messages_close_the_longest_idle_stream_too(self) -> None:
        self.make(open_streams=1)
        self.up(1)
        self.receive(1, batch("anna", 1), batch("anna", 3))
        effects = self.publish("a")
        self.assertEqual(of(effects, GapFound), [GapFound(origin_of("anna"), 1, 2, 2)])
        self.assertEqual(self.delivered(effects), [(3, [3])])


class TestEquivocation(NodeTestCase):
    """If an author signs two messages under one number, the first counts; this is told once."""

    def setUp(self) -> None:
        super().setUp()
        self.up(1, "bert")
        self.up(2, "cleo")
        self.other = raw_batch("anna", 1, 1, join_entries(entries("another")))

    def test_the_first_wins(self) -> None:
        self.receive(1, batch("anna", 1))
        effects = self.receive(2, self.other)
        self.assertEqual(of(effects, Equivocation), [Equivocation(origin_of("anna"), 1, 1)])
        self.assertEqual((self.delivered(effects), self.sent(effects, 1)), ([], []))
        self.assertEqual(self.closed(effects), [])

    def test_it_is_told_once(self) -> None:
        self.receive(1, batch("anna", 1))
        self.receive(2, self.other)
        self.assertEqual(of(self.receive(2, self.other), Equivocation), [])

    def test_while_it_waits_as_well(self) -> None:
        self.receive(1, batch("anna", 3))
        effects = self.receive(2, raw_batch("anna", 3, 1, join_entries(entries("another"))))
        self.assertEqual(of(effects, Equivocation), [Equivocation(origin_of("anna"), 1, 3)])

    def test_nothing_more_of_that_run_is_asked_for_held_or_pushed_on(self) -> None:
        self.receive(1, batch("anna", 1))
        self.receive(2, self.other)
        self.assertEqual(self.asked(self.receive(2, have("anna", 1, 5)) + self.wait(5)), [])
        effects = self.receive(1, batch("anna", 2))
        self.assertEqual((self.delivered(effects), self.sent(effects, 2)), ([], []))
        self.assertEqual((self.node.counts["forked"], self.closed(effects)), (1, []))

    def test_a_false_signature_is_no_equivocation(self) -> None:
        # Otherwise anyone could stop the repair of any stream.
        self.receive(1, batch("anna", 1))
        effects = self.receive(2, forged(self.other))
        self.assertEqual(of(effects, Equivocation), [])
        self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])

    def test_another_cut_of_messages_that_came_is_not_looked_at(self) -> None:
        self.receive(1, batch("anna", 1, 3))
        self.assertEqual(of(self.receive(2, batch("anna", 2, 2)), Equivocation), [])
