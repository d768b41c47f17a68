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

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

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


class Receipts:
    """The receipts of one run that are not settled, by the place of their messages in all that is sent."""

    def __init__(
        self,
        clock: IReactorTime,
        holders: Callable[[int], Holders | None],
        is_decided: Callable[[int], bool],
        is_settled: Callable[[int], bool],
        forget: Callable[[int], None],
        changed: Callable[[Receipt], None],
    ) -> None:
        """
        :param holders: who has the own message with that number.
        :param is_decided: whether nobody is pending; :param is_settled: nor has missed it.
        :param forget: nobody waits for the receipt of that number any more.
        :param changed: is told of each receipt of which more is known.
        """
        self._clock = clock
        self._holders = holders
        self._is_decided = is_decided
        self._is_settled = is_settled
        self._forget = forget
        self._changed = changed
        self._unnumbered: OrderedDict[int, Receipt] = OrderedDict()  # by place, in order
        self._open: dict[int, Receipt] = {}  # by number
        self._places: dict[int, int] = {}  # of those, by number

    def __len__(self) -> int:
        return len(self._unnumbered) + len(self._open)

    def ask(self, place: int) -> Receipt:
        """A receipt for the message at *place*."""
        receipt = self._unnumbered[place] = Receipt(self._clock, self._look)
        return receipt

    def numbered(self, run: tuple[bytes, int], place: int, count: int, first: int) -> list[int]:
        """The messages from *place* on have their numbers, from *first* on: those that are asked for."""
        numbers = []
        while self._unnumbered:
            at, receipt = next(iter(self._unnumbered.items()))
            if at >= place + count:
                break
            del self._unnumbered[at]
            number = first + at - place
            receipt.id = (*run, number)
            self._open[number], self._places[number] = receipt, at
            numbers.append(number)
        return numbers

    def renumber(self, taken: int) -> None:
        """A new run has begun: the messages above *taken* get other numbers, in that.

        The others stay in the run that is over, of which nothing more is heard: they are closed.
        """
        numbers, self._open = self._open, {}
        places, self._places = self._places, {}
        again = sorted((places[number], receipt) for number, receipt in numbers.items() if number > taken)
        for _, receipt in again:
            receipt.id = None
        self._unnumbered = OrderedDict([*again, *self._unnumbered.items()])
        for number, receipt in numbers.items():
            if number <= taken:
                self._close(receipt, receipt._last, "a new run of this node has begun")

    def changed(self, numbers: Iterable[int]) -> None:
        """More is known of who has these messages."""
        for number in numbers:
            receipt = self._open.get(number)
            if receipt is not None:
                missed = self._judge(number, receipt)
                self._changed(receipt)
                receipt._tell()
                if missed is not None:
                    receipt._waiting.failed(missed)

    def close(self, number: int, holders: Holders, why: str) -> None:
        """A receipt is not kept up any more."""
        receipt = self._open.pop(number, None)
        self._places.pop(number, None)
        if receipt is not None:
            self._close(receipt, holders, why)

    def _close(self, receipt: Receipt, holders: Holders, why: str) -> None:
        not_known = f"{why}: who has the message is not known any more"
        receipt._end(holders, Failure(NotDelivered(not_known, receipt)), why)
        self._changed(receipt)
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

    def _judge(self, number: int, receipt: Receipt) -> Failure | None:
        """See what is decided; why those who wait now have waited in vain, though more may come of it."""
        # Asked first: of thousands of messages that one member has told of, few are decided by that.
        holders = self._holders(number) if self._is_decided(number) else None
        if holders is None:
            return None
        if not self._is_settled(number):
            return receipt._not_delivered(holders)
        # All is in order before anybody is told, who may send or stop.
        receipt._last = holders
        del self._open[number], self._places[number]
        self._forget(number)
        if holders.delivered:
            receipt.is_complete = True
        else:
            receipt._end(holders, Failure(NoMembers(_NO_MEMBERS)), _NO_MEMBERS)
        return None

    def _look(self, receipt: Receipt) -> Holders | None:
        return None if receipt.id is None else self._holders(receipt.id[2])


def _ids(origins: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(map(id_of, origins))
