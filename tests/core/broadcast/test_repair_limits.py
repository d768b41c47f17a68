"""Repair when links lie, lack room, go away or have much to bring."""

from __future__ import annotations

from tests.core.network import batch, closing, forged, have, of, prune, raw_batch
from tests.core.repair_case import RepairTestCase
from twisted_mesh.core.broadcast.candidates import TRIES
from twisted_mesh.core.broadcast.pull import STEPS_MOST
from twisted_mesh.core.broadcast.repair import LOOKS_MOST, UNVERIFIED_MOST
from twisted_mesh.core.events import LinkClosed, Send, Timer
from twisted_mesh.core.link import DIGEST_PAUSE
from twisted_mesh.errors import Reason
from twisted_mesh.wire.broadcast import Digest
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.link import Pong


class TestFailing(RepairTestCase):
    """Claims are unsigned: a link that does not keep them is asked last, and at most three times."""

    def test_an_announcer_that_sends_nothing_is_asked_three_times(self) -> None:
        # A link loses nothing, so that it is asked again only when no answer is to be had any more.
        effects = self.receive(2, have("emil", 1, 9)) + self.wait(self.config.gap_patience)
        self.assertEqual(self.asked(effects), [2])
        effects = self.wait(3 * self.config.gap_patience)
        self.assertEqual(self.asked(effects), [2, 2])
        self.assertEqual(self.node.footprint()["pulls"], 0)

    def test_an_announcer_that_answers_with_nothing_new_is_asked_three_times(self) -> None:
        # As fast as it answers: its false claim would go in circles for ever.
        for here in ([], [batch("emil", 1)]):
            self.star()
            self.receive(1, *here)
            asked = self.asked(self.announce(2))
            for _ in range(9):
                asked += self.asked(self.answer(2, *here, high=9))
            self.assertEqual(asked, [2, 2, 2])

    def test_who_failed_is_asked_last_however_much_it_claims(self) -> None:
        self.make_lazy_by_us(2, 3)
        self.receive(2, have("emil", 1, 2**62))
        self.receive(3, have("emil", 1, 2))
        self.assertEqual(self.asked(self.wait(0.2)), [2])
        effects = self.answer(2, high=2**62)
        self.assertEqual(self.wants(effects, 3), [("emil", 2, 2)])

    def test_who_failed_for_one_stream_is_asked_last_for_others(self) -> None:
        self.make_lazy_by_us(2, 3)
        self.receive(2, have("fred", 1, 9))
        for _ in range(3):
            self.receive(2, have("fred", 1, 9, answer=True))
        self.assertEqual(self.node.footprint()["pulls"], 0)
        self.receive(2, have("emil", 1, 9))
        self.receive(3, have("emil", 1, 3))
        self.assertEqual(self.asked(self.wait(0.2)), [3])

    def test_who_answered_since_is_asked_as_any_other(self) -> None:
        self.make_lazy_by_us(2, 3)
        self.receive(2, have("fred", 1, 2))
        self.receive(2, have("fred", 1, 2, answer=True))
        self.receive(2, batch("fred", 1, 2), have("fred", 1, 2, answer=True))
        self.receive(2, have("emil", 1, 9))
        self.receive(3, have("emil", 1, 3))
        self.assertEqual(self.asked(self.wait(0.2)), [2])

    def test_when_the_head_has_moved_failures_are_forgotten(self) -> None:
        self.make_lazy_by_us(2)
        self.receive(2, have("emil", 1, 9))
        self.wait(0.2)
        self.answer(2, high=9)
        self.answer(2, high=9)  # two failures, asked for the third time
        self.receive(1, batch("emil", 2))
        asked = []
        for _ in range(9):
            asked += self.asked(self.answer(2, high=9))
        self.assertEqual(asked, [2, 2])  # the third failure is the first for what is missing now

    def test_failures_are_kept_of_so_many_streams(self) -> None:
        self.star(claims_limit=2)
        for name in ("emil", "fred", "gina"):
            self.receive(1, batch(name, 1))
            self.receive(2, have(name, 1, 9))
            self.wait(10)
        self.assertEqual(self.node.footprint()["failures"], 2)

    def test_a_claim_that_was_forgotten_is_not_asked_for(self) -> None:
        self.star(claims_limit=1)
        self.make_lazy_by_us(2)
        self.receive(2, have("emil", 1, 2))
        self.receive(2, have("fred", 1, 1))
        self.receive(2, batch("fred", 1))
        self.assertEqual([name for name, _, _ in self.wants(self.wait(5), 2) if name == "emil"], [])

    def test_a_link_that_failed_and_went_leaves_nothing(self) -> None:
        before = self.node.footprint()
        self.receive(4, have("emil", 1, 9))
        self.receive(4, have("emil", 1, 9, answer=True))
        self.handle(LinkClosed(4))
        self.wait(1)
        self.assertEqual(self.node.footprint()["pulls"], 0)
        self.assertEqual(self.node.footprint()["claims"], before["claims"])

    def test_a_stream_with_two_truths_is_pulled_no_more(self) -> None:
        self.receive(1, batch("emil", 1))
        self.receive(2, have("emil", 1, 3))
        self.receive(3, raw_batch("emil", 1, 1, b"\x91\x93\x00\x00\xa1x"))
        effects = self.answer(2, high=3)
        effects += self.receive(4, have("emil", 1, 3)) + self.wait(5)
        self.assertEqual(self.asked(effects), [])
        self.assertEqual(self.node.footprint()["pulls"], 0)


class TestNoRoom(RepairTestCase):
    """Messages that had no room are not asked for again at once."""

    def test_what_has_no_room_is_pulled_later(self) -> None:
        self.star(waiting_bytes=600)
        self.receive(1, batch("fred", 9))
        effects = self.receive(2, have("emil", 5, 9))
        self.assertEqual(self.wants(effects, 2), [("emil", 5, 9)])
        effects = self.answer(2, batch("emil", 5, 5), low=5, high=9)
        self.assertEqual((self.asked(effects), self.node.counts["no_room"]), ([], 1))
        self.assertEqual(self.asked(self.wait(0.9)), [])
        self.receive(1, batch("fred", 1, 8))
        self.assertEqual(self.wants(self.wait(0.2), 2), [("emil", 5, 9)])

    def test_where_nothing_has_room_for_long_the_announcer_has_not_failed(self) -> None:
        self.star(waiting_bytes=600)
        self.receive(1, batch("fred", 9))
        self.receive(2, have("emil", 5, 9))
        asked = []
        for _ in range(9):
            effects = self.answer(2, batch("emil", 5, 5), low=5, high=9) + self.wait(1)
            asked += [want for want in self.wants(effects, 2) if want[0] == "emil"]
        self.assertEqual(asked, [("emil", 5, 9)] * 9)

    def test_a_false_signature_is_found_though_there_is_no_room(self) -> None:
        # Unverified it would count as an answer, as often as its sender likes.
        for claims in ([have("emil", 5, 9)], []):
            self.star(waiting_bytes=600)
            self.receive(1, batch("fred", 9))
            self.receive(2, *claims)
            effects = self.receive(2, forged(batch("emil", 5, 5)))
            self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])

    def test_what_has_no_room_keeps_nobody_from_being_asked(self) -> None:
        # A member that fills the waiting room, and sends one batch a second that is true but has no room.
        self.star(waiting_bytes=600)
        self.receive(1, batch("emil", 1), batch("fred", 9))
        effects = []
        for first in range(20, 30):
            effects += self.receive(1, batch("emil", first)) + self.wait(0.5)
            effects += self.receive(2, have("emil", 1, 5)) + self.wait(0.5)
        self.assertEqual(self.wants(effects, 2)[0], ("emil", 2, 5))
        self.assertEqual(self.delivered(self.answer(2, batch("emil", 2, 4), high=5)), [(2, [2, 3, 4, 5])])


class TestGrafting(RepairTestCase):
    """If a link is lost, each author whose parent it was is grafted over another link at once."""

    def test_a_lost_parent_is_replaced_at_once(self) -> None:
        # Waiting for an announcement costs its delay and the time-out on top.
        for gone in (closing(1), LinkClosed(1)):
            self.star()
            self.make_lazy_by_us(2)
            self.receive(2, have("emil", 1, 1))
            effects = self.handle(gone)
            self.assertEqual(self.wants(effects, 2), [("emil", 2, MAX_NUMBER)])

    def test_one_answer_is_enough(self) -> None:
        self.make_lazy_by_us(2)
        self.handle(LinkClosed(1))
        self.assertEqual(self.asked(self.answer(2, high=1) + self.wait(5)), [])
        self.assertEqual(self.node.footprint()["pulls"], 0)

    def test_it_brings_what_was_missed_meanwhile(self) -> None:
        self.make_lazy_by_us(2)
        self.handle(LinkClosed(1))
        effects = self.answer(2, batch("emil", 2, 2), high=5)
        self.assertEqual(self.wants(effects, 2), [("emil", 4, 5)])

    def test_a_graft_that_is_not_answered_is_tried_again(self) -> None:
        self.make_lazy_by_us(2)
        asked = self.asked(self.handle(LinkClosed(1)) + self.wait(4 * self.config.gap_patience))
        self.assertEqual(asked, [2, 2, 2])

    def test_whoever_has_the_most_is_grafted(self) -> None:
        self.make_lazy_by_us(2, 3)
        for number in (2, 3):
            self.receive(number, prune("emil"))
        self.receive(1, batch("emil", 2, 2))
        self.receive(3, have("emil", 1, 3))
        self.assertEqual(self.asked(self.handle(LinkClosed(1))), [3])

    def test_where_nobody_else_knows_the_origin_nobody_is_asked(self) -> None:
        self.star()
        self.receive(1, batch("emil", 1))
        for number in (2, 3, 4):
            self.handle(LinkClosed(number))
        self.up(5, "fred")
        self.assertEqual(self.asked(self.handle(LinkClosed(1))), [])

    def test_a_link_whose_frontier_has_not_come_is_not_grafted(self) -> None:
        self.star()
        for number in (2, 3, 4):
            self.handle(LinkClosed(number))
        self.open(5, "fred")
        self.receive(1, batch("emil", 1))  # pushed to 5, which so is known to get it
        self.assertEqual(self.asked(self.handle(LinkClosed(1))), [])

    def test_a_lost_link_that_was_no_parent_grafts_nothing(self) -> None:
        self.make_lazy_by_us(2)
        self.assertEqual(self.asked(self.handle(LinkClosed(2))), [])

    def test_the_parent_is_who_brought_the_newest_first(self) -> None:
        self.receive(1, batch("emil", 1))
        self.receive(2, batch("emil", 3))
        self.receive(1, batch("emil", 2))  # filled by 1, but 3 came over 2
        self.assertEqual(self.asked(self.handle(LinkClosed(1))), [])
        self.assertEqual(len(self.asked(self.handle(LinkClosed(2)))), 1)

    def test_each_origin_is_grafted_once(self) -> None:
        self.receive(1, batch("emil", 1), batch("fred", 1))
        self.receive(2, batch("emil", 1), batch("fred", 1))
        effects = self.handle(closing(1))
        effects += self.handle(LinkClosed(1))
        self.assertEqual(sorted(self.wants(effects, 2) + self.wants(effects, 3) + self.wants(effects, 4)),
                         [("emil", 2, MAX_NUMBER), ("fred", 2, MAX_NUMBER)])  # fmt: skip

    def test_while_a_link_is_asked_a_lost_parent_asks_nobody_else(self) -> None:
        self.make_lazy_by_us(2)
        self.receive(2, have("emil", 1, 3))
        self.assertEqual(self.asked(self.wait(0.2)), [2])
        self.assertEqual(self.asked(self.handle(LinkClosed(1))), [])

    def test_a_graft_to_a_link_that_goes_as_well_goes_to_the_next(self) -> None:
        self.make_lazy_by_us(2, 3)
        self.assertEqual(self.asked(self.handle(LinkClosed(1))), [2])
        self.receive(3, have("emil", 1, 2))
        self.assertEqual(self.asked(self.handle(LinkClosed(2)) + self.wait(0.2)), [3])


class TestManyStreams(RepairTestCase):
    """Only so much is asked for at once as comes in time: else links would seem to be silent."""

    NAMES = ("emil", "fred", "anna", "cleo")

    def announce(self, number: int) -> list[tuple[str, int, int]]:
        """Let a link announce messages of four streams; the WANTs that it gets."""
        return self.wants(self.receive(number, *(have(name, 1, 9) for name in self.NAMES)), number)

    def test_as_long_as_answers_may_be_large_two_streams_are_asked_for_at_once(self) -> None:
        asked = self.announce(2)
        self.assertEqual(len(asked), 2)
        for done in (0, 1):
            name = asked[done][0]
            body = b"x" * 2**20
            effects = self.receive(2, raw_batch(name, 1, 9, body), have(name, 1, 9, answer=True))
            asked += self.wants(effects, 2)
            self.assertEqual(len(asked), 3 + done)
        self.assertEqual({name for name, _, _ in asked}, set(self.NAMES))

    def test_of_all_links_together(self) -> None:
        self.receive(2, have("emil", 1, 9), have("fred", 1, 9))
        self.assertEqual(self.asked(self.receive(3, have("anna", 1, 9))), [])

    def test_while_answers_are_small_all_are_asked_for_at_once(self) -> None:
        self.practise()
        self.assertEqual(len(self.announce(2)), 4)

    def test_those_that_wait_are_asked_for_in_turn(self) -> None:
        # What comes later would else overtake a stream for ever.
        self.receive(2, have("emil", 1, 9), have("fred", 1, 9))
        self.receive(2, have("anna", 1, 9))
        self.receive(2, have("cleo", 1, 9))
        effects = self.receive(
            2,
            raw_batch("emil", 1, 5, b"x" * 2**20),
            have("emil", 1, 9, answer=True),  # there is more of it, behind the others
        )
        # A batch of it has come, so it waits behind the others no longer.
        self.assertEqual([name for name, _, _ in self.wants(effects, 2)], ["emil", "anna"])
        effects = self.receive(2, raw_batch("fred", 1, 9, b"x" * 2**20), have("fred", 1, 9, answer=True))
        self.assertEqual([name for name, _, _ in self.wants(effects, 2)], ["cleo"])

    def test_a_graft_does_not_wait(self) -> None:
        self.receive(1, batch("emil", 1))
        self.receive(2, *(have(name, 1, 9) for name in ("fred", "anna", "cleo")))
        self.assertEqual(self.wants(self.handle(LinkClosed(1)), 2), [("emil", 2, MAX_NUMBER)])

    def test_a_link_that_answers_nothing_holds_up_nothing_for_ever(self) -> None:
        effects = self.receive(2, *(have(name, 1, 100) for name in self.NAMES)) + self.wait(60)
        self.assertEqual({name for name, _, _ in self.wants(effects, 2)}, set(self.NAMES))
        footprint = self.node.footprint()
        self.assertEqual((footprint["pulls"], footprint["queued_pulls"], footprint["wakes"]), (0, 0, 0))

    def test_when_the_link_goes_those_that_waited_for_it_go_too(self) -> None:
        self.announce(2)
        self.handle(LinkClosed(2))
        self.wait(5)
        footprint = self.node.footprint()
        self.assertEqual((footprint["pulls"], footprint["queued_pulls"], footprint["wakes"]), (0, 0, 0))

    def test_a_stream_with_two_truths_that_waits_is_forgotten(self) -> None:
        self.receive(1, batch("anna", 1))
        self.receive(2, have("emil", 1, 100), have("fred", 1, 100))
        self.receive(2, have("anna", 1, 100))
        self.receive(3, raw_batch("anna", 1, 1, b"\x91\x93\x00\x00\xa1x"))
        self.wait(60)
        self.assertEqual(self.node.footprint()["queued_pulls"], 0)

    def test_one_that_came_by_itself_meanwhile_is_not_asked_for(self) -> None:
        self.receive(2, have("emil", 1, 9), have("fred", 1, 9))
        self.receive(2, have("anna", 1, 9))
        self.receive(1, batch("anna", 1, 9))
        effects = self.receive(2, batch("emil", 1, 9), have("emil", 1, 9, answer=True))
        self.assertEqual(self.asked(effects + self.wait(0.5)), [])

    def test_while_others_answer_a_silent_link_is_given_more_time(self) -> None:
        # All answers share this node's line: it may be behind them.
        self.receive(2, have("emil", 1, 90))
        self.receive(3, have("fred", 1, 90))
        self.receive(4, have("fred", 1, 90))
        for first in range(1, 5):
            self.assertEqual(self.asked(self.wait(0.9) + self.receive(2, batch("emil", first))), [])
        self.assertIn(4, self.asked(self.wait(1.5)))


class TestUnverified(RepairTestCase):
    """Claims are unsigned: streams known by claims alone must cost little, and hold up nothing."""

    def test_made_up_streams_do_not_hold_up_real_ones(self) -> None:
        self.receive(1, batch("emil", 1))
        self.receive(2, *(have(f"nobody {number}", 1, 1) for number in range(200)))
        effects = self.receive(3, have("emil", 1, 9))
        self.assertEqual(self.wants(effects, 3), [("emil", 2, 9)])

    def test_who_answers_nothing_is_believed_nothing_more(self) -> None:
        self.receive(2, *(have(f"nobody {number}", 1, 1) for number in range(200)))
        self.wait(10)
        self.assertLess(
            self.node.footprint()["unverified_pulls"], TRIES
        )  # of those an answer may be on its way
        self.assertEqual(self.wants(self.receive(2, have("nobody", 1, 1)), 2), [])
        self.wait(self.config.gap_patience)
        self.assertEqual(self.node.footprint()["unverified_pulls"], 0)
        # What is proven is asked for all the same, and an answer makes up for everything.
        self.receive(1, batch("emil", 1))
        self.assertEqual(self.wants(self.receive(2, have("emil", 1, 2)), 2), [("emil", 2, 2)])
        self.answer(2, batch("emil", 2), high=2)
        self.assertEqual(self.wants(self.receive(2, have("fred", 1, 1)), 2), [("fred", 1, 1)])

    def test_so_many_are_looked_at_in_one_event_and_the_rest_in_the_next(self) -> None:
        self.receive(2, *(have(f"nobody {number}", 1, 1) for number in range(LOOKS_MOST + 9)))
        looked = self.node.footprint()["queued_pulls"]
        self.assertLess(looked, LOOKS_MOST)
        self.assertLessEqual(self.timers[Timer.REPAIR], self.now)
        self.wait(0)
        self.assertEqual(self.node.footprint()["queued_pulls"], looked + 9)

    def test_unverified_pulls_are_bounded(self) -> None:
        self.receive(2, *(have(f"nobody {number}", 1, 1) for number in range(UNVERIFIED_MOST + 9)))
        self.assertEqual(self.node.footprint()["unverified_pulls"], UNVERIFIED_MOST)
        self.assertEqual(self.node.footprint()["pulls"], UNVERIFIED_MOST)

    def test_announcements_that_only_rise_take_no_room(self) -> None:
        self.make_lazy_by_us(2)
        for high in range(2, 100):
            self.receive(2, have("emil", 1, high))
        self.assertLessEqual(self.node.footprint()["wakes"], STEPS_MOST + 1)
        self.assertEqual(self.wants(self.wait(0.2), 2), [("emil", 2, 99)])

    def test_how_long_a_peer_is_waited_for_is_not_its_own_choice(self) -> None:
        self.now += 29
        self.receive(2, Pong(0))
        self.assertEqual(self.wants(self.receive(2, have("fred", 1, 9)), 2), [("fred", 1, 9)])
        self.receive(3, have("fred", 1, 9))
        self.assertEqual(self.wants(self.wait(4.1), 3), [("fred", 1, 9)])

    def test_old_messages_do_not_make_a_silent_link_look_busy(self) -> None:
        self.receive(2, batch("emil", 1))
        self.receive(2, have("fred", 1, 9))
        self.receive(3, have("fred", 1, 9))
        asked = []
        for _ in range(4):
            asked += self.wants(self.wait(0.5) + self.receive(2, batch("emil", 1)), 3)
        self.assertEqual(asked, [("fred", 1, 9)])

    def test_a_flood_of_digests_is_answered_once(self) -> None:
        self.receive(1, batch("emil", 1))
        self.wait(DIGEST_PAUSE)
        answered = [of(self.receive(2, Digest([])), Send) for _ in range(50)]
        self.assertEqual([len(sent) for sent in answered], [1] + [0] * 49)
        self.wait(DIGEST_PAUSE)
        self.assertEqual(len(of(self.receive(2, Digest([])), Send)), 1)
