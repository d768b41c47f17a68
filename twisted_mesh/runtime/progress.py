"""How far the application is in what it was delivered, for the core.

Contract: the core is told with ``Taken`` of each run of which it waits to hear that.  If there is a store,
it is told once it is stored that the messages were taken.  Only runs that moved are looked at.
"""

from __future__ import annotations

from twisted_mesh.core import events
from twisted_mesh.delivery.delivery import Delivery
from twisted_mesh.runtime.driver import Driver
from twisted_mesh.storage.writer import HistoryWriter


class Progress:
    """Tells the core of one run of a service what its application has taken."""

    def __init__(self, driver: Driver, delivery: Delivery, writer: HistoryWriter | None) -> None:
        self._driver = driver
        self._delivery = delivery
        self._writer = writer

    def taken(self, run: events.StreamId) -> None:
        """A consumer has taken something of *run*, or counts as having done so."""
        node = self._driver.node
        if self._writer is None:
            node.replies.issuer.moves(run)
            self.look()
        else:  # it counts once it is stored
            node.history.changed(run)
            self._writer.look(node)

    def stored(self) -> None:
        """Something is stored, of whatever run."""
        receipts = self._driver.node.replies.issuer
        receipts.moved.update(receipts.waiting)
        self.look()

    def look(self) -> None:
        """Tell the core of what moved."""
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
