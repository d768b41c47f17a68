"""Slow lines: the order and the time in which they carry frames."""

from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import batch, origin_of
from twisted_mesh.core.events import Arriving
from twisted_mesh.simulation.member import Member
from twisted_mesh.simulation.network import BUFFERED, SEGMENT, Line, Wire, carry
from twisted_mesh.simulation.world import World
from twisted_mesh.wire import codec
from twisted_mesh.wire.begun import Begun
from twisted_mesh.wire.link import Ping


class TestLine(SynchronousTestCase):
    """A line of 100 bytes a second."""

    def setUp(self) -> None:
        self.world = World(1, 0).start()
        self.line = Line(self.world, 100.0)
        self.through: list[tuple[float, str]] = []

    def put(self, wire: Wire, size: int, name: str) -> None:
        self.line.put(wire, size, lambda: self.through.append((self.world.now, name)))

    def run_for(self, seconds: float) -> list[tuple[float, str]]:
        """Let so many *seconds* pass; return the frames that are through."""
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
        self.run_for(10.05)  # the frame on the line ends first
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
        # At each moment they differ by one frame of each at most.
        self.assertLessEqual(abs(names.count("s") * 10 - names.count("l") * 60), 70)

    def test_what_was_on_a_lost_wire_takes_no_time(self) -> None:
        lost, other = Wire(), Wire()
        for _ in range(100):
            self.put(lost, 100, "l")
        self.put(other, 100, "a")
        lost.lost = True
        self.assertEqual(self.run_for(2.0), [(1.0, "l"), (2.0, "a")])  # one of its frames was on the line
        self.put(other, 100, "b")
        self.assertEqual(self.run_for(1.0)[2:], [(3.0, "b")])


class TestLines(SynchronousTestCase):
    """A line of 1,000 bytes a second behind one of 2,000."""

    def setUp(self) -> None:
        self.world = World(1, 0).start()
        self.lines = [Line(self.world, 2000.0), Line(self.world, 1000.0)]
        self.passed: list[tuple[float, int]] = []

    def carry(self, size: int, wire: Wire | None = None) -> None:
        carry(self.lines, wire or Wire(), size, lambda done: self.passed.append((self.world.now, done)))

    def test_what_is_large_goes_in_pieces_that_are_over_one_after_the_other(self) -> None:
        self.carry(3 * SEGMENT)
        self.world.run_until(10.0)
        self.assertEqual([done for _, done in self.passed], [SEGMENT, 2 * SEGMENT, 3 * SEGMENT])

    def test_it_takes_the_slower_lines_time_and_one_piece_on_the_other(self) -> None:
        self.carry(3 * SEGMENT)
        self.world.run_until(10.0)
        times = [now * 1000 for now, _ in self.passed]
        for time, expected in zip(times, (1.5, 2.5, 3.5), strict=True):
            self.assertAlmostEqual(time, expected * SEGMENT)

    def test_a_fast_line_carries_more_at_a_time(self) -> None:
        fast = Line(self.world, 1_000_000.0)
        self.assertEqual((self.lines[0].segment, fast.segment), (SEGMENT, 20_000))
        carry([fast, self.lines[1]], Wire(), 2 * SEGMENT, lambda done: self.passed.append((0.0, done)))
        self.world.run_until(10.0)
        self.assertEqual(len(self.passed), 2)  # the slowest decides

    def test_what_is_as_good_as_nothing_is_over_in_its_turn(self) -> None:
        wire = Wire()
        self.carry(500, wire)
        self.carry(0, wire)
        self.world.run_until(10.0)
        self.assertEqual(self.passed, [(0.75, 500), (0.75, 0)])

    def test_a_small_frame_comes_in_between_the_pieces_of_a_large_one(self) -> None:
        self.carry(10 * SEGMENT)
        self.carry(100)
        self.world.run_until(3.0)
        self.assertIn(100, [done for _, done in self.passed])


class TestShowing(SynchronousTestCase):
    """The far end is told of a frame that has come in part."""

    def setUp(self) -> None:
        self.wire = Wire()
        self.frame = batch("emil", 5, 3)
        self.size = codec.size(self.frame)

    def shows(self, done: int, now: float) -> Arriving | None:
        return self.wire.shows(self.frame, done, self.size, 7, now)

    def test_what_comes_at_once_is_not_heard_of(self) -> None:
        for number in range(100):
            self.assertIsNone(self.shows(50, 50.0 + number))
            self.assertIsNone(self.shows(self.size, 50.05 + number))

    def test_what_takes_long_is_heard_of_with_its_numbers_as_soon_as_they_have_come(self) -> None:
        self.assertIsNone(self.shows(1, 50.0))
        early, late = self.shows(50, 51.0), self.shows(self.size - 1, 52.0)
        self.assertEqual(early, Arriving(7, None, 50, self.size))
        self.assertEqual(late, Arriving(7, Begun(origin_of("emil"), 1, 5, 7), self.size - 1, self.size))

    def test_the_length_before_it_counts_as_come_and_says_nothing(self) -> None:
        self.assertIsNone(self.shows(1, 50.0))
        self.assertEqual(self.shows(2, 51.0), Arriving(7, None, 2, self.size))


class TestLinesOfMembers(SynchronousTestCase):
    """All links to one member share its line."""

    def setUp(self) -> None:
        self.world = World(1, 3, latency=(0.02, 0.01)).start()
        self.flooder, self.other, self.slow = self.world.members
        self.slow.line = Line(self.world, 10_000.0)
        for member in (self.flooder, self.other):
            self.world.link(member, self.slow)
        self.world.run_until(2.0)

    def flood(self, member: Member) -> None:
        """Send what the slow line carries in a minute."""
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

    def test_a_system_takes_so_much_ahead_of_the_line(self) -> None:
        [link] = self.other.links.values()
        wire = link.wires[self.other]
        before = wire.given
        self.assertEqual(wire.accepted, before)
        for token in range(200):
            self.world.transmit(self.other, link.number, Ping(token), 1000)
        self.world.run_until(self.world.now + 0.001)
        self.assertEqual(wire.accepted, wire.passed + BUFFERED)
        self.world.run_until(self.world.now + 3.0)  # so much of it is over the line
        self.assertGreater(wire.passed, before + 25_000)
        self.assertEqual(wire.accepted, wire.passed + BUFFERED)
        self.world.run_until(self.world.now + 30.0)
        self.assertEqual(wire.accepted, wire.given)

    def test_what_a_member_sends_goes_over_its_line_too(self) -> None:
        self.flooder.uplink = Line(self.world, 1000.0)
        self.flooder.publish("x" * 5000)
        published = self.world.now
        self.world.run_until(published + 4.5)
        self.assertEqual(self.slow.delivered.get(self.flooder.run), None)
        self.world.run_until(published + 6.5)
        self.assertEqual(self.slow.delivered.get(self.flooder.run), 1)

    def test_a_node_hears_of_what_is_coming_over_it(self) -> None:
        self.other.publish("x" * 20_000)
        self.world.run_until(self.world.now + 1.5)
        assert self.slow.core is not None
        [link] = self.other.links.values()
        theirs = self.slow.core._links.get(link.number)
        assert theirs is not None and theirs.repair.partial is not None
        self.assertEqual((theirs.repair.partial.run, theirs.repair.partial.first), (self.other.run, 1))
        self.world.run_until(self.world.now + 1.5)
        self.assertIsNone(theirs.repair.partial)
        self.assertEqual(self.slow.delivered.get(self.other.run), 1)
