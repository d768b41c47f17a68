"""One direction of a connection through the proxy."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.soak.way import ROOM, Way, Weather


class Target(StringTransport):
    """A transport of which one half can be closed."""

    ended = False

    def loseWriteConnection(self) -> None:
        self.ended = True


class WayTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.source, self.target = StringTransport(), Target()
        self.way = Way(self.clock, Random(1), self.source, self.target)

    def test_what_is_taken_goes_at_once(self) -> None:
        self.way.take(b"abc")
        self.assertEqual(self.target.value(), b"abc")

    def test_it_can_be_late_and_stays_in_order(self) -> None:
        self.way.weather = Weather(delay=0.5, jitter=0.5)
        for number in range(50):
            self.way.take(b"%02d" % number)
            self.clock.advance(0.01)
        self.assertEqual(self.target.value(), b"")
        self.clock.pump([0.1] * 12)
        self.assertEqual(self.target.value(), b"".join(b"%02d" % number for number in range(50)))

    def test_it_can_be_slow(self) -> None:
        self.way.weather = Weather(rate=10_000)
        self.way.take(b"x" * 100_000)
        self.clock.pump([0.1] * 50)
        self.assertIn(len(self.target.value()), range(45_000, 55_000))
        self.clock.pump([0.1] * 55)
        self.assertEqual(len(self.target.value()), 100_000)

    def test_what_is_held_waits_and_the_source_is_not_read(self) -> None:
        self.way.hold()
        self.assertEqual(self.source.producerState, "paused")
        self.way.take(b"abc")
        self.clock.advance(100)
        self.assertEqual(self.target.value(), b"")
        self.way.release()
        self.assertEqual(self.target.value(), b"abc")
        self.assertEqual(self.source.producerState, "producing")

    def test_what_waits_is_bounded(self) -> None:
        self.way.weather = Weather(delay=1.0)
        self.way.take(b"x" * (ROOM + 1))
        self.assertEqual(self.source.producerState, "paused")
        self.clock.advance(1.0)
        self.assertEqual(self.source.producerState, "producing")

    def test_a_target_that_is_full_is_waited_for(self) -> None:
        self.assertIs(self.target.producer, self.way)
        self.way.pauseProducing()
        self.assertEqual(self.source.producerState, "paused")
        self.way.resumeProducing()
        self.assertEqual(self.source.producerState, "producing")

    def test_the_end_comes_behind_what_is_late(self) -> None:
        self.way.weather = Weather(delay=1.0)
        self.way.take(b"abc")
        self.way.end()
        self.assertFalse(self.target.ended)
        self.clock.advance(1.0)
        self.assertEqual((self.target.value(), self.target.ended), (b"abc", True))

    def test_shut_it_ends_at_once_and_drops_what_follows(self) -> None:
        self.way.hold()
        self.way.take(b"abc")
        self.way.shut()
        self.way.take(b"def")
        self.assertEqual((self.target.value(), self.target.ended), (b"", True))
        self.assertEqual(self.source.producerState, "producing")

    def test_nothing_is_left_of_one_that_is_gone(self) -> None:
        self.way.weather = Weather(delay=1.0)
        self.way.take(b"abc")
        self.way.stop()
        self.assertEqual((self.clock.getDelayedCalls(), self.target.producer), ([], None))
