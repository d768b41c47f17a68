"""The members, and whether they are up: composes presence, suspicion and forgetting.

Contract: only signed records decide, and only the newest of each author: a suspected member that sends
another record is up again.  If this node was held up, it counts no silence of others for that time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.admission import Admission
from twisted_mesh.core.broadcast.broadcast import Broadcast
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.announcing import Announcing
from twisted_mesh.core.membership.forgetting import Forgetting
from twisted_mesh.core.membership.key_conflict import KeyConflict
from twisted_mesh.core.membership.presence import News, Presences
from twisted_mesh.core.membership.record_push import RecordPush
from twisted_mesh.core.membership.roster import Author, Roster
from twisted_mesh.core.membership.suspicion import Suspicion
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire.membership import Presence, Records, Role, Suspect
from twisted_mesh.wire.membership import Roster as RosterFrame
from twisted_mesh.wire.signed import SignedRecord

_SHARED = "two nodes use this key, and the one started later keeps it: give each an identity of its own"
_LOOKS: Final = 10  # checks of the roster in one presence_interval


@dataclass(eq=False)
class Membership:
    """The members as one node knows them.

    :ivar conflict: the conflict with another node that uses this node's key.
    :ivar renewal: asks for a new run of this node.
    :ivar records: sends records.
    :ivar announcing: makes this node's own records.
    :ivar forgetting: the members that leave the roster because a member asks for it.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _links: Links
    _broadcast: Broadcast
    roster: Roster  # all authors but this node
    _admission: Admission
    _effects: Effects
    joined: bool = False  # whether a neighbour has sent its roster

    def __post_init__(self) -> None:
        me, config, roster, effects = self._local_node, self._config, self.roster, self._effects
        outbox, push = self._broadcast.outbox, self._broadcast.push
        self.renewal = self._broadcast.renewal
        self.conflict = conflict = KeyConflict(config, self.renewal, effects)
        self.records = RecordPush(
            me, self._links, self._broadcast.parents, roster, self._admission, conflict, effects
        )
        self.announcing = Announcing(me, config, outbox, roster, conflict, self.records, effects)
        self._presences = Presences(me, roster, conflict, push, self.records, self._admission, effects)
        self._suspicion = Suspicion(me, config, roster, conflict, self.announcing, self.records, effects)
        self.forgetting = Forgetting(
            me, config, roster, self._admission, self.announcing, self.records, effects
        )

    @property
    def counts(self) -> dict[str, int]:
        """How much was ignored so far, by name."""
        return {
            "old_records": self._presences.old,
            "authors_waiting": self._admission.refused_new,
            "refused_authors": self._admission.not_admitted,
            "idle_suspicions": self._suspicion.idle,
            "idle_forgets": self.forgetting.idle,
        }

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {**self.roster.footprint(), **self._suspicion.footprint()}

    # ── links ───────────────────────────────────────────────────────────────────────

    def tell(self, link: Link, vote: int, now: float) -> None:
        """Begin to send the peer of a new link all records, and this node's *vote* on keeping the link."""
        age = self.announcing.age(now) if self.announcing.speaks else None
        self.records.tell(link, vote, age, now)

    def link_up(self, link: Link, now: float) -> None:
        """Take in that the peer's frontier has come."""
        if self._local_node.profile.role is Role.MEMBER:
            self.announcing.announce_first(now)
        if not link.is_exchange:
            self._suspicion.linked(link)

    def outdated(self, link: Link, now: float) -> None:
        """Before a double is closed, send its peer the record of a newer run of its key, if any."""
        origin = link.peer.origin
        if self.roster.rank(origin)[0] > link.peer.epoch:
            self.records.introduce(link, origin, now)

    def closed(self, link: Link, reason: Reason, now: float) -> None:
        """Take in that a link has ended."""
        # If the peer closed the link as silent, this end may have been the silent one, and the peer is up.
        silent = reason is Reason.SILENT and now - link.last_frame_at >= self._config.dead_after
        wordless = silent or reason is Reason.LOST
        if link.up and wordless and not self._links.to(link.peer.origin):
            self._suspicion.lost(link.peer.origin, now)

    def same_key(self, event: events.SameKey, now: float) -> None:
        """Take in that another node has this node's key: the older run stops publishing."""
        epoch = self._local_node.epoch
        self._effects.close(event.link, Reason.KEY, _SHARED)
        if event.epoch > epoch:
            self.conflict.met(event.epoch, now)
            self._effects.set_timer(Timer.ROSTER, self.conflict.until)
        # Only one end begins a new run, so that the epochs differ from then on.
        elif event.epoch == epoch and not event.outgoing:
            self.renewal.require(epoch, now)

    # ── frames ──────────────────────────────────────────────────────────────────────

    def received(self, link: Link, signed: SignedRecord, now: float) -> News | None:
        """Take in a PRESENCE or a SUSPECT that came over *link*; RemoteError if its signature is false."""
        if isinstance(signed.record, Presence):
            if (news := self._presences.received(link, signed, signed.record, now)) is not None:
                self._look_again(now)
            return news
        assert isinstance(signed.record, Suspect)  # Node passes no other kind
        self._suspicion.received(link, signed, signed.record, now)
        return None

    def answered(self, link: Link, signed: SignedRecord, now: float) -> News | None:
        """Take in the newest record of a node, which answered that it lacks a message's key."""
        assert isinstance(signed.record, Presence)
        try:
            news = self._presences.told(link, signed, signed.record, now, now)
        except RemoteError:
            return None  # its author has signed the answer: no relay is to blame for the record in it
        if news is not None:
            self._look_again(now)
        return news

    def on_roster(self, link: Link, frame: RosterFrame, now: float) -> Iterator[News]:
        """Take in a frame of a peer's roster; yields the news of one record after the other.

        :raises RemoteError: its last frame had come already, an entry is no PRESENCE, or a signature is
            false.
        """
        if link.roster_received:
            raise RemoteError("another roster", Reason.ORDER)
        for news in self._presences.on_roster(link, frame.entries, now):
            self._look_again(now)
            yield news
        link.roster_received = frame.last

    def on_records(self, link: Link, frame: Records, now: float) -> Iterator[tuple[bytes, News | None]]:
        """Take in records that did not come along their authors' trees; yields the authors that may speak.

        :return: each author with its news; None for one that is gone for long.
        :raises RemoteError: a record is no PRESENCE, or its signature is false.
        """
        for origin, news in self._presences.on_records(link, frame.entries, now):
            self._look_again(now)
            yield origin, news

    def now_joined(self) -> bool:
        """Take in that a neighbour has sent its roster; return whether it was the first to do so."""
        if self.joined:
            return False
        self.joined = True
        self._effects.emit(events.Joined())
        return True

    def expel(self) -> list[Author]:
        """Forget the authors that may not speak any more; return the members among them."""
        expelled = [author for author in self.roster if not self._admission.is_proven(author.presence)]
        self._admission.proven.expel(self._admission.is_proven)
        for author in expelled:
            self.roster.remove(author)
            if author.is_member:
                self._effects.emit(events.MemberGone(author.presence.origin))
        return [author for author in expelled if author.is_member]

    # ── time ────────────────────────────────────────────────────────────────────────

    def tick(self, now: float, late: float) -> list[Author]:
        """Do what is due, *late* seconds after it was due; return the members that were forgotten."""
        if late > self._config.stall_grace:
            self.roster.doubt(late)
            self.conflict.doubt(late)
        if any(link.repair.is_slowed(now) for link in self._links.fed):
            self.roster.wait_for_suspects(now)  # their records may wait in the queue of a slow line
        self.conflict.look(now)
        self.renewal.look(now)
        self.announcing.tick(now)
        self._suspicion.tick(now)
        changed, gone = self.roster.tick(now)
        forgotten = [author for author in gone if author.is_member]
        for author in changed:
            if author.is_member:
                self._effects.emit(author.changed())
        for author in gone:
            self._admission.forgotten(author.signed, author.presence.origin, now)
        self._admission.proven.tick(now)
        for author in forgotten:
            self._effects.emit(events.MemberGone(author.presence.origin))
        self._look_again(now)
        return forgotten

    def _look_again(self, now: float) -> None:
        if self.records.own is not None or len(self.roster):
            self._effects.set_timer(Timer.ROSTER, now + self._config.presence_interval / _LOOKS)
        if self._suspicion.wake < inf:
            self._effects.set_timer(Timer.ROSTER, self._suspicion.wake)
        if (suspected := self.roster.suspected_until) is not None:
            self._effects.set_timer(Timer.ROSTER, suspected)
        if self.conflict:
            self._effects.set_timer(Timer.ROSTER, self.conflict.until)
        self.announcing.look_again()
