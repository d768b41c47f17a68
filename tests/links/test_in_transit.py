"""The bytes that are written to a connection and have not come."""

from __future__ import annotations

import socket

from twisted.internet import reactor
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.links.in_transit import on_its_way


class TestInTransit(SynchronousTestCase):
    def test_to_a_connection_that_is_lost_nothing_is_on_its_way(self) -> None:
        """A soak found this: the link itself is told later, and its deadline can come before."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        connection = Connection(near, Protocol(), reactor)
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(on_its_way(connection), 0)
