"""The command ``mesh`` without a node: its options, and how it shows values."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.cli import places
from twisted_mesh.cli.main import main, parser
from twisted_mesh.cli.shown import duration, packets, round_trip, size, tags, when
from twisted_mesh.escaping import name_of
from twisted_mesh.grammar import counted

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "mesh.rst").read_text()


class ShownTests(SynchronousTestCase):
    def test_names_have_the_label_first(self) -> None:
        self.assertEqual(name_of("8zyRhwxMabc", "web1"), "web1 (8zyRhwxM)")
        self.assertEqual(name_of("8zyRhwxMabc", None), "8zyRhwxM")
        self.assertEqual(name_of("8zyRhwxMabc", "a\nb\x1b"), r"a\nb\x1b (8zyRhwxM)")

    def test_durations_are_rounded_down(self) -> None:
        for seconds, told in (
            (-1, "0 s"),
            (59.9, "59 s"),
            (60, "1 min"),
            (7199, "1 h"),
            (86_400 * 3, "3 d"),
        ):
            self.assertEqual(duration(seconds), told)

    def test_sizes_and_round_trips(self) -> None:
        sizes = [size(count) for count in (0, 999, 1000, 12_345, 3_450_000, 10**10)]
        self.assertEqual(sizes, ["0 B", "999 B", "1 kB", "12.3 kB", "3.45 MB", "10 GB"])
        self.assertEqual((round_trip(None), round_trip(0.00134)), ("-", "1.3 ms"))

    def test_counts_have_a_plural(self) -> None:
        told = [counted(count, "member") for count in (0, 1, 2000)]
        self.assertEqual(told, ["0 members", "1 member", "2,000 members"])

    def test_packets_and_tags_of_others_move_no_cursor(self) -> None:
        self.assertEqual(packets(["fire\x1b[2J", 1, {"$b": "AP8="}]), r"fire\x1b[2J 1 {'$b': 'AP8='}")
        self.assertEqual(tags({"b": "2", "a": "1\n"}), r"a=1\n b=2")


class OptionsTests(SynchronousTestCase):
    def run_it(self, *arguments: str) -> tuple[object, str, str]:
        """Exit status, output and errors of ``mesh`` with *arguments*."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status: object = main(arguments)
            except SystemExit as end:
                status = end.code
        return status, out.getvalue(), err.getvalue()

    def test_wrong_options_end_with_2(self) -> None:
        for arguments in (
            (),
            ("nonsense",),
            ("send",),
            ("send", "x", "--wait", "soon"),
            ("send", "x", "--wait", "-1"),
            ("listen", "--count", "0"),
            *(("trace", message) for message in ("", "/1", "web1/x", "web1/0", "a/b/1")),
            ("listen", "--for", "4000"),
            ("listen", "--since", "soon"),
            ("listen", "--since", "5m", "--consumer", "ops"),
            ("listen", "--consumer", "ops", "--start", "old"),
            ("listen", "--consumer", "ops", "--peer", "127.0.0.1:9"),
            ("history", "--since", "1y"),
            ("forget",),
            ("forget", "db", "--consumer", "ops"),
            ("--node", "x", "demo"),
            ("--node", "x", "run"),
        ):
            status, _, error = self.run_it(*arguments)
            self.assertEqual(status, 2, arguments)
            self.assertIn("usage: mesh", error)

    def test_a_wrong_option_of_a_verb_is_told_with_the_usage_of_that_verb(self) -> None:
        for arguments in (
            ("send", "x", "--bogus"),
            ("members", "--secret=x"),
            ("listen", "--since", "5m", "--consumer", "ops"),
            ("authority", "new", "x", "--bogus"),
        ):
            status, _, error = self.run_it(*arguments)
            verb = " ".join(arguments[: 2 if arguments[0] == "authority" else 1])
            self.assertEqual((status, error.partition(" [-h]")[0]), (2, f"usage: mesh {verb}"))

    def test_without_a_word_all_verbs_are_told(self) -> None:
        status, out, error = self.run_it()
        self.assertEqual((status, out), (2, ""))
        self.assertRegex(error, r"(?s)^usage: mesh .*  members +show the other members\n.*--node PATH")

    def test_times_are_given_to_the_node_in_seconds(self) -> None:
        for text, seconds in (
            ("90", "90"),
            ("1.5s", "1.5"),
            ("5m", "300"),
            ("2h", "7200"),
            ("7d", "604800"),
        ):
            self.assertEqual(parser().parse_args(["listen", "--since", text]).since, seconds)
        self.assertEqual(parser().parse_args(["listen", "--since", "all"]).since, "all")

    def test_a_time_that_is_none_is_shown_as_such(self) -> None:
        self.assertEqual([when(seconds) for seconds in (1e300, float("nan"))], ["-", "-"])

    def test_wrong_options_of_run_are_told_in_one_line(self) -> None:
        told = "mesh: --port is a number from 0 to 65535, not '99999'\n"
        self.assertEqual(self.run_it("run", "--port=99999"), (1, "", told))

    def test_without_a_node_it_says_where_it_looked(self) -> None:
        self.patch(places, "SYSTEM", Path("/nonexistent/twisted_mesh"))
        self.patch(sys.modules["twisted_mesh.cli.main"].os, "environ", {})
        status, _, error = self.run_it("status")
        self.assertEqual(status, 2)
        self.assertIn("no node runs here: no control socket answers in /nonexistent/twisted_mesh", error)

    def test_a_socket_that_is_not_there(self) -> None:
        status, _, error = self.run_it("members", "--node", "/nonexistent/x.sock")
        self.assertEqual(status, 2)
        told = "mesh: no node answers at /nonexistent/x.sock: No such file or directory\n"
        self.assertEqual(error, told)

    def test_the_socket_may_be_named_before_or_behind_the_verb(self) -> None:
        for words in (["--node", "x", "status"], ["status", "--node", "x"]):
            self.assertEqual(parser().parse_args(words).node, "x")
        self.assertIsNone(parser().parse_args(["status"]).node)

    def test_it_starts_without_twisted_and_other_large_packages(self) -> None:
        large = {"asyncio", "cryptography", "msgspec", "rich", "twisted"}
        check = f"import sys, twisted_mesh.cli.main as _; print(*{large} & {{*sys.modules}})"
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, cwd=ROOT, check=True)
        self.assertEqual(done.stdout, b"\n")

    def test_a_secret_is_made_without_a_node_and_no_file_is_overwritten(self) -> None:
        path = self.mktemp()
        status, out, _ = self.run_it("secret", "new", path)
        self.assertEqual(status, 0)
        told = rf"^secret [0-9a-f]{{16}} in {path}: copy the file to all nodes of the mesh\n$"
        self.assertRegex(out, told)
        made = Path(path).read_text()
        self.assertNotIn(made[:16], out)
        status, out, error = self.run_it("secret", "new", path)
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(error, f"mesh: the secret {path}: File exists\n")
        self.assertEqual(Path(path).read_text(), made)
        self.assertEqual([self.run_it(*words)[0] for words in (("secret",), ("secret", "new"))], [2, 2])

    def test_the_page_has_each_verb(self) -> None:
        (verbs,) = (action.choices for action in parser()._actions if action.nargs == "A...")
        for verb in verbs or ():
            self.assertIn(f"``mesh {verb}", PAGE)
