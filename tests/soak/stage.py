"""A soak: a mesh forms, has faults for a while, comes to rest, and stops.

Contract: when :meth:`Soak.play` fires, all its processes and connections have ended.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from twisted.internet.task import LoopingCall, deferLater

from tests.soak.cast import Actor
from tests.soak.faults import Faults
from tests.soak.judge import at_rest
from tests.soak.proxy import LOOPBACK, Proxy
from tests.soak.told import Life
from tests.support.processes import reactor

TURN: Final = 0.1  # seconds between two rounds of messages
WEIGHED: Final = 5.0  # seconds from one weight of the processes to the next
PATIENCE: Final = 75.0  # seconds after the last fault in which all must come to rest


class Soak:
    """One soak.

    :ivar actors: the nodes; :ivar faults: what happened to them.
    :ivar settled: seconds from the last fault until all was at rest; None if it took too long.
    """

    def __init__(self, options: Namespace, folder: Path) -> None:
        """:param options: of the command line.
        :param folder: for the nodes' files.
        """
        seed = options.seed
        self.actors: list[Actor] = []
        self.proxy = Proxy(reactor, Random(f"proxy {seed}"))
        self.settled: float | None = None
        self._randomness = Random(f"talk {seed}")
        self._options = options
        self._nodes: int = options.nodes
        self._folder = folder
        self.faults = Faults(
            reactor, Random(f"faults {seed}"), self.proxy, self.actors, self._start, self._join
        )
        if options.no_kills:
            self.faults.leave_out("kill", "stop")

    @property
    def lives(self) -> list[Life]:
        """All lives of all actors."""
        return [life for actor in self.actors for life in actor.lives]

    async def play(self) -> None:
        """Play the soak."""
        try:
            for number in range(self._nodes):
                await self._add(number)
            await self._until(self._all_linked, 30.0)
            await self._look()
            for actor in self.actors:
                actor.life.at_first = actor.life.looks[-1]
            print(f"{self._nodes} nodes are one mesh")
            await self._trouble()
            await self._rest()
            for actor in self.actors:
                actor.life.lasted = actor.runs
        finally:
            await self._end()

    # ── the nodes ───────────────────────────────────────────────────────────────────

    async def _add(self, number: int) -> None:
        """Add an actor: the last two of the first ones have no file, another one reads slowly."""
        gate = await self.proxy.add()
        stored = number >= self._nodes or number < max(1, self._nodes - 2)
        actor = Actor(number, gate, self._folder, stored=stored, slow=number == self._nodes // 2 - 1)
        self.actors.append(actor)
        self._start(actor)

    def _start(self, actor: Actor) -> None:
        """Start an actor, with two of the others as peers."""
        others = [other.gate.port for other in self.actors if other is not actor]
        peers = self._randomness.sample(others, min(2, len(others)))
        actor.start([f"{LOOPBACK}:{port}" for port in peers], debug=2)

    def _join(self, wait_for: Callable[[Any], None]) -> bool:
        if len(self.actors) >= self._nodes + 2:
            return False
        wait_for(self._add(len(self.actors)))
        return True

    # ── its parts ───────────────────────────────────────────────────────────────────

    async def _trouble(self) -> None:
        talking = LoopingCall(self._talk)
        talking.start(TURN)
        weighing = LoopingCall(self._weigh)
        weighing.start(WEIGHED)
        end = reactor.seconds() + 60 * self._options.minutes
        while reactor.seconds() < end:
            await deferLater(reactor, self._randomness.expovariate(1 / self._options.every))
            self.faults.one()
        await self.faults.over()
        print("nothing more happens to them")
        await deferLater(reactor, 3.0)
        talking.stop()
        weighing.stop()

    def _weigh(self) -> None:
        """Let all nodes tell what they take of their host."""
        for actor in self.actors:
            actor.tell(do="weigh")

    def _talk(self) -> None:
        """Let some actors send messages, and slow readers read on."""
        for actor in self.actors:
            if actor.slow:
                actor.tell(do="take", count=self._randomness.choice((0, 0, 1, 5, 10)))
            if self._randomness.random() < 0.3:
                count = self._randomness.choice((1, 1, 2, 5))
                sizes = [int(2 ** self._randomness.uniform(4, 14)) for _ in range(count)]
                actor.tell(do="send", sizes=sizes, receipt=self._randomness.random() < 0.2)

    async def _rest(self) -> None:
        """Wait until all nodes have all messages, and all authors know it."""
        began = reactor.seconds()
        while reactor.seconds() < began + PATIENCE:
            for actor in self.actors:
                if actor.slow:
                    actor.tell(do="take", count=10_000)
            await deferLater(reactor, 2.0)
            await self._look()
            if self._all_linked() and at_rest(self.lives):
                self.settled = reactor.seconds() - began
                return

    def _all_linked(self) -> bool:
        """Whether each node shows all others as up."""
        ids = {actor.life.id for actor in self.actors}
        for actor in self.actors:
            looks = actor.life.looks
            up = {id for id, state in looks[-1]["members"].items() if state == "up"} if looks else set()
            if not actor.life.id or up != ids - {actor.life.id}:
                return False
        return True

    async def _look(self) -> None:
        """Let all nodes tell the sizes of their tables."""
        asked = {actor: actor.look() for actor in self.actors if actor.runs}
        await self._until_true(lambda: all(actor.has_told(token) for actor, token in asked.items()), 15.0)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        end = reactor.seconds() + seconds
        while not condition() and reactor.seconds() < end:
            await deferLater(reactor, 0.3)
            await self._look()

    async def _until_true(self, condition: Callable[[], bool], seconds: float) -> None:
        end = reactor.seconds() + seconds
        while not condition() and reactor.seconds() < end:
            await deferLater(reactor, TURN)

    async def _end(self) -> None:
        """Stop all in good order."""
        for ending in [actor.stop() for actor in self.actors if actor.runs]:
            await ending
        await self.proxy.close()
