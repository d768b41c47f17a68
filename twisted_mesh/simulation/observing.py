"""Counts the events of a simulated world, and checks the promises that must hold all the time.

Contract: an application is told of a gap only if no neighbour holds the missing messages.  Each member
checks the order of its deliveries, and :mod:`~twisted_mesh.simulation.invariants.judge` the world at rest.
"""

from __future__ import annotations

from twisted_mesh.core import events
from twisted_mesh.core.events import StreamId
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.trace import AnyFrame, show
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import SignedBatch
from twisted_mesh.wire.signed import SignedRecord

#: The kinds of broken promises.
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
    "outsiders",
)
COUNTED = ("deliveries", "gaps", *BROKEN)


class Observed:
    """The counts of one world.

    :ivar now: seconds since the world began.
    :ivar frames: frames sent; :ivar bytes: bytes in all of them; :ivar kinds: frames of each kind.
    :ivar hops: the links that all batches together have gone over.
    :ivar batch_bytes: bytes of all batches that arrived; :ivar fresh_bytes: of those that were not held.
    :ivar counts: events of each kind in ``COUNTED``; :ivar violations: the broken promises, as text.
    :ivar gaps: the gaps that were told, each with the member that was told.
    :ivar latencies: seconds from publishing to delivery, of each delivery.
    :ivar published: the last message of each run; :ivar kept: the last one that its author has stored.
    :ivar born: when each message was published, by run and number.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.frames = self.bytes = self.hops = 0
        self.batch_bytes = self.fresh_bytes = 0
        self.kinds: dict[str, int] = {}
        self.counts = dict.fromkeys(COUNTED, 0)
        self.violations: list[str] = []
        self.gaps: list[tuple[Member, events.GapFound]] = []
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
        """A frame has arrived at *member*, whose core has not read it yet."""
        if isinstance(frame, SignedBatch) and member.core is not None:
            batch, size = frame.batch, codec.size(frame)
            self.batch_bytes += size
            if member.core.history.next_missing((batch.origin, batch.epoch), batch.first, batch.last):
                self.fresh_bytes += size

    def count_published(self, run: StreamId) -> None:
        """The author of *run* has published one more message."""
        self.published[run] = self.published.get(run, 0) + 1
        self.born[run, self.published[run]] = self.now

    def count_stored(self, run: StreamId, head: int) -> None:
        """The author of *run* has stored its messages up to *head*."""
        self.kept[run] = head

    def violated(self, member: Member, kind: str, what: str) -> None:
        """Note a broken promise."""
        self.counts[kind] += 1
        self.violations.append(f"{self.now:.3f} s, node {member.number}: {kind}: {what}")

    def count_delivery(self, run: StreamId, first: int, count: int) -> None:
        """*count* messages of *run*, from *first* on, were delivered to a member."""
        self.counts["deliveries"] += count
        for sequence in range(first, first + count):
            born = self.born.get((run, sequence))
            if born is not None:
                self.latencies.append(self.now - born)

    def count_gap(self, member: Member, gap: events.GapFound) -> None:
        """Count a gap; it is false if a neighbour of *member* could send some of its messages."""
        self.counts["gaps"] += 1
        self.gaps.append((member, gap))
        mine = member.node.history.get((gap.origin, gap.epoch))
        if member.lies or (mine is not None and mine.equivocated):
            return  # nobody pulls from an author that signed two messages under one number
        for link in member.links.values():
            other = link.other(member)
            if other.gives(gap):
                what = f"{show((gap.origin, gap.epoch))} {gap.first} to {gap.last}, held by {other.number}"
                self.violated(member, "false gaps", what)
