"""Which members have which own messages: only their signed receipts count."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import origin_of
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import Holders
from twisted_mesh.core.replies.receipt_tracker import RANGES_MOST, MemberRanges, ReceiptTracker

ANNA, BERT, CLEO = map(origin_of, ("anna", "bert", "cleo"))
NAMES = {ANNA: "a", BERT: "b", CLEO: "c"}
ALL = frozenset({ANNA, BERT})


class TestTaken(SynchronousTestCase):
    def test_only_what_a_range_holds_is_there(self) -> None:
        taken = MemberRanges()
        taken.add(3, 5)
        self.assertEqual(
            [taken.has(number) for number in range(1, 8)], [False] * 2 + [True] * 3 + [False] * 2
        )

    def test_what_is_added_is_told_once(self) -> None:
        taken = MemberRanges()
        self.assertEqual(taken.add(3, 5), [(3, 5)])
        self.assertEqual(taken.add(3, 5), [])
        self.assertEqual(taken.add(9, 9), [(9, 9)])
        self.assertEqual(taken.add(2, 10), [(2, 2), (6, 8), (10, 10)])
        self.assertEqual(taken.ranges, [(2, 10)])
        self.assertEqual(taken.add(11, 10), [])

    def test_ranges_that_touch_are_one(self) -> None:
        taken = MemberRanges()
        for low, high in ((1, 2), (5, 6), (3, 4)):
            taken.add(low, high)
        self.assertEqual(taken.ranges, [(1, 6)])

    def test_the_newest_ranges_are_kept(self) -> None:
        taken = MemberRanges()
        for low in range(10, 10 * RANGES_MOST + 20, 10):
            taken.add(low, low)
        self.assertEqual((len(taken.ranges), taken.has(10), taken.has(20)), (RANGES_MOST, False, True))


class TestTracker(SynchronousTestCase):
    def is_with_all(self, sequence: int) -> bool:
        """Whether all members that were waited for have the message."""
        return self.tracker.is_decided(sequence) and not self.tracker.of(sequence).missed

    def setUp(self) -> None:
        self.tracker = ReceiptTracker(MeshConfig(receipts_limit=10))

    def of(self, sequence: int) -> tuple[str, str, str]:
        """The members that have a message, may still get it, and never will."""
        return tuple("".join(sorted(NAMES[one] for one in some)) for some in self.tracker.of(sequence))  # type: ignore[return-value]

    def test_whoever_was_there_is_waited_for(self) -> None:
        self.tracker.expect([1], ALL)
        self.assertEqual(self.of(1), ("", "ab", ""))
        self.assertEqual(self.tracker.add(ANNA, 1, 1), [1])
        self.assertEqual(self.of(1), ("a", "b", ""))
        self.assertFalse(self.is_with_all(1))
        self.assertEqual(self.tracker.add(BERT, 1, 1), [1])
        self.assertEqual(self.of(1), ("ab", "", ""))
        self.assertTrue(self.is_with_all(1))

    def test_who_came_later_counts_and_is_not_waited_for(self) -> None:
        self.tracker.expect([1], ALL)
        self.tracker.add(CLEO, 1, 1)
        self.assertEqual(self.of(1), ("c", "ab", ""))

    def test_repeats_and_older_ranges_change_nothing(self) -> None:
        self.tracker.expect([1, 2, 3], ALL)
        self.assertEqual(self.tracker.add(ANNA, 1, 3), [1, 2, 3])
        for low, high in ((1, 3), (1, 2), (2, 3), (1, 0)):
            self.assertEqual(self.tracker.add(ANNA, low, high), [])
        self.assertEqual(self.of(3), ("a", "b", ""))

    def test_who_begins_above_a_message_missed_it(self) -> None:
        self.tracker.expect([1, 2, 3], ALL)
        self.assertEqual(self.tracker.add(ANNA, 3, 2), [1, 2])
        self.assertEqual([self.of(number) for number in (1, 2, 3)], [("", "b", "a")] * 2 + [("", "ab", "")])
        self.assertFalse(self.is_with_all(2))

    def test_unless_it_has_it_from_before(self) -> None:
        self.tracker.expect([1, 2], ALL)
        self.tracker.add(ANNA, 1, 1)
        self.assertEqual(self.tracker.add(ANNA, 3, 2), [2])
        self.assertEqual((self.of(1), self.of(2)), (("a", "b", ""), ("", "b", "a")))

    def test_what_was_lost_and_is_had_after_all_counts(self) -> None:
        self.tracker.expect([1], ALL)
        self.assertEqual(self.tracker.lose(ANNA, 1), [1])
        self.assertEqual(self.of(1), ("", "b", "a"))
        self.assertEqual(self.tracker.add(ANNA, 1, 1), [1])
        self.assertEqual(self.of(1), ("a", "b", ""))

    def test_nobody_is_forgotten_who_has_it(self) -> None:
        self.tracker = ReceiptTracker(MeshConfig())
        last = 10 * RANGES_MOST + 20
        self.tracker.expect(range(1, last), ALL)
        for low in range(10, last, 10):
            self.tracker.add(ANNA, low, low)
        self.assertEqual({self.of(low) for low in range(10, last, 10)}, {("a", "b", "")})

    def test_nor_is_the_same_news_for_ever(self) -> None:
        # Otherwise each receipt of a member could make one event for every message that is open.
        for member in (ANNA, CLEO):
            self.tracker = ReceiptTracker(MeshConfig())
            self.tracker.expect(range(1, 2000), ALL)
            for low in range(1002, 1002 + 2 * RANGES_MOST, 2):
                self.tracker.add(member, low, low)
            self.tracker.add(member, 1, 1000)
            self.assertEqual(self.tracker.add(member, 1, 1000), [])

    def test_who_never_told_anything_leaves_nothing_behind(self) -> None:
        self.tracker.expect([1], ALL)
        self.assertEqual(self.tracker.lose(CLEO, 1), [])
        self.assertEqual(self.tracker.lose(BERT, 1), [1])
        self.assertEqual(self.tracker.footprint()["tracked_members"], 0)

    def test_who_has_it_and_was_not_known_when_this_node_joined_has_it(self) -> None:
        self.tracker.expect([1], None)
        self.tracker.add(CLEO, 1, 1)
        self.tracker.joined(ALL)
        self.assertEqual(self.tracker.of(1), Holders(frozenset({CLEO}), ALL, frozenset()))

    def test_before_it_is_known_who_is_there_nobody_is_waited_for(self) -> None:
        self.tracker.expect([1, 2], None)
        self.tracker.add(ANNA, 2, 2)
        self.assertEqual(self.of(1), ("", "", ""))
        self.assertFalse(self.is_with_all(1))
        self.assertEqual(self.tracker.joined(ALL), [1, 2])
        self.assertEqual((self.of(1), self.of(2)), (("", "b", "a"), ("a", "b", "")))
        self.assertEqual(self.tracker.joined(ALL | {CLEO}), [])
        self.assertEqual(self.of(1), ("", "b", "a"))

    def test_who_joined_a_mesh_of_one_is_done(self) -> None:
        self.tracker.expect([1], frozenset())
        self.assertTrue(self.is_with_all(1))

    def test_nor_is_what_counts_already_though_its_range_was_forgotten(self) -> None:
        tracker = ReceiptTracker(MeshConfig())
        tracker.expect(range(1, 20), ALL)
        for sequence in range(1, 2 * RANGES_MOST + 2, 2):
            tracker.add(ANNA, sequence, sequence)
        self.assertEqual(tracker.add(ANNA, 1, 2), [2])

    def test_of_too_many_members_no_more_are_remembered(self) -> None:
        tracker = ReceiptTracker(MeshConfig(members_limit=2))
        tracker.expect([1], ALL)
        self.assertEqual(
            [len(tracker.add(member, 1, 1)) for member in (CLEO, ANNA, BERT, ANNA)], [1, 1, 0, 0]
        )
        self.assertEqual(tracker.footprint()["tracked_members"], 2)

    def test_of_too_many_the_oldest_are_given_up(self) -> None:
        self.assertEqual(self.tracker.expect(range(1, 11), ALL), [])
        self.tracker.add(ANNA, 1, 1)
        known = [(1, Holders(frozenset([ANNA]), ALL - {ANNA}, frozenset()))]
        self.assertEqual(self.tracker.expect([11], ALL), known)
        self.assertEqual(self.tracker.expect([12], ALL), [(2, Holders(frozenset(), ALL, frozenset()))])
        self.assertEqual((1 in self.tracker, 3 in self.tracker, len(self.tracker)), (False, True, 10))
        self.assertEqual(self.tracker.add(ANNA, 1, 12), list(range(3, 13)))

    def test_what_is_closed_is_told_no_more(self) -> None:
        self.tracker.expect([1, 2], ALL)
        self.tracker.close(1)
        self.tracker.close(1)
        self.assertEqual(self.tracker.add(ANNA, 1, 2), [2])

    def test_nothing_is_remembered_when_nobody_waits(self) -> None:
        self.assertEqual(self.tracker.add(ANNA, 1, 3), ())
        self.assertEqual(self.tracker.lose(BERT, 3), ())
        self.assertEqual(set(self.tracker.footprint().values()), {0})
        self.tracker.expect([4], ALL)
        self.tracker.add(ANNA, 1, 3)
        self.tracker.close(4)
        self.assertEqual(set(self.tracker.footprint().values()), {0})
