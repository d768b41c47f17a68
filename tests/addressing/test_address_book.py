"""The address book: the nodes that a node dials if no link is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import get_ident

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.support.logs import logged
from tests.support.meshcase import MeshCase
from twisted_mesh.addressing.address_book import AddressBook, dialled_at, in_thread
from twisted_mesh.core.handshake import Side
from twisted_mesh.identity import Identity

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


class WritingTests(SynchronousTestCase):
    """The book is written in a thread, one write at a time."""

    def setUp(self) -> None:
        self.identity = Path(self.mktemp())
        self.file = self.identity.with_name(self.identity.name + ".peers")
        self.writes: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.book = AddressBook(self.identity, 10, self.aside)

    def aside(self, write: Callable[[], None]) -> Deferred[None]:
        """Keep a write until the test calls :meth:`write`."""
        done: Deferred[None] = Deferred()
        self.writes.append((write, done))
        return done

    def write(self) -> None:
        """Do the write that waits."""
        write, done = self.writes.pop()
        write()
        done.callback(None)

    def test_it_is_written_aside_and_all_that_changes_meanwhile_at_once(self) -> None:
        for node_id in IDS:
            self.book.note(node_id, ("a.example", 1))
        self.assertEqual((len(self.writes), self.file.exists()), (1, False))
        written = self.book.written()
        self.write()
        self.assertEqual((len(self.writes), len(self.file.read_text().splitlines())), (1, 1))
        self.assertNoResult(written)
        self.write()
        self.assertEqual((len(self.writes), len(self.file.read_text().splitlines())), (0, 5))
        self.successResultOf(written)
        self.successResultOf(self.book.written())

    def test_what_fails_is_told_once_and_tried_with_the_next_address(self) -> None:
        with logged() as texts:
            for node_id in IDS:
                self.book.note(node_id, ("a.example", 1))
                self.writes.pop()[1].errback(OSError(28, "disk full"))
            self.assertEqual(len(texts), 1)
            self.book.note(IDS[0], ("b.example", 1))
            self.write()
        self.assertEqual(len(self.file.read_text().splitlines()), 5)

    def test_a_fault_of_ours_is_logged_as_that_and_keeps_nobody_waiting(self) -> None:
        self.book.note(IDS[0], ("a.example", 1))
        written = self.book.written()
        self.writes.pop()[1].errback(ZeroDivisionError())
        self.successResultOf(written)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class AsideTests(TestCase):
    async def test_it_is_a_thread_of_a_reactor_that_has_some_and_no_other(self) -> None:
        threads: list[int] = []
        for around in (reactor, Clock()):
            await in_thread(around)(lambda: threads.append(get_ident()))
        self.assertNotEqual(threads[0], get_ident())
        self.assertEqual(threads[1], get_ident())


class DialledAtTests(SynchronousTestCase):
    def test_what_a_peer_says_is_believed_where_it_can_be_meant(self) -> None:
        for told in (("10.0.0.9", 1), ("fd00::1", 65535)):
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
            "node.example",  # a name that a peer tells is looked up by nobody
        ):
            self.assertEqual(dialled_at((host, 5), "10.0.0.7"), ("10.0.0.7", 5), host)
        self.assertEqual(dialled_at(("127.0.0.1", 5), "127.0.0.1"), ("127.0.0.1", 5))
        self.assertEqual(dialled_at(("a b", 5), "10.0.0.7"), ("10.0.0.7", 5))
        self.assertIsNone(dialled_at(("127.0.0.1", 5), "unix"))

    def test_what_no_address_can_be_is_none(self) -> None:
        for told in (("a", 0), ("a", 65536), ("a" * 254, 1), ("ä", 1), ("a\n", 1)):
            self.assertIsNone(dialled_at(told, "10.0.0.7"), told)


class TestIsolation(MeshCase):
    def test_a_node_that_starts_without_peers_finds_those_it_was_linked_with(self) -> None:
        b, a = self.linked(self.known("b"), self.node())
        self.stop(b)
        again = self.known("b")
        self.network.advance(4)
        self.assertEqual(len(again.routing_table), 0)
        self.network.advance(2)
        self.assertEqual([*again.routing_table], [a.id])
        self.network.advance(60)
        self.assertEqual(len(self.log("no link is left")), 1)

    def test_what_is_new_when_it_stops_is_on_disk_when_it_has_stopped(self) -> None:
        pending: list[Callable[[], None]] = []

        def slow(write: Callable[[], None]) -> Deferred[None]:
            pending.append(write)
            return waiting

        waiting: Deferred[None] = Deferred()
        a, b = self.node(), self.known("b")
        self.parts_of(b)._rejoin.book._in_thread = slow
        self.link((a, b))
        stopped = b.stopService()
        self.network.advance(1)
        self.assertNoResult(stopped)
        pending.pop()()
        waiting.callback(None)
        self.successResultOf(stopped)

    def test_a_disk_that_hangs_does_not_keep_it_from_stopping(self) -> None:
        a, b = self.node(), self.known("b")
        self.parts_of(b)._rejoin.book._in_thread = lambda write: Deferred()
        self.link((a, b))
        self.stop(b)
        self.assertEqual(len(self.log("the address book is not written yet")), 1)

    def test_so_does_one_that_was_dialled(self) -> None:
        a, b = self.linked(self.node(), self.known("b"))
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
        self.stop(a, after=1000)
        self.assertEqual(len(b.routing_table), 0)
        a.startService()
        self.network.advance(150)
        self.assertEqual([*b.routing_table], [a.id])

    def test_of_one_host_a_few_at_a_time_however_many_are_told_to_be_there(self) -> None:
        b, a = self.linked(self.known("key"), self.node())
        self.stop(b)
        told = [f"{Identity.generate().id.decode()}@192.0.2.7:{port}" for port in range(1, 61)]
        (self.folder / "key.peers").write_text("\n".join([*told, f"{a.id.decode()}@{self.address(a)}"]))
        again = self.known("key", dial=self.network.dial_from("10.0.0.99"), overlay=False)
        self.network.advance(7)
        self.assertEqual([*again.routing_table], [a.id])
        self.stop(a)
        self.network.advance(600)
        dials = [(port, when) for _, (host, port), when in self.network.dials if host == "192.0.2.7"]
        minutes = Counter(int(when // 60) for _, when in dials)
        self.assertLessEqual(max(list(minutes.values())[2:]), 12)
        self.assertGreater(len({port for port, _ in dials}), 40)  # all have their turn

    def test_another_node_at_the_address_is_not_taken_for_it(self) -> None:
        a, b = self.linked(self.node(), self.known("b"))
        self.stop(a)
        self.serve((self.puppet(Side.ACCEPTOR) for _ in range(100)), host=self.host(a))
        self.network.advance(20)
        self.assertEqual(len(b.routing_table), 0)
        self.assertIn("identity", self.reasons(b))

    def test_a_node_that_was_disconnected_is_not_dialled(self) -> None:
        b, a = self.linked(self.known("b"), self.node())
        self.unlink(b, a, after=50)
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
        b, a = self.linked(self.known("b"), self.node())
        self.stop(b, after=100)
        self.assertEqual((self.log("no link is left"), len(a.routing_table)), ([], 0))

    def test_a_stop_in_the_middle_of_an_attempt(self) -> None:
        b, _a = self.linked(self.known("b"), self.node())
        self.stop(b)
        for end in self.network.ends:
            end.abortConnection()
        again = self.known("b")
        self.network.clock.advance(5)
        self.stop(again)
        self.assertEqual(again.footprint(), {})

    def test_without_a_file_nothing_is_kept_and_nobody_sought(self) -> None:
        b, a = self.chain(2)
        self.unlink(a, b, after=1)
        self.assertEqual([*self.folder.iterdir()], [])
