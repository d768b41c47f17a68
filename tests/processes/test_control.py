"""The control socket of ``twistd mesh``, as other programs meet it."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread

from tests.admin.test_control import Connection, get
from tests.support.processes import ANYWHERE, Child, ProcessCase, eventually


def post(path: Path, what: str, body: Any) -> Any:
    """The answer to a POST over the socket at *path*."""
    connection = Connection(path)
    try:
        connection.request("POST", what, json.dumps(body))
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


class ControlTests(ProcessCase):
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

    async def test_two_nodes_are_looked_at_and_one_sends_to_the_other(self) -> None:
        one, at_one = self.node("one", "--print")
        (port,) = await eventually(lambda: one.ports)
        _, at_two = self.node("two", f"--peer=127.0.0.1:{port}")
        await eventually(lambda: one.links)
        await eventually(at_two.exists)
        told = await deferToThread(post, at_two, "/send", {"packets": ["fire"], "wait_seconds": 20})
        self.assertEqual([each["label"] for each in told["delivered"]], ["one"], told)
        self.assertTrue(told["complete"])
        await eventually(lambda: one.event("message"))
        self.assertEqual(one.event("message")["packets"], ["fire"])
        (member,) = await deferToThread(get, at_one, "/members")
        self.assertEqual((member["label"], member["state"]), ("two", "up"))
        (link,) = await deferToThread(get, at_one, "/links")
        self.assertGreater(link["round_trip_seconds"], 0)

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
