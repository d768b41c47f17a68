"""The receipts that this node must give for one run of another node: the ranges taken and signed.

Contract: this module only keeps numbers.  A range has no holes: a gap ends it, and the messages behind the
gap are another range.  Beyond the limit only the newest ranges are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from twisted_mesh.core.replies.receipt_tracker import RANGES_MOST


@dataclass(eq=False)
class OwedReceipt:
    """A run of which at least one message asks for a receipt.

    :ivar closed: the ranges below *low* that the application has taken, each before a gap.
    :ivar gaps: the gaps above *taken*, the first and the last message of each.
    :ivar last_signed: the range of the last receipt that this node has signed.
    """

    base: int  # the base of the stream when this began
    low: int  # the application has taken all messages from *low* to *taken*
    taken: int  # the last message that the application has taken
    asks_up_to: int = 0  # the highest message that asks for a receipt
    closed: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    route: int = 0  # the number of the link over which the last receipt went, 0 for none
    tries: int = 0  # how often it was sent
    repeat_at: float | None = None  # when it is sent again, unless more is taken

    def __post_init__(self) -> None:
        self.last_signed = (self.low, self.low - 1)

    @property
    def range(self) -> tuple[int, int]:
        """The range to sign for: messages behind the last gap."""
        return self.low, max(min(self.asks_up_to, self.taken), self.low - 1)

    def lacks(self, first: int, last: int) -> None:
        """Note that messages *first* to *last* will not come; the application passes over them later."""
        self.gaps.append((first, last))
        if len(self.gaps) > RANGES_MOST:
            self.begins_at(self.gaps.pop(0)[1] + 1, self.taken)

    def goes_on(self) -> None:
        """Let the range to sign for begin behind the gaps that the application has passed over."""
        while self.gaps and self.taken >= self.gaps[0][1]:
            first, last = self.gaps.pop(0)
            self.begins_at(last + 1, first - 1)

    def begins_at(self, low: int, before: int) -> None:
        """Let the range to sign for begin at *low*, behind a gap.

        :param before: the last message of the range before the gap.
        """
        if (high := min(before, self.asks_up_to)) >= self.low:
            self.closed = [*self.closed, (self.low, high)][-RANGES_MOST + 1 :]
        self.low = low
