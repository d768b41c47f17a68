"""What a link may bring: frames before the peer's frontier, and frames of new authors.

Contract: a link may always bring frames of its own peer and of authors that are known here.  It may bring
only so many new authors a minute, so that a peer that makes up authors cannot fill this node's tables with
them.
"""

from __future__ import annotations

from collections.abc import Container

from twisted_mesh.core.authors import Authors
from twisted_mesh.core.link import Link
from twisted_mesh.wire import codec
from twisted_mesh.wire.membership import Presence
from twisted_mesh.wire.signed import SignedRecord


class Admission:
    """Decides which new authors a link may bring; *waiting* counts the refused frames."""

    def __init__(self, known: Container[bytes], authors: Authors) -> None:
        """:param known: the authors that every link may bring; *authors*: all that this node has met."""
        self._known = known
        self._authors = authors
        self.waiting = 0

    def may_bring(self, link: Link, origin: bytes, now: float) -> bool:
        """Whether *link* may bring a frame that *origin* has signed; if so, a new author is counted."""
        known = origin == link.peer.origin or origin in self._known
        if known or link.rates.authors.take(now):
            return True
        self.waiting += 1
        return False

    def met(self, link: Link, origin: bytes, now: float) -> None:
        """Note that *link* has brought a verified record of *origin*."""
        self._authors.met(origin, link.host, now)


def may_come_early(frame: codec.Frame, own: bytes) -> bool:
    """Whether *frame* may come before the peer's frontier.

    A PRESENCE may if it is of this node's own key: it says that another node uses that key, and the link
    ends.

    :param own: the origin of this node.
    """
    if isinstance(frame, SignedRecord) and isinstance(frame.record, Presence):
        return frame.record.origin == own
    return frame.is_early
