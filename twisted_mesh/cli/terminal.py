"""Standard input and output of a node's process, and how it ends.

Contract: :class:`Terminal` writes messages to standard output no faster than they are read; later messages
wait in a bounded queue.  A message counts as taken when its line was handed to the system.  If standard
output is closed at its other end, the process ends with status 0; if standard output cannot be written for
another reason, with status 1 (:func:`end_process`).
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import termios
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.process import ProcessReader, ProcessWriter
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_mesh.delivery.queue import READ_BYTES, Bounds, Consumers, MessageQueue
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
#: Bytes of lines that may wait to be written; as many as Twisted lets wait before it pauses a producer.
UNWRITTEN_BYTES: Final = 64 * 1024
#: The errors of a Deferred that timed out; callbacks added before addTimeout() get CancelledError.
_TIMED_OUT: Final = (DeferredTimeout, CancelledError)
_log = Logger()


def end_process(reactor: Any, reason: str | None = None, status: int = 1) -> None:
    """Stop the services and end the process: with *status* if a *reason* is given, else with status 0."""
    if reason is not None:
        print(f"mesh: {reason}", file=standard_error)
        # twistd itself can only end with status 0; this function runs after everything else.
        atexit.register(os._exit, status)
    # In a later turn: a signal may have queued a stop, which fails if the reactor stops before it.
    reactor.callLater(0, _stop, reactor)


def _stop(reactor: Any) -> None:
    with suppress(ReactorNotRunning):  # the reactor stops already
        reactor.stop()


class StandardError(io.TextIOBase):
    """Standard error; while a prompt is on the same terminal, lines are shown above it.

    :ivar above: shows whole lines above the prompt, or returns False; None while there is no prompt.
    """

    above: Callable[[str], bool] | None = None
    _begun = ""  # a line whose end has not come, while there is a prompt

    def write(self, text: str) -> int:
        if self.above is not None:
            lines, end, self._begun = (self._begun + text).rpartition("\n")
            if not end or self.above(lines + end):
                return len(text)
            self.above, begun, self._begun = None, self._begun, ""
            return self.write(lines + end + begun)
        return 0 if sys.__stderr__ is None else sys.__stderr__.write(text)

    def flush(self) -> None:
        if sys.__stderr__ is not None:
            sys.__stderr__.flush()


standard_error: Final = StandardError()


class Modes:
    """Keeps the modes of some descriptors, to restore them at the end.

    Twisted makes standard input and output non-blocking, and a prompt changes how a terminal takes keys.
    Other processes share these modes: the shell on the same terminal, or the next command that reads the
    pipe.
    """

    def __init__(self, descriptors: Iterable[int]) -> None:
        # Copies of the descriptors: the descriptors themselves may be closed when restore() is called.
        self._kept = [
            (os.dup(descriptor), os.get_blocking(descriptor), _attributes(descriptor))
            for descriptor in descriptors
        ]

    def restore(self) -> None:
        """Restore the modes; a second call does nothing."""
        kept, self._kept = self._kept, []
        for descriptor, blocking, attributes in kept:
            os.set_blocking(descriptor, blocking)
            # A process in the background is stopped if it sets them.
            if attributes is not None and attributes != _attributes(descriptor):
                with suppress(termios.error):  # the terminal is gone
                    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
            os.close(descriptor)


def _attributes(descriptor: int) -> list[Any] | None:
    """How a terminal takes keys; None if *descriptor* is no terminal."""
    try:
        return termios.tcgetattr(descriptor)
    except termios.error:
        return None


@implementer(IHalfCloseableProtocol)
class StandardStreams(Protocol):
    """Standard input and output as one connection.

    :ivar full: while standard output is read more slowly than it is written, a Deferred that fires when
        there is room; else None.
    :ivar gone: fires when everything is written, or standard output is closed at its other end.
    :ivar fault: why a write failed, unless the other end was closed.
    """

    def __init__(self, terminal: Terminal) -> None:
        """:param terminal: gets the input, and is told when input or output ends."""
        self._terminal = terminal
        self.full: Deferred[None] | None = None
        self._unwritten = 0  # bytes of lines that are not written yet
        self.gone: Deferred[None] = Deferred()
        self.fault: OSError | None = None

    @property
    def all_written(self) -> bool:
        """Whether the system has every line."""
        return not self._unwritten

    def write(self, line: str) -> None:
        assert self.transport is not None
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        self._unwritten += len(data)
        self.transport.write(data)
        if self._unwritten > UNWRITTEN_BYTES:
            self.wait()

    def wrote(self, count: int) -> None:
        """Note that the system took *count* bytes."""
        self._unwritten -= count
        if count and self.all_written:
            self._terminal.all_written()
            self._go_on()

    def wait(self) -> None:
        """Let the terminal write nothing more until all lines are written."""
        if self.full is None:
            self.full = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._terminal.typed(data)

    def readConnectionLost(self) -> None:
        self._terminal.end_of_input()

    def writeConnectionLost(self) -> None:
        """Standard output is closed at its other end, or cannot be written."""
        self.connectionLost()
        self._terminal.output_closed()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.gone.called:
            self.gone.callback(None)
        self._go_on()

    def _go_on(self) -> None:
        full, self.full = self.full, None
        if full is not None:
            full.callback(None)

    def finish(self) -> None:
        """Close when everything is written."""
        self.transport.loseConnection()  # type: ignore[union-attr]


class _Writer(ProcessWriter):
    """Standard output; it tells the streams how much was written, or why a write failed (``fault``)."""

    proc: _Transport

    def writeSomeData(self, data: bytes) -> Any:
        written = super().writeSomeData(data)
        if written is CONNECTION_LOST:  # Twisted drops the error: write once more to see it
            try:
                written = os.write(self.fd, data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the other end is closed
            except OSError as error:
                self.proc.streams.fault = error
        if isinstance(written, int):
            self.proc.streams.wrote(written)
        return written


class _Transport(StandardIO):
    """The transport of the standard streams."""

    def __init__(self, streams: StandardStreams, stdin: int, reactor: Any) -> None:
        # This replaces StandardIO's own constructor, which makes another writer.
        self.protocol = self.streams = streams
        self._writer = _Writer(reactor, self, "write", STDOUT)
        self._reader = ProcessReader(reactor, self, "read", stdin)
        self._reader.startReading()
        streams.makeConnection(self)


class OutputQueue(MessageQueue):
    """The messages for standard output; each counts as taken when its line is written.

    :ivar nothing_waits: is called when the terminal has all messages that have come.
    """

    def __init__(self, bounds: Bounds, consumers: Consumers) -> None:
        super().__init__(bounds, consumers)
        self.nothing_waits: Callable[[], object] = lambda: None
        self._out: deque[Message] = deque()  # handed out and not taken
        self._out_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether the terminal has all messages that have come, and waits for the next."""
        return self._waiting is not None and not self.is_held_up

    def wait(self) -> Deferred[Message]:
        """As for every queue; tells the terminal that there is no message now."""
        waiting = super().wait()
        if self.is_empty:
            self.nothing_waits()
        return waiting

    @property
    def too_many_out(self) -> bool:
        """Whether the messages that are handed out and not taken have READ_BYTES or more."""
        return self._out_bytes >= READ_BYTES

    def take(self) -> Message | None:
        """The next message, or None if there is none now; it counts as taken at :meth:`written`."""
        if (handed_out := self.hand_out()) is None:
            return None
        message, size = handed_out
        self._out.append(message)
        self._out_bytes += size
        return message

    def written(self) -> None:
        """Note that the lines of all messages that were handed out are written."""
        self._out_bytes = 0
        while self._out:
            self.took(self._out.popleft())


class Terminal(Service):
    """Standard input and output of one node; a subclass overrides the methods that do nothing here."""

    def __init__(self, reactor: Any, node: MeshService) -> None:
        self._reactor = reactor
        self._node = node
        self._streams = StandardStreams(self)
        self._queue: OutputQueue | None = None  # kept: messages of a freed queue count as taken
        self._copying: Deferred[None] | None = None
        self._modes = Modes(())

    def startService(self) -> None:
        super().startService()
        descriptor = self.input_descriptor()
        self._modes = Modes((descriptor, STDOUT))
        self.open(descriptor)
        self._queue = self._node._add_queue(OutputQueue)
        self._queue.nothing_waits = self.nothing_waits
        self._copying = Deferred.fromCoroutine(self._copy(self._queue))
        self._copying.addErrback(self._copying_failed)

    def stopService(self) -> Deferred[None]:
        """Write the messages that come until the node has stopped, as long as the output is read."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def open(self, descriptor: int) -> None:
        """Begin to read *descriptor* and to write standard output."""
        _Transport(self._streams, descriptor, self._reactor)

    def input_descriptor(self) -> int:
        return STDIN

    def typed(self, data: bytes) -> None:
        """Take in *data* from standard input."""

    def end_of_input(self) -> None:
        """Standard input is at its end."""

    def output_closed(self) -> None:
        """End the process: standard output is closed at its other end, or cannot be written."""
        fault, self._streams.fault = self._streams.fault, None
        if fault is not None:
            end_process(self._reactor, f"cannot write to standard output: {fault.strerror}")
        elif self.running:
            _log.info("nobody reads the output any more")
            end_process(self._reactor)

    def all_written(self) -> None:
        """Note that every line is written."""
        if self._queue is not None:
            self._queue.written()

    def nothing_waits(self) -> None:
        """Note that all messages that have come have their lines."""

    def as_line(self, message: Message) -> str | None:
        """*message* as a line, or None if it is not shown."""
        raise NotImplementedError

    async def _copy(self, queue: OutputQueue) -> None:
        # When the node has stopped, the iteration ends.
        async for message in queue:
            if (line := self.as_line(message)) is not None:
                self._streams.write(line)
            if self._streams.all_written:
                queue.written()
            elif queue.too_many_out:  # messages that are not shown are not bounded by their lines
                self._streams.wait()
            if (full := self._streams.full) is not None:
                if not self.running:
                    self._limit_wait()
                await full
            if self._streams.gone.called:
                return  # messages that were not written come again with the next start

    def _limit_wait(self) -> None:
        """Wait no longer than ``close_timeout`` for room: the process ends."""
        if self._streams.full is not None:
            self._streams.full.addTimeout(self._node.config.close_timeout, self._reactor)

    async def _stop(self) -> None:
        config = self._node.config
        self._limit_wait()
        try:
            if self._copying is not None:
                await self._copying.addTimeout(config.longest_stop, self._reactor)
                self._streams.finish()
                await self._streams.gone.addTimeout(config.close_timeout, self._reactor)
                if self._streams.fault is not None:
                    self.output_closed()  # the last write failed
        except _TIMED_OUT:
            _log.warn("standard output was not read to its end")
        finally:
            self._modes.restore()

    def _copying_failed(self, failure: Failure) -> Failure | None:
        if not self.running and failure.check(*_TIMED_OUT):
            return failure  # _stop() waits for it
        _log.failure("writing to standard output failed", failure)
        end_process(self._reactor, "writing to standard output failed")
        return None
