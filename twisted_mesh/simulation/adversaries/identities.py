"""Members that lie about which nodes there are, each in one way.

Contract: they must not harm honest members: all messages are delivered, rosters are right, and no table
grows over its limit.  A *minted* author is a key that an adversary made up.
"""

from __future__ import annotations

import hashlib
from collections import deque

from msgspec.structs import replace

from twisted_mesh.core import events
from twisted_mesh.core.handshake import Sign
from twisted_mesh.simulation.adversaries.adversary import Adversary
from twisted_mesh.simulation.keys import stand_in_key
from twisted_mesh.simulation.member import Member, Surroundings
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import (
    Batch,
    Have,
    HaveEntry,
    Snapshot,
    SnapshotEntry,
    Want,
)
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import (
    MAX_INTERVAL,
    Forget,
    Presence,
    PresenceFlags,
    Role,
    RosterEntry,
    Suspect,
)
from twisted_mesh.wire.membership import Roster as RosterFrame
from twisted_mesh.wire.signed import SignedRecord

_MOST_HEARD = 10_000  # records that a Replayer keeps
MINTED = "minted"  # the label of minted authors
_BODY = join_entries([pack_entry(0, ["here I am"])])


class Forger(Adversary):
    """Forges records by which other members stop."""

    pace = 1.0

    def act(self) -> None:
        """Send such a record of one member, signed with the own key."""
        known = self.known()
        if known:
            presence = self.world.random.choice(known)
            flags = presence.flags | PresenceFlags.LEAVING
            self.put(self.record(replace(presence, counter=presence.counter + 1, flags=flags), self.sign))


class Replayer(Adversary):
    """Sends old records of others again, as if they were new, also those of members that are gone."""

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self._heard: deque[SignedRecord] = deque(maxlen=_MOST_HEARD)

    def handle(self, event: events.Event) -> None:
        """Keep all records that come."""
        if isinstance(event, events.Received):
            for frame in event.frames:
                if isinstance(frame, SignedRecord):
                    self._heard.append(frame)
        super().handle(event)

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """In each ROSTER, list all members as heard of just now."""
        if isinstance(frame, RosterFrame):
            heard = {each.record.origin: each for each in self._heard if isinstance(each.record, Presence)}
            entries = [RosterEntry(0, codec.payload(each)) for each in heard.values()]
            frame = RosterFrame(frame.last, entries[:100] or frame.entries, frame.vote)
        super().transmit(number, frame, size)

    def act(self) -> None:
        """Send ten old records."""
        for signed in self.world.random.sample(self._heard, min(10, len(self._heard))):
            self.put(signed)


class Accuser(Adversary):
    """Sends SUSPECT about all members, 20 times a second."""

    pace = 0.05

    def act(self) -> None:
        """Send a SUSPECT about each member."""
        for presence in self.known():
            self.put(self.accusation(self.origin, presence, self.sign))

    def accusation(self, accuser: bytes, presence: Presence, sign: Sign) -> SignedRecord:
        """A SUSPECT of *accuser* about the author of *presence*."""
        suspect = Suspect(accuser, presence.origin, presence.epoch, presence.counter)
        return self.record(suspect, sign)


class Claimer(Member):
    """Tells each neighbour that another node uses the neighbour's key, in a later run."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Add the next run of the peer's key to each SNAPSHOT."""
        if isinstance(frame, Snapshot) and number in self.links:
            peer = self.links[number].other(self)
            claim = SnapshotEntry(peer.origin, peer.epoch + 1, 1, 1, 1, b"")
            frame = Snapshot(frame.last, [*frame.streams, claim])
        super().transmit(number, frame, size)


class Boaster(Member):
    """Claims to have all messages of its neighbours' own runs, and takes none of them."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Name the peer's run in each SNAPSHOT, and behind it in a HAVE; ask for nothing."""
        if isinstance(frame, Want):
            return
        if not isinstance(frame, Snapshot) or number not in self.links:
            super().transmit(number, frame, size)
            return
        run = self.links[number].other(self).run
        head = self.world.published.get(run, 0)
        claim = SnapshotEntry(*run, 1, head, head, b"")
        super().transmit(number, Snapshot(frame.last, [*frame.streams, claim]), size)
        super().transmit(number, Have([HaveEntry(*run, 1, head)], True), size)


class Minter(Adversary):
    """Mints authors, and sends a record and a message of each.

    :ivar minted: authors so far; :cvar each_time: authors in each call of :meth:`act`.
    :cvar most: authors in all; :cvar interval: the ``interval`` in their records, in ms.
    :cvar is_silent: whether the authors send no messages.
    """

    each_time = 10
    most = 10**9
    interval = 30_000
    is_silent = False

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.minted = 0

    def mint(self) -> tuple[bytes, Sign]:
        """Make a key; return its origin and the function that signs with it."""
        self.minted += 1
        seed = hashlib.sha256(b"minted %d %d %d" % (self.world.seed, self.number, self.minted)).digest()
        origin, sign, _ = self.world.keys(seed)
        return origin, sign

    def presence(self, origin: bytes, address: Address | None = None) -> Presence:
        """The record of the minted author *origin*."""
        sequence = 0 if self.is_silent else 1
        interval = self.interval
        role, key = Role.MEMBER, stand_in_key(origin, 1)
        credential = self.policy.credential(origin)  # a member has the secret
        return Presence(
            origin, 1, 1, sequence, address, role, MINTED, {}, 0, interval, 0, credential, 0, key
        )

    def act(self) -> None:
        """Mint some authors, each with a message."""
        if not self.node.membership.joined:
            return
        for _ in range(min(self.each_time, self.most - self.minted)):
            origin, sign = self.mint()
            self.put(self.record(self.presence(origin), sign))
            batch = Batch(origin, 1, 1, 1, 0, 0, bytes(32))
            self.put(codec.sign_batch(batch, _BODY, self.world.digest, sign))


class Crowd(Minter):
    """Mints many authors in a second, each with a record and a message."""

    each_time = 100
    most = 600


class Flooder(Minter):
    """Mints authors, each of which sends one message.

    :cvar size: bytes of each message.
    """

    each_time = 20
    most = 500
    begins = 45.0
    size = 2000

    def act(self) -> None:
        """Mint some authors, each with a message but no record."""
        body = join_entries([pack_entry(0, ["x" * self.size])])
        for _ in range(min(self.each_time, self.most - self.minted)):
            origin, sign = self.mint()
            batch = Batch(origin, 1, 1, 1, 0, 0, bytes(32))
            self.put(codec.sign_batch(batch, body, self.world.digest, sign))


class Namer(Minter):
    """Mints members: it sends one record of each, or lists it in a ROSTER as heard of 600 s ago."""

    pace = 1.0
    each_time = 1
    most = 40
    interval = 10_000
    is_silent = True

    def act(self) -> None:
        """Send the record of one more member."""
        if self.node.membership.joined and self.minted < self.most:
            origin, sign = self.mint()
            self.put(self.record(self.presence(origin), sign))

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Add one more member, not heard of for long, to each ROSTER."""
        if isinstance(frame, RosterFrame) and self.minted < self.most:
            origin, sign = self.mint()
            gone = RosterEntry(600_000, codec.payload(self.record(self.presence(origin), sign)))
            frame = RosterFrame(frame.last, [*frame.entries, gone], frame.vote)
        super().transmit(number, frame, size)


class Hoarder(Minter):
    """Mints members at addresses without a node, which claim to hold messages for ever."""

    pace = 5.0
    most = 9
    is_silent = True

    def act(self) -> None:
        """Send a new record of each of them."""
        if not self.node.membership.joined:
            return
        self.minted = 0
        counter = int(self.world.now * 1000)
        for number in range(1, self.most + 1):
            origin, sign = self.mint()
            presence = self.presence(origin, (f"10.250.{self.number}.{number}", 4444))
            self.put(self.record(replace(presence, counter=counter, retention=2**40), sign))


class RoomTaker(Minter):
    """Mints more members than rosters have room for, and sends records of each again and again.

    :cvar ends: when it stops.
    """

    each_time = 5
    most = 200
    interval = MAX_INTERVAL
    is_silent = True
    ends = 40.0

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self._members: deque[tuple[bytes, Sign]] = deque()  # the longest silent first

    def act(self) -> None:
        """Send a record of each of some members, new ones first."""
        if not self.node.membership.joined or self.world.now >= self.ends:
            return
        for _ in range(self.each_time):
            member = self.mint() if self.minted < self.most else self._members.popleft()
            self._members.append(member)
            origin, sign = member
            counter = int(self.world.now * 1000)
            self.put(self.record(replace(self.presence(origin), counter=counter), sign))


class MintedAccusers(Minter, Accuser):
    """Mints authors, and sends SUSPECT of each about all members."""

    each_time = 1
    is_silent = True

    def act(self) -> None:
        """Mint an author, and send its record and its SUSPECT frames."""
        if self.node.membership.joined:
            origin, sign = self.mint()
            known = [presence for presence in self.known() if presence.label != MINTED]
            self.put(self.record(self.presence(origin), sign))
            for presence in known:
                self.put(self.accusation(origin, presence, sign))


class Forgetter(Minter):
    """Asks to forget all members, also in the names of minted authors, and repeats each FORGET it hears.

    :ivar asked: FORGETs that it made so far.
    """

    pace = 0.5
    is_silent = True

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.asked = 0
        self._heard: dict[bytes, SignedRecord] = {}  # by the member that was to be forgotten

    def handle(self, event: events.Event) -> None:
        """Keep the first FORGET of each member that comes."""
        if isinstance(event, events.Received):
            for frame in event.frames:
                if isinstance(frame, SignedRecord) and isinstance(frame.record, Forget):
                    self._heard.setdefault(frame.record.member, frame)
        super().handle(event)

    def act(self) -> None:
        """Mint an author; in its name and in the own one, ask to forget every member."""
        if not self.node.membership.joined:
            return
        origin, sign = self.mint()
        self.put(self.record(self.presence(origin), sign))
        for asker, key in ((self.origin, self.sign), (origin, sign)):
            for presence in [presence for presence in self.known() if presence.label != MINTED]:
                forget = Forget(asker, presence.origin, presence.epoch, presence.counter)
                self.put(self.record(forget, key))
                self.asked += 1
        for signed in self._heard.values():
            self.put(signed)
