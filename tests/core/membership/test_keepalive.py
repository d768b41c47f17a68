"""When a silent link is asked or given up, and when this node doubts itself or says that it lives."""

from __future__ import annotations

from tests.core.network import of
from tests.core.node_case import NodeTestCase
from twisted_mesh.core.events import Accepted, Arriving, Effect, Flowing, LinkClosed, Resumed, Send, Timer
from twisted_mesh.core.membership.keepalive import ALIVE
from twisted_mesh.errors import Reason
from twisted_mesh.wire.broadcast import Have
from twisted_mesh.wire.link import Ping, Pong
from twisted_mesh.wire.membership import Purpose


class KeepaliveCase(NodeTestCase):
    """A link to Anna since the time 50: the node asks her after 5 s of silence and gives up after 15."""

    def setUp(self) -> None:
        self.begin()

    def begin(self, **limits: float) -> None:
        """Begin anew with *limits*."""
        self.make(**({"ping_after": 5.0, "dead_after": 15.0} | limits))
        self.up(1, "anna")
        self.accept(1)

    def until(self, at: float) -> list[Effect]:
        """Wait until the time *at*."""
        return self.wait(at - self.now)

    def asked(self, effects: list[Effect]) -> int:
        """How many PINGs ask Anna for a sign of life."""
        return [send.frame for send in of(effects, Send) if 1 in send.links].count(Ping(1))

    def signs(self, effects: list[Effect], number: int = 1) -> int:
        """How many PONGs over a link say that this node lives."""
        return [send.frame for send in of(effects, Send) if number in send.links].count(Pong(ALIVE))


class TestSilence(KeepaliveCase):
    """Anna says nothing."""

    def test_silence_is_asked_about_once(self) -> None:
        self.assertEqual(self.asked(self.until(54.9)), 0)
        self.assertEqual(self.asked(self.until(55)), 1)
        self.assertEqual(self.asked(self.until(64.9)), 0)

    def test_silence_that_goes_on_is_death(self) -> None:
        self.assertEqual(self.closed(self.until(64.9)), [])
        effects = self.until(65)
        self.assertEqual(self.closed(effects), [(1, Reason.SILENT)])
        self.assertIn("silent for 15 s", str(effects))

    def test_death_needs_no_question_before(self) -> None:
        self.begin(stall_grace=1000.0)
        effects = self.fire(Timer.KEEPALIVE, 250)
        self.assertEqual((self.closed(effects), self.asked(effects)), ([(1, Reason.SILENT)], 0))

    def test_an_answer_ends_the_silence(self) -> None:
        self.assertEqual(self.asked(self.until(56)), 1)
        self.receive(1, Pong(1))
        self.assertEqual(self.asked(self.until(60.9)), 0)
        effects = self.until(70.9)
        self.assertEqual((self.asked(effects), self.closed(effects)), (1, []))
        self.assertEqual(self.closed(self.until(71)), [(1, Reason.SILENT)])

    def test_so_do_bytes_of_what_is_not_whole(self) -> None:
        for event in (Arriving(1, None, 100, 5000), Flowing(1)):
            self.begin()
            for second in range(51, 80):
                self.until(second)
                self.handle(event)
            self.assertEqual(self.asked(self.until(83.9)), 0)
            self.assertEqual(self.asked(self.until(84)), 1)
            self.assertEqual(self.closed(self.until(93.9)), [])
            self.assertEqual(self.closed(self.until(94)), [(1, Reason.SILENT)])

    def test_a_link_that_accepts_bytes_lives_but_is_asked(self) -> None:
        self.until(62)
        self.handle(Resumed(1))
        effects = self.until(76.9)
        self.assertEqual(self.closed(effects), [])
        self.assertEqual(self.closed(self.until(77)), [(1, Reason.SILENT)])

    def test_that_the_system_takes_what_is_sent_proves_nothing(self) -> None:
        for second in range(51, 66):
            self.publish("x")
            effects = self.until(second) + self.handle(Accepted(1, self.queued[1]))
        self.assertEqual(self.closed(effects), [(1, Reason.SILENT)])

    def test_other_timers_run_for_a_link_that_is_not_up(self) -> None:
        self.open(2, "bert")
        self.open(3, "cleo", purpose=Purpose.EXCHANGE)
        self.receive(1, Pong(1))
        self.until(60)
        self.receive(1, Pong(1))
        self.assertEqual(
            [closed for closed in self.closed(self.until(70)) if closed[1] is Reason.SILENT], []
        )

    def test_without_a_link_nobody_looks(self) -> None:
        self.until(65)
        self.handle(LinkClosed(1))
        self.until(66)
        self.assertNotIn(Timer.KEEPALIVE, self.timers)
        self.up(2, "bert")
        self.assertIn(Timer.KEEPALIVE, self.timers)


class TestDoubt(KeepaliveCase):
    """This node itself was held up, so that it could not have heard anything."""

    def test_none_of_that_is_the_peers_silence(self) -> None:
        self.until(55)
        self.assertEqual(self.timers[Timer.KEEPALIVE], 56)
        effects = self.fire(Timer.KEEPALIVE, 86)  # late by 30 s
        effects += self.until(94.9)
        self.assertEqual((self.closed(effects), self.asked(effects)), ([], 0))
        self.assertEqual(self.closed(self.until(95)), [(1, Reason.SILENT)])

    def test_what_was_accepted_moves_as_well(self) -> None:
        self.until(60)
        self.handle(Resumed(1))
        self.fire(Timer.KEEPALIVE, self.timers[Timer.KEEPALIVE] + 30)
        self.assertEqual(self.closed(self.until(104.9)), [])
        self.assertEqual(self.closed(self.until(105)), [(1, Reason.SILENT)])

    def test_a_little_late_is_no_doubt(self) -> None:
        self.fire(Timer.KEEPALIVE, self.timers[Timer.KEEPALIVE] + 1)
        self.assertEqual(self.asked(self.until(55)), 1)


class TestSigns(KeepaliveCase):
    """Anna sends, and this node may have nothing to write."""

    def begin(self, **limits: float) -> None:
        super().begin(**({"close_timeout": 1000.0} | limits))
        self.until(51)

    def hear(self, until: float) -> list[Effect]:
        """Let some of a frame come each second."""
        effects = []
        while self.now < until:
            effects += self.wait(0.5)
            effects += self.handle(Arriving(1, None, int(self.now), 5000))
            effects += self.wait(0.5)
        return effects

    def test_who_receives_says_that_it_lives_within_ping_after(self) -> None:
        self.assertEqual(self.signs(self.hear(53)), 0)
        self.assertEqual(self.signs(self.hear(56)), 1)

    def test_and_again_as_long_as_it_does(self) -> None:
        signs = 0
        for _ in range(10):
            signs += self.signs(self.hear(self.now + 3))
            self.accept(1)
        self.assertGreaterEqual(signs, 5)

    def test_who_writes_anything_has_said_it(self) -> None:
        for _ in range(10):
            self.assertEqual(self.signs(self.hear(self.now + 2)), 0)
            self.publish("x")
            self.handle(Accepted(1, self.queued[1]))

    def test_who_has_something_in_the_queue_will_have(self) -> None:
        self.publish("x")
        self.assertEqual(self.signs(self.hear(63)), 0)

    def test_who_hears_nothing_says_nothing(self) -> None:
        self.assertEqual(self.signs(self.until(64)), 0)

    def test_what_came_before_the_last_that_was_written_is_answered_by_that(self) -> None:
        self.hear(53)
        self.publish("x")
        self.handle(Accepted(1, self.queued[1]))
        self.assertEqual(self.signs(self.until(64)), 0)

    def test_a_sign_of_life_is_not_answered_with_one_nor_is_any_answer(self) -> None:
        for token in (ALIVE, 1):
            for second in range(52, 70):
                self.receive(1, Pong(token))
                self.assertEqual(self.signs(self.until(second)), 0)
            self.begin()

    def test_any_other_frame_is(self) -> None:
        effects = []
        for second in range(52, 58):
            self.receive(1, Have([], False))
            effects += self.until(second)
        self.assertEqual(self.signs(effects), 1)

    def test_it_is_said_within_close_timeout(self) -> None:
        self.begin(close_timeout=2.0)
        self.assertEqual(self.signs(self.hear(53)), 1)

    def test_it_is_said_in_an_exchange_and_before_a_link_is_up(self) -> None:
        for purpose in (Purpose.EXCHANGE, Purpose.JOIN):
            self.begin(exchange_idle=1000.0)
            self.open(2, "bert", purpose=purpose)
            self.accept(2)
            effects = []
            for _ in range(6):
                effects += self.wait(0.5)
                self.handle(Arriving(2, None, int(self.now), 5000))
                effects += self.wait(0.5)
            self.assertEqual(self.signs(effects, 2), 1)
