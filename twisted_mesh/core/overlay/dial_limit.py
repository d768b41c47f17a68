"""How fast this node dials addresses that peers told it.

Contract: all dials of such addresses share one :class:`DialLimit`, so that no peer can make this node dial
many hosts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.core.reachability import Place
from twisted_mesh.wire.membership import Contact, Purpose


@dataclass(eq=False)
class DialLimit:
    """The dials of addresses that peers told.

    :ivar own: the address of this node, which is never dialled: another node may have had it before.
    """

    _config: MeshConfig
    own: Place | None
    # The dials that have not ended, by id: the place, the purpose, and until when the dial counts.
    _under_way: dict[bytes, tuple[Place, Purpose, float]] = field(default_factory=dict)
    # The time before which a place is not dialled again.
    _failed: OrderedDict[Place, float] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        # No dial takes longer.  If the driver did not report its end, the dial would count for ever.
        self._longest = self._config.connect_timeout + self._config.handshake_timeout
        self._bucket = RateLimit(self._config.dial_burst, self._config.dial_rate)

    def may(self, contact: Contact, now: float) -> bool:
        """Whether *contact* may be dialled now."""
        return (
            not self.is_barred(contact, now)
            and len(self._under_way) < self._config.dials_at_once
            and self._bucket.has(now)
        )

    def is_barred(self, contact: Contact, now: float) -> bool:
        """Whether *contact* is dialled already, was not found lately, or is at this node's own address."""
        self._expire(now)
        place = (contact.host, contact.port)
        return (
            contact.id in self._under_way
            or place == self.own
            or place in self._failed
            or any(place == other for other, _, _ in self._under_way.values())
        )

    def began(self, contact: Contact, purpose: Purpose, now: float) -> None:
        """Note that *contact* is dialled, as :meth:`may` allowed."""
        self._bucket.take(now)
        place = (contact.host, contact.port)
        self._under_way[contact.id] = place, purpose, now + self._longest

    def over(self, id: bytes, now: float, found: bool) -> Purpose | None:
        """Note that a dial has ended, and whether the node was *found*; return its purpose, or None."""
        if (dial := self._under_way.pop(id, None)) is None:
            return None
        place, purpose, _ = dial
        if not found:
            self._failed[place] = now + self._config.dial_again
            self._failed.move_to_end(place)
            if len(self._failed) > self._config.failed_dials:
                self._failed.popitem(last=False)
        return purpose

    def forgive(self) -> None:
        """Let all places be dialled again: this node had no link, so the failures may be its own."""
        self._failed.clear()

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"dials_under_way": len(self._under_way), "failed_dials": len(self._failed)}

    def _expire(self, now: float) -> None:
        for id in [id for id, (_, _, until) in self._under_way.items() if until <= now]:
            del self._under_way[id]
        while self._failed and next(iter(self._failed.values())) <= now:
            self._failed.popitem(last=False)
