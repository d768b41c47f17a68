"""Shares this node's time among the links whose bytes it handles.

Contract: a link calls :meth:`Turns.read` when bytes have come.  In one turn of the reactor the bytes of one
link are handled for :data:`SLICE` seconds, and those of all links for four times as long.  If links of
several sites bring bytes, those of one site are handled for :data:`SLICE` seconds, too.  The rest waits for
a later turn, and the transports of these links are not read meanwhile.  In between, the reactor looks for
bytes of other links.

Of the sites that wait, the one that got least time comes first.  So a site gets at most an equal share of
the time while others wait, however many links it has.  Of the links of one site, for half of the time the
one comes first that has fewest bytes to handle: links that flood have most.  For the other half it is the
one that got least time, so that none waits for ever.

A site is that of :func:`~twisted_mesh.core.reachability.site_of`.  This node's own host is a site, too: if
all nodes are there, their links share the time.  A site that got no time lately has no claim to more than
others get from now on, and neither has a link.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.links.protocol import MeshProtocol

SLICE: Final = 0.005  # seconds for one link in a turn (guess: four of them keep no message waiting long)
_TURN: Final = 4 * SLICE  # seconds for all links in one turn
_TAKERS_MOST: Final = 4096  # sites whose time is counted, and links of each (guess: four times links_limit)

_Key = TypeVar("_Key")


class _Shares(Generic[_Key]):
    """How much time each of several takers got.

    These are the start tags of start-time fair queueing (Goyal, Vin and Cheng, 1996).
    """

    def __init__(self) -> None:
        self._got: dict[_Key, float] = {}
        self._least = 0.0  # what the last taker had got before

    def __len__(self) -> int:
        return len(self._got)

    def of(self, taker: _Key) -> float:
        """The seconds that *taker* got; after a pause, not less than others had got meanwhile."""
        return max(self._got.get(taker, 0.0), self._least)

    def first(self, takers: Iterable[_Key]) -> _Key:
        """The one of *takers* that got least."""
        return min(takers, key=self.of)

    def add(self, taker: _Key, seconds: float) -> None:
        """Note that *taker* got some *seconds* more."""
        self._least = self.of(taker)
        self._got[taker] = self._least + seconds
        if len(self._got) > _TAKERS_MOST:  # takers that got least count the same if they are forgotten
            self._got = {other: got for other, got in self._got.items() if got > self._least}


class Turns:
    """The turns of the links of one run."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._sites = _Shares[str]()
        self._links = defaultdict[str, _Shares[int]](_Shares)  # by site, the shares of its links
        self._waiting: dict[str, dict[int, MeshProtocol]] = {}  # by site
        self._left = _TURN  # seconds that are left of this turn
        self._used: dict[str, float] = {}  # seconds that each site got in this turn
        self._next_turn: IDelayedCall | None = None

    def read(self, link: MeshProtocol) -> None:
        """Let *link* handle the bytes that have come, now or later."""
        if self._is_due(link):
            self._let(link)
        else:
            self._wait(link)

    def stop(self) -> None:
        """Let no link that waits have another turn."""
        self._waiting.clear()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

    def footprint(self) -> dict[str, int]:
        return {"waiting_links": sum(map(len, self._waiting.values()))}

    def _is_due(self, link: MeshProtocol) -> bool:
        """Whether *link* may have time now: this turn has some, and no link that waits got less."""
        site = link.site
        most = SLICE if len(self._sites) > 1 else _TURN
        if self._left <= 0 or self._used.get(site, 0.0) >= most:
            return False
        if not self._waiting:
            return True
        first = self._sites.first(self._waiting)
        if first != site:
            return self._sites.of(site) <= self._sites.of(first)
        return link.unread_bytes <= min(other.unread_bytes for other in self._waiting[site].values())

    def _let(self, link: MeshProtocol) -> None:
        """Let *link* handle bytes; if it cannot handle all, it waits for its next turn."""
        site, seconds = link.site, self._clock.seconds
        began = seconds()
        is_over = link.handle_unread(began + SLICE)
        took = seconds() - began
        self._left -= took
        self._used[site] = self._used.get(site, 0.0) + took
        self._sites.add(site, took)
        self._links[site].add(link.number, took)
        if len(self._links) > _TAKERS_MOST:
            del self._links[next(iter(self._links))]
        if not is_over:
            self._wait(link)
        elif self._left <= _TURN - SLICE:
            self._schedule()

    def _wait(self, link: MeshProtocol) -> None:
        link.hold()
        self._waiting.setdefault(link.site, {})[link.number] = link
        self._schedule()

    def _schedule(self) -> None:
        if self._next_turn is None:
            self._next_turn = self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        """Begin a turn: let links that wait have time, but leave most of the turn for bytes that come."""
        self._next_turn = None
        self._left = _TURN
        self._used.clear()
        try:
            while self._waiting and self._left > _TURN - SLICE:
                link = self._take_first()
                try:
                    self._let(link)
                except BaseException:
                    link.cut()  # as Twisted does if the bytes were handled when they came
                    raise
        finally:
            if self._waiting:
                self._schedule()
            else:
                self._sites = _Shares()
                self._links.clear()

    def _take_first(self) -> MeshProtocol:
        """The link that waits and comes first; it waits no more."""
        site = self._sites.first(self._waiting)
        waiting = self._waiting[site]
        if self._left > _TURN - SLICE / 2:
            number = min(waiting, key=lambda number: waiting[number].unread_bytes)
        else:
            number = self._links[site].first(waiting)
        link = waiting.pop(number)
        if not waiting:
            del self._waiting[site]
        return link
