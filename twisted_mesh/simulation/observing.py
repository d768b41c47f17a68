"""What happens in a world, counted, and held against the promises while it runs.

Contract: a delivery comes once and in order (its member looks at that), and no gap is told about what a
neighbour has.  What holds only at rest is :mod:`~twisted_mesh.simulation.invariants.judge`'s.
"""

from __future__ import annotations

from twisted_mesh.core import events
from twisted_mesh.core.events import StreamId
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.trace import AnyFrame, show
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import SignedBatch
from twisted_mesh.wire.signed import SignedRecord

#: What must not happen, as it is counted.
BROKEN = (
    "false gaps",
    "duplicates",
    "disorder",
    "missed",
    "stalls",
    "islands",
    "rosters",
    "downs",
    "limits",
    "receipts",
    "directs",
)
COUNTED = ("deliveries", "gaps", *BROKEN)


class Observed:
    """What was seen of one world.

    :ivar now: in seconds since it began.
    :ivar frames: that were sent; :ivar bytes: in all of them; :ivar kinds: how many of each kind.
    :ivar hops: of all batches that were sent, together.
    :ivar batch_bytes: of batches that arrived; :ivar fresh_bytes: of those with something that was missing.
    :ivar counts: of what is in ``COUNTED``; :ivar violations: what was broken, as text.
    :ivar latencies: of each delivery, in seconds.
    :ivar published: the last message of each run; :ivar kept: what of it its author has stored.
    :ivar born: when each message was published, by run and number.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.frames = self.bytes = self.hops = 0
        self.batch_bytes = self.fresh_bytes = 0
        self.kinds: dict[str, int] = {}
        self.counts = dict.fromkeys(COUNTED, 0)
        self.violations: list[str] = []
        self.latencies: list[float] = []
        self.published: dict[StreamId, int] = {}
        self.kept: dict[StreamId, int] = {}
        self.born: dict[tuple[StreamId, int], float] = {}

    def count_frame(self, frame: AnyFrame, size: int) -> None:
        """A frame of *size* bytes is sent."""
        self.frames += 1
        self.bytes += size
        if isinstance(frame, SignedBatch):
            self.hops += frame.hops + 1
        kind = type(frame.record if isinstance(frame, SignedRecord) else frame).__name__
        self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def count_arrived(self, member: Member, frame: AnyFrame) -> None:
        """A frame is about to be read."""
        if isinstance(frame, SignedBatch) and member.core is not None:
            batch, size = frame.batch, codec.size(frame)
            self.batch_bytes += size
            if member.core.history.next_missing((batch.origin, batch.epoch), batch.first, batch.last):
                self.fresh_bytes += size

    def count_published(self, run: StreamId) -> None:
        """*run* has one message more."""
        self.published[run] = self.published.get(run, 0) + 1
        self.born[run, self.published[run]] = self.now

    def count_stored(self, run: StreamId, head: int) -> None:
        """The author of *run* has stored it up to *head*."""
        self.kept[run] = head

    def violated(self, member: Member, kind: str, what: str) -> None:
        """Note a broken promise."""
        self.counts[kind] += 1
        self.violations.append(f"{self.now:.3f} s, node {member.number}: {kind}: {what}")

    def count_delivery(self, run: StreamId, first: int, count: int) -> None:
        """Measure a delivery."""
        self.counts["deliveries"] += count
        for sequence in range(first, first + count):
            born = self.born.get((run, sequence))
            if born is not None:
                self.latencies.append(self.now - born)

    def count_gap(self, member: Member, gap: events.GapFound) -> None:
        """A gap is false if a live neighbour holds what it names, and would give it away."""
        self.counts["gaps"] += 1
        mine = member.node.history.get((gap.origin, gap.epoch))
        if member.lies or (mine is not None and mine.equivocated):
            return  # an adversary hurts itself; what its author signed twice is pulled no more
        for link in member.links.values():
            other = link.other(member)
            if other.gives(gap):
                what = f"{show((gap.origin, gap.epoch))} {gap.first} to {gap.last}, held by {other.number}"
                self.violated(member, "false gaps", what)
