"""Figures of a measurement, and what is made of several: medians, ratios, noise.

Contract: pure.  Figures are numbers by name: times in seconds, memory in bytes, ``rate`` in deliveries a
second, ``cost`` in microseconds of CPU of all processes for each delivery, ``wanted`` and ``delivered`` in
deliveries, ``lost`` as their part.  A figure that cannot be told is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Figures = dict[str, float]
Marks = Sequence[Sequence[int]]  # of (count, nanoseconds, bytes), as a node's tally keeps them


@dataclass(frozen=True)
class Record:
    """What one scenario gave with one system in one round.

    :ivar trouble: why there are no figures, or "".
    """

    round: int
    scenario: str
    system: str
    figures: Figures
    trouble: str = ""


@dataclass(frozen=True)
class Spread:
    """Several rounds of one figure: the median, and noise from the least to the greatest."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Of *values*, None of none."""
        some = sorted(values)
        return cls(median(some), some[0], some[-1]) if some else None


@dataclass(frozen=True)
class Results:
    """All of one run.

    :ivar machine: what it ran on, words by name.
    :ivar skipped: systems that could not be measured, and why.
    """

    machine: dict[str, str]
    skipped: dict[str, str]
    records: list[Record]

    @classmethod
    def loaded(cls, value: dict[str, Any]) -> Results:
        """What :func:`dataclasses.asdict` made of one, back from JSON."""
        return cls(value["machine"], value["skipped"], [Record(**one) for one in value["records"]])

    def of(self, scenario: str, system: str) -> list[Record]:
        """The rounds of one scenario with one system."""
        return [one for one in self.records if (one.scenario, one.system) == (scenario, system)]

    def spread(self, scenario: str, system: str, figure: str) -> Spread | None:
        """One figure over all rounds in which it could be told."""
        return Spread.of(one.figures[figure] for one in self.of(scenario, system) if figure in one.figures)

    def ratio(self, scenario: str, system: str, other: str, figure: str) -> float | None:
        """The median of what *system* had for each of *other*, round by round."""
        beside = {one.round: one.figures.get(figure, 0.0) for one in self.of(scenario, other)}
        spread = Spread.of(
            one.figures[figure] / beside[one.round]
            for one in self.of(scenario, system)
            if figure in one.figures and beside.get(one.round)
        )
        return spread.middle if spread else None


def transfer_figures(wanted: int, heard: int, began: int, marks: Sequence[Marks], cpu: float) -> Figures:
    """Of messages that were sent as fast as they were taken.

    :param began: when the first was sent, nanoseconds.
    :param marks: of each node that was to get some.
    :param cpu: seconds, all processes.
    """
    figures: Figures = {"wanted": wanted, "delivered": heard, "lost": (wanted - heard) / wanted}
    ends = [some[-1] for some in marks if some]
    if ends and heard:
        # Whatever came behind the last mark, less than a hundredth of all, came later: it is left out.
        counted = sum(count for count, *_ in ends)
        seconds = (max(at for _, at, _ in ends) - began) / 1e9
        figures |= {"seconds": seconds, "rate": counted / seconds, "cost": cpu / heard * 1e6}
    return figures


def rate_between(marks: Marks, wanted: int) -> Figures:
    """How fast the first and the last tenth of *wanted* came, and the receiver's memory at both moments.

    ``kept`` is what is left of the first rate at the end.
    """
    figures: Figures = {}
    for name, low, high in (("early", 0.0, 0.1), ("late", 0.9, 1.0)):
        first = next((mark for mark in marks if mark[0] >= max(1, low * wanted)), None)
        last = next((mark for mark in marks if mark[0] >= high * wanted), None)
        if first and last and last[1] > first[1]:
            figures[f"{name}_rate"] = (last[0] - first[0]) / (last[1] - first[1]) * 1e9
            figures[f"receiver_{name}"] = last[2]
    if "early_rate" in figures and "late_rate" in figures:
        figures["kept"] = figures["late_rate"] / figures["early_rate"]
    return figures


def request_figures(count: int, marks: Marks, began: int, cpu: float) -> Figures:
    """Of requests of which several were under way at a time; *cpu*: seconds, all processes."""
    figures: Figures = {"wanted": count, "delivered": marks[-1][0] if marks else 0}
    figures["lost"] = (count - figures["delivered"]) / count
    if marks:
        at, when, _ = marks[-1]
        figures |= {"rate": at / (when - began) * 1e9, "cost": cpu / at * 1e6}
    return figures


def delay_figures(wanted: int, delays: Sequence[int]) -> Figures:
    """Of messages that were sent one at a time.

    :param delays: nanoseconds from each one's sending to its arrival.
    """
    figures: Figures = {"wanted": wanted, "delivered": len(delays), "lost": (wanted - len(delays)) / wanted}
    if delays:
        some = sorted(delays)
        at = {"p50": len(some) // 2, "p99": len(some) * 99 // 100, "max": len(some) - 1}
        figures |= {name: some[place] / 1e9 for name, place in at.items()}
    return figures
