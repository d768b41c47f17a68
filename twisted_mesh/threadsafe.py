"""Messages and links as the user of a socket holds them: in whatever thread.

Contract: in the reactor's thread what is sent gives a Deferred, as with a service's messages and
links; in any other it waits until it is handed over, and raises what prevents that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from twisted_mesh import flags
from twisted_mesh.message import Message, Replier
from twisted_mesh.outlet import unreachable
from twisted_mesh.protocol import MeshProtocol
from twisted_mesh.reactor_thread import ReactorThread


class Crossing:
    """Where what a service gives leaves the reactor's thread, and what its user sends enters it."""

    def __init__(self, thread: ReactorThread) -> None:
        self._thread = thread

    def message(self, message: Message) -> Message:
        """*message*, such that it can be replied to in any thread."""
        replier = _Replier(self, message.source.replier)
        source = msgspec.structs.replace(message.source, replier=replier)
        return msgspec.structs.replace(message, source=source)

    def link(self, link: MeshProtocol | None) -> Link:
        """*link*, such that it can be used in any thread."""
        return Link(self, link)

    def send(self, send: Callable[[], Deferred[None]]) -> Any:
        """Call *send*, which whispers; None, or in the reactor's thread its Deferred."""
        return self._thread.call(send)


class _Replier:
    """Sends the replies to a message (message.Replier)."""

    def __init__(self, crossing: Crossing, replier: Replier) -> None:
        self._crossing = crossing
        self._replier = replier

    def reply_to(self, member: bytes, packets: tuple[object, ...]) -> Any:
        """Whisper *packets* to the node with the id *member*."""
        reply = self._replier.reply_to
        return self._crossing.send(lambda: reply(member, packets))


class Link:
    """A direct connection to another node.

    :ivar inner: the service's link, of the reactor's thread alone; None where it is gone.
    """

    __slots__ = ("_crossing", "inner")

    def __init__(self, crossing: Crossing, inner: MeshProtocol | None) -> None:
        self._crossing = crossing
        self.inner = inner

    @property
    def id(self) -> bytes | None:
        """The peer's id, base58, once it is proven."""
        return None if self.inner is None else self.inner.id

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the peer says it can be dialled; where it came from, if it says nothing."""
        return None if self.inner is None else self.inner.address

    #: What py2p calls it.
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
        """Send a message of *type* to this peer alone; as :meth:`whisper`.

        :param main: must be ``flags.whisper``: to everyone is the socket's to send.
        """
        inner = self.inner

        def send() -> Deferred[None]:
            if inner is None:
                return unreachable("the link this message came over is gone")
            return inner.send(main, type, *packets)

        return self._crossing.send(send)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Link) and self.inner is other.inner

    def __hash__(self) -> int:
        return hash(self.inner)

    def __repr__(self) -> str:
        return "<link that is gone>" if self.inner is None else repr(self.inner)
