"""Messages over slow lines arrive once, and none is given up while it comes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length
from twisted_mesh.simulation.scenarios.lines import LINES

SEEDS = at_length(range(1, 45), range(1, 7))
IN_VAIN = 1.1  # bytes of batches sent for each missing byte, over all seeds (measured: 1.05)


class TestLines(SynchronousTestCase):
    """Lines of 2 kB/s to 1 MB/s, and messages to 1 MiB."""

    def test_all_of_it_arrives_once_and_no_gap_is_told(self) -> None:
        came = missing = 0
        for seed in SEEDS:
            stage = LINES["lines"].run(seed)
            command = f"python -m twisted_mesh.simulation --schedule lines --seed {seed}"
            self.assertEqual(stage.world.violations, [], command)
            self.assertEqual(stage.world.counts["gaps"], 0, command)
            self.assertGreater(stage.world.counts["deliveries"], 0, command)
            came += stage.world.batch_bytes
            missing += stage.world.fresh_bytes
        self.assertGreater(missing, 0)
        self.assertLessEqual(came, IN_VAIN * missing)
