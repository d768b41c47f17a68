"""`async for message in service.messages()`: bounds, gaps, ends."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.support.meshcase import MeshCase
from twisted_mesh.consumer import MessageQueue
from twisted_mesh.service import MeshService


async def take(queue: MessageQueue, count: int) -> list[Any]:
    return [(await anext(queue)).packets[1] for _ in range(count)]


class TestMessages(MeshCase):
    def pair(self, **limits: int) -> tuple[MeshService, MeshService]:
        a, b = self.node(), self.node(limits=limits or None)
        self.link((a, b))
        return a, b

    def say(self, a: MeshService, *packets: object) -> None:
        for packet in packets:
            a.send(packet)
        self.network.pump()

    def test_each_iterator_gets_every_message_in_order(self) -> None:
        a, b = self.pair()
        one, other = b.messages(), b.messages()
        self.say(a, *range(5))
        for queue in (one, other):
            self.assertEqual(self.run_to_end(take(queue, 5)), list(range(5)))

    def test_a_consumer_that_waits_is_woken(self) -> None:
        a, b = self.pair()
        got: list[object] = []

        async def consume() -> None:
            [got.append(message.packets[1]) async for message in b.messages()]

        done = Deferred.fromCoroutine(consume())
        self.say(a, 1, 2)
        self.assertEqual(got, [1, 2])
        self.assertNoResult(done)
        b.stopService()
        self.network.advance(5)
        self.successResultOf(done)

    def test_it_ends_at_stop_after_what_is_queued_and_stays_so(self) -> None:
        a, b = self.pair()
        queue = b.messages()
        self.say(a, 1, 2)
        b.stopService()
        self.network.advance(5)

        async def rest() -> list[object]:
            return [message.packets[1] async for message in queue]

        self.assertEqual(self.run_to_end(rest()), [1, 2])
        b.startService()
        self.link((a, b))
        self.say(a, 3)
        self.assertEqual(len(queue), 0)
        self.assertEqual(self.run_to_end(rest()), [])

    def test_before_the_start(self) -> None:
        a, b = self.node(), self.make()
        queue = b.messages()
        b.startService()
        self.link((a, b))
        self.say(a, 1)
        self.assertEqual(self.run_to_end(take(queue, 1)), [1])

    def test_queue_limit_drops_the_oldest_and_tells_the_gap_first(self) -> None:
        a, b = self.pair(queue_limit=10)
        queue, other = b.messages(), b.messages()
        self.say(a, *range(5))
        self.run_to_end(take(other, 5))
        self.say(a, *range(5, 15))
        self.assertEqual((len(queue), queue.dropped, other.dropped), (10, 5, 0))
        self.assertEqual(self.happened(b, "gap"), [])
        self.assertEqual(self.run_to_end(take(queue, 10)), list(range(5, 15)))
        self.assertEqual(self.run_to_end(take(other, 10)), list(range(5, 15)))
        (gap,) = self.happened(b, "gap")
        self.assertEqual((gap.sender, gap.first, gap.last), (a.id, 1, 5))
        self.assertEqual(gap.reason, "the consumer was too slow")
        self.assertEqual(self.got(b), list(range(15)))

    def test_queue_bytes_drops_the_oldest_but_never_the_newest(self) -> None:
        a, b = self.pair(queue_bytes=1000)
        queue = b.messages()
        for number in range(5):
            self.say(a, [number, b"x" * 390])
        self.assertEqual(len(queue), 2)
        self.say(a, [5, b"x" * 5000])
        self.assertEqual(len(queue), 1)
        ((number, _),) = self.run_to_end(take(queue, 1))
        self.assertEqual(number, 5)
        (gap,) = self.happened(b, "gap")
        self.assertEqual((gap.first, gap.last), (1, 5))
        self.say(a, [6, b""])
        self.assertEqual(self.run_to_end(take(queue, 1))[0][0], 6)

    def test_dropped_whispers_have_no_number_to_tell(self) -> None:
        a, b = self.pair(queue_limit=2)
        queue = b.messages()
        for number in range(5):
            a.routing_table[b.id].whisper(number)
        self.network.pump()
        self.assertEqual(self.run_to_end(take(queue, 2)), [3, 4])
        self.assertEqual((queue.dropped, self.happened(b, "gap")), (3, []))

    def test_an_iterator_nobody_holds_is_forgotten(self) -> None:
        a, b = self.pair()
        queue = b.messages()
        self.assertEqual(len(b._delivery._queues), 1)
        del queue
        gc.collect()
        self.assertEqual(len(b._delivery._queues), 0)
        self.say(a, 1)

    def test_one_consumer_at_a_time(self) -> None:
        _, b = self.pair()
        queue = b.messages()
        first = Deferred.fromCoroutine(take(queue, 1))
        self.failureResultOf(Deferred.fromCoroutine(take(queue, 1)), RuntimeError)
        self.assertNoResult(first)
        first.cancel()
        self.failureResultOf(first, CancelledError)

    def test_a_cancelled_wait_loses_nothing(self) -> None:
        a, b = self.pair()
        queue = b.messages()
        waiting = Deferred.fromCoroutine(take(queue, 1))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.say(a, 1)
        self.assertEqual(self.run_to_end(take(queue, 1)), [1])
