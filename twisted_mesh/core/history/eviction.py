"""Chooses whose messages are given up next, if there are too many in memory or in the history file.

Contract: known authors together have three quarters of the room, and new ones a quarter
(:mod:`~twisted_mesh.core.authors`).  Room that one side does not need is the other's.  On the side that has
too much, the *turn* is that of the largest run of the origin with the most bytes.  New origins share by
introducer first: the turn is that of the site whose authors have most.  So no origin can push out another's
messages, with one run or with many, and made up authors can push out none of a known author.  The caller
drops messages of the run, and then says how many bytes that freed.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace
from typing import Any, Final

from twisted_mesh.core.events import StreamId

_SLACK: Final = 16  # a sixteenth (guess)
_NEW_COUNTS: Final = 3  # a new author's byte counts as 3 of a known one: so new authors get a quarter


def reduced(limit: int) -> int:
    """The size to shrink to: a sixteenth below *limit*, so that the next eviction is not due at once."""
    return limit * (_SLACK - 1) // _SLACK


_Heap = list[tuple[int, Any]]
"""Minus the bytes of each part, and its key: a side, site, origin or run; the largest comes first."""


class Shares:
    """The bytes that each run of each origin holds.

    :ivar turn: the run whose turn it is; None if all were passed over.
    """

    __slots__ = ("_origins", "_runs", "_sides", "_sites", "turn")

    def __init__(self, sizes: Iterable[tuple[StreamId, str | None, int]]) -> None:
        """:param sizes: of each run the introducer of its author, None if it is known, and the bytes."""
        self._runs: dict[str | None, dict[bytes, _Heap]] = {}  # by introducer and origin
        for run, introducer, size in sizes:
            self._runs.setdefault(introducer, {}).setdefault(run[0], []).append((-size, run))
        self._origins = {
            introducer: [(_total(heap), origin) for origin, heap in heaps.items()]
            for introducer, heaps in self._runs.items()
        }
        self._sites: _Heap = [
            (_total(heap), site) for site, heap in self._origins.items() if site is not None
        ]
        self._sides: _Heap = []  # whether the authors of this side are new
        if None in self._origins:
            self._sides.append((_total(self._origins[None]), False))
        if self._sites:
            self._sides.append((_NEW_COUNTS * _total(self._sites), True))
        for heaps in self._runs.values():
            for heap in heaps.values():
                heapify(heap)
        for heap in (*self._origins.values(), self._sites, self._sides):
            heapify(heap)
        self._next()

    def gave_up(self, size: int) -> None:
        """Note that the run whose turn it was gave up *size* bytes."""
        for heap in self._heaps():
            held, key = heap[0]
            heapreplace(heap, (held + (_NEW_COUNTS * size if key is True else size), key))
        self._next()

    def pass_over(self) -> None:
        """Note that the run whose turn it was can give up no more; its bytes still count for its origin."""
        for heap in reversed(self._heaps()):
            heappop(heap)
            if heap:
                break
        self._next()

    def _heaps(self) -> list[_Heap]:
        """The heaps that have the turn's side, site, origin and run on top."""
        is_new = self._sides[0][1]
        site = self._sites[0][1] if is_new else None
        origins = self._origins[site]
        below = [origins, self._runs[site][origins[0][1]]]
        return [self._sides, self._sites, *below] if is_new else [self._sides, *below]

    def _next(self) -> None:
        self.turn: StreamId | None = self._heaps()[-1][0][1] if self._sides else None


def _total(heap: _Heap) -> int:
    return sum(held for held, _ in heap)
