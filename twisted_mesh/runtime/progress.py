"""How far the application is in what it was delivered, for the store and the core.

Contract: if there is a store, the writer is told what was taken of each run that moved: once a turn, and at
the stop.  The core is told with ``Taken`` of each run of which it waits to hear that; if there is a store,
once it is stored.  Only runs that moved are looked at.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.core import events
from twisted_mesh.delivery.delivery import Delivery
from twisted_mesh.runtime.driver import Driver
from twisted_mesh.storage.writer import HistoryWriter


class Progress:
    """Tells what the application of one run of a service has taken."""

    def __init__(
        self, clock: IReactorTime, driver: Driver, delivery: Delivery, writer: HistoryWriter | None
    ) -> None:
        self._clock = clock
        self._driver = driver
        self._delivery = delivery
        self._writer = writer
        self._moved: dict[events.StreamId, None] = {}  # the writer is to be told of
        self._turn: IDelayedCall | None = None

    def taken(self, run: events.StreamId) -> None:
        """A consumer has taken something of *run*, or counts as having done so."""
        if self._writer is None:
            self._driver.node.replies.issuer.moves(run)
            self.look()
        else:  # the core is told once it is stored; one message at a time would take thrice as long
            self._moved[run] = None
            if self._turn is None:
                self._turn = self._clock.callLater(0, self._end_of_turn)

    def delivered(self, event: events.Deliver | events.GapFound | events.Poisoned) -> None:
        """Messages were handed to the consumers, or will not come."""
        if event.first:  # whispers have no numbers
            self._moved[event.origin, event.epoch] = None

    def stored(self) -> None:
        """Something is stored, of whatever run."""
        receipts = self._driver.node.replies.issuer
        receipts.moved.update(receipts.waiting)
        self.look()

    def stop(self) -> None:
        """Tell the writer of the rest, and of what counts as taken because a consumer is gone."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self._writer is not None:
            self._moved.update(dict.fromkeys(self._writer.behind()))
            self._tell_writer()

    def look(self) -> None:
        """Tell the writer and the core of what moved."""
        self._tell_writer()
        node = self._driver.node
        receipts, history = node.replies.issuer, node.history
        if receipts.waiting and self._delivery.consumer_gone():
            receipts.moved.update(receipts.waiting)
        moved, receipts.moved = receipts.moved, {}
        for run in moved:
            if self._writer is None:  # a closed stream has a head, too
                taken = self._delivery.taken(run, history.head(run))
            else:
                stream = history.get(run)
                taken = 0 if stream is None else stream.kept
            if taken > receipts.asked[run].taken:
                self._driver.handle(events.Taken(run, taken))

    def _end_of_turn(self) -> None:
        self._turn = None
        self._tell_writer()

    def _tell_writer(self) -> None:
        if self._writer is None or not self._moved:
            return
        moved, self._moved = self._moved, {}
        head = self._driver.node.history.head
        for run in moved:
            self._writer.taken(run, self._delivery.taken(run, head(run)))
