"""The author's side of receipts: which members have which messages of this node.

Contract: a message counts as delivered to a member only if a range that this member signed holds it.  The
members on the roster when the message was sent, or when this node joined, are *expected* to have it.  An
expected member that says that it begins above the message, or that the roster has forgotten, has *missed*
it.  A range costs work only for the messages that it newly shows as delivered.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import Holders

RANGES_MOST: Final = 8  # the ranges of one member that are remembered, the newest (guess)


@dataclass(eq=False, slots=True)
class MemberRanges:
    """The own messages that one member has."""

    ranges: list[tuple[int, int]] = field(default_factory=list)  # low, high: sorted, and not adjacent
    gone: int = 0  # the member lacks the own messages up to this one, except those in a range

    def add(self, low: int, high: int) -> list[tuple[int, int]]:
        """Add the range *low* to *high*; return the ranges of the messages that are new.

        A range below ``RANGES_MOST`` others is not added: it would be forgotten, and count as new again.
        """
        if len(self.ranges) >= RANGES_MOST and high + 1 < self.ranges[0][0]:
            return []
        news, merged = [], []
        start, first, last = low, low, high
        for known in self.ranges:
            if known[1] + 1 < low or known[0] > high + 1:
                merged.append(known)
                continue
            if start < known[0]:
                news.append((start, known[0] - 1))
            start = max(start, known[1] + 1)
            first, last = min(first, known[0]), max(last, known[1])
        if start <= high:
            news.append((start, high))
        if low <= high:
            self.ranges = sorted([*merged, (first, last)])[-RANGES_MOST:]
        return news

    def has(self, sequence: int) -> bool:
        """Whether the member has that message."""
        return any(low <= sequence <= high for low, high in self.ranges)


@dataclass(eq=False)
class OpenReceipt:
    """A message whose receipt is open.

    :ivar pending: the expected members that may still get it.
    """

    expected: frozenset[bytes] | None  # the members that should have it; None until this node has joined
    missed: set[bytes] = field(default_factory=set)  # the members that never will have it

    def __post_init__(self) -> None:
        self.pending: set[bytes] = set(self.expected or ())


@dataclass(eq=False)
class ReceiptTracker:
    """Which members have which messages of this node's run."""

    _config: MeshConfig
    _members: dict[bytes, MemberRanges] = field(default_factory=dict)
    _open: dict[int, OpenReceipt] = field(default_factory=dict)
    _sequences: list[int] = field(default_factory=list)  # of the open receipts, ascending

    def __len__(self) -> int:
        """How many receipts are open."""
        return len(self._open)

    def __contains__(self, sequence: int) -> bool:
        """Whether the receipt of that message is open."""
        return sequence in self._open

    def expect(
        self, sequences: Iterable[int], members: frozenset[bytes] | None
    ) -> Sequence[tuple[int, Holders]]:
        """Open the receipts of the newest own messages.

        :param members: the members that should have the messages; None until this node has joined.
        :return: the oldest receipts, which are closed if there are too many, with their holders.
        """
        for sequence in sequences:
            self._open[sequence] = OpenReceipt(members)
            self._sequences.append(sequence)
        beyond = max(0, len(self._sequences) - self._config.receipts_limit)
        closed = [(sequence, self.of(sequence)) for sequence in self._sequences[:beyond]]
        del self._sequences[:beyond]
        for sequence, _ in closed:
            del self._open[sequence]
        return closed

    def joined(self, members: frozenset[bytes]) -> Sequence[int]:
        """Set the members that should have the messages sent before this node joined; return these."""
        waiting = [sequence for sequence, open in self._open.items() if open.expected is None]
        for sequence in waiting:
            fresh = self._open[sequence] = OpenReceipt(members)
            for member, ranges in self._members.items():
                if member in fresh.pending and (ranges.has(sequence) or ranges.gone >= sequence):
                    fresh.pending.remove(member)
                    if not ranges.has(sequence):
                        fresh.missed.add(member)
        return waiting

    def close(self, sequence: int) -> None:
        """Close the receipt of that message."""
        if self._open.pop(sequence, None) is not None:
            del self._sequences[bisect_left(self._sequences, sequence)]
        if not self._open:
            self._members.clear()  # the later receipts of a member tell all its ranges again

    def add(self, member: bytes, low: int, high: int) -> Sequence[int]:
        """Take in that a member signed for *low* to *high*; return the messages for which this is new."""
        if not self._open or (
            member not in self._members and len(self._members) >= self._config.members_limit
        ):
            return ()
        ranges = self._members.setdefault(member, MemberRanges())
        changed = self._lose(member, low - 1)
        for first, last in ranges.add(low, high):
            for sequence in self._between(first, last):
                open = self._open[sequence]
                if member not in (open.expected or ()):
                    changed.append(sequence)
                elif member in open.pending or member in open.missed:  # otherwise it was known before
                    changed.append(sequence)
                    open.pending.discard(member)
                    open.missed.discard(member)
        return changed

    def lose(self, member: bytes, head: int) -> Sequence[int]:
        """Mark as missed the messages up to *head* that the member did not sign for; return new ones."""
        return self._lose(member, head) if self._open else ()

    def drop(self, member: bytes) -> Sequence[int]:
        """Wait for a member no more; return the messages that it has not signed for."""
        changed = []
        fewer: dict[frozenset[bytes], frozenset[bytes]] = {}  # many receipts share one set of members
        for sequence, open in self._open.items():
            if open.expected is None or not (member in open.pending or member in open.missed):
                continue
            if (left := fewer.get(open.expected)) is None:
                left = fewer[open.expected] = open.expected - {member}
            open.expected = left
            open.pending.discard(member)
            open.missed.discard(member)
            changed.append(sequence)
        return changed

    def of(self, sequence: int) -> Holders:
        """Which members have the own message *sequence*, whose receipt is open."""
        open = self._open[sequence]
        # A member whose oldest range was forgotten still counts as having these messages.
        expected = open.expected or frozenset()
        has = set(expected) - open.pending - open.missed
        # Thousands of receipts can be decided at once, and to look at all ranges takes five times as long.
        others = self._members.keys() - expected
        has.update(member for member in others if self._members[member].has(sequence))
        return Holders(frozenset(has), frozenset(open.pending), frozenset(open.missed))

    def missed_by(self, member: bytes) -> Sequence[int]:
        """The own messages that *member* has missed and whose receipts are open."""
        return [sequence for sequence, open in self._open.items() if member in open.missed]

    def is_decided(self, sequence: int) -> bool:
        """Whether no member is pending for the own message *sequence*, whose receipt is open."""
        open = self._open[sequence]
        return open.expected is not None and not open.pending

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"open_receipts": len(self._open), "tracked_members": len(self._members)}

    def _lose(self, member: bytes, head: int) -> list[int]:
        # Nothing is kept of members that have signed nothing: there may be any number of them.
        ranges = self._members.get(member, MemberRanges())
        changed = []
        for sequence in self._between(ranges.gone + 1, head):
            open = self._open[sequence]
            if member in open.pending and not ranges.has(sequence):
                open.pending.remove(member)
                open.missed.add(member)
                changed.append(sequence)
        ranges.gone = max(ranges.gone, head)
        return changed

    def _between(self, first: int, last: int) -> list[int]:
        """The open receipts from *first* to *last*."""
        return self._sequences[bisect_left(self._sequences, first) : bisect_right(self._sequences, last)]
