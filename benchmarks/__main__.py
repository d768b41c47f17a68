"""The mesh beside raw Twisted and what people would take instead: ``python -m benchmarks``.

Every node is a process, every system has an environment of its own, and the rounds take turns: the first of
all systems, then the second, so that a busy moment of the machine meets all alike.  Tables go to standard
output as reStructuredText, what is going on to standard error.  A system that cannot be measured here is
told in each table; nothing is left out in silence.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.cast import Cast, Failed
from benchmarks.catalogue import SYSTEMS, System
from benchmarks.environments import Unavailable, default_folder, python_of, server_command
from benchmarks.figures import Record, Results
from benchmarks.plot import svg
from benchmarks.scenarios import SCENARIOS, Casting, Scenario
from benchmarks.table import page

_ROUNDS, _QUICK_ROUNDS = 5, 2
_QUICK_PART = 0.2


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition(":")[0]
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a fifth of the messages and two rounds")
    add("--rounds", type=int, help=f"how many ({_ROUNDS}, with --quick {_QUICK_ROUNDS})")
    add("--only", nargs="+", choices=SYSTEMS, metavar="SYSTEM", help=f"of {', '.join(SYSTEMS)}")
    add("--scenario", nargs="+", choices=SCENARIOS, metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}")
    add("--json", type=Path, metavar="FILE", help="write all figures of all rounds there")
    add("--read", type=Path, metavar="FILE", help="measure nothing, show what --json wrote")
    add("--plot", type=Path, metavar="FILE", help="draw the rates as SVG there")
    add("--environments", type=Path, metavar="FOLDER", default=default_folder(), help="%(default)s")
    options = parser.parse_args(arguments)
    options.part = _QUICK_PART if options.quick else 1.0
    options.rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    return options


def prepared(systems: Sequence[System], folder: Path) -> tuple[dict[str, Casting], dict[str, str]]:
    """How each system is started, and why those are not that cannot be."""
    ready: dict[str, Casting] = {}
    skipped: dict[str, str] = {}
    for system in systems:
        print(f"{system.name}: looking for its environment", file=sys.stderr)
        try:
            ready[system.name] = partial(Cast, system, python_of(system, folder), server_command(system))
        except Unavailable as error:
            skipped[system.name] = str(error)
    return ready, skipped


def played(number: int, scenario: Scenario, system: System, cast: Casting, part: float) -> Record:
    """One measurement."""
    began = time.monotonic()
    try:
        record = Record(number, scenario.name, system.name, scenario.play(system, cast, part))
    except Failed as error:
        record = Record(number, scenario.name, system.name, {}, str(error))
    told = record.trouble or ", ".join(f"{name} {value:.4g}" for name, value in record.figures.items())
    seconds = time.monotonic() - began
    print(f"round {number}, {scenario.name}, {system.name}, {seconds:.1f} s: {told}", file=sys.stderr)
    return record


def is_profiled() -> bool:
    """Whether this Python was built with the profile of a run (PGO), which makes it faster."""
    return "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")


def measured(options: argparse.Namespace) -> Results:
    """All rounds of all scenarios with all systems that were asked for."""
    systems = [SYSTEMS[name] for name in SYSTEMS if name in (options.only or SYSTEMS)]
    scenarios = [SCENARIOS[name] for name in SCENARIOS if name in (options.scenario or SCENARIOS)]
    machine = {
        "cores": str(os.cpu_count()),
        "load before the run": f"{os.getloadavg()[0]:.1f}",
        "Python": f"{platform.python_version()} {'with' if is_profiled() else 'without'} PGO",
        "Linux": platform.release().partition("-")[0],
        "rounds": str(options.rounds),
        "share of all messages sent": f"{options.part:g}",
    }
    ready, skipped = prepared(systems, options.environments)
    records = [
        played(number, scenario, system, ready[system.name], options.part)
        for number in range(1, options.rounds + 1)
        for scenario in scenarios
        for system in systems
        if system.name in ready and scenario.suits(system)
    ]
    return Results(machine, skipped, records)


def main() -> None:
    """Measure, or read what was measured; show it."""
    options = parsed()
    if options.read:
        results = Results.loaded(json.loads(options.read.read_text()))
    else:
        results = measured(options)
    if options.json:
        options.json.write_text(json.dumps(asdict(results), indent=1) + "\n")
    if options.plot:
        options.plot.write_text(svg(results))
    print(page(results), end="")


if __name__ == "__main__":
    main()
