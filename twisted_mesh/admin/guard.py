"""Which requests a node answers over TCP: those with its token, from no page of another site.

The files of the node's own page need no token.

Contract: the token is in a file with mode 0600 that nobody but the node's user can read, and in no error
and no log line.  A request is judged by its head, before any of its body is kept.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any, Final

from twisted.web import http
from twisted.web.server import Request

from twisted_mesh.admin.page import FILES
from twisted_mesh.admin.site import Refused
from twisted_mesh.errors import TrustError
from twisted_mesh.trust.files import read_lines

_RANDOM_BYTES: Final = 32  # as many as a secret has (trust.shared_secret)
_SHORTEST: Final = 32  # characters of a token that somebody chose (guess)
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z.-]+)(?::[0-9]{1,5})?")
_KIND: Final = "the token"
_WORD: Final = "token "  # before the text in the file: a secret or a key that is named by mistake has none
_OPEN: Final = {b"/" + path for path in FILES}  # the files of the page: they tell nothing of the node


class Token:
    """The text that a client shows; the object keeps it where no ``repr`` shows it.

    :ivar path: its file.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._text = text

    def reveal(self) -> str:
        """The text."""
        return self._text

    def is_shown(self, authorization: str) -> bool:
        """Whether the header *authorization* shows the token, perhaps with the word before it."""
        scheme, _, text = authorization.partition(" ")
        shown = text.strip().removeprefix(_WORD).encode("latin-1", "replace")
        return scheme.lower() == "bearer" and hmac.compare_digest(shown, self._text.encode())


def load_or_create(path: str | os.PathLike[str]) -> Token:
    """The token in the file *path*; if there is no such file, make one.

    :raises TrustError: the file cannot be used or made; the text says why.
    """
    file = Path(path).absolute()
    if not os.path.lexists(file):
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as stream:
                stream.write(f"{_WORD}{secrets.token_urlsafe(_RANDOM_BYTES)}\n")
        except OSError as error:
            raise TrustError(f"{_KIND} {file}: {error.strerror}") from None
    lines, _ = read_lines(file, _KIND, stat.S_IRWXG | stat.S_IRWXO, "600")
    texts = [line.removeprefix(_WORD) for _, line in lines if line.startswith(_WORD)]
    if len(lines) != 1 or not texts or len(texts[0]) < _SHORTEST or not _TOKEN.fullmatch(texts[0]):
        raise TrustError(
            f"{_KIND} {file} is not one line of at least {_SHORTEST} characters behind the word token: "
            "name another file; if there is none, it is made"
        )
    return Token(file, texts[0])


class Guard:
    """Judges the heads of requests."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def refusal(self, request: Request) -> Refused | None:
        """Why *request* is not answered; None if it is.

        A page of another site can reach this port, if its own name is made to lead here (DNS rebinding).
        It has that name in ``Host`` then; an address there, or ``localhost``, leads nowhere else.
        """
        hosts = _headers(request, b"host")
        if len(hosts) != 1 or not is_own_name(hosts[0]):
            told = "the header Host is an IP address or localhost: ask this port by one of them"
            return Refused(http.FORBIDDEN, told)
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in _headers(request, b"origin")):
            return Refused(http.FORBIDDEN, "a page of another site asks: only this node's own page may")
        channel: Any = request.channel
        if channel.target in _OPEN:
            return _not_read(request, channel.method)
        shown = _headers(request, b"authorization")
        if len(shown) != 1 or not self._token.is_shown(shown[0]):
            told = "this port answers with its token alone: send the header Authorization: Bearer TOKEN"
            return Refused(http.UNAUTHORIZED, told)
        return None


def _not_read(request: Request, method: bytes) -> Refused | None:
    """Why a *request* for a file of the page is not answered; None if it only reads the file."""
    if method not in (b"GET", b"HEAD"):
        return Refused(http.NOT_ALLOWED, "this path takes GET, HEAD alone")
    lengths = _headers(request, b"content-length")
    if any(length.strip("0") for length in lengths) or _headers(request, b"transfer-encoding"):
        return Refused(http.REQUEST_ENTITY_TOO_LARGE, "this path takes no body")
    return None


def is_own_name(host: str) -> bool:
    """Whether the header *host* is an IP address or ``localhost``, perhaps with a port."""
    if (parts := _HOST.fullmatch(host.lower())) is None:
        return False
    name = parts[1]
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name == "localhost"
    return True


def _headers(request: Request, name: bytes) -> list[str]:
    return [value.decode("latin-1") for value in request.requestHeaders.getRawHeaders(name, [])]
