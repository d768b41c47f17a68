"""Forgetting: a member that is gone leaves the rosters of all nodes as soon as another member asks for it.

Contract: the *asker* signs a FORGET, which names the newest record of the member that is gone.  The FORGET
counts at a node that has no newer record of that member, and to which the member is down or has left.
That it is down by the age alone that another node told of its record is not enough: ages are not signed.
There the member leaves the roster, and the FORGET goes on to all neighbours.  So a FORGET says nothing any
more once the member has sent another record, and a member that is up cannot be forgotten.

A node that still has the member on its roster tells that to its next new neighbours, and those that have
forgotten the member answer with the FORGET.  So nodes that were cut off forget it, too.

A node that may only listen, by its grant, asks for nothing.  An asker that was up for ``established_after``
may have ``forgets_burst`` members forgotten in a row, and ``forgets_a_minute``.  All others together may
have as many forgotten as one: anybody can make up authors, and let them be silent.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.admission import Admission
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import MemberGone
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.announcing import Announcing
from twisted_mesh.core.membership.record_push import RecordPush
from twisted_mesh.core.membership.roster import Author, Rank, Roster
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.core.signing import Signer
from twisted_mesh.wire.membership import Forget
from twisted_mesh.wire.signed import SignedRecord


@dataclass(eq=False)
class Forgetting:
    """The members that this node forgets, on its own word and on that of others.

    :ivar idle: how many FORGETs did not count.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _roster: Roster
    _admission: Admission
    _announcing: Announcing
    _records: RecordPush
    _effects: Effects
    idle: int = 0

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)
        self._of_others = self._new_limit()

    def ask(self, origin: bytes, now: float) -> Author | None:
        """Forget a member that is gone, and ask all other nodes to do so; return it if that can be."""
        author = self._gone(origin)
        may_forget = self._announcing.speaks and self._admission.may_forget(self._local_node.origin)
        if author is None or not may_forget:
            return None
        signed = self._signer.signed(Forget(self._local_node.origin, origin, *author.rank))
        self._forget(author, signed, None, now)
        return author

    def received(self, link: Link, signed: SignedRecord, forget: Forget, now: float) -> Author | None:
        """Take in a FORGET that came over *link*; return the member if it is forgotten now.

        :raises RemoteError: the signature is false.
        """
        rank: Rank = (forget.epoch, forget.counter)
        asker, author = self._roster.get(forget.asker), self._gone(forget.member)
        if forget.member == self._local_node.origin:
            newest = self._announcing.rank
            if forget.asker != forget.member and self._announcing.is_accused(rank):
                self._signer.require(signed)
                self._announcing.refute(now)
                return None
        else:
            newest = self._roster.rank(forget.member)
        counts = author is not None and author.rank == rank and not self._roster.is_down_by_age(author, now)
        may_ask = asker is not None and asker is not author and self._may_ask(asker)
        if author is None or asker is None or not (counts and may_ask):
            self.idle += 1
            if rank < newest and not link.closing:
                self._records.introduce(link, forget.member, now)
            return None
        limit = self._limit(asker)
        if not limit.has(now):
            self.idle += 1
            return None
        self._signer.require(signed)
        limit.spend(now)
        self._forget(author, signed.relayed(), link, now)
        return author

    def _may_ask(self, asker: Author) -> bool:
        return asker.is_member and self._admission.may_forget(asker.presence.origin)

    def _gone(self, origin: bytes) -> Author | None:
        """The member with that origin, if it is down or has left."""
        author = self._roster.get(origin)
        return None if author is None or author.is_there or not author.is_member else author

    def _forget(self, author: Author, signed: SignedRecord, source: Link | None, now: float) -> None:
        origin = author.presence.origin
        self._roster.forget(author, signed, now)
        self._admission.forgotten(author.signed, origin, now)
        self._effects.emit(MemberGone(origin, signed.record.signer))
        self._records.flood(signed, source)

    def _limit(self, asker: Author) -> RateLimit:
        """How often *asker* may have members forgotten."""
        if asker.shown_for < self._config.established_after:
            return self._of_others
        if asker.forgets is None:
            asker.forgets = self._new_limit()
        return asker.forgets

    def _new_limit(self) -> RateLimit:
        return RateLimit(self._config.forgets_burst, self._config.forgets_a_minute / 60)
