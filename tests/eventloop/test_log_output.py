"""The log of a process under twistd: its format, and files that are opened again."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

from twisted.application.twist._options import TwistOptions
from twisted.logger import Logger, LogPublisher
from twisted.scripts.twistd import ServerOptions
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.eventloop import log_output


class LogCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "mesh.log"
        self.patch(log_output, "_output", log_output._Output())

    def options(self, *words: str, twistd: tuple[str, ...] = ("-n",)) -> ServerOptions:
        """The options of twistd with those of mesh."""
        options = ServerOptions()
        options.parseOptions([*twistd, "mesh", "--port=0", *words])
        return options

    def logger(self, observer: Any) -> Logger:
        """A logger whose events go to *observer* alone."""
        return Logger("tests", observer=LogPublisher(observer))

    def lines(self, path: Path | None = None) -> list[str]:
        """The lines of the log."""
        return (path or self.path).read_text().splitlines()


class TestFiles(LogCase):
    def setUp(self) -> None:
        super().setUp()
        options = self.options(twistd=("-n", f"--logfile={self.path}"))
        self.log = self.logger(options["logger"]())
        self.addCleanup(lambda: log_output._output.file.close())  # type: ignore[union-attr]

    def test_it_goes_on_in_a_new_file_when_the_old_one_was_moved(self) -> None:
        self.log.info("one")
        old = self.path.rename(self.folder / "old.log")
        self.log.info("two")
        log_output.reopen()
        self.log.info("three")
        self.assertEqual([line.split("] ")[1] for line in self.lines(old)], ["one", "two"])
        self.assertEqual([line.split("] ")[1] for line in self.lines()], ["three"])

    def test_if_no_file_can_be_made_it_stays_in_the_old_one(self) -> None:
        self.patch(log_output, "_log", self.log)
        moved = self.folder.rename(self.mktemp())
        log_output.reopen()
        self.assertIn("mesh.log cannot be opened again", self.lines(moved / "mesh.log")[-1])

    def test_if_a_folder_is_there_instead_it_stays_in_the_old_one(self) -> None:
        self.patch(log_output, "_log", self.log)
        old = self.path.rename(self.folder / "old.log")
        self.path.mkdir()
        log_output.reopen()
        self.log.info("still here")
        self.assertIn("mesh.log cannot be opened again: Is a directory", self.lines(old)[-2])
        self.assertIn("still here", self.lines(old)[-1])


class TestJson(LogCase):
    def test_each_event_is_an_object_on_a_line(self) -> None:
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        log = self.logger(self.options("--log-format=json")["logger"]())
        log.warn("{who} is\ndown\x1b", who="web1")
        try:
            raise ValueError("x")
        except ValueError:
            log.failure("it failed")
        log.info("")
        first, second = map(json.loads, out.getvalue().splitlines())
        self.assertRegex(first.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00$")
        told = {"level": "warn", "namespace": "tests", "text": "web1 is\ndown\x1b"}
        self.assertEqual(first, told)
        self.assertIn("\nbuiltins.ValueError: x\n", second["failure"])
        self.assertEqual((second["text"], second["level"]), ("it failed", "critical"))
        log_output.reopen()  # there is no file

    def test_under_twist(self) -> None:
        options = TwistOptions()
        options.parseOptions(["mesh", "--port=0", "--log-format=json"])
        self.assertIs(options["fileLogObserverFactory"], log_output.json_log)
        options = TwistOptions()
        options.parseOptions(["mesh", "--port=0"])
        self.assertIsNot(options["fileLogObserverFactory"], log_output.json_log)


class TestOptions(LogCase):
    def test_a_daemon_has_a_file_and_the_rest_is_left_to_twistd(self) -> None:
        self.assertIs(self.options(twistd=())["logger"], log_output.chosen_log)
        self.assertEqual(log_output._output.path, str(Path("twistd.log").absolute()))
        for twistd in (("-n",), ("-n", "--logfile=-"), ("--logfile=-",), ("--syslog",)):
            self.assertIsNone(self.options(twistd=twistd)["logger"])
        named = self.options(twistd=("--logger=tests.eventloop.test_log_output.LogCase",))
        self.assertIs(named["logger"], LogCase)

    def test_what_cannot_be(self) -> None:
        self.assertRaises(SystemExit, self.options, "--log-format=xml")
        for other in ("--syslog", "--logger=tests.eventloop.test_log_output.LogCase"):
            self.assertRaises(SystemExit, self.options, "--log-format=json", twistd=(other,))
