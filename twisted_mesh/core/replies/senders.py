"""The senders of direct messages: which numbers of each came, so that none is delivered twice.

Contract: of each sender the newest run is kept, in half a KiB at most; ``direct_senders`` is the limit.
An attacker that makes up authors can fill any table, and then repeat the messages of a sender that was
forgotten.  So no sender is forgotten that is on the roster or at the far end of a link.  If there is no
room beside these, a new sender is not taken, and sends its message again.  Of all other senders those go
first that came in the last ten minutes, the latest before the earlier ones: made up senders displace each
other.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.wire.replies import Direct

WINDOW: Final = 1024  # numbers above the head that are accepted (docs/protocol.rst)
ESTABLISHED: Final = 600.0  # seconds after its first message a sender is no newcomer (guess)
_AT_ONCE: Final = 16  # the part of the table that is forgotten at a time: each time all of it is looked at


class Incoming:
    """The messages from one run of one node.

    :ivar epoch: of that run; :ivar since: when the first message of any of its node's runs came.
    :ivar head: all numbers up to this came or were given up.
    :ivar above: the higher ones that came, as bits: the lowest is that of the number behind the head.
    """

    __slots__ = ("above", "epoch", "head", "since")

    def __init__(self, epoch: int, since: float) -> None:
        self.epoch = epoch
        self.since = since
        self.head = 0
        self.above = 0  # 164 bytes at most, where a set of numbers needs 60 KiB (measured)

    def given_up_below(self, oldest: int) -> None:
        """Raise the head: the sender repeats no message below *oldest*."""
        if (passed := oldest - 1 - self.head) > 0:
            self.head += passed
            self.above >>= passed
            self._join()

    def takes(self, number: int) -> bool | None:
        """Whether *number* is new; None if it is too far above the head to be remembered."""
        ahead = number - self.head - 1
        if ahead < 0 or self.above >> ahead & 1:
            return False
        if ahead >= WINDOW:
            return None
        self.above |= 1 << ahead
        self._join()
        return True

    def _join(self) -> None:
        joined = (~self.above & self.above + 1).bit_length() - 1  # the ones at the low end
        self.head += joined
        self.above >>= joined


class Senders:
    """The nodes that sent direct messages to this one."""

    def __init__(self, config: MeshConfig, roster: Roster, links: Links) -> None:
        self._most = config.direct_senders
        self._roster = roster
        self._links = links
        self._incoming: OrderedDict[bytes, Incoming] = OrderedDict()  # the longest idle first

    def is_over(self, direct: Direct) -> bool:
        """Whether the sender of *direct* has begun a newer run.

        One run of each node is remembered: else a node with many runs would displace the others.
        """
        incoming = self._incoming.get(direct.origin)
        epoch = self._roster.rank(direct.origin)[0] if incoming is None else incoming.epoch
        return direct.epoch < epoch

    def takes(self, direct: Direct, now: float) -> bool | None:
        """Whether *direct*, of a run that is not over, is new; None if it cannot be remembered."""
        origin = direct.origin
        incoming = self._incoming.get(origin)
        if incoming is None and len(self._incoming) >= self._most and not self._make_room(now):
            return None
        if incoming is None or direct.epoch > incoming.epoch:
            since = now if incoming is None else incoming.since
            incoming = self._incoming[origin] = Incoming(direct.epoch, since)
        self._incoming.move_to_end(origin)
        incoming.given_up_below(direct.oldest)
        return incoming.takes(direct.number)

    def footprint(self) -> dict[str, int]:
        """Entries of every table."""
        return {
            "direct_senders": len(self._incoming),
            "direct_ahead": sum(incoming.above.bit_count() for incoming in self._incoming.values()),
        }

    def _make_room(self, now: float) -> bool:
        """Forget senders that are not here; whether there were any."""
        gone = [item for item in self._incoming.items() if not self._is_here(item[0])]
        new = [item for item in reversed(gone) if item[1].since > now - ESTABLISHED]
        new.sort(key=lambda item: item[1].since, reverse=True)
        old = [item for item in gone if item[1].since <= now - ESTABLISHED]
        for origin, _ in (new + old)[: max(1, self._most // _AT_ONCE)]:
            del self._incoming[origin]
        return bool(gone)

    def _is_here(self, origin: bytes) -> bool:
        return origin in self._roster or self._links.is_neighbour(origin)
