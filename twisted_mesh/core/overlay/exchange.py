"""The exchange: a link now and then with a node that is no neighbour, so that no island stays one.

Contract: every ``exchange_interval`` one node is drawn that is no neighbour, of the roster in whatever
state and of those this node was linked with once; one draw in three is of those that are not up.  On the
link both ends tell their rosters and compare what they hold, what is missing is pulled, and who dialled
ends it when nothing has come for ``exchange_idle``.  Where either end's roster did not have the other as
up, the two may be of two islands: then the link becomes one between neighbours.

What no neighbour holds is looked for in the same way, at once: at its author first, then at those who say
that they hold things longest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from operator import itemgetter
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.repair import PULLED_MOST, Repair
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.link import Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.roster import Entry, Roster
from twisted_mesh.core.meter import FLOOR
from twisted_mesh.core.overlay.views import Dial, Randomness
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import Contact, KeepVote, Purpose

_NOT_UP: Final = 1 / 3  # of the draws are of those that are not up (docs/protocol.rst)
_LOOK: Final = 1.0  # seconds from one look at open exchanges to the next (guess)
_ROUNDS: Final = 2  # of looking in a gap's patience: who got it meanwhile does not always claim it (guess)
_GRACE: Final = 5.0  # seconds more than the dialler has, before the other end ends it (guess)


class OpenExchange:
    """One exchange.

    :ivar own_vote: what this end thinks of keeping the link, :ivar peer_vote: what the other end thinks;
        None until it has said so.
    """

    __slots__ = ("link", "own_vote", "peer_vote", "since")

    def __init__(self, link: Link, own_vote: KeepVote, now: float) -> None:
        self.link = link
        self.own_vote = own_vote
        self.peer_vote: KeepVote | None = None
        self.since = now


class Exchange:
    """The exchanges of a node, those it dials and those it gets."""

    def __init__(
        self,
        config: MeshConfig,
        links: Links,
        roster: Roster,
        repair: Repair,
        randomness: Randomness,
        effects: Effects,
        dial: Dial,
    ) -> None:
        """:param dial: False where that cannot be now."""
        self._config = config
        self._links = links
        self._roster = roster
        self._repair = repair
        self._randomness = randomness
        self._dial = dial
        self._effects = effects
        self._open: dict[Link, OpenExchange] = {}
        self._remembered: OrderedDict[bytes, Contact] = OrderedDict()  # by id, the latest last
        self._helped: dict[StreamId, float] = {}  # when others were asked for what is missing of it
        self._wanted: dict[bytes, tuple[Contact, float]] = {}  # to be dialled, until when
        self._next_draw: float | None = None

    def remember(self, contact: Contact) -> None:
        """A node this one is linked with, or was; of too many the oldest is forgotten."""
        self._remembered[contact.id] = contact
        self._remembered.move_to_end(contact.id)
        if len(self._remembered) > self._config.remembered_contacts:
            self._remembered.popitem(last=False)

    def opened(self, link: Link, vote: KeepVote, now: float) -> bool:
        """An exchange has begun; False: there are too many, it is to be refused.

        The first that a slow line kept beyond its time gives its place up: it may be dripped.
        """
        incoming = [one for one in self._open.values() if not one.link.outgoing]
        if not link.outgoing and len(incoming) >= self._config.exchanges_limit:
            oldest = incoming[0]
            if now - oldest.since < self._config.exchange_timeout + _GRACE:
                return False
            self._end(oldest, "others wait for its place")
        self._open[link] = OpenExchange(link, vote, now)
        return True

    def roster_received(self, link: Link, vote: int) -> bool:
        """The peer's roster has come, and its *vote*; whether the link is kept between neighbours."""
        if (exchange := self._open.get(link)) is None:
            return False
        exchange.peer_vote = KeepVote(vote)
        both = (exchange.own_vote, exchange.peer_vote)
        if KeepVote.NEVER in both or KeepVote.WANTED not in both:
            return False
        del self._open[link]
        return True

    def closed(self, link: Link) -> None:
        """A link is gone."""
        self._open.pop(link, None)

    def help(self, runs: Iterable[StreamId], now: float) -> list[StreamId]:
        """Something is missing of *runs* that no neighbour is being asked for: look further.

        :return: those for which that begins now, so many at a time, their authors in turn: one author can
            begin runs with holes by the thousand.  It does twice in a gap's patience.
        """
        patience = self._config.gap_patience / _ROUNDS
        self._helped = {run: at for run, at in self._helped.items() if at + patience > now}
        fresh = _in_turn([run for run in runs if run not in self._helped])[:PULLED_MOST]
        # Drawn up once: one author can begin runs with holes by the thousand, in as many small frames.
        keepers = self._keepers() if fresh else []
        for run in fresh:
            self._helped[run] = now
            for contact in self._helpers(run[0], keepers):
                self._wanted[contact.id] = contact, now + patience
        self._dial_wanted(now)
        return fresh

    def _dial_wanted(self, now: float) -> None:
        """Dial those to exchange with, as far as may be now."""
        for node_id, (contact, until) in list(self._wanted.items()):
            if until <= now or self._dial(contact, Purpose.EXCHANGE, now):
                del self._wanted[node_id]

    def _keepers(self) -> list[Entry]:
        """Who says that it holds things longest, of those that can be dialled; one more than are asked."""
        keepers = [entry for entry in self._roster if entry.is_there and self._can_be_dialled(entry)]
        # One of them can be the author.
        return nsmallest(self._config.gap_members + 1, keepers, lambda entry: -entry.presence.retention)

    def _helpers(self, author: bytes, keepers: list[Entry]) -> list[Contact]:
        mine = self._roster.get(author)
        entries = [entry for entry in keepers if entry is not mine]
        if mine is not None and self._can_be_dialled(mine):
            entries.insert(0, mine)
        contacts = [entry.contact for entry in entries[: self._config.gap_members]]
        return [contact for contact in contacts if contact is not None]

    def _can_be_dialled(self, entry: Entry) -> bool:
        return entry.contact is not None and not self._is_linked(entry)

    def _is_linked(self, entry: Entry) -> bool:
        origin = entry.presence.origin
        return self._links.is_neighbour(origin) or any(
            link.peer.origin == origin for link in self._links.exchanges
        )

    def tick(self, now: float) -> float:
        """Draw a node to dial, if it is time, and end exchanges that are over; when to look again."""
        if self._next_draw is None:
            self._next_draw = now + self._wait()
        elif now >= self._next_draw:
            self._next_draw = now + self._wait()
            if (drawn := self._draw()) is not None:
                self._dial(drawn, Purpose.EXCHANGE, now)
        for exchange in list(self._open.values()):
            self._look_at(exchange, now)
        self._dial_wanted(now)
        return min(self._next_draw, now + _LOOK) if self._open or self._wanted else self._next_draw

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "exchanges": len(self._open),
            "remembered_contacts": len(self._remembered),
            "helped_runs": len(self._helped),
            "exchanges_wanted": len(self._wanted),
        }

    def _wait(self) -> float:
        return self._config.exchange_interval * (0.75 + self._randomness.random() / 2)

    def _draw(self) -> Contact | None:
        """A node that is no neighbour."""
        up: dict[bytes, Contact] = {}
        away: dict[bytes, Contact] = {}
        for entry in self._roster:
            if entry.contact is not None and not self._is_linked(entry):
                (up if entry.is_there else away)[entry.contact.id] = entry.contact
        linked = {link.peer.id for link in (*self._links.fed, *self._links.exchanges)}
        for contact in self._remembered.values():
            if contact.id not in up and contact.id not in linked:
                away.setdefault(contact.id, contact)  # what the roster has is its newest word
        first, second = (away, up) if self._randomness.random() < _NOT_UP else (up, away)
        drawn = list((first or second).values())
        return self._randomness.choice(drawn) if drawn else None

    def _look_at(self, exchange: OpenExchange, now: float) -> None:
        config, link = self._config, exchange.link
        since, longest = now - exchange.since, config.exchange_timeout
        if _is_moving(link, now):
            longest = config.gap_longest  # what others hold takes as long as the line takes
        if since >= longest + (0 if link.outgoing else _GRACE):
            self._end(exchange, "the exchange took too long")
            return
        has_all = link.frontier_received and exchange.peer_vote is not None
        if link.outgoing and has_all and self._is_idle(link, now):
            self._end(exchange, "both have told what they have")

    def _is_idle(self, link: Link, now: float) -> bool:
        busy = self._repair.asks(link.number) or link.push.wants or link.flow.queued
        return not busy and now - link.last_frame_at >= self._config.exchange_idle

    def _end(self, exchange: OpenExchange, why: str) -> None:
        del self._open[exchange.link]
        self._effects.end(exchange.link, Reason.DONE, why)


def _is_moving(link: Link, now: float) -> bool:
    """Whether more is on its way over *link* than a fast line takes in a moment."""
    return link.repair.is_slowed(now) or (link.flow.meter.is_waiting and link.flow.unread > FLOOR)


def _in_turn(runs: Sequence[StreamId]) -> list[StreamId]:
    """One run of each author, then the next of each, and so on."""
    of_author: dict[bytes, int] = {}
    rounds = []
    for run in runs:
        rounds.append(of_author.get(run[0], 0))
        of_author[run[0]] = rounds[-1] + 1
    return [run for _, run in sorted(zip(rounds, runs, strict=True), key=itemgetter(0))]
