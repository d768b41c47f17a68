"""Receipts on their way: what this node has taken of others' messages, and what it hands on for others.

Contract: a member answers for the ranges it has *taken* without a hole, up to the highest message that
asks for it, no faster than its author can verify.  Every relay verifies, merges what comes within
``receipt_delay`` and sends it on over its best way to the author, one frame a link and interval.  What is
lost is repeated: at once when a link is lost or the author is back, else ever more rarely, and each time
over other ways, too, up to three of them, so that no relay alone can hold it up; as long as the stream is
held, or its author says that it waits.  Ranges only grow, so that loss, repetition and other ways do no
harm.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Final

from msgspec.structs import replace

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.asked import Asked
from twisted_mesh.core.events import GapFound, Run
from twisted_mesh.core.handshake import Myself
from twisted_mesh.core.history import History
from twisted_mesh.core.link import Link
from twisted_mesh.core.outbox import Outbox
from twisted_mesh.core.roster import Roster
from twisted_mesh.core.routes import MOST_HOPS, Routes
from twisted_mesh.core.seal import Seal
from twisted_mesh.core.spread import SendTo
from twisted_mesh.core.streams import Stream
from twisted_mesh.core.tally import RANGES_MOST, Tally
from twisted_mesh.wire import native
from twisted_mesh.wire.membership import Role, Standing
from twisted_mesh.wire.reverse import MAX_RECEIPT, MAX_TRIES, Receipt, Receipts, SignedReceipt

_SHARE: Final = 2 * RANGES_MOST  # of one member are handed on at a time: told anew, and what is told again
_WAYS: Final = 3  # that a repeat goes over once more: one at a time ended at one relay (measured)
_IN_A_FRAME: Final = 64 * 1024 // (MAX_RECEIPT + 80)  # so that a frame is under 64 KiB

Key = tuple[int, bytes, int, int, int]  # epoch of the author, the member, its epoch, low, tries


class Carried:
    """Receipts for one author that are about to go out.

    :ivar due: when those of others are, :ivar own_due: and the own ones; never, while there are none.
    :ivar own: the runs of which this node owes one.
    :ivar shares: how many of the others' are of each run of a member and the author.
    """

    __slots__ = ("due", "own", "own_due", "receipts", "shares")

    def __init__(self) -> None:
        self.due = self.own_due = inf
        self.own: dict[Run, None] = {}
        self.receipts: dict[Key, tuple[int, int, SignedReceipt]] = {}  # source link, high, receipt
        self.shares: Counter[tuple[int, bytes, int]] = Counter()


class Receipting:
    """The receipts a node gives and carries.

    :ivar asked: the runs that others want to hear of, by run.
    :ivar waiting: those of them of which the application has not taken what asks.
    :ivar counts: what was dropped so far, by name.
    :ivar wake: when to call :meth:`tick` next, or None.
    """

    def __init__(
        self,
        myself: Myself,
        config: MeshConfig,
        history: History,
        outbox: Outbox,
        roster: Roster,
        routes: Routes,
        tally: Tally,
        send: SendTo,
        changed: Callable[[Iterable[int]], None],
    ) -> None:
        """
        :param changed: is told of own messages of which more is known.
        """
        self._myself = myself
        self._config = config
        self._seal = Seal(myself)
        self._history = history
        self._outbox = outbox
        self._roster = roster
        self._routes = routes
        self._tally = tally
        self._send = send
        self._changed = changed
        self.asked: dict[Run, Asked] = {}
        self.waiting: dict[Run, None] = {}
        self.counts = {"stray_receipts": 0}
        self._newest: dict[bytes, int] = {}  # epoch of the one run of an author that is in *asked*
        self._carried: dict[bytes, Carried] = {}  # by author
        # When an own receipt last went towards an author, and when any did; the longest ago first.
        self._sent: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        self._entries = 0  # of others, in all that is carried
        self.wake: float | None = None

    # ── what this node has taken ────────────────────────────────────────────────────

    def asks(self, run: Run, sequence: int) -> None:
        """A message that is delivered asks who has it."""
        stream = self._history.get(run)
        if stream is None or self._myself.role is Role.GUEST or not self._is_newest(run):
            return
        asked = self._asked(stream, stream.base)
        asked.asked = max(asked.asked, sequence)
        if asked.asked > asked.taken:
            self.waiting[run] = None

    def asks_still(self, run: Run, sequence: int, now: float) -> None:
        """The newest record of an author asks who has all up to *sequence*."""
        self.asks(run, sequence)
        asked = self.asked.get(run)
        if asked is None:
            return
        begins_above = asked.low > 1 and not asked.tries  # it may wait for what never comes here
        has_ended = asked.tries and asked.again is None and self._history.get(run) is None
        if begins_above or has_ended:  # the repeats ended with the stream, and it may not have one
            self._tell(run, asked, now)

    def taken(self, run: Run, sequence: int, now: float) -> None:
        """The application has taken *run* up to *sequence*, maybe when the stream was closed already."""
        asked = self.asked.get(run)
        if asked is None:
            return
        stream = self._history.get(run)
        if stream is not None:
            asked = self._asked(stream, stream.base)
        asked.taken = max(asked.taken, sequence)
        self._look(run, asked, now)

    def gap(self, gap: GapFound, now: float) -> None:
        """Something will not come: it may have asked who has it, so its author should know."""
        run = (gap.origin, gap.epoch)
        stream = self._history.get(run)
        if stream is None or self._myself.role is Role.GUEST or not self._is_newest(run):
            return
        known = self.asked.get(run)
        asked = self._asked(stream, gap.last)
        if asked is not known:
            asked.told = (0, 0)
        else:
            asked.lacks(gap.first, gap.last)
        self._look(run, asked, now)

    def skipped(self, run: Run, sequence: int, now: float) -> None:
        """The application will not take all of *run* up to *sequence*."""
        asked = self.asked.get(run)
        if asked is None:
            self.gap(GapFound(*run, sequence, sequence), now)
        elif sequence >= asked.low:
            asked.gaps = [gap for gap in asked.gaps if gap[1] > sequence]
            asked.begins_at(sequence + 1, asked.taken if asked.taken < sequence else 0)
            self._look(run, asked, now)

    def link_gone(self, link: int, now: float) -> None:
        """A link is gone: what went over it lately may be lost."""
        for run, asked in self.asked.items():
            if asked.route == link:
                self._tell_anew(run, asked, now)

    def link_up(self, now: float) -> None:
        """There is another way: what had none can go."""
        for run, asked in self.asked.items():
            if asked.tries and not asked.route:
                self._tell_anew(run, asked, now)

    def returned(self, author: bytes, now: float) -> None:
        """An author that was gone is back."""
        for run, asked in self.asked.items():
            if run[0] == author and asked.tries:
                self._tell_anew(run, asked, now)

    def _is_newest(self, run: Run) -> bool:
        """Whether somebody may wait to hear of *run*: one author's runs are no more work than one run."""
        return run[1] >= max(self._newest.get(run[0], 0), self._roster.rank(run[0])[0])

    def _asked(self, stream: Stream, taken: int) -> Asked:
        run = stream.run
        known = asked = self.asked.get(run)
        if known is not None and stream.base > known.base:  # it was closed, and goes on from there
            known.base = stream.base
        if asked is None or asked.base != stream.base:  # it was lowered: what counted as taken may come
            asked = self.asked[run] = Asked(stream.base, stream.whole, taken, self._config.receipt_repeat)
            asked.asked = 0 if known is None else known.asked
            if known is None and run[0] in self._newest:
                self._forget((run[0], self._newest[run[0]]))
            self._newest[run[0]] = run[1]
            while len(self.asked) > self._config.open_streams:
                self._forget(next(iter(self.asked)))
        return asked

    def _look(self, run: Run, asked: Asked, now: float) -> None:
        """Tell what is news of what the application has."""
        asked.goes_on()
        if asked.taken >= asked.asked:
            self.waiting.pop(run, None)
        if asked.range != asked.told:
            self._tell_anew(run, asked, now)

    def _tell_anew(self, run: Run, asked: Asked, now: float) -> None:
        asked.tries = 0
        asked.wait = self._config.receipt_repeat
        self._tell(run, asked, now)

    def _tell(self, run: Run, asked: Asked, now: float) -> None:
        asked.told = asked.range
        asked.again = None
        author = run[0]
        carried = self._carried.setdefault(author, Carried())
        carried.own[run] = None
        if carried.own_due == inf:
            own, others = self._sent.get(author, (-inf, -inf))
            carried.own_due = max(now, own + self._interval(), others + self._config.receipt_delay)
        self._wake_at(carried.own_due)

    def _interval(self) -> float:
        """Seconds between two receipts of this node for one author: it verifies those of all members."""
        return max(self._config.receipt_delay, self._roster.there * self._config.receipt_share)

    # ── what it hands on ────────────────────────────────────────────────────────────

    def received(self, link: Link, frame: Receipts, now: float) -> None:
        """Receipts came over *link*.

        :raises RemoteError: a signature is false, or something else is in the frame.
        """
        changed: set[int] = set()
        try:
            for signed in frame.entries:
                receipt = native.receipt(signed.array)
                if not self._counts(link, receipt, signed.hops, now):
                    self.counts["stray_receipts"] += 1
                    continue
                self._seal.require_receipt(receipt, signed)
                if receipt.origin == self._myself.origin:
                    changed.update(self._tally.take(receipt.member, receipt.low, receipt.high))
                else:
                    self._carry(receipt, signed, link.number, now)
        finally:
            self._changed(changed)  # whatever followed

    def _counts(self, link: Link, receipt: Receipt, hops: int, now: float) -> bool:
        """Whether a receipt is worth verifying: of a member, for what there is."""
        member = self._roster.get(receipt.member)
        if member is None or not member.is_member or receipt.member_epoch > member.presence.epoch:
            return False
        if receipt.origin == self._myself.origin:  # of earlier runs nobody waits to hear
            known = self._outbox.head if receipt.epoch == self._myself.epoch else 0
        else:
            known = 0 if hops >= MOST_HOPS else self._published(receipt)
        return 0 < known >= receipt.high and link.receipts.take(now)

    def _published(self, receipt: Receipt) -> int:
        """The last message of that run as far as this node knows, which may have held it long ago."""
        run = (receipt.origin, receipt.epoch)
        stream, author = self._history.get(run), self._roster.get(receipt.origin)
        known = self._history.head(run) if stream is None else stream.high
        if author is not None and author.presence.epoch == receipt.epoch:
            known = max(known, author.presence.sequence)
        return known

    def _carry(self, receipt: Receipt, signed: SignedReceipt, source: int, now: float) -> None:
        if self._entries >= self._config.receipts_carried:
            self.counts["stray_receipts"] += 1
            return  # it comes again
        carried = self._carried.setdefault(receipt.origin, Carried())
        share = (receipt.epoch, receipt.member, receipt.member_epoch)
        key = (*share, receipt.low, signed.tries)
        before = carried.receipts.get(key)
        if before is None:
            if carried.shares[share] >= _SHARE:
                self.counts["stray_receipts"] += 1
                return
            carried.shares[share] += 1
            self._entries += 1
        elif before[1] >= receipt.high:
            return
        carried.receipts[key] = source, receipt.high, signed.relayed()
        if carried.due == inf:
            carried.due = now + self._config.receipt_delay
            self._wake_at(carried.due)

    # ── time ────────────────────────────────────────────────────────────────────────

    def tick(self, now: float) -> None:
        """Send what is due."""
        for run, asked in list(self.asked.items()):
            if asked.again is not None and asked.again <= now:
                if self._history.get(run) is not None or self._is_waited_for(run):
                    self._tell(run, asked, now)
                else:
                    asked.again = None  # it is told again when its author asks again
        for author, carried in list(self._carried.items()):
            if min(carried.due, carried.own_due) <= now:
                self._flush(author, carried, now)
        times = [min(carried.due, carried.own_due) for carried in self._carried.values()]
        times += [asked.again for asked in self.asked.values() if asked.again is not None]
        self.wake = min(times, default=None)

    @property
    def are_out(self) -> bool:
        """Whether nothing that is owed or carried waits for its time."""
        return not self._carried

    def _is_waited_for(self, run: Run) -> bool:
        """Whether its author waits for receipts, as it said last."""
        entry = self._roster.get(run[0])
        if entry is None or entry.presence.epoch != run[1]:
            return False
        return bool(entry.presence.flags & Standing.ASKS)

    def _wake_at(self, at: float) -> None:
        self.wake = at if self.wake is None else min(self.wake, at)

    def _forget(self, run: Run) -> None:
        del self.asked[run], self._newest[run[0]]
        self.waiting.pop(run, None)

    def _flush(self, author: bytes, carried: Carried, now: float) -> None:
        """Send what others gave, and what is owed if that may go."""
        entries: dict[int, list[SignedReceipt]] = {}  # by link
        ways = {way.number: way for way in self._routes.all_to(author)}
        self._entries -= len(carried.receipts)
        for source, _, signed in carried.receipts.values():
            route = self._routes.on(author, source, signed.hops - 1, signed.tries)
            if route is not None:
                entries.setdefault(route.number, []).append(signed)
        own_sent, _ = self._sent.pop(author, (-inf, -inf))
        if carried.own_due <= now:
            for run in carried.own:
                for link, signed in self._own(run, list(ways), now):
                    entries.setdefault(link, []).append(signed)
            del self._carried[author]
            own_sent = now
        else:
            carried.receipts, carried.due = {}, inf
            carried.shares.clear()
            carried.own_due = max(carried.own_due, now + self._config.receipt_delay)
            if not carried.own:
                del self._carried[author]
        self._sent[author] = own_sent, now
        if len(self._sent) > self._config.open_streams:
            self._sent.popitem(last=False)
        for number, some in entries.items():
            for at in range(0, len(some), _IN_A_FRAME):
                self._send((ways[number],), Receipts(some[at : at + _IN_A_FRAME]))

    def _own(self, run: Run, ways: Sequence[int], now: float) -> Iterator[tuple[int, SignedReceipt]]:
        """The receipts this node owes of *run*, and over which of the links *ways* each is to go.

        That is the best, which may be another by now; and where they are told again some of the others.
        """
        asked = self.asked.get(run)
        if asked is None:
            return
        asked.route = ways[0] if ways else 0
        tries, asked.tries = min(asked.tries, MAX_TRIES), asked.tries + 1
        asked.again = now + asked.wait
        asked.wait = min(2 * asked.wait, self._config.receipt_repeat_longest)
        for low, high in (*asked.closed, asked.told) if ways else ():
            receipt = Receipt(*run, low, high, self._myself.origin, self._myself.epoch)
            signed = self._seal.receipt(receipt)
            yield ways[0], signed
            again = [ways[(tries + more) % len(ways)] for more in range(min(tries, _WAYS))]
            for way in dict.fromkeys(again):
                yield way, replace(signed, tries=tries)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "asked_runs": len(self.asked),
            "asked_ranges": sum(len(asked.closed) + len(asked.gaps) for asked in self.asked.values()),
            "carried_authors": len(self._carried),
            "carried_receipts": self._entries,
            "receipt_times": len(self._sent),
        }
