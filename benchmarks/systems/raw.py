"""Twisted alone, the measure of all: frames with a length in front, over TCP.

Contract: framed as the mesh is, and nothing else of it: no TLS, no signatures, no numbers, no relaying.
What is sent in a turn goes to each link in one write, and a link that has enough is waited for (producer
and consumer); no other link waits for it.  Nothing of the mesh is imported: its memory is not counted
here, and what makes it faster does not move the measure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from benchmarks.systems.on_twisted import TwistedLoop, reactor, run
from benchmarks.systems.program import HOST, TURN_BYTES, Node, Tally

LENGTH = struct.Struct("!I")


def frame(body: bytes) -> bytes:
    """*body* with its length in front."""
    return LENGTH.pack(len(body)) + body


class Link(Protocol):
    """Takes frames."""

    def __init__(self, tally: Tally, links: list[Link]) -> None:
        self._tally, self._links = tally, links
        self._kept, self._need = bytearray(), LENGTH.size

    def connectionMade(self) -> None:
        """It is one of the node's."""
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        self._links.append(self)

    def dataReceived(self, data: bytes) -> None:
        """Cut it into frames and count them."""
        if self._kept:
            self._kept += data
            if len(self._kept) < self._need:
                return
            data, self._kept = bytes(self._kept), bytearray()
        bodies = []
        at, end = 0, len(data)
        need = LENGTH.size
        while end - at >= LENGTH.size:
            need = LENGTH.size + LENGTH.unpack_from(data, at)[0]
            if end - at < need:
                break
            bodies.append(data[at + LENGTH.size : at + need])
            at += need
            need = LENGTH.size
        self._kept += data[at:]
        self._need = need  # bytes to wait for before looking again
        if self._tally.timing:
            for body in bodies:
                self._tally.late(body)
        elif bodies:
            self._tally.more(len(bodies))


@implementer(IPushProducer)
class Pump:
    """Sends frames over one link as fast as the transport takes them.

    :ivar done: fires when it has taken all.
    """

    def __init__(self, transport: Any, one: bytes, count: int, later: Callable[..., Any]) -> None:
        self.done: Deferred[None] = Deferred()
        self._transport, self._one, self._left, self._later = transport, one, count, later
        self._paused = False
        transport.registerProducer(self, True)
        self._turn()

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self._paused = False
        self._turn()

    def stopProducing(self) -> None:
        """It is gone."""
        self._left = 0

    def _turn(self) -> None:
        some = min(self._left, max(1, TURN_BYTES // len(self._one)))
        self._left -= some
        self._transport.write(self._one * some)
        if not self._left:
            self._transport.unregisterProducer()
            self.done.callback(None)
        elif not self._paused:
            self._later(0, self._turn)


class RawNode(Node):
    """Links with whom it is told to."""

    def __init__(self, loop: TwistedLoop) -> None:
        super().__init__(loop)
        self._links: list[Link] = []

    def _link(self) -> Link:
        return Link(self.tally, self._links)

    async def open(self, alone: bool) -> int:
        """Listen."""
        factory = Factory.forProtocol(self._link)
        port: int = reactor.listenTCP(0, factory, interface=HOST).getHost().port
        return port

    async def connect(self, port: int) -> None:
        """Dial."""
        await connectProtocol(TCP4ClientEndpoint(reactor, HOST, port), self._link())

    def links(self) -> int:
        """Connections."""
        return len(self._links)

    async def send(self, count: int, size: int) -> None:
        """Each link at its own speed."""
        one = frame(bytes(size))
        await gatherResults(
            [Pump(link.transport, one, count, reactor.callLater).done for link in self._links]
        )

    async def say(self, body: bytes) -> None:
        """One write."""
        for link in self._links:
            link.transport.write(frame(body))  # type: ignore[union-attr]


if __name__ == "__main__":
    run(RawNode)
