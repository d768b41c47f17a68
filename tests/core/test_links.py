"""The table of links; and which of two links to one node is kept, the same one at both ends."""

from __future__ import annotations

from itertools import permutations, product

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import local_node, origin_of, peer
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import Arriving, LinkOpened
from twisted_mesh.core.link import SLOWED_SECONDS, Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.status import LinkReport
from twisted_mesh.identity import id_of
from twisted_mesh.wire.begun import Begun

#: Two nodes, the lesser id first.
LESSER, GREATER = sorted(("anna", "bert"), key=lambda name: id_of(origin_of(name)))
OTHER = {LESSER: GREATER, GREATER: LESSER}
SILENCE = 5.0  # after which a link counts as silent


def links_of(name: str) -> Links:
    """The table of the node *name*."""
    return Links(local_node(name), MeshConfig(crossing_silence=SILENCE))


def numbers(links: Links) -> list[int]:
    """The numbers of the links that are fed."""
    return [link.number for link in links.fed]


class TestTable(SynchronousTestCase):
    """One link's way through the table."""

    def setUp(self) -> None:
        self.links = links_of("anna")

    def open(self, number: int, name: str = "bert") -> Link:
        """Open the only link to a node."""
        link, older = self.links.open(LinkOpened(number, peer(name), True, False), 0)
        self.assertIsNone(older)
        self.assertTrue(self.links.is_kept(link))
        return link

    def test_of_too_many_authors_that_a_peer_told_of_the_first_is_forgotten(self) -> None:
        config = MeshConfig(claims_limit=2)
        link = Link(LinkOpened(1, peer("bert"), True, False), 0, config)
        for name in ("anna", "cleo", "dora"):
            link.presence.note_from_peer(origin_of(name), (1, 1))
        told = [link.presence.came_from_peer(origin_of(name)) for name in ("anna", "cleo", "dora")]
        self.assertEqual(told, [False, True, True])

    def test_its_round_trip_is_told_once_it_is_known(self) -> None:
        link = Link(LinkOpened(7, peer("bert"), True, False), 0, MeshConfig())
        self.assertEqual(link.report(), LinkReport(7, None, 0, 0))
        link.flow.rtt = 0.02
        link.push.prune(origin_of("anna"))
        link.push.pruned([origin_of("cleo"), origin_of("dora")])
        self.assertEqual(link.report(), LinkReport(7, 0.02, 1, 2))

    def test_no_link_remembers_more_than_two_rosters_of_records(self) -> None:
        link = Link(LinkOpened(1, peer("bert"), True, False), 0, MeshConfig(members_limit=2))
        for name in "abcdef":
            link.presence.note_from_peer(origin_of(name), (1, 1))
        self.assertEqual(len(link.presence), 4)

    def test_a_link_in_the_middle_of_a_frame_is_not_silent_and_has_a_slow_line_for_a_while(self) -> None:
        link = self.open(1)
        self.assertFalse(link.repair.is_slowed(0))
        link.arriving(Arriving(1, None, 100, 1000), 7)
        self.assertEqual(link.last_frame_at, 7)
        self.assertTrue(link.repair.is_slowed(7 + SLOWED_SECONDS - 0.1))
        self.assertFalse(link.repair.is_slowed(7 + SLOWED_SECONDS))

    def test_what_it_is_in_the_middle_of_is_known_until_it_is_another(self) -> None:
        link = self.open(1)
        for size, now in ((100, 1), (300, 2)):
            link.arriving(Arriving(1, Begun(origin_of("emil"), 1, 5, 9), size, 1000), now)
        partial = link.repair.partial
        assert partial is not None
        self.assertEqual((partial.first, partial.last, partial.size, link.repair.pace), (5, 9, 300, 200))
        link.arriving(Arriving(1, Begun(origin_of("emil"), 1, 10, 12), 50, 1000), 3)
        self.assertIsNot(link.repair.partial, partial)
        self.assertEqual(link.repair.pace, 200)  # until more is known
        link.arriving(Arriving(1, None, 50, 1000), 4)
        self.assertIsNone(link.repair.partial)

    def test_an_open_link_is_fed(self) -> None:
        link = self.open(1)
        self.assertEqual(numbers(self.links), [1])
        self.assertIs(self.links.get(1), link)
        self.assertFalse(
            link.closing or link.up or link.frontier_received or link.frontier.compares or link.overrides
        )
        self.assertEqual((link.last_frame_at, link.opened_at, link.repair.last_batch_at), (0, 0, 0))
        self.assertEqual(
            (link.flow.rtt, link.repair.failures, link.flow.queued, link.frontier.bases), (0, 0, 0, None)
        )

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


class TestClaims(SynchronousTestCase):
    """What the node believes a peer to hold: by the peer's word, and by what went over the link."""

    RUN = (origin_of("anna"), 1)

    def setUp(self) -> None:
        links = Links(local_node("me"), MeshConfig(claims_limit=3))
        self.link, _ = links.open(LinkOpened(1, peer("bert"), True, False), 0)
        self.links = links

    def claim(self, run: tuple[bytes, int] = RUN) -> tuple[int, int] | None:
        """What the peer is believed to hold."""
        return self.link.frontier.claims.get(run)

    def test_nothing_is_believed_at_first(self) -> None:
        self.assertIsNone(self.claim())
        self.assertEqual(self.link.frontier.holds(self.RUN), 0)

    def test_the_peers_word_replaces_what_was_believed(self) -> None:
        # Otherwise each of two nodes with the same hole would believe that the other has the messages.
        self.link.frontier.claim(self.RUN, 1, 9)
        self.link.frontier.claim(self.RUN, 3, 5)
        self.assertEqual((self.claim(), self.link.frontier.holds(self.RUN)), ((3, 5), 5))

    def test_what_joins_on_extends_it(self) -> None:
        self.link.frontier.claim(self.RUN, 3, 5)
        self.link.frontier.extend(self.RUN, 6, 8)
        self.assertEqual(self.claim(), (3, 8))
        self.link.frontier.extend(self.RUN, 7, 12)
        self.assertEqual(self.claim(), (3, 12))
        self.link.frontier.extend(self.RUN, 4, 6)
        self.assertEqual(self.claim(), (3, 12))

    def test_what_does_not_join_on_extends_nothing(self) -> None:
        # The peer may have it behind a hole, and be unable to fill ours.
        self.link.frontier.claim(self.RUN, 3, 5)
        self.link.frontier.extend(self.RUN, 7, 8)
        self.link.frontier.extend(self.RUN, 1, 9)
        self.assertEqual(self.claim(), (3, 5))

    def test_what_a_peer_knows_of_and_no_longer_holds_is_gone_on_from(self) -> None:
        self.link.frontier.claim(self.RUN, 6, 5)
        self.link.frontier.extend(self.RUN, 6, 8)
        self.assertEqual(self.claim(), (6, 8))

    def test_a_stream_never_claimed_begins_with_its_first_message(self) -> None:
        # A peer to which the stream is new may have nothing below the batch that it is pushed.
        self.link.frontier.extend(self.RUN, 2, 3)
        self.assertIsNone(self.claim())
        self.link.frontier.extend(self.RUN, 1, 3)
        self.assertEqual(self.claim(), (1, 3))

    def test_an_answer_shows_how_far_the_peer_has_come(self) -> None:
        # A peer that has pulled up to the head, from wherever it began, must be pushed to again.
        self.link.frontier.served(self.RUN, 4, 6)
        self.assertEqual(self.claim(), (4, 6))
        self.link.frontier.served(self.RUN, 4, 9)
        self.assertEqual(self.claim(), (4, 9))
        self.link.frontier.served(self.RUN, 2, 9)
        self.assertEqual(self.claim(), (2, 9))

    def test_an_answer_joins_on_what_the_peer_held(self) -> None:
        self.link.frontier.claim(self.RUN, 1, 3)
        self.link.frontier.served(self.RUN, 4, 6)
        self.assertEqual(self.claim(), (1, 6))

    def test_a_peer_that_asks_again_does_not_have_what_it_was_believed_to(self) -> None:
        self.link.frontier.claim(self.RUN, 1, 30)
        self.link.frontier.served(self.RUN, 4, 6)
        self.assertEqual(self.claim(), (1, 6))

    def test_an_answer_beyond_a_hole_fills_none(self) -> None:
        # Otherwise messages in the hole would be neither pushed nor announced when they come.
        self.link.frontier.claim(self.RUN, 1, 3)
        self.link.frontier.served(self.RUN, 8, 9)
        self.assertEqual(self.claim(), (8, 9))
        self.link.frontier.served(self.RUN, 11, 12)
        self.assertEqual(self.claim(), (11, 12))

    def test_of_too_many_runs_the_longest_idle_is_forgotten(self) -> None:
        # However a run is known: anyone can be as many authors as it likes.
        ways = (
            lambda run: self.link.frontier.claim(run, 1, 1),
            lambda run: self.link.frontier.extend(run, 1, 1),
            lambda run: self.link.frontier.served(run, 1, 1),
        )
        for way in ways:
            self.setUp()
            for epoch in (1, 2, 3):
                self.link.frontier.extend((self.RUN[0], epoch), 1, 1)
            self.link.frontier.extend(self.RUN, 2, 2)
            way((self.RUN[0], 4))
            self.assertEqual(self.links.footprint()["claims"], 3)
            self.assertEqual([epoch for _, epoch in self.link.frontier.claims], [3, 1, 4])

    def test_of_too_many_records_the_longest_idle_is_forgotten(self) -> None:
        for name, rank in (
            ("a", (1, 1)),
            ("b", (1, 1)),
            ("c", (1, 1)),
            ("a", (1, 2)),
            ("b", (1, 1)),
            ("d", (1, 1)),
        ):
            self.link.presence.note(origin_of(name), rank)
        known = {name: self.link.presence.rank_of(origin_of(name)) for name in "abcd"}
        self.assertEqual(known, {"a": (1, 2), "b": (0, 0), "c": (1, 1), "d": (1, 1)})
        self.assertEqual(self.links.footprint()["known_records"], 3)

    def test_what_waits_behind_the_transport_is_counted(self) -> None:
        self.assertEqual(self.link.flow.queued, 0)
        self.link.flow.sent, self.link.flow.accepted = 300, 100
        self.assertEqual(self.link.flow.queued, 200)

    def test_a_new_link_is_pushed_to_both_ways(self) -> None:
        # If marks of an earlier link to the node stayed, a branch would stay cut that nobody grafts.
        self.link.push.lazy_by_us[self.RUN[0]] = None
        self.link.push.lazy_by_peer[self.RUN[0]] = None
        other, _ = self.links.open(LinkOpened(2, peer("bert"), True, False), 0)
        self.assertEqual(
            (other.push.lazy_by_us, other.push.lazy_by_peer, other.frontier.claims), ({}, {}, {})
        )


class TestRoutingTable(SynchronousTestCase):
    """Links that are up, one to a node."""

    def setUp(self) -> None:
        self.links = links_of(LESSER)

    def open(self, number: int, *, outgoing: bool = True, up: bool = True) -> Link:
        """Another link to the one peer."""
        link, _ = self.links.open(LinkOpened(number, peer(GREATER), outgoing, False), 0)
        if up:
            self.links.link_up(link)
        return link

    def gone(self, number: int) -> list[int]:
        """Close a link; the numbers of the links that leave the routing table."""
        link, _ = self.links.close(number)
        assert link is not None
        return self.links.gone(link)

    def test_a_link_that_is_up_is_in_it_until_it_closes(self) -> None:
        self.open(1, up=False)
        self.assertEqual(self.links.footprint()["linked_nodes"], 0)
        link = self.open(2)
        self.assertEqual(self.links.footprint()["linked_nodes"], 1)
        self.assertEqual(self.links.close(2), (link, None))
        self.assertEqual(self.links.footprint()["linked_nodes"], 0)

    def test_who_is_up_relieves_nobody_as_a_rule(self) -> None:
        self.assertIsNone(self.links.link_up(self.open(1, up=False)))
        self.assertEqual(self.gone(1), [1])

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
        self.assertEqual(self.links.gone(older), [1])

    def test_the_last_stays_in_it_while_another_is_proven(self) -> None:
        # The node is not gone: applications would be told that it went and came.
        self.open(1)
        newer = self.open(2, up=False)
        self.assertEqual(self.gone(1), [])
        self.assertEqual(self.links.link_up(newer), 1)
        self.assertEqual(self.gone(2), [2])

    def test_it_leaves_when_the_other_does_not_come_up(self) -> None:
        # Otherwise the node would be in the table for ever.
        self.open(1)
        self.open(2, up=False)
        self.open(3, up=False)
        self.assertEqual(self.gone(1), [])
        self.assertEqual(self.gone(3), [])
        self.assertEqual(self.gone(2), [1])


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
        old, _ = links.open(LinkOpened(1, peer(OTHER[name], first[1]), first[0], False), 0)
        links.link_up(old)
        old.last_frame_at = heard
        new, older = links.open(LinkOpened(2, peer(OTHER[name], second[1]), second[0], False), at)
        self.assertIs(older, old)
        self.assertNotEqual(links.is_kept(old), links.is_kept(new))
        links.link_up(new)
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
        old, _ = links.open(LinkOpened(1, peer(LESSER), False, False), 0)
        links.link_up(old)
        new, _ = links.open(LinkOpened(2, peer(LESSER), False, False), 0)
        self.assertEqual(links.replaced(old.peer.origin), [])
        links.link_up(new)
        self.assertEqual(links.replaced(old.peer.origin), [old])

    def test_all_older_ones_go(self) -> None:
        links, old, new = self.second(LESSER, (False, 1), (False, 1))
        newest, older = links.open(LinkOpened(3, new.peer, False, False), 0)
        self.assertIs(older, new)
        links.link_up(newest)
        self.assertEqual(links.replaced(old.peer.origin), [old, new])

    def test_links_to_other_nodes_are_no_matter(self) -> None:
        links = links_of("anna")
        for number, name in enumerate(("bert", "cleo"), 1):
            link, older = links.open(LinkOpened(number, peer(name), False, False), 0)
            self.assertIsNone(older)
            links.link_up(link)
            self.assertEqual(links.replaced(link.peer.origin), [])
        self.assertEqual(numbers(links), [1, 2])

    def test_both_ends_are_left_with_the_same_one_link(self) -> None:
        # This holds whichever end dialled, in any order in which links open and come up at either end,
        # and whether the first link seems silent to one end, to both or to none.
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
        """The links of one end, after all have come up and it has closed some; *dialler* is by number."""
        links = links_of(name)
        for number in opening:
            opened = LinkOpened(number, peer(OTHER[name]), dialler[number] == name, False)
            link, _ = links.open(opened, SILENCE if silent else 0)
            if not links.is_kept(link):
                links.close(number)
        for number in rising:
            link = links.get(number)  # type: ignore[assignment]
            if not link.closing:
                links.link_up(link)
                for other in links.replaced(link.peer.origin):
                    links.close(other.number)
        return links
