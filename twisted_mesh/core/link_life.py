"""The life of a link: calls each part of a node when a link opens, comes up and ends.

Contract: :mod:`~twisted_mesh.core.links` defines the states of a link.  A part that wants a link to end
calls :meth:`~twisted_mesh.core.effects.Effects.end`; :meth:`LinkLife.end_links` then ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_mesh.core import events
from twisted_mesh.core.broadcast.broadcast import Broadcast
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.membership import Membership
from twisted_mesh.core.overlay.neighbourhood import NO_ROOM, Neighbourhood
from twisted_mesh.core.replies.replies import Replies
from twisted_mesh.errors import Reason


@dataclass(eq=False)
class LinkLife:
    """Opens and ends the links of a node."""

    _links: Links
    _broadcast: Broadcast
    _membership: Membership
    _neighbourhood: Neighbourhood
    _replies: Replies
    _effects: Effects

    def opened(self, event: events.LinkOpened, now: float) -> None:
        """Keep a new link and send the peer all that this node knows, or refuse the link."""
        link, older = self._links.open(event, now)
        self._neighbourhood.proven(link, now)
        if not self._links.is_wanted(link):
            self.close(link.number, *self._links.why_double(link), now)
            return
        no_room = self._neighbourhood.opened(link, now)
        self.end_links(now)
        if no_room is not None:
            self.close(link.number, Reason.ROOM, no_room, now)
            return
        self._broadcast.send_frontier(link, older, event.settled, now)
        self._membership.tell(link, self._neighbourhood.vote(link), now)
        self._broadcast.begun(link, now)

    def closing(self, number: int, reason: Reason, now: float) -> None:
        """Stop sending over a link; frames that still come are handled."""
        if (link := self._stop_feeding(number, reason, now)) is not None:
            self._close_doubles(link.peer.origin, now)

    def _close_doubles(self, origin: bytes, now: float) -> None:
        for link in self._links.replaced(origin):
            reason, why = self._links.why_replaced(link)
            self._stop_feeding(link.number, reason, now)
            self._effects.close(link.number, reason, why)

    def _stop_feeding(self, number: int, reason: Reason, now: float) -> Link | None:
        link, heir = self._links.close(number)
        if link is None:
            return None
        self._broadcast.outflow.ended(link, reason)
        if heir is not None:
            self._effects.emit(events.LinkUp(heir.number))
        for gone in self._links.gone(link):
            self._effects.emit(events.LinkDown(gone, reason))
        self._broadcast.link_gone(number, now)
        if reason in (Reason.DUPLICATE, Reason.KEY):
            self._membership.outdated(link, now)
        if not link.is_exchange:
            self._replies.closed(link, now)
        self._neighbourhood.closed(link, reason, now)
        if not link.is_exchange:
            self._membership.closed(link, reason, now)
        return link

    def close(self, number: int, reason: Reason, detail: str, now: float) -> None:
        """Close a link with a BYE."""
        self.closing(number, reason, now)
        self._effects.close(number, reason, detail)

    def end_links(self, now: float) -> None:
        """End the links for which a part has called ``Effects.end``."""
        for link, reason, why in self._effects.take_ending():
            if not link.closing:
                self.close(link.number, reason, why, now)

    def frontier_received(self, link: Link, now: float) -> None:
        """Take in that all of the peer's frontier has come: the link is up, or the exchange has begun."""
        link.frontier_received = True
        if not link.closing:
            self._now_up(link, now)

    def _now_up(self, link: Link, now: float) -> None:
        if not link.is_exchange:
            relieved = self._links.link_up(link)
            self._effects.emit(events.LinkUp(link.number))
            if relieved is not None:
                self._effects.emit(events.LinkDown(relieved, Reason.DUPLICATE))
        self._membership.link_up(link, now)
        if link.is_exchange:
            self._effects.emit(events.ExchangeBegun(link.number))
        self._neighbourhood.link_up(link, now)
        self.end_links(now)
        if not link.is_exchange:
            self._replies.link_up(link, now)
        self._neighbourhood.on_exchange(now)
        self.end_links(now)
        if not link.is_exchange:
            self._close_doubles(link.peer.origin, now)
            self._broadcast.compare_later(now)

    def kept(self, link: Link, now: float) -> None:
        """Make an exchange a link between neighbours, unless there is another link to its node."""
        self._links.make_neighbour(link)
        if not self._neighbourhood.kept(link, now):
            self.close(link.number, Reason.ROOM, NO_ROOM, now)
        elif self._links.is_kept(link):
            self._now_up(link, now)
        else:
            self.close(link.number, *self._links.why_double(link), now)
