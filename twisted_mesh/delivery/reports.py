"""What the application is told of the node, as events of its emitter.

Contract: each report is one event with one value; nothing here decides anything.
"""

from __future__ import annotations

from twisted.python.failure import Failure

from twisted_mesh.core import events
from twisted_mesh.delivery.delivery import Delivery
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.identity import id_of
from twisted_mesh.message import Gap, Member, Refusal


class Reports:
    """The reports of one service."""

    def __init__(self, delivery: Delivery, service: object) -> None:
        """
        :param service: what ``connect`` and ``disconnect`` listeners are given.
        """
        self.delivery = delivery
        self._emit = delivery.listeners.emit
        self._service = service

    def linked(self, count: int) -> None:
        """A node came into the routing table, where there are *count* now."""
        if count == 1:
            self._emit("connect", self._service)

    def unlinked(self, count: int) -> None:
        """A node left the routing table, where *count* are left."""
        if not count:
            self._emit("disconnect", self._service)

    def refused(self, refusal: Refusal) -> None:
        """A connection did not become a link."""
        self._emit("refused", refusal)

    def member(self, member: Member) -> None:
        """A member is new, or has changed."""
        self._emit("member", member)

    def failed(self, error: Exception) -> None:
        """Something failed that nobody waits for."""
        self._emit("failure", Failure(error))

    def gap(self, gap: events.GapFound) -> None:
        """Messages will not come."""
        why = "no neighbour sent them in time"
        found = Gap(id_of(gap.origin), gap.epoch, gap.first, gap.last, why)
        self.delivery.missing((gap.origin, gap.epoch), found)

    def poisoned(self, poisoned: events.Poisoned) -> None:
        """Messages cannot be read."""
        sender, error = id_of(poisoned.origin), poisoned.error
        text = f"messages {poisoned.first} to {poisoned.last} of {sender.decode()} cannot be read: {error}"
        self.delivery.blame(sender, text, error)

    def equivocation(self, equivocation: events.Equivocation) -> None:
        """An author signed two things under one number."""
        sender = id_of(equivocation.origin)
        text = (
            f"{sender.decode()} signed two different messages {equivocation.first}; it is repaired no more"
        )
        error = RemoteError(text, Reason.SIGNATURE)
        self.delivery.blame(sender, text, error)
