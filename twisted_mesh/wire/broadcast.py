"""Frames of broadcast: batches of messages, what a node holds of each stream, and what it wants.

Contract: values, which :mod:`~twisted_mesh.wire.codec` packs and unpacks.  A signed batch keeps the array
as it came, since its author signed these very bytes.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec

from twisted_mesh.wire.fields import MAX_NUMBER, FrameBase, Head, Kind, Number, Origin, Sequence
from twisted_mesh.wire.signed import MAX_HOPS

MAX_BATCH_COUNT: Final = 16_384  # messages in a batch: bounds the objects that 1 MiB unpacks to (guess)


class SnapshotEntry(msgspec.Struct, array_like=True, frozen=True):
    """One stream, of which the sender holds ``low..high``; a node that joins begins behind ``base``."""

    origin: Origin
    epoch: Number
    low: Sequence
    high: Head
    base: Head

    def __post_init__(self) -> None:
        if self.low > self.high + 1 or self.base > self.high:
            raise ValueError("a stream's low or base is beyond its high")


class Snapshot(FrameBase, array_like=True, frozen=True):
    """The sender's frontier at the moment the link came up, in one or more frames."""

    kind: ClassVar = Kind.SNAPSHOT
    is_early: ClassVar = True
    last: bool
    streams: list[SnapshotEntry]


class HaveEntry(msgspec.Struct, array_like=True, frozen=True):
    """One stream, of which the sender holds ``low..high`` without a hole; ``high`` is the head.

    If ``low = high + 1``, the sender holds nothing.  If ``coming`` is not 0, messages above ``high`` are on
    their way: if it is 1, to the sender; if it is greater, to a node ``coming - 1`` links from the sender.
    """

    origin: Origin
    epoch: Number
    low: Sequence
    high: Head
    coming: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0

    def __post_init__(self) -> None:
        if self.low > self.high + 1:
            raise ValueError("a stream's low is beyond its high")


class Have(FrameBase, array_like=True, frozen=True):
    """The streams that the sender holds; if ``answer``, this frame ends the answer to a WANT."""

    kind: ClassVar = Kind.HAVE
    streams: list[HaveEntry]
    answer: bool


class Want(FrameBase, array_like=True, frozen=True):
    """Asks for messages ``first..last``, as far as the peer holds them.

    With ``graft`` it also asks the peer to push new messages of this origin again.  Without ``graft`` it
    replaces an earlier WANT for the same stream that is not answered yet, because fewer messages are
    missing by now; none if ``first`` is ``last`` + 1.
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
    """The hash of the heads of the open streams whose origin has ``number`` as its first six bits."""

    number: Annotated[int, msgspec.Meta(ge=0, le=63)]
    digest: Origin


class Digest(FrameBase, array_like=True, frozen=True):
    """The hashes of the sender's heads; buckets without a stream are left out."""

    kind: ClassVar = Kind.DIGEST
    is_early: ClassVar = True
    buckets: Annotated[list[Bucket], msgspec.Meta(max_length=64)]


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """``count`` consecutive messages of one run; the first has the number ``first``.

    ``sent`` is the author's clock in milliseconds since 1970.  ``encoding`` tells how the body is packed; 0
    means as in :mod:`~twisted_mesh.wire.bodies`.
    """

    origin: Origin
    epoch: Number
    first: Sequence
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH_COUNT)]
    sent: Number
    encoding: Number
    body: bytes

    def __post_init__(self) -> None:
        if self.last >= MAX_NUMBER:
            raise ValueError("a batch that ends at 2^62 or beyond")

    @property
    def last(self) -> int:
        """The sequence of its last message."""
        return self.first + self.count - 1


class SignedBatch(FrameBase, frozen=True):
    """A BATCH as it travels: the value, and the very bytes its author signed."""

    kind: ClassVar = Kind.BATCH
    batch: Batch
    signature: bytes
    array: bytes
    hops: int = 0

    def relayed(self) -> SignedBatch:
        """The same batch, one hop further."""
        hops = min(self.hops + 1, MAX_HOPS)
        return SignedBatch(self.batch, self.signature, self.array, hops)


BroadcastFrame = Snapshot | Have | Want | Prune | Digest  #: those that are not signed
