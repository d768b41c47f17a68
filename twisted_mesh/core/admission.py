"""Which frames this node accepts: those of authors that belong to the mesh, and of a few new authors.

Contract: a link may always bring frames of its own peer and of authors that are known here.  The links of
one site may bring only so many new authors a minute, so that a peer that makes up authors cannot fill this
node's tables with them, even if it links again and again.  All sites together may bring sixteen times as
many.  A sixteenth of that is for sites that have brought few lately, so that others cannot use it up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
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
from twisted_mesh.wire.membership import Presence, Role
from twisted_mesh.wire.signed import SignedRecord

SITES: Final = 1024  # sites whose new authors are counted; the longest idle is forgotten (guess)
#: All sites together may bring so many times the limit of one site, and sites that have brought few may
#: bring that limit once more (measured: with three times, relays of minted authors kept a newcomer out in
#: 2 of 6 simulated runs).
_IN_ALL: Final = 15
_FEW: Final = 16  # a site that has brought up to a sixteenth of its limit has brought few (guess)


class Hearing(Enum):
    """What is done with messages of an author."""

    TAKEN = "taken"
    WAITS = "waits"  #: until a record of the author comes that has its credential
    REFUSED = "refused"


class ProvenAuthors:
    """The newest record of each author that the roster has forgotten, while others may hold its messages.

    If the mesh has a secret, a node takes messages only of authors that have shown their credential.  A
    record here shows nobody as a member.  There are at most ``members_limit``; if there are more, the one
    that was kept first is dropped.
    """

    def __init__(self, config: MeshConfig) -> None:
        self._limit = config.members_limit
        self._kept_for = max(config.history_seconds, config.store_seconds)
        # By author; each with the time at which it is dropped.
        self._records: OrderedDict[bytes, tuple[SignedRecord, float]] = OrderedDict()

    def __contains__(self, origin: object) -> bool:
        return origin in self._records

    def get(self, origin: bytes) -> SignedRecord | None:
        """The record of *origin*."""
        kept = self._records.get(origin)
        return None if kept is None else kept[0]

    def keep(self, signed: SignedRecord, origin: bytes, now: float) -> None:
        """Keep a verified record, in place of an earlier one of its author."""
        self._records[origin] = signed, now + self._kept_for
        self._records.move_to_end(origin)
        if len(self._records) > self._limit:
            self._records.popitem(last=False)

    def drop(self, origin: bytes) -> None:
        """Drop the record of *origin*, which is on the roster again."""
        self._records.pop(origin, None)

    def tick(self, now: float) -> None:
        """Drop the records of authors of which nobody holds messages any more."""
        while self._records and next(iter(self._records.values()))[1] <= now:
            self._records.popitem(last=False)

    def expel(self, may_speak: Callable[[Presence], bool]) -> None:
        """Drop the records of authors that may not speak any more."""
        for origin, presence in list(self._presences()):
            if not may_speak(presence):
                del self._records[origin]

    def footprint(self) -> dict[str, int]:
        """Entries of the table."""
        return {"proven_authors": len(self._records)}

    def _presences(self) -> Iterator[tuple[bytes, Presence]]:
        for origin, (signed, _) in self._records.items():
            assert isinstance(signed.record, Presence)  # no other record is kept
            yield origin, signed.record


class Admission:
    """Decides which authors are heard, and which new ones a link may bring.

    :ivar shares: decides how much of each author a link may bring.
    :ivar proven: the records of authors that are gone.
    :ivar refused_new: how many frames of new authors were refused for lack of room.
    :ivar not_admitted: how many frames of authors that may not speak were refused.
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
        self.proven = ProvenAuthors(config)
        self.refused_new = self.not_admitted = 0

    def hears(self, origin: bytes) -> Hearing:
        """Whether messages of *origin* are taken."""
        if self._policy is EVERYBODY:
            return Hearing.TAKEN
        if self.bars(origin):
            self.not_admitted += 1
            return Hearing.REFUSED
        if origin in self._policy.removed:
            return Hearing.TAKEN  # up to the ends of its runs, which the history knows
        if origin in self._known or origin == self._own or not self._policy.needs_credentials:
            return Hearing.TAKEN
        return Hearing.TAKEN if origin in self.proven else Hearing.WAITS

    @property
    def needs_credentials(self) -> bool:
        """Whether an author must show in its record that it may speak."""
        return self._policy.needs_credentials

    def bars(self, origin: bytes) -> bool:
        """Whether no message of *origin* to everybody is taken, whatever *origin* shows."""
        policy = self._policy
        return policy.bars(origin) or (policy.only_listens(origin) and origin not in policy.removed)

    def takes_direct(self, origin: bytes) -> bool:
        """Whether a message of *origin* that is not for everybody is taken; count it if it is refused."""
        if self._policy.only_listens(origin):
            self.not_admitted += 1
            return False
        return True

    def may_forget(self, origin: bytes) -> bool:
        """Whether *origin* may have members forgotten: a node that only listens may not."""
        return not self._policy.only_listens(origin)

    def differs(self, presence: Presence) -> bytes:
        """Names the two sets of lists if the author of a record has others than this node; else empty."""
        return self._policy.differs(presence.credential)

    def is_proven(self, presence: Presence) -> bool:
        """Whether the author of a record, which need not be verified yet, may speak.

        :raises RemoteError: no honest node has handed the record on.
        """
        policy, origin = self._policy, presence.origin
        is_guest = presence.role == Role.GUEST
        return policy.may_speak(origin, presence.credential) and policy.may_be(origin, is_guest)

    def may_speak(self, link: Link, presence: Presence, now: float) -> bool:
        """As :meth:`is_proven`, for a record that has come over *link*; count it if it is refused.

        To refuse a certificate takes as long as to verify a signature, and does not end the link.  So if
        the link has brought many of these, no record that it brings is looked at for a while.
        """
        limit = link.rates.refused if self._policy.certificate else None
        if limit is None or limit.has(now):
            if self.is_proven(presence):
                return True
            if limit is not None:
                limit.spend(now)
        self.not_admitted += 1
        return False

    def may_bring(self, link: Link, origin: bytes, now: float) -> bool:
        """Whether *link* may bring a frame that *origin* has signed; if so, a new author is counted."""
        known = origin == link.peer.origin or origin in self._known
        if known or self._take(site_of(link.host), now):
            return True
        self.refused_new += 1
        return False

    def met(self, link: Link, origin: bytes, now: float) -> None:
        """Note that *link* has brought a verified record of *origin*."""
        if self._policy.vouches(origin):
            self._authors.vouched(origin)
        self._authors.met(origin, link.host, now)

    def forgotten(self, signed: SignedRecord, origin: bytes, now: float) -> None:
        """Take in that the roster has forgotten *origin*, whose newest record is *signed*."""
        if self._policy.needs_credentials:
            self.proven.keep(signed, origin, now)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"author_sites": len(self._sites), **self.proven.footprint(), **self._policy.footprint()}

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
