"""Whose turn it is to give up, by what each origin holds in all its runs."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import origin_of
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.eviction import Shares, reduced

ANNA, BERT, CLEO = map(origin_of, ("anna", "bert", "cleo"))


class TestShares(SynchronousTestCase):
    def test_of_the_largest_origin_the_largest_run(self) -> None:
        shares = Shares([((ANNA, 1), 60), ((BERT, 1), 40), ((BERT, 2), 50), ((BERT, 3), 10)])
        self.assertEqual(shares.turn, (BERT, 2))

    def test_with_many_runs_an_origin_keeps_no_more_than_with_one(self) -> None:
        held = {(ANNA, 1): 1000} | {(BERT, number): 100 for number in range(1, 16)}
        shares = Shares(held.items())
        for _ in range(100):
            assert shares.turn is not None
            held[shares.turn] -= 10
            shares.gave_up(10)
        totals = [sum(size for run, size in held.items() if run[0] == origin) for origin in (ANNA, BERT)]
        self.assertEqual(totals, [750, 750])
        self.assertEqual({size for run, size in held.items() if run[0] == BERT}, {50})

    def test_what_is_passed_over_counts_as_its_origins_still(self) -> None:
        shares = Shares([((ANNA, 1), 100), ((ANNA, 2), 10), ((BERT, 1), 70)])
        shares.pass_over()
        self.assertEqual(shares.turn, (ANNA, 2))
        shares.pass_over()
        self.assertEqual(shares.turn, (BERT, 1))
        shares.pass_over()
        self.assertIsNone(shares.turn)
        self.assertIsNone(Shares([]).turn)

    def test_any_turns_are_those_of_whoever_has_most_by_then(self) -> None:
        for seed in range(200):
            random = Random(seed)
            held = {
                (origin, epoch): random.randrange(9) for origin in (ANNA, BERT, CLEO) for epoch in (1, 2, 3)
            }
            left = set(held)
            shares = Shares(held.items())
            while left:
                run = self.largest(held, left)
                self.assertEqual(shares.turn, run, seed)
                if held[run] and random.random() < 0.8:
                    size = random.randint(1, held[run])
                    held[run] -= size
                    shares.gave_up(size)
                else:
                    left.discard(run)
                    shares.pass_over()
            self.assertIsNone(shares.turn)

    def largest(self, held: dict[StreamId, int], left: set[StreamId]) -> StreamId:
        """The rule, written down: of equals the first by name."""
        totals = {origin: 0 for origin, _ in held}
        for (origin, _), size in held.items():
            totals[origin] += size
        return min(left, key=lambda run: (-totals[run[0]], run[0], -held[run], run))

    def test_at_a_limit_a_sixteenth_goes_at_once(self) -> None:
        self.assertEqual((reduced(1600), reduced(10), reduced(1)), (1500, 9, 0))
