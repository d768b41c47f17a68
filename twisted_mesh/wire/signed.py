"""Signed records: all signed frames except batches.

Contract: all kinds have one class, so that a relay need not know which kind it passes on.  A record keeps
the bytes that its author signed; the author is ``record.signer``.  A relay changes ``hops`` alone.
"""

from __future__ import annotations

from typing import Final

from twisted_mesh.wire.fields import FrameBase
from twisted_mesh.wire.membership import Forget, Presence, Suspect
from twisted_mesh.wire.replies import Direct, DirectAck, DirectKey

MAX_HOPS: Final = 255

Record = Presence | Suspect | Forget | Direct | DirectAck | DirectKey


class SignedRecord(FrameBase, frozen=True):
    """A PRESENCE, SUSPECT, FORGET, DIRECT, DIRECT_ACK or DIRECT_KEY as it travels."""

    record: Record
    signature: bytes
    array: bytes
    hops: int = 0

    def relayed(self) -> SignedRecord:
        return SignedRecord(self.record, self.signature, self.array, min(self.hops + 1, MAX_HOPS))
