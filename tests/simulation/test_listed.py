"""A mesh of the nodes on a list: outsiders do not get in, and whoever is struck out is heard no more."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length
from twisted_mesh.simulation.scenarios.listed import LISTED


class TestListed(SynchronousTestCase):
    def test_members_come_and_go_by_the_list_and_who_stays_loses_nothing(self) -> None:
        for seed in at_length(range(1, 9), (1,)):
            stage = LISTED["listed"].run(seed, at_length(9, 7))
            command = f"python -m twisted_mesh.simulation --schedule listed --seed {seed}"
            self.assertEqual(stage.world.violations, [], command)
            self.assertEqual(stage.shares, (0.0,) * 4, command)
            outsider, sponsor, *_, gone = stage.world.members
            self.assertTrue(any(gone.run in member.delivered for member in stage.world.honest()), command)
            self.assertIn(outsider.run, sponsor.delivered, command)  # so it passes that on
