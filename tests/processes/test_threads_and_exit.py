"""The threads of a MeshSocket, and how a script ends: with all that it sent, at once.

Each script is a fork of a process that has imported the package; it starts the reactor itself and
talks to a service in the process of the tests. Scripts run side by side.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol

from tests.support.length import at_length
from tests.support.processes import ANYWHERE, Child, ProcessCase, reactor
from twisted_mesh.service import MeshService

RUNS = at_length(20, 5)
AT_A_TIME = 5

#: At its end a script prints how long its exit took.
BEGIN = """
import atexit, sys, time
def tell():
    print("exit took", time.monotonic() - ended if "ended" in globals() else 0)
atexit.register(tell)  # before all others, so it runs after them
from twisted_mesh import MeshConfig, base, mesh
port = int(sys.argv[1])
"""
OPEN = "sock = mesh.MeshSocket('127.0.0.1', 0)\n"
LINK = OPEN + "sock.connect('', port)\n"
END = "\nended = time.monotonic()"

#: Ways for a script to end, by name, each with its exit status; the last message is the name.
ENDS = {
    "last line": (LINK + "sock.send(name)", 0),
    "whisper": (LINK + "sock.send(name, flag=base.flags.whisper)", 0),
    "exception": (LINK + f"sock.send(name){END}; raise SystemError('on purpose')", 1),
    "sys.exit": (LINK + f"sock.send(name){END}; sys.exit(3)", 3),
    "peers": (
        "sock = mesh.MeshSocket('127.0.0.1', 0, peers=[f'127.0.0.1:{port}'])\nsock.send(name)",
        0,
    ),
    "close": (LINK + "sock.send(name); sock.close()", 0),
    "more than may wait": (LINK + "[sock.send(name, bytes(10**6)) for _ in range(10)]", 0),
    "two sockets": (
        LINK + "other = mesh.MeshSocket('127.0.0.1', 0); other.connect(*sock.out_addr)\n"
        "third = mesh.MeshSocket('127.0.0.1', 0); third.connect(*other.out_addr)\n"
        "[third.send(name, bytes(10**5)) for _ in range(10)]",
        0,
    ),
    "a thread that ends last": (
        LINK + "import threading\n"
        "main = threading.current_thread()\n"
        "def work():\n"
        "    main.join(); sock.send(name)\n"
        "threading.Thread(target=work).start()",
        0,
    ),
    "asyncio": (
        "import asyncio\n"
        "async def main():\n"
        "    with mesh.MeshSocket('127.0.0.1', 0) as first:\n"
        "        first.connect('', port)\n"
        "    global sock\n"
        "    sock = mesh.MeshSocket('127.0.0.1', 0)\n"
        "    await asyncio.to_thread(sock.connect, '', port)\n"
        "    assert sock.connect('', port) is False\n"
        "    sock.send('asked')\n"
        "    while (await asyncio.to_thread(sock.recv, 1, 30)).packets != [2, 'answered']: pass\n"
        "    sock.send(name)\n"
        "asyncio.run(main())",
        0,
    ),
    "the application's reactor in a thread": (
        "import threading\n"
        "from twisted.internet import reactor\n"
        "running = threading.Event()\n"
        "reactor.callWhenRunning(running.set)\n"
        "threading.Thread(target=reactor.run, args=(False,), daemon=True).start()\n"
        "running.wait()\n" + LINK + "sock.send(name)",
        0,
    ),
    "the application's reactor": (
        "from twisted.internet import reactor\n"
        "from twisted.internet.threads import deferToThread\n"
        "def work():\n"
        "    global sock\n"
        + "".join(f"    {line}\n" for line in LINK.splitlines())
        + "    sock.send(name)\n"
        "    reactor.callFromThread(reactor.stop)\n"
        "    while sock.recv(timeout=None): pass\n"
        "reactor.callWhenRunning(lambda: deferToThread(work))\n"
        "reactor.run()",
        0,
    ),
}

#: These hand over megabytes at exit, which can take long on a busy machine.
HEAVY = {"more than may wait", "two sockets"}


class Silent(Protocol):
    """Accepts connections, and sends nothing."""

    def connectionMade(self) -> None:
        self.factory.made.append(self)  # type: ignore[union-attr]


class ScriptCase(ProcessCase):
    """A service for scripts to dial: it replies to `asked`, and keeps all other messages."""

    def setUp(self) -> None:
        super().setUp()
        self.node = MeshService(reactor, listen=[ANYWHERE])
        self.got: list[Any] = []
        self.node.on("message", self.heard)
        self.node.startService()
        self.addCleanup(self.node.stopService)

    def heard(self, message: Any) -> None:
        """Take in a message of a script."""
        if message.packets[1] == "asked":
            message.reply("answered")
        else:
            self.got.append(message.packets[1])

    @property
    def port(self) -> int:
        """Where the service listens."""
        return self.node.addresses[0][1]

    def script(self, text: str, *, name: str = "", port: int | None = None) -> Child:
        """Start a script; it can dial *port*."""
        return self.fork(f"name = {name!r}\n{BEGIN}{text}{END}\n", str(port or self.port))

    def assert_ended_at_once(self, child: Child) -> None:
        """Assert that its exit took less than a second."""
        (took,) = re.findall(r"^exit took (.*)$", child.out.decode(), flags=re.M)
        self.assertLess(float(took), 1, str(child))


class LastSendTests(ScriptCase):
    async def test_what_is_sent_in_the_last_line_is_sent_every_time(self) -> None:
        for first in range(0, RUNS, AT_A_TIME):
            names = [f"run {number}" for number in range(first, first + AT_A_TIME)]
            runs = [self.script(LINK + "sock.send(name)", name=name) for name in names]
            self.assertEqual(await self.until_ended(*runs), [0] * AT_A_TIME)
            await self.until(lambda names=names: len(self.got) >= len(names))
            self.assertEqual(sorted(self.got), names)
            for run in runs:
                self.assert_ended_at_once(run)
                self.assertEqual(run.log, "")
            self.got.clear()

    async def test_however_a_script_ends(self) -> None:
        scripts: dict[str, Child] = {}
        # The exit of "peers" makes the link.  Its second is not for the interpreters that start meanwhile,
        # nor are the others' seconds for the megabytes that the one service takes in.
        quick = [name for name in ENDS if name not in {"peers", *HEAVY}]
        groups = [quick[first : first + AT_A_TIME] for first in range(0, len(quick), AT_A_TIME)]
        for names in (["peers"], *groups, HEAVY):
            begun = {name: self.script(ENDS[name][0], name=name) for name in names}
            await self.until_ended(*begun.values())
            scripts |= begun
        # The traceback it must show is none of those that no process may show.
        raising = scripts["exception"]
        told, _, raised = raising.log.partition("Traceback")
        raising.err = told.encode()
        self.assertIn("SystemError: on purpose", raised)
        for name, script in scripts.items():
            self.assertEqual(script.status, ENDS[name][1], str(script))
            self.assertEqual(script.log, "", str(script))
            if name not in HEAVY:
                self.assert_ended_at_once(script)
        await self.until(lambda: len(self.got) == len(ENDS) + 18)
        self.assertEqual(set(self.got), set(ENDS))


class ThreadTests(ScriptCase):
    async def test_nobody_to_send_to_and_nothing_to_wait_for(self) -> None:
        alone = self.script(OPEN)
        idle = self.script(
            OPEN + "import socket\n"
            "stranger = socket.create_connection(sock.out_addr)\n"
            "while not sock.awaiting_ids: pass"
        )
        slow = self.script(  # as a name server that does not answer
            OPEN + "import threading\n"
            "from twisted.internet import reactor\n"
            "asked = threading.Event()\n"
            "reactor.callFromThread(reactor.callInThread, lambda: asked.set() or time.sleep(100))\n"
            "asked.wait()"
        )
        unsent = self.script(OPEN + "sock.send('nobody hears it')")
        scripts = [alone, idle, slow, unsent]
        self.assertEqual(await self.until_ended(*scripts), [0] * 4)
        for script in scripts:
            self.assert_ended_at_once(script)
        self.assertEqual("".join(script.log for script in scripts[:3]), "")
        self.assertEqual(unsent.log, "mesh: 1 message was taken by no neighbour\n")

    async def test_a_reactor_that_never_answers_is_not_waited_for_for_ever(self) -> None:
        script = self.script(
            "short = MeshConfig(handover_timeout=0.3, farewell_timeout=0.1, close_timeout=0.1)\n"
            "sock = mesh.MeshSocket('127.0.0.1', 0, config=short)\nsock.connect('', port)\n"
            "sock.on('message', lambda sock: time.sleep(100))\n"
            "sock.send('asked')\n"
            "while not sock._queue: pass"
        )
        self.assertEqual(await self.until_ended(script), [0])
        self.assert_ended_at_once(script)
        self.assertEqual(
            script.log, "mesh: the reactor does not answer: messages that were not sent yet are lost\n"
        )

    async def test_closed_and_opened_again(self) -> None:
        script = self.script(
            LINK + "address = sock.out_addr\n"
            "for number in range(3):\n"
            "    sock.close()\n"
            "    sock = mesh.MeshSocket(*address)\n"
            "    assert sock.connect('', port) is None\n"
            "    sock.send(number)\n"
            "try: mesh.MeshSocket(*address)\n"
            "except OSError as error: print(error)"
        )
        self.assertEqual(await self.until_ended(script), [0])
        self.assertIn("is taken by another MeshSocket of this process", script.lines[0])
        await self.until(lambda: len(self.got) == 3)
        self.assertEqual(self.got, [0, 1, 2])

    async def test_reactors_that_cannot_be_had(self) -> None:
        attempt = "try: {}\nexcept Exception as error: print(type(error).__name__, error)\n"
        run = self.script(OPEN + "from twisted.internet import reactor\n" + attempt.format("reactor.run()"))
        spent = self.script(
            "from twisted.internet import reactor\n"
            "reactor.callWhenRunning(reactor.stop); reactor.run()\n"
            + attempt.format("mesh.MeshSocket('', 0)")
        )
        stopped = self.script(
            OPEN + "from twisted.internet import reactor\n"
            "reactor.callFromThread(reactor.stop)\n"
            + attempt.format("sock.recv(timeout=None); sock.recv(timeout=1); sock.connect('', port)")
            + "while reactor.running: pass\n"
            + attempt.format("sock.send('x')")
            + attempt.format("mesh.MeshSocket('', 0)")
            + "sock.close()"
        )
        forked = self.script(
            "import os, warnings\nwarnings.simplefilter('ignore')  # of a fork beside threads\n"
            + OPEN
            + "if os.fork(): os.wait()\nelse:\n"
            "    for call in (lambda: sock.send('x'), lambda: mesh.MeshSocket('', 0)):\n"
            "        try: call()\n"
            "        except Exception as error: print(error, flush=True)\n"
        )
        scripts = [run, spent, stopped, forked]
        self.assertEqual(await self.until_ended(*scripts), [0] * 4)
        for script in scripts:
            self.assertEqual(script.log, "", str(script))
        self.assertIn("ReactorAlreadyRunning a MeshSocket runs the reactor", run.lines[0])
        self.assertIn("RuntimeError the reactor of this process cannot run", spent.lines[0])
        for line in stopped.lines[:3]:
            self.assertRegex(line, "^NotRunning the (reactor|socket)")
        self.assertEqual(sum("a forked process has no reactor" in line for line in forked.lines), 2)

    async def test_a_fork_in_the_middle_of_something(self) -> None:
        begin = OPEN + (
            "import os, signal, threading, warnings\n"
            "warnings.simplefilter('ignore')  # of a fork beside threads\n"
            "def attempts():\n"
            "    signal.alarm(20)\n"
            "    for call in (lambda: sock.send(1), lambda: sock.queue, lambda: mesh.MeshSocket('', 0)):\n"
            "        try: call()\n"
            "        except Exception as error: print(error, flush=True)\n"
            "    os._exit(0)\n"
            "held, over = threading.Event(), threading.Event()\n"
        )
        while_another_thread_calls = self.script(
            begin + "def call():\n"
            "    with sock._thread._lock: held.set(); over.wait()\n"
            "threading.Thread(target=call).start()\n"
            "held.wait()\n"
            "if not os.fork(): attempts()\n"
            "os.wait(); over.set()"
        )
        in_the_reactors_thread = self.script(
            begin + "@sock.on('connect')\n"
            "def fork(sock):\n"
            "    if not os.fork(): attempts()\n"
            "    os.wait()\n"
            "sock.connect('', port)"
        )
        scripts = [while_another_thread_calls, in_the_reactors_thread]
        self.assertEqual(await self.until_ended(*scripts), [0] * 2)
        for script in scripts:
            refused = [line for line in script.lines if "a forked process has no reactor" in line]
            self.assertEqual(len(refused), 3, str(script))


class InterruptTests(ScriptCase):
    async def interrupt(self, child: Child, times: int) -> None:
        """Press Ctrl-C whenever it says that it waits."""
        for count in range(1, times + 1):
            await self.until(lambda count=count: child.lines.count("waits") == count)
            child.signal("INT")

    async def test_every_wait_can_be_interrupted(self) -> None:
        factory: Any = Factory.forProtocol(Silent)
        factory.made = []
        listening: IListeningPort = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        script = self.script(
            OPEN + "def attempt(call):\n"
            "    print('waits')\n"
            "    try: call()\n"
            "    except KeyboardInterrupt: print('interrupted')\n"
            "attempt(lambda: sock.recv(timeout=None))\n"
            "attempt(lambda: sock.recv(timeout=100))\n"
            "attempt(lambda: sock.connect('', port))\n"
            "while sock.awaiting_ids: pass\n"
            "print(sock.status)",
            port=listening.getHost().port,
        )
        await self.interrupt(script, 2)
        await self.until(lambda: factory.made)
        script.signal("INT")
        self.assertEqual(await self.until_ended(script), [0])
        self.assertEqual(script.lines[:-1], ["waits", "interrupted"] * 3 + ["Nominal"])
        self.assertEqual(script.log, "")
        self.assert_ended_at_once(script)

    async def test_a_handler_of_signals_can_send_and_leave(self) -> None:
        script = self.script(
            LINK + "import signal\n"
            "def leave(number, frame):\n"
            "    sock.send('going down'); sys.exit(5)\n"
            "signal.signal(signal.SIGTERM, leave)\n"
            "print('waits')\n"
            "sock.recv(timeout=None)"
        )
        await self.until(lambda: script.lines)
        script.signal("TERM")
        self.assertEqual(await self.until_ended(script), [5])
        await self.until(lambda: self.got)
        self.assertEqual((self.got, script.log), (["going down"], ""))

    async def test_so_can_the_last_one(self) -> None:
        script = self.script(
            LINK + "sock.on('message', lambda sock: time.sleep(100))\n"
            "sock.send('asked')\n"
            "while not sock._queue: pass\n"
            "atexit.register(print, 'waits')"
        )
        await self.interrupt(script, 1)
        self.assertEqual(await self.until_ended(script), [0])
        self.assert_ended_at_once(script)
        self.assertEqual(script.log, "")
