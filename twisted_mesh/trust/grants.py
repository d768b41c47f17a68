"""The authority's own files, by which it makes grants and policies.

Contract: FILE has the private key, mode 0600; ``FILE.pub`` the public key, which all nodes get;
``FILE.state`` what was granted, and the numbers used so far.  A grant is in a file of its own, which its
node gets.  The private key is in no error and no ``repr``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final, TextIO

import msgspec
from msgspec.structs import replace

from twisted_mesh.errors import LocalError, RemoteError, TrustError
from twisted_mesh.grammar import counted
from twisted_mesh.identity import Identity, replace_synced
from twisted_mesh.network import Protocol
from twisted_mesh.trust.authority import Authority, Removals, names_of
from twisted_mesh.trust.files import OF_AUTHORITY
from twisted_mesh.wire.authority import (
    MAX_POLICY,
    MAX_QUOTAS,
    Cut,
    Grant,
    GrantContent,
    Policy,
    PolicyContent,
    Quota,
    Removed,
    Roles,
    policy_of,
    unpack_policy,
)
from twisted_mesh.wire.codec import pack, pack_policy
from twisted_mesh.wire.fields import MAX_NUMBER

_KEY: Final = "the authority's key"
_KIND: Final = "the authority's file"


class Issued(msgspec.Struct, frozen=True):
    """A grant that was made."""

    serial: int
    id: str
    roles: list[str]
    generation: int


class State(msgspec.Struct):
    """The state of an authority, as its file has it."""

    subnet: str
    grants: list[Issued] = []
    policy: str = ""  # the newest one that was signed, in hexadecimal digits


class AuthorityFiles:
    """The authority whose private key is in one file, and its state in the file beside that.

    :ivar authority: its public side; :ivar state: what was granted.
    """

    def __init__(self, path: Path, key: Identity, state: State) -> None:
        self._path = path
        self._sign = key.sign
        self.state = state
        self.authority = Authority(key.origin, Protocol(state.subnet))

    @classmethod
    def create(cls, path: str | os.PathLike[str], subnet: str) -> AuthorityFiles:
        """Make an authority of the network *subnet*, in new files.

        :raises LocalError: *subnet* is no name of a subnet, or a file exists or cannot be written.
        """
        file, state = Path(path), State(Protocol(subnet).checked().subnet)
        for other in (_public(file), _state(file)):
            if os.path.lexists(other):
                raise TrustError(f"{_KIND} {other}: File exists")
        made = cls(file, Identity.create(file, _KEY), state)
        made._keep()
        with _new_file(_public(file)) as stream:
            stream.write(f"{made.authority.key.hex()}  # {OF_AUTHORITY} {subnet!r}\n")
        return made

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AuthorityFiles:
        """The authority whose private key is in the file *path*.

        :raises LocalError: a file cannot be used; the text says what to do about it.
        """
        file = Path(path)
        return cls(file, Identity.load(file, _KEY), _read_state(file))

    def grant(self, id: str, roles: Roles, path: str | os.PathLike[str], generation: int = 0) -> Issued:
        """Make a grant for the node *id*, in the new file *path*.

        :param generation: of the grant; 0 for the highest that was granted or is good.
        :raises LocalError: grants of that generation are good no more; or the file exists, or cannot be
            written.
        """
        with self._changing(), _new_file(Path(path)) as stream:  # if it cannot be made, no number is used
            grants = self.state.grants
            serial = max((issued.serial for issued in grants), default=0) + 1
            least = max(1, self.policy.generation)
            generation = generation or max([least, *(issued.generation for issued in grants)])
            _check_generation(generation, least)
            content = GrantContent(self.authority.network, id.encode(), roles, generation, serial)
            packed = self._signed(Grant(bytes(64), pack(content)))
            issued = Issued(serial, id, names_of(roles), content.generation)
            # The number before the grant: it is not used again, whatever becomes of the grant.
            self.state.grants = [*grants, issued]
            self._keep()
            stream.write(f"# grant {serial} of {id}: {', '.join(issued.roles)}\n{packed.hex()}\n")
        return issued

    @property
    def policy(self) -> PolicyContent:
        """What the newest policy says; its number is 0 if none was signed."""
        packed = bytes.fromhex(self.state.policy)
        if not packed:
            return PolicyContent(self.authority.network, 0, 0, [])
        return unpack_policy(policy_of(packed).array)

    def know(self, packed: bytes) -> None:
        """Take in the newest policy that a node knows: this authority may have signed it elsewhere.

        :raises TrustError: this authority has not signed it.
        """
        known = Removals()
        try:
            for policy in filter(None, (bytes.fromhex(self.state.policy), packed)):
                known.take(self.authority, policy)
        except RemoteError:
            raise TrustError(
                "the node belongs to the mesh of another authority, or another subnet"
            ) from None
        self.state.policy = known.packed.hex()

    def remove(self, key: bytes, cuts: Iterable[Cut]) -> bytes:
        """Sign a policy by which the node with *key* is removed, too, and return it.

        :param cuts: the ends of its runs.
        :raises TrustError: the state cannot be written; or the policy has no room for another node.
        """
        with self._changing():
            last = self.policy
            removed = [*(one for one in last.removed if one.key != key), Removed(key, list(cuts))]
            quotas = [one for one in last.quotas if one.key != key]
            return self._sign_policy(replace(last, removed=removed, quotas=quotas))

    def end_below(self, generation: int) -> bytes:
        """Sign a policy by which grants of lower generations are good no more; return it.

        :raises LocalError: there can be no such generation; or the state cannot be written.
        """
        _check_generation(generation, 1)
        with self._changing():
            last = self.policy
            return self._sign_policy(replace(last, generation=max(generation, last.generation)))

    def set_quota(self, key: bytes, batches: int, size: int) -> bytes:
        """Sign a policy by which the author with *key* has a quota, in place of an earlier one; return it.

        :param key: empty for all authors that have no quota of their own.
        :param batches: in a second, and :param size: their bytes; 0 for what each node is configured for.
        :raises LocalError: there can be no such quota; the node is removed; there is no room for another
            quota; or the state cannot be written.
        """
        for rate in (batches, size):
            if not 0 <= rate <= MAX_NUMBER:
                raise LocalError(f"a quota is a number from 0 to {MAX_NUMBER}, not {rate}")
        with self._changing():
            last = self.policy
            if any(one.key == key for one in last.removed):
                raise TrustError("the node is removed: it has no quota")
            quotas = [*(one for one in last.quotas if one.key != key), Quota(key, batches, size)]
            if len(quotas) > MAX_QUOTAS:
                raise TrustError(f"a policy has at most {MAX_QUOTAS} quotas: end another with --none")
            return self._sign_policy(replace(last, quotas=quotas))

    def end_quota(self, key: bytes) -> bytes:
        """Sign a policy without the quota of the author with *key*, as in :meth:`set_quota`; return it.

        :raises TrustError: there is no such quota; or the state cannot be written.
        """
        with self._changing():
            last = self.policy
            quotas = [one for one in last.quotas if one.key != key]
            if quotas == last.quotas:
                raise TrustError("there is no quota to end: mesh authority show lists them")
            return self._sign_policy(replace(last, quotas=quotas))

    def _sign_policy(self, content: PolicyContent) -> bytes:
        content = replace(content, number=content.number + 1)
        packed = self._signed(Policy(bytes(64), pack_policy(content)))
        if len(packed) > MAX_POLICY:
            named = counted(len(content.removed), "removed node")
            if content.quotas:
                named += f" and {counted(len(content.quotas), 'quota')}"
            raise TrustError(f"{named} are more than a policy can name: make a new authority")
        self.state.policy = packed.hex()
        self._keep()
        return packed

    def _signed(self, unsigned: Grant | Policy) -> bytes:
        return self._sign(unsigned.text) + unsigned.array

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Change the state as it is now: meanwhile no other process can."""
        try:
            key = self._path.open("rb")  # not the state, since each change puts a new file in its place
        except OSError as error:
            raise TrustError(f"{_KIND} {self._path}: {error.strerror}") from None
        with key:
            flock(key, LOCK_EX)
            known, self.state = self.state.policy, _read_state(self._path)
            self.know(bytes.fromhex(known))
            yield

    def _keep(self) -> None:
        try:
            replace_synced(_state(self._path), msgspec.json.format(msgspec.json.encode(self.state)) + b"\n")
        except OSError as error:
            raise TrustError(f"{_KIND} {_state(self._path)}: {error.strerror}") from None


def _check_generation(generation: int, least: int) -> None:
    if not least <= generation <= MAX_NUMBER:
        raise LocalError(f"the generation is a number from {least} to {MAX_NUMBER}, not {generation}")


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """A new file, which others may read, to write to; if that fails, there is no file.

    :raises TrustError: it cannot be made, or written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except OSError as error:
        raise TrustError(f"{_KIND} {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            yield stream
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise TrustError(f"{_KIND} {path}: {error.strerror}") from None
        raise


def _read_state(key: Path) -> State:
    """The state of the authority whose private key is in the file *key*."""
    path = _state(key)
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
        if state.policy:
            unpack_policy(policy_of(bytes.fromhex(state.policy)).array)
    except OSError as error:
        raise TrustError(f"{_KIND} {path}: {error.strerror}; restore it, newest, beside the key") from None
    except (msgspec.MsgspecError, ValueError, RemoteError):
        raise TrustError(f"{_KIND} {path} is damaged: restore the newest") from None
    return state


def _public(path: Path) -> Path:
    return path.with_name(f"{path.name}.pub")


def _state(path: Path) -> Path:
    return path.with_name(f"{path.name}.state")
