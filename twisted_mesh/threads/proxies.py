"""Proxies of a node's messages and links, for code outside the reactor's thread.

Contract: a method that sends calls the node in the reactor's thread.  The proxy's :class:`Caller` decides
what the method returns: it waits for the result, or returns an awaitable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_mesh import flags
from twisted_mesh.delivery.query import Query
from twisted_mesh.delivery.receipts import HolderIds
from twisted_mesh.delivery.receipts import Receipt as ServiceReceipt
from twisted_mesh.errors import NotDelivered
from twisted_mesh.eventloop.deferreds import unreachable
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.message import Message, MessageId, Packet, Replier

T = TypeVar("T")


class Caller(Protocol):
    """Calls functions in the reactor's thread, for code outside it."""

    def call(self, f: Callable[..., Any], *args: Any) -> Any:
        """Call *f*; the result of *f*, or of the Deferred that *f* returns, or an awaitable of it."""


def with_replies(caller: Caller, message: Message) -> Message:
    """A copy of *message* whose replies *caller* sends."""
    replier = _Replier(caller, message.source.replier)
    source = msgspec.structs.replace(message.source, replier=replier)
    return msgspec.structs.replace(message, source=source)


class Proxy(Generic[T]):
    """An object of the service, for code outside the reactor's thread; two proxies of one are equal.

    :ivar inner: the service's object, which only the reactor's thread may use.
    """

    __slots__ = ("_caller", "inner")

    def __init__(self, caller: Caller, inner: T) -> None:
        self._caller = caller
        self.inner = inner

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Proxy) and self.inner is other.inner

    def __hash__(self) -> int:
        return hash(self.inner)


class _Replier(Proxy[Replier]):
    """Sends the replies to a message (message.Replier)."""

    __slots__ = ()

    def reply_to(self, message: Message, packets: tuple[object, ...]) -> Any:
        return self._caller.call(self.inner.reply_to, message, packets)


class ReceiptProxy(Proxy[ServiceReceipt], HolderIds):
    """The part of a receipt that any thread can read as it is."""

    __slots__ = ()

    @property
    def id(self) -> MessageId | None:
        """``(origin, epoch, sequence)`` of the message once it has a number; else None."""
        return self.inner.id

    @property
    def is_complete(self) -> bool:
        """Whether every member that should have the message has taken it."""
        return self.inner.is_complete

    @property
    def forgotten(self) -> Mapping[bytes, bytes]:
        """The ids of members in :attr:`missed` that others had forgotten, each with the id of who asked."""
        missed = self._holders().missed
        return self.inner.forgotten_among(missed)

    @property
    def closed(self) -> str | None:
        """Why the receipt is updated no more, though it is not complete; or None."""
        return self.inner.closed

    def _completion(self, timeout: float | None) -> Deferred[ServiceReceipt]:
        """``complete(timeout)`` of the service's receipt; its errors hold this proxy instead."""
        return self.inner.complete(timeout).addErrback(self._with_this)

    def _with_this(self, failure: Failure) -> NoReturn:
        failure.trap(NotDelivered)
        assert isinstance(failure.value, NotDelivered)
        raise type(failure.value)(str(failure.value), self)


def next_answer(query: Query) -> Deferred[Message | None]:
    """Fires with the next answer to *query*, or with None if there will be none."""

    async def take() -> Message | None:
        return await anext(query, None)

    return Deferred.fromCoroutine(take())


class Link(Proxy[MeshProtocol | None]):
    """A direct connection to another node; *inner* is None if it is gone."""

    __slots__ = ()

    @property
    def id(self) -> bytes | None:
        """The peer's id, base58, once it is proven."""
        return None if self.inner is None else self.inner.id

    @property
    def address(self) -> tuple[str, int] | None:
        """The address at which the peer says it can be dialled; else that from which it connected."""
        return None if self.inner is None else self.inner.address

    #: py2p's name of *address*.
    addr = address

    @property
    def outgoing(self) -> bool:
        """Whether this node dialled."""
        return self.inner is not None and self.inner.outgoing

    def whisper(self, *packets: Packet) -> Any:
        """Send a message to this peer alone.

        :raises Unreachable: the link is closed.
        :raises TypeError: and ValueError for packets that cannot be sent.
        """
        return self.send(flags.whisper, flags.whisper, *packets)

    def send(self, main: int, type: int, *packets: Packet) -> Any:
        """As :meth:`whisper`, with another *type*.

        :param main: must be ``flags.whisper``; the socket sends messages to everyone.
        """
        inner = self.inner

        def send() -> Deferred[None]:
            if inner is None:
                return unreachable("the link this message came over is gone")
            return inner.send(main, type, *packets)

        return self._caller.call(send)

    def __repr__(self) -> str:
        return "<link that is gone>" if self.inner is None else repr(self.inner)
