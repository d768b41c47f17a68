"""The own stream: its batches are numbered, signed, and unsent until a neighbour has them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import DIGEST, entries, origin_of, signature_of, verify
from tests.support.bodies import unpack_entries
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.history.history import History
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT, SignedBatch
from twisted_mesh.wire.framing import MAX_FRAME_BYTES, FrameReader
from twisted_mesh.wire.unpack_guard import MAX_CONTAINERS

ANNA = origin_of("anna")


class OutboxTestCase(SynchronousTestCase):
    """An outbox whose batches are closed at 100 bytes."""

    def setUp(self) -> None:
        self.make(100)

    def make(self, batch_bytes: int) -> None:
        """Begin anew with another size of batches."""
        self.outbox = Outbox(ANNA, 5, DIGEST, lambda text: signature_of(ANNA, text), batch_bytes)

    def publish(self, *texts: object) -> list[SignedBatch]:
        """Publish a message for each of *texts*, at 9 ms of the author's clock."""
        return list(self.outbox.publish(entries(*texts), 9))

    def spans(self, batches: list[SignedBatch]) -> list[tuple[int, int]]:
        """The first and the last message of each batch."""
        return [(signed.batch.first, signed.batch.last) for signed in batches]


class TestPublish(OutboxTestCase):
    """The messages of a turn become batches."""

    def test_nothing_is_published_yet(self) -> None:
        self.assertEqual((self.outbox.head, self.outbox.accepted, self.outbox.unsent_bytes), (0, 0, 0))
        self.assertEqual(len(self.outbox), 0)
        self.assertEqual(self.outbox.run, (ANNA, 5))

    def test_messages_of_a_turn_are_one_signed_batch(self) -> None:
        (signed,) = self.publish("a", "b", "c")
        batch = signed.batch
        self.assertEqual((batch.origin, batch.epoch, batch.first, batch.count), (ANNA, 5, 1, 3))
        self.assertEqual((batch.sent, batch.encoding, signed.hops), (9, 0, 0))
        self.assertEqual([entry[2] for entry in unpack_entries(signed.body, 3)], ["a", "b", "c"])
        self.assertTrue(verify(ANNA, signed.signature, codec.batch_text(DIGEST, signed.header.hash)))
        self.assertEqual(codec.decode(codec.encode(signed)[4:]), signed)

    def test_numbers_go_on_from_turn_to_turn(self) -> None:
        self.assertEqual(self.spans(self.publish("a", "b")), [(1, 2)])
        self.assertEqual(self.spans(self.publish("c")), [(3, 3)])
        self.assertEqual(self.outbox.head, 3)

    def test_what_is_confirmed_has_no_hole(self) -> None:
        self.publish(*"abcd")
        for low, high, confirmed in ((1, 2, 2), (4, 4, 2), (1, 1, 2), (3, 9, 4), (5, 4, 4)):
            self.outbox.confirm(low, high)
            self.assertEqual(self.outbox.confirmed, confirmed)

    def test_a_turn_without_messages_publishes_nothing(self) -> None:
        self.assertEqual(self.publish(), [])
        self.assertEqual((self.outbox.head, len(self.outbox)), (0, 0))

    def test_a_batch_ends_with_the_message_that_brings_it_to_its_size(self) -> None:
        size = len(entries("x" * 20)[0])
        self.assertEqual(4 * size, 96)
        batches = self.publish(*["x" * 20] * 11)
        self.assertEqual(self.spans(batches), [(1, 5), (6, 10), (11, 11)])
        self.assertEqual(len(self.outbox), 3)

    def test_a_batch_ends_before_the_message_that_no_frame_has_room_for(self) -> None:
        self.make(2**20)
        batches = self.publish(*["x" * (2**19 - 8)] * 3, *["x" * 2**19] * 2)
        self.assertEqual(self.spans(batches), [(1, 2), (3, 3), (4, 4), (5, 5)])
        for signed in batches:
            self.assertEqual(
                list(FrameReader(MAX_FRAME_BYTES).feed(codec.encode(signed))), [codec.encode(signed)[4:]]
            )

    def test_what_just_fits_is_in_the_batch(self) -> None:
        size = len(entries("x" * 20)[0])
        self.make(3 * size)
        self.assertEqual(self.spans(self.publish(*["x" * 20] * 4)), [(1, 3), (4, 4)])

    def test_a_larger_message_is_a_batch_of_its_own(self) -> None:
        self.assertEqual(self.spans(self.publish("a", "x" * 200, "b")), [(1, 1), (2, 2), (3, 3)])

    def test_a_batch_is_closed_at_its_count(self) -> None:
        self.make(2**20)
        most = MAX_BATCH_COUNT
        batches = list(self.outbox.publish(entries("") * (most + 2), 9))
        self.assertEqual(self.spans(batches), [(1, most), (most + 1, most + 2)])

    def test_a_batch_is_closed_at_its_lists_and_dicts(self) -> None:
        self.make(2**20)
        many = MAX_CONTAINERS // 4 - 1
        batches = self.publish("a", *[[{}] * many] * 5, "b", [[]] * (MAX_CONTAINERS - 1), *"cd")
        self.assertEqual(self.spans(batches), [(1, 5), (6, 7), (8, 10)])
        for signed in batches:
            unpack_entries(signed.body, signed.batch.count)

    def test_messages_that_were_not_accepted_can_be_published_again(self) -> None:
        self.make(2**20)
        history = History(MeshConfig())
        for _ in range(3):
            for signed in self.publish("a", *[[{}] * (MAX_CONTAINERS // 2)]):
                history.add(signed, 0)
        again = list(self.outbox.publish(self.outbox.unsent(history), 9))
        self.assertEqual([signed.batch.count for signed in again], [3, 2, 1])
        for signed in again:
            unpack_entries(signed.body, signed.batch.count)


class TestTaken(OutboxTestCase):
    """The outbox knows which messages no neighbour has, since these must not be given up."""

    def setUp(self) -> None:
        super().setUp()
        batches = [*self.publish("a", "b"), *self.publish("c"), *self.publish("d", "e")]
        self.sizes = [signed.size for signed in batches]

    def unsent(self) -> tuple[int, int, int]:
        """The highest message that a neighbour has; the batches and bytes above it."""
        return self.outbox.accepted, len(self.outbox), self.outbox.unsent_bytes

    def test_what_no_neighbour_has_is_unsent(self) -> None:
        self.assertEqual(self.unsent(), (0, 3, sum(self.sizes)))

    def test_what_a_neighbour_has_is_not(self) -> None:
        self.outbox.accept(3)
        self.assertEqual(self.unsent(), (3, 1, self.sizes[2]))
        self.outbox.accept(5)
        self.assertEqual(self.unsent(), (5, 0, 0))

    def test_a_slower_neighbour_takes_nothing_back(self) -> None:
        self.outbox.accept(3)
        self.outbox.accept(2)
        self.assertEqual(self.unsent(), (3, 1, self.sizes[2]))

    def test_a_batch_is_unsent_until_a_neighbour_has_it_whole(self) -> None:
        self.outbox.accept(1)
        self.assertEqual(self.unsent(), (0, 3, sum(self.sizes)))
        self.outbox.accept(4)
        self.assertEqual(self.unsent(), (3, 1, self.sizes[2]))

    def test_a_claim_of_what_was_never_said_counts_for_nothing_said_later(self) -> None:
        # Claims are unsigned: one neighbour's lie must not cover all messages ever published.
        self.outbox.accept(2**62)
        self.assertEqual(self.unsent(), (5, 0, 0))
        (signed,) = self.publish("f")
        self.assertEqual(self.unsent(), (5, 1, signed.size))
