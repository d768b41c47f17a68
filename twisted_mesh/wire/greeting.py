"""The greeting, the first frame of each side: a handshake of py2p 0.7, which native nodes mark.

Contract: :func:`encode` and :func:`decode` convert between a :class:`Greeting` and the payload of a frame.
The payload is ``32 bytes SHA-256 of S | S``.  S is the msgpack array
``[2, id, time, 5, id, protocol id, [host, port], [compressions]]``, and zeros that fill the whole frame to
a multiple of 8: py2p parses frames of other sizes wrongly, and ignores bytes behind the array.  A *native*
node, one that speaks this protocol, adds :data:`NATIVE` to the compressions; py2p ignores it.

So one port could serve peers of both protocols.  The core's handshake alone reads :attr:`Greeting.native`,
which tells the protocol of the frames behind the greeting.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire.framing import LENGTH_BYTES, frame

NATIVE: Final = 0x6D657368  # "mesh" in ASCII
_DIGEST: Final = 32  # bytes
_WHISPER: Final = 2  # the main flag of a py2p handshake
_HANDSHAKE: Final = 5  # the sub flag of a py2p handshake
_ALIGNMENT: Final = 8  # bytes
MAX_ID: Final = 128  # characters; true ids have at most 66
MAX_BYTES: Final = 4096  # of a greeting: py2p's have some 240, and long ones could take long to unpack

Address = tuple[str, int]


class Greeting(msgspec.Struct, frozen=True):
    """The facts that a node tells of itself before it proves any.

    :ivar id: the node's id, base58.
    :ivar protocol_id: the id of the node's network.
    :ivar address: where others can dial the node; None if it gave no usable address.
    :ivar native: whether the node speaks this protocol behind the greeting.
    :ivar time: the node's clock in whole seconds since 1970; py2p shows the time, and this node ignores it.
    """

    id: bytes
    protocol_id: bytes
    address: Address | None
    native: bool
    time: int


def encode(greeting: Greeting) -> bytes:
    """The whole frame of *greeting*, length and padding included."""
    node_id, protocol_id = greeting.id.decode("ascii"), greeting.protocol_id
    compressions = [NATIVE] if greeting.native else []
    fields = (_WHISPER, node_id, greeting.time, _HANDSHAKE, node_id, protocol_id, greeting.address)
    array = msgspec.msgpack.encode((*fields, compressions))
    array += bytes(-(LENGTH_BYTES + _DIGEST + len(array)) % _ALIGNMENT)
    return frame(hashlib.sha256(array).digest() + array)


def decode(payload: bytes) -> Greeting:
    """The greeting in *payload*.

    :raises RemoteError: *payload* is no handshake of py2p 0.7.
    """
    digest, array = payload[:_DIGEST], payload[_DIGEST:]
    if len(payload) > MAX_BYTES or hashlib.sha256(array).digest() != digest:
        raise RemoteError("the first frame is no greeting of a mesh", Reason.GREETING)
    match _first_array(array):
        case [2, _, int(time), 5, str() | bytes() as node_id, pid, address, list() as compressions]:
            usable = node_id.isalnum() and node_id.isascii() and len(node_id) <= MAX_ID
            if not (usable and isinstance(pid, (str, bytes))):
                raise RemoteError("a greeting with an unusable id", Reason.GREETING)
            native = NATIVE in compressions
            return Greeting(_as_bytes(node_id), _as_bytes(pid), _address(address), native, time)
        case _:
            raise RemoteError("a greeting of another shape", Reason.GREETING)


def _first_array(array: bytes) -> object:
    """The msgpack array at the start of *array*, which may end in up to 7 bytes of padding."""
    # msgspec refuses bytes behind an array, so only the right number of bytes of padding can be unpacked.
    for padding in range(_ALIGNMENT):
        try:
            decoded: Any = msgspec.msgpack.decode(array[: len(array) - padding])
        except (msgspec.MsgspecError, ValueError, RecursionError, TypeError):
            continue
        return decoded
    return None


def _as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _address(value: object) -> Address | None:
    match value:
        case [str(host), int(port), *_] if (
            0 < len(host) <= 255 and host.isprintable() and type(port) is int and 0 < port <= 65535
        ):
            return host, port
        case _:
            return None
