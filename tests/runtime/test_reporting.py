"""The status of a service: the whole node as values, and sentences about what is wrong with it."""

from __future__ import annotations

import msgspec
from twisted.internet.protocol import Factory

from tests.support.meshcase import MeshCase, Raw, TlsCase, batch, take
from twisted_mesh.errors import NotRunning
from twisted_mesh.identity import Identity
from twisted_mesh.runtime.reporting import CONGESTED, SILENT
from twisted_mesh.status import Status


class TestTree(TlsCase):
    def test_the_node_and_its_link_are_told(self) -> None:
        a, b = self.linked(self.node(label="web1", subnet="alerts"), self.node(label="db", subnet="alerts"))
        self.send(a, "one", "two", after=20)
        status = a.status()
        node = status.node
        self.assertEqual((node.id, node.label, node.subnet), (a.id.decode(), "web1", "alerts"))
        self.assertEqual((node.encryption, node.role), ("SSL", "member"))
        self.assertEqual((node.addresses, node.told_address), ([self.address(a)], self.address(a)))
        self.assertEqual((node.joined, node.messages_sent, node.messages_waiting), (True, 2, 0))
        self.assertAlmostEqual(node.uptime_seconds, 20, delta=1)
        (link,) = status.links
        self.assertEqual((link.peer, link.label, link.outgoing), (b.id.decode(), "db", True))
        self.assertEqual(link.remote_address, self.address(b))
        self.assertAlmostEqual(link.up_seconds, 20, delta=1)
        for count in (link.received_bytes, link.received_frames, link.sent_bytes, link.sent_frames):
            self.assertGreater(count, 0)
        self.assertEqual(link.queued_bytes, 0)
        (member,) = status.members
        self.assertEqual((member.id, member.label, member.state), (b.id.decode(), "db", "up"))
        self.assertEqual((status.warnings, status.dropped["no_room"]), ([], 0))
        self.assertEqual(status.footprint, a.footprint())

    def test_each_author_tells_how_far_it_has_come(self) -> None:
        a, b = self.linked(self.node(label="web1"), self.node())
        queue = b.messages()
        self.send(a, *range(5))
        (author,) = b.status().authors
        self.assertEqual((author.id, author.label), (a.id.decode(), "web1"))
        self.assertEqual(author.epoch, a.status().node.epoch)
        self.assertEqual((author.head, author.behind, author.missing, author.taken), (5, 0, 0, 0))
        self.run_to_end(take(queue, 3))
        self.network.advance(1)
        (author,) = b.status().authors
        self.assertEqual((author.taken, author.taken_by, author.repaired), (3, {}, 0))
        self.assertEqual((b.status().node.messages_delivered, a.status().node.messages_delivered), (5, 0))

    def test_each_author_tells_how_far_each_consumer_is_and_what_was_asked_for(self) -> None:
        a, b = self.linked(self.node(), self.node(), after=1)
        billing, audit = (b.messages(name=name) for name in ("billing", "audit"))
        self.send(a, *range(3))
        self.run_to_end(take(billing, 3))
        self.run_to_end(take(audit, 1))
        self.network.advance(1)
        (author,) = b.status().authors
        self.assertEqual((author.taken, author.taken_by), (0, {"billing": 2, "audit": 0}))
        self.network.part([self.host(a)], [self.host(b)])
        self.network.advance(20)
        self.send(a, 3, 4)
        self.network.heal()
        self.network.advance(60)
        (author,) = b.status().authors
        self.assertEqual((author.head, author.repaired), (5, 2))
        for messages in (billing, audit):
            messages.close()

    def test_a_hole_is_missing_and_a_warning(self) -> None:
        a = self.node()
        puppet = self.joined(a)
        self.send_frames(puppet, *(batch(puppet.me, number, "x") for number in (1, 4, 7)))
        status = a.status()
        (author,) = status.authors
        self.assertEqual((author.head, author.behind, author.missing), (1, 6, 4))
        (warning,) = [each for each in status.warnings if each.startswith("missing")]
        self.assertIn(
            f"missing from {puppet.me.id.decode()[:8]}: 4 messages; this node asks for them", warning
        )

    def test_an_open_receipt_names_its_members(self) -> None:
        a, b = self.linked(self.node(), self.node(), after=1)
        self.network.between(self.host(a), self.host(b))[1].reads = False
        a.send("fire", receipt=True)
        self.network.pump()
        (receipt,) = a.status().receipts
        self.assertEqual((receipt.sequence, receipt.epoch), (1, a.status().node.epoch))
        self.assertEqual((receipt.delivered, receipt.pending, receipt.missed), ([], [b.id.decode()], []))
        self.network.between(self.host(a), self.host(b))[1].reads = True
        self.network.advance(10)
        self.assertEqual(a.status().receipts, [])

    def test_the_history_tells_its_size_and_its_file(self) -> None:
        a = self.node()
        self.assertEqual(a.status().history.oldest_seconds, None)
        self.send(a, b"x" * 1000, after=30)
        history = a.status().history
        self.assertGreater(history.memory_bytes, 1000)
        self.assertEqual(history.memory_limit_bytes, a.config.history_bytes)
        self.assertAlmostEqual(history.oldest_seconds or 0, 30, delta=1)
        self.assertEqual((history.file, history.file_bytes, history.file_limit_bytes), (None, 0, 0))
        path = self.folder / "node.history"
        b = self.node(identity=Identity.create(self.folder / "key"), history=path)
        self.send(b, b"x" * 1000, after=30)
        history = b.status().history
        self.assertEqual(
            (history.file, history.file_limit_bytes), (str(path.absolute()), b.config.store_bytes)
        )
        self.assertGreater(history.file_bytes, 1000)

    def test_it_is_json(self) -> None:
        a, _ = self.linked(self.node(tags={"floor": "3"}), self.node(), after=1)
        encoded = msgspec.json.encode(a.status())
        self.assertEqual(msgspec.json.decode(encoded, type=Status).node, a.status().node)

    def test_a_service_that_does_not_run_has_none(self) -> None:
        self.assertRaises(NotRunning, self.make().status)


class TestWarnings(MeshCase):
    def test_a_consumer_that_nobody_has_open(self) -> None:
        a, b = self.linked(self.node(), self.node(), after=1)
        messages = b.messages(name="billing")
        self.send(a, 1, 2, after=1)
        (open_one,) = b.status().consumers
        self.assertEqual((open_one.name, open_one.lag, open_one.open), ("billing", 2, True))
        self.assertEqual(b.status().warnings, [])
        messages.close()
        (closed,) = b.status().consumers
        self.assertEqual((closed.open, closed.since_unix_seconds), (False, self.network.clock.seconds()))
        self.network.advance(59)
        self.assertEqual(b.status().warnings, [])  # its program may be between two requests
        self.network.advance(1)
        (warning,) = b.status().warnings
        self.assertEqual(
            warning,
            "nobody has the consumer 'billing' open: 2 messages were not taken, and receipts wait for it; "
            "open it, or let it go (mesh forget --consumer)",
        )
        b.forget_consumer("billing")
        self.assertEqual((b.status().consumers, b.status().warnings), ([], []))

    def test_a_consumer_that_nobody_has_open_and_nothing_waits_for(self) -> None:
        a, b = self.linked(self.node(), self.node(), after=1)
        b.messages(name="billing").close()
        self.network.advance(100)
        self.assertEqual(b.status().warnings, [])
        self.send(a, 1, after=1)
        (warning,) = b.status().warnings
        self.assertIn("'billing' open: 1 message was not taken", warning)

    def test_nothing_is_warned_of_at_the_start(self) -> None:
        self.assertEqual(self.node().status().warnings, [])

    def test_no_neighbour_and_no_peer(self) -> None:
        a = self.node()
        self.network.advance(40)
        self.assertEqual(
            a.status().warnings,
            ["no neighbour for 40 s: give this node a peer, or let another node dial it"],
        )

    def test_no_neighbour_says_why_each_peer_cannot_be_reached(self) -> None:
        other = self.node(subnet="other")
        a = self.node(peers=[self.address(other)])
        self.network.advance(40)
        (warning,) = a.status().warnings
        self.assertRegex(warning, rf"^no neighbour for 40 s: {self.address(other)}: .*subnet")

    def test_peers_that_have_not_answered_yet_are_no_reason_to_give_more(self) -> None:
        self.successResultOf(self.network.listen("10.9.9.9", 1).listen(Factory.forProtocol(Raw)))
        a = self.node(peers=["10.9.9.9:1"], limits={"handshake_timeout": 100.0})
        self.network.advance(10)
        self.assertEqual(a.status().warnings, [f"no neighbour for 10 s: {SILENT}"])

    def test_a_peer_that_fails_beside_a_neighbour(self) -> None:
        b = self.node()
        a = self.node(peers=["10.9.9.9:1", self.address(b)])
        self.network.advance(40)
        (warning,) = a.status().warnings
        failing, reached = a.status().peers
        self.assertEqual((failing.address, failing.id, reached.id), ("10.9.9.9:1", None, b.id.decode()))
        self.assertGreater(failing.failures, 1)
        self.assertIn(failing.reason, warning)
        self.assertEqual((reached.failures, reached.reason), (0, ""))
        self.assertRegex(warning, r"^a peer cannot be reached: 10\.9\.9\.9:1: ")

    def test_the_time_without_a_neighbour_begins_with_the_last(self) -> None:
        a, b = self.linked(self.node(), self.node(), after=100)
        self.stop(b)
        self.network.advance(30)
        self.assertRegex(a.status().warnings[0], r"^no neighbour for 3[0-9] s")

    def test_messages_that_are_not_taken(self) -> None:
        a, b = self.linked(self.node(), self.node(), after=1)
        self.network.between(self.host(a), self.host(b))[1].reads = False
        self.fill(a)
        self.assertIn(CONGESTED, a.status().warnings)
