"""A set of numbers that grows at its end; a range takes sixteen bytes, however long it is.

Contract: numbers are below 2^63, and each range that is added lies above all earlier ranges.  The methods
that change the set return by how many ranges it has grown.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator


class Ranges:
    """Rising ranges of numbers; ``len()`` counts ranges."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts = array("q")
        self._lasts = array("q")

    def __len__(self) -> int:
        return len(self._firsts)

    def __contains__(self, number: int) -> bool:
        return self.cover(number, number)

    def add(self, first: int, last: int) -> int:
        """Add *first* to *last*."""
        if self._lasts and self._lasts[-1] == first - 1:
            self._lasts[-1] = last
            return 0
        self._firsts.append(first)
        self._lasts.append(last)
        return 1

    def follow(self, later: Ranges) -> None:
        """Add all ranges of *later*, which lie above those of this set."""
        for first, last in zip(later._firsts, later._lasts, strict=True):
            self.add(first, last)

    def cover(self, first: int, last: int) -> bool:
        """Whether all of *first* to *last* are in the set."""
        at = bisect_left(self._lasts, last)
        return at < len(self._lasts) and self._firsts[at] <= first

    def outside(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The parts of *first* to *last* that are not in the set, in order."""
        at = bisect_left(self._lasts, first)
        while at < len(self._lasts) and self._firsts[at] <= last:
            if first < self._firsts[at]:
                yield first, self._firsts[at] - 1
            first = self._lasts[at] + 1
            at += 1
        if first <= last:
            yield first, last

    def drop_to(self, number: int) -> int:
        """Forget the ranges that end at *number* or below it."""
        at = bisect_left(self._lasts, number + 1)
        del self._firsts[:at], self._lasts[:at]
        return -at
