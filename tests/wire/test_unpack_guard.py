"""The unpack guard refuses bodies that would take too long to unpack."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.wire.unpack_guard import MAX_DEPTH, MAX_NUMBER_KEYS, check

LOOK = b"\xdf\0\0\0\0"  # an empty dict with the head of a large one: now all is read
SIZES = (0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536)
NUMBERS = (0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**64 - 1)


def body(*values: bytes) -> bytes:
    """A body of one entry that holds *values*, and is read value by value."""
    return b"\x91\xdc" + (len(values) + 3).to_bytes(2, "big") + b"\0\0" + LOOK + b"".join(values)


class TestCheck(SynchronousTestCase):
    def assert_refused(self, *values: bytes) -> None:
        self.assertRaises(ValueError, check, body(*values))

    def test_bytes_without_a_large_dict_are_passed_over(self) -> None:
        for data in (b"", b"\xc1", b"\xde\x03\xff", b"\xdd\xff\xff\xff\xff", b"\x81\x90\1"):
            check(data)

    def test_all_that_packets_may_be_passes(self) -> None:
        values: list[Any] = [None, True, False, 0.0, 1.5, float("nan")]
        values += [n for number in NUMBERS for n in (number, -(number // 2) - 1)]
        for size in SIZES:
            values += ["x" * size, b"x" * size, [7] * size, dict.fromkeys(map(str, range(size)))]
        for value in values:
            packed = msgspec.msgpack.encode(value)
            check(body(packed, packed, b"\x91" + packed, b"\x81\xa1k" + packed))
            with self.assertRaises(ValueError):  # each value ends just where it does
                check(body(packed + b"\xc1", b"\0"))

    def test_scalars_pass_as_keys(self) -> None:
        for key in ("", "x" * 40, b"x", b"x" * 70_000, 5, 300, -1, 2**64 - 1, 1.5, None, True):
            check(body(b"\x82" + 2 * (msgspec.msgpack.encode(key) + b"\x90")))

    def test_lists_dicts_and_extensions_do_not_pass_as_keys(self) -> None:
        for key in (b"\x90", b"\x9f", b"\xdc\0\0", b"\x80", b"\xdf\0\0\0\0", b"\xd4\5x", b"\xc1"):
            self.assert_refused(b"\x81" + key + b"\0")
            self.assert_refused(b"\x91\x82\0\0" + key + b"\0")

    def test_extensions_do_not_pass(self) -> None:
        for head in (0xC1, 0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)):
            self.assert_refused(bytes((head,)) + bytes(20))

    def test_4096_numbers_as_keys_pass_and_no_more(self) -> None:
        for number in (b"\0", b"\x7f", b"\xe0", b"\xff", b"\xcc\0", b"\xd3" + bytes(8), b"\xca" + bytes(4)):
            for many in (MAX_NUMBER_KEYS, MAX_NUMBER_KEYS + 1):
                value = b"\xde" + many.to_bytes(2, "big") + (number + b"\0") * many
                if many == MAX_NUMBER_KEYS:
                    check(body(value, value))
                else:
                    self.assert_refused(value)

    def test_any_number_of_other_keys_passes(self) -> None:
        for key in (
            b"\xa1x",
            b"\xc4\1x",
            b"\xd9\1x",
            b"\xc0",
            b"\xc2",
            b"\xc3",
            b"\xa0",
            b"\xbf" + b"x" * 31,
        ):
            check(body(b"\xde\x20\0" + (key + b"\0") * 0x2000))

    def test_32_lists_and_dicts_pass_and_no_more(self) -> None:
        for level in (b"\x91", b"\xdc\0\1", b"\xdd\0\0\0\1", b"\x81\0", b"\xde\0\1\0", b"\xdf\0\0\0\1\0"):
            check(body(level * MAX_DEPTH + b"\0"))
            self.assert_refused(level * (MAX_DEPTH + 1) + b"\0")
            self.assert_refused(level * 100_000)

    def test_bytes_that_end_too_early_do_not_pass(self) -> None:
        whole = body(msgspec.msgpack.encode([1, {"k": [None]}, 300]))
        check(whole)
        for length in range(whole.index(LOOK) + 1, len(whole) - 2):
            self.assertRaises(ValueError, check, whole[:length])

    def test_a_claimed_size_takes_no_time(self) -> None:
        for head in (b"\xdd", b"\xdf"):
            self.assert_refused(head + b"\xff" * 4)
