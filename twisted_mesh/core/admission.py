"""Who may speak here: which frames a link may bring before the peer's frontier, and which authors.

Contract: an author that is known, or at the far end of the link itself, always may.  Of others a link may
bring so many a minute: who makes up authors fills no tables with them.
"""

from __future__ import annotations

from collections.abc import Container

from twisted_mesh.core.link import Link
from twisted_mesh.wire import codec
from twisted_mesh.wire.membership import Presence
from twisted_mesh.wire.signed import SignedRecord


class Admission:
    """The authors that links bring.

    :ivar waiting: how many have not been let in so far, each as often as it was brought.
    """

    def __init__(self, known: Container[bytes]) -> None:
        """:param known: the origins of the authors that are."""
        self._known = known
        self.waiting = 0

    def may_bring(self, link: Link, origin: bytes, now: float) -> bool:
        """Whether *link* may bring what *origin* has signed."""
        known = origin == link.peer.origin or origin in self._known
        if known or link.presence.new_authors.take(now):
            return True
        self.waiting += 1
        return False


def may_come_early(frame: codec.Frame, own: bytes) -> bool:
    """Whether *frame* may come before the peer's frontier.

    A record of the own key may, which says that it is used elsewhere: the link ends with that.

    :param own: the origin of this node.
    """
    if isinstance(frame, SignedRecord) and isinstance(frame.record, Presence):
        return frame.record.origin == own
    return frame.is_early
