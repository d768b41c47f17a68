"""The overlay: chooses the neighbours of a node, so that a mesh of any size is connected and stays so.

Contract: the overlay keeps about ``active_view`` neighbours by dialling contacts that it was told of.  In a
mesh of up to ``active_view`` + 1 nodes all are neighbours of all.  Nothing here splits a mesh: a node
without room refuses a link before it is up, or moves a neighbour to another node
(:mod:`~twisted_mesh.core.overlay.rewiring`).

The node that a newcomer joins sends the newcomer's address on random walks, and the nodes at their ends
dial it.  A node with too few neighbours looks for more (:mod:`~twisted_mesh.core.overlay.search`).
Contacts are swapped by shuffles (:mod:`~twisted_mesh.core.overlay.shuffles`), and kept for the time when
neighbours fail (:mod:`~twisted_mesh.core.overlay.views`).

Source: HyParView (Leitao, Pereira, Rodrigues 2007).  Unlike there, no node is disconnected to make room:
links are moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.link import Link
from twisted_mesh.core.overlay.rewiring import SPARE, Rewiring
from twisted_mesh.core.overlay.search import Search
from twisted_mesh.core.overlay.shuffles import Shuffles
from twisted_mesh.core.overlay.tellers import Tellers
from twisted_mesh.core.overlay.views import (
    MET,
    ActiveView,
    Dial,
    Neighbour,
    PassiveView,
    Randomness,
    jitter,
)
from twisted_mesh.core.reachability import believed
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import Contact, ForwardJoin, Purpose, Shuffle, ShuffleReply

#: Walks for each newcomer.  With the neighbours that are moved to it, it gets about as many links as it
#: wants (measured: after ten seconds 5 of 100 newcomers had seven or more links; with one walk for each
#: neighbour, as in HyParView, 18 had).
WALKS: Final = 2

_TAKES_PLACE: Final = "another takes the place of this link"
#: Reasons after which a node may be dialled again.  After any other it left, was refused, or misbehaved.
_COMES_BACK: Final = frozenset(
    (
        *(Reason.ROOM, Reason.FULL, Reason.DUPLICATE, Reason.KEY),
        *(Reason.LOST, Reason.SILENT, Reason.SLOW, Reason.TIMEOUT),
    )
)


@dataclass(eq=False)
class Overlay:
    """The overlay of one node.  Frames that come over a link before :meth:`link_up` do not count."""

    me: Contact | None  # the contact of this node; None if nobody can dial it
    _own_id: bytes
    _config: MeshConfig
    _randomness: Randomness
    _effects: Effects
    _dial: Dial
    _active: ActiveView = field(default_factory=ActiveView)
    _shuffle_at: float | None = None
    _dropped_walks: int = 0
    _unbelieved: int = 0
    _unheeded: int = 0

    def __post_init__(self) -> None:
        active, config, randomness = self._active, self._config, self._randomness
        self._passive = PassiveView(self._own_id, config.passive_view, active, randomness)
        self._rewiring = Rewiring(active, config, randomness, self._effects, self._dial)
        self._shuffles = Shuffles(active, self._passive, config, randomness, self._effects)
        self._search = Search(active, self._passive, config, randomness, self._dial)
        self._tellers = Tellers(config)

    @property
    def wake(self) -> float | None:
        """When to call :meth:`tick` next; None if nothing is due."""
        times = [self._search.wake, self._shuffle_at, self._rewiring.wake, self._rewiring.deadline]
        return min((time for time in times if time is not None), default=None)

    @property
    def counts(self) -> dict[str, int]:
        """How much was ignored, or dropped for lack of room, so far, by name."""
        return {
            "dropped_walks": self._dropped_walks,
            "unbelieved_contacts": self._unbelieved + self._shuffles.unbelieved,
            "unheeded_gossip": self._unheeded,
            "stray_shuffles": self._shuffles.strays,
        }

    def contacts(self) -> list[Contact]:
        """The nodes that this node could dial."""
        return self._passive.contacts()

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            **self._active.footprint(),
            **self._passive.footprint(),
            **self._rewiring.footprint(),
            **self._shuffles.footprint(),
            **self._tellers.footprint(),
            "overlay_dials": len(self._search),
        }

    # ── links ───────────────────────────────────────────────────────────────────────

    def opened(self, link: Link, contact: Contact | None, now: float) -> bool:
        """Take in a new link that is no exchange; False if it must be refused with ROOM.

        :param contact: the contact of the peer, if the peer told one; :meth:`located` can follow.
        """
        id, purpose, outgoing = link.peer.id, link.purpose, link.outgoing
        if outgoing:
            self._tellers.ended(id)
        if self._active.get(id) is None and not self._has_room_for(link, now):
            if outgoing:
                self._search.drop(id)
            if contact is not None and believed(contact.host, link.host):
                self._learn((contact,), MET, now)
            return False
        node = self._active.add(link, now)
        node.drawn |= outgoing and (purpose is Purpose.JOIN or self._search.drew(id))
        node.unsought = len(node.links) == 1 and self._is_unsought(link)
        node.pinned |= outgoing and purpose is Purpose.JOIN
        if purpose is Purpose.JOIN and not outgoing:
            node.joins = True
            self._rewiring.joined()
        if contact is not None:
            self.located(link, contact, now)
        self._rewiring.review(now)
        return True

    def _has_room_for(self, link: Link, now: float) -> bool:
        if link.purpose is Purpose.NEIGHBOUR and not self._search.has_room_for(link, now):
            return False
        return not self._is_unsought(link) or self._active.has_room_for_unsought(link.host)

    @staticmethod
    def _is_unsought(link: Link) -> bool:
        """Whether only the peer's overlay wants the link: neither this node nor an application does."""
        return not link.outgoing and link.purpose is not Purpose.JOIN

    def located(self, link: Link, contact: Contact, now: float) -> None:
        """Take in that the peer of a link says where others can dial it."""
        if (node := self._active.over(link)) is None:
            return
        if not node.fits(contact):
            self._unbelieved += 1
            return
        node.contact = contact
        self._introduce(node)

    def link_up(self, link: Link, now: float) -> None:
        """Take in that the frontier of the peer has come, so that the link counts."""
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
        """Take in that a link ends."""
        node = self._active.remove(link)
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
        """Take in that the dial of the node *id* did not lead to it."""
        if teller := self._tellers.ended(id) or self._passive.told_by(id):
            self._tellers.told_falsely(teller, now)
        self._search.failed(id, now)
        self._rewiring.failed(id)

    # ── frames ──────────────────────────────────────────────────────────────────────

    def known(self, contacts: Sequence[Contact], link: Link | None, now: float) -> None:
        """Take in contacts from records that came over *link*, or from earlier runs of this node (None)."""
        if link is None:
            self._learn(contacts, MET, now)
            return
        if (node := self._active.over(link)) is not None:
            believable = [contact for contact in contacts if node.fits(contact)]
            for contact in believable:
                self._moved(contact)
            self._unbelieved += len(contacts) - len(believable)
            self._learn(believable, node.teller, now, own_word=True)

    def forward_join(self, link: Link, frame: ForwardJoin, now: float) -> None:
        """Take in a FORWARD_JOIN that came over *link*."""
        peer = self._active.over(link)
        contact = frame.contact
        if peer is None or not peer.up:
            return
        believable = peer.fits(contact) and contact.id != self._own_id
        self._unbelieved += not believable
        if frame.instead:
            if frame.left:
                self._rewiring.answered(link, peer, contact.id, now)
            elif believable and contact.id != peer.id and self._heeds(peer, now):
                self._tellers.dialled(contact.id, peer.teller)
                self._end(self._rewiring.asked(link, contact, now), now)
            else:
                self._rewiring.refuse(link, contact)
        elif believable and self._lets_walk(link, now):
            self._walk(peer, contact, min(frame.left, self._config.active_walk), now)

    def shuffle(self, link: Link, frame: Shuffle, now: float) -> None:
        """Take in a SHUFFLE that came over *link*."""
        peer = self._active.over(link)
        if peer is not None and peer.up and self._lets_walk(link, now):
            self._shuffles.came(peer, link, frame, self._heeds(peer, now))
            self._search.resume(now, now)

    def shuffle_reply(self, link: Link, frame: ShuffleReply, now: float) -> None:
        """Take in a SHUFFLE_REPLY that came over *link*."""
        if (peer := self._active.over(link)) is not None and peer.up:
            self._shuffles.answered(peer, link, frame, self._heeds(peer, now))
            self._search.resume(now, now)

    def tick(self, now: float) -> None:
        """Make the dials, the shuffle and the moves that are due."""
        self._search.tick(now)
        if self._shuffle_at is not None and self._shuffle_at <= now:
            self._shuffles.begin(self.me)
            pause = self._config.shuffle_interval * (0.75 + self._randomness.random() / 2)
            self._shuffle_at = now + pause if len(self._active) else None
        self._rewiring.tick(now)

    def _end(self, link: Link | None, now: float) -> None:
        """End *link*, unless it is None, since another link takes its place."""
        if link is not None:
            self._effects.end(link, Reason.ROOM, _TAKES_PLACE)
            self.closed(link, Reason.ROOM, now)

    # ── walks ───────────────────────────────────────────────────────────────────────

    def _introduce(self, node: Neighbour) -> None:
        """Send the address of a newcomer on walks, once its link is up and the address is known."""
        if not node.joins or not node.up:
            return
        node.seeks = True
        if node.contact is None:
            return
        node.joins = False
        ways = self._ways(node, node.contact)
        # If this node has too many neighbours, some of them are moved to the newcomer.
        walks = WALKS if len(self._active) <= self._config.active_view + SPARE else 1
        for way in self._randomness.sample(ways, min(walks, len(ways))):
            self._effects.send((way.way,), ForwardJoin(node.contact, self._config.active_walk, False))

    def _walk(self, peer: Neighbour, contact: Contact, left: int, now: float) -> None:
        ways = self._ways(peer, contact)
        if left and ways:
            if left == self._config.passive_walk:
                self._learn((contact,), peer.teller, now)
            to = self._randomness.choice(ways).way
            self._effects.send((to,), ForwardJoin(contact, left - 1, False))
        elif self._active.get(contact.id) is None and self._heeds(peer, now):
            if self._search.welcome(contact, now):
                self._tellers.dialled(contact.id, peer.teller)
            else:
                self._learn((contact,), peer.teller, now)

    def _ways(self, but: Neighbour, contact: Contact) -> list[Neighbour]:
        return [
            node
            for node in self._active.up()
            if node is not but and node.id != contact.id and node.fits(contact)
        ]

    def _lets_walk(self, link: Link, now: float) -> bool:
        may = link.rates.walks.take(now)
        self._dropped_walks += not may
        return may

    def _heeds(self, peer: Neighbour, now: float) -> bool:
        """Whether to dial nodes on the word of *peer*."""
        heeds = self._tellers.is_heeded(peer.teller, now)
        self._unheeded += not heeds
        return heeds

    def _moved(self, contact: Contact) -> None:
        """Note the new address of a node, if the node is a neighbour."""
        neighbour = self._active.get(contact.id)
        if neighbour is not None and neighbour.fits(contact):
            neighbour.contact = contact
            self._introduce(neighbour)

    def _learn(
        self, contacts: Sequence[Contact], source: bytes, now: float, *, own_word: bool = False
    ) -> None:
        """Add to the passive view the contacts that *source* told; of too many, a random choice."""
        if len(contacts) > self._config.passive_view:
            contacts = self._randomness.sample(contacts, self._config.passive_view)
        for contact in contacts:
            self._passive.add(contact, source, own_word=own_word or source == MET)
        self._search.resume(now, now)
