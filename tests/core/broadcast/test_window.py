"""How many runs are asked for at a time, and which ones wait."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import origin_of
from twisted_mesh.core.broadcast.window import Window

ANNA, BERT = ((origin_of(name), 1) for name in ("anna", "bert"))


class TestWindow(SynchronousTestCase):
    """A window of 1000 bytes; recent answers had 100 bytes, so the next one is expected to have as many."""

    def setUp(self) -> None:
        self.window = Window(1000)
        for _ in range(60):
            self.window.answered(100)

    def room(self, proven: bool = True) -> int:
        """How many more runs may be asked for."""
        asked = 0
        while self.window.is_open(proven):
            self.window.asked(proven)
            asked += 1
        for _ in range(asked):
            self.window.released(proven)
        return asked

    def test_as_much_as_the_answers_bring_together(self) -> None:
        self.assertIn(self.room(), (10, 11))

    def test_on_slow_lines_as_much_as_comes_in_time(self) -> None:
        self.window.narrow(500)
        self.assertIn(self.room(), (5, 6))

    def test_but_always_two(self) -> None:
        self.window.narrow(0)
        self.assertEqual((self.room(), self.room(False)), (2, 2))

    def test_and_never_more_than_on_fast_ones(self) -> None:
        self.window.narrow(inf)
        self.assertIn(self.room(), (10, 11))
        self.window.narrow(500)
        self.window.narrow(2000)
        self.assertIn(self.room(), (10, 11))

    def test_which_run_waits_is_known(self) -> None:
        for proven in (True, False):
            self.window.wait(ANNA, proven, 1)
            self.assertEqual([self.window.is_waiting(run) for run in (ANNA, BERT)], [True, False])
            self.window.drop(ANNA)
            self.assertFalse(self.window.is_waiting(ANNA))
