"""The store of a simulated member: after a crash it has the changes that were flushed, and no others.

Contract: the core reads a :class:`SimStore` like any other store.  A :class:`Scribe` stores the changes of
one run with a delay, so that a crash can come before a flush.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random
from typing import Protocol

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.changes import Changes
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.storage import (
    AuthorMarks,
    BatchOrMissing,
    Flush,
    Flushed,
    Marks,
    Restored,
    StoredRun,
)
from twisted_mesh.core.node import Node
from twisted_mesh.core.overlay.views import Randomness
from twisted_mesh.wire.broadcast import SignedBatch

FLUSH_SECONDS = 0.05  # from the first change to the flush
WRITE_SECONDS = 0.1  # that a flush takes, at most


def to_ms(at: float) -> int:
    """The wall-clock time, in milliseconds, at the time *at* of the world."""
    return int(at * 1000)


class SimClock(Protocol):
    """The clock and the randomness of a world."""

    now: float
    random: Random

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call *call* at the time *when*."""


class SimStore:
    """The store of one member.

    :ivar seconds: how long batches are kept.
    """

    def __init__(self, seconds: float = 7 * 86_400.0) -> None:
        self.seconds = seconds
        self._batches: dict[StreamId, dict[int, tuple[int, SignedBatch]]] = {}
        self._marks: dict[StreamId, Marks] = {}
        self._closed: dict[StreamId, int] = {}
        self._authors: dict[bytes, AuthorMarks] = {}
        self._settled = False
        self._consumers: Mapping[str, int] = {}
        self._now = 0.0

    def restored(self) -> Restored:
        """The stored values with which a new run begins."""
        authors = tuple(self._authors.values())
        marks, closed = list(self._marks.values()), list(self._closed.items())
        return Restored(marks, closed, self._settled, authors, self._consumers)

    def flush(self, flush: Flush, now: float) -> Flushed:
        """Store all of *flush*, and delete the batches that are too old."""
        self._now = now
        for run in (*flush.forgotten, *(run for run, _ in flush.closed)):
            self._batches.pop(run, None)
            self._marks.pop(run, None)
            self._closed.pop(run, None)
        self._closed.update(flush.closed)
        for marks_of_author in flush.authors:
            self._authors.pop(marks_of_author.origin, None)
            self._authors[marks_of_author.origin] = marks_of_author
        for came, signed in flush.batches:
            run = (signed.batch.origin, signed.batch.epoch)
            self._batches.setdefault(run, {})[signed.batch.first] = (came, signed)
        for marks in flush.marks:
            self._closed.pop(marks.run, None)
            self._marks[marks.run] = marks
            self._drop_below(marks.run, min(marks.low, marks.slowest + 1))
        if flush.consumers is not None:
            self._consumers = flush.consumers
        self._settled = flush.settled
        return Flushed(list(self._age(flush)))

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        """The stored batches with messages *first* to *last*, in order, of about *most* bytes."""
        size = 0
        for start, (_, signed) in sorted(self._batches.get(run, {}).items()):
            if signed.batch.last >= first and start <= last:
                if size and size + signed.size > most:
                    return
                size += signed.size
                yield signed

    def first_since(self, run: StreamId, seconds: float) -> int | None:
        """The number of the first message that came within the last *seconds*; None if none did."""
        since = (self._now - seconds) * 1000
        stored = self._batches.get(run, {})
        return min((start for start, (came, _) in stored.items() if came >= since), default=None)

    def runs(self) -> dict[StreamId, StoredRun]:
        """Each stream of which batches are stored."""
        found = {}
        for run, stored in self._batches.items():
            if came := [self._now - at / 1000 for at, _ in stored.values()]:
                size = sum(signed.size for _, signed in stored.values())
                found[run] = StoredRun(size, max(came), min(came))
        return found

    def _age(self, flush: Flush) -> Iterator[tuple[StreamId, int]]:
        before = (self._now - self.seconds) * 1000
        for run, stored in self._batches.items():
            old = [signed.batch.last for came, signed in stored.values() if came <= before]
            low = max(old, default=0) + 1
            if run == flush.own[0]:
                low = min(low, flush.own[1] + 1)
            self._drop_below(run, low)
            if low > self._marks[run].low:
                self._marks[run] = self._marks[run]._replace(low=low)
                yield run, low

    def _drop_below(self, run: StreamId, low: int) -> None:
        stored = self._batches.get(run, {})
        for start in [start for start, (_, signed) in stored.items() if signed.batch.last < low]:
            del stored[start]


class Scribe:
    """Stores the changes of one run of a member, after a delay."""

    def __init__(self, store: SimStore, clock: SimClock, stored: Callable[[Marks], None]) -> None:
        """:param stored: called for every stream that was stored."""
        self._store = store
        self._clock = clock
        self._told = stored
        self._changes = Changes(store)
        self._node: Node | None = None
        self._due = False
        self._taken: dict[StreamId, int] = {}  # by run: the last delivered message, at the last flush
        self._behind: dict[StreamId, None] = {}  # runs that were stored with undelivered messages

    def node(
        self, local_node: LocalNode, config: MeshConfig, randomness: Randomness, restored: Restored
    ) -> Node:
        """Make the core of a run that begins with the values *restored*."""
        self._taken = {marks.run: marks.taken for marks in restored.marks}
        history = History(config, self._changes)
        history.restore(restored, local_node.origin, self._clock.now)
        for marks in restored.marks:  # the next flush stores what is delivered again
            history.changed(marks.run)
        self._node = Node(local_node, config, randomness, history, restored.settled)
        return self._node

    def look(self, taken: Mapping[StreamId, int]) -> None:
        """Schedule a flush; *taken* has the last delivered message of each run."""
        if not self._due:
            self._due = True
            self._clock.at(self._clock.now + FLUSH_SECONDS, partial(self._flush, taken))

    def stop(self) -> None:
        """The member is down: changes that are not stored yet are lost."""
        self._node = None

    def _flush(self, taken: Mapping[StreamId, int]) -> None:
        node, clock = self._node, self._clock
        self._due = False
        if node is None:
            return
        before, self._taken = self._taken, dict(taken)  # the application takes messages one flush later
        for stream in node.history:
            stream.taken = before.get(stream.run, stream.base)
        for run in self._behind:
            node.history.changed(run)
        flush = self._changes.flush(
            node.history.get, (node.outbox.run, node.outbox.accepted), node.settled, to_ms
        )
        if flush is not None:
            for marks in flush.marks:
                if marks.taken < marks.head:
                    self._behind[marks.run] = None
                else:
                    self._behind.pop(marks.run, None)
            clock.at(clock.now + WRITE_SECONDS * clock.random.random(), partial(self._write, flush))

    def _write(self, flush: Flush) -> None:
        if self._node is not None:
            self._changes.stored(self._store.flush(flush, self._clock.now), self._node.history.get)
            for marks in flush.marks:
                self._told(marks)
