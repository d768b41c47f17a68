"""A node whose peers' name servers do not answer."""

from __future__ import annotations

from signal import SIGTERM

from tests.support.processes import ANYWHERE, TWISTD, ProcessCase

SILENT = """
import socket, time
def silent(name, *_, **__):
    print("asked", flush=True)
    time.sleep(600)
socket.getaddrinfo = silent
"""


class SilentNameServersTests(ProcessCase):
    async def test_it_looks_up_as_many_at_a_time_as_it_may_and_ends_at_once(self) -> None:
        peers = [f"--peer=silent{number}.example:4444" for number in range(20)]
        node = self.fork(SILENT + TWISTD[-1], "-n", "--pidfile=", "mesh", f"--listen={ANYWHERE}", *peers)
        await self.until(lambda: node.out.count(b"] asked") == 8)
        node.signal("TERM")
        self.assertIn(await self.until_ended(node, deadline=10), [[0], [-SIGTERM]])
        self.assertEqual(node.out.count(b"] asked"), 8)
