"""The history file: faults that it survives, and files that are refused."""

from __future__ import annotations

import fcntl
import os
import resource
import socket
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any
from unittest import SkipTest

from tests.storage.test_sqlite import StoreCase, logged
from tests.support.length import at_length
from tests.support.stores import (
    ALL,
    ANNA,
    BERT,
    ME,
    NETWORK,
    Contents,
    Model,
    Script,
    batch_of,
    batches_in,
    contents,
    flush_of,
    make_version_1,
    make_version_2,
    make_version_3,
    marks_of,
    open_store,
)
from twisted_mesh.core.history.storage import AuthorMarks, BatchOrMissing, Flush, Missing
from twisted_mesh.core.history.stream import StreamId
from twisted_mesh.errors import StoreError
from twisted_mesh.identity import id_of
from twisted_mesh.storage import sqlite_file
from twisted_mesh.storage.reader import Reader
from twisted_mesh.storage.sqlite import SqliteStore
from twisted_mesh.storage.sqlite_file import VERSION
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import SignedBatch

RUNS: list[StreamId] = [ANNA, BERT, ME]
NOBODY = 65534


class FileCase(StoreCase):
    """The common parts of the tests of the file."""

    def assert_refused(self, text: str, by_nobody: bool = False, **options: object) -> None:
        """Assert that opening fails with *text*, names the file, and changes no file."""
        before = self.files()
        with nobody() if by_nobody else nullcontext():
            error = self.assertRaises(StoreError, self.open, **options)
        self.assertIn(f"history {self.path}", str(error))
        self.assertIn(text, str(error))
        self.assertNotIn("\n", str(error))
        self.assertEqual(self.files(), before)

    def files(self) -> dict[str, bytes | None]:
        """The names and contents of the files in the folder."""
        return {path.name: path.read_bytes() if path.is_file() else None for path in self.folder.iterdir()}

    def fill(self, number: int = 60) -> list[Flush]:
        """Make a history and close it."""
        store, script = self.open(), Script(Random(11), RUNS)
        flushes = [script.flush() for _ in range(number)]
        for flush in flushes:
            store.flush(flush)
        self.close()
        return flushes

    def change(self, *statements: str) -> None:
        """Have another program change the file."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            for statement in statements:
                other.execute(statement)

    @contextmanager
    def traced(self, trace: Callable[[sqlite3.Connection, str], object]) -> Iterator[None]:
        """Call *trace* before each statement of the connections that are opened meanwhile."""
        connect = sqlite3.connect

        def connect_traced(*args: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **options)
            connection.set_trace_callback(lambda statement: trace(connection, statement))
            return connection

        patch = self.patch(sqlite3, "connect", connect_traced)
        yield
        patch.restore()

    def check(self, store: SqliteStore) -> None:
        """Assert that SQLite finds no damage."""
        self.assertEqual(store._writer.execute("PRAGMA integrity_check").fetchall(), [("ok",)])


class TestOpening(FileCase):
    def test_the_files_are_the_owners_alone(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        self.open().flush(flush_of(batch_of(ANNA, 1)))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.folder.iterdir()}
        names = ("history", "history-lock", "history-shm", "history-wal")
        self.assertEqual(modes, dict.fromkeys(names, 0o600))

    def test_what_a_power_failure_may_do_rests_on_how_it_is_written(self) -> None:
        store = self.open()
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 1), ("auto_vacuum", 2)):
            self.assertEqual(store._writer.execute(f"PRAGMA {pragma}").fetchone(), (value,))

    def test_the_log_is_small_again_after_a_large_flush(self) -> None:
        self.patch(sqlite_file, "_WAL_BYTES", 100_000)
        store = self.holding(*(batch_of(ANNA, first, size=1_000_000) for first in range(1, 12)))
        store.flush(flush_of(batch_of(BERT, 1)))
        self.assertLess(Path(f"{self.path}-wal").stat().st_size, 200_000)

    def test_nothing_but_the_history_is_left_when_it_is_closed(self) -> None:
        self.open().flush(flush_of(batch_of(ANNA, 1)))
        self.close()
        self.assertEqual(list(self.files()), ["history"])

    def test_an_empty_file_is_a_new_history(self) -> None:
        self.path.touch()
        self.open().flush(flush_of(batch_of(ANNA, 1)))
        self.assertEqual(self.held(self.open()), [1])

    def test_the_path_stays_where_it_is_when_a_daemon_changes_its_directory(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        store = open_store("history")
        self.addCleanup(store.close)
        os.chdir("/")
        store.flush(flush_of(batch_of(ANNA, 1)))
        self.assertEqual(store.name, str(self.path))
        self.assertEqual(self.held(store), [1])

    def test_a_missing_folder_and_a_file_in_its_place_are_told(self) -> None:
        (self.folder / "file").touch()
        for folder in ("missing", "file"):
            self.path = self.folder / folder / "history"
            self.assert_refused("there is no such folder: make it first")

    def test_what_is_no_file_is_refused(self) -> None:
        self.path.mkdir()
        self.assert_refused("is not a regular file: name another")
        self.path.rmdir()
        os.mkfifo(self.path)
        self.assert_refused("is not a regular file: name another")
        self.path.unlink()
        with closing(socket.socket(socket.AF_UNIX)) as listening:
            listening.bind(str(self.path))
            self.assert_refused("is not a regular file: name another")

    def test_a_folder_that_may_not_be_written_is_told(self) -> None:
        self.fill()
        self.path.chmod(0o644)
        self.folder.chmod(0o555)
        self.addCleanup(self.folder.chmod, 0o755)
        for name in ("history", "new"):
            self.path = self.folder / name
            self.assert_refused("cannot be written (Permission denied): let this user", by_nobody=True)

    def test_a_file_that_may_not_be_written_is_told(self) -> None:
        self.fill()
        self.folder.chmod(0o777)
        for mode in (0o444, 0o600) if not os.geteuid() else (0o444,):
            self.path.chmod(mode)
            self.assert_refused("cannot be written (permission denied): let this user", by_nobody=True)

    def test_a_file_that_others_can_write_is_refused(self) -> None:

        self.fill()
        for mode in (0o620, 0o602, 0o666):
            self.path.chmod(mode)
            self.assert_refused(f"can be written by others: chmod 600 {self.path}")
        self.path.chmod(0o644)
        self.open()

    def test_a_file_of_another_user_is_refused_to_root_unless_its_folder_is_that_users(self) -> None:
        if os.geteuid():
            raise SkipTest("only root can have and read such a file")
        self.fill()
        os.chown(self.path, NOBODY, -1)
        self.assert_refused(f"as {self.path} is of another user: let this user own it")
        os.chown(self.folder, NOBODY, -1)  # as if it were the user that twistd becomes
        self.open()

    def test_a_log_that_others_can_write_is_refused(self) -> None:
        self.fill()
        for name in ("history-wal", "history-shm"):
            beside = self.folder / name
            beside.touch()
            beside.chmod(0o666)
            self.assert_refused(f"can be written by others: chmod 600 {beside}")
            beside.unlink()
            beside.symlink_to(self.folder / "elsewhere")
            self.assert_refused(f"is refused, as {beside} is no regular file: remove that")
            beside.unlink()
        self.open()

    def test_a_link_that_leads_nowhere_is_refused_and_nothing_made(self) -> None:
        """Who can make a link, as in a folder for all, would choose which file is made."""
        self.path.symlink_to(self.folder / "nowhere")
        self.assert_refused(
            "is a link to a file that is not there: name that file itself, or remove the link"
        )
        chain = self.folder / "chain"
        chain.symlink_to(self.path)
        self.path = chain
        self.assert_refused("is a link to a file that is not there")

    def test_a_lock_is_not_made_through_a_link(self) -> None:
        (self.folder / "history-lock").symlink_to(self.folder / "elsewhere")
        self.assert_refused(f"cannot be locked, as {self.path}-lock is a link: remove that")

    def test_a_history_of_another_network_is_refused(self) -> None:
        self.fill()
        cure = "name another file, or the subnet, encryption and trust it was made with"
        self.assert_refused(f"is of another network: {cure}", network=b"other")
        self.open(network=NETWORK)

    def test_a_history_of_another_node_is_refused_with_the_cure(self) -> None:
        self.fill()
        self.assert_refused(
            f"is of the node {id_of(ME[0]).decode()}: name another file, or the identity it was made with",
            origin=ANNA[0],
        )
        self.open(origin=ME[0])

    def test_a_newer_version_is_refused_by_its_number(self) -> None:
        self.fill()
        self.change(f"PRAGMA user_version = {VERSION + 1}")
        self.assert_refused(
            f"is of version {VERSION + 1}, which this twisted_mesh does not know: use a newer"
        )

    def test_what_is_no_history_is_refused_and_left_alone(self) -> None:
        for content in (b"precious", b"precious" * 1000, Random(1).randbytes(9999)):
            self.path.write_bytes(content)
            self.assert_refused("is not a history of twisted_mesh: name another file")

    def test_another_programs_database_is_refused_and_left_alone(self) -> None:
        for statement in (
            "CREATE TABLE stream (x)",
            "PRAGMA application_id = 5",
            "PRAGMA user_version = 1",
        ):
            self.path.unlink(missing_ok=True)
            self.change(statement)
            self.assert_refused("is not a history of twisted_mesh: name another file")

    def test_another_program_that_locks_the_file_is_told(self) -> None:
        self.fill()
        self.patch(sqlite_file, "_PATIENCE", 0.0)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            error = self.assertRaises(StoreError, self.open)
            self.assertIn("is locked by another program: let that end first", str(error))
        self.open()

    def test_a_flush_while_another_program_locks_the_file_fails_and_the_next_succeeds(self) -> None:
        self.patch(sqlite_file, "_PATIENCE", 0.0)
        store = self.open()
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            error = self.assertRaises(StoreError, store.flush, flush_of(batch_of(ANNA, 1)))
            self.assertIn("is locked by another program", str(error))
        store.flush(flush_of(batch_of(ANNA, 1)))
        self.assertEqual(self.held(store), [1])


class TestVersion1(FileCase):
    """A file of version 1, which names no node."""

    number = 1

    def setUp(self) -> None:
        super().setUp()
        self.batches = [batch_of(ANNA, first) for first in range(1, 4)]
        self.make()

    def make(self) -> None:
        """Make the file, and say what it must hold when it was opened."""
        make_version_1(self.path, *self.batches)
        # Its batches were signed in another way: only the heads are of use.
        self.content = Contents({ANNA: marks_of(ANNA, 3, low=4)}, {ANNA: []}, [(BERT, 5)], True, [])
        self.kept: list[int] = []

    def test_it_becomes_this_nodes_and_keeps_what_is_of_use(self) -> None:
        for _ in range(2):
            store = self.open()
            self.assertEqual(contents(store), self.content)
            self.check(store)
        author = AuthorMarks(BERT[0], 3, 4)
        store.flush(flush_of(batch_of(ANNA, 4), settled=True, authors=[author]))
        self.close()
        self.assert_refused("name another file, or the identity it was made with", origin=ANNA[0])
        store = self.open()
        self.assertEqual((self.held(store), store.restored.authors), ([*self.kept, 4], (author,)))

    def test_of_another_network_it_is_left_alone(self) -> None:
        self.assert_refused("is of another network", network=b"other")
        self.assertEqual(self.version(), self.number)

    def test_with_other_tables_it_is_left_alone(self) -> None:
        self.change("CREATE TABLE old (x)")
        self.assert_refused("is damaged (other tables)")

    def test_a_crash_on_the_way_leaves_it_or_its_successor(self) -> None:
        images: list[dict[str, bytes | None]] = []
        connect = sqlite3.connect

        def traced(*args: object, **options: object) -> sqlite3.Connection:
            connection = connect(*args, **options)  # type: ignore[call-overload]
            connection.set_trace_callback(lambda _: images.append(self.files()))
            return connection

        self.patch(sqlite3, "connect", traced)
        held = contents(self.open())
        self.patch(sqlite3, "connect", connect)
        images.append(self.files())
        self.close()
        versions = set()
        for image in images:
            for name in self.files():
                (self.folder / name).unlink()
            for name, content in image.items():
                if not name.endswith(("-shm", "-lock")):
                    (self.folder / name).write_bytes(content or b"")
            self.path.chmod(0o600)
            versions.add(self.version())
            store = self.open()
            self.check(store)
            self.assertEqual(contents(store), held)
            self.close()
        self.assertEqual(versions, {self.number, VERSION})

    def test_a_disk_that_is_full_leaves_it_as_it_was(self) -> None:
        with room(0):
            error = self.assertRaises(StoreError, self.open)
        self.assertIn("is its disk full, or failing?", str(error))
        self.assertEqual(self.version(), self.number)
        with closing(sqlite3.connect(self.path)) as other:
            self.assertEqual(other.execute("SELECT first FROM batch").fetchall(), [(1,), (2,), (3,)])

    def version(self) -> int:
        """The version of the file."""
        with closing(sqlite3.connect(self.path)) as other:
            (version,) = other.execute("PRAGMA user_version").fetchone()
        return int(version)


class TestVersion2(TestVersion1):
    """A file of version 2, which does not say which runs of an author are over."""

    number = 2

    def make(self) -> None:
        make_version_2(self.path, *self.batches)
        self.content = Contents({ANNA: marks_of(ANNA, 3)}, {ANNA: self.batches}, [(BERT, 5)], True, [])
        self.kept = [1, 2, 3]


class TestVersion3(TestVersion2):
    """A file of version 3, which knows no named consumers: one mark says what all have taken."""

    number = 3

    def make(self) -> None:
        make_version_3(self.path, *self.batches)
        self.content = Contents({ANNA: marks_of(ANNA, 3)}, {ANNA: self.batches}, [(BERT, 5)], True, [])
        self.kept = [1, 2, 3]


class TestTwoStores(FileCase):
    def test_a_file_in_use_is_refused_whatever_it_is_called(self) -> None:
        store = self.open()
        link = self.folder / "link"
        link.symlink_to(self.path)
        for path in (self.path, link, f"{self.folder}/../{self.folder.name}/history"):
            error = self.assertRaises(StoreError, open_store, path)
            self.assertIn(f"{self.path} is in use by another node: give each a file of its own", str(error))
        # The attempt has no effect on the store that has the file.
        store.flush(flush_of(batch_of(ANNA, 1)))
        self.assertEqual(self.held(store), [1])
        self.close()
        open_store(link).close()

    def test_a_lock_on_a_file_that_was_removed_meanwhile_does_not_count(self) -> None:
        lock = self.folder / "history-lock"
        flock, removed = fcntl.flock, []

        def late(descriptor: int, how: int) -> None:
            if not removed:
                removed.append(True)
                lock.unlink()  # as another node does that stops just now
            flock(descriptor, how)

        self.patch(fcntl, "flock", late)
        self.open()
        self.assertTrue(removed)
        self.assertRaises(StoreError, open_store, self.path)

    def test_a_lock_file_left_behind_is_no_hindrance(self) -> None:
        (self.folder / "history-lock").touch()
        self.open()

    def test_an_opening_that_fails_at_its_end_leaves_the_file_free(self) -> None:
        def stop(connection: sqlite3.Connection, statement: str) -> None:
            if statement == "SELECT * FROM stream":
                connection.interrupt()

        self.fill()
        with self.traced(stop):
            self.assertRaises(StoreError, self.open)
        self.open()


class TestCrashes(FileCase):
    """A crash leaves files that hold all flushes up to some flush."""

    def images(
        self, random: Random, before: list[bytes], after: list[bytes]
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs of a file and its log, as a process that dies within a flush can leave them.

        SQLite first writes the log, in order, from its beginning or its end; when it is long enough,
        SQLite copies it into the file, again in order.
        """
        for _ in range(3):
            cut = random.randrange(len(after[1]) + 1)
            yield before[0], after[1][:cut] + before[1][cut:]
        for _ in range(3 if after[0] != before[0] else 0):
            cut = random.randrange(len(after[0]) + 1)
            yield after[0][:cut] + before[0][cut:], after[1]

    def test_a_crash_at_any_moment(self) -> None:
        self.patch(sqlite_file, "_WAL_PAGES", 25)
        for seed in range(at_length(40, 1)):
            self.crash_anywhere(Random(seed))

    def crash_anywhere(self, random: Random) -> None:
        self.path = self.folder / f"history{random.random()}"
        limits = {"bytes_limit": 60_000, "closed_limit": 3, "authors_limit": 2}
        store, script, model = self.open(**limits), Script(random, RUNS, size=6000), Model(**limits)
        names = (self.path, Path(f"{self.path}-wal"))
        copied = 0

        def files() -> list[bytes]:
            return [name.read_bytes() for name in names]

        for _ in range(at_length(40, 15)):
            flush = script.flush()
            earlier, before = model.contents(), files()
            between: list[list[bytes]] = []
            store._writer.set_trace_callback(lambda _, between=between: between.append(files()))
            store.flush(flush)
            store._writer.set_trace_callback(None)
            model.flush(flush, script.now)
            after = files()
            for image in random.sample(between, 1):
                self.reopened(image, [earlier, model.contents()])
            for image in self.images(random, before, after):
                self.reopened(image, [earlier, model.contents()])
            self.reopened(after, [model.contents()])
            copied += after[0] != before[0]
        self.assertGreater(copied, 3)

    def reopened(self, image: tuple[bytes, bytes] | list[bytes], allowed: list[Contents]) -> None:
        """Open *image* as after the crash, and assert that its contents are *allowed*."""
        path = self.folder / "image"
        path.write_bytes(image[0])
        Path(f"{path}-wal").write_bytes(image[1])
        with closing(open_store(path)) as store:
            self.check(store)
            self.assertIn(contents(store), allowed)
            store.flush(flush_of(batch_of((b"z" * 32, 1), 1)))

    def test_a_crash_while_the_file_is_made(self) -> None:
        """The file is empty, or an empty history."""
        images: list[dict[str, bytes | None]] = []
        with self.traced(lambda *_: images.append(self.files())):
            self.open()
        images.append(self.files())
        self.close()
        self.assertGreater(len(images), 15)
        for image in images:
            for name in self.files():
                (self.folder / name).unlink()
            for name, content in image.items():
                if not name.endswith(("-shm", "-lock")):
                    (self.folder / name).write_bytes(content or b"")
            store = self.open()
            self.check(store)
            self.assertEqual(contents(store), Model().contents())
            store.flush(flush_of(batch_of(ANNA, 1)))
            self.assertEqual(self.held(self.open()), [1])
            self.close()


class TestForks(FileCase):
    def test_in_a_fork_it_is_the_parents(self) -> None:
        store = self.holding(batch_of(ANNA, 1))
        store.close_in_fork()
        for use in (lambda: self.held(store), lambda: store.flush(flush_of(batch_of(ANNA, 2)))):
            self.assertIn("is closed", str(self.assertRaises(StoreError, use)))
        self.assertIsNone(store.first_since(ANNA, 1))
        self.close()
        self.assertTrue(Path(f"{self.path}-lock").exists())  # the process that holds it removes it
        self.assertEqual(self.held(self.open()), [1])


class TestDamage(FileCase):
    def test_a_file_that_was_cut_off_is_refused(self) -> None:
        self.fill()
        content = self.path.read_bytes()
        random = Random(2)
        for length in (4096, len(content) - 1, *(random.randrange(600, len(content)) for _ in range(20))):
            self.path.write_bytes(content[:length])
            self.assert_refused("is damaged (")

    def test_a_file_that_was_emptied_is_not_taken_for_a_new_one(self) -> None:
        store = self.holding(batch_of(ANNA, 1))
        log = Path(f"{self.path}-wal").read_bytes()
        self.close()
        self.path.write_bytes(b"")
        Path(f"{self.path}-wal").write_bytes(log)
        self.assert_refused("is damaged (empty, but its log is not): put a copy of it back, or delete it")
        # If the user deletes it as told, nothing is left of it.
        self.path.unlink()
        store = self.open()
        self.assertEqual(contents(store), Model().contents())
        self.check(store)

    def test_marks_that_cannot_be_are_refused(self) -> None:
        for change in (
            "UPDATE stream SET head = -1",
            "UPDATE stream SET low = head + 2",
            "UPDATE stream SET epoch = 'x'",
            "UPDATE stream SET bytes = NULL",
            "UPDATE stream SET origin = x'00'",
            "UPDATE closed SET head = 'x'",
            "UPDATE about SET settled = 7",
            "DELETE FROM about",
            "DROP INDEX batch_order",
            "CREATE TABLE other (x)",
        ):
            self.path.unlink(missing_ok=True)
            store = self.open()
            store.flush(flush_of(batch_of(ANNA, 1), closed=[(BERT, 1)]))
            self.close()
            with closing(sqlite3.connect(self.path)) as other:
                other.execute("PRAGMA ignore_check_constraints = ON")
                other.execute("PRAGMA writable_schema = ON")
                # SQLite would refuse some of these values, too.
                other.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '')")
                other.commit()
            with closing(sqlite3.connect(self.path)) as other:
                other.execute("PRAGMA ignore_check_constraints = ON")
                other.execute(change)
                other.commit()
                other.execute("PRAGMA writable_schema = ON")
                for name, sql in list(other.execute("SELECT name, sql FROM sqlite_master")):
                    right = next(
                        (one for one in sqlite_file.SCHEMA if f" {name} " in one.splitlines()[0]), sql
                    )
                    other.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (right, name))
                other.commit()
            self.assert_refused("is damaged (")

    def test_damage_that_sqlite_quotes_is_told(self) -> None:
        self.fill()
        content = self.path.read_bytes()
        schema = content.rindex(b"closedclosed")
        self.path.write_bytes(content[:schema] + b"\x9c" * 40 + content[schema + 40 :])
        self.assert_refused("is damaged (")

    def test_a_damaged_batch_is_never_handed_out(self) -> None:
        store = self.holding(*(batch_of(ANNA, first) for first in range(1, 10)), batch_of(BERT, 1))
        row = store._writer.execute("SELECT * FROM batch WHERE first = 4").fetchone()
        whole = row[-1]
        for change, value in (
            ("payload = ?", whole[:-1] + b"!"),
            ("payload = ?", b""),
            ("payload = ?", "text"),
            ("checksum = ?", "x"),
            ("checksum = CAST(? AS TEXT)", b"\xff"),  # no UTF-8
            ("last = ?", 5),
            ("stream = ?", 77),
        ):
            with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
                other.execute("PRAGMA ignore_check_constraints = ON")
                other.execute(f"UPDATE batch SET {change} WHERE first = 4", (value,))
                with logged() as texts:
                    store = self.open()
                    held = self.held(store)
                    self.assertEqual(held, [1, 2, 3, 5, 6, 7, 8, 9])
                    self.assertEqual(self.held(store), held)
                    self.assertEqual(
                        list(store.read(ANNA, 5, 6, 2**40)), [batch_of(ANNA, 5), batch_of(ANNA, 6)]
                    )
                    self.assertEqual(self.held(store, BERT), [1])
                if "stream" not in change:
                    self.assertEqual(len(texts), 1)
                    self.assertIn("cannot be read in part", texts[0])
                other.execute("DELETE FROM batch WHERE first = 4")
                other.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?)", row)
                self.assertEqual(self.held(store), list(range(1, 10)))

    def test_a_damaged_length_does_not_fill_the_memory(self) -> None:
        store = self.holding(batch_of(ANNA, 1))
        self.change("UPDATE batch SET payload = zeroblob(50000000)")
        with logged() as texts:
            self.assertEqual(self.held(store), [])
        self.assertIn("string or blob too big", texts[0])
        self.close()
        self.change("UPDATE about SET network = zeroblob(5000000)")
        self.assert_refused("is damaged (string or blob too big")

    def test_a_flush_that_meets_damage_fails_and_the_next_may_succeed(self) -> None:
        store = self.holding(batch_of(ANNA, 1), batch_of(ANNA, 2))
        self.change("UPDATE batch SET last = 'x' WHERE first = 2")
        void = flush_of(batch_of(BERT, 1), marks=[marks_of(ANNA, 2, low=3), marks_of(BERT, 1)])
        for _ in range(2):
            error = self.assertRaises(StoreError, store.flush, void)
            self.assertIn("is damaged (", str(error))
            self.assertEqual((self.held(store, BERT), self.held(store)), ([], [1]))
        store.flush(flush_of(batch_of(BERT, 1)))
        self.assertEqual((self.held(store, BERT), self.held(store)), ([1], [1]))

    def test_what_is_damaged_counts_as_what_is_read(self) -> None:
        store = self.holding(*(batch_of(ANNA, first, size=1000) for first in range(1, 10)))
        store._writer.execute("UPDATE batch SET checksum = 0 WHERE first IN (1, 3, 4)")
        with logged() as texts:
            reads = [store.read(ANNA, 1, ALL, most) for most in (1, 2500, 5800, 2**40)]
            held = [[signed.batch.first for signed in batches_in(read)] for read in reads]
        self.assertEqual(held, [[], [2], [2, 5], [2, 5, 6, 7, 8, 9]])
        self.assertEqual(len(texts), 1)

    def test_a_damaged_header_is_not_known(self) -> None:
        store = self.open()
        header = codec.pack_header(batch_of(ANNA, 3).header)
        marks = marks_of(ANNA, 3)._replace(header=header)
        store.flush(flush_of(*(batch_of(ANNA, first) for first in range(1, 4)), marks=[marks]))
        self.close()
        (kept,) = self.open().restored.marks
        self.assertEqual(kept.header, header)
        self.close()
        for damaged in (b"", header, bytes(4) + header, bytes(3)):
            self.change(f"UPDATE stream SET header = x'{damaged.hex()}'")
            (kept,) = self.open().restored.marks
            self.assertEqual(kept.header, b"")
            self.close()

    def test_one_damaged_page_costs_what_is_in_it_and_says_so(self) -> None:
        store = self.open()
        batches = [batch_of(ANNA, first, size=1000) for first in range(1, 301)]
        store.flush(flush_of(*batches))
        self.close()
        content = self.path.read_bytes()
        randomness = Random(9)
        lost = []
        pages = range(4096, len(content), at_length(1, 8) * 4096)
        for page in pages:
            junk = randomness.choice((bytes(4096), randomness.randbytes(4096)))
            self.path.write_bytes(content[:page] + junk + content[page + 4096 :])
            with logged() as texts:
                try:
                    store = self.open()
                except StoreError:
                    continue
                for most in (2**40, 5000):
                    pieces = self.pieces(store, most)
                    self.assertEqual(
                        [number for piece in pieces for number in range(piece[0], piece[1] + 1)],
                        list(range(1, 301)),
                    )
                    read = [signed for *_, signed in pieces if signed is not None]
                    self.assertEqual(read, [each for each in batches if each in read])
            lost.append(300 - len(read))
            self.assertEqual(len(texts), min(lost[-1], 1))
            self.close()
        # Only a few pages say where the others are.
        self.assertGreater(sum(number <= 4 for number in lost), 0.9 * len(pages))

    def test_a_damaged_page_of_keys_costs_the_batches_it_names_and_no_others(self) -> None:
        store = self.open()
        batches = [batch_of(ANNA, first, size=8) for first in range(1, 1501)]
        store.flush(flush_of(*batches))
        self.close()
        content = self.path.read_bytes()
        keys = full_key_pages(content)
        self.assertGreater(len(keys), 3)
        for page in keys:
            self.path.write_bytes(content[:page] + bytes(4096) + content[page + 4096 :])
            with logged():
                store = self.open()
                for first, last in ((1, 1500), (700, 1500), (1490, 1495), (1500, 1500)):
                    pieces = list(store.read(ANNA, first, last, 2**40))
                    damaged = [piece for piece in pieces if isinstance(piece, Missing)]
                    read = {number for piece in batches_in(pieces) for number in [piece.batch.first]}
                    lost = {number for each in damaged for number in range(each.first, each.last + 1)}
                    self.assertEqual(read | lost, set(range(first, last + 1)))
                    self.assertLess(len(lost), 500)
                    self.assertLessEqual(len(damaged), 1)
                self.assertEqual([*store.read(ANNA, 1500, 1500, 1)], [*store.read(ANNA, 1500, 1500, 2**40)])
                self.close()

    def test_keys_that_are_out_of_order_lead_nowhere_and_end(self) -> None:
        store = self.holding(*(batch_of(ANNA, first) for first in range(1, 10)))
        self.close()
        content = self.path.read_bytes()
        [page] = [
            at for at in range(4096, len(content), 4096) if content[at] == 10 and content[at + 4] == 9
        ]
        order = content[page + 8 : page + 26]
        for changed in (
            order[:4] + order[:2] + order[6:],
            order[4:6] + order[2:4] + order[16:] + order[:2] + order[6:16],
            order[::-1],
            order[2:4] * 9,
        ):
            self.path.write_bytes(content[: page + 8] + changed + content[page + 26 :])
            with logged():
                store = self.open()
                for most in (1, 2**40):
                    for signed in batches_in(store.read(ANNA, 1, 9, most)):
                        self.assertEqual(signed, batch_of(ANNA, signed.batch.first))
                self.close()
            for first in range(1, 10):
                for last in range(first, 10):
                    pieces, _ = self.read_all(first, last)
                    self.assertTrue(all(self.in_order(pieces, first, last)))

    def test_a_last_key_without_its_row_ends_the_reading(self) -> None:
        for number in (9, 519):
            self.path.unlink(missing_ok=True)
            self.make(number)
            self.lose_rows(number)
            for first in (1, number - 1, number):
                self.assert_lost(self.read_all(first, number)[0], first, number, number, number)

    def test_keys_without_their_rows_are_passed_in_few_steps(self) -> None:
        self.make(519)
        self.lose_rows(*range(100, 357))
        pieces, failures = self.read_all(1, 519)
        self.assert_lost(pieces, 1, 519, 100, 356)
        self.assertLess(failures, 30)
        # The end of the keys is no damage.
        self.lose_rows(*range(357, 520))
        self.assertEqual(self.read_all(350, 1000)[0], [Missing(350, 1000, True)])

    def test_a_damaged_page_of_keys_behind_the_last_ends_the_reading(self) -> None:
        self.make(1500)
        content = self.path.read_bytes()
        page = full_key_pages(content)[1]
        self.path.write_bytes(content[:page] + bytes(4096) + content[page + 4096 :])
        lost = []
        numbers = range(1, 1501, at_length(1, 20))
        for number in numbers:
            pieces, _ = self.read_all(number, number)
            if pieces != [batch_of(ANNA, number, size=8)]:
                self.assertEqual(pieces, [Missing(number, number, True)])
                lost.append(number)
        self.assertEqual(lost, [number for number in numbers if lost[0] <= number <= lost[-1]])
        self.assertLess(lost[-1] - lost[0], 500)

    def assert_lost(self, pieces: list[BatchOrMissing], first: int, last: int, low: int, high: int) -> None:
        """Assert that all of *first* to *last* is read but *low* to *high*.

        The batch before may be lost, too: the sqlite3 module reads ahead by a row.
        """
        [gap] = [piece for piece in pieces if isinstance(piece, Missing)]
        self.assertIn(gap, (Missing(low, high, True), Missing(max(first, low - 1), high, True)))
        numbers = [*range(first, gap.first), *range(high + 1, last + 1)]
        self.assertEqual(batches_in(pieces), [batch_of(ANNA, number, size=8) for number in numbers])

    def in_order(self, pieces: list[BatchOrMissing], first: int, last: int) -> Iterator[bool]:
        """Of each piece whether it begins behind the one before it, and ends within *first* to *last*."""
        for piece in pieces:
            low, high = (
                (piece.first, piece.last)
                if isinstance(piece, Missing)
                else (piece.batch.first, piece.batch.last)
            )
            yield first <= low <= high <= last
            first = high + 1

    def make(self, number: int) -> None:
        """Make a history with *number* small batches of Anna's, and close it."""
        self.open().flush(flush_of(*(batch_of(ANNA, first, size=8) for first in range(1, number + 1))))
        self.close()

    def lose_rows(self, *firsts: int) -> None:
        """Let the index name no rows for the batches that begin with *firsts*."""
        content = bytearray(self.path.read_bytes())
        for first in firsts:
            # The header of an index cell, for a stream of the number 1, and the key and the row's number.
            width = 1 if first < 128 else 2
            cell = bytes((4, 9, width, width)) + first.to_bytes(width, "big") * 2
            self.assertEqual(content.count(cell), 1)
            content[content.index(cell) + 3] = 0  # NULL
        self.path.write_bytes(content)

    def read_all(self, first: int, last: int) -> tuple[list[BatchOrMissing], int]:
        """Read *first* to *last* of Anna's; return the pieces and the number of errors."""
        errors: list[Exception] = []

        def failed(error: Exception) -> None:
            errors.append(error)
            self.assertLess(len(errors), 1000)

        with closing(sqlite3.connect(self.path)) as database:
            return list(Reader(database, failed).read(ANNA, first, last, 2**40)), len(errors)

    def pieces(self, store: SqliteStore, most: int) -> list[tuple[int, int, SignedBatch | None]]:
        """All of Anna's, read *most* bytes at a time: (first, last, batch), None for a damaged batch."""
        pieces: list[tuple[int, int, SignedBatch | None]] = []
        while not pieces or pieces[-1][1] < 300:
            for piece in store.read(ANNA, pieces[-1][1] + 1 if pieces else 1, 300, most):
                if isinstance(piece, Missing):
                    self.assertTrue(piece.damaged)
                    pieces.append((piece.first, piece.last, None))
                else:
                    pieces.append((piece.batch.first, piece.batch.last, piece))
        return pieces

    def test_what_cannot_be_read_now_is_told_apart_from_damage(self) -> None:
        store = self.holding(batch_of(ANNA, 1))
        store._reader.set_progress_handler(lambda: 1, 1)
        with logged() as texts:
            for _ in range(2):
                self.assertIn("cannot be", str(self.assertRaises(StoreError, self.held, store)))
        self.assertEqual(len(texts), 1)
        store._reader.set_progress_handler(None, 1)
        self.assertEqual(self.held(store), [1])

    def test_bytes_overwritten_anywhere(self) -> None:
        """The file is refused, or all batches that can be read are as they were stored."""
        flushes = self.fill(200)
        content = self.path.read_bytes()
        stored = {
            (signed.batch.origin, signed.batch.first, signed.array)
            for flush in flushes
            for _, signed in flush.batches
        }
        seeds = range(at_length(3000, 30))
        outcomes = {self.overwritten(Random(seed), content, stored) for seed in seeds}
        self.assertEqual(outcomes, {"refused", "not flushed", "flushed"})  # each outcome occurred

    def overwritten(self, random: Random, content: bytes, stored: set[tuple[bytes, int, bytes]]) -> str:
        """Overwrite some bytes at random, use the history, and return what happened."""
        length = random.choice((1, 8, 500, 5000))
        at = random.randrange(100, len(content) - length)
        self.path.write_bytes(content[:at] + random.randbytes(length) + content[at + length :])
        Path(f"{self.path}-wal").unlink(missing_ok=True)
        with logged() as texts:
            try:
                store = self.open(bytes_limit=random.choice((1000, 2**40)))
            except StoreError as error:
                self.assertRegex(
                    str(error), "is damaged|is not a history|is of (version|the node|another network)"
                )
                return "refused"
            for marks in store.restored.marks:
                for signed in batches_in(store.read(marks.run, 1, ALL, 2**40)):
                    self.assertIn((marks.run[0], signed.batch.first, signed.array), stored)
                store.first_since(marks.run, random.choice((0, 100, 1e6)))
            try:
                heads = {marks.run: marks.head for marks in store.restored.marks}
                for run in RUNS:
                    head = heads.get(run, 0) + 1
                    store.flush(flush_of(batch_of(run, head), marks=[marks_of(run, head, low=head)]))
            except StoreError as error:
                self.assertIn(str(self.path), str(error))
                return "not flushed"
            finally:
                self.close()
        self.assertLess(len(texts), 2)
        return "flushed"


class TestFullDisks(FileCase):
    def test_a_full_disk_is_told_and_the_next_flush_succeeds(self) -> None:
        store = self.holding(batch_of(ANNA, 1))
        before = store.footprint()
        store._writer.execute("PRAGMA max_page_count = 20")
        big = flush_of(*(batch_of(ANNA, first, size=20_000) for first in range(2, 9)))
        error = self.assertRaises(StoreError, store.flush, big)
        self.assertIn(f"history {self.path} cannot be written: the disk is full: make room", str(error))
        self.assertEqual((self.held(store), store.footprint()), ([1], before))
        self.assertFalse(store._writer.in_transaction)
        store._writer.execute("PRAGMA max_page_count = 100000")
        store.flush(big)
        self.assertEqual(self.held(store), list(range(1, 9)))
        self.check(store)

    def test_what_could_not_be_rolled_back_is_so_before_the_next_flush(self) -> None:
        store = self.holding(batch_of(ANNA, 1))
        store._writer.execute("BEGIN IMMEDIATE")
        store._writer.execute("DELETE FROM batch")
        store.flush(flush_of(batch_of(ANNA, 2)))
        self.assertEqual(self.held(store), [1, 2])

    def test_a_disk_that_is_full_at_any_byte(self) -> None:
        """A flush is stored whole or not at all; with room again the next one succeeds."""
        self.patch(sqlite_file, "_WAL_PAGES", 25)
        random = Random(4)
        limits = {"bytes_limit": 60_000}
        store, script, model = self.open(**limits), Script(random, RUNS, size=6000), Model(**limits)
        failed = 0
        for _ in range(at_length(300, 20)):
            flush = script.flush()
            earlier = {run: list(batches) for run, batches in model.contents().batches.items()}
            written = Path(f"{self.path}-wal").stat().st_size
            try:
                with room(random.choice((0, 9000, written + random.randrange(30_000)))):
                    store.flush(flush)
            except StoreError as error:
                self.assertIn("is its disk full, or failing?", str(error))
                failed += 1
                for run in RUNS:
                    self.assertEqual(list(store.read(run, 1, ALL, 2**40)), earlier.get(run, []))
                self.assertEqual(store.footprint(), model.footprint)
                if random.random() < 0.2:
                    store = self.open(**limits)
                    self.assertEqual(contents(store), model.contents())
                store.flush(flush)
            model.flush(flush, script.now)
            self.assertEqual(store.footprint(), model.footprint)
        self.assertGreater(failed, 10)
        self.check(store)
        self.assertEqual(contents(self.open(**limits)), model.contents())

    def test_a_disk_that_is_full_when_the_history_is_made(self) -> None:
        with room(0):
            error = self.assertRaises(StoreError, self.open)
        self.assertIn("is its disk full, or failing?", str(error))
        self.open().flush(flush_of(batch_of(ANNA, 1)))


def full_key_pages(content: bytes) -> list[int]:
    """Where the pages begin that are leaves of an index and hold more than a hundred keys."""
    leaves = [at for at in range(4096, len(content), 4096) if content[at] == 10]
    return [at for at in leaves if int.from_bytes(content[at + 3 : at + 5], "big") > 100]


@contextmanager
def room(size: int) -> Iterator[None]:
    """Let no file grow beyond *size* bytes meanwhile, for root as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def nobody() -> Iterator[None]:
    """Let permissions count meanwhile, for root as well."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
