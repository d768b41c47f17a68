"""The bytes that are written to a connection and have not come."""

from __future__ import annotations

import socket
import sys
from random import Random
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

from twisted_mesh.links.in_transit import Records, has_vanished, on_its_way, write_now


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


class WriteCase(SynchronousTestCase):
    """A connection of Twisted, and the socket at its far end."""

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

    def waits(self) -> bool:
        """Whether the reactor is to write what the system has not taken."""
        return self.connection.reactor.getWriters() == [self.connection]


class TestWriteNow(WriteCase):
    """The system gets what is written in the same turn."""

    def test_what_is_written_goes_out_at_once(self) -> None:
        write_now(self.connection, b"fire!")
        self.assertEqual((self.came(), self.waits()), (b"fire!", False))

    def test_behind_what_waits_it_waits(self) -> None:
        self.connection.write(b"fire")
        write_now(self.connection, b"!")
        self.assertEqual((self.came(), self.waits()), (b"", True))
        self.connection.doWrite()
        self.assertEqual((self.came(), self.connection.reactor.getWriters()), (b"fire!", []))

    def test_what_the_system_does_not_take_waits(self) -> None:
        data = Random(1).randbytes(2**22)
        write_now(self.connection, data)
        self.assertTrue(self.waits())
        write_now(self.connection, b"more")
        came = b""
        while self.connection.reactor.getWriters():
            came += self.came()
            self.connection.doWrite()
        self.assertEqual(came + self.came(), data + b"more")

    def test_a_connection_that_fails_is_left_to_the_reactor(self) -> None:
        self.far.close()
        write_now(self.connection, b"fire!")
        self.assertTrue(self.waits())

    def test_nothing_is_written_past_the_end(self) -> None:
        self.connection.disconnecting = True
        write_now(self.connection, b"fire!")
        self.assertEqual((self.came(), self.waits()), (b"", True))
        self.connection.connected = 0
        write_now(self.connection, b"fire!")
        self.assertEqual(self.came(), b"")


class TestRecords(WriteCase):
    """The records of one write, below TLS."""

    def test_those_of_one_write_go_out_together(self) -> None:
        records = Records(self.connection)
        records.gathered = []
        for record in (b"one", b"two"):
            records.write(record)
        self.assertEqual(self.came(), b"")
        records.send()
        self.assertEqual((self.came(), self.waits()), (b"onetwo", False))
        records.send()
        self.assertEqual((self.came(), records.gathered), (b"", None))

    def test_others_go_to_the_connection_as_all_else_does(self) -> None:
        records = Records(self.connection)
        records.write(b"hello")
        self.assertTrue(self.waits())
        records.loseConnection()
        self.assertTrue(self.connection.disconnecting)
        wrapper = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
        wrapper.transport = records
        self.assertEqual(on_its_way(wrapper), on_its_way(self.connection))
