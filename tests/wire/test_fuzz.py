"""Broken bytes raise RemoteError and nothing else: 20,000 of them, the same ones each time."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length
from tests.wire.samples import PY2P, VECTORS, greeting, payload
from twisted_mesh.errors import RemoteError
from twisted_mesh.wire import native
from twisted_mesh.wire.bodies import pack_entry, unpack_entries
from twisted_mesh.wire.framing import FrameReader
from twisted_mesh.wire.greeting import decode as decode_greeting
from twisted_mesh.wire.native import SignedBatch, decode

INPUTS = at_length(5_000, 1_500)  # for each of four tests

# First bytes of msgpack values, and what sizes and integers are made of.
TOKENS = [bytes((n,)) for n in (*range(0x80, 0x83), *range(0x90, 0x94), *range(0xC0, 0xE0))]
TOKENS += [b"\0", b"\1", b"\x7f", b"\xff", b"\xff" * 4, b"\0\0\0\1", b"\x10\0", bytes(8), b"\xa1x"]


def damaged(data: bytes, randomness: random.Random) -> bytes:
    """*data* with bits flipped, bytes put in or left out, cut off or said twice."""
    for _ in range(randomness.choice((1, 1, 1, 2, 5))):
        at, end = randomness.randrange(len(data) + 1), randomness.randrange(len(data) + 1)
        match randomness.randrange(6):
            case 0 | 1 if data:
                at = randomness.randrange(len(data))
                data = data[:at] + bytes((data[at] ^ 1 << randomness.randrange(8),)) + data[at + 1 :]
            case 2:
                data = data[:at] + randomness.choice(TOKENS) + data[at:]
            case 3:
                data = data[:at] + randomness.choice(TOKENS) + data[at + 1 :]
            case 4:
                data = data[:end]
            case _:
                data = data[:at] + data[end:]
    return data


class TestBrokenBytes(SynchronousTestCase):
    def assert_survives(self, seeds: list[bytes], handle: Callable[[bytes], object], seed: int) -> None:
        """*handle* takes or refuses each damaged input, and some of them are taken."""
        randomness, refused = random.Random(seed), 0
        for number in range(INPUTS):
            data = damaged(seeds[number % len(seeds)], randomness)
            try:
                handle(data)
            except RemoteError:
                refused += 1
            except Exception as error:
                self.fail(f"{data.hex()}: {error!r}")
        self.assertTrue(INPUTS // 20 < refused < INPUTS, refused)

    def test_frames(self) -> None:
        seeds = [payload(frame) for name, frame in VECTORS.items() if name != "greeting"]
        self.assert_survives(seeds, decode, 1)

    def test_greetings(self) -> None:
        known = [
            VECTORS["greeting"],
            *(bytes.fromhex(other["hex"]) for other in PY2P["handshakes"]),
        ]
        arrays = [payload(frame)[32:] for frame in known]
        self.assert_survives(arrays, lambda array: decode_greeting(greeting(array)), 2)

    def test_bodies(self) -> None:
        batch = decode(payload(VECTORS["batch"]))
        assert isinstance(batch, SignedBatch)
        deep = pack_entry(0x30, [[[{"k": [b"x", {1: (None, 2.5)}]}]], {b"k": -(2**40), None: {}}])
        large = pack_entry(0, [dict.fromkeys(range(2000)), "text"])
        self.assert_survives([batch.batch.body, b"\x91" + deep] * 20 + [b"\x91" + large], unpack_entries, 3)

    def test_streams(self) -> None:
        stream = b"".join(VECTORS.values())

        def read(data: bytes) -> None:
            reader = FrameReader()
            for at in range(0, len(data), 300):
                for frame in reader.feed(data[at : at + 300]):
                    native.decode(frame)

        self.assert_survives([stream], read, 4)
