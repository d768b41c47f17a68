"""Receipts show which members have a message, and change while members take it.

Contract: ``send(..., receipt=True)`` returns a :class:`Receipt`; its sets are the ids of members, as this
node knows them now.  A receipt is complete when every member that should have the message has it, and then
changes no more.  Until then it is updated, also while members are away.  :class:`Receipts` holds the
receipts that are not complete, and gives them the numbers of their messages.  If a new run of the core
begins, receipts of messages that are sent again in it stay open, and the others are closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from twisted_mesh.grammar import counted
from twisted_mesh.identity import id_of, ids_of
from twisted_mesh.message import MessageId

_NOBODY: frozenset[bytes] = frozenset()
_NO_MEMBERS = "no other member is known that could have the message"


class HolderIds:
    """The ids of the members that have one message, and of those that have not."""

    __slots__ = ()

    def _holders(self) -> Holders:
        """The keys of these members."""
        raise NotImplementedError

    @property
    def delivered(self) -> frozenset[bytes]:
        """The ids of the members that have taken the message: each has signed for that."""
        return ids_of(self._holders().delivered)

    @property
    def pending(self) -> frozenset[bytes]:
        """The ids of the members that should have the message and have not confirmed it yet."""
        return ids_of(self._holders().pending)

    @property
    def missed(self) -> frozenset[bytes]:
        """The ids of members that will not get the message: they began later, lost it or are gone."""
        return ids_of(self._holders().missed)

    def __repr__(self) -> str:
        has, pending, missed = self._holders()
        return f"<receipt: {len(has)} delivered, {len(pending)} pending, {len(missed)} missed>"


class Receipt(HolderIds):
    """Shows which members have one message; read-only."""

    def __init__(self, clock: IReactorTime, look: Callable[[Receipt], Holders | None], place: int) -> None:
        """
        :param look: gives the members that have the message now, or None if the core does not know them.
        :param place: how many messages were sent before this one in this run of the service.
        """
        self._clock = clock
        self._look = look
        self._place = place
        self._last = Holders(_NOBODY, _NOBODY, _NOBODY)
        self._waiting = WaitingDeferreds["Receipt"]()
        self._failure: Failure | None = None
        self._id: MessageId | None = None
        self._is_complete = False
        self._closed: str | None = None
        self._forgotten: dict[bytes, bytes] = {}  # members that others had forgotten, and who asked

    @property
    def id(self) -> MessageId | None:
        """``(origin, epoch, sequence)`` of the message once it has a number; else None."""
        return self._id

    @property
    def is_complete(self) -> bool:
        """Whether every member that should have the message has taken it."""
        return self._is_complete

    @property
    def forgotten(self) -> Mapping[bytes, bytes]:
        """The ids of members in ``missed`` that others had forgotten, each with the id of who asked."""
        return self.forgotten_among(self._holders().missed)

    def forgotten_among(self, missed: frozenset[bytes]) -> Mapping[bytes, bytes]:
        """:attr:`forgotten`, given the keys of the members in ``missed``; for any thread."""
        return {id_of(one): id_of(by) for one, by in self._forgotten.copy().items() if one in missed}

    @property
    def closed(self) -> str | None:
        """Why the receipt is updated no more, though it is not complete; or None."""
        return self._closed

    @property
    def last_seen(self) -> Holders:
        """The keys of the members as they were at the last :meth:`refresh`; any thread may read this."""
        return self._last

    def refresh(self) -> Holders:
        """Look now which members have the message, and return their keys."""
        return self._holders()

    def complete(self, timeout: float | None = None) -> Deferred[Receipt]:
        """Wait until every member that should have the message has taken it.

        Members that should have it are those on this node's roster, its list of members, when the message
        was sent; or, if this node had not joined by then, when it joined.

        :param timeout: seconds; None to wait without a limit.
        :return: fires with this receipt.  Fails with ReceiptTimeout; with NotDelivered if no member is
            pending and some missed the message, or the receipt is closed; with NoMembers if no member
            should have the message; with NotRunning if the service stops.  The first two errors hold this
            receipt.
        :raises LocalError: *timeout* is no number, or below 0.
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
        missed = len(holders.missed)
        why = f"{missed} of {counted(missed + len(holders.delivered), 'member')} will not get the message"
        return Failure(NotDelivered(why, self))

    def _too_late(self, failure: Failure, timeout: float) -> None:
        failure.trap(DeferredTimeout)
        holders = self._holders()
        if not any(holders):
            raise NoMembers(_NO_MEMBERS)
        missing = len(holders.pending) + len(holders.missed)
        of = f"{missing} of {counted(missing + len(holders.delivered), 'member')}"
        have = "has" if missing == 1 else "have"
        raise ReceiptTimeout(f"{of} {have} not taken the message after {timeout:g} s", self)

    def _holders(self) -> Holders:
        if not self.is_complete and self._failure is None:
            self._last = self._look(self) or self._last
        return self._last

    def _end(self, holders: Holders, failure: Failure, closed: str) -> None:
        """Update the receipt no more: *holders* are the last that are known, and *closed* says why."""
        self._last, self._failure, self._closed = holders, failure, closed

    def _tell(self) -> None:
        """If the receipt is complete or closed, fire or fail the Deferreds that wait."""
        if self.is_complete:
            self._waiting.happened(self)
        elif self._failure is not None:
            self._waiting.failed(self._failure)


class ReceiptCore(Interface):
    """The part of the core's driver that receipts need (runtime.driver.Driver)."""

    def handle(self, event: events.Event) -> None: ...
    def holders(self, sequence: int) -> Holders | None: ...
    def missed_by(self, member: bytes) -> Sequence[int]: ...


class Receipts:
    """The receipts of one run of a service that are not complete; ``len()`` counts them."""

    def __init__(
        self, clock: IReactorTime, core: ReceiptCore, changed: Callable[[str, Receipt], object]
    ) -> None:
        """:param changed: is called with ``"receipt"`` and each receipt of which more is known."""
        self._clock = clock
        self._core = core
        self._changed = changed
        self._unnumbered: OrderedDict[int, Receipt] = OrderedDict()  # by place, in order
        self._numbered = 0  # how many messages have a number, or had one
        self._open: dict[int, Receipt] = {}  # by number, in order

    def __len__(self) -> int:
        return len(self._unnumbered) + len(self._open)

    def __iter__(self) -> Iterator[Receipt]:
        """The receipts whose messages have numbers, in the order of these."""
        return iter(self._open.values())

    def ask(self, place: int) -> Receipt:
        """A receipt for the message at *place*."""
        receipt = self._unnumbered[place] = Receipt(self._clock, self._look, place)
        return receipt

    def numbered(self, numbered: events.Numbered) -> None:
        """Give receipts the numbers that their messages have now, and ask the core to track them."""
        numbers = []
        before, self._numbered = self._numbered, self._numbered + numbered.count
        while self._unnumbered:
            place, receipt = next(iter(self._unnumbered.items()))
            if place >= self._numbered:
                break
            del self._unnumbered[place]
            number = numbered.first + place - before
            receipt._id = (*numbered.run, number)
            self._open[number] = receipt
            numbers.append(number)
        if numbers:
            self._core.handle(events.Ask(numbers))

    def new_run(self, new_run: events.NewRun) -> None:
        """Go on in a new run: messages that no neighbour has taken get other numbers in it.

        The receipts of the other messages are closed: the node hears no more of its run that is over.
        """
        self._numbered -= new_run.again
        numbers, self._open = self._open, {}
        again = {receipt._place: receipt for number, receipt in numbers.items() if number > new_run.last}
        for receipt in again.values():
            receipt._id = None
        self._unnumbered = OrderedDict(again | self._unnumbered)
        for number, receipt in numbers.items():
            if number <= new_run.last:
                self._close(receipt, receipt._last, "a new run of this node has begun")

    def gone(self, gone: events.MemberGone) -> None:
        """Note who asked that a member is forgotten."""
        if gone.asker is not None:
            for number in self._core.missed_by(gone.origin):
                if (receipt := self._open.get(number)) is not None:
                    receipt._forgotten[gone.origin] = gone.asker

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        forgotten = sum(len(receipt._forgotten) for receipt in self)
        return {"receipts": len(self), "receipts_forgotten": forgotten}

    def receipted(self, receipted: events.Receipted) -> None:
        """Report the receipts of which the core knows more."""
        for number in receipted.sequences:
            if (receipt := self._open.get(number)) is not None:
                holders = receipted.decided.get(number)
                missed = None if holders is None else self._decided(number, receipt, holders)
                self._changed("receipt", receipt)
                receipt._tell()
                if missed is not None:
                    receipt._waiting.failed(missed)

    def closed(self, closed: events.ReceiptClosed) -> None:
        """Close a receipt that the core has given up, because too many are open."""
        if (receipt := self._open.pop(closed.sequence, None)) is not None:
            self._close(receipt, closed.holders, "too many receipts are open")

    def _close(self, receipt: Receipt, holders: Holders, why: str) -> None:
        not_known = f"{why}: who has the message is not known any more"
        receipt._end(holders, Failure(NotDelivered(not_known, receipt)), why)
        self._changed("receipt", receipt)
        receipt._tell()

    def stop(self) -> None:
        failure = Failure(NotRunning("the service stopped before everybody had the message"))
        receipts = [*self._unnumbered.values(), *self._open.values()]
        self._unnumbered.clear()
        self._open.clear()
        for receipt in receipts:
            receipt._end(receipt._holders(), failure, "the service has stopped")
            receipt._tell()

    def _decided(self, number: int, receipt: Receipt, holders: Holders) -> Failure | None:
        """Note that no member is pending any more.

        :return: if members missed the message, the failure of the Deferreds that wait; the receipt stays
            open, since those members may get the message yet.
        """
        if holders.missed:
            return receipt._not_delivered(holders)
        # The state changes before any callback is called: a callback may send, or stop the service.
        receipt._last = holders
        del self._open[number]
        self._core.handle(events.Forget(number))
        if holders.delivered:
            receipt._is_complete = True
        else:
            receipt._end(holders, Failure(NoMembers(_NO_MEMBERS)), _NO_MEMBERS)
        return None

    def _look(self, receipt: Receipt) -> Holders | None:
        return None if receipt.id is None else self._core.holders(receipt.id[2])
