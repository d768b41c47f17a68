"""Where a lone message's time goes: ``python -m benchmarks.lone [--messages N]``.

Two nodes as they are by default, each a process, with one link.  One sends a message every 5 ms, and
both read the clock, which all processes of a host share, where a step ends.  Prints the median of each
step in microseconds, and of the whole also the 99th percentile and the longest.  Reading the clock
costs a part of what is shown: ``python -m benchmarks --scenario latency`` is without.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import monotonic
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import deferLater, react
from twisted.internet.tcp import Connection
from twisted.protocols.basic import LineOnlyReceiver
from twisted.protocols.tls import TLSMemoryBIOProtocol

from benchmarks.figures import Figures, delay_figures
from twisted_mesh import MeshService
from twisted_mesh.core.broadcast.forks import Forks
from twisted_mesh.core.history.history import History
from twisted_mesh.core.node import Node
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.message import Message
from twisted_mesh.runtime.driver import Driver

HOST = "127.0.0.1"
PAUSE = 0.005  # seconds from one message to the next
MESSAGES = 400
SPARE = 20  # at the beginning, which nobody counts

reactor: Any = _reactor

Stamps = dict[str, float]  # by step: when it was over

#: What the sender does, then the receiver: the steps, in the order in which they end.
SENDER = (
    "send()",
    "to the end of the turn",
    "a batch made and signed",
    "given to the link",
    "TLS",
    "to the connection's write",
    "the system's send",
)
RECEIVER = (
    "until the receiver wakes",
    "from the socket, through TLS",
    "to a frame, and to the core",
    "the core, to the signature",
    "verified",
    "the core, behind it",
    "to the listener",
)


class Clock:
    """Notes when a step was over.

    :ivar stamps: of each the first that is noted, as a sender needs it; or else the last.
    """

    def __init__(self, *, first: bool) -> None:
        self.stamps: Stamps = {}
        self._first = first

    def before(self, owner: type, name: str, step: str) -> None:
        """*step* is over when the method of *owner* begins."""
        self._wrap(owner, name, lambda: self.over(step), None)

    def after(self, owner: type, name: str, step: str) -> None:
        """*step* is over when the method of *owner* is."""
        self._wrap(owner, name, None, lambda: self.over(step))

    def over(self, step: str) -> None:
        """It is now."""
        if not self._first or step not in self.stamps:
            self.stamps[step] = monotonic()

    @staticmethod
    def _wrap(
        owner: type, name: str, first: Callable[[], None] | None, last: Callable[[], None] | None
    ) -> None:
        method = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            if first is not None:
                first()
            result = method(*args, **options)
            if last is not None:
                last()
            return result

        setattr(owner, name, timed)


class Ear(LineOnlyReceiver):
    """The node that listens: says its port, and when its input ends what it has noted."""

    delimiter = b"\n"

    def __init__(self) -> None:
        self._clock = clock = Clock(first=False)
        waking, read, framed, looked, verified, accepted, heard = RECEIVER
        clock.before(Connection, "doRead", waking)
        clock.before(MeshProtocol, "dataReceived", read)
        clock.before(Node, "handle", framed)
        clock.before(Forks, "verify", looked)
        clock.after(Forks, "verify", verified)
        clock.after(Node, "handle", accepted)
        self._heard_step = heard
        self._all: list[Stamps] = []
        self._service = MeshService(reactor, listen=(f"tcp:0:interface={HOST}",), overlay=False)
        self._service.on("message", self._heard)

    def connectionMade(self) -> None:
        """Begin."""
        self._service.startService()
        Deferred.fromCoroutine(self._say_port())

    async def _say_port(self) -> None:
        await self._service.ready()
        self.sendLine(b"%d" % self._service.addresses[0][1])

    def _heard(self, message: Message) -> None:
        self._clock.over(self._heard_step)
        self._all.append(dict(self._clock.stamps))

    def lineReceived(self, line: bytes) -> None:
        """All was sent."""
        self.sendLine(json.dumps(self._all).encode())
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: object = None) -> None:
        """And all was said."""
        reactor.stop()


async def speak(port: int, messages: int) -> list[tuple[float, Stamps]]:
    """Send to the node at *port*: when each message was sent, and when each step was over."""
    clock = Clock(first=True)
    sent, turned, signed, given, encrypted, waited, passed = SENDER
    clock.before(Driver, "_end_of_turn", turned)
    clock.before(History, "add", signed)
    clock.before(TLSMemoryBIOProtocol, "write", given)
    clock.after(TLSMemoryBIOProtocol, "write", encrypted)
    clock.before(Connection, "writeSomeData", waited)
    clock.after(Connection, "writeSomeData", passed)
    service = MeshService(reactor, listen=(), overlay=False)
    service.startService()
    await service.ready()
    await service.connect(HOST, port)
    seen = []
    for number in range(messages + SPARE):
        await deferLater(reactor, PAUSE)
        clock.stamps.clear()
        began = monotonic()
        service.send(number)
        clock.over(sent)
        await deferLater(reactor, PAUSE)
        seen.append((began, dict(clock.stamps)))
    await service.stopService()
    return seen


def steps(sent: list[tuple[float, Stamps]], heard: list[Stamps]) -> tuple[dict[str, float], Figures]:
    """The median of each step in seconds, and the figures of the whole."""
    each: dict[str, list[float]] = {step: [] for step in (*SENDER, *RECEIVER)}
    whole = []
    for (began, stamps), received in list(zip(sent, heard, strict=True))[SPARE:]:
        before, both = began, stamps | received
        for step, durations in each.items():
            durations.append(both[step] - before)
            before = both[step]
        whole.append(before - began)
    delays = [round(seconds * 1e9) for seconds in whole]
    return {step: median(durations) for step, durations in each.items()}, delay_figures(len(delays), delays)


async def play(messages: int) -> None:
    """Measure, and show."""
    command = [sys.executable, "-m", "benchmarks.lone", "--ear"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ear:
        assert ear.stdin is not None and ear.stdout is not None
        sent = await speak(int(ear.stdout.readline()), messages)
        ear.stdin.write(b"\n")
        ear.stdin.flush()
        heard = json.loads(ear.stdout.readline())
    medians, whole = steps(sent, heard)
    for step, seconds in medians.items():
        print(f"{step:<30} {seconds * 1e6:6.0f}")
    middle, late, longest = (whole[name] * 1e6 for name in ("p50", "p99", "max"))
    together = sum(medians.values()) * 1e6
    print(f"{'in all':<30} {middle:6.0f} us, the medians' sum {together:.0f}", end="")
    print(f", p99 {late:.0f}, longest {longest:.0f}")


def main() -> None:
    """Play what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lone", description="Time a lone message.")
    parser.add_argument("--messages", type=int, default=MESSAGES, help=f"that count (default {MESSAGES})")
    parser.add_argument("--ear", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ear:
        StandardIO(Ear())
        reactor.run()
        return

    react(lambda reactor: Deferred.fromCoroutine(play(options.messages)))


if __name__ == "__main__":
    main()
