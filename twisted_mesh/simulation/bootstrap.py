"""Dials a simulated member's configured peers, and the nodes of its address book if it has no link left.

Contract: :class:`Peers` does what :mod:`twisted_mesh.links.peers` and :mod:`twisted_mesh.links.rejoin` do
for a real node.  Configured peers are dialled to join, with back-off and for ever.  If a peer had no room,
it has handed the member on to other nodes; while the member has links, it dials that peer for exchanges
only, at long intervals.  The address book has the nodes that were linked with the member before a crash.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

from twisted_mesh.core import events
from twisted_mesh.errors import Reason
from twisted_mesh.simulation.member import Member, Surroundings
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import Contact, Purpose


class _Target:
    """A configured peer.

    :ivar failures: failed attempts in a row.
    :ivar handed_on: whether the peer had no room, and handed this node on to other nodes.
    :ivar serial: the number of the newest attempt; older ones are ignored.
    """

    __slots__ = ("address", "failures", "handed_on", "serial")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.failures = 0
        self.handed_on = False
        self.serial = 0


class Peers:
    """The configured peers and the address book of one member."""

    def __init__(self, world: Surroundings, member: Member, addresses: Iterable[Address]) -> None:
        self._world = world
        self._member = member
        self._targets = [_Target(address) for address in addresses]
        self._book: OrderedDict[bytes, Contact] = OrderedDict()  # by id, the newest last
        self._left: list[Contact] = []  # not tried yet in this round through the book
        self._rounds = 0
        self._seeks = 0

    def started(self) -> None:
        """A run of the member has begun."""
        if self._book:
            self._member.handle(events.Known(tuple(self._book.values())))
        for target in self._targets:
            target.failures = 0
            target.handed_on = False
            self._attempt(target)
        self._isolated()

    def linked(self, other: Member) -> None:
        """The node *other* is in the routing table: note its address."""
        self._seeks += 1  # so that no further node of the book is dialled
        for target in self._targets:
            if target.address == other.address:
                target.failures = 0
        if other.address is not None:
            self._book[other.id] = Contact(other.id, *other.address)
            self._book.move_to_end(other.id)
            if len(self._book) > self._world.config.address_book_limit:
                self._book.popitem(last=False)

    def ended(self, other: Member, reason: Reason) -> None:
        """A connection to *other* has ended: dial it again if it is a configured peer."""
        table = self._member.table
        for target in self._targets:
            if target.address == other.address and other.id not in table:
                target.handed_on |= reason is Reason.ROOM
                self._again(target)
        if not table:
            self._isolated()

    def _again(self, target: _Target) -> None:
        target.serial += 1
        if target.handed_on and self._member.table:
            wait = self._world.config.peer_interval
        else:
            wait = self._pause(target.failures)
        self._later(wait, partial(self._attempt_if, target, target.serial))

    def _attempt_if(self, target: _Target, serial: int) -> None:
        if target.serial == serial:
            self._attempt(target)

    def _attempt(self, target: _Target) -> None:
        member = self._member
        target.serial += 1
        if any(member.links[number].other(member).address == target.address for number in self._ways()):
            return
        is_exchange = target.handed_on and member.table
        purpose = Purpose.EXCHANGE if is_exchange else Purpose.JOIN
        self._world.call(
            member, target.address, None, purpose, partial(self._failed, target, target.serial)
        )

    def _ways(self) -> Iterable[int]:
        return [number for number in self._member.table.values() if number in self._member.links]

    def _failed(self, target: _Target, serial: int) -> None:
        if target.serial == serial:
            target.failures += 1
            self._again(target)

    def _isolated(self) -> None:
        """No link is left: dial all configured peers to join, and soon the nodes of the book."""
        for target in self._targets:
            if target.handed_on:
                target.handed_on = False
                self._again(target)
        self._left = []
        self._rounds = 0
        self._seek_in(self._world.config.isolated_after)

    def _seek_in(self, seconds: float) -> None:
        self._seeks += 1
        self._later(seconds, partial(self._seek, self._seeks))

    def _seek(self, seeks: int) -> None:
        if seeks != self._seeks:
            return
        if not self._left:
            self._left = list(self._book.values())
            self._rounds += 1
        if not self._left:
            return
        contact = self._left.pop()
        where = (contact.host, contact.port)
        self._world.call(self._member, where, contact.id, Purpose.JOIN, partial(self._not_there, seeks))

    def _not_there(self, seeks: int) -> None:
        if seeks == self._seeks:
            self._seek_in(0.0 if self._left else self._pause(self._rounds))

    def _pause(self, failures: int) -> float:
        config = self._world.config
        grown: float = config.redial_initial * config.redial_factor ** min(failures, 100)
        return min(grown, config.redial_longest) + self._world.random.random()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        member, core, world = self._member, self._member.core, self._world

        def due() -> None:
            if member.core is core:
                call()

        world.at(world.now + seconds, due)


def bootstrap(world: Surroundings, members: Iterable[Member], *contacts: Member) -> None:
    """Configure *contacts* as the peers of each of *members*, from its next run on."""
    for member in members:
        addresses = [contact.address for contact in contacts if contact is not member and contact.address]
        member.caller = Peers(world, member, addresses)
