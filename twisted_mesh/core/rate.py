"""How often something may happen: so many times in a row, and so often a second on average.

Contract: :meth:`RateLimit.has` says whether it may happen now, :meth:`RateLimit.take` counts it as well.
Limits of this kind: ``link.presence.new_authors`` and ``link.reply_limit`` for each link, the dials of
``overlay.dial_limit`` and the walks of ``overlay.overlay``.  A limit for each author belongs to its entry
of the roster, and counts what is verified.
"""

from __future__ import annotations

from math import inf


class RateLimit:
    """A token bucket; it begins full."""

    __slots__ = ("_burst", "_filled", "_rate", "_tokens")

    def __init__(self, burst: float, rate: float) -> None:
        """:param burst: times in a row; :param rate: times a second on average."""
        self._burst = self._tokens = burst
        self._rate = rate
        self._filled = -inf

    def has(self, now: float) -> bool:
        """Whether it may happen at the time *now*."""
        if self._filled < now:
            if self._filled > -inf:
                self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
            self._filled = now
        return self._tokens >= 1

    def take(self, now: float) -> bool:
        """Whether it may happen at the time *now*; if it may, it is counted."""
        if not self.has(now):
            return False
        self._tokens -= 1
        return True
