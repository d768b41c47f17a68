"""``twistd mesh --print``: messages and events as JSON lines.

Contract: each line is one JSON object (RFC 8259: no NaN).  The first is
``{"event": "listening", "port": …}``; after it, each message and each event is one line, with the values of
:mod:`~twisted_mesh.cli.json_values`.  With ``--receipts``, the lines of standard input are broadcast.  With
``--typed``, each of them is a message as JSON, for all members or for one; each that is not sent is told.
Without the two, standard input is not read.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_mesh.cli.json_values import fields_of, from_json
from twisted_mesh.cli.lines import LINE_BYTES, LineInput
from twisted_mesh.delivery.names import member_named
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.escaping import for_json
from twisted_mesh.eventloop.deferreds import WaitingDeferreds
from twisted_mesh.flags import broadcast, whisper
from twisted_mesh.message import CaughtUp, Gap, Member, Message, Refusal
from twisted_mesh.service import MeshService

#: Direct messages that wait for their acknowledgement while more input is read (guess).
DIRECTS: Final = 256


class Typed(msgspec.Struct, forbid_unknown_fields=True):
    """A line of ``--typed``.

    :ivar packets: the values of the message, as :mod:`~twisted_mesh.cli.json_values` reads them.
    :ivar type: the application's own type; None for the usual one.
    :ivar to: an id, the beginning of one or a label: the member that gets the message alone.
    """

    packets: list[Any]
    type: int | None = None
    to: str | None = None


_EXAMPLE: Final = '{"packets": […]}, with type and to where they are wanted'
_decode: Final = msgspec.json.Decoder(Typed).decode


class JsonLines(LineInput):
    """Prints a node's messages and events.

    :ivar typed_lines: whether each line of standard input is a :class:`Typed`.
    """

    typed_lines = False

    def __init__(self, reactor: Any, node: MeshService, receipts: bool = False) -> None:
        super().__init__(reactor, node, receipts)
        self._skipped = 0
        self._printed = 0  # messages
        self._replaying = False  # whether messages from before the start are not all printed
        self._caught_up = False
        self._directs = 0  # direct messages that are not acknowledged
        self._landed = WaitingDeferreds[None]()
        node.on(
            "connect", lambda _: self._event("connect", peers=[id.decode() for id in node.routing_table])
        )
        node.on("disconnect", lambda _: self._event("disconnect"))
        for event in ("caught_up", "member", "gap", "refused"):
            node.on(event, partial(self._value, event))
        node.on("failure", lambda failure: self._event("failure", error=failure.getErrorMessage()))

    def startService(self) -> None:
        """Print where the node listens, then each message and event."""
        super().startService()
        # If the node cannot listen, tap.Process says so.
        self._node.ready().addCallbacks(lambda _: self._listening(), lambda _: None)
        if self._node._replays:
            self._replaying = True
            self._node._caught_up().addCallbacks(self._has_caught_up, lambda _: None)

    @property
    def _reads(self) -> bool:
        return self._receipts or self.typed_lines

    def input_descriptor(self) -> int:
        """Standard input if it is read; else an empty file: background jobs may not read."""
        return super().input_descriptor() if self._reads else os.open(os.devnull, os.O_RDONLY)

    def typed(self, data: bytes) -> None:
        if self._reads:
            super().typed(data)

    def crowded(self) -> Deferred[None] | None:
        return self._landed.wait() if self._directs >= DIRECTS else None

    def send_line(self, line: str, number: int) -> Receipt | None:
        """As for text; with ``--typed`` a line that cannot be sent is told as ``unsent``."""
        if not self.typed_lines:
            return super().send_line(line, number)
        try:
            told = _decode(line)
            packets = from_json(told.packets)
            if told.to is not None:
                self._send_to(told.to, packets, whisper if told.type is None else told.type, number)
                return None
            type_ = broadcast if told.type is None else told.type
            if self._receipts:
                return self._node.send(*packets, type=type_, receipt=True)
            self._node.send(*packets, type=type_)
        except (msgspec.MsgspecError, RecursionError) as error:
            self._unsent(number, f"a line is {_EXAMPLE}: {error}")
        except (TypeError, ValueError) as error:
            self._unsent(number, str(error))
        return None

    def line_too_long(self, number: int) -> None:
        super().line_too_long(number)
        if self.typed_lines:
            self._unsent(number, f"it has over {LINE_BYTES} bytes")

    def _send_to(self, name: str, packets: list[Any], type_: int, number: int) -> None:
        member = member_named(name, self._node.members.values()).id

        def over(result: Failure | None) -> None:
            self._directs -= 1
            if result is None:
                self._event("acknowledged", line=number, to=member.decode())
            else:
                self._unsent(number, result.getErrorMessage())
            self._landed.happened(None)

        sent = self._node.send_to(member, *packets, type=type_)
        self._directs += 1
        sent.addBoth(over)

    def _unsent(self, number: int, why: str) -> None:
        self._event("unsent", line=number, error=why)

    def receipt_changed(self, line: int, receipt: Receipt) -> None:
        _, epoch, sequence = receipt.id or (None, None, None)
        counts = {name: len(getattr(receipt, name)) for name in ("delivered", "pending", "missed")}
        end = {"complete": receipt.is_complete, "closed": receipt.closed}
        self._event("receipt", line=line, epoch=epoch, sequence=sequence, **counts, **end)

    def as_line(self, message: Message) -> str:
        self._printed += 1
        return self._line("message", **fields_of(message, self._node._label_of))

    def nothing_waits(self) -> None:
        """Print ``replayed``, once, if that is so."""
        if self._replaying and self._caught_up:
            self._replaying = False
            self._streams.write(self._line("replayed", messages=self._printed))

    def _has_caught_up(self, _: None) -> None:
        self._caught_up = True
        if self._queue is not None and self._queue.is_empty:
            self.nothing_waits()

    def _listening(self) -> None:
        ports = [port for _, port in self._node.addresses]
        self._event("listening", port=ports[0] if ports else None, ports=ports, id=self._node.id.decode())

    def _value(self, event: str, value: Member | Gap | Refusal | CaughtUp) -> None:
        self._event(event, **fields_of(value, self._node._label_of))

    def _event(self, event: str, **fields: Any) -> None:
        """Print an event; if the output is full, count it for a later "skipped" event instead."""
        if self._streams.full is not None or self._streams.transport is None:
            self._skipped += 1
            return
        if self._skipped:
            skipped, self._skipped = self._skipped, 0
            self._streams.write(self._line("skipped", events=skipped))
        self._streams.write(self._line(event, **fields))

    @staticmethod
    def _line(event: str, **fields: Any) -> str:
        return for_json({"event": event, **fields})
