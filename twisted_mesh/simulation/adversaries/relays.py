"""Members that break the rules as relays and authors, each in one way.

Contract: each is a :class:`~twisted_mesh.simulation.member.Member` that changes the frames of its core
before they are sent, or sends more.  Every honest member must still get all messages of honest members.
"""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from twisted_mesh.simulation.adversaries.adversary import Adversary
from twisted_mesh.simulation.member import Member, Surroundings
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import Batch, Have, Prune, SignedBatch, Snapshot

_FAR = 2**62 - 1
_BODY = join_entries([pack_entry(0, ["once more"])])


class Boaster(Member):
    """Claims to hold the messages 1 to 2^62 of every stream; it answers with those it holds."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Raise the claims in HAVE."""
        if isinstance(frame, Have):
            streams = [replace(entry, low=1, high=_FAR) for entry in frame.streams]
            frame = replace(frame, streams=streams)
        super().transmit(number, frame, size)


class Skipper(Member):
    """Claims to hold message 2^62 of every stream, and none below."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Raise both ends of the claims in HAVE."""
        if isinstance(frame, Have):
            streams = [replace(entry, low=_FAR, high=_FAR) for entry in frame.streams]
            frame = replace(frame, streams=streams)
        super().transmit(number, frame, size)


class Deafener(Member):
    """Tells every newcomer to begin behind message 2^62, so that it would deliver none."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Raise the bases in SNAPSHOT, and leave out their proofs."""
        if isinstance(frame, Snapshot):
            streams = [replace(entry, low=_FAR, high=_FAR, base=_FAR, proof=b"") for entry in frame.streams]
            frame = replace(frame, streams=streams)
        super().transmit(number, frame, size)


class Repeater(Boaster):
    """Claims everything, and sends the first message of an author in place of each later one."""

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self._first: dict[bytes, SignedBatch] = {}

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Replace each BATCH by the first of its author."""
        if isinstance(frame, SignedBatch) and frame.batch.origin != self.origin:
            frame = self._first.setdefault(frame.batch.origin, frame)
        super().transmit(number, frame, size)


class Miser(Member):
    """Relays no messages, and answers no WANT for messages of others."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Drop the messages of others."""
        if isinstance(frame, SignedBatch) and frame.batch.origin != self.origin:
            return
        super().transmit(number, frame, size)


class Cutter(Member):
    """Prunes the tree of every origin, and relays nothing: the nodes behind it need another link."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Drop the messages of others, and send PRUNE for each origin that a HAVE names."""
        if isinstance(frame, SignedBatch) and frame.batch.origin != self.origin:
            return
        if isinstance(frame, Have):
            origins = [entry.origin for entry in frame.streams]
            super().transmit(number, Prune(origins), size)
        super().transmit(number, frame, size)


class Equivocator(Member):
    """Signs two different messages under one number, and sends each to half of its neighbours."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Send the other message over every second link."""
        if isinstance(frame, SignedBatch) and frame.batch.origin == self.origin and number % 2:
            frame = self.forge(replace(frame.batch, sent=frame.batch.sent + 1), bytes(frame.body))
        super().transmit(number, frame, size)

    def forge(self, batch: Batch, body: bytes) -> SignedBatch:
        """*batch* with *body*, signed."""
        return codec.sign_batch(batch, body, self.world.digest, self.sign)


class Poisoner(Equivocator):
    """Signs bodies that cannot be unpacked."""

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Replace the bodies of its own messages."""
        if isinstance(frame, SignedBatch) and frame.batch.origin == self.origin:
            frame = self.forge(frame.batch, b"\xc1" * len(frame.body))
        Member.transmit(self, number, frame, size)


class SlowRelay(Boaster):
    """Claims everything, and relays so slowly that no node quite gives up waiting for it."""

    unreliable = True  # its own messages wait behind those of others

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self._free: dict[int, float] = {}  # by link: when it may send the next frame

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Delay each message of others, and all that follow, until just before the peer would ask again."""
        world = self.world
        free = max(self._free.get(number, 0.0), world.now)
        if isinstance(frame, SignedBatch) and frame.batch.origin != self.origin:
            free += 0.9 * world.config.graft_retry
        self._free[number] = free
        world.at(free, partial(super().transmit, number, frame, size))


class ManyRuns(Equivocator):
    """Begins one run of its own after another: one author with ever more streams.

    :cvar pace: seconds from one run to the next; there is time for dozens while a schedule sends messages.
    """

    unreliable = True
    pace = 0.2

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self._runs = 0
        self._next = 0.0

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Behind the frame, send the first message of another run."""
        Member.transmit(self, number, frame, size)
        if not isinstance(frame, Snapshot) and self.world.now > self._next:
            self._next = self.world.now + self.pace
            self._runs += 1
            batch = Batch(self.origin, 2**40 + self._runs, 1, 1, 0, 0, bytes(32))
            Member.transmit(self, number, self.forge(batch, _BODY), len(_BODY))


class Babbler(Adversary):
    """Publishes messages without end, each in a batch of its own.

    :ivar said: messages so far; :cvar most: messages in all; :cvar each_time: in each call of :meth:`act`.
    """

    each_time = 5
    most = 1500

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.said = 0

    def act(self) -> None:
        """Publish some messages."""
        for _ in range(min(self.each_time, self.most - self.said)):
            self.said += self.publish("bla")


RELAY_ADVERSARIES: tuple[type[Member], ...] = (
    Boaster,
    Skipper,
    Deafener,
    Repeater,
    Miser,
    Cutter,
    Equivocator,
    Poisoner,
    SlowRelay,
    ManyRuns,
)
