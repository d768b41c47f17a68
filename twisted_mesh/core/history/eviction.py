"""Whose messages are given up next, if there are too many in memory or in the history file.

Contract: the *turn* is that of the largest run of the origin with the most bytes.  So no origin can push
out another's messages, with one run or with many.  The caller drops messages of the run, and then says how
many bytes that freed.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace
from typing import Final

from twisted_mesh.core.events import StreamId

_SLACK: Final = 16  # a sixteenth (guess)


def reduced(limit: int) -> int:
    """The size to shrink to: a sixteenth below *limit*, so that the next eviction is not due at once."""
    return limit * (_SLACK - 1) // _SLACK


class Shares:
    """The bytes that each run of each origin holds.

    :ivar turn: the run whose turn it is; None if all were passed over.
    """

    __slots__ = ("_origins", "_runs", "turn")

    def __init__(self, sizes: Iterable[tuple[StreamId, int]]) -> None:
        """:param sizes: bytes of each run."""
        # A heap of (minus bytes, run) for each origin, so that the largest comes first.
        self._runs: dict[bytes, list[tuple[int, StreamId]]] = {}
        for run, size in sizes:
            self._runs.setdefault(run[0], []).append((-size, run))
        self._origins = [(sum(size for size, _ in heap), origin) for origin, heap in self._runs.items()]
        heapify(self._origins)
        for heap in self._runs.values():
            heapify(heap)
        self._next()

    def gave_up(self, size: int) -> None:
        """Note that the run whose turn it was gave up *size* bytes."""
        held, origin = self._origins[0]
        heap = self._runs[origin]
        of_run, run = heap[0]
        heapreplace(heap, (of_run + size, run))
        heapreplace(self._origins, (held + size, origin))
        self._next()

    def pass_over(self) -> None:
        """Note that the run whose turn it was can give up no more; its bytes still count for its origin."""
        heap = self._runs[self._origins[0][1]]
        heappop(heap)
        if not heap:
            heappop(self._origins)
        self._next()

    def _next(self) -> None:
        self.turn = self._runs[self._origins[0][1]][0][1] if self._origins else None
