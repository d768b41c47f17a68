"""The address at which others are told to dial this node, if the application gave a name in ``out_addr``.

Contract: others are told IP addresses only, and believe no name: otherwise a member could have all nodes of
the mesh ask a name server of its choice.  So the owner of a name looks it up itself, again with each record
and link for which the address is needed.  Nothing waits for that: an address that a look-up finds is told
with the next record.  If a look-up fails, the address that was found last is told.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from twisted_mesh.addressing.addresses import REACHES, is_numeric
from twisted_mesh.addressing.names import Names
from twisted_mesh.core.reachability import Reach, reach_of
from twisted_mesh.wire.greeting import Address

#: Seconds from one look-up to the next, at least: many links can be made at a time, and the time for a
#: record is looked at more often than a record is sent (guess).
AGAIN: Final = 20.0
_log = Logger()


class OwnAddress:
    """Gives the address that others are told, when it is called; None if there is none now."""

    def __init__(
        self, given: Callable[[], Address | None], names: Names, seconds: Callable[[], float]
    ) -> None:
        """:param given: gives the address with a name; :param seconds: gives the time."""
        self._given = given
        self._names = names
        self._seconds = seconds
        self._began = -inf  # when the last look-up began
        self._looking: Deferred[None] | None = None
        self._host: str | None = None  # the IP address that was found last
        self._has_failed = False

    def __call__(self) -> Address | None:
        address = self._given()
        if address is None or is_numeric(address[0]):
            return address
        now = self._seconds()
        if now >= self._began + AGAIN:
            self._began = now
            self._look_up(address[0])
        return None if self._host is None else (self._host, address[1])

    def _look_up(self, name: str) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self._names.look_up(name).addCallback(self._found, name)
        self._looking.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def _found(self, hosts: list[str], name: str) -> None:
        hosts = [host for host in hosts if reach_of(host) is not Reach.NOWHERE]
        if self._host not in hosts:
            # IPv4 first, since more hosts have it.
            rank = {host: (REACHES.index(reach_of(host)), isIPv6Address(host)) for host in hosts}
            self._host = min(hosts, key=lambda host: rank[host], default=self._host)
        if not hosts and not self._has_failed:
            told = "no other node is told where to dial this one"
            if self._host is not None:
                told = f"others are told the address that it had, {self._host}"
            _log.warn("{name}, given in out_addr, leads to no address: {told}", name=name, told=told)
        self._has_failed = not hosts
