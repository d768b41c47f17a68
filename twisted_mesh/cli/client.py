"""Asks a node by its control socket (``docs/http.rst``); nothing here imports Twisted.

Contract: each method asks once.  If the node cannot be reached, or answers with an error, that is a
:class:`Failed` with a sentence for people.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from twisted_mesh.cli import places


class Failed(Exception):
    """No answer, or an error; the text says why and what to do.

    :ivar status: of HTTP; None if no answer came.
    """

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class Event(NamedTuple):
    """An event of a stream; its *id* may be empty."""

    name: str
    data: Any
    id: str


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("node", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.stream = self.sock = socket.socket(socket.AF_UNIX)  # http.client gives up sock with the head
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


class Client:
    """Asks the node whose control socket is at *path*."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, path: str) -> Any:
        """The answer to a GET."""
        return self._ask("GET", path, None, 10.0)

    def post(self, path: str, body: object, timeout: float) -> Any:
        """The answer to a POST, which comes within *timeout* seconds."""
        return self._ask("POST", path, json.dumps(body), timeout)

    def events(self, path: str, timeout: float | None) -> Iterator[Event]:
        """Each event of a stream, for *timeout* seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        connection, response = self._begin("GET", path, None, 10.0)
        name = id = ""
        try:
            if response.status >= 400:
                raise _refused(self.path, response.status, response.read())
            while until is None or time.monotonic() < until:
                left = None if until is None else max(0.01, until - time.monotonic())
                connection.stream.settimeout(left)
                if not (line := response.readline()):
                    raise Failed(f"the node at {self.path} has ended the stream: it stops, or is gone")
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "id":
                    id = value
                elif field == "data":
                    yield Event(name, json.loads(value), id)
                    id = ""
        except TimeoutError:
            return
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failed(f"the stream of the node at {self.path} has ended: {error}") from None
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: str | None, timeout: float) -> Any:
        connection, response = self._begin(method, path, body, timeout)
        try:
            content = response.read()
            answer = json.loads(content)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failed(f"the node at {self.path} gave no answer: {error}") from None
        finally:
            connection.close()
        if response.status >= 400:
            raise _refused(self.path, response.status, content)
        return answer

    def _begin(
        self, method: str, path: str, body: str | None, timeout: float | None
    ) -> tuple[_Connection, http.client.HTTPResponse]:
        connection = _Connection(self.path, timeout)
        try:
            connection.request(method, path, body)
            return connection, connection.getresponse()
        except TimeoutError:
            connection.close()
            raise Failed(f"the node at {self.path} has not answered within {timeout:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            why = getattr(error, "strerror", None) or error
            raise Failed(f"no node answers at {self.path}: {why}") from None


def _refused(path: Path, status: int, body: bytes) -> Failed:
    """The error in an answer of the node at *path*."""
    try:
        return Failed(str(json.loads(body)["error"]), status)
    except (ValueError, KeyError, TypeError):
        return Failed(f"another program than a node answers at {path}")


def the_node(named: str | None, environ: Mapping[str, str]) -> Client:
    """The node whose socket is *named*, or else the one node of this machine.

    :raises Failed: there is none, or more than one.
    """
    if named is not None:
        return Client(Path(named))
    sockets = places.found(environ)
    if not sockets:
        where = " or ".join(map(str, places.folders(environ)))
        raise Failed(
            f"no node runs here: no control socket answers in {where}; start a node, for example by "
            "twistd mesh --port 4444, name its socket by --node PATH, or join a mesh for this once by "
            "--peer HOST:PORT (members, send, request, query, listen)"
        )
    if len(sockets) > 1:
        paths = ", ".join(map(str, sockets))
        raise Failed(f"{len(sockets)} nodes run here; choose one by --node PATH: {paths}")
    return Client(sockets[0])
