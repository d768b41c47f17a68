"""The time of a node on a machine whose clock is set."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.eventloop.clock import MonotonicClock, make_monotonic, monotonic

HOUR = 3600.0


class Machine(ReactorBase):
    """One of Twisted's reactors, on a machine whose wall clock and monotonic clock the test moves."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.up = 1000.0
        super().__init__()

    def seconds(self) -> float:  # type: ignore[override]
        return self.wall

    def monotonic(self) -> float:
        """The clock that nobody sets."""
        return self.up

    def installWaker(self) -> None:
        """Do nothing: no other thread wakes it."""

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock on, or back."""
        self.wall += seconds

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass, and do the calls that are due by then."""
        end = self.up + seconds
        while True:
            self.runUntilCurrent()
            left = self.timeout()
            step = end - self.up if left is None else min(left, end - self.up)
            self.up += step
            self.wall += step
            if step == end - self.up == 0:
                return


class SteadyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.machine = Machine()
        self.monotonic = MonotonicClock(self.machine, self.machine.monotonic)
        self.called: list[object] = []

    def later(self, delay: float, name: object = None) -> Any:
        """Call later; the call notes its *name* and its time."""
        return self.monotonic.callLater(delay, lambda: self.called.append((name, self.machine.up - 1000.0)))

    def test_calls_come_in_time_and_in_order(self) -> None:
        for delay in (2.0, 0.0, 5.0, 1.0):
            self.later(delay, delay)
        self.machine.pass_time(10.0)
        self.assertEqual(self.called, [(delay, delay) for delay in (0.0, 1.0, 2.0, 5.0)])

    def test_set_back_a_call_comes_in_time_once_anybody_asks_the_time(self) -> None:
        self.later(10.0)
        self.machine.set_clock(-HOUR)
        self.machine.pass_time(1.0)
        self.monotonic.seconds()
        self.machine.pass_time(20.0)
        self.assertEqual(self.called, [(None, 10.0)])

    def test_set_back_by_more_than_was_left_it_comes_at_once_when_somebody_asks(self) -> None:
        self.later(1.0)
        self.machine.set_clock(-HOUR)
        self.machine.pass_time(5.0)
        self.assertEqual(self.called, [])  # the reactor sleeps: make_monotonic prevents that
        self.later(0.0, "asks")
        self.machine.pass_time(0.0)
        self.assertEqual(self.called, [(None, 5.0), ("asks", 5.0)])

    def test_set_back_a_call_without_a_delay_comes_at_once_when_somebody_asks(self) -> None:
        self.later(0.0)
        moved = self.later(0.0, "moved")
        moved.delay(3.0)
        self.machine.callLater(2.0, lambda: self.called.append("the reactor's own"))
        self.assertEqual(len(self.monotonic.getDelayedCalls()), 2)
        self.machine.set_clock(-HOUR)
        self.monotonic.seconds()
        self.machine.pass_time(10.0)
        self.assertEqual(self.called, [(None, 0.0), ("moved", 3.0)])

    def test_set_on_no_call_comes_early(self) -> None:
        self.later(10.0)
        self.machine.set_clock(HOUR)
        self.machine.pass_time(30.0)
        self.assertEqual(self.called, [(None, 10.0)])

    def test_its_time_is_not_set(self) -> None:
        before = self.monotonic.seconds()
        self.machine.set_clock(HOUR)
        self.assertEqual(self.monotonic.seconds(), before)
        self.machine.pass_time(3.0)
        self.assertEqual(self.monotonic.seconds(), before + 3.0)

    def test_small_corrections_move_nothing(self) -> None:
        self.later(10.0)
        (wake,) = self.machine.getDelayedCalls()
        self.machine.set_clock(-0.4)
        self.monotonic.seconds()
        self.assertEqual(self.machine.getDelayedCalls(), [wake])
        self.machine.pass_time(20.0)
        self.assertEqual(len(self.called), 1)

    def test_a_call_can_be_cancelled_and_moved(self) -> None:
        gone, sooner, later = (self.later(5.0, name) for name in ("gone", "sooner", "later"))
        gone.cancel()
        sooner.reset(1.0)
        later.delay(3.0)
        self.assertEqual(set(self.monotonic.getDelayedCalls()), {sooner, later})
        self.machine.pass_time(20.0)
        self.assertEqual(self.called, [("sooner", 1.0), ("later", 8.0)])

    def test_what_one_cancels_or_moves_does_not_come_with_it(self) -> None:
        def first() -> None:
            gone.cancel()
            moved.delay(2.0)

        self.monotonic.callLater(1.0, first)
        gone, moved = self.later(1.0, "gone"), self.later(1.0, "moved")
        self.machine.pass_time(5.0)
        self.assertEqual(self.called, [("moved", 3.0)])

    def test_what_is_scheduled_for_at_once_has_its_turn_after_the_reactor_s(self) -> None:
        turns: list[int] = []

        def again() -> None:
            turns.append(len(turns))
            self.monotonic.callLater(0.0, again)

        self.monotonic.callLater(0.0, again)
        for _ in range(3):
            self.machine.runUntilCurrent()
            self.machine.up += 1e-6
            self.machine.wall += 1e-6
        self.assertEqual(len(turns), 3)

    def test_one_that_fails_keeps_no_other_from_its_turn(self) -> None:
        def fail() -> None:
            raise SystemExit("a bad one")

        self.monotonic.callLater(1.0, fail)
        self.later(1.0)
        self.machine.pass_time(2.0)
        self.assertEqual(len(self.called), 1)
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)

    def test_nothing_is_left_of_what_was_cancelled(self) -> None:
        calls = [self.later(5.0 + number) for number in range(1000)]
        for call in calls[1:]:
            call.cancel()
        self.assertLess(len(self.monotonic._calls), 200)
        calls[0].cancel()
        self.assertEqual(self.machine.getDelayedCalls(), [])
        self.assertEqual(self.monotonic._calls, [])

    def test_turns_leave_no_wakes_behind(self) -> None:
        self.later(HOUR)
        for _ in range(1000):
            self.later(0.0)
            self.machine.pass_time(0.001)
        self.assertLess(len(self.machine.getDelayedCalls()), 3)


class WhoseTimeTests(SynchronousTestCase):
    def test_a_reactor_that_counts_by_the_wall_clock_is_not_trusted(self) -> None:
        self.assertIsInstance(monotonic(Machine()), MonotonicClock)

    def test_a_clock_and_a_reactor_that_is_steady_are_used_as_they_are(self) -> None:
        machine, clock = Machine(), Clock()
        make_monotonic(machine)
        for reactor in (machine, clock):
            self.assertIs(monotonic(reactor), reactor)

    def test_a_reactor_that_somebody_uses_is_left_as_it_is(self) -> None:
        running, waiting = Machine(), Machine()
        running.running = True
        waiting.callLater(1.0, lambda: None)
        for machine in (running, waiting):
            make_monotonic(machine)
            self.assertIsNot(machine.seconds, time.monotonic)
