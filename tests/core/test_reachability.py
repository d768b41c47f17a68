"""Which addresses that peers tell are believed, and how fast they are dialled."""

from __future__ import annotations

from itertools import count

from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import contact_of
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.overlay.dial_limit import ALLOWED, SITES_MET, DialLimit
from twisted_mesh.core.reachability import Reach, believed, counted_site, is_own_site, reach_of, site_of
from twisted_mesh.wire.membership import Contact, Purpose

HOSTS = {
    Reach.ANY: (
        *("8.8.8.8", "10.0.0.1", "192.168.1.255", "100.64.0.1", "2001:db8::1", "fd00::1"),
        "::ffff:8.8.8.8",
    ),
    Reach.OWN: (*("127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"),),
    Reach.LINK: ("169.254.1.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.1.1"),
    Reach.NOWHERE: (
        *("0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "255.255.255.255", "240.0.0.1"),
        *("224.0.0.1", "ff02::1", "::127.0.0.1"),
        # What the system's resolver reads as an address of four bytes.
        *("127.1", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "example.0x1", "0x"),
        *("", ".", "a..b", "-a", "a-", "a b", "a\n", "a" * 64, "\u00e4.org", "a/b", "[::1]", "a.b:80"),
        # Names: whoever is told one would ask a name server of the teller's choice.
        *("example.org", "example.org.", "node-1", "a_b.local", "localhost", "a.localhost", "ip6-loopback"),
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
        ):
            self.assertIsNone(counted_site(host), host)
        self.assertEqual(counted_site("9.9.9.9"), counted_site("::ffff:9.9.9.9"))
        self.assertEqual(counted_site("2600::1"), counted_site("2600::2"))
        self.assertEqual(counted_site(""), "")  # a UNIX socket

    def test_what_one_owner_has_many_of_is_one_site(self) -> None:
        self.assertEqual(site_of("10.0.0.1"), site_of("::ffff:10.0.0.1"))
        self.assertEqual(
            [is_own_site(site_of(host)) for host in ("127.0.0.9", "::1", "", "9.9.9.9")],
            [True] * 3 + [False],
        )
        self.assertEqual(site_of("2001:db8::1"), site_of("2001:db8::ffff:1"))
        hosts = ("10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8:0:1::1", "")
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
        dials.met(here.host)
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
        tables = {"dials_under_way": 0, "failed_dials": 2, "failed_sites": 2, "sites_met": 0}
        self.assertEqual(dials.footprint(), tables)
        self.assertEqual([dials.may(contact_of(n), 0) for n in (1, 2, 3)], [True, False, False])

    def test_a_dial_whose_end_is_not_told_does_not_hold_its_place_for_ever(self) -> None:
        dials = self.dials(dials_at_once=1, connect_timeout=3, handshake_timeout=4)
        self.begin(dials, contact_of(1))
        self.assertFalse(self.begin(dials, contact_of(2), 6.9))
        self.assertTrue(self.begin(dials, contact_of(2), 7))
        self.assertIsNone(dials.over(contact_of(1).id, 7, False))
        tables = {"dials_under_way": 1, "failed_dials": 0, "failed_sites": 0, "sites_met": 0}
        self.assertEqual(dials.footprint(), tables)


class TestOneHost(SynchronousTestCase):
    """Members tell a host with each of its ports, as if many nodes were there."""

    HOST = "192.0.2.7"

    def setUp(self) -> None:
        self.dials = DialLimit(MeshConfig(), None)
        self.ids = count(1)

    def failures(self, seconds: float, host: str = HOST) -> list[int]:
        """Dial another port of *host* whenever that is allowed; when that was.  All dials fail."""
        return [now for now in range(int(seconds)) if self.dial(now, host, found=False)]

    def dial(self, now: float, host: str, *, found: bool) -> bool:
        """Dial one more port of *host* if that is allowed; whether it was."""
        number = next(self.ids)
        contact = Contact(b"%d" % number, host, number)
        if not self.dials.may(contact, now):
            return False
        self.dials.began(contact, Purpose.NEIGHBOUR, now)
        self.dials.over(contact.id, now, found)
        return True

    def test_a_host_without_nodes_is_dialled_ever_more_rarely_whatever_the_port(self) -> None:
        self.assertEqual(self.failures(9000), [0, 60, 180, 420, 900, 1860, 3780, 7380])

    def test_and_an_ipv6_network_counts_as_one(self) -> None:
        self.assertEqual(self.failures(100, "2001:db8::1"), [0, 60])
        self.assertFalse(self.dial(100, "2001:db8::2", found=False))
        self.assertTrue(self.dial(100, "2001:db8:0:1::2", found=False))

    def test_two_dials_at_a_time(self) -> None:
        one, two, other = (Contact(b"%d" % port, self.HOST, port) for port in (1, 2, 3))
        self.dials.began(one, Purpose.NEIGHBOUR, 0)
        self.assertTrue(self.dials.may(two, 0))
        self.dials.began(two, Purpose.NEIGHBOUR, 0)
        self.assertFalse(self.dials.may(other, 1))
        self.dials.over(one.id, 1, True)
        self.assertTrue(self.dials.may(other, 1))

    def test_one_dial_at_a_time_after_a_failure(self) -> None:
        self.dial(0, self.HOST, found=False)
        one, two = (Contact(b"%d" % port, self.HOST, port) for port in (1, 2))
        self.dials.began(one, Purpose.URGENT, 60)
        self.assertFalse(self.dials.may(two, 60))
        self.dials.over(one.id, 61, True)
        self.assertTrue(self.dials.may(two, 61))

    def test_who_waits_between_its_lies_gains_little(self) -> None:
        self.dial(0, self.HOST, found=False)
        self.dial(200, self.HOST, found=False)
        self.assertFalse(self.dial(319, self.HOST, found=False))
        self.assertTrue(self.dial(200 + 120 + 3601, self.HOST, found=False))
        self.assertTrue(self.dial(200 + 120 + 3601 + 60, self.HOST, found=False))  # all that is long ago

    def test_where_a_node_was_linked_some_places_may_be_empty(self) -> None:
        self.dials.met(self.HOST)
        times = self.failures(600)
        self.assertEqual(times, [*range(ALLOWED), *range(ALLOWED, 600, 60)])

    def test_a_node_of_the_mesh_that_takes_no_link_makes_its_host_none_of_a_stranger(self) -> None:
        for now in (0, 60, 120, 180):
            contact = Contact(b"node", self.HOST, 1)
            self.assertTrue(self.dials.may(contact, now), now)
            self.dials.began(contact, Purpose.EXCHANGE, now)
            self.dials.over(contact.id, now, False, met=True)

    def test_a_node_that_is_found_makes_up_for_one_failure(self) -> None:
        self.dials.met(self.HOST)
        self.assertTrue(self.dial(0, self.HOST, found=False))
        for now in range(1, 400, 2):
            self.assertTrue(self.dial(now, self.HOST, found=False))
            self.assertTrue(self.dial(now + 1, self.HOST, found=True))
        self.assertTrue(self.dial(400, self.HOST, found=True))
        self.assertEqual(self.dials.footprint()["failed_sites"], 0)
        self.assertTrue(self.dial(400, "192.0.2.8", found=True))  # a node is there, too
        for now in range(401, 411):
            self.assertTrue(self.dial(now, "192.0.2.8", found=False))

    def test_failures_of_a_node_without_a_link_are_forgiven_but_not_again_and_again(self) -> None:
        for now, is_forgiven in ((0, True), (30, False), (59, False), (60, True)):
            self.dials.forgive(now)
            self.assertEqual(self.dial(now, self.HOST, found=False), is_forgiven, now)

    def test_only_so_many_sites_are_remembered(self) -> None:
        dials = self.dials = DialLimit(MeshConfig(failed_dials=2, dial_burst=9999), None)
        for number in range(SITES_MET + 1):
            dials.met(f"10.1.{number // 256}.{number % 256}")
        for host in ("192.0.2.7", "192.0.2.8", "192.0.2.9"):
            self.dial(0, host, found=False)
        self.assertEqual(
            (dials.footprint()["sites_met"], dials.footprint()["failed_sites"]), (SITES_MET, 2)
        )
        self.assertTrue(self.dial(1, "192.0.2.7", found=False))
        for _ in range(ALLOWED):  # the first that was met is forgotten, and the last is not
            self.assertTrue(self.dial(2, "10.1.16.0", found=False))
        self.assertTrue(self.dial(2, "10.1.0.0", found=False))
        self.assertFalse(self.dial(2, "10.1.0.0", found=False))
