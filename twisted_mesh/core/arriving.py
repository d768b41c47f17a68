"""Frames that take long to come, and bytes that wait until they are handled.

Contract: :class:`Arrival` decides when a link machine reports an unfinished frame to the core.  On a fast
line that hardly ever happens, since the next bytes complete the frame.  :class:`Partial` is a reported
BATCH.  :class:`Unread` keeps the bytes of one link that have come and are not handled yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, TypeVar

from twisted_mesh.core.events import Arriving, StreamId

REPORTED_AFTER: Final = 0.1  # seconds until the first report; shorter than graft_timeout (guess)
REPORTED_EVERY: Final = 0.5  # seconds from one report of a frame to the next (guess)

_Event = TypeVar("_Event")


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


class Unread(Generic[_Event]):
    """An iterator of the events of bytes that have come; it may be left for a while between two events.

    ``len()`` counts the bytes of which events may be left.
    """

    __slots__ = ("_begun", "_chunks", "_receive")

    def __init__(self, receive: Callable[[bytes], Iterator[_Event]]) -> None:
        """:param receive: makes events of bytes; it is called when all earlier events were taken."""
        self._receive = receive
        self._chunks = deque[bytes]()
        self._begun: Iterator[_Event] | None = None  # the events of the first chunk that are left

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    def __iter__(self) -> Iterator[_Event]:
        return self

    def __next__(self) -> _Event:
        while self._chunks:
            if self._begun is None:
                self._begun = self._receive(self._chunks[0])
            for event in self._begun:
                return event
            self._begun = None
            self._chunks.popleft()
        raise StopIteration

    def put(self, data: bytes) -> bool:
        """Keep *data*; return whether there were no bytes before."""
        self._chunks.append(data)
        return len(self._chunks) == 1

    def clear(self) -> None:
        """Forget all bytes."""
        self._chunks.clear()
        self._begun = None
