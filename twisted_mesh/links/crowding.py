"""Chooses the connection to close if there are too many: one of the site that has the most.

Contract: a *site* is an IPv4 address, or an IPv6 network of 64 bits.  Three quarters of a limit are open to
every connection.  The last quarter of the links is only for nodes that this node knows; the last quarter of
the strangers is only for sites with fewer connections than another site.  The connection to close is of the
site with the most, so a host that opens many closes its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from enum import IntEnum

from twisted_mesh.links.protocol import MeshProtocol


class Rank(IntEnum):
    """How well this node knows a link's far end; links with a higher number are closed first."""

    OWN = 0  #: this node dialled it
    KNOWN = 1  #: it is a configured peer, or has been a member or linked for ``established_after``
    NEW = 2  #: all other nodes


def unkept(limit: int) -> int:
    """How many of *limit* connections are open to all: three quarters."""
    return limit - limit // 4


def crowded_out(
    new: MeshProtocol, links: Iterable[MeshProtocol], rank: Callable[[MeshProtocol], Rank], limit: int
) -> MeshProtocol | None:
    """The one of *links* to close, now that *new* is one of them; None if there is room for all."""
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
    """The accepted connections whose peers have proven nothing yet; by site, the oldest first."""

    def __init__(self, limit: int) -> None:
        """:param limit: how many there may be in all."""
        self._limit = limit
        self._sites: dict[str, dict[int, MeshProtocol]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, link: MeshProtocol) -> str | None:
        """Add *link*; if there are too many strangers, return the site whose connection is to close."""
        own = self._sites.setdefault(link.site, {})
        own[link.number] = link
        self._count += 1
        if self._count <= unkept(self._limit):
            return None
        sites = self._sites
        most = max(sites, key=lambda site: len(sites[site]))  # of equals, the first that came
        if self._count <= self._limit and (len(own) == 1 or len(own) < len(sites[most])):
            return None
        return most

    def silent_at(self, site: str, new: MeshProtocol) -> MeshProtocol | None:
        """The oldest stranger of *site* that has sent no byte, other than *new*; None if there is none."""
        strangers = self._sites[site].values()
        return next((link for link in strangers if link.is_silent and link is not new), None)

    def oldest_at(self, site: str) -> MeshProtocol:
        """The oldest stranger of *site*, which must have one."""
        return next(iter(self._sites[site].values()))

    def discard(self, link: MeshProtocol) -> None:
        """Remove *link*, which has proven its key or closes, if it is here."""
        own = self._sites.get(link.site, {})
        if own.pop(link.number, None) is not None:
            self._count -= 1
            if not own:
                del self._sites[link.site]
