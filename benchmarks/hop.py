"""One hop beside raw Twisted: ``python -m benchmarks.hop``, with ``--quick`` a tenth of it.

Two processes over loopback TCP: one sends messages of one size as fast as they are taken, the other counts
them.  *raw* is Twisted alone, without TLS: the same framing, what is sent in a turn joined into one write,
and a producer that waits for the transport.  *mesh* is a MeshService at each end as it is by default: TLS,
signatures, history in memory, and a listener that is called with each message.  Both in turn, the median
of five rounds; noise is from the slowest round to the fastest.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from zope.interface import implementer

from twisted_mesh import MeshService
from twisted_mesh.errors import Congested
from twisted_mesh.wire.framing import MAX_FRAME_BYTES, FrameReader

HOST = "127.0.0.1"
ROUNDS = 5
#: Bytes of a message, and how many of them are sent.
SIZES = {64: 400_000, 1024: 150_000, 65_536: 6_000}
_AT_ONCE = 64 * 1024  # bytes raw Twisted joins into one write


class Count:
    """Counts what comes, and tells when all is there.

    :ivar done: fires with seconds from the first to the last.
    """

    def __init__(self, most: int) -> None:
        self.left = most
        self.done: Deferred[float] = Deferred()
        self._began = 0.0

    def more(self, count: int) -> None:
        """So many have come."""
        if not self._began:
            self._began = time.perf_counter()
        self.left -= count
        if self.left == 0:
            self.done.callback(time.perf_counter() - self._began)


class RawEar(Protocol):
    """Takes frames."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._reader = FrameReader(MAX_FRAME_BYTES)

    def dataReceived(self, data: bytes) -> None:
        """Count the frames."""
        self._count.more(sum(1 for _ in self._reader.feed(data)))


@implementer(IPushProducer)
class RawMouth(Protocol):
    """Sends frames as fast as the transport takes them."""

    def __init__(self, size: int, count: int, later: Callable[..., Any]) -> None:
        self._frame = (size).to_bytes(4, "big") + bytes(size)
        self._left = count
        self._later = later
        self._paused = False

    def connectionMade(self) -> None:
        """Begin."""
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]
        self._turn()

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It takes more."""
        self._paused = False
        self._turn()

    def stopProducing(self) -> None:
        """It is gone."""
        self._left = 0

    def _turn(self) -> None:
        if self._paused or not self._left:
            return
        some = min(self._left, max(1, _AT_ONCE // len(self._frame)))
        self._left -= some
        self.transport.write(self._frame * some)  # type: ignore[union-attr]
        self._later(0, self._turn)


async def raw_ear(reactor: Any, size: int, most: int) -> float:
    """Listen, say where, and count."""
    count = Count(most)
    factory = Factory.forProtocol(lambda: RawEar(count))
    port = reactor.listenTCP(0, factory, interface=HOST)
    say(port.getHost().port)
    return await count.done


async def raw_mouth(reactor: Any, size: int, most: int, port: int) -> None:
    """Begin to send."""
    await connectProtocol(TCP4ClientEndpoint(reactor, HOST, port), RawMouth(size, most, reactor.callLater))


async def mesh_ear(reactor: Any, size: int, most: int) -> float:
    """Likewise."""
    count = Count(most)
    node = MeshService(reactor, listen=(f"tcp:0:interface={HOST}",), overlay=False)
    node.on("message", lambda message: count.more(1))
    node.startService()
    await node.ready()
    say(node.addresses[0][1])
    return await count.done


async def mesh_mouth(reactor: Any, size: int, most: int, port: int) -> None:
    """Likewise."""
    node = MeshService(reactor, listen=(), overlay=False)
    node.startService()
    await node.connect(HOST, port)
    body = bytes(size)
    for _ in range(most):
        try:
            node.send(body)
        except Congested:
            await node.drained()
            node.send(body)


ENDS = {"raw": (raw_ear, raw_mouth), "mesh": (mesh_ear, mesh_mouth)}


def say(what: object) -> None:
    """A word to the process that measures."""
    print(json.dumps(what), flush=True)


def cpu() -> float:
    """Seconds of the processor this process has had."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def ear(kind: str, size: int, most: int) -> None:
    """The process that counts: seconds, and those of its processor."""

    async def listen(reactor: Any) -> None:
        began = cpu()
        seconds = await ENDS[kind][0](reactor, size, most)
        say([seconds, cpu() - began])

    react(lambda reactor: ensureDeferred(listen(reactor)))


class Told(Protocol):
    """Standard input: its end means that all was heard."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionLost(self, reason: object = None) -> None:
        """That is it."""
        self.ended.callback(None)


def mouth(kind: str, size: int, most: int, port: int) -> None:
    """The process that sends, until it is told that all was heard; then seconds of its processor."""

    async def speak(reactor: Any) -> None:
        began, told = cpu(), Told()
        StandardIO(told)
        await ENDS[kind][1](reactor, size, most, port)
        await told.ended
        say(cpu() - began)

    react(lambda reactor: ensureDeferred(speak(reactor)))


def once(kind: str, size: int, most: int) -> tuple[float, float]:
    """Messages a second, and microseconds of both processors for each."""

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.hop", *map(str, arguments)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    listening = start("ear", kind, size, most)
    assert listening.stdout is not None
    sending = start("mouth", kind, size, most, json.loads(listening.stdout.readline()))
    seconds, heard = json.loads(listening.stdout.readline())
    spoken, _ = sending.communicate()
    listening.communicate()
    return most / seconds, (heard + json.loads(spoken)) / most * 1e6


def main() -> None:
    """Measure, or be one of the two."""
    if len(sys.argv) > 3:
        which, kind, *numbers = sys.argv[1:]
        {"ear": ear, "mouth": mouth}[which](kind, *map(int, numbers))  # type: ignore[operator]
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hop")
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages")
    quick = parser.parse_args().quick
    print("   bytes   raw messages/s           mesh messages/s          ratio   us of CPU: raw  mesh")
    for size, most in SIZES.items():
        count = most // 10 if quick else most
        rounds = [{kind: once(kind, size, count) for kind in ENDS} for _ in range(ROUNDS)]
        rates = {kind: sorted(one[kind][0] for one in rounds) for kind in ENDS}
        costs = {kind: median(one[kind][1] for one in rounds) for kind in ENDS}
        ratio = median(one["mesh"][0] / one["raw"][0] for one in rounds)
        cells = [f"{median(some):9,.0f} ({some[0]:,.0f}-{some[-1]:,.0f})" for some in rates.values()]
        cost = f"{costs['raw']:14.2f} {costs['mesh']:6.2f}"
        print(f"{size:8,d}  {cells[0]:<24} {cells[1]:<24} {ratio:6.2f}  {cost}")


if __name__ == "__main__":
    main()
