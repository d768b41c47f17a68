"""A network of nodes without sockets, on a simulated clock: the same seed gives the same events.

Contract: :class:`World` carries frames between members.  It draws the latency of each frame, since a
constant latency would hide what jitter does to trees, but no frame overtakes another on its link.  Members
can have slow lines, crash, stall, and be cut off.  :class:`~twisted_mesh.simulation.observing.Observed`
counts the events and checks promises.  Signatures are a stand-in unless real keys are asked for.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Self

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.node import Node
from twisted_mesh.errors import Reason
from twisted_mesh.network import EVERYBODY
from twisted_mesh.simulation.handshakes import shake
from twisted_mesh.simulation.keys import Keys, stand_in
from twisted_mesh.simulation.member import NETWORK, Member, SimLink
from twisted_mesh.simulation.network import BUFFERED, Wire, carry
from twisted_mesh.simulation.observing import Observed
from twisted_mesh.simulation.trace import AnyFrame, describe
from twisted_mesh.wire import codec
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import Purpose

HANDSHAKE = 6  # latencies that TCP, TLS, greetings and proofs take together


class World(Observed):
    """All members, their links and the clock.

    :cvar keys: makes the keys of each member.
    :ivar configs: by number, the limits of members that do not have the world's *config*.
    :ivar reaches: tells whether packets pass between two members.
    :ivar healed: when the last partition ended.
    :ivar changed: called when a member shows another member, named by origin, in a new state.
    :ivar dials: how often each address was dialled.
    :ivar last_handshake: what the dialler of the last link sent to prove itself.
    """

    keys: Keys = staticmethod(stand_in)

    def __init__(
        self,
        seed: int,
        count: int,
        config: MeshConfig | None = None,
        latency: tuple[float, float] = (0.02, 0.01),
        members: Sequence[type[Member]] = (),
        trace: Callable[[str], None] | None = None,
        overlay: bool = False,
    ) -> None:
        """
        :param latency: of a frame in seconds: the least, and the most that is added at random.
        :param members: classes of the first members; the others are plain :class:`Member`.
        :param overlay: whether members look for neighbours by themselves.
        :param trace: called with a line of text for each frame and each lost link.
        """
        super().__init__()
        self.seed = seed
        self.random = random.Random(seed)
        self.config = config or MeshConfig()
        self.configs: dict[int, MeshConfig] = {}
        self.latency = latency
        self.trace = trace
        self.overlay = overlay
        self.reaches: Callable[[Member, Member], bool] = lambda member, other: True
        self.healed = 0.0
        self.changed: Callable[[Member, bytes], None] = lambda member, origin: None
        self.dials: Counter[Address] = Counter()
        self.last_handshake = b""
        self.links: dict[int, SimLink] = {}
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = 0
        self._places: dict[Address, Member] = {}
        self.digest = codec.network_digest(NETWORK.id)
        kinds = [*members, *[Member] * count][:count]
        self.members: list[Member] = [kind(self, number) for number, kind in enumerate(kinds)]
        for member in self.members:
            self.listens(member)  # its host is up, and refuses connections while the member is down

    def start(self) -> Self:
        """Start all members; return this world."""
        for member in self.members:
            member.start()
        return self

    # ── time ────────────────────────────────────────────────────────────────────────

    def at(self, when: float, call: Callable[[], object]) -> None:
        """Call *call* at the time *when*."""
        self._numbers += 1
        heappush(self._agenda, (when, self._numbers, call))

    def run_until(self, end: float) -> None:
        """Make all calls that are due up to *end*."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= end:
            self.now, _, call = heappop(agenda)
            call()
        self.now = end

    # ── links ───────────────────────────────────────────────────────────────────────

    def link(self, a: Member, b: Member) -> SimLink | None:
        """Link *a*, which dials, with *b*; the handshake takes no time."""
        if a.core is None or b.core is None or self.linked(a, b):
            return None
        return self._connect(a, b, Purpose.JOIN)

    def listens(self, member: Member) -> None:
        """Let *member* be dialled at its address from now on."""
        if member.address is not None:
            self._places[member.address] = member

    def dial(self, member: Member, dial: events.Dial) -> None:
        """Dial for the core of *member*."""
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
        """*member* dials *where*; some round trips later it has a link, or *failed* is called.

        :param id: the id that the node there must have; None if any may.
        """
        self.dials[where] += 1
        other = self._places.get(where)
        if other is not None and other.address != where:
            other = None
        delay = self.latency[0] + self.latency[1] * self.random.random()
        # If no packet gets there, nobody answers; if no process listens, the host refuses.
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
        if free > self.now:  # one of the two stalls, and the handshake waits for it
            self.at(free, partial(self._answer, member, core, other, id, purpose, failed))
        elif (secret := self._proven(member, other, purpose)) is None:
            failed()
        else:
            self._connect(member, other, purpose, secret)

    def _proven(self, dialler: Member, acceptor: Member, purpose: Purpose) -> bytes | None:
        """The id of the secret by which both prove themselves; None if an end refuses the other.

        If everybody may join, the handshake need not be played.
        """
        if dialler.policy is EVERYBODY and acceptor.policy is EVERYBODY:
            return b""
        self._numbers += 1
        ends = dialler.in_handshake(), acceptor.in_handshake()
        shaken = shake(*ends, purpose, self._numbers, dialler.say)
        dialler.hear(shaken.heard)
        if shaken.secret is not None:
            self.last_handshake = shaken.said
        return shaken.secret

    def _connect(self, a: Member, b: Member, purpose: Purpose, secret: bytes = b"") -> SimLink:
        self._numbers += 1
        link = self.links[self._numbers] = SimLink(self._numbers, a, b)
        a.links[link.number] = b.links[link.number] = link
        peers = {m: m.as_peer(purpose, secret) for m in (a, b)}
        for member, outgoing in ((b, False), (a, True)):
            other = link.other(member)
            said = peers[member].settled
            opened = events.LinkOpened(link.number, peers[other], outgoing, said, purpose, other.host)
            member.handle(opened)
        return link

    def linked(self, a: Member, b: Member) -> SimLink | None:
        """The link between *a* and *b*, or None."""
        return next((link for link in a.links.values() if link.other(a) is b), None)

    def cut(self, number: int, why: str = "cut", reason: Reason = Reason.LOST) -> None:
        """Cut a link: frames under way are lost, and both ends notice at once."""
        link = self.links.get(number)
        if link is not None:
            link.end()
            for member in link.ends:
                self._end(link, member, why, reason)

    def close(self, member: Member, number: int, why: str, reason: Reason) -> None:
        """*member* ends the link *number*; the far end is told unless the line is cut."""
        link = self.links.get(number)
        if link is not None and not link.open:
            self._end(link, member, why, reason)
        else:
            self.cut(number, why, reason)

    def _end(self, link: SimLink, member: Member, why: str, reason: Reason) -> None:
        if member.links.pop(link.number, None) is None:
            return
        if all(link.number not in end.links for end in link.ends):
            del self.links[link.number]
            if self.trace:
                ends = "-".join(str(end.number) for end in link.ends)
                self.trace(f"{self.now:.3f} link {link.number} {ends}: {why}")
        self.at(self.now, partial(self._tell_closed, member, member.core, link, reason))

    @staticmethod
    def _tell_closed(member: Member, core: Node | None, link: SimLink, reason: Reason) -> None:
        if member.core is core:
            member.handle(events.LinkClosing(link.number, reason))
            member.handle(events.LinkClosed(link.number))
            if member.caller is not None:
                member.caller.ended(link.other(member), reason)

    def transmit(self, source: Member, number: int, frame: AnyFrame, size: int) -> None:
        """Send *frame* from *source* over the link *number*."""
        link = self.links.get(number)
        if link is None or not link.open:
            return
        self.count_frame(frame, size)
        wire = link.wires[source]
        target = link.other(source)
        if self.trace:
            self.trace(f"{self.now:.3f} {source.number}->{target.number} {describe(frame)}")
        wire.given += size
        lines = [line for line in (source.uplink, target.line) if line is not None]
        if lines:
            wire.is_full = wire.is_full or wire.given > wire.passed + BUFFERED
            self._accept_ahead(source, link)
            carry(lines, wire, size, partial(self._passed, source, link, frame, size, wire.given - size))
            return
        if not wire.accepting:  # one event tells of all bytes of this moment
            wire.accepting = True
            self.at(self.now, partial(self._accept, source, link, None))
        self._sent(source, link, frame)

    def _passed(
        self, source: Member, link: SimLink, frame: AnyFrame, size: int, before: int, done: int
    ) -> None:
        """The lines have carried *done* bytes of *frame*, and *before* bytes that were sent before it."""
        wire = link.wires[source]
        wire.passed = before + done
        arriving = wire.shows(frame, done, size, link.number, self.now)
        if arriving is not None:
            at = max(self.now + self.latency[0], wire.arrival)
            self.at(at, partial(self._arriving, link.other(source), link, arriving))
        if done == size:
            self._sent(source, link, frame)
        self._accept_ahead(source, link)

    def _accept_ahead(self, source: Member, link: SimLink) -> None:
        """Tell *source* how many bytes its system has accepted: those carried, and one buffer more."""
        wire = link.wires[source]
        accepted = min(wire.given, wire.passed + BUFFERED)
        if accepted > wire.accepted:
            wire.accepted = accepted
            self.at(self.now, partial(self._accept, source, link, accepted))

    @staticmethod
    def _arriving(target: Member, link: SimLink, arriving: events.Arriving) -> None:
        if link.open and target.core is not None:
            target.handle(arriving)

    def _sent(self, source: Member, link: SimLink, frame: AnyFrame) -> None:
        wire = link.wires[source]
        low, push = self.latency
        frames = wire.carry(frame, self.now + low + push * self.random.random())
        if frames is not None:
            self.at(wire.arrival, partial(self._arrive, link.other(source), link, wire, frames))

    @staticmethod
    def _accept(source: Member, link: SimLink, size: int | None) -> None:
        wire = link.wires[source]
        if size is None:
            wire.accepting = False
            size = wire.given
        if link.open and source.core is not None:
            source.handle(events.Accepted(link.number, size))
            if wire.is_full and size == wire.given:
                wire.is_full = False
                source.handle(events.Resumed(link.number))

    def _arrive(self, target: Member, link: SimLink, wire: Wire, frames: list[AnyFrame]) -> None:
        if wire.under_way is frames:
            wire.under_way = []
        if link.open and target.core is not None:
            for frame in frames:
                self.count_arrived(target, frame)
            target.handle(events.Received(link.number, frames))

    # ── members ─────────────────────────────────────────────────────────────────────

    def crash(self, member: Member) -> None:
        """Crash *member*: it keeps its store alone, and its neighbours are told that their links ended."""
        member.stop()
        for number in list(member.links):
            self.close(member, number, "crash", Reason.LOST)

    def vanish(self, member: Member) -> None:
        """Take *member* away with its host: nobody is told."""
        member.stop()
        self._places.pop(member.address or ("", 0), None)
        for link in list(member.links.values()):
            link.end()
            self._end(link, member, "vanished", Reason.SILENT)

    def part(self, side: Callable[[Member], object]) -> None:
        """Begin a partition: packets pass only between members for which *side* gives the same."""
        self.reaches = lambda member, other: side(member) == side(other)
        for link in list(self.links.values()):
            if not self.reaches(*link.ends):
                link.end()  # each end notices only that no byte comes

    def heal(self) -> None:
        """End a partition; links that were lost stay lost."""
        self.healed = self.now
        self.reaches = lambda member, other: True

    def stall(self, member: Member, seconds: float) -> None:
        """Let *member* handle no event for *seconds*, and then all that came meanwhile."""
        member.hold(self.now + seconds)
        self.at(self.now + seconds, partial(member.release, member.core))

    def leave(self, member: Member) -> None:
        """Stop *member* in good order: its links end when its last frames have arrived."""
        if member.core is None:
            return
        member.handle(events.Leaving())
        links = list(member.links.values())
        member.stop()
        for link in links:
            lines = [line for line in (member.uplink, link.other(member).line) if line is not None]
            if lines:
                carry(lines, link.wires[member], 0, partial(self._left, member, link))
            else:
                self._left(member, link)

    def _left(self, member: Member, link: SimLink, _: int = 0) -> None:
        arrived = max(wire.arrival for wire in link.wires.values())
        left = partial(self.close, member, link.number, "left", Reason.LEAVING)
        self.at(max(arrived, self.now), left)

    def alive(self) -> list[Member]:
        """The members that are up."""
        return [member for member in self.members if member.core is not None]

    def honest(self) -> list[Member]:
        """The members that are up and are no adversaries."""
        return [member for member in self.alive() if not member.lies]

    def config_of(self, number: int) -> MeshConfig:
        """The limits of the member with the number *number*."""
        return self.configs.get(number, self.config)

    def has_changed(self, member: Member, origin: bytes) -> None:
        """*member* has changed the state in which it shows the member *origin*."""
        self.changed(member, origin)
