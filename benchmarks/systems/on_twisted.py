"""Runs a node in Twisted's default reactor."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater
from twisted.protocols.basic import LineOnlyReceiver

from benchmarks.systems.program import Node, leave

reactor: Any = _reactor


class TwistedLoop:
    """The reactor, as a node sees it."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work*, from the next turn on."""
        reactor.callLater(0, Deferred.fromCoroutine, work)

    async def rest(self, seconds: float) -> None:
        """Let the reactor go on for *seconds*."""
        await deferLater(reactor, seconds)


class Lines(LineOnlyReceiver):
    """Standard input and output."""

    delimiter = b"\n"

    def __init__(self, node: Node) -> None:
        self._node = node

    def lineReceived(self, line: bytes) -> None:
        """Do it, and answer."""
        Deferred.fromCoroutine(self._node.obey(line)).addCallback(self.sendLine)

    def connectionLost(self, reason: object = None) -> None:
        """That was all."""
        leave()


def run(make: Callable[[TwistedLoop], Node]) -> None:
    """Be a node until the input ends."""
    StandardIO(Lines(make(TwistedLoop())))
    reactor.run()
