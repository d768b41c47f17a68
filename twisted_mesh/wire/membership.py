"""Frames of membership and of the overlay: which nodes are members, and where each node can be dialled.

Contract: values, which :mod:`~twisted_mesh.wire.codec` packs and unpacks.  A PRESENCE, a SUSPECT and a
FORGET are signed by their authors; every other frame here is only a claim of the peer that sends it.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated, ClassVar, Final

import msgspec

from twisted_mesh.wire.fields import (
    MAX_CERTIFICATE,
    MAX_GRANT,
    MAX_NUMBER,
    FrameBase,
    Head,
    Kind,
    Number,
    Origin,
    SealingKey,
    Sequence,
)

FORGOTTEN: Final = MAX_NUMBER  #: ms: the age of a record whose author the sender's roster has forgotten
#: Bytes of a record's array, unknown fields included and a credential not (guess): anybody can make up
#: members, and each roster of ``members_limit`` is kept and sent by all.
MAX_RECORD: Final = 1024
MAX_CREDENTIAL: Final = 1024  # bytes (guess)
MAX_PRESENCE: Final = MAX_RECORD + MAX_CREDENTIAL + 66  # bytes of a PRESENCE in another frame
MAX_RECORDS: Final = 16  # in one frame (guess: one is sent at a time)
MAX_LABEL: Final = 64  # characters (guess)
MAX_TAGS: Final = 16  # tags of a member (guess)
MAX_TAG_KEY: Final = 32  # characters (guess)
MAX_TAG_VALUE: Final = 128  # characters (guess)
MAX_HOST: Final = 253  # characters: the longest name DNS has
MIN_ID: Final = 32  # characters: base58 of SHA-384, which is shorter if it begins with zeros (guess)
MAX_ID: Final = 66  # characters: base58 of the largest SHA-384
MAX_CONTACTS: Final = 16  # in one frame; 8 are sent by default
MAX_WALK: Final = 16  # steps of a walk, in which nodes pass a frame on at random; 6 by default
MAX_INTERVAL: Final = 600_000  # ms between two records of a member: enough for 20,000 members

Host = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_HOST)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
TagKey = Annotated[str, msgspec.Meta(max_length=MAX_TAG_KEY)]
TagValue = Annotated[str, msgspec.Meta(max_length=MAX_TAG_VALUE)]
Walk = Annotated[int, msgspec.Meta(ge=0, le=MAX_WALK)]


class Purpose(IntEnum):
    """The reason why a node dialled a link, as INTRO tells it."""

    JOIN = 0  #: an application wants the link, or the node knows no other way into the mesh
    NEIGHBOUR = 1  #: the overlay would like the link, if the peer has room
    URGENT = 2  #: the overlay needs the link: it is the dialler's only one, or replaces another
    EXCHANGE = 3  #: both ends exchange the messages and records that they have, then close the link


class Role(IntEnum):
    """The role of a node, as INTRO and PRESENCE tell it."""

    MEMBER = 0  #: the node is on the roster
    GUEST = 1  #: the node relays and publishes like a member, but is on no roster


class PresenceFlags(IntFlag):
    """The flags of a PRESENCE."""

    EPHEMERAL = 1  #: the node's key was made for this run, and is never used again
    LEAVING = 2  #: the node stops
    ASKS = 4  #: the node waits for receipts: members send it again those that they owe


class KeepVote(IntEnum):
    """Whether the sender of a ROSTER wants to keep the link of an exchange."""

    CONTENT = 0  #: the link need not be kept: the sender knew that the peer was up
    WANTED = 1  #: keep the link: the sender did not know the peer, so the mesh may be in two islands
    NEVER = 2  #: do not keep the link: the sender has no overlay


class Contact(msgspec.Struct, array_like=True, frozen=True):
    """A node and its address, as some peer claims; only a link to the node proves the address.

    :ivar id: base58, as bytes.
    """

    id: Annotated[bytes, msgspec.Meta(min_length=MIN_ID, max_length=MAX_ID)]
    host: Host
    port: Port


class Presence(msgspec.Struct, array_like=True, frozen=True):
    """A node's record of itself; the newest record of a run has the highest ``counter``.

    :ivar sequence: the number of the last message that the node had published.
    :ivar address: [host, port] where others can dial the node, or None.
    :ivar retention: seconds for which the node holds messages for others.
    :ivar interval: ms until the node sends its next record, at the latest.
    :ivar flags: some of :class:`PresenceFlags`.
    :ivar credential: proof that the node may be an author; empty if every node may.
    :ivar floor: no message of the node's runs below this epoch is valid any more.  If it is greater than
        ``epoch``, ``epoch`` counts instead.
    :ivar sealing_key: the key with which others seal direct messages to this run.
    """

    kind: ClassVar = Kind.PRESENCE
    origin: Origin
    epoch: Number
    counter: Sequence
    sequence: Head
    address: tuple[Host, Port] | None
    role: Number
    label: Annotated[str, msgspec.Meta(max_length=MAX_LABEL)] | None
    tags: Annotated[dict[TagKey, TagValue], msgspec.Meta(max_length=MAX_TAGS)]
    retention: Number
    interval: Annotated[int, msgspec.Meta(ge=1, le=MAX_INTERVAL)]
    flags: Number
    credential: Annotated[bytes, msgspec.Meta(max_length=MAX_CREDENTIAL)]
    floor: Number
    sealing_key: SealingKey

    @property
    def signer(self) -> bytes:
        return self.origin


class Credential(msgspec.Struct, array_like=True, frozen=True):
    """What a *credential* holds, unless it is empty; a field that its mode does not need is empty.

    :ivar secret: the id of the mesh's secret by which the author proves that it may speak.
    :ivar mac: the MAC of the author's origin by a key of that secret.
    :ivar lists: 8 bytes of a hash of the lists of nodes that the author's node has.
    :ivar grant: the author's grant, packed (:mod:`~twisted_mesh.wire.authority`).
    :ivar certificate: the X.509 certificate of the author's key, as DER.
    """

    secret: Annotated[bytes, msgspec.Meta(max_length=8)]
    mac: Annotated[bytes, msgspec.Meta(max_length=32)]
    lists: Annotated[bytes, msgspec.Meta(max_length=8)]
    grant: Annotated[bytes, msgspec.Meta(max_length=MAX_GRANT)] = b""
    certificate: Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE)] = b""


class Suspect(msgspec.Struct, array_like=True, frozen=True):
    """Says that ``accuser`` lost its link to ``member`` without a BYE.

    :ivar counter: that of the newest record of ``member`` that ``accuser`` knows.
    """

    kind: ClassVar = Kind.SUSPECT
    accuser: Origin
    member: Origin
    epoch: Number
    counter: Number

    @property
    def signer(self) -> bytes:
        return self.accuser


class Forget(msgspec.Struct, array_like=True, frozen=True):
    """Asks all nodes to take ``member``, which is gone, off their rosters.

    :ivar asker: the member that asks.
    :ivar counter: that of the newest record of ``member``; once ``member`` has sent another, this frame
        means nothing.
    """

    kind: ClassVar = Kind.FORGET
    asker: Origin
    member: Origin
    epoch: Number
    counter: Number

    @property
    def signer(self) -> bytes:
        return self.asker


class RosterEntry(msgspec.Struct, array_like=True, frozen=True):
    """A member's newest PRESENCE as a payload; ``age`` is the time in ms since the sender got it."""

    age: Number
    frame: Annotated[bytes, msgspec.Meta(max_length=MAX_PRESENCE)]


class Roster(FrameBase, array_like=True, frozen=True):
    """The sender's roster when the link came up, in one or more frames; the sender is on it, too."""

    kind: ClassVar = Kind.ROSTER
    last: bool
    entries: list[RosterEntry]
    vote: Annotated[int, msgspec.Meta(ge=0, le=2)]


class Records(FrameBase, array_like=True, frozen=True):
    """Newest records of authors, as in a ROSTER, that the receiver needs: they do not come along a tree.

    An author that the sender's roster has forgotten has the age FORGOTTEN.
    """

    kind: ClassVar = Kind.RECORDS
    entries: Annotated[list[RosterEntry], msgspec.Meta(max_length=MAX_RECORDS)]


class ForwardJoin(FrameBase, array_like=True, frozen=True):
    """The node ``contact`` looks for neighbours, by a walk of ``left`` more steps.

    :ivar instead: whether the receiver shall link with that node in place of the sender of this frame.
    """

    kind: ClassVar = Kind.FORWARD_JOIN
    contact: Contact
    left: Walk
    instead: bool


class Shuffle(FrameBase, array_like=True, frozen=True):
    """Offers contacts in exchange for others, by a walk of ``left`` more steps.

    :ivar token: a random number, which the answer repeats; the answer goes back the same way.
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


MembershipFrame = Roster | Records | ForwardJoin | Shuffle | ShuffleReply  #: the frames that are not signed
