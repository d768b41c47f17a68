"""The beginning of a BATCH tells which messages are coming, and never impossible ones."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.samples import IDENTITY, payload, signed
from twisted_mesh.wire import codec
from twisted_mesh.wire.begun import HEAD_BYTES, Begun, begun
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT, Batch, Have, Prune
from twisted_mesh.wire.fields import MAX_NUMBER, Kind
from twisted_mesh.wire.link import Ping

ORIGIN = IDENTITY.origin
NUMBERS = (0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, MAX_NUMBER - MAX_BATCH_COUNT)


def head(epoch: int = 5, first: int = 7, count: int = 3) -> bytes:
    """The payload of a BATCH."""
    batch = Batch(ORIGIN, epoch, first, count, 1000, 0, bytes(32))
    return payload(codec.encode(signed(batch, b"body" * 50)))


class TestBegun(SynchronousTestCase):
    """Messages 7 to 9 of a run."""

    def test_the_numbers_of_a_batch_are_read_from_its_beginning(self) -> None:
        for epoch in NUMBERS:
            for first in NUMBERS[1:]:
                for count in (1, 127, 128, 256, MAX_BATCH_COUNT):
                    expected = Begun(ORIGIN, epoch, first, first + count - 1)
                    self.assertEqual(begun(head(epoch, first, count)[:HEAD_BYTES]), expected)

    def test_until_they_are_there_nothing_is_said(self) -> None:
        for numbers in ((5, 7, 3), (2**40, 2**20, 300), (2**62 - 1, 2**61, MAX_BATCH_COUNT)):
            whole = head(*numbers)
            read = [begun(whole[:size]) for size in range(HEAD_BYTES + 1)]
            there = next(size for size, one in enumerate(read) if one is not None)
            self.assertEqual(read[:there], [None] * there)
            self.assertEqual(set(read[there:]), {begun(whole)})

    def test_other_frames_are_no_batch(self) -> None:
        for frame in (Ping(1), Prune([ORIGIN]), Have([], False)):
            self.assertIsNone(begun(payload(codec.encode(frame))))
        self.assertIsNone(begun(b""))

    def test_an_array_with_a_longer_head_is_read_likewise(self) -> None:
        whole = head(5, 7, 3)
        self.assertEqual(whole[67], 0x97)
        self.assertEqual(begun(whole[:67] + b"\xdc\0\7" + whole[68:]), Begun(ORIGIN, 5, 7, 9))

    def test_what_is_no_number_is_not_believed(self) -> None:
        at = head().index(b"\5\7\3")
        for kind in (0x80, 0x90, 0xA1, 0xC0, 0xC4, 0xCA, 0xD0, 0xD3, 0xFF):
            for place in range(3):
                numbers = bytearray(b"\5\7\3")
                numbers[place] = kind
                self.assertIsNone(begun(head()[:at] + bytes(numbers) + bytes(30)), (kind, place))

    def test_nor_is_an_origin_of_another_length(self) -> None:
        whole = head()
        for start in (b"\xc4\x1f", b"\xc4\x21", b"\xa0\x20", b"\xc5\0"):
            self.assertIsNone(begun(whole[:68] + start + whole[70:]))

    def test_whatever_bytes_come_it_says_something_or_nothing(self) -> None:
        random = Random(1)
        whole = head(2**40, 2**20, 300)
        for _ in range(5000):
            data = bytearray(whole[: random.randrange(len(whole))])
            for _ in range(random.randrange(4)):
                if data:
                    data[random.randrange(len(data))] = random.choice(
                        (0, 0x7F, 0x80, 0xCC, 0xCF, 0xDC, 0xFF)
                    )
            read = begun(bytes(data))
            if read is not None:
                self.assertTrue(0 < read.first <= read.last < read.first + MAX_BATCH_COUNT)
                self.assertEqual(len(read.origin), 32)

    def test_numbers_that_no_batch_may_have_are_not_believed(self) -> None:
        # If this node told such numbers on, honest neighbours would blame it.
        def head(epoch: int, first: int, count: int) -> bytes:
            numbers = b"".join(b"\xcf" + number.to_bytes(8, "big") for number in (epoch, first, count))
            return bytes((Kind.BATCH, 0)) + bytes(64) + b"\x64\x97\xc4\x20" + bytes(32) + numbers

        self.assertIsNotNone(begun(head(MAX_NUMBER, 1, 9)))
        counts = [(1, 1, 0), (1, 1, MAX_BATCH_COUNT + 1)]
        for wrong in (
            *counts,
            (MAX_NUMBER + 1, 1, 9),
            (1, 0, 9),
            (1, MAX_NUMBER - 1, 2),
            (1, MAX_NUMBER, 1),
        ):
            self.assertIsNone(begun(head(*wrong)))
