"""A network of cores without sockets: seeded, and the same again from the same seed.

Contract: :class:`World` runs :class:`~twisted_mesh.core.node.Node` objects against each other on a clock of
its own.  Every frame draws its latency (constant latency hides what jitter does to trees) but links
stay first in, first out; a link may have a bandwidth; links and nodes come and go.  While it runs
each delivery is held against the promises: once, in order, and no gap told about what a neighbour
has.  Signatures are a stand-in unless real keys are asked for.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import assert_never

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.events import Run
from twisted_mesh.core.handshake import Myself, Peer
from twisted_mesh.core.node import Node
from twisted_mesh.core.reading import read
from twisted_mesh.core.shelf import Marks
from twisted_mesh.identity import id_of
from twisted_mesh.network import Protocol
from twisted_mesh.simulation.keys import Keys, stand_in
from twisted_mesh.simulation.storing import Scribe, SimStore
from twisted_mesh.simulation.trace import AnyFrame, describe, show
from twisted_mesh.wire import native
from twisted_mesh.wire.packets import pack_entry

NETWORK = Protocol("simulated", "Plaintext")

#: What a report shows; the last five must stay zero.
COUNTED = ("deliveries", "gaps", "duplicates", "disorder", "false gaps", "missed", "stalls")


class Wire:
    """One direction of a link."""

    __slots__ = ("accepted", "arrival")

    def __init__(self) -> None:
        self.arrival = 0.0  # of the last frame: the next comes no sooner
        self.accepted = 0  # bytes the line has taken


class SimLink:
    """A link between two nodes; each end knows it by the same number."""

    __slots__ = ("ends", "number", "open", "wires")

    def __init__(self, number: int, a: Member, b: Member) -> None:
        self.number = number
        self.ends = (a, b)
        self.open = True
        self.wires = {a: Wire(), b: Wire()}

    def other(self, member: Member) -> Member:
        """The far end."""
        return self.ends[1] if member is self.ends[0] else self.ends[0]


class Member:
    """A node of the world, over its crashes.

    :ivar core: of the present run, or None while it is down.
    :ivar lies: whether it breaks the rules; nothing is asked of it then.
    :ivar unreliable: whether nobody can be expected to have all that it sent itself.
    :ivar bandwidth: bytes a second that come to it over all its links together; None: no limit.
    :ivar replay: as in INTRO; :ivar store: what it finds again after a crash; None: nothing.
    :ivar delivered: the last message of each run its application was handed.
    """

    lies = False
    unreliable = False

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        key = hashlib.sha256(b"%d %d" % (world.seed, number)).digest()
        self.origin, self.sign, self._verify = world.keys(key)
        self.id = id_of(self.origin)
        self.epoch = 0
        self.bandwidth: float | None = None
        self.replay = 0
        self.store: SimStore | None = None
        self._scribe: Scribe | None = None
        self.line_free = 0.0  # when what was given to its line is through
        self.core: Node | None = None
        self.links: dict[int, SimLink] = {}
        self.delivered: dict[Run, int] = {}
        self._timers: dict[events.Timer, int] = {}

    @property
    def run(self) -> Run:
        """Of the present run."""
        return self.origin, self.epoch

    @property
    def node(self) -> Node:
        """The core, of a member that is up."""
        assert self.core is not None
        return self.core

    def start(self) -> None:
        """Begin a run, with what was stored of earlier ones."""
        world = self.world
        self.epoch += 1
        self.delivered, self._timers = {}, {}
        myself = Myself(self.id, self.origin, self.epoch, NETWORK, None, False, self.sign, self._verify)
        config = world.configs.get(self.number, world.config)
        if self.store is None:
            self.core = Node(myself, config)
            return
        restored = self.store.restored()
        self._scribe = Scribe(self.store, world, self._stored)
        self.core = self._scribe.node(myself, config, restored)
        for marks in restored.marks:
            self.delivered[marks.run] = max(marks.taken, marks.base)
            if marks.run[0] != self.origin:
                self._deliver_again(marks.run, marks.head)

    def stop(self) -> None:
        """End the run, in the middle of whatever it does."""
        self.core = None
        if self._scribe is not None:
            self._scribe.stop()

    def _stored(self, marks: Marks) -> None:
        if marks.run[0] == self.origin:
            self.world.kept[marks.run] = marks.head

    def _deliver_again(self, run: Run, head: int) -> None:
        """Hand out what was stored before it was stored that it had been handed out."""
        for piece in read(self.node.history, run, self.delivered[run], head, 2**40):
            self._told(run, self.delivered[run] + 1, piece.last)  # retention may have made a gap

    def handle(self, event: events.Event) -> None:
        """Let the core handle *event*, and carry out what follows."""
        if self.core is None:
            return
        for effect in self.core.handle(event, self.world.now):
            match effect:
                case events.Send():
                    for number in effect.links:
                        self.transmit(number, effect.frame, effect.size)
                case events.Deliver():
                    self._take(effect)
                case events.SetTimer():
                    self._set_timer(effect)
                case events.Close():
                    self.world.cut(effect.link, f"{effect.reason}: {effect.detail}")
                case events.Emit():
                    self._hear(effect.what)
                case _:
                    assert_never(effect)
        if self._scribe is not None:
            self._scribe.look(self.delivered)

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Send a frame; what lies does it here."""
        self.world.transmit(self, number, frame, size)

    def publish(self, *packets: object) -> bool:
        """Send a message; False if the core has no room for it."""
        entry = pack_entry(0, packets)
        if not self.node.room_for(len(entry)):
            return False
        world = self.world
        world.published[self.run] = world.published.get(self.run, 0) + 1
        world.born[self.run, world.published[self.run]] = world.now
        self.handle(events.Publish((entry,), int(world.now * 1000)))
        return True

    def _take(self, deliver: events.Deliver) -> None:
        run = (deliver.origin, deliver.epoch)
        self._told(run, deliver.first, deliver.first + len(deliver.entries) - 1)
        self.world.count_delivery(run, deliver.first, len(deliver.entries))

    def _hear(self, what: events.Happening) -> None:
        match what:
            case events.GapFound():
                self._told((what.origin, what.epoch), what.first, what.last)
                self.world.count_gap(self, what)
            case events.Poisoned():
                self._told((what.origin, what.epoch), what.first, what.last)
            case _:
                pass

    def _told(self, run: Run, first: int, last: int) -> None:
        """Messages were delivered, or told as lost or unreadable: each once, none left out."""
        before = self.delivered.get(run)
        if before is None:
            stream = self.node.history.get(run)
            before = 0 if stream is None else stream.base
        if run[0] == self.origin:
            self.world.violated(self, "duplicates", f"its own {first}")
        elif first <= before:
            self.world.violated(self, "duplicates", f"{show(run)} {first} after {before}")
        elif first != before + 1:
            self.world.violated(self, "disorder", f"{show(run)} {first} after {before}")
        self.delivered[run] = last

    def _set_timer(self, effect: events.SetTimer) -> None:
        """Fire a core's timer in time, unless it is set again before."""
        core, serial = self.core, self._timers.get(effect.timer, 0) + 1
        self._timers[effect.timer] = serial

        def fire() -> None:
            if self.core is core and self._timers.get(effect.timer) == serial:
                self.handle(events.TimerFired(effect.timer))

        self.world.at(max(effect.at, self.world.now), fire)


class World:
    """All members, their links and the clock.

    :ivar violations: what was broken, as text.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        config: MeshConfig | None = None,
        configs: Mapping[int, MeshConfig] | None = None,
        latency: tuple[float, float] = (0.02, 0.01),
        members: Sequence[type[Member]] | None = None,
        keys: Keys = stand_in,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        """
        :param configs: of the members that have one of their own, by number.
        :param latency: of a frame in seconds: at least, and a uniform draw on top.
        :param members: classes of the first members, where they are not plain ones.
        :param trace: is given a line for each frame and each lost link.
        """
        self.seed = seed
        self.random = random.Random(seed)
        self.config = config or MeshConfig()
        self.configs = dict(configs or {})
        self.latency = latency
        self.keys = keys
        self.trace = trace
        self.now = 0.0
        self.frames = 0
        self.bytes = 0
        self.hops = 0  # of all batches that were sent, together
        self.kinds: dict[str, int] = {}
        self.counts = dict.fromkeys(COUNTED, 0)
        self.latencies: list[float] = []
        self.published: dict[Run, int] = {}
        self.kept: dict[Run, int] = {}  # what of that its author has stored
        self.born: dict[tuple[Run, int], float] = {}
        self.violations: list[str] = []
        self.links: dict[int, SimLink] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self.digest = native.network_digest(NETWORK.id)
        kinds = list(members or ()) + [Member] * count
        self.members = [kind(self, number) for number, kind in enumerate(kinds[:count])]
        for member in self.members:
            member.start()

    # ── time ────────────────────────────────────────────────────────────────────────

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Do *call* at the time *when*."""
        self._numbers += 1
        heappush(self._agenda, (when, self._numbers, call))

    def run_until(self, end: float) -> None:
        """Let everything happen up to *end*."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= end:
            self.now, _, call = heappop(agenda)
            call()
        self.now = end

    # ── links ───────────────────────────────────────────────────────────────────────

    def link(self, a: Member, b: Member) -> SimLink | None:
        """Link two members, dialled by *a*; the handshake is over at once."""
        if a.core is None or b.core is None or self.linked(a, b):
            return None
        self._numbers += 1
        link = self.links[self._numbers] = SimLink(self._numbers, a, b)
        a.links[link.number] = b.links[link.number] = link
        peers = {m: Peer(m.id, m.origin, m.epoch, None, m.node.settled, m.replay) for m in (a, b)}
        for member, outgoing in ((b, False), (a, True)):
            said = peers[member].settled
            peer = peers[link.other(member)]
            member.handle(events.LinkOpened(link.number, peer, outgoing, said))
        return link

    def linked(self, a: Member, b: Member) -> SimLink | None:
        """The link between two members, if there is one."""
        return next((link for link in a.links.values() if link.other(a) is b), None)

    def cut(self, number: int, why: str = "cut") -> None:
        """Lose a link and what is under way on it."""
        link = self.links.pop(number, None)
        if link is None:
            return
        if self.trace:
            self.trace(f"{self.now:.3f} link {number} {link.ends[0].number}-{link.ends[1].number}: {why}")
        link.open = False
        for member in link.ends:
            member.links.pop(number, None)
            self.at(self.now, partial(self._tell_closed, member, member.core, number))

    @staticmethod
    def _tell_closed(member: Member, core: Node | None, number: int) -> None:
        if member.core is core:
            member.handle(events.LinkClosed(number))

    def transmit(self, source: Member, number: int, frame: AnyFrame, size: int) -> None:
        """Put a frame on the line."""
        link = self.links.get(number)
        if link is None:
            return
        self.frames += 1
        self.bytes += size
        if isinstance(frame, native.SignedBatch):
            self.hops += frame.hops + 1
        kind = type(frame).__name__
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        wire = link.wires[source]
        target = link.other(source)
        if self.trace:
            self.trace(f"{self.now:.3f} {source.number}->{target.number} {describe(frame)}")
        done = self.now
        if target.bandwidth is not None:
            done = target.line_free = max(target.line_free, self.now) + size / target.bandwidth
        low, spread = self.latency
        wire.arrival = max(wire.arrival, done + low + spread * self.random.random())

        def accept() -> None:
            wire.accepted += size
            if link.open and source.core is not None:
                source.handle(events.Accepted(number, wire.accepted))

        def arrive() -> None:
            if link.open and target.core is not None:
                target.handle(events.Received(number, (frame,)))

        self.at(done, accept)
        self.at(wire.arrival, arrive)

    # ── members ─────────────────────────────────────────────────────────────────────

    def crash(self, member: Member) -> None:
        """A member is gone, with all it knew and had not stored."""
        member.stop()
        for number in list(member.links):
            self.cut(number, "crash")

    def alive(self) -> list[Member]:
        """The members that are up."""
        return [member for member in self.members if member.core is not None]

    # ── judging ─────────────────────────────────────────────────────────────────────

    def violated(self, member: Member, kind: str, what: str) -> None:
        """Note a broken promise."""
        self.counts[kind] += 1
        self.violations.append(f"{self.now:.3f} s, node {member.number}: {kind}: {what}")

    def count_delivery(self, run: Run, first: int, count: int) -> None:
        """Measure a delivery."""
        self.counts["deliveries"] += count
        for sequence in range(first, first + count):
            born = self.born.get((run, sequence))
            if born is not None:
                self.latencies.append(self.now - born)

    def count_gap(self, member: Member, gap: events.GapFound) -> None:
        """A gap is false if a live neighbour holds what it names, and would give it away."""
        self.counts["gaps"] += 1
        mine = member.node.history.get((gap.origin, gap.epoch))
        if member.lies or (mine is not None and mine.equivocated):
            return  # a liar hurts itself; what its author signed twice is pulled no more
        for link in member.links.values():
            other = link.other(member)
            stream = (
                None
                if other.core is None or other.lies
                else other.core.history.get((gap.origin, gap.epoch))
            )
            if stream is not None and any(stream.serve(gap.first, gap.last, 1)):
                what = f"{show((gap.origin, gap.epoch))} {gap.first} to {gap.last}, held by {other.number}"
                self.violated(member, "false gaps", what)

    def honest(self) -> list[Member]:
        """The members that are up and do not lie."""
        return [member for member in self.alive() if not member.lies]
