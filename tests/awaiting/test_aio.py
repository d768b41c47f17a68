"""aio.Mesh: opening, and messages."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
from contextlib import closing
from typing import Any

import uvloop
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.support.aiocase import DEADLINE, AioCase, result
from tests.support.meshcase import NO_TIMEOUTS
from twisted_mesh import Identity, MeshConfig, MeshService, Message
from twisted_mesh.aio import Mesh
from twisted_mesh.errors import ListenFailed, LocalError, MessageTooLarge, NotRunning, ReceiptTimeout
from twisted_mesh.threads.batches import BATCH


class OpenTests(AioCase):
    async def test_the_block_opens_a_node_and_closes_it(self) -> None:
        mesh = self.mesh(label="a")
        self.assertEqual(repr(mesh), "<Mesh, not open>")
        async with mesh as opened:
            self.assertIs(opened, mesh)
            host, port = mesh.addresses[0]
            self.assertEqual((host, mesh.out_addr), ("127.0.0.1", (host, port)))
            self.assertIsInstance(mesh.id, bytes)
            self.assertEqual(repr(mesh.protocol), "Protocol(subnet='mesh', encryption='SSL')")
            self.assertEqual((mesh.routing_table, mesh.members), ({}, {}))
            self.assertEqual((mesh.dropped["no_room"], set(mesh.dropped.values())), (0, {0}))
            self.assertEqual(repr(mesh), f"<Mesh {mesh.id.decode()} at {mesh.out_addr}, links: 0>")
            await self.raises(RuntimeError, mesh.__aenter__())
        self.assertTrue(repr(mesh).endswith(", closed>"))
        self.assert_nothing_runs(port)
        await mesh.__aexit__()

    async def test_a_mesh_can_be_opened_again(self) -> None:
        key = Identity.generate()
        for identity in (None, key):
            mesh = self.mesh(identity=identity)
            ids = []
            for _ in range(2):
                async with mesh:
                    ids.append(mesh.id)
                    async with self.mesh() as other:
                        await mesh.connect(*other.addresses[0])
                        got = other.messages()
                        await mesh.send("again")
                        self.assertEqual(await self.packets(got, 1), ["again"])
            self.assertEqual(len(set(ids)), 1 if identity else 2)
        self.assertEqual(mesh.id, key.id)

    async def test_it_takes_the_options_of_the_service(self) -> None:
        ours, theirs = (inspect.signature(each).parameters for each in (Mesh, MeshService))
        shown = [(name, each.default, each.annotation) for name, each in theirs.items()]
        self.assertEqual([(name, each.default, each.annotation) for name, each in ours.items()], shown[1:])

    async def test_arguments_that_cannot_be_say_so_where_they_are_given(self) -> None:
        wrong: dict[str, Any]
        for wrong in (
            {"listen": ["tcp:port"]},
            {"listen": "tcp:4444"},
            {"peers": "127.0.0.1:4444"},
            {"peers": iter(["127.0.0.1"])},
            {"subnet": 5},
            {"encryption": "rot13"},
            {"identity": "node.key"},
            {"out_addr": "ab"},
            {"history": "history"},
            {"replay": "some"},
            {"role": "king"},
            {"dial": 5},
            {"debug_level": "5"},
            {"config": {"ping_after": 1.0}},
        ):
            self.assertRaises(LocalError, Mesh, **wrong)
        async with self.pair() as (a, b):
            await self.raises(TypeError, a.send(object()))
            await self.raises(ValueError, a.send("x", type=1))
            await self.raises(MessageTooLarge, a.send(bytes(2**21)))
            await self.raises(TypeError, a.send_to("id", "x"))  # type: ignore[arg-type]
            await self.raises(LocalError, a.connect("", 99999))
            await self.raises(LocalError, a.disconnect(b.id))  # type: ignore[arg-type]
            receipt = await a.send("x", receipt=True)
            for timeout, kind in NO_TIMEOUTS:
                await self.raises(kind, receipt.complete(timeout))

    async def test_before_and_after_the_block_nothing_can_be_sent(self) -> None:
        mesh = self.mesh()
        self.assertRaises(NotRunning, lambda: mesh.id)
        self.assertIn("not open", await self.raises(NotRunning, mesh.send("x")))
        async with mesh:
            pass
        for call in (
            mesh.send("x"),
            mesh.send_to(b"x"),
            mesh.connect("", 1),
            mesh.joined(),
            mesh.drained(),
        ):
            self.assertEqual(await self.raises(NotRunning, call), "the mesh is closed")

    async def test_a_port_that_is_taken_says_by_whom(self) -> None:
        async with self.mesh() as first:
            _, port = first.addresses[0]
            text = await self.raises(ListenFailed, Mesh([f"tcp:{port}:interface=127.0.0.1"]).__aenter__())
            self.assertIn(f"port {port} is taken by another Mesh of this process", text)
        self.assert_nothing_runs(port)

    async def test_it_belongs_to_the_loop_it_was_opened_in(self) -> None:
        async with self.mesh() as mesh:
            text = await self.raises(RuntimeError, asyncio.to_thread(lambda: asyncio.run(mesh.send("x"))))
            self.assertEqual(text, "this Mesh is open in another asyncio loop: use it there")
            await mesh.send("x")

    def test_it_runs_on_any_loop(self) -> Deferred[None]:
        async def talk() -> None:
            self.assertIsInstance(asyncio.get_running_loop(), uvloop.Loop)
            async with self.pair() as (a, b):
                got = b.messages()
                await a.send("x")
                self.assertEqual(await self.packets(got, 1), ["x"])
            self.assert_nothing_runs()

        def run() -> None:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(talk())

        return deferToThread(run)


class MessageTests(AioCase):
    async def test_everyone_gets_every_message_in_order_and_can_answer(self) -> None:
        async with self.pair() as (a, b):
            asked, answers = b.messages(), a.messages()
            for number in range(300):
                await a.send(number, "x")
            self.assertEqual(await self.packets(asked, 300), list(range(300)))
            await a.send("how are you?", type=0x30)
            message = await anext(asked)
            self.assertIsInstance(message, Message)
            self.assertEqual((message.packets, message.sender), ([0x30, "how are you?"], a.id))
            await message.reply("well")
            await b.send_to(a.id, "and you?")
            self.assertEqual(await self.packets(answers, 2), ["well", "and you?"])

    async def test_an_iterator_ends_after_the_messages_that_had_come(self) -> None:
        async with self.pair() as (a, b):
            got, other = b.messages(), b.messages()
            await a.send("last")
            await self.packets(other, 1)
            self.assertEqual(await self.packets(got, 1), ["last"])
        self.assertEqual([message async for message in got], [])
        await self.raises(StopAsyncIteration, anext(got))

    async def test_close_ends_an_iterator_and_no_receipt_waits_for_it(self) -> None:
        async with self.pair() as (a, b):
            with closing(b.messages()) as got:
                receipt = await a.send("x", receipt=True)
                await self.raises(ReceiptTimeout, receipt.complete(0.05))
            await receipt.complete(DEADLINE)
            self.assertEqual([message.packets async for message in got], [[0, "x"]])
            never = Mesh().messages()
            never.close()
            self.assertEqual([message async for message in never], [])

    async def test_one_that_a_loop_has_left_is_waited_for_by_no_receipt(self) -> None:
        async def first(mesh: Mesh) -> Any:
            async for message in mesh.messages():
                return message.packets[1]
            raise AssertionError("it ended")

        async with self.pair() as (a, b):
            reading = asyncio.ensure_future(first(b))
            await asyncio.sleep(0)  # the iterator is there
            await a.send(1)
            receipt = await a.send(2, receipt=True)
            self.assertEqual(await asyncio.wait_for(reading, DEADLINE), 1)
            gc.collect()
            await receipt.complete(DEADLINE)

    async def test_one_iterator_has_one_consumer_at_a_time(self) -> None:
        async with self.mesh() as mesh:
            got = mesh.messages()
            first = asyncio.ensure_future(anext(got))
            await asyncio.sleep(0)
            self.assertIn("one consumer", await self.raises(RuntimeError, anext(got)))
            first.cancel()
            await self.raises(asyncio.CancelledError, result(first))

    async def test_a_message_is_taken_when_the_consumer_gets_it(self) -> None:
        async with self.pair() as (a, b):
            got = b.messages()
            receipts = [await a.send(number, receipt=True) for number in range(3)]
            self.assertEqual(await self.packets(got, 1), [0])
            await receipts[0].complete(DEADLINE)
            self.assertEqual((receipts[0].delivered, receipts[0].is_complete), ({b.id}, True))
            await self.soon(lambda: receipts[1].pending)
            self.assertEqual((receipts[1].delivered, receipts[1].pending), (frozenset(), {b.id}))
            self.assertEqual(await self.packets(got, 2), [1, 2])
            for receipt in receipts[1:]:
                await receipt.complete(DEADLINE)

    async def test_a_cancelled_wait_loses_no_message(self) -> None:
        async with self.pair() as (a, b):
            got = b.messages()
            numbers: list[Any] = []
            for number in range(20):
                waiting = asyncio.ensure_future(anext(got))
                await asyncio.sleep(0)
                await a.send(number)
                for _ in range(number):  # turns of the loop, in which the message may come or not
                    await asyncio.sleep(0)
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    numbers.append((await waiting).packets[1])
            numbers += await self.packets(got, 20 - len(numbers))
            self.assertEqual(numbers, list(range(20)))
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(got)

    async def test_a_slow_consumer_keeps_a_bounded_part_in_memory_and_misses_nothing(self) -> None:
        count = 3 * BATCH
        async with self.mesh() as a, self.mesh(config=MeshConfig(queue_limit=10)) as b:
            await a.connect(*b.addresses[0])
            await self.soon(lambda: b.routing_table)
            got = b.messages()
            await asyncio.gather(*(a.send(number) for number in range(count)))
            self.assertEqual(await self.packets(got, 1), [0])
            footprint = await self.in_reactor(lambda: self.footprint(b))
            await self.soon(lambda: self.footprint(b)["untaken_messages"] == count - 1)
            self.assertLessEqual(footprint["queued_messages"] + len(got._come), BATCH + 10)
            self.assertEqual(await self.packets(got, count - 1), list(range(1, count)))
            await self.soon(lambda: not self.footprint(b)["untaken_messages"])

    async def test_one_made_before_the_block_gets_what_an_earlier_process_had_not_taken(self) -> None:
        path, key = self.mktemp(), Identity.generate()
        async with self.mesh() as a:
            keeps = self.mesh(identity=key, history=path, peers=[f"127.0.0.1:{a.addresses[0][1]}"])
            got = keeps.messages()
            waiting = asyncio.ensure_future(self.packets(got, 1))
            async with keeps:
                await keeps.joined()
                await a.joined()
                for number in range(3):
                    await a.send(number)
                self.assertEqual(await waiting, [0])
                await self.soon(lambda: len(got._come) == 2 or self.footprint(keeps)["queued_messages"])
            again = keeps.messages()
            async with keeps:
                self.assertEqual(await self.packets(again, 2), [1, 2])

    async def test_one_made_before_an_opening_that_fails_gets_the_messages_from_the_next_on(self) -> None:
        async with self.mesh() as taken:
            mesh = Mesh([f"tcp:{taken.addresses[0][1]}:interface=127.0.0.1"])
            got = mesh.messages()
            await self.raises(ListenFailed, mesh.__aenter__())
        async with mesh, self.mesh() as other:
            await other.connect(*mesh.addresses[0])
            await self.soon(lambda: mesh.routing_table)
            await other.send("x")
            self.assertEqual(await self.packets(got, 1), ["x"])
