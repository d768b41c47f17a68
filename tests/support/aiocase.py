"""Tests of aio.Mesh: each is a coroutine, in an asyncio loop and a thread of its own.

The nodes use the reactor of the tests, which runs already; `tests.processes.test_asyncio` tests programs
whose first Mesh starts a reactor.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from tests.support.processes import eventually, reactor
from tests.support.threadcase import ThreadCase
from twisted_mesh.aio import Mesh, Messages
from twisted_mesh.threads.reactor_thread import reactor_thread

T = TypeVar("T")
DEADLINE = 30
LOOPBACK = ("tcp:0:interface=127.0.0.1",)


def in_a_loop(test: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[[Any], Deferred[None]]:
    """Run a test in an asyncio loop, in a thread of its own."""

    @wraps(test)
    def run(self: Any) -> Deferred[None]:
        return deferToThread(lambda: asyncio.run(test(self)))

    return run


class AioCase(ThreadCase):
    """Runs each coroutine function among the tests in a loop, in a thread of its own."""

    def __init_subclass__(cls) -> None:
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                setattr(cls, name, in_a_loop(test))

    def mesh(self, **options: Any) -> Mesh:
        """A Mesh that listens on loopback."""
        return Mesh(LOOPBACK, **options)

    @asynccontextmanager
    async def pair(self, **options: Any) -> AsyncIterator[tuple[Mesh, Mesh]]:
        """Two open meshes that are linked; both have the other in their routing table."""
        async with self.mesh(**options) as a, self.mesh() as b:
            await a.connect(*b.addresses[0])
            await self.soon(lambda: b.routing_table and a.members and b.members)
            yield a, b

    async def soon(self, condition: Callable[[], Any]) -> Any:
        """Wait until *condition*, which is called in the reactor's thread, is true."""
        return await asyncio.to_thread(blockingCallFromThread, reactor, eventually, condition)

    async def in_reactor(self, f: Callable[[], T]) -> T:
        """Call *f* in the reactor's thread."""
        return (await asyncio.to_thread(blockingCallFromThread, reactor, lambda: [f()]))[0]

    async def raises(self, kind: Any, call: Coroutine[Any, Any, Any]) -> str:
        """Await *call*, which must raise *kind*, an exception or several; return the text of the error."""
        with self.assertRaises(kind) as caught:
            await asyncio.wait_for(call, DEADLINE)
        return str(caught.exception)

    async def packets(self, messages: Messages, count: int) -> list[Any]:
        """The first packets of the next *count* messages."""
        return [(await asyncio.wait_for(anext(messages), DEADLINE)).packets[1] for _ in range(count)]

    def footprint(self, mesh: Mesh) -> dict[str, int]:
        """The entries of every table of the node behind *mesh*; call this in the reactor's thread."""
        assert mesh._node is not None
        return mesh._node.footprint()

    def assert_nothing_runs(self, port: int | None = None) -> None:
        """No node runs, no other task of this loop is there, and *port* is free."""
        self.assertEqual(list(reactor_thread()._services), [])
        self.assertEqual(asyncio.all_tasks() - {asyncio.current_task()}, set())
        if port is not None:
            with socket.socket() as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                again.bind(("127.0.0.1", port))


async def result(future: asyncio.Future[Any]) -> Any:
    """The result of *future*, for AioCase.raises()."""
    return await future
