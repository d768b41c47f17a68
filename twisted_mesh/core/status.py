"""The state of a node as one value.

Contract: a value shows the node at one time and is not updated.
"""

from __future__ import annotations

import msgspec

from twisted_mesh.core.events import StreamId


class Status(msgspec.Struct, frozen=True):
    """The state of a node at one time.

    :ivar stream: the stream of its own messages; :ivar sent: the sequence of the last own message.
    :ivar taken: the last own message that the transport of some link has accepted.
    :ivar confirmed: the last own message that some neighbour is known to have.
    :ivar congested: whether a message was refused for lack of room, so that Drained will follow.
    :ivar given_to_all: whether every neighbour that stays was sent all own messages.
    :ivar has_left: whether every neighbour knows that this node leaves, and this node owes no receipt.
    :ivar silent: the number of neighbours that did not answer that this node leaves.
    :ivar unread: the number of own messages that a transport has accepted, and no neighbour is known to
        have read.
    :ivar settled: whether the node has a base: a snapshot or a store said where each stream begins.
    :ivar joined: whether a neighbour has sent its roster.
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
