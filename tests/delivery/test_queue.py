"""`async for message in service.messages()`: bounds, gaps, ends."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred

from tests.support.meshcase import MeshCase, Puppet, batch, consume, rest, take
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService


class TestMessages(MeshCase):
    def pair(self, **limits: int) -> list[MeshService]:
        return self.linked(self.node(), self.node(limits=limits))

    def consumer(self, **limits: int) -> tuple[MeshService, MeshService, MessageQueue]:
        """An author, a node that is linked with it, and an iterator there."""
        a, b = self.pair(**limits)
        return a, b, b.messages()

    def fed(self, limits: dict[str, Any]) -> tuple[MeshService, Puppet, MessageQueue]:
        """A node, a scripted peer of it, and an iterator of the node's messages."""
        b = self.node(limits=limits)
        return b, self.joined(b), b.messages()

    def test_each_iterator_gets_every_message_in_order(self) -> None:
        a, b = self.pair()
        one, other = b.messages(), b.messages()
        self.send(a, *range(5))
        for queue in (one, other):
            self.assertEqual(self.run_to_end(take(queue, 5)), list(range(5)))

    def test_a_consumer_that_waits_is_woken(self) -> None:
        a, b = self.pair()
        got: list[object] = []
        done = Deferred.fromCoroutine(consume(b.messages(), got))
        self.send(a, 1, 2)
        self.assertEqual(got, [1, 2])
        self.assertNoResult(done)
        b.stopService()
        self.result_of(done, after=5)

    def test_one_that_keeps_up_misses_nothing_however_large_a_batch_and_small_its_bounds_are(self) -> None:
        a, b = self.pair(queue_limit=3, history_bytes=1)
        got: list[object] = []
        done = Deferred.fromCoroutine(consume(b.messages(), got))
        self.send(a, *range(100))
        self.assertEqual((got, self.happened(b, "gap")), (list(range(100)), []))
        done.cancel()
        self.failureResultOf(done, CancelledError)

    def test_it_ends_at_stop_after_what_is_queued_and_stays_so(self) -> None:
        a, b, queue = self.consumer()
        self.send(a, 1, 2)
        b.stopService()
        self.network.advance(5)
        self.assertEqual(self.run_to_end(rest(queue)), [1, 2])
        b.startService()
        self.link((a, b))
        self.send(a, 3)
        self.assertEqual(len(queue), 0)
        self.assertEqual(self.run_to_end(rest(queue)), [])

    def test_before_the_start(self) -> None:
        a, b = self.node(), self.make()
        queue = b.messages()
        b.startService()
        self.link((a, b))
        self.send(a, 1)
        self.assertEqual(self.run_to_end(take(queue, 1)), [1])

    def test_what_finds_no_room_is_read_from_the_history_later(self) -> None:
        a, b = self.pair(queue_limit=10)
        queue, other = b.messages(), b.messages()
        self.send(a, *range(100))
        self.assertEqual((len(queue), queue.untaken), (10, 100))
        self.assertEqual(self.run_to_end(take(other, 100)), list(range(100)))
        self.send(a, *range(100, 105))
        self.assertEqual((len(queue), len(other)), (10, 5))
        self.assertEqual(self.run_to_end(take(queue, 105)), list(range(105)))
        self.assertEqual(self.happened(b, "gap"), [])
        self.assertEqual((queue.untaken, queue.runs_behind, queue.dropped), (0, 0, 0))
        self.send(a, 105)
        self.assertEqual(len(queue), 1)  # the iterator is up to date again
        self.assertEqual(self.got(b), list(range(106)))

    def test_messages_that_grow_when_they_are_unpacked_wait_in_the_history_as_they_are_packed(self) -> None:
        """Short texts take 20 times as much unpacked, and empty lists 70 times."""
        for packet in ("ab", []):
            a, b, queue = self.consumer(queue_bytes=200_000)
            for number in range(10):
                a.send(number, *[packet] * 3000)  # some 9 kB or 3 kB packed
            self.network.pump()
            footprint = b.footprint()
            self.assertEqual((footprint["queued_messages"] <= 4, footprint["untaken_messages"]), (True, 10))
            self.assertEqual(self.run_to_end(take(queue, 10)), list(range(10)))

    def test_it_is_bounded_by_bytes_but_takes_one_message_however_large(self) -> None:
        a, _b, queue = self.consumer(queue_bytes=1000)
        for number in range(5):
            self.send(a, [number, b"x" * 390])
        self.assertEqual(len(queue), 2)
        self.send(a, [5, b"x" * 5000])
        got = []
        for _ in range(6):
            ((number, _),) = self.run_to_end(take(queue, 1))
            got.append(number)
            self.assertLessEqual(len(queue), 2)
        self.assertEqual(got, list(range(6)))

    def test_what_has_left_the_history_is_a_gap_told_before_the_next_message(self) -> None:
        a, b, queue = self.consumer(queue_limit=10, history_bytes=20_000)
        for number in range(100):
            self.send(a, [number, b"x" * 500])
        held = next(iter(self.parts_of(b).driver.node.history)).low
        self.assertEqual([n for n, _ in self.run_to_end(take(queue, 10))], list(range(10)))
        self.assertEqual(self.happened(b, "gap"), [])
        self.assertEqual(self.run_to_end(take(queue, 1))[0][0], held - 1)
        (gap,) = self.happened(b, "gap")
        self.assertEqual((gap.sender, gap.first, gap.last), (a.id, 11, held - 1))
        self.assertEqual(gap.reason, "the consumer was too slow")
        self.assertEqual([n for n, _ in self.run_to_end(take(queue, 100 - held))], list(range(held, 100)))

    def test_where_all_has_left_the_history_the_gap_is_told_and_the_wait_goes_on(self) -> None:
        a, b, queue = self.consumer(queue_limit=2, history_seconds=10)
        self.send(a, *range(5))
        self.network.advance(30)
        self.run_to_end(take(queue, 2))
        waiting = Deferred.fromCoroutine(take(queue, 1))
        self.assertNoResult(waiting)
        self.assertEqual([(gap.first, gap.last) for gap in self.happened(b, "gap")], [(3, 5)])
        self.send(a, 5)
        self.assertEqual(self.successResultOf(waiting), [5])
        self.assertEqual(queue.untaken, 0)

    def test_a_gap_within_what_waits_is_told_once_and_the_order_kept(self) -> None:
        b, puppet, queue = self.fed({"queue_limit": 2, "gap_patience": 5, "compare_interval": 100})
        self.send_frames(puppet, batch(puppet.me, 1, 1, 2, 3), batch(puppet.me, 6, 6, 7), after=7)
        self.assertEqual(self.run_to_end(take(queue, 5)), [1, 2, 3, 6, 7])
        self.assertEqual([(gap.first, gap.last) for gap in self.happened(b, "gap")], [(4, 5)])

    def holed(self, **limits: Any) -> tuple[MeshService, MessageQueue]:
        """A node that got 1 to 60 and gave up 21 to 30 and 41 to 50, and an iterator of its messages."""
        b, puppet, queue = self.fed(
            {"queue_limit": 5, "gap_patience": 5, "compare_interval": 100, **limits}
        )
        for first in (*range(1, 21), *range(31, 41), *range(51, 61)):
            self.send_frames(puppet, batch(puppet.me, first, first), after=0.01)
        self.network.advance(20)
        self.assertEqual([(gap.first, gap.last) for gap in self.happened(b, "gap")], [(21, 30), (41, 50)])
        return b, queue

    def test_what_lies_below_holes_that_were_given_up_is_read_all_the_same(self) -> None:
        b, queue = self.holed()
        got = [message.packets[1] for message in iter(queue.take, None)]
        self.assertEqual(got, [*range(1, 21), *range(31, 41), *range(51, 61)])
        self.assertEqual((len(self.happened(b, "gap")), queue.untaken), (2, 0))

    def test_what_of_it_has_left_the_history_is_told_and_no_number_twice(self) -> None:
        b, queue = self.holed(history_seconds=30)
        self.network.advance(60)
        self.assertEqual([message.packets[1] for message in iter(queue.take, None)], [1, 2, 3, 4, 5])
        gaps = [(gap.first, gap.last, gap.reason) for gap in self.happened(b, "gap")]
        self.assertEqual([gap[:2] for gap in gaps[2:]], [(6, 20), (31, 40), (51, 60)])
        self.assertEqual({gap[2] for gap in gaps[:2]}, {"no neighbour sent them in time"})
        self.assertEqual({gap[2] for gap in gaps[2:]}, {"the consumer was too slow"})

    def test_of_a_hole_nothing_is_held_where_every_consumer_has_what_came_before(self) -> None:
        b, puppet, queue = self.fed({"gap_patience": 5, "compare_interval": 100})
        puppet.send(batch(puppet.me, 1, 1, 2, 3), batch(puppet.me, 6, 6), batch(puppet.me, 9, 9))
        self.network.pump()
        self.assertEqual(self.run_to_end(take(queue, 3)), [1, 2, 3])
        self.network.advance(6)
        self.assertEqual(b.footprint()["held_batches"], 2)  # 6, and 9 behind the second hole
        self.network.advance(6)
        self.assertEqual(b.footprint()["held_batches"], 2)  # 6 is not taken
        self.assertEqual(self.run_to_end(take(queue, 2)), [6, 9])

    def test_what_a_handler_took_is_not_read_later(self) -> None:
        a, b = self.pair(queue_limit=15)
        b.register_handler(lambda message, link: message.packets[1] % 3 == 0)
        queue = b.messages()
        self.send(a, *range(60))
        self.assertEqual(self.run_to_end(take(queue, 40)), [n for n in range(60) if n % 3])
        self.assertEqual((queue.untaken, len(queue)), (0, 0))

    def test_what_a_handler_took_is_no_gap(self) -> None:
        a, b = self.pair(queue_limit=1, history_bytes=2000)
        b.register_handler(lambda message, link: message.packets[1][0] in range(2, 50))
        queue = b.messages()
        for number in range(1, 51):
            self.send(a, [number, b"x" * 500])
        self.assertEqual([n for n, _ in self.run_to_end(take(queue, 2))], [1, 50])
        self.assertEqual(self.happened(b, "gap"), [])

    def test_what_a_handler_took_is_remembered_within_bounds(self) -> None:
        a, b = self.pair(queue_limit=4)
        b.register_handler(lambda message, link: message.packets[1] % 2)
        queue = b.messages()
        self.send(a, *range(40))
        got = self.run_to_end(take(queue, 4))
        waits = b.footprint()["untaken_messages"]
        while len(queue) or queue.untaken:
            got += self.run_to_end(take(queue, 1))
        self.assertEqual(got, sorted(got))
        lost = sum(gap.last - gap.first + 1 for gap in self.happened(b, "gap"))
        self.assertGreater(lost, 0)
        missing = set(range(0, 40, 2)) - set(got)
        told = {n - 1 for gap in self.happened(b, "gap") for n in range(gap.first, gap.last + 1)}
        self.assertLessEqual(missing, told)  # whatever is lost was told as a gap
        self.assertEqual(set(got) & told, set())
        self.assertLessEqual(waits, 40)

    def test_of_too_many_runs_the_one_that_waits_longest_is_given_up(self) -> None:
        b, puppet, queue = self.fed({"queue_limit": 1, "open_streams": 3})
        authors = [self.puppet().me for _ in range(6)]
        for author in authors:
            puppet.send(batch(author, 1, "a", "b"))
        self.network.pump()
        self.assertEqual(queue.runs_behind, 3)
        got = self.run_to_end(take(queue, 7))
        self.assertEqual(got, list("aaaabbb"))
        gaps = [(gap.sender, gap.first, gap.last) for gap in self.happened(b, "gap")]
        self.assertEqual(gaps, [(authors[0].id, 2, 2), (authors[1].id, 1, 2), (authors[2].id, 1, 2)])

    def test_who_takes_nothing_is_told_at_once_of_runs_that_are_given_up(self) -> None:
        b, puppet, queue = self.fed({"queue_limit": 1, "open_streams": 3})
        me = self.puppet().me
        for epoch in range(1, 21):
            puppet.send(batch(msgspec.structs.replace(me, epoch=epoch), 1, "a", "b"))
        self.network.pump()
        gaps = [gap.epoch for gap in self.happened(b, "gap")]
        self.assertEqual(gaps, list(range(1, 18)))
        self.assertEqual((len(queue), queue.runs_behind), (1, 3))

    def test_a_busy_author_does_not_keep_the_others_waiting(self) -> None:
        a, c, b = self.node(), self.node(), self.node(limits={"queue_limit": 5})
        self.link((a, b), (c, b))
        queue = b.messages()
        self.send(a, *range(20))
        self.send(c, "c")
        got: list[object] = []
        for number in range(20, 40):
            got += self.run_to_end(take(queue, 2))
            self.send(a, number)
        self.assertIn("c", got)
        self.assertEqual([n for n in got if n != "c"], list(range(39)))

    def test_a_message_that_cannot_be_read_is_no_gap(self) -> None:
        b, puppet, queue = self.fed({"queue_limit": 1})
        puppet.send(batch(puppet.me, 1, 1, 2), batch(puppet.me, 3, 3, encoding=9), batch(puppet.me, 4, 4))
        self.network.pump()
        self.assertEqual(self.run_to_end(take(queue, 3)), [1, 2, 4])
        self.assertEqual((len(self.happened(b, "failure")), self.happened(b, "gap")), (1, []))

    def test_a_listener_that_takes_within_a_batch_gets_each_message_once(self) -> None:
        a, b, queue = self.consumer(queue_limit=2)
        got: list[object] = []

        def listener(message: Message) -> None:
            if message.packets[1] >= 4:
                got.extend(m.packets[1] for m in iter(queue.take, None))

        b.on("message", listener)
        self.send(a, *range(8))
        got.extend(m.packets[1] for m in iter(queue.take, None))
        self.assertEqual(got, list(range(8)))

    def test_the_history_is_read_to_its_end_after_the_stop(self) -> None:
        a, b, queue = self.consumer(queue_limit=3)
        self.send(a, *range(20))
        b.stopService()
        self.network.advance(5)
        b.startService()
        self.assertEqual(self.run_to_end(rest(queue)), list(range(20)))

    def test_one_that_is_closed_receives_nothing_more_and_ends_after_what_had_come(self) -> None:
        a, b, queue = self.consumer(queue_limit=3)
        self.send(a, *range(10))
        queue.close()
        queue.close()  # a second call changes nothing
        self.send(a, *range(10, 20))
        self.assertEqual((len(queue), b.footprint()["consumers"]), (3, 0))
        self.assertEqual(self.run_to_end(rest(queue)), list(range(10)))
        self.assertEqual((self.run_to_end(rest(queue)), self.happened(b, "gap")), ([], []))

    def test_one_that_closes_another_within_a_batch_is_obeyed_at_once(self) -> None:
        a, b, queue = self.consumer()

        def listener(message: Message) -> None:
            if message.packets[1] == 2:
                queue.close()

        b.on("message", listener)
        for number in range(5):
            a.send(number)  # one batch
        self.network.pump()
        self.assertEqual([message.packets[1] for message in queue.peek()], [0, 1])

    def test_who_waits_for_one_that_is_closed_is_at_its_end(self) -> None:
        _, _, queue = self.consumer()
        done = Deferred.fromCoroutine(rest(queue))
        queue.close()
        self.assertEqual(self.successResultOf(done), [])

    def test_whispers_beyond_the_bounds_are_dropped_counted_and_logged_once(self) -> None:
        a, b, queue = self.consumer(queue_limit=2)
        for number in range(5):
            a.routing_table[b.id].whisper(number)
        self.network.pump()
        self.assertEqual(self.run_to_end(take(queue, 2)), [0, 1])
        self.assertEqual((queue.dropped, self.happened(b, "gap")), (3, []))
        self.assertEqual(len(self.log("a consumer is too slow")), 1)

    def test_an_iterator_nobody_holds_is_forgotten(self) -> None:
        a, b, queue = self.consumer()
        self.assertEqual(len(b._delivery._queues), 1)
        del queue
        gc.collect(1)
        self.assertEqual(len(b._delivery._queues), 0)
        self.send(a, 1)

    def test_one_that_somebody_waits_for_is_kept_though_nobody_holds_it(self) -> None:
        a, b = self.pair()
        got: list[object] = []
        Deferred.fromCoroutine(consume(b.messages(), got))
        for number in range(3):
            gc.collect()
            self.send(a, number)
        self.assertEqual((got, b.footprint()["consumers"]), ([0, 1, 2], 1))
        self.stop(b)
        gc.collect()
        self.assertEqual((len(b._delivery._queues), b._delivery.waited_for), (0, set()))

    def test_one_whose_wait_was_given_up_is_held_no_more(self) -> None:
        _, b = self.pair()
        waiting = Deferred.fromCoroutine(take(b.messages(), 1))
        gc.collect()
        self.assertEqual(b.footprint()["consumers"], 1)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        del waiting
        gc.collect()
        self.assertEqual(b.footprint()["consumers"], 0)

    def test_one_consumer_at_a_time(self) -> None:
        _, _, queue = self.consumer()
        first = Deferred.fromCoroutine(take(queue, 1))
        self.failureResultOf(Deferred.fromCoroutine(take(queue, 1)), RuntimeError)
        self.assertNoResult(first)
        first.cancel()
        self.failureResultOf(first, CancelledError)

    def test_a_cancelled_wait_loses_nothing(self) -> None:
        a, _b, queue = self.consumer()
        waiting = Deferred.fromCoroutine(take(queue, 1))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.send(a, 1)
        self.assertEqual(self.run_to_end(take(queue, 1)), [1])
