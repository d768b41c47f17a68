"""Every limit and interval of a node, in one frozen value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.config import MIB, MeshConfig
from twisted_mesh.errors import LocalError


class TestMeshConfig(SynchronousTestCase):
    def test_each_can_be_given_by_name(self) -> None:
        for field in fields(MeshConfig):
            value = getattr(MeshConfig(), field.name)
            self.assertEqual(MeshConfig(**{field.name: value}), MeshConfig())

    def test_a_time_may_be_whole_seconds(self) -> None:
        self.assertEqual(MeshConfig(handshake_timeout=3).handshake_timeout, 3)

    def test_a_value_that_is_no_positive_number_is_refused_by_name(self) -> None:
        bad = (0, -1, True, float("nan"), float("inf"), -float("inf"), "5", None, [], 1j)
        for field in fields(MeshConfig):
            for value in bad[field.name == "batch_delay" :]:
                error = self.assertRaises(LocalError, MeshConfig, **{field.name: value})
                self.assertIn(f"{field.name} must be a positive {field.type}", str(error))

    def test_nobody_need_wait_to_share_a_batch(self) -> None:
        self.assertEqual(MeshConfig(batch_delay=0).batch_delay, 0)

    def test_a_count_is_a_whole_number(self) -> None:
        for field in fields(MeshConfig):
            if field.type == "int":
                self.assertRaises(LocalError, MeshConfig, **{field.name: 5.0})

    def test_values_that_contradict_each_other_are_refused(self) -> None:
        for values in (
            {"ping_after": 15.0},
            {"dead_after": 5},
            {"redial_factor": 0.99},
            {"unsent_bytes": 2 * MIB - 1},
            {"half_frames_bytes": 2 * MIB - 1},
            {"batch_bytes": MIB + 1},
            {"gap_longest": 29.9},
            {"gap_patience": 601},
        ):
            self.assertRaises(LocalError, MeshConfig, **values)

    def test_the_last_values_that_do_not_contradict_each_other_are_taken(self) -> None:
        MeshConfig(ping_after=14.9)
        MeshConfig(redial_factor=1)
        MeshConfig(unsent_bytes=2 * MIB)
        MeshConfig(half_frames_bytes=2 * MIB)
        MeshConfig(batch_bytes=MIB)
        MeshConfig(gap_longest=30.0)

    def test_the_longest_stop_is_the_sum_of_what_stopping_waits_for(self) -> None:
        config = MeshConfig(handover_timeout=100, farewell_timeout=20, close_timeout=3)
        self.assertEqual(config.longest_stop, 126)

    def test_a_configuration_never_changes(self) -> None:
        with self.assertRaises(FrozenInstanceError):
            MeshConfig().links_limit = 3  # type: ignore[misc]

    def test_an_unknown_name_is_refused(self) -> None:
        self.assertRaises(TypeError, MeshConfig, link_limit=3)
