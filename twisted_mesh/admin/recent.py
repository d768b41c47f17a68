"""The newest events and messages of a node, for readers that come and go.

Contract: events are kept only while somebody reads, and for :data:`KEPT_AFTER` seconds after the last
reader went.  At most ``control_events`` are kept, and ``control_bytes``; a reader that is further behind
is told how many it missed.  So a slow reader costs no memory of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_mesh.cli.json_values import fields_of
from twisted_mesh.config import MeshConfig
from twisted_mesh.delivery.listeners import Event as Told
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.escaping import for_json
from twisted_mesh.service import MeshService

_log = Logger()
KEPT_AFTER: Final = 60.0  # seconds in which a reader can come back and go on (guess)


class Event(NamedTuple):
    """An event as it is told: its *number*, and *data*, which is JSON in UTF-8."""

    number: int
    name: str
    data: bytes


class Recent:
    """The newest events of one service.

    :ivar clock: for timers; :ivar run: tells the numbers here from those of another process.
    :ivar label_of: gives the label of a node, by its id.
    :ivar slow_readers: how many readers were cut, since they took nothing for long.
    """

    def __init__(self, clock: IReactorTime, node: MeshService, config: MeshConfig, run: str) -> None:
        self.run = run
        self.clock = clock
        self.label_of = node._label_of
        self.slow_readers = 0
        self._node = node
        self._config = config
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._number = 0  # of the last event
        self._readers: dict[Callable[[], None], None] = {}
        self._forgetting: IDelayedCall | None = None
        self._listeners: list[tuple[str, Callable[[Any], None]]] = []

    def __len__(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    @property
    def last(self) -> int:
        """The number of the newest event; 0 if there is none."""
        return self._number

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is kept; one more than the last if none is."""
        return self._events[0].number if self._events else self._number + 1

    def begin(self, changed: Callable[[], None]) -> None:
        """Keep events from now on; *changed* is called after each, until :meth:`end`."""
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None
        self._readers[changed] = None
        if not self._listeners:
            self._listen()

    def end(self, changed: Callable[[], None]) -> None:
        """The reader *changed* is gone."""
        if changed not in self._readers:
            return
        del self._readers[changed]
        if not self._readers and self._listeners:
            self._forgetting = self.clock.callLater(KEPT_AFTER, self.stop)

    def after(self, number: int) -> Iterator[Event]:
        """The kept events behind *number*."""
        first = number + 1 - self.oldest
        for at in range(max(0, first), len(self._events)):
            yield self._events[at]

    def stop(self) -> None:
        """Keep nothing any more."""
        if self._forgetting is not None and self._forgetting.active():
            self._forgetting.cancel()
        self._forgetting = None
        for name, listener in self._listeners:
            self._node.remove_listener(name, listener)
        self._listeners = []
        self._readers.clear()
        self._events.clear()
        self._bytes = 0

    def footprint(self) -> dict[str, int]:
        """How many readers there are, and the entries and bytes that are kept for them."""
        return {
            "control_readers": len(self._readers),
            "control_events": len(self._events),
            "control_bytes": self._bytes,
        }

    def _listen(self) -> None:
        name: Told
        for name in ("message", "caught_up", "member", "gap", "refused"):
            self._hear(name, partial(self._add_value, name))
        self._hear("receipt", self._add_receipt)
        self._hear("connect", lambda _: self._add("connect", {}))
        self._hear("disconnect", lambda _: self._add("disconnect", {}))
        self._hear("failure", lambda failure: self._add("failure", {"error": failure.getErrorMessage()}))

    def _hear(self, name: Told, listener: Callable[[Any], None]) -> None:
        self._node.on(name, listener)
        self._listeners.append((name, listener))

    def _add_value(self, name: str, value: Any) -> None:
        self._add(name, fields_of(value, self.label_of))

    def _add_receipt(self, receipt: Receipt) -> None:
        if receipt.id is None:
            return
        _, epoch, sequence = receipt.id
        holders = receipt.refresh()
        counts = {field: len(members) for field, members in holders._asdict().items()}
        self._add(
            "receipt", {"epoch": epoch, "sequence": sequence, **counts, "complete": receipt.is_complete}
        )

    def _add(self, name: str, fields: dict[str, Any]) -> None:
        self._number += 1
        event = Event(self._number, name, for_json(fields).encode("utf-8", "replace"))
        self._events.append(event)
        self._bytes += len(event.data)
        config = self._config
        while len(self._events) > config.control_events or (
            self._bytes > config.control_bytes and len(self._events) > 1
        ):
            self._bytes -= len(self._events.popleft().data)
        for changed in list(self._readers):
            try:
                changed()
            except Exception:  # one reader's fault must not keep the event from the others
                _log.failure("a reader of events failed")
                self.end(changed)
