"""Whoever waits for the same thing: Deferreds that fire together, once."""

from __future__ import annotations

from twisted.internet.defer import Deferred


class Waiters:
    """Deferreds that wait for one thing to happen; one that is cancelled waits no more."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[None], None] = {}

    def wait(self) -> Deferred[None]:
        """Fires the next time it happens."""
        waiting: Deferred[None] = Deferred(self._waiting.__delitem__)
        self._waiting[waiting] = None
        return waiting

    def happened(self) -> None:
        """Fire all that wait now."""
        waiting, self._waiting = self._waiting, {}
        for deferred in list(waiting):
            deferred.callback(None)
