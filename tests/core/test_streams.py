"""Streams: exactly once and in order, whatever comes when; and bounded, whatever comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from random import Random
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import batch, origin_of
from twisted_mesh.core.events import GapFound
from twisted_mesh.core.streams import Ready, Streams, cost
from twisted_mesh.wire.native import Batch, SignedBatch

ANNA = (origin_of("anna"), 1)
MANY = 20_000

T = TypeVar("T")


def spans(ready: list[Ready]) -> list[tuple[int, int]]:
    """The first and the last message of each that can be delivered."""
    return [(item.start, item.batch.last) for item in ready]


class StreamsTestCase(SynchronousTestCase):
    """Streams with room for a hundred small batches."""

    def setUp(self) -> None:
        self.streams = self.make()

    def make(self, *, room: int = 100, open_limit: int = 10, closed_limit: int = 10) -> Streams:
        """Streams whose waiting room holds *room* batches of one message each."""
        limit = room * cost(batch("anna", 100))
        return Streams(waiting_limit=limit, open_limit=open_limit, closed_limit=closed_limit)

    def take(
        self, first: int, count: int = 1, *, name: str = "anna", now: float = 0
    ) -> list[tuple[int, int]]:
        """Take a batch if a node would; what it lets be delivered."""
        signed = batch(name, first, count)
        if self.streams.is_duplicate(signed.batch) or not self.streams.has_room(signed):
            return []
        return spans(self.streams.take(signed, now))

    def lost(self, now: float, patience: float = 30) -> list[tuple[int, int, list[tuple[int, int]]]]:
        """The gaps that are given up, each with what follows."""
        given_up = list(self.streams.give_up(now, patience))
        return [(gap.first, gap.last, spans(ready)) for gap, ready in given_up]


class TestOrder(StreamsTestCase):
    """In order, without a hole, without a repetition."""

    def test_messages_are_delivered_in_order(self) -> None:
        self.assertEqual(self.take(1, 3), [(1, 3)])
        self.assertEqual(self.take(4), [(4, 4)])
        self.assertEqual(self.streams.head(ANNA), 4)

    def test_a_run_never_met_has_the_head_0(self) -> None:
        self.assertEqual(self.streams.head(ANNA), 0)
        self.assertEqual(self.streams.footprint(), dict.fromkeys(self.streams.footprint(), 0))

    def test_runs_of_one_origin_are_streams_of_their_own(self) -> None:
        self.take(1, 3)
        later = batch("anna", 1, 3, epoch=2)
        self.assertFalse(self.streams.is_duplicate(later.batch))
        self.assertEqual(spans(self.streams.take(later, 0)), [(1, 3)])

    def test_what_waits_behind_a_hole_is_delivered_when_it_is_filled(self) -> None:
        self.assertEqual(self.take(6, 2), [])
        self.assertEqual(self.take(3, 3), [])
        self.assertEqual(self.take(9), [])
        self.assertEqual(self.take(1, 2), [(1, 2), (3, 5), (6, 7)])
        self.assertEqual(self.take(8), [(8, 8), (9, 9)])
        self.assertEqual(self.streams.footprint()["waiting_bytes"], 0)

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
        self.take(9)
        self.assertEqual(self.take(1, 9), [(1, 9)])
        self.assertEqual(self.streams.footprint()["waiting_batches"], 0)
        self.assertEqual(self.streams.waiting_bytes, 0)

    def test_any_order_gives_the_same(self) -> None:
        for seed in range(30):
            self.setUp()
            firsts = list(range(1, 60, 3))
            Random(seed).shuffle(firsts)
            got = [span for first in firsts for span in self.take(first, 3)]
            self.assertEqual(got, [(first, first + 2) for first in sorted(firsts)])


class TestDuplicates(StreamsTestCase):
    """What has come already, told from numbers alone."""

    def duplicate(self, first: int, count: int = 1) -> bool:
        """Whether the batch is one."""
        return self.streams.is_duplicate(batch("anna", first, count).batch)

    def test_at_or_under_the_head(self) -> None:
        self.take(1, 5)
        self.assertTrue(self.duplicate(1, 5))
        self.assertTrue(self.duplicate(3))
        self.assertTrue(self.duplicate(5))
        self.assertFalse(self.duplicate(5, 2))
        self.assertFalse(self.duplicate(6))

    def test_waiting_behind_a_hole(self) -> None:
        self.take(10, 3)
        self.take(20, 3)
        self.assertTrue(self.duplicate(10, 3))
        self.assertTrue(self.duplicate(10, 2))
        self.assertTrue(self.duplicate(11, 2))
        self.assertTrue(self.duplicate(21))
        self.assertFalse(self.duplicate(9))
        self.assertFalse(self.duplicate(10, 4))
        self.assertFalse(self.duplicate(13))
        self.assertFalse(self.duplicate(23))

    def test_a_longer_one_takes_the_place_of_what_waits(self) -> None:
        self.take(10, 2)
        self.take(10, 5)
        self.assertEqual(self.streams.footprint()["waiting_batches"], 1)
        self.assertEqual(self.streams.waiting_bytes, cost(batch("anna", 10, 5)))
        self.assertEqual(self.take(1, 9), [(1, 9), (10, 14)])


class TestPatience(StreamsTestCase):
    """A hole is given up, told, and what is behind it goes on."""

    def test_a_hole_is_given_up_after_patience(self) -> None:
        self.take(1, now=0)
        self.take(5, 2, now=10)
        self.assertEqual(self.streams.oldest_hole, 10)
        self.assertEqual(self.lost(39), [])
        self.assertEqual(self.lost(40), [(2, 4, [(5, 6)])])
        self.assertIsNone(self.streams.oldest_hole)
        self.assertEqual(self.streams.head(ANNA), 6)

    def test_patience_is_measured_from_the_last_progress(self) -> None:
        self.take(9, now=0)
        self.take(1, now=20)
        self.assertEqual(self.streams.oldest_hole, 20)
        self.assertEqual(self.lost(49), [])
        self.assertEqual(self.lost(50), [(2, 8, [(9, 9)])])

    def test_what_joins_behind_the_hole_is_no_progress(self) -> None:
        self.take(9, now=0)
        self.take(10, now=20)
        self.take(12, now=25)
        self.assertEqual(self.streams.oldest_hole, 0)

    def test_a_lower_arrival_is_progress(self) -> None:
        self.take(9, now=0)
        self.take(5, now=20)
        self.assertEqual(self.streams.oldest_hole, 20)

    def test_each_hole_has_a_patience_of_its_own(self) -> None:
        self.take(3, now=0)
        self.take(6, now=5)
        self.take(9, now=20)
        self.assertEqual(self.lost(35), [(1, 2, [(3, 3)]), (4, 5, [(6, 6)])])
        self.assertEqual(self.streams.oldest_hole, 20)
        self.assertEqual(self.lost(50), [(7, 8, [(9, 9)])])

    def test_a_longer_batch_from_the_same_start_is_no_progress(self) -> None:
        self.take(9, now=0)
        self.take(9, 3, now=20)
        self.assertEqual(self.streams.oldest_hole, 0)

    def test_giving_up_is_no_progress(self) -> None:
        self.take(3, now=0)
        self.take(6, now=1)
        self.assertEqual(self.lost(30), [(1, 2, [(3, 3)])])
        self.assertEqual(self.lost(31), [(4, 5, [(6, 6)])])

    def test_the_oldest_hole_is_that_of_any_stream(self) -> None:
        self.take(3, name="anna", now=7)
        self.take(3, name="bert", now=4)
        self.assertEqual(self.streams.oldest_hole, 4)
        self.assertEqual(len(self.lost(36)), 1)
        self.assertEqual(self.streams.oldest_hole, 7)

    def test_what_was_given_up_comes_too_late(self) -> None:
        self.take(3, now=0)
        self.lost(30)
        self.assertEqual(self.take(1, 2), [])
        self.assertTrue(self.streams.is_duplicate(batch("anna", 1, 2).batch))

    def test_patience_to_the_tick(self) -> None:
        # Whatever the floats: a hole is due exactly when the timer set for it fires.
        random = Random(1)
        for _ in range(300):
            self.setUp()
            since, patience = random.uniform(0, 20), random.uniform(0, 40)
            self.take(2, now=since)
            self.assertEqual(len(self.lost(since + patience, patience)), 1)


class TestBounds(StreamsTestCase):
    """Every table has an end."""

    def test_what_has_no_room_to_wait_is_not_kept(self) -> None:
        self.streams = self.make(room=3)
        for first in (110, 112, 114, 116, 2):
            self.take(first)
        self.assertEqual(self.streams.footprint()["waiting_batches"], 3)
        self.assertFalse(self.streams.is_duplicate(batch("anna", 116).batch))

    def test_the_waiting_room_is_one_for_all_streams(self) -> None:
        self.streams = self.make(room=3)
        for name in ("anna", "bert", "cleo", "dora"):
            self.take(110, name=name)
        self.assertEqual(self.streams.footprint()["waiting_batches"], 3)

    def test_what_joins_its_head_needs_no_room(self) -> None:
        self.streams = self.make(room=1)
        self.take(110)
        self.assertEqual(self.take(1, 50), [(1, 50)])
        self.assertEqual(self.take(40, 20), [(51, 59)])

    def test_room_is_given_back(self) -> None:
        self.streams = self.make(room=2)
        self.take(103)
        self.take(105)
        self.assertEqual(self.take(107), [])
        self.take(1, 102)
        self.assertEqual(self.streams.waiting_bytes, cost(batch("anna", 105)))
        self.take(107)
        self.assertEqual(self.streams.footprint()["waiting_batches"], 2)
        self.lost(1, 1)
        self.assertEqual(self.streams.waiting_bytes, 0)
        self.assertEqual(self.streams.head(ANNA), 107)

    def test_the_longest_idle_stream_is_closed_and_keeps_its_head(self) -> None:
        self.streams = self.make(open_limit=2)
        self.take(1, 4, name="anna")
        self.take(1, 5, name="bert")
        self.take(5, 1, name="anna")
        self.take(1, 6, name="cleo")
        self.assertEqual(list(self.streams.close_idle()), [])
        self.assertEqual([stream.run[0] for stream in self.streams], [origin_of("anna"), origin_of("cleo")])
        self.assertEqual(self.streams.head((origin_of("bert"), 1)), 5)
        self.assertTrue(self.streams.is_duplicate(batch("bert", 5).batch))
        self.assertFalse(self.streams.is_duplicate(batch("bert", 6).batch))
        self.assertEqual(self.streams.footprint()["closed_streams"], 1)

    def test_a_closed_stream_opens_again_at_its_head(self) -> None:
        self.streams = self.make(open_limit=1)
        self.take(1, 4)
        self.take(1, name="bert")
        list(self.streams.close_idle())
        self.assertEqual(self.take(3, 4), [(5, 6)])
        self.assertEqual(list(self.streams.close_idle()), [])
        footprint = self.streams.footprint()
        self.assertEqual((footprint["open_streams"], footprint["closed_streams"]), (1, 1))
        self.assertEqual(self.streams.head(ANNA), 6)

    def test_closing_a_stream_with_a_hole_tells_the_gap(self) -> None:
        self.streams = self.make(open_limit=1)
        self.take(1)
        self.take(3)
        self.take(6, 2)
        self.take(1, name="bert")
        closed = [(gap, spans(ready)) for gap, ready in self.streams.close_idle()]
        self.assertEqual(closed, [(GapFound(*ANNA, 2, 2), [(3, 3)]), (GapFound(*ANNA, 4, 5), [(6, 7)])])
        self.assertEqual(self.streams.head(ANNA), 7)
        self.assertEqual(self.streams.footprint()["waiting_bytes"], 0)
        self.assertIsNone(self.streams.oldest_hole)

    def test_the_oldest_closed_head_is_forgotten(self) -> None:
        self.streams = self.make(open_limit=1, closed_limit=2)
        for name in ("anna", "bert", "cleo", "dora"):
            self.take(1, name=name)
            list(self.streams.close_idle())
        self.assertEqual(self.streams.footprint()["closed_streams"], 2)
        self.assertEqual(self.streams.head(ANNA), 0)
        self.assertEqual(self.streams.head((origin_of("bert"), 1)), 1)


class TestBase(StreamsTestCase):
    """Where a node that joins begins."""

    def test_what_is_up_to_the_base_has_come(self) -> None:
        self.streams.start_at(ANNA, 5, 0)
        self.assertTrue(self.streams.is_duplicate(batch("anna", 2, 4).batch))
        self.assertEqual(self.take(4, 4), [(6, 7)])

    def test_a_base_makes_an_open_stream(self) -> None:
        self.streams.start_at(ANNA, 5, 0)
        self.assertEqual([(one.run, one.head) for one in self.streams], [(ANNA, 5)])

    def test_more_bases_than_streams_may_be_open(self) -> None:
        self.streams = self.make(open_limit=2, closed_limit=2)
        names = ["anna", "bert", "cleo", "dora", "emil"]
        for base, name in enumerate(names, 1):
            self.streams.start_at((origin_of(name), 1), base, 0)
        # Those told last were in use last.
        self.assertEqual([stream.head for stream in self.streams], [4, 5])
        self.assertEqual([self.streams.head((origin_of(name), 1)) for name in names], [0, 2, 3, 4, 5])


class TestCost(StreamsTestCase):
    """No order of arrival costs more than its bytes, tens of thousands of batches or not."""

    def setUp(self) -> None:
        self.streams = self.make(room=2 * MANY)

    def fill(self, firsts: Iterable[int]) -> None:
        """Take a message for each of *firsts*, all at the time 0, as a node does."""
        for first in firsts:
            signed = SignedBatch(Batch(*ANNA, first, 1, 0, 0, b""), b"", b"")
            self.assertFalse(self.streams.is_duplicate(signed.batch) or not self.streams.has_room(signed))
            self.streams.take(signed, 0)

    def quick(self, do: Callable[[], T]) -> T:
        """Assert that *do* takes less than a second of computing, and far less where nobody measures it."""
        began = time.process_time()
        result = do()
        self.assertLess(time.process_time() - began, 1)
        return result

    def test_what_waits_drains_at_once(self) -> None:
        self.fill(range(2, MANY))
        ready = self.quick(lambda: self.take(1))
        self.assertEqual(len(ready), MANY - 1)
        self.assertEqual(self.streams.waiting_bytes, 0)

    def test_arrival_in_reverse_is_no_slower(self) -> None:
        self.quick(lambda: self.fill(range(MANY, 0, -1)))
        self.assertEqual(self.streams.head(ANNA), MANY)

    def test_holes_are_given_up_at_once(self) -> None:
        self.fill(range(2, 2 * MANY, 2))
        self.assertEqual(len(self.quick(lambda: self.lost(30))), MANY - 1)

    def test_streams_whose_holes_are_filled_cost_nothing_more(self) -> None:
        self.streams = self.make(room=2, open_limit=MANY)
        for number in range(MANY // 2):
            for first in (2, 1):
                signed = SignedBatch(Batch(b"", number, first, 1, 0, 0, b""), b"", b"")
                self.streams.take(signed, 0)
        self.quick(lambda: [self.streams.oldest_hole for _ in range(2000)])

    def test_the_longest_idle_stream_is_found_at_once(self) -> None:
        self.streams = self.make(open_limit=MANY, closed_limit=MANY)

        def meet() -> None:
            for number in range(2 * MANY):
                self.streams.start_at((b"", number), 1, 0)

        self.quick(meet)
        self.assertEqual(self.streams.footprint()["closed_streams"], MANY)
