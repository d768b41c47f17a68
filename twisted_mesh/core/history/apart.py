"""What was delivered of a run below a hole that was given up: for consumers here that are behind, alone.

Contract: in order, and read as long as the history's limits keep it; what is not in memory any more may
still be on the shelf.  No claim speaks of it and no peer is served it: a range with a hole in it would be
asked for, and the answer be no progress.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from itertools import islice

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.storage import Piece, StoredBatches
from twisted_mesh.wire.native import SignedBatch


class Apart:
    """Batches of one run, the lowest first, each with when it came."""

    __slots__ = ("_batches",)

    def __init__(self) -> None:
        self._batches: deque[tuple[float, SignedBatch]] = deque()

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def oldest(self) -> tuple[float, SignedBatch]:
        """The lowest batch, of which there is one, and when it came."""
        return self._batches[0]

    def add(self, arrived: float, signed: SignedBatch) -> None:
        """Keep *signed*, which lies above all the others."""
        self._batches.append((arrived, signed))

    def pop(self) -> SignedBatch:
        """Give up the lowest."""
        return self._batches.popleft()[1]

    def read(self, first: int, last: int, most: int) -> Iterator[SignedBatch]:
        """Batches with messages *first* to *last*, in order: one, and more up to *most* bytes."""
        size = 0
        at = bisect_right(self._batches, first, key=lambda kept: kept[1].batch.last + 1)
        for _, signed in islice(self._batches, at, None):
            if signed.batch.first > last or (size and size + len(signed.array) > most):
                return
            size += len(signed.array)
            yield signed


def read_apart(
    apart: Apart | None, storage: StoredBatches | None, run: StreamId, first: int, last: int, most: int
) -> Iterator[Piece]:
    """What is kept of *run*, as :meth:`Apart.read`: of the shelf where it begins there, or of *apart*.

    :raises StoreError: the shelf cannot be read now; that says nothing of what is on it.
    """
    came = False
    in_memory = apart.oldest[1].batch.first if apart else last + 1
    if storage is not None and first < in_memory:
        for piece in storage.read(run, first, min(last, in_memory - 1), most):
            came = True
            yield piece
    if apart and not came:  # else what follows is read from there on
        yield from apart.read(first, last, most)
