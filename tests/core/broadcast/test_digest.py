"""Where two histories differ: a hash for each bucket of origins."""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.core.broadcast.frontier import BUCKETS, bucket_of, differing, digest
from twisted_mesh.core.events import StreamId
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Bucket, Digest
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.framing import LENGTH_BYTES

HASH = bytes(range(32))


def run_of(first_byte: int, epoch: int = 1, rest: int = 0) -> StreamId:
    """A run whose origin begins with *first_byte*."""
    return bytes((first_byte, rest)) + bytes(30), epoch


class TestDigest(SynchronousTestCase):
    """One frame for all that is held."""

    def test_of_nothing_it_is_empty(self) -> None:
        self.assertEqual(digest([]), Digest([]))

    def test_a_bucket_is_the_first_byte_by_four(self) -> None:
        numbers = [bucket_of(run_of(byte)) for byte in range(256)]
        self.assertEqual(numbers, [byte // 4 for byte in range(256)])
        self.assertEqual(set(numbers), set(range(BUCKETS)))

    def test_a_bucket_is_hashed_in_the_order_of_origins_and_epochs(self) -> None:
        one, two, three = run_of(8, 2**40), run_of(8, 2**40 + 1), run_of(9, 3)
        text = b"".join(
            run[0] + run[1].to_bytes(8, "big") + head.to_bytes(8, "big") + header
            for run, head, header in ((one, 7, HASH), (two, MAX_NUMBER, bytes(32)), (three, 1, HASH))
        )
        expected = Digest([Bucket(2, hashlib.sha256(text).digest())])
        self.assertEqual(digest([(three, 1, HASH), (one, 7, HASH), (two, MAX_NUMBER, b"")]), expected)

    def test_buckets_are_in_order_and_empty_ones_left_out(self) -> None:
        made = digest([(run_of(255), 1, b""), (run_of(0), 1, b""), (run_of(100), 1, b"")])
        self.assertEqual([bucket.number for bucket in made.buckets], [0, 25, 63])

    def test_the_largest_fits_in_a_frame_and_can_be_read(self) -> None:
        made = digest((run_of(byte, MAX_NUMBER), MAX_NUMBER, HASH) for byte in range(256))
        self.assertEqual(len(made.buckets), BUCKETS)
        self.assertEqual(codec.decode(codec.encode(made)[LENGTH_BYTES:]), made)


class TestDiffering(SynchronousTestCase):
    """What must be told to a peer whose digest is another."""

    heads = [(run_of(0), 5, HASH), (run_of(1), 6, b""), (run_of(100), 7, HASH), (run_of(255), 8, HASH)]

    def differ(self, theirs: list[tuple[StreamId, int, bytes]]) -> list[StreamId]:
        """The runs of ours that are told, if the peer holds *theirs*."""
        return list(differing(iter(self.heads), digest(theirs)))

    def test_of_equals_nothing_is_told(self) -> None:
        self.assertEqual(self.differ(self.heads), [])
        self.assertEqual(self.differ(self.heads[::-1]), [])

    def test_all_of_an_unequal_bucket_is_told_and_nothing_else(self) -> None:
        self.assertEqual(self.differ([(run_of(0), 4, HASH), *self.heads[1:]]), [run_of(0), run_of(1)])
        self.assertEqual(self.differ([*self.heads[:3], (run_of(255), 9, HASH)]), [run_of(255)])

    def test_another_hash_of_the_header_at_a_head_is_a_difference(self) -> None:
        for hash in (b"", bytes(32)[1:] + b"x"):
            self.assertEqual(self.differ([*self.heads[:3], (run_of(255), 8, hash)]), [run_of(255)])

    def test_an_epoch_is_a_difference(self) -> None:
        self.assertEqual(self.differ([*self.heads[:3], (run_of(255, 2), 8, HASH)]), [run_of(255)])

    def test_what_they_have_more_of_makes_the_bucket_unequal(self) -> None:
        # Told of ours they see what we lack: the digest alone names no stream.
        self.assertEqual(self.differ([*self.heads, (run_of(101), 1, HASH)]), [run_of(100)])

    def test_a_bucket_they_have_nothing_in_is_told(self) -> None:
        self.assertEqual(self.differ([]), [run for run, _, _ in self.heads])

    def test_a_bucket_only_they_have_something_in_tells_nothing(self) -> None:
        self.assertEqual(self.differ([*self.heads, (run_of(50), 1, HASH)]), [])

    def test_a_bucket_named_twice_is_no_error(self) -> None:
        whole = digest(self.heads)
        twice = Digest([Bucket(0, bytes(32)), *whole.buckets])
        self.assertEqual(list(differing(self.heads, twice)), [])
