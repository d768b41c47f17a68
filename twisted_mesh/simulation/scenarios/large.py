"""Large meshes: most of their nodes fail at once, or there are ten thousand of them.

Contract: these scenes are played only if they are named.  Twenty nodes are members, and the rest guests, so
that the overlay is measured and not the roster.
"""

from __future__ import annotations

import resource
from collections.abc import Sequence
from functools import partial

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import StreamId
from twisted_mesh.simulation.invariants.membership import islands
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios.stage import Scene, Stage

SPEAKERS = 20
SHARES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95)  # per cent
#: Nodes hold messages for so long that the last island still gets them.
LONG = MeshConfig(history_seconds=4 * 3600.0)
PATIENCE = 7200.0  # seconds in which the survivors must become one mesh
LOOKS = (1.0, 5.0, 20.0, 60.0)  # seconds after the failure at which messages are counted

_HEAD = "   failed  survivors   linked    after 1 s     5 s    20 s    60 s   later    one mesh after"


def _failures(silent: bool, stage: Stage) -> None:
    """For each of SHARES, let that share of the nodes of a new world fail at once."""
    stage.note(
        "Nodes lose power, which shows after 15 s" if silent else "Processes die, which shows at once"
    )
    stage.note(_HEAD)
    count, seed = len(stage.world.members), stage.world.seed
    for share in SHARES:
        one = Stage(seed, count, LONG)
        stage.note(fail(one, share / 100, silent))
        stage.world.violations += one.world.violations
        for kind, number in one.world.counts.items():
            stage.world.counts[kind] += number


def fail(stage: Stage, share: float, silent: bool) -> str:
    """Let *share* of all nodes fail; return a line of text on how many survivors get messages.

    :param silent: whether neighbours notice the failure by the silence only.
    """
    world = stage.world
    stage.speak(SPEAKERS)
    stage.gather(within=len(world.members) / 100)
    stage.run(len(world.members) / 100 + 60.0)
    stage.say()
    stage.run(5.0)
    members = stage.members()
    survivors = world.random.sample(members, max(1, round(len(members) * (1 - share))))
    others = [member for member in world.members if member not in members]
    survivors += world.random.sample(others, round(len(world.members) * (1 - share)) - len(survivors))
    alive = set(survivors)
    for member in world.members:
        if member not in alive:
            world.vanish(member) if silent else world.crash(member)
    linked = len(islands(survivors)[0]) / len(survivors)
    failed = world.now
    stage.say(survivors[:SPEAKERS])
    runs = {member.run: world.published[member.run] for member in survivors[:SPEAKERS]}
    seen, healed = [], 0.0
    for look in LOOKS:
        while world.now < failed + look:
            stage.run(0.25)
            if not healed and _is_one(stage, survivors):
                healed = world.now - failed
        seen.append(_reached(survivors, runs))
    while not healed and world.now < failed + PATIENCE:
        stage.run(0.25)
        healed = world.now - failed if _is_one(stage, survivors) else 0.0
    stage.run(10.0)
    stage.say(survivors[:SPEAKERS])
    stage.end(10.0)
    runs = {member.run: world.published[member.run] for member in survivors[:SPEAKERS]}
    shares = "".join(f"{each:8.1%}" for each in (*seen, _reached(survivors, runs)))
    return f"{share:9.0%}  {len(survivors):9d}  {linked:7.1%}     {shares}    {healed:8.2f} s"


def _is_one(stage: Stage, survivors: Sequence[Member]) -> bool:
    gone = all(link.open for link in stage.world.links.values())
    return gone and len(islands(survivors)) == 1


def _reached(survivors: Sequence[Member], runs: dict[StreamId, int]) -> float:
    """The share of survivors that hold the last message of a sender, on average over *runs*."""
    has = sum(
        member.run == run or member.node.history.head(run) >= head
        for run, head in runs.items()
        for member in survivors
    )
    return has / len(survivors) / len(runs)


def _crowd(stage: Stage) -> None:
    """Ten thousand nodes find each other, and twenty of them send messages."""
    world = stage.world
    count = len(world.members)
    stage.speak(SPEAKERS)
    stage.gather(within=count / 100)
    stage.run(count / 100 + 20.0)
    groups = islands(world.honest())
    stage.note(f"{len(groups)} groups 20 s after the last has come, {len(groups[0])} nodes in the largest")
    degrees = sorted(len(member.table) for member in world.members)
    stage.note(f"{degrees[0]} to {degrees[-1]} neighbours, {degrees[count // 2]} in the middle")
    for _ in range(5):
        stage.say()
        stage.run(2.0)
    stage.end(20.0)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    stage.note(f"{used:.2f} GiB")


LARGE = {
    "failures": Scene(partial(_failures, False), 1000, is_large=True),
    "failures-silent": Scene(partial(_failures, True), 1000, is_large=True),
    "crowd": Scene(_crowd, 10_000, is_large=True),
}
