"""The reverse path: receipts and direct messages go to a node over the links that brought its frames.

Contract: this composes the parts of the reverse path.  Relays do not hold receipts and messages: the node
that sends a receipt or message repeats it until it is known to have arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.inbound import Outcome
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Holders
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.roster import Author, Roster
from twisted_mesh.core.replies.direct import Directs
from twisted_mesh.core.replies.receipt_issuer import ReceiptIssuer
from twisted_mesh.core.replies.receipt_relay import ReceiptRelay
from twisted_mesh.core.replies.receipt_tracker import ReceiptTracker
from twisted_mesh.core.replies.routes import Routes
from twisted_mesh.wire.bodies import ASKS, are_plain, kind_of
from twisted_mesh.wire.membership import Presence, PresenceFlags, Role
from twisted_mesh.wire.replies import Receipts


@dataclass(eq=False)
class Replies:
    """The receipts and direct messages of one node.

    :ivar issuer: gives receipts; :ivar relay: sends receipts to the authors of the messages.
    :ivar directs: the direct messages.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _history: History
    _outbox: Outbox
    _roster: Roster
    _routes: Routes
    _effects: Effects
    _joined: bool = False  # whether a neighbour has sent its roster

    def __post_init__(self) -> None:
        me, config, history = self._local_node, self._config, self._history
        roster, routes, effects = self._roster, self._routes, self._effects
        self._tracker = ReceiptTracker(config)
        self.relay = ReceiptRelay(me, config, history, self._outbox, roster, routes, effects)
        self.issuer = ReceiptIssuer(me, config, history, roster, self.relay, effects)
        self.directs = Directs(me, config, roster, history.authors, routes, effects)

    def handle(self, event: events.Asking, now: float) -> None:
        """Take in that the application took or sent messages, or asks for receipts."""
        match event:
            case events.Taken():
                self._history.taken(event.run, event.sequence, event.places)
                if not self._history.is_stored:
                    self.issuer.taken(event.run, event.slowest, now)
            case events.Consumers():
                self._history.name_consumers(event.names)
            case events.Place():
                behind = self._history.place(event.name, event.seconds, self._outbox.run[0], now)
                self._effects.emit(events.Placed(event.name, behind))
            case events.Stored():
                self.issuer.stored(event.runs, now)
            case events.Skipped():
                self._history.skipped(event.run, event.sequence)
                self.issuer.skipped(event.run, event.sequence, now)
            case events.SendDirects():
                self.directs.send(event, now)
            case events.DirectRoom():
                self.directs.make_room(event.has_room, now)
            case events.Ask():
                members = self._members() if self._joined else None
                for sequence, holders in self._tracker.expect(event.sequences, members):
                    self._effects.emit(events.ReceiptClosed(sequence, holders))
                self._changed(one for one in event.sequences if one in self._tracker)
            case events.Forget():
                self._tracker.close(event.sequence)
            case _:
                assert_never(event)

    def delivered(self, item: Outcome, now: float) -> None:
        """Take in messages, which may ask for receipts, or a gap, that went to the application."""
        run = (item.origin, item.epoch)
        match item:
            case events.Deliver():
                # Nearly always no entry asks for a receipt.
                if not are_plain(item.entries) and any(map(kind_of, item.entries)):
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
        """Take in receipts that came over *link*."""
        changed: set[int] = set()
        try:
            for receipt in self.relay.received(link, frame, now):
                self._outbox.confirm(receipt.low, receipt.high)
                changed.update(self._tracker.add(receipt.member, receipt.low, receipt.high))
        finally:
            self._changed(changed)  # also if a later receipt of the frame is false

    def link_up(self, link: Link, now: float) -> None:
        """Take in that a link is in the routing table."""
        self.issuer.link_up(now)
        self.directs.outbound.link_up(link.peer.origin, now)

    def closed(self, link: Link, now: float) -> None:
        """Take in that a link ends."""
        self.issuer.link_gone(link.number, now)
        origin = link.peer.origin
        if self._roster.get(origin) is None and not self._routes.links.to(origin):
            self._changed(self._tracker.lose(origin, self._outbox.head))  # no record of the peer came

    def joined(self) -> None:
        """Take in that a neighbour has sent its roster."""
        self._joined = True
        self._changed(self._tracker.joined(self._members()))

    def forgotten(self, author: Author) -> None:
        """Take in that the roster has forgotten a member."""
        self._changed(self._tracker.lose(author.presence.origin, self._outbox.head))

    def dropped(self, author: Author) -> None:
        """Take in that this node had a member forgotten: nobody waits for it here."""
        self._changed(self._tracker.drop(author.presence.origin))

    @property
    def asks(self) -> bool:
        """Whether a receipt of an own message is open."""
        return bool(len(self._tracker))

    def evident(self, presence: Presence, now: float) -> None:
        """Take in an author's newest record, and give the receipts for which the author waits.

        An author that leaves, and whose key was made for one run, can acknowledge messages only now.
        """
        run = (presence.origin, presence.epoch)
        if presence.flags & PresenceFlags.EPHEMERAL and presence.flags & PresenceFlags.LEAVING:
            self.directs.outbound.leaves(presence.origin, now)
        self.directs.outbound.recorded(presence, now)
        if presence.flags & PresenceFlags.ASKS and presence.sequence:
            self.issuer.asks_still(run, presence.sequence, now)

    def holders(self, sequence: int) -> Holders | None:
        """Which members have the own message *sequence*; None if its receipt is not open."""
        return self._tracker.of(sequence) if sequence in self._tracker else None

    def missed_by(self, member: bytes) -> Sequence[int]:
        """The own messages that *member* has missed and whose receipts are open."""
        return self._tracker.missed_by(member)

    @property
    def counts(self) -> dict[str, int]:
        """How much was ignored, or dropped for lack of room, so far, by name."""
        return {**self.relay.counts, **self.directs.counts}

    @property
    def wake(self) -> float | None:
        """When to call :meth:`tick` next, or None."""
        wake = min(self.issuer.wake, self.relay.wake, self.directs.wake)
        return None if wake == inf else wake

    def tick(self, now: float) -> None:
        """Send the receipts and messages that are due."""
        if min(self.issuer.wake, self.relay.wake) <= now:
            self.issuer.repeat(now)
            for author in self.relay.due(now):
                ways, runs = list(self._routes.all_to(author)), self.relay.owed(author, now)
                own = [one for run in runs for one in self.issuer.own(run, ways, now)]
                self.relay.flush(author, ways, own, now)
            self.relay.schedule()
            self.issuer.schedule()
        if self.directs.wake <= now:
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
        """The members on the roster, and the neighbours, since new nodes link before they have a record.

        Members that have left are not among them if their key was for one run.
        """
        neighbours = [link.peer for link in self._routes.links.fed if link.frontier_received]
        members = {author.presence.origin for author in self._roster if author.is_member}
        members.update(peer.origin for peer in neighbours if peer.role is not Role.GUEST)
        return frozenset(members.difference(one.presence.origin for one in self._roster if one.has_ended))

    def _changed(self, sequences: Iterable[int]) -> None:
        if changed := sorted(sequences):
            # is_decided() goes first: one receipt can be for thousands of messages, and decide few of them.
            decided = {one: self._tracker.of(one) for one in changed if self._tracker.is_decided(one)}
            self._effects.emit(events.Receipted(changed, decided))
