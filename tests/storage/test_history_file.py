"""Services with a history file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError

from tests.support.bodies import unpack_entries
from tests.support.length import at_length
from tests.support.meshcase import MeshCase, batch, consume, rest
from twisted_mesh.core.events import Deliver
from twisted_mesh.delivery.queue import MessageQueue
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.errors import IdentityError, StoreError, StoreFull
from twisted_mesh.message import Message
from twisted_mesh.runtime import running_node
from twisted_mesh.service import MeshService

#: Seconds for which a consumer stands still; memory holds the messages of five seconds.
SECONDS = at_length(60, 20)
STOPPED = {"queue_limit": 50, "queue_bytes": 20_000, "history_bytes": 200_000}


class HistoryCase(MeshCase):
    def queue_of_three(self, service: MeshService) -> MessageQueue:
        """An iterator of *service*, for which three messages have come."""
        author = self.node()
        self.link((service, author))
        queue = service.messages()
        self.send(author, *range(3))
        return queue

    def stored(self) -> None:
        """Let every flush come to its end."""
        self.network.advance(1)


class TestRestart(HistoryCase):
    def test_it_goes_on_where_it_was_and_gets_what_was_sent_meanwhile(self) -> None:
        a = self.node()
        b = self.started()
        self.link((b, a))
        self.send(a, *range(5))
        self.stop(b)
        for number in range(5, 10):
            a.send(number)
        again = self.started()
        self.link((again, a))
        self.stored()
        self.assertEqual((self.got(b), self.got(again)), ([*range(5)], [*range(5, 10)]))
        self.assertEqual(self.happened(again, "gap"), [])

    def test_after_a_crash_only_what_was_handed_out_since_the_last_flush_comes_again(self) -> None:
        b, a = self.linked(self.started(limits={"flush_interval": 10.0}), self.node())
        self.send(a, "stored", after=11)
        self.send(a, "handed out")
        self.crashed("node", "copy")
        again = self.started("copy", listens=False)
        self.stop(b)
        self.link((again, a))
        self.stored()
        self.assertEqual((self.got(b), self.got(again)), (["stored", "handed out"], ["handed out"]))

    def test_what_was_stored_and_not_taken_is_delivered_at_the_start_in_order(self) -> None:
        b, a = self.linked(self.started(limits={"queue_limit": 10}), self.node())
        queue = b.messages()
        self.send(a, *range(50))
        taken = [queue.take() for _ in range(20)]
        self.stored()
        self.assertEqual(b.footprint()["untaken_messages"], 30)
        self.stop(b)
        again = self.started()
        self.network.pump()
        self.assertEqual(len(taken), 20)
        self.assertEqual(self.got(again), list(range(20, 50)))
        self.stop(again)
        last = self.started()
        self.stored()
        self.assertEqual(self.got(last), [])

    def test_once_one_of_a_receive_queue_is_taken_the_others_count_as_not_taken(self) -> None:
        a, other, b = self.node(), self.node(), self.started()
        self.link((b, a), (b, other))
        queue = b._delivery.messages(lambda: None)
        self.send(a, "taken")
        other.send("not taken")
        self.stored()
        message = queue.take()
        assert message is not None
        self.stored()
        self.crashed("node", "copy")
        self.stop(b)
        again = self.started("copy", listens=False)
        self.network.pump()
        self.assertEqual((message.packets[1], self.got(again)), ("taken", ["not taken"]))

    def test_what_comes_while_a_long_backlog_is_handed_on_waits_behind_it(self) -> None:
        author, b = self.puppet().me, self.started(limits={"queue_limit": 100})
        link = self.joined(b)
        queue = b.messages()
        self.send_frames(link, batch(author, 1, *range(1, 3001)))
        self.stored()
        self.assertEqual(len(queue), 100)
        self.crashed("node", "copy")
        again = self.keeping("copy", limits={"queue_limit": 100})

        def listener(message: Message) -> None:
            if message.packets[1] == 1500:  # in the middle of a turn and of the backlog
                late, run = batch(author, 3001, 3001), self.parts_of(again)
                run.driver.node.history.add(late, self.network.clock.seconds())
                deliver = Deliver(0, author.origin, 1, 3001, 1000, 9, unpack_entries(late.body))
                run._deliver(deliver)
                run._deliver(Deliver(0, author.origin, 1, 0, 0, 9, [[0, 2, "psst"]]))

        again.on("message", listener)
        again.startService()
        self.network.pump()
        whisper = self.got(again).index("psst")
        self.assertLess(whisper, 1600)  # direct messages have no order
        self.assertEqual([number for number in self.got(again) if number != "psst"], list(range(1, 3002)))

    def test_a_backlog_is_left_where_it_is_when_the_service_stops_first(self) -> None:
        b, a = self.linked(self.started(), self.node())
        queue = b.messages()
        self.send(a, "one")
        self.stored()
        self.assertEqual(len(queue), 1)
        self.stop(b)
        between = self.started()
        self.stop(between)
        again = self.started()
        self.network.pump()
        self.assertEqual(sorted(self.got(between) + self.got(again)), ["one"])

    def test_what_was_sent_just_before_the_stop_to_nobody_is_sent_by_the_next_process(self) -> None:
        b = self.started(limits={"batch_delay": 1.0})
        self.send(b, "one")
        b.send("two")
        self.stop(b)
        _again, a = self.linked(self.started(), self.node())
        self.stored()
        self.assertEqual(self.got(a), ["one", "two"])

    def test_a_backlog_waits_for_a_consumer_within_its_bounds_and_leaves_turns_to_others(self) -> None:
        b, a = self.linked(self.started(limits={"batch_bytes": 1}), self.node())
        before = b.messages()
        for number in range(30):
            a.send(number, b"x" * 100_000)
        self.network.pump()
        self.stored()
        self.assertEqual(before.untaken, 30)
        self.stop(b)
        again = self.keeping(limits={"queue_bytes": 500_000})
        queue = again.messages()
        in_a_turn: list[int] = []

        def first(message: Message) -> None:
            self.network.clock.callLater(0, lambda: in_a_turn.append(len(self.got(again))))

        again.once("message", first)
        again.startService()
        self.network.pump()
        self.assertEqual((in_a_turn, len(self.got(again))), ([9], 30))  # three batches, of a megabyte
        self.assertEqual((len(queue), queue.untaken), (4, 30))
        self.assertEqual([message.packets[1] for message in iter(queue.take, None)], list(range(30)))

    def test_on_a_quiet_node_what_is_too_old_goes_as_well(self) -> None:
        a, b = self.node(), self.started(limits={"store_seconds": 1000.0, "history_seconds": 60.0})
        self.link((b, a))
        self.send(a, "old", after=900)
        self.assertEqual(b.footprint()["stored_batches"], 1)
        self.network.advance(200)
        self.assertEqual(b.footprint()["stored_batches"], 0)
        newcomer = self.node(replay="all")
        self.link((newcomer, b))
        self.stored()
        self.assertEqual(self.got(newcomer), [])

    def test_its_next_run_is_above_those_it_stored_though_its_epochs_and_the_time_are_lost(self) -> None:
        self.network.advance(86_400)  # before there is a node
        a = self.node()
        b = self.started(limits={"flush_interval": 10.0})
        self.link((b, a))
        self.send(b, "stored", after=11)
        self.send(b, "not stored")
        self.crashed("node", "copy")
        (self.folder / "copy.key.epoch").unlink()
        self.stop(b)
        again = self.keeping("copy", listens=False)
        again._settings.wall_clock = lambda: 1.0
        again.startService()
        self.link((again, a))
        self.stored()
        again.send("new")
        self.stored()
        self.assertEqual(self.got(a), ["stored", "not stored", "new"])
        self.assertEqual(self.happened(again, "failure"), [])

    def test_own_messages_nobody_had_reach_the_others_after_a_crash(self) -> None:
        b = self.started()
        b.send("alone")
        self.stored()
        self.crashed("node", "copy")
        again = self.started("copy", listens=False)
        a = self.node()
        self.link((again, a), after=5)
        self.assertEqual(self.got(a), ["alone"])
        self.assertEqual(self.got(again), [])

    def test_what_is_stored_serves_others_though_it_has_left_the_memory(self) -> None:
        a, b = self.node(limits={"history_seconds": 20.0}), self.started(limits={"history_seconds": 20.0})
        self.link((b, a))
        self.send(a, *range(20), after=60)
        self.stop(a)
        self.assertEqual(b.footprint()["held_batches"], 0)
        c = self.node(replay="all")
        self.link((c, b), after=5)
        self.assertEqual(self.got(c), list(range(20)))

    def test_a_settled_node_stays_so_and_a_replay_is_for_newcomers(self) -> None:
        a, b = self.node(), self.started(replay="all")
        a.send("before")
        self.link((b, a))
        self.stored()
        self.stop(b)
        again = self.started(replay="all")
        self.link((again, a))
        self.stored()
        self.assertEqual((self.got(b), self.got(again)), (["before"], []))


class TestStoppedConsumer(HistoryCase):
    """A consumer that stands still under load delays nobody, and is told of what it misses."""

    def load(self, seconds: int) -> None:
        """A hundred messages a second."""
        for _ in range(seconds * 10):
            for _ in range(10):
                self.a.send(self.said, b"x" * 200)
                self.said += 1
            self.network.advance(0.1)

    def stopped(self, **limits: Any) -> None:
        self.b, self.a = self.linked(self.started(limits=STOPPED | limits), self.node())
        self.said = 0
        self.slow, self.quick = self.b.messages(), self.b.messages()
        self.load(1)
        self.assertEqual([m.packets[1] for m in iter(self.slow.take, None)], list(range(100)))
        for second in range(1, SECONDS + 1):
            self.load(1)
            got = [message.packets[1] for message in iter(self.quick.take, None)]
            self.assertEqual(got[-100:], list(range(100 * second, 100 * (second + 1))))
            footprint = self.b.footprint()
            self.assertLessEqual(footprint["queued_messages"], 50)
            self.assertLessEqual(footprint["held_bytes"], 200_000)

    def taken_since(self) -> list[int]:
        return [message.packets[1] for message in iter(self.slow.take, None)]

    def test_afterwards_it_has_everything_within_the_retention(self) -> None:
        self.stopped()
        self.assertEqual(self.b.footprint()["untaken_messages"], 100 * SECONDS)
        self.load(1)
        self.assertEqual(self.taken_since(), list(range(100, self.said)))
        self.assertEqual(self.happened(self.b, "gap"), [])

    def test_and_is_told_what_lies_beyond(self) -> None:
        self.stopped(store_bytes=200_000)
        self.load(1)
        got = self.taken_since()
        (gap,) = self.happened(self.b, "gap")
        lost = range(gap.first - 1, gap.last)  # the first message has the number 1
        self.assertGreater(len(lost), 1000)
        self.assertEqual(sorted([*got, *lost]), list(range(100, self.said)))
        self.assertEqual(got, sorted(got))

    def test_its_mark_stands_still_over_a_restart(self) -> None:
        self.stopped()
        self.stop(self.b)
        again = self.started(limits=STOPPED)
        self.network.advance(1)
        self.assertEqual(self.got(again), list(range(100, self.said)))

    def with_a_backlog(self) -> int:
        """Kill a node with five messages that no consumer has taken; return its number."""
        b, a = self.linked(self.started(), self.node())
        queue = b.messages()
        self.send(a, *range(5), after=1)
        self.stop(a)
        del queue
        return self.kill(b)

    def test_what_is_handed_out_is_stored_though_nothing_else_happens(self) -> None:
        node = self.with_a_backlog()
        again = self.mesh.start(node)
        self.network.advance(60)
        self.assertEqual(self.got(again), [*range(5)])
        self.mesh.kill(node)
        again = self.mesh.start(node)
        self.network.advance(60)
        self.assertEqual(self.got(again), [])

    def test_who_stops_in_the_midst_of_it_has_stopped_and_its_consumers_have_it(self) -> None:
        again = self.mesh.start(self.with_a_backlog())
        had: list[object] = []
        stops: list[Deferred[None]] = []

        ended = Deferred.fromCoroutine(consume(again.messages(), had))
        again.on("message", lambda message: message.packets[1] == 2 and stops.append(again.stopService()))
        self.network.advance(5)
        self.successResultOf(stops[0])
        self.successResultOf(ended)
        self.assertEqual(had, [*range(5)])

    def test_one_that_was_dropped_holds_nothing_up_over_a_restart(self) -> None:
        b = self.started()
        queue = self.queue_of_three(b)
        queue.take()
        self.stored()
        del queue
        self.stop(b)
        again = self.started()
        self.stored()
        self.assertEqual(self.got(again), [])

    def test_one_that_goes_on_after_the_stop_asks_nothing_of_the_closed_file(self) -> None:
        b = self.started()
        queue = self.queue_of_three(b)
        self.stop(b)
        self.assertEqual([message.packets[1] for message in iter(queue.take, None)], [0, 1, 2])
        self.network.advance(60)
        self.assertEqual(self.happened(b, "failure"), [])
        self.assertEqual(self.log("closed"), [])


class TestUnreadable(HistoryCase):
    """A file that cannot be read for a while: its messages come later, and none is lost."""

    def break_reads(self, service: MeshService, times: int) -> Failing:
        """Let the next reads of its file fail."""
        store = self.file_of(service)
        failing = Failing(store._reader, times)
        store._reader = store._batches._database = failing  # type: ignore[assignment]
        return failing

    def behind(self) -> tuple[MeshService, MeshService, MessageQueue, list[Receipt | None]]:
        """An author, a node that listens to it, a consumer there that is behind, and the receipts."""
        a, b = self.linked(self.node(), self.started(limits={"queue_limit": 5, "history_bytes": 20_000}))
        queue = b.messages()
        receipts = []
        for number in range(100):
            receipts.append(a.send(number, b"x" * 1000, receipt=number == 50))
            self.network.advance(0.1)
        return a, b, queue, receipts

    def test_a_consumer_that_is_behind_gets_all_later_and_no_gap(self) -> None:
        a, b, queue, receipts = self.behind()
        failing = self.break_reads(b, 2)
        got: list[int] = []
        Deferred.fromCoroutine(consume(queue, got))
        for number in range(100, 140):  # messages that come meanwhile
            self.send(a, number, after=0.1)
        self.assertEqual((got, failing.reads), ([*range(5)], 1))
        self.network.advance(5)
        self.assertEqual((got, failing.reads), ([*range(5)], 2))
        self.network.advance(5)
        self.assertEqual(got, [*range(140)])
        self.assertEqual(self.happened(b, "gap"), [])
        assert receipts[50] is not None
        self.assertEqual(receipts[50].delivered, {b.id})
        self.assertEqual(len(self.log("cannot be read")), 1)

    def test_one_that_asks_now_and_then_is_given_what_can_be_read_by_then(self) -> None:
        _, b, queue, _ = self.behind()
        self.break_reads(b, 1)
        self.assertEqual([len([*iter(queue.take, None)]) for _ in range(3)], [5, 0, 0])
        self.assertEqual((queue.untaken, self.happened(b, "gap")), (95, []))
        self.network.advance(6)
        self.assertEqual([m.packets[1] for m in iter(queue.take, None)], [*range(5, 100)])

    def test_one_that_is_closed_tries_whenever_it_is_asked(self) -> None:
        _, b, queue, _ = self.behind()
        failing = self.break_reads(b, 2)
        self.assertEqual(len([*iter(queue.take, None)]), 5)
        queue.close()
        self.assertEqual((self.run_to_end(rest(queue)), failing.reads), ([], 2))
        self.assertEqual(self.run_to_end(rest(queue)), [*range(5, 100)])
        self.assertEqual(self.happened(b, "gap"), [])

    def test_a_backlog_is_handed_on_later(self) -> None:
        _, b, queue, _ = self.behind()
        self.assertEqual(queue.untaken, 100)
        self.stop(b)
        again = self.started()
        failing = self.break_reads(again, 1)
        self.network.advance(2)
        self.assertEqual((self.got(again), failing.reads), ([], 1))
        self.network.advance(5)
        self.assertEqual(self.got(again), [*range(100)])
        self.assertEqual(self.happened(again, "gap"), [])

    def test_who_stops_meanwhile_has_stopped(self) -> None:
        _, b, queue, _ = self.behind()
        self.break_reads(b, 1000)
        self.assertEqual(len([*iter(queue.take, None)]), 5)
        self.stop(b)
        again = self.started()
        self.network.advance(1)
        self.assertEqual(self.got(again), [*range(5, 100)])


class TestDamaged(HistoryCase):
    """A file that is damaged while a node runs: whole batches are delivered, the rest is told as a gap."""

    def behind(self) -> tuple[MeshService, MessageQueue]:
        """A node, and a consumer there that has a hundred messages to read in the file."""
        a, b = self.linked(self.node(), self.started(limits={"queue_limit": 5, "history_bytes": 20_000}))
        queue = b.messages()
        for number in range(1, 101):
            a.send(number, b"x" * 1000)
            self.network.advance(0.1)
        self.stored()
        self.author = a
        return b, queue

    def damage(self, firsts: tuple[int, ...]) -> None:
        """Damage the batches with these first numbers."""
        with closing(sqlite3.connect(self.folder / "node.history")) as other:
            other.executemany(
                "UPDATE batch SET checksum = 0 WHERE first = ?", [(first,) for first in firsts]
            )
            other.commit()

    def test_a_consumer_that_is_behind_gets_the_rest_and_a_gap_that_says_what_it_was(self) -> None:
        b, queue = self.behind()
        self.damage((30, 31, 60))
        got = [message.packets[1] for message in iter(queue.take, None)]
        self.assertEqual(got, [number for number in range(1, 101) if number not in (30, 31, 60)])
        self.check_told(b)

    def test_and_after_a_restart_the_backlog_has_it(self) -> None:
        b, _ = self.behind()
        self.stop(b)
        self.damage((30, 31, 60))
        again = self.started()
        self.network.advance(2)
        self.assertEqual(self.got(again), [n for n in range(1, 101) if n not in (30, 31, 60)])
        self.check_told(again)
        self.assertEqual(again.footprint()["unstored_streams"], 0)  # it can be written

    def check_told(self, service: MeshService) -> None:
        """Assert that the damaged messages are told as damaged, and once."""
        gaps = [(gap.first, gap.last, gap.reason) for gap in self.happened(service, "gap")]
        why = "they are damaged in the history file of this node"
        self.assertEqual(gaps, [(30, 31, why), (60, 60, why)])
        self.assertEqual([len(self.log(f"{verb} lost: {why}")) for verb in ("is", "are")], [1, 1])
        self.assertEqual(len(self.log("cannot be read in part: the batch from 30 on is damaged")), 1)

    def test_a_neighbour_is_told_that_it_is_not_here(self) -> None:
        b, _ = self.behind()
        self.damage((30,))
        self.stop(self.author)
        c = self.node(replay="all")
        self.link((c, b), after=60)
        self.assertEqual(self.got(c), [n for n in range(1, 101) if n != 30])
        self.assertEqual([(gap.first, gap.last) for gap in self.happened(c, "gap")], [(30, 30)])
        self.assertIn(31, [stream.low for stream in self.parts_of(b).driver.node.history])


class TestStopped(HistoryCase):
    """A consumer that is behind when its service stops: the file keeps its messages for the next start."""

    LIMITS: ClassVar = {"queue_limit": 5, "history_bytes": 20_000}

    def stopped(self) -> tuple[MeshService, MeshService, MessageQueue]:
        """An author, a node that has stopped, and its consumer, which has taken one of a hundred."""
        a, b = self.linked(self.node(), self.started(limits=self.LIMITS))
        queue = b.messages()
        for number in range(100):
            a.send(number, b"x" * 1000)
            self.network.advance(0.1)
        self.assertIsNotNone(queue.take())
        self.stored()
        self.stop(b)
        return a, b, queue

    def test_its_iteration_ends_after_what_waited_here_and_no_gap_is_told(self) -> None:
        _, b, queue = self.stopped()
        self.assertEqual(self.run_to_end(rest(queue)), [1, 2, 3, 4])
        self.assertEqual((self.run_to_end(rest(queue)), queue.take()), ([], None))
        self.network.advance(60)
        self.assertEqual(self.happened(b, "gap"), [])

    def test_the_rest_is_delivered_after_the_next_start_of_the_same_service_too(self) -> None:
        a, b, queue = self.stopped()
        self.assertEqual(len([*iter(queue.take, None)]), 4)
        heard = len(self.got(b))
        again = b.messages()
        b.startService()
        self.link((a, b))
        self.send(a, "after", after=1)
        got = [message.packets[1] for message in iter(again.take, None)]
        self.assertEqual(got, [*range(1, 100), "after"])
        self.assertEqual(self.got(b)[heard:], got)
        self.assertEqual((self.happened(b, "gap"), queue.take()), ([], None))

    def test_one_that_waits_when_the_file_is_closed_is_at_its_end(self) -> None:
        a, b = self.linked(self.node(), self.started(limits=self.LIMITS))
        got: list[object] = []

        async def consume() -> None:
            async for message in b.messages():
                got.append(message.packets[1])
                if len(got) == 1:
                    await stopped

        stopped: Deferred[None] = Deferred()
        done = Deferred.fromCoroutine(consume())
        for number in range(100):
            a.send(number, b"x" * 1000)
            self.network.advance(0.1)
        self.stop(b)
        stopped.callback(None)
        self.successResultOf(done)
        self.assertEqual((got, self.happened(b, "gap")), ([*range(6)], []))


class TestHoles(HistoryCase):
    """The file keeps messages below a hole that was given up for consumers that have not taken them."""

    LIMITS: ClassVar = {"queue_limit": 5, "gap_patience": 5, "compare_interval": 100, "history_seconds": 10}

    def holed(self) -> tuple[MeshService, MessageQueue]:
        """A node that was sent 1 to 50 but for 21 to 40, and has them in its file alone; a consumer."""
        b = self.started(limits=self.LIMITS)
        puppet = self.joined(b)
        queue = b.messages()
        for first in (*range(1, 21), *range(41, 51)):
            self.send_frames(puppet, batch(puppet.me, first, first), after=0.1)
        self.network.advance(60)
        self.assertEqual(b.footprint()["held_batches"], 0)
        self.assertEqual([(gap.first, gap.last) for gap in self.happened(b, "gap")], [(21, 40)])
        return b, queue

    def test_it_is_read_there(self) -> None:
        b, queue = self.holed()
        got = [message.packets[1] for message in iter(queue.take, None)]
        self.assertEqual(got, [*range(1, 21), *range(41, 51)])
        self.assertEqual(len(self.happened(b, "gap")), 1)
        self.stored()
        self.assertEqual(b.footprint()["stored_batches"], 10)  # all consumers have taken the rest

    def test_it_is_handed_on_after_a_restart(self) -> None:
        b, queue = self.holed()
        self.assertEqual([queue.take() is not None for _ in range(10)], [True] * 10)
        self.stored()
        self.stop(b)
        again = self.started(limits=self.LIMITS)
        self.network.advance(1)
        self.assertEqual(self.got(again), [*range(11, 21), *range(41, 51)])
        # The reason of the gap is not stored.
        self.assertEqual([(gap.first, gap.last) for gap in self.happened(again, "gap")], [(21, 40)])
        self.stored()
        self.assertEqual(again.footprint()["stored_batches"], 10)


class Failing:
    """A connection whose first reads, so many *times*, fail; :ivar reads: the number of reads."""

    def __init__(self, connection: Any, times: int) -> None:
        self._connection = connection
        self._times = times
        self.reads = 0

    def close(self) -> None:
        """Close it, and fail all the same."""
        self._connection.close()
        raise sqlite3.OperationalError("disk I/O error")

    def execute(self, *arguments: Any) -> Any:
        """Read, or fail."""
        self.reads += 1
        if self.reads <= self._times:
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(*arguments)


class TestFailedStop(HistoryCase):
    """If a part fails while a service stops, the other parts are closed, and the failure is told."""

    def failing(self, b: MeshService, what: str) -> None:
        """Let a part of *b* fail at the end of what it does when *b* stops."""
        run = self.parts_of(b)
        part, name = {
            "ports": (b._listening, "stop"),
            "dialler": (run.peers, "stop"),
            "goodbye": (run.driver, "given_to_all"),
            "links": (run.connections, "close_all"),
            "flush": (run.writer, "_cancel_due"),
            "timers": (run.driver._timers, "stop"),
        }[what]
        done = getattr(part, name)

        def fail(*arguments: object) -> None:
            done(*arguments)
            raise ZeroDivisionError

        self.patch(part, name, fail)

    def test_whatever_fails_the_rest_is_done(self) -> None:
        for what in ("ports", "dialler", "goodbye", "links", "flush", "timers"):
            a, b = self.linked(self.node(), self.started())
            self.failing(b, what)
            self.failure_of(b.stopService(), ZeroDivisionError, after=30)
            self.assertEqual(b.footprint(), {}, what)
            self.assertEqual([*a.routing_table], [], what)
            again = self.started()
            self.link((a, again))
            self.stop(again)

    def test_what_is_taken_while_the_last_flush_is_written_has_nothing_called_later(self) -> None:
        b = self.started()
        queue = self.queue_of_three(b)
        self.parts_of(b)._progress.stop()  # as the service does right before its last flush
        before = len(self.network.clock.getDelayedCalls())
        queue.take()
        self.assertEqual(len(self.network.clock.getDelayedCalls()), before)

    def test_a_file_that_cannot_be_closed_whole_is_let_go_all_the_same(self) -> None:
        b = self.started()
        store = self.file_of(b)
        opened = store._opened
        failing = Failing(opened.reader, 0)
        store._opened = opened._replace(reader=failing)  # type: ignore[arg-type]
        stopped = b.stopService()
        self.network.advance(1)
        self.failureResultOf(stopped, sqlite3.OperationalError)
        self.stop(self.started())

    def test_a_start_that_fails_gives_back_what_it_had(self) -> None:
        b = self.keeping()
        failing = self.patch(running_node, "AddressBook", lambda *_: 1 // 0)
        self.assertRaises(ZeroDivisionError, b.startService)
        failing.restore()
        failing = self.patch(running_node, "Backlog", lambda *_: 1 // 0)  # when all other parts are made
        self.assertRaises(ZeroDivisionError, b.startService)
        failing.restore()
        self.stop(self.started())


class TestRefusal(HistoryCase):
    def test_one_file_is_one_nodes(self) -> None:
        b = self.started()
        other = self.keeping("other", history=self.folder / "node.history")
        error = self.assertRaises(StoreError, other.startService)
        self.assertIn("node.history", str(error))
        # Also when it is free: what that node has taken, this one has not.
        self.stop(b)
        error = self.assertRaises(StoreError, other.startService)
        self.assertIn(f"is of the node {b.id.decode()}: name another file, or the identity", str(error))
        self.assertEqual(other.addresses, ())
        self.stop(self.started())

    def test_another_networks_history_is_refused_and_nothing_listens(self) -> None:
        self.stop(self.started())
        other = self.keeping(subnet="another")
        self.assertRaises(StoreError, other.startService)
        self.assertEqual(other.addresses, ())
        self.stop(self.started())

    def test_a_folder_that_is_not_there_is_named(self) -> None:
        service = self.keeping(history=self.folder / "nowhere" / "x.history")
        self.assertIn("nowhere", str(self.assertRaises(StoreError, service.startService)))

    def test_where_it_cannot_listen_the_history_is_let_go(self) -> None:
        first = self.node()
        service = self.keeping(listen=[self.network.listen(self.host(first), 4444)])
        self.assertRaises(CannotListenError, service.startService)
        other = self.started()
        self.assertEqual(len(other.addresses), 1)

    def test_where_no_run_can_begin_the_history_is_let_go_and_nothing_listens(self) -> None:
        service = self.keeping()
        epoch = self.folder / "node.key.epoch"
        epoch.write_text("damaged")
        self.assertRaises(IdentityError, service.startService)
        self.assertEqual(service.addresses, ())
        epoch.unlink()
        service.startService()
        self.assertEqual(len(service.addresses), 1)


class TestFull(HistoryCase):
    def setUp(self) -> None:
        super().setUp()
        self.b, self.a = self.linked(self.started(limits={"store_seconds": 200.0}), self.node())
        self.b.send("before")
        self.stored()
        self.writer = self.file_of(self.b)._writer
        (pages,) = self.writer.execute("PRAGMA page_count").fetchone()
        self.writer.execute(f"PRAGMA max_page_count={pages}")
        for number in range(3):
            self.a.send(number, b"x" * 100_000)
        self.stored()

    def make_room(self) -> None:
        self.writer.execute("PRAGMA max_page_count=1000000")
        self.network.advance(self.b.config.store_retry + 1)

    def test_what_comes_is_delivered_and_nothing_is_sent(self) -> None:
        self.assertEqual(self.got(self.b), [0, 1, 2])
        error = self.assertRaises(StoreFull, self.b.send, "lost in a crash")
        self.assertIn("node.history cannot be written: nothing is sent until it can", str(error))
        (failure,) = self.happened(self.b, "failure")
        self.assertIsInstance(failure.value, StoreFull)
        self.network.advance(60)
        self.assertEqual(len(self.happened(self.b, "failure")), 1)
        self.assertEqual(len(self.log("nothing is sent until it can be written again")), 1)
        self.send(self.a, "still heard")
        self.assertEqual(self.got(self.b)[3:], ["still heard"])

    def test_with_room_again_it_goes_on_without_a_restart(self) -> None:
        drained, left = self.b.drained(), self.b.drained()
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.assertNoResult(drained)
        self.make_room()
        self.successResultOf(drained)
        self.successResultOf(self.b.drained())
        self.send(self.b, "after")
        self.assertEqual(self.got(self.a), ["before", "after"])
        self.assertEqual(len(self.log("the history can be written again")), 1)
        self.stored()
        self.assertEqual(self.b.footprint()["unstored_streams"], 0)
        self.stop(self.b)
        again = self.started()
        self.link((again, self.a))
        self.stored()
        self.assertEqual(self.got(again), [])

    def test_also_where_there_is_nothing_new_to_write(self) -> None:
        self.make_room()
        self.stored()
        writer: Any = self.parts_of(self.b).writer
        self.writer.execute("PRAGMA query_only = ON")
        self.network.advance(self.b.config.store_seconds + 200)
        self.assertTrue(writer.full)
        self.writer.execute("PRAGMA query_only = OFF")
        self.network.advance(self.b.config.store_retry + 1)
        self.assertFalse(writer.full)

    def test_a_node_that_stops_meanwhile_gets_it_again(self) -> None:
        drained = self.b.drained()
        self.stop(self.b)
        self.successResultOf(drained)
        again = self.started()
        self.link((again, self.a))
        self.stored()
        self.assertEqual(self.got(again), [0, 1, 2])
