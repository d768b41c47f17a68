"""Where streams begin for a node: the snapshot a neighbour tells, and the base it becomes.

Contract: joining fixes what is *delivered*, never what is *held*.  What lies at or under the base is
pulled, held and handed on like anything else, so that a newcomer between two groups hides nothing
from either; it is only not delivered.  A stream met later starts at 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import EpochConflict, GapFound, StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.stream import Ready
from twisted_mesh.core.link import Link
from twisted_mesh.errors import LocalError, Reason, RemoteError
from twisted_mesh.identity import MOST_CLAIMED
from twisted_mesh.wire.broadcast import Snapshot, SnapshotEntry
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.membership import Presence

STREAMS_A_FRAME: Final = 800  # at most 71 bytes each, so under the 64 KiB of a frame


def replay_number(replay: float | str | None) -> int:
    """*replay* as INTRO says it.

    :param replay: seconds of the past, ``"all"`` that is held, or None for nothing.
    :raises LocalError: it is something else.
    """
    if replay is None:
        return 0
    if replay == "all":
        return MAX_NUMBER
    if type(replay) not in (int, float) or not 0 < replay < MAX_NUMBER:  # type: ignore[operator]
        raise LocalError(f"replay is a positive number of seconds or 'all', not {replay!r}")
    return ceil(replay)  # type: ignore[arg-type]


def bases(history: History, outbox: Outbox, replay: int, now: float) -> dict[StreamId, int]:
    """Where a newcomer starts in each stream, as things are now.

    It is the head of each; of own ones it is what a neighbour has taken: the rest has reached
    nobody yet, and the newcomer is the first to get it.  Where it asks for a replay it starts before
    the first message that came here within that time and is held.

    :param replay: seconds, 0 for none, MAX_NUMBER for all that is held.
    """
    starts = {}
    for stream in history:
        if stream.head:
            start = stream.head
            if stream.run[0] == outbox.run[0]:
                start = outbox.taken if stream.run == outbox.run else stream.base
            if replay:
                first = stream.low if replay == MAX_NUMBER else stream.first_since(replay, now)
                start = min(start, first - 1)
            starts[stream.run] = start
    return starts


def snapshot(
    history: History, starts: Mapping[StreamId, int], peer: StreamId | None = None
) -> Iterable[Snapshot]:
    """The frontier of a node, in frames.

    :param starts: the bases to tell; a stream that is not among them starts at its first message.
    :param peer: the run of the peer.  If its number was used before, by a run of which nothing is held any
        more, the peer must know, too: its messages would be taken for those of that run.
    """
    entries = [
        SnapshotEntry(*stream.run, stream.low, stream.head, min(starts.get(stream.run, 0), stream.head))
        for stream in history
        if stream.head
    ]
    if peer is not None:
        entries += (SnapshotEntry(*run, head + 1, head, head) for run, head in history.closed_from(peer))
    for at in range(0, max(len(entries), 1), STREAMS_A_FRAME):
        last = at + STREAMS_A_FRAME >= len(entries)
        yield Snapshot(last, entries[at : at + STREAMS_A_FRAME])


def epoch_conflict(entries: Iterable[SnapshotEntry], outbox: Outbox) -> int | None:
    """The highest epoch of the own key that others know and that is not below the own run's, if any.

    It means that the key's epochs were not kept, or that the clock went back: numbers of such a run
    would be used again for other messages.  The claim is unsigned, so one that no clock can have
    given is passed over: it would use up the epochs of this key.
    """
    origin, epoch = outbox.run
    known = [
        entry.epoch
        for entry in entries
        if entry.origin == origin
        and entry.epoch <= MOST_CLAIMED
        and (entry.epoch > epoch or (entry.epoch == epoch and entry.high > outbox.head))
    ]
    return max(known, default=None)


def settle(history: History, entries: Iterable[SnapshotEntry], own: StreamId, now: float) -> None:
    """Start where the first snapshot says."""
    for entry in entries:
        run = (entry.origin, entry.epoch)
        if run != own:
            # What lies above the base and is held there no more may be held elsewhere, or is a gap.
            history.start_at(run, min(entry.low - 1, entry.base), entry.base, now)


class Joining:
    """The beginnings of a node's streams.

    :ivar settled: whether this node has a base: a neighbour's snapshot has told it where to start.
    :ivar settled_by: the link that this came over, until the peer's roster has come, too.
    :ivar believes_claims: whether a peer that claims a run of the own key can make this node begin another.
    :ivar is_void: whether the run must begin anew, so that nothing more counts.
    """

    def __init__(
        self, config: MeshConfig, history: History, outbox: Outbox, effects: Effects, settled: bool
    ) -> None:
        self._config = config
        self._history = history
        self._outbox = outbox
        self._effects = effects
        self.settled = settled
        self.settled_by: int | None = None
        self.believes_claims = True
        self.is_void = False

    def tell(self, link: Link, older: Link | None, now: float) -> None:
        """Tell the peer of a new link what is held, and where to start.

        :param older: the link to the same node that was kept so far, if there is one.
        """
        # What went over an older link to the same node may still be on its way: a base that
        # counts it would, if it came first, make the newcomer take it for old.
        same = older is not None and older.peer.epoch == link.peer.epoch
        frontier = link.frontier
        frontier.bases = older.frontier.bases if older is not None and same else None
        if frontier.bases is None:
            frontier.bases = bases(self._history, self._outbox, link.peer.replay, now)
        for frame in snapshot(self._history, frontier.bases, (link.peer.origin, link.peer.epoch)):
            self._effects.send((link,), frame)

    def on_snapshot(self, link: Link, frame: Snapshot, now: float) -> bool:
        """The peer's frontier, or a part of it; whether it is whole now, and believed."""
        frontier = link.frontier
        if link.frontier_received or frontier.compares:
            raise RemoteError("a snapshot that has no place here", Reason.ORDER)
        frontier.snapshot.extend(frame.streams)
        if len(frontier.snapshot) > self._config.claims_limit:
            raise RemoteError("a snapshot of too many streams", Reason.LIMIT)
        if not frame.last:
            return False
        if self.settled:
            return True
        # Claims are unsigned: they count once in the life of a process, and not if a peer could get the
        # same messages in both runs.  If one is passed over that is true, what it names is pulled, and
        # proves it.
        may_begin_anew = self.believes_claims and not self._effects.has_published
        conflict = epoch_conflict(frontier.snapshot, self._outbox) if may_begin_anew else None
        if conflict is not None:
            self.is_void = True
            self._effects.emit(EpochConflict(conflict))
            frontier.snapshot = []
            return False
        self.settled, self.settled_by = True, link.number
        settle(self._history, frontier.snapshot, self._outbox.run, now)
        return True

    def start(self, presence: Presence, now: float) -> None:
        """The first neighbour has told all: if it knew of no stream, what the author says counts."""
        run, sequence = (presence.origin, presence.epoch), presence.sequence
        if sequence and not self._history.head(run) and self._history.get(run) is None:
            self._history.start_at(run, sequence, sequence, now)
        self._history.hinted(run, sequence, now)

    def lowered(
        self, run: StreamId, sequence: int, at_join: tuple[int, int] | None
    ) -> tuple[GapFound, list[Ready]] | None:
        """Its author says that *run* has come to *sequence*: what its base, if that is lowered, lets go.

        :param at_join: the epoch and the sequence of the author when this node joined.
        """
        start = at_join[1] if at_join is not None and at_join[0] == run[1] else sequence
        return self._history.lowered(run, sequence, start)
