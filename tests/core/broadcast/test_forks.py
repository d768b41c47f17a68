"""An author that signs two different batches under one number is found out, and its run is closed."""

from __future__ import annotations

from functools import partial
from random import Random

from msgspec import structs

from tests.core.network import (
    DIGEST,
    batch,
    cut,
    forged,
    local_node,
    of,
    origin_of,
    raw_batch,
    signature_of,
)
from tests.core.node_case import HOST, NodeTestCase
from twisted_mesh.core.broadcast import forks
from twisted_mesh.core.events import Effect, EpochConflict, Equivocation, Send
from twisted_mesh.core.link import FrontierState
from twisted_mesh.core.renewal import NEW_RUN_PAUSE
from twisted_mesh.errors import Reason
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.broadcast import Batch, Have, HaveEntry, Headers, SignedBatch

ANNA = origin_of("anna")


def other(
    first: int, count: int = 1, previous: bytes = bytes(32), name: str = "anna", epoch: int = 1
) -> SignedBatch:
    """A batch of *name* that is not the one of :func:`batch`."""
    origin = origin_of(name)
    body = join_entries([pack_entry(0, ["other"])] * count)
    header = Batch(origin, epoch, first, count, 2000, 0, previous)
    return codec.sign_batch(header, body, DIGEST, lambda text: signature_of(origin, text))


def headers(*batches: SignedBatch) -> Headers:
    """The frame with the headers of *batches*."""
    return Headers([codec.pack_header(signed.header) for signed in batches])


class ForksTestCase(NodeTestCase):
    """Anna signs; Bert's, Cleo's and Dora's links bring it."""

    def setUp(self) -> None:
        super().setUp()
        for number, name in enumerate(("bert", "cleo", "dora"), 1):
            self.up(number, name)

    def found(self, effects: list[Effect]) -> list[tuple[int, int]]:
        """The runs in which a fork was found, and where."""
        return [(fork.epoch, fork.first) for fork in of(effects, Equivocation)]

    def proofs(self, effects: list[Effect]) -> dict[int, list[bytes]]:
        """The headers that went out, by link."""
        sends = [send for send in of(effects, Send) if isinstance(send.frame, Headers)]
        return {link: send.frame.headers for send in sends for link in send.links}  # type: ignore[union-attr]

    def have(self, number: int, head: int, hash: bytes) -> list[Effect]:
        """A neighbour says that it has all of Anna's messages up to *head*, and which."""
        return self.receive(number, Have([HaveEntry(ANNA, 1, 1, head, 0, hash)], False))


class TestFinding(ForksTestCase):
    """Each way in which two headers that an honest author does not sign both come together."""

    def test_a_batch_that_names_another_one_before_it(self) -> None:
        self.receive(1, batch("anna", 1), batch("anna", 2))
        liar = other(3, previous=other(2).header.hash)
        effects = self.receive(2, liar)
        self.assertEqual((self.found(effects), self.delivered(effects)), ([(1, 3)], []))
        proof = [codec.pack_header(batch("anna", 2).header), codec.pack_header(liar.header)]
        self.assertEqual(self.proofs(effects), {1: proof, 3: proof})

    def test_a_batch_that_is_cut_so_that_it_overlaps(self) -> None:
        self.receive(1, batch("anna", 1, 4))
        self.assertEqual(self.found(self.receive(2, other(3, 3))), [(1, 3)])

    def test_a_batch_that_overlaps_one_that_waits(self) -> None:
        self.receive(1, batch("anna", 5, 2))
        self.assertEqual(self.found(self.receive(2, other(3, 3))), [(1, 5)])
        self.make()
        self.setUp()
        self.receive(1, batch("anna", 5, 2))
        self.assertEqual(self.found(self.receive(2, other(6, 3))), [(1, 6)])

    def test_a_batch_that_another_one_that_waits_does_not_name(self) -> None:
        self.receive(1, batch("anna", 3))
        self.assertEqual(self.found(self.receive(2, other(2))), [(1, 3)])

    def test_another_batch_with_the_same_first_message(self) -> None:
        self.receive(1, batch("anna", 1, 2))
        self.assertEqual(self.found(self.receive(2, other(1))), [(1, 1)])

    def test_honest_batches_in_any_order_are_none(self) -> None:
        cut("anna", 2, 1, 3, 1)
        for first, count in ((4, 3), (1, 2), (7, 1), (3, 1)):
            self.assertEqual(self.found(self.receive(1, batch("anna", first, count))), [])
        self.assertEqual(self.node.history.head((ANNA, 1)), 7)

    def test_nobody_is_accused_on_a_hash_that_a_peer_only_told(self) -> None:
        self.receive(1, batch("anna", 1))
        effects = self.have(2, 1, bytes(32))
        self.assertEqual(self.found(effects), [])
        self.assertEqual(self.proofs(effects), {2: [codec.pack_header(batch("anna", 1).header)]})

    def test_a_header_goes_over_a_link_once(self) -> None:
        self.receive(1, batch("anna", 1))
        self.have(2, 1, b"")
        self.assertEqual(self.proofs(self.have(2, 1, b"")), {})
        self.assertEqual(list(self.proofs(self.have(3, 1, b""))), [3])

    def test_so_many_are_remembered_of_a_link_and_the_latest(self) -> None:
        shown = FrontierState(2)
        runs = [(origin_of(name), 1) for name in ("anna", "bert", "cleo")]
        self.assertEqual(
            [shown.note_shown(run, 1) for run in (*runs, runs[2], runs[0])], [True] * 3 + [False, True]
        )
        self.assertEqual(len(shown.shown), 2)

    def test_of_one_head_with_one_hash_nothing_is_sent(self) -> None:
        self.receive(1, batch("anna", 1))
        for head, hash in ((1, batch("anna", 1).header.hash), (2, b""), (2, bytes(32))):
            self.assertEqual(self.proofs(self.have(2, head, hash)), {})


class TestHeaders(ForksTestCase):
    """Headers that a peer sends."""

    def test_one_that_differs_at_the_head_is_a_fork(self) -> None:
        self.receive(1, batch("anna", 1), batch("anna", 2))
        effects = self.receive(2, headers(other(2, previous=batch("anna", 1).header.hash)))
        self.assertEqual(self.found(effects), [(1, 2)])
        self.assertEqual(sorted(self.proofs(effects)), [1, 3])
        self.assertEqual(self.delivered(self.receive(1, batch("anna", 3))), [])

    def test_two_that_contradict_each_other_are_a_proof_for_who_has_neither(self) -> None:
        self.receive(1, batch("anna", 1))
        effects = self.receive(2, headers(other(7), batch("anna", 7)))
        self.assertEqual(self.found(effects), [(1, 7)])

    def test_a_proof_is_told_and_sent_on_once(self) -> None:
        self.receive(1, batch("anna", 1))
        proof = headers(other(1), batch("anna", 1))
        self.assertEqual(self.found(self.receive(2, proof)), [(1, 1)])
        for number in (2, 3):
            effects = self.receive(number, proof)
            self.assertEqual((self.found(effects), self.proofs(effects)), ([], {}))

    def test_who_has_not_heard_of_a_fork_gets_the_proof(self) -> None:
        self.receive(1, batch("anna", 1))
        self.receive(2, other(1))
        self.assertEqual(len(self.proofs(self.have(3, 5, b""))[3]), 2)
        self.assertEqual(self.proofs(self.have(3, 5, b"")), {})

    def test_of_a_run_that_is_not_known_here_nothing_is_concluded(self) -> None:
        effects = self.receive(2, headers(other(1), batch("anna", 1)))
        self.assertEqual((self.found(effects), self.closed(effects)), ([], []))

    def test_a_head_whose_header_was_not_known_is_known_from_then_on(self) -> None:
        run = (ANNA, 1)
        self.node.history.start_at(run, 4, 4, self.now)
        self.receive(1, headers(batch("anna", 4)))
        stream = self.node.history.get(run)
        assert stream is not None
        self.assertEqual(stream.hash, batch("anna", 4).header.hash)
        self.assertEqual(self.found(self.receive(2, other(5))), [(1, 5)])

    def test_a_false_signature_closes_the_link_that_brought_it(self) -> None:
        self.node.history.start_at((ANNA, 1), 4, 4, self.now)
        self.assertEqual(
            self.closed(self.receive(1, headers(forged(batch("anna", 4))))), [(1, Reason.SIGNATURE)]
        )
        self.receive(2, batch("anna", 5))
        effects = self.receive(2, headers(forged(other(5))))
        self.assertEqual((self.found(effects), self.closed(effects)), ([], [(2, Reason.SIGNATURE)]))
        effects = self.receive(3, headers(other(9), forged(batch("anna", 9))))
        self.assertEqual((self.found(effects), self.closed(effects)), ([], [(3, Reason.SIGNATURE)]))

    def test_one_of_messages_that_are_not_next_to_any_here_is_of_no_use(self) -> None:
        self.receive(1, batch("anna", 1))
        self.verified = 0
        effects = self.receive(2, headers(other(9)))
        self.assertEqual((self.found(effects), self.closed(effects), self.verified), ([], [], 0))

    def test_what_is_no_header_closes_the_link(self) -> None:
        self.assertEqual(self.closed(self.receive(1, Headers([b"none"]))), [(1, Reason.SHAPE)])


class TestClosedRun(ForksTestCase):
    """A run with a fork is closed there."""

    def test_its_author_can_name_no_messages_that_would_be_missing(self) -> None:
        self.receive(1, batch("anna", 1))
        self.receive(2, other(1))
        self.node.history.hinted((ANNA, 1), 9, self.now)
        self.assertFalse(self.node.history.has_hole((ANNA, 1)))

    def test_it_makes_no_bucket_of_a_digest_different(self) -> None:
        # The nodes that know of it hold different parts of it.
        self.receive(1, batch("anna", 1), batch("emil", 1))
        before = self.node._broadcast.frontier.digest()
        self.receive(2, other(1))
        after = self.node._broadcast.frontier.digest()
        self.assertEqual(len(before.buckets), 2)
        self.assertEqual(after.buckets, [one for one in before.buckets if one in after.buckets])
        self.assertEqual(len(after.buckets), 1)

    def test_its_author_counts_as_new_from_then_on(self) -> None:
        self.receive(1, batch("anna", 1), batch("cleo", 1))
        self.wait(660)
        origins = ANNA, origin_of("cleo")
        introducers = [self.node.history.authors.introducer(origin, self.now) for origin in origins]
        self.assertEqual(introducers, [None, None])
        self.receive(1, batch("anna", 2))
        self.assertEqual(self.found(self.receive(2, other(2))), [(1, 2)])
        self.receive(2, batch("anna", 1, epoch=2))
        introducers = [self.node.history.authors.introducer(origin, self.now) for origin in origins]
        self.assertEqual(introducers, [HOST, None])
        for epoch in (1, 2):
            stream = self.node.history.get((ANNA, epoch))
            self.assertIsNotNone(None if stream is None else stream.introducer)

    def test_of_an_author_with_forks_without_end_one_proof_goes_to_all_neighbours(self) -> None:
        self.patch(forks, "ACCUSED", 2)
        proven = []
        for name, epoch in (("anna", 1), ("anna", 2), ("bert", 1), ("cleo", 1), ("anna", 3)):
            self.receive(1, batch(name, 1, epoch=epoch))
            false = structs.replace(batch(name, 1, epoch=epoch).batch, sent=5)
            twin = codec.sign_batch(false, b"", DIGEST, partial(signature_of, origin_of(name)))
            effects = self.receive(2, twin)
            self.assertEqual(self.found(effects), [(epoch, 1)])
            proven.append(bool(self.proofs(effects)))
            self.assertLessEqual(self.node.footprint()["accused_authors"], 2)
        self.assertEqual(proven, [True, False, True, True, True])  # the last author was forgotten since

    def test_a_later_run_of_the_author_goes_on(self) -> None:
        self.receive(1, batch("anna", 1))
        self.receive(2, other(1))
        self.assertEqual(self.delivered(self.receive(1, batch("anna", 1, epoch=2))), [(1, [1])])

    def test_a_node_of_that_key_begins_a_new_run(self) -> None:
        self.publish("a", "b")
        mine = other(1, 2, name="me")
        self.assertEqual(of(self.receive(1, headers(mine)), EpochConflict), [EpochConflict(1)])
        self.assertEqual(self.found(self.receive(1, headers(mine))), [])

    def test_and_so_does_one_whose_run_others_know_beyond_its_head(self) -> None:
        effects = self.receive(1, headers(other(1, 2, name="me")))
        self.assertEqual(of(effects, EpochConflict), [EpochConflict(1)])
        false = structs.replace(other(1, 2, name="me"), signature=bytes(64))
        self.assertEqual(self.closed(self.receive(2, headers(false))), [(2, Reason.SIGNATURE)])

    def test_it_is_asked_to_begin_one_new_run_whatever_comes_of_the_old_one(self) -> None:
        frames = headers(other(1, 2, name="me"), other(5, name="me")), other(9, name="me")
        effects = self.receive(1, *frames) + self.receive(2, *frames)
        self.assertEqual(of(effects, EpochConflict), [EpochConflict(1)])

    def test_it_is_asked_again_until_one_begins(self) -> None:
        self.assertFalse(self.node.is_over)
        self.receive(1, headers(other(1, 2, name="me")))
        self.assertTrue(self.node.is_over)
        for wait in (15, 30, 60):
            self.assertEqual(of(self.wait(wait - 1), EpochConflict), [])
            self.assertEqual(of(self.wait(1), EpochConflict), [EpochConflict(1)])

    def test_from_one_such_run_to_the_next_a_minute_passes(self) -> None:
        self.receive(1, headers(other(1, 2, name="me")))
        self.node, _ = self.node.next_run(local_node("me", 2), Random(1))
        self.up(3, "cleo")
        effects = self.receive(3, headers(other(1, 2, name="me", epoch=2)))
        self.assertEqual(of(effects, EpochConflict), [])
        self.assertEqual(of(self.wait(NEW_RUN_PAUSE - 1), EpochConflict), [])
        self.assertEqual(of(self.wait(1), EpochConflict), [EpochConflict(2)])

    def test_poison_is_no_fork(self) -> None:
        self.receive(1, raw_batch("anna", 1, 1, b"\xc1"))
        self.assertEqual(self.found(self.receive(2, raw_batch("anna", 1, 1, b"\xc1"))), [])
