"""Which addresses that peers tell are believed, and how fast they are dialled."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import contact_of
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.overlay.dial_limit import DialLimit
from twisted_mesh.core.reachability import Reach, believed, counted_site, reach_of, site_of
from twisted_mesh.wire.membership import Contact, Purpose

HOSTS = {
    Reach.ANY: (
        *("8.8.8.8", "10.0.0.1", "192.168.1.255", "100.64.0.1", "2001:db8::1", "fd00::1"),
        *("::ffff:8.8.8.8", "example.org", "example.org.", "node-1", "a_b.local", "a" * 63, "4444.example"),
    ),
    Reach.OWN: (
        *("127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"),
        *("localhost", "LocalHost.", "a.localhost", "localhost.localdomain", "ip6-loopback"),
    ),
    Reach.LINK: ("169.254.1.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.1.1"),
    Reach.NOWHERE: (
        *("0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "255.255.255.255", "240.0.0.1"),
        *("224.0.0.1", "ff02::1", "::127.0.0.1"),
        # What the system's resolver reads as an address of four bytes.
        *("127.1", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "example.0x1", "0x"),
        *("", ".", "a..b", "-a", "a-", "a b", "a\n", "a" * 64, "\u00e4.org", "a/b", "[::1]", "a.b:80"),
        ".".join(["a" * 60] * 5),
    ),
}


class TestReach(SynchronousTestCase):
    """An address is one of four kinds, however it is written."""

    def test_each_kind(self) -> None:
        for reach, hosts in HOSTS.items():
            for host in hosts:
                self.assertIs(reach_of(host), reach, repr(host))

    def test_an_own_address_is_believed_of_the_own_host_only(self) -> None:
        for host in HOSTS[Reach.OWN]:
            for teller in ("127.0.0.1", "::1", "::ffff:127.0.0.9"):
                self.assertTrue(believed(host, teller), host)
            for teller in ("10.0.0.1", "2001:db8::1", "169.254.1.1", "example.org", "", "0.0.0.0"):
                self.assertFalse(believed(host, teller), (host, teller))

    def test_an_address_of_the_local_link_is_believed_of_the_local_link_only(self) -> None:
        for host in ("169.254.1.1", "fe80::1"):
            self.assertTrue(believed(host, "169.254.7.7"))
            self.assertTrue(believed(host, "fe80::2%eth0"))
            for teller in ("10.0.0.1", "127.0.0.1", ""):
                self.assertFalse(believed(host, teller), (host, teller))

    def test_an_interface_of_another_machine_is_not_believed(self) -> None:
        self.assertFalse(believed("fe80::1%eth0", "fe80::2"))
        self.assertFalse(believed("127.0.0.1%lo", "127.0.0.1"))

    def test_other_addresses_are_believed_of_everybody_and_no_host_of_nobody(self) -> None:
        for teller in ("127.0.0.1", "169.254.1.1", "10.0.0.1", ""):
            for host in HOSTS[Reach.ANY]:
                self.assertTrue(believed(host, teller), host)
            for host in HOSTS[Reach.NOWHERE]:
                self.assertFalse(believed(host, teller), host)

    def test_nodes_of_loopback_and_private_addresses_are_not_counted(self) -> None:
        for host in (
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "192.168.1.1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "localhost",
        ):
            self.assertIsNone(counted_site(host), host)
        self.assertEqual(counted_site("9.9.9.9"), counted_site("::ffff:9.9.9.9"))
        self.assertEqual(counted_site("2600::1"), counted_site("2600::2"))
        self.assertEqual(counted_site("Example.ORG."), "example.org")

    def test_what_one_owner_has_many_of_is_one_site(self) -> None:
        self.assertEqual(site_of("10.0.0.1"), site_of("::ffff:10.0.0.1"))
        self.assertEqual(site_of("2001:db8::1"), site_of("2001:db8::ffff:1"))
        self.assertEqual(site_of("Example.org."), site_of("example.org"))
        hosts = ("10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8:0:1::1", "example.org", "a.example.org")
        self.assertEqual(len({site_of(host) for host in hosts}), len(hosts))


class TestDials(SynchronousTestCase):
    """All dials of told addresses have one budget."""

    def dials(self, **config: float) -> DialLimit:
        return DialLimit(MeshConfig(**config), ("10.0.0.99", 4444))  # type: ignore[arg-type]

    def begin(self, dials: DialLimit, contact: Contact, now: float = 0) -> bool:
        """Begin a dial if the limit allows that; whether it did."""
        if not dials.may(contact, now):
            return False
        dials.began(contact, Purpose.NEIGHBOUR, now)
        return True

    def test_so_many_at_once(self) -> None:
        dials = self.dials(dials_at_once=2)
        self.assertTrue(self.begin(dials, contact_of(1)))
        self.assertTrue(self.begin(dials, contact_of(2)))
        self.assertFalse(self.begin(dials, contact_of(3)))
        self.assertIs(dials.over(contact_of(1).id, 1, True), Purpose.NEIGHBOUR)
        self.assertTrue(self.begin(dials, contact_of(3), 1))

    def test_so_many_in_a_row_and_a_second(self) -> None:
        dials = self.dials(dial_burst=3, dial_rate=0.5, dials_at_once=9)
        self.assertEqual([self.begin(dials, contact_of(n)) for n in range(1, 5)], [True, True, True, False])
        self.assertFalse(self.begin(dials, contact_of(4), 1.9))
        self.assertTrue(self.begin(dials, contact_of(4), 2))

    def test_one_at_a_time_for_a_node_and_for_a_place(self) -> None:
        dials = self.dials()
        here = contact_of(1)
        self.assertTrue(self.begin(dials, here))
        self.assertFalse(self.begin(dials, Contact(here.id, "10.9.9.9", 1)))
        self.assertFalse(self.begin(dials, Contact(contact_of(2).id, here.host, here.port)))
        self.assertTrue(self.begin(dials, Contact(contact_of(2).id, here.host, here.port + 1)))

    def test_never_the_own_place_whoever_was_there_before(self) -> None:
        dials = self.dials()
        self.assertFalse(self.begin(dials, Contact(contact_of(1).id, "10.0.0.99", 4444)))
        self.assertTrue(self.begin(dials, Contact(contact_of(1).id, "10.0.0.99", 4445)))
        self.assertTrue(self.begin(dials, Contact(contact_of(2).id, "10.0.0.98", 4444)))

    def test_a_place_where_the_node_was_not_found_is_left_alone(self) -> None:
        dials = self.dials(dial_again=60)
        here = contact_of(1)
        self.begin(dials, here)
        self.assertIs(dials.over(here.id, 1, False), Purpose.NEIGHBOUR)
        # This holds for any id at that place: otherwise each new id would be one more dial.
        other = Contact(contact_of(2).id, here.host, here.port)
        self.assertFalse(self.begin(dials, other, 60.9))
        self.assertTrue(self.begin(dials, other, 61))

    def test_a_place_where_the_node_was_found_is_dialled_again(self) -> None:
        dials = self.dials()
        self.begin(dials, contact_of(1))
        dials.over(contact_of(1).id, 1, True)
        self.assertTrue(self.begin(dials, contact_of(1), 1))

    def test_only_so_many_such_places_are_remembered(self) -> None:
        dials = self.dials(failed_dials=2)
        for number in (1, 2, 3):
            self.begin(dials, contact_of(number))
            dials.over(contact_of(number).id, 0, False)
        self.assertEqual(dials.footprint(), {"dials_under_way": 0, "failed_dials": 2})
        self.assertEqual([dials.may(contact_of(n), 0) for n in (1, 2, 3)], [True, False, False])

    def test_a_dial_whose_end_is_not_told_does_not_hold_its_place_for_ever(self) -> None:
        dials = self.dials(dials_at_once=1, connect_timeout=3, handshake_timeout=4)
        self.begin(dials, contact_of(1))
        self.assertFalse(self.begin(dials, contact_of(2), 6.9))
        self.assertTrue(self.begin(dials, contact_of(2), 7))
        self.assertIsNone(dials.over(contact_of(1).id, 7, False))
        self.assertEqual(dials.footprint(), {"dials_under_way": 1, "failed_dials": 0})
