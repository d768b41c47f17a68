"""What this node holds: the streams of every run it has met, for delivery and for repair.

Contract: what is held is bounded by bytes and age.  The origin with the most bytes gives up first, of its
largest stream the oldest batch, so that nobody can push out another's, with one run or with many; own
messages no neighbour has taken yet are never given up.  A stream of which nothing is held keeps only
its head (*closed*), and those are bounded too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import GapFound, StreamId
from twisted_mesh.core.history.changes import Changes
from twisted_mesh.core.history.eviction import Shares, room_at
from twisted_mesh.core.history.storage import Restored
from twisted_mesh.core.history.stream import Ready, Stream, cost
from twisted_mesh.wire.broadcast import Batch, SignedBatch

BETWEEN_HOLES: Final = 1.0  # seconds from one given up hole of a stream to the next (guess)
SHARE: Final = 16  # an origin with more than this part of open_streams is the first to lose some (guess)


class History:
    """Every stream this node has met, and what is held of each.

    :ivar held_bytes: of what does not wait, all streams together.
    :ivar waiting_bytes: of what waits behind holes, all streams together.
    """

    def __init__(self, config: MeshConfig, changes: Changes | None = None) -> None:
        """:param changes: of what is to be stored; without one all is in memory."""
        self._config = config
        self._changes = changes
        self._storage = None if changes is None else changes.storage
        self._open: OrderedDict[StreamId, Stream] = OrderedDict()  # the longest idle first
        self._of: dict[bytes, OrderedDict[StreamId, Stream]] = {}  # likewise, of each origin
        self._share = max(1, config.open_streams // SHARE)
        self._greedy: dict[bytes, None] = {}  # origins with more than their share of open streams
        self._closed: OrderedDict[StreamId, int] = OrderedDict()  # heads alone, the oldest first
        self._holed: dict[StreamId, Stream] = {}  # those with a hole
        self.held_bytes = 0
        self.waiting_bytes = 0

    def __iter__(self) -> Iterator[Stream]:
        """The open streams."""
        return iter(self._open.values())

    def get(self, run: StreamId) -> Stream | None:
        """The stream of *run*, if it is open."""
        return self._open.get(run)

    def head(self, run: StreamId) -> int:
        """The head of *run*, 0 where it is unknown."""
        stream = self._open.get(run)
        return stream.head if stream is not None else self._closed.get(run, 0)

    def start_at(self, run: StreamId, head: int, base: int, now: float) -> None:
        """Meet *run* with everything to *head* out of reach and to *base* not to be delivered."""
        if run not in self._open:
            closed = self._closed.pop(run, 0)
            self._add(Stream(run, max(head, closed), max(base, closed), now, self._storage))
            self.changed(run)

    def restore(self, restored: Restored, origin: bytes, now: float) -> None:
        """Begin with what a store held.

        :param origin: the own one.  Of its runs nothing is delivered here, and *base* is what some
            neighbour has of them.
        """
        assert self._changes is not None  # of the store
        self._changes.settled = restored.settled
        for run, head in restored.closed:
            self._closed[run] = head
        for marks in restored.marks:
            stream = self._add(Stream(marks.run, marks.head, marks.base, now, self._storage))
            stream.low, stream.equivocated = marks.low, marks.equivocated
            stream.whole = marks.whole
            stream.taken = stream.kept = marks.taken
            stream.signed = marks.head
            if marks.run[0] == origin:
                stream.base = marks.taken

    def taken_of_earlier(self, run: StreamId, sequence: int) -> None:
        """A neighbour has everything up to *sequence* of an earlier own run."""
        stream = self._open.get(run)
        if stream is not None and stream.base < min(sequence, stream.head):
            stream.base = min(sequence, stream.head)
            self.changed(run)

    @property
    def is_stored(self) -> bool:
        """Whether there is a store."""
        return self._changes is not None

    def taken(self, run: StreamId, sequence: int) -> None:
        """Every consumer here has *run* up to *sequence*: what lies below a gap there is held no more."""
        if (stream := self._open.get(run)) is not None:
            before = stream.held_bytes, stream.waiting_bytes
            stream.taken = sequence
            stream.drop_below_gap(sequence)
            self._account(stream, before)
            self.changed(run)

    def changed(self, run: StreamId) -> None:
        """Something of *run* is to be stored, if it is open still."""
        if self._changes is not None and run in self._open:
            self._changes.changed(run)

    def discard(self, run: StreamId) -> None:
        """Forget *run* but for its head."""
        if (stream := self._open.get(run)) is not None:
            self._close(stream)

    def is_duplicate(self, batch: Batch) -> bool:
        """Whether everything in *batch* has come already."""
        if (stream := self._open.get((batch.origin, batch.epoch))) is None:
            return batch.last <= self._closed.get((batch.origin, batch.epoch), 0)
        return stream.covers(batch)

    def has_hole(self, run: StreamId) -> bool:
        """Whether something of *run* is missing that is known to be there."""
        return run in self._holed

    def lacks(self, run: StreamId, first: int, last: int) -> bool:
        """Whether any of messages *first* to *last* of *run* has not come."""
        if (stream := self._open.get(run)) is None:
            return last > self._closed.get(run, 0)
        return stream.next_missing(first, last) is not None

    def has_room(self, signed: SignedBatch) -> bool:
        """Whether *signed* may be kept: it joins its head, or the waiting room has space."""
        batch = signed.batch
        joins = batch.first <= self.head((batch.origin, batch.epoch)) + 1
        return joins or self.waiting_bytes + cost(signed) <= self._config.waiting_bytes

    def take(self, signed: SignedBatch, now: float) -> list[Ready]:
        """Take a verified batch that is no duplicate and has room; what can be delivered now."""
        run = (signed.batch.origin, signed.batch.epoch)
        if (stream := self._open.get(run)) is None:
            closed = self._closed.pop(run, 0)
            stream = self._add(Stream(run, closed, closed, now, self._storage))
        self._use(stream)
        self.changed(run)
        before = stream.held_bytes, stream.waiting_bytes
        ready = stream.keep(signed, now)
        self._account(stream, before)
        return ready

    def hinted(self, run: StreamId, sequence: int, now: float) -> None:
        """The author of *run* has said that *sequence* is the last of it; what is missing is a hole."""
        if (stream := self._open.get(run)) is None:
            closed = self._closed.get(run, 0)
            if sequence <= closed:
                return
            self._closed.pop(run, None)
            stream = self._add(Stream(run, closed, closed, now, self._storage))
            self.changed(run)
        stream.hint(sequence, now)
        self._account(stream, (stream.held_bytes, stream.waiting_bytes))

    def skipped(self, run: StreamId, sequence: int) -> None:
        """The application will not take all of *run* up to *sequence*."""
        if (stream := self._open.get(run)) is not None and stream.whole <= sequence:
            stream.whole = sequence + 1
            self.changed(run)

    def lowered(self, run: StreamId, sequence: int, start: int) -> tuple[GapFound, list[Ready]] | None:
        """Start *run* lower if a neighbour's unsigned word made it start too high: :meth:`Stream.lower`."""
        stream = self._open.get(run)
        lowered = None if stream is None else stream.lower(sequence, start)
        if stream is not None and lowered is not None:
            self._account(stream, (stream.held_bytes, stream.waiting_bytes))
            self.changed(run)
        return lowered

    def holes(self) -> Iterator[tuple[StreamId, float]]:
        """The runs of which something is missing, each with when its lowest hole last shrank."""
        for stream in self._holed.values():
            since = stream.hole_since
            assert since is not None  # it has one
            yield stream.run, since

    @property
    def oldest_hole(self) -> float | None:
        """Since when the hole that is longest without progress is so, or None without holes."""
        since = [stream.patient_since for stream in self._holed.values()]
        return min((at for at in since if at is not None), default=None)

    def wait_on(self, run: StreamId, now: float) -> None:
        """What fills the lowest hole of *run* is on its way."""
        if (stream := self._open.get(run)) is not None:
            stream.wait_on(now)

    def give_up(self, now: float, patience: float) -> Iterator[tuple[GapFound, list[Ready]]]:
        """Give up the lowest hole of each stream without progress for *patience*; gaps and what follows.

        The next hole of the stream is not given up before :data:`BETWEEN_HOLES`: what lies between the
        two is announced now, and would be gone before a neighbour could ask for it.
        """
        for stream in list(self._holed.values()):
            # As a timer for it is computed: what is due when it fires must not fail by rounding.
            while (hole := stream.patient_since) is not None and hole + patience <= now:
                gap, ready = self._skip(stream)
                if gap.first <= gap.last:
                    stream.progress = now - patience + BETWEEN_HOLES
                yield gap, ready

    def evict(self, now: float, own: StreamId, own_taken: int) -> Iterator[tuple[GapFound, list[Ready]]]:
        """Keep to the limits; gaps for streams that had to be closed with a hole.

        :param own: the own run, of which nothing above *own_taken* is given up.
        """
        config = self._config
        if self.held_bytes > config.history_bytes:
            if self._storage is not None:
                self._evict_bytes(own, own_taken, lost=False)
            if self.held_bytes > config.history_bytes:
                self._evict_bytes(own, own_taken, lost=True)
        while len(self._open) > config.open_streams:
            streams = self._of[next(iter(self._greedy))] if self._greedy else self._open
            stream = next(iter(streams.values()))
            if stream.run == own:
                self._use(stream)
                continue
            while stream.has_hole:
                yield self._skip(stream)
            self._close(stream)

    def age(self, now: float, own: StreamId, own_taken: int) -> None:
        """Give up what is older than ``history_seconds``, and close streams nothing is held of."""
        before = now - self._config.history_seconds
        for stream in list(self._open.values()):
            was = stream.held_bytes, stream.waiting_bytes
            while (oldest := stream.oldest()) is not None and oldest[0] <= before:
                if stream.run == own and oldest[1] > own_taken:
                    break
                if self._storage is not None and oldest[1] > stream.stored:
                    break  # it waited behind a hole for so long, and is about to be stored
                stream.drop_oldest()
            self._account(stream, was)
            idle = stream.low > stream.head and not len(stream) and stream.progress <= before
            if idle and not stream.has_hole and stream.run != own:
                self._close(stream)

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            "open_streams": len(self._open),
            "closed_streams": len(self._closed),
            "holed_streams": len(self._holed),
            "held_batches": sum(map(len, self._open.values())),
            "held_bytes": self.held_bytes,
            "waiting_bytes": self.waiting_bytes,
        }

    def _evict_bytes(self, own: StreamId, own_taken: int, *, lost: bool) -> None:
        """Give up what is in memory down to the limit.

        :param lost: also what is not stored, because that cannot be done or takes too long.
        """
        target = room_at(self._config.history_bytes)
        shares = Shares((stream.run, stream.held_bytes) for stream in self._open.values())
        while self.held_bytes > target and (run := shares.turn) is not None:
            stream = self._open[run]
            was = stream.held_bytes, stream.waiting_bytes
            oldest = stream.oldest()
            last = None if oldest is None else oldest[1]
            if last is not None and (run != own or last <= own_taken) and (lost or last <= stream.stored):
                stream.drop_oldest()
                self._account(stream, was)
                shares.gave_up(was[0] - stream.held_bytes)
            else:
                shares.pass_over()

    def _skip(self, stream: Stream) -> tuple[GapFound, list[Ready]]:
        before = stream.held_bytes, stream.waiting_bytes
        gap, ready = stream.skip()
        self._account(stream, before)
        self.changed(stream.run)
        return gap, ready

    def _account(self, stream: Stream, before: tuple[int, int]) -> None:
        """Keep the sums over all streams right after *stream*, which held *before*, changed."""
        self.held_bytes += stream.held_bytes - before[0]
        self.waiting_bytes += stream.waiting_bytes - before[1]
        if stream.has_hole:
            self._holed[stream.run] = stream
        else:
            self._holed.pop(stream.run, None)

    def _add(self, stream: Stream) -> Stream:
        origin = stream.run[0]
        self._open[stream.run] = stream
        siblings = self._of.setdefault(origin, OrderedDict())
        siblings[stream.run] = stream
        if len(siblings) > self._share:
            self._greedy[origin] = None
        return stream

    def _use(self, stream: Stream) -> None:
        """*stream* is the latest in use."""
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
        self.held_bytes -= stream.held_bytes
        # Nor may what was never to be delivered be so when the stream opens again.
        self._closed[stream.run] = max(stream.head, stream.base)
        if self._changes is not None:
            self._changes.closed(stream.run, self._closed[stream.run], self._config.closed_streams)
        if len(self._closed) > self._config.closed_streams:
            self._closed.popitem(last=False)
