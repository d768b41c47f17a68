"""``twistd mesh --stdio``: lines in, lines out; on a terminal, a prompt.

Contract: each line typed is broadcast as a str.  Each message whose packets are all str is printed as
exactly one line; nothing else is printed on standard output.  After the end of input, the process ends with
status 0 once a neighbour has every line; with ``--receipts``, once every member has every line.  If that
fails, the process ends with status 1 and the reason.

If input and output are a terminal, :class:`Chat` takes the place of :class:`Stdio`: each message is shown
with the name of its author, above the line that is typed, and some lines are commands.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from twisted.internet.defer import DeferredList

from twisted_mesh.cli.lines import LineInput
from twisted_mesh.cli.terminal import STDERR, STDIN, STDOUT, end_process, standard_error
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.errors import NotHandedOver
from twisted_mesh.escaping import for_terminal, name_of
from twisted_mesh.grammar import were
from twisted_mesh.message import Member, Message
from twisted_mesh.service import MeshService

#: Line ends within a message are escaped, so that the message is one line.
_LINE_ENDS: Final = {ord("\n"): r"\n", ord("\r"): r"\r"}
_WELCOME: Final = "Type a line to send it to all members. /help tells more; Ctrl-D ends the node."
#: What ``/help`` prints.
_HELP: Final = (
    "A line that is entered is sent to all members. Ctrl-D hands over the lines, and ends the node.",
    "/who    the members, and whether they are up",
    "/help   this text",
    "//...   sends a line that begins with one slash",
)


class Stdio(LineInput):
    """Broadcasts the lines of standard input, and prints messages of text on standard output."""

    ends_with_input = True

    def __init__(self, reactor: Any, node: MeshService, receipts: bool = False) -> None:
        super().__init__(reactor, node, receipts)
        self._is_terminal = os.isatty(STDOUT)

    @classmethod
    def here(cls) -> type[Stdio]:
        """The class for the standard streams of this process."""
        has_terminal = os.isatty(STDIN) and os.isatty(STDOUT)
        return Chat if has_terminal and os.environ.get("TERM", "dumb") != "dumb" else cls

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
        print(f"mesh: {text}", file=standard_error)

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


class Chat(Stdio):
    """``--stdio`` on a terminal: a prompt, the names of authors, and commands."""

    def __init__(self, reactor: Any, node: MeshService, receipts: bool = False) -> None:
        super().__init__(reactor, node, receipts)
        self._labels: Counter[str | None] | None = None  # how many nodes have each label, once asked for
        node.on("member", self._member_changed)

    def open(self, descriptor: int) -> None:
        """Show a prompt."""
        from twisted_mesh.eventloop.prompt import Prompt  # and with it a library of 0.2 s

        prompt = Prompt(self._reactor, self._streams)
        if os.isatty(STDERR):
            standard_error.above = prompt.above
        prompt.start()
        self._streams.write(_WELCOME)

    def typed(self, data: bytes) -> None:
        """Carry out commands, and send the other lines; an empty line is not sent."""
        for line in data.splitlines():
            if line.startswith(b"/") and not line.startswith(b"//"):
                self._command(line.decode("utf-8", "backslashreplace"))
            elif line:
                super().typed(line.removeprefix(b"/") if line.startswith(b"//") else line)
                super().typed(b"\n")

    def as_line(self, message: Message) -> str | None:
        """``label: text``, or ``label, to this node alone: text``; None if a packet is no str."""
        if (text := super().as_line(message)) is None:
            return None
        alone = ", to this node alone" if message.sequence is None else ""
        return f"{self._author(message.sender)}{alone}: {text}"

    def _member_changed(self, _: Member) -> None:
        self._labels = None

    def _author(self, node_id: bytes) -> str:
        """The label of a node; with the beginning of its id if it has none, or another has the same."""
        member = self._node.members.get(node_id)
        label = None if member is None else member.label
        if self._labels is None:
            self._labels = Counter(member.label for member in self._node.members.values())
            self._labels[self._node.status().node.label] += 1
        if label and self._labels[label] == 1:
            return for_terminal(label)
        return name_of(node_id.decode(), label)

    # ── commands ────────────────────────────────────────────────────────────────────

    def _command(self, line: str) -> None:
        match line.split():
            case ["/who"]:
                answer = list(self._who())
            case ["/help"]:
                answer = list(_HELP)
            case [name, *_]:
                known = "/who or /help" if name in ("/who", "/help") else "a command; /help tells them"
                answer = [f"{for_terminal(line)} is not {known}; with // in front it is sent as text"]
        for each in answer:
            self._streams.write(each)

    def _who(self) -> Iterator[str]:
        """The members, with their states; those that are up first."""
        own = self._node.status().node
        yield f"{name_of(own.id, own.label)}: this node"
        for member in sorted(self._node.members.values(), key=lambda each: (each.state != "up", each.id)):
            yield f"{name_of(member.id.decode(), member.label)}: {member.state}"
