"""Named consumers of which several messages are out at a time, until they are acknowledged."""

from __future__ import annotations

import random
from typing import Any

from tests.delivery.test_named import KEPT, NamedCase
from tests.support.length import at_length
from tests.support.meshcase import MIB
from twisted_mesh.delivery.in_flight import MOST, InFlight
from twisted_mesh.delivery.named import KEPT_GAPS, Key, key_of
from twisted_mesh.delivery.named_consumers import KEPT_SECONDS
from twisted_mesh.errors import NotRunning
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService

ACTIONS = ("send", "send", "read", "read", "acknowledge", "leave", "return", "restart")


def nothing() -> None:
    """What most of these consumers do when there are messages."""


class InFlightCase(NamedCase):
    def opened(self, service: MeshService, start: str | float = "new") -> InFlight:
        """The consumer "billing", which is closed with the test."""
        consumer = service.hand_out("billing", nothing, start)
        self.addCleanup(consumer.close)
        return consumer

    def out(self, consumer: InFlight, most: int = 2 * MOST) -> list[Message]:
        """Messages that are handed out, up to *most*."""
        got: list[Message] = []
        while len(got) < most and (message := consumer.next()) is not None:
            got.append(message)
        return got

    def packets(self, messages: list[Message]) -> list[Any]:
        return [message.packets[1] for message in messages]

    def key(self, author: MeshService, number: int) -> Key:
        return author.id, author.status().node.epoch, number


class TestAcknowledging(InFlightCase):
    def test_a_message_is_taken_when_it_or_one_behind_it_is_acknowledged(self) -> None:
        a, b = self.pair()
        consumer = self.opened(b)
        self.send(a, *range(5))
        messages = self.out(consumer)
        self.assertEqual((self.packets(messages), len(consumer)), ([*range(5)], 5))
        self.assertEqual(self.lags(b), {"billing": 5})
        self.assertTrue(consumer.acknowledge(self.key(a, 3)))
        self.assertEqual((self.lags(b), len(consumer)), ({"billing": 2}, 2))
        self.assertFalse(consumer.acknowledge(self.key(a, 3)))
        self.assertEqual(
            (consumer.has_taken(self.key(a, 3)), consumer.has_taken(self.key(a, 4))), (True, False)
        )
        self.assertFalse(consumer.acknowledge((b"nobody", 1, 5)))
        self.assertEqual(self.lags(b), {"billing": 2})

    def test_messages_that_are_out_come_again_to_the_next_owner(self) -> None:
        a, b = self.pair()
        consumer = self.opened(b)
        self.send(a, *range(5))
        self.out(consumer, 3)
        consumer.acknowledge(self.key(a, 1))
        consumer.close()
        self.assertEqual((consumer.has_ended, consumer.next()), (True, None))
        self.assertFalse(consumer.acknowledge(self.key(a, 2)))
        self.assertEqual(self.ready(b.messages(name="billing")), [1, 2, 3, 4])

    def test_the_next_owner_acknowledges_them_in_the_order_in_which_they_were_handed_out(self) -> None:
        a, b = self.pair()
        c = self.node()
        self.link((c, b))
        consumer = self.opened(b)
        for number in range(3):
            self.send(a, f"a{number}")
            self.send(c, f"c{number}")
        self.assertEqual(self.packets(self.out(consumer)), ["a0", "c0", "a1", "c1", "a2", "c2"])
        consumer.close()
        again = self.opened(b)
        self.assertTrue(again.acknowledge(self.key(a, 2)))
        self.assertEqual(sorted(self.packets(self.out(again))), ["a2", "c1", "c2"])

    def test_one_owner_after_another_can_acknowledge_and_be_handed_nothing(self) -> None:
        a, b = self.pair()
        consumer = self.opened(b)
        self.send(a, *range(5))
        self.out(consumer)
        for number in (1, 3):
            consumer.close()
            consumer = self.opened(b)
            self.assertTrue(consumer.acknowledge(self.key(a, number)))
        self.assertEqual(b.footprint()["unacknowledged_messages"], 2)
        self.assertEqual(self.packets(self.out(consumer)), [3, 4])

    def test_an_owner_for_each_message_does_not_read_the_history_for_each(self) -> None:
        a, b = self.pair()
        b.messages(name="billing").close()
        self.send(a, *range(30))
        reads: list[object] = []
        node = self.parts_of(b).driver.node
        read = node.read

        def counted(*arguments: Any) -> Any:
            reads.append(arguments)
            return read(*arguments)

        self.patch(node, "read", counted)
        for number in range(30):
            consumer = self.opened(b)
            if number:
                self.assertTrue(consumer.acknowledge(self.key(a, number)))
            self.assertEqual(self.packets(self.out(consumer, 1)), [number])
            consumer.close()
        self.assertLess(len(reads), 3)

    def test_what_is_kept_for_the_next_owner_is_bounded_in_time_and_bytes(self) -> None:
        a, b = self.pair()
        for size, seconds, kept in ((10, 0, 3), (MIB * 4 // 5, 0, 0), (10, KEPT_SECONDS + 1, 3)):
            consumer = self.opened(b)
            self.send(a, *(f"{number}" + "x" * size for number in range(3)), after=1)
            self.out(consumer, 1)
            consumer.close()
            self.assertEqual(b.footprint()["queued_messages"], kept)
            self.network.advance(seconds)
            self.assertEqual(b.footprint()["queued_messages"], 0 if seconds else kept)
            consumer = self.opened(b)
            self.assertEqual(b.footprint()["queued_messages"], 0 if seconds else kept)
            for number in "012":
                (message,) = self.out(consumer, 1)
                self.assertEqual(message.packets[1][0], number)
                consumer.acknowledge(key_of(message))  # type: ignore[arg-type]
            consumer.close()

    def test_consumers_that_were_closed_one_after_the_other_are_let_go_in_turn(self) -> None:
        a, b = self.pair()
        consumers = [b.hand_out(name, lambda: None, "new") for name in ("x", "y", "z")]
        self.send(a, *range(3), after=1)
        for consumer in consumers:
            self.out(consumer, 1)
            consumer.close()
            self.network.advance(4)
        kept = []
        for _ in range(3):
            kept.append(b.footprint()["queued_messages"])
            self.network.advance(3)
        self.assertEqual(kept, [6, 3, 0])
        b.forget_consumer("x")
        again = b.hand_out("y", lambda: None, "new")
        self.assertEqual(self.packets(self.out(again)), [0, 1, 2])

    def test_a_whisper_that_was_not_handed_out_is_not_taken_with_a_message_that_was(self) -> None:
        a, b = self.pair()
        consumer = self.opened(b)
        self.send(a, 0, 1)
        self.assertEqual(self.packets(self.out(consumer, 1)), [0])
        a.send("whisper", flag=2)
        self.network.pump()
        consumer.close()
        self.network.advance(KEPT_SECONDS + 1)
        consumer = self.opened(b)
        self.assertTrue(consumer.acknowledge(self.key(a, 1)))
        self.assertEqual(self.packets(self.out(consumer)), ["whisper", 1])

    def test_what_was_acknowledged_stays_taken_after_a_crash(self) -> None:
        a, b = self.pair(limits=KEPT)
        consumer = self.opened(b)
        self.send(a, *range(5), after=1)
        self.out(consumer)
        consumer.acknowledge(self.key(a, 3))
        self.network.advance(1)
        self.crashed("node", "copy")
        self.kill(b)
        c = self.started("copy", limits=KEPT)
        self.assertEqual(self.packets(self.out(self.opened(c))), [3, 4])

    def test_direct_messages_are_acknowledged_by_their_numbers_and_whispers_by_themselves(self) -> None:
        a, b = self.pair()
        consumer = self.opened(b)
        a.send("whisper", flag=2)
        self.network.pump()
        self.assertEqual((self.packets(self.out(consumer)), len(consumer)), (["whisper"], 0))
        self.result_of(a.send_to(b.id, "direct"), after=1)
        a.send("whisper", flag=2)
        self.send(a, "all")
        messages = self.out(consumer)
        self.assertEqual(self.packets(messages), ["direct", "whisper", "all"])
        self.assertTrue(consumer.acknowledge(self.key(a, -1)))
        self.assertEqual(len(consumer), 1)
        self.result_of(a.send_to(b.id, "another"), after=1)
        self.out(consumer)
        consumer.close()
        again = self.opened(b)
        self.assertFalse(again.acknowledge(self.key(a, -9)))
        self.assertTrue(again.acknowledge(self.key(a, -2)))
        self.assertEqual((self.out(again), self.lags(b)), ([], {"billing": 0}))

    def test_room_for_direct_messages_is_told_when_they_are_acknowledged_by_the_next_owner(self) -> None:
        a, b = self.pair(limits={"queue_limit": 2})
        consumer = self.opened(b)
        for number in range(2):
            self.result_of(a.send_to(b.id, number), after=1)
        self.out(consumer)
        consumer.close()
        consumer = self.opened(b)
        self.result_of(a.send_to(b.id, "third"), after=1)
        waiting = a.send_to(b.id, "fourth")
        self.network.advance(1)
        self.assertNoResult(waiting)
        self.assertTrue(consumer.acknowledge(self.key(a, -2)))
        self.network.advance(5)
        self.successResultOf(waiting)
        self.assertEqual(self.packets(self.out(consumer)), ["third", "fourth"])

    def test_a_service_that_stops_ends_it_and_takes_what_is_acknowledged_meanwhile(self) -> None:
        a, b = self.pair(limits=KEPT)
        told: list[None] = []
        consumer = b.hand_out("billing", lambda: told.append(None))
        self.send(a, *range(5))
        self.out(consumer)
        told.clear()
        stopped = b.stopService()
        self.assertEqual((told, consumer.has_ended, consumer.next()), ([None], True, None))
        self.assertTrue(consumer.acknowledge(self.key(a, 2)))
        self.result_of(stopped, after=3)
        consumer.close()
        with self.assertRaises(NotRunning):
            b.hand_out("billing", nothing)
        again = self.started(limits=KEPT)
        self.assertEqual(self.packets(self.out(self.opened(again))), [2, 3, 4])


class TestBounds(InFlightCase):
    def test_too_many_bytes_wait_too_and_a_large_message_comes_all_the_same(self) -> None:
        a, b = self.pair()
        consumer = self.opened(b)
        self.send(a, "x" * 1_000_000, "y" * 1_000_000, "z", after=1)
        self.assertEqual([packet[0] for packet in self.packets(self.out(consumer))], ["x", "y"])
        consumer.acknowledge(self.key(a, 2))
        self.assertEqual(self.packets(self.out(consumer)), ["z"])

    def test_of_many_gaps_the_newest_are_told_to_a_later_owner_each_once(self) -> None:
        _, b = self.pair()
        b.messages(name="billing").close()
        (queue,) = self.parts_of(b)._delivery.named.queues.values()
        for number in range(KEPT_GAPS + 5):
            queue.missing((b"a" * 32, 1), number, number)
        self.assertEqual(b.footprint()["consumer_gaps"], KEPT_GAPS)
        consumer = self.opened(b)
        self.assertEqual([gap.first for gap in consumer.gaps()], [*range(5, KEPT_GAPS + 5)])
        self.assertEqual(list(consumer.gaps()), [])


class TestEverything(InFlightCase):
    def test_whatever_its_owners_do_nothing_is_missed_and_only_what_was_out_comes_twice(self) -> None:
        for seed in range(at_length(8, 2)):
            self._play(random.Random(seed))

    def _play(self, random: random.Random) -> None:
        names = [f"{random.random()}" for _ in range(3)]
        b = self.started(names[0], limits=KEPT)
        authors = [self.node() for _ in range(2)]
        self.link(*((author, b) for author in authors))
        consumer = self.opened(b)
        sent: list[int] = []
        order: list[Message] = []  # what the present owner was handed out
        taken: set[int] = set()
        for step in range(150):
            match random.choice(ACTIONS):
                case "send":
                    sent.append(step)
                    self.send(random.choice(authors), step)
                case "read":
                    for message in self.out(consumer, random.randrange(1, 4)):
                        self.assertNotIn(message.packets[1], taken)
                        order.append(message)
                case "acknowledge" if order:
                    upto = random.randrange(len(order))
                    self.assertTrue(consumer.acknowledge(key_of(order[upto])))  # type: ignore[arg-type]
                    taken |= {message.packets[1] for message in order[: upto + 1]}
                    del order[: upto + 1]
                case "leave":
                    consumer.close()
                    consumer, order = self.opened(b), []
                case "return" if order:  # with the id of a message, as a client would
                    upto = random.randrange(len(order))
                    consumer.close()
                    consumer = self.opened(b)
                    self.assertTrue(consumer.acknowledge(key_of(order[upto])))  # type: ignore[arg-type]
                    taken |= {message.packets[1] for message in order[: upto + 1]}
                    order = []
                case "restart" if random.random() < 0.2:
                    self.stop(b, after=2)
                    b = self.started(names[0], limits=KEPT)
                    self.link(*((author, b) for author in authors))
                    consumer, order = self.opened(b), []
        self.network.advance(1)
        consumer.close()
        left = self.packets(self.out(self.opened(b)))
        self.assertEqual((sorted(taken | set(left)), taken & set(left)), (sent, set()))
