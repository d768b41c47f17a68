"""Tells the core which of the delivered messages the application has taken.

Contract: a stream is all messages of one run of an author.  If there is a store, or a consumer with a name,
the core gets ``Taken`` for each stream of which the application has taken more.  Else the core gets
``Taken`` only for streams about which it has asked, by ``Awaited``.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.core import events
from twisted_mesh.delivery.delivery import Delivery
from twisted_mesh.runtime.driver import Driver


class _Behind:
    """A stream of which the consumers may not have taken all messages.

    :ivar head: its last message that came or was reported as lost.
    :ivar told: what the core was told last: the message that all but named consumers have taken, and the
        places of these; None if it was told nothing.
    :ivar until: the core waits until this message is taken.
    """

    __slots__ = ("head", "told", "until")

    def __init__(self, head: int = 0, until: int = 0) -> None:
        self.head, self.until = head, until
        self.told: tuple[int, dict[str, int]] | None = None


class Progress:
    """Watches, during one run of a service, which messages the application has taken."""

    def __init__(self, clock: IReactorTime, driver: Driver, delivery: Delivery, is_stored: bool) -> None:
        """:param is_stored: whether there is a store, which remembers how much was taken."""
        self._clock = clock
        self._driver = driver
        self._delivery = delivery
        self._is_stored = is_stored
        self._behind: dict[events.StreamId, _Behind] = {}
        self._moved: dict[events.StreamId, None] = {}
        self._turn: IDelayedCall | None = None
        self._stopped = False

    def begin(self, untaken: Iterable[events.Behind]) -> None:
        """Begin with the streams of which an earlier process stored messages that were not taken."""
        for run, _, head in untaken:
            self._behind[run] = _Behind(head)

    def awaited(self, awaited: events.Awaited) -> None:
        """Note up to which message of a stream the core waits, or that it waits no more."""
        run = awaited.run
        if not awaited.sequence:
            self._behind.pop(run, None)
            return
        self._behind[run] = _Behind(awaited.head, awaited.sequence)
        self._moved[run] = None

    def delivered(self, event: events.Deliver | events.GapFound | events.Poisoned) -> None:
        """Note that messages were handed to the consumers, or will not come."""
        run = (event.origin, event.epoch)
        if (behind := self._behind.get(run)) is None:
            if not event.first or not self._tells_all:  # whispers have no numbers
                return
            behind = self._behind[run] = _Behind()
        if event.first:
            behind.head = event.last
            self._moved[run] = None

    def may_have_moved(self, run: events.StreamId) -> None:
        """Note that a consumer took messages of *run*, put some back, or closed."""
        if self._stopped or (self._turn is not None and run in self._moved):
            return
        if self._tells_all:
            if run not in self._behind:
                self._behind[run] = _Behind()
            self._moved[run] = None
            if self._turn is None:  # one Taken a turn takes a third of the time of one a message
                self._turn = self._clock.callLater(0, self._end_of_turn)
        elif run in self._behind:
            self._moved[run] = None
            self.look()

    def stop(self) -> None:
        """Tell the core of all streams a last time: messages of a freed queue count as taken."""
        self._stopped = True
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._moved.update(dict.fromkeys(self._behind))
        self.look()

    def footprint(self) -> dict[str, int]:
        return {"runs_in_progress": len(self._behind)}

    def look(self) -> None:
        """Tell the core of the streams of which the consumers have taken more.

        If there is a store, call this between events only, when all that the core holds is delivered.
        """
        if self._behind and self._delivery.consumer_gone():
            self._moved.update(dict.fromkeys(self._behind))
        moved, self._moved = self._moved, {}
        for run in moved:
            if (behind := self._behind.get(run)) is None:
                continue
            if self._tells_all:
                behind.head = max(behind.head, self._driver.node.head(run))
            places = self._delivery.places(run, behind.head)
            taken = self._delivery.taken(run, behind.head)
            is_news, behind.told = behind.told != (taken, places), (taken, places)
            if min((taken, *places.values())) >= (behind.head if self._tells_all else behind.until):
                del self._behind[run]
            if is_news:
                self._driver.handle(events.Taken(run, taken, places))

    @property
    def _tells_all(self) -> bool:
        """Whether the core is told of all streams."""
        return self._is_stored or bool(self._delivery.named.queues)

    def _end_of_turn(self) -> None:
        self._turn = None
        self.look()
