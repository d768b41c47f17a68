"""The mesh as it is by default: TLS, signatures, history in memory, a listener called with each message.

Contract: a MeshService with no option but where it listens, and whether it looks for neighbours by
itself; no receipt is asked for.  With the argument ``many``, the messages of a turn are sent at one
call.  With ``secret``, the nodes share one.  With ``take`` and a name, an iterator takes the messages: of
the consumer of that name, or without a name if it is empty.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.systems.on_twisted import reactor, run
from benchmarks.systems.program import HOST, TURN_BYTES, Node
from twisted_mesh import MeshService, MessageQueue, NamedMessages, Trust
from twisted_mesh.errors import Congested
from twisted_mesh.message import Message


class MeshNode(Node):
    """A service."""

    async def open(self, alone: bool) -> int:
        """Listen."""
        self._alone = alone
        self._folder = tempfile.TemporaryDirectory()  # the node reads its files again
        trust = _secret(self._folder.name) if sys.argv[1:] == ["secret"] else None
        listen = (f"tcp:0:interface={HOST}",)
        self._service = MeshService(reactor, listen=listen, overlay=not alone, trust=trust)
        match sys.argv[1:]:
            case ["take", name]:
                self._loop.spawn(self._take(self._service.messages(name=name or None)))
            case _:
                self._service.on("message", self._heard)
        self._service.startService()
        await self._service.ready()
        return self._service.addresses[0][1]

    async def connect(self, port: int) -> None:
        """Dial."""
        await self._service.connect(HOST, port)

    def links(self) -> int:
        """The members that it knows; or its links, if it looks for no neighbours."""
        return len(self._service.routing_table if self._alone else self._service.members)

    async def send(self, count: int, size: int) -> None:
        """Send until the service takes no more, and go on when it does."""
        body = bytes(size)
        a_turn = max(1, TURN_BYTES // size)
        if sys.argv[1:] == ["many"]:
            await self._send_many(body, count, a_turn)
            return
        for number in range(1, count + 1):
            try:
                self._service.send(body)
            except Congested:
                await self._service.drained()
                self._service.send(body)
            if number % a_turn == 0:
                await self._loop.rest(0)

    async def _send_many(self, body: bytes, count: int, a_turn: int) -> None:
        for sent in range(0, count, a_turn):
            bodies = [body] * min(a_turn, count - sent)
            try:
                self._service.send_many(bodies)
            except Congested:
                await self._service.drained()
                self._service.send_many(bodies)
            await self._loop.rest(0)

    async def say(self, body: bytes) -> None:
        """Send."""
        self._service.send(body)

    async def ask(self, body: bytes) -> None:
        """Ask the first member, and wait for its answer."""
        await self._service.request(next(iter(self._service.members)), body, timeout=30)

    async def _take(self, messages: MessageQueue | NamedMessages) -> None:
        async for message in messages:
            self._heard(message)

    def _heard(self, message: Message) -> None:
        if message.number:
            message.reply(message.packets[1])
        elif self.tally.timing:
            self.tally.late(message.packets[1])
        else:
            self.tally.more()


def _secret(folder: str) -> Trust:
    path = Path(folder) / "secret"
    path.touch(mode=0o600)
    path.write_text("5e" * 32)
    return Trust.secret(path)


if __name__ == "__main__":
    run(MeshNode)
