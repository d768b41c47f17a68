"""Meshes that not everybody may join."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from tests.support.meshcase import PORT, Puppet, Raw, TlsCase, batch
from twisted_mesh.core.handshake import LocalNode
from twisted_mesh.core.signing import Signer
from twisted_mesh.errors import LocalError, NotAMember, TrustError
from twisted_mesh.identity import Identity
from twisted_mesh.network import Protocol
from twisted_mesh.service import MeshService
from twisted_mesh.trust.policy import Trust
from twisted_mesh.trust.shared_secret import create
from twisted_mesh.wire.broadcast import Want
from twisted_mesh.wire.membership import Presence
from twisted_mesh.wire.signed import SignedRecord


class TrustCase(TlsCase):
    def secret(self) -> Path:
        """A new file with a secret."""
        path = Path(self.mktemp())
        create(path)
        return path

    def refused(
        self, dialler: MeshService, other: MeshService, error: type[Exception], after: float = 0
    ) -> str:
        """Assert that *dialler* is refused a link with *other*; what ``connect()`` says."""
        failure = self.failure_of(dialler.connect(self.host(other), PORT), error, after=after)
        self.assertNotIn(other.id, dialler.routing_table)
        self.assertNotIn(dialler.id, other.routing_table)
        return str(failure)


def record_of(author: LocalNode, counter: int, credential: bytes) -> SignedRecord:
    """A record of *author*, which shows *credential*."""
    presence = Presence(
        author.origin, 1, counter, 1, None, 0, None, {}, 0, 30_000, 0, credential, 0, bytes(32)
    )
    return Signer(author).signed(presence)


class TestSharedSecret(TrustCase):
    def test_nodes_with_the_secret_link_and_talk(self) -> None:
        trust = Trust.secret(self.secret())
        one, middle, other = self.chain(3, trust=trust)
        self.send(one, "for those inside")
        self.assertEqual([self.got(node) for node in (middle, other)], [["for those inside"]] * 2)

    def test_a_node_with_another_secret_is_refused_and_says_why_itself(self) -> None:
        inside, outside = (self.node(trust=Trust.secret(self.secret())) for _ in range(2))
        said = self.refused(outside, inside, NotAMember)
        self.assertIn("closed at our knock: the secret differs, or it is no node of this mesh", said)
        self.assertEqual((self.reasons(outside), self.reasons(inside)), (["trust"], ["trust"]))
        self.assertEqual(len(self.log("no right knock: the peer has another secret")), 1)

    def test_a_stranger_gets_no_byte_whatever_it_says(self) -> None:
        inside = self.node(trust=Trust.secret(self.secret()))
        for opening in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x05\x17\0\x91\xc4\0", bytes(20_000), bytes(60)):
            stranger: Raw = self.dial(Raw(), inside)
            self.network.pump()
            stranger.write(opening)
            self.network.pump()
            self.assertEqual((stranger.received, stranger.lost is not None), (b"", True))
        silent: Raw = self.dial(Raw(), inside)
        self.network.advance(inside.config.handshake_timeout + 0.1)
        self.assertEqual((silent.received, silent.lost is not None), (b"", True))
        self.assertEqual(inside.routing_table, {})

    def test_a_node_without_a_secret_says_within_two_seconds_that_it_may_want_one(self) -> None:
        inside, outside = self.node(trust=Trust.secret(self.secret())), self.node()
        waiting = outside.connect(self.host(inside), PORT)
        self.network.advance(2.0)
        self.assertEqual(len(self.log("it may want a secret")), 1)
        said = str(self.failure_of(waiting, Exception, after=outside.config.handshake_timeout))
        self.assertIn("it may want a secret", said)

    def test_a_node_with_a_secret_says_nothing_to_a_node_without_one(self) -> None:
        inside, outside = self.node(trust=Trust.secret(self.secret())), self.node()
        said = self.refused(inside, outside, NotAMember)
        self.assertIn("does not know the secret of this mesh", said)

    def test_an_unusable_file_is_an_error_before_anything_listens(self) -> None:
        self.assertRaises(TrustError, self.node, trust=Trust.secret(Path(self.mktemp())))
        self.assertEqual(self.network.ports, {})

    def test_a_link_without_encryption_proves_nothing_and_is_refused(self) -> None:
        path = self.secret()
        error = self.assertRaises(LocalError, self.node, trust=Trust.secret(path), encryption="Plaintext")
        self.assertIn("encryption='SSL'", str(error))
        self.assertRaises(LocalError, self.node, trust=os.fspath(path))

    def test_the_name_of_the_subnet_still_counts(self) -> None:
        trust = Trust.secret(self.secret())
        one, other = self.node(trust=trust), self.node(trust=trust, subnet="another")
        self.assertIn("closed at our knock", self.refused(one, other, NotAMember))


class TestAuthors(TrustCase):
    """A member passes on what authors have signed that have not shown that they have the secret."""

    def setUp(self) -> None:
        super().setUp()
        self.trust = Trust.secret(self.secret())
        self.policy = self.trust.load(Protocol(), self.network.clock.seconds, 1.0)
        self.near, self.far = self.chain(2, trust=self.trust)
        self.relay: Puppet = self.joined(self.near, policy=self.policy)
        self.author = self.puppet(policy=self.policy).me

    def test_a_message_is_taken_and_passed_on_once_its_author_has_shown_its_credential(self) -> None:
        self.send_frames(self.relay, batch(self.author, 1, "first"), after=1)
        self.assertEqual([self.got(node) for node in (self.near, self.far)], [[], []])
        (want,) = [frame for frame in self.relay.frames() if isinstance(frame, Want)]
        self.assertEqual((want.origin, want.first, want.last), (self.author.origin, 2, 1))
        self.send_frames(self.relay, record_of(self.author, 1, b""), after=1)
        self.send_frames(
            self.relay, record_of(self.author, 2, self.policy.credential(self.far.id[:32])), after=1
        )
        self.assertEqual([self.got(node) for node in (self.near, self.far)], [[], []])
        self.assertNotIn(self.author.id, {**self.near.members, **self.far.members})
        self.assertEqual(self.near.dropped["refused_authors"], 2)
        self.send_frames(
            self.relay, record_of(self.author, 3, self.policy.credential(self.author.origin)), after=1
        )
        self.assertEqual([self.got(node) for node in (self.near, self.far)], [["first"]] * 2)
        self.assertIn(self.author.id, self.far.members)
        self.assertIsNone(self.relay.lost)


class ReloadCase(TrustCase):
    """Nodes each of which has a file of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.files: dict[MeshService, Path] = {}
        self.old, self.new = (self.secret().read_text() for _ in range(2))

    def with_file(
        self, content: str, mode: Callable[[Path], Trust] = Trust.secret, **options: Any
    ) -> MeshService:
        """A node whose file has *content*."""
        path = Path(self.mktemp())
        path.write_text(content)
        path.chmod(0o600)
        node = self.keyed(trust=mode(path), **options)
        self.files[node] = path
        return node

    def write(self, node: MeshService, content: str) -> None:
        """Write the file of *node* again, and have it read."""
        self.files[node].write_text(content)
        node.reload_trust()
        self.network.pump()


class TestRotation(ReloadCase):
    def test_the_three_steps_lose_no_message_of_the_living_or_the_dead(self) -> None:
        nodes = [self.with_file(self.old) for _ in range(4)]
        dead = self.with_file(self.old)
        ring = [*nodes, nodes[0]]
        self.link(*pairwise(ring))
        self.link((dead, nodes[0]))
        self.unlink_for_ever(nodes[3], nodes[0])
        self.send(dead, "before it died", after=1)
        self.kill(dead)
        sent = 0
        for content in (self.old + self.new, self.new + self.old, f"{self.new}retired {self.old}"):
            for node in nodes:
                self.write(node, content)
                for author in nodes:
                    author.send(f"message {sent}")
                    sent += 1
                self.network.advance(0.5)
        self.network.advance(40)
        for node in nodes:
            others = [f"message {at}" for at in range(sent) if nodes[at % 4] is not node]
            self.assertEqual(sorted(self.got(node)), sorted(["before it died", *others]))
            self.assertEqual(self.happened(node, "gap"), [])
        newcomer = self.with_file(self.new + f"retired {self.old}", replay="all")
        self.link((newcomer, nodes[2]), after=2)
        self.assertIn("before it died", self.got(newcomer))
        self.assertEqual(len(self.got(newcomer)), sent + 1)
        outside = self.with_file(self.old)
        self.assertIn("closed at our knock", self.refused(outside, nodes[1], NotAMember))

    def unlink_for_ever(self, one: MeshService, other: MeshService) -> None:
        """End a link that is dialled no more, so that the nodes are a chain."""
        one.stop_dialling(self.host(other), PORT)
        self.unlink(one, other)

    def test_links_by_a_secret_that_is_struck_out_are_closed(self) -> None:
        a, b = self.linked(self.with_file(self.old + self.new), self.with_file(self.old))
        self.write(a, self.new)
        self.assertTrue(self.log("not in use any more"))
        self.network.advance(30)
        self.assertEqual((dict(a.routing_table), dict(b.routing_table)), ({}, {}))
        self.write(b, self.old + self.new)
        self.network.advance(60)
        self.assertIn(b.id, a.routing_table)

    def test_a_newcomer_gets_what_a_member_had_said_that_nobody_remembers(self) -> None:
        trust = Trust.secret(self.secret())
        one, gone = self.linked(self.keyed(trust=trust), self.node(trust=trust))
        self.send(gone, "and went", after=6)
        self.stop(gone, after=400)
        self.assertEqual(dict(one.members), {})
        newcomer, far = self.keyed(trust=trust, replay="all"), self.keyed(trust=trust, replay="all")
        self.link((newcomer, one), after=2)
        self.link((far, newcomer), after=2)
        self.assertEqual([self.got(node) for node in (newcomer, far)], [["and went"]] * 2)
        self.assertEqual(set(far.members), {one.id, newcomer.id})

    def test_when_its_time_is_over_a_retired_secret_ends_by_itself(self) -> None:
        limits = {"store_seconds": 60.0, "history_seconds": 60.0}
        node, dead = self.linked(*(self.with_file(self.old, limits=limits) for _ in range(2)), after=6)
        self.write(node, f"{self.new}retired {self.old}")
        os.utime(self.files[node], times=(self.network.clock.seconds(),) * 2)
        node.reload_trust()
        self.kill(dead)
        self.network.advance(50)
        self.assertIn(dead.id, node.members)
        self.network.advance(20)
        self.assertNotIn(dead.id, node.members)

    def test_an_unusable_file_changes_nothing(self) -> None:
        a, b = self.linked(self.with_file(self.old), self.with_file(self.old))
        self.assertRaises(TrustError, self.write, a, "short")
        self.network.advance(20)
        self.assertEqual(len(self.log("stays in force")), 1)
        self.send(a, "goes on")
        self.assertEqual(self.got(b), ["goes on"])
        self.files[a].write_text(self.old)
        self.network.advance(20)
        self.assertEqual(len(self.log("stays in force")), 1)

    def test_without_files_there_is_nothing_to_read_again(self) -> None:
        node = self.node()
        node.reload_trust()
        self.assertTrue(node.trust.is_open)
        self.assertEqual(node.status().node.trust, "everybody")

    def test_no_secret_is_shown_anywhere(self) -> None:
        lines: list[Any] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        inside = self.with_file(self.old + self.new, debug_level=5)
        other = self.with_file(self.old, debug_level=5)
        outside = self.with_file(self.secret().read_text(), debug_level=5)
        self.linked(inside, other)
        self.refused(outside, inside, NotAMember)
        self.assertRaises(TrustError, self.write, inside, self.old + self.old)
        self.files[inside].write_text(self.old[:40])
        try:
            inside.reload_trust()
        except TrustError:
            failure = Failure(captureVars=True)
        self.send(inside, "a message")
        parts = self.parts_of(inside)
        shown = [
            *map(formatEvent, lines),
            *map(repr, lines),
            *map(repr, (vars(inside), vars(parts), inside.trust, inside.status(), inside.footprint())),
            repr(parts.driver.local_node()), repr(vars(parts._settings.policy)),
            failure.getTraceback(detail="verbose"),
        ]  # fmt: skip
        secret = self.old.split()[0]
        raw = repr(bytes.fromhex(secret))[2:-1]
        for text in shown:
            for part in (secret[:16], secret[-16:], raw[:16]):
                self.assertNotIn(part, text)


class TestLists(ReloadCase):
    """Nodes that a list names."""

    def named(self, count: int, **options: Any) -> list[MeshService]:
        """So many nodes in a row; each has a list of all."""
        keys = [Identity.create(self.mktemp()) for _ in range(count)]
        self.all = "".join(f"{key.id.decode()} # node {at}\n" for at, key in enumerate(keys))
        nodes = []
        for key in keys:
            path = Path(self.mktemp())
            path.write_text(self.all)
            path.chmod(0o644)
            nodes.append(self.node(identity=key, trust=Trust.only(path), **options))
            self.files[nodes[-1]] = path
        return self.linked(*nodes)

    def without(self, node: MeshService) -> str:
        """The list of all but *node*."""
        return "".join(line for line in self.all.splitlines(keepends=True) if node.id.decode() not in line)

    def test_nodes_on_the_list_link_and_talk_and_others_are_told_why_not(self) -> None:
        one, other = self.named(2)
        self.send(one, "for those on the list")
        self.assertEqual(self.got(other), ["for those on the list"])
        stranger = self.with_file(self.all, Trust.only)
        said = self.refused(stranger, one, NotAMember)
        self.assertIn("does not have", said)
        self.write(stranger, f"{self.all}{stranger.id.decode()}")
        said = self.refused(stranger, one, NotAMember)
        self.assertIn(f"the peer closed: the list of members does not have {stranger.id.decode()}", said)
        self.assertEqual(self.reasons(one), ["trust", "trust"])

    def test_whoever_is_struck_out_goes_and_its_messages_are_taken_no_more(self) -> None:
        one, middle, other = self.named(3)
        self.send(other, "before", after=6)
        for node in (one, middle):
            self.write(node, self.without(other))
        self.assertEqual((self.reasons(other), list(middle.routing_table)), ([], [one.id]))
        self.assertTrue(self.log(f"does not have {other.id.decode()}"))
        self.assertNotIn(other.id, one.members)
        self.send(other, "after")
        self.send(middle, "among those who stay", after=60)
        self.assertEqual(self.got(one), ["before", "among those who stay"])
        self.assertEqual(dict(other.routing_table), {})

    def test_an_honest_relay_with_another_list_is_not_blamed_and_both_are_warned(self) -> None:
        one, middle, other = self.named(3)
        self.network.advance(6)
        self.assertEqual(self.log("other lists"), [])
        self.write(one, self.without(other))
        self.send(other, "relayed by the middle", after=35)
        self.send(middle, "goes on", after=1)
        self.assertEqual(self.got(one), ["goes on"])
        self.assertIn(middle.id, one.routing_table)
        warned = self.log("other lists")
        for node in (one, middle):
            self.assertEqual(
                len([line for line in warned if node.id.decode()[:8] in line]), 1 if node is middle else 2
            )

    def test_a_list_is_read_again_when_it_has_changed(self) -> None:
        one, other = self.named(2)
        self.files[one].write_text(self.without(other))
        self.network.advance(2 * one.config.trust_interval)
        self.assertEqual(dict(one.routing_table), {})

    def test_a_node_that_starts_again_goes_by_the_list_of_now(self) -> None:
        one, other = self.named(2)
        for content in (self.without(other), "no id"):  # a list that cannot be used changes nothing
            self.stop(one)
            self.files[one].write_text(content)
            one.startService()
            self.assertIn("does not have", self.refused(other, one, NotAMember))
        self.network.advance(4 * one.config.trust_interval)
        told = self.log(
            "is not the id of a node, as mesh id prints it; what was read before stays in force"
        )
        self.assertEqual(len(told), 1)

    def test_what_was_held_before_is_still_served(self) -> None:
        _, middle, other = self.named(3)
        self.send(other, "held", after=6)
        self.write(middle, self.without(other))
        late = self.with_file(f"{self.all}", Trust.only, replay="all")
        for node in (middle, late):
            self.write(node, f"{self.files[node].read_text()}{late.id.decode()}\n")
        self.link((late, middle), after=2)
        self.assertEqual(self.got(late), ["held"])

    def test_whoever_is_denied_is_out_though_everybody_else_may_join(self) -> None:
        one, other, denied = self.node(), self.node(), self.node()
        guard = self.with_file(denied.id.decode(), Trust.deny)
        self.link((one, guard), (other, guard))
        said = self.refused(denied, guard, NotAMember)
        self.assertIn("a list of denied nodes has", said)
        self.link((denied, one))
        self.send(denied, "not for the guard", after=6)
        self.assertEqual([self.got(node) for node in (one, guard)], [["not for the guard"], []])
        self.assertNotIn(denied.id, guard.members)
