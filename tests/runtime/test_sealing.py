"""The seals of HPKE: a text opens with the last two keys, in its context, and in no other way."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.runtime.sealing import HpkeKeys

SEALING_BYTES = 48  # as docs/protocol.rst says


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
