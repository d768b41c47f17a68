"""A network of cores without sockets: seeded, and the same again from the same seed.

Contract: :class:`World` runs members against each other on a clock of its own.  Every frame draws its
latency (constant latency hides what jitter does to trees) but links stay first in, first out; a link may
have a bandwidth; links and nodes come and go, by themselves or because somebody dials.  While it runs each
delivery is held against the promises: once, in order, and no gap told about what a neighbour has.
Signatures are a stand-in unless real keys are asked for.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from heapq import heappop, heappush
from math import inf

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.events import Run
from twisted_mesh.core.handshake import Peer
from twisted_mesh.core.node import Node
from twisted_mesh.errors import Reason
from twisted_mesh.simulation.keys import Keys, stand_in
from twisted_mesh.simulation.member import NETWORK, Member, SimLink, Wire
from twisted_mesh.simulation.trace import AnyFrame, describe, show
from twisted_mesh.wire import native
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import Purpose
from twisted_mesh.wire.signed import SignedRecord

HANDSHAKE = 6  # times the latency: TCP, TLS, greetings and proofs

#: What must not happen, as it is counted.
BROKEN = (
    "false gaps",
    "duplicates",
    "disorder",
    "missed",
    "stalls",
    "islands",
    "rosters",
    "downs",
    "limits",
    "receipts",
    "directs",
)
COUNTED = ("deliveries", "gaps", *BROKEN)


class World:
    """All members, their links and the clock.

    :ivar violations: what was broken, as text.
    :ivar reaches: whether packets of one member find their way to the other, and back.
    :ivar healed: when that was last changed to the better.
    :ivar changed: is told when a member shows another, by origin, in another way than before.
    :ivar knocks: how often each address was dialled.
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
        overlay: bool = False,
        start: bool = True,
    ) -> None:
        """
        :param configs: of the members that have one of their own, by number.
        :param latency: of a frame in seconds: at least, and a uniform draw on top.
        :param members: classes of the first members, where they are not plain ones.
        :param overlay: whether members look for neighbours by themselves.
        :param start: whether all members are up from the beginning.
        :param trace: is given a line for each frame and each lost link.
        """
        self.seed = seed
        self.random = random.Random(seed)
        self.config = config or MeshConfig()
        self.configs = dict(configs or {})
        self.latency = latency
        self.keys = keys
        self.trace = trace
        self.overlay = overlay
        self.reaches: Callable[[Member, Member], bool] = lambda member, other: True
        self.healed = 0.0
        self.changed: Callable[[Member, bytes], None] = lambda member, origin: None
        self.knocks: Counter[Address] = Counter()
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
        self._places: dict[Address, Member] = {}
        self.digest = native.network_digest(NETWORK.id)
        kinds = list(members or ()) + [Member] * count
        self.members = [kind(self, number) for number, kind in enumerate(kinds[:count])]
        for member in self.members:
            self.listens(member)  # its host is up, and says no as long as it is not
            if start:
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
        return self._connect(a, b, Purpose.JOIN)

    def listens(self, member: Member) -> None:
        """*member* can be dialled at its address from now on, and answers while it is up."""
        if member.address is not None:
            self._places[member.address] = member

    def dial(self, member: Member, dial: events.Dial) -> None:
        """The core of *member* wants a link."""
        contact = dial.contact

        def failed() -> None:
            member.handle(events.DialFailed(contact.id))

        self.call(member, (contact.host, contact.port), contact.id, dial.purpose, failed)

    def call(
        self,
        member: Member,
        where: Address,
        id: bytes | None,
        purpose: Purpose,
        failed: Callable[[], None],
    ) -> None:
        """*member* dials *where*; a link comes of it some round trips later, or *failed* is called.

        :param id: of the node that must be there; None: whoever it is.
        """
        self.knocks[where] += 1
        other = self._places.get(where)
        if other is not None and other.address != where:
            other = None
        delay = self.latency[0] + self.latency[1] * self.random.random()
        # Where no packet gets to nobody answers; where no process listens the host says so.
        if other is None or not self.reaches(member, other):
            delay = self.config.connect_timeout
        elif other.core is not None:
            delay *= HANDSHAKE
        else:
            delay *= 2
        self.at(self.now + delay, partial(self._answer, member, member.core, other, id, purpose, failed))

    def _answer(
        self,
        member: Member,
        core: Node | None,
        other: Member | None,
        id: bytes | None,
        purpose: Purpose,
        failed: Callable[[], None],
    ) -> None:
        if core is None or member.core is not core:
            return
        there = other is not None and other.core is not None and self.reaches(member, other)
        if other is None or not there or other is member or id not in (None, other.id):
            failed()
            return
        free = max(member.held_until, other.held_until)
        if free > self.now:  # one end does nothing at the moment, and the handshake waits for it
            self.at(free, partial(self._answer, member, core, other, id, purpose, failed))
        else:
            self._connect(member, other, purpose)

    def _connect(self, a: Member, b: Member, purpose: Purpose) -> SimLink:
        self._numbers += 1
        link = self.links[self._numbers] = SimLink(self._numbers, a, b)
        a.links[link.number] = b.links[link.number] = link
        peers = {
            m: Peer(m.id, m.origin, m.epoch, m.address, m.node.settled, m.replay, m.role, purpose)
            for m in (a, b)
        }
        for member, outgoing in ((b, False), (a, True)):
            other = link.other(member)
            said = peers[member].settled
            opened = events.LinkOpened(link.number, peers[other], outgoing, said, purpose, other.host)
            member.handle(opened)
        return link

    def linked(self, a: Member, b: Member) -> SimLink | None:
        """The link between two members, if there is one."""
        return next((link for link in a.links.values() if link.other(a) is b), None)

    def cut(self, number: int, why: str = "cut", reason: Reason = Reason.LOST) -> None:
        """Lose a link and what is under way on it."""
        link = self.links.pop(number, None)
        if link is None:
            return
        if self.trace:
            self.trace(f"{self.now:.3f} link {number} {link.ends[0].number}-{link.ends[1].number}: {why}")
        link.open = False
        for member in link.ends:
            member.links.pop(number, None)
            self.at(self.now, partial(self._tell_closed, member, member.core, link, reason))

    def lose(self, link: SimLink) -> None:
        """Nothing goes over a link any more, which both ends find out by the silence."""
        link.open = False
        self.at(self.now + self.config.dead_after, partial(self.cut, link.number, "dead", Reason.SILENT))

    @staticmethod
    def _tell_closed(member: Member, core: Node | None, link: SimLink, reason: Reason) -> None:
        if member.core is core:
            member.handle(events.LinkClosing(link.number, reason))
            member.handle(events.LinkClosed(link.number))
            if member.caller is not None:
                member.caller.ended(link.other(member), reason)

    def transmit(self, source: Member, number: int, frame: AnyFrame, size: int) -> None:
        """Put a frame on the line."""
        link = self.links.get(number)
        if link is None or not link.open:
            return
        self.frames += 1
        self.bytes += size
        if isinstance(frame, native.SignedBatch):
            self.hops += frame.hops + 1
        kind = type(frame.record if isinstance(frame, SignedRecord) else frame).__name__
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        wire = link.wires[source]
        target = link.other(source)
        if self.trace:
            self.trace(f"{self.now:.3f} {source.number}->{target.number} {describe(frame)}")
        done = self.now
        if target.bandwidth is not None:
            done = target.line_free = max(target.line_free, self.now) + size / target.bandwidth
            if source.lies and done - self.now > self.config.suspect_patience:
                target.behind_until = done
        low, spread = self.latency
        arrival = max(wire.arrival, done + low + spread * self.random.random())
        wire.given += size
        if done > self.now:
            self.at(done, partial(self._accept, source, link, wire.given))
        elif not wire.accepting:  # else all that is given in one moment is told at once
            wire.accepting = True
            self.at(done, partial(self._accept, source, link, None))
        if arrival > wire.arrival or not wire.under_way:
            wire.arrival = arrival
            wire.under_way = [frame]
            self.at(arrival, partial(self._arrive, target, link, wire, wire.under_way))
        else:  # it catches up with the one before
            wire.under_way.append(frame)

    @staticmethod
    def _accept(source: Member, link: SimLink, size: int | None) -> None:
        wire = link.wires[source]
        if size is None:
            wire.accepting = False
            size = wire.given
        if link.open and source.core is not None:
            source.handle(events.Accepted(link.number, size))

    @staticmethod
    def _arrive(target: Member, link: SimLink, wire: Wire, frames: list[AnyFrame]) -> None:
        if wire.under_way is frames:
            wire.under_way = []
        if link.open and target.core is not None:
            target.handle(events.Received(link.number, frames))

    # ── members ─────────────────────────────────────────────────────────────────────

    def crash(self, member: Member) -> None:
        """A member is gone, with all it knew and had not stored."""
        member.stop()
        for number in list(member.links):
            self.cut(number, "crash")

    def vanish(self, member: Member) -> None:
        """A member is gone with its host: nobody is told."""
        member.stop()
        self._places.pop(member.address or ("", 0), None)
        for link in list(member.links.values()):
            self.lose(link)

    def part(self, side: Callable[[Member], object]) -> None:
        """From now on packets pass only between members of the same side."""
        self.reaches = lambda member, other: side(member) == side(other)
        for link in list(self.links.values()):
            if not self.reaches(*link.ends):
                self.lose(link)

    def heal(self) -> None:
        """Packets find their way again; links that are lost stay lost."""
        self.healed = self.now
        self.reaches = lambda member, other: True

    def stall(self, member: Member, seconds: float) -> None:
        """*member* does nothing for so long; then whatever was due comes at once."""
        member.hold(self.now + seconds)
        if seconds >= self.config.dead_after:
            member.linked_since = inf
            for link in list(member.links.values()):
                dead = partial(self.cut, link.number, "dead", Reason.SILENT)
                self.at(self.now + self.config.dead_after, dead)
        self.at(self.now + seconds, partial(member.release, member.core))

    def leave(self, member: Member) -> None:
        """A member stops in good order: it says so, and what it said last gets there."""
        if member.core is None:
            return
        member.handle(events.Leaving())
        links = list(member.links.values())
        member.stop()
        for link in links:
            arrived = max(wire.arrival for wire in link.wires.values())
            self.at(max(arrived, self.now), partial(self.cut, link.number, "left", Reason.LEAVING))

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

    def has_changed(self, member: Member, origin: bytes) -> None:
        """*member* shows the author *origin* in another way than before."""
        self.changed(member, origin)

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
        """A gap is false if a live neighbour holds what it names, would give it away, and could by now."""
        self.counts["gaps"] += 1
        mine = member.node.history.get((gap.origin, gap.epoch))
        if member.lies or member.behind_until > self.now or (mine is not None and mine.equivocated):
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
