"""Where control sockets are, and what stands there already."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.cli import client, places
from twisted_mesh.cli.client import Failed, the_node
from twisted_mesh.cli.main import main
from twisted_mesh.cli.places import MOST_PATH, Unusable, choose, claim, found, remove_dead


class PlacesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())  # its path is short, as that of a socket has to be
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(places, "SYSTEM", self.folder / "missing" / "twisted_mesh")

    def runtime(self, mode: int = 0o700) -> Path:
        """A folder like ``$XDG_RUNTIME_DIR``."""
        folder = self.folder / "run"
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
        return folder

    def listen(self, path: Path) -> socket.socket:
        """A process that answers at *path*."""
        port = socket.socket(socket.AF_UNIX)
        self.addCleanup(port.close)
        port.bind(os.fspath(path))
        port.listen()
        return port


class TestChoosing(PlacesCase):
    def setUp(self) -> None:
        super().setUp()
        self.runtime()
        self.environ = {"XDG_RUNTIME_DIR": str(self.folder / "run")}
        self.name = f"node-{os.getpid()}.sock"

    def test_the_system_folder_is_first(self) -> None:
        self.patch(places, "SYSTEM", self.folder / "twisted_mesh")
        self.assertEqual(choose(self.environ, None), self.folder / "twisted_mesh" / self.name)
        self.assertEqual((self.folder / "twisted_mesh").stat().st_mode & 0o777, 0o700)

    def test_then_the_folder_of_the_session_then_that_of_the_identity(self) -> None:
        self.assertEqual(choose(self.environ, None), self.folder / "run" / "twisted_mesh" / self.name)
        self.assertEqual(choose({}, self.folder / "node.key"), self.folder / self.name)

    def test_without_any_it_says_why(self) -> None:
        error = self.assertRaises(Unusable, choose, {"XDG_RUNTIME_DIR": "relative"}, None)
        self.assertIn("missing/twisted_mesh: No such file or directory", str(error))

    def test_a_folder_that_others_can_write_is_not_used(self) -> None:
        (self.folder / "run" / "twisted_mesh").mkdir()
        for mode in (0o720, 0o702, 0o1777):
            (self.folder / "run" / "twisted_mesh").chmod(mode)
            error = self.assertRaises(Unusable, choose, self.environ, None)
            self.assertIn("run/twisted_mesh: others can write it", str(error))


class TestClaiming(PlacesCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "x"

    def test_a_free_path_is_fine(self) -> None:
        claim(self.path)

    def test_a_socket_of_a_node_that_was_killed_is_removed(self) -> None:
        self.listen(self.path).close()
        claim(self.path)
        self.assertFalse(self.path.exists())

    def test_a_socket_on_which_a_process_answers_stays(self) -> None:
        self.listen(self.path)
        self.assertIn("a node answers", str(self.assertRaises(Unusable, claim, self.path)))
        self.assertTrue(self.path.exists())

    def test_a_file_or_a_link_stays(self) -> None:
        self.path.write_text("precious")
        self.assertIn("something else", str(self.assertRaises(Unusable, claim, self.path)))
        self.assertEqual(self.path.read_text(), "precious")
        link = self.folder / "link"
        link.symlink_to("nowhere")
        self.assertIn("something else", str(self.assertRaises(Unusable, claim, link)))

    def test_a_path_that_the_system_would_cut_is_refused(self) -> None:
        path = self.folder / ("x" * MOST_PATH)
        self.assertIn(f"more than {MOST_PATH} bytes", str(self.assertRaises(Unusable, claim, path)))

    def test_a_folder_that_others_can_write_is_refused(self) -> None:
        self.folder.chmod(0o777)
        self.assertIn("others can write", str(self.assertRaises(Unusable, claim, self.path)))


class TestFinding(PlacesCase):
    def test_sockets_that_answer_are_found_and_dead_ones_removed(self) -> None:
        folder = self.runtime() / "twisted_mesh"
        folder.mkdir(mode=0o700)
        alive = self.listen(folder / "node-1.sock")
        self.listen(folder / "node-2.sock").close()
        self.listen(folder / "other.sock").close()
        (folder / "node-3.sock").write_text("no socket")
        environ = {"XDG_RUNTIME_DIR": str(folder.parent)}
        self.assertEqual(found(environ), [folder / "node-1.sock"])
        remove_dead(folder)
        self.assertEqual(sorted(os.listdir(folder)), ["node-1.sock", "node-3.sock", "other.sock"])
        alive.close()
        self.assertEqual(found(environ), [])
        self.assertEqual(found({}), [])

    def test_a_socket_whose_backlog_is_full_is_found_at_once(self) -> None:
        folder = self.runtime() / "twisted_mesh"
        folder.mkdir(mode=0o700)
        self.listen(folder / "node-1.sock").listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(os.fspath(folder / "node-1.sock"))
            began = time.monotonic()
            self.assertEqual(found({"XDG_RUNTIME_DIR": str(folder.parent)}), [folder / "node-1.sock"])
        self.assertLess(time.monotonic() - began, 0.5)


class TestNaming(PlacesCase):
    """``--node`` by a label or an id."""

    def setUp(self) -> None:
        super().setUp()
        self.sockets = self.runtime() / "twisted_mesh"
        self.sockets.mkdir(mode=0o700)
        self.environ = {"XDG_RUNTIME_DIR": str(self.sockets.parent)}
        for seconds in ("PATIENCE", "MOMENT"):  # the tests with silent nodes have shorter ones
            self.patch(client, seconds, 20.0)

    def silent(self, number: int) -> Path:
        """A node that is stopped: its system accepts, and it never answers."""
        path = self.sockets / f"node-{number}.sock"
        self.listen(path)
        return path

    def node(self, number: int, id: str, label: str | None) -> Path:
        """A node that says only who it is, again and again."""
        path = self.sockets / f"node-{number}.sock"
        port, body = self.listen(path), json.dumps({"node": {"id": id, "label": label}}).encode()

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = port.accept()[0]
                    with connection, contextlib.suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(port.shutdown, socket.SHUT_RDWR)
        return path

    def refusal(self, named: str | None) -> tuple[str, ...]:
        """What is said of *named*: a sentence, and the rows below it."""
        error = self.assertRaises(Failed, the_node, named, self.environ)
        return str(error), *error.rows

    def test_a_label_does_not_wait_for_nodes_that_are_silent(self) -> None:
        self.patch(client, "MOMENT", 0.1)
        self.silent(1)
        path = self.node(2, "2v9xsCsUabcd", "n1")
        self.silent(3)
        began = time.monotonic()
        self.assertEqual(the_node("n1", self.environ).path, path)
        self.assertEqual(the_node("2v9xsCsUabcd", self.environ).path, path)
        self.assertLess(time.monotonic() - began, 10.0)

    def test_many_silent_ones_take_no_longer_than_one(self) -> None:
        self.patch(client, "PATIENCE", 0.2)
        rows = [f"{self.silent(number)} (does not answer)" for number in range(10, 40)]
        began = time.monotonic()
        self.assertEqual(self.refusal("n3"), ("no node here has the label or id n3", *rows))
        self.assertLess(time.monotonic() - began, 3.0)

    def test_those_that_answer_are_not_told_for_an_unknown_label(self) -> None:
        self.node(1, "2v9xsCsUabcd", "n1")
        self.assertEqual(self.refusal("n3"), ("no node here has the label or id n3",))

    def test_four_characters_of_an_id_are_enough_unless_two_fit(self) -> None:
        path = self.node(1, "2v9xsCsUabcd", None)
        other = self.node(2, "2v9xsDDDabcd", None)
        self.assertEqual(the_node("2v9xsCsU", self.environ).path, path)
        self.assertEqual(the_node("2v9xsD", self.environ).path, other)
        rows = f"2v9xsCsU at {path}", f"2v9xsDDD at {other}"
        told = "2 nodes here have the label or id 2v9x; choose one by --node PATH:"
        self.assertEqual(self.refusal("2v9x"), (told, *rows))
        self.assertEqual(self.refusal("2v9")[0], "no node here has the label or id 2v9")
        self.assertEqual(the_node("2v9xsCsUabcd", self.environ).path, path)

    def test_neither_a_label_nor_the_beginning_of_an_id_goes_before_the_other(self) -> None:
        self.node(1, "webs" * 3, "n1")
        self.node(2, "2v9xsCsUabcd", "webs")
        self.assertIn("2 nodes here have the label or id webs", self.refusal("webs")[0])
        self.assertEqual(the_node("websw", self.environ).path, self.sockets / "node-1.sock")

    def test_a_label_that_two_nodes_have_names_neither(self) -> None:
        for number in (1, 2):
            self.node(number, f"{number}" * 12, "web")
        told = "2 nodes here have the label or id web; choose one by --node PATH:"
        self.assertEqual(self.refusal("web")[0], told)

    def test_the_list_has_one_node_a_line_and_the_silent_ones(self) -> None:
        self.patch(client, "PATIENCE", 1.0)
        one, two = self.node(1, "2v9xsCsUabcd", "n1"), self.silent(2)
        self.patch(os, "environ", self.environ)
        with contextlib.redirect_stderr(io.StringIO()) as error:
            self.assertEqual(main(["status"]), 2)
        told = "mesh: 2 nodes are found; choose one by --node LABEL, ID or PATH:"
        rows = f"  n1 (2v9xsCsU) at {one}", f"  {two} (does not answer)"
        self.assertEqual(error.getvalue().splitlines(), [told, *rows])
