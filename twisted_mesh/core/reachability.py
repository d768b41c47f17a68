"""Decides which of the addresses that peers tell may be dialled (*believed*).

Contract: a peer that tells an address can make this node dial any host it likes, so few are believed: IP
addresses only.  A name is not, since whoever tells it could have all nodes ask a name server of its choice;
the owner of a name looks it up itself (:mod:`~twisted_mesh.addressing.own_address`).  The place where this
node listens is never believed.  A loopback address, or an address of the local link, is believed only if
the peer itself connects from such an address.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final

from twisted_mesh.wire.membership import Contact

Place = tuple[str, int]  # host, port

#: Hosts in the caches of these functions, the longest unused is forgotten (measured: a simulated network of
#: overlays without them spends two thirds of its time here).
HOSTS_KNOWN: Final = 4096
NO_HOST: Final = "-"  # the site of a link without a host, such as a UNIX socket
_THIS_NETWORK: Final = IPv4Network("0.0.0.0/8")  # connecting to 0.0.0.0 reaches the own host


class Reach(Enum):
    """The places from which a host can be reached."""

    NOWHERE = "nowhere"  #: from nowhere: nothing can connect to it
    OWN = "own"  #: from the host itself only: loopback
    LINK = "link"  #: from its local link only, without a router
    ANY = "any"  #: from any place that has a route


@lru_cache(HOSTS_KNOWN)
def reach_of(host: str) -> Reach:
    """From where *host* can be reached; from nowhere if it is no IP address."""
    try:
        address = ip_address(host)
    except ValueError:
        return Reach.NOWHERE
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


def believed(host: str, teller: str) -> bool:
    """Whether *host* may be dialled on the word of a peer whose link ends at *teller*.

    :param teller: "" if the connection has no host; the peer then counts as far away.
    """
    if "%" in host:
        return False  # it names an interface of the teller's machine
    reach = reach_of(host)
    if reach in (Reach.OWN, Reach.LINK):
        return reach_of(teller) is reach
    return reach is Reach.ANY


def believed_contact(id: bytes, address: Place | None, teller: str) -> Contact | None:
    """The contact with *id* and *address*; None if *address* may not be dialled on the word of *teller*."""
    if address is None or not believed(address[0], teller):
        return None
    return Contact(id, *address)


@lru_cache(HOSTS_KNOWN)
def site_of(host: str) -> str:
    """The site of *host*: for an IPv6 address its network of 64 bits, else *host* itself.

    Sites are counted since ids, ports and addresses at one site cost an attacker nothing.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host  # the end of a UNIX socket has none
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return address.packed[:8].hex()
    return str(getattr(address, "ipv4_mapped", None) or address)


@lru_cache(HOSTS_KNOWN)
def is_own_site(site: str) -> bool:
    """Whether *site* is that of a loopback address, or of the end of a UNIX socket."""
    return site in ("", NO_HOST, site_of("::1")) or reach_of(site) is Reach.OWN


@lru_cache(HOSTS_KNOWN)
def counted_site(host: str) -> str | None:
    """The site of *host* if the nodes there are counted; None for loopback and private addresses.

    A whole mesh can be at such a site, or strangers cannot be there.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return site_of(host)
    address = getattr(address, "ipv4_mapped", None) or address
    return None if address.is_private else site_of(host)
