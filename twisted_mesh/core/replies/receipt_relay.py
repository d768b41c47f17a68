"""Receipts on their way to the authors of the messages: those of other members, and those of this node.

Contract: every relay verifies receipts, merges those that come within ``receipt_delay``, and sends them on
over its best link to the author, in one frame for each link and interval. While the line of that link is
late, it merges further ones, and keeps those of each member's newest run. A member's range only grows, so a
receipt that is lost, repeated or late does no harm. If there is no room for a receipt, it is dropped, and
its member repeats it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.effects import Effects, Lines
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import Link
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.core.replies.receipt_tracker import RANGES_MOST
from twisted_mesh.core.replies.routes import MOST_HOPS, Routes
from twisted_mesh.core.signing import Signer
from twisted_mesh.wire import codec
from twisted_mesh.wire.replies import MAX_RECEIPT, Receipt, Receipts, SignedReceipt

_SHARE: Final = 2 * RANGES_MOST  # receipts of one member that wait here at a time, repeats included
_LATER: Final = 1.0  # seconds until a line that is late is looked at again (guess)
_IN_A_FRAME: Final = 64 * 1024 // (MAX_RECEIPT + 80)  # receipts, so that a frame is under 64 KiB

OnWay = tuple[int, SignedReceipt]  # the number of the link over which the receipt goes
Key = tuple[int, bytes, int, int, int]  # epoch of the author, the member, its epoch, low, tries
_Waiting = tuple[int, int, SignedReceipt]  # the link that brought it, the high of its range, the receipt


@dataclass(eq=False, slots=True)
class Carried:
    """Receipts for one author that are about to go out.

    :ivar own: the runs for which this node must give a receipt.
    :ivar receipts: those of other members.
    :ivar shares: how many receipts of other members there are, by run of the member and the author.
    """

    due: float = inf  # when receipts of other members go; inf if there are none
    own_due: float = inf  # when this node's own receipts go; inf if there are none
    own: dict[StreamId, None] = field(default_factory=dict)
    receipts: dict[Key, _Waiting] = field(default_factory=dict)
    shares: Counter[tuple[int, bytes, int]] = field(default_factory=Counter)


@dataclass(eq=False)
class ReceiptRelay:
    """The receipts that leave a node.

    :ivar counts: how many receipts were ignored, or dropped for lack of room, so far, by name.
    """

    _local_node: LocalNode
    _config: MeshConfig
    _history: History
    _outbox: Outbox
    _roster: Roster
    _routes: Routes
    _effects: Effects
    counts: dict[str, int] = field(default_factory=lambda: {"stray_receipts": 0, "dropped_receipts": 0})
    _carried: dict[bytes, Carried] = field(default_factory=dict)  # by author
    # By author: when an own receipt was last sent, and when any receipt was; the longest ago first.
    _sent: OrderedDict[bytes, tuple[float, float]] = field(default_factory=OrderedDict)
    _entries: int = 0  # receipts of other members in all of *_carried*
    wake: float = inf  # when receipts are due next; inf for never

    def __post_init__(self) -> None:
        self._signer = Signer(self._local_node)
        self._lines = Lines(self._effects)

    @property
    def is_empty(self) -> bool:
        """Whether no receipt waits for its time."""
        return not self._carried

    def owe(self, run: StreamId, now: float) -> None:
        """Give a receipt for *run* as soon as the interval allows."""
        author = run[0]
        carried = self._carried.setdefault(author, Carried())
        carried.own[run] = None
        if carried.own_due == inf:
            own, others = self._sent.get(author, (-inf, -inf))
            carried.own_due = max(now, own + self._interval(), others + self._config.receipt_delay)
        self.wake = min(self.wake, carried.own_due)

    def _interval(self) -> float:
        """The seconds between two receipts for one author, who must verify the receipts of all members."""
        return max(self._config.receipt_delay, self._roster.there * self._config.receipt_share)

    def received(self, link: Link, frame: Receipts, now: float) -> Iterator[Receipt]:
        """Carry receipts for other authors, and yield those for this node; RemoteError if one is false."""
        for signed in frame.entries:
            receipt = codec.receipt(signed.array)
            if not self._counts(receipt, signed.hops):
                self.counts["stray_receipts"] += 1
                continue
            if not link.rates.replies.take(now):
                self.counts["dropped_receipts"] += 1
                continue
            self._signer.require_receipt(receipt, signed)
            if receipt.origin == self._local_node.origin:
                yield receipt
            else:
                self._carry(receipt, signed, link.number, now)

    def _counts(self, receipt: Receipt, hops: int) -> bool:
        """Whether a receipt is worth verifying: of a member, for messages that exist."""
        member = self._roster.get(receipt.member)
        if member is None or not member.is_member or receipt.member_epoch > member.presence.epoch:
            return False
        if receipt.origin == self._local_node.origin:  # no receipt is open for an earlier run
            known = self._outbox.head if receipt.epoch == self._local_node.epoch else 0
        else:
            known = 0 if hops >= MOST_HOPS else self._published(receipt)
        return 0 < known >= receipt.high

    def _published(self, receipt: Receipt) -> int:
        """The last message of the receipt's run that is known here, even if no longer held."""
        run = (receipt.origin, receipt.epoch)
        stream, author = self._history.get(run), self._roster.get(receipt.origin)
        known = self._history.head(run) if stream is None else stream.high
        if author is not None and author.presence.epoch == receipt.epoch:
            known = max(known, author.presence.sequence)
        return known

    def _carry(self, receipt: Receipt, signed: SignedReceipt, source: int, now: float) -> None:
        if self._entries >= self._config.receipts_carried:
            self.counts["dropped_receipts"] += 1
            return  # the member repeats it
        carried = self._carried.setdefault(receipt.origin, Carried())
        share = (receipt.epoch, receipt.member, receipt.member_epoch)
        key = (*share, receipt.low, signed.tries)
        if (before := carried.receipts.get(key)) is None:
            if carried.shares[share] >= _SHARE:
                self.counts["dropped_receipts"] += 1
                return
            carried.shares[share] += 1
            self._entries += 1
        elif before[1] >= receipt.high:
            return
        carried.receipts[key] = source, receipt.high, signed.relayed()
        if carried.due == inf:
            carried.due = now + self._config.receipt_delay
            self.wake = min(self.wake, carried.due)

    def due(self, now: float) -> list[bytes]:
        """The authors with receipts to send now: call :meth:`flush` for each, then :meth:`schedule`."""
        return [author for author, one in self._carried.items() if min(one.due, one.own_due) <= now]

    def owed(self, author: bytes, now: float) -> list[StreamId]:
        """The runs of *author* for which this node must give a receipt now."""
        carried = self._carried[author]
        return list(carried.own) if carried.own_due <= now else []

    def flush(self, author: bytes, ways: list[Link], own: Iterable[OnWay], now: float) -> None:
        """Send the receipts of other members, and *own*.

        :param ways: all links that could lead to *author*.
        :param own: the receipts for the runs of :meth:`owed`, each with the number of its link.
        """
        carried = self._carried[author]
        entries: dict[int, list[SignedReceipt]] = {}  # by link
        late = {}  # a late line has no room for each receipt, so the highest of each member is kept for it
        for key, (source, high, signed) in carried.receipts.items():
            route = self._routes.on(author, source, signed.hops - 1, signed.tries)
            if route is None:
                continue
            if self._lines.is_late(route, now):
                late[key] = source, high, signed
            else:
                entries.setdefault(route.number, []).append(signed)
        kept = self._kept(late)
        self._entries += len(kept) - len(carried.receipts)
        carried.receipts, carried.due = kept, now + _LATER if kept else inf
        carried.shares = Counter(key[:3] for key in kept)
        for number, signed in own:
            entries.setdefault(number, []).append(signed)
        own_sent, _ = self._sent.pop(author, (-inf, -inf))
        if carried.own_due <= now:
            carried.own, carried.own_due, own_sent = {}, inf, now
        else:
            carried.own_due = max(carried.own_due, now + self._config.receipt_delay)
        if not carried.own:
            carried.own_due = inf
            if not kept:
                del self._carried[author]
        self._sent[author] = own_sent, now
        if len(self._sent) > self._config.open_streams:
            self._sent.popitem(last=False)
        links = {way.number: way for way in ways}
        for number, every in entries.items():
            link = links[number]
            some = [one for one in every if not self._lines.has_no_room(link, (Receipt, one.array), now)]
            for at in range(0, len(some), _IN_A_FRAME):
                self._effects.send((link,), Receipts(some[at : at + _IN_A_FRAME]))

    def _kept(self, late: dict[Key, _Waiting]) -> dict[Key, _Waiting]:
        """Those of the receipts for late lines that are kept: of each member, those of its newest run.

        Otherwise one member could fill the room with receipts of runs that it makes up.
        """
        newest: dict[bytes, tuple[int, int]] = {}
        for epoch, member, member_epoch, *_ in late:
            run = epoch, member_epoch
            newest[member] = max(run, newest.get(member, run))
        kept = {key: one for key, one in late.items() if newest[key[1]] == (key[0], key[2])}
        if self._entries - len(late) + len(kept) > self._config.receipts_carried / 2:
            kept = {}  # a peer that reads nothing leaves half of the room to others
        self.counts["dropped_receipts"] += len(late) - len(kept)
        return kept

    def schedule(self) -> None:
        """Set :attr:`wake`, after receipts were sent."""
        times = [min(carried.due, carried.own_due) for carried in self._carried.values()]
        self.wake = min(times, default=inf)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "carried_authors": len(self._carried),
            "carried_receipts": self._entries,
            "receipt_times": len(self._sent),
        }
