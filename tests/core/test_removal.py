"""Nodes that the mesh's authority removes, and the ends of their runs."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from msgspec import structs

from tests.core.membership_case import MembershipTestCase
from tests.core.network import (
    batch,
    have,
    local_node,
    of,
    origin_of,
    presence,
    want,
)
from tests.core.test_policy import TestPolicy
from twisted_mesh.core import node
from twisted_mesh.core.events import (
    CutShort,
    Effect,
    GapFound,
    MemberGone,
    PolicyGiven,
    PolicyTaken,
)
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.identity import id_of
from twisted_mesh.network import Cuts
from twisted_mesh.wire.authority import Policy as PolicyFrame
from twisted_mesh.wire.broadcast import Digest
from twisted_mesh.wire.membership import Roster

CLEO = origin_of("cleo")


def policy(number: int) -> PolicyFrame:
    """The policy with that number."""
    return PolicyFrame(bytes(64), bytes((number,)))


class RemovingPolicy(TestPolicy):
    """A policy by which the authority has removed nodes; number 0 is forged.

    :ivar ends: what the next policy says.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[bytes, Cuts] = {}
        self._removed: Mapping[bytes, Cuts] = {}
        self._newest = b""

    @property
    def newest(self) -> bytes:
        return self._newest

    @property
    def removed(self) -> Mapping[bytes, Cuts]:
        return self._removed

    def take(self, packed: bytes) -> bool:
        if packed[64:] == b"\0":
            raise RemoteError("forged", Reason.SIGNATURE)
        if packed <= self._newest:
            return False
        self._newest, self._removed = packed, dict(self.ends)
        return True

    def may_speak(self, origin: bytes, credential: bytes) -> bool:
        return origin not in self._removed and super().may_speak(origin, credential)

    def why_not_granted(self, origin: bytes, grant: bytes, is_guest: bool) -> str | None:
        return "removed" if origin in self._removed else None


class RemovalCase(MembershipTestCase):
    """A node that is linked with Anna and Bert; Cleo is a member, whose messages Anna brings."""

    def setUp(self) -> None:
        self.policy = RemovingPolicy()
        self.manner = {"policy": self.policy}
        super().setUp()
        self.star("anna", "bert")
        for number, name in ((1, "anna"), (2, "bert"), (1, "cleo")):
            credential = self.policy.credential(origin_of(name))
            self.receive(number, presence(name, credential=credential))

    def removed(self, ends: Cuts, number: int = 1, link: int = 2) -> list[Effect]:
        """Let *link* bring the policy that removes Cleo, with those ends; the effects."""
        self.policy.ends = {CLEO: ends}
        return self.receive(link, policy(number))

    def bring(self, *firsts: int) -> list[Effect]:
        """Let Anna bring messages of Cleo."""
        return self.receive(1, *(batch("cleo", first) for first in firsts))

    def hash(self, first: int) -> bytes:
        """The hash of the header of a message of Cleo."""
        return batch("cleo", first).header.hash

    def short(self, effects: list[Effect]) -> list[tuple[int, int]]:
        """The messages that were delivered and are not to be."""
        return [(cut.first, cut.last) for cut in of(effects, CutShort)]


class TestPolicies(RemovalCase):
    def test_a_newer_policy_is_handed_on_over_all_links_but_the_one_it_came_over(self) -> None:
        effects = self.receive(2, policy(3))
        self.assertEqual(
            [of(self.all_frames(effects, at), PolicyFrame) for at in (1, 2)], [[policy(3)], []]
        )
        self.assertEqual(len(of(effects, PolicyTaken)), 1)
        for same in (3, 2):
            self.assertEqual(of(self.receive(1, policy(same)), PolicyTaken), [])
        effects = self.handle(PolicyGiven(policy(4).packed))
        self.assertEqual(
            [of(self.all_frames(effects, at), PolicyFrame) for at in (1, 2)], [[policy(4)]] * 2
        )

    def test_nobody_shows_its_credential_again_for_it(self) -> None:
        self.assertEqual(self.presences(self.receive(2, policy(3)), 1), [])

    def test_a_new_link_is_told_the_newest_before_the_roster(self) -> None:
        self.receive(1, policy(3))
        frames = self.all_frames(self.open(3, "dora"), 3)
        kinds = [type(frame) for frame in frames]
        self.assertLess(kinds.index(PolicyFrame), kinds.index(Roster))

    def test_a_removed_node_is_delivered_up_to_its_cut_though_it_may_only_listen(self) -> None:
        self.bring(1)
        self.policy.listeners = {CLEO}
        self.assertEqual(self.delivered(self.bring(2)), [])
        self.removed({1: (2, self.hash(2))})
        self.assertEqual([first for first, _ in self.delivered(self.bring(2, 3))], [2])

    def test_a_forged_policy_ends_its_link(self) -> None:
        effects = self.receive(1, policy(0))
        self.assertEqual(self.closed(effects), [(1, Reason.SIGNATURE)])
        self.assertEqual(of(effects, PolicyTaken), [])

    def test_a_removed_node_has_no_link_and_is_on_no_roster(self) -> None:
        self.policy.ends = {origin_of("bert"): {}, CLEO: {}}
        effects = self.receive(1, policy(1))
        self.assertEqual(self.closed(effects), [(2, Reason.TRUST)])
        self.assertEqual({gone.origin for gone in of(effects, MemberGone)}, {origin_of("bert"), CLEO})
        credential = self.policy.credential(CLEO)
        self.receive(1, presence("cleo", 2, credential=credential))
        self.assertIsNone(self.state("cleo"))


class TestCuts(RemovalCase):
    def test_what_is_at_or_under_the_cut_is_delivered_and_nothing_beyond(self) -> None:
        self.bring(1)
        effects = self.removed({1: (3, self.hash(3))})
        self.assertEqual(self.short(effects), [])
        effects = self.bring(2, 4, 3, 5)
        self.assertEqual(self.delivered(effects), [(2, [2]), (3, [3])])
        self.assertEqual(self.sent(effects, 2), [(2, 2), (3, 3)])
        self.assertEqual(self.closed(effects), [])
        self.assertEqual(self.node.counts["beyond_cut"], 2)

    def test_messages_before_the_cut_that_are_missing_are_asked_for(self) -> None:
        self.bring(1)
        self.removed({1: (3, b"")})
        self.assertTrue(self.node.history.has_hole((CLEO, 1)))
        effects = self.receive(1, have("cleo", 1, 9)) + self.wait(2)
        self.assertEqual(self.wants(effects, 1)[0], ("cleo", 2, 3))

    def test_who_had_delivered_more_says_so_once_and_holds_no_more_of_it(self) -> None:
        self.bring(1, 2, 3, 4)
        effects = self.removed({1: (2, self.hash(2))})
        self.assertEqual(self.short(effects), [(3, 4)])
        self.assertEqual(self.node.history.head((CLEO, 1)), 2)
        self.assertEqual(self.sent(self.receive(1, want("cleo", 1)), 1), [(1, 1), (2, 2)])
        self.assertEqual(self.delivered(self.bring(3, 4)), [])
        self.policy.ends = {origin_of("emil"): {}}
        self.assertEqual(self.short(self.removed({1: (2, self.hash(2))}, 2)), [])
        self.assertEqual(self.node.history.get((CLEO, 1)).hash, self.hash(2))  # type: ignore[union-attr]

    def test_a_later_cut_that_is_higher_delivers_nothing_again(self) -> None:
        self.bring(1, 2, 3)
        self.removed({1: (1, b"")})
        self.assertEqual(self.short(self.removed({1: (4, b"")}, 2)), [])
        effects = self.bring(2, 3, 4)
        self.assertEqual(self.delivered(effects), [(4, [4])])
        self.assertEqual(self.node.history.head((CLEO, 1)), 4)

    def test_all_show_the_same_head_whatever_they_had_delivered(self) -> None:
        self.bring(1, 2, 3)
        self.removed({1: (2, self.hash(2))})
        mine = self.node._broadcast.frontier.digest()
        self.setUp()
        self.bring(1, 2)
        self.removed({1: (2, self.hash(2))})
        self.assertEqual(self.node._broadcast.frontier.digest(), mine)
        self.assertIsInstance(mine, Digest)

    def test_batches_that_wait_beyond_the_cut_are_dropped(self) -> None:
        self.bring(1, 3, 6)
        before = self.node.footprint()["waiting_bytes"]
        effects = self.removed({1: (3, b"")})
        self.assertEqual(self.short(effects), [])
        self.assertLess(self.node.footprint()["waiting_bytes"], before)
        self.assertEqual(self.delivered(self.bring(2)), [(2, [2]), (3, [3])])
        self.assertEqual(of(self.wait(60), GapFound), [])

    def test_another_batch_than_the_one_at_the_cut_is_not_taken(self) -> None:
        self.bring(1)
        self.removed({1: (2, bytes(32))})
        self.assertEqual(self.delivered(self.bring(2)), [])
        self.setUp()
        self.bring(1, 2)
        self.assertEqual(self.short(self.removed({1: (2, bytes(32))})), [(2, 2)])
        self.assertEqual(self.delivered(self.bring(3)), [])

    def test_of_a_run_that_is_not_named_nothing_is_taken(self) -> None:
        self.bring(1)
        effects = self.removed({5: (9, b"")})
        self.assertEqual(self.short(effects), [(1, 1)])
        effects = self.receive(1, batch("cleo", 1, epoch=2), have("cleo", 1, 4, epoch=2))
        self.assertEqual((self.delivered(effects), self.asked(effects + self.wait(5))), ([], []))
        self.assertEqual(self.node.footprint()["open_streams"], 1)

    def test_a_cut_needs_no_record_of_the_author(self) -> None:
        self.make()
        self.star("anna", "bert")
        self.receive(1, batch("cleo", 1))
        self.assertEqual(self.node.footprint()["unproven_batches"], 1)
        effects = self.removed({1: (2, b"")})
        self.assertEqual(self.delivered(effects), [(1, [1])])
        self.assertEqual(self.delivered(self.bring(2, 3)), [(2, [2])])

    def test_a_barred_author_stays_barred(self) -> None:
        self.policy.barred = {CLEO}
        self.removed({1: (2, b"")})
        self.assertEqual(self.delivered(self.bring(1)), [])

    def test_the_snapshot_of_one_who_does_not_know_ends_at_the_cut(self) -> None:
        self.removed({1: (2, self.hash(2))})
        history = self.node.history
        history.start_at((CLEO, 1), 4, 4, self.now, batch("cleo", 4).header)
        stream = history.get((CLEO, 1))
        assert stream is not None
        self.assertEqual((stream.head, stream.header), (2, None))
        history.hinted((CLEO, 1), 9, self.now)
        self.assertFalse(history.has_hole((CLEO, 1)))

    def test_the_own_runs_are_not_cut(self) -> None:
        self.publish("one", "two")
        self.policy.ends = {origin_of("me"): {}}
        effects = self.receive(1, policy(1))
        self.assertEqual((self.short(effects), self.node.status().sent), ([], 2))

    def test_a_new_run_of_this_node_begins_with_the_cuts_and_says_nothing_again(self) -> None:
        self.bring(1, 2, 3)
        self.removed({1: (2, self.hash(2))})
        anew, _ = self.node.next_run(structs.replace(local_node("me", 2), policy=self.policy), Random(1))
        self.assertEqual(anew.history.head((CLEO, 1)), 2)
        self.assertTrue(anew.history.is_beyond_cut(batch("cleo", 3)))


class TestEnds(RemovalCase):
    def test_the_ends_of_all_known_runs_are_told_the_newest_first(self) -> None:
        self.assertIsNone(self.node.origin_of(b"nobody"))
        self.bring(1, 2)
        self.receive(1, batch("cleo", 1, epoch=3))
        self.node.history.discard((CLEO, 1))
        self.assertEqual(self.node.origin_of(id_of(CLEO)), CLEO)
        first = batch("cleo", 1, epoch=3).header.hash
        self.assertEqual(self.node.ends(CLEO), [(3, 1, first), (1, 2, b"")])
        self.assertEqual(self.node.ends(origin_of("dora")), [])
        self.patch(node, "MAX_CUTS", 1)
        self.assertEqual(self.node.ends(CLEO), [(3, 1, first)])
