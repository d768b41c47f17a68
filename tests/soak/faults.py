"""Faults of the nodes and of the passages between them, drawn from a seed.

Contract: :meth:`Faults.one` begins a fault, which ends by itself after a time that is drawn, too.  After
:meth:`Faults.over` all faults have ended: all nodes run, and all bytes pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred

from tests.soak.cast import CONFIG, Actor
from tests.soak.proxy import Passage, Proxy
from tests.soak.way import CALM, Way, Weather

HOUR: Final = 3600.0
DEAD_AFTER: Final = CONFIG["dead_after"]


class Faults:
    """Draws faults, and lets them happen.

    :ivar done: how many of each kind have happened.
    """

    def __init__(
        self,
        reactor: Any,
        randomness: Random,
        proxy: Proxy,
        actors: list[Actor],
        start: Callable[[Actor], None],
        join: Callable[[Callable[[Any], None]], bool],
    ) -> None:
        """:param start: starts an actor again; :param join: adds an actor, unless there are enough."""
        self.done: Counter[str] = Counter()
        self._reactor = reactor
        self._randomness = randomness
        self._proxy = proxy
        self._actors = actors
        self._start = start
        #: By name, how often a kind happens against the others, and what does it, if that is possible.
        self._kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "reset": (6, partial(self._on_passage, Passage.reset)),
            "close": (4, partial(self._on_passage, Passage.close)),
            "half-close": (4, partial(self._on_passage, lambda passage: self._one_of(passage).shut())),
            "hold": (5, partial(self._on_passage, self._hold)),
            "one way": (4, partial(self._on_passage, lambda passage: self._hold(self._one_of(passage)))),
            "late": (3, self._late),
            "slow": (3, self._slow),
            "refuse": (2, self._refuse),
            "part": (2, self._part),
            "kill": (5, partial(self._away, Actor.kill)),
            "stop": (3, partial(self._away, Actor.stop)),
            "still": (4, partial(self._stand_still, 0.5, DEAD_AFTER * 0.8)),
            "long still": (2, partial(self._stand_still, DEAD_AFTER * 1.2, DEAD_AFTER * 2.5)),
            "clock on": (3, partial(self._jump, 1)),
            "clock back": (3, partial(self._jump, -1)),
            "join": (1, partial(join, self._wait_for)),
        }
        self._ends: dict[Any, Callable[[], object]] = {}
        self._is_over = False
        self._going: set[Deferred[None]] = set()

    def one(self) -> None:
        """Let a fault happen, if the one that is drawn is possible now."""
        weights = [weight for weight, _ in self._kinds.values()]
        kind = self._randomness.choices(self.kinds, weights)[0]
        _, do = self._kinds[kind]
        if do():
            self.done[kind] += 1

    @property
    def kinds(self) -> list[str]:
        """The kinds that can be drawn."""
        return list(self._kinds)

    def leave_out(self, *kinds: str) -> None:
        """Draw none of *kinds*."""
        for kind in kinds:
            del self._kinds[kind]

    async def over(self) -> None:
        """End all faults that have begun."""
        self._is_over = True
        for call, end in list(self._ends.items()):
            call.cancel()
            end()
        self._ends = {}
        self._proxy.now(CALM)
        for going in list(self._going):
            await going

    def _until(self, end: Callable[[], object], least: float, most: float) -> None:
        """Call *end* after a while, or when all is over."""

        def now() -> None:
            del self._ends[call]
            end()

        call = self._reactor.callLater(self._randomness.uniform(least, most), now)
        self._ends[call] = end

    # ── passages ────────────────────────────────────────────────────────────────────

    def _on_passage(self, do: Callable[[Passage], None]) -> bool:
        """Do something to an open passage, if there is one."""
        if passage := self._passage():
            do(passage)
        return passage is not None

    def _passage(self) -> Passage | None:
        """An open passage, if there is one."""
        there = [passage for passage in self._proxy.passages if passage.ways]
        there.sort(key=lambda passage: (passage.source, passage.target))
        return self._randomness.choice(there) if there else None

    def _one_of(self, passage: Passage) -> Way:
        """One of the directions of *passage*."""
        return self._randomness.choice(passage.ways)

    def _hold(self, what: Passage | Way) -> None:
        """Let nothing pass, for longer or shorter than a node bears."""
        what.hold()
        self._until(what.release, 1.0, 10.0)

    def _late(self) -> bool:
        delay, jitter = self._randomness.uniform(0.01, 0.3), self._randomness.uniform(0.0, 0.2)
        return self._weather(Weather(delay=delay, jitter=jitter))

    def _slow(self) -> bool:
        return self._weather(Weather(rate=self._randomness.uniform(4.0, 64.0) * 1024))

    def _weather(self, weather: Weather) -> bool:
        """Change the weather everywhere, or on one passage."""
        where: Proxy | Passage | None = self._proxy if self._randomness.random() < 0.5 else self._passage()
        if where is not None:
            where.now(weather)
            self._until(partial(where.now, CALM), 2.0, 8.0)
        return where is not None

    def _refuse(self) -> bool:
        gate = self._randomness.choice(self._proxy.gates)
        if gate.is_open:
            self._wait_for(gate.close())
            self._until(lambda: self._wait_for(gate.open()), 1.0, 10.0)
            return True
        return False

    def _part(self) -> bool:
        if self._proxy.is_whole:
            count = len(self._actors)
            some = self._randomness.sample(range(count), self._randomness.randint(1, count // 2))
            self._proxy.part(some, swallows=self._randomness.random() < 0.5)
            self._until(self._proxy.heal, 2.0, 12.0)
            return True
        return False

    # ── processes ───────────────────────────────────────────────────────────────────

    def _actor(self) -> Actor | None:
        """An actor whose process runs and has said where it listens, if there is one."""
        there = [actor for actor in self._actors if actor.runs and actor.life.id]
        return self._randomness.choice(there) if there else None

    def _away(self, end: Callable[[Actor], Deferred[None]]) -> bool:
        """End an actor, and start it again later; at least half of them go on running."""
        actor = self._actor()
        if actor is None or sum(each.runs for each in self._actors) <= len(self._actors) // 2:
            return False

        async def away() -> None:
            await end(actor)
            if self._is_over:
                self._start(actor)
            else:
                self._until(lambda: self._start(actor), 0.0, 6.0)

        self._wait_for(away())
        return True

    def _stand_still(self, least: float, most: float) -> bool:
        actor = self._actor()
        if actor is None or actor.still:
            return False
        life = actor.life
        actor.stand_still()

        def go_on() -> None:
            if actor.life is life:
                actor.go_on()

        self._until(go_on, least, most)
        return True

    def _jump(self, sign: int) -> bool:
        """Set the clock of an actor by a minute to three hours, more often by little."""
        seconds = 60.0 * (3 * HOUR / 60.0) ** self._randomness.random()
        if actor := self._actor():
            actor.jump(sign * seconds)
        return actor is not None

    def _wait_for(self, going: Coroutine[Deferred[Any], Any, None]) -> None:
        """Let :meth:`over` wait until *going* is over."""
        task = Deferred.fromCoroutine(going)
        self._going.add(task)

        def over(result: Any) -> Any:
            self._going.discard(task)
            return result

        task.addBoth(over)
