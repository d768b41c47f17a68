"""Signed records, that is all signed frames but batches: the value, and the very bytes its author signed.

Contract: there is one class for all kinds, so that a relay need not know which kind it passes on.  A relay
changes no byte but ``hops``.
"""

from __future__ import annotations

from typing import Final

from twisted_mesh.wire.fields import FrameBase
from twisted_mesh.wire.membership import Presence, Suspect
from twisted_mesh.wire.replies import Direct, DirectAck

MAX_HOPS: Final = 255

Record = Presence | Suspect | Direct | DirectAck


class SignedRecord(FrameBase, frozen=True):
    """A PRESENCE, SUSPECT, DIRECT or DIRECT_ACK as it travels."""

    record: Record
    signature: bytes
    array: bytes
    hops: int = 0

    def relayed(self) -> SignedRecord:
        """The same, one hop further."""
        return SignedRecord(self.record, self.signature, self.array, min(self.hops + 1, MAX_HOPS))
