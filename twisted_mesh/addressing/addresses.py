"""Addresses as users write them; and the choice of the address that this node tells others.

Contract: :func:`parse_peer` turns an entry of ``peers=`` or ``--peer`` into a :class:`PeerAddress`.  If an
entry is wrong, it raises :class:`~twisted_mesh.errors.LocalError`, which says how to write the entry.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from socket import AddressFamily
from typing import Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint

from twisted_mesh.addressing.interfaces import interface_addresses, routed_address
from twisted_mesh.core.reachability import Reach, reach_of
from twisted_mesh.errors import LocalError
from twisted_mesh.wire.membership import MAX_HOST

LOOPBACK: Final = "127.0.0.1"
WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})
_BOTH: Final = (AddressFamily.AF_INET, AddressFamily.AF_INET6)  # IPv4 first, since more hosts have it
REACHES: Final = (Reach.ANY, Reach.LINK, Reach.OWN, Reach.NOWHERE)  # the farthest first
_PEER: Final = re.compile(
    r"(?:(?P<id>[1-9A-HJ-NP-Za-km-z]{60,70})@)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:@\[\]]*)):(?P<port>\d+)"
)


@dataclass(frozen=True)
class PeerAddress:
    """The address of a peer: host and port, or an endpoint.

    :ivar host: None if there is an *endpoint*.
    :ivar id: the id that the node there must have; None if any may.
    :ivar endpoint: a client endpoint, or its description for ``clientFromString``.
    """

    host: str | None = None
    port: int = 0
    id: bytes | None = None
    endpoint: IStreamClientEndpoint | str | None = None

    def __str__(self) -> str:
        return str(self.endpoint) if self.host is None else show((self.host, self.port))


def show(address: tuple[str, int] | None) -> str:
    """*address* as text for people."""
    if address is None:
        return "an unknown address"
    host, port = address
    return f"[{host}]:{port}" if isIPv6Address(host) else f"{host}:{port}"


def parse_peer(peer: object) -> PeerAddress:
    """The address of a peer as a user gave it.

    :param peer: ``"host:port"``, ``"ID@host:port"``, a client endpoint or its description.
    :raises LocalError: *peer* is none of these.
    """
    if IStreamClientEndpoint.providedBy(peer):
        return PeerAddress(endpoint=peer)
    if not isinstance(peer, str):
        raise LocalError(f"a peer is 'host:port', 'ID@host:port' or an endpoint, not {peer!r}")
    if (match := _PEER.fullmatch(peer)) is not None:
        node_id = None if match["id"] is None else match["id"].encode()
        return PeerAddress(this_host(match["v6"] or match["host"]), check_port(int(match["port"])), node_id)
    if "@" in peer or not peer.partition(":")[0].isidentifier() or ":" not in peer:
        raise LocalError(f"peer {peer!r}: write host:port, [v6]:port or ID@host:port")
    try:
        clientFromString(None, refuse_tls(peer))
    except (ValueError, TypeError, KeyError) as error:
        raise LocalError(f"peer {peer!r}: write host:port ({error})") from None
    return PeerAddress(endpoint=peer)


def parse_host_port(text: str) -> tuple[str, int]:
    """The host and the port of ``"host:port"``; a host '' means this host.

    :raises LocalError: *text* is not of this form.
    """
    if (match := _PEER.fullmatch(text)) is None or match["id"] is not None:
        raise LocalError(f"address {text!r}: write host:port")
    return (match["v6"] or match["host"]), check_port(int(match["port"]))


def check_port(port: object) -> int:
    """Return *port*; raise LocalError if it is no int from 1 to 65535."""
    if type(port) is not int or not 0 < port < 65536:
        raise LocalError(f"port must be 1 to 65535, not {port!r}")
    return port


def refuse_tls(description: str) -> str:
    """Return an endpoint's *description*; raise LocalError if it adds TLS to the TLS of the mesh."""
    if description.lower().startswith(("ssl:", "tls:")):
        raise LocalError(f"{description!r}: links are encrypted by the mesh itself, write tcp:")
    return description


def check_address(address: object) -> tuple[str, int]:
    """Return *address*, which other nodes will be told; raise LocalError if it is no host and port."""
    if not isinstance(address, tuple | list) or len(address) != 2 or not isinstance(address[0], str):
        raise LocalError(f"an address is (host, port), not {address!r}")
    if not address[0].isprintable() or len(address[0].encode()) > MAX_HOST:
        raise LocalError(f"a host is at most {MAX_HOST} bytes of printable text, not {address[0]!r}")
    return address[0], check_port(address[1])


def is_numeric(host: str) -> bool:
    """Whether *host* is an IP address, for which no name server is asked."""
    return isIPAddress(host) or isIPv6Address(host)


def this_host(host: str) -> str:
    """Return *host*, or 127.0.0.1 if it is a wildcard; raise LocalError if it is no str."""
    if not isinstance(host, str):
        raise LocalError(f"a host is a str, not {host!r}")
    return LOOPBACK if host in WILDCARDS else host


def lan_address(families: Collection[AddressFamily] = _BOTH) -> str | None:
    """The address at which other hosts of the network reach this host.

    It is the address at which the default route begins, or else the address of an interface.  If other
    hosts reach no interface, it is 127.0.0.1.

    :param families: the families of the addresses on which the node listens.
    :return: None if other hosts reach this host, but only at addresses of other families.
    """
    routed = [routed_address(family) for family in _BOTH if family in families]
    interfaces = interface_addresses()
    return choose_address([host for host in routed if host is not None], interfaces, families)


def choose_address(
    routed: Sequence[str], interfaces: Sequence[str], families: Collection[AddressFamily]
) -> str | None:
    """Choose the result of :func:`lan_address` from *routed*, where routes begin, and *interfaces*."""
    by_family = [
        host
        for family in _BOTH
        if family in families
        for host in interfaces
        if (family == AddressFamily.AF_INET6) == isIPv6Address(host)
    ]
    far = [host for host in (*routed, *by_family) if reach_of(host) is Reach.ANY]
    # IPv6 addresses of the local link are left out: to dial one, a host adds the name of its own interface.
    near = [host for host in by_family if reach_of(host) is Reach.LINK and isIPAddress(host)]
    for host in (*far, *near):
        return host
    return None if any(reach_of(host) is Reach.ANY for host in interfaces) else LOOPBACK


def told_address(
    bound: Iterable[tuple[str, int]], given: tuple[str, int] | None = None
) -> tuple[str, int] | None:
    """The address that other nodes are told to dial; None if there is none.

    If this node has several addresses, the one that most hosts reach is told; loopback is the last choice.

    :param bound: the hosts and ports on which this node listens.
    :param given: the configured host and port to tell instead; a wildcard stands for this host.
    """
    if given is not None:
        host: str | None = lan_address() if given[0] in WILDCARDS else given[0]
        return None if host is None else (host, given[1])
    told = [(host, port) for listens, port in bound if (host := _told_host(listens)) is not None]
    return min(told, key=lambda address: REACHES.index(reach_of(address[0])), default=None)


def _told_host(listens: str) -> str | None:
    if listens not in WILDCARDS:
        return listens
    return lan_address(_BOTH if listens == "::" else (AddressFamily.AF_INET,))
