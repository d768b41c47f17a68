"""How far own messages have come: accepted by a transport, held by a neighbour, or read by a neighbour.

Contract: an own message is *accepted* once a neighbour announced it with the hash of its header, or once
the transport of a link accepted its bytes, unless the peer is about to stop.  Bytes that a transport
accepted can still be lost.
:attr:`Outflow.unread` counts the messages that no neighbour is known to have.  If more than
``unsent_bytes`` are not accepted, or the queues of all neighbours are full, the application is refused
room, and gets Drained when there is room again.
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


class Outflow:
    """The own messages on their way out of this node.

    :ivar congested: whether the application was refused room and waits for Drained.
    """

    def __init__(self, config: MeshConfig, outbox: Outbox, links: Links, effects: Effects) -> None:
        self._limit = config.unsent_bytes
        self._queue_limit = config.link_queue_bytes
        self._outbox, self._links, self._effects = outbox, links, effects
        # The links that leave() has asked, and the last own message that was sent over each.
        self._farewells: dict[Link, int] = {}
        self.congested = False

    @property
    def room(self) -> int:
        """How many more bytes of own messages fit; only the calls for an event change that.

        They must fit into the queue of some link, too.  If all queues are full, messages are announced and
        pulled later, and that takes longer than to wait.  If a queue is empty, a message of any size fits.
        """
        room, queued = self._limit - self._outbox.unsent_bytes, self._queued()
        return min(room, self._queue_limit - queued) if queued else room

    def room_for(self, size: int) -> bool:
        """Whether *size* more bytes of own messages fit; if not, Drained follows once there is room."""
        if size <= self.room:
            return True
        self.congested = True
        return False

    def _queued(self) -> int:
        """The bytes in the emptiest queue of the links over which own messages are pushed.

        It is 0 once all own messages are accepted.  Else a peer, if they are pushed to it alone, could keep
        its queue full for ever with the messages it asks for, and the application would wait as long.
        """
        if not self._outbox.unsent_bytes:
            return 0
        own = self._outbox.run[0]
        flows = [link.flow for link in self._links.fed if own not in link.push.lazy_by_peer]
        return min([flow.queued for flow in flows if not flow.peer_leaves], default=0)

    def _look_for_room(self) -> None:
        """Tell the application, if it waits, that there is room again."""
        if (
            self.congested
            and self._outbox.unsent_bytes < self._limit / 2
            and self._queued() < self._queue_limit / 2
        ):
            self.congested = False
            self._effects.emit(events.Drained())

    def accepted(self, link: Link, size: int) -> None:
        """Note that the transport of *link* has accepted *size* bytes since the link opened."""
        flow = link.flow
        flow.accepted = size
        while flow.own_marks and flow.own_marks[0][0] <= size:
            last = flow.own_marks.popleft()[1]
            if not flow.peer_leaves:
                self._outbox.accept(last)
        self._look_for_room()

    def announced(self, sequence: int, hash: bytes) -> None:
        """Take in that a neighbour says, unsigned, that it has own messages up to *sequence*.

        :param hash: of the header there, as the neighbour says; if it is another, the claim counts nothing.
        """
        if self._outbox.is_hash(sequence, hash):
            self._outbox.confirm(1, sequence)
            self._outbox.accept(sequence)
            self._look_for_room()

    def check(self) -> None:
        """Have the neighbours say when they have read the own messages that were sent to them."""
        self._check(self._links.fed)

    def _check(self, asked: Iterable[Link]) -> None:
        run, known = self._outbox.run, self._outbox.confirmed
        links = [link for link in asked if not link.flow.checked and link.frontier.holds(run) > known]
        for link in links:
            link.flow.checked = link.frontier.holds(run)
        self._effects.send(links, Ping(READ_OWN))

    def pinged(self, link: Link, token: int) -> None:
        """Answer a PING with that *token*."""
        if not link.closing:
            if link.flow.peer_leaves:  # ask before the answer: the peer may go when it has that
                self._check((link,))
            self._effects.send((link,), Pong(token))

    def answered(self, link: Link, token: int, now: float) -> None:
        """Note that the peer has read everything up to the PING with that *token*."""
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
        """Tell every neighbour that this node leaves; each answers once it has read all earlier frames."""
        links = [link for link in self._links.fed if link.up]
        for link in links:
            link.flow.farewell_due = True
            self._farewells[link] = link.frontier.holds(self._outbox.run)
        self._effects.send(links, Ping(READ_ALL))

    def ended(self, link: Link, reason: Reason) -> None:
        """Note that *link* is fed no more: if the peer left, it need not answer."""
        if link.flow.farewell_due and reason in NO_FAULT:
            del self._farewells[link]
        self._look_for_room()

    @property
    def unanswered(self) -> int:
        """The number of neighbours that :meth:`leave` told and that have neither answered nor gone."""
        return sum(link.flow.farewell_due for link in self._farewells)

    @property
    def unread(self) -> int:
        """The number of own messages that are accepted, and that no neighbour is known to have read."""
        return max(0, self._outbox.accepted - self._outbox.confirmed)

    def has_left(self) -> bool:
        """Whether every neighbour has answered :meth:`leave`, and got all that it asked for, or is gone."""
        return not any(link.flow.farewell_due or link.push.wants for link in self._links.fed)

    def is_given_to_all(self) -> bool:
        """Whether all own messages are accepted, and sent to each neighbour that gets them from here.

        Neighbours that leave do not count.
        """
        staying = [link for link in self._links.fed if link.up and not link.flow.peer_leaves]
        all_accepted = self._outbox.accepted >= self._outbox.head
        return not staying or (all_accepted and not any(map(self._is_owed, staying)))

    def _is_owed(self, link: Link) -> bool:
        """Whether own messages are on their way to the peer, or about to be.

        If a peer seems to lack messages, but asks for none, it may have got them over another link.
        """
        run = self._outbox.run
        if run[0] in link.push.lazy_by_peer or link.flow.own_marks:
            return bool(link.flow.own_marks)
        lacks = link.frontier.holds(run) < self._outbox.head
        return lacks and bool(link.push.wants or link.push.owed or link.flow.queued)
