"""The reverse path: what goes back to one node over the way its own frames came.

Contract: receipts and direct messages, wired in one place.  Neither is held, and neither is spread: each
is repeated by whom it comes from until it is known to have arrived, so that relays owe nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.broadcast.trees import Parents
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Holders, StreamId
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.roster import Entry, Roster
from twisted_mesh.core.replies.direct import Directs
from twisted_mesh.core.replies.receipt_issuer import ReceiptIssuer
from twisted_mesh.core.replies.receipt_relay import ReceiptRelay
from twisted_mesh.core.replies.receipt_tracker import ReceiptTracker
from twisted_mesh.core.replies.routes import Routes
from twisted_mesh.wire.bodies import ASKS, kind_of
from twisted_mesh.wire.bodies import Entry as Message
from twisted_mesh.wire.membership import Presence, PresenceFlags, Role
from twisted_mesh.wire.replies import Receipts
from twisted_mesh.wire.signed import SignedRecord


class ReplyRouting:
    """The reverse path at one node.

    :ivar receipts: those it gives; :ivar carrying: those on their way; :ivar directs: its direct messages.
    """

    def __init__(
        self,
        local_node: LocalNode,
        config: MeshConfig,
        links: Links,
        history: History,
        outbox: Outbox,
        roster: Roster,
        parents: Parents,
        effects: Effects,
        joined: Callable[[], bool],
        speak: Callable[[float], None],
    ) -> None:
        """
        :param joined: whether this node knows who the members are.
        :param speak: sees to it that this node, be it a guest, has said that it is there.
        """
        routes = Routes(links, parents, config)
        self._links = links
        self._history = history
        self._outbox = outbox
        self._roster = roster
        self._effects = effects
        self._joined = joined
        self._speak = speak
        self._tally = ReceiptTracker(config)
        self.carrying = ReceiptRelay(
            local_node, config, history, outbox, roster, routes, self._tally, effects, self._receipted,
            lambda run, ways, now: self.receipts.own(run, ways, now),
        )  # fmt: skip
        self.receipts = ReceiptIssuer(local_node, config, history, roster, self.carrying.owe)
        self.directs = Directs(local_node, config, links, roster, routes, effects)

    def handle(self, event: events.Asking, now: float) -> None:
        """Something the application did."""
        match event:
            case events.Taken():
                self.receipts.taken(event.run, event.sequence, now)
            case events.Skipped():
                self._history.skipped(event.run, event.sequence)
                self.receipts.skipped(event.run, event.sequence, now)
            case events.SendDirect():
                self._speak(now)
                self.directs.send(event, now)
            case events.Ask():
                members = self._members() if self._joined() else None
                for sequence, holders in self._tally.expect(event.sequences, members):
                    self._effects.emit(events.ReceiptClosed(sequence, holders))
                self._receipted(one for one in event.sequences if one in self._tally)
            case events.Forget():
                self._tally.close(event.sequence)
            case _:
                assert_never(event)

    def delivered(self, run: StreamId, first: int, entries: Sequence[Message]) -> None:
        """Messages of *run* from *first* on go to the application: some may ask who has them.

        There are none where they cannot be read.
        """
        self.receipts.moves(run)
        if any(map(kind_of, entries)):  # else all are plain messages, as nearly always
            asks = [number for number, entry in enumerate(entries, first) if entry[0] & ASKS]
            if asks:
                self.receipts.asks(run, asks[-1])

    def gap(self, gap: events.GapFound, now: float) -> None:
        """Something will not come."""
        self.receipts.gap(gap, now)

    def on_receipts(self, link: Link, frame: Receipts, now: float) -> None:
        """Receipts came over *link*."""
        self.carrying.received(link, frame, now)

    def on_direct(self, link: Link, signed: SignedRecord, now: float) -> None:
        """A DIRECT or a DIRECT_ACK came over *link*."""
        self.directs.received(link, signed, now)

    def up(self, link: Link, now: float) -> None:
        """A link is in the routing table."""
        self.receipts.link_up(now)
        self.directs.link_up(link.peer.origin, now)

    def closed(self, link: Link, now: float) -> None:
        """A link ends."""
        self.receipts.link_gone(link.number, now)
        origin = link.peer.origin
        if self._roster.get(origin) is None and not self._links.to(origin):
            self._receipted(self._tally.lose(origin, self._outbox.head))  # it never had a record

    def joined(self) -> None:
        """This node knows now who the members are."""
        self._receipted(self._tally.joined(self._members()))

    def returned(self, origin: bytes, now: float) -> None:
        """A member that was gone is there again."""
        self.receipts.returned(origin, now)

    def forgotten(self, entry: Entry) -> None:
        """A member is off the roster."""
        self._receipted(self._tally.lose(entry.presence.origin, self._outbox.head))

    @property
    def asks(self) -> bool:
        """Whether somebody waits to hear who has an own message."""
        return bool(len(self._tally))

    def evident(self, presence: Presence, now: float) -> None:
        """An author's newest record: if it waits for receipts it is told what this node has.

        And who leaves with a key made for one process has little time to acknowledge what was sent to it.
        """
        run = (presence.origin, presence.epoch)
        if presence.flags & PresenceFlags.EPHEMERAL and presence.flags & PresenceFlags.LEAVING:
            self.directs.leaves(presence.origin, now)
        if presence.flags & PresenceFlags.ASKS and presence.sequence:
            self.receipts.asks_still(run, presence.sequence, now)

    def holders(self, sequence: int) -> Holders | None:
        """Who has the own message *sequence*; None if its receipt is not open."""
        return self._tally.of(sequence) if sequence in self._tally else None

    @property
    def counts(self) -> dict[str, int]:
        """What was ignored, or dropped for want of room, so far, by name."""
        return {**self.carrying.counts, **self.directs.counts}

    @property
    def wake(self) -> float | None:
        """When to call :meth:`tick` next."""
        times = (self.receipts.wake, self.carrying.wake, self.directs.wake)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> None:
        """Send what is due."""
        receipts = [time for time in (self.receipts.wake, self.carrying.wake) if time is not None]
        if receipts and min(receipts) <= now:
            self.receipts.repeat(now)
            self.carrying.tick(now)
            self.receipts.schedule()
        if self.directs.wake is not None and self.directs.wake <= now:
            self.directs.tick(now)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            **self.receipts.footprint(),
            **self.carrying.footprint(),
            **self._tally.footprint(),
            **self.directs.footprint(),
        }

    def _members(self) -> frozenset[bytes]:
        """Who is on the roster, and the neighbours: two new nodes link before either has a record.

        But for those that have left with a key made for one process.
        """
        neighbours = [link.peer for link in self._links.fed if link.frontier_received]
        members = {entry.presence.origin for entry in self._roster if entry.is_member}
        members.update(peer.origin for peer in neighbours if peer.role is not Role.GUEST)
        return frozenset(members.difference(e.presence.origin for e in self._roster if e.has_ended))

    def _receipted(self, sequences: Iterable[int]) -> None:
        changed = sorted(sequences)
        if changed:
            # Asked first: of thousands of messages that one member has told of, few are decided by that.
            decided = {one: self._tally.of(one) for one in changed if self._tally.is_decided(one)}
            self._effects.emit(events.Receipted(changed, decided))
