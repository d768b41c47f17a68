"""Time that nobody sets: the monotonic clock, on a reactor that tells time by the wall clock.

Contract: :func:`monotonic` gives the clock that a node takes its time from.  A Twisted reactor counts by
``time.time``: if the machine's clock is set back by an hour no timer fires for an hour; if it is set
forwards all fire at once.  A :class:`MonotonicClock` keeps its calls by ``time.monotonic`` and has the
reactor wake it for the next; whenever it is asked the time, as with everything that comes over a link, it
sees whether the two clocks have moved against each other, and then has the reactor wake it anew.

What it cannot do is to wake a reactor that sleeps when its clock is set back, and to which nothing happens
from then on: a reactor that is nobody else's is made monotonic itself, by :func:`make_monotonic`, before
anything is scheduled.

``CLOCK_MONOTONIC`` it is, and not ``CLOCK_BOOTTIME``: it stands still while a machine is suspended, and
time in which a node could not hear is nobody's silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, Final

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mesh.errors import LocalError

#: Seconds the clocks may drift apart before what is pending is set anew: so late can a call be (guess).
_DRIFT: Final = 0.5
_CANCELLED: Final = 64  # so many calls are kept though cancelled, or as many as are not (guess)
_log = Logger()


def monotonic(reactor: Any) -> IReactorTime:
    """The time of *reactor*, if that is monotonic or no real reactor; else a :class:`MonotonicClock` on it.

    :raises LocalError: it tells no time.
    """
    if not IReactorTime.providedBy(reactor):
        raise LocalError(f"reactor is what `from twisted.internet import reactor` gives, not {reactor!r}")
    if isinstance(reactor, ReactorBase) and reactor.seconds is not time.monotonic:
        return MonotonicClock(reactor)
    given: IReactorTime = reactor
    return given


def make_monotonic(reactor: Any) -> None:
    """Let *reactor* itself count by the monotonic clock, unless it runs or anything is scheduled on it.

    For a reactor that nobody else has asked the time.
    """
    if isinstance(reactor, ReactorBase) and not reactor.running and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


@implementer(IReactorTime)
class MonotonicClock:
    """A reactor's timers by another clock than its own."""

    def __init__(self, reactor: IReactorTime, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._reactor = reactor
        self._monotonic = monotonic
        self._apart = reactor.seconds() - monotonic()
        self._calls: list[DelayedCall] = []  # a heap, with some that are cancelled
        self._active = 0
        self._wakes: list[tuple[float, IDelayedCall]] = []  # each earlier than the one before it

    def seconds(self) -> float:
        """Seconds of the monotonic clock."""
        now = self._monotonic()
        apart = self._reactor.seconds() - now
        if not -_DRIFT < apart - self._apart < _DRIFT:
            _log.info("the wall clock was set by {seconds:.0f} s", seconds=apart - self._apart)
            self._apart = apart
            self._forget_wakes()
            self._wake_in_time(now)
        return now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> IDelayedCall:
        """Call in so many seconds."""
        now = self.seconds()
        call = DelayedCall(now + delay, callable, args, kw, self._cancel, self._sooner, self._monotonic)
        heappush(self._calls, call)
        self._active += 1
        self._wake_in_time(now)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """Those that are to come."""
        return [call for call in self._calls if call.active()]

    # ── the heap ────────────────────────────────────────────────────────────────────

    def _cancel(self, call: DelayedCall) -> None:
        self._active -= 1
        if len(self._calls) > 2 * max(_CANCELLED, self._active):
            self._calls = [each for each in self._calls if not each.cancelled and each is not call]
            heapify(self._calls)
        if not self._active:
            self._calls.clear()
            self._forget_wakes()

    def _sooner(self, call: DelayedCall) -> None:
        heapify(self._calls)
        self._wake_in_time(self._monotonic())

    def _take_due(self, now: float) -> list[DelayedCall]:
        due: list[DelayedCall] = []
        while self._calls and self._calls[0].time <= now:
            call = heappop(self._calls)
            if call.cancelled:
                continue
            if call.delayed_time > 0:
                call.activate_delay()
                heappush(self._calls, call)
            else:
                due.append(call)
        return due

    # ── being woken ─────────────────────────────────────────────────────────────────

    def _wake_in_time(self, now: float) -> None:
        if self._calls and (not self._wakes or self._calls[0].time < self._wakes[-1][0]):
            # The later ones stay: to cancel and set them in every turn would cost more than they do.
            at = self._calls[0].time
            self._wakes.append((at, self._reactor.callLater(max(0.0, at - now), self._woken, at)))

    def _forget_wakes(self) -> None:
        wakes, self._wakes = self._wakes, []
        for _, wake in wakes:
            if wake.active():
                wake.cancel()

    def _woken(self, at: float) -> None:
        self._wakes = [wake for wake in self._wakes if wake[0] != at]
        # First all that are due: what they schedule for at once has its turn after the reactor's others.
        for call in self._take_due(self.seconds()):
            if call.cancelled:  # by one before it
                continue
            if call.delayed_time > 0:
                call.activate_delay()
                heappush(self._calls, call)
                continue
            self._active -= 1
            call.called = 1
            try:
                call.func(*call.args, **call.kw)
            except BaseException:  # as a reactor: none of them ends it, or keeps the others from their turn
                _log.failure("a timed call failed")
        if not self._active:
            self._calls.clear()
            self._forget_wakes()
        self._wake_in_time(self._monotonic())
