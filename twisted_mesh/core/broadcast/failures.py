"""Which links were asked and did not send the messages: a claim is unsigned, and may be false.

Contract: a failure counts for the messages that were missing then.  Once the head of the stream has
moved, that link is as good as any other for the next missing messages.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import Link

TRIES: Final = 3  # WANTs for one range to one link that has announced it

_NEVER: Final[OrderedDict[StreamId, tuple[int, int]]] = OrderedDict()


class Failures:
    """The failures of all links; ``len()`` counts the runs that each link failed for."""

    def __init__(self, history: History, limit: int) -> None:
        """:param limit: the most runs for each link; then the run of the oldest failure is forgotten."""
        self._history = history
        self._limit = limit
        # link -> run -> (the head behind which it sent nothing, how often)
        self._failed: dict[int, OrderedDict[StreamId, tuple[int, int]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._failed.values()))

    def of(self, link: int, run: StreamId) -> int:
        """How often *link* has failed to send the messages that are missing now."""
        head, times = self._failed.get(link, _NEVER).get(run, (0, 0))
        return times if head == self._history.head(run) else 0

    def lately(self, link: Link, run: StreamId) -> int:
        """How many WANTs *link* left unanswered: for these messages, or for any since it last answered."""
        return max(link.repair.failures, self.of(link.number, run))

    def note(self, link: Link, run: StreamId) -> None:
        """Note that *link* has not sent the messages it was asked for."""
        times = self.of(link.number, run) + 1
        failed = self._failed.setdefault(link.number, OrderedDict())
        failed[run] = self._history.head(run), times
        failed.move_to_end(run)
        if len(failed) > self._limit:
            failed.popitem(last=False)
        link.repair.failures += 1

    def forgive(self, link: int, run: StreamId) -> None:
        """Forget the failures of *link* for *run*, so that it can be asked again."""
        if link in self._failed:
            self._failed[link].pop(run, None)

    def forget(self, link: int) -> None:
        """Forget the failures of *link*, which is gone."""
        self._failed.pop(link, None)
