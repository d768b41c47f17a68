"""A node's key, and the run numbers it may never use twice."""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import randbelow

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.errors import IdentityError
from twisted_mesh.identity import (
    MAX_EPOCH,
    MOST_CLAIMED,
    Identity,
    id_of,
    replace_synced,
    require_same_verdicts,
    verify,
)

NOW = 1_800_000_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ID = b"5RAcuCD3a68BgBZZAgrUu1eHeyjevbdFKQDpfyfedutGSvEikmWjw869e4gaP1ReN9"
PEM = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
"""


def least(below: int) -> int:
    """No chance at all."""
    return 0


@contextmanager
def full_disk() -> Iterator[None]:
    """Every write fails while this lasts, for root as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class IdentityCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.file = self.directory / "node.pem"
        self.epoch_file = self.directory / "node.pem.epoch"

    def write(self, content: bytes, mode: int = 0o600) -> None:
        self.file.write_bytes(content)
        self.file.chmod(mode)

    def assert_refused(self, text: str) -> None:
        error = self.assertRaises(IdentityError, Identity.load, self.file)
        self.assertIn(str(self.file), str(error))
        self.assertIn(text, str(error))


class TestKeys(IdentityCase):
    def test_the_id_is_the_key(self) -> None:
        self.assertEqual(Identity(KEY).id, ID)
        self.assertEqual(id_of(Identity(KEY).origin), ID)

    def test_an_id_has_64_to_66_characters(self) -> None:
        lengths = {len(id_of(n.to_bytes(32, "big"))) for n in range(3000)}
        self.assertEqual(lengths, {64, 65, 66})

    def test_generated_keys_differ_and_have_no_file(self) -> None:
        one, other = Identity.generate(), Identity.generate()
        self.assertNotEqual(one.origin, other.origin)
        self.assertIsNone(one.path)

    def test_a_signature_is_verified_with_the_origin(self) -> None:
        identity = Identity(KEY)
        signature = identity.sign(b"text")
        self.assertTrue(verify(identity.origin, signature, b"text"))
        self.assertFalse(verify(identity.origin, signature, b"Text"))
        self.assertFalse(verify(Identity.generate().origin, signature, b"text"))

    def test_signatures_are_those_of_rfc_8032(self) -> None:
        origin = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        signature = (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555f"
            "b8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        )
        self.assertTrue(verify(bytes.fromhex(origin), bytes.fromhex(signature), b""))

    def test_a_signature_or_key_of_another_length_is_false(self) -> None:
        identity = Identity(KEY)
        signature = identity.sign(b"text")
        for wrong in (b"", signature[:-1], signature + b"\0", bytes(64)):
            self.assertFalse(verify(identity.origin, wrong, b"text"))
        for wrong in (b"", identity.origin[:-1], identity.origin + b"\0"):
            self.assertFalse(verify(wrong, signature, b"text"))


class TestKeysOfSmallOrder(SynchronousTestCase):
    """A point of small order is a key that anybody can sign with."""

    def test_no_signature_of_theirs_is_true(self) -> None:
        identity = (1).to_bytes(32, "little")
        forged = identity + bytes(32)  # R is the key, S is 0: it fits every text
        Ed25519PublicKey.from_public_bytes(identity).verify(forged, b"any text")  # raises nothing
        for sign in (0, 1):
            key = (1 | sign << 255).to_bytes(32, "little")
            self.assertFalse(verify(key, forged, b"any text"))


class TestLibrary(SynchronousTestCase):
    """If two nodes disagreed about a signature, the one that passed it on would be blamed."""

    def test_a_library_with_other_verdicts_is_refused(self) -> None:
        require_same_verdicts(verify)
        error = self.assertRaises(ImportError, require_same_verdicts, lambda *_: True)
        self.assertIn("PyNaCl", str(error))


class TestKeyFiles(IdentityCase):
    def test_a_created_key_is_loaded_again(self) -> None:
        created = Identity.create(self.file)
        loaded = Identity.load(str(self.file))
        self.assertEqual((loaded.id, loaded.origin), (created.id, created.origin))
        self.assertTrue(verify(created.origin, loaded.sign(b"text"), b"text"))

    def test_the_file_is_pkcs8_pem(self) -> None:
        self.write(PEM)
        self.assertEqual(Identity.load(self.file).id, ID)
        self.file.unlink()
        Identity.create(self.file)
        self.assertEqual(self.file.read_bytes()[:27], PEM[:27])
        load_pem_private_key(self.file.read_bytes(), password=None)

    def test_the_file_has_mode_0600_whatever_the_umask(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        Identity.create(self.file).next_epoch(NOW, least)
        for file in (self.file, self.epoch_file):
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)

    def test_creation_is_exclusive(self) -> None:
        self.write(b"precious")
        error = self.assertRaises(IdentityError, Identity.create, self.file)
        self.assertIn("File exists", str(error))
        self.assertEqual(self.file.read_bytes(), b"precious")

    def test_creation_does_not_follow_a_link(self) -> None:
        self.file.symlink_to(self.directory / "elsewhere")
        self.assertRaises(IdentityError, Identity.create, self.file)
        self.assertFalse((self.directory / "elsewhere").exists())

    def test_a_key_that_cannot_be_written_leaves_no_file(self) -> None:
        with full_disk():
            self.assertRaises(IdentityError, Identity.create, self.file)
        self.assertEqual(list(self.directory.iterdir()), [])
        Identity.create(self.file)

    def test_a_missing_directory_is_told(self) -> None:
        self.file = self.directory / "missing" / "node.pem"
        error = self.assertRaises(IdentityError, Identity.create, self.file)
        self.assertIn("No such file or directory", str(error))

    def test_a_file_others_can_read_is_refused_with_the_chmod(self) -> None:
        for mode in (0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o660):
            self.write(PEM, mode)
            self.assert_refused(f"can be read by others: chmod 600 {self.file}")

    def test_a_file_its_owner_may_only_read_is_taken(self) -> None:
        self.write(PEM, 0o400)
        self.assertEqual(Identity.load(self.file).id, ID)

    def test_a_missing_file_is_told(self) -> None:
        self.assert_refused("No such file or directory")

    def test_a_pipe_is_no_key_and_is_not_waited_for(self) -> None:
        os.mkfifo(self.file, 0o600)
        self.assert_refused("Not a regular file")

    def test_of_two_keys_none_is_chosen(self) -> None:
        self.write(PEM + pem(Ed25519PrivateKey.generate()))
        self.assert_refused("holds 2 private keys: keep the one that this node is to have")

    def test_no_traceback_shows_a_key(self) -> None:
        for content, mode in ((PEM, 0o644), (PEM + PEM, 0o600), (PEM[:-20], 0o600)):
            self.write(content, mode)
            self.assert_not_shown(Identity.load, PEM.splitlines()[1])
        self.assert_not_shown(Identity.create, b"PRIVATE KEY")

    def assert_not_shown(self, call: Callable[[Path], object], part: bytes) -> None:
        """Assert that *call* fails, and that no variable of a frame of it has *part*."""
        try:
            call(self.file)
        except IdentityError:
            failure = Failure(captureVars=True)
        frames = [frame for frame in failure.frames if frame[1] != __file__]
        self.assertTrue(frames)
        self.assertNotIn(part.decode(), repr([frame[3] for frame in frames]))
        self.assertIsNone(failure.value.__context__)

    def test_a_directory_is_no_key(self) -> None:
        self.file.mkdir()
        self.assert_refused("Is a directory")

    def test_a_damaged_file_is_refused(self) -> None:
        for content in (b"", b"\xff" * 40, PEM[:40], PEM.replace(b"BCIE", b"BCI"), PEM[28:]):
            self.write(content)
            self.assert_refused("holds no private key in PEM: restore it, or name another file")

    def test_of_a_file_that_is_no_key_nobody_is_told_to_change_the_mode(self) -> None:
        self.write(b"root:x:0:0::/root:/bin/sh\n", 0o644)
        self.assert_refused("holds no private key in PEM: ")

    def test_a_key_of_no_known_kind_is_refused(self) -> None:
        self.write(PEM.replace(b"K2Vw", b"K2V5"))
        self.assert_refused("holds no private key in PEM")

    def test_an_encrypted_key_is_refused(self) -> None:
        self.write(pem(KEY, BestAvailableEncryption(b"secret")))
        self.assert_refused("holds no private key in PEM")

    def test_another_kind_of_key_is_refused(self) -> None:
        for key in (X25519PrivateKey.generate(), generate_private_key(SECP256R1())):
            self.write(pem(key))
            self.assert_refused("holds another kind of key than Ed25519")

    def test_load_or_create_makes_a_key_once(self) -> None:
        first = Identity.load_or_create(self.file)
        self.assertEqual(Identity.load_or_create(self.file).id, first.id)

    def test_load_or_create_does_not_replace_what_it_cannot_load(self) -> None:
        self.write(b"precious")
        self.assertRaises(IdentityError, Identity.load_or_create, self.file)
        self.assertEqual(self.file.read_bytes(), b"precious")
        self.file.unlink()
        self.file.symlink_to(self.directory / "unplugged")
        self.assertRaises(IdentityError, Identity.load_or_create, self.file)
        self.assertTrue(self.file.is_symlink())

    def test_the_path_stays_where_it_is_when_a_daemon_changes_its_directory(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)
        identity = Identity.create("node.pem")
        os.chdir("/")
        identity.next_epoch(NOW, least)
        self.assertTrue(identity.path is not None and identity.path.is_absolute())
        self.assertEqual(int(identity.path.with_name("node.pem.epoch").read_text()), NOW)


def pem(
    key: Ed25519PrivateKey | X25519PrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


class TestEpochs(IdentityCase):
    def setUp(self) -> None:
        super().setUp()
        self.identity = Identity.create(self.file)

    def test_an_epoch_is_the_wall_clock(self) -> None:
        self.assertEqual(self.identity.next_epoch(NOW, least), NOW)

    def test_two_runs_from_one_backup_have_different_epochs_whatever_the_clock_says(self) -> None:
        """With each clock they differ by chance, are above the backup's, and are what others believe."""
        self.identity.next_epoch(NOW, least)
        backup = self.epoch_file.read_bytes()
        for clock, lowest, highest in (
            (0, NOW + 1, NOW + 2**20),
            (NOW, NOW + 1, NOW + 2**20),
            (NOW + 5, NOW + 5, NOW + 4 + 2**10),
        ):
            epochs = []
            for _ in range(2):
                self.epoch_file.write_bytes(backup)
                epochs.append(Identity.load(self.file).next_epoch(clock, randbelow))
                self.assertEqual(int(self.epoch_file.read_bytes()), epochs[-1])
            for epoch, draw in ((lowest, least), (highest, lambda below: below - 1)):
                self.epoch_file.write_bytes(backup)
                self.assertEqual(Identity.load(self.file).next_epoch(clock, draw), epoch)
            self.assertNotEqual(*epochs)

    def test_chance_takes_no_epoch_beyond_what_others_believe(self) -> None:
        for kept in (MOST_CLAIMED - 1, MOST_CLAIMED, MAX_EPOCH - 1):
            self.epoch_file.write_bytes(b"%d\n" % kept)
            self.assertEqual(Identity.load(self.file).next_epoch(0, lambda below: below - 1), kept + 1)

    def test_no_epoch_is_used_twice_in_one_process(self) -> None:
        for identity in (self.identity, Identity.generate()):
            clock = (NOW, NOW, NOW - 5, 0, -7, NOW + 2, NOW + 9)
            epochs = [identity.next_epoch(now, least) for now in clock]
            self.assertEqual(epochs, [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 4, NOW + 5, NOW + 9])

    def test_no_epoch_is_used_twice_after_a_restart_with_the_clock_gone_back(self) -> None:
        first = self.identity.next_epoch(NOW, least)
        second = Identity.load(self.file).next_epoch(NOW - 86_400_000, least)
        self.assertEqual((first, second), (NOW, NOW + 1))
        self.assertEqual(self.identity.next_epoch(0, least), NOW + 2)

    def test_no_epoch_is_used_twice_when_its_file_is_lost_in_the_meantime(self) -> None:
        self.identity.next_epoch(NOW, least)
        self.epoch_file.unlink()
        self.assertEqual(self.identity.next_epoch(0, least), NOW + 1)

    def test_the_epoch_lies_beside_the_key(self) -> None:
        self.identity.next_epoch(NOW, least)
        self.assertEqual(self.epoch_file.read_bytes(), b"1800000000000\n")
        self.assertEqual({file.name for file in self.directory.iterdir()}, {"node.pem", "node.pem.epoch"})

    def test_the_epoch_is_on_disk_before_it_is_used(self) -> None:
        """The bytes are synced before the file gets its name, and the name before the call returns."""
        steps: list[str] = []
        sync, replace = os.fsync, os.replace

        def watched_sync(descriptor: int) -> None:
            sync(descriptor)
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                steps.append(f"directory synced: {os.path.samestat(status, self.directory.stat())}")
            else:
                (beside,) = set(self.directory.iterdir()) - {self.file, self.epoch_file}
                steps.append(f"{beside.read_bytes()!r} synced")

        def watched_replace(old: str, new: Path) -> None:
            replace(old, new)
            steps.append(f"it becomes {new.name}")

        self.patch(os, "fsync", watched_sync)
        self.patch(os, "replace", watched_replace)
        self.identity.next_epoch(NOW, least)
        self.assertEqual(
            steps,
            [
                "b'1800000000000\\n' synced",
                "it becomes node.pem.epoch",
                "directory synced: True",
            ],
        )

    def test_a_link_at_the_name_of_a_temporary_file_is_not_followed(self) -> None:
        """Nobody who can write the folder can guess that name, nor have another file written by a link."""
        victim = self.directory / "precious"
        victim.write_bytes(b"precious")
        names: list[Path] = []
        replace = os.replace

        def watched(old: str, new: Path) -> None:
            names.append(Path(old))
            self.assertEqual(stat.S_IMODE(os.stat(old).st_mode), 0o600)
            replace(old, new)

        self.patch(os, "replace", watched)
        (self.directory / "node.pem.epoch.new").symlink_to(victim)
        for now in (NOW, NOW + 1):
            self.identity.next_epoch(now, least)
        for name in names:
            name.symlink_to(victim)
        self.identity.next_epoch(NOW + 2, least)
        self.assertEqual(victim.read_bytes(), b"precious")
        self.assertEqual({name.parent for name in names}, {self.directory.absolute()})
        self.assertEqual(len(set(names)), 5)  # three epochs, and twice the runs before

    def test_a_link_in_place_of_the_epoch_is_replaced_and_not_followed(self) -> None:
        victim = self.directory / "victim"
        victim.write_bytes(b"5\n")
        self.epoch_file.symlink_to(victim)
        self.identity.next_epoch(NOW, least)
        self.assertEqual(victim.read_bytes(), b"5\n")
        self.assertFalse(self.epoch_file.is_symlink())

    def test_what_cannot_be_replaced_leaves_no_temporary_file(self) -> None:
        taken = self.directory / "folder"
        taken.mkdir()
        before = set(self.directory.iterdir())
        self.assertRaises(IsADirectoryError, replace_synced, taken, b"content")
        self.assertEqual(set(self.directory.iterdir()), before)

    def test_a_key_is_on_disk_before_it_is_used(self) -> None:
        synced: list[bool] = []
        sync = os.fsync

        def watched_sync(descriptor: int) -> None:
            sync(descriptor)
            synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))

        self.patch(os, "fsync", watched_sync)
        Identity.create(self.directory / "other.pem")
        self.assertEqual(synced, [False, True])

    def test_a_damaged_epoch_file_is_refused(self) -> None:
        for content in (b"", b"yesterday", b"\xff", b"1.5", b"9" * 5000):
            self.epoch_file.write_bytes(content)
            error = self.assertRaises(IdentityError, self.identity.next_epoch, NOW, least)
            self.assertIn(str(self.epoch_file), str(error))
            self.assertIn("is damaged: delete it if the clock is right", str(error))

    def test_an_unreadable_epoch_file_is_refused(self) -> None:
        self.epoch_file.mkdir()
        error = self.assertRaises(IdentityError, self.identity.next_epoch, NOW, least)
        self.assertIn("Is a directory", str(error))

    def test_earlier_runs_are_known_until_nobody_can_hold_messages_of_them(self) -> None:
        hour = 3_600_000
        self.assertEqual(Identity.generate().earlier_runs(9.0, NOW), ())
        epochs = []
        for started in range(3):
            identity = Identity.load(self.file)
            epochs.append(identity.next_epoch(NOW + started * hour, least))
        known = identity.earlier_runs(9000.0, NOW + 2 * hour + 1000)
        self.assertEqual(known, ((0, 1799.0), (epochs[0], 5399.0), (epochs[1], 8999.0)))
        self.assertEqual(identity.earlier_runs(7200.0, NOW + 2 * hour)[0][0], epochs[0])
        self.assertEqual(identity.earlier_runs(9000.0, NOW + 9 * hour), ())

    def test_what_is_not_known_of_earlier_runs_counts_as_ended_just_now(self) -> None:
        runs_file = self.directory / "node.pem.runs"
        for content in (None, b"junk\n", b"5 6 7\n"):
            self.identity.next_epoch(NOW, least)
            runs_file.unlink(missing_ok=True)
            if content is not None:
                runs_file.write_bytes(content)
            identity = Identity.load(self.file)
            later = identity.next_epoch(NOW + 9000, least)
            self.assertEqual(identity.earlier_runs(60.0, NOW + 9000)[0], (0, 60.0))
            # The clock was wrong when a run ended: no run ends before it begins
            identity = Identity.load(self.file)
            identity.next_epoch(0, least)
            self.assertEqual(identity.earlier_runs(60.0, NOW)[-1], (later, 60.0))
            self.identity = Identity.load(self.file)

    def test_of_too_many_earlier_runs_the_oldest_count_as_one(self) -> None:
        self.patch(os, "fsync", lambda descriptor: None)  # 300 of them take seconds
        for started in range(300):
            self.identity.next_epoch(NOW + started * 1000, least)
        runs = self.identity.earlier_runs(1000.0, NOW + 300_000)
        self.assertEqual((len(runs), runs[0][0]), (256, NOW))
        self.assertEqual(runs[0][1], 1000.0 - (300 - 44))

    def test_an_epoch_that_cannot_be_written_is_not_used(self) -> None:
        self.identity.next_epoch(NOW, least)
        with full_disk():
            error = self.assertRaises(IdentityError, self.identity.next_epoch, NOW + 5)
        self.assertIn(str(self.file), str(error))
        self.assertEqual(self.epoch_file.read_bytes(), b"1800000000000\n")
        self.assertEqual(self.identity.next_epoch(NOW + 5, least), NOW + 5)

    def test_an_epoch_beyond_2_to_the_62nd_is_refused(self) -> None:
        self.assertEqual(Identity.generate().next_epoch(MAX_EPOCH, least), MAX_EPOCH)
        error = self.assertRaises(IdentityError, self.identity.next_epoch, MAX_EPOCH + 1, least)
        self.assertIn("clock", str(error))
        self.assertFalse(self.epoch_file.exists())
        self.epoch_file.write_bytes(b"%d\n" % MAX_EPOCH)
        self.assertRaises(IdentityError, self.identity.next_epoch, NOW, least)
