"""Whose turn it is to give up something where there is too much, in memory as in the history file.

Contract: it is the turn of the origin with the most bytes, and of its largest run; so nobody can push out
another's, with one run or with many.  What gives up, and what of it, is the caller's to know: it says
each time what came of the turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace
from typing import Final

from twisted_mesh.core.events import StreamId

_SLACK: Final = 16  # (guess)


def room_at(limit: int) -> int:
    """What to come down to at *limit*: a sixteenth goes at once, so that it is not looked for each time."""
    return limit * (_SLACK - 1) // _SLACK


class Shares:
    """What each run of each origin holds.

    :ivar turn: the run whose turn it is; None if all were passed over.
    """

    __slots__ = ("_origins", "_runs", "turn")

    def __init__(self, sizes: Iterable[tuple[StreamId, int]]) -> None:
        """:param sizes: bytes of each run."""
        self._runs: dict[bytes, list[tuple[int, StreamId]]] = {}  # of each origin a heap, the largest first
        for run, size in sizes:
            self._runs.setdefault(run[0], []).append((-size, run))
        self._origins = [(sum(size for size, _ in heap), origin) for origin, heap in self._runs.items()]
        heapify(self._origins)
        for heap in self._runs.values():
            heapify(heap)
        self.turn = self._runs[self._origins[0][1]][0][1] if self._origins else None

    def gave_up(self, size: int) -> None:
        """The one whose turn it was gave up so many bytes."""
        held, origin = self._origins[0]
        heap = self._runs[origin]
        of_run, run = heap[0]
        heapreplace(heap, (of_run + size, run))
        heapreplace(self._origins, (held + size, origin))
        self.turn = self._runs[self._origins[0][1]][0][1]

    def pass_over(self) -> None:
        """The one whose turn it was can give up nothing more; what it has still counts as its origin's."""
        heap = self._runs[self._origins[0][1]]
        heappop(heap)
        if not heap:
            heappop(self._origins)
        self.turn = self._runs[self._origins[0][1]][0][1] if self._origins else None
