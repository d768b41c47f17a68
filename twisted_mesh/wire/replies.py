"""Frames for one node: receipts and direct messages.  They go the way back that the node's frames came.

Contract: values, which :mod:`~twisted_mesh.wire.codec` packs and unpacks, all signed by their authors.
The text of direct messages is sealed: only their destination can read it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec

from twisted_mesh.errors import PoisonedBody
from twisted_mesh.wire.fields import MAX_NUMBER, FrameBase, Kind, MessageId, Number, Origin, Sequence, Span
from twisted_mesh.wire.membership import MAX_PRESENCE

MAX_TRIES: Final = 255
#: Messages of one DIRECT, which share a seal and a signature.  With 32 under way, a request takes
#: 0.06 of the time of a lone one, with 256 0.04 (measured).  A consumer gets so many, however full it is.
MAX_DIRECTS: Final = 256
#: Bytes of the bodies of a DIRECT with several messages, so that they take about as long to unpack as the
#: messages of a BATCH may (measured: 15 ms; a frame full of bodies of empty lists would take 0.34 s).
MAX_TOGETHER: Final = 64 * 1024

Tries = Annotated[int, msgspec.Meta(ge=0, le=MAX_TRIES)]
_SEALING_DOMAIN: Final = b"twisted_mesh/1/sealed"  # the context of a seal begins with it
MAX_RECEIPT: Final = 256  # bytes of a receipt's array, unknown fields included (90 to 110 are sent)


class Receipt(Span, array_like=True, frozen=True):
    """Says that a run of ``member`` has taken the messages ``low..high`` of a run of ``origin``.

    If ``low = high + 1``, the member has taken no message, and will take none below ``low``.
    """

    kind: ClassVar = Kind.RECEIPT
    member: Origin
    member_epoch: Number

    @property
    def signer(self) -> bytes:
        return self.member


class SignedReceipt(msgspec.Struct, array_like=True, frozen=True):
    """A receipt as it travels: its signature, and its array as it came.

    :ivar hops: how many relays have passed it on.
    :ivar tries: how often the member has sent this receipt before.
    """

    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    array: Annotated[bytes, msgspec.Meta(max_length=MAX_RECEIPT)]
    hops: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    tries: Tries = 0

    def relayed(self) -> SignedReceipt:
        return SignedReceipt(self.signature, self.array, min(self.hops + 1, 255), self.tries)


class Receipts(FrameBase, array_like=True, frozen=True):
    """Receipts for one author or for several."""

    kind: ClassVar = Kind.RECEIPT
    entries: list[SignedReceipt]


class SealedMessage(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One of the messages in a sealed text.

    :ivar body: as in BATCH.
    :ivar number: counts the direct messages of the run of ``origin``, to whichever node they are.
    :ivar answers: the message that this one answers.
    """

    body: bytes
    number: Sequence
    answers: MessageId | None


class SealedText(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The text of a DIRECT, sealed with a key of its destination: as many messages as the DIRECT counts."""

    messages: Annotated[list[SealedMessage], msgspec.Meta(min_length=1, max_length=MAX_DIRECTS)]

    def pack(self) -> bytes:
        """The bytes to seal."""
        return _encode(self)

    @classmethod
    def unpack(cls, text: bytes) -> SealedText:
        """The text that :meth:`pack` made *text* of; fields of later versions are ignored.

        :raises PoisonedBody: *text* is no such text, or has several messages of too many bytes.
        """
        try:
            sealed = _decode_text(text)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise PoisonedBody(f"a sealed text that holds no messages: {error}") from None
        is_large = len(text) > MAX_TOGETHER and len(sealed.messages) > 1
        if is_large and sum(len(one.body) for one in sealed.messages) > MAX_TOGETHER:
            raise PoisonedBody(f"a sealed text of several messages of over {MAX_TOGETHER} bytes")
        return sealed


_encode = msgspec.msgpack.Encoder().encode
_decode_text = msgspec.msgpack.Decoder(SealedText).decode


class Direct(msgspec.Struct, array_like=True, frozen=True):
    """Direct messages with consecutive numbers, for one run of one node.

    The numbers count the direct messages from this run of ``origin`` to that run of ``destination``.

    :ivar first: the number of the first message; :ivar count: how many messages there are.
    :ivar oldest: the lowest number that ``origin`` still repeats; it has given up all lower numbers.
    :ivar tries: how often ``origin`` has sent these messages before.
    :ivar acknowledged: says what a DIRECT_ACK with this number says, of the messages from that run of
        ``destination`` to this run; 0 for nothing.
    :ivar sealed: a :class:`SealedText`, sealed with the destination's key; empty if ``origin`` knows no
        key of that run, and asks for one.
    """

    kind: ClassVar = Kind.DIRECT
    origin: Origin
    epoch: Number
    destination: Origin
    destination_epoch: Number
    first: Sequence
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_DIRECTS)]
    oldest: Sequence
    tries: Tries
    acknowledged: Number
    sealed: bytes

    def __post_init__(self) -> None:
        if self.last > MAX_NUMBER:  # it could not be acknowledged
            raise ValueError("first + count is beyond the last number")

    @property
    def signer(self) -> bytes:
        return self.origin

    @property
    def last(self) -> int:
        """The number of the last message."""
        return self.first + self.count - 1


class DirectAck(msgspec.Struct, array_like=True, frozen=True):
    """Says that the application of ``destination`` got the messages up to ``number``, the last of a DIRECT.

    :ivar tries: that of the DIRECT.
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
        return self.destination


class DirectKey(msgspec.Struct, array_like=True, frozen=True):
    """Says that ``destination`` lacks the key with which a DIRECT was sealed, and did not take the message.

    :ivar record: the newest PRESENCE of ``destination`` as a payload, which names its key.
    """

    kind: ClassVar = Kind.DIRECT_KEY
    destination: Origin
    destination_epoch: Number
    origin: Origin
    epoch: Number
    number: Sequence
    tries: Tries
    record: Annotated[bytes, msgspec.Meta(max_length=MAX_PRESENCE)]

    @property
    def signer(self) -> bytes:
        return self.destination


def sealing_context(
    origin: bytes, epoch: int, destination: bytes, destination_epoch: int, first: int, count: int
) -> bytes:
    """The bytes to which the seal of a DIRECT is bound: it opens as these messages and as no others."""
    runs = (origin, epoch.to_bytes(8, "big"), destination, destination_epoch.to_bytes(8, "big"))
    return b"".join((_SEALING_DOMAIN, *runs, first.to_bytes(8, "big"), count.to_bytes(8, "big")))


ReplyFrame = Receipts  #: those that are not signed: their entries are
