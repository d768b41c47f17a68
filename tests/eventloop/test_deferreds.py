"""Deferreds that wait for the same thing."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.base import DelayedCall
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.eventloop.deferreds import Conditions, WaitingDeferreds, wait_at_most, wait_for


class TestWaiters(SynchronousTestCase):
    def setUp(self) -> None:
        self.waiters = WaitingDeferreds[int]()

    def test_all_fire_together_and_once(self) -> None:
        first, second = self.waiters.wait(), self.waiters.wait()
        self.assertEqual(len(self.waiters), 2)
        self.waiters.happened(5)
        self.waiters.happened(6)
        self.assertEqual([self.successResultOf(each) for each in (first, second)], [5, 5])
        self.assertEqual(len(self.waiters), 0)

    def test_all_fail_together(self) -> None:
        waiting = [self.waiters.wait() for _ in range(2)]
        self.waiters.failed(Failure(ValueError("never")))
        for each in waiting:
            self.failureResultOf(each, ValueError)
        self.assertEqual(len(self.waiters), 0)

    def test_one_that_is_cancelled_waits_no_more(self) -> None:
        gone, left = self.waiters.wait(), self.waiters.wait()
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.assertEqual(len(self.waiters), 1)
        self.waiters.happened(5)
        self.assertEqual(self.successResultOf(left), 5)

    def test_one_that_another_cancels_when_it_happens_is_cancelled(self) -> None:
        first, second, third = (self.waiters.wait() for _ in range(3))
        first.addCallback(lambda _: second.cancel())
        self.waiters.happened(5)
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.successResultOf(third), 5)

    def test_who_waits_anew_when_it_happens_waits_for_the_next_time(self) -> None:
        anew: list[Deferred[int]] = []
        self.waiters.wait().addCallback(lambda _: anew.append(self.waiters.wait()))
        self.waiters.happened(5)
        self.assertNoResult(anew[0])
        self.waiters.happened(6)
        self.assertEqual(self.successResultOf(anew[0]), 6)


class TestWaitFor(SynchronousTestCase):
    def setUp(self) -> None:
        self.done: Deferred[int] = Deferred()

    async def work(self) -> int:
        return await self.done + 1

    def test_it_fires_or_fails_as_the_work_does(self) -> None:
        waiting = wait_for(self.work())
        self.assertNoResult(waiting)
        self.done.callback(1)
        self.assertEqual(self.successResultOf(waiting), 2)
        self.done = fail(ZeroDivisionError())
        self.failureResultOf(wait_for(self.work()), ZeroDivisionError)

    def test_the_work_goes_on_when_the_wait_is_cancelled(self) -> None:
        waiting = wait_for(self.work())
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertNoResult(self.done)
        self.done.callback(1)

    def test_a_failure_nobody_waits_for_is_logged(self) -> None:
        waiting = wait_for(self.work())
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.done.errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class TestConditions(SynchronousTestCase):
    def setUp(self) -> None:
        self.conditions = Conditions()
        self.number = 0

    def at_least(self, number: int) -> Deferred[None]:
        return self.conditions.when(lambda: self.number >= number)

    def test_each_fires_when_its_own_is_so_and_once(self) -> None:
        waiting = [self.at_least(number) for number in (0, 1, 2)]
        self.successResultOf(waiting[0])  # the condition holds already
        for self.number in (1, 2, 3):
            self.conditions.look()
        for each in waiting[1:]:
            self.successResultOf(each)

    def test_one_that_is_cancelled_waits_no_more_even_by_one_before_it(self) -> None:
        first, second = self.at_least(1), self.at_least(1)
        first.addCallback(lambda _: second.cancel())
        self.number = 1
        self.conditions.look()
        self.successResultOf(first)
        self.failureResultOf(second, CancelledError)


class RefusingClock(Clock):
    """A clock that refuses calls in the past, as a reactor does."""

    def callLater(self, when: float, what: Callable[..., object], *a: object, **kw: object) -> DelayedCall:
        assert when >= 0, when
        return super().callLater(when, what, *a, **kw)


class TestIsInTime(SynchronousTestCase):
    def begin(self, waiting: Deferred[None], seconds: float) -> tuple[Deferred[bool], Clock]:
        clock = RefusingClock()
        return Deferred.fromCoroutine(wait_at_most(waiting, seconds, clock)), clock

    def test_what_fires_is(self) -> None:
        waiting: Deferred[None] = Deferred()
        told, clock = self.begin(waiting, 2.0)
        clock.advance(1.9)
        self.assertNoResult(told)
        waiting.callback(None)
        self.assertIs(self.successResultOf(told), True)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_what_does_not_is_cancelled_and_is_not(self) -> None:
        for seconds in (2.0, 0.0, -0.1):  # the time that is left can be negative
            cancelled: list[object] = []
            told, clock = self.begin(Deferred(cancelled.append), seconds)
            clock.advance(max(0.0, seconds))
            self.assertIs(self.successResultOf(told), False)
            self.assertEqual(len(cancelled), 1)
