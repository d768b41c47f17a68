"""Requests: the answer of one member, or the reason why there is none, on a Clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.support.length import at_length
from tests.support.meshcase import MeshCase
from twisted_mesh.core.events import EpochConflict, SendDirect
from twisted_mesh.errors import Congested, LocalError, NoReply, NotRunning, Unreachable
from twisted_mesh.identity import Identity
from twisted_mesh.message import Message


class RequestCase(MeshCase):
    """A node *a* asks a node *b*, which answers by hand; *c* relays between them."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.c, self.b = self.chain(3, after=1)

    def ask(self, *packets: object, after: float = 1, **options: Any) -> Deferred[Message]:
        """Ask *b*; then let *after* seconds pass."""
        asked = self.a.request(self.b.id, *packets, **options)
        self.network.advance(after)
        return asked

    def question(self, at: int = -1) -> Message:
        """A message that *b* has got."""
        return self.received(self.b)[at]

    def packets_of(self, asked: Deferred[Message], after: float = 0) -> list[Any]:
        """The packets of the answer, without its type."""
        return self.result_of(asked, after=after).packets[1:]

    def failure_text(self, asked: Deferred[Message], kind: type[Exception]) -> str:
        """Why a request has failed, without the id of *b*."""
        return str(self.failureResultOf(asked, kind).value).removeprefix(f"{self.b.id.decode()}: ")


class TestRequest(RequestCase):
    def test_it_fires_with_the_answer_which_nobody_else_gets(self) -> None:
        queue = self.a.messages()
        asked = self.ask("how are you?")
        self.assertNoResult(asked)
        self.assertEqual(self.question().packets, [2, "how are you?"])
        self.question().reply("well", 1)
        answer = self.result_of(asked, after=1)
        self.assertEqual((answer.packets, answer.sender), ([2, "well", 1], self.b.id))
        self.assertEqual(answer.in_reply_to, self.question().id)
        self.assertEqual((self.received(self.a), len(queue)), ([], 0))
        self.assertEqual(self.a.footprint()["requests"], 0)

    def test_an_answer_among_other_messages_of_its_frame_comes_in_its_turn(self) -> None:
        came: list[Any] = []
        self.a.on("message", lambda message: came.append(message.packets[1]))
        self.ask("how are you?").addCallback(lambda answer: came.append(answer.packets[1]))
        self.b.send_to(self.a.id, "first")
        self.question().reply("well")
        self.b.send_to(self.a.id, "last")
        self.network.advance(1)
        self.assertEqual(came, ["first", "well", "last"])

    def test_a_reply_while_the_service_ends_its_requests_has_nothing_left_to_do_later(self) -> None:
        self.result_of(self.b.send_to(self.a.id, "hello"), after=1)
        (hello,) = self.received(self.a)
        driver, replies = self.parts_of(self.a).driver, list[Deferred[None]]()

        def say_bye(_: object) -> int:
            replies.append(hello.reply("bye"))
            return len(driver._directs)

        asked: Deferred[Any] = self.ask("how are you?").addErrback(say_bye)
        self.stop(self.a)
        self.assertEqual(self.successResultOf(asked), 0)
        self.failureResultOf(replies[0], Unreachable)

    def test_a_hundred_at_once_get_each_its_own_answer(self) -> None:
        asked = [self.ask(number, after=0) for number in range(100)]
        self.network.advance(2)
        for message in reversed(self.received(self.b)):
            message.reply(-message.packets[1])
        self.network.advance(2)
        self.assertEqual([self.packets_of(one) for one in asked], [[-number] for number in range(100)])

    def test_a_handler_of_the_member_can_answer(self) -> None:
        self.b.on("message", lambda message: message.reply("at once"))
        self.assertEqual(self.packets_of(self.ask("?", type=0x30)), ["at once"])

    def test_a_reply_to_the_answer_is_a_message_like_any_other(self) -> None:
        asked = self.ask("?")
        self.question().reply("yes")
        answer = self.result_of(asked, after=1)
        self.result_of(answer.reply("thanks"), after=1)
        self.assertEqual(self.question().packets, [2, "thanks"])
        self.assertEqual(self.question().in_reply_to, answer.id)
        self.result_of(self.question().reply("not at all"), after=1)
        self.assertEqual(self.got(self.a), ["not at all"])

    def test_of_two_answers_the_second_is_a_message_like_any_other(self) -> None:
        asked = self.ask("?")
        for answer in ("first", "second"):
            self.question().reply(answer)
        self.assertEqual(self.packets_of(asked, after=1), ["first"])
        [second] = self.received(self.a)
        self.assertEqual((second.packets[1], second.in_reply_to), ("second", self.question().id))

    def test_without_an_answer_in_time_there_is_no_reply(self) -> None:
        asked = self.ask("?", timeout=5, after=4.9)
        self.assertNoResult(asked)
        self.network.advance(0.2)
        self.assertEqual(self.failure_text(asked, NoReply), "it has the message, and did not answer in 5 s")

    def test_an_answer_after_the_time_is_a_message_like_any_other(self) -> None:
        asked = self.ask("?", timeout=5, after=6)
        self.failureResultOf(asked, NoReply)
        self.result_of(self.question().reply("late"), after=1)
        [late] = self.received(self.a)
        self.assertEqual((late.packets[1], late.in_reply_to), ("late", self.question().id))

    def test_without_a_limit_it_waits(self) -> None:
        asked = self.ask("?", timeout=None, after=at_length(3600, 600))
        self.question().reply("at last")
        self.assertEqual(self.packets_of(asked, after=1), ["at last"])

    def test_who_cannot_be_reached_is_unreachable_in_time(self) -> None:
        self.mesh.partition((0, 1), (2,))
        asked = self.ask("?", timeout=7, after=7.1)
        self.assertEqual(self.failure_text(asked, Unreachable), "it did not acknowledge the message in 7 s")
        asked = self.ask("?", timeout=100, after=46)
        self.assertIn("it was not acknowledged in 45 s", self.failure_text(asked, Unreachable))

    def test_whom_nobody_knows_is_unreachable_at_once(self) -> None:
        asked = self.a.request(Identity.generate().id, "?")
        self.assertIn("no member with that id", self.failure_text(asked, Unreachable))

    def test_to_cancel_it_stops_waiting(self) -> None:
        asked = self.ask("?", after=0)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.a.footprint()["requests"], 0)
        self.network.advance(1)
        self.result_of(self.question().reply("late"), after=1)
        self.assertEqual(self.got(self.a), ["late"])

    def test_an_answer_that_comes_before_the_acknowledgement_counts(self) -> None:
        asked = self.ask("?", after=0)
        while not self.received(self.b):
            self.network.advance(0.001)
        self.question().reply("quick")
        self.assertEqual(self.packets_of(asked, after=1), ["quick"])

    def test_an_answer_of_another_node_is_a_message_like_any_other(self) -> None:
        asked = self.ask("?")
        origin, epoch, number = self.question().id or (b"", 0, 0)
        self.parts_of(self.c)._send_direct(origin, 2, ("false",), (origin, epoch, number))
        self.network.advance(1)
        self.assertNoResult(asked)
        self.assertEqual(self.got(self.a), ["false"])
        self.question().reply("true")
        self.assertEqual(self.packets_of(asked, after=1), ["true"])

    def test_an_answer_that_holds_no_message_is_none(self) -> None:
        asked = self.ask("?")
        question = self.question()
        origin, _ = question.source.run
        for token, body in ((7, b"\x90"), (8, b"\x91\x92\x05\x02"), (9, b"\x92\x92\x00\x02\x92\x00\x02")):
            self.parts_of(self.b).driver.send_direct(SendDirect(token, origin, body, question.id), 1)
            self.network.advance(1)
        self.assertNoResult(asked)
        question.reply("yes")
        self.assertEqual(self.packets_of(asked, after=1), ["yes"])

    def test_a_member_that_restarts_before_it_has_the_message_answers_in_its_new_run(self) -> None:
        self.mesh.partition((0, 1), (2,))
        asked = self.ask("?", timeout=60, after=2)
        self.stop(self.b)
        self.mesh.heal()
        self.b.startService()
        self.link((self.b, self.c), after=20)
        self.question().reply("here I am")
        self.assertEqual(self.packets_of(asked, after=1), ["here I am"])

    def test_a_member_that_restarts_after_it_had_the_message_does_not_answer(self) -> None:
        asked = self.ask("?", timeout=30)
        self.stop(self.b)
        self.b.startService()
        self.link((self.b, self.c), after=30)
        self.assertIn("it has the message", self.failure_text(asked, NoReply))
        self.assertEqual(len(self.received(self.b)), 1)  # it got the message once

    def test_this_node_restarts_and_the_answer_is_a_message_like_any_other(self) -> None:
        asked = self.ask("?", timeout=60)
        self.stop(self.a)
        self.assertIn("the service stopped", self.failure_text(asked, Unreachable))
        self.a.startService()
        self.link((self.a, self.c), after=5)
        again = self.ask("again", timeout=60)
        self.question(0).reply("to the first")
        self.network.advance(10)
        self.assertNoResult(again)
        self.assertEqual(self.got(self.a), ["to the first"])
        again.cancel()
        self.failureResultOf(again, CancelledError)

    def test_a_new_run_of_this_node_fails_it(self) -> None:
        asked = self.ask("?")
        self.parts_of(self.a)._epoch_conflict(EpochConflict(self.status_of(self.a).stream[1]))
        self.assertIn("a new run of this node", self.failure_text(asked, Unreachable))

    def test_more_than_may_wait_are_refused(self) -> None:
        a, b = self.chain(2, limits={"requests_limit": 2}, after=1)
        asked = [a.request(b.id, "?") for _ in range(2)]
        self.assertRaises(Congested, a.request, b.id, "?")
        self.assertRaises(Congested, a.query, "?")
        self.network.advance(11)
        for one in asked:
            self.failureResultOf(one, NoReply)
        again = a.request(b.id, "?")
        self.network.advance(1)
        self.received(b)[-1].reply("yes")
        self.result_of(again, after=1)

    def test_what_cannot_be(self) -> None:
        request: Any = self.a.request
        for member in (self.b.id.decode(), None):
            self.assertRaises(TypeError, request, member, "x")
        self.assertRaises(ValueError, request, self.a.id, "x")
        self.assertRaises(TypeError, request, self.b.id, object())
        self.assertRaises(ValueError, request, self.b.id, "x", type=1)
        for timeout in (-1, "1"):
            self.assertRaises(LocalError, request, self.b.id, "x", timeout=timeout)
        self.assertEqual(self.a.footprint()["requests"], 0)
        self.assertRaises(NotRunning, self.make().request, self.b.id, "x")


class TestPing(RequestCase):
    def test_it_fires_with_the_round_trip_and_the_application_hears_nothing(self) -> None:
        *_, at_b = self.network.between(self.host(self.c), self.host(self.b))
        at_b.reads = False
        pinged = self.a.ping(self.b.id)
        self.network.advance(0.25)
        at_b.reads = True
        self.assertAlmostEqual(self.result_of(pinged, after=0.01), 0.25, delta=0.02)
        self.assertEqual(self.received(self.b), [])

    def test_it_fails_if_the_member_does_not_answer_in_time(self) -> None:
        self.mesh.partition((0, 1), (2,))
        pinged = self.a.ping(self.b.id, timeout=2)
        self.network.advance(1.9)
        self.assertNoResult(pinged)
        self.network.advance(0.1)
        self.assertEqual(self.failure_text(pinged, Unreachable), "it did not answer in 2 s")
        pinged = self.a.ping(self.b.id, timeout=None)
        self.network.advance(45)
        self.assertIn("it was not acknowledged in 45 s", self.failure_text(pinged, Unreachable))

    def test_what_cannot_be(self) -> None:
        ping: Any = self.a.ping
        self.assertRaises(TypeError, ping, None)
        self.assertRaises(ValueError, ping, self.a.id)
        self.assertRaises(LocalError, ping, self.b.id, -1)
        self.assertIn("no member", str(self.failure_of(ping(b"1"), Unreachable)))
        self.assertRaises(NotRunning, self.make().ping, self.b.id)
