"""Reads the beginning of a BATCH that is still coming in.

Contract: :func:`begun` reads the numbers in front of the body.  They are only a claim of the peer: their
signature is not verified, and the rest of the frame may never come.
"""

from __future__ import annotations

from typing import Final

import msgspec

from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT
from twisted_mesh.wire.fields import MAX_NUMBER, Kind

#: Bytes of a BATCH up to its ``count``, at most: kind and hops, the signature, the array's length; then, of
#: the array, its own header, the origin and three numbers.
HEAD_BYTES: Final = 2 + 64 + 1 + 3 + 34 + 3 * 9
_ARRAY: Final = 2 + 64 + 1
_WIDTHS: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}  # bytes of a msgpack integer, by the byte before it


class Begun(msgspec.Struct, frozen=True):
    """A BATCH whose beginning has come: messages *first* to *last* of a run."""

    origin: bytes
    epoch: int
    first: int
    last: int


def begun(head: bytes) -> Begun | None:
    """The BATCH whose payload begins with *head*; None if *head* is of another frame, or too short.

    :param head: the first :data:`HEAD_BYTES` of the payload, or fewer if no more have come.
    """
    if not head or head[0] != Kind.BATCH:
        return None
    try:
        at = _ARRAY + (3 if head[_ARRAY] == 0xDC else 1)
        if head[at : at + 2] != b"\xc4\x20":
            return None
        origin = head[at + 2 : at + 34]
        epoch, at = _number(head, at + 34)
        first, at = _number(head, at)
        count, _ = _number(head, at)
    except (IndexError, KeyError):
        return None
    last = first + count - 1
    if not (epoch <= MAX_NUMBER and 0 < first <= last < MAX_NUMBER and count <= MAX_BATCH_COUNT):
        return None
    return Begun(origin, epoch, first, last)


def _number(head: bytes, at: int) -> tuple[int, int]:
    """The number that begins at *at*, and the position behind it."""
    byte = head[at]
    if byte < 0x80:
        return byte, at + 1
    end = at + 1 + _WIDTHS[byte]
    if end > len(head):
        raise IndexError
    return int.from_bytes(head[at + 1 : end], "big"), end
