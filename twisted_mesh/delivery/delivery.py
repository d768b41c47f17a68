"""Hands messages to the application's code, and reports events of the core to it.

Contract: a message goes to the handlers in turn until one returns a true value.  If none does, the message
goes to the ``message`` listeners and to every ``messages()``.  If the application's code fails, the failure
is logged and emitted once as ``failure``; the link stays up, and the next listener is called.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from itertools import count, repeat
from typing import Any, Final, TypeVar
from weakref import ref

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import (
    Behind,
    CutShort,
    Deliver,
    Equivocation,
    GapFound,
    ListsDiffer,
    Poisoned,
    StreamId,
)
from twisted_mesh.core.rate import RateLimit
from twisted_mesh.delivery.listeners import (
    Listeners,
    audience_changed,
    emit_one,
    emit_to_only_one,
    explained,
)
from twisted_mesh.delivery.losses import Cause, Losses, Ranges, in_words, is_one
from twisted_mesh.delivery.named import NamedQueue
from twisted_mesh.delivery.named_consumers import NamedConsumers
from twisted_mesh.delivery.queue import NEVER_CAME, READ_BYTES, Bounds, Consumers, MessageQueue, Reader
from twisted_mesh.errors import PoisonedBody, Reason, RemoteError
from twisted_mesh.escaping import name_of
from twisted_mesh.eventloop.log_quota import AuthorLog
from twisted_mesh.identity import id_of
from twisted_mesh.message import Gap, Message, MessageId, Refusal, Source, short, shown
from twisted_mesh.wire.bodies import USERS, Entry, are_plain, kind_of

#: In one turn, at most so many messages of an earlier process are handed on, and READ_BYTES (guess).
BACKLOG_MESSAGES: Final = 1000
#: Takes a message and the link over which it came; None if that link is gone or was never known.
Handler = Callable[[Message, Any], object]
_LOGGED_RANGES: Final = 3  # more ranges than this are not written to the log one by one (guess)
QueueT = TypeVar("QueueT", bound=MessageQueue)
_log = Logger()


def messages_of(
    entries: Sequence[Entry],
    first: int,
    source: Source,
    number: int = 0,
    answers: MessageId | None = None,
) -> Iterator[Message]:
    """The messages among the *entries* of one batch.

    :param first: the number of the first entry; 0 for whispers and direct messages.
    :param number: of a direct message; 0 for others.
    :param answers: the message that a direct message answers.
    """
    if not first:
        return (Message(entry, None, source, number, answers) for entry in entries if entry[0] in USERS)
    if are_plain(entries) or USERS.issuperset(map(kind_of, entries)):
        # This takes half the time of the lines below (measured).
        return map(Message, entries, count(first), repeat(source))
    numbered = enumerate(entries, first)  # later versions may send entries of other kinds
    return (Message(entry, sequence, source) for sequence, entry in numbered if entry[0] in USERS)


def share_of(size: int, entries: Sequence[Entry]) -> int:
    """The bytes that count for each message of a batch with *entries* of *size* bytes."""
    return size // max(1, len(entries))


class Delivery:
    """The application's side of one service: handlers, listeners and queues.

    :ivar counts: messages that consumers dropped, and refusals that were not told, by their names in
        ``MeshService.dropped``.
    :ivar delivered: how many messages were handed to the application.
    :ivar is_full: whether a queue had no room for direct messages, as the core was told.
    :ivar label: gives the label of the node with an id, if one is known: the log names nodes by it.
    :ivar waited_for: the queues for whose next message the application waits; this set keeps them alive.
    """

    def __init__(
        self,
        listeners: Listeners,
        debug_level: int,
        clock: IReactorTime,
        config: MeshConfig,
        wall_clock: Callable[[], float],
    ) -> None:
        """
        :param listeners: the service; :param clock: gives the time, for the rates of logs and events.
        :param wall_clock: gives seconds since 1970.
        """
        self.listeners = listeners
        self._authors = AuthorLog(_log, clock.seconds, config)
        self._losses = Losses(clock, config, self._tell_loss)
        self.counts = Counter(dropped_messages=0, dropped_refusals=0)
        self.delivered = 0
        self._refusals = RateLimit(config.refusals_rate, config.refusals_rate)
        self._seconds = clock.seconds
        self._unheard = 0  # messages that no handler took and no listener or consumer got
        self._bounds = Bounds(config.queue_limit, config.queue_bytes, config.open_streams)
        self.reader: Reader = lambda *_: ()  # reads nothing until the first start
        self.label: Callable[[bytes], str | None] = lambda _: None
        self._when_taken: Callable[[StreamId], None] = _ignore
        self._when_skipped: Callable[[StreamId, int], None] = _ignore
        self._when_room: Callable[[bool], None] = _ignore
        self.is_full = False
        self._debug = debug_level
        self._handlers: list[Handler] = []
        self._queues: tuple[ref[MessageQueue], ...] = ()  # without queues that were garbage-collected
        self._answers: dict[MessageQueue, None] = {}  # queues for the answers to queries
        self.waited_for: set[MessageQueue] = set()
        self.named = NamedConsumers(self._make_named, config.consumers_limit, clock, wall_clock)
        self._gone = False  # whether a queue was freed since the last call of consumer_gone()
        self._backlog: MessageQueue | None = None  # messages that an earlier process did not hand on
        self._earlier: dict[StreamId, int] = {}  # by run: the last of these messages

    def register_handler(self, handler: Handler) -> None:
        """Let *handler* see each message after earlier handlers, and before listeners and queues do.

        :raises ValueError: *handler* does not take exactly two arguments, (message, link).
        """
        try:
            parameters = inspect.signature(handler).parameters.values()
        except (TypeError, ValueError):
            raise ValueError("a handler must be a function of (message, link)") from None
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if len(positional) != 2 or len(parameters) != 2:
            raise ValueError("a handler must take exactly two arguments: (message, link)")
        self._handlers.append(handler)
        audience_changed(self.listeners)

    def messages(self, notify: Callable[[], None] | None = None) -> MessageQueue:
        """A new queue of the messages that no handler takes from now on.

        :param notify: is called after each message.  With it, only the newest messages are kept until the
            application takes one.
        """
        return self.add(lambda bounds, consumers: MessageQueue(bounds, consumers, notify))

    def add(self, make: Callable[[Bounds, Consumers], QueueT]) -> QueueT:
        """Hand messages to the queue that *make* makes, as to one of :meth:`messages`, from now on."""
        queue = make(self._bounds, self)
        self._queues = (*self._queues, ref(queue, self._freed))
        audience_changed(self.listeners)
        return queue

    def consumer_gone(self) -> bool:
        """Whether a queue was freed since the last call: its messages count as taken now."""
        gone, self._gone = self._gone, False
        return self.named.look() or gone

    def _make_named(self, name: str) -> NamedQueue:
        audience_changed(self.listeners)
        return NamedQueue(self._bounds, self, name, self.named.now())

    def forget_consumer(self, name: str) -> None:
        """Forget a named consumer: nothing waits for it any more (``MeshService.forget_consumer``)."""
        for run in self.named.forget(name):
            self.changed(run)

    def _freed(self, gone: ref[MessageQueue]) -> None:
        # The garbage collector can call this in any thread, between any two instructions.
        self._gone = True
        self._queues = tuple(reference for reference in self._queues if reference is not gone)

    def begin(
        self,
        reader: Reader,
        changed: Callable[[StreamId], None],
        skipped: Callable[[StreamId, int], None],
        room: Callable[[bool], None],
        backlog: Iterable[Behind],
    ) -> None:
        """Begin a run of the service; queues of earlier runs stay in use.

        :param reader: reads the history.
        :param changed: is called with each stream of which a consumer took a message.
        :param skipped: is called with a stream and the last of its messages that a consumer lost.
        :param room: is called with whether all queues have room for direct messages, when that changes.
        :param backlog: streams with messages that an earlier process stored and did not hand on.
        """
        self.reader, self._when_taken, self._when_skipped = reader, changed, skipped
        self._when_room, self.is_full = room, False
        for queue in self._live():
            queue.reader = reader
        waiting = MessageQueue(self._bounds, self)
        self._earlier = {}
        for run, taken, head in backlog:
            waiting.follow(run, id_of(run[0]), taken, head)
            self._earlier[run] = head
        self._backlog = waiting if waiting.runs_behind else None

    def catch_up(self) -> bool:
        """Hand on some messages of the backlog; return whether more of them can be read now.

        Messages that come meanwhile wait behind the backlog, so that each stream stays in order.
        """
        handed = 0
        for _ in range(BACKLOG_MESSAGES):
            taken = None if self._backlog is None else self._backlog.take_sized()
            if taken is None:
                if self._backlog is not None and not self._backlog.is_held_up:
                    self._backlog, self._earlier = None, {}
                break
            message, size = taken
            is_known = (message.sequence or 0) <= self._earlier.get(message.source.run, -1)
            self._hand_over(message, size, None, () if is_known else self.named.queues.values())
            handed += size
            if handed >= READ_BYTES:
                break
        self._wake()
        return self._backlog is not None and not self._backlog.is_held_up

    def read_again(self) -> None:
        """Let the consumers read again, after the history could not be read."""
        for queue in self._consumers():
            queue.read_again()

    def taken_by_all(self, run: StreamId, head: int) -> int:
        """The last message of *run*, up to *head*, that every consumer has taken."""
        return min((self.taken(run, head), *self.places(run, head).values()))

    def taken(self, run: StreamId, head: int) -> int:
        """The last message of *run*, up to *head*, that all but named consumers have taken."""
        queues = self._unnamed() if self._backlog is None else [*self._unnamed(), self._backlog]
        return min((queue.taken(run, head) for queue in queues), default=head)

    def places(self, run: StreamId, head: int) -> dict[str, int]:
        """The last message of *run*, up to *head*, that each named consumer has taken."""
        queues = self.named.queues
        if queues and self._backlog is not None:
            # New messages wait behind the backlog, and come to named consumers behind it.
            head = min(head, max(self._backlog.taken(run, head), self._earlier.get(run, 0)))
        return {name: queue.taken(run, head) for name, queue in queues.items() if queue.is_placed}

    def _consumers(self) -> list[MessageQueue]:
        return self._live() if self._backlog is None else [*self._live(), self._backlog]

    def _wake(self) -> None:
        for queue in self._live():
            queue.wake()

    def _live(self) -> list[MessageQueue]:
        return [*self._unnamed(), *self.named.queues.values()]

    def _unnamed(self) -> list[MessageQueue]:
        return [queue for reference in self._queues if (queue := reference()) is not None]

    def deliver(self, deliver: Deliver, source: Source, link: object) -> None:
        """Hand on the messages of one batch."""
        self.delivered += len(deliver.entries)
        backlog = self._backlog if deliver.first else None
        messages = messages_of(deliver.entries, deliver.first, source)
        size = share_of(deliver.size, deliver.entries)
        if backlog is not None:
            for message in messages:
                backlog.put(message, size)
        else:
            named = self.named.queues
            if not (self._handlers or self._queues or named or self._debug >= 5):
                last = emit_to_only_one(self.listeners, "message", messages)
                if last is not None:
                    self._enqueue(last, size, named.values())  # in the queues that its listener made
            elif deliver.first and (queues := self._only_queues(len(deliver.entries), deliver.size)):
                batch, messages = list(messages), iter(())
                for queue in queues:
                    queue.put_all(batch, size)
            for message in messages:
                self._hand_over(message, size, link, named.values())
        self._wake()

    def deliver_directs(self, directs: Sequence[Deliver], source: Source, link: object) -> None:
        """Hand on direct messages of one run."""
        messages = [
            (message, share_of(direct.size, direct.entries))
            for direct in directs
            for message in messages_of(direct.entries, 0, source, direct.direct_number, direct.answers)
        ]
        self.delivered += len(messages)
        named, left = self.named.queues, iter(messages)
        if not (self._handlers or self._queues or named or self._debug >= 5):
            last = emit_to_only_one(self.listeners, "message", (message for message, _ in left))
            if last is not None:
                size = next(size for message, size in messages if message is last)
                self._enqueue(last, size, named.values())  # in the queues that its listener made
        for message, size in left:
            self._hand_over(message, size, link, named.values())
        self._wake()
        self.look_for_full()

    def _only_queues(self, count: int, size: int) -> list[MessageQueue]:
        """The queues, if only they get a batch of *count* messages and *size* bytes, and all have room."""
        if self._handlers or self._debug >= 5 or self.listeners.listeners("message"):
            return []
        queues = self._live()
        return queues if all(queue.has_room_for_all(count, size) for queue in queues) else []

    def answer_queue(self) -> MessageQueue:
        """A new queue for the answers to a query: messages come to it only by ``put()``."""
        queue = MessageQueue(self._bounds, self)
        self._answers[queue] = None
        return queue

    def look_for_full(self) -> None:
        """Tell the core if a queue has no room for direct messages."""
        if any(queue.is_full for queue in (*self._live(), *self._answers)):
            self.is_full = True
            self._when_room(False)

    def look_for_room(self) -> None:
        """Tell the core if all queues have room for direct messages again."""
        if self.is_full and all(queue.has_room for queue in (*self._live(), *self._answers)):
            self.is_full = False
            self._when_room(True)

    def footprint(self) -> dict[str, int]:
        """How many messages wait for consumers, and how many found no consumer."""
        queues = self._consumers()
        return {
            "consumers": len(queues),
            "named_consumers": len(self.named.queues),
            "queued_messages": sum(map(len, queues)),
            "untaken_messages": sum(queue.untaken for queue in queues),
            "consumer_gaps": sum(len(queue.lost) for queue in self.named.queues.values()),
            "unacknowledged_messages": sum(queue.unacknowledged for queue in self.named.queues.values()),
            "runs_behind": sum(queue.runs_behind for queue in queues),
            "unheard_messages": self._unheard,
            "untold_ranges": len(self._losses),
        }

    def close(self) -> None:
        """End every ``messages()`` after the messages that have come for it."""
        self.named.end()
        self._losses.tell_all()
        # The run is over and its history file closed: nobody need know what is taken from now on.
        self._when_taken = self._when_room = _ignore
        for queue in self._unnamed():
            queue.end()
        self._queues = ()

    def _hand_over(self, message: Message, size: int, link: object, named: Collection[NamedQueue]) -> None:
        """Give a message to the handlers; if none takes it, to all others, of the *named* ones to these."""
        if self._debug >= 5:
            _log.info(
                "in: type {type}, {size} bytes from {sender}, {text}",
                type=message.type, size=size, sender=short(message.sender), text=shown(message.packets),
            )  # fmt: skip
        if self._handlers and self._is_taken(message, link):
            return
        is_heard = emit_one(self.listeners, "message", message)
        if not self._enqueue(message, size, named) and not is_heard:
            self._unheard += 1

    def _enqueue(self, message: Message, size: int, named: Collection[NamedQueue]) -> bool:
        """Give a message to the queues, of the *named* ones to these; return whether there are any."""
        heard = False
        for reference in self._queues:
            if (queue := reference()) is not None:
                heard = True
                queue.put(message, size)
        for consumer in named:
            heard = True
            if consumer.takes or (message.sequence is not None and consumer.is_placed):
                consumer.put(message, size)
        return heard

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
            except BaseException:  # if the exception went further up, it would end the link
                failure = explained(Failure())
                _log.failure("handler {handler} failed", failure, handler=handler)
                self.listeners.emit("failure", failure)
        return False

    # ── reports: events of the core become events for listeners ─────────────────────

    def linked(self, count: int) -> None:
        """A node came into the routing table, which has *count* nodes now: report the first one."""
        if count == 1:
            self.listeners.emit("connect", self.listeners)

    def unlinked(self, count: int) -> None:
        """A node left the routing table, which has *count* nodes now: report if it was the last one."""
        if not count:
            self.listeners.emit("disconnect", self.listeners)

    def refused(self, refusal: Refusal) -> None:
        """Report a connection that did not become a link, at a bounded rate: anybody can cause many."""
        if self._refusals.take(self._seconds()):
            self.listeners.emit("refused", refusal)
        else:
            self.counts["dropped_refusals"] += 1

    def failed(self, error: Exception) -> None:
        """Report an error that no call of the application raises."""
        self.listeners.emit("failure", Failure(error))

    def gap(self, gap: GapFound) -> None:
        """Report that messages will not come, and note the gap in every queue."""
        for queue in self._consumers():
            queue.missing((gap.origin, gap.epoch), gap.first, gap.last)
        cause = Cause(id_of(gap.origin), gap.epoch, "gap", NEVER_CAME)
        self._losses.add(cause, gap.first, gap.last)

    def poisoned(self, poisoned: Poisoned) -> None:
        """Report messages that came and cannot be unpacked."""
        cause = Cause(id_of(poisoned.origin), poisoned.epoch, "poisoned", str(poisoned.error))
        self._losses.add(cause, poisoned.first, poisoned.last)

    def equivocation(self, equivocation: Equivocation) -> None:
        """Report that an author signed two different messages with the same number."""
        first, origin = equivocation.first, equivocation.origin
        cause = Cause(id_of(origin), equivocation.epoch, "forked", "its run ends there")
        self._losses.add(cause, first, first)

    def cut_short(self, short: CutShort) -> None:
        """Report that messages of a removed node were delivered here, and not everywhere."""
        cause = Cause(id_of(short.origin), short.epoch, "cut", "the node was removed from the mesh")
        self._losses.add(cause, short.first, short.last)

    def _tell_loss(self, cause: Cause, ranges: Ranges) -> None:
        """Write a line that names the author for people, and emit an event in which it has its id."""
        why, which = cause.why, in_words(ranges, _LOGGED_RANGES)
        sender, name = cause.sender.decode(), self._name(cause.sender)
        match cause.kind:
            case "gap":
                lost = "is lost" if is_one(ranges) else "are lost"
                self._authors.line(cause.sender, f"{which} of {name} {lost}: {why}")
                first, last = ranges[0][0], ranges[-1][1]
                self.listeners.emit("gap", Gap(cause.sender, cause.epoch, first, last, why, ranges))
            case "poisoned":
                self._authors.line(cause.sender, f"{which} of {name} cannot be read: {why}")
                text = f"{in_words(ranges)} of {sender} cannot be read: {why}"
                self.failed(PoisonedBody(text))
            case "cut":
                here = "was delivered here and is" if is_one(ranges) else "were delivered here and are"
                told = f"{here} not elsewhere: {why}"
                self._authors.line(cause.sender, f"{which} of {name} {told}")
                self.failed(RemoteError(f"{which} of {sender} {told}", Reason.TRUST))
            case _:
                told = f"signed two different messages {ranges[0][0]}: {why}"
                self._authors.line(cause.sender, f"{name} {told}")
                self.failed(RemoteError(f"{sender} {told}", Reason.SIGNATURE))

    def lists_differ(self, differ: ListsDiffer) -> None:
        """Report that another node has other lists of the nodes that belong to the mesh."""
        node_id = id_of(differ.origin)
        told = "has other lists of nodes: give all nodes the same, else they differ"
        self._authors.line(node_id, f"{self._name(node_id)} {told}")

    def _name(self, node_id: bytes) -> str:
        """A node for people, who read the log."""
        return name_of(node_id.decode(), self.label(node_id))

    # ── for each queue (queue.Consumers) ────────────────────────────────────────────

    def closing(self, closed: MessageQueue) -> None:
        self._answers.pop(closed, None)
        self._queues = tuple(reference for reference in self._queues if reference() is not closed)
        self.look_for_room()

    def changed(self, run: StreamId) -> None:
        self._when_taken(run)

    def lost(self, run: StreamId, gap: Gap, counts: bool) -> None:
        if counts:
            self._when_skipped(run, gap.last)
        self._losses.add(Cause(gap.sender, gap.epoch, "gap", gap.reason), gap.first, gap.last)


def _ignore(*_: object) -> None:
    """Do nothing: the service does not run."""


def _discard(awaitable: Awaitable[object]) -> None:
    """Drop *awaitable*, without a warning of Python or Twisted that nothing awaited it."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    elif isinstance(awaitable, Deferred):
        awaitable.addErrback(lambda failure: _log.failure("handler's result failed", failure))
