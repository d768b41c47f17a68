"""What idle members cost a node: ``python -m benchmarks.idle [--members N] [--seconds S]``.

Three processes in a row: a crowd, the node that is its neighbour, and another node behind that.  The crowd
sends the records of N members, each every half a minute, as so many idle nodes would; so the node takes in
each record, and hands it on.  Prints what the members add to the node: memory, and processor time a second.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall

from benchmarks.cast import ROOT, Cast, Player
from benchmarks.catalogue import SYSTEMS
from benchmarks.siege.attackers import Author, Input, give_up
from benchmarks.siege.node import reactor
from benchmarks.systems.program import HOST
from twisted_mesh import Identity, MeshConfig, MeshService
from twisted_mesh.wire import codec

_MIB = 2**20


def records_a_second(members: int) -> float:
    """How many records so many idle members send together."""
    config = MeshConfig()
    return min(members / config.presence_interval, config.presence_rate)


async def crowd(port: int, members: int) -> None:
    """Link with the node at *port*, and send the records of *members*."""
    service = MeshService(reactor, identity=Identity.generate(), listen=(), overlay=False)
    service.startService()
    await service.ready()
    link = await service.connect(HOST, port)
    digest = codec.network_digest(service.protocol.id_with(""))
    authors = cycle([Author(digest) for _ in range(members)])
    LoopingCall(lambda: link.write(codec.encode(next(authors).presence()))).start(
        1 / records_a_second(members)
    )


def load(player: Player, seconds: float) -> tuple[float, float]:
    """The processor time of a node in each of the next *seconds*, and its memory behind them, in bytes."""
    before = player.usage()["cpu"]
    time.sleep(seconds)
    after = player.usage()
    return (after["cpu"] - before) / seconds, after["rss"]


def measure(members: int, seconds: float) -> None:
    """Measure, and print."""
    mesh = SYSTEMS["mesh"]
    with Cast(mesh, Path(sys.executable), None, 2, False) as nodes:
        nodes.link_all()
        node = nodes.players[0]
        idle, least = load(node, seconds)
        options = ["--members", str(members), "--crowd", str(nodes.port)]
        command = [sys.executable, "-m", "benchmarks.idle", *options]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as child:
            nodes.wait("members", lambda: node.ask("links") >= members + 2, 120)
            busy, most = load(node, seconds)
            assert child.stdin is not None
            child.stdin.close()
    print(
        f"{members} members, {records_a_second(members):.1f} records a second: "
        f"{(most - least) / _MIB:.1f} MiB, {(busy - idle) * 1000:.1f} ms of processor a second "
        f"({(busy - idle) / records_a_second(members) * 1e6:.0f} us a record); "
        f"without them {idle * 1000:.1f} ms a second"
    )


def main() -> None:
    """Measure, or be the crowd."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.idle", description="What idle members cost."
    )
    parser.add_argument("--members", type=int, default=1000, help="(default 1000)")
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement (default 30)")
    parser.add_argument("--crowd", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.crowd is None:
        measure(options.members, options.seconds)
        return
    StandardIO(Input())
    Deferred.fromCoroutine(crowd(options.crowd, options.members)).addErrback(give_up)
    reactor.run()


if __name__ == "__main__":
    main()
