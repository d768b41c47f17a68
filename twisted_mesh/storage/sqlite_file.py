"""The SQLite file of a history: opening, checking and locking it.

Contract: :func:`open_history` opens two connections to a history file, if three things are true.  The file
is of this node and network; it is whole, as far as can be seen without reading all of it; and no other node
uses it.  Otherwise it raises :class:`~twisted_mesh.errors.StoreError` and changes nothing.  While the
:class:`Lock` is held, no other node can use the file.  :func:`explain` tells the user in plain words what
an error of SQLite means.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from twisted_mesh.core.history.storage import StoreOwner
from twisted_mesh.errors import StoreError
from twisted_mesh.eventloop.forks import never_free
from twisted_mesh.identity import id_of
from twisted_mesh.storage.schema import APPLICATION, EARLIER, SCHEMA, VERSION
from twisted_mesh.wire.framing import MAX_FRAME_BYTES

_MIB: Final = 2**20
_WAL_PAGES: Final = 2000  # pages of 4 KiB at which SQLite copies its log (guess: twice its own 1000)
_WAL_BYTES: Final = 16 * _MIB  # bytes of the log that stay on disk after it was copied (guess)
_PATIENCE: Final = 1.0  # seconds for which the writer waits if another program locks the file (guess)
_READ_PATIENCE: Final = 0.05  # seconds for which the reader waits, in the reactor's thread (guess)
_UNKNOWN: Final = 2**63
#: Errors of a damaged file or a full disk (UnicodeDecodeError: SQLite's message quotes damaged text).
FILE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)


class Lock:
    """The right to use the history at *path*, until it is released or the process ends.

    It is a lock on the file ``PATH-lock``, which exists only while it is held.  SQLite's own locks are too
    weak: they end if any code of this process closes the history's file, and two stores of one process
    would share them.

    :raises StoreError: this process or another holds the lock, or the file cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._file = f"{path}-lock"
        while True:
            try:
                descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise StoreError(
                        f"history {path} cannot be locked, as {self._file} is a link: remove that"
                    ) from None
                raise _unwritable(path, error.strerror) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    raise StoreError(
                        f"history {path} is in use by another node: give each a file of its own"
                    ) from None
                raise _unwritable(path, error.strerror) from error
            # If the last holder removed the file after this process opened it, the lock is worth nothing.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.lstat(self._file)):
                    self._descriptor = descriptor
                    return
            os.close(descriptor)

    def close_in_fork(self) -> None:
        """In a forked process, which shares the lock: leave the lock to the parent."""
        os.close(self._descriptor)

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._file)
        os.close(self._descriptor)


class Opened(NamedTuple):
    """A history in use: its path without links, the two connections, and the lock."""

    path: str
    writer: sqlite3.Connection
    reader: sqlite3.Connection
    lock: Lock

    def close_in_fork(self) -> None:
        """In a forked process: leave the connections and the lock to the parent.

        If this process closed or freed a connection, SQLite would write to the file while the parent does.
        So the connections stay open.  That keeps no node out, since all locks are the parent's alone.
        """
        never_free(self.reader)
        never_free(self.writer)
        self.lock.close_in_fork()

    def close(self) -> None:
        """Close both connections, the writer last, since it copies the log; then release the lock."""
        with contextlib.ExitStack() as end:  # runs the last step first, and each if another fails
            end.callback(self.lock.release)
            end.callback(self.writer.close)
            end.callback(self.reader.close)


def open_history(named: str | os.PathLike[str], owner: StoreOwner) -> Opened:
    """Open the history that the user *named*, or make it.

    :param owner: the node whose history it must be; a file of version 1 becomes this node's.
    :raises StoreError: the file cannot be used; the text says why, and what to do about it.
    """
    # In a folder for all users, another user could make a link, and so choose which file this node makes.
    if os.path.islink(named) and not os.path.exists(named):
        raise StoreError(
            f"history {os.path.abspath(named)} is a link to a file that is not there: "
            f"name that file itself, or remove the link"
        )
    path = os.path.realpath(named)
    if not os.path.isdir(os.path.dirname(path)):
        raise StoreError(f"history {path}: there is no such folder: make it first")
    with contextlib.ExitStack() as undo:
        lock = Lock(path)
        undo.callback(lock.release)
        size = _make_file(path)
        try:
            writer = _connect(path, _PATIENCE)
            undo.callback(writer.close)
            _check(writer, path, owner, size)
            _set_up(writer, path)
            reader = _connect(path, _READ_PATIENCE)
            undo.callback(reader.close)
            reader.execute("SELECT * FROM about").fetchone()
        except FILE_ERRORS as error:
            raise explain(path, error) from error
        undo.pop_all()
    return Opened(path, writer, reader, lock)


def explain(path: str, error: Exception) -> StoreError:
    """The error that tells the user what *error*, one of :data:`FILE_ERRORS`, means."""
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF:
        case sqlite3.SQLITE_NOTADB:
            return _foreign(path)
        case sqlite3.SQLITE_FULL:
            return StoreError(f"history {path} cannot be written: the disk is full: make room")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return _unwritable(path, str(error))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(f"history {path} is locked by another program: let that end first")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_ERROR | sqlite3.SQLITE_TOOBIG:
            return _damaged(path, str(error))
        case _:
            return StoreError(f"history {path} cannot be written ({error}): is its disk full, or failing?")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Store all changes of the ``with`` block at its end, or none if the block raises an exception."""
    if connection.in_transaction:  # an earlier transaction could not be rolled back
        connection.execute("ROLLBACK")
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:  # SQLite may have rolled it back itself
                connection.execute("ROLLBACK")
        raise


def number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def numbers(row: Sequence[object] | None) -> list[int]:
    """The values of a row that holds numbers.

    :raises sqlite3.DatabaseError: there is no row, or a value is no number: the file is damaged.
    """
    values = [value for value in row or () if isinstance(value, int)]
    if row is None or len(values) < len(row):
        raise sqlite3.DatabaseError("a row of numbers is damaged")
    return values


def _make_file(path: str) -> int:
    """Make the file if there is none, since SQLite would make a file that others can read.

    :return: the size in bytes, or _UNKNOWN if part of the history is in SQLite's log.
    """
    try:
        if not os.path.exists(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            return 0
        status = os.stat(path)
        folder = os.stat(os.path.dirname(path)).st_uid
        log = os.stat(f"{path}-wal").st_size if os.path.exists(f"{path}-wal") else 0
    except OSError as error:
        raise _unwritable(path, error.strerror) from error
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"history {path} is not a regular file: name another")
    for end in ("", "-wal", "-shm", "-journal"):  # all files that SQLite reads
        _refuse_others(path, path + end, {folder, 0, os.geteuid()})
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise _unwritable(path, "permission denied")
    if log and not status.st_size:
        # SQLite would treat the file as new, and delete the log.
        raise _damaged(path, "empty, but its log is not")
    return _UNKNOWN if log else status.st_size


def _refuse_others(path: str, file: str, owners: set[int]) -> None:
    """Refuse the *file* of the history at *path* if users other than *owners* can write it."""
    try:
        status = os.lstat(file)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"history {path} is refused, as {file} is no regular file: remove that")
    if status.st_uid not in owners:
        raise StoreError(
            f"history {path} can be written by others, as {file} is of another user: let this user own it"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        # Others could add messages that nobody sent: stored batches are not verified again.
        raise StoreError(f"history {path} can be written by others: chmod 600 {file}")


def _connect(path: str, patience: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    # Otherwise SQLite could allocate a gigabyte for a damaged length.
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * MAX_FRAME_BYTES)
    # A damaged text becomes a wrong value, and reading goes on.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def _check(writer: sqlite3.Connection, path: str, owner: StoreOwner, size: int) -> None:
    """Make the tables in an empty file, or check the tables of a file of *size* bytes."""
    if not number(writer, "page_count"):
        # All in one transaction: after a crash the file is empty, or a history.
        with transaction(writer, "BEGIN DEFERRED"):
            writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
            writer.execute(f"PRAGMA application_id = {APPLICATION}")
            writer.execute(f"PRAGMA user_version = {VERSION}")
            for statement in SCHEMA:
                writer.execute(statement)
            writer.execute("INSERT INTO about VALUES (1, ?, ?, 0)", owner)
        return
    if number(writer, "application_id") != APPLICATION:
        raise _foreign(path)
    version = number(writer, "user_version")
    if version != VERSION and version not in EARLIER:
        raise StoreError(
            f"history {path} is of version {version}, which this twisted_mesh does not know: "
            f"use a newer twisted_mesh, or another file"
        )
    if number(writer, "page_count") * number(writer, "page_size") > size:
        raise _damaged(path, "its end is missing")
    tables = {sql for (sql,) in writer.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    if tables != set(SCHEMA if version == VERSION else EARLIER[version].schema):
        raise _damaged(path, "other tables")
    # The table of batches is not checked, which would take seconds: the reader notices damage there.
    others = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'batch'"
    for (table,) in writer.execute(others).fetchall():
        (found,) = writer.execute(f"PRAGMA quick_check({table})").fetchmany(1)
        if found != ("ok",):
            raise _damaged(path, str(found[0]))
    if (about := writer.execute("SELECT network FROM about").fetchone()) is None:
        raise _damaged(path, "it names no network")
    if about[0] != owner.network:
        raise StoreError(
            f"history {path} is of another network: name another file, "
            f"or the subnet, encryption and trust it was made with"
        )
    if version < VERSION:
        _migrate(writer, version, owner)
    (origin,) = writer.execute("SELECT origin FROM about").fetchone()
    if origin != owner.origin:
        raise StoreError(
            f"history {path} is of the node {id_of(origin).decode()}: name another file, "
            f"or the identity it was made with"
        )


def _migrate(writer: sqlite3.Connection, version: int, owner: StoreOwner) -> None:
    """Turn a file of an earlier *version* into one of this version; if that fails, do not change it."""
    with transaction(writer):
        for number in range(version, VERSION):
            for statement in EARLIER[number].steps:
                writer.execute(statement, owner._asdict())
        writer.execute(f"PRAGMA user_version = {VERSION}")


def _set_up(writer: sqlite3.Connection, path: str) -> None:
    """Choose how SQLite writes the file, and check that it can be written."""
    (mode,) = writer.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(f"history {path} lies where no write-ahead log can be kept: use a local disk")
    writer.execute("PRAGMA synchronous = NORMAL")
    writer.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
    writer.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    writer.execute("UPDATE about SET settled = settled")  # raises now if nothing can be written


def _foreign(path: str) -> StoreError:
    return StoreError(f"history {path} is not a history of twisted_mesh: name another file")


def _damaged(path: str, what: str) -> StoreError:
    return StoreError(
        f"history {path} is damaged ({what}): put a copy of it back, or delete it to begin anew"
    )


def _unwritable(path: str, why: object) -> StoreError:
    return StoreError(f"history {path} cannot be written ({why}): let this user write it and its folder")
