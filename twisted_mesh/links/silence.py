"""Asking silent links whether they live, closing those that do not answer, and saying that this node lives.

Contract: the clock of :mod:`twisted_mesh.core.keepalive`, which decides; this carries it out several times
per ``ping_after``, until it is stopped.  Links of the routing table are asked, and closed; for others other
timers run.  That this node lives is said over every open link, be it an exchange or not up yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from twisted.internet.interfaces import IReactorTime

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.keepalive import ALIVE, Verdict
from twisted_mesh.core.link_machine import Phase
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.wire import native

_LOOKS: Final = 5  # per ping_after
_SIGN: Final = native.encode(native.Pong(ALIVE))


class Keepalive:
    """Watches the links of one run."""

    def __init__(
        self,
        clock: IReactorTime,
        config: MeshConfig,
        links: Iterable[MeshProtocol],
        table: Mapping[bytes, MeshProtocol],
    ) -> None:
        """
        :param links: all there are; *table*: of these the routing table.
        """
        self._clock = clock
        self._links = links
        self._table = table
        self._stall_grace = config.stall_grace
        self._every = config.ping_after / _LOOKS
        self._looked = clock.seconds()
        self._next = clock.callLater(self._every, self._look)

    def stop(self) -> None:
        """Watch no more."""
        self._next.cancel()

    def _look(self) -> None:
        now = self._clock.seconds()
        late = now - self._looked - self._every
        self._looked = now
        self._next = self._clock.callLater(self._every, self._look)
        for link in self._links:
            link.liveness.has_read(link.read_bytes, now)
        for link in list(self._table.values()):
            if late > self._stall_grace:
                link.liveness.doubt(late)
            match link.liveness.check(now):
                case Verdict.PING:
                    link.write(native.encode(native.Ping(link.number)))
                case Verdict.DEAD:
                    silence = link.liveness.silent_for(now)
                    link.close(RemoteError(f"silent for {silence:.0f} s", Reason.SILENT))
                case Verdict.FINE:
                    pass
        for link in self._links:
            if link.phase is Phase.OPEN and link.owes_a_sign(now):
                link.write(_SIGN)
