"""``twistd mesh --stdio``: lines in, lines out.

Contract: each line typed is broadcast as a str, each message whose packets are all str is printed as
exactly one line.  Where the mesh takes no more for now, standard input is not read.  At its end
everything typed is handed to a neighbour before the process ends with status 0, or it ends with 1
and the reason.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.errors import Congested, MeshError, MessageTooLarge
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService
from twisted_mesh.terminal import STDOUT, Door, end_process

LINE_BYTES: Final = 2**20 - 64  # the longest line that fits into a message
#: A message is one line, whatever it holds.
_LINE_ENDS: Final = {ord("\n"): r"\n", ord("\r"): r"\r"}
#: Nor may a stranger's message move the cursor of a terminal, or worse: C0, DEL and C1 but the tab.
_CONTROLS: Final = {
    code: rf"\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != ord("\t")
} | _LINE_ENDS
_log = Logger()


class LineSplitter:
    """Lines out of chunks; of one that is too long only that there was one is kept."""

    def __init__(self, limit: int) -> None:
        """
        :param limit: bytes of the longest line, without its end.
        """
        self._limit = limit
        self._rest = b""
        self._too_long = False

    def feed(self, data: bytes) -> list[str | None]:
        """The lines that *data* completes, without their ends; None for one that is too long."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines: list[str | None] = []
        for line in whole:
            line = line.removesuffix(b"\r")
            if self._too_long or len(line) > self._limit:
                self._too_long = False
                lines.append(None)
            else:
                lines.append(line.decode("utf-8", "backslashreplace"))
        if len(self._rest) > self._limit + 1:  # with the carriage return before the line's end
            self._too_long, self._rest = True, b""
        return lines

    def end(self) -> list[str | None]:
        """A last line without an end."""
        return self.feed(b"\n") if self._rest or self._too_long else []


class LinesDoor(Door):
    """Lines between the terminal and the mesh."""

    def __init__(self, reactor: Any, node: MeshService) -> None:
        super().__init__(reactor, node)
        self._splitter = LineSplitter(LINE_BYTES)
        self._lines: deque[str | None] = deque()
        self._too_long = 0
        self._sending = False
        self._at_end = False
        self._escapes = _CONTROLS if os.isatty(STDOUT) else _LINE_ENDS

    def typed(self, data: bytes) -> None:
        """Broadcast the lines that are complete."""
        self._lines.extend(self._splitter.feed(data))
        self._send_lines()

    def end_of_input(self) -> None:
        """Hand everything over, then end the process."""
        self._lines.extend(self._splitter.end())
        self._at_end = True
        self._send_lines()

    def shown(self, message: Message) -> str | None:
        """The packets joined by a space, if all are str."""
        packets = message.packets[1:]
        if not all(isinstance(packet, str) for packet in packets):
            return None
        return " ".join(packets).translate(self._escapes)

    def _send_lines(self) -> None:
        if not self._sending:
            self._sending = True
            Deferred.fromCoroutine(self._send()).addErrback(self._failed)

    async def _send(self) -> None:
        while self._lines:
            try:
                self._send_line(self._lines[0])
            except Congested:
                self._terminal.transport.pauseProducing()  # type: ignore[union-attr]
                await self._node.drained()
                self._terminal.transport.resumeProducing()  # type: ignore[union-attr]
            else:
                self._lines.popleft()
        if self._at_end:
            await self._node.handed_over(self._node.config.handover_timeout)
            end_process(self._reactor, self._told_at_end())
        self._sending = False

    def _send_line(self, line: str | None) -> None:
        try:
            if line is not None:
                self._node.send(line)
                return
        except MessageTooLarge:
            pass  # it grew: bytes that are no UTF-8 take four characters each
        self._too_long += 1
        _log.warn("a line of over {limit} bytes was not sent", limit=LINE_BYTES)

    def _told_at_end(self) -> str | None:
        if not self._too_long:
            return None
        lines = "1 line was" if self._too_long == 1 else f"{self._too_long} lines were"
        return f"{lines} too long and not sent"

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return  # stopped meanwhile, by a signal
        if not failure.check(MeshError):
            _log.failure("reading standard input failed", failure)
        end_process(self._reactor, failure.getErrorMessage())
