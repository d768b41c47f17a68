"""Values and bytes that several tests of the wire start from, and the case that they share."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import OrderedDict, namedtuple
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.identity import Identity
from twisted_mesh.network import Protocol
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Batch, SignedBatch
from twisted_mesh.wire.fields import MAX_NUMBER, Kind
from twisted_mesh.wire.framing import LENGTH_BYTES
from twisted_mesh.wire.link import Pong, Proof
from twisted_mesh.wire.signed import SignedRecord

TESTS = Path(__file__).parent.parent
_VECTORS: dict[str, Any] = json.loads((TESTS / "vectors.json").read_text())
#: Each with a key, a text, and whether the signature is good.
SIGNATURES: list[dict[str, Any]] = _VECTORS.pop("signatures")
VECTORS: dict[str, bytes] = {name: bytes.fromhex(frame) for name, frame in _VECTORS.items()}
PY2P: dict[str, Any] = json.loads((TESTS / "py2p_vectors.json").read_text())

IDENTITY = Identity(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
NETWORK = Protocol("mesh", "SSL")
EPOCH = 1_800_000_000_000


def payload(frame: bytes) -> bytes:
    """The payload of a frame: its bytes behind the length."""
    return frame[LENGTH_BYTES:]


def greeting(array: bytes) -> bytes:
    """The payload of a greeting that holds *array*, with the right checksum."""
    return hashlib.sha256(array).digest() + array


def signed(batch: Batch, body: bytes) -> SignedBatch:
    """*batch* and *body* as its author sends them."""
    return codec.sign_batch(batch, body, codec.network_digest(NETWORK.id), IDENTITY.sign)


class Text(str):
    """A str that msgpack would unpack as a plain one."""


class Number(IntEnum):
    """An int that msgpack would unpack as a plain one."""

    ONE = 1


Point = namedtuple("Point", "x y")

#: Values that no packet may be; msgspec packs most of them without a word.
FOREIGN: list[Any] = [
    {1, 2},
    frozenset(),
    datetime(2030, 1, 1, tzinfo=UTC),
    timedelta(1),
    uuid.UUID(int=5),
    Decimal("1.5"),
    Decimal("NaN"),
    Fraction(1, 2),
    bytearray(b"x"),
    memoryview(b"x"),
    Text("x"),
    Number.ONE,
    Point(1, 2),
    OrderedDict(a=1),
    msgspec.msgpack.Ext(5, b"x"),
    msgspec.Raw(b"\x01"),
    range(3),
    1j,
    object(),
    int,
    len,
    ValueError("x"),
    ...,
    NotImplemented,
    (n for n in ()),
]

#: One frame of each kind, without its length.
FRAMES: dict[Kind, bytes] = {
    Kind[name.upper()]: payload(frame)
    for name, frame in VECTORS.items()
    if name not in ("greeting", "quotas")
} | {
    Kind.PROOF: payload(codec.encode(Proof(bytes(64), bytes(32)))),
    Kind.PONG: payload(codec.encode(Pong(MAX_NUMBER))),
}
SIGNED = (
    *(Kind.BATCH, Kind.PRESENCE, Kind.SUSPECT, Kind.FORGET),
    *(Kind.DIRECT, Kind.DIRECT_ACK, Kind.DIRECT_KEY),
)

# For each field: values that are allowed, and some that are not.
NUMBERS = ([0, 1, MAX_NUMBER], [-1, MAX_NUMBER + 1, 2**64 - 1, True, 1.0, "1", None, [1]])
SEQUENCES = ([1, MAX_NUMBER], [0, *NUMBERS[1]])
BYTES = ([0, 255], [-1, 256, True, None, 1.0])
KEYS = ([bytes(32)], [bytes(31), bytes(33), b"", "k" * 32, 32, None])
TRUTHS = ([True, False], [0, 1, None, "true"])


def pack(fields: object) -> bytes:
    """*fields*, packed as the array of a frame."""
    return msgspec.msgpack.encode(fields)


def text_of(network: bytes, frame: SignedBatch | SignedRecord, kind: Kind) -> bytes:
    """The text that is signed of *frame*."""
    if isinstance(frame, SignedBatch):
        return codec.batch_text(network, frame.header.hash)
    return codec.signed_text(network, frame.array, kind)


def start_of(kind: Kind) -> int:
    """Where the array of a frame begins: behind kind, hops, signature, and its length if that is told."""
    return 2 + 64 * (kind in SIGNED) + (kind is Kind.BATCH)


def end_of(kind: Kind) -> int:
    """Where the array of the sample of *kind* ends."""
    data = FRAMES[kind]
    start = start_of(kind)
    return start + data[start - 1] if kind is Kind.BATCH else len(data)


def fields_of(kind: Kind) -> list[Any]:
    """The fields of the sample of *kind*."""
    fields: list[Any] = msgspec.msgpack.decode(FRAMES[kind][start_of(kind) : end_of(kind)])
    return fields


def with_array(kind: Kind, array: bytes, hops: int = 0) -> bytes:
    """A frame of *kind* that holds *array*; its signature is zeros."""
    data = bytes((kind, hops)).ljust(start_of(kind), b"\0") + array
    length = bytes((min(len(array), 255),)) if kind is Kind.BATCH else b""
    return data[: start_of(kind) - len(length)] + length + array


class WireCase(SynchronousTestCase):
    """Asserts that frames are refused."""

    def assert_refused(self, data: bytes) -> None:
        """Assert that *data* is no frame."""
        self.assertIs(self.assertRaises(RemoteError, codec.decode, data).reason, Reason.SHAPE)

    def assert_bounds(self, kind: Kind, at: int, good: list[Any], bad: list[Any]) -> None:
        """Assert that field *at* of a frame of *kind* may be each of *good*, and none of *bad*."""
        fields = fields_of(kind)
        for value in good:
            fields[at] = value
            codec.decode(with_array(kind, pack(fields)))
        for value in bad:
            fields[at] = value
            self.assert_refused(with_array(kind, pack(fields)))

    def assert_bounds_within(self, kind: Kind, at: int, entry: list[Any], *bounds: Any) -> None:
        """Assert the same of each field of an *entry*, where field *at* is a list of entries."""
        for place, some in enumerate(bounds):
            lists = [[[[*entry[:place], one, *entry[place + 1 :]]] for one in values] for values in some]
            self.assert_bounds(kind, at, *lists)
