"""What the authority of a mesh signs."""

from __future__ import annotations

from typing import Any

from tests.wire.samples import IDENTITY, KEYS, NETWORK, NUMBERS, WireCase, pack
from tests.wire.test_membership import IDS
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire.authority import Grant, GrantContent, Roles, grant_of, unpack_grant
from twisted_mesh.wire.fields import MAX_GRANT, MAX_NUMBER, Kind

KEY = NETWORK.key_with(f"authority={IDENTITY.origin.hex()}")
FIELDS: list[Any] = [KEY, IDENTITY.id, Roles.LINK | Roles.AUTHOR, 1, 7]


class TestGrants(WireCase):
    def assert_no_grant(self, array: bytes) -> None:
        """Assert that *array* is no grant's."""
        self.assertIs(self.assertRaises(RemoteError, unpack_grant, array).reason, Reason.SHAPE)

    def test_what_is_signed_comes_out_as_it_went_in(self) -> None:
        for value in (GrantContent(*FIELDS), GrantContent(bytes(32), b"1" * 32, 0, MAX_NUMBER, 0)):
            self.assertEqual(unpack_grant(pack(value)), value)
            grant = Grant(bytes(range(64)), pack(value))
            self.assertEqual(grant.text, b"twisted_mesh/1/grant" + pack(value))
            self.assertEqual(grant_of(grant.packed), grant)

    def test_the_bounds_of_the_frame(self) -> None:
        self.assert_bounds(Kind.GRANT, 0, [bytes(64)], [bytes(63), bytes(65), b"", "s" * 64, None])
        most = MAX_GRANT - 64
        self.assert_bounds(Kind.GRANT, 1, [b"", bytes(most)], [bytes(most + 1), "", None, []])

    def test_the_bounds_of_its_fields(self) -> None:
        for at, (good, bad) in enumerate((KEYS, IDS, NUMBERS, NUMBERS, NUMBERS)):
            for value in good:
                unpack_grant(pack([*FIELDS[:at], value, *FIELDS[at + 1 :]]))
            for value in bad:
                self.assert_no_grant(pack([*FIELDS[:at], value, *FIELDS[at + 1 :]]))

    def test_fields_of_later_versions_are_ignored(self) -> None:
        self.assertEqual(unpack_grant(pack([*FIELDS, "later"])), GrantContent(*FIELDS))

    def test_anything_else_is_no_grant(self) -> None:
        whole = pack(FIELDS)
        for array in (b"", whole[:-1], whole + b"\0", pack(FIELDS[:-1]), b"\x91" * 400, b"\xc1"):
            self.assert_no_grant(array)
