"""The frames by which nodes know each other: who is a member, and where each node can be dialled.

Contract: values; :mod:`~twisted_mesh.wire.codec` makes bytes of them.  The order of fields is the
specification.  A PRESENCE and a SUSPECT are signed by their authors and keep their array as it came; every
other frame here is only a claim of the peer that sends it.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated, ClassVar, Final

import msgspec

from twisted_mesh.wire.fields import FrameBase, Head, Kind, Number, Origin, Sequence

MAX_RECORD: Final = 4096  # bytes of a PRESENCE's array, unknown fields included (guess)
MAX_LABEL: Final = 64  # characters (guess)
MAX_TAGS: Final = 16  # of a member (guess)
MAX_TAG_KEY: Final = 32  # characters (guess)
MAX_TAG_VALUE: Final = 128  # characters (guess)
MAX_HOST: Final = 253  # characters: the longest name DNS has
MIN_ID: Final = 32  # characters: base58 of SHA-384, which is shorter if it begins with zeros (guess)
MAX_ID: Final = 66  # characters: base58 of the largest SHA-384
MAX_CONTACTS: Final = 16  # in one frame: a shuffle has eight
MAX_WALK: Final = 16  # steps of a walk: the overlay's longest has six
MAX_INTERVAL: Final = 3_600_000  # ms between two records of a member: 20,000 members need 600,000

Host = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_HOST)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Walk = Annotated[int, msgspec.Meta(ge=0, le=MAX_WALK)]


class Purpose(IntEnum):
    """What a link was dialled for, as INTRO says it."""

    JOIN = 0  #: an application wants it, or a node that knows no other way into the mesh
    NEIGHBOUR = 1  #: the overlay would like it, if there is room
    URGENT = 2  #: the overlay needs it: it is the only link of the node that dials, or replaces another
    EXCHANGE = 3  #: both ends exchange what they have, then close it


class Role(IntEnum):
    """The role of a node, as INTRO and PRESENCE say it."""

    MEMBER = 0  #: it is on the roster
    GUEST = 1  #: it relays and publishes like a member, and is on no roster


class PresenceFlags(IntFlag):
    """The flags of a PRESENCE."""

    EPHEMERAL = 1  #: the key was made for this run, and is never used again
    LEAVING = 2  #: the node stops
    ASKS = 4  #: it waits for receipts; a member that owes it one may have forgotten that


class KeepVote(IntEnum):
    """Whether the sender of a ROSTER wants to keep the link of an exchange."""

    CONTENT = 0  #: it need not: it knew that the peer was up
    WANTED = 1  #: it does: it did not know the peer, so the two may be of two islands
    NEVER = 2  #: it has no overlay


class Contact(msgspec.Struct, array_like=True, frozen=True):
    """A node, and the address it is said to have; only a link proves that.

    :ivar id: base58, as bytes.
    """

    id: Annotated[bytes, msgspec.Meta(min_length=MIN_ID, max_length=MAX_ID)]
    host: Host
    port: Port


class Presence(msgspec.Struct, array_like=True, frozen=True):
    """A node's record of itself; of one run, the record with the highest ``counter`` is the newest.

    :ivar sequence: the last message it had published then.
    :ivar address: [host, port] where others can dial it, or None.
    :ivar retention: seconds for which it holds messages for others.
    :ivar interval: ms until its next record comes, at the latest.
    :ivar flags: of :class:`PresenceFlags`.
    :ivar credential: proof that it may be an author; empty if anyone may.
    """

    kind: ClassVar = Kind.PRESENCE
    origin: Origin
    epoch: Number
    counter: Sequence
    sequence: Head
    address: tuple[Host, Port] | None
    role: Number
    label: Annotated[str, msgspec.Meta(max_length=MAX_LABEL)] | None
    tags: Annotated[
        dict[
            Annotated[str, msgspec.Meta(max_length=MAX_TAG_KEY)],
            Annotated[str, msgspec.Meta(max_length=MAX_TAG_VALUE)],
        ],
        msgspec.Meta(max_length=MAX_TAGS),
    ]
    retention: Number
    interval: Annotated[int, msgspec.Meta(ge=1, le=MAX_INTERVAL)]
    flags: Number
    credential: Annotated[bytes, msgspec.Meta(max_length=1024)]

    @property
    def signer(self) -> bytes:
        """The public key that signs it."""
        return self.origin


class Suspect(msgspec.Struct, array_like=True, frozen=True):
    """``accuser`` lost its link to ``member`` without a goodbye; its newest record was ``counter``."""

    kind: ClassVar = Kind.SUSPECT
    accuser: Origin
    member: Origin
    epoch: Number
    counter: Number

    @property
    def signer(self) -> bytes:
        """The public key that signs it."""
        return self.accuser


class RosterEntry(msgspec.Struct, array_like=True, frozen=True):
    """A member's newest PRESENCE as a payload, and how many ms ago the sender of the roster got it."""

    age: Number
    frame: Annotated[bytes, msgspec.Meta(max_length=MAX_RECORD + 66)]


class Roster(FrameBase, array_like=True, frozen=True):
    """The sender's roster when the link came up, itself included, in one or more frames."""

    kind: ClassVar = Kind.ROSTER
    last: bool
    entries: list[RosterEntry]
    vote: Annotated[int, msgspec.Meta(ge=0, le=2)]


class ForwardJoin(FrameBase, array_like=True, frozen=True):
    """A node looks for neighbours, by a walk of ``left`` more steps.

    :ivar instead: whether the receiver is to link with that node, and then to end the link this came over.
    """

    kind: ClassVar = Kind.FORWARD_JOIN
    contact: Contact
    left: Walk
    instead: bool


class Shuffle(FrameBase, array_like=True, frozen=True):
    """Offers contacts for others, by a walk of ``left`` more steps; the answer goes back the same way.

    :ivar token: drawn at random, the same in the answer.
    """

    kind: ClassVar = Kind.SHUFFLE
    token: Number
    contacts: Annotated[list[Contact], msgspec.Meta(max_length=MAX_CONTACTS)]
    left: Walk


class ShuffleReply(FrameBase, array_like=True, frozen=True):
    """The answer to a SHUFFLE, with its token."""

    kind: ClassVar = Kind.SHUFFLE_REPLY
    token: Number
    contacts: Annotated[list[Contact], msgspec.Meta(max_length=MAX_CONTACTS)]
