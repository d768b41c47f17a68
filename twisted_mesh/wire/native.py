"""Native frames: their kinds, their arrays as typed values, and the signed ones' text.

Contract: a payload is ``u8 kind | u8 hops | [64-byte signature, signed kinds] | msgpack array``.
:func:`decode` and :func:`encode` are inverse for every value of :data:`Frame` that can be sent; the
order of fields in a class is the specification.  Unknown kinds come out as :class:`Unknown`, fields
behind the known ones are ignored, anything else raises :class:`~twisted_mesh.errors.RemoteError`.
A signed frame keeps the array as it came, since those very bytes are what was signed and what is
handed on; ``hops`` is the only byte a relay changes.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.identity import MAX_EPOCH
from twisted_mesh.wire.framing import LENGTH_BYTES

VERSION: Final = 1  # of everything behind the greeting
DOMAIN: Final = b"twisted_mesh/1"  # in front of everything that is signed
MAX_NUMBER: Final = MAX_EPOCH  # epochs, sequences and times beyond 2^62 are false claims
MAX_BATCH_COUNT: Final = 16_384  # messages in a batch: bounds what 1 MiB can unfold to (guess)
MAX_HOPS: Final = 255
MAX_AROUND_BODY: Final = 256  # bytes of a BATCH's array besides its body, unknown fields included
_HEADER: Final = 2
_SIGNATURE: Final = 64

Origin = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
Head = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER - 1)]  # so that the next one is a number, too
Sequence = Annotated[int, msgspec.Meta(ge=1, le=MAX_NUMBER)]


class Kind(IntEnum):
    """The kinds of frame this version speaks; numbers between are kept for others."""

    INTRO = 1
    PROOF = 2
    SNAPSHOT = 3
    BATCH = 5
    HAVE = 6
    WANT = 7
    PRUNE = 8
    WHISPER = 14
    DIGEST = 15
    PING = 19
    PONG = 20
    BYE = 21


class Intro(msgspec.Struct, array_like=True, frozen=True):
    """Who a node is and what it wants of the link; the last frame before PROOF.

    ``role`` and ``purpose`` have one value each so far: 0, a member that wants a neighbour.
    ``replay`` is for a node that is not settled: the seconds of the past it wants delivered, 0 for
    none, :data:`MAX_NUMBER` for all that is held.
    """

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

    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    mac: Annotated[bytes, msgspec.Meta(max_length=32)]


class SnapshotEntry(msgspec.Struct, array_like=True, frozen=True):
    """One stream of the sender's: it holds ``low..high``; a joiner starts behind ``base``."""

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

    last: bool
    streams: list[SnapshotEntry]


class HaveEntry(msgspec.Struct, array_like=True, frozen=True):
    """One stream: ``low..high`` is held without a hole and high is the head; low = high + 1: nothing."""

    origin: Origin
    epoch: Number
    low: Sequence
    high: Head

    def __post_init__(self) -> None:
        if self.low > self.high + 1:
            raise ValueError("a stream's low is beyond its high")


class Have(msgspec.Struct, array_like=True, frozen=True):
    """What the sender holds; ``answer`` marks the end of an answer to a WANT."""

    streams: list[HaveEntry]
    answer: bool


class Want(msgspec.Struct, array_like=True, frozen=True):
    """Asks for what is held of messages ``first..last``; ``graft``: and push this origin again."""

    origin: Origin
    epoch: Number
    first: Sequence
    last: Number
    graft: bool


class Prune(msgspec.Struct, array_like=True, frozen=True):
    """Asks to announce these origins instead of pushing them."""

    origins: list[Origin]


class Bucket(msgspec.Struct, array_like=True, frozen=True):
    """The hash of the heads of all open streams whose origin's first byte, by four, is ``number``."""

    number: Annotated[int, msgspec.Meta(ge=0, le=63)]
    digest: Origin


class Digest(msgspec.Struct, array_like=True, frozen=True):
    """All buckets that hold a stream."""

    buckets: Annotated[list[Bucket], msgspec.Meta(max_length=64)]


class Batch(msgspec.Struct, array_like=True, frozen=True):
    """``count`` consecutive messages of one run, from ``first``.

    ``sent`` is the author's clock in milliseconds since 1970, ``encoding`` how the body is packed:
    0, as :mod:`~twisted_mesh.wire.packets` does.
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

    batch: Batch
    signature: bytes
    array: bytes
    hops: int = 0

    def relayed(self) -> SignedBatch:
        """The same, one hop further."""
        hops = min(self.hops + 1, MAX_HOPS)
        return SignedBatch(self.batch, self.signature, self.array, hops)


class Whisper(msgspec.Struct, frozen=True):
    """Messages for this peer alone: a body as in BATCH; the proven link is its signature."""

    body: bytes


class Ping(msgspec.Struct, array_like=True, frozen=True):
    """Asks for a PONG with the same token."""

    token: Number


class Pong(msgspec.Struct, array_like=True, frozen=True):
    """Answers a PING."""

    token: Number


class Bye(msgspec.Struct, array_like=True, frozen=True):
    """The last frame on a link: a word of :class:`~twisted_mesh.errors.Reason` and a sentence."""

    reason: Annotated[str, msgspec.Meta(max_length=32)]
    detail: Annotated[str, msgspec.Meta(max_length=512)]


class Unknown(msgspec.Struct, frozen=True):
    """A frame of a kind this version does not know; it is counted and ignored."""

    kind: int


Plain = Intro | Proof | Snapshot | Have | Want | Prune | Digest | Ping | Pong | Bye
Frame = Plain | SignedBatch | Whisper | Unknown

_PLAIN: Final[dict[int, type[Plain]]] = {
    Kind.INTRO: Intro,
    Kind.PROOF: Proof,
    Kind.SNAPSHOT: Snapshot,
    Kind.HAVE: Have,
    Kind.WANT: Want,
    Kind.PRUNE: Prune,
    Kind.DIGEST: Digest,
    Kind.PING: Ping,
    Kind.PONG: Pong,
    Kind.BYE: Bye,
}
_KINDS: Final = {cls: int(kind) for kind, cls in _PLAIN.items()}
_DECODERS: Final = {kind: msgspec.msgpack.Decoder(cls).decode for kind, cls in _PLAIN.items()}
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
        decoder = _DECODERS.get(kind)
        return Unknown(kind) if decoder is None else decoder(payload[_HEADER:])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteError(f"{Kind(kind).name}: {error}", Reason.SHAPE) from None


def _signed_batch(payload: bytes) -> SignedBatch:
    array = payload[_HEADER + _SIGNATURE :]
    batch = _decode_batch(array)
    # Fields nested deep enough would pass or not by how deep the stack is: the verdict on a batch
    # has to be the same everywhere, or an honest link is closed over what another node let pass.
    if len(array) - len(batch.body) > MAX_AROUND_BODY:
        raise ValueError(f"more than {MAX_AROUND_BODY} bytes around the body")
    return SignedBatch(batch, payload[_HEADER : _HEADER + _SIGNATURE], array, payload[1])


def encode(frame: SignedBatch | Whisper | Plain) -> bytes:
    """The bytes of *frame*, length included."""
    if isinstance(frame, SignedBatch):
        return _join(bytes((Kind.BATCH, frame.hops)), frame.signature, frame.array)
    if isinstance(frame, Whisper):
        return _join(bytes((Kind.WHISPER, 0)), b"", frame.body)
    return _join(bytes((_KINDS[type(frame)], 0)), b"", _encode(frame))


def _join(header: bytes, signature: bytes, array: bytes) -> bytes:
    length = _HEADER + len(signature) + len(array)
    return b"".join((length.to_bytes(LENGTH_BYTES, "big"), header, signature, array))


def pack(batch: Batch) -> bytes:
    """The array of *batch*: what its author signs."""
    return _encode(batch)


def network_digest(protocol_id: bytes) -> bytes:
    """What binds a signature to one network: SHA-256 of its protocol id."""
    return hashlib.sha256(protocol_id).digest()


def signed_text(network: bytes, array: bytes) -> bytes:
    """What the author of a BATCH signs.

    :param network: :func:`network_digest` of the network it is for.
    :param array: :func:`pack` of the batch.
    """
    return b"".join((DOMAIN, bytes((Kind.BATCH,)), network, array))


def size(frame: SignedBatch | Whisper | Plain) -> int:
    """Bytes of *frame* as encoded, length included."""
    if isinstance(frame, SignedBatch):
        return LENGTH_BYTES + _HEADER + _SIGNATURE + len(frame.array)
    return len(encode(frame))
