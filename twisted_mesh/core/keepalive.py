"""When a silent link is asked whether it lives, and when it is given up.

Contract: :meth:`Liveness.check` is called about once a second and says what to do.  A link lives as
long as bytes come from it, or as long as it accepts bytes of ours: a peer that is busy reading
64 MiB is not dead.  Over a slow line neither may happen for long, while a large frame goes one way: so who
receives says at least every ``ping_after`` that it lives (:meth:`Liveness.owes_a_sign`).  A node that was
itself held up doubts itself first (Lifeguard): all deadlines move by as much as it was late.
"""

from __future__ import annotations

from enum import Enum
from math import inf
from typing import Final

from twisted_mesh.wire.fields import MAX_NUMBER

ALIVE: Final = MAX_NUMBER - 3  # the token of a PONG that nobody asked for
_LATELY: Final = 0.5  # of ping_after or close_timeout: looks and the line come on top (guess)
#: Bytes that are an answer to nothing: signs, of 38, would else be answered with signs (guess).
_FLOW: Final = 128


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

    __slots__ = (
        *("_came", "_dead_after", "_lately", "_ping_after", "_pinged", "_read", "_said"),
        *("_written", "_wrote", "accepted", "received"),
    )

    def __init__(
        self, now: float, *, ping_after: float, dead_after: float, close_timeout: float = inf
    ) -> None:
        self.received = self.accepted = now
        self._pinged = self._came = False
        self._read = self._written = 0
        self._said = 0  # bytes that had come when bytes of ours were last seen to have gone out
        self._wrote = now  # when bytes of ours were last seen to have gone out
        self._ping_after = ping_after
        self._lately = min(ping_after, close_timeout) * _LATELY
        self._dead_after = dead_after

    def heard(self, now: float) -> None:
        """Bytes came from the peer."""
        self.received = now
        self._pinged = False
        self._came = True

    def has_read(self, read: int, now: float) -> None:
        """*read* bytes have come so far: some may be of a TLS record that heard() is not told of yet."""
        if read != self._read and not self._came:
            self.heard(now)
        self._read, self._came = read, False

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

    def owes_a_sign(self, written: int, now: float) -> bool:
        """Whether bytes come, and the peer has had none from this node for long: it is to be told of that.

        :param written: bytes that were written to the link so far.
        """
        if written != self._written:
            self._written, self._wrote, self._said = written, now, self._read
        flows = self._read - self._said >= _FLOW
        return flows and now - self.received < self._lately <= now - self._wrote
