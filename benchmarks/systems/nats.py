"""nats-py, asyncio client of the NATS project: every node publishes to one subject and subscribes to it.

Contract: core publish and subscribe, without JetStream and TLS; one server for all, ``no_echo`` so that no
node gets its own.  What a reader has not taken when its limits are reached the client or the server drops,
and that counts as lost.
"""

from __future__ import annotations

import nats
from nats.aio.msg import Msg

from benchmarks.systems.on_asyncio import run
from benchmarks.systems.program import HOST, Node

_SUBJECT = "alerts"


class NatsNode(Node):
    """A client."""

    async def open(self, alone: bool) -> int:
        """A client listens nowhere."""
        return 0

    async def connect(self, port: int) -> None:
        """To the server."""
        self._client = await nats.connect(f"nats://{HOST}:{port}", no_echo=True, error_cb=self._dropped)
        await self._client.subscribe(_SUBJECT, cb=self._heard)
        await self._client.flush()

    def links(self) -> int:
        """The server, which reaches all."""
        return int(self._client.is_connected)

    async def send(self, count: int, size: int) -> None:
        """The client waits where its buffer is full."""
        body = bytes(size)
        for _ in range(count):
            await self._client.publish(_SUBJECT, body)
        await self._client.flush(timeout=60)

    async def say(self, body: bytes) -> None:
        """Publish."""
        await self._client.publish(_SUBJECT, body)

    async def _heard(self, message: Msg) -> None:
        if self.tally.timing:
            self.tally.late(message.data)
        else:
            self.tally.more()

    async def _dropped(self, error: Exception) -> None:
        """What it says is counted: it did not come."""


if __name__ == "__main__":
    run(NatsNode)
