"""The paths of the control socket over TCP: opened, refused and closed."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.error import CannotListenError
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.admin.test_guard import AUTHORIZED, TEXT
from tests.support.descriptors import open_in_fork
from tests.support.processes import eventually
from twisted_mesh.admin.guard import Token
from twisted_mesh.admin.http import Paths
from twisted_mesh.admin.web import Web
from twisted_mesh.eventloop import forks
from twisted_mesh.service import MeshService

reactor: Any = _reactor
LOOPBACK = "tcp:0:interface=127.0.0.1"


def get(address: tuple[str, int], path: str, **headers: str) -> tuple[int, Any]:
    """The status of the answer to a GET, and its body as JSON."""
    connection = http.client.HTTPConnection(*address, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class WebTests(TestCase):
    def setUp(self) -> None:
        self.logged: list[Any] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.node = MeshService(reactor, listen=())
        self.node.startService()
        self.addCleanup(self.node.stopService)
        self.paths = Paths(reactor, self.node)
        self.addCleanup(self.paths.stop)

    def web(self, listen: str = LOOPBACK) -> Web:
        """One that is started, and stopped with the test."""
        web = Web(reactor, self.paths, listen, Token(Path("/token"), TEXT))
        web.startService()
        self.addCleanup(lambda: web.stopService() if web.running else None)
        return web

    def warnings(self) -> list[str]:
        """The warnings so far."""
        warned = (event for event in self.logged if event.get("log_level") is LogLevel.warn)
        return [event["log_format"] for event in warned]

    async def test_it_answers_those_with_the_token_and_is_gone_once_it_is_stopped(self) -> None:
        web = self.web()
        (address,) = web.addresses
        self.assertEqual((await deferToThread(get, address, "/status"))[0], 401)
        status, told = await deferToThread(get, address, "/status", Authorization=AUTHORIZED)
        self.assertEqual((status, told["node"]["id"]), (200, self.node.id.decode()))
        self.assertEqual(self.paths.addresses, [f"http://127.0.0.1:{address[1]}/#{TEXT}"])
        await web.stopService()
        self.assertEqual((web.addresses, self.paths.addresses), ((), []))
        with self.assertRaises(ConnectionRefusedError):
            await deferToThread(get, address, "/status")
        web.privilegedStartService()
        web.startService()
        self.assertEqual(len(web.addresses), 1)
        self.assertEqual(self.warnings(), [])
        texts = [event["log_format"].format(**event) for event in self.logged if "log_format" in event]
        there = f"http://127.0.0.1:{address[1]} has the page; mesh page prints its address, with the token"
        self.assertIn(there, texts)
        self.assertNotIn(TEXT, "".join(texts))

    async def test_one_that_others_can_reach_is_warned_of(self) -> None:
        (_, port), *_ = self.web("tcp:0").addresses
        self.assertEqual(self.paths.addresses, [f"http://127.0.0.1:{port}/#{TEXT}"])
        self.assertIn("HTTP is not encrypted", self.warnings()[0])

    async def test_a_port_that_is_taken_is_an_error(self) -> None:
        (address,) = self.web().addresses
        self.assertRaises(CannotListenError, self.web, f"tcp:{address[1]}:interface=127.0.0.1")

    async def test_a_client_that_has_closed_its_half_costs_nothing_more(self) -> None:
        web = self.web()
        with socket.create_connection(web.addresses[0]) as client:
            head = f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: {AUTHORIZED}\r\n\r\n"
            client.sendall(head.encode())
            self.assertIn(b"200 OK", await deferToThread(client.recv, 4096))
            client.shutdown(socket.SHUT_WR)
            await eventually(lambda: not web._clients.channels)
        self.assertEqual(self.paths.status().footprint["control_readers"], 0)

    async def test_a_forked_worker_keeps_nothing_of_it(self) -> None:
        web = self.web()
        with socket.create_connection(web.addresses[0]):
            await eventually(lambda: bool(web._clients.channels))
            (connected,) = web._clients.channels
            transport: Any = connected.transport
            listening: Any = web._listening
            descriptors = [listening._ports[0].fileno(), transport.fileno()]
            self.assertIn(web._close_in_fork, [reference() for reference in forks._open])
            self.assertEqual(open_in_fork(descriptors), 0)
        status, _ = await deferToThread(get, web.addresses[0], "/healthz", Authorization=AUTHORIZED)
        self.assertEqual(status, 200)
