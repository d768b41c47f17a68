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
from typing import Final

from twisted_mesh.core.events import StreamId

_SLACK: Final = 16  # a sixteenth (guess)
_NEW_COUNTS: Final = 3  # a new author's byte counts as 3 of a known one: so new authors get a quarter


def reduced(limit: int) -> int:
    """The size to shrink to: a sixteenth below *limit*, so that the next eviction is not due at once."""
    return limit * (_SLACK - 1) // _SLACK


_Key = bool | str | bytes | StreamId


class _Group:
    """Parts that share room: the bytes of all, and which part has most.

    A part is again a group, or a run, which is a group without parts.

    :ivar size: bytes of all parts, also of those that were passed over.
    :ivar factor: for how many bytes each of its bytes counts in the group that it is a part of.
    """

    __slots__ = ("_heap", "_parts", "factor", "size")

    def __init__(self, factor: int = 1) -> None:
        self.factor = factor
        self.size = 0
        self._parts: dict[_Key, _Group] = {}
        self._heap: list[tuple[int, _Key, _Group]] = []  # minus the bytes, as they count

    def part(self, key: _Key, factor: int = 1) -> _Group:
        """The part with that key; it begins empty."""
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = _Group(factor)
        return part

    def sort(self) -> None:
        """Find the part that has most; all parts have their bytes by now."""
        for part in self._parts.values():
            part.sort()
        self._heap = [(-part.size * part.factor, key, part) for key, part in self._parts.items()]
        heapify(self._heap)  # no two keys are equal, so groups are never compared

    @property
    def first(self) -> tuple[_Key, _Group] | None:
        """The part that has most and its key; None if all were passed over."""
        return self._heap[0][1:] if self._heap else None

    def gave_up(self, size: int) -> None:
        """Note that the run that has most, in the part that has most, gave up *size* bytes."""
        self.size -= size
        if self._heap:
            _, key, part = self._heap[0]
            part.gave_up(size)
            heapreplace(self._heap, (-part.size * part.factor, key, part))

    def pass_over(self) -> None:
        """Pass over the run that has most in the part that has most."""
        part = self._heap[0][2]
        if part.first is not None:
            part.pass_over()
        if part.first is None:
            heappop(self._heap)


class Shares:
    """The bytes that each run of each origin holds.

    :ivar turn: the run whose turn it is; None if all were passed over.
    """

    __slots__ = ("_all", "turn")

    def __init__(self, sizes: Iterable[tuple[StreamId, str | None, int]]) -> None:
        """:param sizes: each run, its author's introducer (None if the author is known), its bytes."""
        self._all = _Group()
        for run, introducer, size in sizes:
            if introducer is None:
                side = self._all.part(False)
                groups = [side, side.part(run[0])]
            else:
                side = self._all.part(True, _NEW_COUNTS)
                site = side.part(introducer)
                groups = [side, site, site.part(run[0])]
            for group in (*groups, groups[-1].part(run)):
                group.size += size
        self._all.sort()
        self._next()

    def gave_up(self, size: int) -> None:
        """Note that the run whose turn it was gave up *size* bytes."""
        self._all.gave_up(size)
        self._next()

    def pass_over(self) -> None:
        """Note that the run whose turn it was can give up no more; its bytes still count for its origin."""
        self._all.pass_over()
        self._next()

    def _next(self) -> None:
        self.turn: StreamId | None = None
        first = self._all.first
        while first is not None:
            key, group = first
            if isinstance(key, tuple):
                self.turn = key
            first = group.first
