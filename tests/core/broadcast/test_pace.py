"""Whether another link is asked beside a slow one, and how long a slow link is waited for."""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import local_node, origin_of, peer
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.pace import LOOK_AGAIN, Pace
from twisted_mesh.core.events import Arriving, LinkOpened
from twisted_mesh.core.history.history import History
from twisted_mesh.core.link import SLOWED_SECONDS, Link
from twisted_mesh.core.links import Links
from twisted_mesh.core.meter import FLOOR
from twisted_mesh.wire.begun import Begun
from twisted_mesh.wire.membership import Purpose

EMIL = (origin_of("emil"), 1)
MANY = 100_000  # bytes of a batch


class PaceTestCase(SynchronousTestCase):
    """Links to Anna and Bert since the time 0; now it is 100."""

    def setUp(self) -> None:
        self.config = MeshConfig()
        self.links = Links(local_node("me"), self.config)
        self.pace = Pace(History(self.config), self.links, self.config)
        self.anna, self.bert = self.open(1, "anna"), self.open(2, "bert")
        self.now = 100.0

    def open(self, number: int, name: str, purpose: Purpose = Purpose.JOIN) -> Link:
        """Open a link at the time 0."""
        link, _ = self.links.open(LinkOpened(number, peer(name), True, False, purpose), 0)
        return link

    def answers_within(self, link: Link) -> float:
        """Seconds for which *link*, which is given up now, is not asked again."""
        return self.pace.owes_until(link, self.now, self.now) - self.now

    def slow(self, link: Link, pace: float = 0.0) -> None:
        """The line of *link* is slow now, and brings *pace* bytes a second."""
        link.arriving(Arriving(link.number, None, 1, 2), self.now)
        link.repair.pace = pace

    def bring(
        self, link: Link, size: int, first: int = 1, last: int = 9, length: int = MANY, begun: bool = True
    ) -> None:
        """*size* bytes of a batch of Emil's have come over *link*."""
        head = Begun(*EMIL, first, last) if begun else None
        link.arriving(Arriving(link.number, head, size, length), self.now)


class TestPaces(PaceTestCase):
    """The paces of links, as far as they are known."""

    def test_a_link_that_nothing_is_known_of_may_be_as_fast_as_any(self) -> None:
        self.assertEqual(self.pace.of(self.anna), 0)
        self.bert.repair.pace = 1000
        self.assertEqual(self.pace.of(self.anna), 1000)
        self.anna.repair.pace = 10
        self.assertEqual(self.pace.of(self.anna), 10)

    def test_one_is_slow_beside_another_that_is_more_than_four_times_as_fast(self) -> None:
        self.bert.repair.pace = 4001
        self.assertFalse(self.pace.is_much_slower(self.anna))  # not known
        self.anna.repair.pace = 1000
        self.assertTrue(self.pace.is_much_slower(self.anna))
        self.bert.repair.pace = 4000
        self.assertFalse(self.pace.is_much_slower(self.anna))

    def test_an_answer_shows_how_fast_a_link_is_at_least(self) -> None:
        self.pace.answered(self.anna, 100_000, 99.5, self.now)
        self.assertEqual(self.anna.repair.pace, 200_000)
        self.pace.answered(self.anna, 100_000, 90, self.now)
        self.assertEqual(self.anna.repair.pace, 200_000)

    def test_but_not_one_of_the_same_moment(self) -> None:
        self.pace.answered(self.anna, 100_000, self.now, self.now)
        self.assertEqual(self.anna.repair.pace, 0)

    def test_nor_where_its_frames_have_told(self) -> None:
        self.slow(self.anna, 10)
        self.pace.answered(self.anna, 100_000, 99.5, self.now)
        self.assertEqual(self.anna.repair.pace, 10)

    def test_a_slow_line_brings_so_much_in_time(self) -> None:
        self.assertEqual(self.pace.bytes_in_time(self.now), inf)
        self.slow(self.anna, 1000)
        self.bert.repair.pace = 10**6
        self.assertEqual(self.pace.bytes_in_time(self.now), 4000)
        self.slow(self.open(3, "cleo", Purpose.EXCHANGE), 500)
        self.assertEqual(self.pace.bytes_in_time(self.now), 6000)
        self.assertEqual(self.pace.bytes_in_time(self.now + SLOWED_SECONDS), inf)


class TestOutrun(PaceTestCase):
    """Anna was asked at the time 100; the question is whether Bert is to be asked, too."""

    def is_outrun(self, after: float, got: int = 0) -> bool:
        return self.pace.is_outrun(self.anna, self.bert, 100.0, got, 100.0 + after)

    def look(self, after: float, got: int = 0) -> float:
        """In how many seconds from 100 on to look again."""
        return self.pace.outrun_at(self.anna, 100.0, got, 100.0 + after) - 100.0

    def test_a_trickle_is(self) -> None:
        self.assertFalse(self.is_outrun(4.9, got=1))
        self.assertTrue(self.is_outrun(5.1, got=1))
        self.assertFalse(self.is_outrun(6.9, got=8192))
        self.assertTrue(self.is_outrun(7.0, got=8192))
        self.assertEqual(self.look(3, got=8192), 7.0)

    def test_silence_is_no_question_of_pace(self) -> None:
        self.assertFalse(self.is_outrun(1000))

    def test_a_slow_line_is_by_one_that_is_more_than_four_times_as_fast(self) -> None:
        self.bert.repair.pace = 4001
        self.now = 106.0
        self.slow(self.anna, 1000)
        self.assertFalse(self.is_outrun(4.9))
        self.assertTrue(self.is_outrun(5.0))
        self.bert.repair.pace = 4000
        self.assertFalse(self.is_outrun(5.0))

    def test_and_by_one_of_which_nothing_is_known_only_after_a_gaps_patience(self) -> None:
        self.now = 129.0
        self.slow(self.anna, 1000)
        self.assertFalse(self.is_outrun(29.9))
        self.assertTrue(self.is_outrun(30.0))
        self.bert.repair.pace = 1000
        self.assertFalse(self.is_outrun(30.0))

    def test_the_time_begins_with_its_last_answer(self) -> None:
        self.anna.repair.answered_at = 103.0
        self.assertFalse(self.is_outrun(7.9, got=1))
        self.assertTrue(self.is_outrun(8.1, got=1))

    def test_a_slow_line_is_looked_at_every_second(self) -> None:
        self.slow(self.anna)
        self.assertEqual(self.look(1), 5.0)
        self.now = 110.0
        self.slow(self.anna)
        self.assertEqual(self.look(10), 10 + LOOK_AGAIN)


class TestWaiting(PaceTestCase):
    """Which silent links are still waited for."""

    def test_while_any_line_is_slow_a_gaps_patience_is_waited(self) -> None:
        self.assertFalse(self.pace.is_patient(99.0, self.now))
        self.slow(self.bert)
        self.assertTrue(self.pace.is_patient(self.now - 29.9, self.now))
        self.assertFalse(self.pace.is_patient(self.now - 30.0, self.now))

    def test_a_link_may_be_silent_for_as_long_as_what_stands_before_takes(self) -> None:
        self.assertEqual(self.pace.silence(self.anna), 0.0)
        self.anna.repair.pace = 65_536
        self.assertEqual(self.pace.silence(self.anna), 1.0)
        self.anna.flow.meter.rate = 32_768
        self.assertEqual(self.pace.silence(self.anna), 2.0)  # either way
        self.anna.repair.pace = 1
        self.assertEqual(self.pace.silence(self.anna), self.config.gap_patience)

    def leave_unread(self, link: Link, size: int) -> None:
        """From now on, the peer does not say that it has read *size* bytes."""
        link.flow.sent += size
        self.assertTrue(link.flow.meter.sent(link.flow.sent, self.now, 1))

    def test_a_peer_that_has_not_read_in_time_has_a_slow_line(self) -> None:
        self.leave_unread(self.anna, FLOOR + 1)
        self.assertFalse(self.pace.is_slow(self.anna, self.now + SLOWED_SECONDS))
        self.assertTrue(self.pace.is_slow(self.anna, self.now + SLOWED_SECONDS + 0.1))
        self.leave_unread(self.bert, FLOOR)
        self.assertFalse(self.pace.is_slow(self.bert, self.now + SLOWED_SECONDS + 0.1))

    def test_or_one_that_is_measured_as_slow(self) -> None:
        self.anna.flow.meter.rate = 10_000
        self.assertTrue(self.pace.is_slow(self.anna, self.now))
        self.assertFalse(self.pace.is_slow(self.bert, self.now))

    def test_or_a_new_one_if_those_of_most_neighbours_are(self) -> None:
        # The slow line is this node's own, and what an exchange brings waits for it, too.
        links = [self.anna, self.bert, self.open(3, "cleo"), self.open(4, "dora")]
        new = self.open(5, "emil", Purpose.EXCHANGE)
        for link in links[:2]:
            link.flow.meter.rate = 10_000
        self.assertFalse(self.pace.is_slow(new, self.now))
        links[2].repair.pace = 10_000
        self.now += 1
        self.assertTrue(self.pace.is_slow(new, self.now))
        self.assertTrue(self.pace.is_slow(links[3], self.now))
        new.flow.meter.rate = 1_000_000
        self.assertFalse(self.pace.is_slow(new, self.now))

    def test_or_any_while_one_is_slow_now(self) -> None:
        self.slow(self.anna)
        self.assertTrue(self.pace.is_slow(self.bert, self.now))
        self.assertFalse(self.pace.is_slow(self.bert, self.now + SLOWED_SECONDS))

    def test_an_answer_over_a_slow_line_may_take_as_long_as_a_gap_may(self) -> None:
        self.assertEqual(self.answers_within(self.anna), self.config.gap_patience)
        self.anna.repair.pace = 10_000
        self.assertEqual(self.answers_within(self.anna), self.config.gap_longest)
        self.assertEqual(self.answers_within(self.bert), self.config.gap_patience)
        self.slow(self.anna)  # which may be the own line
        self.assertEqual(self.answers_within(self.bert), self.config.gap_longest)

    def test_a_slow_link_gives_reason_to_wait_by_being_asked_and_by_what_it_brings(self) -> None:
        self.anna.repair.last_batch_at = 80.0
        self.assertEqual(self.pace.sign(self.anna, 90.0, self.now), 90.0)
        self.anna.repair.last_batch_at = 95.0
        self.assertEqual(self.pace.sign(self.anna, 90.0, self.now), 95.0)

    def test_and_always_while_it_may_not_have_read_the_want(self) -> None:
        self.anna.flow.meter.rate = 10_000
        self.leave_unread(self.anna, 1)
        self.assertEqual(self.pace.sign(self.anna, 50.0, self.now), self.now)


class TestUnderWay(PaceTestCase):
    """Anna is in the middle of a batch of Emil's messages 1 to 9."""

    def passed(self, rival: Link) -> list[tuple[int, int]]:
        return self.pace.passed(self.pace.under_way(EMIL), rival, self.now)

    def drip(self, seconds: float, size: int) -> None:
        """For *seconds*, *size* bytes of the batch come each second."""
        come = 1 if self.anna.repair.partial is None else self.anna.repair.partial.size
        self.bring(self.anna, come)
        for second in range(1, int(seconds) + 1):
            self.now += 1
            self.bring(self.anna, come + second * size)

    def test_the_links_in_the_middle_of_a_batch_are_known(self) -> None:
        self.bring(self.anna, 100)
        cleo = self.open(3, "cleo", Purpose.EXCHANGE)
        self.bring(cleo, 100)
        self.bring(self.bert, 100, begun=False)
        self.assertEqual([link for link, _ in self.pace.under_way(EMIL)], [self.anna, cleo])
        self.assertEqual(self.pace.under_way((EMIL[0], 2)), [])

    def test_what_is_under_way_is_not_asked_of_another(self) -> None:
        self.bring(self.anna, 100)
        self.assertEqual(self.passed(self.bert), [(1, 9)])

    def test_but_all_else_is(self) -> None:
        self.bring(self.anna, 100, 5, 9)
        self.bring(self.open(3, "cleo"), 100, 2, 3)
        self.assertEqual(self.passed(self.bert), [(2, 3), (5, 9)])

    def test_however_slowly_it_comes_for_a_gaps_patience(self) -> None:
        self.bert.repair.pace = 10**6
        self.drip(29, 1)
        self.assertEqual(self.passed(self.bert), [(1, 9)])
        self.drip(1, 1)
        self.assertEqual(self.passed(self.bert), [])

    def test_what_is_nearly_there_is_waited_for(self) -> None:
        self.bert.repair.pace = 10**6
        self.drip(40, 1500)
        self.assertLess(self.anna.repair.partial.seconds_left if self.anna.repair.partial else inf, 30)
        self.assertEqual(self.passed(self.bert), [(1, 9)])

    def test_one_that_is_not_much_faster_is_not_asked(self) -> None:
        self.drip(35, 1000)  # 65 seconds are left
        self.bert.repair.pace = 5000  # 20 for all of it
        self.assertEqual(self.passed(self.bert), [(1, 9)])
        self.bert.repair.pace = 7000
        self.assertEqual(self.passed(self.bert), [])

    def test_one_of_which_nothing_is_known_is_asked_where_it_would_take_too_long_by_far(self) -> None:
        self.drip(35, 300)  # 298 seconds are left
        self.assertEqual(self.passed(self.bert), [(1, 9)])
        self.drip(115, 300)
        self.assertEqual(self.passed(self.bert), [(1, 9)])
        self.drip(1, 300)
        self.assertEqual(self.passed(self.bert), [])

    def test_or_where_it_would_end_after_the_longest_wait(self) -> None:
        self.drip(35, 150)
        self.assertEqual(self.passed(self.bert), [])

    def test_the_link_itself_is_not_asked_for_what_it_is_sending(self) -> None:
        self.bert.repair.pace = 10**6
        self.drip(60, 1)
        self.assertEqual((self.passed(self.anna), self.passed(self.bert)), ([(1, 9)], []))
