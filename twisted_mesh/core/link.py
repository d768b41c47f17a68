"""A link: all that this node knows of a peer by one connection, with one struct for each concern.

Contract: nothing here outlives the connection, and every table is bounded.  The peer's *claims* to
hold messages are unsigned: they are only a reason to ask the peer for messages.
:mod:`~twisted_mesh.core.links` knows which links there are, and which of two links to one node is kept.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.arriving import Partial
from twisted_mesh.core.events import Arriving, LinkOpened, StreamId
from twisted_mesh.core.meter import LEAST, Meter
from twisted_mesh.core.rate import LinkRates
from twisted_mesh.core.status import LinkReport
from twisted_mesh.wire.broadcast import SnapshotEntry, Want
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.membership import Purpose

RTT_MOST: Final = 1.0  # seconds; longer round trips count as this: a peer can delay its PONGs (guess)
READ_SNAPSHOT: Final = 0  # the token of the PING behind a SNAPSHOT
READ_ALL: Final = MAX_NUMBER  # the token of the last PING from a node that leaves
READ_OWN: Final = MAX_NUMBER - 1  # the token of a PING behind this node's own messages: are they read?
READ_SO_FAR: Final = MAX_NUMBER - 2  # the token of a PING that measures how fast the peer reads
SLOWED_SECONDS: Final = 5.0  # seconds from the last part of a slow frame until a line is fast again (guess)
#: Seconds for which a run is not pushed to a peer, after the peer said that another link brings it (guess).
COMING_SECONDS: Final = 10.0
COPIES_MOST: Final = 1024  # frames noted of a late line; copies of older ones go out again (guess)
DIGEST_PAUSE: Final = 5.0  # seconds between answers to DIGESTs: each answer looks at all streams (guess)

Claim = tuple[int, int]  # low, high: messages of a run that a peer says it holds


class Link:
    """One connection whose peer has proven its key.

    :ivar purpose: the purpose for which the link was dialled.
    :ivar is_exchange: whether it is an exchange between two nodes that are not neighbours.
    :ivar host: the host at the far end, as the connection reports it.
    :ivar named: whether the application named the peer, or the address where it was dialled.
    :ivar overrides: whether the older link to the peer's node was silent when this one came.
    :ivar frontier_received: whether all of the peer's frontier has come.
    :ivar roster_received: whether all of the peer's roster has come.
    :ivar up: whether the link is or was in the routing table.
    :ivar closing: whether the link is draining (:mod:`~twisted_mesh.core.links`).
    :ivar last_frame_at: when a frame last came.
    :ivar weight: the entries that :meth:`weigh` counted last.
    """

    def __init__(self, opened: LinkOpened, now: float, config: MeshConfig) -> None:
        self.number = opened.link
        self.peer = opened.peer
        self.outgoing = opened.outgoing
        self.host = opened.host
        self.named = opened.named
        self.purpose = opened.purpose
        self.is_exchange = opened.purpose is Purpose.EXCHANGE
        self.opened_at = self.last_frame_at = now
        self.overrides = self.frontier_received = self.roster_received = self.up = self.closing = False
        self.push = PushState(config.claims_limit)
        self.flow = FlowState()
        self.life = LifeState(now)
        self.repair = RepairState(now, now)
        self.frontier = FrontierState(config.claims_limit)
        # Records of authors that were forgotten meanwhile take no more room than those on the roster.
        self.presence = PresenceState(min(config.claims_limit, 2 * config.members_limit))
        self.rates = LinkRates(config)
        self.weight = 0

    def weigh(self, known: int) -> int:
        """Count the entries that the peer made up, or may have; return how many more there are than before.

        :param known: how many runs and authors are known here: so many entries of each table need not be
            made up.
        """
        tables = (self.frontier.snapshot, *self._claimed())
        weight = sum(max(0, len(table) - known) for table in tables)
        more, self.weight = weight - self.weight, weight
        return more

    def shrink(self, known: int) -> None:
        """Forget the older half of the entries beyond *known* in each table."""
        for table in self._claimed():
            _cut(table, known + max(0, len(table) - known) // 2)

    def _claimed(self) -> tuple[OrderedDict[Any, Any], ...]:
        push = self.push
        return self.frontier.claims, self.frontier.over, push.lazy_by_peer, push.coming, push.wants

    def report(self) -> LinkReport:
        """The link as a value."""
        push, flow = self.push, self.flow
        return LinkReport(self.number, flow.rtt or None, len(push.lazy_by_us), len(push.lazy_by_peer))

    def received(self, now: float) -> None:
        """Note that whole frames have come."""
        self.last_frame_at = self.life.last_bytes_at = now
        self.repair.partial = None

    def arriving(self, arriving: Arriving, now: float) -> None:
        """Note that a part of a frame has come."""
        self.last_frame_at = self.life.last_bytes_at = now
        self.repair.arriving(arriving, now)


@dataclass(eq=False, slots=True)
class PushState:
    """The messages that the peer is pushed, those that are announced to it, and those that it asked for.

    :ivar lazy_by_us: the origins of which this node told the peer to push no more messages.
    :ivar lazy_by_peer: the origins of which the peer told this node to push no more messages.
    :ivar owed: the runs to announce to the peer when ``have_delay`` is over.
    :ivar coming: the runs that are on their way to the peer over another link, and when the peer said so.
    :ivar announce_at: when the next announcements may go out: they are a small part of what a line carries.
    :ivar wants: the WANTs of the peer that are not answered yet.
    :ivar answered: the bytes of all messages that it was sent as answers.
    """

    _limit: int  # entries of each table; beyond it the oldest is forgotten
    lazy_by_us: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    lazy_by_peer: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    owed: OrderedDict[StreamId, None] = field(default_factory=OrderedDict)
    coming: OrderedDict[StreamId, float] = field(default_factory=OrderedDict)
    wants: OrderedDict[StreamId, Want] = field(default_factory=OrderedDict)
    answered: int = 0
    announce_at: float = 0.0

    def prune(self, origin: bytes) -> None:
        """Note that this node told the peer to push no more of *origin*."""
        self.lazy_by_us[origin] = None
        _cut(self.lazy_by_us, self._limit)

    def pruned(self, origins: list[bytes]) -> None:
        """Note that the peer wants no more pushes of *origins*; a forgotten origin is pushed again."""
        self.lazy_by_peer.update(dict.fromkeys(origins))
        _cut(self.lazy_by_peer, self._limit)

    def want(self, run: StreamId, want: Want) -> None:
        """Note that the peer asks for messages of *run*."""
        self.wants[run] = want
        _cut(self.wants, self._limit)

    def owe(self, run: StreamId) -> None:
        """Announce *run* to the peer later; a forgotten run is in the next DIGEST."""
        self.owed[run] = None
        _cut(self.owed, self._limit)

    def note_coming(self, run: StreamId, now: float) -> None:
        """Note that the peer says that messages of *run* are on their way to it over another link."""
        self.coming[run] = now
        self.coming.move_to_end(run)
        _cut(self.coming, self._limit)

    def is_coming(self, run: StreamId, now: float) -> bool:
        """Whether the peer said lately that messages of *run* are on their way to it over another link."""
        return self.coming.get(run, -inf) + COMING_SECONDS > now


@dataclass(eq=False, slots=True)
class FlowState:
    """How many bytes were sent to the peer, and how many of them it has read.

    :ivar own_marks: for each own batch not accepted by the transport: *sent* behind it, and its last
        message.
    :ivar copies: the frames of which no copy is sent while they are unread: for each, how much was sent
        before it, its author, and its bytes.
    :ivar shares: by author, the bytes of all *copies*.
    :ivar checked: the last own message before the PING READ_OWN that waits for its answer; 0 if none waits.
    :ivar peer_leaves: whether the peer has said that it stops; frames sent now may not be relayed.
    :ivar farewell_due: whether this node leaves, and waits until the peer has read all frames.
    """

    sent: int = 0  # the bytes that the core has sent over the link so far
    accepted: int = 0  # the bytes of these that the transport has accepted
    checked: int = 0
    rtt: float = 0.0  # the round trip in seconds; 0 until it is known
    meter: Meter = field(default_factory=Meter)  # measures how fast the peer reads
    own_marks: deque[tuple[int, int]] = field(default_factory=deque)
    copies: OrderedDict[Hashable, tuple[int, bytes, int]] = field(default_factory=OrderedDict)
    shares: Counter[bytes] = field(default_factory=Counter)
    peer_leaves: bool = False
    farewell_due: bool = False

    @property
    def queued(self) -> int:
        """The bytes that the transport has not accepted yet."""
        return self.sent - self.accepted

    @property
    def unread(self) -> int:
        """The bytes that the peer is not known to have read."""
        return self.sent - self.meter.read

    def note_once(self, frame: Hashable, author: bytes, size: int) -> bool:
        """Note that *frame* goes out behind all that was sent, unless it or its author's share is unread.

        :param author: whose share of the line it takes; empty if it takes none; *size*: its bytes.
        :return: whether it goes out.
        """
        copies, shares = self.copies, self.shares
        while copies and next(iter(copies.values()))[0] <= self.meter.read:
            self._forget_copy()
        if frame in copies or (shares[author] and shares[author] + size > LEAST):
            return False
        copies[frame] = self.sent + 1, author, size  # it is longer than a byte
        shares[author] += size
        if len(copies) > COPIES_MOST:
            self._forget_copy()
        return True

    def _forget_copy(self) -> None:
        _, (_, author, size) = self.copies.popitem(last=False)
        self.shares[author] -= size
        if not self.shares[author]:
            del self.shares[author]


class LifeState:
    """The signs of life that the peer gave, and that it was sent.

    :ivar last_bytes_at: when bytes last came.
    :ivar answered_at: when a PONG last came; a PONG is not answered, not even with a sign of life.
    :ivar resumed_at: when the transport last accepted more bytes, after it had paused.
    """

    __slots__ = ("_accepted", "_asked_at", "_wrote_at", "answered_at", "last_bytes_at", "resumed_at")

    def __init__(self, now: float) -> None:
        self.last_bytes_at = self.resumed_at = self._wrote_at = now
        self.answered_at = self._asked_at = -inf
        self._accepted = 0

    def doubt(self, late: float) -> None:
        """Count no silence of the peer for the *late* seconds in which this node itself was held up."""
        self.last_bytes_at += late
        self.resumed_at += late
        self._asked_at += late

    def is_silent(self, seconds: float, now: float) -> bool:
        """Whether for *seconds* no bytes came, and no paused transport accepted bytes again."""
        return now - max(self.last_bytes_at, self.resumed_at) >= seconds

    def is_to_be_asked(self, seconds: float, now: float) -> bool:
        """Whether to send a PING, since no bytes came for *seconds*; True only once until bytes come."""
        if now - self.last_bytes_at < seconds or self._asked_at > self.last_bytes_at:
            return False
        self._asked_at = now
        return True

    def wrote(self, accepted: int, now: float) -> None:
        """Note that the transport has accepted *accepted* bytes in all by now."""
        if accepted != self._accepted:
            self._accepted, self._wrote_at = accepted, now

    def owes_a_sign(self, seconds: float, now: float) -> bool:
        """Whether bytes came within the last *seconds*, and this node sent none in that time."""
        heard = self.last_bytes_at > max(now - seconds, self._wrote_at, self.answered_at)
        return heard and now - self._wrote_at >= seconds


@dataclass(eq=False, slots=True)
class RepairState:
    """How well the peer answers WANTs.

    :ivar pace: bytes a second that came while the peer sent without a pause; 0 if unknown.
    :ivar failed: by run, the head behind which the peer was asked for messages and sent none, how often.
    """

    last_batch_at: float  # when a batch last came
    answered_at: float  # when the peer last ended an answer, or was asked while it owed no answer
    partial: Partial | None = None  # the batch that is coming in part, if it takes long
    pace: float = 0.0
    failures: int = 0  # WANTs that the peer left unanswered since it last answered one
    stalled_answers: int = 0  # WANTs that the peer began to answer, and did not end
    pulls: int = 0  # runs for which this node waits for the peer's answer
    failed: OrderedDict[StreamId, tuple[int, int]] = field(default_factory=OrderedDict)
    _slowed_at: float = -inf

    def is_slowed(self, now: float) -> bool:
        """Whether frames take long to come over the link now."""
        return self._slowed_at + SLOWED_SECONDS > now

    def arriving(self, arriving: Arriving, now: float) -> None:
        """Note that a part of a frame has come, and that the line is slow."""
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


@dataclass(eq=False, slots=True)
class FrontierState:
    """The messages that the peer is believed to hold.

    :ivar snapshot: the part of the peer's SNAPSHOT that has come.
    :ivar bases: the bases that this node sent to the peer, until the peer is known to have read them.
    :ivar claims: the messages that the peer is believed to hold of each run, the longest idle run first.
    :ivar over: the head and the hash that the peer has told of each run that is open there, and closed or
        void here; the run that was told longest ago first.
    """

    _limit: int  # runs in each table; beyond it the longest idle is forgotten
    snapshot: list[SnapshotEntry] = field(default_factory=list)
    compares: bool = False  # whether both ends have a base, so that their frontiers are DIGESTs
    compared_at: float = -inf  # when a DIGEST of the peer was last answered
    bases: dict[StreamId, int] | None = None
    claims: OrderedDict[StreamId, Claim] = field(default_factory=OrderedDict)
    over: OrderedDict[StreamId, tuple[int, bytes]] = field(default_factory=OrderedDict)
    shown: OrderedDict[StreamId, int] = field(default_factory=OrderedDict)  # heads whose headers were sent

    def note_shown(self, run: StreamId, head: int) -> bool:
        """Note that the header at *head* goes over the link; return whether that is the first time."""
        if self.shown.get(run) == head:
            return False
        self.shown[run] = head
        self.shown.move_to_end(run)
        if len(self.shown) > self._limit:
            self.shown.popitem(last=False)
        return True

    def note_over(self, run: StreamId, head: int, hash: bytes) -> None:
        """Note that the peer has told its *head* of *run*, which is over here, and the *hash* there."""
        self.over[run] = head, hash
        self.over.move_to_end(run)
        if len(self.over) > self._limit:
            self.over.popitem(last=False)

    def holds(self, run: StreamId) -> int:
        """The highest message of *run* that the peer is believed to hold without a hole; 0 for none."""
        claim = self.claims.get(run)
        return 0 if claim is None else claim[1]

    def claim(self, run: StreamId, low: int, high: int) -> None:
        """Note that the peer is believed to hold the messages *low* to *high* of *run*."""
        self.claims[run] = (low, high)
        self.claims.move_to_end(run)
        if len(self.claims) > self._limit:
            self.claims.popitem(last=False)

    def served(self, run: StreamId, first: int, last: int) -> None:
        """Note that this node answered a WANT from *first* on with messages up to *last*."""
        if (claim := self.claims.get(run)) is not None and first <= claim[1] + 1:
            first = min(claim[0], first)
        self.claim(run, first, last)

    def extend(self, run: StreamId, first: int, last: int) -> None:
        """Note that messages *first* to *last* went over the link, in either direction.

        They extend the claim only if they join it.  Otherwise two nodes with the same hole would each
        believe that the other one holds it, and would wait for ever.
        """
        if (claim := self.claims.get(run)) is None:
            if first == 1:
                self.claim(run, first, last)
        elif claim[0] <= first <= claim[1] + 1:
            self.claim(run, claim[0], max(claim[1], last))


@dataclass(eq=False, slots=True)
class PresenceState:
    """The records of presence that went over the link; ``len()`` counts their origins.

    :ivar untold: the authors whose records are still to be told in this node's ROSTER, the next first.
    :ivar owed: the authors whose records the peer is to get once it has read what it was sent.
    :ivar vote: this node's vote in that ROSTER.
    """

    _limit: int  # origins in each table; beyond it the oldest is forgotten
    untold: deque[bytes] = field(default_factory=deque)
    owed: OrderedDict[bytes, None] = field(default_factory=OrderedDict)
    vote: int = 0
    _ranks: OrderedDict[bytes, tuple[int, int]] = field(default_factory=OrderedDict)
    _from_peer: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._ranks)

    def rank_of(self, origin: bytes) -> tuple[int, int]:
        """Epoch and counter of the newest record of *origin* that went over the link, either way."""
        return self._ranks.get(origin, (0, 0))

    def note(self, origin: bytes, rank: tuple[int, int]) -> None:
        """Note that a record of *origin* went over the link, in either direction."""
        if rank > self.rank_of(origin):
            self._ranks[origin] = rank
            self._ranks.move_to_end(origin)
            _cut(self._ranks, self._limit)

    def owe(self, origin: bytes) -> None:
        """Send the peer the record of *origin* later; a forgotten one is followed by the next."""
        self.owed[origin] = None
        _cut(self.owed, self._limit)

    def note_from_peer(self, origin: bytes, rank: tuple[int, int]) -> None:
        """Note that the peer sent a record of *origin*, to which it has or had a route."""
        self.note(origin, rank)
        self._from_peer[origin] = None
        _cut(self._from_peer, self._limit)

    def came_from_peer(self, origin: bytes) -> bool:
        """Whether the peer sent a record of *origin*."""
        return origin in self._from_peer


def _cut(table: OrderedDict[Any, Any], limit: int) -> None:
    """Forget the oldest entries of *table* beyond *limit*."""
    while len(table) > limit:
        table.popitem(last=False)
