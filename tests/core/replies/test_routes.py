"""The links that lead to one node, and the order in which they are tried."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import local_node, origin_of, peer
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.events import LinkOpened
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.replies.routes import DETOURS, Routes

DORA = origin_of("dora")


class TestRoutes(SynchronousTestCase):
    def setUp(self) -> None:
        config = MeshConfig(link_queue_bytes=100)
        self.links = Links(local_node("me"), config)
        self.parents = Parents()
        self.routes = Routes(self.links, self.parents, config)
        self.link = {
            number: self.up(number, name) for number, name in enumerate(("anna", "bert", "cleo", "emil"), 1)
        }

    def up(self, number: int, name: str) -> Link:
        """Open a link that is up; the higher its number, the shorter its round trip."""
        link, _ = self.links.open(LinkOpened(number, peer(name), True, False), 0.0)
        link.flow.rtt = 1 / number
        self.links.link_up(link)
        return link

    def ways(self) -> list[int]:
        """The links to Dora, the best first."""
        ways = [link.number for link in self.routes.all_to(DORA)]
        self.assertEqual(sorted(set(ways)), sorted(ways))
        return ways

    def known(self) -> int | None:
        """The link that Dora is known to be behind."""
        link = self.routes.known_to(DORA)
        return None if link is None else link.number

    def test_where_nothing_is_known_any_link_could_lead_there_the_quick_ones_first(self) -> None:
        self.assertEqual((self.known(), self.ways()), (None, [4, 3, 2, 1]))

    def test_who_told_of_it_knows_more(self) -> None:
        self.link[2].presence.note_from_peer(DORA, (1, 1))
        self.assertEqual((self.known(), self.ways()), (2, [2, 4, 3, 1]))

    def test_its_parent_knows_best(self) -> None:
        self.link[2].presence.note_from_peer(DORA, (1, 1))
        self.parents.note((DORA, 1), 5, 1)
        self.assertEqual((self.known(), self.ways()), (1, [1, 2, 4, 3]))

    def test_but_for_the_link_to_it(self) -> None:
        self.parents.note((DORA, 1), 5, 1)
        self.up(5, "dora").presence.note_from_peer(DORA, (1, 1))
        self.assertEqual((self.known(), self.ways()), (5, [5, 1, 4, 3, 2]))

    def test_what_is_handed_on_takes_the_best_way_and_never_goes_back(self) -> None:
        self.parents.note((DORA, 1), 5, 1)
        self.assertEqual((self.on(3), self.on(1)), (1, None))
        # The node that it came from may have no other way itself.
        self.link[2].presence.note_from_peer(DORA, (1, 1))
        self.assertEqual((self.on(3), self.on(1)), (1, 2))

    def test_what_is_sent_again_takes_another(self) -> None:
        self.parents.note((DORA, 1), 5, 1)
        for number in (2, 3):
            self.link[number].presence.note_from_peer(DORA, (1, 1))
        self.assertEqual([self.on(3, tries=tries) for tries in range(4)], [1, 2, 1, 2])
        self.assertEqual([self.on(4, tries=tries) for tries in range(4)], [1, 2, 3, 1])
        self.assertEqual([self.on(4, hops, tries=1) for hops in range(4)], [2, 3, 1, 2])  # in a circle
        self.assertEqual([self.on(4, hops) for hops in range(4)], [1] * 4)
        self.assertEqual(self.on(1, tries=1), 3)
        self.up(5, "dora")
        self.assertEqual([self.on(3, tries=tries) for tries in range(4)], [5] * 4)
        self.assertIsNone(self.on(5, tries=1))

    def test_after_some_hops_only_a_parent_is_a_way(self) -> None:
        self.link[2].presence.note_from_peer(DORA, (1, 1))
        self.assertEqual((self.on(3, DETOURS - 1), self.on(3, DETOURS)), (2, None))
        self.parents.note((DORA, 1), 0, 4)  # asked in place of one that is gone
        self.assertEqual((self.ways()[:2], self.on(3, DETOURS)), ([2, 4], None))
        self.parents.note((DORA, 1), 0, 1, counter=1)
        self.assertEqual([self.on(3, DETOURS, tries=tries) for tries in range(3)], [1] * 3)
        self.links.close(1)
        self.assertIsNone(self.on(3, DETOURS))

    def on(self, source: int, hops: int = 0, tries: int = 0) -> int | None:
        """The link over which to hand on a frame that came over the link *source*."""
        link = self.routes.on(DORA, source, hops, tries)
        return None if link is None else link.number

    def test_where_there_is_no_other_way_it_ends(self) -> None:
        self.assertIsNone(self.on(1))
        self.link[1].presence.note_from_peer(DORA, (1, 1))
        self.assertEqual([self.on(1, tries=tries) for tries in range(2)], [None, None])

    def test_what_is_not_up_or_closes_is_no_way(self) -> None:
        self.parents.note((DORA, 1), 5, 1)
        self.links.open(LinkOpened(5, peer("fred"), True, False), 0.0)
        self.links.close(1)
        self.link[2].up = False
        self.assertEqual((self.known(), self.ways()), (None, [4, 3]))
        self.links.forget(1)
        self.assertIsNone(self.known())

    def test_nor_is_one_behind_which_too_much_waits(self) -> None:
        own = self.up(5, "dora")
        self.parents.note((DORA, 1), 5, 1)
        for link in (own, self.link[1], self.link[4]):
            link.flow.sent = 101
        self.link[4].presence.note_from_peer(DORA, (1, 1))
        self.assertEqual((self.known(), self.ways()), (None, [3, 2]))
        own.flow.accepted = 1
        self.assertEqual(self.known(), 5)
