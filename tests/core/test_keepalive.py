"""When a silent link is asked, when it is given up, and when this node doubts itself."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.core.keepalive import Liveness, Verdict


class TestLiveness(SynchronousTestCase):
    """A link made at the time 100, asked after 5 s and given up after 15."""

    def setUp(self) -> None:
        self.liveness = Liveness(100, ping_after=5, dead_after=15)
        self.read = 0

    def check(self, **expected: float) -> None:
        """Check at the times given by verdict, in order."""
        for verdict, now in expected.items():
            self.assertEqual(self.liveness.check(now).name, verdict, now)

    def test_a_new_link_is_fine(self) -> None:
        self.check(FINE=104.9)

    def test_silence_is_asked_about_once(self) -> None:
        self.check(PING=105, FINE=106)
        self.check(FINE=114.9)

    def test_silence_that_goes_on_is_death(self) -> None:
        self.check(PING=105, DEAD=115)

    def test_death_needs_no_question_before(self) -> None:
        self.check(DEAD=200)

    def test_an_answer_ends_the_silence(self) -> None:
        self.check(PING=105)
        self.liveness.heard(106)
        self.assertEqual(self.liveness.silent_for(107.5), 1.5)
        self.check(FINE=110.9, PING=111, DEAD=121)

    def test_a_link_that_accepts_bytes_lives_but_is_asked(self) -> None:
        self.liveness.accepted = 112
        self.check(PING=115, FINE=126.9)
        self.check(DEAD=127)

    def test_a_node_held_up_doubts_itself(self) -> None:
        self.check(PING=105)
        # It slept for 30 s: none of that is the peer's silence.
        self.liveness.doubt(30)
        self.check(FINE=144.9)
        self.check(DEAD=145)

    def test_doubt_moves_what_was_accepted_as_well(self) -> None:
        self.liveness.accepted = 110
        self.liveness.doubt(30)
        self.assertIs(self.liveness.check(154.9), Verdict.PING)
        self.assertIs(self.liveness.check(155), Verdict.DEAD)

    def owes(self, now: float, written: int = 0, *, heard: int = 1000) -> bool:
        """Whether a sign of life is due at a look, when so many bytes have come since the last one."""
        self.read += heard
        self.liveness.has_read(self.read, now)
        return self.liveness.owes_a_sign(written, now)

    def test_who_receives_says_that_it_lives_within_ping_after(self) -> None:
        looks = [101, 102, 103, 104, 105]
        self.assertEqual([self.owes(look) for look in looks], [False, False, True, True, True])

    def test_who_writes_anything_has_said_it(self) -> None:
        self.assertFalse(self.owes(104, written=10))
        self.assertFalse(self.owes(106, written=10))
        self.assertTrue(self.owes(107, written=10))
        self.assertFalse(self.owes(108, written=20))

    def test_who_hears_nothing_says_nothing(self) -> None:
        self.assertFalse(self.owes(110, heard=0))
        self.assertTrue(self.owes(110))
        self.assertTrue(self.owes(112, heard=0))
        self.assertFalse(self.owes(113, heard=0))

    def test_bytes_of_what_is_not_whole_are_a_sign_of_life(self) -> None:
        for now in range(101, 120):
            self.liveness.has_read(100 * now, now)
            self.assertIs(self.liveness.check(now), Verdict.FINE)
            self.assertEqual(self.liveness.owes_a_sign(0, now), now >= 103)
        self.liveness.has_read(11_900, 124)  # no more than before
        self.check(PING=124, DEAD=134)

    def test_a_sign_of_life_is_not_answered_with_one(self) -> None:
        self.assertEqual([self.owes(104, heard=38), self.owes(105, heard=38)], [False, False])

    def test_it_is_said_within_close_timeout(self) -> None:
        self.liveness = Liveness(100, ping_after=5, dead_after=15, close_timeout=2)
        self.assertEqual([self.owes(100.5), self.owes(101)], [False, True])

    def test_when_bytes_came_is_known_no_worse_for_that(self) -> None:
        self.liveness.heard(101.5)
        self.liveness.has_read(10, 102)
        self.assertEqual(self.liveness.silent_for(102), 0.5)
