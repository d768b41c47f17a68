"""What keeping the history costs: ``python -m benchmarks.store [--quick] [--folder FOLDER]``.

Prints, for this machine and the disk that FOLDER (default: the system's for temporary files) is on:

* microseconds (and on the processor), and bytes of the file, for each batch of one message of 100 bytes, in
  flushes of 1, 10 and 100 of them, and for a batch of 256 KiB by itself: the median of five rounds;
* how long it takes to open a file of 1 GiB of small batches, and of full ones; how long a flush of 1 MiB
  takes while as much again is flushed and the old given up; and how large the file is before and after.

``--quick`` makes that 64 MiB instead of 1 GiB, and the rounds a tenth as long.  Nothing is left behind.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.storage import Flush, Marks, StoreLimits, StoreOwner
from twisted_mesh.storage.sqlite import SqliteStore
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import Batch, SignedBatch

MIB = 2**20
ROUNDS = 5
START = 1_800_000_000_000
STREAMS: list[StreamId] = [(bytes([number]) * 32, START) for number in range(50)]
OWN: StreamId = (b"o" * 32, START)


class Author:
    """The batches of one run."""

    def __init__(self, run: StreamId, size: int) -> None:
        self._run, self._head = run, 0
        self._body = join_entries([pack_entry(0, ["x" * size])])

    def next(self) -> tuple[SignedBatch, Marks]:
        """One more."""
        self._head += 1
        batch = Batch(*self._run, self._head, 1, START, 0, bytes(32))
        signed = SignedBatch(batch, bytes(64), codec.pack(batch), self._body)
        return signed, Marks(self._run, self._head, 1, 0, self._head, False)


def flushes(size: int, together: int, runs: list[StreamId]) -> Iterator[Flush]:
    """Flushes of so many batches of *size*, of all *runs* in turn."""
    authors = [Author(run, size) for run in runs]
    turn = 0
    while True:
        made = []
        for _ in range(together):
            made.append(authors[turn % len(authors)].next())
            turn += 1
        marks = {one.run: one for _, one in made}
        yield Flush([(START, one) for one, _ in made], list(marks.values()), [], (OWN, 0), True)


def opened(path: Path, limit: int = 2**40) -> SqliteStore:
    """The store at *path*."""
    return SqliteStore(
        path, StoreOwner(b"network", OWN[0]), StoreLimits(limit, 1e9, 2**18, 2**15), lambda: START
    )


def flushing(folder: Path, size: int, together: int, number: int) -> None:
    """Time and disk for each batch."""
    walls, cpus = [], []
    source = flushes(size, together, STREAMS)
    path = folder / "flushing"
    store = opened(path)
    for _ in range(ROUNDS):
        some = [next(source) for _ in range(max(1, number // together))]
        wall, cpu = time.perf_counter(), time.process_time()
        for flush in some:
            store.flush(flush)
        batches = len(some) * together
        walls.append((time.perf_counter() - wall) / batches * 1e6)
        cpus.append((time.process_time() - cpu) / batches * 1e6)
    count = store.footprint()["stored_batches"]
    store.close()
    disk = path.stat().st_size / count
    path.unlink()
    print(
        f"{size:>6} B, {together:>3} a flush: {median(walls):7.1f} us a batch, {median(cpus):6.1f} of them "
        f"on the processor, {disk:.0f} B in the file"
    )


def opening(folder: Path, size: int, limit: int) -> None:
    """Time to open a full file and to flush past its limit, and what the file grows to."""
    path = folder / "opening"
    store = opened(path, limit)
    source = flushes(size, max(1, MIB // (size + 200)), STREAMS)
    while store.footprint()["stored_bytes"] < limit - 2 * MIB:
        store.flush(next(source))
    store.close()
    full = path.stat().st_size
    began = time.perf_counter()
    store = opened(path, limit)
    took = time.perf_counter() - began
    batches = store.footprint()["stored_batches"]
    walls = []
    for _ in range(limit // MIB):
        flush = next(source)
        began = time.perf_counter()
        store.flush(flush)
        walls.append((time.perf_counter() - began) * 1000)
    store.close()
    print(
        f"{limit // MIB} MiB, {batches} batches of {size} B: opened in {took * 1000:.1f} ms; "
        f"a flush of 1 MiB {median(walls):.0f} ms, at most {max(walls):.0f} ms; "
        f"the file {full / limit:.2f}, then {path.stat().st_size / limit:.2f} of that"
    )
    path.unlink()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description="What keeping the history costs.")
    parser.add_argument("--quick", action="store_true", help="a tenth as long")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk that is to be measured")
    options = parser.parse_args()
    part = 10 if options.quick else 1
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        print(f"{os.cpu_count()} processors, {folder}")
        for together in (1, 10, 100):
            flushing(folder, 100, together, 20_000 // part)
        flushing(folder, MIB // 4, 1, 400 // part)
        for size in (100, MIB // 4):
            opening(folder, size, 64 * MIB if options.quick else 1024 * MIB)


if __name__ == "__main__":
    main()
