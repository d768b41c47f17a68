"""Seals: a text opens with the last two keys, in its context, and in no other way."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.runtime import sealing
from twisted_mesh.runtime.sealing import HpkeKeys

WRAPPED_BYTES, NONCE_BYTES, TAG_BYTES = 80, 12, 16  # as docs/protocol.rst says
SEALING_BYTES = WRAPPED_BYTES + NONCE_BYTES + TAG_BYTES


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
        for place in (0, WRAPPED_BYTES - 1, WRAPPED_BYTES, SEALING_BYTES - 1, len(sealed) - 1):
            flipped = bytearray(sealed)
            flipped[place] ^= 1
            self.assertIsNone(self.keys.decrypt(bytes(flipped), b"here"), place)
        for changed in (sealed[:-1], sealed + b"x", sealed[:SEALING_BYTES], bytes(200), b"x", b""):
            self.assertIsNone(self.keys.decrypt(changed, b"here"))

    def test_texts_for_one_owner_share_a_content_key_and_no_two_a_nonce(self) -> None:
        self.patch(sealing, "_TEXTS", 3)
        seals = [self.sealed() for _ in range(7)]
        parts = [(one[:WRAPPED_BYTES], one[WRAPPED_BYTES:][:NONCE_BYTES]) for one in seals]
        self.assertEqual(len(set(parts)), 7)
        self.assertEqual(len({wrapped for wrapped, _ in parts}), 3)
        for one in reversed(seals):
            self.assertEqual(self.keys.decrypt(one, b"here"), b"psst")

    def test_what_was_sent_with_an_earlier_key_of_ones_own_is_forgotten(self) -> None:
        before = self.sealed()
        self.others.renew()
        self.assertNotEqual(self.sealed()[:WRAPPED_BYTES], before[:WRAPPED_BYTES])

    def test_content_keys_are_bounded_each_way_and_the_longest_unused_is_made_anew(self) -> None:
        self.patch(sealing, "_PEERS", 2)
        owners = [HpkeKeys() for _ in range(3)]
        keys = [owner.renew() for owner in owners]

        def wrapped(place: int) -> bytes:
            sealed = self.others.encrypt(b"psst", keys[place], b"here")
            assert sealed is not None
            self.assertEqual(owners[place].decrypt(sealed, b"here"), b"psst")
            return sealed[:WRAPPED_BYTES]

        first, second = wrapped(0), wrapped(1)
        self.assertEqual(wrapped(0), first)
        wrapped(2)
        self.assertEqual(wrapped(0), first)
        self.assertNotEqual(wrapped(1), second)

        authors = [HpkeKeys() for _ in range(3)]
        seals = [author.encrypt(b"psst", self.key, b"here") or b"" for author in authors]
        for sealed in seals * 2:  # a forgotten content key is unwrapped again
            self.assertEqual(self.keys.decrypt(sealed, b"here"), b"psst")
        self.assertEqual(len(self.keys), 2)

    def test_a_content_key_is_remembered_only_if_it_opened_a_text(self) -> None:
        sealed = self.sealed()
        self.assertIsNone(self.keys.decrypt(sealed, b"there"))
        self.assertEqual(len(self.keys), 0)
        self.assertEqual(self.keys.decrypt(sealed, b"here"), b"psst")
        self.assertEqual((len(self.keys), len(self.others)), (1, 1))

    def test_a_content_key_that_is_known_is_unwrapped_with_no_key_again(self) -> None:
        sealed = self.sealed()
        self.keys.renew()
        self.assertEqual(self.keys.decrypt(sealed, b"here"), b"psst")
        self.patch(sealing, "_SUITE", None)
        self.assertEqual(self.keys.decrypt(sealed, b"here"), b"psst")

    def test_the_last_two_keys_open(self) -> None:
        sealed = self.sealed()
        self.assertNotEqual(self.keys.renew(), self.key)
        self.assertEqual(self.keys.decrypt(sealed, b"here"), b"psst")
        self.keys.renew()
        self.assertIsNone(self.keys.decrypt(sealed, b"here"))

    def test_with_a_key_that_anybody_could_open_nothing_is_sealed(self) -> None:
        self.assertIsNone(self.others.encrypt(b"psst", bytes(32), b"here"))
