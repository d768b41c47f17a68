"""The codec: turns bytes into frames and back, and makes the text that authors sign.

Contract: a payload is ``u8 kind | u8 hops | [64-byte signature, signed kinds] | msgpack array``.  A BATCH
has one byte more in front of the array, the array's length, and the body behind the array.
:func:`decode` and :func:`encode` are inverse for every :data:`Frame` that can be sent.  If a kind is
unknown, the frame becomes :class:`Unknown`; fields behind the known ones are ignored; any other fault
raises :class:`~twisted_mesh.errors.RemoteError`.  A signed frame keeps the array as it came, since its
author signed these very bytes; a relay changes ``hops`` alone.

A new kind of frame is a class in the module of its subject, in that module's union of frames, with a number
in :class:`~twisted_mesh.wire.fields.Kind`.  The tables here are made from the unions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, get_args

import msgspec

from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire.authority import Grant, GrantContent, Policy, PolicyContent
from twisted_mesh.wire.broadcast import Batch, BroadcastFrame, SignedBatch, SignedHeader, hash_of
from twisted_mesh.wire.fields import Kind
from twisted_mesh.wire.framing import LENGTH_BYTES
from twisted_mesh.wire.link import LinkFrame, Unknown, Whisper
from twisted_mesh.wire.membership import MAX_RECORD, MembershipFrame, Presence
from twisted_mesh.wire.replies import Direct, DirectKey, Receipt, ReplyFrame
from twisted_mesh.wire.signed import Record, SignedRecord

VERSION: Final = 1  # of the protocol behind the greeting
DOMAIN: Final = b"twisted_mesh/1"  # the text that is signed begins with it
MAX_BATCH_ARRAY: Final = 255  # bytes of a BATCH's array, unknown fields included
MAX_LATER: Final = 256  # bytes of unknown fields in a signed record's array
_HEADER: Final = 2  # bytes: kind and hops
_SIGNATURE: Final = 64  # bytes
BATCH_ARRAY: Final = _HEADER + _SIGNATURE + 1  # where the array of a BATCH begins in its payload
#: From this size on a batch keeps its frame, and its body is a view of that, which takes 200 bytes (guess).
_VIEWED: Final = 16 * 1024
#: Names in the ``vars()`` of a batch: of its frame, if it is kept, or of the payload that it came in or was
#: made of, if that is small.  So neither is made again.
_WHOLE: Final = "whole"
_PAYLOAD: Final = "payload"
_BATCH_DOMAIN: Final = DOMAIN + bytes((Kind.BATCH,))

Plain = LinkFrame | BroadcastFrame | MembershipFrame | ReplyFrame | Grant | Policy
Signed = SignedBatch | SignedRecord
Frame = Plain | Signed | Whisper | Unknown

_DECODERS: Final = {cls.kind: msgspec.msgpack.Decoder(cls).decode for cls in get_args(Plain)}
_RECORD_DECODERS: Final = {cls.kind: msgspec.msgpack.Decoder(cls).decode for cls in get_args(Record)}
_decode_receipt = msgspec.msgpack.Decoder(Receipt).decode
_decode_batch = msgspec.msgpack.Decoder(Batch).decode
_encode = msgspec.msgpack.Encoder().encode


def decode(payload: bytes) -> Frame:
    """The frame in *payload*.

    :raises RemoteError: the array is not what its kind says.
    """
    if len(payload) < _HEADER:
        raise RemoteError("a frame without a kind", Reason.SHAPE)
    kind = payload[0]
    try:
        if kind == Kind.BATCH:
            return unpack_batch(payload)
        if kind == Kind.WHISPER:
            return Whisper(payload[_HEADER:])
        if kind in _RECORD_DECODERS:
            return _signed_record(payload)
        decoder = _DECODERS.get(kind)
        return Unknown(kind) if decoder is None else decoder(payload[_HEADER:])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteError(f"{Kind(kind).name}: {error}", Reason.SHAPE) from None


def unpack_batch(payload: bytes) -> SignedBatch:
    """The BATCH that :func:`pack_batch` made *payload* of; of other payloads see :func:`decode`."""
    if len(payload) < BATCH_ARRAY:
        raise ValueError("it ends before its array")
    # The array is short: how deep unknown fields can be unpacked depends on the call stack, but all nodes
    # must agree on a batch.  If a node relays a batch that the next one refuses, their link is closed.
    behind = BATCH_ARRAY + payload[BATCH_ARRAY - 1]
    array = payload[BATCH_ARRAY:behind]
    signature = payload[_HEADER : BATCH_ARRAY - 1]
    if len(payload) >= _VIEWED:
        body = memoryview(payload)[behind:]
        return SignedBatch(_decode_batch(array), signature, array, body, payload[1])
    signed = SignedBatch(_decode_batch(array), signature, array, payload[behind:], payload[1])
    vars(signed)[_PAYLOAD] = payload
    return signed


def _signed_record(payload: bytes) -> SignedRecord:
    array = payload[_HEADER + _SIGNATURE :]
    record = _RECORD_DECODERS[payload[0]](array)
    credential = len(record.credential) if isinstance(record, Presence) else 0
    if len(array) - credential > MAX_RECORD and not isinstance(record, Direct | DirectKey):
        raise ValueError(f"more than {MAX_RECORD} bytes")
    if len(array) - len(_encode(record)) > MAX_LATER:  # as in unpack_batch, all nodes must agree
        raise ValueError(f"more than {MAX_LATER} bytes that this version does not know")
    return SignedRecord(record, payload[_HEADER : _HEADER + _SIGNATURE], array, payload[1])


def receipt(array: bytes) -> Receipt:
    """The receipt whose array is *array*.

    :raises RemoteError: *array* is no receipt's.
    """
    try:
        return _decode_receipt(array)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteError(f"RECEIPT: {error}", Reason.SHAPE) from None


def encode(frame: Signed | Whisper | Plain) -> bytes:
    """The bytes of *frame*, with the length in front."""
    if isinstance(frame, SignedBatch):
        whole: bytes | None = vars(frame).get(_WHOLE)
        return _encode_batch(frame) if whole is None else whole
    if isinstance(frame, SignedRecord):
        header = bytes((frame.record.kind, frame.hops))
        return _join(header, frame.signature, frame.array)
    if isinstance(frame, Whisper):
        return _join(bytes((frame.kind, 0)), b"", frame.body)
    return _join(bytes((frame.kind, 0)), b"", _encode(frame))


def _encode_batch(frame: SignedBatch) -> bytes:
    payload: bytes | None = vars(frame).get(_PAYLOAD)
    return _join(*_parts(frame)) if payload is None else _join(payload)


def pack_batch(frame: SignedBatch) -> bytes:
    """The payload of *frame*."""
    payload: bytes | None = vars(frame).get(_PAYLOAD)
    return b"".join(_parts(frame)) if payload is None else payload


def _parts(frame: SignedBatch) -> tuple[bytes | memoryview, ...]:
    header, length = bytes((frame.kind, frame.hops)), bytes((len(frame.array),))
    return header, frame.signature, length, frame.array, frame.body


def payload(record: SignedRecord) -> bytes:
    """The bytes of *record* without the length in front, as a ROSTER holds them."""
    return encode(record)[LENGTH_BYTES:]


def _join(*parts: bytes | memoryview) -> bytes:
    return b"".join((sum(map(len, parts)).to_bytes(LENGTH_BYTES, "big"), *parts))


def pack_header(header: SignedHeader) -> bytes:
    """The bytes by which other frames hold a header: signature, digest of the body, array."""
    return header.signature + header.body_digest + header.array


def unpack_header(packed: bytes) -> SignedHeader:
    """The header that :func:`pack_header` made *packed* of.

    :raises RemoteError: *packed* is no header.
    """
    digest, array = packed[_SIGNATURE : _SIGNATURE + 32], packed[_SIGNATURE + 32 :]
    try:
        return SignedHeader.of(_decode_batch(array), packed[:_SIGNATURE], array, digest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteError(f"the header of a BATCH: {error}", Reason.SHAPE) from None


def pack(signed: Batch | Record | Receipt | GrantContent) -> bytes:
    """The array of a value that is to be signed."""
    return _encode(signed)


def pack_policy(content: PolicyContent) -> bytes:
    """The array of a policy; if it has no quotas, the array ends before them."""
    fields = msgspec.structs.astuple(content)
    return _encode(fields if content.quotas else fields[:-1])


def network_digest(protocol_id: bytes) -> bytes:
    """SHA-256 of the network's protocol id, which binds signatures to that network."""
    return hashlib.sha256(protocol_id).digest()


def signed_text(network: bytes, array: bytes, kind: Kind) -> bytes:
    """The 79 bytes that the author of a record or receipt of *kind* signs.

    The text holds the SHA-256 of *array* in its place, since Ed25519 hashes a text with SHA-512, and twice
    to sign it.  With 256 KiB in the text, signing takes 7 times as long, and verifying 4 times (measured).

    :param network: the :func:`network_digest` of the author's network.
    """
    return b"".join((DOMAIN, bytes((kind,)), network, hashlib.sha256(array).digest()))


def batch_text(network: bytes, hash: bytes) -> bytes:
    """The 79 bytes that the author of a BATCH signs: the header can be verified without the body.

    :param hash: of the header.
    """
    return b"".join((_BATCH_DOMAIN, network, hash))


def sign_batch(batch: Batch, body: bytes, network: bytes, sign: Callable[[bytes], bytes]) -> SignedBatch:
    """The BATCH with the header *batch* and with *body*.

    :param sign: makes the 64 bytes of a signature with the author's key.
    """
    array = pack(batch)
    digest = hashlib.sha256(body).digest()
    hash = hash_of(array, digest)
    signature = sign(batch_text(network, hash))
    signed = SignedBatch(batch, signature, array, body)
    if len(body) >= _VIEWED:
        whole = _encode_batch(signed)
        signed = SignedBatch(batch, signature, array, memoryview(whole)[-len(body) :])
        vars(signed)[_WHOLE] = whole
    else:
        vars(signed)[_PAYLOAD] = pack_batch(signed)
    # The cached property, so that the body is not hashed again.
    vars(signed)["header"] = SignedHeader(batch, signature, array, digest, hash)
    return signed


def size(frame: Signed | Whisper | Plain) -> int:
    """Bytes of *frame* as encoded, length included."""
    if isinstance(frame, SignedBatch):
        return LENGTH_BYTES + BATCH_ARRAY + frame.size
    if isinstance(frame, SignedRecord):
        return LENGTH_BYTES + _HEADER + _SIGNATURE + len(frame.array)
    return len(encode(frame))
