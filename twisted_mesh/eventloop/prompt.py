"""A prompt on a terminal, as the transport of a protocol.

Contract: a line that is typed can be edited, and is drawn again below all text that is shown meanwhile.
The protocol gets each line when it is entered.  ``prompt_toolkit`` reads and draws in a thread of its own,
since it needs an event loop of asyncio; the protocol is called in the reactor's thread.  When the prompt is
over, the terminal has its own modes again.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.application import in_terminal
from prompt_toolkit.history import History
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.output.vt100 import Vt100_Output
from twisted.logger import Logger

from twisted_mesh.grammar import were

MARK: Final = "> "  # is shown before the line that is typed
#: Lines that the arrow key brings back, and the longest of them in characters (guesses).
KEPT_LINES: Final = 100
KEPT_LENGTH: Final = 1000
#: Characters of the log that may wait to be shown, while the terminal takes nothing (guess).
UNSHOWN: Final = 64 * 1024
_log = Logger()


class Prompted(Protocol):
    """The protocol of a prompt.

    :ivar fault: why the terminal could not be written, if that is why it is over.
    """

    fault: OSError | None

    def makeConnection(self, transport: Any) -> None: ...
    def dataReceived(self, data: bytes) -> None: ...
    def readConnectionLost(self) -> None: ...
    def writeConnectionLost(self) -> None: ...
    def connectionLost(self) -> None: ...
    def wrote(self, count: int) -> None: ...


class Prompt:
    """Standard input and output, on a terminal; :meth:`above` may be called in any thread."""

    def __init__(self, reactor: Any, protocol: Prompted) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._loop = asyncio.new_event_loop()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._over = asyncio.Event()
        self._fault: OSError | None = None
        self._is_finished = False  # whether loseConnection() was called
        self._waiting: deque[tuple[bytes, Callable[[int], None]]] = deque()  # text, and its use once shown
        self._showing: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._unshown = 0  # characters of the log that wait
        self._left_out = 0  # lines of the log that were not shown

    def start(self) -> None:
        """Show the prompt."""
        self._protocol.makeConnection(self)
        threading.Thread(target=self._run, name="mesh prompt", daemon=True).start()

    # ── the transport, in the reactor's thread ────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        """Show whole lines; the protocol's ``wrote()`` is called when the terminal has them."""
        self._call(self._show, data, self._wrote)

    def pauseProducing(self) -> None:
        """Show no new prompt when the line that is typed is entered."""
        self._call(self._may_read.clear)

    def resumeProducing(self) -> None:
        """Read lines again."""
        self._call(self._may_read.set)

    def loseConnection(self) -> None:
        """End when all that waits is shown."""
        self._is_finished = True
        self._call(self._over.set)

    def above(self, lines: str) -> bool:
        """Show whole lines of the log; return False if the prompt is over."""
        with self._lock:
            if self._unshown > UNSHOWN:
                self._left_out += lines.count("\n")
                return True
            if self._left_out:
                lines = f"mesh: {were(self._left_out, 'line', ' of the log')} left out here\n{lines}"
                self._left_out = 0
            self._unshown += len(lines)
        return self._call(self._show, lines.encode("utf-8", "backslashreplace"), self._shown(len(lines)))

    def _shown(self, length: int) -> Callable[[int], None]:
        def shown(_: int) -> None:
            with self._lock:
                self._unshown -= length

        return shown

    def _wrote(self, count: int) -> None:
        self._tell(self._protocol.wrote, count)

    def _call(self, call: Callable[..., object], *arguments: Any) -> bool:
        """Call *call* in the thread of the prompt; return False if that is over."""
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _ended(self) -> None:
        if self._is_finished:
            self._protocol.connectionLost()
        else:
            self._protocol.fault = self._fault
            self._protocol.writeConnectionLost()

    # ── in the thread of the prompt ──────────────────────────────────────────────────

    def _tell(self, call: Callable[..., object], *arguments: Any) -> None:
        self._reactor.callFromThread(call, *arguments)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._until_over())
        except OSError as error:
            self._fault = error
        except Exception:
            self._fault = OSError(errno.EIO, "the prompt has failed")
            _log.failure("the prompt has failed")
        finally:
            self._loop.close()
            self._tell(self._ended)

    async def _until_over(self) -> None:
        asking, over = asyncio.ensure_future(self._ask()), asyncio.ensure_future(self._over.wait())
        await asyncio.wait({asking, over}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done() and asking.exception() is not None:
            self._over.set()
        await over
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        while self._showing is not None:
            await self._showing
        if self._fault is not None:
            raise self._fault

    async def _ask(self) -> None:
        """Read lines until the end of input."""
        session: PromptSession[str] = PromptSession(
            MARK,
            history=_Entered(),
            enable_suspend=True,
            input=Vt100Input(sys.__stdin__),  # type: ignore[arg-type]
            # It asks the terminal for no cursor position, whose answers could come when nobody reads them.
            output=_output(),
        )
        while True:
            await self._may_read.wait()
            try:
                line = await session.prompt_async(handle_sigint=False, set_exception_handler=False)
            except EOFError:
                self._tell(self._protocol.readConnectionLost)
                return
            except KeyboardInterrupt:
                os.kill(os.getpid(), signal.SIGINT)
                return
            data = line.encode("utf-8", "surrogateescape") + b"\n"
            self._tell(self._protocol.dataReceived, data)

    def _show(self, data: bytes, shown: Callable[[int], None]) -> None:
        self._waiting.append((data, shown))
        if self._showing is None:
            self._showing = self._loop.create_task(self._show_all())

    async def _show_all(self) -> None:
        """Show all that waits; draw the prompt once for all that has come by then."""
        output = _output()
        try:
            while self._waiting:
                async with in_terminal():
                    lines, self._waiting = self._waiting, deque()
                    output.enable_autowrap()
                    output.write_raw(b"".join(data for data, _ in lines).decode())
                    output.flush()
                for data, shown in lines:
                    shown(len(data))
        except OSError as error:
            self._fault = error
            self._over.set()
        finally:
            self._showing = None


class _Entered(History):
    """The newest lines, for the arrow key."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)

    async def load(self) -> AsyncGenerator[str, None]:
        for line in self.load_history_strings():
            yield line

    def get_strings(self) -> list[str]:
        return list(self._lines)

    def append_string(self, string: str) -> None:
        self.store_string(string)

    def load_history_strings(self) -> Iterator[str]:
        yield from reversed(self._lines)

    def store_string(self, string: str) -> None:
        if len(string) <= KEPT_LENGTH:
            self._lines.append(string)


def _output() -> Vt100_Output:
    output = Vt100_Output.from_pty(sys.__stdout__, os.environ.get("TERM"))  # type: ignore[arg-type]
    output.enable_cpr = False
    return output
