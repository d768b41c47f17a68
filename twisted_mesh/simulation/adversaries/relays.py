"""Members that break the rules as relays and authors, each in one way.

Contract: each is a :class:`~twisted_mesh.simulation.member.Member` whose frames are bent on their way out.
Everyone honest must still have everything the honest sent.
"""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from twisted_mesh.simulation.member import Member, Surroundings
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import Batch, Have, Prune, SignedBatch, Snapshot

_FAR = 2**62 - 1
_BODY = join_entries([pack_entry(0, ["once more"])])


class Boaster(Member):
    """Claims to hold everything up to 2^62 of every stream, and answers with what it has."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Raise every claim."""
        if isinstance(frame, Have):
            streams = [replace(entry, low=1, high=_FAR) for entry in frame.streams]
            frame = replace(frame, streams=streams)
        super().transmit(number, frame, size)


class Skipper(Member):
    """Claims that all it knows of begins and ends at 2^62, so that nothing else could be had of it."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Raise every claim, its low end, too."""
        if isinstance(frame, Have):
            streams = [replace(entry, low=_FAR, high=_FAR) for entry in frame.streams]
            frame = replace(frame, streams=streams)
        super().transmit(number, frame, size)


class Deafener(Member):
    """Tells every newcomer bases beyond all messages there are, so that it would deliver none."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Raise every base, and leave out what would prove a true one."""
        if isinstance(frame, Snapshot):
            streams = [replace(entry, low=_FAR, high=_FAR, base=_FAR, proof=b"") for entry in frame.streams]
            frame = replace(frame, streams=streams)
        super().transmit(number, frame, size)


class Repeater(Boaster):
    """Claims everything, and answers with the first message it ever had of whom it is asked for."""

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self._first: dict[bytes, SignedBatch] = {}

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Send old messages for new."""
        if isinstance(frame, SignedBatch) and frame.batch.origin != self.origin:
            frame = self._first.setdefault(frame.batch.origin, frame)
        super().transmit(number, frame, size)


class Miser(Member):
    """Claims nothing, pushes nothing of others and answers nothing."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Keep what is not its own."""
        if isinstance(frame, SignedBatch) and frame.batch.origin != self.origin:
            return
        super().transmit(number, frame, size)


class Cutter(Member):
    """Prunes every origin it hears of, and hands nothing on: whoever is behind it must graft."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Answer each announcement of an origin with a PRUNE."""
        if isinstance(frame, SignedBatch) and frame.batch.origin != self.origin:
            return
        if isinstance(frame, Have):
            origins = [entry.origin for entry in frame.streams]
            super().transmit(number, Prune(origins), size)
        super().transmit(number, frame, size)


class Equivocator(Member):
    """Signs one message for half of its neighbours and another for the rest."""

    lies = True

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Send every second neighbour another message under the same number."""
        if isinstance(frame, SignedBatch) and frame.batch.origin == self.origin and number % 2:
            frame = self.forge(replace(frame.batch, sent=frame.batch.sent + 1), frame.body)
        super().transmit(number, frame, size)

    def forge(self, batch: Batch, body: bytes) -> SignedBatch:
        """*batch* with *body*, signed."""
        return codec.sign_batch(batch, body, self.world.digest, self.sign)


class Poisoner(Equivocator):
    """Signs bodies nobody can read."""

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Spoil the body of what it sends of its own."""
        if isinstance(frame, SignedBatch) and frame.batch.origin == self.origin:
            frame = self.forge(frame.batch, b"\xc1" * len(frame.body))
        Member.transmit(self, number, frame, size)


class SlowRelay(Boaster):
    """Claims everything, and sends what it has of others so slowly that it just never stalls."""

    unreliable = True  # its own messages wait behind the others'

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self._free: dict[int, float] = {}  # when a link may send the next

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Send what is not its own, and what follows, just before the other end would ask another."""
        world = self.world
        free = max(self._free.get(number, 0.0), world.now)
        if isinstance(frame, SignedBatch) and frame.batch.origin != self.origin:
            free += 0.9 * world.config.graft_retry
        self._free[number] = free
        world.at(free, partial(super().transmit, number, frame, size))


class ManyRuns(Equivocator):
    """Signs another run of its own again and again: one author, streams without end.

    :cvar pace: seconds between two; a schedule's traffic is long enough for dozens of them.
    """

    unreliable = True
    pace = 0.2

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self._runs = 0
        self._next = 0.0

    def transmit(self, number: int, frame: AnyFrame, size: int) -> None:
        """Send the first message of another run along with what goes out."""
        Member.transmit(self, number, frame, size)
        if not isinstance(frame, Snapshot) and self.world.now > self._next:
            self._next = self.world.now + self.pace
            self._runs += 1
            batch = Batch(self.origin, 2**40 + self._runs, 1, 1, 0, 0, bytes(32))
            Member.transmit(self, number, self.forge(batch, _BODY), len(_BODY))


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
