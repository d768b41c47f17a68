"""One key, several runs: epochs that were not kept, keys in two places, authors that say two things."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import Any

from twisted.python.failure import Failure

from tests.support.meshcase import MIB, PORT, MeshCase, Puppet, batch
from twisted_mesh import flags
from twisted_mesh.core.handshake import Side, Stage
from twisted_mesh.core.joining import MOST_CLAIMED
from twisted_mesh.errors import Congested, IdentityError, KeyInUse, NotDelivered, Reason, RemoteError
from twisted_mesh.identity import Identity
from twisted_mesh.receipt import Receipt
from twisted_mesh.service import MeshService
from twisted_mesh.wire import native
from twisted_mesh.wire.native import SnapshotEntry

AHEAD = 10**9  # ms: the clock of the first run was that much later


class TestEpochTaken(MeshCase):
    """The key's file was restored without the file beside it, and the clock went back."""

    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp())
        key = Identity.create(self.file)
        self.taken = key.next_epoch(int(time.time() * 1000) + AHEAD) + 1
        first, self.other = self.node(identity=key), self.node()
        self.link((first, self.other))
        first.send("of the first run")
        self.network.pump()
        first.stopService()
        self.network.pump()
        self.file.with_name(self.file.name + ".epoch").unlink()

    def again(self, **options: Any) -> MeshService:
        """A node of the same key that knows nothing of the first run."""
        return self.node(identity=Identity.load(self.file), **options)

    def assert_came(self, *packets: object) -> None:
        """All came once and in order, of one run above the first."""
        first, *messages = self.received(self.other)
        self.assertEqual(first.id[1:], (self.taken, 1))
        self.assertEqual([message.packets[1] for message in messages], list(packets))
        self.assertEqual({message.id[1] for message in messages}, {self.taken + 1})
        self.assertEqual([message.id[2] for message in messages], list(range(1, len(packets) + 1)))
        self.assertEqual(self.happened(self.other, "gap") + self.happened(self.other, "failure"), [])

    def test_what_was_sent_before_the_link_is_delivered_in_a_new_run(self) -> None:
        again = self.again()
        for number in range(3):
            again.send(number)
        self.network.pump()
        self.link((again, self.other))
        again.send("after")
        self.network.advance(1)
        self.assert_came(0, 1, 2, "after")
        self.assertEqual(self.received(again), [])
        self.assertEqual([name for name, _ in self.events(again)], ["connect"])
        self.assertEqual(len(self.log(f"a run {self.taken} of this key is known to others")), 1)
        kept = self.file.with_name(self.file.name + ".epoch")
        self.assertEqual(int(kept.read_bytes()), self.taken + 1)

    def test_who_was_shown_until_then_is_told_as_gone(self) -> None:
        a, b = self.chain(2)
        assert a._run is not None
        a._run.epoch_taken(a._run.hub.myself.epoch)
        self.assertEqual(dict(a.members), {})
        told = self.happened(a, "member")
        self.assertEqual([(member.id, member.state) for member in told[-1:]], [(b.id, "gone")])

    def test_as_a_peer_that_is_dialled_for_ever(self) -> None:
        again = self.again(peers=[self.address(self.other)])
        again.send("before")
        self.network.advance(5)
        self.assertEqual(list(again.routing_table), [self.other.id])
        self.assert_came("before")

    def test_whoever_dials_the_node_dials_again(self) -> None:
        again = self.make(identity=Identity.load(self.file))
        again.startService()
        again.send("before")
        self.link((self.other, again))
        self.assertEqual(dict(again.routing_table), {})
        self.network.advance(3)
        self.assertEqual(list(again.routing_table), [self.other.id])
        self.assert_came("before")

    def test_what_is_sent_while_it_happens_keeps_its_place(self) -> None:
        again = self.again()
        link = again.connect(self.host(self.other), PORT)
        numbers = count()
        while not again.routing_table:
            again.send(next(numbers))
            moves = [move for end in self.network.ends for move in end.moves()]
            if moves:
                self.network.random.choice(moves)()
            self.network.clock.advance(0)
        self.successResultOf(link)
        self.network.advance(1)
        self.assert_came(*range(next(numbers)))

    def test_who_waits_for_room_gets_it(self) -> None:
        again = self.again(limits={"unsent_bytes": 2 * MIB})
        number = 0
        for size in (30_000, 1000, 1):  # to the last byte
            while True:
                try:
                    again.send(number, b"x" * size)
                except Congested:
                    break
                self.network.clock.advance(0)
                number += 1
        drained = again.drained()
        self.link((again, self.other))
        self.network.advance(1)
        self.successResultOf(drained)
        self.assert_came(*range(number))

    def test_receipts_of_what_was_sent_go_on_in_the_new_run(self) -> None:
        again = self.again()
        early = [again.send(number, receipt=number != 1) for number in range(3)]
        self.network.pump()
        waits = early[2].complete()
        never = again.send("gathered", receipt=True)
        self.link((again, self.other))
        late = again.send("late", receipt=True)
        self.network.advance(2)
        self.assertEqual(again._run.hub.renewals, 1)  # type: ignore[union-attr]
        receipts = (early[0], early[2], never, late)
        for number, receipt in zip((1, 3, 4, 5), receipts, strict=True):
            self.assertEqual(receipt.id[1:], (self.taken + 1, number))
            self.assertEqual(receipt.delivered, {self.other.id})
        self.assertIs(self.successResultOf(waits), early[2])
        self.assert_came(0, 1, 2, "gathered", "late")

    def test_of_what_a_neighbour_took_of_the_run_that_is_over_the_receipt_is_closed(self) -> None:
        again = self.again()
        puppet = self.dial(self.puppet(frontier=False), again)
        self.network.pump()  # the link is proven, and the peer has not said what it knows
        receipts = [again.send(number, receipt=True) for number in range(2)]
        waits = receipts[1].complete()
        self.network.pump()
        outbox = again._run.hub.node.outbox  # type: ignore[union-attr]
        self.assertEqual(outbox.taken, 2)
        puppet.send(native.Snapshot(True, [SnapshotEntry(outbox.run[0], outbox.run[1] + 1, 1, 1, 1)]))
        anew: list[Receipt] = []
        again.once("receipt", lambda _: anew.append(again.send("while it is told", receipt=True)))
        self.network.pump()
        for receipt in receipts:
            self.assertEqual(
                (receipt.id[:2], receipt.closed), (outbox.run, "a new run of this node has begun")
            )
            error = self.failureResultOf(receipt.complete(), NotDelivered).value
            self.assertIs(error.receipt, receipt)
            self.assertTrue(str(error).startswith("a new run of this node has begun: "), error)
        self.failureResultOf(waits, NotDelivered)
        self.assertEqual(self.happened(again, "receipt"), [*receipts, *receipts, *anew])
        self.link((again, self.other))
        late = again.send("late", receipt=True)
        self.network.advance(2)
        # They have the numbers those had, in another run.
        self.assertEqual([receipt.id[2] for receipt in (*receipts, *anew, late)], [1, 2, 1, 2])
        self.assertEqual([receipt.delivered for receipt in receipts], [set(), set()])
        self.assertEqual([receipt.delivered for receipt in (*anew, late)], [{self.other.id}] * 2)

    def test_the_timers_of_the_run_that_is_over_are_too(self) -> None:
        again = self.again()
        self.link((again, self.other))
        again.stopService()
        self.network.pump()
        self.other.stopService()
        self.network.pump()
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def test_a_peer_that_always_knows_a_later_run_is_asked_twice(self) -> None:
        again = self.again(limits={"isolated_after": 100})  # nor does it seek another way meanwhile
        epochs = count(self.taken, 5)

        def lie(answer: bytes) -> bytes:
            entry = SnapshotEntry(again._settings.identity.origin, next(epochs), 1, 1, 1)
            return answer + native.encode(native.Snapshot(True, [entry]))

        puppets = [self.puppet(Side.ACCEPTOR, frontier=False) for _ in range(3)]
        for puppet in puppets:
            puppet.twist[Stage.PROOF] = lie
        self.serve(puppets)
        link = again.connect("10.9.9.9", PORT)
        self.network.advance(60)
        self.assertIs(self.failureResultOf(link, RemoteError).value.reason, Reason.LEAVING)
        dials = [target for source, target, _ in self.network.dials if source == self.host(again)]
        self.assertEqual(dials, [("10.9.9.9", PORT)] * 2)
        self.link((again, self.other))

    def claim(self, again: MeshService, epoch: int) -> Puppet:
        """A peer whose frontier names a run of the node's own key."""
        puppet = self.dial(self.puppet(frontier=False), again)
        self.network.pump()
        puppet.send(native.Snapshot(True, [SnapshotEntry(again._settings.identity.origin, epoch, 1, 1, 1)]))
        self.network.pump()
        return puppet

    def test_a_claim_no_clock_can_have_given_is_passed_over(self) -> None:
        # Believed, it would leave this key no epochs to begin runs with.
        again = self.again()
        puppet = self.claim(again, MOST_CLAIMED + 1)
        self.assertEqual(self.happened(again, "failure"), [])
        self.assertIsNone(puppet.lost)
        self.assertEqual(len(again.routing_table), 1)

    def test_a_new_run_that_cannot_be_numbered(self) -> None:
        again = self.again()
        path = again._settings.identity.path
        assert path is not None
        in_the_way = path.with_name(path.name + ".epoch.new")
        in_the_way.mkdir()
        puppet = self.claim(again, MOST_CLAIMED)
        (failure,) = self.happened(again, "failure")
        self.assertIs(failure.type, IdentityError)
        self.assertEqual(len(self.log("no new run can begin: epoch")), 1)
        self.network.advance(11)
        self.assertIsNotNone(puppet.lost)
        in_the_way.rmdir()
        again.connect(self.host(self.other), PORT)
        self.network.advance(3)
        self.assertEqual(list(again.routing_table), [self.other.id])


class TestKeyInUse(MeshCase):
    def setUp(self) -> None:
        super().setUp()
        key = Identity.generate()
        self.old = self.node(identity=key)
        self.failures: list[Failure] = []
        self.old.on("failure", self.failures.append)
        self.at_old: list[Any] = []
        self.old.on("message", lambda message: self.at_old.append(message.packets[1]))
        self.one, self.two = self.node(), self.node()
        self.new = self.node(identity=key)
        # Apart from each other: of two links of one key a node would keep the newer.
        self.link((self.old, self.one), (self.one, self.two))
        self.old.send("old")
        self.network.pump()
        self.assertEqual(self.failures, [])
        self.link((self.two, self.new))

    def test_the_older_run_publishes_no_more_and_says_so_once(self) -> None:
        for number in range(3):
            self.new.send(number)
            self.network.advance(1)
        (failure,) = self.failures
        self.assertIs(failure.type, KeyInUse)
        self.assertIn("another node uses this node's key", failure.getErrorMessage())
        self.assertEqual(len(self.log("another node uses this node's key")), 1)
        error = self.assertRaises(KeyInUse, self.old.send, "no more")
        self.assertIn("may publish no more", str(error))
        self.assertEqual(self.got(self.one), ["old", 0, 1, 2])
        self.assertEqual(self.got(self.two), ["old", 0, 1, 2])
        self.assertEqual(self.at_old, [])  # its own key's

    def test_it_goes_on_relaying_and_whispering(self) -> None:
        self.new.send("new")
        self.network.pump()
        end = self.node()
        self.link((end, self.old))
        self.two.send("through")
        self.old.send("psst", flag=flags.whisper)
        self.network.advance(1)
        self.assertEqual(sorted(self.got(end)), ["psst", "through"])
        self.assertEqual(self.at_old, ["through"])

    def test_that_it_is_there_is_enough(self) -> None:
        self.network.pump()
        self.assertEqual([failure.type for failure in self.failures], [KeyInUse])

    def test_the_newer_run_is_not_told(self) -> None:
        self.new.send("new")
        self.network.pump()
        self.assertEqual(self.happened(self.new, "failure"), [])
        self.new.send("still")


class TestEquivocation(MeshCase):
    def test_the_first_wins_and_the_second_is_a_failure_once(self) -> None:
        a, b = self.chain(2)
        puppet = self.joined(b)
        puppet.send(batch(puppet.me, 1, "first"))
        for packet in ("second", "third", "first"):
            puppet.send(batch(puppet.me, 1, packet))
        puppet.send(batch(puppet.me, 2, "next"))
        self.network.advance(1)
        self.assertEqual((self.got(a), self.got(b)), (["first", "next"], ["first", "next"]))
        (failure,) = self.happened(b, "failure")
        self.assertIs(failure.type, RemoteError)
        text = f"{puppet.me.id.decode()} signed two different messages 1"
        self.assertIn(text, failure.getErrorMessage())
        self.assertEqual(len(self.log(text)), 1)
        self.assertEqual(self.happened(a, "failure"), [])
        self.assertIn(puppet.me.id, b.routing_table)  # a relay cannot know

    def test_what_the_author_did_not_sign_is_the_links_fault(self) -> None:
        b = self.node()
        puppet = self.joined(b)
        puppet.send(batch(puppet.me, 1, "first"))
        false = batch(puppet.me, 1, "second")
        puppet.send(native.SignedBatch(false.batch, bytes(64), false.array))
        self.network.pump()
        self.assertEqual(self.happened(b, "failure"), [])
        self.assertEqual(puppet.bye.reason, "signature")
