"""Makes the links of a service, one for each connection.

Contract: a factory outlives the runs of its service.  While the service does not run, it refuses
connections.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from twisted_mesh.links.protocol import LinkHost, MeshProtocol
from twisted_mesh.wire.membership import Purpose


class MeshFactory(Factory):
    """Makes the links of one service.

    :param host: returns the host of the links, or None while the service does not run.
    :param outgoing: whether this node dialled the connections.
    :param expected: the id that the node there must have; None if any may.
    :param purpose: of the connections, if this node dialled them.
    """

    noisy = False

    def __init__(
        self,
        host: Callable[[], LinkHost | None],
        *,
        outgoing: bool = False,
        expected: bytes | None = None,
        purpose: Purpose = Purpose.JOIN,
    ) -> None:
        self._host = host
        self._outgoing = outgoing
        self._expected = expected
        self._purpose = purpose

    def buildProtocol(self, addr: IAddress | None) -> MeshProtocol | None:
        """A new link, or None to refuse the connection."""
        if (host := self._host()) is None:
            return None
        return host.link(addr, self._outgoing, self._expected, self._purpose)
