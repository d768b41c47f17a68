"""A gap is put off, within a limit, while the missing messages are on their way here or to a neighbour."""

from __future__ import annotations

from tests.core.network import batch, cut, have, origin_of
from tests.core.repair_case import RepairTestCase
from twisted_mesh.core.broadcast.candidates import TRIES
from twisted_mesh.core.events import Arriving, Effect, Timer
from twisted_mesh.wire.begun import Begun

LARGE = 10_000_000


class PatienceTestCase(RepairTestCase):
    """A node that lacks Emil's messages 2 to 4; Anna's link brought 1 and 5."""

    def setUp(self) -> None:
        super().setUp()
        self.lack()

    def lack(self, **limits: float) -> None:
        """Begin anew with *limits*."""
        self.star(compare_interval=10_000, **limits)
        cut("emil", 1, 3, 1)
        self.receive(1, batch("emil", 1), batch("emil", 5))

    def say(self, number: int, coming: int, name: str = "emil") -> list[Effect]:
        """A neighbour says that the missing messages are on their way to a node *coming* hops away."""
        return self.coming(number, coming, name, low=1, high=1)

    def arrive(self, number: int, size: int, name: str = "emil") -> list[Effect]:
        """*size* bytes of the missing messages have come over a link."""
        return self.handle(Arriving(number, Begun(origin_of(name), 1, 2, 4), size, LARGE))


class TestPuttingOff(PatienceTestCase):
    """When the application is told of a gap."""

    def saying(self, coming: int, seconds: int) -> list[Effect]:
        """Let Bert say every ten seconds that the missing messages are *coming*."""
        effects = []
        for _ in range(seconds // 10):
            effects += self.say(2, coming) + self.wait(10)
        return effects

    def slow_all(self) -> None:
        """Let the lines of Bert, Cleo and Dora be known as slow."""
        for number in (2, 3, 4):
            self.link(number).repair.pace = 10_000

    def slow_and_read(self, seconds: int) -> list[Effect]:
        """Let a frame come slowly, while all neighbours read at once."""
        effects: list[Effect] = []
        for _ in range(2 * seconds):
            effects += self.slow(0.5, 4)
            for number in (1, 2, 3, 4):
                effects += self.accept(number)
        return effects

    def test_where_nothing_is_coming_it_is_told_after_its_patience(self) -> None:
        self.assertEqual(self.gaps(self.wait(29.9)), [])
        self.assertEqual(self.gaps(self.wait(0.2)), [(2, 4)])

    def test_a_gap_is_not_told_while_a_neighbour_is_being_sent_what_is_missing(self) -> None:
        self.assertEqual(self.gaps(self.saying(1, 300)), [])
        effects = self.receive(2, batch("emil", 2, 3))
        self.assertEqual(self.delivered(effects), [(2, [2, 3, 4]), (5, [5])])
        self.assertEqual(self.gaps(self.wait(60)), [])

    def test_nor_while_one_hears_of_it(self) -> None:
        self.assertEqual(self.gaps(self.saying(8, 300)), [])

    def test_but_no_further_than_that(self) -> None:
        self.assertEqual(self.gaps(self.saying(9, 40)), [(2, 4)])

    def test_and_only_for_the_patience_after_the_last_word(self) -> None:
        self.wait(20)
        self.say(2, 1)
        self.assertEqual(self.gaps(self.wait(29.9)), [])
        self.assertEqual(self.gaps(self.wait(0.2)), [(2, 4)])

    def test_and_not_for_ever(self) -> None:
        self.lack(gap_longest=100)
        self.assertEqual(self.gaps(self.saying(1, 90)), [])
        self.assertEqual(self.gaps(self.saying(1, 12)), [(2, 4)])

    def test_a_gap_is_not_told_while_it_is_coming_here(self) -> None:
        effects = []
        for step in range(600):
            effects += self.arrive(2, 1 + 50 * step) + self.wait(0.5)
        self.assertEqual(self.gaps(effects), [])

    def test_nor_that_for_ever(self) -> None:
        self.lack(gap_longest=100)
        effects = []
        for step in range(204):
            effects += self.arrive(2, 1 + 50 * step) + self.wait(0.5)
        self.assertEqual(self.gaps(effects), [(2, 4)])

    def test_nor_while_one_that_claims_it_has_a_slow_line(self) -> None:
        self.receive(2, have("emil", 1, 4))
        self.link(2).repair.pace = 10_000
        self.assertEqual(self.gaps(self.wait(29) + self.slow(50, 1, 2)), [])

    def link_again(self, seconds: int) -> list[Effect]:
        """Let Bert, who claims nothing of it and has a slow line, be linked and asked every two seconds."""
        effects: list[Effect] = []
        for _ in range(seconds // 2):
            self.link(2).repair.last_batch_at = self.now  # as of a new link
            self.node._broadcast.repair.pull_from_all([(origin_of("emil"), 1)], self.now)
            effects += self.slow(2, 2)
        return effects

    def test_one_that_claims_none_of_it_and_is_linked_again_and_again_puts_it_off_for_a_while(self) -> None:
        self.assertEqual(self.gaps(self.link_again(90)), [])
        self.assertEqual(self.gaps(self.link_again(32)), [(2, 4)])

    def test_one_that_claims_a_part_of_it_does_for_longer(self) -> None:
        self.receive(2, have("emil", 3, 4))
        self.link(2).repair.pace = 10_000
        self.assertEqual(self.gaps(self.link_again(200)), [])

    def test_nor_while_one_that_claims_it_has_a_slow_line_though_it_is_not_asked_just_now(self) -> None:
        self.link(2).frontier.claims[origin_of("emil"), 1] = 1, 4
        self.link(2).repair.pace = 10_000
        self.link(2).flow.meter.sent(20_000, self.now)
        sign = self.node._broadcast.repair.last_sign((origin_of("emil"), 1), self.now)
        self.assertEqual(sign, self.now)

    def test_but_not_while_it_fails_to_send_it(self) -> None:
        link = self.link(2)
        self.receive(2, have("emil", 1, 4))
        for _ in range(TRIES):
            self.wait(1)
            self.receive(2, have("emil", 1, 4, answer=True))
            self.receive(2, have("emil", 1, 4))
        link.repair.pace = 10_000
        link.flow.meter.sent(20_000, self.now)
        self.assertIsNone(self.node._broadcast.repair.last_sign((origin_of("emil"), 1), self.now))

    def test_one_that_claims_nothing_of_it_is_no_reason_to_wait(self) -> None:
        # All neighbours are asked for what is missing, whatever they claim.
        self.assertEqual(sorted(set(self.asked(self.wait(29.9)))), [1, 2, 3, 4])
        self.assertEqual(self.gaps(self.wait(0.2)), [(2, 4)])

    def test_nor_where_its_line_is_slow(self) -> None:
        # Else whoever has a slow line would put off every gap of its neighbours.
        self.slow_all()
        effects = self.slow_and_read(31)
        self.assertGreater(len(self.asked(effects)), 0)
        self.assertEqual(self.gaps(effects), [(2, 4)])

    def test_but_one_that_has_not_read_the_question_yet_is_one(self) -> None:
        self.slow_all()
        self.assertEqual(self.gaps(self.slow(60, 4)), [])
        effects = self.slow_and_read(28)
        self.assertEqual(self.gaps(effects), [])  # it read just now, so its answer may be on its way
        self.assertEqual(self.gaps(self.slow_and_read(12)), [(2, 4)])

    def test_until_the_hole_is_three_times_that_old(self) -> None:
        self.slow_all()
        effects = self.slow(90, 4)
        self.assertGreater(len(self.asked(effects)), 2)
        self.assertEqual(self.gaps(effects), [])
        self.assertEqual(self.gaps(self.slow(30, 4)), [(2, 4)])

    def answer_in_vain(self, asked: list[int]) -> list[int]:
        """Let links that were *asked*, and those that are asked then, answer that they have message 1.

        :return: the links that are asked then.
        """
        further: list[int] = []
        for number in asked:
            further += self.asked(self.receive(number, have("emil", 1, 1, answer=True)))
        return further + (self.answer_in_vain(further) if further else [])

    def lack_twice(self, **limits: float) -> None:
        """Begin anew, lack 2 to 4 and 6 to 8, and let 29 seconds pass, in which nobody has any of them."""
        self.star(compare_interval=10_000, **limits)
        cut("emil", *[1] * 9)
        self.receive(1, batch("emil", 1), batch("emil", 5), batch("emil", 9))
        for _ in range(29):
            self.answer_in_vain(self.asked(self.wait(1)))

    def test_once_it_is_told_all_are_asked_for_the_next_hole_though_one_is_about_to_be(self) -> None:
        # The next one is told a second later, and the announcement may be no longer true by then.
        self.lack_twice(graft_timeout=10.0)
        self.receive(2, batch("emil", 1))  # so it is told to push no more, and not asked at once
        self.receive(2, have("emil", 5, 9))
        self.wait(0.9)
        effects = self.wait(0.2)
        self.assertEqual(self.gaps(effects), [(2, 4)])
        self.assertEqual(len(self.asked(effects)), 1)  # the others after its answer

    def test_nor_does_it_matter_that_one_was_asked_for_the_hole_that_is_told(self) -> None:
        self.lack_twice()
        self.answer_in_vain(self.asked(self.wait(0.5)))
        self.assertEqual(self.asked(self.receive(3, have("emil", 1, 4))), [3])
        self.assertEqual(self.gaps(self.wait(0.6)), [(2, 4)])
        again = self.answer_in_vain([3])
        self.assertEqual(sorted(again), [1, 2, 3, 4])

    def test_nor_what_comes_over_a_link_that_is_no_parent_and_was_not_asked(self) -> None:
        self.assertEqual(self.gaps(self.slow(35, 4)), [(2, 4)])

    def test_a_slow_parent_that_is_about_to_push_it_is_one(self) -> None:
        self.arrive(1, 1, "fred")
        self.receive(2, have("emil", 1, 4))
        effects = []
        for step in range(58):
            effects += self.arrive(1, 1 + 100 * step, "fred") + self.wait(0.5)
        self.assertEqual(self.asked(effects), [])
        for step in range(58, 80):
            effects += self.arrive(1, 1 + 100 * step, "fred") + self.wait(0.5)
        self.assertEqual(self.gaps(effects), [])

    def test_what_waits_for_the_window_is_waited_for_like_what_is_asked(self) -> None:
        self.star(compare_interval=10_000)
        for number in range(1, 6):
            self.receive(1, batch("fred", 1, epoch=number), batch("fred", 5, epoch=number))
        for link in (2, 3):
            self.link(link).repair.pace = 10_000
        self.handle(Arriving(2, None, 100, 1000))
        for number in range(1, 6):
            self.receive(2, have("fred", 1, 4, epoch=number))
        self.assertGreater(self.node.footprint()["queued_pulls"], 0)
        self.assertEqual(self.gaps(self.slow(40, 2)), [])

    def test_of_a_run_without_a_hole_nothing_is_kept(self) -> None:
        self.say(2, 1, "fred")
        self.receive(1, batch("cleo", 1))
        self.say(2, 1, "cleo")
        self.assertEqual(self.node.footprint()["expected_runs"], 0)

    def test_nor_when_the_hole_is_filled(self) -> None:
        self.receive(1, batch("fred", 5))
        self.say(2, 1)
        self.assertEqual(self.node.footprint()["expected_runs"], 1)
        self.receive(1, batch("emil", 2, 3))
        self.wait(31)
        self.assertEqual(self.node.footprint()["expected_runs"], 0)


class TestPassingOn(PatienceTestCase):
    """Each node passes on to its neighbours that messages are on their way."""

    def tick(self, seconds: float) -> list[Effect]:
        """Let the timer fire by which a node looks at what is coming, *seconds* later."""
        return self.fire(Timer.ROSTER, self.now + seconds)

    def test_what_is_coming_here_is_told_to_all(self) -> None:
        self.arrive(2, 1000)
        effects = self.tick(10)
        self.assertEqual(
            [self.told_coming(effects, number) for number in (1, 2, 3, 4)], [[("emil", 1)]] * 4
        )

    def test_the_word_of_what_is_coming_goes_on_from_node_to_node_and_not_for_ever(self) -> None:
        for coming, told in ((1, [("emil", 2)]), (7, [("emil", 8)]), (8, []), (255, [])):
            self.lack()
            self.say(2, coming)
            effects = self.tick(10)
            self.assertEqual([self.told_coming(effects, number) for number in (1, 3, 4)], [told] * 3)

    def test_of_a_hole_that_is_new_nothing_is_told(self) -> None:
        self.arrive(2, 1000)
        self.say(2, 1)
        self.assertEqual(self.told_coming(self.tick(9.9), 3), [])

    def test_nor_by_a_word_that_is_old(self) -> None:
        self.say(2, 1)
        self.assertEqual(self.told_coming(self.tick(10.1), 3), [])

    def test_it_is_said_every_ten_seconds(self) -> None:
        self.tick(10)
        effects = []
        for step in range(120):
            self.arrive(4, 1 + 10 * step)
            effects += self.tick(0.5)
        self.assertEqual(len(self.told_coming(effects, 3)), 6)

    def test_not_to_a_link_that_has_not_told_what_it_has(self) -> None:
        self.open(5, "fred")
        self.say(2, 1)
        effects = self.tick(10)
        self.assertEqual((self.told_coming(effects, 3), self.told_coming(effects, 5)), ([("emil", 2)], []))

    def test_two_nodes_that_tell_each_other_stop_when_nothing_is_coming(self) -> None:
        # Bert says what he heard from here, one hop further each time.
        self.wait(10)
        self.say(2, 1)
        hops = 1
        told = []
        for _ in range(20):
            for _, coming in self.told_coming(self.tick(10), 2):
                told.append(coming)
                hops = coming + 1
                self.say(2, hops)
        self.assertEqual(told, [2, 4, 6, 8])
