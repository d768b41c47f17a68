"""A node that stops hands on all that its neighbours lack before it goes."""

from __future__ import annotations

from tests.core.network import batch, have, of, want
from tests.core.repair_case import RepairTestCase
from twisted_mesh.core.broadcast.pace import LOOK_AGAIN
from twisted_mesh.core.events import Arriving, Effect, Leaving
from twisted_mesh.core.link import READ_ALL
from twisted_mesh.wire.begun import Begun
from twisted_mesh.wire.broadcast import Have, Want
from twisted_mesh.wire.link import Ping, Pong


class TestGoing(RepairTestCase):
    """A node that stops tells its neighbours what they can still ask for, and answers all of it."""

    def test_what_was_to_be_announced_is_announced_before_the_last_ping(self) -> None:
        self.coming(2, 1)  # so nothing is pushed to Bert
        self.receive(1, batch("emil", 1))
        self.link(2).push.announce_at = self.now + 100  # his line is slow
        frames = self.frames(self.handle(Leaving()), 2)
        told = [type(frame) for frame in frames if isinstance(frame, Have | Ping)]
        self.assertEqual(told, [Have, Ping])
        self.assertEqual(self.node.footprint()["owed"], 0)

    def test_an_answer_of_many_parts_ends_when_all_is_sent(self) -> None:
        self.star(answer_bytes=1)
        self.receive(1, *(batch("emil", number) for number in (1, 2, 3)))
        self.handle(Leaving())
        self.accept(2)
        effects = self.receive(2, want("emil", 1))
        for number in (1, 2, 3):
            ends = [("emil", 1, 3)] if number == 3 else []
            self.assertEqual(self.given(effects), ([(number, number)], ends))
            self.assertEqual(bool(self.link(2).push.wants), number < 3)  # else it could go
            effects = self.accept(2)

    def test_a_node_that_stays_answers_a_part_and_is_asked_for_the_next(self) -> None:
        self.star(answer_bytes=1)
        self.receive(1, *(batch("emil", number) for number in (1, 2, 3)))
        self.accept(2)
        effects = self.receive(2, want("emil", 1))
        self.assertEqual(self.given(effects), ([(1, 1)], [("emil", 1, 3)]))

    def given(self, effects: list[Effect]) -> tuple[list[tuple[int, int]], list[tuple[str, int, int]]]:
        """The batches that Bert is sent, and the ends of answers."""
        return self.sent(effects, 2), self.haves(effects, 2, answer=True)


class TestLastWants(RepairTestCase):
    """Who is told by a neighbour that it stops asks it at once: later it cannot be asked."""

    def last_wants(self, number: int) -> list[tuple[int, int]]:
        """Let a neighbour stop; return the messages it is asked for before it gets the answer."""
        frames = self.frames(self.receive(number, Ping(READ_ALL)), number)
        before = frames[: [isinstance(frame, Pong) for frame in frames].index(True)]
        return [(frame.first, frame.last) for frame in of(before, Want)]

    def slow_batch(self, number: int, name: str) -> list[Effect]:
        """A batch takes long to come over a link."""
        return self.handle(Arriving(number, Begun(batch(name, 1).batch.origin, 1, 1, 1), 100, 1_000_000))

    def test_also_if_another_was_asked_which_may_have_nothing(self) -> None:
        self.assertEqual(self.asked(self.announce(2)), [2])
        self.assertEqual(self.announce(3), [])
        self.assertEqual(self.last_wants(3), [(1, 9)])

    def test_and_that_other_may_still_answer(self) -> None:
        self.announce(2)
        self.announce(3)
        self.last_wants(3)
        self.assertEqual(self.asked(self.wait(0.5)), [])
        self.assertEqual(self.asked(self.answer(2, batch("emil", 1, 9), high=9)), [])
        self.answer(3, high=9)
        self.assertEqual(self.node.footprint()["pulls"], 0)

    def test_also_if_a_slow_line_is_about_to_bring_it(self) -> None:
        self.receive(1, batch("emil", 1))
        self.slow_batch(1, "fred")
        self.wait(LOOK_AGAIN)
        self.slow_batch(1, "fred")
        self.assertEqual(self.asked(self.announce(3)), [])
        self.assertEqual(self.last_wants(3), [(2, 9)])

    def test_also_if_so_many_are_asked_that_others_have_to_wait(self) -> None:
        self.practise()
        self.handle(Arriving(2, None, 100, 1000))
        self.link(2).repair.pace = 10
        for epoch in range(1, 9):
            self.receive(1, batch("fred", 1, epoch=epoch))
        asked = self.asked(
            [effect for epoch in range(1, 9) for effect in self.receive(2, have("fred", 1, 9, epoch=epoch))]
        )
        self.assertLess(len(asked), 8)
        self.assertEqual(len(self.last_wants(2)), 8 - len(asked))

    def test_it_is_asked_first_of_those_that_claim_as_much(self) -> None:
        self.receive(3, Ping(READ_ALL))
        self.make_lazy_by_us(2, 3, 4)
        self.announce(2, 3, 4)
        self.assertEqual(self.asked(self.wait(0.2)), [3])

    def test_one_that_failed_is_no_better_for_that(self) -> None:
        self.receive(3, Ping(READ_ALL))
        self.link(3).repair.failures = 1
        self.make_lazy_by_us(2, 3, 4)
        self.announce(2, 3)
        self.assertEqual(self.asked(self.wait(0.2)), [2])
