"""A store that cannot read some of its batches."""

from __future__ import annotations

from collections.abc import Iterator

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.storage import BatchOrMissing, Missing
from twisted_mesh.errors import StoreError
from twisted_mesh.simulation.storage import SimStore
from twisted_mesh.wire.broadcast import SignedBatch


class Damaged(SimStore):
    """A store that cannot read batches whose first message is *damaged*, nor any while it is busy."""

    def __init__(self, damaged: set[int]) -> None:
        super().__init__()
        self.damaged = damaged
        self.busy = False

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        if self.busy:
            raise StoreError("busy")
        for piece in super().read(run, first, last, most):
            assert isinstance(piece, SignedBatch)
            is_damaged = piece.batch.first in self.damaged
            yield Missing(piece.batch.first, piece.batch.last, True) if is_damaged else piece
