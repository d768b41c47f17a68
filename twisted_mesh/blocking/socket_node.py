"""The service behind a MeshSocket, with methods that only a socket needs.

Contract: as :class:`~twisted_mesh.service.MeshService`; all of it runs in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from typing import Any, Final

from twisted.internet.defer import Deferred

from twisted_mesh.addressing.addresses import LOOPBACK, WILDCARDS, this_host
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.errors import Congested, NotHandedOver, NotRunning
from twisted_mesh.eventloop.deferreds import is_in_time, wait_for
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.service import MeshService

#: The keywords of a service that a socket takes, too; the others follow from its addr, port and prot.
OPTIONS: Final = tuple(
    name
    for name in signature(MeshService).parameters
    if name not in ("reactor", "listen", "subnet", "encryption")
)


class SocketNode(MeshService):
    """The service behind a socket.

    :ivar stopping: is called before it stops; :ivar stopped: once it has stopped.
    :ivar closed: whether it stops or has stopped.
    """

    stopping: Callable[[], None]
    stopped: Callable[[], None]
    closed = False

    def check_open(self) -> None:
        """:raises NotRunning: the socket is closed."""
        if self.closed:
            raise NotRunning("the socket is closed")

    def if_open(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call *call* if the socket is open; else raise NotRunning."""
        self.check_open()
        return call(*args, **kwargs)

    def send_now(self, packets: tuple[object, ...], flag: int, type: int, receipt: bool) -> Receipt | None:
        """Send a message to everyone.

        :raises NotRunning: the socket is closed; and what else MeshService.send() raises.
        """
        self.check_open()
        send: Callable[..., Receipt | None] = self.send
        return send(*packets, flag=flag, type=type, receipt=receipt)

    def send_in_turn(
        self, packets: tuple[object, ...], flag: int, type: int, receipt: bool
    ) -> Receipt | Deferred[Receipt | None] | None:
        """As :meth:`send_now`; if there is no room, wait for it up to ``handover_timeout``."""
        try:
            return self.send_now(packets, flag, type, receipt)
        except Congested:
            return Deferred.fromCoroutine(self._send_later(packets, flag, type, receipt))

    async def _send_later(
        self, packets: tuple[object, ...], flag: int, type: int, receipt: bool
    ) -> Receipt | None:
        until = self._clock.seconds() + self.config.handover_timeout
        while True:
            await is_in_time(self.drained(), until - self._clock.seconds(), self._clock)
            try:
                return self.send_now(packets, flag, type, receipt)
            except Congested:
                if self._clock.seconds() >= until:
                    raise

    def receive_queue(self, notify: Callable[[], None]) -> MessageQueue:
        """A queue of received messages, for ``recv()``; *notify* is called after each message."""
        return self._delivery.messages(notify)

    def awaiting(self) -> list[MeshProtocol]:
        """Connections that may still become links."""
        run = self._run
        return [] if run is None else run.connections.awaiting()

    def shown_at(self) -> tuple[str, int] | None:
        """Where others can dial it; else where this host can; None once it is stopped."""
        addresses = self.addresses
        if not addresses:
            return None
        host, port = addresses[0]
        return self.out_addr or (this_host(host), port)

    def is_at(self, host: str, port: int) -> bool:
        """Whether this very node listens there."""
        host = this_host(host)
        return any(
            port == bound and (host == listens or (host == LOOPBACK and listens in WILDCARDS))
            for listens, bound in self.addresses
        )

    def joins(self, seconds: float) -> Deferred[bool]:
        """Fires with True once a neighbour has sent its roster, after *seconds* with False."""
        return Deferred.fromCoroutine(is_in_time(self.joined(), seconds, self._clock))

    def stopService(self) -> Deferred[None]:
        """Stop; if messages wait for peers that were never reached, wait for these first, within bounds."""
        self.closed = True
        self.stopping()
        return wait_for(self._stop_at_last())

    async def _stop_at_last(self) -> None:
        run = self._run
        if self._peers and run is not None and run.driver.unsent and not run.connections.table:
            # The application did not have to wait for its peers, but a message for them must.
            with suppress(NotHandedOver, NotRunning):  # another call may have stopped it meanwhile
                await self.handed_over(self.config.handover_timeout)
        await super().stopService()
        self.stopped()
