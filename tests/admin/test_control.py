"""The control socket: opened, replaced, refused and closed."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet import reactor as _reactor
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.support.descriptors import open_in_fork
from tests.support.processes import eventually
from twisted_mesh.admin.control import Control
from twisted_mesh.admin.http import Paths
from twisted_mesh.admin.recent import Recent
from twisted_mesh.admin.site import Clients
from twisted_mesh.admin.streams import BEAT
from twisted_mesh.cli import places
from twisted_mesh.errors import LocalError
from twisted_mesh.eventloop import forks
from twisted_mesh.service import MeshService

reactor: Any = _reactor


class Connection(http.client.HTTPConnection):
    """A connection to a UNIX socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("node", timeout=20)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(os.fspath(self._path))


def get(path: Path, what: str) -> Any:
    """The answer to a GET over the socket at *path*."""
    connection = Connection(path)
    try:
        connection.request("GET", what)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def post(body: Any) -> bytes:
    """A request that sends the message *body*."""
    data = json.dumps(body).encode()
    return b"POST /send HTTP/1.1\r\nHost: node\r\nContent-Length: %d\r\n\r\n" % len(data) + data


def _recv(client: socket.socket) -> bytes:
    """What comes next; nothing at the end of the connection."""
    try:
        return client.recv(4096)
    except ConnectionResetError:
        return b""


class KeywordTests(TestCase):
    """``MeshService(control=...)``."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    async def test_a_node_has_a_control_socket_while_it_runs(self) -> None:
        path = self.folder / "x.sock"
        node = MeshService(reactor, listen=(), control=path)
        for _ in range(2):  # it can be started again
            self.assertFalse(path.exists())
            node.startService()
            node.startService()
            try:
                status = await deferToThread(get, path, "/status")
                self.assertEqual(status["node"]["id"], node.id.decode())
            finally:
                await node.stopService()

    async def test_without_a_path_it_chooses_one_and_by_default_there_is_none(self) -> None:
        self.enterContext(patch.dict(os.environ, XDG_RUNTIME_DIR=os.fspath(self.folder)))
        self.patch(places, "SYSTEM", self.folder / "nowhere")
        node = MeshService(reactor, listen=())
        for is_wanted in (False, True):
            node.startService()
            self.assertEqual(bool([*self.folder.rglob("*.sock")]), is_wanted)
            await node.stopService()
            node = MeshService(reactor, listen=(), control=True)

    def test_other_values_are_refused(self) -> None:
        for wrong in (None, 1, "", b"x"):
            with self.assertRaisesRegex(LocalError, "control is True, False or the path of a socket"):
                MeshService(reactor, listen=(), control=wrong)  # type: ignore[arg-type]


class ControlTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())  # its path is short, as that of a socket has to be
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "x.sock"
        self.warnings: list[Any] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)
        self.node = MeshService(reactor, listen=())
        self.node.startService()
        self.addCleanup(self.node.stopService)

    def _observe(self, event: Any) -> None:
        if event.get("log_level") is LogLevel.warn:
            self.warnings.append(event["log_format"].format(**event))

    def control(self, path: str | Path | None, **environ: str) -> Control:
        """A control socket that is opened, and closed with the test."""
        control = Control(reactor, self.node, path, environ=environ)
        control.startService()
        self.addCleanup(lambda: control.stopService() if control.running else None)
        return control

    async def test_it_answers_and_is_gone_once_it_is_stopped(self) -> None:
        control = self.control(self.path)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        status = await deferToThread(get, self.path, "/status")
        self.assertEqual(status["node"]["id"], self.node.id.decode())
        await control.stopService()
        self.assertFalse(self.path.exists())
        self.assertEqual(self.warnings, [])

    async def test_a_file_that_has_taken_its_place_stays(self) -> None:
        control = self.control(self.path)
        self.path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(os.fspath(self.path))
            await control.stopService()
            self.assertTrue(self.path.is_socket())
        self.path.unlink()
        again = self.control(self.path)
        self.path.unlink()
        await again.stopService()
        self.assertEqual(control._connections(), [])

    async def test_its_clients_end_with_it(self) -> None:
        control = self.control(self.path)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(os.fspath(self.path))
            client.sendall(b"GET /events HTTP/1.1\r\nHost: node\r\n\r\n")
            self.assertIn(b"200 OK", await deferToThread(client.recv, 4096))
            await control.stopService()
            while await deferToThread(_recv, client):
                pass

    def client(self, request: bytes) -> socket.socket:
        """A client that has sent *request*, and sends no more."""
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(20)
        client.connect(os.fspath(self.path))
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return client

    async def test_a_client_that_closes_its_sending_half_gets_its_answer(self) -> None:
        self.control(self.path)
        ok = b"HTTP/1.1 200"
        for request, answer in (
            (b"GET /status HTTP/1.1\r\nHost: node\r\n\r\n", ok),
            (post({"packets": ["fire"], "wait_seconds": 0.01}), ok),
            (b"GET /events HTTP/1.1\r\nHost: node\r\n\r\n", ok),
            (b"nonsense\r\n\r\n", b"HTTP/1.1 400"),
            (b"GET /stat", b""),
        ):
            with self.client(request) as client:
                told = await deferToThread(_recv, client)
                self.assertEqual(told[: len(ok)], answer, request)

    async def test_one_that_is_gone_waits_no_more(self) -> None:
        clock = Clock()
        recent = Recent(clock, self.node, self.node.config, "run")
        clients = Clients(Paths(clock, self.node, recent).root(), clock, self.node.config)
        port = reactor.listenUNIX(os.fspath(self.path), clients)
        self.addCleanup(port.stopListening)

        def answers(channel: Any) -> bool:
            """Whether the client of *channel* has closed its sending half, and waits."""
            return channel._is_whole and channel._deadline.active()

        events = b"GET /events HTTP/1.1\r\nHost: node\r\n\r\n" + b"x" * 100_000
        for request in (post({"packets": ["fire"], "wait_seconds": 3600}), events):
            client = self.client(request)
            await eventually(lambda: any(map(answers, clients.channels)))
            client.close()
            clock.pump([BEAT])
            await eventually(lambda: not clients.channels)
        self.assertEqual(recent.footprint()["control_readers"], 0)

    async def test_it_is_named_by_the_process_where_no_path_is_given(self) -> None:
        (self.folder / "run").mkdir(mode=0o700)
        control = self.control(None, XDG_RUNTIME_DIR=str(self.folder / "run"))
        assert control.path is not None
        self.assertEqual(control.path.name, f"node-{os.getpid()}.sock")

    async def test_one_that_cannot_be_opened_is_a_warning_and_the_node_runs(self) -> None:
        self.folder.chmod(0o777)
        self.assertIsNone(self.control(self.path).path)
        (warning,) = self.warnings
        self.assertRegex(
            warning, r"^no control socket .*x\.sock: others can write it; the node runs without$"
        )

    async def test_a_second_node_does_not_take_the_socket_of_the_first(self) -> None:
        self.control(self.path)
        self.assertIsNone(self.control(self.path).path)
        self.assertIn("a node answers there", self.warnings[0])
        self.assertEqual(await deferToThread(get, self.path, "/healthz"), {"status": "ok"})

    async def test_a_forked_worker_keeps_nothing_of_it(self) -> None:
        control = self.control(self.path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(os.fspath(self.path))
            await deferToThread(get, self.path, "/healthz")  # the client is accepted by now
            (connected,) = control._connections()
            descriptors = [control._port.fileno(), connected.transport.fileno()]  # type: ignore[union-attr]
            self.assertEqual(open_in_fork(descriptors), 0)
        self.assertEqual(await deferToThread(get, self.path, "/healthz"), {"status": "ok"})
        self.assertIn(control._close_in_fork, [reference() for reference in forks._open])
