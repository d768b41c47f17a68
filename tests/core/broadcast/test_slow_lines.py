"""Repair over slow lines: a batch that is coming is waited for; liars gain no time by that."""

from __future__ import annotations

from tests.core.network import batch, closing, entries, have, of, origin_of, prune, raw_batch, want
from tests.core.repair_case import RepairTestCase
from twisted_mesh.core.broadcast.pace import LOOK_AGAIN
from twisted_mesh.core.events import Arriving, Effect, LinkClosed
from twisted_mesh.core.link import READ_SO_FAR
from twisted_mesh.wire.begun import Begun
from twisted_mesh.wire.bodies import join_entries
from twisted_mesh.wire.broadcast import SignedBatch, Want
from twisted_mesh.wire.link import Ping, Pong

LARGE = 1_000_000  # bytes of a batch that takes long


class SlowLinesTestCase(RepairTestCase):
    """Over some of the links to Anna, Bert, Cleo and Dora frames take long to come."""

    def arrive(
        self, number: int, first: int, last: int, size: int, *, name: str = "emil", length: int = LARGE
    ) -> list[Effect]:
        """*size* bytes of a batch of *length* bytes have come over a link."""
        return self.handle(Arriving(number, Begun(origin_of(name), 1, first, last), size, length))

    def drip(
        self,
        number: int,
        first: int,
        last: int,
        seconds: float,
        pace: float,
        *,
        begin: int = 1,
        length: int = LARGE,
    ) -> list[Effect]:
        """For *seconds*, a batch comes at *pace* bytes a second; *begin* bytes of it had come."""
        effects = []
        for step in range(int(2 * seconds)):
            size = begin + int(pace * step / 2)
            effects += self.arrive(number, first, last, size, length=length) + self.wait(0.5)
        return effects

    def slow_now(self, number: int) -> list[Effect]:
        """A frame that is no batch takes long to come."""
        return self.handle(Arriving(number, None, 100, 1000))

    def grafts(self, effects: list[Effect], number: int) -> list[tuple[int, int]]:
        """The messages of Emil's that a link is asked for."""
        return self._wanted(effects, number, graft=True)

    def revised(self, effects: list[Effect], number: int) -> list[tuple[int, int]]:
        """The messages of Emil's that a link is still to send, by a WANT that revises an earlier one."""
        return self._wanted(effects, number, graft=False)

    def _wanted(self, effects: list[Effect], number: int, *, graft: bool) -> list[tuple[int, int]]:
        wants = of(self.frames(effects, number), Want)
        emils = [frame for frame in wants if frame.origin == origin_of("emil")]
        return [(frame.first, frame.last) for frame in emils if frame.graft is graft]


class TestComing(SlowLinesTestCase):
    """While an answer is coming, its sender is left alone, and nobody else is asked."""

    def test_a_sole_holder_is_not_given_up_while_bytes_of_what_was_asked_come(self) -> None:
        effects = self.announce(2)
        self.assertEqual(self.grafts(effects, 2), [(1, 9)])
        effects = self.drip(2, 1, 9, 300, 100)
        self.assertEqual((self.asked(effects), self.node.footprint()["failures"]), ([], 0))
        effects = self.answer(2, batch("emil", 1, 9), high=9)
        self.assertEqual(self.delivered(effects), [(1, [1, 2, 3, 4, 5, 6, 7, 8, 9])])
        self.assertEqual(self.node.footprint()["pulls"], 0)

    def test_nor_while_other_things_come_before_it(self) -> None:
        # A link is first in, first out.
        self.announce(2)
        effects = []
        for step in range(300):
            size = 1 + 50_000 * step
            effects += self.arrive(2, 1, 9, size, name="fred", length=10**9) + self.wait(0.5)
        self.assertEqual((self.asked(effects), self.node.footprint()["failures"]), ([], 0))

    def test_nor_is_another_asked_that_is_no_faster(self) -> None:
        self.announce(2, 3)
        self.link(3).repair.pace = 100
        effects = self.drip(2, 1, 9, 100, 100, length=20_000)
        self.assertEqual(self.asked(effects), [])

    def test_another_is_asked_for_what_the_first_has_not_begun_to_send(self) -> None:
        self.announce(2, 3)
        self.link(3).repair.pace = 100_000
        effects = self.drip(2, 1, 3, 4.5, 10_000)
        self.assertEqual(self.asked(effects), [])
        effects = self.drip(2, 1, 3, 10, 10_000, begin=45_001)
        self.assertEqual((self.grafts(effects, 3), self.grafts(effects, 2)), ([(4, 9)], []))

    def test_one_of_which_nothing_is_known_after_a_gaps_patience(self) -> None:
        self.announce(2, 3)
        effects = self.drip(2, 1, 3, 29, 10_000)
        self.assertEqual(self.asked(effects), [])
        effects = self.drip(2, 1, 3, 3, 10_000, begin=290_001)
        self.assertEqual((self.grafts(effects, 3), self.grafts(effects, 2)), ([(4, 9)], []))

    def test_and_for_what_lies_before_it(self) -> None:
        self.announce(2, 3)
        self.link(3).repair.pace = 100_000
        effects = self.drip(2, 4, 9, 10, 10_000)
        self.assertEqual(self.grafts(effects, 3), [(1, 3)])

    def test_where_all_that_is_missing_is_under_way_nobody_is_asked(self) -> None:
        self.announce(2, 3)
        self.link(3).repair.pace = 100_000
        self.assertEqual(self.asked(self.drip(2, 1, 9, 25, 10_000)), [])

    def test_not_even_when_the_link_that_was_asked_is_gone(self) -> None:
        self.announce(2, 3)
        self.arrive(4, 1, 9, 1000)
        effects = self.handle(LinkClosed(2)) + self.wait(3)
        self.assertEqual(self.asked(effects), [])
        # But when that comes to nothing, somebody is.
        effects = self.receive(4, batch("fred", 1)) + self.wait(LOOK_AGAIN)
        self.assertEqual(self.grafts(effects, 3), [(1, 9)])

    def test_what_came_already_is_no_reason_to_wait(self) -> None:
        self.receive(1, batch("emil", 1, 9))
        self.announce(2, 3, high=19)
        effects = self.drip(2, 1, 9, 40, 10_000)
        self.assertEqual(self.grafts(effects, 3), [(10, 19)])

    def test_a_liar_that_drips_keeps_nobody_from_an_honest_holder(self) -> None:
        for pace in (None, 100_000):
            self.star()
            self.announce(2, 3)
            if pace:
                self.link(3).repair.pace = pace
            effects = self.drip(2, 1, 9, 40, 2)
            self.assertEqual(self.grafts(effects, 3), [(1, 9)])
            effects = self.answer(3, batch("emil", 1, 9), high=9)
            self.assertEqual(len(self.delivered(effects)), 1)
            # And from then on it is asked after all others.
            effects = self.announce(2, 3, high=19) + self.wait(0.2)
            self.assertEqual(self.grafts(effects, 2), [])

    def test_who_stops_in_the_middle_is_asked_after_the_others_from_then_on(self) -> None:
        self.make_lazy_by_us(2, 3)
        self.announce(2, 3)
        self.assertEqual(self.grafts(self.wait(0.2), 2), [(2, 9)])
        self.receive(2, batch("emil", 2))
        self.assertEqual(self.grafts(self.wait(1.1), 3), [(3, 9)])
        self.answer(3, batch("emil", 9), high=9)
        self.answer(2, batch("emil", 3, 6), high=9)  # after all
        self.receive(1, batch("fred", 1))
        for number in (2, 3):
            self.receive(number, batch("fred", 1))
            self.receive(number, have("fred", 1, 9))
        self.assertEqual(self.asked(self.wait(0.2)), [3])

    def test_nor_does_one_that_sends_other_things_slowly(self) -> None:
        self.announce(2, 3)
        asked = []
        for step in range(100):
            effects = self.arrive(2, 1, 9, 100 + step, name="fred") + self.wait(0.5)
            asked += self.grafts(effects, 3)
        self.assertEqual(asked, [(1, 9)])

    def test_nor_one_that_is_slow_and_silent(self) -> None:
        self.announce(2, 3)
        # The slow line may be that of this node itself.
        self.assertEqual(self.grafts(self.slow(20, 4), 3), [])
        self.assertEqual(self.grafts(self.slow(20, 4), 3), [(1, 9)])


class TestOwing(SlowLinesTestCase):
    """A link loses nothing: it brings the messages that it was asked for, or says that it lacks them."""

    def ask_both(self) -> None:
        """Bert is asked and brings nothing, so Cleo is asked."""
        self.assertEqual(self.grafts(self.announce(2), 2), [(1, 9)])
        self.announce(3)
        self.assertEqual(self.grafts(self.wait(1.0), 3), [(1, 9)])

    def test_nothing_is_asked_twice_of_one_link(self) -> None:
        self.ask_both()
        effects = self.wait(5)
        for number in (2, 3):
            effects += self.receive(number, have("emil", 1, 19)) + self.wait(5)
        self.assertEqual(self.asked(effects), [])

    def test_once_it_has_answered_it_is_asked_on(self) -> None:
        self.ask_both()
        self.wait(5)
        effects = self.answer(2, batch("emil", 1, 3), high=9)
        self.assertEqual((self.grafts(effects, 2), self.grafts(effects, 3)), ([(4, 9)], []))

    def test_or_has_brought_nothing_for_a_gaps_patience(self) -> None:
        self.assertEqual(self.grafts(self.announce(2), 2), [(1, 9)])
        self.assertEqual(self.asked(self.wait(1 + self.config.gap_patience - 0.1)), [])
        self.assertEqual(self.grafts(self.wait(0.2), 2), [(1, 9)])

    def test_on_a_slow_line_as_long_as_a_gap_may_be_waited_for(self) -> None:
        self.star(gap_longest=60)
        self.announce(2)
        self.link(2).repair.pace = 10_000
        self.assertEqual(self.asked(self.wait(60)), [])
        self.assertEqual(self.grafts(self.wait(10), 2), [(1, 9)])

    def test_one_that_was_given_up_and_brings_it_after_all_is_asked_again_at_its_answers_end(self) -> None:
        self.announce(2)
        self.wait(3)
        self.receive(2, batch("emil", 1, 3))
        self.announce(3)
        self.assertEqual(self.asked(self.wait(0.5)), [])
        effects = self.answer(2, high=9)
        self.assertEqual(self.asked(effects), [2])

    def test_likewise_where_some_of_it_is_coming(self) -> None:
        self.announce(2)
        self.wait(3)
        self.arrive(2, 1, 3, 1000)
        self.assertEqual(self.asked(self.announce(3) + self.wait(0.5)), [])

    def test_what_it_brings_while_another_is_asked_is_not_asked_for_again(self) -> None:
        self.ask_both()
        self.receive(2, batch("emil", 1, 3))
        effects = self.answer(3, batch("emil", 4, 3), high=9)
        self.assertEqual(self.grafts(effects, 3), [(7, 9)])

    def test_what_came_another_way_is_taken_out_of_what_was_asked_for(self) -> None:
        self.ask_both()
        self.assertEqual(self.revised(self.receive(3, batch("emil", 1, 4)), 2), [])
        effects = self.wait(LOOK_AGAIN)
        self.assertEqual((self.revised(effects, 2), self.revised(effects, 3)), ([(5, 9)], []))
        self.receive(3, batch("emil", 5, 5))
        self.assertEqual(self.revised(self.wait(LOOK_AGAIN), 2), [(10, 9)])  # nothing is left

    def test_likewise_of_the_link_that_is_asked_now(self) -> None:
        self.announce(2)
        self.receive(1, batch("emil", 1, 4))
        self.assertEqual(self.revised(self.wait(LOOK_AGAIN), 2), [(5, 9)])

    def test_once_a_second(self) -> None:
        self.ask_both()
        self.wait(LOOK_AGAIN)
        effects = []
        for first in range(1, 9):
            effects += self.receive(3, batch("emil", first)) + self.wait(LOOK_AGAIN / 4)
        self.assertIn(len(self.revised(effects, 2)), (2, 3))

    def test_what_was_taken_out_is_no_new_ask(self) -> None:
        # What is pushed comes another way, and is to go on doing so.
        self.announce(2)
        self.receive(1, batch("emil", 1, epoch=2))
        again = batch("emil", 1, epoch=2)
        self.assertEqual(self.prunes(self.receive(2, again), 2), ["emil"])
        self.receive(1, batch("emil", 1, 4))
        self.assertEqual(self.revised(self.wait(LOOK_AGAIN), 2), [(5, 9)])
        self.assertEqual(self.prunes(self.receive(2, again), 2), [])  # it is lazy still

    def test_when_it_goes_another_is_asked_at_once(self) -> None:
        for gone in (closing(2), LinkClosed(2)):
            self.star()
            self.announce(2)
            self.wait(2)
            self.handle(gone)
            self.assertEqual(self.node.footprint()["pulls"], 0)  # nothing is waited for any more
            self.assertEqual(self.grafts(self.announce(3), 3), [(1, 9)])


class TestOneSlowPeer(SlowLinesTestCase):
    """A WANT can wait for a minute before the slow line of one peer: the others are not kept waiting."""

    def setUp(self) -> None:
        super().setUp()
        self.link(2).repair.pace = 10_000

    def test_it_is_asked_after_the_others(self) -> None:
        self.make_lazy_by_us(2, 3)
        self.announce(2, 3)
        effects = self.wait(0.2)
        self.assertEqual((self.grafts(effects, 3), self.asked(effects)), ([(2, 9)], [3]))

    def test_as_soon_as_nothing_comes_another_is_asked_that_is_not_slow(self) -> None:
        self.announce(2)
        effects = self.announce(3) + self.slow(0.5, 2)
        self.assertEqual(self.asked(effects), [])
        self.assertEqual(self.grafts(self.slow(1, 2), 3), [(1, 9)])
        # It is not to blame, and is left alone until it has answered.
        self.assertEqual((self.link(2).repair.stalled_answers, self.node.footprint()["failures"]), (0, 0))
        self.answer(3, batch("emil", 1, 4), high=4)
        self.assertEqual(self.grafts(self.announce(2, high=12) + self.slow(5, 2), 2), [])
        effects = self.answer(2, batch("emil", 5, 5), high=12) + self.wait(1)
        self.assertEqual(self.delivered(effects), [(5, [5, 6, 7, 8, 9])])
        self.assertEqual(self.grafts(effects, 2), [(10, 12)])

    def test_but_not_if_the_line_of_that_is_slow_too_since_it_may_be_this_nodes_own(self) -> None:
        self.link(3).flow.meter.rate = 10_000
        self.announce(2, 3)
        self.assertEqual(self.asked(self.slow(20, 2)), [])
        self.star()
        self.link(2).repair.pace = 10_000
        self.announce(2, 3)
        self.assertEqual(self.asked(self.slow(20, 2, 3)), [])

    def test_nor_while_it_brings_other_batches_since_the_answer_comes_nearer(self) -> None:
        self.announce(2, 3)
        effects = []
        for first in range(1, 6):
            effects += self.receive(2, batch("fred", first)) + self.slow(0.5, 2)
        self.assertEqual(self.asked(effects), [])
        self.assertEqual(self.grafts(self.slow(1.5, 2), 3), [(1, 9)])

    def test_but_not_for_longer_than_a_gaps_patience_since_it_could_do_so_for_ever(self) -> None:
        self.link(2).repair.pace, self.link(3).repair.pace = 60_000, 100_000
        self.receive(3, prune("fred"))
        began, first = self.now, 0
        effects = self.announce(2, 3)
        while not self.grafts(effects, 3) and first < 400:
            first += 1
            effects = self.receive(2, batch("fred", first)) + self.slow(0.5, 2)
        self.assertEqual(self.now - began, self.config.gap_patience + 1)

    def test_nor_while_it_brings_them(self) -> None:
        effects = self.announce(2, 3) + self.drip(2, 1, 9, 20, 10_000)
        self.assertEqual(self.asked(effects), [2])

    def test_it_is_grafted_only_if_there_is_no_other_way(self) -> None:
        self.receive(1, batch("emil", 1))
        for gone, asked in ((1, 3), (3, 4), (4, 2)):
            self.assertEqual(self.asked(self.handle(closing(gone))), [asked])

    def test_then_a_graft_keeps_no_link_from_being_asked_for_what_it_announces(self) -> None:
        for number in (3, 4):
            self.link(number).repair.pace = 1000
        self.receive(1, batch("emil", 1))
        self.assertEqual(self.asked(self.handle(closing(1))), [2])
        self.link(3).repair.pace = 100_000
        self.receive(3, have("emil", 1, 9))
        self.assertEqual(self.grafts(self.slow(1.5, 2), 3), [(2, 9)])


class TestPushed(SlowLinesTestCase):
    """Messages that a slow parent is about to push are not asked of another link."""

    def setUp(self) -> None:
        super().setUp()
        self.receive(1, batch("emil", 1))  # so Anna's is the link to Emil's parent

    def test_what_another_announces_is_left_to_it(self) -> None:
        self.slow_now(1)
        effects = self.announce(2, high=5) + self.slow(20, 1)
        self.assertEqual(self.asked(effects), [])
        effects = self.receive(1, batch("emil", 2, 4)) + self.wait(2)
        self.assertEqual(self.asked(effects), [])
        self.assertEqual(self.node.footprint()["pulls"], 0)

    def test_but_not_for_longer_than_a_gaps_patience(self) -> None:
        self.slow_now(1)
        effects = self.announce(2, high=5) + self.slow(29, 1)
        self.assertEqual(self.asked(effects), [])
        self.assertEqual(self.grafts(self.slow(3, 1), 2), [(2, 5)])

    def test_nor_is_one_that_is_much_faster_kept_waiting_for_long(self) -> None:
        self.slow_now(1)
        self.link(1).repair.pace = 1000
        self.link(2).repair.pace = 100_000
        effects = self.announce(2, high=5) + self.slow(4.5, 1)
        self.assertEqual(self.asked(effects), [])
        self.assertEqual(self.grafts(self.slow(2, 1), 2), [(2, 5)])

    def test_nor_what_the_parent_announced_itself(self) -> None:
        # Then it could not push it.
        self.slow_now(1)
        self.assertEqual(self.grafts(self.announce(1, high=5), 1), [(2, 5)])

    def test_nor_what_a_parent_is_not_to_push(self) -> None:
        self.receive(2, batch("emil", 2))
        self.receive(1, batch("emil", 2))  # pruned
        self.slow_now(1)
        self.assertEqual(self.grafts(self.announce(3, high=5) + self.wait(0.2), 3), [(3, 5)])

    def test_nor_what_the_line_was_slow_for_a_while_ago(self) -> None:
        self.slow_now(1)
        self.wait(6)
        self.assertEqual(self.grafts(self.announce(2, high=5), 2), [(2, 5)])


class TestWindow(SlowLinesTestCase):
    """A node asks for no more at a time than slow lines bring in a few seconds."""

    def ask(self) -> int:
        """How many of the eight runs that Bert holds he is asked for at once."""
        for number in range(8):
            self.receive(1, batch("fred", 1, epoch=number + 1))
        effects = []
        for number in range(8):
            effects += self.receive(2, have("fred", 1, 9, epoch=number + 1))
        return len(self.asked(effects))

    def test_fewer_runs_are_asked_for_at_once(self) -> None:
        self.practise()
        self.assertEqual(self.ask(), 8)
        self.star()
        self.practise()
        self.slow_now(2)
        self.link(2).repair.pace = 10
        self.assertEqual(self.ask(), 2)

    def test_what_waits_for_that_is_asked_for_when_the_others_have_come(self) -> None:
        self.practise()
        self.slow_now(2)
        self.link(2).repair.pace = 10
        self.ask()
        answers = [batch("fred", 2, 8, epoch=1), have("fred", 1, 9, answer=True, epoch=1)]
        self.assertEqual(self.asked(self.receive(2, *answers)), [2])


class TestPushing(SlowLinesTestCase):
    """A stream that is on its way to a peer need not be pushed to it."""

    def test_a_peer_that_is_being_sent_a_run_is_not_pushed_it(self) -> None:
        self.coming(2, 1)
        effects = self.receive(1, batch("emil", 1))
        self.assertEqual((self.sent(effects, 2), self.sent(effects, 3)), ([], [(1, 1)]))
        self.assertEqual(self.haves(self.wait(1), 2), [("emil", 1, 1)])  # but told
        self.assertEqual(self.sent(self.receive(1, batch("fred", 1)), 2), [(1, 1)])

    def test_for_ten_seconds(self) -> None:
        self.coming(2, 1)
        self.wait(9.9)
        self.assertEqual(self.sent(self.receive(1, batch("emil", 1)), 2), [])
        self.star()
        self.coming(2, 1)
        self.wait(10.1)
        self.assertEqual(self.sent(self.receive(1, batch("emil", 1)), 2), [(1, 1)])

    def test_one_to_a_neighbour_of_which_it_is_coming_is(self) -> None:
        self.coming(2, 2)
        self.assertEqual(self.sent(self.receive(1, batch("emil", 1)), 2), [(1, 1)])

    def test_of_too_many_runs_the_oldest_word_is_forgotten(self) -> None:
        self.star(claims_limit=2)
        for name in ("emil", "fred", "emil", "anna"):
            self.coming(2, 1, name)
        self.assertEqual(self.node.footprint()["coming"], 2)
        self.assertEqual(self.sent(self.receive(1, batch("fred", 1)), 2), [(1, 1)])
        self.assertEqual(self.sent(self.receive(1, batch("emil", 1)), 2), [])

    def test_whoever_is_in_the_middle_of_a_batch_tells_the_others(self) -> None:
        self.receive(1, batch("emil", 1))
        effects = self.arrive(1, 2, 5, 1000)
        self.assertEqual([self.told_coming(effects, n) for n in (1, 2, 3, 4)], [[], *[[("emil", 1)]] * 3])
        self.assertEqual(self.haves(effects, 2), [("emil", 1, 1)])

    def test_every_five_seconds(self) -> None:
        self.receive(1, batch("emil", 1))
        effects = self.drip(1, 2, 5, 20, 1000)
        self.assertEqual(self.told_coming(effects, 2)[:5].count(("emil", 1)), 4)

    def test_not_those_that_do_not_push_it_anyhow(self) -> None:
        self.make_lazy_by_us(2, 3)
        effects = self.arrive(1, 2, 5, 1000)
        self.assertEqual([bool(self.told_coming(effects, n)) for n in (2, 3, 4)], [False, False, True])
        self.star()
        self.make_lazy_by_us(2, 3, 4)
        self.assertEqual([self.told_coming(self.arrive(1, 2, 5, 2000), n) for n in (2, 3, 4)], [[], [], []])

    def test_what_nobody_asked_that_link_for_is_not_told(self) -> None:
        # It may never come: others would push nothing here meanwhile.
        self.receive(1, batch("emil", 1))
        self.assertEqual(self.arrive(2, 2, 5, 1000), [])
        self.assertEqual(self.arrive(1, 1, 1, 1000), [])
        self.assertEqual(self.slow_now(1), [])
        self.assertEqual(self.arrive(9, 2, 5, 1000), [])  # a link that is no more

    def test_nor_what_one_brings_that_has_dripped(self) -> None:
        self.receive(1, batch("emil", 1))
        self.announce(2, 3)
        self.drip(2, 2, 9, 35, 2)
        self.answer(3, batch("emil", 2, 8), high=9)
        self.announce(2, high=19)
        self.assertEqual(self.told_coming(self.arrive(2, 10, 19, 1000), 4), [])

    def test_of_too_many_runs_it_is_forgotten_that_they_were_told(self) -> None:
        self.star(claims_limit=2)
        for name in ("emil", "fred", "anna"):
            self.receive(1, batch(name, 1))
            self.assertNotEqual(self.arrive(1, 2, 5, 1000, name=name), [])
        self.assertEqual(self.node.footprint()["coming"], 2)


class TestReading(SlowLinesTestCase):
    """A peer is given as much as it reads in a second and a round trip."""

    def setUp(self) -> None:
        super().setUp()
        for number in range(1, 5):
            self.accept(number)

    def body(self, first: int, size: int = 20_000, name: str = "emil") -> SignedBatch:
        """A batch of one message of *size* bytes."""
        return raw_batch(name, first, 1, join_entries(entries("x" * size)))

    def push(self, *firsts: int, size: int = 20_000) -> list[list[int]]:
        """Let messages come; those that are pushed to Bert, and to Cleo, who reads all at once."""
        effects = []
        for first in firsts:
            effects += self.receive(1, self.body(first, size))
            self.accept(3)
            self.accept(4)
        return [[first for first, _ in self.sent(effects, number)] for number in (2, 3)]

    def pong(self, seconds: float) -> list[Effect]:
        """*seconds* later, Bert says that he has read all that came before the PING."""
        self.now += seconds
        return self.receive(2, Pong(READ_SO_FAR))

    def measure(self) -> None:
        """Let the node measure that Bert reads 10 kB a second."""
        self.receive(1, self.body(1, 20_000, "fred"))
        self.pong(2.0)

    def test_until_something_is_known_so_much_is_pushed(self) -> None:
        # All links of a node can share a line: over a new link, not much more may stand in its queue.
        self.assertEqual(self.push(*range(1, 9), size=5_000), [[1, 2, 3], [1, 2, 3, 4, 5, 6, 7, 8]])

    def test_and_one_however_large(self) -> None:
        self.assertEqual(self.push(1, size=200_000)[0], [1])
        self.assertEqual(self.push(2, size=10)[0], [])

    def test_when_it_has_read_it_is_pushed_to_again(self) -> None:
        self.push(*range(1, 9))
        self.accept(2)
        self.receive(2, have("emil", 1, 8))
        self.assertEqual(self.push(9)[0], [9])

    def test_then_as_much_as_it_reads_in_a_second(self) -> None:
        self.measure()
        self.assertEqual(self.push(*range(1, 9), size=4000)[0], [1, 2])
        self.assertEqual(self.haves(self.wait(1), 2), [("emil", 1, 8)])

    def test_and_nothing_that_takes_longer(self) -> None:
        self.measure()
        self.assertEqual(self.push(1, size=20_000)[0], [])

    def test_a_ping_follows_what_is_sent_one_at_a_time(self) -> None:
        ping = Ping(READ_SO_FAR)
        effects = self.receive(1, self.body(1, 5_000))
        self.assertEqual(self.all_frames(effects, 2)[-1], ping)
        self.assertNotIn(ping, self.all_frames(self.receive(1, self.body(2, 5_000)), 2))
        self.assertIn(ping, self.all_frames(self.pong(1), 2))  # for what went out since

    def test_announcements_are_gathered_until_it_has_read_what_it_was_sent(self) -> None:
        # Otherwise they alone can be more than a slow line carries.
        self.push(1, size=200_000)
        effects = []
        for first in range(2, 6):
            self.push(first)
            effects += self.wait(1)
        self.assertEqual(self.haves(effects, 2), [])
        self.accept(2)
        self.pong(20)
        self.assertEqual(self.haves(self.wait(0.1), 2), [("emil", 1, 5)])

    def test_and_take_a_small_part_of_the_line(self) -> None:
        self.receive(2, prune("emil"))
        self.link(2).flow.meter.rate = 900
        for first in (1, 2, 3):
            self.receive(1, self.body(first))
            self.assertEqual(self.haves(self.wait(0.05), 2), [("emil", 1, 1)] if first == 1 else [])
        self.assertEqual(self.haves(self.wait(0.6), 2), [])
        self.assertEqual(self.haves(self.wait(0.2), 2), [("emil", 1, 3)])

    def test_so_are_answers_to_digests(self) -> None:
        self.push(1, size=200_000)
        self.assertEqual(self.haves(self.receive(2, self.digest({"emil": 3})), 2), [])
        self.receive(2, have("emil", 1, 0))
        self.accept(2)
        self.assertEqual(self.haves(self.pong(20) + self.wait(0.1), 2), [("emil", 1, 1)])

    def ask(self, first: int) -> list[int]:
        """The messages that Bert gets if he wants *first* to 8."""
        return [one for one, _ in self.sent(self.receive(2, want("emil", first, 8)), 2)]

    def test_an_answer_ends_with_a_second_of_the_line(self) -> None:
        self.receive(2, prune("emil"))
        self.push(*range(1, 9), size=4000)
        self.measure()
        self.assertEqual(self.ask(1), [1, 2])

    def test_after_a_message_however_large(self) -> None:
        self.receive(2, prune("emil"))
        self.push(*range(1, 9))
        self.measure()
        self.assertEqual(self.ask(1), [1])

    def test_of_a_line_that_is_not_measured_it_is_taken_for_so_much(self) -> None:
        self.receive(2, prune("emil"))
        self.push(*range(1, 9))
        self.assertEqual(self.ask(1), [1, 2, 3])

    def test_none_is_begun_before_the_last_is_read(self) -> None:
        self.receive(2, prune("emil"))
        self.push(*range(1, 9))
        self.measure()
        self.assertEqual(self.ask(1), [1])
        self.assertEqual(self.ask(2), [])
        self.assertEqual([one for one, _ in self.sent(self.pong(2.0), 2)], [2])

    def test_a_want_is_followed_by_a_ping(self) -> None:
        # So it is known whether it may still stand in the queue of a slow line.
        effects = self.announce(2)
        self.assertEqual(self.all_frames(effects, 2)[-1], Ping(READ_SO_FAR))


class TestRevised(SlowLinesTestCase):
    """A WANT without graft only replaces an earlier one that is not answered yet."""

    def keep_waiting(self) -> None:
        """So many bytes wait for Bert that his WANTs are not answered yet."""
        self.star(answer_bytes=200)
        self.receive(2, prune("emil"))
        self.receive(1, *(batch("emil", first) for first in range(1, 10)))
        self.receive(1, *(batch("fred", first) for first in range(1, 4)))

    def less(self, first: int, last: int) -> Want:
        return Want(origin_of("emil"), 1, first, last, False)

    def test_of_what_is_answered_it_changes_nothing(self) -> None:
        self.receive(1, *(batch("emil", first) for first in range(1, 10)))
        self.assertEqual(self.receive(2, self.less(5, 9)), [])

    def test_nor_is_what_the_peer_wants_no_push_of_pushed(self) -> None:
        self.receive(2, prune("emil"))
        self.receive(2, self.less(5, 9))
        self.assertEqual(self.sent(self.receive(1, batch("emil", 1)), 2), [])

    def test_of_what_waits_only_that_is_sent(self) -> None:
        self.keep_waiting()
        self.assertEqual(self.receive(2, want("emil", 1, 9)), [])
        self.assertEqual(self.receive(2, self.less(8, 9)), [])
        self.assertEqual(self.sent(self.accept(2), 2), [(8, 8), (9, 9)])

    def test_or_nothing_and_the_end_is_told_all_the_same(self) -> None:
        self.keep_waiting()
        self.receive(2, want("emil", 1, 9))
        self.receive(2, self.less(10, 9))
        effects = self.accept(2)
        self.assertEqual(self.sent(effects, 2), [])
        self.assertEqual(self.haves(effects, 2, answer=True), [("emil", 1, 9)])


class TestWhatIsNoSlowLine(SlowLinesTestCase):
    """A line that rests, or brings little because there is little, does not count as slow."""

    def test_a_rest_is_not_taken_for_one(self) -> None:
        # 20 kB a minute over a line with a round trip of a millisecond.
        self.wait(60)
        for first in range(1, 6):
            effects = self.receive(1, raw_batch("emil", first, 1, bytes(20_000)))
            self.assertEqual(self.sent(effects, 2), [(first, first)])
            self.now += 0.001
            for number in (1, 2, 3, 4):
                self.accept(number)
            self.receive(2, have("emil", 1, first))
            self.wait(60)

    def test_nor_is_a_small_answer(self) -> None:
        # One message of some 120 bytes over a line with a round trip of 50 ms.
        self.receive(2, have("fred", 1, 1))
        self.wait(0.05)
        self.receive(2, batch("fred", 1), have("fred", 1, 1, answer=True))
        self.wait(10)
        self.assertEqual(self.grafts(self.announce(2), 2), [(1, 9)])
        self.announce(3)
        self.assertEqual(self.grafts(self.wait(1.0), 3), [(1, 9)])

    def test_many_batches_are_looked_at_once_a_second(self) -> None:
        self.announce(2, 3, high=2000)
        self.wait(1.0)
        for first in range(1, 1001):
            self.receive(3, batch("emil", first))
        self.assertLess(self.node.footprint()["wakes"], 50)
