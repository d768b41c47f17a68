"""Addresses as users write them."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh import addresses
from twisted_mesh.addresses import (
    PeerAddress,
    check_port,
    lan_address,
    parse_host_port,
    parse_peer,
    refuse_tls,
    show,
    this_host,
)
from twisted_mesh.errors import LocalError
from twisted_mesh.identity import Identity
from twisted_mesh.memory import MemoryNetwork


class TestParse(SynchronousTestCase):
    def test_what_names_a_peer(self) -> None:
        node_id = Identity.generate().id
        endpoint = MemoryNetwork().dial_from("10.0.0.1")("10.0.0.2", 1)
        for text, expected in (
            ("mesh.example:4444", PeerAddress("mesh.example", 4444)),
            ("10.0.0.7:1", PeerAddress("10.0.0.7", 1)),
            (":4444", PeerAddress("127.0.0.1", 4444)),
            ("0.0.0.0:4444", PeerAddress("127.0.0.1", 4444)),
            ("[::1]:65535", PeerAddress("::1", 65535)),
            ("[::]:1", PeerAddress("127.0.0.1", 1)),
            (f"{node_id.decode()}@10.0.0.7:1", PeerAddress("10.0.0.7", 1, node_id)),
            (f"{node_id.decode()}@[::1]:1", PeerAddress("::1", 1, node_id)),
            ("tcp:host=10.0.0.7:port=1", PeerAddress(endpoint="tcp:host=10.0.0.7:port=1")),
            ("unix:/tmp/socket", PeerAddress(endpoint="unix:/tmp/socket")),
            (endpoint, PeerAddress(endpoint=endpoint)),
        ):
            self.assertEqual(parse_peer(text), expected, text)

    def test_what_does_not(self) -> None:
        wrong = (
            "",
            "host",
            "host:",
            "host:x",
            "host:0",
            "host:65536",
            "a@b:1",
            "::1:1",
            "tls:h:1",
            "SSL:h:1",
        )
        for text in (*wrong, 5, None, b"host:1", ("host", 1)):
            with self.assertRaises(LocalError, msg=repr(text)):
                parse_peer(text)

    def test_host_and_port_alone(self) -> None:
        self.assertEqual(parse_host_port(":1"), ("", 1))
        self.assertEqual(parse_host_port("[::1]:1"), ("::1", 1))
        for text in ("", "host", f"{Identity.generate().id.decode()}@host:1", "host:0"):
            self.assertRaises(LocalError, parse_host_port, text)

    def test_ports(self) -> None:
        self.assertEqual([check_port(1), check_port(65535)], [1, 65535])
        for port in (0, -1, 65536, "1", 1.0, True, None):
            self.assertRaises(LocalError, check_port, port)

    def test_tls_around_the_meshs_own(self) -> None:
        self.assertEqual(refuse_tls("tcp:1"), "tcp:1")
        self.assertRaises(LocalError, refuse_tls, "ssl:1")

    def test_show(self) -> None:
        self.assertEqual(show(("::1", 1)), "[::1]:1")
        self.assertEqual(show(None), "an unknown address")
        self.assertEqual(str(PeerAddress("h", 1)), "h:1")
        self.assertEqual(str(PeerAddress(endpoint="tcp:h:1")), "tcp:h:1")


class TestThisHost(SynchronousTestCase):
    def test_this_host(self) -> None:
        self.assertEqual([this_host(""), this_host("::"), this_host("h")], ["127.0.0.1", "127.0.0.1", "h"])

    def test_the_lan_address_is_one_of_this_hosts(self) -> None:
        with socket.socket() as probe:
            probe.bind((lan_address(), 0))

    def test_without_a_route(self) -> None:
        class NoRoute(socket.socket):
            def connect(self, address: object) -> None:
                raise OSError("no route")

        class Sockets:
            AF_INET, SOCK_DGRAM = socket.AF_INET, socket.SOCK_DGRAM

        Sockets.socket = NoRoute  # type: ignore[attr-defined]

        self.patch(addresses, "socket", Sockets)
        self.assertEqual(lan_address(), "127.0.0.1")
