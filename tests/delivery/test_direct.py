"""Messages to one member, over any number of hops: send_to() and reply(), on a Clock."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred, fail

from tests.support.meshcase import MIB, MeshCase, consume
from twisted_mesh import flags
from twisted_mesh.core.events import EpochConflict
from twisted_mesh.delivery.direct import Sources
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.errors import MessageTooLarge, NotRunning, StoreError, Unreachable
from twisted_mesh.identity import Identity
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService


class TestSendTo(MeshCase):
    def test_it_arrives_over_three_hops_once_and_nowhere_else(self) -> None:
        a, b, c, d = self.chain(4, after=1)
        sent = a.send_to(d.id, "psst", b"!", {"n": 1})
        self.assertNoResult(sent)
        self.assertIsNone(self.result_of(sent, after=10))
        (message,) = self.received(d)
        self.assertEqual(message.packets, [2, "psst", b"!", {"n": 1}])
        run = message.source.run
        self.assertEqual((message.sender, message.id, message.verified), (a.id, (*run, -1), True))
        self.assertEqual((self.received(b), self.received(c)), ([], []))

    def refuse(self, origin: bytes, packets: tuple[object, ...]) -> Deferred[None]:
        return fail(Unreachable())

    def test_the_time_of_a_message_is_always_one_that_a_calendar_has(self) -> None:
        sources = Sources(lambda: 5.0, self.refuse)
        for sent, year in ((1, 1970), (1_800_000_000_000, 2027), (2**62, 9999)):
            source = sources.of((b"o" * 32, 1), sent)
            self.assertEqual(datetime.fromtimestamp(source.time, UTC).year, year)
            for hours in (-14, 14):
                datetime.fromtimestamp(source.time, timezone(timedelta(hours=hours)))  # raises nothing
        self.assertEqual(sources.of((b"o" * 32, 1), 0).time, 5.0)

    def test_with_a_type_and_to_a_neighbour(self) -> None:
        a, b = self.chain(2)
        self.result_of(a.send_to(b.id, type=0x30))
        self.assertEqual(self.received(b)[0].packets, [0x30])

    def test_to_and_from_nodes_nobody_can_dial(self) -> None:
        driver = self.node()
        inner = [self.node(listens=False) for _ in range(2)]
        self.link((inner[0], driver), (inner[1], driver), after=1)
        self.result_of(inner[0].send_to(inner[1].id, "ping"))
        reply = self.received(inner[1])[0].reply("pong")
        self.result_of(reply)
        self.assertEqual(self.got(inner[0]), ["pong"])
        self.assertEqual(self.got(driver), [])

    def test_they_arrive_in_numbers_each_once_in_both_directions(self) -> None:
        a, b, c = self.chain(3, after=1)
        sent = [a.send_to(c.id, number) for number in range(50)]
        back = [c.send_to(a.id, -number) for number in range(50)]
        self.network.advance(60)
        for each in (*sent, *back):
            self.successResultOf(each)
        self.assertCountEqual(self.got(c), range(50))
        self.assertCountEqual(self.got(a), range(0, -50, -1))
        self.assertEqual(self.got(b), [])

    def test_what_cannot_be(self) -> None:
        a, b = self.chain(2)
        send_to: Any = a.send_to
        for member in (b.id.decode(), None, 1):
            self.assertRaises(TypeError, send_to, member, "x")
        self.assertRaises(ValueError, a.send_to, a.id, "x")
        self.assertRaises(TypeError, a.send_to, b.id, object())
        self.assertRaises(TypeError, a.send_to, b"nobody", object())
        self.assertRaises(MessageTooLarge, a.send_to, b.id, b"x" * MIB)
        for type_ in (1, 3, "0", None):
            self.assertRaises(ValueError, send_to, b.id, "x", type=type_)
        self.network.advance(1)
        self.assertEqual(self.received(b), [])
        self.assertRaises(NotRunning, self.make().send_to, b.id, "x")

    def test_an_id_nobody_has(self) -> None:
        a, _ = self.chain(2)
        stranger = Identity.generate().id
        error = self.failureResultOf(a.send_to(stranger, "x"), Unreachable).value
        self.assertEqual(str(error), f"{stranger.decode()}: no member with that id is known here")
        self.failureResultOf(a.send_to(b"\xff\x00", "x"), Unreachable)

    def test_nobody_acknowledges_in_time(self) -> None:
        a, _b, c = self.chain(3, limits={"direct_timeout": 7.0}, after=1)
        self.mesh.partition([self.services.index(c)])
        sent = a.send_to(c.id, "x")
        self.network.advance(6.9)
        self.assertNoResult(sent)
        error = self.failure_of(sent, Unreachable, after=0.2)
        name = c.id.decode()
        self.assertEqual(
            str(error), f"{name}: it was not acknowledged in 7 s; it is up as far as this node knows"
        )
        self.mesh.heal()
        self.network.advance(70)
        self.result_of(a.send_to(c.id, "y"), after=5)
        self.assertIn("y", self.got(c))

    def test_without_any_link(self) -> None:
        a, b = self.chain(2, limits={"direct_timeout": 3.0}, after=1)
        self.mesh.partition((0,), (1,))
        self.network.advance(60)
        error = self.failure_of(a.send_to(b.id, "x"), Unreachable, after=4)
        self.assertRegex(str(error), ": this node has no link; nobody acknowledged it in 3 s$")

    def test_a_link_that_comes_in_time(self) -> None:
        a, b = self.chain(2, after=1)
        self.mesh.partition((0,), (1,))
        self.network.advance(60)
        self.assertNotIn(b.id, a.routing_table)
        sent = a.send_to(b.id, "x")
        self.network.advance(10)
        self.mesh.heal()
        self.link((b, a))
        self.result_of(sent, after=1)
        self.assertEqual(self.got(b), ["x"])

    def test_to_who_has_left_it_fails_at_once_and_when_it_is_back_it_arrives(self) -> None:
        a, b = self.chain(2, after=1)
        self.stop(b)
        sent = a.send_to(b.id, "x")
        self.network.pump()
        error = self.failureResultOf(sent, Unreachable).value
        self.assertEqual(str(error), f"{b.id.decode()}: it has left")
        b.startService()
        self.link((b, a), after=1)
        self.result_of(a.send_to(b.id, "y"), after=1)
        self.assertEqual(self.got(b), ["y"])

    def test_a_partition_that_heals_in_time_costs_nothing(self) -> None:
        nodes = self.chain(4, after=1)
        self.mesh.partition((0, 1))
        sent = nodes[0].send_to(nodes[3].id, "x")
        self.network.advance(8)
        self.assertNoResult(sent)
        self.mesh.heal()
        self.result_of(sent, after=15)
        self.assertEqual(self.got(nodes[3]), ["x"])

    def test_a_restarted_member_gets_it_in_its_new_run(self) -> None:
        a, b = self.node(), self.node()
        c = self.keyed()
        self.link((a, b), (c, b), after=1)
        first = a.send_to(c.id, "to the first run")
        self.result_of(first, after=1)
        number = self.kill(c)
        sent = a.send_to(c.id, "to the second")
        self.network.advance(5)
        self.assertNoResult(sent)
        c = self.mesh.start(number)
        self.link((c, b))
        self.result_of(sent, after=15)
        self.assertEqual(self.got(c), ["to the second"])

    def test_stopping_ends_the_wait(self) -> None:
        a, b = self.chain(2, after=1)
        self.mesh.partition([0])
        sent = a.send_to(b.id, "x")
        self.stop(a)
        error = self.failureResultOf(sent, Unreachable).value
        self.assertEqual(str(error), f"{b.id.decode()}: the service stopped first")
        self.assertRaises(NotRunning, a.send_to, b.id, "x")

    def test_who_is_cancelled_waits_no_more(self) -> None:
        a, b = self.chain(2)
        sent = a.send_to(b.id, "x")
        sent.cancel()
        self.failureResultOf(sent, CancelledError)
        self.network.advance(40)
        self.assertEqual(a.footprint()["unacknowledged"], 0)
        self.assertEqual(a.footprint()["direct_waiting"], 0)

    def test_of_many_of_one_turn_some_leave_before_its_end(self) -> None:
        # The other node can work on the first of them while this one makes the rest.
        a, b = self.chain(2, after=1)
        link = a.routing_table[b.id]
        for count, size, before_the_end in (
            (15, 1, 0),
            (16, 1, 16),
            (31, 1, 16),
            (32, 1, 32),
            (63, 1, 32),
            (64, 1, 64),
            (2, 40_000, 2),
        ):
            waiting = a.footprint()["direct_waiting"]
            sent = [a.send_to(b.id, "x" * size) for _ in range(count)]
            self.assertEqual(a.footprint()["direct_waiting"] - waiting, before_the_end)
            self.assertEqual(link.queued_bytes, 0)  # what left is written
            self.network.pump()
            for each in sent:
                self.successResultOf(each)

    def test_those_of_a_turn_in_which_a_new_run_begins_are_not_sent_in_it(self) -> None:
        a, b = self.chain(2, after=1)
        sent = a.send_to(b.id, "x")
        self.parts_of(a).driver.publish(EpochConflict(2**50))
        self.failureResultOf(sent, Unreachable)
        self.network.advance(5)
        self.assertEqual((a.footprint()["direct_waiting"], self.got(b)), (0, []))

    def test_nor_those_that_wait_until_the_core_has_handled_an_event(self) -> None:
        a, b = self.chain(2, after=1)
        sent: list[Deferred[None]] = []

        def send_and_renew(_: Message) -> None:
            sent.extend(a.send_to(b.id, "x") for _ in range(40))
            self.parts_of(a).driver.publish(EpochConflict(2**50))

        a.once("message", send_and_renew)
        b.send("go")
        self.network.advance(5)
        self.assertEqual(len(sent), 40)
        for each in sent:
            self.failureResultOf(each, Unreachable)
        self.assertEqual((a.footprint()["direct_waiting"], self.got(b)), (0, []))

    def test_too_many_that_wait_are_refused(self) -> None:
        a, b = self.linked(self.node(limits={"direct_window": 3}), self.node(), after=1)
        self.mesh.partition([0])
        waiting = [a.send_to(b.id, number) for number in range(3)]
        refused = a.send_to(b.id, 3)
        self.network.pump()
        error = self.failureResultOf(refused, Unreachable).value
        self.assertRegex(str(error), ": too many direct messages wait to be acknowledged$")
        self.mesh.heal()
        self.network.advance(29)
        for each in waiting:
            self.successResultOf(each)
        self.assertEqual(self.got(b), [0, 1, 2])

    def test_nothing_is_left_when_all_are_acknowledged(self) -> None:
        a, b, c = self.chain(3, after=1)
        before = [node.footprint() for node in (a, b, c)]
        for number in range(20):
            a.send_to(c.id, number)
        self.network.advance(3)
        # A node remembers a member it wrote to, a run that wrote to it, and recent messages it relayed.
        for node, was in zip((a, b, c), before, strict=True):
            now = node.footprint()
            changed = {name: now[name] - was[name] for name in now if now[name] != was[name]}
            changed.pop("unheard_messages", None)
            self.assertLessEqual(changed.pop("direct_first_arrivals", 0), 20)
            remembered = {"direct_destinations", "direct_senders", "first_arrivals", "relayed_pairs"}
            remembered.add("content_keys")
            self.assertLessEqual(set(changed), remembered)
            self.assertLessEqual(max(changed.values(), default=0), 1)

    def test_before_the_member_has_said_that_it_is_there(self) -> None:
        a, b = self.node(), self.node()
        linked: list[Any] = []
        a.on("connect", lambda service: linked.append(service.send_to(b.id, "at once")))
        self.link((a, b))
        self.result_of(linked[0], after=2)
        self.assertEqual(self.got(b), ["at once"])


class TestReceiving(MeshCase):
    def links(self, service: MeshService) -> list[MeshProtocol | None]:
        """A list of the links that the handlers of *service* are given, one for each message."""
        links: list[MeshProtocol | None] = []
        service.register_handler(lambda message, link: links.append(link))
        return links

    def test_handlers_are_told_the_link_where_it_is_the_senders_own(self) -> None:
        a, b, c = self.chain(3, after=1)
        links = self.links(c)
        a.send_to(c.id, "from afar")
        self.network.pump()
        b.send_to(c.id, "next to it")
        self.network.pump()
        self.assertEqual(links, [None, c.routing_table[b.id]])

    def test_a_handler_takes_it_and_consumers_get_it(self) -> None:
        a, _b, c = self.chain(3, after=1)
        c.register_handler(lambda message, link: message.packets[1] == "mine")
        queue = c.messages()
        taken, left = a.send_to(c.id, "mine"), a.send_to(c.id, "yours")
        self.result_of(taken)
        self.successResultOf(left)
        self.assertEqual([message.packets[1] for message in queue.peek()], ["yours"])

    def test_from_a_guest_that_published_nothing(self) -> None:
        guest, _b, a = self.linked(self.node(role="guest"), self.node(), self.node(), after=1)
        self.result_of(guest.send_to(a.id, "question"))
        self.assertEqual(self.got(a), ["question"])

    def test_a_reply_to_what_came_before_a_restart_fails_at_once(self) -> None:
        a, b = self.chain(2, after=1)
        self.send(a, "question")
        queue = b.messages()
        self.send(a, "another")
        message = queue.take()
        assert message is not None
        b.stopService()
        self.network.advance(5)
        self.failureResultOf(message.reply("late"), Unreachable)
        b.startService()
        self.network.advance(5)
        self.failureResultOf(message.reply("late"), Unreachable)

    def test_the_reply_to_a_guest(self) -> None:
        guest, b, a = self.linked(self.node(role="guest"), self.node(), self.node(), after=1)
        self.send(guest, "question")
        reply = self.received(a)[0].reply("answer")
        self.result_of(reply, after=1)
        self.assertEqual(self.got(guest), ["answer"])
        sent = b.send_to(guest.id, "too")  # a guest is a neighbour, though on no roster
        self.result_of(sent)
        self.assertEqual(self.got(guest), ["answer", "too"])
        self.failureResultOf(a.send_to(guest.id, "not there"), Unreachable)

    def test_the_reply_to_one_that_has_restarted(self) -> None:
        a = self.keyed()
        b, c = self.node(), self.node()
        self.link((a, b), (b, c))
        self.send(a, "question", after=1)
        number = self.kill(a)
        a = self.mesh.start(number)
        self.link((a, b), after=2)
        reply = self.received(c)[0].reply("answer")
        self.result_of(reply, after=5)
        self.assertEqual(self.got(a), ["answer"])


class TestIds(MeshCase):
    """A direct message has an id, and each reply names the message that it answers."""

    def test_no_two_of_one_run_have_the_same_id_whoever_they_are_for(self) -> None:
        a, b, c = self.chain(3, after=1)
        for reader in (b, c, b):
            self.result_of(a.send_to(reader.id, "x"), after=1)
        ids = [message.id for node in (b, c) for message in self.received(node)]
        self.assertEqual(len(set(ids)), 3)

    def test_a_reply_names_what_it_answers(self) -> None:
        a, b = self.chain(2, after=1)
        a.send("to all")
        self.network.advance(1)
        self.result_of(a.send_to(b.id, "to one"), after=1)
        asked = self.received(b)
        self.assertEqual([message.in_reply_to for message in asked], [None, None])
        for message in asked:
            self.result_of(message.reply("yes"), after=1)
        answers = self.received(a)
        self.assertEqual([answer.in_reply_to for answer in answers], [message.id for message in asked])
        self.result_of(answers[0].reply("thanks"), after=1)
        self.assertEqual(self.received(b)[-1].in_reply_to, answers[0].id)

    def test_a_reply_to_a_whisper_names_nothing(self) -> None:
        a, b = self.chain(2, after=1)
        a.send("psst", flag=flags.whisper)
        self.network.advance(1)
        self.result_of(self.received(b)[0].reply("yes"), after=1)
        self.assertIsNone(self.received(a)[0].in_reply_to)


class TestFull(MeshCase):
    """Direct messages wait for a consumer that has no room, and are acknowledged when it has."""

    def full(self, **limits: Any) -> tuple[MeshService, MessageQueue, list[Deferred[None]]]:
        """A node with a ``messages()`` of four, and 30 messages that another has sent to it."""
        a, b = self.chain(2, limits={"queue_limit": 4, **limits}, after=1)
        queue = b.messages()
        sent = []
        for number in range(30):  # those that come in one read can be more than the limit
            sent.append(a.send_to(b.id, number))
            self.network.pump()
        return b, queue, sent

    def come(self, sent: list[Deferred[None]]) -> int:
        """How many messages are acknowledged."""
        return sum(each.called for each in sent)

    def test_none_is_acknowledged_that_is_not_handed_out(self) -> None:
        b, queue, sent = self.full()
        waiting = len(queue)
        self.assertEqual(self.come(sent), waiting)
        self.assertEqual(waiting, 4)
        self.assertEqual(b.footprint()["direct_held"], 30 - waiting)
        got = [message.packets[1] for message in queue.peek()]
        self.assertEqual(got, list(range(waiting)))

    def test_they_come_in_order_as_it_is_read_and_none_is_dropped(self) -> None:
        b, queue, sent = self.full()
        got = []
        for _ in range(40):
            while (message := queue.take()) is not None:
                got.append(message.packets[1])
            self.network.advance(0.1)
        self.assertEqual((got, self.come(sent)), (list(range(30)), 30))
        self.assertEqual((queue.dropped, b.dropped["dropped_messages"]), (0, 0))

    def test_one_that_is_closed_holds_nothing_up(self) -> None:
        _, queue, sent = self.full()
        queue.close()
        self.network.advance(1)
        self.assertEqual(self.come(sent), 30)

    def test_nor_does_one_that_nobody_holds(self) -> None:
        _, queue, sent = self.full()
        del queue
        gc.collect()
        self.network.advance(10)
        self.assertEqual(self.come(sent), 30)

    def test_those_that_come_when_one_that_waits_makes_room_are_behind_its_next_message(self) -> None:
        a, b = self.chain(2, limits={"queue_limit": 4}, after=1)
        queue, full = b.messages(), b.messages()
        for number in range(8):
            a.send(number)
        self.network.advance(1)
        reader, queue.reader = queue.reader, unreadable
        got: list[Any] = []
        waiting = Deferred.fromCoroutine(consume(queue, got))
        for number in range(8):
            a.send_to(b.id, f"for you {number}")
            self.network.pump()
        directs = [f"for you {number}" for number in range(8)]
        self.assertEqual(got, [0, 1, 2, 3, *directs[:4]])
        del full
        gc.collect()
        queue.reader = reader
        b._delivery.read_again()
        self.assertNoResult(waiting)
        self.assertEqual([each for each in got if isinstance(each, int)], list(range(8)))
        self.assertEqual([each for each in got if isinstance(each, str)], directs)

    def test_while_it_is_full_messages_to_all_are_not_held_up(self) -> None:
        b, _queue, _ = self.full()
        got: list[Message] = []
        b.on("message", got.append)
        self.services[0].send("to all")
        self.network.advance(1)
        self.assertEqual([message.packets[1] for message in got], ["to all"])

    def test_messages_to_all_that_wait_hold_up_no_direct_message(self) -> None:
        a, b = self.chain(2, limits={"queue_limit": 4}, after=1)
        queue = b.messages()
        for number in range(10):
            a.send(number)
        self.network.advance(1)
        self.assertEqual(len(queue), 4)
        self.result_of(a.send_to(b.id, "for you"), after=1)
        got = []
        while (message := queue.take()) is not None:
            got.append(message.packets[1])
        self.assertCountEqual(got, [*range(10), "for you"])

    def test_if_it_is_not_read_they_are_unreachable_in_time(self) -> None:
        _, queue, sent = self.full(direct_timeout=7.0)
        waiting = len(queue)
        self.network.advance(7)
        for each in sent[waiting:]:
            self.failureResultOf(each, Unreachable)

    def test_a_run_that_begins_while_it_is_full_has_no_more_room(self) -> None:
        b, queue, _ = self.full()
        self.stop(b)
        waiting = len(queue)
        b.startService()
        self.link((b, self.services[0]), after=1)
        again = self.services[0].send_to(b.id, "again")
        self.network.advance(20)
        self.assertLessEqual(len(queue), waiting + 1)
        while queue.take() is not None:
            self.network.advance(1)
        self.result_of(again, after=20)


def unreadable(*_: object) -> NoReturn:
    """A history that cannot be read."""
    raise StoreError("the disk does not answer")
