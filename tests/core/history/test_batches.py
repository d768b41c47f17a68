"""Batches in memory: they are read as they came, and take no more memory than is counted for them."""

from __future__ import annotations

import tracemalloc
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import DIGEST, origin_of, signature_of
from tests.properties.profile import fixed
from twisted_mesh.core.history.batches import Batches
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Batch, SignedBatch
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.framing import LENGTH_BYTES
from twisted_mesh.wire.signed import MAX_HOPS

ANNA = origin_of("anna")


def signed(first: int, body: bytes, *, count: int = 1, previous: bytes = bytes(32)) -> SignedBatch:
    """A batch as its author makes it."""
    batch = Batch(ANNA, 2**41, first, count, 2**41, 0, previous)
    return codec.sign_batch(batch, body, DIGEST, lambda text: signature_of(ANNA, text))


def received(first: int, body: bytes, *, hops: int = 0, **fields: int | bytes) -> SignedBatch:
    """A batch as a link brings it."""
    sent = signed(first, body, **fields)  # type: ignore[arg-type]
    return codec.unpack_batch(b"\x05%c" % hops + codec.encode(sent)[LENGTH_BYTES + 2 :])


def size_of_a_batch(size: int, many: int) -> tuple[float, float]:
    """Bytes of memory of each of *many* batches with bodies of *size* bytes, and what is counted for it."""
    random, batches = Random(size), Batches()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for first in range(1, many + 1):
            came = received(first, random.randbytes(size), previous=random.randbytes(32))
            _ = came.header  # a node verifies it
            batches.join(came, float(first))
            del came
        took, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (took - before) / many, batches.held_bytes / many


class TestBatches(SynchronousTestCase):
    def test_small_batches_take_no_more_memory_than_is_counted_for_them(self) -> None:
        for size in (70, 10_000):
            took, counted = size_of_a_batch(size, 345)  # so many that the table has just grown
            self.assertLess(took, counted)
            self.assertLess(counted, took + 100)

    def test_large_batches_take_hardly_more_memory_than_is_counted_for_them(self) -> None:
        took, counted = size_of_a_batch(65_536, 8)
        self.assertLess(took, 1.03 * counted)

    @fixed
    @given(
        st.integers(1, MAX_NUMBER - 17_000),
        st.integers(1, 16_384),
        st.binary(max_size=300) | st.integers(16_000, 17_000).map(bytes),
        st.integers(0, MAX_HOPS),
        st.binary(min_size=32, max_size=32),
    )
    @example(1, 1, bytes(16_383 - 200), 0, bytes(32))
    def test_a_batch_is_read_as_it_came_however_it_was_kept(
        self, first: int, count: int, body: bytes, hops: int, previous: bytes
    ) -> None:
        for batch in (
            signed(first, body, count=count, previous=previous),
            received(first, body, hops=hops, count=count, previous=previous),
        ):
            batches = Batches()
            batches.join(batch, 1.0)
            (read,) = batches.read(first, first, 0)
            self.assertEqual((read, batches.get(first)), (batch, batch))
            self.assertEqual(read.header, batch.header)
            self.assertEqual(codec.encode(read), codec.encode(batch))
            self.assertEqual(batches.drop_oldest(), (first, first + count - 1))
            self.assertEqual(batches.held_bytes, 0)
