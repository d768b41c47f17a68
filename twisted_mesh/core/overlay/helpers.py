"""Which members to ask, in exchanges, for messages that no neighbour has.

Contract: anybody can make up members, and each record says what its author likes.  So no claim alone
decides who is asked.  In turn an author of missing messages is asked, a member that claims to hold messages
long, and a member drawn at random.  The rules, each with its reason:

* claims of members that are known for ``established_after`` count before others, and of equal claims the
  one of the member that is known longest: an attacker can make up thousands of members, but not earlier
  ones;
* claims above :data:`RETENTION_MOST` count as equal: otherwise the highest claim would always win;
* the sites (hosts, or networks of IPv6 hosts) are asked in turn: many ids at one site cost nothing;
* a member is not asked twice within half of ``gap_patience``, nor if it was not found lately;
* members are asked until the messages have come or are given up, one a second: the first ones may
  all be made up;
* each tells its whole roster, and over a slow line of this node that leaves no time for the messages.  So
  nobody else is asked while most of the members asked lately need long to tell it: if the line is not this
  node's, the others are quick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.roster import Author, Roster
from twisted_mesh.core.overlay.dial_limit import DialLimit
from twisted_mesh.core.overlay.views import Dial, Randomness
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.core.reachability import counted_site
from twisted_mesh.wire.membership import Purpose

RETENTION_MOST: Final = 604_800  # seconds: the longest claim that counts, the default of ``store_seconds``
RATE: Final = 1.0  # members asked in a second: all nodes that miss the messages ask together (guess)
ROUNDS: Final = 2  # how often a member is asked in gap_patience: it may get the messages meanwhile (guess)
LATELY: Final = 6.0  # seconds for which an exchange shows how slow the line is (guess)
QUICK: Final = 2.0  # seconds in which a peer tells its roster over a line that is not slow (guess)


@dataclass(eq=False)
class Helpers:
    """The members that were asked lately, and those that are asked next."""

    _config: MeshConfig
    _links: Links
    _roster: Roster
    _randomness: Randomness
    _dials: DialLimit
    _dial: Dial
    # By origin: when and at which site a member was asked.  The rate bounds how many there are.
    _asked: dict[bytes, tuple[float, str | None]] = field(default_factory=dict)
    # By exchange that this node dialled lately: when it began, and when the peer had told its roster.
    _lately: dict[Link, tuple[float, float]] = field(default_factory=dict)
    _turn: int = 0

    def __post_init__(self) -> None:
        self._rate = RateLimit(self._config.gap_members, RATE)

    def footprint(self) -> dict[str, int]:
        """The number of entries in every table."""
        return {"asked_members": len(self._asked), "dialled_exchanges": len(self._lately)}

    def opened(self, link: Link, now: float) -> None:
        """Take in that an exchange begins, which this node has dialled."""
        self._lately = {one: times for one, times in self._lately.items() if times[0] + LATELY > now}
        self._lately[link] = now, inf

    def roster_received(self, link: Link, now: float) -> None:
        """Take in that the peer of an exchange has told its roster."""
        if link in self._lately:
            self._lately[link] = self._lately[link][0], now

    def closed(self, link: Link) -> None:
        """Take in that a link is gone: a peer that refused an exchange did not tell its roster slowly."""
        if self._lately.get(link, (0.0, 0.0))[1] == inf:
            del self._lately[link]

    def _paces(self, now: float) -> tuple[int, int, int]:
        """How many exchanges this node dialled lately, and how many of them were quick, and slow."""
        lately = [times for times in self._lately.values() if times[0] + LATELY > now]
        quick = sum(told - began <= QUICK for began, told in lately)
        slow = sum(min(told, now) - began > QUICK for began, told in lately)
        return len(lately), quick, slow

    def ask(self, origins: Collection[bytes], now: float) -> None:
        """Begin exchanges to find messages of *origins*, as many as may begin now."""
        if not self._rate.has(now):
            return
        dialled, quick, slow = self._paces(now)
        if slow > quick:
            self._rate.spend(now, self._rate.left(now))  # so that not several are asked at once next
        if dialled > 2 * quick:  # the line of this node seems to be slow
            return
        patience = self._config.gap_patience
        self._asked = {origin: asked for origin, asked in self._asked.items() if asked[0] + patience > now}
        linked = {link.peer.origin for link in (*self._links.fed, *self._links.exchanges)}
        candidates = [
            author
            for author in self._roster
            if (author.is_there or author.presence.origin in origins)
            and author.presence.origin not in linked
            and self._may_ask(author, now)
        ]
        while candidates and self._rate.has(now):
            author = self._next(candidates, origins, now)
            contact = author.contact
            assert contact is not None  # all candidates can be dialled
            if not self._dial(contact, Purpose.EXCHANGE, now):
                return  # too many dials are under way
            self._rate.take(now)
            self._turn += 1
            self._asked[author.presence.origin] = now, counted_site(contact.host)
            candidates.remove(author)

    def _may_ask(self, author: Author, now: float) -> bool:
        if author.contact is None or self._dials.is_barred(author.contact, now):
            return False
        asked = self._asked.get(author.presence.origin)
        return asked is None or asked[0] + self._config.gap_patience / ROUNDS <= now

    def _next(self, candidates: list[Author], origins: Collection[bytes], now: float) -> Author:
        """The one of *candidates* to ask now, by the rule whose turn it is."""
        authors = [author for author in candidates if author.presence.origin in origins]
        if self._turn % 3 == 0 and not authors:
            self._turn += 1
        sites = self._sites()
        times = {author.presence.origin: self._times(author, sites) for author in candidates}
        match self._turn % 3:
            case 0:
                return min(authors, key=lambda one: (times[one.presence.origin], one.met))
            case 1:
                return min(candidates, key=lambda one: (times[one.presence.origin], self._claim(one, now)))
            case _:
                fewest = min(times.values())
                drawn = [one for one in candidates if times[one.presence.origin] == fewest]
                return self._randomness.choice(drawn)

    def _sites(self) -> Counter[str | None]:
        return Counter(site for _, site in self._asked.values())

    def _times(self, author: Author, sites: Counter[str | None]) -> tuple[int, float]:
        """How often the site of *author* was asked lately, and when *author* was."""
        assert author.contact is not None
        site = counted_site(author.contact.host)
        asked_at, _ = self._asked.get(author.presence.origin, (0.0, None))
        return 0 if site is None else sites[site], asked_at

    def _claim(self, author: Author, now: float) -> tuple[bool, int, float]:
        """The rank of what *author* claims; the lower, the earlier it is asked."""
        is_new = author.met + self._config.established_after > now
        return is_new, -min(author.presence.retention, RETENTION_MOST), author.met
