"""``python -m twisted_mesh.simulation``: plays schedules, and checks the promises of the nodes.

Contract: the exit status is 0 if no promise was broken in any run.  Otherwise it is 1, and the first broken
promise of each run is printed, with the command that plays the run again and shows each frame.  Ctrl-C ends
it with the results of the runs that are over, and with status 130 if no promise was broken in them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from math import inf

from twisted_mesh.grammar import counted
from twisted_mesh.simulation.report import Result, measure, summary, table
from twisted_mesh.simulation.scenarios.asking import ASKING, Asking
from twisted_mesh.simulation.scenarios.attacks import ATTACKS
from twisted_mesh.simulation.scenarios.certified import CERTIFIED
from twisted_mesh.simulation.scenarios.consuming import CONSUMING, Consuming
from twisted_mesh.simulation.scenarios.granted import GRANTED
from twisted_mesh.simulation.scenarios.joint import Joint
from twisted_mesh.simulation.scenarios.large import LARGE
from twisted_mesh.simulation.scenarios.lines import LINES
from twisted_mesh.simulation.scenarios.listed import LISTED
from twisted_mesh.simulation.scenarios.outsiders import OUTSIDERS
from twisted_mesh.simulation.scenarios.scenes import SCENES
from twisted_mesh.simulation.scenarios.schedules import SCHEDULES, Play
from twisted_mesh.simulation.scenarios.stage import Scene
from twisted_mesh.simulation.trace import TraceDigest
from twisted_mesh.simulation.world import World

INTERRUPTED = 130  # the exit status after Ctrl-C, as of a shell
_BAR = 30
JOINT = "joint"  # the name of the schedule in which everything happens at once
STAGED: dict[str, Scene] = {
    **SCENES,
    **LINES,
    **ATTACKS,
    **OUTSIDERS,
    **LISTED,
    **GRANTED,
    **CERTIFIED,
    **LARGE,
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m twisted_mesh.simulation",
        description="Play schedules of loss, crash and partition, and check every promise.",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run (default 1)")
    parser.add_argument("--runs", type=int, default=1, help="seeds to play, one after the other")
    parser.add_argument(
        "--nodes",
        type=span,
        default=range(1),
        metavar="N",
        help="nodes in each run; LOW-HIGH: a number of these by the seed (default: as the schedule says)",
    )
    parser.add_argument(
        "--schedule",
        choices=[*SCHEDULES, *ASKING, *CONSUMING, JOINT, *STAGED, "all"],
        default="all",
        metavar="NAME",
        help=f"one of {', '.join((*SCHEDULES, *ASKING, *CONSUMING, JOINT, *STAGED))} "
        "(default: all but those that take minutes)",
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no new run after so many minutes")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--trace", action="store_true", help="print every frame (of one run)")
    shown.add_argument(
        "--digest", action="store_true", help="print the SHA-256 of each run's trace, to compare runs"
    )
    return parser.parse_args(arguments)


def span(text: str) -> range:
    """The numbers of nodes that ``--nodes`` names."""
    low, _, high = text.partition("-")
    nodes = range(int(low), int(high or low) + 1)
    if not nodes:
        raise ValueError
    return nodes


def nodes_for(seed: int) -> int:
    """How many nodes the run of *seed* has if ``--nodes`` does not say it."""
    return 12 + seed % 19


def play(
    name: str, seed: int, nodes: int, tracing: Callable[[str], None] | None = None, bar: bool = False
) -> tuple[World, Sequence[str]]:
    """Play one run; return the world at its end, and notes for people.

    :param nodes: how many there are; 0: as many as the schedule says.
    :param tracing: called with each line of the trace.
    :param bar: whether to show a progress bar.
    """

    def progress(share: float) -> None:
        if bar:
            done = int(share * _BAR)
            print(f"\r{name:>12} {seed:>6} [{'#' * done:<{_BAR}}]", end="", file=sys.stderr)

    notes: Sequence[str] = ()
    if name in SCHEDULES:
        world = Play(SCHEDULES[name], seed, nodes or nodes_for(seed), tracing).run(progress)
    elif name in ASKING:
        world = Asking(ASKING[name], seed, nodes or nodes_for(seed), tracing).run(progress)
    elif name in CONSUMING:
        world = Consuming(CONSUMING[name], seed, nodes or nodes_for(seed), tracing).run(progress)
    elif name == JOINT:
        world = Joint(seed, nodes or nodes_for(seed), tracing).run(progress)
    else:
        stage = STAGED[name].run(seed, nodes, tracing)
        world, notes = stage.world, stage.notes
        progress(1.0)
    return world, notes


def result_of(name: str, seed: int, options: argparse.Namespace) -> Result:
    """Play one run, and return its numbers."""
    began = time.perf_counter()
    digest = TraceDigest() if options.digest else None
    tracing = print if options.trace else None if digest is None else digest.add
    nodes = options.nodes[seed % len(options.nodes)]
    world, notes = play(name, seed, nodes, tracing, sys.stderr.isatty())
    seconds = time.perf_counter() - began
    return measure(name, seed, world, seconds, notes, "" if digest is None else str(digest))


def main(arguments: Sequence[str]) -> int:
    """Play the runs that *arguments* ask for; return the exit status."""
    options = parse(arguments)
    staged = [name for name in STAGED if not STAGED[name].is_large]
    everything = [*SCHEDULES, *ASKING, *CONSUMING, JOINT, *staged]
    names = everything if options.schedule == "all" else [options.schedule]
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else inf
    results: list[Result] = []
    interrupted = False
    try:
        for seed in range(options.seed, options.seed + options.runs):
            results.extend(result_of(name, seed, options) for name in names if time.monotonic() < deadline)
    except KeyboardInterrupt:
        interrupted = True
    if sys.stderr.isatty():
        print("\r" + " " * (_BAR + 24) + "\r", end="", file=sys.stderr)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    rows = [result.row() for result in results]
    print(table(rows, width) if len(results) <= 40 else summary(results, width))
    for result in results if len(results) <= 40 or len(names) == 1 else ():
        for note in result.notes:
            print(f"{result.schedule} {result.seed}: {note}")
    for result in results:
        if result.digest:
            print(f"{result.schedule} {result.seed}, {result.nodes} nodes: {result.digest}")
    broken = [result for result in results if result.violations]
    for result in broken[:10]:
        print(
            f"\n{result.violations[0]}\n  and {len(result.violations) - 1} more; again, with a trace:\n"
            f"  python -m twisted_mesh.simulation --schedule {result.schedule} --seed {result.seed} "
            f"--nodes {result.nodes} --trace"
        )
    stopped = "; interrupted" if interrupted else ""
    print(f"\n{counted(len(results), 'run')}, {len(broken)} with a broken promise{stopped}")
    return 1 if broken else INTERRUPTED if interrupted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
