"""The neighbours of a node: composes the overlay, the exchanges and the dial limit.

Contract: the neighbourhood is called for every link, and for every frame by which overlays talk.  It sends
frames and dials.  Nothing here delivers or holds messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import StreamId, Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.membership import Membership
from twisted_mesh.core.membership.roster import Author
from twisted_mesh.core.overlay.dial_limit import DialLimit
from twisted_mesh.core.overlay.exchange import Exchange
from twisted_mesh.core.overlay.overlay import Overlay
from twisted_mesh.core.overlay.views import Randomness
from twisted_mesh.core.reachability import Place, believed_contact
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

NO_ROOM: Final = "this node has neighbours enough"  #: why a link is refused

Gossip = ForwardJoin | Shuffle | ShuffleReply


@dataclass(eq=False)
class Neighbourhood:
    """The neighbours of a node, and the nodes it could link with.

    :ivar overlay: chooses the neighbours; None if the application alone chooses them.
    :ivar exchange: links for a short time with nodes that are no neighbours.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _links: Links
    _membership: Membership
    _randomness: Randomness
    _effects: Effects
    _quiet_until: float = 0.0  # in a key conflict, the time before which nothing is dialled

    def __post_init__(self) -> None:
        me, config, effects = self._local_node, self._config, self._effects
        randomness = self._randomness
        self._dials = DialLimit(config, me.address)
        own = _at(me, me.address)
        self.overlay = (
            Overlay(own, me.id, config, randomness, effects, self._dial) if me.profile.overlay else None
        )
        self.exchange = Exchange(
            config, self._links, self._membership.roster, randomness, effects, self._dials, self._dial
        )

    @property
    def contacts(self) -> list[Contact]:
        """The nodes that the overlay could dial."""
        return [] if self.overlay is None else self.overlay.contacts()

    # ── links ───────────────────────────────────────────────────────────────────────

    def proven(self, link: Link, now: float) -> None:
        """Take in that the peer of a link has proven its key, which ends a dial."""
        if link.outgoing:
            self._dials.over(link.peer.id, now, True)

    def opened(self, link: Link, now: float) -> str | None:
        """Take in a new link that is no double; return why there is no room for it, or None."""
        if link.is_exchange:
            if not self.exchange.opened(link, self.vote(link), now):
                return "this node has enough visitors"
            self._effects.set_timer(Timer.EXCHANGE, self.exchange.tick(now))
        elif self.overlay is not None and not self.overlay.opened(link, _contact(link), now):
            return NO_ROOM
        return None

    def vote(self, link: Link) -> KeepVote:
        """This node's vote on keeping an exchange as a link between neighbours."""
        if not self._local_node.profile.overlay:
            return KeepVote.NEVER
        if link.peer.role is Role.GUEST or self._membership.roster.is_there(link.peer.origin):
            return KeepVote.CONTENT
        return KeepVote.WANTED

    def link_up(self, link: Link, now: float) -> None:
        """Take in that the peer's frontier has come."""
        self._dials.met(link.host)
        if link.is_exchange:
            return
        if not any(other.up for other in self._links.fed if other is not link):
            self._dials.forgive(now)
        if (contact := _contact(link)) is not None:
            self.exchange.remember(contact)
        if self.overlay is not None:
            self.overlay.link_up(link, now)

    def closed(self, link: Link, reason: Reason, now: float) -> None:
        """Take in that a link ends."""
        self.exchange.closed(link)
        if self.overlay is not None and not link.is_exchange:
            self.overlay.closed(link, reason, now)

    def roster_received(self, link: Link, vote: int, now: float) -> bool:
        """Take in the *vote* that ends the peer's roster; return whether an exchange makes neighbours."""
        return link.is_exchange and self.exchange.roster_received(link, vote, now)

    def kept(self, link: Link, now: float) -> bool:
        """Take in that an exchange has become a link between neighbours; whether there is room for it."""
        assert self.overlay is not None  # a node without an overlay votes NEVER
        link.purpose = Purpose.URGENT
        return self.overlay.opened(link, _contact(link), now)

    # ── frames ──────────────────────────────────────────────────────────────────────

    def know(self, authors: Iterable[Author], link: Link, now: float) -> None:
        """Take in newer records of authors, which came over *link*."""
        if self.overlay is not None:
            contacts = [author.contact for author in authors if author.contact is not None]
            if contacts:
                self.overlay.known(contacts, link, now)

    def on_gossip(self, link: Link, frame: Gossip, now: float) -> None:
        """Take in a frame between overlays."""
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
        """Take in an event about addresses."""
        match event:
            case events.DialFailed():
                self._dials.over(event.id, now, False, event.met)
                if self.overlay is not None:
                    self.overlay.dial_failed(event.id, now)
            case events.Known():
                for contact in event.contacts:
                    self._dials.met(contact.host)
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
        """Set the timer for the overlay."""
        if self.overlay is not None and (wake := self.overlay.wake) is not None:
            self._effects.set_timer(Timer.OVERLAY, wake)

    def on_overlay(self, now: float) -> None:
        """Do what is due in the overlay."""
        assert self.overlay is not None
        self.overlay.tick(now)

    def on_exchange(self, now: float) -> None:
        """Begin and end exchanges that are due."""
        self._effects.set_timer(Timer.EXCHANGE, self.exchange.tick(now))

    def help(self, runs: Sequence[StreamId], now: float) -> list[StreamId]:
        """Look for messages of *runs*, which no neighbour has; return the runs to ask neighbours for."""
        fresh = self.exchange.help(runs, now)
        if runs:
            self.on_exchange(now)
        return fresh

    def meet_other(self, now: float) -> None:
        """Dial the other node that uses this node's key, so that each has proof of the other."""
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
    """The contact of this node if others can dial it at *address*."""
    return None if address is None else Contact(local_node.id, *address)


def _contact(link: Link) -> Contact | None:
    return believed_contact(link.peer.id, link.peer.address, link.host)
