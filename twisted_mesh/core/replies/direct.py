"""Direct messages: to one node anywhere in the mesh, acknowledged, and delivered at most once.

Contract: :mod:`~twisted_mesh.core.replies.outbound` has the messages that this node sends.  Of those that
come, it delivers and acknowledges the messages of a run in the order of their numbers, as long as its
consumers have room.  It remembers how far each sender has come
(:mod:`~twisted_mesh.core.replies.senders`), so that a repeat is acknowledged again and not delivered again.
Relays verify messages, and remember the link over which each came first: its acknowledgement goes back over
that link.  They pass on none that is over (:mod:`~twisted_mesh.core.replies.relayed`).

Acknowledgements leave at the end of the reactor's turn, or with direct messages that leave before.  A
DIRECT to the same node over the same link has its acknowledgement in it, so that a request and its answer
are two frames.  A destination that lacks the key with which messages are sealed does not take them, and
answers with its newest record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.authors import Authors
from twisted_mesh.core.broadcast.trees import FirstArrivals
from twisted_mesh.core.effects import Effects, Lines
from twisted_mesh.core.events import Deliver, Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.core.replies.outbound import Outbound
from twisted_mesh.core.replies.relayed import Relayed
from twisted_mesh.core.replies.routes import DETOURS, MOST_HOPS, Routes
from twisted_mesh.core.replies.senders import Held, Incoming, Senders
from twisted_mesh.core.signing import Signer
from twisted_mesh.errors import PoisonedBody, RemoteError
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import unpack_weighed
from twisted_mesh.wire.membership import Presence
from twisted_mesh.wire.replies import (
    Direct,
    DirectAck,
    DirectKey,
    SealedText,
    sealing_context,
)
from twisted_mesh.wire.signed import Record, SignedRecord

_AT_ONCE: Final = 64 * 1024  # bytes of held messages that are delivered before other events (guess)

# One transmission of a DIRECT: origin, epoch, destination, destination_epoch, last number, tries.
_Passage = tuple[bytes, int, bytes, int, int, int]
_Frame = Direct | DirectAck | DirectKey
_FRAMES: Final = (Direct, DirectAck, DirectKey)  # a union is built each time it is written (2 us of 34)


def _no_counts() -> dict[str, int]:
    return {"stray_directs": 0, "dropped_directs": 0, "unopened_directs": 0, "late_directs": 0}


@dataclass(eq=False)
class Directs:
    """The direct messages of a node.

    :ivar outbound: those that this node sends.
    :ivar counts: how many were ignored, or dropped for lack of room, so far, by name.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _roster: Roster
    _authors: Authors  # the authors that this node has met
    _routes: Routes
    _effects: Effects
    _first_arrivals: FirstArrivals[_Passage] = field(default_factory=FirstArrivals)
    _relayed: Relayed = field(default_factory=Relayed)
    counts: dict[str, int] = field(default_factory=_no_counts)
    _held_at: float = inf  # when to look for held messages; inf for never
    _can_deliver: bool = True  # whether the application's consumers have room

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)
        me, config, roster, routes = self._local_node, self._config, self._roster, self._routes
        self._senders = Senders(config, roster, routes.links)
        self.outbound = Outbound(me, config, roster, self._authors, routes, self._senders, self._effects)
        self._lines = Lines(self._effects)

    def send(self, event: events.SendDirects, now: float) -> None:
        """Send messages, with all else that leaves at the end of the turn."""
        self.outbound.queue(event, now)
        self.end_turn(now)

    def end_turn(self, now: float) -> None:
        """Send the new messages of this turn, and the acknowledgements that are owed."""
        self._effects.fired(Timer.TURN, now)
        self.outbound.leave(now)
        for acks in self._senders.take_owed():
            for ack in dict.fromkeys(acks.values()):
                links = [self._routes.links.get(number) for number, one in acks.items() if one == ack]
                name = (DirectAck, *_ends(ack))
                ways = [
                    one for one in links if one is not None and not self._lines.has_no_room(one, name, now)
                ]
                if ways:
                    self._effects.send(ways, self._signer.signed(ack))

    @property
    def _own(self) -> tuple[bytes, int]:
        return self._local_node.origin, self._local_node.epoch

    # ── receiving ───────────────────────────────────────────────────────────────────

    def is_copy(self, record: Record) -> bool:
        """Whether a DIRECT has come before, or an answer is about nothing that waits here.

        Such a frame counts for no author, since every node that has it can bring it.
        """
        assert isinstance(record, _FRAMES)
        if self._target(record) != self._local_node.origin:
            return isinstance(record, Direct) and self._first_arrivals.of(_passage(record)) is not None
        if not isinstance(record, Direct):
            return not self.outbound.is_answer(record)
        return record.destination_epoch != self._local_node.epoch or self._senders.has(record)

    def verify(self, link: Link, signed: SignedRecord, now: float, *, copy: bool = False) -> bool:
        """Whether to take in a DIRECT, DIRECT_ACK or DIRECT_KEY that came over *link*; others are counted.

        The signature of a frame for this node is not looked at if the link proves as much: it is encrypted,
        and the author is the peer, whose proof holds for this link alone.  That saves 0.4 of the processor
        time of a request with its answer (measured).

        :param copy: whether it is a copy, of which only some are verified.
        :raises RemoteError: the signature is false.
        """
        author = signed.record.signer
        is_for_me = self._target(signed.record) == self._local_node.origin
        known = author == link.peer.origin or self._roster.get(author) is not None
        is_over = (
            not is_for_me and isinstance(signed.record, Direct) and self._relayed.is_over(signed.record)
        )
        if is_over or not known or author == self._local_node.origin:
            self.counts["stray_directs"] += 1
            return False
        if not link.rates.replies.take(now, _messages(signed.record)):
            self.counts["dropped_directs"] += 1
            return False
        if not is_for_me or not self._proves(link, author):
            if copy and not link.rates.copies.take(now):
                self.counts["dropped_directs"] += 1
                return False
            self._signer.require(signed)
        return True

    def _proves(self, link: Link, author: bytes) -> bool:
        """Whether *link* itself proves that a frame that it brings is of *author*."""
        return author == link.peer.origin and self._local_node.network.encrypted

    def _count_not(self, link: Link, frame: Direct | DirectAck) -> None:
        """Count a *frame* not that brought something new: unless its signature was verified."""
        if self._proves(link, frame.signer):
            link.rates.replies.give_back(_messages(frame))

    @staticmethod
    def _target(record: Record) -> bytes:
        """The node that a DIRECT, DIRECT_ACK or DIRECT_KEY is for."""
        assert isinstance(record, _FRAMES)
        return record.destination if isinstance(record, Direct) else record.origin

    def received(self, link: Link, signed: SignedRecord, now: float) -> Direct | SignedRecord | None:
        """Take in a DIRECT, DIRECT_ACK or DIRECT_KEY that is verified.

        :return: a DIRECT for this node that none of its keys opens; or the newest record of a node that
            lacks the key of an own message; or None.
        """
        record = signed.record
        assert isinstance(record, _FRAMES)
        if self._target(record) != self._local_node.origin:
            self._relay(link, signed, record, now)
        elif isinstance(record, DirectAck):
            if self.outbound.acknowledged(record, record.number, signed.hops, now):
                self._count_not(link, record)
        elif isinstance(record, DirectKey):
            return self._record_in(record)
        else:
            self.outbound.acknowledged(record, record.acknowledged, signed.hops, now)
            return self._arrived(link, record, now)
        return None

    def _relay(self, link: Link, signed: SignedRecord, record: _Frame, now: float) -> None:
        """Pass a message on to its destination, or its answer back along the message's way.

        The links that brought the message first form no circle, but a way around a lost link can.  So an
        answer follows them only for ``DETOURS`` hops.
        """
        passage = _passage(record)
        first_link = self._first_arrivals.of(passage)
        if not isinstance(record, Direct):
            target = record.origin
            is_back = first_link != link.number and signed.hops < DETOURS
            back = self._routes.over(first_link) if is_back else None
        else:
            target, back = record.destination, None
            if first_link is None:
                self._first_arrivals.note(passage, link.number, now)
        route = back or self._routes.on(target, link.number, signed.hops, record.tries)
        if route is None or signed.hops >= MOST_HOPS:
            self.counts["stray_directs"] += 1
        elif self._lines.has_no_room(
            route, (type(record), *_ends(record)), now, record.signer, codec.size(signed)
        ):
            self.counts["late_directs"] += 1
        else:
            self._effects.send((route,), signed.relayed())
            if isinstance(record, Direct):
                self._relayed.note(record)

    def _record_in(self, answer: DirectKey) -> SignedRecord | None:
        """The record in an answer to an own message, if it is its author's, and newer than the known one.

        Its author has signed the answer: no relay is to blame if the record is none.
        """
        try:
            signed = codec.decode(answer.record)
        except RemoteError:
            signed = None
        if (
            not self.outbound.is_answer(answer)
            or not isinstance(signed, SignedRecord)
            or not isinstance(presence := signed.record, Presence)
            or presence.origin != answer.destination
            or (presence.epoch, presence.counter) <= self._roster.rank(presence.origin)
            or not self._signer.is_signed(signed)
        ):
            self.counts["stray_directs"] += 1
            return None
        return signed

    def _arrived(self, link: Link, direct: Direct, now: float) -> Direct | None:
        """Take in messages for this node; return them if it is their turn and no key opens them."""
        if direct.destination_epoch != self._local_node.epoch or self._senders.is_over(direct):
            # The sender of messages for an earlier run will learn of this one.
            self.counts["stray_directs"] += 1
            return None
        unopened = None
        incoming = self._senders.incoming(direct, now)
        if incoming is not None and direct.last <= incoming.head:
            if incoming.is_due(direct, link.number, now):
                self._owe(direct, (link,), now)
        elif incoming is not None and direct.first <= incoming.head + 1 and self._can_deliver:
            self._senders.discard(direct)  # an earlier copy may be sealed with an older key
            unopened = self._deliver(incoming, Held(direct, link.number), now)
        elif incoming is None or not self._senders.hold(direct, link.number):
            self.counts["dropped_directs"] += 1
        self._deliver_held((direct.origin,), now)
        return unopened

    def make_room(self, has_room: bool, now: float) -> None:
        """Take in whether the application's consumers have room."""
        self._can_deliver = has_room
        self._deliver_held(self._senders.holding, now)

    def _deliver_held(self, origins: Iterable[bytes], now: float) -> None:
        """Deliver the held messages of *origins* whose turn has come; if they are many, the rest soon."""
        size = 0
        for origin in origins:
            while self._can_deliver and (turn := self._senders.next_held(origin)) is not None:
                self._deliver(*turn, now)
                size += turn[1].size
                if size > _AT_ONCE:
                    self._held_at = now
                    return

    def _deliver(self, incoming: Incoming, held: Held, now: float) -> Direct | None:
        """Deliver the next messages of a run, without those that came before, and acknowledge them.

        :return: *held*'s frame, if no key of this node opens it.
        """
        direct = held.direct
        if (text := self._opened(direct)) is None:
            self.counts["unopened_directs"] += 1
            return direct
        try:
            messages = SealedText.unpack(text).messages
            if len(messages) != direct.count:
                raise PoisonedBody("another number of messages than the frame says")
            new = [(one, *unpack_weighed(one.body)) for one in messages[incoming.head + 1 - direct.first :]]
        except PoisonedBody:
            self.counts["stray_directs"] += 1
            return None
        incoming.head = direct.last
        link = self._routes.links.get(held.link)
        if link is not None:
            self._count_not(link, direct)
        own = held.link if link is not None and link.peer.origin == direct.origin else 0
        run = (direct.origin, direct.epoch)
        self._effects.deliver_directs(
            [
                Deliver(own, *run, 0, 0, size, entries, True, told.number, told.answers)
                for told, entries, size in new
            ]
        )
        # A relay may drop the acknowledgement, so it goes over the best link and back over the message's.
        self._owe(direct, (self._routes.known_to(direct.origin), link), now)
        return None

    def _owe(self, direct: Direct, links: Iterable[Link | None], now: float) -> None:
        """Acknowledge *direct* over *links* at the end of the turn, or the last message that came there."""
        ack = DirectAck(*self._own, direct.origin, direct.epoch, direct.last, direct.tries)
        owed = self._senders.owed.setdefault(direct.origin, {})
        for link in links:
            if link is not None:
                before = owed.setdefault(link.number, ack)
                if (before.epoch, before.number) <= (ack.epoch, ack.number):
                    owed[link.number] = ack
        self._effects.set_timer(Timer.TURN, now)

    def tell_key(self, link: Link, unopened: Direct, record: SignedRecord) -> None:
        """Answer with this node's newest *record*: the message was sealed with a key that it lacks."""
        ends = (*self._own, unopened.origin, unopened.epoch)
        answer = DirectKey(*ends, unopened.last, unopened.tries, codec.payload(record))
        self._effects.send((link,), self._signer.signed(answer))

    def _opened(self, direct: Direct) -> bytes | None:
        runs = (direct.origin, direct.epoch, direct.destination, direct.destination_epoch)
        context = sealing_context(*runs, direct.first, direct.count)
        return self._local_node.sealing.decrypt(direct.sealed, context)

    @property
    def wake(self) -> float:
        """When to call :meth:`tick` next; inf for never."""
        return min(self.outbound.wake, self._held_at)

    def tick(self, now: float) -> None:
        """Repeat messages that are due, and deliver more of those that are held."""
        if self.outbound.wake <= now:
            self.outbound.repeat(now)
        self._held_at = inf
        self._deliver_held(self._senders.holding, now)

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            **self.outbound.footprint(),
            "direct_first_arrivals": len(self._first_arrivals),
            "relayed_pairs": len(self._relayed),
            "content_keys": len(self._local_node.sealing),
            **self._senders.footprint(),
        }


def _messages(record: Record) -> int:
    """How many messages a frame counts as."""
    return record.count if isinstance(record, Direct) else 1


def _passage(record: _Frame) -> _Passage:
    """That of a DIRECT, or that which an answer is about."""
    runs = record.origin, record.epoch, record.destination, record.destination_epoch
    number = record.last if isinstance(record, Direct) else record.number
    return *runs, number, record.tries


def _ends(record: _Frame) -> tuple[bytes, int, bytes, int, int, int]:
    """From which run to which run a frame goes, and the first and the count of its messages.

    Its copies have the same.  A DIRECT that only asks for a record has none of the messages.
    """
    runs = record.origin, record.epoch, record.destination, record.destination_epoch
    if isinstance(record, Direct):
        return *runs, record.first, record.count if record.sealed else 0
    return *runs, record.number, 0
