"""Terminals without a process: the standard streams and the end of the process are simulated."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ReactorNotRunning
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.support.meshcase import MeshCase
from twisted_mesh.cli import terminal as module
from twisted_mesh.cli.terminal import StandardStreams, Terminal
from twisted_mesh.service import MeshService


class Screen(StringTransport):
    """Standard input and output in memory.

    :ivar blocked: whether nobody reads the output, and there is room for one line only.
    :ivar stuck: whether nobody reads the output; there is room for as many lines as may be unwritten.
    :ivar fault: the error that pauseProducing raises, if any.
    """

    def __init__(self, at: StandardStreams) -> None:
        super().__init__()
        self.at = at
        self.blocked = self.stuck = False
        self._unwritten = 0
        self.fault: Exception | None = None
        at.makeConnection(self)

    @property
    def reads(self) -> bool:
        """Whether standard input is read."""
        return self.producerState == "producing"

    @property
    def lines(self) -> list[str]:
        """The lines that were printed."""
        return self.value().decode().split("\n")[:-1]

    def write(self, data: bytes) -> None:
        """Print; if nobody reads, tell the writer that there is no more room."""
        super().write(data)
        self._unwritten += len(data)
        if self.blocked:
            self.at.wait()
        elif not self.stuck:
            self._written()

    def pauseProducing(self) -> None:
        """Stop reading standard input, or raise the fault."""
        if self.fault is not None:
            raise self.fault
        super().pauseProducing()

    def read_on(self) -> None:
        """Let somebody read the output again."""
        self.blocked = self.stuck = False
        self._written()

    def _written(self) -> None:
        unwritten, self._unwritten = self._unwritten, 0
        self.at.wrote(unwritten)

    def close_output(self) -> None:
        """Let the reader of the output go away."""
        self.at.writeConnectionLost()

    def loseConnection(self) -> None:
        """Close the output at once, unless nobody reads it."""
        if not self.blocked:
            self.at.connectionLost(Failure(ConnectionDone()))


class TerminalCase(MeshCase):
    """Nodes with terminals; the test acts as the reactor of each."""

    def setUp(self) -> None:
        super().setUp()
        self.told = io.StringIO()
        self.patch(module.sys, "__stderr__", self.told)  # type: ignore[attr-defined]
        # A terminal registers here how to end the process with status 1; the tests' process must not end.
        self.registered: list[Any] = []
        self.patch(module.atexit, "register", lambda *call: self.registered.append(call))  # type: ignore[attr-defined]
        self.stops: list[Deferred[Any]] = []
        self.running: list[MeshService | Terminal] = []
        self.stopping = False

    # ── what a terminal asks of a reactor ───────────────────────────────────────────────

    def callLater(self, *call: Any) -> Any:
        """Call later by the network's clock."""
        return self.network.clock.callLater(*call)

    def stop(self) -> None:
        """Stop the services when this turn is over."""
        if self.stopping:
            raise ReactorNotRunning
        self.stopping = True
        self.callLater(0, self._stop_services)

    def _stop_services(self) -> None:
        # In the order of a MultiService.
        self.stops = [service.stopService() for service in reversed(self.running)]

    # ── for tests ───────────────────────────────────────────────────────────────────

    @property
    def has_ended(self) -> bool:
        """Whether all services have stopped."""
        return bool(self.stops) and all(stop.called for stop in self.stops)

    @property
    def status(self) -> int | None:
        """The exit status of the process; None while it runs."""
        if not self.has_ended:
            return None
        for stop in self.stops:
            self.successResultOf(stop)
        return 1 if (os._exit, 1) in self.registered else 0

    def type_in(self, screen: Screen, data: bytes, *, after: float = 0) -> None:
        """Type *data*; then let *after* seconds pass."""
        screen.at.dataReceived(data)
        self._pass(after)

    def end_input(self, screen: Screen, *, after: float = 0) -> None:
        """End standard input; then let *after* seconds pass."""
        screen.at.readConnectionLost()
        self._pass(after)

    def type_all(self, screen: Screen, data: bytes, *, after: float = 0) -> None:
        """Type *data*, and end standard input; then let *after* seconds pass."""
        screen.at.dataReceived(data)
        self.end_input(screen, after=after)

    def terminal(self, kind: type[Terminal], *, receipts: bool = False, **options: Any) -> Screen:
        """A node of its own process with a terminal of *kind*, which asks for *receipts* or not."""
        node = self.make(**options)
        screens: list[Screen] = []

        class InMemory(kind):  # type: ignore[valid-type, misc]
            def open(self, descriptor: int) -> None:
                with contextlib.suppress(OSError):
                    if descriptor > 2:
                        os.close(descriptor)
                screens.append(Screen(self._streams))

        service = InMemory(self, node, receipts=receipts)
        self.own_node = node
        self.running = [node, service]
        node.startService()
        service.startService()
        self.network.pump()
        return screens[0]
