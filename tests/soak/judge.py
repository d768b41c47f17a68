"""The judge: what the promises say about what was told, once all is whole again and at rest.

Contract: :func:`judge` gives a sentence for each broken promise, and :func:`counts` the numbers of the
table. Both see nothing but :class:`tests.soak.told.Life`.

The promises have an edge where a process dies: what its node had delivered in the last moments comes again,
and what it had sent in them may be gone. How long a moment is, is :data:`MOMENT`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final

from tests.soak.tables import too_much
from tests.soak.told import KILLED, STOPPED, Life, StreamId

#: Seconds before the end of a life of which nothing is asked: a flush (0.05 s), and a busy machine (guess).
MOMENT: Final = 2.0
#: Seconds in which who says that it has joined may not have been what others sent before (guess).
JOINING: Final = 1.0


class Judge:
    """All lives of all nodes; of those that run the last is looked at when everything is at rest."""

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
        """The lives of which *life* knows what they delivered, itself the last."""
        lives = self.of_node[life.node]
        return lives[: lives.index(life) + 1] if life.stored else [life]

    def _holds(self, life: Life) -> dict[StreamId, int]:
        held: dict[StreamId, int] = defaultdict(int)
        for each in self._memory(life):
            for run, through in each.through.items():
                held[run] = max(held[run], through)
        return held

    def _last(self, run: StreamId) -> int:
        """The last message of *run* that everybody has to have."""
        life = self.by_run[run]
        return max([held[run] for held in self.held.values()] + [len(life.sent) if life.is_there else 0])

    def all(self) -> list[str]:
        """Every broken promise."""
        return [
            *self.lost(),
            *(text for life in self.lives for text in self.order(life)),
            *(text for life in self.living for text in self.missing(life)),
            *(text for life in self.lives for text in self.gaps(life)),
            *(text for life in self.lives for text in self.receipts(life)),
            *(text for life in self.living for text in self.tables(life)),
            *(text for life in self.lives for text in self.manners(life)),
        ]

    # ── completeness ────────────────────────────────────────────────────────────────

    def lost(self) -> Iterator[str]:
        """Of an author that is gone everybody may lack what it sent in its last moment, and no more."""
        for life in self.lives:
            # Without a file what no neighbour had taken is gone with the process.
            back = any(each.joined is not None for each in self.of_node[life.node][life.number :])
            if life.is_there or not life.stored or not back:
                continue
            least = MOMENT if life.ended == KILLED else 0.0
            due = sum(life.before_its_end(at) > least for at in life.sent)
            if self.last[life.run] < due:
                yield f"{name(life)}: {due - self.last[life.run]} of its last messages were lost with it"

    def order(self, life: Life) -> Iterator[str]:
        """What one life was delivered: each run in order, without a hole, and once."""
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
        """The last of *run* that earlier lives were delivered, as far as this one knows of them."""
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
            if before is None:  # it had been told that it will not get that one
                continue
            ago = before.before_its_end(before.delivered[run][again])
            if before.ended == STOPPED or ago > MOMENT:
                when = f"{ago:.1f} s before it was {before.ended}"
                yield f"{name(life)}: {show(run)} {again} came again, delivered {when}"

    def _joined_after(self, life: Life, run: StreamId, counter: int) -> bool:
        """Whether all of *run* below *counter* was there before *life* had joined."""
        first = self._memory(life)[0]
        sent = self.by_run[run].sent
        at = sent[counter - 2] if len(sent) > counter - 2 else 0.0
        return first.joined is None or at < first.joined + JOINING

    def missing(self, life: Life) -> Iterator[str]:
        """At rest, who is there has all that anybody has, from its joining on."""
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
        """Whose messages those are that have been seen, by their numbers in the mesh."""
        known: dict[tuple[str, int, int], tuple[StreamId, int]] = {}
        for life in self.lives:
            known.update(life.known)
        return known

    def _lost_numbers(self, life: Life) -> set[tuple[StreamId, int]]:
        """What *life*, or one it goes on from, was told it will not get."""
        gaps = [gap for each in self._memory(life) for gap in each.gaps]
        known = self._numbers if gaps else {}
        return {
            known[gap.id, gap.epoch, number]
            for gap in gaps
            for number in range(gap.first, gap.last + 1)
            if (gap.id, gap.epoch, number) in known
        }

    def gaps(self, life: Life) -> Iterator[str]:
        """A gap is false where somebody who is there has what it names."""
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
        """Nobody is named who was not delivered it; at rest, nobody waited for who is there and was.

        Whom the author did not know when it sent the message it does not wait for; and once all those have
        it that it did, it listens no more.
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
        """At rest nobody holds more than it needs."""
        if life.looks:
            first = self.of_node[life.node][0].at_first
            for text in too_much(life.looks[-1], first, len(self.of_node), len(self.lives)):
                yield f"{name(life)}: {text}"

    # ── processes ───────────────────────────────────────────────────────────────────

    def manners(self, life: Life) -> Iterator[str]:
        """A process says nothing alarming, and ends well when asked."""
        if life.complaints:
            yield f"{name(life)}: {life.complaints} tracebacks or unhandled errors"
        if life.ended == STOPPED and life.status != 0:
            yield f"{name(life)}: it ended with status {life.status}"
        for failure in life.failures:
            yield f"{name(life)}: {failure}"


def at_rest(lives: Sequence[Life]) -> bool:
    """Whether everybody who is there has everything, and is known to."""
    judge = Judge(lives)
    return not any(
        True
        for life in judge.living
        for asked in (judge.missing, judge.receipts, judge.tables)
        for _ in asked(life)
    )


def name(life: Life) -> str:
    """A node and which of its lives."""
    return f"node {show(life.run)}"


def show(run: StreamId) -> str:
    """The same, short."""
    return f"{run[0]}.{run[1]}"
