"""Which batches are pushed over each link, announced (in a HAVE), or sent as the answer to a WANT.

Contract: a new batch is pushed to a peer if the peer has all earlier messages of the stream that this
node still holds.  It is announced instead, after ``have_delay``, to a peer that asked for
announcements (*lazy by peer*), that lacks earlier messages and pulls them, or whose line is slow.  Answers
to WANTs go out as fast as the peer reads them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from msgspec.structs import replace

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.trees import FirstArrivals, NewestRecords, Parents
from twisted_mesh.core.effects import Effects, Lines
from twisted_mesh.core.events import StreamId, Timer
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.core.history.ways import Ways
from twisted_mesh.core.link import COMING_SECONDS, Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.meter import FLOOR
from twisted_mesh.core.rate import AnswerLimit
from twisted_mesh.wire.broadcast import Have, HaveEntry, Prune, SignedBatch, Want

_HAVE_STREAMS = 650  # entries in a frame: at most 98 bytes each, so under 64 KiB
_HAVE_BYTES: Final = 90  # bytes of an entry (measured)
_HAVE_PART: Final = 1 / 8  # the part of a line that announcements may take (guess)
_HAVE_LONGEST: Final = 10.0  # seconds from one announcement to the next, at most (guess)
_PUSH_SECONDS: Final = 1.0  # seconds in which, with a round trip, a peer can read all pushed bytes (guess)
_PUSH_FIRST: Final = 16 * 1024  # bytes pushed over a line that was not measured yet (guess)
_ANSWER_SECONDS: Final = 1.0  # seconds in which, with a round trip, a peer can read one answer (guess)
_ANSWER_FIRST: Final = 64 * 1024  # bytes of an answer over a line that was not measured yet (guess)


@dataclass(eq=False)
class Push:
    """The batches and announcements that go out over the links of a node.

    :ivar parents: the link over which each origin's newest frame came.
    :ivar ways: by which way each of the newest batches came.
    """

    _own: bytes  # the origin of this node
    _history: History
    _links: Links
    parents: Parents
    _config: MeshConfig
    _effects: Effects

    def __post_init__(self) -> None:
        self._answer_limit = AnswerLimit(self._config.answer_bytes)
        self._first_arrivals: FirstArrivals[tuple[StreamId, int]] = FirstArrivals()  # by run and *first*
        self._newest_records = NewestRecords()
        self._said: OrderedDict[StreamId, float] = OrderedDict()  # when under_way() last told of each run
        self.ways = Ways(self._config.ways_limit)
        self.lines = Lines(self._effects)
        self._is_leaving = False

    def published(self, signed: SignedBatch, now: float, *, follows: bool) -> None:
        """Push an own batch; *follows* is as in :meth:`push`."""
        pushed = self.push(signed, None, now, follows=follows)
        self.ways.note(signed.batch, now, None, _origins(pushed))

    def arrived(self, link: Link, signed: SignedBatch, now: float, *, pulled: bool) -> None:
        """Push on a new batch that came over *link*, as an answer to a WANT if *pulled*."""
        batch = signed.batch
        run = (batch.origin, batch.epoch)
        if not link.is_exchange:
            self._first_arrivals.note((run, batch.first), link.number, now)
            self.parents.note(run, batch.last, link.number)
        pushed = self.push(signed, link, now)
        self.ways.note(batch, now, link.peer.origin, _origins(pushed), signed.hops, pulled)
        if self._history.head(run) > batch.last:
            self.went_on(run, now)

    def record_arrived(self, link: Link, run: StreamId, sequence: int, counter: int) -> None:
        """Note that a new record of presence came over *link*; membership passes it on."""
        if not link.is_exchange:
            self._newest_records.note(run, counter, link.number)
            self.parents.note(run, sequence, link.number, counter)

    def duplicate(self, link: Link, run: StreamId, first: int, own: bool, now: float) -> None:
        """Prune *link*, which brought a batch again without being asked, if another link brought it first.

        Exchanges do not count: of a batch that came over one first, the next link is the first.

        :param first: the first message of the batch; *own*: whether the origin is this node.
        """
        if self._is_eager(link, run[0]):
            number = self._first_arrivals.of((run, first))
            if number is None and not link.is_exchange:  # it came long ago, or first over an exchange
                self._first_arrivals.note((run, first), link.number, now)
            self._prune(link, run[0], number, own)

    def record_again(self, link: Link, run: StreamId, counter: int, own: bool) -> None:
        """Prune *link*, which brought an author's newest record again, or an older one, as for a batch.

        :param counter: that of the newest record; *own*: whether the author is this node.
        """
        if self._is_eager(link, run[0]):
            number = self._newest_records.of(run, counter)
            if number is None and not link.is_exchange:
                self._newest_records.note(run, counter, link.number)
            self._prune(link, run[0], number, own)

    @staticmethod
    def _is_eager(link: Link, origin: bytes) -> bool:
        return origin not in link.push.lazy_by_us and not link.closing

    def _prune(self, link: Link, origin: bytes, number: int | None, own: bool) -> None:
        """Prune *link* if the link *number* is another, and brings frames of *origin*; always if *own*."""
        earlier = None if number is None else self._links.get(number)
        if own or (earlier is not None and earlier is not link and self._is_eager(earlier, origin)):
            link.push.prune(origin)
            self._effects.send((link,), Prune([origin]))

    def under_way(self, link: Link, run: StreamId, now: float) -> None:
        """Tell the other peers that a batch is coming over *link*, a slow line: they need not push it."""
        if self._said.get(run, -inf) + COMING_SECONDS / 2 > now:
            return
        self._said[run] = now
        self._said.move_to_end(run)
        if len(self._said) > self._config.claims_limit:
            self._said.popitem(last=False)
        others = [
            other
            for other in self._links.fed
            if other is not link and other.frontier_received and run[0] not in other.push.lazy_by_us
        ]
        if others:
            self._effects.send(others, Have([replace(self._have(run), coming=1)], False))

    def wanted(self, link: Link, want: Want) -> bool:
        """Note that the peer asks for messages; return whether to answer the WANT.

        If this node leaves, a part of the WANT before may be answered already.  That part is not sent again
        for a WANT that corrects it, and a WANT for what follows is added to it.
        """
        run = (want.origin, want.epoch)
        before = link.push.wants.get(run)
        if want.graft:
            link.push.lazy_by_peer.pop(want.origin, None)
            if self._is_leaving and before is not None and before.first <= want.first <= before.last + 1:
                want = replace(want, first=before.first)
        elif before is None:
            return False  # it corrects a WANT that is answered already
        else:
            want = replace(want, first=max(want.first, before.first))
        link.push.want(run, want)
        return True

    def catch_up(self, link: Link, run: StreamId, now: float) -> None:
        """Push the own batches that the peer is owed, if it can read all of them within a second.

        Of a burst, all but the first batches wait until the line is measured.  If the sender went on
        meanwhile, the peer would be behind for ever, and pull every batch that follows.
        """
        push, flow, stream = link.push, link.flow, self._history.get(run)
        if stream is None or run not in push.owed or run in push.wants or run[0] in push.lazy_by_peer:
            return
        line = flow.meter.bytes_in(_PUSH_SECONDS, _PUSH_FIRST) - flow.unread
        most = min(line, self._config.link_queue_bytes - flow.queued)
        first = link.frontier.holds(run) + 1
        reads = stream.serve(first, stream.head, most)
        batches = [read for read in reads if isinstance(read, SignedBatch)]
        if not batches or (batches[0].batch.first, batches[-1].batch.last) != (first, stream.head):
            return
        if sum(signed.size for signed in batches) > most:
            return
        del push.owed[run]
        for signed in batches:
            link.frontier.extend(run, signed.batch.first, signed.batch.last)
            self._effects.send((link,), signed)

    def next_wanted(self, link: Link, now: float) -> Want | None:
        """The next WANT of the peer to answer; None if there is none, or if it must wait."""
        if link.push.owed and self._may_announce(link, now):
            self._effects.set_timer(Timer.ANNOUNCE, now + self._config.have_delay)
        if not link.push.wants or link.closing or link.flow.queued >= self._config.answer_bytes:
            return None
        if (at := self._answer_limit.next_at(link.peer.origin)) > now:
            self._effects.set_timer(Timer.ANSWER, at)
            return None
        if not self.lines.is_read(link, self._answer_bytes(link), now):
            return None
        return link.push.wants.popitem(last=False)[1]

    def answer(self, link: Link, want: Want, now: float) -> None:
        """Send the messages that the peer asked for, as many as one answer may have.

        A node that leaves answers in parts until it has sent all: the peer could not ask for the rest.
        """
        run = (want.origin, want.epoch)
        stream = self._history.get(run)
        low = sent = 0
        if stream is not None:
            most = min(self._config.answer_bytes, self._answer_bytes(link))
            for signed in stream.serve(want.first, want.last, most):
                if isinstance(signed, Missing):
                    low = signed.last + 1  # this node has only later messages
                    continue
                sent = signed.batch.last
                first_hand = run[0] == self._own and not signed.hops
                self._effects.send((link,), signed if first_hand else signed.relayed())
                link.push.answered += signed.size
                self._answer_limit.sent(link.peer.origin, run, signed.batch.last, signed.size, now)
                if signed.batch.last <= stream.head:  # a waiting batch does not fill the peer's hole either
                    link.frontier.served(run, want.first, signed.batch.last)
        if self._is_leaving and stream is not None and sent and sent < min(want.last, stream.high):
            link.push.want(run, replace(want, first=sent + 1))
        else:
            self._effects.send((link,), Have([self._have(run, low)], True))
        self.lines.measure(link, now)

    def went_on(self, run: StreamId, now: float) -> None:
        """Announce *run* to peers that have less, since its head has moved over waiting batches."""
        head = self._history.head(run)
        for link in self._links.fed:
            if link.frontier.holds(run) < head:
                self._owe(link, run, now)

    def announce(self, link: Link, runs: Sequence[StreamId], now: float) -> None:
        """Tell the peer which messages of *runs* are held here, now or when it can read that soon."""
        if not self._may_announce(link, now):
            for run in runs:
                self._owe(link, run, now)
            return
        self._announce((link,), [self._have(run) for run in runs])
        if rate := link.flow.meter.rate:
            link.push.announce_at = now + min(_HAVE_LONGEST, _HAVE_BYTES * len(runs) / (_HAVE_PART * rate))

    def ask_headers(self, link: Link, runs: Sequence[StreamId]) -> None:
        """Have the peer send the headers at the heads of *runs* (HEADERS), if it has the same heads.

        A HAVE without a hash does that.
        """
        self._announce((link,), [replace(self._have(run), hash=b"") for run in runs])

    def announce_coming(self, coming: Mapping[StreamId, int]) -> None:
        """Tell every peer that missing messages of runs are on their way; *coming* is by run."""
        entries = [replace(self._have(run), coming=hops) for run, hops in sorted(coming.items())]
        self._announce([link for link in self._links.fed if link.frontier_received], entries)

    def _announce(self, links: Sequence[Link], entries: list[HaveEntry]) -> None:
        for at in range(0, len(entries), _HAVE_STREAMS):
            self._effects.send(links, Have(entries[at : at + _HAVE_STREAMS], False))

    def announce_owed(self, now: float) -> None:
        """Announce to every peer the runs that are owed to it, unless it has announced as much itself."""
        for link in self._links.fed:
            if not link.push.owed:
                continue
            if now < link.push.announce_at:
                self._effects.set_timer(Timer.ANNOUNCE, link.push.announce_at)
            elif self._may_announce(link, now):
                self.announce(link, self._lacking(link), now)

    def leave(self) -> None:
        """Announce to every peer, however slow, all that is owed to it: this node is about to stop."""
        self._is_leaving = True
        for link in self._links.fed:
            self._announce((link,), [self._have(run) for run in self._lacking(link)])

    def _lacking(self, link: Link) -> list[StreamId]:
        """Take the runs that are owed to the peer; return those of which it has not announced as much."""
        owed, link.push.owed = link.push.owed, OrderedDict()
        return sorted(run for run in owed if link.frontier.holds(run) < self._history.head(run))

    def footprint(self) -> dict[str, int]:
        """The number of entries in every table."""
        links = (*self._links.fed, *self._links.exchanges)
        return {
            "first_arrivals": len(self._first_arrivals),
            "first_records": len(self._newest_records),
            "parents": len(self.parents),
            "coming": len(self._said) + sum(len(link.push.coming) for link in links),
            "lazy_by_us": sum(len(link.push.lazy_by_us) for link in links),
            "lazy_by_peer": sum(len(link.push.lazy_by_peer) for link in links),
            "owed": sum(len(link.push.owed) for link in links),
            "wants": sum(len(link.push.wants) for link in links),
            "answered_runs": len(self._answer_limit),
            **self.ways.footprint(),
        }

    def push(
        self, signed: SignedBatch, source: Link | None, now: float, *, follows: bool = True
    ) -> Sequence[Link]:
        """Push a new batch, or announce it, over each link but its *source*.

        :param source: the link that it came over; None for an own batch.
        :param follows: whether neighbours have accepted all messages before *signed*.  If not, it is not
            pushed to newcomers, but pulled with the earlier ones: these would seem to be accepted
            otherwise.
        :return: the links over which it is pushed.
        """
        batch = signed.batch
        first, last, size = batch.first, batch.last, signed.size
        run = (batch.origin, batch.epoch)
        # Peers that have the messages up to *before* get the batch.  It is not above the head: a peer with
        # the same hole gets batches behind the hole, too, since no claim tells the peer of them.
        stream = self._history.get(run)
        before = min(first - 1, self._history.head(run))
        if stream is not None and stream.low > before:
            before = 0  # this node does not hold the earlier messages, so the peer cannot pull them here
        pushed = []
        for link in self._links.fed:
            if link is source:
                continue
            frontier, push = link.frontier, link.push
            claim = frontier.claims.get(run)
            if claim is not None and claim[0] <= first and claim[1] >= last:
                continue  # the peer has announced this batch itself
            lacks = (0 if claim is None else claim[1]) < before
            behind = lacks and (link.frontier_received or not follows)
            if (
                behind
                or batch.origin in push.lazy_by_peer
                or (push.coming and push.is_coming(run, now))
                or self._is_slow(link, now, size)
            ):
                self._owe(link, run, now)
                continue
            frontier.extend(run, first, last)
            pushed.append(link)
        if pushed:
            self._effects.send(pushed, signed if source is None else signed.relayed())
            for link in pushed:
                self.lines.measure(link, now)
        return pushed

    def _owe(self, link: Link, run: StreamId, now: float) -> None:
        link.push.owe(run)
        self._effects.set_timer(Timer.ANNOUNCE, now + self._config.have_delay)

    def _may_announce(self, link: Link, now: float) -> bool:
        """Whether the peer will read an announcement soon; until then more of them are gathered."""
        if now < link.push.announce_at or link.flow.queued > self._config.link_queue_bytes:
            return False
        return self.lines.is_read(link, link.flow.meter.bytes_in(_PUSH_SECONDS, _PUSH_FIRST), now)

    def _is_slow(self, link: Link, now: float, size: int) -> bool:
        """Whether the peer would take too long to read *size* bytes more."""
        flow = link.flow
        if flow.queued > self._config.link_queue_bytes:
            return True
        meter = flow.meter
        if not meter.rate and flow.unread <= FLOOR:
            return False  # nothing is measured yet, and one batch, however large, will show the speed
        return not self.lines.is_read(link, meter.bytes_in(_PUSH_SECONDS, _PUSH_FIRST) - size, now)

    def _answer_bytes(self, link: Link) -> int:
        """The size of an answer: reading it takes more than a round trip, so the line is never idle."""
        return link.flow.meter.bytes_in(_ANSWER_SECONDS, _ANSWER_FIRST)

    def _have(self, run: StreamId, low: int = 0) -> HaveEntry:
        if (stream := self._history.get(run)) is None:
            head = self._history.head(run)
            return HaveEntry(*run, head + 1, head)
        return HaveEntry(*run, max(low, stream.low), stream.head, 0, stream.hash)


def _origins(links: Iterable[Link]) -> tuple[bytes, ...]:
    return tuple([link.peer.origin for link in links])
