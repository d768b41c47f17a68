"""Takes in a batch that came over a link, up to its delivery.

Contract: :meth:`Inbound.batch` looks at numbers first, and at how many new authors the link has brought: a
duplicate costs no verification, and nor does an author too many.  Then it verifies the batch, holds it,
pushes it on and delivers it.  If the author packed a batch wrongly, the application gets one Poisoned
for it, and the link is not to blame.

Nearly every batch is the next one of its stream.  Then nothing that is asked of other batches is asked,
which takes 3 us of 27 that the core spends on a batch of one message (measured).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from twisted_mesh.core.admission import Admission, Hearing
from twisted_mesh.core.broadcast.forks import Forks
from twisted_mesh.core.broadcast.push import Push
from twisted_mesh.core.broadcast.repair import Repair
from twisted_mesh.core.broadcast.waiting import WaitingBatches
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Deliver, GapFound, Poisoned, StreamId
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.reader import entries_of
from twisted_mesh.core.history.stream import Ready, Skip
from twisted_mesh.core.link import Link
from twisted_mesh.core.shares import Kind
from twisted_mesh.errors import PoisonedBody, Reason, RemoteError
from twisted_mesh.wire.bodies import unpack_weighed
from twisted_mesh.wire.broadcast import SignedBatch, Want
from twisted_mesh.wire.link import Whisper

Outcome = Deliver | Poisoned | GapFound
"""What became of messages here: they were delivered, could not be unpacked, or will not come."""


@dataclass(eq=False)
class Inbound:
    """The batches that come in.

    :ivar waiting: the batches of authors that have not shown yet that they may speak.
    :ivar counts: how many frames were ignored so far, by reason.
    """

    _local_node: LocalNode
    _forks: Forks
    _history: History
    _repair: Repair
    _push: Push
    _admission: Admission
    _effects: Effects

    def __post_init__(self) -> None:
        self._run = (self._local_node.origin, self._local_node.epoch)
        self.waiting = WaitingBatches()
        self.counts = {"duplicates": 0, "no_room": 0, "poisoned": 0, "forked": 0, "beyond_cut": 0}

    def batch(self, link: Link, signed: SignedBatch, now: float) -> list[Outcome] | None:
        """Take in a batch that came over *link*; None if it is not held.

        :raises RemoteError: its signature is false; nothing of it is held.
        """
        batch = signed.batch
        run = (batch.origin, batch.epoch)
        asked = self._repair.is_asked(link.number, run)
        if self._history.is_beyond_cut(signed):  # its author was removed; the peer may not know it yet
            self.counts["beyond_cut"] += 1
            self._repair.dropped(link.number, run)
            return None
        link.frontier.extend(run, batch.first, batch.last)
        follows = run != self._run and self._history.follows(batch)
        if not follows and (run == self._run or self._history.is_duplicate(batch)):
            self._duplicate(link, signed, asked, now)
            return None
        if not follows and self._forks.is_forked(run):
            self.counts["forked"] += 1
            return None
        hearing = self._admission.hears(batch.origin)
        if hearing is Hearing.REFUSED:
            self._repair.dropped(link.number, run)
            return None
        shares = self._admission.shares
        is_answer = self._repair.is_answer(link.number, batch)
        kind = Kind.BATCH if follows or is_answer or self._history.is_known(run) else Kind.RUN
        if not is_answer and not shares.may_bring(link, batch.origin, kind, now, signed.size):
            self._repair.refused(link, run, now)
            return None
        # An author too many costs nothing more, unless this node has asked for it: a false answer is found.
        counts_first = not follows and not is_answer and hearing is Hearing.TAKEN
        if counts_first and not self._is_admitted(link, run, now):
            self._not_held(link, run)
            return None
        self._forks.verify(signed.header)
        shares.took(link, batch.origin, kind, now, signed.size, batch.count)
        if hearing is Hearing.WAITS:
            self._wait(link, signed, asked)
            return None
        if not follows and self._forks.is_found(link, signed.header, now):
            return None
        if not follows and not (
            self._history.has_room(signed) and (counts_first or self._is_admitted(link, run, now))
        ):
            self._not_held(link, run)
            return None
        if asked:
            self._repair.progressed(link, run, now, signed.size)
        link.repair.last_batch_at = now
        self._repair.arrived(link.number, run, batch.last, now)
        ready = self._history.add(signed, now, link.host)
        if asked:
            self._history.fetched(run, batch.count)
        if batch.origin == self._run[0]:
            self._history.accepted_of_earlier(run, batch.last)
        if not asked and self._history.waits_for_base(run):
            self._history.pushed(run, batch.first)
        self._push.arrived(link, signed, now, pulled=is_answer)
        return self._deliver(ready, link.number)

    def _not_held(self, link: Link, run: StreamId) -> None:
        """Note that a batch of *run* is not held.

        It is not pushed on either: it would go round in circles, new to each node.
        """
        self.counts["no_room"] += 1
        self._repair.dropped(link.number, run)

    def whisper(self, link: Link, frame: Whisper) -> None:
        """Deliver a whisper of the peer.

        :raises RemoteError: it cannot be unpacked.  Since it is unsigned, the link is to blame.
        """
        try:
            entries, size = unpack_weighed(frame.body)
        except PoisonedBody as error:
            raise RemoteError(error.detail, Reason.SHAPE) from None
        peer = link.peer
        verified = self._local_node.network.encrypted  # without TLS, a host on the way may have sent it
        self._effects.deliver(Deliver(link.number, peer.origin, peer.epoch, 0, 0, size, entries, verified))

    def _duplicate(self, link: Link, signed: SignedBatch, asked: bool, now: float) -> None:
        """Take in a batch of which all messages have come, as far as anybody knows."""
        run = (signed.batch.origin, signed.batch.epoch)
        self.counts["duplicates"] += 1
        self._forks.compare(link, signed, now)
        if not asked and self._history.waits_for_base(run):  # only a claim says that it came before
            self._forks.verify(signed.header)
            self._history.pushed(run, signed.batch.first)
        if not asked:
            self._push.duplicate(link, run, signed.batch.first, run == self._run, now)

    def _wait(self, link: Link, signed: SignedBatch, asked: bool) -> None:
        """Keep a batch until its author's record has come, and ask *link* for that record."""
        batch = signed.batch
        is_first, dropped = self.waiting.put(link.number, signed)
        self.counts["no_room"] += dropped
        self._repair.dropped(link.number, (batch.origin, batch.epoch))
        if is_first and not asked and not link.closing:  # an answer has the record in front
            # It asks for no message: what is wanted is the record, which comes before any answer.
            want = Want(batch.origin, batch.epoch, batch.last + 1, batch.last, graft=True)
            self._effects.send((link,), want)

    def _is_admitted(self, link: Link, run: StreamId, now: float) -> bool:
        """Whether the author of *run* is known here, or *link* may bring one more author."""
        return self._history.is_known(run) or self._admission.may_bring(link, run[0], now)

    def skipped(self, skips: Iterable[Skip], now: float) -> Iterator[Outcome]:
        """Report each gap, and deliver the batches that waited behind it."""
        for gap, behind in skips:
            outcomes: list[Outcome] = []
            if gap.first <= gap.last and gap.origin != self._run[0]:  # own runs are never delivered here
                self._effects.emit(gap)
                outcomes.append(gap)
            outcomes += self._deliver(behind)
            self._push.went_on((gap.origin, gap.epoch), now)
            yield from outcomes

    def _deliver(self, ready: Iterable[Ready], link: int = 0) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for item in ready:
            signed, first = item.signed, item.start
            batch = signed.batch
            if batch.origin == self._run[0]:
                continue  # an own run is relayed, and never delivered here
            run = (batch.origin, batch.epoch)
            outcome: Outcome
            try:
                entries, size = entries_of(signed)
            except PoisonedBody as error:
                self.counts["poisoned"] += 1
                outcome = Poisoned(*run, first, batch.last, error)
                self._effects.emit(outcome)
            else:
                outcome = Deliver(link, *run, first, batch.sent, size, entries[first - batch.first :])
                self._effects.deliver(outcome)
            outcomes.append(outcome)
        return outcomes
