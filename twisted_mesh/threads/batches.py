"""Gives messages to a consumer outside the reactor's thread, in batches of a bounded size.

Contract: the consumer asks for each batch, and gets it as soon as there are messages, or the queue has
ended.  It says later how many of all messages it has taken.  Call all methods in the reactor's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import ref

from twisted_mesh.delivery.named import NamedQueue
from twisted_mesh.delivery.queue import READ_BYTES, MessageQueue
from twisted_mesh.message import Message

#: At most so many messages, or READ_BYTES, cross at a time.  With 1000 a message takes 3 us; with 100 it
#: takes 5.5 us, and with one 180 us (measured).
BATCH: Final = 1000
#: Gets each batch, and whether it is empty because the queue has ended.
Give = Callable[[list[Message], bool], None]


class Batches:
    """The messages of one queue for one consumer."""

    def __init__(self, queue: MessageQueue, give: Give) -> None:
        self._queue = queue
        self._give = give
        self._wanted = False  # whether the consumer has asked, and got nothing yet
        self._out: deque[Message] = deque()  # messages that crossed and are not taken
        self._taken = 0  # how many messages that crossed were taken

    def want(self) -> None:
        """Give the consumer a batch, as soon as there are messages or the queue has ended."""
        self._wanted = True
        self._queue.wake()

    def wake(self) -> None:
        """Give the consumer a batch, if it wants one and there are messages."""
        if not self._wanted:
            return
        self._wanted = False  # messages that come meanwhile are not given before these
        batch: list[Message] = []
        size = 0
        while len(batch) < BATCH and size < READ_BYTES and (item := self._queue.hand_out()) is not None:
            batch.append(item[0])
            size += item[1]
        self._wanted = not batch and not self._queue.has_ended
        if not self._wanted:
            self._out.extend(batch)
            self._give(batch, not batch)

    def taken_up_to(self, count: int) -> None:
        """Note that the consumer has the first *count* messages of all that crossed."""
        while self._taken < count:
            self._taken += 1
            self._queue.took(self._out.popleft())

    def close(self) -> None:
        """Receive no more messages."""
        self._queue.close()


class BatchQueue(MessageQueue):
    """A queue whose consumer is in another thread, and asks for batches of messages."""

    _batches: ref[Batches] | None = None

    def given_by(self, batches: Batches) -> Batches:
        """Let *batches* give the messages; it holds this queue, so that both are freed together."""
        self._batches = ref(batches)
        return batches

    def wake(self) -> None:
        if self._batches is not None and (batches := self._batches()) is not None:
            batches.wake()


class NamedBatches(Batches):
    """The messages of a named consumer, which this object has open (``delivery.named.Owner``)."""

    _queue: NamedQueue

    def __init__(self, queue: NamedQueue, closed: Callable[[NamedQueue], None], give: Give) -> None:
        """:param closed: is called when the consumer is closed."""
        super().__init__(queue, give)
        self.turn = 0
        self._closed = closed

    def want(self) -> None:
        if self._queue.is_of(self):
            super().want()
        else:
            self._give([], True)

    def wake(self) -> None:
        """As :meth:`Batches.wake`; the end is told even if no batch is wanted."""
        if self._queue.stops:
            self._give([], True)
        else:
            super().wake()

    def taken_up_to(self, count: int) -> None:
        if self._queue.is_of(self):  # else the messages are given to the next owner
            super().taken_up_to(count)

    def close(self) -> None:
        if self._queue.is_of(self):
            self._closed(self._queue)
        self._give([], True)
