"""``mesh demo``: five nodes with real links that can be cut, ended and started."""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import sys
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from twisted.internet import reactor as _reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogBeginner
from twisted.trial.unittest import TestCase

from tests.support.processes import eventually
from twisted_mesh import demo
from twisted_mesh.admin.site import Refused
from twisted_mesh.cli import main as command
from twisted_mesh.demo import LABELS, Action, Demo

reactor: Any = _reactor


def asked(host: str, token: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and body of the answer to a GET, or to a POST of *body*."""
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        connection.request(method, path, data, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class DemoTests(TestCase):
    async def setUp(self) -> None:
        self.demo = Demo(reactor, 0, control=False)
        self.demo.startService()
        self.addCleanup(self.demo.stopService)
        self.nodes = self.demo.nodes
        await eventually(lambda: all(len(node.members) == 4 for node in self.nodes))

    def act(self, action: str, node: str = "", text: str = "") -> None:
        """Do what the page asks for."""
        self.demo.act(Action(action, node, text))

    def running(self) -> list[str]:
        """The labels of the nodes that run."""
        return [node["label"] for node in self.demo.look()["nodes"] if node["running"]]

    async def test_a_message_waits_at_the_cut_and_goes_on_when_it_is_healed(self) -> None:
        heard: list[Any] = []
        self.nodes[0].on("message", lambda message: heard.append(message.packets[1]))
        self.act("cut")
        self.assertTrue(self.demo.look()["cut"])
        await eventually(lambda: len(self.nodes[0].routing_table) == 1)
        receipt = self.nodes[0].send("fire", receipt=True)
        await eventually(lambda: len(receipt.delivered) == 1)
        self.assertEqual(len(receipt.pending), 3)
        self.act("send", "siren", "beyond")
        self.act("heal")
        await receipt.complete(timeout=30)
        await eventually(lambda: heard == ["beyond"])
        self.assertEqual(self.running(), list(LABELS))

    async def test_nodes_end_and_start_again(self) -> None:
        self.act("kill", "siren")
        self.act("stop", "desk")
        self.assertEqual(self.running(), ["web1", "web2", "database"])
        await eventually(lambda: self.nodes[0].members[self.nodes[4].id].state == "left")
        self.assertNotEqual(self.nodes[2].members[self.nodes[3].id].state, "left")  # nobody heard a goodbye
        await maybeDeferred(self.nodes[3].stopService)
        self.act("start", "siren")
        self.act("start", "web2")  # which runs
        await eventually(lambda: bool(self.nodes[3].routing_table))

    async def test_the_page_steers_it(self) -> None:
        url = urlsplit(self.demo.paths.addresses[0])
        ask = partial(deferToThread, asked, url.netloc, url.fragment)
        self.assertTrue((await ask("/page"))[1]["demo"])
        self.assertEqual([node["label"] for node in (await ask("/demo"))[1]["nodes"]], list(LABELS))
        status, told = await ask("/demo", {"action": "cut"})
        self.assertEqual((status, told["cut"]), (200, True))
        self.assertEqual((await ask("/demo", {"action": "kill", "node": "web1"}))[0], 409)
        for body in ({}, {"action": 1}, [], {"action": "cut", "more": 1}):
            self.assertEqual((await ask("/demo", body))[0], 400)

    async def test_what_cannot_be_done_is_refused_with_the_reason(self) -> None:
        self.act("stop", "desk")
        for action, node, told in (
            ("stop", "web1", "shows this page"),
            ("kill", "web1", "shows this page"),
            ("send", "desk", "desk does not run"),
            ("start", "nobody", "the nodes are web1, web2, database, siren, desk"),
            ("jump", "", "the actions are"),
        ):
            self.assertIn(told, str(self.assertRaises(Refused, self.act, action, node)))


class CommandTests(TestCase):
    async def test_a_port_that_is_taken_is_told(self) -> None:
        told = io.StringIO()
        self.patch(sys, "stderr", told)
        self.patch(globalLogBeginner, "beginLoggingTo", lambda *arguments, **options: None)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.assertEqual(demo.main(["--port", str(port)]), 1)
        self.assertEqual(told.getvalue(), f"mesh: port {port} is taken; give another --port\n")

    def test_what_is_no_port_is_told(self) -> None:
        told = io.StringIO()
        self.patch(sys, "stderr", told)
        for port in ("99999", "-1", "x"):
            self.assertEqual(self.assertRaises(SystemExit, demo.main, [f"--port={port}"]).code, 2)
            self.assertIn(f"a port from 0 to 65535, not '{port}'", told.getvalue())

    def test_the_command_becomes_the_demo(self) -> None:
        ran: list[Any] = []

        def run(*words: Any) -> None:
            ran.append(words)
            raise KeyboardInterrupt  # as this process would be another one now

        self.patch(os, "execv", run)
        self.assertRaises(KeyboardInterrupt, command.main, ["demo", "--port=0"])
        self.assertEqual(ran[0][1][1:], ["-m", "twisted_mesh.demo", "--port=0"])
