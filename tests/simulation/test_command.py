"""``python -m twisted_mesh.simulation``: what it prints, and how it ends."""

from __future__ import annotations

import io
import os
import shutil
import sys
from argparse import Namespace

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.shortened import shortened
from twisted_mesh.simulation import __main__ as simulation
from twisted_mesh.simulation.__main__ import main, nodes_for, parse
from twisted_mesh.simulation.report import COLUMNS, Result, quantile, table
from twisted_mesh.simulation.scenarios.asking import ASKING
from twisted_mesh.simulation.scenarios.schedules import SCHEDULES, Schedule


class TestCommand(SynchronousTestCase):
    """The command as a user runs it, on small networks."""

    def setUp(self) -> None:
        for schedules in (SCHEDULES, ASKING):
            self.addCleanup(schedules.update, dict(schedules))
            schedules.update({name: shortened(schedule, 2.0) for name, schedule in schedules.items()})

    def run_with(
        self, *arguments: str, terminal: bool = False, screen: bool = False
    ) -> tuple[int, str, str]:
        """The exit status, and what was printed on both outputs.

        :param terminal: whether standard error is a terminal; :param screen: whether standard output is.
        """
        out, err = io.StringIO(), io.StringIO()
        out.isatty = lambda: screen  # type: ignore[method-assign]
        err.isatty = lambda: terminal  # type: ignore[method-assign]
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        return main(arguments), out.getvalue(), err.getvalue()

    def test_a_run_is_a_line_of_a_table(self) -> None:
        status, out, err = self.run_with("--schedule", "calm", "--nodes", "4")
        head, row, *_, last = out.splitlines()
        self.assertEqual(head.split()[0], COLUMNS[0])
        self.assertEqual(row.split()[:3], ["calm", "1", "4"])
        self.assertEqual((status, last, err), (0, "1 run, 0 with a broken promise", ""))

    def test_on_a_terminal_the_table_is_no_wider_than_that(self) -> None:
        played = simulation.result_of("calm", 1, parse(["--nodes", "2"]))
        self.patch(simulation, "result_of", lambda *_: played)
        self.patch(shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))
        for runs, rows in (("2", 2), ("41", 1)):  # many runs are a row for each schedule
            _, wide, _ = self.run_with("--schedule", "calm", "--runs", runs)
            self.assertEqual(len([line for line in wide.splitlines() if "calm" in line]), rows)
            self.assertIn(f"{runs} runs, 0 with a broken promise", wide)
            _, narrow, _ = self.run_with("--schedule", "calm", "--runs", runs, screen=True)
            self.assertGreater(max(map(len, wide.splitlines())), 80)
            self.assertLessEqual(max(map(len, narrow.splitlines())), 80)
            heads = [line.split() for line in narrow.splitlines() if line.strip().startswith("schedule")]
            again = ["schedule", "runs" if runs == "41" else "seed"]
            self.assertEqual([head[:2] for head in heads], [again] * len(heads))
            columns = " ".join(" ".join(head[2:]) for head in heads)
            self.assertEqual(columns, " ".join(COLUMNS[2:]))

    def test_a_table_goes_on_below_where_a_column_would_not_fit(self) -> None:
        heads, rows = ("ab", "c", "def", "g", "hi"), [("1", "2", "3", "4", "5")]
        for width, lines in (
            (None, ["ab  c  def  g  hi", " 1  2    3  4   5"]),
            (17, ["ab  c  def  g  hi", " 1  2    3  4   5"]),
            (16, ["ab  c  def  g", " 1  2    3  4", "", "ab  c  hi", " 1  2   5"]),
            (12, ["ab  c  def", " 1  2    3", "", "ab  c  g  hi", " 1  2  4   5"]),
            (1, ["ab  c  def", " 1  2    3", "", "ab  c  g", " 1  2  4", "", "ab  c  hi", " 1  2   5"]),
        ):
            self.assertEqual(table(rows, width, heads).split("\n"), lines)

    def test_an_interrupt_shows_the_runs_that_are_over(self) -> None:
        played = simulation.result_of

        def until_the_third(name: str, seed: int, options: Namespace) -> Result:
            if seed == 3:
                raise KeyboardInterrupt
            return played(name, seed, options)

        self.patch(simulation, "result_of", until_the_third)
        status, out, _ = self.run_with("--schedule", "calm", "--nodes", "2", "--runs", "9")
        rows = [line.split()[:2] for line in out.splitlines()[1:3]]
        self.assertEqual((status, rows), (130, [["calm", "1"], ["calm", "2"]]))
        self.assertIn("\n2 runs, 0 with a broken promise; interrupted\n", out)

    def test_the_number_of_nodes_may_go_from_seed_to_seed(self) -> None:
        _, out, _ = self.run_with("--schedule", "calm", "--seed", "4", "--runs", "4", "--nodes", "2-4")
        self.assertEqual([line.split()[2] for line in out.splitlines()[1:5]], ["3", "4", "2", "3"])
        for wrong in ("4-2", "few"):
            self.assertRaises(SystemExit, self.run_with, "--nodes", wrong)

    def test_all_schedules_unless_one_is_named(self) -> None:
        for kind, names in (
            ("SCHEDULES", ("calm", "slow")),
            ("ASKING", ("asking-calm",)),
            ("CONSUMING", ("consuming",)),
            ("STAGED", ("restored", "crowd")),
        ):
            schedules = getattr(simulation, kind)
            self.patch(simulation, kind, {name: schedules[name] for name in names})
        _, out, _ = self.run_with("--nodes", "3")
        for name in ("calm", "slow", "asking-calm", "consuming", "joint", "restored"):
            self.assertIn(f"{name} ", out)
        self.assertNotIn("crowd", out)  # it takes minutes
        self.assertIn("\nrestored 1: ", out)  # what a scene has shown follows the table

    def test_how_far_it_is_is_shown_on_a_terminal(self) -> None:
        _, out, err = self.run_with("--schedule", "calm", "--nodes", "3", terminal=True)
        self.assertIn("[###", err)
        self.assertNotIn("[###", out)

    def test_after_so_many_minutes_no_run_begins(self) -> None:
        _, out, _ = self.run_with("--nodes", "3", "--runs", "9", "--minutes", "1e-12")
        self.assertIn("0 runs, 0 with a broken promise", out)

    def test_a_trace_has_every_frame_and_every_lost_link(self) -> None:
        _, out, _ = self.run_with("--schedule", "flapping", "--nodes", "5", "--trace")
        for what in ("->", "BATCH", "HAVE (answer)", "WANT", "PRUNE", "SNAPSHOT", ": cut"):
            self.assertIn(what, out)

    def test_a_digest_is_the_same_for_the_same_trace_and_another_for_another(self) -> None:
        told = []
        for seed in ("1", "1", "2"):
            _, out, _ = self.run_with("--schedule", "calm", "--nodes", "3", "--seed", seed, "--digest")
            self.assertNotIn("->", out)
            [line] = [line for line in out.splitlines() if line.startswith(f"calm {seed}, 3 nodes: ")]
            told.append(line.split()[-1])
        self.assertEqual({len(digest) for digest in told}, {64})
        self.assertEqual((told[0] == told[1], told[1] == told[2]), (True, False))
        self.assertRaises(SystemExit, self.run_with, "--digest", "--trace")

    def test_a_broken_promise_is_told_with_the_command_that_plays_it_again(self) -> None:
        # Every frame is under way for longer than the run, so nothing arrives.
        SCHEDULES["hopeless"] = Schedule(seconds=1.0, latency=(1000.0, 0.0))
        self.addCleanup(SCHEDULES.pop, "hopeless")
        status, out, _ = self.run_with("--schedule", "hopeless", "--seed", "9", "--nodes", "3")
        self.assertEqual(status, 1)
        self.assertRegex(out, r"node \d: missed: \w+/1 at 0, neighbour \d at \d+\n  and \d+ more")
        command = "--schedule hopeless --seed 9 --nodes 3 --trace"
        self.assertIn(f"python -m twisted_mesh.simulation {command}", out)
        self.assertEqual(parse(command.split()).seed, 9)

    def test_a_seed_says_how_many_nodes(self) -> None:
        self.assertEqual({nodes_for(seed) for seed in range(100)}, set(range(12, 31)))

    def test_quantiles_of_nothing(self) -> None:
        self.assertEqual((quantile([], 0.5), quantile([1.0, 2.0], 1.0)), (0.0, 2.0))
