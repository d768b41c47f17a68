"""A run of the simulator depends on its seed alone, and not on the order of Python's sets."""

from __future__ import annotations

import sys

from twisted.internet import reactor

from tests.support.length import at_length
from tests.support.processes import Child, ProcessCase, environment

NAMES = at_length(
    ("everything", "crashes", "flapping", "slow", "lines", "joint", "asking-liars"),
    ("everything", "flapping"),
)
#: With small tables most entries are forgotten, so that the choice of them decides the run.
SMALL = """
import sys
from dataclasses import replace
from functools import partial
from twisted_mesh.config import MeshConfig
from twisted_mesh.simulation.scenarios import joint, schedules
from twisted_mesh.simulation.__main__ import play
from twisted_mesh.simulation.trace import TraceDigest
from twisted_mesh.simulation.world import World

schedules.World = partial(World, config=MeshConfig(claims_limit=4))
joint.CONFIG = replace(joint.CONFIG, claims_limit=4)
for name in sys.argv[1:]:
    digest = TraceDigest()
    world, _ = play(name, 3, 6, digest.add)
    print(name, world.frames, digest)
"""


class SameAgainTests(ProcessCase):
    def start_with(self, hash_seed: int) -> Child:
        """Start the script with so seeded hashes, which order the sets."""
        child = Child(f"PYTHONHASHSEED={hash_seed}")
        self.children.append(child)
        command = [sys.executable, "-c", SMALL, *NAMES]
        around = {**environment(), "PYTHONHASHSEED": str(hash_seed)}
        reactor.spawnProcess(child, command[0], command, around, str(self.directory))
        return child

    async def test_the_order_of_sets_decides_nothing(self) -> None:
        children = [self.start_with(hash_seed) for hash_seed in (1, 2)]
        self.assertEqual(await self.until_ended(*children, deadline=90), [0, 0])
        first, second = (child.lines for child in children)
        self.assertEqual((len(first), first), (len(NAMES), second))
        self.assertGreater(min(int(line.split()[1]) for line in first), 1000)
