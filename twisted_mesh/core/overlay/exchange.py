"""Exchanges: now and then a short link with a node that is no neighbour.

Parts of a mesh without a link between them (*islands*) find each other so.

Contract: every ``exchange_interval`` this node draws a node that is no neighbour.  It draws from all nodes
of the roster, and from nodes with which it was linked before; one draw in three is among nodes that are
not up.  On the link both ends send their rosters, compare the messages that they hold, and pull those they
lack.  The dialler ends the link when nothing has come for ``exchange_idle``.  If one end did not know that
the other is up, the two may be of two islands, and the link becomes one between neighbours: each end votes.

Messages that no neighbour holds are looked for in the same way, at once
(:mod:`~twisted_mesh.core.overlay.helpers`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from operator import itemgetter
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.repair import PULLED_MOST
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.roster import Author, Roster
from twisted_mesh.core.meter import FLOOR
from twisted_mesh.core.overlay.dial_limit import DialLimit
from twisted_mesh.core.overlay.helpers import ROUNDS, Helpers
from twisted_mesh.core.overlay.views import Dial, Randomness
from twisted_mesh.core.reachability import counted_site, site_of
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import Contact, KeepVote, Purpose

_NOT_UP: Final = 1 / 3  # the part of the draws that is among nodes that are not up (docs/protocol.rst)
_LOOK: Final = 1.0  # seconds from one check of the open exchanges to the next (guess)
_GRACE: Final = 5.0  # seconds that the acceptor waits longer than the dialler to end an exchange (guess)
#: Seconds after which an exchange that leads to nothing is ended (guess: some slow round trips).
_NOTHING: Final = 15.0


@dataclass(eq=False, slots=True)
class OpenExchange:
    """One exchange."""

    link: Link
    own_vote: KeepVote  # whether this end wants to keep the link
    since: float
    peer_vote: KeepVote | None = None  # whether the peer wants to keep it; None if not said yet
    went_on: float = -inf  # when it last led to something
    _progress: tuple[object, ...] = ()

    def goes_on(self, now: float) -> bool:
        """Whether it leads to something: a frontier, records, new messages, answers, or a slow frame."""
        link = self.link
        frontier, records = len(link.frontier.snapshot), len(link.presence)
        messages = link.repair.last_batch_at, link.push.answered
        progress = (frontier, link.frontier_received, records, self.peer_vote, messages)
        if progress != self._progress or _is_moving(link, now):
            self._progress, self.went_on = progress, now
        return now < self.went_on + _NOTHING + (0 if link.outgoing else _GRACE)


@dataclass(eq=False)
class Exchange:
    """The exchanges of a node: those that it dials, and those that other nodes dial."""

    _config: MeshConfig
    _links: Links
    _roster: Roster
    _randomness: Randomness
    _effects: Effects
    _dials: DialLimit
    _dial: Dial
    _open: dict[Link, OpenExchange] = field(default_factory=dict)
    _remembered: OrderedDict[bytes, Contact] = field(default_factory=OrderedDict)  # by id, the latest last
    _helped: dict[StreamId, float] = field(default_factory=dict)  # when neighbours were asked for a run
    _sought: frozenset[bytes] = frozenset()  # the authors of messages that no neighbour has
    _next_draw: float | None = None

    def __post_init__(self) -> None:
        self._helpers = Helpers(
            self._config, self._links, self._roster, self._randomness, self._dials, self._dial
        )

    def remember(self, contact: Contact) -> None:
        """Remember a node with which this one is or was linked, and forget the oldest of too many."""
        self._remembered[contact.id] = contact
        self._remembered.move_to_end(contact.id)
        if len(self._remembered) > self._config.remembered_contacts:
            self._remembered.popitem(last=False)

    def opened(self, link: Link, vote: KeepVote, now: float) -> bool:
        """Take in a new exchange; False if it must be refused since there are too many."""
        if not link.outgoing and not self._has_room(link, now):
            return False
        self._open[link] = OpenExchange(link, vote, now)
        if link.outgoing:
            self._helpers.opened(link, now)
        return True

    def _has_room(self, link: Link, now: float) -> bool:
        """Whether *link*, which another node dialled, may be an exchange; another may end for it.

        That is one of a site that has more, or the oldest if it has lasted too long: its peer may be slow
        on purpose.
        """
        incoming = [one for one in self._open.values() if not one.link.outgoing]
        of_site = Counter(site_of(one.link.host) for one in incoming)
        site = site_of(link.host)
        if site and counted_site(link.host) is not None and of_site[site] >= self._config.exchanges_of_site:
            return False
        if len(incoming) < self._config.exchanges_limit:
            return True
        ((most, count),) = of_site.most_common(1)
        ends = incoming[0]
        if count > of_site[site] + 1:
            ends = next(one for one in incoming if site_of(one.link.host) == most)
        elif now - ends.since < self._config.exchange_timeout + _GRACE:
            return False
        self._end(ends, "others wait for its place")
        return True

    def roster_received(self, link: Link, vote: int, now: float) -> bool:
        """Take in the *vote* that ends the peer's roster; return whether both ends keep the link."""
        if (exchange := self._open.get(link)) is None:
            return False
        self._helpers.roster_received(link, now)
        exchange.peer_vote = KeepVote(vote)
        both = (exchange.own_vote, exchange.peer_vote)
        if KeepVote.NEVER in both or KeepVote.WANTED not in both:
            return False
        del self._open[link]
        return True

    def closed(self, link: Link) -> None:
        """Take in that a link is gone."""
        self._open.pop(link, None)
        self._helpers.closed(link)

    def help(self, runs: Sequence[StreamId], now: float) -> list[StreamId]:
        """Look beyond the neighbours for messages of *runs*, for which no neighbour is being asked.

        :return: the runs for which all neighbours are to be asked now.  A run is returned twice per
            ``gap_patience``, and only so many at a time.  The authors take turns, since one author can
            begin thousands of runs with holes.
        """
        patience = self._config.gap_patience / ROUNDS
        self._helped = {run: at for run, at in self._helped.items() if at + patience > now}
        fresh = _in_turn([run for run in runs if run not in self._helped])[:PULLED_MOST]
        self._helped |= dict.fromkeys(fresh, now)
        self._sought = frozenset(origin for origin, _ in runs)
        return fresh

    def _is_linked(self, author: Author) -> bool:
        origin = author.presence.origin
        return self._links.is_neighbour(origin) or any(
            link.peer.origin == origin for link in self._links.exchanges
        )

    def tick(self, now: float) -> float:
        """Begin and end exchanges that are due; return when to call this again."""
        if self._next_draw is None:
            self._next_draw = now + self._wait()
        elif now >= self._next_draw:
            self._next_draw = now + self._wait()
            if (drawn := self._draw(now)) is not None:
                self._dial(drawn, Purpose.EXCHANGE, now)
        for exchange in list(self._open.values()):
            self._look_at(exchange, now)
        if self._sought:
            self._helpers.ask(self._sought, now)
        return min(self._next_draw, now + _LOOK) if self._open or self._sought else self._next_draw

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "exchanges": len(self._open),
            "remembered_contacts": len(self._remembered),
            "helped_runs": len(self._helped),
            "sought_authors": len(self._sought),
            **self._helpers.footprint(),
        }

    def _wait(self) -> float:
        return self._config.exchange_interval * (0.75 + self._randomness.random() / 2)

    def _draw(self, now: float) -> Contact | None:
        """Draw a node that is no neighbour: first a site, so that many ids at one site are no advantage."""
        up: dict[bytes, Contact] = {}
        away: dict[bytes, Contact] = {}
        for author in self._roster:
            if author.contact is not None and not self._is_linked(author):
                (up if author.is_there else away)[author.contact.id] = author.contact
        linked = {link.peer.id for link in (*self._links.fed, *self._links.exchanges)}
        for contact in self._remembered.values():
            if contact.id not in up and contact.id not in linked:
                away.setdefault(contact.id, contact)  # the address in the roster, if there is one, is newer
        first, second = (away, up) if self._randomness.random() < _NOT_UP else (up, away)
        for contacts in (first, second):
            sites: dict[str, list[Contact]] = {}
            for contact in contacts.values():
                if not self._dials.is_barred(contact, now):
                    sites.setdefault(site_of(contact.host), []).append(contact)
            if sites:
                return self._randomness.choice(sites[self._randomness.choice(list(sites))])
        return None

    def _look_at(self, exchange: OpenExchange, now: float) -> None:
        config, link = self._config, exchange.link
        since, longest = now - exchange.since, config.exchange_timeout
        if _is_moving(link, now):
            longest = config.gap_longest  # a slow line gets all the time it may need
        if since >= longest + (0 if link.outgoing else _GRACE):
            self._end(exchange, "the exchange took too long")
            return
        if not exchange.goes_on(now):
            self._end(exchange, "the exchange leads to nothing")
            return
        has_all = link.frontier_received and exchange.peer_vote is not None
        if link.outgoing and has_all and self._is_idle(link, now):
            self._end(exchange, "both have told what they have")

    def _is_idle(self, link: Link, now: float) -> bool:
        busy = link.repair.pulls or link.push.wants or link.flow.queued
        return not busy and now - link.last_frame_at >= self._config.exchange_idle

    def _end(self, exchange: OpenExchange, why: str) -> None:
        del self._open[exchange.link]
        self._effects.end(exchange.link, Reason.DONE, why)


def _is_moving(link: Link, now: float) -> bool:
    """Whether many bytes are on their way over *link*, whose line is slow."""
    return link.repair.is_slowed(now) or (link.flow.meter.is_waiting and link.flow.unread > FLOOR)


def _in_turn(runs: Sequence[StreamId]) -> list[StreamId]:
    """*runs* with the authors in turn: the first run of each, then the second of each, and so on."""
    of_author: dict[bytes, int] = {}
    rounds = []
    for run in runs:
        rounds.append(of_author.get(run[0], 0))
        of_author[run[0]] = rounds[-1] + 1
    return [run for _, run in sorted(zip(rounds, runs, strict=True), key=itemgetter(0))]
