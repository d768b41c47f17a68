"""Scenes of a mesh that forms by itself: it begins, is parted, loses nodes, and heals.

Contract: :data:`SCENES` has the scenes by name; the promises are checked at the end of each.
"""

from __future__ import annotations

from functools import partial

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import ForgetMember
from twisted_mesh.simulation.invariants.membership import check_membership, patience
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios.stage import FORMED, Scene, Stage, later
from twisted_mesh.simulation.storage import SimStore
from twisted_mesh.wire.membership import Role

HOUR = 3600.0
FORGOTTEN = 300.0  # seconds after which others have forgotten a member in the scene ``restored``

#: Intervals twenty times as long as the defaults, so that a day can be simulated.
SLOW = MeshConfig(
    ping_after=100.0,
    dead_after=300.0,
    presence_interval=600.0,
    compare_interval=600.0,
    exchange_interval=1200.0,
    shuffle_interval=200.0,
    peer_interval=6000.0,
    redial_longest=600.0,
    history_seconds=100 * HOUR,
)


def _bootstrap(stage: Stage) -> None:
    stage.gather()
    stage.run(FORMED)
    check_membership(stage.world)
    stage.say()
    stage.end(5.0)


def _crowd_at_the_door(stage: Stage) -> None:
    """Nine nodes join one contact at once: the overlay makes room, and no node is left out."""
    stage.gather(within=0.01)
    stage.run(FORMED)
    for _ in range(50):
        stage.run(0.5)
        if not stage.is_one():
            check_membership(stage.world)
            break
    stage.say()
    stage.end(5.0)


def _parted(seconds: float, store: bool, stage: Stage) -> None:
    """A partition: two halves that hear nothing of each other, while both send messages.

    With every second seed, the only node whose address was configured has gone before.
    """
    world = stage.world
    if store:
        for member in world.members[::2]:
            member.store = SimStore()
    stage.gather()
    stage.run(30.0)
    if world.seed % 2:
        world.vanish(stage.contact)
        stage.run(60.0)
    side = set(world.random.sample(range(len(world.members)), len(world.members) // 2))
    world.part(lambda member: member.number in side)
    stage.chat(seconds, 60 / seconds)
    stage.run(seconds)
    world.heal()
    took = stage.until_one(5 * world.config.exchange_interval)
    stage.note(f"one mesh {took:.1f} s after the partition")
    stage.end(2 * patience(world.config))


def _coming_and_going(stage: Stage) -> None:
    """Every second a node stops or crashes, and starts again within six seconds.

    A quarter of the nodes cannot be dialled, and a sixth are guests.
    """
    world = stage.world
    for member in world.members[3::4]:
        member.address = None
    for member in world.members[4::6]:
        member.role = Role.GUEST
    stage.gather()
    stage.run(FORMED)
    stage.chat(60.0, 2.0)
    for second in range(60):
        later(world, second + world.random.random(), _go, stage)
    stage.run(60.0)
    stage.end(2 * patience(world.config))


def _thrown_out(stage: Stage) -> None:
    """As above, and every second a node has all forgotten that are gone as far as it knows."""
    for second in range(70):
        later(stage.world, FORMED + second, _forget_the_gone, stage)
    _coming_and_going(stage)


def _forget_the_gone(stage: Stage) -> None:
    if members := stage.members():
        asker = stage.world.random.choice(members)
        for author in list(asker.node.roster):
            asker.handle(ForgetMember(author.presence.origin))  # it counts only if the author is gone


def _go(stage: Stage) -> None:
    world = stage.world
    member = world.random.choice(world.members)
    if world.random.random() < 0.5:
        world.leave(member)
    else:
        world.crash(member)
    later(world, 0.5 + 5.5 * world.random.random(), _back, member)


def _back(member: Member) -> None:
    if member.core is None:
        member.start()


def _suspicion_of_the_living(stage: Stage) -> None:
    """Links are lost all the time, but no node is: nobody may be shown as down."""
    world = stage.world
    stage.gather()
    stage.run(FORMED)
    stage.chat(60.0, 2.0)
    for cut in range(120):
        later(world, cut / 2 + world.random.random(), _cut_any, stage)
    stage.run(2 * patience(world.config))
    stage.note(f"{world.kinds.get('Suspect', 0)} SUSPECT over links, of 120 that were lost")
    stage.end(patience(world.config))


def _cut_any(stage: Stage) -> None:
    link = stage.world.random.choice(list(stage.world.links.values()))
    stage.world.cut(link.number)


def _stalls(stage: Stage) -> None:
    """Reactors stall for ten seconds: no stalled node may suspect others, or be suspected."""
    world = stage.world
    stage.gather()
    stage.run(FORMED)
    stage.chat(60.0, 2.0)
    for number, member in enumerate(world.random.sample(world.members, len(world.members) // 2)):
        later(world, 1.0 + 3 * number, _stall, stage, member)
    stage.run(2 * patience(world.config))
    suspicions = world.kinds.get("Suspect", 0)
    if suspicions:
        world.violated(world.members[0], "downs", f"{suspicions} SUSPECT over links because of stalls")
    stage.end(patience(world.config))


def _stall(stage: Stage, member: Member) -> None:
    stage.world.stall(member, 10.0)


def _long_stalls(stage: Stage) -> None:
    """Reactors stall for forty seconds: others show their nodes as down, and as up again after it."""
    world = stage.world
    stage.gather()
    stage.run(FORMED)
    stage.chat(60.0, 2.0)
    for number, member in enumerate(world.random.sample(world.members, len(world.members) // 4)):
        later(world, 5.0 * number, world.stall, member, 40.0)
    stage.run(100.0)
    stage.end(2 * patience(world.config))
    longest = max(stage.membership.wrongs, default=0.0)
    stage.note(f"shown down {len(stage.membership.wrongs)} times, {longest:.1f} s at most")


def _restored(stage: Stage) -> None:
    """A node is restored from a backup, and uses an epoch again that all others have forgotten."""
    world = stage.world
    stage.gather()
    stage.run(FORMED)
    stage.say()
    stage.run(FORMED)
    restored = world.members[-1]
    world.crash(restored)
    stage.run(FORGOTTEN)
    known = sum(member.node.history.get(restored.run) is not None for member in stage.members())
    restored.epoch -= 1
    restored.start()
    stage.run(FORMED)
    stage.say()
    stage.note(f"{known} nodes held something of the earlier run; {restored.renewals} new run began")
    stage.end(patience(world.config))


def _quiet(stage: Stage) -> None:
    """Nothing happens: count the frames that keep the rosters right, and the copies of a message."""
    world, count = stage.world, len(stage.world.members)
    stage.gather()
    stage.run(60.0)
    before = dict(world.kinds), world.frames, world.bytes
    rounds = 4
    spoken = rounds * world.config.presence_interval
    stage.run(spoken)

    def since(kind: str) -> int:
        return world.kinds.get(kind, 0) - before[0].get(kind, 0)

    copies = since("Presence") / (rounds * count * (count - 1)) - 1
    told = since("Presence") / count / spoken
    stage.note(
        f"{told:.2f} PRESENCE a node and second, {copies:.3f} of it needless; "
        f"{(world.frames - before[1]) / count / spoken:.2f} frames and "
        f"{(world.bytes - before[2]) / count / spoken:.0f} bytes of all kinds"
    )
    first = world.kinds.get("SignedBatch", 0), world.counts["deliveries"]
    stage.chat(10.0, 20.0)
    stage.run(15.0)
    batches = world.kinds["SignedBatch"] - first[0]
    stage.shares = copies, batches / (world.counts["deliveries"] - first[1]) - 1
    stage.note(f"{stage.shares[1]:.3f} needless copies of a batch, the first of each author included")
    stage.end(10.0)


SCENES = {
    "quiet": Scene(_quiet, 100),
    "bootstrap": Scene(_bootstrap, 100),
    "door": Scene(_crowd_at_the_door, 10),
    "parted": Scene(partial(_parted, 600.0, True), 16, MeshConfig(history_seconds=1200.0)),
    "parted-day": Scene(partial(_parted, 25 * HOUR, False), 12, SLOW),
    "coming-and-going": Scene(_coming_and_going, 24),
    "thrown-out": Scene(_thrown_out, 24),
    "suspicion": Scene(_suspicion_of_the_living, 24),
    "stalls": Scene(_stalls, 20),
    "long-stalls": Scene(_long_stalls, 20),
    "restored": Scene(_restored, 20, MeshConfig(history_seconds=60.0, member_memory=120.0)),
}
