"""The authority of a mesh: its files, and the grants that it makes."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tests.trust.test_shared_secret import MESH, SECRET, SecretCase, clock
from twisted_mesh.errors import LocalError, Reason, RemoteError, TrustError
from twisted_mesh.identity import Identity, id_of
from twisted_mesh.network import EVERYBODY, Policy, Protocol
from twisted_mesh.trust import authority, grants
from twisted_mesh.trust.authority import Authority, Grants, names_of, roles_of
from twisted_mesh.trust.grants import AuthorityFiles
from twisted_mesh.trust.policy import FilePolicy, Trust
from twisted_mesh.wire.authority import Cut, Roles
from twisted_mesh.wire.fields import MAX_NUMBER

MEMBER, LISTENER = Roles.LINK | Roles.AUTHOR, Roles.LINK | Roles.LISTEN


class AuthorityCase(SecretCase):
    """An authority, which grants."""

    def setUp(self) -> None:
        self.files = self.new_authority()
        self.me = Identity.generate()

    def new_authority(self, subnet: str = "mesh") -> AuthorityFiles:
        """A new authority."""
        self.key = Path(self.mktemp())
        return AuthorityFiles.create(self.key, subnet)

    def elsewhere(self) -> AuthorityFiles:
        """The same authority, whose key is used in another subnet, too."""
        key = Path(self.mktemp())
        key.touch(mode=0o600)
        key.write_bytes(self.key.read_bytes())
        key.with_name(f"{key.name}.state").write_text('{"subnet":"there"}')
        return AuthorityFiles.load(key)

    def public(self, key: Path | None = None) -> Path:
        """The file of the public key of an authority."""
        key = key or self.key
        return key.with_name(f"{key.name}.pub")

    def grant(self, node: Identity, roles: Roles = MEMBER, files: AuthorityFiles | None = None) -> Path:
        """The file of a grant for *node*."""
        path = Path(self.mktemp())
        (files or self.files).grant(node.id.decode(), roles, path)
        return path

    def packed(self, node: Identity, roles: Roles = MEMBER, files: AuthorityFiles | None = None) -> bytes:
        """A grant for *node*, packed."""
        return bytes.fromhex(self.grant(node, roles, files).read_text().splitlines()[1])

    def trust(self, node: Identity | None = None, roles: Roles = MEMBER) -> Trust:
        """The trust of a node."""
        return Trust.authority(self.public(), self.grant(node or self.me, roles))

    def policy(self, node: Identity | None = None, roles: Roles = MEMBER) -> Policy:
        """The policy of a node."""
        return self.trust(node, roles).load(MESH, clock, 100.0)

    def refused_by(self, trust: Trust, *words: str) -> str:
        """Assert that *trust* cannot be used, and that the error has *words*; the error."""
        said = str(self.assertRaises(TrustError, trust.load, MESH, clock, 100.0))
        for word in words:
            self.assertIn(word, said)
        return said


class TestAuthorityFiles(AuthorityCase):
    def test_the_private_key_is_its_users_alone_and_the_public_key_is_beside_it(self) -> None:
        modes = [path.stat().st_mode & 0o777 for path in (self.key, self.public())]
        self.assertEqual((modes[0], modes[1] & 0o022), (0o600, 0))
        self.assertEqual(self.public().read_text().split()[0], self.files.authority.key.hex())
        self.assertEqual(Identity.load(self.key).origin, self.files.authority.key)

    def test_no_file_is_overwritten(self) -> None:
        for suffix in ("", ".pub", ".state"):
            path = Path(self.mktemp())
            taken = path.with_name(f"{path.name}{suffix}")
            taken.write_text("something")
            self.assertRaises(LocalError, AuthorityFiles.create, path, "mesh")
            self.assertEqual(taken.read_text(), "something")
        grant = self.file("something")
        self.assertRaises(TrustError, self.files.grant, self.me.id.decode(), MEMBER, grant)
        self.assertEqual(grant.read_text(), "something\n")
        self.assertRaises(LocalError, AuthorityFiles.create, Path(self.mktemp()), "\ud800")

    def test_it_counts_its_grants_over_restarts_and_lists_them(self) -> None:
        self.grant(self.me)
        again = AuthorityFiles.load(self.key)
        other = Identity.generate()
        self.grant(other, LISTENER, again)
        listed = [
            (one.serial, one.id.encode(), one.roles) for one in AuthorityFiles.load(self.key).state.grants
        ]
        expected = [(1, self.me.id, ["link", "author"]), (2, other.id, ["link", "listen-only"])]
        self.assertEqual(listed, expected)

    def test_a_key_or_a_state_that_cannot_be_used_says_what_to_do(self) -> None:
        state = self.key.with_name(f"{self.key.name}.state")
        content = state.read_bytes()
        policies = [b'{"subnet":"mesh","policy":"%s"}' % policy for policy in (b"x", b"ab" * 99)]
        for damaged in (b"", b"{", b"[]", b"\xff", *policies):
            state.write_bytes(damaged)
            said = str(self.assertRaises(TrustError, AuthorityFiles.load, self.key))
            self.assertIn("damaged: restore the newest", said)
        state.unlink()
        said = str(self.assertRaises(TrustError, AuthorityFiles.load, self.key))
        self.assertIn(f"{state}: No such file or directory; restore", said)
        state.write_bytes(content)
        self.key.chmod(0o644)
        said = str(self.assertRaises(LocalError, AuthorityFiles.load, self.key))
        self.assertEqual(
            said, f"the authority's key {self.key} can be read by others: chmod 600 {self.key}"
        )

    def test_a_number_is_used_up_only_once_the_file_of_the_grant_is_made(self) -> None:
        nowhere = Path(self.mktemp()) / "missing" / "grant"
        self.assertRaises(TrustError, self.files.grant, self.me.id.decode(), MEMBER, nowhere)
        self.assertEqual(self.files.grant(self.me.id.decode(), MEMBER, Path(self.mktemp())).serial, 1)
        unwritten = Path(self.mktemp())
        with self.assertRaises(TrustError), grants._new_file(unwritten) as stream:
            os.close(stream.fileno())  # so that the text cannot be written
            stream.write("text")
        self.assertFalse(unwritten.exists())
        state = self.key.with_name(f"{self.key.name}.state")
        state.unlink()
        state.mkdir()
        said = self.assertRaises(TrustError, self.files.grant, self.me.id.decode(), MEMBER, self.mktemp())
        self.assertIn("Is a directory", str(said))

    def test_roles_have_names(self) -> None:
        self.assertEqual(roles_of("link,author"), MEMBER)
        self.assertEqual(names_of(roles_of("guest,link")), ["link", "guest"])
        self.assertIn("not 'king'", str(self.assertRaises(LocalError, roles_of, "link,king")))
        self.assertIn("role link", str(self.assertRaises(LocalError, roles_of, "author")))
        both = self.assertRaises(LocalError, roles_of, "link,guest,listen-only")
        self.assertIn("listen-only and guest", str(both))


class TestFilesOfANode(AuthorityCase):
    def test_a_file_that_cannot_be_used_says_what_to_do(self) -> None:
        grant = self.grant(self.me)
        key = self.public().read_text()
        for lines, words in (
            ((), ("is empty", "the authority made")),
            (("# nothing",), ("is empty",)),
            ((key, key), ("has 2 lines",)),
            (("ab" * 31,), ("line 1, is none",)),
            (("ab" * 33,), ("line 1, is none",)),
            (("correct horse",), ("line 1, is none",)),
        ):
            self.refused_by(Trust.authority(self.file(*lines, mode=0o644), grant), *words)
        for lines, words in (
            ((), ("is empty",)),
            ((grant.read_text(),) * 2, ("has 2 lines",)),
            (("ab" * 64,), ("line 1, is none",)),
            (("ab" * 513,), ("line 1, is none",)),
            (("ab" * 100,), ("is damaged", "mesh authority grant")),
        ):
            self.refused_by(Trust.authority(self.public(), self.file(*lines, mode=0o644)), *words)
        missing = Path(self.mktemp())
        self.refused_by(Trust.authority(missing, grant), "No such file")
        self.refused_by(Trust.authority(self.public(), missing), "No such file")
        for mode in (0o620, 0o602):
            grant.chmod(mode)
            said = self.refused_by(Trust.authority(self.public(), grant), "changed by others")
            self.assertIn(f"chmod go-w {grant.absolute()}", said)

    def test_the_private_key_is_not_taken_for_the_public_one_and_not_shown(self) -> None:
        said = self.refused_by(Trust.authority(self.key, self.grant(self.me)), "private key", "offline")
        for line in self.key.read_text().splitlines():
            self.assertNotIn(line, said)

    def test_a_grant_of_another_mesh_or_another_authority_is_refused(self) -> None:
        mine = self.public()
        for other in (self.new_authority(), self.new_authority("another")):
            trust = Trust.authority(mine, self.grant(self.me, files=other))
            self.refused_by(trust, "another mesh", "another authority, or another subnet")
        there = Trust.authority(mine, self.grant(self.me, files=self.files))
        said = self.assertRaises(TrustError, there.load, Protocol("there"), clock, 100.0)
        self.assertIn("another mesh", str(said))

    def test_a_grant_that_was_changed_is_refused(self) -> None:
        grant = self.grant(self.me)
        note, line = grant.read_text().splitlines()
        grant.write_text(f"{note}\n{line[:-1]}{'0' if line[-1] != '0' else '1'}\n")
        self.refused_by(Trust.authority(self.public(), grant), "is not signed by the authority")

    def test_a_node_uses_no_grant_of_another_node_or_another_role(self) -> None:
        other = Identity.generate()
        for node, roles, is_guest, words in (
            (other, MEMBER, False, f"is of the node {other.id.decode()}"),
            (self.me, Roles.AUTHOR, False, "the role link"),
            (self.me, Roles.LINK | Roles.GUEST, False, "with the role guest"),
            (self.me, Roles.LINK, False, "with the role guest"),
        ):
            policy = self.policy(node, roles)
            error = self.assertRaises(TrustError, policy.fit, self.me.id, is_guest)
            self.assertIn(words, str(error))
        for roles, is_guest in ((MEMBER, True), (MEMBER, False), (LISTENER, False), (Roles.LINK, True)):
            self.policy(self.me, roles).fit(self.me.id, is_guest)
        EVERYBODY.fit(self.me.id, False)

    def test_a_new_grant_is_read_again_and_a_wrong_one_changes_nothing(self) -> None:
        files, public = self.files, self.public()
        path = self.grant(self.me)
        policy = Trust.authority(public, path).load(MESH, clock, 100.0)
        assert isinstance(policy, FilePolicy)
        policy.fit(self.me.id, False)
        before = policy.grant
        path.write_text(self.grant(Identity.generate()).read_text())
        self.assertRaises(TrustError, policy.reload)
        self.assertEqual(policy.grant, before)
        path.write_text(self.grant(self.me, LISTENER, files).read_text())
        self.assertTrue(policy.reload())
        self.assertNotEqual(policy.grant, before)
        self.new_authority()
        public.write_text(self.public().read_text())
        said = str(self.assertRaises(TrustError, policy.reload))
        self.assertIn("start the node anew", said)


class TestGrants(AuthorityCase):
    def setUp(self) -> None:
        super().setUp()
        self.mine = self.policy()
        self.other = Identity.generate()

    def why(self, grant: bytes, node: Identity | None = None, is_guest: bool = False) -> str:
        """Why *node* may not link by *grant*; empty if it may."""
        return self.mine.why_not_granted((node or self.other).origin, grant, is_guest) or ""

    def test_a_grant_is_good_for_its_node_alone(self) -> None:
        grant = self.packed(self.other)
        self.assertEqual(self.why(grant), "")
        self.assertEqual(self.why(grant), "")
        self.assertIn(f"is of {self.other.id.decode()}", self.why(grant, Identity.generate()))
        self.assertIn("shows no grant", self.why(b""))
        self.assertIn("is no grant", self.why(bytes(100)))

    def test_nobody_can_make_up_a_node_with_a_grant(self) -> None:
        self.assertFalse(self.mine.vouches(self.other.origin))
        self.why(self.packed(self.other))
        self.assertTrue(self.mine.vouches(self.other.origin))
        self.assertFalse(self.mine.vouches(self.me.origin))

    def test_another_authority_or_another_network_makes_no_good_grant(self) -> None:
        for files in (self.elsewhere(), self.new_authority(), self.new_authority("another")):
            self.assertIn("another mesh", self.why(self.packed(self.other, files=files)))

    def test_nobody_else_can_sign_one(self) -> None:
        right = self.packed(self.other)
        forged = bytes([right[0] ^ 1]) + right[1:]
        self.assertIn("has not signed", self.why(forged))
        self.assertIn("mesh authority grant", self.why(forged))

    def test_the_role_says_whether_others_link_with_a_node(self) -> None:
        for roles, is_guest, words in (
            (Roles.AUTHOR, False, "does not let it link"),
            (Roles.LINK, False, "start it with the role guest"),
            (Roles.LINK | Roles.GUEST, False, "start it with the role guest"),
            (Roles.LINK | 64, False, "start it with the role guest"),
            (Roles.LINK | Roles.GUEST, True, ""),
            (Roles.LINK, True, ""),
            (LISTENER, False, ""),
        ):
            node = Identity.generate()
            said = self.why(self.packed(node, Roles(roles)), node, is_guest)
            self.assertTrue(said.find(words) >= 0 and bool(said) == bool(words), (roles, said))

    def test_an_author_shows_its_grant_in_its_record(self) -> None:
        theirs = Trust.authority(self.public(), self.grant(self.other)).load(MESH, clock, 100.0)
        credential, origin = theirs.credential(self.other.origin), self.other.origin
        self.assertTrue(self.mine.needs_credentials and self.mine.needs_grants)
        self.assertTrue(self.mine.may_speak(origin, credential))
        self.assertFalse(self.mine.may_speak(self.me.origin, credential))
        for junk in (b"", b"\xc1", msgspec.msgpack.encode([b"", b"", b""])):
            self.assertFalse(self.mine.may_speak(origin, junk))

    def test_a_record_with_a_false_grant_is_its_links_fault(self) -> None:
        right = self.packed(self.other)
        forged = msgspec.msgpack.encode([b"", b"", b"", bytes(64) + right[64:]])
        error = self.assertRaises(RemoteError, self.mine.may_speak, self.other.origin, forged)
        self.assertIs(error.reason, Reason.SIGNATURE)

    def test_roles_say_what_an_author_may_be_and_whether_its_messages_are_taken(self) -> None:
        for roles, member, guest, mute in (
            (MEMBER, True, True, False),
            (LISTENER, True, False, True),
            (Roles.LINK | Roles.GUEST, False, True, False),
            (Roles.LINK, False, False, True),
        ):
            node = Identity.generate()
            credential = msgspec.msgpack.encode([b"", b"", b"", self.packed(node, roles)])
            self.assertTrue(self.mine.may_speak(node.origin, credential))
            found = [self.mine.may_be(node.origin, is_guest) for is_guest in (False, True)]
            self.assertEqual((*found, self.mine.only_listens(node.origin)), (member, guest, mute))
        self.assertFalse(self.mine.may_be(Identity.generate().origin, False))
        self.assertFalse(EVERYBODY.only_listens(self.me.origin) or self.mine.only_listens(self.me.origin))

    def test_with_a_grant_that_lets_a_guest_speak_and_a_member_listen_a_node_is_only_a_guest(self) -> None:
        both = Roles.LINK | Roles.GUEST | Roles.LISTEN
        credential = msgspec.msgpack.encode([b"", b"", b"", self.packed(self.other, both)])
        self.assertTrue(self.mine.may_speak(self.other.origin, credential))
        found = [self.mine.may_be(self.other.origin, is_guest) for is_guest in (False, True)]
        self.assertEqual((found, self.mine.only_listens(self.other.origin)), ([False, True], False))
        path = self.grant(self.other, both)
        policy = Trust.authority(self.public(), path).load(MESH, clock, 100.0)
        policy.fit(self.other.id, True)
        error = self.assertRaises(TrustError, policy.fit, self.other.id, False)
        self.assertIn("start it with the role guest", str(error))

    def test_grants_that_are_made_at_once_all_have_numbers_of_their_own(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        path = folder / "authority"
        AuthorityFiles.create(path, "mesh")
        processes = [AuthorityFiles.load(path) for _ in range(3)]
        made = [
            files.grant(self.me.id.decode(), roles_of("link,author"), folder / f"{number}.grant").serial
            for number, files in enumerate(processes)
        ]
        self.assertEqual(made, [1, 2, 3])
        self.assertEqual([one.serial for one in AuthorityFiles.load(path).state.grants], made)
        policies = [files.remove(self.me.origin, []) for files in processes]
        self.assertEqual(len(set(policies)), 3)
        self.assertEqual(AuthorityFiles.load(path).policy.number, 3)

    def test_a_grant_that_cannot_be_made_uses_no_number(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        files = AuthorityFiles.create(folder / "authority", "mesh")
        (folder / "taken").touch()
        id, roles = self.me.id.decode(), roles_of("link,author")
        for wrong in ("taken", "none/grant"):
            self.assertRaises(TrustError, files.grant, id, roles, folder / wrong)
        with self.assertRaises(TrustError):
            self.patch(files, "_keep", self.cannot_write)
            files.grant(id, roles, folder / "grant")
        self.assertFalse((folder / "grant").exists())
        self.assertEqual(AuthorityFiles.load(folder / "authority").state.grants, [])

    def cannot_write(self) -> None:
        raise TrustError("no space")

    def test_a_node_that_may_only_listen_knows_it(self) -> None:
        self.assertIn("listen only", self.policy(self.me, LISTENER).why_silent or "")
        self.assertEqual((self.mine.why_silent, EVERYBODY.why_silent), (None, None))

    def test_of_the_grants_of_a_node_the_newest_counts(self) -> None:
        old, new = self.packed(self.other), self.packed(self.other, LISTENER)
        for grant in (new, old):
            self.assertEqual(self.why(grant), "")
            self.assertTrue(self.mine.only_listens(self.other.origin))

    def test_the_grants_that_are_kept_are_bounded(self) -> None:
        self.patch(authority, "GRANTS_KEPT", 2)
        kept, nodes = Grants(), [Identity.generate() for _ in range(3)]
        packed = [self.packed(node, LISTENER) for node in nodes]
        for at in (0, 1, 0, 2):
            kept.take(self.files.authority, nodes[at].origin, packed[at])
        found = [kept.roles(node.origin) is not None for node in nodes]
        self.assertEqual((found, len(kept)), ([True, False, True], 2))
        self.assertEqual(kept.listeners, {nodes[0].origin, nodes[2].origin})
        kept.take(self.files.authority, nodes[0].origin, self.packed(nodes[0]))
        self.assertEqual(kept.listeners, {nodes[2].origin})
        self.assertEqual(self.mine.footprint(), {"grants": 0, "removed_nodes": 0, "quotas": 0})


class TestPolicies(AuthorityCase):
    """Nodes that the authority removes, and grants that it ends."""

    def setUp(self) -> None:
        super().setUp()
        self.other = Identity.generate()
        self.shown = self.packed(self.other)
        self.mine = self.kept_policy(Path(self.mktemp()))

    def kept_policy(self, key: Path) -> FilePolicy:
        """The policy of a node whose key is in the file *key*."""
        policy = Trust.authority(self.public(), self.grant(self.me)).load(MESH, clock, 100.0)
        assert isinstance(policy, FilePolicy)
        policy.fit(self.me.id, False, key)
        return policy

    def why(self) -> str:
        """Why the other node may not link; empty if it may."""
        return self.mine.why_not_granted(self.other.origin, self.shown, False) or ""

    def speaks(self) -> bool:
        """Whether the other node's record is taken."""
        credential = msgspec.msgpack.encode([b"", b"", b"", self.shown])
        return self.mine.may_speak(self.other.origin, credential)

    def test_a_removed_node_belongs_to_the_mesh_no_more(self) -> None:
        self.assertEqual((self.why(), self.speaks()), ("", True))
        packed = self.files.remove(self.other.origin, [Cut(4, 7, bytes(32)), Cut(2, 1, b"")])
        self.assertTrue(self.mine.take(packed))
        self.assertFalse(self.mine.take(packed))
        self.assertEqual(self.mine.removed, {self.other.origin: {4: (7, bytes(32)), 2: (1, b"")}})
        self.assertIn(f"policy 1 of the authority has removed {self.other.id.decode()}", self.why())
        self.assertFalse(self.speaks())
        self.assertIn("policy 1", self.mine.policy_told)
        self.assertEqual(self.mine.footprint()["removed_nodes"], 1)
        self.assertIsNone(self.mine.why_silent)

    def test_a_node_that_is_removed_itself_may_send_nothing(self) -> None:
        self.mine.take(self.files.remove(self.me.origin, []))
        self.assertIn("has removed this node", self.mine.why_silent or "")

    def test_the_newest_policy_counts_and_has_all_removals(self) -> None:
        first = self.files.remove(self.other.origin, [])
        third = Identity.generate().origin
        again = AuthorityFiles.load(self.key)
        second = again.remove(third, [Cut(1, 1, b"")])
        self.assertTrue(self.mine.take(second))
        self.assertFalse(self.mine.take(first))
        self.assertEqual(set(self.mine.removed), {self.other.origin, third})
        self.assertEqual(set(self.kept_policy(Path(self.mktemp())).removed), set())
        self.mine.take(again.remove(third, [Cut(1, 2, b"")]))
        self.assertEqual(self.mine.removed[third], {1: (2, b"")})

    def test_a_policy_of_another_authority_or_network_or_a_changed_one_is_not_taken(self) -> None:
        packed = self.files.remove(self.other.origin, [])
        junk = [packed[:-1] + b"\0", bytes(64) + packed[64:], packed[:64], b"", bytes(200)]
        others = [self.elsewhere(), self.new_authority(), self.new_authority("another")]
        for wrong in (*junk, *(files.remove(self.other.origin, []) for files in others)):
            self.assertRaises(RemoteError, self.mine.take, wrong)
        self.assertEqual((self.mine.newest, self.why()), (b"", ""))
        self.assertFalse(EVERYBODY.take(packed))
        self.assertEqual((EVERYBODY.newest, EVERYBODY.removed), (b"", {}))

    def test_if_the_key_was_used_in_two_places_all_nodes_choose_the_same_policy_and_say_so(self) -> None:
        state = self.key.with_name(f"{self.key.name}.state")
        before = state.read_bytes()
        both = [self.files.remove(self.other.origin, [])]
        state.write_bytes(before)
        both.append(AuthorityFiles.load(self.key).remove(Identity.generate().origin, []))
        found = []
        for order in (both, both[::-1]):
            policy = self.kept_policy(Path(self.mktemp()))
            taken = [policy.take(packed) for packed in order]
            found.append(policy.newest)
            self.assertEqual("used in two places" in policy.policy_told, taken == [True, True])
        self.assertEqual(found, [max(both, key=lambda packed: packed[64:])] * 2)

    def test_an_authority_goes_on_from_what_a_node_knows(self) -> None:
        state = self.key.with_name(f"{self.key.name}.state")
        before = state.read_bytes()
        newest = self.files.remove(self.other.origin, [])
        state.write_bytes(before)
        restored = AuthorityFiles.load(self.key)
        restored.know(newest)
        restored.know(b"")
        self.mine.take(newest)
        self.assertTrue(self.mine.take(restored.remove(Identity.generate().origin, [])))
        self.assertEqual(len(self.mine.removed), 2)
        another = self.new_authority()
        for _ in range(4):
            other = another.remove(self.other.origin, [])
        self.assertIn("another authority", str(self.assertRaises(TrustError, restored.know, other)))

    def test_grants_of_lower_generations_can_be_ended(self) -> None:
        self.assertTrue(self.speaks())
        unseen = Identity.generate()
        older = self.packed(unseen)
        self.mine.take(self.files.end_below(2))
        self.assertIn("is of generation 1, which is over", self.why())
        self.assertFalse(self.speaks())
        said = self.mine.why_not_granted(unseen.origin, older, False) or ""
        self.assertIn("is over", said)
        path = Path(self.mktemp())
        self.assertEqual(self.files.grant(self.other.id.decode(), MEMBER, path, 2).generation, 2)
        self.shown = bytes.fromhex(path.read_text().splitlines()[1])
        self.assertEqual((self.why(), self.speaks()), ("", True))
        self.assertEqual(self.files.grant(self.other.id.decode(), MEMBER, self.mktemp()).generation, 2)
        self.assertEqual(self.files.policy.generation, 2)
        self.files.remove(self.me.origin, [])
        self.assertEqual(self.files.policy.generation, 2)

    def test_quotas_stay_until_they_are_ended_or_their_node_is_removed(self) -> None:
        self.assertEqual((self.mine.quotas, EVERYBODY.quotas), ({}, {}))
        other = self.other.origin
        self.mine.take(self.files.set_quota(other, 10, 0))
        self.mine.take(AuthorityFiles.load(self.key).set_quota(b"", 50, 65_536))
        self.assertEqual(self.mine.quotas, {other: (10, 0), b"": (50, 65_536)})
        self.assertIn("has removed 0 nodes and names 2 quotas", self.mine.policy_told)
        self.assertEqual(self.mine.footprint()["quotas"], 2)
        self.mine.take(self.files.set_quota(other, 0, 7))
        self.mine.take(self.files.end_below(2))
        self.mine.take(self.files.remove(self.me.origin, []))
        self.assertEqual(self.mine.quotas, {b"": (50, 65_536), other: (0, 7)})
        self.mine.take(self.files.remove(other, []))
        self.assertEqual((self.mine.quotas, self.files.policy.generation), ({b"": (50, 65_536)}, 2))
        self.mine.take(self.files.end_quota(b""))
        self.assertEqual((self.mine.quotas, len(self.mine.removed)), ({}, 2))
        self.assertNotIn("quota", self.mine.policy_told)

    def test_a_quota_that_there_cannot_be_says_why(self) -> None:
        for batches, size in ((-1, 5), (5, MAX_NUMBER + 1)):
            error = self.assertRaises(LocalError, self.files.set_quota, b"", batches, size)
            self.assertIn("a number from 0 to", str(error))
        self.assertIn("no quota to end", str(self.assertRaises(TrustError, self.files.end_quota, b"")))
        self.files.remove(self.other.origin, [])
        error = self.assertRaises(TrustError, self.files.set_quota, self.other.origin, 1, 1)
        self.assertIn("is removed", str(error))
        self.patch(grants, "MAX_QUOTAS", 1)
        self.files.set_quota(self.me.origin, 1, 1)
        self.files.set_quota(self.me.origin, 2, 2)
        error = self.assertRaises(TrustError, self.files.set_quota, b"", 1, 1)
        self.assertIn("at most 1 quotas: end another", str(error))
        self.patch(grants, "MAX_POLICY", 100)
        error = self.assertRaises(TrustError, self.files.end_below, 2)
        self.assertIn("1 removed node and 1 quota are more than a policy can name", str(error))
        self.assertEqual(self.files.policy.number, 3)

    def test_a_grant_that_is_over_does_not_hide_a_good_one_with_a_lower_number(self) -> None:
        files, id = self.files, self.other.id.decode()
        shown = []
        for roles, generation in ((LISTENER, 2), (MEMBER, 1)):
            path = Path(self.mktemp())
            files.grant(id, roles, path, generation)
            shown.append(bytes.fromhex(path.read_text().splitlines()[1]))
        good, self.shown = shown
        self.assertEqual((self.why(), self.mine.only_listens(self.other.origin)), ("", False))
        self.mine.take(files.end_below(2))
        self.shown = good
        self.assertEqual((self.why(), self.mine.only_listens(self.other.origin)), ("", True))

    def test_no_grant_is_made_that_is_good_for_nothing(self) -> None:
        id = self.other.id.decode()
        self.files.end_below(3)
        self.assertEqual(self.files.grant(id, MEMBER, self.mktemp()).generation, 3)
        for wrong in (-1, 1, 2, 2**63, 2**70):
            path = Path(self.mktemp())
            error = self.assertRaises(LocalError, self.files.grant, id, MEMBER, path, wrong)
            self.assertIn(f"from 3 to {2**62}, not {wrong}", str(error))
            self.assertFalse(path.exists())
        for wrong in (-1, 0, 2**63, 2**70):
            error = self.assertRaises(LocalError, self.files.end_below, wrong)
            self.assertIn(f"from 1 to {2**62}, not {wrong}", str(error))
        self.assertEqual((len(self.files.state.grants), self.files.policy.number), (3, 1))

    def test_more_removals_than_a_policy_has_room_for_are_refused(self) -> None:
        self.patch(grants, "MAX_POLICY", 200)
        self.files.remove(self.other.origin, [])
        before = self.files.state.policy
        error = self.assertRaises(TrustError, self.files.remove, self.me.origin, [Cut(1, 1, bytes(32))])
        self.assertIn("2 removed nodes", str(error))
        self.assertEqual(self.files.state.policy, before)

    def test_the_newest_policy_is_kept_beside_the_key_so_a_restart_believes_no_older_one(self) -> None:
        key = Path(self.mktemp())
        first, policy = self.files.remove(self.other.origin, []), self.kept_policy(key)
        second = self.files.remove(Identity.generate().origin, [])
        policy.take(second)
        policy.keep()
        kept = key.with_name(f"{key.name}.policy")
        self.assertEqual(kept.stat().st_mode & 0o777, 0o600)
        again = self.kept_policy(key)
        self.assertEqual(again.newest, second)
        self.assertFalse(again.take(first))
        self.mine._kept = None  # as of a key that is in no file
        self.mine.keep()

    def test_a_kept_policy_that_cannot_be_used_says_what_to_do(self) -> None:
        key = Path(self.mktemp())
        kept = key.with_name(f"{key.name}.policy")
        other = self.new_authority().remove(self.other.origin, [])
        self.setUp()
        for content, words in (
            ("", ("is empty", "believes older policies")),
            ("zz", ("is none", "restore it")),
            (other.hex(), ("has not signed", "move it away")),
        ):
            kept.write_text(content)
            error = self.assertRaises(TrustError, self.kept_policy, key)
            for word in (str(kept), *words):
                self.assertIn(word, str(error))
        kept.unlink()
        policy = self.kept_policy(key)
        policy.take(self.files.remove(self.other.origin, []))
        kept.mkdir()
        error = self.assertRaises(TrustError, policy.keep)
        self.assertIn("may believe an older one", str(error))


class TestTrust(AuthorityCase):
    def test_the_authority_is_a_part_of_the_networks_id_and_modes_combine(self) -> None:
        mode = f"authority={self.files.authority.key.hex()}"
        self.assertEqual(self.policy().mode, mode)
        secret = Trust.secret(self.file(SECRET.hex()))
        lists = Trust.only(self.file(self.me.id.decode(), id_of(bytes(32)).decode(), mode=0o644))
        trust = self.trust() & secret & lists
        both = trust.load(MESH, clock, 100.0)
        self.assertEqual(both.mode, f"{mode}&only&secret")
        theirs = (self.trust() & secret & lists).load(MESH, clock, 100.0)
        credential = theirs.credential(self.me.origin)
        self.assertTrue(both.may_speak(self.me.origin, credential))
        fields = msgspec.msgpack.decode(credential)
        for at in (1, 3):
            lacking = msgspec.msgpack.encode([*fields[:at], b"", *fields[at + 1 :]])
            self.assertFalse(both.may_speak(self.me.origin, lacking))
        other = Identity.generate()
        self.assertEqual(both.why_not_granted(other.origin, self.packed(other), False), None)
        self.assertIsNotNone(both.may_link(other.origin, both.secrets[0].id))

    def test_it_names_its_files(self) -> None:
        grant = self.grant(self.me)
        trust = Trust.authority(self.public(), os.fspath(grant))
        paths = [str(path.absolute()) for path in (self.public(), grant)]
        self.assertEqual(repr(trust), f"Trust.authority({paths[0]!r}, {paths[1]!r})")
        self.assertEqual(str(trust), "nodes with a grant of the authority")
        said = str(self.assertRaises(LocalError, lambda: trust & trust))
        self.assertIn("two files for authority", said)

    def test_an_authority_is_named_by_its_key_and_its_network(self) -> None:
        here, again = (Authority(bytes(32), MESH).network for _ in range(2))
        there, other = Authority(bytes(32), Protocol("there")), Authority(bytes([1]) * 32, MESH)
        self.assertEqual(len({here, again, there.network, other.network}), 3)
