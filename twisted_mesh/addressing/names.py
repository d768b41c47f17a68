"""Looking names up: in threads of their own, a bounded number of them, and each name once at a time.

Contract: a look-up takes as long as the system takes for it, half a minute where no name server answers.
Nobody has to wait for that: whoever waits can be cancelled, the reactor's own threads stay free for the
application, and the end of the process waits for no look-up.  If as many run as may, others wait for their
turn.  An application that has given its reactor a name resolver of its own has that asked.
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
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from twisted.logger import Logger
from zope.interface import implementer

from twisted_mesh.eventloop.deferreds import WaitingDeferreds

#: Addresses of one name that an attempt goes to; of more these are drawn by lot, other ones each time.
#: Twisted begins with the next every 0.3 s, so that these are under way in half of ``connect_timeout``
#: (guess).
ADDRESSES_MOST: Final = 16
#: Up to so many addresses are tried in the order in which the system gives them, which puts the ones of
#: most promise first.  More are tried in an order drawn by lot: where silent ones have taken the time of an
#: attempt, the next one has to begin with others (guess).
IN_ORDER: Final = 4

_log = Logger()
_lot = Random()


class Names:
    """Look-ups of one kind, for one node."""

    def __init__(self, reactor: Any, most: int) -> None:
        """
        :param most: threads, one for each look-up that runs; further names wait for their turn.
        """
        self._reactor = reactor
        self._most = most
        self._asked: dict[
            str, WaitingDeferreds[list[str]]
        ] = {}  # by name; those that run, and those that wait
        self._running: set[str] = set()

    def look_up(self, name: str) -> Deferred[list[str]]:
        """The IP addresses of *name*, none if it has none; it never fails, and can be cancelled."""
        resolver = self._other_resolver()
        if resolver is not None:
            return _asked_of(resolver, name)
        waiters = self._asked.setdefault(name, WaitingDeferreds())
        waiting = waiters.wait()
        self._begin()
        return waiting

    def footprint(self) -> int:
        """Names that are being looked up, or wait for that."""
        self._forget()
        return len(self._asked)

    def _other_resolver(self) -> Any:
        """The name resolver of the reactor, unless it is the one every reactor has."""
        resolver = getattr(self._reactor, "nameResolver", None)
        return None if type(resolver).__name__ == "GAIResolver" else resolver

    def _forget(self) -> None:
        """Drop the names nobody waits for any more, unless they are being looked up."""
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
                # No daemon is waited for when the process ends.
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
    """The addresses one attempt may still try: looked up once, and those it was at left out.

    It stands in for a reactor's resolver, so that Twisted's endpoints ask it.

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
        """How many addresses it has not been at yet."""
        return sum(address not in self._tried for found in self._found.values() for address in found)

    def tried(self, address: str) -> None:
        """The attempt has been at this address."""
        self._tried.add(address)

    def stop(self) -> None:
        """Nobody waits for it any more."""
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
        """It is the look-up that is stopped."""


def _asked_of(resolver: Any, name: str) -> Deferred[list[str]]:
    """What another *resolver* knows of *name*."""
    answered: Deferred[list[str]] = Deferred()
    resolver.resolveHostName(_Receiver(answered.callback), name)
    return answered


class _Receiver:
    """Gathers the addresses of a name."""

    def __init__(self, done: Callable[[list[str]], None]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """It has begun."""

    def addressResolved(self, address: IAddress) -> None:
        """One more."""
        self._found.append(str(getattr(address, "host", "")))

    def resolutionComplete(self) -> None:
        """There are no more."""
        self._done(self._found)
