"""Exchanges: which node is drawn and when, and which nodes help if no neighbour can."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tests.core.membership_case import MembershipTestCase
from tests.core.network import batch, closing, cut, have, of, origin_of, presence, roster
from tests.core.node_case import ALL, HOST
from twisted_mesh.core.broadcast import repair
from twisted_mesh.core.events import Dial, DialFailed, Effect, Known, Timer
from twisted_mesh.core.membership.roster import Author, Roster
from twisted_mesh.core.overlay import exchange
from twisted_mesh.identity import id_of
from twisted_mesh.wire.broadcast import Want
from twisted_mesh.wire.membership import Contact, PresenceFlags, Purpose
from twisted_mesh.wire.signed import SignedRecord

NAMES = ("me", "anna", "bert", "cleo", "dora", "emil", "fred")


def contact(name: str) -> Contact:
    """Where *name* can be dialled: at a port of its own, since one place is dialled once at a time."""
    return Contact(id_of(origin_of(name)), HOST, port(name))


def port(name: str) -> int:
    """The port at which *name* listens."""
    return 4444 + NAMES.index(name)


def dialable(
    name: str, counter: int = 1, sequence: int = 0, *, retention: int = 0, flags: int = 0
) -> SignedRecord:
    """A record of *name* with an address."""
    return presence(
        name,
        counter,
        sequence,
        address=(HOST, port(name)),
        retention=retention,
        flags=flags,
        interval=3_600_000,
    )


class ExchangeTestCase(MembershipTestCase):
    """A node with a link to Anna, and others it could dial."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def begin(self, **limits: float) -> None:
        """Begin anew with *limits*; a place where nobody was found may be dialled again soon."""
        soon = limits.setdefault("dial_again", 0.1)
        self.star("anna", **{"dials_at_once": 100, "dial_burst": 100, "dial_longest": soon, **limits})

    def dialled(self, effects: list[Effect]) -> list[str]:
        """The nodes that are dialled, each for an exchange."""
        dials = of(effects, Dial)
        names = {id_of(origin_of(name)): name for name in NAMES}
        for dial in dials:
            self.assertEqual(dial, Dial(contact(names[dial.contact.id]), Purpose.EXCHANGE))
        return [names[dial.contact.id] for dial in dials]

    def fail_dials(self, effects: list[Effect]) -> list[str]:
        """Let each dial fail; the nodes that were dialled."""
        names = self.dialled(effects)
        for name in names:
            self.handle(DialFailed(id_of(origin_of(name))))
        return names


class TestDrawing(ExchangeTestCase):
    """Every minute or so one node that is no neighbour is dialled."""

    def draw(self, times: int) -> list[str]:
        """The nodes that are drawn in *times* draws; every dial fails."""
        drawn = []
        until = self.now + 80 * times
        while len(drawn) < times and self.now < until:
            drawn += self.fail_dials(self.wait(1))
        return drawn

    def test_once_in_a_while_and_never_at_the_same_time(self) -> None:
        self.receive(1, dialable("dora"), dialable("emil"), dialable("fred"))
        at = [self.now for _ in range(600) if self.fail_dials(self.wait(1))]
        self.assertTrue(8 <= len(at) <= 14, at)
        pauses = {round(later - sooner) for sooner, later in pairwise(at)}
        self.assertGreater(len(pauses), 3)
        self.assertTrue(all(44 <= pause <= 76 for pause in pauses), pauses)

    def test_of_who_can_be_dialled_anyone(self) -> None:
        self.receive(1, dialable("dora"), dialable("emil"), dialable("fred"), presence("cleo"))
        self.assertEqual(set(self.draw(15)), {"dora", "emil", "fred"})

    def test_a_neighbour_is_not_drawn(self) -> None:
        self.receive(1, dialable("anna"))
        self.assertEqual(self.draw(5), [])

    def test_nor_who_has_an_exchange_open(self) -> None:
        self.receive(1, dialable("dora"))
        self.open(9, "dora", purpose=Purpose.EXCHANGE)
        self.receive(9, ALL)
        for number in range(1, 7):
            self.receive(9, batch("emil", number))  # else the exchange would end
            self.assertEqual(self.dialled(self.wait(10)), [])

    def test_one_draw_in_three_is_of_those_that_are_not_up(self) -> None:
        # Otherwise two islands that have forgotten each other stay apart.
        self.receive(1, dialable("dora"), dialable("emil"))
        self.wait(5)
        self.receive(1, dialable("emil", 2, flags=PresenceFlags.LEAVING))
        drawn = self.draw(60)
        self.assertEqual(len(drawn), 60)
        self.assertTrue(10 <= drawn.count("emil") <= 30, drawn.count("emil"))

    def test_where_there_are_none_of_the_one_kind_it_is_of_the_other(self) -> None:
        for flags in (0, PresenceFlags.LEAVING):
            self.begin()
            self.receive(1, dialable("dora"))
            self.wait(5)
            self.receive(1, dialable("dora", 2, flags=flags))
            self.assertEqual(self.draw(6), ["dora"] * 6)

    def test_who_was_linked_with_once_is_drawn_too(self) -> None:
        self.open(2, "bert", address=(HOST, port("bert")))
        self.receive(2, ALL)
        self.handle(closing(2))
        self.assertEqual(self.draw(2), ["bert"] * 2)

    def test_who_has_moved_since_is_dialled_where_it_said_so_last(self) -> None:
        self.handle(Known([contact("bert")]))
        self.receive(1, presence("bert", address=(HOST, 5555), flags=PresenceFlags.LEAVING))
        self.assertEqual(
            of(self.wait(80), Dial), [Dial(Contact(contact("bert").id, HOST, 5555), Purpose.EXCHANGE)]
        )

    def test_not_while_it_is_linked(self) -> None:
        self.open(2, "bert", address=(HOST, port("bert")))
        self.receive(2, ALL)
        self.assertEqual(self.draw(3), [])

    def test_so_many_are_remembered_the_latest(self) -> None:
        self.begin(remembered_contacts=2)
        self.handle(Known([contact(name) for name in ("bert", "cleo", "dora", "cleo")]))
        self.assertEqual(self.node.footprint()["remembered_contacts"], 2)
        self.assertEqual(set(self.draw(12)), {"dora", "cleo"})

    def test_an_address_that_cannot_be_true_is_not_remembered(self) -> None:
        self.open(2, "bert", address=("127.0.0.1", 4444))
        self.receive(2, ALL)
        self.assertEqual(self.node.footprint()["remembered_contacts"], 0)

    def test_with_nobody_to_draw_it_tries_again_later(self) -> None:
        self.assertEqual(self.draw(2), [])
        self.receive(1, dialable("dora"))
        self.assertEqual(self.draw(1), ["dora"])


class TestHelp(ExchangeTestCase):
    """Messages that no neighbour has are looked for at other nodes, the author first."""

    def hole(self, name: str = "fred", counter: int = 1) -> list[Effect]:
        """Let an author's record tell of more messages than anybody here has."""
        return self.receive(1, dialable(name, counter, 3))

    def test_the_author_even_if_it_seems_gone(self) -> None:
        self.receive(1, presence("fred", 1, 3, address=(HOST, port("fred")), flags=PresenceFlags.LEAVING))
        self.receive(1, dialable("bert", flags=PresenceFlags.LEAVING))
        self.assertEqual(self.dialled(self.wait(5)), ["fred"])

    def test_the_roster_is_looked_through_once_for_all_that_is_missing(self) -> None:
        looks: list[Roster] = []
        look = Roster.__iter__

        def counted(roster: Roster) -> Iterator[Author]:
            looks.append(roster)
            return look(roster)

        self.patch(Roster, "__iter__", counted)
        self.receive(1, *(dialable(name) for name in ("bert", "cleo", "dora")))
        self.receive(1, *(batch("emil", 5, epoch=epoch) for epoch in range(1, 61)))
        looks.clear()
        self.wait(4.0)
        self.assertEqual(self.node.footprint()["helped_runs"], 60)
        self.assertLess(len(looks), 10)

    def test_twice_in_the_time_a_hole_is_waited_for(self) -> None:
        self.hole()
        self.assertEqual(self.fail_dials(self.wait(5)), ["fred"])
        self.assertEqual(self.fail_dials(self.wait(10)), [])
        self.assertEqual(self.fail_dials(self.wait(5)), ["fred"])
        self.assertEqual(self.fail_dials(self.wait(9)), [])
        effects = self.wait(5)
        self.assertEqual(self.gaps(effects), [(1, 3)])

    def test_not_while_a_neighbour_is_asked(self) -> None:
        self.begin(graft_retry=10)
        self.hole()
        self.receive(1, have("fred", 1, 3))
        self.assertEqual(self.dialled(self.wait(8)), [])
        # But the author is dialled once the neighbour has failed as often as it may.
        self.assertEqual(self.dialled(self.wait(18)), ["fred"])

    def test_not_at_neighbours_nor_at_who_has_no_address(self) -> None:
        self.receive(1, dialable("anna"), presence("bert"))
        self.receive(1, presence("fred", 1, 3))
        self.assertEqual(self.dialled(self.wait(5)), [])

    def test_what_cannot_be_dialled_at_once_waits_for_its_turn(self) -> None:
        self.begin(dials_at_once=1)
        self.receive(1, dialable("bert"), dialable("cleo"))
        self.hole()
        dialled = []
        for _ in range(15):
            dialled += self.fail_dials(self.wait(1))
        self.assertEqual(set(dialled), {"fred", "bert", "cleo"})
        self.assertEqual(dialled[0], "fred")

    def test_and_not_for_ever(self) -> None:
        self.begin(dial_burst=1, dial_rate=0.001)
        self.receive(1, dialable("bert"))
        self.hole()
        self.wait(10)
        tables = ("sought_authors", "asked_members", "helped_runs")
        self.assertEqual([self.node.footprint()[name] for name in tables], [1, 1, 1])
        self.wait(100)
        self.assertEqual([self.node.footprint()[name] for name in tables], [0, 1, 0])

    def test_neighbours_are_asked_too_for_what_waits_behind_holes_of_theirs(self) -> None:
        # Nobody claims such messages: all nodes would give up the hole at once, and announce them too late.
        self.star("anna", "bert", "cleo")
        self.open(4, "dora")  # which has not told yet what it holds
        cut("fred", 2, 3, 3)
        self.receive(1, dialable("fred", 1, 9), batch("fred", 1, 2), batch("fred", 9))
        asked: list[tuple[str, int, int]] = []
        effects: list[Effect] = []
        for _ in range(20):
            effects = effects if self.asked(effects) else self.wait(0.2)
        while links := self.asked(effects):
            [number] = links
            asked += self.wants(effects, number)
            frames = [batch("fred", 6, 3)] if number == 2 else []
            effects = self.receive(number, *frames, have("fred", 1, 2, answer=True))
        self.assertEqual(asked, [("fred", 3, 8)] * 2 + [("fred", 3, 5)])
        effects = self.wait(40)
        self.assertEqual(self.gaps(effects), [(3, 5)])
        self.assertEqual(self.delivered(effects), [(6, [6, 7, 8]), (9, [9])])

    def test_who_got_it_since_is_asked_again(self) -> None:
        self.star("anna", "bert", "cleo")
        cut("fred", 2, 3, 3)
        self.receive(1, dialable("fred", 1, 9), batch("fred", 1, 2), batch("fred", 9))
        asked: list[int] = []
        gaps: list[tuple[int, int]] = []
        for _ in range(300):
            effects = self.wait(0.2)
            gaps += self.gaps(effects)
            while links := self.asked(effects):
                [number] = links
                asked.append(number)
                frames = [batch("fred", 6, 3)] if asked == [1, 2, 3, 1, 2] else []
                effects = self.receive(number, *frames, have("fred", 1, 2, answer=True))
        self.assertEqual(gaps, [(3, 5)])

    def test_but_not_for_runs_without_end(self) -> None:
        self.patch(repair, "PULLED_MOST", 2)
        self.patch(exchange, "PULLED_MOST", 2)
        for epoch in range(1, 6):
            self.receive(1, batch("fred", 9, epoch=epoch))
        asked = []
        while len(asked) < 5:
            effects = self.fire(Timer.ROSTER, self.now + 1.5)
            looked = {frame.epoch for frame in of(self.all_frames(effects + self.wait(0.4), 1), Want)}
            self.assertLessEqual(len(looked), 2)
            asked += looked
        self.assertEqual(sorted(asked), [1, 2, 3, 4, 5])

    def test_two_hundred_of_one_author_keep_nobody_elses_from_being_asked_for(self) -> None:
        for epoch in range(1, 201):
            self.receive(1, batch("fred", 9, epoch=epoch))
        self.receive(1, batch("emil", 9))
        asked = {frame.origin for frame in of(self.all_frames(self.wait(5), 1), Want)}
        self.assertIn(origin_of("emil"), asked)

    def test_what_the_exchange_brings_fills_it(self) -> None:
        self.hole()
        self.assertEqual(set(self.asked(self.wait(4))), {1})
        self.receive(1, have("fred", 1, 0, answer=True))  # the neighbour has nothing
        self.open(9, "fred", outgoing=True, purpose=Purpose.EXCHANGE)
        effects = self.receive(9, ALL, roster(), have("fred", 1, 3))
        self.assertEqual(self.wants(effects, 9), [("fred", 1, 3)])
        effects = self.receive(9, batch("fred", 1, 3), have("fred", 1, 3, answer=True))
        self.assertEqual(self.delivered(effects), [(1, [1, 2, 3])])
        self.assertEqual(self.gaps(self.wait(60)), [])
