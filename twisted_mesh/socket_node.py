"""The service behind a MeshSocket, with what only a socket needs of it.

Contract: as :class:`~twisted_mesh.service.MeshService`; all of it runs in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from twisted.internet.defer import Deferred

from twisted_mesh.consumer import MessageQueue
from twisted_mesh.errors import NotHandedOver
from twisted_mesh.protocol import MeshProtocol
from twisted_mesh.service import MeshService


class SocketNode(MeshService):
    """The service behind a socket.

    :ivar stopping: called before it stops; :ivar stopped: once it has.
    """

    stopping: Callable[[], None]
    stopped: Callable[[], None]

    def receive_queue(self, notify: Callable[[], None]) -> MessageQueue:
        """What comes, for ``recv()``; *notify* is called after each message."""
        return self._delivery.receive_queue(notify)

    def awaiting(self) -> list[MeshProtocol]:
        """Connections that may still become links."""
        run = self._run
        return [] if run is None else run.hub.connections.awaiting()

    def stopService(self) -> Deferred[None]:
        """Stop, once a last message has had its time to find a peer that was not reached yet."""
        self.stopping()
        return Deferred.fromCoroutine(self._stop_at_last())

    async def _stop_at_last(self) -> None:
        run = self._run
        if self._peers and run is not None and run.hub.unsent and not run.hub.table:
            # Nobody had to wait until they were reached, but a message for them must.
            with suppress(NotHandedOver):
                await self.handed_over(self.config.handover_timeout)
        await super().stopService()
        self.stopped()
