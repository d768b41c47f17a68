"""The store: it has what was flushed, and gives it up by its rules."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import count
from random import Random
from threading import Event, Thread

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length
from tests.support.logs import logged
from tests.support.stores import (
    ALL,
    ANNA,
    BERT,
    ME,
    MIB,
    NOW,
    Model,
    batch_of,
    batches_in,
    contents,
    flush_of,
    folder_of,
    marks_of,
    open_store,
    size_of,
)
from twisted_mesh.core.events import Behind
from twisted_mesh.core.history.storage import AuthorMarks, Flush, Marks, Restored
from twisted_mesh.core.history.stream import StreamId
from twisted_mesh.errors import StoreError
from twisted_mesh.storage import catalogue as catalogue
from twisted_mesh.storage import reader, sqlite_file
from twisted_mesh.storage import sqlite as module
from twisted_mesh.storage.catalogue import ROW_BYTES
from twisted_mesh.storage.sqlite import SqliteStore
from twisted_mesh.wire.broadcast import SignedBatch


class StoreCase(SynchronousTestCase):
    """A store in a folder of its own, and a clock."""

    def setUp(self) -> None:
        self.folder = folder_of(self)
        self.path = self.folder / "history"
        self.now = NOW
        self._stores: list[SqliteStore] = []
        self.addCleanup(self.close)

    def open(self, **options: object) -> SqliteStore:
        """Close the store, and open it again."""
        self.close()
        store = open_store(self.path, **{"wall_ms": lambda: self.now, **options})
        self._stores.append(store)
        return store

    def holding(self, *batches: SignedBatch, **options: object) -> SqliteStore:
        """Close the store, open it again, and flush *batches* to it."""
        store = self.open(**options)
        store.flush(flush_of(*batches))
        return store

    def close(self) -> None:
        """Close the store."""
        while self._stores:
            self._stores.pop().close()

    def held(self, store: SqliteStore, run: StreamId = ANNA) -> list[int]:
        """The first numbers of all that can be read of *run*."""
        return [signed.batch.first for signed in batches_in(store.read(run, 1, ALL, 2**40))]


class TestFlushing(StoreCase):
    def test_a_new_store_holds_nothing(self) -> None:
        store = self.open()
        self.assertEqual(store.restored, Restored([], [], False))
        self.assertEqual(set(store.footprint().values()), {0})
        self.assertEqual(self.held(store), [])
        self.assertIsNone(store.first_since(ANNA, 10))

    def test_what_was_flushed_is_there_again(self) -> None:
        store = self.open()
        anna = [
            batch_of(ANNA, 1, 3, hops=255),
            batch_of(ANNA, 4, 1, size=0),
            batch_of(ANNA, 5, 1, size=MIB),
        ]
        bert = [batch_of(BERT, 9, 7)]
        marks = [Marks(ANNA, 5, 1, 0, 4, True, 6), Marks(BERT, 15, 9, 20, 0, False, 1)]
        flushed = store.flush(flush_of(*anna, *bert, marks=marks, closed=[(ME, 3)], settled=True))
        self.assertEqual(list(flushed.lows), [])
        self.assertTrue(list(store.read(ANNA, 1, ALL, 2**40)) == anna)
        opened = self.open()
        self.assertTrue(list(opened.read(ANNA, 1, ALL, 2**40)) == anna)  # without a difference of 1 MiB
        self.assertEqual(list(opened.read(BERT, 1, ALL, 2**40)), bert)
        self.assertEqual(sorted(opened.restored.marks), sorted(marks))
        self.assertEqual((opened.restored.closed, opened.restored.settled), ([(ME, 3)], True))
        (closed,) = opened.restored.closed
        self.assertIsInstance(closed[0], tuple)
        self.assertIs(opened.restored.marks[0].equivocated, True)
        size = sum(map(size_of, anna + bert))
        footprint = {
            "stored_streams": 2,
            "stored_closed": 1,
            "stored_authors": 0,
            "stored_batches": 4,
            "stored_bytes": size,
            "stored_consumers": 0,
        }
        self.assertEqual(opened.footprint(), footprint)

    def test_marks_without_batches_stay(self) -> None:
        self.open().flush(flush_of(marks=[marks_of(ANNA, 8, low=9)]))
        self.assertEqual(list(self.open().restored.marks), [marks_of(ANNA, 8, low=9)])

    def test_a_batch_that_covers_others_takes_their_place(self) -> None:
        store = self.holding(batch_of(ANNA, 1, 3), batch_of(ANNA, 4, 2), batch_of(ANNA, 6, 2))
        longer = batch_of(ANNA, 3, 9)
        store.flush(flush_of(longer))
        self.assertEqual(list(store.read(ANNA, 1, ALL, 2**40)), [batch_of(ANNA, 1, 3), longer])
        self.assertEqual(store.footprint()["stored_bytes"], size_of(batch_of(ANNA, 1, 3)) + size_of(longer))
        self.assertEqual(list(store.read(ANNA, 3, 3, 2**40)), [longer])

    def test_a_new_low_makes_what_lies_below_void(self) -> None:
        store = self.holding(*(batch_of(ANNA, first, 2) for first in (1, 3, 5)))
        store.flush(flush_of(batch_of(ANNA, 20), marks=[marks_of(ANNA, 20, low=20, taken=20)]))
        self.assertEqual(self.held(store), [20])
        store.flush(flush_of(batch_of(ANNA, 21, 3), marks=[marks_of(ANNA, 23, low=20, taken=23)]))
        # A batch that reaches above the low is held.
        store.flush(flush_of(marks=[marks_of(ANNA, 23, low=22, taken=23)]))
        self.assertEqual(self.held(store), [21])
        store = self.open()
        self.assertEqual(list(store.restored.marks), [marks_of(ANNA, 23, low=22, taken=23)])
        store.flush(flush_of(marks=[marks_of(ANNA, 30, low=31, taken=30)]))
        self.assertEqual(self.held(store), [])
        self.assertEqual(store.footprint()["stored_bytes"], 0)
        self.assertEqual(list(self.open().restored.marks), [marks_of(ANNA, 30, low=31, taken=30)])

    def test_what_lies_below_a_new_low_is_there_for_who_has_not_taken_it(self) -> None:
        store = self.holding(*(batch_of(ANNA, first, 2) for first in (1, 3, 5)))
        store.flush(flush_of(batch_of(ANNA, 20), marks=[marks_of(ANNA, 20, low=20, taken=2)]))
        self.assertEqual(self.held(store), [3, 5, 20])
        # The same below two holes, with nothing stored behind the second.
        store.flush(flush_of(marks=[marks_of(ANNA, 30, low=31, taken=2)]))
        store = self.open()
        self.assertEqual(list(store.restored.marks), [marks_of(ANNA, 30, low=31, taken=2)])
        self.assertEqual(self.held(store), [3, 5, 20])
        for taken, held in ((5, [5, 20, 31]), (6, [20, 31]), (20, [31])):
            marks = [marks_of(ANNA, 31, low=31, taken=taken)]
            store.flush(flush_of(*[batch_of(ANNA, 31)] * (taken == 5), marks=marks))
            self.assertEqual(self.held(store), held)

    def test_what_lies_below_a_new_low_goes_by_the_limits_as_all_does(self) -> None:
        now = NOW
        store = self.holding(batch_of(ANNA, 1), wall_ms=lambda: now, seconds_limit=100.0)
        now += 60_000
        store.flush(flush_of(batch_of(ANNA, 9), marks=[marks_of(ANNA, 9, low=9)], at=now))
        self.assertEqual(self.held(store), [1, 9])
        now += 60_000
        self.assertEqual(list(store.flush(flush_of()).lows), [])
        self.assertEqual(self.held(store), [9])

    def test_what_the_same_flush_makes_void_is_not_stored(self) -> None:
        store = self.open()
        batches = [batch_of(ANNA, 1), batch_of(ANNA, 2), batch_of(ANNA, 9)]
        store.flush(flush_of(*batches, marks=[marks_of(ANNA, 9, low=9)]))
        self.assertEqual(self.held(store), [9])

    def test_what_is_told_to_be_held_and_is_not_is_corrected(self) -> None:
        flushed = self.open().flush(flush_of(marks=[marks_of(ANNA, 9, low=2)]))
        self.assertEqual(list(flushed.lows), [(ANNA, 10)])

    def test_what_does_not_fit_is_the_callers_fault_and_changes_nothing(self) -> None:
        store = self.holding(batch_of(ANNA, 1))
        for wrong in (
            flush_of(batch_of(ANNA, 2), batch_of(ANNA, 4)),
            flush_of(batch_of(ANNA, 2), marks=[marks_of(ANNA, 3)]),
            flush_of(batch_of(ANNA, 2), marks=[marks_of(ANNA, 2), marks_of(BERT, 3), marks_of(ANNA, 1)]),
        ):
            self.assertRaises(ValueError, store.flush, wrong)
            self.assertFalse(store._writer.in_transaction)
            self.assertEqual((self.held(store), store.footprint()["stored_streams"]), ([1], 1))
        store.flush(flush_of(batch_of(ANNA, 2)))
        self.assertEqual(self.held(store), [1, 2])

    def test_a_closed_store_takes_and_gives_nothing(self) -> None:
        store = self.holding(batch_of(ANNA, 1), batch_of(ANNA, 2))
        begun = store.read(ANNA, 1, 2, 2**40)
        self.close()
        store.close()
        error = self.assertRaises(StoreError, store.flush, flush_of())
        self.assertIn("is closed", str(error))
        with logged() as texts:
            for read in (begun, store.read(ANNA, 1, 2, 2**40)):  # empty would mean: nothing is stored
                self.assertIn("is closed", str(self.assertRaises(StoreError, next, read)))
            self.assertIsNone(store.first_since(ANNA, 9))
            self.assertEqual(store.runs(), {})
        self.assertEqual(texts, [])


class TestClosedStreams(StoreCase):
    def test_only_the_head_of_a_closed_stream_is_kept(self) -> None:
        store = self.holding(batch_of(ANNA, 1), batch_of(BERT, 1))
        # A batch from before the close may come with it.
        store.flush(flush_of(batch_of(ANNA, 2), marks=[], closed=[(ANNA, 2)]))
        self.assertEqual((self.held(store), self.held(store, BERT)), ([], [1]))
        self.assertEqual(store.footprint()["stored_bytes"], size_of(batch_of(BERT, 1)))
        restored = self.open().restored
        self.assertEqual((list(restored.marks), restored.closed), ([marks_of(BERT, 1)], [(ANNA, 2)]))

    def test_a_closed_stream_that_opens_again_is_open(self) -> None:
        store = self.open()
        store.flush(flush_of(closed=[(ANNA, 7), (BERT, 8)]))
        store.flush(flush_of(batch_of(ANNA, 6, 3), marks=[marks_of(ANNA, 8, low=6)]))
        store.flush(flush_of(marks=[marks_of(BERT, 8, low=9)], closed=[(BERT, 8)]))
        self.assertEqual(store.footprint()["stored_closed"], 0)
        restored = self.open().restored
        self.assertEqual({marks.run for marks in restored.marks}, {ANNA, BERT})
        self.assertEqual(restored.closed, [])

    def test_nothing_of_an_earlier_life_comes_back(self) -> None:
        store = self.holding(batch_of(ANNA, 1), batch_of(ANNA, 2))
        store.flush(flush_of(closed=[(ANNA, 2)]))
        store.flush(
            flush_of(batch_of(BERT, 1), batch_of(ANNA, 3), marks=[marks_of(BERT, 1), marks_of(ANNA, 3)])
        )
        self.assertEqual((self.held(store), self.held(store, BERT)), ([3], [1]))

    def test_a_stream_that_was_forgotten_before_it_was_stored_as_closed_begins_anew(self) -> None:
        for low, head, batches in ((1, 2, [(1, 2)]), (4, 3, []), (3, 4, [(3, 2)])):
            store = self.open()
            store.flush(flush_of(closed=[(ANNA, 10)]))
            store.flush(flush_of(*(batch_of(ANNA, first) for first in range(1, 11))))
            store.flush(flush_of(marks=[marks_of(ANNA, 10, low=8)]))
            anew = [batch_of(ANNA, first, count) for first, count in batches]
            store.flush(
                flush_of(*anew, batch_of(BERT, 1), marks=[marks_of(ANNA, head, low), marks_of(BERT, 1)])
            )
            self.assertEqual(self.held(store), [first for first, _ in batches])
            store = self.open()
            self.assertIn(marks_of(ANNA, head, low), store.restored.marks)
            store.flush(flush_of(closed=[(ANNA, 10), (BERT, 1)]))
            self.assertEqual(store.footprint()["stored_bytes"], 0)

    def test_of_a_stream_that_is_cut_the_messages_up_to_the_cut_stay(self) -> None:
        store = self.open()
        store.flush(flush_of(*(batch_of(ANNA, first, 2) for first in (1, 3, 5, 7))))
        store.flush(flush_of(marks=[marks_of(ANNA, 4, low=1)]))
        self.assertEqual(self.held(store), [1, 3])
        store = self.open()
        self.assertIn(marks_of(ANNA, 4, low=1), store.restored.marks)
        store.flush(flush_of(batch_of(ANNA, 5), marks=[marks_of(ANNA, 5, low=1)]))
        self.assertEqual(self.held(store), [1, 3, 5])
        # If no batch ends at the cut, the file is without any.
        store.flush(flush_of(marks=[marks_of(ANNA, 3, low=1)]))
        self.assertEqual((self.held(store), store.footprint()["stored_bytes"]), ([], 0))

    def test_of_closed_heads_the_oldest_is_forgotten(self) -> None:
        runs = [(bytes([number]) * 32, number) for number in range(9)]
        store = self.open(closed_limit=4)
        for run in runs[:4]:
            store.flush(flush_of(closed=[(run, run[1])]))
        # A run that is closed again counts as the newest.
        store.flush(flush_of(closed=[(runs[0], 100), (runs[4], 4)]))
        expected = [(runs[2], 2), (runs[3], 3), (runs[0], 100), (runs[4], 4)]
        self.assertEqual(self.open(closed_limit=4).restored.closed, expected)
        store = self.open(closed_limit=2)
        self.assertEqual(store.restored.closed, expected[2:])
        store.flush(flush_of())
        self.assertEqual(store.footprint()["stored_closed"], 2)

    def test_of_a_forgotten_stream_nothing_is_kept(self) -> None:
        store = self.holding(batch_of(ANNA, 1), batch_of(BERT, 1))
        store.flush(flush_of(closed=[(ANNA, 1)]))
        store.flush(flush_of(forgotten=[ANNA, BERT, ME]))
        self.assertEqual(set(store.footprint().values()), {0})
        self.assertEqual(self.open().restored, Restored([], [], False))

    def test_a_stream_that_was_forgotten_can_begin_anew_or_be_closed_at_once(self) -> None:
        store = self.holding(batch_of(ANNA, 1), batch_of(ANNA, 2), batch_of(BERT, 1))
        store.flush(flush_of(batch_of(ANNA, 1), closed=[(BERT, 9)], forgotten=[ANNA, BERT]))
        self.assertEqual(self.held(store), [1])
        restored = self.open().restored
        self.assertEqual((list(restored.marks), restored.closed), ([marks_of(ANNA, 1)], [(BERT, 9)]))


class TestConsumers(StoreCase):
    """The places of named consumers."""

    def named(self, *names: str) -> Flush:
        """A flush after which there are *names*."""
        return flush_of()._replace(consumers=dict.fromkeys(names, NOW))

    def test_a_place_of_each_in_each_stream_is_there_again(self) -> None:
        places = (("audit", 0), ("billing", 2))
        store = self.open()
        marks = marks_of(ANNA, 3, taken=3)._replace(places=places)
        flush = flush_of(batch_of(ANNA, 1, 3), marks=[marks])
        store.flush(flush._replace(consumers={"billing": 0, "audit": NOW}))
        self.assertEqual(store.footprint()["stored_consumers"], 2)
        store = self.open()
        self.assertEqual(store.restored.consumers, {"audit": NOW, "billing": 0})
        self.assertEqual(store.restored.marks, [marks])
        self.assertEqual(list(store.restored.untaken(ME[0])), [])
        self.assertEqual(list(store.restored.untaken(ME[0], "billing")), [Behind(ANNA, 2, 3)])
        self.assertEqual(list(store.restored.untaken(ME[0], "audit")), [Behind(ANNA, 0, 3)])
        store.flush(flush_of(marks=[marks._replace(places=(("audit", 1), ("billing", 3)))]))
        self.assertEqual(self.open().restored.marks[0].places, (("audit", 1), ("billing", 3)))

    def test_one_that_is_forgotten_leaves_no_place(self) -> None:
        store = self.open()
        store.flush(self.named("audit", "billing"))
        marks = [marks_of(run, 3)._replace(places=(("audit", 1), ("billing", 2))) for run in (ANNA, BERT)]
        store.flush(flush_of(batch_of(ANNA, 1, 3), batch_of(BERT, 1, 3), marks=marks))
        store.flush(self.named("billing"))
        four = marks_of(ANNA, 4)._replace(places=(("billing", 4),))
        store.flush(flush_of(batch_of(ANNA, 4), marks=[four]))
        restored = self.open().restored
        self.assertEqual(restored.consumers, {"billing": NOW})
        places = {each.run: each.places for each in restored.marks}
        self.assertEqual(places, {ANNA: (("billing", 4),), BERT: (("billing", 2),)})
        # The name can be used again, and begins anew.
        self.open().flush(self.named("billing", "audit"))
        self.assertEqual({each.run: each.places for each in self.open().restored.marks}, places)

    def test_batches_below_the_low_stay_until_the_slowest_has_them(self) -> None:
        store = self.open()
        store.flush(self.named("audit"))

        def mark(head: int, low: int, place: int) -> list[Marks]:
            return [marks_of(ANNA, head, low, taken=head)._replace(places=(("audit", place),))]

        batches = [batch_of(ANNA, first) for first in (1, 2, 3)]
        store.flush(flush_of(*batches, marks=mark(3, 1, 1)))
        store.flush(flush_of(batch_of(ANNA, 9), marks=mark(9, 9, 1)))
        self.assertEqual(self.held(store), [2, 3, 9])
        store = self.open()
        store.flush(flush_of(marks=mark(9, 9, 2)))
        self.assertEqual(self.held(store), [3, 9])
        store.flush(flush_of(marks=mark(9, 9, 9)))
        self.assertEqual(self.held(store), [9])

    def test_what_is_closed_has_no_place(self) -> None:
        store = self.open()
        store.flush(self.named("audit"))
        store.flush(flush_of(marks=[marks_of(ANNA, 3, low=4)._replace(places=(("audit", 1),))]))
        store.flush(flush_of(closed=[(ANNA, 3)]))
        store = self.open()
        store.flush(flush_of(marks=[marks_of(ANNA, 4, low=5)]))
        self.assertEqual(self.open().restored.marks[0].places, ())


class TestAuthors(StoreCase):
    """Which runs of an author are over."""

    def test_it_is_there_again(self) -> None:
        authors = AuthorMarks(ANNA[0], 5, 2**62), AuthorMarks(BERT[0], 0, 7)
        store = self.open()
        store.flush(flush_of(authors=authors))
        self.assertEqual(store.footprint()["stored_authors"], 2)
        store = self.open()
        self.assertEqual(store.restored.authors, authors)
        higher = AuthorMarks(ANNA[0], 6, 2**62)
        store.flush(flush_of(authors=[higher]))
        self.assertEqual(self.open().restored.authors, (authors[1], higher))

    def test_of_too_many_the_one_stored_longest_ago_is_forgotten(self) -> None:
        authors = [AuthorMarks(bytes([number]) * 32, number, 0) for number in range(1, 6)]
        store = self.open(authors_limit=3)
        for author in (*authors[:4], authors[1], authors[4]):
            store.flush(flush_of(authors=[author]))
        self.assertEqual(store.footprint()["stored_authors"], 3)
        left = (authors[3], authors[1], authors[4])
        self.assertEqual(self.open(authors_limit=3).restored.authors, left)
        self.assertEqual(self.open(authors_limit=2).restored.authors, left[1:])


class TestReading(StoreCase):
    def test_what_is_asked_for_comes_in_order_and_no_more(self) -> None:
        store = self.open()
        batches = [batch_of(ANNA, first, 3) for first in range(1, 30, 3)]
        store.flush(flush_of(*batches, batch_of(BERT, 1, 50)))
        size = batches[0].size
        for first, last, most, expected in (
            (1, 30, 2**40, batches),
            (3, 4, 2**40, batches[:2]),
            (5, 5, 2**40, batches[1:2]),
            (28, 10**9, 2**40, batches[9:]),
            (28, 2**70, 2**40, batches[9:]),
            (31, 99, 2**40, []),
            (9, 8, 2**40, []),
            (4, 30, 0, batches[1:2]),
            (4, 30, 2 * size + size // 2, batches[1:3]),
        ):
            self.assertEqual(list(store.read(ANNA, first, last, most)), expected)
        self.assertEqual(list(store.read(ME, 1, 30, 2**40)), [])

    def test_the_size_of_what_is_read_at_once_changes_nothing(self) -> None:
        store = self.open()
        random = Random(3)
        batches = [batch_of(ANNA, first, 2, random.randrange(400)) for first in range(1, 80, 2)]
        store.flush(flush_of(*batches))
        for at_once in (1, 300, 1000):
            self.patch(reader, "_READ_BYTES", at_once)
            self.assertEqual(list(store.read(ANNA, 6, 61, 2**40)), batches[2:31])
            self.assertEqual(list(store.read(ANNA, 6, 61, 700)), self.served(batches[2:31], 700))

    def served(self, batches: list[SignedBatch], most: int) -> list[SignedBatch]:
        """The first of *batches*, and as many more as fit into *most* bytes."""
        sizes = count(1)
        fits = (number for number in sizes if sum(one.size for one in batches[:number]) > most)
        return batches[: max(1, next(fits) - 1)]

    def test_a_read_that_is_not_finished_does_not_let_the_log_grow(self) -> None:
        store = self.holding(*(batch_of(ANNA, first) for first in range(1, 9)))
        reading = store.read(ANNA, 1, 8, 2**40)
        next(reading)
        for number in range(1, 80):
            store.flush(flush_of(batch_of(BERT, number, size=MIB // 2)))
        self.assertLess((self.folder / "history-wal").stat().st_size, 24 * MIB)
        self.assertEqual(len(list(reading)), 7)

    def test_since_when_something_came(self) -> None:
        store = self.open()
        self.assertIsNone(store.first_since(ANNA, 10**9))
        for first in range(1, 200, 2):
            self.now += 1000
            store.flush(flush_of(batch_of(ANNA, first, 2), at=self.now))
        for seconds in range(110):
            first = 199 - 2 * min(seconds, 99)
            self.assertEqual(store.first_since(ANNA, seconds), first)
        self.assertEqual(store.first_since(ANNA, 2**62), 1)
        self.assertEqual(store.first_since(ANNA, float("inf")), 1)
        self.now += 1
        self.assertIsNone(store.first_since(ANNA, 0))
        store.flush(flush_of(marks=[marks_of(BERT, 8, low=9)]))
        self.assertIsNone(store.first_since(BERT, 10**9))

    def test_which_runs_are_stored_and_since_when(self) -> None:
        store = self.open()
        self.assertEqual(store.runs(), {})
        for first in (1, 2):
            store.flush(flush_of(batch_of(ANNA, first), at=self.now))
            self.now += 1000
        store.flush(flush_of(marks=[marks_of(BERT, 8, low=9)]))
        runs = store.runs()
        self.assertEqual(runs, {ANNA: (store.footprint()["stored_bytes"], 2.0, 1.0)})
        store._reader.execute("PRAGMA query_only = 0")
        store._reader.execute("ALTER TABLE stream RENAME TO other")
        with logged() as texts:
            self.assertEqual(store.runs(), {})
        self.assertEqual(len(texts), 1)

    def test_what_waited_behind_a_hole_came_when_that_was_filled(self) -> None:
        store = self.open()
        filled, waited = flush_of(batch_of(ANNA, 1), at=NOW + 5000), flush_of(batch_of(ANNA, 2), at=NOW)
        store.flush(filled._replace(batches=[*filled.batches, *waited.batches], marks=waited.marks))
        self.now = NOW + 6000
        self.assertEqual(store.first_since(ANNA, 1), 1)
        self.assertIsNone(store.first_since(ANNA, 0.9))


class TestReadingWhileWriting(StoreCase):
    def test_a_reader_never_sees_half_a_flush(self) -> None:
        """Between two statements of a flush, a reader sees the contents from before the flush."""
        store = self.open(bytes_limit=20_000)
        seen: list[tuple[str, object]] = []

        def view() -> object:
            since = store.first_since(BERT, 10)
            return self.held(store), self.held(store, BERT), since, store.footprint()

        store.flush(flush_of(*(batch_of(ANNA, first) for first in range(1, 70))))
        before = view()
        store._writer.set_trace_callback(lambda statement: seen.append((statement[:6], view())))
        # There is not room for all, so the flush gives up much as well.
        batches = [batch_of(run, first) for first in range(70, 100) for run in (ANNA, BERT)]
        store.flush(flush_of(*batches, marks=[marks_of(ANNA, 99), marks_of(BERT, 99, low=70)]))
        store._writer.set_trace_callback(None)
        statements = [statement for statement, _ in seen]
        within = seen[: statements.index("COMMIT") + 1]  # called before each statement
        self.assertLessEqual({"BEGIN ", "INSERT", "DELETE", "REPLAC", "COMMIT"}, {one for one, _ in within})
        self.assertEqual([one for one, saw in within if saw != before], [])
        self.assertNotEqual(view(), before)
        self.assertEqual(self.held(store, BERT)[-1], 99)

    def test_a_reader_does_not_wait_for_a_flush(self) -> None:
        store = self.holding(batch_of(ANNA, 1))
        within, go_on = Event(), Event()

        def stop(statement: str) -> None:
            if statement.startswith("REPLACE"):
                within.set()
                go_on.wait(60)

        store._writer.set_trace_callback(stop)
        writer = Thread(target=store.flush, args=(flush_of(batch_of(ANNA, 2)),))
        writer.start()
        try:
            self.assertTrue(within.wait(60))
            self.assertEqual(self.held(store), [1])
            self.assertEqual(store.first_since(ANNA, 10), 1)
            self.assertEqual(store.footprint()["stored_batches"], 1)
        finally:
            go_on.set()
            writer.join(60)
        self.assertEqual(self.held(store), [1, 2])
        self.assertEqual(store.footprint()["stored_batches"], 2)

    def test_reads_beside_a_thread_that_flushes(self) -> None:
        store = self.open(bytes_limit=100_000)
        failures: list[Exception] = []

        def write() -> None:
            try:
                for first in range(1, at_length(2000, 800), 10):
                    store.flush(flush_of(*(batch_of(ANNA, first + n) for n in range(10))))
            except Exception as error:
                failures.append(error)

        writer = Thread(target=write)
        writer.start()
        with logged() as texts:
            while writer.is_alive():
                held = self.held(store)
                if held:
                    self.assertEqual(held, list(range(held[0], held[-1] + 1)))
                    self.assertEqual(held[-1] % 10, 0)
        writer.join()
        self.assertEqual((failures, texts), ([], []))


class TestRetention(StoreCase):
    def fill(
        self, store: SqliteStore, model: Model, steps: list[tuple[StreamId, int]], taken: int = 0
    ) -> None:
        """Flush a batch of each (run, size), and compare *store* with *model* after each flush."""
        for number, (run, size) in enumerate(steps):
            head = model.streams[run].marks.head + 1 if run in model.streams else 1
            marks = [marks_of(run, head, low=model.streams[run].low if run in model.streams else 1)]
            flush = flush_of(
                batch_of(run, head, size=size), marks=marks, own=(ME, taken), at=self.now + number
            )
            self.assertEqual(dict(store.flush(flush).lows), model.flush(flush, self.now + number))
            self.assertEqual(store.footprint(), model.footprint)

    def test_the_origin_with_the_most_gives_up_first_of_its_largest_stream(self) -> None:
        other = (ANNA[0], ANNA[1] + 1)
        store, model = self.open(bytes_limit=100_000), Model(bytes_limit=100_000)
        random = Random(5)
        # Anna has two runs, one much larger; Bert's batches would fit eight times.
        self.fill(store, model, [(BERT, 1000)] * 8)
        steps = [(random.choice((ANNA, ANNA, ANNA, other)), random.randrange(2000)) for _ in range(150)]
        self.fill(store, model, steps)
        self.assertEqual(len(self.held(store, BERT)), 8)
        self.assertEqual(contents(self.open()), model.contents())

    def test_many_runs_are_no_way_around_the_share_of_one_author(self) -> None:
        store, model = self.open(bytes_limit=60_000), Model(bytes_limit=60_000)
        self.fill(store, model, [(BERT, 500)] * 20)
        self.fill(store, model, [((ANNA[0], number), 500) for number in range(200)])
        self.assertEqual(len(self.held(store, BERT)), 20)

    def test_thousands_of_made_up_authors_have_a_quarter_of_the_file(self) -> None:
        store = self.holding(*(batch_of(ANNA, first) for first in range(1, 101)), bytes_limit=40_000)
        size = size_of(batch_of(ANNA, 1))
        minted = [(b"%032d" % number, 1) for number in range(3000)]
        for at in range(0, 3000, 500):
            flush = flush_of(*(batch_of(run, 1) for run in minted[at : at + 500]))
            marks = [each._replace(introducer="192.0.2.1") for each in flush.marks]
            store.flush(flush._replace(marks=marks))
        self.assertGreater(len(self.held(store)), 40_000 * 15 // 16 * 3 // 4 // size - 2)
        self.assertLess(store.footprint()["stored_bytes"], 40_000)

    def test_the_authors_that_are_known_are_stored(self) -> None:
        store = self.open()
        marks = [marks_of(ANNA, 1, low=2)._replace(introducer="192.0.2.1"), marks_of(BERT, 1, low=2)]
        store.flush(flush_of(marks=marks))
        self.assertEqual(sorted(self.open().restored.marks), sorted(marks))

    def test_at_the_limit_a_sixteenth_goes_at_once(self) -> None:
        size = size_of(batch_of(ANNA, 1000))
        store = self.open(bytes_limit=160 * size)
        store.flush(flush_of(*(batch_of(ANNA, first) for first in range(1000, 1160))))
        self.assertEqual(len(self.held(store)), 160)
        flushed = store.flush(flush_of(batch_of(ANNA, 1160)))
        self.assertEqual(len(self.held(store)), 150)
        self.assertEqual(list(flushed.lows), [(ANNA, 1011)])

    def test_much_is_given_up_in_pieces_so_that_no_flush_takes_long(self) -> None:
        self.patch(catalogue, "_MOST_GIVEN_UP", 4)
        size = size_of(batch_of(ANNA, 1000))
        store = self.open(bytes_limit=160 * size, seconds_limit=10)
        store.flush(flush_of(*(batch_of(ANNA, first) for first in range(1000, 1160))))
        held = []
        for first in range(1160, 1170, 2):
            store.flush(flush_of(batch_of(ANNA, first), batch_of(ANNA, first + 1)))
            held.append(len(self.held(store)))
        self.assertEqual(held, [158, 156, 154, 152, 150])
        # Below 15/16 of the limit no batch is given up; above the limit all that is too much goes at once.
        store.flush(flush_of(*(batch_of(ANNA, first) for first in range(1170, 1180))))
        self.assertEqual(len(self.held(store)), 160)
        store.flush(flush_of(*(batch_of(ANNA, first) for first in range(1180, 1280))))
        self.assertEqual(len(self.held(store)), 160)
        self.now += 10_000
        for left in range(156, -1, -4):
            store.flush(flush_of())
            self.assertEqual(len(self.held(store)), left)

    def test_a_lower_limit_holds_at_the_next_flush(self) -> None:
        store = self.holding(*(batch_of(ANNA, first) for first in range(1, 100)))
        store = self.open(bytes_limit=5000)
        (low,) = store.flush(flush_of()).lows
        self.assertLess(store.footprint()["stored_bytes"], 5000)
        self.assertEqual(low, (ANNA, self.held(store)[0]))
        self.assertEqual(self.open().restored.marks[0].low, low[1])

    def test_own_messages_no_neighbour_has_are_never_given_up(self) -> None:
        store, model = self.open(bytes_limit=20_000, seconds_limit=10), Model(20_000, 10)
        self.fill(store, model, [(ME, 1000)] * 60 + [(ANNA, 100)] * 9, taken=5)
        self.assertEqual(self.held(store, ME), list(range(6, 61)))
        self.assertEqual(self.held(store), [])
        self.now += 60_000
        self.fill(store, model, [(ANNA, 100)], taken=7)
        self.assertEqual(self.held(store, ME), list(range(8, 61)))
        self.fill(store, model, [(ANNA, 100)], taken=60)
        self.assertEqual((self.held(store, ME), self.held(store)), ([], [11]))

    def test_what_is_older_than_the_limit_goes(self) -> None:
        store = self.open(seconds_limit=10)
        for first in range(1, 9):
            store.flush(flush_of(batch_of(ANNA, first), at=NOW + first * 1000))
        store.flush(flush_of(batch_of(BERT, 1), at=NOW + 3000))
        self.now = NOW + 10_999
        self.assertEqual(list(store.flush(flush_of()).lows), [])
        self.now = NOW + 11_000
        self.assertEqual(list(store.flush(flush_of()).lows), [(ANNA, 2)])
        store = self.open(seconds_limit=10)
        self.now = NOW + 13_000
        self.assertEqual(sorted(store.flush(flush_of()).lows), [(ANNA, 4), (BERT, 2)])
        # A flushed batch can be too old already.
        flushed = store.flush(flush_of(batch_of(BERT, 2), at=NOW))
        self.assertEqual(list(flushed.lows), [(BERT, 3)])
        self.now = NOW + 60_000
        self.assertEqual(list(store.flush(flush_of()).lows), [(ANNA, 9)])
        self.assertEqual(
            set(self.open().restored.marks), {marks_of(ANNA, 8, low=9), marks_of(BERT, 2, low=3)}
        )

    def test_a_clock_that_is_set_back_loses_nothing(self) -> None:
        store = self.open(seconds_limit=10)
        store.flush(flush_of(batch_of(ANNA, 1), at=NOW))
        self.now = NOW - 50_000
        store.flush(flush_of(batch_of(ANNA, 2), at=self.now))
        self.now = NOW + 9_999
        store.flush(flush_of())
        self.assertEqual(self.held(store), [1, 2])
        self.now = NOW + 10_000
        store.flush(flush_of())
        self.assertEqual(self.held(store), [])

    def test_space_is_given_back_to_the_file_system(self) -> None:
        self.patch(module, "_GIVE_BACK_PAGES", 100)
        store = self.holding(*(batch_of(ANNA, first, size=20_000) for first in range(1, 200)))
        store.flush(flush_of(batch_of(BERT, 1), closed=[(ANNA, 199)]))
        for _ in range(12):
            store.flush(flush_of())
        self.close()
        self.assertLess(self.path.stat().st_size, 200 * 4096)
        store = self.open()
        self.assertEqual(self.held(store, BERT), [1])
        self.assertEqual(store._writer.execute("PRAGMA integrity_check").fetchall(), [("ok",)])

    def test_space_that_cannot_be_given_back_now_is_told_and_the_flush_counts(self) -> None:
        self.patch(module, "_GIVE_BACK_PAGES", 100)
        self.patch(sqlite_file, "_PATIENCE", 0.0)
        store = self.holding(*(batch_of(ANNA, first, size=20_000) for first in range(1, 200)))
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other, logged() as texts:

            def lock(statement: str) -> None:
                if statement == "PRAGMA freelist_count":
                    other.execute("BEGIN IMMEDIATE")

            store._writer.set_trace_callback(lock)
            store.flush(flush_of(batch_of(BERT, 1), closed=[(ANNA, 199)]))
            store._writer.set_trace_callback(None)
        self.assertEqual(len(texts), 1)
        self.assertIn("is locked by another program", texts[0])
        self.assertEqual(self.held(store, BERT), [1])

    def test_sums_are_right_after_a_flush_that_failed(self) -> None:
        store, model = self.open(bytes_limit=30_000), Model(bytes_limit=30_000)
        self.fill(store, model, [(ANNA, 1000)] * 20)
        (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
        store._writer.execute(f"PRAGMA max_page_count = {pages}")
        big = flush_of(batch_of(BERT, 1, size=100_000))
        self.assertRaises(StoreError, store.flush, big)
        store._writer.execute("PRAGMA max_page_count = 1000000")
        self.assertEqual(store.footprint(), model.footprint)
        self.fill(store, model, [(BERT, 900)] * 40)
        with sqlite3.connect(self.path) as other:
            sums = other.execute("SELECT count(*), sum(length(payload)) FROM batch").fetchone()
        footprint = store.footprint()
        number = footprint["stored_batches"]
        self.assertEqual(sums, (number, footprint["stored_bytes"] - number * ROW_BYTES))
