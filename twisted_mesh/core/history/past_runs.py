"""The runs of which this node holds no message: closed ones, void ones, and those ended before it joined.

Contract: of a *closed* run only the head is kept.  A run is *void* if it is below the floor of its author:
nothing of it is taken.  If a run had *ended* before this node joined, its messages are held for others, and
never delivered here.  Each table is bounded.  If too many runs of one author are closed, History forgets
the lowest, and raises the author's floor above it; else its messages could be delivered again.  If too many
runs of all authors are closed, those of new authors (:mod:`~twisted_mesh.core.authors`) are forgotten
first, of the site that introduced most: an attacker can make up authors, and would push out all others.
All of that is stored, too, if there is a store.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heapreplace
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.authors import Authors
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.changes import Changes
from twisted_mesh.core.history.storage import AuthorMarks, Restored
from twisted_mesh.identity import MOST_CLAIMED

#: At the limit a 256th of the heads is forgotten at once, since sorting the sites takes time (guess).
_SLACK: Final = 256


class PastRuns:
    """What a node remembers of the runs of which it holds no message."""

    def __init__(self, config: MeshConfig, authors: Authors, changes: Changes | None = None) -> None:
        """:param changes: gathers what is to be stored; without it everything is in memory alone."""
        self._config = config
        self._authors = authors
        self._changes = changes
        self._closed: dict[StreamId, tuple[int, str | None]] = {}  # the head, and the author's introducer
        #: The closed runs by their authors' introducer, those closed first at the front.
        self._introduced: dict[str | None, OrderedDict[StreamId, None]] = {}
        #: The epochs of closed runs in which the author has signed something, by origin, lowest first.
        self._closed_of: dict[bytes, list[int]] = {}
        self._crowded: dict[bytes, None] = {}  # origins with more of them than are kept
        self._newest_closed: dict[bytes, int] = {}  # the newest epoch of closed runs, by origin
        self._floors: OrderedDict[bytes, int] = OrderedDict()  # by origin, the one named longest ago first
        self._ended: dict[bytes, int] = {}  # by origin: lower epochs had ended before this node joined

    # ── closed runs ─────────────────────────────────────────────────────────────────

    def __contains__(self, run: StreamId) -> bool:
        """Whether *run* is closed."""
        return run in self._closed

    def head(self, run: StreamId) -> int:
        """The head of *run*, 0 if it is not closed."""
        closed = self._closed.get(run)
        return 0 if closed is None else closed[0]

    def closed_from(self, run: StreamId) -> Iterator[tuple[StreamId, int]]:
        """*run*, if it is closed, and then the newest closed run of its author, if later; with their heads.

        A run that its author would not believe in (:data:`MOST_CLAIMED`) does not count as the newest.
        """
        origin, epoch = run
        for known in sorted({epoch, max(epoch, self._newest_closed.get(origin, 0))}):
            if head := self.head((origin, known)):
                yield (origin, known), head

    def closed_of(self, origin: bytes) -> Iterator[tuple[int, int]]:
        """The closed runs in which *origin* has signed something: epoch and head."""
        for epoch in self._closed_of.get(origin, []):
            yield epoch, self.head((origin, epoch))

    def close(self, run: StreamId, head: int, introducer: str | None, *, signed: bool) -> None:
        """Keep the *head* of *run*, of which no message is held any more.

        :param introducer: the site that introduced the author; None if the author is known.
        :param signed: whether the author has signed something in it; others can claim any runs.
        """
        origin, epoch = run
        self._keep(run, head, introducer)
        if signed:
            epochs = self._closed_of.setdefault(origin, [])
            insort(epochs, epoch)
            if len(epochs) > self._config.closed_runs:
                self._crowded[origin] = None
        if self._changes is not None:
            self._changes.closed(run, head, self._config.closed_streams)

    def keep_within_limit(self, now: float) -> None:
        """If there are more than ``closed_streams`` heads, forget some: of new authors before known ones.

        Of new authors the site that introduced most loses the run that was closed first, and so on.
        """
        limit = self._config.closed_streams
        if len(self._closed) <= limit:
            return
        left = limit - limit // _SLACK
        sites = [(-len(runs), site) for site, runs in self._introduced.items() if site is not None]
        heapify(sites)
        while sites and len(self._closed) > left:
            _, site = sites[0]
            runs = self._introduced[site]
            run = next(iter(runs))
            if self._authors.introducer(run[0], now) is None:
                head = self.head(run)
                self._drop(run)
                self._keep(run, head, None)
            else:
                self._forget(run)
            if runs:
                heapreplace(sites, (-len(runs), site))
            else:
                heappop(sites)
        while len(self._closed) > left:
            self._forget(next(iter(self._introduced[None])))

    def reopen(self, run: StreamId) -> int:
        """Note that *run* is not closed any more; return the head that was kept, or 0."""
        self._uncount(run)
        return self._drop(run)

    def restore(self, restored: Restored) -> None:
        """Begin with what a store held.  The authors of all closed runs in it count as known."""
        for run, head in restored.closed:
            self._keep(run, head, None)
        for marks in restored.authors:
            self._raise_floor(marks.origin, marks.floor)
            self._note_ended(marks.origin, marks.ended)

    @property
    def is_over_limits(self) -> bool:
        """Whether too many runs are closed, of an author or of all."""
        return bool(self._crowded) or len(self._closed) > self._config.closed_streams

    @property
    def crowded(self) -> bytes | None:
        """An author of which too many runs are closed, or None."""
        return next(iter(self._crowded), None)

    def lowest_too_many(self, origin: bytes) -> int | None:
        """The lowest closed epoch of *origin*, if too many of its runs are closed; else None."""
        epochs = self._closed_of.get(origin, [])
        if len(epochs) > self._config.closed_runs:
            return epochs[0]
        self._crowded.pop(origin, None)
        return None

    def forget_lowest(self, origin: bytes) -> int:
        """Forget the lowest closed run of *origin*; return its epoch."""
        lowest = self._closed_of[origin][0]
        self.reopen((origin, lowest))
        self._tell_forgotten((origin, lowest))
        return lowest

    # ── void and ended runs ─────────────────────────────────────────────────────────

    def is_void(self, run: StreamId) -> bool:
        """Whether *run* is below the floor of its author, so that no message of it is taken."""
        return run[1] < self._floors.get(run[0], 0)

    def raise_floor(self, origin: bytes, floor: int) -> bool:
        """Note that runs of *origin* below *floor* are void; return whether that raises the floor.

        Of more than ``floors_limit`` authors, the one whose floor came longest ago is forgotten.
        """
        is_higher = self._raise_floor(origin, floor)
        if is_higher:
            self._tell_author(origin)
        return is_higher

    def joined(self, newest: Mapping[bytes, int]) -> None:
        """Note which runs had ended before this node joined: those of each author below its *newest* epoch.

        They are remembered of the first ``ended_limit`` authors.
        """
        for origin, epoch in newest.items():
            if self._note_ended(origin, epoch):
                self._tell_author(origin)

    def had_ended(self, run: StreamId) -> bool:
        """Whether *run* had ended before this node joined."""
        return run[1] < self._ended.get(run[0], 0)

    def footprint(self) -> dict[str, int]:
        """The number of entries in every table."""
        return {
            "closed_streams": len(self._closed),
            "closed_authors": len(self._newest_closed),
            "closed_origins": len(self._closed_of),
            "crowded_origins": len(self._crowded),
            "ended_authors": len(self._ended),
            "floors": len(self._floors),
        }

    def _raise_floor(self, origin: bytes, floor: int) -> bool:
        if not floor:
            return False
        known = self._floors.get(origin, 0)
        self._floors[origin] = max(floor, known)
        self._floors.move_to_end(origin)
        if len(self._floors) > self._config.floors_limit:
            self._floors.popitem(last=False)
        return floor > known

    def _note_ended(self, origin: bytes, epoch: int) -> bool:
        known = self._ended.get(origin, 0)
        has_room = origin in self._ended or len(self._ended) < self._config.ended_limit
        if epoch > known and has_room:
            self._ended[origin] = epoch
            return True
        return False

    def _tell_author(self, origin: bytes) -> None:
        if self._changes is not None:
            marks = AuthorMarks(origin, self._floors.get(origin, 0), self._ended.get(origin, 0))
            self._changes.author_changed(marks, self._config.floors_limit + self._config.ended_limit)

    def _tell_forgotten(self, run: StreamId) -> None:
        if self._changes is not None:
            self._changes.forgotten(run, self._config.closed_streams)

    def _keep(self, run: StreamId, head: int, introducer: str | None) -> None:
        origin, epoch = run
        self._closed[run] = head, introducer
        self._introduced.setdefault(introducer, OrderedDict())[run] = None
        if self._newest_closed.get(origin, 0) < epoch <= MOST_CLAIMED:
            self._newest_closed[origin] = epoch

    def _drop(self, run: StreamId) -> int:
        """Drop the head of *run*, and return it; 0 if there is none."""
        if run not in self._closed:
            return 0
        head, introducer = self._closed.pop(run)
        runs = self._introduced[introducer]
        del runs[run]
        if not runs:
            del self._introduced[introducer]
        return head

    def _forget(self, run: StreamId) -> None:
        self.reopen(run)
        self._tell_forgotten(run)
        if self._newest_closed.get(run[0]) == run[1]:
            del self._newest_closed[run[0]]

    def _uncount(self, run: StreamId) -> None:
        epochs = self._closed_of.get(run[0], [])
        if run[1] in epochs:
            epochs.remove(run[1])
            if not epochs:
                del self._closed_of[run[0]]
