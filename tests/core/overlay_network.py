"""A network of overlays and nothing else: links with latency, dials that take time, nodes that die.

Everything that happens is drawn from one seed.  A link stands from the moment both ends have proven
themselves until the first end closes it, which is what :meth:`Network.components` goes by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import TypeVar

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.overlay.overlay import Overlay
from twisted_mesh.core.reachability import DialLimit
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import Contact, ForwardJoin, Purpose, Shuffle, ShuffleReply

T = TypeVar("T")

HANDSHAKE = 6  # times the latency: TCP, TLS, greetings and proofs


def contact_of(index: int, machines: int = 0) -> Contact:
    """Where node *index* is: on a machine of its own, or one of so many."""
    machine = index % machines if machines else index
    return Contact(
        b"%032d" % index, f"10.{machine >> 16}.{machine >> 8 & 255}.{machine & 255}", 4444 + index
    )


class Wire:
    """A link of two hosts, the dialler first; one number for both."""

    def __init__(self, number: int, dialler: Host, acceptor: Host, purpose: Purpose) -> None:
        self.number = number
        self.hosts = (dialler, acceptor)
        self.purpose = purpose
        self.opened: set[int] = set()  # hosts at whose end it is open
        self.closed = False
        self.arrival = [0.0, 0.0]

    def other(self, host: Host) -> Host:
        """The other end."""
        return self.hosts[self.hosts[0] is host]


class Host:
    """One overlay and what a node does for it."""

    def __init__(self, network: Network, index: int, *, dialable: bool) -> None:
        self.network = network
        self.index = index
        self.contact = contact_of(index, network.machines)
        self.dialable = dialable
        self.alive = True
        self.wires: dict[int, Wire] = {}
        self.ups: set[int] = set()
        self.dials = DialLimit(network.config, None)
        self.dialled = 0
        self.refused = 0
        self.woken: float | None = None
        me = self.contact if dialable else None
        self.overlay = self.make_overlay(me)

    def make_overlay(self, me: Contact | None) -> Overlay:
        """The machine under test."""
        network = self.network
        return Overlay(
            me, self.contact.id, network.config, network.random, self.send, self.dial, self.close
        )

    def send(self, number: int, frame: ForwardJoin | Shuffle | ShuffleReply) -> None:
        """Carry a frame to the other end."""
        wire = self.wires[number]  # it never sends over a link that is closed
        self.network.frames += 1
        self.network.carry(wire, self, partial(wire.other(self).receive, wire, frame))

    def dial(self, contact: Contact, purpose: Purpose) -> bool:
        """Dial what the overlay asks for, if that may be."""
        network = self.network
        if not self.dials.may(contact, network.now):
            return False
        self.dials.began(contact, purpose, network.now)
        network.connect(self, contact, purpose)
        return True

    def dial_failed(self, id: bytes) -> None:
        """Nobody was there."""
        if self.alive and self.dials.over(id, self.network.now, False) is not None:
            self.act(partial(self.overlay.dial_failed, id, self.network.now))

    def close(self, number: int, reason: Reason, detail: str = "") -> None:
        """Close a link, and tell the other end."""
        wire = self.wires[number]
        self.end(wire, reason)
        other = wire.other(self)
        self.network.carry(wire, self, partial(other.end, wire, reason))

    def end(self, wire: Wire, reason: Reason) -> None:
        """The link is closed, by whichever end."""
        if self.wires.pop(wire.number, None) is None or not self.alive:
            return
        wire.closed = True
        self.ups.discard(wire.number)
        self.network.changed()
        self.act(partial(self.overlay.closed, wire.number, reason, self.network.now))

    def open(self, wire: Wire) -> bool:
        """The peer has proven itself."""
        if not self.alive:
            return False
        network = self.network
        outgoing = wire.hosts[0] is self
        other = wire.other(self)
        if outgoing:
            self.dials.over(other.contact.id, network.now, True)
        self.wires[wire.number] = wire
        told = other.contact if outgoing else None
        room = self.act(
            lambda: self.overlay.opened(
                wire.number,
                other.contact.id,
                told,
                wire.purpose,
                outgoing,
                other.contact.host,
                network.now,
            )
        )
        if not room:
            self.refused += 1
            self.close(wire.number, Reason.ROOM)
            return False
        wire.opened.add(self.index)
        network.carry(wire, self, partial(other.up, wire, self.contact if self.dialable else None))
        return True

    def up(self, wire: Wire, told: Contact | None) -> None:
        """The peer's frontier has come, and its roster."""
        if wire.number not in self.wires:
            return
        now = self.network.now
        self.ups.add(wire.number)
        first = self.network.random.random() < 0.5
        if told is not None and first:
            self.act(partial(self.overlay.located, wire.number, told, now))
        self.act(partial(self.overlay.up, wire.number, now))
        if told is not None and not first:
            self.act(partial(self.overlay.located, wire.number, told, now))
        if self.network.rosters:
            roster = [host.contact for host in wire.other(self).neighbours() if host.dialable]
            self.act(partial(self.overlay.known, roster, wire.number, now))
        self.settle_double(wire)

    def settle_double(self, kept: Wire) -> None:
        """Of two links to one node the greater id's own stays, of its two the newer."""
        for wire in list(self.wires.values()):
            if wire is kept or wire.other(self) is not kept.other(self):
                continue
            pair = sorted((wire, kept), key=lambda one: one.number)
            if wire.hosts[0] is kept.hosts[0]:
                loser, decides = pair[0], wire.hosts[1] is self
            else:
                greater = max(wire.hosts, key=lambda host: host.contact.id)
                loser = wire if kept.hosts[0] is greater else kept
                decides = greater is self
            winner = kept if loser is wire else wire
            if decides and winner.number in self.ups and loser.number in self.wires:
                self.close(loser.number, Reason.DUPLICATE)

    def receive(self, wire: Wire, frame: ForwardJoin | Shuffle | ShuffleReply) -> None:
        """A frame has come."""
        if wire.number not in self.wires:
            return
        handler: Callable[..., None] = self.overlay.forward_join
        if isinstance(frame, Shuffle):
            handler = self.overlay.shuffle
        elif isinstance(frame, ShuffleReply):
            handler = self.overlay.shuffle_reply
        self.act(partial(handler, wire.number, frame, self.network.now))

    def act(self, what: Callable[[], T]) -> T:
        """Let the overlay do something, and see when it wants to be woken."""
        result = what()
        wake = self.overlay.wake
        if wake is not None and (self.woken is None or wake < self.woken):
            self.woken = wake
            self.network.at(max(wake, self.network.now), partial(self.tick, wake))
        return result

    def tick(self, wake: float) -> None:
        """The time has come."""
        if self.woken == wake:
            self.woken = None
            if self.alive:
                self.act(partial(self.overlay.tick, self.network.now))

    def neighbours(self) -> list[Host]:
        """Those it has a standing link with."""
        return list(
            dict.fromkeys(
                wire.other(self)
                for wire in self.wires.values()
                if len(wire.opened) == 2 and not wire.closed
            )
        )


class Network:
    """Hosts, the time and chance."""

    def __init__(
        self,
        seed: int,
        config: MeshConfig | None = None,
        *,
        latency: tuple[float, float] = (0.005, 0.05),
        failing: tuple[float, float] = (0.05, 1.0),
        rosters: bool = False,
        machines: int = 0,
    ) -> None:
        """
        :param failing: seconds a dial takes that finds nobody.
        :param rosters: whether each end of a new link tells the other whom it is linked with.
        :param machines: on how many machines the nodes are, 0: each on one of its own.
        """
        self.random = Random(seed)
        self.config = MeshConfig() if config is None else config
        self.latency = latency
        self.failing = failing
        self.rosters = rosters
        self.machines = machines
        self.now = 0.0
        self.hosts: dict[int, Host] = {}
        self.frames = 0
        self.watch: Callable[[], None] | None = None
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._numbers = count(1)

    def add(self, index: int, *, dialable: bool = True) -> Host:
        """A node is there."""
        host = self.hosts[index] = Host(self, index, dialable=dialable)
        return host

    def at(self, time: float, what: Callable[[], object]) -> None:
        """Let something happen."""
        heappush(self._queue, (time, next(self._order), what))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, what = heappop(self._queue)
            what()
        self.now = until

    def delay(self) -> float:
        """How long a message takes."""
        return self.random.uniform(*self.latency)

    def carry(self, wire: Wire, sender: Host, what: Callable[[], object]) -> None:
        """Bring something to the other end, behind all that went before."""
        side = wire.hosts[0] is sender
        arrival = wire.arrival[side] = max(wire.arrival[side], self.now + self.delay())
        other = wire.other(sender)
        self.at(arrival, lambda: what() if other.alive else None)

    def connect(self, dialler: Host, contact: Contact, purpose: Purpose) -> None:
        """A dial: a link comes of it, or nothing."""
        acceptor = self.hosts.get(int(contact.id))
        dialler.dialled += 1
        if acceptor is None or acceptor.contact != contact or not acceptor.dialable:
            self.at(self.now + self.random.uniform(*self.failing), partial(dialler.dial_failed, contact.id))
            return
        wire = Wire(next(self._numbers), dialler, acceptor, purpose)
        self.at(self.now + HANDSHAKE * self.delay(), partial(self._accept, wire))

    def _accept(self, wire: Wire) -> None:
        dialler, acceptor = wire.hosts
        if not acceptor.alive:
            self.at(
                self.now + self.random.uniform(*self.failing),
                partial(dialler.dial_failed, acceptor.contact.id),
            )
        elif dialler.alive:
            # The acceptor's proof goes out before anything else that it says.
            self.carry(wire, acceptor, partial(self._opened, wire))
            acceptor.open(wire)

    def _opened(self, wire: Wire) -> None:
        if wire.hosts[0].open(wire):
            self.changed()

    def kill(self, host: Host, within: float = 1.0) -> None:
        """The node is gone without a word; the others notice after a while."""
        host.alive = False
        for wire in list(host.wires.values()):
            wire.closed = True
            other = wire.other(host)
            self.at(self.now + within * self.random.random(), partial(other.end, wire, Reason.LOST))
        host.wires.clear()

    def leave(self, host: Host) -> None:
        """The node says goodbye to all."""
        for wire in list(host.wires.values()):
            wire.closed = True
            other = wire.other(host)
            self.carry(wire, host, partial(other.end, wire, Reason.LEAVING))
        host.alive = False
        host.wires.clear()

    def join(self, host: Host, contact: Host) -> None:
        """An application wants a link."""
        if host.alive:
            self.connect(host, contact.contact, Purpose.JOIN)

    def changed(self) -> None:
        """A link has come to stand, or stands no more."""
        if self.watch is not None:
            self.watch()

    def alive(self) -> list[Host]:
        """The nodes that are there."""
        return [host for host in self.hosts.values() if host.alive]

    def gather(self, nodes: int, within: float, undialable: float = 0.0) -> Host:
        """Let so many nodes join the first of them, all within so many seconds; the first."""
        first = self.add(0)
        for index in range(1, nodes):
            host = self.add(index, dialable=self.random.random() >= undialable)
            self.at(self.now + within * self.random.random(), partial(self.join, host, first))
        return first

    def components(self) -> list[set[int]]:
        """The nodes that are there, as they hang together."""
        left = {host.index for host in self.alive()}
        found = []
        while left:
            edge = [self.hosts[left.pop()]]
            part = {edge[0].index}
            while edge:
                for other in edge.pop().neighbours():
                    if other.index in left:
                        left.discard(other.index)
                        part.add(other.index)
                        edge.append(other)
            found.append(part)
        return found

    def degrees(self, hosts: Iterable[Host] | None = None) -> list[int]:
        """How many neighbours each node has, the fewest first."""
        return sorted(len(host.neighbours()) for host in (self.alive() if hosts is None else hosts))
