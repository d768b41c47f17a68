"""Incoming records of presence: keeps those that are newer than the known ones, and pushes them on.

Contract: a newer record is kept and pushed on.  A second copy of the newest prunes the link it came over,
and so does an older record: another link is faster.  Newer records in a peer's ROSTER are pushed on, too,
if they are fresh.  Otherwise two parts of a mesh that meet would know each other's members only after the
next record of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from twisted_mesh.core.admission import Admission
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import ListsDiffer, Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.key_conflict import KeyConflict
from twisted_mesh.core.membership.record_push import RecordPush
from twisted_mesh.core.membership.roster import Author, Roster, State
from twisted_mesh.core.reachability import believed_contact
from twisted_mesh.core.shares import Kind
from twisted_mesh.core.signing import Signer
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.identity import id_of
from twisted_mesh.wire import codec
from twisted_mesh.wire.membership import Contact, Presence, RosterEntry
from twisted_mesh.wire.signed import SignedRecord


class News(NamedTuple):
    """An author of which a newer record came."""

    author: Author
    is_back: bool  # whether the author was gone and is up again
    is_guest_now: bool  # whether the author is no longer a member


@dataclass(eq=False)
class Presences:
    """Takes in the records that come to a node."""

    _local_node: LocalNode
    _roster: Roster
    _conflict: KeyConflict
    _push: Push
    _records: RecordPush
    _admission: Admission
    _effects: Effects
    old: int = 0  # how many records were dropped because they were older than the known one

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)

    def received(self, link: Link, signed: SignedRecord, presence: Presence, now: float) -> News | None:
        """Take in a PRESENCE that came over *link*; RemoteError if its signature is false."""
        origin, rank = presence.origin, (presence.epoch, presence.counter)
        run = (origin, presence.epoch)
        if origin == self._local_node.origin:
            link.presence.note_from_peer(origin, rank)
            self._on_own(link, signed, presence, now)
            return None
        known = self._roster.rank(origin)
        if rank <= known:
            link.presence.note_from_peer(origin, rank)
            self.old += rank < known
            if presence.epoch == known[0]:  # if the record is older, the link is a slow one
                self._push.record_again(link, run, known[1], False)
            parent = self._served_by(link, origin, now)
            if (news := self._told_younger(presence, now, now)) is not None:
                self._pass_on(link, news, parent, now)
            return news
        if not self._admission.shares.may_bring(link, origin, Kind.RECORD, now):
            return None
        parent = self._served_by(link, origin, now)
        if (news := self._keep(link, signed, presence, now, now)) is not None:
            if parent is None:
                self._push.record_arrived(link, run, presence.sequence, presence.counter)
            self._records.push(signed.relayed(), presence, link, now, parent)
        return news

    def on_roster(self, link: Link, entries: Iterable[RosterEntry], now: float) -> Iterator[News]:
        """Take in the peer's roster; RemoteError if an entry is no PRESENCE or a signature is false."""
        for signed, presence, heard in self._entries(link, entries, now):
            self._records.correct(link, presence.origin, (presence.epoch, presence.counter))
            if presence.origin == self._local_node.origin:
                self._on_other(link, signed, presence, heard, now)
            elif not self._roster.is_forgotten(presence, heard, now):
                news = self.told(link, signed, presence, heard, now)
                self._roster.told(presence, now)
                if news is not None:
                    yield news

    def told(
        self, link: Link, signed: SignedRecord, presence: Presence, heard: float, now: float
    ) -> News | None:
        """Take in the record of another node that came over *link*, but not along its author's tree."""
        parent = self._served_by(link, presence.origin, now)
        if (news := self._keep(link, signed, presence, heard, now)) is not None:
            if not link.is_exchange:  # the peer has a route to the author
                run = (presence.origin, presence.epoch)
                self._push.parents.note(run, presence.sequence, link.number, presence.counter)
            self._pass_on(link, news, parent, now)
        return news

    def on_records(
        self, link: Link, entries: Iterable[RosterEntry], now: float
    ) -> Iterator[tuple[bytes, News | None]]:
        """Take in records that came over *link*, but not along their authors' trees.

        :return: the authors that have shown that they may speak, each with its news; None for one that the
            roster would have forgotten.
        :raises RemoteError: a record is no PRESENCE, or its signature is false.
        """
        for signed, presence, heard in self._entries(link, entries, now):
            origin = presence.origin
            if origin == self._local_node.origin:
                continue
            if self._roster.is_forgotten(presence, heard, now):
                if self._admission.needs_credentials and self._is_proven_now(link, signed, presence, now):
                    yield origin, None
            elif self._admission.shares.may_bring(link, origin, Kind.RECORD, now):
                parent = self._parent(origin, now)
                if (news := self._keep(link, signed, presence, heard, now)) is not None:
                    self._pass_on(link, news, parent, now)
                    yield origin, news

    def _entries(
        self, link: Link, entries: Iterable[RosterEntry], now: float
    ) -> Iterator[tuple[SignedRecord, Presence, float]]:
        """Each record of *entries*, as it came and unpacked, and when the peer had it."""
        for entry in entries:
            signed = codec.decode(entry.frame)
            if not isinstance(signed, SignedRecord) or not isinstance(signed.record, Presence):
                raise RemoteError("something else among records", Reason.SHAPE)
            presence = signed.record
            rank = (presence.epoch, presence.counter)
            if presence.origin == self._local_node.origin or rank <= self._roster.rank(presence.origin):
                link.presence.note_from_peer(presence.origin, rank)
            yield signed, presence, now - entry.age / 1000

    def _is_proven_now(self, link: Link, signed: SignedRecord, presence: Presence, now: float) -> bool:
        """Keep the record of an author that is gone; whether it is the first that proves the author."""
        admission, origin = self._admission, presence.origin
        if admission.proven.get(origin) is not None:
            return False
        if not admission.shares.may_bring(link, origin, Kind.RECORD, now):
            return False
        if not admission.may_speak(link, presence, now) or not admission.may_bring(link, origin, now):
            return False
        self._signer.require(signed)
        admission.shares.took(link, origin, Kind.RECORD, now)
        link.presence.note_from_peer(origin, (presence.epoch, presence.counter))
        admission.forgotten(signed, origin, now)
        return True

    def _pass_on(self, link: Link, news: News, parent: int | None, now: float) -> None:
        """Push on a record that *link* told, if it is fresh."""
        author = news.author
        if author.state is State.UP and author.is_fresh(now):
            self._records.push(author.signed.relayed(), author.presence, link, now, parent)

    def _on_own(self, link: Link, signed: SignedRecord, presence: Presence, now: float) -> None:
        """Take in a record signed with this node's key: by this node, or by another one."""
        if (presence.epoch, presence.counter) > self._records.own_rank:
            self._on_other(link, signed, presence, now, now)
        elif presence.epoch == self._local_node.epoch:
            run = (presence.origin, presence.epoch)
            self._push.record_again(link, run, presence.counter, True)

    def _on_other(
        self, link: Link, signed: SignedRecord, presence: Presence, heard: float, now: float
    ) -> None:
        """Take in a record of another node with this node's key; if new, push it on like any other."""
        if (presence.epoch, presence.counter) <= max(self._records.own_rank, self._conflict.rank):
            return
        self._signer.require(signed)
        self._conflict.recorded(signed, presence, _contact(link, presence), heard, now)
        if heard + presence.interval / 1000 > now:
            self._records.push(signed.relayed(), presence, link, now)
        self._effects.set_timer(Timer.ROSTER, max(now, self._conflict.until))

    def _keep(
        self, link: Link, signed: SignedRecord, presence: Presence, heard: float, now: float
    ) -> News | None:
        """Keep a record if it is newer than the known one, and there is room for its author."""
        admission, origin = self._admission, presence.origin
        if (presence.epoch, presence.counter) <= self._roster.rank(origin):
            return self._told_younger(presence, heard, now)
        if not admission.may_speak(link, presence, now) or not admission.may_bring(link, origin, now):
            return None
        self._signer.require(signed)
        admission.shares.took(link, origin, Kind.RECORD, now)
        admission.met(link, origin, now)
        known = self._roster.get(origin)
        was_member = known is not None and known.is_member
        was_gone = known is not None and not known.is_there
        changed = self._roster.keep(signed, presence, _contact(link, presence), heard, now)
        if changed is None:
            admission.refused_new += 1
            return None
        admission.proven.drop(origin)
        # Only now: anybody can name any author in a record that is not verified, or not kept.
        link.presence.note_from_peer(origin, (presence.epoch, presence.counter))
        author = self._roster.get(origin)
        assert author is not None
        if (lists := admission.differs(presence)) != author.lists:
            author.lists = lists
            if lists:
                self._effects.emit(ListsDiffer(origin))
        if changed and (author.is_member or was_member):
            self._effects.emit(author.changed())
        return News(author, was_gone and author.is_there, was_member and not author.is_member)

    def _told_younger(self, presence: Presence, heard: float, now: float) -> News | None:
        """Take in the age of a record that is not newer than the known one."""
        is_back = not self._roster.is_there(presence.origin)
        if (author := self._roster.told_younger(presence, heard, now)) is None:
            return None
        if is_back and author.is_member:
            self._effects.emit(author.changed())
        return News(author, is_back, False)

    def _served_by(self, link: Link, origin: bytes, now: float) -> int | None:
        """The link that brings *origin*'s records, if *link*, which brought one, is not in *origin*'s tree.

        Then *link* is an exchange, or leads to a pruned neighbour that answers a suspicion.  The record
        must not be pushed to the node that brings *origin*'s records here.  That node would take this node
        as its parent and prune its former one: then each would wait for the other.
        """
        is_branch = not link.is_exchange and origin not in link.push.lazy_by_us
        return None if is_branch else self._parent(origin, now)

    def _parent(self, origin: bytes, now: float) -> int | None:
        """The link that brings *origin*'s records, if the newest is not overdue."""
        known = self._roster.get(origin)
        is_served = known is not None and known.is_there and known.is_fresh(now)
        return self._push.parents.of(origin) if is_served else None


def _contact(link: Link, presence: Presence) -> Contact | None:
    return believed_contact(id_of(presence.origin), presence.address, link.host)
