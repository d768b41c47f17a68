"""Which told addresses are believed.

Contract: an address that came from a peer is that peer's word and no more.  It can send this node
wherever the peer likes, so what it may name is narrow: never a host that is no host, nor the place where
this node listens itself, and an own address (loopback) or one of the local link only where the peer itself
is there.  What a name resolves to is not looked at: one that leads to such an address is dialled.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final

from twisted_mesh.wire.membership import MAX_HOST

_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*")
#: What resolvers read as an IPv4 address, though it is not written like one: 127.1, 0x7f000001, 017.1.
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
#: What /etc/hosts of common systems has for the own host, beside ``localhost`` and all below it.
_OWN_NAMES: Final = frozenset(
    ("localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback")
)
#: Hosts whose kind need not be worked out again; the longest unused is forgotten (measured: a network of
#: overlays spends two thirds of its time on that else).
HOSTS_KNOWN: Final = 4096
_THIS_NETWORK: Final = IPv4Network("0.0.0.0/8")  # a connection to 0.0.0.0 goes to the own host


class Reach(Enum):
    """From where a host can be reached."""

    NOWHERE = "nowhere"  #: it is no host one can connect to
    OWN = "own"  #: from the host itself: loopback
    LINK = "link"  #: from its local link, without any router
    ANY = "any"  #: from wherever there is a route


@lru_cache(HOSTS_KNOWN)
def reach_of(host: str) -> Reach:
    """How far *host* reaches: an IP address, or a name as DNS has them."""
    try:
        address = ip_address(host)
    except ValueError:
        return _reach_of_name(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return Reach.OWN
    if address.is_link_local:
        return Reach.LINK
    nowhere = address.is_multicast or address.is_unspecified or address.is_reserved
    if nowhere or (isinstance(address, IPv4Address) and address in _THIS_NETWORK):
        return Reach.NOWHERE
    return Reach.ANY


def _reach_of_name(host: str) -> Reach:
    name = host.removesuffix(".").lower()
    if len(host) > MAX_HOST or not _NAME.fullmatch(name) or _NUMBER.fullmatch(name.rpartition(".")[2]):
        return Reach.NOWHERE
    return Reach.OWN if name in _OWN_NAMES or name.endswith(".localhost") else Reach.ANY


def believed(host: str, teller: str) -> bool:
    """Whether *host* may be dialled on the word of a peer whose link ends at *teller*.

    :param teller: "" where the connection has no host; it is then as good as far away.
    """
    if "%" in host:
        return False  # an interface of the teller's machine
    reach = reach_of(host)
    if reach in (Reach.OWN, Reach.LINK):
        return reach_of(teller) is reach
    return reach is Reach.ANY


@lru_cache(HOSTS_KNOWN)
def site_of(host: str) -> str:
    """What one owner of *host* can have any number of: of an IPv6 address its network of 64 bits.

    Ids and ports cost nothing; whoever is counted by this needs machines or networks.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host.removesuffix(".").lower()
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return address.packed[:8].hex()
    return str(getattr(address, "ipv4_mapped", None) or address)


Place = tuple[str, int]  # host, port
