"""py2p's MeshSocket as it is: plain TCP, a daemon thread that receives and relays.

Contract: each message is another one (py2p takes equal ones of the same second for one) and counted once
(it delivers some twice).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from py2p import mesh

from benchmarks.systems.on_asyncio import AsyncioLoop, run
from benchmarks.systems.program import HOST, Node


def free_port() -> int:
    """A port nobody listens at now: py2p has no way to tell which one the system chose."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Py2pNode(Node):
    """A socket."""

    def __init__(self, loop: AsyncioLoop) -> None:
        super().__init__(loop)
        self._seen: set[bytes] = set()

    async def open(self, alone: bool) -> int:
        """Listen."""
        port = free_port()
        self._socket = mesh.MeshSocket(HOST, port)
        self._socket.on("message", self._heard)
        return port

    async def connect(self, port: int) -> None:
        """Dial."""
        await asyncio.to_thread(self._socket.connect, HOST, port)

    def expect(self, most: int, timing: bool) -> None:
        """Numbers begin anew."""
        self._seen.clear()
        super().expect(most, timing)

    def links(self) -> int:
        """Its routing table."""
        return len(self._socket.routing_table)

    async def send(self, count: int, size: int) -> None:
        """It blocks where a neighbour takes no more."""

        def burst() -> None:
            for number in range(count):
                self._socket.send(struct.pack("!Q", number).ljust(size, b"\0"))

        await asyncio.to_thread(burst)

    async def say(self, body: bytes) -> None:
        """Send."""
        self._socket.send(body)

    def _heard(self, some: Any) -> None:
        while (message := some.recv()) is not None:
            sender, body = message.sender, message.packets[-1]
            key = sender + body[:8]
            if key in self._seen:
                continue
            self._seen.add(key)
            if self.tally.timing:
                self.tally.late(body)
            else:
                self.tally.more()


if __name__ == "__main__":
    run(Py2pNode)
