"""The control socket of ``twistd mesh``, as other programs meet it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.admin.test_control import get
from tests.support.processes import ANYWHERE, Child, ProcessCase, eventually

MESH = "twisted_mesh.cli.main"  #: the command


class ControlCase(ProcessCase):
    """Nodes with control sockets."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())  # its path is short, as that of a socket has to be
        self.addCleanup(shutil.rmtree, self.folder)

    def node(self, name: str, *arguments: str) -> tuple[Child, Path]:
        """A node with a control socket."""
        path = self.folder / f"{name}.sock"
        options = (f"--listen={ANYWHERE}", f"--control={path}", f"--label={name}")
        child = self.twistd("mesh", *options, *arguments)
        return child, path


class ControlTests(ControlCase):
    async def test_the_socket_of_a_node_that_was_killed_is_replaced(self) -> None:
        child, path = self.node("node")
        await eventually(path.exists)
        child.signal("KILL")
        await self.until_ended(child)
        self.assertTrue(path.exists())
        again, _ = self.node("node")
        await eventually(lambda: "the control socket is" in again.log + again.out.decode())
        self.assertEqual(await deferToThread(get, path, "/healthz"), {"status": "ok"})
        again.signal("TERM")
        await self.until_ended(again)
        self.assertFalse(path.exists())


class MeshCommandTests(ControlCase):
    """``mesh``, the command."""

    async def command(self, *arguments: str) -> tuple[int | None, str]:
        """Exit status and output of one verb."""
        child = self.run_module(MESH, *arguments)
        (status,) = await self.until_ended(child)
        return status, child.out.decode() + child.log

    async def test_each_verb_on_two_nodes_and_then_on_one(self) -> None:
        one, at_one = self.node("one")
        (port,) = await eventually(lambda: one.ports)
        at_two = self.folder / "two.sock"
        options = (f"--control={at_two}", "--label=two", f"--peer=127.0.0.1:{port}", "--tag=floor=3")
        two = self.start("-m", MESH, "run", f"--listen={ANYWHERE}", *options)
        await eventually(at_two.exists)
        await eventually(lambda: self.members_up(at_one) and self.members_up(at_two))
        node = f"--node={at_one}"
        watching = self.run_module(MESH, "members", node, "--watch", "--json")
        status, told = await self.command("members", node)
        self.assertEqual(status, 0)
        self.assertRegex(
            told, r"MEMBER +STATE +SINCE +ADDRESS +TAGS *\ntwo \(\w{8}\) +up +\d+ s +127\S+ +floor=3"
        )
        for verb, pattern in (
            ("status", r"node +one$"),
            ("links", r"two \(\w{8}\) +127\.0\.0\.1:\d+ +in "),
            ("authors", "no messages are held"),
            ("health", "^ready$"),
        ):
            status, told = await self.command(verb, node)
            self.assertEqual(status, 0, told)
            self.assertRegex(told, re.compile(pattern, re.M))
        await eventually(lambda: len(watching.lines) > 1)
        watching.signal("INT")
        self.assertEqual(await self.until_ended(watching), [0])
        self.assertEqual([json.loads(line)[0]["label"] for line in watching.lines][:2], ["two", "two"])
        self.assertEqual(await self.command("listen", node, "--for=0.01"), (0, ""))
        self.assertEqual(await self.command("listen", node, "--for=0.01", "--count=1"), (1, ""))
        listener = self.run_module(MESH, "listen", f"--node={at_two}", "--count=1")
        await eventually(lambda: self.readers(at_two))
        told = await self.command("send", node, "--wait=20", "fire", "now")
        self.assertEqual(told, (0, "1 of 1 member has it\n"))
        self.assertEqual(await self.until_ended(listener), [0])
        self.assertRegex(listener.out.decode(), r"^one \(\w{8}\): fire now\n$")
        status, told = await self.command("send", node, "--to=two", "psst")
        self.assertEqual(status, 0)
        self.assertRegex(told, r"^two \(\w{8}\) has it\n$")
        two.signal("KILL")
        await self.until_ended(two)
        await eventually(lambda: not self.members_up(at_one))
        status, told = await self.command("send", node, "--wait=1", "fire")
        self.assertEqual(status, 1)
        self.assertRegex(told, r"^0 of 1 member has it\n  two \(\w{8}\): (suspect|down) for \d+ s\n$")
        status, told = await self.command("send", node, "--to=three", "psst")
        self.assertEqual(status, 1)
        why = "no member is named 'three': give a label, an id, or at least 4 characters of one"
        self.assertEqual(told, f"mesh: {why}\n")
        status, told = await self.command("status", f"--node={at_two}")
        self.assertEqual((status, told), (2, f"mesh: no node answers at {at_two}: Connection refused\n"))

    def readers(self, path: Path) -> bool:
        """Whether somebody follows the messages of the node at *path*."""
        return bool(get(path, "/status")["footprint"]["control_readers"])

    def members_up(self, path: Path) -> list[Any]:
        """The members that are up."""
        return [member for member in get(path, "/members") if member["state"] == "up"]
