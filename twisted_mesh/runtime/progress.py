"""Tells the core which of the delivered messages the application has taken.

Contract: the core gets ``Taken`` for each run in which the application has taken more: for every run if
there is a store, else for those for which the core has asked with ``Awaited``.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.core import events
from twisted_mesh.core.history.storage import Untaken
from twisted_mesh.delivery.delivery import Delivery
from twisted_mesh.runtime.driver import Driver


class _Behind:
    """A run of which the consumers may not have taken all messages.

    :ivar head: its last message that came or was reported as lost.
    :ivar told: the last message that the core knows to be taken; -1 if it was told none.
    :ivar until: the message that the core waits for.
    """

    __slots__ = ("head", "told", "until")

    def __init__(self, head: int, told: int, until: int = 0) -> None:
        self.head, self.told, self.until = head, told, until


class Progress:
    """Tells the core which messages the application has taken, in one run of a service."""

    def __init__(self, clock: IReactorTime, driver: Driver, delivery: Delivery, is_stored: bool) -> None:
        """:param is_stored: whether there is a store: it keeps how far the consumers are in every run."""
        self._clock = clock
        self._driver = driver
        self._delivery = delivery
        self._is_stored = is_stored
        self._behind: dict[events.StreamId, _Behind] = {}
        self._moved: dict[events.StreamId, None] = {}
        self._turn: IDelayedCall | None = None
        self._stopped = False

    def begin(self, untaken: Iterable[Untaken]) -> None:
        """Begin with the runs of which an earlier process stored more messages than were taken."""
        for run, taken, head in untaken:
            self._behind[run] = _Behind(head, taken)

    def awaited(self, awaited: events.Awaited) -> None:
        """Note that the core waits to hear of a run, or waits no more."""
        run = awaited.run
        if not awaited.sequence:
            self._behind.pop(run, None)
            return
        self._behind[run] = _Behind(awaited.head, awaited.taken, awaited.sequence)
        self._moved[run] = None

    def delivered(self, event: events.Deliver | events.GapFound | events.Poisoned) -> None:
        """Note messages that were handed to the consumers, or will not come."""
        run = (event.origin, event.epoch)
        if (behind := self._behind.get(run)) is None:
            if not self._is_stored or not event.first:  # whispers have no numbers
                return
            behind = self._behind[run] = _Behind(0, -1)
        if event.first:
            behind.head = event.last
            self._moved[run] = None

    def taken(self, run: events.StreamId) -> None:
        """Note that a consumer took messages of *run*, put some back, or counts as having taken them."""
        if self._stopped:
            return
        if self._is_stored:
            self._behind.setdefault(run, _Behind(0, -1))
            self._moved[run] = None
            if self._turn is None:  # one message at a time would take thrice as long
                self._turn = self._clock.callLater(0, self._end_of_turn)
        elif run in self._behind:
            self._moved[run] = None
            self.look()

    def stop(self) -> None:
        """Tell the core of all runs once more: what a freed queue held counts as taken."""
        self._stopped = True
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._moved.update(dict.fromkeys(self._behind))
        self.look()

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"runs_in_progress": len(self._behind)}

    def look(self) -> None:
        """Tell the core of the runs in which the consumers have taken more.

        If there is a store this runs between events only: by then, all that the core holds was delivered.
        """
        if self._behind and self._delivery.consumer_gone():
            self._moved.update(dict.fromkeys(self._behind))
        moved, self._moved = self._moved, {}
        for run in moved:
            if (behind := self._behind.get(run)) is None:
                continue
            if self._is_stored:
                behind.head = max(behind.head, self._driver.node.head(run))
            taken = self._delivery.taken(run, behind.head)
            is_news, behind.told = taken != behind.told, taken
            if taken >= (behind.head if self._is_stored else behind.until):
                del self._behind[run]
            if is_news:
                self._driver.handle(events.Taken(run, taken))

    def _end_of_turn(self) -> None:
        self._turn = None
        self.look()
