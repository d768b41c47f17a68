"""Native frames: their kinds, their arrays as typed values, and the text that is signed."""

from __future__ import annotations

import gc
import hashlib
from typing import Any

import msgspec

from tests.wire.samples import (
    EPOCH,
    FRAMES,
    IDENTITY,
    KEYS,
    NETWORK,
    NUMBERS,
    SEQUENCES,
    SIGNED,
    TRUTHS,
    WireCase,
    end_of,
    fields_of,
    pack,
    payload,
    signed,
    start_of,
    text_of,
    with_array,
)
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.identity import verify
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT, Batch, HaveEntry, SignedBatch, SnapshotEntry
from twisted_mesh.wire.codec import MAX_BATCH_ARRAY, MAX_LATER, decode, encode
from twisted_mesh.wire.fields import MAX_NUMBER, Kind
from twisted_mesh.wire.link import Unknown, Whisper
from twisted_mesh.wire.replies import Receipt
from twisted_mesh.wire.signed import SignedRecord

KEY = IDENTITY.origin
DIGEST = codec.network_digest(NETWORK.id)
BATCH = Batch(KEY, EPOCH, 1, 2, EPOCH + 5, 0, bytes(32))
BODY = b"\x92\x93\0\0\1\x93\0\0\2"
ARRAYS = [kind for kind in FRAMES if kind is not Kind.WHISPER]  # which is bytes and no array
RECORDS = [kind for kind in SIGNED if kind is not Kind.BATCH]


def signed_frame(data: bytes) -> SignedBatch | SignedRecord:
    """The signed frame that *data* is."""
    frame = decode(data)
    assert isinstance(frame, SignedBatch | SignedRecord)
    return frame


def meaning(data: bytes) -> object:
    """The value of a frame, without the array that was signed."""
    frame = decode(data)
    if isinstance(frame, SignedBatch):
        return frame.batch
    return frame.record if isinstance(frame, SignedRecord) else frame


class TestFrames(WireCase):
    def test_there_is_a_sample_of_each_kind(self) -> None:
        self.assertEqual(set(FRAMES), set(Kind))

    def test_decode_and_encode_are_inverse(self) -> None:
        for kind, data in FRAMES.items():
            frame = decode(data)
            assert not isinstance(frame, Unknown)
            encoded = encode(frame)
            self.assertEqual(int.from_bytes(encoded[:4], "big"), len(encoded) - 4)
            self.assertEqual(payload(encoded), data)
            self.assertEqual(data[:2], bytes((kind, 0)))
            # Bytes that wait for a transport are counted for every link without encoding the frame.
            self.assertEqual(codec.size(frame), len(encoded))
        self.assertEqual(payload(encode(Whisper(b"\x90"))), b"\x0e\0\x90")

    def test_a_frame_without_kind_or_hops_is_refused(self) -> None:
        for data in (b"", b"\x13"):
            self.assert_refused(data)

    def test_unknown_kinds_come_out_as_unknown_whatever_they_hold(self) -> None:
        for kind in set(range(256)) - set(Kind):
            for rest in (b"\0", b"\0\xc1\xff", bytes(100)):
                self.assertEqual(decode(bytes((kind,)) + rest), Unknown(kind))

    def test_fields_behind_the_known_ones_are_ignored(self) -> None:
        for kind in ARRAYS:
            more = with_array(kind, pack([*fields_of(kind), 7, {"later": [None, b"x"]}]))
            self.assertEqual(meaning(more), meaning(FRAMES[kind]))

    def test_a_missing_field_is_refused(self) -> None:
        for kind in ARRAYS:
            self.assert_refused(with_array(kind, pack(fields_of(kind)[:-1])))

    def test_what_is_no_array_is_refused(self) -> None:
        for kind in ARRAYS:
            for rest in (b"", b"\x80", b"\xc0", b"\x01", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xd4\5x"):
                self.assert_refused(with_array(kind, rest))
            self.assert_refused(with_array(kind, b"\x91" * 5000))
            self.assert_refused(with_array(kind, pack(fields_of(kind)) + b"\0"))

    def test_text_that_is_no_utf_8_is_refused(self) -> None:
        self.assert_refused(b"\x15\0\x92\xa1\xff\xa0")


class TestBounds(WireCase):
    def test_intro(self) -> None:
        for at in (0, 1, 2, 6, 7):
            self.assert_bounds(Kind.INTRO, at, *NUMBERS)
        for at in (4, 5):
            self.assert_bounds(Kind.INTRO, at, *KEYS)
        self.assert_bounds(Kind.INTRO, 3, *TRUTHS)

    def test_proof(self) -> None:
        self.assert_bounds(Kind.PROOF, 0, [bytes(64)], [bytes(63), bytes(65), b"", "s" * 64, None])
        self.assert_bounds(Kind.PROOF, 1, [bytes(32)], [b"", bytes(31), bytes(33), "", None])

    def test_snapshot(self) -> None:
        streams = fields_of(Kind.SNAPSHOT)[1]
        self.assert_bounds(Kind.SNAPSHOT, 0, *TRUTHS)
        self.assert_bounds(Kind.SNAPSHOT, 1, [[], streams * 100], [None, {}, 1, [[]], [None]])

    def test_snapshot_entry(self) -> None:
        for low, high, base in ((1, 0, 0), (1, 5, 5), (6, 5, 0), (MAX_NUMBER - 1,) * 3):
            entry = [KEY, EPOCH, low, high, base, b""]
            good = [[entry], [[*entry[:5], bytes(351)]], [[*entry, "later"]]]
            self.assert_bounds(Kind.SNAPSHOT, 1, good, [[entry[:5]], [[*entry[:5], bytes(352)]]])
        for low, high, base in ((0, 5, 0), (7, 5, 0), (1, 5, 6), (2, 0, 0), (1, MAX_NUMBER, 0)):
            self.assert_bounds(Kind.SNAPSHOT, 1, [], [[[KEY, EPOCH, low, high, base, b""]]])
        self.assert_bounds(
            Kind.SNAPSHOT, 1, [], [[[KEY[:31], EPOCH, 1, 5, 0, b""]], [[KEY, -1, 1, 5, 0, b""]]]
        )

    def test_an_entry_that_contradicts_itself_cannot_be_made(self) -> None:
        self.assertRaises(ValueError, SnapshotEntry, KEY, EPOCH, 7, 5, 0, b"")
        self.assertRaises(ValueError, SnapshotEntry, KEY, EPOCH, 1, 5, 6, b"")
        self.assertRaises(ValueError, HaveEntry, KEY, EPOCH, 7, 5)
        self.assertRaises(ValueError, Receipt, KEY, EPOCH, 10, 8, KEY, 1)

    def test_ping_and_pong(self) -> None:
        self.assert_bounds(Kind.PING, 0, *NUMBERS)
        self.assert_bounds(Kind.PONG, 0, *NUMBERS)

    def test_bye(self) -> None:
        self.assert_bounds(Kind.BYE, 0, ["", "x" * 32, "\N{BELL}" * 32], ["x" * 33, b"x", 1, None])
        self.assert_bounds(Kind.BYE, 1, ["", "x" * 512], ["x" * 513, b"x", 1, None])

    def test_have(self) -> None:
        for low, high in ((1, 0), (1, 5), (6, 5), (MAX_NUMBER, MAX_NUMBER - 1)):
            entry = [KEY, EPOCH, low, high]
            good = [[], [entry], [entry] * 900, [[*entry, 0]], [[*entry, 255]]]
            good += [[[*entry, 1, b""]], [[*entry, 1, KEY]], [[*entry, 1, KEY, "later"]]]
            bad = [[entry[:3]], [[*entry, -1]], [[*entry, 256]], [[*entry, "1"]]]
            bad += [[[*entry, 1, KEY + b"x"]], [[*entry, 1, None]]]
            self.assert_bounds(Kind.HAVE, 0, good, bad)
        for low, high in ((0, 5), (7, 5), (2, 0), (1, MAX_NUMBER), (MAX_NUMBER + 1, MAX_NUMBER)):
            self.assert_bounds(Kind.HAVE, 0, [], [[[KEY, EPOCH, low, high]]])
        bad = [[[KEY[:31], EPOCH, 1, 5]], [[KEY, -1, 1, 5]], None, {}, [None]]
        self.assert_bounds(Kind.HAVE, 0, [], bad)
        self.assert_bounds(Kind.HAVE, 1, *TRUTHS)

    def test_headers(self) -> None:
        good = [[], [b""], [bytes(351)] * 16]
        self.assert_bounds(Kind.HEADERS, 0, good, [[bytes(352)], [b""] * 17, [None], None, b"", ["x"]])

    def test_want(self) -> None:
        for at, bounds in enumerate((KEYS, NUMBERS, SEQUENCES, NUMBERS, TRUTHS)):
            self.assert_bounds(Kind.WANT, at, *bounds)

    def test_prune(self) -> None:
        self.assert_bounds(Kind.PRUNE, 0, [[], [KEY], [KEY] * 900], [[KEY, KEY[:31]], [[KEY]], KEY, None])

    def test_digest(self) -> None:
        bucket = [63, bytes(32)]
        good = [[], [bucket], [[*bucket, "later"]], [[number, KEY] for number in range(64)]]
        bad = [[[64, KEY]], [[-1, KEY]], [[0, KEY[:31]]], [[0]], [bucket] * 65, [None], None, {0: KEY}]
        self.assert_bounds(Kind.DIGEST, 0, good, bad)

    def test_batch(self) -> None:
        bad = NUMBERS[1]
        self.assert_bounds(Kind.BATCH, 0, *KEYS)
        for at in (1, 4, 5):
            self.assert_bounds(Kind.BATCH, at, *NUMBERS)
        self.assert_bounds(Kind.BATCH, 2, [1, MAX_NUMBER - 2], [0, MAX_NUMBER - 1, *bad])
        self.assert_bounds(Kind.BATCH, 3, [1, MAX_BATCH_COUNT], [0, MAX_BATCH_COUNT + 1, *bad])
        self.assert_bounds(Kind.BATCH, 6, *KEYS)

    def test_a_batch_ends_below_2_to_the_62nd(self) -> None:
        # The message behind it must have a number, too: otherwise an honest node could not ask for it.
        self.assertEqual(Batch(KEY, EPOCH, MAX_NUMBER - 2, 2, 0, 0, bytes(32)).last, MAX_NUMBER - 1)
        self.assertRaises(ValueError, Batch, KEY, EPOCH, MAX_NUMBER - 1, 2, 0, 0, bytes(32))


class TestSigned(WireCase):
    def test_the_author_signs_domain_kind_network_and_array(self) -> None:
        digest = hashlib.sha256(NETWORK.id).digest()
        self.assertEqual(DIGEST, digest)
        for kind in SIGNED:
            frame = signed_frame(FRAMES[kind])
            signed_bytes = frame.array
            if isinstance(frame, SignedBatch):  # in place of its body the hash of that
                signed_bytes += hashlib.sha256(frame.body).digest()
            text = b"twisted_mesh/1" + bytes((kind,)) + digest + hashlib.sha256(signed_bytes).digest()
            self.assertEqual(text_of(digest, frame, kind), text)
            self.assertTrue(verify(KEY, frame.signature, text))

    def test_a_signature_holds_in_one_network_and_for_one_kind_only(self) -> None:
        for kind in SIGNED:
            frame = signed_frame(FRAMES[kind])
            texts = {codec.signed_text(DIGEST, frame.array, other) for other in Kind if other is not kind}
            texts.add(text_of(codec.network_digest(b"another"), frame, kind))
            for text in texts:
                self.assertFalse(verify(KEY, frame.signature, text))

    def test_the_array_is_kept_as_it_came(self) -> None:
        for kind in SIGNED:
            fields = fields_of(kind)
            unusual = b"\xdc\0" + bytes((len(fields) + 2,)) + pack(fields)[1:]
            unusual += b"\xcf" + bytes(7) + b"\x01" + b"\xa5later"
            got = signed_frame(with_array(kind, unusual))
            self.assertEqual(got.array, unusual)
            self.assertEqual(encode(got)[-len(unusual) :], unusual)

    def test_hops_is_the_only_byte_a_relay_changes_and_it_saturates(self) -> None:
        for kind in SIGNED:
            frame = signed_frame(FRAMES[kind])
            first, second = encode(frame), encode(frame.relayed())
            self.assertEqual([at for at in range(len(first)) if first[at] != second[at]], [5])
            for hops, further in ((0, 1), (254, 255), (255, 255)):
                got = signed_frame(with_array(kind, frame.array, hops))
                self.assertEqual((got.hops, got.relayed().hops), (hops, further))

    def test_one_without_its_whole_signature_is_refused(self) -> None:
        for kind in SIGNED:
            for length in range(2, end_of(kind)):
                self.assert_refused(FRAMES[kind][:length])

    def test_the_array_of_a_batch_is_bounded_by_its_length(self) -> None:
        array = codec.pack(BATCH)
        fields = msgspec.msgpack.decode(array)
        room = MAX_BATCH_ARRAY - len(array) - 2
        decode(with_array(Kind.BATCH, pack([*fields, b"x" * room])))
        self.assert_refused(with_array(Kind.BATCH, pack([*fields, b"x" * (room + 1)])))

    def test_the_header_of_a_batch_stands_alone_in_other_frames(self) -> None:
        header = signed(BATCH, BODY).header
        self.assertEqual(header.body_digest, hashlib.sha256(BODY).digest())
        self.assertEqual(header.hash, hashlib.sha256(header.array + header.body_digest).digest())
        packed = codec.pack_header(header)
        self.assertEqual(packed, header.signature + header.body_digest + header.array)
        self.assertEqual(codec.unpack_header(packed), header)
        self.assertTrue(verify(KEY, header.signature, codec.batch_text(DIGEST, header.hash)))
        for length in range(len(packed)):
            error = self.assertRaises(RemoteError, codec.unpack_header, packed[:length])
            self.assertIs(error.reason, Reason.SHAPE)

    def test_the_garbage_collector_looks_at_no_batch_that_is_held(self) -> None:
        """With a full history, it would look at all of them for tens of milliseconds."""
        gc.freeze()  # else the collection below looks through all that other tests have left, for seconds
        self.addCleanup(gc.unfreeze)
        held = [codec.decode(FRAMES[Kind.BATCH]) for _ in range(1000)]
        for batch in held:
            assert isinstance(batch, SignedBatch)
            self.assertEqual(batch.header.batch.count, 2)
        gc.collect()
        self.assertFalse(any(map(gc.is_tracked, held)))

    def test_the_author_of_a_batch_hashes_its_body_once(self) -> None:
        made = signed(BATCH, BODY)
        self.assertIn("header", vars(made))
        self.assertEqual(made.header, SignedBatch(made.batch, made.signature, made.array, made.body).header)

    def test_what_this_version_does_not_know_of_a_record_is_kept_and_bounded(self) -> None:
        for kind in RECORDS:
            array = pack([*fields_of(kind), b"x" * (MAX_LATER - 3)])
            got = signed_frame(with_array(kind, array))
            self.assertEqual((got.array, meaning(with_array(kind, array))), (array, meaning(FRAMES[kind])))
            self.assert_refused(with_array(kind, pack([*fields_of(kind), b"x" * MAX_LATER])))

    def test_the_verdict_is_the_same_on_every_stack(self) -> None:
        # Otherwise a node would close an honest link because of a frame that another node let pass.
        for kind in SIGNED:
            for depth in (10, 150, 300, 600, 900):
                nested: list[Any] = []
                for _ in range(depth):
                    nested = [nested]
                data = with_array(kind, pack([*fields_of(kind), nested]))
                verdicts = {on_a_stack_of(frames, data) for frames in (0, 200, 400)}
                self.assertEqual(verdicts, {depth <= 150})

    def test_the_samples_are_whole(self) -> None:
        for kind in SIGNED:
            self.assertEqual(start_of(kind) + len(signed_frame(FRAMES[kind]).array), end_of(kind))
        self.assertEqual(decode(payload(encode(signed(BATCH, BODY)))), signed(BATCH, BODY))


def on_a_stack_of(frames: int, data: bytes) -> bool:
    """Whether *data* can be decoded when *frames* more functions are on the stack."""
    if frames:
        return on_a_stack_of(frames - 1, data)
    try:
        decode(data)
    except RemoteError:
        return False
    return True
