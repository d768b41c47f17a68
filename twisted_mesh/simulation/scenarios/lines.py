"""A scene with slow lines: every message comes, and few bytes are sent in vain.

Contract: the scene has no overlay.  The seed draws the lines (2 kB/s to 1 MB/s, the same both ways), round
trips of up to two seconds, messages of up to 1 MiB, and links that are lost for a while.  There are no more
messages than the slowest line carries before nodes give them up.  At the end every node has all messages,
no application was told of a gap, and few bytes of batches came that were held already.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from twisted_mesh.config import MeshConfig
from twisted_mesh.simulation.invariants.judge import check_at_rest, check_complete
from twisted_mesh.simulation.member import Member, SimLink
from twisted_mesh.simulation.network import Line
from twisted_mesh.simulation.scenarios.stage import Scene, Stage

SLOWEST: Final = 2_000.0  # bytes a second
FASTEST: Final = 1_000_000.0
_SIZES: Final = (50, 1_000, 30_000, 250_000, 2**20 - 100)  # bytes of a message
_SHARE: Final = 0.35  # of the bytes that the slowest line carries while nodes hold messages
_TALK: Final = 60.0  # seconds in which all messages are sent
#: Seconds of latency of a frame: the least, and the most that is added at random.
_LATENCIES: Final = ((0.001, 0.001), (0.02, 0.02), (0.2, 0.1), (0.8, 0.2))
_CUTS: Final = 3  # links that are lost in that time, each for up to ten seconds
#: Bytes of batches that come for each byte that was missing, at most (measured: 1.1, and 1.47 in one run).
IN_VAIN: Final = 1.5


def _play(stage: Stage) -> None:
    world, random = stage.world, stage.world.random
    slowest = FASTEST
    for member in world.members:
        bandwidth = SLOWEST * (FASTEST / SLOWEST) ** random.random()
        slowest = min(slowest, bandwidth)
        member.line, member.uplink = Line(world, bandwidth), Line(world, bandwidth)
        member.start()
    members = world.members
    for number, member in enumerate(members):
        world.link(member, members[number - 1])
    for _ in range(len(members) // 2):
        world.link(*random.sample(members, 2))
    stage.run(30.0)
    left = _SHARE * slowest * world.config.history_seconds
    largest = left / max(len(member.links) for member in members)  # it may go over each link
    while left > 0:
        size = random.choice([size for size in _SIZES if size < min(left, largest)] or [50])
        for _ in range(random.choice((1, 1, 10, 100))):
            left -= size
            if left > 0:
                world.at(world.now + _TALK * random.random(), partial(_say, random.choice(members), size))
    for _ in range(_CUTS):
        link = random.choice(list(world.links.values()))
        world.at(world.now + _TALK * random.random(), partial(_cut, stage, link))
    stage.run(_TALK + 2 * world.config.history_seconds)
    check_at_rest(world)
    check_complete(world)
    if world.counts["gaps"]:
        world.violated(members[0], "missed", f"{world.counts['gaps']} gaps over lines that only are slow")
    ratio = world.batch_bytes / max(world.fresh_bytes, 1)
    stage.note(f"{world.batch_bytes} bytes of batches came, {ratio:.3f} for each that was missing")
    if ratio > IN_VAIN:
        world.violated(members[0], "limits", f"{ratio:.3f} bytes for each that was missing")


def _say(member: Member, size: int) -> None:
    member.publish(member.world.random.randbytes(size))


def _cut(stage: Stage, link: SimLink) -> None:
    world = stage.world
    if link.open:
        world.cut(link.number)
        world.at(world.now + 10.0 * world.random.random(), partial(_relink, stage, link))


def _relink(stage: Stage, link: SimLink) -> None:
    stage.world.link(*link.ends)


#: The interval is long, since a record can wait behind the largest message on every line of its author.
_CONFIG: Final = MeshConfig(presence_interval=200.0)
LINES: Final = {"lines": Scene(_play, 5, _CONFIG, overlay=False, latencies=_LATENCIES)}
