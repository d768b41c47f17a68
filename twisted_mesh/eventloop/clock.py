"""The monotonic clock, on a reactor that tells time by the wall clock.

Contract: :func:`monotonic` gives the clock of a node.  A Twisted reactor counts by ``time.time``: if the
machine's clock is set back by an hour, no timer fires for an hour; if it is set forwards, all fire at once.
A :class:`MonotonicClock` schedules its calls by ``time.monotonic``, and sets a timer of the reactor for its
next call.  Whenever it is asked for the time, for example when a link receives bytes, it compares the two
clocks.  If the wall clock was set, it sets the reactor's timer again.  A call without a delay goes to the
reactor at once, since each turn of a node has one: a lone message takes 30 us less by that (measured).

If the wall clock is set back while a reactor sleeps, and no event wakes the reactor, a call comes too late.
So if only this package uses a reactor, the reactor itself is made monotonic (:func:`make_monotonic`).

The clock is ``CLOCK_MONOTONIC``, not ``CLOCK_BOOTTIME``: it stands still while a machine is suspended.  So
the time in which this node could not receive does not count as silence of a peer.
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

#: If the difference of the clocks has changed by this many seconds, the wall clock was set (guess).  A
#: smaller change goes unnoticed, and can make a call late by as much.
_DRIFT: Final = 0.5
_CANCELLED: Final = 64  # a heap of over twice this is rebuilt if half is cancelled (guess)
_log = Logger()


def monotonic(reactor: Any) -> IReactorTime:
    """A monotonic clock for *reactor*: the reactor itself if it is monotonic or a test's Clock.

    :raises LocalError: *reactor* provides no IReactorTime.
    """
    if not IReactorTime.providedBy(reactor):
        raise LocalError(f"reactor is what `from twisted.internet import reactor` gives, not {reactor!r}")
    if isinstance(reactor, ReactorBase) and reactor.seconds is not time.monotonic:
        return MonotonicClock(reactor)
    given: IReactorTime = reactor
    return given


def make_monotonic(reactor: Any) -> None:
    """Let *reactor* itself count by the monotonic clock, unless it runs or has delayed calls.

    Call this only if no other code has asked *reactor* for the time yet.
    """
    if isinstance(reactor, ReactorBase) and not reactor.running and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


@implementer(IReactorTime)
class MonotonicClock:
    """Timers that count by a monotonic clock, on a reactor that does not."""

    def __init__(self, reactor: IReactorTime, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._reactor = reactor
        self._monotonic = monotonic
        self._offset = reactor.seconds() - monotonic()
        self._calls: list[DelayedCall] = []  # a heap; some of the calls are cancelled
        self._active = 0  # calls that are not cancelled
        self._wakes: list[tuple[float, IDelayedCall]] = []  # timers of the reactor, the next one last

    def seconds(self) -> float:
        now = self._monotonic()
        offset = self._reactor.seconds() - now
        if not -_DRIFT < offset - self._offset < _DRIFT:
            _log.info("the wall clock was set by {seconds:.0f} s", seconds=offset - self._offset)
            for call in self._without_delay():
                call.reset(max(0.0, call.getTime() - self._offset - now))
            self._offset = offset
            self._forget_wakes()
            self._wake_in_time(now)
        return now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any) -> IDelayedCall:
        now = self.seconds()
        if delay <= 0:
            return self._reactor.callLater(0, self._make, callable, args, kw)
        call = DelayedCall(now + delay, callable, args, kw, self._cancel, self._sooner, self._monotonic)
        heappush(self._calls, call)
        self._active += 1
        self._wake_in_time(now)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return [*(call for call in self._calls if call.active()), *self._without_delay()]

    @staticmethod
    def _make(callable: Callable[..., Any], args: tuple[object, ...], kw: dict[str, object]) -> None:
        """Make a call that had no delay."""
        callable(*args, **kw)

    def _without_delay(self) -> list[IDelayedCall]:
        """The reactor's calls that are for :meth:`_make`."""
        return [
            call for call in self._reactor.getDelayedCalls() if getattr(call, "func", None) == self._make
        ]

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
            if self._is_due(call):
                due.append(call)
        return due

    def _is_due(self, call: DelayedCall) -> bool:
        """Whether to make *call*, which was taken off the heap; if it was put off, push it back."""
        if call.delayed_time > 0 and not call.cancelled:
            call.activate_delay()
            heappush(self._calls, call)
            return False
        return not call.cancelled

    # ── being woken ─────────────────────────────────────────────────────────────────

    def _wake_in_time(self, now: float) -> None:
        if self._calls and (not self._wakes or self._calls[0].time < self._wakes[-1][0]):
            # Later timers stay: to cancel and set them in every turn would take more time.
            at = self._calls[0].time
            self._wakes.append((at, self._reactor.callLater(max(0.0, at - now), self._woken, at)))

    def _forget_wakes(self) -> None:
        wakes, self._wakes = self._wakes, []
        for _, wake in wakes:
            if wake.active():
                wake.cancel()

    def _woken(self, at: float) -> None:
        self._wakes = [wake for wake in self._wakes if wake[0] != at]
        # Take all due calls first: calls that they schedule for now come after the reactor's other calls.
        for call in self._take_due(self.seconds()):
            if not self._is_due(call):  # an earlier call of this loop has cancelled it or put it off
                continue
            self._active -= 1
            call.called = 1
            try:
                call.func(*call.args, **call.kw)
            except BaseException:  # the other calls are still made, as by a reactor
                _log.failure("a timed call failed")
        if not self._active:
            self._calls.clear()
            self._forget_wakes()
        self._wake_in_time(self._monotonic())
