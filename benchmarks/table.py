"""The results as reStructuredText, ready for a page.

Contract: pure.  Each figure is the median of the rounds, with noise in brackets, from the least to the
greatest; a ratio is the median of the rounds' ratios.  A system without figures has a row that says so, and
a line below the table that says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from textwrap import fill

from benchmarks.catalogue import SYSTEMS
from benchmarks.figures import Results, Spread
from benchmarks.scenarios import SCENARIOS, Consumers, Latency, Memory, Requests, Scenario, Transfer

MIB = 2**20
_NONE = "-"
_LINE = 116  # characters, as in the pages

#: The heading of a column, and the cell of a system.
Column = tuple[str, Callable[[Results, str, str], str]]


def rounded(value: float) -> str:
    """*value* with three digits that count, as people write it."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def noisy(spread: Spread | None, unit: float = 1.0) -> str:
    """The median and its noise, in *unit*."""
    if spread is None:
        return _NONE
    middle, least, most = (rounded(value / unit) for value in (spread.middle, spread.least, spread.most))
    return middle if least == most else f"{middle} ({least}-{most})"


def plain(spread: Spread | None, unit: float = 1.0) -> str:
    """The median alone."""
    return _NONE if spread is None else rounded(spread.middle / unit)


def losses(spread: Spread | None) -> str:
    """Parts of what was to be delivered; less than nothing is what came twice."""
    if spread is None:
        return _NONE
    if spread.least == spread.most == 0:
        return "none"
    if spread.least < 0:
        return f"{-spread.least:.2%} twice"
    parts = [f"{value * 100:.2g} %" for value in (spread.middle, spread.least, spread.most)]
    return parts[0] if parts[1] == parts[2] else f"{parts[0]} ({parts[1]}-{parts[2]})"


def figure(
    name: str, unit: float = 1.0, show: Callable[[Spread | None, float], str] = plain
) -> Callable[..., str]:
    """The cell of one figure."""
    return lambda results, scenario, system: show(results.spread(scenario, system, name), unit)


def beside(other: str, name: str) -> Callable[..., str]:
    """The cell of a ratio."""

    def cell(results: Results, scenario: str, system: str) -> str:
        ratio = results.ratio(scenario, system, other, name)
        return _NONE if ratio is None else f"{ratio:.2g}" if ratio < 0.1 else f"{ratio:.2f}"

    return cell


def lost(results: Results, scenario: str, system: str) -> str:
    """The cell of losses."""
    return losses(results.spread(scenario, system, "lost"))


def peak(results: Results, scenario: str, system: str) -> str:
    """The cell of memory: of the fattest node, and the server's if there is one."""
    node = figure("peak", MIB)(results, scenario, system)
    server = results.spread(scenario, system, "server")
    return f"{node} + {plain(server, MIB)}" if server else node


def change(before: str, after: str, unit: float) -> Callable[..., str]:
    """The cell of what became of a figure."""
    ends = figure(before, unit), figure(after, unit)

    def cell(results: Results, scenario: str, system: str) -> str:
        told = [end(results, scenario, system) for end in ends]
        return _NONE if _NONE in told else " to ".join(told)

    return cell


COLUMNS: dict[str, list[Column]] = {
    "transfer": [
        ("Deliveries a second", figure("rate", show=noisy)),
        ("of raw", beside("raw", "rate")),
        ("of nats", beside("nats", "rate")),
        ("Lost", lost),
        ("us CPU", figure("cost")),
        ("CPU of nats-tls", beside("nats-tls", "cost")),
        ("MiB", peak),
    ],
    "requests": [
        ("Requests a second", figure("rate", show=noisy)),
        ("of nats-tls", beside("nats-tls", "rate")),
        ("Lost", lost),
        ("us CPU", figure("cost")),
        ("p50, us", figure("p50", 1e-6, noisy)),
        ("p99, us", figure("p99", 1e-6, noisy)),
        ("Longest, us", figure("max", 1e-6, noisy)),
    ],
    "long": [
        ("First tenth, a second", figure("early_rate", show=noisy)),
        ("Last tenth", figure("late_rate", show=noisy)),
        ("kept", figure("kept")),
        ("Lost", lost),
        ("Receiver, MiB", change("receiver_early", "receiver_late", MIB)),
        ("Sender, MiB", change("sender_early", "sender_late", MIB)),
    ],
    "consumers": [
        ("Deliveries a second", figure("rate", show=noisy)),
        ("of mesh-messages", beside("mesh-messages", "rate")),
        ("Lost", lost),
        ("us CPU", figure("cost")),
    ],
    "latency": [
        ("p50, us", figure("p50", 1e-6, noisy)),
        ("p99, us", figure("p99", 1e-6, noisy)),
        ("Longest, us", figure("max", 1e-6, noisy)),
        ("p50 of nats-tls", beside("nats-tls", "p50")),
        ("Lost", lost),
    ],
    "memory": [
        ("Idle, MiB", figure("idle", MIB, noisy)),
        ("With all links, MiB", figure("linked", MIB, noisy)),
        ("A link, KiB", figure("link", 1024, noisy)),
    ],
}


def columns_of(scenario: Scenario) -> list[Column]:
    """What the table of a scenario tells."""
    match scenario:
        case Consumers():
            return COLUMNS["consumers"]
        case Transfer(long=True):
            return COLUMNS["long"]
        case Transfer():
            return COLUMNS["transfer"]
        case Requests():
            return COLUMNS["requests"]
        case Latency():
            return COLUMNS["latency"]
        case Memory():
            return COLUMNS["memory"]
    raise TypeError(scenario)


def grid(rows: Sequence[Sequence[str]]) -> str:
    """A simple table; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join((rule, lines[0], rule, *lines[1:], rule))


def words(text: str) -> str:
    """*text* without what reStructuredText would take for markup."""
    return re.sub(r"[^\w .,:;()/=+-]", "", text)


def troubles(results: Results, scenario: str, system: str) -> list[str]:
    """What went wrong, a line for each reason."""
    if system in results.skipped:
        return [f"* {system}: not measured: {words(results.skipped[system])}"]
    played = results.of(scenario, system)
    reasons = [record.trouble for record in played if record.trouble]
    return [
        f"* {system}: {reasons.count(reason)} of {len(played)} rounds: {words(reason)}"
        for reason in dict.fromkeys(reasons)
    ]


def section(results: Results, scenario: Scenario) -> str:
    """The table of one scenario, "" if it was not played."""
    names = [
        system.name
        for system in SYSTEMS.values()
        if scenario.suits(system)
        and (results.of(scenario.name, system.name) or system.name in results.skipped)
    ]
    if not any(results.of(scenario.name, name) for name in names):
        return ""
    columns = columns_of(scenario)
    rows = [["System", "Covered by", *(heading for heading, _ in columns)]]
    rows += [
        [name, SYSTEMS[name].cover.value, *(cell(results, scenario.name, name) for _, cell in columns)]
        for name in names
    ]
    notes = [line for name in names for line in troubles(results, scenario.name, name)]
    return "\n\n".join(part for part in (f"**{scenario.title}**", grid(rows), "\n".join(notes)) if part)


def page(results: Results) -> str:
    """What was measured on what, and all tables."""
    machine = "; ".join(f"{name} {words(value)}" for name, value in results.machine.items())
    seen = {record.system for record in results.records} | set(results.skipped)
    described = "\n".join(
        f"{name}\n{fill(system.what + '.', _LINE, initial_indent='    ', subsequent_indent='    ')}"
        for name, system in SYSTEMS.items()
        if name in seen
    )
    sections = [section(results, scenario) for scenario in SCENARIOS.values()]
    return "\n\n".join(part for part in (f"Measured with: {machine}.", described, *sections) if part) + "\n"
