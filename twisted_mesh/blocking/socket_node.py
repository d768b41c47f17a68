"""The service behind a MeshSocket, with methods that only a socket needs.

Contract: as :class:`~twisted_mesh.service.MeshService`.  Call all methods in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from twisted_mesh.addressing.addresses import LOOPBACK, WILDCARDS, this_host
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.errors import Congested, NotHandedOver, NotRunning, SelfConnection
from twisted_mesh.eventloop.deferreds import wait_at_most, wait_for
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.service import MeshService

T = TypeVar("T")
#: The keywords of MeshService that MeshSocket takes, too; addr, port and prot stand for the others.
OPTIONS: Final = tuple(
    name
    for name in signature(MeshService).parameters
    if name not in ("reactor", "listen", "subnet", "encryption")
)


class SocketNode(MeshService):
    """The service behind a socket.

    :ivar stopped: is called when the service has stopped.
    :ivar closed: whether the service stops or has stopped.
    """

    stopped: Callable[[], None]
    closed = False

    def check_open(self) -> None:
        """:raises NotRunning: the socket is closed."""
        if self.closed:
            raise NotRunning("the socket is closed")

    def if_open(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call *call*, but only while the socket is open (:meth:`check_open`)."""
        self.check_open()
        return call(*args, **kwargs)

    def in_turn(self, send: Callable[[], T]) -> T | Deferred[T]:
        """Call *send*; if there is no room for a message, wait ``handover_timeout`` at most for room.

        :raises NotRunning: the socket is closed.  Other errors are those of *send*.
        """
        try:
            return self.if_open(send)
        except Congested:
            return Deferred.fromCoroutine(self._later(send))

    async def _later(self, send: Callable[[], T]) -> T:
        until = self._clock.seconds() + self.config.handover_timeout
        while True:
            await wait_at_most(self.drained(), until - self._clock.seconds(), self._clock)
            try:
                return self.if_open(send)
            except Congested:
                if self._clock.seconds() >= until:
                    raise

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

    def shown_at(self) -> tuple[str, int] | None:
        """Where others can dial this node; else, where this host can; None if the node does not listen."""
        addresses = self.addresses
        if not addresses:
            return None
        host, port = addresses[0]
        return self.out_addr or (this_host(host), port)

    def _is_at(self, host: str, port: int) -> bool:
        """Whether this node itself listens at *host* and *port*."""
        host = this_host(host)
        return any(
            port == bound and (host == listens or (host == LOOPBACK and listens in WILDCARDS))
            for listens, bound in self.addresses
        )

    def joins(self, seconds: float) -> Deferred[bool]:
        """Fires with True once a neighbour has sent its roster, or with False after *seconds*."""
        return Deferred.fromCoroutine(wait_at_most(self.joined(), seconds, self._clock))

    def stopService(self) -> Deferred[None]:
        """Stop.

        If messages wait and there is no neighbour, wait until one has read them (``handover_timeout``).
        """
        self.closed = True
        if self._run is not None:
            self._run.cancel_connecting()
        return wait_for(self._stop_at_last())

    async def _stop_at_last(self) -> None:
        run = self._run
        if self._peers and run is not None and run.unsent and not run.connections.table:
            # The application may send before it has a neighbour, so the messages wait for one.
            with suppress(NotHandedOver, NotRunning):  # another call may have stopped the node meanwhile
                await self.handed_over(self.config.handover_timeout)
        await super().stopService()
        self.stopped()
