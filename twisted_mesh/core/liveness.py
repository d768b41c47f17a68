"""When a silent link is asked whether it lives, and when it is given up.

Contract: :meth:`Liveness.check` is called about once a second and says what to do.  A link lives as
long as bytes come from it, or as long as it accepts bytes of ours: a peer that is busy reading
64 MiB is not dead.  A node that was itself held up doubts itself first (Lifeguard): all deadlines move
by as much as it was late.
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """What to do about a link now."""

    FINE = "fine"
    PING = "ping"
    DEAD = "dead"


class Liveness:
    """The signs of life of one link.

    :ivar received: when the last byte came, moved by own delays.
    :ivar accepted: when the transport last took bytes of ours, moved likewise.
    """

    __slots__ = ("_dead_after", "_ping_after", "_pinged", "accepted", "received")

    def __init__(self, now: float, *, ping_after: float, dead_after: float) -> None:
        self.received = self.accepted = now
        self._pinged = False
        self._ping_after = ping_after
        self._dead_after = dead_after

    def heard(self, now: float) -> None:
        """Bytes came from the peer."""
        self.received = now
        self._pinged = False

    def silent_for(self, now: float) -> float:
        """Seconds since the last byte came."""
        return now - self.received

    def doubt(self, late: float) -> None:
        """This node itself was held up by *late* seconds: none of that is the peer's silence."""
        self.received += late
        self.accepted += late

    def check(self, now: float) -> Verdict:
        """What to do now; each silence is asked about once."""
        if now - max(self.received, self.accepted) >= self._dead_after:
            return Verdict.DEAD
        if now - self.received >= self._ping_after and not self._pinged:
            self._pinged = True
            return Verdict.PING
        return Verdict.FINE
