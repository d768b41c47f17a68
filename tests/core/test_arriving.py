"""The protocol tells the core now and then of a frame that takes long to come, and of no fast one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import inf

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import origin_of
from twisted_mesh.core.arriving import REPORTED_AFTER, REPORTED_EVERY, Arrival, Partial, Unread
from twisted_mesh.core.events import Arriving
from twisted_mesh.wire.begun import Begun

EMIL = origin_of("emil")
LENGTH = 10_000


class TestArrival(SynchronousTestCase):
    """The bytes of one link, in the middle of a frame that began at the time 50."""

    def setUp(self) -> None:
        self.arrival = Arrival()
        self.assertFalse(self.arrival.grew(50.0))

    def test_a_frame_that_comes_at_once_is_not_told_of(self) -> None:
        for number in range(1, 100):
            self.assertFalse(self.arrival.grew(50.0 + number * REPORTED_AFTER / 100))

    def test_nor_are_many_that_each_do(self) -> None:
        for number in range(1, 100):
            self.arrival.ended()
            self.assertFalse(self.arrival.grew(50.0 + number * REPORTED_AFTER * 0.9))

    def test_one_that_takes_long_is(self) -> None:
        self.assertTrue(self.arrival.grew(50.0 + REPORTED_AFTER))

    def test_and_again_only_after_a_while(self) -> None:
        told = [number / 100 for number in range(200) if self.arrival.grew(50.0 + number / 100)]
        self.assertEqual(len(told), 4)
        for before, after in pairwise(told):
            self.assertAlmostEqual(after - before, REPORTED_EVERY)

    def test_the_next_frame_is_told_of_by_its_own_time(self) -> None:
        self.assertTrue(self.arrival.grew(50.2))
        self.arrival.ended()
        self.assertFalse(self.arrival.grew(50.25))
        self.assertTrue(self.arrival.grew(50.25 + REPORTED_AFTER))


class TestPartial(SynchronousTestCase):
    """A batch of Emil's messages 5 to 9, whose first bytes came at the time 50."""

    def setUp(self) -> None:
        self.partial = Partial((EMIL, 1), 5, 9, LENGTH, 50.0)

    def arriving(
        self, size: int, first: int = 5, last: int = 9, epoch: int = 1, length: int = LENGTH
    ) -> Arriving:
        return Arriving(1, Begun(EMIL, epoch, first, last), size, length)

    def test_more_of_it_is_known_by_its_numbers_and_its_length(self) -> None:
        self.partial.grew(1000, 50.0)
        self.assertTrue(self.partial.is_of(self.arriving(1000)))
        self.assertTrue(self.partial.is_of(self.arriving(2000)))
        for other in (
            self.arriving(2000, first=4),
            self.arriving(2000, last=8),
            self.arriving(2000, epoch=2),
            self.arriving(2000, length=LENGTH + 1),
            Arriving(1, None, 2000, LENGTH),
        ):
            self.assertFalse(self.partial.is_of(other))

    def test_the_same_from_its_beginning_is_another(self) -> None:
        self.partial.grew(1000, 50.0)
        self.assertFalse(self.partial.is_of(self.arriving(999)))

    def test_how_long_it_takes_is_unknown_at_first(self) -> None:
        self.partial.grew(1000, 50.0)
        self.assertEqual((self.partial.pace, self.partial.seconds_left), (0.0, inf))

    def test_its_pace_is_that_of_what_came_since(self) -> None:
        self.partial.grew(1000, 50.0)
        self.partial.grew(2000, 51.0)
        self.assertEqual((self.partial.pace, self.partial.seconds_left), (1000.0, 8.0))

    def test_and_follows_the_line(self) -> None:
        self.partial.grew(1000, 50.0)
        self.partial.grew(2000, 51.0)
        self.partial.grew(5000, 52.0)
        self.assertEqual((self.partial.pace, self.partial.seconds_left), (2000.0, 2.5))

    def test_two_words_of_one_moment_say_nothing_of_it(self) -> None:
        self.partial.grew(1000, 50.0)
        self.partial.grew(3000, 50.0)
        self.assertEqual(self.partial.pace, 0.0)
        self.partial.grew(4000, 50.5)
        self.assertEqual(self.partial.pace, 2000.0)


class TestUnread(SynchronousTestCase):
    """Bytes that wait until they are handled."""

    def setUp(self) -> None:
        self.received: list[bytes] = []
        self.unread = Unread[int](self.receive)

    def receive(self, data: bytes) -> Iterator[int]:
        self.received.append(data)
        return iter(data)

    def test_the_events_of_all_bytes_come_in_order_however_often_they_are_left(self) -> None:
        self.assertEqual(
            [self.unread.put(b"abc"), self.unread.put(b""), self.unread.put(b"de")], [True, False, False]
        )
        self.assertEqual(next(self.unread), ord("a"))
        self.assertEqual((self.received, len(self.unread)), ([b"abc"], 5))
        self.assertEqual(bytes(self.unread), b"bcde")
        self.assertEqual((len(self.unread), self.unread.put(b"f"), bytes(self.unread)), (0, True, b"f"))

    def test_once_they_are_forgotten_none_comes(self) -> None:
        self.unread.put(b"abc")
        for _ in self.unread:
            self.unread.clear()
        self.assertEqual((self.received, len(self.unread), bytes(self.unread)), ([b"abc"], 0, b""))
