"""Direct messages: to one node anywhere in the mesh, acknowledged, and delivered at most once.

Contract: a message is repeated until the destination's acknowledgement comes, or until
``direct_timeout``, each time over the best link and over another one, too.  Where acknowledgements take
long, it is repeated more rarely, and no copy goes over a late line that still carries the message.  The
destination delivers and acknowledges the messages of a run in the order of their numbers, as long as its
consumers have room.  It remembers how far each sender has come
(:mod:`~twisted_mesh.core.replies.senders`), so that a repeat is acknowledged again and not delivered again.
Relays verify messages, and remember only the link over which each came first: its acknowledgement goes back
over that link.

New messages leave at the end of the reactor's turn: those for one destination share a DIRECT, one seal and
one signature, as far as they fit in.  Acknowledgements leave then, too.  A DIRECT to the same node over the
same link has its acknowledgement in it, so that a request and its answer are two frames.

A DIRECT is sealed with the key that its destination's newest record names, each time it is sent, so that
no relay can read it.  While no such record is known, nothing of its messages is sent.  A destination that
lacks the key does not take the messages, and answers with its newest record.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.authors import UNMET, Authors
from twisted_mesh.core.broadcast.trees import FirstArrivals
from twisted_mesh.core.effects import Effects, Lines
from twisted_mesh.core.events import Deliver, Timer
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.core.rate import backoff
from twisted_mesh.core.replies.routes import DETOURS, MOST_HOPS, Routes
from twisted_mesh.core.replies.senders import WINDOW, Held, Incoming, Senders
from twisted_mesh.core.signing import Signer
from twisted_mesh.errors import PoisonedBody, RemoteError
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import unpack_weighed
from twisted_mesh.wire.fields import MessageId
from twisted_mesh.wire.membership import Presence
from twisted_mesh.wire.replies import (
    MAX_DIRECTS,
    MAX_TRIES,
    Direct,
    DirectAck,
    DirectKey,
    SealedMessage,
    SealedText,
    sealing_context,
)
from twisted_mesh.wire.signed import Record, SignedRecord

_AROUND: Final = 500  # bytes of memory that a waiting message needs beside its body (guess)
_AT_ONCE: Final = 64 * 1024  # bytes of held messages that are delivered before other events (guess)
_TOGETHER: Final = 64 * 1024  # bytes of the bodies of one DIRECT, unless it has one message alone (guess)
_REPEATS: Final = 4  # times that a message is sent at least, however long acknowledgements take (guess)
_ENDED: Final = "it has left"

# One transmission of a DIRECT: origin, epoch, destination, destination_epoch, last number, tries.
_Passage = tuple[bytes, int, bytes, int, int, int]


@dataclass(eq=False)
class Sent:
    """One message that waits to be acknowledged."""

    token: int
    body: bytes
    answers: MessageId | None  # the message that it answers
    at: float  # when it was to be sent
    until: float  # when it is given up
    tries: int = 0  # how often it was sent
    again: float = field(init=False)  # when it is sent again

    def __post_init__(self) -> None:
        self.size = len(self.body) + _AROUND  # the bytes that count against ``direct_bytes``
        self.again = self.until  # it leaves at the end of the turn


@dataclass(eq=False, slots=True)
class Outgoing:
    """The messages to one run of one node.

    :ivar unsent: messages with this number, and higher ones, leave at the end of the turn.
    :ivar took: the seconds that acknowledgements took lately.
    :ivar wants_record: whether a message could not be sealed, and waits for the node's next record.
    """

    epoch: int  # 0 if none is known
    next: int
    unsent: int
    took: float = 0.0
    wants_record: bool = False
    waiting: OrderedDict[int, Sent] = field(default_factory=OrderedDict)  # by number


def _no_counts() -> dict[str, int]:
    return {"stray_directs": 0, "dropped_directs": 0, "unopened_directs": 0, "late_directs": 0}


@dataclass(eq=False)
class Directs:
    """The direct messages of a node.

    :ivar counts: how many were ignored, or dropped for lack of room, so far, by name.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _roster: Roster
    _authors: Authors  # the authors that this node has met
    _routes: Routes
    _effects: Effects
    _outgoing: dict[bytes, Outgoing] = field(default_factory=dict)
    _first_arrivals: FirstArrivals[_Passage] = field(default_factory=FirstArrivals)
    _leaving: dict[bytes, None] = field(default_factory=dict)  # to whom messages leave this turn
    #: The acknowledgements that leave at the end of the turn: by node, and then by number of the link.
    _owed: dict[bytes, dict[int, DirectAck]] = field(default_factory=dict)
    _bytes: int = 0  # the bytes of all messages that wait to be acknowledged
    _highest: int = 0  # the highest number given: a forgotten destination may remember lower ones
    counts: dict[str, int] = field(default_factory=_no_counts)
    wake: float = inf  # when to call :meth:`tick` next; inf for never
    _can_deliver: bool = True  # whether the application's consumers have room

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)
        self._senders = Senders(self._config, self._roster, self._routes.links)
        self._lines = Lines(self._effects)

    # ── sending ─────────────────────────────────────────────────────────────────────

    def send(self, event: events.SendDirects, now: float) -> None:
        """Send messages, with all else that leaves at the end of the turn."""
        to: dict[bytes, list[events.SendDirect]] = {}
        for message in event.messages:
            to.setdefault(message.destination, []).append(message)
        for destination, messages in to.items():
            epoch = self._epoch_of(destination)
            if not epoch and self._authors.introducer(destination, now) == UNMET:
                self._end([one.token for one in messages], "this node has never heard of it")
            elif self._has_ended(destination):
                self._end([one.token for one in messages], _ENDED)
            else:
                self._queue(destination, epoch, messages, now)
        self.end_turn(now)

    def _queue(self, destination: bytes, epoch: int, messages: list[events.SendDirect], now: float) -> None:
        """Give numbers to the *messages* for *destination*, as many as there is room for."""
        config = self._config
        most, until = min(config.direct_window, WINDOW), now + config.direct_timeout
        outgoing = self._outgoing.get(destination)
        refused = []
        for message in messages:
            sent = Sent(message.token, message.body, message.answers, now, until)
            if (
                (outgoing is not None and len(outgoing.waiting) >= most)
                or self._bytes + sent.size > config.direct_bytes
                or (outgoing is None and not self._has_room())
            ):
                refused.append(message.token)
                continue
            if outgoing is None:
                first = self._highest + 1
                outgoing = self._outgoing[destination] = Outgoing(epoch, first, first)
            self._bytes += sent.size
            outgoing.waiting[outgoing.next] = sent
            outgoing.next += 1
        if outgoing is not None:
            self._highest = max(self._highest, outgoing.next - 1)
            self._leaving[destination] = None
        if refused:
            self._end(refused, "too many direct messages wait to be acknowledged")

    def link_up(self, origin: bytes, now: float) -> None:
        """Send the messages that wait for *origin* at the end of the turn, since a link to it is up."""
        if (outgoing := self._outgoing.get(origin)) is not None and outgoing.waiting:
            for sent in outgoing.waiting.values():
                sent.tries = 0
            outgoing.unsent = next(iter(outgoing.waiting))
            self._leaving[origin] = None
            self._effects.set_timer(Timer.TURN, now)

    def leaves(self, origin: bytes, now: float) -> None:
        """Shorten the wait: *origin* leaves, and will not return, since its key is for one run."""
        outgoing = self._outgoing.get(origin)
        for sent in () if outgoing is None else outgoing.waiting.values():
            sent.until = min(sent.until, now + self._config.farewell_timeout)
            sent.again = min(sent.again, sent.until)
            self.wake = min(self.wake, sent.again)

    def _has_ended(self, destination: bytes) -> bool:
        author = self._roster.get(destination)
        return author is not None and author.has_ended

    def _epoch_of(self, destination: bytes) -> int:
        """The newest known epoch of a node; 0 if none is known."""
        link = self._routes.links.way_to(destination)
        epoch = 0 if link is None else link.peer.epoch
        return max(epoch, self._roster.rank(destination)[0])

    def _leave(self, destination: bytes, outgoing: Outgoing, numbers: list[int], now: float) -> None:
        """Send the messages with these *numbers*."""
        if (epoch := self._epoch_of(destination)) > outgoing.epoch:
            self._begin_anew(destination, outgoing, epoch, now)
            return
        config = self._config
        least = min(2 * outgoing.took, config.direct_timeout / _REPEATS)
        for some in _frames(outgoing, numbers):
            messages = [outgoing.waiting[number] for number in some]
            self._leave_together(destination, outgoing, some, messages, now)
            tries = messages[0].tries + 1
            wait = backoff(config.direct_repeat, tries - 1, config.direct_repeat_longest)
            again = now + max(wait, least)
            for sent in messages:
                sent.tries = tries
                sent.again = again if again < sent.until else sent.until
            self.wake = min(self.wake, messages[0].again, messages[-1].again)

    def _leave_together(
        self, destination: bytes, outgoing: Outgoing, numbers: list[int], messages: list[Sent], now: float
    ) -> None:
        """Send the *messages* with these *numbers* in one DIRECT."""
        first, oldest = messages[0], next(iter(outgoing.waiting))
        ends = (*self._own, destination, outgoing.epoch, numbers[0], len(numbers))
        sealed = self._sealed(ends, messages)
        outgoing.wants_record = sealed is None
        if sealed is None:
            if numbers[0] != oldest or not outgoing.epoch:
                return
            ends = (*ends[:-1], 1)  # an empty one asks for a record
        acknowledged = self._senders.head(destination, outgoing.epoch)
        owed = self._owed.get(destination, {})
        for link, tries in self._ways(destination, first.tries):
            if self._lines.is_copy(link, (Direct, *ends), now):
                continue
            direct = Direct(*ends, oldest, tries, acknowledged, sealed or b"")
            self._effects.send((link,), self._signer.signed(direct))
            ack = owed.get(link.number)
            if ack is not None and ack.epoch == outgoing.epoch:
                del owed[link.number]

    def _sealed(self, ends: tuple[bytes, int, bytes, int, int, int], messages: list[Sent]) -> bytes | None:
        """The sealed text of the *messages* from *ends*; None if no usable key of that run is known."""
        author = self._roster.get(ends[2])
        if author is None or author.presence.epoch != ends[3]:
            return None
        text = SealedText([SealedMessage(sent.body, sent.token, sent.answers) for sent in messages])
        key = author.presence.sealing_key
        return self._local_node.sealing.encrypt(text.pack(), key, sealing_context(*ends))

    def end_turn(self, now: float) -> None:
        """Send the new messages of this turn, and the acknowledgements that are owed."""
        self._effects.fired(Timer.TURN, now)
        leaving, self._leaving = self._leaving, {}
        for destination in leaving:
            if (outgoing := self._outgoing.get(destination)) is not None:
                numbers = [at for at in range(outgoing.unsent, outgoing.next) if at in outgoing.waiting]
                outgoing.unsent = outgoing.next
                if numbers:
                    self._leave(destination, outgoing, numbers, now)
        owed, self._owed = self._owed, {}
        for acks in owed.values():
            for ack in dict.fromkeys(acks.values()):
                links = [self._routes.links.get(number) for number, one in acks.items() if one == ack]
                name = (DirectAck, *_ends(ack))
                ways = [one for one in links if one is not None and not self._lines.is_copy(one, name, now)]
                if ways:
                    self._effects.send(ways, self._signer.signed(ack))

    def recorded(self, presence: Presence, now: float) -> None:
        """Take in a node's newest record: send at once the messages that waited for it."""
        outgoing = self._outgoing.get(presence.origin)
        if outgoing is not None and outgoing.wants_record:
            self.link_up(presence.origin, now)

    def _ways(self, destination: bytes, tries: int) -> Iterator[tuple[Link, int]]:
        """The links for a message sent *tries* times before, each with the tries to write into its copy.

        The first is the best link; a message that was sent before goes over a second link, too.
        """
        if links := list(self._routes.all_to(destination)):
            yield links[0], 0
            if tries:
                yield links[tries % len(links)], min(tries, MAX_TRIES)

    def _begin_anew(self, destination: bytes, outgoing: Outgoing, epoch: int, now: float) -> None:
        """The destination has a new run: send it, under new numbers, all messages not acknowledged yet."""
        first = self._highest + 1
        fresh = self._outgoing[destination] = Outgoing(epoch, first, first)
        for sent in outgoing.waiting.values():
            sent.tries = 0
            fresh.waiting[fresh.next] = sent
            fresh.next += 1
        self._highest = fresh.next - 1
        fresh.unsent = fresh.next
        self._leave(destination, fresh, list(fresh.waiting), now)

    def _has_room(self) -> bool:
        """Make room for one more destination: forget one for which no message waits, if any."""
        if len(self._outgoing) < self._config.direct_senders:
            return True
        idle = next((one for one, outgoing in self._outgoing.items() if not outgoing.waiting), None)
        if idle is None:
            return False
        del self._outgoing[idle]
        return True

    @property
    def _own(self) -> tuple[bytes, int]:
        return self._local_node.origin, self._local_node.epoch

    # ── receiving ───────────────────────────────────────────────────────────────────

    def verify(self, link: Link, signed: SignedRecord, now: float) -> bool:
        """Whether to take in a DIRECT, DIRECT_ACK or DIRECT_KEY that came over *link*; others are counted.

        The signature of a frame for this node is not looked at if the link proves as much: it is encrypted,
        and the author is the peer, whose proof holds for this link alone.  That saves 0.4 of the processor
        time of a request with its answer (measured).

        :raises RemoteError: the signature is false.
        """
        author = signed.record.signer
        known = author == link.peer.origin or self._roster.get(author) is not None
        if not known or author == self._local_node.origin:
            self.counts["stray_directs"] += 1
            return False
        if not link.rates.replies.take(now, _messages(signed.record)):
            self.counts["dropped_directs"] += 1
            return False
        if not self._proves(link, author) or self._target(signed) != self._local_node.origin:
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
    def _target(signed: SignedRecord) -> bytes:
        """The node that a DIRECT, DIRECT_ACK or DIRECT_KEY is for."""
        record = signed.record
        assert isinstance(record, Direct | DirectAck | DirectKey)
        return record.destination if isinstance(record, Direct) else record.origin

    def received(self, link: Link, signed: SignedRecord, now: float) -> Direct | SignedRecord | None:
        """Take in a DIRECT, DIRECT_ACK or DIRECT_KEY that is verified.

        :return: a DIRECT for this node that none of its keys opens; or the newest record of a node that
            lacks the key of an own message; or None.
        """
        record = signed.record
        assert isinstance(record, Direct | DirectAck | DirectKey)
        if self._target(signed) != self._local_node.origin:
            self._relay(link, signed, record, now)
        elif isinstance(record, DirectAck):
            if self._acknowledged(record, record.number, signed.hops, now):
                self._count_not(link, record)
        elif isinstance(record, DirectKey):
            return self._record_in(record)
        else:
            self._acknowledged(record, record.acknowledged, signed.hops, now)
            return self._arrived(link, record, now)
        return None

    def _relay(
        self, link: Link, signed: SignedRecord, record: Direct | DirectAck | DirectKey, now: float
    ) -> None:
        """Pass a message on to its destination, or its answer back along the message's way.

        The links that brought the message first form no circle, but a way around a lost link can.  So an
        answer follows them only for ``DETOURS`` hops.
        """
        ends = record.origin, record.epoch, record.destination, record.destination_epoch
        number = record.last if isinstance(record, Direct) else record.number
        passage = (*ends, number, record.tries)
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
        elif self._lines.is_copy(route, (type(record), *_ends(record)), now):
            self.counts["late_directs"] += 1
        else:
            self._effects.send((route,), signed.relayed())

    def _acknowledged(self, frame: Direct | DirectAck, number: int, hops: int, now: float) -> bool:
        """End the messages up to *number*, which the author of *frame* has; return whether any waited."""
        if isinstance(frame, Direct):
            theirs, mine = (frame.origin, frame.epoch), (frame.destination, frame.destination_epoch)
        else:
            theirs, mine = (frame.destination, frame.destination_epoch), (frame.origin, frame.epoch)
        outgoing = self._outgoing.get(theirs[0])
        if outgoing is None or mine != self._own or theirs[1] != outgoing.epoch:
            return False
        waiting, tokens = outgoing.waiting, []
        while waiting and next(iter(waiting)) <= number < outgoing.next:
            _, sent = waiting.popitem(last=False)
            self._bytes -= sent.size
            outgoing.took = (outgoing.took + now - sent.at) / 2
            tokens.append(sent.token)
        if tokens:
            self._effects.emit(events.DirectsEnded(tokens, None, hops))
        return bool(tokens)

    def _record_in(self, answer: DirectKey) -> SignedRecord | None:
        """The record in an answer to an own message, if it is its author's, and newer than the known one.

        Its author has signed the answer: no relay is to blame if the record is none.
        """
        try:
            signed = codec.decode(answer.record)
        except RemoteError:
            signed = None
        outgoing = self._outgoing.get(answer.destination)
        if (
            outgoing is None
            or (answer.origin, answer.epoch) != self._own
            or answer.destination_epoch != outgoing.epoch
            or answer.number not in outgoing.waiting
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
                    self.wake = now
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
        """Acknowledge *direct* over *links* at the end of the turn."""
        ack = DirectAck(*self._own, direct.origin, direct.epoch, direct.last, direct.tries)
        owed = self._owed.setdefault(direct.origin, {})
        owed.update((link.number, ack) for link in links if link is not None)
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

    # ── time ────────────────────────────────────────────────────────────────────────

    def tick(self, now: float) -> None:
        """Repeat messages that are due, and give up those whose time is over."""
        for destination, outgoing in list(self._outgoing.items()):
            due = []
            for number, sent in list(outgoing.waiting.items()):
                if sent.until <= now:
                    del outgoing.waiting[number]
                    self._bytes -= sent.size
                    self._end([sent.token], self._why(destination))
                elif sent.again <= now:
                    due.append(number)
            if due:
                self._leave(destination, outgoing, due, now)
        times = [sent.again for out in self._outgoing.values() for sent in out.waiting.values()]
        self.wake = min(times, default=inf)
        self._deliver_held(self._senders.holding, now)

    def _why(self, destination: bytes) -> str:
        if self._has_ended(destination):
            return _ENDED
        seconds = self._config.direct_timeout
        if self._outgoing[destination].wants_record:
            return f"no record with a key of its run came in {seconds:g} s: nothing could be sealed"
        if not any(link.up for link in self._routes.links.fed):
            return f"this node has no link; nobody acknowledged it in {seconds:g} s"
        author = self._roster.get(destination)
        state = "" if author is None else f"; it is {author.state.value} as far as this node knows"
        return f"it was not acknowledged in {seconds:g} s{state}"

    def _end(self, tokens: Sequence[int], why: str) -> None:
        self._effects.emit(events.DirectsEnded(tokens, why))

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            "direct_destinations": len(self._outgoing),
            "direct_waiting": sum(len(outgoing.waiting) for outgoing in self._outgoing.values()),
            "direct_bytes": self._bytes,
            "direct_first_arrivals": len(self._first_arrivals),
            "direct_acknowledgements": sum(map(len, self._owed.values())),
            **self._senders.footprint(),
        }


def _frames(outgoing: Outgoing, numbers: list[int]) -> Iterator[list[int]]:
    """Cut *numbers*, which rise, into those whose messages share a DIRECT."""
    together: list[int] = []
    size = 0
    for number in numbers:
        sent, before = outgoing.waiting[number], together[-1] if together else 0
        size += len(sent.body)
        if together and (
            number != before + 1
            or size > _TOGETHER
            or len(together) == MAX_DIRECTS
            or sent.tries != outgoing.waiting[before].tries
        ):
            yield together
            together, size = [], len(sent.body)
        together.append(number)
    yield together


def _messages(record: Record) -> int:
    """How many messages a frame counts as."""
    return record.count if isinstance(record, Direct) else 1


def _ends(record: Direct | DirectAck | DirectKey) -> tuple[bytes, int, bytes, int, int, int]:
    """From which run to which run a frame goes, and the numbers of its messages: all but its tries."""
    runs = record.origin, record.epoch, record.destination, record.destination_epoch
    if isinstance(record, Direct):
        return *runs, record.first, record.count
    return *runs, record.number, 0
