"""
A slow line: a proxy on loopback that passes so many bytes a second each way.

Contract: a node dials :attr:`SlowLine.port` in place of the other's own port. Bytes come out in order and
unchanged. What waits here is bounded, as in a router; the rest waits in the buffers of the system.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.ordeal.way import Way, Weather

_HOST: Final = "127.0.0.1"


class _End(Protocol):
    """One of the two connections of a pair."""

    def __init__(self, line: SlowLine, near: _End | None = None) -> None:
        self._line = line
        self.far = near
        self.way: Way | None = None  # what it says goes there

    def connectionMade(self) -> None:
        self._line.ends.add(self)
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        if self.far is None:
            transport.pauseProducing()
            self._line.dial(self)
            return
        self.far.far = self
        near: Any = self.far.transport
        self.far.way, self.way = self._line.way(near, transport), self._line.way(transport, near)
        near.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        assert self.way is not None
        self._line.carried += len(data)
        self.way.take(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._line.ends.discard(self)
        if self.way is not None:
            self.way.stop()
        if self.far is not None:
            self.far.transport.abortConnection()  # type: ignore[union-attr]


class SlowLine(Factory):
    """
    A line to one node.

    :ivar port: where to dial; :ivar carried: bytes it was given so far, both ways.
    :ivar links: connections it carried so far; :ivar ends: the ends of those that are open.
    """

    noisy = False

    def __init__(self, reactor: Any, rate: float, room: int = 64 * 1024) -> None:
        """
        :param rate: bytes a second each way.
        :param room: bytes that wait each way before no more are read.
        """
        self.port = 0
        self.carried = self.links = 0
        self.ends: set[_End] = set()
        self._reactor = reactor
        self._weather = Weather(rate=rate)
        self._room = room
        self._target = 0
        self._listening: Any = None

    async def open(self, target: int | None = None) -> None:
        """
        Let connections through; the second time at the port of the first.

        :param target: the port of the node.
        """
        self._target = target or self._target
        endpoint = TCP4ServerEndpoint(self._reactor, self.port, interface=_HOST)
        self._listening = await endpoint.listen(self)
        self.port = self._listening.getHost().port

    async def cut(self) -> None:
        """Reset every connection, and refuse new ones."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await maybeDeferred(listening.stopListening)
        for end in list(self.ends):
            end.transport.abortConnection()  # type: ignore[union-attr]

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _End(self)

    def dial(self, near: _End) -> None:
        """Make the other half of a connection."""
        self.links += 1
        endpoint = TCP4ClientEndpoint(self._reactor, _HOST, self._target, timeout=5)
        made = connectProtocol(endpoint, _End(self, near))
        made.addErrback(lambda _: near.transport.abortConnection())  # type: ignore[union-attr]

    def way(self, source: Any, target: Any) -> Way:
        """One direction."""
        way = Way(self._reactor, Random(1), source, target, self._room)
        way.weather = self._weather
        return way
