"""Makes the links of a service, one for each connection.

Contract: a factory outlives the runs of its service.  While the service does not run, it refuses
connections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from twisted_mesh.links.protocol import LinkHost, MeshProtocol
from twisted_mesh.wire.membership import Purpose


@dataclass(eq=False, repr=False)
class MeshFactory(Factory):
    """Makes the links of one service.

    :param host: returns the host of the links, or None while the service does not run.
    :param outgoing: whether this node dialled the connections.
    :param expected: the id that the far end must have; None if any may.
    :param purpose: the purpose for which this node dials.
    :param name: the host name that it dials; None for an address.
    """

    noisy = False

    host: Callable[[], LinkHost | None]
    _: KW_ONLY
    outgoing: bool = False
    expected: bytes | None = None
    purpose: Purpose = Purpose.JOIN
    name: str | None = None

    def buildProtocol(self, addr: IAddress | None) -> MeshProtocol | None:
        """Make the link of a new connection; None refuses the connection."""
        if (host := self.host()) is None:
            return None
        return host.link(addr, self.outgoing, self.expected, self.purpose, self.name)
