"""Finding out where two nodes' histories differ, in one frame.

Contract: :func:`digest` makes the DIGEST of the streams held here.  :func:`differing` gives the streams
in the buckets that a peer's DIGEST shows as different.  A stream's bucket is the first byte of its
origin, divided by 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from twisted_mesh.core.events import StreamId
from twisted_mesh.wire.broadcast import Bucket, Digest

BUCKETS: Final = 64

Heads = Iterable[tuple[StreamId, int, bytes]]  # the head of each run, and the hash of the header there


def digest(heads: Heads) -> Digest:
    """The DIGEST of *heads*, without empty buckets."""
    return Digest([Bucket(number, made) for number, made in sorted(_hashes(heads).items())])


def differing(heads: Heads, theirs: Digest) -> Iterator[StreamId]:
    """The runs of *heads* in the buckets that differ from those of *theirs*."""
    heads = list(heads)
    hashes = _hashes(heads)
    peers = {bucket.number: bucket.digest for bucket in theirs.buckets}
    return (run for run, _, _ in heads if peers.get(bucket_of(run)) != hashes[bucket_of(run)])


def bucket_of(run: StreamId) -> int:
    """The number of the bucket that *run* is in."""
    return run[0][0] * BUCKETS // 256


def _hashes(heads: Heads) -> dict[int, bytes]:
    hashes: dict[int, hashlib._Hash] = {}
    for (origin, epoch), head, header_hash in sorted(heads):
        hashed = hashes.setdefault(bucket_of((origin, epoch)), hashlib.sha256())
        hashed.update(origin + epoch.to_bytes(8, "big") + head.to_bytes(8, "big"))
        hashed.update(header_hash.ljust(32, b"\0"))
    return {number: hashed.digest() for number, hashed in hashes.items()}
