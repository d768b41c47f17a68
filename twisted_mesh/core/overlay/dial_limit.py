"""How fast told addresses are dialled.

Contract: all dials of told addresses, whatever they are for, share one :class:`DialLimit`: nobody can make
this node dial many hosts.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.core.reachability import Place
from twisted_mesh.wire.membership import Contact, Purpose


class DialLimit:
    """Every dial of an address that peers told, whatever for.

    :ivar own: where this node can be dialled itself: another that was there a moment ago is told of as
        long as nobody knows better.
    """

    def __init__(self, config: MeshConfig, own: Place | None) -> None:
        self.own = own
        self._most = config.dials_at_once
        self._again = config.dial_again
        self._failed_most = config.failed_dials
        # Whoever carries them out tells the end of each; one whose end was not told would hold its
        # place for ever, and no attempt takes longer than this.
        self._longest = config.connect_timeout + config.handshake_timeout
        self._bucket = RateLimit(config.dial_burst, config.dial_rate)
        self._under_way: dict[bytes, tuple[Place, Purpose, float]] = {}  # by id; until when
        self._failed: OrderedDict[Place, float] = OrderedDict()  # until when it is left alone

    def may(self, contact: Contact, now: float) -> bool:
        """Whether *contact* may be dialled now."""
        self._expire(now)
        place = (contact.host, contact.port)
        return (
            len(self._under_way) < self._most
            and contact.id not in self._under_way
            and place != self.own
            and place not in self._failed
            and all(place != other for other, _, _ in self._under_way.values())
            and self._bucket.has(now)
        )

    def began(self, contact: Contact, purpose: Purpose, now: float) -> None:
        """*contact*, which may be, is dialled."""
        self._bucket.take(now)
        place = (contact.host, contact.port)
        self._under_way[contact.id] = place, purpose, now + self._longest

    def over(self, id: bytes, now: float, found: bool) -> Purpose | None:
        """The dial of *id* has ended; what it was for, None if there was none.

        :param found: whether the node with that id was there.
        """
        if (dial := self._under_way.pop(id, None)) is None:
            return None
        place, purpose, _ = dial
        if not found:
            self._failed[place] = now + self._again
            self._failed.move_to_end(place)
            if len(self._failed) > self._failed_most:
                self._failed.popitem(last=False)
        return purpose

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"dials_under_way": len(self._under_way), "failed_dials": len(self._failed)}

    def _expire(self, now: float) -> None:
        for id in [id for id, (_, _, until) in self._under_way.items() if until <= now]:
            del self._under_way[id]
        while self._failed and next(iter(self._failed.values())) <= now:
            self._failed.popitem(last=False)
