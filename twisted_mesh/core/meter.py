"""How fast a peer reads, measured by PINGs behind the frames that it is sent.

Contract: the bytes that a transport accepts say little of a slow line, since systems buffer megabytes.  So
PINGs follow the frames, one at a time, and a PONG says that the peer has read all before its PING.  A peer
may answer too soon or too late: that changes how much it is pushed itself, up to ``link_queue_bytes``.
"""

from __future__ import annotations

from math import inf
from typing import Final

MEASURED: Final = 4096  # bytes from one PING to the next (guess: a thousandth of them is the PING's)
_PER_SECOND: Final = 4  # PINGs, on a line that is fast (guess)
FLOOR: Final = 2 * MEASURED  # bytes that may always be unread: before there are more, a PING is sent
_QUEUED: Final = 0.05  # seconds above the shortest round trip: then something waits on the way (guess)
_QUICKEST: Final = 0.001  # seconds: a shorter time measures the reactor's turns (guess)


class Meter:
    """Measures how fast the peer of one link reads.

    :ivar rate: bytes a second that it reads while it has more to read; 0 until that is known.
    :ivar rtt: the shortest round trip so far, in seconds.
    :ivar waiting_since: when the last PING was sent.
    :ivar read: bytes that it is known to have read, of all that were sent.
    """

    __slots__ = ("_began", "_marked", "_read_at", "_sent", "rate", "read", "rtt", "waiting_since")

    def __init__(self) -> None:
        self.rate = 0.0
        self.rtt = inf
        self.read = self._sent = 0
        self._read_at = -inf
        self._began = -inf  # when the first byte was sent that is not known to be read
        self._marked = 0  # bytes before the PING that is out, 0: none is
        self.waiting_since = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether a PING is not answered yet."""
        return self._marked > 0

    def sent(self, size: int, now: float, least: int = MEASURED) -> bool:
        """*size* bytes are sent in all; whether to send a PING now, if *least* bytes or more are unread."""
        if self._sent - self.read < MEASURED:
            self._began = now
        self._sent = size
        enough = least if least < MEASURED else max(least, self.rate / _PER_SECOND)
        if self._marked or size - self.read < enough:
            return False
        self._marked, self.waiting_since = size, now
        return True

    def has_read(self, now: float) -> None:
        """The PONG has come."""
        if not self._marked:
            return  # there was no PING
        took = now - self.waiting_since
        # After a rest the first bytes need half a round trip to get there, and the PONG another: no less
        # than the shortest so far, and no more than half of this one.
        rested = self._began > self._read_at
        seconds = max(now - self._began - self.rtt, took / 2) if rested else now - self._read_at
        size = self._marked - self.read
        rate = size / max(seconds, _QUICKEST)
        self.rtt = min(self.rtt, took)
        if size < MEASURED:
            pass  # too few to measure
        elif rate > self.rate:
            self.rate = rate
        elif took > self.rtt + _QUEUED:  # else there was no more to read
            self.rate = (self.rate + rate) / 2
        self.read, self._read_at, self._marked = self._marked, now, 0

    def bytes_in(self, seconds: float, unknown: int) -> int:
        """Bytes that may be unread, so that they are read within *seconds* and a round trip.

        :param unknown: the answer until the rate is known.
        """
        if not self.rate:
            return unknown
        return max(FLOOR, int(self.rate * (seconds + self.rtt)))
