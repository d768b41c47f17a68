"""Suspicion: a node that lost a link without a BYE says so, and a suspect that lives refutes it."""

from __future__ import annotations

from tests.core.membership_case import MembershipTestCase
from tests.core.network import (
    closing,
    forged,
    of,
    presence,
    prune,
    records,
    signature_of,
    suspect,
)
from tests.core.node_case import ALL
from twisted_mesh.core.events import Effect, Leaving, LinkClosed, MemberChanged, Send, Timer
from twisted_mesh.core.handshake import Profile
from twisted_mesh.core.membership import suspicion
from twisted_mesh.core.membership.roster import State
from twisted_mesh.errors import Reason
from twisted_mesh.wire.link import Ping, Pong
from twisted_mesh.wire.membership import PresenceFlags, Purpose, Role, Suspect
from twisted_mesh.wire.signed import SignedRecord


class TestAccusing(MembershipTestCase):
    """A node that lost its last link to a member without a BYE tells the others."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def begin(self, **limits: float) -> None:
        """Links to Anna, Bert and Cleo, who all said that they are there."""
        self.members("anna", "bert", "cleo", counter=4, **limits)

    def test_a_lost_link_is_told_to_all(self) -> None:
        for lost in (closing(1, Reason.LOST), None, LinkClosed(1)):
            self.begin(ping_after=5.0, dead_after=15.0)
            self.wait(10)
            for number in (2, 3):
                self.receive(number, Pong(number))
            effects = self.wait(5) if lost is None else self.handle(lost)
            for number in (2, 3):
                self.assertEqual(self.suspicions(effects, number), [("me", "anna", 4)])
            self.assertEqual(self.changed(effects), ["anna"])
            self.assertIs(self.state("anna"), State.SUSPECT)

    def test_who_says_that_this_node_was_silent_is_not(self) -> None:
        # A node that was held up for long finds its links ended by those that waited for it.
        self.begin(ping_after=5.0, dead_after=15.0)
        self.now += 20
        self.receive(1, Ping(7))
        self.assertEqual(self.suspicions(self.handle(closing(1, Reason.SILENT)), 2), [])
        self.assertIs(self.state("anna"), State.UP)

    def test_a_link_that_ended_with_a_word_is_not(self) -> None:
        for reason in set(Reason) - {Reason.LOST, Reason.SILENT}:
            self.begin()
            self.assertEqual(self.suspicions(self.handle(closing(1, reason)), 2), [])
            self.assertIs(self.state("anna"), State.UP)

    def test_nor_is_the_end_of_its_connection_then(self) -> None:
        self.handle(closing(1, Reason.DISCONNECT))
        self.assertEqual(self.handle(LinkClosed(1)), [])

    def test_while_there_is_another_link_nobody_is_accused(self) -> None:
        self.open(4, "anna")
        self.assertEqual(self.suspicions(self.handle(closing(1, Reason.LOST)), 2), [])
        # The loss of a link that never came up shows nothing, either.
        self.assertEqual(self.suspicions(self.handle(closing(4, Reason.LOST)), 2), [])

    def test_an_exchange_that_ends_is_no_loss(self) -> None:
        self.receive(2, presence("dora"))
        self.up(4, "dora")
        self.open(5, "emil", purpose=Purpose.EXCHANGE)
        self.receive(2, presence("emil"))
        self.assertEqual(self.suspicions(self.handle(closing(5, Reason.LOST)), 2), [])

    def test_one_accusation_a_second(self) -> None:
        self.handle(closing(1, Reason.LOST))
        self.now += 0.9
        self.assertEqual(self.suspicions(self.handle(closing(2, Reason.LOST)), 3), [])
        self.begin()
        self.handle(closing(1, Reason.LOST))
        self.now += 1
        self.assertEqual(self.suspicions(self.handle(closing(2, Reason.LOST)), 3), [("me", "bert", 4)])

    def test_who_is_suspected_or_gone_already_is_not_accused_again(self) -> None:
        self.receive(2, suspect("bert", "anna", 4))
        self.assertEqual(self.suspicions(self.handle(closing(1, Reason.LOST)), 2), [])
        self.begin()
        self.receive(1, presence("anna", 5, flags=PresenceFlags.LEAVING))
        self.assertEqual(self.suspicions(self.handle(closing(1, Reason.LOST)), 2), [])

    def test_nor_is_who_is_no_member(self) -> None:
        self.receive(1, presence("anna", 5, role=Role.GUEST))
        self.assertEqual(self.suspicions(self.handle(closing(1, Reason.LOST)), 2), [])
        self.up(4, "emil")
        self.assertEqual(self.suspicions(self.handle(closing(4, Reason.LOST)), 2), [])

    def test_alone_it_suspects_and_tells_nobody(self) -> None:
        self.members("anna", counter=4)
        effects = self.handle(closing(1, Reason.LOST))
        self.assertEqual((self.changed(effects), of(effects, Send)), (["anna"], []))

    def test_while_a_line_is_slow_nobody_is_given_up_for_a_suspicion(self) -> None:
        # The record that refutes the suspicion may stand in the queue of that line.
        self.handle(closing(1, Reason.LOST))
        self.assertEqual(self.changed(self.slow(40, 2)), [])
        self.assertIs(self.state("anna"), State.SUSPECT)
        self.receive(2, presence("anna", 5))
        self.assertIs(self.state("anna"), State.UP)

    def test_when_it_is_slow_no_more_it_is_down_soon(self) -> None:
        self.handle(closing(1, Reason.LOST))
        self.slow(40, 2)
        self.assertEqual(self.changed(self.wait(15)), ["anna"])
        self.assertIs(self.state("anna"), State.DOWN)

    def test_whose_record_is_overdue_is_down_all_the_same(self) -> None:
        self.handle(closing(1, Reason.LOST))
        self.slow(3 * 30 - 1, 2)
        self.assertIs(self.state("anna"), State.SUSPECT)
        self.slow(10, 2)
        self.assertIs(self.state("anna"), State.DOWN)

    def test_who_links_again_and_counts_as_gone_is_told_so(self) -> None:
        # The member may not know that, and has no other reason to speak soon.
        self.handle(closing(1, Reason.LOST))
        self.wait(15)
        self.open(9, "anna")
        effects = self.receive(9, ALL)
        self.assertEqual(self.suspicions(effects, 9), [("me", "anna", 4)])
        self.assertEqual(self.suspicions(effects, 2), [])

    def test_who_left_said_so_itself(self) -> None:
        self.receive(1, presence("anna", 5, flags=PresenceFlags.LEAVING))
        self.handle(closing(1, Reason.LEAVING))
        self.open(9, "anna")
        self.assertEqual(self.suspicions(self.receive(9, ALL), 9), [])

    def test_not_by_who_is_not_there_itself(self) -> None:
        self.handle(closing(1, Reason.LOST))
        self.handle(Leaving())
        self.open(9, "anna")
        self.assertEqual(self.suspicions(self.receive(9, ALL), 9), [])


class TestHearing(MembershipTestCase):
    """A suspicion counts once, if it is of the newest record and comes from a member."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def begin(self) -> None:
        """Links to Anna, Bert and Cleo; Dora and Emil are members behind them."""
        self.members("anna", "bert", "cleo", counter=4)
        self.receive(1, presence("dora", 7, epoch=3), presence("emil", 1))

    def assert_idle(self, *frames: SignedRecord) -> None:
        """Assert that *frames* do nothing."""
        for frame in frames:
            idle = self.count("idle_suspicions")
            effects = self.receive(2, frame)
            self.assertEqual(of(effects, Send) + of(effects, MemberChanged), [])
            self.assertEqual(self.count("idle_suspicions"), idle + 1)

    def test_it_goes_to_all_others_one_hop_further(self) -> None:
        effects = self.receive(2, suspect("emil", "dora", 7, epoch=3))
        [send] = of(effects, Send)
        self.assertEqual((send.links, send.frame), ([1, 3], suspect("emil", "dora", 7, epoch=3).relayed()))
        self.assertEqual(self.changed(effects), ["dora"])
        self.assertIs(self.state("dora"), State.SUSPECT)

    def test_of_each_record_only_the_first_counts(self) -> None:
        self.receive(2, suspect("emil", "dora", 7, epoch=3))
        self.now += 5
        self.assert_idle(suspect("emil", "dora", 7, epoch=3), suspect("anna", "dora", 7, epoch=3))

    def test_of_an_older_or_a_newer_record_none_does(self) -> None:
        self.assert_idle(
            suspect("emil", "dora", 6, epoch=3),
            suspect("emil", "dora", 8, epoch=3),
            suspect("emil", "dora", 7, epoch=2),
            suspect("emil", "dora", 7, epoch=4),
        )

    def test_who_lacks_the_newest_record_is_sent_it_once(self) -> None:
        self.receive(2, prune("dora"))
        self.assertEqual(self.presences(self.receive(1, presence("dora", 8, epoch=3)), 2), [])
        effects = self.receive(2, suspect("emil", "dora", 7, epoch=3))
        self.assertEqual(self.all_frames(effects, 2), [records(presence("dora", 8, epoch=3))])
        self.assertIs(self.state("dora"), State.UP)
        self.assert_idle(suspect("anna", "dora", 7, epoch=3), suspect("emil", "dora", 9, epoch=3))

    def test_over_a_link_that_ends_it_is_not(self) -> None:
        self.receive(2, prune("dora"))
        self.receive(1, presence("dora", 8, epoch=3))
        self.handle(closing(2))
        self.assert_idle(suspect("emil", "dora", 7, epoch=3))

    def test_so_is_who_lacks_that_of_this_node(self) -> None:
        self.receive(2, prune("me"))
        self.wait(40)
        effects = self.receive(2, suspect("emil", "me", 1))
        [(name, counter, _)] = self.presences(effects, 2)
        self.assertEqual((name, counter), ("me", self.node.membership.announcing.rank[1]))
        self.assertGreater(counter, 1)

    def test_nor_of_one_nobody_knows(self) -> None:
        self.assert_idle(suspect("emil", "fred", 0, epoch=0), suspect("emil", "fred", 1))

    def test_an_accuser_must_be_a_member_that_is_there(self) -> None:
        self.assert_idle(suspect("fred", "dora", 7, epoch=3))
        self.receive(1, presence("fred", 1, role=Role.GUEST))
        self.assert_idle(suspect("fred", "dora", 7, epoch=3))
        self.receive(1, presence("emil", 2, flags=PresenceFlags.LEAVING))
        self.assert_idle(suspect("emil", "dora", 7, epoch=3))

    def test_who_accuses_itself_is_not_heard(self) -> None:
        self.assert_idle(suspect("dora", "dora", 7, epoch=3))

    def test_own_ones_that_come_back_are_nothing(self) -> None:
        self.assert_idle(suspect("me", "dora", 7, epoch=3), suspect("me", "me", 1))

    def test_a_forged_one_closes_the_link_and_does_nothing(self) -> None:
        good = suspect("emil", "dora", 7, epoch=3)
        for signature in (bytes(64), suspect("emil", "dora", 7).signature, signature_of(b"x", good.array)):
            self.begin()
            effects = self.receive(2, SignedRecord(good.record, signature, good.array))
            self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])
            self.assertIs(self.state("dora"), State.UP)

    def test_one_a_second_and_accuser(self) -> None:
        self.receive(2, suspect("emil", "dora", 7, epoch=3))
        self.now += 0.9
        effects = self.receive(2, suspect("emil", "anna", 4))
        self.assertEqual(self.changed(effects), [])
        # The suspicion may count elsewhere, so the suspect must hear of it: once, by the way to it.
        self.assertEqual([self.suspicions(effects, number) for number in (2, 3)], [[], []])
        self.assertEqual(len(self.suspicions(effects, 1)), 1)
        self.assert_idle(suspect("emil", "anna", 4))
        self.assertEqual(self.changed(self.receive(2, suspect("bert", "anna", 4))), ["anna"])
        self.now += 0.1
        self.assertEqual(self.changed(self.receive(2, suspect("emil", "cleo", 4))), ["cleo"])

    def test_where_there_is_nobody_else_a_further_one_goes_nowhere(self) -> None:
        self.star("anna")
        self.receive(1, *(presence(name, 1) for name in ("anna", "dora", "emil")))
        self.receive(1, suspect("anna", "dora", 1))
        effects = self.receive(1, suspect("anna", "emil", 1))
        self.assertEqual(of(effects, Send) + of(effects, MemberChanged), [])

    def test_a_word_of_the_suspect_ends_it(self) -> None:
        self.receive(2, suspect("emil", "dora", 7, epoch=3))
        effects = self.receive(3, presence("dora", 8, epoch=3))
        self.assertEqual(self.changed(effects), ["dora"])
        self.assertIs(self.state("dora"), State.UP)
        self.assert_idle(suspect("emil", "dora", 7, epoch=3))

    def test_without_one_it_is_down(self) -> None:
        self.receive(2, suspect("emil", "dora", 7, epoch=3))
        self.assertEqual(self.changed(self.wait(15)), ["dora"])
        self.assertIs(self.state("dora"), State.DOWN)

    def test_after_half_of_that_time_all_neighbours_are_asked_for_its_record(self) -> None:
        # The neighbour that brings its records may keep back the one that refutes the suspicion.
        for number in (2, 3):
            self.receive(number, presence("dora", 7, epoch=3))  # these push its records no more
        self.receive(1, suspect("emil", "dora", 7, epoch=3))
        self.assertEqual(self.asked_of(self.wait(7)), [])
        self.assertEqual(self.asked_of(self.wait(1.5)), [1, 2, 3])
        self.assertEqual(self.asked_of(self.wait(4)), [])
        self.receive(2, records(presence("dora", 8, epoch=3)))
        self.assertIs(self.state("dora"), State.UP)

    def asked_of(self, effects: list[Effect]) -> list[int]:
        """The links over which this node accuses Dora."""
        own = suspect("me", "dora", 7, epoch=3).record
        sends = of(effects, Send)
        return [
            number for send in sends if getattr(send.frame, "record", None) == own for number in send.links
        ]

    def test_if_it_has_spoken_or_is_gone_nobody_is_asked(self) -> None:
        self.receive(2, suspect("emil", "dora", 7, epoch=3))
        self.receive(3, presence("dora", 8, epoch=3))
        self.receive(2, suspect("bert", "emil", 1))
        self.receive(2, presence("emil", 2, flags=PresenceFlags.LEAVING))
        effects = self.wait(14)
        frames = [getattr(send.frame, "record", None) for send in of(effects, Send)]
        self.assertFalse(any(isinstance(frame, Suspect) for frame in frames))
        self.assertEqual(self.node.footprint()["unasked_suspects"], 0)

    def test_one_suspected_long_after_its_last_record_makes_nobody_doubt_itself(self) -> None:
        # A timer that is set for a time in the past looks as if this node had been held up.
        self.wait(70)
        heard = self.entry("dora").heard
        self.receive(2, presence("emil", 2), suspect("emil", "dora", 7, epoch=3))
        self.assertEqual(self.changed(self.wait(14)), [])
        self.assertEqual(self.entry("dora").heard, heard)
        self.assertIn("dora", self.changed(self.wait(1)))

    def test_for_so_many_at_a_time_and_for_the_others_a_second_later(self) -> None:
        self.patch(suspicion, "_AT_ONCE", 2)
        self.receive(1, suspect("anna", "dora", 7, epoch=3), suspect("bert", "emil", 1))
        self.receive(1, suspect("cleo", "anna", 4), suspect("emil", "bert", 4))
        told = []
        for _ in range(14):
            frames = [getattr(send.frame, "record", None) for send in of(self.wait(1), Send)]
            told.append(sum(isinstance(frame, Suspect) for frame in frames))
        self.assertEqual(told[:6] + told[9:], [0] * 11)
        self.assertEqual(sorted(told[6:9]), [0, 2, 2])

    def test_no_more_are_to_be_asked_for_than_a_roster_has(self) -> None:
        self.members("anna", "bert", "cleo", counter=4, members_limit=4)
        for name in ("dora", "emil", "fred"):
            self.receive(1, presence(name, 1))
            self.wait(1)
            self.receive(2, suspect("cleo", name, 1))
            self.node.roster.remove(self.entry(name))  # as if it made room
        for name in ("anna", "bert"):
            self.wait(1)
            self.receive(2, suspect("cleo", name, 4))
        self.assertEqual(self.node.footprint()["unasked_suspects"], 4)

    def test_guests_are_on_no_roster_to_be_suspected_on(self) -> None:
        self.receive(1, presence("fred", 1, role=Role.GUEST))
        self.assert_idle(suspect("emil", "fred", 1))
        self.assertIs(self.state("fred"), State.UP)


class TestRefuting(MembershipTestCase):
    """A suspect refutes with a new record, but not more often than its limit allows."""

    def setUp(self) -> None:
        super().setUp()
        self.members("anna", "bert")

    def test_with_the_next_counter_at_once(self) -> None:
        effects = self.receive(2, suspect("anna", "me", 1))
        for number in (1, 2):
            self.assertEqual(self.presences(effects, number), [("me", 2, 0)])
            self.assertEqual(self.suspicions(effects, number), [])

    def test_it_refutes_whom_it_does_not_know(self) -> None:
        # Each node admits a limited number of new authors in a minute: others may know this accuser.
        effects = self.receive(2, suspect("fred", "me", 1))
        for number in (1, 2):
            self.assertEqual(self.presences(effects, number), [("me", 2, 0)])
        # Accusers that it does not know are refuted as often as others, and no more often.
        effects = self.receive(2, suspect("fred", "me", 2), suspect("emil", "me", 2))
        self.assertEqual(self.presences(effects, 1), [])
        self.assertEqual(self.presences(self.wait(5), 1), [("me", 3, 0)])

    def test_a_forged_one_closes_the_link_and_is_not_refuted(self) -> None:
        for accuser in ("anna", "fred"):
            self.setUp()
            effects = self.receive(2, forged(suspect(accuser, "me", 1)))
            self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])
            self.assertEqual(self.presences(effects, 1), [])

    def test_only_where_the_newest_record_is_meant(self) -> None:
        for false in (
            suspect("anna", "me", 2),
            suspect("anna", "me", 0),
            suspect("anna", "me", 1, epoch=2),
        ):
            self.assertEqual(self.receive(2, false), [])

    def test_at_most_every_five_seconds(self) -> None:
        self.receive(2, suspect("anna", "me", 1))
        self.now += 1
        self.assertEqual(self.presences(self.receive(2, suspect("anna", "me", 2)), 1), [])
        # More suspicions change nothing.
        self.assertEqual(self.receive(2, suspect("bert", "me", 2)), [])
        self.assertEqual(self.presences(self.wait(3.9), 1), [])
        self.assertEqual(self.presences(self.wait(0.1), 1), [("me", 3, 0)])
        self.assertEqual(self.presences(self.wait(25), 1), [])

    def test_its_usual_word_is_as_good(self) -> None:
        self.wait(34)
        self.receive(2, presence("anna", 2), presence("bert", 2), suspect("anna", "me", 2))
        self.now += 1
        self.receive(2, suspect("anna", "me", 3))
        effects = self.wait(10)
        self.assertEqual(len(self.presences(effects, 1)), 1)

    def test_a_storm_from_one_member_leaves_the_mesh_as_it_was(self) -> None:
        names = ["cleo", "dora", "emil", "fred"]
        counters = dict.fromkeys([*names, "me"], 1)
        self.receive(2, *(presence(name) for name in names))
        sent = 0
        for second in range(120):
            self.wait(1)
            effects = []
            for name in [*names, "me"]:  # Anna accuses all of whatever is newest, ten times a second
                for _ in range(10):
                    effects += self.receive(1, suspect("anna", name, counters[name]))
            sent += len(self.suspicions(effects, 2))
            for name in self.changed(effects):  # whoever is accused refutes it
                counters[name] += 1
                self.receive(2, presence(name, counters[name]))
            for _, counter, _ in self.presences(effects, 2):
                counters["me"] = counter
            if second % 25 == 0:  # all say their usual word
                self.receive(2, presence("anna", second + 2), presence("bert", second + 2))
                for name in names:
                    counters[name] += 1
                    self.receive(2, presence(name, counters[name]))
        self.assertEqual({self.state(name) for name in names}, {State.UP})
        self.assertGreater(sent, 60)
        # One suspicion a second counts and goes on; of the rest, one for each record goes to its member.
        self.assertLessEqual(sent, 120 + sum(counters[name] for name in names))
        self.assertLessEqual(counters["me"], 2 + 120 // 5)


class TestStall(MembershipTestCase):
    """A node that was held up itself accuses nobody."""

    def setUp(self) -> None:
        super().setUp()
        self.members("anna", "bert", counter=4)
        self.receive(1, presence("dora", interval=5_000))

    def test_who_spoke_meanwhile_is_there(self) -> None:
        effects = self.fire(Timer.ROSTER, self.now + 20)
        self.assertEqual(self.changed(effects), [])
        self.assertIs(self.state("dora"), State.UP)
        # From now on, silence counts.
        self.assertEqual(self.changed(self.wait(15)), ["dora"])

    def test_a_suspect_has_its_whole_patience(self) -> None:
        self.receive(2, suspect("bert", "anna", 4))
        self.fire(Timer.ROSTER, self.now + 20)
        self.assertIs(self.state("anna"), State.SUSPECT)

    def test_a_little_late_is_no_stall(self) -> None:
        due = self.timers[Timer.ROSTER]
        self.fire(Timer.ROSTER, due + 1)
        self.assertEqual(self.entry("dora").heard, 50)
        self.fire(Timer.ROSTER, self.timers[Timer.ROSTER] + 1.5)
        self.assertEqual(self.entry("dora").heard, 51.5)

    def test_nobody_is_accused_of_what_was_lost_meanwhile(self) -> None:
        # The reactor may tell the node that links have ended before it calls the timer.
        self.now = self.timers[Timer.ROSTER] + 10
        effects = self.handle(closing(1, Reason.LOST))
        self.assertEqual((self.suspicions(effects, 2), self.changed(effects)), ([], []))
        self.assertIs(self.state("anna"), State.UP)
        self.fire(Timer.ROSTER, self.now)
        self.assertEqual(self.suspicions(self.handle(closing(2, Reason.LOST)), 1), [])
        self.assertIs(self.state("bert"), State.SUSPECT)


class TestSilentGuest(MembershipTestCase):
    """Nobody can make a guest say that it is there."""

    manner: dict[str, object] = {"profile": Profile(role=Role.GUEST)}

    def test_a_suspicion_of_it_is_not_answered(self) -> None:
        self.star("anna")
        self.receive(1, presence("anna"))
        self.assertEqual(self.receive(1, suspect("anna", "me", 0)), [])
        self.assertEqual(self.count("idle_suspicions"), 1)
