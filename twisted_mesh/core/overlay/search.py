"""How a node with too few neighbours finds more, and for which nodes it has room.

Contract: a node dials one contact at a time (an *attempt*), and several only if it has hardly any
neighbour.  A node that refuses is dialled again later.  A node that all others refuse dials ever more
rarely: if all views are full, some node always has one neighbour less than it wants.  A node with less than
half of the neighbours it wants insists instead: its dials are URGENT, and are not refused.

Two neighbours are nodes that this one has drawn from its contacts, of different sites if there are: an
attacker can take all other places, by dialling, or by sending this node to others.  So the search goes on
until there are two, whatever other neighbours there are, and places are kept for them.  Besides, a host
gets no second place while there are other hosts to dial.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.link import Link
from twisted_mesh.core.overlay.views import FULL_LONGEST, ActiveView, Dial, PassiveView, Randomness, jitter
from twisted_mesh.core.rate import RateLimit, backoff
from twisted_mesh.core.reachability import counted_site
from twisted_mesh.wire.membership import Contact, Purpose

#: Neighbours that this node draws itself, as long as there are nodes to dial (guess).
DRAWN: Final = 2
#: The most seconds until a node that only wants such neighbours looks again for somebody to dial (guess).
IDLE_LONGEST: Final = 60.0
#: Refusals in a row after which a node with less than half of its neighbours insists, since all others may
#: be full (guess).
PATIENCE: Final = 2
#: Attempts at a time of a node without neighbours, and with one: many contacts may be gone (guess).
AT_ONCE: Final = (3, 2)
#: How many overlay_intervals a node with half of its neighbours waits between attempts: others need places
#: more (measured: 100 newcomers come to rest with a tenth fewer dials than without this wait).
CALM: Final = 2
#: The same two of a node that has neighbours enough and only wants to draw a second (measured: with less, a
#: hundred newcomers link with the few that they know first).
DRAW_CALM: Final = 10
DRAW_PATIENCE: Final = 4
HASTY_LONGEST: Final = 2.0  # seconds between attempts at most, with under half of the neighbours (guess)
PUT_OFF: Final = 5.0  # seconds until a contact that may not be dialled now is tried again (guess)


@dataclass(eq=False)
class Search:
    """The attempts of one node to find neighbours.

    :ivar wake: when the next attempt is due; None while there are enough neighbours or no contacts.
    """

    _active: ActiveView
    _passive: PassiveView
    _config: MeshConfig
    _randomness: Randomness
    _dial: Dial
    # By id: until when the dial counts, and whether a walk that ended here was the reason for it.
    _dials: dict[bytes, tuple[float, bool]] = field(default_factory=dict)
    _refusals: int = 0  # of all nodes, in a row
    _idle: int = 0  # looks in a row at which there was nobody to dial
    wake: float | None = None

    def __post_init__(self) -> None:
        self._few = self._config.active_view // 2
        # No dial takes longer: a dial whose end is not reported must not prevent others for ever.
        self._longest = self._config.connect_timeout + self._config.handshake_timeout
        # Dials for walks leave half of the dial limit to this node's own search.
        self._walk_dials = RateLimit(self._config.dial_burst / 2, self._config.dial_rate / 2)

    def __len__(self) -> int:
        return len(self._dials)

    # ── room for nodes that dial ────────────────────────────────────────────────────

    def has_room_for(self, link: Link, now: float) -> bool:
        """Whether there is a place for a NEIGHBOUR link; if it was dialled, others can have come since."""
        id = link.peer.id
        if link.outgoing:
            _, walk = self._dials.get(id, (now, False))
            return len(self._active) < self._config.active_view + walk or (not walk and self._draws > 0)
        places = self._config.active_view - len(self._active)
        everybody = {id, *self._dials, *self._passive, *(node.id for node in self._active)}
        if places <= 0 or len(everybody) <= self._config.active_view:
            return places > 0  # all known nodes find a place, so no place is kept for dials
        others = self._passive.ready(now, (id,))
        if not others:
            return True
        reserved = min(DRAWN, self._few) - len(self._active.drawn())
        return places > max(reserved, 0) and not self._passive.is_crowded(link.host, others)

    @property
    def _draws(self) -> int:
        """How many neighbours this node has still to draw itself."""
        drawn = self._active.drawn()
        sites = {counted_site(node.host) for node in drawn}
        if len(sites) == 1 < len(drawn) and None not in sites and self._passive.has_site_but(sites):
            return 1  # of another site
        return min(DRAWN, self._few) - len(drawn)

    @property
    def _only_draws(self) -> bool:
        """Whether there are neighbours enough, and this node has drawn one of them."""
        return len(self._active) >= self._config.active_view and len(self._active.drawn()) > 0

    # ── what comes of attempts ──────────────────────────────────────────────────────

    def drew(self, id: bytes) -> bool:
        """Whether a node is dialled because this one drew it."""
        return id in self._dials and not self._dials[id][1]

    def found(self, id: bytes) -> bool:
        """Take in a new neighbour; return whether it was dialled because its walk ended here."""
        if id not in self._dials:
            return False
        self._refusals = 0
        return self._dials.pop(id)[1]

    def lost(self, id: bytes, now: float) -> bool:
        """Take in that the last link to a node is gone; return whether the node had refused the link."""
        if self._dials.pop(id, None) is None:
            self._refusals = 0  # there are fewer neighbours now
            self.resume(now, now)
            return False
        self._refusals += 1
        self.resume(now, now + self._pause())
        return True

    def failed(self, id: bytes, now: float) -> None:
        """Take in that a dialled node was not found."""
        self.drop(id)
        self._passive.remove(id)
        self.resume(now, now + jitter(self._config.overlay_interval, self._randomness))

    def drop(self, id: bytes) -> None:
        """Forget the dial of a node."""
        self._dials.pop(id, None)

    # ── attempts ────────────────────────────────────────────────────────────────────

    def resume(self, now: float, at: float) -> None:
        """Make the next attempt at the time *at*, if there are too few neighbours and nodes to dial."""
        if not len(self._passive) or (len(self._active) >= self._config.active_view and self._draws <= 0):
            self.wake = None
            return
        if len(self._active) > self._few:
            calm = DRAW_CALM if self._only_draws else CALM
            at = max(at, now + jitter(calm * self._config.overlay_interval, self._randomness))
        if self.wake is None or (at < self.wake and not self._refusals):
            self.wake = at

    def tick(self, now: float) -> None:
        """Make the attempts that are due."""
        for id in [id for id, (until, _) in self._dials.items() if until <= now]:
            self.failed(id, now)
        if self.wake is None or now < self.wake:
            return
        self.wake = None
        count, draws = len(self._active), self._draws
        patience = DRAW_PATIENCE if self._only_draws else PATIENCE
        insists = count == 0 or ((count <= self._few or draws > 0) and self._refusals >= patience)
        purpose = Purpose.URGENT if insists else Purpose.NEIGHBOUR
        missing = max(self._config.active_view - count, draws) - len(self._dials)
        at_once = AT_ONCE[count] if count < len(AT_ONCE) else 1
        self._idle += 1
        for _ in range(min(missing, at_once - len(self._dials))):
            contact = self._passive.pick(self._passive.ready(now, self._dials, full=insists))
            if contact is not None:
                self._idle = 0
                if not self._try(contact, purpose, now):
                    self._passive.put_off(contact.id, now + jitter(PUT_OFF, self._randomness))
        self.resume(now, now + self._pause())

    def welcome(self, contact: Contact, now: float) -> bool:
        """Dial a newcomer whose walk ends here; False if there is no room or the dial limit is reached."""
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
        """The seconds until the next attempt, which grow with each refusal."""
        interval = self._config.overlay_interval
        if len(self._active) >= self._config.active_view:  # it only wants to draw some
            return jitter(
                backoff(interval, max(self._idle, self._refusals), IDLE_LONGEST), self._randomness
            )
        longest = FULL_LONGEST if len(self._active) > self._few else HASTY_LONGEST
        return jitter(backoff(interval, self._refusals, longest), self._randomness)
