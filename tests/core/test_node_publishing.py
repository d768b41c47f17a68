"""What a node does with its own messages."""

from __future__ import annotations

from collections.abc import Iterator

from tests.core.network import batch, closing, entry, have, of, origin_of, want
from tests.core.node_case import NodeTestCase
from twisted_mesh.core.broadcast import outbox
from twisted_mesh.core.events import (
    Accepted,
    Deliver,
    Drained,
    Effect,
    Leaving,
    LinkClosed,
    Numbered,
    Send,
)
from twisted_mesh.core.history.storage import BatchOrMissing
from twisted_mesh.core.history.stream import Stream
from twisted_mesh.core.link import READ_ALL, READ_OWN, READ_SO_FAR
from twisted_mesh.errors import Reason
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Have, HaveEntry, Prune, Snapshot, SnapshotEntry, Want
from twisted_mesh.wire.link import Ping, Pong


class TestPublishing(NodeTestCase):
    """Own messages are pushed to all, and kept until somebody has them."""

    def test_a_message_goes_to_every_link(self) -> None:
        self.up(1, "bert")
        self.open(2, "cleo")
        effects = self.publish("a", "b")
        self.assertEqual((self.sent(effects, 1), self.sent(effects, 2)), ([(1, 2)], [(1, 2)]))
        self.assertEqual(of(effects, Deliver), [])

    def test_messages_nobody_has_go_to_the_first_link_that_ever_comes(self) -> None:
        self.assertEqual(of(self.publish("a", "b"), Send), [])
        self.publish("c")
        [told, _ping] = self.frames(self.open(1), 1)
        assert isinstance(told, Snapshot)
        self.assertEqual([(one.low, one.high, one.base) for one in told.streams], [(1, 3, 0)])
        self.receive(1, Snapshot(True, []))
        self.assertEqual(self.sent(self.receive(1, want("me", 1, 3)), 1), [(1, 2), (3, 3)])

    def test_until_it_has_pulled_them_a_new_link_is_told_of_what_follows(self) -> None:
        # A message that is pushed and accepted would make all before it seem accepted, too.
        self.publish("a", "b")
        self.open(1)
        self.assertEqual(self.sent(self.publish("c"), 1), [])
        self.receive(1, Snapshot(True, []))
        self.assertEqual(self.haves(self.wait(1), 1), [("me", 1, 3)])
        self.assertEqual(self.sent(self.receive(1, want("me", 1, 3)), 1), [(1, 2), (3, 3)])
        self.assertEqual(self.sent(self.publish("d"), 1), [(4, 4)])

    def test_what_goes_before_a_links_frontier_has_come_is_taken_when_nothing_is_missing(self) -> None:
        self.up(1)
        self.publish("a")
        self.accept(1)
        self.open(2, "cleo")
        self.assertEqual(self.sent(self.publish("b"), 2), [(2, 2)])

    def test_a_closing_link_takes_nothing(self) -> None:
        self.up(1)
        self.publish("a")
        self.handle(closing(1))
        self.accept(1)
        self.assertEqual(self.node.outbox.accepted, 0)
        self.assertEqual([type(one.what) for one in self.publish("b")], [Numbered])


class TestTaken(NodeTestCase):
    """A neighbour counts as having a message if its transport accepted it or it announced it."""

    def taken(self) -> tuple[int, int]:
        """The highest message that a neighbour has, and the number of batches that no neighbour has."""
        return self.node.outbox.accepted, self.node.footprint()["unsent_batches"]

    def test_what_a_transport_has_accepted_is_taken(self) -> None:
        self.up(1, "bert")
        self.up(2, "cleo")
        self.publish("a")
        before = self.queued[1]
        self.publish("b")
        self.assertEqual(self.taken(), (0, 2))
        self.handle(Accepted(1, before - 1))
        self.assertEqual(self.taken(), (0, 2))
        self.handle(Accepted(1, before))
        self.assertEqual(self.taken(), (1, 1))
        self.accept(2)
        self.assertEqual(self.taken(), (2, 0))

    def test_what_only_a_neighbour_that_is_about_to_stop_has_is_not(self) -> None:
        self.up(1)
        self.receive(1, Ping(READ_ALL))
        self.publish("a")
        self.accept(1)
        self.assertEqual(self.taken(), (0, 1))

    def test_what_is_announced_back_is_taken(self) -> None:
        self.up(1)
        self.publish("a")
        self.publish("b")
        self.receive(1, self.has_mine(1))
        self.assertEqual(self.taken(), (1, 1))
        self.receive(1, self.has_mine(2))
        self.assertEqual(self.taken(), (2, 0))

    def test_a_claim_that_does_not_know_the_header_counts_nothing_as_taken(self) -> None:
        # Else a peer that was sent nothing makes handed_over fire, and newcomers start behind it.
        self.up(1)
        self.publish("a")
        other = batch("me", 1).header.hash
        for high, hash in ((1, b""), (1, other), (2**62, b""), (2**62, self.own_header(1).hash)):
            self.receive(1, Have([HaveEntry(origin_of("me"), 1, 1, high, 0, hash)], False))
        self.receive(1, self.node._broadcast.frontier.digest())
        self.up(2, "bert", entry("me", 1))
        self.assertEqual((self.taken(), self.node.outbox.confirmed), ((0, 1), 0))
        self.receive(2, self.has_mine(1))
        self.assertEqual((self.taken(), self.node.outbox.confirmed), ((1, 0), 1))

    def test_of_many_own_batches_the_newest_hashes_are_known(self) -> None:
        self.patch(outbox, "_HASHES", 3)
        self.up(1)
        for _ in range(5):
            self.publish("a")
        self.assertEqual(self.node.footprint()["own_hashes"], 3)
        self.receive(1, self.has_mine(2))
        self.assertEqual(self.taken(), (0, 5))
        self.receive(1, self.has_mine(3))
        self.assertEqual(self.taken(), (3, 2))

    def test_what_a_snapshot_proves_is_taken(self) -> None:
        self.publish("a")
        proof = codec.pack_header(self.own_header(1))
        self.up(1, "bert", SnapshotEntry(origin_of("me"), 1, 1, 1, 1, proof))
        self.assertEqual(self.taken(), (1, 0))

    def test_what_was_pulled_is_taken_when_the_transport_has_accepted_it(self) -> None:
        # Otherwise, if all neighbours pull, the application would never be told that there is room again.
        self.publish("a")
        self.publish("b")
        self.up(1)
        self.receive(1, want("me", 1, 2))
        self.assertEqual(self.taken(), (0, 2))
        self.accept(1)
        self.assertEqual(self.taken(), (2, 0))

    def test_what_nobody_has_outlives_every_limit_of_the_history(self) -> None:
        self.make(history_bytes=2000, history_seconds=60, unsent_bytes=2**21)
        for _ in range(20):
            self.publish("x" * 500)
        self.wait(1000)
        self.up(1)
        self.assertEqual(len(self.sent(self.receive(1, want("me", 1)), 1)), 20)
        self.accept(1)
        self.wait(120)
        self.assertEqual(self.node.footprint()["held_batches"], 0)

    def test_what_a_neighbour_has_keeps_to_the_limit_of_the_history_again(self) -> None:
        self.make(history_bytes=2000, unsent_bytes=2**21)
        self.up(1)
        for _ in range(20):
            self.publish("x" * 500)
        self.accept(1)
        self.wait(self.config.history_seconds / 10)
        self.assertLessEqual(self.node.footprint()["held_bytes"], 2000)
        self.assertGreater(self.node.footprint()["held_batches"], 0)


class TestCongested(NodeTestCase):
    """Beyond a limit the application gets no room to send, and is told when there is room again."""

    SIZE = 2**18

    def setUp(self) -> None:
        super().setUp()
        self.make(unsent_bytes=2**21, batch_bytes=1, answer_bytes=1)

    def fill(self) -> None:
        """Publish seven messages of an eighth of the limit each; an eighth one has no room."""
        for _ in range(7):
            self.assertTrue(self.node.outflow.room_for(self.SIZE))
            self.publish("x" * self.SIZE)
        self.assertFalse(self.node.outflow.congested)
        self.assertFalse(self.node.outflow.room_for(self.SIZE))
        self.assertTrue(self.node.outflow.congested)

    def test_congested_then_drained(self) -> None:
        self.up(1)
        self.publish("x" * 5000)
        self.accept(1)  # so fast a peer is pushed all of what follows
        marks = []
        for _ in range(7):
            self.publish("x" * self.SIZE)
            marks.append(self.queued[1])
        self.assertFalse(self.node.outflow.room_for(self.SIZE))
        # The fourth of seven messages gets below half of the limit.
        told = [bool(of(self.handle(Accepted(1, mark)), Drained)) for mark in marks]
        self.assertEqual(told, [False, False, False, True, False, False, False])
        self.assertFalse(self.node.outflow.congested)

    def test_what_is_pulled_drains_as_well(self) -> None:
        self.fill()
        self.up(1)
        self.accept(1)
        drained = 0
        for first in range(1, 8):
            self.assertEqual(self.sent(self.receive(1, want("me", first)), 1), [(first, first)])
            drained += len(of(self.accept(1), Drained))
        self.assertEqual(drained, 1)

    def test_what_is_announced_back_drains_as_well(self) -> None:
        self.fill()
        self.up(1)
        self.assertEqual(len(of(self.receive(1, self.has_mine(7)), Drained)), 1)

    def test_where_nobody_was_refused_nobody_is_told_of_room(self) -> None:
        self.up(1)
        self.publish("a")
        self.assertEqual(of(self.accept(1), Drained), [])

    def test_the_fastest_link_decides(self) -> None:
        self.up(1, "fast")
        self.up(2, "dead")
        for _ in range(50):
            self.assertTrue(self.node.outflow.room_for(self.SIZE))
            self.publish("x" * self.SIZE)
            self.accept(1)


class TestFullQueues(NodeTestCase):
    """A sender waits for its neighbours before their queues are full: from then on all would be pulled."""

    SIZE = 2**18
    MOST = 2**21

    def setUp(self) -> None:
        super().setUp()
        self.make(unsent_bytes=2**23, link_queue_bytes=self.MOST)

    def fast(self, *names: str) -> None:
        """Open links 1 and so on to peers that read fast."""
        for number, name in enumerate(names, 1):
            self.up(number, name)
        self.publish("x" * 5000)
        for number in range(1, len(names) + 1):
            self.accept(number)

    def fill(self) -> int:
        """Publish messages as long as there is room; return how many."""
        count = 0
        while self.node.outflow.room_for(self.SIZE):
            self.publish("x" * (self.SIZE - 100))
            count += 1
        return count

    def test_all_that_has_room_is_pushed(self) -> None:
        self.fast("bert")
        before = self.link(1).frontier.holds(self.node.outbox.run)
        self.assertEqual(self.fill(), self.MOST // self.SIZE - 1)
        self.assertEqual(self.link(1).frontier.holds(self.node.outbox.run), self.node.outbox.head)
        self.assertGreater(self.node.outbox.head, before)
        self.assertEqual(self.haves(self.wait(1), 1), [])
        half = self.link(1).flow.sent - self.MOST // 2
        self.assertEqual(of(self.handle(Accepted(1, half)), Drained), [])
        self.assertEqual(len(of(self.handle(Accepted(1, half + self.SIZE)), Drained)), 1)
        self.assertTrue(self.node.outflow.room_for(self.SIZE))

    def test_a_slow_neighbour_among_others_delays_nobody(self) -> None:
        self.fast("bert", "cleo")
        for _ in range(40):
            self.assertTrue(self.node.outflow.room_for(self.SIZE))
            self.publish("x" * self.SIZE)
            self.accept(1)
        self.assertGreater(self.link(2).flow.queued, self.MOST - self.SIZE)

    def test_neighbours_that_are_pushed_nothing_do_not_count(self) -> None:
        self.fast("bert")
        self.up(2, "cleo")
        self.receive(2, Prune([self.node.outbox.run[0]]))
        self.up(3, "dora")
        self.receive(3, Ping(READ_ALL))
        self.assertLess(self.fill(), 10)

    def test_a_full_queue_holds_nobody_up_once_another_neighbour_has_all_own_messages(self) -> None:
        self.fast("bert", "cleo")
        self.receive(2, Prune([self.node.outbox.run[0]]))  # others push to her, and bert reads nothing
        self.fill()
        self.assertGreater(self.link(1).flow.queued, self.MOST - self.SIZE)
        self.assertEqual(len(of(self.receive(2, self.has_mine(self.node.outbox.head)), Drained)), 1)
        self.assertTrue(self.node.outflow.room_for(self.SIZE))
        self.publish("x" * self.SIZE)
        self.assertFalse(self.node.outflow.room_for(self.SIZE))

    def test_when_a_full_link_is_gone_there_is_room(self) -> None:
        self.fast("bert")
        self.fill()
        self.assertEqual(len(of(self.handle(closing(1)), Drained)), 1)

    def test_when_another_neighbour_comes_there_is_room(self) -> None:
        self.fast("bert")
        self.fill()
        self.up(2, "cleo")
        self.assertEqual(len(of(self.accept(2), Drained)), 1)

    def test_a_queue_limit_below_the_largest_message_lets_every_message_out(self) -> None:
        self.make(link_queue_bytes=1)
        self.up(1, "bert")
        self.accept(1)
        self.assertTrue(self.node.outflow.room_for(2**20))


class TestBursts(NodeTestCase):
    """Of a burst, the first batches are pushed, and the others wait until the line is measured."""

    SIZE = 60_000

    def setUp(self) -> None:
        super().setUp()
        self.up(1)
        self.accept(1)
        self.assertEqual(self.sent(self.burst(), 1), [(1, 1)])

    def burst(self) -> list[Effect]:
        """Publish four messages, in a turn each."""
        return [effect for _ in range(4) for effect in self.publish("x" * self.SIZE)]

    def test_over_a_fast_line_they_are_pushed_then_and_never_announced(self) -> None:
        self.assertEqual(self.sent(self.accept(1), 1), [(2, 2), (3, 3), (4, 4)])
        self.assertEqual(self.sent(self.burst(), 1), [(5, 5), (6, 6), (7, 7), (8, 8)])
        self.assertEqual(self.haves(self.wait(1), 1), [])

    def test_a_pong_that_measures_nothing_has_nothing_read_from_the_history(self) -> None:
        reads: list[int] = []
        serve = Stream.serve

        def counted(stream: Stream, first: int, last: int, most: int) -> Iterator[BatchOrMissing]:
            reads.append(first)
            return serve(stream, first, last, most)

        self.patch(Stream, "serve", counted)
        for token in (1, READ_OWN, READ_ALL):
            self.receive(1, Pong(token))
        self.assertEqual(reads, [])
        self.receive(1, *[Pong(READ_SO_FAR)] * 20)
        self.assertEqual(len(reads), 1)

    def test_over_a_slow_line_they_are_announced(self) -> None:
        self.burst()
        self.now += 2.0  # so it reads 180,000 bytes in a second and a round trip, which is three of seven
        self.assertEqual(self.sent(self.accept(1), 1), [])
        self.assertEqual(self.haves(self.wait(1), 1), [("me", 1, 8)])

    def test_one_that_the_line_is_too_slow_for_is_announced(self) -> None:
        self.make()
        self.up(1)
        self.accept(1)
        self.publish("x" * self.SIZE)
        self.publish("x" * 200_000)
        self.now += 2.0
        self.assertEqual(self.sent(self.accept(1), 1), [])
        self.assertEqual(self.haves(self.wait(1), 1), [("me", 1, 2)])

    def test_a_peer_that_has_asked_for_them_gets_the_answer_alone(self) -> None:
        self.receive(1, Prune([self.node.outbox.run[0]]))
        self.assertEqual(self.sent(self.accept(1), 1), [])
        self.assertEqual(self.haves(self.wait(1), 1), [("me", 1, 4)])
        self.assertEqual(self.sent(self.receive(1, want("me", 2, 4)), 1), [(2, 2), (3, 3), (4, 4)])

    def test_a_peer_that_closes_gets_no_more(self) -> None:
        self.handle(closing(1))
        self.assertEqual(self.sent(self.accept(1), 1), [])


class TestUnsent(NodeTestCase):
    """What the next run must send, and whether every neighbour has all it gets from here."""

    def test_what_nobody_has_can_be_had_again(self) -> None:
        self.assertEqual(self.node.outbox.unsent(self.node.history), [])
        self.up(1)
        self.publish("a")
        self.accept(1)
        self.publish("b", "c")
        self.publish("d")
        self.assertEqual(len(self.node.outbox.unsent(self.node.history)), 3)

    def test_all_is_given_when_every_neighbour_that_gets_it_here_has_it(self) -> None:
        self.assertTrue(self.node.outflow.is_given_to_all())
        self.up(1, "bert")
        self.up(2, "cleo")
        self.publish("a")
        self.assertFalse(self.node.outflow.is_given_to_all())
        self.accept(1)
        self.assertFalse(self.node.outflow.is_given_to_all())
        self.accept(2)
        self.assertTrue(self.node.outflow.is_given_to_all())


class TestLastWord(NodeTestCase):
    """When the node leaves, it tells which messages are known to have reached a neighbour."""

    def leave(self) -> None:
        """Publish three messages, which the transports to Bert and Cleo accept; the node leaves."""
        self.up(1, "bert")
        self.up(2, "cleo")
        self.publish("a", "b")
        self.publish("c")
        self.accept(1)
        self.accept(2)
        self.handle(Leaving())

    def assert_told(self, unanswered: int, unread: int) -> None:
        """Assert how many neighbours did not answer, and how many messages are not known to have come."""
        sending = self.node.outflow
        self.assertEqual((sending.unanswered, sending.unread), (unanswered, unread))

    def test_a_transport_that_accepted_it_is_no_proof(self) -> None:
        self.leave()
        self.assertEqual(self.node.outbox.accepted, 3)
        self.assert_told(2, 3)

    def test_a_node_that_leaves_stays_until_what_it_was_asked_for_is_given(self) -> None:
        self.make(answer_bytes=1)
        self.up(2, "cleo")
        self.receive(2, *(batch("dora", number) for number in (1, 2, 3)))
        self.up(1)
        self.handle(Leaving())
        self.receive(1, want("dora", 1))
        for number in (1, 2):
            self.receive(number, Pong(READ_ALL))
        self.assertFalse(self.node.status().has_left)
        for _ in range(3):
            self.accept(1)
        self.assertTrue(self.node.status().has_left)

    def test_one_that_is_told_so_asks_it_for_the_rest_before_it_may_go(self) -> None:
        self.up(1)
        self.link(1).push.prune(origin_of("dora"))  # another pushes it, so that this announcement may wait
        self.receive(1, have("dora", 1, 3))
        frames = self.frames(self.receive(1, Ping(READ_ALL)), 1)
        self.assertEqual([type(frame) for frame in frames if isinstance(frame, Want | Pong)], [Want, Pong])
        frames = self.frames(self.receive(1, Ping(READ_ALL)), 1)
        self.assertEqual([frame for frame in frames if isinstance(frame, Want)], [])

    def test_who_answers_has_read_all_it_was_given(self) -> None:
        self.leave()
        self.receive(1, Pong(READ_ALL))
        self.assert_told(1, 0)
        self.receive(2, Pong(READ_ALL))
        self.assert_told(0, 0)

    def test_what_was_not_given_to_who_answers_is_not_known_to_have_come(self) -> None:
        self.up(1, "bert")
        self.publish("a")
        self.accept(1)
        self.receive(1, Prune([origin_of("me")]))
        self.up(2, "cleo", entry("me", 1))
        self.publish("b")
        self.accept(2)
        self.handle(Leaving())
        self.receive(1, Pong(READ_ALL))
        self.assertEqual(self.node.outbox.accepted, 2)
        self.assert_told(1, 1)

    def test_who_announces_it_has_it(self) -> None:
        self.leave()
        self.receive(2, have("me", 1, 2))
        self.assert_told(2, 3)
        self.receive(2, self.has_mine(1))
        self.assert_told(2, 1)

    def test_a_claim_to_more_than_was_sent_is_none_to_what_comes(self) -> None:
        self.up(1, "bert")
        self.publish("a")
        self.receive(1, have("me", 1, 100), self.has_mine(1))
        self.publish("b")
        self.accept(1)
        self.handle(Leaving())
        self.assert_told(1, 1)

    def test_an_end_without_a_word_is_no_answer_and_a_goodbye_needs_none(self) -> None:
        self.leave()
        self.handle(LinkClosed(1))
        self.assertFalse(self.node.outflow.has_left())
        self.assert_told(2, 3)
        self.handle(closing(2, Reason.LEAVING))
        self.assertTrue(self.node.outflow.has_left())
        self.assert_told(1, 3)
