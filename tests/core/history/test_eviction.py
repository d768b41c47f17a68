"""Whose turn it is to give up: by the standing of the author, and by what it holds in all its runs."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import origin_of
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.eviction import Shares, reduced

ANNA, BERT, CLEO = map(origin_of, ("anna", "bert", "cleo"))


def known(sizes: Mapping[StreamId, int]) -> Shares:
    """The shares of runs whose authors are all known."""
    return Shares((run, None, size) for run, size in sizes.items())


class TestShares(SynchronousTestCase):
    def test_of_the_largest_origin_the_largest_run(self) -> None:
        shares = known({(ANNA, 1): 60, (BERT, 1): 40, (BERT, 2): 50, (BERT, 3): 10})
        self.assertEqual(shares.turn, (BERT, 2))

    def test_with_many_runs_an_origin_keeps_no_more_than_with_one(self) -> None:
        held = {(ANNA, 1): 1000} | {(BERT, number): 100 for number in range(1, 16)}
        shares = known(held)
        for _ in range(100):
            assert shares.turn is not None
            held[shares.turn] -= 10
            shares.gave_up(10)
        totals = [sum(size for run, size in held.items() if run[0] == origin) for origin in (ANNA, BERT)]
        self.assertEqual(totals, [750, 750])
        self.assertEqual({size for run, size in held.items() if run[0] == BERT}, {50})

    def test_what_is_passed_over_counts_as_its_origins_still(self) -> None:
        shares = known({(ANNA, 1): 100, (ANNA, 2): 10, (BERT, 1): 70})
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
            introducers = {origin: random.choice((None, "one", "two")) for origin in (ANNA, BERT, CLEO)}
            left = set(held)
            shares = Shares((run, introducers[run[0]], size) for run, size in held.items())
            while left:
                run = self.largest(held, introducers, left)
                self.assertEqual(shares.turn, run, seed)
                if held[run] and random.random() < 0.8:
                    size = random.randint(1, held[run])
                    held[run] -= size
                    shares.gave_up(size)
                else:
                    left.discard(run)
                    shares.pass_over()
            self.assertIsNone(shares.turn)

    def largest(
        self, held: dict[StreamId, int], introducers: dict[bytes, str | None], left: set[StreamId]
    ) -> StreamId:
        """The rule, written down: of equals the first by name."""

        def total(*, of: bytes | None = None, by: str | None = None, new: bool | None = None) -> int:
            return sum(
                size
                for (origin, _), size in held.items()
                if of in (None, origin)
                and (by is None or introducers[origin] == by)
                and new in (None, introducers[origin] is not None)
            )

        def rank(run: StreamId) -> tuple[object, ...]:
            introducer = introducers[run[0]]
            side = -total(new=True) * 3 if introducer else -total(new=False)
            site = (-total(by=introducer), introducer) if introducer else ()
            return (side, introducer is not None, *site, -total(of=run[0]), run[0], -held[run], run)

        return min(left, key=rank)

    def test_at_a_limit_a_sixteenth_goes_at_once(self) -> None:
        self.assertEqual((reduced(1600), reduced(10), reduced(1)), (1500, 9, 0))


class TestStanding(SynchronousTestCase):
    """Authors that were made up a moment ago push out nobody who was there."""

    def remains(self, held: Mapping[tuple[StreamId, str | None], int], limit: int) -> dict[StreamId, int]:
        """The bytes that are left of each run when all together come down to *limit*."""
        shares = Shares((run, introducer, size) for (run, introducer), size in held.items())
        left = {run: size for (run, _), size in held.items()}
        while sum(left.values()) > limit:
            assert shares.turn is not None
            left[shares.turn] -= 10
            shares.gave_up(10)
        return left

    def minted(self, count: int, introducer: str = "evil") -> dict[tuple[StreamId, str | None], int]:
        """As many new authors, each with 10 bytes."""
        return {((origin_of(f"minted {number}"), 1), introducer): 10 for number in range(count)}

    def test_thousands_of_made_up_authors_have_a_quarter_of_the_room(self) -> None:
        held: dict[tuple[StreamId, str | None], int] = {((ANNA, 1), None): 5000, ((BERT, 1), None): 20_000}
        left = self.remains(held | self.minted(4000), 40_000)
        self.assertEqual((left[ANNA, 1], left[BERT, 1]), (5000, 20_000))
        held[(CLEO, 1), None] = 50_000
        left = self.remains(held | self.minted(4000), 40_000)
        self.assertEqual([left[origin, 1] for origin in (ANNA, BERT, CLEO)], [5000, 12_500, 12_500])

    def test_room_that_one_side_does_not_need_is_the_others(self) -> None:
        alone = self.remains(self.minted(4000), 30_000)
        self.assertEqual(sum(alone.values()), 30_000)
        left = self.remains({((ANNA, 1), None): 50_000, ((BERT, 1), "evil"): 10}, 40_000)
        self.assertEqual(left, {(ANNA, 1): 39_990, (BERT, 1): 10})

    def test_a_new_author_loses_nothing_to_those_that_another_site_made_up(self) -> None:
        left = self.remains({((ANNA, 1), "honest"): 400} | self.minted(400), 1000)
        self.assertEqual(left[ANNA, 1], 400)
