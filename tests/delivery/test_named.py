"""Consumers with names: each keeps its place, over exceptions, restarts and crashes."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any

from msgspec import structs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tests.delivery.test_members import presence
from tests.support.meshcase import MeshCase, batch, consume, rest, take
from tests.support.page_code import functions_of
from twisted_mesh.delivery.named import NamedMessages
from twisted_mesh.delivery.named_consumers import NAME_CHARACTERS
from twisted_mesh.errors import ConsumerInUse, LocalError
from twisted_mesh.message import Consumer
from twisted_mesh.service import MeshService

KEPT = {"store_seconds": 60.0, "history_seconds": 60.0}


class NamedCase(MeshCase):
    """An author, and nodes with a history file that are linked with it."""

    def pair(self, **options: Any) -> tuple[MeshService, MeshService]:
        """An author, and a node with a history that is linked with it."""
        b, a = self.linked(self.started(**options), self.node())
        return a, b

    def again(self, author: MeshService, service: MeshService, **options: Any) -> MeshService:
        """Stop *service*, and start its node in another process."""
        self.stop(service, after=2)
        again = self.started(**options)
        self.link((again, author))
        return again

    def took(self, messages: NamedMessages, count: int) -> list[Any]:
        """Take *count* messages, and ask for no more."""
        return self.run_to_end(take(messages, count))

    def ready(self, messages: NamedMessages) -> list[Any]:
        """Take all messages that are there."""
        got = []
        while (message := messages.take()) is not None:
            got.append(message.packets[1])
        return got

    def lags(self, service: MeshService) -> dict[str, int]:
        return {name: one.lag for name, one in service.consumers.items()}


class TestTaking(NamedCase):
    """A message is taken when the next one is asked for."""

    def test_a_message_is_taken_when_its_consumer_comes_back(self) -> None:
        a, b = self.pair()
        messages = b.messages(name="billing")
        self.send(a, 1, 2)
        self.assertEqual(self.took(messages, 1), [1])
        self.assertEqual(self.lags(b), {"billing": 2})
        self.assertEqual(self.took(messages, 1), [2])
        self.assertEqual(self.lags(b), {"billing": 1})
        self.assertIsNone(messages.take())
        self.assertEqual(self.lags(b), {"billing": 0})

    def test_after_an_exception_that_one_message_is_given_again(self) -> None:
        a, b = self.pair()
        got: list[Any] = []

        async def work() -> None:
            async for message in b.messages(name="billing"):
                got.append(message.packets[1])
                if got == [1, 2]:
                    raise ValueError

        failed = Deferred.fromCoroutine(work())
        self.send(a, 1, 2, 3)
        self.failureResultOf(failed, ValueError)
        again = Deferred.fromCoroutine(work())
        self.send(a, 4)
        self.assertEqual(got, [1, 2, 2, 3, 4])
        again.cancel()
        self.failureResultOf(again, CancelledError)

    def test_also_if_the_same_iterator_goes_on(self) -> None:
        a, b = self.pair()
        messages = b.messages(name="billing")
        self.send(a, 1, 2)
        self.assertEqual(self.took(messages, 2), [1, 2])
        self.assertEqual(self.took(aiter(messages), 1), [2])
        self.assertIsNone(messages.take())
        self.assertEqual(self.lags(b), {"billing": 0})

    def test_unless_it_was_committed(self) -> None:
        a, b = self.pair()
        messages = b.messages(name="billing")
        self.send(a, 1, 2)
        self.assertEqual(self.took(messages, 1), [1])
        messages.commit()
        messages.close()
        messages.commit()
        self.assertEqual(self.ready(b.messages(name="billing")), [2])

    def test_a_receipt_says_that_the_consumer_is_done_with_it(self) -> None:
        for history in (None, self.folder / "history"):
            b = self.started(f"of {history is None}", history=history)
            a = self.node()
            self.link((b, a), after=1)
            messages = b.messages(name="billing")
            receipt = a.send("fire", receipt=True)
            self.network.advance(1)
            self.assertEqual(self.took(messages, 1), ["fire"])
            self.network.advance(1)
            self.assertEqual(receipt.pending, {b.id})
            self.assertIsNone(messages.take())
            self.network.advance(1)
            self.assertTrue(receipt.is_complete)

    def test_each_name_has_a_place_of_its_own_beside_all_others(self) -> None:
        a, b = self.pair()
        audit, billing, other = b.messages(name="audit"), b.messages(name="billing"), b.messages()
        self.send(a, *range(5))
        self.assertEqual(self.took(audit, 3), [0, 1, 2])
        self.assertEqual(self.ready(billing), [*range(5)])
        self.assertEqual(self.run_to_end(take(other, 5)), [*range(5)])
        self.assertEqual(self.got(b), [*range(5)])
        self.assertEqual(self.lags(b), {"audit": 3, "billing": 0})

    def test_messages_that_a_handler_takes_are_not_for_it(self) -> None:
        a, b = self.pair()
        b.register_handler(lambda message, _: message.packets[1] % 2 == 0)
        messages = b.messages(name="billing")
        self.send(a, *range(10))
        self.assertEqual(self.took(messages, 2), [1, 3])
        messages.close()
        self.send(a, *range(10, 20))
        self.assertEqual(self.ready(b.messages(name="billing")), [3, 5, 7, 9, 11, 13, 15, 17, 19])

    def test_direct_messages_and_whispers_come_while_it_is_open(self) -> None:
        a, b = self.pair()
        messages = b.messages(name="billing")
        for text in ("direct", "another"):
            self.result_of(a.send_to(b.id, text), after=1)
        self.assertEqual(self.took(messages, 1), ["direct"])
        messages.close()
        again = b.messages(name="billing")
        self.assertEqual(self.ready(again), ["direct", "another"])
        again.close()
        self.result_of(a.send_to(b.id, "nobody"), after=1)
        self.assertEqual(self.ready(b.messages(name="billing")), [])

    def test_one_that_nobody_has_open_holds_up_no_direct_messages(self) -> None:
        a, b = self.pair(limits={"queue_limit": 2})
        messages = b.messages(name="billing")
        for text in ("one", "two"):
            self.result_of(a.send_to(b.id, text), after=1)
        late = a.send_to(b.id, "three")
        self.network.advance(1)
        self.assertNoResult(late)
        messages.close()
        self.result_of(late, after=10)


class TestNames(NamedCase):
    """What can be a name, and how many there are."""

    def test_two_iterators_of_one_name_are_an_error(self) -> None:
        a, b = self.pair()
        messages = b.messages(name="billing")
        error = self.assertRaises(ConsumerInUse, b.messages, name="billing")
        self.assertIn("'billing' is open already: close() that iterator first", str(error))
        messages.close()
        messages.close()
        self.send(a, 1)
        other = b.messages(name="billing")
        self.assertEqual(self.ready(other), [1])
        self.assertEqual(self.run_to_end(rest(messages)), [])
        messages.close()
        self.assertTrue(b.consumers["billing"].open)

    def test_one_that_the_application_dropped_is_closed(self) -> None:
        a, b = self.pair()
        messages = b.messages(name="billing")
        self.send(a, 1, 2)
        self.assertEqual(self.took(messages, 1), [1])
        del messages
        gc.collect()
        self.assertFalse(b.consumers["billing"].open)
        self.assertEqual(self.ready(b.messages(name="billing")), [1, 2])

    def test_a_consumer_that_waits_is_kept_alive_and_ends_when_it_is_closed(self) -> None:
        a, b = self.pair()
        got: list[Any] = []
        done = Deferred.fromCoroutine(consume(messages := b.messages(name="billing"), got))
        closing = messages.close
        del messages
        gc.collect()
        self.send(a, 1)
        self.assertEqual(got, [1])
        closing()
        self.successResultOf(done)
        error = self.failureResultOf(Deferred.fromCoroutine(self.two_at_a_time(b)), RuntimeError)
        self.assertIn("one consumer at a time", str(error.value))

    async def two_at_a_time(self, service: MeshService) -> None:
        messages = service.messages(name="two")
        one = Deferred.fromCoroutine(messages.__anext__())
        try:
            await messages.__anext__()
        finally:
            one.cancel()
            one.addErrback(lambda failure: failure.trap(CancelledError))

    def test_a_name_or_a_start_that_cannot_be_is_refused(self) -> None:
        _, b = self.pair()
        for name, kind in (("", ValueError), ("x" * 65, ValueError), ("a\nb", ValueError), (7, TypeError)):
            self.assertRaises(kind, b.messages, name=name)
        wrong: Iterable[Any] = ("old", -1, float("nan"), float("inf"), True, None)
        for start in wrong:
            error = self.assertRaises(ValueError, b.messages, name="billing", start=start)
            self.assertIn('start is "new", "all" or a number of seconds', str(error))
        self.assertIn("give name=", str(self.assertRaises(LocalError, b.messages, start="all")))
        self.assertEqual(b.consumers, {})
        b.messages(name="x" * NAME_CHARACTERS).close()

    def test_one_more_than_the_limit_is_refused(self) -> None:
        _, b = self.pair(limits={"consumers_limit": 2})
        for name in ("audit", "billing"):
            b.messages(name=name).close()
        error = self.assertRaises(LocalError, b.messages, name="ops")
        self.assertIn("there are 2 consumers with names (consumers_limit)", str(error))
        self.assertEqual(b.footprint()["named_consumers"], 2)
        b.forget_consumer("audit")
        b.messages(name="ops")
        self.assertEqual(sorted(b.consumers), ["billing", "ops"])

    def test_each_is_shown_with_its_lag_and_since_when_it_is_open(self) -> None:
        a, b = self.pair()
        opened = self.network.clock.seconds()
        messages = b.messages(name="billing")
        self.assertEqual(b.consumers, {"billing": Consumer("billing", 0, True, opened)})
        self.network.advance(10)
        messages.close()
        self.send(a, 1, 2)
        closed = Consumer("billing", 2, False, opened + 10)
        self.assertEqual(b.consumers, {"billing": closed})
        self.assertEqual(messages.name, "billing")
        self.network.advance(10)
        self.stop(b, after=2)
        b.startService()
        self.network.advance(1)
        self.assertEqual(b.consumers, {"billing": closed})
        again = self.again(a, b)
        self.assertEqual(again.consumers, {"billing": closed})


class TestForgetting(NamedCase):
    def test_one_that_is_forgotten_holds_up_no_receipt(self) -> None:
        for history in (None, self.folder / "history"):
            b = self.started(f"of {history is None}", history=history)
            a = self.node()
            self.link((b, a), after=1)
            b.messages(name="billing").close()
            receipt = a.send("fire", receipt=True)
            self.network.advance(5)
            self.assertEqual(receipt.pending, {b.id})
            b.forget_consumer("billing")
            self.network.advance(5)
            self.assertTrue(receipt.is_complete)
            self.assertEqual(b.consumers, {})

    def test_one_that_is_open_or_not_there_is_an_error(self) -> None:
        _, b = self.pair()
        messages = b.messages(name="billing")
        self.assertRaises(ConsumerInUse, b.forget_consumer, "billing")
        messages.close()
        b.forget_consumer("billing")
        error = self.assertRaises(LocalError, b.forget_consumer, "billing")
        self.assertIn("there is no consumer 'billing'", str(error))

    def test_its_name_begins_anew(self) -> None:
        a, b = self.pair()
        b.messages(name="billing").close()
        self.send(a, 1)
        b.forget_consumer("billing")
        self.assertEqual(self.ready(b.messages(name="billing")), [])
        again = self.again(a, b)
        self.assertEqual(self.lags(again), {"billing": 0})

    def test_one_that_is_forgotten_while_the_service_is_stopped_stays_so(self) -> None:
        a, b = self.pair()
        b.messages(name="billing").close()
        self.send(a, 1)
        self.stop(b, after=2)
        b.forget_consumer("billing")
        b.startService()
        self.link((b, a))
        self.assertEqual(b.consumers, {})
        self.assertEqual(self.ready(b.messages(name="billing")), [])


class TestStart(NamedCase):
    """Where a consumer begins whose name is new."""

    def begun(self, **options: Any) -> list[Any]:
        """What a new consumer gets of four messages, the last of which comes after it was opened."""
        a, b = self.pair()
        for number in range(3):
            self.send(a, number, after=10)
        messages = b.messages(name="billing", **options)
        self.send(a, 3)
        got = self.ready(messages)
        messages.close()
        self.assertEqual(self.ready(b.messages(name="billing", start="all")), [])  # it is new no more
        return got

    def test_with_new_messages(self) -> None:
        self.assertEqual(self.begun(), [3])

    def test_with_all_that_are_held(self) -> None:
        self.assertEqual(self.begun(start="all"), [0, 1, 2, 3])

    def test_with_those_of_the_last_seconds(self) -> None:
        self.assertEqual(self.begun(start=15), [2, 3])

    def test_before_the_service_is_started(self) -> None:
        a, b = self.pair()
        self.send(a, *range(3))
        self.stop(b, after=2)
        again = self.keeping()
        new, old = again.messages(name="billing"), again.messages(name="audit", start="all")
        self.assertIsNone(new.take())
        again.startService()
        self.link((again, a))
        self.send(a, 3)
        self.assertEqual((self.ready(new), self.ready(old)), ([3], [0, 1, 2, 3]))

    def test_in_a_listener_each_message_is_given_once(self) -> None:
        a, b = self.pair()
        opened: list[NamedMessages] = []

        def open_it(message: Any) -> None:
            if message.packets[1] == 1:
                opened.append(b.messages(name="billing", start="all"))

        b.on("message", open_it)
        self.send(a, *range(3))
        self.send(a, *range(3, 5))
        self.assertEqual(self.ready(opened[0]), [0, 1, 2, 3, 4])


class TestRestart(NamedCase):
    def test_each_goes_on_where_it_was(self) -> None:
        a, b = self.pair()
        audit, billing = b.messages(name="audit"), b.messages(name="billing")
        self.send(a, *range(5))
        self.assertEqual(self.ready(audit), [*range(5)])
        self.assertEqual(self.took(billing, 3), [0, 1, 2])
        again = self.again(a, b)
        self.assertEqual(self.lags(again), {"audit": 0, "billing": 3})
        audit, billing = again.messages(name="audit"), again.messages(name="billing")
        self.send(a, 5, after=1)
        self.assertEqual((self.ready(audit), self.ready(billing)), ([5], [2, 3, 4, 5]))
        # What the listeners had at that time is for them alone.
        self.assertEqual((self.got(b), self.got(again)), ([*range(5)], [5]))
        self.assertEqual(self.happened(again, "gap"), [])

    def test_what_others_have_not_taken_is_for_them_alone(self) -> None:
        a, b = self.pair()
        audit, slow = b.messages(name="audit"), b.messages()
        self.send(a, *range(5))
        self.assertEqual(self.ready(audit), [*range(5)])
        self.assertEqual(self.run_to_end(take(slow, 2)), [0, 1])
        again = self.again(a, b)
        self.assertEqual(self.ready(again.messages(name="audit")), [])
        self.assertEqual(self.got(again), [2, 3, 4])  # as before: the place of the slowest of the others

    def test_messages_that_come_while_the_backlog_is_given_are_given_once(self) -> None:
        a, b = self.pair()
        audit, slow = b.messages(name="audit"), b.messages()
        self.send(a, *range(2500))
        self.assertEqual(len(self.ready(audit)), 2500)
        self.assertEqual(len(slow), 2500)
        self.stop(b, after=2)
        again = self.keeping()
        audit = again.messages(name="audit")
        again.startService()
        self.link((again, a))
        self.send(a, *range(2500, 2510))
        self.network.advance(1)
        self.assertEqual(self.ready(audit), [*range(2500, 2510)])
        self.assertEqual(self.got(again), [*range(2510)])

    def test_after_a_crash_only_what_was_taken_since_the_last_flush_comes_again(self) -> None:
        a, b = self.pair(limits={"flush_interval": 10.0})
        messages = b.messages(name="billing")
        self.send(a, *range(10))
        self.assertEqual(self.took(messages, 5), [*range(5)])
        self.network.advance(11)
        self.assertEqual(self.took(messages, 3), [5, 6, 7])
        self.crashed("node", "copy")
        again = self.started("copy", listens=False)
        self.assertEqual(self.ready(again.messages(name="billing")), [*range(4, 10)])

    def test_at_a_stop_it_ends_and_the_body_that_runs_can_still_be_done(self) -> None:
        a, b = self.pair()
        messages = b.messages(name="billing")
        self.send(a, *range(5))
        self.assertEqual(self.took(messages, 2), [0, 1])
        stopped = b.stopService()
        self.assertEqual(self.run_to_end(rest(messages)), [])  # 1 is taken now
        self.network.advance(5)
        self.successResultOf(stopped)
        again = self.started()
        self.assertEqual(self.ready(again.messages(name="billing")), [2, 3, 4])

    def test_a_consumer_that_waits_at_a_stop_ends_and_loses_nothing_that_comes_then(self) -> None:
        a, b = self.pair()
        got: list[Any] = []
        done = Deferred.fromCoroutine(consume(b.messages(name="billing"), got))
        self.send(a, 1)
        b.stopService()
        self.successResultOf(done)
        a.send(2)
        self.network.advance(5)
        again = self.started()
        self.link((again, a))
        self.network.advance(1)
        self.assertEqual((got, self.ready(again.messages(name="billing"))), ([1], [2]))

    def test_the_same_service_goes_on_too(self) -> None:
        a, b = self.pair()
        messages = b.messages(name="billing")
        self.send(a, *range(3))
        self.assertEqual(self.took(messages, 2), [0, 1])
        self.stop(b, after=2)
        self.assertEqual(self.ready(messages), [])
        b.startService()
        self.link((b, a))
        self.assertEqual(self.ready(messages), [])
        self.assertEqual(self.ready(b.messages(name="billing")), [1, 2])

    def test_without_a_history_file_a_name_lives_as_long_as_the_service(self) -> None:
        a, b = self.linked(self.node(), self.node())
        audit, billing = b.messages(name="audit"), b.messages(name="billing")
        self.send(a, 1, 2)
        self.assertEqual(self.took(billing, 1), [1])
        billing.close()
        self.stop(b, after=2)
        # Open ones end behind what has come; the messages of others are lost with the history, and told.
        self.assertEqual(self.run_to_end(rest(audit)), [1, 2])
        [gap] = self.happened(b, "gap")
        self.assertEqual((gap.first, gap.last), (1, 2))
        self.assertIn("the consumer 'billing'", gap.reason)
        b.startService()
        self.link((b, a))
        self.assertEqual(self.lags(b), {"audit": 0, "billing": 0})
        self.send(a, 3)
        self.assertEqual(self.ready(b.messages(name="billing")), [3])
        self.assertEqual(self.ready(audit), [])

    def test_without_a_history_file_messages_that_nobody_took_before_the_next_start_are_told_as_lost(
        self,
    ) -> None:
        a, b = self.linked(self.node(), self.node())
        audit = b.messages(name="audit")
        self.send(a, 1, 2, 3)
        self.assertEqual(self.took(audit, 2), [1, 2])
        self.stop(b, after=2)
        self.assertEqual(self.happened(b, "gap"), [])  # they can still be taken
        b.startService()
        self.network.advance(1)
        self.assertEqual(self.run_to_end(rest(audit)), [])
        [gap] = self.happened(b, "gap")
        self.assertEqual((gap.first, gap.last), (2, 3))
        self.assertIn("the consumer 'audit' had not taken them", gap.reason)


class TestRetention(NamedCase):
    """A consumer that nobody has open for longer than its messages are kept."""

    def test_it_keeps_its_place_within_the_retention(self) -> None:
        a, b = self.pair(limits=KEPT)
        b.messages(name="billing").close()
        self.send(a, 1, 2)
        again = self.again(a, b, limits=KEPT)
        self.network.advance(50)
        self.assertEqual(self.ready(again.messages(name="billing")), [1, 2])

    def gone(self, **options: Any) -> tuple[MeshService, MeshService, Any]:
        """An author, a node whose consumer was away for too long, and the receipt of the message."""
        a, b = self.pair(limits=KEPT, **options)
        self.network.advance(1)
        b.messages(name="billing").close()
        receipt = a.send("fire", receipt=True)
        self.network.advance(30)
        self.assertEqual(receipt.pending, {b.id})
        self.network.advance(130)  # a node without traffic looks once a minute
        return a, b, receipt

    def test_then_the_receipt_says_that_it_was_missed_and_it_is_told_a_gap(self) -> None:
        self.missed()

    def test_also_without_a_history_file(self) -> None:
        self.missed(history=None)

    def missed(self, **options: Any) -> None:
        a, b, receipt = self.gone(**options)
        self.assertEqual(receipt.missed, {b.id})
        self.assertEqual(self.happened(b, "gap"), [])
        self.send(a, "next")
        self.assertEqual(self.ready(b.messages(name="billing")), ["next"])
        [gap] = self.happened(b, "gap")
        self.assertEqual((gap.first, gap.last), (1, 1))
        self.assertIn("the consumer 'billing' had not taken them", gap.reason)

    def test_the_gap_is_told_also_after_a_restart(self) -> None:
        a, b, _ = self.gone()
        again = self.again(a, b, limits=KEPT)
        self.network.advance(130)
        self.assertEqual(self.ready(again.messages(name="billing")), [])
        [gap] = self.happened(again, "gap")
        self.assertEqual((gap.first, gap.last), (1, 1))

    def test_it_is_told_at_once_if_there_is_no_room_for_its_stream(self) -> None:
        b = self.started(limits={"open_streams": 2})
        peer = self.joined(b)
        b.messages(name="billing").close()
        authors = [self.puppet().me for _ in range(3)]
        for author in authors:
            peer.send(batch(author, 1, "x"))
        self.network.pump()
        [gap] = self.happened(b, "gap")
        self.assertEqual((gap.sender, gap.first, gap.last), (authors[0].id, 1, 1))
        self.assertEqual(self.ready(b.messages(name="billing")), ["x", "x"])

    def test_it_is_told_at_once_if_its_run_is_over_for_good(self) -> None:
        b = self.started()
        peer = self.joined(b)
        b.messages(name="billing").close()
        author = self.puppet().me
        later = structs.replace(author, epoch=author.epoch + 1)
        peer.send(presence(author), batch(author, 1, "x", "y"))
        self.network.pump()
        self.assertEqual(self.lags(b), {"billing": 2})
        peer.send(presence(later, floor=later.epoch))
        self.network.pump()
        [gap] = self.happened(b, "gap")
        self.assertEqual((gap.sender, gap.first, gap.last), (author.id, 1, 2))
        self.assertEqual(self.lags(b), {"billing": 0})

    def test_handlers_that_take_many_between_are_no_loss(self) -> None:
        a, b = self.pair(limits={"queue_limit": 10})
        b.register_handler(lambda message, _: message.packets[1] % 2 == 0)
        b.messages(name="billing").close()
        self.send(a, *range(50))
        got = self.ready(b.messages(name="billing"))
        self.assertEqual([number for number in got if number % 2], [*range(1, 50, 2)])
        self.assertEqual(self.happened(b, "gap"), [])


class TestPage(NamedCase):
    """The code of docs/consumers.rst."""

    def test_it_does_what_the_page_says(self) -> None:
        charged: list[Any] = []

        def charge(text: object) -> None:
            charged.append(text)
            if text == "bad" and charged.count("bad") == 1:
                raise TimeoutError

        names = functions_of("consumers.rst", charge=charge, deferLater=deferLater)
        a, b = self.pair()
        self.send(a, "first")
        done = Deferred.fromCoroutine(names["bill_patiently"](b, self.network.clock))
        self.send(a, "bad", "last")
        self.assertEqual(charged, ["first", "bad"])
        self.network.advance(6)
        self.assertEqual(charged, ["first", "bad", "bad", "last"])
        self.assertEqual(self.lags(b), {"billing": 0})
        names["retire"](b, "billing")
        self.stop(b, after=2)
        self.successResultOf(done)
        names["retire"](b, "billing")
        self.assertEqual(b.consumers, {})
