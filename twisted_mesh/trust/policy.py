"""Trust: how a mesh knows who belongs to it, as an application chooses it.

Contract: a :class:`Trust` names files, and opens none.  :meth:`Trust.load` reads them, and gives the
:class:`~twisted_mesh.network.Policy` of one node, which the core asks.  :class:`MeshService` does that
before it opens anything.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Final

import msgspec

from twisted_mesh.errors import LocalError
from twisted_mesh.network import EVERYBODY, Policy, Protocol
from twisted_mesh.trust.shared_secret import Secret, read_secrets
from twisted_mesh.wire.membership import Credential

_AUTHOR_DOMAIN: Final = b"twisted_mesh/1/author"  # before the text of a credential's MAC, and no other text
_NONE: Final = Credential(b"", b"")
_unpack = msgspec.msgpack.Decoder(Credential).decode


class Trust:
    """How a mesh knows who belongs to it; all its nodes must choose the same.

    Make it with one of the class methods.  ``a & b`` trusts a node that both *a* and *b* trust.
    """

    def __init__(self, files: dict[str, Path]) -> None:
        """:param files: the file of each mode, by the name of the mode."""
        self._files = files

    @classmethod
    def open(cls) -> Trust:
        """Trust everybody who can reach a port: to try things out, or where no stranger can."""
        return cls({})

    @classmethod
    def secret(cls, path: str | os.PathLike[str]) -> Trust:
        """Trust whoever has the secret in the file *path* (``mesh secret new FILE`` makes one)."""
        return cls({"secret": _absolute(path)})

    def __and__(self, other: Trust) -> Trust:
        if not isinstance(other, Trust):
            return NotImplemented
        if both := self._files.keys() & other._files.keys():
            raise LocalError(f"trust names two files for {min(both)}: one file has all of them")
        return Trust({**self._files, **other._files})

    def __repr__(self) -> str:
        parts = [f"Trust.{name}({str(path)!r})" for name, path in self._files.items()]
        return " & ".join(parts) or "Trust.open()"

    def load(self, network: Protocol) -> Policy:
        """Read the files, and return the policy of one node of *network*.

        :raises TrustError: a file cannot be used; the text says what to do about it.
        :raises LocalError: *network* is not encrypted.
        """
        if not self._files:
            return EVERYBODY
        if not network.encrypted:
            raise LocalError(
                "trust needs encryption='SSL': over plain text a host on the way could use a proof itself"
            )
        return FilePolicy(self._files, network)


def _absolute(path: str | os.PathLike[str]) -> Path:
    """*path*, which a daemon may use from another directory."""
    if not isinstance(path, str | os.PathLike):
        raise LocalError(f"trust is in a file, named by its path, not by {type(path).__name__}")
    return Path(path).absolute()


class FilePolicy(Policy):
    """The policy that files tell."""

    def __init__(self, files: dict[str, Path], network: Protocol) -> None:
        self.mode = "&".join(sorted(files))
        key = network.key_with(self.mode)
        self.secrets: list[Secret] = []
        if (path := files.get("secret")) is not None:
            self.secrets = read_secrets(path, key)
        self.needs_credentials = bool(self.secrets)

    def may_link(self, origin: bytes, secret: bytes) -> str | None:
        if self.secrets and all(secret != known.id for known in self.secrets):
            return "the secret that the peer proved is not in use any more"
        return None

    def may_speak(self, origin: bytes, credential: bytes) -> bool:
        if not self.secrets:
            return True
        shown = unpack_credential(credential)
        right = [
            secret.author(_AUTHOR_DOMAIN + origin) for secret in self.secrets if secret.id == shown.secret
        ]
        return bool(right) and hmac.compare_digest(right[0], shown.mac)

    def credential(self, origin: bytes) -> bytes:
        if not self.secrets:
            return b""
        secret = self.secrets[0]
        return msgspec.msgpack.encode(Credential(secret.id, secret.author(_AUTHOR_DOMAIN + origin)))


def unpack_credential(packed: bytes) -> Credential:
    """The credential in a record; all its fields are empty if *packed* is none."""
    try:
        return _unpack(packed)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _NONE
