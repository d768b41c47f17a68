"""Reactors that count by the monotonic clock, and the application's, which is left alone."""

from __future__ import annotations

from tests.support.processes import ProcessCase

ASK = "import time; from twisted.internet import reactor; print(reactor.seconds is time.monotonic)"
COMMAND = f"""
from twisted_mesh import tap
options = tap.Options()
options.parseOptions(["--listen=tcp:0:interface=127.0.0.1"])
tap.makeService(options)
{ASK}
"""
SOCKET = f"""
from twisted_mesh import MeshSocket
MeshSocket("127.0.0.1", 0)
{ASK}
"""
SERVICE = f"""
from twisted.internet import reactor
from twisted_mesh import MeshService
MeshService(reactor, listen=["tcp:0:interface=127.0.0.1"])
{ASK}
"""


class ClockTests(ProcessCase):
    async def test_the_reactor_of_the_command_and_of_a_socket_is_monotonic_an_applications_not(
        self,
    ) -> None:
        children = [self.fork(script) for script in (COMMAND, SOCKET, SERVICE)]
        self.assertEqual(await self.until_ended(*children), [0, 0, 0])
        self.assertEqual([child.lines for child in children], [["True"], ["True"], ["False"]])
