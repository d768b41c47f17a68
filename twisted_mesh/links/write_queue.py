"""The frames of one link that wait behind its transport.

Contract: :meth:`WriteQueue.put` queues a frame, :meth:`WriteQueue.flush` writes as many as the transport
accepts, joined into large writes.  While the transport pauses its producer, all frames wait here.  So this
alone knows when the transport has accepted a frame: it counts the core's bytes, and fires the Deferred of
a frame that is awaited.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mesh.errors import Unreachable
from twisted_mesh.eventloop.deferreds import Handover


class Transport(Interface):
    """The part of a transport that links use."""

    def write(self, data: bytes) -> object: ...  # pragma: no cover

    def registerProducer(self, producer: object, streaming: bool) -> object: ...  # pragma: no cover

    def unregisterProducer(self) -> object: ...  # pragma: no cover

    def loseConnection(self) -> object: ...  # pragma: no cover

    def abortConnection(self) -> object: ...  # pragma: no cover


_Item = tuple[bytes, bool, Handover | None]  # the frame, whether it is counted, the Deferred to fire


@implementer(IPushProducer)
class WriteQueue:
    """The queue of one link.

    :ivar queued_bytes: bytes that wait behind the transport.
    :ivar accepted: bytes of counted frames that the transport has accepted so far.
    :ivar paused: whether the transport accepts no more for now.
    """

    def __init__(
        self, write: Callable[[bytes], object], write_bytes: int, resumed: Callable[[], None]
    ) -> None:
        """
        :param write: of the transport.
        :param write_bytes: size up to which frames are joined.
        :param resumed: called when the transport accepts more again.
        """
        self._write = write
        self._write_bytes = write_bytes
        self._resumed = resumed
        self._queue: deque[_Item] = deque()
        self.queued_bytes = 0
        self.accepted = 0
        self.paused = False

    def put(self, data: bytes, *, counted: bool = False) -> None:
        """Queue a whole frame; *counted* towards :attr:`accepted` or not."""
        self._queue.append((data, counted, None))
        self.queued_bytes += len(data)

    def put_awaited(self, data: bytes) -> Deferred[None]:
        """Queue a whole frame; fires once the transport accepts it, fails with Unreachable if never."""
        taken = Handover()
        self._queue.append((data, False, taken))
        self.queued_bytes += len(data)
        return taken

    def flush(self, *, everything: bool = False) -> None:
        """Write the frames that the transport accepts; all frames if *everything*, at the end."""
        queue = self._queue
        while queue and (everything or not self.paused):
            parts: list[bytes] = []
            awaited: list[Handover] = []
            size = 0
            while queue and size < self._write_bytes:
                data, counted, taken = queue.popleft()
                parts.append(data)
                size += len(data)
                if counted:
                    self.accepted += len(data)
                if taken is not None:
                    awaited.append(taken)
            self.queued_bytes -= size
            self._write(parts[0] if len(parts) == 1 else b"".join(parts))
            for taken in awaited:
                taken.callback(None)

    def drop(self, why: str) -> None:
        """Drop the frames that wait; the Deferreds of awaited ones fail with *why*."""
        dropped = list(self._queue)
        self._queue.clear()  # in place: a callback of flush() may have closed the link
        self.queued_bytes = 0
        for _, _, taken in dropped:
            if taken is not None:
                taken.errback(Failure(Unreachable(why)))

    def pauseProducing(self) -> None:
        """The transport accepts no more for now."""
        self.paused = True

    def resumeProducing(self) -> None:
        """The transport accepts more."""
        self.paused = False
        self._resumed()

    def stopProducing(self) -> None:
        """The connection is gone; connectionLost() follows."""
        self.paused = True
