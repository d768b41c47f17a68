"""The two views: which nodes are in them, and which make room."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import contact_of, link_of
from twisted_mesh.core.link import Link
from twisted_mesh.core.overlay.views import FULL_FIRST, FULL_LONGEST, ActiveView, PassiveView, jitter
from twisted_mesh.wire.membership import Contact

ANNA, BERT, CLEO = b"anna", b"bert", b"cleo"  # who tell things


def at(number: int, host: str) -> Contact:
    """The contact of node *number*, if it is on *host*."""
    return Contact(contact_of(number).id, host, 1024 + number)


def link(number: int, id: bytes) -> Link:
    """A link of that number to the node *id*."""
    return link_of(number, Contact(id, "", 1))


class TestActiveView(SynchronousTestCase):
    """The active view holds nodes, not links."""

    def setUp(self) -> None:
        self.view = ActiveView()

    def test_two_links_to_a_node_are_one_neighbour(self) -> None:
        one, other = link(1, ANNA), link(2, ANNA)
        node = self.view.add(one, 0)
        self.assertIs(self.view.add(other, 1), node)
        self.assertEqual((len(self.view), node.since), (1, 0))
        self.assertEqual(self.view.footprint(), {"active_view": 1, "active_links": 2})
        self.assertIs(self.view.remove(one), node)
        self.assertIs(self.view.get(ANNA), node)
        self.assertIs(self.view.over(other), node)
        self.assertIs(self.view.remove(other), node)
        self.assertIsNone(self.view.get(ANNA))
        self.assertIsNone(self.view.remove(other))

    def test_frames_take_the_newest_link_that_is_up(self) -> None:
        one, other = link(1, ANNA), link(2, ANNA)
        node = self.view.add(one, 0)
        self.assertEqual((node.up, self.view.up()), (False, []))
        node.links[one] = True
        self.view.add(other, 0)
        self.assertEqual((node.up, self.view.up(), node.way), (True, [node], one))
        node.links[other] = True
        self.assertIs(node.way, other)

    def test_a_connection_without_a_host_is_nowhere(self) -> None:
        self.view.add(link_of(1, Contact(ANNA, "10.0.0.1", 1)), 0)
        self.view.add(link(2, BERT), 0)
        self.assertEqual(self.view.sites(), {"10.0.0.1"})


class TestPassiveView(SynchronousTestCase):
    """The passive view is bounded, and no source gets more than its share of it."""

    def setUp(self) -> None:
        self.active = ActiveView()
        self.random = Random(1)
        self.view = self.make(6)

    def make(self, limit: int) -> PassiveView:
        return PassiveView(contact_of(0).id, limit, self.active, self.random)

    def test_neither_itself_nor_neighbours_are_in_it(self) -> None:
        self.active.add(link(1, contact_of(1).id), 0)
        self.view.add(contact_of(0), ANNA)
        self.view.add(contact_of(1), ANNA)
        self.assertEqual(self.view.contacts(), [])
        self.assertNotIn(contact_of(1).id, self.view)

    def test_but_not_against_the_nodes_own_word(self) -> None:
        first, second = contact_of(1), contact_of(2)
        elsewhere = Contact(first.id, "10.9.9.9", 1)
        self.view.add(elsewhere, BERT)
        self.view.add(Contact(contact_of(3).id, first.host, first.port), BERT)
        self.view.add(first, ANNA, own_word=True)
        self.assertEqual(self.view.contacts(), [first])
        self.view.add(elsewhere, BERT, own_word=True)
        self.assertEqual(self.view.contacts(), [first])
        self.assertEqual(self.view.footprint(), {"passive_view": 1, "passive_sources": 1})
        self.view.add(second, BERT)
        self.view.had_no_room(second.id, 0)
        self.view.add(second, ANNA, own_word=True)
        self.assertEqual(self.view.ready(0), [first])  # it still has none
        self.view.add(Contact(second.id, "10.9.9.9", 1), ANNA, own_word=True)
        self.assertEqual(self.view.contacts(), [first, second])

    def test_the_first_word_on_a_node_or_a_place_stays_until_it_is_removed(self) -> None:
        first = contact_of(1)
        self.view.add(first, ANNA)
        elsewhere = Contact(first.id, "10.9.9.9", 1)
        another = Contact(contact_of(2).id, first.host, first.port)
        for contact in (elsewhere, another):
            self.view.add(contact, BERT)
            self.assertEqual(self.view.contacts(), [first])
        self.view.remove(first.id)
        self.view.remove(first.id)
        self.view.add(another, BERT)
        self.assertEqual(self.view.contacts(), [another])
        self.assertEqual(self.view.footprint(), {"passive_view": 1, "passive_sources": 1})

    def told_by(self, first: int) -> int:
        """How many contacts from that number on are in the view."""
        return sum(int(contact.id) >= first for contact in self.view.contacts())

    def test_no_source_gets_more_than_its_share(self) -> None:
        for number in range(1, 7):
            self.view.add(contact_of(number), ANNA)
        for number in range(100, 200):
            self.view.add(contact_of(number), BERT)
        self.assertEqual((len(self.view), self.told_by(100)), (6, 3))
        for number in range(200, 300):
            self.view.add(contact_of(number), CLEO)
        self.assertEqual((len(self.view), self.told_by(200)), (6, 2))

    def test_no_host_gets_more_than_its_share_whoever_tells_of_it(self) -> None:
        for number in range(1, 7):
            self.view.add(contact_of(number), ANNA)
        for number in range(100, 200):
            self.view.add(at(number, "10.7.7.7"), b"%d" % number)
        self.assertEqual((len(self.view), self.told_by(100)), (6, 1))

    def test_of_one_host_alone_all_places_are_taken(self) -> None:
        for number in range(1, 20):
            self.view.add(at(number, "127.0.0.1"), ANNA if number % 2 else BERT)
        self.assertEqual(len(self.view), 6)

    def test_what_was_sent_makes_room_first(self) -> None:
        sent = [contact_of(number).id for number in (1, 2)]
        for number in range(1, 7):
            self.view.add(contact_of(number), ANNA)
        for number in (11, 12):
            self.view.add(contact_of(number), BERT, sent)
        self.assertEqual(sorted(int(id) for id in self.view), [3, 4, 5, 6, 11, 12])
        self.view.add(contact_of(13), BERT, sent)  # nothing of it is left
        self.assertEqual(self.told_by(11), 3)

    def test_what_was_sent_does_not_make_room_for_one_host_with_many_nodes(self) -> None:
        sent = [contact_of(number).id for number in range(1, 7)]
        for number in range(1, 7):
            self.view.add(contact_of(number), ANNA)
        for number in range(100, 120):
            self.view.add(at(number, "10.7.7.7"), BERT, sent)
        self.assertEqual(self.told_by(100), 1)

    def test_who_had_no_room_is_left_alone_longer_each_time(self) -> None:
        contact = contact_of(1)
        self.view.add(contact, ANNA)
        now = 0.0
        for attempt in range(20):
            self.view.had_no_room(contact.id, now)
            pause = min(FULL_FIRST * 2**attempt, FULL_LONGEST)
            self.assertEqual(self.view.ready(now + pause / 2 - 0.01), [])
            self.assertEqual(self.view.ready(now, full=True), [contact])
            now += pause * 1.5
            self.assertEqual(self.view.ready(now), [contact])
        self.view.had_no_room(ANNA, now)  # is not in it

    def test_a_contact_can_be_put_off(self) -> None:
        self.view.add(contact_of(1), ANNA)
        self.view.put_off(contact_of(1).id, 5)
        self.view.put_off(contact_of(1).id, 3)
        self.view.put_off(ANNA, 9)  # is not in it
        self.assertEqual(self.view.ready(4.9, full=True), [])
        self.assertEqual(self.view.ready(5), [contact_of(1)])

    def test_neighbours_and_those_left_out_are_not_ready(self) -> None:
        for number in (1, 2, 3):
            self.view.add(contact_of(number), ANNA)
        self.active.add(link(1, contact_of(1).id), 0)  # proven, and not yet up
        self.assertEqual(self.view.ready(0, (contact_of(2).id,)), [contact_of(3)])

    def test_a_host_is_drawn_first_and_one_without_a_neighbour_before_others(self) -> None:
        self.view = self.make(50)
        for number in range(1, 20):
            self.view.add(at(number, "10.7.7.7"), ANNA)
        self.view.add(at(30, "10.8.8.8"), BERT)
        ready = self.view.ready(0)
        drawn = [self.view.pick(ready) for _ in range(400)]
        self.assertTrue(150 < sum(contact == at(30, "10.8.8.8") for contact in drawn) < 250)
        self.active.add(link_of(1, Contact(CLEO, "10.8.8.8", 1)), 0)
        self.assertNotIn(at(30, "10.8.8.8"), [self.view.pick(ready) for _ in range(50)])
        self.active.add(link_of(2, Contact(BERT, "10.7.7.7", 1)), 0)
        self.assertIn(at(30, "10.8.8.8"), [self.view.pick(ready) for _ in range(50)])
        self.assertIsNone(self.view.pick([]))

    def test_a_host_is_crowded_while_there_is_another_to_dial(self) -> None:
        self.view.add(at(1, "10.7.7.7"), ANNA)
        self.assertFalse(self.view.is_crowded("10.7.7.7", self.view.ready(0)))
        self.active.add(link_of(1, Contact(BERT, "10.7.7.7", 1)), 0)
        self.assertFalse(self.view.is_crowded("10.7.7.7", self.view.ready(0)))
        self.view.add(at(2, "10.8.8.8"), ANNA)
        self.assertTrue(self.view.is_crowded("10.7.7.7", self.view.ready(0)))
        self.assertFalse(self.view.is_crowded("10.8.8.8", self.view.ready(0)))
        self.assertFalse(self.view.is_crowded("", self.view.ready(0)))

    def test_pauses_differ(self) -> None:
        pauses = {jitter(2, self.random) for _ in range(100)}
        self.assertTrue(1 <= min(pauses) < 1.2 and 2.8 < max(pauses) < 3)
