"""send(), whispers and replies: errors at once, waiting, and the effects of slow readers."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from tests.support.meshcase import BIG, MIB, NO_TIMEOUTS, MeshCase
from twisted_mesh import flags
from twisted_mesh.errors import (
    Congested,
    LocalError,
    MessageTooLarge,
    NotHandedOver,
    NotRunning,
    Unreachable,
)
from twisted_mesh.service import MeshService


class TestSend(MeshCase):
    def test_what_cannot_be_sent_raises_at_once_and_sends_nothing(self) -> None:
        a, b = self.chain(2)
        loop: list[object] = []
        loop.append(loop)
        for packet in (object(), {1, 2}, (1, {2}), bytearray(b"x")):
            self.assertRaises(TypeError, a.send, packet)
        for packet in (loop, 2**64, -(2**63) - 1):
            self.assertRaises(ValueError, a.send, packet)
        self.assertRaises(MessageTooLarge, a.send, b"x" * MIB)
        for type_ in (1, 3, 0x2F, -1, "0", True, None):
            self.assertRaises(ValueError, a.send, "x", type=type_)
        for flag in (1, 5, "broadcast", None):
            self.assertRaises(ValueError, a.send, "x", flag=flag)
        link = a.routing_table[b.id]
        self.assertRaises(ValueError, link.send, flags.broadcast, 0, "x")
        self.assertRaises(ValueError, link.send, flags.whisper, 7, "x")
        self.assertRaises(TypeError, link.whisper, object())
        a.send("good", type=0x30)
        self.network.pump()
        (message,) = self.received(b)
        self.assertEqual(message.packets, [0x30, "good"])
        self.assertEqual(message.id[2], 1)

    def test_sending_before_the_start_or_after_the_end(self) -> None:
        a = self.make()
        self.assertRaises(NotRunning, a.drained)
        self.assertRaises(NotRunning, a.handed_over, 1)
        self.assertRaises(NotRunning, a.send, "x")
        a.startService()
        a.send("x")
        a.stopService()
        self.assertRaises(NotRunning, a.send, "x")
        self.network.pump()
        self.assertRaises(NotRunning, a.send, "x")


class TestGathering(MeshCase):
    """Messages that are sent soon after each other share batches."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.chain(2, limits={"batch_delay": 0.002})

    def batches(self) -> list[int]:
        """The number of messages in each batch that came."""
        (stream,) = self.parts_of(self.b).driver.node.history
        return [signed.batch.count for signed in stream.serve(1, 2**20, 2**20)]

    def test_a_lone_message_leaves_in_its_turn(self) -> None:
        for number in range(3):
            self.send(self.a, number)
            self.assertEqual(self.got(self.b), list(range(number + 1)))
            self.network.advance(0.002)

    def test_who_has_just_sent_waits_for_the_delay_to_be_over(self) -> None:
        for number in range(5):
            self.send(self.a, number)
        self.assertEqual(self.got(self.b), [0])
        self.network.advance(0.001)
        self.assertEqual(self.got(self.b), [0])
        self.network.advance(0.001)
        self.assertEqual((self.got(self.b), self.batches()), ([*range(5)], [1, 4]))

    def test_a_full_batch_does_not_wait(self) -> None:
        self.send(self.a, "first")
        self.send(self.a, BIG)
        self.assertEqual(self.batches(), [1, 1])

    def test_no_turn_is_scheduled_that_finds_nothing_to_do(self) -> None:
        self.network.advance(1)
        scheduled = self.scheduled_by(self.a)
        self.send(self.a, "alone")
        self.assertEqual(scheduled, ["_end_of_turn"])
        for number in range(100):
            self.send(self.a, number)
        self.assertEqual(scheduled[1:], ["_end_of_turn", "_waited"])
        self.network.advance(0.002)
        self.assertEqual((scheduled[3:], self.batches()), (["_end_of_turn"], [1, 100]))

    def scheduled_by(self, service: MeshService) -> list[str]:
        """A list that gets the names of the methods that *service* has the clock call for its messages."""
        driver = self.parts_of(service).driver
        clock: Any = driver.clock
        scheduled: list[str] = []
        call_later = clock.callLater

        def noting(delay: float, call: Any, *args: Any, **more: Any) -> IDelayedCall:
            if getattr(call, "__self__", None) in (driver, driver._batching):
                scheduled.append(call.__name__)
            return call_later(delay, call, *args, **more)

        self.patch(clock, "callLater", noting)
        return scheduled

    def test_what_is_sent_while_a_turn_ends_leaves_in_the_next(self) -> None:
        taken = self.a.routing_table[self.b.id].whisper("first")
        taken.addCallback(lambda _: self.a.send("second"))
        self.network.pump()
        self.assertEqual(self.got(self.b), ["first", "second"])

    def test_what_waits_is_handed_over_before_the_stop(self) -> None:
        for number in range(3):
            self.send(self.a, number)
        self.a.stopService()
        self.network.advance(5)
        self.assertEqual(self.got(self.b), [0, 1, 2])


class TestRelaying(MeshCase):
    def test_a_message_is_passed_on_before_the_relay_s_application_has_it(self) -> None:
        a, b, c = self.chain(3)
        link = b.routing_table[c.id]
        written: list[tuple[bool, int]] = []
        before = link.sent_bytes
        b.on("message", lambda _: written.append((link.sent_bytes > before, link.queued_bytes)))
        a.send("fire!")
        self.network.pump()
        self.assertEqual(written, [(True, 0)])
        self.assertEqual([message.packets[1] for message in self.received(c)], ["fire!"])


class TestCongestion(MeshCase):
    def test_unsent_bytes_without_a_neighbour(self) -> None:
        a, b = self.node(limits={"unsent_bytes": 2 * MIB}), self.node()
        count = self.fill(a)
        self.assertEqual(count, 2 * MIB // 300_000)
        self.assertLessEqual(a.footprint()["unsent_bytes"], 2 * MIB)
        drained = a.drained()
        self.network.advance(1)
        self.assertNoResult(drained)
        self.link((b, a))
        self.result_of(drained)
        self.successResultOf(a.drained())
        self.send(a, "more")
        self.assertEqual(self.got(b), [*range(count), "more"])
        self.assertEqual(a.footprint()["unsent_bytes"], 0)

    def test_unsent_bytes_count_within_one_turn(self) -> None:
        a = self.node(limits={"unsent_bytes": 2 * MIB})
        with self.assertRaises(Congested) as caught:
            for _ in range(8):
                a.send(BIG)
        self.assertIn("await drained()", str(caught.exception))

    def test_a_neighbour_that_does_not_read(self) -> None:
        a, b = self.linked(self.node(limits={"unsent_bytes": 2 * MIB}), self.node())
        self.measured(a)
        stuck = self.network.between(self.host(a), self.host(b))[1]
        stuck.reads = False
        count = self.fill(a)
        drained = a.drained()
        self.network.pump()
        self.assertNoResult(drained)
        stuck.reads = True
        self.result_of(drained)
        self.assertEqual(self.got(b), list(range(count)))

    def test_stopping_ends_the_wait_for_room(self) -> None:
        a = self.node(limits={"unsent_bytes": 2 * MIB})
        self.fill(a)
        drained = a.drained()
        a.stopService()
        self.result_of(drained)


class TestHandingOver(MeshCase):
    def test_it_fires_when_a_neighbour_has_everything(self) -> None:
        a, b = self.node(), self.node()
        self.successResultOf(a.handed_over(1))
        a.send("x")
        handed_over = a.handed_over(5)
        self.network.advance(1)
        self.assertNoResult(handed_over)
        self.link((b, a))
        self.successResultOf(handed_over)

    def test_it_does_not_before_one_has_read_it(self) -> None:
        a, b = self.chain(2)
        self.network.part([self.host(a)], [self.host(b)])  # bytes are accepted, and do not arrive
        a.send("x")
        a.send("y")
        handed_over = a.handed_over(5)
        self.network.advance(4.9)
        self.assertNoResult(handed_over)
        error = self.failure_of(handed_over, NotHandedOver, after=0.1)
        self.assertEqual(str(error), "no neighbour is known to have read 2 messages")

    def test_one_that_stood_still_is_waited_for(self) -> None:
        a, b = self.chain(2)
        self.network.between(self.host(a), self.host(b))[1].reads = False
        a.send("x")
        handed_over = a.handed_over(10)
        self.network.advance(5)
        self.assertNoResult(handed_over)
        self.network.between(self.host(a), self.host(b))[1].reads = True
        self.result_of(handed_over, after=1)
        self.assertEqual(self.got(b), ["x"])

    def test_another_that_comes_meanwhile_will_do(self) -> None:
        a, b, c = self.node(overlay=False), self.node(overlay=False), self.node(overlay=False)
        self.link((b, a))
        self.network.part([self.host(a), self.host(c)], [self.host(b)])
        a.send("x")
        handed_over = a.handed_over(10)
        self.network.advance(3)
        self.link((c, a), after=2)
        a.send("y")  # goes to both, and c asks for the message before it
        self.result_of(handed_over, after=4)

    def test_who_has_read_it_and_left_in_good_order_has_said_so(self) -> None:
        a, b = self.chain(2)
        self.send(a, "x", after=5)
        self.stop(b)
        self.assertEqual(self.got(b), ["x"])
        self.successResultOf(a.handed_over(5))

    def test_who_asks_again_at_once_keeps_nobody_from_being_told(self) -> None:
        a, b = self.node(), self.node()
        a.send("x")
        waiting = [a.handed_over(5) for _ in range(3)]
        waiting[0].addCallback(lambda _: a.handed_over(5))
        self.link((b, a))
        for each in waiting:
            self.successResultOf(each)

    def test_it_fails_when_the_time_is_over(self) -> None:
        a = self.node()
        a.send("x")
        handed_over = a.handed_over(5)
        self.network.advance(4.9)
        self.assertNoResult(handed_over)
        error = self.failure_of(handed_over, NotHandedOver, after=0.2)
        self.assertEqual(str(error), "1 message was taken by no neighbour")
        self.assertEqual(a.footprint()["unsent_batches"], 1)

    def test_why_no_peer_was_reached_is_told_then_and_at_the_stop(self) -> None:
        a = self.node(peers=["127.0.0.1:1"])
        a.send("x")
        error = self.failure_of(a.handed_over(5), NotHandedOver, after=5.1)
        told = "1 message was taken by no neighbour: no connection to 127.0.0.1:1: connection refused"
        self.assertEqual(str(error)[: len(told)], told)
        self.stop(a)
        self.assertEqual(len(self.log(told)), 1)

    def test_it_fails_at_once_where_there_is_no_time(self) -> None:
        a = self.node()
        a.send("x")
        self.failure_of(a.handed_over(0), NotHandedOver)
        for timeout, kind in NO_TIMEOUTS:
            error = self.assertRaises(LocalError, a.handed_over, timeout)
            self.assertIsInstance(error, kind)
            self.assertRegex(str(error), "timeout must be .*seconds")

    def test_without_a_time_it_takes_as_long_as_it_takes(self) -> None:
        a, b = self.node(), self.node()
        a.send("x")
        waiting = [a.handed_over(timeout) for timeout in (None, float("inf"), 10**400)]
        self.network.advance(3600)
        self.link((a, b), after=1)
        for each in waiting:
            self.successResultOf(each)

    def test_it_ends_with_the_service(self) -> None:
        a = self.node()
        a.send("x")
        waiting = a.handed_over(None)
        again = a.handed_over(None).addErrback(lambda _: a.handed_over(None))
        self.stop(a)
        for each in (waiting, again):
            self.assertEqual(str(self.failureResultOf(each, NotRunning).value), "the service stopped first")
        b, c = self.chain(2)
        self.network.part([self.host(b)], [self.host(c)])
        b.send("on its way")
        waiting = b.handed_over(None)
        self.network.advance(1)
        self.assertNoResult(waiting)
        self.result_of(b.stopService(), after=30)
        self.failureResultOf(waiting, NotRunning)

    def test_a_slow_neighbour_does_not_count(self) -> None:
        b, a, slow = self.chain(3)
        self.measured(a)
        self.network.between(self.host(a), self.host(slow))[1].reads = False
        for _ in range(10):
            a.send(BIG)
        handed_over = a.handed_over(5)
        self.result_of(handed_over)
        self.assertEqual(len(self.got(b)), 10)


class TestWhisper(MeshCase):
    def test_it_reaches_direct_peers_only(self) -> None:
        a, b, c = self.chain(3, encryption="SSL")
        b.send("hear", flag=flags.whisper)
        a.send("me", flag=flags.whisper, type=0x40)
        self.network.pump()
        self.assertEqual((self.got(a), self.got(b), self.got(c)), (["hear"], ["me"], ["hear"]))
        (message,) = self.received(b)
        self.assertEqual((message.sender, message.type, message.id), (a.id, 0x40, None))
        self.assertTrue(message.verified)
        self.assertEqual(b.footprint()["open_streams"], 0)

    def test_over_plain_text_its_author_is_not_proven(self) -> None:
        a, b = self.chain(2, encryption="Plaintext")
        self.received(b)
        a.send("signed")
        a.send("not signed", flag=flags.whisper)
        self.network.pump()
        by_text = {message.packets[1]: message.verified for message in self.received(b)}
        self.assertEqual(by_text, {"signed": True, "not signed": False})

    def test_to_peers_that_are_gone_by_the_end_of_the_turn(self) -> None:
        a, b = self.chain(2)
        a.send("late", flag=flags.whisper)
        self.network.cut(self.host(a), self.host(b))
        self.network.pump()
        gc.collect(1)
        self.assertEqual(self.log("not delivered"), [])

    def test_it_fires_when_the_transport_has_it(self) -> None:
        a, b = self.chain(2)
        link = a.routing_table[b.id]
        whisper = link.send(flags.whisper, 0x33, "x")
        self.assertNoResult(whisper)
        self.network.clock.advance(0)
        self.successResultOf(whisper)
        self.network.pump()
        self.assertEqual(self.received(b)[0].packets, [0x33, "x"])

    def test_it_fails_when_the_link_closes_before(self) -> None:
        a, b = self.chain(2)
        link = a.routing_table[b.id]
        whisper = link.whisper("x")
        self.network.cut(self.host(a), self.host(b))
        self.failureResultOf(whisper, Unreachable)
        self.failureResultOf(link.whisper("y"), Unreachable)

    def test_a_whisper_that_comes_too_late_takes_nothing_with_it(self) -> None:
        a, b = self.chain(2)
        stuck = self.network.between(self.host(a), self.host(b))[1]
        stuck.reads = False
        link = a.routing_table[b.id]
        whispers = [link.whisper(number, b"x" * 20_000) for number in range(40)]
        self.network.pump()
        a.disconnect(link)
        self.failureResultOf(link.whisper("late"), Unreachable)
        stuck.reads = True
        self.network.pump()
        self.assertEqual(self.got(b), list(range(40)))
        for whisper in whispers:
            self.successResultOf(whisper)


class TestReply(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b, self.c = self.chain(3)
        self.send(self.a, "question")
        (self.at_b,), (self.at_c,) = self.received(self.b), self.received(self.c)

    def cut(self) -> None:
        self.mesh.partition([self.services.index(self.a)])

    def test_it_reaches_the_sender_alone(self) -> None:
        reply = self.at_b.reply("yes", "I did")
        self.result_of(reply)
        (message,) = self.received(self.a)
        self.assertEqual(message.packets, [2, "yes", "I did"])
        self.assertEqual(message.sender, self.b.id)
        self.assertEqual(self.got(self.c), ["question"])

    def test_it_reaches_a_sender_that_is_no_neighbour(self) -> None:
        reply = self.at_c.reply("yes")
        self.assertNoResult(reply)
        self.result_of(reply)
        (message,) = self.received(self.a)
        self.assertEqual((message.packets, message.sender), ([2, "yes"], self.c.id))
        self.assertEqual(self.got(self.b), ["question"])

    def test_packets_that_cannot_be_sent(self) -> None:
        self.assertRaises(TypeError, self.at_b.reply, object())

    def test_an_unwatched_failure_is_one_log_line(self) -> None:
        self.cut()
        self.at_b.reply("yes")
        self.network.advance(45)
        gc.collect(1)
        (line,) = self.log("a message was not delivered: ")
        self.assertIn(f"{self.a.id.decode()}: it was not acknowledged in 45 s", line)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_watched_failure_is_no_log_line(self) -> None:
        seen: list[object] = []
        self.cut()

        async def ask() -> None:
            try:
                await self.at_c.reply("yes")
            except Unreachable:
                seen.append("raised")

        asked = Deferred.fromCoroutine(ask())
        self.at_c.reply("yes").addErrback(lambda failure: seen.append(failure.type))
        inner = succeed(None).addCallback(lambda _: self.at_c.reply("yes"))
        outer: Deferred[None] = Deferred()
        outer.addCallback(lambda _: self.at_b.reply("yes"))
        outer.callback(None)
        self.result_of(asked, after=45)
        self.failureResultOf(inner, Unreachable)
        self.failureResultOf(outer, Unreachable)
        gc.collect(1)
        self.assertEqual(seen, ["raised", Unreachable])
        self.assertEqual(self.log("not delivered"), [])

    def test_from_inside_a_handler(self) -> None:
        self.b.register_handler(lambda message, link: message.reply("at once") and False)
        self.b.register_handler(lambda message, link: link.whisper("too") and False)
        self.send(self.a, "again")
        self.assertCountEqual(self.got(self.a), ["at once", "too"])
