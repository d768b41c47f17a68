"""The nodes of a soak, as processes: each is an :class:`Actor`, and each of its processes a Life.

Contract: each line of a process is added to its :class:`tests.soak.told.Life` as it comes. Nothing happens
to an actor by itself, except that a process may end, which is a broken promise unless it was asked to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.soak.proxy import Gate, home
from tests.soak.told import KILLED, STOPPED, Life
from tests.support.processes import Child, environment, reactor

#: Shorter times than the defaults, so that every timer fires within two minutes, and a history that is full
#: by then: while one fills, the memory of a process grows by more than the bytes of its messages.
CONFIG: Final = {
    "history_bytes": 12 * 2**20,
    "handshake_timeout": 5.0,
    "connect_timeout": 5.0,
    "ping_after": 1.5,
    "dead_after": 4.5,
    "redial_longest": 4.0,
    "isolated_after": 2.0,
    "dial_again": 5.0,
    "presence_interval": 5.0,
    "suspect_patience": 5.0,
    "ephemeral_memory": 10.0,
    "exchange_interval": 10.0,
    "compare_interval": 10.0,
    "receipt_repeat_longest": 10.0,
}
PATIENCE: Final = 30.0  # seconds that a process may take to end
ALARMING: Final = (b"Traceback", b"Unhandled")


class Process(Child):
    """One process; its lines go to its life."""

    def __init__(self, command: str, life: Life, gate: Gate, log: Path) -> None:
        super().__init__(command)
        self.life = life
        self.ended: Deferred[None] = Deferred()
        self._gate = gate
        self._log = log
        self._told = log.with_suffix(".told").open("wb")
        self._line = b""

    def outReceived(self, data: bytes) -> None:
        self._told.write(data)
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            self.life.take(event, reactor.seconds())
            if event["event"] == "listening":
                self._gate.target = event["port"]

    def processEnded(self, reason: Failure) -> None:
        super().processEnded(reason)
        self._gate.target = None
        self._log.write_bytes(self.err)
        self._told.close()
        self.life.status = self.status
        self.life.complaints = sum(self.err.count(word) for word in ALARMING)
        if self.life.ended is None:
            self.life.ended = f"gone by itself, with status {self.status}"
            self.life.failures.append(self.life.ended)
        self.ended.callback(None)


class Actor:
    """One node.

    :ivar stored: whether it has a history file, and an identity; :ivar slow: whether it reads slowly.
    :ivar lives: a Life for each of its processes, the latest last.
    :ivar still: whether its process is stopped.
    :ivar skew: seconds by which its clock is wrong.
    :ivar stops: how often it stood still; :ivar jumps: how often its clock was set.
    """

    def __init__(self, number: int, gate: Gate, folder: Path, *, stored: bool, slow: bool) -> None:
        self.number = number
        self.gate = gate
        self.stored = stored
        self.slow = slow
        self.lives: list[Life] = []
        self.still = False
        self.skew = 0.0
        self.stops = self.jumps = 0
        self.process: Process | None = None
        self._folder = folder
        self._looks = 0

    @property
    def life(self) -> Life:
        """The present life, or the last."""
        return self.lives[-1]

    @property
    def runs(self) -> bool:
        """Whether it has a process."""
        return self.process is not None

    def start(self, peers: list[str], debug: int) -> None:
        """Start one more process."""
        life = Life(self.number, len(self.lives) + 1, self.stored, self.slow, began=reactor.seconds())
        self.lives.append(life)
        path = str(self._folder / f"{self.number}")
        told = {
            "node": life.node,
            "run": life.number,
            "port": 0,
            "gate": self.gate.port,
            "home": home(self.number),
            "peers": peers,
            "identity": f"{path}.key" if self.stored else None,
            "history": f"{path}.history" if self.stored else None,
            "slow": self.slow,
            "skew": self.skew,
            "steady": bool(self.number % 2),  # twistd's clock, or an application's
            "debug": debug,
            "config": CONFIG,
        }
        command = [sys.executable, "-m", "tests.soak.child", json.dumps(told)]
        log = self._folder / f"{life.node}.{life.number}.log"
        self.process = Process(f"node {life.node}.{life.number}", life, self.gate, log)
        reactor.spawnProcess(self.process, command[0], command, environment(), str(self._folder))
        self.still = False

    def tell(self, **what: Any) -> None:
        """Tell its process to do something."""
        if self.process is not None:
            self.process.type(json.dumps(what) + "\n")

    def jump(self, seconds: float) -> None:
        """Set its clock."""
        self.skew += seconds
        self.jumps += 1
        self.tell(do="jump", seconds=seconds)

    def stand_still(self) -> None:
        """Let its process stand still, by SIGSTOP."""
        if self.process is not None and not self.still:
            self.still = True
            self.stops += 1
            self.life.awake = reactor.seconds()
            self.process.signal("STOP")

    def go_on(self) -> None:
        """Let its process go on, by SIGCONT."""
        if self.process is not None and self.still:
            self.still = False
            self.life.naps.append((self.life.awake, reactor.seconds()))
            self.process.signal("CONT")

    def kill(self) -> Deferred[None]:
        """End its process by SIGKILL; fires when it has ended."""
        if not self.still:
            self.life.awake = reactor.seconds()
        return self._end(KILLED, lambda process: process.signal("KILL"))

    def stop(self) -> Deferred[None]:
        """Let its process stop in good order; fires when it has ended."""
        self.go_on()
        self.life.awake = reactor.seconds()
        return self._end(STOPPED, lambda process: self.tell(do="stop"))

    def _end(self, how: str, do: Any) -> Deferred[None]:
        process = self.process
        assert process is not None
        self.life.ended = how
        do(process)
        self.process = None
        self.still = False
        # If it has to be killed, its exit status shows that.
        call = reactor.callLater(PATIENCE, process.signal, "KILL")
        return process.ended.addCallback(lambda _: call.cancel() if call.active() else None)

    def look(self) -> int:
        """Let it tell the sizes of its tables; return the token of the answer."""
        self._looks += 1
        self.tell(do="look", token=self._looks)
        return self._looks

    def has_told(self, token: int) -> bool:
        """Whether it has answered that :meth:`look`."""
        return bool(self.life.looks) and self.life.looks[-1]["token"] >= token
