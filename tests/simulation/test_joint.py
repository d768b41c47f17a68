"""Everything at once, over a mesh that forms by itself: all promises hold."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length
from twisted_mesh.simulation.adversaries import askers, identities, overlay, receipts, relays, runs
from twisted_mesh.simulation.adversaries.adversary import Adversary
from twisted_mesh.simulation.adversaries.identities import Minter
from twisted_mesh.simulation.adversaries.outsiders import Outsider
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.scenarios import joint as scenario
from twisted_mesh.simulation.scenarios.joint import (
    ENDLESS,
    KINDS,
    OUTSIDE,
    UNCERTIFIED,
    UNGRANTED,
    Joint,
    draw,
)


class TestJoint(SynchronousTestCase):
    """Of the first seeds 4 and 20 have found faults: receipts that relays dropped, and a false gap."""

    def setUp(self) -> None:
        self.patch(Adversary, "pace", at_length(Adversary.pace, 0.5))

    def test_all_promises_hold(self) -> None:
        for seed in at_length((1, 2, 4, 5, 6, 7, 8, 9), (4,)):  # in 3 and 10 lie the kinds of 4 and 6
            nodes = at_length(12 + seed % 4, 8)
            joint = Joint(seed, nodes)
            world = joint.run()
            command = f"--schedule joint --seed {seed} --nodes {nodes}"
            self.assertEqual(world.violations, [], command)
            self.assertGreater(world.counts["deliveries"], 100)
            self.assertGreater(world.kinds["Receipts"], 10)
            self.assertGreater(len(joint.book.letters), 10)

    def test_all_that_may_happen_does_in_some_run(self) -> None:
        drawn = [draw(seed) for seed in range(200)]
        for name in ("cuts", "crashes", "partition", "slow", "vanish", "late", "stored"):
            self.assertEqual({bool(getattr(one, name)) for one in drawn}, {False, True}, name)
        for name in ("leaves", "stalls", "guests", "hidden", "secret", "authority", "certified"):
            self.assertEqual({bool(getattr(one, name)) for one in drawn}, {False, True}, name)

    def test_an_adversary_of_any_kind_may_be_drawn(self) -> None:
        modules = (askers, identities, overlay, receipts, relays, runs)
        classes = (one for module in modules for one in vars(module).values() if isinstance(one, type))
        adversaries = {one for one in classes if issubclass(one, Member) and one.lies}
        self.assertEqual(adversaries - {Adversary}, set(KINDS))

    def test_one_member_in_ten_is_an_adversary_and_none_is_endless_if_lines_are_slow(self) -> None:
        drawn: set[type[Member]] = set()
        for seed in range(40):
            joint = Joint(seed, 30)
            kinds = {type(member) for member in joint.world.members if member.lies} - set(OUTSIDE)
            outside = [member for member in joint.world.members if isinstance(member, Outsider)]
            self.assertEqual(len(outside), 3 if joint.schedule.secret else 0)
            self.assertEqual(sum(member.lies for member in joint.world.members), 3 + len(outside))
            if joint.schedule.slow:
                self.assertEqual(kinds & set(ENDLESS), set())
            drawn |= kinds
        self.assertGreater(len(drawn), len(KINDS) / 2)

    def begun(self, seed: int) -> Joint:
        """A run of which no second has been played."""
        self.patch(scenario, "FORMED", 0.0)
        joint = Joint(seed, 30)
        joint._begin()
        return joint

    def test_a_mesh_with_a_secret_may_have_an_authority_too(self) -> None:
        joint = self.begun(5)
        self.assertTrue(joint.schedule.secret and joint.schedule.authority)
        outside = [member for member in joint.world.members if isinstance(member, Outsider)]
        self.assertEqual({type(member) for member in outside}, set(UNGRANTED))
        honest = next(member for member in joint.world.members if not member.lies)
        for member in joint.world.members:
            why = honest.policy.why_not_granted(member.origin, member.policy.grant, False)
            self.assertEqual(why is None, member not in outside)

    def test_a_mesh_with_a_secret_may_have_a_ca_too(self) -> None:
        seed = next(
            seed
            for seed in range(100)
            if (drawn := draw(seed)).secret and drawn.certified and not drawn.authority
        )
        joint = self.begun(seed)
        outside = [member for member in joint.world.members if isinstance(member, Outsider)]
        self.assertEqual({type(member) for member in outside}, set(UNCERTIFIED))
        honest = next(member for member in joint.world.members if not member.lies)
        for member in joint.world.members:
            why = honest.policy.why_not_certified(member.origin, member.policy.certificate)
            self.assertEqual(why is None, member not in outside)

    def test_they_begin_when_the_mesh_has_formed_and_do_less_when_all_is_said(self) -> None:
        joint = Joint(3, 5)
        joint.schedule = replace(joint.schedule, seconds=5.0)
        self.patch(joint.world, "members", [identities.Flooder(joint.world, 0), *joint.world.members[1:]])
        flooder = joint.world.members[0]
        assert isinstance(flooder, Minter)
        joint._begin()
        self.assertEqual((flooder.begins, flooder.most, flooder.pace), (10.0, 500, Minter.pace))
        joint.world.run_until(10.0 + 2 * joint.schedule.seconds)
        self.assertEqual(flooder.pace, 1.0)
