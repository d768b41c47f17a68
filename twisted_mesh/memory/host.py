"""A host of a MemoryMesh: its clock, its disk, and the service in its present process.

Contract: a process that is killed does nothing any more; its host, with the disk, stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any, Final

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from zope.interface import implementer

from twisted_mesh.core.history.storage import Flush, Flushed, Store
from twisted_mesh.delivery.listeners import EVENTS
from twisted_mesh.delivery.named import NamedMessages, NamedQueue
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.errors import StoreError
from twisted_mesh.eventloop.forks import closed
from twisted_mesh.identity import verify
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.memory.awaited import GuardedNamed, GuardedQueue, RunGuard
from twisted_mesh.message import Message, Packet
from twisted_mesh.runtime.settings import Host
from twisted_mesh.service import MeshService

#: Methods of a service whose Deferreds only MemoryMesh.run() can fire.
WAITING: Final = (
    "ready", "joined", "key_in_use", "connect", "send_to", "request", "drained", "handed_over",
    "stopService",
)  # fmt: skip

_verify = lru_cache(maxsize=4096)(verify)  # saves a twelfth of the time of tests (measured)


class Disk:
    """The disk of a host.

    :ivar is_full: whether nothing can be written.
    """

    def __init__(self) -> None:
        self.is_full = False

    def hold(self, store: Store) -> None:
        """Let *store* be on this disk."""
        write = store.flush

        def flush(flush: Flush) -> Flushed:
            if self.is_full:
                raise StoreError(f"history {store.name}: No space left on device")
            return write(flush)

        store.flush = flush  # type: ignore[method-assign]


@implementer(IReactorTime)
class HostClock:
    """The clock of one process, whose timers end when the process does.

    :ivar runs: whether the process runs.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.runs = True

    def seconds(self) -> float:
        return self._clock.seconds()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        call = self._clock.callLater(delay, self._fire, callable, args, kwargs)
        if not self.runs:
            call.cancel()
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """The calls of this process that are still to come."""
        calls = self._clock.getDelayedCalls()
        return [call for call in calls if isinstance(call, DelayedCall) and call.func == self._fire]

    def stop(self) -> None:
        """End the process: cancel its timers, and let no later one fire."""
        self.runs = False
        for call in self.getDelayedCalls():
            call.cancel()

    def _fire(
        self, callable: Callable[..., Any], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        callable(*args, **kwargs)


class MemoryService(MeshService):
    """A service whose wall clock is the mesh's Clock, so that messages have the same times in every run.

    All nodes share the results of verifying signatures.

    :ivar chance: the mesh's random generator; :ivar guard: refuses to be awaited by a test.
    :ivar disk: where its history is.
    :ivar descriptors: how many its process may have open at its next start; None if that is not known.
    """

    chance: Random
    guard: RunGuard
    disk: Disk
    descriptors: int | None = None

    def send(self, *packets: Packet, **options: Any) -> Any:
        receipt = super().send(*packets, **options)
        if receipt is not None:
            receipt.complete = self.guard.checked(receipt.complete)
        return receipt

    def _unnamed_messages(self) -> MessageQueue:
        queue = self._delivery.add(GuardedQueue)
        queue.guard = self.guard
        return queue

    def _named_messages(self, queue: NamedQueue) -> NamedMessages:
        messages = GuardedNamed(queue, self._delivery.named.close)
        messages.guard = self.guard
        return messages

    def _begin(self) -> None:
        super()._begin()
        assert self._run is not None
        directs = self._run.directs  # replies go through these, too
        directs.send = self.guard.checked(directs.send)  # type: ignore[method-assign]
        if self._run.writer is not None:
            self.disk.hold(self._run.writer.store)

    def _host(self) -> Host:
        return Host(self._clock.seconds, _verify, self._draw, lambda _: self.descriptors)

    def _draw(self, below: int) -> int:
        return self.chance.randrange(below)

    def died(self) -> None:
        """Give the lock on the history file free, as the end of a process does, and be in no later fork."""
        closed(self._close_in_fork)
        if self._run is not None and self._run.writer is not None:
            self._run.writer.store.close()


@dataclass
class MemoryNode:
    """A host; its process can be killed and started again.

    :ivar options: the options of its service; :ivar chance: the mesh's random generator.
    :ivar guard: refuses to be awaited by a test; :ivar disk: where its history is.
    :ivar clock: the clock of the present process; :ivar service: the service in it.
    """

    options: dict[str, Any]
    chance: Random
    guard: RunGuard
    disk: Disk = field(init=False, default_factory=Disk)
    clock: HostClock = field(init=False)
    service: MemoryService = field(init=False)
    received: list[Message] = field(init=False)
    events: list[tuple[str, Any]] = field(init=False)

    def make(self, clock: Clock) -> MeshService:
        """Make the service of a new process, and note the messages and events that it delivers."""
        self.clock = HostClock(clock)
        service = self.service = MemoryService(self.clock, **self.options)
        service.chance, service.guard, service.disk = self.chance, self.guard, self.disk
        for name in WAITING:
            setattr(service, name, self.guard.checked(getattr(service, name)))
        received, events = self.received, self.events = [], []

        # This is the first handler, so that it also sees messages that the application's handlers take.
        def note(message: Message, link: MeshProtocol | None) -> bool:
            received.append(message)
            return False

        service.register_handler(note)
        for name in EVENTS:
            if name != "message":
                service.on(name, lambda what, name=name: events.append((name, what)))
        return service
