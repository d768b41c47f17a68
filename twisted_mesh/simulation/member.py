"""A member of a simulated network, and its links.

Contract: a :class:`Member` has a :class:`~twisted_mesh.core.node.Node`, the *core*, for each of its runs,
and carries out the core's effects.  It gives frames to the world.  It checks the messages that its
application would get: each must come once, in order, and none may be left out.  The member knows the world
only as :class:`Surroundings`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Protocol as Interface
from typing import assert_never

from msgspec import structs

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.handshake import LocalNode, Peer, Profile
from twisted_mesh.core.history.reader import read
from twisted_mesh.core.history.storage import Marks
from twisted_mesh.core.node import Node
from twisted_mesh.errors import Reason
from twisted_mesh.identity import id_of
from twisted_mesh.network import EVERYBODY, Policy, Protocol
from twisted_mesh.simulation.keys import Keys, StandInKeys
from twisted_mesh.simulation.network import Line, Wire
from twisted_mesh.simulation.storage import Scribe, SimClock, SimStore
from twisted_mesh.simulation.trace import AnyFrame, show
from twisted_mesh.trust.content import Content, ContentPolicy
from twisted_mesh.wire.bodies import pack_entry
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import Contact, Purpose, Role

#: Encrypted, as links are by default: a node believes its peer about what comes from that itself.
NETWORK = Protocol("simulated", "SSL")


class Surroundings(SimClock, Interface):
    """The parts of the world that a member uses.

    :ivar seed: of all random numbers; :ivar keys: makes keys; :ivar digest: of the network's name.
    :ivar overlay: whether members look for neighbours by themselves.
    :ivar published: the number of the last message of each run.
    """

    seed: int
    config: MeshConfig
    keys: Keys
    overlay: bool
    digest: bytes
    published: dict[StreamId, int]

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call *call* at the time *when*."""

    def config_of(self, number: int) -> MeshConfig:
        """The limits of the member with the number *number*."""

    def transmit(self, source: Member, number: int, frame: AnyFrame, size: int) -> None:
        """Send *frame* from *source* over the link *number*."""

    def listens(self, member: Member) -> None:
        """Let *member* be dialled at its address from now on."""

    def call(
        self,
        member: Member,
        where: Address,
        id: bytes | None,
        purpose: Purpose,
        failed: Callable[[], None],
    ) -> None:
        """*member* dials the address *where*; *failed* is called if no link comes of it."""

    def has_changed(self, member: Member, origin: bytes) -> None:
        """*member* has changed the state in which it shows the member *origin*."""

    def close(self, member: Member, number: int, why: str, reason: Reason) -> None:
        """*member* ends the link *number*; the far end is told unless the line is cut."""

    def dial(self, member: Member, dial: events.Dial) -> None:
        """*member* dials the node that its core wants a link to."""

    def count_published(self, run: StreamId) -> None:
        """The author of *run* has published one more message."""

    def count_stored(self, run: StreamId, head: int) -> None:
        """The author of *run* has stored its messages up to *head*."""

    def count_delivery(self, run: StreamId, first: int, count: int) -> None:
        """*count* messages of *run*, from *first* on, were delivered to a member."""

    def count_gap(self, member: Member, gap: events.GapFound) -> None:
        """The application of *member* was told that messages are missing."""

    def violated(self, member: Member, kind: str, what: str) -> None:
        """Note a broken promise."""


class Caller(Interface):
    """Dials the nodes that the member's application wants links to."""

    def started(self) -> None:
        """A run of the member has begun."""

    def linked(self, other: Member) -> None:
        """A link to *other* has come into the routing table."""

    def ended(self, other: Member, reason: Reason) -> None:
        """A connection to *other* has ended."""


class SimLink:
    """A link between two members, which both know it by *number*."""

    __slots__ = ("ends", "number", "open", "wires")

    def __init__(self, number: int, a: Member, b: Member) -> None:
        self.number = number
        self.ends = (a, b)
        self.open = True
        self.wires = {a: Wire(), b: Wire()}

    def end(self) -> None:
        """Let no more frame arrive over the link."""
        self.open = False
        for wire in self.wires.values():
            wire.lost = True

    def other(self, member: Member) -> Member:
        """The member at the far end, seen from *member*."""
        return self.ends[1] if member is self.ends[0] else self.ends[0]


class Member:
    """A member of the world; it keeps its key over its crashes.

    :cvar lies: whether it breaks the rules; then no promise to it is checked.
    :cvar unreliable: whether other members may lack messages of its own.
    :ivar core: the node of the present run, or None while the member is down.
    :ivar line: the line that all frames to it share; :ivar uplink: that of all its own; None: no limit.
    :ivar host: the host from which its connections come.
    :ivar address: where it can be dialled, or None; :ivar role: in its record, as is *retention*.
    :ivar earlier: its earlier runs, as in :class:`LocalNode`, and so is :ivar policy.
    :ivar caller: dials for its application, or None.
    :ivar table: its routing table: the number of the link to each node, by id.
    :ivar renewals: how many runs its present process has begun besides the first.
    :ivar since: when its run began, or ended; :ivar linked_since: since when it has had a link.
    :ivar late: how late its timers fire, in seconds: frames wait meanwhile.
    :ivar held_until: until when it stalls, that is, handles no event.
    :ivar replay: as in INTRO; :ivar store: what it still has after a crash; None: nothing.
    :ivar delivered: the number of the last message of each run that its application got.
    :ivar short: by run, the last message that its application got and others do not.
    """

    lies = False
    unreliable = False

    def __init__(self, world: Surroundings, number: int) -> None:
        self.world = world
        self.number = number
        key = hashlib.sha256(b"%d %d" % (world.seed, number)).digest()
        self.origin, self.sign, self._verify = world.keys(key)
        self.id = id_of(self.origin)
        self.epoch = 0
        self.renewals = 0
        self.line: Line | None = None
        self.uplink: Line | None = None
        self.replay = 0
        self.role = Role.MEMBER
        self.retention = 0
        self.policy: Policy = EVERYBODY
        self.earlier: tuple[tuple[int, float], ...] = ((0, inf),)
        self.host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        self.address: Address | None = (self.host, 4444)
        self.caller: Caller | None = None
        self.table: dict[bytes, int] = {}
        self.late = 0.0
        self.since = self.held_until = 0.0
        self.linked_since = inf
        self._held: list[events.Event] | None = None
        self.store: SimStore | None = None
        self._scribe: Scribe | None = None
        self.core: Node | None = None
        self.links: dict[int, SimLink] = {}
        self.delivered: dict[StreamId, int] = {}
        self.short: dict[StreamId, int] = {}
        self._awaited: dict[StreamId, int] = {}  # by run: the last message that the core knows to be taken
        self._moved: dict[StreamId, None] = {}
        self.directs: list[tuple[bytes, list[object]]] = []
        self.ended: list[events.DirectsEnded] = []
        self._timers: dict[events.Timer, int] = {}

    @property
    def run(self) -> StreamId:
        """The origin and epoch of the present run."""
        return self.origin, self.epoch

    @property
    def node(self) -> Node:
        """The core of this member, which must be up."""
        assert self.core is not None
        return self.core

    @property
    def late_until(self) -> float:
        """When both lines have carried their backlog, if it ever was more than 5 seconds; else 0."""
        return max((line.late_until for line in (self.line, self.uplink) if line is not None), default=0.0)

    def gives(self, gap: events.GapFound) -> bool:
        """Whether it could send some messages of *gap*, which another member was told are lost."""
        stream = None if self.core is None or self.lies else self.core.history.get((gap.origin, gap.epoch))
        return stream is not None and any(stream.serve(gap.first, gap.last, 1))

    @property
    def contacts(self) -> list[Contact]:
        """The nodes that its overlay could dial; read inside the core, as no application is told them."""
        return self.node.neighbourhood.contacts

    def start(self) -> None:
        """Begin a run, with the stored messages of earlier runs."""
        world = self.world
        self.epoch += 1
        self.renewals = 0
        self.delivered, self._awaited, self._timers, self.table = {}, {}, {}, {}
        self._held, self.held_until = None, 0.0
        self.since, self.linked_since = world.now, inf
        world.listens(self)
        local_node, randomness = self._local_node(), self._randomness()
        config = world.config_of(self.number)
        if self.store is None:
            self.core = Node(local_node, config, randomness)
        else:
            self._restore(self.store, local_node, config, randomness)
        if self.caller is not None:
            self.caller.started()

    def _local_node(self) -> LocalNode:
        return LocalNode(
            self.id,
            self.origin,
            self.epoch,
            NETWORK,
            self.address,
            False,
            self.sign,
            self._verify,
            StandInKeys(self.origin + self.epoch.to_bytes(8, "big")),
            Profile(role=self.role, overlay=self.world.overlay),
            retention=self.retention,
            earlier=self.earlier,
            policy=self.policy,
        )

    def in_handshake(self) -> LocalNode:
        """What it tells of itself in a handshake now."""
        return structs.replace(self._local_node(), settled=self.node.settled)

    def as_peer(self, purpose: Purpose, secret: bytes) -> Peer:
        """This member as the far end of a link sees it."""
        ends = self.id, self.origin, self.epoch, self.address, self.node.settled
        shown = self.policy.grant, self.policy.certificate
        return Peer(*ends, self.replay, self.role, purpose, secret, *shown)

    def say(self, data: bytes) -> bytes:
        """The bytes that it sends as the dialler of a handshake, in place of *data*."""
        return data

    def hear(self, data: bytes) -> None:
        """Take in the bytes that it got as the dialler of a handshake."""

    def change_policy(self, content: Content) -> None:
        """Let its policy, which is a ContentPolicy, go by *content* from now on."""
        assert isinstance(self.policy, ContentPolicy)
        self.policy.content = content
        self.handle(events.PolicyChanged())

    def _randomness(self) -> random.Random:
        return random.Random(self.world.seed * 100_003 + self.number * 101 + self.epoch)

    def _begin_anew(self, core: Node, above: int) -> None:
        """Begin a run of a higher epoch in the same process: every link is closed."""
        if self.core is not core:
            return
        world = self.world
        unsent_of = self.run
        self.epoch = max(self.epoch, above) + 1
        self.renewals += 1
        self.core, unsent = core.next_run(self._local_node(), self._randomness())
        self._timers, self.table = {}, {}
        self.since, self.linked_since = world.now, inf
        for number in list(self.links):
            world.close(self, number, "a new run begins", Reason.LEAVING)
        if unsent:
            world.published.pop(unsent_of)
            for _ in unsent:
                world.count_published(self.run)
            self.handle(events.Publish(unsent, int(world.now * 1000)))
        if self.caller is not None:
            self.caller.started()

    def _restore(
        self, store: SimStore, local_node: LocalNode, config: MeshConfig, randomness: random.Random
    ) -> None:
        restored = store.restored()
        self._scribe = Scribe(store, self.world, self._stored)
        self.core = self._scribe.node(local_node, config, randomness, restored)
        for marks in restored.marks:
            self.delivered[marks.run] = max(marks.taken, marks.base)
            if marks.run[0] != self.origin:
                self._deliver_again(marks.run, marks.head)

    def stop(self) -> None:
        """End the run without a word to anybody."""
        self.core = None
        self.since = self.world.now
        if self._scribe is not None:
            self._scribe.stop()

    def _stored(self, marks: Marks) -> None:
        if marks.run[0] == self.origin:
            self.world.count_stored(marks.run, marks.head)
        if marks.run in self.node.replies.issuer.waiting:  # else each flush would lead to another
            self.handle(events.Stored((marks.run,)))

    def _deliver_again(self, run: StreamId, head: int) -> None:
        """Deliver the stored messages of *run* that are not stored as delivered."""
        for piece in read(self.node.history, run, self.delivered[run], head, 2**40):
            self._told(run, self.delivered[run] + 1, piece.last)  # retention may have made a gap

    def hold(self, until: float) -> None:
        """Stall: handle no event before *until*."""
        self._held, self.held_until = [], until

    def release(self, core: Node | None) -> None:
        """End a stall: handle the events that came meanwhile, if *core* still runs."""
        if self.core is not core or self._held is None:
            return
        held, self._held = self._held, None
        if self.world.random.random() < 0.5:  # a reactor may handle frames or timers first
            held.sort(key=lambda event: not isinstance(event, events.TimerFired))
        for event in held:
            self.handle(event)

    def handle(self, event: events.Event) -> None:
        """Let the core handle *event*, and carry out the effects."""
        if self.core is None:
            return
        if self._held is not None:
            self._held.append(event)
            return
        for effect in self.core.handle(event, self.world.now):
            match effect:
                case events.Send():
                    for number in effect.links:
                        self.transmit(number, effect.frame, effect.size)
                case events.Deliver():
                    self._take(effect)
                case events.DeliverDirects():
                    for message in effect.messages:
                        self._take(message)
                case events.SetTimer():
                    self._set_timer(effect)
                case events.Close():
                    self.world.close(self, effect.link, f"{effect.reason}: {effect.detail}", effect.reason)
                case events.Dial():
                    self.world.dial(self, effect)
                case events.Emit():
                    self._hear(effect.what)
                case _:
                    assert_never(effect)
        if self._scribe is not None:
            self._scribe.look(self.delivered)
        self._tell_taken()

    def _tell_taken(self) -> None:
        """Tell the core which messages were taken, of the runs whose authors wait for receipts."""
        moved, self._moved = self._moved, {}
        for run in moved:
            taken = self.delivered.get(run, 0)
            if run in self._awaited and taken > self._awaited[run]:
                self._awaited[run] = taken
                self.handle(events.Taken(run, taken))

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Send a frame; adversaries override this method to change their frames."""
        self.world.transmit(self, number, frame, size)

    def publish(self, *packets: object, asks: bool = False) -> bool:
        """Send a message; return False if the core has no room for it.

        :param asks: whether the message asks for receipts.
        """
        entry = pack_entry(0, packets, asks=asks)
        if not self.node.outflow.room_for(len(entry)):
            return False
        self.world.count_published(self.run)
        self.handle(events.Publish((entry,), int(self.world.now * 1000)))
        if asks:
            self.handle(events.Ask((self.node.outbox.head,)))
        return True

    def _take(self, deliver: events.Deliver) -> None:
        run = (deliver.origin, deliver.epoch)
        if not deliver.first:
            self.directs.append((deliver.origin, [*deliver.entries[0][2:]]))
            return
        self._told(run, deliver.first, deliver.first + len(deliver.entries) - 1)
        self.world.count_delivery(run, deliver.first, len(deliver.entries))

    def _hear(self, what: events.Happening) -> None:
        match what:
            case events.LinkUp() if what.link in self.links:  # else the link has ended already
                other = self.links[what.link].other(self)
                self.table[other.id] = what.link
                self.linked_since = min(self.linked_since, self.world.now)
                if self.caller is not None:
                    self.caller.linked(other)
            case events.LinkDown():
                self.table = {id: link for id, link in self.table.items() if link != what.link}
                if not self.table:
                    self.linked_since = inf
            case events.MemberChanged() | events.MemberGone():
                self.world.has_changed(self, what.origin)
            case events.GapFound():
                self._told((what.origin, what.epoch), what.first, what.last)
                self.world.count_gap(self, what)
            case events.CutShort():
                self.short[what.origin, what.epoch] = what.last
            case events.Poisoned():
                self._told((what.origin, what.epoch), what.first, what.last)
            case events.DirectsEnded():
                self.ended.append(what)
            case events.EpochConflict():
                self.world.at(self.world.now, partial(self._begin_anew, self.node, what.epoch))
            case events.Awaited():
                self._awaited[what.run], self._moved[what.run] = what.taken, None
            case _:
                pass

    def _told(self, run: StreamId, first: int, last: int) -> None:
        """Check that messages that were delivered, lost or unreadable come once and in order."""
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
        self._moved[run] = None

    def _set_timer(self, effect: events.SetTimer) -> None:
        """Fire a timer of the core at its time, unless the core sets it again before."""
        core, serial = self.core, self._timers.get(effect.timer, 0) + 1
        self._timers[effect.timer] = serial

        def fire() -> None:
            if self.core is core and self._timers.get(effect.timer) == serial:
                self.handle(events.TimerFired(effect.timer))

        self.world.at(max(effect.at, self.world.now) + self.late, fire)
