"""The state of a node as one value.

Contract: a value shows the node at one time and is not updated.
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
