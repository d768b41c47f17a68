"""The PRESENCE of this node: when it sends a record of itself, and with which content.

Contract: :meth:`Announcing.announce` signs and sends the next record.  The record is renewed after an
interval that grows with the mesh, once more ``presence_settle`` seconds after the first, and when this node
leaves.  If this node is suspected, the record is renewed at once, but at most once in ``refute_pause``
seconds.  During a key conflict no record is sent, since the other node's record is the newer.

The record names the key with which others seal direct messages.  A new one is made every day, so that
whoever takes the key from this node's memory can open intercepted messages of two days at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from msgspec.structs import replace

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.membership.key_conflict import KeyConflict
from twisted_mesh.core.membership.record_push import RecordPush
from twisted_mesh.core.membership.roster import Rank, Roster
from twisted_mesh.core.signing import Signer
from twisted_mesh.wire.membership import MAX_INTERVAL, Presence, PresenceFlags, Role

_KEY_LIFE: Final = 86_400.0  # seconds until a new key is made (guess)


@dataclass(eq=False)
class Announcing:
    """The records of one run of this node.

    :ivar address: the address at which others can dial this node, for the next record; None for none.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _outbox: Outbox
    _roster: Roster
    _conflict: KeyConflict
    _records: RecordPush
    _effects: Effects
    asks: bool = False  # whether this node waits for receipts: the next record says so
    _counter: int = 0
    _published: float = -inf
    _due: float = inf  # when the next record comes, as the newest one says
    _leaving: bool = False
    _retires: bool = False
    _refuted: float = -inf
    _refutes: bool = False  # whether a refutation waits for refute_pause
    _began: float = inf  # when the first record was sent
    _second_at: float = inf  # when to send the second record
    _sealing_key: bytes = b""
    _renew_at: float = -inf  # when to make a new sealing key

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)
        self.address = self._local_node.address

    @property
    def rank(self) -> Rank:
        """The rank of the newest record."""
        return self._local_node.epoch, self._counter

    @property
    def speaks(self) -> bool:
        """Whether this node is a member whose record is valid, so that others accept its suspicions."""
        return self.is_announced and self._local_node.profile.role is not Role.GUEST

    @property
    def is_announced(self) -> bool:
        """Whether this node has sent a record, is not leaving, and no other node uses its key."""
        return self._records.own is not None and not self._leaving and not self._conflict

    def age(self, now: float) -> float:
        """Seconds since the newest record."""
        return max(0.0, now - self._published)

    def announce(self, now: float) -> None:
        """Sign and send the next record: that this node is up, or that it leaves."""
        me = self._local_node
        interval = self._interval()
        if now >= self._renew_at:
            self._sealing_key, self._renew_at = me.sealing.renew(), now + _KEY_LIFE
        self._counter += 1
        presence = Presence(
            me.origin,
            me.epoch,
            self._counter,
            self._outbox.head,
            self.address,
            me.profile.role,
            me.profile.label,
            me.profile.tags,
            me.retention,
            interval,
            (PresenceFlags.LEAVING if self._leaving else 0)
            | (PresenceFlags.EPHEMERAL if me.ephemeral or self._retires else 0)
            | (PresenceFlags.ASKS if self.asks else 0),
            me.policy.credential(me.origin),
            self._floor(now),
            self._sealing_key,
        )
        self._records.own, self._records.own_rank = self._signer.signed(presence), self.rank
        self._published, self._due = now, now + interval / 1000
        self._refutes = False
        self._records.push(self._records.own, presence, None, now)

    def _floor(self, now: float) -> int:
        """The lowest epoch of the runs of which others may still hold messages."""
        me = self._local_node
        self._began = min(self._began, now)
        return min((epoch for epoch, rest in me.earlier if self._began + rest > now), default=me.epoch)

    def announce_first(self, now: float) -> None:
        """Send the first record, unless that was done."""
        if self._records.own is None and not self._conflict:
            self.announce(now)
            self._second_at = now + self._config.presence_settle
            self.look_again()

    def leave(self, now: float, retires: bool = False) -> None:
        """Tell the nodes that know this one that it leaves, and does not come back if it *retires*."""
        if self.is_announced:
            self._leaving, self._retires = True, retires
            self.announce(now)

    def show_credential(self, now: float) -> None:
        """Send the next record now, if the newest one has not the credential that the policy gives."""
        if not self.is_announced:
            return
        me, own = self._local_node, self._records.own
        assert own is not None  # the node is announced
        if own.record != replace(own.record, credential=me.policy.credential(me.origin)):
            self.announce(now)
            self.look_again()

    def is_accused(self, rank: Rank) -> bool:
        """Whether to refute a suspicion of this node that names its record with *rank*."""
        return rank == self.rank and self.is_announced and not self._refutes

    def refute(self, now: float) -> None:
        """Send another record against a suspicion, now or as soon as ``refute_pause`` allows."""
        if now >= self._refuted + self._config.refute_pause:
            self._refuted = now
            self.announce(now)
        else:
            self._refutes = True
            self._effects.set_timer(Timer.ROSTER, self._refuted + self._config.refute_pause)

    def tick(self, now: float) -> None:
        """Send the next record if it is due."""
        refutes = self._refutes and now >= self._refuted + self._config.refute_pause
        if self.is_announced and (refutes or now >= min(self._due, self._second_at)):
            if refutes:
                self._refuted = now
            if now >= self._second_at:
                self._second_at = inf
            self.announce(now)

    def look_again(self) -> None:
        """Have :meth:`tick` called when the next record is due."""
        if self.is_announced:
            self._effects.set_timer(Timer.ROSTER, min(self._due, self._second_at))
            if self._refutes:
                self._effects.set_timer(Timer.ROSTER, self._refuted + self._config.refute_pause)

    def _interval(self) -> int:
        """Milliseconds to the next record: all nodes together send at most ``presence_rate`` a second."""
        config = self._config
        seconds = max(config.presence_interval, (self._roster.there + 1) / config.presence_rate)
        return min(ceil(seconds * 1000), MAX_INTERVAL)
