"""``async for message in service.messages()`` and a socket's receive queue: one consumer's queue.

Contract: a consumer that is slow holds up nobody.  Its queue is bounded by number and bytes; at the
bound the oldest message is dropped, and the consumer is told the gap before it gets the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_mesh.message import Gap, Message

_Run = tuple[bytes, int]


class MessageQueue:
    """Messages for one consumer: an async iterator, or taken one by one without waiting.

    :ivar dropped: how many were dropped so far.
    """

    def __init__(
        self,
        limit: int,
        bytes_limit: int,
        tell: Callable[[Gap], None],
        notify: Callable[[], None] | None = None,
    ) -> None:
        """
        :param tell: is given the gaps the consumer gets.
        :param notify: is called after each message that can be taken.  With it nobody is known to
            consume yet: until the first :meth:`take` what is dropped is counted and not told.
        """
        self._limit = limit
        self._bytes_limit = bytes_limit
        self._tell = tell
        self._notify = notify
        self._consumed = notify is None
        self._queue: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._gaps: dict[_Run, tuple[int, int]] = {}  # dropped since the consumer last asked
        self._waiting: Deferred[Message] | None = None
        self._closed = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, message: Message, size: int) -> None:
        """Queue *message* of *size* bytes, or hand it to who waits."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(message)
            return
        self._queue.append((message, size))
        self._bytes += size
        while len(self._queue) > self._limit or (self._bytes > self._bytes_limit and len(self) > 1):
            self._drop()
        if self._notify is not None:
            self._notify()

    def take(self) -> Message | None:
        """The next message, or None if none is there; from the first call on gaps are told."""
        self._consumed = True
        if self._gaps:
            gaps, self._gaps = self._gaps, {}
            for (sender, epoch), (first, last) in gaps.items():
                self._tell(Gap(sender, epoch, first, last, "the consumer was too slow"))
        if not self._queue:
            return None
        message, size = self._queue.popleft()
        self._bytes -= size
        return message

    def peek(self) -> list[Message]:
        """What waits, the next one first; it goes on waiting."""
        return [message for message, _ in self._queue]

    def close(self) -> None:
        """End the iteration after what is queued."""
        self._closed = True
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.errback(Failure(StopAsyncIteration()))

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
        return await self._waiting

    def _cancelled(self, _: Deferred[Message]) -> None:
        self._waiting = None

    def _drop(self) -> None:
        message, size = self._queue.popleft()
        self._bytes -= size
        self.dropped += 1
        if self._consumed and message.sequence is not None:  # a whisper has no number to tell it by
            run = (message.sender, message.source.epoch)
            first, _ = self._gaps.get(run, (message.sequence, 0))
            self._gaps[run] = (first, message.sequence)
