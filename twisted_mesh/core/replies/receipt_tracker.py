"""The author's side of receipts: who has which of the own messages.

Contract: a message counts as delivered to a member only if a range that this member signed holds it.  Who
is *expected* to have a message are the members on the roster when it was sent, or when this node joined;
of these it is *missed* by those who say that they begin above it, or have left the roster for good.  Each
message and member is looked at once: what a range adds to what was known, and no more.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import Holders

RANGES_MOST: Final = 8  # of one member that are remembered, the newest: each lies behind a gap (guess)


class Taken:
    """What one member has of the own run.

    :ivar gone: own messages up to this one are not with it, unless a range says otherwise.
    """

    __slots__ = ("gone", "ranges")

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []  # low, high: sorted, apart
        self.gone = 0

    def add(self, low: int, high: int) -> list[tuple[int, int]]:
        """It has *low* to *high*: what of that is news, in ranges.

        What lies below as many as are remembered would be forgotten at once, and be news again and again.
        """
        if len(self.ranges) >= RANGES_MOST and high + 1 < self.ranges[0][0]:
            return []
        news = []
        merged = []
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
        """Whether it has that message."""
        return any(low <= sequence <= high for low, high in self.ranges)


class Open:
    """A message somebody waits to hear of.

    :ivar expected: who should have it; None until this node has joined.
    :ivar pending: who of them may get it still; :ivar missed: never will.
    """

    __slots__ = ("expected", "missed", "pending")

    def __init__(self, expected: frozenset[bytes] | None) -> None:
        self.expected = expected
        self.pending: set[bytes] = set(expected or ())
        self.missed: set[bytes] = set()


class ReceiptTracker:
    """Who has what of the own run."""

    def __init__(self, config: MeshConfig) -> None:
        self._config = config
        self._taken: dict[bytes, Taken] = {}
        self._open: dict[int, Open] = {}
        self._sequences: list[int] = []  # of those that are open, ascending

    def __len__(self) -> int:
        """Messages somebody waits to hear of."""
        return len(self._open)

    def __contains__(self, sequence: int) -> bool:
        """Whether somebody waits to hear of that message."""
        return sequence in self._open

    def expect(
        self, sequences: Iterable[int], members: frozenset[bytes] | None
    ) -> Sequence[tuple[int, Holders]]:
        """Somebody waits to hear of own messages, the latest so far; the oldest that are given up for them,
        with who has these.

        :param members: who should have them, None while nobody knows.
        """
        for sequence in sequences:
            self._open[sequence] = Open(members)
            self._sequences.append(sequence)
        beyond = max(0, len(self._sequences) - self._config.receipts_limit)
        closed = [(sequence, self.of(sequence)) for sequence in self._sequences[:beyond]]
        del self._sequences[:beyond]
        for sequence, _ in closed:
            del self._open[sequence]
        return closed

    def joined(self, members: frozenset[bytes]) -> Sequence[int]:
        """This node knows now who the members are; of which messages that is news."""
        waiting = [sequence for sequence, open in self._open.items() if open.expected is None]
        for sequence in waiting:
            fresh = self._open[sequence] = Open(members)
            for member, taken in self._taken.items():
                if member in fresh.pending and (taken.has(sequence) or taken.gone >= sequence):
                    fresh.pending.remove(member)
                    if not taken.has(sequence):
                        fresh.missed.add(member)
        return waiting

    def close(self, sequence: int) -> None:
        """Nobody waits for that message any more."""
        if self._open.pop(sequence, None) is not None:
            del self._sequences[bisect_left(self._sequences, sequence)]
        if not self._open:
            self._taken.clear()  # what a member has it tells again, all of it

    def take(self, member: bytes, low: int, high: int) -> Sequence[int]:
        """A member has signed that it has *low* to *high*; of which messages that is news."""
        if not self._open or (member not in self._taken and len(self._taken) >= self._config.members_limit):
            return ()
        taken = self._of(member)
        changed = self._lose(member, low - 1)
        for first, last in taken.add(low, high):
            for sequence in self._between(first, last):
                open = self._open[sequence]
                if member not in (open.expected or ()):
                    changed.append(sequence)
                elif member in open.pending or member in open.missed:  # else it is told again
                    changed.append(sequence)
                    open.pending.discard(member)
                    open.missed.discard(member)
        return changed

    def lose(self, member: bytes, head: int) -> Sequence[int]:
        """What a member has not told of up to *head* it lost, or will never tell; likewise."""
        return self._lose(member, head) if self._open else ()

    def of(self, sequence: int) -> Holders:
        """Who has the own message *sequence*, which is open."""
        open = self._open[sequence]
        # Of too many ranges of a member the oldest is forgotten, and what was counted by it counts.
        has = set(open.expected or ()) - open.pending - open.missed
        has.update(member for member, taken in self._taken.items() if taken.has(sequence))
        return Holders(frozenset(has), frozenset(open.pending), frozenset(open.missed))

    def is_decided(self, sequence: int) -> bool:
        """Whether nobody is pending who should have the own message *sequence*, which is open."""
        open = self._open[sequence]
        return open.expected is not None and not open.pending

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"open_receipts": len(self._open), "tracked_members": len(self._taken)}

    def _lose(self, member: bytes, head: int) -> list[int]:
        # Of who comes and goes without a word nothing is kept: there may be any number of them.
        taken = self._taken.get(member, Taken())
        changed = []
        for sequence in self._between(taken.gone + 1, head):
            open = self._open[sequence]
            if member in open.pending and not taken.has(sequence):
                open.pending.remove(member)
                open.missed.add(member)
                changed.append(sequence)
        taken.gone = max(taken.gone, head)
        return changed

    def _between(self, first: int, last: int) -> list[int]:
        """The open ones from *first* to *last*."""
        return self._sequences[bisect_left(self._sequences, first) : bisect_right(self._sequences, last)]

    def _of(self, member: bytes) -> Taken:
        taken = self._taken.get(member)
        if taken is None:
            taken = self._taken[member] = Taken()
        return taken
