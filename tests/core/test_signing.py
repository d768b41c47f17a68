"""Signatures of records: by whom they come from, for one kind and one network."""

from __future__ import annotations

from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import acknowledged, direct, local_node, origin_of, presence, receipt, suspect
from twisted_mesh.core.signing import Signer
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.network import Protocol
from twisted_mesh.wire import codec
from twisted_mesh.wire.replies import DirectAck
from twisted_mesh.wire.signed import SignedRecord

RECORDS = [presence("me"), suspect("me", "anna"), direct("me", "anna", 1), acknowledged("me", "anna", 1)]


class TestSeal(SynchronousTestCase):
    def setUp(self) -> None:
        self.signer = Signer(local_node("me"))

    def assert_refused(self, signed: SignedRecord) -> None:
        error = self.assertRaises(RemoteError, self.signer.require, signed)
        self.assertIs(error.reason, Reason.SIGNATURE)

    def test_each_is_signed_by_whom_it_comes_from(self) -> None:
        for signed in RECORDS:
            self.assertEqual(signed.record.signer, origin_of("me"))
            self.assertEqual(self.signer.signed(signed.record), signed)
            self.signer.require(signed)
        value = codec.receipt(receipt("me", "anna", 1, 3).array)
        self.assertEqual(value.signer, origin_of("me"))
        self.assertEqual(self.signer.receipt(value), receipt("me", "anna", 1, 3))
        self.signer.require_receipt(value, receipt("me", "anna", 1, 3))

    def test_what_anything_was_changed_in_is_refused(self) -> None:
        for signed in RECORDS:
            self.assert_refused(structs.replace(signed, signature=bytes(64)))
            self.assert_refused(structs.replace(signed, array=signed.array[:-1] + b"\x09"))
        one, other = receipt("anna", "me", 1, 3), receipt("anna", "me", 1, 4)
        mixed = structs.replace(other, signature=one.signature)
        value = codec.receipt(other.array)
        self.assertRaises(RemoteError, self.signer.require_receipt, value, mixed)

    def test_a_signature_is_good_for_one_kind(self) -> None:
        signed = direct("me", "anna", 1)
        other = DirectAck(origin_of("me"), 1, origin_of("anna"), 1, 1, 0)
        self.assert_refused(SignedRecord(other, signed.signature, signed.array))

    def test_and_for_one_network(self) -> None:
        elsewhere = Signer(structs.replace(local_node("me"), network=Protocol("elsewhere", "Plaintext")))
        for signed in RECORDS:
            self.assertRaises(RemoteError, elsewhere.require, signed)
