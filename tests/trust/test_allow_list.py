"""Lists of the nodes that belong to the mesh, or do not."""

from __future__ import annotations

from tests.trust.test_shared_secret import ANNA, MESH, SECRET, SecretCase, clock
from twisted_mesh.errors import TrustError
from twisted_mesh.identity import id_of
from twisted_mesh.network import EVERYBODY, Policy
from twisted_mesh.trust.policy import Trust

BERT, CLEO = b"b" * 32, b"c" * 32


class ListCase(SecretCase):
    def policy(self, trust: Trust) -> Policy:
        """The policy of *trust*."""
        return trust.load(MESH, clock, 100.0)

    def ids(self, *origins: bytes, label: str = "") -> Trust:
        """Trust in the nodes with these keys alone."""
        lines = [f"{id_of(origin).decode()}  {label}" for origin in origins]
        return Trust.only(self.file(*lines, mode=0o644))

    def refused_list(self, trust: Trust, *words: str) -> None:
        """Assert that *trust* has a list that cannot be used, and that the error has *words*."""
        said = str(self.assertRaises(TrustError, self.policy, trust))
        for word in words:
            self.assertIn(word, said)


class TestLists(ListCase):
    def test_the_nodes_on_the_list_belong_to_the_mesh_and_no_others(self) -> None:
        policy = self.policy(self.ids(ANNA, BERT, label="# a label"))
        self.assertEqual((policy.mode, policy.secrets, policy.needs_credentials), ("only", [], False))
        self.assertIsNone(policy.may_link(ANNA, b""))
        self.assertTrue(policy.may_speak(ANNA, b"") and policy.vouches(ANNA))
        said = policy.may_link(CLEO, b"") or ""
        self.assertIn(id_of(CLEO).decode(), said)
        self.assertIn("add it there", said)
        self.assertFalse(policy.may_speak(CLEO, b"") or policy.vouches(CLEO))
        self.assertEqual([policy.bars(origin) for origin in (ANNA, CLEO)], [False, True])

    def test_the_nodes_on_a_list_of_denied_ones_do_not(self) -> None:
        policy = self.policy(Trust.deny(self.file(id_of(CLEO).decode())))
        self.assertEqual((policy.mode, policy.vouches(ANNA)), ("", False))
        self.assertIsNone(policy.may_link(ANNA, b""))
        self.assertIn("denied nodes has", policy.may_link(CLEO, b"") or "")
        self.assertEqual([policy.may_speak(origin, b"") for origin in (ANNA, CLEO)], [True, False])

    def test_modes_combine(self) -> None:
        secret = Trust.secret(self.file(SECRET.hex()))
        both = self.policy(secret & self.ids(ANNA, CLEO) & Trust.deny(self.file(id_of(CLEO).decode())))
        self.assertEqual(both.mode, "only&secret")
        credential = both.credential(ANNA)
        (known,) = both.secrets
        self.assertIsNone(both.may_link(ANNA, known.id))
        for origin, by in ((ANNA, b"another"), (BERT, known.id), (CLEO, known.id)):
            self.assertIsNotNone(both.may_link(origin, by))
        self.assertTrue(both.may_speak(ANNA, credential))
        self.assertFalse(both.may_speak(ANNA, b"") or both.may_speak(CLEO, both.credential(CLEO)))

    def test_a_list_that_cannot_be_used_says_what_to_do(self) -> None:
        anna = id_of(ANNA).decode()
        self.refused_list(Trust.only(self.file("# nobody")), "is empty", "add the ids")
        self.refused_list(Trust.only(self.file(anna, "# x", anna)), "line 3", "in line 1, too")
        for line in ("web1", anna[:20], anna + "abc", anna[:-1] + "0", f"{anna} web1", SECRET.hex()):
            self.refused_list(Trust.only(self.file(line)), "line 1", "not the id of a node")
        # The file of a secret, which somebody may name by mistake, is not shown.
        said = str(self.assertRaises(TrustError, self.policy, Trust.only(self.file(SECRET.hex()))))
        self.assertNotIn(SECRET.hex()[:8], said)
        for mode in (0o620, 0o602, 0o666):
            path = self.file(anna, mode=mode)
            self.refused_list(Trust.deny(path), "changed by others", f"chmod go-w {path.absolute()}")

    def test_a_node_that_its_own_lists_keep_out_is_warned(self) -> None:
        for trust, words in (
            (self.ids(BERT), ("the list of members does not have", "add it there, at all nodes")),
            (Trust.deny(self.file(id_of(ANNA).decode())), ("a list of denied nodes has",)),
        ):
            policy = self.policy(trust)
            self.assertIsNone(policy.warning)
            policy.fit(id_of(ANNA), False)
            for word in (id_of(ANNA).decode(), *words):
                self.assertIn(word, policy.warning or "")
        policy = self.policy(self.ids(ANNA))
        policy.fit(id_of(ANNA), False)
        self.assertIsNone(policy.warning)

    def test_nobody_need_be_denied(self) -> None:
        policy = self.policy(Trust.deny(self.file("# nobody yet")))
        self.assertFalse(policy.bars(ANNA))

    def test_nodes_tell_each_other_by_8_bytes_whether_their_lists_differ(self) -> None:
        mine, same, other = (self.policy(self.ids(*ids)) for ids in ((ANNA, BERT), (BERT, ANNA), (ANNA,)))
        self.assertEqual(mine.differs(same.credential(BERT)), b"")
        self.assertEqual(len(mine.differs(other.credential(BERT))), 16)
        self.assertEqual(len(mine.differs(b"")), 8)
        self.assertNotEqual(mine.differs(other.credential(ANNA)), other.differs(mine.credential(ANNA)))
        denied = self.policy(Trust.deny(self.file(id_of(ANNA).decode())))
        self.assertEqual(len(denied.differs(other.credential(ANNA))), 16)
        without = self.policy(Trust.secret(self.file(SECRET.hex())))
        self.assertEqual((without.differs(mine.credential(ANNA)), EVERYBODY.differs(b"")), (b"", b""))

    def test_people_are_told_who_is_trusted(self) -> None:
        both = Trust.secret(self.file(SECRET.hex())) & self.ids(ANNA)
        self.assertEqual(str(both), "nodes with the secret and nodes on a list")
        told = (str(Trust.open()), EVERYBODY.told, self.policy(both).told)
        self.assertEqual(told, ("everybody", "everybody", str(both)))
        self.assertEqual((Trust.open().is_open, both.is_open), (True, False))
