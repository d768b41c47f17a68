"""The consumers with names of one service: which there are, and who has each open.

Contract: with a history file the consumers and their places outlive the process; else they are kept as long
as the service is.  A consumer's messages are in its own queue (:mod:`~twisted_mesh.delivery.named`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import Final, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.core import events
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.storage import Restored
from twisted_mesh.delivery.named import NamedQueue, Owner
from twisted_mesh.delivery.queue import Reader
from twisted_mesh.errors import ConsumerInUse, LocalError, WrongType, WrongValue
from twisted_mesh.message import Consumer

#: For so many seconds that stays in memory which the next owner of a consumer would get first (guess).
KEPT_SECONDS: Final = 10.0
#: Characters of a name (guess: as many as in a member's label).
NAME_CHARACTERS: Final = 64

OwnerT = TypeVar("OwnerT", bound=Owner)


class NamedConsumers:
    """The named consumers of one service.

    :ivar queues: one for each, by name; :ivar now: gives seconds since 1970.
    """

    def __init__(
        self,
        make: Callable[[str], NamedQueue],
        limit: int,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
    ) -> None:
        """
        :param make: makes the queue of a name; :param limit: how many there may be.
        :param clock: for timers.
        :param wall_clock: gives seconds since 1970.
        """
        self._make = make
        self._limit = limit
        self._clock = clock
        self.now = wall_clock
        # Those that nobody has open and whose next owner may come at once: until then they keep messages.
        self._kept: OrderedDict[NamedQueue, float] = OrderedDict()
        self._letting_go: IDelayedCall | None = None
        self._gone = False  # whether an owner was freed since the last look()
        self._handle: Callable[[events.Event], None] | None = None  # while the service runs
        self._is_stored = False
        self._is_first = True  # whether no run of the service has begun
        self.queues: dict[str, NamedQueue] = {}

    def open(self, name: str, start: str | float, make: Callable[[NamedQueue], OwnerT]) -> OwnerT:
        """Let the owner that *make* makes have the consumer *name* open.

        :param start: where a new consumer begins, as in ``MeshService.messages()``.
        :raises ConsumerInUse: somebody has it open.
        :raises LocalError: *name* or *start* cannot be used, or there are too many consumers.
        """
        seconds = check_consumer(name, start)
        self.look()
        if (queue := self.queues.get(name)) is None:
            if len(self.queues) >= self._limit:
                raise LocalError(
                    f"there are {self._limit} consumers with names (consumers_limit): forget one with "
                    "forget_consumer()"
                )
            queue = self.queues[name] = self._make(name)
            queue.start = seconds
        elif queue.is_open:
            raise ConsumerInUse(f"the consumer {name!r} is open already: close() that iterator first")
        owner = make(queue)
        self._kept.pop(queue, None)
        queue.open(owner, self._freed, self.now())
        self._tell()
        if not queue.is_placed:
            self._place(queue)
        return owner

    def close(self, queue: NamedQueue) -> None:
        """Let nobody have a consumer open."""
        queue.leave(self.now())
        self._tell()

    def pause(self, queue: NamedQueue) -> None:
        """As :meth:`close`, but messages stay in memory for a while, as its next owner may come at once."""
        queue.leave(self.now(), keeps=True)
        self._kept[queue] = self._clock.seconds() + KEPT_SECONDS
        if self._letting_go is None:
            self._letting_go = self._clock.callLater(KEPT_SECONDS, self._let_go)
        self._tell()

    def _let_go(self) -> None:
        """Leave to the history what was kept for owners that have not come."""
        self._letting_go, now = None, self._clock.seconds()
        while self._kept:
            queue, until = next(iter(self._kept.items()))
            if until > now:
                self._letting_go = self._clock.callLater(until - now, self._let_go)
                return
            del self._kept[queue]
            queue.leave_to_history()

    def forget(self, name: str) -> list[StreamId]:
        """Forget a consumer; return the streams of which it had not taken all.

        :raises LocalError: there is no such consumer; ConsumerInUse: somebody has it open.
        """
        self.look()
        if (queue := self.queues.get(name)) is None:
            raise LocalError(f"there is no consumer {name!r}")
        if queue.is_open:
            raise ConsumerInUse(f"the consumer {name!r} is open: close() its iterator first")
        del self.queues[name]
        self._kept.pop(queue, None)
        self._tell()
        return queue.runs

    def _freed(self) -> None:
        self._gone = True  # the garbage collector can call this in any thread, between any two instructions

    def look(self) -> bool:
        """Take back the consumers whose owners were freed; return whether there were any."""
        if not self._gone:
            return False
        self._gone = False
        for queue in list(self.queues.values()):
            if queue.is_abandoned:
                self.close(queue)
        return True

    def values(self) -> dict[str, Consumer]:
        """The consumers as values, by name; any thread may ask."""
        return {
            name: Consumer(name, queue.untaken, queue.is_open, queue.since)
            for name, queue in list(self.queues.items())
        }

    # ── runs of the service ─────────────────────────────────────────────────────────

    def begin(
        self,
        restored: Restored | None,
        origin: bytes,
        reader: Reader,
        handle: Callable[[events.Event], None],
    ) -> None:
        """Begin a run of the service.

        :param restored: the content of the history file; None if there is none.
        :param origin: this node's own; :param reader: reads the history.
        :param handle: gives an event to the core.
        """
        self._handle, self._is_stored = handle, restored is not None
        stored = {} if restored is None else restored.consumers
        for name, since in stored.items():
            if self._is_first and name not in self.queues:  # later: forgotten while the service was stopped
                self.queues[name] = self._make(name)
                self.queues[name].since = since / 1000 or self.now()
        self._is_first = False
        for queue in self.queues.values():
            if restored is None:
                queue.lose_all()
            queue.begin_anew(reader)
            if restored is not None and queue.name in stored:
                queue.begin(restored.untaken(origin, queue.name), were_given=True)
        self._tell()
        for queue in self.queues.values():
            if not queue.is_placed:
                self._place(queue)

    def placed(self, placed: events.Placed) -> None:
        """Give a new consumer the messages that the history holds for it."""
        if (queue := self.queues.get(placed.name)) is not None and not queue.is_placed:
            queue.begin(placed.behind)
            queue.wake()

    def unplaced(self, unplaced: events.Unplaced) -> None:
        """Tell which messages are lost for consumers that are behind in a stream that is closed."""
        for queue in self.queues.values():
            queue.unplaced(unplaced.run)

    def stop(self) -> None:
        """Hand out no more messages, if they are given after the next start."""
        for queue in self.queues.values() if self._is_stored else ():
            queue.stop()

    def end(self) -> None:
        """The service has stopped: end all iterations."""
        self._handle = None
        self._kept.clear()
        if self._letting_go is not None:
            self._letting_go.cancel()
            self._letting_go = None
        for queue in self.queues.values():
            if self._is_stored:
                queue.leave(self.now())
            elif queue.is_open:
                queue.end()
            else:
                queue.lose_all()

    def _tell(self) -> None:
        if self._handle is not None:
            names = {
                name: 0 if queue.is_open else int(queue.since * 1000) for name, queue in self.queues.items()
            }
            self._handle(events.Consumers(names))

    def _place(self, queue: NamedQueue) -> None:
        if self._handle is not None:
            self._handle(events.Place(queue.name, queue.start))


def check_consumer(name: object, start: object) -> float:
    """Check the arguments of ``messages()``; return the seconds for which *start* stands.

    :raises WrongType: or WrongValue: one of them cannot be used.
    """
    if name is None:
        if start != "new":
            raise WrongValue("start= is for a consumer with a name: give name=, too")
        return 0.0
    if not isinstance(name, str):
        raise WrongType(f"the name of a consumer is a str, not {name!r}")
    if not 0 < len(name) <= NAME_CHARACTERS or not name.isprintable():
        most = NAME_CHARACTERS
        raise WrongValue(f"the name of a consumer has 1 to {most} printable characters, not {name!r}")
    if start == "new":
        return 0.0
    if start == "all":
        return inf
    if isinstance(start, int | float) and not isinstance(start, bool) and 0 <= start < inf:
        return float(start)
    raise WrongValue(f'start is "new", "all" or a number of seconds, not {start!r}')
