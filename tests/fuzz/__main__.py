"""``python -m tests.fuzz TARGET ... --seconds N``: fuzzes targets, guided by coverage.

Contract: atheris must be installed.  Each target is fuzzed in a process of its own, two at a time, from the
committed corpus on.  The exit status is 0 if no target failed.  Otherwise the input is printed: a line for
the file of the target in ``tests/fuzz/corpus``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from tests.fuzz import corpus

ROOT: Final = Path(__file__).parent.parent.parent
_AT_ONCE: Final = 2  # targets
_MEGABYTES: Final = 512  # of a process; atheris, Twisted and this package take 90
_SLOWEST: Final = 10  # seconds for one input


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the package.")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(corpus.NAMES)} (default: all)"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: drawn)")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="write a small corpus that reaches every branch that was reached",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(corpus.NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    return options


class Fuzzing:
    """The fuzzing of one target, in a folder of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder
        self._command = folder / "command"
        self._command.write_text(
            f'#!/bin/sh\nexec {sys.executable} -m tests.fuzz.engine "$0" {name} "$@"\n'
        )
        self._command.chmod(0o700)
        for each in ("found", "kept", "failed"):
            (folder / each).mkdir()
        for number, data in enumerate(corpus.read(name)):
            (folder / "found" / f"committed-{number:04}").write_bytes(data)

    def run(self, seconds: int, seed: int) -> bool:
        """Fuzz for *seconds*; return whether the target never failed."""
        failed = self._folder / "failed"
        flags = (f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={failed}/")
        limits = (f"-rss_limit_mb={_MEGABYTES}", f"-timeout={_SLOWEST}", "-print_final_stats=1")
        said = self._start(*flags, *limits, str(self._folder / "found"))
        executed = re.search(r"number_of_executed_units: +(\d+)", said)
        reached = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", said)
        if not executed or not reached or any(failed.iterdir()):
            print(said)
            for path in failed.iterdir():
                print(f"{self._name} failed ({path.name}); as a line of {corpus.path(self._name)}:")
                print(path.read_bytes().hex())
            return False
        covered, features, inputs = reached[-1]
        print(
            f"{self._name}: {executed[1]} inputs in {seconds} s; {inputs} reach {covered} branches "
            f"({features} features)",
            flush=True,
        )
        return True

    def keep(self) -> None:
        """Replace the committed corpus by a small one that reaches every branch that was reached."""
        folders = (str(self._folder / "kept"), str(self._folder / "found"))
        # With counters, eight times as many inputs are kept: those that reach a branch more often, too.
        self._start("-set_cover_merge=1", "-use_counters=0", *folders)
        corpus.write(self._name, (path.read_bytes() for path in (self._folder / "kept").iterdir()))

    def _start(self, *flags: str) -> str:
        done = subprocess.run(
            [str(self._command), *flags],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
            errors="replace",
        )
        return done.stdout


def fuzz(options: argparse.Namespace, name: str) -> bool:
    """Fuzz the target *name*; return whether it never failed."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        fuzzing = Fuzzing(name, Path(folder))
        is_good = fuzzing.run(options.seconds, options.seed)
        if is_good and options.keep:
            fuzzing.keep()
        return is_good


def main(arguments: Sequence[str]) -> int:
    """Fuzz the targets that *arguments* name; return the exit status."""
    options = parse(arguments)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        good = list(threads.map(partial(fuzz, options), options.targets or corpus.NAMES))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
