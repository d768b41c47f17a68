"""What was written to a connection and has not come to the far end's system.

Contract: a figure that changes while a line takes what was written, and stays where nothing is taken.  It
says nothing of what the far end has read, and nothing of what a proxy in between holds.
"""

from __future__ import annotations

import struct
import sys
from socket import socket
from typing import Protocol, cast, runtime_checkable

from twisted.internet.interfaces import ISystemHandle
from twisted.protocols.policies import ProtocolWrapper

if sys.platform != "win32":
    from fcntl import ioctl
    from termios import TIOCOUTQ


@runtime_checkable
class Counts(Protocol):
    """A transport that knows it by itself, without a system."""

    def on_its_way(self) -> int: ...  # pragma: no cover


def on_its_way(transport: object) -> int:
    """Bytes that the system holds of what was written to *transport*; 0 where it does not say."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    if isinstance(transport, Counts):
        return transport.on_its_way()
    if sys.platform == "win32" or not ISystemHandle.providedBy(transport):
        return 0
    try:
        told = ioctl(cast(socket, transport.getHandle()), TIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # no socket of this kind, or a closed one
        return 0
    size: int = struct.unpack("i", told)[0]
    return size
