"""The way back: nodes that were linked with are dialled when no link is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.meshcase import MeshCase
from twisted_mesh.address_book import AddressBook, dialled_at
from twisted_mesh.core.handshake import Side
from twisted_mesh.identity import Identity
from twisted_mesh.service import MeshService

IDS = [Identity.generate().id for _ in range(5)]


class BookTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.identity = Path(self.mktemp())
        self.file = self.identity.with_name(self.identity.name + ".peers")

    def book(self, limit: int = 10) -> AddressBook:
        return AddressBook(self.identity, limit)

    def test_the_newest_stand_first_and_the_oldest_is_forgotten(self) -> None:
        book = self.book(limit=3)
        for number, node_id in enumerate(IDS):
            book.note(node_id, ("10.0.0.1", number + 1))
        book.note(IDS[2], ("::1", 9))
        self.assertEqual([str(address) for address in book], ["[::1]:9", "10.0.0.1:5", "10.0.0.1:4"])
        again = self.book()
        self.assertEqual([*again], [*book])
        self.assertEqual(len(again), 3)
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)

    def test_it_is_written_when_an_address_is_new_and_not_for_the_order_alone(self) -> None:
        book = self.book()
        for node_id in IDS[:2]:
            book.note(node_id, ("a.example", 1))
        written = self.file.stat().st_mtime_ns
        book.note(IDS[0], ("a.example", 1))
        self.assertEqual(self.file.stat().st_mtime_ns, written)
        book.note(IDS[0], ("b.example", 1))
        self.assertIn("b.example", self.file.read_text())

    def test_what_cannot_be_read_in_it_is_left_out(self) -> None:
        node_id = IDS[0].decode()
        self.file.write_bytes(
            f"{node_id}@a.example:1\na.example:2\nrubbish\ntcp:a:1\n{node_id}@a:99999\n\xff".encode(
                "latin-1"
            )
        )
        self.assertEqual([str(address) for address in self.book()], ["a.example:1"])

    def test_a_giant_is_read_no_further_than_the_limit(self) -> None:
        self.file.write_text("".join(f"{node_id.decode()}@a.example:1\n" for node_id in IDS))
        self.assertEqual([address.id for address in self.book(limit=2)], IDS[:2])

    def test_where_it_can_be_neither_read_nor_written_the_node_goes_on_without(self) -> None:
        self.file.mkdir()
        book = self.book()
        for node_id in IDS:
            book.note(node_id, ("a.example", 1))
        self.assertEqual(len(book), 5)
        self.assertEqual(self.flushLoggedErrors(), [])


class DialledAtTests(SynchronousTestCase):
    def test_what_a_peer_says_is_believed_where_it_can_be_meant(self) -> None:
        for told in (("10.0.0.9", 1), ("node.example", 65535), ("fd00::1", 4444)):
            self.assertEqual(dialled_at(told, "10.0.0.7"), told)

    def test_an_address_of_every_host_is_that_of_the_host_it_came_from(self) -> None:
        for host in (
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "",
            "0.0.0.0",
            "localhost",
            "169.254.1.1",
            "fe80::1",
            "224.0.0.1",
            "localhost.localdomain",
            "LOCALHOST",
            "a.localhost",
            "127.1",
            "0x7f000001",
            "2130706433",
            "::ffff:127.0.0.1",
            "::ffff:169.254.1.1",
            "0.1.2.3",
            "fd00::1%eth0",
        ):
            self.assertEqual(dialled_at((host, 5), "10.0.0.7"), ("10.0.0.7", 5), host)
        self.assertEqual(dialled_at(("127.0.0.1", 5), "127.0.0.1"), ("127.0.0.1", 5))
        self.assertEqual(dialled_at(("a b", 5), "10.0.0.7"), ("10.0.0.7", 5))
        self.assertIsNone(dialled_at(("127.0.0.1", 5), "unix"))

    def test_what_no_address_can_be_is_none(self) -> None:
        for told in (("a", 0), ("a", 65536), ("a" * 254, 1), ("ä", 1), ("a\n", 1)):
            self.assertIsNone(dialled_at(told, "10.0.0.7"), told)


class TestIsolation(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def known(self, name: str, **options: Any) -> MeshService:
        """A node with a key in a file, which runs."""
        return self.node(identity=Identity.load_or_create(self.folder / name), **options)

    def test_a_node_that_starts_without_peers_finds_those_it_was_linked_with(self) -> None:
        a, b = self.node(), self.known("b")
        self.link((b, a))
        self.stop(b)
        again = self.known("b")
        self.network.advance(4)
        self.assertEqual(len(again.routing_table), 0)
        self.network.advance(2)
        self.assertEqual([*again.routing_table], [a.id])
        self.network.advance(60)
        self.assertEqual(len(self.log("no link is left")), 1)

    def test_so_does_one_that_was_dialled(self) -> None:
        a, b = self.node(), self.known("b")
        self.link((a, b))
        self.stop(b)
        self.stop(a)
        a.startService()
        again = self.known("b", listens=False)
        self.network.advance(10)
        self.assertEqual([*again.routing_table], [a.id])

    def test_each_is_tried_in_turn_and_for_ever(self) -> None:
        gone, a, b = self.node(), self.node(), self.known("b")
        self.link((b, a), (b, gone))
        self.stop(gone)
        self.stop(a)
        self.network.advance(1000)
        self.assertEqual(len(b.routing_table), 0)
        a.startService()
        self.network.advance(150)
        self.assertEqual([*b.routing_table], [a.id])

    def test_another_node_at_the_address_is_not_taken_for_it(self) -> None:
        a, b = self.node(), self.known("b")
        self.link((a, b))
        self.stop(a)
        self.serve((self.puppet(Side.ACCEPTOR) for _ in range(100)), host=self.host(a))
        self.network.advance(20)
        self.assertEqual(len(b.routing_table), 0)
        self.assertIn("identity", self.reasons(b))

    def test_a_node_that_was_disconnected_is_not_dialled(self) -> None:
        a, b = self.node(), self.known("b")
        self.link((b, a))
        b.disconnect(b.routing_table[a.id])
        self.network.advance(50)
        self.assertEqual(len(b.routing_table), 0)

    def test_who_has_a_link_again_seeks_no_more(self) -> None:
        a, c, b = self.node(), self.node(), self.known("b")
        self.link((a, b))
        self.stop(a)
        self.link((c, b))
        a.startService()
        self.network.advance(100)
        self.assertEqual([*b.routing_table], [c.id])

    def test_a_node_that_was_stopped_seeks_nobody(self) -> None:
        a, b = self.node(), self.known("b")
        self.link((b, a))
        self.stop(b)
        self.network.advance(100)
        self.assertEqual((self.log("no link is left"), len(a.routing_table)), ([], 0))

    def test_a_stop_in_the_middle_of_an_attempt(self) -> None:
        a, b = self.node(), self.known("b")
        self.link((b, a))
        self.stop(b)
        for end in self.network.ends:
            end.abortConnection()
        again = self.known("b")
        self.network.clock.advance(5)
        self.stop(again)
        self.assertEqual(again.footprint(), {})

    def test_without_a_file_nothing_is_kept_and_nobody_sought(self) -> None:
        a, b = self.node(), self.node()
        self.link((b, a))
        a.disconnect(a.routing_table[b.id])
        self.network.advance(1)
        self.assertEqual([*self.folder.iterdir()], [])
