"""Tells the application which messages it does not get, at a bounded rate: any member can cause losses.

Contract: each loss is told once, with its sender and its numbers.  In each ``log_interval`` up to
``losses_burst`` losses of one author are told at once, and ``losses_rate`` a second of all authors.
Further losses wait.  Those of one run that have the same cause are joined, and told together as soon as the
rates allow; authors take turns.  If :data:`WAITING_MOST` ranges wait, the oldest are told all the same.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.rate import RateLimit

#: Ranges of messages that wait to be told, of all authors together (guess: 2 MiB).
WAITING_MOST: Final = 16_384
_PAUSE: Final = 1.0  # seconds from one look at the losses that wait to the next (guess)

Ranges = tuple[tuple[int, int], ...]


class Cause(msgspec.Struct, frozen=True):
    """A run some of whose messages are lost, and why.

    :ivar sender: the author's id; :ivar kind: which event tells it.
    :ivar why: one sentence for people.
    """

    sender: bytes
    epoch: int
    kind: str
    why: str


class Losses:
    """The losses that wait to be told."""

    def __init__(
        self, clock: IReactorTime, config: MeshConfig, tell: Callable[[Cause, Ranges], None]
    ) -> None:
        """:param tell: tells the application of messages that are lost, in rising ranges."""
        self._clock = clock
        self._config = config
        self._tell = tell
        self._all = RateLimit(config.losses_rate, config.losses_rate)
        self._told = Counter[bytes]()  # losses told in this interval, by author; the rate bounds how many
        self._until = -inf  # the end of the interval
        # By author, the one whose turn it is first.
        self._waiting: OrderedDict[bytes, dict[Cause, list[tuple[int, int]]]] = OrderedDict()
        self._ranges = 0  # in self._waiting
        self._look: IDelayedCall | None = None

    def __len__(self) -> int:
        return self._ranges

    def add(self, cause: Cause, first: int, last: int) -> None:
        """Tell of the loss of the messages *first* to *last*, now or later."""
        if cause.sender not in self._waiting and self._may(cause.sender):
            self._tell(cause, ((first, last),))
            return
        self._waiting.setdefault(cause.sender, {}).setdefault(cause, []).append((first, last))
        self._ranges += 1
        while self._ranges > WAITING_MOST:
            self._tell_next(next(iter(self._waiting)))
        if self._look is None:
            self._look = self._clock.callLater(_PAUSE, self._tell_some)

    def tell_all(self) -> None:
        """Tell of all losses that wait, at the end."""
        while self._waiting:
            self._tell_next(next(iter(self._waiting)))
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _may(self, author: bytes) -> bool:
        """Take from the rates of *author* and of all authors; False if one of them allows no more."""
        now, config = self._clock.seconds(), self._config
        if now >= self._until:
            self._until = now + config.log_interval
            self._told.clear()
        if self._told[author] >= config.losses_burst or not self._all.take(now):
            return False
        self._told[author] += 1
        return True

    def _tell_some(self) -> None:
        self._look = self._clock.callLater(_PAUSE, self._tell_some)
        for author in list(self._waiting):
            if author in self._waiting and self._may(author):  # if not, a listener has caused more
                self._tell_next(author)
        if not self._waiting and self._look is not None:
            self._look.cancel()
            self._look = None

    def _tell_next(self, author: bytes) -> None:
        """Tell of the oldest losses of *author* that have one cause; the other authors are next then."""
        causes = self._waiting[author]
        cause = next(iter(causes))
        ranges = causes.pop(cause)
        self._ranges -= len(ranges)
        if causes:
            self._waiting.move_to_end(author)
        else:
            del self._waiting[author]
        self._tell(cause, joined(ranges))


def joined(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """The same numbers in rising ranges, with numbers between each two."""
    rising: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if rising and first <= rising[-1][1] + 1:
            rising[-1] = rising[-1][0], max(last, rising[-1][1])
        else:
            rising.append((first, last))
    return tuple(rising)


def is_one(ranges: Ranges) -> bool:
    """Whether *ranges* hold one message alone."""
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def in_words(ranges: Ranges, most: int | None = None) -> str:
    """The messages of *ranges*, as ``message 5`` or ``messages 1 to 3, 5``.

    :param most: of more ranges only their number and ends are told.
    """
    if most is not None and len(ranges) > most:
        return f"messages in {len(ranges)} ranges from {ranges[0][0]} to {ranges[-1][1]}"
    numbers = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in ranges)
    return f"{'message' if is_one(ranges) else 'messages'} {numbers}"
