"""Two nodes and a slow line on loopback: all messages come, and hardly any byte is sent in vain.

By default the lines are ten times as fast as with ``MESH_LONG``, and the time-outs shorter.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.soak.proxy import Proxy
from tests.soak.way import Weather
from tests.support.length import at_length
from tests.support.processes import ANYWHERE, eventually
from twisted_mesh.config import MeshConfig
from twisted_mesh.service import MeshService

reactor: Any = _reactor
_FASTER: Final = at_length(1, 10)
_CONFIG: Final = at_length(
    MeshConfig(),
    MeshConfig(ping_after=0.5, dead_after=1.5, gap_patience=3.0, graft_retry=0.1, compare_interval=3.0),
)
_AROUND: Final = 1.1  # bytes carried both ways for each byte of payload, TLS and all frames included


class SlowLineCase(TestCase):
    timeout = 300

    async def linked(self, rate: float, *, room: int = 65536, config: MeshConfig = _CONFIG) -> None:
        """Two nodes, linked over a line of *rate* bytes a second."""
        self.got: list[Any] = []
        self.gaps: list[Any] = []
        options: dict[str, Any] = {"overlay": False, "config": config}
        self.reader = await self.node(listen=(ANYWHERE,), **options)
        self.reader.on("message", lambda message: self.got.append(message.packets[1]))
        self.reader.on("gap", self.gaps.append)
        self.line = Proxy(reactor, Random(1), room)
        self.line.weather = Weather(rate=rate * _FASTER)
        self.gate = await self.line.add()
        self.gate.target = self.reader.addresses[0][1]
        self.addCleanup(self.line.close)
        peers = (f"127.0.0.1:{self.gate.port}",)
        self.author = await self.node(listen=(), peers=peers, **options)
        await self.author.joined()
        await self.reader.joined()
        self.before = self.line.bytes

    async def node(self, **options: Any) -> MeshService:
        """A node that runs until the end of the test."""
        node = MeshService(reactor, **options)
        node.startService()
        self.addCleanup(node.stopService)
        await node.ready()
        return node

    async def assert_all_came(self, expected: list[Any], payload: int, links: int = 1) -> None:
        """Assert that *expected* came in order, over so many *links*, with few bytes sent in vain."""
        await eventually(
            lambda: len(self.got) >= len(expected) or self.gaps, 280, lambda: (len(self.got), self.gaps)
        )
        self.assertEqual(self.got, expected)
        self.assertEqual(self.gaps, [])
        self.assertLess(self.line.bytes - self.before, _AROUND * payload)
        self.assertEqual(self.line.carried, links)


class LifeTests(SlowLineCase):
    async def test_a_frame_each_way(self) -> None:
        await self.linked(30_000, room=2**20)
        back: list[Any] = []
        self.author.on("message", lambda message: back.append(message.packets[1]))
        for node in (self.author, self.reader):
            node.send("large", noise(1_000_000))
            node.send("small")
        await self.assert_all_came(["large", "small"], 2_000_000)
        await eventually(lambda: len(back) == 2)


class RepairTests(SlowLineCase):
    async def test_what_was_said_while_the_link_was_away(self) -> None:
        await self.linked(50_000)
        await self.line.close()
        said = self.say(1500)
        await deferLater(reactor, 1)
        await self.gate.open()
        await self.assert_all_came(said, 1_500_000, links=2)

    def say(self, count: int) -> list[int]:
        """Send *count* messages of 1 kB at once."""
        for number in range(count):
            self.author.send(number, noise(1000))
        return list(range(count))


def noise(size: int) -> bytes:
    """So many random bytes, the same at each call."""
    return Random(size).randbytes(size)
