"""pyzmq, PUB and SUB: each node publishes, and subscribes to every other.

Contract: plain TCP, nothing but what libzmq does.  PUB waits for nobody: with the high-water mark given as
argument what a slow reader has not taken is dropped, with 0 it is kept in memory without a limit.  A thread
receives, so that sending need not wait for it.
"""

from __future__ import annotations

import sys
from threading import Thread

import zmq

from benchmarks.systems.on_asyncio import AsyncioLoop, run
from benchmarks.systems.program import HOST, TURN_BYTES, Node


class ZmqNode(Node):
    """Two sockets."""

    def __init__(self, loop: AsyncioLoop) -> None:
        super().__init__(loop)
        context = zmq.Context()
        # XPUB is PUB that can tell who has subscribed.
        self._out, self._in = context.socket(zmq.XPUB), context.socket(zmq.SUB)
        self._out.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._out.set_hwm(int(sys.argv[1]))
        self._in.set_hwm(int(sys.argv[1]))
        self._in.subscribe(b"")
        self._subscribers = 0
        self._hears = False

    async def open(self, alone: bool) -> int:
        """Bind."""
        port: int = self._out.bind_to_random_port(f"tcp://{HOST}")
        return port

    async def connect(self, port: int) -> None:
        """Subscribe."""
        self._in.connect(f"tcp://{HOST}:{port}")

    def links(self) -> int:
        """Subscribers."""
        while self._out.poll(0):
            self._out.recv()
            self._subscribers += 1
        return self._subscribers

    def expect(self, most: int, timing: bool) -> None:
        """From here on the socket is the thread's: nothing is connected any more."""
        super().expect(most, timing)
        if not self._hears:
            self._hears = True
            Thread(target=self._hear, daemon=True).start()

    async def send(self, count: int, size: int) -> None:
        """It takes all."""
        body = bytes(size)
        a_turn = max(1, TURN_BYTES // size)
        for number in range(1, count + 1):
            self._out.send(body)
            if number % a_turn == 0:
                await self._loop.rest(0)

    async def say(self, body: bytes) -> None:
        """Send."""
        self._out.send(body)

    def _hear(self) -> None:
        while True:
            body = self._in.recv()
            if self.tally.timing:
                self.tally.late(body)
            else:
                self.tally.more()


if __name__ == "__main__":
    run(ZmqNode)
