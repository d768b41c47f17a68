"""A name in ``out_addr``: its owner looks it up, and nobody else."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.addressing.test_names import HOST, NAME, NamedCase
from tests.delivery.test_members import presence
from tests.support.meshcase import PORT
from tests.support.named import NamedReactor, Table
from twisted_mesh.addressing.names import Names
from twisted_mesh.addressing.own_address import AGAIN, OwnAddress
from twisted_mesh.memory.network import MemoryNetwork
from twisted_mesh.service import MeshService
from twisted_mesh.wire.greeting import Address


class ToldNameTests(NamedCase):
    def linked_to(self, service: MeshService) -> MeshService:
        """Another node, which has dialled *service*."""
        other = self.node()
        self.result_of(other.connect(HOST, PORT), after=1)
        return other

    def told(self, service: MeshService, to: MeshService) -> Address | None:
        """The address in the newest record of *service* that *to* has."""
        for author in self.parts_of(to).driver.node.membership.roster:
            if author.contact is not None and author.contact.id == service.id:
                return author.contact.host, author.contact.port
        return None

    def test_others_are_told_the_address_to_which_it_leads(self) -> None:
        a = self.named("10.7.7.7", out_addr=(NAME, 9))
        b = self.linked_to(a)
        self.assertEqual(b.routing_table[a.id].address, ("10.7.7.7", 9))
        self.network.advance(1)
        self.assertEqual(self.told(a, b), ("10.7.7.7", 9))
        self.assertEqual(a.out_addr, (NAME, 9))

    def test_it_is_looked_up_again_with_each_record(self) -> None:
        a = self.named("10.7.7.7", out_addr=(NAME, 9))
        b = self.linked_to(a)
        self.network.advance(10)
        self.table.names[NAME] = ["10.8.8.8"]
        self.network.advance(2 * a.config.presence_interval)
        self.assertEqual(self.told(a, b), ("10.8.8.8", 9))
        self.assertLess(len(self.table.asked), 8)

    def test_a_name_server_that_does_not_answer_holds_up_nothing(self) -> None:
        self.table.names["silent.example"] = None
        a = self.named(out_addr=("silent.example", 9))
        b = self.linked_to(a)
        a.send("here")
        self.network.advance(1)
        self.assertEqual(self.got(b), ["here"])
        self.assertIsNone(self.told(a, b))

    def test_a_name_that_a_peer_tells_is_looked_up_by_nobody(self) -> None:
        relay = self.node(overlay=True)
        a = self.named(overlay=True)
        self.result_of(a.connect(self.host(relay), PORT), after=1)
        puppet = self.joined(relay)
        self.send_frames(puppet, presence(puppet.me, address=("evil.example", 9)), after=5)
        self.assertIn(puppet.me.id, a.members)
        self.network.advance(115)
        self.assertEqual(self.table.asked, [])
        self.assertEqual({host for _, (host, _), _ in self.network.dials}, {self.host(relay)})


class OwnAddressTests(SynchronousTestCase):
    """Which address a name stands for, with a table of names."""

    def setUp(self) -> None:
        self.table = Table()
        self.clock = Clock()
        reactor = NamedReactor(MemoryNetwork(1), "10.0.0.1", self.table)
        self.own = OwnAddress(lambda: (NAME, 9), Names(reactor, 1), self.clock.seconds)

    def host(self, *behind: str, after: float = AGAIN) -> str | None:
        """The host that others are told when the name stands for *behind*, and time has passed."""
        self.table.names[NAME] = list(behind)
        self.clock.advance(after)
        address = self.own()
        return None if address is None else address[0]

    def test_of_several_addresses_the_one_that_most_hosts_reach(self) -> None:
        self.assertEqual(self.host("127.0.1.1", "0.0.0.0", "2001:db8::1", "10.0.0.7"), "10.0.0.7")

    def test_it_stays_the_same_as_long_as_the_name_leads_there(self) -> None:
        self.host("10.0.0.7", "10.0.0.8")
        self.assertEqual(self.host("10.0.0.8", "10.0.0.7"), "10.0.0.7")
        self.assertEqual(self.host("10.0.0.8"), "10.0.0.8")

    def test_if_the_name_leads_nowhere_for_a_while_the_last_address_is_told_and_that_is_logged(
        self,
    ) -> None:
        for behind, told in (((), None), (("10.0.0.7",), "10.0.0.7"), ((), "10.0.0.7"), ((), "10.0.0.7")):
            self.assertEqual(self.host(*behind), told)

    def test_many_links_at_a_time_need_one_look_up(self) -> None:
        for _ in range(9):
            self.host("10.0.0.7", after=AGAIN / 9.5)
        self.assertEqual(self.table.asked, [NAME])

    def test_a_look_up_without_an_answer_gives_way_to_the_next_one(self) -> None:
        self.table.names[NAME] = None
        self.assertIsNone(self.own())
        self.assertEqual(self.host("10.0.0.7"), "10.0.0.7")

    def test_an_address_is_no_name(self) -> None:
        for given in (("10.0.0.7", 9), ("fd00::7", 9), None):
            own = OwnAddress(lambda given=given: given, Names(Clock(), 1), self.clock.seconds)
            self.assertEqual(own(), given)

    def test_with_a_clock_no_name_has_an_address(self) -> None:
        self.assertIsNone(OwnAddress(lambda: (NAME, 9), Names(Clock(), 1), self.clock.seconds)())
