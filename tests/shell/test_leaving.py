"""Who leaves, or gives up waiting, is not held up by those who say nothing."""

from __future__ import annotations

import contextlib

from twisted.internet.defer import CancelledError

from tests.support.length import at_length
from tests.support.meshcase import PORT, MeshCase, Raw


class TestLeaving(MeshCase):
    def test_a_stranger_that_never_speaks_tls_holds_nothing_up(self) -> None:
        a, _ = self.chain(2)
        stranger = self.dial(Raw(), a, encrypted=False)
        self.network.pump()
        stopped = a.stopService()
        self.network.pump()
        self.successResultOf(stopped)  # without waiting for close_timeout
        self.assertIsNotNone(stranger.lost)

    def test_nor_does_one_that_is_dialled(self) -> None:
        a = self.node()
        self.serve([Raw()], host="10.7.7.7", encrypted=False)
        link = a.connect("10.7.7.7", PORT)
        self.network.pump()
        stopped = a.stopService()
        self.network.pump()
        self.successResultOf(stopped)
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
        self.network.advance(a.config.close_timeout)
        self.successResultOf(stopped)
        self.assertEqual(len(self.log("were cut off, and do not say so")), 1)
        cut_off()  # and when it does after all nothing follows
        self.network.pump()
        self.assertEqual(a.footprint(), {})


class TestGivingUp(MeshCase):
    def test_a_connect_that_is_cancelled_leaves_no_connection_and_no_word(self) -> None:
        for encryption in ("SSL", "Plaintext"):
            a = self.node(encryption=encryption)
            self.serve([Raw()], host="10.7.7.7", encrypted=False)
            link = a.connect("10.7.7.7", PORT)
            self.network.pump()
            self.assertEqual(a.footprint()["connections"], 1)
            link.cancel()
            self.network.pump()
            self.failureResultOf(link, CancelledError)
            self.assertEqual(a.footprint()["connections"], 0)
            del self.network.ports["10.7.7.7", PORT]
        self.network.advance(30)
        self.assertEqual(self.log(), [])


class TestRelay(MeshCase):
    """Whoever stops hands on what others had given it by then; else they would have given it to nobody."""

    def steps(self, number: int) -> None:
        """Let *number* things happen, or all that can."""
        with contextlib.suppress(RuntimeError):  # there is more
            self.network.pump(number)

    def test_a_message_given_to_a_relay_that_stops_is_handed_on_or_told(self) -> None:
        for seed in range(at_length(200, 8)):
            self.network.random.seed(seed)
            a, b, c = self.chain(3, overlay=False)
            a.send("before")
            self.network.pump()
            told = len(self.log("taken by no neighbour"))
            stopped = [b.stopService()]
            self.steps(self.network.random.randrange(12))
            a.send("last")
            self.steps(self.network.random.randrange(8))
            stopped.append(a.stopService())
            self.network.advance(30)
            for each in stopped:
                self.successResultOf(each)
            if len(self.log("taken by no neighbour")) == told:
                self.assertEqual(self.got(c)[-1], "last", seed)
            self.stop(c)
