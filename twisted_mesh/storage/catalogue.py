"""The streams of the history file: writes flushes, and deletes batches that the node gives up.

Contract: a :class:`Catalogue` holds in memory the rows of the tables of streams, consumers and places.  It
changes memory and tables together, within a transaction that its caller begins and ends.  If the
transaction is rolled back, throw the catalogue away.  If there are too many bytes, streams lose their
oldest batches (:mod:`~twisted_mesh.core.history.eviction` says which streams).  Batches that are too old
are given up.  Messages of this node's own that no neighbour has are never given up.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.eviction import Shares, reduced
from twisted_mesh.core.history.storage import (
    AuthorMarks,
    Flush,
    Marks,
    Places,
    Restored,
    StoreLimits,
    StoreSize,
)
from twisted_mesh.storage.sqlite_file import numbers
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import PackedHeader, SignedBatch
from twisted_mesh.wire.framing import LENGTH_BYTES

#: Bytes that a batch takes besides its payload: the rest of its row, and its key in the index (measured: 52
#: to 58; but a payload of 2 KiB takes twice its size, since no two fit in a page of the file).
ROW_BYTES: Final = 56
#: Batches that one flush gives up at most, so that no flush takes seconds (measured: 25 to 70 ms).  More
#: are given up only if there are more bytes than the limit.
_MOST_GIVEN_UP: Final = 4096
_ROWS_AT_ONCE: Final = 64  # rows that one statement reads (guess)
_NEVER: Final = 2**63 - 1


class Entry(msgspec.Struct, eq=False):
    """One stored stream: the columns of its row in their order, then facts that are not in the row.

    :ivar oldest: when the lowest batch came; :ivar newest: when the highest batch came.
    :ivar end: the number of the last message of the highest batch; 0 if there is no batch.
    :ivar has_below: whether batches below ``low`` may be stored, for consumers that have not taken them.
    :ivar places: the last message that each named consumer has taken, by name.
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
    header: PackedHeader = b""
    introducer: str | None = None
    end: int = 0
    has_below: bool = False
    places: Places = ()

    @property
    def slowest(self) -> int:
        """The last message that all consumers have taken."""
        return min((self.taken, *(place for _, place in self.places)))

    def row(self) -> tuple[object, ...]:
        run, *columns, _, _, _ = msgspec.structs.astuple(self)
        return *run, *columns


class _Row(NamedTuple):
    first: int
    last: int
    arrived: int
    cost: int


class _Oldest:
    """The batches of one stream that may be given up, the lowest first.

    :param limit: a batch may be given up if it ends at this number or below.
    """

    def __init__(self, database: sqlite3.Connection, entry: Entry, limit: int) -> None:
        self._database = database
        self._limit = limit
        self._rows: deque[_Row] = deque()  # the rows that were read and are not given up
        self._read_up_to = -1  # the first number of the last row that was read
        self._given_up: int | None = None  # the first number of the last batch that was given up
        self.entry = entry

    @property
    def next(self) -> _Row | None:
        """The lowest batch that is left, if it may be given up; else None."""
        row = self.lowest
        return None if row is None or row.last > self._limit else row

    def give_up(self) -> None:
        """Give up the batch :attr:`next`; :meth:`delete` will delete it."""
        self._given_up = self._rows.popleft().first

    def delete(self) -> None:
        """Delete the batches that were given up, and note when the lowest batch that is left came."""
        if self._given_up is None:
            return
        self._database.execute(
            "DELETE FROM batch WHERE stream = ? AND first <= ?", (self.entry.id, self._given_up)
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
                (self.entry.id, self._read_up_to, _ROWS_AT_ONCE),
            ).fetchall()
            for row in rows:
                first, last, arrived, length = numbers(row)
                self._rows.append(_Row(first, last, arrived, length + ROW_BYTES))
                self._read_up_to = first
        return self._rows[0] if self._rows else None


class Catalogue:
    """All stored streams."""

    def __init__(self, database: sqlite3.Connection, limits: StoreLimits) -> None:
        self._database = database
        self._limits = limits
        self._entries: dict[StreamId, Entry] = {}
        # The streams that this flush changes; of each, the low that the core knows.
        self._known_lows: dict[StreamId, int] = {}
        self._rows: list[tuple[object, ...]] = []  # batches of this flush that are not inserted yet
        self._may_give_up = 0  # batches that this flush may still give up
        self._evicting = False
        for origin, epoch, *columns in database.execute("SELECT * FROM stream"):
            entry = self._entries[origin, epoch] = Entry((origin, epoch), *columns)
            entry.end = entry.head
        self._read_places()
        for entry in self._entries.values():
            entry.has_below = entry.slowest < entry.low - 1
        entries = self._entries.values()
        self._next_id = max((entry.id for entry in entries), default=0) + 1
        self._oldest_came = min((entry.oldest for entry in entries if entry.batches), default=_NEVER)
        self._batches = sum(entry.batches for entry in entries)
        self._bytes = sum(entry.bytes for entry in entries)
        (self._closed,) = database.execute("SELECT count(*) FROM closed").fetchone()
        (self._authors,) = database.execute("SELECT count(*) FROM author").fetchone()
        (self._settled,) = database.execute("SELECT settled FROM about").fetchone()

    def _read_places(self) -> None:
        rows = self._database.execute("SELECT name, id, since FROM consumer ORDER BY id").fetchall()
        self._consumers: Mapping[str, int] = {name: since for name, _, since in rows}
        self._ids = {name: id for name, id, _ in rows}
        named = "SELECT stream, name, taken FROM place JOIN consumer ON consumer = id ORDER BY name"
        places: dict[int, list[tuple[str, int]]] = {}
        for stream, name, taken in self._database.execute(named):
            places.setdefault(stream, []).append((name, taken))
        for entry in self._entries.values():
            entry.places = tuple(places.get(entry.id, ()))

    def size(self) -> StoreSize:
        tables = len(self._entries), self._closed, self._authors
        return StoreSize(*tables, self._batches, self._bytes, len(self._consumers))

    def restored(self) -> Restored:
        """The values with which a node that opens the history begins."""
        marks = [
            Marks(
                *(e.run, e.head, e.low, e.base, e.taken, bool(e.equivocated), e.whole),
                _checked(e.header),
                e.introducer,
                e.places,
            )
            for e in self._entries.values()
        ]
        rows = self._database.execute("SELECT origin, epoch, head FROM closed ORDER BY id").fetchall()
        closed = [((origin, epoch), head) for origin, epoch, head in rows[-self._limits.closed :]]
        rows = self._database.execute("SELECT origin, floor, ended FROM author ORDER BY id").fetchall()
        authors = tuple(AuthorMarks(*row) for row in rows[-self._limits.authors :])
        return Restored(marks, closed, bool(self._settled), authors, self._consumers)

    def is_overdue(self, now: int) -> bool:
        """Whether a batch is too old at *now*, in milliseconds since 1970."""
        return self._oldest_came <= now - self._limits.seconds * 1000

    def apply(self, flush: Flush, now: int) -> Sequence[tuple[StreamId, int]]:
        """Write *flush*, then give up batches until the limits are kept.

        :param now: milliseconds of wall clock since 1970.
        :return: the streams whose lows are now higher than the core knows, with these lows.
        :raises sqlite3.Error: the file cannot be written.
        :raises ValueError: a batch does not join the stored ones, or marks do not fit: a bug of the core.
        """
        self._known_lows = {}
        self._rows = []
        self._may_give_up = _MOST_GIVEN_UP
        for run in flush.forgotten:
            self._forget(run)
        for run, head in flush.closed:
            self._close(run, head)
        for marks_of_author in flush.authors:
            self._mark_author(marks_of_author)
        if flush.consumers is not None:
            self._name_consumers(flush.consumers)
        for marks in flush.marks:
            self._mark(marks)
        closed = {run for run, _ in flush.closed}
        for arrived, signed in flush.batches:
            run = (signed.batch.origin, signed.batch.epoch)
            if run in self._entries or run not in closed:
                self._put(self._entries[run], arrived, signed)
        self._insert()
        self._give_up_old(now - self._limits.seconds * 1000, flush.own)
        if self._evicting or self._bytes > self._limits.bytes:
            self._evict(flush.own)
        if flush.settled != self._settled:
            self._database.execute("UPDATE about SET settled = ?", (flush.settled,))
            self._settled = flush.settled
        self._limit_rows()
        return self._write_streams()

    def _close(self, run: StreamId, head: int) -> None:
        self._forget(run)  # so that its new row is the newest
        self._database.execute("INSERT INTO closed VALUES (NULL, ?, ?, ?)", (*run, head))
        self._closed += 1

    def _forget(self, run: StreamId) -> None:
        if (entry := self._entries.get(run)) is not None:
            self._drop(entry)
        self._forget_closed(run)

    def _mark_author(self, marks: AuthorMarks) -> None:
        deleted = self._database.execute("DELETE FROM author WHERE origin = ?", (marks.origin,)).rowcount
        self._database.execute("INSERT INTO author VALUES (NULL, ?, ?, ?)", marks)
        self._authors += 1 - deleted

    def _name_consumers(self, names: Mapping[str, int]) -> None:
        """Store which named consumers there are; delete others, with their places."""
        for name in self._ids.keys() - names.keys():
            id = (self._ids.pop(name),)
            self._database.execute("DELETE FROM consumer WHERE id = ?", id)
            self._database.execute("DELETE FROM place WHERE consumer = ?", id)
            for entry in self._entries.values():
                entry.places = tuple(place for place in entry.places if place[0] != name)
        for name, since in names.items():
            id_of_name = self._ids.setdefault(name, max(self._ids.values(), default=0) + 1)
            self._database.execute("REPLACE INTO consumer VALUES (?, ?, ?)", (name, id_of_name, since))
        self._consumers = names

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry.run]
        self._database.execute("DELETE FROM place WHERE stream = ?", (entry.id,))
        self._database.execute("DELETE FROM batch WHERE stream = ?", (entry.id,))
        self._database.execute("DELETE FROM stream WHERE origin = ? AND epoch = ?", entry.run)
        self._count(entry, -entry.batches, -entry.bytes)

    def _forget_closed(self, run: StreamId) -> None:
        self._closed -= self._database.execute(
            "DELETE FROM closed WHERE origin = ? AND epoch = ?", run
        ).rowcount

    def _limit_rows(self) -> None:
        """Delete the oldest closed heads and authors beyond the limits."""
        self._closed -= self._delete_oldest("closed", self._closed - self._limits.closed)
        self._authors -= self._delete_oldest("author", self._authors - self._limits.authors)

    def _delete_oldest(self, table: str, number: int) -> int:
        if number <= 0:
            return 0
        oldest = f"SELECT id FROM {table} ORDER BY id LIMIT ?"
        return self._database.execute(f"DELETE FROM {table} WHERE id IN ({oldest})", (number,)).rowcount

    def _mark(self, marks: Marks) -> None:
        entry = self._entries.get(marks.run)
        if entry is not None and marks.head < entry.head and not self._cut(entry, marks.head):
            entry = None
        if entry is None:
            entry = self._entries[marks.run] = Entry(marks.run, self._next_id)
            self._next_id += 1
            self._forget_closed(marks.run)
        entry.head, entry.base = marks.head, marks.base
        entry.taken, entry.equivocated, entry.whole = marks.taken, marks.equivocated, marks.whole
        entry.header, entry.introducer = _with_checksum(marks.header), marks.introducer
        entry.places = marks.places
        self._known_lows[marks.run] = marks.low
        if entry.batches and marks.low > entry.low:
            entry.low = marks.low
            entry.end = max(entry.end, marks.low - 1)
            entry.has_below = True
        if entry.has_below:
            self._give_up_taken(entry)

    def _cut(self, entry: Entry, head: int) -> bool:
        """Delete the batches above *head*, and all if none ends there; return whether some are left.

        The author was removed, and its stream cut; or the core had forgotten the stream, and began it anew.
        """
        chosen = "FROM batch WHERE stream = ? AND last > ?"
        (first,) = self._database.execute(f"SELECT min(first) {chosen}", (entry.id, head)).fetchone()
        if first is not None:
            self._replace(entry, first)
        (end,) = self._database.execute(
            "SELECT max(last) FROM batch WHERE stream = ?", (entry.id,)
        ).fetchone()
        if end != head or entry.low > head:
            self._drop(entry)
            return False
        entry.end = head
        return True

    def _give_up_taken(self, entry: Entry) -> None:
        """Give up the batches below the low, if every consumer has taken them."""
        oldest = _Oldest(self._database, entry, min(entry.low - 1, entry.slowest))
        while (row := oldest.next) is not None:
            self._give_up(oldest, row)
        oldest.delete()
        entry.has_below = (rest := oldest.lowest) is not None and rest.last < entry.low

    def _put(self, entry: Entry, arrived: int, signed: SignedBatch) -> None:
        batch = signed.batch
        if batch.last < self._known_lows.setdefault(entry.run, entry.low):
            return  # the core gave it up meanwhile, and has raised the low
        if not entry.batches:
            entry.low = batch.first
        elif batch.first > entry.end + 1:
            raise ValueError(f"{batch.first} does not join {entry.end} of {entry.run}")
        else:
            # A batch that waited behind a hole, or that came after the clock was set back, has an earlier
            # time than the batch below it.  But times must rise with the numbers.
            arrived = max(arrived, entry.newest)
            if batch.first <= entry.end:
                self._replace(entry, batch.first)
        if not entry.batches:
            entry.oldest = arrived
            self._oldest_came = min(self._oldest_came, arrived)
        payload = memoryview(codec.encode(signed))[LENGTH_BYTES:]
        self._rows.append((entry.id, batch.first, batch.last, arrived, crc32(payload), payload))
        entry.newest, entry.end = arrived, batch.last
        self._count(entry, 1, len(payload) + ROW_BYTES)

    def _insert(self) -> None:
        self._database.executemany("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)", self._rows)
        self._rows = []

    def _replace(self, entry: Entry, first: int) -> None:
        """Delete the batches from *first* on: a longer batch that has all their messages replaces them."""
        self._insert()
        chosen = "FROM batch WHERE stream = ? AND first >= ?"
        number, length = self._database.execute(
            f"SELECT count(*), total(length(payload)) {chosen}", (entry.id, first)
        ).fetchone()
        self._database.execute(f"DELETE {chosen}", (entry.id, first))
        self._count(entry, -number, -int(length) - number * ROW_BYTES)

    def _give_up_old(self, before: float, own: tuple[StreamId, int]) -> None:
        """Give up the batches that came at *before* or earlier; if they are many, over several flushes."""
        if self._oldest_came > before:
            return
        self._oldest_came = _NEVER
        for entry in self._entries.values():
            if entry.batches and entry.oldest <= before:
                oldest = self._oldest(entry, own)
                while self._may_give_up > 0 and (row := oldest.next) is not None and row.arrived <= before:
                    self._give_up(oldest, row)
                oldest.delete()
            if entry.batches:
                self._oldest_came = min(self._oldest_came, entry.oldest)

    def _evict(self, own: tuple[StreamId, int]) -> None:
        """Give up batches until a sixteenth of the limit is free; Shares chooses the stream of each.

        This flush gives up at least the bytes above the limit.  If there are many batches, it leaves the
        rest to later flushes.
        """
        target = reduced(self._limits.bytes)
        shares = Shares((entry.run, entry.introducer, entry.bytes) for entry in self._entries.values())
        touched: dict[StreamId, _Oldest] = {}
        while self._bytes > target and (run := shares.turn) is not None:
            if self._may_give_up <= 0 and self._bytes <= self._limits.bytes:
                break
            oldest = touched.get(run) or touched.setdefault(run, self._oldest(self._entries[run], own))
            if (row := oldest.next) is not None:
                self._give_up(oldest, row)
                shares.gave_up(row.cost)
            else:
                shares.pass_over()
        self._evicting = self._bytes > target and shares.turn is not None
        for oldest in touched.values():
            oldest.delete()

    def _oldest(self, entry: Entry, own: tuple[StreamId, int]) -> _Oldest:
        return _Oldest(self._database, entry, own[1] if entry.run == own[0] else _NEVER)

    def _give_up(self, oldest: _Oldest, row: _Row) -> None:
        entry = oldest.entry
        self._known_lows.setdefault(entry.run, entry.low)
        entry.low = max(entry.low, row.last + 1)
        self._count(entry, -1, -row.cost)
        self._may_give_up -= 1
        oldest.give_up()

    def _count(self, entry: Entry, batches: int, size: int) -> None:
        entry.batches += batches
        entry.bytes += size
        self._batches += batches
        self._bytes += size

    def _write_streams(self) -> list[tuple[StreamId, int]]:
        """Write the rows of all changed streams; return the lows that the core does not know."""
        lows = []
        rows = []
        places = []
        for run, known in self._known_lows.items():
            entry = self._entries[run]
            if not entry.batches:
                entry.low = entry.head + 1
            elif entry.end != entry.head:
                raise ValueError(f"the head of {run} is {entry.head}, its last batch ends at {entry.end}")
            if entry.low > known:
                lows.append((run, entry.low))
            rows.append(entry.row())
            places += [(entry.id, self._ids[name], at) for name, at in entry.places if name in self._ids]
        self._database.executemany(
            "REPLACE INTO stream VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
        )
        if self._ids:
            streams = [(self._entries[run].id,) for run in self._known_lows]
            self._database.executemany("DELETE FROM place WHERE stream = ?", streams)
            self._database.executemany("INSERT INTO place VALUES (?, ?, ?)", places)
        return lows


def _with_checksum(header: bytes) -> bytes:
    """*header* with a checksum of 4 bytes in front; an empty header stays empty."""
    return crc32(header).to_bytes(4, "big") + header if header else b""


def _checked(stored: bytes) -> bytes:
    """The header in *stored*; empty if it is damaged: for a false header, peers would close a link."""
    header = stored[4:]
    return header if _with_checksum(header) == stored else b""
