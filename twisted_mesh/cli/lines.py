"""Line input: each line typed is broadcast as a str.

Contract: while the mesh takes no more messages, or the history cannot be written, lines wait, and only a
little more of standard input is read.  With receipts, while all members answer, input is read no faster
than receipts come in.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.cli.terminal import Terminal, end_process
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.errors import (
    Congested,
    KeyInUse,
    MeshError,
    MessageTooLarge,
    NoMembers,
    NotDelivered,
    NotHandedOver,
    StoreFull,
)
from twisted_mesh.grammar import were
from twisted_mesh.service import MeshService

LINE_BYTES: Final = 2**20 - 64  # the longest line that fits into a message
#: Characters to read while no line can be sent.  With 0, the node would not see the end of a short input.
READ_AHEAD: Final = 64 * 1024
_log = Logger()


class LineSplitter:
    """Cuts chunks of bytes into lines; keeps nothing of a line that is too long."""

    def __init__(self, limit: int) -> None:
        """:param limit: bytes of the longest line, without its end."""
        self._limit = limit
        self._rest = b""
        self._too_long = False

    def feed(self, data: bytes) -> list[str | None]:
        """The lines that *data* completes, without their ends; None for each that is too long."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines: list[str | None] = []
        for line in whole:
            line = line.removesuffix(b"\r")
            if self._too_long or len(line) > self._limit:
                self._too_long = False
                lines.append(None)
            else:
                lines.append(line.decode("utf-8", "backslashreplace"))
        if len(self._rest) > self._limit + 1:  # one more for a carriage return before the line's end
            self._too_long, self._rest = True, b""
        return lines

    def end(self) -> list[str | None]:
        """The last line, if the input ended without a line's end."""
        return self.feed(b"\n") if self._rest or self._too_long else []


class LineInput(Terminal):
    """A terminal that broadcasts the lines typed; with receipts, it follows which members have them."""

    ends_with_input = False  # whether the process ends when its input ends

    def __init__(self, reactor: Any, node: MeshService, receipts: bool = False) -> None:
        """:param receipts: whether each line is sent with a receipt."""
        super().__init__(reactor, node)
        self._receipts = receipts
        self._splitter = LineSplitter(LINE_BYTES)
        self._lines: deque[str | None] = deque()
        self._count = 0  # lines that were sent, or were too long
        self._followed: dict[Receipt, int] = {}  # receipts that are not complete -> the number of the line
        self._given_up = 0  # receipts that were closed before they were complete
        self._too_long = 0  # lines that were too long
        self._sending = False
        self._refused: Deferred[None] | None = None  # fires when lines can be sent again
        self._paced = receipts  # whether to wait for receipts before more input is read
        self._at_end = False
        if receipts:
            node.on("receipt", self._on_receipt)

    @classmethod
    def here(cls) -> type[LineInput]:
        """The class that fits the standard streams of this process: this one, or a subclass."""
        return cls

    def typed(self, data: bytes) -> None:
        self._lines.extend(self._splitter.feed(data))
        if self._refused is None:
            self._send_lines()
        else:
            self._read_a_little_ahead()

    def end_of_input(self) -> None:
        if self.ends_with_input and self.running:
            _log.info("end of input: the node ends when the lines typed are handed over")
        self._lines.extend(self._splitter.end())
        self._at_end = True
        if self._refused is None:
            self._send_lines()
        else:
            self._limit(self._refused)

    async def all_sent(self) -> None:
        """Act on the end of input: the last line was sent."""

    def receipt_changed(self, line: int, receipt: Receipt) -> None:
        """Show the receipt of line number *line*, counted from 1: the receipt has changed."""

    @property
    def missing(self) -> int:
        """How many lines some member may not have."""
        return sum(not receipt.is_complete for receipt in self._followed) + self._given_up

    def _send_lines(self) -> None:
        if not self._sending:
            self._sending = True
            Deferred.fromCoroutine(self._send()).addErrback(self._failed)

    async def _send(self) -> None:
        while self._lines:
            if (crowded := self.crowded()) is not None:
                await self._pausing(crowded)
                continue
            if self._paced and 2 * len(self._followed) >= self._node.config.receipts_limit:
                self._paced = await self._oldest_is_complete()
                continue
            try:
                self._send_line(self._lines[0])
            except (Congested, StoreFull, KeyInUse) as refusal:
                await self._wait_out(refusal)
            else:
                self._lines.popleft()
        if self._at_end:
            await self.all_sent()
        self._sending = False

    async def _wait_out(self, refusal: Congested | StoreFull | KeyInUse) -> None:
        """Wait until lines can be sent again; after the end of input, ``handover_timeout`` at most.

        :raises NotHandedOver: the time is over.
        """
        self._refused = waiting = self._node.drained()
        self._read_a_little_ahead()
        if self._at_end:
            self._limit(waiting)
        try:
            await waiting
        except (CancelledError, DeferredTimeout):
            is_full = isinstance(refusal, Congested)
            why = "too much waits that no neighbour has taken" if is_full else str(refusal)
            raise NotHandedOver(f"{were(len(self._lines), 'line')} not sent: {why}") from None
        finally:
            self._refused = None
        self._streams.transport.resumeProducing()  # type: ignore[union-attr]

    def _read_a_little_ahead(self) -> None:
        """If :data:`READ_AHEAD` characters wait, stop reading."""
        if sum(len(line or "") + 1 for line in self._lines) > READ_AHEAD:
            self._streams.transport.pauseProducing()  # type: ignore[union-attr]

    def _limit(self, waiting: Deferred[None]) -> None:
        """If the process ends with the input, let *waiting* fail after ``handover_timeout``."""
        if self.ends_with_input:
            waiting.addTimeout(self._node.config.handover_timeout, self._reactor)

    async def _oldest_is_complete(self) -> bool:
        """Read nothing until every member has the oldest followed line; return False if they have not."""
        try:
            await self._pausing(next(iter(self._followed)).complete(self._node.config.handover_timeout))
        except (NotDelivered, NoMembers):
            return False
        return True

    async def _pausing(self, waiting: Deferred[Any]) -> None:
        """Read nothing until *waiting* fires."""
        self._streams.transport.pauseProducing()  # type: ignore[union-attr]
        try:
            await waiting
        finally:
            self._streams.transport.resumeProducing()  # type: ignore[union-attr]

    def crowded(self) -> Deferred[None] | None:
        """None if one more line may be sent; else a Deferred that fires when that is so."""
        return None

    def send_line(self, line: str, number: int) -> Receipt | None:
        """Send line number *number*; return its receipt if one is asked for.

        :raises MessageTooLarge: the line is too long.
        """
        if self._receipts:
            return self._node.send(line, receipt=True)
        self._node.send(line)
        return None

    def line_too_long(self, number: int) -> None:
        """Say that line number *number* was not sent."""
        _log.warn("line {line} has over {limit} bytes and was not sent", line=number, limit=LINE_BYTES)

    def _send_line(self, line: str | None) -> None:
        number = self._count + 1
        try:
            if line is not None and (receipt := self.send_line(line, number)) is not None:
                self._followed[receipt] = number
        except MessageTooLarge:  # each byte that is no UTF-8 became four characters
            line = None
        self._count = number
        if line is None:
            self._too_long += 1
            self.line_too_long(number)

    def _on_receipt(self, receipt: Receipt) -> None:
        if (line := self._followed.get(receipt)) is None:
            return
        if receipt.is_complete or receipt.closed is not None:
            del self._followed[receipt]
            self._given_up += receipt.closed is not None
        self.receipt_changed(line, receipt)

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return  # a signal has stopped the process meanwhile
        if not failure.check(MeshError):
            _log.failure("reading standard input failed", failure)
        end_process(self._reactor, failure.getErrorMessage())
