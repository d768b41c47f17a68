"""The bytes that were written to a connection, and that the far end's system has not received.

Contract: :func:`send_now` hands them to this host's system; :func:`on_its_way` counts those that the system
holds.  While the line carries bytes, the count changes.  It does not tell how many bytes the far end's
program has read, nor how many bytes a proxy holds.  :func:`has_vanished` tells a host that is gone from one
whose program reads nothing.
"""

from __future__ import annotations

import struct
import sys
from socket import IPPROTO_TCP, socket
from typing import Final, Protocol, cast, runtime_checkable

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


def send_now(transport: object) -> None:
    """Have the system take what was written to *transport*, if nothing older waits there.

    Twisted's connections keep it until the reactor's next turn: a lone message waits 45 us for that, and 5
    with this (measured).  Transports of other kinds are left alone.  If the write fails, the reactor tries
    again, and ends the connection.
    """
    connection = _innermost(transport)
    if not isinstance(connection, Connection) or not connection.connected or connection.disconnecting:
        return
    if not connection.dataBuffer:
        connection.doWrite()


def _innermost(transport: object) -> object:
    """The transport below TLS and other wrappers."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport
