"""
A network in memory: endpoints whose transports are pairs of buffers, and one Clock for all.

It keeps what matters of TCP: bytes wait in the sender's buffer when the far end does not read, a
producer is paused past 64 KiB and resumed when the buffer is empty, `loseConnection` sends what is
left first, and bytes that reach an end which is closed reset the connection, with which everything
that had not been read yet is gone. Which of all that can happen next does happen is drawn from a
seed, and so is how bytes are cut into chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

BUFFER = 65_536  # Twisted's, past which a producer is paused; also what the system holds
CONNECT_TIMEOUT = 10.0


@implementer(ITCPTransport)
class End:
    """
    One end of a connection.

    :ivar reads: whether the system hands bytes up; False is a process that hangs.
    :ivar swallows: whether what this end sends vanishes; both ends so is an unplugged cable.
    :ivar chunk: at most so many bytes arrive in one go.
    """

    disconnecting = False

    def __init__(self, network: Network, host: IPv4Address, peer: IPv4Address) -> None:
        self._network = network
        self._host, self._peer = host, peer
        self.far: End
        self.protocol: Any = None
        self.reads = True
        self.swallows = False
        self.chunk = BUFFER
        self.closed = False
        self._unsent = bytearray()
        self._arrived = bytearray()  # in the system, not yet read
        self._fin = False  # the far end closed behind what has arrived
        self._producer: Any = None
        self._paused = False

    # ── what Twisted asks of a transport ────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        if self.closed or self.disconnecting:
            return
        self._unsent += data
        if self._producer is not None and len(self._unsent) > BUFFER and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def abortConnection(self) -> None:
        if not self.closed:
            self.disconnecting = True
            self._unsent.clear()
            self._network.clock.callLater(0, self._abort)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
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

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return self._host

    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    def loseWriteConnection(self) -> None:
        raise NotImplementedError

    # ── what the network does ───────────────────────────────────────────────────────

    @property
    def hosts(self) -> frozenset[str]:
        """The two hosts."""
        return frozenset((self._host.host, self._peer.host))

    def moves(self) -> list[Callable[[], None]]:
        """What can happen at this end next."""
        if self.closed:
            return []
        moves: list[Callable[[], None]] = []
        apart = self.hosts in self._network.apart
        room = self.swallows or len(self.far._arrived) < BUFFER
        if self._unsent and room and not apart:
            moves.append(self._send)
        if self.disconnecting and not self._unsent and self._producer is None:
            moves.append(self._finish)
        if self._arrived and self.reads:
            moves.append(self._arrive)
        if self._fin and not self._arrived and self.reads:
            moves.append(lambda: self.lose(ConnectionDone()))
        return moves

    def lose(self, why: Exception) -> None:
        """The connection ends here."""
        if self.closed:
            return
        self.closed = True
        self._arrived.clear()
        self._unsent.clear()
        self._network.ends.remove(self)
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(why))

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
        size = self._network.chunk(self.chunk)
        part, self._arrived = bytes(self._arrived[:size]), self._arrived[size:]
        self.protocol.dataReceived(part)

    def _finish(self) -> None:
        if not self.swallows:
            if self.hosts in self._network.apart:
                self._network.late.append((self.hosts, self.far))
            else:
                self.far._fin = True
        self.lose(ConnectionDone())

    def _abort(self) -> None:
        self.lose(ConnectionAborted())
        if not self.swallows and self.hosts not in self._network.apart:
            self.far.lose(ConnectionLost("reset"))


@implementer(IListeningPort)
class Port:
    """A port that listens."""

    def __init__(self, network: Network, address: tuple[str, int], factory: IProtocolFactory) -> None:
        self._network, self._address, self.factory = network, address, factory

    def startListening(self) -> None:
        raise NotImplementedError

    def stopListening(self) -> Deferred[None]:
        self._network.ports.pop(self._address, None)
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", *self._address)


@implementer(IStreamServerEndpoint)
class Listen:
    """Where a service listens."""

    def __init__(self, network: Network, address: tuple[str, int]) -> None:
        self._network, self._address = network, address

    def listen(self, factory: IProtocolFactory) -> Deferred[Port]:
        """Open the port."""

        def bind(_: None) -> Port:
            if self._address in self._network.ports:
                raise CannotListenError(*self._address, OSError("taken"))
            port = self._network.ports[self._address] = Port(self._network, self._address, factory)
            return port

        return succeed(None).addCallback(bind)


@implementer(IStreamClientEndpoint)
class Connect:
    """Where a service dials."""

    def __init__(self, network: Network, source: str, target: tuple[str, int]) -> None:
        self._network, self._source, self._target = network, source, target

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Make a connection, or fail as TCP would."""
        network = self._network
        network.dials.append((self._source, self._target, network.clock.seconds()))
        apart = frozenset((self._source, self._target[0])) in network.apart
        wait = CONNECT_TIMEOUT if apart else network.connect_takes
        dialled: Deferred[Any] = Deferred(lambda _: call.cancel())
        call = network.clock.callLater(wait, self._made, dialled, factory, apart)
        return dialled

    def _made(self, dialled: Deferred[Any], factory: IProtocolFactory, apart: bool) -> None:
        network = self._network
        port = network.ports.get(self._target)
        if apart:
            dialled.errback(Failure(TimeoutError()))
        elif port is None:
            dialled.errback(Failure(ConnectionRefusedError(111, "Connection refused")))
        else:
            dialled.callback(network.pair(self._source, self._target, factory, port.factory))


class Network:
    """
    All hosts, and the time they share.

    :ivar apart: pairs of hosts between which nothing passes now.
    :ivar dials: (source, target, when) of every attempt.
    :ivar connect_takes: seconds to make a connection.
    """

    def __init__(self, seed: int = 0) -> None:
        self.clock = Clock()
        self.random = Random(seed)
        self.ports: dict[tuple[str, int], Port] = {}
        self.ends: list[End] = []
        self.apart: set[frozenset[str]] = set()
        self.late: list[tuple[frozenset[str], End]] = []  # FINs on their way through a partition
        self.dials: list[tuple[str, tuple[str, int], float]] = []
        self.connect_takes = 0.0
        self.cuts = False  # whether bytes arrive in chunks of any size
        self._source_port = 50_000

    def listen(self, host: str, port: int) -> Listen:
        """An endpoint to listen at."""
        return Listen(self, (host, port))

    def dial_from(self, source: str) -> Callable[[str, int], Connect]:
        """What a service on the host *source* dials with."""
        return lambda host, port: Connect(self, source, (host, port))

    def pair(
        self, source: str, target: tuple[str, int], dialler: IProtocolFactory, acceptor: IProtocolFactory
    ) -> Any:
        """Make a connection; the dialler's protocol."""
        self._source_port += 1
        near_address = IPv4Address("TCP", source, self._source_port)
        far_address = IPv4Address("TCP", *target)
        near, far = End(self, near_address, far_address), End(self, far_address, near_address)
        near.far, far.far = far, near
        near.protocol = dialler.buildProtocol(far_address)
        far.protocol = acceptor.buildProtocol(near_address) or Protocol()
        refused = type(far.protocol) is Protocol
        self.ends += [near, far]
        near.protocol.makeConnection(near)
        far.protocol.makeConnection(far)
        if refused:
            far.loseConnection()
        return near.protocol

    def between(self, one: str, other: str) -> list[End]:
        """The open ends of the connections between two hosts, those at *one* first."""
        hosts = frozenset((one, other))
        ends = [end for end in self.ends if end.hosts == hosts]
        return sorted(ends, key=lambda end: end.getHost().host != one)

    def cut(self, one: str, other: str) -> None:
        """Cut every connection between two hosts without a word; both systems notice."""
        for end in self.between(one, other):
            end.lose(ConnectionLost("cut"))

    def unplug(self, one: str, other: str) -> None:
        """Let every byte between two hosts vanish; neither system notices."""
        for end in self.between(one, other):
            end.swallows = True

    def part(self, *groups: list[str]) -> None:
        """Let nothing pass between hosts of different *groups*."""
        self.apart = {
            frozenset((one, other))
            for group in groups
            for rest in groups
            if rest is not group
            for one in group
            for other in rest
        }

    def heal(self) -> None:
        """Let everything pass again, what waited as well."""
        self.apart = set()
        late, self.late = self.late, []
        for _, end in late:
            end._fin = True

    def chunk(self, most: int) -> int:
        """How many bytes arrive in one go."""
        if not self.cuts:
            return most
        return min(most, self.random.choice((1, 3, 17, 150, 1500, BUFFER)))

    def pump(self, most: int = 200_000) -> None:
        """Let everything happen that can without time passing, a reactor turn after each."""
        self.clock.advance(0)
        for _ in range(most):
            moves = [move for end in self.ends for move in end.moves()]
            if not moves:
                return
            self.random.choice(moves)()
            self.clock.advance(0)
        raise AssertionError(f"still moving after {most} steps")

    def advance(self, seconds: float) -> None:
        """Let time pass, every timer on time, pumping in between."""
        clock = self.clock
        until = clock.seconds() + seconds
        self.pump()
        while due := [call.getTime() for call in clock.getDelayedCalls() if call.getTime() <= until]:
            clock.advance(max(0.0, min(due) - clock.seconds()))
            self.pump()
        clock.advance(until - clock.seconds())
        self.pump()

    def stall(self, seconds: float) -> None:
        """Let the one process all are in stand still; then all timers are late at once."""
        self.clock.advance(seconds)
        self.pump()
