"""Receipts: when a member gives them, how relays hand them on, and what the author makes of them."""

from __future__ import annotations

from itertools import pairwise

from msgspec import structs

from tests.core.network import (
    asking,
    batch,
    closing,
    entries,
    entry,
    forged,
    of,
    origin_of,
    presence,
    raw_batch,
    receipt,
    roster,
    signed_record,
)
from tests.core.replies_case import RepliesTestCase
from twisted_mesh.core.events import Accepted, Awaited, Effect, Forget, Leaving, ReceiptClosed, Send
from twisted_mesh.core.handshake import Profile
from twisted_mesh.core.replies.receipt_tracker import RANGES_MOST
from twisted_mesh.core.replies.routes import MOST_HOPS
from twisted_mesh.errors import Reason
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries
from twisted_mesh.wire.membership import Presence, PresenceFlags, Role
from twisted_mesh.wire.replies import Receipts
from twisted_mesh.wire.signed import SignedRecord

RECEIPT_SECONDS = 0.05


class TestGiving(RepliesTestCase):
    """The receipts that a member gives an author."""

    def test_what_was_taken_is_told_at_once_over_the_way_to_the_author(self) -> None:
        effects = self.get(1, 3) + self.wait(0)
        self.assertEqual(self.receipts(effects, 1), [("me", 1, 3)])
        self.assertEqual(self.receipts(effects, 2) + self.receipts(effects, 3), [])

    def test_nothing_is_told_before_the_application_has_it(self) -> None:
        self.receive(1, asking("dora", 1, 3))
        self.assertEqual(list(self.node.replies.issuer.waiting), [(origin_of("dora"), 1)])
        self.no_receipts(self.wait(3))
        self.assertEqual(self.receipts(self.take(1) + self.wait(0.04), 1), [("me", 1, 1)])
        self.assertEqual(self.receipts(self.take(3) + self.wait(1), 1), [("me", 1, 3)])
        self.assertEqual(list(self.node.replies.issuer.waiting), [])

    def test_it_is_said_of_which_runs_the_core_waits_to_hear(self) -> None:
        run, other = (origin_of("dora"), 1), (origin_of("emil"), 1)
        self.assertEqual(of(self.receive(1, asking("dora", 1, 3)), Awaited), [Awaited(run, 3, 3, 0)])
        told = of(self.receive(1, asking("emil", 1, 1), batch("paul", 1, 1), batch("dora", 4, 1)), Awaited)
        self.assertEqual(told, [Awaited(other, 1, 1, 0)])
        self.take(3)  # all that it asked for
        self.assertEqual(list(self.node.replies.issuer.waiting), [other])
        self.assertEqual(of(self.receive(1, asking("dora", 5, 1)), Awaited), [Awaited(run, 5, 5, 3)])

    def test_and_that_it_waits_no_more_when_it_forgets_one(self) -> None:
        self.receive(1, asking("dora", 1, 3))
        told = of(self.receive(1, asking("dora", 1, 1, epoch=2)), Awaited)
        self.assertEqual(
            told, [Awaited((origin_of("dora"), 1), 0, 0, 0), Awaited((origin_of("dora"), 2), 1, 1, 0)]
        )

    def test_only_up_to_what_asks(self) -> None:
        self.receive(1, asking("dora", 1, 2), batch("dora", 3, 3))
        self.assertEqual(self.receipts(self.take(5) + self.wait(1), 1), [("me", 1, 2)])

    def test_where_nobody_asks_nothing_is_told(self) -> None:
        self.receive(1, batch("dora", 1, 3))
        self.no_receipts(self.take(3) + self.wait(1000))
        self.assertEqual(self.node.footprint()["owed_receipts"], 0)

    def test_a_record_that_asks_asks_for_all_before_it(self) -> None:
        # A member that was away, or a new run of it, may not know which messages asked.
        self.receive(1, batch("dora", 1, 3))
        self.take(3)
        self.receive(1, presence("dora", 2, 3, interval=3_000_000, flags=PresenceFlags.ASKS))
        self.assertEqual(self.receipts(self.take(3) + self.wait(0), 1), [("me", 1, 3)])

    def test_of_an_author_only_the_newest_run_is_told(self) -> None:
        # Nobody waits for earlier runs; an author that begins run after run would have all others sign.
        self.get(1)
        self.wait(1)
        for epoch in range(2, 100):
            self.receive(
                1, presence("dora", 1, 1, epoch=epoch, interval=3_000_000, flags=PresenceFlags.ASKS)
            )
        footprint = self.node.footprint()
        self.assertEqual((footprint["owed_receipts"], len(self.node.replies.issuer.waiting)), (1, 1))
        self.receive(1, asking("dora", 2))
        self.take(2)
        effects = self.take(1, epoch=99) + self.wait(1)
        self.assertEqual(self.receipts(effects, 1), [("me", 1, 1)])

    def test_who_begins_above_what_a_record_asks_for_says_so(self) -> None:
        self.make()
        self.up(1, "anna", entry("dora", 8, low=1))
        self.receive(1, roster(presence("anna"), presence("dora", 1, 8, flags=PresenceFlags.ASKS)))
        self.assertEqual(self.receipts(self.wait(1), 1), [("me", 9, 8)])
        self.receive(1, presence("dora", 2, 8, flags=PresenceFlags.ASKS))
        self.no_receipts(self.wait(3))

    def test_a_guest_tells_nothing(self) -> None:
        self.manner = {"profile": Profile(role=Role.GUEST)}
        self.begin()
        self.receive(1, batch("dora", 4))
        effects = self.get(1) + self.wait(1)
        effects += self.receive(1, presence("dora", 2, 4, interval=3_000_000, flags=PresenceFlags.ASKS))
        self.no_receipts(effects + self.wait(100) + self.lose(3) + self.wait(1))

    def test_a_run_that_nobody_knows_any_more_is_none_of_its_business(self) -> None:
        self.no_receipts(self.take(4, "emil") + self.wait(10))

    def test_what_lies_below_the_base_was_never_taken(self) -> None:
        self.begin()
        self.node.history.discard((origin_of("dora"), 1))
        self.node.history.start_at((origin_of("dora"), 1), 2, 7, self.now)
        self.receive(1, batch("dora", 3, 5))
        self.assertEqual(self.receipts(self.get(8, 2) + self.wait(0), 1), [("me", 8, 9)])

    def test_nor_was_what_a_gap_below_the_base_is_followed_by(self) -> None:
        self.node.history.start_at((origin_of("dora"), 1), 2, 7, self.now)
        self.receive(1, batch("dora", 5, 2))
        self.wait(31)  # 3 and 4 are given up
        self.receive(1, batch("dora", 7))
        self.assertEqual(self.receipts(self.get(8) + self.wait(0), 1), [("me", 8, 8)])

    def test_nor_was_what_lies_below_one_that_the_roster_proves(self) -> None:
        self.make()
        self.up(1, "anna", structs.replace(entry("dora", 8, low=1), proof=b""))
        self.receive(1, batch("dora", 1, 8))
        self.receive(1, roster(presence("anna"), presence("dora", 1, 2)))
        effects = self.get(9) + self.wait(1)
        self.assertEqual(self.receipts(effects, 1), [("me", 3, 9)])


class TestGaps(RepliesTestCase):
    """Messages that will not come are in no receipt, and keep no others out of it."""

    def test_its_author_is_told_where_it_ends(self) -> None:
        self.receive(1, batch("dora", 1))
        self.receive(1, batch("dora", 4))
        self.take(1)
        effects = self.wait(31)
        self.assertEqual(self.receipts(effects, 1), [("me", 4, 3)])  # one of those may have asked

    def test_what_was_taken_before_it_is_told_along(self) -> None:
        self.get(1, 2)
        self.wait(1)
        self.receive(1, asking("dora", 5))
        self.wait(31)
        effects = self.take(5) + self.wait(1)
        self.assertEqual(self.receipts(effects, 1), [("me", 1, 2), ("me", 5, 5)])

    def test_what_a_slow_application_takes_before_it_counts_until_it_is_passed(self) -> None:
        self.receive(1, asking("dora", 1, 4))
        self.take(1)
        self.wait(1)
        self.receive(1, asking("dora", 7))
        self.assertNotIn(("me", 7, 6), self.receipts(self.wait(31), 1))
        self.assertEqual(self.receipts(self.take(3) + self.wait(1), 1), [("me", 1, 3)])
        effects = self.take(7) + self.wait(1)
        self.assertEqual(self.receipts(effects, 1), [("me", 1, 4), ("me", 7, 7)])

    def test_of_many_ranges_the_newest_are_told(self) -> None:
        for first in range(1, 4 * RANGES_MOST + 8, 4):
            self.receive(1, asking("dora", first))
            for _ in range(31):
                self.wait(1)
                for number in (1, 2, 3):
                    self.accept(number)  # they read what they are sent
            effects = self.take(first) + self.wait(1)
        told = self.receipts(effects, 1)
        self.assertEqual((len(told), told[-1]), (RANGES_MOST, ("me", first, first)))
        self.assertEqual(told, sorted(told))

    def test_many_before_a_slow_application_cost_what_lies_between(self) -> None:
        self.receive(1, asking("dora", 1))
        self.take(1)
        for first in range(4, 4 * RANGES_MOST + 12, 4):
            self.receive(1, asking("dora", first))
            self.wait(31)
        self.assertLessEqual(self.node.footprint()["owed_ranges"], 2 * RANGES_MOST)
        self.take(4)
        told = self.receipts(self.take(first) + self.wait(1), 1)
        self.assertEqual((told[-1], len(told)), (("me", first, first), RANGES_MOST))
        for _, low, high in told:
            self.assertEqual(low, high)  # never what was not there

    def test_what_the_application_loses_is_missed(self) -> None:
        self.get(1, 2)
        self.wait(1)
        self.receive(1, asking("dora", 3, 6))
        self.take(4)
        self.wait(1)
        self.lose(6)
        effects = self.take(8) + self.wait(1)
        self.assertEqual(self.receipts(effects, 1), [("me", 1, 4), ("me", 7, 8)])

    def test_also_if_it_is_told_late(self) -> None:
        self.get(1, 8)
        self.wait(1)
        self.assertEqual(self.receipts(self.lose(6) + self.wait(1), 1), [("me", 7, 8)])
        self.no_receipts(self.lose(5) + self.wait(1))

    def test_what_it_loses_before_anybody_asks_is_told(self) -> None:
        self.receive(1, batch("dora", 1, 4))
        self.assertEqual(self.receipts(self.lose(3) + self.wait(1), 1), [("me", 4, 3)])


class TestRepeating(RepliesTestCase):
    """A receipt that may be lost is sent again, over other links, ever more rarely."""

    def attempts(self, effects: list[Effect]) -> list[tuple[int, int]]:
        """The links that receipts of the first message are sent over, each with its *tries*."""
        attempts = []
        for number in (1, 2, 3):
            for frame in of(self.all_frames(effects, number), Receipts):
                self.assertEqual({codec.receipt(one.array).high for one in frame.entries}, {1})
                attempts += [(number, one.tries) for one in frame.entries]
        return sorted(attempts, key=lambda attempt: attempt[1])

    def test_after_five_seconds_then_twice_as_long_over_the_best_way_and_up_to_three_others(self) -> None:
        self.assertEqual(self.attempts(self.get(1) + self.wait(0)), [(1, 0)])
        for wait, tries, others in ((5, 1, [2]), (10, 2, [1, 3]), (20, 3, [1, 2, 3]), (40, 4, [1, 2, 3])):
            self.no_receipts(self.wait(wait - 0.1))
            self.assertEqual(self.attempts(self.wait(0.1)), [(1, 0), *((other, tries) for other in others)])

    def test_it_never_ends_while_the_stream_is_there_and_no_longer(self) -> None:
        self.begin(receipt_repeat_longest=20.0, history_seconds=100.0)
        self.get(1)
        self.wait(90)
        self.assertEqual(len(self.attempts(self.wait(6))), 4)
        self.wait(200)
        self.assertIsNone(self.node.history.get((origin_of("dora"), 1)))
        self.no_receipts(self.wait(100))

    def test_unless_its_author_says_that_it_waits(self) -> None:
        self.begin(receipt_repeat_longest=20.0, history_seconds=100.0)
        self.get(1)
        self.receive(1, presence("dora", 2, 1, interval=3_000_000, flags=PresenceFlags.ASKS))
        self.wait(290)
        self.assertIsNone(self.node.history.get((origin_of("dora"), 1)))
        self.assertEqual(len(self.attempts(self.wait(20))), 4)
        self.receive(1, presence("dora", 3, 1, interval=3_000_000))
        self.wait(20)
        self.no_receipts(self.wait(100))

    def test_nor_does_it_for_a_run_that_is_over(self) -> None:
        for ends in (
            presence("dora", epoch=2, flags=PresenceFlags.ASKS),
            presence("dora", 3, role=Role.GUEST),
        ):
            self.begin(receipt_repeat_longest=20.0, history_seconds=100.0)
            self.get(1)
            self.receive(1, presence("dora", 2, 1, interval=3_000_000, flags=PresenceFlags.ASKS))
            self.receive(1, ends)
            self.wait(150)
            self.no_receipts(self.wait(400))

    def test_then_when_the_author_still_asks(self) -> None:
        self.begin(history_seconds=100.0)
        self.get(1, 3)
        self.wait(1000)
        self.assertIsNone(self.node.history.get((origin_of("dora"), 1)))
        again = presence("dora", 2, 3, interval=3_000_000, flags=PresenceFlags.ASKS)
        effects = self.receive(1, again) + self.wait(0.1)
        self.assertEqual([self.receipts(effects, n) for n in (1, 2, 3)].count([("me", 1, 3)]), 2)

    def test_or_when_there_is_a_way_at_last(self) -> None:
        self.begin(history_seconds=100.0)
        self.receive(1, asking("dora", 1, 3))
        self.take(3)
        for number in (1, 2, 3):
            self.handle(closing(number))
        self.wait(300)
        self.up(4, "emil")
        self.assertEqual(self.receipts(self.wait(0.1), 4), [("me", 1, 3)])

    def test_what_is_taken_later_is_told_still_and_so_is_what_follows(self) -> None:
        self.begin(history_seconds=100.0)
        self.receive(1, asking("dora", 1, 3))
        self.wait(300)
        self.assertIsNone(self.node.history.get((origin_of("dora"), 1)))
        self.assertEqual(self.receipts(self.take(3) + self.wait(0.1), 1), [("me", 1, 3)])
        self.assertEqual(self.receipts(self.get(4) + self.wait(0.1), 1), [("me", 1, 4)])

    def test_news_begins_again_with_the_best(self) -> None:
        self.get(1)
        self.wait(16)
        effects = self.get(2) + self.wait(1)
        self.assertEqual((self.receipts(effects, 1), self.receipts(effects, 2)), ([("me", 1, 2)], []))
        effects = self.wait(4)
        self.assertEqual([len(self.receipts(effects, number)) for number in (1, 2, 3)], [1, 1, 0])

    def test_a_lost_link_is_made_good_at_once(self) -> None:
        self.get(1)
        self.wait(0)
        self.now += 1
        effects = self.handle(closing(1)) + self.wait(0)
        told = self.receipts(effects, 2) + self.receipts(effects, 3)
        self.assertEqual(told, [("me", 1, 1)])
        self.no_receipts(self.handle(closing(1)) + self.wait(1))

    def test_the_loss_of_another_changes_nothing(self) -> None:
        self.get(1)
        self.wait(0)
        self.no_receipts(self.handle(closing(2)) + self.wait(1))

    def test_who_has_no_link_tells_when_there_is_one(self) -> None:
        self.receive(1, asking("dora", 1))
        for number in (1, 2, 3):
            self.handle(closing(number))
        self.no_receipts(self.take(1) + self.wait(1))
        effects = self.up(4, "emil") + self.wait(0)
        self.assertEqual(self.receipts(effects, 4), [("me", 1, 1)])
        self.no_receipts(self.up(5, "fred") + self.wait(1))

    def test_an_author_that_is_back_is_told_at_once(self) -> None:
        self.get(1)
        self.wait(16)
        self.receive(1, presence("dora", 2, 1, interval=3_000_000, flags=PresenceFlags.LEAVING))
        self.no_receipts(self.wait(1))
        self.get(1, author="cleo", link=3)
        self.wait(1)
        effects = self.receive(1, presence("dora", 3, 1, interval=3_000_000)) + self.wait(0)
        self.assertEqual(self.receipts(effects, 1), [("me", 1, 1)])

    def test_of_too_many_runs_one_is_forgotten(self) -> None:
        self.begin(open_streams=3)
        for name in ("anna", "bert", "cleo", "dora", "emil"):
            self.receive(1, asking(name, 1))
        self.assertEqual(self.node.footprint()["owed_receipts"], 3)
        self.assertLessEqual(len(self.node.replies.issuer.waiting), 3)


class TestPacing(RepliesTestCase):
    """One member's receipts for one author come no faster than the author can verify all of them."""

    def grow(self, members: int) -> None:
        """Let presences come until the roster has *members* members."""
        for number in range(members - 4):
            self.receive(1, presence(f"member {number}", interval=3_000_000))
        self.assertEqual(self.node.roster.there, members)

    def count(self, seconds: int, relayed: bool) -> int:
        """Ten messages a second come, and are taken at once; how many own receipts go out."""
        count = 0
        for first in range(1, seconds * 10):
            effects = self.get(first)
            if relayed:
                effects += self.bring(2, receipt("bert", "dora", 1, first))
            effects += self.wait(0.1)
            count += [member for member, _, _ in self.receipts(effects, 1)].count("me")
        return count

    def test_in_a_small_mesh_no_faster_than_what_is_gathered_for(self) -> None:
        frames = []
        for first in range(1, 101):
            frames += self.receipt_frames(self.get(first) + self.wait(0.01), 1)
        self.assertIn(len(frames), (20, 21))

    def test_of_a_thousand_members_the_author_verifies_500_a_second(self) -> None:
        for relayed in (False, True):  # also if each of them hands on what others give
            self.begin(members_limit=2000, authors_burst=2000)
            self.grow(1000)
            count = self.count(20, relayed)
            self.assertLessEqual(1000 * count / 20, 550)
            self.assertGreater(count, 8)

    def test_of_too_many_authors_the_pace_of_one_is_forgotten(self) -> None:
        self.begin(open_streams=3)
        for name in ("dora", "emil", "fred", "anna", "bert"):
            self.receive(1, presence(name, 2, interval=3_000_000))
            self.get(1, author=name)
            self.wait(0.1)
        self.assertEqual(self.node.footprint()["receipt_times"], 3)

    def test_what_changes_before_it_goes_costs_one_signature(self) -> None:
        made: list[bytes] = []
        signer = self.node.replies.issuer._signer
        sign = signer._sign
        signer._sign = lambda text: (made.append(text), sign(text))[1]  # type: ignore[method-assign]
        for first in range(1, 6):
            self.get(first)
        self.assertEqual(self.receipts(self.wait(0), 1), [("me", 1, 5)])
        self.assertEqual(len(made), 1)


class TestHandingOn(RepliesTestCase):
    """Relays verify, gather, and send on."""

    def setUp(self) -> None:
        super().setUp()
        self.receive(1, batch("dora", 1, 9))

    def test_what_comes_within_the_delay_goes_in_one_frame(self) -> None:
        self.bring(2, receipt("bert", "dora", 1, 2))
        self.wait(0.02)
        self.bring(3, receipt("cleo", "dora", 1, 3), receipt("anna", "dora", 1, 1))
        self.no_receipts(self.wait(0.02))
        effects = self.wait(0.02)
        self.assertEqual(
            self.receipt_frames(effects, 1), [[("bert", 1, 2), ("cleo", 1, 3), ("anna", 1, 1)]]
        )

    def test_of_the_same_range_the_longest_goes(self) -> None:
        for high in (2, 7, 5):
            self.bring(2, receipt("bert", "dora", 1, high))
        self.bring(2, receipt("bert", "dora", 4, 6))
        self.assertEqual(self.receipts(self.wait(0.1), 1), [("bert", 1, 7), ("bert", 4, 6)])

    def test_what_was_sent_more_often_goes_another_way_beside_it(self) -> None:
        self.receive(3, presence("dora", interval=3_000_000))
        told = receipt("bert", "dora", 1, 9)
        self.bring(2, told, structs.replace(told, tries=1))
        effects = self.wait(0.1)
        self.assertEqual([self.receipts(effects, number) for number in (1, 3)], [[("bert", 1, 9)]] * 2)

    def test_a_stream_of_which_nothing_is_held_any_more_is_none_the_less(self) -> None:
        # Members may hold messages for longer than relays, and one that was away gives its receipts later.
        self.begin(history_seconds=10.0)
        self.receive(1, batch("dora", 1, 9))
        self.wait(30)
        self.assertIsNone(self.node.history.get((origin_of("dora"), 1)))
        self.bring(2, receipt("bert", "dora", 1, 9))
        self.assertEqual(self.receipts(self.wait(0.1), 1), [("bert", 1, 9)])

    def test_nor_is_one_that_its_author_alone_has_told_of(self) -> None:
        self.receive(1, presence("emil", 1, 4, interval=3_000_000))
        self.node.history.discard((origin_of("emil"), 1))
        self.bring(2, receipt("bert", "emil", 1, 4))
        self.assertEqual(self.receipts(self.wait(0.1), 1), [("bert", 1, 4)])
        self.assertEqual(self.strays(Receipts([receipt("bert", "emil", 1, 5)])), ["stray_receipts"])

    def test_two_runs_do_not_push_each_other_out(self) -> None:
        self.receive(1, batch("dora", 1, 2, epoch=2))
        self.bring(2, receipt("bert", "dora", 1, 9), receipt("bert", "dora", 1, 2, epoch=2))
        self.bring(2, receipt("bert", "dora", 1, 9, member_epoch=0))
        self.assertEqual(len(self.receipts(self.wait(0.1), 1)), 3)

    def test_what_is_owed_goes_along(self) -> None:
        self.bring(2, receipt("bert", "dora", 1, 2))
        self.receive(1, asking("dora", 10))
        effects = self.take(10) + self.wait(0)
        self.assertEqual(self.receipt_frames(effects, 1), [[("bert", 1, 2), ("me", 1, 10)]])
        self.no_receipts(self.wait(1))

    def test_frames_to_one_author_keep_their_distance(self) -> None:
        times = []
        for step in range(200):
            effects = self.bring(2, receipt("bert", "dora", 1, 1 + step % 9))
            effects += self.receive(1, asking("dora", 10 + step)) + self.take(10 + step) + self.wait(0.007)
            times += [self.now for _ in self.receipt_frames(effects, 1)]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        self.assertGreaterEqual(min(gaps), RECEIPT_SECONDS - 0.007)

    def test_it_is_not_held_once_it_went(self) -> None:
        self.bring(2, receipt("bert", "dora", 1, 2))
        self.wait(0.1)
        footprint = self.node.footprint()
        self.assertEqual((footprint["carried_receipts"], footprint["carried_authors"]), (0, 0))
        self.no_receipts(self.wait(100))

    def test_nothing_goes_back_over_the_way_to_the_author(self) -> None:
        self.bring(1, receipt("bert", "dora", 1, 2))
        self.no_receipts(self.wait(1))

    def test_where_there_is_no_way_it_is_dropped(self) -> None:
        self.bring(2, receipt("bert", "dora", 1, 2))
        self.handle(closing(1))
        self.no_receipts(self.wait(1))
        self.assertEqual(self.node.footprint()["carried_receipts"], 0)

    def test_a_link_that_reads_too_slowly_is_no_way(self) -> None:
        self.begin(link_queue_bytes=2000)
        self.receive(1, batch("dora", 1, 9))
        for number in (1, 2, 3):
            self.accept(number)
        self.send(1, "anna", "x" * 2000)
        self.receive(1, asking("dora", 10))
        self.bring(2, receipt("bert", "dora", 1, 2))
        effects = self.take(10) + self.wait(0.1)
        self.assertEqual(self.receipts(effects, 1), [])
        self.assertEqual(self.receipts(effects, 2) + self.receipts(effects, 3), [("me", 1, 10)])
        self.handle(Accepted(1, self.queued[1]))
        self.bring(2, receipt("bert", "dora", 1, 2))
        self.assertEqual(self.receipts(self.wait(0.1), 1), [("bert", 1, 2)])

    def test_each_counts_its_hops_and_stops(self) -> None:
        first = [receipt("bert", "dora", 1, 2, hops=MOST_HOPS - 1), receipt("cleo", "dora", 1, 2)]
        self.bring(2, *first)
        [frame] = of(self.all_frames(self.wait(0.1), 1), Receipts)
        self.assertEqual([one.hops for one in frame.entries], [MOST_HOPS, 1])
        self.assertEqual(
            self.strays(Receipts([receipt("bert", "dora", 1, 2, hops=MOST_HOPS)])), ["stray_receipts"]
        )
        self.no_receipts(self.wait(1))

    def test_many_go_in_frames_that_fit(self) -> None:
        for number in range(500):
            name = f"member {number}"
            record = signed_record(structs.replace(presence(name).record, interval=3_000_000))
            self.node.roster.keep(record, record.record, None, self.now, self.now)  # type: ignore[arg-type]
            self.bring(2, receipt(name, "dora", 1, 2))
        sends = [send for send in of(self.wait(0.1), Send) if isinstance(send.frame, Receipts)]
        self.assertEqual(sum(len(send.frame.entries) for send in sends), 500)  # type: ignore[union-attr]
        self.assertLess(max(send.size for send in sends), 2**16)

    def test_one_member_takes_no_more_of_it_than_it_can_have_to_tell(self) -> None:
        for low in range(1, 10):
            for high in (9, low):  # the longest of each counts
                told = receipt("bert", "dora", low, high)
                self.bring(2, *(structs.replace(told, tries=tries) for tries in (0, 1, 2)))
        self.bring(2, receipt("cleo", "dora", 1, 9))
        self.assertEqual(len(self.receipts(self.wait(0.1), 1)), 2 * RANGES_MOST + 1)
        self.bring(2, receipt("bert", "dora", 9, 9))
        self.assertEqual(self.receipts(self.wait(0.1), 1), [("bert", 9, 9)])

    def test_what_is_on_its_way_is_bounded(self) -> None:
        self.begin(receipts_carried=2)
        self.receive(1, batch("dora", 1, 9))
        three = [receipt(name, "dora", 1, 2) for name in ("anna", "bert", "cleo")]
        self.bring(2, *three)
        self.assertEqual(self.node.footprint()["carried_receipts"], 2)
        self.assertEqual(self.node.counts["dropped_receipts"], 1)
        self.assertEqual(len(self.receipts(self.wait(0.1), 1)), 2)
        # If no receipt for an author is on its way, nothing is kept for that author.
        self.receive(1, batch("emil", 1))
        self.bring(2, *three[:2])
        self.bring(2, receipt("cleo", "emil", 1, 1))
        self.assertEqual(self.node.footprint()["carried_authors"], 1)


class TestSlowLines(RepliesTestCase):
    """A late line has no room for each receipt."""

    def setUp(self) -> None:
        super().setUp()
        self.receive(1, batch("dora", 1, 9))
        self.late(1)

    def test_those_of_others_are_merged_until_it_has_read(self) -> None:
        for high in (1, 2, 3):
            self.bring(2, receipt("bert", "dora", 1, high), receipt("cleo", "dora", 1, 2))
            self.no_receipts(self.wait(2))
        self.assertEqual(self.node.footprint()["carried_receipts"], 2)
        effects = self.has_read(1) + self.wait(1)
        self.assertEqual(self.receipts(effects, 1), [("bert", 1, 3), ("cleo", 1, 2)])
        footprint = self.node.footprint()
        self.assertEqual((footprint["carried_receipts"], footprint["carried_authors"]), (0, 0))

    def test_a_peer_that_reads_nothing_leaves_half_of_the_room_to_others(self) -> None:
        self.begin(receipts_carried=4)
        self.receive(1, batch("dora", 1, 9))
        self.late(1)
        self.bring(2, *(receipt(name, "dora", 1, 2) for name in ("anna", "bert", "cleo")))
        self.wait(1)
        self.assertEqual(self.node.footprint()["carried_receipts"], 0)
        self.assertEqual(self.node.counts["dropped_receipts"], 3)  # they come again
        self.bring(2, receipt("anna", "dora", 1, 2), receipt("bert", "dora", 1, 2))
        self.wait(1)
        self.assertEqual(self.node.footprint()["carried_receipts"], 2)

    def test_one_member_with_many_runs_takes_no_room_of_others(self) -> None:
        self.begin(receipts_carried=64)
        self.receive(2, presence("bert", 2, epoch=50, interval=3_000_000))
        self.receive(1, batch("dora", 1, 9))
        self.late(1)
        self.bring(3, receipt("cleo", "dora", 1, 2))
        for epoch in (*range(1, 20), 40, *range(20, 39)):
            self.bring(2, receipt("bert", "dora", 1, 2, member_epoch=epoch))
        self.bring(2, receipt("bert", "dora", 4, 5, member_epoch=40))
        self.wait(1)
        self.assertEqual(self.node.footprint()["carried_receipts"], 3)
        self.assertEqual(self.node.counts["dropped_receipts"], 38)
        effects = self.has_read(1) + self.wait(1)
        self.assertEqual(
            sorted(self.receipts(effects, 1)), [("bert", 1, 2), ("bert", 4, 5), ("cleo", 1, 2)]
        )

    def test_meanwhile_own_ones_go_once(self) -> None:
        self.bring(2, receipt("bert", "dora", 1, 1))
        effects = self.receive(1, asking("dora", 10)) + self.take(10) + self.wait(1)
        self.assertEqual(self.receipts(effects, 1), [("me", 1, 10)])
        self.assertEqual(self.receipts(self.wait(30), 1), [])  # it is repeated over other links
        self.assertEqual(self.receipts(self.has_read(1) + self.wait(1), 1), [("bert", 1, 1)])
        self.assertIn(("me", 1, 10), self.receipts(self.wait(50), 1))


class TestHearing(RepliesTestCase):
    """What the author makes of receipts that come."""

    def is_with_all(self, sequence: int) -> bool:
        """Whether all members that were waited for have the own message."""
        tracker = self.node.replies._tracker
        return sequence in tracker and tracker.is_decided(sequence) and not tracker.of(sequence).missed

    def test_who_has_it_is_who_signed_for_it(self) -> None:
        self.ask("a")
        self.assertEqual(self.holders(), ("", "anna bert cleo dora", ""))
        self.assertEqual(self.news(self.bring(2, receipt("bert", "me", 1, 1))), [1])
        self.assertEqual(self.news(self.bring(1, receipt("dora", "me", 1, 1))), [1])
        self.assertEqual(self.holders(), ("bert dora", "anna cleo", ""))
        self.assertFalse(self.is_with_all(1))
        self.bring(3, receipt("anna", "me", 1, 1), receipt("cleo", "me", 1, 1))
        self.assertTrue(self.is_with_all(1))

    def test_several_are_one_piece_of_news(self) -> None:
        for text in "abc":
            self.ask(text)
        effects = self.bring(2, receipt("bert", "me", 1, 3), receipt("cleo", "me", 1, 2))
        self.assertEqual(self.news(effects), [1, 2, 3])

    def test_nobody_asked_nothing_kept(self) -> None:
        self.publish("a")
        before = self.node.footprint()
        self.assertEqual(self.bring(2, receipt("bert", "me", 1, 1)), [])
        self.assertEqual(self.node.footprint(), before)
        self.assertIsNone(self.node.replies.holders(1))
        self.assertFalse(self.is_with_all(1))

    def test_who_is_asked_no_more_is_forgotten(self) -> None:
        self.ask("a")
        self.bring(2, receipt("bert", "me", 1, 1))
        self.handle(Forget(1))
        footprint = self.node.footprint()
        self.assertEqual((footprint["open_receipts"], footprint["tracked_members"]), (0, 0))

    def test_of_too_many_the_oldest_is_closed_and_told(self) -> None:
        self.begin(receipts_limit=2)
        self.ask("a")
        self.ask("b")
        (closed,) = of(self.ask("c"), ReceiptClosed)
        self.assertEqual((closed.sequence, len(closed.holders.pending)), (1, 4))
        self.assertIsNone(self.node.replies.holders(1))

    def test_it_waits_for_those_who_were_there_when_it_was_asked(self) -> None:
        self.ask("a")
        self.receive(1, presence("emil", interval=3_000_000))
        self.ask("b")
        self.assertEqual(self.holders(1)[1], "anna bert cleo dora")
        self.assertEqual(self.holders(2)[1], "anna bert cleo dora emil")

    def test_or_when_the_first_roster_came(self) -> None:
        self.make()
        self.ask("a")
        self.assertEqual(self.holders(), ("", "", ""))
        self.assertFalse(self.is_with_all(1))
        self.up(1, "anna")
        effects = self.receive(1, roster(presence("anna"), presence("bert")))
        self.assertEqual((self.news(effects), self.holders()), ([1], ("", "anna bert", "")))

    def test_guests_are_not_waited_for(self) -> None:
        self.receive(1, presence("emil", role=Role.GUEST))
        self.ask("a")
        self.assertNotIn("emil", self.holders()[1])

    def test_nor_is_who_has_left_and_never_comes_back(self) -> None:
        self.receive(1, presence("emil", interval=3_000_000))
        self.receive(1, presence("emil", 2, flags=PresenceFlags.LEAVING))  # it may be started again
        self.receive(2, presence("bert", 2, flags=PresenceFlags.EPHEMERAL))  # it is there still
        self.receive(3, presence("cleo", 2, flags=PresenceFlags.EPHEMERAL | PresenceFlags.LEAVING))
        self.ask("a")
        self.assertEqual(self.holders()[1], "anna bert dora emil")

    def test_a_member_that_becomes_one_is_waited_for_no_more(self) -> None:
        self.ask("a")
        self.assertEqual(self.news(self.receive(2, presence("bert", 2, role=Role.GUEST))), [1])
        self.assertEqual(self.holders(), ("", "anna cleo dora", "bert"))

    def test_a_new_run_has_missed_what_lies_below_where_it_begins(self) -> None:
        self.ask("a")
        self.bring(3, receipt("cleo", "me", 1, 1))
        effects = self.receive(2, presence("bert", epoch=2)) + self.receive(3, presence("cleo", epoch=2))
        self.assertEqual(self.news(effects), [])  # it may be the first to get it
        effects = self.bring(2, receipt("bert", "me", 2, 1, member_epoch=2))
        effects += self.bring(3, receipt("cleo", "me", 2, 1, member_epoch=2))
        self.assertEqual(self.news(effects), [1])
        self.assertEqual(self.holders(), ("cleo", "anna dora", "bert"))
        # A message that it gets after all counts, and so do later ones.
        self.ask("b")
        self.assertEqual(self.holders(2)[1], "anna bert cleo dora")
        self.bring(2, receipt("bert", "me", 1, 2, member_epoch=2))
        self.assertEqual((self.holders(1)[0], self.holders(2)[0]), ("bert cleo", "bert"))

    def test_who_leaves_is_waited_for_and_who_is_forgotten_is_not(self) -> None:
        self.receive(1, presence("emil", flags=PresenceFlags.EPHEMERAL, interval=3_000_000))
        self.ask("a")
        self.receive(1, presence("emil", 2, flags=PresenceFlags.EPHEMERAL | PresenceFlags.LEAVING))
        self.assertIn("emil", self.holders()[1])
        self.assertEqual(self.news(self.wait(400)), [1])
        self.assertEqual(self.holders(), ("", "anna bert cleo dora", "emil"))

    def test_one_record_of_a_node_that_is_not_there_is_not_waited_for_all_day(self) -> None:
        longest = 600_000  # ms
        for frame in (presence("emil", interval=longest), roster(presence("emil"), age=5000)):
            self.begin()
            self.up(4, "fred")
            self.receive(4, frame)
            self.ask("a")
            self.wait(240)
            self.assertEqual(self.holders()[1], "anna bert cleo dora emil fred")
            self.assertEqual(self.news(self.wait(3 * longest / 1000 + 60)), [1])
            self.assertEqual(self.holders(), ("", "anna bert cleo dora fred", "emil"))

    def test_as_long_as_it_waits_its_record_says_so(self) -> None:
        def flags() -> int:
            frames = of(self.all_frames(self.handle(Leaving()), 2), SignedRecord)
            [record] = of([frame.record for frame in frames], Presence)
            return record.flags

        self.assertEqual(flags() & PresenceFlags.ASKS, 0)
        self.begin()
        self.ask("a")
        self.assertEqual(flags() & PresenceFlags.ASKS, PresenceFlags.ASKS)


class TestAttacks(RepliesTestCase):
    """A wrong receipt is dropped and counted; one that no honest node would send closes the link."""

    kinds: list[str] = ["stray_receipts"]

    def setUp(self) -> None:
        super().setUp()
        self.ask("a")

    def assert_stray(self, *receipts: object) -> None:
        for one in receipts:
            self.assertEqual(self.strays(Receipts([one])), self.kinds, one)  # type: ignore[list-item]
        self.assertEqual(self.holders()[0], "")

    def test_for_others(self) -> None:
        mine = receipt("bert", "me", 1, 1)
        forged = structs.replace(receipt("cleo", "me", 1, 1), signature=mine.signature)
        effects = self.bring(2, forged)
        self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])
        self.assertEqual(self.holders()[0], "")

    def test_with_a_junk_signature(self) -> None:
        for author in ("me", "dora"):
            self.begin()
            self.ask("a")
            self.receive(1, batch("dora", 1))
            effects = self.bring(2, forged(receipt("bert", author, 1, 1)))
            self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])
            self.no_receipts(self.wait(1))

    def test_junk_behind_a_good_one_hides_no_news(self) -> None:
        effects = self.bring(2, receipt("cleo", "me", 1, 1), forged(receipt("bert", "me", 1, 1)))
        self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])
        self.assertEqual((self.news(effects), self.holders()[0]), ([1], "cleo"))

    def test_something_else_in_place_of_one(self) -> None:
        junk = structs.replace(receipt("bert", "me", 1, 1), array=b"\x91\1")
        self.assertEqual(self.closed(self.bring(2, junk)), [(2, Reason.SHAPE)])

    def test_for_an_earlier_run_of_the_own_key(self) -> None:
        self.make(epoch=2)
        for number, name in enumerate(("anna", "bert"), 1):
            self.up(number, name)
            self.receive(number, presence(name))
        self.receive(1, batch("me", 1, 5))  # it is stored and handed on, like any other
        self.ask("a")
        self.assert_stray(receipt("bert", "me", 1, 1), receipt("bert", "me", 1, 5))

    def test_what_no_member_can_have_signed(self) -> None:
        self.receive(1, batch("dora", 1, 3))
        self.receive(3, presence("emil", role=Role.GUEST))
        # For a run that never was.
        for run in (("me", 2), ("me", 0), ("fred", 1), ("dora", 9)):
            self.assert_stray(receipt("bert", run[0], 1, 1, epoch=run[1]))
        # For more than was ever published.
        for author, low, high in (("me", 1, 2), ("me", 3, 2), ("dora", 1, 4)):
            self.assert_stray(receipt("bert", author, low, high))
        # Of a member that nobody knows, of a guest, and of this node itself.
        for member in ("fred", "a made-up name", "emil", "me"):
            self.assert_stray(receipt(member, "me", 1, 1))
        # Of a run that the member never began.
        self.assert_stray(receipt("bert", "me", 1, 1, member_epoch=2))

    def test_a_flood_costs_no_more_than_its_rate(self) -> None:
        self.begin(reverse_burst=10, reverse_rate=5.0)
        self.ask("a")
        self.verified = 0
        flood = [receipt("bert", "me", 1, 1)] * 1000
        self.bring(2, *flood)
        self.assertEqual(self.verified, 10)
        self.now += 1
        self.bring(2, *flood)
        self.assertEqual((self.verified, self.node.counts["dropped_receipts"]), (15, 1985))
        # The flood counts against its link, and against no other.
        self.bring(3, receipt("cleo", "me", 1, 1))
        self.assertEqual(self.holders()[0], "bert cleo")

    def test_a_flood_of_what_is_no_use_costs_nothing(self) -> None:
        self.verified = 0
        self.bring(2, *[receipt("fred", "me", 1, 1)] * 1000)
        self.assertEqual(self.verified, 0)
        self.bring(2, receipt("bert", "me", 1, 1))
        self.assertEqual(self.holders()[0], "bert")

    def test_high_hops_hold_nobody_elses_up(self) -> None:
        self.receive(1, batch("dora", 1, 2))
        self.bring(2, receipt("bert", "dora", 1, 1, hops=31))
        self.bring(3, receipt("cleo", "dora", 1, 1))
        [frame] = of(self.all_frames(self.wait(0.1), 1), Receipts)
        self.assertEqual(min(one.hops for one in frame.entries), 1)

    def test_a_poisoned_batch_asks_for_nothing(self) -> None:
        body = join_entries(entries("x")) + b"junk"
        self.receive(1, raw_batch("dora", 1, 1, body))
        self.no_receipts(self.take(1) + self.wait(100))
