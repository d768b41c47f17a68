"""A mesh with an authority: outsiders do not get in, whatever grant they show."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length
from twisted_mesh.simulation.scenarios.granted import GRANTED


class TestGranted(SynchronousTestCase):
    def test_no_grant_of_another_node_or_another_network_lets_an_outsider_in(self) -> None:
        for seed in at_length(range(1, 9), (1,)):
            stage = GRANTED["granted"].run(seed, at_length(10, 8))
            command = f"python -m twisted_mesh.simulation --schedule granted --seed {seed}"
            self.assertEqual(stage.world.violations, [], command)
            self.assertEqual(stage.shares, (0.0, 0.0), command)
            tried = [member for member in stage.world.members if member.lies and member.heard]  # type: ignore[attr-defined]
            self.assertEqual(len(tried), 3, command)

    def test_a_member_with_a_quota_is_held_back_while_others_wait_and_all_of_it_arrives(self) -> None:
        for seed in at_length(range(1, 4), (1,)):
            stage = GRANTED["quota"].run(seed, at_length(8, 6))
            command = f"python -m twisted_mesh.simulation --schedule quota --seed {seed}"
            self.assertEqual(stage.world.violations, [], command)
            taken, refused, at_the_deaf = stage.shares
            self.assertLess(taken, 75, command)  # of 120: 40 before the policy came, and one a second
            self.assertGreater(refused, 0, command)
            self.assertEqual(at_the_deaf, 0, command)

    def test_a_removed_member_is_delivered_up_to_its_cut_and_no_further(self) -> None:
        more = 0
        for seed in at_length(range(1, 9), (2,)):
            stage = GRANTED["removed"].run(seed, at_length(10, 8))
            command = f"python -m twisted_mesh.simulation --schedule removed --seed {seed}"
            self.assertEqual(stage.world.violations, [], command)
            self.assertEqual(stage.shares, (0.0,) * 6, command)
            more += any(member.short for member in stage.world.members)
        self.assertTrue(more)
