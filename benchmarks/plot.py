"""The rates as a picture: SVG, a dot for each system in each scenario, with its noise.

Contract: pure; equal results give equal bytes.  Written here and not by a library, since it is forty
shapes, and whoever measures needs nothing installed for it.  The colours are read on white and on black:
a page does not say to an image which of the two it has.
"""

from __future__ import annotations

from math import ceil, floor, log10
from xml.sax.saxutils import escape

from benchmarks.catalogue import SYSTEMS, Cover
from benchmarks.figures import Results, Spread
from benchmarks.scenarios import SCENARIOS, Transfer

_WIDTH, _LEFT, _RIGHT = 720, 110, 40
_ROW, _HEAD, _FOOT = 16, 26, 44
_TEXT, _LINE, _OTHER, _OURS = "#767676", "#a0a0a080", "#3f7fbf", "#d9622b"

Group = tuple[str, list[tuple[str, Spread]]]


def groups(results: Results) -> list[Group]:
    """The title of each scenario that has rates, and those of its systems."""
    found = []
    for scenario in SCENARIOS.values():
        if isinstance(scenario, Transfer) and not scenario.long:
            rates = {name: results.spread(scenario.name, name, "rate") for name in SYSTEMS}
            if some := [(name, rate) for name, rate in rates.items() if rate is not None]:
                found.append((scenario.title, some))
    return found


class Scale:
    """Powers of ten from left to right."""

    def __init__(self, rates: list[Spread]) -> None:
        self.low = floor(log10(min(rate.least for rate in rates)))
        self.high = max(self.low + 1, ceil(log10(max(rate.most for rate in rates))))

    def at(self, value: float) -> str:
        """Where *value* stands."""
        part = (log10(value) - self.low) / (self.high - self.low)
        return f"{_LEFT + part * (_WIDTH - _LEFT - _RIGHT):.1f}"


def text(at: str, y: int, words: str, more: str = "") -> str:
    """A piece of text."""
    return f'<text x="{at}" y="{y}"{more}>{escape(words)}</text>'


def svg(results: Results) -> str:
    """The picture, "" if there is nothing to see."""
    drawn = groups(results)
    if not drawn:
        return ""
    scale = Scale([rate for _, some in drawn for _, rate in some])
    shapes: list[str] = []
    y = 0
    for title, some in drawn:
        y += _HEAD
        shapes.append(text("4", y - 6, title, ' font-weight="bold"'))
        for name, rate in some:
            colour = _OURS if SYSTEMS[name].cover is Cover.SIGNED else _OTHER
            middle, least, most = map(scale.at, (rate.middle, rate.least, rate.most))
            shapes.append(text(str(_LEFT - 8), y + 12, name, ' text-anchor="end"'))
            shapes.append(f'<path d="M{least} {y + 8}H{most}" stroke="{colour}" stroke-width="3"/>')
            shapes.append(f'<circle cx="{middle}" cy="{y + 8}" r="5" fill="{colour}"/>')
            y += _ROW
    lines = []
    for power in range(scale.low, scale.high + 1):
        at = scale.at(10.0**power)
        lines.append(f'<path d="M{at} {_HEAD}V{y + 4}" stroke="{_LINE}"/>')
        lines.append(text(at, y + 18, f"{10**power:,}", ' text-anchor="middle"'))
    foot = text(str(_WIDTH // 2), y + 36, "deliveries a second", ' text-anchor="middle"')
    height = y + _FOOT
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="{_TEXT}">'
    )
    return "\n".join((head, *lines, *shapes, foot, "</svg>")) + "\n"
