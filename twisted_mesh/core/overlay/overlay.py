"""The overlay: whose neighbour a node is, and how a mesh of any size becomes one and stays one.

Contract: told of links, frames and the time it keeps about ``active_view`` neighbours, by dialling
contacts it was told of; a link of the overlay is not more than any other.  Up to one node more than
that everybody is everybody's neighbour.  Nothing here cuts a mesh: who has no room refuses a link
before it counts, or hands one on (:mod:`~twisted_mesh.core.overlay.rewiring`).

A newcomer's contact sends its address on random walks, at whose ends it gets neighbours; who has too
few looks for more (:mod:`~twisted_mesh.core.overlay.search`); contacts are mixed by shuffles
(:mod:`~twisted_mesh.core.overlay.shuffles`) and held for the day neighbours fail
(:mod:`~twisted_mesh.core.overlay.views`).

Source: HyParView (Leitao, Pereira, Rodrigues 2007).  Other than there nobody is disconnected to make
room; links are moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.link import Link
from twisted_mesh.core.overlay.rewiring import SPARE, Rewiring
from twisted_mesh.core.overlay.search import Search
from twisted_mesh.core.overlay.shuffles import Shuffles
from twisted_mesh.core.overlay.views import (
    MET,
    ActiveView,
    Dial,
    Neighbour,
    PassiveView,
    Randomness,
    jitter,
)
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.core.reachability import believed
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import Contact, ForwardJoin, Purpose, Shuffle, ShuffleReply

#: Walks that one link may bring at once, and a second (guess: a mass of newcomers brings some twenty).
WALK_BURST: Final = 64
WALK_RATE: Final = 8.0
#: Walks a newcomer is sent on: with what neighbours hand on to it, it gets about as many links as it
#: looks for (measured: with HyParView's one for each neighbour 18 of 100 newcomers had seven or more
#: links after ten seconds, with two of them 5).
WALKS: Final = 2

_TAKES_PLACE: Final = "another takes the place of this link"
#: After these a node is well, or may come back; after any other it left, was sent away, or misbehaved.
_COMES_BACK: Final = frozenset(
    (
        *(Reason.ROOM, Reason.FULL, Reason.DUPLICATE, Reason.KEY),
        *(Reason.LOST, Reason.SILENT, Reason.SLOW, Reason.TIMEOUT),
    )
)


class Overlay:
    """The overlay's part of one node.

    Frames of a link count from :meth:`up` on.

    :ivar me: where this node can be dialled, None if nobody can.
    """

    def __init__(
        self,
        me: Contact | None,
        own_id: bytes,
        config: MeshConfig,
        randomness: Randomness,
        effects: Effects,
        dial: Dial,
    ) -> None:
        """:param dial: False where the contact may not be dialled now."""
        self.me = me
        self._own_id = own_id
        self._config = config
        self._randomness = randomness
        self._effects = effects
        self._active = ActiveView()
        self._passive = PassiveView(own_id, config.passive_view, self._active, randomness)
        self._rewiring = Rewiring(self._active, config, randomness, effects, dial)
        self._shuffles = Shuffles(self._active, self._passive, config, randomness, effects)
        self._search = Search(self._active, self._passive, config, randomness, dial)
        self._walks: dict[Link, RateLimit] = {}
        self._shuffle_at: float | None = None
        self._dropped_walks = self._unbelieved = 0

    @property
    def wake(self) -> float | None:
        """When :meth:`tick` is to be called next; None: not before something else happens."""
        times = [self._search.wake, self._shuffle_at, self._rewiring.wake, self._rewiring.deadline]
        return min((time for time in times if time is not None), default=None)

    @property
    def counts(self) -> dict[str, int]:
        """What was ignored, or dropped for want of room, so far, by name."""
        return {
            "dropped_walks": self._dropped_walks,
            "unbelieved_contacts": self._unbelieved + self._shuffles.unbelieved,
            "stray_shuffles": self._shuffles.strays,
        }

    def contacts(self) -> list[Contact]:
        """The nodes it could dial."""
        return self._passive.contacts()

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            **self._active.footprint(),
            **self._passive.footprint(),
            **self._rewiring.footprint(),
            **self._shuffles.footprint(),
            "overlay_dials": len(self._search),
            "walk_rates": len(self._walks),
        }

    # ── links ───────────────────────────────────────────────────────────────────────

    def opened(self, link: Link, contact: Contact | None, now: float) -> bool:
        """A peer has proven itself over a link that is no exchange; False: refuse it with ROOM.

        :param contact: where it says that it can be dialled; it can be told later by :meth:`located`.
        """
        id, purpose, outgoing = link.peer.id, link.purpose, link.outgoing
        refused = purpose is Purpose.NEIGHBOUR and not self._search.has_room_for(link, now)
        if refused and self._active.get(id) is None:
            if outgoing:
                self._search.drop(id)
            if contact is not None and believed(contact.host, link.host):
                self._learn((contact,), MET, now)
            return False
        node = self._active.add(link, now)
        node.ours |= outgoing
        node.pinned |= outgoing and purpose is Purpose.JOIN
        if purpose is Purpose.JOIN and not outgoing:
            node.joins = True
            self._rewiring.joined()
        if contact is not None:
            self.located(link, contact, now)
        self._rewiring.review(now)
        return True

    def located(self, link: Link, contact: Contact, now: float) -> None:
        """The node at the far end of a link tells where others can dial it."""
        if (node := self._active.over(link)) is None:
            return
        if not node.fits(contact):
            self._unbelieved += 1
            return
        node.contact = contact
        self._introduce(node)

    def up(self, link: Link, now: float) -> None:
        """The frontier of the peer has come: the link counts."""
        if (node := self._active.over(link)) is None:
            return
        if not node.up:
            node.since = now
        node.links[link] = True
        self._passive.remove(node.id)
        node.seeks |= self._search.found(node.id)
        self._end(self._rewiring.up(node.id), now)
        self._introduce(node)
        self._search.resume(now, now)
        if self._shuffle_at is None:
            self._shuffle_at = now + self._config.shuffle_interval * self._randomness.random()
        if len(self._active) < self._config.active_view and not self._passive.ready(now):
            soon = now + jitter(self._config.overlay_interval, self._randomness)
            self._shuffle_at = min(self._shuffle_at, soon)

    def closed(self, link: Link, reason: Reason, now: float) -> None:
        """The link is closed, by whichever end."""
        node = self._active.remove(link)
        self._walks.pop(link, None)
        if node is None:
            return
        self._rewiring.closed(node, link)
        self._rewiring.review(now)
        if node.links:
            return
        if node.contact is not None and reason in _COMES_BACK:
            self._learn((node.contact,), MET, now)
        if self._search.lost(node.id, now) or reason is Reason.ROOM:
            self._passive.had_no_room(node.id, now)

    def dial_failed(self, id: bytes, now: float) -> None:
        """What was dialled for the node *id* did not lead to it."""
        self._search.failed(id, now)
        self._rewiring.failed(id)

    # ── frames ──────────────────────────────────────────────────────────────────────

    def known(self, contacts: Sequence[Contact], link: Link | None, now: float) -> None:
        """Nodes have said over *link* where they are; None: this node's own memory has."""
        if link is None:
            self._learn(contacts, MET, now)
            return
        if (node := self._active.over(link)) is not None:
            believable = [contact for contact in contacts if node.fits(contact)]
            for contact in believable:
                self._moved(contact)
            self._unbelieved += len(contacts) - len(believable)
            self._learn(believable, node.id, now, own_word=True)

    def forward_join(self, link: Link, frame: ForwardJoin, now: float) -> None:
        """A FORWARD_JOIN came over *link*."""
        peer = self._active.over(link)
        contact = frame.contact
        if peer is None or not peer.up:
            return
        believable = peer.fits(contact) and contact.id != self._own_id
        self._unbelieved += not believable
        if frame.instead:
            if frame.left:
                self._rewiring.answered(peer, contact.id, now)
            elif believable and contact.id != peer.id:
                self._end(self._rewiring.asked(link, contact, now), now)
            else:
                self._rewiring.refuse(link, contact)
        elif believable and self._lets_walk(link, now):
            self._walk(peer, contact, min(frame.left, self._config.active_walk), now)

    def shuffle(self, link: Link, frame: Shuffle, now: float) -> None:
        """A SHUFFLE came over *link*."""
        peer = self._active.over(link)
        if peer is not None and peer.up and self._lets_walk(link, now):
            self._shuffles.came(peer, link, frame)
            self._search.resume(now, now)

    def shuffle_reply(self, link: Link, frame: ShuffleReply, now: float) -> None:
        """A SHUFFLE_REPLY came over *link*."""
        if (peer := self._active.over(link)) is not None and peer.up:
            self._shuffles.answered(peer, link, frame)
            self._search.resume(now, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._search.tick(now)
        if self._shuffle_at is not None and self._shuffle_at <= now:
            self._shuffles.begin(self.me)
            pause = self._config.shuffle_interval * (0.75 + self._randomness.random() / 2)
            self._shuffle_at = now + pause if len(self._active) else None
        self._rewiring.tick(now)

    def _end(self, link: Link | None, now: float) -> None:
        """End *link*, in whose place there is another, if there is one to end."""
        if link is not None:
            self._effects.end(link, Reason.ROOM, _TAKES_PLACE)
            self.closed(link, Reason.ROOM, now)

    # ── walks ───────────────────────────────────────────────────────────────────────

    def _introduce(self, node: Neighbour) -> None:
        """Send the address of a newcomer on walks, once its link counts and the address is known."""
        if not node.joins or not node.up:
            return
        node.seeks = True
        if node.contact is None:
            return
        node.joins = False
        ways = self._ways(node, node.contact)
        # Where there are too many neighbours already the newcomer gets some of those.
        walks = WALKS if len(self._active) <= self._config.active_view + SPARE else 1
        for way in self._randomness.sample(ways, min(walks, len(ways))):
            self._effects.send((way.way,), ForwardJoin(node.contact, self._config.active_walk, False))

    def _walk(self, peer: Neighbour, contact: Contact, left: int, now: float) -> None:
        ways = self._ways(peer, contact)
        if left and ways:
            if left == self._config.passive_walk:
                self._learn((contact,), peer.id, now)
            to = self._randomness.choice(ways).way
            self._effects.send((to,), ForwardJoin(contact, left - 1, False))
        elif self._active.get(contact.id) is None and not self._search.welcome(contact, now):
            self._learn((contact,), peer.id, now)

    def _ways(self, but: Neighbour, contact: Contact) -> list[Neighbour]:
        return [
            node
            for node in self._active.up()
            if node is not but and node.id != contact.id and node.fits(contact)
        ]

    def _lets_walk(self, link: Link, now: float) -> bool:
        if (bucket := self._walks.get(link)) is None:
            bucket = self._walks[link] = RateLimit(WALK_BURST, WALK_RATE)
        taken = bucket.take(now)
        self._dropped_walks += not taken
        return taken

    def _moved(self, contact: Contact) -> None:
        """A node says that it can be dialled there: of a neighbour others are told that from now on."""
        neighbour = self._active.get(contact.id)
        if neighbour is not None and neighbour.fits(contact):
            neighbour.contact = contact
            self._introduce(neighbour)

    def _learn(
        self, contacts: Sequence[Contact], source: bytes, now: float, *, own_word: bool = False
    ) -> None:
        """*source* told of nodes; of a long list some that are drawn."""
        if len(contacts) > self._config.passive_view:
            contacts = self._randomness.sample(contacts, self._config.passive_view)
        for contact in contacts:
            self._passive.add(contact, source, own_word=own_word or source == MET)
        self._search.resume(now, now)
