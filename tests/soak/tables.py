"""The sizes that the tables of a node, its memory and its open descriptors may have.

Contract: :func:`too_much` gives a sentence for each table that is too large. The limits of
``docs/limits.rst`` are for meshes of thousands; here a table may have entries for each node and run there
was, and none for each message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Final

from tests.soak.told import Weight

#: Tables of things under way, which are empty at rest.
PASSING: Final = frozenset(
    {
        *("holed_streams", "waiting_bytes", "owed", "wants", "pulls", "queued_pulls"),
        *("unsent_batches", "unsent_bytes", "queued_bytes", "untaken_messages", "runs_behind"),
        *("direct_waiting", "direct_bytes", "unacknowledged"),
    }
)
#: Tables that grow with the messages, up to limits of their own.  The first arrivals of the ten seconds
#: before the last message stay: those of a node that pulls all of its history then are thousands.
HISTORY: Final = frozenset(
    {
        *("held_batches", "held_bytes", "stored_batches", "stored_bytes", "unheard_messages"),
        *("ways", "ways_taken", "own_hashes", "first_arrivals"),
    }
)
#: Entries that any table may have beside those for runs and nodes, such as for what came ten seconds ago.
BESIDE: Final = 512
#: Descriptors, beside those of connections, that the first write of a history opens.
FILES: Final = 6
MIB: Final = 2**20
#: Bytes by which the memory of a process may grow from one quarter of its life to the next (guess).
GROWTH: Final = 4 * MIB
STEPS: Final = 24 * MIB  # bytes by which it may grow from the second to the last, however it does (guess)
#: Weights in a quarter of a life, at least: if there are fewer, its memory is not judged (guess).
QUARTER: Final = 5


def too_much(look: dict[str, Any], at_first: dict[str, Any], nodes: int, runs: int) -> Iterator[str]:
    """Yield a sentence for each table that is too large.

    :param look: what a node told at rest.
    :param at_first: the same when the mesh had come together; empty if it was not there.
    :param nodes: there are; :param runs: there have been.
    """
    most = nodes * (nodes + runs) + BESIDE
    for table, entries in look["footprint"].items():
        if table in PASSING and entries:
            yield f"{table} still has {entries}"
        elif table not in HISTORY and table not in PASSING and entries > most:
            yield f"{table} has {entries}, above {most}"
    if at_first and files(look) > files(at_first) + FILES:
        yield f"it has {files(look)} descriptors beside its connections, and had {files(at_first)}"


def growth(weights: Sequence[Weight]) -> Iterator[str]:
    """Yield a sentence if a process has taken ever more memory, or descriptors.

    At first every process grows, so the last three quarters of its life are compared, each with the one
    before.  A step in one of them is no growth without end: malloc() keeps what one burst needed (7 MiB
    within five seconds, and nothing in the five minutes before and after, measured).  Messages are not
    counted, since there are limits for them.

    :param weights: in the order of time; of too few none is judged.
    """
    quarter = len(weights) // 4
    if quarter < QUARTER:
        return
    quarters = [weights[quarter * number :][:quarter] for number in (1, 2, 3)]
    before, between, after = (median(each.resident - each.messages for each in some) for some in quarters)
    least = max(GROWTH, before / 20)
    if min(between - before, after - between) > least or after - before > STEPS:
        yield f"its memory without messages grew from {before / MIB:.0f} to {after / MIB:.0f} MiB"
    before, _, after = (median(each.files for each in some) for some in quarters)
    if after > before + FILES:
        yield f"its descriptors that are no connections grew from {before:.0f} to {after:.0f}"


def files(look: dict[str, Any]) -> int:
    """Open descriptors that are no connections."""
    descriptors: int = look["descriptors"] - look["footprint"]["connections"]
    return descriptors
