"""A service whose application runs outside the reactor's thread.

Contract: as :class:`~twisted_mesh.service.MeshService`.  Call all methods in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred

from twisted_mesh.addressing.addresses import this_host
from twisted_mesh.errors import Congested, NotHandedOver, NotRunning
from twisted_mesh.eventloop.deferreds import wait_at_most, wait_for
from twisted_mesh.service import MeshService

T = TypeVar("T")


class HostedNode(MeshService):
    """The service behind a MeshSocket or an aio.Mesh.

    :ivar class_name: the name of that class; :ivar called: a word for it in texts of errors.
    :ivar stopped: is called when the service has stopped.
    :ivar closed: whether the service stops or has stopped.
    """

    class_name: ClassVar[str]
    called: ClassVar[str]
    stopped: Callable[[], None]
    closed = False

    def check_open(self) -> None:
        """:raises NotRunning: the node is closed."""
        if self.closed:
            raise NotRunning(f"the {self.called} is closed")

    def if_open(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call *call*, but only while the node is open (:meth:`check_open`)."""
        self.check_open()
        return call(*args, **kwargs)

    def in_turn(self, send: Callable[[], T]) -> T | Deferred[T]:
        """Call *send*; if there is no room for a message, wait ``handover_timeout`` at most for room.

        :raises NotRunning: the node is closed.  Other errors are those of *send*.
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

    def shown_at(self) -> tuple[str, int] | None:
        """Where others can dial this node; else, where this host can; None if the node does not listen."""
        addresses = self.addresses
        if not addresses:
            return None
        host, port = addresses[0]
        return self.out_addr or (this_host(host), port)

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
