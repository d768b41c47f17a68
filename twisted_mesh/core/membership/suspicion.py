"""Suspicion: a neighbour whose link ended without a goodbye may be gone; if it is up, it refutes that.

Contract: the former neighbour's SUSPECT names the newest record that it knows.  The first SUSPECT for each
record counts and floods, since it must reach the suspect over any links that are left.  The suspect's next
record ends the suspicion; without one it is down after ``suspect_patience`` seconds.  Only members accuse,
each once in ``accuse_pause`` seconds, so that none can keep the mesh busy.  The suspect refutes whoever
accuses it, since others may know an accuser that it does not know.  If an accuser lacks a newer record, a
node that has the record sends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.announcing import Announcing
from twisted_mesh.core.membership.key_conflict import KeyConflict
from twisted_mesh.core.membership.record_push import RecordPush
from twisted_mesh.core.membership.roster import Entry, Rank, Roster, State
from twisted_mesh.core.signing import Signer
from twisted_mesh.wire.membership import Suspect
from twisted_mesh.wire.signed import SignedRecord


@dataclass(eq=False)
class Suspicion:
    """The suspicions of one node, and those against it.

    :ivar idle: how many suspicions did not count.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _roster: Roster
    _conflict: KeyConflict
    _announcing: Announcing
    _records: RecordPush
    _effects: Effects
    _accused: float = -inf
    idle: int = 0

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)

    def lost(self, peer: bytes, now: float) -> None:
        """Suspect *peer*, to which the last link ended without a goodbye, and tell the others."""
        entry = self._roster.get(peer)
        if entry is None or entry.state is not State.UP or not entry.is_member:
            return
        if self._effects.late(Timer.ROSTER, now) > self._config.stall_grace:
            return  # this node itself was silent
        if self._announcing.speaks and now >= self._accused + self._config.accuse_pause:
            self._accused = now
            self._suspected(entry, self._accusation(entry), None, now)

    def linked(self, link: Link) -> None:
        """Tell the peer of a link that is up if it counts as gone here, so that it sends another record."""
        entry = self._roster.get(link.peer.origin)
        if entry is None or entry.state in (State.UP, State.LEFT) or not entry.is_member:
            return
        if self._announcing.speaks:
            self._effects.send((link,), self._accusation(entry))

    def received(self, link: Link, signed: SignedRecord, suspect: Suspect, now: float) -> None:
        """Take in the suspicion of an accuser.

        :raises RemoteError: its signature is false.
        """
        accuser = self._roster.get(suspect.accuser)
        rank: Rank = (suspect.epoch, suspect.counter)
        entry = self._roster.get(suspect.member)
        if suspect.member != self._local_node.origin:
            newest = self._roster.rank(suspect.member)
            counts = (
                entry is not None and entry.rank == rank and entry.state is State.UP and entry.is_member
            )
        elif self._conflict:
            counts, newest = rank == self._conflict.rank, self._conflict.rank
        elif self._announcing.is_accused(rank) and suspect.accuser != self._local_node.origin:
            self._refute(accuser, signed, now)
            return
        else:
            counts, newest = False, self._announcing.rank
        may_accuse = accuser is not None and accuser is not entry and accuser.is_there and accuser.is_member
        if accuser is None or not counts or not may_accuse:
            self.idle += 1
            if rank < newest and not link.closing:
                self._records.introduce(link, suspect.member)
            return
        if entry is not None and now < accuser.accused + self._config.accuse_pause:
            self.idle += 1
            self._pass_on(link, signed, entry)
            return
        self._signer.require(signed)
        accuser.accused = now
        if entry is None:
            self._conflict.suspected(now)
            self._flood(signed.relayed(), link, now)
        else:
            self._suspected(entry, signed.relayed(), link, now)

    def _refute(self, accuser: Entry | None, signed: SignedRecord, now: float) -> None:
        """Refute a suspicion of this node, also by an accuser that is unknown here."""
        self._signer.require(signed)
        if accuser is not None:
            accuser.accused = now
        self._announcing.refute(now)

    def _pass_on(self, link: Link, signed: SignedRecord, entry: Entry) -> None:
        """Pass on a suspicion that comes too soon to count here: it may count elsewhere.

        It goes towards the suspect only, once for each record of the suspect.
        """
        if entry.warned == entry.rank:
            return
        self._signer.require(signed)
        entry.warned = entry.rank
        self._records.warn(entry.presence.origin, signed, link)

    def _accusation(self, entry: Entry) -> SignedRecord:
        suspect = Suspect(self._local_node.origin, entry.presence.origin, *entry.rank)
        return self._signer.signed(suspect)

    def _suspected(self, entry: Entry, signed: SignedRecord, source: Link | None, now: float) -> None:
        self._roster.suspect(entry, now)
        self._effects.emit(entry.changed())
        self._flood(signed, source, now)

    def _flood(self, signed: SignedRecord, source: Link | None, now: float) -> None:
        self._records.flood(signed, source)
        self._effects.set_timer(Timer.ROSTER, now + self._config.suspect_patience)
