"""The trees' memory: which link brought a batch first, and which leads towards an author."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import origin_of
from twisted_mesh.core.broadcast import trees
from twisted_mesh.core.broadcast.trees import FirstArrivals, NewestRecords, Parents
from twisted_mesh.core.events import StreamId

ANNA, BERT, CLEO = origin_of("anna"), origin_of("bert"), origin_of("cleo")


class TestFirstArrivals(SynchronousTestCase):
    """Which link brought a batch first: only while it serves the author, another's push is needless."""

    def setUp(self) -> None:
        self.first_arrivals: FirstArrivals[tuple[StreamId, int]] = FirstArrivals()

    def test_the_link_that_brought_a_batch_is_known(self) -> None:
        self.first_arrivals.note(((ANNA, 1), 1), 7, 0)
        self.first_arrivals.note(((ANNA, 1), 2), 8, 0)
        self.assertEqual(self.first_arrivals.of(((ANNA, 1), 1)), 7)
        self.assertEqual(self.first_arrivals.of(((ANNA, 1), 2)), 8)

    def test_of_another_batch_or_run_nothing_is_known(self) -> None:
        # The link that brought another batch may not be the one that serves this one.
        self.first_arrivals.note(((ANNA, 1), 1), 7, 0)
        self.assertIsNone(self.first_arrivals.of(((ANNA, 1), 2)))
        self.assertIsNone(self.first_arrivals.of(((ANNA, 2), 1)))
        self.assertIsNone(self.first_arrivals.of(((BERT, 1), 1)))

    def test_what_came_long_ago_is_forgotten(self) -> None:
        for first, now in enumerate((0, 1, 5), 1):
            self.first_arrivals.note(((ANNA, 1), first), 7, now)
        self.first_arrivals.note(((ANNA, 1), 4), 7, 9.9)
        self.assertEqual(len(self.first_arrivals), 4)
        self.first_arrivals.note(((ANNA, 1), 5), 7, 11)
        self.assertEqual(len(self.first_arrivals), 3)
        self.assertEqual(
            [self.first_arrivals.of(((ANNA, 1), first)) for first in range(1, 6)], [None, None, 7, 7, 7]
        )

    def test_what_comes_again_is_remembered_from_then_on(self) -> None:
        # A longer batch of the same start is new, and must not keep older ones from being forgotten.
        self.first_arrivals.note(((ANNA, 1), 1), 7, 0)
        self.first_arrivals.note(((ANNA, 1), 2), 7, 1)
        self.first_arrivals.note(((ANNA, 1), 1), 8, 5)
        self.first_arrivals.note(((ANNA, 1), 3), 7, 12)
        self.assertEqual([self.first_arrivals.of(((ANNA, 1), first)) for first in (1, 2, 3)], [8, None, 7])

    def test_no_more_are_remembered_than_the_limit(self) -> None:
        self.patch(trees, "REMEMBERED_MOST", 3)
        for first in range(1, 6):
            self.first_arrivals.note(((ANNA, 1), first), first, 0)
        self.assertEqual(len(self.first_arrivals), 3)
        self.assertEqual(
            [self.first_arrivals.of(((ANNA, 1), first)) for first in range(1, 6)], [None, None, 3, 4, 5]
        )


class TestNewestRecords(SynchronousTestCase):
    """Which link brought an author's newest record first."""

    def test_it_is_known_until_a_newer_record_comes(self) -> None:
        records = NewestRecords()
        records.note((ANNA, 1), 3, 7)
        records.note((BERT, 1), 3, 9)
        self.assertEqual([records.of((ANNA, 1), counter) for counter in (2, 3, 4)], [None, 7, None])
        records.note((ANNA, 2), 1, 8)
        self.assertEqual([records.of((ANNA, 1), 3), records.of((ANNA, 2), 1)], [None, 8])
        self.assertEqual((records.of((BERT, 1), 3), records.of((CLEO, 1), 1), len(records)), (9, None, 2))

    def test_no_more_are_known_than_the_limit(self) -> None:
        self.patch(trees, "PARENTS_MOST", 2)
        records = NewestRecords()
        for origin in (ANNA, BERT, CLEO):
            records.note((origin, 1), 1, 7)
        self.assertEqual([records.of((origin, 1), 1) for origin in (ANNA, BERT, CLEO)], [None, 7, 7])


class TestParents(SynchronousTestCase):
    """The way back towards an author."""

    def setUp(self) -> None:
        self.parents = Parents()

    def test_of_an_author_never_heard_there_is_none(self) -> None:
        self.assertIsNone(self.parents.of(ANNA))
        self.assertEqual(len(self.parents), 0)

    def test_the_link_that_brought_the_newest_first(self) -> None:
        self.parents.note((ANNA, 1), 3, 7)
        self.parents.note((BERT, 1), 9, 9)
        self.parents.note((ANNA, 1), 4, 8)
        self.assertEqual(self.parents.of(ANNA), 8)
        self.assertEqual(self.parents.of(BERT), 9)

    def test_what_is_older_or_as_new_changes_nothing(self) -> None:
        # "The latest in time" has cycles: repair brings old batches from anywhere.
        self.parents.note((ANNA, 2), 4, 7)
        for run, last in (((ANNA, 2), 3), ((ANNA, 2), 4), ((ANNA, 1), 99)):
            self.parents.note(run, last, 8)
        self.assertEqual(self.parents.of(ANNA), 7)

    def test_a_newer_run_counts_whatever_its_number(self) -> None:
        self.parents.note((ANNA, 1), 99, 7)
        self.parents.note((ANNA, 2), 1, 8)
        self.assertEqual(self.parents.of(ANNA), 8)

    def test_a_lost_link_is_the_parent_of_nothing(self) -> None:
        # The streams are grafted at once: to wait for an announcement would be slower.
        self.parents.note((ANNA, 1), 3, 7)
        self.parents.note((ANNA, 2), 1, 7)
        self.parents.note((BERT, 1), 3, 8)
        self.parents.note((CLEO, 4), 3, 7)
        self.assertEqual(self.parents.lost_with(7), [(ANNA, 2), (CLEO, 4)])
        self.assertEqual([self.parents.of(one) for one in (ANNA, BERT, CLEO)], [None, 8, None])
        self.assertEqual(self.parents.lost_with(7), [])

    def test_a_run_without_a_parent_takes_whoever_comes_next(self) -> None:
        # Its number does not matter: the link that answers the graft is a way, and a dead one is not.
        self.parents.note((ANNA, 2), 9, 7)
        self.parents.lost_with(7)
        self.parents.note((ANNA, 2), 5, 8)
        self.assertEqual(self.parents.of(ANNA), 8)

    def test_no_more_are_known_than_the_limit(self) -> None:
        # Anyone can be as many authors as it likes.
        self.patch(trees, "PARENTS_MOST", 2)
        self.parents.note((ANNA, 1), 1, 7)
        self.parents.note((BERT, 1), 1, 7)
        self.parents.note((ANNA, 1), 2, 8)
        self.parents.note((CLEO, 1), 1, 7)
        self.assertEqual(len(self.parents), 2)
        self.assertEqual([self.parents.of(one) for one in (ANNA, BERT, CLEO)], [8, None, 7])
