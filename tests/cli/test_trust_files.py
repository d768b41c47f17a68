"""The commands of docs/trust.rst that make an authority and its grants, as the page has them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.trust.test_shared_secret import MESH, clock
from twisted_mesh.cli.main import main
from twisted_mesh.identity import Identity
from twisted_mesh.trust.policy import Trust

PAGE = (Path(__file__).parent.parent.parent / "docs" / "trust.rst").read_text()
#: Each command of the page that needs no node, with the line that it prints.
COMMANDS = re.findall(r"^    \$ mesh ((?:authority (?!remove|quota)|id ).+)\n    (.+)$", PAGE, flags=re.M)
_ID = r"[1-9A-HJ-NP-Za-km-z]{60,66}"


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)

    def run_it(self, *words: str) -> tuple[int, str, str]:
        """Exit status, output and errors of ``mesh`` with *words*."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
        return status, out.getvalue(), err.getvalue()

    def play(self) -> str:
        """Run the commands of the page; return the node's id."""
        id = Identity.create("node.key").id.decode()
        for command, printed in COMMANDS:
            words, told = (re.sub(_ID, id, text) for text in (command, printed))
            self.assertEqual(self.run_it(*words.split()), (0, f"{told}\n", ""), command)
        return id

    def test_they_print_what_the_page_says_and_the_node_can_start(self) -> None:
        self.assertEqual([command.split()[:2] for command, _ in COMMANDS], [
            ["authority", "new"], ["id", "node.key"], ["authority", "grant"],
        ])  # fmt: skip
        id = self.play()
        policy = Trust.authority("mesh.authority.pub", "node.grant").load(MESH, clock, 100.0)
        policy.fit(id.encode(), is_guest=False)
        for line in Path("mesh.authority").read_text().splitlines():
            for name in ("mesh.authority.pub", "mesh.authority.state", "node.grant"):
                self.assertNotIn(line, Path(name).read_text())

    def test_a_ca_certifies_a_node_by_the_commands_of_the_page(self) -> None:
        me = Identity.create("node.key")
        commands = re.findall(r"^    \$ (openssl .+)$", PAGE, flags=re.M)
        self.assertEqual([command.split()[1] for command in commands], ["req", "req", "x509"])
        for command in commands:
            ran = subprocess.run(["sh", "-c", f"umask 022; {command}"], capture_output=True, text=True)
            self.assertEqual(ran.returncode, 0, ran.stderr)
        policy = Trust.certificates("ca.pem", "node.pem").load(MESH, time.time, 100.0)
        policy.fit(me.id, is_guest=False)
        self.assertIsNone(policy.why_not_certified(me.origin, policy.certificate, "web1.example"))
        self.assertLess(len(policy.certificate), 450)

    def test_the_authority_shows_what_it_has_granted(self) -> None:
        id = self.play()
        other = self.run_it("id", "other.key")[1].strip()
        roles = ("--roles", "link,listen-only")
        self.assertEqual(self.run_it("authority", "grant", "mesh.authority", other, "grant", *roles)[0], 0)
        key = Path("mesh.authority.pub").read_text().split()[0]
        _, shown, _ = self.run_it("authority", "show", "mesh.authority")
        expected = [
            f"authority {key} of subnet 'mesh'",
            f"grant 1 of {id}: link, author, generation 1",
            f"grant 2 of {other}: link, listen-only, generation 1",
        ]
        self.assertEqual(shown.splitlines(), expected)

    def test_a_key_that_is_made_is_told(self) -> None:
        status, _, error = self.run_it("id", "node.kye")
        self.assertEqual((status, error), (0, "mesh: there was no key in node.kye: it is made\n"))
        self.assertEqual(self.run_it("id", "node.kye")[2], "")

    def test_what_cannot_be_done_is_said_and_ends_with_1(self) -> None:
        id = self.play()
        grant = ("authority", "grant", "mesh.authority")
        for words, told in (
            (("authority", "new", "mesh.authority"), "File exists"),
            ((*grant, id, "node.grant"), "File exists"),
            ((*grant, "web1", "other.grant"), "mesh id FILE prints"),
            ((*grant, id, "other.grant", "--roles", "king"), "not 'king'"),
            ((*grant, id, "other.grant", "--roles", "author"), "without the role link"),
            ((*grant, id, "other.grant", "--generation", "-1"), "a number from 1 to"),
            (("authority", "show", "node.key"), "node.key.state: No such file"),
            (("authority", "show", "missing"), "No such file"),
        ):
            status, out, error = self.run_it(*words)
            self.assertEqual((status, out), (1, ""))
            self.assertTrue(error.startswith("mesh: ") and told in error, error)
        self.assertFalse(os.path.exists("other.grant"))
        remove = ("authority", "remove", "mesh.authority")
        status, _, error = self.run_it(*remove, "db", "--node", "/nonexistent/x.sock")
        self.assertEqual(status, 2)
        self.assertIn("no node answers at /nonexistent/x.sock", error)
        for words in (remove, (*remove, "db", "--below", "2")):
            self.assertEqual(self.assertRaises(SystemExit, self.run_it, *words).code, 2)
