"""Meshes of the nodes to which an authority has given grants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tests.service.test_trust import TrustCase
from tests.support.meshcase import PORT
from twisted_mesh import flags
from twisted_mesh.cli.tree import has_everybody
from twisted_mesh.errors import (
    LocalError,
    NotAMember,
    RemoteError,
    SubnetMismatch,
    TrustError,
    Unreachable,
)
from twisted_mesh.identity import Identity
from twisted_mesh.network import Policy, Protocol
from twisted_mesh.service import MeshService
from twisted_mesh.trace import Trace
from twisted_mesh.trust.authority import roles_of
from twisted_mesh.trust.grants import AuthorityFiles
from twisted_mesh.trust.policy import Trust
from twisted_mesh.wire.authority import Cut
from twisted_mesh.wire.membership import Roster

PAGE = " ".join((Path(__file__).parent.parent.parent / "docs" / "trust.rst").read_text().split())


class AuthorityCase(TrustCase):
    """A mesh with an authority."""

    def setUp(self) -> None:
        super().setUp()
        self.key, self.authority = self.new_authority()
        self.grants: dict[MeshService, Path] = {}
        self.identities: dict[MeshService, Identity] = {}

    def new_authority(self, subnet: str = "mesh") -> tuple[Path, AuthorityFiles]:
        """A new authority, and the file of its public key."""
        path = Path(self.mktemp())
        files = AuthorityFiles.create(path, subnet)
        return path.with_name(f"{path.name}.pub"), files

    def grant(
        self, identity: Identity, roles: str = "link,author", by: AuthorityFiles | None = None
    ) -> Path:
        """The file of a grant for the node with that key."""
        path = Path(self.mktemp())
        (by or self.authority).grant(identity.id.decode(), roles_of(roles), path)
        return path

    def granted(self, roles: str = "link,author", **options: Any) -> MeshService:
        """A node with a grant."""
        identity = options.pop("identity", None) or Identity.create(self.mktemp())
        grant = options.pop("grant", None) or self.grant(identity, roles)
        trust = Trust.authority(self.key, grant)
        node = self.node(identity=identity, trust=trust, **options)
        self.grants[node], self.identities[node] = grant, identity
        return node

    def policy(self, identity: Identity, roles: str = "link,author") -> Any:
        """The policy of a scripted peer with that key."""
        trust = Trust.authority(self.key, self.grant(identity, roles))
        return trust.load(Protocol(), self.network.clock.seconds, 1.0)


class TestAuthority(AuthorityCase):
    def test_nodes_with_a_grant_link_and_talk(self) -> None:
        one, middle, other = self.linked(*(self.granted() for _ in range(3)))
        self.send(one, "for those with a grant")
        self.assertEqual([self.got(node) for node in (middle, other)], [["for those with a grant"]] * 2)
        self.assertEqual(set(one.members), {middle.id, other.id})
        self.assertEqual(one.status().node.trust, "nodes with a grant of the authority")
        self.assertEqual(one.footprint()["grants"], 2)

    def test_a_member_that_may_only_listen_is_not_asked_and_cannot_ask(self) -> None:
        one, other, mute = self.linked(
            self.granted(), self.granted(), self.granted("link,listen-only"), after=6
        )
        receipt = one.send("fire", receipt=True)
        self.network.advance(1)
        assert receipt.id is not None
        traced: Trace = self.result_of(one.trace(receipt.id), after=1)
        states = {step.id: step.state for step in traced.steps}
        ids = [node.id.decode() for node in (one, other, mute)]
        self.assertEqual([states[each] for each in ids], ["came", "came", "listens"])
        self.assertTrue(has_everybody(msgspec.to_builtins(traced)))
        told = {each.id: each.state for each in self.result_of(one.graph(), after=1)}
        self.assertEqual([told[each] for each in ids], ["up", "up", "listens"])
        for ask in (lambda: mute.trace(receipt.id), mute.graph):
            self.assertIn("listen only", str(self.assertRaises(TrustError, ask)))

    def test_a_node_without_the_authority_is_of_another_network(self) -> None:
        inside = self.granted()
        for outside in (self.node(), self.node(trust=Trust.secret(self.secret()))):
            waiting = outside.connect(self.host(inside), PORT)
            self.failure_of(waiting, Exception, after=outside.config.handshake_timeout + 1)
            self.assertEqual(dict(inside.routing_table), {})

    def test_a_node_of_another_authority_is_of_another_network(self) -> None:
        inside = self.granted()
        self.key, self.authority = self.new_authority()
        self.refused(self.granted(), inside, SubnetMismatch)
        self.assertTrue(self.log("trust 'authority="))

    def test_whoever_has_stolen_a_grant_has_not_the_key_it_is_for(self) -> None:
        inside, victim = self.linked(self.granted(), self.granted())
        thief = Identity.generate()
        stolen = self.policy(self.identities[victim])
        puppet = self.met(inside, identity=thief, policy=stolen)
        self.network.advance(1)
        self.assertIsNotNone(puppet.lost)
        self.assertNotIn(thief.id, inside.routing_table)
        self.assertTrue(self.log(f"is of {victim.id.decode()}"))
        self.assertEqual([frame for frame in puppet.frames() if isinstance(frame, Roster)], [])

    def test_a_node_that_has_no_grant_of_its_own_does_not_start(self) -> None:
        someone, me = Identity.generate(), Identity.create(self.mktemp())
        grant = self.grant(someone)
        said = str(self.assertRaises(TrustError, self.granted, identity=me, grant=grant))
        self.assertIn(f"is of the node {someone.id.decode()}, and this node is {me.id.decode()}", said)
        error = self.assertRaises(TrustError, self.granted, "link,guest")
        self.assertIn("start it with the role guest", str(error))
        trust = Trust.authority(self.key, self.grant(me))
        self.assertRaises(LocalError, self.node, trust=trust, identity=me, encryption="Plaintext")
        self.assertEqual(self.network.ports, {})

    def test_a_guest_is_on_no_roster_and_is_heard(self) -> None:
        member, guest = self.linked(self.granted(), self.granted("link,guest", role="guest"))
        self.send(guest, "from a guest")
        self.assertEqual(self.got(member), ["from a guest"])
        self.assertEqual(dict(member.members), {})

    def test_a_node_that_may_only_listen_is_a_member_and_sends_nothing(self) -> None:
        member, listener, far = self.linked(
            self.granted(), self.granted("link,listen-only"), self.granted(), after=6
        )
        receipt = member.send("heard?", receipt=True)
        self.network.advance(2)
        self.assertEqual(receipt.delivered, {listener.id, far.id})
        (link, _) = listener.routing_table.values()
        for send in (
            lambda: listener.send("no"),
            lambda: listener.send("no", flag=flags.whisper),
            lambda: listener.send_to(far.id, "no"),
            lambda: listener.request(far.id, "no"),
            lambda: listener.query("no"),
            lambda: listener.ping(far.id),
            lambda: link.whisper("no"),
        ):
            self.assertIn("listen only", str(self.assertRaises(TrustError, send)))
        self.assertEqual((self.got(member), self.got(far)), ([], ["heard?"]))

    def test_a_new_grant_is_shown_at_once(self) -> None:
        member, listener = self.linked(self.granted(), self.granted("link,listen-only"), after=6)
        identity = self.identities[listener]
        self.grants[listener].write_text(self.grant(identity).read_text())
        listener.reload_trust()
        self.send(listener, "now I may", after=1)
        self.assertEqual(self.got(member), ["now I may"])
        self.grants[listener].write_text("damaged")
        self.network.advance(20)
        self.assertEqual(len(self.log("stays in force")), 1)

    def test_a_grant_to_listen_only_counts_in_the_turn_in_which_it_is_read(self) -> None:
        one, other = self.linked(self.granted(), self.granted(), after=6)

        def listen_only(node: MeshService) -> None:
            node.send("while it may")
            self.grants[node].write_text(self.grant(self.identities[node], "link,listen-only").read_text())
            node.reload_trust()
            self.assertRaises(TrustError, node.send, "no")

        other.on("message", lambda _: listen_only(other))
        self.send(one, "calls the listener")
        self.assertEqual((self.got(other), self.happened(other, "failure")), (["calls the listener"], []))
        listen_only(one)

    def test_modes_combine(self) -> None:
        secret = self.secret()
        nodes = []
        for _ in range(2):
            identity = Identity.create(self.mktemp())
            trust = Trust.authority(self.key, self.grant(identity)) & Trust.secret(secret)
            nodes.append(self.node(identity=identity, trust=trust))
        one, other = self.linked(*nodes)
        self.send(one, "for those with both")
        self.assertEqual(self.got(other), ["for those with both"])
        outside = self.granted()
        waiting = outside.connect(self.host(one), PORT)
        self.failure_of(waiting, Exception, after=outside.config.handshake_timeout + 1)
        self.assertNotIn(outside.id, one.routing_table)


class TestPage(AuthorityCase):
    """Those who are out read the words of docs/trust.rst."""

    def test_a_peer_without_a_grant_is_told_so(self) -> None:
        inside, identity = self.granted(), Identity.generate()
        policy = self.policy(identity)
        policy.content = policy.content._replace(grant=bytes(64) + policy.grant[64:])
        for grant, words in (
            (policy.grant, "has not signed the grant"),
            (None, "shows no grant of the mesh's"),
        ):
            if grant is None:
                policy = Silent(policy)
            puppet = self.met(inside, identity=identity, policy=policy)
            self.network.advance(1)
            self.assertIsNotNone(puppet.lost)
            self.assertTrue(self.log(words), words)
        self.assertIn("``shows no grant of the mesh's authority``", PAGE)
        self.assertEqual(dict(inside.routing_table), {})


class Silent(Policy):
    """The policy of a node that is of the network, and shows no grant."""

    def __init__(self, other: Policy) -> None:
        self.mode = other.mode


class TestRemoval(AuthorityCase):
    """A member is removed from a mesh that runs."""

    def remove(self, member: MeshService, *, at: MeshService, after: float = 1) -> bytes:
        """Have the authority remove *member*, by way of the node *at*; the policy."""
        key, ends = at.runs_of(member.id)
        packed = self.authority.remove(key, [Cut(*end) for end in ends])
        at.take_policy(packed)
        self.network.advance(after)
        return packed

    def test_a_removed_member_is_out_and_its_last_messages_are_the_same_for_all(self) -> None:
        one, middle, far, gone = self.linked(*(self.granted() for _ in range(4)), after=6)
        self.send(gone, "before", after=1)
        self.remove(gone, at=one)
        self.assertEqual([node.id in far.routing_table for node in (middle, gone)], [True, False])
        for node in (one, middle, far):
            self.assertEqual(self.got(node), ["before"])
            self.assertNotIn(gone.id, node.members)
            self.assertEqual(self.happened(node, "failure"), [])
        self.assertTrue(self.log("policy 1 of the authority, which has removed 1 node"))
        said = self.refused(gone, one, NotAMember)
        self.assertIn(f"policy 1 of the authority has removed {gone.id.decode()}", said)
        self.assertIn("``policy 1 of the authority has removed``", PAGE)
        self.send(one, "goes on", after=1)
        self.assertEqual([self.got(node) for node in (middle, far)], [["before", "goes on"]] * 2)
        self.assertEqual(self.got(gone), [])

    def test_who_had_delivered_more_says_so_and_others_deliver_up_to_the_cut(self) -> None:
        one, middle, gone = self.linked(*(self.granted() for _ in range(3)), after=6)
        self.send(gone, "first", after=1)
        self.unlink_for_ever(one, middle)
        self.send(gone, "second", "third", after=1)
        self.assertEqual(
            [self.got(node) for node in (one, middle)], [["first"], ["first", "second", "third"]]
        )
        packed = self.remove(gone, at=one)
        middle.take_policy(packed)
        self.network.advance(1)
        (failure,) = self.happened(middle, "failure")
        self.assertIn("messages 2 to 3 of", str(failure))
        self.assertIn("were delivered here and are not elsewhere", str(failure))
        self.link((one, middle), after=90)
        self.assertEqual(self.got(one), ["first"])
        self.assertEqual(self.happened(one, "gap") + self.happened(middle, "gap"), [])
        newcomer = self.granted(replay="all")
        self.link((newcomer, middle), after=3)
        self.assertEqual(self.got(newcomer), ["first"])

    def unlink_for_ever(self, one: MeshService, other: MeshService) -> None:
        """End a link that is dialled no more."""
        one.stop_dialling(self.host(other), PORT)
        self.unlink(one, other)

    def test_a_node_that_was_removed_itself_sends_nothing_more(self) -> None:
        one, gone = self.linked(self.granted(), self.granted(), after=6)
        packed = self.remove(gone, at=one)
        gone.take_policy(packed)
        self.assertIn("has removed this node", str(self.assertRaises(TrustError, gone.send, "no")))

    def test_after_a_restart_no_older_policy_is_believed(self) -> None:
        one, gone, other = self.linked(*(self.granted() for _ in range(3)), after=6)
        older = self.remove(other, at=one)
        self.remove(gone, at=one)
        again = self.restarted(one)
        self.assertEqual(len(again.authority_policy), len(one.authority_policy))
        again.take_policy(older)
        self.assertIn("has removed", self.refused(gone, again, NotAMember))
        self.network.advance(1)
        self.assertNotIn(gone.id, again.routing_table)

    def restarted(self, node: MeshService) -> MeshService:
        """*node* after a crash: another service with its key."""
        self.kill(node)
        path = self.identities[node].path
        assert path is not None
        return self.granted(identity=Identity.load(path), grant=self.grants[node])

    def test_an_exchange_brings_the_policy_too(self) -> None:
        one, gone = self.linked(self.granted(), self.granted(), after=6)
        alone = self.granted()
        self.remove(gone, at=one)
        self.link((alone, one), after=1)
        self.assertEqual(alone.authority_policy, one.authority_policy)
        self.assertNotEqual(alone.authority_policy, b"")

    def test_a_policy_that_cannot_be_kept_is_in_force_and_a_failure(self) -> None:
        one, gone = self.linked(self.granted(), self.granted(), after=6)
        path = self.identities[one].path
        assert path is not None
        path.with_name(f"{path.name}.policy").mkdir()
        self.remove(gone, at=one)
        self.assertNotIn(gone.id, one.routing_table)
        (failure,) = self.happened(one, "failure")
        self.assertIn("may believe an older one", str(failure))
        self.assertRaises(RemoteError, one.take_policy, bytes(200))
        self.assertRaises(Unreachable, one.runs_of, b"nobody")

    def test_a_history_file_ends_at_the_cut_too(self) -> None:
        file = self.mktemp()
        one, other, gone = self.linked(self.granted(), self.granted(history=file), self.granted(), after=6)
        self.send(gone, "first", after=1)
        key, ends = one.runs_of(gone.id)
        self.send(gone, "second", after=1)
        other.take_policy(self.authority.remove(key, [Cut(*end) for end in ends]))
        self.network.advance(1)
        self.assertEqual(self.got(other), ["first", "second"])
        self.stop(other)
        path = self.identities[other].path
        assert path is not None
        again = self.granted(identity=Identity.load(path), grant=self.grants[other], history=file)
        newcomer = self.granted(replay="all")
        self.link((newcomer, again), after=3)
        self.assertEqual((self.got(again), self.got(newcomer)), ([], ["first"]))
        self.assertEqual(self.happened(again, "failure"), [])
