"""Native frames: their kinds, their arrays as typed values, and the text that is signed.

Contract: a payload is ``u8 kind | u8 hops | [64-byte signature, signed kinds] | msgpack array``.
:func:`decode` and :func:`encode` are inverse for every value of :data:`Frame` that can be sent; the order
of fields in a class is the specification.  Unknown kinds become :class:`Unknown`, fields behind the known
ones are ignored, anything else raises :class:`~twisted_mesh.errors.RemoteError`.  A signed frame keeps the
array as it came, since those very bytes were signed and are passed on; a relay changes no byte but
``hops``.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Final, get_args

import msgspec

from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire.fields import MAX_NUMBER, Head, Kind, Number, Origin, Sequence
from twisted_mesh.wire.framing import LENGTH_BYTES
from twisted_mesh.wire.membership import MAX_RECORD, ForwardJoin, Roster, Shuffle, ShuffleReply
from twisted_mesh.wire.replies import Direct, Receipt, Receipts
from twisted_mesh.wire.signed import MAX_HOPS, Record, SignedRecord

VERSION: Final = 1  # of everything behind the greeting
DOMAIN: Final = b"twisted_mesh/1"  # in front of everything that is signed
MAX_BATCH_COUNT: Final = 16_384  # messages in a batch: bounds the objects that 1 MiB unpacks to (guess)
MAX_AROUND_BODY: Final = 256  # bytes of a BATCH's array besides its body, unknown fields included
MAX_LATER: Final = 256  # bytes of a signed record's array beyond its known fields as packed here
_HEADER: Final = 2
_SIGNATURE: Final = 64


class Intro(msgspec.Struct, array_like=True, frozen=True):
    """Who a node is and what it wants of the link; the last frame before PROOF.

    ``role`` is a :class:`~twisted_mesh.wire.membership.Role`; ``purpose`` is the
    :class:`~twisted_mesh.wire.membership.Purpose` of the node that dialled; unknown numbers count as 0.
    ``replay`` is for a node that is not settled: it wants the messages of that many past seconds delivered;
    0 for none, :data:`MAX_NUMBER` for all that are held.
    """

    kind: ClassVar = Kind.INTRO
    version: Number
    epoch: Number
    role: Number
    settled: bool
    public_key: Origin
    nonce: Origin
    purpose: Number
    replay: Number


class Proof(msgspec.Struct, array_like=True, frozen=True):
    """The signature of INTRO's key over the handshake; ``mac`` is empty without a shared secret."""

    kind: ClassVar = Kind.PROOF
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    mac: Annotated[bytes, msgspec.Meta(max_length=32)]


class SnapshotEntry(msgspec.Struct, array_like=True, frozen=True):
    """One stream of the sender, who holds ``low..high`` of it; a joiner starts behind ``base``."""

    origin: Origin
    epoch: Number
    low: Sequence
    high: Head
    base: Head

    def __post_init__(self) -> None:
        if self.low > self.high + 1 or self.base > self.high:
            raise ValueError("a stream's low or base is beyond its high")


class Snapshot(msgspec.Struct, array_like=True, frozen=True):
    """The sender's frontier at the moment the link came up, in one or more frames."""

    kind: ClassVar = Kind.SNAPSHOT
    last: bool
    streams: list[SnapshotEntry]


class HaveEntry(msgspec.Struct, array_like=True, frozen=True):
    """One stream, of which ``low..high`` is held without a hole, ``high`` being the head.

    If ``low = high + 1``, nothing is held.  If ``coming`` is not 0, messages above ``high`` are on their
    way to a node that many hops away; 1 means the sender.
    """

    origin: Origin
    epoch: Number
    low: Sequence
    high: Head
    coming: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0

    def __post_init__(self) -> None:
        if self.low > self.high + 1:
            raise ValueError("a stream's low is beyond its high")


class Have(msgspec.Struct, array_like=True, frozen=True):
    """The streams the sender holds; ``answer`` marks the end of an answer to a WANT."""

    kind: ClassVar = Kind.HAVE
    streams: list[HaveEntry]
    answer: bool


class Want(msgspec.Struct, array_like=True, frozen=True):
    """Asks for the held ones of messages ``first..last``, and with ``graft`` to push this origin again.

    Without ``graft`` it replaces an earlier WANT for the same stream that is not answered yet: less is
    missing by now, or nothing if ``first`` is ``last`` + 1.
    """

    kind: ClassVar = Kind.WANT
    origin: Origin
    epoch: Number
    first: Sequence
    last: Number
    graft: bool


class Prune(msgspec.Struct, array_like=True, frozen=True):
    """Asks to announce these origins instead of pushing them."""

    kind: ClassVar = Kind.PRUNE
    origins: list[Origin]


class Bucket(msgspec.Struct, array_like=True, frozen=True):
    """The hash of the heads of all open streams whose origin's first byte, divided by 4, is ``number``."""

    number: Annotated[int, msgspec.Meta(ge=0, le=63)]
    digest: Origin


class Digest(msgspec.Struct, array_like=True, frozen=True):
    """All buckets that hold a stream."""

    kind: ClassVar = Kind.DIGEST
    buckets: Annotated[list[Bucket], msgspec.Meta(max_length=64)]


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """``count`` consecutive messages of one run, from ``first``.

    ``sent`` is the author's clock in milliseconds since 1970.  ``encoding`` says how the body is packed: 0
    is as :mod:`~twisted_mesh.wire.bodies` does.
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


class SignedBatch(msgspec.Struct, frozen=True):
    """A BATCH as it travels: the value, and the very bytes its author signed."""

    kind: ClassVar = Kind.BATCH
    batch: Batch
    signature: bytes
    array: bytes
    hops: int = 0

    def relayed(self) -> SignedBatch:
        """The same, one hop further."""
        hops = min(self.hops + 1, MAX_HOPS)
        return SignedBatch(self.batch, self.signature, self.array, hops)


class Whisper(msgspec.Struct, frozen=True):
    """Messages for this peer alone, a body as in BATCH; unsigned, since the link is the author's own."""

    kind: ClassVar = Kind.WHISPER
    body: bytes


class Ping(msgspec.Struct, array_like=True, frozen=True):
    """Asks for a PONG with the same token."""

    kind: ClassVar = Kind.PING
    token: Number


class Pong(msgspec.Struct, array_like=True, frozen=True):
    """Answers a PING."""

    kind: ClassVar = Kind.PONG
    token: Number


class Bye(msgspec.Struct, array_like=True, frozen=True):
    """The last frame on a link: a value of :class:`~twisted_mesh.errors.Reason`, and a sentence."""

    kind: ClassVar = Kind.BYE
    reason: Annotated[str, msgspec.Meta(max_length=32)]
    detail: Annotated[str, msgspec.Meta(max_length=512)]


class Unknown(msgspec.Struct, frozen=True):
    """A frame of a kind this version does not know; it is counted and ignored."""

    kind: int


Plain = (
    Intro
    | Proof
    | Snapshot
    | Roster
    | Have
    | Want
    | Prune
    | Digest
    | ForwardJoin
    | Shuffle
    | ShuffleReply
    | Receipts
    | Ping
    | Pong
    | Bye
)
Signed = SignedBatch | SignedRecord
Frame = Plain | Signed | Whisper | Unknown

_DECODERS: Final = {cls.kind: msgspec.msgpack.Decoder(cls).decode for cls in get_args(Plain)}
_RECORD_DECODERS: Final = {cls.kind: msgspec.msgpack.Decoder(cls).decode for cls in get_args(Record)}
_decode_receipt = msgspec.msgpack.Decoder(Receipt).decode
_decode_batch = msgspec.msgpack.Decoder(Batch).decode
_encode = msgspec.msgpack.Encoder().encode


def decode(payload: bytes) -> Frame:
    """The frame in *payload* (without its length).

    :raises RemoteError: the array is not what its kind says.
    """
    if len(payload) < _HEADER:
        raise RemoteError("a frame without a kind", Reason.SHAPE)
    kind = payload[0]
    try:
        if kind == Kind.BATCH:
            return _signed_batch(payload)
        if kind == Kind.WHISPER:
            return Whisper(payload[_HEADER:])
        if kind in _RECORD_DECODERS:
            return _signed_record(payload)
        decoder = _DECODERS.get(kind)
        return Unknown(kind) if decoder is None else decoder(payload[_HEADER:])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteError(f"{Kind(kind).name}: {error}", Reason.SHAPE) from None


def _signed_batch(payload: bytes) -> SignedBatch:
    array = payload[_HEADER + _SIGNATURE :]
    batch = _decode_batch(array)
    # Whether deeply nested fields can be read depends on how deep the stack is.  The verdict on a batch has
    # to be the same everywhere, or an honest link is closed over a batch that another node let pass.
    if len(array) - len(batch.body) > MAX_AROUND_BODY:
        raise ValueError(f"more than {MAX_AROUND_BODY} bytes around the body")
    return SignedBatch(batch, payload[_HEADER : _HEADER + _SIGNATURE], array, payload[1])


def _signed_record(payload: bytes) -> SignedRecord:
    array = payload[_HEADER + _SIGNATURE :]
    record = _RECORD_DECODERS[payload[0]](array)
    if len(array) > MAX_RECORD and not isinstance(record, Direct):
        raise ValueError(f"more than {MAX_RECORD} bytes")
    if len(array) - len(_encode(record)) > MAX_LATER:  # for the same reason
        raise ValueError(f"more than {MAX_LATER} bytes that this version does not know")
    return SignedRecord(record, payload[_HEADER : _HEADER + _SIGNATURE], array, payload[1])


def receipt(array: bytes) -> Receipt:
    """The receipt whose array is *array*.

    :raises RemoteError: it is none.
    """
    try:
        return _decode_receipt(array)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteError(f"RECEIPT: {error}", Reason.SHAPE) from None


def encode(frame: Signed | Whisper | Plain) -> bytes:
    """The bytes of *frame*, length included."""
    if isinstance(frame, SignedBatch):
        return _join(bytes((frame.kind, frame.hops)), frame.signature, frame.array)
    if isinstance(frame, SignedRecord):
        header = bytes((frame.record.kind, frame.hops))
        return _join(header, frame.signature, frame.array)
    if isinstance(frame, Whisper):
        return _join(bytes((frame.kind, 0)), b"", frame.body)
    return _join(bytes((frame.kind, 0)), b"", _encode(frame))


def payload(record: SignedRecord) -> bytes:
    """The bytes of *record* without their length, as they stand in a ROSTER."""
    return encode(record)[LENGTH_BYTES:]


def _join(header: bytes, signature: bytes, array: bytes) -> bytes:
    length = _HEADER + len(signature) + len(array)
    return b"".join((length.to_bytes(LENGTH_BYTES, "big"), header, signature, array))


def pack(signed: Batch | Record | Receipt) -> bytes:
    """The array of a value that is to be signed."""
    return _encode(signed)


def network_digest(protocol_id: bytes) -> bytes:
    """SHA-256 of the network's protocol id, which binds signatures to that network."""
    return hashlib.sha256(protocol_id).digest()


def signed_text(network: bytes, array: bytes, kind: Kind = Kind.BATCH) -> bytes:
    """The bytes that are signed of a frame of that *kind*: 79, however long the frame is.

    They hold the SHA-256 of the array.  Ed25519 alone would hash the array with SHA-512, twice to sign it
    and once to verify it: for a batch of 256 KiB that takes seven and four times as long (measured).

    :param network: :func:`network_digest` of its network.
    :param array: its :func:`pack`.
    """
    return b"".join((DOMAIN, bytes((kind,)), network, hashlib.sha256(array).digest()))


def size(frame: Signed | Whisper | Plain) -> int:
    """Bytes of *frame* as encoded, length included."""
    if isinstance(frame, Signed):
        return LENGTH_BYTES + _HEADER + _SIGNATURE + len(frame.array)
    return len(encode(frame))
