"""A mesh with a certificate authority: outsiders do not get in, and nobody hears them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length
from twisted_mesh.simulation.adversaries.outsiders import Outsider, Sponsor
from twisted_mesh.simulation.scenarios.certified import CERTIFIED


class TestCertified(SynchronousTestCase):
    def test_no_certificate_of_another_key_or_another_ca_lets_an_outsider_in(self) -> None:
        for seed in at_length(range(1, 9), (1,)):
            stage = CERTIFIED["certified"].run(seed, at_length(10, 7))
            command = f"python -m twisted_mesh.simulation --schedule certified --seed {seed}"
            self.assertEqual(stage.world.violations, [], command)
            self.assertEqual(stage.shares, (0.0, 0.0, 0.0), command)
            outside = [member for member in stage.world.members if isinstance(member, Outsider)]
            self.assertEqual([bool(member.heard) for member in outside], [True] * 3, command)
            self.assertEqual([len(member.links) for member in outside], [0] * 3, command)

    def test_an_author_that_does_not_belong_is_heard_by_nobody_though_a_member_passes_it_on(self) -> None:
        for seed in at_length(range(1, 9), (1,)):
            stage = CERTIFIED["sponsored"].run(seed, at_length(10, 7))
            command = f"python -m twisted_mesh.simulation --schedule sponsored --seed {seed}"
            self.assertEqual(stage.world.violations, [], command)
            self.assertEqual(stage.shares, (0.0, 0.0, 0.0), command)
            sponsor, *outside = [member for member in stage.world.members if member.lies]
            self.assertIsInstance(sponsor, Sponsor)
            self.assertTrue(any(other.run in sponsor.delivered for other in outside), command)
