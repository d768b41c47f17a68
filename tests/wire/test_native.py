"""Native frames: their kinds, their arrays as typed values, and the signed ones' text."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.samples import EPOCH, IDENTITY, NETWORK, payload, signed
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.identity import verify
from twisted_mesh.wire import native
from twisted_mesh.wire.fields import Kind
from twisted_mesh.wire.native import (
    MAX_AROUND_BODY,
    MAX_BATCH_COUNT,
    MAX_NUMBER,
    Batch,
    Bucket,
    Bye,
    Digest,
    Frame,
    Have,
    HaveEntry,
    Intro,
    Ping,
    Plain,
    Pong,
    Proof,
    Prune,
    Snapshot,
    SnapshotEntry,
    Unknown,
    Want,
    Whisper,
    decode,
    encode,
)

KEY = IDENTITY.origin
BATCH = Batch(KEY, EPOCH, 1, 2, EPOCH + 5, 0, b"\x92\x93\0\0\1\x93\0\0\2")
PLAIN: list[tuple[Kind, Plain]] = [
    (Kind.INTRO, Intro(1, EPOCH, 0, True, KEY, bytes(32), 0, 0)),
    (Kind.PROOF, Proof(bytes(64), b"")),
    (Kind.SNAPSHOT, Snapshot(False, [SnapshotEntry(KEY, EPOCH, 1, 0, 0)] * 2)),
    (Kind.PING, Ping(0)),
    (Kind.PONG, Pong(MAX_NUMBER)),
    (Kind.BYE, Bye("leaving", "the node stops")),
    (Kind.HAVE, Have([HaveEntry(KEY, EPOCH, 1, 0), HaveEntry(KEY, EPOCH, 3, 9)], True)),
    (Kind.WANT, Want(KEY, EPOCH, 3, MAX_NUMBER, True)),
    (Kind.PRUNE, Prune([KEY, bytes(32)])),
    (Kind.DIGEST, Digest([Bucket(0, KEY), Bucket(63, bytes(32))])),
]


def pack(*fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


def array_of(frame: Plain) -> list[Any]:
    fields: list[Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(frame))
    return fields


def batch_payload(array: bytes, hops: int = 0) -> bytes:
    return bytes((Kind.BATCH, hops)) + bytes(64) + array


class NativeCase(SynchronousTestCase):
    def assert_refused(self, data: bytes) -> None:
        error = self.assertRaises(RemoteError, decode, data)
        self.assertIs(error.reason, Reason.SHAPE)

    def assert_bounds(self, frame: Plain, at: int, good: list[Any], bad: list[Any]) -> None:
        """Field *at* of *frame* may be each of *good*, and none of *bad*."""
        fields, kind = array_of(frame), next(k for k, f in PLAIN if type(f) is type(frame))
        for value in good:
            fields[at] = value
            decode(bytes((kind, 0)) + pack(*fields))
        for value in bad:
            fields[at] = value
            self.assert_refused(bytes((kind, 0)) + pack(*fields))


class TestFrames(NativeCase):
    def test_decode_and_encode_are_inverse(self) -> None:
        frames: list[Frame] = [frame for _, frame in PLAIN]
        for frame in [*frames, signed(BATCH), Whisper(BATCH.body)]:
            assert not isinstance(frame, Unknown)
            encoded = encode(frame)
            self.assertEqual(int.from_bytes(encoded[:4], "big"), len(encoded) - 4)
            self.assertEqual(decode(payload(encoded)), frame)
            self.assertIs(type(decode(payload(encoded))), type(frame))

    def test_kind_and_hops_come_first(self) -> None:
        for kind, frame in PLAIN:
            self.assertEqual(payload(encode(frame))[:2], bytes((kind, 0)))
        self.assertEqual(payload(encode(Whisper(b"\x90"))), b"\x0e\0\x90")

    def test_a_frame_without_kind_or_hops_is_refused(self) -> None:
        for data in (b"", b"\x13"):
            self.assert_refused(data)

    def test_unknown_kinds_come_out_as_unknown_whatever_they_hold(self) -> None:
        for kind in set(range(256)) - set(Kind):
            for rest in (b"\0", b"\0\xc1\xff", bytes(100)):
                self.assertEqual(decode(bytes((kind,)) + rest), Unknown(kind))

    def test_fields_behind_the_known_ones_are_ignored(self) -> None:
        for kind, frame in PLAIN:
            more = [*array_of(frame), 7, {"later": [None, b"x"]}]
            self.assertEqual(decode(bytes((kind, 0)) + pack(*more)), frame)

    def test_a_missing_field_is_refused(self) -> None:
        for kind, frame in PLAIN:
            self.assert_refused(bytes((kind, 0)) + pack(*array_of(frame)[:-1]))

    def test_what_is_no_array_is_refused(self) -> None:
        for kind in (*(kind for kind, _ in PLAIN), Kind.BATCH):
            start = bytes((kind, 0)) + (bytes(64) if kind is Kind.BATCH else b"")
            for rest in (
                b"",
                b"\x80",
                b"\xc0",
                b"\x01",
                b"\xc1",
                b"\xdd\xff\xff\xff\xff",
                b"\xd4\5x",
            ):
                self.assert_refused(start + rest)
            self.assert_refused(start + b"\x91" * 5000)

    def test_what_stands_behind_the_array_is_refused(self) -> None:
        for kind, frame in PLAIN:
            self.assert_refused(bytes((kind, 0)) + pack(*array_of(frame)) + b"\0")
        self.assert_refused(batch_payload(native.pack(BATCH) + b"\0"))

    def test_the_size_is_known_without_encoding(self) -> None:
        # Of a batch, that is: what waits behind a transport is counted for every link.
        for frame in (*(frame for _, frame in PLAIN), signed(BATCH), Whisper(BATCH.body)):
            self.assertEqual(native.size(frame), len(encode(frame)))

    def test_text_that_is_no_utf_8_is_refused(self) -> None:
        self.assert_refused(b"\x15\0\x92\xa1\xff\xa0")


class TestBounds(NativeCase):
    numbers = ([0, 1, MAX_NUMBER], [-1, MAX_NUMBER + 1, 2**64 - 1, True, 1.0, "1", None, [1]])
    keys = ([bytes(32)], [bytes(31), bytes(33), b"", "k" * 32, 32, None])

    def test_intro(self) -> None:
        frame = PLAIN[0][1]
        for at in (0, 1, 2, 6, 7):
            self.assert_bounds(frame, at, *self.numbers)
        for at in (4, 5):
            self.assert_bounds(frame, at, *self.keys)
        self.assert_bounds(frame, 3, [True, False], [0, 1, None, "true"])

    def test_proof(self) -> None:
        self.assert_bounds(PLAIN[1][1], 0, [bytes(64)], [bytes(63), bytes(65), b"", "s" * 64, None])
        self.assert_bounds(PLAIN[1][1], 1, [b"", bytes(32)], [bytes(33), "", None])

    def test_snapshot(self) -> None:
        streams = array_of(PLAIN[2][1])[1]
        self.assert_bounds(PLAIN[2][1], 0, [True, False], [0, 1, None])
        self.assert_bounds(PLAIN[2][1], 1, [[], streams * 50], [None, {}, 1, [[]], [None]])

    def test_snapshot_entry(self) -> None:
        for low, high, base in ((1, 0, 0), (1, 5, 5), (6, 5, 0), (MAX_NUMBER - 1,) * 3):
            entry = [KEY, EPOCH, low, high, base]
            self.assert_bounds(PLAIN[2][1], 1, [[entry], [[*entry, "later"]]], [[entry[:4]]])
        for low, high, base in ((0, 5, 0), (7, 5, 0), (1, 5, 6), (2, 0, 0), (1, MAX_NUMBER, 0)):
            self.assert_bounds(PLAIN[2][1], 1, [], [[[KEY, EPOCH, low, high, base]]])
        self.assert_bounds(PLAIN[2][1], 1, [], [[[KEY[:31], EPOCH, 1, 5, 0]], [[KEY, -1, 1, 5, 0]]])

    def test_an_entry_that_contradicts_itself_cannot_be_made(self) -> None:
        self.assertRaises(ValueError, SnapshotEntry, KEY, EPOCH, 7, 5, 0)
        self.assertRaises(ValueError, SnapshotEntry, KEY, EPOCH, 1, 5, 6)

    def test_ping_and_pong(self) -> None:
        self.assert_bounds(PLAIN[3][1], 0, *self.numbers)
        self.assert_bounds(PLAIN[4][1], 0, *self.numbers)

    def test_bye(self) -> None:
        self.assert_bounds(PLAIN[5][1], 0, ["", "x" * 32, "\N{BELL}" * 32], ["x" * 33, b"x", 1, None])
        self.assert_bounds(PLAIN[5][1], 1, ["", "x" * 512], ["x" * 513, b"x", 1, None])

    def test_have(self) -> None:
        frame = PLAIN[6][1]
        for low, high in ((1, 0), (1, 5), (6, 5), (MAX_NUMBER, MAX_NUMBER - 1)):
            entry = [KEY, EPOCH, low, high]
            good = [[], [entry], [entry] * 900, [[*entry, 0]], [[*entry, 255]], [[*entry, 1, "later"]]]
            self.assert_bounds(
                frame, 0, good, [[entry[:3]], [[*entry, -1]], [[*entry, 256]], [[*entry, "1"]]]
            )
        for low, high in ((0, 5), (7, 5), (2, 0), (1, MAX_NUMBER), (MAX_NUMBER + 1, MAX_NUMBER)):
            self.assert_bounds(frame, 0, [], [[[KEY, EPOCH, low, high]]])
        self.assert_bounds(frame, 0, [], [[[KEY[:31], EPOCH, 1, 5]], [[KEY, -1, 1, 5]], None, {}, [None]])
        self.assert_bounds(frame, 1, [True, False], [0, 1, None])

    def test_a_have_that_contradicts_itself_cannot_be_made(self) -> None:
        self.assertRaises(ValueError, HaveEntry, KEY, EPOCH, 7, 5)

    def test_want(self) -> None:
        frame, (good, bad) = PLAIN[7][1], self.numbers
        self.assert_bounds(frame, 0, *self.keys)
        self.assert_bounds(frame, 1, good, bad)
        self.assert_bounds(frame, 2, [1, MAX_NUMBER], [0, *bad])
        self.assert_bounds(frame, 3, good, bad)
        self.assert_bounds(frame, 4, [True, False], [0, 1, None])

    def test_prune(self) -> None:
        self.assert_bounds(PLAIN[8][1], 0, [[], [KEY], [KEY] * 900], [[KEY, KEY[:31]], [[KEY]], KEY, None])

    def test_digest(self) -> None:
        bucket = [63, bytes(32)]
        good = [[], [bucket], [[*bucket, "later"]], [[number, KEY] for number in range(64)]]
        bad = [[[64, KEY]], [[-1, KEY]], [[0, KEY[:31]]], [[0]], [bucket] * 65, [None], None, {0: KEY}]
        self.assert_bounds(PLAIN[9][1], 0, good, bad)

    def assert_batch(self, at: int, good: list[Any], bad: list[Any]) -> None:
        fields = msgspec.msgpack.decode(native.pack(BATCH))
        for value in good:
            fields[at] = value
            decode(batch_payload(pack(*fields)))
        for value in bad:
            fields[at] = value
            self.assert_refused(batch_payload(pack(*fields)))

    def test_batch(self) -> None:
        good, bad = self.numbers
        self.assert_batch(0, *self.keys)
        for at in (1, 4, 5):
            self.assert_batch(at, good, bad)
        self.assert_batch(2, [1, MAX_NUMBER - 2], [0, MAX_NUMBER - 1, *bad])
        self.assert_batch(3, [1, MAX_BATCH_COUNT], [0, MAX_BATCH_COUNT + 1, *bad])
        self.assert_batch(6, [b"", bytes(2**20)], ["", None, 1, []])

    def test_a_batch_ends_below_2_to_the_62nd(self) -> None:
        # What is behind it must have a number too, or an honest node could not ask for it.
        self.assertEqual(Batch(KEY, EPOCH, MAX_NUMBER - 2, 2, 0, 0, b"").last, MAX_NUMBER - 1)
        self.assertRaises(ValueError, Batch, KEY, EPOCH, MAX_NUMBER - 1, 2, 0, 0, b"")


class TestSigned(NativeCase):
    def test_the_author_signs_domain_kind_network_and_array(self) -> None:
        digest = hashlib.sha256(NETWORK.id).digest()
        text = b"twisted_mesh/1" + b"\x05" + digest + hashlib.sha256(native.pack(BATCH)).digest()
        self.assertEqual(native.network_digest(NETWORK.id), digest)
        self.assertEqual(native.signed_text(digest, native.pack(BATCH)), text)
        self.assertTrue(verify(KEY, signed(BATCH).signature, text))

    def test_a_signature_holds_in_one_network_only(self) -> None:
        text = native.signed_text(native.network_digest(b"another"), native.pack(BATCH))
        self.assertFalse(verify(KEY, signed(BATCH).signature, text))

    def test_the_array_is_kept_as_it_came(self) -> None:
        fields = msgspec.msgpack.decode(native.pack(BATCH))
        unusual = b"\xdc\0\x09" + pack(*fields)[1:] + b"\xcf" + bytes(7) + b"\x01" + b"\xa5later"
        frame = signed(BATCH, unusual)
        got = decode(payload(encode(frame)))
        self.assertEqual(got, frame)
        self.assertEqual(encode(frame)[-len(unusual) :], unusual)

    def test_hops_is_the_only_byte_a_relay_changes(self) -> None:
        first = encode(signed(BATCH))
        got = decode(payload(first))
        assert isinstance(got, native.SignedBatch)
        second = encode(got.relayed())
        self.assertEqual([at for at in range(len(first)) if first[at] != second[at]], [5])
        self.assertEqual((first[5], second[5]), (0, 1))

    def test_hops_saturate_at_255(self) -> None:
        for hops, further in ((0, 1), (254, 255), (255, 255)):
            got = decode(batch_payload(native.pack(BATCH), hops))
            assert isinstance(got, native.SignedBatch)
            self.assertEqual((got.hops, got.relayed().hops), (hops, further))

    def test_a_batch_without_its_whole_signature_is_refused(self) -> None:
        whole = payload(encode(signed(BATCH)))
        for length in range(2, len(whole)):
            self.assert_refused(whole[:length])

    def test_what_is_around_the_body_is_bounded(self) -> None:
        fields = msgspec.msgpack.decode(native.pack(BATCH))
        room = MAX_AROUND_BODY - (len(pack(*fields)) - len(BATCH.body)) - 2
        decode(batch_payload(pack(*fields, b"x" * room)))
        self.assert_refused(batch_payload(pack(*fields, b"x" * (room + 1))))

    def test_the_verdict_on_a_batch_is_the_same_on_every_stack(self) -> None:
        fields = msgspec.msgpack.decode(native.pack(BATCH))
        for depth in (10, 150, 300, 600, 900):
            nested: list[Any] = []
            for _ in range(depth):
                nested = [nested]
            data = batch_payload(pack(*fields, nested))
            verdicts = {on_a_stack_of(frames, data) for frames in (0, 200, 400)}
            self.assertEqual(verdicts, {depth <= 150})


def on_a_stack_of(frames: int, data: bytes) -> bool:
    """Whether *data* passes when so many more functions are running."""
    if frames:
        return on_a_stack_of(frames - 1, data)
    try:
        decode(data)
    except RemoteError:
        return False
    return True
