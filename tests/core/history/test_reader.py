"""Reading from the history what a slow consumer has not taken yet."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import batch, origin_of, raw_batch
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import Behind, StreamId
from twisted_mesh.core.history.changes import Changes
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.reader import Messages, held, held_runs, read
from twisted_mesh.core.history.storage import Flush, Marks, StoredRun
from twisted_mesh.core.status import HeldRun
from twisted_mesh.simulation.storage import SimStore

RUN = (origin_of("anna"), 1)


class TestReading(SynchronousTestCase):
    def setUp(self) -> None:
        self.history = History(MeshConfig())
        for signed in (batch("anna", 1, 3), batch("anna", 4, 2), batch("anna", 6)):
            self.history.add(signed, 0.0)

    def spans(self, after: int, upto: int, most: int = 2**20) -> list[tuple[int, int, int]]:
        return [(p.first, p.last, len(p.entries)) for p in read(self.history, RUN, after, upto, most)]

    def test_it_starts_and_ends_within_a_batch(self) -> None:
        self.assertEqual(self.spans(0, 6), [(1, 3, 3), (4, 5, 2), (6, 6, 1)])
        self.assertEqual(self.spans(1, 4), [(2, 3, 2), (4, 4, 1)])
        self.assertEqual(self.spans(2, 3), [(3, 3, 1)])
        self.assertEqual(self.spans(6, 6), [])

    def test_it_reads_one_batch_however_large_and_more_only_within_the_bytes(self) -> None:
        self.assertEqual(self.spans(0, 6, most=1), [(1, 3, 3)])

    def test_a_run_that_is_not_held_reads_as_nothing(self) -> None:
        self.assertEqual(list(read(self.history, (RUN[0], 2), 0, 9, 100)), [])

    def test_what_its_author_got_wrong_has_numbers_but_no_messages(self) -> None:
        self.history.add(raw_batch("anna", 7, 2, b"\xff"), 0.0)
        self.history.add(raw_batch("anna", 9, 1, b"", encoding=3), 0.0)
        pieces: list[Messages] = list(read(self.history, RUN, 6, 9, 1000))
        self.assertEqual([(p.first, p.last, list(p.entries)) for p in pieces], [(7, 8, []), (9, 9, [])])

    def test_batches_that_overlap_are_read_once(self) -> None:
        self.history.add(batch("anna", 5, 4), 0.0)
        spans = self.spans(0, 8)
        self.assertEqual([n for first, last, _ in spans for n in range(first, last + 1)], list(range(1, 9)))


class TestHeld(SynchronousTestCase):
    """Which messages are held, and since when."""

    def setUp(self) -> None:
        self.history = History(MeshConfig())
        for number, now in enumerate((0.0, 5.0, 10.0), 1):
            self.history.add(batch("anna", number), now)

    def test_those_that_came_lately(self) -> None:
        for seconds, taken in ((inf, 0), (8.0, 1), (2.0, 2)):
            self.assertEqual(list(held(self.history, seconds, 12.0)), [Behind(RUN, taken, 3)])
        self.assertEqual(list(held(self.history, 1.0, 12.0)), [])

    def test_how_many_of_each_run(self) -> None:
        (run,) = held_runs(self.history, 12.0)
        self.assertEqual(run, HeldRun(RUN, 1, 3, self.history.held_bytes, 12.0, 2.0))

    def test_a_run_of_which_none_is_held_is_left_out(self) -> None:
        self.history.start_at((origin_of("bert"), 1), 7, 7, 12.0)
        self.assertEqual([run.run for run in held_runs(self.history, 12.0)], [RUN])


class TestStored(SynchronousTestCase):
    """The same of messages of which some are in a store alone."""

    def setUp(self) -> None:
        self.store = SimStore()
        self.history = History(MeshConfig(), Changes(self.store))
        self.history.add(batch("anna", 1), 0.0)

    def held(self, stored: dict[StreamId, StoredRun]) -> HeldRun:
        self.store.runs = lambda: stored  # type: ignore[method-assign]
        (run,) = held_runs(self.history, 10.0)
        return run

    def test_the_store_says_how_many_bytes_and_since_when(self) -> None:
        self.assertEqual(self.held({RUN: StoredRun(70, 99.0, 12.0)}), HeldRun(RUN, 1, 1, 70, 99.0, 10.0))

    def test_a_store_of_the_simulator_says_so_too(self) -> None:
        signed, marks = batch("anna", 1), Marks(RUN, 1, 1, 0, 0, False)
        self.assertEqual(self.store.runs(), {})
        self.store.flush(Flush([(4000, signed)], [marks], [], ((b"me", 1), 0), True), 10.0)
        (run,) = held_runs(self.history, 10.0)
        self.assertEqual((run.bytes, run.oldest, run.newest), (signed.size, 10.0, 6.0))

    def test_what_is_not_stored_yet_is_in_memory(self) -> None:
        self.assertEqual(self.held({}), HeldRun(RUN, 1, 1, self.history.held_bytes, 10.0, 10.0))

    def test_if_the_store_cannot_be_read_the_times_are_not_known(self) -> None:
        stream = self.history.get(RUN)
        assert stream is not None
        stream.stored = stream.storing = 1
        stream.drop_oldest()
        self.assertEqual(self.held({}), HeldRun(RUN, 1, 1, 0, None, None))
