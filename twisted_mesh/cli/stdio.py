"""``twistd mesh --stdio``: lines in, lines out.

Contract: each line typed is broadcast as a str, each message whose packets are all str is printed as
exactly one line; nothing else is on standard output.  At the end of input everything typed is handed to
a neighbour, and with ``--receipts`` to everybody, before the process ends with status 0, or it ends with
1 and the reason.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from twisted.internet.defer import DeferredList
from twisted.logger import Logger

from twisted_mesh.cli.lines import LineInput, lines_were
from twisted_mesh.cli.terminal import STDOUT, end_process
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.message import Message
from twisted_mesh.service import MeshService

#: A message is one line, whatever it holds.
_LINE_ENDS: Final = {ord("\n"): r"\n", ord("\r"): r"\r"}
#: Nor may a stranger's message move the cursor of a terminal, or worse: C0, DEL and C1 but the tab.
_CONTROLS: Final = {
    code: rf"\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != ord("\t")
} | _LINE_ENDS
_log = Logger()


class Stdio(LineInput):
    """Lines between the terminal and the mesh."""

    ends_with_input = True

    def __init__(self, reactor: Any, node: MeshService, receipts: bool = False) -> None:
        super().__init__(reactor, node, receipts)
        self._escapes = _CONTROLS if os.isatty(STDOUT) else _LINE_ENDS

    def shown(self, message: Message) -> str | None:
        """The packets joined by a space, if all are str."""
        packets = message.packets[1:]
        if not all(isinstance(packet, str) for packet in packets):
            return None
        return " ".join(packets).translate(self._escapes)

    def told(self, line: int, receipt: Receipt) -> None:
        """Say on standard error how many of how many have it."""
        has, missed = len(receipt.delivered), len(receipt.missed)
        text = f"line {line}: {has} of {has + len(receipt.pending) + missed} have it"
        if missed:
            text += f", {missed} missed it"
        if receipt.closed is not None:
            text += f"; {receipt.closed}"
        print(f"mesh: {text}", file=sys.__stderr__)

    def end_of_input(self) -> None:
        """Broadcast the rest, and end the process when all is sent."""
        if self.running:
            _log.info("end of input: the node ends when what was typed is handed over")
        super().end_of_input()

    async def all_sent(self) -> None:
        """Hand everything over, then end the process."""
        seconds = self._node.config.handover_timeout
        await self._node.handed_over(seconds)
        waiting = [receipt.complete(seconds) for receipt in self._followed]
        await DeferredList(waiting, consumeErrors=True)
        if self.running:  # not stopped meanwhile, by a signal
            end_process(self._reactor, self._told_at_end())

    def _told_at_end(self) -> str | None:
        reasons = []
        if self._too_long:
            reasons.append(f"{lines_were(self._too_long)} too long and not sent")
        if self.missing:
            reasons.append(f"{lines_were(self.missing)} not known to be with everybody")
        return "; ".join(reasons) or None
