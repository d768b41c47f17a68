"""Receipts and direct messages of a MeshSocket, in threads that wait for them."""

from __future__ import annotations

from typing import Any

from tests.blocking.test_mesh import SocketCase
from twisted_mesh import MeshConfig
from twisted_mesh.errors import (
    LocalError,
    NoMembers,
    NoReply,
    NotRunning,
    ReceiptTimeout,
    Unreachable,
    WrongValue,
)
from twisted_mesh.message import Message


class ReceiptTests(SocketCase):
    def test_it_blocks_until_everybody_has_the_message(self) -> None:
        a, b = self.pair()
        c = self.socket()
        c.connect(*b.out_addr)
        self.soon(lambda: len(a.members) == 2)
        seen: list[Any] = []
        a.on("receipt", seen.append)
        receipt = a.send("fire!", receipt=True)
        self.assertIs(receipt.complete(30), receipt)
        self.assertEqual(receipt.delivered, {b.id, c.id})
        self.assertEqual((receipt.pending, receipt.missed, receipt.closed), (set(), set(), None))
        self.assertEqual(receipt.forgotten, {})
        self.assertTrue(receipt.is_complete)
        self.assertEqual(b.recv(timeout=30).id, receipt.id)
        self.assertEqual(repr(receipt), "<receipt: 2 delivered, 0 pending, 0 missed>")
        self.assertEqual({*seen}, {receipt})
        self.assertNotEqual(receipt, a.send("more", receipt=True))
        self.assertIsNone(a.send("without"))

    def test_a_message_nobody_has_received_yet_is_pending(self) -> None:
        a, b = self.pair()
        a.send("first")
        self.assertEqual(b.recv(timeout=30).packets, [0, "first"])
        receipt = a.send("second", receipt=True)
        error = self.assertRaises(ReceiptTimeout, receipt.complete, 0.2)
        self.assertIs(error.receipt, receipt)
        self.assertRaises(LocalError, receipt.complete, "x")
        self.assertEqual(str(error), "1 of 1 member has not taken the message after 0.2 s")
        self.assertEqual((receipt.pending, receipt.delivered), ({b.id}, set()))
        self.assertEqual(b.recv(timeout=30).packets, [0, "second"])
        receipt.complete(30)

    def test_alone_there_is_nobody_to_have_it(self) -> None:
        a = self.socket()
        receipt = a.send("anyone?", receipt=True)
        self.assertRaises(NoMembers, receipt.complete, 0)
        b = self.socket()
        b.connect(*a.out_addr)
        self.assertEqual(receipt.complete(30).delivered, {b.id})

    def test_in_the_reactors_thread_it_raises_and_the_event_tells(self) -> None:
        a, b = self.pair()
        receipt = self.in_reactor(lambda: a.send("x", receipt=True))
        self.assertRaises(RuntimeError, self.in_reactor, receipt.complete)
        self.soon(lambda: receipt.delivered == {b.id})
        self.assertEqual(self.in_reactor(lambda: receipt.pending), set())

    def test_closing_ends_the_wait_and_keeps_what_is_known(self) -> None:
        a, b = self.pair()
        a.send("first")
        b.recv(timeout=30)
        receipt = a.send("second", receipt=True)
        self.soon(lambda: receipt.pending == {b.id})
        a.close()
        self.assertRaises(NotRunning, receipt.complete)
        self.assertEqual((receipt.pending, receipt.closed), ({b.id}, "the service has stopped"))
        self.assertRaises(NotRunning, a.send, "third", receipt=True)


class DirectMessageTests(SocketCase):
    def test_it_blocks_until_the_member_has_acknowledged_it(self) -> None:
        a, b = self.socket(overlay=False), self.socket(overlay=False)
        c = self.socket(overlay=False)
        a.connect(*b.out_addr)
        c.connect(*b.out_addr)
        self.soon(lambda: c.id in a.members)
        self.assertIsNone(a.send_to(c.id, "psst", b"!"))
        message = c.recv()  # it has come already
        self.assertEqual((message.packets, message.sender), ([2, "psst", b"!"], a.id))
        self.assertIsNone(message.reply("yes?"))
        self.assertEqual(a.recv().packets, [2, "yes?"])
        self.assertEqual(b.queue, [])
        a.send_to(c.id, 1, type=0x30)
        self.assertEqual(c.recv().type, 0x30)

    def test_who_cannot_be_reached(self) -> None:
        a, b = self.pair(config=MeshConfig(direct_timeout=0.3))
        for member, error in ((a.id, ValueError), ("b", TypeError)):
            self.assertRaises(error, a.send_to, member, "x")
        self.assertRaises(TypeError, a.send_to, b.id, object())
        self.assertRaises(Unreachable, a.send_to, b"nobody", "x")
        b.close()
        error = self.assertRaises(Unreachable, a.send_to, b.id, "x")
        self.assertEqual(str(error), f"{b.id.decode()}: it has left")
        a.close()
        self.assertRaises(NotRunning, a.send_to, b.id, "x")

    def test_in_the_reactors_thread_it_gives_a_deferred(self) -> None:
        a, b = self.pair()
        b.register_handler(lambda message, link: b.send_to(message.sender, "from the handler") and None)
        a.send("x")
        self.assertEqual(a.recv(timeout=30).packets, [2, "from the handler"])


class TestRequest(SocketCase):
    def test_it_blocks_until_the_answer_is_there(self) -> None:
        a, b = self.pair()
        b.register_handler(lambda message, link: message.reply("yes", message.packets[1]) and None)
        self.soon(lambda: b.id in a.members)
        answer = a.request(b.id, "ready?")
        self.assertEqual((answer.packets, answer.sender), ([2, "yes", "ready?"], b.id))
        self.assertIsNone(a.recv())
        self.assertIsNone(answer.reply("thanks"))

    def test_the_way_of_a_message_and_who_is_linked_with_whom(self) -> None:
        a, b = self.pair()
        self.soon(lambda: b.id in a.members)
        a.send("fire")
        message = b.recv(timeout=30)
        trace = b.trace(message.id, timeout=30)
        ids = [b.id.decode(), a.id.decode()]
        self.assertEqual((trace.author, [step.id for step in trace.steps]), (ids[1], ids))
        self.assertEqual((trace.steps[0].state, trace.steps[0].source), ("came", ids[1]))
        graph = {one.id: one.neighbours for one in a.graph(30)}
        self.assertEqual(graph, {ids[1]: ids[:1], ids[0]: ids[1:]})
        self.assertEqual([one.missing for one in a.lag(30)], [0, 0])
        self.assertRaises(WrongValue, a.trace, (b"", 1, 1))

    def test_without_an_answer_it_raises(self) -> None:
        a, b = self.pair()
        self.soon(lambda: b.id in a.members)
        error = self.assertRaises(NoReply, a.request, b.id, "?", timeout=0.3)
        self.assertIn("did not answer in 0.3 s", str(error))
        self.assertRaises(Unreachable, a.request, b"nobody", "?")
        self.assertTrue(0 < a.ping(b.id, timeout=30) < 30)
        self.assertRaises(Unreachable, a.ping, b"nobody")
        a.close()
        self.assertRaises(NotRunning, a.graph)
        self.assertRaises(NotRunning, a.request, b.id, "?")

    def test_in_the_reactors_thread_it_gives_a_deferred(self) -> None:
        a, b = self.pair()
        self.soon(lambda: a.id in b.members)

        def ask(message: Message, link: object) -> None:
            b.request(message.sender, "?").addCallback(lambda answer: b.send(answer.packets[1]))

        b.register_handler(ask)
        a.send("x")
        question = a.recv(timeout=30)
        question.reply("the answer")
        self.assertEqual(a.recv(timeout=30).packets, [0, "the answer"])


class TestQuery(SocketCase):
    def test_it_blocks_for_each_answer_and_ends_when_all_have_answered(self) -> None:
        a, b = self.pair()
        self.soon(lambda: b.id in a.members)
        b.register_handler(lambda message, link: message.reply("I am") and None)
        query = a.query("who is there?", timeout=30)
        answers = list(query)
        self.assertEqual([answer.packets[1] for answer in answers], ["I am"])
        self.assertEqual((query.answered, query.pending), ({b.id}, set()))
        self.assertEqual(repr(query), "<query: 1 answered, 0 pending>")
        self.assertIsNone(answers[0].reply("thanks"))

    def test_it_ends_in_time_and_says_who_has_not_answered(self) -> None:
        a, b = self.pair()
        self.soon(lambda: b.id in a.members)
        query = a.query("who is there?", timeout=0.2)
        self.assertEqual((list(query), query.pending), ([], {b.id}))
        query = a.query("who is there?", timeout=None)
        query.close()
        self.assertEqual(list(query), [])
        a.close()
        self.assertRaises(NotRunning, a.query, "?")
