"""One consumer's messages: the queue behind ``async for message in service.messages()`` and ``recv()``.

Contract: a slow consumer holds up no other, and misses no message that is still held.  The messages that
wait here are bounded by number and bytes.  Later ones stay in the history, and are read from there when
the consumer has taken those.  Messages that have left the history by then are reported as a gap, before
the next message.  Messages that cannot be read are not lost: they are read later.
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
    """Messages *first* to *last* of a run that the history still has, each with its size in bytes.

    :ivar damaged: whether the history has them and cannot read them; then *messages* is empty.
    """

    first: int
    last: int
    messages: list[tuple[Message, int]]
    damaged: bool = False


#: (run, after, upto, most bytes) -> the messages held of these, in order; raises StoreError: not now.
Reader = Callable[[StreamId, int, int, int], Iterable[Held]]


def read_nothing(run: StreamId, after: int, upto: int, most: int) -> Iterable[Held]:
    """The reader of a service that never started."""
    return ()


class Bounds(NamedTuple):
    """How much may wait for one consumer.

    :ivar messages: that wait here; also the ranges of numbers remembered that were not for it.
    :ivar bytes: of the messages that wait here.
    :ivar runs: of which messages wait in the history.
    """

    messages: int
    bytes: int
    runs: int


class Consumers(Protocol):
    """The queues of one service, as each queue knows them.

    :ivar reader: reads the messages that are held.
    :ivar waited_for: the queues for whose next message a Deferred waits: if the application keeps no
        reference to a queue, nothing else does.
    :ivar counts: messages that all queues dropped.
    """

    reader: Reader
    waited_for: set[MessageQueue]
    counts: Counter[str]

    def lost(self, run: StreamId, gap: Gap, counts: bool) -> None:
        """A queue lost messages of *run*; *counts* is False for a closed queue: the author is not told."""

    def changed(self, run: StreamId) -> None:
        """Messages of *run* were taken, or count as taken now."""

    def closing(self, queue: MessageQueue) -> None:
        """*queue* closes."""


class _Mark:
    """How far the consumer is in a run of which it has not taken all messages.

    :ivar taken: the last message the consumer was handed.
    :ivar queued: the last that waits here or was reported as lost; later ones are in the history.
    :ivar seen: the last that came for the consumer.
    :ivar here: how many wait here.
    :ivar others: numbers between *queued* and *seen* of messages that a handler took.
    :ivar told: numbers above *queued* of messages that did not come and were reported as a gap.
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

    :ivar reader: reads the messages held by the last run of the service in which this queue was open.
    :ivar dropped: whispers that found no room, since the history does not hold whispers; and the oldest
        messages while only the newest are kept.
    """

    def __init__(
        self, bounds: Bounds, consumers: Consumers, notify: Callable[[], None] | None = None
    ) -> None:
        """
        :param consumers: the queues of the service, this one included.
        :param notify: is called after each message.  With it, only the newest messages are kept until
            the first is taken: the application may never take any.
        """
        self._most, self._most_bytes, self._most_runs = bounds
        self._consumers = consumers
        self._notify = notify
        self._only_newest = notify is not None
        self._queue: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._marks: dict[StreamId, _Mark] = {}
        self._behind: OrderedDict[StreamId, _Mark] = OrderedDict()  # messages wait in the history
        self._ranges = 0  # in all marks
        self._gaps: list[tuple[StreamId, Gap]] = []  # not reported yet
        self._waiting: Deferred[Message] | None = None
        self._closed = False
        self._unreadable = False  # the history; set back when it is to be read again
        self.reader = consumers.reader
        self.dropped = 0

    def __len__(self) -> int:
        """How many messages wait here."""
        return len(self._queue)

    @property
    def runs_behind(self) -> int:
        """How many runs have messages that wait in the history."""
        return len(self._behind)

    @property
    def is_held_up(self) -> bool:
        """Whether there is no next message because the history cannot be read now."""
        return self._unreadable and not self._queue

    @property
    def untaken(self) -> int:
        """How many messages have come and are not taken yet, here and in the history."""
        return sum(mark.seen - mark.taken for mark in self._marks.values())

    def put(self, message: Message, size: int) -> None:
        """Take in a message of *size* bytes; those of one run come in order.

        A consumer that waits gets it at :meth:`wake`, when the whole batch is here: that takes two thirds
        less time than to wake it for each message (measured).
        """
        if self._closed:  # earlier in the turn in which the message is handed out
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
        """Note that messages *first* to *last* of *run* will not come, which is reported already."""
        if (mark := self._marks.get(run)) is not None:
            self._ranges -= len(mark.told)
            mark.told.drop_to(mark.queued)
            mark.told.add(first, last)
            self._ranges += len(mark.told)

    def wake(self) -> None:
        """Give the next message, if there is one, to the consumer if it waits."""
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
        """Put the messages *taken* back to the front, in the order in which :meth:`take_sized` gave them.

        They did not reach the consumer.  With them, more messages can wait than the bounds allow.
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
        """The last message of *run* that was taken; if none waits, *head*, the last that came."""
        mark = self._marks.get(run)
        return head if mark is None or self._only_newest else mark.taken

    def follow(self, run: StreamId, sender: bytes, taken: int, head: int) -> None:
        """Begin behind *taken* in *run*: the messages up to *head* wait in the history.

        :param sender: the id of their author.
        """
        mark = self._marks[run] = self._behind[run] = _Mark(sender, taken)
        mark.seen = head

    def peek(self) -> list[Message]:
        """The messages that wait here, the next one first."""
        return [message for message, _ in self._queue]

    def read_again(self) -> None:
        """Read the history again after it could not be read."""
        self._unreadable = False
        self.wake()

    def close(self) -> None:
        """Receive no more messages, and hold up no receipt; the iteration ends after those that have come.

        It ends sooner if the history file cannot be read then.  Messages that have come count as taken
        from now on.
        """
        if not self._closed:
            self._consumers.closing(self)
            self.end()
            for run in list(self._marks):
                self._consumers.changed(run)

    def end(self) -> None:
        """Receive no more messages; the iteration ends after those that have come and can be read."""
        self._closed = True
        self._unreadable = False
        self.wake()
        if self._waiting is not None:
            self._wait_no_more().errback(Failure(StopAsyncIteration()))

    def __aiter__(self) -> MessageQueue:
        return self

    async def __anext__(self) -> Message:
        if (message := self.take()) is not None:
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

    # ── messages that wait here ─────────────────────────────────────────────────────

    def _put_numbered(self, message: Message, sequence: int, size: int) -> None:
        run = message.source.run
        mark = self._mark(message, sequence)
        # While any run waits in the history all of them do: else a busy run would take all the room here.
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
        if (mark := self._marks.get(run)) is None:
            mark = self._marks[run] = _Mark(message.sender, sequence - 1)
        return mark

    def _fits(self, size: int) -> bool:
        """Whether a message of *size* bytes finds room; in an empty queue it always does."""
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

    # ── messages that wait in the history ───────────────────────────────────────────

    def _read_on(self) -> None:
        """Fetch messages that wait in the history, of one run after the other."""
        readable = not self._unreadable
        while readable and self._behind and not self._queue:
            run, mark = self._behind.popitem(last=False)
            try:
                is_all = self._read(run, mark)
            except StoreError:
                is_all = readable = False
                self._unreadable = not self._closed  # read_again() is not called for a closed queue
            if is_all:
                mark.queued = mark.seen
            else:
                self._behind[run] = mark  # behind the other runs
            self._tidy(run, mark)

    def _read(self, run: StreamId, mark: _Mark) -> bool:
        """Queue the messages of one run that are held; whether those were all.

        :raises StoreError: the rest cannot be read now.
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
        """Report the messages of a run in the history as lost, since too much would be remembered."""
        self._lost(run, mark, mark.seen)
        self._tidy(run, mark)  # the messages that wait here are not lost
        # Without a mark all count as taken, so the loss is reported first.  If too many gaps wait, they are
        # reported at once: the application may never take a message.
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
                self._gaps.append((run, Gap(mark.sender, run[1], low, high, why)))

    def _tidy(self, run: StreamId, mark: _Mark) -> None:
        """Forget the ranges that *mark* no longer needs, and *mark* itself if all of *run* is taken."""
        for ranges in (mark.others, mark.told):
            if ranges:
                self._ranges -= len(ranges)
                ranges.drop_to(mark.queued)
                self._ranges += len(ranges)
        if not mark.here and run not in self._behind:
            del self._marks[run]
