"""Standard input and output of a node's process, and how it ends.

Contract: :class:`Door` copies messages to standard output as fast as it is read and no faster; what
waits meanwhile waits in a bounded queue.  That nobody reads any more ends the process with status 0, and
that standard output cannot be written with 1; :func:`end_process` is how.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.process import ProcessReader, ProcessWriter
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mesh.message import Message
from twisted_mesh.service import MeshService

STDIN: Final = 0
STDOUT: Final = 1
_log = Logger()


def end_process(reactor: Any, reason: str | None = None, status: int = 1) -> None:
    """Stop the services and end the process: with status 0, or with *status* and the *reason*."""
    if reason is not None:
        print(f"mesh: {reason}", file=sys.__stderr__)
        # twistd itself can only end with 0; this runs when all it had to do is done.
        atexit.register(os._exit, status)
    with suppress(ReactorNotRunning):  # it is on its way already
        reactor.stop()


class BlockingModes:
    """Whether descriptors block, kept to be restored.

    Twisted makes standard input and output non-blocking, and that is a property of what other
    processes share with this one: the terminal, or a pipe that a next command reads on.
    """

    def __init__(self, descriptors: Iterable[int]) -> None:
        # Copies, because the originals are closed at their end.
        self._kept = [(os.dup(descriptor), os.get_blocking(descriptor)) for descriptor in descriptors]

    def restore(self) -> None:
        """Make everything as it was; once."""
        kept, self._kept = self._kept, []
        for descriptor, blocking in kept:
            os.set_blocking(descriptor, blocking)
            os.close(descriptor)


@implementer(IHalfCloseableProtocol, IPushProducer)
class Terminal(Protocol):
    """Both standard streams as one connection.

    :ivar gone: fires when everything is written or nobody reads it.
    :ivar fault: why a write failed, where it was not that nobody reads.
    """

    def __init__(
        self,
        typed: Callable[[bytes], None],
        end_of_input: Callable[[], None],
        output_closed: Callable[[], None],
    ) -> None:
        self._typed = typed
        self.readConnectionLost = end_of_input
        self._output_closed = output_closed
        self._room: Deferred[None] | None = None
        self.gone: Deferred[None] = Deferred()
        self.fault: OSError | None = None

    @property
    def has_room(self) -> bool:
        """Whether standard output is read as fast as it is written."""
        return self._room is None

    def room(self) -> Deferred[None]:
        """Fires when there is room again; only while :attr:`has_room` is false."""
        assert self._room is not None
        return self._room

    def write(self, line: str) -> None:
        """Write a line."""
        assert self.transport is not None
        self.transport.write(line.encode("utf-8", "backslashreplace") + b"\n")

    def dataReceived(self, data: bytes) -> None:
        """Something was typed."""
        self._typed(data)

    def connectionMade(self) -> None:
        """Learn when the output is full."""
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]

    def writeConnectionLost(self) -> None:
        """Nobody reads the output any more, or it cannot be written."""
        self.connectionLost()
        self._output_closed()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """All is written, or nobody reads it."""
        self.resumeProducing()
        if not self.gone.called:
            self.gone.callback(None)

    def pauseProducing(self) -> None:
        """The output is full."""
        if self._room is None:
            self._room = Deferred()

    def resumeProducing(self) -> None:
        """The output has room again."""
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def stopProducing(self) -> None:
        """The output is closed."""
        self.resumeProducing()

    def finish(self) -> None:
        """Close when everything is written."""
        self.transport.unregisterProducer()  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


class _Writer(ProcessWriter):
    """Standard output, which tells the terminal why it cannot be written."""

    proc: Streams

    def writeSomeData(self, data: bytes) -> Any:
        """Write what there is room for; the number of bytes, or CONNECTION_LOST."""
        written = super().writeSomeData(data)
        if written is CONNECTION_LOST:  # Twisted forgets why: it is tried again to hear that
            try:
                return os.write(self.fd, data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # nobody reads
            except OSError as error:
                self.proc.terminal.fault = error
        return written


class Streams(StandardIO):
    """Standard input and output as the transport of a terminal."""

    def __init__(self, terminal: Terminal, stdin: int, reactor: Any) -> None:
        # In place of StandardIO's own, which makes another writer.
        self.protocol = self.terminal = terminal
        self._writer = _Writer(reactor, self, "write", STDOUT)
        self._reader = ProcessReader(reactor, self, "read", stdin)
        self._reader.startReading()
        terminal.makeConnection(self)


class Door(Service):
    """Between one node and the terminal; what a message looks like is a subclass's to say."""

    def __init__(self, reactor: Any, node: MeshService) -> None:
        self._reactor = reactor
        self._node = node
        self._terminal = Terminal(self.typed, self.end_of_input, self._output_closed)
        self._copying: Deferred[None] | None = None
        self._modes = BlockingModes(())

    def startService(self) -> None:
        """Begin to read and to write."""
        super().startService()
        descriptor = self.input_descriptor()
        self._modes = BlockingModes((descriptor, STDOUT))
        self.open(descriptor)
        self._copying = Deferred.fromCoroutine(self._copy())
        self._copying.addErrback(self._copying_failed)

    def stopService(self) -> Deferred[None]:
        """Write what still comes until the node has stopped, as far as somebody reads it."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def open(self, descriptor: int) -> None:
        """Connect the terminal to *descriptor* and to standard output."""
        Streams(self._terminal, descriptor, self._reactor)

    def input_descriptor(self) -> int:
        """What to read as standard input."""
        return STDIN

    def typed(self, data: bytes) -> None:
        """*data* came from standard input."""

    def end_of_input(self) -> None:
        """Standard input is at its end."""

    def shown(self, message: Message) -> str | None:
        """*message* as a line, or None where it is not shown."""
        raise NotImplementedError

    async def _copy(self) -> None:
        # The node ends the iteration when it has stopped.
        async for message in self._node.messages():
            line = self.shown(message)
            if line is not None:
                self._terminal.write(line)
            if not self._terminal.has_room:
                if not self.running:
                    self._limit_wait()
                await self._terminal.room()

    def _limit_wait(self) -> None:
        """Once the process ends, a reader that does not read for close_timeout is not waited for."""
        room = self._terminal.room()
        call = self._reactor.callLater(self._node.config.close_timeout, room.cancel)
        room.addBoth(lambda _: call.active() and call.cancel())

    async def _stop(self) -> None:
        config = self._node.config
        if not self._terminal.has_room:
            self._limit_wait()
        try:
            if self._copying is not None:
                await self._copying.addTimeout(config.longest_stop, self._reactor)
                self._terminal.finish()
                await self._terminal.gone.addTimeout(config.close_timeout, self._reactor)
                if self._terminal.fault is not None:
                    self._output_closed()  # it failed at the very end
        except (DeferredTimeout, CancelledError):
            _log.warn("standard output was not read to its end")
        finally:
            self._modes.restore()

    def _output_closed(self) -> None:
        fault, self._terminal.fault = self._terminal.fault, None
        if fault is not None:
            end_process(self._reactor, f"cannot write to standard output: {fault.strerror}")
        elif self.running:
            _log.info("nobody reads the output any more")
            end_process(self._reactor)

    def _copying_failed(self, failure: Failure) -> Failure | None:
        if not self.running and failure.check(CancelledError):
            return failure  # of _stop, which looks at it
        _log.failure("writing to standard output failed", failure)
        end_process(self._reactor, "writing to standard output failed")
        return None
