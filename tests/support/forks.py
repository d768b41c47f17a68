"""Starts scripts in forks of one process that has imported the package.

Contract: :class:`Fork` is to a script what ``reactor.spawnProcess`` is to a command: the same protocol,
called in the same order. :mod:`tests.support.forker` is the other side.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.process import ProcessReader, ProcessWriter
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

POLL = 0.02  # seconds between two looks whether a process has ended (guess)


class Forker:
    """The process that forks: one for all tests, which so save its start.

    It ends when the process of the tests ends.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._asking, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forker"], cwd=directory, env=environment, stdin=theirs
        )
        theirs.close()
        self._answers = self._asking.makefile("r")
        atexit.register(self._end)

    def _end(self) -> None:
        self._answers.close()
        self._asking.close()
        self._process.wait()

    def ask(self, question: object, descriptors: Sequence[int] = ()) -> Any:
        """Ask *question*, and return the answer."""
        line = json.dumps(question).encode() + b"\n"
        # Only the first part carries the descriptors.
        self._asking.sendall(line[socket.send_fds(self._asking, [line], descriptors) :])
        return json.loads(self._answers.readline())


class Fork:
    """A script in a fork, as the transport of its protocol.

    :ivar pid: its process.
    """

    def __init__(
        self,
        reactor: Any,
        protocol: ProcessProtocol,
        forker: Forker,
        script: Mapping[str, object],
        descriptors: Mapping[int, int | str],
    ) -> None:
        """Start it.

        :param script: what :func:`tests.support.forker.run` takes.
        :param descriptors: from 0 on, as ``childFDs`` of ``reactor.spawnProcess``.
        """
        self._protocol = protocol
        self._forker = forker
        self._status: int | None = None
        ours: dict[int, int] = {}
        theirs: list[int] = []
        with ExitStack() as lent:
            for number in sorted(descriptors):
                end = descriptors[number]
                if not isinstance(end, int):
                    reads, writes = os.pipe()
                    ours[number], end = (writes, reads) if end == "w" else (reads, writes)
                    lent.callback(os.close, end)
                theirs.append(end)
            self.pid: int = forker.ask(script, theirs)
        kinds: dict[int | str, Any] = {"w": ProcessWriter, "r": ProcessReader}
        self._pipes = {
            number: kinds[descriptors[number]](reactor, self, number, end) for number, end in ours.items()
        }
        protocol.makeConnection(self)  # type: ignore[arg-type]
        self._looking = LoopingCall(self._look)
        self._looking.start(POLL)

    def _look(self) -> None:
        self._status = self._forker.ask(self.pid)
        if self._status is not None:
            self._looking.stop()
            self._perhaps_over()

    def childDataReceived(self, number: int, data: bytes) -> None:
        """Bytes came over one of its pipes."""
        self._protocol.childDataReceived(number, data)

    def childConnectionLost(self, number: int, reason: Failure) -> None:
        """One of its pipes is closed, at either end."""
        os.close(self._pipes.pop(number).fileno())
        self._protocol.childConnectionLost(number)
        self._perhaps_over()

    def _perhaps_over(self) -> None:
        if self._status is None:
            return
        if pipe := self._pipes.get(0):  # nobody reads it any more; without this it may be noticed late
            pipe.loseConnection()
        elif not self._pipes:
            status, number = max(self._status, 0), max(-self._status, 0)
            ended = ProcessTerminated(None if number else status, number or None)
            self._protocol.processEnded(Failure(ended if self._status else ProcessDone(0)))

    def write(self, data: bytes) -> None:
        """Write *data* to its standard input, if it still reads."""
        if 0 in self._pipes:
            self._pipes[0].write(data)

    def closeStdin(self) -> None:
        """Close its standard input."""
        if 0 in self._pipes:
            self._pipes[0].loseConnection()

    def signalProcess(self, number: int) -> None:
        """Send it a signal."""
        if self._status is not None:
            raise ProcessExitedAlready
        os.kill(self.pid, signal.Signals(number))  # it was not waited for, so the id is still its own
