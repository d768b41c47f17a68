"""A new run is asked for at most once a minute, and again until it begins."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import origin_of
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.effects import Effects
from twisted_mesh.core.events import Emit, EpochConflict
from twisted_mesh.core.renewal import LONGEST_RETRY, NEW_RUN_PAUSE, Renewal


class TestRenewal(SynchronousTestCase):
    """One run asks for the next."""

    def setUp(self) -> None:
        self.config = MeshConfig(key_retry=15.0)
        self.effects = Effects((origin_of("me"), 1))
        self.renewal = Renewal(self.config, self.effects)
        self.told = self.effects.begin()

    def asked(self) -> list[EpochConflict]:
        """The runs that were asked for since the last call."""
        told, self.told = self.told, self.effects.begin()
        return [effect.what for effect in told if isinstance(effect, Emit)]  # type: ignore[misc]

    def times(self, until: int) -> list[int]:
        """The seconds, up to *until*, at which a run is asked for."""
        found = []
        for second in range(until):
            self.renewal.look(second)
            if self.asked():
                found.append(second)
        return found

    def test_a_run_that_is_not_over_asks_for_none(self) -> None:
        self.assertEqual((self.times(100), bool(self.renewal)), ([], False))

    def test_it_is_asked_for_again_after_waits_that_double(self) -> None:
        self.renewal.require(7, 0)
        self.renewal.require(9, 0)
        self.assertEqual((self.asked(), bool(self.renewal)), ([EpochConflict(7)], True))
        self.assertEqual(self.times(2000), [15, 45, 105, 225, 465, 945, 1545])
        self.assertEqual(LONGEST_RETRY, 600)

    def test_from_one_to_the_next_a_minute_passes_whatever_the_reason(self) -> None:
        self.renewal.ask(3, 100)
        later = Renewal(self.config, self.effects)
        later.follow(self.renewal)
        self.asked()
        self.renewal = later
        self.renewal.require(5, 110)
        self.assertEqual(self.asked(), [])
        self.assertEqual(self.times(162), [100 + NEW_RUN_PAUSE])
        last = Renewal(self.config, self.effects)
        last.follow(later)
        self.assertEqual(last.earliest, 100 + 2 * NEW_RUN_PAUSE)

    def test_a_run_that_asks_for_none_passes_on_when_the_next_may_be_asked_for(self) -> None:
        self.renewal.ask(3, 100)
        for _ in range(2):
            later = Renewal(self.config, self.effects)
            later.follow(self.renewal)
            self.renewal = later
        self.assertEqual(self.renewal.earliest, 100 + NEW_RUN_PAUSE)
