"""The messages of a consumer with a name: it keeps its place in every stream, whether it is open or not.

Contract: a message counts as taken when its consumer asks for the next one.  So a message whose loop body
raises an exception is given again, to the next iterator of that name.  While nobody has a consumer open,
its messages wait in the history, but for some in memory if its owner may come back at once.  Messages that
leave the history meanwhile are reported as a gap when somebody opens the consumer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol
from weakref import ref

from twisted_mesh.core.events import Behind, StreamId
from twisted_mesh.delivery.queue import (
    NEVER_CAME,
    READ_BYTES,
    Bounds,
    Consumers,
    MessageQueue,
    Reader,
)
from twisted_mesh.delivery.ranges import Ranges
from twisted_mesh.identity import id_of
from twisted_mesh.message import Gap, Message

#: What is in the queue of an owner that may come back at once is kept, up to so many bytes; else a client
#: that takes one message at a time has 1 MiB read for each (guess).
KEPT_BYTES: Final = 2 * READ_BYTES
KEPT_GAPS: Final = 64  # the newest gaps of one consumer that its owner can ask for (guess)
#: Names a message: its author's id, the epoch of the author's run, and its number; below 0 if it is direct.
Key = tuple[bytes, int, int]


def key_of(message: Message) -> Key | None:
    """What names *message*; None for a whisper."""
    number = -message.number if message.sequence is None else message.sequence
    return (message.sender, message.source.run[1], number) if number else None


class Owner(Protocol):
    """The iterator that has a consumer open.

    :ivar turn: as of the queue when this owner opened it.
    """

    turn: int

    def wake(self) -> None:
        """A message may have come, or the end."""


class NamedQueue(MessageQueue):
    """The messages of one named consumer.

    :ivar since: since when its owner has it open, or nobody does, in seconds since 1970.
    :ivar start: of a new consumer: it begins with the messages that came in so many last seconds.
    :ivar turn: counts how often it was opened and left.
    :ivar takes: whether it gets messages now; else those with numbers wait for it in the history.
    :ivar lost: the newest gaps in its messages, for an owner that tells them; all are told as events, too.
    :ivar is_placed: whether it has a place in each stream; until then it gets no messages.
    """

    def __init__(self, bounds: Bounds, consumers: Consumers, name: str, since: float) -> None:
        super().__init__(bounds, consumers)
        self.name = name
        self.since = since
        self.start = 0.0
        self.is_placed = False
        self.why_lost = f"the consumer {name!r} had not taken them when they were given up"
        self.turn = 0
        self.lost: deque[Gap] = deque(maxlen=KEPT_GAPS)
        self._owner: ref[Any] | None = None
        self._handed_out: deque[tuple[Message, int]] = deque()
        self._left: list[Key] = []  # in order: what an earlier owner was handed out and did not take
        self._stopping = False
        self.takes = False

    # ── its owner ───────────────────────────────────────────────────────────────────

    @property
    def is_open(self) -> bool:
        """Whether somebody has it open."""
        return self._owner is not None and self._owner() is not None

    @property
    def is_abandoned(self) -> bool:
        """Whether its owner was freed without closing it."""
        return self._owner is not None and self._owner() is None

    def is_of(self, owner: Owner) -> bool:
        """Whether *owner* has it open."""
        return self.turn == owner.turn

    def open(self, owner: Owner, freed: Callable[[], None], now: float) -> None:
        """Give messages to *owner* from now on, beginning with those that were not taken.

        :param freed: is called, in any thread, if *owner* is freed.
        """

        def gone(_: object) -> None:
            self.takes = False
            freed()

        self._owner = ref(owner, gone)
        owner.turn = self.turn = self.turn + 1
        self.since = now
        self._look()

    def leave(self, now: float, keeps: bool = False) -> None:
        """Let nobody have it open: all messages that were not taken wait for the next owner.

        :param keeps: whether those in the queue may stay there, as the next owner may come at once.
        """
        if self._owner is not None:
            self.since = now
        self._owner = None
        self.turn += 1
        self._look()
        if self._handed_out:
            keys = (key_of(message) for message, _ in self._handed_out)
            self._left = [key for key in keys if key is not None]
            for message, _ in self._handed_out:
                if message.sequence is not None:
                    position = self._positions[message.source.run]
                    position.given = max(position.given, message.sequence)
        self._put_back_out()
        if not keeps or self._bytes > KEPT_BYTES:
            self.leave_to_history()
        if self._waiting is not None:
            self._end_wait()

    def stop(self) -> None:
        """Hand out no more messages, since the service stops; those that are out can still be taken."""
        self._stopping = True
        self._look()
        self.leave_to_history()
        self.wake()
        if self._waiting is not None:
            self._end_wait()

    def begin_anew(self, reader: Reader) -> None:
        """Begin a run of the service: the places are told anew."""
        if self.has_ended:  # the owner's iteration is over
            self._owner = None
            self.turn += 1
        self.reader = reader
        self._queue.clear()
        self._handed_out.clear()
        self._bytes = self._directs = self._direct_bytes = self._ranges = 0
        self._positions.clear()
        self._behind.clear()
        self._gaps.clear()
        self._closed = self._stopping = self._unreadable = self.is_placed = False
        self._look()

    def begin(self, behind: Iterable[Behind], *, were_given: bool = False) -> None:
        """Begin with messages that the history holds; from now on others come by :meth:`put`.

        :param were_given: whether an owner of an earlier process may have been handed out all of them.
        """
        self.is_placed = True
        self.start = 0.0
        self._look()
        for run, taken, head in behind:
            self.follow(run, id_of(run[0]), taken, head)
            self._positions[run].given = head if were_given else taken

    def _look(self) -> None:
        self.takes = self.is_placed and self.is_open and not self._stopping

    # ── messages ────────────────────────────────────────────────────────────────────

    @property
    def unacknowledged(self) -> int:
        """How many messages are handed out and not taken, now or when an earlier owner left."""
        return len(self._handed_out) + len(self._left)

    @property
    def stops(self) -> bool:
        """Whether nothing is handed out any more, since the service stops."""
        return self._stopping

    @property
    def has_ended(self) -> bool:
        return self._stopping or super().has_ended

    @property
    def is_full(self) -> bool:
        return self.is_open and super().is_full

    @property
    def has_room(self) -> bool:
        return not self.is_open or super().has_room

    def has_room_for_all(self, count: int, size: int) -> bool:
        return self.takes and super().has_room_for_all(count, size)

    def wake(self) -> None:
        if self._owner is not None and (owner := self._owner()) is not None:
            owner.wake()

    def wake_waiting(self) -> None:
        """As :meth:`MessageQueue.wake`."""
        super().wake()

    def take(self) -> Message | None:
        """The next message, or None if there is none now; the messages before it count as taken."""
        out = self._handed_out
        while out:  # as commit()
            MessageQueue.took(self, out.popleft()[0])
        taken = self.hand_out()
        return None if taken is None else taken[0]

    def commit(self) -> None:
        """Count all messages that were handed out as taken."""
        out = self._handed_out
        while out:
            MessageQueue.took(self, out.popleft()[0])

    def took(self, message: Message) -> None:
        self._handed_out.popleft()
        super().took(message)

    def acknowledge(self, key: Key) -> bool:
        """Count a message as taken that an earlier owner was handed out, and those that came before it.

        Those are the messages that this owner was handed out before it.  If that is not known, they are the
        messages before it in its run.  Call this while nothing is handed out.

        :return: False if no message with that key waits that an earlier owner was, or may have been, given.
        """
        count = self._left.index(key) + 1 if key in self._left else 0
        keys, self._left = self._left[:count], self._left[count:]
        taken = self._take_first(keys)
        if keys and taken == len(keys):
            return True
        keys = keys[taken:]
        self.leave_to_history()
        ends = {one[:2]: one[2] for one in keys or [key] if one[2] > 0}
        found = self._drop_directs({one for one in keys if one[2] < 0})
        for run, position in list(self._positions.items()):
            end = ends.get((position.sender, run[1]), 0)
            if position.taken < end <= position.given:
                found = True
                position.taken = position.queued = end
                if end == position.seen:
                    self._behind.pop(run, None)
                self._tidy(run, position)
                self._consumers.changed(run)
        return found

    def _take_first(self, keys: list[Key]) -> int:
        """Take messages with *keys* from the front of the queue, and return how many are there.

        Whispers before a message have been handed out with it; other whispers stay.
        """
        for count, key in enumerate(keys):
            named = enumerate(key_of(message) for message, _ in self._queue)
            at, first = next((one for one in named if one[1] is not None), (0, None))
            if first != key:
                return count
            for _ in range(at + 1):
                self._take_front()
        return len(keys)

    def _take_front(self) -> None:
        if (item := self.hand_out()) is not None:
            self.took(item[0])

    def has_taken(self, key: Key) -> bool:
        """Whether no message waits, or is out, that has this key or comes before it in its run."""
        author, epoch, number = key
        if number < 0:
            return all(key_of(message) != key for message, _ in (*self._queue, *self._handed_out))
        return not any(
            position.sender == author and run[1] == epoch and position.taken < number
            for run, position in self._positions.items()
        )

    def _drop_directs(self, keys: set[Key]) -> bool:
        """Drop the direct messages with *keys*, which no history holds; return whether there were any."""
        dropped = [size for message, size in self._queue if key_of(message) in keys] if keys else []
        if not dropped:
            return False
        self._queue = deque(item for item in self._queue if key_of(item[0]) not in keys)
        self._bytes -= sum(dropped)
        self._count_direct(-len(dropped), -sum(dropped))
        if self._consumers.is_full:
            self._consumers.look_for_room()
        return True

    def give_again(self) -> None:
        """Hand out again, before all others, the messages that were handed out and not taken."""
        if not self._stopping:
            self._put_back_out()

    def unplaced(self, run: StreamId) -> None:
        """Report the messages of *run* as lost that are not in memory: its stream is closed."""
        if (position := self._behind.pop(run, None)) is not None:
            self._give_up(run, position)

    def missing(self, run: StreamId, first: int, last: int) -> None:
        super().missing(run, first, last)
        self.lost.append(Gap(id_of(run[0]), run[1], first, last, NEVER_CAME))

    def lose_all(self) -> None:
        """Report all messages as lost that were not taken, since the history is gone."""
        self._put_back_out()
        self.leave_to_history()
        for run in list(self._behind):
            self.unplaced(run)
        self._tell_gaps()

    def _fits(self, size: int) -> bool:
        # As MessageQueue._fits() without its call, since a message costs 0.2 us more here (measured).
        queue = self._queue
        return self.takes and (
            not queue or (len(queue) < self._most and self._bytes + size <= self._most_bytes)
        )

    def _read_on(self) -> None:
        if not self._stopping:
            super()._read_on()

    def _tell_gaps(self) -> None:
        self.lost.extend(gap for _, gap in self._gaps)
        super()._tell_gaps()

    def _limit_ranges(self) -> None:
        """Forget which messages handlers took in the run with most ranges: it gets these, too."""
        position = max(self._positions.values(), key=lambda one: len(one.handled) + len(one.reported))
        self._ranges -= len(position.handled) + len(position.reported)
        position.handled, position.reported = Ranges(), Ranges()

    def _end_wait(self) -> None:
        self._wait_no_more().errback(StopAsyncIteration())

    def _put_back_out(self) -> None:
        for message, size in reversed(self._handed_out):
            self._queue.appendleft((message, size))
            self._bytes += size
            if message.number:
                self._count_direct(1, size)
        self._handed_out.clear()

    def leave_to_history(self) -> None:
        """Let the messages in the queue wait in the history; those that it does not hold stay."""
        waiting, self._queue = self._queue, deque()
        self._bytes = 0
        numbers: dict[StreamId, list[int]] = {}
        for message, size in waiting:
            if message.sequence is None:
                self._queue.append((message, size))
                self._bytes += size
            else:
                numbers.setdefault(message.source.run, []).append(message.sequence)
        out: dict[StreamId, int] = {}  # the last message of each run that is handed out
        for message, _ in self._handed_out:
            if message.sequence is not None:
                out[message.source.run] = message.sequence
        for run, position in list(self._positions.items()):
            self._rewind(run, position, out.get(run, position.taken), numbers.get(run, []))

    def _rewind(self, run: StreamId, position: Any, last: int, waiting: list[int]) -> None:
        """Let the messages of *run* behind *last* be read again, but of those queued only *waiting*."""
        handled, end = Ranges(), last
        for number in waiting:
            if number > end + 1:
                handled.add(end + 1, number - 1)
            end = number
        if position.queued > end:
            handled.add(end + 1, position.queued)
        handled.follow(position.handled)
        self._ranges += len(handled) - len(position.handled)
        position.handled = handled
        position.waiting -= len(waiting)
        position.queued = last
        if position.seen > last:
            self._behind[run] = position
        self._tidy(run, position)


class NamedMessages:
    """The messages of a named consumer: ``async for message in service.messages(name="billing")``.

    A message counts as taken when the next one is asked for.  If the loop ends before that, by ``break`` or
    an exception, the next iterator of that name begins with that message again.
    """

    def __init__(self, queue: NamedQueue, closed: Callable[[NamedQueue], None]) -> None:
        """:param closed: is called when this iterator is closed."""
        self.turn = 0
        self._queue = queue
        self._closed = closed

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._queue.name

    @property
    def is_ready(self) -> bool:
        """Whether there is a next message, or the iteration has ended."""
        queue = self._queue
        return not queue.is_of(self) or queue.has_ended or len(queue) > 0 or queue.runs_behind > 0

    def __aiter__(self) -> NamedMessages:
        if self._queue.is_of(self):
            self._queue.give_again()
        return self

    async def __anext__(self) -> Message:
        queue = self._queue
        if queue.turn != self.turn:  # as not queue.is_of(self), which takes 0.1 us (measured)
            raise StopAsyncIteration
        if (message := queue.take()) is not None:
            return message
        return await queue.wait()

    def take(self) -> Message | None:
        """The next message, or None if there is none now; the message before it counts as taken."""
        return self._queue.take() if self._queue.is_of(self) else None

    def commit(self) -> None:
        """Count the message that was handed out last as taken now, as before ``break``."""
        if self._queue.is_of(self):
            self._queue.commit()

    def close(self) -> None:
        """Let others open the consumer; a message that was handed out and is not taken is given again."""
        if self._queue.is_of(self):
            self._closed(self._queue)

    def wake(self) -> None:
        """Give the consumer the next message, if it waits (:class:`Owner`)."""
        self._queue.wake_waiting()
