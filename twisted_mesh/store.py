"""The history of a node in a SQLite file: what outlives its process.

Contract: a :class:`Store` implements :class:`~twisted_mesh.core.shelf.Shelf` and stores each
:class:`~twisted_mesh.core.shelf.Flush` whole or not at all.  A process that is killed at any moment loses
nothing that was flushed; when the power fails the last flushes may be lost, but what is left is whole.
One thread may flush while another reads: a reader never waits for a flush and never sees half of one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final
from zlib import crc32

from twisted.logger import Logger

from twisted_mesh.core.events import Run
from twisted_mesh.core.shelf import Flush, Flushed
from twisted_mesh.errors import RemoteError, StoreError
from twisted_mesh.store_file import TROUBLE, explain, number, numbers, open_history, transaction
from twisted_mesh.store_ledger import Ledger, Limits
from twisted_mesh.wire import native
from twisted_mesh.wire.native import SignedBatch

_READ_BYTES: Final = 2**20  # what is read at once: no statement stays open, it would keep the log growing
_GIVE_BACK_PAGES: Final = 1024  # of 4 KiB to the file system after a flush, where a quarter is free (guess)
_MAX: Final = 2**63 - 1  # SQLite's integers

_log = Logger()

_FIND_BATCHES: Final = """
SELECT batch.first, batch.last, checksum, payload FROM stream JOIN batch ON batch.stream = stream.id
WHERE origin = :origin AND epoch = :epoch AND batch.first <= :last AND batch.last >= :first
AND batch.first >= coalesce(
    (SELECT max(first) FROM batch AS before WHERE before.stream = stream.id AND before.first <= :first), 0)
ORDER BY batch.first
"""
_ENDS: Final = """
SELECT (SELECT min(first) FROM batch WHERE stream = :id), (SELECT max(first) FROM batch WHERE stream = :id)
"""
_AT: Final = "SELECT first, arrived FROM batch WHERE stream = ? AND first <= ? ORDER BY first DESC LIMIT 1"


class Store:
    """A history file in use by this process.

    :ivar restored: what it held when it was opened.
    :ivar path: of the file, absolute, without links.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        network: bytes,
        bytes_limit: int,
        seconds_limit: float,
        closed_limit: int,
        wall_ms: Callable[[], int],
    ) -> None:
        """Open the history at *path*, mode 0600, or make it.

        :param network: the protocol id of the node's network; it must be the same at every opening.
        :param bytes_limit: of batches; beyond it the origin with the most gives up its oldest.
        :param seconds_limit: how long a batch is kept, by this host's clock.
        :param closed_limit: heads of closed streams; of more, the oldest is forgotten.
        :param wall_ms: milliseconds since 1970; any thread that flushes calls it.
        :raises StoreError: it cannot be used; the text says why, and what to do about it.
        """
        self.path = os.path.realpath(path)
        self._wall_ms = wall_ms
        self._limits = Limits(bytes_limit, seconds_limit, closed_limit)
        self._opened = open_history(self.path, network)
        self._writer, self._reader = self._opened.writer, self._opened.reader
        self._closed = self._complained = False
        try:
            ledger = Ledger(self._writer, self._limits)
            self.restored = ledger.restored()
        except TROUBLE as error:
            self.close()
            raise explain(self.path, error) from error
        self._ledger: Ledger | None = ledger
        self._footprint = _footprint(ledger)

    def flush(self, flush: Flush) -> Flushed:
        """Store all of *flush*, then give up what is too much or too old.

        In any thread, one flush at a time.  A run that is in both its marks and its closed is open.

        :raises StoreError: nothing of it is stored; the next one may be.
        :raises ValueError: it does not fit what is stored: the core's fault.
        """
        if self._closed:
            raise self._is_closed()
        ledger, self._ledger = self._ledger, None  # what a failure leaves of it is wrong
        try:
            with transaction(self._writer):
                if ledger is None:
                    ledger = Ledger(self._writer, self._limits)
                lows = ledger.apply(flush, self._wall_ms())
        except TROUBLE as error:
            raise explain(self.path, error) from error
        self._ledger = ledger
        self._footprint = _footprint(ledger)
        self._give_back()
        return Flushed(lows)

    def read(self, run: Run, first: int, last: int, most: int) -> Iterator[SignedBatch]:
        """Stored batches with messages *first* to *last*, in order: one, and more up to *most* bytes.

        What is damaged is left out, counts as if it were not, and is logged once.

        :raises StoreError: it cannot be read now, as when the disk fails, which is logged once, too; or
            the store is closed.
        """
        size = 0
        going_on: int | None = first
        while going_on is not None and going_on <= last:
            rows, going_on = self._read(run, going_on, last, min(most - size, _READ_BYTES))
            for signed, length in rows:
                if size and size + length > most:
                    return
                size += length
                if signed is not None:
                    yield signed

    def first_since(self, run: Run, seconds: float) -> int | None:
        """The first message of the first stored batch that came within the last *seconds*, or None.

        What waited behind a hole came when the hole was filled.
        """
        if self._closed:
            return None
        try:
            self._reader.execute("BEGIN")
            try:
                return self._search(run, self._wall_ms() - seconds * 1000)
            finally:
                self._reader.execute("ROLLBACK")
        except TROUBLE as error:
            self._tell(error)
            return None

    def is_overdue(self) -> bool:
        """Whether the next flush gives up what is too old; False while one is under way."""
        ledger = self._ledger
        return ledger is not None and ledger.is_overdue(self._wall_ms())

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of what is stored, as of the last flush."""
        return dict(self._footprint)

    def close(self) -> None:
        """Let others have the file; no flush may be under way.  Nothing is read from it any more."""
        if not self._closed:
            self._closed = True
            self._opened.close()

    def _read(
        self, run: Run, first: int, last: int, most: int
    ) -> tuple[list[tuple[SignedBatch | None, int]], int | None]:
        """Some batches, each with its bytes and None if it is damaged; from where there may be more."""
        rows: list[tuple[SignedBatch | None, int]] = []
        if self._closed:
            raise self._is_closed()
        origin, epoch = run
        wanted = {"origin": origin, "epoch": epoch, "first": first, "last": min(last, _MAX)}
        try:
            with closing(self._reader.execute(_FIND_BATCHES, wanted)) as found:
                for row in found:
                    rows.append(self._checked(run, *row))
                    most -= rows[-1][1]
                    if most < 0:
                        return rows, max(numbers(row[:2])) + 1
        except TROUBLE as error:
            self._tell(error)
            if isinstance(error, sqlite3.OperationalError):  # damage is another DatabaseError
                raise explain(self.path, error) from error
        return rows, None

    def _checked(
        self, run: Run, first: object, last: object, checksum: object, payload: object
    ) -> tuple[SignedBatch | None, int]:
        """The batch in a row and its bytes; None if it is not what was stored.

        No neighbour may get it, it would close the link.
        """
        try:
            signed = _decoded(run, first, last, checksum, payload)
        except RemoteError as error:
            self._tell(error)
            return None, len(payload) if isinstance(payload, (bytes, str)) else 0
        return signed, len(signed.array)

    def _search(self, run: Run, since: float) -> int | None:
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
        # None came before the one it follows: what begins at `below` is too old, at `found` it is not.
        while below + 1 < found:
            middle = (below + found) // 2
            first, arrived = numbers(self._reader.execute(_AT, (id, middle)).fetchone())
            if arrived >= since:
                found = first
            else:
                below = middle
        return found

    def _give_back(self) -> None:
        """Make the file smaller, a little after each flush, where much of it is free."""
        try:
            free = number(self._writer, "freelist_count")
            if free > _GIVE_BACK_PAGES and free * 4 > number(self._writer, "page_count"):
                # Each page is a step of it, of which execute() does the first alone.
                self._writer.executescript(f"PRAGMA incremental_vacuum({_GIVE_BACK_PAGES})")
        except TROUBLE as error:
            _log.warn("{error}", error=explain(self.path, error))

    def _is_closed(self) -> StoreError:
        return StoreError(f"history {self.path} is closed")

    def _tell(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            _log.error("history {path} cannot be read in part: {error}", path=self.path, error=error)


def _decoded(run: Run, first: object, last: object, checksum: object, payload: object) -> SignedBatch:
    """The batch in a row.

    :raises RemoteError: it is not what was stored; no neighbour may get it, it would close the link.
    """
    if isinstance(payload, bytes) and crc32(payload) == checksum:
        signed = native.decode(payload)
        if isinstance(signed, SignedBatch):
            batch = signed.batch
            if (batch.origin, batch.epoch, batch.first, batch.last) == (*run, first, last):
                return signed
    raise RemoteError(f"the batch from {first} on is damaged")


def _footprint(ledger: Ledger) -> dict[str, int]:
    return {
        "stored_streams": len(ledger),
        "stored_closed": ledger.closed,
        "stored_batches": ledger.batches,
        "stored_bytes": ledger.bytes,
    }
