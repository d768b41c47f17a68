"""One end of a connection in memory: a transport like Twisted's TCP, over two buffers.

Contract: bytes wait in the sender's buffer while the far end does not read.  A producer is paused when more
than 64 KiB wait, and resumed when the buffer is empty.  ``loseConnection`` sends what is left first.  Bytes
that reach a closed end reset the connection, and everything that was not read yet is lost.  Nothing happens
by itself: :meth:`MemoryTransport.steps` are what can happen next, and the network chooses one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final
from typing import Protocol as Shape

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPullProducer, IPushProducer, IReactorTime, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

BUFFER: Final = 65_536  # Twisted's limit, above which a producer is paused; also what the system holds


class Medium(Shape):
    """The network of an end."""

    @property
    def clock(self) -> IReactorTime:
        """The time of all hosts."""

    def is_partitioned(self, hosts: frozenset[str]) -> bool:
        """Whether a partition lies between two hosts now."""

    def chunk(self, most: int) -> int:
        """How many bytes, up to *most*, arrive at once."""

    def closed(self, end: MemoryTransport) -> None:
        """Forget *end*, which is closed."""

    def finish(self, end: MemoryTransport) -> None:
        """Let *end* read what has arrived, then the end of the stream, once no partition is between."""


@implementer(ITCPTransport)
class MemoryTransport:
    """One end of a connection.

    :ivar far: the other end.
    :ivar hosts: the hosts of both ends.
    :ivar protocol: the protocol at this end.
    :ivar reads: whether the process reads; False is a process that hangs.
    :ivar swallows: whether bytes sent here vanish; if both ends do so, the cable is unplugged.
    :ivar chunk: the most bytes that arrive at once.
    :ivar closed: whether this end is closed.
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
        self._arrived = bytearray()  # in the system, not read yet
        self._fin = False  # the far end is closed: the stream ends behind what has arrived
        self._producer: Any = None
        self._paused = False

    # ── what Twisted asks of a transport ────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        """Send *data* when there is room."""
        if self.closed or self.disconnecting:
            return
        self._unsent += data
        if self._producer is not None and len(self._unsent) > BUFFER and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send all of *iovec*."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """Close once everything is sent."""
        self.disconnecting = True

    def abortConnection(self) -> None:
        """Close at once."""
        if not self.closed:
            self.disconnecting = True
            self._unsent.clear()
            self._medium.clock.callLater(0, self._abort)

    def registerProducer(self, producer: IPushProducer | IPullProducer, streaming: bool) -> None:
        """Pause *producer* while too many bytes wait."""
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        if self.closed:
            producer.stopProducing()
        else:
            self._producer = producer

    def unregisterProducer(self) -> None:
        """Pause no producer any more."""
        self._producer = None

    def pauseProducing(self) -> None:
        """Read no more."""
        self.reads = False

    def resumeProducing(self) -> None:
        """Read on."""
        self.reads = True

    def stopProducing(self) -> None:
        """Close once everything is sent."""
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        """The address of the far end."""
        return self._peer

    def getHost(self) -> IPv4Address:
        """The address of this end."""
        return self._host

    def getTcpNoDelay(self) -> bool:
        """True: writes are not held back to be joined."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: writes are never held back."""

    def getTcpKeepAlive(self) -> bool:
        """False: nothing is sent on an idle connection."""
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing: nothing is ever sent on an idle connection."""

    def on_its_way(self) -> int:
        """How many bytes were written here and are not read at the far end."""
        return len(self._unsent) + len(self.far._arrived)

    def loseWriteConnection(self) -> None:
        """Not implemented: no link closes one direction alone."""
        raise NotImplementedError

    # ── what the network does ───────────────────────────────────────────────────────

    def steps(self) -> list[Callable[[], None]]:
        """The steps that can be taken at this end next."""
        if self.closed:
            return []
        steps: list[Callable[[], None]] = []
        if self._unsent:
            room = self.swallows or len(self.far._arrived) < BUFFER
            if room and not self._medium.is_partitioned(self.hosts):
                steps.append(self._send)
        elif self.disconnecting and self._producer is None:
            steps.append(self._finish)
        if self.reads:
            if self._arrived:
                steps.append(self._arrive)
            elif self._fin:
                steps.append(self._end)
        return steps

    def lose(self, why: Exception) -> None:
        """End the connection here, because of *why*."""
        if self.closed:
            return
        self._close()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(why))

    def die(self) -> None:
        """The process at this end was killed, and its system closes the connection."""
        unread = bool(self._arrived)
        self._close()
        if self.swallows:
            return
        if not unread:
            self._medium.finish(self.far)
        elif not self._medium.is_partitioned(self.hosts):
            self.far.lose(ConnectionLost("reset"))

    def read_end(self) -> None:
        """The far end is closed: read what has arrived, then the end of the stream."""
        self._fin = True

    def _close(self) -> None:
        self.closed = True
        self._arrived.clear()
        self._unsent.clear()
        self._medium.closed(self)

    def _send(self) -> None:
        part, self._unsent = self._unsent[:BUFFER], self._unsent[BUFFER:]
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

    def _end(self) -> None:
        self.lose(ConnectionDone())

    def _finish(self) -> None:
        if not self.swallows:
            self._medium.finish(self.far)
        self.lose(ConnectionDone())

    def _abort(self) -> None:
        self.lose(ConnectionAborted())
        if not self.swallows and not self._medium.is_partitioned(self.hosts):
            self.far.lose(ConnectionLost("reset"))
