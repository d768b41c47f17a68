"""The ports on which a service listens.

Contract: if an endpoint fails at once, for example because its port is taken, :meth:`Listening.start`
raises the error and closes all ports.  If an endpoint fails later, :meth:`Listening.ready` fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IReactorCore,
    IStreamServerEndpoint,
)
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from twisted_mesh.addressing.addresses import refuse_tls, show
from twisted_mesh.errors import LocalError, NotRunning
from twisted_mesh.eventloop.deferreds import WaitingDeferreds
from twisted_mesh.eventloop.forks import close_socket

#: Connections that the system keeps until this node accepts them.  Of more, the dialler sends its first
#: packet again, one to seven seconds later (measured: at 900 connections a second, 50 were too few).
BACKLOG: Final = 512
#: Connections that a port accepts in one turn.  Twisted would accept more and more while more come,
#: and each takes about a millisecond (measured: hundreds in a turn at 900 a second).
ACCEPTS: Final = 4
#: Find the parts of an endpoint's description, and the name in a part ``name=value``.  A backslash quotes.
_PARTS: Final = re.compile(r"(?:\\.|[^\\:])+", re.DOTALL)
_NAMED: Final = re.compile(r"((?:\\.|[^\\=])*)=", re.DOTALL)
_log = Logger()


def parse_listen(reactor: IReactorCore | None, listen: object) -> list[IStreamServerEndpoint]:
    """Make the endpoints of *listen*: descriptions like ``"tcp:4444"``, or endpoints; open no port.

    :raises LocalError: an item is neither a description nor an endpoint.
    """
    if isinstance(listen, (str, bytes)) or not isinstance(listen, Iterable):
        raise LocalError(f"listen is a sequence of endpoints, such as ('tcp:4444',), not {listen!r}")
    endpoints: list[IStreamServerEndpoint] = []
    for item in listen:
        if IStreamServerEndpoint.providedBy(item):
            endpoints.append(item)
            continue
        if not isinstance(item, str):
            raise LocalError(f"listen {item!r}: write 'tcp:PORT:interface=ADDRESS', or give an endpoint")
        try:
            endpoints.append(serverFromString(reactor, _with_defaults(refuse_tls(item))))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LocalError(f"listen {item!r}: write tcp:PORT ({error})") from None
    return endpoints


def parse_http(reactor: IReactorCore | None, listen: str) -> list[IStreamServerEndpoint]:
    """As :func:`parse_listen`, of one endpoint for HTTP with a token, which a browser must reach.

    :raises LocalError: *listen* is no endpoint, or a UNIX socket.
    """
    if listen.partition(":")[0] == "unix":
        raise LocalError(
            f"listen {listen!r}: write tcp:PORT:interface=127.0.0.1; the control socket is a UNIX socket"
        )
    return parse_listen(reactor, [listen])


def _with_defaults(description: str) -> str:
    """Return an endpoint's *description* with this package's defaults where it says nothing.

    Twisted's mode of a UNIX socket would be 0666: every user of this host could connect.  Its backlog of a
    TCP port would be 50.
    """
    kind, *rest = _PARTS.findall(description)
    names = [named[1] for part in rest if (named := _NAMED.match(part))]
    unnamed = len(rest) - len(names)
    if kind == "unix" and "mode" not in names and unnamed < 2:
        return f"{description}:mode=600"
    if kind in ("tcp", "tcp6") and "backlog" not in names and unnamed < 2:
        return f"{description}:backlog={BACKLOG}"
    return description


class Listening:
    """The ports of one run of a service."""

    def __init__(self, endpoints: Sequence[IStreamServerEndpoint], log_to: ILogObserver) -> None:
        """:param log_to: gets the log events of the ports."""
        self._endpoints = endpoints
        self._log_to = log_to
        self._ports: list[IListeningPort] = []
        self._pending: list[Deferred[IListeningPort]] = []
        self._failure: Failure | None = None
        self._ready = WaitingDeferreds[None]()
        self._started = False

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """The host and the number of each TCP port that is bound."""
        hosts = [port.getHost() for port in self._ports]
        return tuple((at.host, at.port) for at in hosts if isinstance(at, (IPv4Address, IPv6Address)))

    def __str__(self) -> str:
        if not self._endpoints:
            return "nothing: it only dials"
        return ", ".join(_shown(port.getHost()) for port in self._ports) or "nothing yet"

    def start(self, factory: IProtocolFactory) -> None:
        """Listen at all endpoints; if one fails at once, raise its error and listen nowhere."""
        self._started = True
        for endpoint in self._endpoints:
            listening = endpoint.listen(factory)
            self._pending.append(listening)
            listening.addCallbacks(
                self._bound, self._refused, callbackArgs=(listening,), errbackArgs=(listening,)
            )
        self._tell_ready()
        if self._failure is not None:
            self.give_up()
            self._failure.raiseException()

    def ready(self) -> Deferred[None]:
        """Fires once all ports are bound; fails with the reason if one cannot be bound."""
        waiting = self._ready.wait()
        self._tell_ready()
        return waiting

    def close_in_fork(self) -> None:
        """In a forked process: close its copies of the ports; the parent still listens."""
        for port in self._ports:
            close_socket(port)

    def stop(self) -> Deferred[None]:
        """Close all ports; fires once all are closed; fails if one could not be closed."""
        pending, self._pending = self._pending, []
        for listening in pending:
            listening.cancel()
        self._ready.failed(Failure(NotRunning("stopped before every listener was up")))
        ports, self._ports = self._ports, []
        return Deferred.fromCoroutine(_all_closed(ports))

    def give_up(self) -> None:
        """Close all ports after a start that failed; if one cannot be closed, log that."""
        self.stop().addErrback(lambda failure: _log.failure("a port could not be closed", failure))

    def _bound(self, port: IListeningPort, listening: Deferred[IListeningPort]) -> None:
        self._pending.remove(listening)
        self._ports.append(port)
        if isinstance(port, tcp.Port):
            # If no descriptor is free, a port logs lines in every turn.  Its logger has no public name.
            port._logger = Logger(port._logger.namespace, observer=self._log_to)
            port.doRead = partial(_accept_some, port, port.doRead)  # type: ignore[method-assign]
        self._tell_ready()

    def _refused(self, failure: Failure, listening: Deferred[IListeningPort]) -> None:
        if listening in self._pending:
            self._pending.remove(listening)
        if not failure.check(CancelledError):
            self._failure = self._failure or failure
            self._tell_ready()

    def _tell_ready(self) -> None:
        """Fire the Deferreds of :meth:`ready` if all ports are bound, or one has failed."""
        if self._started and self._failure is not None:
            self._ready.failed(self._failure)
        elif self._started and not self._pending:
            self._ready.happened(None)


def _accept_some(port: tcp.Port, accept: Callable[[], None]) -> None:
    """Accept at most ACCEPTS connections, so that links have their turn."""
    port.numberAccepts = min(port.numberAccepts, ACCEPTS)
    accept()


async def _all_closed(ports: Iterable[IListeningPort]) -> None:
    closing = [maybeDeferred(port.stopListening) for port in ports]
    for _, result in await DeferredList(closing, consumeErrors=True):
        if isinstance(result, Failure):
            result.raiseException()


def _shown(address: object) -> str:
    if isinstance(address, (IPv4Address, IPv6Address)):
        return show((address.host, address.port))
    if isinstance(address, UNIXAddress) and address.name is not None:
        return f"unix:{os.fsdecode(address.name)}"
    return str(address)
