"""Receipts tell who has a message: over restarts, slow consumers, stores and partitions."""

from __future__ import annotations

import gc
import inspect
import sys
from collections import Counter
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.delivery.test_members import presence
from tests.support.meshcase import BIG, NO_TIMEOUTS, MeshCase, Puppet, batch, consume, take
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.delivery.delivery import Delivery
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.errors import LocalError, NoMembers, NotDelivered, NotRunning, ReceiptTimeout
from twisted_mesh.service import MeshService
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.link import Ping


class ReceiptCase(MeshCase):
    def with_history(self, **options: Any) -> MeshService:
        """A keyed node with a history file, so that it goes on after a restart."""
        return self.keyed(history=self.mktemp(), **options)

    def ask(self, service: MeshService, *packets: object) -> Receipt:
        """Send with a receipt, and let everything happen that takes no time."""
        receipt = service.send(*packets, receipt=True)
        self.network.pump()
        return receipt

    def asked_by(self, peer: Puppet, count: int) -> list[LocalNode]:
        """Let *peer* bring a message of each of *count* authors, who ask for receipts."""
        authors = [self.puppet().me for _ in range(count)]
        asking = join_entries([pack_entry(0, ["x"], asks=True)])
        for author in authors:
            peer.send(presence(author), batch(author, 1, "x", body=asking))
        self.network.pump()
        return authors

    def assert_sets(
        self, receipt: Receipt, delivered: Any = (), pending: Any = (), missed: Any = ()
    ) -> None:
        """Assert which nodes have the message, may still get it, and will not get it."""
        found = [receipt.delivered, receipt.pending, receipt.missed]
        self.assertEqual(found, [{node.id for node in nodes} for nodes in (delivered, pending, missed)])


class TestLive(ReceiptCase):
    def test_the_sets_grow_as_members_answer_and_every_change_is_an_event(self) -> None:
        a, b, c = self.chain(3, after=1)
        seen: list[tuple[Receipt, int, bool]] = []
        a.on("receipt", lambda one: seen.append((one, len(one.delivered), one.is_complete)))
        receipt = self.ask(a, "fire!")
        complete = receipt.complete()
        self.assert_sets(receipt, delivered=[b], pending=[c])
        self.assertNoResult(complete)
        self.assertFalse(receipt.is_complete)
        self.network.advance(1)
        self.assert_sets(receipt, delivered=[b, c])
        self.assertIs(self.successResultOf(complete), receipt)
        self.assertIs(self.successResultOf(receipt.complete(0)), receipt)
        self.assertTrue(receipt.is_complete)
        self.assertEqual(seen, [(receipt, 0, False), (receipt, 1, False), (receipt, 2, True)])
        self.assertEqual(repr(receipt), "<receipt: 2 delivered, 0 pending, 0 missed>")
        self.assertEqual(self.received(c)[0].id, receipt.id)

    def test_without_one_nobody_answers(self) -> None:
        a, b = self.chain(2, after=1)
        before = b.footprint()
        self.assertIsNone(a.send("no receipt"))
        self.network.pump()
        self.assertEqual((b.footprint()["owed_receipts"], before["owed_receipts"]), (0, 0))
        self.network.advance(1)
        self.assertEqual(self.happened(a, "receipt"), [])

    def test_a_whisper_has_none(self) -> None:
        a, _ = self.chain(2)
        send: Any = a.send
        error = self.assertRaises(ValueError, send, "x", flag=2, receipt=True)
        self.assertIn("send_to()", str(error))

    def test_many_at_once_and_one_event_for_each_that_changed(self) -> None:
        a, _b = self.chain(2, after=1)
        receipts = [a.send(number, receipt=number % 2 == 0) for number in range(100)]
        self.network.advance(1)
        asked = [receipt for receipt in receipts if receipt is not None]
        self.assertEqual(self.happened(a, "receipt"), asked * 2)
        self.assertEqual([receipt.id[2] for receipt in asked if receipt.id], list(range(1, 101, 2)))
        self.assertTrue(all(receipt.is_complete for receipt in asked))

    def test_nothing_is_left_when_all_have_it(self) -> None:
        a, b, c = self.chain(3)
        self.send(a, "first", after=10)
        names = [name for name in a.footprint() if "receipt" in name or "asked" in name or "tall" in name]
        self.assertIn("open_receipts", names)
        self.ask(a, "x")
        self.assertEqual((a.footprint()["receipts"], a.footprint()["open_receipts"]), (1, 1))
        self.network.advance(10)
        for node in (a, b, c):
            left = node.footprint()
            for name in ("receipts", "open_receipts", "tracked_members", "carried_receipts"):
                self.assertEqual((name, left[name]), (name, 0))

    def test_what_is_done_when_one_completes_harms_no_other(self) -> None:
        a, _b = self.chain(2, after=1)
        first, second = a.send("one", receipt=True), a.send("two", receipt=True)
        stopped: list[Deferred[None]] = []
        first.complete().addCallback(lambda _: stopped.append(a.stopService()))
        also = first.complete()
        waits = second.complete()
        self.result_of(also, after=1)
        self.assertIn(waits.called, (True,))
        waits.addErrback(lambda failure: failure.trap(NotRunning))
        self.result_of(stopped[0], after=5)
        self.assertEqual(self.flushLoggedErrors(), [])


class TestWaiting(ReceiptCase):
    def test_a_timeout_that_is_no_number_or_below_0_is_refused_at_once(self) -> None:
        a, _b = self.linked(self.keyed(), self.keyed())
        receipt = self.ask(a, "x")
        for timeout, kind in NO_TIMEOUTS:
            error = self.assertRaises(LocalError, receipt.complete, timeout)
            self.assertIsInstance(error, kind)
            self.assertRegex(str(error), "timeout must be .*seconds")
        self.assertEqual(len(receipt._waiting), 0)

    def test_one_that_no_process_lives_to_see_is_as_none(self) -> None:
        a, _b = self.linked(self.keyed(), self.keyed())
        receipt = a.send("x", receipt=True)
        waiting = [receipt.complete(timeout) for timeout in (float("inf"), 10**400, None)]
        self.network.advance(1)
        for each in waiting:
            self.successResultOf(each)

    def test_the_application_can_change_nothing_in_it(self) -> None:
        a, _ = self.linked(self.keyed(), self.keyed())
        receipt = self.ask(a, "x")
        for name in ("id", "is_complete", "closed", "delivered", "pending", "missed"):
            self.assertRaises(AttributeError, setattr, receipt, name, True)

    def test_a_time_out_holds_the_receipt_which_goes_on(self) -> None:
        a, b, c = self.linked(self.keyed(), self.keyed(), self.with_history(), after=1)
        number = self.kill(c)
        receipt = self.ask(a, "x")
        waits, other = receipt.complete(5), receipt.complete()
        self.network.advance(4.9)
        self.assertNoResult(waits)
        error = self.failure_of(waits, ReceiptTimeout, after=0.2)
        self.assertEqual(str(error), "1 of 2 members has not taken the message after 5 s")
        self.assertIs(error.receipt, receipt)
        self.assert_sets(error.receipt, delivered=[b], pending=[c])
        self.failure_of(receipt.complete(0), ReceiptTimeout)
        self.assertNoResult(other)
        c = self.mesh.start(number)
        self.network.advance(10)
        self.assert_sets(receipt, delivered=[b, c])
        self.successResultOf(other)

    def test_who_is_cancelled_waits_no_more(self) -> None:
        a, _b = self.chain(2)
        receipt = a.send("x", receipt=True)
        waits = receipt.complete(5)
        waits.cancel()
        self.failureResultOf(waits, CancelledError)
        self.network.advance(6)
        self.assertTrue(receipt.is_complete)

    def test_stopping_fails_those_who_wait_and_leaves_what_was_known(self) -> None:
        a, b = self.chain(2)
        queue = b.messages()
        receipt = self.ask(a, "x")
        waits = receipt.complete()
        never = a.send("in the same turn", receipt=True)
        self.stop(a)
        self.failureResultOf(waits, NotRunning)
        self.failureResultOf(receipt.complete(), NotRunning)
        self.failureResultOf(never.complete(), NotRunning)
        self.assert_sets(receipt, pending=[b])
        self.assertEqual(receipt.closed, "the service has stopped")
        self.assertEqual(len(queue), 2)
        self.assertRaises(NotRunning, a.send, "x", receipt=True)

    def test_of_too_many_the_oldest_is_closed(self) -> None:
        a, b = self.linked(self.node(limits={"receipts_limit": 3}), self.node(), after=1)
        queue = b.messages()
        first, *rest = [a.send(number, receipt=True) for number in range(3)]
        waits = first.complete(60)
        self.network.advance(1)
        last = self.ask(a, "one too many")
        self.assertEqual(first.closed, "too many receipts are open")
        error = self.failureResultOf(waits, NotDelivered).value
        self.assertIs(error.receipt, first)
        self.assertEqual(
            str(error), "too many receipts are open: who has the message is not known any more"
        )
        self.failureResultOf(first.complete(), NotDelivered)
        self.assert_sets(first, pending=[b])
        self.assertEqual(self.happened(a, "receipt"), [first, *rest, first, last])
        self.assertEqual(a.footprint()["receipts"], 3)
        while queue.take() is not None:
            pass
        self.network.advance(1)
        self.assertTrue(all(receipt.is_complete for receipt in (*rest, last)))
        self.assertFalse(first.is_complete)

    def test_what_is_known_when_it_is_closed_stays(self) -> None:
        a, b, c = self.chain(3, limits={"receipts_limit": 1}, after=1)
        queue = c.messages()
        first = self.ask(a, "x")
        self.network.advance(1)
        self.ask(a, "y")
        self.assert_sets(first, delivered=[b], pending=[c])
        self.assertEqual(len(queue), 2)


class TestMembership(ReceiptCase):
    def test_before_it_has_joined_it_waits_and_then_fails_with_no_members(self) -> None:
        a = self.node()
        receipt = self.ask(a, "anyone?")
        self.failure_of(receipt.complete(5), NoMembers, after=6)
        self.assert_sets(receipt)
        self.assertFalse(receipt.is_complete)

    def test_what_was_sent_before_the_first_link_counts_those_it_finds(self) -> None:
        a, b, c = self.node(), self.node(), self.node()
        self.link((c, b), after=1)
        receipt = self.ask(a, "early")
        waits = receipt.complete()
        self.network.advance(1)
        self.assertNoResult(waits)
        self.link((a, b))
        self.result_of(waits, after=2)
        self.assert_sets(receipt, delivered=[b, c])

    def test_two_that_are_new_expect_each_other(self) -> None:
        a, b = self.node(), self.node()
        at_a, at_b = self.ask(a, "early"), self.ask(b, "too")
        self.link((a, b), after=2)
        self.assert_sets(at_a, delivered=[b])
        self.assert_sets(at_b, delivered=[a])
        self.assertTrue(at_a.is_complete and at_b.is_complete)

    def test_alone_once_all_are_gone_for_good(self) -> None:
        a, b = self.linked(self.node(identity=None), self.node(identity=None), after=1)
        self.stop(b, after=120)
        self.assertEqual(dict(a.members), {})
        receipt = self.ask(a, "anyone?")
        self.failureResultOf(receipt.complete(), NoMembers)
        self.failureResultOf(receipt.complete(5), NoMembers)
        self.assertEqual(a.footprint()["receipts"], 0)
        self.assert_sets(receipt)

    def test_who_came_later_is_not_expected_and_counts_if_it_has_it(self) -> None:
        a, b = self.chain(2, after=1)
        b.messages()  # this consumer takes nothing, so the receipt stays open
        queue = b.messages()
        receipt = self.ask(a, "x")
        late, early = self.node(), self.node(replay="all")
        self.link((late, b), (early, b), after=10)
        self.assertEqual((self.got(late), self.got(early)), ([], ["x"]))
        self.assertIn(early.id, receipt.delivered)
        self.assertNotIn(late.id, receipt.delivered | receipt.pending | receipt.missed)
        self.assertEqual(receipt.pending, {b.id})
        self.assertEqual(len(queue), 1)

    def test_guests_are_in_no_receipt_and_have_receipts_of_their_own(self) -> None:
        guest, b, a = self.linked(self.node(role="guest"), self.node(), self.node(), after=1)
        receipt = self.ask(a, "x")
        self.network.advance(1)
        self.assertEqual(self.got(guest), ["x"])
        self.assert_sets(receipt, delivered=[b])
        self.assertTrue(receipt.is_complete)
        own = self.ask(guest, "y")
        self.network.advance(1)
        self.assert_sets(own, delivered=[a, b])

    def test_a_member_that_is_gone_for_good_has_missed_it(self) -> None:
        a, b, gone = self.chain(3, identity=None, after=1)
        self.kill(gone)
        receipt = self.ask(a, "x")
        waits = receipt.complete()
        self.network.advance(60)
        self.assert_sets(receipt, delivered=[b], pending=[gone])
        self.network.advance(120)
        self.assert_sets(receipt, delivered=[b], missed=[gone])
        error = self.failureResultOf(waits, NotDelivered).value
        self.assertEqual(str(error), "1 of 2 members will not get the message")
        self.failureResultOf(receipt.complete(5), NotDelivered)


class TestRestarts(ReceiptCase):
    def test_a_member_with_history_that_was_away_is_pending_and_then_has_it(self) -> None:
        a, b, c = self.linked(self.keyed(), self.keyed(), self.with_history())
        self.send(a, "before", after=10)
        number = self.kill(c)
        receipt = self.ask(a, "while it was away")
        self.network.advance(120)
        self.assertEqual(a.members[c.id].state, "down")
        self.assert_sets(receipt, delivered=[b], pending=[c])
        c = self.mesh.start(number)
        self.network.advance(70)
        self.assertEqual(self.got(c), ["while it was away"])
        self.assert_sets(receipt, delivered=[b, c])
        self.assertTrue(receipt.is_complete)

    def test_one_with_history_that_is_killed_before_it_has_answered_answers_later(self) -> None:
        a, b = self.linked(self.keyed(), self.with_history(), after=1)
        receipt = self.ask(a, "x")
        self.assertEqual(self.got(b), ["x"])
        self.parts_of(b).writer._flush()  # type: ignore[union-attr]  # it is stored, and nobody was told
        number = self.kill(b)
        self.network.advance(20)
        self.assert_sets(receipt, pending=[b])
        b = self.mesh.start(number)
        self.network.advance(70)
        self.assertEqual(self.got(b), [])
        self.assert_sets(receipt, delivered=[b])

    def test_one_without_history_that_restarts_before_it_got_it_has_missed_it(self) -> None:
        a, b, c = self.linked(self.keyed(), self.keyed(), self.keyed(), after=1)
        number = self.kill(c)
        receipt = self.ask(a, "x")
        waits = receipt.complete()
        self.network.advance(1)
        self.assert_sets(receipt, delivered=[b], pending=[c])
        c = self.mesh.start(number)
        self.network.advance(70)
        self.assertEqual(self.got(c), [])
        self.assert_sets(receipt, delivered=[b], missed=[c])
        error = self.failureResultOf(waits, NotDelivered).value
        self.assertIs(error.receipt, receipt)
        self.assertNotIsInstance(error, ReceiptTimeout)
        self.failureResultOf(receipt.complete(), NotDelivered)

    def test_one_without_history_that_is_the_first_to_get_it_has_it(self) -> None:
        a, b = self.linked(self.keyed(), self.keyed(), after=1)
        number = self.kill(b)
        self.network.advance(30)
        receipt = self.ask(a, "x")
        waits = receipt.complete()
        b = self.mesh.start(number)
        self.network.advance(70)
        self.assertEqual(self.got(b), ["x"])
        self.assertIs(self.successResultOf(waits), receipt)

    def test_one_that_restarts_after_it_had_it_still_has_had_it(self) -> None:
        a, b, c = self.linked(self.keyed(), self.keyed(), self.keyed(), after=1)
        b.messages()
        queue = b.messages()
        receipt = self.ask(a, "x")
        self.network.advance(1)
        self.assert_sets(receipt, delivered=[c], pending=[b])
        number = self.kill(c)
        c = self.mesh.start(number)
        self.network.advance(70)
        self.assert_sets(receipt, delivered=[c], pending=[b])
        self.run_to_end(queue.__anext__())
        self.network.advance(1)
        self.assertTrue(receipt.is_complete)

    def test_a_partition_holds_it_up_and_no_more(self) -> None:
        nodes = [self.keyed() for _ in range(4)]
        self.link((nodes[0], nodes[1]), (nodes[1], nodes[2]), (nodes[2], nodes[3]), after=1)
        self.mesh.partition((0, 1))
        receipt = self.ask(nodes[0], "x")
        self.network.advance(60)
        self.assert_sets(receipt, delivered=[nodes[1]], pending=nodes[2:])
        self.mesh.heal()
        self.network.advance(120)
        self.assert_sets(receipt, delivered=nodes[1:])


class TestTaking(ReceiptCase):
    def test_unheard_counts_as_taken(self) -> None:
        a, b = self.chain(2, after=1)
        service = MeshService(self.network.clock)
        self.assertEqual(service.footprint(), {})
        receipt = self.ask(a, "x")
        self.network.advance(1)
        self.assert_sets(receipt, delivered=[b])
        self.assertEqual(b.footprint()["unheard_messages"], 1)

    def test_a_consumer_has_it_when_it_has_taken_it(self) -> None:
        a, b = self.chain(2, after=1)
        queue = b.messages()
        receipts = [self.ask(a, number) for number in range(3)]
        self.network.advance(60)
        for receipt in receipts:
            self.assert_sets(receipt, pending=[b])
        for receipt in receipts:
            self.run_to_end(queue.__anext__())
            self.network.advance(1)
            self.assert_sets(receipt, delivered=[b])

    def test_the_slowest_consumer_counts_and_one_that_is_gone_does_not(self) -> None:
        a, b = self.chain(2, after=1)
        slow, quick = b.messages(), b.messages()
        receipt = self.ask(a, "x")
        self.run_to_end(quick.__anext__())
        self.network.advance(5)
        self.assert_sets(receipt, pending=[b])
        slow.close()
        del slow
        self.network.advance(5)
        self.assert_sets(receipt, delivered=[b])

    def test_one_that_is_closed_holds_no_receipt_back(self) -> None:
        for with_history in (False, True):
            a = self.node()
            b = self.with_history() if with_history else self.node()
            self.link((a, b))
            queue, other = b.messages(), b.messages()
            receipt = self.ask(a, "one")
            other.take()
            self.network.advance(2)
            self.assert_sets(receipt, pending=[b])
            queue.close()
            self.network.advance(2)
            self.assert_sets(receipt, delivered=[b])
            self.assertEqual(len(queue), 1)
            later = self.ask(a, "two")
            other.take()
            self.network.advance(2)
            self.assert_sets(later, delivered=[b])
            self.stop(a)
            self.stop(b)

    def test_what_one_lost_after_it_was_closed_is_the_authors_no_more(self) -> None:
        a, b = self.linked(self.node(), self.node(limits={"queue_limit": 2, "history_seconds": 20.0}))
        queue = b.messages()
        receipts = [a.send(number, receipt=True) for number in range(5)]
        self.network.pump()
        queue.close()
        self.network.advance(40)
        self.assertEqual(len([*iter(queue.take, None)]), 2)
        self.network.advance(2)
        self.assertEqual([(gap.first, gap.last) for gap in self.happened(b, "gap")], [(3, 5)])
        for receipt in receipts:
            assert receipt is not None
            self.assert_sets(receipt, delivered=[b])

    def test_what_is_taken_after_the_stop_is_told_to_nobody(self) -> None:
        a, b = self.chain(2)
        queue, closed = b.messages(), b.messages()
        receipt = self.ask(a, "one")
        self.stop(b)
        closed.close()
        self.assertEqual(len([*iter(queue.take, None)]), 1)  # the queue starts no timer
        self.assert_sets(receipt, pending=[b])

    def test_what_a_slow_consumer_lost_is_never_counted(self) -> None:
        a = self.node()
        b = self.node(limits={"queue_limit": 2, "history_bytes": 350_000})
        self.link((a, b), after=1)
        queue = b.messages()
        receipts = [self.ask(a, number, BIG) for number in range(6)]
        self.network.advance(1)
        got = []
        while (message := queue.take()) is not None:
            got.append(message.packets[1])
        self.network.advance(1)
        self.assertEqual(got, [0, 1, 5])
        self.assertEqual([(gap.first, gap.last) for gap in self.happened(b, "gap")], [(3, 5)])
        for number, receipt in enumerate(receipts):
            if number in got:
                self.assert_sets(receipt, delivered=[b])
            else:
                self.assert_sets(receipt, missed=[b])

    def test_what_it_takes_of_below_a_hole_that_was_given_up_counts(self) -> None:
        limits = {"queue_limit": 2, "gap_patience": 5.0, "compare_interval": 1.0}
        a, c = self.node(limits={"history_seconds": 10.0}), self.node(limits={"history_seconds": 10.0})
        b = self.node(limits=limits)
        self.link((a, b), (a, c), after=1)
        queue = b.messages()
        before = [self.ask(a, number) for number in range(6)]
        self.mesh.partition((0, 1), (2,))
        lost = [self.ask(a, number) for number in range(6, 9)]
        self.network.advance(120)  # until no node holds them any more
        self.mesh.heal()
        self.network.advance(60)
        after = self.ask(a, 9)
        self.network.advance(30)
        self.assertEqual([(gap.first, gap.last) for gap in self.happened(b, "gap")], [(7, 9)])
        got = [message.packets[1] for message in iter(queue.take, None)]
        self.network.advance(5)
        self.assertEqual(got, [*range(6), 9])
        for receipt in (*before, after):
            self.assert_sets(receipt, delivered=[b, c])
        for receipt in lost:
            self.assertNotIn(b.id, receipt.delivered)
        self.assertEqual(len(self.happened(b, "gap")), 1)

    def test_nor_is_what_it_had_to_forget_of_a_run_before_it_took_any(self) -> None:
        # A queue remembers so many ranges that a handler took; beyond that it gives up its oldest run.
        a, c, b = self.node(), self.node(), self.node(limits={"queue_limit": 1})
        self.link((a, b), (c, b), after=1)
        b.register_handler(lambda message, link: message.packets[1] == "taken")
        queue = b.messages()
        self.ask(c, "fills the queue")
        receipt = self.ask(a, "lost")
        for _ in range(3):
            self.ask(c, "taken")
            self.ask(c, "left")
        self.network.advance(1)
        self.assertNotIn(b.id, receipt.delivered)
        self.assertIn(b.id, receipt.missed)
        while (message := queue.take()) is not None:
            self.assertNotEqual(message.packets[1], "lost")
        self.assertIn((a.id, 1, 1), [(gap.sender, gap.first, gap.last) for gap in self.happened(b, "gap")])

    def test_what_it_takes_when_nobody_holds_it_any_more_counts(self) -> None:
        a, b = self.node(limits={"history_seconds": 60.0}), self.node(limits={"history_seconds": 60.0})
        self.link((a, b), after=1)
        queue = b.messages()
        receipt = self.ask(a, "x")
        self.network.advance(300)
        self.assert_sets(receipt, pending=[b])
        self.assertIsNotNone(queue.take())
        self.network.advance(1)
        self.assertTrue(receipt.is_complete)

    def test_with_a_store_it_counts_once_it_is_stored(self) -> None:
        a, b = self.linked(self.keyed(), self.with_history(limits={"flush_interval": 3.0}), after=4)
        receipt = self.ask(a, "x")
        self.assertEqual(self.got(b), ["x"])
        self.network.advance(2)
        self.assert_sets(receipt, pending=[b])
        self.network.advance(2)
        self.assert_sets(receipt, delivered=[b])

    def test_a_store_that_cannot_be_written_holds_it_up(self) -> None:
        a, b = self.linked(self.keyed(), self.with_history(), after=1)
        store = self.file_of(b)

        def full(flush: object) -> None:
            raise OSError("no room")

        self.patch(store, "flush", full)
        receipt = self.ask(a, "x")
        self.network.advance(20)
        self.assertEqual(self.got(b), ["x"])
        self.assert_sets(receipt, pending=[b])
        del store.flush
        self.network.advance(20)
        self.assert_sets(receipt, delivered=[b])
        self.flushLoggedErrors(OSError)

    def test_with_history_all_that_an_iteration_takes_of_a_batch_counts(self) -> None:
        a, b = self.linked(self.keyed(), self.with_history())
        got: list[object] = []
        consuming = Deferred.fromCoroutine(consume(b.messages(), got))
        receipts = [a.send(number, receipt=True) for number in range(3)]  # in one batch
        self.network.advance(2)
        for receipt in receipts:
            self.assert_sets(receipt, delivered=[b])
        self.assertEqual(b.footprint()["runs_in_progress"], 0)
        self.stop(b)
        self.successResultOf(consuming)
        self.assertEqual(got, [0, 1, 2])

    def test_with_history_what_is_put_back_keeps_nothing_open_that_lies_behind_it(self) -> None:
        a, b = self.linked(self.keyed(), self.with_history())
        b.register_handler(lambda message, link: message.packets[1] == "handled")
        queue = b.messages()
        receipts = [self.ask(a, "queued"), self.ask(a, "handled")]
        self.network.pump()
        taken = queue.take_sized()
        self.network.pump()
        assert taken is not None
        queue.put_back([taken])
        self.network.pump()
        self.assertIsNotNone(queue.take())
        self.network.advance(2)
        for receipt in receipts:
            self.assert_sets(receipt, delivered=[b])

    def test_runs_of_which_a_consumer_lost_the_rest_are_kept_nowhere(self) -> None:
        limits = {"queue_limit": 2, "open_streams": 4}
        b = self.with_history(limits=limits)
        peer = self.joined(b)
        queue = b.messages()
        authors = [self.puppet().me for _ in range(20)]
        for author in authors:
            self.send_frames(peer, presence(author), batch(author, 1, *range(5)))
        self.assertLess(b.footprint()["runs_in_progress"], 10)
        while queue.take() is not None:
            pass
        self.network.advance(2)
        self.assertEqual(b.footprint()["runs_in_progress"], 0)

    def test_consumers_are_asked_of_runs_that_changed_alone_however_many_wait_for_one(self) -> None:
        b = self.node()
        peer = self.joined(b)
        queue = b.messages()
        issuer = self.parts_of(b).driver.node.replies.issuer
        asked: Counter[tuple[bytes, int]] = Counter()
        taken = Delivery.taken

        def counted(delivery: Delivery, run: tuple[bytes, int], head: int) -> int:
            asked[run] += 1
            return taken(delivery, run, head)

        self.patch(Delivery, "taken", counted)
        authors = self.asked_by(peer, 100)
        runs = [(author.origin, author.epoch) for author in authors]
        self.assertEqual((len(issuer.waiting), asked), (100, Counter(runs)))
        asked.clear()
        for number in range(1, 20):
            peer.send(Ping(number), batch(peer.me, number, "asks nothing"))
            self.send(b, number, after=0.1)
        self.assertEqual(asked, Counter())
        self.send_frames(peer, batch(authors[5], 2, "more"))
        self.assertEqual(asked, Counter(runs[5:6]))
        asked.clear()
        self.run_to_end(take(queue, 1))
        self.assertEqual((asked, len(issuer.waiting)), (Counter(runs[:1]), 99))
        asked.clear()
        del queue
        gc.collect()
        self.send_frames(peer, Ping(20))
        self.assertEqual((asked, len(issuer.waiting)), (Counter(runs[1:]), 0))
        self.assertEqual(self.parts_of(b)._progress._behind, {})

    def test_what_many_authors_ask_is_stored_at_once(self) -> None:
        b = self.with_history(limits={"flush_interval": 5.0})
        peer = self.joined(b)
        self.asked_by(peer, 150)
        self.assertEqual(len(self.got(b)), 150)
        self.assertEqual(b.footprint()["owed_receipts"], 150)
        issuer = self.parts_of(b).driver.node.replies.issuer
        self.assertEqual(len(issuer.waiting), 150)
        self.addCleanup(sys.setrecursionlimit, sys.getrecursionlimit())
        sys.setrecursionlimit(len(inspect.stack()) + 200)  # no deeper for more authors
        self.network.advance(6)
        self.assertEqual(len(issuer.waiting), 0)
        self.assertEqual(self.flushLoggedErrors(), [])
