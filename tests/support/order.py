"""The order of tests: those of processes, which wait, begin between the others, which compute.

Trial hands tests to its workers in the order of their names.  So all workers had tests of processes at the
same time, and the cores had little to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from unittest import TestCase, TestSuite

from twisted.trial.runner import TestLoader

_WAITING: Final = "tests.processes."  # the ids of tests that wait begin with this
_LAST: Final = 0.9  # of the other tests have begun when the last of these begins


def each(suite: TestSuite) -> Iterator[TestCase]:
    """Each test in *suite*."""
    for test in suite:
        if isinstance(test, TestSuite):
            yield from each(test)
        else:
            yield test


def mixed(tests: list[TestCase]) -> list[TestCase]:
    """*tests* with those that wait at even distances between the others."""
    waiting = [test for test in tests if test.id().startswith(_WAITING)]
    others = [test for test in tests if not test.id().startswith(_WAITING)]
    places = [(number * _LAST * len(others) / len(waiting), test) for number, test in enumerate(waiting)]
    return [test for _, test in sorted([*places, *enumerate(others)], key=lambda placed: placed[0])]


def mix() -> None:
    """Let trial load the tests of a package in this order."""
    load = TestLoader.loadPackage

    def load_mixed(self: Any, package: Any, recurse: bool = False) -> Any:
        return self.suiteFactory(mixed(list(each(load(self, package, recurse)))))

    TestLoader.loadPackage = load_mixed  # type: ignore[method-assign]
