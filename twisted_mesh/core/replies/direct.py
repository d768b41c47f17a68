"""Direct messages: to one node anywhere in the mesh, acknowledged, and delivered at most once.

Contract: a message is repeated until the destination's acknowledgement comes, or until
``direct_timeout``, each time over the best link and over another one, too.  The destination remembers which
numbers of every sender came (:mod:`~twisted_mesh.core.replies.senders`), so that a repeat is acknowledged
again and not delivered again.  Relays verify messages, and remember only the link over which each came
first: its acknowledgement goes back over that link.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.backoff import backoff
from twisted_mesh.core.broadcast.trees import FirstArrivals
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Deliver
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.core.replies.routes import DETOURS, MOST_HOPS, Routes
from twisted_mesh.core.replies.senders import WINDOW, Senders
from twisted_mesh.core.signing import Signer
from twisted_mesh.errors import PoisonedBody
from twisted_mesh.wire.bodies import Entry, unpack_weighed
from twisted_mesh.wire.replies import MAX_TRIES, Direct, DirectAck
from twisted_mesh.wire.signed import SignedRecord

_AROUND: Final = 500  # bytes of memory that a waiting message needs beside its body (guess)
_ENDED: Final = "it has left"

# One transmission of a message: origin, epoch, destination, destination_epoch, number, tries.
_Passage = tuple[bytes, int, bytes, int, int, int]


@dataclass(eq=False)
class Sent:
    """One message that waits to be acknowledged."""

    token: int
    body: bytes
    until: float  # when it is given up
    tries: int = 0  # how often it was sent
    again: float = 0.0  # when it is sent again

    def __post_init__(self) -> None:
        self.size = len(self.body) + _AROUND  # the bytes that count against ``direct_bytes``


@dataclass(eq=False, slots=True)
class Outgoing:
    """The messages to one run of one node."""

    epoch: int
    next: int
    waiting: OrderedDict[int, Sent] = field(default_factory=OrderedDict)  # by number


@dataclass(eq=False)
class Directs:
    """The direct messages of a node.

    :ivar counts: how many were ignored, or dropped for lack of room, so far, by name.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _roster: Roster
    _routes: Routes
    _effects: Effects
    _outgoing: dict[bytes, Outgoing] = field(default_factory=dict)
    _first_arrivals: FirstArrivals[_Passage] = field(default_factory=FirstArrivals)
    _bytes: int = 0  # the bytes of all messages that wait to be acknowledged
    _highest: int = 0  # the highest number given: a forgotten destination may remember lower ones
    counts: dict[str, int] = field(default_factory=lambda: {"stray_directs": 0, "dropped_directs": 0})
    wake: float = inf  # when to call :meth:`tick` next; inf for never

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)
        self._senders = Senders(self._config, self._roster, self._routes.links)

    # ── sending ─────────────────────────────────────────────────────────────────────

    def send(self, event: events.SendDirect, now: float) -> None:
        """Send a message to one node."""
        destination = event.destination
        if (epoch := self._epoch_of(destination)) is None:
            self._end(event.token, "this node has never heard of it")
            return
        if self._has_ended(destination):
            self._end(event.token, _ENDED)
            return
        outgoing = self._outgoing.get(destination)
        waiting = 0 if outgoing is None else len(outgoing.waiting)
        sent = Sent(event.token, event.body, now + self._config.direct_timeout)
        if (
            waiting >= min(self._config.direct_window, WINDOW)
            or self._bytes + sent.size > self._config.direct_bytes
            or (outgoing is None and not self._has_room())
        ):
            self._end(event.token, "too many direct messages wait to be acknowledged")
            return
        if outgoing is None:
            outgoing = self._outgoing[destination] = Outgoing(epoch, self._highest + 1)
        self._bytes += sent.size
        number, outgoing.next = outgoing.next, outgoing.next + 1
        outgoing.waiting[number] = sent
        self._highest = max(self._highest, number)
        self._leave(destination, outgoing, number, now)

    def link_up(self, origin: bytes, now: float) -> None:
        """Send the messages that wait for *origin* at once, since a link to it is up."""
        if (outgoing := self._outgoing.get(origin)) is not None:
            for number, sent in list(outgoing.waiting.items()):
                if self._outgoing[origin] is not outgoing:
                    break  # the destination began a new run, so all were sent again
                sent.tries = 0
                self._leave(origin, outgoing, number, now)

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

    def _epoch_of(self, destination: bytes) -> int | None:
        """The newest known epoch of a node."""
        link = self._routes.links.way_to(destination)
        epoch = 0 if link is None else link.peer.epoch
        return max(epoch, self._roster.rank(destination)[0]) or None

    def _leave(self, destination: bytes, outgoing: Outgoing, number: int, now: float) -> None:
        if (epoch := self._epoch_of(destination)) is not None and epoch > outgoing.epoch:
            self._begin_anew(destination, outgoing, epoch, now)
            return
        sent = outgoing.waiting[number]
        oldest = next(iter(outgoing.waiting))
        for link, tries in self._ways(destination, sent.tries):
            direct = Direct(*self._own, destination, outgoing.epoch, number, oldest, tries, sent.body)
            self._effects.send((link,), self._signer.signed(direct))
        config = self._config
        wait = backoff(config.direct_repeat, sent.tries, config.direct_repeat_longest)
        sent.tries += 1
        sent.again = min(now + wait, sent.until)
        self.wake = min(self.wake, sent.again)

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
        fresh = self._outgoing[destination] = Outgoing(epoch, self._highest + 1)
        for sent in outgoing.waiting.values():
            sent.tries = 0
            fresh.waiting[fresh.next] = sent
            fresh.next += 1
        self._highest = max(self._highest, fresh.next - 1)
        for number in list(fresh.waiting):
            self._leave(destination, fresh, number, now)

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

    def received(self, link: Link, signed: SignedRecord, now: float) -> None:
        """Take in a DIRECT or a DIRECT_ACK that came over *link*; RemoteError if its signature is false."""
        record = signed.record
        is_ack = isinstance(record, DirectAck)
        assert isinstance(record, Direct | DirectAck)
        author, target = record.signer, record.origin if is_ack else record.destination
        known = author == link.peer.origin or self._roster.get(author) is not None
        if not known or author == self._local_node.origin:
            self.counts["stray_directs"] += 1
            return
        if not link.rates.replies.take(now):
            self.counts["dropped_directs"] += 1
            return
        self._signer.require(signed)
        if target != self._local_node.origin:
            self._relay(link, signed, record, now)
        elif isinstance(record, DirectAck):
            self._acknowledged(record)
        else:
            self._deliver(link, record, now)

    def _relay(self, link: Link, signed: SignedRecord, record: Direct | DirectAck, now: float) -> None:
        """Pass a message on to its destination, or an acknowledgement back along the message's way.

        The links that brought the message first form no circle, but a way around a lost link can.  So an
        acknowledgement follows them only for ``DETOURS`` hops.
        """
        ends = record.origin, record.epoch, record.destination, record.destination_epoch
        passage = (*ends, record.number, record.tries)
        first_link = self._first_arrivals.of(passage)
        if isinstance(record, DirectAck):
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
            return
        self._effects.send((route,), signed.relayed())

    def _acknowledged(self, ack: DirectAck) -> None:
        outgoing = self._outgoing.get(ack.destination)
        mine = (ack.origin, ack.epoch) == self._own
        if outgoing is None or not mine or ack.destination_epoch != outgoing.epoch:
            return
        if (sent := outgoing.waiting.pop(ack.number, None)) is not None:
            self._bytes -= sent.size
            self._end(sent.token, None)

    def _deliver(self, link: Link, direct: Direct, now: float) -> None:
        unpacked = self._entries(direct)
        if unpacked is None or self._senders.is_over(direct):
            self.counts["stray_directs"] += 1
            return
        if (news := self._senders.take(direct, now)) is None:
            self.counts["dropped_directs"] += 1
            return
        if news:
            own = link.number if link.peer.origin == direct.origin else 0
            run = (direct.origin, direct.epoch)
            entries, size = unpacked
            self._effects.deliver(Deliver(own, *run, 0, 0, size, entries))
        ack = DirectAck(*self._own, direct.origin, direct.epoch, direct.number, direct.tries)
        # A relay may drop the acknowledgement, so it goes over the best link and back over *link*.
        route = self._routes.known_to(direct.origin) if news else None
        links = (link,) if route is None or route is link else (route, link)
        self._effects.send(links, self._signer.signed(ack))

    def _entries(self, direct: Direct) -> tuple[list[Entry], int] | None:
        """The entries of the message and their bytes, if it is for this run and can be read."""
        if direct.destination_epoch != self._local_node.epoch:
            return None  # the message is for an earlier run: its sender will learn of this one
        try:
            return unpack_weighed(direct.body)
        except PoisonedBody:
            return None

    # ── time ────────────────────────────────────────────────────────────────────────

    def tick(self, now: float) -> None:
        """Repeat messages that are due, and give up those whose time is over."""
        for destination, outgoing in list(self._outgoing.items()):
            for number, sent in list(outgoing.waiting.items()):
                if self._outgoing.get(destination) is not outgoing:
                    break  # the destination began a new run, so all were sent again
                if sent.until <= now:
                    del outgoing.waiting[number]
                    self._bytes -= sent.size
                    self._end(sent.token, self._why(destination))
                elif sent.again <= now:
                    self._leave(destination, outgoing, number, now)
        times = [sent.again for out in self._outgoing.values() for sent in out.waiting.values()]
        self.wake = min(times, default=inf)

    def _why(self, destination: bytes) -> str:
        if self._has_ended(destination):
            return _ENDED
        seconds = self._config.direct_timeout
        if not any(link.up for link in self._routes.links.fed):
            return f"this node has no link; nobody acknowledged it in {seconds:g} s"
        author = self._roster.get(destination)
        state = "" if author is None else f"; it is {author.state.value} as far as this node knows"
        return f"it was not acknowledged in {seconds:g} s{state}"

    def _end(self, token: int, why: str | None) -> None:
        self._effects.emit(events.DirectEnded(token, why))

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            "direct_destinations": len(self._outgoing),
            "direct_waiting": sum(len(outgoing.waiting) for outgoing in self._outgoing.values()),
            "direct_bytes": self._bytes,
            "direct_first_arrivals": len(self._first_arrivals),
            **self._senders.footprint(),
        }
