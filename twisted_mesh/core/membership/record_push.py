"""Sends records of presence, and chooses the links for each.

Contract: a PRESENCE travels like a batch along its author's tree, over every link that is not lazy by peer.
So the tree of an author exists before its first message.  A ROSTER brings a new neighbour all records at
once.  A SUSPECT floods, since it must reach the suspect over any links that are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.key_conflict import KeyConflict
from twisted_mesh.core.membership.roster import Rank, Roster
from twisted_mesh.wire import codec, membership
from twisted_mesh.wire.membership import Presence, RosterEntry
from twisted_mesh.wire.signed import SignedRecord

_ROSTER_BYTES: Final = 48 * 1024  # of records in one ROSTER, so that the whole frame is under 64 KiB


@dataclass(eq=False)
class RecordPush:
    """The records that leave a node.

    :ivar own_rank: the rank of *own*.
    """

    _local_node: LocalNode
    _links: Links
    _parents: Parents
    _roster: Roster
    _conflict: KeyConflict
    _effects: Effects
    own: SignedRecord | None = None  # the newest record of this node, None before the first

    def __post_init__(self) -> None:
        self.own_rank: Rank = (self._local_node.epoch, 0)

    def tell(self, link: Link, vote: int, own_age: float | None, now: float) -> None:
        """Send all records over a new link, also this node's own unless *own_age* (in seconds) is None."""
        for frame in self._rosters(vote, own_age, now):
            self._effects.send((link,), frame)
        for author in self._roster:
            if author.is_told:
                link.presence.note(author.presence.origin, author.rank)
        signed, rank = self._newest_own()
        if signed is not None:
            link.presence.note(self._local_node.origin, rank)

    def introduce(self, link: Link, origin: bytes) -> None:
        """Send the peer the newest record of *origin*, unless the peer has that record."""
        if origin == self._local_node.origin:
            signed, rank = self._newest_own()
        else:
            author = self._roster.get(origin)
            signed, rank = (None, (0, 0)) if author is None else (author.signed, author.rank)
        if signed is not None and link.presence.rank_of(origin) < rank:
            link.presence.note(origin, rank)
            self._effects.send((link,), signed.relayed() if origin != self._local_node.origin else signed)

    def push(
        self, signed: SignedRecord, presence: Presence, source: Link | None, parent: int | None = None
    ) -> None:
        """Send a record along its author's tree, but not over *source* and *parent*."""
        origin, rank = presence.origin, (presence.epoch, presence.counter)
        links = [
            link
            for link in self._links.fed
            if link is not source
            and link.number != parent
            and origin not in link.push.lazy_by_peer
            and link.presence.rank_of(origin) < rank
        ]
        for link in links:
            link.presence.note(origin, rank)
        self._effects.send(links, signed)

    def flood(self, signed: SignedRecord, source: Link | None) -> None:
        """Send a suspicion over all links but *source*."""
        self._effects.send([link for link in self._links.fed if link is not source], signed)

    def warn(self, suspect: bytes, signed: SignedRecord, source: Link) -> None:
        """Send a suspicion over the link to *suspect*, or over all links if no route is known."""
        number = self._parents.of(suspect)
        others = [other for other in self._links.fed if other is not source]
        links = [other for other in others if other.number == number] or others
        self._effects.send(links, signed.relayed())

    def _newest_own(self) -> tuple[SignedRecord | None, Rank]:
        """The newest record signed with this node's key, by this node or another, and its rank."""
        if self._conflict.signed is not None:
            return self._conflict.signed.relayed(), self._conflict.rank
        return self.own, self.own_rank

    def _rosters(self, vote: int, own_age: float | None, now: float) -> Iterator[membership.Roster]:
        entries: list[RosterEntry] = []
        size = 0
        known = [
            (author.signed, self._roster.age(author, now)) for author in self._roster if author.is_told
        ]
        if self.own is not None and own_age is not None:
            known.append((self.own, own_age))
        if self._conflict.signed is not None:
            known.append((self._conflict.signed, self._conflict.age(now)))
        for signed, age in known:
            payload = codec.payload(signed)
            if entries and size + len(payload) > _ROSTER_BYTES:
                yield membership.Roster(False, entries, vote)
                entries, size = [], 0
            entries.append(RosterEntry(int(age * 1000), payload))
            size += len(payload)
        yield membership.Roster(True, entries, vote)
