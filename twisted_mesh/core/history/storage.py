"""The interface between a node and the store of its history.

Contract: this module has all that a store must know: its methods (:class:`Store`), its limits, the values
that it takes and gives, and the names under which it counts them.  A store keeps the batches that have
joined the head of each stream, and the :class:`Marks` of each stream.  It stores all of a :class:`Flush` or
nothing of it.  After a crash the core begins with the :class:`Restored` values.  The core never waits for a
store: what is not stored yet is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from twisted_mesh.core.events import Behind, StreamId
from twisted_mesh.wire.broadcast import SignedBatch

#: For each named consumer, the last message of a stream that it has taken.
Places = tuple[tuple[str, int], ...]
_NONE: Mapping[str, Any] = MappingProxyType({})


class StoreOwner(NamedTuple):
    """The node whose history a store keeps: the protocol id of its network, and its origin."""

    network: bytes
    origin: bytes


class StoreLimits(NamedTuple):
    """How much a store keeps.

    :ivar bytes: of all batches; if there are more, streams lose their oldest batches, in turn
        (:mod:`~twisted_mesh.core.history.eviction`).
    :ivar seconds: how long a batch is kept after it came, by this host's clock.
    :ivar closed: heads of closed streams; if there are more, the oldest is forgotten.
    :ivar authors: authors of which some runs are over; if there are more, the one stored longest ago is
        forgotten.
    """

    bytes: int
    seconds: float
    closed: int
    authors: int


class StoreSize(NamedTuple):
    """How much a store keeps now: the entries of its footprint, under the names that every store uses."""

    stored_streams: int
    stored_closed: int
    stored_authors: int
    stored_batches: int
    stored_bytes: int
    stored_consumers: int = 0


class Marks(NamedTuple):
    """How far one stream has come.

    :ivar head: this node has received every message up to this number.
    :ivar low: the lowest number from which on every message up to the head is held; head + 1 if none is.
        Below it only messages above :attr:`slowest` stay stored.
    :ivar base: messages up to this number are never delivered to the application.
    :ivar taken: the last message that handlers, listeners and iterators without a name have taken, at most
        the head; in a stream of this node's own, the last message that a neighbour has.
    :ivar equivocated: whether its author signed two different batches under one number.
    :ivar whole: from this number on no message is missing that was to be delivered.
    :ivar header: the header of the batch that ends at the head, as in frames; empty if it is not known.
    :ivar introducer: the site that introduced its author; None if the author is known
        (:mod:`~twisted_mesh.core.authors`).
    :ivar places: the last message that each named consumer has taken, at most the head, by name; the base,
        if a name is not there.
    """

    run: StreamId
    head: int
    low: int
    base: int
    taken: int
    equivocated: bool
    whole: int = 1
    header: bytes = b""
    introducer: str | None = None
    places: Places = ()

    @property
    def slowest(self) -> int:
        """The last message that all consumers have taken."""
        return min((self.taken, *(place for _, place in self.places)))

    def place(self, name: str) -> int:
        """The last message that the named consumer has taken."""
        return max(self.base, dict(self.places).get(name, 0))


class AuthorMarks(NamedTuple):
    """Which runs of one author are over (:mod:`~twisted_mesh.core.history.past_runs`).

    :ivar floor: no message of lower epochs is taken.
    :ivar ended: lower epochs had ended before this node joined, and are never delivered here.
    """

    origin: bytes
    floor: int
    ended: int


class Flush(NamedTuple):
    """The changes that a store is to store, all of them or none.

    :ivar batches: each with the time when it came, in ms since 1970 by this host's clock.  The batches of
        one stream are in order.  Each joins the batch stored before it, or follows a new ``low`` of its
        marks.
    :ivar marks: of every stream that changed.
    :ivar closed: streams, and the head of each, which alone is kept from now on.  A stream that is also in
        *marks* is open.
    :ivar own: this node's own stream, and the last message of it that a neighbour has; the store never
        gives up later ones.
    :ivar settled: whether the node has a base.
    :ivar forgotten: streams of which nothing is kept, not even the head.  A stream that is also in *marks*
        or *closed* begins anew.
    :ivar authors: of every author whose marks changed.
    :ivar consumers: all named consumers, if one has changed: by name, since when nobody has it open, in ms
        since 1970; 0 if somebody has.  The places of other names are deleted.
    """

    batches: Sequence[tuple[int, SignedBatch]]
    marks: Sequence[Marks]
    closed: Sequence[tuple[StreamId, int]]
    own: tuple[StreamId, int]
    settled: bool
    forgotten: Sequence[StreamId] = ()
    authors: Sequence[AuthorMarks] = ()
    consumers: Mapping[str, int] | None = None


class Flushed(NamedTuple):
    """The result of a flush.

    :ivar lows: streams of which the oldest batches were given up, and the lowest number still stored.
    """

    lows: Sequence[tuple[StreamId, int]]


class Restored(NamedTuple):
    """The content of a store when it was opened.

    *closed* begins with the stream closed first, and *authors* with the author stored longest ago.
    *consumers* is as in :class:`Flush`.
    """

    marks: Sequence[Marks] = ()
    closed: Sequence[tuple[StreamId, int]] = ()
    settled: bool = False
    authors: Sequence[AuthorMarks] = ()
    consumers: Mapping[str, int] = _NONE

    def untaken(self, origin: bytes, name: str | None = None) -> Iterator[Behind]:
        """The stored messages that a consumer still has to take; those of this node, *origin*, are not.

        :param name: of the consumer; None for handlers, listeners and iterators without a name.
        """
        for marks in self.marks:
            taken = max(marks.taken, marks.base) if name is None else marks.place(name)
            if taken < marks.head and marks.run[0] != origin:
                yield Behind(marks.run, taken, marks.head)

    def newest_epoch(self, origin: bytes, limit: int) -> int:
        """The newest epoch of *origin* that is not above *limit*; 0 if there is none."""
        runs = [*(marks.run for marks in self.marks), *(run for run, _ in self.closed)]
        return max((epoch for author, epoch in runs if author == origin and epoch <= limit), default=0)


class Missing(NamedTuple):
    """Messages *first* to *last* of a stream, which should be stored and cannot be read.

    :ivar damaged: whether the store has them, but damaged.
    """

    first: int
    last: int
    damaged: bool


BatchOrMissing = SignedBatch | Missing


class StoredRun(NamedTuple):
    """The stored batches of one stream: their bytes, and how many seconds ago the first and last came."""

    bytes: int
    oldest: float
    newest: float


class StoredBatches(Protocol):
    """The part of a store that the core reads from, in the reactor's thread, at any time."""

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        """Read the stored batches with messages *first* to *last*, in order, up to *most* bytes.

        The first of them is read even if it is larger.  One :class:`Missing` takes the place of damaged
        batches.

        :raises StoreError: they cannot be read now, or the store is closed.  They may still be stored.
        """

    def first_since(self, run: StreamId, seconds: float) -> int | None:
        """The first message of the oldest stored batch that came within the last *seconds*, or None.

        A batch that waited behind a hole counts as having come when the hole was filled.
        """

    def runs(self) -> Mapping[StreamId, StoredRun]:
        """Each stream of which batches are stored; empty if that cannot be read now."""


class Store(StoredBatches, Protocol):
    """A store that this process has opened and nobody else uses.

    Each kind of store has a constructor of its own, which opens it, or raises
    :class:`~twisted_mesh.errors.StoreError`.  :meth:`flush` is called in the writer's thread, one flush at
    a time.  The other methods are called in the reactor's thread, also during a flush, and do not wait for
    it.

    :ivar name: of the history in log lines and errors, such as the path of a file.
    :ivar restored: the content of the store when it was opened.
    """

    name: str
    restored: Restored

    def flush(self, flush: Flush) -> Flushed:
        """Store all of *flush*, then give up the batches that are beyond the limits.

        :raises StoreError: nothing of *flush* is stored; a later flush may succeed.
        :raises ValueError: *flush* does not fit what is stored: a bug in the core.
        """

    def is_overdue(self) -> bool:
        """Whether the next flush gives up batches that are too old; False during a flush."""

    def footprint(self) -> dict[str, int]:
        """The :class:`StoreSize` after the last flush, as a dict."""

    def close(self) -> None:
        """Let others use the store; no flush may be under way.  From then on reading raises StoreError."""

    def close_in_fork(self) -> None:
        """In a forked process: leave the store to the parent, and do nothing that the parent notices."""
