"""Which connection goes if there are too many: one of the host that has most of them.

Contract: three quarters of a limit are anybody's.  Above that, the connection that is refused or closed is
one of the *site* with most (:func:`~twisted_mesh.core.reachability.site_of`: an IPv4 address, or a network
of 64 bits of IPv6), so that a host that opens many closes its own.  The last quarter of the links is kept
for nodes that this node knows, that of the strangers for sites with fewer connections than another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from enum import IntEnum

from twisted_mesh.links.protocol import MeshProtocol


class Rank(IntEnum):
    """How well this node knows the node at the far end of a link; who is known better goes later."""

    OWN = 0  #: this node dialled it
    KNOWN = 1  #: it is a configured peer, or was there for ``established_after``, as member or on this link
    NEW = 2


def unkept(limit: int) -> int:
    """How many of *limit* are anybody's: three quarters."""
    return limit - limit // 4


def crowded_out(
    new: MeshProtocol, links: Iterable[MeshProtocol], rank: Callable[[MeshProtocol], Rank], limit: int
) -> MeshProtocol | None:
    """The one of *links* that has to go, now that *new* is one of them; None if there is room for all."""
    everybody = list(links)
    if len(everybody) <= unkept(limit):
        return None
    ranks = {link: rank(link) for link in everybody}
    pool = [link for link in everybody if ranks[link] is Rank.NEW]
    if len(pool) <= unkept(limit):
        if len(everybody) <= limit:
            return None
        pool = everybody
    at = Counter(link.site for link in pool)
    return max(pool, key=lambda link: (at[link.site], ranks[link], link is new, link.number))


class Strangers:
    """The accepted connections whose peers have proven nothing yet, those of each site the oldest first."""

    def __init__(self, limit: int) -> None:
        """:param limit: how many there may be in all."""
        self._limit = limit
        self._sites: dict[str, dict[int, MeshProtocol]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, link: MeshProtocol) -> str | None:
        """Add *link*; if there are too many, return the site of which one has to go."""
        own = self._sites.setdefault(link.site, {})
        own[link.number] = link
        self._count += 1
        if self._count <= unkept(self._limit):
            return None
        sites = self._sites
        most = max(sites, key=lambda site: len(sites[site]))  # of several, the site that came first
        if self._count <= self._limit and (len(own) == 1 or len(own) < len(sites[most])):
            return None
        return most

    def silent_at(self, site: str, new: MeshProtocol) -> MeshProtocol | None:
        """The oldest stranger of *site* that has sent nothing, *new* aside; None if all have."""
        strangers = self._sites[site].values()
        return next((link for link in strangers if link.is_silent and link is not new), None)

    def oldest_at(self, site: str) -> MeshProtocol:
        """The oldest stranger of *site*, which has some."""
        return next(iter(self._sites[site].values()))

    def discard(self, link: MeshProtocol) -> None:
        """Remove *link*, which has proven its key or closes, if it is here."""
        own = self._sites.get(link.site, {})
        if own.pop(link.number, None) is not None:
            self._count -= 1
            if not own:
                del self._sites[link.site]
