"""What the history takes in memory: ``python -m benchmarks.held``.

Batches as links bring them are held in the memory of one stream; of each kind so many that they have 4 MiB,
or 20,000 at most.  Prints the bytes of a batch's messages as packed, the bytes of memory that it takes, and
those that are counted for it against ``history_bytes``.
"""

from __future__ import annotations

import os
import tracemalloc

from twisted_mesh.core.history.batches import Batches
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import Batch, SignedBatch
from twisted_mesh.wire.framing import LENGTH_BYTES

KINDS = ((64, 1), (64, 10), (64, 1000), (1024, 1), (1024, 60), (65_536, 4))  # bytes of a message, messages
BYTES = 4 * 2**20
MOST = 20_000
NETWORK = bytes(32)


def come(first: int, size: int, count: int, origin: bytes) -> SignedBatch:
    """A batch of *count* messages of *size* bytes, whose header was looked at."""
    batch = Batch(origin, 2**41, first, count, 2**41, 0, os.urandom(32))
    body = join_entries([pack_entry(0, (os.urandom(size),)) for _ in range(count)])
    sent = codec.sign_batch(batch, body, NETWORK, lambda text: os.urandom(64))
    received = codec.unpack_batch(codec.encode(sent)[LENGTH_BYTES:])
    assert received.header.hash == sent.header.hash
    return received


def main() -> None:
    """Measure each kind."""
    origin = os.urandom(32)
    print("messages    of bytes    as packed    in memory    counted")
    for size, count in KINDS:
        batches, many = Batches(), min(MOST, BYTES // (size * count))
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for number in range(many):
            batches.join(come(1 + number * count, size, count, origin), float(number))
        took = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        packed = sum(len(batch.body) for _, batch in batches.newest_first())
        figures = (packed, took, batches.held_bytes)
        print(f"{count:8} {size:11,} {'  '.join(f'{each / many:11,.0f}' for each in figures)}")


if __name__ == "__main__":
    main()
