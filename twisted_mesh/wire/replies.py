"""The frames that travel towards one node, on the way its own came: receipts and direct messages.

Contract: values; :mod:`~twisted_mesh.wire.codec` makes bytes of them.  The order of fields is the
specification.  All are signed by their authors; a relay passes them on.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec

from twisted_mesh.wire.fields import FrameBase, Head, Kind, Number, Origin, Sequence

MAX_TRIES: Final = 255

Tries = Annotated[int, msgspec.Meta(ge=0, le=MAX_TRIES)]
MAX_RECEIPT: Final = 256  # bytes of a receipt's array, unknown fields included: it has 90 to 110


class Receipt(msgspec.Struct, array_like=True, frozen=True):
    """The run ``member_epoch`` of ``member`` has taken ``low..high`` of a run, without a hole.

    If ``low = high + 1``, it has taken nothing, and will take nothing below ``low``.
    """

    kind: ClassVar = Kind.RECEIPT
    origin: Origin
    epoch: Number
    low: Sequence
    high: Head
    member: Origin
    member_epoch: Number

    def __post_init__(self) -> None:
        if self.low > self.high + 1:
            raise ValueError("a receipt's low is beyond its high")

    @property
    def signer(self) -> bytes:
        """The public key that signs it."""
        return self.member


class SignedReceipt(msgspec.Struct, array_like=True, frozen=True):
    """A receipt as it travels: its signature, and its array as it came.

    :ivar hops: how many relays have passed it on; :ivar tries: how often it was sent before.
    """

    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    array: Annotated[bytes, msgspec.Meta(max_length=MAX_RECEIPT)]
    hops: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    tries: Tries = 0

    def relayed(self) -> SignedReceipt:
        """The same, one hop further."""
        return SignedReceipt(self.signature, self.array, min(self.hops + 1, 255), self.tries)


class Receipts(FrameBase, array_like=True, frozen=True):
    """Receipts for one author or several, in one frame."""

    kind: ClassVar = Kind.RECEIPT
    entries: list[SignedReceipt]


class Direct(msgspec.Struct, array_like=True, frozen=True):
    """Messages for one run of one node; ``number`` counts those of ``origin``'s run to it, from 1.

    :ivar oldest: the lowest number that is still repeated; lower ones were given up.
    :ivar tries: how often it was sent before; :ivar body: as in BATCH.
    """

    kind: ClassVar = Kind.DIRECT
    origin: Origin
    epoch: Number
    destination: Origin
    destination_epoch: Number
    number: Sequence
    oldest: Sequence
    tries: Tries
    body: bytes

    @property
    def signer(self) -> bytes:
        """The public key that signs it."""
        return self.origin


class DirectAck(msgspec.Struct, array_like=True, frozen=True):
    """``destination`` has handed the direct message ``number`` of ``origin``'s run to its application.

    :ivar tries: of the DIRECT it answers.
    """

    kind: ClassVar = Kind.DIRECT_ACK
    destination: Origin
    destination_epoch: Number
    origin: Origin
    epoch: Number
    number: Sequence
    tries: Tries

    @property
    def signer(self) -> bytes:
        """The public key that signs it."""
        return self.destination
