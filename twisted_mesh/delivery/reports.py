"""Reports to the application: events for its listeners, made from events of the core.

Contract: each report is one event with one value.  No decision is made here.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from twisted_mesh.core import events
from twisted_mesh.delivery.delivery import Delivery
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.identity import id_of
from twisted_mesh.message import Gap


class Reports:
    """Makes the reports of one service."""

    def __init__(self, delivery: Delivery, service: object) -> None:
        """:param service: the argument of ``connect`` and ``disconnect`` listeners."""
        self.delivery = delivery
        self.emit = delivery.listeners.emit
        self._service = service

    def linked(self, count: int) -> None:
        """Report that a node came into the routing table, which has *count* nodes now."""
        if count == 1:
            self.emit("connect", self._service)

    def unlinked(self, count: int) -> None:
        """Report that a node left the routing table, which has *count* nodes now."""
        if not count:
            self.emit("disconnect", self._service)

    def failed(self, error: Exception) -> None:
        """Report an error that no call of the application raises."""
        self.emit("failure", Failure(error))

    def gap(self, gap: events.GapFound) -> None:
        """Report that messages will not come."""
        why = "no neighbour sent them in time"
        found = Gap(id_of(gap.origin), gap.epoch, gap.first, gap.last, why)
        self.delivery.missing((gap.origin, gap.epoch), found)

    def poisoned(self, poisoned: events.Poisoned) -> None:
        """Report messages that came and cannot be unpacked."""
        sender, error = id_of(poisoned.origin), poisoned.error
        text = f"messages {poisoned.first} to {poisoned.last} of {sender.decode()} cannot be read: {error}"
        self.delivery.blame(sender, text, error)

    def equivocation(self, equivocation: events.Equivocation) -> None:
        """Report that an author signed two different messages with the same number."""
        sender, first = id_of(equivocation.origin), equivocation.first
        text = f"{sender.decode()} signed two different messages {first}; its messages are repaired no more"
        self.delivery.blame(sender, text, RemoteError(text, Reason.SIGNATURE))
