"""Completion of mesh in shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.cli import completion, places
from twisted_mesh.cli.completion import SCRIPTS, complete
from twisted_mesh.cli.main import parser

ROOT = Path(__file__).parent.parent.parent
PATH = os.environ["PATH"]
#: Defines the command for shells that have POSIX's grammar.
POSIX = 'mesh() { "%s" -m twisted_mesh.cli.main "$@"; }'


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
        self.assertEqual(
            self.found("send", "--wait", "1", "x", "--t"), ["--to", "--token", "--trace", "--type"]
        )
        self.assertIn("--node", self.found("--n"))
        self.assertEqual(self.found("run", "--pe"), [])  # its options are those of twistd mesh

    def test_values(self) -> None:
        self.assertEqual(self.found("completion", ""), ["bash", "fish", "zsh"])
        self.assertEqual(self.found("completion", "bash", ""), [])
        self.assertEqual(self.found("send", "--wait", ""), [])
        for words in (("members", "--node", ""), ("request", ""), ("send", "--to", "")):
            self.assertEqual(self.found(*words), [], "no node runs here")

    def completed(self, shell: str, define: str, ask: str) -> list[str]:
        """What a shell prints that has the command ``mesh`` and its script, and then runs *ask*.

        :param define: defines the command, with the path of Python in place of %s.
        """
        if (path := shutil.which(shell, path=PATH)) is None:
            self.skipTest(f"no {shell} here")
        script = "\n".join((define % sys.executable, SCRIPTS[shell], ask))
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "a file").touch()
        environment = {"PATH": PATH, "HOME": str(folder.absolute()), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [path, "-c", script], capture_output=True, text=True, cwd=folder, env=environment
        )
        self.assertEqual(done.stderr, "")
        return done.stdout.split("\n")[:-1]

    def test_the_script_for_bash_works(self) -> None:
        ask = 'COMP_WORDS=(mesh members --w); COMP_CWORD=2; _mesh; echo "${COMPREPLY[@]}"'
        self.assertEqual(self.completed("bash", POSIX, ask), ["--watch"])

    def test_the_script_for_zsh_works_and_offers_files_where_nothing_is_known(self) -> None:
        # What zsh has where the cursor stands; the rest is only there in an interactive one.
        define = POSIX + '; compdef() { }; compadd() { print -l -- "${@[2,-1]}" }; _files() { print *(N) }'
        ask = "words=(mesh completion ''); CURRENT=3; _mesh; words=(mesh send ''); CURRENT=3; _mesh"
        self.assertEqual(self.completed("zsh", define, ask), ["bash", "fish", "zsh", "a file"])

    def test_the_script_for_fish_works_and_offers_files_where_nothing_is_known(self) -> None:
        define = 'function mesh; "%s" -m twisted_mesh.cli.main $argv; end'
        ask = 'complete -C "mesh completion "; complete -C "mesh send "'
        self.assertEqual(self.completed("fish", define, ask), ["bash", "fish", "zsh", "a file"])
