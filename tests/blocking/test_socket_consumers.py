"""MeshSocket.messages(name=...): consumers that keep their place, in a thread that waits for them."""

from __future__ import annotations

import gc
from itertools import islice
from typing import Any

from tests.blocking.test_mesh import SocketCase
from tests.support.page_code import functions_of
from twisted_mesh import Identity, MeshConfig, MeshSocket
from twisted_mesh.errors import ConsumerInUse, LocalError, NotRunning


class ConsumerTests(SocketCase):
    def pair_with_history(self) -> tuple[MeshSocket, MeshSocket, dict[str, Any]]:
        """An author; a socket with a history file that is linked with it, and its options."""
        options = {"identity": Identity.create(self.mktemp()), "history": self.mktemp()}
        b, a = self.pair(**options)
        return a, b, options

    def packets(self, messages: Any, count: int) -> list[Any]:
        return [message.packets[1] for message in islice(messages, count)]

    def test_each_loop_begins_with_what_was_not_taken_also_in_the_next_process(self) -> None:
        a, b, options = self.pair_with_history()
        messages = b.messages("billing")
        for number in range(5):
            a.send(number)
        self.assertEqual(self.packets(messages, 2), [0, 1])
        self.assertEqual(self.packets(messages, 2), [1, 2])  # each loop begins with what was not taken
        self.assertTrue(b.consumers["billing"].open)
        self.soon(lambda: b.consumers["billing"].lag == 3)
        b.close()
        self.assertEqual(self.packets(messages, 1), [])
        again = self.socket(**options)
        self.assertEqual(again.consumers["billing"].lag, 3)
        with again.messages("billing") as messages:
            self.assertEqual(self.packets(messages, 3), [2, 3, 4])
            messages.commit()
            self.assertEqual(messages.name, "billing")
            self.soon(lambda: again.consumers["billing"].lag == 0)
        self.soon(lambda: not again.consumers["billing"].open)

    def test_it_blocks_until_a_message_comes_and_ends_with_the_socket(self) -> None:
        a, b = self.pair()
        messages = b.messages("billing")
        got = self.beside(lambda: [message.packets[1] for message in messages])
        a.send("one")
        self.soon(lambda: b.consumers["billing"].lag == 0 and b._node.footprint()["untaken_messages"] == 0)
        a.send("two")
        self.soon(lambda: messages._taken == 2)
        b.close()
        self.assertEqual(got.result(30), ["one", "two"])
        self.assertRaises(NotRunning, b.messages, "billing")

    def test_a_message_has_its_reply_and_a_second_iterator_is_refused(self) -> None:
        a, b = self.pair(config=MeshConfig(consumers_limit=1))
        messages = a.messages("billing")
        self.assertRaises(ConsumerInUse, a.messages, "billing")
        self.assertRaises(ConsumerInUse, a.forget_consumer, "billing")
        self.assertRaises(LocalError, a.messages, "audit")
        b.send("ping")
        next(messages).reply("pong")
        self.assertEqual(b.recv(timeout=30).packets[1], "pong")
        self.assertRaises(RuntimeError, self.in_reactor, lambda: next(messages))
        messages.close()
        messages.close()
        self.assertEqual(list(messages), [])
        self.soon(lambda: not a.consumers["billing"].open)
        a.forget_consumer("billing")
        self.assertEqual(a.consumers, {})

    def test_one_that_was_dropped_is_closed(self) -> None:
        a, b = self.pair()
        messages = b.messages("billing")
        a.send("one")
        self.assertEqual(self.packets(messages, 1), ["one"])
        del messages
        gc.collect()
        self.assertEqual(self.packets(b.messages("billing", start="all"), 1), ["one"])

    def test_the_code_of_the_page_does_what_it_says(self) -> None:
        charged: list[Any] = []
        a, b = self.pair()
        bill = functions_of("consumers.rst", charge=charged.append)["bill_in_a_thread"]
        a.send("early")
        self.soon(lambda: b.queue)
        done = self.beside(lambda: bill(b))
        a.send("late")
        self.soon(lambda: charged == ["early", "late"])
        b.close()
        self.assertIsNone(done.result(30))
