"""The senders of direct messages, and the numbers that came from each, so that none is delivered twice.

Contract: the newest run of each sender is kept, in half a KiB at most, for ``direct_senders`` senders.  An
attacker that makes up authors can fill the table, and then replay the messages of a forgotten sender.  So
no sender is forgotten that is on the roster or at the far end of a link.  If these fill the table, a
message of a new sender is not accepted, and its sender repeats it.  Of all other senders, those first
met in the last ten minutes are forgotten first, the latest first: made-up senders displace each other.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.wire.replies import Direct

WINDOW: Final = 1024  # numbers above the head that are accepted (docs/protocol.rst)
ESTABLISHED: Final = 600.0  # seconds after its first message until a sender is no newcomer (guess)
_AT_ONCE: Final = 16  # a sixteenth is forgotten at a time, since each time all are looked at


@dataclass(eq=False, slots=True)
class Incoming:
    """The messages from one run of one node.

    :ivar above: the numbers above *head* that came, as bits: the lowest bit stands for *head* + 1.
    """

    epoch: int  # the epoch of that run
    since: float  # when that node's first message came, of any run
    head: int = 0  # all numbers up to this came or were given up
    above: int = 0  # at most 164 bytes; a set of numbers needs 60 KiB (measured)

    def given_up_below(self, oldest: int) -> None:
        """Count the numbers below *oldest* as given up: the sender repeats none of them."""
        if (passed := oldest - 1 - self.head) > 0:
            self.head += passed
            self.above >>= passed
            self._join()

    def has(self, number: int) -> bool:
        """Whether *number* came or was given up."""
        ahead = number - self.head - 1
        return ahead < 0 or bool(self.above >> ahead & 1)

    def take(self, number: int) -> bool | None:
        """Whether *number* is new; None if it is too far above the head to be remembered."""
        if self.has(number):
            return False
        if (ahead := number - self.head - 1) >= WINDOW:
            return None
        self.above |= 1 << ahead
        self._join()
        return True

    def _join(self) -> None:
        joined = (~self.above & self.above + 1).bit_length() - 1  # the number of ones at the low end
        self.head += joined
        self.above >>= joined


@dataclass(eq=False)
class Senders:
    """The nodes that sent direct messages to this one."""

    _config: MeshConfig
    _roster: Roster
    _links: Links
    _incoming: OrderedDict[bytes, Incoming] = field(default_factory=OrderedDict)  # the longest idle first

    def is_over(self, direct: Direct) -> bool:
        """Whether the sender of *direct* has begun a newer run.

        Only one run of each node is remembered: otherwise a node with many runs would displace others.
        """
        incoming = self._incoming.get(direct.origin)
        epoch = self._roster.rank(direct.origin)[0] if incoming is None else incoming.epoch
        return direct.epoch < epoch

    def has(self, direct: Direct) -> bool:
        """Whether *direct* has come before, or was given up by its sender."""
        incoming = self._incoming.get(direct.origin)
        return incoming is not None and incoming.epoch == direct.epoch and incoming.has(direct.number)

    def take(self, direct: Direct, now: float) -> bool | None:
        """Whether *direct*, of a run that is not over, is new; None if there is no room to remember it."""
        origin = direct.origin
        incoming = self._incoming.get(origin)
        is_full = len(self._incoming) >= self._config.direct_senders
        if incoming is None and is_full and not self._make_room(now):
            return None
        if incoming is None or direct.epoch > incoming.epoch:
            since = now if incoming is None else incoming.since
            incoming = self._incoming[origin] = Incoming(direct.epoch, since)
        self._incoming.move_to_end(origin)
        incoming.given_up_below(direct.oldest)
        return incoming.take(direct.number)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "direct_senders": len(self._incoming),
            "direct_ahead": sum(incoming.above.bit_count() for incoming in self._incoming.values()),
        }

    def _make_room(self, now: float) -> bool:
        """Forget some senders that are neither on the roster nor linked; False if there are none."""
        gone = [item for item in self._incoming.items() if not self._is_here(item[0])]
        new = [item for item in reversed(gone) if item[1].since > now - ESTABLISHED]
        new.sort(key=lambda item: item[1].since, reverse=True)
        old = [item for item in gone if item[1].since <= now - ESTABLISHED]
        for origin, _ in (new + old)[: max(1, self._config.direct_senders // _AT_ONCE)]:
            del self._incoming[origin]
        return bool(gone)

    def _is_here(self, origin: bytes) -> bool:
        return origin in self._roster or self._links.is_neighbour(origin)
