"""Presences: the own record, the records of others, and the links that they go over."""

from __future__ import annotations

import hashlib
from random import Random

from tests.core.membership_case import MembershipTestCase
from tests.core.network import (
    batch,
    closing,
    forged,
    have,
    key_of,
    local_node,
    of,
    origin_of,
    presence,
    prune,
    records,
    roster,
    signature_of,
    signed_record,
    suspect,
    want,
)
from tests.core.node_case import ALL, HOST, contact
from twisted_mesh.core import admission
from twisted_mesh.core.broadcast import trees
from twisted_mesh.core.events import (
    Accepted,
    Effect,
    EpochConflict,
    KeyInUse,
    Leaving,
    LinkClosed,
    MemberChanged,
    Send,
    Timer,
)
from twisted_mesh.core.handshake import Profile
from twisted_mesh.core.link import READ_SO_FAR
from twisted_mesh.core.membership.roster import State
from twisted_mesh.errors import Reason
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Have, HaveEntry, SignedBatch, Snapshot
from twisted_mesh.wire.fields import MAX_NUMBER, Kind
from twisted_mesh.wire.framing import HANDSHAKE_FRAME_BYTES
from twisted_mesh.wire.link import Ping, Pong
from twisted_mesh.wire.membership import (
    FORGOTTEN,
    MAX_INTERVAL,
    KeepVote,
    Presence,
    PresenceFlags,
    Purpose,
    Records,
    Role,
    RosterEntry,
)
from twisted_mesh.wire.membership import Roster as RosterFrame
from twisted_mesh.wire.signed import SignedRecord


class TestOwnRecord(MembershipTestCase):
    """A node says that it is there: at the start, now and then, and at the end."""

    manner: dict[str, object] = {
        "address": (HOST, 4444),
        "profile": Profile(label="kitchen", tags={"floor": "1"}),
        "retention": 600,
    }

    def own(self, effects: list[object], number: int = 1) -> Presence:
        """The own presence that is sent over a link."""
        [record] = self._records(effects, number)  # type: ignore[arg-type]
        assert isinstance(record, Presence)
        return record

    def test_it_is_said_when_the_first_link_is_up(self) -> None:
        effects = self.up(1, "anna")
        told = ((HOST, 4444), 0, "kitchen", {"floor": "1"}, 600, 30_000, 0, b"", 0, key_of("me"))
        expected = Presence(origin_of("me"), 1, 1, 0, *told)
        self.assertEqual(self.own(effects), expected)
        self.assertEqual(of(effects, MemberChanged), [])

    def test_it_is_signed(self) -> None:
        [frame] = of(self.all_frames(self.up(1, "anna"), 1), SignedRecord)
        self.assertEqual(frame, signed_record(frame.record))
        self.assertEqual(frame.hops, 0)

    def test_without_links_nothing_is_said(self) -> None:
        self.assertEqual(self.wait(1000), [])

    def test_it_is_in_the_roster_for_whoever_links_later(self) -> None:
        self.up(1, "anna")
        self.wait(2)
        effects = self.open(2, "bert")
        self.assertEqual(self.told(effects, 2), {"me": (1, 2000)})
        self.assertEqual(self.presences(effects + self.receive(2, ALL), 2), [])

    def test_the_first_is_followed_by_another_when_the_links_have_settled(self) -> None:
        # Most nodes learn of the first record from rosters, over links that have been moved since.
        self.up(1, "anna")
        self.assertEqual(self.presences(self.wait(4.9), 1), [])
        self.assertEqual(self.presences(self.wait(0.1), 1), [("me", 2, 0)])
        self.assertEqual(self.presences(self.wait(29.9), 1), [])
        self.assertEqual(self.presences(self.wait(3), 1), [("me", 3, 0)])

    def test_it_is_renewed_with_what_was_published_by_then(self) -> None:
        self.make(presence_settle=1e6)
        self.up(1, "anna")
        self.publish("a", "b")
        self.assertEqual(self.presences(self.wait(29), 1), [])
        self.assertEqual(self.presences(self.wait(4), 1), [("me", 2, 2)])

    def test_it_tells_that_a_key_was_made_for_this_run(self) -> None:
        for ephemeral, flags in ((True, PresenceFlags.EPHEMERAL), (False, 0)):
            self.manner = {"ephemeral": ephemeral}
            self.make()
            self.assertEqual(self.own(self.up(1, "anna")).flags, flags)

    def test_the_interval_grows_with_the_number_of_members(self) -> None:
        # So all members together send no more than presence_rate.
        self.star("anna", presence_rate=0.1, presence_settle=1e6)
        for counter, name in enumerate(("bert", "cleo", "dora"), 1):
            self.receive(1, presence(name, interval=10**6))
            own = self.own(self.wait(40), 1)
            self.assertEqual(
                (own.counter, own.interval), (counter + 1, max(30_000, (counter + 1) * 10_000))
            )

    def test_the_next_comes_when_the_last_one_said(self) -> None:
        # A node that joins is alone when it first speaks. By the members that it learns of then it would be
        # for longer than the others wait.
        self.make(presence_rate=0.1, presence_settle=1e6)
        self.up(1, "anna")
        names = [f"author {number}" for number in range(30)]
        self.receive(1, roster(*(presence(name, interval=MAX_INTERVAL) for name in names)))
        self.assertEqual(self.presences(self.wait(29.9), 1), [])
        own = self.own(self.wait(0.1))
        self.assertEqual((own.counter, own.interval), (2, 310_000))

    def test_the_interval_has_an_end(self) -> None:
        self.make(presence_interval=10.0**6)
        self.assertEqual(self.own(self.up(1, "anna")).interval, MAX_INTERVAL)

    def test_at_the_end_it_says_so(self) -> None:
        self.star("anna", "bert")
        effects = self.handle(Leaving())
        for number in (1, 2):
            own = self.own(effects, number)
            self.assertEqual((own.counter, own.flags), (2, PresenceFlags.LEAVING))

    def test_who_leaves_for_good_says_that_its_key_is_used_no_more(self) -> None:
        self.star("anna")
        own = self.own(self.handle(Leaving(retires=True)), 1)
        self.assertEqual(own.flags, PresenceFlags.LEAVING | PresenceFlags.EPHEMERAL)

    def test_then_it_says_no_more(self) -> None:
        self.star("anna", "bert")
        self.receive(2, presence("bert"))
        effects = self.handle(Leaving())
        effects += self.receive(2, suspect("bert", "me", 2))
        effects += self.wait(100)
        effects += self.handle(Leaving())
        self.assertEqual([counter for _, counter, _ in self.presences(effects, 1)], [2])

    def test_who_was_never_there_does_not_say_so(self) -> None:
        self.assertEqual(self.handle(Leaving()), [])


class TestFloors(MembershipTestCase):
    """A record says which of its author's runs are over for good."""

    def floor(self, effects: list[object]) -> int:
        """The floor in the last own record that is sent over the first link."""
        signed = of(self.all_frames(effects, 1), SignedRecord)[-1]  # type: ignore[arg-type]
        assert isinstance(signed.record, Presence)
        return signed.record.floor

    def test_it_is_the_lowest_run_of_which_others_may_hold_messages(self) -> None:
        self.manner = {"earlier": ((3, 10.0), (5, 100.0))}
        self.make(epoch=9)
        self.assertEqual(self.floor(self.up(1, "anna")), 3)
        self.assertEqual(self.floor(self.wait(40)), 5)
        self.assertEqual(self.floor(self.wait(90)), 9)

    def test_if_earlier_runs_are_unknown_there_is_none(self) -> None:
        self.assertEqual(self.floor(self.up(1, "anna")), 0)

    def test_a_settled_node_that_lacked_something_of_a_lower_run_is_told_a_gap(self) -> None:
        self.up(1, "anna")
        self.receive(1, roster(), batch("dora", 1, epoch=3), batch("dora", 3, epoch=3))
        effects = self.receive(1, presence("dora", 1, epoch=5, floor=5))
        self.assertEqual((self.gaps(effects), self.delivered(effects)), ([(2, 2)], [(3, [3])]))
        effects = self.receive(1, batch("dora", 4, epoch=3), have("dora", 1, 9, epoch=4))
        self.assertEqual((self.delivered(effects), self.wants(effects, 1)), ([], []))
        self.assertEqual(self.node.footprint()["open_streams"], 0)

    def test_a_floor_above_the_run_of_its_record_voids_no_message_of_that_run(self) -> None:
        self.up(1, "anna")
        self.receive(1, roster(), presence("dora", 1, epoch=5, floor=9))
        self.assertEqual(self.delivered(self.receive(1, batch("dora", 1, epoch=5))), [(1, [1])])

    def test_a_run_below_a_floor_of_the_own_key_is_replaced_with_what_nobody_has_of_it(self) -> None:
        for floor, unsent in ((7, 0), (8, 1)):
            self.make(epoch=7)
            self.up(1, "anna")
            self.receive(1, roster())
            self.publish("a")
            effects = self.receive(
                1, presence("me", 1, epoch=9, floor=floor, flags=PresenceFlags.LEAVING)
            ) + self.wait(1)
            self.assertEqual(of(effects, EpochConflict), [EpochConflict(9)])
            self.assertEqual(len(self.node.next_run(local_node("me", 10), Random(1))[1]), unsent)


class TestGuest(MembershipTestCase):
    """A guest relays like a member, and says that it is there only when it publishes."""

    manner: dict[str, object] = {"profile": Profile(role=Role.GUEST)}

    def setUp(self) -> None:
        super().setUp()
        self.star("anna", "bert")

    def test_it_is_silent_until_it_publishes(self) -> None:
        effects = self.wait(200)
        self.assertEqual(self.presences(effects, 1), [])
        self.assertEqual(self.told(self.open(3, "cleo"), 3), {})

    def test_its_record_goes_before_its_first_batch(self) -> None:
        frames = self.all_frames(self.publish("a"), 1)
        [signed, published] = frames
        assert isinstance(signed, SignedRecord) and isinstance(signed.record, Presence)
        self.assertEqual((signed.record.role, signed.record.sequence), (Role.GUEST, 0))
        self.assertIsInstance(published, SignedBatch)
        self.assertEqual(self.presences(self.publish("b"), 1), [])
        self.assertEqual(self.presences(self.wait(33), 1), [("me", 2, 2)])

    def test_with_nobody_on_its_roster_it_looks_at_nothing(self) -> None:
        self.receive(1, presence("dora", role=Role.GUEST))
        self.wait(160)
        self.assertEqual(len(self.node.roster), 0)
        self.assertNotIn(Timer.ROSTER, self.timers)
        self.receive(1, presence("dora", 2))
        self.assertIn(Timer.ROSTER, self.timers)

    def test_it_is_on_no_roster(self) -> None:
        self.publish("a")
        self.assertEqual(self.told(self.open(3, "cleo"), 3), {})
        self.make()
        self.star("anna")
        self.receive(1, presence("dora", role=Role.GUEST), presence("emil"))
        self.assertEqual(list(self.told(self.open(2, "bert"), 2)), ["emil"])

    def test_it_relays_the_records_of_others(self) -> None:
        self.assertEqual(self.presences(self.receive(1, presence("dora")), 2), [("dora", 1, 0)])

    def test_it_accuses_nobody(self) -> None:
        self.publish("a")
        self.receive(2, presence("anna"))
        self.assertEqual(self.suspicions(self.handle(closing(1, Reason.LOST)), 2), [])


class TestOthers(MembershipTestCase):
    """Each author's newest record is taken, and goes on over the author's tree."""

    def setUp(self) -> None:
        super().setUp()
        self.star("anna", "bert", "cleo")

    def test_what_is_new_goes_to_all_but_whom_it_came_from_one_hop_further(self) -> None:
        effects = self.receive(1, presence("dora", 1))
        [send] = [send for send in of(effects, Send) if isinstance(send.frame, SignedRecord)]
        assert isinstance(send.frame, SignedRecord)
        self.assertEqual((send.links, send.frame), ([2, 3], presence("dora", 1).relayed()))
        self.assertEqual(self.changed(effects), ["dora"])

    def test_the_newest_counts_by_epoch_then_counter(self) -> None:
        order = [(1, 1), (1, 2), (1, 9), (2, 1), (2, 3)]
        for epoch, counter in order:
            effects = self.receive(1, presence("dora", counter, epoch=epoch))
            self.assertEqual(self.presences(effects, 2), [("dora", counter, 0)])
        for epoch, counter in order[:-1]:
            effects = self.receive(1, presence("dora", counter, epoch=epoch))
            self.assertEqual(of(effects, Send), [])
        self.assertEqual(self.entry("dora").rank, (2, 3))
        self.assertEqual(self.count("old_records"), len(order) - 1)

    def test_the_same_again_prunes_and_goes_no_further(self) -> None:
        self.receive(1, presence("dora", 1))
        effects = self.receive(2, presence("dora", 1))
        self.assertEqual(self.prunes(effects, 2), ["dora"])
        self.assertEqual(self.presences(effects, 3), [])
        self.assertEqual(self.prunes(self.receive(2, presence("dora", 1)), 2), [])

    def test_the_same_again_from_the_same_link_prunes_nothing(self) -> None:
        self.receive(1, presence("dora", 1))
        self.assertEqual(self.prunes(self.receive(1, presence("dora", 1)), 1), [])

    def test_an_older_one_from_a_slower_link_prunes_that_link(self) -> None:
        self.receive(1, presence("dora", 2))
        effects = self.receive(2, presence("dora", 1))
        self.assertEqual(self.prunes(effects, 2), ["dora"])
        self.assertEqual(self.prunes(self.receive(2, presence("dora", 1)), 2), [])

    def test_also_if_the_newest_came_long_ago(self) -> None:
        self.receive(1, presence("dora", 2))
        self.wait(trees.REMEMBERED)
        self.receive(1, presence("emil", 1))  # what came first is forgotten when something comes
        self.assertEqual(self.prunes(self.receive(2, presence("dora", 1)), 2), ["dora"])

    def test_where_an_exchange_brought_it_first_all_links_but_the_next_are_pruned(self) -> None:
        # Otherwise a node that asks for messages in exchanges gets each record over every link.
        self.open(9, "emil", purpose=Purpose.EXCHANGE)
        self.receive(9, ALL, roster(presence("dora", 2)))
        pruned = [self.prunes(self.receive(number, presence("dora", 2)), number) for number in (1, 2, 3)]
        self.assertEqual(pruned, [[], ["dora"], ["dora"]])
        self.receive(9, presence("dora", 2))
        self.assertEqual(self.prunes(self.receive(1, presence("dora", 2)), 1), [])

    def late(self, number: int) -> None:
        """Let a peer be asked when it has read so many bytes that it needs long."""
        flow = self.link(number).flow
        flow.sent += 20_000
        flow.meter.sent(flow.sent, self.now)

    def has_read(self, number: int) -> list[Effect]:
        """Let that peer say that it has read them."""
        return self.receive(number, Pong(READ_SO_FAR))

    def test_a_peer_that_is_late_to_read_is_sent_the_newest_when_it_has_read(self) -> None:
        self.late(2)
        effects = self.receive(1, presence("dora", 1), presence("dora", 2))
        effects += self.receive(3, presence("emil", 7))
        self.assertEqual((self.presences(effects, 2), len(self.presences(effects, 3))), ([], 2))
        self.assertEqual(self.node.footprint()["owed_records"], 2)
        self.assertEqual(self.presences(self.has_read(2), 2), [("dora", 2, 0), ("emil", 7, 0)])
        self.assertEqual(self.node.footprint()["owed_records"], 0)

    def test_one_at_a_time_if_it_is_late_again(self) -> None:
        self.late(2)
        self.receive(1, presence("dora", 2), presence("emil", 7))
        self.link(2).flow.sent += 10**9
        effects = self.has_read(2)
        self.assertEqual(self.presences(effects, 2), [("dora", 2, 0)])
        self.assertEqual(self.presences(self.has_read(2), 2), [("emil", 7, 0)])

    def test_but_none_that_it_wants_no_more_or_has_meanwhile(self) -> None:
        self.late(2)
        self.receive(1, presence("dora", 1), presence("emil", 7), presence("fred", 1))
        self.receive(2, prune("dora"), presence("emil", 7))
        self.assertEqual(self.presences(self.has_read(2), 2), [("fred", 1, 0)])

    def test_nor_one_of_an_author_that_was_forgotten(self) -> None:
        self.late(2)
        self.receive(1, presence("dora", 1))
        self.node.roster._authors.pop(origin_of("dora"))
        self.assertEqual(self.presences(self.has_read(2), 2), [])

    def test_and_an_old_one_with_its_age(self) -> None:
        self.late(2)
        self.receive(1, presence("dora", 1))
        self.wait(40)
        effects = self.has_read(2)
        self.assertEqual(self.presences(effects, 2), [])
        told = [entry.age for frame in of(self.all_frames(effects, 2), Records) for entry in frame.entries]
        self.assertEqual(told, [40_000])

    def test_no_more_are_owed_than_fit(self) -> None:
        self.star("anna", "bert", "cleo", members_limit=4)
        self.late(2)
        self.receive(1, *(presence(f"member {number}") for number in range(20)))
        self.assertLessEqual(self.node.footprint()["owed_records"], 8)

    def test_its_own_goes_to_all_if_all_have_pruned_it(self) -> None:
        # Each may have had the record before from another, and one of them from an exchange.
        self.receive(2, prune("me"))
        effects = self.wait(40)
        self.assertEqual(self.presences(effects, 2), [])
        for number in (1, 3):
            self.receive(number, prune("me"))
        effects = self.wait(40)
        told = [{name for name, _, _ in self.presences(effects, number)} for number in (1, 2, 3)]
        self.assertEqual(told, [{"me"}] * 3)

    def test_its_own_goes_at_once(self) -> None:
        self.late(2)
        self.assertEqual({name for name, _, _ in self.presences(self.wait(40), 2)}, {"me"})

    def test_what_is_not_news_is_not_verified(self) -> None:
        self.receive(1, presence("dora", 2))
        verified = self.verified
        self.receive(2, presence("dora", 2), presence("dora", 1))
        self.assertEqual(self.verified, verified)

    def test_whoever_has_it_already_is_not_sent_it(self) -> None:
        self.receive(1, presence("dora", 2))
        effects = self.open(4, "emil")
        self.assertEqual(self.told(effects, 4)["dora"][0], 2)
        # Its own roster may be on its way, with newer records.
        self.receive(4, ALL, roster(presence("fred", 5)))
        effects = self.receive(1, presence("dora", 3), presence("fred", 5), presence("fred", 6))
        self.assertEqual(self.presences(effects, 4), [("dora", 3, 0), ("fred", 6, 0)])

    def test_the_tree_stands_before_the_first_message(self) -> None:
        # One PRUNE for each redundant link, and no copy of a payload from then on.
        self.receive(1, presence("dora", 1))
        self.receive(2, prune("dora"))
        effects = self.receive(3, presence("dora", 1))
        self.assertEqual(self.prunes(effects, 3), ["dora"])
        effects = self.receive(1, batch("dora", 1), batch("dora", 2))
        for number in (2, 3):
            self.assertEqual(self.sent(effects, number), [(1, 1), (2, 2)] if number == 3 else [])
        self.assertEqual(self.presences(self.receive(1, presence("dora", 2)), 2), [])

    def test_own_ones_that_come_back_prune(self) -> None:
        [own] = of(self.all_frames(self.wait(33), 1), SignedRecord)
        effects = self.receive(2, own.relayed())
        self.assertEqual(self.prunes(effects, 2), ["me"])
        self.assertEqual(self.prunes(self.receive(2, own), 2), [])
        self.assertEqual(of(effects, KeyInUse) + of(effects, MemberChanged), [])

    def test_own_ones_of_an_earlier_run_are_nothing(self) -> None:
        self.make(epoch=5)
        self.up(1, "anna")
        effects = self.receive(1, roster(), presence("me", 9, epoch=4))
        self.assertEqual((of(effects, Send), of(effects, KeyInUse)), ([], []))

    def test_a_record_of_this_run_that_it_never_said_proves_that_the_key_is_in_use(self) -> None:
        for counter, in_use in ((1, []), (2, [KeyInUse(1)])):
            self.assertEqual(of(self.receive(1, presence("me", counter)), KeyInUse), in_use)

    def test_a_forged_one_closes_the_link_and_does_nothing(self) -> None:
        good = presence("dora", 2)
        falsified = (
            forged(good),
            SignedRecord(good.record, presence("dora", 1).signature, good.array),
            SignedRecord(good.record, signature_of(origin_of("anna"), good.array), good.array),
        )
        for false in falsified:
            self.star("anna", "bert")
            effects = self.receive(1, false)
            self.assertEqual(self.closed(effects), [(1, Reason.SIGNATURE)])
            self.assertEqual(self.presences(effects, 2), [])
            self.assertIsNone(self.state("dora"))

    def test_a_batch_cannot_be_taken_for_one(self) -> None:
        array = presence("dora").array
        text = codec.signed_text(codec.network_digest(b"elsewhere"), array, Kind.PRESENCE)
        for said in (text, codec.batch_text(codec.network_digest(b"x"), hashlib.sha256(array).digest())):
            self.star("anna")
            false = SignedRecord(presence("dora").record, signature_of(origin_of("dora"), said), array)
            self.assertEqual(self.closed(self.receive(1, false)), [(1, Reason.SIGNATURE)])

    def test_a_replayed_one_does_nothing_but_prune(self) -> None:
        self.receive(1, presence("dora", 1), presence("dora", 2, flags=PresenceFlags.LEAVING))
        self.assertEqual(of(self.receive(1, presence("dora", 1)), Send), [])
        effects = self.receive(2, presence("dora", 1))
        self.assertEqual([send.frame for send in of(effects, Send)], [prune("dora")])
        self.assertIs(self.state("dora"), State.LEFT)

    def test_it_has_no_place_before_the_frontier(self) -> None:
        for early in (presence("dora"), suspect("anna", "dora"), roster()):
            self.make()
            self.open(1, "anna")
            self.assertEqual(self.closed(self.receive(1, early)), [(1, Reason.ORDER)])

    def test_what_comes_over_a_closing_link_counts(self) -> None:
        self.handle(closing(1))
        effects = self.receive(1, presence("dora", 1))
        self.assertEqual(self.presences(effects, 2), [("dora", 1, 0)])
        self.assertEqual(self.prunes(self.receive(1, presence("dora", 1)), 1), [])

    def test_where_an_author_can_be_dialled_is_believed_if_it_could_be_true(self) -> None:
        for host, believed in ((HOST, True), ("127.0.0.1", False), ("fe80::1", False), ("no host!", False)):
            self.receive(1, presence("dora", 1, address=(host, 4444)))
            self.assertEqual(self.entry("dora").contact, contact("dora", host) if believed else None)
            self.star("anna")

    def test_a_new_run_of_an_author_is_news(self) -> None:
        self.receive(1, presence("dora", 7, epoch=1))
        effects = self.receive(2, presence("dora", 1, epoch=2))
        self.assertEqual((self.changed(effects), self.presences(effects, 1)), (["dora"], [("dora", 1, 0)]))
        # And a late record of the old run is not news.
        effects = self.receive(3, presence("dora", 8, epoch=1, flags=PresenceFlags.LEAVING))
        self.assertEqual((self.changed(effects), of(effects, Send)), ([], []))
        self.assertIs(self.state("dora"), State.UP)


class TestParents(MembershipTestCase):
    """The parent for an author is the link that brought its newest batch or record."""

    def setUp(self) -> None:
        super().setUp()
        self.star("anna", "bert", "cleo")

    def grafted(self, number: int) -> list[str]:
        """The authors that are grafted when a link goes."""
        effects = self.handle(closing(number))
        return [name for other in (1, 2, 3) for name, _, _ in self.wants(effects, other)]

    def test_a_record_is_newer_than_the_batches_it_names(self) -> None:
        self.receive(1, presence("dora", 1), batch("dora", 1))
        self.receive(2, presence("dora", 2, sequence=1))
        self.receive(3, presence("dora", 2, sequence=1))
        self.assertEqual(self.grafted(1), [])
        self.assertEqual(self.grafted(2), ["dora"])

    def test_a_batch_is_newer_than_the_records_before_it(self) -> None:
        self.receive(2, presence("dora", 2))
        self.receive(3, presence("dora", 2))
        self.receive(1, batch("dora", 1))
        self.assertEqual(self.grafted(2), [])

    def test_a_later_run_is_newer_than_all_of_an_earlier_one(self) -> None:
        self.receive(1, presence("dora", 9, sequence=50))
        self.receive(2, presence("dora", 1, epoch=2))
        self.receive(3, presence("dora", 1, epoch=2))
        self.assertEqual(self.grafted(1), [])
        self.assertEqual(self.grafted(2), ["dora"])

    def test_an_author_that_never_published_is_grafted_too(self) -> None:
        self.receive(1, presence("dora", 1))
        self.receive(3, presence("dora", 1))
        self.assertEqual(self.grafted(1), ["dora"])

    def test_the_answer_to_a_graft_brings_its_newest_record(self) -> None:
        self.receive(1, presence("dora", 1))
        self.receive(2, prune("dora"))
        self.receive(1, presence("dora", 2))
        frames = self.all_frames(self.receive(2, want("dora", 1)), 2)
        self.assertEqual(frames[0], records(presence("dora", 2)))
        self.assertEqual([type(frame) for frame in frames], [Records, Have])

    def test_an_author_that_is_overdue_is_sought_over_another_link(self) -> None:
        # The author's record may be lost, and nobody would say so.
        self.receive(1, presence("dora", 1))
        self.receive(2, presence("dora", 1))
        effects = self.wait(36)
        self.assertEqual(self.asked(effects), [])
        self.assertEqual(self.wants(self.wait(3), 2)[0], ("dora", 1, MAX_NUMBER))

    def test_then_over_each_in_turn(self) -> None:
        # The link that seems best may answer with nothing for ever.
        for number in (1, 2, 3):
            self.receive(number, presence("dora", 1))
        asked: list[int] = []
        for _ in range(85):
            for number in self.asked(self.wait(1)):
                asked.append(number)
                self.receive(number, have("dora", 1, 0, answer=True))
        self.assertEqual(asked[:4], [2, 1, 2, 3])

    def test_it_is_sought_where_wants_are_answered(self) -> None:
        # It has published nothing, so that all that is claimed of it is unverified, which a link that left
        # its WANTs unanswered is not asked for; that one was chosen again and again, and nobody asked.
        for number in (2, 1, 3):
            self.receive(number, presence("dora", 1))
        self.receive(1, have("emil", 1, 9))
        self.wait(20)
        effects = self.handle(closing(2))
        self.assertEqual(self.wants(effects, 3), [("dora", 1, MAX_NUMBER)])

    def test_who_answers_no_want_is_sought_if_there_is_nobody_else(self) -> None:
        for number in (2, 1):
            self.receive(number, presence("dora", 1))
        self.receive(1, have("emil", 1, 9))
        self.wait(20)
        effects = self.handle(closing(2))
        self.assertEqual(self.wants(effects, 1), [("dora", 1, MAX_NUMBER)])

    def test_an_author_that_is_a_neighbour_is_asked_itself(self) -> None:
        # Neighbours that get an author's records from each other can all have pruned it: none has news.
        self.up(9, "dora")
        for number in (2, 1, 9):
            self.receive(number, presence("dora", 1))
        self.receive(1, have("dora", 1, 0))
        self.assertEqual(self.asked(self.handle(closing(2))), [9])

    def test_who_was_sought_in_vain_is_asked_anew_the_next_time(self) -> None:
        for number in (1, 2):
            self.receive(number, presence("dora", 1))
        self.handle(closing(3))
        self.assertEqual(self.asked(self.handle(closing(1)) + self.wait(30)), [2])
        self.assertEqual(self.asked(self.wait(10)), [2])


class TestAnswers(MembershipTestCase):
    """A peer that asks for messages and does not know their author gets its record first."""

    def setUp(self) -> None:
        super().setUp()
        self.star("anna", "bert")
        self.receive(1, presence("dora", 1), batch("dora", 1, 2))

    def kinds(self, number: int, name: str = "dora") -> list[type]:
        """The classes of the frames that answer a WANT."""
        return [type(frame) for frame in self.all_frames(self.receive(number, want(name, 1)), number)]

    def test_to_who_does_not_know_it_goes_first(self) -> None:
        self.open(3, "cleo", role=Role.GUEST)
        self.receive(3, ALL)
        self.receive(3, prune("dora", "emil"))
        self.receive(1, presence("emil", 1), batch("emil", 1))
        self.assertEqual(self.kinds(3, "emil"), [Records, SignedBatch, Have])

    def test_once(self) -> None:
        self.receive(2, prune("dora"))
        self.receive(1, presence("dora", 2))
        self.assertEqual(self.kinds(2)[0], Records)
        self.assertEqual(self.kinds(2), [SignedBatch, Have])

    def test_the_own_one_likewise_and_as_the_first_hop(self) -> None:
        self.publish("a")
        self.receive(2, prune("me"))
        [own] = of(self.all_frames(self.wait(33), 1), SignedRecord)
        frames = self.all_frames(self.receive(2, want("me", 1)), 2)
        self.assertEqual(frames[0], own)

    def test_of_who_has_said_nothing_nothing_is_told(self) -> None:
        self.receive(1, batch("emil", 1))
        self.assertEqual(self.kinds(2, "emil"), [SignedBatch, Have])


class TestRosters(MembershipTestCase):
    """Behind the frontier, a new neighbour is told the whole roster, which goes no further."""

    def test_it_follows_the_frontier(self) -> None:
        for settled in (False, True):
            self.star("anna")
            frames = self.all_frames(self.open(2, "bert", settled=settled), 2)
            self.assertEqual([type(frame) for frame in frames][1:], [RosterFrame, Ping])

    def test_it_tells_each_member_with_its_age(self) -> None:
        self.star("anna")
        self.receive(1, presence("dora", 3))
        self.wait(2.5)
        self.receive(1, presence("emil", 4))
        self.assertEqual(
            self.told(self.open(2, "bert"), 2), {"dora": (3, 2500), "emil": (4, 0), "me": (1, 2500)}
        )

    def test_who_is_gone_is_told_as_old(self) -> None:
        self.star("anna")
        self.receive(1, presence("dora", 2))
        self.wait(5)
        self.receive(1, presence("dora", 3, flags=PresenceFlags.LEAVING))
        self.wait(5)
        _, age = self.told(self.open(2, "bert"), 2)["dora"]
        self.assertEqual(age, 95_000)

    def test_who_is_gone_is_told_by_those_only_who_have_heard_it_themselves(self) -> None:
        # Else a member that is made up is told in a circle, and kept for as long.
        self.star("anna")
        self.up(2, "bert")
        self.receive(2, roster(presence("dora", 3), age=500))
        self.assertIs(self.state("dora"), State.DOWN)
        self.assertEqual(set(self.told(self.open(3, "cleo"), 3)), {"me"})
        self.up(4, "emil")
        self.wait(250)
        self.receive(4, roster(presence("dora", 3), age=750))
        self.wait(250)
        self.assertIs(self.state("dora"), State.DOWN)
        self.wait(60)
        self.assertIsNone(self.state("dora"))

    def test_of_what_it_tells_the_fresh_goes_on_and_the_old_does_not(self) -> None:
        for age, sent in ((29.9, [("dora", 2, 0), ("emil", 1, 0)]), (30, [])):
            self.star("anna", "bert")
            self.open(3, "cleo")
            effects = self.receive(3, ALL, roster(presence("dora", 2), presence("emil", 1), age=age))
            self.assertEqual(self.changed(effects), ["dora", "emil"])
            self.assertEqual(self.presences(effects, 1), sent)
            self.assertEqual(self.presences(effects, 3), [])
            self.assertEqual(self.entry("dora").heard, self.now - age)

    def test_it_changes_nothing_about_whom_this_node_knows_better(self) -> None:
        self.star("anna")
        self.receive(1, presence("dora", 3))
        self.up(2, "bert")
        verified = self.verified
        effects = self.receive(2, roster(presence("dora", 3), presence("me", 1), age=10**6))
        self.assertEqual((self.changed(effects), self.verified), ([], verified))
        self.assertIs(self.state("dora"), State.UP)

    def test_who_would_be_forgotten_already_is_not_taken(self) -> None:
        self.star("anna")
        self.up(2, "bert")
        gone = presence("dora", flags=PresenceFlags.EPHEMERAL)
        self.assertEqual(self.changed(self.receive(2, roster(gone, age=150))), [])
        self.assertIsNone(self.state("dora"))
        self.assertEqual(self.count("authors_waiting"), 0)

    def test_a_forged_entry_closes_the_link(self) -> None:
        self.up(1, "anna")
        effects = self.receive(1, roster(forged(presence("dora"))))
        self.assertEqual(self.closed(effects), [(1, Reason.SIGNATURE)])
        self.assertIsNone(self.state("dora"))

    def test_anything_else_in_it_closes_the_link(self) -> None:
        things = (
            codec.payload(suspect("anna", "dora")),
            codec.encode(batch("dora", 1))[4:],
            codec.encode(roster(presence("dora")))[4:],
            b"\x63\x00later",
            b"",
        )
        for thing in things:
            self.make()
            self.up(1, "anna")
            frame = RosterFrame(True, [RosterEntry(0, thing)], KeepVote.CONTENT)
            self.assertEqual(self.closed(self.receive(1, frame)), [(1, Reason.SHAPE)])

    def test_there_is_one_on_a_link(self) -> None:
        self.up(1, "anna")
        self.receive(1, roster(last=False), roster(presence("dora")))
        for second in (roster(), roster(last=False)):
            self.assertEqual(self.closed(self.receive(1, second)), [(1, Reason.ORDER)])
            self.up(1, "anna")
            self.receive(1, roster())

    def test_many_take_several_frames_each_small_enough(self) -> None:
        self.star("anna", authors_burst=5000)
        names = [f"author {number}" for number in range(1200)]
        for name in names:
            self.receive(1, presence(name, label="x" * 60, address=("host.example.org", 4444)))
        frames = self.rosters(self.open(2, "bert"), 2)
        self.assertEqual([frame.last for frame in frames], [False] * (len(frames) - 1) + [True])
        for frame in frames:
            self.assertLessEqual(len(codec.encode(frame)), HANDSHAKE_FRAME_BYTES)
        self.assertEqual(sum(len(frame.entries) for frame in frames), len(names) + 1)
        # A node takes all of these frames at once.
        self.make(authors_burst=5000)
        self.up(1, "anna")
        self.receive(1, *frames)
        self.assertEqual(len(self.node.roster), len(names))


class TestNewAuthors(MembershipTestCase):
    """A host may bring only so many new authors at a time: more are delayed, never skipped."""

    def setUp(self) -> None:
        super().setUp()
        self.star("anna", "bert", authors_burst=2, authors_a_minute=6)

    def known(self) -> int:
        """How many authors are on the roster."""
        return len(self.node.roster)

    def test_more_of_them_wait(self) -> None:
        effects = []
        for number in range(5):
            effects += self.receive(1, presence(f"author {number}"))
        self.assertEqual((self.known(), self.count("authors_waiting")), (2, 3))
        self.assertEqual(len(of(effects, Send)), 2)
        self.wait(10)
        self.receive(1, presence("author 4", 2))
        self.assertEqual(self.known(), 3)

    def test_a_link_that_is_made_anew_may_bring_no_more(self) -> None:
        self.receive(1, *(presence(f"author {number}") for number in range(4)))
        self.handle(closing(1))
        self.handle(LinkClosed(1))
        self.up(3, "anna")
        self.receive(3, roster(), *(presence(f"author {number}") for number in range(10)))
        self.receive(2, presence("author 10"))
        self.assertEqual(self.known(), 2)

    def test_each_host_has_its_own_measure(self) -> None:
        self.receive(1, *(presence(f"author {number}") for number in range(4)))
        self.from_another(3)
        self.receive(3, presence("author 3"))
        self.assertEqual(self.known(), 3)

    def test_all_hosts_together_have_one_too_and_those_that_bring_few_come_first(self) -> None:
        for host in range(20):
            self.from_another(3 + host)
            self.receive(3 + host, presence(f"a{host}"), presence(f"b{host}"))
        self.assertEqual(self.known(), 32)  # sixteen times as many as from one host
        self.wait(10)
        self.receive(3, presence("c"), presence("d"), presence("e"))
        self.from_another(30)
        self.receive(30, presence("f"))
        self.assertIsNotNone(self.node.roster.get(origin_of("f")))

    def test_of_the_hosts_the_one_whose_link_was_used_longest_ago_is_forgotten(self) -> None:
        self.patch(admission, "SITES", 3)
        for host in range(10):
            self.from_another(3 + host)
            self.receive(3 + host, presence(f"a{host}"))
        self.assertEqual(self.node.footprint()["author_sites"], 3)

    def from_another(self, number: int) -> None:
        """Open link *number* to a neighbour on a host of its own."""
        self.open(number, f"neighbour {number}", host=f"192.0.2.{number + 100}")
        self.receive(number, Snapshot(True, []), roster())

    def test_the_neighbour_itself_never_waits(self) -> None:
        for number in range(4):
            self.receive(1, presence(f"author {number}"))
        self.receive(1, presence("anna"))
        self.assertIs(self.state("anna"), State.UP)

    def test_who_is_known_never_waits(self) -> None:
        self.receive(1, presence("dora", 1), presence("emil", 1), presence("fred", 1))
        self.receive(1, presence("dora", 2))
        self.assertEqual(self.entry("dora").rank, (1, 2))

    def test_rosters_count(self) -> None:
        self.up(3, "cleo")
        self.receive(3, roster(*(presence(f"author {number}") for number in range(4))))
        self.assertEqual(self.known(), 2)

    def test_records_that_are_refused_leave_nothing_with_the_link(self) -> None:
        self.open(3, "cleo", host="192.0.2.103")
        self.receive(3, Snapshot(True, []))
        before = len(self.link(1).presence), len(self.link(3).presence)
        self.receive(1, *(presence(f"author {number}") for number in range(100)))
        self.receive(3, roster(*(presence(f"told {number}") for number in range(100))))
        # Link 1 brought two authors.  Link 3 was told of them, and brought two of its own.
        after = len(self.link(1).presence), len(self.link(3).presence)
        self.assertEqual((after[0] - before[0], after[1] - before[1]), (4, 4))

    def test_an_older_record_is_noted_without_being_verified_since_its_author_is_known(self) -> None:
        self.receive(1, presence("dora", 2))
        self.verified = 0
        self.receive(2, presence("dora", 1))
        self.assertTrue(self.link(2).presence.came_from_peer(origin_of("dora")))
        self.assertEqual(self.verified, 0)

    def test_batches_of_authors_that_said_nothing_count(self) -> None:
        effects = self.receive(1, *(batch(name, 1) for name in ("dora", "emil", "fred")))
        self.assertEqual(len(self.delivered(effects)), 2)
        self.assertEqual((self.count("authors_waiting"), self.count("no_room")), (1, 1))
        # Batches of known streams never wait.
        self.assertEqual(self.delivered(self.receive(1, batch("dora", 2))), [(2, [2])])

    def test_those_that_wait_cost_no_verification(self) -> None:
        before = self.verified
        self.receive(1, *(batch(f"author {number}", 1) for number in range(50)))
        self.receive(1, *(presence(f"author {number}") for number in range(50)))
        self.assertEqual(self.verified - before, 2)

    def test_what_was_refused_comes_again_by_comparison(self) -> None:
        self.receive(1, *(batch(name, 1) for name in ("dora", "emil", "fred")))
        self.wait(31)
        effects = self.receive(1, Have([HaveEntry(origin_of("fred"), 1, 1, 1)], False))
        effects += self.wait(0.5)
        self.assertEqual(self.wants(effects, 1), [("fred", 1, 1)])
        self.assertEqual(self.delivered(self.receive(1, batch("fred", 1))), [(1, [1])])

    def test_what_was_refused_in_an_answer_is_asked_for_again_in_time(self) -> None:
        self.receive(1, presence("emil"), presence("fred"))
        have = Have([HaveEntry(origin_of("dora"), 1, 1, 1)], False)
        answer = Have([HaveEntry(origin_of("dora"), 1, 1, 1)], True)
        self.assertEqual(self.wants(self.receive(1, have), 1), [("dora", 1, 1)])
        effects = self.receive(1, batch("dora", 1), answer)
        self.assertEqual(self.asked(effects), [])
        delivered = []
        for _ in range(12):
            if self.wants(self.wait(1), 1):
                delivered += self.delivered(self.receive(1, batch("dora", 1), answer))
        self.assertEqual(delivered, [(1, [1])])

    def test_a_forged_batch_in_an_answer_that_is_refused_closes_the_link_all_the_same(self) -> None:
        self.receive(1, presence("emil"), presence("fred"))
        self.receive(1, Have([HaveEntry(origin_of("dora"), 1, 1, 1)], False))
        effects = self.receive(1, forged(batch("dora", 1)))
        self.assertEqual(self.closed(effects), [(1, Reason.SIGNATURE)])

    def test_where_the_roster_is_full_of_those_who_are_there_the_next_waits(self) -> None:
        self.star("anna", members_limit=2)
        for name in ("dora", "emil", "fred"):
            self.receive(1, presence(name))
        self.assertIsNone(self.state("fred"))
        self.assertEqual(self.count("authors_waiting"), 1)
        self.receive(1, presence("dora", 2, flags=PresenceFlags.LEAVING))
        self.receive(1, presence("fred", 2))
        self.assertIs(self.state("fred"), State.UP)
        self.assertEqual(self.gone(self.wait(3)), ["dora"])

    def test_a_member_that_made_room_and_is_back_as_a_guest_is_gone(self) -> None:
        self.star("anna", members_limit=2)
        self.receive(
            1, presence("dora", flags=PresenceFlags.LEAVING), presence("emil", flags=PresenceFlags.LEAVING)
        )
        self.receive(1, presence("fred"), presence("dora", epoch=2, role=Role.GUEST))
        self.assertIs(self.state("dora"), State.UP)
        self.assertEqual(sorted(self.gone(self.wait(3))), ["dora", "emil"])


class TestLongRosters(MembershipTestCase):
    """A roster of megabytes goes as fast as the link takes it."""

    def setUp(self) -> None:
        super().setUp()
        self.star("anna")
        tags = {f"tag {number}": "x" * 128 for number in range(6)}
        self.names = [f"member {number}" for number in range(500)]
        for name in self.names:
            self.receive(1, presence(name, tags=tags, interval=MAX_INTERVAL))
        self.accepted = 0

    def take(self, size: int) -> list[Effect]:
        """Let Bert's link accept *size* bytes more, as far as so many were sent."""
        self.accepted = min(self.accepted + size, self.queued[2])
        return self.handle(Accepted(2, self.accepted))

    def take_all(self) -> list[Effect]:
        """Let Bert's link accept bytes until the roster is told."""
        effects = self.take(0)
        while self.node.footprint()["untold_records"]:
            effects += self.take(40_000)
            self.assertLess(self.queued[2] - self.accepted, 320_000)
        return effects

    def records(self, effects: list[Effect]) -> dict[bytes, tuple[int, int]]:
        """Counter and age of each record that Bert was told, by origin."""
        told = {}
        for entry in (entry for frame in self.rosters(effects, 2) for entry in frame.entries):
            signed = codec.decode(entry.frame)
            assert isinstance(signed, SignedRecord) and isinstance(signed.record, Presence)
            told[signed.record.origin] = signed.record.counter, entry.age
        return told

    def test_little_of_it_waits_and_all_is_told(self) -> None:
        effects = self.open(2, "bert")
        self.assertTrue(100 < self.node.footprint()["untold_records"] < 400)
        self.assertLess(self.queued[2], 320_000)
        effects += self.take_all()
        self.assertEqual(set(self.records(effects)), set(map(origin_of, [*self.names, "me"])))
        last = [frame.last for frame in self.rosters(effects, 2)]
        self.assertEqual(last, [False] * (len(last) - 1) + [True])

    def test_each_record_is_told_as_it_is_by_then(self) -> None:
        self.open(2, "bert")
        self.wait(5)
        older, newer = map(origin_of, self.names[-2:])
        self.receive(1, presence(self.names[-1], 2))
        self.wait(62)
        told = self.records(self.take_all())
        self.assertEqual((told[newer], told[older]), ((2, 62_000), (1, 67_000)))

    def test_those_that_are_forgotten_meanwhile_are_not(self) -> None:
        self.open(2, "bert")
        for name in self.names:
            self.receive(1, presence(name, 2, flags=PresenceFlags.LEAVING | PresenceFlags.EPHEMERAL))
        self.wait(70)
        effects = self.take(self.queued[2])
        self.assertEqual(self.records(effects), {})
        self.assertEqual([frame.last for frame in self.rosters(effects, 2)], [True])

    def test_over_a_link_that_closes_no_more_is_told(self) -> None:
        self.open(2, "bert")
        self.handle(closing(2))
        self.assertEqual(self.rosters(self.take(300_000), 2), [])


class TestForgetting(MembershipTestCase):
    """Members are forgotten in time, and the application is told."""

    def setUp(self) -> None:
        super().setUp()
        self.star("anna", "bert")

    def test_one_that_leaves_is_told_so_at_once(self) -> None:
        self.receive(1, presence("dora", 1))
        effects = self.receive(2, presence("dora", 2, flags=PresenceFlags.LEAVING))
        self.assertEqual((self.changed(effects), self.presences(effects, 1)), (["dora"], [("dora", 2, 0)]))
        self.assertIs(self.state("dora"), State.LEFT)

    def test_a_member_that_comes_back_as_a_guest_is_no_member_any_more(self) -> None:
        self.receive(1, presence("dora"))
        effects = self.receive(1, presence("dora", epoch=2, role=Role.GUEST))
        self.assertEqual((self.changed(effects), self.gone(effects)), (["dora"], []))
        effects = self.receive(1, presence("dora", 2, epoch=2, role=Role.GUEST))
        self.assertEqual((self.changed(effects), self.gone(effects)), ([], []))

    def test_of_guests_nothing_is_told(self) -> None:
        effects = self.receive(1, presence("dora", role=Role.GUEST))
        effects += self.wait(200)
        self.assertEqual((self.changed(effects), self.gone(effects)), ([], []))
        self.assertEqual(len(self.node.roster), 0)

    def test_what_links_knew_is_given_back_when_they_go(self) -> None:
        before = self.node.footprint()
        self.up(3, "cleo")
        self.receive(3, roster(presence("dora", flags=PresenceFlags.EPHEMERAL), age=40))
        self.assertNotEqual(self.node.footprint()["known_records"], before["known_records"])
        self.handle(closing(3))
        self.wait(400)
        more = {"failures": 0, "new_authors": 1, "author_sites": 1, "known_shares": 1, "crowds": 1}
        self.assert_untouched({**before, **more}, 3)


class TestTold(MembershipTestCase):
    """A record that a peer tells in RECORDS goes on, and changes no tree."""

    def setUp(self) -> None:
        super().setUp()
        self.star("anna", "bert", "cleo")
        self.receive(1, presence("dora", 1))

    def test_the_branch_to_its_author_stays_though_it_comes_later_there(self) -> None:
        # Bert may have had all records of Dora from this node: then none would come over either link.
        effects = self.receive(2, records(presence("dora", 2)))
        self.assertEqual([self.presences(effects, number) for number in (1, 3)], [[], [("dora", 2, 0)]])
        self.assertEqual(self.prunes(self.receive(1, presence("dora", 2)), 1), [])
        self.assertEqual(self.presences(self.receive(1, presence("dora", 3)), 2), [("dora", 3, 0)])
        self.assertEqual(self.asked(self.handle(closing(1))), [2])

    def test_it_ends_a_suspicion(self) -> None:
        self.receive(3, presence("emil", 1), suspect("emil", "dora", 1))
        self.assertIs(self.state("dora"), State.SUSPECT)
        self.receive(2, records(presence("dora", 2)))
        self.assertIs(self.state("dora"), State.UP)

    def test_of_an_author_that_is_gone_it_shows_nobody_as_up(self) -> None:
        self.receive(2, records(presence("emil", 1), age=200_000))
        self.assertIs(self.state("emil"), State.DOWN)
        self.receive(2, records(presence("fred", 1), age=FORGOTTEN))
        self.assertIsNone(self.state("fred"))

    def test_it_is_taken_from_no_stranger(self) -> None:
        effects = self.receive(2, records(forged(presence("dora", 2))))
        self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])

    def test_an_old_one_or_the_own_one_is_nothing_new(self) -> None:
        told = records(presence("dora", 1), presence("me", 1))
        self.assertEqual(of(self.receive(2, told), Send), [])


class TestExchangeLinks(MembershipTestCase):
    """Records come and go over an exchange, but it is no branch of any tree."""

    def test_a_record_over_an_exchange_goes_on_and_makes_no_parent(self) -> None:
        self.star("anna", "bert")
        self.open(3, "cleo", purpose=Purpose.EXCHANGE)
        self.receive(3, ALL, roster())
        effects = self.receive(3, presence("dora", 1))
        self.assertEqual(self.presences(effects, 1), [("dora", 1, 0)])
        self.assertEqual(self.prunes(self.receive(1, presence("dora", 1)), 1), [])
        self.assertEqual(self.asked(self.handle(closing(3))), [])

    def test_nor_does_it_go_to_who_brings_that_author_here(self) -> None:
        # That peer would take this node for the way to the author, and prune its own link.
        for told in ([roster(presence("dora", 2))], [roster(), presence("dora", 2)]):
            self.star("anna", "bert")
            self.receive(1, presence("dora", 1))
            self.open(3, "cleo", purpose=Purpose.EXCHANGE)
            effects = self.receive(3, ALL, *told)
            self.assertEqual(self.presences(effects, 1), [])
            self.assertEqual(self.presences(effects, 2), [("dora", 2, 0)])
            # The record comes from its parent, too, and prunes nothing.
            effects = self.receive(1, presence("dora", 2))
            self.assertEqual((self.prunes(effects, 1), self.presences(effects, 2)), ([], []))

    def test_nor_what_comes_over_a_link_that_was_told_to_push_no_more(self) -> None:
        # Such a record comes as the answer to a suspicion, for example.
        self.star("anna", "bert", "cleo")
        self.receive(1, presence("dora", 1))
        self.assertEqual(self.prunes(self.receive(2, presence("dora", 1)), 2), ["dora"])
        effects = self.receive(2, presence("dora", 2))
        self.assertEqual([self.presences(effects, number) for number in (1, 3)], [[], [("dora", 2, 0)]])
        self.assertEqual(self.prunes(self.receive(1, presence("dora", 2)), 1), [])
        self.assertEqual(self.asked(self.handle(closing(1))), [2])

    def test_unless_nothing_has_come_from_there_for_long(self) -> None:
        self.star("anna", "bert")
        self.receive(1, presence("dora", 1))
        self.wait(30)
        self.open(3, "cleo", purpose=Purpose.EXCHANGE)
        effects = self.receive(3, ALL, roster(presence("dora", 2)))
        self.assertEqual(self.presences(effects, 1), [("dora", 2, 0)])
