"""Direct messages that are not acknowledged yet, and replies, which are direct messages, too.

Contract: all objects here belong to one run of a service.  A message goes to the core as an event, and an
event of the core says how it ended.  When the run ends, every Deferred that waits fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol
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


class Waiter(Protocol):
    """Waits until a direct message was acknowledged."""

    def ended(self, why: str | None, hops: int) -> None:
        """Take in that the message was acknowledged, over *hops* relays, or given up because of *why*."""


class _Sent:
    """A message whose sender wants to know only whether it was acknowledged."""

    __slots__ = ("acknowledged", "name")

    def __init__(self, name: str, acknowledged: Deferred[None]) -> None:
        self.name = name
        self.acknowledged = acknowledged

    def ended(self, why: str | None, hops: int) -> None:
        if why is None:
            self.acknowledged.callback(None)
        else:
            self.acknowledged.errback(Failure(Unreachable(f"{self.name}: {why}")))


class _Ping(_Sent):
    """A message that holds nothing; the Deferred fires with the number of relays."""

    __slots__ = ()

    def ended(self, why: str | None, hops: int) -> None:
        if why is None:
            self.acknowledged.callback(hops)  # type: ignore[arg-type]
        else:
            super().ended(why, hops)


class PendingDirects:
    """The direct messages that are not acknowledged yet."""

    def __init__(self, send: Callable[[events.SendDirect, int], None]) -> None:
        """:param send: takes a message, and how many wait to be acknowledged, with this one."""
        self._send = send
        self._stopped = False
        self._tokens = 0
        self._waiting: dict[int, Waiter] = {}  # by token

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
        token = self._tokens + 1
        waiting = Handover(lambda _: self.forget(token))
        self.put(origin, join_entries((entry,)), _Sent(name, waiting), answers)
        return waiting

    def ping(self, origin: bytes, name: str) -> Deferred[int]:
        """As :meth:`send`, with nothing for the node's application.

        :return: fires with the number of relays over which the acknowledgement came.
        """
        token = self._tokens + 1
        waiting: Deferred[Any] = Handover(lambda _: self.forget(token))  # if it fails, it is one line
        self.put(origin, join_entries(()), _Ping(name, waiting), None)
        return waiting

    def put(self, origin: bytes, body: bytes, waiter: Waiter, answers: MessageId | None) -> int:
        """Send a *body* to the node *origin*, and tell *waiter* once how that ended; return its token."""
        token = self._tokens = self._tokens + 1
        self._waiting[token] = waiter
        self._send(events.SendDirect(token, origin, body, answers), len(self._waiting))
        return token

    @property
    def next_number(self) -> int:
        """The number of the next message that is sent."""
        return self._tokens + 1

    def forget(self, token: int) -> None:
        """Tell nobody how the message with that *token* ends."""
        self._waiting.pop(token, None)

    def new_run(self, _: events.NewRun) -> None:
        """End the wait for all messages: a new run of the core has begun, which knows nothing of them."""
        self._end_all("a new run of this node has begun, which gets no acknowledgement of the old one")

    def ended(self, ended: events.DirectsEnded) -> None:
        """Tell who waits that their messages were acknowledged, or given up."""
        pop, why, hops = self._waiting.pop, ended.why, ended.hops
        for token in ended.tokens:
            if (waiter := pop(token, None)) is not None:
                waiter.ended(why, hops)

    def stop(self) -> None:
        """End the wait for all messages, and from now on refuse every reply."""
        self._stopped = True
        self._end_all("the service stopped first")

    def _end_all(self, why: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            waiter.ended(why, 0)

    def footprint(self) -> dict[str, int]:
        return {"unacknowledged": len(self._waiting)}
