"""Wires, each one direction of a link, and the slow lines that the wires of one member share.

Contract: the wires share a line fairly, as TCP's flows do: if one wire sends much, that delays its own
frames only.  With one unbounded queue for all wires, an adversary that sends enough would delay all others
for minutes, for which no router's buffer is large enough.  A line carries each frame in segments, in the
order in which they would be through if the wires took turns byte by byte (self-clocked fair queueing:
Golestani, INFOCOM 1994).  So a large frame delays no other wire.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Final

from twisted_mesh.core.arriving import Arrival
from twisted_mesh.core.events import Arriving
from twisted_mesh.simulation.storage import SimClock
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.wire import codec
from twisted_mesh.wire.begun import HEAD_BYTES, begun
from twisted_mesh.wire.framing import LENGTH_BYTES

SEGMENT: Final = 1460  # bytes in a segment, at least: TCP's payload in a frame of Ethernet
_PER_SECOND: Final = 50  # segments in a second, at most: a faster line has larger segments (guess)
_OVERFULL: Final = 5.0  # seconds of backlog of an overloaded line: a node pushes no more then (guess)
#: Bytes that the sender's system buffers before they are on the line (Linux: 87,380 and up).
BUFFERED: Final = 128 * 1024


class Wire:
    """One direction of a link.

    :ivar arrival: when the last frame arrives; :ivar under_way: the frames that arrive at that time.
    :ivar given: bytes that the core has sent; :ivar passed: bytes that all lines have carried.
    :ivar accepted: bytes of which the core was told that the sender's system accepted them.
    :ivar accepting: whether the core will be told of accepted bytes in this moment.
    :ivar is_full: whether the core has sent more than the sender's system can buffer.
    :ivar lost: whether no more frame arrives.
    """

    __slots__ = (
        *("_arrival", "accepted", "accepting", "arrival", "given", "is_full", "lost", "passed"),
        "under_way",
    )

    def __init__(self) -> None:
        self.arrival = 0.0
        self.under_way: list[AnyFrame] = []
        self.given = self.passed = self.accepted = 0
        self.accepting = self.is_full = False
        self._arrival = Arrival()
        self.lost = False

    def shows(self, frame: AnyFrame, done: int, size: int, number: int, now: float) -> Arriving | None:
        """Note that *done* of *size* bytes of *frame* arrive; return the far end's event, or None."""
        if done == size:
            self._arrival.ended()
        elif self._arrival.grew(now):
            head = codec.encode(frame)[LENGTH_BYTES:][:HEAD_BYTES]
            return Arriving(number, begun(head[: max(0, done - LENGTH_BYTES)]), done, size)
        return None

    def carry(self, frame: AnyFrame, arrival: float) -> list[AnyFrame] | None:
        """Let *frame* arrive at the time *arrival*, or with the frame before it if that comes later.

        :return: the frames that arrive at ``self.arrival``; None if they were returned before.
        """
        if arrival <= self.arrival and self.under_way:
            self.under_way.append(frame)
            return None
        self.arrival = max(self.arrival, arrival)
        self.under_way = [frame]
        return self.under_way


class Line:
    """A slow line of one member: either for all frames to the member, or for all that it sends.

    :ivar late_until: when the line will have carried its backlog, if that ever was more than 5 seconds.
    """

    def __init__(self, clock: SimClock, bandwidth: float) -> None:
        """:param bandwidth: bytes a second."""
        self._clock = clock
        self._bandwidth = bandwidth
        self._turn = 0.0
        self._turns: dict[Wire, float] = {}  # by wire: the turn of its last segment, in bytes
        self._busy = False
        self._numbers = 0
        self._queued = 0
        self.late_until = 0.0
        self._waiting: list[tuple[float, int, Wire, int, Callable[[], None]]] = []

    @property
    def segment(self) -> int:
        """Bytes in a segment."""
        return max(SEGMENT, int(self._bandwidth / _PER_SECOND))

    def put(self, wire: Wire, size: int, through: Callable[[], None]) -> None:
        """Queue a segment of *size* bytes of *wire*; *through* is called when it is over the line."""
        self._numbers += 1
        self._queued += size
        behind = self._queued / self._bandwidth
        if behind > _OVERFULL:
            self.late_until = self._clock.now + behind
        turn = self._turns[wire] = max(self._turns.get(wire, 0.0), self._turn) + size
        heappush(self._waiting, (turn, self._numbers, wire, size, through))
        if not self._busy:
            self._next()

    def _next(self) -> None:
        while self._waiting:
            self._turn, _, wire, size, through = heappop(self._waiting)
            self._queued -= size
            if wire.lost:
                self._turns.pop(wire, None)
            else:
                self._busy = True
                self._clock.at(self._clock.now + size / self._bandwidth, partial(self._done, through))
                return
        self._busy = False

    def _done(self, through: Callable[[], None]) -> None:
        through()
        self._next()


def carry(lines: Sequence[Line], wire: Wire, size: int, passed: Callable[[int], None]) -> None:
    """Carry a frame of *size* bytes over each of *lines*, in their order.

    :param passed: called when the last line has carried a segment: with the bytes carried so far.
    """
    segment = min(line.segment for line in lines)
    for sent in range(0, max(size, 1), segment):
        done = min(sent + segment, size)
        _carry(lines, wire, done - sent, partial(passed, done))


def _carry(lines: Sequence[Line], wire: Wire, size: int, passed: Callable[[], None]) -> None:
    rest = lines[1:]
    lines[0].put(wire, size, partial(_carry, rest, wire, size, passed) if rest else passed)
