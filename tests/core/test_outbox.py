"""The own stream: numbered, signed, and kept until a neighbour has it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import DIGEST, entries, origin_of, signature_of, verify
from twisted_mesh.core.outbox import Outbox
from twisted_mesh.wire import native
from twisted_mesh.wire.packets import unpack_entries

ANNA = origin_of("anna")


class OutboxTestCase(SynchronousTestCase):
    """An outbox whose batches are closed at 100 bytes."""

    def setUp(self) -> None:
        self.outbox = Outbox(ANNA, 5, DIGEST, lambda text: signature_of(ANNA, text), 100)

    def publish(self, *texts: object) -> None:
        """Publish a message for each of *texts*, at 9 ms of the author's clock."""
        self.outbox.publish(entries(*texts), 9)

    def spans(self) -> list[tuple[int, int]]:
        """The first and the last message of each batch from the oldest on."""
        at, found = self.outbox.oldest - 1, []
        while (signed := self.outbox.after(at)) is not None:
            at = signed.batch.last
            found.append((signed.batch.first, at))
        self.assertEqual(at, self.outbox.head)
        self.assertEqual(len(found), len(self.outbox))
        return found

    def bytes_of(self, *firsts: int) -> int:
        """The bytes of the batches that begin with *firsts*."""
        return sum(len(self.outbox.after(first - 1).array) for first in firsts)  # type: ignore[union-attr]


class TestPublish(OutboxTestCase):
    """Messages become batches."""

    def test_nothing_is_published_yet(self) -> None:
        self.assertEqual(self.spans(), [])
        self.assertEqual((self.outbox.oldest, self.outbox.head, self.outbox.taken), (1, 0, 0))

    def test_messages_of_a_turn_are_one_signed_batch(self) -> None:
        self.publish("a", "b", "c")
        signed = self.outbox.after(0)
        assert signed is not None
        batch = signed.batch
        self.assertEqual((batch.origin, batch.epoch, batch.first, batch.count), (ANNA, 5, 1, 3))
        self.assertEqual((batch.sent, batch.encoding, signed.hops), (9, 0, 0))
        self.assertEqual([entry[2] for entry in unpack_entries(batch.body, 3)], ["a", "b", "c"])
        self.assertTrue(verify(ANNA, signed.signature, native.signed_text(DIGEST, signed.array)))
        self.assertEqual(native.decode(native.encode(signed)[4:]), signed)

    def test_numbers_go_on_from_turn_to_turn(self) -> None:
        self.publish("a", "b")
        self.publish("c")
        self.assertEqual(self.spans(), [(1, 2), (3, 3)])

    def test_a_turn_without_messages_publishes_nothing(self) -> None:
        self.publish()
        self.assertEqual(self.spans(), [])

    def test_a_batch_is_closed_at_its_size(self) -> None:
        size = len(entries("x" * 20)[0])
        self.publish(*["x" * 20] * 9)
        self.assertEqual(self.spans(), [(1, 100 // size), (100 // size + 1, 8), (9, 9)])

    def test_a_batch_may_be_full_to_the_byte(self) -> None:
        self.assertEqual(len(entries("x" * 21)[0]) * 4, 100)
        self.publish(*["x" * 21] * 9)
        self.assertEqual(self.spans(), [(1, 4), (5, 8), (9, 9)])

    def test_a_larger_message_is_a_batch_of_its_own(self) -> None:
        self.publish("a", "x" * 200, "b")
        self.assertEqual(self.spans(), [(1, 1), (2, 2), (3, 3)])

    def test_a_batch_is_closed_at_its_count(self) -> None:
        self.outbox = Outbox(ANNA, 5, DIGEST, lambda text: signature_of(ANNA, text), 2**20)
        most = native.MAX_BATCH_COUNT
        self.outbox.publish(entries("") * (most + 2), 9)
        self.assertEqual(self.spans(), [(1, most), (most + 1, most + 2)])


class TestKeeping(OutboxTestCase):
    """What is kept, and for whom."""

    def setUp(self) -> None:
        super().setUp()
        self.publish("a", "b")
        self.publish("c")
        self.publish("d", "e")
        self.sizes = [self.bytes_of(1), self.bytes_of(3), self.bytes_of(4)]

    def test_what_no_link_has_taken_is_unsent(self) -> None:
        self.assertEqual((self.outbox.unsent_bytes, self.outbox.lagging_bytes), (sum(self.sizes), 0))

    def test_what_a_link_has_taken_is_kept_for_those_behind(self) -> None:
        self.outbox.accepted(3)
        self.assertEqual(self.outbox.taken, 3)
        self.assertEqual(self.outbox.unsent_bytes, self.sizes[2])
        self.assertEqual(self.outbox.lagging_bytes, self.sizes[0] + self.sizes[1])
        self.assertEqual(len(self.spans()), 3)

    def test_a_slower_link_takes_nothing_back(self) -> None:
        self.outbox.accepted(3)
        self.outbox.accepted(2)
        self.assertEqual((self.outbox.taken, self.outbox.unsent_bytes), (3, self.sizes[2]))

    def test_what_no_link_needs_is_forgotten(self) -> None:
        self.outbox.accepted(3)
        self.outbox.release(2)
        self.assertEqual(self.outbox.oldest, 3)
        self.assertIsNone(self.outbox.after(0))
        self.assertEqual(self.spans(), [(3, 3), (4, 5)])
        self.assertEqual(self.outbox.lagging_bytes, self.sizes[1])

    def test_what_no_link_has_taken_is_never_forgotten(self) -> None:
        self.outbox.accepted(2)
        self.outbox.release(5)
        self.assertEqual(self.spans(), [(3, 3), (4, 5)])
        self.assertEqual((self.outbox.oldest, self.outbox.lagging_bytes), (3, 0))

    def test_all_taken_and_all_forgotten_leaves_nothing(self) -> None:
        self.outbox.accepted(5)
        self.outbox.release(5)
        self.assertEqual(self.spans(), [])
        self.assertEqual((self.outbox.unsent_bytes, self.outbox.lagging_bytes), (0, 0))
        self.assertEqual(self.outbox.oldest, 6)
        self.publish("f")
        self.assertEqual(self.spans(), [(6, 6)])
