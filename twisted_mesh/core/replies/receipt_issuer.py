"""Receipts this node gives: what it has taken of others' messages.

Contract: a member answers for the ranges it has *taken* without a hole, up to the highest message that
asks for it, no faster than its author can verify (``receipt_relay`` sees to that).  What
is lost is repeated: at once when a link is lost or the author is back, else ever more rarely, and each time
over other ways, too, up to three of them, so that no relay alone can hold it up; as long as the stream is
held, or its author says that it waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.backoff import backoff
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Awaited, GapFound, StreamId
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.stream import Stream
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.core.replies.owed_receipt import OwedReceipt
from twisted_mesh.core.replies.receipt_relay import OnWay, ReceiptRelay
from twisted_mesh.core.signing import Signer
from twisted_mesh.wire.membership import PresenceFlags, Role
from twisted_mesh.wire.replies import MAX_TRIES, Receipt

_WAYS: Final = 3  # that a repeat goes over once more: one at a time ended at one relay (measured)


class ReceiptIssuer:
    """The receipts a node gives.

    :ivar owed: what others want to hear, by run.
    :ivar waiting: those of them of which the application has not taken what asks.
    :ivar wake: when to call :meth:`repeat` next, or None.
    """

    def __init__(
        self,
        local_node: LocalNode,
        config: MeshConfig,
        history: History,
        roster: Roster,
        relay: ReceiptRelay,
        effects: Effects,
    ) -> None:
        """
        :param relay: is told of the runs that are owed a receipt; :meth:`own` makes it when it may go.
        """
        self._local_node = local_node
        self._config = config
        self._signer = Signer(local_node)
        self._history = history
        self._roster = roster
        self._relay = relay
        self._effects = effects
        self.owed: dict[StreamId, OwedReceipt] = {}
        self.waiting: dict[StreamId, None] = {}
        self._newest: dict[bytes, int] = {}  # epoch of the one run of an author that is in *owed*
        self.wake: float | None = None

    # ── what this node has taken ────────────────────────────────────────────────────

    def asks(self, run: StreamId, sequence: int, now: float) -> None:
        """A message that is delivered asks who has it.

        If there is a store, the application has a message once it is stored that it has taken it.
        """
        stream = self._history.get(run)
        if stream is None or self._local_node.role is Role.GUEST or not self._is_newest(run):
            return
        owed = self._owed(stream, stream.base)
        owed.asks_up_to = max(owed.asks_up_to, sequence)
        if owed.asks_up_to <= owed.taken:
            return
        self.waiting[run] = None
        if self._history.is_stored:
            self.stored((run,), now)
        else:
            self._effects.emit(Awaited(run, owed.asks_up_to, stream.head, owed.taken))

    def stored(self, runs: Iterable[StreamId], now: float) -> None:
        """What the application had taken of *runs* is stored."""
        for run in runs:
            stream = self._history.get(run)
            if run in self.waiting and stream is not None and stream.kept > self.owed[run].taken:
                self.taken(run, stream.kept, now)

    def asks_still(self, run: StreamId, sequence: int, now: float) -> None:
        """The newest record of an author asks who has all up to *sequence*."""
        self.asks(run, sequence, now)
        owed = self.owed.get(run)
        if owed is None:
            return
        begins_above = owed.low > 1 and not owed.tries  # it may wait for what never comes here
        has_ended = owed.tries and owed.again is None and self._history.get(run) is None
        if begins_above or has_ended:  # the repeats ended with the stream, and it may not have one
            self._tell(run, owed, now)

    def taken(self, run: StreamId, sequence: int, now: float) -> None:
        """The application has taken *run* up to *sequence*, maybe when the stream was closed already."""
        owed = self.owed.get(run)
        if owed is None:
            return
        stream = self._history.get(run)
        if stream is not None:
            owed = self._owed(stream, stream.base)
        owed.taken = max(owed.taken, sequence)
        self._look(run, owed, now)

    def gap(self, gap: GapFound, now: float) -> None:
        """Something will not come: it may have asked who has it, so its author should know."""
        run = (gap.origin, gap.epoch)
        stream = self._history.get(run)
        if stream is None or self._local_node.role is Role.GUEST or not self._is_newest(run):
            return
        known = self.owed.get(run)
        owed = self._owed(stream, gap.last)
        if owed is not known:
            owed.told = (0, 0)
        else:
            owed.lacks(gap.first, gap.last)
        self._look(run, owed, now)

    def skipped(self, run: StreamId, sequence: int, now: float) -> None:
        """The application will not take all of *run* up to *sequence*."""
        owed = self.owed.get(run)
        if owed is None:
            self.gap(GapFound(*run, sequence, sequence), now)
        elif sequence >= owed.low:
            owed.gaps = [gap for gap in owed.gaps if gap[1] > sequence]
            owed.begins_at(sequence + 1, owed.taken if owed.taken < sequence else 0)
            self._look(run, owed, now)

    def link_gone(self, link: int, now: float) -> None:
        """A link is gone: what went over it lately may be lost."""
        for run, owed in self.owed.items():
            if owed.route == link:
                self._tell_anew(run, owed, now)

    def link_up(self, now: float) -> None:
        """There is another way: what had none can go."""
        for run, owed in self.owed.items():
            if owed.tries and not owed.route:
                self._tell_anew(run, owed, now)

    def returned(self, author: bytes, now: float) -> None:
        """An author that was gone is back."""
        for run, owed in self.owed.items():
            if run[0] == author and owed.tries:
                self._tell_anew(run, owed, now)

    def _is_newest(self, run: StreamId) -> bool:
        """Whether somebody may wait to hear of *run*: one author's runs are no more work than one run."""
        return run[1] >= max(self._newest.get(run[0], 0), self._roster.rank(run[0])[0])

    def _owed(self, stream: Stream, taken: int) -> OwedReceipt:
        run = stream.run
        known = owed = self.owed.get(run)
        if known is not None and stream.base > known.base:  # it was closed, and goes on from there
            known.base = stream.base
        if owed is None or owed.base != stream.base:  # it was lowered: what counted as taken may come
            owed = self.owed[run] = OwedReceipt(stream.base, stream.whole, taken)
            owed.asks_up_to = 0 if known is None else known.asks_up_to
            if known is None and run[0] in self._newest:
                self._forget((run[0], self._newest[run[0]]))
            self._newest[run[0]] = run[1]
            while len(self.owed) > self._config.open_streams:
                self._forget(next(iter(self.owed)))
        return owed

    def _look(self, run: StreamId, owed: OwedReceipt, now: float) -> None:
        """Tell what is news of what the application has."""
        owed.goes_on()
        if owed.taken >= owed.asks_up_to:
            self._wait_no_more(run)
        if owed.range != owed.told:
            self._tell_anew(run, owed, now)

    def _tell_anew(self, run: StreamId, owed: OwedReceipt, now: float) -> None:
        owed.tries = 0
        self._tell(run, owed, now)

    def _tell(self, run: StreamId, owed: OwedReceipt, now: float) -> None:
        owed.told = owed.range
        owed.again = None
        self._relay.owe(run, now)

    # ── time ────────────────────────────────────────────────────────────────────────

    def repeat(self, now: float) -> None:
        """Tell again what is due."""
        for run, owed in list(self.owed.items()):
            if owed.again is not None and owed.again <= now:
                if self._history.get(run) is not None or self._is_waited_for(run):
                    self._tell(run, owed, now)
                else:
                    owed.again = None  # it is told again when its author asks again

    def schedule(self) -> None:
        """Receipts have gone out: when the next is to be repeated is known only now."""
        times = [owed.again for owed in self.owed.values() if owed.again is not None]
        self.wake = min(times, default=None)

    def _is_waited_for(self, run: StreamId) -> bool:
        """Whether its author waits for receipts, as it said last."""
        entry = self._roster.get(run[0])
        if entry is None or entry.presence.epoch != run[1]:
            return False
        return bool(entry.presence.flags & PresenceFlags.ASKS)

    def _forget(self, run: StreamId) -> None:
        del self.owed[run], self._newest[run[0]]
        if run in self.waiting and not self._history.is_stored:
            self._effects.emit(Awaited(run, 0, 0, 0))
        self._wait_no_more(run)

    def _wait_no_more(self, run: StreamId) -> None:
        self.waiting.pop(run, None)

    def own(self, run: StreamId, ways: Sequence[Link], now: float) -> Iterator[OnWay]:
        """The receipts this node owes of *run*, and over which of the links *ways* each is to go.

        That is the best, which may be another by now; and where they are told again some of the others.
        """
        owed = self.owed.get(run)
        if owed is None:
            return
        owed.route = ways[0].number if ways else 0
        config = self._config
        owed.again = now + backoff(config.receipt_repeat, owed.tries, config.receipt_repeat_longest)
        tries, owed.tries = min(owed.tries, MAX_TRIES), owed.tries + 1
        for low, high in (*owed.closed, owed.told) if ways else ():
            receipt = Receipt(*run, low, high, self._local_node.origin, self._local_node.epoch)
            signed = self._signer.receipt(receipt)
            yield ways[0].number, signed
            again = [ways[(tries + more) % len(ways)].number for more in range(min(tries, _WAYS))]
            for way in dict.fromkeys(again):
                yield way, replace(signed, tries=tries)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "owed_receipts": len(self.owed),
            "owed_ranges": sum(len(owed.closed) + len(owed.gaps) for owed in self.owed.values()),
        }
