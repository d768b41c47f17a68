"""Properties of receipts and direct messages, which may come in any order and again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import direct, local_node, origin_of
from tests.properties.profile import fixed
from tests.support.length import at_length
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.links import Links
from twisted_mesh.core.membership.roster import Roster
from twisted_mesh.core.replies.owed_receipt import OwedReceipt
from twisted_mesh.core.replies.receipt_tracker import RANGES_MOST, MemberRanges, ReceiptTracker
from twisted_mesh.core.replies.senders import WINDOW, Senders
from twisted_mesh.wire.replies import MAX_DIRECTS, Direct

reverse = settings(fixed, max_examples=at_length(200, 80))

spans = st.tuples(st.integers(1, 30), st.integers(0, 8))  # low, how many
MEMBERS = [origin_of(name) for name in ("anna", "bert", "cleo")]
EVERYBODY = frozenset(MEMBERS[:2])

tracker_steps = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(MEMBERS), spans),
    st.tuples(st.just("take"), st.sampled_from(MEMBERS), spans),
    st.tuples(st.just("lose"), st.sampled_from(MEMBERS), st.integers(0, 30)),
    st.tuples(st.just("close"), st.integers(1, 30)),
)

ranges = st.integers(1, 4) | st.integers(1, MAX_DIRECTS)  # how many messages a DIRECT has
direct_steps = st.one_of(
    st.tuples(st.just("takes"), st.integers(1, 40), ranges),
    st.tuples(st.just("takes"), st.integers(1, 3 * WINDOW), ranges),
    st.tuples(st.just("given up"), st.integers(1, 50), ranges),
    st.tuples(st.just("given up"), st.integers(1, 3 * WINDOW), ranges),
)

asked_steps = st.one_of(
    st.tuples(st.just("asks"), st.integers(1, 5)),
    st.tuples(st.just("takes"), st.integers(1, 5)),
    st.tuples(st.just("gap"), st.integers(1, 3)),
)


class TestTaken(SynchronousTestCase):
    @reverse
    @given(st.lists(spans, max_size=RANGES_MOST))
    def test_ranges_are_the_sum_of_what_was_added(self, added: list[tuple[int, int]]) -> None:
        taken, has = MemberRanges(), set[int]()
        for low, count in added:
            span = set(range(low, low + count))
            news = [
                number
                for first, last in taken.add(low, low + count - 1)
                for number in range(first, last + 1)
            ]
            assert sorted(span - has) == news
            has |= span
            assert {number for number in range(50) if taken.has(number)} == has
        assert taken.ranges == sorted(taken.ranges)
        for (_, last), (first, _) in zip(taken.ranges, taken.ranges[1:], strict=False):
            assert last + 1 < first


class TestTally(SynchronousTestCase):
    @reverse
    @given(st.integers(1, 30), st.lists(tracker_steps, max_size=25))
    def test_delivered_is_what_a_member_signed_and_nothing_else(
        self, count: int, steps: list[tuple[object, ...]]
    ) -> None:
        tracker = ReceiptTracker(MeshConfig())
        tracker.expect(range(1, count + 1), EVERYBODY)
        open_ = set(range(1, count + 1))
        signed: dict[bytes, set[int]] = {member: set() for member in MEMBERS}
        lost: dict[bytes, set[int]] = {member: set() for member in MEMBERS}
        for step in steps:
            before = {number: tracker.of(number) for number in open_}
            changed: set[int] = set()
            match step:
                case "take", bytes(member), (int(low), int(many)):
                    changed = set(tracker.add(member, low, low + many - 1))
                    signed[member] |= set(range(low, low + many))
                    lost[member] |= set(range(1, low)) - signed[member]
                case "lose", bytes(member), int(head):
                    changed = set(tracker.lose(member, head))
                    lost[member] |= set(range(1, head + 1)) - signed[member]
                case "close", int(number):
                    tracker.close(number)
                    open_.discard(number)
            for number in open_:
                holders = tracker.of(number)
                assert holders.delivered == {one for one in MEMBERS if number in signed[one]}
                waited = EVERYBODY - holders.delivered
                assert holders.missed == {one for one in waited if number in lost[one]}
                assert holders.pending == waited - holders.missed
                assert holders == before[number] or number in changed
                assert tracker.is_decided(number) == (not holders.pending)


class TestOwedReceipt(SynchronousTestCase):
    @reverse
    @given(st.lists(asked_steps, max_size=40))
    def test_no_range_has_what_was_not_taken(self, steps: list[tuple[str, int]]) -> None:
        # Numbers of the stream that have come, or that are in a gap; and a slow application.
        owed, there, head, cursor = OwedReceipt(0, 1, 0), set[int](), 0, 0
        for kind, count in steps:
            if kind == "asks":
                there |= set(range(head + 1, head + count + 1))
                head += count
                owed.asks_up_to = head
            elif kind == "gap":
                owed.gaps.append((head + 1, head + count))
                head += count
            else:
                cursor = min(cursor + count, head)
                while cursor not in there and cursor < head and cursor:
                    cursor += 1  # it is told of a gap as a whole
                if cursor not in there:
                    cursor = head
                owed.taken = max(owed.taken, cursor)
                owed.goes_on()
            for low, high in (*owed.closed, owed.range):
                claimed = set(range(low, high + 1))
                assert claimed <= {number for number in there if number <= cursor}


class TestSenders(SynchronousTestCase):
    @reverse
    @given(st.lists(direct_steps, max_size=60))
    def test_each_number_comes_once_in_order_within_the_window(
        self, steps: list[tuple[str, int, int]]
    ) -> None:
        config = MeshConfig()
        senders = Senders(config, Roster(config), Links(local_node("me"), config))
        seen, over, oldest = set[int](), 0, 1
        for kind, number, count in steps:
            if kind == "given up":
                oldest = max(oldest, number)
                continue
            record = direct("dora", "me", max(number, oldest), oldest=oldest, count=count).record
            assert isinstance(record, Direct)
            incoming = senders.incoming(record, 0.0)
            assert incoming is not None
            over = max(over, oldest - 1)
            assert incoming.head == over
            if record.last > over:
                assert senders.hold(record, 1) == (record.last <= over + WINDOW)
            if over < record.last <= over + WINDOW:
                seen.update(range(record.first, record.last + 1))
            while (turn := senders.next_held(record.origin)) is not None:
                frame = turn[1].direct
                assert frame.first <= over + 1 <= frame.last
                assert seen.issuperset(range(over + 1, frame.last + 1))
                turn[0].head = over = frame.last
            held = [one.direct for one in incoming.held.values()]
            assert all(over + 1 < one.first <= one.last <= over + WINDOW for one in held)
            assert sorted(incoming.order) == sorted(incoming.held) == sorted(one.first for one in held)
            assert senders.footprint() == {
                "direct_senders": 1,
                "direct_held": len(held),
                "direct_held_bytes": sum(one.size for one in incoming.held.values()),
                "direct_acknowledgements": 0,
            }
            assert senders.head(record.origin, 1) == over and senders.head(record.origin, 2) == 0
