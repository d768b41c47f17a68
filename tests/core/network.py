"""
A network of nodes in memory: it carries out the effects of cores, one small step at a time.

A link is two first-in-first-out ways. What a node sends waits in its queue until the transport
accepts it, is under way as bytes, and arrives. Which of all the steps that are possible comes next
is drawn from a seed, so that a run with a bad end can be had again; a timer fires when no frame can
move any more. Links end politely here, with a BYE, and double: what the simulator of the package,
which has a clock, leaves out. Signatures are a stand-in.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import TypeVar

from msgspec import structs

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.handshake import LocalNode, Peer
from twisted_mesh.core.node import Node
from twisted_mesh.core.signing import signer
from twisted_mesh.errors import Reason
from twisted_mesh.identity import id_of
from twisted_mesh.network import Protocol
from twisted_mesh.wire import native
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.framing import LENGTH_BYTES
from twisted_mesh.wire.membership import Presence, Roster, RosterEntry, Stay, Suspect
from twisted_mesh.wire.native import Batch, Kind, SignedBatch, SnapshotEntry
from twisted_mesh.wire.replies import Direct, DirectAck, Receipt, SignedReceipt
from twisted_mesh.wire.signed import Record, SignedRecord

NETWORK = Protocol("tests", "Plaintext")
DIGEST = native.network_digest(NETWORK.id)

_KINDS = {
    Presence: Kind.PRESENCE,
    Suspect: Kind.SUSPECT,
    Direct: Kind.DIRECT,
    DirectAck: Kind.DIRECT_ACK,
}

E = TypeVar("E")


def origin_of(name: str) -> bytes:
    """The stand-in for the public key of *name*."""
    return hashlib.sha256(name.encode()).digest()


def signature_of(origin: bytes, text: bytes) -> bytes:
    """The stand-in for a signature: anyone could make it, but none is right by chance."""
    return hashlib.sha512(origin + text).digest()


def verify(origin: bytes, signature: bytes, text: bytes) -> bool:
    """Whether *signature* is that of *origin*."""
    return signature == signature_of(origin, text)


def local_node(
    name: str, epoch: int = 1, *, verify: Callable[[bytes, bytes, bytes], bool] = verify
) -> LocalNode:
    """What the node *name* needs of itself."""
    origin = origin_of(name)
    return LocalNode(
        id_of(origin), origin, epoch, NETWORK, None, False, lambda text: signature_of(origin, text), verify
    )


def peer(name: str, epoch: int = 1, settled: bool = False) -> Peer:
    """The node *name* as others see it."""
    origin = origin_of(name)
    return Peer(id_of(origin), origin, epoch, None, settled)


def entries(*texts: object) -> list[bytes]:
    """A packed message for each of *texts*."""
    return [pack_entry(0, [text]) for text in texts]


def signed(batch: Batch) -> SignedBatch:
    """*batch*, with the signature of its author."""
    array = native.pack(batch)
    return SignedBatch(batch, signature_of(batch.origin, native.signed_text(DIGEST, array)), array)


def batch(name: str, first: int, count: int = 1, *, epoch: int = 1) -> SignedBatch:
    """Messages *first* to *first* + *count* - 1 of *name*; each one's packet is its number."""
    body = join_entries(entries(*range(first, first + count)))
    return signed(Batch(origin_of(name), epoch, first, count, 1000, 0, body))


def raw_batch(name: str, first: int, count: int, body: bytes, encoding: int = 0) -> SignedBatch:
    """A batch of *name* with whatever it likes to sign."""
    return signed(Batch(origin_of(name), 1, first, count, 1000, encoding, body))


def signed_record(record: Record) -> SignedRecord:
    """*record*, with the signature of whom it comes from."""
    array = native.pack(record)
    text = native.signed_text(DIGEST, array, _KINDS[type(record)])
    return SignedRecord(record, signature_of(signer(record), text), array)


def receipt(
    member: str,
    author: str,
    low: int,
    high: int,
    *,
    epoch: int = 1,
    member_epoch: int = 1,
    hops: int = 0,
) -> SignedReceipt:
    """*member* has *low* to *high* of *author*."""
    value = Receipt(origin_of(author), epoch, low, high, origin_of(member), member_epoch)
    array = native.pack(value)
    text = native.signed_text(DIGEST, array, Kind.RECEIPT)
    return SignedReceipt(signature_of(value.member, text), array, hops)


def direct(
    origin: str,
    destination: str,
    number: int,
    *,
    oldest: int = 1,
    epoch: int = 1,
    destination_epoch: int = 1,
    tries: int = 0,
    body: bytes | None = None,
) -> SignedRecord:
    """The *number*-th message of *origin* for *destination*; its packet is its number."""
    body = join_entries([pack_entry(2, [number])]) if body is None else body
    ends = (origin_of(origin), epoch, origin_of(destination), destination_epoch)
    return signed_record(Direct(*ends, number, oldest, tries, body))


def acknowledged(
    destination: str,
    origin: str,
    number: int,
    *,
    epoch: int = 1,
    destination_epoch: int = 1,
    tries: int = 0,
) -> SignedRecord:
    """*destination* has the *number*-th message of *origin* for it."""
    ends = (origin_of(destination), destination_epoch, origin_of(origin), epoch)
    return signed_record(DirectAck(*ends, number, tries))


def asking(name: str, first: int, count: int = 1, *, epoch: int = 1) -> SignedBatch:
    """Messages of *name*, of which the last asks who has it."""
    packed = [pack_entry(0, [at], asks=at == first + count - 1) for at in range(first, first + count)]
    return signed(Batch(origin_of(name), epoch, first, count, 1000, 0, join_entries(packed)))


def presence(
    name: str, counter: int = 1, sequence: int = 0, epoch: int = 1, **more: object
) -> SignedRecord:
    """What *name* says of itself for the *counter*-th time, with *sequence* messages published.

    :param more: other fields of it.
    """
    record = Presence(origin_of(name), epoch, counter, sequence, None, 0, None, {}, 0, 30_000, 0, b"")
    return signed_record(structs.replace(record, **more))


def suspect(accuser: str, member: str, counter: int = 1, epoch: int = 1) -> SignedRecord:
    """*accuser* has lost its link to *member* without a word."""
    return signed_record(Suspect(origin_of(accuser), origin_of(member), epoch, counter))


def roster(*records: SignedRecord, age: float = 0, last: bool = True, stay: Stay = Stay.CONTENT) -> Roster:
    """A peer tells *records*, each *age* seconds old."""
    entries = [RosterEntry(int(age * 1000), native.payload(record)) for record in records]
    return Roster(last, entries, stay)


def of(effects: Iterable[object], kind: type[E]) -> list[E]:
    """Those of *effects*, or of what they emit, that are of *kind*."""
    inner = (effect.what if isinstance(effect, events.Emit) else effect for effect in effects)
    return [effect for effect in inner if isinstance(effect, kind)]


def closing(link: int, reason: Reason = Reason.DISCONNECT) -> events.LinkClosing:
    """Either end closes a link, as a rule because it likes to."""
    return events.LinkClosing(link, reason)


def entry(name: str, base: int, epoch: int = 1, low: int | None = None) -> SnapshotEntry:
    """What a peer says of a stream of which all to *base* has come; held is what is from *low* on."""
    return SnapshotEntry(origin_of(name), epoch, base + 1 if low is None else low, base, base)


def have(name: str, low: int, high: int, *, answer: bool = False, epoch: int = 1) -> native.Have:
    """A peer announces *low* to *high* of *name*."""
    return native.Have([native.HaveEntry(origin_of(name), epoch, low, high)], answer)


def want(name: str, first: int, last: int = native.MAX_NUMBER, *, epoch: int = 1) -> native.Want:
    """A peer asks for *first* to *last* of *name*."""
    return native.Want(origin_of(name), epoch, first, last, True)


def prune(*names: str) -> native.Prune:
    """A peer wants nothing of *names* pushed any more."""
    return native.Prune([origin_of(name) for name in names])


class End:
    """One end of a link: what its node sends goes from the queue under way to the other end."""

    def __init__(self, member: Member, number: int, outgoing: bool) -> None:
        self.member = member
        self.number = number
        self.outgoing = outgoing
        self.other: End
        self.settled = member.node.settled  # as the handshake says, when it begins
        self.queue: deque[tuple[bytes, int]] = deque()  # frames and what all weigh so far, not yet accepted
        self.sent = 0
        self.wire: deque[bytes] = deque()  # accepted, not yet arrived
        self.stuck = False  # the transport accepts nothing
        self.deaf = False  # nothing arrives here
        self.opened = self.closing = self.gone = False

    def send(self, frame: native.Signed | native.Plain, size: int) -> None:
        """Queue *frame*, which the node says is of *size* bytes."""
        if not self.opened or self.closing or self.gone:
            raise AssertionError(f"{type(frame).__name__} over a link that is not open")
        data = native.encode(frame)
        if len(data) != size:
            raise AssertionError(f"{type(frame).__name__} has {len(data)} bytes and not {size}")
        self.sent += size
        self.queue.append((data[LENGTH_BYTES:], self.sent))

    def accept(self) -> None:
        """Let the transport accept the next frame."""
        frame, sent = self.queue.popleft()
        self.wire.append(frame)
        if frame == _FIN:
            self._lose()
        elif sent:
            self.member.handle(events.Accepted(self.number, sent))

    def arrive(self, most: int) -> None:
        """Let up to *most* frames that are under way arrive in one go."""
        other = self.other
        if self.wire[0] == _PROOF:
            self.wire.popleft()
            if not other.gone:
                other.open()
            return
        if self.wire[0] == _FIN:
            self.wire.popleft()
            other._lose()
            return
        frames: list[native.Frame] = []
        while self.wire and len(frames) < most and self.wire[0] != _FIN:
            frames.append(native.decode(self.wire.popleft()))
        bye = frames.pop() if isinstance(frames[-1], native.Bye) else None
        if not other.gone:
            other.member.handle(events.Received(other.number, frames))
            if bye is not None:
                other.answer(bye)

    def open(self) -> None:
        """The peer has proven itself; the acceptor proves itself then, in front of all else."""
        if not self.outgoing:
            self.wire.append(_PROOF)
        self.opened = True
        who = structs.replace(self.other.member.peer, settled=self.other.settled)
        self.member.handle(events.LinkOpened(self.number, who, self.outgoing, self.settled))

    def close(self, reason: Reason, detail: str) -> None:
        """Send what is queued and a BYE; reading goes on."""
        if not (self.closing or self.gone):
            self.queue.append((native.encode(native.Bye(reason.value, detail))[LENGTH_BYTES:], 0))
            self.closing = True

    def hang_up(self) -> None:
        """The application asked for the end of this link."""
        self.member.handle(closing(self.number))
        self.close(Reason.DISCONNECT, "enough")

    def answer(self, bye: native.Bye) -> None:
        """The peer closes: what is queued still goes to it, and then the connection ends."""
        self.member.byes.append(bye)
        self.member.handle(closing(self.number, Reason(bye.reason)))
        self.closing = True
        self.queue.append((_FIN, 0))

    def cut(self) -> None:
        """Lose the connection with all that is under way, to both ends."""
        for end in (self, self.other):
            end.wire.clear()
            end._lose()

    def _lose(self) -> None:
        if not self.gone:
            self.gone = True
            self.queue.clear()
            self.member.handle(events.LinkClosed(self.number))


_PROOF = b"PROOF"
_FIN = b"FIN"


class Member:
    """
    A node and what the outside has seen of it.

    :ivar delivered: run -> the sequences that were delivered, in order.
    :ivar table: the routing table: name -> number of the link.
    """

    def __init__(self, mesh: Mesh, name: str, epoch: int, config: MeshConfig) -> None:
        self._mesh = mesh
        self.name = name
        self.peer = peer(name, epoch)
        self.run = (self.peer.origin, epoch)
        self.node = Node(local_node(name, epoch), config, Random(1))
        self.ends: dict[int, End] = {}
        self.delivered: dict[tuple[bytes, int], list[int]] = {}
        self.happened: list[events.Happening] = []
        self.table: dict[str, int] = {}
        self.closed: list[events.Close] = []
        self.byes: list[native.Bye] = []
        self.timers: dict[events.Timer, float] = {}
        self.published = 0

    def handle(self, event: events.Event) -> None:
        """Let the node handle *event* and carry out what follows."""
        for effect in self.node.handle(event, self._mesh.now):
            match effect:
                case events.Send():
                    for number in effect.links:
                        self.ends[number].send(effect.frame, effect.size)
                case events.Deliver():
                    run = (effect.origin, effect.epoch)
                    for sequence, (_kind, _type, number) in enumerate(effect.entries, effect.first):
                        if sequence != number:
                            raise AssertionError(f"message {number} came as {sequence}")
                        self.delivered.setdefault(run, []).append(sequence)
                case events.Close():
                    self.closed.append(effect)
                    self.ends[effect.link].close(effect.reason, effect.detail)
                case events.SetTimer():
                    self.timers[effect.timer] = effect.at
                case events.Emit():
                    self.happened.append(effect.what)
                    self._route(effect.what)

    def _route(self, what: events.Happening) -> None:
        match what:
            case events.LinkUp():
                self.table[self.ends[what.link].other.member.name] = what.link
            case events.LinkDown():
                self.table = {name: link for name, link in self.table.items() if link != what.link}

    def publish(self, count: int = 1) -> None:
        """Publish *count* messages in one turn, each one's packet its number."""
        first = self.published + 1
        self.published += count
        self.handle(events.Publish(entries(*range(first, first + count)), 1000))

    def got(self, author: Member) -> list[int]:
        """The sequences of *author*'s run that were delivered here."""
        return self.delivered.get(author.run, [])

    def all_of(self, kind: type[E]) -> list[E]:
        """Everything of *kind* that was emitted."""
        return of(self.happened, kind)


class Mesh:
    """Members, their links and the one time they all have."""

    def __init__(self, seed: int = 0, **limits: float) -> None:
        self.now = 1.0
        self._random = Random(seed)
        self._config = MeshConfig(**limits)  # type: ignore[arg-type]
        self._numbers = 0
        self.ends: list[End] = []
        self.members: dict[str, Member] = {}

    def add(self, name: str, epoch: int = 1) -> Member:
        """A new member, or a new run of one."""
        member = self.members[name] = Member(self, name, epoch, self._config)
        return member

    def dial(self, dialler: Member, acceptor: Member) -> End:
        """A connection on its way; the dialler's end."""
        self._numbers += 2
        near = End(dialler, self._numbers, True)
        far = End(acceptor, self._numbers + 1, False)
        near.other, far.other = far, near
        near.wire.append(_PROOF)
        for end in (near, far):
            end.member.ends[end.number] = end
            self.ends.append(end)
        return near

    def steps(self) -> list[Callable[[], None]]:
        """All that can happen next, whichever comes first."""
        steps: list[Callable[[], None]] = []
        for end in self.ends:
            if end.queue and not end.stuck:
                steps.append(end.accept)
            if end.wire and not end.other.deaf:
                most = self._random.choice((1, 1, 2, 8))
                steps.append(lambda end=end, most=most: end.arrive(most))  # type: ignore[misc]
        return steps

    def step(self) -> bool:
        """One step, if there is any left."""
        if not (steps := self.steps()):
            return False
        self._random.choice(steps)()
        return True

    def settle(self, most: int = 100_000) -> None:
        """Step until nothing moves and nothing is to be told or asked for soon.

        *most* steps are enough for anything that is not a circle.
        """
        for _ in range(most):
            if not self.step() and not self._fire(events.Timer.ANNOUNCE, events.Timer.REPAIR):
                return
        raise AssertionError(f"still moving after {most} steps")

    def _fire(self, *kinds: events.Timer, until: float = math.inf) -> bool:
        """Fire the timer of *kinds* that comes first, when it is due, if there is one *until* then."""
        due = [
            (at, order, timer)
            for order, member in enumerate(self.members.values())
            for timer, at in member.timers.items()
            if at <= until and timer in kinds
        ]
        if not due:
            return False
        at, order, timer = min(due, key=lambda one: one[:2])
        member = list(self.members.values())[order]
        del member.timers[timer]
        self.now = max(self.now, at)
        member.handle(events.TimerFired(timer))
        return True

    def linked(self, *pairs: tuple[Member, Member]) -> None:
        """Dial within each of *pairs* and wait until all is quiet."""
        for dialler, acceptor in pairs:
            self.dial(dialler, acceptor)
        self.settle()

    def advance(self, seconds: float) -> None:
        """Let time pass, firing what comes due on the way, exactly when it is due."""
        until = self.now + seconds
        for _ in range(10_000):
            if not self._fire(*events.Timer, until=until):
                self.now = max(self.now, until)
                return
            self.settle()
        raise AssertionError("a timer sets itself again and again")
