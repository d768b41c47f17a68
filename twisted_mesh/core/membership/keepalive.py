"""When a silent peer is sent a PING, and when its link counts as dead.

Contract: :meth:`Keepalive.look` is called several times per ``ping_after``.  It sends PINGs and signs of
life, and ends dead links.  A link lives while bytes come over it, or while its transport accepts more bytes
after a pause: a peer that is busy reading 64 MiB is not dead.  While a large frame goes one way over a slow
line, neither may happen for long.  So a node that receives bytes sends a *sign of life* (a PONG) at least
every ``ping_after``.  If this node itself was held up, all its deadlines move by that time (Lifeguard).

Only links in the routing table are sent PINGs and given up; other timers end other links.  Signs of life go
over every open link, also over exchanges and over links that are not up yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Flowing, Resumed, Timer
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.errors import Reason
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.link import Ping, Pong

ALIVE: Final = MAX_NUMBER - 3  # the token of a PONG that is a sign of life and answers no PING
_LATELY: Final = 0.5  # the part of ping_after or close_timeout after which a sign of life is due (guess)
_LOOKS: Final = 5  # calls of look() per ping_after


@dataclass(eq=False)
class Keepalive:
    """Looks after the links of one run."""

    _links: Links
    _effects: Effects
    _config: MeshConfig

    def __post_init__(self) -> None:
        self._lately = min(self._config.ping_after, self._config.close_timeout) * _LATELY

    def begin(self, now: float) -> None:
        """Have :meth:`look` called soon, since there is a link."""
        self._effects.set_timer(Timer.KEEPALIVE, now + self._config.ping_after / _LOOKS)

    def handle(self, event: Flowing | Resumed, now: float) -> None:
        """Note that a peer lives, though no whole frame has come."""
        if (link := self._links.get(event.link)) is None:
            return
        if isinstance(event, Flowing):
            link.life.last_bytes_at = now
        else:
            link.life.resumed_at = now

    def look(self, late: float, now: float) -> None:
        """Send PINGs and signs of life, and end dead links; this call is *late* seconds late."""
        for link in self._links.fed:
            if not link.up:
                continue
            if late > self._config.stall_grace:
                link.life.doubt(late)
            if link.life.is_silent(self._config.dead_after, now):
                self._effects.end(link, Reason.SILENT, f"silent for {now - link.life.last_bytes_at:.0f} s")
            elif link.life.is_to_be_asked(self._config.ping_after, now):
                self._effects.send((link,), Ping(link.number))
        owed = [link for link in (*self._links.fed, *self._links.exchanges) if self._owes_a_sign(link, now)]
        if owed:
            self._effects.send(owed, Pong(ALIVE))
        if self._links.all:
            self.begin(now)

    def _owes_a_sign(self, link: Link, now: float) -> bool:
        """Whether to send the peer a sign of life; a queued frame is one already."""
        link.life.wrote(link.flow.accepted, now)
        return link.life.owes_a_sign(self._lately, now) and not link.flow.queued
