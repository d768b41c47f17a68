"""One consumer's messages: the queue behind ``async for message in service.messages()`` and ``recv()``.

Contract: a slow consumer holds up no other, and misses no message that the history still holds.  The number
and the bytes of the messages that wait in the queue are bounded.  Later messages stay in the history; the
queue reads them when the consumer has taken those before them.  Messages that have left the history by then
are reported as a gap, before the next message.  If the history cannot be read now, the queue tries again.

A *run* is named by its author's public key and its epoch.  The number of its newest message is its head.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Final, NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.core.events import StreamId
from twisted_mesh.delivery.ranges import Ranges
from twisted_mesh.errors import StoreError
from twisted_mesh.message import Gap, Message

READ_BYTES: Final = 1024 * 1024  # bytes to read from the history at one time (guess)
NEVER_CAME: Final = "no neighbour sent them in time"
_DAMAGED: Final = "they are damaged in the history file of this node"

_log = Logger()


class Held(NamedTuple):
    """Messages *first* to *last* of a run, as the history holds them.

    :ivar messages: each with its size in bytes.
    :ivar damaged: whether the history file holds them damaged; then *messages* is empty.
    """

    first: int
    last: int
    messages: list[tuple[Message, int]]
    damaged: bool = False


#: Reads messages of a run from the history, in order; arguments: run, the numbers after which and up to
#: which to read, bytes at most.  Raises StoreError if the history cannot be read now.
Reader = Callable[[StreamId, int, int, int], Iterable[Held]]


class Bounds(NamedTuple):
    """How much may wait for one consumer.

    :ivar messages: how many messages in its queue; also, how many ranges of numbers it may remember.
    :ivar bytes: how many bytes of messages in its queue.
    :ivar runs: of how many runs messages may wait in the history.
    """

    messages: int
    bytes: int
    runs: int


class Consumers(Protocol):
    """All queues of one service, as far as each queue needs to know (``delivery.Delivery``).

    :ivar reader: reads the history.
    :ivar waited_for: the queues for whose next message the application waits.  The set keeps them alive:
        the application need not keep a reference.
    :ivar counts: messages that all queues dropped.
    :ivar is_full: whether a queue has no room for direct messages.
    """

    is_full: bool
    reader: Reader
    waited_for: set[MessageQueue]
    counts: Counter[str]

    def lost(self, run: StreamId, gap: Gap, counts: bool) -> None:
        """A queue lost the messages of *gap*; if *counts*, the author is told that they were missed."""

    def changed(self, run: StreamId) -> None:
        """The application took messages of *run*, or they count as taken now."""

    def look_for_room(self) -> None:
        """A message was taken: find out whether all queues have room for direct messages again."""

    def closing(self, queue: MessageQueue) -> None:
        """*queue* closes."""


class _Position:
    """How far the consumer is in a run of which it has not taken all messages.

    :ivar taken: the last message that the consumer took.
    :ivar given: the last message that an earlier owner of a named consumer was, or may have been, given.
    :ivar queued: the last message that came into the queue or was reported as lost; later messages are in
        the history.
    :ivar seen: the last message that came for the consumer.
    :ivar waiting: how many messages are in the queue, or handed out and not taken.
    :ivar handled: numbers between *queued* and *seen* of messages that a handler took.
    :ivar reported: numbers above *queued* of messages that will not come and were reported as a gap.
    """

    __slots__ = ("given", "handled", "queued", "reported", "seen", "sender", "taken", "waiting")

    def __init__(self, sender: bytes, taken: int) -> None:
        self.sender = sender
        self.taken = self.given = self.queued = self.seen = taken
        self.waiting = 0
        self.handled = Ranges()
        self.reported = Ranges()


class MessageQueue:
    """The messages of one consumer: an async iterator, or :meth:`take` without waiting.

    :ivar why_lost: the reason in gaps of messages that the consumer did not take in time.
    :ivar reader: reads the history of the last run of the service in which this queue was open.
    :ivar dropped: how many messages found no room and were dropped: whispers, which no history holds, and
        the oldest messages while only the newest are kept.
    """

    why_lost = "the consumer was too slow"

    def __init__(
        self, bounds: Bounds, consumers: Consumers, notify: Callable[[], None] | None = None
    ) -> None:
        """
        :param consumers: all queues of the service.
        :param notify: is called after each message.  With it, only the newest messages are kept until the
            application takes the first, because it may never take any.
        """
        self._most, self._most_bytes, self._most_runs = bounds
        self._consumers = consumers
        self._notify = notify
        self._only_newest = notify is not None
        self._queue: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._directs = self._direct_bytes = 0  # the direct messages among them, and their bytes
        self._positions: dict[StreamId, _Position] = {}
        # The runs of which messages wait in the history.
        self._behind: OrderedDict[StreamId, _Position] = OrderedDict()
        self._ranges = 0  # how many ranges all positions have
        self._gaps: list[tuple[StreamId, Gap]] = []  # not reported yet
        self._waiting: Deferred[Message] | None = None  # fires with the next message
        self._closed = False
        # The messages of a named consumer that are handed out and not taken; None for other consumers.
        self._handed_out: deque[tuple[Message, int]] | None = None
        self._unreadable = False  # whether the history could not be read, and read_again() will be called
        self.reader = consumers.reader
        self.dropped = 0

    def __len__(self) -> int:
        """How many messages wait in the queue."""
        return len(self._queue)

    @property
    def runs_behind(self) -> int:
        """How many runs have messages that wait in the history."""
        return len(self._behind)

    @property
    def runs(self) -> list[StreamId]:
        """The runs of which the consumer has not taken all messages."""
        return list(self._positions)

    @property
    def has_ended(self) -> bool:
        """Whether no more messages come."""
        return self._closed

    @property
    def is_held_up(self) -> bool:
        """Whether there is no next message because the history cannot be read now."""
        return self._unreadable and not self._queue

    @property
    def is_full(self) -> bool:
        """Whether no more direct messages shall come for now.

        Other messages do not count: a consumer that is far behind with them may wait for an answer.
        """
        return self._directs >= self._most or self._direct_bytes >= self._most_bytes

    @property
    def has_room(self) -> bool:
        """Whether there is room for many more direct messages."""
        return 2 * self._directs <= self._most and 2 * self._direct_bytes <= self._most_bytes

    @property
    def untaken(self) -> int:
        """How many messages have come and are not taken yet, in the queue and in the history."""
        # The values are copied in one step, since another thread may ask.
        return sum(position.seen - position.taken for position in list(self._positions.values()))

    def put(self, message: Message, size: int) -> None:
        """Add a message of *size* bytes; the messages of one run come in order.

        A consumer that waits gets it at :meth:`wake`, when the whole batch has come.  That takes two thirds
        less time than to wake the consumer for each message (measured).
        """
        if self._closed:  # by a handler or listener of an earlier message in the same turn
            return
        if self._waiting is not None and not self._fits(size):
            self.wake()
        if self._only_newest:
            self._append(message, size)
            while len(self) > self._most or (len(self) > 1 and self._bytes > self._most_bytes):
                self._bytes -= self._queue.popleft()[1]
                self._drop("no message was taken yet: the oldest that wait are dropped from now on")
        elif message.sequence is not None:
            self._put_numbered(message, message.sequence, size)
        elif message.number:  # no more direct messages come if it is full
            self._append(message, size)
            self._count_direct(1, size)
        elif self._fits(size):
            self._append(message, size)
        else:
            self._drop("a consumer is too slow: whispers that find no room are dropped from now on")
        if self._notify is not None:
            self._notify()

    def has_room_for_all(self, count: int, size: int) -> bool:
        """Whether *count* messages of *size* bytes in all go into the queue now, by :meth:`put_all`."""
        return (
            not (self._behind or self._closed or self._notify is not None)
            and len(self._queue) + count <= self._most
            and self._bytes + size <= self._most_bytes
        )

    def put_all(self, messages: Sequence[Message], size: int) -> None:
        """Add messages of one batch, of *size* bytes each, for which there is room.

        A message takes 0.75 us less on its way to the consumer than by :meth:`put` (measured).
        """
        if not messages:  # entries of a later version
            return
        first, last = messages[0], messages[-1]
        assert first.sequence is not None and last.sequence is not None
        position = self._position(first, first.sequence)
        self._queue.extend(zip(messages, repeat(size)))
        self._bytes += len(messages) * size
        position.waiting += len(messages)
        position.queued = position.seen = last.sequence

    def missing(self, run: StreamId, first: int, last: int) -> None:
        """Note that messages *first* to *last* of *run* will not come; they are reported already."""
        if (position := self._positions.get(run)) is not None:
            reported = position.reported
            self._ranges += reported.drop_to(position.queued) + reported.add(first, last)

    def wake(self) -> None:
        """If the consumer waits and there is a message, give the next message to the consumer."""
        if self._waiting is not None:
            self._fetch()  # this can call listeners, which can cancel the wait
        if self._waiting is not None and self._queue:
            waiting = self._wait_no_more()  # before take(), which can let more messages come: later ones
            message = self.take()
            assert message is not None
            waiting.callback(message)

    def take(self) -> Message | None:
        """The next message, or None if there is none now."""
        if (taken := self.hand_out()) is None:
            return None
        self.took(taken[0])
        return taken[0]

    def take_sized(self) -> tuple[Message, int] | None:
        """The next message and its size in bytes, or None if there is none now."""
        if (taken := self.hand_out()) is not None:
            self.took(taken[0])
        return taken

    def hand_out(self) -> tuple[Message, int] | None:
        """As :meth:`take_sized`, but the message counts as taken only when :meth:`took` is called."""
        if not self._queue or self._gaps or self._only_newest:
            self._fetch()
            if not self._queue:
                return None
        handed_out = self._queue.popleft()
        self._bytes -= handed_out[1]
        if handed_out[0].number:
            self._count_direct(-1, -handed_out[1])
        if self._consumers.is_full:
            self._consumers.look_for_room()
        if self._handed_out is not None:
            self._handed_out.append(handed_out)
        return handed_out

    def took(self, message: Message) -> None:
        """Note that the consumer has *message*; call this in the order in which messages are handed out."""
        if message.sequence is not None:
            run = message.source.run
            position = self._positions[run]
            position.taken = message.sequence
            position.waiting -= 1
            if not position.waiting or (self._ranges and position.handled):
                self._tidy(run, position)
            self._consumers.changed(run)

    def put_back(self, taken: Sequence[tuple[Message, int]]) -> None:
        """Put messages that did not reach the consumer back to the front of the queue.

        With them, more messages can wait than the bounds allow.

        :param taken: in the order in which :meth:`take_sized` gave them.
        """
        for message, size in reversed(taken):
            self._queue.appendleft((message, size))
            self._bytes += size
            if message.number:
                self._count_direct(1, size)
            elif message.sequence is not None:
                position = self._position(message, message.sequence)
                position.waiting += 1
                position.taken = min(position.taken, message.sequence - 1)
                position.queued = max(position.queued, message.sequence)
                position.seen = max(position.seen, message.sequence)
                self._consumers.changed(message.source.run)

    def taken(self, run: StreamId, head: int) -> int:
        """The last message of *run* that the consumer took; *head* if none of the run waits."""
        position = self._positions.get(run)
        return head if position is None or self._only_newest else position.taken

    def follow(self, run: StreamId, sender: bytes, taken: int, head: int) -> None:
        """Give the consumer the messages of *run* after number *taken* up to *head*, from the history.

        :param sender: the id of their author.
        """
        position = self._positions[run] = self._behind[run] = _Position(sender, taken)
        position.seen = head

    def peek(self) -> list[Message]:
        """The messages that wait in the queue, the next one first."""
        return [message for message, _ in self._queue]

    def read_again(self) -> None:
        """Read the history again, which could not be read before."""
        self._unreadable = False
        self.wake()

    def close(self) -> None:
        """Receive no more messages; the iteration ends after the messages that have come.

        These messages count as taken from now on, so that no receipt waits for them.  If the history file
        cannot be read, the iteration ends before the messages that wait there.
        """
        if not self._closed:
            self._consumers.closing(self)
            self.end()
            for run in list(self._positions):
                self._consumers.changed(run)

    def end(self) -> None:
        """Receive no more messages; end the iteration after the messages that have come and can be read."""
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
        return await self.wait()

    def wait(self) -> Deferred[Message]:
        """Fires with the next message, while there is none.

        :raises StopAsyncIteration: no more messages come.
        """
        if self.has_ended:
            raise StopAsyncIteration
        if self._waiting is not None:
            raise RuntimeError("messages() has one consumer at a time: call it again for another")
        self._waiting = Deferred(self._cancelled)
        self._consumers.waited_for.add(self)
        return self._waiting

    def _cancelled(self, _: Deferred[Message]) -> None:
        self._wait_no_more()

    def _wait_no_more(self) -> Deferred[Message]:
        waiting, self._waiting = self._waiting, None
        self._consumers.waited_for.discard(self)
        assert waiting is not None
        return waiting

    # ── messages in the queue ───────────────────────────────────────────────────────

    def _put_numbered(self, message: Message, sequence: int, size: int) -> None:
        run = message.source.run
        position = self._position(message, sequence)
        # If messages of any run wait in the history, new messages of every run wait there, too: else a busy
        # run would take all room in the queue.
        if not self._behind and self._fits(size):
            self._append(message, size)
            position.waiting += 1
            position.queued = position.seen = sequence
            return
        if sequence > position.seen + 1:
            self._ranges += position.handled.add(position.seen + 1, sequence - 1)
        position.seen = sequence
        self._behind[run] = position
        if len(self._behind) > self._most_runs:
            self._give_up(*self._behind.popitem(last=False))
        if self._ranges > self._most:
            self._limit_ranges()

    def _fetch(self) -> None:
        """Let the next message be in the queue, if there is one, and report the gaps before it."""
        if self._only_newest:
            self._end_of_newest()
        if not self._queue:
            self._read_on()
        if self._gaps:
            self._tell_gaps()

    def _end_of_newest(self) -> None:
        self._only_newest = False
        for message, size in self._queue:
            if message.number:
                self._count_direct(1, size)
            elif message.sequence is not None:
                position = self._position(message, message.sequence)
                position.waiting += 1
                position.queued = position.seen = message.sequence
        for run in list(self._positions):
            self._consumers.changed(run)

    def _position(self, message: Message, sequence: int) -> _Position:
        run = message.source.run
        if (position := self._positions.get(run)) is None:
            position = self._positions[run] = _Position(message.sender, sequence - 1)
        return position

    def _fits(self, size: int) -> bool:
        """Whether a message of *size* bytes finds room; in an empty queue it always does."""
        queue = self._queue
        return not queue or (len(queue) < self._most and self._bytes + size <= self._most_bytes)

    def _append(self, message: Message, size: int) -> None:
        self._queue.append((message, size))
        self._bytes += size

    def _count_direct(self, messages: int, size: int) -> None:
        self._directs += messages
        self._direct_bytes += size

    def _drop(self, why: str) -> None:
        if not self.dropped:
            _log.warn(why)
        self.dropped += 1
        self._consumers.counts["dropped_messages"] += 1

    # ── messages in the history ─────────────────────────────────────────────────────

    def _read_on(self) -> None:
        """Fetch messages from the history, one run after the other, until there is a next message."""
        readable = not self._unreadable
        while readable and self._behind and not self._queue:
            run, position = self._behind.popitem(last=False)
            try:
                is_all = self._read(run, position)
            except StoreError:
                is_all = readable = False
                self._unreadable = not self._closed  # read_again() is not called for a closed queue
            if is_all:
                position.queued = position.seen
            else:
                self._behind[run] = position  # to be read on after the other runs
            self._tidy(run, position)

    def _read(self, run: StreamId, position: _Position) -> bool:
        """Queue messages of one run that the history holds; return whether none of them is left there.

        :raises StoreError: the rest cannot be read now.
        """
        came = False
        for first, last, messages, damaged in self.reader(run, position.queued, position.seen, READ_BYTES):
            came = True
            self._lost(run, position, first - 1)
            if damaged:
                self._lost(run, position, last, _DAMAGED)
                continue
            for message, size in messages:
                assert message.sequence is not None
                if message.sequence in position.handled:
                    continue
                if not self._fits(size):
                    return False
                self._append(message, size)
                position.waiting += 1
                position.queued = message.sequence
            position.queued = last
        if not came:
            self._lost(run, position, position.seen)
        return position.queued >= position.seen

    def _limit_ranges(self) -> None:
        """Give up the run that has waited longest: all runs together have too many ranges."""
        self._give_up(*self._behind.popitem(last=False))

    def _give_up(self, run: StreamId, position: _Position) -> None:
        """Report messages of *run* as lost that wait in the history: a bound on memory is reached."""
        self._lost(run, position, position.seen)
        self._tidy(run, position)  # the messages in the queue stay
        # Without a position, all messages count as taken, so the loss is reported first.  If too many gaps
        # wait, they are reported now: the application may never take a message.
        if run not in self._positions or len(self._gaps) > self._most_runs:
            self._tell_gaps()

    def _tell_gaps(self) -> None:
        gaps, self._gaps = self._gaps, []
        for run, gap in gaps:
            self._consumers.lost(run, gap, not self._closed)

    def _lost(self, run: StreamId, position: _Position, last: int, why: str = "") -> None:
        first, position.queued = position.queued + 1, max(position.queued, last)
        for low, high in position.reported.outside(first, last):
            if not position.handled.cover(low, high):
                self._gaps.append((run, Gap(position.sender, run[1], low, high, why or self.why_lost)))

    def _tidy(self, run: StreamId, position: _Position) -> None:
        """Forget ranges that are no longer needed; if all of *run* is taken, forget *position*."""
        for ranges in (position.handled, position.reported):
            if ranges:
                self._ranges += ranges.drop_to(position.queued)
        if not position.waiting and run not in self._behind:
            del self._positions[run]
