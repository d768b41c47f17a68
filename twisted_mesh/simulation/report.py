"""The results of runs as a table of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twisted_mesh.simulation.observing import BROKEN
from twisted_mesh.simulation.world import World

COLUMNS = (
    "schedule", "seed", "nodes", "delivered", "redundancy", "HAVE", "WANT",
    "p50 s", "p99 s", "max s", "hops", "gaps", "false", "twice", "order", "missed", "stalls",
    "islands", "rosters", "downs", "limits", "receipts", "directs", "outsiders", "frames/s",
)  # fmt: skip
_GAP = "  "  # between two columns


@dataclass(frozen=True)
class Result:
    """The numbers of one run.

    :ivar redundancy: needless batches for each delivery: those sent over links, less the one needed.
    :ivar announcements: HAVE frames for each delivery.
    :ivar hops: the links that a batch has gone over, on average.
    :ivar broken: how many promises were broken, in the order of :data:`~.observing.BROKEN`.
    :ivar latencies: of the deliveries in seconds, sorted.
    :ivar notes: further results, as lines of text.
    :ivar digest: of the trace, or empty.
    """

    schedule: str
    seed: int
    nodes: int
    delivered: int
    redundancy: float
    announcements: float
    wants: int
    latencies: Sequence[float]
    hops: float
    gaps: int
    broken: Sequence[int]
    violations: Sequence[str]
    frames_a_second: float
    notes: Sequence[str] = ()
    digest: str = ""

    def row(self) -> list[str]:
        """The cells of this run's row in the table."""
        return [
            self.schedule,
            str(self.seed),
            str(self.nodes),
            str(self.delivered),
            f"{self.redundancy:.3f}",
            f"{self.announcements:.2f}",
            str(self.wants),
            *(f"{quantile(self.latencies, share):.3f}" for share in (0.5, 0.99, 1.0)),
            f"{self.hops:.1f}",
            str(self.gaps),
            *map(str, self.broken),
            f"{self.frames_a_second:.0f}",
        ]


def measure(
    schedule: str, seed: int, world: World, seconds: float, notes: Sequence[str] = (), digest: str = ""
) -> Result:
    """The numbers of a run that took *seconds* of real time."""
    delivered = max(world.counts["deliveries"], 1)
    return Result(
        schedule,
        seed,
        len(world.members),
        world.counts["deliveries"],
        world.kinds.get("SignedBatch", 0) / delivered - 1,
        world.kinds.get("Have", 0) / delivered,
        world.kinds.get("Want", 0),
        sorted(world.latencies),
        world.hops / max(world.kinds.get("SignedBatch", 0), 1),
        world.counts["gaps"],
        [world.counts[kind] for kind in BROKEN],
        world.violations,
        world.frames / seconds,
        notes,
        digest,
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value at the quantile *share* (0 to 1) of the sorted values; 0 if there are none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def table(rows: Sequence[Sequence[str]], width: int | None = None, heads: Sequence[str] = COLUMNS) -> str:
    """*rows* below *heads*, aligned.

    :param width: characters of a line; a wider table goes on below, with its first two columns again.
    """
    lines = [heads, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    parts: list[list[int]] = []
    room = 0
    for column in range(2, len(heads)):
        room -= len(_GAP) + widths[column]
        if not parts or (room < 0 and width is not None):
            parts.append([0, 1])
            room = (width or 0) - sum(len(_GAP) + widths[each] for each in (0, 1, column)) + len(_GAP)
        parts[-1].append(column)
    return "\n\n".join(
        "\n".join(_GAP.join(line[column].rjust(widths[column]) for column in part) for line in lines)
        for part in parts
    )


def summary(results: Sequence[Result], width: int | None = None) -> str:
    """A table with one row for each schedule, over all its runs; *width* as for :func:`table`."""
    rows = []
    for name in dict.fromkeys(result.schedule for result in results):
        runs = [result for result in results if result.schedule == name]
        latencies = sorted(latency for run in runs for latency in run.latencies[:: max(len(runs) // 10, 1)])
        together = Result(
            name,
            len(runs),
            max(run.nodes for run in runs),
            sum(run.delivered for run in runs),
            sum(run.redundancy for run in runs) / len(runs),
            sum(run.announcements for run in runs) / len(runs),
            sum(run.wants for run in runs),
            latencies,
            sum(run.hops for run in runs) / len(runs),
            sum(run.gaps for run in runs),
            [sum(counts) for counts in zip(*(run.broken for run in runs), strict=True)],
            [violation for run in runs for violation in run.violations],
            sum(run.frames_a_second for run in runs) / len(runs),
        )
        rows.append(together.row())
    return table(rows, width, ("schedule", "runs", *COLUMNS[2:]))
