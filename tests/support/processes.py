"""Processes that are started as a user starts them, and the waiting for what they do.

The system chooses all ports: a node is started with :data:`ANYWHERE`, and its port is read from its
log. Every process is killed, by its own id, when its test is over, and none may have printed a
traceback by then.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import sqlite3
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.deprecated import for_processes
from tests.support.forks import POLL, Fork, Forker

T = TypeVar("T")
reactor: Any = _reactor
ROOT = Path(__file__).parent.parent.parent
ANYWHERE = "tcp:0:interface=127.0.0.1"
TWISTD = ("-c", "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()")
#: Runs the module that is its first argument, as ``python -m`` does.
_MODULE = "import runpy, sys; del sys.argv[0]; runpy.run_module(sys.argv[0], None, '__main__', True)"
#: The standard streams of a process, unless a test passes others.
PIPES: Mapping[int, int | str] = {0: "w", 1: "r", 2: "r"}
_TAIL = 3000


def environment() -> dict[str, str]:
    """The environment of the processes that tests start."""
    given = {**os.environ, "PYTHONUNBUFFERED": "1"}
    told = given.get("PYTHONWARNINGS")  # the last filter counts first
    given["PYTHONWARNINGS"] = f"{told},{for_processes()}" if told else for_processes()
    if given.pop("PYTHONDONTWRITEBYTECODE", None):
        # Else every start compiles the package again, a third of its time (measured).
        given["PYTHONPYCACHEPREFIX"] = str(ROOT / "build" / "bytecode")  # shared by all
    path = given.get("PYTHONPATH")
    given["PYTHONPATH"] = f"{ROOT}{os.pathsep}{path}" if path else str(ROOT)
    return given


def eventually(
    condition: Callable[[], T], deadline: float = 30, told: Callable[[], object] = str
) -> Deferred[T]:
    """Wait until *condition* returns something true, and fire with that.

    :param deadline: seconds; after that it fails, with the result of *told* in its text.
    """
    result: Deferred[T] = Deferred(lambda _: polling.stop())
    until = reactor.seconds() + deadline

    def poll() -> None:
        value = condition()
        if value:
            polling.stop()
            result.callback(value)
        elif reactor.seconds() > until:
            raise AssertionError(f"not within {deadline} s: {told()}")

    polling = LoopingCall(poll)
    polling.start(POLL).addErrback(result.errback)
    return result


def readable(descriptor: int) -> bool:
    """Whether there is something to read."""
    return bool(select.select([descriptor], [], [], 0)[0])


class Child(ProcessProtocol):
    """A process and what it printed.

    :ivar out: standard output so far.
    :ivar err: standard error so far.
    :ivar status: its exit status once it has ended, negative for a signal.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.out = b""
        self.err = b""
        self.status: int | None = None

    def outReceived(self, data: bytes) -> None:
        self.out += data

    def errReceived(self, data: bytes) -> None:
        self.err += data

    def processEnded(self, reason: Failure) -> None:
        value: Any = reason.value
        self.status = 0 if reason.check(ProcessDone) else value.exitCode
        if self.status is None:
            self.status = -value.signal

    def type(self, text: str | bytes) -> None:
        """Type *text*."""
        self.transport.write(text.encode() if isinstance(text, str) else text)  # type: ignore[union-attr]

    def end_input(self) -> None:
        """Close its standard input."""
        self.transport.closeStdin()  # type: ignore[union-attr]

    def signal(self, name: str) -> None:
        """Send it SIG*name*, if it still runs."""
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(getattr(signal, f"SIG{name}"))  # type: ignore[union-attr]

    @property
    def log(self) -> str:
        """Standard error as text."""
        return self.err.decode("utf-8", "replace")

    @property
    def lines(self) -> list[str]:
        """The whole lines of standard output."""
        return self.out.decode().split("\n")[:-1]

    @property
    def events(self) -> list[Any]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.lines]

    def event(self, name: str) -> Any:
        """The first event of that *name*, None as long as there is none."""
        return next((event for event in self.events if event["event"] == name), None)

    @property
    def ports(self) -> list[int]:
        """The ports at which it listens, read from its log."""
        told = re.search(r"node \w+ listens on (.*)", self.log + self.out.decode("utf-8", "replace"))
        return [] if told is None else [int(port) for port in re.findall(r":(\d+)\b", told[1])]

    @property
    def links(self) -> int:
        """The number of its links, counted from its log."""
        return self.log.count("linked with") - len(re.findall(r"link with .+ ended", self.log))

    def __str__(self) -> str:
        out, err = (text[-_TAIL:].decode("utf-8", "replace") for text in (self.out, self.err))
        return f"\n$ {self.command}\nstatus {self.status}\nstdout …{out}\nstderr …{err}"


@cache
def the_forker() -> Forker:
    """The Forker of this process."""
    return Forker(ROOT, environment())


ChildT = TypeVar("ChildT", bound=Child)


class ProcessCase(TestCase):
    """Starts processes in a directory of its own, :ivar:`directory`, which they share."""

    timeout = 100  # a test that hangs fails here, with the reason; trial would end it after 120 s without

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.children: list[Child] = []
        self.addCleanup(self._end_all)

    def start(self, *arguments: str) -> Child:
        """Start Python with *arguments*, in the test's directory."""
        command = [sys.executable, *arguments]
        child = Child(" ".join(command))
        self.children.append(child)
        reactor.spawnProcess(child, command[0], command, environment(), str(self.directory))
        return child

    def fork(
        self,
        text: str,
        *arguments: str,
        fds: Mapping[int, int | str] = PIPES,
        kind: type[ChildT] = Child,  # type: ignore[assignment]
    ) -> ChildT:
        """Run a script as ``python -c`` would, in a fork of a process that has imported the package."""
        child = kind(" ".join(("python -c", text, *arguments)))
        self.children.append(child)
        script = {
            "text": text,
            "arguments": arguments,
            "directory": str(self.directory),
            "environment": environment(),
        }
        Fork(reactor, child, the_forker(), script, fds)
        return child

    def run_module(self, *arguments: str) -> Child:
        """Run a module as ``python -m`` would, in a fork as :meth:`fork` does."""
        return self.fork(_MODULE, *arguments)

    def twistd(self, *arguments: str, **options: Any) -> Any:
        """Fork off a ``twistd -n`` without a pid file; return a Child, or a *kind* of it."""
        return self.fork(TWISTD[-1], "-n", "--pidfile=", *arguments, **options)

    def mesh(self, *arguments: str, peers: tuple[Child | int, ...] = (), **options: Any) -> Child:
        """Fork off a ``twistd mesh`` on a free port of loopback, with *peers* that listen."""
        where = [f"--peer=127.0.0.1:{peer if isinstance(peer, int) else peer.ports[0]}" for peer in peers]
        return self.twistd("mesh", f"--listen={ANYWHERE}", *where, *arguments, **options)

    def until(self, condition: Callable[[], T], deadline: float = 30) -> Deferred[T]:
        """:func:`eventually`, whose failure shows the output of all processes."""
        return eventually(condition, deadline, lambda: "".join(map(str, self.children)))

    def until_listening(self, *children: Child) -> Deferred[bool]:
        """Wait until all *children* have a port."""
        return self.until(lambda: all(child.ports for child in children))

    async def until_ended(self, *children: Child, deadline: float = 30) -> list[int | None]:
        """Wait until all *children* have ended; return their exit statuses."""
        await self.until(lambda: all(child.status is not None for child in children), deadline)
        return [child.status for child in children]

    def assert_whole(self, history: str) -> None:
        """Assert that the history file of that name is not damaged."""
        with contextlib.closing(sqlite3.connect(self.directory / history)) as file:
            self.assertEqual(file.execute("PRAGMA integrity_check").fetchall(), [("ok",)])

    async def _end_all(self) -> None:
        for child in self.children:
            if child.status is None:
                child.signal("KILL")
        await self.until_ended(*self.children)
        for child in self.children:
            self.assertNotIn(b"Traceback", child.out + child.err, str(child))
            self.assertNotIn(b"Unhandled", child.out + child.err, str(child))
