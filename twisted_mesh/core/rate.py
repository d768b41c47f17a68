"""How often something may happen: so many times in a row, and so many times a second on average.

Contract: :class:`RateLimit` is the limit of one thing.  :class:`LinkRates` is the table of the limits that
each link has; the dials of ``overlay.dial_limit`` share one limit.  A limit for each author belongs to the
author's place in the roster, and counts only signed frames.
"""

from __future__ import annotations

from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig

#: FORWARD_JOINs and SHUFFLEs of one link in a row, and a second (guess: many newcomers bring some twenty).
WALK_BURST: Final = 64
WALK_RATE: Final = 8.0


class RateLimit:
    """A token bucket; it begins full."""

    __slots__ = ("_burst", "_filled", "_rate", "_tokens")

    def __init__(self, burst: float, rate: float) -> None:
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


class LinkRates:
    """The limits of one link; the handler of a frame takes from its limit before any costly work.

    A limit for one more kind of frame is one line here, with its values in MeshConfig and docs/limits.rst.

    :ivar authors: new authors that the link may bring.
    :ivar replies: receipts, direct messages and acknowledgements that the link may bring.
    :ivar walks: FORWARD_JOINs and SHUFFLEs that the link may bring.
    """

    __slots__ = ("authors", "replies", "walks")

    def __init__(self, config: MeshConfig) -> None:
        self.authors = RateLimit(config.authors_burst, config.authors_a_minute / 60)
        self.replies = RateLimit(config.reverse_burst, config.reverse_rate)
        self.walks = RateLimit(WALK_BURST, WALK_RATE)
