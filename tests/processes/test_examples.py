"""Each example is started as its first lines say, and does what they say."""

from __future__ import annotations

import os
import re
import signal
from unittest import mock

from tests.support.processes import ROOT, Child, ProcessCase

EXAMPLES = ROOT / "examples"
LINES = 60
#: ``python PATH``.
RUN_PATH = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


def text(child: Child) -> str:
    """All output of *child* so far."""
    return child.log + child.out.decode()


class ExamplesTests(ProcessCase):
    """All examples run side by side, in one mesh."""

    def run_example(self, name: str, *arguments: str) -> Child:
        """Start the example *name*, a Python program."""
        return self.fork(RUN_PATH, str(EXAMPLES / name), *arguments)

    async def port(self, child: Child) -> str:
        """The port that the output of *child* names."""
        told = await self.until(lambda: re.search(r"(?:on port |127\.0\.0\.1:)(\d+)", text(child)))
        assert told is not None
        return told[1]

    async def test_each_does_what_it_says(self) -> None:
        ann = self.run_example("chat.py", "Ann", "0")
        watcher = self.run_example("alerts.py", "watch", "0")
        peer = f"127.0.0.1:{await self.port(ann)}"
        bob = self.run_example("chat.py", "Bob", "0", peer)
        program = self.run_example("asyncio_program.py", "0", peer)
        with mock.patch.dict(os.environ, MESH_PORT="0", MESH_PEERS=peer):
            application = self.twistd("-y", str(EXAMPLES / "mesh.tac"))
        alarm = self.run_example(
            "alerts.py", "raise", f"127.0.0.1:{await self.port(watcher)}", "the disk is full\x1b[2J"
        )

        self.assertEqual(await self.until_ended(alarm), [0], alarm)
        self.assertRegex(watcher.lines[1], r"^ALERT from '.*': 'the disk is full\\x1b\[2J'$")
        self.assertRegex(alarm.lines[0], "^seen on '.")

        await self.until(lambda: "* Bob came" in ann.lines)
        bob.type("hello\x1b[2J\n")
        ann.type("who is it?\n")
        await self.until(lambda: r"Bob: hello\x1b[2J" in ann.lines and "Ann: who is it?" in bob.lines)
        bob.end_input()
        self.assertEqual(await self.until_ended(bob), [0], bob)
        await self.until(lambda: "* Bob went" in ann.lines)

        # The program and the application understand each other.
        await self.until(lambda: "' has a load of " in program.out.decode())
        await self.until(lambda: re.search(r"'process \d+' has a load of [\d.]+\n", text(application)))

        for child in (ann, watcher, program, application):
            child.signal("INT")
        status = await self.until_ended(ann, watcher, program, application)
        self.assertEqual(status, [0, 0, 0, -signal.SIGINT], self.children)
        self.assertEqual("".join(child.log for child in self.children), "")

    def test_each_fits_on_a_screen_and_says_how_to_start_it(self) -> None:
        for path in EXAMPLES.iterdir():
            source = path.read_text()
            self.assertLess(len(source.splitlines()), LINES, path.name)
            docstring = source.split('"""')[1]
            self.assertRegex(docstring, rf"\n    .*\b{path.name}", f"{path.name} tells no command")
