"""Spreading: what is pushed, announced and answered over each link.

Contract: a new batch is pushed to every link whose peer has all that is still held here of what was
before it, and announced to the others: to those that asked for announcements (lazy by peer), to those
that are behind and pull, and to those whose queue is full.  Answers to WANTs go out as fast as the link
takes them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import inf
from typing import Final

from msgspec.structs import replace

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.trees import FirstArrivals, Parents
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import StreamId, Timer
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.core.link import COMING_SECONDS, READ_SO_FAR, Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.meter import FLOOR, MEASURED
from twisted_mesh.wire.broadcast import Have, HaveEntry, Prune, SignedBatch, Want
from twisted_mesh.wire.link import Ping

_HAVE_STREAMS = 1000  # entries in a frame: at most 53 bytes each, so under 64 KiB
_PUSH_SECONDS: Final = 1.0  # of a line, and a round trip, may be unread; the rest is announced (guess)
_PUSH_FIRST: Final = 64 * 1024  # bytes of that over a line that was not measured yet (guess)
#: Of a line hold one answer, and a round trip more, so that the line does not rest (guess).
_ANSWER_SECONDS: Final = 1.0
_ANSWER_FIRST: Final = 64 * 1024  # bytes of an answer over a line that was not measured yet (guess)


class Push:
    """What goes out over the links of a node.

    :ivar parents: over which link each origin's newest came.
    """

    def __init__(
        self,
        own: bytes,
        history: History,
        links: Links,
        parents: Parents,
        config: MeshConfig,
        effects: Effects,
    ) -> None:
        """:param own: the origin of this node."""
        self._own = own
        self._history = history
        self._links = links
        self._config = config
        self._effects = effects
        # Of batches by their first sequence, of records by their counter, below zero.
        self._first_arrivals: FirstArrivals[tuple[StreamId, int]] = FirstArrivals()
        self.parents = parents
        # When peers were told that some of a run is coming.
        self._said: OrderedDict[StreamId, float] = OrderedDict()

    def publish(self, signed: SignedBatch, now: float, *, follows: bool = True) -> None:
        """Spread an own batch; where it *follows* nothing that no neighbour has, newcomers get it, too.

        A newcomer pulls what is before it: pushed at once, it would make that seem taken.
        """
        self._push(signed, None, now, follows=follows)

    def arrived(self, link: Link, signed: SignedBatch, now: float) -> None:
        """Spread a new batch that came over *link*."""
        batch = signed.batch
        run = (batch.origin, batch.epoch)
        if not link.is_exchange:
            self._first_arrivals.note((run, batch.first), link.number, now)
            self.parents.note(run, batch.last, link.number)
        self._push(signed.relayed(), link, now)
        if self._history.head(run) > batch.last:
            self.went_on(run, now)

    def record_arrived(self, link: Link, run: StreamId, sequence: int, counter: int, now: float) -> None:
        """A new record of presence came over *link*, and goes on over the tree of its origin."""
        if not link.is_exchange:
            self._first_arrivals.note((run, -counter), link.number, now)
            self.parents.note(run, sequence, link.number, counter)

    def duplicate(self, link: Link, run: StreamId, first: int, own: bool) -> None:
        """Something came again over *link*, unasked for: prune it, if another link serves the origin.

        :param first: of a batch its first number, of a record its counter, below zero.
        """
        if run[0] in link.push.lazy_by_us or link.closing:
            return
        if not own:
            number = self._first_arrivals.of((run, first))
            earlier = None if number is None else self._links.get(number)
            if earlier is None or earlier is link or earlier.closing or run[0] in earlier.push.lazy_by_us:
                return
        link.push.prune(run[0])
        self._effects.send((link,), Prune([run[0]]))

    def under_way(self, link: Link, run: StreamId, now: float) -> None:
        """*link* is in the middle of a batch, and its line slow: others need not push the same."""
        if self._said.get(run, -inf) + COMING_SECONDS / 2 > now:
            return
        self._said[run] = now
        self._said.move_to_end(run)
        if len(self._said) > self._config.claims_limit:
            self._said.popitem(last=False)
        others = [
            one
            for one in self._links.fed
            if one is not link and one.frontier_received and run[0] not in one.push.lazy_by_us
        ]
        if others:
            self._effects.send(others, Have([replace(self._entry(run), coming=1)], False))

    def pruned(self, link: Link, prune: Prune) -> None:
        """The peer wants some origins pushed no more."""
        link.push.pruned(prune.origins)

    def wanted(self, link: Link, want: Want) -> bool:
        """The peer asks for something; whether that is to be answered."""
        run = (want.origin, want.epoch)
        if want.graft:
            link.push.lazy_by_peer.pop(want.origin, None)
        elif run not in link.push.wants:
            return False  # the one whose place it would take is answered
        link.push.want(run, want)
        return True

    def next_wanted(self, link: Link, now: float) -> Want | None:
        """The next WANT of the peer's to answer; None: there is none, or the link takes no more now."""
        if link.push.owed and not self._is_full(link):
            self._effects.set_timer(Timer.ANNOUNCE, now + self._config.have_delay)
        if not link.push.wants or link.closing or not self._may_answer(link, now):
            return None
        return link.push.wants.popitem(last=False)[1]

    def answer(self, link: Link, want: Want, now: float) -> None:
        """Send what the peer asked for, or as much of it as is sent at a time."""
        run = (want.origin, want.epoch)
        stream = self._history.get(run)
        low = 0
        if stream is not None:
            most = min(self._config.answer_bytes, self._answer(link))
            for signed in stream.serve(want.first, want.last, most):
                if isinstance(signed, Missing):
                    low = signed.last + 1  # the peer can get here what lies behind alone
                    continue
                first_hand = run[0] == self._own and not signed.hops
                self._effects.send((link,), signed if first_hand else signed.relayed())
                if signed.batch.last <= stream.head:  # what waits here leaves the hole open there
                    link.frontier.served(run, want.first, signed.batch.last)
        self._effects.send((link,), Have([self._entry(run, low)], True))
        self.measure(link, now)

    def measure(self, link: Link, now: float, least: int = MEASURED) -> None:
        """Have the peer say when it has read all, if *least* bytes or more are unread."""
        flow = link.flow
        if not link.closing and flow.meter.sent(flow.sent, now, least):
            self._effects.send((link,), Ping(READ_SO_FAR))

    def went_on(self, run: StreamId, now: float) -> None:
        """The head of *run* has moved over what waited: tell those who have not had it."""
        head = self._history.head(run)
        for link in self._links.fed:
            if link.frontier.holds(run) < head:
                self._owe(link, run, now)

    def announce(self, link: Link, runs: Sequence[StreamId]) -> None:
        """Tell the peer what is held of *runs* now."""
        for at in range(0, len(runs), _HAVE_STREAMS):
            entries = [self._entry(run) for run in runs[at : at + _HAVE_STREAMS]]
            self._effects.send((link,), Have(entries, False))

    def announce_coming(self, coming: Mapping[StreamId, int]) -> None:
        """Tell every peer that some of what is missing of runs is on its way to a node so many hops off."""
        entries = [replace(self._entry(run), coming=hops) for run, hops in sorted(coming.items())]
        links = [link for link in self._links.fed if link.frontier_received]
        for at in range(0, len(entries) if links else 0, _HAVE_STREAMS):
            self._effects.send(links, Have(entries[at : at + _HAVE_STREAMS], False))

    def announce_owed(self) -> None:
        """Tell every peer what it is owed, unless it announced as much itself."""
        for link in self._links.fed:
            if link.push.owed and not self._is_full(link):
                owed, link.push.owed = link.push.owed, OrderedDict()
                self.announce(
                    link, sorted(r for r in owed if link.frontier.holds(r) < self._history.head(r))
                )

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        links = (*self._links.fed, *self._links.exchanges)
        return {
            "first_arrivals": len(self._first_arrivals),
            "parents": len(self.parents),
            "coming": len(self._said) + sum(len(link.push.coming) for link in links),
            "lazy_by_us": sum(len(link.push.lazy_by_us) for link in links),
            "lazy_by_peer": sum(len(link.push.lazy_by_peer) for link in links),
            "owed": sum(len(link.push.owed) for link in links),
            "wants": sum(len(link.push.wants) for link in links),
        }

    def _push(self, signed: SignedBatch, source: Link | None, now: float, *, follows: bool = True) -> None:
        batch = signed.batch
        first, last, size = batch.first, batch.last, signed.size
        run = (batch.origin, batch.epoch)
        # To be sent it at once a peer must have what this node has to give.  Of what waits behind a hole
        # nobody is told by a claim, and whoever has the same hole may get it from nobody else in time.
        stream = self._history.get(run)
        before = min(first - 1, self._history.head(run))
        if stream is not None and stream.low > before:
            before = 0  # it was held once: a peer that lacks it cannot pull it here
        pushed = []
        for link in self._links.fed:
            if link is source:
                continue
            frontier, push = link.frontier, link.push
            claim = frontier.claims.get(run)
            if claim is not None and claim[0] <= first and claim[1] >= last:
                continue  # it has announced this itself
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
            self._effects.send(pushed, signed)
            for link in pushed:
                self.measure(link, now)

    def _owe(self, link: Link, run: StreamId, now: float) -> None:
        link.push.owe(run)
        self._effects.set_timer(Timer.ANNOUNCE, now + self._config.have_delay)

    def _is_full(self, link: Link) -> bool:
        return link.flow.queued > self._config.link_queue_bytes

    def _is_slow(self, link: Link, now: float, size: int) -> bool:
        """Whether the peer takes no *size* bytes more in time."""
        flow = link.flow
        if flow.queued > self._config.link_queue_bytes:
            return True
        meter = flow.meter
        if not meter.rate and flow.unread <= FLOOR:
            return False  # one large batch tells how fast it is
        return not self._is_read(link, meter.bytes_in(_PUSH_SECONDS, _PUSH_FIRST) - size, now)

    def _may_answer(self, link: Link, now: float) -> bool:
        return link.flow.queued < self._config.answer_bytes and self._is_read(link, self._answer(link), now)

    def _is_read(self, link: Link, most: int, now: float) -> bool:
        """Whether no more than *most* bytes are unread; else the peer is to say when it has read them."""
        if link.flow.unread <= most:
            return True
        self.measure(link, now, least=1)
        return False

    def _answer(self, link: Link) -> int:
        """Bytes of an answer: a second of the line."""
        return link.flow.meter.bytes_in(_ANSWER_SECONDS, _ANSWER_FIRST)

    def _entry(self, run: StreamId, low: int = 0) -> HaveEntry:
        if (stream := self._history.get(run)) is None:
            head = self._history.head(run)
            return HaveEntry(*run, head + 1, head)
        return HaveEntry(*run, max(low, stream.low), stream.head)
