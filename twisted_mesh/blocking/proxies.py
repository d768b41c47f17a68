"""Thread-safe proxies: the messages, links and receipts that the user of a socket holds, in any thread.

Contract: in the reactor's thread, sending returns a Deferred, as with a service's messages and links.  In
any other thread it waits until the message is handed over, a reply until it is acknowledged, and raises the
error that prevents that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, Self, overload

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


class ThreadSafeProxies:
    """Makes the proxies of one socket, and sends what its user sends in the reactor's thread."""

    def __init__(self, thread: ReactorThread) -> None:
        self._thread = thread

    def message(self, message: Message) -> Message:
        """*message*, which can be replied to in any thread."""
        replier = _Replier(self, message.source.replier)
        source = msgspec.structs.replace(message.source, replier=replier)
        return msgspec.structs.replace(message, source=source)

    def link(self, link: MeshProtocol | None) -> Link:
        """A proxy of *link*, for any thread."""
        return Link(self, link)

    @overload
    def receipt(self, receipt: ServiceReceipt) -> Receipt: ...

    @overload
    def receipt(self, receipt: None) -> None: ...

    def receipt(self, receipt: ServiceReceipt | None) -> Receipt | None:
        """A proxy of *receipt*, for any thread."""
        return None if receipt is None else Receipt(self._thread, receipt)

    def send(self, send: Callable[[], Deferred[None]]) -> Any:
        """Call *send* in the reactor's thread; return its Deferred there, and its result elsewhere."""
        return self._thread.call(send)


class _Replier:
    """Sends the replies to a message (message.Replier)."""

    def __init__(self, proxies: ThreadSafeProxies, replier: Replier) -> None:
        self._proxies = proxies
        self._replier = replier

    def reply_to(self, origin: bytes, packets: tuple[object, ...]) -> Any:
        """Send *packets* to the node *origin* alone."""
        reply = self._replier.reply_to
        return self._proxies.send(lambda: reply(origin, packets))


class Receipt:
    """Who has one message; each set is as it is when it is read.

    :ivar inner: the service's receipt, of the reactor's thread alone.
    """

    __slots__ = ("_thread", "inner")

    def __init__(self, thread: ReactorThread, inner: ServiceReceipt) -> None:
        self._thread = thread
        self.inner = inner

    @property
    def id(self) -> tuple[bytes, int, int] | None:
        """``(origin, epoch, sequence)`` of the message, once it has a number; else None."""
        return self.inner.id

    @property
    def is_complete(self) -> bool:
        """Whether every member that should have the message has taken it."""
        return self.inner.is_complete

    @property
    def closed(self) -> str | None:
        """Why the receipt is not kept up any more, though it is not complete; or None."""
        return self.inner.closed

    @property
    def delivered(self) -> frozenset[bytes]:
        """The ids of the members that have taken it; each has signed that."""
        return self._look(lambda: self.inner.delivered)

    @property
    def pending(self) -> frozenset[bytes]:
        """The ids of the members that should have it and have not said so yet."""
        return self._look(lambda: self.inner.pending)

    @property
    def missed(self) -> frozenset[bytes]:
        """The ids of the members that will not get it: they began later, lost it, or are gone for good."""
        return self._look(lambda: self.inner.missed)

    def complete(self, timeout: float | None = None) -> Self:
        """Wait until every member that should have the message has taken it.

        :param timeout: seconds; 0 if less; None for as long as it takes.
        :return: this receipt.
        :raises ReceiptTimeout: a member has not taken it yet; NotDelivered: a member will not get it, or
            nobody can know any more.  Both errors hold this receipt.
        :raises NoMembers: there is no member that should have it.
        :raises NotRunning: the socket is closed first; LocalError: *timeout* is no number.
        :raises RuntimeError: in the reactor's thread; there the event ``receipt`` tells of changes.
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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Receipt) and self.inner is other.inner

    def __hash__(self) -> int:
        return hash(self.inner)

    def __repr__(self) -> str:
        shown: str = self._thread.call(repr, self.inner)
        return shown


class Link:
    """A direct connection to another node.

    :ivar inner: the service's link, of the reactor's thread alone; None if it is gone.
    """

    __slots__ = ("_proxies", "inner")

    def __init__(self, proxies: ThreadSafeProxies, inner: MeshProtocol | None) -> None:
        self._proxies = proxies
        self.inner = inner

    @property
    def id(self) -> bytes | None:
        """The peer's id, base58, once it is proven."""
        return None if self.inner is None else self.inner.id

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the peer says it can be dialled; if it does not say, where it came from."""
        return None if self.inner is None else self.inner.address

    #: py2p's name of it.
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

        :param main: must be ``flags.whisper``; messages to everyone are sent by the socket.
        """
        inner = self.inner

        def send() -> Deferred[None]:
            if inner is None:
                return unreachable("the link this message came over is gone")
            return inner.send(main, type, *packets)

        return self._proxies.send(send)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Link) and self.inner is other.inner

    def __hash__(self) -> int:
        return hash(self.inner)

    def __repr__(self) -> str:
        return "<link that is gone>" if self.inner is None else repr(self.inner)
