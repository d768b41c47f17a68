"""By which way batches came: what is remembered, and for how long."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.core.history.ways import Way, Ways
from twisted_mesh.wire.broadcast import Batch

A, B, C = (bytes([number]) * 32 for number in range(3))
RUN = (A, 1)


def batch(first: int, count: int = 1, origin: bytes = A) -> Batch:
    """A batch of the run 1 of *origin*."""
    return Batch(origin, 1, first, count, 0, 0, bytes(32))


class WaysTests(SynchronousTestCase):
    def test_a_way_is_that_of_each_message_of_its_batch(self) -> None:
        ways = Ways(10)
        ways.note(batch(3, 2), 5.0, B, (C,), 1, pulled=True)
        way = Way(5.0, B, True, 1, (C,))
        for sequence in (3, 4):
            self.assertEqual(ways.of(RUN, sequence), (way, None))
        for run, sequence in ((RUN, 2), (RUN, 5), ((B, 1), 3), ((A, 2), 3)):
            self.assertEqual(ways.of(run, sequence), (None, None))

    def test_the_time_of_taking_is_the_first_at_which_it_was_taken(self) -> None:
        ways = Ways(10)
        ways.note(batch(1, 9), 5.0, B, ())
        for run, sequence, at in ((RUN, 2, 6.0), ((B, 1), 5, 6.5), (RUN, 5, 7.0), (RUN, 9, 8.0)):
            ways.taken(run, sequence, at)
        self.assertEqual([ways.of(RUN, sequence)[1] for sequence in (1, 3, 5, 6)], [6.0, 7.0, 7.0, 8.0])

    def test_of_more_the_oldest_are_forgotten(self) -> None:
        ways = Ways(2)
        for number in (1, 2, 3):
            ways.note(batch(number), float(number), B, ())
            ways.taken(RUN, number, float(number))
        self.assertEqual(ways.footprint(), {"ways": 2, "ways_taken": 2})
        self.assertEqual(ways.of(RUN, 1), (None, None))
        self.assertIsNotNone(ways.of(RUN, 2)[0])
