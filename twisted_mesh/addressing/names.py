"""Looks names up: in a bounded number of threads of its own, each name once at a time.

Contract: a look-up takes as long as the system takes for it: half a minute if no name server answers.  A
Deferred that waits can be cancelled, the reactor's own threads stay free for the application, and the end
of the process waits for no look-up.  If all threads are busy, names wait for their turn.  If the
application gave its reactor a name resolver, that is asked instead.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from threading import Thread
from typing import Any, Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mesh.eventloop.deferreds import WaitingDeferreds

#: Addresses of one name that an attempt tries; if there are more, others are drawn by lot each time.
#: Twisted begins with the next every 0.3 s, so that these are under way in half of ``connect_timeout``
#: (guess).
ADDRESSES_MOST: Final = 16
#: Up to so many addresses are tried in the system's order, which puts the most promising first.  More are
#: tried in an order drawn by lot: if silent ones took the time of an attempt, the next begins with others
#: (guess).
IN_ORDER: Final = 4

_log = Logger()
_lot = Random()


class Names:
    """Look-ups of one kind, for one node."""

    def __init__(self, reactor: Any, most: int) -> None:
        """:param most: threads, one for each look-up that runs; further names wait for their turn."""
        self._reactor = reactor
        self._most = most
        # By name, of look-ups that run and of those that wait.
        self._asked: dict[str, WaitingDeferreds[list[str]]] = {}
        self._running: set[str] = set()

    def look_up(self, name: str) -> Deferred[list[str]]:
        """The IP addresses of *name*, none if it has none; it never fails, and can be cancelled."""
        if (resolver := self._other_resolver()) is not None:
            answered: Deferred[list[str]] = Deferred()
            resolver.resolveHostName(_Receiver(answered.callback), name)
            return answered
        waiting = self._asked.setdefault(name, WaitingDeferreds()).wait()
        self._begin()
        return waiting

    def footprint(self) -> int:
        """How many names are being looked up, or wait for that."""
        self._forget()
        return len(self._asked)

    def _other_resolver(self) -> Any:
        """The name resolver of the reactor, unless it is the one every reactor has."""
        resolver = getattr(self._reactor, "nameResolver", None)
        return None if type(resolver).__name__ == "GAIResolver" else resolver

    def _forget(self) -> None:
        """Drop the names for which no Deferred waits, unless they are being looked up."""
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
                # A daemon thread does not delay the end of the process.
                thread = Thread(target=self._look, args=(name,), name=f"look-up of {name}", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # the system has no thread left
                    _log.warn("{name} cannot be looked up: {why}", name=name, why=error)
                    self._reactor.callFromThread(self._found, name, [])

    def _look(self, name: str) -> None:
        """The system's look-up, in a thread."""
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
    """The addresses that one attempt may still try: a name's, looked up once, without those tried.

    It takes the place of the reactor's resolver, so that Twisted's endpoints ask it.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._found: dict[str, list[str]] = {}
        self._tried: set[str] = set()
        self._waiting: Deferred[Any] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether a name is being looked up."""
        return self._waiting is not None

    @property
    def left(self) -> int:
        """How many addresses the attempt has not tried yet."""
        return sum(address not in self._tried for found in self._found.values() for address in found)

    def tried(self, address: str) -> None:
        """Leave *address* out from now on: the attempt has tried it."""
        self._tried.add(address)

    def stop(self) -> None:
        """Cancel the look-up."""
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
        """As the resolver of a reactor, for TCP and addresses of both kinds."""
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
        some = found if len(found) <= IN_ORDER else _lot.sample(found, min(len(found), ADDRESSES_MOST))
        self._found[name] = some
        return some

    def _give(self, receiver: IResolutionReceiver, port: int, found: list[str]) -> None:
        for address in found:
            if address not in self._tried:
                kind = IPv6Address if isIPv6Address(address) else IPv4Address
                receiver.addressResolved(kind("TCP", address, port))
        receiver.resolutionComplete()


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Do nothing: :meth:`Lookup.stop` cancels."""


class _Receiver:
    """Gathers the addresses of a name."""

    def __init__(self, done: Callable[[list[str]], None]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Do nothing yet."""

    def addressResolved(self, address: IAddress) -> None:
        """Add *address*."""
        self._found.append(str(getattr(address, "host", "")))

    def resolutionComplete(self) -> None:
        """Hand on the addresses."""
        self._done(self._found)
