"""The queue of a socket: it is bounded if nobody reads it, and a reader is told of everything it misses."""

from __future__ import annotations

from typing import Any

from tests.support.meshcase import MeshCase
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService


class TestReceiveQueue(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        self.a: MeshService = self.node()
        self.b: MeshService = self.node(limits={"queue_limit": 10})
        self.link((self.a, self.b))
        self.notified: list[int] = []
        self.queue: MessageQueue = self.b._delivery.messages(lambda: self.notified.append(len(self.queue)))

    def say(self, *packets: object) -> None:
        self.send(self.a, *packets)

    def taken(self) -> list[Any]:
        """Take all messages; the first packet of each."""
        return [message.packets[1] for message in iter(self.queue.take, None)]

    def test_each_message_is_notified_once_it_can_be_taken(self) -> None:
        self.say(1, 2)
        self.assertEqual(self.notified, [1, 2])
        self.assertEqual([message.packets[1] for message in self.queue.peek()], [1, 2])
        self.assertEqual(self.taken(), [1, 2])
        self.assertIsNone(self.queue.take())
        self.assertEqual((len(self.queue), self.queue.peek()), (0, []))

    def test_it_can_be_taken_when_it_is_notified(self) -> None:
        got: list[Any] = []
        queue = self.b._delivery.messages(lambda: got.append(queue.take()))
        self.say("x")
        self.assertEqual([message.packets for message in got], [[0, "x"]])

    def test_nobody_reads_it_so_the_newest_stay_and_the_rest_is_counted(self) -> None:
        self.say(*range(25))
        self.assertEqual((len(self.queue), self.queue.dropped), (10, 15))
        self.assertEqual(len(self.log("no message was taken yet: the oldest that wait")), 1)
        self.assertEqual(self.taken(), list(range(15, 25)))
        self.assertEqual(self.happened(self.b, "gap"), [])

    def test_what_it_holds_can_be_taken_when_the_service_has_stopped(self) -> None:
        self.say(1)
        self.b.stopService()
        self.network.advance(5)
        self.assertEqual(self.taken(), [1])

    def test_the_newest_are_bounded_by_bytes_too_but_one_is_kept(self) -> None:
        for number in range(3):
            message = Message([0, 0, number], None, None)  # type: ignore[arg-type]
            self.queue.put(message, self.b.config.queue_bytes + 1)
        self.assertEqual([message.packets[1] for message in self.queue.peek()], [2])

    def test_from_the_first_that_is_taken_nothing_is_missed(self) -> None:
        self.say(*range(15))
        self.a.routing_table[self.b.id].whisper("psst")
        self.network.pump()
        first = self.queue.take()
        assert first is not None
        self.say(*range(15, 40))
        self.assertEqual([first.packets[1], *self.taken()], [*range(6, 15), "psst", *range(15, 40)])
        self.assertEqual(self.b.footprint()["untaken_messages"], 0)

    def take(self, count: int) -> list[tuple[Message, int]]:
        """Take *count* messages, each with its size in bytes."""
        return [taken for _ in range(count) if (taken := self.queue.take_sized()) is not None]

    def test_what_is_put_back_is_the_next_again_and_not_taken(self) -> None:
        self.say(*range(5))
        taken = self.take(3)
        run = taken[0][0].source.run
        self.assertEqual(self.queue.taken(run, 5), 3)
        self.queue.put_back(taken[1:])
        self.assertEqual((len(self.queue), self.queue.taken(run, 5)), (4, 1))
        self.assertEqual((self.taken(), self.queue.taken(run, 5)), ([1, 2, 3, 4], 5))
        self.assertEqual(self.b.footprint()["untaken_messages"], 0)

    def test_what_is_put_back_when_all_was_taken_or_more_has_come_is_as_well(self) -> None:
        self.say(1, 2)
        taken = self.take(2)
        self.queue.put_back(taken[1:])
        self.assertEqual(self.queue.taken(taken[0][0].source.run, 2), 1)
        taken = self.take(1)
        self.say(*range(3, 25))  # more than the queue has room for
        self.queue.put_back(taken)
        self.assertEqual(len(self.queue), 11)
        self.assertEqual(self.taken(), list(range(2, 25)))
        self.assertEqual((self.happened(self.b, "gap"), self.b.footprint()["untaken_messages"]), ([], 0))

    def test_whispers_are_put_back_too(self) -> None:
        self.say(1)
        self.a.routing_table[self.b.id].whisper("psst")
        self.say(2)
        self.queue.put_back(self.take(2))
        self.assertEqual(self.taken(), [1, "psst", 2])

    def test_what_one_thread_puts_back_is_not_taken_though_another_has_what_follows(self) -> None:
        self.say(*range(4))
        first, second = self.take(1), self.take(1)
        run = first[0][0].source.run
        self.queue.put_back(first)
        self.assertEqual(self.queue.taken(run, 4), 0)
        self.assertEqual(([message.packets[1] for message, _ in second], self.taken()), ([1], [0, 2, 3]))
        self.assertEqual(self.queue.taken(run, 4), 4)

    def test_what_is_put_back_when_the_service_has_stopped_can_be_taken(self) -> None:
        self.say(1, 2)
        taken = self.take(1)
        self.stop(self.b)
        self.queue.put_back(taken)
        self.assertEqual(self.taken(), [1, 2])
