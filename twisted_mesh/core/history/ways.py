"""By which way each of the newest batches came here, and to whom this node pushed it on.

Contract: nothing here decides anything.  At most ``ways_limit`` batches are remembered, own ones included,
and as many times at which messages were taken; of more, the oldest are forgotten.
"""

from __future__ import annotations

from collections import deque

import msgspec

from twisted_mesh.core.events import StreamId
from twisted_mesh.wire.broadcast import Batch


class Way(msgspec.Struct, frozen=True):
    """The way of one batch, as far as this node knows it.

    :ivar came_at: when it came first, or was published here.
    :ivar source: the origin of the neighbour that brought it first; None for an own batch.
    :ivar pulled: whether it came as an answer to a WANT, and was not pushed.
    :ivar hops: how many nodes had passed it on, as the neighbour says.
    :ivar pushed: the origins of the neighbours to which it was pushed.
    """

    came_at: float
    source: bytes | None
    pulled: bool
    hops: int
    pushed: tuple[bytes, ...]


class Ways:
    """The ways of the newest batches."""

    def __init__(self, most: int) -> None:
        """:param most: how many batches, and how many times of taking, are remembered."""
        # Batch, time, source, the nodes pushed to, hops, whether pulled: a Way costs four times as much to
        # make as this tuple of what is at hand (measured).
        self._noted: deque[tuple[Batch, float, bytes | None, tuple[bytes, ...], int, bool]] = deque(
            maxlen=most
        )
        self._taken: deque[tuple[StreamId, int, float]] = deque(maxlen=most)

    def note(
        self,
        batch: Batch,
        now: float,
        source: bytes | None,
        pushed: tuple[bytes, ...],
        hops: int = 0,
        pulled: bool = False,
    ) -> None:
        """Note that a new *batch* came from *source*, and was pushed to the nodes *pushed*."""
        self._noted.append((batch, now, source, pushed, hops, pulled))

    def taken(self, run: StreamId, sequence: int, now: float) -> None:
        """Note that the application has taken *run* up to *sequence*."""
        self._taken.append((run, sequence, now))

    def of(self, run: StreamId, sequence: int) -> tuple[Way | None, float | None]:
        """The way of the message *sequence*, and when the application had taken it.

        :return: None in place of what is not remembered.
        """
        for batch, came_at, source, pushed, hops, pulled in reversed(self._noted):
            if batch.first <= sequence <= batch.last and (batch.origin, batch.epoch) == run:
                return Way(came_at, source, pulled, hops, pushed), self._taken_at(run, sequence)
        return None, None

    def _taken_at(self, run: StreamId, sequence: int) -> float | None:
        for taken, upto, at in self._taken:
            if upto >= sequence and taken == run:
                return at
        return None

    def footprint(self) -> dict[str, int]:
        """The number of entries in every table."""
        return {"ways": len(self._noted), "ways_taken": len(self._taken)}
