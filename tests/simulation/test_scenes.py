"""A mesh forms by itself from one address, and heals by itself."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.length import at_length, only_at_length
from twisted_mesh.simulation.scenarios.large import fail
from twisted_mesh.simulation.scenarios.scenes import SCENES
from twisted_mesh.simulation.scenarios.stage import Stage


class TestScenes(SynchronousTestCase):
    """Every promise holds in each scene, with fewer nodes than on the command line."""

    def assert_kept(self, name: str, nodes: int, seeds: range) -> list[Stage]:
        """Assert that every promise holds in each run of a scene."""
        stages = []
        for seed in seeds:
            stage = SCENES[name].run(seed, nodes)
            command = f"python -m twisted_mesh.simulation --schedule {name} --seed {seed} --nodes {nodes}"
            self.assertEqual(stage.world.violations, [], command)
            stages.append(stage)
        return stages

    def test_many_are_one_mesh_ten_seconds_after_they_had_one_address(self) -> None:
        count = at_length(100, 20)
        [stage] = self.assert_kept("bootstrap", count, range(1, 2))
        self.assertEqual(stage.world.counts["deliveries"], count * (count - 1))

    def test_nine_that_join_one_contact_at_once_never_leave_an_island(self) -> None:
        self.assert_kept("door", 10, range(1, at_length(501, 4)))

    def test_a_partition_of_ten_minutes_heals_with_all_that_was_said(self) -> None:
        for stage in self.assert_kept("parted", at_length(16, 8), range(1, 2)):
            self.assertEqual(stage.world.counts["gaps"], 0)
            self.assertGreater(max(stage.world.latencies), 300.0)  # messages that waited for the other half

    def test_a_partition_longer_than_the_rosters_memory_heals_likewise(self) -> None:
        [stage] = self.assert_kept("parted-day", at_length(16, 6), range(1, 2))
        self.assertEqual(stage.world.counts["gaps"], 0)
        self.assertGreater(max(stage.world.latencies), 12 * 3600.0)

    def test_nodes_that_come_and_go(self) -> None:
        self.assert_kept("coming-and-going", at_length(12, 8), range(1, 2))

    def test_nodes_that_come_and_go_while_others_have_them_forgotten(self) -> None:
        only_at_length()
        [stage] = self.assert_kept("thrown-out", 10, range(1, 2))
        self.assertGreater(stage.world.kinds["Forget"], 50)

    def test_links_that_are_lost_let_nobody_be_shown_as_gone(self) -> None:
        [stage] = self.assert_kept("suspicion", at_length(12, 8), range(1, 2))
        self.assertGreater(stage.world.kinds["Suspect"], 100)
        self.assertEqual(stage.membership.wrongs, [])

    def test_a_reactor_that_stalls_for_ten_seconds_accuses_nobody_and_is_not_accused(self) -> None:
        [stage] = self.assert_kept("stalls", 10, range(1, 2))
        self.assertEqual(stage.membership.wrongs, [])

    def test_one_that_stalls_for_longer_is_back_by_itself(self) -> None:
        [stage] = self.assert_kept("long-stalls", 8, range(1, 2))
        self.assertGreater(len(stage.membership.wrongs), 0)
        self.assertLess(max(stage.membership.wrongs), 60.0)

    def test_one_that_is_restored_with_the_epoch_of_an_earlier_run_begins_another(self) -> None:
        for stage in self.assert_kept("restored", at_length(20, 8), range(1, at_length(6, 2))):
            self.assertEqual(
                stage.notes[:1], ["0 nodes held something of the earlier run; 1 new run began"]
            )

    def test_what_is_told_of_who_is_there_goes_along_trees_and_messages_follow(self) -> None:
        only_at_length()
        [stage] = self.assert_kept("quiet", 16, range(5, 6))
        records, batches = stage.shares
        self.assertLess(records, 0.1)
        self.assertLess(batches, 0.1)

    def test_four_in_five_fail_at_once_and_the_rest_is_one_mesh(self) -> None:
        for silent in at_length((False, True), (True,)):
            stage = Stage(1, at_length(40, 20))
            fail(stage, 0.8, silent)
            self.assertEqual(stage.world.violations, [], f"silent: {silent}")
