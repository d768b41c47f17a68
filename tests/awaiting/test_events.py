"""aio.Mesh: receipts, links and listeners."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from twisted.internet.threads import blockingCallFromThread

from tests.support.aiocase import DEADLINE, LOOPBACK, AioCase, result
from tests.support.processes import reactor
from twisted_mesh import Member, MeshConfig, Message
from twisted_mesh.aio import Link, Mesh, Receipt
from twisted_mesh.errors import (
    Congested,
    ConnectFailed,
    NoReply,
    NotDelivered,
    NotRunning,
    ReceiptTimeout,
    SubnetMismatch,
    Unreachable,
)


class ReceiptTests(AioCase):
    async def test_a_receipt_shows_who_has_the_message_and_changes(self) -> None:
        async with self.pair() as (a, b):
            got = b.messages()
            changes: list[Receipt] = []
            a.on("receipt", changes.append)
            receipt = await a.send("x", receipt=True)
            self.assertIsInstance(receipt, Receipt)
            await self.soon(lambda: receipt.pending)
            self.assertEqual(repr(receipt), "<receipt: 0 delivered, 1 pending, 0 missed>")
            with self.assertRaises(ReceiptTimeout) as late:
                await receipt.complete(timeout=0.01)
            self.assertEqual(late.exception.receipt, receipt)
            waiting = asyncio.ensure_future(receipt.complete())
            message = await anext(got)
            self.assertIs(await asyncio.wait_for(waiting, DEADLINE), receipt)
            self.assertEqual((receipt.delivered, receipt.pending, receipt.missed), ({b.id}, set(), set()))
            self.assertEqual((receipt.id, receipt.is_complete, receipt.closed), (message.id, True, None))
            await self.soon(lambda: len(changes) >= 2)
            self.assertEqual(set(changes), {receipt})

    async def test_a_wait_that_is_cancelled_or_outlived_by_the_mesh_ends(self) -> None:
        async with self.pair() as (a, b):
            got = b.messages()
            receipt = await a.send("x", receipt=True)
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await receipt.complete()
            await self.soon(lambda: not len(receipt.inner._waiting))
            waiting = asyncio.ensure_future(receipt.complete())
            await asyncio.sleep(0)
            await self.soon(lambda: len(receipt.inner._waiting))
            async with asyncio.TaskGroup() as ends:
                ends.create_task(self.raises((NotRunning, NotDelivered), result(waiting)))
                ends.create_task(a.__aexit__())
        del got


class RequestTests(AioCase):
    async def test_it_gives_the_answer_which_can_be_answered(self) -> None:
        async with self.pair() as (a, b):
            others, heard = a.messages(), b.messages()
            asking = asyncio.ensure_future(a.request(b.id, "ready?", timeout=DEADLINE))
            question = await asyncio.wait_for(anext(heard), DEADLINE)
            await question.reply("yes", question.packets[1])
            answer = await asyncio.wait_for(asking, DEADLINE)
            self.assertEqual((answer.packets, answer.sender), ([2, "yes", "ready?"], b.id))
            self.assertEqual(answer.in_reply_to, question.id)
            await answer.reply("thanks")
            self.assertEqual(await self.packets(heard, 1), ["thanks"])
            await b.send_to(a.id, "another")
            self.assertEqual(await self.packets(others, 1), ["another"])

    async def test_without_an_answer_it_raises_and_a_cancelled_one_waits_no_more(self) -> None:
        async with self.pair() as (a, b):
            heard = b.messages()
            await self.raises(NoReply, a.request(b.id, "?", timeout=0.3))
            await self.raises(Unreachable, a.request(b"nobody", "?"))
            self.assertTrue(0 < await a.ping(b.id) < DEADLINE)
            await self.raises(Unreachable, a.ping(b"nobody"))
            trace = await a.trace((b.id, 1, 1), timeout=DEADLINE)
            self.assertEqual([step.state for step in trace.steps], ["missing", "missing"])
            graph = await a.graph(DEADLINE)
            self.assertEqual([one.neighbours for one in graph], [[b.id.decode()], [a.id.decode()]])
            self.assertEqual([one.missing for one in await a.lag(DEADLINE)], [0, 0])
            asking = asyncio.ensure_future(a.request(b.id, "again", timeout=None))
            self.assertEqual(await self.packets(heard, 2), ["?", "again"])
            asking.cancel()
            await self.raises(asyncio.CancelledError, result(asking))
            await self.soon(lambda: not self.footprint(a)["requests"])


class QueryTests(AioCase):
    async def test_it_gives_each_answer_and_ends_when_all_have_answered(self) -> None:
        async with self.pair() as (a, b), self.mesh() as c:
            await c.connect(*a.addresses[0])
            await self.soon(lambda: len(a.members) == 2)
            for each, name in ((b, "b"), (c, "c")):
                each.on("message", lambda message, name=name: message.reply(name, message.packets[1]))
            query = a.query("who?", timeout=DEADLINE)
            answers = {}
            async for answer in query:
                answers[answer.sender] = answer.packets[1:]
            self.assertEqual(answers, {b.id: ["b", "who?"], c.id: ["c", "who?"]})
            self.assertEqual((query.answered, query.pending), ({b.id, c.id}, set()))
            self.assertEqual(repr(query), "<query: 2 answered, 0 pending>")
            self.assertEqual([answer async for answer in query], [])

    async def test_a_cancelled_wait_loses_no_answer_and_the_time_ends_it(self) -> None:
        async with self.pair() as (a, b):
            asked = b.messages()
            query = a.query("who?", timeout=DEADLINE)
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(query)
            await (await anext(asked)).reply("b")
            self.assertEqual((await asyncio.wait_for(anext(query), DEADLINE)).packets, [2, "b"])
            late = a.query("again?", timeout=0.05)
            self.assertEqual([answer async for answer in late], [])
            self.assertEqual(late.pending, {b.id})

    async def test_one_that_is_closed_ends_and_errors_are_raised_by_the_iteration(self) -> None:
        async with self.pair() as (a, b):
            query = a.query("who?", timeout=None)
            query.close()
            self.assertEqual([answer async for answer in query], [])
            self.assertEqual(query.pending, {b.id})
            wrong = a.query(object())
            await self.raises(TypeError, anext(wrong))
            self.assertEqual([answer async for answer in wrong], [])
        self.assertRaises(NotRunning, a.query, "who?")


class LinkTests(AioCase):
    async def test_a_link_and_what_can_be_done_with_it(self) -> None:
        async with self.mesh() as a, self.mesh() as b:
            link = await a.connect(*b.addresses[0])
            self.assertIsInstance(link, Link)
            self.assertEqual((link.id, link.outgoing, a.routing_table), (b.id, True, {b.id: link}))
            got = b.messages()
            await link.whisper("psst")
            self.assertEqual(await self.packets(got, 1), ["psst"])
            await self.soon(lambda: a.id in b.routing_table)
            self.assertEqual([await a.stop_dialling(*b.addresses[0]) for _ in range(2)], [True, False])
            await self.raises(ValueError, a.forget(b.id))  # it is up
            await a.disconnect(link)
            await self.soon(lambda: not a.routing_table)
            await self.raises(Unreachable, result(link.whisper("late")))

    async def test_errors_of_a_link_are_raised(self) -> None:
        async with self.mesh() as a, Mesh(LOOPBACK, subnet="other") as other:
            await self.raises(SubnetMismatch, a.connect(*other.addresses[0]))
            await self.raises(Unreachable, a.send_to(other.id, "x"))
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                await self.raises(ConnectFailed, a.connect(*free.getsockname()))

    async def test_a_cancelled_connect_leaves_no_connection(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            async with self.mesh() as mesh:
                connecting = asyncio.ensure_future(mesh.connect(*silent.getsockname()))
                peer, _ = await asyncio.to_thread(silent.accept)
                connecting.cancel()
                with peer:
                    peer.settimeout(DEADLINE)
                    with contextlib.suppress(ConnectionResetError):
                        await asyncio.to_thread(lambda: [*iter(lambda: peer.recv(4096), b"")])
                self.assertEqual(mesh.routing_table, {})

    async def test_a_full_node_makes_send_wait_and_tells_when_there_is_room(self) -> None:
        limits = MeshConfig(unsent_bytes=2**21, handover_timeout=0.05)
        async with self.mesh(config=limits) as a, self.mesh() as b:
            with self.assertRaises(Congested):
                while True:
                    await a.send(bytes(500_000))
            drained = asyncio.ensure_future(a.drained())
            got = b.messages()
            await a.connect(*b.addresses[0])
            await asyncio.wait_for(drained, DEADLINE)
            await a.send("there is room")
            while (await asyncio.wait_for(anext(got), DEADLINE)).packets[1] != "there is room":
                pass

    async def test_many_are_sent_at_once_or_wait_for_room(self) -> None:
        limits = MeshConfig(unsent_bytes=2**21, handover_timeout=0.05)
        async with self.mesh(config=limits) as a, self.mesh() as b:
            await a.send_many(bytes([number]) * 500_000 for number in range(4))
            with self.assertRaises(Congested):
                await a.send_many([bytes(100_000), bytes(500_000)])
            with self.assertRaises(TypeError):
                await a.send_many("fire")
            drained = asyncio.ensure_future(a.drained())
            got = b.messages()
            await a.connect(*b.addresses[0])
            await asyncio.wait_for(drained, DEADLINE)
            await a.send_many(["one", "two"], type=0x30)
            packets = [(await asyncio.wait_for(anext(got), DEADLINE)).packets for _ in range(6)]
            self.assertEqual(packets[4:], [[0x30, "one"], [0x30, "two"]])


class ListenerTests(AioCase):
    async def test_functions_and_coroutines_are_called_in_the_loop(self) -> None:
        async with self.mesh() as a, self.mesh() as b:
            happened: list[Any] = []

            def note(*what: object) -> None:
                self.assertIsNotNone(asyncio.get_running_loop())
                happened.append(what)

            b.on("connect", lambda mesh: note("connect", mesh))
            b.once("member", lambda member: note("member", type(member)))

            @b.on("message")
            async def heard(message: Message) -> None:
                note("message", message.packets[1])
                await message.reply("heard")

            b.on("disconnect", lambda mesh: note("disconnect", mesh))
            got = a.messages()
            await a.connect(*b.addresses[0])
            for number in range(2):
                await a.send(number)
            self.assertEqual(await self.packets(got, 2), ["heard"] * 2)
            b.remove_listener("message", heard)
            await a.send("unheard")
            await self.soon(lambda: self.footprint(b)["unheard_messages"] == 1)
            b.on("message", lambda message: note("message", message.packets[1]))
            await a.send("heard again")
            await self.soon(lambda: ("message", "heard again") in happened)
            await a.disconnect(a.routing_table[b.id])
            await self.soon(lambda: ("disconnect", b) in happened)
            b.remove_all_listeners()
        told = [("message", what) for what in (0, 1, "heard again")]
        self.assertEqual([each for each in happened if each[0] == "message"], told)
        self.assertEqual(happened.count(("connect", b)), 1)
        self.assertEqual(happened.count(("member", Member)), 1)

    async def test_listeners_that_were_there_before_the_block_hear_from_the_start(self) -> None:
        async with self.mesh() as a:
            b = self.mesh(peers=[f"127.0.0.1:{a.addresses[0][1]}"])
            heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            b.once("message", heard.set_result)
            async with b:
                await b.joined()
                await a.send("x")
                self.assertEqual((await asyncio.wait_for(heard, DEADLINE)).packets, [0, "x"])

    async def test_one_that_fails_is_told_and_the_others_are_called(self) -> None:
        async with self.pair() as (a, b):
            failures: list[Any] = []

            @b.on("message")
            def fails(message: Message) -> None:
                raise ValueError("on purpose")

            @b.on("message")
            async def fails_later(message: Message) -> None:
                raise KeyError("later")

            b.on("failure", failures.append)
            await a.send("x")
            await self.soon(lambda: len(failures) == 2)
            self.assertEqual(list(map(repr, failures)), ["ValueError('on purpose')", "KeyError('later')"])
        self.assertEqual([str(each.value) for each in self.flushLoggedErrors()], ["on purpose", "'later'"])

    async def test_messages_wait_while_many_coroutines_of_listeners_run(self) -> None:
        async with self.mesh() as a, self.mesh(config=MeshConfig(queue_limit=5)) as b:
            await a.connect(*b.addresses[0])
            await self.soon(lambda: b.routing_table)
            go_on = asyncio.Event()
            begun: list[Any] = []

            @b.on("message")
            async def heard(message: Message) -> None:
                begun.append(message.packets[1])
                await go_on.wait()

            for number in range(20):
                await a.send(number)
            await self.soon(lambda: self.footprint(b)["untaken_messages"] == 15)
            self.assertEqual(begun, list(range(5)))
            go_on.set()
            await self.soon(lambda: len(begun) == 20)
            self.assertEqual(begun, list(range(20)))

    async def test_events_that_a_loop_is_too_slow_for_are_dropped_counted_and_logged(self) -> None:
        async with self.mesh(config=MeshConfig(queue_limit=3)) as mesh:
            seen: list[Any] = []
            mesh.on("member", seen.append)

            def tell() -> None:
                for number in range(5):
                    mesh._tell("member", number)

            blockingCallFromThread(reactor, tell)  # this blocks the loop
            await asyncio.sleep(0)
            self.assertEqual((seen, mesh.dropped["dropped_events"]), ([0, 1, 2], 2))
            self.assertIn("mesh: the asyncio loop is too slow: events", self.told.getvalue())
            blockingCallFromThread(reactor, mesh._tell, "member", 5)
            await asyncio.sleep(0)
            self.assertEqual(seen[3:], [5])
