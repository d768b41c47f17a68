"""One table of events and their subscribers; ``running_node`` fills it.

Contract: :meth:`Dispatch.publish` calls the subscribers of an event's class in the order in which they
subscribed.  If a subscriber raises an error, the error is logged, and the next subscriber is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.logger import Logger

E = TypeVar("E")
_log = Logger()


class Dispatch:
    """The subscribers of one run of a node, by class of event."""

    def __init__(self) -> None:
        self._subscribers: dict[type[object], list[Callable[[Any], object]]] = {}

    def on(self, event_type: type[E], *subscribers: Callable[[E], object]) -> None:
        """Call *subscribers*, in this order, with each event of this class, but not of its subclasses."""
        self._subscribers.setdefault(event_type, []).extend(subscribers)

    def publish(self, event: object) -> None:
        for subscriber in self._subscribers.get(type(event), ()):
            try:
                subscriber(event)
            except Exception:
                _log.failure("{event} was not handled", event=type(event).__name__)
