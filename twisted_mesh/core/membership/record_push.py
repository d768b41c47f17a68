"""Sends records of presence, and chooses the links for each.

Contract: a PRESENCE travels like a batch along its author's tree, over every link that is not lazy by peer.
So the tree of an author exists before its first message.  ROSTERs bring a new neighbour all records, as
fast as the link takes them.  A SUSPECT floods, since it must reach the suspect over any links that are
left, and so does a FORGET.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from twisted_mesh.core.admission import Admission
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.effects import Effects, Lines
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.key_conflict import KeyConflict
from twisted_mesh.core.membership.roster import Rank, Roster
from twisted_mesh.wire import codec, membership
from twisted_mesh.wire.authority import policy_of
from twisted_mesh.wire.membership import FORGOTTEN, Presence, Records, RosterEntry
from twisted_mesh.wire.signed import SignedRecord

_ROSTER_BYTES: Final = 48 * 1024  # of records in one ROSTER, so that the whole frame is under 64 KiB
#: Bytes that may wait for the peer before another ROSTER follows (guess: one write).
_AHEAD: Final = 256 * 1024


@dataclass(eq=False)
class RecordPush:
    """The records that leave a node.

    :ivar own_rank: the rank of *own*.
    """

    _local_node: LocalNode
    _links: Links
    _parents: Parents
    _roster: Roster
    _admission: Admission
    _conflict: KeyConflict
    _effects: Effects
    own: SignedRecord | None = None  # the newest record of this node, None before the first

    def __post_init__(self) -> None:
        self._lines = Lines(self._effects)
        self.own_rank: Rank = (self._local_node.epoch, 0)

    def tell(self, link: Link, vote: int, own_age: float | None, now: float) -> None:
        """Begin to send the authority's newest policy, if there is one, and all records over a new link.

        :param own_age: the seconds since this node's own record; None if that is not sent.
        """
        if newest := self._local_node.policy.newest:
            self._effects.send((link,), policy_of(newest))
        first = []
        if self.own is not None and own_age is not None:
            first.append(_entry(self.own, own_age))
        if self._conflict.signed is not None:
            first.append(_entry(self._conflict.signed, self._conflict.age(now)))
        signed, rank = self._newest_own()
        if signed is not None:
            link.presence.note(self._local_node.origin, rank)
        link.presence.vote = vote
        link.presence.untold = deque(author.presence.origin for author in self._roster if author.is_told)
        self._tell(link, first, now)
        self.tell_on(link, now)

    def tell_on(self, link: Link, now: float) -> None:
        """Send the next of the records that are still to be told over *link*, as many as it takes now."""
        while link.presence.untold and link.flow.queued < _AHEAD:
            self._tell(link, [], now)

    def _tell(self, link: Link, entries: list[RosterEntry], now: float) -> None:
        """Send one ROSTER: *entries*, and as many records of others as fit beside them."""
        untold = link.presence.untold
        size = sum(len(entry.frame) for entry in entries)
        while untold and size < _ROSTER_BYTES:
            author = self._roster.get(untold.popleft())
            if author is not None and author.is_told:
                entries.append(_entry(author.signed, self._roster.age(author, now)))
                size += len(entries[-1].frame)
                link.presence.note(author.presence.origin, author.rank)
        self._effects.send((link,), membership.Roster(not untold, entries, link.presence.vote))

    def introduce(self, link: Link, origin: bytes, now: float) -> None:
        """Send the peer the newest record of *origin*, unless the peer has that record.

        A record that does not come along its author's tree goes in RECORDS.  If it looked like a pushed
        one, the peer would take this node as its parent, which may be the peer's own child in that tree.
        If the roster has forgotten *origin*, the record shows only that its messages may be taken.
        """
        frame: SignedRecord | Records | None = None
        if origin == self._local_node.origin:
            frame, rank = self._newest_own()
        elif (author := self._roster.get(origin)) is not None:
            rank = author.rank
            entry = _entry(author.signed, self._roster.age(author, now))
            frame = author.signed.relayed() if origin == link.peer.origin else Records([entry])
        elif (kept := self._admission.proven.get(origin)) is not None:
            rank = _rank_of(kept)
            frame = Records([RosterEntry(FORGOTTEN, codec.payload(kept))])
        if frame is not None and link.presence.rank_of(origin) < rank:
            link.presence.note(origin, rank)
            self._effects.send((link,), frame)

    def correct(self, link: Link, origin: bytes, rank: Rank) -> None:
        """Send the FORGET of a record that the peer has on its roster, if it is forgotten here."""
        if (signed := self._roster.forgotten(origin, rank)) is not None and not link.closing:
            self._effects.send((link,), signed.relayed())

    def push(
        self,
        signed: SignedRecord,
        presence: Presence,
        source: Link | None,
        now: float,
        parent: int | None = None,
    ) -> None:
        """Send a record along its author's tree, but not over *source* and *parent*.

        To a peer that is late to read it is sent later: its line may have no room for every record.

        The own record goes over all links if all peers have pruned this node: each may have got a record
        sooner from another, since one went over an exchange, and all of them would get no more.
        """
        origin, rank = presence.origin, (presence.epoch, presence.counter)
        is_own = origin == self._local_node.origin
        fed = [link for link in self._links.fed if origin not in link.push.lazy_by_peer]
        links = []
        for link in fed if fed or not is_own else self._links.fed:
            if link is source or link.number == parent or link.presence.rank_of(origin) >= rank:
                continue
            if not is_own and self._lines.is_late(link, now):
                link.presence.owe(origin)  # a newer one may take its place meanwhile
                continue
            link.presence.note(origin, rank)
            links.append(link)
        self._effects.send(links, signed)

    def push_owed(self, link: Link, now: float) -> None:
        """Send the peer, which has read more, a record that it is owed, and more if it is not late."""
        owed = link.presence.owed
        while owed and not link.closing:
            origin, _ = owed.popitem(last=False)
            author = self._roster.get(origin)
            if author is None or origin in link.push.lazy_by_peer:
                continue
            if not author.is_fresh(now):
                self.introduce(link, origin, now)  # with its age
            elif link.presence.rank_of(origin) < author.rank:
                link.presence.note(origin, author.rank)
                self._effects.send((link,), author.signed.relayed())
            if self._lines.is_late(link, now):
                return

    def flood(self, signed: SignedRecord, source: Link | None) -> None:
        """Send a SUSPECT or a FORGET over all links but *source*."""
        self._effects.send([link for link in self._links.fed if link is not source], signed)

    def flood_policy(self, packed: bytes, source: Link | None) -> None:
        """Send a policy of the authority over all links but *source*, exchanges included."""
        links = [link for link in self._links.all if link is not source and not link.closing]
        self._effects.send(links, policy_of(packed))

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


def _entry(signed: SignedRecord, age: float) -> RosterEntry:
    """The entry of a ROSTER for a record that came *age* seconds ago."""
    return RosterEntry(int(age * 1000), codec.payload(signed))


def _rank_of(signed: SignedRecord) -> Rank:
    assert isinstance(signed.record, Presence)
    return signed.record.epoch, signed.record.counter
