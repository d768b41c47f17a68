"""A service whose application runs outside the reactor's thread.

Contract: as :class:`~twisted_mesh.service.MeshService`.  Call all methods in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, TypeVar

from twisted.internet.defer import Deferred

from twisted_mesh.addressing.addresses import this_host
from twisted_mesh.delivery.listeners import Event
from twisted_mesh.errors import Congested, NotHandedOver, NotRunning
from twisted_mesh.eventloop.deferreds import wait_at_most, wait_for
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.message import Member
from twisted_mesh.service import MeshService
from twisted_mesh.threads.batches import Batches, BatchQueue, Give, NamedBatches
from twisted_mesh.threads.proxies import Caller, Link

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

    def tell(self, emit: Callable[[str, object], object], owner: object) -> None:
        """Let *emit* emit the node's events, but ``message``, ``receipt`` and ``failure``.

        :param owner: the object that the application holds; ``connect`` and ``disconnect`` tell it.
        """
        event: Event
        for event in ("connect", "disconnect"):
            self.on(event, lambda _, event=event: emit(event, owner))
        for event in ("caught_up", "member", "gap", "refused"):
            self.on(event, partial(emit, event))

    def batches(self, give: Give) -> Batches:
        """The messages from now on, in batches that *give* gets."""
        queue = self._delivery.add(BatchQueue)
        return queue.given_by(Batches(queue, give))

    def named_batches(self, name: str, start: str | float, give: Give) -> NamedBatches:
        """The messages of a named consumer (:meth:`messages`), in batches that *give* gets."""
        named = self._delivery.named
        return named.open(name, start, lambda queue: NamedBatches(queue, named.close, give))

    def links(self, caller: Caller) -> dict[bytes, Link]:
        """The neighbours by id, as they are now; any thread may call this."""
        # Copied in one step, because the reactor's thread changes the table meanwhile.
        table: dict[bytes, MeshProtocol] = self.routing_table.copy()  # type: ignore[attr-defined]
        return {node_id: Link(caller, link) for node_id, link in table.items()}

    def members_now(self) -> dict[bytes, Member]:
        """The other members by id, as they are now; any thread may call this."""
        members: dict[bytes, Member] = self.members.copy()  # type: ignore[attr-defined]
        return members

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

    def stopService(self, retire: bool = False) -> Deferred[None]:
        """Stop.

        If messages wait and there is no neighbour, wait until one has read them (``handover_timeout``).
        """
        self.closed = True
        if self._run is not None:
            self._run.cancel_connecting()
        return wait_for(self._stop_at_last(retire))

    async def _stop_at_last(self, retire: bool) -> None:
        run = self._run
        if self._peers and run is not None and run.unsent and not run.connections.table:
            # The application may send before it has a neighbour, so the messages wait for one.
            with suppress(NotHandedOver, NotRunning):  # another call may have stopped the node meanwhile
                await self.handed_over(self.config.handover_timeout)
        await super().stopService(retire)
        self.stopped()
