"""The judge compares the events of all lives with the promises, when the mesh is whole and at rest.

Contract: :func:`judge` gives a sentence for each broken promise, and :func:`counts` the numbers of the
table. Both see nothing but :class:`tests.soak.told.Life`.

The promises allow for the death of a process: messages that it delivered in its last moments come again,
and messages that it sent then may be gone. :data:`MOMENT` is the length of that time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final

from tests.soak.tables import growth, too_much
from tests.soak.told import KILLED, STOPPED, Life, StreamId

#: Seconds before the end of a life that are not judged: a flush (0.05 s), and a busy machine (guess).
MOMENT: Final = 2.0
#: Seconds before a join in which others' messages need not reach the newcomer (guess).
JOINING: Final = 1.0


class Judge:
    """Judges all lives of all nodes, when everything is at rest."""

    def __init__(self, lives: Iterable[Life]) -> None:
        self.lives = list(lives)
        self.of_node: dict[int, list[Life]] = defaultdict(list)
        for life in self.lives:
            self.of_node[life.node].append(life)
        self.by_run = {life.run: life for life in self.lives}
        self.living = [lives[-1] for lives in self.of_node.values() if lives[-1].is_there]
        self.held = {life.node: self._holds(life) for life in self.living}
        self.last = {run: self._last(run) for run in self.by_run}
        self.again: dict[int, int] = defaultdict(int)

    def _memory(self, life: Life) -> list[Life]:
        """The lives whose deliveries *life* knows, itself the last."""
        lives = self.of_node[life.node]
        return lives[: lives.index(life) + 1] if life.stored else [life]

    def _holds(self, life: Life) -> dict[StreamId, int]:
        held: dict[StreamId, int] = defaultdict(int)
        for each in self._memory(life):
            for run, through in each.through.items():
                held[run] = max(held[run], through)
        return held

    def _last(self, run: StreamId) -> int:
        """The number of the last message of *run* that all nodes must have."""
        life = self.by_run[run]
        return max([held[run] for held in self.held.values()] + [len(life.sent) if life.is_there else 0])

    def all(self) -> list[str]:
        """A sentence for each broken promise."""
        return [
            *self.lost(),
            *(text for life in self.lives for text in self.order(life)),
            *(text for life in self.living for text in self.missing(life)),
            *(text for life in self.lives for text in self.gaps(life)),
            *(text for life in self.lives for text in self.receipts(life)),
            *(text for life in self.living for text in self.tables(life)),
            *(f"{name(life)}: {text}" for life in self.lives for text in growth(life.weights)),
            *(text for life in self.lives for text in self.manners(life)),
        ]

    # ── completeness ────────────────────────────────────────────────────────────────

    def lost(self) -> Iterator[str]:
        """Only messages of the last moment of an author that is gone may be lost."""
        for life in self.lives:
            # Without a file, messages that no neighbour had taken are gone with the process.
            back = any(each.joined is not None for each in self.of_node[life.node][life.number :])
            if life.is_there or not life.stored or not back:
                continue
            least = MOMENT if life.ended == KILLED else 0.0
            due = sum(life.before_its_end(at) > least for at in life.sent)
            if self.last[life.run] < due:
                yield f"{name(life)}: {due - self.last[life.run]} of its last messages were lost with it"

    def unseen(self, life: Life) -> int:
        """How many messages of *life* were lost with it before any node that is there had them.

        Some may be: the last moment of a process that is killed, and all that no neighbour had taken if
        there is no file.
        """
        return max(0, len(life.sent) - self.last[life.run])

    def order(self, life: Life) -> Iterator[str]:
        """Each life is delivered each run in order, without a hole, and once."""
        through: dict[StreamId, int] = {}
        lost = self._lost_numbers(life)
        for run, counter, _ in life.got:
            if run not in through:
                yield from self._first(life, run, counter, lost)
            elif counter <= through[run]:
                yield f"{name(life)}: {show(run)} {counter} came twice, or behind {through[run]}"
            elif any((run, between) not in lost for between in range(through[run] + 1, counter)):
                yield f"{name(life)}: {show(run)} {counter} came after {through[run]}"
            through[run] = max(counter, through.get(run, 0))
        if life.run in through:
            yield f"{name(life)}: it was delivered its own messages"

    def _through(self, life: Life, run: StreamId) -> int:
        """The last message of *run* that earlier lives were delivered, as far as this one knows."""
        return max((each.through.get(run, 0) for each in self._memory(life)[:-1]), default=0)

    def _first(
        self, life: Life, run: StreamId, counter: int, lost: set[tuple[StreamId, int]]
    ) -> Iterator[str]:
        through = self._through(life, run)
        if counter > through + 1:
            newcomer = not through and self._joined_after(life, run, counter)
            if not newcomer and any((run, each) not in lost for each in range(through + 1, counter)):
                yield f"{name(life)}: {show(run)} began with {counter}, not {through + 1}"
        for again in range(counter, through + 1):
            self.again[life.node] += 1
            earlier = reversed(self._memory(life)[:-1])
            before = next((each for each in earlier if again in each.delivered.get(run, ())), None)
            if before is None:  # a gap was told for it
                continue
            ago = before.before_its_end(before.delivered[run][again])
            if before.ended == STOPPED or ago > MOMENT:
                when = f"{ago:.1f} s before it was {before.ended}"
                yield f"{name(life)}: {show(run)} {again} came again, delivered {when}"

    def _joined_after(self, life: Life, run: StreamId, counter: int) -> bool:
        """Whether all messages of *run* below *counter* were sent before *life* had joined."""
        first = self._memory(life)[0]
        sent = self.by_run[run].sent
        at = sent[counter - 2] if len(sent) > counter - 2 else 0.0
        return first.joined is None or at < first.joined + JOINING

    def missing(self, life: Life) -> Iterator[str]:
        """At rest, each node that runs has every message that any node has, from its joining on."""
        held, lost = self.held[life.node], self._lost_numbers(life)
        for run, last in self.last.items():
            if run[0] == life.node or held[run] >= last:
                continue
            first = held[run] + 1
            if not held[run]:
                while first <= last and self._joined_after(life, run, first + 1):
                    first += 1
            missing = [each for each in range(first, last + 1) if (run, each) not in lost]
            if missing:
                yield f"{name(life)}: it lacks {show(run)} {missing[0]} to {missing[-1]}"

    # ── no silent loss, and no false alarm ──────────────────────────────────────────

    @cached_property
    def _numbers(self) -> dict[tuple[str, int, int], tuple[StreamId, int]]:
        """The run and counter of each message that was seen, by its id in the mesh."""
        known: dict[tuple[str, int, int], tuple[StreamId, int]] = {}
        for life in self.lives:
            known.update(life.known)
        return known

    def _lost_numbers(self, life: Life) -> set[tuple[StreamId, int]]:
        """The messages for which *life*, or a life before it, was told a gap."""
        gaps = [gap for each in self._memory(life) for gap in each.gaps]
        known = self._numbers if gaps else {}
        return {
            known[gap.id, gap.epoch, number]
            for gap in gaps
            for number in range(gap.first, gap.last + 1)
            if (gap.id, gap.epoch, number) in known
        }

    def gaps(self, life: Life) -> Iterator[str]:
        """A gap is false if a node that runs has a message that it names."""
        for gap in life.gaps:
            for other in self.living:
                there = any(
                    (gap.id, gap.epoch, number) in each.known
                    for each in self._memory(other)
                    for number in range(gap.first, gap.last + 1)
                )
                if there and other.node != life.node:
                    who = f"{gap.id[:6]} {gap.first} to {gap.last}"
                    yield f"{name(life)}: a gap was told of {who} ({gap.why}), which {name(other)} has"
                    break

    # ── receipts ────────────────────────────────────────────────────────────────────

    def receipts(self, life: Life) -> Iterator[str]:
        """A receipt names only nodes that have the message; at rest it waits for no node that has it.

        The author does not wait for nodes that it did not know at the sending.  Once all others have
        the message, it ignores further receipts.
        """
        if not life.receipts:
            return
        heard = [
            (other.id, other.delivered[life.run]) for other in self.lives if life.run in other.delivered
        ]
        for told in life.receipts.values():
            have = {id for id, delivered in heard if told.counter in delivered}
            if wrong := told.delivered - have:
                yield f"{name(life)}: its receipt {told.counter} names {len(wrong)} without the message"
            if not life.is_there:
                continue
            there = {each.id for each in self.living} & have
            for where, ids in (("pending", told.pending), ("missed", told.missed)):
                who = sorted(name(each) for each in self.living if each.id in there & ids)
                if who:
                    yield f"{name(life)}: its receipt {told.counter} has {', '.join(who)} as {where}"

    # ── bounds ──────────────────────────────────────────────────────────────────────

    def tables(self, life: Life) -> Iterator[str]:
        """At rest no table of a node is larger than it must be."""
        if life.looks:
            first = self.of_node[life.node][0].at_first
            for text in too_much(life.looks[-1], first, len(self.of_node), len(self.lives)):
                yield f"{name(life)}: {text}"

    # ── processes ───────────────────────────────────────────────────────────────────

    def manners(self, life: Life) -> Iterator[str]:
        """A process logs no traceback, and ends with status 0 if asked to."""
        if life.complaints:
            yield f"{name(life)}: {life.complaints} tracebacks or unhandled errors"
        if life.ended == STOPPED and life.status != 0:
            yield f"{name(life)}: it ended with status {life.status}"
        for failure in life.failures:
            yield f"{name(life)}: {failure}"


def at_rest(lives: Sequence[Life]) -> bool:
    """Whether all nodes that run have all messages, and all authors know it."""
    judge = Judge(lives)
    return not any(
        True
        for life in judge.living
        for asked in (judge.missing, judge.receipts, judge.tables)
        for _ in asked(life)
    )


def name(life: Life) -> str:
    """A life in words."""
    return f"node {show(life.run)}"


def show(run: StreamId) -> str:
    """A run, in short: NODE.LIFE."""
    return f"{run[0]}.{run[1]}"
