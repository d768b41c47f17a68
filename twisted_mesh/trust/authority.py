"""The authority of a mesh, as a node knows it: by its public key it verifies grants.

Contract: the authority's private key is kept offline, and no node has it.  A grant is good for one node of
one network.  The file of the authority has its public key, and the file of a grant has that grant, each as
one line of hexadecimal digits.  Others may read both, and must not be able to change them.
"""

from __future__ import annotations

import stat
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twisted_mesh.errors import LocalError, Reason, RemoteError, TrustError
from twisted_mesh.identity import id_of, verify
from twisted_mesh.network import Cuts, Protocol, Quotas
from twisted_mesh.trust.files import read_lines
from twisted_mesh.wire.authority import (
    MAX_POLICY,
    Grant,
    GrantContent,
    Roles,
    grant_of,
    policy_of,
    unpack_grant,
    unpack_policy,
)
from twisted_mesh.wire.authority import Policy as SignedPolicy
from twisted_mesh.wire.fields import MAX_GRANT

GRANTS_KEPT: Final = 16_384  # verified grants that a node keeps (guess: four times ``members_limit``)
ROLE_NAMES: Final = {
    "link": Roles.LINK,
    "author": Roles.AUTHOR,
    "guest": Roles.GUEST,
    "listen-only": Roles.LISTEN,
}
_PEM: Final = "-----BEGIN"  # the first line of a private key's file begins so
_NOT_SIGNED: Final = "the authority of this mesh has not signed the grant that {} shows"


class Authority:
    """The authority of one network.

    :ivar key: its public key, 32 bytes.
    :ivar mode: what the nodes of the network prove, as in :attr:`~twisted_mesh.network.Policy.mode`.
    :ivar network: the key of the network, which grants name; other modes beside this one do not change it.
    """

    def __init__(self, key: bytes, network: Protocol) -> None:
        self.key = key
        self.mode = f"authority={key.hex()}"
        self.network = network.key_with(self.mode)

    def content(self, grant: Grant, id: bytes) -> GrantContent | str:
        """What *grant* says, if its fields make it good for the node *id*; else why not.

        The signature is not checked: :meth:`has_signed` does that.
        """
        name = id.decode(errors="replace")
        try:
            content = unpack_grant(grant.array)
        except RemoteError:
            return f"what {name} shows is no grant"
        if content.network != self.network:
            return (
                f"the grant that {name} shows is for another mesh: of another authority, or another subnet"
            )
        if content.id != id:
            other = content.id.decode(errors="replace")
            return f"the grant that {name} shows is of {other}: each node has a grant of its own"
        return content

    def has_signed(self, signed: Grant | SignedPolicy) -> bool:
        """Whether the authority has signed a grant or a policy."""
        return len(signed.signature) == 64 and verify(self.key, signed.signature, signed.text)


class Grants:
    """The verified grants of other nodes: of each node's good ones that with the highest serial number.

    :ivar listeners: the nodes of which no message is taken, by their keys.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[bytes, GrantContent]] = OrderedDict()
        self.listeners: set[bytes] = set()  # made beforehand: to ask for the roles takes ten times as long

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, origin: object) -> bool:
        return origin in self._known

    def roles(self, origin: bytes) -> Roles | None:
        """What the node with the key *origin* may do; None if no grant of it is known."""
        known = self._known.get(origin)
        return None if known is None else Roles(known[1].roles)

    def take(self, authority: Authority, origin: bytes, packed: bytes, generation: int = 0) -> str | None:
        """Verify a grant that *origin* shows, and keep it; return why it is not good, or None if it is.

        :param generation: grants of lower generations are not good.
        :raises RemoteError: the authority has not signed it, though its fields are right.
        """
        known = self._known.get(origin)
        if known is not None and known[0] == packed:
            self._known.move_to_end(origin)
            return None if known[1].generation >= generation else _old(known[1])
        grant, id = grant_of(packed), id_of(origin)
        content = authority.content(grant, id)
        if isinstance(content, str):
            return content
        if content.generation < generation:
            return _old(content)
        if not authority.has_signed(grant):
            raise RemoteError(_NOT_SIGNED.format(id.decode()), Reason.SIGNATURE)
        if known is None or content.serial > known[1].serial or known[1].generation < generation:
            self._known[origin] = packed, content
            self._known.move_to_end(origin)
            if content.roles & (Roles.AUTHOR | Roles.GUEST):
                self.listeners.discard(origin)
            else:
                self.listeners.add(origin)
            if len(self._known) > GRANTS_KEPT:
                forgotten, _ = self._known.popitem(last=False)
                self.listeners.discard(forgotten)
        return None


class Removals:
    """The newest policy of an authority, as it decides.

    :ivar packed: the policy itself; empty if none is known.
    :ivar is_second: whether another policy with the same number was known before.
    :ivar removed: the ends of the runs of each removed node, by its key.
    :ivar quotas: as in :attr:`twisted_mesh.network.Policy.quotas`.
    """

    def __init__(self) -> None:
        self.packed = b""
        self.is_second = False
        self.number = self.generation = 0
        self.removed: Mapping[bytes, Cuts] = {}
        self.quotas: Quotas = {}

    def take(self, authority: Authority, packed: bytes) -> bool:
        """Take in a policy if it is newer; return whether it is.

        Of two with the same number that with the greater bytes counts, so that all nodes choose the same.

        :raises RemoteError: it is no policy, or the authority has not signed it for this network.
        """
        policy = policy_of(packed)
        content = unpack_policy(policy.array)
        if (content.number, packed[64:]) <= (self.number, self.packed[64:]):
            return False
        if content.network != authority.network or not authority.has_signed(policy):
            raise RemoteError("the authority of this mesh has not signed the policy", Reason.SIGNATURE)
        self.is_second = content.number == self.number
        self.packed, self.number, self.generation = packed, content.number, content.generation
        self.removed = {
            one.key: {cut.epoch: (cut.number, cut.hash) for cut in one.cuts} for one in content.removed
        }
        self.quotas = {one.key: (one.batches, one.size) for one in content.quotas}
        return True


def _old(content: GrantContent) -> str:
    name = content.id.decode(errors="replace")
    return f"the grant of {name} is of generation {content.generation}, which is over: have another made"


def names_of(roles: int) -> list[str]:
    """The names of *roles*, for people."""
    return [name for name, role in ROLE_NAMES.items() if roles & role]


def roles_of(names: str) -> Roles:
    """The roles with these names, which have commas between them.

    :raises LocalError: a name is unknown, or the roles are none that a node could use.
    """
    roles = Roles(0)
    for name in names.split(","):
        if name not in ROLE_NAMES:
            raise LocalError(f"the roles are {', '.join(ROLE_NAMES)}, not {name!r}")
        roles |= ROLE_NAMES[name]
    if not roles & Roles.LINK:
        raise LocalError("without the role link a node can do nothing")
    if roles & Roles.GUEST and roles & Roles.LISTEN:
        raise LocalError("the roles listen-only and guest are one too many: a guest may send messages")
    return roles


def may_be(roles: Roles, is_guest: bool) -> bool:
    """Whether a node with *roles* may be an author that is a guest, or else a member.

    With the role GUEST it is no member by the role LISTEN: messages of a node that may be a guest count.
    """
    if roles & Roles.AUTHOR:
        return True
    if is_guest:
        return bool(roles & Roles.GUEST)
    return bool(roles & Roles.LISTEN) and not roles & Roles.GUEST


def read_authority(path: Path, network: Protocol) -> Authority:
    """The authority whose public key is in the file *path*.

    :raises TrustError: the file cannot be used; the text says what to do about it.
    """
    return Authority(_read_hex(path, "the authority's public key", 32, 32), network)


def read_grant(path: Path, authority: Authority) -> tuple[bytes, GrantContent]:
    """The grant in the file *path*, packed and unpacked; :raises TrustError: the file cannot be used."""
    packed = _read_hex(path, "the grant", 65, MAX_GRANT)
    grant = grant_of(packed)
    try:
        content = unpack_grant(grant.array)
    except RemoteError:
        raise TrustError(f"the grant {path} is damaged: have another made (mesh authority grant)") from None
    if content.network != authority.network:
        why = "is for another mesh (of another authority, or another subnet): name the right files"
        raise TrustError(f"the grant {path} {why}")
    if not authority.has_signed(grant):
        raise TrustError(f"the grant {path} is not signed by the authority of this mesh")
    return packed, content


def read_policy(path: Path) -> bytes | None:
    """The policy that a node has kept in the file *path*, packed; None if there is no such file.

    :raises TrustError: the file cannot be used; the text says what to do about it.
    """
    if not path.exists():
        return None
    try:
        return _read_hex(path, "the policy", 65, MAX_POLICY)
    except TrustError as error:
        why = "; restore it, since without it the node believes older policies until it hears the newest"
        raise TrustError(f"{error}{why}") from None


def check_own(path: Path, content: GrantContent, id: bytes, is_guest: bool) -> None:
    """Check that a node may use its grant; :raises TrustError: it may not."""
    if content.id != id:
        other, own = content.id.decode(errors="replace"), id.decode()
        raise TrustError(
            f"the grant {path} is of the node {other}, and this node is {own}: have one made for it"
        )
    roles = Roles(content.roles)
    if not roles & Roles.LINK:
        raise TrustError(f"the grant {path} does not let this node link: have one made with the role link")
    if not is_guest and not may_be(roles, is_guest):
        raise TrustError(
            f"the grant {path} does not let this node be a member: start it with the role guest"
        )


def _read_hex(path: Path, kind: str, least: int, most: int) -> bytes:
    """The bytes in the one line of a file; :raises TrustError: it cannot be used."""
    lines, _ = read_lines(path, kind, stat.S_IWGRP | stat.S_IWOTH, "go-w")
    if lines and lines[0][1].startswith(_PEM):
        raise TrustError(f"{kind} {path}: that is a private key; keep it offline, and name the right file")
    if len(lines) != 1:
        count = f"has {len(lines)} lines" if lines else "is empty"
        raise TrustError(f"{kind} {path} {count}: name the file that the authority made, which has one")
    number, line = lines[0]
    try:
        found = bytes.fromhex(line)
    except ValueError:
        found = b""
    if not least <= len(found) <= most:
        raise TrustError(
            f"{kind} {path}, line {number}, is none: name the file that the authority has made"
        )
    return found
