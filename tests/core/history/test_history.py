"""The history delivers each message once and in order, holds batches for others, and is bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import TypeVar

from tests.core.history_case import ANNA, BERT, ME, HistoryCase
from tests.core.network import batch, origin_of
from tests.support.length import at_length
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import GapFound
from twisted_mesh.core.history.batches import cost
from twisted_mesh.core.history.history import BETWEEN_HOLES, SHARE, History
from twisted_mesh.core.history.stream import Ready
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Batch, SignedBatch

MANY = at_length(10_000, 5_000)
SMALL = cost(batch("anna", 100))  # bytes of a batch of one message, roughly: a number takes 1 to 5

T = TypeVar("T")
Spans = list[tuple[int, int]]
Gaps = list[tuple[int, int, Spans]]


def spans(ready: Iterable[Ready]) -> Spans:
    """The first and the last message of each batch that can be delivered."""
    return [(item.start, item.signed.batch.last) for item in ready]


def told(given_up: Iterator[tuple[GapFound, list[Ready]]]) -> Gaps:
    """The gaps that are given up, each with the batches that can be delivered behind it."""
    return [(gap.first, gap.last, spans(ready)) for gap, ready in given_up]


def bare(run: tuple[bytes, int], first: int, count: int = 1) -> SignedBatch:
    """A batch without a body, which nobody has signed: it is quick to make."""
    header = Batch(*run, first, count, 0, 0, bytes(32))
    return SignedBatch(header, bytes(64), codec.pack(header), b"")


BARE = cost(bare(ANNA, 1))  # a number above 127 takes one to four bytes more


class HistoryTestCase(HistoryCase):
    """A history with room for a hundred small batches that wait, and ten streams."""

    def setUp(self) -> None:
        self.make()

    def make(self, *, room: int = 100, **limits: float) -> None:
        """Begin anew: *room* batches of one message may wait."""
        limits = {"waiting_bytes": room * SMALL, "open_streams": 10, "closed_streams": 10, **limits}
        self.history = History(MeshConfig(**limits))  # type: ignore[arg-type]

    def take(self, first: int, count: int = 1, *, name: str = "anna", now: float = 0) -> Spans:
        """Take a batch if a node would; the spans that can be delivered then."""
        signed = batch(name, first, count)
        if self.history.is_duplicate(signed.batch) or not self.history.has_room(signed):
            return []
        return spans(self.history.add(signed, now))

    def evict(self, *, own_taken: int = 0, now: float = 0) -> Gaps:
        """Keep to the limits of bytes and streams; the gaps that follow."""
        return told(self.history.evict(ME, own_taken, now))

    def age(self, now: float, *, own_taken: int = 0) -> None:
        """Keep to the limit of time."""
        self.history.age(now, ME, own_taken)

    def give_up(self, now: float, patience: float = 30) -> Gaps:
        """Give up holes that are older than *patience*; the gaps that follow."""
        return told(self.history.give_up(now, patience))


class TestEnded(HistoryTestCase):
    """A run that had ended before this node came."""

    def test_nothing_more_of_it_is_delivered(self) -> None:
        self.take(1, 2)
        self.history.end(ANNA)
        self.assertEqual(self.take(3), [])
        self.assertEqual(self.history.head(ANNA), 3)

    def test_one_that_is_closed_stays_so(self) -> None:
        self.history.end(ANNA)
        self.assertIsNone(self.history.get(ANNA))


class TestOrder(HistoryTestCase):
    """Messages are delivered in order, without a hole, and once."""

    def test_messages_are_delivered_in_order(self) -> None:
        self.assertEqual(self.take(1, 3), [(1, 3)])
        self.assertEqual(self.take(4), [(4, 4)])
        self.assertEqual(self.history.head(ANNA), 4)

    def test_a_run_never_met_has_the_head_0(self) -> None:
        self.assertEqual(self.history.head(ANNA), 0)
        self.assertIsNone(self.history.get(ANNA))
        self.assertEqual(self.history.footprint(), dict.fromkeys(self.history.footprint(), 0))

    def test_runs_of_one_origin_are_streams_of_their_own(self) -> None:
        self.take(1, 3)
        later = batch("anna", 1, 3, epoch=2)
        self.assertFalse(self.history.is_duplicate(later.batch))
        self.assertEqual(spans(self.history.add(later, 0)), [(1, 3)])

    def test_what_waits_behind_a_hole_is_delivered_when_it_is_filled(self) -> None:
        self.assertEqual(self.take(6, 2), [])
        self.assertEqual(self.take(3, 3), [])
        self.assertEqual(self.take(9), [])
        self.assertEqual(self.take(1, 2), [(1, 2), (3, 5), (6, 7)])
        self.assertEqual(self.take(8), [(8, 8), (9, 9)])
        self.assertEqual(self.history.waiting_bytes, 0)

    def test_a_batch_that_straddles_the_head_is_taken_from_behind_it(self) -> None:
        self.take(1, 5)
        self.assertEqual(self.take(3, 6), [(6, 8)])

    def test_what_waits_and_straddles_is_taken_from_behind_the_head(self) -> None:
        self.take(4, 5)
        self.take(2, 4)
        self.assertEqual(self.take(1, 6), [(1, 6), (7, 8)])

    def test_what_waits_and_is_overtaken_is_not_delivered(self) -> None:
        self.take(3)
        self.take(5)
        self.assertEqual(self.take(1, 9), [(1, 9)])
        self.assertEqual(self.history.footprint()["held_batches"], 1)
        self.assertEqual(self.history.waiting_bytes, 0)

    def test_any_order_gives_the_same(self) -> None:
        for seed in range(30):
            self.make()
            firsts = list(range(1, 60, 3))
            Random(seed).shuffle(firsts)
            got = [span for first in firsts for span in self.take(first, 3)]
            self.assertEqual(got, [(first, first + 2) for first in sorted(firsts)])

    def test_a_verified_batch_shows_how_far_a_stream_goes(self) -> None:
        # Announcements are believed up to this message and a bit further.
        self.take(7, 3)
        self.take(1, 2)
        self.assertEqual((self.stream().head, self.stream().high), (2, 9))


class TestDuplicates(HistoryTestCase):
    """Numbers alone tell whether a batch has come already."""

    def assert_duplicates(self, *batches: tuple[int, int], are: bool = True) -> None:
        """Assert whether *batches*, each a first message and a count, are duplicates."""
        for first, count in batches:
            self.assertIs(self.history.is_duplicate(batch("anna", first, count).batch), are, first)

    def test_at_or_under_the_head(self) -> None:
        self.take(1, 5)
        self.assert_duplicates((1, 5), (3, 1), (5, 1))
        self.assert_duplicates((5, 2), (6, 1), are=False)

    def test_what_was_given_up_again_is_still_one(self) -> None:
        self.take(1, 5)
        self.take(6)
        self.age(1000)
        self.assert_duplicates((1, 5), (6, 1))

    def test_waiting_behind_a_hole(self) -> None:
        self.take(10, 3)
        self.take(20, 3)
        self.assert_duplicates((10, 3), (10, 2), (11, 2), (21, 1))
        self.assert_duplicates((9, 1), (10, 4), (13, 1), (23, 1), are=False)

    def test_a_longer_one_takes_the_place_of_what_waits(self) -> None:
        self.take(10, 2)
        self.take(10, 5)
        self.assertEqual(len(self.stream()), 1)
        self.assertEqual(self.history.waiting_bytes, cost(batch("anna", 10, 5)))
        self.assertEqual(self.take(1, 9), [(1, 9), (10, 14)])

    def test_what_waits_within_another_goes(self) -> None:
        # Otherwise a number in both batches would be looked for in the shorter one, and asked for again.
        self.take(12, 2)
        self.take(17, 2)
        self.take(19, 5)
        self.take(10, 10)
        self.assertEqual(len(self.stream()), 2)
        self.assertEqual(
            self.history.waiting_bytes, cost(batch("anna", 10, 10)) + cost(batch("anna", 19, 5))
        )
        self.assert_duplicates((13, 6))
        self.assertEqual(self.served(15, 16), [(10, 19)])

    def test_another_of_the_same_number_can_be_compared(self) -> None:
        # This shows whether an author has signed two different messages under one number.
        self.take(1, 2)
        self.take(9)
        self.assertEqual(self.stream().batches.get(1), batch("anna", 1, 2))
        self.assertEqual(self.stream().batches.get(9), batch("anna", 9))
        self.assertIsNone(self.stream().batches.get(2))
        self.assertFalse(self.stream().equivocated)


class TestHeld(HistoryTestCase):
    """``low..head`` is held whole, and what is asked for is served."""

    def test_all_to_the_head_is_held(self) -> None:
        self.take(1, 3)
        self.take(4, 2)
        self.take(9)
        self.assertEqual(self.marks(), (1, 5, 3))
        self.assertEqual(self.history.held_bytes, cost(batch("anna", 1, 3)) + cost(batch("anna", 4, 2)))

    def test_whole_batches_are_served_from_the_one_with_the_number(self) -> None:
        for first in (1, 4, 7, 10):
            self.take(first, 3)
        self.assertEqual(self.served(1, 12), [(1, 3), (4, 6), (7, 9), (10, 12)])
        self.assertEqual(self.served(5, 7), [(4, 6), (7, 9)])
        self.assertEqual(self.served(6, 6), [(4, 6)])
        self.assertEqual(self.served(12, 99), [(10, 12)])
        self.assertEqual(self.served(13, 99), [])

    def test_what_waits_is_served_too(self) -> None:
        # Otherwise two nodes with different holes could fill nothing for each other.
        self.take(1, 3)
        self.take(7, 3)
        self.take(12)
        self.assertEqual(self.served(1, 20), [(1, 3), (7, 9), (12, 12)])
        self.assertEqual(self.served(8, 11), [(7, 9)])
        self.assertEqual(self.served(4, 6), [])

    def test_an_answer_ends_at_its_bytes_but_is_never_empty(self) -> None:
        for first in range(1, 30, 3):
            self.take(first, 3)
        size = batch("anna", 1, 3).size
        self.assertEqual(self.served(1, 99, 1), [(1, 3)])
        self.assertEqual(self.served(1, 99, 3 * size), [(1, 3), (4, 6), (7, 9)])
        self.assertEqual(self.served(1, 99, 3 * size - 1), [(1, 3), (4, 6)])

    def test_a_larger_batch_that_straddles_takes_the_place_of_what_lies_within(self) -> None:
        # Otherwise messages in the larger batch alone are announced, and never found in the shorter one.
        self.take(1, 2)
        self.take(3, 2)
        self.take(5, 2)
        self.take(3, 7)
        self.assertEqual(self.marks(), (1, 9, 2))
        self.assertEqual(self.served(8, 9), [(3, 9)])
        self.assertEqual(self.history.held_bytes, cost(batch("anna", 1, 2)) + cost(batch("anna", 3, 7)))

    def test_a_longer_batch_of_the_same_start_takes_the_place_of_the_shorter(self) -> None:
        self.take(1, 2)
        self.assertEqual(self.take(1, 6), [(3, 6)])
        self.assertEqual(self.marks(), (1, 6, 1))
        self.assertEqual(self.served(5, 5), [(1, 6)])

    def test_a_held_batch_that_overlaps_is_given_up_without_a_hole(self) -> None:
        self.take(1, 5, now=0)
        self.take(4, 5, now=10)
        self.age(605)
        self.assertEqual(self.marks(), (6, 8, 1))
        self.assertEqual(self.served(6, 8), [(4, 8)])

    def test_a_stream_of_which_nothing_is_held_begins_anew_behind_its_head(self) -> None:
        self.take(1, 3)
        self.take(9, now=100)
        self.age(605)
        self.assertEqual(self.marks(), (4, 3, 1))
        self.take(4, 2, now=605)
        self.assertEqual(self.marks(), (4, 5, 2))

    def test_a_batch_that_straddles_such_a_head_is_held_whole(self) -> None:
        self.take(1, 3)
        self.take(9, now=100)
        self.age(605)
        self.take(2, 4, now=605)
        self.assertEqual(self.marks(), (2, 5, 2))
        self.assertEqual(self.served(2, 2), [(2, 5)])


class TestMissing(HistoryTestCase):
    """Which range of messages to ask for next."""

    def missing(self, low: int, high: int) -> tuple[int, int] | None:
        """The lowest range of *low* to *high* that is missing."""
        return self.stream().next_missing(low, high)

    def test_nothing_is_missing_up_to_the_head(self) -> None:
        self.take(1, 5)
        self.assertIsNone(self.missing(1, 5))
        self.assertIsNone(self.missing(1, 3))
        self.assertEqual(self.missing(1, 8), (6, 8))

    def test_what_the_other_no_longer_holds_is_not_asked_for(self) -> None:
        self.take(1, 5)
        self.assertEqual(self.missing(8, 10), (8, 10))
        self.assertIsNone(self.missing(11, 10))

    def test_what_waits_is_not_asked_for_again(self) -> None:
        self.take(1, 2)
        self.take(5, 2)
        self.take(7, 2)
        self.take(12, 2)
        self.assertEqual(self.missing(1, 20), (3, 4))
        self.assertEqual(self.missing(4, 20), (4, 4))
        self.assertEqual(self.missing(5, 20), (9, 11))
        self.assertEqual(self.missing(6, 20), (9, 11))
        self.assertEqual(self.missing(8, 10), (9, 10))
        self.assertIsNone(self.missing(5, 8))
        self.assertIsNone(self.missing(6, 7))
        self.assertIsNone(self.missing(12, 13))
        self.assertEqual(self.missing(12, 20), (14, 20))

    def test_what_waits_and_overlaps_is_no_hole(self) -> None:
        self.take(5, 4)
        self.take(7, 4)
        self.assertEqual(self.missing(5, 20), (11, 20))
        self.assertEqual(self.missing(1, 20), (1, 4))


class TestPatience(HistoryTestCase):
    """A hole is given up after a time; its gap is told, and what is behind it is delivered."""

    def test_a_hole_is_given_up_after_patience(self) -> None:
        self.take(1, now=0)
        self.take(5, 2, now=10)
        self.assertEqual(self.history.oldest_hole, 10)
        self.assertEqual(self.give_up(39), [])
        self.assertEqual(self.give_up(40), [(2, 4, [(5, 6)])])
        self.assertIsNone(self.history.oldest_hole)
        self.assertEqual(self.history.footprint()["holed_streams"], 0)
        self.assertEqual(self.history.head(ANNA), 6)

    def test_patience_is_measured_from_the_last_progress(self) -> None:
        self.take(9, now=0)
        self.take(1, now=20)
        self.assertEqual(self.history.oldest_hole, 20)
        self.assertEqual(self.give_up(49), [])
        self.assertEqual(self.give_up(50), [(2, 8, [(9, 9)])])

    def test_what_joins_behind_the_hole_is_no_progress(self) -> None:
        self.take(9, now=0)
        self.take(10, now=20)
        self.take(12, now=25)
        self.assertEqual(self.history.oldest_hole, 0)

    def test_a_longer_one_behind_the_hole_is_no_progress(self) -> None:
        # Otherwise an author could sign the same start at a greater length again and again.
        self.take(9, now=0)
        self.take(9, 3, now=20)
        self.assertEqual(self.history.oldest_hole, 0)

    def test_a_lower_arrival_is_progress(self) -> None:
        self.take(9, now=0)
        self.take(5, now=20)
        self.assertEqual(self.history.oldest_hole, 20)

    def test_each_hole_has_a_patience_of_its_own(self) -> None:
        self.take(3, now=0)
        self.take(6, now=5)
        self.take(9, now=20)
        self.assertEqual(self.give_up(35), [(1, 2, [(3, 3)])])
        self.assertEqual(self.give_up(36), [(4, 5, [(6, 6)])])
        self.assertEqual(self.history.oldest_hole, 20)
        self.assertEqual(self.give_up(50), [(7, 8, [(9, 9)])])

    def test_what_lies_between_two_holes_is_there_to_be_asked_for(self) -> None:
        # If both were given up together, the batches between them would be gone before a neighbour asks.
        self.take(3, now=0)
        self.take(6, now=0)
        self.give_up(40)
        self.assertEqual((self.stream().low, self.stream().head), (3, 3))
        self.assertEqual(self.give_up(40 + BETWEEN_HOLES / 2), [])
        self.assertEqual(self.give_up(40 + BETWEEN_HOLES), [(4, 5, [(6, 6)])])

    def test_the_oldest_hole_is_that_of_any_stream(self) -> None:
        self.take(3, name="anna", now=7)
        self.take(3, name="bert", now=4)
        self.assertEqual(self.history.oldest_hole, 4)
        self.assertEqual(len(self.give_up(36)), 1)
        self.assertEqual(self.history.oldest_hole, 7)

    def test_what_was_given_up_comes_too_late(self) -> None:
        self.take(3, now=0)
        self.give_up(30)
        self.assertEqual(self.take(1, 2), [])
        self.assertTrue(self.history.is_duplicate(batch("anna", 1, 2).batch))

    def test_what_lies_below_a_gap_is_not_announced_with_what_lies_above(self) -> None:
        # Otherwise a range with a hole would be asked for, and the answer would be no progress.
        self.take(1, 3)
        self.take(7, 2)
        self.take(9)
        self.take(12)
        self.assertEqual(self.give_up(30), [(4, 6, [(7, 8), (9, 9)])])
        self.assertEqual(self.give_up(31), [(10, 11, [(12, 12)])])
        self.assertEqual(self.marks(), (12, 12, 4))
        self.assertEqual((self.served(1, 11), self.served(1, 12)), ([], [(12, 12)]))
        self.assertEqual(self.stream().first_since(100, 31), 12)  # nor is it part of a replay
        self.history.taken(ANNA, 9)
        self.assertEqual(self.marks(), (12, 12, 1))
        self.assertEqual(self.history.held_bytes, cost(batch("anna", 12)))
        self.assertEqual(self.history.waiting_bytes, 0)

    def test_but_is_read_by_who_is_behind_within_the_limits(self) -> None:
        self.take(1, 3, now=0)
        self.take(4, now=1)
        self.take(7, 2, now=2)
        self.take(11, now=3)
        self.give_up(40)
        self.give_up(41)
        self.assertEqual(self.history.held_bytes, sum(map(cost, self.readable())))
        self.assertEqual(self.spans(), [(1, 3), (4, 4), (7, 8), (11, 11)])
        self.history.taken(ANNA, 3)
        self.assertEqual(self.spans(), [(4, 4), (7, 8), (11, 11)])
        self.age(601)
        self.assertEqual(self.spans(), [(7, 8), (11, 11)])
        self.history.discard(ANNA)
        self.assertEqual(self.history.held_bytes, 0)
        self.history.taken(ANNA, 12)  # a gap that is told when its stream is gone
        self.assertIsNone(self.history.get(ANNA))

    def test_and_is_the_first_to_go_where_there_is_no_room(self) -> None:
        self.make(history_bytes=4 * BARE)
        for first in (1, 2, 3, 10):
            self.history.add(bare(ANNA, first), 0)
        self.give_up(30)
        self.evict()
        self.assertEqual(self.spans(), [(1, 1), (2, 2), (3, 3), (10, 10)])
        self.history.add(bare(ANNA, 11), 30)
        self.evict()
        self.assertEqual(self.spans(), [(3, 3), (10, 10), (11, 11)])
        self.assertEqual((self.marks(), self.history.held_bytes), ((10, 11, 3), 3 * BARE))

    def test_a_batch_across_such_a_hole_takes_its_place(self) -> None:
        self.take(1, 3)
        self.take(4, 2)
        self.take(9)
        self.give_up(30)
        self.assertEqual(self.take(4, 8), [(10, 11)])
        self.assertEqual(self.spans(), [(1, 3), (4, 11)])
        self.assertEqual(self.served(9, 9), [(4, 11)])
        self.age(1000)
        self.assertEqual((self.history.held_bytes, self.history.get(ANNA)), (0, None))

    def test_what_was_for_others_alone_is_kept_for_nobody_below_a_hole(self) -> None:
        self.history.start_at(ANNA, 0, 6, 0)
        for first in (1, 4, 6):
            self.take(first, 2)
        self.take(12)
        self.give_up(30)
        self.give_up(31)
        self.assertEqual(self.spans(), [(6, 7), (12, 12)])

    def readable(self) -> list[SignedBatch]:
        """All that a consumer here reads that has taken nothing."""
        got: list[SignedBatch] = []
        while some := list(self.stream().read(got[-1].batch.last + 1 if got else 1, 10**6, 1)):
            got += some
        return got

    def spans(self) -> list[tuple[int, int]]:
        """The first and the last message of each batch that such a consumer reads."""
        return [(signed.batch.first, signed.batch.last) for signed in self.readable()]


class TestBounds(HistoryTestCase):
    """Every table is bounded."""

    def test_what_has_no_room_to_wait_is_not_kept(self) -> None:
        self.make(room=3)
        for first in (110, 112, 114, 116):
            self.take(first)
        self.assertEqual(len(self.stream()), 3)
        self.assertFalse(self.history.is_duplicate(batch("anna", 116).batch))

    def test_nor_what_lies_behind_a_hole_of_one_message(self) -> None:
        self.make(room=1)
        self.take(110)
        self.take(1)
        self.assertEqual(self.take(3), [])
        self.assertEqual(len(self.stream()), 2)

    def test_nothing_is_left_of_what_is_given_up(self) -> None:
        for first in (1, 2, 4, 5, 9, 11):
            self.take(first, 2)
        stream = self.stream()
        self.give_up(30)
        self.age(1000)
        self.assertEqual((len(stream), len(stream.batches._by_first)), (0, 0))

    def test_the_waiting_room_is_one_for_all_streams(self) -> None:
        self.make(room=3)
        for name in ("anna", "bert", "cleo", "dora"):
            self.take(110, name=name)
        self.assertEqual(self.history.footprint()["held_batches"], 3)

    def test_what_joins_its_head_needs_no_room(self) -> None:
        self.make(room=1)
        self.take(110)
        self.assertEqual(self.take(1, 50), [(1, 50)])
        self.assertEqual(self.take(40, 20), [(51, 59)])

    def test_room_is_given_back(self) -> None:
        self.make(room=2)
        self.take(103)
        self.take(105)
        self.assertEqual(self.take(107), [])
        self.take(1, 102)
        self.assertEqual(self.history.waiting_bytes, cost(batch("anna", 105)))
        self.take(107)
        self.assertEqual(len(self.stream()), 4)
        self.give_up(1, 1)
        self.assertEqual(self.history.waiting_bytes, cost(batch("anna", 107)))
        self.give_up(2, 1)
        self.assertEqual(self.history.waiting_bytes, 0)
        self.assertEqual(self.history.head(ANNA), 107)

    def test_the_longest_idle_stream_is_closed_and_keeps_its_head(self) -> None:
        self.make(open_streams=2)
        self.take(1, 4, name="anna")
        self.take(1, 5, name="bert")
        self.take(5, 1, name="anna")
        self.take(1, 6, name="cleo")
        self.assertEqual(self.evict(), [])
        self.assertEqual([stream.run[0] for stream in self.history], [origin_of("anna"), origin_of("cleo")])
        self.assertEqual(self.history.head(BERT), 5)
        self.assertTrue(self.history.is_duplicate(batch("bert", 5).batch))
        self.assertFalse(self.history.is_duplicate(batch("bert", 6).batch))
        self.assertEqual(self.history.footprint()["closed_streams"], 1)
        self.assertEqual(self.history.held_bytes, sum(stream.batches.held_bytes for stream in self.history))

    def test_an_author_with_too_many_runs_loses_its_own_not_anothers(self) -> None:
        # A key can sign runs without end: otherwise one author would close the streams of all others.
        self.make(open_streams=2 * SHARE, closed_streams=100)
        for first in range(1, 3):
            for name in ("anna", "bert", "cleo"):
                self.take(first, name=name)
        for epoch in range(1, 5 * SHARE):
            self.history.add(batch("dora", 1, epoch=epoch), 0)
            self.evict()
        footprint = self.history.footprint()
        self.assertEqual(
            (footprint["open_streams"], footprint["closed_streams"]), (2 * SHARE, 3 * SHARE + 2)
        )
        for name in ("anna", "bert", "cleo"):
            self.assertIsNotNone(self.history.get((origin_of(name), 1)), name)
        epochs = [stream.run[1] for stream in self.history if stream.run[0] == origin_of("dora")]
        self.assertEqual(epochs, list(range(5 * SHARE))[-len(epochs) :])  # of its own the longest idle went

    def test_within_its_share_an_author_loses_no_run_for_having_several(self) -> None:
        self.make(open_streams=2 * SHARE)
        self.take(1, name="anna")
        self.history.add(batch("dora", 1, epoch=1), 0)
        self.history.add(batch("dora", 1, epoch=2), 0)
        for number in range(2 * SHARE):
            self.history.add(batch(f"author {number}", 1), 0)
            self.evict()
        self.assertEqual(self.history.footprint()["open_streams"], 2 * SHARE)
        self.assertEqual({stream.run[0] for stream in self.history} & {ANNA[0], origin_of("dora")}, set())

    def test_the_own_stream_is_never_closed(self) -> None:
        self.make(open_streams=1)
        self.take(1, 4, name="me")
        self.take(1, 5)
        self.assertEqual(self.evict(), [])
        self.assertEqual([stream.run for stream in self.history], [ME])
        self.take(6, 5)
        self.assertEqual(self.evict(), [])
        self.assertEqual([stream.run for stream in self.history], [ME])

    def test_a_closed_stream_opens_again_at_its_head(self) -> None:
        self.make(open_streams=1)
        self.take(1, 4)
        self.take(1, name="bert")
        self.evict()
        self.assertEqual(self.take(3, 4), [(5, 6)])
        self.assertEqual(self.evict(), [])
        footprint = self.history.footprint()
        self.assertEqual((footprint["open_streams"], footprint["closed_streams"]), (1, 1))
        self.assertEqual(self.marks(), (3, 6, 1))

    def test_closing_a_stream_with_a_hole_tells_the_gap(self) -> None:
        self.make(open_streams=1)
        self.take(1)
        self.take(3)
        self.take(6, 2)
        self.take(1, name="bert")
        self.assertEqual(self.evict(), [(2, 2, [(3, 3)]), (4, 5, [(6, 7)])])
        self.assertEqual(self.history.head(ANNA), 7)
        self.assertEqual(self.history.waiting_bytes, 0)
        self.assertIsNone(self.history.oldest_hole)

    def test_the_oldest_closed_head_is_forgotten(self) -> None:
        self.make(open_streams=1, closed_streams=2)
        for name in ("anna", "bert", "cleo", "dora"):
            self.take(1, name=name)
            self.evict()
        self.assertEqual(self.history.footprint()["closed_streams"], 2)
        self.assertEqual(self.history.head(ANNA), 0)
        self.assertEqual(self.history.head(BERT), 1)

    def test_made_up_authors_push_out_no_closed_head_of_a_known_one(self) -> None:
        self.make(open_streams=1)
        self.take(1)
        for number in range(100):
            self.history.add(batch(f"minted {number}", 1), 0, host="192.0.2.1")
            self.evict()
        self.assertEqual(self.history.footprint()["closed_streams"], 10)
        self.assertTrue(self.history.is_duplicate(batch("anna", 1).batch))


class TestEviction(HistoryTestCase):
    """The batches that are held are bounded by bytes and age."""

    def fill(self, name: str, count: int, *, now: float = 0) -> None:
        """Take *count* batches of one message of *name*."""
        for first in range(1, count + 1):
            self.history.add(bare((origin_of(name), 1), first), now)

    def held(self, name: str) -> int:
        """Batches held of *name*."""
        return len(self.stream((origin_of(name), 1)))

    def test_all_is_held_up_to_the_limit_and_beyond_it_a_sixteenth_is_given_up_at_once(self) -> None:
        # Otherwise each later batch would look for the largest stream again.
        self.make(history_bytes=32 * BARE)
        self.fill("anna", 32)
        self.evict()
        self.assertEqual(self.marks(), (1, 32, 32))
        self.history.add(bare(ANNA, 33), 0)
        self.evict()
        self.assertEqual(self.marks(), (4, 33, 30))
        self.assertEqual(self.history.held_bytes, 30 * BARE)

    def test_no_author_pushes_out_anothers(self) -> None:
        self.make(history_bytes=32 * BARE)
        self.fill("bert", 5)
        self.fill("anna", 28)
        self.evict()
        self.assertEqual((self.held("anna"), self.held("bert")), (25, 5))
        self.fill("cleo", 14)
        self.evict()
        self.assertEqual([self.held(name) for name in ("anna", "bert", "cleo")], [12, 5, 13])

    def test_nor_with_many_runs(self) -> None:
        self.make(history_bytes=32 * BARE, open_streams=100)
        self.fill("bert", 8)
        for epoch in range(1, 29):
            self.history.add(bare((origin_of("anna"), epoch), 1), 0)
        self.evict()
        self.assertEqual(self.held("bert"), 8)
        self.assertEqual(self.history.held_bytes, 30 * BARE)

    def test_thousands_of_made_up_authors_push_out_nothing_of_a_known_one(self) -> None:
        self.make(history_bytes=400 * BARE, open_streams=10_000)
        for first in range(1, 101):
            self.history.add(bare(ANNA, first), 0.0, "192.0.2.1")
        self.history.add(bare(BERT, 1), 590.0, "192.0.2.2")
        self.age(599.0)
        self.assertEqual(
            (self.stream().introducer, self.stream(BERT).introducer), ("192.0.2.1", "192.0.2.2")
        )
        for first in range(101, 201):
            self.history.add(bare(ANNA, first), 599.0, "192.0.2.1")
        self.age(600.0)
        self.assertEqual((self.stream().introducer, self.stream(BERT).introducer), (None, "192.0.2.2"))
        for number in range(1000):
            self.history.add(bare((origin_of(f"minted {number}"), 1), 1), 601.0, "192.0.2.3")
            self.evict()
        self.assertEqual((self.held("anna"), self.held("bert")), (100, 1))
        self.assertLessEqual(self.history.held_bytes, 400 * BARE)

    def test_the_own_runs_are_known_whoever_brought_them(self) -> None:
        self.history.add(bare(ME, 1), 0.0, "192.0.2.1")
        self.age(1.0)
        self.assertIsNone(self.stream(ME).introducer)

    def test_of_own_runs_an_earlier_one_gives_up_first(self) -> None:
        self.make(history_bytes=32 * BARE)
        self.fill("me", 20)
        for first in range(1, 15):
            self.history.add(bare((ME[0], ME[1] + 1), first), 0)
        self.evict(own_taken=0)
        self.assertEqual(self.marks(ME), (1, 20, 20))
        self.assertEqual(len(self.stream((ME[0], ME[1] + 1))), 10)

    def test_own_messages_no_neighbour_has_are_never_given_up(self) -> None:
        self.make(history_bytes=32 * BARE)
        self.fill("me", 40)
        self.fill("anna", 3)
        self.evict(own_taken=5)
        self.assertEqual(self.marks(ME), (6, 40, 35))
        self.assertEqual(self.held("anna"), 0)
        self.evict(own_taken=5)
        self.assertEqual(self.marks(ME), (6, 40, 35))
        self.evict(own_taken=40)
        self.assertEqual(self.marks(ME), (11, 40, 30))

    def test_an_own_batch_of_which_a_neighbour_has_a_part_is_not_given_up(self) -> None:
        self.make(history_bytes=BARE)
        self.history.add(bare(ME, 1, 5), 0)
        self.history.add(bare(ME, 6, 5), 0)
        self.evict(own_taken=4)
        self.assertEqual(self.marks(ME), (1, 10, 2))
        self.age(1000, own_taken=4)
        self.assertEqual(self.marks(ME), (1, 10, 2))

    def test_what_waits_does_not_count(self) -> None:
        # Waiting batches have a bound of their own: otherwise one that fills a hole would push out others.
        self.make(room=100, history_bytes=32 * BARE)
        for first in range(10, 60):
            self.history.add(bare(ANNA, first), 0)
        self.evict()
        self.assertEqual(self.held("anna"), 50)

    def test_what_is_too_old_is_given_up(self) -> None:
        self.take(1, 3, now=0)
        self.take(4, now=100)
        self.take(5, now=200)
        self.age(599)
        self.assertEqual(self.marks(), (1, 5, 3))
        self.age(600)
        self.assertEqual(self.marks(), (4, 5, 2))
        self.age(750)
        self.assertEqual(self.marks(), (5, 5, 1))
        self.assertEqual(self.history.held_bytes, cost(batch("anna", 5)))

    def test_a_stream_of_which_nothing_is_left_is_closed(self) -> None:
        self.take(1, 3)
        self.take(1, 2, name="bert", now=100)
        self.age(600)
        self.assertEqual([stream.run for stream in self.history], [BERT])
        self.assertEqual(self.history.head(ANNA), 3)
        self.assertEqual(self.history.footprint()["closed_streams"], 1)

    def test_the_own_stream_stays_open(self) -> None:
        # Its numbers go on, however long the node has published nothing.
        self.take(1, 3, name="me")
        self.age(1000, own_taken=3)
        self.assertEqual(self.marks(ME), (4, 3, 0))

    def test_a_stream_with_something_waiting_stays_open(self) -> None:
        self.take(1)
        self.take(3)
        self.age(1000)
        self.assertEqual(self.marks(), (2, 1, 1))

    def test_a_stream_met_lately_stays_open(self) -> None:
        self.history.start_at(ANNA, 0, 5, 500)
        self.age(1000)
        self.assertEqual(self.marks(), (1, 0, 0))
        self.age(1100)
        self.assertIsNone(self.history.get(ANNA))


class TestBase(HistoryTestCase):
    """The base of a stream: a node that joins delivers only what lies above it."""

    def test_what_is_out_of_reach_counts_as_come(self) -> None:
        self.history.start_at(ANNA, 5, 5, 0)
        self.assertTrue(self.history.is_duplicate(batch("anna", 2, 4).batch))
        self.assertEqual(self.take(4, 4), [(6, 7)])

    def test_what_is_up_to_the_base_is_held_and_not_delivered(self) -> None:
        # Otherwise a newcomer between two groups would hide from one the messages of the other.
        self.history.start_at(ANNA, 2, 6, 0)
        self.assertEqual(self.take(3, 3), [])
        self.assertEqual(self.take(6, 3), [(7, 8)])
        self.assertEqual(self.marks(), (3, 8, 2))
        self.assertEqual(self.served(3, 4), [(3, 5)])

    def test_what_waits_up_to_the_base_is_not_delivered_either(self) -> None:
        self.history.start_at(ANNA, 0, 6, 0)
        self.take(4, 2)
        self.take(6, 2)
        self.assertEqual(self.take(1, 3), [(7, 7)])

    def test_a_hole_up_to_the_base_is_no_gap(self) -> None:
        # The application was not to get these messages, so it misses nothing.
        self.history.start_at(ANNA, 0, 6, 0)
        self.take(3, 2)
        self.take(6)
        self.take(9)
        self.assertEqual(self.give_up(30), [(7, 2, []), (7, 5, []), (7, 8, [(9, 9)])])

    def test_of_a_hole_across_the_base_only_what_lies_above_is_a_gap(self) -> None:
        self.history.start_at(ANNA, 0, 6, 0)
        self.take(9)
        self.assertEqual(self.give_up(30), [(7, 8, [(9, 9)])])

    def test_an_open_stream_keeps_its_own_marks(self) -> None:
        self.take(1, 2)
        self.history.start_at(ANNA, 5, 5, 0)
        self.assertEqual(self.take(3, 2), [(3, 4)])

    def test_a_closed_stream_delivers_nothing_again(self) -> None:
        self.make(open_streams=1)
        self.take(1, 4)
        self.take(1, name="bert")
        self.evict()
        self.history.start_at(ANNA, 0, 0, 0)
        self.assertEqual(self.take(3, 4), [(5, 6)])

    def test_a_base_that_was_not_reached_outlasts_the_stream(self) -> None:
        # Otherwise a newcomer whose pull was slow would deliver messages from before it came.
        self.history.start_at(ANNA, 0, 6, 0)
        self.age(1000)
        self.assertIsNone(self.history.get(ANNA))
        self.assertEqual(self.take(1, 5), [])
        self.assertEqual(self.take(6, 3), [(7, 8)])

    def test_more_bases_than_streams_may_be_open(self) -> None:
        self.make(open_streams=2, closed_streams=2)
        names = ["anna", "bert", "cleo", "dora", "emil"]
        for base, name in enumerate(names, 1):
            self.history.start_at((origin_of(name), 1), base, base, 0)
            self.evict()
        # The streams that were begun last were in use last.
        self.assertEqual([stream.head for stream in self.history], [4, 5])
        self.assertEqual([self.history.head((origin_of(name), 1)) for name in names], [0, 2, 3, 4, 5])


def processor_time(do: Callable[[], None]) -> float:
    """Seconds of the processor that *do* takes."""
    began = time.process_time()
    do()
    return time.process_time() - began


class TestFloors(HistoryTestCase):
    """Nothing is taken of runs below the floor of their author."""

    def raised(self, floor: int) -> Gaps:
        """Raise Anna's floor; the gaps that follow."""
        return told(self.history.raise_floor(ANNA[0], floor))

    def test_runs_below_it_are_taken_nowhere(self) -> None:
        self.assertEqual(self.raised(5), [])
        self.assertEqual(self.raised(3), [])
        for epoch, is_void in ((4, True), (5, False)):
            run = (ANNA[0], epoch)
            self.assertEqual(self.history.past.is_void(run), is_void)
            self.assertEqual(self.history.is_duplicate(batch("anna", 1, epoch=epoch).batch), is_void)
            self.assertEqual(self.history.next_missing(run, 1, 9), None if is_void else (1, 9))
            self.history.hinted(run, 3, 0)
            self.assertEqual(self.history.get(run) is None, is_void)

    def test_what_was_held_of_them_is_discarded_and_what_was_missing_is_a_gap(self) -> None:
        self.take(1, 2)
        self.take(5)
        self.take(1, name="bert")
        self.assertEqual(self.raised(1), [])
        self.assertEqual(self.raised(2), [(3, 4, [(5, 5)])])
        footprint = self.history.footprint()
        self.assertEqual((footprint["open_streams"], footprint["waiting_bytes"]), (1, 0))
        self.assertEqual(self.take(9), [])

    def closed(self, *epochs: int, name: str = "anna") -> Gaps:
        """Let runs come and be closed; the gaps that follow."""
        for epoch in epochs:
            self.history.add(batch(name, 1, epoch=epoch), 0)
            self.history.discard((origin_of(name), epoch))
        return self.evict()

    def test_runs_without_end_push_out_no_head_of_another_and_nothing_comes_twice(self) -> None:
        self.make(closed_runs=3, closed_streams=1000)
        self.closed(1, name="bert")
        self.closed(*range(100, 200), 50)
        self.assertEqual(self.history.footprint()["closed_streams"], 4)
        for name, epochs in (("anna", range(50, 200)), ("bert", (1,))):
            for epoch in epochs:
                self.assertTrue(self.history.is_duplicate(batch(name, 1, epoch=epoch).batch), epoch)
        self.assertFalse(self.history.is_duplicate(batch("anna", 1, epoch=200).batch))

    def test_a_lower_run_that_is_open_goes_before_a_higher_one_that_is_closed(self) -> None:
        self.make(closed_runs=3)
        for first in (1, 3):
            self.take(first)
        self.assertEqual(self.closed(2, 3, 4), [])
        self.assertEqual(self.closed(5), [(2, 2, [(3, 3)])])
        self.assertEqual(
            [self.history.past.is_void((ANNA[0], epoch)) for epoch in (1, 2, 3)], [True, True, False]
        )

    def test_runs_that_only_others_have_claimed_make_no_run_void(self) -> None:
        self.make(closed_runs=3)
        self.take(1)
        for epoch in range(5, 15):
            self.history.start_at((ANNA[0], epoch), 9, 9, 0)
            self.history.discard((ANNA[0], epoch))
        self.assertEqual((self.evict(), self.history.past.is_void(ANNA)), ([], False))

    def test_own_runs_are_forgotten_and_not_void(self) -> None:
        self.make(closed_runs=1)
        self.take(1, name="me")
        self.closed(2, 3, 4, name="me")
        self.assertEqual((self.history.head(ME), self.history.past.is_void(ME)), (1, False))


class TestCost(HistoryTestCase):
    """No order of arrival costs more than its bytes, tens of thousands of batches or not."""

    def setUp(self) -> None:
        self.make(room=2 * MANY, history_bytes=10**9, open_streams=MANY, closed_streams=MANY)

    def fill(self, firsts: Iterable[int]) -> None:
        """Take a message for each of *firsts*, all at the time 0, as a node does."""
        for first in firsts:
            signed = bare(ANNA, first)
            self.assertFalse(self.history.is_duplicate(signed.batch) or not self.history.has_room(signed))
            self.history.add(signed, 0)

    def look_up(self) -> None:
        """As many of the cheapest questions as there are batches: the yardstick of :meth:`quick`."""
        history, asked = History(MeshConfig()), bare(ANNA, 1).batch
        for _ in range(MANY):
            history.is_duplicate(asked)

    def quick(self, do: Callable[[], T]) -> T:
        """Assert that *do* takes less than 100 times the yardstick; a fifth of that is normal.

        Seconds would measure the machine, and whether coverage is: the yardstick bears the same.
        """
        yardstick = min(processor_time(self.look_up) for _ in range(5))
        results: list[T] = []
        self.assertLess(processor_time(lambda: results.append(do())), 100 * yardstick)
        return results[0]

    def test_what_waits_drains_at_once(self) -> None:
        self.fill(range(2, MANY))
        ready = self.quick(lambda: self.take(1))
        self.assertEqual(len(ready), MANY - 1)
        self.assertEqual(self.history.waiting_bytes, 0)

    def test_arrival_in_reverse_is_no_slower(self) -> None:
        self.quick(lambda: self.fill(range(MANY, 0, -1)))
        self.assertEqual(self.history.head(ANNA), MANY)

    def test_holes_are_given_up_one_as_fast_as_another(self) -> None:
        self.fill(range(2, 2 * MANY, 2))

        def give_all_up() -> int:
            return sum(len(self.give_up(second)) for second in range(30, 30 + MANY))

        self.assertEqual(self.quick(give_all_up), MANY - 1)

    def test_the_next_hole_is_found_at_once(self) -> None:
        self.fill(range(2, 2 * MANY, 2))
        stream = self.stream()

        def look() -> None:
            for first in range(3, 2 * MANY - 2, 2):
                self.assertEqual(stream.next_missing(first, 10**6), (first, first))

        self.quick(look)

    def test_an_answer_is_found_at_once(self) -> None:
        self.fill([*range(1, MANY), *range(MANY + 1, 2 * MANY)])
        stream = self.stream()

        def serve() -> None:
            for first in (*range(1, MANY, 20), *range(MANY + 1, 2 * MANY, 20)):
                (one,) = stream.serve(first, first, 0)
                self.assertEqual(one.batch.first, first)

        self.quick(serve)

    def test_a_long_stream_ages_at_once(self) -> None:
        self.make(history_bytes=10**9)
        self.fill(range(1, 6 * MANY))
        self.quick(lambda: self.age(1000))
        self.assertEqual(self.history.held_bytes, 0)

    def test_the_largest_of_many_streams_is_found_at_once(self) -> None:
        self.make(history_bytes=3 * MANY * BARE, open_streams=MANY)
        for number in range(1, 3 * MANY + 1):
            self.history.add(bare((b"", number % (MANY // 2)), 1 + number // (MANY // 2)), 0)

        def go_on() -> None:
            for number in range(1, 1000):
                self.history.add(bare((b"x", 1), number), 0)
                self.evict()

        self.quick(go_on)
        self.assertLess(self.history.held_bytes, 3 * MANY * BARE)

    def test_the_longest_idle_stream_is_found_at_once(self) -> None:
        self.make(open_streams=MANY // 2, closed_streams=MANY // 2)

        def meet() -> None:
            for number in range(MANY):
                self.history.start_at((b"", number), 1, 1, 0)
                self.evict()

        self.quick(meet)
        self.assertEqual(self.history.footprint()["closed_streams"], MANY // 2)


class TestOnItsWay(HistoryTestCase):
    """The patience for a hole begins anew when something is on its way to fill it."""

    def test_the_time_of_a_hole_begins_anew_with_each_sign(self) -> None:
        self.take(1, now=1)
        self.take(5, now=2)
        self.history.wait_on(ANNA, 20)
        self.assertEqual(self.history.oldest_hole, 20)
        self.assertEqual(self.give_up(49.9), [])
        self.assertEqual(self.give_up(50), [(2, 4, [(5, 5)])])

    def test_since_when_nothing_came_is_not_changed_by_that(self) -> None:
        self.take(1, now=1)
        self.take(5, now=2)
        self.history.wait_on(ANNA, 20)
        self.assertEqual(dict(self.history.holes()), {ANNA: 2})

    def test_each_stream_by_itself(self) -> None:
        for name in ("anna", "bert"):
            self.take(1, name=name, now=1)
            self.take(5, name=name, now=2)
        self.history.wait_on(ANNA, 20)
        self.assertEqual(self.history.oldest_hole, 2)
        self.assertEqual(len(self.give_up(32)), 1)

    def test_of_what_is_not_here_nothing_is_waited_for(self) -> None:
        self.history.wait_on(ANNA, 20)
        self.assertIsNone(self.history.oldest_hole)

    def test_which_run_has_a_hole_is_known(self) -> None:
        self.take(1, now=1)
        self.assertFalse(self.history.has_hole(ANNA))
        self.take(5, now=2)
        self.assertTrue(self.history.has_hole(ANNA))
        self.take(2, 3, now=3)
        self.assertFalse(self.history.has_hole(ANNA))

    def test_what_is_lacking_is_known(self) -> None:
        self.assertEqual(self.history.next_missing(ANNA, 1, 1), (1, 1))
        self.take(1, 3)
        self.take(7, 3)
        lacking = [
            (first, last)
            for first in range(1, 12)
            for last in range(first, 12)
            if self.history.next_missing(ANNA, first, last)
        ]
        expected = [(first, last) for first in range(1, 12) for last in range(first, 12)]
        have = {1, 2, 3, 7, 8, 9}
        self.assertEqual(
            lacking, [one for one in expected if not have.issuperset(range(one[0], one[1] + 1))]
        )

    def test_and_of_a_stream_of_which_only_the_head_is_kept(self) -> None:
        self.make(open_streams=1)
        self.take(1, 3, now=1)
        self.take(1, name="bert", now=2)
        self.evict()
        self.assertIsNone(self.history.get(ANNA))
        missing = [self.history.next_missing(ANNA, *span) for span in ((1, 3), (3, 3), (3, 4), (4, 4))]
        self.assertEqual(missing, [None, None, (4, 4), (4, 4)])
