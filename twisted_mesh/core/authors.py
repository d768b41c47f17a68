"""The authors that this node has met: since when, and through which site.

Contract: an author is *known* ``known_after`` seconds after its first verified record or batch came, or at
once if the policy vouches for it; until then it is *new*.  If nobody vouches for authors, an attacker can
make up new ones at once, and known ones only in that time.  A new
author is counted at its *introducer*: the site (host, or network of IPv6 hosts) at the far end of the link
that first brought a record or a batch of it.  There are at most ``authors_limit`` authors.  If there are
more, a new one is forgotten, the latest of the site that introduced most; if none is new, the author whose
last record came longest ago.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.reachability import NO_HOST, site_of

EARLY: Final = 16  # authors that a site introduces first (guess: an office behind one relay)
UNMET: Final = ""  # the introducer of an author of which nothing verified has come over a link


class Authors:
    """When and how this node has met each author."""

    def __init__(self, config: MeshConfig) -> None:
        self._known_after = config.known_after
        self._limit = config.authors_limit
        self._known: OrderedDict[bytes, None] = OrderedDict()  # the longest idle first
        self._introducers: dict[bytes, str] = {}  # of the new authors
        # By introducer: when each new author was met, the earliest first.
        self._new: dict[str, dict[bytes, float]] = {}
        self._early: set[bytes] = set()  # of the new authors

    def met(self, origin: bytes, host: str | None, now: float) -> str | None:
        """Note that a verified record or batch of *origin* has come; return its :meth:`introducer`.

        :param host: the host at the far end of the link; None if no link brought it: it counts as known.
        """
        if origin in self._known:
            self._known.move_to_end(origin)
        elif host is None:
            self._become_known(origin)
        elif origin not in self._introducers:
            self._make_room()
            site = self._introducers[origin] = site_of(host) or NO_HOST
            new = self._new.setdefault(site, {})
            if len(new) < EARLY:
                self._early.add(origin)
            new[origin] = now
        return self.introducer(origin, now)

    def vouched(self, origin: bytes) -> None:
        """Note that the node's policy names *origin*, which nobody has made up: it is known from now on."""
        if origin not in self._known:
            self._become_known(origin)

    def introducer(self, origin: bytes, now: float) -> str | None:
        """The site that introduced *origin*; None if *origin* is known; :data:`UNMET` if it was not met."""
        if origin in self._known:
            return None
        site = self._introducers.get(origin, UNMET)
        if site != UNMET and self._new[site][origin] + self._known_after <= now:
            self._become_known(origin)
            return None
        return site

    def is_early(self, origin: bytes, site: str) -> bool:
        """Whether the new author *origin* is of the first that *site* introduced, or is about to be."""
        if origin in self._introducers:
            return origin in self._early
        return len(self._new.get(site, ())) < EARLY

    def knows_others(self, own: bytes) -> bool:
        """Whether an author besides *own* is known."""
        return len(self._known) > (own in self._known)

    def forget(self, origin: bytes) -> None:
        """Forget *origin*: when it is met again, it is new."""
        self._known.pop(origin, None)
        if origin in self._introducers:
            self._forget_new(origin)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"known_authors": len(self._known), "new_authors": len(self._introducers)}

    def _become_known(self, origin: bytes) -> None:
        if origin in self._introducers:
            self._forget_new(origin)
        else:
            self._make_room()
        self._known[origin] = None

    def _make_room(self) -> None:
        """Forget one author if there are too many."""
        if len(self._known) + len(self._introducers) < self._limit:
            return
        if self._new:
            largest = max(self._new.values(), key=len)
            self._forget_new(next(reversed(largest)))
        else:
            self._known.popitem(last=False)

    def _forget_new(self, origin: bytes) -> None:
        site = self._introducers.pop(origin)
        self._early.discard(origin)
        del self._new[site][origin]
        if not self._new[site]:
            del self._new[site]
