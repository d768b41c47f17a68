"""The shared secret: whoever has it may link, and may be an author.

Contract: a secret is 32 random bytes, in a file with mode 0600 that nobody but the node's user can read.
The keys in use are expanded from it by HKDF, for one network and one purpose each.  The secret itself and
its keys are in no error, no log line and no ``repr``: an error names the file, and a secret is named by its
id, which tells nothing about it.
"""

from __future__ import annotations

import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from twisted_mesh.errors import TrustError
from twisted_mesh.grammar import counted
from twisted_mesh.identity import write_new
from twisted_mesh.trust.files import OF_AUTHORITY, read_lines

SECRET_BYTES: Final = 32  # a passphrase could be guessed from a MAC, at 1.7 us a guess (measured)
ID_BYTES: Final = 8  # tells the secrets of one mesh apart, of which there are few (guess)
MAX_SECRETS: Final = 3  # in a file: the old one, the new one, and one more that is still retired (guess)
RETIRED: Final = "retired "  # before a secret that admits no link, but messages of its authors for a while
_DOMAIN: Final = b"twisted_mesh/1/secret/"  # before the purpose of a key
_KIND: Final = "the secret"


class _Key:
    """A key of HMAC-SHA256; the object keeps it where neither ``repr`` nor a traceback shows it."""

    __slots__ = ("_keyed",)

    def __init__(self, secret: bytes, purpose: bytes, network: bytes) -> None:
        self._keyed = hmac.new(_expand(secret, purpose + b"/" + network, 32), digestmod="sha256")

    def mac(self, text: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(text)
        return keyed.digest()


class Secret:
    """The keys of one secret in one network (:class:`~twisted_mesh.network.LinkSecret`).

    :ivar id: names the secret, to people and in credentials; it is the same in every network.
    """

    def __init__(self, secret: bytes, network: bytes) -> None:
        """:param network: the network's key (:meth:`~twisted_mesh.network.Protocol.key_with`)."""
        self.id = id_of_secret(secret)
        self.knock = _Key(secret, b"knock", network).mac
        self.proof = _Key(secret, b"link", network).mac
        self.author = _Key(secret, b"author", network).mac

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<secret {self.id.hex()}>"


def id_of_secret(secret: bytes) -> bytes:
    """The 8 bytes that name *secret*."""
    return _expand(secret, b"id", ID_BYTES)


def _expand(secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=_DOMAIN + info).derive(secret)


class Secrets(NamedTuple):
    """The secrets that a file holds.

    :ivar used: those in use, at least one; the first is the one to prove.
    :ivar retired: those that no link is admitted by any more.
    :ivar since: when the file was written, in seconds since 1970.
    """

    used: list[Secret]
    retired: list[Secret]
    since: float


def read_secrets(path: Path, network: bytes) -> Secrets:
    """The secrets in the file *path*; a line holds one, as 64 hexadecimal digits, perhaps retired.

    :raises TrustError: the file cannot be used; the text says what to do about it.
    """
    # The error is raised here, so that no function that has a secret in a variable is in its traceback.
    found = _read(path, network)
    if isinstance(found, str):
        raise TrustError(found)
    return found


def _read(path: Path, network: bytes) -> Secrets | str:
    """The secrets in the file *path*, or why they cannot be used."""
    try:
        lines, since = read_lines(path, _KIND, stat.S_IRWXG | stat.S_IRWXO, "600", OF_AUTHORITY)
    except TrustError as error:
        return str(error)
    found: list[Secret] = []
    retired: list[Secret] = []
    for number, line in lines:
        secret = _parsed(line.removeprefix(RETIRED))
        if isinstance(secret, str):
            return f"{_KIND} {path}, line {number}: {secret}; make one with mesh secret new FILE"
        found.append(Secret(secret, network))
        if line.startswith(RETIRED):
            retired.append(found[-1])
    if not found:
        return f"{_KIND} {path} is empty: make one with mesh secret new FILE"
    if len(found) > MAX_SECRETS:
        return f"{_KIND} {path} has {len(found)} lines: keep the {MAX_SECRETS} newest at most"
    if len(set(found)) < len(found):
        return f"{_KIND} {path} has the same secret twice: take one of the lines out"
    used = [secret for secret in found if secret not in retired]
    if not used:
        return f"{_KIND} {path} has retired secrets only: put the one to use in front of them"
    return Secrets(used, retired, since)


def _parsed(line: str) -> bytes | str:
    """The secret in *line*, or what is wrong with it; no error shows anything of it."""
    try:
        secret = bytes.fromhex(line)
    except ValueError:
        return f"not {2 * SECRET_BYTES} hexadecimal digits"
    if len(secret) != SECRET_BYTES:
        return f"{counted(len(secret), 'byte')} and not {SECRET_BYTES}"
    return secret


def create(path: str | os.PathLike[str]) -> bytes:
    """Make a secret in the new file *path*, mode 0600; return its id.

    :raises TrustError: the file exists, or cannot be written.
    """
    made = _create(Path(path))
    if isinstance(made, str):
        raise TrustError(f"{_KIND} {os.fspath(path)}: {made}")  # raised here, as in read_secrets()
    return made


def _create(path: Path) -> bytes | str:
    """The id of a new secret in the new file *path*, or why there is none."""
    secret = secrets.token_bytes(SECRET_BYTES)
    id = id_of_secret(secret)
    return write_new(path, f"{secret.hex()}  # id {id.hex()}\n".encode()) or id
