"""Direct messages: to one node wherever it is, acknowledged, once in a run.

Contract: what is sent is repeated until the destination has signed for it, or until ``direct_timeout``:
each time over the best way and over another one, too.  The destination remembers of every sender's run a
head and what lies above it, so that a repeat is acknowledged again and not delivered again.  Relays verify,
and keep nothing but over which link each came first: where it got through, its acknowledgement gets back
the same way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
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
from twisted_mesh.core.signing import Signer, signer
from twisted_mesh.errors import PoisonedBody
from twisted_mesh.wire.bodies import Entry, unpack_entries
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT
from twisted_mesh.wire.replies import MAX_TRIES, Direct, DirectAck
from twisted_mesh.wire.signed import SignedRecord

_AROUND: Final = 500  # bytes that a message which waits takes besides its body (guess)
WINDOW: Final = 1024  # numbers ahead of the head that are taken (docs/protocol.rst)
_ENDED: Final = "it has left"

# Origin, epoch, destination, destination_epoch, number, tries: of one message, as often as it was sent.
_Passage = tuple[bytes, int, bytes, int, int, int]


class Sent:
    """One message that waits to be acknowledged.

    :ivar size: what it counts against ``direct_bytes``.
    :ivar tries: how often it left; :ivar again: when it leaves again; :ivar until: when it is given up.
    """

    __slots__ = ("again", "body", "size", "token", "tries", "until")

    def __init__(self, token: int, body: bytes, until: float) -> None:
        self.token = token
        self.body = body
        self.size = len(body) + _AROUND
        self.until = until
        self.tries = 0
        self.again = 0.0


class Outgoing:
    """What goes to one run of one node."""

    __slots__ = ("epoch", "next", "waiting")

    def __init__(self, epoch: int, first: int) -> None:
        self.epoch = epoch
        self.next = first
        self.waiting: OrderedDict[int, Sent] = OrderedDict()  # by number


class Incoming:
    """What came from one run of one node.

    :ivar epoch: of that run.
    :ivar head: everything up to here came, or was given up; :ivar above: what came beyond.
    """

    __slots__ = ("above", "epoch", "head")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.head = 0
        self.above: set[int] = set()

    def given_up_below(self, oldest: int) -> None:
        """Its sender repeats nothing below *oldest*."""
        if oldest - 1 > self.head:
            self.head = oldest - 1
            self.above = {number for number in self.above if number > self.head}
            self._join()

    def takes(self, number: int) -> bool | None:
        """Whether *number* is news; None where it is too far ahead to remember."""
        if number <= self.head or number in self.above:
            return False
        if number > self.head + WINDOW:
            return None
        self.above.add(number)
        self._join()
        return True

    def _join(self) -> None:
        while self.head + 1 in self.above:
            self.head += 1
            self.above.remove(self.head)


class Directs:
    """The direct messages of a node.

    :ivar counts: what was ignored, or dropped for want of room, so far, by name.
    :ivar wake: when to call :meth:`tick` next, or None.
    """

    def __init__(
        self, local_node: LocalNode, config: MeshConfig, roster: Roster, routes: Routes, effects: Effects
    ) -> None:
        self._local_node = local_node
        self._config = config
        self._signer = Signer(local_node)
        self._roster = roster
        self._routes = routes
        self._effects = effects
        self._outgoing: dict[bytes, Outgoing] = {}
        self._incoming: OrderedDict[bytes, Incoming] = OrderedDict()  # the longest idle first
        self._first_arrivals: FirstArrivals[_Passage] = FirstArrivals()
        self._bytes = 0  # of all that waits to be acknowledged
        self._highest = 0  # number ever given: whoever is forgotten and written to again knows lower ones
        self.counts = {"stray_directs": 0, "dropped_directs": 0}
        self.wake: float | None = None

    # ── sending ─────────────────────────────────────────────────────────────────────

    def send(self, event: events.SendDirect, now: float) -> None:
        """Send a message to one node."""
        destination = event.destination
        epoch = self._epoch_of(destination)
        if epoch is None:
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
        """A link to *origin* is up: what waits for it goes at once."""
        outgoing = self._outgoing.get(origin)
        if outgoing is not None:
            for number, sent in list(outgoing.waiting.items()):
                if self._outgoing[origin] is not outgoing:
                    break  # it has begun anew, and all of it was sent again
                sent.tries = 0
                self._leave(origin, outgoing, number, now)

    def leaves(self, origin: bytes, now: float) -> None:
        """*origin* leaves with a key of one process: what is under way is acknowledged soon, or never."""
        outgoing = self._outgoing.get(origin)
        for sent in () if outgoing is None else outgoing.waiting.values():
            sent.until = min(sent.until, now + self._config.farewell_timeout)
            sent.again = min(sent.again, sent.until)
            self._wake_at(sent.again)

    def _has_ended(self, destination: bytes) -> bool:
        entry = self._roster.get(destination)
        return entry is not None and entry.has_ended

    def _epoch_of(self, destination: bytes) -> int | None:
        """The newest run of a node that is known."""
        link = self._routes.links.way_to(destination)
        epoch = 0 if link is None else link.peer.epoch
        return max(epoch, self._roster.rank(destination)[0]) or None

    def _leave(self, destination: bytes, outgoing: Outgoing, number: int, now: float) -> None:
        epoch = self._epoch_of(destination)
        if epoch is not None and epoch > outgoing.epoch:
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
        self._wake_at(sent.again)

    def _ways(self, destination: bytes, tries: int) -> Iterator[tuple[Link, int]]:
        """Over which links it goes when it was sent so often before, and how each relay is to take it.

        Over the best, which may be another by now; and what is sent again over the next one, too.
        """
        links = list(self._routes.all_to(destination))
        if links:
            yield links[0], 0
        if links and tries:
            yield links[tries % len(links)], min(tries, MAX_TRIES)

    def _begin_anew(self, destination: bytes, outgoing: Outgoing, epoch: int, now: float) -> None:
        """The destination began another run: what it has not acknowledged is for that one."""
        fresh = self._outgoing[destination] = Outgoing(epoch, self._highest + 1)
        for sent in outgoing.waiting.values():
            sent.tries = 0
            fresh.waiting[fresh.next] = sent
            fresh.next += 1
        self._highest = max(self._highest, fresh.next - 1)
        for number in list(fresh.waiting):
            self._leave(destination, fresh, number, now)

    def _has_room(self) -> bool:
        """Make room for one more destination, at the cost of one for which nothing waits."""
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

    # ── what comes in ───────────────────────────────────────────────────────────────

    def received(self, link: Link, signed: SignedRecord, now: float) -> None:
        """A DIRECT or a DIRECT_ACK came over *link*.

        :raises RemoteError: its signature is false.
        """
        record = signed.record
        is_ack = isinstance(record, DirectAck)
        assert isinstance(record, Direct | DirectAck)
        author, target = signer(record), record.origin if is_ack else record.destination
        known = author == link.peer.origin or self._roster.get(author) is not None
        if not known or author == self._local_node.origin:
            self.counts["stray_directs"] += 1
            return
        if not link.reply_limit.take(now):
            self.counts["dropped_directs"] += 1
            return
        self._signer.require(signed)
        if target != self._local_node.origin:
            self._relay(link, signed, record, now)
        elif isinstance(record, DirectAck):
            self._acknowledged(record)
        else:
            self._take(link, record)

    def _relay(self, link: Link, signed: SignedRecord, record: Direct | DirectAck, now: float) -> None:
        """Hand it on: a message over one of the ways to its destination, what acknowledges it back.

        Along those that brought it first there is no circle.  Where one of them is gone there can be,
        with the way round it: so these, too, are trusted for so many hops alone.
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
        sent = outgoing.waiting.pop(ack.number, None)
        if sent is not None:
            self._bytes -= sent.size
            self._end(sent.token, None)

    def _take(self, link: Link, direct: Direct) -> None:
        entries = self._entries(direct)
        incoming = self._incoming_of(direct)
        if entries is None or incoming is None:
            self.counts["stray_directs"] += 1
            return
        incoming.given_up_below(direct.oldest)
        news = incoming.takes(direct.number)
        if news is None:
            self.counts["dropped_directs"] += 1
            return
        if news:
            own = link.number if link.peer.origin == direct.origin else 0
            run = (direct.origin, direct.epoch)
            self._effects.deliver(Deliver(own, *run, 0, 0, len(direct.body), entries))
        ack = DirectAck(*self._own, direct.origin, direct.epoch, direct.number, direct.tries)
        # The best way may swallow it, and so may the way it came: over that one it goes in any case.
        route = self._routes.known_to(direct.origin) if news else None
        links = (link,) if route is None or route is link else (route, link)
        self._effects.send(links, self._signer.signed(ack))

    def _entries(self, direct: Direct) -> list[Entry] | None:
        """What is in it, if this run of this node can read it."""
        if direct.destination_epoch != self._local_node.epoch:
            return None  # for an earlier run: its sender learns of this one
        try:
            entries = unpack_entries(direct.body)
        except PoisonedBody:
            return None
        return entries if len(entries) <= MAX_BATCH_COUNT else None

    def _incoming_of(self, direct: Direct) -> Incoming | None:
        """What came from that run, unless its sender has begun another: one for each node.

        A sender with runs without end would push out what is remembered of the others else.
        """
        incoming = self._incoming.get(direct.origin)
        epoch = self._roster.rank(direct.origin)[0] if incoming is None else incoming.epoch
        if direct.epoch < epoch:
            return None
        if incoming is None or direct.epoch > incoming.epoch:
            incoming = self._incoming[direct.origin] = Incoming(direct.epoch)
        self._incoming.move_to_end(direct.origin)
        if len(self._incoming) > self._config.direct_senders:
            self._incoming.popitem(last=False)
        return incoming

    # ── time ────────────────────────────────────────────────────────────────────────

    def tick(self, now: float) -> None:
        """Repeat what is due, and give up what nobody acknowledges."""
        for destination, outgoing in list(self._outgoing.items()):
            for number, sent in list(outgoing.waiting.items()):
                if self._outgoing.get(destination) is not outgoing:
                    break  # it has begun anew, and all of it was sent again
                if sent.until <= now:
                    del outgoing.waiting[number]
                    self._bytes -= sent.size
                    self._end(sent.token, self._why(destination))
                elif sent.again <= now:
                    self._leave(destination, outgoing, number, now)
        times = [sent.again for out in self._outgoing.values() for sent in out.waiting.values()]
        self.wake = min(times, default=None)

    def _why(self, destination: bytes) -> str:
        if self._has_ended(destination):
            return _ENDED
        seconds = self._config.direct_timeout
        if not any(link.up for link in self._routes.links.fed):
            return f"this node has no link; nobody acknowledged it in {seconds:g} s"
        entry = self._roster.get(destination)
        state = "" if entry is None else f"; it is {entry.state.value} as far as this node knows"
        return f"it was not acknowledged in {seconds:g} s{state}"

    def _end(self, token: int, why: str | None) -> None:
        self._effects.emit(events.DirectEnded(token, why))

    def _wake_at(self, at: float) -> None:
        self.wake = at if self.wake is None else min(self.wake, at)

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            "direct_destinations": len(self._outgoing),
            "direct_waiting": sum(len(outgoing.waiting) for outgoing in self._outgoing.values()),
            "direct_bytes": self._bytes,
            "direct_senders": len(self._incoming),
            "direct_first_arrivals": len(self._first_arrivals),
            "direct_ahead": sum(len(incoming.above) for incoming in self._incoming.values()),
        }
