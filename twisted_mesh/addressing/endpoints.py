"""Makes the client endpoint that dials an address.

Contract: an endpoint that the application gave, or made with ``dial=``, is used as it is.  If any other
address has a name, :mod:`~twisted_mesh.addressing.names` looks it up.  The application gave the name: the
names of peers are not believed (:mod:`~twisted_mesh.core.reachability`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    clientFromString,
)
from twisted.internet.interfaces import IReactorPluggableNameResolver, IStreamClientEndpoint
from zope.interface import directlyProvides, providedBy

from twisted_mesh.addressing.addresses import PeerAddress, is_numeric
from twisted_mesh.addressing.names import Lookup, Names
from twisted_mesh.config import MeshConfig

#: Matches a description of Twisted's ``tcp:`` client endpoint; ``connect_timeout`` replaces its timeout.
_TCP: Final = re.compile(
    r"tcp:(?:host=)?(?P<host>[^:=\\]+):(?:port=)?(?P<port>\d+)"
    r"(?::timeout=\d+|:bindAddress=(?P<source>[^:=\\]+))*",
    re.IGNORECASE,
)
Dial = Callable[[str, int], IStreamClientEndpoint]
Encrypt = Callable[[IStreamClientEndpoint], IStreamClientEndpoint]


class ClientEndpoints:
    """Makes the client endpoints of one service, for all its runs.

    :ivar names: looks up the names that the application gave.
    """

    def __init__(
        self, reactor: Any, config: MeshConfig, dial: Dial | None, encrypt: Encrypt | None = None
    ) -> None:
        """
        :param dial: the application's own maker of endpoints, if it gave one.
        :param encrypt: adds TLS to an endpoint; None for plain text.
        """
        self._encrypt = encrypt
        self._reactor = reactor
        self._seconds = config.connect_timeout
        self._dial = dial
        self.names = Names(reactor, config.lookups_at_once)

    def lookup(self) -> Lookup:
        """Make the look-up for one attempt to dial."""
        return Lookup(self.names)

    def endpoint(self, address: PeerAddress, lookup: Lookup) -> IStreamClientEndpoint:
        """The endpoint that dials *address*; of a name, it dials the IP addresses that *lookup* gives."""
        endpoint = self._plain(address, lookup)
        return endpoint if self._encrypt is None else self._encrypt(endpoint)

    def _plain(self, address: PeerAddress, lookup: Lookup) -> IStreamClientEndpoint:
        if address.host is None:
            if not isinstance(address.endpoint, str):
                assert address.endpoint is not None
                return address.endpoint
            return self._described(address.endpoint, lookup)
        if self._dial is not None:
            return self._dial(address.host, address.port)
        if isIPAddress(address.host):
            return TCP4ClientEndpoint(self._reactor, address.host, address.port, self._seconds)
        if isIPv6Address(address.host):
            return TCP6ClientEndpoint(self._reactor, address.host, address.port, self._seconds)
        return self._of_name(address.host, address.port, lookup)

    def _described(self, description: str, lookup: Lookup) -> IStreamClientEndpoint:
        """Twisted's endpoint for *description*, unless it would let the reactor look up a name."""
        tcp = _TCP.fullmatch(description)
        if tcp is not None and not is_numeric(tcp["host"]):
            return self._of_name(tcp["host"], int(tcp["port"]), lookup, tcp["source"])
        endpoint: IStreamClientEndpoint = clientFromString(self._reactor, description)
        return endpoint

    def _of_name(
        self, name: str, port: int, lookup: Lookup, source: str | None = None
    ) -> IStreamClientEndpoint:
        reactor = _Resolving(self._reactor, lookup)
        return HostnameEndpoint(reactor, name, port, self._seconds, bindAddress=source)

    def footprint(self) -> dict[str, int]:
        return {"lookups": self.names.footprint()}


def name_of(address: PeerAddress) -> str | None:
    """The host name that *address* has; None for an IP address, and for other endpoints than ``tcp:``."""
    host = address.host
    if isinstance(address.endpoint, str) and (tcp := _TCP.fullmatch(address.endpoint)) is not None:
        host = tcp["host"]
    return None if host is None or is_numeric(host) else host


class _Resolving:
    """A reactor that looks names up by a :class:`Lookup`."""

    def __init__(self, reactor: Any, lookup: Lookup) -> None:
        self._reactor = reactor
        self.nameResolver = lookup
        directlyProvides(self, providedBy(reactor), IReactorPluggableNameResolver)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)
