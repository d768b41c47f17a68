"""The frames that travel towards one node: shapes, bounds, and what is signed of them."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.samples import EPOCH, IDENTITY, payload
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire import native
from twisted_mesh.wire.fields import MAX_NUMBER, Kind
from twisted_mesh.wire.framing import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES
from twisted_mesh.wire.membership import MAX_RECORD
from twisted_mesh.wire.native import MAX_LATER, decode, encode
from twisted_mesh.wire.replies import MAX_RECEIPT, Direct, DirectAck, Receipt, Receipts, SignedReceipt
from twisted_mesh.wire.signed import SignedRecord

KEY = IDENTITY.origin
OTHER = bytes(range(32))
RECEIPT = Receipt(OTHER, 1, 5, 8, KEY, EPOCH)
SIGNED = SignedReceipt(bytes(64), native.pack(RECEIPT), 3, 1)
RECEIPTS = Receipts([SIGNED, SIGNED])
DIRECT = Direct(KEY, EPOCH, OTHER, 1, 3, 2, 1, b"\x91\x93\0\2\xa4psst")
ACK = DirectAck(KEY, EPOCH, OTHER, 1, 3, 1)
RECORDS: list[tuple[Kind, Direct | DirectAck]] = [(Kind.DIRECT, DIRECT), (Kind.DIRECT_ACK, ACK)]

NUMBERS = ([0, 1, MAX_NUMBER], [-1, MAX_NUMBER + 1, True, 1.0, "1", None, [1]])
SEQUENCES = ([1, MAX_NUMBER], [0, -1, MAX_NUMBER + 1, True, 1.0, "1", None])
TRIES = ([0, 255], [-1, 256, True, None, 1.0])
KEYS = ([bytes(32)], [bytes(31), bytes(33), b"", "k" * 32, 32, None])


def fields_of(value: object) -> list[Any]:
    fields: list[Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(value))
    return fields


def frame(kind: Kind, fields: object) -> bytes:
    """A payload of *kind*, its signature left out of account."""
    signature = b"" if kind is Kind.RECEIPT else bytes(64)
    return bytes((kind, 0)) + signature + msgspec.msgpack.encode(fields)


class ReverseCase(SynchronousTestCase):
    def assert_refused(self, data: bytes) -> None:
        self.assertIs(self.assertRaises(RemoteError, decode, data).reason, Reason.SHAPE)

    def assert_no_receipt(self, array: bytes) -> None:
        self.assertIs(self.assertRaises(RemoteError, native.receipt, array).reason, Reason.SHAPE)

    def assert_bounds(self, kind: Kind, value: object, at: int, good: list[Any], bad: list[Any]) -> None:
        """Field *at* of a frame of *kind* may be each of *good*, and none of *bad*."""
        fields = fields_of(value)
        for one in good:
            fields[at] = one
            decode(frame(kind, fields))
        for one in bad:
            fields[at] = one
            self.assert_refused(frame(kind, fields))


class TestReceipts(ReverseCase):
    def test_decode_and_encode_are_inverse(self) -> None:
        for value in (RECEIPTS, Receipts([]), Receipts([SIGNED] * 300)):
            encoded = encode(value)
            self.assertEqual(decode(payload(encoded)), value)
            self.assertEqual(native.size(value), len(encoded))
        self.assertEqual(payload(encode(RECEIPTS))[:2], bytes((Kind.RECEIPT, 0)))

    def test_what_is_signed_comes_out_as_it_went_in(self) -> None:
        nothing = Receipt(OTHER, MAX_NUMBER, 1, 0, KEY, 0)
        most = Receipt(OTHER, 0, MAX_NUMBER - 1, MAX_NUMBER - 1, KEY, MAX_NUMBER)
        for value in (RECEIPT, nothing, most):
            self.assertEqual(native.receipt(native.pack(value)), value)

    def test_bounds_of_the_frame(self) -> None:
        signatures = ([bytes(64)], [bytes(63), bytes(65), "s" * 64, None])
        arrays = ([b"", bytes(MAX_RECEIPT)], [bytes(MAX_RECEIPT + 1), "", None])
        hops = TRIES
        for at, (good, bad) in enumerate((signatures, arrays, hops, hops)):
            entries = [
                [[[*fields_of(SIGNED)[:at], one, *fields_of(SIGNED)[at + 1 :]]] for one in some]
                for some in (good, bad)
            ]
            self.assert_bounds(Kind.RECEIPT, RECEIPTS, 0, *entries)
        lists = ([[], [[*fields_of(SIGNED), "later"]]], [[[]], [[bytes(64)]], [None], None, {}])
        self.assert_bounds(Kind.RECEIPT, RECEIPTS, 0, *lists)

    def test_hops_is_all_that_a_relay_changes_and_it_saturates(self) -> None:
        for hops, further in ((0, 1), (254, 255), (255, 255)):
            signed = SignedReceipt(bytes(64), SIGNED.array, hops, 7)
            self.assertEqual(signed.relayed(), SignedReceipt(bytes(64), SIGNED.array, further, 7))

    def test_bounds_of_what_is_signed(self) -> None:
        bounds = (
            KEYS,
            NUMBERS,
            ([1, 8, 9], [0, 10, -1, None]),
            ([4, 8], [3, MAX_NUMBER, None]),
            KEYS,
            NUMBERS,
        )
        for at, (good, bad) in enumerate(bounds):
            fields = fields_of(RECEIPT)
            for one in good:
                fields[at] = one
                native.receipt(msgspec.msgpack.encode(fields))
            for one in bad:
                fields[at] = one
                self.assert_no_receipt(msgspec.msgpack.encode(fields))

    def test_a_range_that_contradicts_itself_cannot_be_made(self) -> None:
        self.assertRaises(ValueError, Receipt, OTHER, 1, 10, 8, KEY, 1)

    def test_what_is_no_receipt_is_refused(self) -> None:
        for array in (b"", b"\x80", b"\xc0", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * MAX_RECEIPT):
            self.assert_no_receipt(array)
        self.assert_no_receipt(native.pack(RECEIPT) + b"\0")
        self.assert_no_receipt(msgspec.msgpack.encode(fields_of(RECEIPT)[:-1]))

    def test_fields_behind_the_known_ones_are_ignored(self) -> None:
        later = msgspec.msgpack.encode([*fields_of(RECEIPT), 7, {"later": [None, b"x"]}])
        self.assertEqual(native.receipt(later), RECEIPT)
        self.assertEqual(decode(frame(Kind.RECEIPT, [*fields_of(RECEIPTS), "later"])), RECEIPTS)

    def test_the_largest_has_room_for_fields_of_later_versions(self) -> None:
        most = Receipt(bytes(32), MAX_NUMBER, MAX_NUMBER, MAX_NUMBER - 1, bytes(32), MAX_NUMBER)
        self.assertLess(len(native.pack(most)), MAX_RECEIPT - 100)


class TestDirect(ReverseCase):
    def test_decode_and_encode_are_inverse(self) -> None:
        for kind, value in RECORDS:
            signed = SignedRecord(value, bytes(range(64)), native.pack(value), 7)
            encoded = encode(signed)
            self.assertEqual(decode(payload(encoded)), signed)
            self.assertEqual(payload(encoded)[:2], bytes((kind, 7)))
            self.assertEqual(native.size(signed), len(encoded))

    def test_bounds(self) -> None:
        direct = (KEYS, NUMBERS, KEYS, NUMBERS, *[SEQUENCES] * 2, TRIES, ([b"", bytes(9)], ["", None, 1]))
        for at, (good, bad) in enumerate(direct):
            self.assert_bounds(Kind.DIRECT, DIRECT, at, good, bad)
        for at, (good, bad) in enumerate((KEYS, NUMBERS, KEYS, NUMBERS, SEQUENCES, TRIES)):
            self.assert_bounds(Kind.DIRECT_ACK, ACK, at, good, bad)

    def test_what_is_none_is_refused(self) -> None:
        for kind, value in RECORDS:
            self.assert_refused(frame(kind, fields_of(value)[:-1]))
            for rest in (b"", b"\x80", b"\xc0", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 3000):
                self.assert_refused(bytes((kind, 0)) + bytes(64) + rest)
            whole = bytes((kind, 0)) + bytes(64) + native.pack(value)
            for length in range(2, len(whole)):
                self.assert_refused(whole[:length])
            self.assert_refused(whole + b"\0")

    def test_what_this_version_does_not_know_is_kept_and_bounded(self) -> None:
        for kind, value in RECORDS:
            fields = fields_of(value)
            got = decode(frame(kind, [*fields, b"x" * (MAX_LATER - 3)]))
            assert isinstance(got, SignedRecord)
            self.assertEqual(got.record, value)
            self.assertEqual(got.array, msgspec.msgpack.encode([*fields, b"x" * (MAX_LATER - 3)]))
            self.assert_refused(frame(kind, [*fields, b"x" * MAX_LATER]))

    def test_the_largest_message_fits_in_a_frame_and_may_be_larger_than_a_record(self) -> None:
        most = Direct(
            KEY, MAX_NUMBER, OTHER, MAX_NUMBER, MAX_NUMBER, MAX_NUMBER, 255, bytes(MAX_MESSAGE_BYTES + 5)
        )
        signed = SignedRecord(most, bytes(64), native.pack(most))
        self.assertGreater(len(signed.array), MAX_RECORD)
        self.assertLessEqual(native.size(signed), MAX_FRAME_BYTES)
        self.assertEqual(decode(payload(encode(signed))), signed)
