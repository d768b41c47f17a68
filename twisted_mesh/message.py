"""What the application is handed: messages, and the events that are no messages.

Contract: values.  A :class:`Message` never changes; :attr:`Message.packets` is a fresh list each time.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred

_SHOWN = 80  # characters of a payload in a log line or repr of a refusal


class Replier(Protocol):
    """What sends a reply on its way."""

    def reply_to(self, member: bytes, packets: tuple[object, ...]) -> Deferred[None]:
        """Whisper *packets* to the node with the id *member*."""
        ...  # pragma: no cover


class Source(msgspec.Struct, frozen=True):
    """What the messages of one batch share."""

    origin: bytes
    epoch: int
    sender: bytes
    time: float
    replier: Replier

    @property
    def run(self) -> tuple[bytes, int]:
        """The run the batch is of: origin and epoch."""
        return self.origin, self.epoch


class Message(msgspec.Struct, frozen=True, eq=False):
    """A message as it was received.

    :ivar sequence: its number in its author's run, or None for a whisper.
    """

    entry: list[Any]
    sequence: int | None
    source: Source

    @property
    def packets(self) -> list[Any]:
        """``[type, *packets]``, a fresh list."""
        return self.entry[1:]

    @property
    def type(self) -> int:
        """0 for what was sent with ``send``, 2 for replies and whispers, or the application's own."""
        type_: int = self.entry[1]
        return type_

    @property
    def sender(self) -> bytes:
        """The author's id, base58."""
        return self.source.sender

    @property
    def time(self) -> float:
        """The author's clock when it was sent, seconds since 1970; a whisper's arrival by ours."""
        return self.source.time

    @property
    def id(self) -> tuple[bytes, int, int] | None:
        """``(origin, epoch, sequence)``, the same on every node; None for a whisper."""
        if self.sequence is None:
            return None
        return self.source.origin, self.source.epoch, self.sequence

    @property
    def verified(self) -> bool:
        """Whether the author is proven: by its signature, or for a whisper by the link's."""
        return True

    def reply(self, *packets: object) -> Deferred[None]:
        """Whisper *packets* to the sender.

        :return: fires when the link to it has accepted them; fails with
            :class:`~twisted_mesh.errors.Unreachable` where there is no direct link to it.
        :raises TypeError: and ValueError for packets that cannot be sent.
        """
        return self.source.replier.reply_to(self.sender, packets)

    def __repr__(self) -> str:
        return f"message(type={self.type}, packets={self.entry[2:]!r}, sender={self.sender!r})"


class Gap(msgspec.Struct, frozen=True):
    """Messages that will not be delivered: numbers *first* to *last* of a run of *sender*.

    :ivar sender: the author's id.
    :ivar reason: why, one sentence.
    """

    sender: bytes
    epoch: int
    first: int
    last: int
    reason: str


class Refusal(msgspec.Struct, frozen=True):
    """A connection that did not become a link.

    :ivar address: of the far end, as far as known.
    :ivar outgoing: whether this node dialled.
    :ivar reason: a word of :class:`~twisted_mesh.errors.Reason`.
    :ivar detail: one sentence for people.
    """

    address: tuple[str, int] | None
    outgoing: bool
    reason: str
    detail: str


def shown(packets: list[Any]) -> str:
    """*packets* cut for a log line."""
    text = repr(packets)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
