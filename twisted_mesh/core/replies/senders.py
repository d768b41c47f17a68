"""The senders of direct messages, each with its last delivered message: none comes twice or out of order.

Contract: the newest run of each sender is kept, for ``direct_senders`` senders.  An attacker that makes
up authors can fill the table, and then replay the messages of a forgotten sender.  So no sender is
forgotten that is on the roster or at the far end of a link.  If these fill the table, a message of a new
sender is not accepted, and its sender repeats it.  Of all other senders, those first met in the last ten
minutes are forgotten first, the latest first: made-up senders displace each other.

Messages whose turn has not come are held, in ``direct_held_bytes`` at most, with the frames that brought
them.  They are not acknowledged, so their senders repeat them: they may be dropped at any time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final, NamedTuple

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.wire.replies import Direct, DirectAck

WINDOW: Final = 1024  # numbers above the head that are held (docs/protocol.rst)
ESTABLISHED: Final = 600.0  # seconds after its first message until a sender is no newcomer (guess)
_COPIES: Final = 1.0  # seconds between two acknowledgements of one copy over one link (guess)
_COPIES_MOST: Final = 32  # copies of one sender that are limited so; the oldest is limited no more (guess)
_AT_ONCE: Final = 16  # a sixteenth is forgotten at a time, since each time all are looked at
_AROUND: Final = 600  # bytes of memory that a held message needs beside its text (measured: 550)


class Held(NamedTuple):
    """Messages whose turn has not come."""

    direct: Direct
    link: int  # the number of the link that brought it

    @property
    def size(self) -> int:
        """The bytes that count against ``direct_held_bytes``."""
        return len(self.direct.sealed) + _AROUND


@dataclass(eq=False, slots=True)
class Incoming:
    """The messages from one run of one node.

    :ivar held: by the number of the first, messages above *head* whose turn has not come.
    :ivar order: these numbers as a heap.
    :ivar copies: when copies were acknowledged, by the link, their last number and tries; the oldest first.
    """

    epoch: int  # the epoch of that run
    since: float  # when that node's first message came, of any run
    head: int = 0  # all numbers up to this were delivered, or given up by their sender
    held: dict[int, Held] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    copies: dict[tuple[int, int, int], float] = field(default_factory=dict)

    def is_due(self, copy: Direct, link: int, now: float) -> bool:
        """Whether to acknowledge *copy*, of messages that were delivered, over the link that brought it.

        Anybody can send a copy again.  So of those with the same number and tries that come over one link
        one a second is acknowledged; a repeat of the sender over its next best way has tries of its own.
        """
        name = link, copy.last, copy.tries
        if now < self.copies.get(name, -inf) + _COPIES:
            return False
        self.copies.pop(name, None)
        self.copies[name] = now
        if len(self.copies) > _COPIES_MOST:
            del self.copies[next(iter(self.copies))]
        return True


@dataclass(eq=False)
class Senders:
    """The nodes that sent direct messages to this one.

    :ivar owed: the acknowledgements that leave at the end of the turn: by sender, and then by number of the
        link.
    """

    _config: MeshConfig
    _roster: Roster
    _links: Links
    _incoming: OrderedDict[bytes, Incoming] = field(default_factory=OrderedDict)  # the longest idle first
    _holding: dict[bytes, None] = field(default_factory=dict)  # senders of held messages, the longest first
    _bytes: int = 0  # of all held messages
    owed: dict[bytes, dict[int, DirectAck]] = field(default_factory=dict)

    def is_over(self, direct: Direct) -> bool:
        """Whether the sender of *direct* has begun a newer run.

        Only one run of each node is remembered: otherwise a node with many runs would displace others.
        """
        incoming = self._incoming.get(direct.origin)
        epoch = self._roster.rank(direct.origin)[0] if incoming is None else incoming.epoch
        return direct.epoch < epoch

    def has(self, direct: Direct) -> bool:
        """Whether the messages of *direct* were delivered, are held, or are of a run that is over."""
        incoming = self._incoming.get(direct.origin)
        if incoming is None or direct.epoch != incoming.epoch:
            return self.is_over(direct)
        held = incoming.held.get(direct.first)
        return direct.last <= incoming.head or (held is not None and held.direct.last == direct.last)

    def incoming(self, direct: Direct, now: float) -> Incoming | None:
        """The messages from the run that sent *direct*, and is not over; None if there is no room for it.

        Messages that their sender has given up are over.
        """
        origin = direct.origin
        incoming = self._incoming.get(origin)
        is_full = len(self._incoming) >= self._config.direct_senders
        if incoming is None and is_full and not self._make_room(now):
            return None
        if incoming is None or direct.epoch > incoming.epoch:
            since = now if incoming is None else incoming.since
            self._drop(origin)
            incoming = self._incoming[origin] = Incoming(direct.epoch, since)
        self._incoming.move_to_end(origin)
        incoming.head = max(incoming.head, direct.oldest - 1)
        self._pass_over(origin, incoming)
        return incoming

    def head(self, origin: bytes, epoch: int) -> int:
        """The last message of that run that was delivered, or given up by its sender; 0 for none."""
        incoming = self._incoming.get(origin)
        return 0 if incoming is None or incoming.epoch != epoch else incoming.head

    def hold(self, direct: Direct, link: int) -> bool:
        """Hold messages until their turn comes; return False if there is no room for them.

        The sender whose messages have been held for longest makes room, unless it is the same.

        :param direct: messages of a run of which :meth:`incoming` was asked.
        """
        origin, held = direct.origin, Held(direct, link)
        incoming = self._incoming[origin]
        if direct.last > incoming.head + WINDOW:
            return False
        if (same := incoming.held.get(direct.first)) is not None and same.direct.last > direct.last:
            return True  # that frame has all of these messages, and more
        self.discard(direct)  # this copy may be sealed with a newer key
        while self._bytes + held.size > self._config.direct_held_bytes:
            oldest = next(iter(self._holding), origin)
            if oldest == origin:
                return False
            self._drop(oldest)
        self._holding[origin] = None
        incoming.held[direct.first] = held
        heappush(incoming.order, direct.first)
        self._bytes += held.size
        return True

    def discard(self, direct: Direct) -> None:
        """Hold no earlier copy of *direct* any more."""
        incoming = self._incoming[direct.origin]
        if direct.first in incoming.held:
            incoming.order.remove(direct.first)
            heapify(incoming.order)
            self._release(direct.origin, direct.first)

    def next_held(self, origin: bytes) -> tuple[Incoming, Held] | None:
        """The run of *origin*, and its held messages whose turn it is, which are held no more."""
        incoming = self._incoming.get(origin)
        if incoming is None:
            return None
        self._pass_over(origin, incoming)
        if not incoming.order or incoming.order[0] > incoming.head + 1:
            return None
        return incoming, self._release(origin, heappop(incoming.order))

    def take_owed(self) -> Iterable[dict[int, DirectAck]]:
        """The acknowledgements that are owed, which are not owed any more."""
        owed, self.owed = self.owed, {}
        return owed.values()

    @property
    def holding(self) -> list[bytes]:
        """The senders of which messages are held."""
        return list(self._holding)

    def footprint(self) -> dict[str, int]:
        """Entries and bytes of every table."""
        return {
            "direct_senders": len(self._incoming),
            "direct_held": sum(len(self._incoming[origin].held) for origin in self._holding),
            "direct_held_bytes": self._bytes,
            "direct_acknowledgements": sum(map(len, self.owed.values())),
        }

    def _pass_over(self, origin: bytes, incoming: Incoming) -> None:
        """Hold no messages any more that were all delivered or given up."""
        order = incoming.order
        while order and incoming.held[order[0]].direct.last <= incoming.head:
            self._release(origin, heappop(order))

    def _release(self, origin: bytes, number: int) -> Held:
        """Hold no more the messages from *number* on, which is not in the order."""
        incoming = self._incoming[origin]
        held = incoming.held.pop(number)
        self._bytes -= held.size
        if not incoming.held:
            del self._holding[origin]
        return held

    def _drop(self, origin: bytes) -> None:
        """Drop all messages of *origin* that are held; it repeats them."""
        if origin in self._holding:
            incoming = self._incoming[origin]
            while incoming.order:
                self._release(origin, incoming.order.pop())

    def _make_room(self, now: float) -> bool:
        """Forget some senders that are neither on the roster nor linked; False if there are none."""
        gone = [item for item in self._incoming.items() if not self._is_here(item[0])]
        new = [item for item in reversed(gone) if item[1].since > now - ESTABLISHED]
        new.sort(key=lambda item: item[1].since, reverse=True)
        old = [item for item in gone if item[1].since <= now - ESTABLISHED]
        for origin, _ in (new + old)[: max(1, self._config.direct_senders // _AT_ONCE)]:
            self._drop(origin)
            del self._incoming[origin]
        return bool(gone)

    def _is_here(self, origin: bytes) -> bool:
        return origin in self._roster or self._links.is_neighbour(origin)
