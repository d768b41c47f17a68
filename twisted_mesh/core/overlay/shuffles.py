"""How nodes swap contacts: a SHUFFLE takes some on a random walk, and its answer brings others back.

Contract: an answer takes the way of its question back.  So every node on the way remembers, for a while,
over which link a walk came, and over which link it went on.  An answer is dropped if it comes over another
link, comes again, or belongs to no remembered walk: a node that was not asked cannot fill the passive view.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.link import Link
from twisted_mesh.core.overlay.views import ActiveView, Neighbour, PassiveView, Randomness
from twisted_mesh.wire.membership import Contact, Shuffle, ShuffleReply


@dataclass(eq=False, slots=True)
class _Walk:
    """A walk that this node has begun or passed on."""

    back: Link | None  # the link over which it came; None if it began here
    on: Link  # the link over which it went on
    sent: list[bytes]  # the ids of the contacts that this node sent with it


@dataclass(eq=False)
class Shuffles:
    """The walks that this node has begun or passed on."""

    _active: ActiveView
    _passive: PassiveView
    _config: MeshConfig
    _randomness: Randomness
    _effects: Effects
    _walks: OrderedDict[int, _Walk] = field(default_factory=OrderedDict)  # by token
    strays: int = 0  # answers that were dropped so far
    unbelieved: int = 0  # contacts that were not believed so far

    def begin(self, me: Contact | None) -> None:
        """Send some contacts on a walk, with *me*, the contact of this node, if there is one."""
        ways = self._active.up()
        if not ways:
            return
        to = self._randomness.choice(ways)
        others = [node.contact for node in ways if node.contact is not None and node is not to]
        contacts = self._some(others, self._config.shuffle_active, to)
        contacts += self._some(self._passive.contacts(), self._config.shuffle_passive, to)
        if me is not None and to.fits(me):
            contacts.insert(0, me)
        token = int(self._randomness.random() * 2**53)
        self._remember(token, _Walk(None, to.way, [contact.id for contact in contacts]))
        self._effects.send((to.way,), Shuffle(token, contacts, self._config.active_walk))

    def came(self, peer: Neighbour, link: Link, frame: Shuffle, learns: bool) -> None:
        """Pass on a walk that came from *peer* over *link*, or end and answer it.

        :param learns: whether to learn the contacts in it.
        """
        known = self._walks.get(frame.token)
        if known is not None and known.back is None:
            return  # this node began the walk, so nobody waits for an answer
        offered = {contact.id for contact in frame.contacts}
        left = min(frame.left, self._config.active_walk) - 1
        ways = [node for node in self._active.up() if node is not peer and node.id not in offered]
        if left > 0 and ways and known is None:
            to = self._randomness.choice(ways)
            self._remember(frame.token, _Walk(link, to.way, []))
            contacts = [contact for contact in frame.contacts if to.fits(contact)]
            self._effects.send((to.way,), Shuffle(frame.token, contacts, left))
            return
        answer = self._answer(peer, offered)
        self._effects.send((link,), ShuffleReply(frame.token, answer))
        if learns:
            self._learn(frame.contacts, peer, [contact.id for contact in answer])

    def answered(self, peer: Neighbour, link: Link, frame: ShuffleReply, learns: bool) -> None:
        """Pass back an answer that came from *peer* over *link*, or use it if this node asked.

        :param learns: whether to learn the contacts in it.
        """
        if (walk := self._walks.get(frame.token)) is None or walk.on is not link:
            self.strays += 1
            return
        del self._walks[frame.token]
        if walk.back is None:
            if learns:
                self._learn(frame.contacts, peer, walk.sent)
            return
        if (to := self._active.over(walk.back)) is not None and to.up:
            contacts = [contact for contact in frame.contacts if to.fits(contact)]
            self._effects.send((walk.back,), ShuffleReply(frame.token, contacts))

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"shuffle_walks": len(self._walks)}

    def _answer(self, peer: Neighbour, offered: Iterable[bytes]) -> list[Contact]:
        """As many contacts as a question has, also neighbours if the passive view has too few others."""
        wanted = self._config.shuffle_active + self._config.shuffle_passive
        known = {*offered, peer.id}
        passive = [contact for contact in self._passive.contacts() if contact.id not in known]
        contacts = self._some(passive, wanted, peer)
        active = [node.contact for node in self._active.up() if node.contact and node.id not in known]
        return contacts + self._some(active, wanted - len(contacts), peer)

    def _some(self, contacts: list[Contact], most: int, to: Neighbour) -> list[Contact]:
        fitting = [contact for contact in contacts if to.fits(contact)]
        return self._randomness.sample(fitting, min(most, len(fitting)))

    def _learn(self, contacts: list[Contact], peer: Neighbour, sent: list[bytes]) -> None:
        for contact in contacts:
            if peer.fits(contact):
                self._passive.add(contact, peer.teller, sent)
            else:
                self.unbelieved += 1

    def _remember(self, token: int, walk: _Walk) -> None:
        self._walks[token] = walk
        if len(self._walks) > self._config.shuffle_walks:
            self._walks.popitem(last=False)
