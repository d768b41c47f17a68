"""Whose neighbour a node is: membership, overlay and exchange, wired in one place.

Contract: told of every link and of every frame by which nodes know of each other; answers with frames
and dials.  Nothing here delivers or holds messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import StreamId, Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.membership import Membership
from twisted_mesh.core.membership.roster import Entry
from twisted_mesh.core.overlay.dial_limit import DialLimit
from twisted_mesh.core.overlay.exchange import Exchange
from twisted_mesh.core.overlay.overlay import Overlay
from twisted_mesh.core.overlay.views import Randomness
from twisted_mesh.core.reachability import Place, believed
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import (
    Contact,
    ForwardJoin,
    KeepVote,
    Purpose,
    Role,
    Shuffle,
    ShuffleReply,
)

Gossip = ForwardJoin | Shuffle | ShuffleReply


class Neighbourhood:
    """The neighbours of a node, and those it could have.

    :ivar overlay: whom it is linked with and could be; None where that is the application's affair.
    :ivar exchange: with nodes that are no neighbours.
    """

    def __init__(
        self,
        local_node: LocalNode,
        config: MeshConfig,
        links: Links,
        membership: Membership,
        repair: Repair,
        randomness: Randomness,
        effects: Effects,
    ) -> None:
        self._local_node = local_node
        self._config = config
        self._membership = membership
        self._effects = effects
        self._dials = DialLimit(config, local_node.address)
        self._quiet_until = 0.0  # while there is a key conflict no others are dialled before
        own = _at(local_node, local_node.address)
        self.overlay = (
            Overlay(own, local_node.id, config, randomness, effects, self._dial)
            if local_node.profile.overlay
            else None
        )
        self.exchange = Exchange(config, links, membership.roster, repair, randomness, effects, self._dial)

    @property
    def contacts(self) -> list[Contact]:
        """Nodes that are no neighbours, as the overlay has heard of them."""
        return [] if self.overlay is None else self.overlay.contacts()

    # ── links ───────────────────────────────────────────────────────────────────────

    def proven(self, link: Link, now: float) -> None:
        """A link is proven, whether it is wanted or not: its dial is over."""
        if link.outgoing:
            self._dials.over(link.peer.id, now, True)

    def opened(self, link: Link, now: float) -> str | None:
        """A link is proven and wanted; or why there is no room for it."""
        if link.is_exchange:
            if not self.exchange.opened(link, self.vote(link), now):
                return "this node has enough visitors"
            self._effects.set_timer(Timer.EXCHANGE, self.exchange.tick(now))
        elif self.overlay is not None and not self.overlay.opened(link, _contact(link), now):
            return "this node has neighbours enough"
        return None

    def vote(self, link: Link) -> KeepVote:
        """What this node has to say of keeping an exchange as a link between neighbours."""
        if not self._local_node.profile.overlay:
            return KeepVote.NEVER
        if link.peer.role is Role.GUEST or self._membership.roster.is_there(link.peer.origin):
            return KeepVote.CONTENT
        return KeepVote.WANTED

    def up(self, link: Link, now: float) -> None:
        """The peer's frontier is here."""
        if link.is_exchange:
            return
        if (contact := _contact(link)) is not None:
            self.exchange.remember(contact)
        if self.overlay is not None:
            self.overlay.up(link, now)

    def closed(self, link: Link, reason: Reason, now: float) -> None:
        """A link ends."""
        self.exchange.closed(link)
        if self.overlay is not None and not link.is_exchange:
            self.overlay.closed(link, reason, now)

    def roster_received(self, link: Link, vote: int) -> bool:
        """The peer's roster has come whole; whether an exchange becomes a link between neighbours."""
        return link.is_exchange and self.exchange.roster_received(link, vote)

    def kept(self, link: Link, now: float) -> None:
        """An exchange has become a link between neighbours."""
        assert self.overlay is not None  # without one it votes for no such link
        link.purpose = Purpose.URGENT
        self.overlay.opened(link, _contact(link), now)

    # ── frames ──────────────────────────────────────────────────────────────────────

    def know(self, entries: Iterable[Entry], link: Link, now: float) -> None:
        """Authors have newer records, which came over *link*."""
        if self.overlay is not None:
            contacts = [entry.contact for entry in entries if entry.contact is not None]
            if contacts:
                self.overlay.known(contacts, link, now)

    def on_gossip(self, link: Link, frame: Gossip, now: float) -> None:
        """A word between overlays."""
        if self.overlay is None or link.is_exchange or not link.up:
            return
        match frame:
            case ForwardJoin():
                self.overlay.forward_join(link, frame, now)
            case Shuffle():
                self.overlay.shuffle(link, frame, now)
            case ShuffleReply():
                self.overlay.shuffle_reply(link, frame, now)
            case _:
                assert_never(frame)

    # ── the outside ─────────────────────────────────────────────────────────────────

    def handle(self, event: events.DialFailed | events.Known | events.Moved, now: float) -> None:
        """What was dialled was not there; there are nodes from earlier runs; or this one has moved."""
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
                self._membership.announcing.address = event.address
                if self.overlay is not None:
                    self.overlay.me = _at(self._local_node, event.address)
            case _:
                assert_never(event)

    def schedule(self) -> None:
        """See to it that the overlay looks again in time."""
        if self.overlay is not None and self.overlay.wake is not None:
            self._effects.set_timer(Timer.OVERLAY, self.overlay.wake)

    def on_overlay(self, now: float) -> None:
        """The overlay's time has come."""
        assert self.overlay is not None
        self.overlay.tick(now)

    def on_exchange(self, now: float) -> None:
        """The time of an exchange, or of the end of one."""
        self._effects.set_timer(Timer.EXCHANGE, self.exchange.tick(now))

    def help(self, runs: list[StreamId], now: float) -> list[StreamId]:
        """Something is missing of *runs* that no neighbour is asked for: look further.

        :return: those for which that begins now.
        """
        return self.exchange.help(runs, now)

    def meet_other(self, now: float) -> None:
        """Dial the node that uses the own key, so that both have proof of each other."""
        other = self._membership.conflict.contact
        if other is not None:
            self._dial_now(other, Purpose.EXCHANGE, now)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            **self.exchange.footprint(),
            **self._dials.footprint(),
            **({} if self.overlay is None else self.overlay.footprint()),
        }

    def _dial(self, contact: Contact, purpose: Purpose, now: float) -> bool:
        is_quiet = self._membership.conflict and now < self._quiet_until
        if is_quiet or not self._dial_now(contact, purpose, now):
            return False
        self._quiet_until = now + self._config.key_retry
        return True

    def _dial_now(self, contact: Contact, purpose: Purpose, now: float) -> bool:
        if not self._dials.may(contact, now):
            return False
        self._dials.began(contact, purpose, now)
        self._effects.dial(contact, purpose)
        return True


def _at(local_node: LocalNode, address: Place | None) -> Contact | None:
    """This node as others can dial it at *address*."""
    return None if address is None else Contact(local_node.id, *address)


def _contact(link: Link) -> Contact | None:
    """Where the peer of *link* says that it can be dialled, if that is believed."""
    address = link.peer.address
    if address is None or not believed(address[0], link.host):
        return None
    return Contact(link.peer.id, *address)
