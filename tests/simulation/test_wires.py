"""Slow lines: what they take, in what order, and for how long."""

from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.wires import Line, Wire
from twisted_mesh.simulation.world import World
from twisted_mesh.wire.native import Ping


class TestLine(SynchronousTestCase):
    """A line of 100 bytes a second."""

    def setUp(self) -> None:
        self.world = World(1, 0)
        self.line = Line(self.world, 100.0)
        self.through: list[tuple[float, str]] = []

    def put(self, wire: Wire, size: int, name: str) -> None:
        self.line.put(wire, size, lambda: self.through.append((self.world.now, name)))

    def run_for(self, seconds: float) -> list[tuple[float, str]]:
        """What is through after so long."""
        self.world.run_until(self.world.now + seconds)
        return self.through

    def test_a_frame_takes_as_long_as_it_is_large(self) -> None:
        wire = Wire()
        self.put(wire, 50, "a")
        self.put(wire, 150, "b")
        self.assertEqual(self.run_for(1.9), [(0.5, "a")])
        self.assertEqual(self.run_for(0.1), [(0.5, "a"), (2.0, "b")])
        self.world.run_until(5.0)
        self.put(wire, 100, "c")
        self.assertEqual(self.run_for(1.0)[2:], [(6.0, "c")])

    def test_who_sends_much_keeps_nobody_else_back(self) -> None:
        flood, other = Wire(), Wire()
        for number in range(1000):
            self.put(flood, 10, f"f{number}")
        self.run_for(10.05)  # a frame is on the line, and has to be over first
        self.put(other, 10, "a")
        self.put(other, 10, "b")
        names = [name for _, name in self.run_for(0.46)[100:]]
        self.assertEqual(names, ["f100", "f101", "a", "f102", "b"])

    def test_they_share_it_by_bytes(self) -> None:
        small, large = Wire(), Wire()
        for _ in range(60):
            self.put(small, 10, "s")
        for _ in range(10):
            self.put(large, 60, "l")
        names = [name for _, name in self.run_for(6.0)]
        # Within a frame of each, wherever it is looked at.
        self.assertLessEqual(abs(names.count("s") * 10 - names.count("l") * 60), 70)

    def test_what_was_on_a_lost_wire_takes_no_time(self) -> None:
        lost, other = Wire(), Wire()
        for _ in range(100):
            self.put(lost, 100, "l")
        self.put(other, 100, "a")
        lost.lost = True
        self.assertEqual(self.run_for(2.0), [(1.0, "l"), (2.0, "a")])  # one was on the line
        self.put(other, 100, "b")
        self.assertEqual(self.run_for(1.0)[2:], [(3.0, "b")])


class TestLinesOfMembers(SynchronousTestCase):
    """All links to one member share its line."""

    def setUp(self) -> None:
        self.world = World(1, 3, latency=(0.02, 0.01))
        self.flooder, self.other, self.slow = self.world.members
        self.slow.line = Line(self.world, 10_000.0)
        for member in (self.flooder, self.other):
            self.world.link(member, self.slow)
        self.world.run_until(2.0)

    def flood(self, member: Member) -> None:
        """A minute's worth for the slow line."""
        [number] = member.links
        for token in range(600):
            self.world.transmit(member, number, Ping(token), 1000)

    def test_a_neighbour_that_floods_it_delays_itself_alone(self) -> None:
        self.flood(self.flooder)
        self.world.latencies.clear()
        self.world.at(5.0, partial(self.other.publish, "x"))
        self.world.run_until(6.0)
        run = self.other.run
        self.assertEqual(self.slow.delivered.get(run), 1)
        self.assertLess(max(self.world.latencies), 0.5)

    def test_the_word_of_who_leaves_comes_last(self) -> None:
        self.other.publish("x")
        [link] = self.other.links.values()
        self.flood(self.other)
        self.world.leave(self.other)
        self.world.run_until(50.0)
        self.assertTrue(link.open)
        self.world.run_until(65.0)
        self.assertFalse(link.open)
        self.assertEqual(len(self.slow.links), 1)
