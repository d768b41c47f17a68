"""Peers that tell false addresses of others: after a few nobody is dialled on their word."""

from __future__ import annotations

from itertools import count

from tests.core.network import contact_of
from tests.core.overlay.test_overlay import WholeOverlayCase
from twisted_mesh.core.overlay.tellers import FALSE_BURST, TELLERS_MOST, Tellers
from twisted_mesh.wire.membership import ForwardJoin, Shuffle, ShuffleReply


class TestTellers(WholeOverlayCase):
    LIAR, HONEST = 1, 2

    def setUp(self) -> None:
        super().setUp()
        self.fresh = count(100)
        self.overlay = self.make(active_view=20)
        self.link(self.LIAR)
        self.link(self.HONEST)

    def told(self, teller: int) -> int:
        """Tell a node in a SHUFFLE; how many more contacts there are then."""
        before = self.passive()
        self.overlay.shuffle(self.over(teller), Shuffle(1, [contact_of(next(self.fresh))], 0), self.now)
        return self.passive() - before

    def lie(self, teller: int) -> bool:
        """Send on a walk a node that is not there; whether it was dialled."""
        contact, before = contact_of(next(self.fresh)), len(self.dialled)
        self.overlay.forward_join(self.over(teller), ForwardJoin(contact, 0, False), self.now)
        dialled = len(self.dialled) > before
        if dialled:
            self.overlay.dial_failed(contact.id, self.now)
        self.now += 2
        return dialled

    def lies(self) -> None:
        """Tell as many false addresses as are dialled in a row."""
        self.assertEqual([self.lie(self.LIAR) for _ in range(FALSE_BURST)], [True] * FALSE_BURST)

    def test_then_no_walk_that_one_brings_is_followed_and_those_of_others_are(self) -> None:
        self.lies()
        self.assertEqual((self.lie(self.LIAR), self.lie(self.HONEST)), (False, True))
        self.assertEqual(self.overlay.counts["unheeded_gossip"], 1)
        self.assertEqual(self.passive(), 0)

    def test_but_its_walks_are_passed_on(self) -> None:
        self.lies()
        self.sent.clear()
        self.overlay.forward_join(self.over(self.LIAR), ForwardJoin(contact_of(99), 2, False), self.now)
        self.assertEqual(self.frames(ForwardJoin), [(self.HONEST, ForwardJoin(contact_of(99), 1, False))])

    def test_and_nothing_is_learned_from_its_shuffles(self) -> None:
        while not (asked := [frame for number, frame in self.frames(Shuffle) if number == self.LIAR]):
            self.wait(1)
        self.lies()
        self.assertEqual((self.told(self.LIAR), self.told(self.HONEST)), (0, 1))
        reply = ShuffleReply(asked[0].token, [contact_of(99)])
        self.overlay.shuffle_reply(self.over(self.LIAR), reply, self.now)
        self.assertNotIn(contact_of(99), self.overlay.contacts())

    def test_nor_does_it_move_this_node_to_another(self) -> None:
        self.lies()
        self.dialled.clear()
        self.sent.clear()
        move = ForwardJoin(contact_of(99), 0, True)
        self.overlay.forward_join(self.over(self.LIAR), move, self.now)
        self.assertEqual(
            (self.dialled, self.frames(ForwardJoin)),
            ([], [(self.LIAR, ForwardJoin(contact_of(99), 1, True))]),
        )

    def test_a_false_move_and_a_false_contact_count_as_well(self) -> None:
        move = ForwardJoin(contact_of(98), 0, True)
        self.overlay.forward_join(self.over(self.LIAR), move, self.now)
        self.overlay.dial_failed(contact_of(98).id, self.now)
        self.told(self.LIAR)
        while len(self.dialled) < 2:
            self.wait(1)
        self.overlay.dial_failed(b"%032d" % self.dialled[-1][0], self.now)
        self.assertEqual([self.lie(self.LIAR) for _ in range(FALSE_BURST)].count(True), FALSE_BURST - 2)

    def test_a_minute_later_there_is_one_more(self) -> None:
        self.lies()
        self.now += self.config.dial_again
        self.assertEqual([self.lie(self.LIAR) for _ in range(3)], [True, False, False])

    def test_a_node_that_was_found_counts_for_nobody(self) -> None:
        for index in range(30, 30 + 2 * FALSE_BURST):
            walk = ForwardJoin(contact_of(index), 0, False)
            self.overlay.forward_join(self.over(self.LIAR), walk, self.now)
            self.link(index, outgoing=True)
            self.overlay.dial_failed(contact_of(index).id, self.now)  # a later dial, on nobody's word
            self.now += 2
        self.assertEqual(self.overlay.footprint()["false_tellers"], 0)

    def test_addresses_that_their_nodes_have_signed_count_for_nobody(self) -> None:
        for _ in range(2 * FALSE_BURST):
            contact = contact_of(next(self.fresh))
            self.overlay.known([contact], self.over(self.LIAR), self.now)
            self.overlay.dial_failed(contact.id, self.now)
        self.assertEqual(self.overlay.footprint()["false_tellers"], 0)

    def test_another_key_at_the_same_public_host_is_no_new_beginning(self) -> None:
        for index in (3, 4):
            self.assertTrue(self.open(index, host="9.9.9.9"))
            self.overlay.link_up(self.over(index), self.now)
        self.assertEqual([self.lie(3) for _ in range(FALSE_BURST)], [True] * FALSE_BURST)
        self.assertFalse(self.lie(4))


class TestBounds(WholeOverlayCase):
    def test_so_many_tellers_and_dials_are_remembered(self) -> None:
        self.make(dials_at_once=2)
        tellers = Tellers(self.config)
        for number in range(TELLERS_MOST + 1):
            for _ in range(FALSE_BURST):
                tellers.told_falsely(b"%d" % number, 0)
            tellers.dialled(b"%d" % number, b"teller")
        self.assertEqual(tellers.footprint(), {"false_tellers": TELLERS_MOST, "dials_on_word": 2})
        self.assertEqual([tellers.is_heeded(b"%d" % number, 1) for number in (0, 1)], [True, False])
