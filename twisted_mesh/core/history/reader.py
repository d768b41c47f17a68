"""Reads messages from the history: for consumers that were too slow, and for people who look at it.

Contract: reading changes nothing.  If an author packed a batch wrongly, that is reported once, when the
batch comes.  Here such a batch has no entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from twisted_mesh.core.events import Behind, StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.core.status import HeldRun
from twisted_mesh.errors import PoisonedBody
from twisted_mesh.wire.bodies import Entry, unpack_weighed
from twisted_mesh.wire.broadcast import SignedBatch


class Messages(msgspec.Struct, frozen=True):
    """Messages *first* to *last* of a run, all from one batch.

    :ivar sent: when the batch was signed, by the author's clock, in ms since 1970.
    :ivar size: bytes of the batch's messages (``wire.bodies.unpack_weighed``).
    :ivar entries: one for each message; empty if the author packed the batch wrongly.
    """

    first: int
    last: int
    sent: int
    size: int
    entries: Sequence[Entry]


def entries_of(signed: SignedBatch) -> tuple[Sequence[Entry], int]:
    """The messages in *signed*, and their bytes (``wire.bodies.unpack_weighed``).

    :raises PoisonedBody: the author packed them wrongly.
    """
    if signed.batch.encoding != 0:
        raise PoisonedBody(f"unknown encoding {signed.batch.encoding}")
    return unpack_weighed(signed.body, signed.batch.count)


def read(history: History, run: StreamId, after: int, upto: int, most: int) -> Iterator[Messages | Missing]:
    """The held messages of *run* behind *after*, in order: at least one batch, more up to *most* bytes.

    A Missing takes the place of messages that are stored and damaged.

    :param upto: the last message to read, at most the head of the run.
    :raises StoreError: storage cannot be read now; the messages may be held nevertheless.
    """
    if (stream := history.get(run)) is None:
        return
    for held in stream.read(after + 1, upto, most):
        if isinstance(held, Missing):
            if held.damaged:
                first, after = max(after + 1, held.first), min(upto, held.last)
                yield Missing(first, after, True)
            continue
        batch = held.batch
        first, last = max(after + 1, batch.first), min(upto, batch.last)
        after = last
        entries: Sequence[Entry]
        try:
            entries, size = entries_of(held)
        except PoisonedBody:
            entries, size = (), 0
        yield Messages(first, last, batch.sent, size, entries[first - batch.first : last - batch.first + 1])


def held(history: History, seconds: float, now: float) -> Iterator[Behind]:
    """The runs of which messages are held that came in the last *seconds*: those behind ``taken``."""
    for stream in history:
        first = stream.first_since(seconds, now)
        if first <= stream.head:
            yield Behind(stream.run, first - 1, stream.head)


def held_runs(history: History, now: float) -> Iterator[HeldRun]:
    """The runs of which messages are held."""
    stored = history.stored_runs()
    for stream in history:
        if stream.low > stream.head:
            continue
        batches, ages = stream.batches, list[float]()
        if (oldest := batches.oldest()) is not None:
            ages += now - oldest[0], now - next(batches.arrivals())[0]
        size = batches.held_bytes
        if (kept := stored.get(stream.run)) is not None:
            size = kept.bytes
            ages += kept.oldest, kept.newest
        span = max(ages, default=None), min(ages, default=None)
        yield HeldRun(stream.run, stream.low, stream.head, size, *span)
