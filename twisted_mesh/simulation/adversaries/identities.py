"""Members that lie about who is there, each in one way.

Contract: an :class:`Adversary` is a :class:`~twisted_mesh.simulation.member.Member` that sends, beside what
its core does, frames of its own making, in its own pace and over every link it has.  The mesh must be as
it was: what is said is delivered, rosters are right, and no table grows over its limit.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from functools import partial

from msgspec.structs import replace

from twisted_mesh.core import events
from twisted_mesh.core.handshake import Sign
from twisted_mesh.core.node import Node
from twisted_mesh.identity import id_of
from twisted_mesh.simulation.member import Member, Surroundings
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import Batch, Snapshot, SnapshotEntry
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import (
    MAX_CONTACTS,
    Contact,
    ForwardJoin,
    Presence,
    PresenceFlags,
    Purpose,
    Role,
    RosterEntry,
    Shuffle,
    ShuffleReply,
    Suspect,
)
from twisted_mesh.wire.membership import Roster as RosterFrame
from twisted_mesh.wire.signed import Record, SignedRecord

_MOST_HEARD = 10_000  # records a replayer keeps
MINTED = "minted"  # the label of made up authors
_BODY = join_entries([pack_entry(0, ["here I am"])])
_UNBELIEVABLE = ("127.0.0.1", "localhost", "169.254.7.7", "::1", "fe80::1", "0.0.0.0", "127.1", "224.0.0.1")


class Adversary(Member):
    """Sends something of its own again and again.

    :cvar pace: seconds between two times; :cvar begins: when it does so first.
    """

    lies = True
    pace = 0.1
    begins = 10.0

    def start(self) -> None:
        """Begin a run."""
        super().start()
        self._again(self.core)

    def _again(self, core: Node | None) -> None:
        if self.core is core is not None:
            if self.world.now >= self.begins:
                self.act()
            self.world.at(self.world.now + self.pace, partial(self._again, core))

    def act(self) -> None:
        """Do what it does."""

    def put(self, frame: AnyFrame) -> None:
        """Send *frame* over every link."""
        for number in list(self.links):
            self.put_to(number, frame)

    def put_to(self, number: int, frame: AnyFrame) -> None:
        """Send *frame* over one link."""
        Member.transmit(self, number, frame, 200)

    def record(self, record: Record, sign: Sign) -> SignedRecord:
        """*record*, signed by *sign*."""
        array = codec.pack(record)
        return SignedRecord(record, sign(codec.signed_text(self.world.digest, array, record.kind)), array)

    def known(self) -> list[Presence]:
        """The newest records of all it knows of."""
        return [entry.presence for entry in self.node.roster]


class Forger(Adversary):
    """Says in the name of others that they stop."""

    pace = 1.0

    def act(self) -> None:
        """One record of one other, with a signature of its own."""
        known = self.known()
        if known:
            presence = self.world.random.choice(known)
            flags = presence.flags | PresenceFlags.LEAVING
            self.put(self.record(replace(presence, counter=presence.counter + 1, flags=flags), self.sign))


class Replayer(Adversary):
    """Says once more what others said earlier, the dead as well, as if it were new."""

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self._heard: deque[SignedRecord] = deque(maxlen=_MOST_HEARD)

    def handle(self, event: events.Event) -> None:
        """Keep every record that comes."""
        if isinstance(event, events.Received):
            for frame in event.frames:
                if isinstance(frame, SignedRecord):
                    self._heard.append(frame)
        super().handle(event)

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """In its roster everybody has just been heard of."""
        if isinstance(frame, RosterFrame):
            heard = {each.record.origin: each for each in self._heard if isinstance(each.record, Presence)}
            entries = [RosterEntry(0, codec.payload(each)) for each in heard.values()]
            frame = RosterFrame(frame.last, entries[:100] or frame.entries, frame.vote)
        super().transmit(number, frame, size)

    def act(self) -> None:
        """Ten of them."""
        for signed in self.world.random.sample(self._heard, min(10, len(self._heard))):
            self.put(signed)


class Accuser(Adversary):
    """Accuses everybody it knows of, as fast as it can."""

    pace = 0.05

    def act(self) -> None:
        """Accuse each of all."""
        for presence in self.known():
            self.put(self.accusation(self.origin, presence, self.sign))

    def accusation(self, accuser: bytes, presence: Presence, sign: Sign) -> SignedRecord:
        """Of the author of *presence*, as it is now."""
        suspect = Suspect(accuser, presence.origin, presence.epoch, presence.counter)
        return self.record(suspect, sign)


class Claimer(Member):
    """Tells every node of which it does not know better that its key has begun another run since."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Have the snapshot name the next run of the peer's key."""
        if isinstance(frame, Snapshot) and number in self.links:
            peer = self.links[number].other(self)
            claim = SnapshotEntry(peer.origin, peer.epoch + 1, 1, 1, 1, b"")
            frame = Snapshot(frame.last, [*frame.streams, claim])
        super().transmit(number, frame, size)


class Minter(Adversary):
    """Makes up authors, one key after the other, and lets each say that it is there.

    :ivar minted: how many so far; :cvar each_time: and how many at a time.
    :cvar most: in all; :cvar interval: that each of them names, in ms.
    :cvar is_silent: whether they send no messages.
    """

    each_time = 10
    most = 10**9
    interval = 30_000
    is_silent = False

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.minted = 0

    def mint(self) -> tuple[bytes, Sign]:
        """A key, and what signs with it."""
        self.minted += 1
        seed = hashlib.sha256(b"minted %d %d %d" % (self.world.seed, self.number, self.minted)).digest()
        origin, sign, _ = self.world.keys(seed)
        return origin, sign

    def presence(self, origin: bytes, address: Address | None = None) -> Presence:
        """What the author *origin* says."""
        sequence = 0 if self.is_silent else 1
        interval = self.interval
        return Presence(origin, 1, 1, sequence, address, Role.MEMBER, MINTED, {}, 0, interval, 0, b"")

    def act(self) -> None:
        """Some more, each with a message."""
        if not self.node.membership.joined:
            return
        for _ in range(min(self.each_time, self.most - self.minted)):
            origin, sign = self.mint()
            self.put(self.record(self.presence(origin), sign))
            batch = Batch(origin, 1, 1, 1, 0, 0, bytes(32))
            self.put(codec.sign_batch(batch, _BODY, self.world.digest, sign))


class Flooder(Minter):
    """Makes up authors, each of which sends one message of some size.

    :cvar size: bytes of each message.
    """

    each_time = 20
    most = 500
    begins = 45.0
    size = 2000

    def act(self) -> None:
        """Some more, without a record."""
        body = join_entries([pack_entry(0, ["x" * self.size])])
        for _ in range(min(self.each_time, self.most - self.minted)):
            origin, sign = self.mint()
            batch = Batch(origin, 1, 1, 1, 0, 0, bytes(32))
            self.put(codec.sign_batch(batch, body, self.world.digest, sign))


class Namer(Minter):
    """Makes up members that are not there: each says so once, or was there long ago by its roster."""

    pace = 1.0
    each_time = 1
    most = 40
    interval = 10_000
    is_silent = True

    def act(self) -> None:
        """One more record."""
        if self.node.membership.joined and self.minted < self.most:
            origin, sign = self.mint()
            self.put(self.record(self.presence(origin), sign))

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Tell of one more, that is gone, in each roster."""
        if isinstance(frame, RosterFrame) and self.minted < self.most:
            origin, sign = self.mint()
            gone = RosterEntry(600_000, codec.payload(self.record(self.presence(origin), sign)))
            frame = RosterFrame(frame.last, [*frame.entries, gone], frame.vote)
        super().transmit(number, frame, size)


class Hoarder(Minter):
    """Makes up members that claim to hold messages for ever, at addresses where no node is."""

    pace = 5.0
    most = 9
    is_silent = True

    def act(self) -> None:
        """Each says once more that it is there."""
        if not self.node.membership.joined:
            return
        self.minted = 0
        counter = int(self.world.now * 1000)
        for number in range(1, self.most + 1):
            origin, sign = self.mint()
            presence = self.presence(origin, (f"10.250.{self.number}.{number}", 4444))
            self.put(self.record(replace(presence, counter=counter, retention=2**40), sign))


class MintedAccusers(Minter, Accuser):
    """Makes up authors, and lets each of them accuse everybody."""

    each_time = 1
    is_silent = True

    def act(self) -> None:
        """One more, and what it has to say."""
        if self.node.membership.joined:
            origin, sign = self.mint()
            known = [presence for presence in self.known() if presence.label != MINTED]
            self.put(self.record(self.presence(origin), sign))
            for presence in known:
                self.put(self.accusation(origin, presence, sign))


class Misleader(Minter):
    """Tells addresses where no node is, in every frame that has addresses.

    :ivar victim: the host it sends everybody to; None: rubbish and hosts nobody may be sent to.
    """

    pace = 1.0
    each_time = 2
    is_silent = True
    victim: str | None = None

    def act(self) -> None:
        """A walk, a shuffle and some authors, all with addresses."""
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
        """Whoever asks is told the same."""
        if isinstance(frame, ShuffleReply):
            frame = ShuffleReply(frame.token, self.some())
        super().transmit(number, frame, size)

    def somewhere(self) -> Address:
        """An address."""
        random = self.world.random
        port = random.randrange(1, 65536)
        if self.victim is not None:
            return self.victim, port
        rubbish = f"10.250.{random.randrange(256)}.{random.randrange(256)}"
        return random.choice((*_UNBELIEVABLE, rubbish, f"no-{random.randrange(10**9)}.invalid")), port

    def somebody(self) -> Contact:
        """A node there."""
        origin, _ = self.mint()
        return Contact(id_of(origin), *self.somewhere())

    def some(self) -> list[Contact]:
        """As many as go into a frame."""
        return [self.somebody() for _ in range(MAX_CONTACTS)]


class Encircler(Adversary):
    """Wants to be, with its like, all that others hear of: dials whoever comes, and names no one else.

    :ivar band: it and its like.
    """

    pace = 1.0
    begins = 0.0
    band: list[Member]

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.band = []
        self._rung: dict[bytes, float] = {}

    def handle(self, event: events.Event) -> None:
        """Dial every node that is named in a frame, with all its like."""
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
        """Dial a node that is not linked with this one, and be urgent about it."""
        now = self.world.now
        if self.core is None or contact.id in self.table or self._rung.get(contact.id, -1.0) + 1.0 > now:
            return
        self._rung[contact.id] = now
        where = (contact.host, contact.port)
        self.world.call(self, where, contact.id, Purpose.URGENT, lambda: None)

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Name nobody but its like, and never go when asked."""
        if isinstance(frame, Shuffle | ShuffleReply):
            frame = replace(frame, contacts=self.like())
        if isinstance(frame, ForwardJoin) and not frame.instead:
            return  # whoever was on a walk is not handed on
        super().transmit(number, frame, size)

    def act(self) -> None:
        """Shuffle with every neighbour."""
        self.put(Shuffle(self.world.random.randrange(2**53), self.like(), 1))

    def like(self) -> list[Contact]:
        """The contacts of all of them."""
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
