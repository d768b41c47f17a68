"""Frames that peers could send, and mutators that change them and put them among the steps of a meeting.

Contract: a mutator gives the same for the same bytes and seed.  libFuzzer by itself finds few frames that
can be decoded, since it sees nothing of what msgspec does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any, Final

import msgspec

from tests.core.network import (
    acknowledged,
    asking,
    batch,
    direct,
    entry,
    forget_hashes,
    have,
    origin_of,
    presence,
    prune,
    raw_batch,
    receipt,
    roster,
    suspect,
    unproven,
    want,
)
from tests.fuzz.nodes import STEP_HEAD, steps
from tests.wire.samples import SIGNED, VECTORS, payload
from twisted_mesh.core.broadcast.frontier import digest
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Headers, Snapshot
from twisted_mesh.wire.fields import MAX_NUMBER, Kind
from twisted_mesh.wire.framing import LENGTH_BYTES
from twisted_mesh.wire.replies import Receipts

_AUTHORS: Final = ("bert", "cleo", "dora")  # whose keys the adversaries have
_OWN: Final = 0.3  # how often libFuzzer's own mutation is used
_NUMBERS: Final = (0, 1, 2, 3, 7, 255, 2**32, MAX_NUMBER - 1, MAX_NUMBER, 2**63, 2**64 - 1)
_LEAVES: Final = (*_NUMBERS, -1, True, None, "", "x" * 300, b"", bytes(31), bytes(32), b"\xc1", 0.5, [], {})
_SIGNED: Final = 66  # where the array of a signed frame begins


@cache
def stock() -> list[bytes]:
    """Payloads that a peer could send: the vectors, and frames about a few authors; none is forged."""
    forget_hashes()
    frames: list[codec.Signed | codec.Plain] = []
    for name in _AUTHORS:
        one, two = batch(name, 1, 2), asking(name, 3)
        frames += [one, two, batch(name, 4), raw_batch(name, 5, 1, b"\xc1"), batch(name, 1, epoch=2)]
        frames += [
            Headers([codec.pack_header(two.header)]),
            have(name, 1, 4),
            have(name, 3, 9, answer=True),
        ]
        frames += [want(name, 1), prune(name), Snapshot(True, [entry(name, 2), unproven(name, 9, 2)])]
        frames += [presence(name, 1, 4), presence(name, 2, 4, flags=1), presence(name, 1, 1, 3, floor=2)]
        frames += [suspect(name, "anna"), roster(presence(name, 3, 4), age=5)]
        frames += [direct(name, "me", 1), direct(name, "anna", 2), acknowledged(name, "anna", 1)]
        frames += [Receipts([receipt(name, "me", 1, 2)]), Receipts([receipt(name, "anna", 1, 1)])]
        frames += [digest([((origin_of(name), 1), 4, batch(name, 4).header.hash)])]
    frames += [have("me", 1, 9), have("anna", 1, 9), want("me", 1), want("anna", 1), prune("anna", "me")]
    return [*map(payload, VECTORS.values()), *(codec.encode(frame)[LENGTH_BYTES:] for frame in frames)]


def as_step(frame: bytes, link: int) -> bytes:
    """The step by which the adversary of *link* sends the payload *frame*."""
    return bytes((link & 1,)) + len(frame).to_bytes(2, "big") + frame


def mutate_frame(frame: bytes, random: Random) -> bytes:
    """*frame* with one field of its array changed; unchanged if it has no array."""
    kind = frame[0] if frame else 0
    begin = _SIGNED if kind in SIGNED else 2
    end = len(frame)
    if kind == Kind.BATCH and len(frame) > _SIGNED:
        begin = _SIGNED + 1
        end = begin + frame[_SIGNED]
    try:
        array = msgspec.msgpack.encode(_changed(msgspec.msgpack.decode(frame[begin:end]), random))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError):
        return frame
    length = bytes((min(len(array), 255),)) if kind == Kind.BATCH else b""
    return frame[: begin - len(length)] + length + array + frame[end:]


def _changed(value: Any, random: Random) -> Any:
    """*value* with one value in it changed."""
    if isinstance(value, list) and value and random.random() < 0.9:
        at = random.randrange(len(value))
        match random.randrange(8):
            case 0:
                return [*value[:at], *value[at + 1 :]]
            case 1:
                return [*value, *value[at:] * random.choice((1, 2, 20))]
            case _:
                return [*value[:at], _changed(value[at], random), *value[at + 1 :]]
    if isinstance(value, int) and random.random() < 0.5:
        return value + random.choice((-1, 1, 2))
    if isinstance(value, bytes) and len(value) == 32 and random.random() < 0.5:
        return origin_of(random.choice((*_AUTHORS, "me", "anna")))
    return random.choice(_LEAVES)


def _mutate_steps(data: bytes, random: Random) -> bytes:
    """*data* with a step more, less or changed."""
    all_steps = list(steps(data))
    at = random.randrange(len(all_steps) + 1)
    match random.randrange(6):
        case 0 | 1:
            frame = random.choice(stock())
            if random.random() < 0.4:
                frame = mutate_frame(frame, random)
            all_steps.insert(at, as_step(frame, random.randrange(2)))
        case 2:
            all_steps.insert(at, bytes((random.randrange(0x80, 0x100),)))
        case 3 if all_steps:
            all_steps.insert(at, random.choice(all_steps))
        case 4 if all_steps:
            all_steps.pop(random.randrange(len(all_steps)))
        case _ if all_steps:
            at = random.randrange(len(all_steps))
            if len(all_steps[at]) > STEP_HEAD:
                all_steps[at] = as_step(mutate_frame(all_steps[at][STEP_HEAD:], random), all_steps[at][0])
        case _:
            pass
    return b"".join(all_steps)


Mutator = Callable[[bytes, int, int], bytes]


def mutator(name: str, own: Callable[[bytes, int], bytes]) -> Mutator | None:
    """The mutator for the target *name*, or None for libFuzzer's; *own* is libFuzzer's."""
    known = {"core": _mutate_steps, "frames": mutate_frame}.get(name)
    if known is None:
        return None

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < _OWN:
            return own(data, longest)
        for _ in range(random.choice((1, 1, 2, 4))):
            data = known(data, random)
        return data[:longest]

    return mutate
