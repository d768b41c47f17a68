"""Who leaves, or gives up waiting, is not held up by those who say nothing."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

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
