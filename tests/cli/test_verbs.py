"""The verbs of ``mesh`` that ask other members, on two nodes of this process."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.processes import eventually
from twisted_mesh.admin.control import Control
from twisted_mesh.admin.http import Paths
from twisted_mesh.cli.main import main
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService

reactor: Any = _reactor


class AskingVerbsTests(TestCase):
    async def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())  # its path is short, as that of a socket has to be
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / "x.sock"
        self.a = MeshService(reactor, listen=("tcp:0:interface=127.0.0.1",))
        self.b = MeshService(reactor, listen=(), label="db")
        self.b.on("message", self.answer)
        self.paths = Paths(reactor, self.a)
        for service in (self.a, self.b, Control(reactor, self.a, self.path, paths=self.paths)):
            service.startService()
            self.addCleanup(service.stopService)
        await self.b.connect(*self.a.addresses[0])
        await self.a.joined()

    def answer(self, message: Message) -> None:
        """Answer all but one question."""
        if message.packets[1] != "silence":
            message.reply(*message.packets[1:], b"\x00")

    async def run_it(self, *arguments: str) -> tuple[int, str]:
        """Exit status and output of ``mesh`` with *arguments*."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            status = await deferToThread(main, [*arguments, f"--node={self.path}"])
        return status, out.getvalue()

    async def test_request(self) -> None:
        status, told = await self.run_it("request", "db", "how", "are you")
        self.assertEqual(status, 0)
        self.assertRegex(told, r"^db \(\w{8}\): how are you \{'\$b': 'AA=='\}\n$")
        status, told = await self.run_it("request", "db", "?", "--json")
        self.assertEqual((status, json.loads(told)["packets"]), (0, ["?", {"$b": "AA=="}]))
        status, told = await self.run_it("request", "db", "silence", "--wait=0.1")
        self.assertEqual(status, 1)
        self.assertRegex(told, r"^mesh: db \(\w{8}\): it has the message, and did not answer in 0.1 s\n$")

    async def test_query(self) -> None:
        status, told = await self.run_it("query", "who?")
        self.assertEqual(status, 0)
        self.assertRegex(told, r"^db \(\w{8}\): who\? \{'\$b': 'AA=='\}\n$")
        status, told = await self.run_it("query", "silence", "--wait=0.1")
        self.assertEqual(status, 1)
        self.assertRegex(told, r"^db \(\w{8}\) has not answered\n$")
        status, told = await self.run_it("query", "silence", "--wait=0.1", "--json")
        self.assertEqual((status, json.loads(told)["answers"]), (1, []))

    async def test_trace(self) -> None:
        status, told = await self.run_it("send", "fire", "--trace")
        self.assertEqual(status, 0)
        first, second = told.splitlines()
        self.assertRegex(first, r"^\w{8}: message 1$")
        self.assertRegex(second, r"^└─ db \(\w{8}\): pushed, 1 hop, taken after \d+ ms$")
        name = self.a.id.decode()
        for message in (name, f"{name}/1", f"{name}/{self.a.status().node.epoch}/1"):
            self.assertEqual((await self.run_it("trace", message))[1].splitlines()[0], first)
        status, told = await self.run_it("trace", f"{name}/9", "--json")
        self.assertEqual((status, json.loads(told)["steps"][1]["state"]), (1, "missing"))
        status, told = await self.run_it("send", "fire", "--trace", "--to=db")
        self.assertEqual(status, 2)
        self.assertIn("--trace is for messages to everybody", told)

    async def test_status_shows_the_consumers_with_names(self) -> None:
        self.assertRegex((await self.run_it("status"))[1], r"(?m)^consumers +none with a name *$")
        audit = self.a.messages(name="audit")
        self.a.messages(name="billing").close()
        status, told = await self.run_it("status")
        self.assertEqual(status, 0)
        self.assertRegex(told, r"audit \(0 not taken\), billing \(0 not taken\), which nobody has open")
        self.assertRegex(told, r"(?m)^! nobody has the consumer 'billing' open")
        audit.close()

    async def test_page(self) -> None:
        status, told = await self.run_it("page")
        self.assertEqual(status, 1)
        self.assertIn("this node has no page: start it with --http", told)
        self.paths.addresses = ["http://127.0.0.1:8420/#secret"]
        self.assertEqual(await self.run_it("page"), (0, "http://127.0.0.1:8420/#secret\n"))
        status, told = await self.run_it("page", "--json")
        page = {"addresses": self.paths.addresses, "demo": False}
        self.assertEqual((status, json.loads(told)), (0, page))

    async def test_ping(self) -> None:
        for words in ((), ("db",)):
            status, told = await self.run_it("ping", *words)
            self.assertEqual(status, 0)
            self.assertRegex(told, r"^MEMBER +STATE +RTT *\ndb \(\w{8}\) +up +\d+\.\d ms\n$")
        status, told = await self.run_it("ping", "--json")
        self.assertEqual((status, json.loads(told)[0]["error"]), (0, None))
        await self.b.stopService()
        self.assertEqual(await self.run_it("ping"), (0, "no other member\n"))
        self.assertEqual(await self.run_it("query", "?"), (0, "no other member is up\n"))

    async def test_forget(self) -> None:
        status, told = await self.run_it("forget", "db")
        error = "it is up: only members that are down or have left are forgotten"
        self.assertEqual((status, told), (1, f"mesh: {error}\n"))
        await self.b.stopService()
        self.a.messages(name="billing").close()
        forgotten = (0, "the consumer billing is forgotten\n")
        self.assertEqual(await self.run_it("forget", "--consumer=billing"), forgotten)
        self.assertEqual(self.a.consumers, {})
        status, told = await self.run_it("forget", "db")
        self.assertEqual(status, 0)
        self.assertRegex(told, r"^db \(\w{8}\) is forgotten\n$")
        self.assertEqual(await self.run_it("members"), (0, "no other member\n"))

    async def test_completion_offers_members_and_no_label_that_a_shell_would_run(self) -> None:
        async def offered(*words: str) -> list[str]:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                await deferToThread(main, ["complete", f"--node={self.path}", *words])
            return out.getvalue().split()

        evil = MeshService(reactor, listen=(), label="x;reboot")
        evil.startService()
        self.addCleanup(evil.stopService)
        await evil.connect(*self.a.addresses[0])
        await eventually(lambda: evil.id in self.a.members)
        names = sorted(["db", evil.id.decode()[:8]])
        self.assertEqual(await offered("request", ""), names)
        self.assertEqual(await offered("send", "--to", "d"), ["db"])
