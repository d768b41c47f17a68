"""The streams of the history file: flushes go in, old batches go out.

Contract: a :class:`Catalogue` holds in memory what the tables say of each stream.  It changes memory and
tables together, within a transaction that its caller begins and ends; throw it away if that is rolled back.
If there are too many bytes, the origin with the most gives up first: the oldest batch of its largest
stream.  Batches that are too old are given up.  Own messages that no neighbour has are never given up.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.eviction import Shares, room_at
from twisted_mesh.core.history.storage import Flush, Marks, Restored
from twisted_mesh.storage.sqlite_file import numbers
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import SignedBatch
from twisted_mesh.wire.framing import LENGTH_BYTES

#: Bytes around a payload: the rest of its row, and its key in the index.  Measured: 52 to 58 around a small
#: payload; a payload of 2 KiB takes twice its size, since no two fit in a page of the file.
ROW_BYTES: Final = 56
_PIECE: Final = 4096  # batches given up in one flush, so that none takes seconds (25 to 70 ms: measured)
_AHEAD: Final = 64  # rows read at once
_NEVER: Final = 2**63 - 1


class Limits(NamedTuple):
    """How much is kept.

    :ivar bytes: of the batches of all streams.
    :ivar seconds: after a batch came.
    :ivar closed: heads of closed streams.
    """

    bytes: int
    seconds: float
    closed: int


class Entry(msgspec.Struct, eq=False):
    """One stream as it is stored: its row of the table, in the order of the columns, and what follows.

    :ivar oldest: when the lowest batch came; :ivar newest: when the last one came.
    :ivar end: the last number of the last batch; 0 if there is none.
    :ivar has_below: whether batches below ``low`` may be stored, for consumers that have not taken them.
    """

    run: StreamId
    id: int
    head: int = 0
    low: int = 1
    base: int = 0
    taken: int = 0
    equivocated: bool = False
    whole: int = 1
    batches: int = 0
    bytes: int = 0
    oldest: int = 0
    newest: int = 0
    end: int = 0
    has_below: bool = False

    def row(self) -> tuple[object, ...]:
        """The row of the table."""
        run, *columns, _, _ = msgspec.structs.astuple(self)
        return *run, *columns


class _Row(NamedTuple):
    first: int
    last: int
    arrived: int
    cost: int


class _Oldest:
    """The batches of one stream that may be given up, from the lowest up.

    :param limit: batches that end above this number stay.
    """

    def __init__(self, database: sqlite3.Connection, entry: Entry, limit: int) -> None:
        self._database = database
        self._limit = limit
        self._rows: deque[_Row] = deque()
        self._seen = -1  # the first number of the last row that was read
        self._passed: int | None = None
        self.entry = entry

    @property
    def next(self) -> _Row | None:
        """The lowest batch that may be given up, or None."""
        row = self.lowest
        return None if row is None or row.last > self._limit else row

    def pass_over(self) -> None:
        """Give up :attr:`next`, and go on to the batch behind it."""
        self._passed = self._rows.popleft().first

    def delete(self) -> None:
        """Delete the batches that were passed over, and note when the oldest of the rest came."""
        if self._passed is None:
            return
        self._database.execute(
            "DELETE FROM batch WHERE stream = ? AND first <= ?", (self.entry.id, self._passed)
        )
        if (row := self.lowest) is not None:
            self.entry.oldest = row.arrived

    @property
    def lowest(self) -> _Row | None:
        """The lowest batch that is left, or None."""
        if not self._rows:
            rows = self._database.execute(
                "SELECT first, last, arrived, length(payload) FROM batch "
                "WHERE stream = ? AND first > ? ORDER BY first LIMIT ?",
                (self.entry.id, self._seen, _AHEAD),
            ).fetchall()
            for row in rows:
                first, last, arrived, length = numbers(row)
                self._rows.append(_Row(first, last, arrived, length + ROW_BYTES))
                self._seen = first
        return self._rows[0] if self._rows else None


class Catalogue:
    """All streams as they are stored.

    :ivar batches: of all streams; :ivar bytes: of these batches.
    :ivar closed: how many heads of closed streams.
    """

    def __init__(self, database: sqlite3.Connection, limits: Limits) -> None:
        self._database = database
        self._limits = limits
        self._entries: dict[StreamId, Entry] = {}
        self._lows: dict[StreamId, int] = {}  # of the streams this flush changes, as its caller knows them
        self._rows: list[tuple[object, ...]] = []  # of this flush, not inserted yet
        self._left = 0  # how many batches this flush may give up that need not go now
        self._evicting = False
        for origin, epoch, *columns in database.execute("SELECT * FROM stream"):
            entry = self._entries[origin, epoch] = Entry((origin, epoch), *columns)
            entry.end = entry.head
            entry.has_below = entry.taken < entry.low - 1
        entries = self._entries.values()
        self._next_id = max((entry.id for entry in entries), default=0) + 1
        self._due = min((entry.oldest for entry in entries if entry.batches), default=_NEVER)
        self.batches = sum(entry.batches for entry in entries)
        self.bytes = sum(entry.bytes for entry in entries)
        (self.closed,) = database.execute("SELECT count(*) FROM closed").fetchone()
        (self._settled,) = database.execute("SELECT settled FROM about").fetchone()

    def __len__(self) -> int:
        """How many streams are open."""
        return len(self._entries)

    def restored(self) -> Restored:
        """The values that a node which opens the history begins with."""
        marks = [
            Marks(e.run, e.head, e.low, e.base, e.taken, bool(e.equivocated), e.whole)
            for e in self._entries.values()
        ]
        rows = self._database.execute("SELECT origin, epoch, head FROM closed ORDER BY id").fetchall()
        closed = [((origin, epoch), head) for origin, epoch, head in rows[-self._limits.closed :]]
        return Restored(marks, closed, bool(self._settled))

    def is_overdue(self, now: int) -> bool:
        """Whether a batch is too old at *now*, in milliseconds since 1970."""
        return self._due <= now - self._limits.seconds * 1000

    def apply(self, flush: Flush, now: int) -> Sequence[tuple[StreamId, int]]:
        """Write *flush*, then give up batches that are too many or too old.

        :param now: milliseconds of wall clock since 1970.
        :return: the lows that its caller does not know.
        :raises sqlite3.Error: the file cannot be written.
        :raises ValueError: a batch does not join those stored, or marks do not fit: the caller's fault.
        """
        self._lows = {}
        self._rows = []
        self._left = _PIECE
        for run, head in flush.closed:
            self._close(run, head)
        for marks in flush.marks:
            self._mark(marks)
        closed = {run for run, _ in flush.closed}
        for arrived, signed in flush.batches:
            run = (signed.batch.origin, signed.batch.epoch)
            if run in self._entries or run not in closed:
                self._put(self._entries[run], arrived, signed)
        self._insert()
        self._age(now - self._limits.seconds * 1000, flush.own)
        if self._evicting or self.bytes > self._limits.bytes:
            self._evict(flush.own)
        if flush.settled != self._settled:
            self._database.execute("UPDATE about SET settled = ?", (flush.settled,))
            self._settled = flush.settled
        self._limit_closed()
        return self._write_streams()

    def _close(self, run: StreamId, head: int) -> None:
        if (entry := self._entries.get(run)) is not None:
            self._drop(entry)
        self._forget_closed(run)  # so that it is the newest again
        self._database.execute("INSERT INTO closed VALUES (NULL, ?, ?, ?)", (*run, head))
        self.closed += 1

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry.run]
        self._database.execute("DELETE FROM batch WHERE stream = ?", (entry.id,))
        self._database.execute("DELETE FROM stream WHERE origin = ? AND epoch = ?", entry.run)
        self._count(entry, -entry.batches, -entry.bytes)

    def _forget_closed(self, run: StreamId) -> None:
        self.closed -= self._database.execute(
            "DELETE FROM closed WHERE origin = ? AND epoch = ?", run
        ).rowcount

    def _limit_closed(self) -> None:
        beyond = self.closed - self._limits.closed
        if beyond > 0:
            self._database.execute(
                "DELETE FROM closed WHERE id IN (SELECT id FROM closed ORDER BY id LIMIT ?)", (beyond,)
            )
            self.closed -= beyond

    def _mark(self, marks: Marks) -> None:
        entry = self._entries.get(marks.run)
        if entry is not None and marks.head < entry.head:
            self._drop(entry)  # it was closed, forgotten even by its head, and began anew
            entry = None
        if entry is None:
            entry = self._entries[marks.run] = Entry(marks.run, self._next_id)
            self._next_id += 1
            self._forget_closed(marks.run)
        entry.head, entry.base = marks.head, marks.base
        entry.taken, entry.equivocated, entry.whole = marks.taken, marks.equivocated, marks.whole
        self._lows[marks.run] = marks.low
        if entry.batches and marks.low > entry.low:
            entry.low = marks.low
            entry.end = max(entry.end, marks.low - 1)
            entry.has_below = True
        if entry.has_below:
            self._clear(entry)

    def _clear(self, entry: Entry) -> None:
        """Give up the batches below the low, except those that some consumer has not taken."""
        oldest = _Oldest(self._database, entry, min(entry.low - 1, entry.taken))
        while (row := oldest.next) is not None:
            self._give_up(oldest, row)
        oldest.delete()
        entry.has_below = (rest := oldest.lowest) is not None and rest.last < entry.low

    def _put(self, entry: Entry, arrived: int, signed: SignedBatch) -> None:
        batch = signed.batch
        if batch.last < self._lows.setdefault(entry.run, entry.low):
            return  # its marks say that it was given up since
        if not entry.batches:
            entry.low = batch.first
        elif batch.first > entry.end + 1:
            raise ValueError(f"{batch.first} does not join {entry.end} of {entry.run}")
        else:
            # A batch that waited behind a hole came when the hole was filled.  And if the clock was set
            # back, a batch that is later in the stream still did not come before the earlier ones.
            arrived = max(arrived, entry.newest)
            if batch.first <= entry.end:
                self._replace(entry, batch.first)
        if not entry.batches:
            entry.oldest = arrived
            self._due = min(self._due, arrived)
        payload = memoryview(codec.encode(signed))[LENGTH_BYTES:]
        self._rows.append((entry.id, batch.first, batch.last, arrived, crc32(payload), payload))
        entry.newest, entry.end = arrived, batch.last
        self._count(entry, 1, len(payload) + ROW_BYTES)

    def _insert(self) -> None:
        self._database.executemany("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)", self._rows)
        self._rows = []

    def _replace(self, entry: Entry, first: int) -> None:
        """Delete the batches from *first* on: one longer batch that covers them all takes their place."""
        self._insert()
        chosen = "FROM batch WHERE stream = ? AND first >= ?"
        number, length = self._database.execute(
            f"SELECT count(*), total(length(payload)) {chosen}", (entry.id, first)
        ).fetchone()
        self._database.execute(f"DELETE {chosen}", (entry.id, first))
        self._count(entry, -number, -int(length) - number * ROW_BYTES)

    def _age(self, before: float, own: tuple[StreamId, int]) -> None:
        """Give up batches that came at *before* or earlier; of many batches, some in each flush."""
        if self._due > before:
            return
        self._due = _NEVER
        for entry in self._entries.values():
            if entry.batches and entry.oldest <= before:
                oldest = self._oldest(entry, own)
                while self._left > 0 and (row := oldest.next) is not None and row.arrived <= before:
                    self._give_up(oldest, row)
                oldest.delete()
            if entry.batches:
                self._due = min(self._due, entry.oldest)

    def _evict(self, own: tuple[StreamId, int]) -> None:
        """Give up a sixteenth, batch by batch, each of the origin that has the most bytes by then.

        Bytes above the limit go now, the others in later flushes if they are many.
        """
        target = room_at(self._limits.bytes)
        shares = Shares((entry.run, entry.bytes) for entry in self._entries.values())
        touched: dict[StreamId, _Oldest] = {}
        while self.bytes > target and (run := shares.turn) is not None:
            if self._left <= 0 and self.bytes <= self._limits.bytes:
                break
            oldest = touched.get(run) or touched.setdefault(run, self._oldest(self._entries[run], own))
            if (row := oldest.next) is not None:
                self._give_up(oldest, row)
                shares.gave_up(row.cost)
            else:
                shares.pass_over()
        self._evicting = self.bytes > target and shares.turn is not None
        for oldest in touched.values():
            oldest.delete()

    def _oldest(self, entry: Entry, own: tuple[StreamId, int]) -> _Oldest:
        return _Oldest(self._database, entry, own[1] if entry.run == own[0] else _NEVER)

    def _give_up(self, oldest: _Oldest, row: _Row) -> None:
        entry = oldest.entry
        self._lows.setdefault(entry.run, entry.low)
        entry.low = max(entry.low, row.last + 1)
        self._count(entry, -1, -row.cost)
        self._left -= 1
        oldest.pass_over()

    def _count(self, entry: Entry, batches: int, size: int) -> None:
        entry.batches += batches
        entry.bytes += size
        self.batches += batches
        self.bytes += size

    def _write_streams(self) -> list[tuple[StreamId, int]]:
        lows = []
        rows = []
        for run, known in self._lows.items():
            entry = self._entries[run]
            if not entry.batches:
                entry.low = entry.head + 1
            elif entry.end != entry.head:
                raise ValueError(f"the head of {run} is {entry.head}, its last batch ends at {entry.end}")
            if entry.low > known:
                lows.append((run, entry.low))
            rows.append(entry.row())
        self._database.executemany(
            "REPLACE INTO stream VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
        )
        return lows
