"""A schedule whose members have consumers with names, and crash between a message and its commit.

Contract: a :class:`Consuming` is a ``Play`` in which each member has a store and the consumers
:data:`NAMES`.  The first takes message by message; the second has several out at a time, and acknowledges
some of them at once.  Some loop bodies raise an exception, and some clients die; some consumers are closed
for a while; members crash.  At every moment these are violations: a message that a consumer gets twice, or
out of its order.  It may get messages again that were out and not acknowledged; and after a crash those
that it had taken in the last :data:`WINDOW`.  At the end, it is a violation if a consumer lacks a message
that its member has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from twisted_mesh.core import events
from twisted_mesh.core.events import StreamId
from twisted_mesh.core.history.reader import Messages, read
from twisted_mesh.core.node import Node
from twisted_mesh.simulation.member import Member, Surroundings
from twisted_mesh.simulation.scenarios.schedules import SCHEDULES, Play
from twisted_mesh.simulation.storage import FLUSH_SECONDS, WRITE_SECONDS
from twisted_mesh.simulation.trace import show
from twisted_mesh.simulation.world import World

NAMES: Final = ("audit", "billing")
OUT: Final = {"audit": 1, "billing": 8}  # messages that are out at a time, at most
_REST: Final = 60.0  # seconds in which consumers that crashed late get the rest
_PAUSE: Final = 0.1  # seconds until a consumer looks again for a message, if there is none
#: Seconds within which all that was taken is stored: a change can wait for the flush before it.
WINDOW: Final = 2 * (FLUSH_SECONDS + WRITE_SECONDS) + _PAUSE
_GOES_ON: Final = 0.6  # of the times when messages are out, and more can be
_FAILS: Final = 0.1  # of the bodies raise an exception
_CLOSES: Final = 0.03  # of the bodies are followed by a time in which nobody has the consumer open


@dataclass
class Notes:
    """What one consumer got, over all runs of its member; no core sees it.

    :ivar given: the last message of each run that it got.
    :ivar taken: when it took each message, by run and number; without those of the last :data:`WINDOW`
        before a crash.
    """

    given: dict[StreamId, int] = field(default_factory=dict)
    taken: dict[tuple[StreamId, int], float] = field(default_factory=dict)


class Consumer(Member):
    """A member whose application has consumers with names.

    :ivar notes: of each consumer, by name; :ivar places: the last message of each run that it took.
    :ivar out: the messages that each consumer has got and not taken, in order.
    """

    def __init__(self, world: Surroundings, number: int) -> None:
        super().__init__(world, number)
        self.notes = {name: Notes() for name in NAMES}
        self._begin_places()

    def _begin_places(self) -> None:
        self.places: dict[str, dict[StreamId, int]] = {name: {} for name in NAMES}
        self.out: dict[str, list[tuple[StreamId, int]]] = {name: [] for name in NAMES}

    def start(self) -> None:
        """Begin a run, in which each consumer goes on where it was."""
        self._begin_places()
        known = () if self.store is None else self.store.restored().consumers
        for marks in () if self.store is None else self.store.restored().marks:
            for name in known:
                self.places[name][marks.run] = marks.place(name)
        super().start()
        self.handle(events.Consumers(dict.fromkeys(NAMES, 0)))
        for name in NAMES:
            if name not in known:
                self.handle(events.Place(name, 0.0))
                for stream in self.node.history:
                    self.places[name][stream.run] = stream.places.get(name, stream.base)
            self.world.at(self.world.now, partial(self._step, name, self.core))

    def stop(self) -> None:
        """Crash."""
        super().stop()
        since = self.world.now - WINDOW
        for notes in self.notes.values():
            notes.taken = {message: at for message, at in notes.taken.items() if at < since}

    def place(self, name: str, run: StreamId) -> int:
        """The last message of *run* that a consumer has taken."""
        stream = self.node.history.get(run)
        return self.places[name].get(run, 0 if stream is None else stream.base)

    def _tell_taken(self) -> None:
        moved, self._moved = self._moved, {}
        for run in moved:
            self._tell(run)

    def _tell(self, run: StreamId) -> None:
        places = {name: self.place(name, run) for name in NAMES}
        self.handle(events.Taken(run, self.delivered[run], places))

    def _step(self, name: str, core: Node | None) -> None:
        """Get another message; or take some that are out, unless a body failed: then they come again."""
        if core is None or self.core is not core:
            return
        world, random = self.world, self.world.random
        pause = random.random() * _PAUSE
        out = self.out[name]
        goes_on = len(out) < OUT[name] and (not out or random.random() < _GOES_ON)
        if goes_on and (message := self.next_for(name)) is not None:
            out.append(message)
            self._check(name, *message)
        elif out:
            self._acknowledge(name, out)
            if random.random() < _CLOSES:
                pause += 3 * random.random()
        if self._scribe is not None:
            self._scribe.look(self.delivered)
        world.at(world.now + pause, partial(self._step, name, core))

    def _acknowledge(self, name: str, out: list[tuple[StreamId, int]]) -> None:
        """Take the first of the messages that are *out*, or all; or none, and all come again."""
        random = self.world.random
        if random.random() < _FAILS:
            out.clear()
            return
        taken = out[: random.randint(1, len(out))]
        del out[: len(taken)]
        for run, number in taken:
            self.places[name][run] = number
            self.notes[name].taken[run, number] = self.world.now
        for run in dict.fromkeys(run for run, _ in taken):
            self._tell(run)

    def next_for(self, name: str) -> tuple[StreamId, int] | None:
        """The next message for a consumer, as the history has it."""
        out = dict(self.out[name])  # the last message of each run
        for run, head in self.delivered.items():
            place = out.get(run, self.place(name, run))
            if run[0] != self.origin and place < head:
                for piece in read(self.node.history, run, place, head, 1):
                    if isinstance(piece, Messages):
                        return run, piece.first
        return None

    def _check(self, name: str, run: StreamId, number: int) -> None:
        """Check that a consumer gets the message after the last one, or may get this one again."""
        notes = self.notes[name]
        last = notes.given.get(run, self.place(name, run))
        if number > last + 1:
            self.world.violated(self, "missed", f"a consumer: {show(run)} {last + 1} to {number - 1}")
        elif (run, number) in notes.taken:
            self.world.violated(self, "duplicates", f"a consumer: {show(run)} {number} after {last}")
        notes.given[run] = number


class Consuming(Play):
    """One run of a schedule with named consumers."""

    def _kinds(self, count: int) -> list[type[Member]]:
        return [Consumer] * count

    def run(self, progress: Callable[[float], None] = lambda share: None) -> World:
        """Play to the end, and check that each consumer has all messages of its member."""
        world = super().run(progress)
        end = world.now + _REST
        while world.now < end and self._missing():
            world.run_until(world.now + 5.0)
        for member, what in self._missing():
            world.violated(member, "missed", what)
        return world

    def _missing(self) -> list[tuple[Member, str]]:
        """The messages that consumers lack, each as the member and a sentence for people."""
        return [
            (member, f"{name} was not given {show(message[0])} {message[1]}")
            for member in self.world.honest()
            for name in NAMES
            if isinstance(member, Consumer) and (message := member.next_for(name)) is not None
        ]


CONSUMING: Final = {
    "consuming": replace(SCHEDULES["restarts"], stored=1.0),
    "consuming-partition": replace(SCHEDULES["partition"], stored=1.0, crashes=0.5),
}
