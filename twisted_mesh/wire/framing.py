"""Cuts a stream of bytes into frames: ``u32 big-endian length | payload``.

Contract: a :class:`FrameReader` takes the chunks of a connection, however the bytes are cut, and yields
whole payloads.  If a length is zero or beyond the limit, it raises
:class:`~twisted_mesh.errors.RemoteError` before it keeps a byte of that frame.  The limits are constants,
since both ends must agree on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from twisted_mesh.errors import Reason, RemoteError

LENGTH_BYTES: Final = 4
MAX_MESSAGE_BYTES: Final = 2**20  # of one packed message (fixed by protocol 1)
MAX_FRAME_BYTES: Final = MAX_MESSAGE_BYTES + 1024  # of a frame: a message, and under 400 around it
GREETING_FRAME_BYTES: Final = 8 * 1024  # of the first frame, from a peer still unknown (protocol 1)
HANDSHAKE_FRAME_BYTES: Final = 64 * 1024  # of a frame before the peer has proven its key (protocol 1)


class FrameReader:
    """Cuts the bytes that come over one connection into payloads.

    :ivar limit: bytes of a payload, at most; it may be changed between two frames.
    """

    __slots__ = ("_kept", "_need", "limit")

    def __init__(self, limit: int = HANDSHAKE_FRAME_BYTES) -> None:
        self.limit = limit
        self._kept = bytearray()  # a list of one-byte chunks would take 30 times the memory
        self._need = LENGTH_BYTES  # bytes that must have come before the next frame is read

    @property
    def kept(self) -> int:
        """Bytes of the unfinished frame that have come."""
        return len(self._kept)

    @property
    def need(self) -> int:
        """Size of the unfinished frame in bytes, or of its length field while that is incomplete."""
        return self._need

    def head(self, most: int) -> bytes:
        """The first *most* bytes of the unfinished frame's payload, as far as they have come."""
        return bytes(self._kept[LENGTH_BYTES : LENGTH_BYTES + most])

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that *data* completes, in order; the remaining bytes are kept for the next call.

        :raises RemoteError: a length of zero or above :attr:`limit`; the reader is then unusable, as it is
            if the iterator is not run to its end.
        """
        if self._kept:
            # A frame of 1 MiB comes in many chunks: make bytes of them only once all have come.
            self._kept += data
            if len(self._kept) < self._need:
                return
            data = bytes(self._kept)
            self._kept.clear()
        at, end = 0, len(data)
        need = LENGTH_BYTES
        while end - at >= LENGTH_BYTES:
            length = int.from_bytes(data[at : at + LENGTH_BYTES], "big")
            if not 0 < length <= self.limit:
                raise RemoteError(
                    f"a frame of {length} bytes where 1 to {self.limit} are allowed", Reason.FRAMING
                )
            need = LENGTH_BYTES + length
            if end - at < need:
                break
            payload = data[at + LENGTH_BYTES : at + need]
            at += need
            need = LENGTH_BYTES
            yield payload
        self._need = need
        self._kept += data[at:]


def frame(payload: bytes) -> bytes:
    """*payload* with its length in front."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload
