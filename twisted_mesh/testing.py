"""MemoryMesh: nodes on a network in memory, for the tests of code that uses them.

Contract: the services are real, TLS included; what lies below them is not: connections are buffers
and time is a Clock.  No reactor is touched, nothing waits for real time, and the same seed gives the
same run.  It needs no test framework and works in any.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, pairwise
from types import TracebackType
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mesh.identity import Identity, verify
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.memory.network import MemoryNetwork
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService

PORT: Final = 4444  # of every node; each has a host of its own
EVENTS: Final = ("connect", "disconnect", "member", "gap", "receipt", "refused", "failure")

_verify = lru_cache(maxsize=4096)(verify)  # a twelfth of the time that tests take (measured)
Pairs = Iterable[tuple[int, int]]


class MemoryMesh:
    """Nodes that are linked with each other in memory.

    A node is named by its number, from 0 on; for another number every method raises IndexError.

    :ivar clock: the time of all of them; for timers of the code under test as well.
    :ivar services: the nodes.
    :ivar network: what they are connected by, for faults of single connections.
    """

    def __init__(
        self, count: int, *, seed: int = 0, topology: str | Pairs = "full", **options: Any
    ) -> None:
        """
        :param count: nodes, which run and are linked when this returns.
        :param seed: the keys, the order of all that happens and the jitter come from it.
        :param topology: who is linked with whom: ``"full"`` (everyone with everyone, so that any part
            of the mesh holds together without the rest), ``"ring"``, ``"chain"``, or pairs of numbers.
        :param options: of every :class:`~twisted_mesh.service.MeshService`, such as ``config``; a key
            or a history file can only be one node's, see :meth:`add`.
        :raises ValueError: an unknown topology, or a count or pair that cannot be.
        :raises RuntimeError: two nodes were not linked, with the reasons.
        """
        for option in ("identity", "listen", "history"):
            if option in options:
                raise ValueError(f"{option} is one node's: give it to add()")
        if type(count) is not int or count < 0:
            raise ValueError(f"count is a number of nodes, not {count!r}")
        self.network = MemoryNetwork(seed)
        self.clock: Clock = self.network.clock
        self.services: list[MeshService] = []
        self._nodes: list[_Node] = []
        self._seed = seed
        self._stopped = False
        self._runs = False
        pairs = _pairs(topology, count)
        for number in range(count):
            self.add(*(lower for lower, higher in pairs if higher == number), **options)
        self.run()
        for lower, higher in pairs:
            if self.services[higher].id not in self.services[lower].routing_table:
                refusals = [what for name, what in self.events(lower) if name == "refused"]
                why = [f"{refusal.reason}: {refusal.detail}" for refusal in refusals]
                raise RuntimeError(f"nodes {lower} and {higher} are not linked: {why}")

    # ── nodes ───────────────────────────────────────────────────────────────────────

    def add(self, *neighbours: int, started: bool = True, **options: Any) -> MeshService:
        """One more node; after the next :meth:`run` it is linked.

        :param neighbours: numbers of nodes that it dials, and dials again when it has lost them.
        :param started: False to prepare it first: then start it with its ``startService()``.
        :param options: of its :class:`~twisted_mesh.service.MeshService`.
        :return: its service, the last of ``services``.
        """
        number = len(self.services)
        host = _host(number)
        node = _Node(
            {
                "listen": [self.network.listen(host, PORT)],
                "dial": self.network.dial_from(host),
                "identity": self._identity(number),
                "overlay": False,
                **options,
                "peers": [*map(self._dialled, neighbours), *options.get("peers", ())],
            }
        )
        service = node.make(self.clock)
        self._nodes.append(node)
        self.services.append(service)
        if started:
            service.startService()
        return service

    def address(self, node: int) -> tuple[str, int]:
        """The host and port of a node, as for ``connect()``."""
        self._at(node)
        return _host(node), PORT

    def received(self, node: int) -> list[Message]:
        """What the service of a node was delivered, in order, whoever took it."""
        return list(self._at(node).received)

    def events(self, node: int) -> list[tuple[str, Any]]:
        """What the service of a node emitted besides messages: (name, what a listener is given)."""
        return list(self._at(node).events)

    # ── time ────────────────────────────────────────────────────────────────────────

    def run(self, seconds: float = 0.0) -> None:
        """Let everything happen that does in so many *seconds*; with 0 what needs no time.

        What code of the application's raises from a timer of ``clock`` is raised here.

        :raises RuntimeError: there is no end to what happens at one moment, or it is called by what
            happens, such as a listener.
        :raises ValueError: less than nothing, or without an end.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time goes on, and ends: not {seconds!r} seconds")
        self._check_idle()
        self._runs = True
        try:
            self.network.advance(seconds)
        finally:
            self._runs = False

    def _check_idle(self) -> None:
        if self._runs:
            raise RuntimeError("this is called by what happens in run(), which has to return first")

    # ── what goes wrong ─────────────────────────────────────────────────────────────

    def partition(self, *groups: Collection[int]) -> None:
        """Let nothing pass between nodes of different *groups*, until :meth:`heal`.

        Nodes that are in none are a group of their own. As in life nobody is told: links go when
        they have been silent for ``dead_after``.

        :raises ValueError: no such node, or one in two groups.
        """
        if any(isinstance(group, int) for group in groups):
            raise ValueError(f"a group is several nodes, such as (0, 1): not {groups}")
        named = [number for group in groups for number in group]
        rest = set(range(len(self.services))).difference(named)
        if len(named) + len(rest) != len(self.services):
            raise ValueError(f"each node in one group, of those from 0 on: not {groups}")
        self.network.part(*([_host(number) for number in group] for group in (*groups, rest)))

    def heal(self) -> None:
        """Let everything pass again.

        Links that went are dialled again, after ``redial_longest`` and a second at most.
        """
        self.network.heal()

    def kill(self, node: int) -> None:
        """End a node as ``kill -9`` would: at once, and without a word to anybody.

        Its service does nothing more from now on, and is not to be used any more.
        """
        self._at(node).clock.stop()
        self.network.kill(self.address(node)[0])
        self._at(node).service.died()

    def start(self, node: int) -> MeshService:
        """Start a node that was killed: a new service of the same key and history file.

        Without a history it knows nothing of before.

        :return: it, also in ``services``; what :meth:`received` and :meth:`events` tell begins anew.
        :raises RuntimeError: it was not killed; a service that was stopped has its own ``startService()``.
        """
        if self._at(node).clock.runs:
            raise RuntimeError(f"node {node} was not killed")
        service = self.services[node] = self._at(node).make(self.clock)
        service.startService()
        return service

    # ── the end ─────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """Heal, and stop every node as an application would; for ``addCleanup``. Again is harmless.

        :raises RuntimeError: a node did not stop in the time its limits give it, or as :meth:`run`.
        """
        self._check_idle()
        if self._stopped:
            return
        self._stopped = True
        self.heal()
        alive = [number for number, node in enumerate(self._nodes) if node.clock.runs]
        failures: list[Failure] = []
        stops = {number: self.services[number].stopService() for number in alive}
        for stop in stops.values():
            stop.addErrback(failures.append)
        longest = max((self.services[number].config.longest_stop for number in alive), default=0.0)
        self.run(longest + 1.0)
        for failure in failures:
            failure.raiseException()
        late = [number for number, stop in stops.items() if not stop.called]
        if late:
            raise RuntimeError(f"nodes {late} did not stop within {longest + 1.0} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.stop()

    def _at(self, node: int) -> _Node:
        if type(node) is not int:
            raise TypeError(f"a node is told by its number, from 0 on, not by {node!r}")
        if not 0 <= node < len(self._nodes):
            raise IndexError(f"there is no node {node}")
        return self._nodes[node]

    def _dialled(self, node: int) -> str:
        host, port = self.address(node)
        return f"{host}:{port}"

    def _identity(self, node: int) -> Identity:
        seed = hashlib.sha256(b"%d %d" % (self._seed, node)).digest()
        return Identity(Ed25519PrivateKey.from_private_bytes(seed))


@implementer(IReactorTime)
class HostClock:
    """The clock of one process: its timers go when it does.

    :ivar runs: whether there still is a process.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.runs = True

    def seconds(self) -> float:
        """The time."""
        return self._clock.seconds()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """Call *callable* after *delay* seconds, unless the process has gone by then."""
        call = self._clock.callLater(delay, self._fire, callable, args, kwargs)
        if not self.runs:
            call.cancel()
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """The calls this process waits for."""
        calls = self._clock.getDelayedCalls()
        return [call for call in calls if isinstance(call, DelayedCall) and call.func == self._fire]

    def stop(self) -> None:
        """The process is gone."""
        self.runs = False
        for call in self.getDelayedCalls():
            call.cancel()

    def _fire(
        self, callable: Callable[..., Any], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        callable(*args, **kwargs)


class _Service(MeshService):
    """Its wall clock is the mesh's: so are the times and numbers of its messages.

    What one node has verified the others of the process need not.
    """

    def _verify(self, origin: bytes, signature: bytes, data: bytes) -> bool:
        return _verify(origin, signature, data)

    def _wall_clock(self) -> float:
        seconds: float = self._clock.seconds()
        return seconds

    def died(self) -> None:
        """The process is gone, and with it its hold on the history file."""
        if self._run is not None and self._run.writer is not None:
            self._run.writer.store.close()


@dataclass
class _Node:
    """What outlives the process on a host.

    :ivar options: of the service.
    :ivar clock: of the present process; :ivar service: in it.
    """

    options: dict[str, Any]
    clock: HostClock = field(init=False)
    service: _Service = field(init=False)
    received: list[Message] = field(init=False)
    events: list[tuple[str, Any]] = field(init=False)

    def make(self, clock: Clock) -> MeshService:
        """The service of a new process, watched."""
        self.clock = HostClock(clock)
        service = self.service = _Service(self.clock, **self.options)
        received, events = self.received, self.events = [], []

        # First in the chain, so that it sees what the application's handlers take.
        def note(message: Message, link: MeshProtocol | None) -> bool:
            received.append(message)
            return False

        service.register_handler(note)
        for name in EVENTS:
            service.on(name, lambda what, name=name: events.append((name, what)))
        return service


def _host(node: int) -> str:
    return f"10.0.{node // 250}.{node % 250 + 1}"


def _pairs(topology: str | Pairs, count: int) -> list[tuple[int, int]]:
    """The pairs to link, each with the lower number first."""
    match topology:
        case "full":
            return list(combinations(range(count), 2))
        case "chain":
            return list(pairwise(range(count)))
        case "ring":
            ends = [(0, count - 1)] if count > 2 else []
            return [*pairwise(range(count)), *ends]
        case str():
            raise ValueError(f"topology is 'full', 'ring', 'chain' or pairs, not {topology!r}")
    pairs = sorted({(min(pair), max(pair)) for pair in topology})
    for lower, higher in pairs:
        if not 0 <= lower < higher < count:
            raise ValueError(f"nodes {lower} and {higher} of {count} cannot be linked")
    return pairs
