"""Measures how fast a peer reads, by PINGs behind the frames that the peer is sent.

Contract: the bytes that a transport accepts say little about a slow line, since operating systems buffer
megabytes.  So a PING follows the frames, one at a time.  Its PONG says that the peer has read all frames
before the PING.  A peer that answers too soon or too late changes only how much that peer is pushed, at
most ``link_queue_bytes``.
"""

from __future__ import annotations

from math import inf
from typing import Final

MEASURED: Final = 4096  # bytes from one PING to the next (guess: a thousandth of all bytes are PINGs)
_PER_SECOND: Final = 4  # PINGs a second on a fast line (guess)
FLOOR: Final = 2 * MEASURED  # bytes that may be unread over a line that was not measured yet
#: Bytes that may always be unread over a measured line.  All links of a node can share a line: with FLOOR,
#: five links would hold what a line of 3 kB/s carries in 13 s (guess: some small frames).
LEAST: Final = 2048
_QUEUED: Final = 0.05  # a round trip so many seconds above the shortest means a queue (guess)
#: If a PONG comes so many seconds later than the shortest round trip, or than one of _TRIP, fewer bytes are
#: measured, too, while nothing is known yet (guess).  Over a slow line a PING often follows few bytes, and
#: until one followed many, the line seemed slow only while a PONG was late.
_LONG: Final = 1.0
_TRIP: Final = 2.0  # seconds of a round trip without a queue, at most (guess)
_QUICKEST: Final = 0.001  # seconds; shorter times would measure the reactor's turns (guess)


class Meter:
    """Measures how fast the peer of one link reads.

    :ivar rate: the bytes that the peer reads in a second while more is on its way; 0 until that is known.
    :ivar rtt: the shortest round trip so far, in seconds.
    :ivar waiting_since: when the last PING was sent.
    :ivar read: the bytes that the peer is known to have read.
    """

    __slots__ = ("_began", "_marked", "_read_at", "_sent", "rate", "read", "rtt", "waiting_since")

    def __init__(self) -> None:
        self.rate = 0.0
        self.rtt = inf
        self.read = self._sent = 0
        self._read_at = -inf
        self._began = -inf  # when the first byte was sent that may be unread
        self._marked = 0  # bytes sent before the PING that is not answered; 0 if there is none
        self.waiting_since = 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether a PING is not answered yet."""
        return self._marked > 0

    def sent(self, size: int, now: float, least: int = MEASURED) -> bool:
        """Note that *size* bytes were sent in all; return whether a PING is due, as *least* are unread."""
        if self._sent - self.read < MEASURED:
            self._began = now
        self._sent = size
        enough = least if least < MEASURED else max(least, self.rate / _PER_SECOND)
        if self._marked or size - self.read < enough:
            return False
        self._marked, self.waiting_since = size, now
        return True

    def has_read(self, now: float) -> None:
        """Note that a PONG has come."""
        if not self._marked:
            return  # there was no PING
        took = now - self.waiting_since
        # If the line was idle before, the first bytes and the PONG each took half a round trip, in which
        # the peer was not reading.  That round trip is estimated as the shortest so far, but at most half
        # of the time from PING to PONG.
        rested = self._began > self._read_at
        seconds = max(now - self._began - self.rtt, took / 2) if rested else now - self._read_at
        size = self._marked - self.read
        rate = size / max(seconds, _QUICKEST)
        self.rtt = min(self.rtt, took)
        if self.rate:
            least = min(MEASURED, max(LEAST / 2, self.rate / _PER_SECOND))
        else:
            least = LEAST / 2 if took > min(self.rtt, _TRIP) + _LONG else MEASURED
        if size < least:
            pass  # too few bytes to measure
        elif rate > self.rate:
            self.rate = rate
        elif took > self.rtt + _QUEUED:  # otherwise the peer had nothing more to read
            self.rate = (self.rate + rate) / 2
        self.read, self._read_at, self._marked = self._marked, now, 0

    def bytes_in(self, seconds: float, unknown: int) -> int:
        """The bytes that the peer reads in *seconds* and a round trip; *unknown* if not measured yet."""
        if not self.rate:
            return unknown
        return max(LEAST, int(self.rate * (seconds + self.rtt)))
