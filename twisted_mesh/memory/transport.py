"""One end of a connection in memory: a transport like Twisted's TCP, over two buffers.

Contract: bytes wait in the sender's buffer while the far end does not read.  A producer is paused when more
than 64 KiB wait, and resumed when the buffer is empty.  ``loseConnection`` first sends the bytes that wait.
Bytes that reach a closed end reset the connection, and the bytes that were not read yet are lost.  An end
does nothing by itself: :meth:`MemoryTransport.steps` are the steps it can take, and the network draws one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final
from typing import Protocol as Shape

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer, IReactorTime, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

#: Bytes above which Twisted pauses a producer; an operating system's buffer is taken to be as large.
BUFFER: Final = 65_536
#: A slow line passes bytes in parts that take this many seconds each (guess).
SLOW_STEP: Final = 0.05


class Medium(Shape):
    """The network of an end (network.MemoryNetwork)."""

    @property
    def clock(self) -> IReactorTime: ...
    def is_partitioned(self, hosts: frozenset[str]) -> bool: ...
    def rate(self, hosts: frozenset[str]) -> float | None: ...
    def chunk(self, most: int) -> int: ...
    def closed(self, end: MemoryTransport) -> None: ...
    def finish(self, end: MemoryTransport) -> None: ...


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport:
    """One end of a connection.

    :ivar far: the other end; :ivar hosts: the hosts of both ends.
    :ivar protocol: the protocol at this end.
    :ivar reads: whether the process reads; False for a process that hangs.
    :ivar swallows: whether bytes sent here vanish; if both ends do so, the cable is unplugged.
    :ivar chunk: the most bytes that arrive at once; :ivar closed: whether this end is closed.
    """

    disconnecting = False

    def __init__(self, medium: Medium, host: IPv4Address, peer: IPv4Address) -> None:
        self._medium = medium
        self._host, self._peer = host, peer
        self.hosts = frozenset((host.host, peer.host))
        self.far: MemoryTransport
        self.protocol: Any = None
        self.reads = True
        self.swallows = False
        self.chunk = BUFFER
        self.closed = False
        self._unsent = bytearray()
        self._arrived = bytearray()  # in the operating system, not read yet
        self._fin = False  # the far end is closed: the stream ends after the bytes that have arrived
        self._producer: Any = None
        self._paused = False
        self._free_at = 0.0  # when the last bytes that were sent over a slow line have passed

    # ── Twisted's interfaces ────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        if self.closed or self.disconnecting:
            return
        self._unsent += data
        if self._producer is not None and len(self._unsent) > BUFFER and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        self.disconnecting = True

    stopProducing = loseConnection

    def abortConnection(self) -> None:
        if not self.closed:
            self.disconnecting = True
            self._unsent.clear()
            self._medium.clock.callLater(0, self._abort)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        if self.closed:
            producer.stopProducing()
        else:
            self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self.reads = False

    def resumeProducing(self) -> None:
        self.reads = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: writes are never held back."""

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return self._host

    # ── the network's side ──────────────────────────────────────────────────────────

    def on_its_way(self) -> int:
        """How many bytes were written here and are not read at the far end (links.in_transit)."""
        return len(self._unsent) + len(self.far._arrived)

    def steps(self) -> list[Callable[[], None]]:
        """The steps that this end can take now; the network calls one of them."""
        if self.closed:
            return []
        steps: list[Callable[[], None]] = []
        if self._unsent:
            room = self.swallows or len(self.far._arrived) < BUFFER
            if (
                room
                and self._medium.clock.seconds() >= self._free_at
                and not self._medium.is_partitioned(self.hosts)
            ):
                steps.append(self._send)
        elif self.disconnecting and self._producer is None:
            steps.append(self._finish)
        if self.reads:
            if self._arrived:
                steps.append(self._arrive)
            elif self._fin:
                steps.append(partial(self.lose, ConnectionDone()))
        return steps

    def lose(self, why: Exception) -> None:
        """End the connection at this end, because of *why*."""
        if self.closed:
            return
        self._close()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(why))

    def die(self) -> None:
        """Close the connection as an operating system does if the process at this end was killed."""
        unread = bool(self._arrived)
        self._close()
        if self.swallows:
            return
        if not unread:
            self._medium.finish(self.far)
        elif not self._medium.is_partitioned(self.hosts):
            self.far.lose(ConnectionLost("reset"))

    def read_end(self) -> None:
        """The far end is closed: let this end read the bytes that arrived, then the stream's end."""
        self._fin = True

    def _close(self) -> None:
        self.closed = True
        self._arrived.clear()
        self._unsent.clear()
        self._medium.closed(self)

    def _send(self) -> None:
        most, rate = BUFFER, self._medium.rate(self.hosts)
        if rate is not None:
            most = max(1, min(BUFFER, int(rate * SLOW_STEP)))
        part, self._unsent = self._unsent[:most], self._unsent[most:]
        if rate is not None:
            self._free_at = self._medium.clock.seconds() + len(part) / rate
            self._medium.clock.callLater(len(part) / rate, _wake)
        if not self.swallows:
            if self.far.closed:
                self.lose(ConnectionLost("reset"))
                return
            self.far._arrived += part
        if not self._unsent and self._paused:
            self._paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def _arrive(self) -> None:
        size = self._medium.chunk(self.chunk)
        part, self._arrived = bytes(self._arrived[:size]), self._arrived[size:]
        self.protocol.dataReceived(part)

    def _finish(self) -> None:
        if not self.swallows:
            self._medium.finish(self.far)
        self.lose(ConnectionDone())

    def _abort(self) -> None:
        self.lose(ConnectionAborted())
        if not self.swallows and not self._medium.is_partitioned(self.hosts):
            self.far.lose(ConnectionLost("reset"))


def _wake() -> None:
    """Do nothing: when a timer is due, the network takes all steps that can be taken by then."""
