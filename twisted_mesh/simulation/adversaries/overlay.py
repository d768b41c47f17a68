"""Members that lie to the overlay: about the addresses of nodes, or to be a node's only neighbours.

Contract: each is an :class:`~twisted_mesh.simulation.adversaries.adversary.Adversary`.  Even so, honest
members must find each other, and all messages are delivered.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from twisted_mesh.core import events
from twisted_mesh.identity import id_of
from twisted_mesh.simulation.adversaries.adversary import Adversary
from twisted_mesh.simulation.adversaries.identities import Minter
from twisted_mesh.simulation.member import Member, Surroundings
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.wire.broadcast import (
    Digest,
    Have,
    SignedBatch,
    Snapshot,
)
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import (
    MAX_CONTACTS,
    Contact,
    ForwardJoin,
    Presence,
    Purpose,
    Shuffle,
    ShuffleReply,
)
from twisted_mesh.wire.membership import Roster as RosterFrame
from twisted_mesh.wire.signed import SignedRecord

_UNBELIEVABLE = ("127.0.0.1", "localhost", "169.254.7.7", "::1", "fe80::1", "0.0.0.0", "127.1", "224.0.0.1")


class Misleader(Minter):
    """Tells false addresses in every frame that has addresses.

    :cvar victim: the host of all false addresses; None: random hosts, and some that must not be dialled.
    """

    pace = 1.0
    each_time = 2
    is_silent = True
    victim: str | None = None

    def act(self) -> None:
        """Send walks, a SHUFFLE and records of minted authors, all with false addresses."""
        if not self.node.membership.joined:
            return
        random = self.world.random
        for _ in range(self.each_time):
            origin, sign = self.mint()
            self.put(self.record(self.presence(origin, self.somewhere()), sign))
        self.put(ForwardJoin(self.somebody(), random.randrange(7), False))
        self.put(ForwardJoin(self.somebody(), 0, True))
        self.put(Shuffle(random.randrange(2**53), self.some(), 1))

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Answer each SHUFFLE with false addresses."""
        if isinstance(frame, ShuffleReply):
            frame = ShuffleReply(frame.token, self.some())
        super().transmit(number, frame, size)

    def somewhere(self) -> Address:
        """A false address."""
        random = self.world.random
        port = random.randrange(1, 65536)
        if self.victim is not None:
            return self.victim, port
        rubbish = f"10.250.{random.randrange(256)}.{random.randrange(256)}"
        return random.choice((*_UNBELIEVABLE, rubbish, f"no-{random.randrange(10**9)}.invalid")), port

    def somebody(self) -> Contact:
        """A minted node at a false address."""
        origin, _ = self.mint()
        return Contact(id_of(origin), *self.somewhere())

    def some(self) -> list[Contact]:
        """As many such contacts as a frame can hold."""
        return [self.somebody() for _ in range(MAX_CONTACTS)]


class Encircler(Adversary):
    """Tries, with the other Encirclers, to be the only neighbours and contacts of honest nodes.

    :ivar band: all Encirclers.
    """

    pace = 1.0
    begins = 0.0
    band: list[Member]

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.band = []
        self._rung: dict[bytes, float] = {}

    def handle(self, event: events.Event) -> None:
        """Let all Encirclers dial each node that *event* names."""
        if isinstance(event, events.Received):
            ours = {member.id for member in self.band}
            for contact in self._named(event):
                if contact.id not in ours:
                    for member in self.band:
                        assert isinstance(member, Encircler)
                        member.ring(contact)
            stays = [f for f in event.frames if not (isinstance(f, ForwardJoin) and f.instead)]
            event = events.Received(event.link, stays)
        super().handle(event)

    def ring(self, contact: Contact) -> None:
        """Dial *contact* for an urgent link, at most once a second, unless it is linked."""
        now = self.world.now
        if self.core is None or contact.id in self.table or self._rung.get(contact.id, -1.0) + 1.0 > now:
            return
        self._rung[contact.id] = now
        where = (contact.host, contact.port)
        self.world.call(self, where, contact.id, Purpose.URGENT, lambda: None)

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Name Encirclers alone in shuffles, and pass no walk on."""
        if isinstance(frame, Shuffle | ShuffleReply):
            frame = replace(frame, contacts=self.like())
        if isinstance(frame, ForwardJoin) and not frame.instead:
            return
        super().transmit(number, frame, size)

    def act(self) -> None:
        """Send a SHUFFLE to every neighbour."""
        self.put(Shuffle(self.world.random.randrange(2**53), self.like(), 1))

    def like(self) -> list[Contact]:
        """All Encirclers as contacts."""
        return [Contact(member.id, *member.address) for member in self.band if member.address]

    @staticmethod
    def _named(event: events.Received) -> Iterator[Contact]:
        for frame in event.frames:
            if isinstance(frame, ForwardJoin):
                yield frame.contact
            elif isinstance(frame, Shuffle | ShuffleReply):
                yield from frame.contacts
            elif isinstance(frame, SignedRecord) and isinstance(frame.record, Presence):
                address = frame.record.address
                if address is not None:
                    yield Contact(id_of(frame.record.origin), *address)


class Besieger(Adversary):
    """Is, with its like on the same host, what one node is linked with, and hands on nothing of others.

    :cvar at: the host; :ivar target: the node.
    """

    pace = 1.0
    begins = 0.0
    at = "9.9.9.9"

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.host = self.at
        self.address = self.at, 4444 + number
        self.target: Member | None = None

    def handle(self, event: events.Event) -> None:
        """Never go when asked."""
        if isinstance(event, events.Received):
            stays = [f for f in event.frames if not (isinstance(f, ForwardJoin) and f.instead)]
            event = events.Received(event.link, stays)
        super().handle(event)

    def act(self) -> None:
        """Dial the node, urgently, if there is no link."""
        target = self.target
        if target is not None and target.address is not None and target.id not in self.table:
            self.world.call(self, target.address, target.id, Purpose.URGENT, lambda: None)

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Send nothing that is another's."""
        if isinstance(frame, SignedBatch | Have | ForwardJoin | Shuffle | ShuffleReply | Digest):
            return
        if isinstance(frame, SignedRecord) and frame.record.signer != self.origin:
            return
        if isinstance(frame, Snapshot):
            frame = Snapshot(frame.last, [])
        if isinstance(frame, RosterFrame):
            frame = RosterFrame(frame.last, [], frame.vote)
        super().transmit(number, frame, size)
