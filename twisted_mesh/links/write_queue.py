"""The frames of one link that its transport has not accepted yet.

Contract: :meth:`WriteQueue.put` queues a frame, and :meth:`WriteQueue.flush` writes the frames that the
transport accepts, joined into large writes.  While the transport pauses its producer, all frames wait here.
So the queue knows when a frame is accepted.  Then it counts the bytes of a *counted* frame, and fires the
Deferred of an *awaited* frame.
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

    def pauseProducing(self) -> object: ...  # pragma: no cover

    def resumeProducing(self) -> object: ...  # pragma: no cover

    def loseConnection(self) -> object: ...  # pragma: no cover

    def abortConnection(self) -> object: ...  # pragma: no cover


_Item = tuple[bytes, bool, Handover | None]  # the frame, whether it is counted, the Deferred to fire


@implementer(IPushProducer)
class WriteQueue:
    """The queue of one link.

    :ivar queued_bytes: bytes that wait here.
    :ivar written: bytes of all frames that the transport has accepted so far.
    :ivar accepted: bytes of counted frames among them.
    :ivar paused: whether the transport accepts nothing for now.
    """

    def __init__(
        self, write: Callable[[bytes], object], write_bytes: int, resumed: Callable[[], None]
    ) -> None:
        """
        :param write_bytes: the size up to which frames are joined.
        :param resumed: called when the transport accepts bytes again.
        """
        self._write = write
        self._write_bytes = write_bytes
        self._resumed = resumed
        self._queue: deque[_Item] = deque()
        self.queued_bytes = 0
        self.written = self.accepted = 0
        self.paused = False

    def put(self, data: bytes, *, counted: bool = False) -> None:
        """Queue a whole frame; if *counted*, its bytes count towards :attr:`accepted`."""
        self._queue.append((data, counted, None))
        self.queued_bytes += len(data)

    def put_awaited(self, data: bytes) -> Deferred[None]:
        """Queue a whole frame; fires once it is accepted, fails with Unreachable if it is dropped."""
        accepted = Handover()
        self._queue.append((data, False, accepted))
        self.queued_bytes += len(data)
        return accepted

    def flush(self, *, everything: bool = False) -> None:
        """Write the frames that the transport accepts; if *everything*, write all frames."""
        queue = self._queue
        while queue and (everything or not self.paused):
            parts: list[bytes] = []
            awaited: list[Handover] = []
            size = 0
            while queue and size < self._write_bytes:
                data, counted, accepted = queue.popleft()
                parts.append(data)
                size += len(data)
                if counted:
                    self.accepted += len(data)
                if accepted is not None:
                    awaited.append(accepted)
            self.queued_bytes -= size
            self.written += size
            self._write(parts[0] if len(parts) == 1 else b"".join(parts))
            for accepted in awaited:
                accepted.callback(None)

    def drop(self, why: str) -> None:
        """Drop all frames; the Deferreds of awaited frames fail with *why*."""
        dropped = list(self._queue)
        self._queue.clear()  # no new deque: a callback in flush(), which uses this one, may call drop()
        self.queued_bytes = 0
        for _, _, accepted in dropped:
            if accepted is not None:
                accepted.errback(Failure(Unreachable(why)))

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self._resumed()

    def stopProducing(self) -> None:
        self.paused = True  # the connection has ended
