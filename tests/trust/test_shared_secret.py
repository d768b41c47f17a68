"""The file of secrets, and the keys that are made of it."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import msgspec
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.values.test_identity import full_disk
from twisted_mesh.errors import LocalError, TrustError
from twisted_mesh.network import EVERYBODY, Policy, Protocol
from twisted_mesh.trust.files import MAX_BYTES
from twisted_mesh.trust.grants import AuthorityFiles
from twisted_mesh.trust.policy import FilePolicy, Trust
from twisted_mesh.trust.shared_secret import Secret, create, read_secrets

SECRET, OTHER = bytes(range(32)), bytes(range(32, 64))
ANNA = b"a" * 32
MESH = Protocol("mesh", "SSL")
NETWORK = MESH.key_with("secret")


def clock() -> float:
    """The wall clock, as long as no test needs another time."""
    return 0.0


def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-256 as RFC 5869 has it, for up to 32 bytes."""
    key = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(key, info + b"\x01", "sha256")[:length]


class SecretCase(SynchronousTestCase):
    def file(self, *lines: str, mode: int = 0o600) -> Path:
        """A file with *lines*."""
        path = Path(self.mktemp())
        path.write_text("".join(f"{line}\n" for line in lines))
        path.chmod(mode)
        return path

    def refused(self, path: Path, *words: str) -> str:
        """Assert that *path* cannot be used; the error, which names the file and has *words*."""
        said = str(self.assertRaises(TrustError, read_secrets, path, NETWORK))
        for word in (str(path), *words):
            self.assertIn(word, said)
        return said


class TestKeys(SecretCase):
    def test_each_key_is_expanded_for_one_purpose_and_one_network(self) -> None:
        secret = Secret(SECRET, NETWORK)
        domain = b"twisted_mesh/1/secret/"
        self.assertEqual(secret.id, hkdf(SECRET, domain + b"id", 8))
        macs = {secret.knock: b"knock", secret.proof: b"link", secret.author: b"author"}
        for mac, purpose in macs.items():
            key = hkdf(SECRET, domain + purpose + b"/" + NETWORK, 32)
            self.assertEqual(mac(b"text"), hmac.digest(key, b"text", hashlib.sha256))
        other = Secret(SECRET, Protocol("other").key_with("secret"))
        self.assertEqual(other.id, secret.id)
        self.assertNotEqual(other.knock(b"text"), secret.knock(b"text"))

    def test_nothing_shows_a_secret_or_a_key(self) -> None:
        secret = Secret(SECRET, NETWORK)
        for value in (secret, secret.knock, secret.knock.__self__, secret.author):  # type: ignore[attr-defined]
            self.assertNotIn("\\x", repr(value))
            self.assertNotIn(SECRET.hex()[:8], repr(value))


class TestFiles(SecretCase):
    def test_a_secret_that_was_made_can_be_read_by_its_user_alone(self) -> None:
        path = Path(self.mktemp())
        made = create(path)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        (secret,) = read_secrets(path, NETWORK).used
        self.assertEqual(secret.id, made)
        self.assertIn(f"id {made.hex()}", path.read_text())
        other = Path(self.mktemp())
        self.assertNotEqual(create(other), made)

    def test_no_file_is_overwritten(self) -> None:
        path = self.file("something")
        said = str(self.assertRaises(TrustError, create, path))
        self.assertIn(str(path), said)
        self.assertEqual(path.read_text(), "something\n")

    def test_a_secret_that_cannot_be_written_leaves_no_file_and_is_not_shown(self) -> None:
        path = Path(self.mktemp())
        self.patch(secrets, "token_bytes", bytes)
        with full_disk():
            try:
                create(path)
            except TrustError:
                failure = Failure(captureVars=True)
        self.assertIn("File too large", str(failure.value))
        self.assertFalse(path.exists())
        frames = [frame[3] for frame in failure.frames if frame[1] != __file__]
        self.assertTrue(frames)
        for part in (repr(bytes(8))[2:-1], bytes(8).hex()):
            self.assertNotIn(part, repr(frames))

    def test_up_to_three_secrets_are_taken_in_their_order(self) -> None:
        lines = [bytes([number] * 32).hex() for number in range(4)]
        found = read_secrets(
            self.file("# the mesh's", lines[2], "", f"  {lines[0]} # old", lines[1]), NETWORK
        )
        expected = [Secret(bytes([number] * 32), NETWORK).id for number in (2, 0, 1)]
        self.assertEqual([secret.id for secret in found.used], expected)
        self.refused(self.file(*lines), "4 lines", "keep the 3 newest")

    def test_a_file_that_cannot_be_used_says_what_to_do(self) -> None:
        remedy = "name a file that this node can read"
        self.refused(Path(self.mktemp()), "No such file", remedy)
        self.refused(Path(os.devnull).parent, "Is a directory", remedy)
        pipe = Path(self.mktemp())
        os.mkfifo(pipe, 0o600)  # it would be waited for, as it would be each time that it is read again
        self.refused(pipe, "Not a regular file", remedy)
        self.refused(self.file(), "is empty", "mesh secret new")
        self.refused(self.file("# only a comment"), "is empty", "mesh secret new")
        self.refused(self.file(SECRET.hex(), SECRET.hex().upper()), "twice", "take one")
        for mode in (0o640, 0o604, 0o660, 0o601):
            path = self.file(SECRET.hex(), mode=mode)
            self.refused(path, "read by others", f"chmod 600 {path}")
        binary = self.file()
        binary.write_bytes(b"\xff\xfe\x00")
        self.refused(binary, "is no text")
        binary.write_bytes(bytes(MAX_BYTES + 1))
        self.refused(binary, "name the right file")

    def test_the_public_key_of_an_authority_is_no_secret(self) -> None:
        path = Path(self.mktemp())
        AuthorityFiles.create(path, "mesh")
        public = path.with_name(f"{path.name}.pub")
        public.chmod(0o600)
        self.refused(public, "has the key of the authority of a mesh", "name the right file")

    def test_a_secret_that_is_short_or_a_passphrase_is_refused_and_not_shown(self) -> None:
        for line in ("ab" * 31, "ab" * 33, "ab"):
            said = self.refused(self.file(line), "line 1", "and not 32", "mesh secret new")
            self.assertNotIn("abab", said)
        for line in ("correct horse battery staple", SECRET.hex()[:-1], "z" * 64):
            said = self.refused(self.file("# one", line), "line 2", "64 hexadecimal digits")
            self.assertNotIn(line[:6], said)


class TestCredentials(SecretCase):
    def policies(self, *secrets: bytes) -> Policy:
        """The policy of a node with *secrets*."""
        return Trust.secret(self.file(*(secret.hex() for secret in secrets))).load(MESH, clock, 100.0)

    def test_a_credential_is_good_for_its_key_alone(self) -> None:
        mine, theirs = self.policies(SECRET), self.policies(SECRET)
        anna, bert = b"a" * 32, b"b" * 32
        self.assertTrue(mine.needs_credentials)
        credential = mine.credential(anna)
        self.assertTrue(theirs.may_speak(anna, credential))
        self.assertFalse(theirs.may_speak(bert, credential))

    def test_all_secrets_of_a_file_are_taken_and_the_first_one_signs(self) -> None:
        old, new, origin = SECRET, bytes(32), b"a" * 32
        both = self.policies(new, old)
        self.assertTrue(both.may_speak(origin, self.policies(old).credential(origin)))
        self.assertTrue(self.policies(new).may_speak(origin, both.credential(origin)))
        self.assertFalse(self.policies(old).may_speak(origin, both.credential(origin)))

    def test_anything_else_is_no_credential(self) -> None:
        policy, origin = self.policies(SECRET), b"a" * 32
        right = msgspec.msgpack.decode(policy.credential(origin))
        later = msgspec.msgpack.encode([*right, b"of a later version"])
        self.assertTrue(policy.may_speak(origin, later))
        deep = b"\x91" * 1024
        for fields in (right[:1], [right[0], b""], [b"", right[1]], [right[0], right[1][:-1]], 5):
            self.assertFalse(policy.may_speak(origin, msgspec.msgpack.encode(fields)))
        for junk in (b"", b"\xc1", deep, bytes(1024)):
            self.assertFalse(policy.may_speak(origin, junk))

    def test_a_credential_of_another_network_counts_for_nothing(self) -> None:
        path, origin = self.file(SECRET.hex()), b"a" * 32
        there = Trust.secret(path).load(Protocol("there"), clock, 100.0).credential(origin)
        self.assertFalse(Trust.secret(path).load(MESH, clock, 100.0).may_speak(origin, there))


class TestReloading(SecretCase):
    def setUp(self) -> None:
        self.now = 1_000_000.0
        self.path = self.file(SECRET.hex())
        policy = Trust.secret(self.path).load(MESH, lambda: self.now, 100.0)
        assert isinstance(policy, FilePolicy)
        self.policy = policy
        self.credential = self.policy.credential(ANNA)

    def write(self, *lines: str) -> None:
        """Write the file again, now."""
        self.path.write_text("".join(f"{line}\n" for line in lines))
        os.utime(self.path, (self.now, self.now))

    def test_what_a_file_says_is_replaced_and_an_equal_file_changes_nothing(self) -> None:
        old = self.policy.secrets[0].id
        self.assertFalse(self.policy.reload())
        self.write(OTHER.hex(), SECRET.hex())
        self.assertTrue(self.policy.reload())
        self.assertIsNone(self.policy.may_link(ANNA, old))
        self.assertNotEqual(self.policy.credential(ANNA), self.credential)
        self.write(OTHER.hex())
        self.assertTrue(self.policy.reload())
        self.assertIn("not in use any more", self.policy.may_link(ANNA, old) or "")

    def test_a_file_that_cannot_be_used_changes_nothing(self) -> None:
        for lines in (("short",), (), (SECRET.hex(), SECRET.hex())):
            self.write(*lines)
            self.assertRaises(TrustError, self.policy.reload)
            self.assertEqual(self.policy.credential(ANNA), self.credential)
        self.path.unlink()
        self.assertRaises(TrustError, self.policy.reload)
        self.assertTrue(self.policy.may_speak(ANNA, self.credential))

    def test_a_retired_secret_admits_no_link_but_its_authors_as_long_as_messages_are_held(self) -> None:
        old = self.policy.secrets[0].id
        self.write(OTHER.hex(), f"retired {SECRET.hex()} # the old one")
        self.policy.reload()
        self.assertEqual(len(self.policy.secrets), 1)
        self.assertIsNotNone(self.policy.may_link(ANNA, old))
        self.assertTrue(self.policy.may_speak(ANNA, self.credential))
        self.now += 100.0
        self.assertFalse(self.policy.look())
        self.assertTrue(self.policy.may_speak(ANNA, self.credential))
        self.now += 0.1
        self.assertTrue(self.policy.look())
        self.assertFalse(self.policy.look() or self.policy.reload())
        self.assertFalse(self.policy.may_speak(ANNA, self.credential))
        self.assertTrue(self.policy.may_speak(ANNA, self.policy.credential(ANNA)))

    def test_one_secret_is_always_in_use(self) -> None:
        self.refused(self.file(f"retired {SECRET.hex()}"), "retired secrets only")
        self.refused(self.file("retired  ", SECRET.hex()), "64 hexadecimal digits")

    def test_a_retired_secret_ends_though_its_file_cannot_be_read_any_more(self) -> None:
        self.write(OTHER.hex(), f"retired {SECRET.hex()}")
        self.policy.reload()
        self.path.unlink()
        self.now += 100.1
        self.assertRaises(TrustError, self.policy.reload)
        self.assertTrue(self.policy.look())
        self.assertRaises(TrustError, self.policy.look)
        self.assertFalse(self.policy.look())
        self.assertFalse(self.policy.may_speak(ANNA, self.credential))

    def test_a_change_is_read_once_it_is_over(self) -> None:
        self.assertFalse(self.policy.look())
        self.now += 5
        self.write(OTHER.hex())
        self.assertEqual([self.policy.look() for _ in range(3)], [False, True, False])
        self.assertEqual(self.policy.secrets[0].id, Secret(OTHER, NETWORK).id)
        self.path.unlink()
        self.assertFalse(self.policy.look())
        self.assertRaises(TrustError, self.policy.look)
        self.assertFalse(self.policy.look())


class TestTrust(SecretCase):
    def test_it_names_the_mode_and_its_files(self) -> None:
        path = self.file(SECRET.hex())
        modes = [trust.load(MESH, clock, 100.0).mode for trust in (Trust.open(), Trust.secret(path))]
        self.assertEqual(modes, ["", "secret"])
        self.assertIs(Trust.open().load(Protocol("mesh", "Plaintext"), clock, 100.0), EVERYBODY)
        self.assertEqual(repr(Trust.open()), "Trust.open()")
        self.assertEqual(repr(Trust.secret(path)), f"Trust.secret({str(path.absolute())!r})")

    def test_open_adds_nothing_to_another_mode(self) -> None:
        trust = Trust.open() & Trust.secret(self.file(SECRET.hex()))
        self.assertEqual(trust.load(MESH, clock, 100.0).mode, "secret")

    def test_trust_goes_with_encryption(self) -> None:
        trust = Trust.secret(self.file(SECRET.hex()))
        plain = Protocol("mesh", "Plaintext")
        error = self.assertRaises(LocalError, trust.load, plain, clock, 100.0)
        self.assertIn("encryption='SSL'", str(error))

    def test_one_mode_has_one_file(self) -> None:
        trust = Trust.secret(self.file(SECRET.hex()))
        said = str(self.assertRaises(LocalError, lambda: trust & trust))
        self.assertIn("two files for secret", said)
        self.assertRaises(TypeError, lambda: trust & "secret")  # type: ignore[operator]
        self.assertRaises(LocalError, Trust.secret, SECRET)

    def test_the_policy_links_by_a_secret_that_is_in_use(self) -> None:
        policy = Trust.secret(self.file(SECRET.hex())).load(MESH, clock, 100.0)
        (secret,) = policy.secrets
        self.assertIsNone(policy.may_link(bytes(32), secret.id))
        self.assertIn("not in use", policy.may_link(bytes(32), b"another") or "")
        self.assertIsNone(EVERYBODY.may_link(bytes(32), b""))
