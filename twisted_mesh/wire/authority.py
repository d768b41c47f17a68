"""What the authority of a mesh signs: grants, by which nodes belong to the mesh, and the policy.

Contract: values.  What is signed travels as a signature and the array that it signs, and keeps these very
bytes wherever it goes.  :func:`unpack_grant` and :func:`unpack_policy` read an array, and nothing here
checks a signature.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Annotated, ClassVar, Final

import msgspec

from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire.fields import (
    MAX_GRANT,
    FrameBase,
    Hash,
    Head,
    Kind,
    Number,
    Origin,
    Sequence,
    Signature,
)
from twisted_mesh.wire.membership import MAX_ID, MIN_ID

MAX_POLICY: Final = 65_536  # bytes, signature included: some 300 removed nodes with three runs each (guess)
MAX_CUTS: Final = 64  # runs of a removed node whose ends a policy names (guess)
MAX_QUOTAS: Final = 256  # entries of a policy; they leave four fifths of it to removed nodes (guess)
_SIGNATURE: Final = 64  # bytes
_GRANT_DOMAIN: Final = b"twisted_mesh/1/grant"  # before the array that a grant signs, and no other text
_POLICY_DOMAIN: Final = b"twisted_mesh/1/policy"  # the same for a policy


class Roles(IntFlag):
    """What a node may do by its grant; a number of a later version allows nothing more."""

    LINK = 1  #: others link with it
    AUTHOR = 2  #: its messages are taken, and it may be a member
    GUEST = 4  #: its messages are taken while it is a guest
    LISTEN = 8  #: it may be a member; its messages are not taken


class GrantContent(msgspec.Struct, array_like=True, frozen=True):
    """What a grant says: the authority of a mesh lets a node belong to it.

    :ivar network: the key of the network (:meth:`~twisted_mesh.network.Protocol.key_with`), of which the
        authority's key is a part.
    :ivar id: of the node.
    :ivar roles: some of :class:`Roles`.
    :ivar generation: the authority can end all grants of lower generations.
    :ivar serial: counts the grants of the authority.
    """

    network: Hash
    id: Annotated[bytes, msgspec.Meta(min_length=MIN_ID, max_length=MAX_ID)]
    roles: Number
    generation: Number
    serial: Number


class Grant(FrameBase, array_like=True, frozen=True):
    """A grant with the signature of an authority; a node shows its own in a handshake, before PROOF."""

    kind: ClassVar = Kind.GRANT
    signature: Signature
    array: Annotated[bytes, msgspec.Meta(max_length=MAX_GRANT - _SIGNATURE)]

    @property
    def text(self) -> bytes:
        """What the authority signs."""
        return _GRANT_DOMAIN + self.array

    @property
    def packed(self) -> bytes:
        """The bytes by which a record or a file holds the grant."""
        return self.signature + self.array


class Cut(msgspec.Struct, array_like=True, frozen=True):
    """The end of a run of a removed node.

    :ivar number: its last message that is taken.
    :ivar hash: of the header of the batch that ends there; empty if the authority does not know it.
    """

    epoch: Number
    number: Head
    hash: Annotated[bytes, msgspec.Meta(max_length=32)]


class Removed(msgspec.Struct, array_like=True, frozen=True):
    """A node that belongs to the mesh no more; of runs that *cuts* do not name no message is taken."""

    key: Origin
    cuts: Annotated[list[Cut], msgspec.Meta(max_length=MAX_CUTS)]


class Quota(msgspec.Struct, array_like=True, frozen=True):
    """What an author may publish in a second, on average, at a node for whose time another author waits.

    :ivar key: of the author; empty for each author that has no entry of its own.
    :ivar batches: how many; 0 for as many as the node's configuration says, and so for *size*, their bytes.
    """

    key: Annotated[bytes, msgspec.Meta(max_length=32)]
    batches: Number
    size: Number


class PolicyContent(msgspec.Struct, array_like=True, frozen=True):
    """What a policy says; the one with the highest *number* counts.

    :ivar network: as in :class:`GrantContent`.
    :ivar generation: grants of lower generations are good no more.
    """

    network: Hash
    number: Sequence
    generation: Number
    removed: list[Removed]
    quotas: Annotated[list[Quota], msgspec.Meta(max_length=MAX_QUOTAS)] = []


class Policy(FrameBase, array_like=True, frozen=True):
    """A policy with the signature of the authority, which every node hands on."""

    kind: ClassVar = Kind.POLICY
    signature: Signature
    array: Annotated[bytes, msgspec.Meta(max_length=MAX_POLICY - _SIGNATURE)]

    @property
    def text(self) -> bytes:
        """What the authority signs."""
        return _POLICY_DOMAIN + self.array

    @property
    def packed(self) -> bytes:
        """The bytes by which a file holds the policy."""
        return self.signature + self.array


_decode: Final = msgspec.msgpack.Decoder(GrantContent).decode
_decode_policy: Final = msgspec.msgpack.Decoder(PolicyContent).decode


def grant_of(packed: bytes) -> Grant:
    """The grant that :attr:`Grant.packed` gives."""
    return Grant(packed[:_SIGNATURE], packed[_SIGNATURE:])


def unpack_grant(array: bytes) -> GrantContent:
    """What the array of a grant says.

    :raises RemoteError: *array* is no grant's.
    """
    try:
        return _decode(array)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteError(f"a grant: {error}", Reason.SHAPE) from None


def policy_of(packed: bytes) -> Policy:
    """The policy that :attr:`Policy.packed` gives."""
    return Policy(packed[:_SIGNATURE], packed[_SIGNATURE:])


def unpack_policy(array: bytes) -> PolicyContent:
    """What the array of a policy says.

    :raises RemoteError: *array* is no policy's.
    """
    try:
        return _decode_policy(array)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteError(f"a policy: {error}", Reason.SHAPE) from None
