"""A client of a node's HTTP paths, over a transport in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure

from tests.support.meshcase import MeshCase
from twisted_mesh.admin.http import Paths
from twisted_mesh.admin.recent import Recent
from twisted_mesh.admin.site import Clients, Judge
from twisted_mesh.service import MeshService


class Client:
    """A connection to the paths of a node; None as *protocol* means that it was closed at once."""

    def __init__(self, protocol: Any, transport: Any = None) -> None:
        self.transport = StringTransportWithDisconnection() if transport is None else transport
        self.protocol = protocol
        self.transport.protocol = protocol
        protocol.makeConnection(self.transport)

    def ask(self, method: str, path: str, body: bytes | str = b"", **headers: str) -> None:
        """Send a request; an underscore in the name of a header stands for a hyphen."""
        data = body.encode() if isinstance(body, str) else body
        headers = {"Host": "node", "Content-Length": f"{len(data)}"} | headers
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.protocol.dataReceived("\r\n".join([*lines, "", ""]).encode() + data)

    @property
    def received(self) -> str:
        """All that came."""
        return self.transport.value().decode()

    def answer(self) -> tuple[int, Any]:
        """The status and the body, read as JSON, of the one answer that came."""
        head, _, body = self.received.partition("\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    def events(self) -> list[tuple[str, str, Any]]:
        """Id, name and data of each event that came; a whisper has no id."""
        found = []
        for block in self.received.split("\n\n"):
            fields = dict(line.partition(": ")[::2] for line in block.splitlines() if ": " in line)
            if "event" in fields:
                found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
        return found

    def lose(self) -> None:
        """End the connection, if the node has not."""
        if self.transport.connected:
            self.transport.connected = False
            self.protocol.connectionLost(Failure(connectionDone.value))


class HttpCase(MeshCase):
    """Nodes whose HTTP paths are asked."""

    def serve(self, node: MeshService, judge: Judge | None = None) -> None:
        """Let *node* answer from now on, the requests that *judge* does not refuse."""
        clock = self.network.clock
        self.recent = Recent(clock, node, node.config, "run")
        self.addCleanup(self.recent.stop)
        self.paths = Paths(clock, node, self.recent)
        self.addCleanup(self.paths.stop)
        self.factory = Clients(self.paths.root(), clock, node.config, judge)
        self.factory.startFactory()
        self.addCleanup(self.factory.stopFactory)

    def client(self) -> Client:
        """A new connection, which ends with the test."""
        client = Client(self.factory.buildProtocol(None))
        self.addCleanup(client.lose)
        return client

    def ask(self, method: str, path: str, body: bytes | str = b"") -> tuple[int, Any]:
        """The answer to one request over a connection of its own."""
        client = self.client()
        client.ask(method, path, body)
        answer = client.answer()
        client.lose()
        return answer
