"""Which members are asked for messages that no neighbour has, if anybody can make up members."""

from __future__ import annotations

from itertools import pairwise

from tests.core.network import closing, have, of, origin_of, presence, roster
from tests.core.node_case import ALL, HOST
from tests.core.overlay.test_exchange import ExchangeTestCase, dialable
from twisted_mesh.core.events import Dial, DialFailed, Effect
from twisted_mesh.core.overlay.helpers import LATELY, QUICK, RETENTION_MOST
from twisted_mesh.errors import Reason
from twisted_mesh.identity import id_of
from twisted_mesh.wire.membership import PresenceFlags, Purpose
from twisted_mesh.wire.signed import SignedRecord

MINTED = [f"minted {number}" for number in range(9)]
PUBLIC = "9.9.9.9"  # a host whose nodes are counted
ANYBODY = ["bert", "cleo", "dora", "emil", "fred", *MINTED]
BY_ID = {id_of(origin_of(name)): name for name in ANYBODY}


def at(host: str, name: str, *, sequence: int = 0, retention: int = 0, flags: int = 0) -> SignedRecord:
    """A record of *name*, which listens at a port of *host*."""
    address = (host, 4444 + ANYBODY.index(name))
    return presence(
        name, 1, sequence, address=address, retention=retention, flags=flags, interval=3_600_000
    )


class HelpersTestCase(ExchangeTestCase):
    """A node that misses messages which its only neighbour has not."""

    def hole(self, name: str = "fred") -> None:
        """Let a record of *name*, which cannot be dialled, tell of messages that nobody here has."""
        self.receive(1, presence(name, 1, 3, interval=3_600_000))

    def names(self, effects: list[Effect]) -> list[str]:
        """The nodes that are dialled; no dial ends."""
        return [BY_ID[dial.contact.id] for dial in of(effects, Dial)]

    def asked_in(self, seconds: float, fails_after: float) -> list[str]:
        """The nodes that are dialled, in their order; each dial fails after so many seconds."""
        asked: list[str] = []
        failing: list[tuple[float, bytes]] = []
        until = self.now + seconds
        while self.now < until:
            effects = self.wait(0.5)
            while failing and failing[0][0] <= self.now:
                effects += self.handle(DialFailed(failing.pop(0)[1]))
            dials = of(effects, Dial)
            failing += [(self.now + fails_after, dial.contact.id) for dial in dials]
            asked += [BY_ID[dial.contact.id] for dial in dials]
        return asked


class TestOrder(HelpersTestCase):
    """No claim alone decides who is asked."""

    def test_an_author_is_asked_then_who_claims_to_hold_most_then_anybody(self) -> None:
        others = (("bert", 60), ("cleo", 0), ("dora", 0), ("emil", 3600))
        self.receive(1, *(dialable(name, retention=seconds) for name, seconds in others))
        self.receive(1, dialable("fred", 1, 3))
        asked = self.names(self.wait(5))
        self.assertEqual(asked[:2], ["fred", "emil"])
        self.assertEqual(sorted(asked[2:]), ["bert", "cleo", "dora"])

    def test_of_equal_claims_that_of_the_member_known_longest_counts(self) -> None:
        self.receive(1, at("10.0.0.1", "emil", retention=RETENTION_MOST))
        self.wait(1)
        self.receive(1, *(at(f"10.1.0.{n}", name, retention=2**40) for n, name in enumerate(MINTED)))
        self.hole()
        self.assertEqual(self.names(self.wait(5))[0], "emil")

    def test_the_site_with_many_ids_is_asked_in_turn_with_others(self) -> None:
        self.receive(1, *(at(PUBLIC, name, retention=2**40) for name in MINTED))
        others = ["bert", "cleo", "dora", "emil"]
        self.receive(1, *(at(f"10.0.0.{n}", name) for n, name in enumerate(others)))
        self.hole()
        asked = self.names(self.wait(5))[:5]
        self.assertEqual(sum(name in MINTED for name in asked), 1)

    def test_nodes_of_one_machine_are_not_counted(self) -> None:
        self.receive(1, *(at(HOST, name, retention=2**40) for name in MINTED))
        self.receive(1, at("10.0.0.1", "bert", retention=1))
        self.hole()
        self.assertGreater(sum(name in MINTED for name in self.names(self.wait(5))), 3)

    def test_the_first_at_once_and_then_one_a_second(self) -> None:
        self.begin(gap_members=2)
        self.receive(1, *(at(f"10.0.0.{n}", name) for n, name in enumerate(MINTED)))
        self.hole()
        counts = [len(self.names(self.wait(1))) for _ in range(8)]
        first = next(number for number, count in enumerate(counts) if count)
        self.assertEqual(counts[first : first + 4], [2, 1, 1, 1])


class TestLies(HelpersTestCase):
    """Members that are made up, and are not there or have nothing."""

    def test_members_that_claim_to_hold_most_do_not_hide_the_one_that_does(self) -> None:
        self.receive(1, *(at(f"10.1.0.{n}", name, retention=2**40) for n, name in enumerate(MINTED)))
        others = ["bert", "cleo", "dora", "emil"]
        self.receive(1, *(at(f"10.0.0.{n}", name) for n, name in enumerate(others)))
        self.hole()
        self.assertLessEqual(set(others), set(self.asked_in(self.config.gap_patience, 1.0)))

    def test_nor_do_they_at_hosts_that_do_not_answer_if_it_is_known_for_long(self) -> None:
        self.begin(dials_at_once=4)
        self.receive(1, at("10.0.0.1", "bert", retention=60))
        self.asked_in(self.config.established_after, 1.0)
        self.receive(1, *(at(f"10.1.0.{n}", name, retention=2**40) for n, name in enumerate(MINTED)))
        self.hole()
        self.assertIn("bert", self.asked_in(5, self.config.connect_timeout)[:2])

    def test_authors_of_messages_that_never_were_do_not_hide_it_either(self) -> None:
        self.begin(dials_at_once=4)
        self.receive(1, *(at(f"10.1.0.{n}", name, sequence=9) for n, name in enumerate(MINTED)))
        self.receive(1, at("10.0.0.1", "bert", retention=600))
        self.hole()
        asked = self.asked_in(self.config.gap_patience, self.config.connect_timeout)
        self.assertIn("bert", asked[:4])

    def test_a_neighbour_that_claims_them_and_sends_nothing_keeps_nobody_from_being_asked(self) -> None:
        self.begin(graft_retry=5)
        self.receive(1, at("10.0.0.1", "bert"))
        self.hole()
        self.receive(1, have("fred", 1, 3))
        self.assertEqual(self.names(self.wait(4)), [])
        self.assertEqual(self.names(self.wait(6)), ["bert"])

    def test_nobody_is_asked_again_before_others_were(self) -> None:
        self.receive(1, *(at(f"10.1.0.{n}", name, retention=2**40) for n, name in enumerate(MINTED)))
        self.receive(1, *(at(f"10.0.0.{n}", name) for n, name in enumerate(["bert", "cleo"])))
        self.hole()
        asked = self.asked_in(29, 0.5)
        self.assertEqual(len(set(asked[:11])), 11)
        self.assertLess(11, len(asked))

    def test_not_where_nobody_was_found_lately(self) -> None:
        self.begin(dial_again=60)
        self.receive(1, at("10.0.0.1", "bert"))
        self.hole()
        self.assertEqual(self.asked_in(29, 0.5), ["bert"])

    def test_but_a_node_that_had_no_link_may_not_have_found_anybody(self) -> None:
        self.begin(dial_again=60)
        self.receive(1, at("10.0.0.1", "bert", flags=PresenceFlags.LEAVING))
        self.asked_in(80, 0.5)  # it is drawn
        self.up(2, "cleo")
        self.handle(closing(1))
        self.assertEqual(self.node.footprint()["failed_dials"], 1)
        self.handle(closing(2))
        self.up(3, "cleo")
        self.assertEqual(self.node.footprint()["failed_dials"], 0)


class TestSlowLines(HelpersTestCase):
    """Each member that is asked tells its whole roster, for which a slow line needs long."""

    def setUp(self) -> None:
        super().setUp()
        self.receive(1, *(at(f"10.0.0.{n}", name) for n, name in enumerate(ANYBODY)))
        self.receive(1, presence("anna", 1, 3, interval=3_600_000))

    def asked_while(self, seconds: float, telling: float, **others: float) -> list[tuple[float, str]]:
        """The members that are asked within *seconds*, and when.

        :param telling: the seconds in which a member tells its roster; *others*: by name.
        """
        asked: list[tuple[float, str]] = []
        due: list[tuple[float, int]] = []
        effects: list[Effect] = []
        began = self.now
        while self.now < began + seconds:
            for number in [number for at, number in due if at <= self.now]:
                effects += self.receive(number, roster())
            due = [(at, number) for at, number in due if at > self.now]
            for name in self.names(effects):
                number = 10 + len(asked)
                asked.append((self.now - began, name))
                self.open(number, name, outgoing=True, purpose=Purpose.EXCHANGE)
                self.receive(number, ALL)
                due.append((self.now + others.get(name, telling), number))
            effects = self.wait(0.25)
        return asked

    def test_over_a_fast_line_one_a_second_after_the_first(self) -> None:
        self.assertGreater(len(self.asked_while(12, QUICK / 4)), len(ANYBODY) - 2)

    def test_over_a_slow_line_one_at_a_time_after_the_first(self) -> None:
        times = [at for at, _ in self.asked_while(40, LATELY - 1)]
        first = sum(at < times[0] + 1 for at in times)
        self.assertEqual(first, self.config.gap_members)
        pauses = [later - sooner for sooner, later in pairwise(times[first:])]
        self.assertGreater(len(pauses), 2)
        self.assertTrue(all(LATELY <= pause <= LATELY + 2 for pause in pauses), pauses)

    def test_some_that_take_long_to_tell_it_keep_nobody_from_being_asked(self) -> None:
        liars = dict.fromkeys(MINTED[::3], 100.0)
        self.assertGreater(len(self.asked_while(12, QUICK / 4, **liars)), len(ANYBODY) - 2)

    def test_nor_do_all_but_one(self) -> None:
        asked = self.asked_while(self.config.gap_patience, 100, bert=QUICK / 4)
        self.assertIn("bert", [name for _, name in asked])

    def test_nor_do_those_that_refuse(self) -> None:
        names: list[str] = []
        effects: list[Effect] = []
        for _ in range(48):
            for name in self.names(effects):
                names.append(name)
                self.open(10 + len(names), name, outgoing=True, purpose=Purpose.EXCHANGE)
                self.handle(closing(10 + len(names), Reason.ROOM))
            effects = self.wait(0.25)
        self.assertGreater(len(names), len(ANYBODY) - 2)

    def test_nor_do_exchanges_that_others_dial(self) -> None:
        self.asked_while(1, QUICK / 4)
        for number, name in enumerate(MINTED[:5], 50):
            self.open(number, name, purpose=Purpose.EXCHANGE)
            self.receive(number, ALL, roster())
        self.assertGreater(len(self.asked_while(11, QUICK / 4)), 2)

    def test_a_bounded_number_of_exchanges_is_remembered(self) -> None:
        self.asked_while(40, LATELY - 1)
        self.assertLessEqual(self.node.footprint()["dialled_exchanges"], self.config.gap_members)
