"""Where a node listens, what it tells others, and ports that are taken: on real loopback."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, Logger, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.support.meshcase import PORT, TlsCase
from twisted_mesh.addressing import addresses
from twisted_mesh.addressing.addresses import lan_address
from twisted_mesh.config import MeshConfig
from twisted_mesh.errors import NotRunning
from twisted_mesh.links.listening import ACCEPTS, BACKLOG, Listening, parse_listen
from twisted_mesh.runtime.reporting import NOT_DIALLED
from twisted_mesh.service import MeshService

LOCAL = "tcp:0:interface=127.0.0.1"


@implementer(IStreamServerEndpoint)
class Later:
    """An endpoint that listens, or fails, when the test says so."""

    def __init__(self) -> None:
        self.listening: Deferred[Any] = Deferred()

    def listen(self, factory: Any) -> Deferred[Any]:
        return self.listening


class Unclosable:
    """A port that cannot be closed."""

    def stopListening(self) -> Deferred[None]:
        return fail(ZeroDivisionError())


class OutOfDescriptors:
    """A socket of a process, on a host that can open nothing more."""

    def accept(self) -> None:
        raise OSError(errno.ENFILE, "too many open files in the system")


class TestPorts(TestCase):
    def node(self, *listen: Any, **options: Any) -> MeshService:
        service = MeshService(reactor, listen=listen, **options)
        self.addCleanup(service.stopService)
        return service

    @inlineCallbacks
    def test_without_descriptors_a_port_writes_few_lines(self) -> Iterator[Deferred[Any]]:
        service = self.node(LOCAL, config=MeshConfig(log_burst=3))
        service.startService()
        yield service.ready()
        (port,) = service._listening._ports
        lines: list[str] = []

        def observe(event: LogEvent) -> None:
            if event.get("log_namespace") == "twisted.internet.tcp.Port":
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        listening, port.socket = port.socket, OutOfDescriptors()
        for _ in range(100):
            port.doRead()
        port.socket = listening
        self.assertEqual(lines, ["Could not accept new connection (ENFILE)"] * 3)

    @inlineCallbacks
    def test_in_one_turn_a_port_accepts_few_connections(self) -> Iterator[Deferred[Any]]:
        accepted = []
        listening = Listening(parse_listen(reactor, ("tcp:0:interface=127.0.0.1",)), Logger().observer)  # type: ignore[arg-type]
        listening.start(Factory.forProtocol(lambda: accepted.append(1) or Protocol()))  # type: ignore[arg-type]
        yield listening.ready()
        sockets = [socket.create_connection(listening.addresses[0]) for _ in range(20)]
        [port] = listening._ports
        turns = []
        for _ in range(5):
            before = len(accepted)
            port.doRead()  # type: ignore[attr-defined]
            turns.append(len(accepted) - before)
        for each in sockets:
            each.close()
        yield listening.stop()
        self.assertEqual(turns, [ACCEPTS] * 5)

    @inlineCallbacks
    def test_ready_fires_when_every_port_is_bound(self) -> Iterator[Deferred[Any]]:
        service = self.node(LOCAL, TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1"))
        ready = service.ready()
        self.assertNoResult(ready)
        service.startService()
        yield ready
        yield service.ready()
        (one, first), (other, second) = service.addresses
        self.assertEqual((one, other), ("127.0.0.1", "127.0.0.1"))
        self.assertNotEqual(first, second)
        self.assertEqual(service.out_addr, service.addresses[0])
        yield service.stopService()
        self.assertEqual((service.addresses, service.out_addr), ((), None))

    @inlineCallbacks
    def test_a_taken_port_raises_at_once_and_nothing_stays_open(self) -> Iterator[Deferred[Any]]:
        one = self.node(LOCAL)
        one.startService()
        _, port = one.addresses[0]
        for start in ("privilegedStartService", "startService"):
            other = self.node(LOCAL, f"tcp:{port}:interface=127.0.0.1", peers=["127.0.0.1:1"])
            error = self.assertRaises(CannotListenError, getattr(other, start))
            self.assertEqual(error.port, port)
            self.assertEqual((other.addresses, other.running, other.footprint()), ((), 0, {}))
            self.assertRaises(NotRunning, other.send, "x")
        yield one.stopService()
        other.startService()  # now that it is free
        yield other.ready()
        self.assertEqual(other.addresses[1], ("127.0.0.1", port))

    def test_the_log_says_where_it_listens(self) -> None:
        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        folder = tempfile.mkdtemp()  # the path of a socket has 107 bytes at most, so it must be short
        self.addCleanup(shutil.rmtree, folder)
        socket = os.path.join(folder, "socket")
        for listen, told in (
            ([f"unix:{socket}"], f"unix:{socket}"),
            ([], "nothing: it only dials"),
            ([Later()], "nothing yet"),
        ):
            self.node(*listen, debug_level=1).startService()
            (line,) = [line for line in map(formatEvent, events) if " listens on " in line]
            self.assertTrue(line.endswith(f" listens on {told}"), line)
            events.clear()

    def test_a_tcp_port_has_room_for_many_that_connect_at_once_unless_a_backlog_is_given(self) -> None:
        for description, backlog in (
            ("tcp:0", BACKLOG),
            ("tcp:0:interface=127.0.0.1", BACKLOG),
            ("tcp:port=0", BACKLOG),
            (r"tcp6:0:interface=\:\:1", BACKLOG),
            ("tcp:0:backlog=5", 5),
            ("tcp6:0:7", 7),
        ):
            (endpoint,) = parse_listen(None, [description])
            self.assertEqual(endpoint._backlog, backlog, description)  # type: ignore[attr-defined]

    def test_a_unix_socket_is_its_owners_alone_unless_a_mode_is_given(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        for number, (rest, mode) in enumerate(
            (
                ("", 0o600),
                (":backlog=5", 0o600),
                (r"\:mode\=660", 0o600),  # part of the path
                ("\\\\", 0o600),
                (":mode=660", 0o660),
                (":backlog=5:mode=666", 0o666),
                (":640", 0o640),
            )
        ):
            path = os.path.join(folder, str(number))
            self.node(f"unix:{path}{rest}").startService()
            (made,) = (name for name in os.listdir(folder) if name[0] == str(number) and "lock" not in name)
            self.assertEqual(stat.S_IMODE(os.stat(os.path.join(folder, made)).st_mode), mode, rest)

    @inlineCallbacks
    def test_links_over_the_factory_and_other_endpoints(self) -> Iterator[Deferred[Any]]:
        for encryption in ("SSL", "Plaintext"):
            one, other = self.node(encryption=encryption), self.node(encryption=encryption)
            one.startService()
            other.startService()
            port = yield serverFromString(reactor, LOCAL).listen(one.factory)
            self.addCleanup(port.stopListening)
            link = yield other.connect("127.0.0.1", port.getHost().port)
            self.assertEqual(link.id, one.id)
            yield other.stopService()
            yield one.stopService()

    @inlineCallbacks
    def test_a_name_is_looked_up(self) -> Iterator[Deferred[Any]]:
        one = self.node("tcp:0")
        one.startService()
        other = self.node(peers=[f"localhost:{one.addresses[0][1]}"])
        linked: Deferred[Any] = Deferred()
        other.once("connect", linked.callback)
        other.startService()
        yield linked
        self.assertEqual(list(other.routing_table), [one.id])


class TestReady(TlsCase):
    def test_what_an_endpoint_decides_later(self) -> None:
        later = Later()
        service = self.node(listen=[later])
        ready = service.ready()
        self.assertNoResult(ready)
        later.listening.errback(CannotListenError("10.0.0.1", 1, OSError("taken")))
        self.failureResultOf(ready, CannotListenError)
        self.failureResultOf(service.ready(), CannotListenError)

    def test_a_start_that_raises_tells_who_waited_as_well(self) -> None:
        self.node()
        taken = self.network.listen("10.0.0.1", PORT)
        service = self.make(listen=[taken])
        ready = service.ready()
        self.assertRaises(CannotListenError, service.startService)
        self.failureResultOf(ready, CannotListenError)

    def test_a_port_that_cannot_be_closed_does_not_hide_why_another_cannot_be_had(self) -> None:
        stubborn, refusing = Later(), Later()
        stubborn.listening.callback(Unclosable())
        refusing.listening.errback(CannotListenError("", 4444, OSError(98, "Taken")))
        node = self.make(listen=[stubborn, refusing])
        self.assertRaises(CannotListenError, node.startService)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stopping_before_every_listener_is_up(self) -> None:
        later = Later()
        service = self.node(listen=[later])
        ready = service.ready()
        service.stopService()
        self.failure_of(ready, NotRunning)
        later.listening.addErrback(lambda failure: failure.trap(CancelledError))

    def test_before_the_first_start_and_between_two(self) -> None:
        service = self.make()
        first = service.ready()
        self.assertNoResult(first)
        service.startService()
        self.successResultOf(first)
        service.stopService()
        self.network.pump()
        second = service.ready()
        self.assertNoResult(second)
        service.startService()
        self.successResultOf(second)

    def test_nothing_to_listen_to(self) -> None:
        service = self.node(listens=False)
        self.successResultOf(service.ready())
        self.assertEqual((service.addresses, service.out_addr), ((), None))


class TestOutAddr(TlsCase):
    def test_where_others_are_told_to_dial(self) -> None:
        wild = self.network.listen("0.0.0.0", PORT)
        self.assertEqual(self.node().out_addr, ("10.0.0.1", PORT))
        self.assertEqual(self.node(listen=[wild]).out_addr, (lan_address(), PORT))
        self.assertEqual(self.node(listens=False, out_addr=("", 9)).out_addr, (lan_address(), 9))
        self.assertEqual(self.node(out_addr=("a.example", 9)).out_addr, ("a.example", 9))
        also_far = [self.network.listen("127.0.0.1", PORT + 1), self.network.listen("10.5.0.1", PORT)]
        self.assertEqual(self.node(listen=also_far).out_addr, ("10.5.0.1", PORT))

    def test_where_no_other_node_can_be_told_it_is_said_once(self) -> None:
        self.patch(addresses, "routed_address", lambda family: None)
        self.patch(addresses, "interface_addresses", lambda: ["127.0.0.1", "::1", "fd00::7"])
        wild = self.network.listen("0.0.0.0", PORT)
        node = self.node(listen=[wild])
        self.assertIsNone(node.out_addr)
        self.link((node, self.node()), after=100)
        self.assertEqual(len(self.log("no other node is told where to dial this one")), 1)
        self.assertEqual(node.status().warnings, [NOT_DIALLED])
        self.assertEqual(self.node(listen=[self.network.listen("::", PORT)]).out_addr, ("fd00::7", PORT))


@implementer(IListeningPort)
class Roaming:
    """A port of a host whose address changes."""

    def __init__(self, port: Any) -> None:
        self.host = port.getHost().host
        self.startListening, self.stopListening = port.startListening, port.stopListening

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self.host, PORT)


@implementer(IStreamServerEndpoint)
class RoamingEndpoint:
    """An endpoint whose port is a :class:`Roaming`."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def listen(self, factory: Any) -> Deferred[Any]:
        def bound(port: Any) -> Roaming:
            self.port = Roaming(port)
            return self.port

        return self._endpoint.listen(factory).addCallback(bound)


class TestRoaming(TlsCase):
    def setUp(self) -> None:
        super().setUp()
        self.endpoint = RoamingEndpoint(self.network.listen("10.5.0.1", PORT))
        self.a = self.node(listen=[self.endpoint], overlay=True)
        self.b = self.node(overlay=True)
        self.link((self.a, self.b), after=10)

    def move(self) -> None:
        """Give the host of *a* another address."""
        self.endpoint.port.host = "10.5.0.2"
        self.successResultOf(self.network.listen("10.5.0.2", PORT).listen(self.a.factory))

    def test_the_next_record_tells_the_new_address(self) -> None:
        self.assertEqual(self.b.members[self.a.id].address, ("10.5.0.1", PORT))
        self.move()
        self.network.advance(31)
        self.assertEqual(self.b.members[self.a.id].address, ("10.5.0.2", PORT))

    def test_a_new_link_is_told_the_new_address(self) -> None:
        self.move()
        c = self.node()
        self.link((self.a, c))
        self.assertEqual(c.routing_table[self.a.id].address, ("10.5.0.2", PORT))

    def test_a_neighbour_tells_others_the_new_address(self) -> None:
        self.move()
        self.network.advance(31)
        c = self.node(overlay=True)
        self.link((c, self.b), after=20)
        self.assertIn(self.a.id, c.routing_table)
        dialled = {host for _, (host, _), _ in self.network.dials}
        self.assertNotIn("10.5.0.1", dialled)

    def test_a_node_that_stops_tells_where_it_was_however_long_that_takes(self) -> None:
        slow = self.node()
        self.link((self.a, slow))
        self.say_too_much(self.a, slow)
        self.result_of(self.a.stopService(), after=15)
        left = self.b.members[self.a.id]
        self.assertEqual((left.state, left.address), ("left", ("10.5.0.1", PORT)))
