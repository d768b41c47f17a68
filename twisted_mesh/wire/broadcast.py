"""Frames of broadcast: batches of messages, the messages that a node holds, and those that it asks for.

Contract: values, which :mod:`~twisted_mesh.wire.codec` packs and unpacks.  A *stream* has all messages of
one run of an author; a batch has some in a row.  The *head* of a stream is the last message up to which a
node lacks none.  A signed batch keeps its array as it came, since its author signed these very bytes.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import Annotated, ClassVar, Final

import msgspec

from twisted_mesh.wire.fields import (  # fmt: skip
    MAX_NUMBER,
    FrameBase,
    Hash,
    Head,
    Kind,
    Number,
    Origin,
    Sequence,
    Span,
)
from twisted_mesh.wire.signed import MAX_HOPS

MAX_HEADER: Final = 64 + 32 + 255  # bytes in a frame other than BATCH: signature, digest, array
MAX_HEADERS: Final = 16  # headers in one HEADERS frame (guess)
PackedHeader = Annotated[bytes, msgspec.Meta(max_length=MAX_HEADER)]
MAX_BATCH_COUNT: Final = 16_384  # messages in a batch: bounds the objects that 1 MiB unpacks to (guess)


class SnapshotEntry(Span, array_like=True, frozen=True):
    """One stream: the sender holds ``low..high``, and a node that joins is to begin behind ``base``.

    ``proof`` is the header of the batch that ends at ``high``, or empty if the sender lacks it.
    """

    base: Head
    proof: PackedHeader

    def __post_init__(self) -> None:
        if self.low > self.high + 1 or self.base > self.high:
            raise ValueError("low or base is beyond high")


class Snapshot(FrameBase, array_like=True, frozen=True):
    """The sender's frontier (all its streams) when the link came up, in one or more frames."""

    kind: ClassVar = Kind.SNAPSHOT
    is_early: ClassVar = True
    last: bool
    streams: list[SnapshotEntry]


class HaveEntry(Span, array_like=True, frozen=True):
    """One stream: the sender holds ``low..high`` without a hole; ``high`` is its head.

    If ``low = high + 1``, the sender holds nothing.  If ``coming`` is 1, messages above ``high`` are on
    their way to the sender; if it is greater, to a node ``coming - 1`` links away from the sender.
    ``hash`` is the hash of the header of the batch that ends at ``high``, or empty if it is unknown.
    """

    coming: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    hash: Annotated[bytes, msgspec.Meta(max_length=32)] = b""


class Have(FrameBase, array_like=True, frozen=True):
    """The streams that the sender holds; if ``answer``, this frame ends the answer to a WANT."""

    kind: ClassVar = Kind.HAVE
    streams: list[HaveEntry]
    answer: bool


class Want(FrameBase, array_like=True, frozen=True):
    """Asks for messages ``first..last``, as far as the peer holds them.

    With ``graft`` the WANT also asks the peer to push new messages of this origin again.  Without
    ``graft`` it replaces the unanswered WANT for the same stream, since fewer messages are missing by now;
    if ``first`` is ``last`` + 1, none are.
    """

    kind: ClassVar = Kind.WANT
    origin: Origin
    epoch: Number
    first: Sequence
    last: Number
    graft: bool


class Prune(FrameBase, array_like=True, frozen=True):
    """Asks the peer to announce the messages of these origins instead of pushing them."""

    kind: ClassVar = Kind.PRUNE
    is_early: ClassVar = True
    origins: list[Origin]


class Bucket(msgspec.Struct, array_like=True, frozen=True):
    """The hash of the heads of those open streams whose origins begin with the six bits ``number``."""

    number: Annotated[int, msgspec.Meta(ge=0, le=63)]
    digest: Hash


class Digest(FrameBase, array_like=True, frozen=True):
    """The hashes of the sender's heads; buckets without a stream are left out."""

    kind: ClassVar = Kind.DIGEST
    is_early: ClassVar = True
    buckets: Annotated[list[Bucket], msgspec.Meta(max_length=64)]


class Headers(FrameBase, array_like=True, frozen=True):
    """The header of a batch for which the peer has another hash, or two that contradict each other."""

    kind: ClassVar = Kind.HEADERS
    headers: Annotated[list[PackedHeader], msgspec.Meta(max_length=MAX_HEADERS)]


class Batch(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The header of a batch: ``count`` consecutive messages of one run; the first has the number ``first``.

    ``sent`` is the author's clock in milliseconds since 1970.  ``encoding`` tells how the body is packed; 0
    means as in :mod:`~twisted_mesh.wire.bodies`.  ``previous`` is the hash of the header before this one in
    the same run; it is 32 zeros in the first.  It shows if an author signed two batches under one number.
    """

    origin: Origin
    epoch: Number
    first: Sequence
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH_COUNT)]
    sent: Number
    encoding: Number
    previous: Hash

    def __post_init__(self) -> None:
        if self.last >= MAX_NUMBER:
            raise ValueError("a batch that ends at 2^62 or beyond")

    @property
    def last(self) -> int:
        return self.first + self.count - 1


class SignedHeader(msgspec.Struct, frozen=True, gc=False):
    """The header of a batch with its author's signature, which can be verified without the body.

    :ivar array: the bytes of *batch* as its author packed and signed them.
    :ivar body_digest: the SHA-256 of the body.
    :ivar hash: the SHA-256 of *array* and *body_digest*, different for different batches.
    """

    batch: Batch
    signature: bytes
    array: bytes
    body_digest: bytes
    hash: bytes

    @classmethod
    def of(cls, batch: Batch, signature: bytes, array: bytes, body_digest: bytes) -> SignedHeader:
        return cls(batch, signature, array, body_digest, hash_of(array, body_digest))


def hash_of(array: bytes, body_digest: bytes) -> bytes:
    """The hash of a header, 32 bytes."""
    return sha256(array + body_digest).digest()


class SignedBatch(FrameBase, frozen=True, dict=True, gc=True):
    """A BATCH as it travels: its header, the header's bytes as its author signed them, and the body.

    A large body is a view of the frame that it came or goes in, so that it is in memory once.  The garbage
    collector does not look into batches, since it looks into none of their values.
    """

    kind: ClassVar = Kind.BATCH
    batch: Batch
    signature: bytes
    array: bytes
    body: bytes | memoryview
    hops: int = 0

    @cached_property
    def header(self) -> SignedHeader:
        """The header with its signature; made once: hashing a body of 64 KiB takes 40 us (measured)."""
        return SignedHeader.of(self.batch, self.signature, self.array, sha256(self.body).digest())

    @property
    def size(self) -> int:
        """Bytes of the array and the body."""
        return len(self.array) + len(self.body)

    def relayed(self) -> SignedBatch:
        hops = min(self.hops + 1, MAX_HOPS)
        return SignedBatch(self.batch, self.signature, self.array, self.body, hops)


BroadcastFrame = Snapshot | Have | Want | Prune | Digest | Headers  #: the frames that are not signed
