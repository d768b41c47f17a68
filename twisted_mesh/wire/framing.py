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
#: A kept chunk below this size is joined with the next: a list of one-byte chunks would take 30 times the
#: memory (guess: a copy of so little takes no time).
_CHUNK_BYTES: Final = 4096


class FrameReader:
    """Cuts the bytes that come over one connection into payloads.

    :ivar limit: bytes of a payload, at most; it may be changed between two frames.
    :ivar kept: bytes of the unfinished frame that have come.
    """

    __slots__ = ("_chunks", "_need", "kept", "limit")

    def __init__(self, limit: int = HANDSHAKE_FRAME_BYTES) -> None:
        self.limit = limit
        self._chunks: list[bytes] = []  # of the unfinished frame
        self._need = LENGTH_BYTES  # bytes that must have come before the next frame is read
        self.kept = 0

    @property
    def need(self) -> int:
        """Size of the unfinished frame in bytes, or of its length field while that is incomplete."""
        return self._need

    def head(self, most: int) -> bytes:
        """The first *most* bytes of the unfinished frame's payload, as far as they have come."""
        head = b""
        for chunk in self._chunks:
            head += chunk[: LENGTH_BYTES + most - len(head)]
        return head[LENGTH_BYTES:]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The payloads that *data* completes, in order; the remaining bytes are kept for the next call.

        :raises RemoteError: a length of zero or above :attr:`limit`; the reader is then unusable, as it is
            if the iterator is not run to its end.
        """
        at, need = 0, self._need
        if self.kept:
            if self.kept + len(data) < need:
                self._keep(data)
                return
            if need == LENGTH_BYTES:
                data = b"".join((*self._chunks, data))
                self._clear()
            else:
                yield self._whole(data)
                at, need = self._need, LENGTH_BYTES
        end = len(data)
        while end - at >= LENGTH_BYTES:
            need = LENGTH_BYTES + self._checked(int.from_bytes(data[at : at + LENGTH_BYTES], "big"))
            if end - at < need:
                break
            payload = data[at + LENGTH_BYTES : at + need]
            at += need
            need = LENGTH_BYTES
            yield payload
        self._need = need
        self._keep(data[at:])

    def _whole(self, data: bytes) -> bytes:
        """The payload of the unfinished frame.  Its last bytes are the first of *data*; `need` counts them.

        It is copied once, when all of it has come: a copy of 256 KiB takes up to 200 us (measured).
        """
        self._checked(self._need - LENGTH_BYTES)
        self._need -= self.kept
        first, *others = self._chunks
        self._clear()
        return b"".join((first[LENGTH_BYTES:], *others, memoryview(data)[: self._need]))

    def _checked(self, length: int) -> int:
        if not 0 < length <= self.limit:
            raise RemoteError(
                f"a frame of {length} bytes where 1 to {self.limit} are allowed", Reason.FRAMING
            )
        return length

    def _keep(self, data: bytes) -> None:
        chunks = self._chunks
        if chunks and len(chunks[-1]) < _CHUNK_BYTES:
            chunks[-1] += data
        elif data:
            chunks.append(data)
        self.kept += len(data)

    def _clear(self) -> None:
        self._chunks.clear()
        self.kept = 0


def frame(payload: bytes) -> bytes:
    """*payload* with its length in front."""
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload
