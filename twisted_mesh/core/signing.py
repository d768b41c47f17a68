"""The signatures of records: who a PRESENCE, a RECEIPT or a direct message comes from.

Contract: :meth:`Signer.signed` signs with the own key, :meth:`Signer.require` lets pass what is signed by
whom it names; both for one network and one kind.
"""

from __future__ import annotations

from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire import codec
from twisted_mesh.wire.replies import Receipt, SignedReceipt
from twisted_mesh.wire.signed import Record, SignedRecord


class Signer:
    """The own key, and the network it signs for."""

    def __init__(self, local_node: LocalNode) -> None:
        self._sign = local_node.sign
        self._verify = local_node.verify
        self._network = codec.network_digest(local_node.network.id)

    def signed(self, record: Record) -> SignedRecord:
        """*record*, which names this node as the one it comes from, to be sent."""
        array = codec.pack(record)
        return SignedRecord(record, self._signature(record, array), array)

    def receipt(self, receipt: Receipt) -> SignedReceipt:
        """*receipt*, which names this node as the member."""
        array = codec.pack(receipt)
        return SignedReceipt(self._signature(receipt, array), array)

    def require(self, signed: SignedRecord) -> None:
        """Let *signed* pass.

        :raises RemoteError: it was not signed by whom it says it comes from.
        """
        self._require(signed.record, signed.signature, signed.array)

    def require_receipt(self, receipt: Receipt, signed: SignedReceipt) -> None:
        """Let *signed*, which is *receipt*, pass.

        :raises RemoteError: it was not signed by the member it names.
        """
        self._require(receipt, signed.signature, signed.array)

    def _signature(self, record: Record | Receipt, array: bytes) -> bytes:
        return self._sign(codec.signed_text(self._network, array, record.kind))

    def _require(self, record: Record | Receipt, signature: bytes, array: bytes) -> None:
        text = codec.signed_text(self._network, array, record.kind)
        if not self._verify(record.signer, signature, text):
            raise RemoteError(f"a {record.kind.name} with a false signature", Reason.SIGNATURE)
