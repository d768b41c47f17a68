"""What scenes have in common: a world whose members find each other, and the ends of a scene.

Contract: a :class:`Scene` turns a seed into a run of a world with an overlay that ends at rest, checked,
and into some lines on what was seen.  The same seed gives the same run, frame by frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from twisted_mesh.config import MeshConfig
from twisted_mesh.simulation.bootstrap import bootstrap
from twisted_mesh.simulation.invariants.judge import check_at_rest, check_complete
from twisted_mesh.simulation.invariants.membership import MembershipChecks, check_membership, islands
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.world import World
from twisted_mesh.wire.membership import Role

Progress = Callable[[float], None]
HONEST = 4  # members there are at least
FORMED = 10.0  # seconds in which a mesh of a hundred nodes stands


class Stage:
    """One run of a scene.

    :ivar membership: watches who is shown as gone.
    :ivar notes: lines on what was seen; :ivar shares: and numbers.
    """

    def __init__(
        self,
        seed: int,
        count: int,
        config: MeshConfig | None = None,
        members: Sequence[type[Member]] = (),
        latency: tuple[float, float] = (0.01, 0.04),
        trace: Callable[[str], None] | None = None,
        overlay: bool = True,
    ) -> None:
        """
        :param members: classes of the first members, where they are not plain ones.
        :param overlay: whether they look for neighbours by themselves.
        """
        self.world = World(seed, count, config, latency, members, trace, overlay)
        self.membership = MembershipChecks(self.world)
        self.notes: list[str] = []
        self.shares: tuple[float, ...] = ()

    @property
    def contact(self) -> Member:
        """The first honest member, whose address all others know."""
        return next(member for member in self.world.members if not member.lies)

    def speak(self, count: int) -> None:
        """All but *count* honest members are guests."""
        honest = [member for member in self.world.members if not member.lies]
        for member in honest[count:]:
            member.role = Role.GUEST

    def gather(self, within: float = 1.0, members: Sequence[Member] | None = None) -> None:
        """Start the contact, and *within* so many seconds all others, which know its address and no more.

        :param members: those to start; None: all.
        """
        world = self.world
        starting = world.members if members is None else members
        bootstrap(world, starting, self.contact)
        for member in starting:
            at = 0.0 if member is self.contact else within * world.random.random()
            world.at(world.now + at, member.start)

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.world.run_until(self.world.now + seconds)

    def say(self, among: Sequence[Member] | None = None, size: int = 20) -> None:
        """Each of *among*, or of all members, sends a message."""
        for member in self.members() if among is None else among:
            member.publish("x" * size)

    def chat(self, seconds: float, rate: float) -> None:
        """From now on, for so long, somebody says something *rate* times a second."""
        world = self.world
        at = world.now
        while (at := at + world.random.expovariate(rate)) < world.now + seconds:
            world.at(at, self._say_something)

    def members(self) -> list[Member]:
        """The honest ones that are up, and no guests."""
        return [member for member in self.world.honest() if member.role is Role.MEMBER]

    def is_one(self) -> bool:
        """Whether all that are up and honest are one mesh."""
        return len(islands(self.world.honest())) == 1

    def until_one(self, most: float) -> float:
        """Let time pass until all are one mesh, at most so much; the seconds it took."""
        began = self.world.now
        while not self.is_one() and self.world.now < began + most:
            self.run(0.25)
        return self.world.now - began

    def end(self, rest: float) -> None:
        """Come to rest in so many seconds, and be checked."""
        self.run(rest)
        check_at_rest(self.world)
        check_complete(self.world)
        check_membership(self.world)

    def note(self, text: str) -> None:
        """Something was seen."""
        self.notes.append(text)

    def _say_something(self) -> None:
        free = [member for member in self.members() if member.held_until <= self.world.now]
        if free:
            self.world.random.choice(free).publish("x" * self.world.random.randrange(300))


@dataclass(frozen=True)
class Scene:
    """Something that happens to a mesh.

    :ivar play: lets it happen; :ivar nodes: how many there are unless it is said.
    :ivar config: their limits; :ivar kinds: classes of the first members.
    :ivar is_large: whether it is played only when it is named.
    :ivar overlay: whether members look for neighbours by themselves.
    :ivar latencies: of its frames, in seconds, of which the seed draws one.
    """

    play: Callable[[Stage], None]
    nodes: int
    config: MeshConfig | None = None
    kinds: Sequence[type[Member]] = ()
    is_large: bool = False
    overlay: bool = True
    latencies: Sequence[tuple[float, float]] = ((0.01, 0.04),)

    def run(self, seed: int, count: int = 0, trace: Callable[[str], None] | None = None) -> Stage:
        """Play it to its end."""
        count = max(count or self.nodes, len(self.kinds) + HONEST)
        latency = self.latencies[seed % len(self.latencies)]
        stage = Stage(seed, count, self.config, self.kinds, latency, trace, self.overlay)
        self.play(stage)
        return stage


def later(world: World, seconds: float, call: Callable[..., None], *arguments: object) -> None:
    """Do it so many seconds from now."""
    world.at(world.now + seconds, partial(call, *arguments))
