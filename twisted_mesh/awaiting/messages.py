"""The messages of one consumer in an asyncio loop: ``async for message in mesh.messages()``.

Contract: as :class:`~twisted_mesh.delivery.queue.MessageQueue`.  Messages cross from the reactor's thread
to the loop in batches of a bounded size: the next batch when the consumer has all of the last one.  A
message counts as taken when the consumer gets it.  If the consumer is cancelled while it waits, no message
is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakMethod

from twisted_mesh.awaiting.loop_calls import LoopCalls
from twisted_mesh.delivery.queue import READ_BYTES, Bounds, Consumers, MessageQueue
from twisted_mesh.message import Message, Source
from twisted_mesh.threads.hosted_node import HostedNode
from twisted_mesh.threads.proxies import Caller, with_replies

#: At most so many messages, or READ_BYTES, cross at a time.  With 1000 a message takes 3 us; with 100 it
#: takes 5.5 us, and with one 180 us (measured).
BATCH: Final = 1000


class BatchQueue(MessageQueue):
    """A queue whose consumer is in another thread, and asks for batches of messages."""

    def __init__(
        self, bounds: Bounds, consumers: Consumers, give: Callable[[list[Message], bool], None]
    ) -> None:
        """:param give: gets each batch, and whether it is empty because the queue has ended."""
        super().__init__(bounds, consumers)
        self._give = give
        self._wanted = False  # whether the consumer has asked, and got nothing yet
        self._out: deque[Message] = deque()  # messages that crossed and are not taken
        self._taken = 0  # how many messages that crossed were taken

    def want(self) -> None:
        """Give the consumer a batch, as soon as there are messages or the queue has ended."""
        self._wanted = True
        self.wake()

    def wake(self) -> None:
        if not self._wanted:
            return
        self._wanted = False  # messages that come meanwhile are not given before these
        batch: list[Message] = []
        size = 0
        while len(batch) < BATCH and size < READ_BYTES and (item := self.hand_out()) is not None:
            batch.append(item[0])
            size += item[1]
        self._wanted = not batch and not self._closed
        if not self._wanted:
            self._out.extend(batch)
            self._give(batch, not batch)

    def taken_up_to(self, count: int) -> None:
        """Note that the consumer has the first *count* messages of all that crossed."""
        while self._taken < count:
            self._taken += 1
            self.took(self._out.popleft())


class Messages:
    """The messages of a Mesh from now on: an async iterator, for one task at a time."""

    def __init__(self, waited_for: set[Messages]) -> None:
        """:param waited_for: the iterators for whose next message a task waits; it keeps them alive."""
        self._waited_for = waited_for
        self._calls: LoopCalls | None = None
        self._queue: BatchQueue | None = None
        self._come: deque[Message] = deque()
        self._asked = False  # whether the queue was asked for a batch, and gave none yet
        self._ended = False
        self._waiting: asyncio.Future[None] | None = None
        self._handed_out = 0  # how many messages the consumer got
        self._telling = False  # whether the queue will be told that number

    def attach(self, node: HostedNode, calls: LoopCalls) -> None:
        """Receive the messages of *node* from now on; this runs in the reactor's thread."""
        if self._ended:
            return
        come = WeakMethod(self._came)  # so that this iterator is freed if the application drops it

        def give(batch: list[Message], has_ended: bool) -> None:
            calls.in_loop(_came, come, _with_replies(calls, batch), has_ended)

        self._queue = node._add_queue(lambda bounds, consumers: BatchQueue(bounds, consumers, give))
        self._calls = calls
        if self._asked:  # the consumer began to wait before the node was there
            self._queue.want()

    def close(self) -> None:
        """Receive no more messages; the iteration ends after the messages that have come.

        These messages count as taken from now on, so that no receipt waits for them.
        """
        if self._calls is None:
            self._ended = True
        else:
            self._calls.later(self._close)

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> Message:
        if not self._come:
            await self._wait()
        message = self._come.popleft()
        self._handed_out += 1
        if not self._telling and self._calls is not None:
            self._telling = True
            self._calls.later(self._tell)
        return message

    async def _wait(self) -> None:
        if self._waiting is not None:
            raise RuntimeError("messages() has one consumer at a time: call it again for another")
        while not self._come:
            if self._ended:
                raise StopAsyncIteration
            if not self._asked:
                self._asked = True
                if self._calls is not None:
                    self._calls.later(self._want)
            self._waiting = asyncio.get_running_loop().create_future()
            self._waited_for.add(self)
            try:
                await self._waiting
            finally:
                self._waiting = None
                self._waited_for.discard(self)

    def _came(self, batch: list[Message], has_ended: bool) -> None:
        self._asked = False
        self._ended |= has_ended
        self._come.extend(batch)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # ── in the reactor's thread ─────────────────────────────────────────────────────

    def _want(self) -> None:
        assert self._queue is not None
        self._queue.want()

    def _tell(self) -> None:
        assert self._queue is not None
        self._telling = False  # before the number is read: a message that comes later is told again
        self._queue.taken_up_to(self._handed_out)

    def _close(self) -> None:
        assert self._queue is not None
        self._queue.close()


def _came(
    come: WeakMethod[Callable[[list[Message], bool], None]], batch: list[Message], has_ended: bool
) -> None:
    if (came := come()) is not None:
        came(batch, has_ended)


def _with_replies(caller: Caller, batch: list[Message]) -> list[Message]:
    """Copies of the messages of *batch*, whose replies *caller* sends."""
    sources: dict[int, Source] = {}  # messages of one batch of their author share their source
    copies = []
    for message in batch:
        if (source := sources.get(id(message.source))) is None:
            source = sources[id(message.source)] = with_replies(caller, message).source
        facts = (message.number, message.in_reply_to)
        copies.append(Message(message.entry, message.sequence, source, *facts))
    return copies
