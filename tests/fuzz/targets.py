"""The functions that the fuzzer calls with bytes: one for each place where bytes of a peer come in.

Contract: a :class:`Target` does the same whenever it is given the same bytes.  If it raises anything, the
package has a fault: RemoteError, which is raised for bad bytes, is handled here.  :meth:`Target.run` raises
AssertionError if more memory was in use than is allowed for so many bytes.
"""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tests.core.network import local_node
from tests.fuzz.nodes import Meeting
from tests.support.bodies import unpack_entries
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.handshake import Handshake, Side
from twisted_mesh.core.link_machine import LinkMachine
from twisted_mesh.errors import PoisonedBody, RemoteError
from twisted_mesh.wire import codec, greeting
from twisted_mesh.wire.begun import HEAD_BYTES, begun
from twisted_mesh.wire.bodies import join_entries, split_entries, unpack_weighed
from twisted_mesh.wire.broadcast import Headers, SignedBatch
from twisted_mesh.wire.framing import GREETING_FRAME_BYTES, LENGTH_BYTES, FrameReader, frame
from twisted_mesh.wire.link import Unknown, Whisper
from twisted_mesh.wire.replies import Receipts
from twisted_mesh.wire.signed import SignedRecord

_CONFIG: Final = MeshConfig()
_CHUNKS: Final = 8  # sizes of chunks, one a byte, in front of bytes that come over a connection
_MEMORY: Final = 64 * 1024  # bytes that a target may use for no bytes (measured: 13 KiB)


@dataclass(frozen=True)
class Target:
    """A function for the fuzzer.

    :ivar call: takes the bytes; :ivar longest: how many it is given at most.
    :ivar growth: bytes of memory that it may use at any one time for each byte it is given, besides
        :data:`_MEMORY`; None: it counts for itself.
    """

    call: Callable[[bytes], None]
    longest: int
    growth: int | None

    def run(self, data: bytes) -> None:
        """Call the function with *data*, and check the memory that it uses."""
        if self.growth is None:
            self.call(data)
            return
        if not tracemalloc.is_tracing():
            tracemalloc.start()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        self.call(data)
        _, peak = tracemalloc.get_traced_memory()
        bound = _MEMORY + self.growth * len(data)
        assert peak - before <= bound, f"{peak - before} bytes of memory, of {bound}"


def chunks(data: bytes) -> list[bytes]:
    """The bytes behind the first eight of *data*, cut into chunks of as many bytes as those say in turn."""
    sizes, rest = data[:_CHUNKS], data[_CHUNKS:]
    cut: list[bytes] = []
    while rest:
        size = 1 + sizes[len(cut) % len(sizes)]
        cut.append(rest[:size])
        rest = rest[size:]
    return cut


def _payloads(reader: FrameReader, data: bytes) -> tuple[list[bytes], bool]:
    """The payloads that *reader* cuts from *data*, and whether it refuses the rest."""
    got: list[bytes] = []
    try:
        for payload in reader.feed(data):
            assert 0 < len(payload) <= reader.limit
            got.append(payload)
    except RemoteError:
        return got, True
    assert reader.kept < max(reader.need, LENGTH_BYTES) <= LENGTH_BYTES + reader.limit
    return got, False


def framing(data: bytes) -> None:
    """A stream of bytes gives the same frames however it is cut."""
    whole, is_refused = _payloads(FrameReader(GREETING_FRAME_BYTES), data[_CHUNKS:])
    reader = FrameReader(GREETING_FRAME_BYTES)
    got: list[bytes] = []
    for chunk in chunks(data):
        some, refused = _payloads(reader, chunk)
        got += some
        if refused:
            assert is_refused
            break
    else:
        assert not is_refused
    assert got == whole


def connection(data: bytes) -> None:
    """A stranger that sends any bytes is never linked, and has no more than 8 KiB kept of it."""
    for side in Side:
        shake = Handshake(side, local_node("me"), nonce=bytes(32), time=0)
        machine = LinkMachine(1, shake, _CONFIG, bytes)
        machine.start(0.0)
        read = 0
        for chunk in chunks(data):
            read += len(chunk)
            try:
                for _ in machine.receive(chunk, read, 0.0):
                    pass
            except RemoteError as error:
                machine.close(error, read, 0.0)
                break
            most = GREETING_FRAME_BYTES if shake.greeting is None else 2**16
            assert machine.unfinished_bytes <= LENGTH_BYTES + most
        assert machine.peer is None


def greetings(data: bytes) -> None:
    """A greeting with any bytes in it is refused, or is the same when it is packed again."""
    payload = hashlib.sha256(data).digest() + data  # no fuzzer finds the right digest by itself
    try:
        said = greeting.decode(payload)
    except RemoteError:
        said = None
    if said is not None:
        assert len(said.id) <= greeting.MAX_ID
        assert greeting.decode(greeting.encode(said)[LENGTH_BYTES:]) == said
    connection(b"\xff" * _CHUNKS + frame(payload))


def frames(data: bytes) -> None:
    """A payload is refused, or is a frame that is the same when it is packed and unpacked again."""
    try:
        got = codec.decode(data)
    except RemoteError:
        return
    if isinstance(got, Unknown):
        return
    again = codec.encode(got)
    assert codec.decode(again[LENGTH_BYTES:]) == got
    match got:
        case SignedBatch(batch=batch):
            assert again == frame(data) and codec.size(got) == len(again)
            claim = begun(data[:HEAD_BYTES])
            assert claim is None or (claim.origin, claim.first, claim.last) == (
                batch.origin,
                batch.first,
                batch.last,
            )
            bodies(got.body)
        case SignedRecord():
            assert codec.payload(got) == data
        case Headers(headers=headers):
            for packed in headers:
                with suppress(RemoteError):
                    assert codec.pack_header(codec.unpack_header(packed)) == packed
        case Receipts(entries=entries):
            for signed in entries:
                with suppress(RemoteError):
                    codec.receipt(signed.array)
        case Whisper(body=body):
            bodies(body)
        case _:
            pass


def bodies(data: bytes) -> None:
    """A body is refused, or has messages that are the same when they are packed and unpacked again."""
    try:
        entries = unpack_entries(data)
    except PoisonedBody:
        return
    assert unpack_weighed(data)[1] >= len(data)
    assert unpack_entries(data, len(entries)) == entries or _has_nan(entries)
    if entries and all(entry[0] in (0, 64) for entry in entries):
        again = unpack_entries(join_entries(split_entries(data)))
        assert again == entries or _has_nan(entries)


def _has_nan(value: object) -> bool:
    """Whether a number that does not equal itself is in *value*."""
    if isinstance(value, list):
        return any(map(_has_nan, value))
    if isinstance(value, dict):
        return any(map(_has_nan, value)) or any(map(_has_nan, value.values()))
    return value != value


def core(data: bytes) -> None:
    """Whatever two adversaries send, a node raises nothing, stays within its limits, and keeps its link."""
    Meeting().play(data)


#: The growths are guesses: an empty list has one byte packed, and 64 unpacked; a body is unpacked twice.
TARGETS: Final = {
    "framing": Target(framing, 2**15, 8),
    "greeting": Target(greetings, 2**12, 128),
    "connection": Target(connection, 2**15, 16),
    "frames": Target(frames, 2**10, 256),
    "bodies": Target(bodies, 2**15, 256),
    "core": Target(core, 2**12, None),
}
