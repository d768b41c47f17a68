"""Receipts and direct messages: the bounds of their fields, and the array that is signed."""

from __future__ import annotations

from tests.wire.samples import (
    BYTES,
    IDENTITY,
    KEYS,
    NUMBERS,
    SEQUENCES,
    WireCase,
    fields_of,
    pack,
    payload,
)
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire import codec
from twisted_mesh.wire.codec import decode, encode
from twisted_mesh.wire.fields import MAX_NUMBER, Kind
from twisted_mesh.wire.framing import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES
from twisted_mesh.wire.membership import MAX_PRESENCE, MAX_RECORD
from twisted_mesh.wire.replies import (
    MAX_DIRECTS,
    MAX_RECEIPT,
    Direct,
    Receipt,
    Receipts,
    SealedMessage,
    SealedText,
    SignedReceipt,
)
from twisted_mesh.wire.signed import SignedRecord

KEY = IDENTITY.origin
OTHER = bytes(range(32))
RECEIPT = Receipt(OTHER, 1, 5, 8, KEY, 1)
FIELDS = [OTHER, 1, 5, 8, KEY, 1]


class TestReceipts(WireCase):
    def assert_no_receipt(self, array: bytes) -> None:
        """Assert that *array* is no receipt."""
        self.assertIs(self.assertRaises(RemoteError, codec.receipt, array).reason, Reason.SHAPE)

    def test_any_number_of_them_is_a_frame(self) -> None:
        for count in (0, 1, 300):
            value = Receipts([SignedReceipt(bytes(64), codec.pack(RECEIPT), 3, 1)] * count)
            encoded = encode(value)
            self.assertEqual(decode(payload(encoded)), value)
            self.assertEqual(codec.size(value), len(encoded))

    def test_what_is_signed_comes_out_as_it_went_in(self) -> None:
        nothing = Receipt(OTHER, MAX_NUMBER, 1, 0, KEY, 0)
        most = Receipt(OTHER, 0, MAX_NUMBER - 1, MAX_NUMBER - 1, KEY, MAX_NUMBER)
        for value in (RECEIPT, nothing, most):
            self.assertEqual(codec.receipt(codec.pack(value)), value)

    def test_bounds_of_the_frame(self) -> None:
        [entry] = fields_of(Kind.RECEIPT)[0]
        signatures = ([bytes(64)], [bytes(63), bytes(65), "s" * 64, None])
        arrays = ([b"", bytes(MAX_RECEIPT)], [bytes(MAX_RECEIPT + 1), "", None])
        self.assert_bounds_within(Kind.RECEIPT, 0, entry, signatures, arrays, BYTES, BYTES)
        bad = [[[]], [[bytes(64)]], [None], None, {}]
        self.assert_bounds(Kind.RECEIPT, 0, [[], [[*entry, "later"]]], bad)

    def test_hops_is_all_that_a_relay_changes_and_it_saturates(self) -> None:
        for hops, further in ((0, 1), (254, 255), (255, 255)):
            signed = SignedReceipt(bytes(64), codec.pack(RECEIPT), hops, 7)
            self.assertEqual(signed.relayed(), SignedReceipt(bytes(64), codec.pack(RECEIPT), further, 7))

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
            fields = list(FIELDS)
            for one in good:
                fields[at] = one
                codec.receipt(pack(fields))
            for one in bad:
                fields[at] = one
                self.assert_no_receipt(pack(fields))

    def test_what_is_no_receipt_is_refused(self) -> None:
        for array in (b"", b"\x80", b"\xc0", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * MAX_RECEIPT):
            self.assert_no_receipt(array)
        self.assert_no_receipt(codec.pack(RECEIPT) + b"\0")
        self.assert_no_receipt(pack(FIELDS[:-1]))

    def test_fields_behind_the_known_ones_are_ignored(self) -> None:
        self.assertEqual(codec.receipt(pack([*FIELDS, 7, {"later": [None, b"x"]}])), RECEIPT)

    def test_the_largest_has_room_for_fields_of_later_versions(self) -> None:
        most = Receipt(bytes(32), MAX_NUMBER, MAX_NUMBER, MAX_NUMBER - 1, bytes(32), MAX_NUMBER)
        self.assertLess(len(codec.pack(most)), MAX_RECEIPT - 100)


class TestDirect(WireCase):
    def test_bounds(self) -> None:
        ends = (KEYS, NUMBERS, KEYS, NUMBERS)
        firsts = ([1, MAX_NUMBER - 999], [0, -1, MAX_NUMBER, None, "1"])  # two messages follow the first
        counts = ([1, MAX_DIRECTS], [0, MAX_DIRECTS + 1, -1, None])
        sealed = ([b"", bytes(9)], ["", None, 1])
        direct = (*ends, firsts, counts, SEQUENCES, BYTES, NUMBERS, sealed)
        ack = (*ends, SEQUENCES, BYTES)
        key = (*ack, ([b"", bytes(MAX_PRESENCE)], [bytes(MAX_PRESENCE + 1), "", None]))
        for kind, bounds in ((Kind.DIRECT, direct), (Kind.DIRECT_ACK, ack), (Kind.DIRECT_KEY, key)):
            for at, (good, bad) in enumerate(bounds):
                self.assert_bounds(kind, at, good, bad)

    def test_the_largest_message_fits_in_a_frame_and_may_be_larger_than_a_record(self) -> None:
        body = 5 + MAX_MESSAGE_BYTES  # an array of one message
        text = SealedText([SealedMessage(bytes(body), MAX_NUMBER, (KEY, MAX_NUMBER, -MAX_NUMBER))]).pack()
        sealed = bytes(32 + len(text) + 16)
        numbers = (MAX_NUMBER, 1, MAX_NUMBER, 255, MAX_NUMBER)
        most = Direct(KEY, MAX_NUMBER, OTHER, MAX_NUMBER, *numbers, sealed)
        signed = SignedRecord(most, bytes(64), codec.pack(most))
        self.assertGreater(len(signed.array), MAX_RECORD)
        self.assertLessEqual(codec.size(signed), MAX_FRAME_BYTES)
        self.assertEqual(decode(payload(encode(signed))), signed)
