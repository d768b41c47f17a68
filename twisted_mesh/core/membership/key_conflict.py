"""A key conflict: another node signs with the own key, in a run that counts as the newer one.

Contract: what comes here is signed with the own key, so nobody without it can bring a conflict about.
While there is a conflict this node publishes nothing and says nothing of itself.  It is over when the other
node has said that it stops, or was silent for as long as makes a member *down*: :attr:`KeyConflict.until`.

The other node hears of this one by a handshake alone.  A record of an older run proves nothing to it: who
has kept one of its own earlier runs can say that again.  So this node dials it where its record says it is.

A record alone does not prove that the other node runs now.  It can be of an own run: its number was lost,
as when the key's file was restored, and the clock set back.  Proven is a node that speaks on after it was
first heard of, or shakes hands with this one.
"""

from __future__ import annotations

from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.membership.roster import Rank
from twisted_mesh.wire.membership import Contact, Presence, PresenceFlags
from twisted_mesh.wire.signed import SignedRecord

_ON_ITS_WAY: Final = 2.0  # seconds a record may take from its author to here (guess)


class KeyConflict:
    """The other node, as far as this one knows.

    :ivar epoch: of its newest run; 0 while there is no conflict.
    :ivar signed: its newest record, None if only messages of it came.
    :ivar rank: of that record, (0, 0) without one.
    :ivar contact: where that record says it can be dialled; None if that is not believed, or it is gone.
    :ivar until: when it counts as gone unless it says another word.
    """

    def __init__(self, config: MeshConfig, effects: Effects) -> None:
        self._config = config
        self._effects = effects
        self.epoch = 0
        self.signed: SignedRecord | None = None
        self.rank: Rank = (0, 0)
        self.contact: Contact | None = None
        self.until = inf
        self._began = 0.0
        self._heard = 0.0
        self._is_proven = False

    def __bool__(self) -> bool:
        """Whether there is a conflict."""
        return self.epoch > 0

    def recorded(
        self, signed: SignedRecord, presence: Presence, contact: Contact | None, heard: float, now: float
    ) -> None:
        """A verified record of the own key came that is newer than all known of it.

        :param heard: when it came, to whoever told of it.
        """
        is_first = self.signed is None
        self._begin(presence.epoch, now)
        self.signed, self.rank = signed, (presence.epoch, presence.counter)
        self.contact = contact
        self._heard = heard
        if presence.flags & PresenceFlags.LEAVING:
            self.until = now
            return
        self.until = heard + self._config.presence_missed * presence.interval / 1000
        if not is_first and self.until > now and heard >= self._began + _ON_ITS_WAY:
            self._prove()

    def published(self, epoch: int, now: float) -> None:
        """A verified batch of the own key came, of a run above the own one."""
        if epoch > self.epoch:
            self._begin(epoch, now)
            self.until = now + self._config.presence_missed * self._config.presence_interval

    def met(self, epoch: int, now: float) -> None:
        """It has signed something fresh, in a handshake with this node, in a run above the own one."""
        until = now + self._config.presence_missed * self._config.presence_interval
        self.until = max(self.until, until) if self else until
        self._begin(epoch, now)
        self._prove()

    def suspected(self, now: float) -> None:
        """A neighbour has lost it: it has ``suspect_patience`` for another word."""
        self.until = min(self.until, now + self._config.suspect_patience)

    def doubt(self, late: float) -> None:
        """This node itself was held up by *late* seconds: nobody was silent then."""
        self.until += late

    def over(self, now: float) -> int | None:
        """The epoch to begin a new run above, if the other node counts as gone.

        If none can begin it is time for another attempt in ``key_retry``.
        """
        if not self or now < self.until:
            return None
        self.until = now + self._config.key_retry
        self.contact = None
        return self.epoch

    def age(self, now: float) -> float:
        """Seconds since its newest record was heard of."""
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
