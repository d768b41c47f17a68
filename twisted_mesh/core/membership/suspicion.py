"""Suspicion: a node whose link ended without a BYE may be gone; if it is up, it refutes the suspicion.

Contract: the neighbour that lost the link sends a SUSPECT, which names the newest record that it knows.
The first SUSPECT for each record counts and floods, since it must reach the suspect over any links that are
left.  The suspect's next record ends the suspicion; without one the suspect is down after
``suspect_patience`` seconds.  Only members accuse, each once in ``accuse_pause`` seconds, so that no member
can keep the mesh busy.  The suspect refutes every accuser, also an unknown one, which other nodes may know.
A node that has a newer record of the suspect sends it to the accuser.

Half of ``suspect_patience`` after a suspicion a node accuses the suspect before all its neighbours.  The
neighbour that brings the suspect's records may lie, and keep back the one that refutes the suspicion; the
others would not push it, since this node has pruned them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.announcing import Announcing
from twisted_mesh.core.membership.key_conflict import KeyConflict
from twisted_mesh.core.membership.record_push import RecordPush
from twisted_mesh.core.membership.roster import Author, Rank, Roster, State
from twisted_mesh.core.signing import Signer
from twisted_mesh.wire.membership import Suspect
from twisted_mesh.wire.signed import SignedRecord

_AT_ONCE: Final = 16  # suspects for which neighbours are asked at a time: of many, most are gone (guess)
_PAUSE: Final = 1.0  # seconds from one such time to the next (guess)


@dataclass(eq=False)
class Suspicion:
    """The suspicions that one node has, and those against it."""

    _local_node: LocalNode
    _config: MeshConfig
    _roster: Roster
    _conflict: KeyConflict
    _announcing: Announcing
    _records: RecordPush
    _effects: Effects
    _accused: float = -inf
    #: The suspects that are still to be asked for, the first to be asked for first: the rank of the record
    #: that the suspicion names, the SUSPECT, and when to ask.
    _unasked: dict[bytes, tuple[Rank, SignedRecord, float]] = field(default_factory=dict)
    _asked_at: float = -inf
    idle: int = 0  # how many suspicions did not count

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)

    def lost(self, peer: bytes, now: float) -> None:
        """Suspect *peer*, whose last link ended without a BYE, and tell the other nodes."""
        accused = self._roster.get(peer)
        if accused is None or accused.state is not State.UP or not accused.is_member:
            return
        if self._effects.late(Timer.ROSTER, now) > self._config.stall_grace:
            return  # this node itself was held up, and may have been silent
        if self._announcing.speaks and now >= self._accused + self._config.accuse_pause:
            self._accused = now
            self._suspected(accused, self._accusation(accused), None, now)

    def linked(self, link: Link) -> None:
        """Accuse the peer of a new link if the peer counts as gone here, so that it sends a record."""
        accused = self._roster.get(link.peer.origin)
        if accused is None or accused.state in (State.UP, State.LEFT) or not accused.is_member:
            return
        if self._announcing.speaks:
            self._effects.send((link,), self._accusation(accused))

    def received(self, link: Link, signed: SignedRecord, suspect: Suspect, now: float) -> None:
        """Take in a SUSPECT that came over *link*; RemoteError if its signature is false."""
        accuser = self._roster.get(suspect.accuser)
        rank: Rank = (suspect.epoch, suspect.counter)
        accused = self._roster.get(suspect.member)
        if suspect.member != self._local_node.origin:
            newest = self._roster.rank(suspect.member)
            counts = (
                accused is not None
                and accused.rank == rank
                and accused.state is State.UP
                and accused.is_member
            )
        elif self._conflict:
            counts, newest = rank == self._conflict.rank, self._conflict.rank
        elif self._announcing.is_accused(rank) and suspect.accuser != self._local_node.origin:
            self._refute(accuser, signed, now)
            return
        else:
            counts, newest = False, self._announcing.rank
        may_accuse = (
            accuser is not None and accuser is not accused and accuser.is_there and accuser.is_member
        )
        if accuser is None or not counts or not may_accuse:
            self.idle += 1
            if rank < newest and not link.closing:
                self._records.introduce(link, suspect.member, now)
            return
        if accused is not None and now < accuser.accused + self._config.accuse_pause:
            self.idle += 1
            self._pass_on(link, signed, accused)
            return
        self._signer.require(signed)
        accuser.accused = now
        if accused is None:
            self._conflict.suspected(now)
            self._flood(signed.relayed(), link, now)
        else:
            self._suspected(accused, signed.relayed(), link, now)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"unasked_suspects": len(self._unasked)}

    @property
    def wake(self) -> float:
        """When to call :meth:`tick` next; inf for never."""
        if not self._unasked:
            return inf
        return max(next(iter(self._unasked.values()))[2], self._asked_at + _PAUSE)

    def tick(self, now: float) -> None:
        """Ask all neighbours for a newer record of nodes that have been suspected for long."""
        if self.wake > now:
            return
        self._asked_at, asked = now, 0
        for origin, (rank, signed, at) in list(self._unasked.items()):
            if at > now or asked == _AT_ONCE:
                return
            del self._unasked[origin]
            suspect = self._roster.get(origin)
            if suspect is not None and suspect.state is State.SUSPECT and suspect.rank == rank:
                # The own one, if there can be one: the limits of its author count it.
                speaks = self._announcing.speaks
                self._records.flood(self._accusation(suspect) if speaks else signed, None)
                asked += 1

    def _refute(self, accuser: Author | None, signed: SignedRecord, now: float) -> None:
        """Refute a suspicion of this node, also by an accuser that is unknown here."""
        self._signer.require(signed)
        if accuser is not None:
            accuser.accused = now
        self._announcing.refute(now)

    def _pass_on(self, link: Link, signed: SignedRecord, accused: Author) -> None:
        """Pass on a suspicion that comes too soon to count here, since it may count at other nodes.

        The suspicion goes towards the suspect only, once for each record of the suspect.
        """
        if accused.warned == accused.rank:
            return
        self._signer.require(signed)
        accused.warned = accused.rank
        self._records.warn(accused.presence.origin, signed, link)

    def _accusation(self, accused: Author) -> SignedRecord:
        suspect = Suspect(self._local_node.origin, accused.presence.origin, *accused.rank)
        return self._signer.signed(suspect)

    def _suspected(self, accused: Author, signed: SignedRecord, source: Link | None, now: float) -> None:
        self._roster.suspect(accused, now)
        self._effects.emit(accused.changed())
        origin = accused.presence.origin
        self._unasked.pop(origin, None)
        self._unasked[origin] = accused.rank, signed, now + self._config.suspect_patience / 2
        if len(self._unasked) > self._config.members_limit:  # some have left the roster meanwhile
            del self._unasked[next(iter(self._unasked))]
        self._flood(signed, source, now)

    def _flood(self, signed: SignedRecord, source: Link | None, now: float) -> None:
        self._records.flood(signed, source)
        self._effects.set_timer(Timer.ROSTER, min(self.wake, now + self._config.suspect_patience))
