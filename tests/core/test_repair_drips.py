"""Repair while links are in the middle of frames that take long: slow lines, and members that drip."""

from __future__ import annotations

from tests.core.network import batch, have, origin_of
from tests.core.repair_case import RepairTestCase
from twisted_mesh.core.events import Arriving, Effect
from twisted_mesh.wire.begun import Begun
from twisted_mesh.wire.framing import MAX_FRAME_BYTES


class DripTestCase(RepairTestCase):
    """Emil's message 2 is missing; Anna, link 1, is in the middle of a frame as often as the test says."""

    def setUp(self) -> None:
        super().setUp()
        self.arrived = 0

    def drip(self, name: str, first: int, last: int, size: int) -> list[Effect]:
        """*size* bytes more of a frame with *first* to *last* of *name* come over Anna's link."""
        self.arrived += size
        begun = Begun(origin_of(name), 1, first, last)
        return self.handle(Arriving(1, begun, self.arrived, MAX_FRAME_BYTES))

    def miss(self) -> None:
        """Emil's messages 1 and 3 come."""
        self.receive(1, batch("emil", 1))
        self.receive(3, batch("emil", 3))


class TestCost(DripTestCase):
    def test_an_announcement_leaves_no_look_behind(self) -> None:
        # Each left one a second for as long as the frame was on its way.
        self.miss()
        self.receive(1, have("emil", 1, 2))
        for _ in range(100):
            self.drip("emil", 2, 2, 100)
            self.receive(2, have("emil", 1, 2))
            self.wait(0.1)
        self.wait(1.0)
        self.assertLessEqual(self.node.footprint()["wakes"], 2)
