"""Shares this node's time among the links whose bytes it handles.

Contract: a link calls :meth:`Turns.read` when bytes have come.  In one turn of the reactor the bytes of one
link are handled for :data:`SLICE` seconds, and those of all links for four times as long.  If links of
several sites bring bytes, those of one site are handled for :data:`SLICE` seconds, too.  The rest waits for
a later turn, and the transports of these links are not read meanwhile.  In between, the reactor looks for
bytes of other links.

Of the sites that wait, the one that got least time comes first.  So a site gets at most an equal share of
the time while others wait, however many links it has.  Of the links of one site, for half of the time the
one comes first that has fewest bytes to handle: links that flood have most.  For the other half it is the
one that has waited longest, so that none waits for ever.

A site is that of :func:`~twisted_mesh.core.reachability.site_of`.  This node's own host is a site, too: if
all nodes are there, their links share the time.  A site that got no time lately has no claim to more than
others get from now on.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.links.protocol import MeshProtocol

SLICE: Final = 0.005  # seconds for one link in a turn (guess: four of them keep no message waiting long)
_TURN: Final = 4 * SLICE  # seconds for all links in one turn
_SEVERAL: Final = 1.0  # seconds for which a site counts that has brought bytes (guess)
_SITES_MOST: Final = 4096  # sites whose time is counted (guess: four times links_limit)


class _SiteTimes:
    """How much time each of several sites got.

    These are the start tags of start-time fair queueing (Goyal, Vin and Cheng, 1996).
    """

    def __init__(self) -> None:
        self._got: dict[str, float] = {}
        self._least = 0.0  # what the last site had got before

    def of(self, site: str) -> float:
        """The seconds that *site* got; after a pause, not less than others had got meanwhile."""
        return max(self._got.get(site, 0.0), self._least)

    def first(self, sites: Iterable[str]) -> str:
        """The one of *sites* that got least."""
        return min(sites, key=self.of)

    def add(self, site: str, seconds: float) -> None:
        """Note that *site* got some *seconds* more."""
        self._least = self.of(site)
        self._got[site] = self._least + seconds
        if len(self._got) > _SITES_MOST:  # sites that got least count the same if they are forgotten
            self._got = {other: got for other, got in self._got.items() if got > self._least}


class _Waiting:
    """The links of one site that wait.

    :ivar links: by number, those first that have waited longest.
    :ivar favour: seconds that links with fewest bytes got beyond those that had waited longest.
    """

    __slots__ = ("favour", "links")

    def __init__(self) -> None:
        self.links: dict[int, MeshProtocol] = {}
        self.favour = 0.0

    def fewest_bytes(self) -> MeshProtocol:
        """The link that has fewest bytes to handle."""
        return min(self.links.values(), key=lambda link: link.unread_bytes)


class Turns:
    """The turns of the links of one run."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._times = _SiteTimes()
        self._waiting: dict[str, _Waiting] = {}  # by site
        self._left = _TURN  # seconds that are left of this turn
        self._used: dict[str, float] = {}  # seconds that each site got in this turn
        self._read: dict[str, float] = {}  # what each site got since this turn began
        self._site: str | None = None  # the site whose bytes were handled last
        self._changed = -inf  # when another site's bytes were
        self._next_turn: IDelayedCall | None = None

    def read(self, link: MeshProtocol) -> None:
        """Let *link* handle the bytes that have come, now or later."""
        if self._is_due(link):
            site = link.site
            took = self._let(link, min(SLICE, self._left_of(site)))
            self._read[site] = self._read.get(site, 0.0) + took
        else:
            self._wait(link)

    def stop(self) -> None:
        """Let no link that waits have another turn."""
        self._waiting.clear()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

    def footprint(self) -> dict[str, int]:
        return {"waiting_links": sum(len(waiting.links) for waiting in self._waiting.values())}

    def _is_due(self, link: MeshProtocol) -> bool:
        """Whether *link* may have time now: this turn has some, and no link that waits got less."""
        site = link.site
        if self._left_of(site) <= 0:
            return False
        if not self._waiting:
            return True
        first = self._times.first(self._waiting)
        if first != site:
            return self._times.of(site) <= self._times.of(first)
        return link.unread_bytes <= self._waiting[site].fewest_bytes().unread_bytes

    def _left_of(self, site: str) -> float:
        """The seconds of this turn that are left for the links of *site*."""
        several = self._site not in (None, site) or self._clock.seconds() < self._changed + _SEVERAL
        return min(self._left, (SLICE if several else _TURN) - self._used.get(site, 0.0))

    def _let(self, link: MeshProtocol, most: float) -> float:
        """Let *link* handle bytes for *most* seconds; if some are left, it waits for its next turn.

        :return: the seconds that it took.
        """
        site, seconds = link.site, self._clock.seconds
        began = seconds()
        if site != self._site:
            self._changed = -inf if self._site is None else began
            self._site = site
        is_over = link.handle_unread(began + most)
        took = seconds() - began
        self._left -= took
        self._used[site] = self._used.get(site, 0.0) + took
        self._times.add(site, took)
        if not is_over:
            self._wait(link)
        elif self._left <= _TURN - SLICE:
            self._schedule()
        return took

    def _wait(self, link: MeshProtocol) -> None:
        link.hold()
        self._waiting.setdefault(link.site, _Waiting()).links[link.number] = link
        self._schedule()

    def _schedule(self) -> None:
        if self._next_turn is None:
            self._next_turn = self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        """Begin a turn: let links that wait have time, but leave most of the turn for bytes that come.

        The reactor has not looked for bytes since those that came were handled, so they count as well.  If
        that leaves no time for links that wait, no bytes of their site are read before the next turn.
        """
        self._next_turn = None
        self._left = _TURN
        read, self._read = self._read, {}
        self._used = dict(read)
        try:
            while self._left > _TURN - SLICE:
                sites = [site for site in self._waiting if self._left_of(site) > 0]
                if not sites:
                    break
                self._let_first(sites)
        finally:
            for site in read.keys() - self._waiting.keys():
                self._used[site] -= read[site]
            if self._waiting:
                self._schedule()
            else:
                self._times = _SiteTimes()

    def _let_first(self, sites: Iterable[str]) -> None:
        """Let the link of *sites* that comes first have half of a slice, or what is left of it."""
        site = self._times.first(sites)
        waiting = self._waiting[site]
        by_bytes = waiting.favour <= 0
        link = waiting.fewest_bytes() if by_bytes else next(iter(waiting.links.values()))
        del waiting.links[link.number]
        if not waiting.links:
            del self._waiting[site]
        try:
            took = self._let(link, min(SLICE / 2, self._left - (_TURN - SLICE), self._left_of(site)))
        except BaseException:
            link.cut()  # as Twisted does if the bytes were handled when they came
            raise
        waiting.favour += took if by_bytes else -took
