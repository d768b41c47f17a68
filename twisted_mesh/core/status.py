"""The state of a node as values: in short for the driver, and in full for people who look at the node.

Contract: a value shows the node at one time and is not updated.  The core keeps nothing for them.
"""

from __future__ import annotations

import msgspec

from twisted_mesh.core.events import StreamId


class Status(msgspec.Struct, frozen=True):
    """The state of a node at one time.

    :ivar unread: the number of own messages that a transport has accepted, and no neighbour is known to
        have read.
    """

    stream: StreamId  # the stream of its own messages
    sent: int  # the sequence of the last own message
    accepted: int  # the last own message that the transport of some link has accepted
    confirmed: int  # the last own message that some neighbour is known to have
    congested: bool  # whether a message was refused for lack of room, so that Drained will follow
    given_to_all: bool  # whether every neighbour that stays was sent all own messages
    has_left: bool  # whether all neighbours know that this node leaves, and no receipt waits here
    silent: int  # how many neighbours have not answered yet that they know of the leaving
    unread: int
    settled: bool  # whether the node has a base: a snapshot or a store said where each stream begins
    joined: bool  # whether a neighbour has sent its roster


class LinkReport(msgspec.Struct, frozen=True):
    """A link of the core.

    :ivar link: its number.
    :ivar round_trip: seconds; None until it was measured.
    :ivar lazy_by_us: authors whose messages the peer is asked to announce, and not to push.
    :ivar lazy_by_peer: authors whose messages this node announces to the peer, and does not push.
    """

    link: int
    round_trip: float | None
    lazy_by_us: int
    lazy_by_peer: int


class StreamReport(msgspec.Struct, frozen=True):
    """A run as this node has it.

    :ivar head: the last number up to which every message came or was given up.
    :ivar high: the highest number that is known to exist.
    :ivar missing: how many messages are known to exist and have not come.
    :ivar fetched: how many came because this node had asked for them.
    """

    run: StreamId
    head: int
    high: int
    missing: int
    fetched: int


class HeldRun(msgspec.Struct, frozen=True):
    """Messages *first* to *last* of a run, all of which this node holds.

    :ivar bytes: in the store; if there is none, in memory.
    :ivar oldest: how many seconds ago the oldest of them came; None if that cannot be read now.
    :ivar newest: the same of the newest.
    """

    run: StreamId
    first: int
    last: int
    bytes: int
    oldest: float | None
    newest: float | None


class Report(msgspec.Struct, frozen=True):
    """A node's links and streams at one time.

    :ivar held_bytes: the memory of the messages that the node holds for others.
    :ivar oldest_at: when the oldest of these messages came; None if there are none.
    """

    links: tuple[LinkReport, ...]
    streams: tuple[StreamReport, ...]
    held_bytes: int
    oldest_at: float | None
