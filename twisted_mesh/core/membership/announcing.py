"""The own PRESENCE: when this node says what of itself.

Contract: :meth:`Announcing.announce` signs the next record and has it pushed.  It is renewed in an interval
that grows with the mesh, once more when the first links have settled, at once when this node is said to be
gone, though no faster than ``refute_pause``, and when it leaves.  While there is a key conflict it says
nothing: the other node's word is the newer.
"""

from __future__ import annotations

from math import ceil, inf

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


class Announcing:
    """What one run of a node says of itself.

    :ivar address: where others can dial it, as the next record will say; None for nowhere.
    :ivar asks: whether somebody waits for a receipt of an own message, as the next record will say.
    """

    def __init__(
        self,
        local_node: LocalNode,
        config: MeshConfig,
        outbox: Outbox,
        roster: Roster,
        conflict: KeyConflict,
        records: RecordPush,
        effects: Effects,
    ) -> None:
        self._local_node = local_node
        self._config = config
        self._outbox = outbox
        self._roster = roster
        self._conflict = conflict
        self._records = records
        self._effects = effects
        self._signer = Signer(local_node)
        self.asks = False
        self.address = local_node.address
        self._counter = 0
        self._published = -inf
        self._due = inf  # when the next one was promised for
        self._leaving = False
        self._refuted = -inf
        self._refutes = False  # a refutation waits for its time
        self._settles = inf  # when the first record is followed by another

    @property
    def rank(self) -> Rank:
        """Of the newest record."""
        return self._local_node.epoch, self._counter

    @property
    def speaks(self) -> bool:
        """Whether this node is a member that has said that it is there, so that its word counts."""
        return self.is_announced and self._local_node.role is not Role.GUEST

    @property
    def is_announced(self) -> bool:
        """Whether this node has said that it is there, and not that it stops, and nobody else says so."""
        return self._records.own is not None and not self._leaving and not self._conflict

    def age(self, now: float) -> float:
        """Seconds since the newest record."""
        return max(0.0, now - self._published)

    def announce(self, now: float) -> None:
        """Say that this node is there, or that it stops."""
        me = self._local_node
        interval = self._interval()
        self._counter += 1
        presence = Presence(
            me.origin,
            me.epoch,
            self._counter,
            self._outbox.head,
            self.address,
            me.role,
            me.label,
            me.tags,
            me.retention,
            interval,
            (PresenceFlags.LEAVING if self._leaving else 0)
            | (PresenceFlags.EPHEMERAL if me.ephemeral else 0)
            | (PresenceFlags.ASKS if self.asks else 0),
            b"",
        )
        self._records.own, self._records.own_rank = self._signer.signed(presence), self.rank
        self._published, self._due = now, now + interval / 1000
        self._refutes = False
        self._records.push(self._records.own, presence, None)

    def announce_first(self, now: float) -> None:
        """Say so unless it was said."""
        if self._records.own is None and not self._conflict:
            self.announce(now)
            self._settles = now + self._config.presence_settle
            self.look_again()

    def leave(self, now: float) -> None:
        """Tell those who know of this node that it stops."""
        if self.is_announced:
            self._leaving = True
            self.announce(now)

    def is_accused(self, rank: Rank) -> bool:
        """Whether to answer who says that this node is gone since the record of that *rank*."""
        return rank == self.rank and self.is_announced and not self._refutes

    def refute(self, now: float) -> None:
        """This node is said to be gone: say another word, now or as soon as may be."""
        if now >= self._refuted + self._config.refute_pause:
            self._refuted = now
            self.announce(now)
        else:
            self._refutes = True
            self._effects.set_timer(Timer.ROSTER, self._refuted + self._config.refute_pause)

    def tick(self, now: float) -> None:
        """Say the next word if it is due."""
        refutes = self._refutes and now >= self._refuted + self._config.refute_pause
        if self.is_announced and (refutes or now >= min(self._due, self._settles)):
            if refutes:
                self._refuted = now
            if now >= self._settles:
                self._settles = inf
            self.announce(now)

    def look_again(self) -> None:
        """Have :meth:`tick` called when the next word is due."""
        if self.is_announced:
            self._effects.set_timer(Timer.ROSTER, min(self._due, self._settles))
            if self._refutes:
                self._effects.set_timer(Timer.ROSTER, self._refuted + self._config.refute_pause)

    def _interval(self) -> int:
        """ms to the next: so that all nodes together send no more than ``presence_rate``."""
        config = self._config
        seconds = max(config.presence_interval, (self._roster.there + 1) / config.presence_rate)
        return min(ceil(seconds * 1000), MAX_INTERVAL)
