"""When a silent link is asked whether it lives, and when it is given up.

Contract: :meth:`Keepalive.look` is called several times per ``ping_after``.  It sends PINGs and signs of
life, and ends links that are dead.  A link lives as long as bytes come over it, or as long as its
transport takes more of what had piled up: a peer that is busy reading 64 MiB is not dead.  Over a slow line
neither may happen for long, while a large frame goes one way.  So a node that receives says at least every
``ping_after`` that it lives.  A node that was itself held up doubts itself first (Lifeguard): all deadlines
move by that time.

Links of the routing table are asked, and given up; for others other timers run.  Signs of life go over
every open link, also over exchanges and links that are not up yet.
"""

from __future__ import annotations

from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Flowing, Resumed, Timer
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.errors import Reason
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.link import Ping, Pong

ALIVE: Final = MAX_NUMBER - 3  # the token of a PONG that nobody asked for
_LATELY: Final = 0.5  # of ping_after or close_timeout: looks and the line come on top (guess)
_LOOKS: Final = 5  # per ping_after


class Keepalive:
    """Looks after the links of one run."""

    def __init__(self, links: Links, effects: Effects, config: MeshConfig) -> None:
        self._links = links
        self._effects = effects
        self._config = config
        self._lately = min(config.ping_after, config.close_timeout) * _LATELY

    def begin(self, now: float) -> None:
        """There is a link to look after."""
        self._effects.set_timer(Timer.KEEPALIVE, now + self._config.ping_after / _LOOKS)

    def handle(self, event: Flowing | Resumed, now: float) -> None:
        """Note a sign of life that is no frame."""
        if (link := self._links.get(event.link)) is None:
            return
        if isinstance(event, Flowing):
            link.life.last_bytes_at = now
        else:
            link.life.resumed_at = now

    def look(self, late: float, now: float) -> None:
        """Do what is due now.

        :param late: seconds by which this look is late.
        """
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
        """Whether the peer is to be told that its bytes are read, and nothing in the queue tells it."""
        link.life.wrote(link.flow.accepted, now)
        return link.life.owes_a_sign(self._lately, now) and not link.flow.queued
