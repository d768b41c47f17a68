"""A network of cores without sockets: seeded, and the same again from the same seed.

Contract: :class:`World` runs members against each other on a clock of its own.  Every frame draws its
latency (constant latency hides what jitter does to trees) but links stay first in, first out; a link may
have a bandwidth; links and nodes come and go.  While it runs each delivery is held against the promises:
once, in order, and no gap told about what a neighbour has.  Signatures are a stand-in unless real keys are
asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from heapq import heappop, heappush

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.events import Run
from twisted_mesh.core.handshake import Peer
from twisted_mesh.core.node import Node
from twisted_mesh.simulation.keys import Keys, stand_in
from twisted_mesh.simulation.member import NETWORK, Member, SimLink
from twisted_mesh.simulation.trace import AnyFrame, describe, show
from twisted_mesh.wire import native

#: What a report shows; the last five must stay zero.
COUNTED = ("deliveries", "gaps", "duplicates", "disorder", "false gaps", "missed", "stalls")


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

    def honest(self) -> list[Member]:
        """The members that are up and do not lie."""
        return [member for member in self.alive() if not member.lies]

    def config_of(self, number: int) -> MeshConfig:
        """The limits of the member with that number."""
        return self.configs.get(number, self.config)

    # ── judging ─────────────────────────────────────────────────────────────────────

    def count_published(self, run: Run) -> None:
        """*run* has one message more."""
        self.published[run] = self.published.get(run, 0) + 1
        self.born[run, self.published[run]] = self.now

    def count_stored(self, run: Run, head: int) -> None:
        """The author of *run* has stored it up to *head*."""
        self.kept[run] = head

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
