"""What a member has to answer for of one run of another node: what it has taken, and what it has told.

Contract: numbers alone.  Ranges have no holes; below a gap what was taken before it is told as a range of
its own, and of too many of those the newest.
"""

from __future__ import annotations

from twisted_mesh.core.replies.receipt_tracker import RANGES_MOST


class OwedReceipt:
    """A run of which some message asks who has it.

    :ivar base: below which nothing was to be delivered when this began.
    :ivar asks_up_to: the highest message that asks; :ivar taken: what this node's application has.
    :ivar low: from here on it has all of that; :ivar closed: what it has below, before gaps.
    :ivar gaps: those behind what it has, the first and the last message of each.
    :ivar told: the range it has answered for last.
    :ivar route: over which link that went, 0 for none; :ivar tries: how often it went.
    :ivar again: when it is told again, unless something changes.
    """

    __slots__ = ("again", "asks_up_to", "base", "closed", "gaps", "low", "route", "taken", "told", "tries")

    def __init__(self, base: int, low: int, taken: int) -> None:
        self.asks_up_to = 0
        self.base = base
        self.taken = taken
        self.low = low
        self.closed: list[tuple[int, int]] = []
        self.gaps: list[tuple[int, int]] = []
        self.told = (low, low - 1)
        self.route = self.tries = 0
        self.again: float | None = None

    @property
    def range(self) -> tuple[int, int]:
        """What to answer for, of what follows the last gap."""
        return self.low, max(min(self.asks_up_to, self.taken), self.low - 1)

    def lacks(self, first: int, last: int) -> None:
        """Messages *first* to *last* will not come; the application passes them later."""
        self.gaps.append((first, last))
        if len(self.gaps) > RANGES_MOST:
            self.begins_at(self.gaps.pop(0)[1] + 1, self.taken)

    def goes_on(self) -> None:
        """The application has passed the gaps that lie before what it has taken."""
        while self.gaps and self.taken >= self.gaps[0][1]:
            first, last = self.gaps.pop(0)
            self.begins_at(last + 1, first - 1)

    def begins_at(self, low: int, before: int) -> None:
        """Something below *low* will not come; what was taken before it ends at *before*."""
        high = min(before, self.asks_up_to)
        if high >= self.low:
            self.closed = [*self.closed, (self.low, high)][-RANGES_MOST + 1 :]
        self.low = low
