"""The bytes that are written to a connection and have not come."""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISystemHandle
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_mesh.links.in_transit import has_vanished, on_its_way, send_now


class TestInTransit(SynchronousTestCase):
    def test_to_a_connection_that_is_lost_nothing_is_on_its_way(self) -> None:
        """A soak found this: the link itself is told later, and its deadline can come before."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        connection = Connection(near, Protocol(), reactor)
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(on_its_way(connection), 0)


class TestVanished(SynchronousTestCase):
    """A host that is gone, and one that is there, as Linux tells of a connection."""

    def told(self, repeats: int, probes: int, milliseconds: int) -> bool:
        """Whether a host is gone for 60 seconds of whose connection the system says this."""
        info = bytes([1, 0, repeats, probes]).ljust(56, b"\xff") + milliseconds.to_bytes(4, sys.byteorder)

        @implementer(ISystemHandle)
        class Transport:
            def getHandle(self) -> Any:
                return self

            def getsockopt(self, level: int, option: int, size: int) -> bytes:
                return info[:size]

        return has_vanished(Transport(), 60)

    def test_it_has_not_answered_for_so_long_though_it_was_asked_twice(self) -> None:
        for repeats, probes, milliseconds, gone in (
            (2, 0, 60_000, True),
            (0, 9, 10**8, True),
            (2, 0, 59_999, False),
            (1, 1, 10**8, False),  # idle, and asked now
        ):
            self.assertEqual(self.told(repeats, probes, milliseconds), gone)

    def test_a_connection_that_works_and_others_of_which_nothing_is_told(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        near = socket.create_connection(listener.getsockname())
        connection = Connection(near, Protocol(), reactor)
        connection.connected = 1
        near.send(b"fire")
        self.assertFalse(has_vanished(connection, 0))
        connection.connectionLost(Failure(ConnectionDone()))
        for transport in (connection, StringTransport(), None):
            self.assertFalse(has_vanished(transport, 0))
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        self.assertFalse(has_vanished(Connection(near, Protocol(), reactor), 0))


class TestSendNow(SynchronousTestCase):
    """The system gets what was written in the turn in which it was written."""

    def setUp(self) -> None:
        near, self.far = socket.socketpair()
        self.addCleanup(self.far.close)
        self.far.setblocking(False)
        self.connection = Connection(near, Protocol(), MemoryReactor())
        self.connection.connected = 1
        self.addCleanup(near.close)

    def came(self) -> bytes:
        """What the far end has received."""
        try:
            return self.far.recv(2**20)
        except BlockingIOError:
            return b""

    def test_what_was_written_goes_out_at_once(self) -> None:
        self.connection.write(b"fire")
        self.connection.write(b"!")
        self.assertEqual(self.came(), b"")
        send_now(self.connection)
        self.assertEqual(self.came(), b"fire!")
        self.assertEqual(self.connection.reactor.getWriters(), [])

    def test_below_tls_as_well(self) -> None:
        wrapper = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
        wrapper.transport = self.connection
        self.connection.write(b"fire!")
        send_now(wrapper)
        self.assertEqual(self.came(), b"fire!")

    def test_behind_what_the_system_does_not_take_it_waits(self) -> None:
        self.connection.write(bytes(2**22))
        send_now(self.connection)
        taken = len(self.came())
        self.assertGreater(taken, 0)
        self.connection.write(b"more")
        send_now(self.connection)
        self.assertEqual(self.came(), b"")
        self.assertEqual(self.connection.reactor.getWriters(), [self.connection])

    def test_a_connection_that_fails_is_left_to_the_reactor(self) -> None:
        self.far.close()
        self.connection.write(b"fire!")
        send_now(self.connection)
        self.assertEqual(self.connection.reactor.getWriters(), [self.connection])

    def test_others_are_left_alone(self) -> None:
        transport = StringTransport()
        transport.write(b"fire!")
        send_now(transport)
        self.connection.write(b"fire!")
        self.connection.disconnecting = True
        send_now(self.connection)
        self.assertEqual(self.came(), b"")
