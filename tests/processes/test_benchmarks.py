"""The benchmarks with real nodes, at a size at which their figures mean nothing."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks import scenarios
from benchmarks.cast import ROOT, Cast, Failed
from benchmarks.catalogue import SYSTEMS
from benchmarks.figures import Figures
from benchmarks.lone import RECEIVER, SENDER
from benchmarks.scenarios import Latency, Memory, Requests, Scenario, Transfer
from tests.support.length import only_at_length


def pids_of_nodes() -> set[str]:
    """The ids of the child processes."""
    mine = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"\nPPid:\t{os.getpid()}\n" in status.read_text():
                mine.add(status.parent.name)
        except OSError:
            pass  # it has just ended
    return mine


class PlayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(scenarios, "_SETTLE", 0.0)
        self.patch(scenarios, "_LINK_SETTLE", 0.0)
        before = pids_of_nodes()
        self.addCleanup(lambda: self.assertEqual(pids_of_nodes(), before))

    def play(self, name: str, scenario: Scenario) -> Figures:
        """Play *scenario* once."""
        system = SYSTEMS[name]
        return scenario.play(system, partial(Cast, system, Path(sys.executable), None), 1.0)

    def run_module(self, *arguments: str) -> str:
        """Run ``python -m`` with *arguments*; return its output."""
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_raw_twisted_delivers_to_all(self) -> None:
        only_at_length()
        figures = self.play("raw", Transfer("", "", nodes=3, senders=1, size=64, count=1000))
        self.assertEqual((figures["wanted"], figures["delivered"], figures["lost"]), (2000, 2000, 0))
        self.assertGreater(figures["rate"], 0)

    def test_the_mesh_delivers_whoever_sends(self) -> None:
        only_at_length()
        figures = self.play("mesh", Transfer("", "", nodes=3, senders=3, size=64, count=300, long=True))
        self.assertEqual((figures["wanted"], figures["delivered"]), (600, 600))
        self.assertGreater(figures["sender_late"], 0)

    def test_latency_over_hops(self) -> None:
        only_at_length()
        for name, hops in (("raw", 1), ("mesh", 1), ("mesh", 3)):
            figures = self.play(name, Latency("", "", hops=hops, count=20, rate=200))
            self.assertEqual(figures["lost"], 0)
            self.assertTrue(0 < figures["p50"] <= figures["max"] < 10)

    def test_requests_are_answered(self) -> None:
        only_at_length()
        figures = self.play("mesh", Requests("", "", count=50, together=5))
        self.assertEqual((figures["delivered"], figures["lost"]), (50, 0))
        self.assertTrue(0 < figures["p50"] <= figures["max"] < 10)

    def test_idle_members_cost_something(self) -> None:
        only_at_length()
        told = self.run_module("benchmarks.idle", "--members", "10", "--seconds", "1")
        self.assertRegex(told, r"^10 members, 0\.3 records a second: -?[0-9.]+ MiB, -?[0-9.]+ ms of")

    def test_held_batches_take_what_is_counted_for_them(self) -> None:
        only_at_length()
        _, *rows = self.run_module("benchmarks.held").splitlines()
        for row in rows:
            *_, packed, took, counted = (int(figure) for figure in row.replace(",", "").split())
            self.assertTrue(packed < took < 1.03 * counted)

    def test_memory(self) -> None:
        only_at_length()
        for name in ("raw", "mesh"):
            figures = self.play(name, Memory("", ""))
            self.assertGreater(min(figures["idle"], figures["linked"], figures["peak"]), 2**20)

    def test_what_a_node_cannot_do_is_told(self) -> None:
        system = SYSTEMS["raw"]
        with Cast(system, Path(sys.executable), None, 1, False) as nodes:
            told = self.assertRaises(Failed, nodes.players[0].ask, "connect", 1)
            self.assertIn("node 0 of raw: ConnectionRefusedError", str(told))
            nodes.players[0].ask("pace", 1, 64, "never")
            told = self.assertRaises(Failed, scenarios.whole, nodes)
            self.assertIn("node 0 of raw broke off: TypeError", str(told))
            nodes.players[0].end()
            told = self.assertRaises(Failed, nodes.players[0].answer)
            self.assertEqual(str(told), "node 0 of raw has ended: without a word")

    def test_the_command_prints_tables_and_writes_what_it_measured(self) -> None:
        only_at_length()
        folder = Path(self.mktemp())
        folder.mkdir()
        figures, plot = folder.absolute() / "figures.json", folder.absolute() / "plot.svg"
        command = ["benchmarks", "--quick", "--rounds", "1", "--only", "raw"]
        command += ["--scenario", "hop-64k", "--json", str(figures), "--plot", str(plot)]
        told = self.run_module(*command)
        self.assertIn("**One hop, 64 KiB**", told)
        self.assertEqual(len(json.loads(figures.read_text())["records"]), 1)
        self.assertIn("<circle", plot.read_text())
        self.assertEqual(self.run_module("benchmarks", "--read", str(figures)), told)

    def test_a_lone_message_is_timed_step_by_step(self) -> None:
        only_at_length()
        *lines, whole = self.run_module("benchmarks.lone", "--messages", "20").splitlines()
        each = {line[:30].strip(): int(line[30:]) for line in lines}
        self.assertEqual(list(each), [*SENDER, *RECEIVER])
        self.assertGreater(min(each.values()), 0)  # the steps end in this order
        self.assertIn("in all", whole)
