"""A chat: each line typed goes to everyone, and it says who came and went. In two terminals::

    python chat.py Ann 4444
    python chat.py Bob 4445 127.0.0.1:4444

Ctrl-D ends it. Without ``interface=127.0.0.1`` other hosts can come, too.
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
        match [repr(packet)[1:-1] for packet in message.packets[1:]]:  # so nobody steers the terminal
            case ["says", name, text]:
                self.sendLine(f"{name}: {text}".encode())
            case ["came" | "went" as what, name]:
                self.sendLine(f"* {name} {what}".encode())

    def connectionLost(self, reason):
        self.ended.callback(None)


async def main(reactor, name, port, peer=None):
    def leave():
        service.send("went", name)
        return service.stopService()  # which hands that over first

    service = MeshService(reactor, listen=[f"tcp:{port}:interface=127.0.0.1"])
    terminal = Terminal(name, service)
    StandardIO(terminal)
    service.startService()
    terminal.sendLine(f"* {name} listens on port {service.addresses[0][1]}".encode())
    service.send("came", name)  # waits until somebody is there
    reactor.addSystemEventTrigger("before", "shutdown", leave)  # after Ctrl-C as well
    if peer:
        host, number = peer.split(":")
        await service.connect(host, int(number))  # fails with the reason; once linked it stays so
    await terminal.ended


task.react(main, sys.argv[1:])
