"""What the application waits to hear back: receipts of its messages, and its direct messages.

Contract: for one run.  What it asks for goes to the core as events, and what the core hears comes back
here; when the run ends, everybody who waits is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakMethod

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_mesh.core import events
from twisted_mesh.core.events import Holders
from twisted_mesh.core.replies.replies import ReplyRouting
from twisted_mesh.delivery.receipts import Receipt, Receipts
from twisted_mesh.errors import Unreachable
from twisted_mesh.eventloop.deferreds import Handover, unreachable
from twisted_mesh.identity import id_of
from twisted_mesh.wire.bodies import join_entries


class ReplyPath:
    """Sends the replies to the messages of a run, for as long as that lasts (message.Replier)."""

    def __init__(self, reply: Callable[[bytes, tuple[object, ...]], Deferred[None]]) -> None:
        """
        :param reply: a method of the run, to which nothing leads from here: messages hold this.
        """
        self._reply = WeakMethod(reply)

    def reply_to(self, origin: bytes, packets: tuple[object, ...]) -> Deferred[None]:
        """Send *packets* to the node *origin* alone."""
        reply = self._reply()
        return _over(id_of(origin).decode()) if reply is None else reply(origin, packets)


def _over(name: str) -> Deferred[None]:
    return unreachable(f"{name}: the run this is for has stopped: use send_to()")


class PendingDirects:
    """The receipts that are open, and the direct messages that are not acknowledged."""

    def __init__(
        self,
        clock: IReactorTime,
        handle: Callable[[events.Asking], None],
        reverse: Callable[[], ReplyRouting],
        changed: Callable[[Receipt], None],
    ) -> None:
        """
        :param handle: gives an event to the core; :param reverse: the core's side of it.
        :param changed: is told of each receipt of which more is known.
        """
        self._handle = handle
        self._receipts = Receipts(
            clock,
            lambda number: reverse().holders(number),
            lambda number: reverse().is_decided(number),
            lambda number: reverse().is_settled(number),
            lambda number: handle(events.Forget(number)),
            changed,
        )
        self._stopped = False
        self._tokens = 0
        self._waiting: dict[int, tuple[str, Deferred[None]]] = {}  # direct messages, by token

    def ask(self, place: int) -> Receipt:
        """A receipt for the message at *place* of all that is sent."""
        return self._receipts.ask(place)

    def send(self, origin: bytes, name: str, entry: bytes) -> Deferred[None]:
        """Send a packed message to the node *origin*, which is called *name*.

        :return: fires when it has acknowledged it; fails with Unreachable.  Cancelled, it is not waited for
            any more; it may arrive all the same.
        """
        if self._stopped:  # a reply to what came in an earlier run: no link of that is left
            return _over(name)
        body = join_entries((entry,))
        token = self._tokens = self._tokens + 1
        waiting = Handover(lambda _: self._cancelled(token))
        self._waiting[token] = name, waiting
        self._handle(events.SendDirect(token, origin, body))
        return waiting

    def _cancelled(self, token: int) -> None:
        self._waiting.pop(token, None)

    def numbered(self, run: tuple[bytes, int], place: int, count: int, first: int) -> None:
        """Messages have numbers now (Observer)."""
        numbers = self._receipts.numbered(run, place, count, first)
        if numbers:
            self._handle(events.Ask(numbers))
            self._receipts.changed(numbers)  # who should have them

    def renumbered(self, taken: int) -> None:
        """Messages will get other numbers, in a new run (Observer)."""
        self._receipts.renumber(taken)

    def begin_anew(self) -> None:
        """A new run has begun, which knows of no direct messages."""
        self._fail_all("a new run of this node has begun, and the old one will not hear of it")

    def receipted(self, sequences: Sequence[int]) -> None:
        """More is known of who has some messages (Observer)."""
        self._receipts.changed(sequences)

    def receipt_closed(self, sequence: int, holders: Holders) -> None:
        """There are too many receipts (Observer)."""
        self._receipts.close(sequence, holders, "too many receipts are open")

    def ended(self, token: int, why: str | None) -> None:
        """A direct message is acknowledged, or given up (Observer)."""
        name, waiting = self._waiting.pop(token, ("", None))
        if waiting is None:
            return
        if why is None:
            waiting.callback(None)
        else:
            waiting.errback(Failure(Unreachable(f"{name}: {why}")))

    def stop(self) -> None:
        """Nobody hears back any more."""
        self._stopped = True
        self._receipts.stop()
        self._fail_all("the service stopped first")

    def _fail_all(self, why: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for name, deferred in waiting.values():
            deferred.errback(Failure(Unreachable(f"{name}: {why}")))

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {"receipts": len(self._receipts), "unacknowledged": len(self._waiting)}
