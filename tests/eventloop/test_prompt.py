"""A prompt on a pseudo-terminal: what is typed, what is shown, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import select
import signal
import sys
import termios
from collections.abc import Callable
from typing import IO, Any

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.eventloop import prompt as module
from twisted_mesh.eventloop.prompt import KEPT_LENGTH, KEPT_LINES, UNSHOWN, Prompt, _Entered

#: Seconds until a thread that does nothing fails its test.
DEADLINE = 30


class Turns:
    """The reactor's thread: the test's own, which makes the calls of other threads."""

    def __init__(self) -> None:
        self._calls = queue.SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]]()

    def callFromThread(self, call: Callable[..., object], *arguments: Any) -> None:
        self._calls.put((call, arguments))

    def until(self, condition: Callable[[], object]) -> None:
        """Make the calls that come, until *condition* holds."""
        while not condition():
            call, arguments = self._calls.get(timeout=DEADLINE)
            call(*arguments)


class Told:
    """A protocol that keeps what it is told."""

    fault: OSError | None = None

    def __init__(self) -> None:
        self.data = b""
        self.written = 0
        self.ends: list[str] = []

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def wrote(self, count: int) -> None:
        self.written += count

    def readConnectionLost(self) -> None:
        self.ends.append("read")

    def writeConnectionLost(self) -> None:
        self.ends.append("write")

    def connectionLost(self) -> None:
        self.ends.append("all")


def close(stream: IO[str]) -> None:
    """Close *stream*, although the terminal may be gone."""
    with contextlib.suppress(OSError):
        stream.close()


class PromptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.keys, screen = os.openpty()
        self.modes = termios.tcgetattr(screen)
        self.screen = screen
        self.addCleanup(os.close, screen)
        for name, mode in (("__stdin__", "r"), ("__stdout__", "w")):
            self.patch(sys, name, stream := os.fdopen(os.dup(screen), mode, encoding="utf-8"))
            self.addCleanup(close, stream)
        self.addCleanup(self.hang_up)  # first, lest one of these waits to be read
        self.patch(os, "environ", {"TERM": "xterm"})
        self.shown = b""
        self.turns, self.protocol = Turns(), Told()
        self.prompt = Prompt(self.turns, self.protocol)
        self.prompt.start()
        self.addCleanup(self.end)
        self.until_shown(b">")

    def end(self) -> None:
        """End the prompt."""
        self.prompt.loseConnection()
        self.turns.until(lambda: {"all", "write"} & {*self.protocol.ends})

    def hang_up(self) -> None:
        """Close the terminal."""
        keys, self.keys = self.keys, -1
        if keys >= 0:
            os.close(keys)

    def until_shown(self, text: bytes) -> None:
        """Read what the terminal shows until *text* comes."""
        while text not in self.shown:
            self.assertTrue(select.select([self.keys], [], [], DEADLINE)[0], self.shown)
            self.shown += os.read(self.keys, 65536)
        self.shown = self.shown.partition(text)[2]

    def type(self, keys: str | bytes) -> None:
        os.write(self.keys, keys.encode() if isinstance(keys, str) else keys)

    def until_typed(self, data: str) -> None:
        """Wait until the protocol has got *data*."""
        self.turns.until(lambda: len(self.protocol.data) >= len(data.encode()))
        self.assertEqual(self.protocol.data.decode(), data)
        self.protocol.data = b""

    def test_a_line_can_be_edited_before_it_is_entered_and_be_brought_back(self) -> None:
        self.type("Zoë\x7f\x7f\x7fAnn ☃\r")
        self.until_typed("Ann ☃\n")
        self.type("\x1b[A!\r")
        self.until_typed("Ann ☃!\n")

    def test_text_is_shown_above_the_line_that_is_typed_and_the_line_is_drawn_again(self) -> None:
        self.type("half a li")
        self.until_shown(b"half a li")
        self.protocol.transport.write("Zoë: hello\n".encode())
        self.assertTrue(self.prompt.above("mesh: a line of the log\n"))
        self.until_shown("Zoë: hello\r\n".encode())
        self.until_shown(b"mesh: a line of the log\r\n")
        self.until_shown(b"> half a li")
        self.turns.until(lambda: self.protocol.written == len("Zoë: hello\n".encode()))
        self.type("ne\r")
        self.until_typed("half a line\n")

    def test_no_line_is_read_while_reading_is_paused(self) -> None:
        self.prompt.pauseProducing()
        self.type("one\r")
        self.until_typed("one\n")
        self.type("two\r")
        self.prompt.write(b"shown meanwhile\n")
        self.turns.until(lambda: self.protocol.written)
        self.assertEqual(self.protocol.data, b"")
        self.prompt.resumeProducing()
        self.until_typed("two\n")

    def test_the_log_that_waits_is_bounded_and_what_is_left_out_is_told(self) -> None:
        line = "x" * 999 + "\n"
        call, calls = self.prompt._call, list[Any]()
        # As long as the terminal takes nothing.
        self.patch(self.prompt, "_call", lambda *what: not calls.append(what))  # type: ignore[func-returns-value]
        for _ in range(100):
            self.assertTrue(self.prompt.above(line))
        self.assertEqual(len(calls), UNSHOWN // 1000 + 1)
        for what in calls:
            call(*what)
        self.patch(self.prompt, "_call", call)
        self.prompt.write(b"a message\n")
        self.until_shown(b"a message\r\n")
        self.turns.until(lambda: self.protocol.written)
        self.prompt.above("mesh: later\n")
        left_out = 100 - UNSHOWN // 1000 - 1
        self.until_shown(b"mesh: %d lines of the log were left out here\r\nmesh: later\r\n" % left_out)

    def test_at_the_end_of_input_text_is_still_shown(self) -> None:
        self.type("\x04")
        self.turns.until(lambda: self.protocol.ends == ["read"])
        self.prompt.write(b"late\n")
        self.until_shown(b"late\r\n")

    def test_an_interrupt_is_the_signal(self) -> None:
        killed: list[tuple[int, int]] = []
        self.patch(os, "kill", lambda *what: self.turns.callFromThread(killed.append, what))
        self.type("\x03")
        self.turns.until(lambda: killed == [(os.getpid(), signal.SIGINT)])

    def test_at_its_end_all_that_waits_is_shown_and_the_terminal_is_as_before(self) -> None:
        self.type("half a line")
        self.until_shown(b"half a line")
        self.assertNotEqual(termios.tcgetattr(self.screen), self.modes)
        self.prompt.write(b"the last\n")
        self.prompt.loseConnection()
        self.turns.until(lambda: self.protocol.ends == ["all"])
        self.until_shown(b"the last\r\n")
        self.assertEqual(termios.tcgetattr(self.screen), self.modes)
        self.assertFalse(self.prompt.above("too late\n"))

    def test_a_terminal_that_is_gone_ends_it(self) -> None:
        self.hang_up()
        self.turns.until(lambda: self.protocol.ends)
        self.prompt.write(b"for nobody\n")
        self.turns.until(lambda: "write" in self.protocol.ends)
        self.assertIsInstance(self.protocol.fault, OSError)

    def test_a_fault_ends_it_and_is_logged(self) -> None:
        self.patch(module, "PromptSession", lambda *arguments, **options: 1 / 0)
        told = Told()
        Prompt(self.turns, told).start()
        self.turns.until(lambda: told.ends == ["write"])
        self.assertEqual(str(told.fault), f"[Errno {errno.EIO}] the prompt has failed")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class EnteredTests(SynchronousTestCase):
    def test_the_lines_that_are_kept_are_bounded(self) -> None:
        entered = _Entered()
        for number in range(KEPT_LINES + 5):
            entered.append_string(str(number))
            entered.append_string("x" * (KEPT_LENGTH + 1))
        kept = [str(number) for number in range(5, KEPT_LINES + 5)]
        self.assertEqual((entered.get_strings(), list(entered.load_history_strings())), (kept, kept[::-1]))
