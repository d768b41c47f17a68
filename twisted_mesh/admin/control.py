"""The control socket of a node: HTTP over a UNIX socket that only the node's own user can open.

Contract: a socket that cannot be opened is a warning, and the node runs without it.  A socket is replaced
only if no process answers on it.  It is removed when the service stops, but not if another stands there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.unix import Port
from twisted.logger import Logger

from twisted_mesh.admin.http import Paths
from twisted_mesh.admin.site import Clients
from twisted_mesh.cli import places
from twisted_mesh.eventloop.forks import close_in_forks, close_socket, closed
from twisted_mesh.service import MeshService

MODE: Final = 0o600
_log = Logger()


class _Port(Port):
    """A listening UNIX socket, which removes its own file alone."""

    _file: tuple[int, int] | None = None

    def startListening(self) -> None:
        super().startListening()
        self._file = self._present()

    def connectionLost(self, reason: Any) -> None:
        if self._present() == self._file is not None:
            super().connectionLost(reason)
        else:
            super(Port, self).connectionLost(reason)

    def _present(self) -> tuple[int, int] | None:
        """Which file is at the path now."""
        try:
            state = os.lstat(self._bindPath)
        except OSError:
            return None
        return state.st_dev, state.st_ino


class Control(Service):
    """Lets other programs of this user look at a node and send by it.

    :ivar path: the socket's path while it is open; else None.
    """

    def __init__(
        self,
        reactor: Any,
        node: MeshService,
        path: str | os.PathLike[str] | None = None,
        beside: Path | None = None,
        environ: Mapping[str, str] = os.environ,
        paths: Paths | None = None,
    ) -> None:
        """
        :param node: the service to look at; it runs as long as this one, or longer.
        :param path: of the socket; None for one in the first folder that can be used.
        :param beside: a file whose folder is the last of these, such as that of the node's key.
        :param paths: what is answered, if other services answer the same.
        """
        self._reactor = reactor
        self._wanted = None if path is None else Path(path).absolute()
        self._beside = beside
        self._environ = environ
        self._paths = Paths(reactor, node) if paths is None else paths
        self._port: _Port | None = None
        self._clients: Clients | None = None
        self.path: Path | None = None

    def startService(self) -> None:
        """Open the socket, or log a warning that says why it cannot be opened."""
        super().startService()
        try:
            self.path = self._open()
        except (OSError, ValueError, places.Unusable, CannotListenError) as error:
            why = getattr(error, "strerror", None) or getattr(error, "socketError", None) or error
            where = "" if self._wanted is None else f" {self._wanted}"
            _log.warn("no control socket{where}: {why}; the node runs without", where=where, why=why)
            return
        close_in_forks(self._close_in_fork)
        _log.info("the control socket is {path}", path=str(self.path))

    def stopService(self) -> Deferred[None]:
        """Close the socket and every client."""
        super().stopService()
        self._paths.stop()
        closed(self._close_in_fork)
        for client in self._connections():
            client.transport.abortConnection()
        port, self._port, self.path = self._port, None, None
        return succeed(None) if port is None else port.stopListening() or succeed(None)

    def _open(self) -> Path:
        wanted = self._wanted or places.choose(self._environ, self._beside)
        with places.locked(wanted.parent):
            if self._wanted is None:
                places.remove_dead(wanted.parent)
            path = places.claim(wanted)
            self._clients = Clients(self._paths.root(), self._reactor, self._paths.config)
            self._port = _Port(os.fsencode(path), self._clients, mode=MODE, reactor=self._reactor)
            self._port.startListening()
        return path

    def _connections(self) -> list[Any]:
        return [] if self._clients is None else list(self._clients.channels)

    def _close_in_fork(self) -> None:
        """Give up the socket and the clients, which belong to the parent of this forked process."""
        port, self._port, self.path = self._port, None, None
        close_socket(port)
        for client in self._connections():
            close_socket(client.transport)
