"""The base of members that send forged frames of their own.

Contract: an :class:`Adversary` is a :class:`~twisted_mesh.simulation.member.Member` that sends its own
frames beside those of its core.
"""

from __future__ import annotations

from functools import partial

from twisted_mesh.core.handshake import Sign
from twisted_mesh.core.node import Node
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.trace import AnyFrame
from twisted_mesh.wire import codec
from twisted_mesh.wire.membership import (
    Presence,
)
from twisted_mesh.wire.signed import Record, SignedRecord


class Adversary(Member):
    """Sends forged frames again and again, by :meth:`act`.

    :cvar pace: seconds from one call of :meth:`act` to the next; :cvar begins: the time of the first.
    """

    lies = True
    pace = 0.1
    begins = 10.0

    def start(self) -> None:
        """Begin a run."""
        super().start()
        self._again(self.core)

    def _again(self, core: Node | None) -> None:
        if self.core is core is not None:
            if self.world.now >= self.begins:
                self.act()
            self.world.at(self.world.now + self.pace, partial(self._again, core))

    def act(self) -> None:
        """Send the frames of this class of adversaries."""

    def put(self, frame: AnyFrame) -> None:
        """Send *frame* over every link."""
        for number in list(self.links):
            self.put_to(number, frame)

    def put_to(self, number: int, frame: AnyFrame) -> None:
        """Send *frame* over the link *number*."""
        Member.transmit(self, number, frame, 200)

    def record(self, record: Record, sign: Sign) -> SignedRecord:
        """*record*, signed by *sign*."""
        array = codec.pack(record)
        return SignedRecord(record, sign(codec.signed_text(self.world.digest, array, record.kind)), array)

    def known(self) -> list[Presence]:
        """The newest records of all members on its roster."""
        return [entry.presence for entry in self.node.roster]
