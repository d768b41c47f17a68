"""The service behind a MeshSocket, with methods that only a socket needs.

Contract: as :class:`~twisted_mesh.threads.hosted_node.HostedNode`.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from twisted_mesh.addressing.addresses import LOOPBACK, WILDCARDS, this_host
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.errors import SelfConnection
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.service import MeshService
from twisted_mesh.threads.hosted_node import HostedNode

#: The keywords of MeshService that MeshSocket takes, too; addr, port and prot stand for the others.
OPTIONS: Final = tuple(
    name
    for name in signature(MeshService).parameters
    if name not in ("reactor", "listen", "subnet", "encryption")
)


class SocketNode(HostedNode):
    """The service behind a socket."""

    class_name = "MeshSocket"
    called = "socket"

    def link_with(self, host: str, port: int) -> Deferred[bool | None]:
        """Link with the node at *host* and *port*.

        :return: fires when the node is in the routing table and the listeners of ``connect`` have run: with
            False if this is the node itself, or was linked before, else with None.
        """
        return Deferred.fromCoroutine(self._link_with(host, port))

    async def _link_with(self, host: str, port: int) -> bool | None:
        self.check_open()
        if (host, port) == self.shown_at() or self._is_at(host, port):
            return False  # this node itself
        known = set(self.routing_table)
        try:
            link = await self.connect(host, port)
        except SelfConnection:
            return False
        # Wait a turn: the listeners of `connect` are called in this turn, but later.
        await deferLater(self._reactor, 0)
        return False if link.id in known else None

    def receive_queue(self, notify: Callable[[], None]) -> MessageQueue:
        """A queue of received messages, for ``recv()``; *notify* is called after each message."""
        return self._delivery.messages(notify)

    def awaiting(self) -> list[MeshProtocol]:
        """The connections that may still become links."""
        run = self._run
        return [] if run is None else run.connections.awaiting()

    def _is_at(self, host: str, port: int) -> bool:
        """Whether this node itself listens at *host* and *port*."""
        host = this_host(host)
        return any(
            port == bound and (host == listens or (host == LOOPBACK and listens in WILDCARDS))
            for listens, bound in self.addresses
        )
