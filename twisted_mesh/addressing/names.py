"""Looks up names, in a bounded number of threads of its own.

Contract: if no name server answers, the system takes half a minute for a look-up.  So a Deferred that waits
can be cancelled, the look-ups use none of the reactor's threads, and the end of the process waits for no
look-up.  A name is looked up once for all that wait for it.  If all threads are busy, names wait for their
turn.  If the application gave its reactor a name resolver, the resolver is asked instead.  With a Clock,
which has no threads, no name has an address.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from threading import Thread
from typing import Any, Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorThreads,
    IResolutionReceiver,
)
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mesh.eventloop.deferreds import WaitingDeferreds

#: Addresses of one name that an attempt tries (guess); if the name has more, they are drawn at random.
#: Twisted dials one more every 0.3 s, so an attempt dials all in half of ``connect_timeout``.
ADDRESSES_MOST: Final = 16
#: If a name has up to this number of addresses, they are tried in the system's order (guess).  More are
#: tried in random order, so that silent addresses do not take the time of every attempt.
IN_ORDER: Final = 4

_log = Logger()
_random = Random()


class Names:
    """Look-ups of one node."""

    def __init__(self, reactor: Any, most: int) -> None:
        """:param most: look-ups that run at a time, each in a thread of its own."""
        self._reactor = reactor
        self._most = most
        # By name: the Deferreds that wait for look-ups that run, or that have not begun.
        self._asked: dict[str, WaitingDeferreds[list[str]]] = {}
        self._running: set[str] = set()

    def look_up(self, name: str) -> Deferred[list[str]]:
        """Fires with the IP addresses of *name*, or an empty list; never fails, and can be cancelled."""
        resolver = getattr(self._reactor, "nameResolver", None)
        if resolver is not None and type(resolver).__name__ != "GAIResolver":  # the application's own
            answered: Deferred[list[str]] = Deferred()
            resolver.resolveHostName(_Receiver(answered.callback), name)
            return answered
        if not IReactorThreads.providedBy(self._reactor):
            return succeed([])
        waiting = self._asked.setdefault(name, WaitingDeferreds()).wait()
        self._begin()
        return waiting

    def footprint(self) -> int:
        """The number of names that are being looked up, or wait for their turn."""
        self._forget()
        return len(self._asked)

    def _forget(self) -> None:
        """Forget the names that nobody waits for any more, unless they are being looked up."""
        for name in [name for name, waiters in self._asked.items() if not waiters]:
            if name not in self._running:
                del self._asked[name]

    def _begin(self) -> None:
        self._forget()
        for name in list(self._asked):
            if len(self._running) >= self._most:
                return
            if name not in self._running:
                self._running.add(name)
                # The end of the process does not wait for a daemon thread.
                thread = Thread(
                    target=self._ask_system, args=(name,), name=f"look-up of {name}", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:  # the system has no thread left
                    _log.warn("{name} cannot be looked up: {why}", name=name, why=error)
                    self._reactor.callFromThread(self._found, name, [])

    def _ask_system(self, name: str) -> None:
        """Look *name* up, in a thread."""
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        addresses = list(dict.fromkeys(str(where[0]) for *_, where in found))
        self._reactor.callFromThread(self._found, name, addresses)

    def _found(self, name: str, addresses: list[str]) -> None:
        self._running.discard(name)
        self._asked.pop(name).happened(addresses)
        self._begin()


@implementer(IHostnameResolver)
class Lookup:
    """The look-up of one attempt to dial: each name is looked up once, and each address is given once.

    Twisted's endpoints ask a Lookup in place of the reactor's name resolver.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._found: dict[str, list[str]] = {}
        self._tried: set[str] = set()
        self._waiting: Deferred[Any] | None = None

    @property
    def is_waiting(self) -> bool:
        return self._waiting is not None

    @property
    def left(self) -> int:
        """The number of addresses that the attempt has not tried yet."""
        return sum(address not in self._tried for found in self._found.values() for address in found)

    def tried(self, address: str) -> None:
        self._tried.add(address)

    def stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """As ``IHostnameResolver``, but always for TCP, and for IPv4 and IPv6."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        give = partial(self._give, resolutionReceiver, portNumber)
        if hostName in self._found:
            give(self._found[hostName])
            return resolution
        numeric = isIPAddress(hostName) or isIPv6Address(hostName)
        looking: Deferred[list[str]] = succeed([hostName]) if numeric else self._names.look_up(hostName)
        self._waiting = looking
        looking.addCallback(self._keep, hostName).addCallback(give)
        looking.addErrback(lambda failure: failure.trap(CancelledError) and None)
        return resolution

    def _keep(self, found: list[str], name: str) -> list[str]:
        self._waiting = None
        some = found if len(found) <= IN_ORDER else _random.sample(found, min(len(found), ADDRESSES_MOST))
        self._found[name] = some
        return some

    def _give(self, receiver: IResolutionReceiver, port: int, found: list[str]) -> None:
        for address in found:
            if address not in self._tried:
                kind = IPv6Address if isIPv6Address(address) else IPv4Address
                receiver.addressResolved(kind("TCP", address, port))
        receiver.resolutionComplete()


@implementer(IHostResolution)
@dataclass
class _Resolution:
    name: str

    def cancel(self) -> None:
        """Do nothing: :meth:`Lookup.stop` cancels."""


class _Receiver:
    """Gathers the addresses that another resolver finds, and calls *done* with them."""

    def __init__(self, done: Callable[[list[str]], None]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        self._found.append(str(getattr(address, "host", "")))

    def resolutionComplete(self) -> None:
        self._done(self._found)
