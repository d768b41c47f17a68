"""Completion of mesh in shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.cli import completion, places
from twisted_mesh.cli.completion import SCRIPTS, complete
from twisted_mesh.cli.main import parser

ROOT = Path(__file__).parent.parent.parent


class CompletionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(places, "SYSTEM", Path("/nonexistent/twisted_mesh"))
        self.patch(completion.os, "environ", {})

    def found(self, *words: str) -> list[str]:
        """What is offered for the last of *words*."""
        return complete(parser(), words)

    def test_verbs_and_actions(self) -> None:
        self.assertIn("status", self.found(""))
        self.assertEqual(self.found(), self.found(""))
        self.assertEqual(self.found("me"), ["members"])
        self.assertEqual(self.found("--node", "x", "sta"), ["status"])
        self.assertEqual(self.found("secret", ""), ["new"])
        self.assertEqual(self.found("nonsense", ""), [])

    def test_options(self) -> None:
        self.assertEqual(self.found("members", "--w"), ["--watch"])
        self.assertEqual(self.found("send", "--wait", "1", "x", "--t"), ["--to", "--trace", "--type"])
        self.assertIn("--node", self.found("--n"))
        self.assertEqual(self.found("run", "--pe"), [])  # its options are those of twistd mesh

    def test_values(self) -> None:
        self.assertEqual(self.found("completion", ""), ["bash", "fish", "zsh"])
        self.assertEqual(self.found("completion", "bash", ""), [])
        self.assertEqual(self.found("send", "--wait", ""), [])
        for words in (("members", "--node", ""), ("request", ""), ("send", "--to", "")):
            self.assertEqual(self.found(*words), [], "no node runs here")

    def test_the_script_for_bash_works(self) -> None:
        if (bash := shutil.which("bash")) is None:
            self.skipTest("no bash here")
        script = (
            f'mesh() {{ "{sys.executable}" -m twisted_mesh.cli.main "$@"; }}\n{SCRIPTS["bash"]}'
            'COMP_WORDS=(mesh members --w); COMP_CWORD=2; _mesh; echo "${COMPREPLY[@]}"'
        )
        done = subprocess.run([bash, "-c", script], capture_output=True, text=True, cwd=ROOT)
        self.assertEqual((done.stdout, done.stderr), ("--watch\n", ""))
