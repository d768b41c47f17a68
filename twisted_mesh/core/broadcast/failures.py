"""Who was asked and did not bring it: a claim is unsigned, and a false one would be asked for ever.

Contract: a failure counts for what was missing then: when the stream has gone on, that link is as good as
any other for what is missing next.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import Link

TRIES: Final = 3  # of one announcer for one range

_NEVER: Final[OrderedDict[StreamId, tuple[int, int]]] = OrderedDict()


class Failures:
    """The failures of all links; ``len()`` counts the runs they are about, link by link."""

    def __init__(self, history: History, limit: int) -> None:
        """:param limit: of runs for each link; of more the one that failed longest ago is forgotten."""
        self._history = history
        self._limit = limit
        # link -> run -> (the head it failed to go on from, how often)
        self._failed: dict[int, OrderedDict[StreamId, tuple[int, int]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._failed.values()))

    def of(self, link: int, run: StreamId) -> int:
        """How often *link* has failed to bring what is missing now."""
        head, times = self._failed.get(link, _NEVER).get(run, (0, 0))
        return times if head == self._history.head(run) else 0

    def lately(self, link: Link, run: StreamId) -> int:
        """How many WANTs *link* left unanswered, these or any lately."""
        return max(link.repair.failures, self.of(link.number, run))

    def note(self, link: Link, run: StreamId) -> None:
        """*link* has not brought what it was asked for."""
        times = self.of(link.number, run) + 1
        failed = self._failed.setdefault(link.number, OrderedDict())
        failed[run] = self._history.head(run), times
        failed.move_to_end(run)
        if len(failed) > self._limit:
            failed.popitem(last=False)
        link.repair.failures += 1

    def forgive(self, link: int, run: StreamId) -> None:
        """*link* is asked for *run* anew."""
        if link in self._failed:
            self._failed[link].pop(run, None)

    def forget(self, link: int) -> None:
        """*link* is gone."""
        self._failed.pop(link, None)
