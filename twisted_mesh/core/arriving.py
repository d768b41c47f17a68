"""Frames that take long to come.

Contract: :class:`Arrival` decides when a link machine reports an unfinished frame to the core.  On a fast
line that hardly ever happens, since the next bytes complete the frame.  :class:`Partial` is a reported
BATCH.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from twisted_mesh.core.events import Arriving, StreamId

REPORTED_AFTER: Final = 0.1  # seconds until the first report; shorter than graft_timeout (guess)
REPORTED_EVERY: Final = 0.5  # seconds from one report of a frame to the next (guess)


@dataclass(eq=False, slots=True)
class Arrival:
    """The unfinished frame of one link."""

    _began: float = inf
    _reported: float = -inf

    def ended(self) -> None:
        """Note that the frame is whole."""
        self._began = inf

    def grew(self, now: float) -> bool:
        """Note that more of the frame has come; return whether to report that to the core."""
        if self._began == inf:
            self._began, self._reported = now, -inf
        if now < self._began + REPORTED_AFTER or now < self._reported + REPORTED_EVERY:
            return False
        self._reported = now
        return True


class Partial:
    """A BATCH that has come in part.  It is unverified, so it is only a reason to wait for a while.

    :ivar run: the run of its messages, *first* to *last*.
    :ivar began: when the core first heard of it.
    :ivar size: the bytes that have come; :ivar length: the bytes of the whole frame.
    :ivar pace: the bytes that come in a second; 0 until that is known.
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
        """Whether *arriving* is about this BATCH, and reports at least as many bytes."""
        begun = arriving.begun
        return (
            begun is not None
            and (begun.origin, begun.epoch) == self.run
            and (begun.first, begun.last, arriving.length) == (self.first, self.last, self.length)
            and arriving.size >= self.size
        )

    def grew(self, size: int, now: float) -> None:
        """Note that *size* bytes have come by now."""
        if self.size and now > self._at:
            pace = (size - self.size) / (now - self._at)
            self.pace = (self.pace + pace) / 2 if self.pace else pace
        self.size, self._at = size, now

    @property
    def seconds_left(self) -> float:
        """The seconds until the rest of it has come; inf if its pace is unknown."""
        return (self.length - self.size) / self.pace if self.pace else inf
