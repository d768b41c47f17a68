"""All messages that this node holds: one stream for each run it has met, for delivery and for repair.

Contract: the messages held are bounded in bytes and in age.  If there are too many bytes, streams lose
their oldest batches (:mod:`~twisted_mesh.core.history.eviction` says which streams).  Own messages that no
neighbour has accepted are never given up.  A stream of which no message is held is *closed*; from then on
:mod:`~twisted_mesh.core.history.past_runs` remembers its run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.authors import UNMET, Authors
from twisted_mesh.core.events import Behind, StreamId
from twisted_mesh.core.history.batches import cost
from twisted_mesh.core.history.changes import Changes
from twisted_mesh.core.history.eviction import Shares, reduced
from twisted_mesh.core.history.past_runs import PastRuns
from twisted_mesh.core.history.storage import Restored, StoredRun
from twisted_mesh.core.history.stream import BEYOND_ALL, Ready, Skip, Stream
from twisted_mesh.errors import RemoteError
from twisted_mesh.identity import id_of
from twisted_mesh.network import Cuts
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Batch, SignedBatch, SignedHeader
from twisted_mesh.wire.fields import MAX_NUMBER

BETWEEN_HOLES: Final = 1.0  # seconds from one given up hole of a stream to the next (guess)
_NONE: Final[Mapping[str, int]] = MappingProxyType({})
NOTHING: Final = (0, b"")  # the end of a run of a removed node that its cuts do not name
SHARE: Final = 16  # an origin with over a sixteenth of all open streams is the first to lose some (guess)


class History:
    """Every stream that this node has met; iterating gives the open ones.

    :ivar authors: the authors that this node has met.
    :ivar past: the runs of which no message is held.
    :ivar held_bytes: cost of the held batches in memory, of all streams together.
    :ivar waiting_bytes: cost of the batches that wait behind holes, of all streams together.
    :ivar consumers: the named consumers, as in :class:`~twisted_mesh.core.history.storage.Flush`.
    :ivar is_joining: whether it is not known yet which runs had ended before this node joined.  No message
        of a run that is met meanwhile is delivered before :meth:`settle`.
    """

    def __init__(self, config: MeshConfig, changes: Changes | None = None) -> None:
        """:param changes: gathers what is to be stored; without it everything is in memory alone."""
        self._config = config
        self._changes = changes
        self.authors = Authors(config)
        self.past = PastRuns(config, self.authors, changes)
        self._storage = None if changes is None else changes.storage
        self._open: OrderedDict[StreamId, Stream] = OrderedDict()  # the longest idle first
        self._of: dict[bytes, OrderedDict[StreamId, Stream]] = {}  # by origin, in the same order
        self._share = max(1, config.open_streams // SHARE)
        self._greedy: dict[bytes, None] = {}  # origins with more than their share of open streams
        self._holed: dict[StreamId, Stream] = {}  # streams with a hole
        self._cuts: Mapping[bytes, Cuts] = {}  # bounded by the bytes of a policy
        self.held_bytes = 0
        self.waiting_bytes = 0
        self.consumers: Mapping[str, int] = {}
        self._unplaced: dict[StreamId, None] = {}  # runs closed while a named consumer was behind
        self.is_joining = False

    @property
    def open_streams(self) -> int:
        """How many runs have an open stream."""
        return len(self._open)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._open.values())

    def get(self, run: StreamId) -> Stream | None:
        """The stream of *run*, if it is open."""
        return self._open.get(run)

    def fetched(self, run: StreamId, count: int) -> None:
        """Note that *count* messages of *run*, which is open, came because this node had asked for them."""
        self._open[run].fetched += count

    def head(self, run: StreamId) -> int:
        """The head of *run*, 0 if the run is unknown."""
        stream = self._open.get(run)
        return stream.head if stream is not None else self.past.head(run)

    def is_known(self, run: StreamId) -> bool:
        """Whether *run* has an open stream, or a closed one of which a message came."""
        return run in self._open or self.past.head(run) > 0

    def start_at(
        self, run: StreamId, head: int, base: int | None, now: float, header: SignedHeader | None = None
    ) -> None:
        """Begin the stream of *run*, if it is not open: messages up to *head* cannot come any more.

        :param base: messages up to it are not delivered here; None if :meth:`settle` will tell it.
        :param header: the verified header of a batch of the run, if one is known.
        """
        if run not in self._open:
            most = self.most(run)
            if header is not None and header.batch.last > most:
                header = None
            stream = self._begin(run, min(head, most), BEYOND_ALL if base is None else base, now)
            stream.settles, stream.header = base is None, header
            stream.signed = 0 if header is None else header.batch.last
            self.changed(run)

    def cut(self, cuts: Mapping[bytes, Cuts], now: float | None) -> Iterator[tuple[StreamId, int, int]]:
        """Take no message beyond *cuts*, and hold none; yield the runs of which more was delivered here.

        :param cuts: by origin, the ends of its runs.
        :param now: None at the start: no message is missing by the cuts alone.
        :return: each run with the first and the last message that was delivered and is not to be.
        """
        before, self._cuts = self._cuts, cuts
        for origin, ends in cuts.items():
            for run, stream in list(self._of.get(origin, {}).items()):
                end = ends.get(run[1], NOTHING)
                if (known := before.get(origin)) is not None and known.get(run[1], NOTHING) == end:
                    continue
                if delivered := stream.cut(*end, now):
                    yield run, min(end[0] + 1, delivered), delivered
                self._account(stream)
                self.changed(run)

    def most(self, run: StreamId) -> int:
        """The highest message that is taken of *run*: the end of a run of a node that was removed."""
        ends = self._cuts.get(run[0])
        return MAX_NUMBER if ends is None else ends.get(run[1], NOTHING)[0]

    def is_beyond_cut(self, signed: SignedBatch) -> bool:
        """Whether a batch has messages of a removed node that are not taken."""
        batch = signed.batch
        if (ends := self._cuts.get(batch.origin)) is None:
            return False
        last, hash = ends.get(batch.epoch, NOTHING)
        return batch.last > last or (batch.last == last and hash not in (b"", signed.header.hash))

    def ends(self, origin: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Each known run of *origin*, the newest first: epoch, head, and the hash of the header there."""
        found = {epoch: (head, b"") for epoch, head in self.past.closed_of(origin)}
        found |= {run[1]: (one.head, one.hash) for run, one in self._of.get(origin, {}).items()}
        for epoch in sorted(found, reverse=True):
            yield epoch, *found[epoch]

    def origin_of(self, id: bytes) -> bytes | None:
        """The origin of the node *id*, if messages of it are held."""
        return next((origin for origin in self._of if id_of(origin) == id), None)

    def raise_floor(self, origin: bytes, floor: int) -> Iterator[Skip]:
        """Take no message of *origin*'s runs below *floor*; yield the holes of runs that are discarded."""
        if self.past.raise_floor(origin, floor):
            yield from self._close_below(origin, floor)

    def end(self, run: StreamId) -> None:
        """Deliver nothing more of *run*, if it is open."""
        if (stream := self._open.get(run)) is not None:
            stream.base = BEYOND_ALL
            self.changed(run)

    def restore(self, restored: Restored, origin: bytes, now: float) -> None:
        """Begin with what a store held.

        :param origin: this node's own.  Its runs are never delivered here, so the *base* of each is the
            last message that a neighbour has.
        """
        assert self._changes is not None
        self._changes.settled = restored.settled
        self.consumers = restored.consumers
        self.authors.met(origin, None, now)
        for marks in restored.marks:
            if marks.introducer != UNMET:
                self.authors.met(marks.run[0], marks.introducer, now)
        for marks in restored.marks:
            stream = self._begin(marks.run, marks.head, marks.base, now)
            stream.low, stream.equivocated, stream.whole = marks.low, marks.equivocated, marks.whole
            stream.taken, stream.kept = marks.taken, marks.slowest
            if marks.run[0] != origin:
                stream.places = {name: marks.place(name) for name in restored.consumers}
            stream.signed = marks.head
            with suppress(RemoteError):  # a damaged header is one that is not known
                stream.header = codec.unpack_header(marks.header)
            if marks.run[0] == origin:
                stream.base = marks.taken
        self.past.restore(restored)

    def accepted_of_earlier(self, run: StreamId, sequence: int) -> None:
        """Note that a neighbour has all messages up to *sequence* of *run*, an earlier run of this node."""
        stream = self._open.get(run)
        if stream is not None and stream.base < min(sequence, stream.head):
            stream.base = min(sequence, stream.head)
            self.changed(run)

    def stored_runs(self) -> Mapping[StreamId, StoredRun]:
        """The streams of which a store has batches."""
        return {} if self._storage is None else self._storage.runs()

    @property
    def is_stored(self) -> bool:
        """Whether there is a store."""
        return self._changes is not None

    def taken(self, run: StreamId, sequence: int, places: Mapping[str, int] = _NONE) -> None:
        """Note how far the consumers have taken *run* (:class:`~twisted_mesh.core.events.Taken`)."""
        if (stream := self._open.get(run)) is not None:
            stream.taken, stream.places = sequence, places
            stream.batches.drop(stream.slowest, stream.batches.gap_end)  # held for these consumers alone
            self._account(stream)
            self.changed(run)

    def name_consumers(self, names: Mapping[str, int]) -> None:
        """Note which named consumers there are; forget the places of others in all streams."""
        gone, self.consumers = self.consumers.keys() - names.keys(), names
        if self._changes is not None:
            self._changes.consumers_changed(names)
        for stream in self._open.values() if gone else ():
            if gone & stream.places.keys():
                stream.places = {name: at for name, at in stream.places.items() if name not in gone}
                self.changed(stream.run)

    def place(self, name: str, seconds: float, own: bytes, now: float) -> list[Behind]:
        """Let a new consumer begin with the messages that came in the last *seconds*.

        :param own: this node's origin; its messages are for nobody here.
        :return: the streams of which it is to get messages that are held already.
        """
        behind = []
        for stream in self._open.values():
            if stream.run[0] == own or stream.base == BEYOND_ALL:
                continue
            first = stream.first_since(seconds, now) if seconds else stream.head + 1
            place = max(first - 1, stream.base)
            stream.places = {**stream.places, name: place}
            self.changed(stream.run)
            if place < stream.head:
                behind.append(Behind(stream.run, place, stream.head))
        return behind

    def passed_over(self) -> Iterator[tuple[StreamId, int]]:
        """The runs of which named consumers did not take all messages while these were held.

        Each with the last message that is not held any more.  Messages below a gap do not count.
        """
        for stream in self._open.values() if self.consumers else ():
            place, last = min(stream.places.values(), default=stream.head), stream.low - 1
            if stream.batches.gap_end - 1 <= place < last and stream.whole <= last:
                yield stream.run, last

    def unplaced(self) -> Iterable[StreamId]:
        """The runs that were closed since the last call while a named consumer was behind."""
        unplaced, self._unplaced = self._unplaced, {}
        return unplaced

    def changed(self, run: StreamId) -> None:
        """Note that *run*, if its stream is open, has something to be stored."""
        if self._changes is not None and run in self._open:
            self._changes.changed(run)

    def distrust(self, stream: Stream) -> None:
        """Count the author of *stream*, a run with a fork, as one that was not met so far."""
        origin = stream.run[0]
        self.authors.forget(origin)
        for each in self._of[origin].values():
            each.introducer = UNMET
            self.changed(each.run)

    def discard(self, run: StreamId) -> None:
        """Forget all of *run* but its head."""
        if (stream := self._open.get(run)) is not None:
            self._close(stream)

    def follows(self, batch: Batch) -> bool:
        """Whether *batch* is the next one of an open stream, as nearly all are (:meth:`Stream.is_next`)."""
        stream = self._open.get((batch.origin, batch.epoch))
        return stream is not None and stream.is_next(batch)

    def is_duplicate(self, batch: Batch) -> bool:
        """Whether all messages of *batch* have come already, or its run is void."""
        run = (batch.origin, batch.epoch)
        if (stream := self._open.get(run)) is None:
            return batch.last <= self.past.head(run) or self.past.is_void(run)
        return stream.covers(batch)

    @property
    def has_holes(self) -> bool:
        """Whether any stream has a hole."""
        return bool(self._holed)

    def has_hole(self, run: StreamId) -> bool:
        """Whether a message of *run* is missing that is known to exist."""
        return run in self._holed

    def next_missing(self, run: StreamId, first: int, last: int) -> tuple[int, int] | None:
        """The lowest range of messages *first* to *last* of *run* that has not come, or None."""
        last = min(last, self.most(run))
        if (stream := self._open.get(run)) is not None:
            return stream.next_missing(first, last)
        first = max(first, self.past.head(run) + 1)
        return (first, last) if first <= last and not self.past.is_void(run) else None

    def has_room(self, signed: SignedBatch) -> bool:
        """Whether *signed* joins the head of its stream, or there is memory in which it can wait."""
        batch = signed.batch
        joins = batch.first <= self.head((batch.origin, batch.epoch)) + 1
        return joins or self.waiting_bytes + cost(signed) <= self._config.waiting_bytes

    def add(self, signed: SignedBatch, now: float, host: str | None = None) -> list[Ready]:
        """Hold a verified batch that is no duplicate and has room; return the batches to deliver now.

        :param host: the host at the far end of the link that brought it; None if this node is its author.
        """
        run = (signed.batch.origin, signed.batch.epoch)
        if (stream := self._open.get(run)) is None:
            stream = self._meet(run, now)
        if stream.introducer == UNMET:
            stream.introducer = self.authors.met(run[0], host, now)
        self._use(stream)
        self.changed(run)
        ready = stream.keep(signed, now)
        self._account(stream)
        return ready

    def hinted(self, run: StreamId, sequence: int, now: float) -> None:
        """Note that the author of *run* says that *sequence* is its last message."""
        stream, sequence = self._open.get(run), min(sequence, self.most(run))
        if stream is not None and stream.equivocated:
            return  # nothing more of the run is held, so nothing is missing
        if stream is None:
            if sequence <= self.past.head(run) or self.past.is_void(run):
                return
            stream = self._meet(run, now)
            self.changed(run)
        stream.hint(sequence, now)
        self._account(stream)

    def skipped(self, run: StreamId, sequence: int) -> None:
        """Note that the application will not take all messages of *run* up to *sequence*."""
        if (stream := self._open.get(run)) is not None and stream.whole <= sequence:
            stream.whole = sequence + 1
            self.changed(run)

    def waits_for_base(self, run: StreamId) -> bool:
        """Whether the base of *run* is not known yet."""
        return self.is_joining and (stream := self._open.get(run)) is not None and stream.settles

    def pushed(self, run: StreamId, first: int) -> None:
        """Note that a verified batch of *run* came unasked: its messages, from *first* on, are new."""
        stream = self._open[run]
        stream.pushed = min(stream.pushed, first)

    def before_pushed(self, run: StreamId) -> int:
        """The number before the lowest message of *run* that was pushed before its base was known."""
        return self._open[run].pushed - 1

    def settle(self, run: StreamId, base: int) -> Skip:
        """Set the base of *run*, which :meth:`start_at` left open (:meth:`Stream.settle`)."""
        stream = self._open[run]
        skip = stream.settle(base)
        self._account(stream)
        self.changed(run)
        return skip

    def holes(self) -> Iterator[tuple[StreamId, float]]:
        """The runs with a hole, each with the time at which its lowest hole was found or last shrank."""
        for stream in self._holed.values():
            since = stream.hole_since
            assert since is not None  # it has one
            yield stream.run, since

    @property
    def oldest_hole(self) -> float | None:
        """From when :meth:`give_up` counts the seconds of the oldest hole; None if there is no hole."""
        since = [stream.patient_since for stream in self._holed.values()]
        return min((at for at in since if at is not None), default=None)

    def wait_on(self, run: StreamId, now: float) -> None:
        """Note that messages for the lowest hole of *run* are on their way."""
        if (stream := self._open.get(run)) is not None:
            stream.awaited_at = max(stream.awaited_at, now)

    def give_up(self, now: float, patience: float) -> Iterator[Skip]:
        """Give up the lowest hole of each stream, if it made no progress for *patience* seconds.

        The next hole of the same stream stays for :data:`BETWEEN_HOLES`.  The messages between the two
        are announced only now, and a neighbour needs time to ask for them.
        """
        for stream in list(self._holed.values()):
            # This is the sum to which the timer is set, so that both are rounded alike.
            while (hole := stream.patient_since) is not None and hole + patience <= now:
                gap, ready = self._skip(stream)
                if gap.first <= gap.last:
                    stream.moved_at = now - patience + BETWEEN_HOLES
                yield gap, ready

    @property
    def is_over_limits(self) -> bool:
        """Whether :meth:`evict` has something to do, or :meth:`unplaced` something to tell: hardly ever."""
        return (
            self.held_bytes > self._config.history_bytes
            or len(self._open) > self._config.open_streams
            or self.past.is_over_limits
            or bool(self._unplaced)
        )

    def evict(self, own: StreamId, own_accepted: int, now: float) -> Iterator[Skip]:
        """Keep to the limits of bytes, streams and heads; yield the holes of streams that had to be closed.

        :param own: this node's run: its messages above *own_accepted* are never given up.
        """
        config = self._config
        if self.held_bytes > config.history_bytes:
            if self._storage is not None:
                self._evict_bytes(own, own_accepted, lost=False)
            if self.held_bytes > config.history_bytes:
                self._evict_bytes(own, own_accepted, lost=True)
        while (crowded := self.past.crowded) is not None:
            yield from self._forget_lowest(crowded, own)
        while len(self._open) > config.open_streams:
            streams = self._of[next(iter(self._greedy))] if self._greedy else self._open
            stream = next(iter(streams.values()))
            if stream.run == own:
                self._use(stream)
                continue
            while stream.has_hole:
                yield self._skip(stream)
            self._close(stream)
        self.past.keep_within_limit(now)

    def age(self, now: float, own: StreamId, own_accepted: int) -> None:
        """Give up batches older than ``history_seconds``, and close streams that are empty by then.

        This notes, too, which authors are known by now.
        """
        before = now - self._config.history_seconds
        for stream in list(self._open.values()):
            self._introduce(stream, own, now)
            while (oldest := stream.batches.oldest()) is not None and oldest[0] <= before:
                if stream.run == own and oldest[1] > own_accepted:
                    break
                if self._storage is not None and oldest[1] > stream.stored:
                    break  # the batch waited behind a hole for so long, and is about to be stored
                stream.drop_oldest()
            self._account(stream)
            idle = stream.low > stream.head and not len(stream) and stream.moved_at <= before
            if idle and not stream.has_hole and not stream.lags and stream.run != own:
                self._close(stream)
        self.past.keep_within_limit(now)

    def footprint(self) -> dict[str, int]:
        """The number of entries, or of bytes, in every table."""
        return {
            "open_streams": len(self._open),
            **self.authors.footprint(),
            **self.past.footprint(),
            "holed_streams": len(self._holed),
            "held_batches": sum(map(len, self._open.values())),
            "held_bytes": self.held_bytes,
            "waiting_bytes": self.waiting_bytes,
        }

    def _evict_bytes(self, own: StreamId, own_accepted: int, *, lost: bool) -> None:
        """Drop batches from memory down to the limit.

        :param lost: drop also batches that are not stored, since storing fails or takes too long.
        """
        target = reduced(self._config.history_bytes)
        shares = Shares(
            (stream.run, stream.introducer, stream.batches.held_bytes) for stream in self._open.values()
        )
        while self.held_bytes > target and (run := shares.turn) is not None:
            stream = self._open[run]
            held = stream.batches.held_bytes
            oldest = stream.batches.oldest()
            last = None if oldest is None else oldest[1]
            if (
                last is not None
                and (run != own or last <= own_accepted)
                and (lost or last <= stream.stored)
            ):
                stream.drop_oldest()
                self._account(stream)
                shares.gave_up(held - stream.batches.held_bytes)
            else:
                shares.pass_over()

    def _skip(self, stream: Stream) -> Skip:
        skip = stream.skip()
        self._account(stream)
        self.changed(stream.run)
        return skip

    def _account(self, stream: Stream) -> None:
        """Bring the sums over all streams, and the table of holes, up to date: *stream* has changed."""
        held, waiting = stream.counted
        stream.counted = stream.batches.held_bytes, stream.batches.waiting_bytes
        self.held_bytes += stream.batches.held_bytes - held
        self.waiting_bytes += stream.batches.waiting_bytes - waiting
        if stream.has_hole:
            self._holed[stream.run] = stream
        else:
            self._holed.pop(stream.run, None)

    def _meet(self, run: StreamId, now: float) -> Stream:
        """Open the stream of a run of which no SNAPSHOT has said where it begins."""
        waits = self.is_joining and run not in self.past
        stream = self._begin(run, 0, BEYOND_ALL if waits or self.past.had_ended(run) else 0, now)
        stream.settles = waits
        return stream

    def _begin(self, run: StreamId, head: int, base: int, now: float) -> Stream:
        """Open a stream; if it was closed, it begins no lower than its known head."""
        closed = self.past.reopen(run)
        stream = self._open[run] = Stream(run, max(head, closed), max(base, closed), now, self._storage)
        stream.introducer = self.authors.introducer(run[0], now)
        siblings = self._of.setdefault(run[0], OrderedDict())
        siblings[run] = stream
        if len(siblings) > self._share:
            self._greedy[run[0]] = None
        return stream

    def _introduce(self, stream: Stream, own: StreamId, now: float) -> None:
        """Note in *stream* whether its author is known by now."""
        origin = stream.run[0]
        introducer = None if origin == own[0] else self.authors.introducer(origin, now)
        if introducer != stream.introducer:
            stream.introducer = introducer
            self.changed(stream.run)

    def _use(self, stream: Stream) -> None:
        """Make *stream* the one that was used last."""
        self._open.move_to_end(stream.run)
        self._of[stream.run[0]].move_to_end(stream.run)

    def _close(self, stream: Stream) -> None:
        origin = stream.run[0]
        siblings = self._of[origin]
        del self._open[stream.run], siblings[stream.run]
        if not siblings:
            del self._of[origin]
        if len(siblings) <= self._share:
            self._greedy.pop(origin, None)
        self.held_bytes -= stream.batches.held_bytes
        if stream.lags:
            self._unplaced[stream.run] = None
        # If the stream opens again, messages up to its base, if that is known, are not delivered either.
        head = stream.head if stream.base == BEYOND_ALL else max(stream.head, stream.base)
        self.past.close(stream.run, head, stream.introducer, signed=stream.signed > 0)

    def _forget_lowest(self, origin: bytes, own: StreamId) -> Iterator[Skip]:
        """Forget the lowest closed runs of *origin*, which has too many; lower open runs are closed first.

        They would be delivered again, so from now on nothing is taken of them.
        """
        while (lowest := self.past.lowest_too_many(origin)) is not None:
            yield from self._close_below(origin, lowest, spared=own)
            lowest = self.past.forget_lowest(origin)
            if origin != own[0]:
                yield from self.raise_floor(origin, lowest + 1)

    def _close_below(self, origin: bytes, epoch: int, spared: StreamId | None = None) -> Iterator[Skip]:
        """Close the runs of *origin* below *epoch*, but *spared*; yield their holes."""
        lower = [one for run, one in self._of.get(origin, {}).items() if run[1] < epoch and run != spared]
        for stream in lower:
            while stream.has_hole:
                yield self._skip(stream)
            self._close(stream)
