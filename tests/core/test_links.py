"""The table of links, and which of two to one node is kept, alike at both ends."""

from __future__ import annotations

from itertools import permutations, product

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import myself, origin_of, peer
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import LinkOpened
from twisted_mesh.core.links import Link, Links
from twisted_mesh.identity import id_of

#: Two nodes, the lesser id first.
LESSER, GREATER = sorted(("anna", "bert"), key=lambda name: id_of(origin_of(name)))
OTHER = {LESSER: GREATER, GREATER: LESSER}
SILENCE = 5.0  # after which a link counts as silent


def links_of(name: str) -> Links:
    """The table of the node *name*."""
    return Links(myself(name), MeshConfig(crossing_silence=SILENCE))


def numbers(links: Links) -> list[int]:
    """The numbers of the links that are fed."""
    return [link.number for link in links.fed]


class TestTable(SynchronousTestCase):
    """One link's way through the table."""

    def setUp(self) -> None:
        self.links = links_of("anna")

    def open(self, number: int, name: str = "bert") -> Link:
        """Open a link that is no second one."""
        link, older = self.links.open(LinkOpened(number, peer(name), True), 0)
        self.assertIsNone(older)
        self.assertTrue(self.links.is_kept(link))
        return link

    def test_an_open_link_is_fed(self) -> None:
        link = self.open(1)
        self.assertEqual(numbers(self.links), [1])
        self.assertIs(self.links.get(1), link)
        self.assertFalse(link.closing or link.up or link.told)

    def test_a_closing_link_is_fed_no_more_and_still_heard(self) -> None:
        link = self.open(1)
        self.assertEqual(self.links.close(1), (link, None))
        self.assertTrue(link.closing)
        self.assertEqual(numbers(self.links), [])
        self.assertIs(self.links.get(1), link)
        self.assertEqual(self.links.close(1), (None, None))

    def test_a_forgotten_link_is_gone(self) -> None:
        self.open(1)
        self.links.close(1)
        self.links.forget(1)
        self.links.forget(1)
        self.assertIsNone(self.links.get(1))
        self.assertEqual(set(self.links.footprint().values()), {0})

    def test_another_link_may_follow_one_that_closes(self) -> None:
        self.open(1)
        self.links.close(1)
        self.open(2)
        footprint = self.links.footprint()
        self.assertEqual((footprint["links"], footprint["fed_links"]), (2, 1))

    def test_links_to_other_nodes_are_no_matter(self) -> None:
        self.open(1, "bert")
        self.open(2, "cleo")
        self.assertEqual(numbers(self.links), [1, 2])


class TestRoutingTable(SynchronousTestCase):
    """Links that are up, one to a node."""

    def setUp(self) -> None:
        self.links = links_of(LESSER)

    def open(self, number: int, *, outgoing: bool = True, up: bool = True) -> Link:
        """Another link to the one peer."""
        link, _ = self.links.open(LinkOpened(number, peer(GREATER), outgoing), 0)
        if up:
            self.links.up(link)
        return link

    def test_a_link_that_is_up_is_in_it_until_it_closes(self) -> None:
        self.open(1, up=False)
        self.assertEqual(self.links.footprint()["linked_nodes"], 0)
        link = self.open(2)
        self.assertEqual(self.links.footprint()["linked_nodes"], 1)
        self.assertEqual(self.links.close(2), (link, None))
        self.assertEqual(self.links.footprint()["linked_nodes"], 0)

    def test_another_that_is_up_takes_the_place_of_one_that_closes(self) -> None:
        older, newer = self.open(1), self.open(2)
        self.assertEqual(self.links.close(2), (newer, older))
        self.assertEqual(self.links.footprint()["linked_nodes"], 1)
        self.assertEqual(self.links.close(1), (older, None))
        self.assertEqual(self.links.footprint()["linked_nodes"], 0)

    def test_the_end_of_one_that_is_not_in_it_changes_nothing(self) -> None:
        older, _ = self.open(1), self.open(2)
        self.assertEqual(self.links.close(1), (older, None))
        self.assertEqual(self.links.footprint()["linked_nodes"], 1)


class TestDoubleLinks(SynchronousTestCase):
    """Two links to one node: one end says which must go, and the other end agrees."""

    def second(
        self,
        name: str,
        first: tuple[bool, int],
        second: tuple[bool, int],
        *,
        at: float = 0,
        heard: float = 0,
    ) -> tuple[Links, Link, Link]:
        """
        Open two links at the node *name*, and let both come up.

        :param first: whether it was dialled here, and the peer's epoch.
        :param at: when the second is opened; the first was at 0, and was last heard at *heard*.
        """
        links = links_of(name)
        old, _ = links.open(LinkOpened(1, peer(OTHER[name], first[1]), first[0]), 0)
        links.up(old)
        old.heard = heard
        new, older = links.open(LinkOpened(2, peer(OTHER[name], second[1]), second[0]), at)
        self.assertIs(older, old)
        self.assertNotEqual(links.is_kept(old), links.is_kept(new))
        links.up(new)
        return links, old, new

    def replaced(
        self, name: str, first: tuple[bool, int], second: tuple[bool, int], **when: float
    ) -> list[str]:
        """Which of two links must go, if the node *name* says so."""
        links, old, new = self.second(name, first, second, **when)
        gone = links.replaced(old.peer.origin)
        return [word for word, link in (("old", old), ("new", new)) if link in gone]

    def test_a_newer_run_replaces_an_older_whoever_dialled(self) -> None:
        for name, old, new in product((LESSER, GREATER), (True, False), (True, False)):
            self.assertEqual(self.replaced(name, (old, 1), (new, 2)), ["old"])
            self.assertEqual(self.replaced(name, (old, 2), (new, 1)), ["new"])
            self.assertEqual(self.replaced(name, (old, 2), (new, 1), at=100), ["new"])

    def test_of_one_direction_the_newer_as_who_accepted_them_sees_it(self) -> None:
        for name in (LESSER, GREATER):
            self.assertEqual(self.replaced(name, (False, 1), (False, 1)), ["old"])
            self.assertEqual(self.replaced(name, (True, 1), (True, 1)), [])

    def test_of_crossing_dials_the_greaters_own(self) -> None:
        self.assertEqual(self.replaced(GREATER, (True, 1), (False, 1)), ["new"])
        self.assertEqual(self.replaced(GREATER, (False, 1), (True, 1)), ["old"])
        self.assertEqual(self.replaced(LESSER, (True, 1), (False, 1)), [])
        self.assertEqual(self.replaced(LESSER, (False, 1), (True, 1)), [])

    def test_a_silent_link_gives_way_to_a_crossing_one(self) -> None:
        crossing = GREATER, (True, 1), (False, 1)
        self.assertEqual(self.replaced(*crossing, at=14.9, heard=10), ["new"])
        self.assertEqual(self.replaced(*crossing, at=15, heard=10), ["old"])

    def test_the_older_serves_until_the_newer_is_up(self) -> None:
        links = links_of(GREATER)
        old, _ = links.open(LinkOpened(1, peer(LESSER), False), 0)
        links.up(old)
        new, _ = links.open(LinkOpened(2, peer(LESSER), False), 0)
        self.assertEqual(links.replaced(old.peer.origin), [])
        links.up(new)
        self.assertEqual(links.replaced(old.peer.origin), [old])

    def test_all_older_ones_go(self) -> None:
        links, old, new = self.second(LESSER, (False, 1), (False, 1))
        newest, older = links.open(LinkOpened(3, new.peer, False), 0)
        self.assertIs(older, new)
        links.up(newest)
        self.assertEqual(links.replaced(old.peer.origin), [old, new])

    def test_links_to_other_nodes_are_no_matter(self) -> None:
        links = links_of("anna")
        for number, name in enumerate(("bert", "cleo"), 1):
            link, older = links.open(LinkOpened(number, peer(name), False), 0)
            self.assertIsNone(older)
            links.up(link)
            self.assertEqual(links.replaced(link.peer.origin), [])
        self.assertEqual(numbers(links), [1, 2])

    def test_both_ends_are_left_with_the_same_one_link(self) -> None:
        # Whoever dialled, in whatever order links open and come up at either end, whether the
        # first seems silent to one, to both or to none.
        orders = list(permutations((1, 2)))
        for dialled in product((LESSER, GREATER), repeat=2):
            dialler = dict(zip((1, 2), dialled, strict=True))
            for views in product(product(orders, orders, (False, True)), repeat=2):
                tables = [
                    self.table(name, dialler, *view)
                    for name, view in zip((LESSER, GREATER), views, strict=True)
                ]
                closed = {number for table in tables for number in {1, 2} - set(numbers(table))}
                self.assertEqual(len(closed), 1, (dialled, views))

    def table(
        self,
        name: str,
        dialler: dict[int, str],
        opening: tuple[int, ...],
        rising: tuple[int, ...],
        silent: bool,
    ) -> Links:
        """One end's links when all of them have come up, *dialler* by number, and it has closed some."""
        links = links_of(name)
        for number in opening:
            opened = LinkOpened(number, peer(OTHER[name]), dialler[number] == name)
            link, _ = links.open(opened, SILENCE if silent else 0)
            if not links.is_kept(link):
                links.close(number)
        for number in rising:
            link = links.get(number)  # type: ignore[assignment]
            if not link.closing:
                links.up(link)
                for other in links.replaced(link.peer.origin):
                    links.close(other.number)
        return links
