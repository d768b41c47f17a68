"""Who connects to a node's port can do what it likes, and the chain goes on."""

from __future__ import annotations

import contextlib
import json
import ssl
from random import Random
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import LoopingCall
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.processes import ANYWHERE, ROOT, Child, ProcessCase, reactor

TAC = ROOT / "tests" / "support" / "node.tac"
SILENT = 100
SLOW = 100
AT_ONCE = 40  # a part of all: the queue of a port that listens holds 50 (Twisted)
LIMITS = {"handshake_timeout": 1.5, "close_timeout": 0.5}
HELD = frozenset(("held_batches", "held_bytes", "first_arrivals"))
RUBBISH = Random(3).randbytes(5_000_000)


class Stranger(Protocol):
    """A connection that says what it is made for."""

    def __init__(self) -> None:
        self.ended = False

    def leave(self) -> None:
        """Be gone, if it is not yet."""
        if not self.ended:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True


@implementer(IOpenSSLClientConnectionCreator)
class Anyone:
    """TLS with whoever is there."""

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(CertificateOptions().getContext(), None)


def client_hello() -> bytes:
    """How an honest connection begins, so that nothing is wrong with it but its pace."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


class HostileConnectionsTests(ProcessCase):
    async def start_chain(self) -> list[Child]:
        """A chain whose middle tells how it is."""
        arguments = {"listen": [ANYWHERE], "limits": LIMITS, "overlay": False}
        (self.directory / "node.json").write_text(json.dumps(arguments))
        middle = self.twistd("-y", str(TAC))
        await self.until_listening(middle)
        self.port = middle.ports[0]
        peer = f"--peer=127.0.0.1:{self.port}"
        ends = [self.twistd("mesh", peer, "--no-overlay", "--stdio") for _ in range(2)]
        await self.until(lambda: [end.links for end in ends] == [1, 1])
        return ends

    def status(self) -> dict[str, Any]:
        """How the middle of the chain is."""
        status = self.directory / "status.json"
        return json.loads(status.read_text()) if status.exists() else {}

    def met(self) -> int:
        """How many strangers the middle has accepted, at least."""
        status = self.status()
        return status["footprint"]["strangers"] + sum(status["refused"].values())

    def connect(self, encrypted: bool = False) -> Deferred[Stranger]:
        """A connection to the middle."""
        endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        if encrypted:
            endpoint = wrapClientTLS(Anyone(), endpoint)

        def made(stranger: Stranger) -> Stranger:
            self.addCleanup(stranger.leave)
            return stranger

        return endpoint.connect(Factory.forProtocol(Stranger)).addCallback(made)

    async def flows(self, ends: list[Child], text: str) -> None:
        """A line passes the middle, both ways."""
        for end in ends:
            end.type(f"{text}\n")
        await self.until(lambda: all(text in end.lines for end in ends), deadline=10)

    async def test_silence_dripping_and_rubbish_do_not_disturb_the_chain(self) -> None:
        ends = await self.start_chain()
        await self.flows(ends, "before")
        before = await self.settled(2)
        strangers: list[Stranger] = []
        for count in range(AT_ONCE, SILENT + SLOW + 1, AT_ONCE):
            # Few at a time: what the system's queue has no room for is dialled again a second later.
            strangers += await gatherResults([self.connect() for _ in range(AT_ONCE)])
            await self.until(lambda count=count: self.met() >= count)
        hello = iter(client_hello())

        def drip() -> None:
            byte = bytes([next(hello)])
            for stranger in strangers[SILENT:]:
                stranger.transport.write(byte)  # type: ignore[union-attr]

        dripping = LoopingCall(drip)
        dripping.start(1.0)
        self.addCleanup(dripping.stop)
        await self.flows(ends, "among strangers")
        # One in plain text, which TLS refuses, and one within TLS, which frames refuse.
        for encrypted in (False, True):
            stranger = await self.connect(encrypted)
            stranger.transport.write(RUBBISH)  # type: ignore[union-attr]
            strangers.append(stranger)
        await self.flows(ends, "among rubbish")
        await self.until(lambda: all(stranger.ended for stranger in strangers))
        await self.flows(ends, "after")
        after = await self.settled(2)
        self.assertEqual(after, before)
        # Each ended for what it did: not one was forgotten, and none took the place of another.
        self.assertEqual(
            self.status()["refused"], {"timeout": SILENT + SLOW, "encryption": 1, "framing": 1}
        )
        for end in ends:
            self.assertEqual(end.links, 1)
            self.assertNotIn("ended", end.log)

    async def settled(self, connections: int) -> dict[str, Any]:
        """How the middle is from now on, once it has but so many connections."""
        number = self.status().get("number", 0) + 1  # one may be half written now

        def is_settled() -> bool:
            status = self.status()
            is_new = status.get("number", 0) > number
            return is_new and status["footprint"]["connections"] == connections

        await self.until(is_settled)
        status = self.status()
        # What the chain itself said meanwhile is held, for whoever may have missed it.
        footprint = {name: size for name, size in status["footprint"].items() if name not in HELD}
        return {"footprint": footprint, "descriptors": status["descriptors"]}
