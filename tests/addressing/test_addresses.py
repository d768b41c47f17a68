"""Addresses as users write them."""

from __future__ import annotations

import socket
from socket import AF_INET, AF_INET6

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.addressing.addresses import (
    PeerAddress,
    check_address,
    check_port,
    choose_address,
    lan_address,
    parse_host_port,
    parse_peer,
    refuse_tls,
    show,
    this_host,
    told_address,
)
from twisted_mesh.addressing.interfaces import interface_addresses
from twisted_mesh.core.reachability import Reach, reach_of
from twisted_mesh.errors import LocalError
from twisted_mesh.identity import Identity
from twisted_mesh.memory.network import MemoryNetwork


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

    def test_without_a_route_it_is_the_address_of_an_interface(self) -> None:
        both, v4 = (AF_INET, AF_INET6), (AF_INET,)
        all_of_them = ["127.0.0.1", "169.254.1.1", "10.0.0.7", "192.168.0.7", "::1", "fe80::1", "fd00::7"]
        for routed, interfaces, families, expected in (
            (["10.0.0.9", "fd00::9"], all_of_them, both, "10.0.0.9"),
            (["fd00::9"], all_of_them, both, "fd00::9"),
            (["127.0.0.1"], all_of_them, both, "10.0.0.7"),  # a route that leads to the host itself
            ([], all_of_them, both, "10.0.0.7"),
            ([], all_of_them, v4, "10.0.0.7"),
            ([], ["127.0.0.1", "::1", "fe80::1", "fd00::7"], both, "fd00::7"),
            ([], ["127.0.0.1", "169.254.1.1", "fe80::1"], both, "169.254.1.1"),
        ):
            self.assertEqual(choose_address(routed, interfaces, families), expected)

    def test_a_loopback_address_is_told_only_where_there_is_no_other(self) -> None:
        both, v4 = (AF_INET, AF_INET6), (AF_INET,)
        self.assertIsNone(choose_address([], ["127.0.0.1", "::1", "fd00::7"], v4))
        for interfaces in ([], ["127.0.0.1", "::1"], ["127.0.0.1", "::1", "fe80::1"]):
            for families in (both, v4):
                self.assertEqual(choose_address([], interfaces, families), "127.0.0.1")

    def test_an_address_nobody_could_read_is_refused(self) -> None:
        self.assertRaises(LocalError, check_address, ("a" * 254, 1))
        self.assertRaises(LocalError, check_address, ("\ud800", 1))

    def test_of_several_places_the_one_that_most_others_reach(self) -> None:
        loopback, link, far = ("127.0.0.1", 1), ("169.254.1.1", 2), ("10.0.0.7", 3)
        self.assertEqual(told_address([loopback, link, far, ("10.0.0.8", 4)]), far)
        self.assertEqual(told_address([loopback, link]), link)
        self.assertEqual(told_address([loopback, ("127.0.0.1", 5)]), loopback)
        self.assertIsNone(told_address([]))
        lan = lan_address()
        if lan != "127.0.0.1":
            self.assertEqual(told_address([loopback, ("::", 6)]), (lan, 6))

    def test_the_interfaces_are_this_hosts(self) -> None:
        found = interface_addresses()
        self.assertIn("127.0.0.1", found)
        for host in found:
            if reach_of(host) in (Reach.ANY, Reach.OWN):
                with socket.socket(AF_INET6 if ":" in host else AF_INET) as probe:
                    probe.bind((host, 0))
