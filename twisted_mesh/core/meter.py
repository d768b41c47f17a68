"""How fast a peer reads what it is given, by the PONGs to PINGs behind it.

Contract: the bytes that a transport accepts say little of a slow line, since systems buffer megabytes.  So
a PING follows what goes out, one at a time, and its PONG says that everything before it was read.  The peer
may say so too soon or too late: that decides how much it is pushed itself, up to ``link_queue_bytes``.
"""

from __future__ import annotations

from math import inf
from typing import Final

MEASURED: Final = 4096  # bytes from one PING to the next (guess: a thousandth of them is the PING's)
_PER_SECOND: Final = 4  # PINGs, on a line that is fast (guess)
FLOOR: Final = 2 * MEASURED  # may always be unread: a PING is out before it is more
_QUEUED: Final = 0.05  # seconds above the shortest round trip: then something waits on the way (guess)
_QUICKEST: Final = 0.001  # seconds: a shorter time measures the reactor's turns (guess)


class Meter:
    """The reading of one link's peer.

    :ivar rate: bytes a second it reads when it has more to read; 0 until that is known.
    :ivar rtt: the shortest round trip so far, in seconds.
    :ivar waiting_since: when the last PING went out.
    :ivar read: bytes it is known to have read, of all that were sent.
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
        """*size* bytes are sent in all; whether a PING is to follow, of *least* bytes that are not read."""
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
            return  # one that nobody asked for
        took = now - self.waiting_since
        # After a rest the first bytes need half a round trip to get there, and the PONG another: no less
        # than the shortest so far, and no more than half of this one.
        rested = self._began > self._read_at
        seconds = max(now - self._began - self.rtt, took / 2) if rested else now - self._read_at
        size = self._marked - self.read
        rate = size / max(seconds, _QUICKEST)
        self.rtt = min(self.rtt, took)
        if size < MEASURED:
            pass  # too few to tell
        elif rate > self.rate:
            self.rate = rate
        elif took > self.rtt + _QUEUED:  # else there was no more to read
            self.rate = (self.rate + rate) / 2
        self.read, self._read_at, self._marked = self._marked, now, 0

    def bytes_in(self, seconds: float, unknown: int) -> int:
        """How much may be unread, so that it is read in *seconds* and a round trip.

        :param unknown: the same, until something is measured.
        """
        if not self.rate:
            return unknown
        return max(FLOOR, int(self.rate * (seconds + self.rtt)))
