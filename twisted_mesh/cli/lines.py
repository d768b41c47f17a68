"""Lines typed, and what becomes of them.

Contract: each line typed is broadcast as a str.  Where the mesh takes no more for now, or the history
cannot be written, lines wait, and only a little more is read of standard input; with receipts it is read no
faster than they come in, as long as all members answer.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.cli.terminal import Door, end_process
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
from twisted_mesh.service import MeshService

LINE_BYTES: Final = 2**20 - 64  # the longest line that fits into a message
#: Characters read while no line is taken.  Some have to be, or the end of a short input would not be seen.
READ_AHEAD: Final = 64 * 1024
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


class LineInput(Door):
    """A door that broadcasts the lines typed, and may follow who has them.

    :cvar ends_with_input: whether the process ends when the input does.
    """

    ends_with_input = False

    def __init__(self, reactor: Any, node: MeshService, receipts: bool = False) -> None:
        """
        :param receipts: whether each line is sent with a receipt.
        """
        super().__init__(reactor, node)
        self._receipts = receipts
        self._splitter = LineSplitter(LINE_BYTES)
        self._lines: deque[str | None] = deque()
        self._count = 0  # of the lines that were sent, or could not be
        self._followed: dict[Receipt, int] = {}  # those not complete, each with its line's number
        self._given_up = 0  # of them
        self._too_long = 0
        self._sending = False
        self._refused: Deferred[None] | None = None  # fires when lines are taken again
        self._paced = receipts
        self._at_end = False
        if receipts:
            node.on("receipt", self._on_receipt)

    def typed(self, data: bytes) -> None:
        """Broadcast the lines that are complete."""
        self._lines.extend(self._splitter.feed(data))
        if self._refused is None:
            self._send_lines()
        else:
            self._read_a_little_ahead()

    def end_of_input(self) -> None:
        """Broadcast the rest."""
        self._lines.extend(self._splitter.end())
        self._at_end = True
        if self._refused is None:
            self._send_lines()
        else:
            self._limit(self._refused)

    async def all_sent(self) -> None:
        """The last line was sent."""

    def told(self, line: int, receipt: Receipt) -> None:
        """More is known of who has a line, by its number from 1 on."""

    @property
    def missing(self) -> int:
        """Lines that are not with everybody, or not known to be."""
        return sum(not receipt.is_complete for receipt in self._followed) + self._given_up

    def _send_lines(self) -> None:
        if not self._sending:
            self._sending = True
            Deferred.fromCoroutine(self._send()).addErrback(self._failed)

    async def _send(self) -> None:
        while self._lines:
            if self._paced and 2 * len(self._followed) >= self._node.config.receipts_limit:
                self._paced = await self._paused(self._oldest_is_complete())
                continue
            try:
                self._send_line(self._lines[0])
            except (Congested, StoreFull, KeyInUse) as refusal:
                await self._taken_again(refusal)
            else:
                self._lines.popleft()
        if self._at_end:
            await self.all_sent()
        self._sending = False

    async def _taken_again(self, refusal: Congested | StoreFull | KeyInUse) -> None:
        """Wait until lines are taken again: at the end of input for ``handover_timeout`` at most.

        :raises NotHandedOver: the time is over.
        """
        self._refused = waiting = self._node.drained()
        self._read_a_little_ahead()
        if self._at_end:
            self._limit(waiting)
        try:
            await waiting
        except CancelledError:
            is_full = isinstance(refusal, Congested)
            why = "too much waits that no neighbour has taken" if is_full else str(refusal)
            raise NotHandedOver(f"{lines_were(len(self._lines))} not sent: {why}") from None
        finally:
            self._refused = None
        self._terminal.transport.resumeProducing()  # type: ignore[union-attr]

    def _read_a_little_ahead(self) -> None:
        """Read no more once that much waits."""
        if sum(len(line or "") + 1 for line in self._lines) > READ_AHEAD:
            self._terminal.transport.pauseProducing()  # type: ignore[union-attr]

    def _limit(self, waiting: Deferred[None]) -> None:
        """The input is at its end: lines that are not taken in time never are."""
        if not self.ends_with_input:
            return
        call = self._reactor.callLater(self._node.config.handover_timeout, waiting.cancel)

        def over(result: Any) -> Any:
            if call.active():
                call.cancel()
            return result

        waiting.addBoth(over)

    async def _paused(self, waiting: Deferred[Any]) -> bool:
        """Read nothing until *waiting* fires; whether it gave something true."""
        self._terminal.transport.pauseProducing()  # type: ignore[union-attr]
        got = await waiting
        self._terminal.transport.resumeProducing()  # type: ignore[union-attr]
        return bool(got)

    def _oldest_is_complete(self) -> Deferred[bool]:
        """Fires with whether everybody has the oldest line that is followed, in ``handover_timeout``."""
        oldest = next(iter(self._followed))

        def never(failure: Failure) -> bool:
            failure.trap(NotDelivered, NoMembers)
            return False

        complete = oldest.complete(self._node.config.handover_timeout)
        return complete.addCallbacks(lambda _: True, never)

    def _send_line(self, line: str | None) -> None:
        try:
            if line is not None and self._receipts:
                receipt = self._node.send(line, receipt=True)
                self._followed[receipt] = self._count + 1
            elif line is not None:
                self._node.send(line)
        except MessageTooLarge:  # it grew: bytes that are no UTF-8 take four characters each
            line = None
        self._count += 1
        if line is None:
            self._too_long += 1
            text = "line {line} has over {limit} bytes and was not sent"
            _log.warn(text, line=self._count, limit=LINE_BYTES)

    def _on_receipt(self, receipt: Receipt) -> None:
        line = self._followed.get(receipt)
        if line is None:
            return
        if receipt.is_complete or receipt.closed is not None:
            del self._followed[receipt]
            self._given_up += receipt.closed is not None
        self.told(line, receipt)

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return  # stopped meanwhile, by a signal
        if not failure.check(MeshError):
            _log.failure("reading standard input failed", failure)
        end_process(self._reactor, failure.getErrorMessage())


def lines_were(count: int) -> str:
    """``1 line was`` or ``2 lines were``, for a sentence that goes on."""
    return "1 line was" if count == 1 else f"{count} lines were"
