"""Authors that bring much do not hold up others: what is over their shares comes later."""

from __future__ import annotations

from itertools import product

from tests.core import network
from tests.core.network import (
    acknowledged,
    batch,
    direct,
    forged,
    have,
    lacks_key,
    of,
    origin_of,
    presence,
    records,
)
from tests.core.node_case import NodeTestCase
from twisted_mesh.core import shares
from twisted_mesh.core.broadcast import repair
from twisted_mesh.core.events import (
    Effect,
    LinkClosed,
    LinkOpened,
    PolicyGiven,
    SendDirect,
    SendDirects,
    Timer,
)
from twisted_mesh.core.link import READ_ALL
from twisted_mesh.core.rate import COPY_BURST, COPY_RATE
from twisted_mesh.core.shares import Kind
from twisted_mesh.network import Policy, Quotas
from twisted_mesh.wire.bodies import join_entries
from twisted_mesh.wire.broadcast import Snapshot, Want
from twisted_mesh.wire.link import Ping
from twisted_mesh.wire.membership import Purpose, Records, Roster
from twisted_mesh.wire.signed import SignedRecord

FEW = {"known_batches": 1.0, "known_batches_burst": 3, "new_batches": 0.5, "new_batches_burst": 2}


class SharesCase(NodeTestCase):
    """A node with links to Anna, who passes on what Emil floods, and to Bert, whose messages wait."""

    limits: dict[str, float] = FEW

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def begin(self, **more: float) -> None:
        """Begin anew with further limits."""
        self.make(**{**self.limits, **more})
        self.up(1, "anna")
        self.up(2, "bert")

    def head(self, name: str = "emil", epoch: int = 1) -> int:
        """The last message of an author that is held without a hole before it."""
        return self.node.head((origin_of(name), epoch))

    def flood(self, first: int, last: int, name: str = "emil", number: int = 1) -> list[Effect]:
        """Let batches of one message each come."""
        return self.receive(number, *(batch(name, at) for at in range(first, last + 1)))

    def be_late(self) -> None:
        """Let the node find that it is late."""
        self.fire(Timer.SHARES, self.now + shares.LOOK + 2 * shares.LATE)

    def contend(self) -> None:
        """Let Bert's message wait while Emil is over his share, and the node be late."""
        self.receive(2, batch("bert", 1))
        self.flood(1, 4)
        self.be_late()

    def count(self) -> int:
        """How many frames were refused."""
        return self.node.counts["over_share"]


class TestWhenSharesBind(SharesCase):
    """Shares are no caps: they bind while another author waits, and the node is late."""

    def test_an_author_alone_may_bring_any_number(self) -> None:
        self.flood(1, 500)
        self.assertNotIn(Timer.SHARES, self.timers)
        self.assertEqual((self.head(), self.count()), (500, 0))

    def test_beside_another_it_may_as_long_as_the_node_is_on_time(self) -> None:
        self.receive(2, batch("bert", 1))
        self.flood(1, 100)
        self.wait(1)
        self.flood(101, 200)
        self.assertEqual((self.head(), self.count()), (200, 0))

    def test_what_is_over_its_share_is_refused_when_the_node_is_late(self) -> None:
        self.contend()
        before = self.verified
        effects = self.flood(5, 50)
        self.assertEqual((self.head(), self.count(), self.verified), (4, 46, before))
        self.assertEqual((self.sent(effects, 2), self.closed(effects)), ([], []))
        self.receive(2, batch("bert", 2))
        self.assertEqual(self.head("bert"), 2)

    def test_a_node_that_is_late_sees_it_before_its_timer_fires(self) -> None:
        self.receive(2, batch("bert", 1))
        self.flood(1, 4)
        self.now = self.timers[Timer.SHARES] + 2 * shares.LATE
        self.flood(5, 5)
        self.assertEqual((self.head(), self.count()), (4, 1))

    def test_messages_of_its_own_application_wait_too(self) -> None:
        self.publish("own")
        self.flood(1, 4)
        self.be_late()
        self.flood(5, 9)
        self.assertEqual((self.head(), self.count()), (4, 5))

    def test_two_that_are_both_over_their_shares_hold_up_nobody(self) -> None:
        self.flood(1, 4)
        self.flood(1, 9, "bert", 2)
        self.wait(shares.LASTING)
        self.flood(5, 50)
        self.flood(10, 50, "bert", 2)
        self.be_late()
        self.wait(shares.LASTING)
        self.flood(51, 90)
        self.assertEqual(self.head(), 90)

    def test_after_a_while_without_delay_nobody_is_bound(self) -> None:
        self.contend()
        self.wait(shares.LASTING)
        self.receive(2, batch("bert", 2))
        self.flood(5, 50)
        self.assertEqual((self.head(), self.count()), (50, 0))


class TestRefusedMessages(SharesCase):
    """Messages that are refused come later."""

    def test_they_are_asked_for_once_the_author_is_within_its_share(self) -> None:
        self.contend()
        self.flood(5, 9)
        self.assertEqual(self.wants(self.wait(1.0), 1), [])
        effects = self.wait(2.0)
        self.assertEqual(self.wants(effects, 1), [("emil", 5, 5)])  # so many as the share allows
        effects = self.receive(1, batch("emil", 5), have("emil", 1, 9, answer=True))
        self.assertEqual((self.head(), self.wants(effects, 1)), (5, [("emil", 6, 6)]))

    def test_all_of_them_are_asked_for_when_nobody_waits(self) -> None:
        self.contend()
        self.flood(5, 900)
        self.fire(Timer.SHARES, self.now + shares.LOOK)
        self.now += shares.LASTING
        self.assertEqual(self.wants(self.wait(1), 1), [("emil", 5, 900)])

    def test_authors_within_their_shares_are_asked_for_all_at_once(self) -> None:
        self.contend()
        effects = self.receive(2, have("dora", 1, 900))
        self.assertEqual(self.wants(effects + self.wait(1), 2), [("dora", 1, 900)])

    def test_who_claims_instead_of_pushing_has_no_more(self) -> None:
        self.contend()
        effects = self.receive(1, have("emil", 1, 900))
        self.assertEqual(self.wants(effects + self.wait(0.7), 1), [])
        self.assertEqual(self.wants(self.wait(2.0), 1), [("emil", 5, 5)])

    def test_two_such_authors_are_asked_for_at_a_time(self) -> None:
        self.receive(2, batch("bert", 1))
        names = ("cleo", "dora", "emil", "fred")
        for name in names:
            self.flood(1, 4, name)
        self.be_late()
        for name in names:
            self.flood(5, 9, name)
        asked = self.wants(self.wait(3), 1)
        self.assertEqual((len(asked), self.node.footprint()["paced_pulls"]), (2, 2))
        name, first, last = asked[0]
        effects = self.receive(1, batch(name, first), have(name, 1, last, answer=True))
        self.assertEqual(len(self.wants(effects + self.wait(0.6), 1)), 1)

    def test_runs_of_which_nothing_was_taken_are_asked_for_as_claimed_runs_are(self) -> None:
        self.contend()
        self.patch(repair, "UNVERIFIED_MOST", 1)
        self.receive(1, batch("emil", 7, epoch=2))  # what comes before it is not claimed
        self.receive(1, batch("emil", 1, epoch=3), batch("emil", 1, epoch=4))
        self.assertEqual(self.count(), 3)
        pulls = self.node._broadcast.repair._pulls
        self.assertEqual([epoch for _, epoch in pulls], [3])

    def test_a_link_that_brings_it_again_is_asked_once(self) -> None:
        self.contend()
        for _ in range(20):
            self.flood(5, 9)
            self.now += 0.01
        pull = self.node._broadcast.repair._pulls[origin_of("emil"), 1]
        self.assertEqual([high for _, high in pull.announced[1]], [9])

    def test_an_answer_is_taken_whole_and_what_comes_beside_it_is_not(self) -> None:
        self.begin(known_batches=5.0)
        self.contend()
        self.flood(5, 90)
        self.assertEqual(self.wants(self.wait(0.7), 1), [("emil", 5, 6)])
        before = self.count()
        self.flood(7, 12)  # two of them are within the share
        self.assertEqual(self.count(), before + 4)
        self.flood(5, 6)
        self.assertEqual((self.head(), self.count()), (8, before + 4))

    def test_no_gap_is_told_while_the_author_is_over_its_share(self) -> None:
        self.begin(known_batches=0.05, known_batches_burst=20, gap_patience=5.0)
        self.receive(2, batch("bert", 1))
        self.flood(1, 21)
        self.be_late()
        self.flood(22, 30)
        effects = self.receive(1, presence("emil", sequence=30))
        for at in range(2, 12):
            effects += self.receive(2, batch("bert", at))
            effects += self.wait(1)
            self.flood(22, 30)
            self.be_late()
        self.assertEqual((self.gaps(effects), self.wants(effects, 1)), ([], []))
        self.wait(1)
        self.assertEqual(self.wants(self.wait(shares.LASTING), 1), [("emil", 22, 30)])


class TestWhoIsCounted(SharesCase):
    """Each author has a share; those that are new have less, and share the processor's time."""

    limits = {**FEW, "known_after": 100.0}

    def begin(self, **more: float) -> None:
        """Bert becomes known, since his message came long ago."""
        super().begin(**more)
        self.receive(2, batch("bert", 1))
        self.wait(100)
        self.receive(2, batch("bert", 2))

    def from_another(self, number: int, name: str, named: bool = False) -> None:
        """Open a link to *name*, on a host of its own."""
        host = f"198.51.100.{number}"
        self.handle(LinkOpened(number, network.peer(name), named, False, Purpose.JOIN, host, named))
        self.receive(number, Snapshot(True, []), Roster(True, [], 0))

    def test_a_new_author_has_less(self) -> None:
        self.flood(1, 3)
        self.be_late()
        self.flood(4, 9)
        self.flood(3, 6, "bert", 2)
        self.assertEqual((self.head(), self.head("bert")), (3, 4))

    def test_while_nobody_is_known_all_are(self) -> None:
        SharesCase.begin(self)
        self.receive(2, batch("bert", 1))
        self.flood(1, 4)
        self.be_late()
        self.flood(5, 9)
        self.assertEqual(self.head(), 4)

    def test_a_neighbour_that_the_application_named_is_known(self) -> None:
        self.from_another(3, "emil", named=True)
        self.flood(1, 4, "emil", 3)
        self.be_late()
        self.flood(5, 9, "emil", 3)
        self.assertEqual(self.head(), 4)

    def test_nobody_can_use_up_the_share_of_another(self) -> None:
        self.receive(1, batch("emil", 1))
        for number in range(10, 30):
            self.from_another(number, f"liar {number}")
            effects = self.receive(number, forged(batch("emil", 2)))
            self.assertEqual(len(self.closed(effects)), 1)
            self.receive(1, forged(direct("nobody", "bert", 1)))
        self.assertEqual(self.node.footprint()["new_shares"], 1)
        self.receive(1, batch("emil", 2), batch("emil", 3))
        self.be_late()
        self.assertEqual((self.head(), self.count()), (3, 0))

    def test_all_new_authors_together_have_one_share_of_the_time(self) -> None:
        for author in range(60):
            self.flood(1, 1, f"author {author}")
        self.be_late()
        for author in range(60, 100):
            self.flood(1, 1, f"author {author}")
        self.assertEqual((self.head("author 60"), self.head("author 99")), (1, 0))
        self.assertGreater(self.count(), 30)
        self.from_another(3, "cleo")
        self.flood(1, 1, "cleo", 3)
        self.assertEqual(self.head("cleo"), 1)  # her site has brought little
        self.receive(2, batch("bert", 3))
        self.assertEqual(self.head("bert"), 3)
        self.wait(1)
        self.receive(2, batch("bert", 4))
        self.flood(1, 1, "author 99")
        self.assertEqual(self.head("author 99"), 1)

    def test_messages_of_new_authors_are_asked_for_as_their_share_allows(self) -> None:
        self.begin(new_batches=1000.0, new_batches_burst=1000)
        self.flood(1, 50)
        self.be_late()
        self.flood(51, 400)
        effects = self.wait(1)
        [(_, first, last)] = self.wants(effects, 1)
        self.assertEqual(first, self.head() + 1)
        self.assertLess(last - first, 80)

    def test_the_tables_are_bounded(self) -> None:
        self.patch(shares, "ACCOUNTS", 4)
        self.patch(shares, "SITES", 3)
        for number in range(10, 30):
            self.from_another(number, f"author {number}")
            self.flood(1, 1, f"author {number}", number)
        told = self.node.footprint()
        self.assertEqual((told["new_shares"], told["share_sites"], told["known_shares"]), (4, 3, 1))
        self.wait(101)
        for number in range(10, 30):
            self.flood(2, 2, f"author {number}", number)
        self.assertEqual(self.node.footprint()["known_shares"], 4)


class TestCrowds(SharesCase):
    """While a node knows nobody, the authors that one host brings share the time of one author."""

    limits = {"known_after": 1e6}

    def begin(self, **more: float) -> None:
        """Cleo's messages wait; she is at another host than Anna and Bert."""
        super().begin(**more)
        self.from_another(3, "cleo")

    def from_another(self, number: int, name: str, named: bool = False, host: str = "") -> None:
        """Open a link to *name*, on a host of its own."""
        host = host or f"198.51.100.{number}"
        self.handle(LinkOpened(number, network.peer(name), named, False, Purpose.JOIN, host, named))
        self.receive(number, Snapshot(True, []), Roster(True, [], 0))

    def crowd(self, count: int = 300, number: int = 1) -> list[str]:
        """One message each of so many authors that *number* makes up; the names of those that are held."""
        names = [f"{number} made up {author}" for author in range(count)]
        for name in names:
            self.flood(1, 1, name, number)
        return [name for name in names if self.head(name)]

    def contend(self) -> None:
        """Let Cleo's message wait, and the node be late."""
        self.receive(3, batch("cleo", self.head("cleo") + 1))
        self.node._shares.looked(shares.LATE, self.now)

    def test_many_keys_have_half_the_time_of_one_and_cost_no_more(self) -> None:
        self.contend()
        before = self.verified
        held = self.crowd()
        in_a_row = self.config.known_processor / 2 * shares._TIME_IN_A_ROW / shares._VERIFY
        self.assertEqual(len(held), int(in_a_row))
        self.assertEqual((self.verified - before, self.count()), (len(held), 300 - len(held)))
        self.receive(3, batch("cleo", 2))
        self.assertEqual(self.head("cleo"), 2)

    def test_it_is_bound_as_soon_as_the_node_finds_that_it_is_late(self) -> None:
        self.receive(3, batch("cleo", 1))
        self.crowd()
        self.be_late()
        self.assertEqual((self.head("1 made up 299"), self.crowd(310)[300:]), (1, []))

    def test_records_count_too(self) -> None:
        self.contend()
        before = self.verified
        self.receive(1, *(presence(f"made up {number}") for number in range(300)))
        self.assertLess(self.verified - before, 100)

    def test_what_is_over_that_is_asked_for_later(self) -> None:
        self.contend()
        held = {origin_of(name) for name in self.crowd()}
        asked = [want.origin for want in of(self.frames(self.wait(1), 1), Want)]
        self.assertEqual((len(asked), held.isdisjoint(asked)), (2, True))

    def test_those_that_came_first_do_not_wait_for_those_that_come_later(self) -> None:
        self.flood(1, 1, "dora")
        self.contend()
        self.crowd()
        self.flood(2, 9, "dora")
        self.assertEqual(self.head("dora"), 9)

    def test_while_no_other_host_brings_messages_they_are_not_bound(self) -> None:
        self.flood(1, 1, "dora")
        self.node._shares.looked(shares.LATE, self.now)
        self.assertEqual(len(self.crowd()), 300)

    def test_nor_are_those_of_a_named_neighbour_nor_of_this_host_itself(self) -> None:
        self.from_another(4, "fred", named=True)
        self.from_another(5, "gina", host="127.0.0.1")
        self.from_another(6, "hugo", host="::1")
        self.contend()
        self.assertEqual([len(self.crowd(100, number)) for number in (4, 5, 6)], [100] * 3)
        self.handle(LinkClosed(4))
        self.assertLess(len(self.crowd(200, 4)), 200)

    def test_once_an_author_is_known_others_are_new(self) -> None:
        self.node.history.authors.vouched(origin_of("cleo"))
        self.contend()
        self.crowd()
        self.assertEqual(self.node.footprint()["crowds"], 0)

    def test_their_table_is_bounded(self) -> None:
        self.patch(shares, "SITES", 3)
        for number in range(10, 30):
            self.from_another(number, f"author {number}")
            self.flood(1, 1, f"author {number}", number)
        self.assertEqual(self.node.footprint()["crowds"], 3)


class TestKinds(SharesCase):
    """Records, runs and direct messages have rates of their own."""

    limits = {
        "known_records_burst": 2,
        "known_runs_burst": 2,
        "known_directs_burst": 2,
        "known_directs": 1.0,
    }

    def test_records(self) -> None:
        self.receive(2, batch("bert", 1))
        self.receive(1, *(presence("emil", counter) for counter in range(1, 4)))
        self.be_late()
        effects = self.receive(1, presence("emil", 4))
        self.assertEqual((of(self.all_frames(effects, 2), SignedRecord), self.count()), ([], 1))
        effects = self.receive(1, records(presence("emil", 4)))
        self.assertEqual((of(self.all_frames(effects, 2), Records), self.count()), ([], 2))
        self.wait(2)
        self.receive(2, batch("bert", 2))
        effects = self.receive(1, presence("emil", 5))
        self.assertEqual(len(of(self.all_frames(effects, 2), SignedRecord)), 1)

    def test_runs(self) -> None:
        self.receive(2, batch("bert", 1))
        self.receive(1, *(batch("emil", 1, epoch=epoch) for epoch in range(1, 4)))
        self.be_late()
        self.receive(1, batch("emil", 1, epoch=4), batch("emil", 2, epoch=3))
        self.assertEqual((self.head(epoch=4), self.head(epoch=3), self.count()), (0, 2, 1))

    def test_direct_messages(self) -> None:
        self.receive(1, presence("emil"))
        self.receive(2, batch("bert", 1))
        self.receive(1, *(direct("emil", "me", number) for number in range(1, 4)))
        self.be_late()
        effects = self.receive(1, direct("emil", "me", 4))
        self.assertEqual((self.delivered(effects), self.count()), ([], 1))
        self.wait(2)
        self.receive(2, batch("bert", 2))
        self.assertEqual(len(self.delivered(self.receive(1, direct("emil", "me", 4)))), 1)

    def test_copies_of_direct_messages_use_up_no_share_whoever_brings_them(self) -> None:
        for target in ("me", "bert"):
            self.begin(known_directs_burst=6)
            record = presence("emil", 2)
            self.receive(1, presence("emil"))
            self.receive(2, presence("bert"), batch("bert", 1))
            if target == "me":
                self.handle(SendDirects((SendDirect(1, origin_of("emil"), join_entries(())),)))
                self.receive(1, acknowledged("emil", "me", 1))
            frames = [direct("emil", target, 1, count=2), direct("emil", target, 4)]
            self.receive(1, *frames, direct("emil", target, 1, count=2, tries=1))
            self.up(3, "cleo")
            if target == "me":
                frames += [acknowledged("emil", "me", 1), lacks_key("emil", "me", 1, record)]
                frames += [direct("emil", "me", 1, destination_epoch=2)]
            self.receive(3, *frames * 9)
            self.be_late()
            effects = self.receive(1, direct("emil", target, 3))
            self.assertEqual((self.count(), bool(self.taken(effects, target))), (0, True), target)

    def taken(self, effects: list[Effect], target: str) -> int:
        """How many direct messages of Emil's are delivered here, or passed on to Bert."""
        if target == "me":
            return len(self.delivered(effects))
        return len(of(self.all_frames(effects, 2), SignedRecord))

    def test_copies_of_direct_messages_are_verified_only_so_often(self) -> None:
        self.receive(1, presence("emil"))
        for target in ("me", "bert"):
            first = direct("emil", target, 1)
            self.receive(1, first)
            before = self.verified
            self.receive(2, *[first] * (COPY_BURST + 9))
            self.assertEqual(self.verified - before, COPY_BURST)
            self.wait(1)
            self.receive(2, *[first] * COPY_BURST)
            self.assertEqual(self.verified - before, COPY_BURST + int(COPY_RATE))
            self.wait(60)


class QuotaPolicy(Policy):
    """A policy that names quotas, and takes in any other that a test gives it."""

    quotas: Quotas = {}

    def __init__(self, **quotas: tuple[int, int]) -> None:
        """:param quotas: by the author's name; of ``others`` for all others."""
        self.quotas = {
            b"" if name == "others" else origin_of(name): quota for name, quota in quotas.items()
        }

    def take(self, packed: bytes) -> bool:
        return True


class TestQuotas(SharesCase):
    """The authority may have an author publish less than its share while others wait."""

    limits = {"history_seconds": 1600.0, "history_bytes": 16 * 2**20}
    few: dict[str, tuple[int, int]] = {"emil": (2, 0)}
    retention = 3200

    def begin(self, **more: float) -> None:
        self.policy = QuotaPolicy(**self.few)
        self.manner = {"policy": self.policy}
        super().begin(**more)
        self.receive(1, *(presence(name, retention=self.retention) for name in ("emil", "bert")))

    def give(self, **quotas: tuple[int, int]) -> None:
        """Let another policy come."""
        self.policy.quotas = QuotaPolicy(**quotas).quotas
        self.handle(PolicyGiven(bytes(65)))

    def be_late(self) -> None:
        self.node._shares.looked(shares.LATE, self.now)

    def contend(self) -> None:
        self.receive(2, batch("bert", 1))
        self.flood(1, 9)
        self.be_late()

    def test_it_holds_an_author_back_only_while_another_waits_and_the_node_is_late(self) -> None:
        self.flood(1, 50)
        self.receive(2, batch("bert", 1))
        self.flood(51, 60)
        self.assertEqual((self.head(), self.count()), (60, 0))
        self.be_late()
        self.flood(61, 70)
        self.receive(2, *(batch("bert", at) for at in range(2, 20)))
        self.assertEqual((self.head(), self.head("bert"), self.count()), (60, 19, 10))
        self.wait(shares.LASTING)
        self.assertEqual(self.wants(self.wait(1), 1), [("emil", 61, 70)])
        self.assertEqual(self.gaps(self.flood(61, 70)), [])
        self.assertEqual(self.head(), 70)

    def test_messages_over_it_are_asked_for_as_it_allows(self) -> None:
        self.contend()
        self.flood(10, 29)
        self.assertEqual(self.wants(self.wait(2.4), 1), [])
        self.assertEqual(self.wants(self.wait(1.2), 1), [("emil", 10, 10)])

    def test_two_seconds_of_it_may_come_in_a_row(self) -> None:
        self.be_late()
        self.receive(2, batch("bert", 1))
        self.flood(1, 9)
        self.assertEqual((self.head(), self.count()), (4, 5))
        self.now += 1
        self.receive(2, batch("bert", 2))
        self.flood(5, 9)
        self.assertEqual((self.head(), self.count()), (6, 8))

    def test_bytes_have_a_quota_of_their_own(self) -> None:
        size = batch("emil", 1).size
        self.give(emil=(0, size))
        self.be_late()
        self.receive(2, batch("bert", 1))
        self.flood(1, 9)
        self.assertEqual((self.head(), self.count()), (2, 7))

    def test_messages_over_it_are_asked_for_when_whoever_has_them_is_about_to_stop(self) -> None:
        for waits in (0.0, 3.6):  # by then some of them were asked for
            self.begin()
            self.contend()
            self.flood(10, 120)
            asked = self.wants(self.wait(waits), 1)
            self.assertEqual(asked, [("emil", 10, 10)] if waits else [])
            effects = self.receive(1, Ping(READ_ALL))
            self.assertEqual(self.wants(effects, 1), [("emil", 10, 120)])
            self.flood(10, 120)
            self.assertEqual(self.head(), 120)

    def test_messages_over_a_quota_of_bytes_are_asked_for_by_the_size_of_those_that_came(self) -> None:
        size = batch("emil", 1).size
        self.give(emil=(0, 8 * size))
        self.contend()  # nine of the sixteen that may come in a row
        self.flood(10, 40)
        self.assertEqual((self.head(), self.count()), (16, 24))
        self.assertEqual(self.wants(self.wait(0.6), 1), [("emil", 17, 18)])  # not all of them

    def test_all_others_may_have_one(self) -> None:
        self.give(others=(2, 0), emil=(0, 0))
        self.be_late()
        self.receive(2, *(batch("bert", at) for at in range(1, 9)))
        self.receive(1, batch("cleo", 1))
        self.flood(1, 50)
        self.receive(2, *(batch("bert", at) for at in range(5, 9)))
        self.assertEqual((self.head(), self.head("bert"), self.count()), (50, 8, 0))
        self.receive(2, *(batch("bert", at) for at in range(9, 12)))
        self.assertEqual((self.head("bert"), self.count()), (8, 3))

    def test_a_policy_with_other_quotas_counts_at_once_and_one_with_the_same_changes_nothing(self) -> None:
        self.contend()
        self.give(emil=(2, 0))
        self.flood(10, 12)
        self.assertEqual((self.head(), self.count()), (9, 3))
        self.give(emil=(3, 0))
        self.flood(10, 30)
        self.assertEqual(self.head(), 15)
        self.give()
        self.flood(16, 30)
        self.assertEqual(self.head(), 30)

    def test_more_than_the_configured_share_changes_nothing(self) -> None:
        self.begin(**FEW)
        self.give(emil=(100, 2**30))
        self.receive(2, batch("bert", 1))
        self.flood(1, 4)
        self.be_late()
        self.flood(5, 9)
        self.assertEqual((self.head(), self.count()), (4, 5))

    def test_records_and_direct_messages_come_whatever_it_has_published(self) -> None:
        self.give(emil=(1, 1))
        self.contend()
        self.flood(10, 20)
        refused = self.count()
        self.assertEqual(refused, 11)
        effects = self.receive(1, presence("emil", 4), direct("emil", "me", 1))
        self.assertEqual((len(self.delivered(effects)), self.count()), (1, refused))
        self.assertEqual(self.node.roster.get(origin_of("emil")).presence.counter, 4)

    def test_a_node_that_is_late_all_the_time_holds_it_back_for_a_part_of_the_retention(self) -> None:
        self.contend()
        head, seconds = self.head(), 0
        while self.head() == head or self.head() < head + 2 * seconds + 10:
            self.now += 1
            seconds += 1
            self.be_late()
            self.receive(2, batch("bert", 1 + seconds))
            self.flood(self.head() + 1, self.head() + 20)
            self.assertLess(seconds, 200)
        self.assertAlmostEqual(seconds, 100, delta=2)  # of 1,600, for which this node holds messages
        for _ in range(30):  # so it goes on until the node is on time
            self.now += 1
            self.be_late()
            self.receive(2, batch("bert", 2 + seconds))
            seconds += 1
            self.flood(self.head() + 1, self.head() + 20)
        self.assertGreater(self.head(), 600)
        self.wait(shares.LASTING)
        self.receive(2, batch("bert", 2 + seconds))
        before = self.head()
        self.be_late()
        self.flood(before + 1, before + 20)
        self.assertLess(self.head(), before + 20)

    def test_an_author_that_holds_its_messages_for_a_shorter_time_is_held_back_for_a_part_of_that(
        self,
    ) -> None:
        for retention, seconds in ((160, 10), (0, 0)):
            self.retention = retention
            self.begin()
            self.contend()
            if seconds:
                self.flood(10, 20)
                self.assertEqual(self.count(), 11)
                self.now += seconds - 1
                self.receive(2, batch("bert", 2))
                self.flood(18, 40)
                self.assertEqual(self.count(), 30)  # four are within the quota by then
                self.now += 1
            self.be_late()
            self.flood(10, 40)
            self.assertEqual(self.head(), 40)

    def test_it_holds_back_a_part_of_what_others_have_room_for(self) -> None:
        self.begin(history_bytes=16 * 1000)
        self.contend()
        size = batch("emil", 10).size
        self.flood(10, 90)
        self.assertEqual(self.count(), -(-1000 // size))
        self.assertEqual(self.wants(self.wait(1), 1), [("emil", 10, 22)])


class TestEachLimit(SharesCase):
    """Of each thing so many may come in a row, and so many on average."""

    def come(self, kind: Kind, size: int = 0, after: float = 0.0, messages: int = 0) -> int:
        """How many of Emil's come while Bert waits, in a row, *after* so many seconds."""
        self.now += after
        counted, link, emil = self.node._shares, self.link(1), origin_of("emil")
        counted.waits(origin_of("bert"), self.now)
        counted.looked(shares.LATE, self.now)
        for came in range(9):
            if not counted.may_bring(link, emil, kind, self.now):
                return came
            counted.took(link, emil, kind, self.now, size, messages)
        return 9

    def limit(self, who: str, limits: dict[str, float]) -> None:
        """Begin with *limits* of Emil, who is known as all are, or new since Bert is known."""
        self.make(0, **{f"{who}_{name}": most for name, most in limits.items()})
        self.up(1, "anna")
        if who == "new":
            self.node.history.authors.vouched(origin_of("bert"))

    def test_direct_messages_that_share_a_frame_count_one_by_one(self) -> None:
        self.limit("known", {"directs_burst": 8, "directs": 4.0})
        self.assertEqual(self.come(Kind.DIRECT, messages=4), 2)
        self.assertEqual((self.come(Kind.DIRECT, messages=4), self.come(Kind.DIRECT, after=2)), (0, 8))

    def test_things(self) -> None:
        things = (
            (Kind.BATCH, "batches", 1),
            (Kind.RUN, "runs", 60),
            (Kind.RECORD, "records", 60),
            (Kind.DIRECT, "directs", 1),
        )
        for who, (kind, name, seconds) in product(("known", "new"), things):
            rate = name if seconds == 1 else f"{name}_a_minute"
            self.limit(who, {f"{name}_burst": 2, rate: 0.2 * seconds})
            self.assertEqual((self.come(kind), self.come(kind, after=5)), (2, 1), (who, name))

    def test_bytes(self) -> None:
        for who in ("known", "new"):
            self.limit(who, {"bytes": 1000.0})
            come = self.come(Kind.BATCH, 1000), self.come(Kind.BATCH, 1000, after=1)
            self.assertEqual(come, (2, 1), who)

    def test_time(self) -> None:
        for who in ("known", "new"):
            self.limit(who, {"processor": 0.001})
            self.assertEqual((self.come(Kind.BATCH), self.come(Kind.BATCH, after=0.2)), (2, 1), who)

    def test_answers_count_for_some_seconds_at_most(self) -> None:
        self.limit("known", {"bytes": 1000.0})
        self.node._shares.took(self.link(1), origin_of("emil"), Kind.BATCH, self.now, 10**6)
        self.assertEqual(self.come(Kind.BATCH, after=shares._DEBT - 0.1), 0)
        self.assertGreater(self.come(Kind.BATCH, after=0.2), 0)
