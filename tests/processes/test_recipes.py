"""Each recipe of docs/recipes.rst, started as the page says: it answers, and ends in order by a signal.

The node that the recipes dial is a service in the process of the tests.
"""

from __future__ import annotations

import re
import signal
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol

from tests.support.processes import ANYWHERE, ROOT, Child, ProcessCase, reactor
from twisted_mesh.message import Member, Message
from twisted_mesh.service import MeshService

PAGE = (ROOT / "docs" / "recipes.rst").read_text()
BLOCK = re.compile(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)")
FASTAPI, FLASK, KLEIN, *CELLS, SCRIPT = (
    re.sub(r"^    ", "", each, flags=re.M) for each in BLOCK.findall(PAGE)
)
ELSEWHERE = "10.0.0.7:4444"
#: A command of a package, by the module and the function that it starts.
COMMAND = "import sys; sys.path.insert(0, ''); sys.argv[0] = '{0}'; from {1} import {2}; {2}()"
#: Runs cells as Jupyter's kernel does: in a loop that runs, each compiled with top-level await.
NOTEBOOK = """
import ast, asyncio, inspect, sys
names = {}
async def kernel():
    for cell in sys.argv[1:]:
        code = compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)
        if inspect.iscoroutine(result):
            await result
loop = asyncio.new_event_loop()
loop.run_until_complete(kernel())
print("tasks left:", len(asyncio.all_tasks(loop)))
"""
#: Made before gunicorn forks: its workers say that it cannot be used.
TOO_EARLY = """
from flask import Flask
from twisted_mesh import MeshSocket
from twisted_mesh.errors import NotRunning
app = Flask(__name__)
sock = MeshSocket("127.0.0.1", 0)
@app.post("/alerts/<text>")
def alert(text):
    try:
        sock.send("alert", text)
    except NotRunning as error:
        return str(error)
"""


class Post(Protocol):
    """A POST without a body."""

    def connectionMade(self) -> None:
        self.got = b""
        request = f"POST {self.factory.path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        self.transport.write(request.encode())

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: object) -> None:
        self.factory.answered.callback(self.got.partition(b"\r\n\r\n")[2].decode())


def post(port: int, path: str) -> Deferred[str]:
    """Fires with the body of the answer of a server at *port* of this host."""
    factory: Any = ClientFactory.forProtocol(Post)
    factory.path, factory.answered = path, Deferred()
    reactor.connectTCP("127.0.0.1", port, factory)
    answered: Deferred[str] = factory.answered
    return answered


class RecipesTests(ProcessCase):
    def setUp(self) -> None:
        super().setUp()
        self.service = MeshService(reactor, [ANYWHERE])
        self.service.startService()
        self.addCleanup(self.service.stopService)
        self.got: list[Any] = []
        self.left: list[Member] = []
        self.service.on("message", self.heard)
        self.service.on(
            "member", lambda member: self.left.append(member) if member.state == "left" else None
        )

    def heard(self, message: Message) -> None:
        self.got.append(message.packets[1:])
        if message.packets[1] == "who is there?":
            message.reply("I am")

    def here(self, recipe: str) -> str:
        """*recipe*, which dials the service of this test."""
        self.assertIn(ELSEWHERE, recipe)
        return recipe.replace(ELSEWHERE, f"127.0.0.1:{self.service.addresses[0][1]}")

    async def port(self, server: Child) -> int:
        """The port that *server* says it serves at."""
        said = r"(?:running on|Listening at:) http://127\.0\.0\.1:(\d+)|starting on (\d+)"
        told = await self.until(lambda: re.search(said, server.log + server.out.decode()))
        assert told is not None
        return int(told[1] or told[2])

    def serve(self, app: str, command: str, *arguments: str) -> Child:
        (self.directory / "app.py").write_text(app)
        return self.fork(command, *arguments)

    async def end(self, server: Child, *status: int) -> None:
        """End *server* by SIGTERM: its nodes say goodbye."""
        nodes = len(self.service.members)
        server.signal("TERM")
        self.assertIn((await self.until_ended(server))[0], status, server)
        await self.until(lambda: len(self.left) == nodes)

    async def test_fastapi_under_uvicorn(self) -> None:
        command = COMMAND.format("uvicorn", "uvicorn", "main")
        server = self.serve(self.here(FASTAPI), command, "app:app", "--port=0")
        port = await self.port(server)
        await self.until(lambda: self.service.members)
        self.assertEqual(await post(port, "/alerts/fire"), '{"delivered":1}')
        self.assertEqual(self.got, [["alert", "fire"]])
        await self.end(server, 0, -signal.SIGTERM)
        self.assertIn("Application shutdown complete", server.log)

    async def test_flask_under_gunicorn_whose_workers_are_forked(self) -> None:
        command = COMMAND.format("gunicorn", "gunicorn.app.wsgiapp", "run")
        arguments = ("--bind=127.0.0.1:0", "--workers=2", "app:app")
        server = self.serve(self.here(FLASK), command, *arguments)
        port = await self.port(server)
        for number in range(4):
            answer = await post(port, f"/alerts/{number}")
            self.assertRegex(answer, '^{"delivered":[12]}\n$')  # the other worker may be a member by then
        self.assertEqual(sorted(self.got), [["alert", str(number)] for number in range(4)])
        self.assertIn(len(self.service.members), (1, 2))
        await self.end(server, 0)

    async def test_a_socket_that_is_made_before_gunicorn_forks(self) -> None:
        command = COMMAND.format("gunicorn", "gunicorn.app.wsgiapp", "run")
        server = self.serve(TOO_EARLY, command, "--bind=127.0.0.1:0", "--preload", "app:app")
        answer = await post(await self.port(server), "/alerts/fire")
        self.assertRegex(answer, "^a forked process has no reactor: fork before the first MeshSocket")
        await self.end(server, 0)

    async def test_klein(self) -> None:
        (run,) = re.findall(r"app\.run\(.*\)", KLEIN)
        server = self.fork(self.here(KLEIN).replace(run, 'app.run("127.0.0.1", 0)'))
        port = await self.port(server)
        await self.until(lambda: self.service.members)
        self.assertEqual(await post(port, "/alerts/fire"), "1")
        await self.end(server, 0, -signal.SIGTERM)

    async def test_cells_of_a_notebook(self) -> None:
        first, *others = CELLS
        notebook = self.fork(NOTEBOOK, self.here(first), *others)
        self.assertEqual(await self.until_ended(notebook), [0], notebook)
        self.assertEqual((notebook.lines, notebook.log), (["[2, 'I am']", "tasks left: 0"], ""))
        await self.until(lambda: self.left)

    async def test_a_script_that_is_interrupted(self) -> None:
        script = self.fork(self.here(SCRIPT))
        await self.until(lambda: script.lines)
        script.signal("INT")
        self.assertEqual(await self.until_ended(script), [0], script)
        self.assertEqual((script.lines, script.log), (["[2, 'I am']"], ""))
        await self.until(lambda: self.left)

    async def test_a_service_on_plain_asyncio_says_that_nothing_runs_it(self) -> None:
        script = self.fork(
            "import asyncio\n"
            "from twisted.internet import reactor\n"
            "from twisted_mesh import MeshService\n"
            "async def main():\n"
            "    service = MeshService(reactor, [])\n"
            "    for start in (service.privilegedStartService, service.startService):\n"
            "        try: start()\n"
            "        except RuntimeError as error: print(error)\n"
            "    print(service.running)\n"
            "asyncio.run(main())"
        )
        self.assertEqual(await self.until_ended(script), [0], script)
        *told, running = script.lines
        self.assertEqual(len(told), 2)
        for line in told:
            self.assertRegex(line, "^an asyncio loop runs here and Twisted's reactor does not,.*: use ")
            self.assertIn("use twisted_mesh.aio.Mesh", line)
        self.assertEqual(running, "0")

    async def test_a_mesh_in_a_process_that_is_forked_says_so(self) -> None:
        script = self.fork(
            "import asyncio, os\n"
            "from twisted_mesh.aio import Mesh\n"
            "from twisted_mesh.errors import NotRunning\n"
            "async def told(call):\n"
            "    try: await call\n"
            "    except NotRunning as error: print(error, flush=True)\n"
            "async def main():\n"
            "    async with Mesh([]) as mesh:\n"
            "        if not os.fork():\n"
            "            await told(mesh.send('x'))\n"
            "            await told(Mesh([]).__aenter__())\n"
            "            await mesh.__aexit__()\n"
            "            print(mesh, flush=True)\n"
            "            os._exit(0)\n"
            "        os.wait()\n"
            "asyncio.run(main())"
        )
        self.assertEqual(await self.until_ended(script), [0], script)
        *told, shown = script.lines
        self.assertEqual(len(told), 2)
        for line in told:
            self.assertRegex(
                line, "^a forked process has no reactor: fork before the first MeshSocket or Mesh"
            )
        self.assertRegex(shown, "^<Mesh .* closed>$")
        self.assertEqual(script.log, "")
