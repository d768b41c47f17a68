"""Runs a node in an asyncio loop; a system with threads of its own has them beside it.

Contract: lines are read by a thread, so that a loop without other work costs nothing.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.systems.program import Node, leave


class AsyncioLoop:
    """The loop, as a node sees it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds them weakly

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work*, from the next turn on."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def rest(self, seconds: float) -> None:
        """Let the loop go on for *seconds*."""
        await asyncio.sleep(seconds)


def run(make: Callable[[AsyncioLoop], Node]) -> None:
    """Be a node until the input ends."""

    async def serve() -> None:
        node = make(AsyncioLoop())
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            os.write(output, await node.obey(line) + b"\n")
        leave()

    output = os.dup(1)
    os.dup2(2, 1)  # py2p prints

    asyncio.run(serve())
