"""Finding out where two nodes' histories differ, in one frame.

Contract: :func:`digest` gives the DIGEST of what is held, :func:`differing` the streams of the
buckets a peer's DIGEST shows as different.  A bucket is the first byte of the origin, by four.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from twisted_mesh.core.events import StreamId
from twisted_mesh.wire.broadcast import Bucket, Digest

BUCKETS: Final = 64

Heads = Iterable[tuple[StreamId, int]]


def digest(heads: Heads) -> Digest:
    """The DIGEST of *heads*; buckets without a stream are left out."""
    return Digest([Bucket(number, made) for number, made in sorted(_hashes(heads).items())])


def differing(heads: Heads, theirs: Digest) -> Iterator[StreamId]:
    """The runs of *heads* whose bucket is not the same in *theirs*."""
    heads = list(heads)
    ours = _hashes(heads)
    told = {bucket.number: bucket.digest for bucket in theirs.buckets}
    for run, _ in heads:
        number = bucket_of(run)
        if told.get(number) != ours[number]:
            yield run


def bucket_of(run: StreamId) -> int:
    """The bucket a run is in."""
    return run[0][0] * BUCKETS // 256


def _hashes(heads: Heads) -> dict[int, bytes]:
    hashes: dict[int, hashlib._Hash] = {}
    for (origin, epoch), head in sorted(heads):
        hashed = hashes.setdefault(bucket_of((origin, epoch)), hashlib.sha256())
        hashed.update(origin + epoch.to_bytes(8, "big") + head.to_bytes(8, "big"))
    return {number: hashed.digest() for number, hashed in hashes.items()}
