"""One stream: the numbered messages of one run of a node, as far as this node has them.

Contract: messages ``low`` to ``head`` are held without a hole.  ``head`` is the last number up to which
every message came, or was given up.  Batches beyond a hole wait.  Numbers alone decide whether a batch
is a duplicate: a duplicate is known before its signature is verified, without a cache or a time-out.

Messages below a gap, which is a hole that was given up, are held for consumers at this node alone.  They
are not announced: a neighbour would ask for the range, and get an answer with a hole in it.

Reading changes nothing.  If storage lacks batches, :mod:`~twisted_mesh.core.history.changes` calls
:meth:`Stream.begin_behind` later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import takewhile
from typing import Final

import msgspec

from twisted_mesh.core.authors import UNMET
from twisted_mesh.core.events import GapFound, StreamId
from twisted_mesh.core.history.batches import Batches
from twisted_mesh.core.history.storage import BatchOrMissing, Marks, Missing, StoredBatches
from twisted_mesh.core.status import StreamReport
from twisted_mesh.errors import StoreError
from twisted_mesh.wire.broadcast import Batch, SignedBatch, SignedHeader
from twisted_mesh.wire.codec import pack_header
from twisted_mesh.wire.fields import MAX_NUMBER

BEYOND_ALL: Final = MAX_NUMBER - 1  # the base of a stream while no message of it is to be delivered here
_LOOK_ON: Final = 2**20  # bytes behind a damaged batch that are searched for a whole one (guess)


class Ready(msgspec.Struct, frozen=True):
    """A batch to be delivered from its message number *start* on."""

    signed: SignedBatch
    start: int


Skip = tuple[GapFound, list[Ready]]
"""A gap, and the batches behind it that can be delivered now.

The gap is empty, its first number above its last, if no message in the hole was to be delivered.
"""


def contradict(one: SignedHeader, other: SignedHeader) -> bool:
    """Whether no honest author signs both headers of a run.

    They differ and share messages, or the later header follows the earlier and does not name its hash.
    """
    first, second = sorted((one, other), key=lambda header: header.batch.first)
    if one.hash == other.hash or second.batch.first > first.batch.last + 1:
        return False
    return second.batch.first <= first.batch.last or second.batch.previous != first.hash


class Stream:
    """One run as this node has it; ``len()`` counts the batches in memory.

    :ivar head: the last number up to which every message came or was given up.
    :ivar low: the lowest number from which on all messages up to the head are held, in memory or in
        storage; head + 1 if none is.
    :ivar base: messages up to this number are held and handed on, but never delivered here.
    :ivar taken: the last message that handlers, listeners and iterators without a name have taken, as far
        as the core knows; :ivar places: the last that each named consumer has taken, by name.
    :ivar kept: the last message that storage knows to be taken by all consumers.
    :ivar whole: from this number on no message is missing that was to be delivered.
    :ivar high: the highest number that is known to exist; a neighbour's base counts as known.
    :ivar signed: the highest number that the author has signed: in a batch, or in a record of presence.
    :ivar moved_at: when a batch last moved the head.
    :ivar awaited_at: when messages for the lowest hole were last known to be on their way.
    :ivar stored: the last message in storage; :ivar storing: the last that a flush had.
    :ivar settles: whether the base is not known yet: until then no message is delivered.
    :ivar pushed: the lowest message that a neighbour pushed before the base was known.
    :ivar header: the header of the newest batch that has joined the head.
    :ivar equivocated: whether its author signed two different batches under one number.
    :ivar fork: two headers that show the author did so, if they came since this node was started.
    :ivar introducer: the site that introduced the author; None if the author is known
        (:mod:`~twisted_mesh.core.authors`).
    :ivar fetched: how many messages came because this node had asked for them.
    :ivar counted: the bytes held and waiting that History has added to its sums.
    """

    __slots__ = (
        *("_hints", "_storage", "_stored_low", "awaited_at", "base", "batches", "counted", "equivocated"),
        *(
            "fetched",
            "fork",
            "head",
            "header",
            "high",
            "introducer",
            "kept",
            "low",
            "moved_at",
            "places",
            "pushed",
            "run",
            "settles",
        ),
        *("signed", "stored", "storing", "taken", "whole"),
    )

    def __init__(
        self, run: StreamId, head: int, base: int, now: float, storage: StoredBatches | None = None
    ) -> None:
        self.run = run
        self.fetched = 0
        self._storage = storage
        self._stored_low = 0  # storage has no message below this one
        self.head = self.high = self.stored = self.storing = head
        self.low = head + 1
        self.base = self.taken = base
        self.places: Mapping[str, int] = {}
        self.whole = base + 1
        self.kept = self.signed = 0
        self.settles = False
        self.pushed = MAX_NUMBER
        self.header: SignedHeader | None = None
        self.fork: tuple[SignedHeader, SignedHeader] | None = None
        self.moved_at = self.awaited_at = now
        # The numbers that the author called its last, and when: the first and the newest beyond the head.
        self._hints: list[tuple[int, float]] = []
        self.equivocated = False
        self.introducer: str | None = UNMET
        self.batches = Batches()
        self.counted = 0, 0

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def slowest(self) -> int:
        """The last message that all consumers have taken."""
        return min((self.taken, *self.places.values())) if self.places else self.taken

    @property
    def lags(self) -> bool:
        """Whether a named consumer has not taken all messages."""
        return any(place < self.head for place in self.places.values())

    @property
    def has_hole(self) -> bool:
        """Whether a message is missing that is known to exist: before a waiting batch, or at the end."""
        return self.high > self.head

    @property
    def hole_since(self) -> float | None:
        """When the lowest hole was found, or last shrank; None if there is no hole."""
        if self.batches.first_waiting is not None:
            return max(self.moved_at, self.batches.waiting_since)
        return max(self.moved_at, self._hint[1]) if self.has_hole else None

    @property
    def patient_since(self) -> float | None:
        """The later of :attr:`hole_since` and :attr:`awaited_at`; None if there is no hole."""
        since = self.hole_since
        return None if since is None else max(since, self.awaited_at)

    def hint(self, sequence: int, now: float) -> None:
        """Note that the author has said that *sequence* is its last message."""
        self.signed = max(self.signed, sequence)
        if sequence > self.high:
            # The hole is as old as the first hint of it: an author that sends more must not renew it.
            first = [hint for hint in self._hints if hint[0] > self.head][:1]
            self.high = sequence
            self._hints = [*first, (sequence, now)]

    @property
    def _hint(self) -> tuple[int, float]:
        """The end of the hole at the stream's end, by the oldest hint, and when that hint came."""
        return next((hint for hint in self._hints if hint[0] > self.head), (self.high, self.moved_at))

    def cut(self, last: int, hash: bytes, now: float | None) -> int:
        """Keep no message above *last*; if messages up to that are missing, they are known to exist.

        :param hash: of the header of the batch that ends at *last*; empty if it is not known.
        :param now: None if no message is missing by that alone.
        :return: the last message that was delivered here and is not to be delivered; 0 if there is none.
        """
        delivered = self.head if self.head > max(last, self.base) else 0
        self.batches.drop_above(last)
        self.signed = min(self.signed, last)
        self._hints = [hint for hint in self._hints if hint[0] <= last]
        if self.head > last:
            self.base = max(self.base, self.head)  # if a later cut is higher, nothing is delivered again
            self.head, self.low = last, min(self.low, last + 1)
            self.stored, self.storing = min(self.stored, last), min(self.storing, last)
            newest = next(self.batches.newest_first(), None)
            self.header = None if newest is None else newest[1].header
        self.high = max(self.head, min(self.high, last))
        if self.head == last and hash and self.hash not in (b"", hash):
            self.equivocated = True  # the author has signed another batch, too, which others deliver
            delivered = delivered or (last if last > self.base else 0)
        if now is not None and not self.equivocated:
            self.hint(last, now)
        return delivered

    def settle(self, base: int) -> Skip:
        """Deliver the messages above *base* from now on, if the base was not known before.

        Of the messages that came meanwhile, those that are held without a hole can be delivered; the
        messages before them are a gap.
        """
        self.base = self.taken = base
        self.settles = False
        if self.low > self.head:  # nothing is held: only an unsigned claim says that the messages came
            self.head = self.stored = self.storing = min(self.head, base)
            self.high = max(self.head, self.signed)
            self.low = self.head + 1
            self.batches.gap_end = min(self.batches.gap_end, self.low)
        ready: list[Ready] = []
        for read in self.serve(base + 1, self.head, MAX_NUMBER):
            if isinstance(read, Missing):
                ready.clear()  # the gap reaches up to here
            else:
                ready.append(Ready(read, max(read.batch.first, base + 1)))
        self.whole = ready[0].start if ready else max(self.head, base) + 1
        return GapFound(*self.run, base + 1, self.whole - 1), ready

    def contradicting(self, header: SignedHeader) -> SignedHeader | None:
        """A held header of this run that contradicts *header*, or None."""
        held = [signed.header for signed in self.batches.beside(header.batch.first)]
        if self.header is not None:
            held.append(self.header)
        return next((one for one in held if contradict(one, header)), None)

    @property
    def hash(self) -> bytes:
        """The hash of the header of the batch that ends at the head; empty if it is unknown."""
        header = self.header
        return header.hash if header is not None and header.batch.last == self.head else b""

    @property
    def proof(self) -> bytes:
        """The header of the batch that ends at the head, packed; empty if it is unknown."""
        return pack_header(self.header) if self.header is not None and self.hash else b""

    def is_next(self, batch: Batch) -> bool:
        """Whether *batch* joins the head, names the hash of the header there, and nothing waits or is void.

        Then it is no duplicate, and contradicts no header that is held.
        """
        header = self.header
        return (
            header is not None
            and header.batch.last == self.head
            and batch.first == self.head + 1
            and batch.previous == header.hash
            and self.batches.first_waiting is None
            and not self.equivocated
        )

    def covers(self, batch: Batch) -> bool:
        """Whether all messages of *batch* have come already."""
        return batch.last <= self.head or self.batches.is_waiting(batch)

    def next_missing(self, low: int, high: int) -> tuple[int, int] | None:
        """The lowest range within *low* to *high* that has not come, or None."""
        return self.batches.next_missing(max(low, self.head + 1), high)

    def report(self) -> StreamReport:
        """The stream as a value."""
        missing, first = 0, self.head + 1
        while (hole := self.next_missing(first, self.high)) is not None:
            missing += hole[1] + 1 - hole[0]
            first = hole[1] + 1
        return StreamReport(self.run, self.head, self.high, missing, self.fetched)

    def keep(self, signed: SignedBatch, now: float) -> list[Ready]:
        """Hold *signed*, which is no duplicate; return the batches that can be delivered now."""
        batch = signed.batch
        self.high = max(self.high, batch.last)
        self.signed = max(self.signed, batch.last)
        if batch.first > self.head + 1:
            self.batches.wait(signed, now)
            return []
        self.moved_at = now
        if self.low > self.head:
            self.low = batch.first
        return self._advance(self.batches.join(signed, now))

    def skip(self) -> Skip:
        """Give up the lowest hole."""
        waiting = self.batches.first_waiting
        end = self._hint[0] if waiting is None else waiting - 1
        gap = GapFound(*self.run, max(self.head, self.base) + 1, end)
        self.batches.drop(self.base)  # these batches are held for others alone
        self.stored = self.storing = self.head = end
        self.low = self.batches.gap_end = end + 1
        self.whole = max(self.whole, end + 1)  # messages up to the base were never to be delivered
        return gap, [] if waiting is None else self._advance(self.batches.join_waiting())

    def _advance(self, joined: list[SignedBatch]) -> list[Ready]:
        """Move the head over *joined*; return those of them that can be delivered."""
        ready: list[Ready] = []
        for signed in joined:
            start = max(self.head, self.base) + 1
            if signed.batch.last >= start:
                ready.append(Ready(signed, start))
            self.head = signed.batch.last
        self.header = joined[-1].header
        return ready

    def marks(self, taken: int) -> Marks:
        """The position of the stream, for storage; the application has taken messages up to *taken*."""
        head = self.head
        how_far = head, min(self.low, head + 1), self.base, min(taken, head)
        places = tuple((name, min(place, head)) for name, place in sorted(self.places.items()))
        return Marks(self.run, *how_far, self.equivocated, self.whole, self.proof, self.introducer, places)

    def unstored(self) -> list[tuple[float, SignedBatch]]:
        """Batches up to the head that are in no flush yet, each with the time at which it came."""
        newest = self.batches.newest_first()
        return [*takewhile(lambda arrived: arrived[1].batch.last > self.storing, newest)][::-1]

    def begin_behind(self, last: int) -> None:
        """Announce only messages behind *last*, since storage lacks some of those before."""
        self.low = max(self.low, min(last + 1, self.batches.begin(self.head)))

    def given_up(self, low: int) -> None:
        """Note that storage has no message below *low* any more."""
        self._stored_low = low
        self.begin_behind(low - 1)

    def drop_oldest(self) -> None:
        """Drop the oldest held batch from memory."""
        first, last = self.batches.drop_oldest()
        if first >= self.batches.gap_end:
            behind = last + 1
            in_storage = self._storage is not None and behind <= self.stored + 1
            self.low = max(self.low, min(self._stored_low, behind) if in_storage else behind)

    def first_since(self, seconds: float, now: float) -> int:
        """The first message up to the head that is held and came in the last *seconds*; or head + 1."""
        first = self.head + 1
        for arrived, begins in self.batches.arrivals():
            if begins < self.batches.gap_end:
                break
            if arrived < now - seconds:
                return first
            first = begins
        if self._storage is not None and self.low < first:
            stored = self._storage.first_since(self.run, seconds)
            if stored is not None:
                first = min(first, max(stored, self.low))
        return first

    def serve(self, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        """Held batches with any of messages *first* to *last*, for neighbours, in order.

        At least one batch, more up to *most* bytes.  A Missing takes the place of announced batches that
        storage lacks.  The answer ends early, without an error, if storage cannot be read now.
        """
        with suppress(StoreError):
            yield from self._read(first, last, most)

    def read(self, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        """Held batches, for consumers here: those below a gap, if there are any, else as :meth:`serve`.

        :raises StoreError: storage cannot be read now; the batches may be held nevertheless.
        """
        came = False
        if first < self.low:
            for read in self._read_below_gap(first, min(last, self.low - 1), most):
                came = True
                yield read
        if not came:
            yield from self._read(first, last, most)

    def _read_below_gap(self, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        """Read held messages, all below a gap: from storage, or from memory if storage has none of them."""
        in_memory = self.batches.first_held or last + 1
        came = False
        if self._storage is not None and first < in_memory:
            for read in self._storage.read(self.run, first, min(last, in_memory - 1), most):
                came = True
                yield read
        if not came:  # else the consumer reads the rest later
            yield from self.batches.read(first, last, most)

    def _read(self, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        """Read messages that are announced: from storage, then from memory."""
        size = 0
        first = max(first, self.low)
        stored = min(last, self.batches.begin(self.head) - 1)
        if self._storage is not None and first <= stored:
            for read in self._read_storage(self._storage, first, stored, most):
                if isinstance(read, Missing):
                    first = read.last + 1
                else:
                    first = read.batch.last + 1
                    size += len(read.array)
                yield read
            if first <= stored:
                return
        yield from self.batches.read(first, last, most, size)

    def _read_storage(
        self, storage: StoredBatches, first: int, last: int, most: int
    ) -> Iterator[BatchOrMissing]:
        """Read messages *first* to *last* from storage, which should have all of them."""
        end, came = first - 1, False  # the last message read, and if any was
        missing: Missing | None = None
        for read in storage.read(self.run, first, last, most):
            came = True
            if isinstance(read, Missing):
                end = read.last
                missing = read
                continue
            if missing is not None or read.batch.first > end + 1:
                yield Missing(first, read.batch.first - 1, missing is not None)
            yield read
            end, missing = read.batch.last, None
            first = end + 1
        if missing is not None or not came:
            yield Missing(first, self._end_of_missing(storage, end if came else last), missing is not None)

    def _end_of_missing(self, storage: StoredBatches, last: int) -> int:
        """The end of the range that storage lacks; it lacks all messages up to *last* at least."""
        came = False
        end = self.batches.begin(self.head) - 1
        for read in storage.read(self.run, last + 1, end, _LOOK_ON):
            came = True
            if not isinstance(read, Missing):
                return read.batch.first - 1
            last = read.last
        return last if came else end
