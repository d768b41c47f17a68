"""What waits behind a transport: one link's outgoing frames.

Contract: :meth:`WriteQueue.put` queues, :meth:`WriteQueue.flush` writes as much as the transport accepts,
joined into large writes; while the transport pauses its producer everything waits here.  So there is one
place where "the transport has taken it" is known: by the count of the core's bytes and by Deferreds
of those who wait for a single frame.
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
    """What is used of a transport: TCP's, TLS's and the in-memory ones of tests have all of it."""

    def write(self, data: bytes) -> object: ...  # pragma: no cover

    def registerProducer(self, producer: object, streaming: bool) -> object: ...  # pragma: no cover

    def unregisterProducer(self) -> object: ...  # pragma: no cover

    def loseConnection(self) -> object: ...  # pragma: no cover

    def abortConnection(self) -> object: ...  # pragma: no cover


_Item = tuple[bytes, bool, Handover | None]  # the frame, whether it is counted, who waits


@implementer(IPushProducer)
class WriteQueue:
    """The queue of one link.

    :ivar queued_bytes: what waits behind the transport.
    :ivar accepted: bytes of counted frames the transport has taken so far; :ivar written: of all frames.
    :ivar paused: whether the transport has enough for now.
    """

    def __init__(
        self, write: Callable[[bytes], object], write_bytes: int, resumed: Callable[[], None]
    ) -> None:
        """
        :param write: the transport's.
        :param write_bytes: frames are joined up to this size.
        :param resumed: called when the transport takes more again, so that somebody flushes.
        """
        self._write = write
        self._write_bytes = write_bytes
        self._resumed = resumed
        self._queue: deque[_Item] = deque()
        self.queued_bytes = 0
        self.accepted = self.written = 0
        self.paused = False

    def put(self, data: bytes, *, counted: bool = False) -> None:
        """Queue a whole frame; *counted* towards :attr:`accepted` or not."""
        self._queue.append((data, counted, None))
        self.queued_bytes += len(data)

    def put_awaited(self, data: bytes) -> Deferred[None]:
        """Queue a whole frame; fires when the transport has it, fails with Unreachable if never."""
        taken = Handover()
        self._queue.append((data, False, taken))
        self.queued_bytes += len(data)
        return taken

    def flush(self, *, everything: bool = False) -> None:
        """Write what the transport takes, or *everything* at the end of a connection."""
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
            self.written += size
            self._write(parts[0] if len(parts) == 1 else b"".join(parts))
            for taken in awaited:
                taken.callback(None)

    def drop(self, why: str) -> None:
        """Forget what waits; those who wait for it are told *why*."""
        dropped = list(self._queue)
        self._queue.clear()  # in place: who is told of a frame that is out may close the link
        self.queued_bytes = 0
        for _, _, taken in dropped:
            if taken is not None:
                taken.errback(Failure(Unreachable(why)))

    def pauseProducing(self) -> None:
        """The transport has enough for now."""
        self.paused = True

    def resumeProducing(self) -> None:
        """The transport takes more."""
        self.paused = False
        self._resumed()

    def stopProducing(self) -> None:
        """The connection is gone; connectionLost tells the rest."""
        self.paused = True
