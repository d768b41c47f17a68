"""The policy that answers the core by its content, wherever that came from.

Contract: the *content* of a :class:`ContentPolicy` is a value, which is replaced as a whole.  Beside it,
the policy goes by the newest policy that the mesh's authority has signed.  It opens no file.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from twisted_mesh.errors import RemoteError
from twisted_mesh.grammar import counted
from twisted_mesh.identity import id_of
from twisted_mesh.network import Cuts, Policy, Quotas
from twisted_mesh.trust.authority import Authority, Grants, Removals, may_be
from twisted_mesh.trust.certificates import Certificates
from twisted_mesh.trust.shared_secret import Secret, Secrets
from twisted_mesh.wire.authority import Roles
from twisted_mesh.wire.membership import Credential

_AUTHOR_DOMAIN: Final = b"twisted_mesh/1/author"  # before the text of a credential's MAC, and no other text
_AGAIN: Final = "remove all nodes again that are to be removed"
_NONE: Final = Credential(b"", b"", b"")
_unpack = msgspec.msgpack.Decoder(Credential).decode


class Content(NamedTuple):
    """What a policy goes by; all of it is replaced at once."""

    secrets: Secrets
    only: frozenset[bytes] | None
    denied: frozenset[bytes]
    lists: bytes  # the digest of both lists; empty if there is none
    authority: Authority | None = None
    grant: bytes = b""  # this node's own, packed; empty without an authority
    roles: Roles = Roles(0)  # those of that grant
    certificates: Certificates | None = None  # this node's, and the CA's


class ContentPolicy(Policy):
    """A policy that goes by its *content*, and by the newest policy of the authority that it was given.

    :ivar own_id: the id of this node, once it is known.
    """

    own_id = b""

    def __init__(self, content: Content, mode: str = "") -> None:
        """:param mode: as in :class:`~twisted_mesh.network.Policy`."""
        self.mode = mode
        self.content = content
        self._grants = Grants()
        self._removals = Removals()
        self._is_removed = False

    @property
    def secrets(self) -> list[Secret]:  # type: ignore[override]
        return self.content.secrets.used

    @property
    def grant(self) -> bytes:  # type: ignore[override]
        return self.content.grant

    @property
    def certificate(self) -> bytes:  # type: ignore[override]
        certificates = self.content.certificates
        return b"" if certificates is None else certificates.own

    @property
    def needs_credentials(self) -> bool:
        return bool(self.secrets) or self.needs_grants or bool(self.certificate)

    def may_link(self, origin: bytes, secret: bytes) -> str | None:
        if self.secrets and all(secret != known.id for known in self.secrets):
            return "the secret of this link is not in use any more: nodes with a newer one link again"
        return self._why_barred(origin)

    def why_not_granted(self, origin: bytes, grant: bytes, is_guest: bool) -> str | None:
        if (authority := self.content.authority) is None:
            return None
        name, removals = id_of(origin).decode(), self._removals
        if origin in removals.removed:
            return f"policy {removals.number} of the authority has removed {name}: give the node a new key"
        if not grant:
            return f"{name} shows no grant of the mesh's authority: have one made, mesh authority grant"
        try:
            why = self._grants.take(authority, origin, grant, removals.generation)
        except RemoteError as error:
            return f"{error.detail}: have one made for this mesh, mesh authority grant"
        if why is not None:
            return why
        roles = self._grants.roles(origin) or Roles(0)
        if not roles & Roles.LINK:
            return f"the grant of {name} does not let it link: have one made with the role link"
        if not is_guest and not may_be(roles, is_guest):
            return f"the grant of {name} does not let it be a member: start it with the role guest"
        return None

    def why_not_certified(self, origin: bytes, certificate: bytes, name: str | None = None) -> str | None:
        certificates = self.content.certificates
        return None if certificates is None else certificates.why_not(origin, certificate, name)

    def why_strange(self, certificate: bytes) -> str | None:
        certificates = self.content.certificates
        return None if certificates is None else certificates.why_strange(certificate)

    def bars(self, origin: bytes) -> bool:
        return self._why_barred(origin) is not None

    @property
    def own_barred(self) -> str | None:
        """Why nodes with the same lists do not link with this one; None if they do."""
        told = self._why_not_listed(self.own_id) if self.own_id else None
        return told and f"this node is kept out by nodes with the same lists: {told}"

    def _why_barred(self, origin: bytes) -> str | None:
        content = self.content
        if content.only is None and not content.denied:
            return None
        return self._why_not_listed(id_of(origin))

    def _why_not_listed(self, node_id: bytes) -> str | None:
        content = self.content
        if node_id in content.denied:
            return f"a list of denied nodes has {node_id.decode()}"
        if content.only is not None and node_id not in content.only:
            return f"the list of members does not have {node_id.decode()}: add it there, at all nodes"
        return None

    def may_speak(self, origin: bytes, credential: bytes) -> bool:
        if self.bars(origin):
            return False
        if not self.needs_credentials:
            return True
        shown = unpack_credential(credential)
        secrets, authority = self.content.secrets, self.content.authority
        if secrets.used:
            by = next((each for each in (*secrets.used, *secrets.retired) if each.id == shown.secret), None)
            if by is None or not hmac.compare_digest(by.author(_AUTHOR_DOMAIN + origin), shown.mac):
                return False
        removals, certificates = self._removals, self.content.certificates
        if origin in removals.removed:
            return False
        # Signatures last: they take longest to verify.
        if certificates is not None and not certificates.may_speak(origin, shown.certificate):
            return False
        if authority is None:
            return True
        return self._grants.take(authority, origin, shown.grant, removals.generation) is None

    def may_be(self, origin: bytes, is_guest: bool) -> bool:
        return not self.needs_grants or may_be(self._grants.roles(origin) or Roles(0), is_guest)

    def only_listens(self, origin: bytes) -> bool:
        return origin in self._grants.listeners

    @property
    def newest(self) -> bytes:
        return self._removals.packed

    @property
    def removed(self) -> Mapping[bytes, Cuts]:
        return self._removals.removed

    @property
    def quotas(self) -> Quotas:
        return self._removals.quotas

    def take(self, packed: bytes) -> bool:
        authority = self.content.authority
        if authority is None or not self._removals.take(authority, packed):
            return False
        self._is_removed = any(id_of(key) == self.own_id for key in self.removed)
        return True

    @property
    def policy_told(self) -> str:
        """The newest policy of the authority, for people."""
        removals = self._removals
        removed = counted(len(removals.removed), "node")
        told = f"policy {removals.number} of the authority, which has removed {removed}"
        if removals.quotas:
            told += f" and names {counted(len(removals.quotas), 'quota')}"
        if removals.is_second:
            told += f"; it has signed another with that number, so its key was used in two places: {_AGAIN}"
        return told

    @property
    def why_silent(self) -> str | None:
        if self._is_removed:
            return f"policy {self._removals.number} of the authority has removed this node from the mesh"
        if not self.needs_grants or self.content.roles & (Roles.AUTHOR | Roles.GUEST):
            return None
        return "the grant of this node lets it listen only: have one made with the role author to send"

    def vouches(self, origin: bytes) -> bool:
        content = self.content
        return (
            (content.only is not None and not self.bars(origin))
            or origin in self._grants
            or (content.certificates is not None and origin in content.certificates)
        )

    def credential(self, origin: bytes) -> bytes:
        secret, mac = b"", b""
        if self.secrets:
            first = self.secrets[0]
            secret, mac = first.id, first.author(_AUTHOR_DOMAIN + origin)
        content = self.content
        return msgspec.msgpack.encode(
            Credential(secret, mac, content.lists, content.grant, self.certificate)
        )

    def differs(self, credential: bytes) -> bytes:
        mine, theirs = self.content.lists, unpack_credential(credential).lists
        return mine + theirs if mine != theirs and mine else b""

    def footprint(self) -> dict[str, int]:
        tables = {
            "grants": len(self._grants),
            "removed_nodes": len(self.removed),
            "quotas": len(self.quotas),
        }
        if (certificates := self.content.certificates) is not None:
            tables["certificates"] = len(certificates)
        return tables


def unpack_credential(packed: bytes) -> Credential:
    """The credential in a record; all its fields are empty if *packed* is none."""
    try:
        return _unpack(packed)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _NONE
