"""Presence: what nodes say of themselves, and what others say of those who no longer do.

Contract: a PRESENCE travels like a batch, along its origin's tree: news goes to every link that is not
mute, the same again prunes, what is older is dropped.  So the tree of an author stands before its first
message.  A ROSTER tells a new neighbour all at once; what of it is fresh and news goes on from there, or
two parts of a mesh would know of each other only with the next word of everybody.  A SUSPECT floods,
since it must reach the suspect by whatever way is left: once for each record of it.

What is unsigned decides nothing here, and of what is signed only the newest: whoever is accused says
another word, and is up again.  A node that was held up itself doubts itself first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.announcing import Announcing
from twisted_mesh.core.membership.key_conflict import KeyConflict
from twisted_mesh.core.membership.roster import Entry, Rank, Roster, State
from twisted_mesh.core.membership.suspicion import Suspicion
from twisted_mesh.core.reachability import believed
from twisted_mesh.core.replies.replies import ReplyRouting
from twisted_mesh.core.signing import Signer
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.identity import id_of
from twisted_mesh.wire import membership, native
from twisted_mesh.wire.membership import (
    Contact,
    Presence,
    RosterEntry,
    Suspect,
)
from twisted_mesh.wire.signed import SignedRecord

_ROSTER_BYTES: Final = 48 * 1024  # of records in one frame, so that it is under 64 KiB with what is around
_LOOKS: Final = 10  # times an interval the roster is looked through


class Membership:
    """The records of a node's own presence and of the others'.

    :ivar announcing: the own record; :ivar suspicion: of members, and of this one.
    """

    def __init__(
        self,
        local_node: LocalNode,
        config: MeshConfig,
        links: Links,
        outbox: Outbox,
        conflict: KeyConflict,
        push: Push,
        roster: Roster,
        reverse: ReplyRouting,
        effects: Effects,
    ) -> None:
        self._local_node = local_node
        self._config = config
        self._links = links
        self._run = outbox.run
        self._conflict = conflict
        self._push = push
        self._reverse = reverse
        self._effects = effects
        self._roster = roster
        self._signer = Signer(local_node)
        self.announcing = Announcing(
            local_node, config, outbox, roster, conflict, self._signer, lambda: reverse.asks,
            self._announced, effects,
        )  # fmt: skip
        self.suspicion = Suspicion(
            local_node.origin, config, links, roster, self.announcing, conflict, self._signer, push.parents,
            effects, self.introduce,
        )  # fmt: skip
        self._counts = {"old_records": 0, "authors_waiting": 0}

    @property
    def counts(self) -> dict[str, int]:
        """What was ignored so far, by name."""
        return {**self._counts, "idle_suspicions": self.suspicion.idle}

    # ── what goes to one link ───────────────────────────────────────────────────────

    def tell(self, link: Link, stay: int, now: float) -> None:
        """Tell a new neighbour, or a visitor, all that is known."""
        for frame in self._rosters(stay, now):
            self._effects.send((link,), frame)
        for entry in self._roster:
            if entry.is_member:
                link.presence.note(entry.presence.origin, entry.rank)
        signed, rank = self._own()
        if signed is not None:
            link.presence.note(self._local_node.origin, rank)

    def _own(self) -> tuple[SignedRecord | None, Rank]:
        """The newest record of the own key, by whichever node, and its rank."""
        if self._conflict.signed is not None:
            return self._conflict.signed.relayed(), self._conflict.rank
        return self.announcing.own, self.announcing.rank

    def _rosters(self, stay: int, now: float) -> Iterator[membership.Roster]:
        entries: list[RosterEntry] = []
        size = 0
        known = [(entry.signed, self._roster.age(entry, now)) for entry in self._roster if entry.is_member]
        own = self.announcing.own
        if own is not None and self.announcing.speaks:
            known.append((own, self.announcing.age(now)))
        if self._conflict.signed is not None:
            known.append((self._conflict.signed, self._conflict.age(now)))
        for signed, age in known:
            payload = native.payload(signed)
            if entries and size + len(payload) > _ROSTER_BYTES:
                yield membership.Roster(False, entries, stay)
                entries, size = [], 0
            entries.append(RosterEntry(int(age * 1000), payload))
            size += len(payload)
        yield membership.Roster(True, entries, stay)

    def introduce(self, link: Link, origin: bytes) -> None:
        """Send the peer the newest record of *origin*, unless it has it."""
        if origin == self._local_node.origin:
            signed, rank = self._own()
        else:
            entry = self._roster.get(origin)
            signed, rank = (None, (0, 0)) if entry is None else (entry.signed, entry.rank)
        if signed is not None and link.presence.rank_of(origin) < rank:
            link.presence.note(origin, rank)
            self._effects.send((link,), signed.relayed() if origin != self._local_node.origin else signed)

    def outdated(self, link: Link) -> None:
        """The link is a double of another: if that is of a newer run of its key the peer should know."""
        origin = link.peer.origin
        if self._roster.rank(origin)[0] > link.peer.epoch:
            self.introduce(link, origin)

    # ── what comes in ───────────────────────────────────────────────────────────────

    def received(self, link: Link, signed: SignedRecord, now: float) -> Entry | None:
        """A PRESENCE or a SUSPECT came over *link*; whose newer record that is.

        :raises RemoteError: its signature is false.
        """
        if isinstance(signed.record, Presence):
            return self._on_presence(link, signed, signed.record, now)
        assert isinstance(signed.record, Suspect)  # the node gives no other here
        self.suspicion.received(link, signed, signed.record, now)
        return None

    def on_roster(self, link: Link, entries: Iterable[RosterEntry], now: float) -> list[Entry]:
        """The peer's roster; what of it is news here.

        :raises RemoteError: there is something else in it, or a signature is false.
        """
        news = []
        for told in entries:
            signed = native.decode(told.frame)
            if not isinstance(signed, SignedRecord) or not isinstance(signed.record, Presence):
                raise RemoteError("a roster with something else in it", Reason.SHAPE)
            presence = signed.record
            link.presence.note_told(presence.origin, (presence.epoch, presence.counter))
            heard = now - told.age / 1000
            if presence.origin == self._local_node.origin:
                self._said_elsewhere(link, signed, presence, heard, now)
            elif not self._roster.is_forgotten(presence, heard, now):
                parent = self._served_by(link, presence.origin, now)
                entry = self._take(link, signed, presence, heard, now)
                if entry is not None:
                    news.append(entry)
                    if not link.is_exchange:  # who told of it has a way to it
                        run = (presence.origin, presence.epoch)
                        self._push.parents.note(run, presence.sequence, link.number, presence.counter)
                    if entry.state is State.UP and heard + entry.interval > now:
                        self._hand_on(signed.relayed(), presence, link, parent)
        return news

    def _on_presence(
        self, link: Link, signed: SignedRecord, presence: Presence, now: float
    ) -> Entry | None:
        origin, rank = presence.origin, (presence.epoch, presence.counter)
        link.presence.note_told(origin, rank)
        run = (origin, presence.epoch)
        if origin == self._local_node.origin:
            self._on_own(link, signed, presence, now)
            return None
        known = self._roster.rank(origin)
        if rank == known:
            self._push.duplicate(link, run, -presence.counter, False)
            return None
        if rank < known:
            self._counts["old_records"] += 1
            return None
        parent = self._served_by(link, origin, now)
        entry = self._take(link, signed, presence, now, now)
        if entry is not None:
            if parent is None:
                self._push.record_arrived(link, run, presence.sequence, presence.counter, now)
            self._hand_on(signed.relayed(), presence, link, parent)
        return entry

    def _on_own(self, link: Link, signed: SignedRecord, presence: Presence, now: float) -> None:
        """Something this node said came back, or something that another with its key says."""
        if (presence.epoch, presence.counter) > self.announcing.rank:
            self._said_elsewhere(link, signed, presence, now, now)
        elif presence.epoch == self._local_node.epoch:
            self._push.duplicate(link, self._run, -presence.counter, True)

    def _said_elsewhere(
        self, link: Link, signed: SignedRecord, presence: Presence, heard: float, now: float
    ) -> None:
        """A record of the own key: if this node never said it, and it is news, it goes on like others."""
        if (presence.epoch, presence.counter) <= max(self.announcing.rank, self._conflict.rank):
            return
        self._signer.require(signed)
        self._conflict.recorded(signed, presence, self._contact(link, presence), heard, now)
        if heard + presence.interval / 1000 > now:
            self._hand_on(signed.relayed(), presence, link)
        self._effects.set_timer(Timer.ROSTER, max(now, self._conflict.until))

    def met(self, epoch: int, now: float) -> None:
        """Another node with the own key has proven that it runs now, in the later run *epoch*."""
        self._conflict.met(epoch, now)
        self._effects.set_timer(Timer.ROSTER, self._conflict.until)

    def _take(
        self, link: Link, signed: SignedRecord, presence: Presence, heard: float, now: float
    ) -> Entry | None:
        """Keep the record if it is newer than what is known, and there is room for its author."""
        origin = presence.origin
        if (presence.epoch, presence.counter) <= self._roster.rank(origin):
            return None
        if not self.may_bring(link, origin, now):
            return None
        self._signer.require(signed)
        known = self._roster.get(origin)
        was_member = known is not None and known.is_member
        was_gone = known is not None and not known.is_there
        changed = self._roster.take(signed, presence, self._contact(link, presence), heard, now)
        if changed is None:
            self._counts["authors_waiting"] += 1
            return None
        entry = self._roster.get(origin)
        assert entry is not None
        if was_member and not entry.is_member:
            self._reverse.forgotten(entry)
        if was_gone and entry.is_there:
            self._reverse.returned(origin, now)
        if changed and (entry.is_member or was_member):
            self._effects.emit(entry.changed())
        self._look_again(now)
        return entry

    def may_bring(self, link: Link, origin: bytes, now: float) -> bool:
        """Whether *link* may bring an author nobody here has heard of."""
        known = origin == link.peer.origin or self._roster.get(origin) is not None
        if known or link.presence.new_authors.take(now):
            return True
        self._counts["authors_waiting"] += 1
        return False

    def _contact(self, link: Link, presence: Presence) -> Contact | None:
        if presence.address is None or not believed(presence.address[0], link.host):
            return None
        return Contact(id_of(presence.origin), *presence.address)

    def _announced(self, signed: SignedRecord, presence: Presence) -> None:
        self._hand_on(signed, presence, None)

    def _served_by(self, link: Link, origin: bytes, now: float) -> int | None:
        """The link *origin*'s records come over, if *link*, which brings one, is no branch of its tree.

        That is a visit, or a neighbour that was told to push no more and answers a suspicion.  Who brings
        the records here, and gets one from here first, would take this node for its way to *origin* and
        prune its own: then neither had one.
        """
        known = self._roster.get(origin)
        is_served = known is not None and known.is_there and known.heard + known.interval > now
        is_branch = not link.is_exchange and origin not in link.push.lazy_by_us
        return self._push.parents.of(origin) if is_served and not is_branch else None

    def _hand_on(
        self, signed: SignedRecord, presence: Presence, source: Link | None, parent: int | None = None
    ) -> None:
        """Send a record along its origin's tree, but not to *source* and *parent*."""
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
        if links:
            self._effects.send(links, signed)

    # ── time ────────────────────────────────────────────────────────────────────────

    def tick(self, now: float, late: float) -> list[Entry]:
        """Renew the own record, and see who is gone; the overdue, to whom other ways are to be tried.

        :param late: seconds by which this node was held up.
        """
        if late > self._config.stall_grace:
            self._roster.doubt(late)
            self._conflict.doubt(late)
        if any(link.repair.is_slowed(now) for link in self._links.fed):
            self._roster.wait_for_suspects(now)  # their word may stand in the queue of a slow line
        over = self._conflict.over(now)
        if over is not None:
            self._effects.emit(events.EpochConflict(over))
        self.announcing.tick(now)
        changed, gone = self._roster.tick(now)
        for entry in changed:
            if entry.is_member:
                self._effects.emit(entry.changed())
        for entry in gone:
            if entry.is_member:
                self._reverse.forgotten(entry)
                self._effects.emit(events.MemberGone(entry.presence.origin))
        self._look_again(now)
        return self._roster.silent(now)

    def _look_again(self, now: float) -> None:
        if self.announcing.own is not None or len(self._roster):
            self._effects.set_timer(Timer.ROSTER, now + self._config.presence_interval / _LOOKS)
        suspected = self._roster.suspected_until
        if suspected is not None:
            self._effects.set_timer(Timer.ROSTER, suspected)
        if self._conflict:
            self._effects.set_timer(Timer.ROSTER, self._conflict.until)
        self.announcing.look_again()
