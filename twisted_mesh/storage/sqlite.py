"""The history of a node in a SQLite file, which outlives its process.

Contract: a :class:`SqliteStore` is a :class:`~twisted_mesh.core.history.storage.Store`.  A process that is
killed at any moment loses nothing that was flushed.  When the power fails, the last flushes may be lost,
but the rest is whole.  A reader never waits for a flush and never sees half of one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

from twisted.logger import Logger

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.storage import Flush, Flushed, Piece
from twisted_mesh.errors import StoreError
from twisted_mesh.storage.catalogue import Catalogue, Limits
from twisted_mesh.storage.reader import Reader
from twisted_mesh.storage.sqlite_file import TROUBLE, explain, number, numbers, open_history, transaction

#: Pages of 4 KiB given back to the file system after a flush, if a quarter of the file is free (guess).
_GIVE_BACK_PAGES: Final = 1024

_log = Logger()

_ENDS: Final = """
SELECT (SELECT min(first) FROM batch WHERE stream = :id), (SELECT max(first) FROM batch WHERE stream = :id)
"""
_AT: Final = "SELECT first, arrived FROM batch WHERE stream = ? AND first <= ? ORDER BY first DESC LIMIT 1"


class SqliteStore:
    """A history file in use by this process.

    :ivar name: the path of the file, absolute, without links.
    :ivar restored: what it held when it was opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        network: bytes,
        origin: bytes,
        bytes_limit: int,
        seconds_limit: float,
        closed_limit: int,
        wall_ms: Callable[[], int],
    ) -> None:
        """Open the history at *path*, or make it with mode 0600.

        :param network: the protocol id of the node's network; :param origin: of the node.  Both must be the
            same at every opening.
        :param bytes_limit: of batches; beyond it, the origin with the most bytes gives up its oldest batch.
        :param seconds_limit: how long a batch is kept, by this host's clock.
        :param closed_limit: heads of closed streams; if there are more, the oldest is forgotten.
        :param wall_ms: milliseconds since 1970; it is also called in the thread that flushes.
        :raises StoreError: it cannot be used; the text says why, and what to do about it.
        """
        self.name = os.path.realpath(path)
        self._wall_ms = wall_ms
        self._limits = Limits(bytes_limit, seconds_limit, closed_limit)
        self._opened = open_history(self.name, network, origin)
        self._writer, self._reader = self._opened.writer, self._opened.reader
        self._batches = Reader(self._reader, self._cannot_read)
        self._closed = self._has_logged = False
        with ExitStack() as undo:
            undo.callback(self.close)
            try:
                catalogue = Catalogue(self._writer, self._limits)
                self.restored = catalogue.restored()
            except TROUBLE as error:
                raise explain(self.name, error) from error
            undo.pop_all()
        self._catalogue: Catalogue | None = catalogue
        self._footprint = _footprint(catalogue)

    def flush(self, flush: Flush) -> Flushed:
        """As :meth:`Store.flush`."""
        if self._closed:
            raise self._is_closed()
        catalogue, self._catalogue = self._catalogue, None  # after a failure it is wrong
        try:
            with transaction(self._writer):
                if catalogue is None:
                    catalogue = Catalogue(self._writer, self._limits)
                lows = catalogue.apply(flush, self._wall_ms())
        except TROUBLE as error:
            raise explain(self.name, error) from error
        self._catalogue = catalogue
        self._footprint = _footprint(catalogue)
        self._give_back()
        return Flushed(lows)

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[Piece]:
        """As :meth:`Store.read`; the first error in reading is logged, further ones are not."""
        if self._closed:
            raise self._is_closed()
        yield from self._batches.read(run, first, last, most)

    def first_since(self, run: StreamId, seconds: float) -> int | None:
        """As :meth:`Store.first_since`; a batch that waited behind a hole came when the hole was filled."""
        if self._closed:
            return None
        try:
            self._reader.execute("BEGIN")
            try:
                return self._search(run, self._wall_ms() - seconds * 1000)
            finally:
                self._reader.execute("ROLLBACK")
        except TROUBLE as error:
            self._log_once(error)
            return None

    def is_overdue(self) -> bool:
        """As :meth:`Store.is_overdue`."""
        catalogue = self._catalogue
        return catalogue is not None and catalogue.is_overdue(self._wall_ms())

    def footprint(self) -> dict[str, int]:
        """As :meth:`Store.footprint`."""
        return dict(self._footprint)

    def close(self) -> None:
        """As :meth:`Store.close`."""
        if not self._closed:
            self._closed = True
            self._opened.close()

    def close_in_fork(self) -> None:
        """As :meth:`Store.close_in_fork`."""
        self._closed = True
        self._opened.close_in_fork()

    def _search(self, run: StreamId, since: float) -> int | None:
        stream = self._reader.execute(
            "SELECT id, oldest, newest FROM stream WHERE origin = ? AND epoch = ? AND batches > 0", run
        ).fetchone()
        if stream is None:
            return None
        id, oldest, newest = numbers(stream)
        if newest < since:
            return None
        below, found = numbers(self._reader.execute(_ENDS, {"id": id}).fetchone())
        if oldest >= since:
            return below
        # No batch came before the one it follows: the batch at `below` is too old, the one at `found` is
        # not.
        while below + 1 < found:
            middle = (below + found) // 2
            first, arrived = numbers(self._reader.execute(_AT, (id, middle)).fetchone())
            if arrived >= since:
                found = first
            else:
                below = middle
        return found

    def _give_back(self) -> None:
        """Make the file a little smaller after each flush, if much of it is free."""
        try:
            free = number(self._writer, "freelist_count")
            if free > _GIVE_BACK_PAGES and free * 4 > number(self._writer, "page_count"):
                # Each page is a step of this statement, and execute() does only the first step.
                self._writer.executescript(f"PRAGMA incremental_vacuum({_GIVE_BACK_PAGES})")
        except TROUBLE as error:
            _log.warn("{error}", error=explain(self.name, error))

    def _cannot_read(self, error: Exception) -> None:
        """Log an error in reading.

        :raises StoreError: the store is closed, or reading failed though the file may be whole.
        """
        if self._closed:
            raise self._is_closed()
        self._log_once(error)
        if isinstance(error, sqlite3.OperationalError):  # damage is another DatabaseError
            raise explain(self.name, error) from error

    def _is_closed(self) -> StoreError:
        return StoreError(f"history {self.name} is closed")

    def _log_once(self, error: Exception) -> None:
        if not self._has_logged:
            self._has_logged = True
            _log.error("history {path} cannot be read in part: {error}", path=self.name, error=error)


def _footprint(catalogue: Catalogue) -> dict[str, int]:
    return {
        "stored_streams": len(catalogue),
        "stored_closed": catalogue.closed,
        "stored_batches": catalogue.batches,
        "stored_bytes": catalogue.bytes,
    }
