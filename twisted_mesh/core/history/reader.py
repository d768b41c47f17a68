"""Reads messages from the history, for consumers that were too slow to take them when they came.

Contract: reading changes nothing.  If an author packed a batch wrongly, that is reported once, when the
batch comes.  Here such a batch has no entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.storage import Missing
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
