"""nats-py, asyncio client of the NATS project: every node publishes to one subject and subscribes to it.

Contract: core publish and subscribe, without JetStream, with TLS if there is an argument; one
server for all, ``no_echo`` so that no node gets its own.  Each node answers requests of others on a
second subject.  The server's certificate is not checked: that is done once, before anything is
measured.  What a reader has not taken when its limits are reached the client or the server drops,
and that counts as lost.
"""

from __future__ import annotations

import ssl
import sys

import nats
from nats.aio.msg import Msg

from benchmarks.systems.on_asyncio import run
from benchmarks.systems.program import HOST, Node

_SUBJECT, _QUESTIONS = "alerts", "questions"


def tls() -> ssl.SSLContext:
    """TLS 1.3, as the mesh's links have it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class NatsNode(Node):
    """A client."""

    async def open(self, alone: bool) -> int:
        """A client listens nowhere."""
        return 0

    async def connect(self, port: int) -> None:
        """Connect with the server."""
        self._client = await nats.connect(
            f"nats://{HOST}:{port}",
            no_echo=True,
            error_cb=self._dropped,
            tls=tls() if sys.argv[1:] else None,
        )
        await self._client.subscribe(_SUBJECT, cb=self._heard)
        await self._client.subscribe(_QUESTIONS, cb=self._answer)
        await self._client.flush()

    def links(self) -> int:
        """1 if it is connected with the server, which reaches all; else 0."""
        return int(self._client.is_connected)

    async def send(self, count: int, size: int) -> None:
        """Publish; the client waits if its buffer is full."""
        body = bytes(size)
        for _ in range(count):
            await self._client.publish(_SUBJECT, body)
        await self._client.flush(timeout=60)

    async def say(self, body: bytes) -> None:
        """Publish."""
        await self._client.publish(_SUBJECT, body)

    async def ask(self, body: bytes) -> None:
        """Ask all others, which is one in a mesh of two nodes, and wait for the first answer."""
        await self._client.request(_QUESTIONS, body, timeout=30)

    async def _answer(self, message: Msg) -> None:
        await message.respond(message.data)

    async def _heard(self, message: Msg) -> None:
        if self.tally.timing:
            self.tally.late(message.data)
        else:
            self.tally.more()

    async def _dropped(self, error: Exception) -> None:
        """Do nothing: a message that was dropped counts as lost, since it does not come."""


if __name__ == "__main__":
    run(NatsNode)
