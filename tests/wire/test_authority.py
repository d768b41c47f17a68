"""What the authority of a mesh signs."""

from __future__ import annotations

from typing import Any

from tests.wire.samples import IDENTITY, KEYS, NETWORK, NUMBERS, SEQUENCES, WireCase, pack
from tests.wire.test_membership import IDS
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire.authority import (
    MAX_CUTS,
    MAX_POLICY,
    MAX_QUOTAS,
    Cut,
    Grant,
    GrantContent,
    Policy,
    PolicyContent,
    Quota,
    Removed,
    Roles,
    grant_of,
    policy_of,
    unpack_grant,
    unpack_policy,
)
from twisted_mesh.wire.codec import pack_policy
from twisted_mesh.wire.fields import MAX_CERTIFICATE, MAX_GRANT, MAX_NUMBER, Kind

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

    def test_the_bounds_of_a_certificate(self) -> None:
        most = bytes(MAX_CERTIFICATE)
        self.assert_bounds(Kind.CERTIFICATE, 0, [b"", most], [most + b"x", "", None, []])

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


REMOVED = Removed(bytes(32), [Cut(1, 8, bytes(range(32))), Cut(2, 0, b"")])
POLICY = [KEY, 3, 2, [REMOVED]]


class TestPolicies(WireCase):
    def assert_no_policy(self, array: bytes) -> None:
        """Assert that *array* is no policy's."""
        self.assertIs(self.assertRaises(RemoteError, unpack_policy, array).reason, Reason.SHAPE)

    def test_what_is_signed_comes_out_as_it_went_in(self) -> None:
        quotas = [Quota(KEY, 10, MAX_NUMBER), Quota(b"", 0, 0)]
        for value in (
            PolicyContent(KEY, 3, 2, [REMOVED]),
            PolicyContent(bytes(32), MAX_NUMBER, 0, []),
            PolicyContent(KEY, 1, 0, [], quotas),
        ):
            array = pack_policy(value)
            self.assertEqual(unpack_policy(array), value)
            policy = Policy(bytes(range(64)), array)
            self.assertEqual(policy.text, b"twisted_mesh/1/policy" + array)
            self.assertEqual(policy_of(policy.packed), policy)

    def test_the_bounds_of_the_frame(self) -> None:
        self.assert_bounds(Kind.POLICY, 0, [bytes(64)], [bytes(63), bytes(65), b"", "s" * 64, None])
        most = MAX_POLICY - 64
        self.assert_bounds(Kind.POLICY, 1, [b"", bytes(most)], [bytes(most + 1), "", None, []])

    def test_the_bounds_of_its_fields(self) -> None:
        cut = [1, 8, b""]
        full = [[bytes(32), [cut] * MAX_CUTS]]
        bad = [
            [[bytes(31), []]],
            [[bytes(32)]],
            [[bytes(32), [cut] * (MAX_CUTS + 1)]],
            [[bytes(32), [[1, 8]]]],
        ]
        bad += [[[bytes(32), [wrong]]] for wrong in ([-1, 8, b""], [1, MAX_NUMBER, b""], [1, 8, bytes(33)])]
        quota = [bytes(32), 1, 0]
        no_quotas = [
            [[bytes(33), 1, 0]],
            [[bytes(32), -1, 0]],
            [[b"", 1]],
            [quota] * (MAX_QUOTAS + 1),
            None,
        ]
        quotas = [[], [quota] * MAX_QUOTAS, [[b"", MAX_NUMBER, MAX_NUMBER, "later"]]], no_quotas
        each = (KEYS, SEQUENCES, NUMBERS, ([[], full], [*bad, None, {}]), quotas)
        for at, (good, wrong) in enumerate(each):
            for value in good:
                unpack_policy(pack([*POLICY[:at], value, *POLICY[at + 1 :]]))
            for value in wrong:
                self.assert_no_policy(pack([*POLICY[:at], value, *POLICY[at + 1 :]]))

    def test_without_quotas_it_is_what_it_was_before_there_were_any(self) -> None:
        self.assertEqual(pack_policy(PolicyContent(*POLICY)), pack(POLICY))

    def test_anything_else_is_no_policy(self) -> None:
        whole = pack(POLICY)
        for array in (b"", whole[:-1], whole + b"\0", pack(POLICY[:-1]), b"\x91" * 4000, b"\xc1"):
            self.assert_no_policy(array)
        self.assertEqual(unpack_policy(pack([*POLICY, [], "later"])), PolicyContent(KEY, 3, 2, [REMOVED]))
