"""An honest node: ``python -m benchmarks.siege.node ROLE``.

Contract: each order is a line of JSON on standard input, each answer one on standard output; the first says
that the node is linked with its peers: the speaker and the listener are peers of the middle.  After
``speak`` the speaker sends a message every PAUSE for so many seconds, and then says how many.  ``heard``
tells the delays in seconds of all messages since the last time, and ``ended`` how often a link has ended.
The end of the input ends the process.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ReactorNotRunning
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall, deferLater
from twisted.protocols.basic import LineOnlyReceiver

from twisted_mesh import MeshService
from twisted_mesh.message import Message

PAUSE = 0.02  # seconds from one message to the next
#: Hosts of a network that is linked to no other; loopback and private addresses have no limits.
HOSTS = {"middle": "11.0.0.1", "speaker": "11.0.0.2", "listener": "11.0.0.3", "attacker": "11.0.0.4"}
PORT = 4444
PEERS = {"middle": ("speaker", "listener"), "speaker": ("middle",), "listener": ("middle",)}
reactor: Any = _reactor


class Node(LineOnlyReceiver):
    """Carries out the orders."""

    delimiter = b"\n"

    def __init__(self, role: str) -> None:
        def dial(host: str, port: int) -> TCP4ClientEndpoint:
            return TCP4ClientEndpoint(reactor, host, port, bindAddress=(HOSTS[role], 0))

        self._peers = PEERS[role]
        self._service = MeshService(
            reactor,
            listen=(f"tcp:{PORT}:interface={HOSTS[role]}",),
            peers=[f"{HOSTS[peer]}:{PORT}" for peer in self._peers],
            dial=dial,
            overlay=False,
            label=role,
        )
        self._service.on("message", self._heard)
        self._service.on("disconnect", self._ended)
        self._sent = 0
        self._delays: list[float] = []
        self._ends = 0

    def connectionMade(self) -> None:
        """Begin."""
        self._service.startService()
        Deferred.fromCoroutine(self._begin())

    async def _begin(self) -> None:
        while len(self._service.routing_table) < len(self._peers):
            await deferLater(reactor, PAUSE)
        self._ends = 0
        self._say(True)

    def lineReceived(self, line: bytes) -> None:
        """Carry out an order."""
        order, *arguments = json.loads(line)
        if order == "speak":
            call = LoopingCall(self._speak)
            call.start(PAUSE)
            reactor.callLater(arguments[0], self._spoken, call)
            return
        if order == "ended":
            self._say(self._ends)
            return
        delays, self._delays = self._delays, []
        self._say(delays)

    def connectionLost(self, reason: object = None) -> None:
        """End."""
        with suppress(ReactorNotRunning):
            reactor.stop()

    def _speak(self) -> None:
        self._service.send(time.monotonic())
        self._sent += 1

    def _spoken(self, call: LoopingCall) -> None:
        call.stop()
        self._say(self._sent)

    def _say(self, told: object) -> None:
        self.sendLine(json.dumps(told).encode())

    def _heard(self, message: Message) -> None:
        if isinstance(message.packets[1], float):  # else it is an attacker's
            self._delays.append(time.monotonic() - message.packets[1])

    def _ended(self, service: MeshService) -> None:
        self._ends += 1


if __name__ == "__main__":
    StandardIO(Node(sys.argv[1]))
    reactor.run()
