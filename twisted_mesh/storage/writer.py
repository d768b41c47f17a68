"""Writes the changes of the history to the store, in a thread of its own.

Contract: a *flush* writes all changes so far.  There is one flush at a time: ``flush_interval`` after the
first change, or when stored batches have become too old.  The core never waits for a flush.  If the store
cannot be written, :attr:`HistoryWriter.full` is set and the writer tries again every ``store_retry``; until
it succeeds, all changes stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import Stored
from twisted_mesh.core.history.changes import Changes
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.storage import Flush, Flushed, Store
from twisted_mesh.core.node import Node
from twisted_mesh.errors import StoreError, StoreFull
from twisted_mesh.eventloop.deferreds import WaitingDeferreds

#: Seconds between flushes that only give up old batches (guess).  Without a pause they would never end:
#: messages of this node's own that no neighbour has stay overdue, but are never given up.
_AGE_INTERVAL: Final = 60.0
_log = Logger()


class NotStored(NamedTuple):
    """The store cannot be written; published once until it can be written again."""

    error: StoreFull


class HistoryWriter:
    """Writes to the store during one run of a service.

    :ivar full: whether the last flush could not be stored.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        store: Store,
        config: MeshConfig,
        publish: Callable[[Stored | NotStored], None],
        wall_clock: Callable[[], float],
    ) -> None:
        """
        :param reactor: runs the thread; :param clock: runs the timers.
        :param publish: called with the result of each flush.
        :param wall_clock: seconds since 1970.
        """
        self.store = store
        self.full = False
        self._reactor = reactor
        self._clock = clock
        self._config = config
        self._publish = publish
        self._wall_clock = wall_clock
        self._changes = Changes(store)
        self._history = History(config, self._changes)
        self._node: Node | None = None
        self._due: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None
        self._writable = WaitingDeferreds[None]()
        self._stopped = False
        self._flush_ended = clock.seconds()
        self._pool: ThreadPool | None = None
        if IReactorFromThreads.providedBy(reactor):  # a Clock has no threads
            self._pool = ThreadPool(0, 1, "history")  # its thread starts with the first flush
            self._pool.start()

    def history(self, origin: bytes) -> History:
        """The history of the node *origin*, with the content of the store."""
        self._history.restore(self.store.restored, origin, self._clock.seconds())
        return self._history

    def look(self, node: Node) -> None:
        """Schedule a flush if the history of *node* has changed."""
        self._node = node
        if self._stopped:  # the application may still take messages, which changes the history
            return
        if self._due is None and self._writing is None and self._has_work():
            self._due = self._clock.callLater(self._config.flush_interval, self._flush)

    def writable(self) -> Deferred[None]:
        """Fires when the history can be written again, or the writer stops; call it only while *full*."""
        return self._writable.wait()

    def footprint(self) -> dict[str, int]:
        """The store's footprint, and how many streams have unstored changes."""
        return {**self.store.footprint(), "unstored_streams": len(self._changes)}

    async def stop(self) -> None:
        """Store the last changes, if the store can be written, and close it."""
        with ExitStack() as end:  # runs the last step first, and each if another fails
            end.callback(self.store.close)
            if self._pool is not None:
                end.callback(self._pool.stop)  # returns at once: no flush is under way
            end.callback(self._end)
            if self._writing is not None:
                await self._writing
            self._cancel_due()
            if self._has_work():
                self._flush()
                if self._writing is not None:
                    await self._writing

    def _end(self) -> None:
        self._stopped = True
        self._cancel_due()
        self._writable.happened(None)

    def _cancel_due(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _has_work(self) -> bool:
        if (node := self._node) is None:
            return False
        return bool(self._changes) or node.settled != self._changes.settled or self._has_old_batches()

    def _has_old_batches(self) -> bool:
        """Whether a flush is due only to give up old batches, as on a node without traffic."""
        return self._clock.seconds() - self._flush_ended >= _AGE_INTERVAL and self.store.is_overdue()

    def _flush(self) -> None:
        self._due = None
        node = self._node
        assert node is not None
        status = node.status()
        own = (status.stream, status.accepted)
        anyway = self.full or self._has_old_batches()
        flush = self._changes.flush(self._history.get, own, status.settled, self._wall_ms, anyway)
        if flush is None:
            return
        done = self._writing = Deferred[None]()
        write, pool = self.store.flush, self._pool
        written: Deferred[Flushed] = (
            execute(write, flush) if pool is None else deferToThreadPool(self._reactor, pool, write, flush)
        )
        written.addCallbacks(self._stored, self._not_stored, (flush,))
        written.addErrback(lambda failure: _log.failure("handling a flush failed", failure))
        written.addBoth(lambda _: self._written(node, done))

    def _stored(self, flushed: Flushed, flush: Flush) -> None:
        self._changes.stored(flushed, self._history.get)
        self._publish(Stored([marks.run for marks in flush.marks]))
        if self.full:
            self.full = False
            _log.warn("the history can be written again")
            self._writable.happened(None)

    def _not_stored(self, failure: Failure) -> None:
        self._changes.failed(self._history.get)
        if failure.check(StoreError) is None:
            _log.failure("storing the history failed", failure)
        if not self.full:
            self.full = True
            error = StoreFull(f"{failure.getErrorMessage()}; nothing is sent until it can be written again")
            _log.error("{error}", error=error)
            self._publish(NotStored(error))

    def _written(self, node: Node, done: Deferred[None]) -> None:
        self._writing = None
        self._flush_ended = self._clock.seconds()
        if self.full:
            self._due = self._clock.callLater(self._config.store_retry, self._flush)
        else:
            self.look(node)
        done.callback(None)

    def _wall_ms(self, at: float) -> int:
        """The time *at* of the monotonic clock, as milliseconds since 1970."""
        return int((self._wall_clock() - (self._clock.seconds() - at)) * 1000)
