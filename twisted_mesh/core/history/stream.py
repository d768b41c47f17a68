"""One stream: the numbered messages of one run of a node, as far as this node has them.

Contract: ``low..head`` is held without a hole, ``head`` is the last number up to which everything came
(held or once held), and what lies beyond a hole waits.  What is a duplicate follows from numbers alone,
so that it can be asked before a signature is verified: memory is O(open streams), without time-outs and
without a cache of what was seen.  What lies below a hole that was given up is held on for consumers here
alone: it is not announced, since a range with a hole in it would be asked for, and the answer be no
progress.  Reading changes nothing: what turns out to be missing in storage is for
:mod:`changes` to say, with :meth:`Stream.begin_behind`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Final

from twisted_mesh.core.events import GapFound, StreamId
from twisted_mesh.core.history.storage import Marks, Missing, Piece, StoredBatches
from twisted_mesh.errors import StoreError
from twisted_mesh.wire.broadcast import Batch, SignedBatch
from twisted_mesh.wire.fields import MAX_NUMBER

_PER_BATCH: Final = 500  # bytes of Python around a batch's own (measured: 480)

_LOOK_ON: Final = 2**20  # bytes behind what is damaged in which something whole is looked for (guess)


class Ready:
    """A batch to be delivered from its message number *start* on."""

    __slots__ = ("batch", "start")

    def __init__(self, batch: Batch, start: int) -> None:
        self.batch = batch
        self.start = start


def cost(signed: SignedBatch) -> int:
    """Bytes that keeping *signed* takes: its array, its body once more, and what is around them."""
    return len(signed.array) + len(signed.batch.body) + _PER_BATCH


class Stream:
    """One run as this node has it.

    :ivar head: the last number up to which everything came.
    :ivar low: the lowest that is held together with all up to the head, or head + 1; what is not in
        memory of that is in storage.
    :ivar base: what is at or under it is held and handed on, but never delivered here.
    :ivar taken: the last that the application has taken, as far as it is known here.
    :ivar kept: the last that is stored as taken.
    :ivar whole: from this number on nothing is missing that was to be delivered.
    :ivar high: the highest number that what its author signed has shown.
    :ivar signed: the highest of a verified batch, or that its author has said there is.
    :ivar held_bytes: of what does not wait; :ivar waiting_bytes: of what waits behind a hole.
    :ivar stored: the last that is in storage; :ivar storing: that is, or is being put there.
    :ivar equivocated: whether its author signed two different things under one number.
    """

    __slots__ = (
        "_arrived",
        "_batches",
        "_behind_gap",
        "_held",
        "_hints",
        "_on_its_way",
        "_storage",
        "_stored_low",
        "_waiting",
        "base",
        "equivocated",
        "head",
        "held_bytes",
        "high",
        "kept",
        "low",
        "progress",
        "run",
        "signed",
        "stored",
        "storing",
        "taken",
        "waiting_bytes",
        "whole",
    )

    def __init__(
        self, run: StreamId, head: int, base: int, now: float, storage: StoredBatches | None = None
    ) -> None:
        self.run = run
        self._storage = storage
        self._stored_low = 0  # nothing below is in storage
        self.head = self.high = head
        self.low = head + 1
        self.stored = self.storing = head
        self.base = self.taken = base
        self.whole = base + 1
        self.kept = 0
        self.signed = 0
        self.progress = now  # when the head last moved by what came
        # What its author said is the last, and when: the first such word beyond the head, and the newest.
        self._hints: list[tuple[int, float]] = []
        self._on_its_way = now  # when what is missing last was
        self.held_bytes = self.waiting_bytes = 0
        self.equivocated = False
        self._batches: dict[int, SignedBatch] = {}  # by first sequence, all of them
        self._arrived: dict[int, float] = {}
        # The firsts of those up to the head and of those behind a hole, sorted.  Of neither does one lie
        # within another, so that the lasts are sorted too.
        self._held: deque[int] = deque()
        self._waiting: list[int] = []
        self._behind_gap = 0  # those held below are separated from the head by a hole that was given up

    def __len__(self) -> int:
        """Batches that are held or wait."""
        return len(self._batches)

    @property
    def first_waiting(self) -> int | None:
        """The number at which the lowest hole ends, or None where there is none."""
        return self._waiting[0] if self._waiting else None

    @property
    def has_hole(self) -> bool:
        """Whether something is missing that is known to be there: before what waits, or at the end."""
        return self.high > self.head

    @property
    def hole_since(self) -> float | None:
        """Since when the lowest hole is without progress, or None where there is none."""
        if self._waiting:
            return max(self.progress, self._arrived[self._waiting[0]])
        return max(self.progress, self._hint[1]) if self.has_hole else None

    @property
    def patient_since(self) -> float | None:
        """Likewise, and without anything on its way to fill it."""
        since = self.hole_since
        return None if since is None else max(since, self._on_its_way)

    def wait_on(self, now: float) -> None:
        """What fills the lowest hole is on its way."""
        self._on_its_way = now

    def hint(self, sequence: int, now: float) -> None:
        """Its author has said that *sequence* is the last of it."""
        self.signed = max(self.signed, sequence)
        if sequence > self.high:
            # The hole is as old as the first word of it: an author that speaks on must not put it off.
            first = [hint for hint in self._hints if hint[0] > self.head][:1]
            self.high = sequence
            self._hints = [*first, (sequence, now)]

    @property
    def _hint(self) -> tuple[int, float]:
        """Where the hole at the end ends that is longest known, and since when."""
        return next((hint for hint in self._hints if hint[0] > self.head), (self.high, self.progress))

    def lower(self, sequence: int, start: int) -> tuple[GapFound, list[Ready]] | None:
        """What a neighbour said to start behind is beyond all that the author had sent: start lower.

        :param sequence: the last message, as the author has signed since.
        :param start: likewise, as it had when this node joined.
        :return: of what was held for others alone, the part that is held no more, as a gap that may be
            empty, and what can be delivered; None where the base stays, since it may be true.
        """
        if self.base <= max(self.signed, sequence):
            return None
        self.base = start
        self.taken = min(self.taken, start)
        if self.low > self.head:  # nothing is held, so that nothing but a claim says that it came
            self.head = self.stored = self.storing = min(self.head, start)
            self.high = max(self.head, self.signed)
            self.low = self.head + 1
            self._behind_gap = min(self._behind_gap, self.low)
        ready: list[Ready] = []
        for piece in self.serve(start + 1, self.head, MAX_NUMBER):
            if isinstance(piece, Missing):
                ready.clear()  # so that all up to it is in the gap
            else:
                ready.append(Ready(piece.batch, max(piece.batch.first, start + 1)))
        self.whole = ready[0].start if ready else max(self.head, start) + 1
        return GapFound(*self.run, start + 1, self.whole - 1), ready

    def same_first(self, batch: Batch) -> SignedBatch | None:
        """What is held from the same number on."""
        return self._batches.get(batch.first)

    def covers(self, batch: Batch) -> bool:
        """Whether everything in *batch* has come already."""
        if batch.last <= self.head:
            return True
        before = bisect_right(self._waiting, batch.first)
        return before > 0 and self._batches[self._waiting[before - 1]].batch.last >= batch.last

    def next_missing(self, low: int, high: int) -> tuple[int, int] | None:
        """The lowest range of *low* to *high* that is missing here, or None."""
        first = max(low, self.head + 1)
        for at in range(max(bisect_right(self._waiting, first) - 1, 0), len(self._waiting)):
            waiting = self._waiting[at]
            if waiting > first or first > high:
                high = min(high, waiting - 1)
                break
            first = max(first, self._batches[waiting].batch.last + 1)
        return (first, high) if first <= high else None

    def keep(self, signed: SignedBatch, now: float) -> list[Ready]:
        """Hold *signed*, which is no duplicate; what can be delivered now."""
        batch = signed.batch
        self.high = max(self.high, batch.last)
        self.signed = max(self.signed, batch.last)
        if batch.first > self.head + 1:
            self._wait(signed, now)
            return []
        self.progress = now
        if self.low > self.head:
            self.low = batch.first
        return self._advance(signed, now)

    def skip(self) -> tuple[GapFound, list[Ready]]:
        """Give the lowest hole up: the gap, and what waited behind it.

        The gap is empty, its first beyond its last, if nothing in the hole was to be delivered.
        """
        if not self._waiting:
            return self._skip_to_the_end(), []
        first = self._waiting.pop(0)
        gap = GapFound(*self.run, max(self.head, self.base) + 1, first - 1)
        self._jump(first - 1)
        self.whole = max(self.whole, first)  # what lies up to the base was never to be handed out
        arrived = self._arrived[first]
        signed = self._forget(first)
        self.waiting_bytes -= cost(signed)
        return gap, self._advance(signed, arrived)

    def serve(self, first: int, last: int, most: int) -> Iterator[Piece]:
        """Held batches with messages *first* to *last*, in order: one, and more up to *most* bytes.

        What cannot be read now is left for another time.  What is missing of what is announced is told
        in its place, and what of it follows up to the next batch.
        """
        with suppress(StoreError):
            yield from self._read(first, last, most)

    def read(self, first: int, last: int, most: int) -> Iterator[Piece]:
        """Held batches as :meth:`serve` yields them, for consumers here: those below a gap, too.

        Where there is any below a gap it yields that alone.

        :raises StoreError: what is in storage cannot be read now; that says nothing of what is held.
        """
        came = False
        if first < self.low:
            for piece in self._read_below_gap(first, min(last, self.low - 1), most):
                came = True
                yield piece
        if not came:
            yield from self._read(first, last, most)

    def begin_behind(self, last: int) -> None:
        """Announce only what lies behind *last*: something is missing in storage up to there."""
        self.low = max(self.low, min(last + 1, self._in_memory))

    @property
    def _in_memory(self) -> int:
        """The lowest number from which on all up to the head is in memory."""
        held = self._held
        at = 0 if not held or held[0] >= self._behind_gap else bisect_left(held, self._behind_gap)
        return held[at] if at < len(held) else self.head + 1

    def _read_below_gap(self, first: int, last: int, most: int) -> Iterator[Piece]:
        """What is held of *first* to *last*, all of it below a gap: out of storage if it begins there.

        :raises StoreError: it cannot be read now.
        """
        in_memory = self._held[0] if self._held else last + 1
        came = False
        if self._storage is not None and first < in_memory:
            for piece in self._storage.read(self.run, first, min(last, in_memory - 1), most):
                came = True
                yield piece
        if not came:  # else what follows is read from there on
            yield from self._read_memory(first, last, most)

    def _read(self, first: int, last: int, most: int) -> Iterator[Piece]:
        size = 0
        first = max(first, self.low)
        stored = min(last, self._in_memory - 1)
        if self._storage is not None and first <= stored:
            for piece in self._read_storage(self._storage, first, stored, most):
                if isinstance(piece, Missing):
                    first = piece.last + 1
                else:
                    first = piece.batch.last + 1
                    size += len(piece.array)
                yield piece
            if first <= stored:
                return
        yield from self._read_memory(first, last, most, size)

    def _read_memory(self, first: int, last: int, most: int, size: int = 0) -> Iterator[SignedBatch]:
        """What is in memory of *first* to *last*.

        :param size: bytes that were read before, of *most*.
        """
        for start in chain.from_iterable(
            islice(firsts, max(bisect_right(firsts, first) - 1, 0), None)
            for firsts in (self._held, self._waiting)
        ):
            signed = self._batches[start]
            if signed.batch.last < first:
                continue
            if signed.batch.first > last or (size and size + len(signed.array) > most):
                return
            size += len(signed.array)
            yield signed

    def oldest(self) -> tuple[float, int] | None:
        """When the oldest batch that does not wait came, and its last message."""
        if not self._held:
            return None
        return self._arrived[self._held[0]], self._batches[self._held[0]].batch.last

    def first_since(self, seconds: float, now: float) -> int:
        """The first message that is held up to the head and came in the last *seconds*; or head + 1."""
        first = self.head + 1
        for start in reversed(self._held):
            if start < self._behind_gap:
                break
            if self._arrived[start] < now - seconds:
                return first
            first = start
        if self._storage is not None and self.low < first:
            stored = self._storage.first_since(self.run, seconds)
            if stored is not None:
                first = min(first, max(stored, self.low))
        return first

    def unstored(self) -> list[tuple[float, SignedBatch]]:
        """What is in memory up to the head and not in storage, nor on its way there, and when it came."""
        fresh: list[tuple[float, SignedBatch]] = []
        for start in reversed(self._held):
            signed = self._batches[start]
            if signed.batch.last <= self.storing:
                break
            fresh.append((self._arrived[start], signed))
        fresh.reverse()
        return fresh

    def marks(self, taken: int) -> Marks:
        """Where the stream stands, with *taken* of it handed to the application."""
        low = min(self.low, self.head + 1)
        return Marks(
            self.run, self.head, low, self.base, min(taken, self.head), self.equivocated, self.whole
        )

    def given_up(self, low: int) -> None:
        """Nothing below *low* is in storage any more."""
        self._stored_low = low
        self.low = max(self.low, min(low, self._in_memory))

    def drop_oldest(self) -> None:
        """Give up the oldest batch that does not wait."""
        first = self._held.popleft()
        signed = self._forget(first)
        self.held_bytes -= cost(signed)
        if first < self._behind_gap:
            return
        behind = signed.batch.last + 1
        in_storage = self._storage is not None and behind <= self.stored + 1
        self.low = max(self.low, min(self._stored_low, behind) if in_storage else behind)

    def drop_below_gap(self, upto: int) -> None:
        """Give up what is held below a gap up to *upto*."""
        held = self._held
        while held and held[0] < self._behind_gap and self._batches[held[0]].batch.last <= upto:
            self.drop_oldest()

    def _read_storage(self, storage: StoredBatches, first: int, last: int, most: int) -> Iterator[Piece]:
        """What is in storage of *first* to *last*, all of which should be there.

        :raises StoreError: it cannot be read now.
        """
        end, came = first - 1, False  # of what was read so far
        missing: Missing | None = None
        for piece in storage.read(self.run, first, last, most):
            came = True
            if isinstance(piece, Missing):
                end = piece.last
                missing = piece
                continue
            if missing is not None or piece.batch.first > end + 1:
                yield Missing(first, piece.batch.first - 1, missing is not None)
            yield piece
            end, missing = piece.batch.last, None
            first = end + 1
        if missing is not None or not came:
            yield Missing(first, self._end_of_missing(storage, end if came else last), missing is not None)

    def _end_of_missing(self, storage: StoredBatches, last: int) -> int:
        """The last number that is missing in storage, if all up to *last* is."""
        came = False
        for piece in storage.read(self.run, last + 1, self._in_memory - 1, _LOOK_ON):
            came = True
            if not isinstance(piece, Missing):
                return piece.batch.first - 1
            last = piece.last
        return last if came else self._in_memory - 1

    def _skip_to_the_end(self) -> GapFound:
        """Give up what the author said first that there is, and nobody sent."""
        end = self._hint[0]
        gap = GapFound(*self.run, max(self.head, self.base) + 1, end)
        self._jump(end)
        self.whole = max(self.whole, end + 1)
        return gap

    def _jump(self, head: int) -> None:
        """Go on behind *head*, without what is missing up to it."""
        while self._held and self._batches[self._held[0]].batch.last <= self.base:
            self.held_bytes -= cost(self._forget(self._held.popleft()))  # it was for others alone
        self.stored = self.storing = self.head = head
        self.low = self._behind_gap = head + 1

    def _wait(self, signed: SignedBatch, now: float) -> None:
        batch = signed.batch
        start = end = bisect_left(self._waiting, batch.first)
        # Of the same start only the length is news, so the hole before it is as old as it was.
        arrived = self._arrived.get(batch.first, now)
        while end < len(self._waiting) and self._batches[self._waiting[end]].batch.last <= batch.last:
            self.waiting_bytes -= cost(self._forget(self._waiting[end]))
            end += 1
        self._waiting[start:end] = [batch.first]
        self._batches[batch.first] = signed
        self._arrived[batch.first] = arrived
        self.waiting_bytes += cost(signed)

    def _advance(self, signed: SignedBatch, arrived: float) -> list[Ready]:
        """*signed* joins the head, and so does what it lets go on."""
        ready: list[Ready] = []
        self._hold(signed, arrived, ready)
        joined = 0
        for first in self._waiting:
            if first > self.head + 1:
                break
            joined += 1
            arrived = self._arrived[first]
            waiting = self._forget(first)
            self.waiting_bytes -= cost(waiting)
            if waiting.batch.last > self.head:
                self._hold(waiting, arrived, ready)
        del self._waiting[:joined]  # at once: one by one it would be quadratic
        return ready

    def _hold(self, signed: SignedBatch, arrived: float, ready: list[Ready]) -> None:
        batch = signed.batch
        start = max(self.head, self.base) + 1
        if batch.last >= start:
            ready.append(Ready(batch, start))
        self.head = batch.last
        while self._held and self._held[-1] >= batch.first:
            self.held_bytes -= cost(self._forget(self._held.pop()))
        self._behind_gap = min(self._behind_gap, batch.first)  # it may lie across a hole that was given up
        self._held.append(batch.first)
        self._batches[batch.first] = signed
        self._arrived[batch.first] = arrived
        self.held_bytes += cost(signed)

    def _forget(self, first: int) -> SignedBatch:
        del self._arrived[first]
        return self._batches.pop(first)
