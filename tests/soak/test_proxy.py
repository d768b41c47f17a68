"""Connections through the proxy, on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.soak.proxy import LOOPBACK, Passage, Proxy, home
from tests.support.processes import eventually, reactor


@implementer(IHalfCloseableProtocol)
class Talker(Protocol):
    """One end of a connection; it keeps the bytes and the end that it gets."""

    def __init__(self) -> None:
        self.heard = b""
        self.has_heard_all = False
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def readConnectionLost(self) -> None:
        self.has_heard_all = True

    def writeConnectionLost(self) -> None:
        """Do nothing: this end has closed its own half."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class ProxyTests(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.proxy = Proxy(reactor, Random(1))
        self.addCleanup(self.proxy.close)
        self.answering: list[Talker] = []
        for _ in range(3):
            gate = await self.proxy.add()
            listening: Any = await TCP4ServerEndpoint(reactor, 0, interface=LOOPBACK).listen(
                Factory.forProtocol(self.answer)
            )
            self.addCleanup(listening.stopListening)
            gate.target = listening.getHost().port

    def answer(self) -> Talker:
        """Make the end that answers behind each gate."""
        self.answering.append(Talker())
        return self.answering[-1]

    async def connect(self, source: int, target: int) -> Any:
        """Connect from *source* to the gate of *target*; return the end that dialled."""
        endpoint = TCP4ClientEndpoint(
            reactor, LOOPBACK, self.proxy.gates[target].port, bindAddress=(home(source), 0)
        )
        return await connectProtocol(endpoint, Talker())

    async def pair(self, source: int = 0, target: int = 1) -> tuple[Any, Any, Passage]:
        """Both ends, and the passage between them."""
        near = await self.connect(source, target)
        near.transport.write(b"hello")
        await eventually(lambda: self.answering and self.answering[-1].heard == b"hello")
        (passage,) = (each for each in self.proxy.passages if each.source == source)
        return near, self.answering[-1], passage

    def each(self, *talkers: Talker) -> Iterator[Failure | None]:
        """The reasons for which *talkers* were lost; None for one that is not."""
        return (talker.lost for talker in talkers)

    async def test_it_knows_who_speaks_with_whom_and_changes_nothing(self) -> None:
        near, far, passage = await self.pair(2, 1)
        self.assertEqual((passage.source, passage.target), (2, 1))
        far.transport.write(b"x" * 1_000_000)
        await eventually(lambda: len(near.heard) == 1_000_000)
        near.transport.loseConnection()
        await eventually(lambda: far.has_heard_all)
        far.transport.loseConnection()
        await eventually(lambda: not self.proxy.passages and all(self.each(near, far)))

    async def test_a_reset_is_one_at_both_ends(self) -> None:
        near, far, passage = await self.pair()
        passage.reset()
        await eventually(lambda: all(self.each(near, far)))
        self.assertEqual([why.check(ConnectionDone) for why in self.each(near, far) if why], [None, None])

    async def test_closed_both_ends_hear_the_end(self) -> None:
        near, far, passage = await self.pair()
        passage.close()
        await eventually(lambda: near.has_heard_all and far.has_heard_all)
        for end in (near, far):
            end.transport.loseConnection()
        await eventually(lambda: not self.proxy.passages)

    async def test_half_closed_the_other_way_is_open(self) -> None:
        near, far, passage = await self.pair()
        passage.ways[0].shut()
        await eventually(lambda: far.has_heard_all)
        far.transport.write(b"still here")
        await eventually(lambda: near.heard == b"still here")
        self.assertFalse(near.has_heard_all)
        near.transport.abortConnection()
        await eventually(lambda: not self.proxy.passages)

    async def test_parted_nothing_passes_until_it_heals(self) -> None:
        near, far, _ = await self.pair(0, 1)
        _, other, _ = await self.pair(2, 1)
        self.proxy.part([0], swallows=False)
        near.transport.write(b" again")
        self.assertTrue(self.proxy.is_parted(0, 1))
        self.assertFalse(self.proxy.is_parted(2, 1))
        refused = await self.connect(0, 2)
        await eventually(lambda: refused.has_heard_all)
        self.assertEqual(far.heard, b"hello")
        self.proxy.heal()
        await eventually(lambda: far.heard == b"hello again")
        self.assertIsNone(other.lost)

    async def test_parted_by_a_part_that_swallows_a_connection_is_made_and_silent(self) -> None:
        self.proxy.part([0], swallows=True)
        near = await self.connect(0, 1)
        near.transport.write(b"hello")
        await eventually(lambda: self.answering)
        self.assertEqual(self.answering[0].heard, b"")
        self.proxy.heal()
        await eventually(lambda: self.answering[0].heard == b"hello")

    async def test_a_gate_that_is_closed_refuses_and_opens_where_it_was(self) -> None:
        gate = self.proxy.gates[1]
        port = gate.port
        await gate.close()
        with self.assertRaises(ConnectionRefusedError):
            await self.connect(0, 1)
        await gate.open()
        self.assertEqual(gate.port, port)
        await self.pair(0, 1)

    async def test_where_nobody_is_behind_the_gate_the_connection_ends(self) -> None:
        self.proxy.gates[1].target = None
        near = await self.connect(0, 1)
        await eventually(lambda: near.has_heard_all)
