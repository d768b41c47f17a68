"""The seals of HPKE: a text opens with the last two keys, in its context, and in no other way."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.properties.profile import fixed
from twisted_mesh.runtime import sealing
from twisted_mesh.runtime.sealing import HpkeKeys

SEALING_BYTES = 48  # as docs/protocol.rst says
LIBRARY = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)

texts = st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=3)), max_size=12)


class TestHpkeKeys(SynchronousTestCase):
    def setUp(self) -> None:
        self.keys, self.others = HpkeKeys(), HpkeKeys()
        self.others.renew()
        self.key = self.keys.renew()

    def sealed(self, text: bytes = b"psst", context: bytes = b"here") -> bytes:
        """A text that is sealed with the key of *keys*."""
        sealed = self.others.encrypt(text, self.key, context)
        assert sealed is not None
        return sealed

    def test_the_owner_of_the_key_opens_it_in_its_context(self) -> None:
        for text in (b"", b"psst", bytes(1_000_000)):
            sealed = self.sealed(text)
            self.assertEqual(len(sealed), len(text) + SEALING_BYTES)
            self.assertEqual(self.keys.decrypt(sealed, b"here"), text)

    def test_nobody_else_does_nor_elsewhere_nor_if_it_was_changed(self) -> None:
        sealed = self.sealed()
        self.assertIsNone(self.others.decrypt(sealed, b"here"))
        self.assertIsNone(self.keys.decrypt(sealed, b"there"))
        flipped = bytes([sealed[0] ^ 1]) + sealed[1:]
        for changed in (sealed[:-1], sealed + b"x", flipped, bytes(100), b"x", b""):
            self.assertIsNone(self.keys.decrypt(changed, b"here"))

    def test_no_two_seals_are_the_same(self) -> None:
        self.assertNotEqual(self.sealed()[:32], self.sealed()[:32])

    def test_the_last_two_keys_open(self) -> None:
        sealed = self.sealed()
        self.assertNotEqual(self.keys.renew(), self.key)
        self.assertEqual(self.keys.decrypt(sealed, b"here"), b"psst")
        self.keys.renew()
        self.assertIsNone(self.keys.decrypt(sealed, b"here"))

    def test_with_a_key_that_anybody_could_open_nothing_is_sealed(self) -> None:
        self.assertIsNone(self.others.encrypt(b"psst", bytes(32), b"here"))


class TestExchanges(SynchronousTestCase):
    """One key exchange seals several texts, and what is sealed is HPKE all the same."""

    def setUp(self) -> None:
        self.keys, self.others = HpkeKeys(), HpkeKeys()
        self.key = self.keys.renew()

    def sealed(self, context: bytes) -> bytes:
        """A text that is sealed for *keys* in *context*."""
        sealed = self.others.encrypt(b"psst", self.key, context)
        assert sealed is not None
        return sealed

    @fixed
    @given(texts)
    def test_a_library_opens_what_is_sealed_and_no_context_is_used_twice_with_a_secret(
        self, drawn: list[tuple[bytes, bytes]]
    ) -> None:
        theirs = X25519PrivateKey.generate()
        key, used = theirs.public_key().public_bytes_raw(), set()
        for text, context in drawn:
            sealed = self.others.encrypt(text, key, context)
            assert sealed is not None
            self.assertEqual(LIBRARY.decrypt(sealed, theirs, info=context), text)
            self.assertNotIn((sealed[:32], context), used)
            used.add((sealed[:32], context))

    @fixed
    @given(texts)
    def test_what_a_library_seals_is_opened_and_so_it_is_with_secrets_of_ours(
        self, drawn: list[tuple[bytes, bytes]]
    ) -> None:
        public = X25519PublicKey.from_public_bytes(self.key)
        for text, context in drawn:
            self.assertEqual(self.keys.decrypt(LIBRARY.encrypt(text, public, info=context), context), text)
            sealed = self.others.encrypt(text, self.key, context)
            self.assertEqual(self.keys.decrypt(sealed or b"", context), text)

    def test_texts_in_rising_contexts_share_an_exchange(self) -> None:
        sealed = [self.sealed(bytes([number])) for number in range(1, 10)]
        self.assertEqual(len({each[:32] for each in sealed}), 1)
        self.assertEqual(
            [self.keys.decrypt(each, bytes([n])) for n, each in enumerate(sealed, 1)], [b"psst"] * 9
        )
        self.assertIsNone(self.keys.decrypt(sealed[0], b"there"))
        self.assertEqual((len(self.others), len(self.keys)), (1, 1))
        self.assertNotEqual(self.sealed(b"\1")[:32], sealed[0][:32])

    def test_an_exchange_seals_so_many_texts_and_no_more(self) -> None:
        self.patch(sealing, "_TEXTS", 2)
        first, second, third = (self.sealed(bytes([number]))[:32] for number in (1, 2, 3))
        self.assertEqual((first == second, second == third), (True, False))

    def test_a_new_key_of_its_own_makes_it_forget_all_secrets(self) -> None:
        first = self.sealed(b"1")
        self.assertEqual(self.keys.decrypt(first, b"1"), b"psst")
        self.others.renew()
        self.keys.renew()
        self.assertEqual((len(self.others), len(self.keys)), (0, 0))
        self.assertNotEqual(self.sealed(b"2")[:32], first[:32])
        self.assertEqual(self.keys.decrypt(first, b"1"), b"psst")

    def test_the_exchanges_that_are_remembered_are_bounded(self) -> None:
        self.patch(sealing, "EXCHANGES", 3)
        for number in range(1, 6):
            one = HpkeKeys()
            self.assertEqual(
                one.decrypt(self.others.encrypt(b"psst", one.renew(), b"1") or b"", b"1"), b"psst"
            )
            for others in (HpkeKeys(), HpkeKeys()):
                self.keys.decrypt(others.encrypt(b"psst", self.key, b"1") or b"", b"1")
            self.assertEqual((len(self.others), len(self.keys)), (min(number, 3), min(2 * number, 3)))
