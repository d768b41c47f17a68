"""The seconds of each rung of the tests: ``python -m twisted.trial -j 3 tests | python tests/rungs.py``.

It passes on what trial prints, and adds a line for each rung.  Trial begins the tests of a package one
after the other: so the seconds before a result count for its package.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

#: By rung, which is packages and modules of ``tests``: its seconds on two idle cores. Tests of processes
#: run while others do (:mod:`tests.support.order`), so little time is theirs alone.
RUNGS: Final = {
    "core wire values benchmarks": 9,
    "properties fuzz": 6,
    "eventloop addressing links storage delivery runtime service trust cli admin memory threads": 24,
    "simulation": 24,
    "processes soak": 6,
    "blocking awaiting": 2,
    "browser test_docs test_house": 4,
}


def rung_of(module: str) -> str:
    """The rung of a module of tests; empty if it has none."""
    package = module.strip().split(".")[1]
    return next((rung for rung in RUNGS if package in rung.split()), "")


def measured(lines: Iterable[str], seconds: Callable[[], float] = time.monotonic) -> Iterator[str]:
    """Each line as it comes, and at the end a line for each rung."""
    taken: Counter[str] = Counter()
    rung, last = "", seconds()
    for line in lines:
        yield line
        if line.startswith("tests."):  # the module of the results that follow
            rung = rung_of(line)
        elif not line.startswith(" "):  # before the first result, or after the last
            rung = ""
        now = seconds()
        taken[rung] += now - last
        last = now
    for rung, most in RUNGS.items():
        yield f"rung: {taken[rung]:5.1f} of {most:2} s: {rung}\n"


if __name__ == "__main__":
    for shown in measured(sys.stdin):
        print(shown, end="", flush=True)
