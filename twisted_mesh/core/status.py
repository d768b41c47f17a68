"""Where a node stands: one value that tells all of it.

Contract: a snapshot; what follows from an event is in the next one.
"""

from __future__ import annotations

import msgspec

from twisted_mesh.core.events import StreamId


class Status(msgspec.Struct, frozen=True):
    """The state of a node at one time.

    :ivar stream: of its own messages; :ivar sent: the last of them.
    :ivar taken: the last of them that a neighbour has taken; :ivar confirmed: that one is known to have.
    :ivar congested: whether a message was refused for want of room, so that Drained is waited for.
    :ivar given_to_all: whether every neighbour that stays was given all own messages.
    :ivar has_left: whether every neighbour knows that this node leaves, and no receipt is owed.
    :ivar silent: neighbours that did not answer that.
    :ivar unread: own messages that a neighbour has taken, and none is known to have read.
    :ivar settled: whether a snapshot, or a store, has told it where to start.
    :ivar joined: whether a neighbour has told its roster.
    """

    stream: StreamId
    sent: int
    taken: int
    confirmed: int
    congested: bool
    given_to_all: bool
    has_left: bool
    silent: int
    unread: int
    settled: bool
    joined: bool
