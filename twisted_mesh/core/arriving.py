"""Frames that take long to come.

Contract: :class:`Arrival` says when the core is told of an unfinished frame: hardly ever on a fast line,
where the next bytes complete it.  :class:`Partial` is a BATCH that the core was told of, and its pace.
"""

from __future__ import annotations

from math import inf
from typing import Final

from twisted_mesh.core.events import Arriving, StreamId

TOLD_AFTER: Final = 0.1  # seconds; less than graft_timeout, so that no other link is asked first (guess)
TOLD_EVERY: Final = 0.5  # seconds from one event about a frame to the next (guess)


class Arrival:
    """The unfinished frame of one link."""

    __slots__ = ("_began", "_told")

    def __init__(self) -> None:
        self._began = inf
        self._told = -inf

    def ended(self) -> None:
        """The frame is whole."""
        self._began = inf

    def grew(self, now: float) -> bool:
        """More of it has come; whether to tell the core."""
        if self._began == inf:
            self._began, self._told = now, -inf
        if now < self._began + TOLD_AFTER or now < self._told + TOLD_EVERY:
            return False
        self._told = now
        return True


class Partial:
    """A BATCH that has come in part.  It is unverified: a reason to wait for a while, and no more.

    :ivar run: of its messages; :ivar first: and :ivar last: of them.
    :ivar began: when the core was first told of it.
    :ivar size: bytes that have come; :ivar length: bytes of the whole frame.
    :ivar pace: bytes a second at which it comes; 0 until that is known.
    """

    __slots__ = ("_at", "began", "first", "last", "length", "pace", "run", "size")

    def __init__(self, run: StreamId, first: int, last: int, length: int, now: float) -> None:
        self.run = run
        self.first = first
        self.last = last
        self.length = length
        self.began = self._at = now
        self.size = 0
        self.pace = 0.0

    def is_of(self, arriving: Arriving) -> bool:
        """Whether *arriving* is about this BATCH, and tells no less of it."""
        begun = arriving.begun
        return (
            begun is not None
            and (begun.origin, begun.epoch) == self.run
            and (begun.first, begun.last, arriving.length) == (self.first, self.last, self.length)
            and arriving.size >= self.size
        )

    def grew(self, size: int, now: float) -> None:
        """*size* bytes have come by now."""
        if self.size and now > self._at:
            pace = (size - self.size) / (now - self._at)
            self.pace = (self.pace + pace) / 2 if self.pace else pace
        self.size, self._at = size, now

    @property
    def seconds_left(self) -> float:
        """Seconds until the rest has come, at its pace."""
        return (self.length - self.size) / self.pace if self.pace else inf
