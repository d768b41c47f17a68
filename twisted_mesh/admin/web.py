"""The paths of a node's control socket over TCP, for clients that show a token.

Contract: a port that is taken is an error at the start, which names it.  Nothing is answered without the
token (:mod:`twisted_mesh.admin.guard`).
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger, globalLogPublisher

from twisted_mesh.addressing.addresses import show
from twisted_mesh.admin.guard import Guard, Token
from twisted_mesh.admin.http import Paths
from twisted_mesh.admin.site import Clients
from twisted_mesh.core.reachability import Reach, reach_of
from twisted_mesh.eventloop.clock import monotonic
from twisted_mesh.eventloop.forks import close_in_forks, close_socket, closed
from twisted_mesh.eventloop.log_quota import QuotaFilter
from twisted_mesh.links.listening import Listening, parse_http

_log = Logger()


class Web(Service):
    """Lets programs look at a node, and send by it, over TCP."""

    def __init__(self, reactor: Any, paths: Paths, listen: str, token: Token) -> None:
        """
        :param paths: what is answered.
        :param listen: the endpoint, such as ``tcp:8420:interface=127.0.0.1``.
        :raises LocalError: *listen* is no endpoint, or a UNIX socket.
        """
        self._token = token
        self._paths = paths
        config = paths.config
        self._clients = Clients(paths.root(), reactor, config, Guard(token))
        self._log_to = QuotaFilter(globalLogPublisher, monotonic(reactor).seconds, config)
        self._endpoints = parse_http(reactor, listen)
        self._listening: Listening | None = None

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """(host, port) of each port that is bound."""
        return () if self._listening is None else self._listening.addresses

    def privilegedStartService(self) -> None:
        """Listen.

        :raises twisted.internet.error.CannotListenError: or another error of the endpoint.
        """
        super().privilegedStartService()
        self._begin()

    def startService(self) -> None:
        """Listen, if that has not begun."""
        super().startService()
        if self._listening is None:
            self._begin()

    def stopService(self) -> Deferred[None]:
        """Close the port and every client, and keep no events any more."""
        super().stopService()
        self._paths.stop()
        closed(self._close_in_fork)
        for client in list(self._clients.channels):
            client.forceAbortClient()
        self._paths.addresses = []
        listening, self._listening = self._listening, None
        return succeed(None) if listening is None else listening.stop()

    def _begin(self) -> None:
        listening = Listening(self._endpoints, self._log_to)
        listening.start(self._clients)
        self._listening = listening
        reached = [show(_reached(address)) for address in self.addresses]
        self._paths.addresses = [f"http://{host}/#{self._token.reveal()}" for host in reached]
        close_in_forks(self._close_in_fork)
        where = ", ".join(f"http://{show(address)}" for address in self.addresses)
        _log.info("{where} has the page; mesh page prints its address, with the token", where=where)
        if any(reach_of(host) is not Reach.OWN for host, _ in self.addresses):
            _log.warn(_NOT_ENCRYPTED)

    def _close_in_fork(self) -> None:
        """Give up the port and the clients, which belong to the parent of this forked process."""
        if self._listening is not None:
            self._listening.close_in_fork()
        for client in self._clients.channels:
            close_socket(client.transport)


def _reached(address: tuple[str, int]) -> tuple[str, int]:
    """Where this host reaches a port that is bound to *address*."""
    host, port = address
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


_NOT_ENCRYPTED = (
    "HTTP is not encrypted: whoever can listen on the way can read the token; let --http listen on "
    "127.0.0.1, and ask it from other hosts through ssh -L"
)
