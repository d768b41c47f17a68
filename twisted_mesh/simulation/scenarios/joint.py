"""All kinds of events in one run, drawn from the seed, over a mesh that forms by itself.

Contract: a :class:`Joint` is an ``Asking`` whose members know two addresses, and make their links by
themselves.  Links are lost and the network is parted.  Members crash, leave, stall or start late; some
cannot be dialled, are guests, store messages, have slow lines, or hold messages for a short time.  One in
ten is an adversary.  At the end the promises are checked: of messages, receipts and rosters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import PolicyGiven
from twisted_mesh.simulation.adversaries import askers, identities, overlay, receipts, relays, runs
from twisted_mesh.simulation.adversaries.adversary import Adversary
from twisted_mesh.simulation.adversaries.outsiders import (
    Elsewhere,
    OfAnotherCa,
    OfOldSecret,
    Outsider,
    Repeater,
    RollingBack,
    Thief,
    WithoutSecret,
)
from twisted_mesh.simulation.bootstrap import bootstrap
from twisted_mesh.simulation.invariants.membership import MembershipChecks, check_membership, islands
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.network import Line
from twisted_mesh.simulation.scenarios.asking import Asker, Asking
from twisted_mesh.simulation.scenarios.certified import with_certificate
from twisted_mesh.simulation.scenarios.granted import policy, with_grant
from twisted_mesh.simulation.scenarios.outsiders import policy_of
from twisted_mesh.simulation.scenarios.schedules import REST, Pair, Schedule
from twisted_mesh.simulation.scenarios.stage import FORMED, later
from twisted_mesh.simulation.storage import SimStore
from twisted_mesh.simulation.world import World
from twisted_mesh.trust.content import ContentPolicy
from twisted_mesh.wire.authority import Quota
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.membership import Role

#: The adversaries.
KINDS: Final = (
    *relays.RELAY_ADVERSARIES,
    *receipts.RECEIPT_ADVERSARIES,
    receipts.MintedSenders,
    relays.Babbler,
    identities.Boaster,
    identities.Forger,
    identities.Replayer,
    identities.Accuser,
    identities.Claimer,
    identities.Minter,
    identities.Crowd,
    identities.MintedAccusers,
    identities.Flooder,
    identities.Namer,
    identities.Hoarder,
    overlay.Misleader,
    overlay.Encircler,
    overlay.Besieger,
    askers.Asker,
    runs.Recorder,
    identities.RoomTaker,
    identities.Forgetter,
)
#: Adversaries that make others send all the time: a slow line would carry nothing else.
ENDLESS: Final = (
    identities.Accuser,
    relays.Babbler,
    relays.ManyRuns,
    receipts.MintedSenders,
    identities.Minter,
    identities.Crowd,
    identities.MintedAccusers,
    identities.Flooder,
    overlay.Misleader,
    identities.RoomTaker,
    identities.Forgetter,
    askers.Asker,
)
_MINTED: Final = 500  # authors that an adversary makes up at most: more would let a run take minutes
#: Nodes without the secret, if the mesh has one.
OUTSIDE: Final = (Outsider, WithoutSecret, OfOldSecret, Repeater)
#: Nodes without a good grant, if the mesh has an authority as well; all but the first know the secret.
UNGRANTED: Final = (WithoutSecret, Thief, Elsewhere)
#: The same, if the mesh has a CA.
UNCERTIFIED: Final = (WithoutSecret, Thief, OfAnotherCa)
#: The intervals are a third to a quarter of the defaults.  ``direct_timeout`` is longer than the default,
#: since a direct message can wait that long on a slow line.
CONFIG: Final = MeshConfig(
    presence_interval=10.0,
    exchange_interval=15.0,
    compare_interval=10.0,
    peer_interval=60.0,
    direct_timeout=120.0,
)
_STALLS: Final = (1.0, 10.0)  # seconds; after 15 a link counts as dead
_SLOWEST: Final = 2_000.0  # bytes a second each way: the slowest line in a small world
#: Members whose frames a line of _SLOWEST carries with CONFIG (measured: seventeen send 6 kB/s).
_CARRIED: Final = 8
#: With certificates or grants members send so many times as much (measured: 1,180 bytes a second in place
#: of 740 to each of nine at rest, since each record carries one).
_CREDENTIALS: Final = 1.6
_SLOW: Final = 64_000.0  # bytes a second each way: the fastest of the slow lines
_DRAIN: Final = 150.0  # seconds in which the slowest line carries its backlog, some 300 kB
_HOLD: Final = (2.0, 30.0, 600.0)  # seconds that members hold messages for
#: When an authority gives its policies, in seconds, and their numbers: its key is used in two places.
_POLICIES: Final = ((2.0, 1), (8.0, 2), (14.0, 3), (14.0, 3))


@dataclass(frozen=True)
class Drawn(Schedule):
    """How often each event happens in a run.

    :ivar leaves: members a second that stop in good order, and start again within six seconds.
    :ivar stalls: members a second that handle no event for a while.
    :ivar guests: the share of members that are guests; :ivar hidden: that cannot be dialled.
    :ivar secret: whether the mesh has a secret; then there are outsiders, too.
    :ivar authority: whether a mesh with a secret has an authority, too.
    :ivar certified: whether it has a CA, if it has no authority.
    """

    leaves: float = 0.0
    stalls: float = 0.0
    guests: float = 0.0
    hidden: float = 0.0
    secret: bool = False
    authority: bool = False
    certified: bool = False


def draw(seed: int) -> Drawn:
    """Draw the events of the run of *seed*."""
    random = Random(seed)
    return Drawn(
        seconds=20.0,
        rate=random.uniform(3.0, 15.0),
        cuts=random.choice((0.0, 0.5, 2.0)),
        crashes=random.choice((0.0, 0.1, 0.3)),
        partition=random.choice((0.0, 0.0, 3.0, 10.0)),
        slow=random.choice((0.0, 0.2)),
        adversaries=0.1,
        vanish=random.choice((0.0, 0.05)),
        late=random.choice((0.0, 0.1, 0.2)),
        stored=random.choice((0.0, 0.3, 0.7)),
        latency=random.choice(((0.01, 0.04), (0.02, 0.01), (0.001, 0.1))),
        leaves=random.choice((0.0, 0.1)),
        stalls=random.choice((0.0, 0.1)),
        guests=random.choice((0.0, 0.15)),
        hidden=random.choice((0.0, 0.2)),
        secret=random.random() < 0.5,
        authority=random.random() < 0.3,
        certified=random.random() < 0.3,
    )


class Joint(Asking):
    """One run with all kinds of events."""

    schedule: Drawn

    def __init__(self, seed: int, count: int, trace: Callable[[str], None] | None = None) -> None:
        super().__init__(draw(seed), seed, count, trace)
        self.rest = REST + CONFIG.presence_missed * CONFIG.presence_interval
        if self.schedule.slow:
            self.rest += _DRAIN
        self.membership = MembershipChecks(self.world)

    def _kinds(self, count: int) -> list[type[Member]]:
        random = Random(-self.seed)
        dishonest = int(count * self.schedule.adversaries)
        kinds = [kind for kind in KINDS if kind not in ENDLESS] if self.schedule.slow else KINDS
        chosen = [random.choice(kinds) for _ in range(dishonest)]
        if self._has_authority:
            chosen[:1] = [RollingBack] * min(dishonest, 1)
        if self.schedule.secret:
            uncertified = UNCERTIFIED if self.schedule.certified else OUTSIDE
            chosen += random.sample(UNGRANTED if self.schedule.authority else uncertified, dishonest)
        return [*chosen, *[Asker] * (count - len(chosen))]

    @property
    def _has_authority(self) -> bool:
        return self.schedule.secret and self.schedule.authority

    def _world(self, count: int, kinds: list[type[Member]], trace: Callable[[str], None] | None) -> World:
        latency = self.schedule.latency
        return World(self.seed, count, CONFIG, latency, kinds, trace, overlay=True)

    def _begin(self) -> None:
        world, schedule, random = self.world, self.schedule, self.world.random
        first, second, *others = [member for member in world.members if not member.lies]
        bootstrap(world, world.members, first, second)
        if schedule.secret:
            for member in world.members:
                member.policy = policy_of(member)
                if schedule.authority and isinstance(member.policy, ContentPolicy):
                    member.policy = with_grant(member, first)
                elif schedule.certified and isinstance(member.policy, ContentPolicy):
                    member.policy = with_certificate(member, first)
            later(world, FORMED, self._record)
        if self._has_authority:
            for number, (at, _) in enumerate(_POLICIES):
                later(world, FORMED + at, self._give_policy, number)
        self._prepare([member for member in world.members if member.lies], others)

        def some(share: float) -> list[Member]:
            return random.sample(others, int(len(others) * share))

        slowest = _SLOWEST * max(1.0, len(world.members) / _CARRIED)
        if schedule.secret and (schedule.authority or schedule.certified):
            slowest *= _CREDENTIALS
        for member in some(schedule.slow):
            bandwidth = slowest * (_SLOW / slowest) ** random.random()
            member.line, member.uplink = Line(world, bandwidth), Line(world, bandwidth)
        for member in some(schedule.guests):
            member.role = Role.GUEST
        for member in some(schedule.hidden):
            member.address = None
        for member in some(schedule.stored):
            member.store = SimStore()
        for member in others:
            hold = random.choice(_HOLD)
            world.configs[member.number] = replace(CONFIG, history_seconds=hold)
            member.retention = int(hold)
            member.retention = int(hold)
        late = some(schedule.late)
        for member in world.members:
            at = random.random()
            if member in late:
                member.replay = random.choice((0, int(schedule.seconds / 4), MAX_NUMBER))
                at = FORMED + schedule.seconds / 2 * (1 + random.random())
            later(world, at, member.start)
        world.run_until(FORMED)

    def _prepare(self, adversaries: list[Member], others: list[Member]) -> None:
        """Tell *adversaries* when to begin, whom to attack, and when to do less."""
        random = Random(~self.seed)
        for member in adversaries:
            if isinstance(member, Adversary):
                member.begins = min(member.begins, FORMED)
            if isinstance(member, identities.Minter):
                member.most = min(member.most, _MINTED)
            if isinstance(member, overlay.Encircler):
                member.band = [one for one in adversaries if isinstance(one, overlay.Encircler)]
            if isinstance(member, overlay.Besieger):
                member.target = random.choice(others)
        self._calm(FORMED)

    def _record(self) -> None:
        """Let those that repeat a handshake have one."""
        for member in self.world.members:
            if isinstance(member, Repeater):
                member.recorded = self.world.last_handshake

    def _give_policy(self, number: int) -> None:
        """Give a member the next policy, which removes a node that nobody knows, and has a low quota."""
        honest = self.world.honest()
        quotas = Quota(b"", 1 + number, 0), Quota(honest[0].origin, 0, 1000)
        packed = policy(_POLICIES[number][1], {bytes([number]) * 32: []}, *quotas[: 1 + number])
        honest[number % len(honest)].handle(PolicyGiven(packed))

    def _draw(self, start: float) -> None:
        super()._draw(start)
        end = start + self.schedule.seconds
        self._draw_each(start, end, self.schedule.leaves, self._leave)
        self._draw_each(start, end, self.schedule.stalls, self._stall)

    def _leave(self) -> None:
        member = self._one_to_spare()
        if member is not None:
            self.world.leave(member)
            later(self.world, 1.0 + 5.0 * self.world.random.random(), self._back, member)

    def _stall(self) -> None:
        world = self.world
        free = [member for member in world.honest() if member.held_until <= world.now]
        if free:
            world.stall(world.random.choice(free), world.random.uniform(*_STALLS))

    def _vanish(self, member: Member) -> None:
        self._gone.add(member.number)
        self.world.vanish(member)

    def _part(self) -> None:
        world = self.world
        side = set(world.random.sample(range(len(world.members)), len(world.members) // 2))
        world.part(lambda member: member.number in side)

    def _heal(self) -> None:
        self.world.heal()

    def _relink(self, pair: Pair) -> None:
        """Do nothing: the overlays make new links."""

    def _check(self) -> None:
        world = self.world
        end = world.now + 5 * CONFIG.exchange_interval
        while len(islands(world.honest())) > 1 and world.now < end:
            world.run_until(world.now + 1.0)
        world.run_until(world.now + CONFIG.compare_interval)
        super()._check()
        check_membership(world)
        for member in world.members:
            if isinstance(member, Outsider) and (
                member.links or (type(member) in OUTSIDE and member.heard)
            ):
                world.violated(member, "outsiders", f"it has {len(member.heard)} bytes of members")
        if self._has_authority:
            policies = {member.policy.newest for member in world.honest()}
            if len(policies) > 1:
                world.violated(world.honest()[0], "outsiders", f"members have {len(policies)} policies")
