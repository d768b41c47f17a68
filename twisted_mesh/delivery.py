"""Handing messages and events to the application's code.

Contract: a message goes to the handlers in turn until one returns something true; if none does, to
the ``message`` listeners and to every ``messages()``.  User code can fail as it likes: it is logged,
emitted once as ``failure``, and neither reaches a link nor silences the next listener.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pyee.base import EventEmitter
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.consumer import MessageQueue
from twisted_mesh.core.events import Deliver
from twisted_mesh.message import Gap, Message, Source, shown
from twisted_mesh.wire.packets import USER_ENTRY

if TYPE_CHECKING:
    from twisted_mesh.protocol import MeshProtocol

Handler = Callable[[Message, "MeshProtocol | None"], object]
_log = Logger()


class Listeners(EventEmitter):
    """pyee's emitter, except that a listener's failure stays with that listener.

    pyee alone would raise it into whoever emits, and leave the listeners behind it out.
    """

    def _emit_run(self, f: Callable[..., Any], args: Any, kwargs: Any) -> None:
        try:
            result = f(*args, **kwargs)
        except Exception:
            self._failed(f, Failure())
            return
        if inspect.iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if isinstance(result, Deferred):
            result.addErrback(lambda failure: self._failed(f, failure))

    def _failed(self, listener: Callable[..., Any], failure: Failure) -> None:
        _log.failure("listener {listener} failed", failure, listener=listener)
        # A failing listener of failures is only logged, or it would be called for ever.
        if listener not in self.listeners("failure"):
            self.emit("failure", failure)


class Delivery:
    """The application's side of one service: handlers, listeners and queues.

    :ivar listeners: the event emitter.
    :ivar unheard: messages nobody was there for.
    """

    def __init__(self, *, queue_limit: int, queue_bytes: int, debug_level: int) -> None:
        self.listeners = Listeners()
        self.unheard = 0
        self._queue_limit = queue_limit
        self._queue_bytes = queue_bytes
        self._debug = debug_level
        self._handlers: list[Handler] = []
        self._queues: WeakSet[MessageQueue] = WeakSet()  # dropped iterators drop out

    def register_handler(self, handler: Handler) -> None:
        """Let *handler* see messages first, after the handlers before it.

        :raises ValueError: it does not take exactly two arguments, (message, link).
        """
        try:
            parameters = inspect.signature(handler).parameters.values()
        except (TypeError, ValueError):
            raise ValueError("a handler must be a function of (message, link)") from None
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if len(positional) != 2 or len(parameters) != 2:
            raise ValueError("a handler must take exactly two arguments: (message, link)")
        self._handlers.append(handler)

    def messages(self) -> MessageQueue:
        """A new iterator over the messages no handler takes from now on."""
        queue = MessageQueue(self._queue_limit, self._queue_bytes, self.emit_gap)
        self._queues.add(queue)
        return queue

    def receive_queue(self, notify: Callable[[], None]) -> MessageQueue:
        """A queue of the messages no handler takes, for a consumer that may never come.

        :param notify: is called after each message that can be taken.
        """
        queue = MessageQueue(self._queue_limit, self._queue_bytes, self.emit_gap, notify)
        self._queues.add(queue)
        return queue

    def emit_gap(self, gap: Gap) -> None:
        """Tell the application of messages it will not get."""
        _log.warn("messages {gap.first} to {gap.last} of {gap.sender} are lost: {gap.reason}", gap=gap)
        self.listeners.emit("gap", gap)

    def deliver(self, deliver: Deliver, source: Source, link: MeshProtocol | None) -> None:
        """Hand one batch on, message by message."""
        sequence: int | None = deliver.first or None
        size = deliver.size // max(1, len(deliver.entries))
        for entry in deliver.entries:
            if entry[0] == USER_ENTRY:  # other kinds belong to later versions
                self._hand_over(Message(entry, sequence, source), size, link)
            if sequence is not None:
                sequence += 1

    def close(self) -> None:
        """No more messages: every ``messages()`` ends after what it holds."""
        for queue in list(self._queues):
            queue.close()
        self._queues.clear()

    def _hand_over(self, message: Message, size: int, link: MeshProtocol | None) -> None:
        if self._debug >= 5:
            _log.info(
                "in: type {type}, {size} bytes, {packets}",
                type=message.type,
                size=size,
                packets=shown(message.packets),
            )
        if self._handlers and self._is_taken(message, link):
            return
        heard = False
        if self.listeners.listeners("message"):
            heard = True
            self.listeners.emit("message", message)
        for queue in list(self._queues):
            heard = True
            queue.put(message, size)
        if not heard:
            self.unheard += 1

    def _is_taken(self, message: Message, link: MeshProtocol | None) -> bool:
        for handler in self._handlers:
            if self._debug >= 4:
                _log.info("handler {handler} entered", handler=handler)
            try:
                taken = handler(message, link)
                if isinstance(taken, Awaitable):
                    _discard(taken)
                    raise TypeError(f"handler {handler} returned an awaitable: use a listener")
                if taken:
                    return True
            except Exception:
                failure = Failure()
                _log.failure("handler {handler} failed", failure, handler=handler)
                self.listeners.emit("failure", failure)
        return False


def _discard(awaitable: Awaitable[object]) -> None:
    """Let go of what will not be awaited without a second complaint about that."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    elif isinstance(awaitable, Deferred):
        awaitable.addErrback(lambda failure: _log.failure("handler's result failed", failure))
