"""``twistd mesh --stdio``: lines in, lines out.

Contract: each line typed is broadcast as a str.  Each message whose packets are all str is printed as
exactly one line; nothing else is printed on standard output.  After the end of input, the process ends with
status 0 once a neighbour has every line; with ``--receipts``, once every member has every line.  If that
fails, the process ends with status 1 and the reason.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from twisted.internet.defer import DeferredList

from twisted_mesh.cli.escaping import for_terminal
from twisted_mesh.cli.lines import LineInput
from twisted_mesh.cli.terminal import STDOUT, end_process
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.errors import NotHandedOver
from twisted_mesh.message import Message
from twisted_mesh.runtime.handover import were
from twisted_mesh.service import MeshService

#: Line ends within a message are escaped, so that the message is one line.
_LINE_ENDS: Final = {ord("\n"): r"\n", ord("\r"): r"\r"}


class Stdio(LineInput):
    """Broadcasts the lines of standard input, and prints messages of text on standard output."""

    ends_with_input = True

    def __init__(self, reactor: Any, node: MeshService, receipts: bool = False) -> None:
        super().__init__(reactor, node, receipts)
        self._is_terminal = os.isatty(STDOUT)

    def as_line(self, message: Message) -> str | None:
        """The packets of *message*, joined by spaces; None if one of them is no str."""
        packets = message.packets[1:]
        if not all(isinstance(packet, str) for packet in packets):
            return None
        text = " ".join(packets)
        return for_terminal(text) if self._is_terminal else text.translate(_LINE_ENDS)

    def receipt_changed(self, line: int, receipt: Receipt) -> None:
        """Print to standard error how many members have the line."""
        has, missed = len(receipt.delivered), len(receipt.missed)
        text = f"line {line}: {has} of {has + len(receipt.pending) + missed} have it"
        if missed:
            text += f", {missed} missed it"
        if receipt.closed is not None:
            text += f"; {receipt.closed}"
        print(f"mesh: {text}", file=sys.__stderr__)

    async def all_sent(self) -> None:
        """Hand all lines over, then end the process."""
        seconds = self._node.config.handover_timeout
        try:
            await self._node.handed_over(seconds)
        except NotHandedOver:
            await self._node._outcomes()  # for the reason, or for a neighbour at the last moment
            late = self._node.config.close_timeout if self._node.routing_table else 0
            await self._node.handed_over(late)
        waiting = [receipt.complete(seconds) for receipt in self._followed]
        await DeferredList(waiting, consumeErrors=True)
        if self.running:  # else a signal has stopped the process meanwhile
            end_process(self._reactor, self._lines_missing())

    def _lines_missing(self) -> str | None:
        """How many lines did not reach everybody, in words; None if all lines did."""
        reasons = []
        if self._too_long:
            reasons.append(f"{were(self._too_long, 'line')} too long and not sent")
        if self.missing:
            reasons.append(f"{were(self.missing, 'line')} not known to be with everybody")
        return "; ".join(reasons) or None
