"""One consumer's messages: ``async for message in service.messages()``, and what ``recv()`` takes from.

Contract: a consumer that is slow holds up nobody and misses nothing that is still held.  What waits for
it here is bounded by number and bytes; what comes beyond that stays in the history, and is read from
there once it has taken what waits.  What has left the history by then is told as a gap, before the next
message.  What cannot be read is not lost: it is read later.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.delivery.ranges import Ranges
from twisted_mesh.errors import StoreError
from twisted_mesh.message import Gap, Message

READ_BYTES: Final = 1024 * 1024  # read from the history at a time (guess)
_TOO_SLOW: Final = "the consumer was too slow"
_DAMAGED: Final = "they are damaged in the history file of this node"

StreamId = tuple[bytes, int]  # origin, epoch
_log = Logger()


class Held(NamedTuple):
    """Messages *first* to *last* of a run as the history still has them, each with its size in bytes.

    :ivar damaged: whether it has them and cannot read them, so that there are none.
    """

    first: int
    last: int
    messages: list[tuple[Message, int]]
    damaged: bool = False


#: (run, after, upto, most bytes) -> what is held of that, in order; or StoreError: not now.
Reader = Callable[[StreamId, int, int, int], Iterable[Held]]


def read_nothing(run: StreamId, after: int, upto: int, most: int) -> Iterable[Held]:
    """The reader of a service that never started."""
    return ()


class Bounds(NamedTuple):
    """What may wait for one consumer.

    :ivar messages: that wait here, and ranges of numbers remembered that were not for it.
    :ivar bytes: of the messages that wait here.
    :ivar runs: with messages that wait in the history.
    """

    messages: int
    bytes: int
    runs: int


class Consumers(Protocol):
    """What the queues of one service share.

    :ivar reader: reads what is held.
    :ivar waited_for: the queues for whose next message somebody waits: nothing else holds a consumer of
        which the application keeps nothing.
    :ivar counts: of what all of them dropped.
    """

    reader: Reader
    waited_for: set[MessageQueue]
    counts: Counter[str]

    def lost(self, run: StreamId, gap: Gap, counts: bool) -> None:
        """A queue lost some of *run*; *counts* if its author is told: not of what a closed queue lost."""

    def changed(self, run: StreamId) -> None:
        """Something of *run* was taken, or counts as taken now."""

    def closing(self, queue: MessageQueue) -> None:
        """*queue* closes."""


class _Mark:
    """How far the consumer is in a run of which it has not taken everything.

    :ivar taken: the last message it was handed.
    :ivar queued: the last that waits here, or was told as lost; what follows is in the history.
    :ivar seen: the last that came for it.
    :ivar here: how many wait here.
    :ivar others: what lies between *queued* and *seen* and is not for it: a handler took that.
    :ivar told: what lies above *queued* and was told as a gap when it did not come.
    """

    __slots__ = ("here", "others", "queued", "seen", "sender", "taken", "told")

    def __init__(self, sender: bytes, taken: int) -> None:
        self.sender = sender
        self.taken = self.queued = self.seen = taken
        self.here = 0
        self.others = Ranges()
        self.told = Ranges()


class MessageQueue:
    """The messages of one consumer: an async iterator, or :meth:`take` without waiting.

    :ivar reader: reads what is held of the run that was the present one when this queue was last open.
    :ivar dropped: whispers that found no room, since the history has them not; and the oldest
        messages while only the newest are kept.
    """

    def __init__(
        self, bounds: Bounds, consumers: Consumers, notify: Callable[[], None] | None = None
    ) -> None:
        """
        :param consumers: of one service, of which this is one.
        :param notify: is called after each message that came.  With it only the newest are kept until
            the first is taken: nobody may ever ask for one.
        """
        self._most, self._most_bytes, self._most_runs = bounds
        self._consumers = consumers
        self._notify = notify
        self._only_newest = notify is not None
        self._queue: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._marks: dict[StreamId, _Mark] = {}
        self._behind: OrderedDict[StreamId, _Mark] = OrderedDict()  # something waits in the history
        self._ranges = 0  # in all marks
        self._gaps: list[tuple[StreamId, Gap]] = []  # not told yet
        self._waiting: Deferred[Message] | None = None
        self._closed = False
        self._unreadable = False  # what waits in the history, until it is to be tried again
        self.reader = consumers.reader
        self.dropped = 0

    def __len__(self) -> int:
        """Messages that wait here."""
        return len(self._queue)

    @property
    def runs_behind(self) -> int:
        """Runs of which something waits in the history."""
        return len(self._behind)

    @property
    def is_held_up(self) -> bool:
        """Whether there is no next message because what waits in the history cannot be read now."""
        return self._unreadable and not self._queue

    @property
    def untaken(self) -> int:
        """Numbers that have come and are not taken yet, here and in the history."""
        return sum(mark.seen - mark.taken for mark in self._marks.values())

    def put(self, message: Message, size: int) -> None:
        """A message of *size* bytes came; those of one run come in order.

        Who waits for one gets it with :meth:`wake`, once all that came together is here: to go on once a
        batch and not once a message is two thirds of the time less (measured).
        """
        if self._closed:  # since the turn began in which this is handed out
            return
        if self._waiting is not None and not self._fits(size):
            self.wake()
        if self._only_newest:
            self._append(message, size)
            while len(self) > self._most or (len(self) > 1 and self._bytes > self._most_bytes):
                self._pop()
                self._drop("no message was taken yet: the oldest that wait are dropped from now on")
        elif message.sequence is not None:
            self._put_numbered(message, message.sequence, size)
        elif self._fits(size):
            self._append(message, size)
        else:
            self._drop("a consumer is too slow: messages that are not held are dropped from now on")
        if self._notify is not None:
            self._notify()

    def missing(self, run: StreamId, first: int, last: int) -> None:
        """Messages *first* to *last* of *run* will not come; that is told already."""
        mark = self._marks.get(run)
        if mark is not None:
            self._ranges -= len(mark.told)
            mark.told.drop_to(mark.queued)
            mark.told.add(first, last)
            self._ranges += len(mark.told)

    def wake(self) -> None:
        """Give who waits the next message, if there is one."""
        if self._waiting is not None and (message := self.take()) is not None:
            self._wait_no_more().callback(message)

    def take(self) -> Message | None:
        """The next message, or None if there is none now."""
        taken = self.take_sized()
        return None if taken is None else taken[0]

    def take_sized(self) -> tuple[Message, int] | None:
        """The next message and its size in bytes, or None if there is none now."""
        if self._only_newest:
            self._end_of_newest()
        if not self._queue:
            self._read_on()
        if self._gaps:
            self._tell_gaps()
        if not self._queue:
            return None
        message, _ = taken = self._pop()
        if message.sequence is not None:
            run = message.source.run
            mark = self._marks[run]
            mark.taken = message.sequence
            mark.here -= 1
            if mark.others or not mark.here:
                self._tidy(run, mark)
            self._consumers.changed(run)
        return taken

    def put_back(self, taken: Sequence[tuple[Message, int]]) -> None:
        """What was *taken*, as :meth:`take_sized` gave it and in that order, is the next again.

        It did not reach who took it.  What waits can be more than its bounds by that.
        """
        for message, size in reversed(taken):
            self._queue.appendleft((message, size))
            self._bytes += size
            if message.sequence is not None:
                mark = self._mark(message, message.sequence)
                mark.here += 1
                mark.taken = min(mark.taken, message.sequence - 1)
                mark.queued = max(mark.queued, message.sequence)
                mark.seen = max(mark.seen, message.sequence)
                self._consumers.changed(message.source.run)

    def taken(self, run: StreamId, head: int) -> int:
        """The last message of *run* that was taken; *head*, the last that came, if none waits."""
        mark = self._marks.get(run)
        return head if mark is None or self._only_newest else mark.taken

    def seen(self, run: StreamId) -> int:
        """The last message of *run* that came, of a run that is not taken whole; else 0."""
        mark = self._marks.get(run)
        return 0 if mark is None else mark.seen

    def follow(self, run: StreamId, sender: bytes, taken: int, head: int) -> None:
        """Of *run*, whose author has the id *sender*, *taken* to *head* wait in the history."""
        mark = self._marks[run] = self._behind[run] = _Mark(sender, taken)
        mark.seen = head

    def peek(self) -> list[Message]:
        """What waits here, the next one first."""
        return [message for message, _ in self._queue]

    def read_again(self) -> None:
        """What could not be read is to be tried again."""
        self._unreadable = False
        self.wake()

    def close(self) -> None:
        """Receive nothing more and hold up nobody's receipt; the iteration ends after what has come.

        That ends sooner where the history file cannot be read then.  What has come and is not taken yet
        counts as taken from now on.
        """
        if not self._closed:
            self._consumers.closing(self)
            self.end()
            for run in list(self._marks):
                self._consumers.changed(run)

    def end(self) -> None:
        """Receive nothing more; the iteration ends after what has come and can be read."""
        self._closed = True
        self._unreadable = False
        self.wake()
        if self._waiting is not None:
            self._wait_no_more().errback(Failure(StopAsyncIteration()))

    def __aiter__(self) -> MessageQueue:
        return self

    async def __anext__(self) -> Message:
        message = self.take()
        if message is not None:
            return message
        if self._closed:
            raise StopAsyncIteration
        if self._waiting is not None:
            raise RuntimeError("messages() has one consumer at a time: call it again for another")
        self._waiting = Deferred(self._cancelled)
        self._consumers.waited_for.add(self)
        return await self._waiting

    def _cancelled(self, _: Deferred[Message]) -> None:
        self._wait_no_more()

    def _wait_no_more(self) -> Deferred[Message]:
        waiting, self._waiting = self._waiting, None
        self._consumers.waited_for.discard(self)
        assert waiting is not None
        return waiting

    # ── what waits here ─────────────────────────────────────────────────────────────

    def _put_numbered(self, message: Message, sequence: int, size: int) -> None:
        run = message.source.run
        mark = self._mark(message, sequence)
        # While anything is behind the rest queues up there too, or a busy run would keep the room
        # here for itself.
        if not self._behind and self._fits(size):
            self._append(message, size)
            mark.here += 1
            mark.queued = mark.seen = sequence
            return
        if sequence > mark.seen + 1:
            self._ranges -= len(mark.others)
            mark.others.add(mark.seen + 1, sequence - 1)
            self._ranges += len(mark.others)
        mark.seen = sequence
        self._behind[run] = mark
        if len(self._behind) > self._most_runs or self._ranges > self._most:
            self._give_up(*self._behind.popitem(last=False))

    def _end_of_newest(self) -> None:
        self._only_newest = False
        for message, _ in self._queue:
            if message.sequence is not None:
                mark = self._mark(message, message.sequence)
                mark.here += 1
                mark.queued = mark.seen = message.sequence
        for run in list(self._marks):
            self._consumers.changed(run)

    def _mark(self, message: Message, sequence: int) -> _Mark:
        run = message.source.run
        mark = self._marks.get(run)
        if mark is None:
            mark = self._marks[run] = _Mark(message.sender, sequence - 1)
        return mark

    def _fits(self, size: int) -> bool:
        """Whether a message of *size* bytes finds room; one always does."""
        queue = self._queue
        return not queue or (len(queue) < self._most and self._bytes + size <= self._most_bytes)

    def _append(self, message: Message, size: int) -> None:
        self._queue.append((message, size))
        self._bytes += size

    def _pop(self) -> tuple[Message, int]:
        popped = self._queue.popleft()
        self._bytes -= popped[1]
        return popped

    def _drop(self, why: str) -> None:
        if not self.dropped:
            _log.warn(why)
        self.dropped += 1
        self._consumers.counts["dropped_messages"] += 1

    # ── what waits in the history ───────────────────────────────────────────────────

    def _read_on(self) -> None:
        """Fetch what waits in the history, of one run after the other."""
        readable = not self._unreadable
        while readable and self._behind and not self._queue:
            run, mark = self._behind.popitem(last=False)
            try:
                is_all = self._read(run, mark)
            except StoreError:
                is_all = readable = False
                self._unreadable = not self._closed  # nobody tells a closed one when to try again
            if is_all:
                mark.queued = mark.seen
            else:
                self._behind[run] = mark  # the others first
            self._tidy(run, mark)

    def _read(self, run: StreamId, mark: _Mark) -> bool:
        """Queue what is held of one run; whether that was all.

        :raises StoreError: the rest of it cannot be read now.
        """
        came = False
        for first, last, messages, damaged in self.reader(run, mark.queued, mark.seen, READ_BYTES):
            came = True
            self._lost(run, mark, first - 1)
            if damaged:
                self._lost(run, mark, last, _DAMAGED)
                continue
            for message, size in messages:
                assert message.sequence is not None
                if message.sequence in mark.others:
                    continue
                if not self._fits(size):
                    return False
                self._append(message, size)
                mark.here += 1
                mark.queued = message.sequence
            mark.queued = last
        if not came:
            self._lost(run, mark, mark.seen)
        return mark.queued >= mark.seen

    def _give_up(self, run: StreamId, mark: _Mark) -> None:
        """Tell what waits of a run in the history as lost, since too much would have to be remembered."""
        self._lost(run, mark, mark.seen)
        self._tidy(run, mark)  # of what waits here nothing is lost
        # Without a mark all counts as taken, so what is lost is told first; and nobody may ever take any.
        if run not in self._marks or len(self._gaps) > self._most_runs:
            self._tell_gaps()

    def _tell_gaps(self) -> None:
        gaps, self._gaps = self._gaps, []
        for run, gap in gaps:
            self._consumers.lost(run, gap, not self._closed)

    def _lost(self, run: StreamId, mark: _Mark, last: int, why: str = _TOO_SLOW) -> None:
        first, mark.queued = mark.queued + 1, max(mark.queued, last)
        for low, high in mark.told.outside(first, last):
            if not mark.others.cover(low, high):
                gap = Gap(mark.sender, run[1], low, high, why)
                self._gaps.append((run, gap))

    def _tidy(self, run: StreamId, mark: _Mark) -> None:
        """Forget what *mark* has no more use for, itself included."""
        for ranges in (mark.others, mark.told):
            if ranges:
                self._ranges -= len(ranges)
                ranges.drop_to(mark.queued)
                self._ranges += len(ranges)
        if not mark.here and run not in self._behind:
            del self._marks[run]
