"""``twistd mesh --print``: messages and events as JSON lines.

Contract: each line is one JSON object (RFC 8259: no NaN).  The first is
``{"event": "listening", "port": …}``; after it, each message and each event is one line, with the values of
:mod:`~twisted_mesh.cli.json_values`.  With ``--receipts``, the lines of standard input are broadcast;
without, standard input is not read.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from twisted_mesh.cli.escaping import for_json
from twisted_mesh.cli.json_values import fields_of
from twisted_mesh.cli.lines import LineInput
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.message import CaughtUp, Gap, Member, Message, Refusal
from twisted_mesh.service import MeshService


class JsonLines(LineInput):
    """Prints a node's messages and events."""

    def __init__(self, reactor: Any, node: MeshService, receipts: bool = False) -> None:
        super().__init__(reactor, node, receipts)
        self._skipped = 0
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

    def input_descriptor(self) -> int:
        """Standard input with ``--receipts``; else an empty file: background jobs may not read."""
        return super().input_descriptor() if self._receipts else os.open(os.devnull, os.O_RDONLY)

    def typed(self, data: bytes) -> None:
        if self._receipts:
            super().typed(data)

    def receipt_changed(self, line: int, receipt: Receipt) -> None:
        _, epoch, sequence = receipt.id or (None, None, None)
        counts = {name: len(getattr(receipt, name)) for name in ("delivered", "pending", "missed")}
        end = {"complete": receipt.is_complete, "closed": receipt.closed}
        self._event("receipt", line=line, epoch=epoch, sequence=sequence, **counts, **end)

    def as_line(self, message: Message) -> str:
        return self._line("message", **fields_of(message))

    def _listening(self) -> None:
        ports = [port for _, port in self._node.addresses]
        self._event("listening", port=ports[0] if ports else None, ports=ports, id=self._node.id.decode())

    def _value(self, event: str, value: Member | Gap | Refusal | CaughtUp) -> None:
        self._event(event, **fields_of(value))

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
