"""The runs of which no message is held are remembered within limits."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.history_case import ANNA, BERT
from tests.core.network import origin_of
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.authors import Authors
from twisted_mesh.core.history.past_runs import PastRuns
from twisted_mesh.core.history.storage import AuthorMarks, Restored
from twisted_mesh.identity import MOST_CLAIMED

NAME = ANNA[0]


class PastRunsCase(SynchronousTestCase):
    """Past runs with small limits."""

    def setUp(self) -> None:
        self.make()

    def make(self, **limits: float) -> None:
        """Begin anew."""
        config = MeshConfig(**{"closed_streams": 4, **limits})  # type: ignore[arg-type]
        self.authors = Authors(config)
        self.past = PastRuns(config, self.authors)

    def close(
        self, *epochs: int, name: str = "anna", host: str | None = None, signed: bool = True, now: float = 0
    ) -> None:
        """Close runs at a head that is their epoch; a link of *host* brought their author."""
        introducer = self.authors.met(origin_of(name), host, now)
        for epoch in epochs:
            self.past.close((origin_of(name), epoch), epoch, introducer, signed=signed)
            self.past.keep_within_limit(now)


class TestClosed(PastRunsCase):
    """Of a closed run the head is kept."""

    def test_until_it_is_opened_again(self) -> None:
        self.close(7)
        run = (NAME, 7)
        self.assertEqual((run in self.past, self.past.head(run)), (True, 7))
        self.assertEqual(self.past.reopen(run), 7)
        self.assertEqual((run in self.past, self.past.head(run), self.past.reopen(run)), (False, 0, 0))

    def test_the_asked_run_and_the_newest_of_its_author_are_told(self) -> None:
        self.close(3, 9, 5, 1)
        self.assertEqual(list(self.past.closed_from((NAME, 3))), [((NAME, 3), 3), ((NAME, 9), 9)])
        self.assertEqual(list(self.past.closed_from((NAME, 4))), [((NAME, 9), 9)])
        self.assertEqual(list(self.past.closed_from((NAME, 9))), [((NAME, 9), 9)])
        self.assertEqual(list(self.past.closed_from((NAME, 10))), [])
        self.assertEqual(list(self.past.closed_from(BERT)), [])
        self.past.reopen((NAME, 9))  # it is told as an open one
        self.assertEqual(list(self.past.closed_from((NAME, 9))), [])

    def test_a_run_that_no_clock_can_have_given_is_not_the_newest(self) -> None:
        self.close(3, MOST_CLAIMED + 1)
        self.assertEqual(list(self.past.closed_from((NAME, 2))), [((NAME, 3), 3)])

    def test_no_more_authors_are_known_than_heads(self) -> None:
        self.make(closed_streams=2)
        for name in ("anna", "bert", "cleo", "dora"):
            self.close(2, 1, name=name)
        footprint = self.past.footprint()
        self.assertEqual((footprint["closed_streams"], footprint["closed_authors"]), (2, 1))
        dora = origin_of("dora")
        self.assertEqual(list(self.past.closed_from((dora, 2))), [((dora, 2), 2)])

    def known(self, *names: str, epoch: int = 1) -> str:
        """The names of those authors of which the run *epoch* is closed, of *names*."""
        return " ".join(name for name in names if (origin_of(name), epoch) in self.past)

    def test_of_too_many_the_one_closed_first_is_forgotten(self) -> None:
        names = ("anna", "bert", "cleo", "dora", "emil")
        for name in names:
            self.close(1, name=name)
        self.assertEqual(self.known(*names), "bert cleo dora emil")

    def test_those_of_new_authors_are_forgotten_before_those_of_known_ones(self) -> None:
        self.close(1, name="anna")
        for number in range(100):
            self.close(1, name=f"minted {number}", host="192.0.2.1")
        self.assertEqual(
            self.known("anna", *(f"minted {n}" for n in range(100))), "anna minted 97 minted 98 minted 99"
        )
        for name in ("bert", "cleo", "dora", "emil"):
            self.close(1, name=name)
        self.assertEqual(
            self.known("anna", "minted 99", "bert", "cleo", "dora", "emil"), "bert cleo dora emil"
        )

    def test_a_site_that_introduces_many_pushes_out_its_own_first(self) -> None:
        self.close(1, name="anna", host="198.51.100.7")
        for number in range(100):
            self.close(1, name=f"minted {number}", host="192.0.2.1")
        self.close(1, name="bert", host="203.0.113.9")
        self.assertEqual(
            self.known("anna", "bert", "minted 98", "minted 99"), "anna bert minted 98 minted 99"
        )

    def test_an_author_that_is_known_by_now_counts_as_known(self) -> None:
        self.make(known_after=600)
        self.close(1, name="anna", host="192.0.2.1")
        for number in range(100):
            self.close(1, name=f"minted {number}", host="192.0.2.1", now=600.0)
        self.assertEqual(self.known("anna", "minted 98", "minted 99"), "anna minted 98 minted 99")

    def test_many_are_forgotten_at_once(self) -> None:
        self.make(closed_streams=1024)
        self.close(*range(1025), host="192.0.2.1")
        self.assertEqual(self.past.footprint()["closed_streams"], 1020)

    def test_an_author_with_too_many_is_crowded_until_the_lowest_are_forgotten(self) -> None:
        self.make(closed_runs=2)
        self.close(5, 3)
        self.assertIsNone(self.past.crowded)
        self.close(4)
        self.assertEqual((self.past.crowded, self.past.lowest_too_many(NAME)), (NAME, 3))
        self.assertEqual(self.past.forget_lowest(NAME), 3)
        self.assertEqual((self.past.lowest_too_many(NAME), self.past.crowded), (None, None))
        self.assertEqual([self.past.head((NAME, epoch)) for epoch in (3, 4, 5)], [0, 4, 5])

    def test_a_crowded_author_whose_runs_open_again_forgets_none(self) -> None:
        self.make(closed_runs=1)
        self.close(5, 3)
        for epoch in (5, 3):
            self.past.reopen((NAME, epoch))
        self.assertEqual((self.past.lowest_too_many(NAME), self.past.crowded), (None, None))
        self.assertEqual(self.past.footprint()["closed_origins"], 0)

    def test_runs_that_only_others_have_claimed_make_no_author_crowded(self) -> None:
        self.make(closed_runs=1)
        self.close(3, 4, 5, signed=False)
        self.assertIsNone(self.past.crowded)

    def test_it_begins_with_those_that_a_store_held(self) -> None:
        self.past.restore(Restored(closed=[((NAME, 3), 2), (BERT, 8)]))
        self.assertEqual((self.past.head((NAME, 3)), self.past.head(BERT)), (2, 8))
        self.assertEqual(list(self.past.closed_from(ANNA)), [((NAME, 3), 2)])


class TestVoid(PastRunsCase):
    """Runs below the floor of their author are void."""

    def test_below_the_highest_floor(self) -> None:
        self.assertEqual(
            [self.past.raise_floor(NAME, floor) for floor in (0, 5, 3, 5)], [False, True, False, False]
        )
        self.assertEqual([self.past.is_void((NAME, epoch)) for epoch in (4, 5)], [True, False])
        self.assertFalse(self.past.is_void((BERT[0], 4)))

    def test_of_too_many_floors_the_one_named_longest_ago_is_forgotten(self) -> None:
        self.make(floors_limit=2)
        for name in ("anna", "bert", "anna", "cleo"):
            self.past.raise_floor(origin_of(name), 5)
        voids = [self.past.is_void((origin_of(name), 4)) for name in ("anna", "bert", "cleo")]
        self.assertEqual((voids, self.past.footprint()["floors"]), ([True, False, True], 2))

    def test_after_a_restart_they_are_void_still(self) -> None:
        self.make(floors_limit=2)
        self.past.restore(
            Restored(authors=[AuthorMarks(origin_of(name), 5, 0) for name in ("anna", "bert", "cleo")])
        )
        self.assertEqual(
            [self.past.is_void((origin_of(name), 4)) for name in ("anna", "bert", "cleo")],
            [False, True, True],
        )


class TestEnded(PastRunsCase):
    """Runs that had ended before this node joined are not delivered here."""

    def test_below_the_newest_epoch_of_their_author(self) -> None:
        self.past.joined({NAME: 5})
        self.past.joined({NAME: 3})
        self.assertEqual([self.past.had_ended((NAME, epoch)) for epoch in (4, 5)], [True, False])
        self.assertFalse(self.past.had_ended((BERT[0], 4)))

    def test_of_so_many_authors_and_no_more(self) -> None:
        self.make(ended_limit=2)
        self.past.joined({origin_of(name): 5 for name in ("anna", "bert", "cleo")})
        self.past.joined({NAME: 7})
        ended = [self.past.had_ended((origin_of(name), 4)) for name in ("anna", "bert", "cleo")]
        self.assertEqual((ended, self.past.footprint()["ended_authors"]), ([True, True, False], 2))
        self.assertTrue(self.past.had_ended((NAME, 6)))

    def test_after_a_restart_they_had_ended_still(self) -> None:
        self.make(ended_limit=1)
        self.past.restore(Restored(authors=[AuthorMarks(NAME, 0, 5), AuthorMarks(BERT[0], 3, 5)]))
        self.assertEqual([self.past.had_ended((origin, 4)) for origin in (NAME, BERT[0])], [True, False])
        self.assertTrue(self.past.is_void((BERT[0], 2)))
