"""The end of an aio.Mesh: whatever ends the block, nothing of the node is left."""

from __future__ import annotations

import asyncio
import contextlib

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.support.aiocase import DEADLINE, AioCase, result
from twisted_mesh.threads.reactor_thread import reactor_thread


class EndTests(AioCase):
    async def test_unsent_messages_are_handed_over_at_the_end_of_the_block(self) -> None:
        async with self.mesh() as a:
            got = a.messages()
            async with self.mesh(peers=[f"127.0.0.1:{a.addresses[0][1]}"]) as b:
                for number in range(100):
                    await b.send(number, bytes(10_000))
            self.assertEqual(await self.packets(got, 100), list(range(100)))

    async def ends(self, with_: type[BaseException] | None) -> None:
        """End a block in which a coroutine of a listener runs."""
        async with self.mesh() as a:
            got = a.messages()

            async def block() -> None:
                async with self.mesh() as b:
                    b.on("message", lambda message: asyncio.sleep(DEADLINE))
                    await b.connect(*a.addresses[0])
                    await self.soon(lambda: a.routing_table)
                    await a.send("x")
                    await self.soon(lambda: len(b._tasks) == 2)
                    await b.send(b.addresses[0][1])
                    if with_ is asyncio.CancelledError:
                        await asyncio.sleep(DEADLINE)
                    if with_ is not None:
                        raise with_

            running = asyncio.ensure_future(block())
            (port,) = await self.packets(got, 1)
            if with_ is asyncio.CancelledError:
                running.cancel()
            if with_ is None:
                await running
            else:
                await self.raises(with_, result(running))
        self.assert_nothing_runs(port)

    async def test_a_block_that_comes_to_its_end(self) -> None:
        await self.ends(None)

    async def test_a_block_that_is_cancelled(self) -> None:
        await self.ends(asyncio.CancelledError)

    async def test_a_block_that_fails(self) -> None:
        await self.ends(ValueError)

    async def test_a_time_limit_around_the_block(self) -> None:
        mesh = self.mesh()
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.05), mesh:
                await mesh.joined()
        self.assert_nothing_runs()

    async def test_one_that_is_cancelled_while_it_opens_or_closes(self) -> None:
        for turns in range(12):
            mesh = self.mesh()
            opening = asyncio.ensure_future(mesh.__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0)
            if not opening.done():
                opening.cancel()
                await self.raises(asyncio.CancelledError, result(opening))
                self.assert_nothing_runs()
            async with self.mesh() as mesh:
                port = mesh.addresses[0][1]
                closing = asyncio.ensure_future(mesh.__aexit__())
                for _ in range(turns):
                    await asyncio.sleep(0)
                    closing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await closing
                self.assert_nothing_runs(port)

    def test_the_other_tasks_of_a_program_that_ends(self) -> Deferred[None]:
        ports: list[int] = []

        async def receive() -> None:
            async with self.mesh() as mesh:
                ports.append(mesh.addresses[0][1])
                async for _ in mesh.messages():
                    pass

        async def main() -> None:
            others = [asyncio.ensure_future(receive()) for _ in range(3)]  # asyncio.run cancels these
            await self.soon(lambda: len(ports) == 3)
            self.assertFalse(any(other.done() for other in others))

        async def after() -> None:
            for port in ports:
                self.assert_nothing_runs(port)

        def run() -> None:
            asyncio.run(main())
            asyncio.run(after())

        return deferToThread(run)

    def test_a_loop_that_is_closed_under_an_open_mesh(self) -> Deferred[None]:
        mesh = self.mesh()
        mesh.on("member", print)

        async def after() -> None:
            await self.in_reactor(lambda: mesh._tell("member", None))
            await self.soon(lambda: not reactor_thread()._services)

        def run() -> None:
            loop = asyncio.new_event_loop()
            loop.run_until_complete(mesh.__aenter__())
            loop.close()
            asyncio.run(after())

        return deferToThread(run)
