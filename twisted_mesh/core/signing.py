"""The signatures of records, which are all signed frames except BATCH.

Contract: a signature holds for one network and one kind of frame.
"""

from __future__ import annotations

from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire import codec
from twisted_mesh.wire.replies import Receipt, SignedReceipt
from twisted_mesh.wire.signed import Record, SignedRecord


class Signer:
    """Signs records with this node's key, and checks those of others."""

    def __init__(self, local_node: LocalNode) -> None:
        self._sign = local_node.sign
        self._verify = local_node.verify
        self._network = codec.network_digest(local_node.network_id)

    def signed(self, record: Record) -> SignedRecord:
        """*record* with its signature; it must name this node as its author."""
        array = codec.pack(record)
        return SignedRecord(record, self._signature(record, array), array)

    def receipt(self, receipt: Receipt) -> SignedReceipt:
        """*receipt* with its signature; it must name this node as the member."""
        array = codec.pack(receipt)
        return SignedReceipt(self._signature(receipt, array), array)

    def require(self, signed: SignedRecord) -> None:
        """Raise RemoteError unless *signed* is signed by the author that it names."""
        self._require(signed.record, signed.signature, signed.array)

    def is_signed(self, signed: SignedRecord) -> bool:
        """Whether *signed* is signed by the author that it names."""
        return self._is_signed(signed.record, signed.signature, signed.array)

    def require_receipt(self, receipt: Receipt, signed: SignedReceipt) -> None:
        """Raise RemoteError unless *signed*, the packed *receipt*, is signed by the member named in it."""
        self._require(receipt, signed.signature, signed.array)

    def _signature(self, record: Record | Receipt, array: bytes) -> bytes:
        return self._sign(codec.signed_text(self._network, array, record.kind))

    def _is_signed(self, record: Record | Receipt, signature: bytes, array: bytes) -> bool:
        return self._verify(record.signer, signature, codec.signed_text(self._network, array, record.kind))

    def _require(self, record: Record | Receipt, signature: bytes, array: bytes) -> None:
        if not self._is_signed(record, signature, array):
            raise RemoteError(f"a {record.kind.name} with a false signature", Reason.SIGNATURE)
