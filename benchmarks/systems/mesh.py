"""The mesh as it is by default: TLS, signatures, history in memory, a listener called with each message.

Contract: a MeshService with no option but where it listens, and whether it looks for neighbours by itself;
no receipt is asked for.  With an argument, the messages are taken by an iterator: of the consumer that the
argument names, or without a name if it is empty.
"""

from __future__ import annotations

import sys

from benchmarks.systems.on_twisted import reactor, run
from benchmarks.systems.program import HOST, TURN_BYTES, Node
from twisted_mesh import MeshService, MessageQueue, NamedMessages
from twisted_mesh.errors import Congested
from twisted_mesh.message import Message


class MeshNode(Node):
    """A service."""

    async def open(self, alone: bool) -> int:
        """Listen."""
        self._alone = alone
        self._service = MeshService(reactor, listen=(f"tcp:0:interface={HOST}",), overlay=not alone)
        if (name := next(iter(sys.argv[1:]), None)) is None:
            self._service.on("message", self._heard)
        else:
            self._loop.spawn(self._take(self._service.messages(name=name or None)))
        self._service.startService()
        await self._service.ready()
        return self._service.addresses[0][1]

    async def connect(self, port: int) -> None:
        """Dial."""
        await self._service.connect(HOST, port)

    def links(self) -> int:
        """Members it knows of, or where it has to look for none, its links."""
        return len(self._service.routing_table if self._alone else self._service.members)

    async def send(self, count: int, size: int) -> None:
        """Until the service has enough, and on when that is drained."""
        body = bytes(size)
        a_turn = max(1, TURN_BYTES // size)
        for number in range(1, count + 1):
            try:
                self._service.send(body)
            except Congested:
                await self._service.drained()
                self._service.send(body)
            if number % a_turn == 0:
                await self._loop.rest(0)

    async def say(self, body: bytes) -> None:
        """Send."""
        self._service.send(body)

    async def _take(self, messages: MessageQueue | NamedMessages) -> None:
        async for message in messages:
            self._heard(message)

    def _heard(self, message: Message) -> None:
        if self.tally.timing:
            self.tally.late(message.packets[1])
        else:
            self.tally.more()


if __name__ == "__main__":
    run(MeshNode)
