"""Direct messages that are not acknowledged yet, and replies, which are direct messages, too.

Contract: all objects here belong to one run of a service.  A message goes to the core as an event, and an
event of the core says how it ended.  When the run ends, every Deferred that waits fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple
from weakref import WeakMethod

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_mesh.core import events
from twisted_mesh.errors import Unreachable
from twisted_mesh.eventloop.deferreds import Handover, unreachable
from twisted_mesh.identity import id_of
from twisted_mesh.message import Message, MessageId, Source
from twisted_mesh.wire.bodies import join_entries

#: Sends packets to the sender of a message.
Reply = Callable[[Message, tuple[object, ...]], Deferred[None]]
#: Seconds since 1970: the last that ``datetime.fromtimestamp`` takes in every time zone, less two days.
LATEST: Final = 253_402_128_000.0


class ReplyPath:
    """Sends the replies to the messages of one run of a service, until the run ends (message.Replier)."""

    def __init__(self, reply: Reply) -> None:
        """:param reply: a bound method, held weakly: the application can keep messages after the run."""
        self._reply = WeakMethod(reply)

    def reply_to(self, message: Message, packets: tuple[object, ...]) -> Deferred[None]:
        reply = self._reply()
        return _over(message.sender.decode()) if reply is None else reply(message, packets)


class Sources(NamedTuple):
    """Makes the value that all messages of a batch share, for one run of a service.

    :ivar wall_clock: gives seconds since 1970; :ivar reply: as for :class:`ReplyPath`.
    """

    wall_clock: Callable[[], float]
    reply: Reply

    def of(self, run: events.StreamId, sent: int, verified: bool = True) -> Source:
        """The source of a batch of *run*.

        :param sent: the author's clock in ms, cut to :data:`LATEST`; 0 for now.
        :param verified: whether the author's identity is proven.
        """
        at = min(sent / 1000, LATEST) if sent else self.wall_clock()
        return Source(run, id_of(run[0]), at, ReplyPath(self.reply), verified)


def _over(name: str) -> Deferred[None]:
    return unreachable(f"{name}: this node was restarted since the message came: use send_to()")


class PendingDirects:
    """The direct messages that are not acknowledged yet."""

    def __init__(self, handle: Callable[[events.SendDirect], None]) -> None:
        self._handle = handle
        self._stopped = False
        self._tokens = 0
        self._waiting: dict[int, tuple[str, Deferred[None]]] = {}  # by token
        self._pinged: dict[int, tuple[str, Deferred[int]]] = {}  # by token

    def send(
        self, origin: bytes, name: str, entry: bytes, answers: MessageId | None = None
    ) -> Deferred[None]:
        """Send a packed message to the node *origin*; error texts call that node *name*.

        :param answers: the message that it answers.
        :return: fires when the node has acknowledged the message, or fails with Unreachable.  If the
            Deferred is cancelled, the message may arrive all the same.
        """
        if self._stopped:  # a reply to a message of an earlier run, whose links are closed
            return _over(name)
        token = self._tokens = self._tokens + 1
        waiting = Handover(lambda _: self._cancelled(token))
        self._waiting[token] = name, waiting
        self._handle(events.SendDirect(token, origin, join_entries((entry,)), answers))
        return waiting

    def ping(self, origin: bytes, name: str) -> Deferred[int]:
        """As :meth:`send`, with nothing for the node's application.

        :return: fires with the number of relays over which the acknowledgement came.
        """
        token = self._tokens = self._tokens + 1
        waiting: Deferred[Any] = Handover(lambda _: self._cancelled(token))  # if it fails, it is one line
        self._pinged[token] = name, waiting
        self._handle(events.SendDirect(token, origin, join_entries(()), None))
        return waiting

    @property
    def next_number(self) -> int:
        """The number of the next message that is sent."""
        return self._tokens + 1

    def _cancelled(self, token: int) -> None:
        self._waiting.pop(token, None)
        self._pinged.pop(token, None)

    def new_run(self, _: events.NewRun) -> None:
        """Fail all Deferreds: a new run of the core has begun, which knows nothing of these messages."""
        self._fail_all("a new run of this node has begun, which gets no acknowledgement of the old one")

    def ended(self, ended: events.DirectEnded) -> None:
        """Fire the Deferred of an acknowledged message, or fail that of a message that was given up."""
        name, waiting = self._waiting.pop(ended.token, ("", None))
        if waiting is None:
            self._answered(ended)
        elif ended.why is None:
            waiting.callback(None)
        else:
            waiting.errback(Failure(Unreachable(f"{name}: {ended.why}")))

    def _answered(self, ended: events.DirectEnded) -> None:
        name, pinged = self._pinged.pop(ended.token, ("", None))
        if pinged is None:
            return  # it is cancelled
        if ended.why is None:
            pinged.callback(ended.hops)
        else:
            pinged.errback(Failure(Unreachable(f"{name}: {ended.why}")))

    def stop(self) -> None:
        """Fail all Deferreds, and from now on every reply."""
        self._stopped = True
        self._fail_all("the service stopped first")

    def _fail_all(self, why: str) -> None:
        waiting: list[tuple[str, Deferred[Any]]] = [*self._waiting.values(), *self._pinged.values()]
        self._waiting, self._pinged = {}, {}
        for name, deferred in waiting:
            deferred.errback(Failure(Unreachable(f"{name}: {why}")))

    def footprint(self) -> dict[str, int]:
        return {"unacknowledged": len(self._waiting) + len(self._pinged)}
