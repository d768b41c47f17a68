"""A coroutine of a test that awaits what only MemoryMesh.run() can bring is told so at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from twisted_mesh.errors import Congested
from twisted_mesh.testing import MemoryMesh


class AwaitingTests(TestCase):
    timeout = 10  # a test that waits for ever fails by this

    def setUp(self) -> None:
        self.mesh = MemoryMesh(3, topology=[(0, 1)])
        self.addCleanup(self.mesh.stop)
        self.a, self.b, self.alone = self.mesh.services
        self.a.send("x")
        self.mesh.run(1)

    def waits(self) -> dict[str, Callable[[], Awaitable[Any]]]:
        """All calls of an application that need time, by name."""
        (message,) = self.mesh.received(1)
        receipt = self.a.send("y", receipt=True)
        messages, named = self.b.messages(), self.b.messages(name="billing")
        return {
            "joined": self.alone.joined,
            "connect": lambda: self.alone.connect(*self.mesh.address(0)),
            "send_to": lambda: self.a.send_to(self.b.id, "x"),
            "request": lambda: self.a.request(self.b.id, "x"),
            "reply": lambda: message.reply("x"),
            "complete": receipt.complete,
            "messages": lambda: anext(messages),
            "named messages": lambda: anext(named),
            "drained": lambda: self.full().drained(),
            "handed_over": lambda: self.a.handed_over(None),
            "key_in_use": self.a.key_in_use,
            "stopService": self.alone.stopService,
        }

    def full(self) -> Any:
        """The service without a neighbour, after it has sent as much as it may."""
        with contextlib.suppress(Congested):
            for _ in range(100):
                self.alone.send(bytes(2**20 - 100))
        return self.alone

    async def assert_all_are_told(self) -> None:
        for name, wait in self.waits().items():
            error: BaseException | None = None
            try:
                await wait()
            except RuntimeError as raised:
                error = raised
            self.assertIsInstance(error, RuntimeError, name)
            self.assertIn("only mesh.run() lets anything happen", str(error), name)

    async def test_by_a_test_of_trial(self) -> None:
        await self.assert_all_are_told()

    def test_by_a_task_of_asyncio(self) -> None:
        asyncio.run(self.assert_all_are_told())

    async def test_by_a_coroutine_that_the_test_calls(self) -> None:
        async def receive() -> None:
            async for _ in self.b.messages():
                pass

        with self.assertRaisesRegex(RuntimeError, "only mesh.run"):
            await receive()

    async def test_what_has_happened_is_awaited_as_usual(self) -> None:
        messages = self.b.messages()
        receipt = self.a.send("y", receipt=True)
        done, told = receipt.complete(), self.a.send_to(self.b.id, "z")
        self.mesh.run(1)
        self.assertEqual({(await anext(messages)).packets[1] for _ in range(2)}, {"y", "z"})
        self.mesh.run(1)
        await told
        self.assertIs(await done, receipt)
        self.b.stopService()
        self.mesh.run(5)
        self.assertEqual([message async for message in messages], [])

    async def test_coroutines_that_the_test_begins_wait(self) -> None:
        got: list[Any] = []

        async def receive() -> None:
            async for message in self.b.messages():
                got.append(message.packets[1])
                await message.reply("thanks")

        receiving = Deferred.fromCoroutine(receive())
        self.a.send(1)
        self.a.send(2)
        self.mesh.run(5)
        self.assertEqual(got, [1, 2])
        self.assertEqual([m.packets[1] for m in self.mesh.received(0)], ["thanks", "thanks"])
        self.assertNoResult(receiving)
