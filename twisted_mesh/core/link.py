"""One link: what this node knows of a peer by one connection, and one struct for each rule that uses it.

Contract: nothing here outlives the connection, and every table is bounded.  What the peer claims is
unsigned: a reason to ask it, and no more.  Which links there are, and which of two is kept, is
:mod:`~twisted_mesh.core.links`'s.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from math import inf
from typing import Any, Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.arriving import Partial
from twisted_mesh.core.events import Arriving, LinkOpened, StreamId
from twisted_mesh.core.handshake import Peer
from twisted_mesh.core.meter import MEASURED, Meter
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.wire.broadcast import SnapshotEntry, Want
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.membership import Purpose

RTT_MOST: Final = 1.0  # seconds: how long a peer is waited for is not the peer's to choose (guess)
READ_SNAPSHOT: Final = 0  # the token of the PING behind a SNAPSHOT
READ_ALL: Final = MAX_NUMBER  # and of the last one, from a node that leaves
READ_OWN: Final = MAX_NUMBER - 1  # of one behind own messages of which somebody wants to know
READ_SO_FAR: Final = MAX_NUMBER - 2  # of one that measures how fast the peer reads
#: From the last word about a frame that takes long until the line counts as free again (guess).
SLOWED_SECONDS: Final = 5.0
COMING_SECONDS: Final = 10.0  # for which a peer that is being sent a run is not pushed more of it (guess)
DIGEST_PAUSE: Final = 5.0  # seconds between answers to DIGESTs: each looks at all streams (guess)

Claim = tuple[int, int]  # low, high: what a peer holds of a run


class Link:
    """One connection whose peer has proven who it is.

    :ivar purpose: what it was dialled for; :ivar is_exchange: whether it is an exchange between nodes that
        are no neighbours.
    :ivar host: where the far end is, as the connection has it.
    :ivar overrides: whether the older link to its node was silent when it came.
    :ivar frontier_received: whether the peer's frontier has come whole; :ivar roster_received: its roster.
    :ivar up: whether it is in the routing table, or was; :ivar closing: whether it is draining, as
        :mod:`~twisted_mesh.core.links` has it: what still comes counts.
    :ivar last_frame_at: when a frame last came; :ivar life: its signs of life.
    :ivar reply_limit: how many more receipts and direct messages it may bring.
    """

    __slots__ = (
        *("closing", "flow", "frontier", "frontier_received", "host", "is_exchange", "last_frame_at"),
        *("life", "number", "opened_at", "outgoing", "overrides", "peer", "presence", "purpose", "push"),
        *("repair", "reply_limit", "roster_received", "up"),
    )

    def __init__(self, opened: LinkOpened, now: float, config: MeshConfig) -> None:
        self.number = opened.link
        self.peer: Peer = opened.peer
        self.outgoing = opened.outgoing
        self.host = opened.host
        self.purpose = opened.purpose
        self.is_exchange = opened.purpose is Purpose.EXCHANGE
        self.opened_at = self.last_frame_at = now
        self.overrides = self.frontier_received = self.roster_received = self.up = self.closing = False
        self.push = PushState(config.claims_limit)
        self.flow = FlowState()
        self.life = LifeState(now)
        self.repair = RepairState(now)
        self.frontier = FrontierState(config.claims_limit)
        self.presence = PresenceState(config)
        self.reply_limit = RateLimit(config.reverse_burst, config.reverse_rate)

    def received(self, now: float) -> None:
        """Whole frames have come."""
        self.last_frame_at = self.life.last_bytes_at = now
        self.repair.partial = None

    def arriving(self, arriving: Arriving, now: float) -> None:
        """Some of a frame has come."""
        self.last_frame_at = self.life.last_bytes_at = now
        self.repair.arriving(arriving, now)


class PushState:
    """What the peer is pushed, what it is told of instead, and what it asked for.

    :ivar lazy_by_us: origins the peer was told not to push; :ivar lazy_by_peer: those it told us not to.
    :ivar owed: runs to announce when ``have_delay`` is over.
    :ivar coming: runs of which some is on its way to the peer over another link, and when it said so.
    :ivar wants: what the peer asked for and has not been sent.
    """

    __slots__ = ("_limit", "coming", "lazy_by_peer", "lazy_by_us", "owed", "wants")

    def __init__(self, limit: int) -> None:
        """:param limit: of entries of each table; of more the oldest is forgotten."""
        self._limit = limit
        self.lazy_by_us: OrderedDict[bytes, None] = OrderedDict()
        self.lazy_by_peer: OrderedDict[bytes, None] = OrderedDict()
        self.owed: OrderedDict[StreamId, None] = OrderedDict()
        self.coming: OrderedDict[StreamId, float] = OrderedDict()
        self.wants: OrderedDict[StreamId, Want] = OrderedDict()

    def prune(self, origin: bytes) -> None:
        """The peer is told to push *origin* no more; of too many the oldest is forgotten."""
        self.lazy_by_us[origin] = None
        _cut(self.lazy_by_us, self._limit)

    def pruned(self, origins: list[bytes]) -> None:
        """The peer wants *origins* pushed no more; of too many the oldest is pushed again."""
        self.lazy_by_peer.update(dict.fromkeys(origins))
        _cut(self.lazy_by_peer, self._limit)

    def want(self, run: StreamId, want: Want) -> None:
        """The peer asks for some of *run*."""
        self.wants[run] = want
        _cut(self.wants, self._limit)

    def owe(self, run: StreamId) -> None:
        """*run* is to be announced; of too many the next comparison tells the oldest."""
        self.owed[run] = None
        _cut(self.owed, self._limit)

    def note_coming(self, run: StreamId, now: float) -> None:
        """The peer says that some of *run* is on its way to it over another link."""
        self.coming[run] = now
        self.coming.move_to_end(run)
        _cut(self.coming, self._limit)

    def is_coming(self, run: StreamId, now: float) -> bool:
        """Whether the peer has just said that some of *run* is on its way to it over another link."""
        return self.coming.get(run, -inf) + COMING_SECONDS > now


class FlowState:
    """How much the peer was given, and how much of it has been read.

    :ivar sent: bytes given to the link so far; :ivar accepted: those its transport has taken.
    :ivar meter: how fast its peer reads them.
    :ivar rtt: the round trip in seconds, 0 until it is known.
    :ivar own_marks: (bytes sent by then, last own message in them), of bytes that are not yet accepted.
    :ivar checked: the last own message it was given before the PING that asks whether it has read that,
        until it answers; 0: none.
    :ivar peer_leaves: whether its node has said that it stops: what it is given now may go no further.
    :ivar farewell_due: whether the peer was asked to say that it has read all, and has not.
    """

    __slots__ = (
        *("accepted", "checked", "farewell_due", "meter", "own_marks", "peer_leaves", "rtt", "sent"),
    )

    def __init__(self) -> None:
        self.sent = self.accepted = self.checked = 0
        self.rtt = 0.0
        self.meter = Meter()
        self.own_marks: deque[tuple[int, int]] = deque()
        self.peer_leaves = self.farewell_due = False

    def measure(self, now: float, least: int = MEASURED) -> bool:
        """Whether a PING is to follow now, since *least* bytes or more are unread."""
        return self.meter.sent(self.sent, now, least)

    @property
    def queued(self) -> int:
        """Bytes that wait behind the transport."""
        return self.sent - self.accepted

    @property
    def unread(self) -> int:
        """Bytes that the peer is not known to have read."""
        return self.sent - self.meter.read


class LifeState:
    """The signs of life of the peer, and those it was given; delays of this node move its times.

    :ivar last_bytes_at: when bytes last came.
    :ivar answered_at: when a PONG last came, which is answered with nothing, not even a sign of life.
    :ivar resumed_at: when the transport last took more, after it had had enough.
    """

    __slots__ = ("_accepted", "_asked_at", "_wrote_at", "answered_at", "last_bytes_at", "resumed_at")

    def __init__(self, now: float) -> None:
        self.last_bytes_at = self.resumed_at = self._wrote_at = now
        self.answered_at = self._asked_at = -inf
        self._accepted = 0

    def doubt(self, late: float) -> None:
        """This node itself was held up by *late* seconds: none of that is the peer's silence."""
        self.last_bytes_at += late
        self.resumed_at += late
        self._asked_at += late

    def is_silent(self, seconds: float, now: float) -> bool:
        """Whether nothing has come for so long, and nothing that had piled up was taken either."""
        return now - max(self.last_bytes_at, self.resumed_at) >= seconds

    def is_to_be_asked(self, seconds: float, now: float) -> bool:
        """Whether nothing has come for so long, and nobody has asked about this silence yet."""
        if now - self.last_bytes_at < seconds or self._asked_at > self.last_bytes_at:
            return False
        self._asked_at = now
        return True

    def wrote(self, accepted: int, now: float) -> None:
        """The transport has taken so many bytes by now."""
        if accepted != self._accepted:
            self._accepted, self._wrote_at = accepted, now

    def owes_a_sign(self, seconds: float, now: float) -> bool:
        """Whether bytes have come lately, and nothing has gone out for so long that tells the peer."""
        heard = self.last_bytes_at > max(now - seconds, self._wrote_at, self.answered_at)
        return heard and now - self._wrote_at >= seconds


class RepairState:
    """How well the peer brings what it is asked for.

    :ivar last_batch_at: when a batch last came.
    :ivar partial: the batch in the middle of which it is, if that takes long.
    :ivar pace: bytes a second it brought lately when it brought as much as it could; 0: not known.
    :ivar answered_at: when it last ended an answer, or was asked and had none to give before.
    :ivar failures: WANTs it left unanswered since it last answered one.
    :ivar stalled_answers: WANTs it began to answer, and did not go on with.
    """

    __slots__ = (
        "_slowed_at",
        "answered_at",
        "failures",
        "last_batch_at",
        "pace",
        "partial",
        "stalled_answers",
    )

    def __init__(self, now: float) -> None:
        self.last_batch_at = self.answered_at = now
        self.partial: Partial | None = None
        self.pace = 0.0
        self._slowed_at = -inf
        self.failures = self.stalled_answers = 0

    def is_slowed(self, now: float) -> bool:
        """Whether frames take long to come over it now."""
        return self._slowed_at + SLOWED_SECONDS > now

    def arriving(self, arriving: Arriving, now: float) -> None:
        """Some of a frame has come, and its line is slow."""
        self._slowed_at = now
        begun, partial = arriving.begun, self.partial
        if begun is None:
            self.partial = None
            return
        if partial is None or not partial.is_of(arriving):
            run = (begun.origin, begun.epoch)
            partial = self.partial = Partial(run, begun.first, begun.last, arriving.length, now)
        partial.grew(arriving.size, now)
        self.pace = partial.pace or self.pace


class FrontierState:
    """What the peer is believed to hold.

    :ivar snapshot: what has come of the peer's.
    :ivar compares: whether both ends have a base, so that their frontiers are DIGESTs.
    :ivar compared_at: when a DIGEST of the peer was last answered.
    :ivar bases: what the peer was told to start from, until it is known to have read it.
    :ivar claims: what the peer is believed to hold, by run, the longest idle first.
    """

    __slots__ = ("_limit", "bases", "claims", "compared_at", "compares", "snapshot")

    def __init__(self, limit: int) -> None:
        """:param limit: of runs; of more the longest idle is forgotten."""
        self._limit = limit
        self.snapshot: list[SnapshotEntry] = []
        self.compares = False
        self.compared_at = -inf
        self.bases: dict[StreamId, int] | None = None
        self.claims: OrderedDict[StreamId, Claim] = OrderedDict()

    def holds(self, run: StreamId) -> int:
        """The highest message of *run* the peer is believed to hold without a hole; 0 for none."""
        claim = self.claims.get(run)
        return 0 if claim is None else claim[1]

    def claim(self, run: StreamId, low: int, high: int) -> None:
        """The peer is believed to hold *low* to *high* of *run*."""
        self.claims[run] = (low, high)
        self.claims.move_to_end(run)
        if len(self.claims) > self._limit:
            self.claims.popitem(last=False)

    def served(self, run: StreamId, first: int, last: int) -> None:
        """Messages up to *last* went over the link in answer to a WANT from *first* on."""
        if (claim := self.claims.get(run)) is not None and first <= claim[1] + 1:
            first = min(claim[0], first)
        self.claim(run, first, last)

    def extend(self, run: StreamId, first: int, last: int) -> None:
        """Messages *first* to *last* went over the link, either way.

        Only what joins on extends the claim: of two nodes with the same hole each would else
        believe that the other holds it, and wait for ever.
        """
        if (claim := self.claims.get(run)) is None:
            if first == 1:
                self.claim(run, first, last)
        elif claim[0] <= first <= claim[1] + 1:
            self.claim(run, claim[0], max(claim[1], last))


class PresenceState:
    """Which records of presence went over the link; ``len()`` counts the origins they are of.

    :ivar new_authors: how many more authors it may bring that nobody has heard of.
    """

    __slots__ = ("_limit", "_ranks", "_told_by_peer", "new_authors")

    def __init__(self, config: MeshConfig) -> None:
        self._limit = config.claims_limit
        self._ranks: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._told_by_peer: OrderedDict[bytes, None] = OrderedDict()
        self.new_authors = RateLimit(config.authors_burst, config.authors_a_minute / 60)

    def __len__(self) -> int:
        return len(self._ranks)

    def rank_of(self, origin: bytes) -> tuple[int, int]:
        """Epoch and counter of the newest record of *origin* that went over the link, either way."""
        return self._ranks.get(origin, (0, 0))

    def note(self, origin: bytes, rank: tuple[int, int]) -> None:
        """A record of *origin* went over the link, either way; of too many one is forgotten."""
        if rank > self.rank_of(origin):
            self._ranks[origin] = rank
            self._ranks.move_to_end(origin)
            _cut(self._ranks, self._limit)

    def note_told(self, origin: bytes, rank: tuple[int, int]) -> None:
        """The peer told a record of *origin*, so it has a way to it, or had."""
        self.note(origin, rank)
        self._told_by_peer[origin] = None
        _cut(self._told_by_peer, self._limit)

    def has_told(self, origin: bytes) -> bool:
        """Whether the peer told a record of *origin*."""
        return origin in self._told_by_peer


def _cut(table: OrderedDict[Any, Any], limit: int) -> None:
    """Forget the oldest entries of *table* beyond *limit*."""
    while len(table) > limit:
        table.popitem(last=False)
