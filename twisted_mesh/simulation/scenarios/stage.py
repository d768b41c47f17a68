"""The parts of a scene: a world, and the steps that scenes are made of.

Contract: a :class:`Scene` plays a function with a :class:`Stage` that has a world of its own.  It ends with
checks of the promises, and with notes for people.  The same seed gives the same run, frame by frame.
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
HONEST = 4  # members beside the adversaries, at least
FORMED = 10.0  # seconds in which a hundred nodes become one mesh


class Stage:
    """One run of a scene.

    :ivar membership: watches the rosters.
    :ivar notes: results for people, as lines of text; :ivar shares: results for tests, as numbers.
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
        :param members: classes of the first members; the others are plain ones.
        :param overlay: whether members look for neighbours by themselves.
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
        """Make all honest members guests but *count* of them."""
        honest = [member for member in self.world.members if not member.lies]
        for member in honest[count:]:
            member.role = Role.GUEST

    def gather(self, within: float = 1.0, members: Sequence[Member] | None = None) -> None:
        """Start members; the contact is the only configured peer of the others.

        :param within: seconds in which all members but the contact start.
        :param members: the members to start; None: all.
        """
        world = self.world
        starting = world.members if members is None else members
        bootstrap(world, starting, self.contact)
        for member in starting:
            at = 0.0 if member is self.contact else within * world.random.random()
            world.at(world.now + at, member.start)

    def run(self, seconds: float) -> None:
        """Play the next *seconds*."""
        self.world.run_until(self.world.now + seconds)

    def say(self, among: Sequence[Member] | None = None, size: int = 20) -> None:
        """Let each of *among* send a message; None: each of :meth:`members`."""
        for member in self.members() if among is None else among:
            member.publish("x" * size)

    def chat(self, seconds: float, rate: float) -> None:
        """In the next *seconds*, let random members send *rate* messages a second in all."""
        world = self.world
        at = world.now
        while (at := at + world.random.expovariate(rate)) < world.now + seconds:
            world.at(at, self._say_something)

    def members(self) -> list[Member]:
        """The honest members that are up, without guests."""
        return [member for member in self.world.honest() if member.role is Role.MEMBER]

    def is_one(self) -> bool:
        """Whether all honest nodes that are up are one mesh."""
        return len(islands(self.world.honest())) == 1

    def until_one(self, most: float) -> float:
        """Play until all are one mesh, for at most *most* seconds; return the seconds."""
        began = self.world.now
        while not self.is_one() and self.world.now < began + most:
            self.run(0.25)
        return self.world.now - began

    def end(self, rest: float) -> None:
        """Play the next *rest* seconds, and check all promises."""
        self.run(rest)
        check_at_rest(self.world)
        check_complete(self.world)
        check_membership(self.world)

    def note(self, text: str) -> None:
        """Add *text* to the notes."""
        self.notes.append(text)

    def _say_something(self) -> None:
        free = [member for member in self.members() if member.held_until <= self.world.now]
        if free:
            self.world.random.choice(free).publish("x" * self.world.random.randrange(300))


@dataclass(frozen=True)
class Scene:
    """Something that happens to a mesh.

    :ivar play: plays the scene; :ivar nodes: how many there are by default.
    :ivar config: the limits of all members; :ivar kinds: the classes of the first members.
    :ivar is_large: whether the scene is played only if it is named.
    :ivar overlay: whether members look for neighbours by themselves.
    :ivar latencies: pairs for :class:`World`, of which the seed draws one.
    """

    play: Callable[[Stage], None]
    nodes: int
    config: MeshConfig | None = None
    kinds: Sequence[type[Member]] = ()
    is_large: bool = False
    overlay: bool = True
    latencies: Sequence[tuple[float, float]] = ((0.01, 0.04),)

    def run(self, seed: int, count: int = 0, trace: Callable[[str], None] | None = None) -> Stage:
        """Play the scene to its end; *count* is of nodes, 0 for the default."""
        count = max(count or self.nodes, len(self.kinds) + HONEST)
        latency = self.latencies[seed % len(self.latencies)]
        stage = Stage(seed, count, self.config, self.kinds, latency, trace, self.overlay)
        self.play(stage)
        return stage


def later(world: World, seconds: float, call: Callable[..., None], *arguments: object) -> None:
    """Call *call* in *seconds* from now."""
    world.at(world.now + seconds, partial(call, *arguments))
