"""A store of the history in a SQLite file.

Contract: a :class:`SqliteStore` is a :class:`~twisted_mesh.core.history.storage.Store`.  If the process is
killed, no flushed change is lost.  If the power fails, the last flushes may be lost, but the file is whole.
A reader never waits for a flush, and never sees half of a flush.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

from twisted.logger import Logger

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.storage import (
    BatchOrMissing,
    Flush,
    Flushed,
    StoredRun,
    StoreLimits,
    StoreOwner,
)
from twisted_mesh.errors import StoreError
from twisted_mesh.storage.catalogue import Catalogue
from twisted_mesh.storage.reader import Reader
from twisted_mesh.storage.sqlite_file import (
    FILE_ERRORS,
    explain,
    number,
    numbers,
    open_history,
    transaction,
)

#: Pages of 4 KiB by which the file shrinks after a flush, if a quarter of the file is free (guess).
_GIVE_BACK_PAGES: Final = 1024

_log = Logger()

_FIRST_AND_LAST: Final = """
SELECT (SELECT min(first) FROM batch WHERE stream = :id), (SELECT max(first) FROM batch WHERE stream = :id)
"""
_AT_OR_BELOW: Final = """
SELECT first, arrived FROM batch WHERE stream = ? AND first <= ? ORDER BY first DESC LIMIT 1
"""

_RUNS: Final = "SELECT origin, epoch, bytes, oldest, newest FROM stream WHERE batches > 0"


class SqliteStore:
    """A history file in use by this process; :attr:`name` is its absolute path, without links."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        owner: StoreOwner,
        limits: StoreLimits,
        wall_ms: Callable[[], int],
    ) -> None:
        """Open the history at *path*, or make it with mode 0600.

        :param owner: must be the same at every opening.
        :param wall_ms: milliseconds since 1970; it is also called in the thread that flushes.
        :raises StoreError: the file cannot be used; the text says why, and what to do about it.
        """
        self._wall_ms = wall_ms
        self._limits = limits
        self._opened = open_history(path, owner)
        self.name = self._opened.path
        self._writer, self._reader = self._opened.writer, self._opened.reader
        self._batches = Reader(self._reader, self._cannot_read)
        self._closed = self._has_logged = False
        with ExitStack() as undo:
            undo.callback(self.close)
            try:
                catalogue = Catalogue(self._writer, limits)
                self.restored = catalogue.restored()
            except FILE_ERRORS as error:
                raise explain(self.name, error) from error
            undo.pop_all()
        self._catalogue: Catalogue | None = catalogue  # None after a flush that failed
        self._size = catalogue.size()

    def flush(self, flush: Flush) -> Flushed:
        self._check_open()
        # If the transaction fails, the catalogue is wrong, and the next flush makes a new one.
        catalogue, self._catalogue = self._catalogue, None
        try:
            with transaction(self._writer):
                if catalogue is None:
                    catalogue = Catalogue(self._writer, self._limits)
                lows = catalogue.apply(flush, self._wall_ms())
        except FILE_ERRORS as error:
            raise explain(self.name, error) from error
        self._catalogue = catalogue
        self._size = catalogue.size()
        self._shrink_file()
        return Flushed(lows)

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        """As :meth:`Store.read`; the first error in reading is logged, further ones are not."""
        self._check_open()
        yield from self._batches.read(run, first, last, most)

    def first_since(self, run: StreamId, seconds: float) -> int | None:
        """As :meth:`Store.first_since`; None if the file cannot be read."""
        if self._closed:
            return None
        try:
            self._reader.execute("BEGIN")
            try:
                return self._search(run, self._wall_ms() - seconds * 1000)
            finally:
                self._reader.execute("ROLLBACK")
        except FILE_ERRORS as error:
            self._log_once(error)
            return None

    def runs(self) -> dict[StreamId, StoredRun]:
        """As :meth:`Store.runs`."""
        if self._closed:
            return {}
        now = self._wall_ms()
        try:
            return {
                (origin, epoch): StoredRun(bytes, (now - oldest) / 1000, (now - newest) / 1000)
                for origin, epoch, bytes, oldest, newest in self._reader.execute(_RUNS).fetchall()
            }
        except FILE_ERRORS as error:
            self._log_once(error)
            return {}

    def is_overdue(self) -> bool:
        catalogue = self._catalogue
        return catalogue is not None and catalogue.is_overdue(self._wall_ms())

    def footprint(self) -> dict[str, int]:
        return self._size._asdict()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._opened.close()

    def close_in_fork(self) -> None:
        self._closed = True
        self._opened.close_in_fork()

    def _search(self, run: StreamId, since: float) -> int | None:
        """Find by bisection the first batch that came at *since* or later: times rise with the numbers."""
        stream = self._reader.execute(
            "SELECT id, oldest, newest FROM stream WHERE origin = ? AND epoch = ? AND batches > 0", run
        ).fetchone()
        if stream is None:
            return None
        id, oldest, newest = numbers(stream)
        if newest < since:
            return None
        too_old, found = numbers(self._reader.execute(_FIRST_AND_LAST, {"id": id}).fetchone())
        if oldest >= since:
            return too_old
        while too_old + 1 < found:
            middle = (too_old + found) // 2
            first, arrived = numbers(self._reader.execute(_AT_OR_BELOW, (id, middle)).fetchone())
            if arrived >= since:
                found = first
            else:
                too_old = middle
        return found

    def _shrink_file(self) -> None:
        """If much of the file is free, make it a little smaller."""
        try:
            free = number(self._writer, "freelist_count")
            if free > _GIVE_BACK_PAGES and free * 4 > number(self._writer, "page_count"):
                # The statement has a step for each page; execute() would do the first step only.
                self._writer.executescript(f"PRAGMA incremental_vacuum({_GIVE_BACK_PAGES})")
        except FILE_ERRORS as error:
            _log.warn("{error}", error=explain(self.name, error))

    def _cannot_read(self, error: Exception) -> None:
        """Log an error in reading; return if it means that the file is damaged.

        :raises StoreError: the store is closed, or reading failed though the file may be whole.
        """
        self._check_open()
        self._log_once(error)
        if isinstance(error, sqlite3.OperationalError):  # damage raises other kinds of DatabaseError
            raise explain(self.name, error) from error

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"history {self.name} is closed")

    def _log_once(self, error: Exception) -> None:
        if not self._has_logged:
            self._has_logged = True
            _log.error("history {path} cannot be read in part: {error}", path=self.name, error=error)
