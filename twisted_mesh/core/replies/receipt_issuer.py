"""The receipts that this node gives for messages of others which its application has taken.

Contract: a member signs for the ranges that its application has *taken* without a hole, up to the highest
message that asks for a receipt.  ``receipt_relay`` sends receipts no faster than the author can verify
them.  A receipt is repeated as long as the stream is held, or its author says that it waits for receipts:
at once when a link is lost or the author is back, and otherwise ever more rarely.  Each repeat goes over up
to three other links, too, so that no single relay can stop it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from msgspec.structs import replace

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Awaited, GapFound, StreamId
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.stream import BEYOND_ALL, Stream
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.core.rate import backoff
from twisted_mesh.core.replies.owed_receipt import OwedReceipt
from twisted_mesh.core.replies.receipt_relay import OnWay, ReceiptRelay
from twisted_mesh.core.signing import Signer
from twisted_mesh.wire.membership import PresenceFlags, Role
from twisted_mesh.wire.replies import MAX_TRIES, Receipt

_WAYS: Final = 3  # other links for a repeat: with only one, all repeats met the same relay (measured)


@dataclass(eq=False)
class ReceiptIssuer:
    """The receipts that a node gives.

    :ivar owed: the receipts that authors want, by run.
    :ivar waiting: the runs in which the application has not taken all messages that ask for a receipt.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _history: History
    _roster: Roster
    _relay: ReceiptRelay
    _effects: Effects
    owed: dict[StreamId, OwedReceipt] = field(default_factory=dict)
    waiting: dict[StreamId, None] = field(default_factory=dict)
    _newest: dict[bytes, int] = field(default_factory=dict)  # by author: the epoch of its run in *owed*
    wake: float = inf  # when to call :meth:`repeat` next; inf for never

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)

    # ── progress of the application ─────────────────────────────────────────────────

    def asks(self, run: StreamId, sequence: int, now: float) -> None:
        """Note that the delivered message *sequence* asks for a receipt.

        If there is a store, a message counts as taken once the store has kept that it was taken.
        """
        if (stream := self._signable(run)) is None:
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
        """Give receipts for *runs*: the store has kept how far the application has taken them."""
        for run in runs:
            stream = self._history.get(run)
            if run in self.waiting and stream is not None and stream.kept > self.owed[run].taken:
                self.taken(run, stream.kept, now)

    def asks_still(self, run: StreamId, sequence: int, now: float) -> None:
        """Take in that the newest record of an author asks for receipts up to *sequence*."""
        self.asks(run, sequence, now)
        if (owed := self.owed.get(run)) is None:
            return
        begins_above = owed.low > 1 and not owed.tries  # the author may wait for lower messages
        has_ended = owed.tries and owed.repeat_at is None and self._history.get(run) is None
        if begins_above or has_ended:  # repeats ended with the stream: perhaps no receipt arrived
            self._sign(run, owed, now)

    def taken(self, run: StreamId, sequence: int, now: float) -> None:
        """Take in that the application has taken *run*, which may be closed, up to *sequence*."""
        if (owed := self.owed.get(run)) is None:
            return
        if (stream := self._history.get(run)) is not None:
            owed = self._owed(stream, stream.base)
        owed.taken = max(owed.taken, sequence)
        self._look(run, owed, now)

    def gap(self, gap: GapFound, now: float) -> None:
        """Take in that messages, which may ask for receipts, will not come: sign for those behind them."""
        run = (gap.origin, gap.epoch)
        if (stream := self._signable(run)) is None:
            return
        known = self.owed.get(run)
        owed = self._owed(stream, gap.last)
        if owed is not known:
            owed.last_signed = (0, 0)
        else:
            owed.lacks(gap.first, gap.last)
        self._look(run, owed, now)

    def skipped(self, run: StreamId, sequence: int, now: float) -> None:
        """Take in that the application will never take some messages of *run* up to *sequence*."""
        if (owed := self.owed.get(run)) is None:
            self.gap(GapFound(*run, sequence, sequence), now)
        elif sequence >= owed.low:
            owed.gaps = [gap for gap in owed.gaps if gap[1] > sequence]
            owed.begins_at(sequence + 1, owed.taken if owed.taken < sequence else 0)
            self._look(run, owed, now)

    def link_gone(self, link: int, now: float) -> None:
        """Repeat the receipts that were sent over a link that is gone, since they may be lost."""
        for run, owed in self.owed.items():
            if owed.route == link:
                self._sign_anew(run, owed, now)

    def link_up(self, now: float) -> None:
        """Send the receipts for which there was no link."""
        for run, owed in self.owed.items():
            if owed.tries and not owed.route:
                self._sign_anew(run, owed, now)

    def returned(self, author: bytes, now: float) -> None:
        """Repeat the receipts for an author that is back."""
        for run, owed in self.owed.items():
            if run[0] == author and owed.tries:
                self._sign_anew(run, owed, now)

    def _signable(self, run: StreamId) -> Stream | None:
        """The stream of *run*, if this node gives receipts for it.

        Guests give none.  Only the newest run of an author gets receipts, which bounds the work, and none
        if it had ended before this node joined.
        """
        if self._local_node.profile.role is Role.GUEST:
            return None
        newest = max(self._newest.get(run[0], 0), self._roster.rank(run[0])[0])
        stream = self._history.get(run) if run[1] >= newest else None
        return None if stream is None or stream.base == BEYOND_ALL else stream

    def _owed(self, stream: Stream, taken: int) -> OwedReceipt:
        run = stream.run
        known = owed = self.owed.get(run)
        # The stream was closed since, and goes on from its base
        if known is not None and stream.base > known.base:
            known.base = stream.base
        # The base was lowered: messages that counted as taken may come
        if owed is None or owed.base != stream.base:
            owed = self.owed[run] = OwedReceipt(stream.base, stream.whole, taken)
            owed.asks_up_to = 0 if known is None else known.asks_up_to
            if known is None and run[0] in self._newest:
                self._forget((run[0], self._newest[run[0]]))
            self._newest[run[0]] = run[1]
            while len(self.owed) > self._config.open_streams:
                self._forget(next(iter(self.owed)))
        return owed

    def _look(self, run: StreamId, owed: OwedReceipt, now: float) -> None:
        """Send a receipt if the range to sign for has changed."""
        owed.goes_on()
        if owed.taken >= owed.asks_up_to:
            self.waiting.pop(run, None)
        if owed.range != owed.last_signed:
            self._sign_anew(run, owed, now)

    def _sign_anew(self, run: StreamId, owed: OwedReceipt, now: float) -> None:
        owed.tries = 0
        self._sign(run, owed, now)

    def _sign(self, run: StreamId, owed: OwedReceipt, now: float) -> None:
        owed.last_signed = owed.range
        owed.repeat_at = None
        self._relay.owe(run, now)

    # ── time ────────────────────────────────────────────────────────────────────────

    def repeat(self, now: float) -> None:
        """Repeat the receipts that are due."""
        for run, owed in list(self.owed.items()):
            if owed.repeat_at is not None and owed.repeat_at <= now:
                if self._history.get(run) is not None or self._is_waited_for(run):
                    self._sign(run, owed, now)
                else:
                    owed.repeat_at = None  # the next repeat is when the author asks again

    def schedule(self) -> None:
        """Set :attr:`wake`, after receipts were sent."""
        times = [owed.repeat_at for owed in self.owed.values() if owed.repeat_at is not None]
        self.wake = min(times, default=inf)

    def _is_waited_for(self, run: StreamId) -> bool:
        """Whether the author's newest record says that it waits for receipts of *run*."""
        author = self._roster.get(run[0])
        if author is None or author.presence.epoch != run[1]:
            return False
        return bool(author.presence.flags & PresenceFlags.ASKS)

    def _forget(self, run: StreamId) -> None:
        del self.owed[run], self._newest[run[0]]
        if run in self.waiting and not self._history.is_stored:
            self._effects.emit(Awaited(run, 0, 0, 0))
        self.waiting.pop(run, None)

    def own(self, run: StreamId, ways: Sequence[Link], now: float) -> Iterator[OnWay]:
        """The receipts that this node must give for *run*, each with its link, one of *ways*.

        A receipt goes over the first of *ways*, the best; a repeat also goes over some others.
        """
        if (owed := self.owed.get(run)) is None:
            return
        owed.route = ways[0].number if ways else 0
        config = self._config
        owed.repeat_at = now + backoff(config.receipt_repeat, owed.tries, config.receipt_repeat_longest)
        tries, owed.tries = min(owed.tries, MAX_TRIES), owed.tries + 1
        for low, high in (*owed.closed, owed.last_signed) if ways else ():
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
