"""Reading from the history what a slow consumer has not taken yet."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import batch, origin_of, raw_batch
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.reader import Messages, read

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
