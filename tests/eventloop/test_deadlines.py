"""Many deadlines with one delayed call."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.eventloop.deadlines import Deadlines


class TestDeadlines(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.over: list[str] = []
        self.deadlines = Deadlines[str](self.clock, self.over.append)

    def after(self, seconds: float) -> str:
        """The keys whose time is over within *seconds* from now."""
        self.over.clear()
        self.clock.advance(seconds)
        return "".join(self.over)

    def test_each_is_told_when_its_time_is_over_and_only_once(self) -> None:
        self.deadlines.set("a", 0.1)
        self.after(0.03)
        for key in "bc":
            self.deadlines.set(key, 0.1)
        self.deadlines.set("d", 0.05)
        self.assertEqual(len(self.clock.getDelayedCalls()), 2)
        told = [self.after(0.05), self.after(0.02), self.after(0.02), self.after(0.01), self.after(9)]
        self.assertEqual(told, ["d", "a", "", "bc", ""])
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))

    def test_one_that_is_cleared_is_not_told_and_the_last_takes_the_call_along(self) -> None:
        for key in "abc":
            self.deadlines.set(key, 1)
        self.deadlines.clear("a", 1)
        self.deadlines.clear("a", 1)
        self.deadlines.clear("c", 2)
        self.assertEqual((self.after(0.9), len(self.deadlines)), ("", 2))
        self.deadlines.clear("b", 1)
        self.deadlines.clear("c", 1)
        self.assertEqual((len(self.deadlines), self.clock.getDelayedCalls()), (0, []))

    def test_a_callback_may_clear_and_set_others(self) -> None:
        def over(key: str) -> None:
            self.over.append(key)
            if key == "a":
                deadlines.clear("b", 1)
                deadlines.set("d", 1)

        deadlines = Deadlines[str](self.clock, over)
        for key in "abc":
            deadlines.set(key, 1)
        self.assertEqual(self.after(1), "ac")
        self.assertEqual(self.after(1), "d")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_callback_that_fails_keeps_no_other_from_its_time(self) -> None:
        def over(key: str) -> None:
            self.over.append(key)
            if key == "a":
                raise ValueError(key)

        deadlines = Deadlines[str](self.clock, over)
        for key in "ab":
            deadlines.set(key, 1)
        self.assertRaises(ValueError, self.clock.advance, 1)
        self.assertEqual(self.after(0), "b")

    def test_times_that_are_no_round_numbers_are_over_once(self) -> None:
        for count in range(1, 40):
            self.deadlines.set(f"{count} ", 0.1)
            self.clock.advance(1 / (7 * count))
        self.clock.advance(1)
        self.assertEqual(sorted(map(int, self.over)), list(range(1, 40)))
