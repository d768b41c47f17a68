"""A node that was away says when it has what it missed, on a Clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.logs import logged
from tests.support.meshcase import MeshCase
from twisted_mesh.core.status import Report, StreamReport
from twisted_mesh.errors import NotRunning
from twisted_mesh.links.connections import Linked
from twisted_mesh.message import CaughtUp
from twisted_mesh.runtime import missed
from twisted_mesh.runtime.missed import Missed
from twisted_mesh.service import MeshService


class TestNode(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.linked(self.node(), self.keyed(history=self.mktemp()), after=10)

    def away(self, *authors: MeshService, count: int = 50) -> None:
        """Let the authors send messages while *b* is away; then *b* is back, and dials *a*."""
        self.stop(self.b)
        for author in authors:
            self.send(author, *range(count), after=0.1)
        self.b.startService()
        self.link((self.b, self.a), after=20)

    def caught_up(self) -> list[CaughtUp]:
        """What *b* has told."""
        return self.happened(self.b, "caught_up")

    def test_it_tells_how_many_messages_of_how_many_authors_came_and_how_long_it_took(self) -> None:
        c, _ = self.linked(self.node(), self.a, after=10)
        with logged() as lines:
            self.away(self.a, c)
        (told,) = self.caught_up()
        self.assertEqual((told.messages, told.authors), (100, 2))
        self.assertLess(told.seconds, 5)
        (line,) = [line for line in lines if line.startswith("caught up")]
        self.assertRegex(line, r"^caught up: 100 messages of 2 authors in \d\.\d s$")

    def test_one_that_lacked_nothing_says_nothing(self) -> None:
        self.away()
        self.assertEqual(self.caught_up(), [])


class TestLooking(SynchronousTestCase):
    """Looks at streams of two runs."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[CaughtUp] = []
        self.streams: dict[str, tuple[int, int]] = {}  # how many were fetched, and how many are missing
        self.looking = Missed(self.clock, self.report, self.told.append)

    def report(self) -> Report:
        """The node now."""
        streams = [
            StreamReport((name.encode(), 1), fetched, fetched + missing, missing, fetched)
            for name, (fetched, missing) in self.streams.items()
        ]
        return Report((), tuple(streams), 0, None)

    def link(self, count: int = 1) -> None:
        """A link comes up, the *count*-th."""
        link: Any = None
        self.looking.linked(Linked(link, True, count))

    def test_while_it_takes_long_the_log_tells_how_far_it_has_come(self) -> None:
        self.streams = {"a": (5, 2000), "b": (0, 0)}
        with logged() as lines:
            self.link()
            self.clock.pump([0.5] * 22)
            self.streams = {"a": (1505, 500), "b": (7, 0)}
            self.clock.pump([0.5] * 20)
            self.streams = {"a": (2005, 0), "b": (7, 0)}
            self.clock.pump([0.5] * 20)
        told = ["0 of 2,000", "1,507 of 2,007"]
        self.assertEqual(lines[:-1], [f"catching up: {each} messages" for each in told])
        self.assertRegex(lines[-1], r"^caught up: 2,007 messages of 2 authors in 2\d\.\d s$")
        self.assertEqual([(one.messages, one.authors) for one in self.told], [(2007, 2)])

    def test_it_may_take_a_moment_until_the_node_knows_what_it_lacks(self) -> None:
        self.streams = {"a": (5, 0)}
        self.link()
        self.clock.pump([0.1] * 6)
        self.streams = {"a": (8, 0)}  # they came between two looks
        self.clock.pump([0.1] * 20)
        self.assertEqual([(one.messages, round(one.seconds, 1)) for one in self.told], [(3, 0.7)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_node_that_had_neighbours_tells_no_moment(self) -> None:
        for seconds, count in ((0.5, 0), (2.0, 1)):
            self.told.clear()
            self.streams = {"a": (5, 3)}
            self.link(2)
            self.link(3)  # it looks already
            self.clock.pump([seconds / 50] * 50)
            self.streams = {"a": (8, 0)}
            self.clock.pump([0.1] * 30)
            self.assertEqual(len(self.told), count)

    def test_authors_that_come_and_go_take_a_bounded_room(self) -> None:
        self.patch(missed, "_AUTHORS", 5)
        self.link()
        for number in range(10):
            self.streams = {f"author {number}": (2, 1)}
            self.clock.pump([0.1] * 8)
        self.assertEqual(self.looking.footprint(), {"runs_looked_at": 1, "authors_fetched": 5})
        self.streams = {}
        self.clock.pump([0.1] * 30)
        self.assertEqual([(one.messages, one.authors) for one in self.told], [(20, 5)])
        self.assertEqual(self.looking.footprint(), {"runs_looked_at": 0, "authors_fetched": 0})

    def test_a_node_that_stops_looks_no_more_and_whoever_waits_is_told(self) -> None:
        self.link()
        waiting = self.looking.over()
        self.looking.stop()
        self.failureResultOf(waiting, NotRunning)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_messages_that_nobody_has_are_no_news(self) -> None:
        self.streams = {"a": (5, 3)}
        self.link()
        self.streams = {}  # the run was given up
        self.clock.pump([0.5] * 4)
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([], []))
