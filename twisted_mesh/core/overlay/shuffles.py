"""How passive views are mixed: a few contacts go on a random walk, and some others come back.

Contract: an answer takes the way of its question back, so every node on it remembers, for a while, from
where a walk came and where it went on.  An answer that comes over another link, or again, or to a
question nobody remembers, is dropped: who was not asked tells this node nothing.
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
    """A walk this node has begun or handed on.

    :ivar back: the link it came over, None where it began here.
    :ivar on: the link it went on over; :ivar sent: ids of the contacts it took along from here.
    """

    back: Link | None
    on: Link
    sent: list[bytes]


@dataclass(eq=False)
class Shuffles:
    """The walks of this node, and those of others that came by.

    :ivar strays: answers to nothing, so far; :ivar unbelieved: contacts that were not believed.
    """

    _active: ActiveView
    _passive: PassiveView
    _config: MeshConfig
    _randomness: Randomness
    _effects: Effects
    _walks: OrderedDict[int, _Walk] = field(default_factory=OrderedDict)  # by token
    strays: int = 0
    unbelieved: int = 0

    def begin(self, me: Contact | None) -> None:
        """Send some contacts on a walk.

        :param me: where this node can be dialled, None if nobody can.
        """
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

    def came(self, peer: Neighbour, link: Link, frame: Shuffle) -> None:
        """A walk came from *peer* over *link*: it goes on, or ends here and is answered."""
        known = self._walks.get(frame.token)
        if known is not None and known.back is None:
            return  # it is this node's own: nobody is waiting for that answer
        told = {contact.id for contact in frame.contacts}
        left = min(frame.left, self._config.active_walk) - 1
        ways = [node for node in self._active.up() if node is not peer and node.id not in told]
        if left > 0 and ways and known is None:
            to = self._randomness.choice(ways)
            self._remember(frame.token, _Walk(link, to.way, []))
            contacts = [contact for contact in frame.contacts if to.fits(contact)]
            self._effects.send((to.way,), Shuffle(frame.token, contacts, left))
            return
        answer = self._answer(peer, told)
        self._effects.send((link,), ShuffleReply(frame.token, answer))
        self._take(frame.contacts, peer, [contact.id for contact in answer])

    def answered(self, peer: Neighbour, link: Link, frame: ShuffleReply) -> None:
        """An answer came from *peer* over *link*: it goes back, or was for this node."""
        if (walk := self._walks.get(frame.token)) is None or walk.on is not link:
            self.strays += 1
            return
        del self._walks[frame.token]
        if walk.back is None:
            self._take(frame.contacts, peer, walk.sent)
            return
        if (to := self._active.over(walk.back)) is not None and to.up:
            contacts = [contact for contact in frame.contacts if to.fits(contact)]
            self._effects.send((walk.back,), ShuffleReply(frame.token, contacts))

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"shuffle_walks": len(self._walks)}

    def _answer(self, peer: Neighbour, told: Iterable[bytes]) -> list[Contact]:
        """As many contacts as a question has: who knows nobody yet, and nobody can dial, sends none.

        Where the passive view has not so many there are neighbours among them.
        """
        wanted = self._config.shuffle_active + self._config.shuffle_passive
        told = {*told, peer.id}
        passive = [contact for contact in self._passive.contacts() if contact.id not in told]
        contacts = self._some(passive, wanted, peer)
        active = [node.contact for node in self._active.up() if node.contact and node.id not in told]
        return contacts + self._some(active, wanted - len(contacts), peer)

    def _some(self, contacts: list[Contact], most: int, to: Neighbour) -> list[Contact]:
        fitting = [contact for contact in contacts if to.fits(contact)]
        return self._randomness.sample(fitting, min(most, len(fitting)))

    def _take(self, contacts: list[Contact], peer: Neighbour, sent: list[bytes]) -> None:
        for contact in contacts:
            if peer.fits(contact):
                self._passive.add(contact, peer.id, sent)
            else:
                self.unbelieved += 1

    def _remember(self, token: int, walk: _Walk) -> None:
        self._walks[token] = walk
        if len(self._walks) > self._config.shuffle_walks:
            self._walks.popitem(last=False)
