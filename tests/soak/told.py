"""The events that the lives of nodes have told, from which the judge judges.

A *life* is one process. All times are by the clock of the process that listens to all of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

#: An author's run: the number of the node, and that of its life.
StreamId = tuple[int, int]

KILLED: Final = "killed"
STOPPED: Final = "stopped"


class Got(NamedTuple):
    """A message that was delivered."""

    run: StreamId
    counter: int
    at: float


class GapTold(NamedTuple):
    """A gap that was told, by the numbers of the mesh."""

    id: str
    epoch: int
    first: int
    last: int
    why: str


class ReceiptTold(NamedTuple):
    """The sets of a receipt, as the author's node told them."""

    counter: int
    delivered: frozenset[str]
    pending: frozenset[str]
    missed: frozenset[str]


class Weight(NamedTuple):
    """What a process takes of its host, at one time.

    :ivar resident: bytes of memory; :ivar messages: bytes of messages that it holds for others, or that
        wait for its application; :ivar files: descriptors that are no connections.
    """

    resident: int
    messages: int
    files: int


@dataclass
class Life:
    """One process of a node.

    :ivar stored: whether it has a history file, and an identity; :ivar slow: whether it reads slowly.
    :ivar joined: when it said that it had joined.
    :ivar sent: for each of its messages, when it said that it had sent the message.
    :ivar delivered: author's run -> message -> when it was delivered last.
    :ivar through: author's run -> the last message of it that was delivered.
    :ivar known: (id, epoch, sequence) -> the author's run, and the number of the message in it.
    :ivar unanswered: messages that ``send`` refused.
    :ivar naps: the times from which and to which it stood still.
    :ivar awake: when it was last known to run, where it was stopped or killed.
    :ivar looks: the sizes of its tables, each time it was asked.
    :ivar at_first: the same when the mesh had formed; empty for a life that began later.
    :ivar weights: what it took of its host, every few seconds.
    :ivar ended: how it ended; :ivar lasted: whether it ran until all was over and at rest.
    """

    node: int
    number: int
    stored: bool = True
    slow: bool = False
    id: str = ""
    began: float = 0.0
    joined: float | None = None
    sent: list[float] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    delivered: dict[StreamId, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    through: dict[StreamId, int] = field(default_factory=lambda: defaultdict(int))
    gaps: list[GapTold] = field(default_factory=list)
    receipts: dict[int, ReceiptTold] = field(default_factory=dict)
    known: dict[tuple[str, int, int], tuple[StreamId, int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    refused: int = 0
    naps: list[tuple[float, float]] = field(default_factory=list)
    awake: float = 0.0
    ended: str | None = None
    lasted: bool = False
    status: int | None = None
    complaints: int = 0
    at_first: dict[str, Any] = field(default_factory=dict)
    looks: list[dict[str, Any]] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)

    @property
    def run(self) -> StreamId:
        """Its run as an author."""
        return self.node, self.number

    @property
    def is_there(self) -> bool:
        """Whether it runs, or ran until the end of the soak."""
        return self.ended is None or self.lasted

    def before_its_end(self, at: float) -> float:
        """The seconds for which it still ran after the time *at*."""
        asleep = sum(max(0.0, end - max(begin, at)) for begin, end in self.naps)
        return self.awake - at - asleep

    def take(self, event: dict[str, Any], at: float) -> None:
        """Take in one of its events."""
        match event["event"]:
            case "got":
                run = (event["a"], event["r"])
                self.got.append(Got(run, event["c"], at))
                self.delivered[run][event["c"]] = at
                self.through[run] = max(self.through[run], event["c"])
                self.known[event["id"], event["e"], event["s"]] = (run, event["c"])
            case "sent":
                self.sent += [at] * (event["upto"] - len(self.sent))
            case "gap":
                self.gaps.append(
                    GapTold(event["id"], event["e"], event["first"], event["last"], event["why"])
                )
            case "look":
                self.looks.append(event)
                for counter, *sets in event["receipts"]:
                    self.receipts[counter] = ReceiptTold(counter, *map(frozenset, sets))
            case "weight":
                files = event["descriptors"] - event["connections"]
                self.weights.append(Weight(event["resident"], event["messages"], files))
            case "listening":
                self.id = event["id"]
            case "joined":
                self.joined = at
            case "failure":
                self.failures.append(event["why"])
            case "refused":
                self.refused += 1
