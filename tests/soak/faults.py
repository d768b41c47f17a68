"""What happens to the nodes and the passages between them, drawn from a seed.

Contract: :meth:`Faults.one` begins one fault, which ends by itself after a time that is drawn, too; after
:meth:`Faults.over` all have ended, everybody runs and everything passes. :ivar:`Faults.done` counts them.
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
from tests.soak.way import CALM, Weather

#: What there is, and how often against the others.
KINDS: Final = {
    "reset": 6,
    "close": 4,
    "half-close": 4,
    "hold": 5,
    "one way": 4,
    "late": 3,
    "slow": 3,
    "refuse": 2,
    "part": 2,
    "kill": 5,
    "stop": 3,
    "still": 4,
    "long still": 2,
    "clock on": 3,
    "clock back": 3,
    "join": 1,
}
HOUR: Final = 3600.0


class Faults:
    """Draws and does them.

    :ivar done: how many of each kind.
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
        """:param start: starts an actor again; :param join: makes one more, unless there are enough."""
        self.done: Counter[str] = Counter()
        self._reactor = reactor
        self._randomness = randomness
        self._proxy = proxy
        self._actors = actors
        self._start = start
        self._join_one = join
        self._ends: dict[Any, Callable[[], object]] = {}
        self._is_over = False
        self._going: set[Deferred[None]] = set()

    def one(self) -> None:
        """Let one thing happen."""
        kind = self._randomness.choices(list(KINDS), list(KINDS.values()))[0]
        do: Callable[[], bool] = getattr(self, "_" + kind.replace(" ", "_").replace("-", "_"))
        if do():
            self.done[kind] += 1

    async def over(self) -> None:
        """Let everything end that has begun."""
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

    def _passage(self) -> Passage | None:
        """One that is open, if any is."""
        there = [passage for passage in self._proxy.passages if passage.ways]
        there.sort(key=lambda passage: (passage.source, passage.target))
        return self._randomness.choice(there) if there else None

    def _reset(self) -> bool:
        if passage := self._passage():
            passage.reset()
        return passage is not None

    def _close(self) -> bool:
        if passage := self._passage():
            passage.close()
        return passage is not None

    def _half_close(self) -> bool:
        if passage := self._passage():
            self._randomness.choice(passage.ways).shut()
        return passage is not None

    def _hold(self) -> bool:
        """Nothing passes either way, for longer or shorter than a node bears."""
        if passage := self._passage():
            passage.hold()
            self._until(passage.release, 1.0, 10.0)
        return passage is not None

    def _one_way(self) -> bool:
        if passage := self._passage():
            way = self._randomness.choice(passage.ways)
            way.hold()
            self._until(way.release, 1.0, 10.0)
        return passage is not None

    def _late(self) -> bool:
        delay, jitter = self._randomness.uniform(0.01, 0.3), self._randomness.uniform(0.0, 0.2)
        return self._weather(Weather(delay=delay, jitter=jitter))

    def _slow(self) -> bool:
        return self._weather(Weather(rate=self._randomness.uniform(4.0, 64.0) * 1024))

    def _weather(self, weather: Weather) -> bool:
        """Everywhere, or on one passage."""
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
        """One whose process runs, and has said where it listens."""
        there = [actor for actor in self._actors if actor.runs and actor.life.id]
        return self._randomness.choice(there) if there else None

    def _kill(self) -> bool:
        return self._away(Actor.kill)

    def _stop(self) -> bool:
        return self._away(Actor.stop)

    def _away(self, end: Callable[[Actor], Deferred[None]]) -> bool:
        """End one, which starts again some time after it is gone; half of them stay."""
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

    def _still(self) -> bool:
        return self._stand_still(0.5, CONFIG["dead_after"] * 0.8)

    def _long_still(self) -> bool:
        return self._stand_still(CONFIG["dead_after"] * 1.2, CONFIG["dead_after"] * 2.5)

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

    def _clock_on(self) -> bool:
        return self._jump(1)

    def _clock_back(self) -> bool:
        return self._jump(-1)

    def _jump(self, sign: int) -> bool:
        """By a minute to three hours, as like as not by little."""
        seconds = 60.0 * (3 * HOUR / 60.0) ** self._randomness.random()
        if actor := self._actor():
            actor.jump(sign * seconds)
        return actor is not None

    def _join(self) -> bool:
        return self._join_one(self._wait_for)

    def _wait_for(self, going: Coroutine[Deferred[Any], Any, None]) -> None:
        """Let nothing be over before *going* is."""
        task = Deferred.fromCoroutine(going)
        self._going.add(task)

        def over(result: Any) -> Any:
            self._going.discard(task)
            return result

        task.addBoth(over)
