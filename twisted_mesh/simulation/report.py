"""What a run of the simulator showed, as a table.

Contract: pure text from a :class:`~twisted_mesh.simulation.world.World` at rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twisted_mesh.simulation.observing import BROKEN
from twisted_mesh.simulation.world import World

COLUMNS = (
    "schedule", "seed", "nodes", "delivered", "redundancy", "HAVE", "WANT",
    "p50 s", "p99 s", "max s", "hops", "gaps", "false", "twice", "order", "missed", "stalls",
    "islands", "rosters", "downs", "limits", "receipts", "directs", "frames/s",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One run, in numbers.

    :ivar redundancy: batches that went over links, for each delivery, less the one it takes.
    :ivar announcements: HAVE frames for each delivery.
    :ivar broken: promises, by kind: false gaps, messages delivered twice, out of order, missed, and
        holes that were left; and what :mod:`twisted_mesh.simulation.invariants.membership` checks.
    :ivar latencies: of the deliveries in seconds, sorted.
    :ivar notes: lines on what else was seen.
    :ivar digest: of its trace, where it was asked for.
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
        """The cells of the table."""
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
    """The value *share* of the way through *ordered*; 0 where there is none."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def table(rows: Sequence[Sequence[str]]) -> str:
    """*rows* under the column heads, aligned."""
    lines = [COLUMNS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def summary(results: Sequence[Result]) -> str:
    """One line for each schedule: its runs together."""
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
    return table(rows).replace("seed ", "runs ", 1)
