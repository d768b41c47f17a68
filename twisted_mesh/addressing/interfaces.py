"""The addresses of this host's interfaces, and the addresses at which its default routes begin.

Contract: no packet is sent, and no call waits.  If the system has no getifaddrs(), as on Windows, no
interface is found.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from ctypes import POINTER, Structure, byref, c_char_p, c_uint, c_void_p
from typing import Any, Final

_UP: Final = 1  # IFF_UP, the same on every system that has getifaddrs()
#: By family: at which byte of a sockaddr the address begins, and how many bytes it has.
_PLACES: Final = {socket.AF_INET: (4, 4), socket.AF_INET6: (8, 16)}
#: Addresses of no real host (RFC 5737, RFC 3849), so that the default route leads there.
_FAR: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


class _Interface(Structure):
    """The fields of ``struct ifaddrs`` up to the address; later fields differ between systems."""


_Interface._fields_ = [
    ("next", POINTER(_Interface)),
    ("name", c_char_p),
    ("flags", c_uint),
    ("address", c_void_p),
]


def interface_addresses() -> list[str]:
    """The IP addresses of the interfaces that are up, in the system's order, loopback included."""
    try:
        library: Any = ctypes.CDLL(None)
        ask, free = library.getifaddrs, library.freeifaddrs
    except (AttributeError, OSError, TypeError):
        return []
    first = POINTER(_Interface)()
    if ask(byref(first)) != 0:
        return []
    found: list[str] = []
    try:
        each = first
        while each:
            interface = each.contents
            if interface.flags & _UP and interface.address:
                found += _address(interface.address)
            each = interface.next
    finally:
        free(first)
    return found


def _address(at: int) -> list[str]:
    """The IP address in the sockaddr at the memory address *at*; empty if it has none."""
    head = ctypes.string_at(at, 2)
    # On BSD the first byte is the length, and the second the family.
    family = int.from_bytes(head, sys.byteorder) if sys.platform == "linux" else head[1]
    if family not in _PLACES:
        return []
    begin, length = _PLACES[socket.AddressFamily(family)]
    return [socket.inet_ntop(family, ctypes.string_at(at + begin, length))]


def routed_address(family: socket.AddressFamily) -> str | None:
    """The address at which this host's default route begins; None if it has none."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Connecting a datagram socket sends nothing: the system only looks into its routing table.
            probe.connect((_FAR[family], 9))
            host: str = probe.getsockname()[0]
    except OSError:
        return None
    return host
