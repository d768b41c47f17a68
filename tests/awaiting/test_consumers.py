"""aio.Mesh.messages(name=...): consumers that keep their place, in an asyncio loop."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.aiocase import AioCase
from tests.support.page_code import functions_of
from twisted_mesh import Identity
from twisted_mesh.aio import NamedMessages
from twisted_mesh.errors import ConsumerInUse, LocalError


class ConsumerTests(AioCase):
    async def test_each_goes_on_where_it_was_over_exceptions_and_openings(self) -> None:
        options: dict[str, Any] = {"identity": Identity.create(self.mktemp()), "history": self.mktemp()}
        b = self.mesh(**options)
        early = b.messages(name="billing")
        self.assertEqual(b.consumers, {})
        async with self.mesh() as a:
            async with b:
                await a.connect(*b.addresses[0])
                for number in range(6):
                    await a.send(number)
                self.assertEqual(await self.packets(early, 2), [0, 1])
                with self.assertRaises(ZeroDivisionError):
                    async for message in early:
                        1 / (message.packets[1] - 3)
                self.assertEqual(await self.packets(aiter(early), 1), [3])
                await self.soon(lambda: b.consumers["billing"].lag == 3)
                self.assertEqual(await self.packets(aiter(early), 1), [3])
                early.commit()
                await self.soon(lambda: b.consumers["billing"].lag == 2)
            self.assertEqual([message async for message in early], [])
            async with b:
                messages = b.messages(name="billing", start="all")
                self.assertEqual(messages.name, "billing")
                self.assertEqual(await self.packets(messages, 2), [4, 5])
                messages.close()
                self.assertEqual([message async for message in messages], [])
                await self.soon(lambda: b.consumers["billing"].lag == 1)

    async def test_a_task_that_waits_is_woken_and_cancelling_it_loses_nothing(self) -> None:
        async with self.pair() as (a, b):
            messages = b.messages(name="billing")
            waiting = asyncio.ensure_future(self.packets(messages, 1))
            await self.soon(lambda: "billing" in b.consumers)
            waiting.cancel()
            await asyncio.wait([waiting])
            await a.send("one")
            self.assertEqual(await self.packets(messages, 1), ["one"])

    async def test_a_name_that_is_open_or_wrong_is_refused_and_one_can_be_forgotten(self) -> None:
        async with self.pair() as (_, b):
            messages = b.messages(name="billing")
            await self.soon(lambda: "billing" in b.consumers)
            text = await self.raises(ConsumerInUse, self.first(b.messages("billing")))
            self.assertIn("is open already", text)
            self.assertRaises(LocalError, b.messages, name="")
            self.assertRaises(LocalError, b.messages, name="audit", start="old")
            await self.raises(ConsumerInUse, b.forget_consumer("billing"))
            messages.close()
            await b.forget_consumer("billing")
            self.assertEqual(b.consumers, {})

    async def test_the_code_of_the_page_does_what_it_says(self) -> None:
        charged: list[Any] = []
        bill = functions_of("consumers.rst", charge=charged.append)["bill_in_asyncio"]
        async with self.pair() as (a, b):
            working = asyncio.ensure_future(bill(b))
            await self.soon(lambda: "billing" in b.consumers)
            await a.send("one")
            await self.soon(lambda: charged == ["one"])
        await working

    async def first(self, messages: NamedMessages) -> object:
        return await anext(messages)
