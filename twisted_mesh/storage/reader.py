"""Reads batches from the history file, even if parts of it are damaged.

Contract: a :class:`Reader` reads some batches at a time, and leaves no statement open.  If a page of the
file cannot be read, the reader finds the batches one by one in the index, which has pages of its own, and
leaves out only those that are damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final, NamedTuple
from zlib import crc32

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.storage import BatchOrMissing, Missing
from twisted_mesh.errors import RemoteError
from twisted_mesh.storage.sqlite_file import FILE_ERRORS, numbers
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import SignedBatch

#: Bytes read by one statement (guess): a statement that stays open would keep the log growing.
_READ_BYTES: Final = 2**20
_KEYS: Final = 64  # keys found by one statement (guess)
_MAX: Final = 2**63 - 1  # the largest integer of SQLite

_FIND_BATCHES: Final = """
SELECT batch.first, batch.last, checksum, payload FROM stream JOIN batch ON batch.stream = stream.id
WHERE origin = :origin AND epoch = :epoch AND batch.first <= :last
AND batch.first >= coalesce(:start,
    (SELECT max(first) FROM batch AS before WHERE before.stream = stream.id AND before.first <= :first), 0)
ORDER BY batch.first
"""
_FIND_STREAM: Final = "SELECT id FROM stream WHERE origin = ? AND epoch = ?"
_FIND_START: Final = "SELECT max(first) FROM batch WHERE stream = ? AND first <= ?"
_FIND_KEYS: Final = f"""
SELECT first, rowid FROM batch WHERE stream = ? AND first BETWEEN ? AND ? ORDER BY first LIMIT {_KEYS}
"""
_FIND_NEXT: Final = "SELECT first, rowid FROM batch WHERE stream = ? AND first >= ? ORDER BY first LIMIT 1"
_FIND_ROW: Final = "SELECT last, checksum, payload FROM batch WHERE rowid = ?"


class _Row(NamedTuple):
    """A batch that begins with the message *first*; *signed* is None if the batch is damaged."""

    first: int
    signed: SignedBatch | None
    size: int


class _Rows(NamedTuple):
    """Some rows in order.  More may follow from message *start* on; if *start* is None, none follow."""

    rows: Sequence[_Row]
    start: int | None


class Reader:
    """Reads the batches of a history file."""

    def __init__(self, database: sqlite3.Connection, failed: Callable[[Exception], None]) -> None:
        """:param failed: called with each error in reading; it raises if the error does not mean damage."""
        self._database = database
        self._failed = failed

    def read(self, run: StreamId, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
        """As :meth:`Store.read`; damaged batches count towards *most* like others."""
        last = min(last, _MAX)
        if first > last:
            return
        size = 0
        damaged: int | None = None  # the first message of the damage that was read last
        reached: int | None = None
        rows, start = self._read(run, first, last, None, most)
        while True:
            for row in rows:
                if row.signed is not None and row.signed.batch.last < first:
                    continue
                is_full = size > 0 and size + row.size > most
                if damaged is not None and (is_full or row.signed is not None):
                    if damaged < row.first:
                        yield Missing(damaged, row.first - 1, True)
                    damaged = None
                if is_full:
                    return
                size += row.size
                if row.signed is not None:
                    yield row.signed
                elif damaged is None:
                    damaged = max(first, row.first)
            # Stop if a damaged index gives the same start again: the loop would be endless.
            if start is None or start > last or (reached is not None and start <= reached):
                break
            reached = start
            rows, start = self._read(run, first, last, start, most - size)
        if damaged is not None:
            yield Missing(damaged, last, True)

    def _read(self, run: StreamId, first: int, last: int, start: int | None, most: int) -> _Rows:
        """Read some of the batches with messages *first* to *last*, about *most* bytes.

        :param start: read only batches that begin at this message or later; None: from that of *first* on.
        """
        most = min(most, _READ_BYTES)
        wanted = {"origin": run[0], "epoch": run[1], "first": first, "last": last, "start": start}
        rows: list[_Row] = []
        try:
            with closing(self._database.execute(_FIND_BATCHES, wanted)) as found:
                for number, *values in found:
                    _check_order(number, start)
                    rows.append(self._checked(run, number, *values))
                    start = number + 1
                    most -= rows[-1].size
                    if most < 0 or start > last:
                        return _Rows(rows, start)
        except FILE_ERRORS as error:
            self._failed(error)
            by_key, start = self._read_by_key(run, first, last, start, most)
            return _Rows([*rows, *by_key], start)
        return _Rows(rows, None)

    def _read_by_key(self, run: StreamId, first: int, last: int, start: int | None, most: int) -> _Rows:
        """Do the same as :meth:`_read`, but batch by batch."""
        if (id := self._number(_FIND_STREAM, *run)) is None:
            return _Rows([_Row(first if start is None else start, None, 0)], None)
        if start is None:
            start = self._number(_FIND_START, id, first)
            start = first if start is None else start
        rows: list[_Row] = []
        is_whole = True
        try:
            with closing(self._database.execute(_FIND_KEYS, (id, start, last))) as found:
                for key in found:
                    number, rowid = numbers(key)
                    _check_order(number, start)
                    rows.append(self._row(run, number, rowid))
                    start = number + 1
                    most -= rows[-1].size
                    if most < 0 or start > last:
                        return _Rows(rows, start)
        except FILE_ERRORS as error:
            self._failed(error)
            is_whole = False
        if is_whole:
            return _Rows(rows, start if len(rows) == _KEYS else None)
        return _Rows([*rows, _Row(start, None, 0)], self._readable(id, start, last))

    def _readable(self, id: int, start: int, last: int) -> int | None:
        """Find the number behind *start*, whose key is damaged, from which on keys can be read again."""
        if start >= last:
            return None
        fails, step = start, 1
        while not self._can_seek(id, reads := min(fails + step, last)):
            if reads == last:
                return None
            fails, step = reads, 2 * step
        while reads - fails > 1:
            middle = (reads + fails) // 2
            if self._can_seek(id, middle):
                reads = middle
            else:
                fails = middle
        return reads

    def _can_seek(self, id: int, start: int) -> bool:
        """Whether the first key from *start* on can be read; True if there is none."""
        try:
            if (key := self._database.execute(_FIND_NEXT, (id, start)).fetchone()) is not None:
                number, _ = numbers(key)
                _check_order(number, start)
        except FILE_ERRORS as error:
            self._failed(error)
            return False
        return True

    def _row(self, run: StreamId, first: int, rowid: int) -> _Row:
        try:
            found = self._database.execute(_FIND_ROW, (rowid,)).fetchone()
        except FILE_ERRORS as error:
            self._failed(error)
            found = None
        return _Row(first, None, 0) if found is None else self._checked(run, first, *found)

    def _number(self, statement: str, *values: object) -> int | None:
        """The number that *statement* finds; None if there is none, or it cannot be read."""
        try:
            (found,) = numbers(self._database.execute(statement, values).fetchone())
        except FILE_ERRORS as error:
            self._failed(error)
            return None
        return found

    def _checked(self, run: StreamId, first: int, last: object, checksum: object, payload: object) -> _Row:
        """Check a row, since a neighbour would close the link if it got a damaged batch."""
        try:
            signed = _decoded(run, first, last, checksum, payload)
        except RemoteError as error:
            self._failed(error)
            return _Row(first, None, len(payload) if isinstance(payload, (bytes, str)) else 0)
        return _Row(first, signed, signed.size)


def _check_order(number: object, start: int | None) -> None:
    """Check that *number* is a number from *start* on: otherwise reading could be endless.

    :raises sqlite3.DatabaseError: *number* is not, so the index is damaged.
    """
    if not isinstance(number, int) or (start is not None and number < start):
        raise sqlite3.DatabaseError("the keys of the batches are damaged")


def _decoded(run: StreamId, first: object, last: object, checksum: object, payload: object) -> SignedBatch:
    """Decode the batch in a row.

    :raises RemoteError: the row is not as it was stored.
    """
    if isinstance(payload, bytes) and crc32(payload) == checksum:
        signed = codec.decode(payload)
        if isinstance(signed, SignedBatch):
            batch = signed.batch
            if (batch.origin, batch.epoch, batch.first, batch.last) == (*run, first, last):
                return signed
    raise RemoteError(f"the batch from {first} on is damaged")
