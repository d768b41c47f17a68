"""The timers of a core, which are values there, as calls of the reactor.

Contract: each timer runs once, at the time it was last set to.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.core.events import Timer, TimerFired


class Timers:
    """The timers of one core."""

    def __init__(self, clock: IReactorTime, fire: Callable[[TimerFired], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._calls: dict[Timer, IDelayedCall] = {}

    def set(self, timer: Timer, at: float) -> None:
        """Let *timer* fire at that time of the clock, and at no other."""
        running = self._calls.pop(timer, None)
        if running is not None and running.active():
            running.cancel()
        delay = max(0.0, at - self._clock.seconds())
        self._calls[timer] = self._clock.callLater(delay, self._fire, TimerFired(timer))

    def stop(self) -> None:
        """Forget them all."""
        for call in self._calls.values():
            if call.active():
                call.cancel()
        self._calls = {}
