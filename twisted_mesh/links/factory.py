"""What makes a service's links, one for each connection.

Contract: a factory outlives the runs of its service; while there is none it refuses connections.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from twisted_mesh.links.protocol import LinkHost, MeshProtocol
from twisted_mesh.wire.membership import Purpose


class MeshFactory(Factory):
    """Makes the links of one service.

    :param host: gives what they work for, or None while the service does not run.
    :param outgoing: whether the connections were dialled from here.
    :param expected: the id the node there must have, if it is known.
    :param purpose: what the connections are dialled for.
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
        host = self._host()
        if host is None:
            return None
        return host.link(addr, self._outgoing, self._expected, self._purpose)
