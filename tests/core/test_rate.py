"""How often something may happen."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.core.rate import RateLimit, backoff


class TestBucket(SynchronousTestCase):
    """A limit on how often something happens in a row, and on average."""

    def drawn(self, bucket: RateLimit, now: float) -> int:
        """How often in a row it may happen at the time *now*."""
        times = 0
        while bucket.take(now):
            times += 1
        return times

    def test_it_begins_full(self) -> None:
        self.assertEqual(self.drawn(RateLimit(3, 0.5), 10), 3)

    def test_it_fills_with_time_up_to_the_brim(self) -> None:
        bucket = RateLimit(3, 0.5)
        self.drawn(bucket, 10)
        self.assertEqual(self.drawn(bucket, 11.5), 0)
        self.assertEqual(self.drawn(bucket, 12), 1)
        self.assertEqual(self.drawn(bucket, 1000), 3)

    def test_asking_in_vain_costs_nothing(self) -> None:
        bucket = RateLimit(1, 1)
        self.drawn(bucket, 0)
        for now in (0.25, 0.5, 0.75):
            self.assertEqual(self.drawn(bucket, now), 0)
        self.assertEqual(self.drawn(bucket, 1), 1)

    def test_less_than_one_in_a_row_never_happens(self) -> None:
        self.assertEqual(self.drawn(RateLimit(0.5, 9), 9), 0)

    def test_what_is_spent_without_asking_is_missing_for_so_many_seconds_at_most(self) -> None:
        bucket = RateLimit(3, 2, debt=10)
        bucket.spend(0, 5)
        self.assertEqual((self.drawn(bucket, 1.4), self.drawn(bucket, 1.5)), (0, 1))
        bucket.spend(1.5, 1000)
        self.assertEqual((bucket.left(1.5), self.drawn(bucket, 12)), (-20, 1))


class TestBackoff(SynchronousTestCase):
    """Waits between attempts."""

    def test_waits_double_up_to_the_longest(self) -> None:
        self.assertEqual([backoff(1.0, tries, 8.0) for tries in range(6)], [1, 2, 4, 8, 8, 8])
        self.assertEqual(backoff(9.0, 0, 8.0), 8.0)

    def test_any_number_of_tries_and_any_first_wait_ends_at_the_longest(self) -> None:
        for first in (1e-9, 1, 0.5, 1e308):
            for tries in (1023, 1024, 10**6, 2**62):
                self.assertEqual(backoff(first, tries, 600.0), 600.0)
