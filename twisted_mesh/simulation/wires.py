"""What links go over: a wire each way, and the line that those to one slow member share.

Contract: a line is shared by bytes, as TCP's flows share theirs: who sends most waits for itself, and what
the others send comes in between.  With one queue for all, as long as anybody likes to make it, a liar that
only sends enough would keep everything else back for minutes, which no router's buffer is large enough for.
Frames stand in the order in which they would be done if their wires took turns byte by byte, and each goes
over whole (self-clocked fair queueing: Golestani, INFOCOM 1994).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush

from twisted_mesh.simulation.storing import SimClock
from twisted_mesh.simulation.trace import AnyFrame


class Wire:
    """One direction of a link.

    :ivar arrival: of the last frame: the next comes no sooner; :ivar under_way: what comes with it.
    :ivar given: bytes; :ivar accepting: whether the sender is about to be told that they are taken.
    :ivar turn: of its last frame on the line it shares, in bytes.
    :ivar lost: whether nothing comes any more.
    """

    __slots__ = ("accepting", "arrival", "given", "lost", "turn", "under_way")

    def __init__(self) -> None:
        self.arrival = 0.0
        self.under_way: list[AnyFrame] = []
        self.given = 0
        self.accepting = False
        self.turn = 0.0
        self.lost = False

    def carry(self, frame: AnyFrame, arrival: float) -> list[AnyFrame] | None:
        """Take a frame that is to come at the time *arrival*, or later, since none overtakes another.

        :return: what comes together with it, unless that is on its way already; ``self.arrival``: when.
        """
        if arrival <= self.arrival and self.under_way:
            self.under_way.append(frame)
            return None
        self.arrival = max(self.arrival, arrival)
        self.under_way = [frame]
        return self.under_way


class Line:
    """The slow line of one member, for all that comes to it."""

    def __init__(self, clock: SimClock, bandwidth: float) -> None:
        """
        :param bandwidth: bytes a second.
        """
        self._clock = clock
        self._bandwidth = bandwidth
        self._turn = 0.0
        self._busy = False
        self._numbers = 0
        self._waiting: list[tuple[float, int, Wire, int, Callable[[], None]]] = []

    def put(self, wire: Wire, size: int, through: Callable[[], None]) -> None:
        """Take a frame of *size* bytes from a wire; *through* is called when it is over the line."""
        self._numbers += 1
        wire.turn = max(wire.turn, self._turn) + size
        heappush(self._waiting, (wire.turn, self._numbers, wire, size, through))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        while self._waiting:
            self._turn, _, wire, size, through = heappop(self._waiting)
            if not wire.lost:
                self._busy = True
                self._clock.at(self._clock.now + size / self._bandwidth, partial(self._done, through))
                return
        self._busy = False

    def _done(self, through: Callable[[], None]) -> None:
        through()
        self._next()
