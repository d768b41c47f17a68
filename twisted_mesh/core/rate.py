"""How often something may happen: so many times in a row, and so many times a second on average.

Contract: :class:`RateLimit` is the limit of one thing.  :class:`LinkRates` is the table of the limits that
each link has; the dials of ``overlay.dial_limit`` share one limit.  :class:`AnswerLimit` limits the
answers to each peer.  :func:`backoff` gives the waits between attempts that fail.  What each author may
bring is in :mod:`~twisted_mesh.core.shares`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import StreamId

WALK_BURST: Final = 64  # FORWARD_JOINs and SHUFFLEs of one link in a row (guess: many newcomers bring 20)
WALK_RATE: Final = 8.0  # FORWARD_JOINs and SHUFFLEs of one link in a second, on average (guess)
#: Records of one link in a row whose certificates are refused; to refuse one takes 0.3 ms (guess).
REFUSED_BURST: Final = 256
REFUSED_RATE: Final = 16.0  # such records in a second, on average (guess: links between two CAs bring few)
#: Copies of direct messages of one link in a row whose signatures are verified (guess: a relay that is gone
#: has many messages repeated at once).
COPY_BURST: Final = 256
COPY_RATE: Final = 64.0  # such copies in a second, on average (guess: 1.3 % of the processor)
REMEMBERED_SECONDS: Final = 600.0  # seconds for which bytes sent are counted (docs/protocol.rst)
AGAIN_RATE: Final = 2**20  # bytes a second that a peer may always be sent again (docs/protocol.rst)
RUNS_REMEMBERED: Final = 65_536  # runs of all peers; the peer whose count began first is forgotten (guess)


class RateLimit:
    """A token bucket; it begins full."""

    __slots__ = ("_burst", "_filled", "_least", "_rate", "_tokens")

    def __init__(self, burst: float, rate: float, debt: float = 0) -> None:
        """:param debt: the tokens of so many seconds may be missing after :meth:`spend`."""
        self._burst = self._tokens = burst
        self._rate = rate
        self._least = -debt * rate
        self._filled = -inf

    def left(self, now: float) -> float:
        """The tokens that there are at the time *now*; below 0, so many are missing."""
        if self._filled < now:
            if self._filled > -inf:
                self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
            self._filled = now
        return self._tokens

    def has(self, now: float, least: float = 1) -> bool:
        """Whether there are *least* tokens at the time *now*."""
        return self.left(now) >= least

    def take(self, now: float, tokens: int = 1) -> bool:
        """Take *tokens* at the time *now*, which may leave some missing; False if there is not one."""
        if not self.has(now):
            return False
        self._tokens -= tokens
        return True

    def give_back(self, tokens: int = 1) -> None:
        """Put back *tokens* that were taken: it turned out that nothing is to be limited."""
        self._tokens = min(self._burst, self._tokens + tokens)

    def spend(self, now: float, tokens: float = 1) -> None:
        """Take *tokens* at the time *now*, also those that are missing."""
        self._tokens = max(self._least, self.left(now) - tokens)


class LinkRates:
    """The limits of one link; the handler of a frame takes from the frame's limit before any costly work.

    A limit for one more kind of frame is one line here.  Its values are fields of MeshConfig, with rows in
    docs/limits.rst, or constants above, with their reasons.

    :ivar replies: receipts, direct messages and acknowledgements that the link may bring.
    :ivar copies: copies of these that came before, over any link.
    :ivar walks: FORWARD_JOINs and SHUFFLEs that the link may bring.
    :ivar refused: records with certificates that are refused.
    """

    __slots__ = ("copies", "refused", "replies", "walks")

    def __init__(self, config: MeshConfig) -> None:
        self.replies = RateLimit(config.reverse_burst, config.reverse_rate)
        self.copies = RateLimit(COPY_BURST, COPY_RATE)
        self.walks = RateLimit(WALK_BURST, WALK_RATE)
        self.refused = RateLimit(REFUSED_BURST, REFUSED_RATE)


_DOUBLINGS: Final = 64  # more could overflow a float, and every wait is at its longest by then


def backoff(first: float, tries: int, longest: float) -> float:
    """Seconds until the next attempt: *first*, doubled for each of *tries* so far, at most *longest*."""
    return min(first * 2.0 ** min(tries, _DOUBLINGS), longest)


@dataclass(eq=False, slots=True)
class _Sent:
    """The bytes that one peer was sent since the time *since*."""

    since: float
    first: int = 0  # bytes that were sent for the first time
    again: int = 0  # bytes that were sent before
    next_at: float = -inf  # the time before which no WANT is answered
    runs: dict[StreamId, int] = field(default_factory=dict)  # the last message of each run that was sent


class AnswerLimit:
    """How often each peer is sent the same messages; ``len()`` counts the runs that are remembered.

    A WANT of 60 bytes is answered with up to 1 MiB.  In ten minutes a peer may be sent as many bytes again
    as for the first time, and one answer more.  Beyond that, it is sent 1 MiB a second again.  A
    link loses nothing, so an honest peer needs no message twice unless it is restarted.  Peers are told
    apart by their keys, so a new link changes nothing.
    """

    def __init__(self, most: int) -> None:
        """:param most: bytes that may be sent again at once to a peer that was sent little before."""
        self._most = most
        self._peers: OrderedDict[bytes, _Sent] = OrderedDict()
        self._runs = 0

    def __len__(self) -> int:
        return self._runs

    def next_at(self, origin: bytes) -> float:
        """The time before which no WANT of the peer *origin* is answered."""
        peer = self._peers.get(origin)
        return -inf if peer is None else peer.next_at

    def sent(self, origin: bytes, run: StreamId, last: int, size: int, now: float) -> None:
        """Note an answer to the peer *origin*: messages of *run* up to *last*, in *size* bytes."""
        peer = self._peers.get(origin)
        if peer is None or now >= peer.since + REMEMBERED_SECONDS:
            self._forget(origin)
            peer = self._peers[origin] = _Sent(now)
        highest = peer.runs.get(run)
        if highest is None:
            self._runs += 1
        if highest is None or last > highest:
            peer.runs[run] = last
            peer.first += size
        else:
            peer.again += size
            if peer.again > peer.first + self._most:
                peer.next_at = max(now, peer.next_at) + size / AGAIN_RATE
        while self._runs > RUNS_REMEMBERED:
            self._forget(next(iter(self._peers)))

    def _forget(self, origin: bytes) -> None:
        if (peer := self._peers.pop(origin, None)) is not None:
            self._runs -= len(peer.runs)
