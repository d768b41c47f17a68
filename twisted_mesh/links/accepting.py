"""Lets accepted connections begin at a bounded rate, since a TLS session and a handshake cost time.

Contract: :meth:`Accepting.may_begin` is asked when the first bytes of a connection have come, and
:meth:`Accepting.gone` is told when its peer has proven its key, or it closes.  If the connections of one
site (:mod:`~twisted_mesh.links.crowding`) come faster than ``accept_rate``, or all together faster than
``handshakes_rate``, some wait: their bytes are not read, so they cost nothing.  Sites take turns.  The
newest connection of a site goes first, since the peers of older ones may have given up.  A connection that
has waited for ``accept_wait`` is refused as ``full``, or is cut if there are many such connections.

For connections from this host itself, only ``handshakes_rate`` counts.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.core.reachability import Reach, reach_of
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.links.protocol import MeshProtocol

#: Sites whose rate is remembered; for one more, the site that connected longest ago is forgotten, and its
#: rate begins anew (guess: after 15 seconds without a connection each rate is as new).
SITES: Final = 1024
#: Connections refused as ``full`` in a row; others are cut (guess: a tenth of all sessions) ...
TOLD_BURST: Final = 15
TOLD_RATE: Final = 15.0  #: ... and in a second on average
_LOOK: Final = 0.05  # seconds between looks at waiting connections (guess: seven sessions begin in it)


class Accepting:
    """The accepted connections that wait to begin."""

    def __init__(self, clock: IReactorTime, config: MeshConfig) -> None:
        self._clock = clock
        self._config = config
        self._all = RateLimit(config.handshakes_burst, config.handshakes_rate)
        self._told = RateLimit(TOLD_BURST, TOLD_RATE)
        self._rates: OrderedDict[str, RateLimit] = OrderedDict()  # by site, the newest last
        self._waiting: OrderedDict[str, dict[int, MeshProtocol]] = OrderedDict()  # by site, the next first
        self._next_look: IDelayedCall | None = None

    def may_begin(self, link: MeshProtocol) -> bool:
        """Whether *link* may begin now; if not, its go_on() will be called."""
        if link.site not in self._waiting and self._has_time_for(link):
            return True
        self._waiting.setdefault(link.site, {})[link.number] = link
        if self._next_look is None:
            self._next_look = self._clock.callLater(_LOOK, self._look)
        return False

    def gone(self, link: MeshProtocol) -> None:
        """Forget *link*, if it waits."""
        waiting = self._waiting.get(link.site, {})
        if waiting.pop(link.number, None) is not None and not waiting:
            del self._waiting[link.site]

    def oldest_at(self, site: str) -> MeshProtocol | None:
        """The connection of *site* that waits longest; None if none waits."""
        return next(iter(self._waiting.get(site, {}).values()), None)

    def stop(self) -> None:
        """Let no waiting connection begin any more."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    def footprint(self) -> dict[str, int]:
        waiting = sum(map(len, self._waiting.values()))
        return {"waiting_connections": waiting, "accept_rates": len(self._rates)}

    def _has_time_for(self, link: MeshProtocol) -> bool:
        """Whether the rates let *link* begin now; if they do, count it."""
        now, site = self._clock.seconds(), link.site
        if not site or reach_of(link.remote[0]) is Reach.OWN:
            return self._all.take(now)
        rate = self._rates.get(site)
        if rate is None:
            rate = self._rates[site] = RateLimit(self._config.accept_burst, self._config.accept_rate)
            if len(self._rates) > SITES:
                self._rates.popitem(last=False)
        self._rates.move_to_end(site)
        return rate.has(now) and self._all.take(now) and rate.take(now)

    def _look(self) -> None:
        self._next_look = None
        sites = list(self._waiting)
        while sites:  # take turns, until no connection may begin
            sites = [site for site in sites if self._turn_of(site)]
        now = self._clock.seconds()
        longest = min(self._config.accept_wait, self._config.handshake_timeout / 2)
        late = [
            link
            for waiting in self._waiting.values()
            for link in waiting.values()
            if now - link.made_at >= longest
        ]
        for link in late:
            self.gone(link)
            error = RemoteError("too many connections at a time", Reason.FULL)
            if self._told.take(now):
                link.turn_away(error)
            else:
                link.close(error)
        if self._waiting and self._next_look is None:
            self._next_look = self._clock.callLater(_LOOK, self._look)

    def _turn_of(self, site: str) -> bool:
        """Let the newest connection of *site* begin; return whether it did, and others of *site* wait."""
        newest = next(reversed(self._waiting[site].values()))
        if not self._has_time_for(newest):
            return False
        self.gone(newest)
        newest.go_on()
        if site not in self._waiting:
            return False
        self._waiting.move_to_end(site)
        return True
