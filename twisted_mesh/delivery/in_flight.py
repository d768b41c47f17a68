"""A named consumer of which several messages are out at a time, each until it is acknowledged.

Contract: an acknowledgement names one message, and counts it as taken with all that were handed out before
it.  Messages that are out when the owner closes are handed out again, to the next owner.  That one may
begin by acknowledging them.  At most :data:`MOST` messages are out, or those with ``READ_BYTES`` together:
then none is handed out until some are acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from twisted_mesh.delivery.named import Key, NamedQueue, key_of
from twisted_mesh.delivery.queue import READ_BYTES
from twisted_mesh.message import Gap, Message

MOST: Final = 1000  # messages (guess: as many as cross to another thread at a time)


class InFlight:
    """The owner of a named consumer (``delivery.named.Owner``); ``len()`` is the number of messages out."""

    def __init__(
        self, queue: NamedQueue, closed: Callable[[NamedQueue], None], ready: Callable[[], None]
    ) -> None:
        """
        :param closed: is called when this object is closed.
        :param ready: is called when there may be a next message, or the end.
        """
        self.turn = 0
        self._queue = queue
        self._closed = closed
        self._ready = ready
        self._out: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._has_begun = False  # whether a message was handed out

    def __len__(self) -> int:
        return len(self._out)

    @property
    def has_ended(self) -> bool:
        """Whether no more messages come: it is closed, or the service stops."""
        return not self._queue.is_of(self) or self._queue.has_ended

    @property
    def is_full(self) -> bool:
        """Whether no more messages are handed out until some are acknowledged."""
        return len(self._out) >= MOST or self._bytes >= READ_BYTES

    def next(self) -> Message | None:
        """Hand out the next message; None if there is none now, or too many are out."""
        if self.has_ended or self.is_full or (item := self._queue.hand_out()) is None:
            return None
        self._has_begun = True
        self._out.append(item)
        self._bytes += item[1]
        self._take_nameless()
        return item[0]

    def gaps(self) -> Iterator[Gap]:
        """Messages that will not come, told before the next message that comes; each gap once.

        Of more than ``KEPT_GAPS``, those that were found last.
        """
        while self._queue.is_of(self) and self._queue.lost:
            yield self._queue.lost.popleft()

    def acknowledge(self, key: Key) -> bool:
        """Count a message as taken, with all that were handed out before it.

        Before the first :meth:`next`, the messages are meant that were out when the last owner closed; or,
        if that is not known any more, the message and those before it in its run.

        :return: whether a message with that key was out.
        """
        if not self._queue.is_of(self):
            return False
        if not self._has_begun:
            return self._queue.acknowledge(key)
        count = next((n for n, (message, _) in enumerate(self._out, 1) if key_of(message) == key), 0)
        for _ in range(count):
            self._take_first()
        self._take_nameless()
        return count > 0

    def has_taken(self, key: Key) -> bool:
        """Whether no message waits, or is out, that has this key or comes before it in its run."""
        return self._queue.has_taken(key)

    def close(self) -> None:
        """Let others open the consumer; messages that are out are handed out again."""
        if self._queue.is_of(self):
            self._closed(self._queue)

    def wake(self) -> None:
        self._ready()

    def _take_first(self) -> None:
        message, size = self._out.popleft()
        self._bytes -= size
        self._queue.took(message)

    def _take_nameless(self) -> None:
        # Nobody can acknowledge a whisper, so it is taken as soon as those before it are.
        while self._out and key_of(self._out[0][0]) is None:
            self._take_first()
