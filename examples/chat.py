"""A chat: each line typed goes to all nodes, and arrivals and departures are shown. In two terminals::

    python chat.py Ann 4444
    python chat.py Bob 4445 127.0.0.1:4444

Ctrl-D ends it. Without ``interface=127.0.0.1`` other hosts can take part, too.
"""

import sys

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver

from twisted_mesh import MeshService


class Terminal(LineReceiver):
    delimiter = b"\n"

    def __init__(self, name, service):
        self.name, self.service = name, service
        self.ended = Deferred()
        service.on("message", self.show)

    def lineReceived(self, line):
        self.service.send("says", self.name, line.decode(errors="replace"))

    def show(self, message):
        match [repr(packet)[1:-1] for packet in message.packets[1:]]:  # no control characters
            case ["says", name, text]:
                self.sendLine(f"{name}: {text}".encode())
            case ["came" | "went" as what, name]:
                self.sendLine(f"* {name} {what}".encode())

    def connectionLost(self, reason):
        self.ended.callback(None)


async def main(reactor, name, port, peer=None):
    def leave():
        service.send("went", name)
        return service.stopService()  # hands over unsent messages first

    service = MeshService(reactor, listen=[f"tcp:{port}:interface=127.0.0.1"])
    terminal = Terminal(name, service)
    StandardIO(terminal)
    service.startService()
    terminal.sendLine(f"* {name} listens on port {service.addresses[0][1]}".encode())
    service.send("came", name)  # waits until there is a neighbour
    reactor.addSystemEventTrigger("before", "shutdown", leave)  # Ctrl-C, too
    if peer:
        host, number = peer.split(":")
        await service.connect(host, int(number))  # raises the reason; a link is kept
    await terminal.ended


task.react(main, sys.argv[1:])
