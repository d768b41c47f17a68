"""A node that is told what to do over its standard input: what the programs of all systems share.

Contract: one JSON list a line comes in, ``[command, *arguments]``; one JSON object a line goes out,
``{"value": ...}`` or ``{"error": "..."}``, in the same order.  The end of the input ends the process.  A
node counts what it receives and stamps the time at each hundredth of what it is to get; it decides nothing,
waits for nothing, and compares no figures: that is for the process that measures.

Times are nanoseconds of CLOCK_MONOTONIC, which on Linux is one clock for all processes of a host.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

HOST = "127.0.0.1"
#: Bytes of messages that are sent before the loop has its turn: of every system the same.
TURN_BYTES = 64 * 1024
_MARKS = 100
_STAMP = struct.Struct("!Q")
_STATM = os.open("/proc/self/statm", os.O_RDONLY)  # kept open: it is read while others count


def resident() -> int:
    """Bytes of memory this process has now; what it shares with others is counted whole."""
    pages = int(os.pread(_STATM, 128, 0).split()[1])
    return pages * resource.getpagesize()


def usage() -> dict[str, float]:
    """Seconds of the processor this process has had; bytes of memory it has, and had at most."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss: a child begins with its parent's.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return {"cpu": used.ru_utime + used.ru_stime, "rss": resident(), "peak": int(peak.split()[1]) * 1024}


def stamped(size: int) -> bytes:
    """A message of *size* bytes, at least 8, that says when it was sent."""
    return _STAMP.pack(time.monotonic_ns()).ljust(size, b"\0")


class Tally:
    """Counts what a node receives.

    :ivar count: messages since :meth:`expect`.
    :ivar timing: whether each is to be given to :meth:`late`, or they are only counted by :meth:`more`.
    :ivar marks: ``[count, time, bytes of memory]``: at the first, at each hundredth and at the last.
    :ivar delays: nanoseconds each was under way.
    """

    def __init__(self) -> None:
        self.expect(1, False)

    def expect(self, most: int, timing: bool) -> None:
        """Begin to count anew; *most* messages are to come."""
        self.count = 0
        self.timing = timing
        self.marks: list[list[int]] = []
        self.delays: list[int] = []
        self._step = max(1, most // _MARKS)
        self._next = 1

    def more(self, count: int = 1) -> None:
        """Count messages that have come."""
        self.count += count
        if self.count >= self._next:
            self.marks.append([self.count, time.monotonic_ns(), resident()])
            self._next = (self.count // self._step + 1) * self._step

    def late(self, body: bytes) -> None:
        """Count a message of :func:`stamped` that has come, and note how long it was under way."""
        self.delays.append(time.monotonic_ns() - _STAMP.unpack_from(body)[0])
        self.more()


class Loop(Protocol):
    """What a node needs of the loop it runs in."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work*, from the next turn on."""

    async def rest(self, seconds: float) -> None:
        """Let the loop go on for *seconds*, at least one turn."""


class Node(ABC):
    """One node of a system.

    :ivar tally: what it received.
    """

    def __init__(self, loop: Loop) -> None:
        self.tally = Tally()
        self._loop = loop
        self._began = 0
        self._trouble = ""

    @abstractmethod
    async def open(self, alone: bool) -> int:
        """Listen where the system does; the port, or 0.

        :param alone: it is to have the links that are made, and find none by itself.
        """

    @abstractmethod
    async def connect(self, port: int) -> None:
        """Link with the node, or the server, that listens at *port*."""

    @abstractmethod
    def links(self) -> int:
        """How many others it can reach."""

    @abstractmethod
    async def send(self, count: int, size: int) -> None:
        """Send to all others, as fast as the system takes it."""

    @abstractmethod
    async def say(self, body: bytes) -> None:
        """Send one message at once."""

    async def ask(self, body: bytes) -> None:
        """Ask another node, and wait for its answer."""
        raise NotImplementedError

    def expect(self, most: int, timing: bool) -> None:
        """Begin to count; *most* messages are to come.

        In each system alike, the garbage collector looks at nothing older from now on.
        """
        self.tally.expect(most, timing)
        gc.collect()
        gc.freeze()

    async def inquire(self, count: int, size: int, together: int) -> None:
        """Ask *count* times, at most *together* at a time; the tally has the time of each."""
        self.expect(count, True)
        left = iter(range(count))

        async def ask_on() -> None:
            for _ in left:
                body = stamped(size)
                await self.ask(body)
                self.tally.late(body)

        for _ in range(together):
            self._loop.spawn(self._sending(ask_on()))

    async def pace(self, count: int, size: int, rate: float) -> None:
        """Send one message after the other, about *rate* a second, each with its time."""
        for _ in range(count):
            await self.say(stamped(size))
            await self._loop.rest(1 / rate)

    async def obey(self, line: bytes) -> bytes:
        """The answer to one line."""
        try:
            command, *arguments = json.loads(line)
            answer = {"value": await self._do(command, arguments)}
        except Exception as error:  # whatever it is, it is for the one that asked
            answer = {"error": f"{type(error).__name__}: {error}"}
        return json.dumps(answer).encode()

    async def _do(self, command: str, arguments: list[Any]) -> Any:
        match command:
            case "open":
                return await self.open(*arguments)
            case "connect":
                return await self.connect(*arguments)
            case "links":
                return self.links()
            case "expect":
                return self.expect(*arguments)
            case "send":
                return self._loop.spawn(self._sending(self.send(*arguments)))
            case "inquire":
                return await self.inquire(*arguments)
            case "pace":
                return self._loop.spawn(self._sending(self.pace(*arguments)))
            case "heard":
                return [self.tally.count, self._began, resident(), self._trouble]
            case "marks":
                return self.tally.marks
            case "delays":
                return self.tally.delays
            case "usage":
                return usage()
        raise ValueError(f"no such command: {command}")

    async def _sending(self, work: Coroutine[Any, Any, None]) -> None:
        self._began, self._trouble = time.monotonic_ns(), ""
        try:
            await work
        except Exception as error:
            self._trouble = f"{type(error).__name__}: {error}"


def leave() -> None:
    """End the process at once, whatever it still has to hand over: nobody waits for it any more."""
    os._exit(0)
