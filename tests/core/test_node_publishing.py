"""What a node does with its own messages."""

from __future__ import annotations

from tests.core.network import entries, of, raw_batch
from tests.core.node_case import NodeTestCase
from twisted_mesh.core.events import (
    Accepted,
    Deliver,
    Drained,
    Effect,
    LinkClosed,
    LinkClosing,
    LinkDown,
    Send,
)
from twisted_mesh.errors import Reason
from twisted_mesh.wire.native import Snapshot
from twisted_mesh.wire.packets import join_entries


class TestPublishing(NodeTestCase):
    """Own messages go out as fast as links accept them, and are kept until one has."""

    #: Bytes of the array of a batch of one message "x" * 100.
    SIZE = len(raw_batch("me", 1, 1, join_entries(entries("x" * 100))).array)

    def small(self, **limits: float) -> None:
        """Begin anew with a batch a message, and *limits* counted in batches."""
        scaled = {name: int(limit * self.SIZE) for name, limit in limits.items()}
        self.make(batch_bytes=1, **{"waiting_bytes": 1, "write_bytes": 1, **scaled})

    def say(self, count: int) -> list[Effect]:
        """Publish *count* batches in one turn."""
        return self.publish(*["x" * 100] * count)

    def accept(self, number: int, sequence: int) -> list[Effect]:
        """The transport of a link takes all up to *sequence*."""
        return self.node.handle(Accepted(number, sequence), self.now)

    def test_a_message_goes_to_every_link_with_its_mark(self) -> None:
        self.up(1, "bert")
        self.open(2, "cleo")
        effects = self.publish("a", "b")
        self.assertEqual([(send.links, send.mark) for send in of(effects, Send)], [((1,), 2), ((2,), 2)])
        self.assertEqual(of(effects, Deliver), [])

    def test_messages_nobody_has_taken_go_to_the_first_link_that_ever_comes(self) -> None:
        self.assertEqual(self.publish("a", "b"), [])
        self.publish("c")
        effects = self.open(1)
        self.assertIsInstance(of(effects, Send)[0].frame, Snapshot)
        self.assertEqual(self.sent(effects, 1), [(1, 2), (3, 3)])

    def test_messages_taken_by_none_go_to_the_next_link_again(self) -> None:
        self.up(1)
        self.publish("a")
        self.node.handle(LinkClosed(1), self.now)
        self.assertEqual(self.sent(self.open(2), 2), [(1, 1)])

    def test_messages_a_link_has_taken_are_not_for_later_ones(self) -> None:
        self.up(1)
        self.publish("a")
        self.accept(1, 1)
        self.assertEqual(self.sent(self.open(2, "cleo"), 2), [])
        self.assertEqual(self.node.footprint()["own_batches"], 0)

    def test_no_more_than_a_write_is_under_way(self) -> None:
        self.small(write_bytes=2.5)
        self.up(1)
        # Beyond two and a half batches no other is begun.
        self.assertEqual(self.sent(self.say(9), 1), [(1, 1), (2, 2), (3, 3)])
        self.assertEqual(self.sent(self.say(1), 1), [])
        self.assertEqual(self.sent(self.accept(1, 2), 1), [])
        self.assertEqual(self.sent(self.accept(1, 3), 1), [(4, 4), (5, 5), (6, 6)])

    def test_each_link_has_a_pace_of_its_own(self) -> None:
        self.small()
        self.up(1, "bert")
        self.up(2, "cleo")
        self.say(4)
        for sequence in (1, 2):
            effects = self.accept(1, sequence)
            self.assertEqual(self.sent(effects, 1), [(sequence + 1, sequence + 1)])
            self.assertEqual(self.sent(effects, 2), [])
        # What the slower still needs is kept, with what nobody has taken.
        footprint = self.node.footprint()
        self.assertEqual((footprint["own_batches"], footprint["own_bytes"]), (3, 3 * self.SIZE))
        self.assertEqual(self.sent(self.accept(2, 1), 2), [(2, 2)])
        self.assertEqual(self.node.footprint()["own_batches"], 2)

    def test_a_closing_link_takes_nothing(self) -> None:
        self.up(1)
        self.publish("a")
        self.node.handle(LinkClosing(1), self.now)
        self.assertEqual(self.accept(1, 1), [])
        self.assertEqual(self.node.outbox.taken, 0)
        self.assertEqual(self.publish("b"), [])

    def test_what_was_kept_for_a_link_goes_with_it(self) -> None:
        self.small()
        self.up(1, "bert")
        self.up(2, "cleo")
        self.say(2)
        self.accept(1, 1)
        self.accept(1, 2)
        self.assertEqual(self.node.footprint()["own_batches"], 1)
        self.node.handle(LinkClosed(2), self.now)
        self.assertEqual(self.node.footprint()["own_bytes"], 0)

    def test_congested_then_drained(self) -> None:
        self.make(unsent_bytes=2**21, batch_bytes=1, write_bytes=1)
        self.assertTrue(self.node.room_for(2**21))
        size = 2**18
        for _ in range(7):
            self.assertTrue(self.node.room_for(size))
            self.publish("x" * size)
        self.assertFalse(self.node.congested)
        self.assertIs(self.node.room_for(size), False)
        self.assertTrue(self.node.congested)
        self.up(1)
        effects = [self.accept(1, sequence) for sequence in range(1, 8)]
        # Below half is reached with the fourth of seven.
        told = [bool(of(these, Drained)) for these in effects]
        self.assertEqual(told, [False, False, False, True, False, False, False])
        self.assertFalse(self.node.congested)

    def test_a_byte_beyond_the_limit_has_no_room(self) -> None:
        self.make(unsent_bytes=2**21)
        self.assertIs(self.node.room_for(2**21 + 1), False)

    def test_where_nobody_was_refused_nobody_is_told_of_room(self) -> None:
        self.up(1)
        self.publish("a")
        self.assertEqual(of(self.accept(1, 1), Drained), [])

    def test_a_link_that_lags_is_closed_while_a_fast_one_goes_on(self) -> None:
        self.small(link_queue_bytes=3)
        self.up(1, "fast")
        self.up(2, "slow")
        self.say(9)
        effects = [effect for sequence in range(1, 5) for effect in self.accept(1, sequence)]
        self.assertEqual(self.closed(effects), [])  # batches 2 to 4 are kept for it
        effects = self.accept(1, 5)
        self.assertEqual(self.closed(effects), [(2, Reason.SLOW)])
        self.assertEqual(of(effects, LinkDown), [LinkDown(2)])
        self.assertEqual(self.sent(effects, 1), [(6, 6)])
        self.assertEqual(self.node.footprint()["own_batches"], 4)

    def test_the_only_link_is_never_too_slow(self) -> None:
        self.small(link_queue_bytes=3)
        self.up(1)
        self.assertEqual(self.closed(self.say(100)), [])
        self.assertEqual(self.node.footprint()["own_batches"], 100)

    def test_any_number_of_links_may_lag_at_once(self) -> None:
        self.small(link_queue_bytes=3)
        self.up(1, "fast")
        for number in range(2, 600):
            self.up(number, f"slow {number}")
        self.say(5)
        effects = [effect for sequence in range(1, 6) for effect in self.accept(1, sequence)]
        self.assertEqual(len(self.closed(effects)), 598)
        self.assertEqual(self.node.footprint()["fed_links"], 1)
        self.assertEqual(self.node.footprint()["own_batches"], 0)
