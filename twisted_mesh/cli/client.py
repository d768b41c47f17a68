"""Asks a node by its control socket, or by its HTTP port (``docs/http.rst``); nothing here imports Twisted.

Contract: each method asks once.  If the node cannot be reached, or answers with an error, that is a
:class:`Failed` with a sentence for people.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from twisted_mesh.cli import places
from twisted_mesh.escaping import for_terminal, name_of

PATIENCE: Final = 1.0  # seconds for which each node here may take to say who it is (guess)
MOMENT: Final = 0.1  # seconds for which others may say, too, that they have a label (guess)
_LEAST: Final = 4  # characters of an id that can stand for it, as for a member


class Failed(Exception):
    """No answer, or an error; the text says why and what to do.

    :ivar status: of HTTP; None if no answer came.
    :ivar rows: to be shown below the text.
    """

    def __init__(self, sentence: str, status: int | None = None, rows: Sequence[str] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.rows = rows

    def shown(self) -> str:
        """The text and the rows, for a terminal."""
        return "\n  ".join(map(for_terminal, (str(self), *self.rows)))


class Event(NamedTuple):
    """An event of a stream; its *id* may be empty."""

    name: str
    data: Any
    id: str


class _Connection(http.client.HTTPConnection):
    """A connection over TCP.

    :ivar stream: the connected socket, also when http.client has given up its own, with the head.
    """

    stream: socket.socket

    def connect(self) -> None:
        super().connect()
        self.stream = self.sock


class _ToSocket(_Connection):
    """A connection to a control socket."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("node", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.stream = self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


class Client:
    """Asks the node whose control socket is at *path*."""

    def __init__(self, path: Path | str) -> None:
        """:param path: as texts for people name it."""
        self.path = path
        self._headers: dict[str, str] = {}

    def get(self, path: str, timeout: float = 10.0) -> Any:
        """The answer to a GET."""
        return self._ask("GET", path, None, timeout)

    def post(self, path: str, body: object, timeout: float) -> Any:
        """The answer to a POST, which comes within *timeout* seconds."""
        return self._ask("POST", path, json.dumps(body), timeout)

    def events(self, path: str, timeout: float | None) -> Iterator[Event]:
        """Each event of a stream, for *timeout* seconds.

        :raises BrokenPipeError: nobody reads the output of this process any more.
        """
        until = None if timeout is None else time.monotonic() + timeout
        connection, response = self._begin("GET", path, None, 10.0)
        name = id = ""
        try:
            if response.status >= 400:
                raise _refused(self.path, response.status, response.read())
            is_unread = _end_with_output(connection.stream)
            while until is None or time.monotonic() < until:
                left = None if until is None else max(0.01, until - time.monotonic())
                connection.stream.settimeout(left)
                if not (line := response.readline()):
                    if is_unread.is_set():
                        raise BrokenPipeError
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
        except BrokenPipeError:
            raise
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
        connection = self._connection(timeout)
        try:
            connection.request(method, path, body, self._headers)
            return connection, connection.getresponse()
        except TimeoutError:
            connection.close()
            raise Failed(f"the node at {self.path} has not answered within {timeout:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            why = getattr(error, "strerror", None) or error
            raise Failed(f"no node answers at {self.path}: {why}") from None

    def _connection(self, timeout: float | None) -> _Connection:
        return _ToSocket(Path(self.path), timeout)


class WebClient(Client):
    """Asks the node whose HTTP port is at a URL."""

    def __init__(self, url: str, token: str | None) -> None:
        """:param token: the file with the node's token; None for none.

        :raises Failed: the URL or the file cannot be used.
        """
        super().__init__(url)
        try:
            parts = urlsplit(url)
            self._address = parts.hostname or "", parts.port or 80
        except ValueError as error:
            raise Failed(f"{url} is no URL: {error}") from None
        if parts.scheme != "http" or not parts.hostname:
            raise Failed(f"the URL of a node is http://ADDRESS:PORT, not {url}")
        if token is not None:
            self._headers["Authorization"] = f"Bearer {_line_in(Path(token))}"

    def _connection(self, timeout: float | None) -> _Connection:
        return _Connection(*self._address, timeout=timeout)


def _end_with_output(stream: socket.socket) -> threading.Event:
    """End *stream* once nobody reads the output of this process any more; the event says so then.

    Otherwise ``mesh listen | head -1`` would end with the next message after the first, perhaps never.
    """
    is_unread = threading.Event()
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except OSError:  # it is no file, as in a test
        return is_unread

    def wait() -> None:
        poll.poll()
        is_unread.set()
        with suppress(OSError):
            stream.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=wait, daemon=True).start()
    return is_unread


def _line_in(token: Path) -> str:
    try:
        line = token.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise Failed(f"the token {token}: {getattr(error, 'strerror', None) or error}") from None
    if not line.isprintable():
        raise Failed(f"the token {token} is not one line")
    return line


def _refused(path: Path | str, status: int, body: bytes) -> Failed:
    """The error in an answer of the node at *path*."""
    try:
        return Failed(str(json.loads(body)["error"]), status)
    except (ValueError, KeyError, TypeError):
        return Failed(f"another program than a node answers at {path}")


def the_node(named: str | None, environ: Mapping[str, str], token: str | None = None) -> Client:
    """The node that is *named*, or else the one node of this machine.

    :param named: its socket, its URL, or, if its socket is where sockets are looked for, its label, or its
        id or the beginning of it.
    :param token: the file with the token for a URL.
    :raises Failed: there is none, or more than one.
    """
    if named is not None and "://" in named:
        return WebClient(named, token)
    if token is not None:
        raise Failed("--token is for a node that --node names by its URL, http://ADDRESS:PORT")
    if named is not None and (os.sep in named or Path(named).is_socket()):
        return Client(Path(named))
    sockets = places.found(environ)
    if named is not None:
        return Client(_socket_of(named, sockets))
    if not sockets:
        where = " or ".join(map(str, places.folders(environ)))
        raise Failed(
            f"no node runs here: no control socket answers in {where}; start a node, for example by "
            "twistd mesh --port 4444, name its socket by --node PATH, or join a mesh for this once by "
            "--peer HOST:PORT (members, send, request, query, listen)"
        )
    if len(sockets) > 1:
        rows = [_row(path, who) for path, who in _who_is_at(sockets).items()]
        raise Failed(f"{len(sockets)} nodes are found; choose one by --node LABEL, ID or PATH:", rows=rows)
    return Client(sockets[0])


class _Who(NamedTuple):
    """What a node says of itself."""

    id: str
    label: str | None


def _socket_of(named: str, sockets: Sequence[Path]) -> Path:
    """The one of *sockets* whose node has that label, or an id that is it or begins so.

    As with members neither goes before the other.

    :raises Failed: there is none, or more than one.
    """
    told = _who_is_at(sockets, named)
    answers = [(path, who) for path, who in told.items() if who is not None]
    fitting = [(path, who) for path, who in answers if who.id == named] or [
        (path, who)
        for path, who in answers
        if who.label == named or (len(named) >= _LEAST and who.id.startswith(named))
    ]
    if len(fitting) == 1:
        return fitting[0][0]
    if fitting:
        have = f"{len(fitting)} nodes here have the label or id {named}"
        raise Failed(f"{have}; choose one by --node PATH:", rows=[_row(*each) for each in fitting])
    silent = [_row(path, None) for path, who in told.items() if who is None]
    raise Failed(f"no node here has the label or id {named}", rows=silent)


def _row(path: Path, who: _Who | None) -> str:
    return f"{path} (does not answer)" if who is None else f"{name_of(*who)} at {path}"


def _who_is_at(sockets: Sequence[Path], named: str | None = None) -> dict[Path, _Who | None]:
    """What the node at each of *sockets* says of itself; None for one that says nothing in time.

    All are asked at once, so that those that are stopped or hang hold up no other.

    :param named: once a node with this label or id has answered, the others have only a moment left.
    """
    answers: queue.SimpleQueue[tuple[Path, _Who | None]] = queue.SimpleQueue()

    def ask(path: Path) -> None:
        who = None
        with suppress(Failed, KeyError, TypeError):
            node = Client(path).get("/status", PATIENCE)["node"]
            who = _Who(node["id"], node["label"])
        answers.put((path, who))

    until = time.monotonic() + PATIENCE
    for path in sockets:
        threading.Thread(target=ask, args=(path,), daemon=True).start()
    told: dict[Path, _Who | None] = dict.fromkeys(sockets)
    for _ in sockets:
        try:
            path, who = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        told[path] = who
        if who is not None and named is not None and named in who:
            until = min(until, time.monotonic() + MOMENT)
    return told
