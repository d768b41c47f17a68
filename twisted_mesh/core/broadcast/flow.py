"""How far own messages have come with what left the core.

Contract: an own message is *taken* once some neighbour announced
it, or does not leave and the transport of its link accepted the bytes: these may still be lost with the
link, so what is known to have come is told apart, by :attr:`Flow.unread`.  Beyond ``unsent_bytes`` that
nobody has taken the application is refused room, and told when there is some again.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.link import READ_ALL, READ_OWN, READ_SNAPSHOT, READ_SO_FAR, RTT_MOST, Link
from twisted_mesh.core.links import Links
from twisted_mesh.errors import NO_FAULT, Reason
from twisted_mesh.wire.link import Ping, Pong


class Flow:
    """The way out of one run.

    :ivar congested: whether somebody was refused room and waits for Drained.
    """

    def __init__(self, config: MeshConfig, outbox: Outbox, links: Links, effects: Effects) -> None:
        self._limit = config.unsent_bytes
        self._outbox = outbox
        self._links = links
        self._effects = effects
        # The links that leave() has asked, and the last own message that was given to each.
        self._farewells: dict[Link, int] = {}
        self.congested = False

    def room_for(self, size: int) -> bool:
        """Whether *size* more bytes of own messages fit beside those no neighbour took."""
        if self._outbox.unsent_bytes + size <= self._limit:
            return True
        self.congested = True  # from now on the outside waits for Drained
        return False

    def accepted(self, link: Link, size: int) -> None:
        """The transport of *link* has taken *size* bytes in all."""
        flow = link.flow
        flow.accepted = size
        while flow.own_marks and flow.own_marks[0][0] <= size:
            last = flow.own_marks.popleft()[1]
            if not flow.peer_leaves:
                self.taken(last)

    def announced(self, sequence: int) -> None:
        """A neighbour says that it has own messages up to *sequence*."""
        self._outbox.confirm(1, sequence)
        self.taken(sequence)

    def taken(self, sequence: int) -> None:
        """A neighbour took own messages up to *sequence*."""
        self._outbox.accepted(sequence)
        if self.congested and self._outbox.unsent_bytes < self._limit / 2:
            self.congested = False
            self._effects.emit(events.Drained())

    def check(self) -> None:
        """Have the neighbours say when they have read the own messages they were given."""
        self._check(self._links.fed)

    def _check(self, asked: Iterable[Link]) -> None:
        run, known = self._outbox.run, self._outbox.confirmed
        links = [link for link in asked if not link.flow.checked and link.frontier.holds(run) > known]
        for link in links:
            link.flow.checked = link.frontier.holds(run)
        self._effects.send(links, Ping(READ_OWN))

    def pinged(self, link: Link, token: int) -> None:
        """The peer has sent a PING with that *token*."""
        link.flow.peer_leaves |= token == READ_ALL
        if not link.closing:
            if link.flow.peer_leaves:  # before it has our answer, with which it may go
                self._check((link,))
            self._effects.send((link,), Pong(token))

    def answered(self, link: Link, token: int, now: float) -> None:
        """The peer has read everything up to the PING with that *token*."""
        flow = link.flow
        if token == READ_OWN:
            self._outbox.confirm(1, flow.checked)
            flow.checked = 0
        elif token == READ_ALL:
            self._outbox.confirm(1, self._farewells.get(link, 0))
            flow.farewell_due = False
        elif token == READ_SO_FAR:
            flow.meter.has_read(now)
        elif token == READ_SNAPSHOT and not flow.rtt:
            flow.rtt = min(now - link.opened_at, RTT_MOST)
            flow.meter.has_read(now)
            link.frontier.bases = None

    def leave(self) -> None:
        """Have every neighbour say when it knows that this node leaves.

        What it had sent by then has come and gone on before it says so.
        """
        links = [link for link in self._links.fed if link.up]
        for link in links:
            link.flow.farewell_due = True
            self._farewells[link] = link.frontier.holds(self._outbox.run)
        self._effects.send(links, Ping(READ_ALL))

    def ended(self, link: Link, reason: Reason) -> None:
        """*link* is fed no more: who says goodbye first need not answer."""
        if link.flow.farewell_due and reason in NO_FAULT:
            del self._farewells[link]

    @property
    def unanswered(self) -> int:
        """How many of those that :meth:`leave` asked have neither answered nor said goodbye."""
        return sum(link.flow.farewell_due for link in self._farewells)

    @property
    def unread(self) -> int:
        """How many own messages were taken, and are not known to have been read by anybody."""
        return max(0, self._outbox.taken - self._outbox.confirmed)

    def has_left(self) -> bool:
        """Whether every neighbour that was asked has said so, and has all that it asked for, or is gone."""
        return not any(link.flow.farewell_due or link.push.wants for link in self._links.fed)

    def is_given_to_all(self) -> bool:
        """Whether some neighbour took every own message, and each that gets them from here was given all.

        Who leaves does not count: where nobody else is there, there is nobody to wait for.
        """
        staying = [link for link in self._links.fed if link.up and not link.flow.peer_leaves]
        some_took_all = self._outbox.taken >= self._outbox.head
        return not staying or (some_took_all and not any(map(self._is_owed, staying)))

    def _is_owed(self, link: Link) -> bool:
        """Whether own messages are on their way to the peer, or about to be.

        Of a peer that holds less, as far as is known, and asks for nothing, they may have come another way.
        """
        run = self._outbox.run
        if run[0] in link.push.lazy_by_peer or link.flow.own_marks:
            return bool(link.flow.own_marks)
        lacks = link.frontier.holds(run) < self._outbox.head
        return lacks and bool(link.push.wants or link.push.owed or link.flow.queued)
