"""An honest node: ``python -m benchmarks.siege.node ROLE PORT``.

Contract: each order is a line of JSON on standard input, each answer one on standard output.  The middle
only relays, and the two others dial PORT.  After ``speak`` the speaker sends a message every PAUSE for so
many seconds, and then says how many.  ``heard`` tells the delays in seconds of all messages since the last
time, and ``ended`` how often a link has ended.  The end of the input ends the process.
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
from twisted.internet.task import LoopingCall
from twisted.protocols.basic import LineOnlyReceiver

from twisted_mesh import MeshService
from twisted_mesh.message import Message

PAUSE = 0.02  # seconds from one message to the next
#: Hosts of a network that is linked to no other; loopback and private addresses have no limits.
HOSTS = {"middle": "11.0.0.1", "speaker": "11.0.0.2", "listener": "11.0.0.3", "attacker": "11.0.0.4"}
reactor: Any = _reactor


class Node(LineOnlyReceiver):
    """Carries out the orders."""

    delimiter = b"\n"

    def __init__(self, role: str, port: int) -> None:
        def dial(host: str, port: int) -> TCP4ClientEndpoint:
            return TCP4ClientEndpoint(reactor, host, port, bindAddress=(HOSTS[role], 0))

        listen = (f"tcp:0:interface={HOSTS[role]}",) if role == "middle" else ()
        self._service = MeshService(reactor, listen=listen, dial=dial, overlay=False, label=role)
        self._service.on("message", self._heard)
        self._service.on("disconnect", self._ended)
        self._port = port
        self._sent = 0
        self._delays: list[float] = []
        self._ends = 0

    def connectionMade(self) -> None:
        """Begin."""
        self._service.startService()
        Deferred.fromCoroutine(self._begin())

    async def _begin(self) -> None:
        await self._service.ready()
        if self._port:
            await self._service.connect(HOSTS["middle"], self._port)
            self._say(0)
        else:
            self._say(self._service.addresses[0][1])

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
    StandardIO(Node(sys.argv[1], int(sys.argv[2])))
    reactor.run()
