"""Waits between attempts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.core.backoff import backoff


class TestBackoff(SynchronousTestCase):
    def test_waits_double_up_to_the_longest(self) -> None:
        self.assertEqual([backoff(1.0, tries, 8.0) for tries in range(6)], [1, 2, 4, 8, 8, 8])
        self.assertEqual(backoff(9.0, 0, 8.0), 8.0)

    def test_any_number_of_tries_and_any_first_wait_ends_at_the_longest(self) -> None:
        for first in (1e-9, 1, 0.5, 1e308):
            for tries in (1023, 1024, 10**6, 2**62):
                self.assertEqual(backoff(first, tries, 600.0), 600.0)
