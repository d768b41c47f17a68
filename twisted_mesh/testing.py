"""MemoryMesh: nodes on a network in memory, for tests of applications.

Contract: the services are real, TLS included; below them, connections are buffers and time is a Clock.  No
reactor is used, nothing waits for real time, and the same seed gives the same run.  MemoryMesh works in any
test framework, or without one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable
from inspect import signature
from itertools import combinations, pairwise
from random import Random
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_mesh.addressing.addresses import show
from twisted_mesh.identity import Identity
from twisted_mesh.memory.awaited import RunGuard
from twisted_mesh.memory.host import MemoryNode
from twisted_mesh.memory.network import MemoryNetwork
from twisted_mesh.message import Message
from twisted_mesh.runtime.options import check_options
from twisted_mesh.service import MeshService

PORT: Final = 4444  # the port of every node; each node has its own host

#: Those of a service, but for the reactor, and the control socket: there is no UNIX socket in memory.
_OPTIONS: Final = tuple(
    name for name in signature(MeshService).parameters if name not in ("reactor", "control")
)
_OF_ONE_NODE: Final = frozenset(("identity", "listen", "history"))

Pairs = Iterable[tuple[int, int]]


class MemoryMesh:
    """Nodes that are linked with each other in memory.

    Each node has a number, from 0 on; for any other number every method raises IndexError.

    :ivar clock: the time of all nodes; use it for the timers of the code under test, too.
    :ivar services: the nodes.
    :ivar network: the network between the nodes, for faults of single connections.
    """

    def __init__(
        self, count: int, *, seed: int = 0, topology: str | Pairs = "full", **options: Any
    ) -> None:
        """
        :param count: how many nodes to make; they run and are linked when the constructor returns.
        :param seed: decides the keys, the order of events, and the jitter.
        :param topology: which nodes are linked: ``"full"`` (all with all, so that any part of the mesh
            holds together without the rest), ``"ring"``, ``"chain"``, or pairs of numbers.
        :param options: of every :class:`~twisted_mesh.service.MeshService`, such as ``config``.  Give a
            key or a history file, which only one node can have, to :meth:`add`.
        :raises ValueError: an unknown topology, or an impossible count or pair.
        :raises RuntimeError: two nodes were not linked; the text has the reasons.
        """
        for option in _OF_ONE_NODE.intersection(options):
            raise ValueError(f"{option} is one node's: give it to add()")
        shared = [name for name in _OPTIONS if name not in _OF_ONE_NODE]
        check_options(options, shared, "MemoryMesh", "beside count, seed and topology ")
        if type(count) is not int or count < 0:
            raise ValueError(f"count is a number of nodes, not {count!r}")
        self.network = MemoryNetwork(seed)
        self.clock: Clock = self.network.clock
        self.services: list[MeshService] = []
        self._nodes: list[MemoryNode] = []
        self._seed = seed
        self._chance = Random(seed)
        self._stopped = False
        self._guard = RunGuard()
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
        """Add a node; after the next :meth:`run` it is linked.

        :param neighbours: numbers of the nodes that the new node dials, also again after a link is lost.
        :param started: False to prepare the service first; then call its ``startService()``.
        :param options: of its :class:`~twisted_mesh.service.MeshService`.
        :return: its service, the last of ``services``.
        """
        check_options(options, _OPTIONS, "MemoryMesh.add()", "beside started ")
        number = len(self.services)
        host = _host(number)
        node = MemoryNode(
            {
                "listen": [self.network.listen(host, PORT)],
                "dial": self.network.dial_from(host),
                "identity": self._identity(number),
                "overlay": False,
                **options,
                "peers": [*(show(self.address(other)) for other in neighbours), *options.get("peers", ())],
            },
            self._chance,
            self._guard,
        )
        service = node.make(self.clock)
        self._nodes.append(node)
        self.services.append(service)
        if started:
            service.startService()
        return service

    def address(self, node: int) -> tuple[str, int]:
        """The host and port of a node, which ``connect()`` takes."""
        self._at(node)
        return _host(node), PORT

    def received(self, node: int) -> list[Message]:
        """All messages that were delivered to a node, in order, whether or not a handler took them."""
        return list(self._at(node).received)

    def events(self, node: int) -> list[tuple[str, Any]]:
        """All events of a node except ``message``: (name, the argument of its listeners)."""
        return list(self._at(node).events)

    # ── time ────────────────────────────────────────────────────────────────────────

    def run(self, seconds: float = 0.0) -> None:
        """Let *seconds* pass; with 0, let everything happen that needs no time.

        An error that a timer of ``clock`` raises is raised here.

        :raises RuntimeError: events follow each other without end while no time passes; or a listener or
            handler calls this.
        :raises ValueError: *seconds* is negative, infinite or no number.
        """
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not 0 <= seconds < math.inf:
            raise ValueError(f"time goes on, and ends: not {seconds!r} seconds")
        self._check_idle()
        self._guard.runs = True
        try:
            self.network.advance(seconds)
        finally:
            self._guard.runs = False

    def _check_idle(self) -> None:
        if self._guard.runs:
            raise RuntimeError("this is called from within run(), which has to return first")

    # ── faults ──────────────────────────────────────────────────────────────────────

    def partition(self, *groups: Collection[int]) -> None:
        """Let no byte pass between nodes of different *groups*, until :meth:`heal`.

        Nodes in no group form a group of their own.  As in reality, no node notices at once: a node closes
        a link after ``dead_after`` seconds of silence.

        :raises ValueError: there is no such node, or it is in two groups.
        """
        if any(isinstance(group, int) for group in groups):
            raise ValueError(f"a group is several nodes, such as (0, 1): not {groups}")
        named = [number for group in groups for number in group]
        rest = set(range(len(self.services))).difference(named)
        if len(named) + len(rest) != len(self.services):
            raise ValueError(f"each node in one group, of those from 0 on: not {groups}")
        self.network.part(*([_host(number) for number in group] for group in (*groups, rest)))

    def heal(self) -> None:
        """End the partition.

        Nodes dial links that were closed again, within ``redial_longest`` and one second.
        """
        self.network.heal()

    def kill(self, node: int) -> None:
        """End a node as ``kill -9`` would: at once, and without a goodbye.

        Its service does nothing from then on; do not use that service any more.
        """
        self._at(node).clock.stop()
        self.network.kill(self.address(node)[0])
        self._at(node).service.died()

    def restart(self, node: int) -> MeshService:
        """:meth:`kill` a node, and :meth:`start` it again.

        :return: its new service, also in ``services``.
        """
        self.kill(node)
        return self.start(node)

    def slow_link(self, node: int, other: int, bytes_a_second: float | None) -> None:
        """Let no more than *bytes_a_second* pass in each direction between two nodes; None for no limit.

        :raises ValueError: *bytes_a_second* is not above 0.
        """
        if bytes_a_second is not None and not 0 < bytes_a_second < math.inf:
            raise ValueError(f"bytes_a_second is above 0, or None: not {bytes_a_second!r}")
        self.network.slow(self.address(node)[0], self.address(other)[0], bytes_a_second)

    def fill_disk(self, node: int) -> None:
        """Let a node write nothing into its history file, until :meth:`free_disk`.

        The node notices when it writes next, within ``flush_interval``: then ``send`` raises StoreFull.
        """
        self._at(node).disk.is_full = True

    def free_disk(self, node: int) -> None:
        """End :meth:`fill_disk`; the node writes again within ``store_retry``."""
        self._at(node).disk.is_full = False

    def start(self, node: int) -> MeshService:
        """Start a node that was killed: make a new service with the same key and history file.

        Without a history file the node remembers nothing.

        :return: the service, also in ``services``; :meth:`received` and :meth:`events` begin anew.
        :raises RuntimeError: the node was not killed; if its service was stopped, call ``startService()``.
        """
        if self._at(node).clock.runs:
            raise RuntimeError(f"node {node} was not killed")
        service = self.services[node] = self._at(node).make(self.clock)
        service.startService()
        return service

    # ── the end ─────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """End the partition, and stop every node as an application would; give this to ``addCleanup``.

        A second call does nothing.

        :raises RuntimeError: a node did not stop within its time limits; or as :meth:`run`.
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

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _at(self, node: int) -> MemoryNode:
        if type(node) is not int:
            raise TypeError(f"a node is named by its number, from 0 on, not by {node!r}")
        if not 0 <= node < len(self._nodes):
            raise IndexError(f"there is no node {node}")
        return self._nodes[node]

    def _identity(self, node: int) -> Identity:
        seed = hashlib.sha256(b"%d %d" % (self._seed, node)).digest()
        return Identity(Ed25519PrivateKey.from_private_bytes(seed))


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
