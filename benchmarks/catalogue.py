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


class Cover(Enum):
    """What covers a message on its way: the more, the higher a system stands in the tables."""

    SIGNED = "TLS, signed"
    ENCRYPTED = "TLS"
    NOTHING = "-"


@dataclass(frozen=True)
class System:
    """One that is compared.

    :ivar program: of a node, a module of ``benchmarks.systems``.
    :ivar what: is on and what is not: one sentence for the page.
    :ivar cover: of its messages: each is encrypted, and signed by its author.
    :ivar share: of a scenario's messages it is given, so that slow ones take about as long as fast ones.
    :ivar knows_all: whether a node's links are all others; else it is linked when it has one.
    :ivar lines: whether its nodes relay, and can be linked in a line and stay so.
    :ivar asks: whether its nodes can ask one another, and get answers.
    :ivar only: the scenarios that it plays; () for all that suit it.
    """

    name: str
    program: str
    wiring: Wiring
    what: str
    cover: Cover = Cover.NOTHING
    arguments: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    share: float = 1.0
    knows_all: bool = True
    lines: bool = False
    asks: bool = False
    only: tuple[str, ...] = ()


_NATS: Final = ("nats-py==2.16.0",)
_ZMQ: Final = ("pyzmq==27.3.0",)

#: The systems by name, those first whose messages are best covered.
SYSTEMS: Final = {
    system.name: system
    for system in (
        System(
            "mesh",
            "mesh",
            Wiring.FIRST,
            "a MeshService as it is by default: TLS 1.3, signatures, the history in memory, the overlay, a "
            "listener called with each message; no receipts",
            Cover.SIGNED,
            lines=True,
            asks=True,
        ),
        System(
            "mesh-many",
            "mesh",
            Wiring.FIRST,
            "the same, but the messages of a turn are sent by one ``service.send_many()``",
            Cover.SIGNED,
            arguments=("many",),
            only=("hop-64", "eight-one"),
        ),
        System(
            "mesh-secret",
            "mesh",
            Wiring.FIRST,
            "the same as mesh, but only nodes with a secret belong to it",
            Cover.SIGNED,
            arguments=("secret",),
            only=("hop-64", "hop-64k", "latency"),
        ),
        System(
            "mesh-messages",
            "mesh",
            Wiring.FIRST,
            "the same as mesh, but the messages are taken by ``async for message in service.messages()``",
            Cover.SIGNED,
            arguments=("take", ""),
            only=("consumers",),
        ),
        System(
            "mesh-named",
            "mesh",
            Wiring.FIRST,
            "the same with ``service.messages(name=...)``: a consumer that keeps its place",
            Cover.SIGNED,
            arguments=("take", "benchmark"),
            only=("consumers",),
        ),
        System(
            "nats-tls",
            "nats",
            Wiring.SERVER,
            "nats-py, the asyncio client, publish and subscribe without JetStream, over TLS 1.3; one "
            "nats-server, whose CPU is counted; a slow client is disconnected, and loses messages",
            Cover.ENCRYPTED,
            arguments=("tls",),
            packages=_NATS,
            knows_all=False,
            asks=True,
        ),
        System(
            "nats",
            "nats",
            Wiring.SERVER,
            "the same without TLS",
            packages=_NATS,
            knows_all=False,
            asks=True,
        ),
        System(
            "raw",
            "raw",
            Wiring.EARLIER,
            "Twisted only, without TLS: framed as the mesh is, the messages of a turn joined into one "
            "write, back-pressure by producer and consumer; each node has a link with each other",
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
            "py2p's MeshSocket as it is by default, without TLS. It sends a hundredth of the messages: the "
            "more of them it handled in the last minute, the longer each takes",
            packages=("py2p==0.7.878", "base58==2.1.1", "pyee==13.0.1", "u-msgpack-python==2.8.0"),
            share=0.01,
            knows_all=False,
        ),
    )
}
