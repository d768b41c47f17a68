"""The claims that all links together bring are bounded, however many links there are."""

from __future__ import annotations

from tests.core.network import batch, closing, origin_of, want
from tests.core.node_case import NodeTestCase
from twisted_mesh.core.events import Effect, LinkClosed
from twisted_mesh.errors import Reason
from twisted_mesh.wire.broadcast import Have, HaveEntry, Prune, Snapshot, SnapshotEntry

NAMES = ("anna", "bert", "cleo", "dora")
MOST = 40


def made_up(name: str, number: int) -> bytes:
    """The origin of an author that there is not."""
    return origin_of(f"{name} {number}")


def haves(name: str, many: int, coming: int = 0) -> Have:
    """Claims of *many* runs that nobody has begun."""
    return Have([HaveEntry(made_up(name, number), 1, 1, 1, coming=coming) for number in range(many)], False)


def entries(name: str, many: int) -> list[SnapshotEntry]:
    """The same claims, as in a SNAPSHOT."""
    return [SnapshotEntry(made_up(name, number), 1, 1, 1, 0, b"") for number in range(many)]


class TestClaimsInAll(NodeTestCase):
    """Claims, prunes and questions: the link with the most of them forgets half."""

    def setUp(self) -> None:
        super().setUp()
        self.make(claims_in_all=MOST)
        for number, name in enumerate(NAMES, 1):
            self.up(number, name)

    def assert_bounded(self) -> None:
        footprint = self.node.footprint()
        held = sum(
            footprint[name] for name in ("claims", "told_runs_over", "lazy_by_peer", "coming", "wants")
        )
        known = footprint["open_streams"] + len(self.node.roster)
        self.assertLessEqual(held, MOST + len(NAMES) * 4 * known)
        self.assertLessEqual(footprint["claims_in_all"], MOST)

    def test_claims_prunes_and_questions_of_many_links_have_one_bound(self) -> None:
        for step in range(30):
            for number, name in enumerate(NAMES, 1):
                frames = (
                    haves(f"{name} {step}", 5, coming=2),
                    haves(f"{name} coming {step}", 5, coming=1),
                    Prune([made_up(f"{name} {step}", at) for at in range(5)]),
                    *(want(f"{name} {step} {at}", 1, 9) for at in range(5)),
                )
                self.assertEqual(self.closed(self.receive(number, *frames)), [])
                self.assert_bounded()

    def test_the_link_with_the_most_claims_forgets_and_no_other(self) -> None:
        for number, name in enumerate(NAMES, 1):
            self.receive(number, haves(name, 4))
        self.receive(4, haves("more", 500))
        self.assert_bounded()
        claims = [len(self.link(number).frontier.claims) for number in (1, 2, 3)]
        self.assertEqual(claims, [4, 4, 4])

    def test_claims_of_runs_that_are_known_here_are_free(self) -> None:
        runs = [f"author {number}" for number in range(MOST)]
        self.make(claims_in_all=MOST, authors_burst=1000)
        for number, name in enumerate(NAMES, 1):
            self.up(number, name)
        self.receive(1, *(batch(name, 1) for name in runs))
        for number in (1, 2, 3, 4):
            self.receive(number, Have([HaveEntry(origin_of(name), 1, 1, 1) for name in runs], False))
        claims = [len(self.link(number).frontier.claims) for number in (1, 2, 3, 4)]
        self.assertEqual(claims, [MOST] * 4)

    def test_a_link_that_is_gone_counts_no_more(self) -> None:
        self.receive(1, haves("anna", MOST - 10))
        self.assertGreater(self.node.footprint()["claims_in_all"], 0)
        self.handle(LinkClosed(1))
        self.assertEqual(self.node.footprint()["claims_in_all"], 0)


class TestSnapshots(NodeTestCase):
    """A SNAPSHOT cannot be cut: the link with the longest that is not complete is closed."""

    def setUp(self) -> None:
        super().setUp()
        self.make(claims_in_all=MOST)

    def begin(self, number: int, many: int) -> list[Effect]:
        """Let a part of a SNAPSHOT come."""
        self.open(number, f"peer {number}")
        return self.receive(number, Snapshot(False, entries(f"{number}", many)))

    def test_the_longest_is_closed_whichever_comes_last(self) -> None:
        self.begin(1, MOST // 2)
        self.assertEqual(self.closed(self.begin(2, MOST // 4)), [])
        self.assertEqual(self.closed(self.begin(3, MOST // 2 + 1)), [(3, Reason.LIMIT)])
        self.assertEqual(self.closed(self.begin(4, MOST // 2 - 1)), [(1, Reason.LIMIT)])

    def test_a_link_that_is_closing_is_forgotten(self) -> None:
        self.begin(1, MOST)
        self.handle(closing(1))
        self.assertEqual(self.closed(self.begin(2, MOST // 4)), [])
        self.assertLessEqual(self.node.footprint()["claims_in_all"], MOST)

    def test_a_link_that_is_gone_makes_room(self) -> None:
        for number in range(1, 9):
            self.assertEqual(self.closed(self.begin(number, MOST - 10)), [])
            self.handle(LinkClosed(number))
