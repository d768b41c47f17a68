"""A node knows how fast a peer reads by the PONGs to PINGs that follow its frames."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.core.meter import LEAST, MEASURED, Meter

UNKNOWN = 77


class MeterTestCase(SynchronousTestCase):
    """The meter of a line with a round trip of 0.2 s, at the time 50."""

    def setUp(self) -> None:
        self.meter = Meter()
        self.sent = 0
        self.now = 50.0
        self.assertTrue(self.give(1, least=0))
        self.read(0.2)
        self.now += 1  # and a rest

    def give(self, size: int, least: int = MEASURED) -> bool:
        """Send *size* bytes more; whether a PING follows."""
        self.sent += size
        return self.meter.sent(self.sent, self.now, least)

    def read(self, seconds: float) -> None:
        """Let the PONG come *seconds* later."""
        self.now += seconds
        self.meter.has_read(self.now)


class TestAsking(MeterTestCase):
    """When the peer is asked whether it has read."""

    def test_a_little_is_not_worth_a_ping(self) -> None:
        self.assertFalse(self.give(MEASURED - 1))
        self.assertFalse(self.meter.is_waiting)
        self.assertTrue(self.give(1))
        self.assertTrue(self.meter.is_waiting)
        self.assertEqual(self.meter.waiting_since, self.now)

    def test_one_is_out_at_a_time(self) -> None:
        self.assertTrue(self.give(MEASURED))
        self.assertFalse(self.give(10 * MEASURED))
        self.read(1)
        self.assertTrue(self.give(1))

    def test_where_it_is_asked_for_a_byte_is_enough(self) -> None:
        self.assertTrue(self.give(1, least=1))
        self.read(1)
        self.assertFalse(self.give(0, least=1))

    def test_a_fast_line_is_asked_a_few_times_a_second(self) -> None:
        self.give(1_000_000)
        self.read(0.2 + 0.5)
        self.assertEqual(self.meter.rate, 2_000_000)
        self.assertFalse(self.give(499_999))
        self.assertTrue(self.give(1))


class TestRate(MeterTestCase):
    """The bytes that are read in a second."""

    def test_after_a_rest_the_round_trip_is_not_the_lines(self) -> None:
        self.give(10_000)
        self.read(0.2 + 1.0)
        self.assertAlmostEqual(self.meter.rate, 10_000)

    def test_but_no_more_than_half_of_what_it_took(self) -> None:
        self.give(10_000)
        self.read(0.2)
        self.assertAlmostEqual(self.meter.rate, 100_000)

    def test_what_follows_what_was_read_took_the_time_since_then(self) -> None:
        self.give(10_000)
        self.give(5_000)
        self.read(1.2)
        self.give(0, least=1)
        self.read(0.25)
        self.assertAlmostEqual(self.meter.rate, 20_000)

    def test_a_moment_is_taken_for_no_less_than_a_thousandth_of_a_second(self) -> None:
        self.give(10_000)
        self.read(0.0)
        self.assertAlmostEqual(self.meter.rate, 10_000_000)

    def test_what_is_read_faster_than_ever_counts_at_once(self) -> None:
        self.give(10_000)
        self.read(1.2)
        self.now += 1
        self.give(50_000)
        self.read(1.2)
        self.assertAlmostEqual(self.meter.rate, 50_000)

    def test_a_line_that_grows_slower_is_found_out_by_halves(self) -> None:
        self.give(50_000)
        self.read(1.2)
        self.give(50_000)
        self.read(5.0)
        self.assertAlmostEqual(self.meter.rate, 30_000)
        self.give(10_000)
        self.read(1.0)
        self.assertAlmostEqual(self.meter.rate, 20_000)

    def test_where_nothing_waited_there_was_no_more_to_read(self) -> None:
        self.give(50_000)
        self.read(1.2)
        self.now += 10
        self.give(MEASURED, least=1)
        self.read(0.24)
        self.assertAlmostEqual(self.meter.rate, 50_000)

    def test_too_few_bytes_tell_nothing(self) -> None:
        self.give(LEAST // 2 - 1, least=1)
        self.read(9)
        self.give(MEASURED - 1, least=1)
        self.read(1.1)
        self.assertEqual(self.meter.rate, 0)
        self.assertEqual(self.meter.read, self.sent)

    def test_unless_they_take_far_longer_than_a_round_trip(self) -> None:
        # The line would seem slow only while a PONG is late, and quick again for a while after each.
        self.give(LEAST, least=1)
        self.read(4.2)
        self.assertAlmostEqual(self.meter.rate, LEAST / 4)

    def test_or_than_the_first_one_can_take(self) -> None:
        for seconds, rate in ((2.9, 0), (3.2, LEAST / 1.6)):
            self.meter, self.sent = Meter(), 0
            self.give(LEAST, least=1)
            self.read(seconds)
            self.assertAlmostEqual(self.meter.rate, rate)

    def test_but_fewer_are_enough_on_a_line_that_is_known_to_be_slow(self) -> None:
        # No more may be unread there, and a line that has grown faster must be found out.
        self.give(MEASURED)
        self.read(4.2)
        self.assertAlmostEqual(self.meter.rate, 1024)
        self.give(LEAST // 2 - 1, least=1)
        self.read(0.7)
        self.assertAlmostEqual(self.meter.rate, 1024)
        self.now += 10
        self.give(LEAST, least=1)
        self.read(0.7)
        self.assertAlmostEqual(self.meter.rate, 2 * LEAST)

    def test_the_shortest_round_trip_counts(self) -> None:
        self.assertAlmostEqual(self.meter.rtt, 0.2)
        self.give(1, least=1)
        self.read(0.1)
        self.assertAlmostEqual(self.meter.rtt, 0.1)
        self.give(1, least=1)
        self.read(3)
        self.assertAlmostEqual(self.meter.rtt, 0.1)

    def test_a_pong_that_nobody_asked_for_says_nothing(self) -> None:
        before = self.meter.read
        self.give(100)
        self.read(0.2)
        self.assertEqual((self.meter.read, self.meter.rate), (before, 0))
        meter = Meter()
        meter.has_read(50.0)
        self.assertEqual((meter.read, meter.rtt), (0, inf))

    def test_only_what_stood_before_the_ping_is_read(self) -> None:
        self.give(10_000)
        before = self.sent
        self.give(10_000)
        self.read(1.2)
        self.assertEqual(self.meter.read, before)


class TestBytesIn(MeterTestCase):
    """How many bytes may be unread if the peer is to read them in time."""

    def test_until_something_is_measured_it_is_what_the_asker_says(self) -> None:
        self.assertEqual(self.meter.bytes_in(1.0, UNKNOWN), UNKNOWN)

    def test_then_it_is_what_is_read_in_so_long_and_a_round_trip(self) -> None:
        self.give(100_000)
        self.read(1.2)
        self.assertEqual(self.meter.bytes_in(1.0, UNKNOWN), 120_000)

    def test_and_never_less_than_it_takes_to_measure(self) -> None:
        self.give(MEASURED)
        self.read(60.2)
        self.assertEqual(self.meter.bytes_in(1.0, UNKNOWN), LEAST)
