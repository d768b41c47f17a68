"""The proxy between nodes: it carries each of their connections as a :class:`Passage`.

Contract: each node has a :class:`Gate`, which is where others are told to dial it. A node dials from a
loopback address of its own (:func:`home`), so a passage knows both of its ends. Nothing happens to a
passage by itself; what is to happen is asked for, passage by passage or with :meth:`Proxy.part`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.soak.way import CALM, ROOM, Way, Weather

LOOPBACK: Final = "127.0.0.1"
_OUT: Final = "127.0.0.2"  # where the proxy dials from, so that its connections take the port of no gate
_TAKEN: Final = 0.2  # seconds until the next attempt if a gate's port is taken by somebody else
_HOMES: Final = 10  # 127.0.0.10 is the first node's


def home(node: int) -> str:
    """The address that a node dials from."""
    return f"127.0.0.{_HOMES + node}"


@implementer(IHalfCloseableProtocol)
class End(Protocol):
    """The proxy's end of one of the two connections of a passage."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage
        self.out: Way | None = None  # where its bytes go

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        self._passage.made(self)

    def dataReceived(self, data: bytes) -> None:
        assert self.out is not None
        self._passage.heard(data, self.out)

    def readConnectionLost(self) -> None:
        if self.out is None:
            self._passage.reset()
        else:
            self.out.end()
            self._passage.close_if_over()

    def writeConnectionLost(self) -> None:
        self._passage.close_if_over()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._passage.lost(self, reason.check(ConnectionDone) is not None)


class Passage:
    """A connection between two nodes.

    :ivar source: the number of the node that dialled.
    :ivar target: and of the one it dialled.
    """

    def __init__(self, proxy: Proxy, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self._proxy = proxy
        self._ends: list[End] = []
        self._ways: list[Way] = []
        self._over = False

    @property
    def ways(self) -> list[Way]:
        """Both directions; none until the node that was dialled has answered."""
        return [] if self._over else self._ways

    def made(self, end: End) -> None:
        """Add one of its ends."""
        self._ends.append(end)
        near: Any = self._ends[0].transport
        if len(self._ends) == 1:
            near.pauseProducing()
            self._proxy.dial(self)
            return
        far: Any = end.transport
        self._ways = [self._proxy.way(near, far), self._proxy.way(far, near)]
        self._ends[0].out, end.out = self._ways
        near.resumeProducing()
        self.now(self._proxy.weather)
        if self._proxy.is_parted(self.source, self.target):
            self.hold()

    def heard(self, data: bytes, way: Way) -> None:
        """Take *data* from one of its ends, and send it that *way*."""
        self._proxy.bytes += len(data)
        way.take(data)

    def now(self, weather: Weather) -> None:
        """Set the weather of both directions."""
        for way in self._ways:
            way.weather = weather

    def hold(self) -> None:
        """Let nothing through either way."""
        for way in self.ways:
            way.hold()

    def release(self) -> None:
        """Let everything through again."""
        for way in self.ways:
            way.release()

    def reset(self) -> None:
        """Cut it with RST at both ends."""
        for end in self._ends:
            end.transport.abortConnection()  # type: ignore[union-attr]

    def close(self) -> None:
        """Close it with FIN at both ends; bytes on their way are dropped."""
        for way in self.ways:
            way.shut()
        self.close_if_over()

    def close_if_over(self) -> None:
        """End the passage if both directions have ended."""
        if self._ways and all(way.has_ended for way in self._ways):
            for end in self._ends:
                end.transport.loseConnection()  # type: ignore[union-attr]

    def lost(self, end: End, orderly: bool) -> None:
        """Take in that one of its ends is closed."""
        if self._over:
            return
        self._over = True
        self._proxy.passages.discard(self)
        for way in self._ways:
            way.stop()
        for other in self._ends:
            if other is not end and orderly:
                other.transport.loseConnection()  # type: ignore[union-attr]
            elif other is not end:
                other.transport.abortConnection()  # type: ignore[union-attr]


class Gate(Factory):
    """The port at which others dial a node.

    :ivar port: of the gate.
    :ivar target: the port of the node behind it; None if the node does not run.
    """

    noisy = False

    def __init__(self, proxy: Proxy, node: int) -> None:
        self._proxy = proxy
        self._node = node
        self._listening: IListeningPort | None = None
        self.port = 0
        self.target: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether anybody can connect."""
        return self._listening is not None

    async def open(self) -> None:
        """Listen, each time at the same port, as soon as nobody else has it."""
        endpoint = TCP4ServerEndpoint(self._proxy.reactor, self.port, interface=LOOPBACK)
        while self._listening is None:
            try:
                self._listening = await endpoint.listen(self)
            except CannotListenError:
                await deferLater(self._proxy.reactor, _TAKEN)
        self.port = self._listening.getHost().port

    async def close(self) -> None:
        """Refuse new connections, as a host without the process does."""
        if self._listening is not None:
            listening, self._listening = self._listening, None
            await maybeDeferred(listening.stopListening)

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        source = int(addr.host.rpartition(".")[2]) - _HOMES  # type: ignore[union-attr]
        if self.target is None or self._proxy.refuses(source, self._node):
            return None
        passage = Passage(self._proxy, source, self._node)
        self._proxy.passages.add(passage)
        return End(passage)


class Proxy:
    """All gates and passages.

    :ivar weather: of passages from now on.
    :ivar passages: those that are open.
    :ivar carried: how many there were so far; :ivar bytes: that were carried so far, both ways.
    """

    def __init__(self, reactor: Any, randomness: Random, room: int = ROOM) -> None:
        """:param room: bytes that wait in each way before no more are read."""
        self.reactor = reactor
        self.randomness = randomness
        self.weather = CALM
        self.gates: list[Gate] = []
        self.passages: set[Passage] = set()
        self.carried = self.bytes = 0
        self._room = room
        self._side: dict[int, int] = {}
        self._swallows = False

    async def add(self) -> Gate:
        """A gate for one more node."""
        gate = Gate(self, len(self.gates))
        self.gates.append(gate)
        await gate.open()
        return gate

    def dial(self, passage: Passage) -> None:
        """Connect *passage* with the node that was dialled."""
        self.carried += 1
        target = self.gates[passage.target].target
        endpoint = TCP4ClientEndpoint(self.reactor, LOOPBACK, target or 0, timeout=5, bindAddress=(_OUT, 0))
        connectProtocol(endpoint, End(passage)).addErrback(lambda _: passage.reset())

    def way(self, source: Any, target: Any) -> Way:
        """One direction of a passage."""
        return Way(self.reactor, self.randomness, source, target, self._room)

    def now(self, weather: Weather) -> None:
        """Set the weather of all passages."""
        self.weather = weather
        for passage in self.passages:
            passage.now(weather)

    def part(self, nodes: Iterable[int], swallows: bool) -> None:
        """Let nothing pass between *nodes* and the others.

        :param swallows: whether new connections are accepted and carry nothing; else they are refused.
        """
        self._side = dict.fromkeys(nodes, 1)
        self._swallows = swallows
        self._each_parted(Passage.hold)

    def heal(self) -> None:
        """End the part: let everything pass again."""
        side, self._side = self._side, {}
        for passage in list(self.passages):
            if side.get(passage.source, 0) != side.get(passage.target, 0):
                passage.release()

    @property
    def is_whole(self) -> bool:
        """Whether no part is going on."""
        return not self._side

    def is_parted(self, source: int, target: int) -> bool:
        """Whether nothing passes between two nodes."""
        return self._side.get(source, 0) != self._side.get(target, 0)

    def refuses(self, source: int, target: int) -> bool:
        """Whether *source* may not even connect."""
        return self.is_parted(source, target) and not self._swallows

    def _each_parted(self, do: Callable[[Passage], None]) -> None:
        for passage in list(self.passages):
            if self.is_parted(passage.source, passage.target):
                do(passage)

    async def close(self) -> None:
        """Let everything go."""
        for gate in self.gates:
            await gate.close()
        for passage in list(self.passages):
            passage.reset()
