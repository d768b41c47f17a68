"""The changes that a history tells its store, and how both go on after a restart."""

from __future__ import annotations

from collections.abc import Iterator

from tests.core.damaged_store import Damaged
from tests.core.history_case import ANNA, BERT, ME, HistoryCase
from tests.core.network import batch, origin_of
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.changes import Changes
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.reader import read
from twisted_mesh.core.history.storage import (
    AuthorMarks,
    BatchOrMissing,
    Flush,
    Flushed,
    Marks,
    Missing,
    Restored,
)
from twisted_mesh.errors import StoreError
from twisted_mesh.simulation.storage import SimStore, to_ms
from twisted_mesh.wire import codec


class Unreadable(SimStore):
    """A store that has lost what was in its file."""

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        return iter(())


class ChangesTestCase(HistoryCase):
    """A history whose changes a store is told of."""

    def setUp(self) -> None:
        self.make(SimStore())

    def make(self, store: SimStore, **limits: float) -> None:
        """Begin anew with a history on *store*."""
        self.store = store
        self.taken: dict[StreamId, int] = {}
        self.settled = False
        self.own_taken = 0
        self.config = MeshConfig(**limits)  # type: ignore[arg-type]
        self.changes = Changes(store)
        self.history = History(self.config, self.changes)
        self.history.restore(store.restored(), ME[0], 0.0)

    def restart(self) -> None:
        """Restart: the history forgets all that is not stored."""
        self.make(self.store)

    def take(self, first: int, count: int = 1, name: str = "anna", now: float = 0.0) -> None:
        self.history.add(batch(name, first, count), now)

    def begin(self) -> Flush | None:
        """Begin a flush."""
        for stream in self.history:
            stream.taken = self.taken.get(stream.run, stream.head)
        own = (ME, self.own_taken)
        return self.changes.flush(self.history.get, own, self.settled, to_ms)

    def flush(self, now: float = 0.0) -> Flush:
        """Store all there is to store."""
        flush = self.begin()
        assert flush is not None
        self.changes.stored(self.store.flush(flush, now), self.history.get)
        return flush


class TestFlush(ChangesTestCase):
    """Each change is stored once."""

    def test_what_came_is_stored_with_where_its_stream_stands(self) -> None:
        self.take(1, 2, now=3.0)
        self.take(3, now=4.0)
        self.taken[ANNA] = 1
        flush = self.flush()
        self.assertEqual([(came, b.batch.first) for came, b in flush.batches], [(3000, 1), (4000, 3)])
        header = codec.pack_header(batch("anna", 3).header)
        self.assertEqual(flush.marks, [Marks(ANNA, 3, 1, 0, 1, False, 1, header)])
        self.assertIsNone(self.begin())
        self.take(4)
        self.assertEqual([signed.batch.first for _, signed in self.flush().batches], [4])

    def test_there_is_one_flush_at_a_time(self) -> None:
        self.take(1)
        flush = self.begin()
        assert flush is not None
        self.take(2)
        self.assertIsNone(self.begin())
        self.changes.stored(self.store.flush(flush, 0), self.history.get)
        self.assertEqual([signed.batch.first for _, signed in self.flush().batches], [2])

    def test_what_waits_behind_a_hole_is_not_stored(self) -> None:
        self.take(1)
        self.take(3)
        self.assertEqual([signed.batch.first for _, signed in self.flush().batches], [1])
        self.take(2)
        self.assertEqual([signed.batch.first for _, signed in self.flush().batches], [2, 3])

    def test_what_failed_is_stored_the_next_time(self) -> None:
        self.take(1)
        self.take(1, name="bert")
        self.history.discard(BERT)
        self.begin()
        self.take(2)
        self.changes.failed(self.history.get)
        flush = self.flush()
        self.assertEqual([signed.batch.first for _, signed in flush.batches], [1, 2])
        self.assertEqual(flush.closed, [(BERT, 1)])

    def test_what_failed_and_has_changed_since_is_stored_as_it_is_now(self) -> None:
        self.take(1)
        self.take(1, name="bert")
        self.history.discard(BERT)
        self.begin()
        self.take(2, name="bert")  # opens it again
        self.history.discard(ANNA)
        self.changes.failed(self.history.get)
        flush = self.flush()
        self.assertEqual([marks.run for marks in flush.marks], [BERT])
        self.assertEqual(flush.closed, [(ANNA, 1)])

    def test_a_stream_that_closes_while_it_is_stored_is_closed_there_next(self) -> None:
        self.take(1)
        flush = self.begin()
        assert flush is not None
        self.history.discard(ANNA)
        self.changes.stored(Flushed([(ANNA, 2)]), self.history.get)
        self.assertEqual((len(self.changes), self.flush().closed), (1, [(ANNA, 1)]))

    def test_a_stream_that_is_forgotten_while_it_is_stored_and_begins_anew_is_stored_anew(self) -> None:
        self.make(SimStore(), open_streams=1, closed_streams=1)
        self.take(1, 3)
        flush = self.begin()
        assert flush is not None
        for name in ("bert", "carl", "anna"):
            self.take(1, name=name)
            list(self.history.evict(ME, 0, 0))
        self.take(2, 3)
        self.changes.stored(self.store.flush(flush, 0), self.history.get)
        self.assertEqual(self.stream().stored, 0)
        self.assertEqual([signed.batch.last for _, signed in self.flush().batches], [1, 4])

    def test_heads_of_closed_streams_wait_for_a_store_that_is_full_within_bounds(self) -> None:
        self.make(SimStore(), open_streams=2, closed_streams=5)
        runs = [origin_of(str(number)) for number in range(20)]
        for number in range(20):
            self.take(1, name=str(number))
            list(self.history.evict(ME, 0, 0))
            if number % 3 == 0:
                self.begin()
                self.changes.failed(self.history.get)
            self.assertLessEqual(len(self.changes), 2 + 5 + 1)
        self.flush()
        closed = [run[0] for run, _ in self.store.restored().closed]
        self.assertEqual(closed, runs[13:18])

    def test_what_is_forgotten_of_too_many_closed_streams_is_forgotten_there(self) -> None:
        self.make(SimStore(), closed_streams=2)
        for name in ("anna", "bert"):
            self.take(1, name=name)
            self.history.discard((origin_of(name), 1))
        self.flush()
        self.take(1, name="cleo")
        self.history.discard((origin_of("cleo"), 1))
        list(self.history.evict(ME, 0, 0))
        self.begin()
        self.changes.failed(self.history.get)
        flush = self.flush()
        self.assertEqual((flush.closed, flush.forgotten), ([((origin_of("cleo"), 1), 1)], (ANNA,)))
        self.assertEqual([run for run, _ in self.store.restored().closed], [BERT, (origin_of("cleo"), 1)])

    def test_a_head_that_is_forgotten_while_a_flush_fails_is_not_stored(self) -> None:
        self.make(SimStore(), closed_streams=2)
        for name in ("anna", "bert", "cleo"):
            if name == "cleo":
                self.begin()
            self.take(1, name=name)
            self.history.discard((origin_of(name), 1))
        list(self.history.evict(ME, 0, 0))
        self.changes.failed(self.history.get)
        self.assertEqual(self.flush().closed, [(BERT, 1), ((origin_of("cleo"), 1), 1)])

    def test_authors_wait_for_a_store_that_is_full_within_bounds(self) -> None:
        self.make(SimStore(), floors_limit=2, ended_limit=1)
        for number in range(20):
            list(self.history.raise_floor(origin_of(str(number)), 5))
            if number % 3 == 0:
                self.begin()
                self.changes.failed(self.history.get)
            self.assertLessEqual(len(self.changes), 3)
        self.flush()
        authors = [marks.origin for marks in self.store.restored().authors]
        self.assertEqual(authors, [origin_of(str(number)) for number in (17, 18, 19)])

    def test_that_a_node_has_a_base_is_stored_though_nothing_else_is(self) -> None:
        self.settled = True
        self.assertEqual(self.flush(), Flush([], [], [], (ME, 0), True))
        self.assertTrue(self.store.restored().settled)
        self.assertIsNone(self.begin())

    def test_without_a_store_nothing_is_noted(self) -> None:
        history = History(MeshConfig())
        history.add(batch("anna", 1), 0)
        history.changed(ANNA)
        self.assertEqual(history.head(ANNA), 1)

    def test_a_change_of_a_closed_stream_is_none(self) -> None:
        self.history.changed(ANNA)
        self.history.discard(ANNA)
        self.assertEqual(len(self.changes), 0)


class TestRestart(ChangesTestCase):
    """After a crash, what was stored is there, and nothing else."""

    def test_heads_bases_and_verdicts_are_as_they_were_stored(self) -> None:
        self.history.start_at(BERT, 5, 7, 0)
        self.take(1, 3)
        self.stream().equivocated = True
        self.history.changed(ANNA)
        self.flush()
        self.take(4)
        self.restart()
        self.assertEqual((self.marks(), self.marks(BERT)), ((1, 3, 0), (6, 5, 0)))
        self.assertTrue(self.stream().equivocated)
        self.assertTrue(self.history.is_duplicate(batch("anna", 3).batch))
        self.assertEqual(self.history.add(batch("bert", 6, 3), 0)[0].start, 8)

    def test_the_header_at_the_head_is_as_it_was_stored(self) -> None:
        self.take(1, 3)
        self.take(4)
        self.flush()
        self.restart()
        self.assertEqual(self.stream().hash, batch("anna", 4).header.hash)
        self.take(6)  # behind a hole that is given up: the header at the head is not known then
        self.assertEqual(len(list(self.history.give_up(1000.0, 30.0))), 1)
        self.history.hinted(ANNA, 9, 0.0)
        self.assertEqual(len(list(self.history.give_up(2000.0, 30.0))), 1)
        self.flush()
        self.restart()
        self.assertEqual((self.stream().head, self.stream().hash), (9, b""))

    def test_an_author_that_was_known_is_known_still_and_a_new_one_is_new(self) -> None:
        self.history.add(batch("anna", 1), 0.0, "192.0.2.1")
        self.history.add(batch("bert", 1), 500.0, "192.0.2.2")
        self.history.start_at((origin_of("cleo"), 1), 1, 1, 500.0)
        (bert,) = [marks.introducer for marks in self.flush().marks if marks.run == BERT]
        self.assertEqual(bert, "192.0.2.2")
        self.history.age(700.0, ME, 0)
        self.assertEqual([marks.run for marks in self.flush().marks], [ANNA])
        self.restart()
        self.assertEqual((self.stream().introducer, self.stream(BERT).introducer), (None, "192.0.2.2"))
        self.assertEqual(self.history.authors.footprint(), {"known_authors": 2, "new_authors": 1})
        self.history.age(599.0, ME, 0)
        self.assertEqual(self.stream(BERT).introducer, "192.0.2.2")
        self.history.age(600.0, ME, 0)
        self.assertIsNone(self.stream(BERT).introducer)

    def test_a_stream_is_not_stored_until_its_base_is_known(self) -> None:
        # After a crash nothing would tell it, and no message would ever be delivered.
        self.history.start_at(BERT, 0, None, 0)
        self.take(1, 3)
        self.history.add(batch("bert", 1, 12), 0)
        self.assertEqual([marks.run for marks in self.flush().marks], [ANNA])
        self.history.settle(BERT, 10)
        self.assertEqual([(marks.run, marks.base) for marks in self.flush().marks], [(BERT, 10)])

    def test_from_where_on_nothing_is_missing_is_as_it_was_stored(self) -> None:
        self.take(1, 2)
        self.take(5, 2)
        list(self.history.give_up(100.0, 0.0))  # 3 and 4
        self.take(1, 4, name="bert")
        self.flush()
        self.history.skipped(BERT, 3)  # the application will not take them
        self.assertEqual([marks.whole for marks in self.flush().marks], [4])
        self.history.skipped(BERT, 4)
        self.restart()
        wholes = [getattr(self.history.get(run), "whole", None) for run in (ANNA, BERT)]
        self.assertEqual(wholes, [5, 4])  # what was not stored is found out again
        self.history.skipped(BERT, 2)
        self.assertEqual(len(self.changes), 0)

    def test_closed_heads_are_closed_still_and_open_again_at_them(self) -> None:
        self.take(1, 3)
        self.history.discard(ANNA)
        self.flush()
        self.restart()
        self.assertTrue(self.history.is_duplicate(batch("anna", 3).batch))
        self.assertIsNone(self.history.get(ANNA))
        self.take(4)
        self.flush()
        self.assertEqual(self.store.restored().closed, [])
        self.restart()
        self.assertEqual(self.marks(), (4, 4, 0))

    def test_it_goes_on_and_serves_both_what_is_stored_and_what_is_new(self) -> None:
        self.take(1, 2)
        self.take(3)
        self.flush()
        self.restart()
        self.take(4)
        self.assertEqual(self.served(1, 9), [(1, 2), (3, 3), (4, 4)])
        self.assertEqual(self.served(2, 3), [(1, 2), (3, 3)])
        self.assertEqual(self.served(4, 4), [(4, 4)])

    def test_ended_and_void_runs_are_known_still(self) -> None:
        self.history.past.joined({ANNA[0]: 5, BERT[0]: 6})
        list(self.history.raise_floor(ANNA[0], 3))
        flush = self.flush()
        self.assertEqual(flush.authors, (AuthorMarks(BERT[0], 0, 6), AuthorMarks(ANNA[0], 3, 5)))
        list(self.history.raise_floor(ANNA[0], 3))  # it is named with each record
        self.assertIsNone(self.begin())
        self.restart()
        past = self.history.past
        self.assertEqual([past.is_void((ANNA[0], epoch)) for epoch in (2, 3)], [True, False])
        self.assertEqual([past.had_ended((BERT[0], epoch)) for epoch in (5, 6)], [True, False])
        self.assertEqual(self.history.add(batch("anna", 1, epoch=4), 0.0), [])
        self.assertEqual(self.flush().authors, ())

    def test_an_empty_store_restores_nothing(self) -> None:
        self.assertEqual(self.store.restored(), Restored([], [], False))


class TestOwnRuns(ChangesTestCase):
    """The store knows which own messages a neighbour has: the next run sends the rest."""

    def test_of_this_run(self) -> None:
        self.take(1, 5, name="me")
        self.own_taken = 3
        self.assertEqual(self.flush().marks[0].taken, 3)

    def test_of_earlier_runs(self) -> None:
        self.history.add(batch("me", 1, 5, epoch=9), 0)
        self.history.accepted_of_earlier((ME[0], 9), 4)
        self.assertEqual(self.flush().marks[0].taken, 4)
        self.restart()
        self.assertEqual(self.stream((ME[0], 9)).base, 4)
        self.history.accepted_of_earlier((ME[0], 9), 5)
        self.assertEqual(self.flush().marks[0].taken, 5)


class TestStored(ChangesTestCase):
    """Batches that are stored need not be in memory."""

    def fill(self, count: int, now: float = 0.0) -> None:
        for first in range(1, count + 1):
            self.take(first, now=now)

    def store_only(self, count: int) -> None:
        """Take and store *count* batches, which leave the memory."""
        self.fill(count)
        self.flush()
        self.history.age(1000, ME, 0)

    def flush_after(self, first: int) -> None:
        """Store one batch more."""
        self.take(first, now=1000)
        self.flush()

    def test_what_is_stored_is_held_though_it_has_left_the_memory(self) -> None:
        self.store_only(10)
        self.assertEqual(self.marks(), (1, 10, 0))
        self.assertEqual(self.served(4, 6), [(4, 4), (5, 5), (6, 6)])
        self.assertEqual(self.history.held_bytes, 0)

    def test_an_answer_that_is_full_ends_within_what_is_stored(self) -> None:
        self.store_only(4)
        self.take(5)
        self.assertEqual(self.served(1, 9, most=1), [(1, 1)])

    def test_what_is_not_stored_yet_does_not_age(self) -> None:
        # A batch may wait behind a hole for so long that it is too old the moment it joins.
        self.fill(3)
        self.history.age(1000, ME, 0)
        self.assertEqual(self.marks(), (1, 3, 3))

    def test_what_is_stored_leaves_the_memory_first(self) -> None:
        self.make(SimStore(), history_bytes=6 * 1000)
        for first in range(1, 4):
            self.history.add(batch("bert", first), 0)
        self.flush()
        self.fill(20)  # the larger stream, and nothing of it is stored
        list(self.history.evict(ME, 0, 0))
        self.assertEqual(self.marks(BERT), (1, 3, 0))

    def test_what_is_stored_leaves_the_memory_at_its_limit_and_nothing_is_lost(self) -> None:
        self.make(SimStore(), history_bytes=6 * 1000)
        self.fill(30)
        self.flush()
        list(self.history.evict(ME, 0, 0))
        low, head, in_memory = self.marks()
        self.assertEqual((low, head, 0 < in_memory < 30), (1, 30, True))
        self.assertEqual(self.served(1, 30), [(first, first) for first in range(1, 31)])

    def test_what_cannot_be_stored_leaves_it_all_the_same_and_is_held_no_more(self) -> None:
        self.make(SimStore(), history_bytes=6 * 1000)
        self.fill(2)
        self.flush()
        for first in range(3, 30):
            self.take(first)
            if first == 3:
                self.begin()
        list(self.history.evict(ME, 0, 0))
        low, head, _ = self.marks()
        self.assertEqual((low > 3, head), (True, 29))
        self.assertEqual(self.served(1, 3), [])
        self.changes.failed(self.history.get)
        flush = self.flush()  # what is left follows a new low, and voids what was stored below
        self.assertEqual((flush.marks[0].low, flush.batches[0][1].batch.first), (low, low))
        self.restart()
        self.assertEqual(self.marks(), (low, 29, 0))
        self.assertEqual(self.served(1, low), [(low, low)])

    def test_a_gap_voids_what_is_stored_below(self) -> None:
        self.fill(2)
        self.flush()
        self.take(5)
        list(self.history.give_up(100, 30))
        self.history.taken(ANNA, 2)
        self.taken[ANNA] = 5
        self.assertEqual((self.marks(), self.served(1, 9)), ((5, 5, 1), [(5, 5)]))
        self.flush()
        self.restart()
        self.assertEqual((self.marks(), self.served(1, 9)), ((5, 5, 0), [(5, 5)]))
        self.assertEqual(list(self.store.read(ANNA, 1, 4, 2**20)), [])

    def test_but_for_what_a_consumer_has_not_taken_which_is_its_alone(self) -> None:
        self.make(self.store, history_seconds=50.0)
        self.fill(2)
        self.take(3, now=10)
        self.take(4, now=10)
        self.flush()
        self.history.age(52, ME, 0)  # two of them are in memory still
        self.take(7)
        self.taken[ANNA] = 1
        list(self.history.give_up(100, 30))
        self.take(8)
        self.flush()
        self.assertEqual((self.marks(), self.served(1, 9)), ((7, 8, 4), [(7, 7), (8, 8)]))
        for in_memory in (4, 2, 0):
            if in_memory == 2:
                self.history.age(1000, ME, 0)
                self.take(9, now=1000)
                self.take(10, now=1000)
            elif not in_memory:
                self.flush(now=1000)
                self.restart()
            self.assertEqual(self.marks()[2], in_memory)
            for most in (1, 2**20):
                self.assertEqual(self.read_on(1, 8, most), [2, 3, 4, 7, 8])
        self.taken[ANNA] = 3
        self.history.changed(ANNA)
        self.flush(now=1000)
        self.assertEqual(self.read_on(1, 8, 1), [4, 7, 8])

    def read_on(self, after: int, upto: int, most: int) -> list[int]:
        """The messages that a consumer reads behind *after*, *most* bytes at a time."""
        got: list[int] = []
        while pieces := list(read(self.history, ANNA, after, upto, most)):
            got += [number for piece in pieces for number in range(piece.first, piece.last + 1)]
            after = got[-1]
        return got

    def test_retention_is_the_stores_and_what_is_in_memory_is_held_still(self) -> None:
        self.make(SimStore(seconds=100))
        for first in range(1, 7):
            self.take(first, now=20.0 * first)
        self.flush(now=150)
        self.assertEqual(self.marks(), (1, 6, 6))  # all is in memory
        self.history.age(660, ME, 0)
        self.assertEqual(self.marks(), (3, 6, 3))
        self.take(7, now=660)
        self.flush(now=700)
        self.history.age(2000, ME, 0)
        self.assertEqual(self.marks(), (7, 7, 0))

    def test_a_stream_of_which_nothing_is_stored_any_more_is_closed(self) -> None:
        self.make(SimStore(seconds=100))
        self.take(1)
        self.flush()
        self.history.age(1000, ME, 0)
        self.assertEqual(self.marks(), (1, 1, 0))
        self.take(1, name="bert", now=1000)
        self.flush(now=1000)
        self.history.age(1000, ME, 0)
        self.assertIsNone(self.history.get(ANNA))
        self.assertEqual(self.history.head(ANNA), 1)

    def test_what_cannot_be_read_is_held_no_more(self) -> None:
        self.make(Unreadable())
        self.store_only(3)
        self.take(4, now=1000)
        self.flush()
        self.assertEqual(self.served(1, 9), [(4, 4)])
        self.assertEqual(self.marks(), (1, 4, 1))
        self.assertEqual(self.flush().marks[0].low, 4)
        self.assertEqual(self.marks(), (4, 4, 1))

    def test_behind_what_is_damaged_all_is_held_still(self) -> None:
        for damaged, served in (({4}, [1, 2, 3, 5, 6]), ({1, 2}, [3, 4, 5, 6]), ({3, 4}, [1, 2, 5, 6])):
            self.make(Damaged(damaged))
            self.store_only(6)
            self.assertEqual(self.served(1, 6), [(first, first) for first in served])
            self.flush()
            self.assertEqual(self.marks()[0], 3 if 2 in damaged else 5)
            self.flush_after(7)
            self.restart()
            self.assertEqual(self.served(5, 5), [(5, 5)])

    def test_where_the_last_is_damaged_nothing_is_announced(self) -> None:
        """A claim goes up to the head, without a hole."""
        self.make(Damaged({4, 6}))
        self.store_only(6)
        self.assertEqual(self.served(1, 6), [(first, first) for first in (1, 2, 3, 5)])
        self.flush()
        self.assertEqual(self.marks(), (7, 6, 0))

    def test_an_answer_that_begins_within_what_is_damaged_finds_its_end(self) -> None:
        self.make(Damaged({2, 3, 4}))
        self.store_only(6)
        self.assertEqual(self.served(3, 3), [])
        self.flush()
        self.assertEqual((self.marks()[0], self.served(3, 6)), (5, [(5, 5), (6, 6)]))

    def test_reading_below_a_hole_changes_nothing_of_what_is_announced(self) -> None:
        """A neighbour's WANT for what is kept for a consumer here had it announced, with the hole in it."""
        self.make(self.store, history_seconds=50.0)
        self.fill(8)
        self.take(10)
        list(self.history.give_up(100, 30))
        self.flush_after(11)
        self.history.age(2000, ME, 0)
        self.assertEqual(self.marks(), (10, 11, 0))
        self.assertEqual(self.served(1, 5), [])
        self.assertEqual((self.marks(), self.served(1, 20)), ((10, 11, 0), [(10, 10), (11, 11)]))

    def test_reading_alone_never_changes_what_is_announced(self) -> None:
        for store in (SimStore(), Unreadable(), Damaged({2, 3, 8})):
            self.make(store)
            self.fill(5)
            self.take(7)
            list(self.history.give_up(100, 30))
            for first in range(8, 12):
                self.take(first, now=1000)
            self.flush(now=1000)
            self.history.age(2000, ME, 0)
            stream = self.stream()
            for first in range(1, 12):
                for last in range(first, 12):
                    for most in (1, 2**20):
                        list(stream.serve(first, last, most))
                        list(stream.read(first, last, most))
            self.assertEqual(stream.marks(0).low, 7)

    def test_what_is_damaged_is_told_to_who_reads_and_the_rest_is_read(self) -> None:
        self.make(Damaged({3, 4, 8}))
        self.store_only(8)
        for most in (1, 2**20):
            told, after = [], 0
            while pieces := list(read(self.history, ANNA, after, 8, most)):
                for piece in pieces:
                    numbers = range(piece.first, piece.last + 1)
                    told += [(number, isinstance(piece, Missing)) for number in numbers]
                after = told[-1][0]
            self.assertEqual(told, [(number, number in (3, 4, 8)) for number in range(1, 9)])
        self.flush()
        self.assertEqual(self.marks(), (9, 8, 0))

    def test_what_the_store_has_lost_is_told_to_nobody_as_damaged(self) -> None:
        self.make(Unreadable())
        self.store_only(3)
        self.take(4, now=1000)
        self.assertEqual([piece.first for piece in read(self.history, ANNA, 0, 4, 2**20)], [4])
        self.flush()
        self.assertEqual(self.marks(), (4, 4, 1))

    def test_where_it_starts_lower_a_gap_holds_all_up_to_what_is_damaged(self) -> None:
        self.make(Damaged({3}))
        self.history.start_at(ANNA, 0, 9, 0.0)
        self.store_only(5)
        gap, ready = self.history.settle(ANNA, 0)
        self.assertEqual((gap.first, gap.last, [one.start for one in ready]), (1, 3, [4, 5]))

    def test_what_cannot_be_read_now_is_held_still(self) -> None:
        store = Damaged(set())
        self.make(store)
        self.store_only(3)
        self.take(4, now=1000)
        store.busy = True
        self.assertEqual((self.served(1, 4), self.served(4, 4)), ([], [(4, 4)]))
        with self.assertRaises(StoreError):  # a consumer here is not to take that for nothing
            list(read(self.history, ANNA, 0, 4, 2**20))
        self.flush()
        store.busy = False
        self.assertEqual(self.served(1, 4), [(first, first) for first in range(1, 5)])

    def test_a_replay_finds_its_start_in_what_is_stored(self) -> None:
        for first in range(1, 5):
            self.take(first, now=100.0 * first)
        self.flush(now=400)
        self.history.age(950, ME, 0)
        stream = self.stream()
        self.assertEqual(self.marks(), (1, 4, 1))
        self.take(5, now=410)
        starts = [stream.first_since(seconds, 410) for seconds in (5, 20, 120, 250, 1000)]
        self.assertEqual(starts, [5, 4, 3, 2, 1])
        self.history.age(2000, ME, 0)
        self.flush(now=2000)
        self.history.age(2000, ME, 0)
        self.assertEqual(stream.first_since(1, 2000), 6)
