"""The table that is printed after a soak: a line for each node.

Contract: the figures are of the judge's; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from tests.soak.cast import Actor
from tests.soak.judge import Judge
from tests.soak.tables import HISTORY, MIB
from tests.soak.told import KILLED, STOPPED

COLUMNS: Final = (
    "node", "kind", "sent", "lost", "delivered", "again", "gaps",
    "kills", "stops", "still", "clock", "tables", "files", "MiB",
)  # fmt: skip


def table(actors: Iterable[Actor], judge: Judge) -> Iterator[str]:
    """The lines of the table."""
    rows = [COLUMNS, *(_row(actor, judge) for actor in actors)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(COLUMNS))]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _row(actor: Actor, judge: Judge) -> Sequence[str]:
    lives = actor.lives
    kind = ("store" if actor.stored else "memory") + (", slow" if actor.slow else "")
    weights = lives[-1].weights
    first, last = lives[0].at_first, lives[-1].looks[-1] if lives[-1].looks else {}
    return (
        str(actor.number),
        kind,
        str(sum(len(life.sent) for life in lives)),
        str(sum(judge.unseen(life) for life in lives)),
        str(sum(len(life.got) for life in lives)),
        str(judge.again[actor.number]),
        str(sum(len(life.gaps) for life in lives)),
        str(sum(life.ended == KILLED for life in lives)),
        str(sum(life.ended == STOPPED for life in lives[:-1])),
        str(actor.stops),
        str(actor.jumps),
        f"{entries(first)}-{entries(last)}",
        f"{first.get('descriptors', '')}-{last.get('descriptors', '')}",
        "-".join(f"{weight.resident / MIB:.0f}" for weight in (weights[:1] + weights[-1:])),
    )


def entries(look: dict[str, Any]) -> str:
    """Entries of all tables but what is held of messages, and what only counts up."""
    if not look:
        return ""
    return str(sum(count for key, count in look["footprint"].items() if key not in HISTORY))
