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
from weakref import WeakMethod

from twisted_mesh.awaiting.loop_calls import LoopCalls
from twisted_mesh.errors import MeshError
from twisted_mesh.message import Message, Source
from twisted_mesh.threads.batches import Batches, Give
from twisted_mesh.threads.hosted_node import HostedNode
from twisted_mesh.threads.proxies import Caller, with_replies


class Messages:
    """The messages of a Mesh from now on: an async iterator, for one task at a time."""

    def __init__(self, waited_for: set[Messages]) -> None:
        """:param waited_for: the iterators for whose next message a task waits; it keeps them alive."""
        self._waited_for = waited_for
        self._calls: LoopCalls | None = None
        self._batches: Batches | None = None
        self._come: deque[Message] = deque()
        self._asked = False  # whether the queue was asked for a batch, and gave none yet
        self._ended = False
        self._waiting: asyncio.Future[None] | None = None
        self._taken = 0  # how many messages the consumer has taken
        self._telling = False  # whether the queue will be told that number
        self._error: MeshError | None = None  # for the consumer: the iterator could not be opened

    def attach(self, node: HostedNode, calls: LoopCalls) -> None:
        """Receive the messages of *node* from now on; this runs in the reactor's thread."""
        if self._ended:
            return
        come = WeakMethod(self._came)  # so that this iterator is freed if the application drops it

        def give(batch: list[Message], has_ended: bool) -> None:
            calls.in_loop(_came, come, _with_replies(calls, batch), has_ended)

        try:
            self._batches = self._open(node, give)
        except MeshError as error:
            calls.in_loop(_failed, WeakMethod(self._failed), error)
            return
        self._calls = calls
        if self._asked:  # the consumer began to wait before the node was there
            self._batches.want()

    def _open(self, node: HostedNode, give: Give) -> Batches:
        return node.batches(give)

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
        self._took()
        return message

    def _took(self) -> None:
        """Count one message more as taken."""
        self._taken += 1
        if not self._telling and self._calls is not None:
            self._telling = True
            self._calls.later(self._tell)

    async def _wait(self) -> None:
        if self._waiting is not None:
            raise RuntimeError("messages() has one consumer at a time: call it again for another")
        while not self._come:
            if self._error is not None:
                raise self._error
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
        self._wake()

    def _failed(self, error: MeshError) -> None:
        self._error, self._ended = error, True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # ── in the reactor's thread ─────────────────────────────────────────────────────

    def _want(self) -> None:
        assert self._batches is not None
        self._batches.want()

    def _tell(self) -> None:
        assert self._batches is not None
        self._telling = False  # before the number is read: a message that comes later is told again
        self._batches.taken_up_to(self._taken)

    def _close(self) -> None:
        assert self._batches is not None
        self._batches.close()


class NamedMessages(Messages):
    """The messages of a named consumer: ``async for message in mesh.messages(name="billing")``.

    A message counts as taken when the next one is asked for.  If the loop ends before that, by ``break`` or
    an exception, the next iterator of that name begins with that message again.
    """

    def __init__(self, waited_for: set[Messages], name: str, start: str | float) -> None:
        """:param name: of the consumer; :param start: where it begins if its name is new."""
        super().__init__(waited_for)
        self._name = name
        self._start = start
        self._given: Message | None = None  # handed out and not taken

    @property
    def name(self) -> str:
        """The consumer's name."""
        return self._name

    def _open(self, node: HostedNode, give: Give) -> Batches:
        return node.named_batches(self._name, self._start, give)

    def commit(self) -> None:
        """Count the message that was handed out last as taken now, as before ``break``."""
        if self._given is not None:
            self._given = None
            self._took()

    def close(self) -> None:
        """Let others open the consumer; a message that was handed out and is not taken is given again."""
        self._given = None
        self._came([], True)
        super().close()

    def __aiter__(self) -> NamedMessages:
        if self._given is not None and not self._ended:
            self._come.appendleft(self._given)
        self._given = None
        return self

    async def __anext__(self) -> Message:
        self.commit()
        if not self._come:
            await self._wait()
        self._given = self._come.popleft()
        return self._given

    def _came(self, batch: list[Message], has_ended: bool) -> None:
        if has_ended:
            self._come.clear()  # they are given after the next start
        super()._came(batch, has_ended)


def _came(
    come: WeakMethod[Callable[[list[Message], bool], None]], batch: list[Message], has_ended: bool
) -> None:
    if (came := come()) is not None:
        came(batch, has_ended)


def _failed(failed: WeakMethod[Callable[[MeshError], None]], error: MeshError) -> None:
    if (call := failed()) is not None:
        call(error)


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
