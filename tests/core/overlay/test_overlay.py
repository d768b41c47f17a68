"""One overlay, step by step: its links, walks, shuffles, and its search for neighbours."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.core.network import contact_of, link_of
from tests.core.overlay_case import OverlayCase
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.overlay.overlay import WALKS, Overlay
from twisted_mesh.core.overlay.search import DRAW_PATIENCE, PATIENCE
from twisted_mesh.core.rate import WALK_BURST
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import Contact, ForwardJoin, Purpose, Shuffle, ShuffleReply


class WholeOverlayCase(OverlayCase):
    """A whole overlay, at the node 0."""

    def setUp(self) -> None:
        super().setUp()
        self.ended: list[int] = []
        self.overlay = self.make()

    def make(self, *, dialable: bool = True, **config: float) -> Overlay:
        self.config = MeshConfig(**config)  # type: ignore[arg-type]
        me = contact_of(0) if dialable else None
        return Overlay(me, contact_of(0).id, self.config, Random(1), self.effects, self.dial)

    @property
    def closed(self) -> list[int]:
        """The links that the overlay has asked to end."""
        self.ended += [link.number for link, _, _ in self.effects.take_ending()]
        return self.ended

    def open(
        self,
        index: int,
        purpose: Purpose = Purpose.NEIGHBOUR,
        *,
        outgoing: bool = False,
        number: int = 0,
        host: str = "",
        address: bool = True,
    ) -> bool:
        """Open a link to node *index*, which has proven itself; whether it is admitted."""
        contact = contact_of(index)
        link = link_of(number or index, contact, purpose, outgoing=outgoing, host=host)
        self.links[link.number] = link
        return self.overlay.opened(link, contact if address else None, self.now)

    def link(self, index: int, purpose: Purpose = Purpose.URGENT, *, outgoing: bool = False) -> None:
        """Open a link to node *index* that is up."""
        self.assertTrue(self.open(index, purpose, outgoing=outgoing))
        self.overlay.link_up(self.over(index), self.now)

    def draw(self) -> int:
        """Let the node that is dialled next become a neighbour; its index."""
        self.dialled.clear()
        until = self.now + 600
        while not self.dialled:
            self.assertLess(self.now, until)
            self.wait(0.5)
        index, purpose = self.dialled[0]
        self.link(index, purpose, outgoing=True)
        return index

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while (wake := self.overlay.wake) is not None and wake <= until:
            self.now = max(wake, self.now)
            self.overlay.tick(self.now)
        self.now = until

    def know(self, *indices: int) -> None:
        """Let the overlay know nodes of earlier runs."""
        self.overlay.known([contact_of(index) for index in indices], None, self.now)

    def passive(self) -> int:
        """How many contacts are in the passive view."""
        return self.overlay.footprint()["passive_view"]

    def frames(self, kind: type[ForwardJoin | Shuffle | ShuffleReply]) -> list[tuple[int, Any]]:
        """The frames of one kind that were sent since the last look."""
        found = [(number, frame) for number, frame in self.sent if isinstance(frame, kind)]
        self.sent.clear()
        return found


class TestRoom(WholeOverlayCase):
    """Which nodes are admitted as neighbours."""

    def test_who_wants_or_needs_the_link_is_always_admitted(self) -> None:
        for index in range(1, 20):
            self.assertTrue(self.open(index, Purpose.JOIN if index % 2 else Purpose.URGENT))

    def test_who_comes_unsought_is_admitted_up_to_twenty(self) -> None:
        for index in range(1, 21):
            self.assertTrue(self.open(index, Purpose.URGENT))
        self.assertFalse(self.open(21, Purpose.URGENT))
        self.assertTrue(self.open(22, Purpose.JOIN))
        self.assertTrue(self.open(23, Purpose.URGENT, outgoing=True))
        self.overlay.closed(self.over(1), Reason.LOST, self.now)
        self.assertTrue(self.open(21, Purpose.URGENT))

    def test_and_few_of_one_site_that_is_not_private(self) -> None:
        self.assertEqual(
            [self.open(index, Purpose.URGENT, host="9.9.9.9") for index in range(1, 7)],
            [True] * 4 + [False] * 2,
        )
        self.assertTrue(self.open(7, Purpose.URGENT, host="9.9.9.8"))
        for index in range(8, 16):
            self.assertTrue(self.open(index, Purpose.URGENT, host="10.7.7.7"))

    def test_with_its_view_full_a_node_refuses_others_and_remembers_them(self) -> None:
        for index in range(1, 6):
            self.assertTrue(self.open(index))
        self.assertFalse(self.open(6))
        self.assertFalse(self.open(7, address=False))
        self.assertFalse(self.open(8, Purpose.NEIGHBOUR, host="127.0.0.1", address=False))
        self.assertEqual(self.passive(), 1)

    def test_an_unbelievable_address_is_not_remembered(self) -> None:
        for index in range(1, 6):
            self.open(index)
        local = Contact(contact_of(6).id, "127.0.0.1", 1)
        self.assertFalse(self.overlay.opened(self.over(6), local, self.now))
        self.assertEqual(self.passive(), 0)

    def test_places_are_kept_for_nodes_it_has_dialled_itself(self) -> None:
        self.know(*range(10, 20))
        for index in (1, 2, 3):
            self.assertTrue(self.open(index))
        self.assertFalse(self.open(4))
        self.draw()
        self.assertFalse(self.open(4))
        self.overlay.closed(self.over(3), Reason.LOST, self.now)
        self.draw()
        self.assertTrue(self.open(4))

    def test_no_place_is_kept_where_all_there_are_find_one(self) -> None:
        self.know(5)
        for index in range(1, 5):
            self.assertTrue(self.open(index))
        self.assertTrue(self.open(5))

    def test_no_place_is_kept_when_nobody_is_left_to_dial(self) -> None:
        self.know(*range(10, 14))
        self.may_dial = False
        self.wait(2)  # all of them are put off
        for index in range(1, 6):
            self.assertTrue(self.open(index), index)

    def test_a_second_node_of_a_host_is_refused_while_there_are_others(self) -> None:
        self.know(*range(10, 20))
        self.assertTrue(self.open(1, host="10.7.7.7"))
        self.assertFalse(self.open(2, host="10.7.7.7"))
        self.assertTrue(self.open(3, host="10.8.8.8"))

    def test_another_link_to_a_neighbour_is_admitted(self) -> None:
        for index in range(1, 6):
            self.link(index)
        self.assertTrue(self.open(1, number=21))
        self.assertEqual(self.overlay.footprint()["active_view"], 5)
        self.overlay.closed(self.over(1), Reason.DUPLICATE, self.now)
        self.overlay.link_up(self.over(21), self.now)
        self.assertEqual((self.overlay.footprint()["active_view"], self.passive()), (5, 0))

    def test_what_it_has_dialled_is_refused_if_others_came_meanwhile(self) -> None:
        self.know(9)
        self.wait(1)
        self.assertEqual(self.dialled, [(9, Purpose.URGENT)])
        for index in range(1, 6):
            self.link(index, Purpose.JOIN, outgoing=True)
        self.assertFalse(self.open(9, Purpose.NEIGHBOUR, outgoing=True))
        self.assertEqual(self.overlay.footprint()["overlay_dials"], 0)

    def test_who_is_refused_while_it_is_dialled_is_still_dialled(self) -> None:
        self.know(9)
        self.wait(1)
        for index in range(1, 6):
            self.link(index)
        self.assertFalse(self.open(9))
        self.assertEqual(self.overlay.footprint()["overlay_dials"], 1)


class TestLinks(WholeOverlayCase):
    """What becomes of a node when its link is gone."""

    def test_a_neighbour_that_is_lost_is_remembered(self) -> None:
        for index, reason in enumerate((Reason.ROOM, Reason.LOST, Reason.SILENT, Reason.FULL), 1):
            self.link(index)
            self.overlay.closed(self.over(index), reason, self.now)
        self.assertEqual(self.passive(), 4)

    def test_one_that_leaves_or_was_sent_away_is_not(self) -> None:
        for index, reason in enumerate((Reason.LEAVING, Reason.DISCONNECT, Reason.SIGNATURE), 1):
            self.link(index)
            self.overlay.closed(self.over(index), reason, self.now)
        self.assertTrue(self.open(4, address=False))
        self.overlay.closed(self.over(4), Reason.LOST, self.now)
        self.assertEqual(self.passive(), 0)

    def test_a_neighbour_is_where_its_newest_record_says(self) -> None:
        self.link(1)
        self.link(2)
        moved = Contact(contact_of(1).id, "10.9.9.9", 9)
        self.overlay.known([moved, Contact(contact_of(2).id, "127.0.0.1", 9)], self.over(2), self.now)
        for index in (1, 2):
            self.overlay.closed(self.over(index), Reason.LOST, self.now)
        self.assertEqual(self.overlay.contacts(), [moved, contact_of(2)])

    def test_what_is_told_of_no_link_is_ignored(self) -> None:
        self.overlay.link_up(self.over(1), self.now)
        self.overlay.closed(self.over(1), Reason.LOST, self.now)
        self.overlay.located(self.over(1), contact_of(1), self.now)
        self.overlay.known([contact_of(2)], self.over(1), self.now)
        self.overlay.forward_join(self.over(1), ForwardJoin(contact_of(2), 0, False), self.now)
        self.overlay.shuffle(self.over(1), Shuffle(1, [contact_of(2)], 1), self.now)
        self.overlay.shuffle_reply(self.over(1), ShuffleReply(1, [contact_of(2)]), self.now)
        self.assertEqual((self.sent, self.dialled, self.passive()), ([], [], 0))
        self.assertIsNone(self.overlay.wake)

    def test_frames_count_when_the_frontier_has_come(self) -> None:
        self.open(1)
        self.overlay.forward_join(self.over(1), ForwardJoin(contact_of(2), 0, False), self.now)
        self.overlay.shuffle(self.over(1), Shuffle(1, [contact_of(2)], 1), self.now)
        self.overlay.shuffle_reply(self.over(1), ShuffleReply(1, [contact_of(2)]), self.now)
        self.assertEqual((self.sent, self.dialled, self.passive()), ([], [], 0))

    def test_an_address_that_is_not_believed_is_not_taken(self) -> None:
        self.link(1)
        local = Contact(contact_of(2).id, "127.0.0.1", 1)
        self.overlay.located(self.over(1), local, self.now)
        self.overlay.known([local, contact_of(3)], self.over(1), self.now)
        self.overlay.forward_join(self.over(1), ForwardJoin(local, 0, False), self.now)
        self.overlay.forward_join(self.over(1), ForwardJoin(contact_of(0), 0, False), self.now)  # itself
        self.assertEqual((self.overlay.counts["unbelieved_contacts"], self.passive()), (4, 1))

    def test_an_own_address_is_believed_on_the_own_host(self) -> None:
        self.assertTrue(self.open(1, host="127.0.0.1", address=False))
        self.overlay.link_up(self.over(1), self.now)
        self.overlay.located(self.over(1), Contact(contact_of(1).id, "127.0.0.1", 1), self.now)
        self.overlay.known([Contact(contact_of(2).id, "127.0.0.1", 2)], self.over(1), self.now)
        self.assertEqual((self.overlay.counts["unbelieved_contacts"], self.passive()), (0, 1))

    def test_of_a_long_list_some_are_drawn(self) -> None:
        self.link(1)
        self.overlay.known([contact_of(index) for index in range(100, 1100)], self.over(1), self.now)
        self.assertEqual(self.passive(), self.config.passive_view)

    def test_a_made_up_node_at_the_place_of_another_does_not_keep_that_from_being_dialled(self) -> None:
        place = contact_of(2)
        self.link(1)
        self.overlay.shuffle(
            self.over(1), Shuffle(7, [Contact(b"9" * 32, place.host, place.port)], 0), self.now
        )
        self.overlay.known([place], self.over(1), self.now)
        self.assertEqual(self.overlay.contacts(), [place])


class TestWalks(WholeOverlayCase):
    """The walks by which a newcomer's address goes round."""

    def newcomers(self) -> list[tuple[int, ForwardJoin]]:
        """The walks that began or went on."""
        return self.frames(ForwardJoin)

    def walk(self, over: int, index: int, left: int) -> None:
        """Let a walk of node *index* come over a link."""
        self.overlay.forward_join(self.over(over), ForwardJoin(contact_of(index), left, False), self.now)

    def test_who_joins_is_introduced_to_some(self) -> None:
        for index in range(1, 5):
            self.link(index)
        self.link(9, Purpose.JOIN)
        walks = self.newcomers()
        self.assertEqual(len({number for number, _ in walks} - {9}), WALKS)
        for _, frame in walks:
            self.assertEqual(frame, ForwardJoin(contact_of(9), self.config.active_walk, False))
        self.overlay.link_up(self.over(9), self.now)
        self.assertEqual(self.newcomers(), [])  # once

    def test_where_there_are_too_many_it_is_introduced_to_one(self) -> None:
        for index in range(1, 9):
            self.link(index)
        self.link(9, Purpose.JOIN)
        self.assertEqual(len(self.newcomers()), 1)

    def test_it_is_introduced_when_its_address_is_known(self) -> None:
        self.link(1)
        self.open(2, Purpose.JOIN, address=False)
        self.overlay.located(self.over(2), contact_of(2), self.now)
        self.assertEqual(self.newcomers(), [])
        self.overlay.link_up(self.over(2), self.now)
        self.assertEqual([number for number, _ in self.newcomers()], [1])
        self.open(3, Purpose.JOIN, address=False)
        self.overlay.link_up(self.over(3), self.now)
        self.assertEqual(self.newcomers(), [])
        self.overlay.located(self.over(3), contact_of(3), self.now)
        self.assertEqual(len(self.newcomers()), 2)

    def test_who_was_dialled_or_is_no_newcomer_is_not(self) -> None:
        self.link(1)
        self.link(2, Purpose.JOIN, outgoing=True)
        self.link(3, Purpose.URGENT)
        self.assertEqual(self.newcomers(), [])

    def test_a_walk_goes_on_neither_back_nor_to_the_newcomer(self) -> None:
        for index in (1, 2, 3):
            self.link(index)
        for _ in range(20):
            self.walk(1, 2, 5)
        self.assertEqual(self.newcomers(), [(3, ForwardJoin(contact_of(2), 4, False))] * 20)

    def test_it_takes_no_more_steps_than_a_walk_has(self) -> None:
        self.link(1)
        self.link(2)
        self.walk(1, 9, 16)
        self.assertEqual(
            self.newcomers(), [(2, ForwardJoin(contact_of(9), self.config.active_walk - 1, False))]
        )

    def test_on_its_way_it_is_written_down(self) -> None:
        self.link(1)
        self.link(2)
        for left in range(1, 7):
            self.walk(1, 90 + left, left)
        self.assertEqual(self.passive(), 1)
        self.assertEqual(len(self.newcomers()), 6)

    def test_at_its_end_the_newcomer_is_dialled(self) -> None:
        self.link(1)
        self.link(2)
        self.walk(1, 9, 0)
        self.assertEqual(self.dialled, [(9, Purpose.NEIGHBOUR)])
        self.walk(2, 9, 0)  # the other walk of the same
        self.assertEqual((len(self.dialled), self.passive()), (1, 0))
        self.link(9, Purpose.NEIGHBOUR, outgoing=True)
        self.walk(1, 9, 0)
        self.assertEqual((len(self.dialled), self.passive()), (1, 0))

    def test_who_has_no_other_link_ends_it_and_insists(self) -> None:
        self.link(1)
        self.walk(1, 9, 6)
        self.assertEqual((self.dialled, self.newcomers()), ([(9, Purpose.URGENT)], []))

    def test_a_full_node_takes_one_more_and_hands_a_neighbour_on_to_it(self) -> None:
        for index in range(1, 6):
            self.link(index)
        self.walk(1, 9, 0)
        self.assertEqual(self.dialled, [(9, Purpose.NEIGHBOUR)])
        self.walk(1, 8, 0)
        self.assertEqual((len(self.dialled), self.passive()), (1, 1))
        self.link(9, Purpose.NEIGHBOUR, outgoing=True)
        self.sent.clear()
        self.wait(2)
        moves = self.newcomers()
        self.assertEqual([frame for _, frame in moves], [ForwardJoin(contact_of(9), 0, True)])

    def test_a_second_node_of_a_host_is_only_written_down_while_there_are_others(self) -> None:
        self.link(1)
        self.link(2)
        self.know(*range(10, 15))
        contact = Contact(contact_of(9).id, contact_of(1).host, 99)
        self.overlay.forward_join(self.over(2), ForwardJoin(contact, 0, False), self.now)
        self.assertEqual((self.dialled, self.passive()), ([], 6))

    def test_ends_of_walks_leave_dials_to_its_own_search(self) -> None:
        self.overlay = self.make(active_view=20)
        self.link(1)
        self.link(2)
        for index in range(10, 20):
            self.walk(1, index, 0)
        self.assertEqual((len(self.dialled), self.passive()), (5, 5))

    def test_one_link_brings_only_so_many_walks(self) -> None:
        self.link(1)
        self.link(2)
        for _ in range(WALK_BURST):
            self.walk(1, 9, 6)
        self.overlay.shuffle(self.over(1), Shuffle(1, [], 6), self.now)
        self.walk(1, 9, 6)
        self.assertEqual(self.overlay.counts["dropped_walks"], 2)
        self.assertEqual(len(self.sent), WALK_BURST)
        self.walk(2, 9, 6)
        self.now += 1
        self.walk(1, 9, 6)
        self.assertEqual(len(self.sent), WALK_BURST + 2)


class TestInstead(WholeOverlayCase):
    """Requests to link with another node instead."""

    def ask(self, contact: Contact, left: int = 0) -> None:
        self.overlay.forward_join(self.over(1), ForwardJoin(contact, left, True), self.now)

    def test_it_links_with_the_other_and_ends_the_link(self) -> None:
        self.link(1)
        self.ask(contact_of(2))
        self.assertEqual(self.dialled, [(2, Purpose.URGENT)])
        self.link(2, outgoing=True)
        self.assertEqual(self.closed, [1])
        self.assertEqual(self.passive(), 1)  # it may be dialled again one day

    def test_when_it_cannot_it_says_so(self) -> None:
        self.link(1)
        self.ask(contact_of(2))
        self.overlay.dial_failed(contact_of(2).id, self.now)
        self.ask(contact_of(3))
        self.wait(self.config.move_timeout)
        for contact in (contact_of(0), contact_of(1), Contact(contact_of(4).id, "127.0.0.1", 1)):
            self.ask(contact)
        refusals = [frame for _, frame in self.frames(ForwardJoin)]
        self.assertEqual([int(frame.contact.id) for frame in refusals], [2, 3, 0, 1, 4])
        self.assertEqual({(frame.left, frame.instead) for frame in refusals}, {(1, True)})
        self.assertEqual(self.closed, [])

    def test_a_refusal_is_heard(self) -> None:
        for index in range(1, 9):
            self.link(index)
        self.sent.clear()
        self.wait(2)  # for two rounds: in the first, the neighbours may be too new to be moved
        (number, frame), *_ = self.frames(ForwardJoin)
        self.overlay.forward_join(self.over(number), ForwardJoin(frame.contact, 1, True), self.now)
        self.assertEqual(self.overlay.footprint()["moves_declined"], 1)


class TestSearch(WholeOverlayCase):
    """The search for neighbours."""

    def test_alone_it_insists_and_tries_several(self) -> None:
        self.know(*range(1, 10))
        self.wait(0.1)
        self.assertEqual({purpose for _, purpose in self.dialled}, {Purpose.URGENT})
        self.assertEqual(len(self.dialled), 3)
        self.wait(5)
        self.assertEqual(len(self.dialled), 3)

    def test_with_neighbours_it_asks_one_after_the_other(self) -> None:
        self.link(1)
        self.link(2)
        self.know(*range(10, 20))
        for count in range(1, 4):
            self.wait(5)
            index, purpose = self.dialled[-1]
            self.assertEqual((len(self.dialled), purpose), (count, Purpose.NEIGHBOUR))
            self.link(index, Purpose.NEIGHBOUR, outgoing=True)
        self.wait(60)
        self.assertEqual(len(self.dialled), 3)

    def test_who_is_not_found_is_forgotten(self) -> None:
        self.link(1)
        self.link(2)
        self.know(10)
        self.wait(5)
        self.overlay.dial_failed(contact_of(10).id, self.now)
        self.assertEqual(self.passive(), 0)
        self.wait(60)
        self.assertEqual(len(self.dialled), 1)

    def test_a_dial_whose_end_is_not_told_is_over_after_a_while(self) -> None:
        self.link(1)
        self.know(10)
        self.wait(100)
        self.assertEqual((self.dialled, self.passive()), ([(10, Purpose.NEIGHBOUR)], 0))
        self.assertEqual(self.overlay.footprint()["overlay_dials"], 0)

    def test_what_may_not_be_dialled_now_is_put_off(self) -> None:
        self.link(1)
        self.know(10)
        self.may_dial = False
        self.wait(2)
        self.may_dial = True
        self.wait(0.4)
        self.assertEqual(self.dialled, [])
        self.wait(10)
        self.assertEqual(self.dialled, [(10, Purpose.NEIGHBOUR)])

    def refuse_all(self, seconds: float) -> None:
        """For *seconds*, let each node that is dialled refuse for want of room."""
        until = self.now + seconds
        done = 0
        while self.now < until:
            self.wait(0.1)
            for index, purpose in self.dialled[done:]:
                if purpose is Purpose.NEIGHBOUR:
                    self.open(index, purpose, outgoing=True)
                    self.overlay.closed(self.over(index), Reason.ROOM, self.now)
            done = len(self.dialled)

    def test_where_all_are_full_it_asks_less_and_less_often(self) -> None:
        for index in (1, 2, 3):
            self.link(index, Purpose.JOIN, outgoing=True)
        self.know(*range(10, 40))
        self.refuse_all(60)
        asked = len(self.dialled)
        self.assertTrue(5 <= asked <= 10, asked)
        self.refuse_all(120)
        self.assertTrue(2 <= len(self.dialled) - asked <= 9)
        self.assertEqual(self.passive(), self.config.passive_view)
        # With one neighbour less, the node asks more often again.
        self.overlay.closed(self.over(1), Reason.LEAVING, self.now)
        asked = len(self.dialled)
        self.refuse_all(3)
        self.assertGreater(len(self.dialled), asked)

    def surround(self) -> None:
        """Let twenty nodes of one host become neighbours, which dial this one."""
        for index in range(1, 21):
            self.assertTrue(self.open(index, Purpose.URGENT, host="10.7.7.7", address=False))
            self.overlay.link_up(self.over(index), self.now)

    def test_whoever_dials_it_a_node_searches_until_it_has_drawn_two_neighbours(self) -> None:
        self.surround()
        self.know(*range(30, 50))
        drawn = [self.draw(), self.draw()]
        self.dialled.clear()
        self.wait(600)
        self.assertEqual(self.dialled, [])
        self.overlay.closed(self.over(drawn[0]), Reason.LOST, self.now)
        self.wait(20)
        self.assertNotEqual(self.dialled, [])

    def test_if_it_has_drawn_none_it_soon_insists_and_if_one_later(self) -> None:
        self.surround()
        self.know(*range(30, 40))
        self.refuse_all(10)
        purposes = [purpose for _, purpose in self.dialled]
        self.assertEqual(purposes[: PATIENCE + 1], [Purpose.NEIGHBOUR] * PATIENCE + [Purpose.URGENT])
        self.link(self.dialled[-1][0], Purpose.URGENT, outgoing=True)
        self.dialled.clear()
        self.refuse_all(120)
        purposes = [purpose for _, purpose in self.dialled]
        self.assertEqual(purposes.index(Purpose.URGENT), DRAW_PATIENCE)

    def test_the_two_are_of_different_sites_if_it_knows_such(self) -> None:
        self.surround()
        self.know(30, 31)
        for _ in range(2):
            self.overlay.closed(self.over(self.draw()), Reason.DISCONNECT, self.now)
        self.know(*range(32, 34))
        for index in (self.draw(), self.draw()):
            node = self.overlay._active.over(self.over(index))
            assert node is not None
            node.host = "9.9.9.9"
        self.dialled.clear()
        self.wait(600)
        self.assertEqual(self.dialled, [])  # it knows nobody else
        self.know(34)
        self.assertEqual(self.draw(), 34)

    def test_with_nobody_left_to_dial_it_looks_once_a_minute(self) -> None:
        self.surround()
        self.know(30)
        self.may_dial = False
        self.wait(600)
        self.overlay._passive.put_off(contact_of(30).id, self.now + 1e6)
        self.wait(600)
        looks = 0
        until = self.now + 600
        while (wake := self.overlay.wake) is not None and wake <= until:
            looks += wake == self.overlay._search.wake
            self.now = max(wake, self.now)
            self.overlay.tick(self.now)
        self.assertTrue(5 <= looks <= 20, looks)

    def test_who_was_sent_there_by_a_node_it_has_drawn_counts_as_drawn(self) -> None:
        self.link(1)
        self.know(2)
        drawn = self.draw()
        for requester, target in ((drawn, 8), (1, 9)):
            frame = ForwardJoin(contact_of(target), 0, True)
            self.overlay.forward_join(self.over(requester), frame, self.now)
            self.link(target, outgoing=True)
        self.assertEqual([int(node.id) for node in self.overlay._active.drawn()], [8])

    def test_with_less_than_half_of_its_neighbours_it_insists(self) -> None:
        self.link(1)
        self.link(2)
        self.know(10, 11, 12)
        self.refuse_all(20)
        purposes = [purpose for _, purpose in self.dialled]
        self.assertEqual(purposes[: PATIENCE + 1], [Purpose.NEIGHBOUR] * PATIENCE + [Purpose.URGENT])


class TestShuffles(WholeOverlayCase):
    """Shuffles: contacts go round."""

    def shuffles(self) -> list[tuple[int, Shuffle]]:
        """The walks that began or went on."""
        return self.frames(Shuffle)

    def replies(self) -> list[tuple[int, ShuffleReply]]:
        """The answers to shuffles that were sent."""
        return self.frames(ShuffleReply)

    def one(self) -> tuple[int, Shuffle]:
        """The next shuffle that this node begins, and its link."""
        while not any(isinstance(frame, Shuffle) for _, frame in self.sent):
            self.wait(0.5)
        return self.shuffles()[0]

    def test_it_goes_round_in_its_interval(self) -> None:
        for index in range(1, 6):
            self.link(index)
        self.wait(1000)
        self.assertTrue(90 <= len(self.shuffles()) <= 110)
        for index in range(1, 6):
            self.overlay.closed(self.over(index), Reason.LEAVING, self.now)
        self.wait(20)
        self.assertEqual(self.shuffles(), [])
        self.assertIsNone(self.overlay.wake)

    def test_it_takes_some_of_each_view_along_and_oneself(self) -> None:
        for index in range(1, 6):
            self.link(index)
        self.know(*range(10, 30))
        to, frame = self.one()
        indices = [int(contact.id) for contact in frame.contacts]
        self.assertEqual((indices[0], len(set(indices)), frame.left), (0, 8, self.config.active_walk))
        self.assertTrue(set(indices[1:4]) <= set(range(1, 6)) - {to})
        self.assertTrue(set(indices[4:]) <= set(range(10, 30)))

    def test_who_cannot_be_dialled_is_not_in_it(self) -> None:
        self.overlay = self.make(dialable=False)
        self.link(1)
        self.assertEqual(self.one()[1].contacts, [])
        self.setUp()
        self.overlay.me = Contact(contact_of(0).id, "127.0.0.1", 1)
        self.link(1)
        self.assertEqual(self.one()[1].contacts, [])  # nobody there would believe it

    def test_who_knows_nobody_and_has_too_few_shuffles_at_once(self) -> None:
        self.link(1)
        self.wait(1)
        self.assertEqual(len(self.shuffles()), 1)

    def test_a_link_that_is_not_up_takes_no_walk(self) -> None:
        self.link(1)
        self.overlay.closed(self.over(1), Reason.LEAVING, self.now)
        self.open(2)
        self.wait(20)
        self.assertEqual(self.shuffles(), [])

    def test_its_answer_is_taken_once_and_from_where_it_went(self) -> None:
        self.link(1)
        self.link(2)
        to, frame = self.one()
        reply = ShuffleReply(frame.token, [contact_of(10), Contact(contact_of(11).id, "127.0.0.1", 1)])
        self.overlay.shuffle_reply(self.over(3 - to), reply, self.now)
        self.assertEqual((self.passive(), self.overlay.counts["stray_shuffles"]), (0, 1))
        self.overlay.shuffle_reply(self.over(to), reply, self.now)
        self.assertEqual((self.passive(), self.overlay.counts["unbelieved_contacts"]), (1, 1))
        self.overlay.shuffle_reply(self.over(to), ShuffleReply(frame.token, [contact_of(12)]), self.now)
        self.overlay.shuffle_reply(self.over(to), ShuffleReply(7, [contact_of(12)]), self.now)
        self.assertEqual((self.passive(), self.overlay.counts["stray_shuffles"]), (1, 3))

    def test_a_walk_goes_on_and_its_answer_back(self) -> None:
        self.link(1)
        self.link(2)
        self.overlay.shuffle(self.over(1), Shuffle(7, [contact_of(10)], 3), self.now)
        self.assertEqual(self.shuffles(), [(2, Shuffle(7, [contact_of(10)], 2))])
        self.assertEqual(self.passive(), 0)
        self.overlay.shuffle_reply(self.over(1), ShuffleReply(7, []), self.now)
        reply = ShuffleReply(7, [contact_of(11)])
        self.overlay.shuffle_reply(self.over(2), reply, self.now)
        self.overlay.shuffle_reply(self.over(2), reply, self.now)
        self.assertEqual(self.replies(), [(1, reply)])
        self.assertEqual((self.passive(), self.overlay.counts["stray_shuffles"]), (0, 2))

    def test_an_answer_whose_way_back_is_gone_is_dropped(self) -> None:
        self.link(1)
        self.link(2)
        self.overlay.shuffle(self.over(1), Shuffle(7, [], 3), self.now)
        self.overlay.closed(self.over(1), Reason.LEAVING, self.now)
        self.sent.clear()
        self.overlay.shuffle_reply(self.over(2), ShuffleReply(7, []), self.now)
        self.assertEqual(self.sent, [])

    def test_at_its_end_it_is_answered_with_others(self) -> None:
        self.link(1)
        self.link(2)
        self.know(10, 11, *range(20, 25))
        self.overlay.shuffle(self.over(1), Shuffle(7, [contact_of(10), contact_of(30)], 1), self.now)
        ((number, reply),) = self.replies()
        told = {int(contact.id) for contact in reply.contacts}
        self.assertEqual((number, told), (1, {11, *range(20, 25), 2}))
        self.assertEqual(self.passive(), 8)

    def test_it_ends_where_it_came_by_already(self) -> None:
        for index in (1, 2, 3):
            self.link(index)
        self.overlay.shuffle(self.over(1), Shuffle(7, [], 5), self.now)
        ((on, _),) = self.shuffles()
        self.overlay.shuffle(self.over(5 - on), Shuffle(7, [], 3), self.now)
        self.assertEqual([number for number, _ in self.replies()], [5 - on])
        self.overlay.shuffle_reply(self.over(on), ShuffleReply(7, []), self.now)
        self.assertEqual([number for number, _ in self.replies()], [1])

    def test_its_own_is_not_answered(self) -> None:
        self.link(1)
        self.link(2)
        to, frame = self.one()
        self.overlay.shuffle(self.over(3 - to), Shuffle(frame.token, frame.contacts, 2), self.now)
        self.assertEqual(self.sent, [])

    def test_it_goes_to_none_of_those_it_tells_of(self) -> None:
        for index in (1, 2, 3):
            self.link(index)
        self.overlay.shuffle(self.over(1), Shuffle(7, [contact_of(2)], 5), self.now)
        self.assertEqual([number for number, _ in self.shuffles()], [3])

    def test_only_so_many_walks_are_remembered(self) -> None:
        self.link(1)
        self.link(2)
        for token in range(self.config.shuffle_walks + 1):
            self.now += 1
            self.overlay.shuffle(self.over(1), Shuffle(token, [], 5), self.now)
        self.assertEqual(self.overlay.footprint()["shuffle_walks"], self.config.shuffle_walks)
        self.overlay.shuffle_reply(self.over(2), ShuffleReply(0, []), self.now)
        self.assertEqual(self.overlay.counts["stray_shuffles"], 1)
