"""A node that stops, or gives up a connect, does not wait for peers that say nothing."""

from __future__ import annotations

import contextlib

from twisted.internet.defer import CancelledError, Deferred

from tests.support.length import at_length
from tests.support.meshcase import PORT, MeshCase, Raw
from twisted_mesh.core.events import Timer, TimerFired
from twisted_mesh.errors import RemoteError
from twisted_mesh.service import MeshService


class TestLeaving(MeshCase):
    def test_a_stranger_that_never_speaks_tls_holds_nothing_up(self) -> None:
        a, _ = self.chain(2)
        stranger = self.dial(Raw(), a, encrypted=False)
        self.network.pump()
        self.result_of(a.stopService())  # without waiting for close_timeout
        self.assertIsNotNone(stranger.lost)

    def test_nor_does_one_that_is_dialled(self) -> None:
        a = self.node()
        self.serve([Raw()], host="10.7.7.7", encrypted=False)
        link = a.connect("10.7.7.7", PORT)
        self.network.pump()
        self.result_of(a.stopService())
        self.failureResultOf(link)

    def test_nor_does_a_connection_that_was_cut_off_and_does_not_say_so(self) -> None:
        a, b = self.chain(2)
        transport = a.routing_table[b.id].transport
        self.network.unplug(self.host(a), self.host(b))
        cut_off = transport.abortConnection
        for word in ("loseConnection", "abortConnection"):
            self.patch(transport, word, lambda: None)
        stopped = a.stopService()
        self.network.advance(a.config.close_timeout * 1.5)
        self.assertNoResult(stopped)
        self.result_of(stopped, after=a.config.close_timeout)
        self.assertEqual(len(self.log("Twisted has not told the end")), 1)
        cut_off()  # if it closes after all, nothing follows
        self.network.pump()
        self.assertEqual(a.footprint(), {})


class TestOver(MeshCase):
    def test_what_happens_after_the_end_sets_no_timer(self) -> None:
        a, _ = self.chain(2)
        run = self.parts_of(a)
        self.stop(a)
        before = len(self.network.clock.getDelayedCalls())
        run.driver.handle(TimerFired(Timer.ROSTER))
        self.assertEqual(len(self.network.clock.getDelayedCalls()), before)


class TestLastWord(MeshCase):
    """At its stop a node tells what may have reached nobody, even if a transport accepted it."""

    TOLD = "1 message may have reached nobody: 1 neighbour did not answer at the end"

    def apart(self) -> tuple[MeshService, MeshService]:
        """Two nodes that a partition has just separated, after which the first has sent a message."""
        a, b = self.chain(2)
        self.network.part([self.host(a)], [self.host(b)])
        self.send(a, "last")
        return a, b

    def test_who_stops_in_a_partition_says_so_once(self) -> None:
        a, b = self.apart()
        self.stop(a)
        self.assertEqual((self.got(b), self.log("neighbour")), ([], [self.TOLD]))

    def test_also_where_the_link_is_lost_meanwhile(self) -> None:
        a, b = self.apart()
        stopped = a.stopService()
        self.network.advance(0.1)
        self.assertNoResult(stopped)
        self.network.cut(self.host(a), self.host(b))
        self.result_of(stopped)
        self.assertEqual(self.log("neighbour"), [self.TOLD])

    def test_what_another_neighbour_has_read_is_not_lost(self) -> None:
        b, a, c = self.chain(3, overlay=False)
        self.network.part([self.host(a), self.host(c)], [self.host(b)])
        a.send("last")
        self.stop(a)
        self.assertEqual((self.got(b), self.got(c), self.log("neighbour")), ([], ["last"], []))

    def test_nor_is_what_was_announced_back_or_has_a_receipt(self) -> None:
        for receipt, seconds in ((False, 61), (True, 1)):
            a, b = self.chain(2)
            if receipt:
                a.send("first", receipt=True)
            else:
                a.send("first")
            self.network.advance(seconds)
            self.network.part([self.host(a)], [self.host(b)])
            self.stop(a)
            self.assertEqual((self.got(b), self.log("neighbour")), (["first"], []))
            self.network.heal()

    def test_where_nothing_was_said_nothing_is_told(self) -> None:
        a, b = self.chain(2)
        self.send(b, "heard", after=1)
        self.network.part([self.host(a)], [self.host(b)])
        self.stop(a)
        self.assertEqual(self.log("neighbour"), [])


class TestGivingUp(MeshCase):
    def test_a_connect_that_is_cancelled_leaves_no_connection_and_no_word(self) -> None:
        for encryption in ("SSL", "Plaintext"):
            a = self.node(encryption=encryption)
            self.serve([Raw()], host="10.7.7.7", encrypted=False)
            link = a.connect("10.7.7.7", PORT)
            self.network.pump()
            self.assertEqual(a.footprint()["connections"], 1)
            link.cancel()
            self.failure_of(link, CancelledError)
            self.assertEqual(a.footprint()["connections"], 0)
            del self.network.ports["10.7.7.7", PORT]
        self.network.advance(30)
        self.assertEqual(self.log(), [])


class TestRelay(MeshCase):
    """A node that stops first hands on what others gave it: they may have given it to nobody else."""

    def steps(self, number: int) -> None:
        """Let *number* steps happen, or all that can."""
        with contextlib.suppress(RuntimeError):  # more steps are left
            self.network.pump(number)

    def stop_both(
        self, seed: int, first: MeshService, second: MeshService, steps: tuple[int, int], seconds: float
    ) -> None:
        """Stop *first*; a few steps later let *second* send a message, and a few steps later stop it.

        :param steps: upper limits of those two numbers of steps; :param seconds: in which both must stop.
        """
        random = self.network.random
        random.seed(seed)
        stopped = [first.stopService()]
        self.steps(random.randrange(steps[0]))
        second.send("last")
        self.steps(random.randrange(steps[1]))
        stopped.append(second.stopService())
        self.network.advance(seconds)
        for each in stopped:
            self.successResultOf(each)

    def test_who_has_nobody_left_to_give_it_to_waits_no_longer(self) -> None:
        a, b = self.chain(2)
        self.say_too_much(a, b)
        stopped = a.stopService()
        self.network.advance(1)
        self.assertNoResult(stopped)
        self.network.cut(self.host(a), self.host(b))
        self.result_of(stopped)
        self.assertEqual(len(self.log("taken by no neighbour")), 1)

    def test_nor_do_two_that_stop_at_the_same_time_with_something_said(self) -> None:
        for seed in range(20):
            a, b = self.chain(2)
            self.stop_both(seed, a, b, (8, 3), 0.5)

    def test_who_stops_while_it_is_handed_a_message_says_goodbye_as_well(self) -> None:
        a, b, c = self.chain(3, overlay=False)
        b.on("message", lambda message: message.packets[1] == 1 and self.stops.append(b.stopService()))
        self.stops: list[Deferred[None]] = []
        a.send(1)
        self.network.clock.advance(0)  # the message is written, and not read yet
        a.send(2)
        self.network.clock.advance(0)
        self.network.pump()
        states = [member.state for member in c.members.values() if member.id == b.id]
        self.assertEqual((self.got(c), states), ([1, 2], ["left"]))
        self.result_of(self.stops[0], after=3)

    def test_what_a_guest_that_leaves_is_given_too_late_is_not_taken(self) -> None:
        a, b = self.node(overlay=False), self.node(overlay=False, role="guest")  # and has sent nothing
        self.link((a, b))
        connections = self.parts_of(b).connections
        close_all = connections.close_all

        def late(error: RemoteError) -> None:
            a.send("late")
            close_all(error)

        connections.close_all = late  # type: ignore[method-assign]
        self.result_of(b.stopService(), after=1)
        self.assertEqual(self.parts_of(a).driver.unsent, 1)

    def test_what_it_has_taken_just_before_is_in_the_receipt(self) -> None:
        for seconds in (0.0, 0.02):
            a, b = self.chain(2, after=1)
            a.send(1, receipt=True)
            self.network.advance(0.001)
            receipt = a.send(2, receipt=True)
            self.network.advance(seconds)
            self.stop(b)
            self.assertEqual(receipt.delivered, {b.id})

    def test_a_message_given_to_a_relay_that_stops_is_handed_on_or_told(self) -> None:
        for seed in range(at_length(200, 5)):
            a, b, c = self.chain(3, overlay=False)
            self.send(a, "before")
            told = len(self.log("taken by no neighbour"))
            self.stop_both(seed, b, a, (12, 8), 30)
            if len(self.log("taken by no neighbour")) == told:
                self.assertEqual(self.got(c)[-1], "last", seed)
            self.stop(c)
