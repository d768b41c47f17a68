"""Streams: which messages of which run have come, and which of them may be delivered now.

Contract: a stream is one run (origin, epoch) of a node, its messages numbered from 1.  ``head`` is
the last number up to which all came.  :meth:`Streams.is_duplicate` answers from numbers alone, so
that it can be asked before a signature is verified: memory is O(open streams), without time-outs
and without a cache of what was seen.  :meth:`Streams.take` returns what a batch makes deliverable,
in order.  A hole is given up by :meth:`Streams.give_up` when nothing has filled it in time.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from twisted_mesh.core.events import GapFound
from twisted_mesh.wire.native import Batch, SignedBatch

Run = tuple[bytes, int]  # origin, epoch
_PER_BATCH: Final = 500  # bytes of Python around a waiting batch's own (measured, rounded up)


class Ready:
    """A batch to be delivered from its message number *start* on."""

    __slots__ = ("batch", "start")

    def __init__(self, batch: Batch, start: int) -> None:
        self.batch = batch
        self.start = start


class Stream:
    """One run as this node has received it."""

    __slots__ = ("_firsts", "_waiting", "head", "progress", "run", "waiting_bytes")

    def __init__(self, run: Run, head: int, now: float) -> None:
        self.run = run
        self.head = head
        self.progress = now  # when the head last moved by what came
        self.waiting_bytes = 0
        # Behind a hole, by first sequence, each with when it came.
        self._waiting: dict[int, tuple[SignedBatch, float]] = {}
        self._firsts: list[int] = []  # its keys, sorted

    def __len__(self) -> int:
        """Batches that wait behind a hole."""
        return len(self._firsts)

    @property
    def waiting(self) -> Iterator[SignedBatch]:
        """The batches behind a hole, in order."""
        return (self._waiting[first][0] for first in self._firsts)

    @property
    def hole_since(self) -> float | None:
        """Since when the lowest hole is without progress, or None where there is none."""
        if not self._firsts:
            return None
        return max(self.progress, self._waiting[self._firsts[0]][1])

    def covers(self, batch: Batch) -> bool:
        """Whether everything in *batch* has come already."""
        if batch.last <= self.head:
            return True
        before = bisect_right(self._firsts, batch.first)
        return before > 0 and self._waiting[self._firsts[before - 1]][0].batch.last >= batch.last

    def keep(self, signed: SignedBatch, now: float) -> None:
        """Let *signed* wait behind the hole in front of it."""
        first = signed.batch.first
        held = self._waiting.get(first)
        if held is None:
            insort(self._firsts, first)
        else:  # a longer one from the same start takes its place
            self.waiting_bytes -= cost(held[0])
            now = held[1]
        self._waiting[first] = signed, now
        self.waiting_bytes += cost(signed)

    def advance(self, batch: Batch) -> list[Ready]:
        """*batch*, which joins the head, and whatever it lets go on."""
        ready = [Ready(batch, self.head + 1)]
        self.head = batch.last
        joined = 0
        for first in self._firsts:
            if first > self.head + 1:
                break
            joined += 1
            waiting = self._release(first)
            if waiting.last > self.head:
                ready.append(Ready(waiting, self.head + 1))
                self.head = waiting.last
        del self._firsts[:joined]  # at once: one by one it would be quadratic
        return ready

    def skip(self) -> tuple[GapFound, list[Ready]]:
        """Give the lowest hole up: the gap, and what waited behind it."""
        batch = self._release(self._firsts.pop(0))
        gap = GapFound(*self.run, self.head + 1, batch.first - 1)
        self.head = batch.first - 1
        return gap, self.advance(batch)

    def _release(self, first: int) -> Batch:
        signed, _ = self._waiting.pop(first)
        self.waiting_bytes -= cost(signed)
        return signed.batch


def cost(signed: SignedBatch) -> int:
    """Bytes that *signed* counts for while it waits; its body, decoded, is not counted again."""
    return len(signed.array) + _PER_BATCH


class Streams:
    """Every stream this node has met.

    :ivar waiting_bytes: what waits behind holes, all streams together.
    """

    def __init__(self, *, waiting_limit: int, open_limit: int, closed_limit: int) -> None:
        self._waiting_limit = waiting_limit
        self._open_limit = open_limit
        self._closed_limit = closed_limit
        self._open: OrderedDict[Run, Stream] = OrderedDict()  # the longest idle first
        self._closed: OrderedDict[Run, int] = OrderedDict()  # heads alone, the oldest first
        self._holed: dict[Run, Stream] = {}  # those with batches that wait
        self.waiting_bytes = 0

    def __iter__(self) -> Iterator[Stream]:
        """The open streams."""
        return iter(self._open.values())

    def head(self, run: Run) -> int:
        """The head of *run*, 0 where it is unknown."""
        stream = self._open.get(run)
        return stream.head if stream is not None else self._closed.get(run, 0)

    def start_at(self, run: Run, base: int, now: float) -> None:
        """Take everything up to *base* of *run*, which no batch has come of, as come."""
        # Open, though nothing came: who joins through this node must be told of it as well.
        self._open[run] = Stream(run, base, now)
        if len(self._open) > self._open_limit:
            self._close(next(iter(self)))

    def is_duplicate(self, batch: Batch) -> bool:
        """Whether everything in *batch* has come already."""
        stream = self._open.get((batch.origin, batch.epoch))
        if stream is None:
            return batch.last <= self._closed.get((batch.origin, batch.epoch), 0)
        return stream.covers(batch)

    def has_room(self, signed: SignedBatch) -> bool:
        """Whether *signed* may be kept: it joins its head, or the waiting room has space."""
        batch = signed.batch
        joins = batch.first <= self.head((batch.origin, batch.epoch)) + 1
        return joins or self.waiting_bytes + cost(signed) <= self._waiting_limit

    def take(self, signed: SignedBatch, now: float) -> list[Ready]:
        """Take a verified batch that is no duplicate and has room; what can be delivered now."""
        batch = signed.batch
        run = (batch.origin, batch.epoch)
        stream = self._open.get(run)
        if stream is None:
            stream = self._open[run] = Stream(run, self._closed.pop(run, 0), now)
        self._open.move_to_end(run)  # the latest in use
        before, ready = stream.waiting_bytes, []
        if batch.first > stream.head + 1:
            stream.keep(signed, now)
        else:
            stream.progress = now
            ready = stream.advance(batch)
        self._account(stream, before)
        return ready

    @property
    def oldest_hole(self) -> float | None:
        """Since when the hole that is longest without progress is so, or None without holes."""
        since = [stream.hole_since for stream in self._holed.values()]
        return min((at for at in since if at is not None), default=None)

    def give_up(self, now: float, patience: float) -> Iterator[tuple[GapFound, list[Ready]]]:
        """Give up every hole *patience* seconds without progress; each gap and what follows."""
        for stream in list(self._holed.values()):
            # The very sum a timer is set to: a difference would be rounded otherwise, and a timer
            # that fires on time find nothing to do, again and again.
            while (hole := stream.hole_since) is not None and hole + patience <= now:
                yield self._skip(stream)

    def close_idle(self) -> Iterator[tuple[GapFound, list[Ready]]]:
        """Close the longest idle streams beyond the limit; gaps for those still with a hole."""
        while len(self._open) > self._open_limit:
            stream = next(iter(self))
            while len(stream):
                yield self._skip(stream)
            self._close(stream)

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            "open_streams": len(self._open),
            "closed_streams": len(self._closed),
            "waiting_batches": sum(map(len, self._holed.values())),
            "waiting_bytes": self.waiting_bytes,
        }

    def _skip(self, stream: Stream) -> tuple[GapFound, list[Ready]]:
        before = stream.waiting_bytes
        gap, ready = stream.skip()
        self._account(stream, before)
        return gap, ready

    def _account(self, stream: Stream, before: int) -> None:
        """Keep the sums over all streams right after *stream*, which held *before*, changed."""
        self.waiting_bytes += stream.waiting_bytes - before
        if len(stream):
            self._holed[stream.run] = stream
        else:
            self._holed.pop(stream.run, None)

    def _close(self, stream: Stream) -> None:
        del self._open[stream.run]
        self._closed[stream.run] = stream.head
        if len(self._closed) > self._closed_limit:
            self._closed.popitem(last=False)
