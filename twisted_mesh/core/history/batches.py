"""The batches of one stream that are in memory: *held* ones, and those that *wait* behind a hole.

Contract: this keeps the batches in order, with the time at which each came, and adds up their sizes.
:class:`~twisted_mesh.core.history.stream.Stream` decides which batches are announced or delivered.

A small batch is kept as its payload, and decoded when it is read.  So a batch of one message of 64 bytes
takes 440 bytes; as objects it took 1,200 (measured).  If its body is a view of its frame, it is kept as it
is: it is large, and packing would copy it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from math import inf
from typing import Final

import msgspec

from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Batch, SignedBatch

_AROUND: Final = 300  # bytes around the array and the body of a small batch (measured: 220 to 280)


def cost(signed: SignedBatch) -> int:
    """Bytes of memory that *signed* takes here: its array, its body, and what is around them."""
    return signed.size + _AROUND


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """A batch that came at the time *arrived*.

    :ivar last: its last message.
    :ivar content: its payload if it is small, or else the batch itself.
    """

    arrived: float
    last: int
    content: bytes | SignedBatch

    @property
    def signed(self) -> SignedBatch:
        content = self.content
        return codec.unpack_batch(content) if isinstance(content, bytes) else content

    @property
    def size(self) -> int:
        """Bytes of the batch's array and body."""
        content = self.content
        return len(content) - codec.BATCH_ARRAY if isinstance(content, bytes) else content.size

    @property
    def cost(self) -> int:
        """The :func:`cost` of the batch."""
        return self.size + _AROUND


def _kept(signed: SignedBatch, arrived: float) -> _Kept:
    content = codec.pack_batch(signed) if isinstance(signed.body, bytes) else signed
    return _Kept(arrived, signed.batch.last, content)


class Batches:
    """The batches of one stream in memory; ``len()`` counts them.

    No held batch lies within another held one, and no waiting batch within another waiting one.  So both
    groups are sorted by the first message and by the last message at once.

    :ivar held_bytes: the :func:`cost` of all held batches; :ivar waiting_bytes: that of all waiting ones.
    :ivar gap_end: a gap separates the head of the stream from held batches that begin below this number.
    """

    __slots__ = ("_by_first", "_held", "_waiting", "gap_end", "held_bytes", "waiting_bytes")

    def __init__(self) -> None:
        self._by_first: dict[int, _Kept] = {}  # by first message
        self._held: deque[int] = deque()  # the first messages of held batches, sorted
        self._waiting: list[int] = []
        self.gap_end = self.held_bytes = self.waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._by_first)

    def get(self, first: int) -> SignedBatch | None:
        """The batch that begins with message *first*."""
        kept = self._by_first.get(first)
        return None if kept is None else kept.signed

    def beside(self, first: int) -> Iterator[SignedBatch]:
        """The batch that begins with message *first*, and the waiting batches next to it."""
        if (same := self._by_first.get(first)) is not None:
            yield same.signed
        at = bisect_left(self._waiting, first)
        for number in self._waiting[max(at - 1, 0) : at + 1]:
            yield self._by_first[number].signed

    @property
    def first_held(self) -> int | None:
        """The lowest message that is held, or None."""
        return self._held[0] if self._held else None

    @property
    def first_waiting(self) -> int | None:
        """The lowest message that waits, or None."""
        return self._waiting[0] if self._waiting else None

    @property
    def waiting_since(self) -> float:
        """When the lowest waiting batch came, or the shorter batch in whose place it is."""
        return self._by_first[self._waiting[0]].arrived

    def begin(self, head: int) -> int:
        """The lowest message from which on all up to *head* are held; *head* + 1 if there is none."""
        held = self._held
        at = 0 if not held or held[0] >= self.gap_end else bisect_left(held, self.gap_end)
        return held[at] if at < len(held) else head + 1

    def is_waiting(self, batch: Batch) -> bool:
        """Whether one waiting batch has all messages of *batch*."""
        before = bisect_right(self._waiting, batch.first)
        return before > 0 and self._last(self._waiting[before - 1]) >= batch.last

    def next_missing(self, first: int, high: int) -> tuple[int, int] | None:
        """The lowest range within *first* to *high* that no waiting batch has, or None."""
        for at in range(max(bisect_right(self._waiting, first) - 1, 0), len(self._waiting)):
            waiting = self._waiting[at]
            if waiting > first or first > high:
                high = min(high, waiting - 1)
                break
            first = max(first, self._last(waiting) + 1)
        return (first, high) if first <= high else None

    def wait(self, signed: SignedBatch, now: float) -> None:
        """Let *signed* wait behind a hole, and drop the waiting batches that lie within *signed*."""
        batch = signed.batch
        start = end = bisect_left(self._waiting, batch.first)
        # If it replaces a shorter batch with the same first message, the hole before it keeps its age.
        same = self._by_first.get(batch.first)
        while end < len(self._waiting) and self._last(self._waiting[end]) <= batch.last:
            self.waiting_bytes -= self._by_first.pop(self._waiting[end]).cost
            end += 1
        self._waiting[start:end] = [batch.first]
        self._by_first[batch.first] = _kept(signed, now if same is None else same.arrived)
        self.waiting_bytes += cost(signed)

    def join(self, signed: SignedBatch, arrived: float) -> list[SignedBatch]:
        """Hold *signed*, and the waiting batches that follow it without a hole; return these batches."""
        self._hold(signed, arrived)
        joined = [signed]
        passed = 0
        for first in self._waiting:
            if first > joined[-1].batch.last + 1:
                break
            passed += 1
            waiting = self._by_first.pop(first)
            self.waiting_bytes -= waiting.cost
            if waiting.last > joined[-1].batch.last:
                joined.append(waiting.signed)
                self._hold(joined[-1], waiting.arrived)
        del self._waiting[:passed]  # all at once: one by one would take quadratic time
        return joined

    def join_waiting(self) -> list[SignedBatch]:
        """Hold the lowest waiting batch, and the waiting batches that follow it without a hole.

        :return: these batches.
        """
        waiting = self._by_first.pop(self._waiting.pop(0))
        self.waiting_bytes -= waiting.cost
        return self.join(waiting.signed, waiting.arrived)

    def _hold(self, signed: SignedBatch, arrived: float) -> None:
        first = signed.batch.first
        while self._held and self._held[-1] >= first:
            self.held_bytes -= self._by_first.pop(self._held.pop()).cost
        self.gap_end = min(self.gap_end, first)  # the batch may lie across a hole that was given up
        self._held.append(first)
        self._by_first[first] = _kept(signed, arrived)
        self.held_bytes += cost(signed)

    def newest_first(self) -> Iterator[tuple[float, SignedBatch]]:
        """The held batches from the highest down, each with the time at which it came."""
        kept = (self._by_first[first] for first in reversed(self._held))
        return ((each.arrived, each.signed) for each in kept)

    def arrivals(self) -> Iterator[tuple[float, int]]:
        """When each held batch came, and its first message; the highest batch is the first."""
        return ((self._by_first[first].arrived, first) for first in reversed(self._held))

    def oldest(self) -> tuple[float, int] | None:
        """When the lowest held batch came, and its last message; None if none is held."""
        if not self._held:
            return None
        kept = self._by_first[self._held[0]]
        return kept.arrived, kept.last

    def drop_oldest(self) -> tuple[int, int]:
        """Forget the lowest held batch; return its first and its last message."""
        first = self._held.popleft()
        kept = self._by_first.pop(first)
        self.held_bytes -= kept.cost
        return first, kept.last

    def drop(self, last: int, below: float = inf) -> None:
        """Forget each held batch that begins before *below* and ends at *last* or earlier."""
        while self._held and self._held[0] < below and self._last(self._held[0]) <= last:
            self.drop_oldest()

    def drop_above(self, last: int) -> None:
        """Forget each batch with a message above *last*."""
        while self._held and self._last(self._held[-1]) > last:
            self.held_bytes -= self._by_first.pop(self._held.pop()).cost
        while self._waiting and self._last(self._waiting[-1]) > last:
            self.waiting_bytes -= self._by_first.pop(self._waiting.pop()).cost

    def read(self, first: int, last: int, most: int, size: int = 0) -> Iterator[SignedBatch]:
        """The batches with any of messages *first* to *last*: at least one, more up to *most* bytes.

        :param size: bytes of *most* that are used up already.
        """
        for start in chain.from_iterable(
            islice(firsts, max(bisect_right(firsts, first) - 1, 0), None)
            for firsts in (self._held, self._waiting)
        ):
            kept = self._by_first[start]
            if kept.last < first:
                continue
            if start > last or (size and size + kept.size > most):
                return
            size += kept.size
            yield kept.signed

    def _last(self, first: int) -> int:
        return self._by_first[first].last
