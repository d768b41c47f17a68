"""What two nodes tell each other of what they hold: when their link comes up, and ever again.

Contract: :meth:`Frontier.tell` says what this node holds as the first word on a new link, a SNAPSHOT, or
a DIGEST where both ends are settled; :meth:`Frontier.on_snapshot`, :meth:`Frontier.on_digest` and
:meth:`Frontier.on_have` take the peer's word for it, as far as it goes: a claim is unsigned, so it makes
this node ask, and never believe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core import events
from twisted_mesh.core.broadcast import digest, joining
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.broadcast.patience import Patience
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import DIGEST_PAUSE, Link
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire import native
from twisted_mesh.wire.native import Have

_CLAIM_AHEAD: Final = 2**20  # messages a claim may go beyond signed evidence; more is a lie (protocol)


class Frontier:
    """The frontiers of this node and of its peers.

    :ivar settled: whether a snapshot has told this node where to start.
    :ivar is_void: whether the run must begin anew, so that nothing more counts.
    """

    def __init__(
        self,
        config: MeshConfig,
        history: History,
        outbox: Outbox,
        repair: Repair,
        push: Push,
        patience: Patience,
        effects: Effects,
        announced: Callable[[int], None],
        settled: bool,
    ) -> None:
        """
        :param announced: is told up to which message a neighbour says that it has the own run.
        """
        self._config = config
        self._history = history
        self._outbox = outbox
        self._repair = repair
        self._push = push
        self._patience = patience
        self._effects = effects
        self._announced = announced
        self.settled = settled
        self.is_void = False

    def tell(self, link: Link, older: Link | None, settled: bool, now: float) -> None:
        """The first word on a new link.

        :param older: the link to the same node that was kept so far, if there is one.
        :param settled: what this node said of itself in the handshake.
        """
        frontier = link.frontier
        frontier.compares = settled and link.peer.settled
        if frontier.compares:
            self._effects.send((link,), self.digest())
        else:
            # What went over an older link to the same node may still be on its way: a base that
            # counts it would, if it came first, make the newcomer take it for old.
            same = older is not None and older.peer.epoch == link.peer.epoch
            frontier.bases = older.frontier.bases if older is not None and same else None
            if frontier.bases is None:
                frontier.bases = joining.bases(self._history, self._outbox, link.peer.replay, now)
            for frame in joining.snapshot(self._history, frontier.bases):
                self._effects.send((link,), frame)

    def digest(self) -> native.Digest:
        """What is held, to be compared."""
        return digest.digest(self._heads())

    def on_snapshot(self, link: Link, frame: native.Snapshot, now: float) -> bool:
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
        taken = joining.epoch_taken(frontier.snapshot, self._outbox)
        if taken is not None:
            self.is_void = True
            self._effects.emit(events.EpochConflict(taken))
            frontier.snapshot = []
            return False
        self.settled = True
        joining.settle(self._history, frontier.snapshot, self._outbox.run, now)
        return True

    def claimed_by_snapshot(self, link: Link, now: float) -> None:
        """Take what the peer's snapshot claims, now that the link is up."""
        entries, link.frontier.snapshot = link.frontier.snapshot, []
        for entry in entries:
            self._claimed(link, (entry.origin, entry.epoch), entry.low, entry.high, now, eager=True)

    def on_digest(self, link: Link, frame: native.Digest, now: float) -> None:
        """What the peer holds, in short: tell what of it is not the same here."""
        if link.frontier.compared_at + DIGEST_PAUSE > now:
            return  # honest ones come every compare_interval, and the next tells the same
        link.frontier.compared_at = now
        heads = dict(self._heads())
        differing = dict.fromkeys(digest.differing(heads.items(), frame))
        if not link.closing:
            self._push.announce(link, list(differing))
        for run, head in heads.items():
            if run in differing:
                continue
            if link.frontier.holds(run) < head:  # the peer knows as much
                link.frontier.claim(run, head + 1, head)
            self._taken_there(run, head)

    def on_have(self, link: Link, frame: Have, now: float) -> None:
        """What the peer holds of some streams."""
        for entry in frame.streams:
            run = (entry.origin, entry.epoch)
            eager = entry.origin not in link.push.lazy_by_us
            self._claimed(link, run, entry.low, entry.high, now, eager=eager)
            if entry.coming:
                self._patience.heard(run, entry.coming, now)
            if entry.coming == 1:
                link.push.note_coming(run, now)
            if frame.answer:
                self._repair.answered(link.number, run, now)

    def _claimed(self, link: Link, run: StreamId, low: int, high: int, now: float, *, eager: bool) -> None:
        self._taken_there(run, high)
        if run == self._outbox.run:
            link.frontier.claim(run, low, min(high, self._outbox.head))
            return
        stream = self._history.get(run)
        evidence = self._history.head(run) if stream is None else stream.high
        high = min(high, evidence + _CLAIM_AHEAD)
        link.frontier.claim(run, low, high)
        if high > self._history.head(run) and not link.closing:
            self._repair.announced(link, run, now, eager=eager)

    def _taken_there(self, run: StreamId, high: int) -> None:
        """A neighbour has everything of *run* up to *high*, which matters of own runs."""
        if run == self._outbox.run:
            self._announced(high)
        elif run[0] == self._outbox.run[0]:
            self._history.taken_of_earlier(run, high)

    def _heads(self) -> list[tuple[StreamId, int]]:
        return [(stream.run, stream.head) for stream in self._history if stream.head]
