"""What a node sends over each link as fast as it accepts bytes: answers, and late announcements."""

from __future__ import annotations

from msgspec import structs

from tests.core.damaged_store import Damaged
from tests.core.network import batch, closing, cut, have, of, origin_of, want
from tests.core.node_case import TriangleTestCase
from twisted_mesh.core.events import Effect, LinkClosed
from twisted_mesh.core.history.changes import Changes
from twisted_mesh.core.history.history import History
from twisted_mesh.core.rate import (  # fmt: skip
    AGAIN_RATE,
    REMEMBERED_SECONDS,
    RUNS_REMEMBERED,
    AnswerLimit,
)
from twisted_mesh.simulation.storage import to_ms
from twisted_mesh.wire.broadcast import SignedBatch
from twisted_mesh.wire.codec import size

#: Bytes of a batch of one short message: as a frame, and what its author signed of it.
FRAME = size(batch("dora", 1))
ARRAY = batch("dora", 1).size


class TestAnswering(TriangleTestCase):
    """A WANT is answered with whole batches, and closed by a HAVE."""

    def ask(self, first: int, last: int) -> list[Effect]:
        """Link 3 asks for Dora's messages *first* to *last*."""
        return self.receive(3, want("dora", first, last))

    def test_whole_batches_from_the_first_message_on_closed_by_a_have(self) -> None:
        self.receive(1, batch("dora", 1, 3), batch("dora", 4, 3), batch("dora", 7, 3))
        effects = self.ask(5, 7)
        self.assertEqual(self.sent(effects, 3), [(4, 6), (7, 9)])
        self.assertEqual(self.haves(effects, 3, answer=True), [("dora", 1, 9)])
        self.assertEqual(self.haves(effects[-1:], 3, answer=True), [("dora", 1, 9)])

    def test_what_came_is_handed_on_one_hop_further(self) -> None:
        self.receive(1, structs.replace(batch("dora", 1), hops=4))
        [frame] = of(self.frames(self.ask(1, 1), 3), SignedBatch)
        self.assertEqual((frame.hops, frame.array), (5, batch("dora", 1).array))

    def test_what_its_author_answers_with_nobody_has_handed_on(self) -> None:
        self.publish("a")
        [frame] = of(self.frames(self.receive(3, want("me", 1, 1)), 3), SignedBatch)
        self.assertEqual(frame.hops, 0)
        # It may have messages of its own earlier run from others, who have handed these on.
        self.receive(1, structs.replace(batch("me", 1, epoch=0), hops=1))
        [frame] = of(self.frames(self.receive(3, want("me", 1, 1, epoch=0)), 3), SignedBatch)
        self.assertEqual(frame.hops, 2)

    def test_an_answer_ends_at_its_limit_and_never_within_a_batch(self) -> None:
        # Otherwise one WANT makes a node queue all that it holds.
        for limit, most in ((1, 1), (2.5 * ARRAY, 2), (100 * ARRAY, 9)):
            self.triangle(answer_bytes=int(limit))
            self.receive(1, *(batch("dora", first) for first in range(1, 10)))
            self.accept(3)
            effects = self.ask(1, 9)
            self.assertEqual(self.sent(effects, 3), [(first, first) for first in range(1, most + 1)])
            self.assertEqual(self.haves(effects, 3, answer=True), [("dora", 1, 9)])

    def test_what_is_not_held_is_answered_with_what_is(self) -> None:
        self.receive(1, batch("dora", 1, 3))
        effects = self.ask(4, 9)
        self.assertEqual(
            (self.sent(effects, 3), self.haves(effects, 3, answer=True)), ([], [("dora", 1, 3)])
        )

    def test_an_unknown_stream_is_answered_with_nothing(self) -> None:
        self.assertEqual(self.haves(self.ask(1, 9), 3, answer=True), [("dora", 1, 0)])
        self.assertEqual(self.node.footprint()["open_streams"], 0)

    def test_what_waits_behind_a_hole_is_answered_with_too_and_not_taken_for_all_before_it(self) -> None:
        cut("dora", 3, 3)
        self.receive(1, batch("dora", 1, 3), batch("dora", 7, 3))
        self.receive(3, have("dora", 1, 3))
        effects = self.ask(4, 9)
        self.assertEqual(self.sent(effects, 3), [(7, 9)])
        self.assertEqual(self.haves(effects, 3, answer=True), [("dora", 1, 3)])
        # A batch that fills the hole is as new to the peer as to this node.
        self.assertEqual(self.sent(self.receive(1, batch("dora", 4, 3)), 3), [(4, 6)])

    def test_the_same_messages_go_out_again_at_a_bounded_rate(self) -> None:
        """A WANT of 60 bytes is answered with up to 1 MiB."""
        size = batch("dora", 1, 3).size
        self.triangle(answer_bytes=2 * size)
        self.receive(1, batch("dora", 1, 3), batch("dora", 4, 3))
        came: list[tuple[int, int]] = []
        for _ in range(50):
            came += self.sent(self.ask(1, 6) + self.accept(3), 3)
        # Twice as much as is held; one answer more; and the one after which there is too much.
        self.assertEqual(len(came), 2 + 2 + 2 + 2)
        came = self.sent(self.wait(2 * size / AGAIN_RATE), 3)
        self.assertEqual(len(came), 2)

    def test_to_link_anew_gives_no_peer_more(self) -> None:
        size = batch("dora", 1, 3).size
        self.triangle(answer_bytes=size)
        self.receive(1, batch("dora", 1, 3))
        came: list[tuple[int, int]] = []
        for number in range(10, 30):
            self.up(number, "emil")
            self.accept(number)
            came += self.sent(self.receive(number, want("dora", 1, 3)), number)
            self.handle(LinkClosed(number))
        self.assertEqual(len(came), 4)

    def test_what_a_peer_has_not_been_sent_yet_goes_out_at_once(self) -> None:
        size = batch("dora", 1, 3).size
        self.triangle(answer_bytes=size)
        came: list[tuple[int, int]] = []
        for first in range(1, 90, 3):
            self.receive(1, batch("dora", first, 3))
            for at in (1, first):  # again as much as is new
                came += self.sent(self.ask(at, at) + self.accept(3), 3)
        self.assertEqual(len(came), 60)

    def test_after_ten_minutes_a_peer_may_have_all_again(self) -> None:
        size = batch("dora", 1, 3).size
        self.triangle(answer_bytes=size, history_seconds=1e6)
        self.receive(1, batch("dora", 1, 3))
        for _ in range(3):
            came = [span for _ in range(9) for span in self.sent(self.ask(1, 3) + self.accept(3), 3)]
            self.assertEqual(len(came), 4)
            self.wait(REMEMBERED_SECONDS + 5)

    def test_a_bounded_number_of_runs_is_remembered(self) -> None:
        limit = AnswerLimit(0)
        for number in range(RUNS_REMEMBERED + 1):
            limit.sent(b"%d" % (number % 2), (b"", number), 1, 1, 0)
            self.assertLessEqual(len(limit), RUNS_REMEMBERED)
        self.assertGreater(len(limit), RUNS_REMEMBERED // 3)

    def test_while_much_is_queued_an_answer_waits_for_the_link(self) -> None:
        self.triangle(answer_bytes=5 * ARRAY)
        self.receive(1, *(batch("dora", first) for first in range(1, 10)))  # pushed to 3, not accepted
        self.assertEqual(self.ask(1, 9), [])
        self.assertEqual(self.node.footprint()["wants"], 1)
        self.assertEqual(len(self.sent(self.accept(3), 3)), 5)
        self.assertEqual(self.node.footprint()["wants"], 0)

    def test_one_want_a_stream_the_newest_counts(self) -> None:
        self.triangle(answer_bytes=5 * ARRAY)
        self.receive(1, *(batch("dora", first) for first in range(1, 10)))
        self.ask(1, 9)
        self.ask(8, 9)
        self.assertEqual(self.sent(self.accept(3), 3), [(8, 8), (9, 9)])

    def test_beyond_the_limit_the_oldest_want_is_forgotten(self) -> None:
        self.triangle(answer_bytes=1, claims_limit=2)
        self.receive(1, *(batch(name, 1) for name in ("dora", "emil", "fred")))
        for name in ("dora", "emil", "fred"):
            self.receive(3, want(name, 1))
        self.assertEqual(self.node.footprint()["wants"], 2)
        answered = self.accept(3) + self.accept(3) + self.accept(3)
        self.assertEqual([name for name, _, _ in self.haves(answered, 3, answer=True)], ["emil", "fred"])

    def test_a_want_on_a_closing_link_is_not_answered(self) -> None:
        self.receive(1, batch("dora", 1))
        self.handle(closing(3))
        self.assertEqual(self.ask(1, 1), [])


class TestAnsweringFromStorage(TriangleTestCase):
    """To a peer that asks, a node does not claim messages that its store cannot read."""

    def history(self) -> History:
        self.store = Damaged({4})
        self.changes = Changes(self.store)
        return History(self.config, self.changes)

    def flush(self) -> None:
        """Let the store have the changes of the history."""
        history, run = self.node.history, (origin_of("me"), 1)
        flush = self.changes.flush(history.get, (run, 0), True, to_ms)
        assert flush is not None
        self.changes.stored(self.store.flush(flush, self.now), history.get)

    def test_an_answer_ends_with_what_can_be_had_here(self) -> None:
        self.receive(1, *(batch("dora", first) for first in range(1, 7)))
        self.flush()
        self.node.history.age(self.now + 1000, (origin_of("me"), 1), 0)
        for left in ([1, 2, 3, 5, 6], [5, 6]):
            effects = self.receive(3, want("dora", 1, 6))
            self.assertEqual(self.sent(effects, 3), [(first, first) for first in left])
            self.assertEqual(self.haves(effects, 3, answer=True), [("dora", 5, 6)])
            if len(left) > 2:
                self.flush()


class TestSlowLinks(TriangleTestCase):
    """A link whose queue is full holds up nobody; it gets announcements later, and pulls."""

    def setUp(self) -> None:
        super().setUp()
        self.triangle(link_queue_bytes=2 * FRAME - 1, answer_bytes=2 * ARRAY)

    def say(self, first: int) -> list[Effect]:
        """Let one more message of Dora's come; the transports of links 1 and 2 accept all bytes."""
        effects = self.receive(1, batch("dora", first))
        self.accept(1)
        self.accept(2)
        return effects

    def test_a_full_link_is_not_pushed_to_and_delays_nobody(self) -> None:
        effects = [self.say(first) for first in range(1, 10)]
        self.assertEqual([self.sent(these, 2) for these in effects], [[(n, n)] for n in range(1, 10)])
        self.assertEqual([bool(self.sent(these, 3)) for these in effects], [True] * 2 + [False] * 7)
        self.assertEqual(self.closed([one for these in effects for one in these]), [])

    def test_nothing_is_announced_to_it_while_it_is_full(self) -> None:
        for first in range(1, 5):
            self.say(first)
        self.assertEqual(self.frames(self.wait(5), 3), [])

    def test_when_it_flows_again_it_is_told_and_pulls(self) -> None:
        for first in range(1, 6):
            self.say(first)
        self.wait(5)
        self.assertEqual(self.haves(self.accept(3), 3), [])
        self.assertEqual(self.haves(self.wait(0.05), 3), [("dora", 1, 5)])
        self.assertEqual(self.sent(self.receive(3, want("dora", 3, 5)), 3), [(3, 3), (4, 4)])
        # Still behind: nothing is pushed past what it has to pull.
        self.assertEqual(self.sent(self.say(6), 3), [])
        self.accept(3)
        self.assertEqual(self.sent(self.receive(3, want("dora", 5, 6)), 3), [(5, 5), (6, 6)])
        self.accept(3)
        self.assertEqual(self.sent(self.say(7), 3), [(7, 7)])

    def test_other_origins_are_owed_as_well(self) -> None:
        for first in range(1, 4):
            self.say(first)
        self.assertEqual(self.sent(self.receive(1, batch("emil", 1)), 3), [])
        self.accept(3)
        self.assertEqual(sorted(self.haves(self.wait(1), 3)), [("dora", 1, 3), ("emil", 1, 1)])
