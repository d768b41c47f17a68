"""The values that the application gets: messages, members, gaps and refusals.

Contract: a :class:`Message` never changes; :attr:`Message.packets` is a fresh list each time.  The garbage
collector does not look into messages, which saves a tenth of the time of receiving (measured).  So no value
in a message may refer back to the message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import msgspec
from twisted.internet.defer import Deferred

from twisted_mesh.errors import LocalError, WrongType, WrongValue

#: Origin and epoch of the author's run, and the number in that run; below 0 for direct messages.
MessageId = tuple[bytes, int, int]
#: A value that can be sent.  Tuples arrive as lists; other classes of these kinds raise TypeError.
Packet: TypeAlias = "str | bytes | int | float | Sequence[Packet] | Mapping[Any, Packet] | None"
_SHORT = 8  # characters of an id in texts for people
_SHOWN = 80  # characters of a payload that a log line shows


def check_broadcast_id(id: object) -> None:
    """Refuse an *id* that is not that of a message to everybody.

    :raises WrongType: and WrongValue.
    """
    match id:
        case (bytes() as origin, int(), int() as sequence):
            if not origin or sequence < 1:
                raise WrongValue(f"that is no id of a message to everybody: {id!r}")
        case _:
            raise WrongType(f"a message is named by its id, (origin, epoch, sequence), not {id!r}")


def each_of(packets: object) -> list[Any]:
    """The *packets* that ``send_many()`` is to send, each as a message of its own.

    :raises WrongType: this is one packet, or nothing that holds packets.
    """
    if isinstance(packets, str | bytes | bytearray | memoryview | Mapping) or not isinstance(
        packets, Iterable
    ):
        kind = type(packets).__name__
        raise WrongType(f"send_many() takes a list of packets, and sends a message with each: not {kind}")
    return list(packets)


class Replier(Protocol):
    """Sends replies for messages."""

    def reply_to(self, message: Message, packets: tuple[object, ...]) -> Deferred[None]:
        """Send *packets* to the sender of *message* only."""


class NoWayBack:
    """The :class:`Replier` of a copied message, which has no node to send with."""

    def reply_to(self, message: Message, packets: tuple[object, ...]) -> Deferred[None]:
        """Raise LocalError."""
        raise LocalError(
            "a copy of a message cannot be replied to: reply to the one that came, or use send_to()"
        )


class Source(msgspec.Struct, frozen=True, gc=False):
    """The facts that are the same for all messages of a batch.

    :ivar run: the author's origin, and the epoch of its run.
    :ivar sender: the author's id, base58.
    :ivar time: the author's clock when the batch was sent, seconds since 1970.
    :ivar verified: whether the author is proven.
    """

    run: tuple[bytes, int]
    sender: bytes
    time: float
    replier: Replier
    verified: bool = True

    def __reduce__(self) -> tuple[type[Source], tuple[object, ...]]:
        return Source, (self.run, self.sender, self.time, NoWayBack(), self.verified)


class Message(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A message as it was received.

    It can be pickled and deep-copied; such a copy cannot be replied to.

    :ivar sequence: the number of the message in its author's run, or None for a whisper or direct message.
    :ivar number: of a message that was sent to this node alone, by ``send_to`` or ``reply``:
        its sender had sent so many in its run, to whichever node; else 0.
    :ivar in_reply_to: the :attr:`id` of the message that it answers, or None.
    """

    entry: Sequence[Any]
    sequence: int | None
    source: Source
    number: int = 0
    in_reply_to: MessageId | None = None

    @property
    def packets(self) -> list[Any]:
        """``[type, *packets]``, a fresh list; never put the message into one of its own lists or dicts."""
        return [*self.entry[1:]]

    @property
    def type(self) -> int:
        """0 for messages of ``send``, 2 for replies and whispers, or the application's own number."""
        type_: int = self.entry[1]
        return type_

    @property
    def sender(self) -> bytes:
        """The author's id, base58."""
        return self.source.sender

    @property
    def time(self) -> float:
        """Seconds since 1970 by the author's clock when it sent the message; a whisper: when it came."""
        return self.source.time

    @property
    def id(self) -> MessageId | None:
        """``(origin, epoch, sequence)``, the same on every node; None for a whisper.

        Of a message to this node alone it is ``(origin, epoch, -number)``.
        """
        if self.sequence is not None:
            return *self.source.run, self.sequence
        return (*self.source.run, -self.number) if self.number else None

    @property
    def verified(self) -> bool:
        """Whether the author is proven: by its signature, or for a whisper by the link's handshake.

        A whisper over a ``Plaintext`` link is not proven: a host in between can write into the link.
        """
        return self.source.verified

    def reply(self, *packets: Packet) -> Deferred[None]:
        """Send *packets* to the sender only, wherever in the mesh it is.

        :return: fires when the sender has acknowledged them; fails with
            :class:`~twisted_mesh.errors.Unreachable` after ``direct_timeout``.
        :raises TypeError: packets that cannot be sent; also ValueError.
        :raises LocalError: this is a copy, by ``pickle`` or ``copy.deepcopy``.
        """
        return self.source.replier.reply_to(self, packets)

    def __repr__(self) -> str:
        return f"message(type={self.type}, packets={self.packets[1:]!r}, sender={self.sender!r})"


class Gap(msgspec.Struct, frozen=True):
    """Messages that will not be delivered, of a run of *sender*: all with the numbers in *ranges*.

    :ivar sender: the author's id.
    :ivar first: the first of these numbers; :ivar last: the last one.
    :ivar reason: one sentence for people.
    :ivar ranges: pairs of a first and a last number: one pair, or several if the author causes so many gaps
        that some are told together.  Messages between two pairs are not in this gap.
    """

    sender: bytes
    epoch: int
    first: int
    last: int
    reason: str
    ranges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.ranges:
            msgspec.structs.force_setattr(self, "ranges", ((self.first, self.last),))


class Member(msgspec.Struct, frozen=True):
    """A member of the mesh as this node knew it at one time; the value does not change later.

    :ivar id: base58, as bytes.
    :ivar label: the member's name for people, at most 64 characters of any text, or None.
    :ivar tags: further facts that the member tells of itself, read-only.
    :ivar address: (host, port) at which the member says that others can dial it, or None.
    :ivar role: ``"member"``; guests are on no roster.
    :ivar state: ``"up"``; ``"suspect"``: a neighbour lost its link to the member without a BYE; ``"down"``:
        it was silent for too long; ``"left"``: it said that it stops; ``"gone"``: it is no longer on the
        roster.
    :ivar since: when this node noticed the state, in seconds since 1970 by its own clock.
    :ivar epoch: the number of the member's run, greater with each start.
    """

    id: bytes
    label: str | None
    tags: Mapping[str, str]
    address: tuple[str, int] | None
    role: str
    state: str
    since: float
    epoch: int

    def __post_init__(self) -> None:
        # All parts of the application share the value, so none of them may change it.
        msgspec.structs.force_setattr(self, "tags", MappingProxyType(dict(self.tags)))

    def __repr__(self) -> str:
        label = "" if self.label is None else f" {self.label!r}"
        return f"<member{label} {short(self.id)}, {self.state}>"

    def __reduce__(self) -> tuple[type[Member], tuple[object, ...]]:
        fields: dict[str, object] = msgspec.structs.asdict(self)
        return Member, tuple((fields | {"tags": dict(self.tags)}).values())

    def __hash__(self) -> int:
        return hash(self.id)


class Consumer(msgspec.Struct, frozen=True):
    """A named consumer of this node at one time; the value does not change later.

    :ivar name: as in ``messages(name=...)``.
    :ivar lag: how many messages have come that it has not taken.
    :ivar open: whether somebody has it open; :ivar since: since when that is so, in seconds since 1970.
    """

    name: str
    lag: int
    open: bool
    since: float


class Refusal(msgspec.Struct, frozen=True):
    """A connection that did not become a link.

    :ivar address: host and port of the far end, or None if unknown.
    :ivar outgoing: whether this node dialled.
    :ivar reason: a word of :class:`~twisted_mesh.errors.Reason`.
    :ivar detail: one sentence for people.
    """

    address: tuple[str, int] | None
    outgoing: bool
    reason: str
    detail: str


class CaughtUp(msgspec.Struct, frozen=True):
    """This node has got the messages that it lacked when it was linked.

    :ivar messages: how many have come; :ivar authors: of how many authors, 4096 at most.
    :ivar seconds: since the link.
    """

    messages: int
    authors: int
    seconds: float


def short(node_id: bytes) -> str:
    """The first characters of an id, by which people tell nodes apart."""
    return node_id[:_SHORT].decode("ascii", "replace")


def shown(packets: list[Any]) -> str:
    """*packets* as text, cut for a log line."""
    text = repr(packets)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
