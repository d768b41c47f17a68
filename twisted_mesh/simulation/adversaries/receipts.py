"""Members that break the rules of receipts and direct messages, each in one way.

Contract: each member sends forged frames, as an :class:`Adversary` does, or changes the frames that it
relays.  Even so, no receipt may be false, each receipt of an honest member must come in the end, and no
direct message may come twice.
"""

from __future__ import annotations

from msgspec.structs import replace

from twisted_mesh.core import events
from twisted_mesh.simulation.adversaries.adversary import Adversary
from twisted_mesh.simulation.adversaries.identities import Minter
from twisted_mesh.simulation.keys import StandInKeys
from twisted_mesh.simulation.member import Member, Surroundings
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.fields import MessageId
from twisted_mesh.wire.greeting import Address
from twisted_mesh.wire.membership import Presence, PresenceFlags
from twisted_mesh.wire.replies import (
    MAX_DIRECTS,
    Direct,
    DirectAck,
    DirectKey,
    Receipt,
    Receipts,
    SealedMessage,
    SealedText,
    SignedReceipt,
    sealing_context,
)
from twisted_mesh.wire.signed import Record, SignedRecord

_SOME = 4  # streams or members that a call of act() deals with
_KEPT = 200  # frames of others that an adversary keeps
_FAR = 2**62 - 1


def is_back(frame: codec.Frame) -> bool:
    """Whether *frame* goes back the way that its destination's own frames came."""
    record = frame.record if isinstance(frame, SignedRecord) else None
    return isinstance(frame, Receipts) or isinstance(record, Direct | DirectAck | DirectKey)


def sealed(
    ends: tuple[bytes, int, bytes, int, int, int],
    key: bytes,
    packet: object,
    answers: MessageId | None = None,
    count: int = 1,
) -> bytes:
    """*count* messages of one *packet*, sealed with *key* as the DIRECT *ends*, in answer to *answers*."""
    message = SealedMessage(join_entries([pack_entry(2, [packet])]), 1, answers)
    text = SealedText([message] * count).pack()
    return StandInKeys(b"").encrypt(text, key, sealing_context(*ends)) or b""


class Swallower(Member):
    """Relays messages, but no receipts and no direct messages."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Drop receipts and direct messages."""
        if not is_back(frame):
            super().transmit(number, frame, size)


class Tirer(Member):
    """Relays receipts and direct messages with so many hops that they go no further."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Raise the hops of receipts and direct messages."""
        if isinstance(frame, Receipts):
            frame = Receipts([replace(signed, hops=31) for signed in frame.entries])
        elif isinstance(frame, SignedRecord) and is_back(frame):
            frame = replace(frame, hops=31)
        super().transmit(number, frame, size)


class Overstater(Adversary):
    """Signs receipts for messages and runs that do not exist, and for having taken nothing."""

    begins = 2.0

    def act(self) -> None:
        """Send such receipts for some streams."""
        streams = list(self.node.history)
        for stream in self.world.random.sample(streams, min(_SOME, len(streams))):
            origin, epoch = stream.run
            for low, high in ((1, stream.high), (1, stream.high + 7), (stream.high + 1, stream.high)):
                self.put(self.receipts(Receipt(origin, epoch, low, high, self.origin, self.epoch)))
            self.put(self.receipts(Receipt(origin, epoch + 1, 1, 1, self.origin, self.epoch)))
            self.put(self.receipts(Receipt(origin, epoch, 1, 1, self.origin, self.epoch + 1)))

    def receipts(self, receipt: Receipt) -> Receipts:
        """*receipt*, signed with the own key, whichever member it names."""
        array = codec.pack(receipt)
        text = codec.signed_text(self.world.digest, array, receipt.kind)
        return Receipts([SignedReceipt(self.sign(text), array)])

    def signed(self, record: Record) -> SignedRecord:
        """*record*, signed with the own key, whichever signer it names."""
        array = codec.pack(record)
        text = codec.signed_text(self.world.digest, array, record.kind)
        return SignedRecord(record, self.sign(text), array)


class Forger(Overstater):
    """Forges receipts, direct messages and acknowledgements of others; each ends the link it goes over."""

    pace = 1.0

    def act(self) -> None:
        """Send one forgery over one link."""
        heard = [entry.presence for entry in self.node.roster if isinstance(entry.presence, Presence)]
        random = self.world.random
        if len(heard) < 2 or not self.links:
            return
        victim, author = random.sample(heard, 2)
        ends = (author.origin, author.epoch, victim.origin, victim.epoch)
        message = sealed((*ends, 1, 1), victim.sealing_key, 1)
        forged: list[AnyFrame] = [
            self.receipts(Receipt(author.origin, author.epoch, 1, 1, victim.origin, victim.epoch)),
            self.signed(Direct(*ends, 1, 1, 1, 0, 1, message)),
            self.signed(DirectAck(*ends, 1, 0)),
            self.signed(DirectKey(*ends, 1, 0, b"")),
        ]
        self.put_to(random.choice(list(self.links)), random.choice(forged))


class Rusher(Overstater):
    """Sends direct messages with numbers far ahead, in ever new runs, faster than any node may."""

    begins = 2.0

    def act(self) -> None:
        """Send such messages to some members."""
        count = int(self.world.now * 1000)
        known = [entry.presence for entry in self.node.roster]
        for presence in self.world.random.sample(known, min(_SOME, len(known))):
            for epoch, number, oldest in ((self.epoch, _FAR, 1), (count, 1, 1), (self.epoch, 1, _FAR)):
                ends = (self.origin, epoch, presence.origin, presence.epoch, number, 1)
                message = sealed(ends, presence.sealing_key, 0)
                self.put(self.signed(Direct(*ends, oldest, 0, 0, message)))


class Ranger(Overstater):
    """Sends direct messages in ranges that overlap, have holes, or count others than there are.

    It acknowledges messages that it never got, too.
    """

    begins = 2.0

    def start(self) -> None:
        """Begin a run."""
        self._next = 1
        super().start()

    def act(self) -> None:
        """Send such messages, and acknowledgements, to some members."""
        random = self.world.random
        known = [entry.presence for entry in self.node.roster]
        for presence in random.sample(known, min(_SOME, len(known))):
            runs = (self.origin, self.epoch, presence.origin, presence.epoch)
            for _ in range(_SOME):
                first = max(1, self._next + random.randrange(-3, 4))
                counted = random.choice((1, 2, 5, MAX_DIRECTS))
                there = random.choice((counted, counted, 1, 3))
                message = sealed((*runs, first, counted), presence.sealing_key, 0, count=there)
                acknowledged = random.choice((0, 1, self._next, _FAR))
                self.put(self.signed(Direct(*runs, first, counted, 1, 0, acknowledged, message)))
                self._next += random.randrange(4)
            number = random.choice((1, self._next, _FAR))
            self.put(self.signed(DirectAck(*runs, number, 0)))


class Replayer(Adversary):
    """Sends receipts and direct messages of others again, over every link and with random hops."""

    begins = 2.0

    def start(self) -> None:
        """Begin a run."""
        self._heard: list[Receipts | SignedRecord] = []
        super().start()

    def handle(self, event: events.Event) -> None:
        """Keep the receipts and direct messages that come."""
        if isinstance(event, events.Received):
            back = [frame for frame in event.frames if isinstance(frame, Receipts | SignedRecord)]
            self._heard += filter(is_back, back)
            del self._heard[:-_KEPT]
        super().handle(event)

    def act(self) -> None:
        """Send ten of them."""
        random = self.world.random
        for frame in random.sample(self._heard, min(10, len(self._heard))):
            if isinstance(frame, SignedRecord):
                frame = replace(frame, hops=random.randrange(31))
            else:
                hops = random.randrange(31)
                frame = Receipts([replace(signed, hops=hops) for signed in frame.entries])
            self.put(frame)


class Thief(Overstater):
    """Sends the sealed texts of others as its own, or changed, or to others than they are for."""

    begins = 2.0

    def handle(self, event: events.Event) -> None:
        """Send a text that comes in each of these ways."""
        super().handle(event)
        if isinstance(event, events.Received) and self.core is not None:
            for frame in event.frames:
                stolen = frame.record if isinstance(frame, SignedRecord) else None
                if isinstance(stolen, Direct) and stolen.origin != self.origin:
                    self._steal(stolen)

    def _steal(self, direct: Direct) -> None:
        mine = replace(direct, origin=self.origin, epoch=self.epoch)
        self.put(self.signed(mine))
        self.put(self.signed(replace(mine, first=mine.first + 1, sealed=direct.sealed[:-1] + b"?")))
        self.put(self.signed(replace(mine, count=mine.count % MAX_DIRECTS + 1)))
        for author in self.node.roster:
            there = author.presence
            ends = {"destination": there.origin, "destination_epoch": there.epoch}
            self.put(self.signed(replace(mine, **ends)))
            break


class FalseAnswerer(Overstater):
    """Answers requests that others were sent: their numbers can be guessed."""

    begins = 2.0
    guesses = 0

    def act(self) -> None:
        """Send some members an answer to each of their first requests, one after the other."""
        known = [entry.presence for entry in self.node.roster]
        for there in self.world.random.sample(known, min(_SOME, len(known))):
            self.guesses += 1
            ends = (self.origin, self.epoch, there.origin, there.epoch, self.guesses, 1)
            answers = (there.origin, there.epoch, -(self.guesses % _KEPT) - 1)
            message = sealed(ends, there.sealing_key, 0, answers)
            self.put(self.signed(Direct(*ends, self.guesses, 0, 0, message)))


class Locksmith(Overstater):
    """Answers each direct message that it lacks the key, with false records and ever new keys."""

    begins = 2.0

    def start(self) -> None:
        """Begin a run."""
        self._made = 0
        super().start()

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Send such answers in place of the acknowledgements."""
        ack = frame.record if isinstance(frame, SignedRecord) else None
        if not isinstance(ack, DirectAck) or ack.signer != self.origin:
            super().transmit(number, frame, size)
            return
        for record in self._records():
            ends = (ack.destination, ack.destination_epoch, ack.origin, ack.epoch)
            answer = self.signed(DirectKey(*ends, ack.number, ack.tries, record))
            super().transmit(number, answer, codec.size(answer))

    def _records(self) -> list[bytes]:
        """No record, that of another, a forged one, and one with a new key or with none."""
        records = [b"", b"\x09\x00" + bytes(64) + b"\x90"]
        if (own := self.node.membership.records.own) is not None and isinstance(own.record, Presence):
            self._made += 1
            key = bytes(32) if self._made % 2 else self._made.to_bytes(32, "big")
            newer = replace(own.record, counter=own.record.counter + self._made, sealing_key=key)
            records += [codec.payload(self.signed(newer)), codec.payload(replace(own, signature=bytes(64)))]
        records += [codec.payload(author.signed) for author in list(self.node.roster)[:1]]
        return records


class MintedSenders(Minter):
    """Mints senders of direct messages until nodes forget all others, then repeats old direct messages.

    :ivar heard: direct messages of others.
    """

    pace = 0.5
    each_time = 2
    is_silent = True

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.heard: list[SignedRecord] = []

    def handle(self, event: events.Event) -> None:
        """Keep the direct messages of others."""
        if isinstance(event, events.Received) and len(self.heard) < _KEPT:
            signed = (frame for frame in event.frames if isinstance(frame, SignedRecord))
            self.heard += (frame for frame in signed if isinstance(frame.record, Direct))
        super().handle(event)

    def presence(self, origin: bytes, address: Address | None = None) -> Presence:
        """A record by which the author leaves at once, so that rosters have room for the next."""
        return replace(super().presence(origin, address), flags=PresenceFlags.LEAVING)

    def act(self) -> None:
        """Mint authors, each with a message for each known reader; then repeat old messages."""
        if not self.node.membership.joined:
            return
        records = (signed.record for signed in self.heard)
        heard = dict.fromkeys(one.destination for one in records if isinstance(one, Direct))
        authors = [author for one in heard if (author := self.node.roster.get(one)) is not None]
        readers = [author.presence for author in authors]
        for _ in range(self.each_time):
            origin, sign = self.mint()
            self.put(self.record(self.presence(origin), sign))
            for reader in readers:
                ends = (origin, 1, reader.origin, reader.epoch, 1, 1)
                message = sealed(ends, reader.sealing_key, 0)
                self.put(self.record(Direct(*ends, 1, 0, 0, message), sign))
        for signed in self.world.random.sample(self.heard, min(_SOME, len(self.heard))):
            self.put(replace(signed, hops=0))


RECEIPT_ADVERSARIES: tuple[type[Member], ...] = (
    *(Swallower, Tirer, Overstater, Forger, Rusher, Replayer),
    *(Thief, FalseAnswerer, Locksmith, Ranger),
)
