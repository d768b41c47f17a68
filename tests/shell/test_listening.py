"""Where a node listens, what it tells others, and ports that are taken: on real loopback."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.support.meshcase import PORT, MeshCase
from twisted_mesh.addresses import lan_address
from twisted_mesh.errors import NotRunning
from twisted_mesh.service import MeshService

LOCAL = "tcp:0:interface=127.0.0.1"


@implementer(IStreamServerEndpoint)
class Later:
    """An endpoint that decides when the test says so."""

    def __init__(self) -> None:
        self.listening: Deferred[Any] = Deferred()

    def listen(self, factory: Any) -> Deferred[Any]:
        return self.listening


class TestPorts(TestCase):
    def node(self, *listen: Any, **options: Any) -> MeshService:
        service = MeshService(reactor, listen=listen, **options)
        self.addCleanup(service.stopService)
        return service

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
        folder = tempfile.mkdtemp()  # a short path: that of a socket has 107 bytes at most
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


class TestReady(MeshCase):
    def test_what_an_endpoint_decides_later(self) -> None:
        later = Later()
        service = self.make(listen=[later])
        service.startService()
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

    def test_stopping_before_every_listener_is_up(self) -> None:
        later = Later()
        service = self.make(listen=[later])
        service.startService()
        ready = service.ready()
        service.stopService()
        self.network.pump()
        self.failureResultOf(ready, NotRunning)
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


class TestOutAddr(MeshCase):
    def test_where_others_are_told_to_dial(self) -> None:
        wild = self.network.listen("0.0.0.0", PORT)
        self.assertEqual(self.node().out_addr, ("10.0.0.1", PORT))
        self.assertEqual(self.node(listen=[wild]).out_addr, (lan_address(), PORT))
        self.assertEqual(self.node(listens=False, out_addr=("", 9)).out_addr, (lan_address(), 9))
        self.assertEqual(self.node(out_addr=("a.example", 9)).out_addr, ("a.example", 9))
