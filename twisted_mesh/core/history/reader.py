"""Reading messages from what is held: as they came, and again for who was too slow to take them then.

Contract: values out of the history, of which nothing changes.  What an author got wrong inside a batch is
its own affair: it is told once, when the batch comes, and read as nothing afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.errors import PoisonedBody
from twisted_mesh.wire.bodies import Entry, unpack_entries
from twisted_mesh.wire.broadcast import Batch


class Piece(msgspec.Struct, frozen=True):
    """Messages *first* to *last* of a run, all out of one batch.

    :ivar sent: the author's clock in ms.
    :ivar size: of the batch's packed body, in bytes.
    :ivar entries: one for each of them, or none where the author got them wrong.
    """

    first: int
    last: int
    sent: int
    size: int
    entries: Sequence[Entry]


def entries_of(batch: Batch) -> list[Entry]:
    """The messages in *batch*.

    :raises PoisonedBody: its author got them wrong.
    """
    if batch.encoding != 0:
        raise PoisonedBody(f"unknown encoding {batch.encoding}")
    return unpack_entries(batch.body, batch.count)


def read(history: History, run: StreamId, after: int, upto: int, most: int) -> Iterator[Piece | Missing]:
    """What is held of *run* behind *after*, in order: one batch, and more up to *most* bytes.

    In the place of what is stored and damaged stands that it is missing.

    :param upto: at or under the head of the run.
    :raises StoreError: it cannot be read now; that says nothing of what is held.
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
        try:
            entries = entries_of(batch)[first - batch.first : last - batch.first + 1]
        except PoisonedBody:
            entries = []
        yield Piece(first, last, batch.sent, len(batch.body), entries)
