"""Direct messages: acknowledged, once in a run, and given up with a reason."""

from __future__ import annotations

from msgspec import structs

from tests.core.network import acknowledged, closing, direct, forged, of, origin_of, presence, signed_record
from tests.core.node_case import ALL
from tests.core.replies_case import EncryptedTestCase, RepliesTestCase
from twisted_mesh.core import link as link_module
from twisted_mesh.core.events import (
    Deliver,
    DirectRoom,
    DirectsEnded,
    Effect,
    LinkClosed,
    SendDirect,
    SendDirects,
    Timer,
)
from twisted_mesh.core.replies import relayed
from twisted_mesh.core.replies.routes import DETOURS, MOST_HOPS
from twisted_mesh.core.replies.senders import WINDOW, Incoming
from twisted_mesh.errors import Reason
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT
from twisted_mesh.wire.membership import PresenceFlags
from twisted_mesh.wire.replies import Direct
from twisted_mesh.wire.signed import SignedRecord

STRAY = ["stray_directs"]


class TestSending(RepliesTestCase):
    def test_a_message_that_holds_nothing_is_acknowledged_and_tells_the_application_nothing(self) -> None:
        nothing = SendDirect(7, origin_of("dora"), join_entries(()))
        effects = self.handle(SendDirects((nothing,)))
        self.assertEqual(self.directs(effects, 1), [("dora", 1, 1)])
        self.assertEqual(self.ended(self.receive(1, acknowledged("dora", "me", 1))), [(7, True)])
        effects = self.receive(1, direct("dora", "me", 1, body=join_entries(())))
        self.assertEqual((self.acks(effects, 1), self.got(effects)), ([("dora", 1)], []))

    def test_it_goes_over_the_best_way_at_once(self) -> None:
        for count, (name, number) in enumerate((("bert", 2), ("dora", 1)), 1):
            effects = self.send(1, name)
            self.assertEqual(self.directs(effects, number), [(name, count, count)])
            self.assertEqual(self.over(effects), [number])

    def test_it_is_over_when_it_is_acknowledged(self) -> None:
        self.send(7)
        effects = self.receive(1, acknowledged("dora", "me", 1))
        self.assertEqual(of(effects, DirectsEnded), [DirectsEnded([7], None)])
        self.assertEqual(self.over(self.wait(100)), [])
        footprint = self.node.footprint()
        self.assertEqual((footprint["direct_waiting"], footprint["direct_bytes"]), (0, 0))

    def test_each_destination_has_numbers_and_the_oldest_that_waits_is_told(self) -> None:
        self.send(1)
        self.send(2)
        self.assertEqual(self.directs(self.send(3), 1), [("dora", 3, 1)])
        self.receive(1, acknowledged("dora", "me", 1))
        self.assertEqual(self.directs(self.send(4), 1), [("dora", 4, 2)])

    def test_it_is_repeated_over_the_best_and_the_next_best_way_each_time_later(self) -> None:
        self.assertEqual(self.attempts(self.send(1)), [(1, 0)])
        others = []
        for wait in (1, 2, 4, 8, 8, 8, 8):
            self.assertEqual(self.over(self.wait(wait - 0.1)), [])
            best, other = sorted(self.attempts(self.wait(0.1)), key=lambda attempt: attempt[1])
            self.assertEqual(best, (1, 0))
            others.append(other)
        self.assertEqual(others, [(2, 1), (3, 2), (1, 3), (2, 4), (3, 5), (1, 6), (2, 7)])

    def test_it_is_repeated_for_hours_where_so_long_is_waited_for_it(self) -> None:
        hour = 3600.0
        self.begin(direct_timeout=10 * hour)
        self.wait(5)
        self.receive(1, presence("dora", 2))  # one that spoke once would be forgotten
        self.send(1)
        for _ in range(1100):  # 2 to the power of 1,024 is no float
            for number in (1, 2, 3):
                flow = self.link(number).flow
                flow.meter.read = flow.sent  # each peer reads what it is sent
            self.assertTrue(self.over(self.wait(8)))
        self.assertEqual(self.directs(self.send(2), 1), [("dora", 2, 1)])
        self.assertEqual({number for _, number, _ in self.directs(self.wait(8), 1)}, {1, 2})
        self.assertEqual(self.ended(self.wait(10 * hour)), [(1, False), (2, False)])

    def attempts(self, effects: list[Effect]) -> list[tuple[int, int]]:
        """The links that a message is sent over, each with its *tries*."""
        frames = [(number, self.all_frames(effects, number)) for number in range(1, 9)]
        records = [(number, one.record) for number, some in frames for one in of(some, SignedRecord)]
        return [(number, record.tries) for number, record in records if isinstance(record, Direct)]

    def test_it_is_given_up_with_the_reason(self) -> None:
        self.send(1)
        self.wait(10)
        self.send(2)
        effects = self.wait(35)
        [ended] = of(effects, DirectsEnded)
        self.assertEqual(ended.tokens, [1])
        self.assertEqual(ended.why, "it was not acknowledged in 45 s; it is up as far as this node knows")
        self.assertEqual(self.ended(self.wait(10)), [(2, False)])
        self.assertEqual(self.node.footprint()["direct_bytes"], 0)

    def test_the_reason_says_what_is_known(self) -> None:
        self.receive(1, presence("dora", 2, flags=PresenceFlags.LEAVING))
        self.send(1)
        [ended] = of(self.wait(45), DirectsEnded)
        self.assertIn("it is left", ended.why or "")
        self.send(2)
        for number in (1, 2, 3):
            self.handle(closing(number))
        [ended] = of(self.wait(45), DirectsEnded)
        self.assertIn("no link", ended.why or "")
        self.up(4, "fred")
        self.send(3, "fred")
        [ended] = of(self.wait(45), DirectsEnded)
        self.assertEqual(ended.why, "no record with a key of its run came in 45 s: nothing could be sealed")

    def test_who_was_never_heard_of_is_unreachable_at_once(self) -> None:
        self.assertEqual(
            of(self.send(1, "emil"), DirectsEnded), [DirectsEnded([1], "this node has never heard of it")]
        )
        self.assertEqual(self.node.footprint()["direct_destinations"], 0)

    def test_who_has_left_and_never_comes_back_is_unreachable_at_once(self) -> None:
        self.receive(1, presence("dora", 2, flags=PresenceFlags.EPHEMERAL | PresenceFlags.LEAVING))
        [ended] = of(self.send(1), DirectsEnded)
        self.assertIn("it has left", ended.why or "")
        self.assertEqual(self.node.footprint()["direct_destinations"], 0)

    def test_what_is_under_way_to_who_leaves_for_good_is_given_up_when_it_is_gone(self) -> None:
        self.send(1)
        self.receive(1, presence("dora", 2, flags=PresenceFlags.EPHEMERAL | PresenceFlags.LEAVING))
        self.assertEqual(of(self.wait(0.9), DirectsEnded), [])
        [ended] = of(self.wait(0.1), DirectsEnded)
        self.assertIn("it has left", ended.why or "")

    def test_or_acknowledged_with_its_last_breath(self) -> None:
        self.send(1)
        self.receive(1, presence("dora", 2, flags=PresenceFlags.EPHEMERAL | PresenceFlags.LEAVING))
        effects = self.receive(1, acknowledged("dora", "me", 1))
        self.assertEqual(of(effects, DirectsEnded), [DirectsEnded([1], None)])

    def test_a_link_that_comes_up_gets_it_at_once(self) -> None:
        self.send(1)
        self.send(2)
        self.wait(4)
        effects = self.up(4, "dora")
        self.assertEqual(self.directs(effects, 4), [("dora", 1, 1), ("dora", 2, 1)])
        self.assertEqual(self.over(self.wait(0.9)), [])
        self.assertEqual(self.over(self.wait(0.1)), [1, 1, 4, 4])  # the next best, too

    def test_without_any_link_it_waits_for_one(self) -> None:
        for number in (1, 2, 3):
            self.handle(closing(number))
        self.assertEqual(self.over(self.send(1)), [])
        self.up(4, "emil")
        self.assertEqual(self.over(self.wait(3)), [4] * 4)

    def test_a_run_it_knew_is_written_to_with_other_numbers(self) -> None:
        # A number that the run has seen would be acknowledged and not delivered.
        self.begin(direct_senders=1)
        self.open(4, "emil", epoch=2)
        self.receive(4, ALL)
        used = self.directs(self.send(1, "emil"), 4)
        self.receive(4, acknowledged("emil", "me", 1, destination_epoch=2))
        self.handle(closing(4))
        self.receive(1, presence("emil", interval=3_000_000))  # an old one
        self.send(2, "bert")
        self.receive(2, acknowledged("bert", "me", 2))
        self.send(3, "emil")
        self.receive(1, presence("emil", 2, epoch=2, interval=3_000_000))
        again = [number for _, number, _ in self.directs(self.wait(1), 1)]
        self.assertEqual(([number for _, number, _ in used], len(set(again))), ([1], 1))
        self.assertNotIn(1, again)

    def test_a_new_run_of_the_destination_gets_what_waits(self) -> None:
        for token in range(1, 5):
            self.send(token)
        self.receive(1, acknowledged("dora", "me", 1))
        self.receive(1, presence("dora", epoch=2, interval=3_000_000))
        effects = self.wait(1)
        self.assertEqual(self.directs(effects, 1), [("dora", 5, 5), ("dora", 6, 5), ("dora", 7, 5)])
        self.assertEqual(self.ended(self.receive(1, acknowledged("dora", "me", 5))), [])
        late = acknowledged("dora", "me", 5, destination_epoch=2)
        self.assertEqual(self.ended(self.receive(1, late)), [(2, True)])
        self.assertEqual(self.directs(self.send(9), 1), [("dora", 8, 6)])

    def test_also_over_a_new_link_and_each_of_it_once(self) -> None:
        for token in range(1, 5):
            self.send(token)
        effects = self.open(4, "dora", epoch=2)
        effects += self.receive(4, ALL)
        self.assertEqual([number for _, number, _ in self.directs(effects, 4)], [5])  # it asks for a record
        effects = self.receive(4, presence("dora", epoch=2, interval=3_000_000))
        self.assertEqual([number for _, number, _ in self.directs(effects, 4)], [5, 6, 7, 8])

    def test_and_so_does_what_is_sent_just_then(self) -> None:
        self.send(1)
        self.receive(1, presence("dora", epoch=2, interval=3_000_000))
        self.assertEqual([number for _, number, _ in self.directs(self.send(2), 1)], [3, 4])


class TestRelayedAgain(RepliesTestCase):
    """A relay passes no message on that its author repeats no more."""

    def test_what_was_acknowledged_cannot_be_sent_again_in_its_authors_name(self) -> None:
        old = [direct("bert", "dora", number) for number in (1, 2)]
        self.receive(2, *old)
        self.wait(60)
        self.assertEqual(self.over(self.receive(2, direct("bert", "dora", 3, oldest=3))), [1])
        before = self.verified
        self.assertEqual(self.strays(*old, direct("bert", "dora", 1, count=2), link=3), 3 * STRAY)
        self.assertEqual(self.verified, before)
        more = [direct("bert", "dora", 2, count=2), direct("bert", "anna", 1), direct("cleo", "dora", 1)]
        self.assertEqual(self.over(self.receive(3, *more)), [1, 1, 1, 1])

    def test_nor_what_is_of_or_for_an_earlier_run(self) -> None:
        self.receive(2, direct("bert", "dora", 5, oldest=5, epoch=2, destination_epoch=2))
        earlier = [direct("bert", "dora", 7, epoch=2), direct("bert", "dora", 7, destination_epoch=2)]
        self.assertEqual(self.strays(*earlier), 2 * STRAY)
        again = direct("bert", "dora", 6, oldest=1, epoch=2, destination_epoch=2)
        self.assertEqual(self.over(self.receive(2, again)), [1])
        self.assertEqual(self.strays(direct("bert", "dora", 4, epoch=2, destination_epoch=2)), STRAY)

    def test_a_destination_that_is_made_up_takes_no_place(self) -> None:
        for destination in ("ivan", "john"):
            self.receive(2, direct("bert", destination, 1))
        self.assertEqual(self.node.footprint()["relayed_pairs"], 0)

    def test_the_pair_that_is_idle_for_longest_is_forgotten(self) -> None:
        self.patch(relayed, "PAIRS_MOST", 2)
        for name in ("dora", "anna", "dora", "cleo"):
            self.receive(2, direct("bert", name, 5, oldest=5))
        self.assertEqual(self.node.footprint()["relayed_pairs"], 2)
        self.assertEqual(self.strays(direct("bert", "dora", 1)), STRAY)
        self.assertEqual(self.over(self.receive(2, direct("bert", "anna", 1))), [1])


class TestSlowLines(RepliesTestCase):
    """Repeats alone could fill a slow line, and then each wait would be longer than the one before."""

    def test_no_copy_goes_over_a_late_line_that_still_carries_the_message(self) -> None:
        self.late(1)
        self.assertEqual(self.over(self.receive(2, direct("bert", "dora", 1))), [1])
        again = [direct("bert", "dora", 1, tries=tries) for tries in (0, 1, 2)]
        self.assertEqual(self.over(self.receive(2, *again)), [])
        self.assertEqual(self.over(self.receive(3, direct("bert", "dora", 1))), [])
        self.assertEqual((self.count("late_directs"), self.node.footprint()["unread_copies"]), (4, 1))
        self.assertEqual(self.over(self.receive(2, direct("bert", "dora", 2))), [1])
        self.has_read(1)
        self.assertEqual(self.over(self.receive(2, direct("bert", "dora", 1))), [1])

    def test_and_no_more_of_one_author_than_its_share(self) -> None:
        # One member could fill the line with messages that are all new.
        self.late(1)
        body = join_entries([pack_entry(2, ["x" * 700])])
        many = [direct("bert", "dora", number, body=body) for number in range(1, 5)]
        self.assertEqual(self.over(self.receive(2, *many)), [1, 1])
        self.assertEqual(self.count("late_directs"), 2)
        large = direct("cleo", "dora", 1, body=join_entries([pack_entry(2, ["x" * 5000])]))
        self.assertEqual(self.over(self.receive(3, large)), [1])
        self.has_read(1)
        self.assertEqual(self.over(self.receive(2, *many[2:])), [1, 1])
        flow = self.link(1).flow
        flow.meter.read, flow.meter.rate = flow.sent, 1000.0
        flow.sent += 20_000  # it has read all, and is late again
        self.assertEqual(self.over(self.receive(2, *many)), [1, 1])
        self.assertEqual(self.node.footprint()["unread_copies"], 2)

    def test_of_many_that_wait_the_oldest_is_forgotten(self) -> None:
        self.patch(link_module, "COPIES_MOST", 2)
        self.late(1)
        self.receive(2, *(direct("bert", "dora", number) for number in (1, 2, 3)))
        self.assertEqual(self.node.footprint()["unread_copies"], 2)
        self.assertEqual(self.over(self.receive(2, direct("bert", "dora", 1))), [1])

    def test_nor_of_an_acknowledgement(self) -> None:
        self.late(1)
        self.assertEqual(self.acks(self.receive(1, direct("dora", "me", 1)), 1), [("dora", 1)])
        self.assertEqual(self.acks(self.receive(1, direct("dora", "me", 1, tries=1)), 1), [])
        self.receive(1, direct("dora", "bert", 1))
        back = [acknowledged("bert", "dora", 1), acknowledged("bert", "dora", 1, tries=1)]
        self.assertEqual(self.acks(self.receive(2, *back), 1), [("dora", 1)])
        self.has_read(1)
        self.assertEqual(self.acks(self.receive(1, direct("dora", "me", 1, tries=2)), 1), [("dora", 1)])

    def test_nor_of_an_own_message(self) -> None:
        self.late(1)
        self.assertEqual(self.over(self.send(1)), [1])
        effects = self.wait(4)
        self.assertEqual(
            (self.over(effects).count(1), len(self.over(effects))), (0, 2)
        )  # others may be quick
        self.has_read(1)
        self.assertIn(1, self.over(self.wait(8)))

    def test_a_question_for_the_record_of_its_destination_is_no_copy_of_a_message(self) -> None:
        self.late(1)
        asks = structs.replace(direct("bert", "dora", 1).record, sealed=b"")
        self.assertEqual(self.over(self.receive(2, signed_record(asks), direct("bert", "dora", 1))), [1, 1])

    def test_a_message_goes_over_a_late_line_once_the_record_that_it_asked_for_has_come(self) -> None:
        self.up(4, "emil")
        self.has_read(4)
        self.late(4)
        [asks] = self.direct_frames(self.send(1, "emil"), 4)
        [sends] = self.direct_frames(self.receive(4, presence("emil", interval=3_000_000)), 4)
        self.assertEqual((asks.sealed, asks.first, bool(sends.sealed), sends.first), (b"", 1, True, 1))

    def test_where_acknowledgements_take_long_a_message_is_repeated_more_rarely(self) -> None:
        self.send(1)
        self.wait(4)
        self.receive(1, acknowledged("dora", "me", 1))
        self.send(2)
        self.assertEqual(self.over(self.wait(3.9)), [])  # twice two seconds, the average so far
        self.assertEqual(len(self.over(self.wait(0.2))), 2)
        self.wait(30)
        self.receive(1, acknowledged("dora", "me", 2))
        self.send(3)
        longest = self.config.direct_timeout / 8
        self.assertEqual(self.over(self.wait(longest - 0.1)), [])
        self.assertEqual(len(self.over(self.wait(0.2))), 2)


class TestBounds(RepliesTestCase):
    REFUSED = "too many direct messages wait to be acknowledged"

    def refused(self, token: int, name: str = "dora", text: object = "psst") -> bool:
        """Send a message; whether it is refused at once."""
        ended = of(self.send(token, name, text), DirectsEnded)
        self.assertIn(ended, ([], [DirectsEnded([token], self.REFUSED)]))
        return bool(ended)

    def test_to_one_destination(self) -> None:
        self.begin(direct_window=2)
        self.assertEqual([self.refused(token) for token in (1, 2, 3)], [False, False, True])
        self.assertFalse(self.refused(4, "bert"))
        self.receive(1, acknowledged("dora", "me", 2))
        self.assertFalse(self.refused(5))

    def test_by_bytes_with_what_is_around(self) -> None:
        self.begin(direct_bytes=1500)
        self.assertEqual([self.refused(1, text="x" * 400), self.refused(2, "bert")], [False, False])
        self.assertEqual([self.refused(3), self.refused(4, "bert")], [True, True])
        self.wait(45)
        self.assertFalse(self.refused(5))

    def test_destinations(self) -> None:
        self.begin(direct_senders=2)
        self.assertEqual([self.refused(1, "anna"), self.refused(2, "bert")], [False, False])
        self.assertTrue(self.refused(3, "cleo"))
        self.assertFalse(self.refused(4, "bert"))
        self.receive(1, acknowledged("anna", "me", 1))
        self.assertFalse(self.refused(5, "cleo"))  # in place of Anna, for whom nothing waits
        self.assertEqual(self.node.footprint()["direct_destinations"], 2)

    def test_who_was_forgotten_and_is_written_to_again_takes_it_for_no_repeat(self) -> None:
        self.begin(direct_senders=1)
        for number in (1, 2, 3):
            self.send(number, "anna")
            self.receive(1, acknowledged("anna", "me", number))
        self.send(4, "bert")
        self.receive(2, acknowledged("bert", "me", 4))
        [(_, number, oldest)] = self.directs(self.send(5, "anna"), 1)
        self.assertGreater(number, 3)
        self.assertEqual(oldest, number)  # so that its window begins there, however far ahead that is

    def test_senders(self) -> None:
        self.begin(direct_senders=2)
        for name in ("anna", "bert"):
            self.receive(1, direct(name, "me", 1))
        # Nobody on the roster is forgotten: the third is not taken, and comes again.
        self.assertEqual(self.strays(direct("cleo", "me", 1)), ["dropped_directs"])
        self.assertEqual(self.node.footprint()["direct_senders"], 2)
        self.assertEqual(self.got(self.receive(1, direct("anna", "me", 1), direct("bert", "me", 1))), [])

    def test_a_sender_with_runs_without_end_pushes_nobody_out(self) -> None:
        self.begin(direct_senders=4)
        self.receive(1, direct("anna", "me", 1))
        for epoch in range(1, 20):
            self.receive(2, direct("bert", "me", 1, epoch=epoch))
        self.assertEqual(self.node.footprint()["direct_senders"], 2)
        self.assertEqual(self.got(self.receive(2, direct("anna", "me", 1))), [])


class TestForgottenSenders(RepliesTestCase):
    """Senders that are made up push nobody out whose messages a relay could repeat."""

    def setUp(self) -> None:
        super().setUp()
        self.begin(members_limit=8, direct_senders=16)

    def mint(self, first: int, last: int) -> None:
        """Made up members say that they leave, so that each makes room for the next, and write."""
        for number in range(first, last + 1):
            name = f"minted {number}"
            self.receive(2, presence(name, flags=PresenceFlags.LEAVING))
            self.receive(2, direct(name, "me", 1))

    def leave(self, name: str) -> SignedRecord:
        """Somebody leaves, and is forgotten; its last record but one."""
        before = presence(name, 2, flags=PresenceFlags.EPHEMERAL)
        self.receive(1, before)
        self.receive(1, presence(name, 3, flags=PresenceFlags.EPHEMERAL | PresenceFlags.LEAVING))
        self.wait(400)
        self.assertIsNone(self.state(name))
        return before

    def test_a_member_is_never_forgotten(self) -> None:
        self.receive(1, direct("dora", "me", 1))
        self.mint(1, 100)
        self.assertEqual(self.node.footprint()["direct_senders"], 16)
        effects = self.receive(1, direct("dora", "me", 1))
        self.assertEqual((self.got(effects), self.acks(effects, 1)), ([], [("dora", 1)]))

    def test_nor_a_neighbour_without_a_record(self) -> None:
        self.up(4, "emil")
        self.receive(4, direct("emil", "me", 1))
        self.mint(1, 100)
        self.assertEqual(self.got(self.receive(4, direct("emil", "me", 1))), [])

    def test_who_came_last_goes_first(self) -> None:
        # Somebody that has left is brought back by its old record, and repeated.
        self.receive(1, direct("dora", "me", 1))
        self.mint(1, 20)
        before = self.leave("dora")
        self.mint(21, 100)
        self.receive(2, before)
        self.assertEqual(self.got(self.receive(2, direct("dora", "me", 1))), [])
        self.assertEqual(self.got(self.receive(2, direct("dora", "me", 2))), [2])

    def test_of_those_known_for_ten_minutes_the_longest_idle_goes(self) -> None:
        self.begin(members_limit=8, direct_senders=6)
        records = {}
        for name in ("dora", "emil", "fred"):
            self.receive(1, presence(name, interval=3_000_000), direct(name, "me", 1))
        self.receive(1, direct("dora", "me", 2))
        for name in ("dora", "emil", "fred"):
            records[name] = self.leave(name)
        self.wait(600)
        self.mint(1, 3)
        self.receive(1, presence("gina"), direct("gina", "me", 1))  # all the minted are on the roster, too
        for name in ("dora", "fred", "emil"):
            self.receive(1, records[name])
        repeats = [direct("dora", "me", 2), direct("fred", "me", 1), direct("emil", "me", 1)]
        self.assertEqual(self.got(self.receive(1, *repeats)), [1])
        self.assertEqual(self.node.footprint()["direct_senders"], 6)


class TestTaking(RepliesTestCase):
    def test_it_is_delivered_and_acknowledged(self) -> None:
        effects = self.receive(1, direct("dora", "me", 1))
        self.assertEqual((self.got(effects), self.acks(effects, 1)), ([1], [("dora", 1)]))

    def test_the_link_is_named_only_if_it_is_the_senders(self) -> None:
        for name, link in (("anna", 1), ("dora", 0)):
            [deliver] = of(self.receive(1, direct(name, "me", 1)), Deliver)
            self.assertEqual((deliver.link, deliver.origin, deliver.first), (link, origin_of(name), 0))

    def test_a_repeat_is_acknowledged_again_over_the_link_it_came(self) -> None:
        self.receive(1, direct("dora", "me", 1))
        effects = self.receive(2, direct("dora", "me", 1))
        self.assertEqual(
            (self.got(effects), self.acks(effects, 2), self.acks(effects, 1)), ([], [("dora", 1)], [])
        )
        effects = self.receive(2, direct("dora", "me", 1, tries=7))
        self.assertIn(acknowledged("me", "dora", 1, tries=7), self.all_frames(effects, 2))

    def test_of_one_copy_that_anybody_can_send_again_one_a_second_and_link_is(self) -> None:
        copies = direct("dora", "me", 1), direct("dora", "me", 2)
        self.receive(1, *copies)
        effects = []
        for _ in range(30):
            effects += self.receive(2, copies[1]) + self.wait(0.1)
        self.assertEqual(self.acks(effects, 2), [("dora", 2)] * 3)
        # Neither other copies nor the same over another link have to wait for that.
        effects = self.receive(2, copies[1]) + self.receive(2, copies[1])
        self.assertEqual(self.acks(effects, 2), [("dora", 2)])
        effects = self.receive(2, direct("dora", "me", 1, tries=1)) + self.receive(3, copies[1])
        self.assertEqual((self.acks(effects, 2), self.acks(effects, 3)), ([("dora", 1)], [("dora", 2)]))

    def test_many_copies_are_not_limited(self) -> None:
        incoming = Incoming(1, self.now)
        copy = direct("dora", "me", 1).record
        assert isinstance(copy, Direct)
        for link in range(34):
            self.assertTrue(incoming.is_due(copy, link, self.now))
        self.assertEqual(len(incoming.copies), 32)
        self.assertEqual(
            [incoming.is_due(copy, link, self.now) for link in (33, 2, 0)], [False, False, True]
        )

    def test_what_came_over_another_way_is_acknowledged_over_that_and_the_best(self) -> None:
        effects = self.receive(3, direct("dora", "me", 1))
        self.assertEqual((self.acks(effects, 1), self.acks(effects, 3)), ([("dora", 1)], [("dora", 1)]))
        # If no other way is known, the acknowledgement goes back the way the message came.
        self.receive(2, presence("emil"))
        self.handle(closing(2))
        effects = self.receive(3, direct("emil", "me", 1))
        self.assertEqual((self.acks(effects, 1), self.acks(effects, 3)), ([], [("emil", 1)]))

    def test_numbers_far_ahead_are_dropped(self) -> None:
        self.assertEqual(
            self.strays(direct("dora", "me", WINDOW + 1), direct("dora", "me", 2**62)),
            ["dropped_directs"] * 2,
        )
        self.assertEqual(self.strays(direct("dora", "me", WINDOW)), [])  # it is held
        far = direct("dora", "me", 10**9, oldest=10**9)
        self.assertEqual(self.got(self.receive(1, far)), [10**9])
        self.assertEqual(self.node.footprint()["direct_held"], 0)

    def test_a_new_run_of_the_sender_begins_anew_and_the_old_one_is_over(self) -> None:
        self.receive(1, direct("dora", "me", 1))
        self.assertEqual(self.got(self.receive(1, direct("dora", "me", 1, epoch=2))), [1])
        self.assertEqual(self.strays(direct("dora", "me", 2)), STRAY)
        self.receive(1, presence("cleo", epoch=5))
        self.assertEqual(self.strays(direct("cleo", "me", 1, epoch=4)), STRAY)

    def test_for_another_run_of_this_node_it_is_dropped(self) -> None:
        other = [direct("dora", "me", 1, destination_epoch=epoch) for epoch in (0, 2)]
        self.assertEqual(self.strays(*other), STRAY * 2)

    def test_what_cannot_be_read_is_dropped_and_not_acknowledged(self) -> None:
        many = join_entries([pack_entry(2, [])] * (MAX_BATCH_COUNT + 1))
        for body in (b"\xc1", b"", many):
            self.assertEqual(self.strays(direct("dora", "me", 1, body=body)), STRAY)
        self.assertEqual(self.got(self.receive(1, direct("dora", "me", 1))), [1])


class TestOrder(RepliesTestCase):
    """Messages of one run come in the order they were sent; those whose turn has not come are held."""

    def held(self) -> tuple[int, int]:
        """How many messages are held, and how many bytes of them count."""
        footprint = self.node.footprint()
        return footprint["direct_held"], footprint["direct_held_bytes"]

    def large(self, number: int, name: str = "dora", size: int = 1000) -> SignedRecord:
        """A message of *size* bytes."""
        return direct(name, "me", number, body=join_entries([pack_entry(2, [number, "x" * size])]))

    def test_they_come_as_they_were_sent_whatever_came_first_and_each_once(self) -> None:
        got = []
        for number in (3, 1, 3, 2, 1, 2, 4):
            got += self.got(self.receive(1, direct("dora", "me", number)))
        self.assertEqual((got, self.held()), ([1, 2, 3, 4], (0, 0)))

    def test_a_message_is_acknowledged_when_it_is_delivered_and_not_before(self) -> None:
        for _ in range(2):
            effects = self.receive(1, direct("dora", "me", 2))
            self.assertEqual((self.got(effects), self.acks(effects, 1)), ([], []))
        effects = self.receive(1, direct("dora", "me", 1))
        self.assertEqual((self.got(effects), self.acks(effects, 1)), ([1, 2], [("dora", 2)]))

    def test_each_run_has_an_order_of_its_own(self) -> None:
        self.receive(1, direct("dora", "me", 2))
        self.assertEqual(self.got(self.receive(2, direct("bert", "me", 1))), [1])

    def test_those_that_were_given_up_are_not_waited_for(self) -> None:
        self.receive(1, direct("dora", "me", 3), direct("dora", "me", 5))
        self.assertEqual(self.got(self.receive(1, direct("dora", "me", 4, oldest=3))), [3, 4, 5])
        self.receive(1, direct("dora", "me", 7), direct("dora", "me", 9))
        self.assertEqual(self.got(self.receive(1, direct("dora", "me", 9, oldest=9))), [9])
        self.assertEqual(self.held(), (0, 0))

    def test_without_room_they_wait_unacknowledged(self) -> None:
        self.handle(DirectRoom(False))
        effects = self.receive(1, direct("dora", "me", 1), direct("dora", "me", 2), direct("dora", "me", 1))
        self.assertEqual((self.got(effects), self.acks(effects, 1), self.held()[0]), ([], [], 2))
        effects = self.handle(DirectRoom(True))
        self.assertEqual((self.got(effects), self.acks(effects, 1)), ([1, 2], [("dora", 2)]))
        self.assertEqual(self.got(self.receive(1, direct("dora", "me", 3))), [3])

    def test_what_was_delivered_is_acknowledged_again_without_room_too(self) -> None:
        self.receive(1, direct("dora", "me", 1))
        self.handle(DirectRoom(False))
        self.assertEqual(self.acks(self.receive(1, direct("dora", "me", 1)), 1), [("dora", 1)])

    def test_many_are_delivered_in_parts_so_that_the_consumers_can_say_that_they_are_full(self) -> None:
        self.handle(DirectRoom(False))
        self.receive(1, *(self.large(number) for number in range(1, 201)))
        effects = self.handle(DirectRoom(True))
        first = len(self.got(effects))
        self.assertTrue(0 < first < 80, first)
        self.assertEqual(self.got(self.handle(DirectRoom(False))), [])
        self.assertEqual(self.got(self.wait(1)), [])
        effects = self.handle(DirectRoom(True)) + self.wait(0.1)
        self.assertEqual(self.got(effects), list(range(first + 1, 201)))

    def test_the_bytes_of_those_that_are_held_are_bounded(self) -> None:
        self.begin(direct_held_bytes=4500)
        self.handle(DirectRoom(False))
        self.receive(1, *(self.large(number) for number in (1, 2, 3)))
        self.assertEqual(self.count("dropped_directs"), 1)
        self.assertEqual(self.held()[0], 2)
        self.assertLessEqual(self.held()[1], 4500)
        # The sender that waits for longest makes room for another, and repeats its messages.
        self.receive(2, self.large(1, "bert"))
        self.assertEqual(self.held()[0], 1)
        effects = self.handle(DirectRoom(True))
        self.assertEqual(self.got(effects), [1])
        self.assertEqual(self.got(self.receive(1, self.large(1), self.large(2))), [1, 2])
        self.assertEqual(self.strays(self.large(4, size=6000)), ["dropped_directs"])

    def test_the_next_is_delivered_though_those_behind_it_fill_all_room(self) -> None:
        self.begin(direct_held_bytes=4500)
        self.receive(1, *(self.large(number) for number in (2, 3)))
        self.assertEqual(self.strays(self.large(4), link=1), ["dropped_directs"])
        self.assertEqual(self.got(self.receive(1, self.large(1))), [1, 2, 3])

    def test_a_newer_copy_replaces_the_one_that_is_held(self) -> None:
        self.receive(1, direct("dora", "me", 2, key=9))
        self.receive(1, direct("dora", "me", 2))
        self.assertEqual(self.held()[0], 1)
        self.assertEqual(self.got(self.receive(1, direct("dora", "me", 1))), [1, 2])

    def test_one_that_does_not_open_in_its_turn_is_dropped_and_comes_again(self) -> None:
        self.receive(1, direct("dora", "me", 2, key=9), direct("dora", "me", 3))
        self.assertEqual(self.got(self.receive(1, direct("dora", "me", 1))), [1])
        self.assertEqual(self.got(self.receive(1, direct("dora", "me", 2))), [2, 3])

    def test_a_new_run_of_the_sender_drops_those_of_the_old_one(self) -> None:
        self.receive(1, direct("dora", "me", 2))
        self.assertEqual(self.got(self.receive(1, direct("dora", "me", 1, epoch=2))), [1])
        self.assertEqual(self.held(), (0, 0))

    def test_a_sender_that_is_forgotten_leaves_nothing(self) -> None:
        self.begin(members_limit=8, direct_senders=1)
        ends = PresenceFlags.EPHEMERAL | PresenceFlags.LEAVING
        self.receive(1, presence("emil"), direct("emil", "me", 2), presence("emil", 2, flags=ends))
        self.assertEqual(self.held()[0], 1)
        self.wait(400)
        self.assertIsNone(self.state("emil"))
        self.assertEqual(self.got(self.receive(2, direct("bert", "me", 1))), [1])
        self.assertEqual(self.held(), (0, 0))

    def test_the_acknowledgement_goes_the_best_way_if_the_link_of_the_message_is_gone(self) -> None:
        self.receive(3, direct("dora", "me", 2))
        self.handle(closing(3))
        self.handle(LinkClosed(3))
        effects = self.receive(2, direct("dora", "me", 1))
        self.assertEqual(self.acks(effects, 1), [("dora", 2)])


class TestRelaying(RepliesTestCase):
    """A relay verifies messages and hands them on; it keeps only which link each came over."""

    def test_it_goes_on_towards_its_destination(self) -> None:
        before = self.node.footprint()
        effects = self.receive(2, direct("bert", "dora", 1))
        self.assertEqual((self.over(effects), self.got(effects)), ([1], []))
        [frame] = of(self.all_frames(effects, 1), SignedRecord)
        self.assertEqual(frame.hops, 1)
        effects = self.receive(1, acknowledged("dora", "bert", 1))
        self.assertEqual(self.acks(effects, 2), [("bert", 1)])
        # Only the link that the message came over is kept, for a while.
        footprint = {**before, "direct_first_arrivals": 1, "relayed_pairs": 1}
        self.assertEqual((self.node.footprint(), self.over(self.wait(100))), (footprint, []))

    def test_what_acknowledges_it_goes_back_as_it_came_first(self) -> None:
        self.receive(3, direct("bert", "dora", 1))
        self.receive(2, direct("bert", "dora", 1), direct("bert", "dora", 2))
        effects = self.receive(1, acknowledged("dora", "bert", 1), acknowledged("dora", "bert", 2))
        self.assertEqual((self.acks(effects, 3), self.acks(effects, 2)), ([("bert", 1)], [("bert", 2)]))
        # Each repeat of a message may have come another way.
        self.receive(1, direct("bert", "cleo", 1, tries=1))
        effects = self.receive(3, acknowledged("cleo", "bert", 1), acknowledged("cleo", "bert", 1, tries=1))
        self.assertEqual((self.acks(effects, 2), self.acks(effects, 1)), ([("bert", 1)], [("bert", 1)]))

    def test_unless_it_cannot(self) -> None:
        self.receive(3, direct("bert", "dora", 1))
        effects = self.receive(3, acknowledged("dora", "bert", 1))  # that is where it comes from
        self.assertEqual((self.acks(effects, 3), self.acks(effects, 2)), ([], [("bert", 1)]))
        self.handle(closing(3))
        effects = self.receive(1, acknowledged("dora", "bert", 1))
        self.assertEqual(self.acks(effects, 2), [("bert", 1)])

    def test_nor_with_many_hops_behind_it(self) -> None:
        self.receive(3, direct("bert", "dora", 1))
        ack = acknowledged("dora", "bert", 1)
        for hops, way in ((DETOURS - 1, 3), (DETOURS, 2)):  # what goes in a circle ends
            effects = self.receive(1, structs.replace(ack, hops=hops))
            self.assertEqual([self.acks(effects, number) for number in (way, 5 - way)], [[("bert", 1)], []])

    def test_what_is_sent_again_goes_on_over_another_way(self) -> None:
        self.receive(3, presence("dora"))
        for frame in (direct("bert", "dora", 1, tries=1), acknowledged("bert", "dora", 1, tries=1)):
            effects = self.receive(2, frame)
            self.assertEqual(
                [len(of(self.all_frames(effects, number), SignedRecord)) for number in (1, 3)], [0, 1]
            )

    def test_it_never_goes_back(self) -> None:
        self.assertEqual(self.strays(direct("bert", "dora", 1), link=1), STRAY)

    def test_it_stops_after_so_many_hops(self) -> None:
        last = structs.replace(direct("bert", "dora", 1), hops=MOST_HOPS - 1)
        self.assertEqual(self.over(self.receive(2, last)), [1])
        self.assertEqual(self.strays(structs.replace(last, hops=MOST_HOPS)), STRAY)

    def test_without_a_way_it_is_dropped(self) -> None:
        self.assertEqual(self.strays(direct("bert", "emil", 1)), STRAY)

    def test_nor_does_it_wait_for_a_link_that_reads_slowly(self) -> None:
        self.begin(link_queue_bytes=500)
        self.accept(1)
        self.send(1, "anna", "x" * 600)
        self.assertEqual(self.strays(direct("bert", "dora", 1)), STRAY)


class TestAttacks(RepliesTestCase):
    def test_a_false_origin(self) -> None:
        for target in ("me", "dora"):
            self.begin()
            false = direct("bert", target, 1)
            record = structs.replace(false.record, origin=origin_of("cleo"))
            effects = self.receive(2, structs.replace(false, record=record))
            self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])
            self.assertEqual((self.got(effects), self.over(effects)), ([], []))

    def test_another_body(self) -> None:
        message = direct("bert", "me", 1)
        changed = structs.replace(message, array=message.array[:-1] + b"\x02")
        self.assertEqual(self.closed(self.receive(2, changed)), [(2, Reason.SIGNATURE)])

    def test_a_forged_acknowledgement(self) -> None:
        self.send(1)
        forged = acknowledged("anna", "me", 1)
        record = structs.replace(forged.record, destination=origin_of("dora"))
        effects = self.receive(1, structs.replace(forged, record=record))
        self.assertEqual((self.closed(effects), self.ended(effects)), ([(1, Reason.SIGNATURE)], []))

    def test_an_acknowledgement_of_somebody_else(self) -> None:
        self.send(1)
        self.assertEqual(self.receive(1, acknowledged("anna", "me", 1)), [])
        self.assertEqual(self.receive(1, acknowledged("dora", "me", 2)), [])
        self.assertEqual(self.receive(1, acknowledged("dora", "me", 1, epoch=2)), [])
        self.assertEqual(self.receive(1, acknowledged("dora", "me", 1, destination_epoch=2)), [])
        self.assertEqual(self.ended(self.receive(1, acknowledged("dora", "me", 1))), [(1, True)])

    def test_a_replay(self) -> None:
        self.receive(1, direct("dora", "me", 1))
        effects = self.receive(2, direct("dora", "me", 1))
        self.assertEqual(self.got(effects), [])
        self.make(epoch=2)
        self.up(1, "anna")
        self.receive(1, presence("dora"))
        self.assertEqual(self.strays(direct("dora", "me", 1), link=1), STRAY)

    def test_what_this_node_sent_itself(self) -> None:
        self.assertEqual(self.strays(direct("me", "dora", 1), direct("me", "me", 1)), STRAY * 2)

    def test_of_who_is_unknown(self) -> None:
        strangers = [direct("a made-up name", "me", 1), direct("a made-up name", "dora", 1)]
        self.assertEqual(self.strays(*strangers, acknowledged("a made-up name", "me", 1)), STRAY * 3)
        # A neighbour that has sent no presence yet is known by its link.
        self.up(4, "emil")
        self.assertEqual(self.got(self.receive(4, direct("emil", "me", 1))), [1])

    def test_a_flood_costs_no_more_than_its_rate(self) -> None:
        self.begin(reverse_burst=10, reverse_rate=5.0)
        self.verified = 0
        for number in range(1, 101):
            self.receive(2, direct("bert", "me", number))
        self.assertEqual((self.verified, self.count("dropped_directs")), (10, 90))
        self.assertEqual(self.got(self.receive(3, direct("cleo", "me", 1))), [1])

    def test_a_timer_too_many_does_no_harm(self) -> None:
        self.handle(SendDirects((SendDirect(1, origin_of("dora"), b"x"),)))
        self.assertEqual(self.over(self.fire(Timer.REPLIES, self.now)), [])


class TestEncrypted(EncryptedTestCase):
    """Over TLS a link proves who its peer is: no signature of the peer is checked that says no more."""

    def test_what_the_peer_says_to_this_node_is_believed(self) -> None:
        self.send(1, "bert")
        self.verified = 0
        self.assertEqual(self.got(self.receive(2, forged(direct("bert", "me", 1)))), [1])
        self.assertEqual(self.ended(self.receive(2, forged(acknowledged("bert", "me", 1)))), [(1, True)])
        self.assertEqual(self.verified, 0)

    def test_what_it_hands_on_or_is_to_be_handed_on_is_not(self) -> None:
        for frame in (direct("dora", "me", 1), direct("bert", "dora", 1), acknowledged("bert", "dora", 1)):
            self.begin()
            effects = self.receive(2, forged(frame))
            self.assertEqual((self.closed(effects), self.over(effects)), ([(2, Reason.SIGNATURE)], []))

    def test_what_the_peer_says_is_limited_only_if_it_leads_to_nothing(self) -> None:
        self.begin(reverse_burst=10, reverse_rate=5.0)
        for number in range(1, 101):
            self.send(number, "bert")
            self.assertEqual(self.got(self.receive(2, direct("bert", "me", number))), [number])
            self.assertEqual(
                self.ended(self.receive(2, acknowledged("bert", "me", number))), [(number, True)]
            )
        self.assertEqual(self.count("dropped_directs"), 0)
        for _ in range(50):
            self.receive(2, direct("bert", "me", 100), acknowledged("bert", "me", 100))
        self.assertEqual(self.count("dropped_directs"), 90)
