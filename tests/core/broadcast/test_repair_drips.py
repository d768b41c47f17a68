"""Repair while frames take long to come, over slow lines or from members that drip."""

from __future__ import annotations

from tests.core.network import batch, cut, have, of, origin_of
from tests.core.repair_case import RepairTestCase
from twisted_mesh.core.events import Arriving, Effect, GapFound
from twisted_mesh.wire.begun import Begun
from twisted_mesh.wire.framing import MAX_FRAME_BYTES


class DripTestCase(RepairTestCase):
    """Emil's message 2 is missing, and a frame of Anna's, link 1, takes long to come."""

    def setUp(self) -> None:
        super().setUp()
        self.arrived = 0

    def drip(self, name: str, first: int, last: int, size: int) -> list[Effect]:
        """*size* bytes more of a frame with *first* to *last* of *name* come over Anna's link."""
        self.arrived += size
        begun = Begun(origin_of(name), 1, first, last)
        return self.handle(Arriving(1, begun, self.arrived, MAX_FRAME_BYTES))

    def miss(self) -> None:
        """Let Emil's messages 1 and 3 come."""
        self.receive(1, batch("emil", 1))
        self.receive(3, batch("emil", 3))

    def asked_second_by_second(self, seconds: int, *, answers: bool) -> list[int]:
        """Let Anna's frame go on while Bert announces Emil's message; the second in which Bert is asked.

        :param answers: whether Anna answers every four seconds, too, with a message of her own.
        """
        asked, own = [], 1
        for second in range(seconds):
            effects = self.drip("anna", own + 1, own + 1, 500) + self.wait(1.0)
            effects += self.receive(2, have("emil", 1, 2))
            if answers and second % 4 == 3:
                own += 1
                effects += self.receive(1, have("anna", 1, own))
                effects += self.receive(1, batch("anna", own), have("anna", 1, own, answer=True))
                self.arrived = 0
            asked += [second] * (2 in self.asked(effects))
            self.assertEqual(of(effects, GapFound), [])
            if asked:
                self.assertEqual(
                    self.delivered(self.answer(2, batch("emil", 2), high=2)), [(2, [2]), (3, [3])]
                )
                break
        return asked


class TestAnotherIsAskedInTime(DripTestCase):
    """Whatever one neighbour does, messages that another holds are asked of it before a gap is told."""

    def test_while_the_asked_link_brings_other_things_slowly(self) -> None:
        self.miss()
        self.receive(1, batch("anna", 1))
        self.assertEqual(self.wants(self.receive(1, have("emil", 1, 2)), 1), [("emil", 2, 2)])
        self.assertTrue(self.asked_second_by_second(600, answers=True))

    def test_while_the_asked_link_brings_it_byte_by_byte(self) -> None:
        # That is as fast as the other link seems to be, which has answered with little so far.
        self.receive(2, have("fred", 1, 1))
        self.wait(0.4)
        self.receive(2, batch("fred", 1), have("fred", 1, 1, answer=True))
        self.miss()
        self.receive(1, have("emil", 1, 2))
        asked = []
        for _ in range(500):
            effects = self.drip("emil", 2, 2, 400) + self.wait(1.0)
            asked += self.asked(effects + self.receive(2, have("emil", 1, 2)))
            self.assertEqual(of(effects, GapFound), [])
        self.assertIn(2, asked)

    def test_while_the_parent_has_a_slow_line(self) -> None:
        self.miss()
        self.receive(1, batch("emil", 5), batch("anna", 1))  # the newest: Anna is the way to Emil
        self.assertTrue(self.asked_second_by_second(600, answers=True))

    def test_while_slow_answers_take_all_there_is_room_for(self) -> None:
        self.receive(1, batch("anna", 1), batch("cleo", 1))
        self.assertEqual(len(self.asked(self.receive(1, have("anna", 1, 9), have("cleo", 1, 9)))), 2)
        self.miss()
        self.assertTrue(self.asked_second_by_second(600, answers=False))

    def test_while_the_asked_link_brings_it_from_behind(self) -> None:
        cut("emil", *[1] * 2000)
        self.receive(1, batch("emil", 1), batch("anna", 1))
        self.receive(1, have("emil", 1, 2000))
        asked: list[int] = []
        for step in range(200):
            effects = self.wait(0.9) + self.receive(1, batch("emil", 2000 - step))
            effects += self.receive(2, have("emil", 1, 2000)) + self.receive(1, have("anna", 1, 2 + step))
            effects += self.receive(1, batch("anna", 2 + step), have("anna", 1, 2 + step, answer=True))
            asked += self.asked(effects)
        self.assertIn(2, asked)


class TestTurns(DripTestCase):
    def test_links_take_turns(self) -> None:
        # One link claims runs by the dozen, and answers none.
        for epoch in range(1, 50):
            self.receive(1, batch("anna", 1, epoch=epoch))
            self.receive(1, have("anna", 1, 9, epoch=epoch))
        self.receive(2, batch("emil", 1))
        self.receive(2, have("emil", 1, 2))
        self.assertEqual(self.wants(self.wait(2.0), 2), [("emil", 2, 2)])


class TestCost(DripTestCase):
    def test_an_announcement_leaves_no_look_behind(self) -> None:
        # Each announcement left one look a second for as long as the frame was on its way.
        self.miss()
        self.receive(1, have("emil", 1, 2))
        for _ in range(100):
            self.drip("emil", 2, 2, 100)
            self.receive(2, have("emil", 1, 2))
            self.wait(0.1)
        self.wait(1.0)
        self.assertLessEqual(self.node.footprint()["wakes"], 2)
