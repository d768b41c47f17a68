"""Adversaries that send messages of ended runs again.

Contract: each is an :class:`~twisted_mesh.simulation.adversaries.adversary.Adversary`.  Even so, no
message may come twice, and no old message may come to a member that joined after it was sent.
"""

from __future__ import annotations

from msgspec.structs import replace

from twisted_mesh.core import events
from twisted_mesh.core.events import StreamId
from twisted_mesh.simulation.adversaries.adversary import Adversary
from twisted_mesh.simulation.member import Surroundings
from twisted_mesh.wire.broadcast import SignedBatch

_KEPT = 1000  # batches of others that are kept
_SOME = 20  # batches that are sent at a time


class Recorder(Adversary):
    """Keeps the messages of others, and sends those of ended runs again, with no hops.

    :ivar recorded: the batches of others, by run and first number.
    :ivar repeated: how many batches it has sent again.
    """

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.recorded: dict[tuple[StreamId, int], SignedBatch] = {}
        self.repeated = 0

    def handle(self, event: events.Event) -> None:
        """Keep the batches of others."""
        if isinstance(event, events.Received):
            for frame in event.frames:
                if isinstance(frame, SignedBatch) and len(self.recorded) < _KEPT:
                    run = (frame.batch.origin, frame.batch.epoch)
                    self.recorded.setdefault((run, frame.batch.first), frame)
        super().handle(event)

    def act(self) -> None:
        """Send some batches of runs that have ended."""
        newest = {presence.origin: presence.epoch for presence in self.known()}
        old = [signed for (run, _), signed in self.recorded.items() if run[1] < newest.get(run[0], 0)]
        for signed in self.world.random.sample(old, min(_SOME, len(old))):
            self.repeated += 1
            self.put(replace(signed, hops=0))
