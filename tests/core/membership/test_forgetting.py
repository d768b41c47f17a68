"""Forgetting: a member that is gone leaves all rosters on the word of another, until it speaks again."""

from __future__ import annotations

from math import ceil

from tests.core.membership_case import MembershipTestCase
from tests.core.network import (
    closing,
    forged,
    forget,
    of,
    origin_of,
    presence,
    prune,
    receipt,
    records,
    roster,
)
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.events import Ask, Effect, ForgetMember, Holders, MemberGone, Receipted
from twisted_mesh.core.handshake import Profile
from twisted_mesh.core.membership.roster import State
from twisted_mesh.errors import Reason
from twisted_mesh.wire.membership import Forget, PresenceFlags, Role
from twisted_mesh.wire.replies import Receipts
from twisted_mesh.wire.signed import SignedRecord


class ForgettingCase(MembershipTestCase):
    """Links to Anna, Bert and Cleo; Dora is behind Anna, and has left; Emil is there."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def begin(self, **limits: float) -> None:
        """Begin anew."""
        self.members("anna", "bert", "cleo", counter=4, **limits)
        self.receive(1, presence("emil", 1), self.left("dora", 7))

    def left(self, name: str, counter: int) -> SignedRecord:
        """The last record of a member that left."""
        return presence(name, counter, flags=PresenceFlags.LEAVING)

    def ask(self, name: str = "dora") -> list[Effect]:
        """The application wants *name* to be forgotten."""
        return self.handle(ForgetMember(origin_of(name)))

    def sent(self, effects: list[Effect], number: int) -> list[SignedRecord]:
        """The FORGETs that are sent over a link."""
        return [
            one
            for one in of(self.all_frames(effects, number), SignedRecord)
            if isinstance(one.record, Forget)
        ]

    def idle(self, frame: SignedRecord, link: int = 2) -> list[Effect]:
        """Assert that *frame* has nobody forgotten, and goes nowhere; the effects."""
        before = self.count("idle_forgets")
        effects = self.receive(link, frame)
        self.assertEqual(of(effects, MemberGone), [])
        self.assertEqual([self.sent(effects, number) for number in (1, 2, 3)], [[], [], []])
        self.assertEqual(self.count("idle_forgets"), before + 1)
        return effects


class TestAsking(ForgettingCase):
    def test_a_member_that_is_gone_leaves_the_roster_at_once_and_all_are_told(self) -> None:
        effects = self.ask()
        self.assertEqual(of(effects, MemberGone), [MemberGone(origin_of("dora"), origin_of("me"))])
        self.assertIsNone(self.state("dora"))
        for number in (1, 2, 3):
            self.assertEqual(self.sent(effects, number), [forget("me", "dora", 7)])
        self.assertEqual(self.ask(), [])

    def test_one_that_is_down_too(self) -> None:
        self.wait(100)
        self.assertIs(self.state("emil"), State.DOWN)
        self.assertEqual(self.gone(self.ask("emil")), ["emil"])

    def test_one_that_is_there_or_suspected_or_unknown_cannot_be(self) -> None:
        self.assertEqual(self.ask("emil"), [])
        self.handle(closing(1, Reason.LOST))
        self.assertIs(self.state("anna"), State.SUSPECT)
        self.assertEqual((self.ask("anna"), self.ask("fred"), self.ask("me")), ([], [], []))

    def test_a_guest_asks_nobody_and_is_not_forgotten(self) -> None:
        self.receive(1, presence("fred", role=Role.GUEST, flags=PresenceFlags.LEAVING))
        self.assertEqual(self.ask("fred"), [])
        self.manner = {"profile": Profile(Role.GUEST, None, {}, True, 0)}
        self.begin()
        self.assertEqual(self.ask(), [])

    def test_it_asks_on_though_others_may_not_hear_so_many(self) -> None:
        self.begin(forgets_burst=1)
        self.receive(1, self.left("fred", 1))
        self.assertEqual([self.gone(self.ask(name)) for name in ("dora", "fred")], [["dora"], ["fred"]])


class TestHearing(ForgettingCase):
    def test_it_leaves_here_too_and_the_request_goes_on(self) -> None:
        effects = self.receive(2, forget("emil", "dora", 7))
        self.assertEqual(of(effects, MemberGone), [MemberGone(origin_of("dora"), origin_of("emil"))])
        self.assertEqual(self.sent(effects, 2), [])
        for number in (1, 3):
            self.assertEqual(self.sent(effects, number), [forget("emil", "dora", 7).relayed()])
        self.assertIsNone(self.state("dora"))
        self.idle(forget("anna", "dora", 7))

    def test_one_that_is_there_stays_though_its_newest_record_is_named(self) -> None:
        self.idle(forget("anna", "emil", 1))
        self.assertIs(self.state("emil"), State.UP)

    def test_only_the_newest_record_counts_and_who_lacks_it_is_sent_it(self) -> None:
        self.receive(2, prune("dora"))
        self.receive(1, self.left("dora", 9))
        for sent in ([records(self.left("dora", 9), age=90_000)], []):
            self.assertEqual(self.all_frames(self.idle(forget("emil", "dora", 7)), 2), sent)
        self.idle(forget("emil", "dora", 10))
        self.idle(forget("emil", "dora", 9, epoch=2))

    def test_it_means_nothing_once_the_member_has_spoken_again(self) -> None:
        request = forget("emil", "dora", 7)
        self.receive(2, request)
        self.assertEqual(self.changed(self.receive(1, presence("dora", 8))), ["dora"])
        self.assertIs(self.state("dora"), State.UP)
        self.idle(request)
        self.receive(1, self.left("dora", 9))
        self.idle(request)  # an old one, said again
        self.assertIs(self.state("dora"), State.LEFT)
        self.assertEqual(self.node.footprint()["forgotten_members"], 0)

    def test_nor_does_its_old_record_bring_it_back(self) -> None:
        self.receive(2, forget("emil", "dora", 7))
        self.up(4, "fred")
        for frame in (self.left("dora", 7), presence("dora", 6), roster(self.left("dora", 7))):
            self.assertEqual(self.changed(self.receive(4, frame)), [])
        self.assertIsNone(self.state("dora"))

    def test_an_asker_must_be_a_member_and_another(self) -> None:
        self.idle(forget("fred", "dora", 7))
        self.idle(forget("dora", "dora", 7))
        self.receive(1, presence("fred", role=Role.GUEST))
        self.idle(forget("fred", "dora", 7))
        self.idle(forget("me", "dora", 7))

    def test_an_asker_that_is_gone_itself_is_heard(self) -> None:
        self.receive(1, self.left("emil", 2))
        self.assertEqual(self.gone(self.receive(2, forget("emil", "dora", 7))), ["dora"])

    def test_a_forged_one_ends_the_link_and_does_nothing(self) -> None:
        effects = self.receive(2, forged(forget("emil", "dora", 7)))
        self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])
        self.assertIs(self.state("dora"), State.LEFT)

    def test_a_node_that_hears_it_of_itself_says_that_it_is_there(self) -> None:
        counter = self.node.membership.announcing.rank[1]
        effects = self.receive(2, forget("emil", "me", counter))
        self.assertEqual(
            [self.presences(effects, number) for number in (1, 3)], [[("me", counter + 1, 0)]] * 2
        )
        self.idle(forget("emil", "me", counter))
        self.idle(forget("me", "me", counter + 1))
        effects = self.receive(2, forged(forget("emil", "me", counter + 1)))
        self.assertEqual(self.closed(effects), [(2, Reason.SIGNATURE)])


class TestTold(ForgettingCase):
    """Anna tells that Fred, who is up, was heard of long ago."""

    def setUp(self) -> None:
        super().setUp()
        self.receive(1, records(presence("fred", 2), age=100_000))
        self.assertIs(self.state("fred"), State.DOWN)

    def test_nobody_is_forgotten_who_is_down_only_by_an_age_that_was_told(self) -> None:
        self.idle(forget("emil", "fred", 2))
        self.wait(40)
        self.idle(forget("emil", "fred", 2))
        self.assertEqual(self.gone(self.ask("fred")), ["fred"])

    def test_once_this_node_has_waited_for_it_itself_it_is(self) -> None:
        self.up(4, "gina")
        for counter in range(5, 11):
            self.receive(1, presence("anna", counter))
            self.receive(4, roster(presence("fred", 2), age=100, last=False))
            self.idle(forget("emil", "fred", 2))
            self.wait(15)
        self.assertIs(self.state("fred"), State.DOWN)
        self.assertEqual(self.gone(self.receive(2, forget("anna", "fred", 2))), ["fred"])

    def test_one_that_was_down_because_it_was_suspected_is_forgotten_at_once(self) -> None:
        self.handle(closing(1, Reason.LOST))
        self.wait(16)
        self.assertIs(self.state("anna"), State.DOWN)
        self.assertEqual(self.gone(self.receive(2, forget("emil", "anna", 4))), ["anna"])

    def test_another_link_that_tells_a_smaller_age_shows_it_up_until_its_next_record_is_overdue(
        self,
    ) -> None:
        effects = self.receive(2, records(presence("fred", 2), age=120_000))
        self.assertEqual(self.changed(effects), [])
        self.wait(10)
        effects = self.receive(2, records(presence("fred", 2), age=5_000))
        self.assertEqual((self.changed(effects), self.state("fred")), (["fred"], State.UP))
        self.assertEqual(self.node.roster.get(origin_of("fred")).heard, self.now - 10)  # type: ignore[union-attr]
        for _ in range(9):
            self.wait(10)
            self.receive(2, records(presence("fred", 2), age=0))
        self.assertIs(self.state("fred"), State.DOWN)

    def test_of_two_ages_of_one_that_is_up_the_smaller_counts(self) -> None:
        self.receive(1, records(presence("gina", 2), age=80_000))
        for age in (20_000, 85_000):
            self.receive(2, records(presence("gina", 2), age=age))
        self.wait(60)
        self.assertIs(self.state("gina"), State.UP)
        self.wait(20)
        self.assertIs(self.state("gina"), State.DOWN)

    def test_a_copy_of_the_record_itself_tells_the_smallest_age_and_goes_on(self) -> None:
        # Otherwise a peer that tells each record of a member before others do keeps the member down.
        effects = self.receive(2, presence("fred", 2))
        self.assertEqual((self.changed(effects), self.presences(effects, 3)), (["fred"], [("fred", 2, 0)]))
        for counter in range(3, 10):
            self.wait(31)
            effects = self.receive(1, records(presence("fred", counter), age=80_000))
            self.assertEqual(self.presences(effects, 3), [])
            effects = self.receive(2, presence("fred", counter))
            self.assertEqual(self.presences(effects, 3), [("fred", counter, 0)])
        self.assertIs(self.state("fred"), State.UP)

    def test_nor_does_an_age_bring_back_one_that_was_suspected(self) -> None:
        self.handle(closing(1, Reason.LOST))
        self.wait(16)
        self.receive(2, records(presence("anna", 4), age=0))
        self.assertIs(self.state("anna"), State.DOWN)

    def test_a_guest_is_up_again_too_and_shown_to_nobody(self) -> None:
        guest = presence("gina", 2, role=Role.GUEST)
        self.receive(1, records(guest, age=100_000))
        self.assertIs(self.state("gina"), State.DOWN)
        self.assertEqual(self.changed(self.receive(2, records(guest, age=0))), [])
        self.assertIs(self.state("gina"), State.UP)


class TestRates(ForgettingCase):
    """Anna has many forgotten that have left."""

    def begin(self, **limits: float) -> None:
        super().begin(forgets_burst=2, **limits)
        self.receive(2, *(self.left(name, 1) for name in ("fred", "gina", "hugo", "ines")))

    def forgotten(self, asker: str, *names: str) -> list[str]:
        """Which of *names*, as they are asked for, are forgotten."""
        for name in names:
            self.receive(1, forget(asker, name))
        return [name for name in names if self.node.roster.get(origin_of(name)) is None]

    def show(self, *names: str) -> None:
        """Let records of *names* come for as long as it takes to be established; the others are silent."""
        for counter in range(5, 5 + ceil(MeshConfig().established_after / 30) + 1):
            self.wait(30)
            self.receive(1, *(presence(name, counter) for name in names))
        self.receive(2, *(self.left(name, 1) for name in ("fred", "gina", "hugo", "ines")))

    def test_those_that_were_silent_since_are_no_more_than_new_ones(self) -> None:
        self.show("cleo")
        self.receive(1, presence("anna", 50), presence("bert", 50))
        self.assertEqual(self.forgotten("anna", "fred", "gina", "hugo"), ["fred", "gina"])
        self.assertEqual(self.forgotten("bert", "hugo"), [])
        self.assertEqual(self.forgotten("cleo", "hugo", "ines"), ["hugo", "ines"])

    def test_new_askers_all_together_have_what_one_has(self) -> None:
        self.assertEqual(self.forgotten("anna", "fred", "gina", "hugo"), ["fred", "gina"])
        self.assertEqual(self.forgotten("bert", "hugo"), [])
        self.now += 10
        self.assertEqual(self.forgotten("bert", "hugo", "ines"), ["hugo"])

    def test_established_ones_have_each_their_own(self) -> None:
        self.show("anna", "bert")
        self.assertEqual(self.forgotten("anna", "fred", "gina", "hugo"), ["fred", "gina"])
        self.assertEqual(self.forgotten("bert", "hugo"), ["hugo"])

    def test_a_forged_one_takes_nothing_of_the_asker(self) -> None:
        for _ in range(3):
            self.receive(3, forged(forget("anna", "fred")))
        self.assertEqual(self.forgotten("anna", "fred", "gina"), ["fred", "gina"])


class TestTelling(ForgettingCase):
    """Who still has it on its roster is told, and nobody is told of it any more."""

    def setUp(self) -> None:
        super().setUp()
        self.receive(2, forget("emil", "dora", 7))

    def test_a_new_neighbour_that_names_it_gets_the_request(self) -> None:
        effects = self.up(4, "fred")
        self.assertNotIn("dora", self.told(effects, 4))
        effects = self.receive(4, roster(self.left("dora", 7), presence("anna", 4)))
        self.assertEqual(self.sent(effects, 4), [forget("emil", "dora", 7).relayed().relayed()])

    def test_but_not_over_a_link_that_ends_nor_for_another_record(self) -> None:
        self.up(4, "fred")
        self.assertEqual(self.sent(self.receive(4, roster(presence("dora", 6))), 4), [])
        self.up(5, "gina")
        self.handle(closing(5))
        self.assertEqual(self.sent(self.receive(5, roster(self.left("dora", 7))), 5), [])

    def test_one_that_names_a_newer_record_brings_it_back(self) -> None:
        self.up(4, "fred")
        self.receive(4, roster(self.left("dora", 8)))
        self.assertIs(self.state("dora"), State.LEFT)

    def test_it_is_remembered_for_a_day(self) -> None:
        self.begin(presence_interval=3600.0)  # it looks at its roster as seldom
        self.receive(1, forget("anna", "dora", 7))
        self.wait(86_399)
        self.assertEqual(self.node.footprint()["forgotten_members"], 1)
        self.wait(10)
        self.assertEqual(self.node.footprint()["forgotten_members"], 0)

    def test_no_more_are_remembered_than_a_roster_has(self) -> None:
        self.begin(members_limit=6)
        for name in ("dora", "fred", "gina", "hugo", "ines", "jens", "kurt"):
            self.receive(1, self.left(name, 7))
            self.ask(name)
        self.assertEqual(self.node.footprint()["forgotten_members"], 6)
        self.assertEqual(self.changed(self.receive(1, self.left("dora", 7))), ["dora"])
        self.assertEqual(self.changed(self.receive(1, self.left("kurt", 7))), [])


class TestReceipts(ForgettingCase):
    """A receipt waits for Anna, Bert, Cleo, Emil and Dora."""

    def setUp(self) -> None:
        super().setUp()
        self.publish("one", "two")
        self.handle(Ask((1, 2)))

    def holders(self, sequence: int = 2) -> tuple[int, int, int]:
        """How many have an own message, may still get it, and never will."""
        holders = self.node.replies.holders(sequence)
        assert isinstance(holders, Holders)
        delivered, pending, missed = map(len, holders)
        return delivered, pending, missed

    def test_where_it_was_asked_nobody_waits_for_it(self) -> None:
        self.assertEqual(self.holders(), (0, 5, 0))
        effects = self.ask()
        self.assertEqual([one.sequences for one in of(effects, Receipted)], [[1, 2]])
        self.assertEqual((self.holders(1), self.holders(2)), ((0, 4, 0), (0, 4, 0)))

    def test_elsewhere_it_has_missed_the_messages(self) -> None:
        self.receive(2, forget("emil", "dora", 7))
        self.assertEqual((self.holders(1), self.holders(2)), ((0, 4, 1), (0, 4, 1)))
        missed = [self.node.missed_by(origin_of(name)) for name in ("dora", "emil", "fred")]
        self.assertEqual(missed, [[1, 2], [], []])

    def test_one_that_has_a_message_keeps_it(self) -> None:
        self.receive(1, Receipts([receipt("dora", "me", 1, 1)]))
        self.ask()
        self.assertEqual((self.holders(1), self.holders(2)), ((1, 4, 0), (0, 4, 0)))

    def test_one_that_signs_for_it_after_all_has_it(self) -> None:
        for forgets in (lambda: self.ask(), lambda: self.receive(2, forget("emil", "dora", 7))):
            self.begin()
            self.publish("one", "two")
            self.handle(Ask((2,)))
            forgets()
            self.receive(1, presence("dora", 8))
            self.receive(1, Receipts([receipt("dora", "me", 1, 2)]))
            self.assertEqual(self.holders(), (1, 4, 0))
