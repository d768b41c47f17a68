"""Handing messages and events to the application's code.

Contract: a message goes to the handlers in turn until one returns something true; if none does, to
the ``message`` listeners and to every ``messages()``.  User code can fail as it likes: it is logged,
emitted once as ``failure``, and neither reaches a link nor silences the next listener.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Final
from weakref import ref

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import Deliver
from twisted_mesh.core.history.storage import Untaken
from twisted_mesh.delivery.listeners import Listeners, emit_one, explained
from twisted_mesh.delivery.queue import READ_BYTES, Bounds, MessageQueue, Reader, StreamId, read_nothing
from twisted_mesh.errors import RemoteError
from twisted_mesh.eventloop.log_quota import AuthorLog
from twisted_mesh.identity import id_of
from twisted_mesh.message import Gap, Message, Source, shown
from twisted_mesh.wire.bodies import USERS, Entry

BACKLOG_MESSAGES: Final = 1000  # of an earlier process, handed on in one turn, or READ_BYTES (guess)

#: Of a message and the link it came over: a MeshProtocol, or None if a timer or the history let it go.
Handler = Callable[[Message, Any], object]
_log = Logger()


def messages_of(
    entries: Sequence[Entry], first: int, size: int, source: Source
) -> Iterator[tuple[Message, int]]:
    """The messages among *entries* of one batch, each with its share of the *size* in bytes.

    :param first: the number of the first entry, 0 for whispers, which have none.
    """
    share = size // max(1, len(entries))
    for number, entry in enumerate(entries, first):
        if entry[0] in USERS:  # other kinds belong to later versions
            yield Message(entry, number if first else None, source), share


class Delivery:
    """The application's side of one service: handlers, listeners and queues.

    :ivar listeners: the event emitter.
    :ivar counts: messages that consumers dropped, as they are counted in ``MeshService.dropped``.
    """

    def __init__(
        self, *, bounds: Bounds, debug_level: int, seconds: Callable[[], float], config: MeshConfig
    ) -> None:
        """
        :param bounds: of what waits for each consumer.
        :param seconds: the time, for the log's quotas.
        """
        self._authors = AuthorLog(_log, seconds, config)
        self.listeners = Listeners()
        self.counts = Counter(dropped_messages=0)
        self._unheard = 0  # messages nobody was there for
        self._bounds = bounds
        self.reader: Reader = read_nothing
        self._when_taken: Callable[[StreamId], None] = _ignore
        self._when_skipped: Callable[[StreamId, int], None] = _ignore
        self._debug = debug_level
        self._handlers: list[Handler] = []
        self._queues: tuple[ref[MessageQueue], ...] = ()  # dropped iterators drop out
        self.waited_for: set[MessageQueue] = set()  # but not while somebody waits for their next message
        self._gone = False  # some queue, since somebody asked
        self._backlog: MessageQueue | None = None  # of an earlier process, for the handlers

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
        return self._queue(None)

    def receive_queue(self, notify: Callable[[], None]) -> MessageQueue:
        """A queue of the newest messages no handler takes, until the first is taken; then of all.

        :param notify: is called after each message that came.
        """
        return self._queue(notify)

    def _queue(self, notify: Callable[[], None] | None) -> MessageQueue:
        queue = MessageQueue(self._bounds, self, notify)
        self._queues = (*self._queues, ref(queue, self._dropped))
        return queue

    def consumer_gone(self) -> bool:
        """Whether a consumer is gone since this was asked last, without a word of the runs it held up."""
        gone, self._gone = self._gone, False
        return gone

    def _dropped(self, gone: ref[MessageQueue]) -> None:
        # In whatever thread the garbage is collected, in the middle of whatever is done there.
        self._gone = True
        self._queues = tuple(reference for reference in self._queues if reference is not gone)

    def closing(self, closed: MessageQueue) -> None:
        """A queue closes (Consumers)."""
        self._queues = tuple(reference for reference in self._queues if reference() is not closed)

    def begin(
        self,
        reader: Reader,
        changed: Callable[[StreamId], None],
        skipped: Callable[[StreamId, int], None],
        backlog: Iterable[Untaken],
    ) -> None:
        """A run begins; queues of earlier runs go on with theirs.

        :param reader: reads what it holds.
        :param changed: is told of each run of which a consumer took something.
        :param skipped: is told of each run up to where a consumer lost some of it.
        :param backlog: what was stored and not taken by every consumer of an earlier process.
        """
        self.reader, self._when_taken, self._when_skipped = reader, changed, skipped
        for queue in self._live():
            queue.reader = reader
        waiting = MessageQueue(self._bounds, self)
        for run, taken, head in backlog:
            waiting.follow(run, id_of(run[0]), taken, head)
        self._backlog = waiting if waiting.runs_behind else None

    def catch_up(self) -> bool:
        """Hand on some of the backlog; whether there is more that can be read now.

        What comes meanwhile waits behind it, so that each run stays in order.
        """
        handed = 0
        for _ in range(BACKLOG_MESSAGES):
            taken = None if self._backlog is None else self._backlog.take_sized()
            if taken is None:
                if self._backlog is not None and not self._backlog.is_held_up:
                    self._backlog = None
                break
            message, size = taken
            self._hand_over(message, size, None)
            handed += size
            if handed >= READ_BYTES:
                break
        self._wake()
        return self._backlog is not None and not self._backlog.is_held_up

    def read_again(self) -> None:
        """What consumers could not read may be read now."""
        for queue in self._consumers():
            queue.read_again()

    def taken(self, run: StreamId, head: int) -> int:
        """The last message of *run* that every consumer has taken, of those up to *head*."""
        queues = self._consumers()
        return min((queue.taken(run, head) for queue in queues), default=head)

    def seen(self, run: StreamId) -> int:
        """The last message of *run* that came for a consumer that has not taken all; 0 if there is none."""
        return max((queue.seen(run) for queue in self._consumers()), default=0)

    def _consumers(self) -> list[MessageQueue]:
        return self._live() if self._backlog is None else [*self._live(), self._backlog]

    def _wake(self) -> None:
        for queue in self._live():
            queue.wake()

    def _live(self) -> list[MessageQueue]:
        return [queue for reference in self._queues if (queue := reference()) is not None]

    def changed(self, run: StreamId) -> None:
        """A consumer has taken something of *run* (Consumers)."""
        self._when_taken(run)

    def lost(self, run: StreamId, gap: Gap, counts: bool) -> None:
        """A consumer has lost something of *run* (Consumers)."""
        if counts:
            self._when_skipped(run, gap.last)
        self.emit_gap(gap)

    def missing(self, run: StreamId, gap: Gap) -> None:
        """Tell the application what of *run* will not come, and the consumers that it is told."""
        for queue in self._consumers():
            queue.missing(run, gap.first, gap.last)
        self.emit_gap(gap)

    def emit_gap(self, gap: Gap) -> None:
        """Tell the application of messages it will not get."""
        sender = gap.sender.decode()
        text = f"messages {gap.first} to {gap.last} of {sender} are lost: {gap.reason}"
        self._authors.line(gap.sender, text)
        self.listeners.emit("gap", gap)

    def blame(self, author: bytes, text: str, error: RemoteError) -> None:
        """Tell the application, and the log with *text*, that the author with that id did wrong."""
        self._authors.line(author, text)
        self.listeners.emit("failure", Failure(error))

    def deliver(self, deliver: Deliver, source: Source, link: object) -> None:
        """Hand one batch on, message by message."""
        backlog = self._backlog if deliver.first else None
        for message, size in messages_of(deliver.entries, deliver.first, deliver.size, source):
            if backlog is None:
                self._hand_over(message, size, link)
            else:
                backlog.put(message, size)
        self._wake()

    def footprint(self) -> dict[str, int]:
        """Entries of what waits for consumers, and how many messages found none."""
        queues = self._consumers()
        return {
            "consumers": len(queues),
            "queued_messages": sum(map(len, queues)),
            "untaken_messages": sum(queue.untaken for queue in queues),
            "runs_behind": sum(queue.runs_behind for queue in queues),
            "unheard_messages": self._unheard,
        }

    def close(self) -> None:
        """No more messages: every ``messages()`` ends after what it holds."""
        # What they take from now on is of no run: its file is closed, and nobody is left to be told.
        self._when_taken = _ignore
        for queue in self._live():
            queue.end()
        self._queues = ()

    def _hand_over(self, message: Message, size: int, link: object) -> None:
        if self._debug >= 5:
            _log.info(
                "in: type {type}, {size} bytes, {packets}",
                type=message.type,
                size=size,
                packets=shown(message.packets),
            )
        if self._handlers and self._is_taken(message, link):
            return
        heard = emit_one(self.listeners, "message", message)
        for reference in self._queues:
            queue = reference()
            if queue is not None:
                heard = True
                queue.put(message, size)
        if not heard:
            self._unheard += 1

    def _is_taken(self, message: Message, link: object) -> bool:
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
            except BaseException:  # it would end nothing but the link
                failure = explained(Failure())
                _log.failure("handler {handler} failed", failure, handler=handler)
                self.listeners.emit("failure", failure)
        return False


def _ignore(*_: object) -> None:
    """Nothing is to be done while no service has started."""


def _discard(awaitable: Awaitable[object]) -> None:
    """Let go of what will not be awaited without a second complaint about that."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    elif isinstance(awaitable, Deferred):
        awaitable.addErrback(lambda failure: _log.failure("handler's result failed", failure))
