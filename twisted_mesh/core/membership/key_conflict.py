"""A key conflict: another node signs with this node's key, in a newer run.

Contract: every frame in question is signed with this key, so only holders of the key can cause a conflict.
During a conflict this node publishes nothing and sends no record of itself.  The conflict is over when the
other node has said that it leaves, or was silent long enough for a member to be *down*:
:attr:`KeyConflict.until`.

The other node learns of this one only by a handshake: a record of this node proves nothing to it, since
any node that kept a record of an older run can send that record again.  So this node dials the address in
the other node's record.

A record alone does not prove that the other node runs now.  This node may have signed it in
a run that it forgot, for example because the key's file was restored and the clock set back.  The other
node is proven to run if it sends a second record, or shakes hands with this node.

An attacker may have kept such records, of many runs.  So from one new run to the next a minute passes
(:mod:`~twisted_mesh.core.renewal`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.membership.roster import Rank
from twisted_mesh.core.renewal import Renewal
from twisted_mesh.wire.membership import Contact, Presence, PresenceFlags
from twisted_mesh.wire.signed import SignedRecord

_ON_ITS_WAY: Final = 2.0  # seconds a record may take from its author to here (guess)


@dataclass(eq=False)
class KeyConflict:
    """The other node, as far as this one knows.

    :ivar contact: the address in its newest record; None if the address is not believed, or the node is
        gone.
    """

    _config: MeshConfig
    _renewal: Renewal
    _effects: Effects
    epoch: int = 0  # the epoch of its newest run; 0 without a conflict
    signed: SignedRecord | None = None  # its newest record; None if only its messages came
    rank: Rank = (0, 0)  # the rank of that record; (0, 0) without one
    contact: Contact | None = None
    floor: int = 0  # the highest floor that a record of it has named
    _until: float = inf  # when the other node counts as gone
    _began: float = 0.0
    _heard: float = 0.0
    _is_proven: bool = False

    def __bool__(self) -> bool:
        """Whether there is a conflict."""
        return self.epoch > 0

    @property
    def until(self) -> float:
        """The time at which a new run begins, unless another record of the other node comes before."""
        return max(self._until, self._renewal.earliest)

    def recorded(
        self, signed: SignedRecord, presence: Presence, contact: Contact | None, heard: float, now: float
    ) -> None:
        """Take in a newer record of this node's key, verified; its sender got it at *heard*."""
        is_first = self.signed is None
        self._begin(presence.epoch, now)
        self.signed, self.rank = signed, (presence.epoch, presence.counter)
        self.contact = contact
        self.floor = max(self.floor, min(presence.floor, presence.epoch))
        self._heard = heard
        if presence.flags & PresenceFlags.LEAVING:
            self._until = now
            return
        self._until = heard + self._config.presence_missed * presence.interval / 1000
        if not is_first and self._until > now and heard >= self._began + _ON_ITS_WAY:
            self._prove()

    def published(self, epoch: int, now: float) -> None:
        """Take in that a verified batch came, signed with this node's key in a newer run."""
        if epoch > self.epoch:
            self._begin(epoch, now)
            self._until = now + self._config.presence_missed * self._config.presence_interval

    def met(self, epoch: int, now: float) -> None:
        """Take in that the other node, in a newer run, shook hands with this one."""
        until = now + self._config.presence_missed * self._config.presence_interval
        self._until = max(self._until, until) if self else until
        self._begin(epoch, now)
        self._prove()

    def suspected(self, now: float) -> None:
        """Wait ``suspect_patience`` seconds for another record: a neighbour has lost the other node."""
        self._until = min(self._until, now + self._config.suspect_patience)

    def doubt(self, late: float) -> None:
        """Count no silence for the *late* seconds in which this node itself was held up."""
        self._until += late

    def look(self, now: float) -> None:
        """Ask for a new run above the other's, if the other node counts as gone.

        If no run can begin, it is asked for again after ``key_retry`` seconds.
        """
        if self and now >= self.until:
            self._until = now + self._config.key_retry
            self.contact = None
            self._renewal.ask(self.epoch, now)

    def age(self, now: float) -> float:
        """The seconds since the newest record came."""
        return max(0.0, now - self._heard)

    def _prove(self) -> None:
        if not self._is_proven:
            self._is_proven = True
            self._effects.emit(events.KeyInUse(self.epoch, proven=True))

    def _begin(self, epoch: int, now: float) -> None:
        if not self:
            self._began = now
            self._effects.emit(events.KeyInUse(epoch))
        self.epoch = max(self.epoch, epoch)
