"""A node gets the messages that it misses once, asking one link at a time that holds them."""

from __future__ import annotations

from tests.core.network import batch, closing, cut, entry, have, raw_batch
from tests.core.repair_case import RepairTestCase
from twisted_mesh.core.events import LinkClosed
from twisted_mesh.wire.link import Pong


class TestAsking(RepairTestCase):
    """Which link is asked, for which messages, and when."""

    def test_an_announcement_on_an_eager_link_is_asked_for_at_once(self) -> None:
        # The peer could not push it; nothing is on its way.
        effects = self.receive(2, have("emil", 1, 3))
        self.assertEqual(self.wants(effects, 2), [("emil", 1, 3)])

    def test_an_announcement_on_a_lazy_link_waits_for_the_push(self) -> None:
        # An announcement is sometimes faster than the tree: a graft each time would bring copies.
        self.make_lazy_by_us(2)
        self.assertEqual(self.asked(self.receive(2, have("emil", 1, 2))), [])
        self.assertEqual(self.asked(self.wait(0.149)), [])
        self.receive(1, batch("emil", 2))
        self.assertEqual(self.asked(self.wait(5)), [])

    def test_when_the_push_does_not_come_the_announcer_is_asked(self) -> None:
        self.make_lazy_by_us(2)
        self.receive(2, have("emil", 1, 2))
        self.assertEqual(self.wants(self.wait(0.151), 2), [("emil", 2, 2)])

    def test_the_wait_fits_a_link_with_a_long_round_trip(self) -> None:
        self.make_lazy_by_us(2)
        self.now += 0.4
        self.receive(2, Pong(0))
        self.receive(2, have("emil", 1, 2))
        self.assertEqual(self.asked(self.wait(0.79)), [])
        self.assertEqual(self.asked(self.wait(0.02)), [2])

    def test_only_the_first_pong_to_its_own_ping_is_a_round_trip(self) -> None:
        self.make_lazy_by_us(2)
        self.receive(2, Pong(7))
        self.now += 0.4
        self.receive(2, Pong(0))
        self.now += 10
        self.receive(2, Pong(0), have("emil", 1, 2))
        self.assertEqual(self.asked(self.wait(0.81)), [2])

    def test_only_what_was_announced_long_enough_ago_is_asked_for(self) -> None:
        # Messages that were announced a moment ago are on their way over the tree.
        self.make_lazy_by_us(2)
        self.receive(2, have("emil", 1, 2))
        self.wait(0.1)
        self.receive(2, have("emil", 1, 5))
        self.assertEqual(self.wants(self.wait(0.06), 2), [("emil", 2, 2)])

    def test_a_link_that_announced_a_moment_ago_is_not_asked_for_what_another_announced(self) -> None:
        self.make_lazy_by_us(2, 3)
        self.receive(2, have("emil", 1, 2))
        self.wait(0.1)
        self.receive(3, have("emil", 1, 9))
        effects = self.wait(0.06)
        self.assertEqual((self.wants(effects, 2), self.asked(effects)), ([("emil", 2, 2)], [2]))

    def test_after_an_answer_what_was_announced_meanwhile_follows(self) -> None:
        self.make_lazy_by_us(2)
        self.receive(2, have("emil", 1, 2))
        self.wait(0.1)
        self.receive(2, have("emil", 1, 5))
        self.wait(0.06)
        effects = self.answer(2, batch("emil", 2), high=5)
        self.assertEqual(self.wants(effects, 2), [("emil", 3, 5)])

    def test_an_announcement_that_says_nothing_new_does_not_begin_the_wait_again(self) -> None:
        self.make_lazy_by_us(2)
        self.receive(2, have("emil", 1, 2))
        self.wait(0.1)
        self.receive(2, have("emil", 1, 2))
        self.assertEqual(self.asked(self.wait(0.06)), [2])

    def test_the_graft_makes_the_link_push_again(self) -> None:
        self.make_lazy_by_us(2)
        self.receive(2, have("emil", 1, 2))
        self.wait(0.2)
        # The link is eager again: the next announcement is asked for at once.
        self.answer(2, batch("emil", 2), high=2)
        self.assertEqual(self.asked(self.receive(2, have("emil", 1, 3))), [2])

    def test_what_is_held_is_not_asked_for(self) -> None:
        self.receive(1, batch("emil", 1, 5))
        self.assertEqual(self.asked(self.receive(2, have("emil", 1, 5))), [])
        self.assertEqual(self.node.footprint()["pulls"], 0)

    def test_only_the_hole_is_asked_for_and_not_what_waits_behind_it(self) -> None:
        cut("emil", 2, 3, 2)
        self.receive(1, batch("emil", 1, 2), batch("emil", 6, 2), batch("emil", 9))
        self.assertEqual(self.wants(self.receive(2, have("emil", 1, 9)), 2), [("emil", 3, 5)])
        effects = self.answer(2, batch("emil", 3, 3), high=9)
        self.assertEqual(self.wants(effects, 2), [("emil", 8, 8)])
        self.assertEqual(self.asked(self.answer(2, batch("emil", 8), high=9)), [])

    def test_what_the_announcer_no_longer_holds_is_not_asked_of_it(self) -> None:
        self.assertEqual(self.wants(self.receive(2, have("emil", 5, 9)), 2), [("emil", 5, 9)])
        self.assertEqual(self.asked(self.receive(3, have("dora", 4, 3))), [])

    def test_who_has_the_lowest_of_what_is_missing_is_asked_first(self) -> None:
        # Only those messages move the head; others wait, and need room.
        self.make_lazy_by_us(2, 3)
        self.receive(2, have("emil", 5, 9))
        self.receive(3, have("emil", 1, 4))
        effects = self.wait(0.2)
        self.assertEqual((self.wants(effects, 3), self.wants(effects, 2)), ([("emil", 2, 4)], []))

    def test_of_several_the_one_with_the_most_is_asked(self) -> None:
        self.make_lazy_by_us(2, 3, 4)
        for number, high in ((2, 5), (3, 9), (4, 7)):
            self.receive(number, have("emil", 1, high))
        self.assertEqual(self.asked(self.wait(0.2)), [3])

    def test_streams_are_shared_among_those_who_have_them(self) -> None:
        # If one link were asked for everything, it would come at the pace of that link.
        self.practise()
        names = ("emil", "fred", "anna")
        for number in (2, 3, 4):
            self.receive(1, *(batch(name, 1) for name in names))
            self.receive(number, *(batch(name, 1) for name in names))
        for number in (2, 3, 4):
            self.receive(number, *(have(name, 1, 2) for name in names))
        self.assertEqual(sorted(self.asked(self.wait(0.2))), [2, 3, 4])

    def test_claims_are_clipped_to_what_is_proven_and_some(self) -> None:
        # Otherwise a link that lies that it holds 2^62 messages would be asked first for ever.
        self.receive(1, batch("emil", 1, 5))
        effects = self.receive(2, have("emil", 1, 2**62))
        self.assertEqual(self.wants(effects, 2), [("emil", 6, 5 + 2**20)])
        # A batch that waits behind a hole proves a number as well.
        self.star()
        self.receive(1, batch("fred", 100))
        effects = self.receive(2, have("fred", 1, 2**62))
        self.assertEqual(self.wants(effects, 2), [("fred", 1, 99)])
        # Of an author that is known by claims alone, nothing is proven.
        self.star()
        self.assertEqual(self.wants(self.receive(3, have("cleo", 1, 2**62)), 3), [("cleo", 1, 2**20)])

    def test_an_announcement_of_an_unknown_author_opens_no_stream(self) -> None:
        self.receive(2, have("emil", 1, 9))
        self.assertEqual(self.node.footprint()["open_streams"], 0)

    def test_an_announcement_on_a_closing_link_is_not_asked_for(self) -> None:
        self.handle(closing(2))
        self.assertEqual(self.receive(2, have("emil", 1, 2)), [])
        self.assertEqual(self.node.footprint()["pulls"], 0)


class TestOneAtATime(RepairTestCase):
    """For each stream one link is asked; the next one is asked when that one is done or does nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.make_lazy_by_us(2, 3, 4)

    def test_the_next_is_asked_after_the_closing_have(self) -> None:
        self.announce(2, 3)
        self.assertEqual(self.asked(self.wait(0.2)), [2])
        effects = self.answer(2, batch("emil", 2, 2), high=3)
        self.assertEqual((self.wants(effects, 3), self.asked(effects)), ([("emil", 4, 9)], [3]))

    def test_an_announcement_is_not_taken_for_the_closing_have(self) -> None:
        self.announce(2, 3)
        self.wait(0.2)
        self.assertEqual(self.asked(self.receive(2, have("emil", 1, 9), have("emil", 1, 10))), [])

    def test_an_answer_nobody_asked_for_changes_nothing(self) -> None:
        self.announce(2, 3)
        self.assertEqual(self.asked(self.wait(0.2)), [2])
        self.assertEqual(self.asked(self.answer(3, high=9)), [])
        self.assertEqual(self.asked(self.receive(4, have("emil", 1, 1, answer=True))), [])

    def test_what_comes_keeps_others_from_being_asked_however_long_it_takes(self) -> None:
        # If the clock alone decided, all links would send the same over a slow line.
        self.announce(2, 3, high=20)
        self.assertEqual(self.asked(self.wait(0.2)), [2])
        for first in range(2, 20):
            large = raw_batch("emil", first, 1, bytes(8192))
            self.assertEqual(self.asked(self.wait(0.9) + self.receive(2, large)), [])

    def test_a_trickle_is_given_up_and_asked_last_from_then_on(self) -> None:
        # Otherwise a liar could hold up a stream for ever, with a message a second.
        self.announce(2, 3, high=50)
        self.assertEqual(self.asked(self.wait(0.2)), [2])
        for first in range(2, 7):
            self.assertEqual(self.asked(self.wait(0.9) + self.receive(2, batch("emil", first))), [])
        self.assertEqual(self.asked(self.wait(0.9)), [3])
        self.assertEqual(self.asked(self.answer(3, batch("emil", 7, 44), high=50)), [])
        # Links that have as much are asked before it; if there is none, it is asked all the same.
        self.assertEqual(self.asked(self.receive(2, have("fred", 1, 9))), [2])
        self.receive(2, batch("fred", 1, 9), have("fred", 1, 9, answer=True))
        self.assertEqual(self.asked(self.receive(3, have("fred", 1, 19))), [3])
        self.receive(2, have("fred", 1, 99))
        self.assertEqual(self.wants(self.receive(3, have("fred", 1, 19, answer=True)), 3), [])

    def test_other_streams_that_come_over_the_link_show_that_it_is_on_its_way(self) -> None:
        # A link is first in, first out.
        self.announce(2, 3)
        self.wait(0.2)
        for first in range(1, 5):
            self.assertEqual(self.asked(self.wait(0.9) + self.receive(2, batch("fred", first))), [])

    def test_but_not_for_ever(self) -> None:
        self.announce(2, 3)
        self.wait(0.2)
        asked = []
        for first in range(1, 7):
            asked += self.asked(self.wait(0.9) + self.receive(2, batch("fred", first)))
        self.assertEqual(asked, [3])

    def test_without_progress_the_next_is_asked(self) -> None:
        self.announce(2, 3)
        self.assertEqual(self.asked(self.wait(0.2)), [2])
        self.assertEqual(self.asked(self.wait(0.9)), [])
        self.assertEqual(self.asked(self.wait(0.1)), [3])

    def test_what_is_here_already_is_no_progress(self) -> None:
        # Otherwise a link that sends old messages again keeps a stream from being repaired.
        self.announce(2, 3)
        self.assertEqual(self.asked(self.wait(0.2)), [2])
        asked = []
        for _ in range(6):
            asked += self.asked(self.wait(0.9) + self.receive(2, batch("emil", 1)))
        self.assertEqual(asked, [3])  # and neither again, as long as what it was asked for may still come

    def test_patience_fits_a_link_with_a_long_round_trip(self) -> None:
        self.now += 0.5
        self.receive(2, Pong(0))
        effects = self.receive(2, have("fred", 1, 9)) + self.receive(3, have("fred", 1, 9))
        self.assertEqual(self.asked(effects), [2])
        self.assertEqual(self.asked(self.wait(1.9)), [])
        self.assertEqual(self.asked(self.wait(0.2)), [3])

    def test_when_the_asked_link_goes_another_is_asked_at_once(self) -> None:
        for gone in (closing(2), LinkClosed(2)):
            self.star()
            self.make_lazy_by_us(2, 3)
            self.announce(2, 3)
            self.assertEqual(self.asked(self.wait(0.2)), [2])
            self.assertEqual(self.asked(self.handle(gone)), [3])

    def test_what_was_pushed_meanwhile_is_not_asked_for_again(self) -> None:
        self.announce(2, 3)
        self.wait(0.2)
        self.receive(1, batch("emil", 2, 8))
        self.assertEqual(self.asked(self.answer(2, high=9)), [])
        self.assertEqual(self.node.footprint()["pulls"], 0)


class TestJoiningOn(RepairTestCase):
    """A newcomer pulls at once the messages that a snapshot claims, from one link after the other."""

    def test_what_a_snapshot_names_is_pulled_at_once(self) -> None:
        self.make()
        effects = self.up(1, "anna", entry("emil", 9, low=4), entry("fred", 5))
        self.assertEqual(self.wants(effects, 1), [("emil", 4, 9)])

    def test_a_second_neighbour_with_as_much_is_not_asked(self) -> None:
        self.make()
        self.up(1, "anna", entry("emil", 9, low=4))
        self.assertEqual(self.asked(self.up(2, "bert", entry("emil", 9, low=4))), [])


class TestFetched(RepairTestCase):
    def test_messages_that_this_node_asked_for_are_counted_and_no_others(self) -> None:
        for frames, fetched in (
            ([batch("emil", 1)], 0),
            ([batch("emil", 2, 2)] * 2 + [batch("emil", 4)], 3),
        ):
            self.receive(2, *frames)
            (stream,) = [stream for stream in self.node.report().streams if stream.high]
            self.assertEqual(stream.fetched, fetched)
            self.announce(2, high=4)
