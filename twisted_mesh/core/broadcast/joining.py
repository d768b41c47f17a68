"""Where streams begin for a node: a neighbour's SNAPSHOT gives each stream a *base*.

Contract: joining decides which messages are *delivered*, never which are *held*.  Messages up to the
base are pulled, held and handed on like any others, but not delivered.  So a newcomer that links two
groups passes on all messages of each.  A stream that this node meets later starts at message 1.  But a run
that had ended before this node joined is not delivered, whichever node sends it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.forks import Forks
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import StreamId, Timer
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.stream import BEYOND_ALL, Skip
from twisted_mesh.core.link import Link
from twisted_mesh.core.renewal import Renewal
from twisted_mesh.errors import LocalError, Reason, RemoteError
from twisted_mesh.identity import MOST_CLAIMED
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import SignedHeader, Snapshot, SnapshotEntry
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.membership import Presence

STREAMS_A_FRAME: Final = 150  # entries of at most 425 bytes: a frame is under 64 KiB


def replay_number(replay: float | str | None) -> int:
    """The number that stands for *replay* in INTRO.

    :param replay: seconds of the past, ``"all"`` for all messages that are held, or None for none.
    :raises LocalError: *replay* is something else.
    """
    if replay is None:
        return 0
    if replay == "all":
        return MAX_NUMBER
    if type(replay) not in (int, float) or not 0 < replay < MAX_NUMBER:  # type: ignore[operator]
        raise LocalError(f"replay is a positive number of seconds or 'all', not {replay!r}")
    return ceil(replay)  # type: ignore[arg-type]


def bases(history: History, outbox: Outbox, replay: int, now: float) -> dict[StreamId, int]:
    """The base of each stream for a newcomer that joins now.

    The base is the head.  In a stream of this node it is the last message that a neighbour has accepted:
    the newcomer may be the first to get the later ones.  With a replay, the base is the message before the
    first one that came here within that time and is held.

    :param replay: seconds; 0 for none, MAX_NUMBER for all messages that are held.
    """
    starts = {}
    for stream in history:
        if stream.head:
            start = stream.head
            if stream.run[0] == outbox.run[0]:
                start = outbox.accepted if stream.run == outbox.run else stream.base
            if replay:
                first = stream.low if replay == MAX_NUMBER else stream.first_since(replay, now)
                start = min(start, first - 1)
            starts[stream.run] = start
    return starts


def snapshot(
    history: History, starts: Mapping[StreamId, int], peer: StreamId | None = None
) -> Iterable[Snapshot]:
    """The frontier of a node, in frames.

    :param starts: the base of each stream; a stream without one starts at its first message.
    :param peer: the run of the peer.  Closed runs of its key that are not older than this run are told,
        too: its messages could be mistaken for those of such a run.
    """
    entries = [
        SnapshotEntry(
            *stream.run, stream.low, stream.head, min(starts.get(stream.run, 0), stream.head), stream.proof
        )
        for stream in history
        if stream.head
    ]
    if peer is not None:
        entries += (
            SnapshotEntry(*run, head + 1, head, head, b"") for run, head in history.past.closed_from(peer)
        )
    for at in range(0, max(len(entries), 1), STREAMS_A_FRAME):
        last = at + STREAMS_A_FRAME >= len(entries)
        yield Snapshot(last, entries[at : at + STREAMS_A_FRAME])


def epoch_conflict(entries: Iterable[SnapshotEntry], outbox: Outbox) -> int | None:
    """The highest epoch of this node's key that *entries* name, unless that is below its own run's.

    Then the epoch was not kept, or the clock went back: the own run would give numbers of earlier messages
    to other ones.  The entries are unsigned.  An epoch that no clock can have given is ignored, since
    otherwise a peer could use up the epochs of this key.
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


@dataclass(eq=False)
class Joining:
    """The beginnings of a node's streams.

    A base is a neighbour's claim.  It counts as far as it is *proven*: the author has signed that the
    messages exist, in the header in the SNAPSHOT, or in the record in the roster behind the SNAPSHOT.
    Until that roster has come, no message is delivered of a stream whose base is not proven.

    :ivar settled: whether a neighbour's SNAPSHOT has said where this node starts.
    :ivar settled_by: the link of that SNAPSHOT, until the peer's roster has come, too.
    :ivar believes_claims: whether a peer that claims a run of this node's key makes this node begin a new
        run.
    :ivar is_void: whether this run must be replaced by a new one, so that no frame counts any more.
    """

    _forks: Forks
    _renewal: Renewal
    _config: MeshConfig
    _history: History
    _outbox: Outbox
    _effects: Effects
    settled: bool
    settled_by: int | None = None
    believes_claims: bool = True
    is_void: bool = False
    #: The base, how much is proven, and whether the peer held messages above the base.
    _told: dict[StreamId, tuple[int, int, bool]] = field(default_factory=dict)

    @property
    def knows_bases(self) -> bool:
        """Whether the base of each stream is known: the SNAPSHOT has come, and the roster behind it."""
        return self.settled and self.settled_by is None

    def send_snapshot(self, link: Link, older: Link | None, now: float) -> None:
        """Send the peer of a new link the streams that are held here, and their bases.

        :param older: the link to the same node that was kept so far, if there is one.
        """
        # Messages sent over an older link to the same run may still be on their way.  A new base would
        # include them.  If that base came first, the newcomer would not deliver these messages.
        same = older is not None and older.peer.epoch == link.peer.epoch
        frontier = link.frontier
        frontier.bases = older.frontier.bases if older is not None and same else None
        if frontier.bases is None:
            frontier.bases = bases(self._history, self._outbox, link.peer.replay, now)
        for frame in snapshot(self._history, frontier.bases, (link.peer.origin, link.peer.epoch)):
            self._effects.send((link,), frame)

    def on_snapshot(self, link: Link, frame: Snapshot, now: float) -> bool:
        """Take in a part of the peer's SNAPSHOT; return whether it is complete, and believed."""
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
        # Claims are unsigned: this node begins a new run for them once in the life of a process, and only
        # if it has published nothing.  Otherwise the messages of a true claim are pulled, and prove it.
        may_begin_anew = self.believes_claims and not self._effects.has_published
        conflict = epoch_conflict(frontier.snapshot, self._outbox) if may_begin_anew else None
        if conflict is not None:
            self.is_void = True
            self._renewal.ask(conflict, now)
            frontier.snapshot = []
            return False
        headers = [self._header(entry) for entry in frontier.snapshot]
        self.settled, self.settled_by = True, link.number
        self._history.is_joining = True
        self._effects.set_timer(Timer.JOINING, now + self._config.gap_patience)
        for entry, header in zip(frontier.snapshot, headers, strict=True):
            self._begin(entry, header, now)
        return True

    def _header(self, entry: SnapshotEntry) -> SignedHeader | None:
        """The header that proves how far the stream of *entry* has come, or None.

        :raises RemoteError: it is no header of that run, or not signed by the author.
        """
        if not entry.proof:
            return None
        header = codec.unpack_header(entry.proof)
        if (header.batch.origin, header.batch.epoch) != (entry.origin, entry.epoch):
            raise RemoteError("the header of another run in a snapshot", Reason.SHAPE)
        self._forks.verify(header)
        return header

    def _begin(self, entry: SnapshotEntry, header: SignedHeader | None, now: float) -> None:
        """Begin the stream of *entry*."""
        run, proven = (entry.origin, entry.epoch), 0 if header is None else header.batch.last
        if run == self._outbox.run:
            return
        base = entry.base if entry.base <= proven else None
        self._told[run] = entry.base, proven, entry.base < entry.high
        # Messages above the base that the peer lacks may be held elsewhere; if not, they are a gap.
        self._history.start_at(run, min(entry.low - 1, entry.base), base, now, header)

    def start(self, records: Sequence[Presence], now: float) -> Iterator[tuple[StreamId, Skip]]:
        """Let all streams begin: the first neighbour has told its roster, or will tell nothing more.

        If the neighbour named no stream of an author, the base is the number in the author's record.  If it
        told a base that the header did not prove, the base counts up to the greater of the numbers in
        header and record; it stays below each message that was pushed since the SNAPSHOT, because the
        record may be newer.  A run older than the record's, or than a later header's, had ended before this
        node joined.

        :param records: the newest record of each author on the roster.
        :return: the runs whose base is known now, and what can be delivered of them.
        """
        self.settled_by = None
        told, self._told = self._told, {}
        newest = {presence.origin: presence.epoch for presence in records}
        sequences = {(presence.origin, presence.epoch): presence.sequence for presence in records}
        for (origin, epoch), (_, proven, _) in told.items():
            if proven:
                newest[origin] = max(epoch, newest.get(origin, 0))
        newest.pop(self._outbox.run[0], None)
        self._history.is_joining = False
        self._history.past.joined(newest)
        newest[self._outbox.run[0]] = self._outbox.run[1]
        settling = [stream.run for stream in self._history if stream.settles]
        for run in settling:
            base, proven, has_more = told.get(run, (0, 0, False))
            if newest.get(run[0], 0) <= run[1]:
                base = min(base, max(proven, sequences.get(run, 0)), self._history.before_pushed(run))
            elif not has_more and run[0] != self._outbox.run[0]:
                base = BEYOND_ALL
            yield run, self._history.settle(run, base)
        for run, (_, _, has_more) in told.items():
            if run[1] < newest.get(run[0], 0) and not has_more and run[0] != self._outbox.run[0]:
                self._history.end(run)  # else somebody may repeat what the neighbour did not hold
        for presence in records:
            run, sequence = (presence.origin, presence.epoch), presence.sequence
            if sequence and not self._history.head(run) and self._history.get(run) is None:
                self._history.start_at(run, sequence, sequence, now)
