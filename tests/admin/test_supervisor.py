"""A supervisor such as systemd is told how the node is."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from tests.support.meshcase import MeshCase
from twisted_mesh.admin.supervisor import Supervised


class SupervisorTests(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / "notify"
        self.supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.supervisor.close)
        self.supervisor.bind(os.fspath(self.path))
        self.supervisor.setblocking(False)

    def told(self) -> list[str]:
        """The messages that came since the last call."""
        messages = []
        try:
            while True:
                messages.append(self.supervisor.recv(4096).decode())
        except BlockingIOError:
            return messages

    def test_it_is_told_of_the_start_of_neighbours_and_of_the_end(self) -> None:
        a, b = self.node(), self.node()
        supervised = Supervised(a, os.fspath(self.path))
        supervised.startService()
        self.assertEqual(self.told(), ["READY=1\nSTATUS=neighbours: 0; members up: 0 of 0"])
        self.link((a, b), after=1)
        self.assertEqual(self.told()[-1], "STATUS=neighbours: 1; members up: 1 of 1")
        self.kill(b)
        self.network.advance(60)
        self.assertEqual(self.told()[-1], "STATUS=neighbours: 0; members up: 0 of 1")
        supervised.stopService()
        self.assertEqual(self.told(), ["STOPPING=1"])

    def test_a_node_that_cannot_listen_is_never_ready(self) -> None:
        a = self.node()
        taken = self.make(listen=[self.network.listen(self.host(a), 1)])
        supervised = Supervised(taken, os.fspath(self.path))
        supervised.startService()
        self.assertEqual(self.told(), [])
        supervised.stopService()

    def test_without_a_supervisor_the_node_goes_on(self) -> None:
        supervised = Supervised(self.node(), os.fspath(self.path) + ".gone")
        supervised.startService()
        supervised.stopService()
        abstract = Supervised(self.node(), "@no-such-name")
        abstract.startService()
        abstract.stopService()
