"""The interface between a node and the store of its history.

Contract: the values that pass between them, and all that a store must do: :class:`Store`.  A store keeps
what has joined the head of each stream, and where each stream stands.  All of one :class:`Flush` is stored,
or nothing of it; after a crash the core begins with what was :class:`Restored`.  The core never waits for a
store: what is not stored yet is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from twisted_mesh.core.events import StreamId
from twisted_mesh.wire.broadcast import SignedBatch


class Marks(NamedTuple):
    """Where one stream stands.

    :ivar head: the last number up to which everything came.
    :ivar low: the lowest number that is held together with all up to the head, or head + 1.  Below it only
        messages above *taken* stay stored.
    :ivar base: messages up to it are never delivered here.
    :ivar taken: the last message that the application has taken, at most the head; of an own stream, the
        last that a neighbour has.
    :ivar equivocated: whether its author signed two different batches under one number.
    :ivar whole: from this number on nothing is missing that was to be delivered.
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

    :ivar batches: (when it came, in ms since 1970 by this host's clock; the batch).  Those of one stream
        are in order.  Each joins the batch stored before it, or follows a new ``low`` of its marks.
    :ivar marks: of every stream that changed.
    :ivar closed: the streams of which only the head is kept from now on.  A stream that is in *marks*, too,
        is open.
    :ivar own: the own stream, and the last message of it that a neighbour has; later ones are never given
        up.
    :ivar settled: whether the node has a base.
    """

    batches: Sequence[tuple[int, SignedBatch]]
    marks: Sequence[Marks]
    closed: Sequence[tuple[StreamId, int]]
    own: tuple[StreamId, int]
    settled: bool


class Flushed(NamedTuple):
    """The result of a flush.

    :ivar lows: streams of which the oldest batches were given up, and the lowest number still stored.
    """

    lows: Sequence[tuple[StreamId, int]]


class Untaken(NamedTuple):
    """Messages of a stream above *taken*, up to *head*: stored, and not taken by every consumer."""

    run: StreamId
    taken: int
    head: int


class Restored(NamedTuple):
    """What a store held when it was opened; of *closed* the oldest come first."""

    marks: Sequence[Marks] = ()
    closed: Sequence[tuple[StreamId, int]] = ()
    settled: bool = False

    def untaken(self, origin: bytes) -> Iterator[Untaken]:
        """What the application has still to take; messages of the node *origin* itself are not for it."""
        for marks in self.marks:
            taken = max(marks.taken, marks.base)
            if taken < marks.head and marks.run[0] != origin:
                yield Untaken(marks.run, taken, marks.head)

    def newest_epoch(self, origin: bytes, limit: int) -> int:
        """The newest epoch of *origin*, of those up to *limit*; 0 if there is none."""
        runs = [*(marks.run for marks in self.marks), *(run for run, _ in self.closed)]
        return max((epoch for author, epoch in runs if author == origin and epoch <= limit), default=0)


class Missing(NamedTuple):
    """Messages *first* to *last* of a stream that should be stored and cannot be read.

    :ivar damaged: whether they are there, but damaged.
    """

    first: int
    last: int
    damaged: bool


Piece = SignedBatch | Missing


class StoredBatches(Protocol):
    """What the core reads of a store, in the reactor's thread, at any time."""

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[Piece]:
        """Stored batches with messages *first* to *last*, in order: one, and more up to *most* bytes.

        One :class:`Missing` takes the place of batches that are damaged.

        :raises StoreError: they cannot be read now, or the store is closed; they may be stored for all
            that.
        """

    def first_since(self, run: StreamId, seconds: float) -> int | None:
        """The first message of the first stored batch that came within the last *seconds*, or None."""


class Store(StoredBatches, Protocol):
    """A store that this process has opened and nobody else uses.

    It is opened by a constructor of its own, which raises :class:`~twisted_mesh.errors.StoreError` if it
    cannot be used.  :meth:`flush` is called in a thread of the writer's, one flush at a time.  Everything
    else is called in the reactor's thread, also during a flush, and does not wait for it.

    :ivar name: of the history in log lines and errors, such as the path of a file.
    :ivar restored: what was stored when it was opened.
    """

    name: str
    restored: Restored

    def flush(self, flush: Flush) -> Flushed:
        """Store all of *flush*, then give up what is too much or too old.

        :raises StoreError: nothing of it is stored; a later flush may be.
        :raises ValueError: it does not fit what is stored, by a fault of the core.
        """

    def is_overdue(self) -> bool:
        """Whether the next flush gives up batches that are too old; False during a flush."""

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of what is stored, as of the last flush."""

    def close(self) -> None:
        """Let others use it; no flush may be under way.  From then on reading raises StoreError."""

    def close_in_fork(self) -> None:
        """In a forked process: leave it to the parent, and do nothing that the parent would notice."""
