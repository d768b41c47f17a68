"""The frame in the middle of which a link is, where that takes long enough to matter.

Contract: :class:`Arrival` says when the core is to hear of it: hardly ever on a fast line, where the next
bytes complete the frame.  :class:`Partial` is what the core makes of that, with the pace at which it comes.
"""

from __future__ import annotations

from math import inf
from typing import Final

from twisted_mesh.core.events import Arriving, StreamId

TOLD_AFTER: Final = 0.1  # seconds; less than graft_timeout, so that no other link is asked first (guess)
TOLD_EVERY: Final = 0.5  # seconds from one word about a frame to the next (guess)


class Arrival:
    """The unfinished frame of one link, as the bytes come."""

    __slots__ = ("_began", "_told")

    def __init__(self) -> None:
        self._began = inf
        self._told = -inf

    def ended(self) -> None:
        """The frame is whole."""
        self._began = inf

    def grew(self, now: float) -> bool:
        """Some of it has come; whether the core is to hear of it."""
        if self._began == inf:
            self._began, self._told = now, -inf
        if now < self._began + TOLD_AFTER or now < self._told + TOLD_EVERY:
            return False
        self._told = now
        return True


class Partial:
    """A BATCH of which some has come: unverified, so a reason to wait for a while and no more.

    :ivar run: its run; :ivar first: and :ivar last: its messages.
    :ivar began: when the core first heard of it; :ivar size: bytes that have come; :ivar length: of it all.
    :ivar pace: bytes a second it comes at, 0 until that is known.
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
        """Whether *arriving* tells more of it."""
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
        """What the rest takes at its pace."""
        return (self.length - self.size) / self.pace if self.pace else inf
