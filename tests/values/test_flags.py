"""The flags users of MeshSocket know."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh import flags
from twisted_mesh.flags import check_user_type, is_user_type


class TestFlags(SynchronousTestCase):
    def test_the_numbers_are_those_of_py2p(self) -> None:
        self.assertEqual((flags.broadcast, flags.whisper), (0, 2))

    def test_0_2_and_0x30_and_above_are_for_applications(self) -> None:
        for number in (0, 2, 0x30, 0x31, 2**32, 2**64 - 1):
            self.assertTrue(is_user_type(number), number)
            check_user_type(number)

    def test_the_rest_belongs_to_the_protocol(self) -> None:
        for number in (-1, 1, 3, 5, 0x2F, 2**64):
            self.assertFalse(is_user_type(number), number)
            error = self.assertRaises(ValueError, check_user_type, number)
            self.assertEqual(str(error), f"type must be 0, 2 or 0x30 and above, not {number}")

    def test_only_an_integer_is_a_type(self) -> None:
        for value in (True, False, 0.0, 48.0, "0", b"\x00", None, []):
            self.assertFalse(is_user_type(value), value)
