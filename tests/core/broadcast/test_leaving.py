"""A node that stops hands on all that its neighbours lack before it goes."""

from __future__ import annotations

from tests.core.network import batch, closing, have, of, origin_of, want
from tests.core.repair_case import RepairTestCase
from twisted_mesh.core.broadcast.candidates import TRIES
from twisted_mesh.core.broadcast.pace import LOOK_AGAIN
from twisted_mesh.core.broadcast.repair import LOOKS_MOST
from twisted_mesh.core.events import Arriving, Effect, Leaving
from twisted_mesh.core.link import READ_ALL
from twisted_mesh.wire.begun import Begun
from twisted_mesh.wire.broadcast import Have, Want
from twisted_mesh.wire.link import Ping, Pong

RUN = (origin_of("emil"), 1)


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

    def test_what_was_sent_is_not_sent_again_for_a_want_that_corrects_the_one_before(self) -> None:
        self.give_in_parts()
        effects = self.receive(2, want("emil", 1, 6))
        effects += self.accept(2) + self.accept(2)
        effects += self.receive(2, Want(*RUN, 2, 6, graft=False))
        self.assertEqual(self.given(effects + self.rest())[0], [(number, number) for number in range(1, 7)])

    def test_a_want_for_what_follows_is_added_to_the_one_before(self) -> None:
        self.give_in_parts()
        effects = self.receive(2, want("emil", 1, 3)) + self.receive(2, want("emil", 4, 6)) + self.rest()
        self.assertEqual(self.given(effects)[0], [(number, number) for number in range(1, 7)])

    def give_in_parts(self) -> None:
        """A node that holds six messages leaves, and sends one at a time."""
        self.star(answer_bytes=1)
        self.receive(1, *(batch("emil", number) for number in range(1, 7)))
        self.handle(Leaving())
        self.accept(2)

    def rest(self) -> list[Effect]:
        """Let Bert read what comes until nothing more does."""
        return [effect for _ in range(8) for effect in self.accept(2)]

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

    def test_not_if_another_that_claims_as_much_is_just_bringing_it(self) -> None:
        self.announce(2)
        self.receive(2, batch("emil", 1))
        self.announce(3)
        self.assertEqual(self.last_wants(3), [])

    def test_but_if_that_other_claims_less_or_has_stopped(self) -> None:
        self.announce(2)
        self.receive(2, batch("emil", 1))
        self.announce(3, high=10)
        self.assertEqual(self.last_wants(3), [(2, 10)])
        self.star(graft_retry=5)
        self.announce(2)
        self.receive(2, batch("emil", 1))
        self.announce(3)
        self.wait(1.1)
        self.assertEqual(self.last_wants(3), [(2, 9)])

    def test_one_that_failed_too_often_is_not_asked_and_takes_nothing_from_another(self) -> None:
        self.announce(2)
        self.announce(3)
        self.receive(1, have("emil", 1, 99))
        self.link(1).repair.failed[RUN] = 0, TRIES
        self.assertEqual(self.asked(self.receive(1, Ping(READ_ALL))), [])
        self.assertEqual(self.node._broadcast.repair._pulls[RUN].asked, 2)

    def test_it_is_asked_for_what_it_claims_though_others_claim_more_or_never_failed(self) -> None:
        self.receive(1, batch("emil", 1))
        self.announce(2)
        self.announce(3)
        self.receive(4, have("emil", 5, 9))
        self.link(4).repair.failures = 1
        self.assertEqual(self.last_wants(4), [(5, 9)])

    def test_one_that_was_asked_for_a_part_is_asked_for_the_rest(self) -> None:
        self.announce(2, high=5)
        self.receive(2, have("emil", 1, 9))
        self.assertEqual(self.last_wants(2), [(6, 9)])
        answers = [batch("emil", number) for number in range(1, 10)]
        self.assertEqual(self.asked(self.answer(2, *answers, high=9)), [])
        self.assertEqual(self.node.footprint()["pulls"], 0)

    def test_one_that_was_given_up_too(self) -> None:
        self.announce(2, high=5)
        self.announce(3)
        self.assertEqual(self.asked(self.wait(2)), [3])
        self.receive(2, have("emil", 1, 9))
        self.assertEqual(self.last_wants(2), [(6, 9)])
        self.assertEqual(self.node._broadcast.repair._pulls[RUN].asked, 2)

    def test_one_that_was_asked_for_all_is_not_asked_again(self) -> None:
        self.announce(2)
        self.assertEqual(self.last_wants(2), [])

    def test_all_runs_are_asked_for_however_many(self) -> None:
        self.practise()
        for epoch in range(1, 2 * LOOKS_MOST):
            self.receive(1, batch("anna", 1, epoch=epoch))
        self.link(2).push.prune(origin_of("anna"))
        for epoch in range(1, 2 * LOOKS_MOST):
            self.receive(2, have("anna", 1, 9, epoch=epoch))
        self.assertEqual(self.last_wants(2), [(2, 9)] * (2 * LOOKS_MOST - 1))

    def test_a_run_that_ends_in_a_fork_is_not(self) -> None:
        self.receive(1, batch("emil", 1))
        self.receive(2, have("emil", 1, 9))
        stream = self.node.history.get(RUN)
        assert stream is not None
        stream.equivocated = True
        self.link(3).frontier.claims[RUN] = 1, 9
        self.assertEqual(self.last_wants(3), [])

    def test_over_a_link_that_is_closing_nothing_is_asked(self) -> None:
        self.announce(2)
        self.receive(1, have("emil", 1, 9))
        self.handle(closing(1))
        self.assertEqual(self.asked(self.receive(1, Ping(READ_ALL))), [])
        pull = self.node._broadcast.repair._pulls[RUN]
        self.assertEqual((pull.asked, list(pull.announced)), (2, [2]))

    def test_who_said_so_and_stays_is_preferred_to_nobody(self) -> None:
        self.receive(1, batch("emil", 1))
        for number in (2, 3):
            self.link(number).push.prune(RUN[0])
        self.link(2).repair.pace, self.link(3).repair.pace = 10_000, 10
        self.receive(3, Ping(READ_ALL))
        self.announce(3, 2)
        self.assertEqual(self.asked(self.wait(0.2)), [2])
