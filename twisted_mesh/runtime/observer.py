"""What a hub tells its service.

Contract: an interface; every method may run user code, none may raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol as Interface

from twisted_mesh.core import events
from twisted_mesh.core.events import Holders
from twisted_mesh.errors import Reason
from twisted_mesh.links.protocol import MeshProtocol
from twisted_mesh.message import Refusal


class Observer(Interface):
    """The application's side of a run."""

    def up(self, link: MeshProtocol) -> None:
        """A node came into the routing table."""
        ...  # pragma: no cover

    def down(self, link: MeshProtocol, reason: Reason) -> None:
        """A node left the routing table because of *reason*, which the link may not know yet."""
        ...  # pragma: no cover

    def dial(self, dial: events.Dial) -> None:
        """The core wants a link, or an exchange."""
        ...  # pragma: no cover

    def joined(self) -> None:
        """A neighbour has told who the others are."""
        ...  # pragma: no cover

    def member_changed(self, origin: bytes) -> None:
        """A member is new, has something else to say of itself, or is in another state."""
        ...  # pragma: no cover

    def numbered(self, run: tuple[bytes, int], place: int, count: int, first: int) -> None:
        """Own messages have numbers of *run*, from *first* on: *count*, from *place* of all on."""
        ...  # pragma: no cover

    def renumbered(self, taken: int) -> None:
        """A new run has begun: own messages above *taken* will get other numbers, of that.

        Nothing more is heard of the others, nor of direct messages that were under way.
        """
        ...  # pragma: no cover

    def taken(self, run: tuple[bytes, int], head: int) -> int:
        """The last message of *run*, up to *head*, that the application has taken."""
        ...  # pragma: no cover

    def consumer_gone(self) -> bool:
        """Whether a consumer is gone since this was asked last, which can have held up any run."""
        ...  # pragma: no cover

    def receipted(self, sequences: Sequence[int]) -> None:
        """More is known of who has these own messages."""
        ...  # pragma: no cover

    def receipt_closed(self, sequence: int, holders: Holders) -> None:
        """The receipt of an own message is not kept up any more; who had it by then."""
        ...  # pragma: no cover

    def direct_ended(self, token: int, why: str | None) -> None:
        """A direct message was acknowledged, or given up."""
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

    def key_in_use(self, epoch: int, proven: bool) -> None:
        """The key is used elsewhere: nothing more can be published.  Told again once that is *proven*."""
        ...  # pragma: no cover
