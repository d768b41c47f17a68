"""Which told addresses are believed, and how fast they are dialled.

Contract: an address that came from a peer is that peer's word and no more.  It can send this node
wherever the peer likes, so what it may name is narrow: never a host that is no host, nor the place where
this node listens itself, and an own address (loopback) or one of the local link only where the peer itself
is there.  What a name resolves to is not looked at: one that leads to such an address is dialled.  All
dials of told addresses, whatever they are for, share one :class:`DialLimit`: nobody can make this node dial
many hosts.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.rate import Bucket
from twisted_mesh.wire.membership import MAX_HOST, Contact, Purpose

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


class DialLimit:
    """Every dial of an address that peers told, whatever for.

    :ivar own: where this node can be dialled itself: another that was there a moment ago is told of as
        long as nobody knows better.
    """

    def __init__(self, config: MeshConfig, own: Place | None) -> None:
        self.own = own
        self._most = config.dials_at_once
        self._again = config.dial_again
        self._failed_most = config.failed_dials
        # Whoever carries them out tells the end of each; one whose end was not told would hold its
        # place for ever, and no attempt takes longer than this.
        self._longest = config.connect_timeout + config.handshake_timeout
        self._bucket = Bucket(config.dial_burst, config.dial_rate)
        self._under_way: dict[bytes, tuple[Place, Purpose, float]] = {}  # by id; until when
        self._failed: OrderedDict[Place, float] = OrderedDict()  # until when it is left alone

    def may(self, contact: Contact, now: float) -> bool:
        """Whether *contact* may be dialled now."""
        self._expire(now)
        place = (contact.host, contact.port)
        return (
            len(self._under_way) < self._most
            and contact.id not in self._under_way
            and place != self.own
            and place not in self._failed
            and all(place != other for other, _, _ in self._under_way.values())
            and self._bucket.has(now)
        )

    def began(self, contact: Contact, purpose: Purpose, now: float) -> None:
        """*contact*, which may be, is dialled."""
        self._bucket.take(now)
        place = (contact.host, contact.port)
        self._under_way[contact.id] = place, purpose, now + self._longest

    def over(self, id: bytes, now: float, found: bool) -> Purpose | None:
        """The dial of *id* has ended; what it was for, None if there was none.

        :param found: whether the node with that id was there.
        """
        dial = self._under_way.pop(id, None)
        if dial is None:
            return None
        place, purpose, _ = dial
        if not found:
            self._failed[place] = now + self._again
            self._failed.move_to_end(place)
            if len(self._failed) > self._failed_most:
                self._failed.popitem(last=False)
        return purpose

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"dials_under_way": len(self._under_way), "failed_dials": len(self._failed)}

    def _expire(self, now: float) -> None:
        for id in [id for id, (_, _, until) in self._under_way.items() if until <= now]:
            del self._under_way[id]
        while self._failed and next(iter(self._failed.values())) <= now:
            self._failed.popitem(last=False)
