"""Names with several addresses, and name servers that do not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from random import Random
from threading import Event
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.meshcase import PORT, Raw, TlsCase
from tests.support.named import NamedReactor, Table
from twisted_mesh.addressing import names
from twisted_mesh.addressing.names import ADDRESSES_MOST, Lookup, Names
from twisted_mesh.config import MeshConfig
from twisted_mesh.errors import ConnectFailed, HandshakeTimeout, SelfConnection, SubnetMismatch
from twisted_mesh.runtime.connector import _SHARE_LEAST
from twisted_mesh.service import MeshService

HOST = "10.1.0.1"
NAME = "mesh.example"


class NamedCase(TlsCase):
    def setUp(self) -> None:
        super().setUp()
        self.table = Table()

    def named(self, *behind: str | MeshService, **options: Any) -> MeshService:
        """A node that looks names up; NAME stands for the addresses of *behind*."""
        self.table.names[NAME] = [one if isinstance(one, str) else self.host(one) for one in behind]
        limits = options.pop("limits", {})
        service = MeshService(
            NamedReactor(self.network, HOST, self.table),
            **{
                "listen": [self.network.listen(HOST, PORT)],
                "overlay": False,
                "config": MeshConfig(batch_delay=0, **limits),
                **options,
            },
        )
        service.startService()
        self.addCleanup(self._stop, service)
        return service

    def _stop(self, service: MeshService) -> None:
        self.result_of(service.stopService(), after=20)

    def silent(self, *hosts: str) -> None:
        """Let *hosts* accept connections and say nothing."""
        for host in hosts:
            self.serve([Raw() for _ in range(9)], host=host, encrypted=False)

    def linked_by_connect(self, service: MeshService, seconds: float = 20.0) -> MeshService:
        self.result_of(service.connect(NAME, PORT), after=seconds)
        return service

    def dialled(self) -> list[str]:
        """The hosts that were dialled from HOST, in order."""
        return [host for source, (host, _), _ in self.network.dials if source == HOST]


class TestAllAddressesInTurn(NamedCase):
    def test_the_first_is_the_node_itself_or_silent_or_of_another_subnet(self) -> None:
        other = self.node(subnet="another")
        self.silent("10.2.0.1")
        for first, seconds in ((HOST, 20), ("10.2.0.1", 20), (self.host(other), 0)):
            b = self.node()
            a = self.linked_by_connect(self.named(first, b), seconds=seconds)
            self.assertEqual(list(a.routing_table), [b.id])
            self._stop(a)

    def test_the_first_has_another_id(self) -> None:
        other, b = self.node(), self.node()
        a = self.named(other, b, peers=[f"{b.id.decode()}@{NAME}:{PORT}"])
        self.network.pump()
        self.assertEqual(list(a.routing_table), [b.id])

    def test_all_of_these_and_none_that_listens(self) -> None:
        other, b = self.node(subnet="another"), self.node()
        self.silent("10.2.0.1")
        a = self.named("10.2.0.2", HOST, other, "10.2.0.1", b, peers=[f"{NAME}:{PORT}"])
        self.network.advance(20)
        self.assertEqual(list(a.routing_table), [b.id])

    def test_a_peer_as_a_description_of_an_endpoint(self) -> None:
        b = self.node()
        for description in (f"tcp:{NAME}:{PORT}", f"tcp:host={NAME}:port={PORT}:timeout=3"):
            a = self.named(HOST, b, peers=[description])
            self.network.pump()
            self.assertEqual(list(a.routing_table), [b.id])
            self._stop(a)

    def test_a_lost_node_is_found_behind_its_name_again(self) -> None:
        b = self.node()
        a = self.linked_by_connect(self.named(HOST, b))
        self.network.cut(HOST, self.host(b))
        self.assertEqual(dict(a.routing_table), {})
        self.network.advance(3)
        self.assertEqual(list(a.routing_table), [b.id])

    def test_one_time_out_over_an_attempt_at_all(self) -> None:
        hosts = [f"10.2.0.{number}" for number in range(1, 9)]
        self.silent(*hosts)
        a = self.named(*hosts)
        connecting = a.connect(NAME, PORT)
        self.network.advance(15)
        self.assertNoResult(connecting)
        self.failure_of(connecting, HandshakeTimeout, after=5.1)
        self.assertEqual(self.table.asked, [NAME])

    def test_each_gets_its_least_share_and_all_no_more_than_the_time_outs_together(self) -> None:
        hosts = [f"10.2.0.{number}" for number in range(1, ADDRESSES_MOST + 1)]
        self.silent(*hosts)
        for connect, shake, dials in (
            (3.0, 4.0, [0.0, _SHARE_LEAST, 2 * _SHARE_LEAST]),
            (1.0, 1.0, [0.0]),  # less than that share is left
        ):
            with self.subTest(connect=connect, shake=shake):
                self.network.dials.clear()
                began = self.network.clock.seconds()
                limits = {"connect_timeout": connect, "handshake_timeout": shake}
                a = self.named(*hosts, limits=limits)
                connecting = a.connect(NAME, PORT)
                self.network.advance(connect + shake - 0.1)
                self.assertNoResult(connecting)
                self.failure_of(connecting, HandshakeTimeout, after=0.1)
                self.assertEqual([when - began for *_, when in self.network.dials], dials)
                self._stop(a)

    def test_of_several_reasons_the_one_that_tells_most_is_told(self) -> None:
        other = self.node(subnet="another")
        a = self.named("10.2.0.2", HOST, other)
        connecting = a.connect(NAME, PORT)
        self.failure_of(connecting, SubnetMismatch, after=5)
        self.table.names[NAME] = ["10.2.0.2", HOST]
        self.failure_of(a.connect(NAME, PORT), ConnectFailed, after=5)

    def test_of_more_addresses_than_an_attempt_goes_to_some_are_tried_by_lot(self) -> None:
        self.patch(names, "_random", Random(1))  # one address in thirty is left out by one seed in fifty
        hosts = [f"10.2.0.{number}" for number in range(1, 2 * ADDRESSES_MOST)]
        a = self.named(*hosts)
        for _ in range(10):
            before = len(self.dialled())
            self.failure_of(a.connect(NAME, PORT), ConnectFailed, after=10)
            self.assertEqual(len(set(self.dialled()[before:])), ADDRESSES_MOST)
        self.assertEqual(set(self.dialled()), set(hosts))


class TestOnlyItself(NamedCase):
    def test_a_name_is_looked_up_again_later(self) -> None:
        a = self.named(HOST, HOST, peers=[f"{NAME}:{PORT}"])
        self.network.advance(140)
        self.assertIn(len(self.dialled()), (2, 3))
        self.assertEqual(len(self.log("is this node itself: looked up again")), 1)
        b = self.node()
        self.table.names[NAME] = [HOST, self.host(b)]
        self.network.advance(80)
        self.assertEqual(list(a.routing_table), [b.id])

    def test_connect_is_told(self) -> None:
        self.failure_of(self.named(HOST).connect(NAME, PORT), SelfConnection)


class TestNoAnswer(NamedCase):
    def test_connect_fails_when_a_connection_is_overdue(self) -> None:
        a = self.named()
        self.table.names[NAME] = None
        connecting = a.connect(NAME, PORT)
        self.network.advance(9.9)
        self.assertNoResult(connecting)
        error = self.failure_of(connecting, ConnectFailed, after=0.2)
        self.assertEqual(
            str(error), f"no connection to {NAME}:{PORT}: no name server has answered within 10 s"
        )

    def test_whoever_waits_can_be_cancelled(self) -> None:
        a = self.named()
        self.table.names[NAME] = None
        connecting = a.connect(NAME, PORT)
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)

    def test_a_node_whose_peer_is_looked_up_stops_at_once(self) -> None:
        self.table.names["silent.example"] = None
        a = self.named(peers=["silent.example:1"])
        self.result_of(a.stopService())
        self.assertEqual(self.log("silent.example"), [])

    def test_a_peer_is_tried_again(self) -> None:
        b = self.node()
        self.table.names["silent.example"] = None
        a = self.named(peers=[f"silent.example:{PORT}"])
        self.network.advance(10.1)
        self.assertEqual(len(self.log("no name server has answered")), 1)
        self.table.names["silent.example"] = [self.host(b)]
        self.network.advance(5)
        self.assertEqual(list(a.routing_table), [b.id])

    def test_an_endpoint_of_the_applications_has_as_long(self) -> None:
        class Never:
            def connect(self, factory: Any) -> Deferred[Any]:
                return Deferred()

        a = self.node(dial=lambda host, port: Never())
        error = self.failure_of(a.connect("any.example", 1), ConnectFailed, after=10.1)
        self.assertIn("nothing there has answered within 10 s", str(error))


class Receiver:
    """Keeps what a look-up finds."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.is_done = False

    def resolutionBegan(self, _: Any) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        self.found.append(address.host)

    def resolutionComplete(self) -> None:
        self.is_done = True


class TestThreads(TestCase):
    """Look-ups in threads, with a resolver that answers when the test says so."""

    def setUp(self) -> None:
        self.answers = Event()
        self.asked: list[str] = []
        self.patch(socket, "getaddrinfo", self.getaddrinfo)
        self.addCleanup(self.answers.set)

    def getaddrinfo(self, name: str, port: Any, **_: Any) -> list[Any]:
        self.asked.append(name)
        self.answers.wait(60)
        if name.startswith("no"):
            raise socket.gaierror("no such name")
        address = ("127.0.0.9", port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)] * 2

    @inlineCallbacks
    def test_so_many_at_a_time_and_the_reactors_own_threads_stay_free(self) -> Iterator[Deferred[Any]]:
        names = Names(reactor, 2)
        waiting = [names.look_up(f"{number}.example") for number in range(50)]
        again = names.look_up("0.example")
        yield deferToThread(lambda: None)
        self.assertEqual(sorted(self.asked), ["0.example", "1.example"])
        self.assertEqual(names.footprint(), 50)
        for cancelled in (*waiting[:1], *waiting[3:]):
            cancelled.addErrback(lambda failure: failure.trap(CancelledError) and None)
            cancelled.cancel()
        self.assertEqual(names.footprint(), 3)
        self.answers.set()
        for found in (again, waiting[1], waiting[2]):
            self.assertEqual((yield found), ["127.0.0.9"])
        self.assertEqual(self.asked[2:], ["2.example"])
        self.assertEqual(names.footprint(), 0)

    @inlineCallbacks
    def test_a_name_that_is_none_has_no_addresses(self) -> Iterator[Deferred[Any]]:
        self.answers.set()
        self.assertEqual((yield Names(reactor, 1).look_up("no.example")), [])

    def test_an_address_is_looked_up_by_nobody(self) -> None:
        for address in ("10.0.0.1", "::1"):
            receiver = Receiver()
            Lookup(Names(reactor, 1)).resolveHostName(receiver, address)
            self.assertEqual((receiver.found, receiver.is_done, self.asked), ([address], True, []))
