"""What a hub tells its service.

Contract: an interface; every method may run user code, none may raise.
"""

from __future__ import annotations

from typing import Protocol as Interface

from twisted_mesh.core import events
from twisted_mesh.message import Refusal
from twisted_mesh.protocol import MeshProtocol


class Observer(Interface):
    """The application's side of a run."""

    def up(self, link: MeshProtocol) -> None:
        """A node came into the routing table."""
        ...  # pragma: no cover

    def down(self, link: MeshProtocol) -> None:
        """A node left the routing table."""
        ...  # pragma: no cover

    def refused(self, refusal: Refusal) -> None:
        """A connection did not become a link."""
        ...  # pragma: no cover

    def deliver(self, deliver: events.Deliver, link: MeshProtocol | None) -> None:
        """Messages for the application."""
        ...  # pragma: no cover

    def gap(self, gap: events.GapFound) -> None:
        """Messages that will not come."""
        ...  # pragma: no cover

    def poisoned(self, poisoned: events.Poisoned) -> None:
        """Messages that cannot be read."""
        ...  # pragma: no cover

    def equivocation(self, equivocation: events.Equivocation) -> None:
        """An author signed two things under one number."""
        ...  # pragma: no cover

    def epoch_taken(self, epoch: int) -> None:
        """The run must begin anew, above *epoch*."""
        ...  # pragma: no cover

    def key_in_use(self, epoch: int) -> None:
        """The key is used elsewhere: nothing more can be published."""
        ...  # pragma: no cover
