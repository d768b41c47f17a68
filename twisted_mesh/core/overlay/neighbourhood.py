"""Who is there and who is whose neighbour: presence, overlay and exchange, wired in one place.

Contract: told of every link and of every frame by which nodes know of each other; answers with frames
and dials.  Nothing here delivers or holds messages: what a PRESENCE shows of its author's stream is said
to the history, and what is missing is then repaired like anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.inbound import Inbound
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import StreamId, Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.key_conflict import KeyConflict
from twisted_mesh.core.membership.presence import Membership
from twisted_mesh.core.membership.roster import Entry, Roster
from twisted_mesh.core.overlay.exchange import Exchange
from twisted_mesh.core.overlay.overlay import Overlay
from twisted_mesh.core.overlay.views import Randomness
from twisted_mesh.core.reachability import DialLimit, Place, believed
from twisted_mesh.core.replies.replies import ReplyRouting
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire import membership
from twisted_mesh.wire.membership import (
    Contact,
    ForwardJoin,
    Purpose,
    Role,
    Shuffle,
    ShuffleReply,
)
from twisted_mesh.wire.signed import SignedRecord

Gossip = ForwardJoin | Shuffle | ShuffleReply
#: Runs that are asked of all neighbours at a time: one author can begin thousands (guess).
SOUGHT_MOST: Final = 64
_HELP_AFTER = 1.0  # seconds a hole is left to the neighbours before others are asked (guess)


class Neighbourhood:
    """The society of a node.

    :ivar presences: its own record, and those of the others.
    :ivar overlay: whom it is linked with and could be; None where that is the application's affair.
    :ivar exchange: its visits.
    :ivar joined: whether a neighbour has told its roster.
    :ivar settled_by: the link whose snapshot told this node where to start, until its roster has, too.
    """

    def __init__(
        self,
        local_node: LocalNode,
        config: MeshConfig,
        links: Links,
        history: History,
        outbox: Outbox,
        repair: Repair,
        push: Push,
        inbound: Inbound,
        conflict: KeyConflict,
        effects: Effects,
        close: Callable[[int, Reason, str], None],
        roster: Roster,
        reverse: ReplyRouting,
        randomness: Randomness,
    ) -> None:
        """
        :param reverse: what depends on who is there, and is told of it.
        """
        self._local_node = local_node
        self._config = config
        self._links = links
        self._history = history
        self._outbox = outbox
        self._repair = repair
        self._inbound = inbound
        self._conflict = conflict
        self._roster = roster
        self._reverse = reverse
        self._effects = effects
        self._dials = DialLimit(config, local_node.address)
        self._now = 0.0
        self._quiet_until = 0.0  # while there is a key conflict no others are dialled before
        self.presences = Membership(
            local_node, config, links, outbox, conflict, push, roster, reverse, effects
        )
        self.overlay = (
            Overlay(
                _at(local_node, local_node.address),
                local_node.id,
                config,
                randomness,
                self._gossip,
                self._dial,
                close,
            )
            if local_node.overlay
            else None
        )
        self.exchange = Exchange(local_node, config, links, roster, repair, randomness, self._dial, close)
        self.joined = False
        self.settled_by: int | None = None

    @property
    def contacts(self) -> list[Contact]:
        """Nodes that are no neighbours, as the overlay has heard of them."""
        return [] if self.overlay is None else self.overlay.contacts()

    # ── links ───────────────────────────────────────────────────────────────────────

    def proven(self, link: Link, now: float) -> None:
        """A link is proven, whether it is wanted or not: its dial is over."""
        self._now = now
        if link.outgoing:
            self._dials.over(link.peer.id, now, True)

    def opened(self, link: Link, now: float) -> str | None:
        """A link is proven and wanted; or why there is no room for it."""
        if link.is_exchange:
            if not self.exchange.opened(link, self.exchange.thinks(link), now):
                return "this node has enough visitors"
            self._effects.set_timer(Timer.EXCHANGE, self.exchange.tick(now))
        elif self.overlay is not None and not self._enters(link, link.purpose, now):
            return "this node has neighbours enough"
        return None

    def tell(self, link: Link, now: float) -> None:
        """Tell the peer who is there, behind what is held."""
        self.presences.tell(link, self.exchange.thinks(link), now)

    def up(self, link: Link, now: float) -> None:
        """The peer's frontier is here."""
        self._now = now
        if self._local_node.role is Role.MEMBER:
            self.presences.announcing.announce_first(now)
        if link.is_exchange:
            self._effects.emit(events.Visiting(link.number))
        else:
            self.presences.suspicion.linked(link)
            contact = self._contact(link)
            if contact is not None:
                self.exchange.remember(contact)
            if self.overlay is not None:
                self.overlay.up(link.number, now)
            self._reverse.up(link, now)
        self._effects.set_timer(Timer.EXCHANGE, self.exchange.tick(now))

    def closed(self, link: Link, reason: Reason, now: float) -> None:
        """A link ends."""
        self._now = now
        if reason in (Reason.DUPLICATE, Reason.KEY):
            self.presences.outdated(link)
        self.exchange.closed(link.number)
        if link.is_exchange:
            return
        self._reverse.closed(link, now)
        if self.overlay is not None:
            self.overlay.closed(link.number, reason, now)
        # Of a silent link this end may have been the silent one: then the peer, which says so, is there.
        silent = reason is Reason.SILENT and now - link.last_frame_at >= self._config.dead_after
        wordless = silent or reason is Reason.LOST
        if link.up and wordless and not self._links.to(link.peer.origin):
            self.presences.suspicion.lost(link.peer.origin, now)

    def speak(self, now: float) -> None:
        """This node is about to sign what is dropped where nobody has a record of it."""
        self.presences.announcing.announce_first(now)

    def forgotten(self, number: int, now: float) -> None:
        """Nothing more comes over a link; if it was to tell where to start, it has told all it will."""
        if self.settled_by == number:
            self._start(now)

    def _enters(self, link: Link, purpose: Purpose, now: float) -> bool:
        assert self.overlay is not None
        return self.overlay.opened(
            link.number, link.peer.id, self._contact(link), purpose, link.outgoing, link.host, now
        )

    def _contact(self, link: Link) -> Contact | None:
        address = link.peer.address
        if address is None or not believed(address[0], link.host):
            return None
        return Contact(link.peer.id, *address)

    # ── frames ──────────────────────────────────────────────────────────────────────

    def on_record(self, link: Link, signed: SignedRecord, now: float) -> None:
        """A PRESENCE or a SUSPECT."""
        self._now = now
        entry = self.presences.received(link, signed, now)
        if entry is not None:
            self._evident(entry, now)
            self._know([entry], link.number)

    def on_roster(self, link: Link, frame: membership.Roster, now: float) -> bool:
        """The roster of a peer, or a part of it; whether the link stays, which was a visit.

        :raises RemoteError: it has no place here, or something else is in it.
        """
        if link.roster_received:
            raise RemoteError("another roster", Reason.ORDER)
        self._now = now
        news = self.presences.on_roster(link, frame.entries, now)
        for entry in news:
            self._evident(entry, now)
        self._know(news, link.number)
        if not frame.last:
            return False
        link.roster_received = True
        if self.settled_by == link.number:
            self._start(now)
        stays = link.is_exchange and self.exchange.roster_received(link, frame.stay)
        if not self.joined and (stays or link.up):
            self.joined = True
            self._reverse.joined()
            self._effects.emit(events.Joined())
        return stays

    def on_gossip(self, link: Link, frame: Gossip, now: float) -> None:
        """A word between overlays."""
        self._now = now
        if self.overlay is None or link.is_exchange or not link.up:
            return
        match frame:
            case ForwardJoin():
                self.overlay.forward_join(link.number, frame, now)
            case Shuffle():
                self.overlay.shuffle(link.number, frame, now)
            case ShuffleReply():
                self.overlay.shuffle_reply(link.number, frame, now)
            case _:
                assert_never(frame)

    def stays(self, link: Link, now: float) -> None:
        """A visit has become a link between neighbours."""
        self._enters(link, Purpose.URGENT, now)

    # ── the outside ─────────────────────────────────────────────────────────────────

    def handle(self, event: events.DialFailed | events.Known | events.Moved, now: float) -> None:
        """What was dialled was not there; there are nodes from earlier runs; or this one has moved."""
        self._now = now
        match event:
            case events.DialFailed():
                self._dials.over(event.id, now, False)
                if self.overlay is not None:
                    self.overlay.dial_failed(event.id, now)
            case events.Known():
                for contact in event.contacts:
                    self.exchange.remember(contact)
                if self.overlay is not None:
                    self.overlay.known(event.contacts, None, now)
            case events.Moved():
                self._dials.own = event.address
                self.presences.announcing.address = event.address
                if self.overlay is not None:
                    self.overlay.me = _at(self._local_node, event.address)
            case _:
                assert_never(event)

    def schedule(self) -> None:
        """See to it that the overlay and the reverse path look again in time."""
        overlay = None if self.overlay is None else self.overlay.wake
        for timer, wake in ((Timer.OVERLAY, overlay), (Timer.REVERSE, self._reverse.wake)):
            if wake is not None:
                self._effects.set_timer(timer, wake)

    def on_overlay(self, now: float) -> None:
        """The overlay's time has come."""
        self._now = now
        assert self.overlay is not None
        self.overlay.tick(now)

    def on_exchange(self, now: float) -> None:
        """The time of an exchange, or of the end of one."""
        self._now = now
        self._effects.set_timer(Timer.EXCHANGE, self.exchange.tick(now))

    def on_roster_time(self, now: float, late: float) -> None:
        """See who was not heard of, and what nobody here has; *late* by so many seconds."""
        self._now = now
        for entry in self.presences.tick(now, late):
            if not self._repair.is_slowed(entry.presence.origin, now):
                self._repair.parent_lost((entry.presence.origin, entry.presence.epoch), now)
        missing = [
            run
            for run, since in self._history.holes()
            if since + _HELP_AFTER <= now and not self._repair.is_pulled(run, now)
        ]
        self.pull_from_all(self.exchange.help(missing, SOUGHT_MOST, now), now)
        other = self._conflict.contact
        if other is not None:  # so that both have proof of each other
            self._knock(other, Purpose.EXCHANGE)

    def pull_from_all(self, runs: Sequence[StreamId], now: float) -> None:
        """Ask every neighbour for what is missing of *runs*, if nobody is asked yet."""
        for run in [run for run in runs if not self._repair.is_pulled(run, now)][:SOUGHT_MOST]:
            self._repair.pull_from_all(run, now)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            **self._roster.footprint(),
            **self.exchange.footprint(),
            **self._dials.footprint(),
            **({} if self.overlay is None else self.overlay.footprint()),
        }

    def _start(self, now: float) -> None:
        """The first neighbour has told all: where it knew of no stream, what the author says counts."""
        self.settled_by = None
        for entry in self._roster:
            presence = entry.presence
            run = (presence.origin, presence.epoch)
            if presence.sequence and not self._history.head(run) and self._history.get(run) is None:
                self._history.start_at(run, presence.sequence, presence.sequence, now)
            entry.at_join = presence.epoch, presence.sequence
            self._history.hinted(run, presence.sequence, now)
            self._reverse.evident(presence, now)
        self._keep_to_limits(now)

    def _evident(self, entry: Entry, now: float) -> None:
        """What the newest record of *entry* says of its stream."""
        if self.settled_by is not None:
            return  # until the first neighbour has told all
        presence = entry.presence
        run = (presence.origin, presence.epoch)
        start = presence.sequence
        if entry.at_join is not None and entry.at_join[0] == presence.epoch:
            start = entry.at_join[1]
        lowered = self._history.lowered(run, presence.sequence, start)
        if lowered is not None:
            self._inbound.tell_gaps([lowered], now)
            self._repair.ask_again(run, now)
        self._history.hinted(run, presence.sequence, now)
        self._reverse.evident(presence, now)
        self._keep_to_limits(now)

    def _keep_to_limits(self, now: float) -> None:
        """A record alone may have opened a stream, and no batch need ever come."""
        self._inbound.tell_gaps(self._history.evict(now, self._outbox.run, self._outbox.taken), now)

    def _know(self, entries: Iterable[Entry], link: int) -> None:
        if self.overlay is not None:
            contacts = [entry.contact for entry in entries if entry.contact is not None]
            if contacts:
                self.overlay.known(contacts, link, self._now)

    def _dial(self, contact: Contact, purpose: Purpose) -> bool:
        is_quiet = self._conflict and self._now < self._quiet_until
        if is_quiet or not self._knock(contact, purpose):
            return False
        self._quiet_until = self._now + self._config.key_retry
        return True

    def _knock(self, contact: Contact, purpose: Purpose) -> bool:
        if not self._dials.may(contact, self._now):
            return False
        self._dials.began(contact, purpose, self._now)
        self._effects.dial(contact, purpose)
        return True

    def _gossip(self, number: int, frame: Gossip) -> None:
        link = self._links.get(number)
        assert link is not None and not link.closing  # the overlay was told of its end
        self._effects.send((link,), frame)


def _at(local_node: LocalNode, address: Place | None) -> Contact | None:
    """This node as others can dial it at *address*."""
    return None if address is None else Contact(local_node.id, *address)
