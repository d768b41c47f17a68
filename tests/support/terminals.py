"""Terminals without a process: their standard streams are in memory, and so is the end of the process."""

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
    """Standard input and output: what was written, whether input is read, whether output is.

    :ivar blocked: what is written now has no reader.
    :ivar fault: what it raises when it is to stop reading, which a sound terminal does not.
    """

    def __init__(self, at: StandardStreams) -> None:
        super().__init__()
        self.at = at
        self.blocked = False
        self.fault: Exception | None = None
        at.makeConnection(self)

    @property
    def reads(self) -> bool:
        """Whether standard input is read."""
        return self.producerState == "producing"

    @property
    def lines(self) -> list[str]:
        """What was printed."""
        return self.value().decode().split("\n")[:-1]

    def write(self, data: bytes) -> None:
        """Print; with nobody to read it the next write would have no room."""
        super().write(data)
        if self.blocked and self.producer is not None:
            self.producer.pauseProducing()

    def pauseProducing(self) -> None:
        """Read no more of standard input."""
        if self.fault is not None:
            raise self.fault
        super().pauseProducing()

    def read_on(self) -> None:
        """Somebody reads what is printed."""
        self.blocked = False
        if self.producer is not None:
            self.producer.resumeProducing()

    def close_output(self) -> None:
        """Nobody will read what is printed."""
        self.at.writeConnectionLost()

    def loseConnection(self) -> None:
        """All is written at once, unless nobody reads."""
        if not self.blocked:
            self.at.connectionLost(Failure(ConnectionDone()))


class TerminalCase(MeshCase):
    """Nodes with terminals; the test is the reactor of each."""

    def setUp(self) -> None:
        super().setUp()
        self.told = io.StringIO()
        self.patch(module.sys, "__stderr__", self.told)  # type: ignore[attr-defined]
        # Who registers this is about to end with status 1; the process of the tests is not.
        self.registered: list[Any] = []
        self.patch(module.atexit, "register", lambda *call: self.registered.append(call))  # type: ignore[attr-defined]
        self.stops: list[Deferred[Any]] = []
        self.running: list[MeshService | Terminal] = []
        self.stopping = False

    # ── what a terminal asks of a reactor ───────────────────────────────────────────────

    def callLater(self, *call: Any) -> Any:
        """As the network's clock."""
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
        """Whether all is stopped."""
        return bool(self.stops) and all(stop.called for stop in self.stops)

    @property
    def status(self) -> int | None:
        """With what the process has ended; None while it runs."""
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

    def terminal(self, kind: type[Terminal], **options: Any) -> Screen:
        """A node of its own process with a terminal of *kind*."""
        node = self.make(**options)
        screens: list[Screen] = []

        class InMemory(kind):  # type: ignore[valid-type, misc]
            def open(self, descriptor: int) -> None:
                with contextlib.suppress(OSError):
                    if descriptor > 2:
                        os.close(descriptor)
                screens.append(Screen(self._streams))

        service = InMemory(self, node)
        self.own_node = node
        self.running = [node, service]
        node.startService()
        service.startService()
        self.network.pump()
        return screens[0]
