"""The timers that the core sets, as delayed calls of the reactor.

Contract: each timer fires once, at the time to which the core set it last.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.core.events import Timer, TimerFired


class Timers:
    """The timers of one run of the core."""

    def __init__(self, clock: IReactorTime, fire: Callable[[TimerFired], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._calls: dict[Timer, IDelayedCall] = {}

    def set(self, timer: Timer, at: float) -> None:
        """Let *timer* fire when the clock shows *at*, instead of the time to which it was set before."""
        running = self._calls.pop(timer, None)
        if running is not None and running.active():
            running.cancel()
        delay = max(0.0, at - self._clock.seconds())
        self._calls[timer] = self._clock.callLater(delay, self._fire, TimerFired(timer))

    def stop(self) -> None:
        for call in self._calls.values():
            if call.active():
                call.cancel()
        self._calls = {}
