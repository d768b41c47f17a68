"""Where control sockets are, and what stands there already."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.cli import places
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
