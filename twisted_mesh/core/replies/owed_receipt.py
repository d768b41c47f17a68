"""The receipts that this node must give for one run of another node: the ranges taken and signed.

Contract: this holds numbers only.  A range has no holes; messages taken before a gap are a range of their
own.  If there are too many ranges, the newest are kept.
"""

from __future__ import annotations

from twisted_mesh.core.replies.receipt_tracker import RANGES_MOST


class OwedReceipt:
    """A run of which at least one message asks for a receipt.

    :ivar base: the first message that was to be delivered when this began.
    :ivar asks_up_to: the highest message that asks; :ivar taken: the last that the application has taken.
    :ivar low: the application has taken all messages from *low* to *taken*.
    :ivar closed: the ranges that it has taken below *low*, each before a gap.
    :ivar gaps: the gaps above *taken*, the first and the last message of each.
    :ivar told: the range for which this node has signed last.
    :ivar route: the number of the link over which that receipt went, 0 for none.
    :ivar tries: how often it was sent; :ivar again: when it is sent again, unless more is taken.
    """

    __slots__ = ("again", "asks_up_to", "base", "closed", "gaps", "low", "route", "taken", "told", "tries")

    def __init__(self, base: int, low: int, taken: int) -> None:
        self.base, self.low, self.taken, self.asks_up_to = base, low, taken, 0
        self.closed: list[tuple[int, int]] = []
        self.gaps: list[tuple[int, int]] = []
        self.told = (low, low - 1)
        self.route = self.tries = 0
        self.again: float | None = None

    @property
    def range(self) -> tuple[int, int]:
        """The range to sign for, of the messages behind the last gap."""
        return self.low, max(min(self.asks_up_to, self.taken), self.low - 1)

    def lacks(self, first: int, last: int) -> None:
        """Note that messages *first* to *last* will not come; the application passes them later."""
        self.gaps.append((first, last))
        if len(self.gaps) > RANGES_MOST:
            self.begins_at(self.gaps.pop(0)[1] + 1, self.taken)

    def goes_on(self) -> None:
        """Pass the gaps that lie before the last message taken."""
        while self.gaps and self.taken >= self.gaps[0][1]:
            first, last = self.gaps.pop(0)
            self.begins_at(last + 1, first - 1)

    def begins_at(self, low: int, before: int) -> None:
        """Begin at *low*, behind a gap; the range taken before the gap ends at *before*."""
        if (high := min(before, self.asks_up_to)) >= self.low:
            self.closed = [*self.closed, (self.low, high)][-RANGES_MOST + 1 :]
        self.low = low
