"""The reverse path: what goes back to one node over the way its own frames came.

Contract: receipts and direct messages, wired in one place.  Neither is held, and neither is spread: each
is repeated by whom it comes from until it is known to have arrived, so that relays owe nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.inbound import Handed
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Holders
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.roster import Entry, Roster
from twisted_mesh.core.replies.direct import Directs
from twisted_mesh.core.replies.receipt_issuer import ReceiptIssuer
from twisted_mesh.core.replies.receipt_relay import ReceiptRelay
from twisted_mesh.core.replies.receipt_tracker import ReceiptTracker
from twisted_mesh.core.replies.routes import Routes
from twisted_mesh.wire.bodies import ASKS, kind_of
from twisted_mesh.wire.membership import Presence, PresenceFlags, Role
from twisted_mesh.wire.replies import Receipts
from twisted_mesh.wire.signed import SignedRecord


class Replies:
    """The reverse path at one node.

    :ivar issuer: of the receipts this node gives; :ivar relay: of those on their way to their authors.
    :ivar directs: its direct messages.
    """

    def __init__(
        self,
        local_node: LocalNode,
        config: MeshConfig,
        history: History,
        outbox: Outbox,
        roster: Roster,
        routes: Routes,
        effects: Effects,
    ) -> None:
        self._history = history
        self._outbox = outbox
        self._roster = roster
        self._routes = routes
        self._effects = effects
        self._joined = False  # whether this node knows who the members are
        self._tracker = ReceiptTracker(config)
        self.relay = ReceiptRelay(local_node, config, history, outbox, roster, routes, effects)
        self.issuer = ReceiptIssuer(local_node, config, history, roster, self.relay, effects)
        self.directs = Directs(local_node, config, roster, routes, effects)

    def handle(self, event: events.Asking, now: float) -> None:
        """Something the application did."""
        match event:
            case events.Taken():
                self._history.taken(event.run, event.sequence)
                if not self._history.is_stored:
                    self.issuer.taken(event.run, event.sequence, now)
            case events.Stored():
                self.issuer.stored(event.runs, now)
            case events.Skipped():
                self._history.skipped(event.run, event.sequence)
                self.issuer.skipped(event.run, event.sequence, now)
            case events.SendDirect():
                self.directs.send(event, now)
            case events.Ask():
                members = self._members() if self._joined else None
                for sequence, holders in self._tracker.expect(event.sequences, members):
                    self._effects.emit(events.ReceiptClosed(sequence, holders))
                self._changed(one for one in event.sequences if one in self._tracker)
            case events.Forget():
                self._tracker.close(event.sequence)
            case _:
                assert_never(event)

    def handed(self, item: Handed, now: float) -> None:
        """Something went to the application: messages, some of which may ask who has them, or a gap."""
        run = (item.origin, item.epoch)
        match item:
            case events.Deliver():
                if any(map(kind_of, item.entries)):  # else all are plain messages, as nearly always
                    asks = [at for at, entry in enumerate(item.entries, item.first) if entry[0] & ASKS]
                    if asks:
                        self.issuer.asks(run, asks[-1], now)
            case events.Poisoned():
                pass
            case events.GapFound():
                self.issuer.gap(item, now)
            case _:
                assert_never(item)

    def on_receipts(self, link: Link, frame: Receipts, now: float) -> None:
        """Receipts came over *link*."""
        changed: set[int] = set()
        try:
            for receipt in self.relay.received(link, frame, now):
                self._outbox.confirm(receipt.low, receipt.high)
                changed.update(self._tracker.take(receipt.member, receipt.low, receipt.high))
        finally:
            self._changed(changed)  # whatever followed

    def on_direct(self, link: Link, signed: SignedRecord, now: float) -> None:
        """A DIRECT or a DIRECT_ACK came over *link*."""
        self.directs.received(link, signed, now)

    def up(self, link: Link, now: float) -> None:
        """A link is in the routing table."""
        self.issuer.link_up(now)
        self.directs.link_up(link.peer.origin, now)

    def closed(self, link: Link, now: float) -> None:
        """A link ends."""
        self.issuer.link_gone(link.number, now)
        origin = link.peer.origin
        if self._roster.get(origin) is None and not self._routes.links.to(origin):
            self._changed(self._tracker.lose(origin, self._outbox.head))  # it never had a record

    def joined(self) -> None:
        """This node knows now who the members are."""
        self._joined = True
        self._changed(self._tracker.joined(self._members()))

    def returned(self, origin: bytes, now: float) -> None:
        """A member that was gone is there again."""
        self.issuer.returned(origin, now)

    def forgotten(self, entry: Entry) -> None:
        """A member is off the roster."""
        self._changed(self._tracker.lose(entry.presence.origin, self._outbox.head))

    @property
    def asks(self) -> bool:
        """Whether somebody waits to hear who has an own message."""
        return bool(len(self._tracker))

    def evident(self, presence: Presence, now: float) -> None:
        """An author's newest record: if it waits for receipts it is told what this node has.

        And who leaves with a key made for one process has little time to acknowledge what was sent to it.
        """
        run = (presence.origin, presence.epoch)
        if presence.flags & PresenceFlags.EPHEMERAL and presence.flags & PresenceFlags.LEAVING:
            self.directs.leaves(presence.origin, now)
        if presence.flags & PresenceFlags.ASKS and presence.sequence:
            self.issuer.asks_still(run, presence.sequence, now)

    def holders(self, sequence: int) -> Holders | None:
        """Who has the own message *sequence*; None if its receipt is not open."""
        return self._tracker.of(sequence) if sequence in self._tracker else None

    @property
    def counts(self) -> dict[str, int]:
        """What was ignored, or dropped for want of room, so far, by name."""
        return {**self.relay.counts, **self.directs.counts}

    @property
    def wake(self) -> float | None:
        """When to call :meth:`tick` next."""
        times = (self.issuer.wake, self.relay.wake, self.directs.wake)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> None:
        """Send what is due."""
        receipts = [time for time in (self.issuer.wake, self.relay.wake) if time is not None]
        if receipts and min(receipts) <= now:
            self.issuer.repeat(now)
            for author in self.relay.due(now):
                ways = list(self._routes.all_to(author))
                own = [
                    one for run in self.relay.owed(author, now) for one in self.issuer.own(run, ways, now)
                ]
                self.relay.flush(author, ways, own, now)
            self.relay.schedule()
            self.issuer.schedule()
        if self.directs.wake is not None and self.directs.wake <= now:
            self.directs.tick(now)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            **self.issuer.footprint(),
            **self.relay.footprint(),
            **self._tracker.footprint(),
            **self.directs.footprint(),
        }

    def _members(self) -> frozenset[bytes]:
        """Who is on the roster, and the neighbours: two new nodes link before either has a record.

        But for those that have left with a key made for one process.
        """
        neighbours = [link.peer for link in self._routes.links.fed if link.frontier_received]
        members = {entry.presence.origin for entry in self._roster if entry.is_member}
        members.update(peer.origin for peer in neighbours if peer.role is not Role.GUEST)
        return frozenset(members.difference(e.presence.origin for e in self._roster if e.has_ended))

    def _changed(self, sequences: Iterable[int]) -> None:
        changed = sorted(sequences)
        if changed:
            # Asked first: of thousands of messages that one member has told of, few are decided by that.
            decided = {one: self._tracker.of(one) for one in changed if self._tracker.is_decided(one)}
            self._effects.emit(events.Receipted(changed, decided))
