"""What a node's store and its core say to each other.

Contract: values, and the one question the core asks back.  A store keeps what has joined the head of each
stream and the marks that go with it, all of one :class:`Flush` or none; after a crash the core begins
with what was :class:`Restored`.  The core never waits for a store: what is not stored yet is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from twisted_mesh.core.events import StreamId
from twisted_mesh.wire.native import SignedBatch


class Marks(NamedTuple):
    """Where one stream stands.

    :ivar head: the last number up to which everything came.
    :ivar low: the lowest that is held together with all up to the head, or head + 1.  Below it only what
        lies above *taken* stays stored.
    :ivar base: what is at or under it is never delivered here.
    :ivar taken: the last that the application was handed, at most the head.
    :ivar equivocated: whether its author signed two different things under one number.
    :ivar whole: from this number on nothing was missing of what was handed out.
    """

    run: StreamId
    head: int
    low: int
    base: int
    taken: int
    equivocated: bool
    whole: int = 1


class Flush(NamedTuple):
    """What is to be stored, all or nothing.

    :ivar batches: (when it came in ms since 1970 by this host's clock, the batch), of each stream in
        order and each joining what was stored before or following a new ``low`` of its marks.
    :ivar marks: of every stream that changed.
    :ivar closed: streams of which only the head is kept from now on.
    :ivar own: the own run and the last of it that a neighbour has: what lies above is never given up.
    :ivar settled: whether the node has a base.
    """

    batches: Sequence[tuple[int, SignedBatch]]
    marks: Sequence[Marks]
    closed: Sequence[tuple[StreamId, int]]
    own: tuple[StreamId, int]
    settled: bool


class Flushed(NamedTuple):
    """What became of a flush.

    :ivar lows: streams of which the oldest was given up, and the lowest number that is stored still.
    """

    lows: Sequence[tuple[StreamId, int]]


class Restored(NamedTuple):
    """What a store held when it was opened; *closed* the oldest first."""

    marks: Sequence[Marks]
    closed: Sequence[tuple[StreamId, int]]
    settled: bool


class Missing(NamedTuple):
    """Messages *first* to *last* of a run that should be here and are not.

    :ivar damaged: whether they are stored and cannot be read.
    """

    first: int
    last: int
    damaged: bool


Piece = SignedBatch | Missing


class Storage(Protocol):
    """What is stored, to be read."""

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[Piece]:
        """Stored batches with messages *first* to *last*, in order: one, and more up to *most* bytes.

        Where batches are damaged their place is taken by one :class:`Missing`.

        :raises StoreError: it cannot be read now; that says nothing of what is stored.
        """
        ...  # pragma: no cover

    def first_since(self, run: StreamId, seconds: float) -> int | None:
        """The first message of the first stored batch that came within the last *seconds*, or None."""
        ...  # pragma: no cover
