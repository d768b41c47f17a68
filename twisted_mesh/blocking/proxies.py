"""Thread-safe proxies of the messages, links and receipts that a socket hands to the application.

Contract: any thread may use a proxy.  In the reactor's thread, a method that sends returns a Deferred.  In
any other thread the method returns once the message is handed over, or the reply is acknowledged; if that
fails, it raises the error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NoReturn, Self, TypeVar

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_mesh import flags
from twisted_mesh.blocking.reactor_thread import ReactorThread
from twisted_mesh.delivery.receipts import Receipt as ServiceReceipt
from twisted_mesh.errors import NotDelivered
from twisted_mesh.eventloop.deferreds import unreachable
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.message import Message, Replier

T = TypeVar("T")


def thread_safe(thread: ReactorThread, message: Message) -> Message:
    """A copy of *message* that any thread can reply to."""
    replier = _Replier(thread, message.source.replier)
    source = msgspec.structs.replace(message.source, replier=replier)
    return msgspec.structs.replace(message, source=source)


class _Proxy(Generic[T]):
    """An object of the service, for any thread; two proxies of one object are equal.

    :ivar inner: the service's object, which only the reactor's thread may use.
    """

    __slots__ = ("_thread", "inner")

    def __init__(self, thread: ReactorThread, inner: T) -> None:
        self._thread = thread
        self.inner = inner

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Proxy) and self.inner is other.inner

    def __hash__(self) -> int:
        return hash(self.inner)


class _Replier(_Proxy[Replier]):
    """Sends the replies to a message (message.Replier)."""

    __slots__ = ()

    def reply_to(self, origin: bytes, packets: tuple[object, ...]) -> Any:
        return self._thread.call(self.inner.reply_to, origin, packets)


class Receipt(_Proxy[ServiceReceipt]):
    """Shows which members have one message; each set is as it is when it is read."""

    __slots__ = ()

    @property
    def id(self) -> tuple[bytes, int, int] | None:
        """``(origin, epoch, sequence)`` of the message once it has a number; else None."""
        return self.inner.id

    @property
    def is_complete(self) -> bool:
        """Whether every member that should have the message has taken it."""
        return self.inner.is_complete

    @property
    def closed(self) -> str | None:
        """Why the receipt is updated no more, though it is not complete; or None."""
        return self.inner.closed

    @property
    def delivered(self) -> frozenset[bytes]:
        """The ids of the members that have taken the message: each has signed for that."""
        return self._look(lambda: self.inner.delivered)

    @property
    def pending(self) -> frozenset[bytes]:
        """The ids of the members that should have the message and have not confirmed it yet."""
        return self._look(lambda: self.inner.pending)

    @property
    def missed(self) -> frozenset[bytes]:
        """The ids of members that will not get the message: they began later, lost it or are gone."""
        return self._look(lambda: self.inner.missed)

    def complete(self, timeout: float | None = None) -> Self:
        """Wait until every member that should have the message has taken it.

        :param timeout: seconds; 0 if less; None to wait without a limit.
        :return: this receipt.
        :raises ReceiptTimeout: a member has not taken the message in time; NotDelivered: a member will not
            get it, or the receipt is closed.  Both errors hold this receipt.
        :raises NoMembers: no member should have the message.
        :raises NotRunning: the socket is closed first; LocalError: *timeout* is no number.
        :raises RuntimeError: in the reactor's thread; there, listen to the event ``receipt``.
        """
        self._thread.wait(lambda: self.inner.complete(timeout).addErrback(self._with_this))
        return self

    def _with_this(self, failure: Failure) -> NoReturn:
        failure.trap(NotDelivered)
        assert isinstance(failure.value, NotDelivered)
        raise type(failure.value)(str(failure.value), self)

    def _look(self, look: Callable[[], frozenset[bytes]]) -> frozenset[bytes]:
        seen: frozenset[bytes] = self._thread.call(look)
        return seen

    def __repr__(self) -> str:
        shown: str = self._thread.call(repr, self.inner)
        return shown


class Link(_Proxy[MeshProtocol | None]):
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

    def whisper(self, *packets: object) -> Any:
        """Send a message to this peer alone.

        :raises Unreachable: the link is closed.
        :raises TypeError: and ValueError for packets that cannot be sent.
        """
        return self.send(flags.whisper, flags.whisper, *packets)

    def send(self, main: int, type: int, *packets: object) -> Any:
        """As :meth:`whisper`, with another *type*.

        :param main: must be ``flags.whisper``; the socket sends messages to everyone.
        """
        inner = self.inner

        def send() -> Deferred[None]:
            if inner is None:
                return unreachable("the link this message came over is gone")
            return inner.send(main, type, *packets)

        return self._thread.call(send)

    def __repr__(self) -> str:
        return "<link that is gone>" if self.inner is None else repr(self.inner)
