"""Joining, evidence and exchanges: what the membership means for a node's messages."""

from __future__ import annotations

from msgspec import structs

from tests.core.membership_case import MembershipTestCase
from tests.core.network import batch, closing, entry, forged, have, of, origin_of, presence, roster, want
from tests.core.node_case import ALL, HOST, contact
from twisted_mesh.core import events
from twisted_mesh.core.events import (
    Arriving,
    Dial,
    DialFailed,
    Effect,
    ExchangeBegun,
    Joined,
    KeyInUse,
    Known,
    LinkClosed,
    LinkDown,
    LinkUp,
    Moved,
    Send,
    Timer,
)
from twisted_mesh.core.handshake import Profile
from twisted_mesh.errors import Reason
from twisted_mesh.identity import id_of
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Prune, Snapshot, SnapshotEntry
from twisted_mesh.wire.fields import MAX_NUMBER
from twisted_mesh.wire.link import Bye, Ping, Pong
from twisted_mesh.wire.membership import (
    ForwardJoin,
    KeepVote,
    Presence,
    Purpose,
    Role,
    Shuffle,
    ShuffleReply,
)

EXCHANGE = Purpose.EXCHANGE


#: A base beyond all that Dora said, which nothing proves.
LIE = SnapshotEntry(origin_of("dora"), 1, MAX_NUMBER - 1, MAX_NUMBER - 2, MAX_NUMBER - 2, b"")


class EvidenceTestCase(MembershipTestCase):
    """A node that joins at Anna, and exchanges with others."""

    def join(self, *streams: SnapshotEntry, **sequences: int) -> list[Effect]:
        """Join at Anna, who holds *streams*, and whose roster has authors with *sequences*."""
        self.make()
        effects = self.up(1, "anna", *streams)
        records = [presence(name, 3, sequence, interval=600_000) for name, sequence in sequences.items()]
        return effects + self.receive(1, roster(*records))

    def exchange(
        self, number: int = 9, name: str = "dora", *, outgoing: bool = False, host: str = HOST
    ) -> list[Effect]:
        """Begin an exchange; the peer tells that it holds nothing."""
        effects = self.open(number, name, outgoing=outgoing, purpose=EXCHANGE, host=host)
        return effects + self.receive(number, ALL)


class TestContacts(MembershipTestCase):
    """The contacts that a node could dial."""

    def test_without_an_overlay_there_is_nobody(self) -> None:
        self.assertEqual(self.node.neighbourhood.contacts, [])

    def test_a_node_whose_address_changes_tells_the_new_one_from_then_on(self) -> None:
        self.star("anna")
        for address in (("10.0.0.9", 9), None):
            self.handle(Moved(address))
            told = [
                record.address for record in self._records(self.wait(31), 1) if isinstance(record, Presence)
            ]
            self.assertEqual(told[-1:], [address])


class TestJoining(EvidenceTestCase):
    """A node starts where its first neighbour says, and where authors' records say."""

    def test_when_the_first_neighbour_has_told_its_roster_the_node_has_joined(self) -> None:
        self.assertEqual(of(self.up(1, "anna"), Joined), [])
        self.assertFalse(self.node.membership.joined)
        self.assertEqual(of(self.receive(1, roster(last=False)), Joined), [])
        self.assertEqual(of(self.receive(1, roster()), Joined), [Joined()])
        self.assertTrue(self.node.membership.joined)
        self.up(2, "bert")
        self.assertEqual(of(self.receive(2, roster()), Joined), [])

    def test_an_exchange_is_no_neighbour(self) -> None:
        self.open(1, "anna", purpose=EXCHANGE)
        self.assertEqual(of(self.receive(1, ALL, roster()), Joined), [])

    def test_nor_is_a_link_that_closes_before_it_is_up(self) -> None:
        self.open(1, "anna")
        self.handle(closing(1, Reason.ROOM))
        self.assertEqual(of(self.receive(1, ALL, roster()), Joined), [])
        self.assertFalse(self.node.membership.joined)

    def test_an_idle_authors_messages_of_before_are_no_gap(self) -> None:
        # The author's stream is closed everywhere, so no snapshot has it; its record tells its head.
        effects = self.join(dora=5)
        effects += self.wait(35)  # longer than a gap's patience, and its next word is not overdue
        self.assertEqual((self.gaps(effects), self.asked(effects)), ([], []))
        effects = self.receive(1, presence("dora", 4, 5), batch("dora", 6))
        self.assertEqual(self.delivered(effects), [(6, [6])])
        self.assertEqual(self.gaps(self.wait(100)), [])

    def test_where_the_snapshot_has_its_stream_that_counts(self) -> None:
        self.join(entry("dora", 7, count=2), dora=5)
        effects = self.receive(1, batch("dora", 6, 2), batch("dora", 8))
        self.assertEqual(self.delivered(effects), [(8, [8])])

    def test_what_an_author_published_since_is_missing(self) -> None:
        self.join(entry("dora", 3), dora=5)
        self.assertEqual(self.gaps(self.wait(31)), [(4, 5)])

    def test_of_who_was_met_later_everything_is(self) -> None:
        self.join()
        self.receive(1, presence("dora", 1, 2))
        self.assertEqual(self.gaps(self.wait(31)), [(1, 2)])

    def test_until_the_roster_is_here_no_record_counts(self) -> None:
        self.up(1, "anna", entry("emil", 9))
        self.up(2, "bert")
        self.receive(2, presence("dora", 1, 5), presence("emil", 1, 4))
        self.receive(1, roster())
        effects = self.wait(100)
        self.assertEqual(self.gaps(effects), [])
        effects = self.receive(1, batch("emil", 9), batch("emil", 10))
        self.assertEqual(self.delivered(effects), [(10, [10])])

    def test_only_the_roster_behind_the_first_snapshot_tells_where_to_start(self) -> None:
        self.join()
        self.up(2, "bert")
        self.receive(2, roster(presence("dora", 1, 2)))
        self.assertEqual(self.delivered(self.receive(2, batch("dora", 1, 2))), [(1, [1, 2])])

    def test_a_link_that_goes_before_its_roster_came_holds_up_nothing(self) -> None:
        for ends in ([closing(1), LinkClosed(1)], [LinkClosed(1)]):
            self.make()
            self.up(1, "anna", LIE)
            self.up(2, "bert")
            self.receive(2, roster(presence("dora", 1, 5)))
            self.assertEqual(self.delivered(self.receive(2, batch("dora", 6))), [])
            for end in ends:
                self.handle(end)
            self.receive(2, have("dora", 1, 6))
            self.assertEqual(self.delivered(self.receive(2, batch("dora", 6))), [(6, [6])])

    def test_nor_does_one_that_breaks_the_rules(self) -> None:
        self.up(1, "anna", LIE)
        self.up(2, "bert")
        self.receive(2, presence("dora", 1, 5))
        self.receive(1, Bye("full", ""))
        self.assertEqual(self.delivered(self.receive(2, batch("dora", 6))), [(6, [6])])

    def test_a_link_that_drains_when_its_snapshot_comes_tells_where_to_start_as_well(self) -> None:
        # The link's roster is still on its way; earlier records must not lower the base that it told.
        self.open(1, "anna")
        self.open(2, "bert")
        self.handle(closing(1, Reason.ROOM))
        self.receive(1, Snapshot(True, [entry("dora", 50, count=10)]))
        self.receive(1, roster(presence("dora", 3, 40)))
        self.receive(2, ALL)
        effects = self.receive(2, batch("dora", 41, 10), batch("dora", 51))
        self.assertEqual(self.delivered(effects), [(51, [51])])


class TestEvidence(EvidenceTestCase):
    """An author's record shows which messages there are, and so a lost tail or a neighbour's lie."""

    def test_a_lost_tail_is_told_asked_for_and_then_given_up(self) -> None:
        self.join()
        self.receive(1, presence("dora", 1), batch("dora", 1, 2))
        effects = self.receive(1, presence("dora", 2, 4))
        effects += self.receive(1, have("dora", 1, 4))
        effects += self.wait(0.5)
        self.assertEqual(self.wants(effects, 1), [("dora", 3, 4)])
        self.assertEqual(self.gaps(self.wait(29)), [])
        self.assertEqual(self.gaps(self.wait(1)), [(3, 4)])
        self.assertEqual(self.delivered(self.receive(1, batch("dora", 3, 3))), [(5, [5])])

    def test_that_its_author_speaks_on_puts_no_lost_tail_off(self) -> None:
        self.join()
        self.receive(1, batch("emil", 1))
        gaps = []
        for counter in range(1, 5):
            gaps += self.gaps(
                self.receive(1, presence("emil", counter, sequence=2 * counter)) + self.wait(20)
            )
        # The messages that the author told of first are given up; for later ones it is not time yet.
        self.assertEqual(gaps, [(2, 2), (3, 4), (5, 6)])

    def test_what_comes_in_time_is_no_gap(self) -> None:
        self.join()
        self.receive(1, presence("dora", 1, 4), batch("dora", 1, 2))
        self.wait(29)
        self.receive(1, batch("dora", 3))
        self.assertEqual(self.gaps(self.wait(29)), [])
        self.receive(1, batch("dora", 4))
        self.assertEqual(self.gaps(self.wait(100)), [])

    def test_a_record_that_overtakes_the_batch_it_names_is_no_loss(self) -> None:
        self.join()
        self.receive(1, presence("dora", 1, 4))
        self.assertEqual(self.delivered(self.receive(1, batch("dora", 1, 4))), [(1, [1, 2, 3, 4])])
        self.assertEqual(self.gaps(self.wait(100)), [])

    def test_a_claim_that_is_a_lie_does_not_make_a_newcomer_deaf(self) -> None:
        # The record of the roster proves five messages, and nothing proves more.
        for low in (1, MAX_NUMBER - 1):
            self.join(structs.replace(LIE, low=low), dora=5)
            effects = self.receive(1, batch("dora", 6, 2))
            effects += self.wait(31)  # of what is below, nothing comes
            self.assertEqual((self.delivered(effects), self.gaps(effects)), ([(6, [6, 7])], []))

    def test_nor_is_a_message_lost_that_came_before_the_roster(self) -> None:
        for low in (1, MAX_NUMBER - 1):
            self.make()
            self.up(
                1, "anna", SnapshotEntry(origin_of("dora"), 1, low, MAX_NUMBER - 2, MAX_NUMBER - 2, b"")
            )
            self.up(2, "bert")
            self.assertEqual(self.delivered(self.receive(2, batch("dora", 1, 3), batch("dora", 4))), [])
            effects = self.receive(1, roster(presence("dora", 3, 2)))
            if low > 1:  # nothing was held: the messages seemed to be old ones, and are asked for
                self.assertEqual(self.delivered(effects), [])
                effects = self.receive(2, have("dora", 1, 4), batch("dora", 1, 3), batch("dora", 4))
            numbers = [number for _, some in self.delivered(effects) for number in some]
            self.assertEqual(numbers[-2:], [3, 4])

    def test_a_neighbour_that_holds_its_roster_back_delays_messages_and_takes_none(self) -> None:
        self.up(1, "anna", LIE)
        self.up(2, "bert")
        said = presence("dora", 1, 5), batch("dora", 6), batch("emil", 1)
        self.assertEqual(self.delivered(self.receive(2, *said)), [])
        self.assertEqual(self.delivered(self.wait(29)), [])
        self.assertEqual(self.delivered(self.wait(2)), [(1, [1])])
        effects = self.receive(2, have("dora", 6, 7), batch("dora", 6), batch("dora", 7))
        self.assertEqual(self.delivered(effects), [(6, [6]), (7, [7])])
        self.receive(1, roster(presence("dora", 2, 99)))
        self.assertEqual(self.delivered(self.receive(2, batch("dora", 8))), [(8, [8])])

    def test_nor_does_a_record_that_is_newer_than_a_message_that_was_pushed(self) -> None:
        self.up(1, "anna", LIE)
        self.up(2, "bert")
        self.assertEqual(self.delivered(self.receive(2, batch("dora", 6), batch("dora", 7))), [])
        effects = self.receive(1, roster(presence("dora", 1, 9)))
        self.assertEqual(self.delivered(effects), [])  # nothing is held: a claim only said that it came
        effects = self.receive(2, have("dora", 6, 9), batch("dora", 6), batch("dora", 7))
        self.assertEqual(self.delivered(effects), [(6, [6]), (7, [7])])

    def test_messages_of_an_unproven_stream_are_delivered_in_order_and_once(self) -> None:
        # They come above the base that was told, and would overtake those between it and the true base.
        self.make()
        self.up(1, "anna", SnapshotEntry(origin_of("dora"), 1, 1, 4, 4, b""))
        self.assertEqual(self.delivered(self.receive(1, batch("dora", 1, 4), batch("dora", 5))), [])
        effects = self.receive(1, roster(presence("dora", 3, 2)))
        self.assertEqual(self.delivered(effects), [(3, [3, 4]), (5, [5])])
        self.assertEqual(self.delivered(self.receive(1, batch("dora", 6))), [(6, [6])])

    def test_the_header_in_the_snapshot_proves_more_than_the_record_of_the_roster(self) -> None:
        # Messages between that record and the base were published before this node joined.
        self.join(entry("dora", 50, count=5), dora=40)
        effects = self.receive(1, presence("dora", 4, 45), batch("dora", 46, 5), batch("dora", 51))
        self.assertEqual((self.delivered(effects), self.gaps(effects)), ([(51, [51])], []))

    def test_a_header_that_its_author_did_not_sign_closes_the_link(self) -> None:
        for false, reason in (
            (forged(batch("dora", 50)).header, Reason.SIGNATURE),
            (batch("dora", 50, epoch=2).header, Reason.SHAPE),
            (batch("emil", 50).header, Reason.SHAPE),
        ):
            self.make()
            self.open(1, "anna")
            proof = codec.pack_header(false)
            effects = self.receive(
                1, Snapshot(True, [SnapshotEntry(origin_of("dora"), 1, 51, 50, 50, proof)])
            )
            self.assertEqual(self.closed(effects), [(1, reason)])
            self.assertFalse(self.node.settled)

    def test_of_a_run_that_had_ended_what_the_neighbour_held_above_the_base_is_delivered(self) -> None:
        # The record of a later run proves that nothing more is said in it.
        for base, first in ((9, []), (8, [(9, [9, 10])])):
            self.make()
            self.up(1, "anna", SnapshotEntry(origin_of("dora"), 1, 1, 9, base, b""))
            self.receive(1, roster(presence("dora", 3, 2, epoch=2)))
            effects = self.receive(1, batch("dora", 1, 8), batch("dora", 9, 2))
            self.assertEqual(self.delivered(effects), first)

    def test_of_an_author_on_nobodys_roster_nothing_but_a_header_proves_a_base(self) -> None:
        self.join(SnapshotEntry(origin_of("dora"), 1, 1, 9, 9, b""))
        self.assertEqual(self.delivered(self.receive(1, batch("dora", 1, 2))), [(1, [1, 2])])

    def test_an_author_with_many_runs_opens_no_more_streams_than_others_may(self) -> None:
        # Each run is a hole, known by a record alone: no batch may ever come.
        self.make(open_streams=4)
        self.up(1, "anna")
        self.receive(1, roster())
        effects = []
        for epoch in range(1, 50):
            effects += self.receive(1, presence("dora", 1, 7, epoch=epoch))
            self.assertLessEqual(self.node.footprint()["open_streams"], 4)
        effects += self.wait(31)
        self.assertEqual(self.gaps(effects), [(1, 7)] * 49)
        self.assertEqual(self.node.footprint()["holed_streams"], 0)

    def test_a_tail_of_an_old_stream_is_waited_for_like_any_other(self) -> None:
        # The stream is about to be closed when its author tells of more.
        self.join(entry("dora", 2))
        self.wait(595)
        self.receive(1, presence("dora", 1, 3))
        effects = self.wait(29)
        self.assertEqual((self.gaps(effects), self.node.footprint()["holed_streams"]), ([], 1))
        self.assertEqual(self.gaps(self.wait(2)), [(3, 3)])
        self.assertEqual(self.delivered(self.receive(1, batch("dora", 3, 2))), [(4, [4])])


class TestExchanges(EvidenceTestCase):
    """An exchange is answered like any link, and is no neighbour."""

    def test_it_tells_and_is_told_like_any_other(self) -> None:
        self.star("anna")
        self.receive(1, batch("emil", 1))
        frames = self.all_frames(self.exchange(), 9)
        self.assertEqual([type(frame).__name__ for frame in frames], ["Snapshot", "Roster", "Ping"])
        effects = self.receive(9, roster(), have("emil", 1, 3))
        self.assertEqual(self.wants(effects, 9), [("emil", 2, 3)])
        self.assertEqual(self.delivered(self.receive(9, batch("emil", 2, 2))), [(2, [2, 3])])

    def test_it_is_not_in_the_routing_table(self) -> None:
        self.star("anna")
        effects = self.exchange()
        self.assertEqual((of(effects, LinkUp), of(effects, ExchangeBegun)), ([], [ExchangeBegun(9)]))
        self.assertEqual(of(self.handle(closing(9)), LinkDown), [])

    def test_nothing_is_pushed_over_it(self) -> None:
        self.star("anna")
        self.exchange()
        effects = self.publish("a")
        effects += self.receive(1, presence("emil"), batch("emil", 1))
        effects += self.wait(1)
        self.assertEqual(self.all_frames(effects, 9), [])

    def test_of_one_node_there_is_one_and_none_of_a_neighbour(self) -> None:
        self.star("anna")
        self.exchange()
        self.assertEqual(self.closed(self.exchange(10)), [(10, Reason.DUPLICATE)])
        self.assertEqual(self.closed(self.exchange(11, "anna")), [(11, Reason.DUPLICATE)])
        self.handle(closing(9))
        self.assertEqual(self.closed(self.exchange(12)), [])

    def test_so_many_that_others_dialled_and_no_more(self) -> None:
        self.make(exchanges_limit=2)
        self.exchange(1, "anna")
        self.exchange(2, "bert")
        self.assertEqual(self.closed(self.exchange(3, "cleo")), [(3, Reason.ROOM)])
        self.assertEqual(self.closed(self.exchange(4, "dora", outgoing=True)), [])
        self.handle(closing(1))
        self.assertEqual(self.closed(self.exchange(5, "emil")), [])

    def test_one_that_lasts_gives_its_place_up(self) -> None:
        # For gap_longest a slow line keeps an exchange open, and a few members could drip over all of them.
        self.make(exchanges_limit=1)
        self.exchange(1, "anna")
        effects = []
        for _ in range(66):
            effects += self.handle(Arriving(1, None, 100, 2**20)) + self.wait(1)
        self.assertEqual(self.closed(effects), [])
        self.assertEqual(self.closed(self.exchange(2, "bert")), [(1, Reason.DONE)])
        self.assertEqual(self.closed(self.exchange(3, "cleo")), [(3, Reason.ROOM)])

    def test_of_one_host_four_and_no_more(self) -> None:
        self.make()
        for number in range(1, 5):
            self.assertEqual(self.closed(self.exchange(number, f"crowd {number}", host="8.8.8.8")), [])
        self.assertEqual(self.closed(self.exchange(5, "crowd 5", host="8.8.8.8")), [(5, Reason.ROOM)])
        self.assertEqual(self.closed(self.exchange(6, "anna", host="8.8.4.4")), [])
        self.assertEqual(self.closed(self.exchange(7, "bert", host="8.8.8.8", outgoing=True)), [])
        self.handle(closing(2))
        self.assertEqual(self.closed(self.exchange(8, "crowd 8", host="8.8.8.8")), [])

    def test_nodes_of_this_host_or_of_a_private_network_are_not_counted(self) -> None:
        for host in ("127.0.0.1", "::1", "10.0.0.3", ""):
            self.make()
            for number in range(1, 7):
                self.assertEqual(self.closed(self.exchange(number, f"member {number}", host=host)), [])

    def test_if_there_are_too_many_one_of_a_host_with_more_ends(self) -> None:
        self.make(exchanges_limit=3)
        for number, host in ((1, "10.0.0.3"), (2, "10.0.0.4"), (3, "10.0.0.4")):
            self.exchange(number, f"member {number}", host=host)
        self.assertEqual(self.closed(self.exchange(4, "anna", host="10.0.0.3")), [(4, Reason.ROOM)])
        self.assertEqual(self.closed(self.exchange(5, "bert", host="10.0.0.5")), [(2, Reason.DONE)])

    def test_one_that_leads_to_nothing_is_ended_by_either_end(self) -> None:
        for outgoing, seconds in ((True, 15), (False, 20)):
            self.star("anna")
            self.exchange(outgoing=outgoing)
            effects = []
            for _ in range(seconds - 1):
                effects += self.receive(9, Ping(1), have("emil", 1, 3)) + self.wait(1)
            self.assertEqual(self.closed(effects), [])
            self.assertEqual(self.closed(self.wait(2)), [(9, Reason.DONE)])

    def test_one_that_leads_to_something_lasts(self) -> None:
        self.star("anna")
        self.exchange()
        effects = []
        for number in range(1, 6):
            effects += self.receive(9, batch("emil", number)) + self.wait(9)
        self.assertEqual(self.closed(effects), [])
        self.receive(9, want("emil", 1, 5))
        self.assertEqual(self.closed(self.wait(14)), [])
        self.assertEqual(self.closed(self.wait(7)), [(9, Reason.DONE)])

    def test_who_dialled_ends_it_when_it_is_idle(self) -> None:
        self.star("anna")
        self.exchange(outgoing=True)
        self.assertEqual(self.closed(self.wait(10)), [])  # its roster is not here
        self.receive(9, roster())
        self.accept(9)
        self.assertEqual(self.closed(self.wait(1.9)), [])
        self.assertEqual(self.closed(self.wait(1.2)), [(9, Reason.DONE)])
        self.assertEqual(self.node.footprint()["exchanges"], 0)

    def test_not_while_anything_is_under_way(self) -> None:
        self.star("anna")
        self.exchange(outgoing=True)
        self.receive(9, roster())
        self.assertEqual(self.closed(self.wait(10)), [])  # what was sent is not accepted yet
        self.accept(9)
        self.receive(9, have("emil", 1, 3))
        self.accept(9)
        self.assertEqual(self.closed(self.wait(0.9)), [])  # it is asked for something
        self.receive(9, batch("emil", 1, 3), have("emil", 1, 3, answer=True))
        self.accept(9)
        self.assertEqual(self.closed(self.wait(4)), [(9, Reason.DONE)])

    def test_it_ends_in_any_case(self) -> None:
        for outgoing, seconds in ((True, 60), (False, 65)):
            self.star("anna")
            self.exchange(outgoing=outgoing)
            effects = []
            for number in range(1, seconds):
                effects += self.wait(1)
                effects += self.receive(9, Pong(1), batch("emil", number))
            self.assertEqual(self.closed(effects), [])
            self.assertEqual(self.closed(self.wait(2)), [(9, Reason.DONE)])

    def test_as_long_as_a_slow_line_carries_something_it_goes_on_but_not_for_ever(self) -> None:
        for outgoing in (True, False):
            self.star("anna", gap_longest=200)
            self.exchange(outgoing=outgoing)
            closed = []
            for second in range(199):
                self.handle(events.Arriving(9, None, 1000 * second, 2**20))
                closed += self.closed(self.wait(1))
            self.assertEqual(closed, [])
            self.handle(events.Arriving(9, None, 2**20 - 1, 2**20))
            self.assertEqual(self.closed(self.wait(8)), [(9, Reason.DONE)])

    def test_one_that_never_says_what_it_has_ends_too(self) -> None:
        self.open(9, "dora", purpose=EXCHANGE)
        self.assertEqual(self.closed(self.wait(66)), [(9, Reason.DONE)])

    def test_without_an_overlay_it_stays_an_exchange(self) -> None:
        for vote in KeepVote:
            self.star("anna")
            effects = self.exchange()
            [told] = self.rosters(effects, 9)
            self.assertIs(KeepVote(told.vote), KeepVote.NEVER)
            self.assertEqual(of(self.receive(9, roster(vote=vote)), LinkUp), [])

    def test_all_of_it_is_given_back(self) -> None:
        self.star("anna")
        self.wait(20)
        before = self.node.footprint()
        self.exchange()
        self.receive(9, roster(), have("emil", 1, 3), Prune([origin_of("emil")]))
        self.assertNotEqual(self.node.footprint(), before)
        self.handle(closing(9))
        self.wait(20)
        self.assert_untouched(before, 9)

    def test_what_it_still_brings_counts(self) -> None:
        self.star("anna", "bert")
        self.exchange()
        self.handle(closing(9))
        effects = self.receive(9, presence("emil"), batch("emil", 1), roster())
        self.assertEqual(self.delivered(effects), [(1, [1])])
        self.assertEqual(self.all_frames(effects, 9), [])


class TestStaying(EvidenceTestCase):
    """An exchange of nodes that did not know each other becomes a link: there may be two islands."""

    manner: dict[str, object] = {"profile": Profile(overlay=True)}

    def knows(self, *names: str) -> None:
        """A node with a link to Anna, whose roster has *names*."""
        self.star("anna")
        self.receive(1, *(presence(name) for name in names))

    def test_where_either_did_not_know_the_other_it_stays(self) -> None:
        for known, theirs, stays in (
            (True, KeepVote.CONTENT, False),
            (True, KeepVote.WANTED, True),
            (False, KeepVote.CONTENT, True),
            (False, KeepVote.WANTED, True),
            (False, KeepVote.NEVER, False),
        ):
            self.knows(*(["dora"] if known else []))
            [told] = self.rosters(self.exchange(), 9)
            self.assertIs(KeepVote(told.vote), KeepVote.CONTENT if known else KeepVote.WANTED)
            effects = self.receive(9, roster(vote=theirs))
            self.assertEqual(of(effects, LinkUp), [LinkUp(9)] if stays else [])
            effects = self.publish("a")
            self.assertEqual(self.sent(effects, 9), [(1, 1)] if stays else [])

    def test_one_that_is_down_here_is_not_known(self) -> None:
        self.knows("dora")
        self.wait(100)
        [told] = self.rosters(self.exchange(), 9)
        self.assertIs(KeepVote(told.vote), KeepVote.WANTED)

    def test_a_guest_is_on_no_roster_and_yet_known(self) -> None:
        self.star("anna")
        effects = self.open(9, "dora", purpose=EXCHANGE, role=Role.GUEST)
        self.assertIs(KeepVote(self.rosters(effects, 9)[0].vote), KeepVote.CONTENT)

    def test_it_is_no_exchange_any_more(self) -> None:
        self.knows()
        self.exchange(outgoing=True)
        self.receive(9, roster())
        self.accept(9)
        self.assertEqual([number for number, _ in self.closed(self.wait(100)) if number == 9], [])
        self.assertEqual(self.node.footprint()["exchange_links"], 0)
        self.assertEqual(of(self.handle(closing(9)), LinkDown), [LinkDown(9, Reason.DISCONNECT)])

    def test_it_joins(self) -> None:
        self.exchange()
        self.assertEqual(of(self.receive(9, roster()), Joined), [Joined()])

    def test_while_its_roster_is_incomplete_it_is_undecided(self) -> None:
        self.knows()
        self.exchange()
        self.assertEqual(of(self.receive(9, roster(last=False)), LinkUp), [])
        self.assertEqual(of(self.receive(9, roster()), LinkUp), [LinkUp(9)])

    def test_with_twenty_neighbours_that_came_unsought_there_is_no_room(self) -> None:
        self.star()
        for number in range(100, 120):
            self.open(number, f"dialler {number}", purpose=Purpose.URGENT)
        self.exchange()
        effects = self.receive(9, roster(vote=KeepVote.WANTED))
        self.assertEqual(self.closed(effects), [(9, Reason.ROOM)])
        self.assertEqual(of(effects, LinkUp), [])

    def test_where_a_link_was_made_meanwhile_one_of_both_stays(self) -> None:
        for outgoing in (True, False):
            self.knows()
            self.exchange(outgoing=outgoing)
            self.up(10, "dora", outgoing=outgoing)
            effects = self.receive(9, roster())
            self.assertEqual(of(effects, LinkUp), [LinkUp(9)])
            # Of two links that the same end dialled, the acceptor keeps the one that was made later.
            down = [] if outgoing else [LinkDown(10, Reason.DUPLICATE)]
            self.assertEqual(of(effects, LinkDown), down)
            self.assertEqual(self.closed(effects), [] if outgoing else [(10, Reason.DUPLICATE)])
            if outgoing:  # it is for the other end to say, and it says either
                for number, left in ((9, 10), (10, 9)):
                    effects = self.handle(closing(number, Reason.DUPLICATE))
                    self.assertEqual(of(effects, LinkUp), [LinkUp(left)] if number == 9 else [])
                    break

    def test_where_that_is_of_a_later_run_the_exchange_goes(self) -> None:
        self.knows()
        self.exchange()
        self.open(10, "dora", epoch=2)
        self.receive(10, ALL)
        effects = self.receive(9, roster())
        self.assertEqual(self.closed(effects), [(9, Reason.KEY)])
        self.assertEqual(of(effects, LinkUp) + of(effects, LinkDown), [])

    def test_on_one_that_closes_nothing_comes_of_it(self) -> None:
        self.knows()
        self.exchange()
        self.handle(closing(9))
        effects = self.receive(9, roster())
        self.assertEqual(of(effects, LinkUp) + self.closed(effects), [])


class TestKeyElsewhere(EvidenceTestCase):
    """Of two nodes with one key, the older is told why it is not let in."""

    def test_one_that_is_not_let_in_for_a_newer_run_is_sent_its_record(self) -> None:
        self.star("bert")
        self.open(3, "anna", epoch=2)
        self.receive(3, ALL, presence("anna", 3, epoch=2))
        effects = self.open(4, "anna")
        self.assertEqual(self.closed(effects), [(4, Reason.KEY)])
        self.assertEqual(self.presences(effects, 4), [("anna", 3, 0)])

    def test_a_double_of_the_same_run_brings_none(self) -> None:
        self.star("bert")
        self.open(3, "anna", outgoing=True)
        self.receive(3, ALL, presence("anna", 3))
        effects = self.open(4, "anna", outgoing=True) + self.receive(4, ALL)
        self.assertEqual(self.presences(effects, 3) + self.presences(effects, 4), [])

    def test_who_is_told_so_before_the_frontier_says_that_its_key_is_in_use(self) -> None:
        self.make()
        self.open(1, "bert")
        effects = self.receive(1, presence("me", 3, epoch=8))
        self.assertEqual((of(effects, KeyInUse), self.closed(effects)), ([KeyInUse(8)], []))
        self.assertTrue(self.node.has_key_conflict)

    def test_with_a_false_signature_it_is_not(self) -> None:
        self.make()
        self.open(1, "bert")
        effects = self.receive(1, forged(presence("me", 3, epoch=8)))
        self.assertEqual((of(effects, KeyInUse), self.closed(effects)), ([], [(1, Reason.SIGNATURE)]))


class TestDials(EvidenceTestCase):
    """A dial is over when its node is linked or was not found."""

    def setUp(self) -> None:
        super().setUp()
        self.star("anna", dials_at_once=1)
        self.receive(1, presence("dora", 1, 0, address=(HOST, 4444)))

    def drawn(self) -> list[Dial]:
        """The dials of the next 80 seconds."""
        effects = self.wait(80)
        self.receive(1, presence("dora", self.entry("dora").rank[1] + 1, 0, address=(HOST, 4444)))
        return of(effects, Dial)

    def test_one_that_was_linked_is(self) -> None:
        self.assertEqual(self.drawn(), [Dial(contact("dora"), EXCHANGE)])
        self.assertEqual(self.node.footprint()["dials_under_way"], 1)
        self.open(9, "dora", outgoing=True, purpose=EXCHANGE)
        self.assertEqual(self.node.footprint()["dials_under_way"], 0)

    def test_even_if_it_is_not_wanted(self) -> None:
        self.drawn()
        self.up(8, "dora")
        self.assertEqual(
            self.closed(self.open(9, "dora", outgoing=True, purpose=EXCHANGE)), [(9, Reason.DUPLICATE)]
        )
        self.assertEqual(self.node.footprint()["dials_under_way"], 0)


class TestOverlay(EvidenceTestCase):
    """What the node tells the overlay, and what it does for it."""

    manner: dict[str, object] = {"profile": Profile(overlay=True), "address": (HOST, 4444)}

    def gossip(self, effects: list[Effect], number: int) -> list[object]:
        """The overlay's frames that are sent over a link."""
        kinds = ForwardJoin | Shuffle | ShuffleReply
        return [frame for frame in self.all_frames(effects, number) if isinstance(frame, kinds)]

    def full(self) -> None:
        """Begin anew with one neighbour more than the overlay looks for."""
        self.star(active_view=2)
        for number, name in enumerate(("anna", "bert", "cleo"), 1):
            self.open(number, name, address=(HOST, 4000 + number))
            self.receive(number, ALL, roster())

    def test_who_would_like_to_be_a_neighbour_is_refused_where_there_is_no_room(self) -> None:
        self.full()
        effects = self.open(9, "dora", purpose=Purpose.NEIGHBOUR)
        self.assertEqual(self.closed(effects), [(9, Reason.ROOM)])
        self.assertEqual(self.all_frames(effects, 9), [])

    def test_one_whose_place_this_node_has_now_is_not_dialled(self) -> None:
        self.star("anna")
        effects = self.receive(1, presence("dora", address=(HOST, 4444))) + self.wait(80)
        self.assertEqual(of(effects, Dial), [])

    def test_members_that_can_be_dialled_are_made_neighbours(self) -> None:
        self.star("anna")
        told = presence("dora", address=(HOST, 4445))
        effects = self.receive(1, told) + self.wait(5)
        self.assertEqual(of(effects, Dial)[0].contact, contact("dora", port=4445))
        self.assertIs(of(effects, Dial)[0].purpose, Purpose.NEIGHBOUR)
        # If the node is not there, another one is tried, and that place is left alone for a while.
        self.handle(DialFailed(id_of(origin_of("dora"))))
        self.assertEqual(self.node.footprint()["dials_under_way"], 0)
        self.assertEqual([dial for dial in of(self.wait(20), Dial) if dial.contact.port == 4445], [])

    def test_so_are_those_of_earlier_runs(self) -> None:
        dora = contact("dora", "10.0.0.9")
        self.handle(Known([dora]))
        self.assertEqual(of(self.wait(5), Dial)[0].contact, dora)

    def test_its_words_come_to_it_over_links_that_are_up(self) -> None:
        self.star("anna", "bert", "cleo")
        walk = ForwardJoin(contact("emil", port=4446), 0, False)
        self.assertEqual([dial.contact for dial in of(self.receive(1, walk), Dial)], [walk.contact])
        effects = self.receive(2, Shuffle(7, [], 0))
        self.assertEqual([type(frame) for frame in self.gossip(effects, 2)], [ShuffleReply])
        self.receive(3, ShuffleReply(8, []))  # which nobody asked for

    def test_and_over_no_other(self) -> None:
        self.full()
        self.receive(1, presence("dora"))
        self.open(9, "dora", purpose=EXCHANGE)
        self.receive(9, ALL, roster())
        self.assertEqual(self.gossip(self.receive(9, Shuffle(7, [], 0)), 9), [])
        self.handle(closing(1))
        self.assertEqual(of(self.receive(1, Shuffle(7, [], 0)), Send), [])

    def test_without_one_they_are_nothing(self) -> None:
        self.manner = {"profile": Profile(overlay=False)}
        self.star("anna", "bert")
        walk = ForwardJoin(contact("emil", port=4446), 1, False)
        for frame in (walk, Shuffle(7, [], 0), ShuffleReply(7, [])):
            self.assertEqual(self.receive(1, frame), [])
        self.receive(1, presence("dora", address=(HOST, 4445)))
        self.handle(DialFailed(id_of(origin_of("dora"))))
        self.assertEqual(of(self.wait(20), Dial), [])
        self.assertNotIn(Timer.OVERLAY, self.timers)
