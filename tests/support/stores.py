"""For tests of a store: flushes as a core makes them, and a model of what must be stored then."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import NamedTuple
from zlib import crc32

from twisted.trial.unittest import SynchronousTestCase

from tests.support.temporary import folder
from twisted_mesh.core.history.storage import (
    AuthorMarks,
    BatchOrMissing,
    Flush,
    Marks,
    Missing,
    StoreLimits,
    StoreOwner,
)
from twisted_mesh.core.history.stream import StreamId
from twisted_mesh.storage.catalogue import ROW_BYTES
from twisted_mesh.storage.schema import EARLIER
from twisted_mesh.storage.sqlite import SqliteStore
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Batch, SignedBatch

MIB = 2**20
NETWORK = b"the id of a network"
NOW = 1_800_000_000_000
ANNA: StreamId = (b"a" * 32, 7)
BERT: StreamId = (b"b" * 32, 2**62 - 1)
ME: StreamId = (b"m" * 32, NOW)
ALL = 2**62


def folder_of(test: SynchronousTestCase) -> Path:
    """A folder for one test, in memory if possible: the speed of the disk is not tested."""
    path = tempfile.mkdtemp(dir=folder())
    os.chmod(path, 0o755)
    test.addCleanup(shutil.rmtree, path)
    return Path(path)


def batch_of(run: StreamId, first: int, count: int = 1, size: int = 100, hops: int = 0) -> SignedBatch:
    """A batch with a body of *size* bytes, which depend on the other arguments alone."""
    body = Random(f"{run[0].hex()} {first} {count} {size}").randbytes(size)
    batch = Batch(*run, first, count, NOW, 0, bytes(32))
    return SignedBatch(batch, body[:64].ljust(64, b"s"), codec.pack(batch), body, hops)


def size_of(signed: SignedBatch) -> int:
    """The bytes of a batch that count against the limit."""
    return codec.size(signed) - 4 + ROW_BYTES


def marks_of(run: StreamId, head: int, low: int = 1, taken: int = 0) -> Marks:
    """Marks with defaults for all other fields."""
    return Marks(run, head, low, 0, taken, False)


def flush_of(
    *batches: SignedBatch,
    marks: Sequence[Marks] | None = None,
    closed: Sequence[tuple[StreamId, int]] = (),
    own: tuple[StreamId, int] = (ME, 0),
    settled: bool = False,
    at: int = NOW,
    forgotten: Sequence[StreamId] = (),
    authors: Sequence[AuthorMarks] = (),
) -> Flush:
    """A flush of *batches* that all came at *at*, with *marks* or those of the batches."""
    if marks is None:
        heads = {(one.batch.origin, one.batch.epoch): one.batch.last for one in batches}
        marks = [marks_of(run, head) for run, head in heads.items()]
    return Flush([(at, signed) for signed in batches], marks, closed, own, settled, forgotten, authors)


class Contents(NamedTuple):
    """The whole contents of a store."""

    marks: dict[StreamId, Marks]
    batches: dict[StreamId, list[SignedBatch]]
    closed: list[tuple[StreamId, int]]
    settled: bool
    authors: list[AuthorMarks]
    consumers: Mapping[str, int] = {}


def open_store(
    path: object,
    *,
    network: bytes = NETWORK,
    origin: bytes = ME[0],
    bytes_limit: int = 2**40,
    seconds_limit: float = 1e9,
    closed_limit: int = 1000,
    authors_limit: int = 1000,
    wall_ms: Callable[[], int] = lambda: NOW,
) -> SqliteStore:
    """Open a store without limits, unless *options* has some."""
    limits = StoreLimits(bytes_limit, seconds_limit, closed_limit, authors_limit)
    return SqliteStore(str(path), StoreOwner(network, origin), limits, wall_ms)


#: SHA-256 of the tables of a history file, as programs of each earlier version made them.
TABLES = {
    1: "af6368aebf7dfe8e021277790c6243a3b0e82edc6408af307a58ff09b9c0d538",
    2: "466384dbd36cbc1a4e4c6c31d06dbac45512d3600f99849bce43af6fdfd7a5cb",
    3: "0515a6e280179b8174b0a0280df5a210bec13737ff8ba01417ef712da55b1010",
}


def _make_file(
    version: int,
    about: tuple[object, ...],
    added: tuple[object, ...],
    path: object,
    *batches: SignedBatch,
) -> None:
    """Make a history file of *version* that holds *batches* of one run, and the closed run of BERT."""
    tables = EARLIER[version].schema
    assert sha256("\n".join(tables).encode()).hexdigest() == TABLES[version]
    run = (batches[0].batch.origin, batches[0].batch.epoch)
    payloads = [codec.encode(signed)[4:] for signed in batches]
    cost = sum(len(payload) + ROW_BYTES for payload in payloads)
    head = batches[-1].batch.last
    stream = (*run, 1, head, 1, 0, 0, 0, 1, len(batches), cost, NOW, NOW, *added)
    with closing(sqlite3.connect(str(path), isolation_level=None)) as database:
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA application_id = 0x6D657368")
        database.execute(f"PRAGMA user_version = {version}")
        for statement in tables:
            database.execute(statement)
        database.execute(f"INSERT INTO about VALUES ({', '.join('?' * len(about))})", about)
        database.execute(f"INSERT INTO stream VALUES ({', '.join('?' * len(stream))})", stream)
        for signed, payload in zip(batches, payloads, strict=True):
            row = (1, signed.batch.first, signed.batch.last, NOW, crc32(payload), payload)
            database.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)", row)
        database.execute("INSERT INTO closed VALUES (NULL, ?, ?, 5)", BERT)
        database.execute("PRAGMA journal_mode = WAL")
    os.chmod(str(path), 0o600)


make_version_1 = partial(_make_file, 1, (1, NETWORK, 1), ())
make_version_2 = partial(_make_file, 2, (1, NETWORK, ME[0], 1), (b"", None))
make_version_3 = partial(_make_file, 3, (1, NETWORK, ME[0], 1), (b"", None))


def batches_in(pieces: Iterable[BatchOrMissing]) -> list[SignedBatch]:
    """The batches among *pieces*."""
    return [piece for piece in pieces if not isinstance(piece, Missing)]


def contents(store: SqliteStore) -> Contents:
    """The marks that *store* had when it was opened, and its batches."""
    restored = store.restored
    marks = {one.run: one for one in restored.marks}
    batches = {run: batches_in(store.read(run, 1, ALL, 2**40)) for run in marks}
    authors = list(restored.authors)
    return Contents(marks, batches, list(restored.closed), restored.settled, authors, restored.consumers)


@dataclass
class _Stored:
    marks: Marks
    low: int
    rows: list[tuple[int, SignedBatch]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(size_of(signed) for _, signed in self.rows)


class Model:
    """A slow store in a dict, which keeps the promises of a store."""

    def __init__(
        self,
        bytes_limit: int = 2**40,
        seconds_limit: float = 1e9,
        closed_limit: int = 1000,
        authors_limit: int = 1000,
    ) -> None:
        self.limits = {
            "bytes_limit": bytes_limit,
            "seconds_limit": seconds_limit,
            "closed_limit": closed_limit,
            "authors_limit": authors_limit,
        }
        self.streams: dict[StreamId, _Stored] = {}
        self.closed: dict[StreamId, int] = {}
        self.authors: dict[bytes, AuthorMarks] = {}
        self.settled = False
        self.consumers: Mapping[str, int] = {}

    def flush(self, flush: Flush, now: int) -> dict[StreamId, int]:
        """Store *flush*; return the lows that the store must tell."""
        for run in flush.forgotten:
            self.streams.pop(run, None)
            self.closed.pop(run, None)
        told = {run: stored.low for run, stored in self.streams.items()}
        for author in flush.authors:
            self.authors.pop(author.origin, None)
            self.authors[author.origin] = author
        for origin in list(self.authors)[: -int(self.limits["authors_limit"])]:
            del self.authors[origin]
        if flush.consumers is not None:
            self.consumers = flush.consumers
            for stored in self.streams.values():
                places = tuple(place for place in stored.marks.places if place[0] in self.consumers)
                stored.marks = stored.marks._replace(places=places)
        for run, head in flush.closed:
            self.streams.pop(run, None)
            self.closed.pop(run, None)
            self.closed[run] = head
        for marks in flush.marks:
            self.closed.pop(marks.run, None)
            stored = self.streams.setdefault(marks.run, _Stored(marks, marks.low))
            stored.marks, stored.low = marks, max(marks.low, stored.low)
            dropped = min(stored.low, marks.slowest + 1)  # batches below the low that were not taken stay
            stored.rows = [row for row in stored.rows if row[1].batch.last >= dropped]
            told[marks.run] = marks.low
        for arrived, signed in flush.batches:
            run = (signed.batch.origin, signed.batch.epoch)
            if run in self.streams and signed.batch.last >= told.get(run, 0):
                self._put(self.streams[run], arrived, signed)
        own, own_taken = flush.own
        for run, stored in self.streams.items():
            while stored.rows and stored.rows[0][0] <= now - self.limits["seconds_limit"] * 1000:
                if run == own and stored.rows[0][1].batch.last > own_taken:
                    break
                self._give_up(stored)
        self._evict(own, own_taken)
        self.settled = flush.settled
        for run in list(self.closed)[: -int(self.limits["closed_limit"])]:
            del self.closed[run]
        for stored in self.streams.values():
            if not stored.rows:
                stored.low = stored.marks.head + 1
        return {run: stored.low for run, stored in self.streams.items() if stored.low > told[run]}

    def contents(self) -> Contents:
        """The contents that a store must have now."""
        return Contents(
            {run: stored.marks._replace(low=stored.low) for run, stored in self.streams.items()},
            {run: [signed for _, signed in stored.rows] for run, stored in self.streams.items()},
            list(self.closed.items()),
            self.settled,
            list(self.authors.values()),
            self.consumers,
        )

    def first_since(self, run: StreamId, at: float) -> int | None:
        """The first number of the first batch of *run* that came at *at* or later."""
        rows = self.streams[run].rows if run in self.streams else []
        return next((signed.batch.first for arrived, signed in rows if arrived >= at), None)

    @property
    def footprint(self) -> dict[str, int]:
        """The footprint that the store must tell."""
        return {
            "stored_streams": len(self.streams),
            "stored_closed": len(self.closed),
            "stored_authors": len(self.authors),
            "stored_batches": sum(len(stored.rows) for stored in self.streams.values()),
            "stored_bytes": sum(stored.size for stored in self.streams.values()),
            "stored_consumers": len(self.consumers),
        }

    def _put(self, stored: _Stored, arrived: int, signed: SignedBatch) -> None:
        if stored.rows:
            arrived = max(arrived, stored.rows[-1][0])
        else:
            stored.low = signed.batch.first
        kept = [row for row in stored.rows if row[1].batch.first < signed.batch.first]
        stored.rows = [*kept, (arrived, signed)]

    def _give_up(self, stored: _Stored) -> None:
        stored.low = max(stored.low, stored.rows.pop(0)[1].batch.last + 1)

    def _evict(self, own: StreamId, own_taken: int) -> None:
        limit = int(self.limits["bytes_limit"])
        if sum(stored.size for stored in self.streams.values()) <= limit:
            return
        while sum(stored.size for stored in self.streams.values()) > limit * 15 // 16:
            of: Counter[tuple[str | bytes, ...]] = Counter()
            for run, stored in self.streams.items():
                for share in self._shares(run, stored):
                    of[share] += stored.size * (3 if share == ("new",) else 1)
            may = [
                (*((-of[share], share) for share in self._shares(run, stored)), -stored.size, run)
                for run, stored in self.streams.items()
                if stored.rows and (run != own or stored.rows[0][1].batch.last <= own_taken)
            ]
            if not may:
                return
            self._give_up(self.streams[min(may)[-1]])

    def _shares(self, run: StreamId, stored: _Stored) -> list[tuple[str | bytes, ...]]:
        """The shares for which the bytes of a run count: of its side, its introducer, and its origin."""
        introducer = stored.marks.introducer
        side = ("known", "") if introducer is None else ("new", introducer)
        return [side[:1], side, (*side, run[0])]


class Script:
    """Flushes drawn from *random*: everything that the contract of a flush allows."""

    def __init__(self, random: Random, runs: Sequence[StreamId], size: int = 300) -> None:
        self._random = random
        self._runs = runs
        self._size = size
        self._open: dict[StreamId, Marks] = {}
        self._closed: dict[StreamId, int] = {}
        self._settled = False
        self._own_taken = 0
        self._names = Random(7)  # draws all that concerns consumers
        self._consumers: Mapping[str, int] = {}
        self.now = NOW

    def flush(self) -> Flush:
        """Make the next flush."""
        random = self._random
        self.now += random.choice((0, 1, 500, 20_000, -3000))
        batches: list[tuple[int, SignedBatch]] = []
        changed: dict[StreamId, None] = {}
        closed: list[tuple[StreamId, int]] = []
        forgotten: list[StreamId] = []
        for _ in range(random.randrange(6)):
            run = random.choice(self._runs)
            if run in dict(closed) or run in forgotten:
                continue
            step = random.random()
            if run in self._open and run not in changed and run != ME and step < 0.12:
                marks = self._open.pop(run)
                if step < 0.04:
                    forgotten.append(run)
                    continue
                self._closed[run] = marks.head
                closed.append((run, marks.head))
                continue
            changed[run] = None
            if run not in self._open:
                head = max(random.choice((0, 0, 5)), self._closed.pop(run, 0)) if run != ME else 0
                self._open[run] = Marks(run, head, head + 1, head, 0, False)
            if step < 0.9:
                batches += self._batches(run, skip=step < 0.2 and run != ME)
        self._settled = self._settled or random.random() < 0.1
        if ME in self._open:
            self._own_taken = random.randint(self._own_taken, self._open[ME].head)
        introducers = (None, None, "192.0.2.1", "192.0.2.2")
        marks = [self._open[run]._replace(introducer=random.choice(introducers)) for run in changed]
        authors = [
            AuthorMarks(run[0], random.randrange(9), random.randrange(9))
            for run in random.sample(self._runs, random.choice((0, 0, 1)))
        ]
        own = (ME, self._own_taken)
        consumers = self._name_consumers()
        marks = [self._placed(each) for each in marks]
        return Flush(batches, marks, closed, own, self._settled, forgotten, authors, consumers)

    def _name_consumers(self) -> Mapping[str, int] | None:
        """Let consumers come and go, in one flush of four."""
        if self._names.random() < 0.75:
            return None
        names = [name for name in ("audit", "billing", "ops") if self._names.random() < 0.7]
        self._consumers = {name: self._names.randrange(NOW) for name in names}
        return self._consumers

    def _placed(self, marks: Marks) -> Marks:
        places = tuple((name, self._names.randint(0, marks.head)) for name in self._consumers)
        return marks._replace(places=places)

    def lows(self, lows: Sequence[tuple[StreamId, int]]) -> None:
        """Take in the lows that a flush told; some come too late for the next flush."""
        for run, low in sorted(lows):
            if run in self._open and self._random.random() < 0.7:
                marks = self._open[run]
                self._open[run] = marks._replace(low=max(low, marks.low))

    def _batches(self, run: StreamId, skip: bool) -> list[tuple[int, SignedBatch]]:
        random = self._random
        made = []
        for _ in range(random.randint(1, 4)):
            marks = self._open[run]
            first = marks.head + 1
            if skip:
                first += random.randint(1, 5)
                marks = marks._replace(low=first)
                skip = False
            elif run != ME and marks.head and random.random() < 0.2:
                first = random.randint(max(1, marks.head - 4), marks.head)
            last = max(first, marks.head + 1) + random.randrange(4)
            low = min(first, marks.low) if marks.low > marks.head else marks.low
            taken = random.randint(marks.taken, last)
            whole = marks.whole if random.random() < 0.8 else random.randint(marks.whole, last + 1)
            self._open[run] = Marks(run, last, low, marks.base, taken, random.random() < 0.1, whole)
            signed = batch_of(
                run, first, last - first + 1, random.randrange(self._size), random.randrange(9)
            )
            made.append((self.now - random.choice((0, 0, 100)), signed))
        return made
