"""``mesh demo``: five nodes on this machine, with real links, and the page of the first.

Contract: each node dials the next of a ring over TCP and TLS, as nodes of five machines would.  Nothing is
written to disk but the control socket, and nothing listens but on loopback.
"""

from __future__ import annotations

import argparse
import secrets
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.web import http
from twisted.web.resource import Resource
from zope.interface import implementer

from twisted_mesh.admin.bodies import Reader
from twisted_mesh.admin.control import Control
from twisted_mesh.admin.guard import Token
from twisted_mesh.admin.http import Answer, Paths
from twisted_mesh.admin.site import Refused
from twisted_mesh.admin.web import Web
from twisted_mesh.config import MeshConfig
from twisted_mesh.eventloop.clock import make_monotonic
from twisted_mesh.service import MeshService

LABELS: Final = ("web1", "web2", "database", "siren", "desk")
PORT: Final = 8420
_LOOPBACK: Final = "127.0.0.1"
_HIGHEST_PORT: Final = 65_535
_SUBNET: Final = "demo"
_FIRST_BEHIND_CUT: Final = 2  # the number of a node: those before it are on one side of the cut
_ALONE: Final = 2  # behind the numbers of the two sides, those of nodes that are alone
#: Faster than in a real mesh, so that people who try it out need not wait.
CONFIG: Final = MeshConfig(
    ping_after=1.0, dead_after=3.0, suspect_patience=3.0, presence_interval=5.0, redial_longest=2.0
)


class Action(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /demo``.

    :ivar action: ``send``, ``stop``, ``kill``, ``start``, ``cut`` or ``heal``.
    :ivar node: the label of the node that is meant, for the first four.
    :ivar text: of the message to send.
    """

    action: str
    node: str = ""
    text: str = ""


_ACTION: Final = Reader(Action, '{"action": "kill", "node": "siren"}')


@implementer(IStreamClientEndpoint)
class Wire:
    """Dials another node of the demo, unless the mesh is cut between the two."""

    def __init__(self, wires: Wires, ends: tuple[int, int | None], endpoint: IStreamClientEndpoint) -> None:
        self._wires = wires
        self._ends = ends
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, or fail at once."""
        if self._wires.is_cut(*self._ends):
            return fail(ConnectError(string="the demo has cut the mesh here"))
        return self._endpoint.connect(protocolFactory).addCallback(self._connected)

    def _connected(self, protocol: IProtocol) -> IProtocol:
        self._wires.made(protocol, self._ends)
        return protocol


class Wires:
    """What the nodes are linked by: it can be cut.

    :ivar sides: of each node; nodes of different sides cannot reach each other.
    """

    def __init__(self, reactor: Any, ports: Sequence[int]) -> None:
        """:param ports: where the nodes listen, by their numbers."""
        self._reactor = reactor
        self._numbers = {port: number for number, port in enumerate(ports)}
        self._made: WeakKeyDictionary[Any, tuple[int, int | None]] = WeakKeyDictionary()
        self.sides = [0] * len(ports)

    def dial_from(self, number: int, host: str, port: int) -> Wire:
        """The endpoint by which the node *number* dials."""
        endpoint = TCP4ClientEndpoint(self._reactor, host, port)
        return Wire(self, (number, self._numbers.get(port)), endpoint)

    def is_cut(self, one: int, other: int | None) -> bool:
        """Whether one node cannot reach the other."""
        return other is None or self.sides[one] != self.sides[other]

    def made(self, protocol: IProtocol, ends: tuple[int, int | None]) -> None:
        """Note a connection between two nodes."""
        self._made[protocol] = ends

    def change(self, sides: Sequence[int]) -> None:
        """Put each node on a side, and end the connections between sides, as if a cable were cut."""
        self.sides = list(sides)
        for protocol, ends in list(self._made.items()):
            if self.is_cut(*ends) and protocol.transport is not None:
                protocol.transport.abortConnection()


class Demo(MultiService):
    """Five nodes, and the page of the first.

    :ivar nodes: the nodes, in the order of :data:`LABELS`.
    :ivar paths: what the page asks.
    """

    def __init__(self, reactor: Any, port: int = PORT, *, control: bool = True) -> None:
        """:param port: of the page; :param control: whether the first node has a control socket."""
        super().__init__()
        self._is_cut = False
        self._killed: set[int] = set()  # numbers of nodes
        ports = _free_ports(len(LABELS))
        self._wires = Wires(reactor, ports)
        self.nodes = [
            MeshService(
                reactor,
                listen=(f"tcp:{own}:interface={_LOOPBACK}",),
                peers=(f"{_LOOPBACK}:{ports[(number + 1) % len(ports)]}",),
                subnet=_SUBNET,
                overlay=False,
                label=LABELS[number],
                dial=partial(self._wires.dial_from, number),
                config=CONFIG,
            )
            for number, own in enumerate(ports)
        ]
        self.paths = DemoPaths(reactor, self)
        token = Token(Path(), secrets.token_urlsafe(32))
        # The page is first: if its port is taken, no node has started.
        Web(reactor, self.paths, f"tcp:{port}:interface={_LOOPBACK}", token).setServiceParent(self)
        for node in self.nodes:
            node.setServiceParent(self)
        if control:
            Control(reactor, self.nodes[0], paths=self.paths).setServiceParent(self)

    def look(self) -> dict[str, Any]:
        """The nodes as the page shows them."""
        nodes = [
            {"id": node.id.decode(), "label": label, "running": bool(node.running)}
            for node, label in zip(self.nodes, LABELS, strict=True)
        ]
        return {"nodes": nodes, "cut": self._is_cut}

    def act(self, action: Action) -> None:
        """Do what the page asks for.

        :raises Refused: that cannot be done.
        """
        match action.action:
            case "cut" | "heal":
                self._is_cut = action.action == "cut"
                self._lay_wires()
            case "send":
                self._running(action.node).send(action.text)
            case "stop" | "kill":
                self._end(action.node, with_goodbye=action.action == "stop")
            case "start":
                self._start(action.node)
            case _:
                raise Refused(http.BAD_REQUEST, "the actions are send, stop, kill, start, cut and heal")

    def _end(self, label: str, *, with_goodbye: bool) -> None:
        node = self._running(label)
        if node is self.nodes[0]:
            raise Refused(http.CONFLICT, f"{label} shows this page: end another node")
        if not with_goodbye:
            self._killed.add(LABELS.index(label))
            self._lay_wires()  # so that nobody hears its goodbye
        node.stopService()

    def _start(self, label: str) -> None:
        node = self._node(label)
        if not node.running:
            self._killed.discard(LABELS.index(label))
            self._lay_wires()
            node.startService()

    def _lay_wires(self) -> None:
        """Put each node on its side of the cut; one that was killed is alone."""
        sides = [int(self._is_cut and number >= _FIRST_BEHIND_CUT) for number in range(len(LABELS))]
        for number in self._killed:
            sides[number] = _ALONE + number
        self._wires.change(sides)

    def _node(self, label: str) -> MeshService:
        if label not in LABELS:
            raise Refused(http.NOT_FOUND, f"the nodes are {', '.join(LABELS)}")
        return self.nodes[LABELS.index(label)]

    def _running(self, label: str) -> MeshService:
        node = self._node(label)
        if not node.running:
            raise Refused(http.CONFLICT, f"{label} does not run")
        return node


class DemoPaths(Paths):
    """The paths of the first node, and ``/demo``, by which the page steers the nodes."""

    is_demo = True

    def __init__(self, clock: IReactorTime, demo: Demo) -> None:
        super().__init__(clock, demo.nodes[0])
        self._demo = demo

    def root(self) -> Resource:
        """The tree of all paths."""
        root = super().root()
        root.putChild(b"demo", Answer({b"GET": lambda _: self._demo.look(), b"POST": self._act}))
        return root

    def _act(self, body: bytes) -> Any:
        self._demo.act(_ACTION.read(body))
        return self._demo.look()


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now."""
    sockets = [socket.create_server((_LOOPBACK, 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _HIGHEST_PORT):
        raise argparse.ArgumentTypeError(f"a port from 0 to {_HIGHEST_PORT}, not {text!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo until Ctrl-C; return the exit status."""
    parser = argparse.ArgumentParser(prog="mesh demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=_port, default=PORT, help=f"of the page ({PORT}); 0 for any")
    options = parser.parse_args(arguments)
    from twisted.internet import reactor as _reactor

    reactor: Any = _reactor
    make_monotonic(reactor)
    warnings = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    log = FilteringLogObserver(textFileLogObserver(sys.stderr), [warnings])
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    demo = Demo(reactor, options.port)
    try:
        demo.startService()
    except CannotListenError as error:
        print(f"mesh: port {error.port} is taken; give another --port", file=sys.stderr)
        return 1
    reactor.addSystemEventTrigger("before", "shutdown", demo.stopService)
    print(f"{len(LABELS)} nodes run here: {', '.join(LABELS)}. Their page, in a browser:")
    print(f"\n    {demo.paths.addresses[0]}\n")
    print("Meanwhile, in another terminal: mesh send --trace fire", flush=True)
    reactor.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
