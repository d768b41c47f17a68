"""Receipts: who has a message, live.

Contract: a :class:`Receipt` is what ``send(..., receipt=True)`` gives; its sets are the ids of members, as
this node knows them now.  It is settled, and changes no more, once everybody who should have the message
has it; until then it goes on, also while members are away.  :class:`Receipts` holds those that are not
settled, and numbers them when their messages are.  A receipt is of one run of the core: where a new one
begins, those of messages that go into it go on there, and the others are closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from math import inf
from typing import Protocol as Interface

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_mesh.core import events
from twisted_mesh.core.events import Holders
from twisted_mesh.errors import NoMembers, NotDelivered, NotRunning, ReceiptTimeout
from twisted_mesh.eventloop.deferreds import WaitingDeferreds, seconds_of
from twisted_mesh.identity import id_of

_NOBODY: frozenset[bytes] = frozenset()
_NO_MEMBERS = "no other member is known that could have the message"


class Receipt:
    """Who has one message.

    :ivar id: ``(origin, epoch, sequence)`` of the message, once it has a number; else None.
    :ivar closed: why it is not kept up any more, though it is not settled; or None.
    """

    def __init__(self, clock: IReactorTime, look: Callable[[Receipt], Holders | None]) -> None:
        """
        :param look: who has the message now, as far as that is known.
        """
        self._clock = clock
        self._look = look
        self._last = Holders(_NOBODY, _NOBODY, _NOBODY)
        self._waiting = WaitingDeferreds["Receipt"]()
        self._failure: Failure | None = None
        self.id: tuple[bytes, int, int] | None = None
        self.is_complete = False
        self.closed: str | None = None

    @property
    def delivered(self) -> frozenset[bytes]:
        """The ids of the members that have taken it: each has signed for that."""
        return _ids(self._holders().delivered)

    @property
    def pending(self) -> frozenset[bytes]:
        """The ids of those that should have it and have not said so yet."""
        return _ids(self._holders().pending)

    @property
    def missed(self) -> frozenset[bytes]:
        """The ids of those that will not get it: they began later, lost it, or are gone for good."""
        return _ids(self._holders().missed)

    def complete(self, timeout: float | None = None) -> Deferred[Receipt]:
        """Wait until everybody who should have the message has taken it.

        Those are the members on this node's roster when it was sent; where it had not joined by then, when
        it joined.

        :param timeout: seconds, none if less than 0; None for as long as it takes.
        :return: fires with this receipt.  Fails with ReceiptTimeout; with NotDelivered when nobody is
            pending and somebody missed it, or the receipt is closed; with NoMembers where there is nobody
            to have it; with NotRunning when the service stops.  The first two hold this receipt.
        :raises LocalError: a timeout that is no number.
        """
        seconds = seconds_of(timeout)
        if self._failure is not None:
            return fail(self._failure)
        if self.is_complete:
            return succeed(self)
        holders = self._holders()
        if holders.missed and not holders.pending:
            return fail(self._not_delivered(holders))
        waiting = self._waiting.wait()
        if seconds < inf:
            waiting.addTimeout(seconds, self._clock)
            waiting.addErrback(self._too_late, seconds)
        return waiting

    def _not_delivered(self, holders: Holders) -> Failure:
        of = len(holders.missed) + len(holders.delivered)
        return Failure(
            NotDelivered(f"{len(holders.missed)} of {of} members will not get the message", self)
        )

    def _too_late(self, failure: Failure, timeout: float) -> None:
        failure.trap(DeferredTimeout)
        holders = self._holders()
        if not any(holders):
            raise NoMembers(_NO_MEMBERS)
        missing = len(holders.pending) + len(holders.missed)
        of = missing + len(holders.delivered)
        raise ReceiptTimeout(
            f"{missing} of {of} members have not taken the message after {timeout:g} s", self
        )

    def _holders(self) -> Holders:
        if not self.is_complete and self._failure is None:
            self._last = self._look(self) or self._last
        return self._last

    def _end(self, holders: Holders, failure: Failure, closed: str) -> None:
        """Nothing more will be known than *holders*; *closed* says why."""
        self._last = holders
        self._failure, self.closed = failure, closed

    def _tell(self) -> None:
        """Tell those who wait what has become of it, if that is decided."""
        if self.is_complete:
            self._waiting.happened(self)
        elif self._failure is not None:
            self._waiting.failed(self._failure)

    def __repr__(self) -> str:
        holders = self._holders()
        return (
            f"<receipt: {len(holders.delivered)} delivered, {len(holders.pending)} pending, "
            f"{len(holders.missed)} missed>"
        )


class ReceiptCore(Interface):
    """What knows of receipts."""

    def handle(self, event: events.Event) -> None:
        """Let the core handle *event*."""

    def holders(self, sequence: int) -> Holders | None:
        """Who has the own message *sequence* now; None if its receipt is not open."""


class Receipts:
    """The receipts of one run that are not settled, by the place of their messages in all that is sent."""

    def __init__(
        self, clock: IReactorTime, core: ReceiptCore, changed: Callable[[str, Receipt], object]
    ) -> None:
        """
        :param changed: is called with ``"receipt"`` and each receipt of which more is known.
        """
        self._clock = clock
        self._core = core
        self._changed = changed
        self._unnumbered: OrderedDict[int, Receipt] = OrderedDict()  # by place, in order
        self._numbered = 0  # messages that have a number, or had one
        self._open: dict[int, Receipt] = {}  # by number
        self._places: dict[int, int] = {}  # of those, by number

    def __len__(self) -> int:
        return len(self._unnumbered) + len(self._open)

    def ask(self, place: int) -> Receipt:
        """A receipt for the message at *place*."""
        receipt = self._unnumbered[place] = Receipt(self._clock, self._look)
        return receipt

    def numbered(self, numbered: events.Numbered) -> None:
        """Messages have their numbers: the core is asked for the receipts of some of them."""
        numbers = []
        place, self._numbered = self._numbered, self._numbered + numbered.count
        while self._unnumbered:
            at, receipt = next(iter(self._unnumbered.items()))
            if at >= self._numbered:
                break
            del self._unnumbered[at]
            number = numbered.first + at - place
            receipt.id = (*numbered.run, number)
            self._open[number], self._places[number] = receipt, at
            numbers.append(number)
        if numbers:
            self._core.handle(events.Ask(numbers))

    def new_run(self, new_run: events.NewRun) -> None:
        """A new run has begun: messages that no neighbour has taken get other numbers, in that.

        The others stay in the run that is over, of which nothing more is heard: they are closed.
        """
        self._numbered -= new_run.again
        numbers, self._open = self._open, {}
        places, self._places = self._places, {}
        again = sorted(
            (places[number], receipt) for number, receipt in numbers.items() if number > new_run.last
        )
        for _, receipt in again:
            receipt.id = None
        self._unnumbered = OrderedDict([*again, *self._unnumbered.items()])
        for number, receipt in numbers.items():
            if number <= new_run.last:
                self._close(receipt, receipt._last, "a new run of this node has begun")

    def receipted(self, receipted: events.Receipted) -> None:
        """More is known of who has some messages."""
        for number in receipted.sequences:
            receipt = self._open.get(number)
            if receipt is not None:
                holders = receipted.decided.get(number)
                missed = None if holders is None else self._decided(number, receipt, holders)
                self._changed("receipt", receipt)
                receipt._tell()
                if missed is not None:
                    receipt._waiting.failed(missed)

    def closed(self, closed: events.ReceiptClosed) -> None:
        """There are too many receipts: one is not kept up any more."""
        receipt = self._open.pop(closed.sequence, None)
        self._places.pop(closed.sequence, None)
        if receipt is not None:
            self._close(receipt, closed.holders, "too many receipts are open")

    def _close(self, receipt: Receipt, holders: Holders, why: str) -> None:
        not_known = f"{why}: who has the message is not known any more"
        receipt._end(holders, Failure(NotDelivered(not_known, receipt)), why)
        self._changed("receipt", receipt)
        receipt._tell()

    def stop(self) -> None:
        """Nothing more will be known."""
        failure = Failure(NotRunning("the service stopped before everybody had the message"))
        receipts = [*self._unnumbered.values(), *self._open.values()]
        self._unnumbered.clear()
        self._open.clear()
        self._places.clear()
        for receipt in receipts:
            receipt._end(receipt._holders(), failure, "the service has stopped")
            receipt._tell()

    def _decided(self, number: int, receipt: Receipt, holders: Holders) -> Failure | None:
        """Nobody is pending; why those who wait now have waited in vain, though more may come of it."""
        if holders.missed:
            return receipt._not_delivered(holders)
        # All is in order before anybody is told, who may send or stop.
        receipt._last = holders
        del self._open[number], self._places[number]
        self._core.handle(events.Forget(number))
        if holders.delivered:
            receipt.is_complete = True
        else:
            receipt._end(holders, Failure(NoMembers(_NO_MEMBERS)), _NO_MEMBERS)
        return None

    def _look(self, receipt: Receipt) -> Holders | None:
        return None if receipt.id is None else self._core.holders(receipt.id[2])


def _ids(origins: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(map(id_of, origins))
