"""Trust: how a mesh knows who belongs to it, as an application chooses it.

Contract: a :class:`Trust` names files, and opens none.  :meth:`Trust.load` reads them, and gives the
:class:`~twisted_mesh.network.Policy` of one node, which the core asks.  :class:`MeshService` does that
before it opens anything.  Later :meth:`FilePolicy.reload` reads the files again: a file that cannot be used
then changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from twisted_mesh.errors import LocalError, RemoteError, TrustError
from twisted_mesh.identity import replace_synced
from twisted_mesh.network import EVERYBODY, Policy, Protocol
from twisted_mesh.trust.allow_list import DIGEST_BYTES, digest_of, read_ids
from twisted_mesh.trust.authority import (
    Authority,
    check_own,
    read_authority,
    read_grant,
    read_policy,
)
from twisted_mesh.trust.certificates import Certificates, read_certificates
from twisted_mesh.trust.certificates import check_own as check_certificate
from twisted_mesh.trust.content import Content, ContentPolicy
from twisted_mesh.trust.shared_secret import ID_BYTES, Secrets, read_secrets
from twisted_mesh.wire.authority import Roles
from twisted_mesh.wire.membership import MAX_CREDENTIAL, Credential

#: The modes, by name -> whether a node proves something by it, so that it is part of the network's id.
_MODES: Final = {"secret": True, "authority": True, "certificates": True, "only": True, "deny": False}
#: The mode that needs another file, too -> the name of that file.
_BESIDE: Final = {"authority": "grant", "certificates": "certificate"}
_TOLD: Final = {
    "secret": "nodes with the secret",
    "authority": "nodes with a grant of the authority",
    "certificates": "nodes with a certificate of the CA",
    "only": "nodes on a list",
    "deny": "nodes that are on no list of denied ones",
}


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

    @classmethod
    def authority(cls, path: str | os.PathLike[str], grant: str | os.PathLike[str]) -> Trust:
        """Trust the nodes to which an authority has given a grant.

        :param path: the file of its public key (``mesh authority new FILE`` makes FILE.pub).
        :param grant: the file of this node's own grant (``mesh authority grant``).
        """
        return cls({"authority": _absolute(path), "grant": _absolute(grant)})

    @classmethod
    def certificates(cls, ca: str | os.PathLike[str], certificate: str | os.PathLike[str]) -> Trust:
        """Trust the nodes with an X.509 certificate that a certificate authority (CA) has signed.

        :param ca: the file of the CA's certificate, or of several, in PEM.
        :param certificate: the file of this node's own, which is of the key of its identity.
        """
        return cls({"certificates": _absolute(ca), "certificate": _absolute(certificate)})

    @classmethod
    def only(cls, path: str | os.PathLike[str]) -> Trust:
        """Trust the nodes whose ids are in the file *path*, one a line; what follows ``#`` is ignored."""
        return cls({"only": _absolute(path)})

    @classmethod
    def deny(cls, path: str | os.PathLike[str]) -> Trust:
        """Trust everybody but the nodes whose ids are in the file *path*, which may have none."""
        return cls({"deny": _absolute(path)})

    def __and__(self, other: Trust) -> Trust:
        if not isinstance(other, Trust):
            return NotImplemented
        if both := self._files.keys() & other._files.keys():
            raise LocalError(f"trust names two files for {min(both)}: one file has all of them")
        return Trust({**self._files, **other._files})

    @property
    def is_open(self) -> bool:
        """Whether everybody is trusted."""
        return not self._files

    def __str__(self) -> str:
        """Whom it trusts, for people."""
        return " and ".join(_TOLD[name] for name in _MODES if name in self._files) or "everybody"

    def __repr__(self) -> str:
        parts = []
        for name, path in self._files.items():
            if name in _MODES:
                beside = f", {str(self._files[_BESIDE[name]])!r}" if name in _BESIDE else ""
                parts.append(f"Trust.{name}({str(path)!r}{beside})")
        return " & ".join(parts) or "Trust.open()"

    def load(self, network: Protocol, wall_clock: Callable[[], float], kept_for: float) -> Policy:
        """Read the files, and return the policy of one node of *network*.

        :param wall_clock: gives seconds since 1970; the age of a file is told by it.
        :param kept_for: seconds for which nodes hold messages: messages of authors that proved themselves
            by a retired secret are taken for so long.
        :raises TrustError: a file cannot be used; the text says what to do about it.
        :raises LocalError: *network* is not encrypted.
        """
        if not self._files:
            return EVERYBODY
        if not network.encrypted:
            raise LocalError(
                "trust needs encryption='SSL': over plain text a host on the way could use a proof itself"
            )
        policy = FilePolicy(self._files, network, wall_clock, kept_for)
        policy.told = str(self)
        return policy


def _absolute(path: str | os.PathLike[str]) -> Path:
    """*path*, which a daemon may use from another directory."""
    if not isinstance(path, str | os.PathLike):
        raise LocalError(f"trust is in a file, named by its path, not by {type(path).__name__}")
    return Path(path).absolute()


class FilePolicy(ContentPolicy):
    """A policy whose content is in files."""

    def __init__(
        self,
        files: dict[str, Path],
        network: Protocol,
        wall_clock: Callable[[], float],
        kept_for: float,
    ) -> None:
        """As :meth:`Trust.load`, with the file of each mode."""
        self._files = files
        self._network = network
        self._kept: Path | None = None  # the file of the authority's newest policy
        self._is_guest = False
        self._authority = read_authority(path, network) if (path := files.get("authority")) else None
        modes = [name for name in files if _MODES.get(name)]
        if self._authority is not None:
            modes[modes.index("authority")] = self._authority.mode
        mode = "&".join(sorted(modes))
        self._key = network.key_with(mode)
        self._wall_clock = wall_clock
        self._kept_for = kept_for
        self._seen = self._read = self._marks()
        super().__init__(self._in_time(self._load()), mode)

    def fit(self, id: bytes, is_guest: bool, beside: Path | None = None) -> None:
        self.own_id, self._is_guest = id, is_guest
        self._load_grant()
        if self.content.certificates is not None:
            self._check_certificate(self.content.certificates)
        if beside is not None and self._authority is not None:
            self._kept = beside.with_name(f"{beside.name}.policy")
            if (packed := read_policy(self._kept)) is not None:
                self._take_kept(self._kept, packed)

    def _take_kept(self, path: Path, packed: bytes) -> None:
        try:
            self.take(packed)
        except RemoteError as error:
            raise TrustError(f"{path}: {error.detail}; move it away if it is of another mesh") from None

    def keep(self) -> None:
        """Keep the newest policy of the authority beside the node's key.

        :raises TrustError: it cannot be written.
        """
        if self._kept is not None:
            try:
                replace_synced(self._kept, f"{self.newest.hex()}\n".encode())
            except OSError as error:
                why = f"{error.strerror}; after a restart this node may believe an older one"
                raise TrustError(f"the policy {self._kept}: {why}") from None

    def reload(self) -> bool:
        """Read the files again; return whether the policy has changed.

        :raises TrustError: a file cannot be used, and nothing has changed.
        """
        marks = self._marks()
        has_changed = self._go_by(self._load())
        self._seen = self._read = marks
        return has_changed

    def look(self, *, at_once: bool = False) -> bool:
        """Read the files again if they were changed; end retired secrets whose time is over.

        :param at_once: whether files are read that may have changed since the last look.
        :return: and errors as of :meth:`reload`; a file that cannot be used is an error once.
        """
        before, self._seen = self._seen, self._marks()
        if self._seen == self._read or not (at_once or self._seen == before):
            return self._go_by(self.content)
        self._read = self._seen
        return self._go_by(self._load())

    def some_have_ended(self) -> bool:
        """Whether the certificate of another node has expired since this was last asked."""
        certificates = self.content.certificates
        return certificates is not None and certificates.some_have_ended()

    @property
    def warning(self) -> str | None:
        certificates = self.content.certificates
        if certificates is not None and (told := certificates.warning(self._files["certificate"])):
            return told
        return self.own_barred

    def _go_by(self, content: Content) -> bool:
        before, content = self.content, self._in_time(content)
        if content == before:  # if so, the verified certificates are not forgotten
            return False
        self.content = content
        return True

    def _in_time(self, content: Content) -> Content:
        """*content*, without retired secrets if no message of the time when they were used is held."""
        if self._wall_clock() - self._kept_for <= content.secrets.since:
            return content
        return content._replace(secrets=content.secrets._replace(retired=[]))

    def _marks(self) -> tuple[object, ...]:
        """Tells a file that was written again from what it was."""
        return tuple(_mark(path) for path in self._files.values())

    def _load(self) -> Content:
        files = self._files
        secrets, only, denied = Secrets([], [], 0.0), None, frozenset[bytes]()
        if (path := files.get("secret")) is not None:
            secrets = read_secrets(path, self._key)
        if (path := files.get("only")) is not None:
            only = read_ids(path, "the list of members", may_be_empty=False)
        if (path := files.get("deny")) is not None:
            denied = read_ids(path, "the list of denied nodes", may_be_empty=True)
        has_lists = not files.keys().isdisjoint({"only", "deny"})
        lists = digest_of((only or frozenset(), denied)) if has_lists else b""
        content = Content(secrets, only, denied, lists, *self._load_grant())
        if (path := files.get("certificates")) is not None:
            return self._with_certificates(content, path)
        return content

    def _with_certificates(self, content: Content, ca: Path) -> Content:
        own = self._files["certificate"]
        found = read_certificates(ca, own, self._wall_clock, self._kept_for)
        if self.own_id:
            self._check_certificate(found)
        largest = Credential(bytes(ID_BYTES), bytes(32), bytes(DIGEST_BYTES), content.grant, found.own)
        if (size := len(msgspec.msgpack.encode(largest))) > MAX_CREDENTIAL:
            raise TrustError(
                f"the certificate {own} is too long beside a grant, by {size - MAX_CREDENTIAL} bytes: have "
                "one made with fewer extensions, or by a CA with a smaller key"
            )
        return content._replace(certificates=found)

    def _check_certificate(self, certificates: Certificates) -> None:
        check_certificate(self._files["certificate"], certificates, self.own_id)

    def _load_grant(self) -> tuple[Authority | None, bytes, Roles]:
        """The authority, and this node's own grant with its roles."""
        if (authority := self._authority) is None:
            return None, b"", Roles(0)
        path, own = self._files["authority"], self._files["grant"]
        if read_authority(path, self._network).network != authority.network:
            raise TrustError(
                f"{path} has another authority, which is another mesh: start the node anew for it"
            )
        packed, content = read_grant(own, authority)
        if self.own_id:
            check_own(own, content, self.own_id, self._is_guest)
        return authority, packed, Roles(content.roles)


def _mark(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
