"""The bytes that were written to a connection, and that the far end's system has not received.

Contract: :func:`write_now` hands them to this host's system, which holds them: :func:`on_its_way` counts
these.  While the line carries bytes, the count changes.  It does not tell how many bytes the far end's
program has read, nor how many bytes a proxy holds.  :func:`has_vanished` tells a host that is gone from one
whose program reads nothing.
"""

from __future__ import annotations

import struct
import sys
from socket import IPPROTO_TCP, socket
from typing import Any, Final, Protocol, cast, runtime_checkable

from twisted.internet.interfaces import ISystemHandle
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper

if sys.platform != "win32":
    from fcntl import ioctl
    from termios import TIOCOUTQ
if sys.platform == "linux":
    from socket import TCP_INFO

# Linux's struct tcp_info: repeats without an answer of data, and of questions whether there is room again;
# and at byte 56 the milliseconds since the last acknowledgement.
_TCP_INFO: Final = struct.Struct("=2xBB52xI")
_UNANSWERED: Final = 2  # repeats: a host that is there has answered each but perhaps the last


@runtime_checkable
class Counts(Protocol):
    """A transport that counts its bytes on their way itself, such as one in memory."""

    def on_its_way(self) -> int: ...  # pragma: no cover


def on_its_way(transport: object) -> int:
    """Bytes written to *transport* that this host's system still holds; 0 if the system does not tell."""
    transport = _innermost(transport)
    if isinstance(transport, Counts):
        return transport.on_its_way()
    if sys.platform == "win32" or not ISystemHandle.providedBy(transport):
        return 0
    try:
        told = ioctl(cast(socket, transport.getHandle()), TIOCOUTQ, bytes(4))
    except (OSError, ValueError, AttributeError):
        return 0  # the socket is of another kind, closed, or deleted by Twisted since it is lost
    size: int = struct.unpack("i", told)[0]
    return size


def has_vanished(transport: object, seconds: float) -> bool:
    """Whether the far end's system has answered nothing of *transport* for so many seconds, though asked.

    A system answers also while its program reads nothing.  False if this host's system does not tell.
    """
    transport = _innermost(transport)
    if sys.platform != "linux" or not ISystemHandle.providedBy(transport):
        return False
    try:
        told = cast(socket, transport.getHandle()).getsockopt(IPPROTO_TCP, TCP_INFO, _TCP_INFO.size)
        repeats, probes, silent = _TCP_INFO.unpack(told)
    except (OSError, AttributeError, struct.error):
        return False  # as of on_its_way()
    return bool(max(repeats, probes) >= _UNANSWERED and silent >= seconds * 1000)


def write_now(connection: Connection, data: bytes) -> None:
    """Write *data* to *connection*, and have the system take it in this call, if nothing older waits there.

    A connection of Twisted keeps what is written until the reactor's next turn, and has the reactor watch
    it meanwhile, by two more calls of the system.  A lone message waits 45 us for that turn (measured).
    What the system does not take waits as always.  If it takes nothing, since the connection is lost, the
    reactor tries again, and ends the connection.
    """
    left = memoryview(data)
    if connection.connected and not (connection.disconnecting or _waits(connection)):
        while left and isinstance(sent := connection.writeSomeData(cast(bytes, left)), int) and sent > 0:
            left = left[sent:]
    if left:
        connection.write(bytes(left))


def _waits(connection: Connection) -> bool:
    """Whether bytes were written that the system has not taken yet."""
    return bool(connection.dataBuffer or connection._tempDataBuffer)


class Records:
    """The connection below a session; it can gather the records that the session makes of one write.

    :ivar gathered: the records; None while they go to the connection.
    """

    __slots__ = ("connection", "gathered")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.gathered: list[bytes] | None = None

    @property
    def disconnecting(self) -> bool:
        """Whether the connection ends; the session asks that after each read."""
        return bool(self.connection.disconnecting)

    def write(self, record: bytes) -> None:
        if self.gathered is None:
            self.connection.write(record)
        else:
            self.gathered.append(record)

    def send(self) -> None:
        """Write what is gathered, at once."""
        gathered, self.gathered = self.gathered, None
        if gathered:
            write_now(self.connection, gathered[0] if len(gathered) == 1 else b"".join(gathered))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


def _innermost(transport: object) -> object:
    """The transport below TLS and other wrappers."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport.connection if isinstance(transport, Records) else transport
