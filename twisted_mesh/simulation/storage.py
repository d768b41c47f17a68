"""Storing as the simulator has it: what a flush has stored is there after a crash, and nothing else is.

Contract: the core reads a :class:`SimStore` as it reads any other store;
:class:`Scribe` brings there what one run of a node changes, some time after it did, so that a crash can
come in between.
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
from twisted_mesh.core.history.storage import BatchOrMissing, Flush, Flushed, Marks, Restored
from twisted_mesh.core.node import Node
from twisted_mesh.core.overlay.views import Randomness
from twisted_mesh.wire.broadcast import SignedBatch

FLUSH_SECONDS = 0.05  # from the first change to its flush
WRITE_SECONDS = 0.1  # that a flush takes at most


def to_ms(at: float) -> int:
    """What a clock on the wall shows at the time *at* of the world."""
    return int(at * 1000)


class SimClock(Protocol):
    """What it needs of a world."""

    now: float
    random: Random

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Do *call* at the time *when*."""


class SimStore:
    """What one member stores.

    :ivar seconds: how long what came is kept.
    """

    def __init__(self, seconds: float = 7 * 86_400.0) -> None:
        self.seconds = seconds
        self._batches: dict[StreamId, dict[int, tuple[int, SignedBatch]]] = {}
        self._marks: dict[StreamId, Marks] = {}
        self._closed: dict[StreamId, int] = {}
        self._settled = False
        self._now = 0.0

    def restored(self) -> Restored:
        """What is stored."""
        return Restored(list(self._marks.values()), list(self._closed.items()), self._settled)

    def flush(self, flush: Flush, now: float) -> Flushed:
        """Store all of *flush*; what was too old then is gone."""
        self._now = now
        for run, head in flush.closed:
            self._batches.pop(run, None)
            self._marks.pop(run, None)
            self._closed[run] = head
        for came, signed in flush.batches:
            run = (signed.batch.origin, signed.batch.epoch)
            self._batches.setdefault(run, {})[signed.batch.first] = (came, signed)
        for marks in flush.marks:
            self._closed.pop(marks.run, None)
            self._marks[marks.run] = marks
            self._drop_below(marks.run, min(marks.low, marks.taken + 1))
        self._settled = flush.settled
        return Flushed(list(self._age(flush)))

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        """Stored batches, in order."""
        size = 0
        for start, (_, signed) in sorted(self._batches.get(run, {}).items()):
            if signed.batch.last >= first and start <= last:
                if size and size + signed.size > most:
                    return
                size += signed.size
                yield signed

    def first_since(self, run: StreamId, seconds: float) -> int | None:
        """The first message that came within the last *seconds*."""
        since = (self._now - seconds) * 1000
        stored = self._batches.get(run, {})
        return min((start for start, (came, _) in stored.items() if came >= since), default=None)

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
    """Stores what changes in one run of a member: first a little later, and then it takes its time."""

    def __init__(self, store: SimStore, clock: SimClock, stored: Callable[[Marks], None]) -> None:
        """
        :param stored: is told of every stream that was stored.
        """
        self._store = store
        self._clock = clock
        self._told = stored
        self._changes = Changes(store)
        self._node: Node | None = None
        self._due = False
        self._taken: dict[StreamId, int] = {}  # what the application had been handed at the last flush
        self._behind: dict[StreamId, None] = {}  # of which not all was handed out when it was stored

    def node(
        self, local_node: LocalNode, config: MeshConfig, randomness: Randomness, restored: Restored
    ) -> Node:
        """The core of a run that goes on with what was *restored*."""
        self._taken = {marks.run: marks.taken for marks in restored.marks}
        history = History(config, self._changes)
        history.restore(restored, local_node.origin, self._clock.now)
        for marks in restored.marks:  # what is handed out again is to be stored as such
            history.changed(marks.run)
        self._node = Node(local_node, config, randomness, history, restored.settled)
        return self._node

    def look(self, taken: Mapping[StreamId, int]) -> None:
        """Something may have changed; *taken* is what the application was handed."""
        if not self._due:
            self._due = True
            self._clock.at(self._clock.now + FLUSH_SECONDS, partial(self._flush, taken))

    def stop(self) -> None:
        """The member is down, and what is not stored is lost."""
        self._node = None

    def _flush(self, taken: Mapping[StreamId, int]) -> None:
        node, clock = self._node, self._clock
        self._due = False
        if node is None:
            return
        before, self._taken = self._taken, dict(taken)  # a consumer that lags by a flush
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
