"""Whose frames are taken: those of authors that belong to the mesh, and so many of new authors.

Contract: a link may always bring frames of its own peer and of authors that are known here.  The links of
one site may bring only so many new authors a minute, so that a peer that makes up authors cannot fill this
node's tables with them, also if it links again and again.  All sites together may bring four times as many.
A quarter of that is for sites that have brought few lately, so that other sites cannot use it up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from enum import Enum
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.authors import Authors
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.link import Link
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.core.reachability import site_of
from twisted_mesh.core.shares import Shares
from twisted_mesh.network import EVERYBODY
from twisted_mesh.wire import codec
from twisted_mesh.wire.membership import Presence
from twisted_mesh.wire.signed import SignedRecord

SITES: Final = 1024  # sites whose new authors are counted; the longest idle is forgotten (guess)
#: All sites together may bring so many times the limit of one; once more is kept for sites that brought few
#: (measured: with three times, relays of minted authors kept a newcomer out in 2 of 6 simulated runs).
_IN_ALL: Final = 15
_FEW: Final = 16  # a site that has brought up to a sixteenth of its limit has brought few (guess)


class Hearing(Enum):
    """What is done with messages of an author."""

    TAKEN = "taken"
    WAITS = "waits"  #: until a record of the author comes that has its credential
    REFUSED = "refused"


class Admission:
    """Decides which authors are heard, and which new ones a link may bring.

    :ivar shares: decides how much of each author a link may bring.
    :ivar waiting: how many frames of new authors were refused.
    :ivar refused: how many frames of authors that may not speak were refused.
    """

    def __init__(
        self,
        local_node: LocalNode,
        known: Container[bytes],
        authors: Authors,
        shares: Shares,
        config: MeshConfig,
    ) -> None:
        """
        :param known: the authors whose records are kept; every link may bring them.
        :param authors: all that this node has met.
        """
        self.shares = shares
        self._own = local_node.origin
        self._policy = local_node.policy
        self._known = known
        self._authors = authors
        self._limit = config.authors_burst, config.authors_a_minute / 60
        self._sites: OrderedDict[str, RateLimit] = OrderedDict()  # the longest idle first
        self._in_all = self._times(_IN_ALL)
        self._for_few = self._times(1)
        self.waiting = self.refused = 0

    def hears(self, origin: bytes) -> Hearing:
        """Whether messages of *origin* are taken."""
        if self._policy is EVERYBODY:
            return Hearing.TAKEN
        if self._policy.bars(origin):
            self.refused += 1
            return Hearing.REFUSED
        if origin in self._known or origin == self._own or not self._policy.needs_credentials:
            return Hearing.TAKEN
        return Hearing.WAITS

    def bars(self, origin: bytes) -> bool:
        """Whether nothing of *origin* is taken, whatever it shows."""
        return self._policy.bars(origin)

    def differs(self, presence: Presence) -> bytes:
        """Names the two sets of lists if the author of a record has others than this node; else empty."""
        return self._policy.differs(presence.credential)

    def may_speak(self, presence: Presence) -> bool:
        """Whether the author of a record, which need not be verified yet, may speak."""
        if self._policy.may_speak(presence.origin, presence.credential):
            return True
        self.refused += 1
        return False

    def may_bring(self, link: Link, origin: bytes, now: float) -> bool:
        """Whether *link* may bring a frame that *origin* has signed; if so, a new author is counted."""
        known = origin == link.peer.origin or origin in self._known
        if known or self._take(site_of(link.host), now):
            return True
        self.waiting += 1
        return False

    def met(self, link: Link, origin: bytes, now: float) -> None:
        """Note that *link* has brought a verified record of *origin*."""
        if self._policy.vouches(origin):
            self._authors.vouched(origin)
        self._authors.met(origin, link.host, now)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"author_sites": len(self._sites)}

    def _take(self, site: str, now: float) -> bool:
        """Count a new author for *site*, if it may bring one."""
        limit = self._sites.get(site)
        if limit is None:
            limit = self._sites[site] = self._times(1)
            if len(self._sites) > SITES:
                self._sites.popitem(last=False)
        self._sites.move_to_end(site)
        is_few = limit.has(now, self._limit[0] * (_FEW - 1) / _FEW)
        if not limit.has(now):
            return False
        if not (self._in_all.take(now) or (is_few and self._for_few.take(now))):
            return False
        return limit.take(now)

    def _times(self, times: int) -> RateLimit:
        """A limit that is so many times that of one site."""
        burst, rate = self._limit
        return RateLimit(times * burst, times * rate)


def may_come_early(frame: codec.Frame, own: bytes) -> bool:
    """Whether *frame* may come before the peer's frontier.

    A PRESENCE may if it is of this node's own key: it says that another node uses that key, and the link
    ends.

    :param own: the origin of this node.
    """
    if isinstance(frame, SignedRecord) and isinstance(frame.record, Presence):
        return frame.record.origin == own
    return frame.is_early
