"""The links of a node, and which of two to the same node is kept.

Contract: a link is *fed* from its proof to our BYE, *up* (in the routing table) from the peer's
snapshot to our BYE, and *draining* from our BYE until the connection ends: what the peer had sent by
then still counts, so that settling a double link loses nothing.  A node leaves the routing table when
none of the links to it is left, so that of two the wrong one may end first.

A link that *visits* is an exchange between nodes that are no neighbours: it is answered like any other,
but never fed, never in the routing table, and no double of another.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import ValuesView
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.bucket import Bucket
from twisted_mesh.core.events import LinkOpened, Run
from twisted_mesh.core.handshake import Myself, Peer
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.membership import Purpose
from twisted_mesh.wire.native import SnapshotEntry, Want

RTT_MOST: Final = 1.0  # seconds: how long a peer is waited for is not the peer's to choose (guess)
READ_SNAPSHOT: Final = 0  # the token of the PING behind a SNAPSHOT
READ_ALL: Final = MAX_NUMBER  # and of the last one, from a node that leaves
DIGEST_PAUSE: Final = 5.0  # seconds between answers to DIGESTs: each looks at all streams (guess)

Claim = tuple[int, int]  # low, high: what a peer holds of a run


class Link:
    """One proven connection.

    :ivar told: whether the peer's frontier has come whole; :ivar listed: its roster.
    :ivar visits: whether it is an exchange; :ivar host: where the far end is, as the connection has it.
    :ivar purpose: what it was dialled for.
    :ivar snapshot: what has come of it.
    :ivar overrides: whether the older link to its node was silent when it came.
    :ivar compares: whether both ends are settled, so that their frontiers are DIGESTs.
    :ivar heard: when a frame last came; :ivar fetched: when a batch did.
    :ivar compared: when a DIGEST of the peer was last answered.
    :ivar failures: WANTs it left unanswered since it last answered one.
    :ivar trickles: WANTs it began to answer, and did not go on with.
    :ivar leaves: whether its node has said that it stops: what it is given now may go no further.
    :ivar parts: whether it was asked to say that it has read all, and has not.
    :ivar rtt: the round trip in seconds, 0 until it is known.
    :ivar sent: bytes given to the link so far; :ivar accepted: those its transport has taken.
    :ivar own_marks: (bytes sent by then, last own message in them), what is not yet accepted.
    :ivar bases: what the peer was told to start from, until it is known to have read it.
    :ivar claims: what the peer is believed to hold, by run, the longest idle first.
    :ivar quiet: origins the peer was told not to push; :ivar mute: those it told us not to push.
    :ivar owed: runs to announce when ``have_delay`` is over.
    :ivar wants: what the peer asked for and has not been sent.
    :ivar authors: how many more it may bring that nobody has heard of; :ivar receipts: and of receipts
        and direct messages.
    """

    __slots__ = (
        "_claims_limit",
        "_records",
        "_told",
        "accepted",
        "authors",
        "bases",
        "claims",
        "closing",
        "compared",
        "compares",
        "failures",
        "fetched",
        "heard",
        "host",
        "leaves",
        "listed",
        "mute",
        "number",
        "opened",
        "outgoing",
        "overrides",
        "owed",
        "own_marks",
        "parts",
        "peer",
        "purpose",
        "quiet",
        "receipts",
        "rtt",
        "sent",
        "snapshot",
        "told",
        "trickles",
        "up",
        "visits",
        "wants",
    )

    def __init__(self, opened: LinkOpened, now: float, config: MeshConfig) -> None:
        self.number = opened.link
        self.peer: Peer = opened.peer
        self.outgoing = opened.outgoing
        self.heard = now
        self.opened = self.fetched = now
        self.rtt = 0.0
        self.bases: dict[Run, int] | None = None
        self.failures = self.trickles = 0
        self.compared = -inf
        self.compares = False
        self.overrides = self.leaves = self.parts = False
        self.sent = self.accepted = 0
        self.own_marks: deque[tuple[int, int]] = deque()
        self.told = self.listed = self.up = self.closing = False
        self.purpose = opened.purpose
        self.visits = opened.purpose is Purpose.EXCHANGE
        self.host = opened.host
        self.snapshot: list[SnapshotEntry] = []
        self.claims: OrderedDict[Run, Claim] = OrderedDict()
        self._claims_limit = config.claims_limit
        self._records: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._told: OrderedDict[bytes, None] = OrderedDict()
        self.authors = Bucket(config.authors_burst, config.authors_a_minute / 60)
        self.receipts = Bucket(config.reverse_burst, config.reverse_rate)
        self.quiet: set[bytes] = set()
        self.mute: set[bytes] = set()
        self.owed: set[Run] = set()
        self.wants: OrderedDict[Run, Want] = OrderedDict()

    @property
    def queued(self) -> int:
        """Bytes that wait behind the transport."""
        return self.sent - self.accepted

    def asked(self, token: int) -> bool:
        """The peer has sent a PING with that *token*; whether to answer it."""
        self.leaves = self.leaves or token == READ_ALL
        return not self.closing

    def answered(self, token: int, now: float) -> None:
        """The peer has read everything up to the PING with that *token*."""
        if token == READ_SNAPSHOT and not self.rtt:
            self.rtt = min(now - self.opened, RTT_MOST)
            self.bases = None
        elif token == READ_ALL:
            self.parts = False

    def holds(self, run: Run) -> int:
        """The highest message of *run* the peer is believed to hold without a hole; 0 for none."""
        claim = self.claims.get(run)
        return 0 if claim is None else claim[1]

    def claim(self, run: Run, low: int, high: int) -> None:
        """The peer is believed to hold *low* to *high* of *run*; of too many runs one is forgotten."""
        self.claims[run] = (low, high)
        self.claims.move_to_end(run)
        if len(self.claims) > self._claims_limit:
            self.claims.popitem(last=False)

    def served(self, run: Run, first: int, last: int) -> None:
        """Messages up to *last* went over the link in answer to a WANT from *first* on."""
        claim = self.claims.get(run)
        if claim is not None and first <= claim[1] + 1:
            first = min(claim[0], first)
        self.claim(run, first, last)

    def extend(self, run: Run, first: int, last: int) -> None:
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


class Links:
    """Every link of a node, by number."""

    def __init__(self, myself: Myself, config: MeshConfig) -> None:
        self._own_id = myself.id
        self._silence = config.crossing_silence
        self._config = config
        self._all: dict[int, Link] = {}
        self._fed: dict[int, Link] = {}
        self._visits: dict[int, Link] = {}
        self._ways: dict[bytes, Link] = {}  # the links that are up, by origin
        self._lingering: dict[bytes, int] = {}  # closed, and in the routing table until another is up

    @property
    def fed(self) -> ValuesView[Link]:
        """The links that new frames go to."""
        return self._fed.values()

    @property
    def visits(self) -> ValuesView[Link]:
        """The exchanges that are open."""
        return self._visits.values()

    def get(self, number: int) -> Link | None:
        """The link, draining ones included."""
        return self._all.get(number)

    def open(self, opened: LinkOpened, now: float) -> tuple[Link, Link | None]:
        """The new link, and the one to the same node that was kept so far, if there is one."""
        link = Link(opened, now, self._config)
        if link.visits:
            self._all[link.number] = self._visits[link.number] = link
            return link, None
        older = self._kept(self.to(link.peer.origin))
        link.overrides = older is not None and now - older.heard >= self._silence
        self._all[link.number] = self._fed[link.number] = link
        return link, older

    def stays(self, link: Link) -> None:
        """*link*, an exchange, becomes a link between neighbours."""
        del self._visits[link.number]
        link.visits = False
        self._fed[link.number] = link

    def way_to(self, origin: bytes) -> Link | None:
        """The link that is the way to *origin*, if that is a neighbour."""
        return self._ways.get(origin)

    def is_neighbour(self, origin: bytes) -> bool:
        """Whether *origin* is in the routing table."""
        return origin in self._ways

    def to(self, origin: bytes) -> list[Link]:
        """The links to one node that are fed, in the order they came."""
        return [link for link in self._fed.values() if link.peer.origin == origin]

    def is_kept(self, link: Link) -> bool:
        """Whether *link* is the one that stays, of those to its node."""
        return self._kept(self.to(link.peer.origin)) is link

    def is_wanted(self, link: Link) -> bool:
        """Whether a new link is of use: a visit only to who is no neighbour, and once at a time."""
        if not link.visits:
            return self.is_kept(link)
        others = (other for other in (*self.fed, *self.visits) if other is not link)
        return all(other.peer.origin != link.peer.origin for other in others)

    def replaced(self, origin: bytes) -> list[Link]:
        """The links to one node that must go because the one that stays is up.

        Until it is an older one serves on, so that there is always one.
        """
        links = self.to(origin)
        kept = self._kept(links)
        if kept is None or not kept.up:
            return []
        return [link for link in links if link is not kept and self._decides(kept, link)]

    def up(self, link: Link) -> int | None:
        """*link* is up, and the way to its node; the closed one it relieves in the routing table."""
        link.up = True
        self._ways[link.peer.origin] = link
        return self._lingering.pop(link.peer.origin, None)

    def gone(self, closed: Link) -> list[int]:
        """The links that leave the routing table because *closed* is fed no more.

        The last that was up stays in it while another to its node is proven: of two that crossed, the
        news that one must go can overtake the frontier on the other, and the node is not gone.
        """
        origin = closed.peer.origin
        others = self.to(origin)
        if closed.up and others and origin not in self._ways:
            self._lingering[origin] = closed.number
            return []
        gone = [closed.number] if closed.up else []
        if not others and origin in self._lingering:
            gone.append(self._lingering.pop(origin))
        return gone

    def close(self, number: int) -> tuple[Link | None, Link | None]:
        """Stop feeding the link; the link, or None if it was fed no more.

        The second is the link that is the way to its node now, if it was that until now.
        """
        link = self._fed.pop(number, None) or self._visits.pop(number, None)
        if link is None:
            return None, None
        link.closing = True
        origin = link.peer.origin
        if self._ways.get(origin) is not link:
            return link, None
        heir = self._kept([other for other in self.to(origin) if other.up])
        if heir is None:
            del self._ways[origin]
        else:
            self._ways[origin] = heir
        return link, heir

    def forget(self, number: int) -> None:
        """The link is gone, or nothing more is wanted of it."""
        self._all.pop(number, None)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "links": len(self._all),
            "fed_links": len(self._fed),
            "visits": len(self._visits),
            "linked_nodes": len(self._ways),
            "lingering_links": len(self._lingering),
            "snapshot_entries": sum(len(link.snapshot) for link in self._all.values()),
            "claims": sum(len(link.claims) for link in self._all.values()),
            "known_records": sum(map(Link.records, self._all.values())),
        }

    def _kept(self, links: list[Link]) -> Link | None:
        """Of *links* to one node, in the order they came, the one that stays."""
        kept: Link | None = None
        for link in links:
            if kept is None or not self._stays(kept, link):
                kept = link
        return kept

    def _stays(self, old: Link, new: Link) -> bool:
        """Whether *old* stays; until the end that decides has spoken the newer one does."""
        if new.peer.epoch != old.peer.epoch:
            return old.peer.epoch > new.peer.epoch
        # Of crossing dials the greater id's own is kept, unless it was silent.
        return not new.overrides and old.outgoing and self._decides(old, new)

    def _decides(self, link: Link, other: Link) -> bool:
        """Whether this end says which of two links to one node must go.

        Only one end does: which of them came later, or was silent, both could see differently, and
        each would close the one the other keeps.
        """
        if link.peer.epoch != other.peer.epoch:
            return True  # of an earlier run, and there is nobody at its far end
        if link.outgoing == other.outgoing:
            return not link.outgoing
        return self._own_id > link.peer.id
