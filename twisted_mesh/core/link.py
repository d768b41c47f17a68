"""One link: what this node knows of a peer by one connection.

Contract: what the peer is believed to hold (claims, unsigned: a reason to ask it, and no more), which
records of presence went over, what it asked for and is owed, and how much of what it was given its
transport has taken.  Which links there are, and which stays of two, is
:mod:`~twisted_mesh.core.links`'s.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.arriving import Partial
from twisted_mesh.core.events import Arriving, LinkOpened, StreamId
from twisted_mesh.core.handshake import Peer
from twisted_mesh.core.meter import Meter
from twisted_mesh.core.rate import Bucket
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.membership import Purpose
from twisted_mesh.wire.native import SnapshotEntry, Want

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
    """One proven connection.

    :ivar frontier_received: whether the peer's frontier has come whole; :ivar roster_received: its roster.
    :ivar up: whether it is in the routing table, or was; :ivar closing: whether it is draining, as
        :mod:`~twisted_mesh.core.links` has it: what still comes counts.
    :ivar is_exchange: whether it is an exchange between nodes that are no neighbours;
        :ivar host: where the far end is, as the connection has it.
    :ivar purpose: what it was dialled for.
    :ivar snapshot: what has come of it.
    :ivar overrides: whether the older link to its node was silent when it came.
    :ivar compares: whether both ends are settled, so that their frontiers are DIGESTs.
    :ivar last_frame_at: when a frame last came; :ivar last_batch_at: when a batch did.
    :ivar compared: when a DIGEST of the peer was last answered.
    :ivar partial: the batch in the middle of which it is, if that takes long.
    :ivar pace: bytes a second it brought lately when it brought as much as it could; 0: not known.
    :ivar answered: when it last ended an answer, or was asked and had none to give before.
    :ivar failures: WANTs it left unanswered since it last answered one.
    :ivar stalled_answers: WANTs it began to answer, and did not go on with.
    :ivar leaves: whether its node has said that it stops: what it is given now may go no further.
    :ivar parts: whether it was asked to say that it has read all, and has not.
    :ivar checked: the last own message it was given before the PING that asks whether it has read that,
        until it answers; 0: none.
    :ivar rtt: the round trip in seconds, 0 until it is known.
    :ivar sent: bytes given to the link so far; :ivar accepted: those its transport has taken.
    :ivar meter: how fast its peer reads them.
    :ivar own_marks: (bytes sent by then, last own message in them), what is not yet accepted.
    :ivar bases: what the peer was told to start from, until it is known to have read it.
    :ivar claims: what the peer is believed to hold, by run, the longest idle first.
    :ivar lazy_by_us: origins the peer was told not to push, the oldest first; :ivar lazy_by_peer: those it
        told us not to push, the oldest first.
    :ivar owed: runs to announce when ``have_delay`` is over, the oldest first.
    :ivar coming: runs of which some is on its way to the peer over another link, and when it said so.
    :ivar wants: what the peer asked for and has not been sent.
    :ivar authors: how many more it may bring that nobody has heard of; :ivar receipts: and of receipts
        and direct messages.
    """

    __slots__ = (
        "_claims_limit",
        "_records",
        "_slowed",
        "_told",
        "accepted",
        "answered",
        "authors",
        "bases",
        "checked",
        "claims",
        "closing",
        "coming",
        "compared",
        "compares",
        "failures",
        "frontier_received",
        "host",
        "is_exchange",
        "last_batch_at",
        "last_frame_at",
        "lazy_by_peer",
        "lazy_by_us",
        "leaves",
        "meter",
        "number",
        "opened",
        "outgoing",
        "overrides",
        "owed",
        "own_marks",
        "pace",
        "partial",
        "parts",
        "peer",
        "purpose",
        "receipts",
        "roster_received",
        "rtt",
        "sent",
        "snapshot",
        "stalled_answers",
        "up",
        "wants",
    )

    def __init__(self, opened: LinkOpened, now: float, config: MeshConfig) -> None:
        self.number = opened.link
        self.peer: Peer = opened.peer
        self.outgoing = opened.outgoing
        self.last_frame_at = now
        self.opened = self.last_batch_at = self.answered = now
        self.partial: Partial | None = None
        self.pace = 0.0
        self._slowed = -inf
        self.rtt = 0.0
        self.bases: dict[StreamId, int] | None = None
        self.failures = self.stalled_answers = 0
        self.compared = -inf
        self.compares = False
        self.overrides = self.leaves = self.parts = False
        self.sent = self.accepted = self.checked = 0
        self.own_marks: deque[tuple[int, int]] = deque()
        self.meter = Meter()
        self.frontier_received = self.roster_received = self.up = self.closing = False
        self.purpose = opened.purpose
        self.is_exchange = opened.purpose is Purpose.EXCHANGE
        self.host = opened.host
        self.snapshot: list[SnapshotEntry] = []
        self.claims: OrderedDict[StreamId, Claim] = OrderedDict()
        self._claims_limit = config.claims_limit
        self._records: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._told: OrderedDict[bytes, None] = OrderedDict()
        self.authors = Bucket(config.authors_burst, config.authors_a_minute / 60)
        self.receipts = Bucket(config.reverse_burst, config.reverse_rate)
        self.lazy_by_us: OrderedDict[bytes, None] = OrderedDict()
        self.lazy_by_peer: OrderedDict[bytes, None] = OrderedDict()
        self.owed: OrderedDict[StreamId, None] = OrderedDict()
        self.coming: OrderedDict[StreamId, float] = OrderedDict()
        self.wants: OrderedDict[StreamId, Want] = OrderedDict()

    @property
    def queued(self) -> int:
        """Bytes that wait behind the transport."""
        return self.sent - self.accepted

    @property
    def unread(self) -> int:
        """Bytes that the peer is not known to have read."""
        return self.sent - self.meter.read

    def is_slowed(self, now: float) -> bool:
        """Whether frames take long to come over it now."""
        return self._slowed + SLOWED_SECONDS > now

    def arriving(self, arriving: Arriving, now: float) -> None:
        """Some of a frame has come."""
        self.last_frame_at = self._slowed = now
        begun, partial = arriving.begun, self.partial
        if begun is None:
            self.partial = None
            return
        if partial is None or not partial.is_of(arriving):
            run = (begun.origin, begun.epoch)
            partial = self.partial = Partial(run, begun.first, begun.last, arriving.length, now)
        partial.grew(arriving.size, now)
        self.pace = partial.pace or self.pace

    def pinged(self, token: int) -> bool:
        """The peer has sent a PING with that *token*; whether to answer it."""
        self.leaves = self.leaves or token == READ_ALL
        return not self.closing

    def ponged(self, token: int, now: float) -> None:
        """The peer has read everything up to the PING with that *token*."""
        if token == READ_SNAPSHOT and not self.rtt:
            self.rtt = min(now - self.opened, RTT_MOST)
            self.meter.has_read(now)
            self.bases = None
        elif token == READ_ALL:
            self.parts = False

    def holds(self, run: StreamId) -> int:
        """The highest message of *run* the peer is believed to hold without a hole; 0 for none."""
        claim = self.claims.get(run)
        return 0 if claim is None else claim[1]

    def is_sent(self, run: StreamId, now: float) -> bool:
        """Whether the peer has just said that some of *run* is on its way to it over another link."""
        return self.coming.get(run, -inf) + COMING_SECONDS > now

    def now_sent(self, run: StreamId, now: float) -> None:
        """The peer says so; of too many runs the oldest word is forgotten."""
        self.coming[run] = now
        self.coming.move_to_end(run)
        if len(self.coming) > self._claims_limit:
            self.coming.popitem(last=False)

    def claim(self, run: StreamId, low: int, high: int) -> None:
        """The peer is believed to hold *low* to *high* of *run*; of too many runs one is forgotten."""
        self.claims[run] = (low, high)
        self.claims.move_to_end(run)
        if len(self.claims) > self._claims_limit:
            self.claims.popitem(last=False)

    def served(self, run: StreamId, first: int, last: int) -> None:
        """Messages up to *last* went over the link in answer to a WANT from *first* on."""
        claim = self.claims.get(run)
        if claim is not None and first <= claim[1] + 1:
            first = min(claim[0], first)
        self.claim(run, first, last)

    def extend(self, run: StreamId, first: int, last: int) -> None:
        """Messages *first* to *last* went over the link, either way.

        Only what joins on extends the claim: of two nodes with the same hole each would else
        believe that the other holds it, and wait for ever.
        """
        claim = self.claims.get(run)
        if claim is None:
            if first == 1:
                self.claim(run, first, last)
        elif claim[0] <= first <= claim[1] + 1:
            self.claim(run, claim[0], max(claim[1], last))

    def knows_record(self, origin: bytes) -> tuple[int, int]:
        """Epoch and counter of the newest record of *origin* that went over the link, either way."""
        return self._records.get(origin, (0, 0))

    def records(self) -> int:
        """How many records are known to have gone over the link."""
        return len(self._records)

    def told_record(self, origin: bytes, rank: tuple[int, int]) -> None:
        """A record of *origin* went over the link, either way; of too many one is forgotten."""
        if rank > self.knows_record(origin):
            self._records[origin] = rank
            self._records.move_to_end(origin)
            if len(self._records) > self._claims_limit:
                self._records.popitem(last=False)

    def heard_record(self, origin: bytes, rank: tuple[int, int]) -> None:
        """The peer told a record of *origin*, so it has a way to it, or had."""
        self.told_record(origin, rank)
        self._told[origin] = None
        if len(self._told) > self._claims_limit:
            self._told.popitem(last=False)

    def has_told(self, origin: bytes) -> bool:
        """Whether the peer told a record of *origin*."""
        return origin in self._told
