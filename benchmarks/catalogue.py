"""The systems that are compared: what each needs, how its nodes are linked, and what is on in it.

Contract: values.  Versions are pinned, so that a new release is a change here and never a surprise; a
system without packages runs in the environment that measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Wiring(Enum):
    """Whom each node of a system is told to connect to."""

    FIRST = "the first node; the rest they do themselves"
    EARLIER = "every node before it; a link carries both ways"
    OTHERS = "every other node; a link carries one way"
    SERVER = "the server"


@dataclass(frozen=True)
class System:
    """One that is compared.

    :ivar program: of a node, a module of ``benchmarks.systems``.
    :ivar what: is on and what is not: one sentence for the page.
    :ivar share: of a scenario's messages it is given, so that slow ones take about as long as fast ones.
    :ivar knows_all: whether a node's links are all others; else it is linked when it has one.
    :ivar lines: whether its nodes relay, and can be linked in a line and stay so.
    :ivar only: the one scenario that it plays; "" for all that suit it.
    """

    name: str
    program: str
    wiring: Wiring
    what: str
    arguments: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    share: float = 1.0
    knows_all: bool = True
    lines: bool = False
    only: str = ""


_ZMQ: Final = ("pyzmq==27.3.0",)

SYSTEMS: Final = {
    system.name: system
    for system in (
        System(
            "raw",
            "raw",
            Wiring.EARLIER,
            "Twisted only, without TLS: framed as the mesh is, the messages of a turn joined into one "
            "write, back-pressure by producer and consumer; each node has a link with each other",
        ),
        System(
            "mesh",
            "mesh",
            Wiring.FIRST,
            "a MeshService as it is by default: TLS 1.3, signatures, the history in memory, the overlay, a "
            "listener called with each message; no receipts",
            lines=True,
        ),
        System(
            "mesh-messages",
            "mesh",
            Wiring.FIRST,
            "the same, but the messages are taken by ``async for message in service.messages()``",
            arguments=("",),
            only="consumers",
        ),
        System(
            "mesh-named",
            "mesh",
            Wiring.FIRST,
            "the same with ``service.messages(name=...)``: a consumer that keeps its place",
            arguments=("benchmark",),
            only="consumers",
        ),
        System(
            "nats",
            "nats",
            Wiring.SERVER,
            "nats-py, the asyncio client, publish and subscribe without TLS or JetStream; one nats-server, "
            "whose CPU is counted; a slow client is disconnected, and loses messages",
            packages=("nats-py==2.16.0",),
            knows_all=False,
        ),
        System(
            "zmq",
            "zmq",
            Wiring.OTHERS,
            "pyzmq, PUB and SUB over TCP, the default high-water mark (1,000 messages): slow readers lose",
            arguments=("1000",),
            packages=_ZMQ,
        ),
        System(
            "zmq-unlimited",
            "zmq",
            Wiring.OTHERS,
            "the same without a high-water mark: nothing is dropped, unread messages are kept in memory",
            arguments=("0",),
            packages=_ZMQ,
        ),
        System(
            "py2p",
            "py2p",
            Wiring.FIRST,
            "py2p's MeshSocket as it is by default, without TLS; given a hundredth of the messages, since "
            "it takes longer for a message if it had more messages in the last minute",
            packages=("py2p==0.7.878", "base58==2.1.1", "pyee==13.0.1", "u-msgpack-python==2.8.0"),
            share=0.01,
            knows_all=False,
        ),
    )
}
