"""The state of a running node as one tree of values, which :meth:`.MeshService.status` returns.

Contract: a value shows the node at one time and is not updated.  Units are in the names: ``_seconds`` is a
duration, ``_unix_seconds`` a time since 1970, ``_bytes`` a size.  Ids are base58 text and addresses are
``host:port``, so that ``msgspec.json.encode(status)`` gives JSON that people can read.
"""

from __future__ import annotations

import msgspec


class NodeStatus(msgspec.Struct, frozen=True):
    """The node itself.

    :ivar trust: who may join, for people.
    :ivar epoch: of its present run; its messages are numbered anew in each run.
    :ivar addresses: where it listens; :ivar told_address: where others are told to dial it, if anywhere.
    :ivar joined: whether a neighbour has sent its list of members.
    :ivar messages_sent: the number of its last message in this run.
    :ivar messages_delivered: how many of others were handed to its application since it was made.
    :ivar messages_waiting: how many of its messages no neighbour's transport has accepted yet.
    """

    id: str
    label: str | None
    version: str
    subnet: str
    encryption: str
    role: str
    trust: str
    epoch: int
    uptime_seconds: float
    addresses: list[str]
    told_address: str | None
    joined: bool
    messages_sent: int
    messages_delivered: int
    messages_waiting: int


class LinkStatus(msgspec.Struct, frozen=True):
    """A link to a neighbour.

    :ivar peer: the neighbour's id; :ivar remote_address: the far end of the connection.
    :ivar outgoing: whether this node dialled.
    :ivar round_trip_seconds: None until it was measured.
    :ivar queued_bytes: bytes that wait here for the transport.
    :ivar lazy_by_us: authors of which this node asked the neighbour to announce messages, not to push them.
    :ivar lazy_by_peer: authors of which the neighbour asked this node for the same.
    """

    peer: str
    label: str | None
    remote_address: str
    outgoing: bool
    up_seconds: float
    round_trip_seconds: float | None
    received_bytes: int
    received_frames: int
    sent_bytes: int
    sent_frames: int
    queued_bytes: int
    lazy_by_us: int
    lazy_by_peer: int


class PeerStatus(msgspec.Struct, frozen=True):
    """An address that this node dials for ever, as it was given.

    :ivar id: of the node that was found there last; None if none was.
    :ivar failures: how many of the last attempts in a row have failed; :ivar reason: why the last did.
    """

    address: str
    id: str | None
    failures: int
    reason: str


class MemberStatus(msgspec.Struct, frozen=True):
    """Another member, as this node knows it.

    :ivar state: ``"up"``, ``"suspect"``, ``"down"`` or ``"left"``; :ivar since_unix_seconds: since when.
    """

    id: str
    label: str | None
    state: str
    since_unix_seconds: float
    address: str | None
    role: str
    tags: dict[str, str]


class AuthorStatus(msgspec.Struct, frozen=True):
    """One run of an author whose messages this node holds, this node's own runs included.

    :ivar head: the last message up to which every message came here or was given up.
    :ivar behind: how many numbers beyond the head are known to exist.
    :ivar missing: how many of them have not come.
    :ivar taken: the last message up to which all consumers here have taken the messages.
    :ivar taken_by: the same of each consumer with a name.
    :ivar repaired: how many messages came because this node had asked for them.
    """

    id: str
    label: str | None
    epoch: int
    head: int
    behind: int
    missing: int
    taken: int
    taken_by: dict[str, int]
    repaired: int


class HeldStatus(msgspec.Struct, frozen=True):
    """Messages of one run of an author that this node holds: all from *first* to *last*.

    :ivar bytes: in the history file; without one, in memory.
    :ivar oldest_seconds: how long ago the oldest of them came; None if that cannot be read now.
    :ivar newest_seconds: the same of the newest.
    """

    id: str
    label: str | None
    epoch: int
    first: int
    last: int
    bytes: int
    oldest_seconds: float | None
    newest_seconds: float | None


class ReceiptStatus(msgspec.Struct, frozen=True):
    """A message of this node whose receipt is not complete.

    :ivar delivered: the ids of the members that have taken the message.
    :ivar pending: the ids of those that should and have not yet; :ivar missed: of those that never will.
    """

    epoch: int
    sequence: int
    delivered: list[str]
    pending: list[str]
    missed: list[str]


class ConsumerStatus(msgspec.Struct, frozen=True):
    """A consumer with a name, as in ``messages(name=...)``.

    :ivar lag: how many messages have come that it has not taken.
    :ivar open: whether somebody has it open; :ivar since_unix_seconds: since when that is so.
    """

    name: str
    lag: int
    open: bool
    since_unix_seconds: float


class HistoryStatus(msgspec.Struct, frozen=True):
    """The messages that this node holds for members that were away.

    :ivar oldest_seconds: how long ago the oldest message in memory came; None if there is none.
    :ivar file: the path of the history file; None if the history is in memory only.
    :ivar file_bytes: bytes of the messages in the file.
    """

    memory_bytes: int
    memory_limit_bytes: int
    oldest_seconds: float | None
    file: str | None
    file_bytes: int
    file_limit_bytes: int


class Status(msgspec.Struct, frozen=True):
    """A running node at one time.

    :ivar dropped: how many items were dropped or ignored, by kind.
    :ivar footprint: entries and bytes of every table, by name.
    :ivar warnings: what is wrong now, in sentences that say what to do about it.
    """

    node: NodeStatus
    links: list[LinkStatus]
    peers: list[PeerStatus]
    members: list[MemberStatus]
    authors: list[AuthorStatus]
    receipts: list[ReceiptStatus]
    consumers: list[ConsumerStatus]
    history: HistoryStatus
    dropped: dict[str, int]
    footprint: dict[str, int]
    warnings: list[str]
