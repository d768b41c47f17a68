"""Receipts and direct messages together: their counts, their timer, and the application's part."""

from __future__ import annotations

from tests.core.network import asking, batch, direct, of, origin_of, receipt
from tests.core.replies_case import RepliesTestCase
from twisted_mesh.core.events import Deliver, Timer
from twisted_mesh.errors import Reason
from twisted_mesh.wire.replies import Receipts


class TestReversePath(RepliesTestCase):
    def test_without_anything_to_do_no_timer_is_set(self) -> None:
        self.receive(1, batch("dora", 1))
        self.assertNotIn(Timer.REPLIES, self.timers)
        self.assertIsNone(self.node.replies.wake)

    def test_the_timer_is_for_what_comes_first(self) -> None:
        self.send(1)
        self.assertEqual(self.timers[Timer.REPLIES], self.now + 1)
        self.get(1)
        self.assertEqual(self.timers[Timer.REPLIES], self.now)
        self.wait(0)
        self.assertEqual(self.timers[Timer.REPLIES], self.now + 1)
        self.wait(1.5)
        self.assertEqual(self.timers[Timer.REPLIES], self.now + 1.5)

    def test_what_is_for_one_author_does_not_wait_for_what_is_for_another(self) -> None:
        self.get(1)
        self.wait(0)
        self.get(2)  # too soon after that
        self.get(1, author="anna")
        effects = self.wait(0)
        self.assertEqual(len(of(self.all_frames(effects, 1), Receipts)), 1)
        self.assertEqual(self.node.footprint()["carried_authors"], 1)

    def test_what_does_not_ask_leaves_nothing(self) -> None:
        before = self.node.footprint()
        self.receive(1, batch("dora", 1))
        self.take(1)
        after = self.node.footprint()
        tables = ("owed_receipts", "owed_ranges", "carried_authors", "carried_receipts", "receipt_times")
        self.assertEqual([after[name] for name in tables], [before[name] for name in tables])

    def test_nor_does_an_entry_of_a_later_version(self) -> None:
        later = Deliver(1, origin_of("dora"), 1, 1, 0, 30, [[1, 0, "of a kind nobody knows"]])
        self.node.replies.delivered(later, self.now)
        self.assertEqual(self.node.replies.issuer.owed, {})

    def test_of_several_messages_the_last_that_asks_counts(self) -> None:
        self.receive(1, asking("dora", 1), asking("dora", 2), batch("dora", 3))
        owed = self.node.replies.issuer.owed[origin_of("dora"), 1]
        self.assertEqual((owed.asks_up_to, owed.taken), (2, 0))

    def test_before_the_frontier_nothing_counts(self) -> None:
        for frame in (Receipts([receipt("anna", "me", 1, 1)]), direct("anna", "me", 1)):
            self.open(9, "emil")
            self.assertEqual(self.closed(self.receive(9, frame)), [(9, Reason.ORDER)])
