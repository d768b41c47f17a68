"""Handlers and listeners, and the mistakes that the code of an application can make in them."""

from __future__ import annotations

import asyncio
import gc
import pickle
from functools import partial
from types import ModuleType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import formatEvent
from twisted.python.failure import Failure

from tests.support.meshcase import MeshCase, batch
from twisted_mesh import MeshService, Message, Refusal, flags
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.errors import LocalError, Unreachable
from twisted_mesh.runtime.running_node import RunningNode


class Oops(Exception):
    """An error that a test raises on purpose."""


class Leave(BaseException):
    """An exception that no ``except Exception`` catches."""


#: Errors that are no Exception, and CancelledError, which means that somebody gave up.
BASES: tuple[type[BaseException], ...] = (
    asyncio.CancelledError,
    CancelledError,
    GeneratorExit,
    KeyboardInterrupt,
    Leave,
    SystemExit,
)


class DeliveryCase(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.chain(2)
        self.calls: list[str] = []
        self.heard: list[Any] = []  # first packets of messages that no handler took
        self.b.on("message", lambda message: self.heard.append(message.packets[1]))

    def say(self, *packets: object) -> None:
        self.a.send(*packets)
        self.network.pump()

    def failing(self, *_: Any) -> None:
        raise Oops("on purpose")

    def oopses(self) -> int:
        return len(self.flushLoggedErrors(Oops))


class TestRefusals(DeliveryCase):
    def test_20_a_second_are_told_and_the_rest_counted(self) -> None:
        told: list[Refusal] = []
        self.b.on("refused", told.append)
        for second in range(1, 4):
            for _ in range(50):
                self.b._delivery.refused(Refusal(None, False, "full", ""))
            self.assertEqual((len(told), self.b.dropped["dropped_refusals"]), (20 * second, 30 * second))
            self.network.clock.advance(1)


class TestHandlers(DeliveryCase):
    def handler(self, name: str, result: object) -> None:
        self.b.register_handler(lambda message, link: self.calls.append(name) or result)

    def test_the_first_true_result_stops_the_chain(self) -> None:
        for name, result in (("one", None), ("two", 0), ("three", []), ("four", "yes"), ("five", True)):
            self.handler(name, result)
        self.say("x")
        self.assertEqual(self.calls, ["one", "two", "three", "four"])
        self.assertEqual(self.heard, [])

    def test_a_message_nobody_took_goes_to_the_listeners(self) -> None:
        self.handler("one", False)
        queue = self.b.messages()
        self.say("x")
        self.assertEqual((self.heard, len(queue)), (["x"], 1))

    def test_a_handler_is_given_the_message_and_the_link(self) -> None:
        seen: list[Any] = []
        self.b.register_handler(lambda message, link: seen.append((message, link)))
        self.say("x")
        ((message, link),) = seen
        self.assertEqual(message.packets, [0, "x"])
        message.packets.append("changed")
        self.assertEqual(message.packets, [0, "x"])
        self.assertIs(link, self.b.routing_table[self.a.id])

    def test_a_handler_takes_two_arguments(self) -> None:
        wrong: list[Any] = [
            lambda: 0,
            lambda message: 0,
            lambda message, link, more: 0,
            lambda *all: 0,
            lambda message, link, **more: 0,
            lambda message, link, *, more=0: 0,
            lambda message, *, link: 0,
            5,
            None,
            int,
        ]
        for handler in wrong:
            self.assertRaises(ValueError, self.b.register_handler, handler)
        for handler in (self.method, partial(self.method), lambda m, link=None: 0):
            self.b.register_handler(handler)
        self.say("x")
        self.assertEqual(self.calls, ["method", "method"])

    def method(self, message: object, link: object) -> None:
        self.calls.append("method")

    def test_a_handler_that_raises_is_logged_and_has_not_taken_it(self) -> None:
        self.b.register_handler(lambda message, link: self.failing())
        self.handler("next", False)
        self.say("x")
        self.assertEqual((self.calls, self.heard, self.oopses()), (["next"], ["x"], 1))
        (failure,) = self.happened(self.b, "failure")
        self.assertIs(failure.type, Oops)
        self.say("y")
        self.assertEqual((self.heard, self.oopses()), (["x", "y"], 1))
        self.assertEqual(len(self.b.routing_table), 1)

    def test_an_awaitable_result_is_an_error_and_has_not_taken_it(self) -> None:
        async def asynchronous(message: object, link: object) -> bool:
            raise AssertionError("never runs")

        class Awaitable:
            def __await__(self) -> Any:
                raise AssertionError("never runs")

        results: list[Any] = [lambda m, link: Deferred(), lambda m, link: Awaitable(), asynchronous]
        for handler in results:
            self.b.register_handler(handler)
        self.say("x")
        errors = self.flushLoggedErrors(TypeError)
        self.assertEqual(len(errors), 3)
        self.assertIn("returned an awaitable: use a listener", str(errors[0].value))
        self.assertEqual(self.heard, ["x"])
        self.assertEqual(len(self.happened(self.b, "failure")), 3)

    def test_a_handler_that_returns_a_failed_deferred_is_logged_in_full(self) -> None:
        self.b.register_handler(lambda message, link: fail(Oops()))
        self.say("x")
        self.assertEqual((len(self.flushLoggedErrors(TypeError)), self.oopses()), (1, 1))

    def test_a_handler_may_send_and_stop_links(self) -> None:
        def busy(message: Any, link: Any) -> None:
            if message.packets[1] == "x":
                self.b.send("answer")
            else:
                self.b.disconnect(link)

        self.b.register_handler(busy)
        self.say("x")
        self.say("y")
        self.assertEqual((self.got(self.a), self.heard), (["answer"], ["x", "y"]))
        self.assertEqual(dict(self.b.routing_table), {})


class TestListeners(DeliveryCase):
    def test_a_listener_that_fails_silences_nobody(self) -> None:
        self.b.on("message", self.failing)
        self.b.on("message", lambda message: self.calls.append(message.packets[1]))
        self.say("x")
        self.assertEqual((self.calls, self.heard, self.oopses()), (["x"], ["x"], 1))
        (failure,) = self.happened(self.b, "failure")
        self.assertIs(failure.type, Oops)
        self.assertEqual(len(self.b.routing_table), 1)

    def test_a_failing_listener_of_failures_does_not_recurse(self) -> None:
        self.b.on("failure", self.failing)
        self.b.on("message", lambda message: self.failing())  # one that listens to messages alone
        self.say("x")
        self.assertEqual(self.oopses(), 2)
        self.assertEqual(len(self.happened(self.b, "failure")), 1)
        self.b.once("failure", lambda failure: self.failing())
        self.say("y")
        self.assertLess(self.oopses(), 6)

    def test_a_listener_of_messages_and_of_failures_is_told_of_its_own_failure(self) -> None:
        told: list[Any] = []

        def both(what: Any) -> None:
            told.append(what)
            raise Oops

        async def both_later(what: Any) -> None:
            both(what)

        for listener in (both, both_later):
            with self.subTest(listener=listener.__name__):
                told.clear()
                for event in ("message", "failure"):
                    self.b.on(event, listener)
                self.say("x")
                self.assertEqual([type(what) for what in told], [Message, Failure])
                self.assertEqual(self.oopses(), 2)
                for event in ("message", "failure"):
                    self.b.remove_listener(event, listener)

    def test_nor_is_an_event_that_a_listener_of_failures_emits_told_as_a_failure_for_ever(self) -> None:
        self.b.on("refused", self.failing)
        self.b.on("failure", lambda failure: self.b.emit("refused", None))
        self.b.on("message", lambda message: self.failing())
        self.say("x")
        self.assertEqual((self.oopses(), len(self.happened(self.b, "failure"))), (2, 1))

    def test_the_failure_of_a_coroutine_or_deferred_is_logged_and_emitted_once(self) -> None:
        waiting: Deferred[None] = Deferred()

        async def later(message: object) -> None:
            await waiting
            raise Oops

        self.b.once("message", later)
        self.say("x")
        self.assertEqual(self.happened(self.b, "failure"), [])
        waiting.callback(None)
        self.assertEqual((self.oopses(), len(self.happened(self.b, "failure"))), (1, 1))
        self.b.on("message", lambda message: fail(Oops()))
        self.say("y")
        self.assertEqual((self.oopses(), len(self.happened(self.b, "failure"))), (1, 2))

    def test_what_asyncio_alone_can_wait_for_says_what_to_do(self) -> None:
        loop = asyncio.new_event_loop()
        self.addCleanup(loop.close)

        async def sleeps(message: object) -> None:
            await asyncio.sleep(1)

        async def awaits(message: object) -> None:
            await loop.create_future()

        def begins(message: object, link: object = None) -> None:
            asyncio.get_running_loop()

        self.b.register_handler(begins)
        for listener in (sleeps, awaits, begins):
            self.b.on("message", listener)
        self.say("x")
        failures = self.happened(self.b, "failure")
        logged = [failure.getErrorMessage() for failure in self.flushLoggedErrors(RuntimeError)]
        self.assertEqual([failure.getErrorMessage() for failure in failures], logged)
        told = ["no running event loop"] * 3 + ["await wasn't used with future"]
        self.assertEqual(sorted(text.split(": ")[0] for text in logged), sorted(told))
        for text in logged:
            for remedy in ("asyncioreactor", "Deferred.fromFuture(", "run_coroutine_threadsafe("):
                self.assertIn(remedy, text)

    def test_a_message_that_came_can_be_pickled(self) -> None:
        seen: list[Message] = []
        self.b.on("message", seen.append)
        self.say("x", [1, {"a": b"b"}])
        copied = pickle.loads(pickle.dumps(seen[0]))
        self.assertEqual((copied.packets, copied.id), (seen[0].packets, seen[0].id))
        self.assertRaises(LocalError, copied.reply, "yes")

    def test_listeners_of_connect_and_refused_that_fail(self) -> None:
        for event in ("connect", "disconnect", "refused", "gap"):
            self.a.on(event, self.failing)
        self.unlink(self.a, self.b)
        self.link((self.a, self.b))
        stranger = self.node(subnet="another")
        stranger.connect(self.host(self.a), 4444).addErrback(lambda _: None)
        self.network.pump()
        self.assertEqual(self.oopses(), 3)
        self.say("still")
        self.assertEqual(self.heard, ["still"])
        self.a.remove_all_listeners("disconnect")

    def test_the_whole_surface_of_an_event_emitter(self) -> None:
        b, calls = self.b, self.calls
        b.remove_all_listeners()
        self.assertEqual(b.event_names(), set())

        @b.on("message")
        def decorated(message: object) -> None:
            calls.append("decorated")

        @b.once("message")
        def once(message: object) -> None:
            calls.append("once")

        def added(message: object) -> None:
            calls.append("added")

        b.once("message", added)
        self.assertIs(b.add_listener("message", added), added)
        self.assertEqual(b.event_names(), {"message"})
        self.assertEqual(len(b.listeners("message")), 3)
        self.assertTrue(b.emit("message", None))
        self.assertEqual(calls[:2], ["decorated", "once"])
        self.assertTrue(b.emit("message", None))
        self.assertEqual(calls.count("decorated"), 2)
        self.assertEqual(calls.count("once"), 1)
        b.remove_listener("message", decorated)
        b.remove_all_listeners("message")
        self.assertFalse(b.emit("message", None))
        self.assertFalse(b.emit("anything", key="word"))

    def test_an_event_that_there_is_not_and_a_listener_that_cannot_be_called_are_refused_at_once(
        self,
    ) -> None:
        b: Any = self.b
        for add in (b.on, b.once, b.add_listener):
            for event in ("mesage", "", None):
                error = self.assertRaises(ValueError, add, event, self.failing)
                self.assertIsInstance(error, LocalError)
                self.assertIn(
                    "the events are message, connect, disconnect, caught_up, member, gap, receipt",
                    str(error),
                )
            self.assertRaises(TypeError, add, "message", "no function")
        for add in (b.on, b.once):
            self.assertRaises(ValueError, add, "mesage")
        self.assertEqual(b.listeners("mesage"), [])

    def test_who_comes_or_goes_within_a_batch_does_so_from_the_next_message_on(self) -> None:
        late: list[int] = []

        def comes(message: Message) -> None:
            late.append(message.packets[1])

        def decides(message: Message) -> None:
            match message.packets[1]:
                case 1:
                    self.b.on("message", comes)
                    self.b.once("message", lambda message: late.append(-message.packets[1]))
                case 4:
                    self.b.remove_listener("message", comes)
                case 5:
                    self.b.remove_all_listeners("message")

        self.b.on("message", decides)
        self.send(self.a, *range(8))
        # A listener is called with a message if it was registered when the message came.
        self.assertEqual((self.heard, late), ([0, 1, 2, 3, 4, 5], [2, -2, 3, 4]))
        self.assertEqual(self.b.footprint()["unheard_messages"], 2)

    def test_nothing_leads_from_a_message_back_to_the_service(self) -> None:
        # The garbage collector does not look into messages: it frees no circle of references through one.
        seen: list[Message] = []
        self.b.on("message", seen.append)
        self.say("x")
        (message,) = seen
        reached: list[object] = [message]
        known = {id(message)}
        for one in reached:
            for held in gc.get_referents(one):
                if id(held) not in known and not isinstance(held, type | ModuleType):
                    known.add(id(held))
                    reached.append(held)
        self.assertFalse(any(isinstance(one, MeshService | RunningNode | MessageQueue) for one in reached))

    def test_messages_nobody_was_there_for_are_counted(self) -> None:
        self.say("heard")
        self.assertEqual(self.b.footprint()["unheard_messages"], 0)
        self.b.remove_all_listeners("message")
        self.say("x")
        self.assertEqual(self.b.footprint()["unheard_messages"], 1)
        self.b.messages()
        self.say("kept for nobody: that iterator was let go of")
        self.assertEqual(self.b.footprint()["unheard_messages"], 2)
        queue = self.b.messages()
        self.say("heard")
        self.assertEqual((len(queue), self.b.footprint()["unheard_messages"]), (1, 2))


class TestWhatIsNoException(DeliveryCase):
    def raised(self, error: type[BaseException], times: int) -> None:
        """Assert that *error* was logged and emitted *times* times."""
        self.assertEqual(len(self.flushLoggedErrors(error)), times, error)
        failures = [failure for failure in self.happened(self.b, "failure") if failure.type is error]
        self.assertEqual(len(failures), times, error)

    def test_in_a_handler_or_listener_it_costs_no_link_and_nobody_a_message(self) -> None:
        for error in BASES:
            self.fail_with_messages(error)

    def fail_with_messages(self, error: type[BaseException]) -> None:
        def fails(message: object, link: object = None) -> None:
            raise error

        async def later(message: object) -> None:
            raise error

        a, self.b = self.chain(2)
        heard: list[int] = []
        self.b.register_handler(fails)
        self.b.on("message", fails)
        self.b.on("message", later)
        self.b.on("message", lambda message: heard.append(message.packets[1]))
        for number in range(3):
            a.send(number)  # one batch
        self.network.pump()
        self.assertEqual((heard, list(self.b.routing_table)), ([0, 1, 2], [a.id]), error)
        self.raised(error, 9)

    def test_in_a_listener_of_anything_else_it_costs_no_link_either(self) -> None:
        for error in BASES:
            self.fail_with_events(error)

    def fail_with_events(self, error: type[BaseException]) -> None:
        def fails(what: object) -> None:
            raise error

        a, self.b = self.node(), self.node()
        for event in ("connect", "disconnect", "member", "receipt"):
            self.b.on(event, fails)
        self.link((a, self.b))
        receipt = self.b.send("who has it?", receipt=True)
        self.network.advance(1)
        self.assertEqual((receipt.is_complete, list(self.b.routing_table)), (True, [a.id]), error)
        self.stop(a)
        events = [name for name, _ in self.mesh.events(self.services.index(self.b)) if name != "failure"]
        self.assertLessEqual({"connect", "disconnect", "member", "receipt"}, set(events))
        self.raised(error, len(events))

    def test_in_a_listener_of_failures_it_is_logged_alone(self) -> None:
        def fails(*_: object) -> None:
            raise Leave

        self.b.on("failure", fails)
        self.b.on("message", self.failing)
        self.say("x")
        self.assertEqual((self.heard, self.oopses()), (["x"], 1))
        self.assertEqual(len(self.flushLoggedErrors(Leave)), 1)


class TestGap(DeliveryCase):
    def test_a_hole_nothing_fills_is_told_as_a_gap_before_what_follows(self) -> None:
        puppet = self.joined(self.b)
        puppet.send(batch(puppet.me, 1, "one"), batch(puppet.me, 4, "four"), batch(puppet.me, 6, "six"))
        self.network.advance(29)
        self.assertEqual(self.got(self.b), ["one"])
        # The link stays up by the peer's PONGs.
        self.network.advance(2)
        gaps = self.happened(self.b, "gap")
        self.assertEqual(
            [(gap.sender, gap.epoch, gap.first, gap.last) for gap in gaps],
            [
                (puppet.me.id, 1, 2, 3),
                (puppet.me.id, 1, 5, 5),
            ],
        )
        self.assertEqual(self.got(self.b), ["one", "four", "six"])
        # Messages behind the hole are relayed at once, so the other node has waited no longer.
        self.assertEqual([(gap.first, gap.last) for gap in self.happened(self.a, "gap")], [(2, 3), (5, 5)])
        self.assertEqual(self.got(self.a), ["one", "four", "six"])
        told = f"messages 2 to 3 of {puppet.me.id.decode()[:8]} are lost: no neighbour sent them in time"
        self.assertEqual(self.log("messages 2 to 3 of"), [told, told])

    def test_a_hole_that_is_filled_in_time_is_none(self) -> None:
        puppet = self.joined(self.b)
        one, two = batch(puppet.me, 1, "one"), batch(puppet.me, 2, "two")
        self.send_frames(puppet, two, after=10)
        self.send_frames(puppet, one, after=60)
        self.assertEqual((self.got(self.b), self.happened(self.b, "gap")), (["one", "two"], []))


class TestDebugLevels(MeshCase):
    def test_each_level_logs_what_it_says(self) -> None:
        def mine(message: object, link: object) -> None:
            pass

        entered = f"handler {mine} entered"
        for level, expected in ((0, set()), (1, {"linked"}), (4, {"linked", entered})):
            a, b = self.node(debug_level=level), self.node(debug_level=level)
            b.register_handler(mine)
            before = len(self._lines)
            self.link((a, b))
            self.send(a, "x" * 100)
            lines = "".join(map(formatEvent, self._lines[before:]))
            self.assertEqual({words for words in ("linked", entered) if words in lines}, expected)
            self.assertNotIn("xxxx", "".join(map(str, self._lines[before:])))

    def test_payloads_are_shown_at_level_five_alone_and_cut(self) -> None:
        a, _b = self.linked(self.node(debug_level=5), self.node(debug_level=5))
        self.send(a, "x" * 200)
        for way in ("out: type 0, 205 bytes, ", "in: type 0, "):
            (line,) = self.log(way)
            self.assertIn("[0, 'xxx", line)
            self.assertLess(len(line), 140)
            self.assertTrue(line.endswith("…"))

    def test_each_message_out_is_shown_once_whatever_sent_it(self) -> None:
        a, b = self.linked(self.node(debug_level=5), self.node())
        self.send(b, "ask")
        a.send("sent")
        a.send("beside", flag=flags.whisper)
        a.routing_table[b.id].whisper("over a link")
        a.routing_table[b.id].send(flags.whisper, 0x30, "of another type")
        self.received(a)[0].reply("replied")
        self.network.pump()
        out = self.log("out: ")
        for number, line in enumerate(("sent", "beside", "over a link", "of another type", "replied")):
            self.assertIn(line, out[number])
        self.assertEqual((len(out), out[3]), (5, "out: type 48, 19 bytes, [48, 'of another type']"))
        link = a.routing_table[b.id]
        a.disconnect(link)
        self.failureResultOf(link.whisper("nothing goes out"), Unreachable)
        self.assertEqual(self.log("nothing goes out"), [])
