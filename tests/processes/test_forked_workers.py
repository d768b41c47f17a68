"""Workers that an application forks off beside a node: they keep nothing of it when it is killed."""

from __future__ import annotations

import contextlib
import os

from tests.support.processes import ANYWHERE, Child, ProcessCase

#: A node that forks a worker off once it is linked. The worker lives until somebody opens its pipe.
NODE = """
import multiprocessing, os, signal, sys, warnings
from twisted.internet import reactor
from twisted_mesh import Identity, MeshService

warnings.simplefilter("ignore")  # of a fork beside threads
way, listen, peer = sys.argv[1:]
service = MeshService(
    reactor, [listen], [peer], identity=Identity.load_or_create("key"), history="history", overlay=False
)

def work():
    nothing = os.open(os.devnull, os.O_RDWR)
    for output in (0, 1, 2):
        os.dup2(nothing, output)
    try:
        service.send("from a worker")
    except Exception as error:
        with open("told", "w") as told:
            told.write(str(error))
    signal.alarm(60)
    open("pipe").read()
    os._exit(0)

def fork(_):
    if way == "fork":
        worker = os.fork()
        if not worker:
            work()
    else:
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        worker = process.pid
    for number in range(100):
        service.send(number, "x" * 1000)
    reactor.callLater(0, service.drained().addCallback, lambda _: print("worker", worker, flush=True))

service.on("connect", fork)
service.startService()
for _ in range(3):  # these end as scripts do, with all that Python frees then
    if not os.fork():
        sys.exit()
    os.wait()
print("listens", service.addresses[0][1], flush=True)
reactor.run()
"""


class ForkedWorkerTests(ProcessCase):
    def end_worker(self) -> None:
        """Let the worker go, if there is one."""
        with contextlib.suppress(OSError):
            os.close(os.open(self.directory / "pipe", os.O_WRONLY | os.O_NONBLOCK))

    def told(self, child: Child, word: str) -> int | None:
        """The number behind *word* in what *child* prints."""
        return next((int(line.split()[1]) for line in child.lines if line.startswith(word)), None)

    async def check(self, way: str) -> None:
        os.mkfifo(self.directory / "pipe")
        self.addCleanup(self.end_worker)
        peer = self.mesh("--print")
        await self.until_listening(peer)
        address = f"127.0.0.1:{peer.ports[0]}"
        node = self.fork(NODE, way, ANYWHERE, address)
        await self.until(lambda: self.told(node, "worker") is not None)
        worker, port = self.told(node, "worker"), self.told(node, "listens")
        assert worker is not None
        await self.until(lambda: peer.links == 1 and (self.directory / "told").exists())
        node.signal("KILL")
        # It would take 15 seconds if the worker had the link, too.
        await self.until(lambda: peer.links == 0, deadline=10)
        await self.until_ended(node)
        os.kill(worker, 0)  # the worker still runs
        self.assertIn("the service does not run", (self.directory / "told").read_text())
        again = self.fork(NODE, way, f"tcp:{port}:interface=127.0.0.1", address)
        await self.until(lambda: self.told(again, "listens") == port)
        await self.until(lambda: peer.links == 1)
        os.kill(worker, 0)
        again.signal("KILL")
        await self.until_ended(again)
        self.assert_whole("history")

    async def test_one_that_was_forked(self) -> None:
        await self.check("fork")

    async def test_one_of_multiprocessing(self) -> None:
        await self.check("multiprocessing")
