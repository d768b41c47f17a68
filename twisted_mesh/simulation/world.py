"""A network of cores without sockets: seeded, and the same again from the same seed.

Contract: :class:`World` runs members against each other on a clock of its own.  Every frame draws its
latency (constant latency hides what jitter does to trees) but links stay first in, first out; those of one
member may share a slow line; links and nodes come and go, by themselves or because somebody dials.  What
happens is counted and judged by :class:`~twisted_mesh.simulation.observing.Observed`.  Signatures are a
stand-in unless real keys are asked for.
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
from twisted_mesh.core.handshake import Peer
from twisted_mesh.core.node import Node
from twisted_mesh.errors import Reason
from twisted_mesh.simulation.keys import Keys, stand_in
from twisted_mesh.simulation.member import NETWORK, Member, SimLink
from twisted_mesh.simulation.network import BUFFERED, Wire, carry
from twisted_mesh.simulation.observing import Observed
from twisted_mesh.simulation.trace import AnyFrame, describe
from twisted_mesh.wire import codec
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import Purpose

HANDSHAKE = 6  # times the latency: TCP, TLS, greetings and proofs


class World(Observed):
    """All members, their links and the clock.

    :cvar keys: gives each member its keys; :ivar configs: of the members that have one of their own, by
        number.
    :ivar reaches: whether packets of one member find their way to the other, and back.
    :ivar healed: when that was last changed to the better.
    :ivar changed: is told when a member shows another, by origin, in another way than before.
    :ivar dials: how often each address was dialled.
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
        :param latency: of a frame in seconds: at least, and a uniform draw on top.
        :param members: classes of the first members, where they are not plain ones.
        :param overlay: whether members look for neighbours by themselves.
        :param trace: is given a line for each frame and each lost link.
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
        self.links: dict[int, SimLink] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self._places: dict[Address, Member] = {}
        self.digest = codec.network_digest(NETWORK.id)
        kinds = [*members, *[Member] * count][:count]
        self.members: list[Member] = [kind(self, number) for number, kind in enumerate(kinds)]
        for member in self.members:
            self.listens(member)  # its host is up, and says no as long as it is not

    def start(self) -> Self:
        """Start all members; the world itself."""
        for member in self.members:
            member.start()
        return self

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
        self.dials[where] += 1
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
        """Lose a link and what is under way on it; both ends notice at once."""
        link = self.links.get(number)
        if link is not None:
            link.end()
            for member in link.ends:
                self._end(link, member, why, reason)

    def close(self, member: Member, number: int, why: str, reason: Reason) -> None:
        """*member* ends a link; the far end hears of it if anything gets there."""
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
        """Put a frame on the line."""
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
        if not wire.accepting:  # all that is given in one moment is told at once
            wire.accepting = True
            self.at(self.now, partial(self._accept, source, link, None))
        self._sent(source, link, frame)

    def _passed(
        self, source: Member, link: SimLink, frame: AnyFrame, size: int, before: int, done: int
    ) -> None:
        """Of a frame *done* bytes are over the lines, and all that was given to the link before it."""
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
        """Tell *source* what its system has taken by now: what is over the lines, and a buffer full."""
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
        """A member is gone, with all it knew and had not stored."""
        member.stop()
        for number in list(member.links):
            self.close(member, number, "crash", Reason.LOST)

    def vanish(self, member: Member) -> None:
        """A member is gone with its host: nobody is told."""
        member.stop()
        self._places.pop(member.address or ("", 0), None)
        for link in list(member.links.values()):
            link.end()
            self._end(link, member, "vanished", Reason.SILENT)

    def part(self, side: Callable[[Member], object]) -> None:
        """From now on packets pass only between members of the same side."""
        self.reaches = lambda member, other: side(member) == side(other)
        for link in list(self.links.values()):
            if not self.reaches(*link.ends):
                link.end()  # which each end finds out by the silence

    def heal(self) -> None:
        """Packets find their way again; links that are lost stay lost."""
        self.healed = self.now
        self.reaches = lambda member, other: True

    def stall(self, member: Member, seconds: float) -> None:
        """*member* does nothing for so long; then whatever was due comes at once."""
        member.hold(self.now + seconds)
        self.at(self.now + seconds, partial(member.release, member.core))

    def leave(self, member: Member) -> None:
        """A member stops in good order: it says so, and what it said last gets there."""
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
        """The members that are up and do not lie."""
        return [member for member in self.alive() if not member.lies]

    def config_of(self, number: int) -> MeshConfig:
        """The limits of the member with that number."""
        return self.configs.get(number, self.config)

    def has_changed(self, member: Member, origin: bytes) -> None:
        """*member* shows the author *origin* in another way than before."""
        self.changed(member, origin)
