"""How a node finds neighbours when it has too few, and whom it has room for.

Contract: one attempt after the other, more at a time only where there is next to no neighbour.  Who
refuses is asked again later, and a node that all refuse asks less and less often: in a mesh whose views
are full somebody always has one neighbour less than it would like.  With less than half of them it
insists instead.

Of the places some are not given to whoever comes, but kept for nodes this one has chosen to dial, and
none to a second node of a host while there are others to dial: a node could else be filled up from
outside, and would hear only what those that fill it let through.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.backoff import backoff
from twisted_mesh.core.link import Link
from twisted_mesh.core.overlay.views import FULL_LONGEST, ActiveView, Dial, PassiveView, Randomness, jitter
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.wire.membership import Contact, Purpose

#: Places for neighbours this node has dialled itself, as long as there is somebody to dial (guess).
RESERVED: Final = 2
#: Refusals in a row after which a node with less than half of its neighbours insists: all others may be
#: full, and there is no other way in (guess).
PATIENCE: Final = 2
#: Attempts at a time with no neighbour and with one: many of those that are told may be gone (guess).
AT_ONCE: Final = (3, 2)
#: Intervals between two attempts of a node that has half of its neighbours: others need them more, and
#: what those hand on has to find places, too (measured: 100 newcomers settle with a tenth less dials).
CALM: Final = 2
#: Seconds between two attempts at most, of a node that has too few neighbours to be patient (guess).
HASTY_LONGEST: Final = 2.0
PUT_OFF: Final = 5.0  # seconds until a contact that may not be dialled now is thought of again (guess)


@dataclass(eq=False)
class Search:
    """The attempts of one node to find neighbours.

    :ivar wake: when the next one is due, None while there are enough or nobody is known.
    """

    _active: ActiveView
    _passive: PassiveView
    _config: MeshConfig
    _randomness: Randomness
    _dial: Dial
    # By id: until when, and whether it was dialled because its walk ended here.
    _dials: dict[bytes, tuple[float, bool]] = field(default_factory=dict)
    _refusals: int = 0  # in a row
    wake: float | None = None

    def __post_init__(self) -> None:
        self._few = self._config.active_view // 2
        # No dial takes longer; one whose end is not told must not stand in the way of others.
        self._longest = self._config.connect_timeout + self._config.handshake_timeout
        # Those leave half of what may be dialled to this node's own search.
        self._walk_dials = RateLimit(self._config.dial_burst / 2, self._config.dial_rate / 2)

    def __len__(self) -> int:
        return len(self._dials)

    # ── whom there is room for ──────────────────────────────────────────────────────

    def has_room_for(self, link: Link, now: float) -> bool:
        """Whether a link that the overlay would like has a place; it may have changed since the dial."""
        id = link.peer.id
        if link.outgoing:
            _, walk = self._dials.get(id, (now, False))
            return len(self._active) < self._config.active_view + walk
        places = self._config.active_view - len(self._active)
        everybody = {id, *self._dials, *self._passive, *(node.id for node in self._active)}
        if places <= 0 or len(everybody) <= self._config.active_view:
            return places > 0  # where all there are find a place none is to be kept
        others = self._passive.ready(now, (id,))
        if not others:
            return True
        reserved = min(RESERVED, self._few) - sum(node.ours for node in self._active)
        return places > max(reserved, 0) and not self._passive.is_crowded(link.host, others)

    # ── what comes of attempts ──────────────────────────────────────────────────────

    def found(self, id: bytes) -> bool:
        """The node is a neighbour; whether it is because its walk ended here."""
        if id not in self._dials:
            return False
        self._refusals = 0
        return self._dials.pop(id)[1]

    def lost(self, id: bytes, now: float) -> bool:
        """The last link to the node is gone; whether it never counted, since the node refused it."""
        if self._dials.pop(id, None) is None:
            self._refusals = 0  # there are fewer neighbours now
            self.resume(now, now)
            return False
        self._refusals += 1
        self.resume(now, now + self._pause())
        return True

    def failed(self, id: bytes, now: float) -> None:
        """The node was not found."""
        self.drop(id)
        self._passive.remove(id)
        self.resume(now, now + jitter(self._config.overlay_interval, self._randomness))

    def drop(self, id: bytes) -> None:
        """Nothing more is expected of the dial of the node."""
        self._dials.pop(id, None)

    # ── attempts ────────────────────────────────────────────────────────────────────

    def resume(self, now: float, at: float) -> None:
        """Go on at the time *at* if there are too few neighbours, and nodes to dial."""
        if len(self._active) >= self._config.active_view or not len(self._passive):
            self.wake = None
            return
        if len(self._active) > self._few:
            at = max(at, now + jitter(CALM * self._config.overlay_interval, self._randomness))
        if self.wake is None or (at < self.wake and not self._refusals):
            self.wake = at

    def tick(self, now: float) -> None:
        """Make what attempts are due."""
        for id in [id for id, (until, _) in self._dials.items() if until <= now]:
            self.failed(id, now)
        if self.wake is None or now < self.wake:
            return
        self.wake = None
        count = len(self._active)
        insists = count == 0 or (count <= self._few and self._refusals >= PATIENCE)
        purpose = Purpose.URGENT if insists else Purpose.NEIGHBOUR
        missing = self._config.active_view - count - len(self._dials)
        at_once = AT_ONCE[count] if count < len(AT_ONCE) else 1
        for _ in range(min(missing, at_once - len(self._dials))):
            contact = self._passive.pick(self._passive.ready(now, self._dials, full=insists))
            if contact is not None and not self._try(contact, purpose, now):
                self._passive.put_off(contact.id, now + jitter(PUT_OFF, self._randomness))
        self.resume(now, now + self._pause())

    def welcome(self, contact: Contact, now: float) -> bool:
        """Dial a newcomer whose walk ends here; False: there is no room for it, or no time."""
        if contact.id in self._dials:
            return True
        full = len(self._active) + len(self._dials) > self._config.active_view
        purpose = Purpose.NEIGHBOUR if len(self._active) > 1 else Purpose.URGENT
        if full or self._passive.is_crowded(contact.host, self._passive.ready(now, (contact.id,))):
            return False
        return self._walk_dials.take(now) and self._try(contact, purpose, now, walk=True)

    def _try(self, contact: Contact, purpose: Purpose, now: float, *, walk: bool = False) -> bool:
        if not self._dial(contact, purpose, now):
            return False
        self._dials[contact.id] = now + self._longest, walk
        return True

    def _pause(self) -> float:
        """Seconds until the next attempt: where nobody has room longer and longer."""
        longest = FULL_LONGEST if len(self._active) > self._few else HASTY_LONGEST
        return jitter(backoff(self._config.overlay_interval, self._refusals, longest), self._randomness)
