"""Schedules: how often links are lost, members crash, and so on, while messages are sent.

Contract: a :class:`Play` plays a :class:`Schedule` with a seed, and checks the promises at the end.  The
same seed gives the same run, frame by frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from twisted_mesh.simulation.adversaries.relays import RELAY_ADVERSARIES
from twisted_mesh.simulation.invariants.judge import check_at_rest, check_complete, is_waiting
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.network import Line
from twisted_mesh.simulation.storage import SimStore
from twisted_mesh.simulation.world import World
from twisted_mesh.wire.fields import MAX_NUMBER

Pair = tuple[int, int]
REST = 45.0  # seconds until the world is at rest: a gap's patience, a comparison, and some more
HOPS_MOST = 6  # nodes that give up a missing message one after the other, at most


@dataclass(frozen=True)
class Schedule:
    """How often each event happens in a run.

    :ivar seconds: in which messages are sent; :ivar rate: messages a second of all members together.
    :ivar cuts: links a second that are lost, and linked again within three seconds.
    :ivar crashes: members a second that crash, and start again within six seconds.
    :ivar partition: seconds for which the network is in two halves, in the middle of the run.
    :ivar slow: share of members that receive 64 KiB/s only; :ivar adversaries: share that breaks the rules.
    :ivar vanish: share of members that crash for good while messages are sent.
    :ivar stored: share of members that have a store, and hold few messages in memory.
    :ivar late: share of members that start in the middle of the run; some ask for a replay.
    :ivar degree: links of a member, on average.
    """

    seconds: float = 12.0
    rate: float = 20.0
    cuts: float = 0.0
    crashes: float = 0.0
    partition: float = 0.0
    slow: float = 0.0
    adversaries: float = 0.0
    vanish: float = 0.0
    late: float = 0.0
    stored: float = 0.0
    degree: float = 5.0
    latency: tuple[float, float] = (0.01, 0.04)


SCHEDULES = {
    "calm": Schedule(latency=(0.02, 0.01)),
    "flapping": Schedule(cuts=5.0),
    "crashes": Schedule(crashes=0.5, vanish=0.1),
    "restarts": Schedule(crashes=1.0, stored=0.7, cuts=0.5),
    "partition": Schedule(partition=6.0),
    "joins": Schedule(late=0.3, cuts=0.5),
    "slow": Schedule(slow=0.2, rate=60.0),
    "liars": Schedule(adversaries=0.15, cuts=1.0),
    "everything": Schedule(
        cuts=2.0, crashes=0.3, partition=5.0, slow=0.1, adversaries=0.1, vanish=0.05, late=0.1, stored=0.3
    ),
}


class Play:
    """One run of a schedule.

    :cvar rest: seconds from the last message to the checks.
    """

    rest = REST

    def __init__(
        self, schedule: Schedule, seed: int, count: int, trace: Callable[[str], None] | None = None
    ) -> None:
        self.schedule = schedule
        self.seed = seed
        self.world = self._world(count, self._kinds(count), trace)
        self._wanted: set[Pair] = set()
        self._apart: set[Pair] = set()  # pairs on two sides of a partition
        self._gone: set[int] = set()

    def _kinds(self, count: int) -> list[type[Member]]:
        """The classes of the first members; the others are plain ones."""
        dishonest = int(count * self.schedule.adversaries)
        return [
            RELAY_ADVERSARIES[(self.seed + number) % len(RELAY_ADVERSARIES)] for number in range(dishonest)
        ]

    def _world(self, count: int, kinds: list[type[Member]], trace: Callable[[str], None] | None) -> World:
        return World(self.seed, count, latency=self.schedule.latency, members=kinds, trace=trace).start()

    def run(self, progress: Callable[[float], None] = lambda share: None) -> World:
        """Play to the end, check the promises, and return the world."""
        world, schedule = self.world, self.schedule
        self._begin()
        start = world.now
        self._draw(start)
        end = start + schedule.seconds + self.rest
        while world.now < end:
            world.run_until(min(world.now + 1.0, end))
            progress((world.now - start) / (end - start))
        # If a node gives up missing messages, its neighbour does so only when its own patience is over.
        while is_waiting(world) and world.now < end + HOPS_MOST * world.config.gap_patience:
            world.run_until(world.now + 1.0)
        self._check()
        return world

    def _check(self) -> None:
        check_at_rest(self.world)
        check_complete(self.world)

    def _begin(self) -> None:
        world, schedule = self.world, self.schedule
        random = world.random
        honest = [member for member in world.members if not member.lies]
        for member in random.sample(honest, int(len(honest) * schedule.slow)):
            member.line = Line(world, 64 * 1024)
        for member in random.sample(honest, int(len(honest) * schedule.stored)):
            member.store = SimStore()
            world.configs[member.number] = replace(world.config, history_bytes=200_000, history_seconds=2.0)
            member.start()
        # Adversaries are linked with a network that is connected without them.
        random_graph(world, honest, schedule.degree)
        for adversary in world.members:
            if adversary.lies:
                for other in random.sample(honest, min(4, len(honest))):
                    world.link(adversary, other)
        self._wanted = {pair_of(*link.ends) for link in world.links.values()}
        for member in random.sample(honest, int(len(honest) * schedule.late)):
            world.crash(member)
            member.replay = random.choice((0, int(schedule.seconds / 4), MAX_NUMBER))
            world.at(schedule.seconds / 2 * (1 + random.random()), partial(self._back, member))
        world.run_until(1.0)

    def _draw(self, start: float) -> None:
        world, schedule = self.world, self.schedule
        end = start + schedule.seconds
        self._draw_each(start, end, schedule.rate, self._publish)
        self._draw_each(start, end, schedule.cuts, self._cut)
        self._draw_each(start, end, schedule.crashes, self._crash)
        vanishing = [member for member in world.members if not member.lies]
        for member in world.random.sample(vanishing, int(len(vanishing) * schedule.vanish)):
            world.at(start + world.random.random() * schedule.seconds, partial(self._vanish, member))
        if schedule.partition:
            at = start + (schedule.seconds - schedule.partition) / 2
            world.at(at, self._part)
            world.at(at + schedule.partition, self._heal)

    def _draw_each(self, start: float, end: float, rate: float, call: Callable[[], None]) -> None:
        at = start
        while rate and (at := at + self.world.random.expovariate(rate)) < end:
            self.world.at(at, call)

    def _publish(self) -> None:
        world = self.world
        author = world.random.choice(world.alive())
        author.publish("x" * world.random.randrange(300))

    def _cut(self) -> None:
        world = self.world
        if world.links:
            link = world.random.choice(list(world.links.values()))
            world.cut(link.number)
            world.at(world.now + 3 * world.random.random(), partial(self._relink, pair_of(*link.ends)))

    def _crash(self) -> None:
        world = self.world
        member = self._one_to_spare()
        if member is not None:
            world.crash(member)
            world.at(world.now + 0.5 + 5.5 * world.random.random(), partial(self._back, member))

    def _one_to_spare(self) -> Member | None:
        """An honest member, unless many are down."""
        honest = self.world.honest()
        return self.world.random.choice(honest) if len(honest) > 0.7 * len(self.world.members) else None

    def _back(self, member: Member) -> None:
        if member.core is None and member.number not in self._gone:
            member.start()
            for pair in sorted(self._wanted):
                if member.number in pair:
                    self.world.at(self.world.now + self.world.random.random(), partial(self._relink, pair))

    def _vanish(self, member: Member) -> None:
        self._gone.add(member.number)
        self.world.crash(member)
        # Its neighbours link with each other, as an overlay would have them do.
        around = sorted({n for pair in self._wanted if member.number in pair for n in pair} - self._gone)
        for pair in pairwise(around):
            self._wanted.add(pair)
            self._relink(pair)

    def _part(self) -> None:
        world = self.world
        side = set(world.random.sample(range(len(world.members)), len(world.members) // 2))
        self._apart = {pair for pair in self._wanted if (pair[0] in side) != (pair[1] in side)}
        world.reaches = lambda member, other: (member.number in side) == (other.number in side)
        for link in list(world.links.values()):
            if pair_of(*link.ends) in self._apart:
                world.cut(link.number, "partition")

    def _heal(self) -> None:
        apart, self._apart = self._apart, set()
        self.world.heal()
        for pair in sorted(apart):
            self.world.at(self.world.now + self.world.random.random(), partial(self._relink, pair))

    def _relink(self, pair: Pair) -> None:
        world = self.world
        a, b = world.members[pair[0]], world.members[pair[1]]
        if self._gone.isdisjoint(pair) and pair not in self._apart and a.core and b.core:
            world.link(a, b)


def random_graph(world: World, members: Sequence[Member], degree: float) -> None:
    """Link *members*: in a ring, then at random until each has *degree* links on average."""
    order = list(members)
    world.random.shuffle(order)
    for a, b in zip(order, order[1:] + order[:1], strict=True):
        world.link(a, b)
    wanted = min(degree, len(order) - 1) * len(order) / 2
    while len(world.links) < int(wanted):
        world.link(*world.random.sample(order, 2))


def pair_of(a: Member, b: Member) -> Pair:
    """The numbers of two members, the lower first."""
    return (a.number, b.number) if a.number < b.number else (b.number, a.number)
