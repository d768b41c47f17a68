"""A network in memory: hosts, their ports and connections, and one Clock for all.

Contract: a seeded random generator draws which step comes next, and the sizes of the chunks in which bytes
arrive.  Nothing waits for real time.  Steps are taken only in :meth:`MemoryNetwork.pump`,
:meth:`MemoryNetwork.advance` and :meth:`MemoryNetwork.stall`.  Services get the network's endpoints as
``listen=`` and ``dial=``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from itertools import chain, combinations, product, starmap
from random import Random
from typing import Any, Final

from twisted.internet import error, interfaces
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProtocol, IProtocolFactory
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mesh.memory.transport import BUFFER, MemoryTransport

CONNECT_TIMEOUT: Final = 10.0  # seconds until a dial through a partition fails: the config's default
STEPS_MOST: Final = 200_000  # steps while no time passes; more steps must be an endless loop (guess)


@implementer(IListeningPort)
class MemoryPort:
    """A listening port."""

    def __init__(self, network: MemoryNetwork, address: tuple[str, int], factory: IProtocolFactory) -> None:
        self._network, self._address, self.factory = network, address, factory

    def startListening(self) -> None:
        """Do nothing: the port listens from the beginning."""

    def stopListening(self) -> Deferred[None]:
        if self._network.ports.get(self._address) is self:  # else a later port has the address
            del self._network.ports[self._address]
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", *self._address)


@implementer(interfaces.IStreamServerEndpoint)
class MemoryServerEndpoint:
    """An endpoint at which a service listens."""

    def __init__(self, network: MemoryNetwork, address: tuple[str, int]) -> None:
        self._network, self._address = network, address

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        def bind(_: None) -> IListeningPort:
            ports = self._network.ports
            if self._address in ports:
                raise error.CannotListenError(*self._address, OSError("taken"))
            port = ports[self._address] = MemoryPort(self._network, self._address, protocolFactory)
            return port

        return succeed(None).addCallback(bind)


@implementer(interfaces.IStreamClientEndpoint)
class MemoryClientEndpoint:
    """An endpoint that a service dials."""

    def __init__(self, network: MemoryNetwork, source: str, target: tuple[str, int]) -> None:
        self._network, self._source, self._target = network, source, target

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        network = self._network
        network.dials.append((self._source, self._target, network.clock.seconds()))
        hosts = frozenset((self._source, self._target[0]))
        wait = CONNECT_TIMEOUT if network.is_partitioned(hosts) else network.connect_takes
        dialled: Deferred[IProtocol] = Deferred(lambda _: self._cancelled(dialled, call))
        deaths = network.deaths[self._source]
        call = network.clock.callLater(wait, self._made, dialled, protocolFactory, deaths)
        network.dialling(hosts, call)
        return dialled

    def _cancelled(self, dialled: Deferred[IProtocol], call: IDelayedCall) -> None:
        call.cancel()
        dialled.errback(Failure(error.ConnectingCancelledError(IPv4Address("TCP", *self._target))))

    def _made(self, dialled: Deferred[IProtocol], factory: IProtocolFactory, deaths: int) -> None:
        network = self._network
        port = network.ports.get(self._target)
        if network.deaths[self._source] > deaths:
            return  # the process that dialled was killed
        if network.is_partitioned(frozenset((self._source, self._target[0]))):
            dialled.errback(Failure(error.TimeoutError()))
        elif port is None:
            dialled.errback(Failure(error.ConnectionRefusedError(111, "Connection refused")))
        else:
            dialled.callback(network.pair(self._source, self._target, factory, port.factory))


class MemoryNetwork:
    """All hosts, and the time that they share.

    :ivar clock: the time of all hosts; :ivar random: draws steps and sizes.
    :ivar ports: the listening ports, by host and port.
    :ivar ends: both ends of every open connection.
    :ivar dials: (source, target, when) of every dial.
    :ivar deaths: how often each host's process was killed.
    :ivar connect_takes: seconds until a connection is made.
    :ivar cuts: whether bytes arrive in chunks of random sizes.
    """

    def __init__(self, seed: int = 0) -> None:
        self.clock = Clock()
        self.random = Random(seed)
        self.ports: dict[tuple[str, int], MemoryPort] = {}
        self.ends: list[MemoryTransport] = []
        self.dials: list[tuple[str, tuple[str, int], float]] = []
        self.deaths: Counter[str] = Counter()
        self.connect_takes = 0.0
        self.cuts = False
        self._partitioned: set[frozenset[str]] = set()  # pairs of hosts
        self._dialling: list[tuple[frozenset[str], IDelayedCall]] = []  # dials, each with its hosts
        self._late: list[MemoryTransport] = []  # finish() is called for these when the partition heals
        self._rates: dict[frozenset[str], float] = {}  # bytes a second between two hosts, if limited
        self._source_port = 50_000

    # ── hosts and connections ───────────────────────────────────────────────────────

    def listen(self, host: str, port: int) -> MemoryServerEndpoint:
        """An endpoint that listens at *host* and *port*."""
        return MemoryServerEndpoint(self, (host, port))

    def dial_from(self, source: str) -> Callable[[str, int], MemoryClientEndpoint]:
        """The ``dial=`` of a service on the host *source*."""
        return lambda host, port: MemoryClientEndpoint(self, source, (host, port))

    def pair(
        self, source: str, target: tuple[str, int], dialling: IProtocolFactory, accepting: IProtocolFactory
    ) -> Any:
        """Make a connection from *source*, and return the protocol there."""
        self._source_port += 1
        near_address = IPv4Address("TCP", source, self._source_port)
        far_address = IPv4Address("TCP", *target)
        near = MemoryTransport(self, near_address, far_address)
        far = MemoryTransport(self, far_address, near_address)
        near.far, far.far = far, near
        near.protocol = dialling.buildProtocol(far_address)
        far.protocol = accepting.buildProtocol(near_address) or Protocol()
        refused = type(far.protocol) is Protocol
        self.ends += [near, far]
        near.protocol.makeConnection(near)
        far.protocol.makeConnection(far)
        if refused:
            far.loseConnection()
        return near.protocol

    def between(self, one: str, other: str) -> list[MemoryTransport]:
        """The open ends of the connections between two hosts, those at *one* first."""
        hosts = frozenset((one, other))
        ends = [end for end in self.ends if end.hosts == hosts]
        return sorted(ends, key=lambda end: end.getHost().host != one)

    def dialling(self, hosts: frozenset[str], call: IDelayedCall) -> None:
        """Note that a dial between *hosts* ends with *call*."""
        self._dialling = [dial for dial in self._dialling if dial[1].active()]
        self._dialling.append((hosts, call))

    # ── for the ends of connections (transport.Medium) ──────────────────────────────

    def is_partitioned(self, hosts: frozenset[str]) -> bool:
        """Whether a partition lies between two hosts now."""
        return hosts in self._partitioned

    def rate(self, hosts: frozenset[str]) -> float | None:
        """How many bytes a second pass in each direction between two hosts; None for no limit."""
        return self._rates.get(hosts)

    def chunk(self, most: int) -> int:
        """How many bytes, up to *most*, arrive at once."""
        if not self.cuts:
            return most
        return min(most, self.random.choice((1, 3, 17, 150, 1500, BUFFER)))

    def closed(self, end: MemoryTransport) -> None:
        """Forget *end*, which is closed."""
        self.ends.remove(end)

    def finish(self, end: MemoryTransport) -> None:
        """When no partition is between its hosts, let *end* read to the end of the stream."""
        if self.is_partitioned(end.hosts):
            self._late.append(end)
        else:
            end.read_end()

    # ── faults ──────────────────────────────────────────────────────────────────────

    def cut(self, one: str, other: str) -> None:
        """Cut every connection between two hosts without a goodbye; both operating systems notice."""
        for end in self.between(one, other):
            end.lose(error.ConnectionLost("cut"))

    def unplug(self, one: str, other: str) -> None:
        """Lose every byte on the connections between two hosts; neither operating system notices."""
        for end in self.between(one, other):
            end.swallows = True

    def slow(self, one: str, other: str, rate: float | None) -> None:
        """Let *rate* bytes a second pass in each direction between two hosts; None for no limit."""
        self._rates.pop(frozenset((one, other)), None)
        if rate is not None:
            self._rates[frozenset((one, other))] = rate

    def part(self, *groups: Collection[str]) -> None:
        """Put a partition between hosts of different *groups*, and none between others.

        Bytes that were sent wait, as with TCP.
        """
        pairs = chain.from_iterable(starmap(product, combinations(groups, 2)))
        self._partitioned = set(map(frozenset, pairs))
        late, self._late = self._late, []
        for end in late:
            self.finish(end)
        for hosts, call in self._dialling:
            if call.active() and not self.is_partitioned(hosts):
                call.reset(self.connect_takes)

    def heal(self) -> None:
        """End every partition; the bytes that waited pass."""
        self.part()

    def kill(self, host: str) -> None:
        """Kill the process on *host*; the operating system closes its ports and connections."""
        self.deaths[host] += 1
        self.ports = {address: port for address, port in self.ports.items() if address[0] != host}
        for end in list(self.ends):
            if end.getHost().host == host and not end.closed:
                end.die()

    # ── time ────────────────────────────────────────────────────────────────────────

    def pump(self, most: int = STEPS_MOST) -> None:
        """Take steps until none is left to take, and a reactor turn after each; no time passes.

        :raises RuntimeError: the steps have no end: something answers itself.
        """
        self._turn()
        for _ in range(most):
            steps = [step for end in self.ends for step in end.steps()]
            if not steps:
                return
            self.random.choice(steps)()
            self._turn()
        raise RuntimeError(f"still moving after {most} steps without time passing")

    def _turn(self) -> None:
        # advance(0) sorts all calls of the Clock: to do so in every turn took half of all time (measured).
        now = self.clock.seconds()
        if any(call.getTime() <= now for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass: every timer fires on time, and :meth:`pump` runs after each."""
        clock = self.clock
        until = clock.seconds() + seconds
        self.pump()
        while due := [call.getTime() for call in clock.getDelayedCalls() if call.getTime() <= until]:
            clock.advance(max(0.0, min(due) - clock.seconds()))
            self.pump()
        clock.advance(until - clock.seconds())
        self.pump()

    def stall(self, seconds: float) -> None:
        """Let all services stand still for *seconds*; then all timers that are due fire at once, late."""
        self.clock.advance(seconds)
        self.pump()
