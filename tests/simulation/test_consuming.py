"""Named consumers get each message once, over crashes between a message and its commit."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.shortened import shortened
from tests.support.length import at_length
from twisted_mesh.core.history.storage import Marks
from twisted_mesh.simulation.scenarios.consuming import CONSUMING, Consumer, Consuming


def play(name: str, seed: int, nodes: int = 6) -> Consuming:
    """One run of a schedule to its end."""
    playing = Consuming(shortened(CONSUMING[name], 4.0), seed, nodes)
    playing.run()
    return playing


class TestPromises(SynchronousTestCase):
    def test_they_hold_in_every_schedule(self) -> None:
        for name in CONSUMING:
            for seed in range(at_length(5, 1)):
                world = play(name, seed).world
                self.assertEqual(world.violations, [], f"--schedule {name} --seed {seed}")
                members = [member for member in world.members if isinstance(member, Consumer)]
                taken = sum(len(notes.taken) for one in members for notes in one.notes.values())
                self.assertGreater(taken, 100)


class TestJudge(SynchronousTestCase):
    """The scenario notices nodes that break the promises."""

    def test_places_that_are_not_stored(self) -> None:
        self.patch(Marks, "place", lambda marks, name: marks.base)
        self.assertIn("duplicates", str(play("consuming", 1).world.violations))

    def test_places_that_are_those_of_all_others(self) -> None:
        self.patch(Marks, "place", lambda marks, name: max(marks.base, marks.taken))
        self.assertIn("missed", str(play("consuming", 1).world.violations))
