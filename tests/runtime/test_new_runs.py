"""One key in several runs: epochs that were lost, two nodes with one key, and equivocating authors."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from twisted.python.failure import Failure

from tests.support.meshcase import MIB, PORT, MeshCase, Puppet, batch
from twisted_mesh import flags
from twisted_mesh.core.events import EpochConflict, SameKey
from twisted_mesh.core.handshake import LocalNode, Side, Stage
from twisted_mesh.core.signing import Signer
from twisted_mesh.delivery.receipts import Receipt
from twisted_mesh.errors import (
    Congested,
    IdentityError,
    KeyInUse,
    NotDelivered,
    NotRunning,
    Reason,
    RemoteError,
    SelfConnection,
    Unreachable,
)
from twisted_mesh.identity import MOST_CLAIMED, Identity
from twisted_mesh.memory.host import MemoryService
from twisted_mesh.runtime.reporting import KEY_IN_USE, RUN_IS_OVER
from twisted_mesh.service import MeshService
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Batch, Snapshot, SnapshotEntry
from twisted_mesh.wire.link import Bye
from twisted_mesh.wire.membership import Presence, Role
from twisted_mesh.wire.signed import SignedRecord

AHEAD = 10**9  # ms by which the clock of the first run was ahead
SHARED = (
    "two nodes use this key, and the one started later keeps it: give each an identity of its own [key]"
)


class TestEpochTaken(MeshCase):
    """The file of the key was restored without its file of epochs, and the clock was set back."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(MemoryService, "_draw", lambda service, below: 0)
        self.file = Path(self.mktemp())
        key = Identity.create(self.file)
        self.taken = key.next_epoch(int(time.time() * 1000) + AHEAD) + 1
        first, self.other = self.linked(self.node(identity=key), self.node())
        self.send(first, "of the first run")
        first.stopService()
        self.network.pump()
        self.file.with_name(self.file.name + ".epoch").unlink()

    def again(self, **options: Any) -> MeshService:
        """A node of the same key that knows nothing of the first run."""
        return self.node(identity=Identity.load(self.file), **options)

    def assert_came(self, *packets: object) -> None:
        """Assert that *packets* came once and in order, in one run with an epoch above the first run's."""
        first, *messages = self.received(self.other)
        self.assertEqual(first.id[1:], (self.taken, 1))
        self.assertEqual([message.packets[1] for message in messages], list(packets))
        self.assertEqual({message.id[1] for message in messages}, {self.taken + 1})
        self.assertEqual([message.id[2] for message in messages], list(range(1, len(packets) + 1)))
        self.assertEqual(self.happened(self.other, "gap") + self.happened(self.other, "failure"), [])

    def test_what_was_sent_before_the_link_is_delivered_in_a_new_run(self) -> None:
        again = self.again()
        self.send(again, *range(3))
        self.link((again, self.other))
        self.send(again, "after", after=1)
        self.assert_came(0, 1, 2, "after")
        self.assertEqual(self.received(again), [])
        self.assertEqual([name for name, _ in self.events(again)], ["connect"])
        self.assertEqual(len(self.log(f"a run {self.taken} of this key is known to others")), 1)
        kept = self.file.with_name(self.file.name + ".epoch")
        self.assertEqual(int(kept.read_bytes()), self.taken + 1)

    def test_who_was_shown_until_then_is_told_as_gone(self) -> None:
        a, b, c = self.chain(3, after=1)
        left: list[int] = []
        a.on("member", lambda member: left.append(len(a.members)))
        self.parts_of(a)._epoch_conflict(EpochConflict(self.status_of(a).stream[1]))
        self.assertEqual(dict(a.members), {})
        told = self.happened(a, "member")
        gone = {(member.id, member.state) for member in told[-2:]}
        self.assertEqual((gone, left), ({(b.id, "gone"), (c.id, "gone")}, [0, 0]))

    def test_as_a_peer_that_is_dialled_for_ever(self) -> None:
        again = self.again(peers=[self.address(self.other)])
        self.send(again, "before", after=5)
        self.assertEqual(list(again.routing_table), [self.other.id])
        self.assert_came("before")

    def test_whoever_dials_the_node_dials_again(self) -> None:
        again = self.node(identity=Identity.load(self.file))
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
            steps = [step for end in self.network.ends for step in end.steps()]
            if steps:
                self.network.random.choice(steps)()
            self.network.clock.advance(0)
        self.successResultOf(link)
        self.network.advance(1)
        self.assert_came(*range(next(numbers)))

    def test_who_waits_for_room_gets_it(self) -> None:
        again = self.again(limits={"unsent_bytes": 2 * MIB})
        number = 0
        for size in (30_000, 1000, 1):  # until no byte of room is left
            while True:
                try:
                    again.send(number, b"x" * size)
                except Congested:
                    break
                self.network.clock.advance(0)
                number += 1
        drained = again.drained()
        self.link((again, self.other))
        self.result_of(drained, after=1)
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
        self.assertEqual(self.parts_of(again).driver.renewals, 1)
        receipts = (early[0], early[2], never, late)
        for number, receipt in zip((1, 3, 4, 5), receipts, strict=True):
            self.assertEqual(receipt.id[1:], (self.taken + 1, number))
            self.assertEqual(receipt.delivered, {self.other.id})
        self.assertIs(self.successResultOf(waits), early[2])
        self.assert_came(0, 1, 2, "gathered", "late")

    def test_of_what_a_neighbour_took_of_the_run_that_is_over_the_receipt_is_closed(self) -> None:
        again = self.again()
        self.met(again, frontier=False)  # the peer has not sent its frontier
        receipts = [again.send(number, receipt=True) for number in range(2)]
        waits = receipts[1].complete()
        self.network.pump()
        status = self.status_of(again)
        self.assertEqual(status.accepted, 2)
        anew: list[Receipt] = []
        again.once("receipt", lambda _: anew.append(again.send("while it is told", receipt=True)))
        # A node with the same key, in a run of the same number, has shaken hands with this one.
        self.parts_of(again)._epoch_conflict(EpochConflict(status.stream[1]))
        self.network.pump()
        for receipt in receipts:
            self.assertEqual(
                (receipt.id[:2], receipt.closed), (status.stream, "a new run of this node has begun")
            )
            error = self.failureResultOf(receipt.complete(), NotDelivered).value
            self.assertIs(error.receipt, receipt)
            self.assertTrue(str(error).startswith("a new run of this node has begun: "), error)
        self.failureResultOf(waits, NotDelivered)
        self.assertEqual(self.happened(again, "receipt"), [*receipts, *receipts, *anew])
        newcomer = self.node()  # which knows of no earlier run
        self.link((again, newcomer))
        late = again.send("late", receipt=True)
        self.network.advance(2)
        # They have the same numbers as the first two, in another run.
        self.assertEqual([receipt.id[2] for receipt in (*receipts, *anew, late)], [1, 2, 1, 2])
        self.assertEqual([receipt.delivered for receipt in receipts], [set(), set()])
        self.assertEqual([receipt.delivered for receipt in (*anew, late)], [{newcomer.id}] * 2)

    def test_the_timers_of_the_run_that_is_over_are_too(self) -> None:
        again = self.again()
        self.link((again, self.other))
        again.stopService()
        self.network.pump()
        self.other.stopService()
        self.network.pump()
        self.assertEqual(self.network.clock.getDelayedCalls(), [])

    def test_a_peer_that_always_knows_a_later_run_is_believed_once(self) -> None:
        # Unsigned: each new run would close all links, for as long as somebody claims another.
        again = self.again()
        epochs = count(self.taken, 5)

        def lie(answer: bytes) -> bytes:
            entry = SnapshotEntry(again._settings.identity.origin, next(epochs), 1, 1, 1, b"")
            return answer + codec.encode(Snapshot(True, [entry]))

        puppets = [self.puppet(Side.ACCEPTOR, frontier=False) for _ in range(9)]
        for puppet in puppets:
            puppet.twist[Stage.PROOF] = lie
        self.serve(puppets)
        link = again.connect("10.9.9.9", PORT)
        self.result_of(link, after=5)
        self.assertEqual(self.parts_of(again).driver.renewals, 1)
        dials = [target for source, target, _ in self.network.dials if source == self.host(again)]
        self.assertEqual(dials, [("10.9.9.9", PORT)] * 2)
        self.link((again, self.other))
        for _ in range(5):  # nor has anything that comes to it later this effect
            self.claim(again, next(epochs))
        self.assertIn(self.other.id, again.routing_table)
        self.assertEqual(self.parts_of(again).driver.renewals, 1)

    def claim(self, again: MeshService, epoch: int) -> Puppet:
        """A peer whose frontier names a run of the node's own key."""
        puppet = self.met(again, frontier=False)
        puppet.send(Snapshot(True, [SnapshotEntry(again._settings.identity.origin, epoch, 1, 1, 1, b"")]))
        self.network.pump()
        return puppet

    def test_a_claim_no_clock_can_have_given_is_passed_over(self) -> None:
        # If the node believed the claim, no epoch would be left for a new run of its key.
        again = self.again()
        puppet = self.claim(again, MOST_CLAIMED + 1)
        self.assertEqual(self.happened(again, "failure"), [])
        self.assertIsNone(puppet.lost)
        self.assertEqual(len(again.routing_table), 1)

    def test_a_new_run_that_cannot_be_numbered(self) -> None:
        again = self.again()
        path = again._settings.identity.path
        assert path is not None
        epoch = path.with_name(path.name + ".epoch")
        epoch.unlink()
        epoch.mkdir()
        puppet = self.claim(again, MOST_CLAIMED)
        (failure,) = self.happened(again, "failure")
        self.assertIs(failure.type, IdentityError)
        self.assertEqual(len(self.log("no new run can begin: epoch")), 1)
        self.network.advance(11)
        self.assertIsNotNone(puppet.lost)
        epoch.rmdir()
        again.connect(self.host(self.other), PORT)
        self.network.advance(3)
        self.assertEqual(list(again.routing_table), [self.other.id])

    def test_in_a_run_in_which_another_signs_nothing_is_sent_until_a_new_one_can_begin(self) -> None:
        file = Path(self.mktemp())
        me = Identity.create(file)
        again = self.node(identity=me)
        self.link((again, self.other))
        run = self.status_of(again).stream
        epoch = file.with_name(file.name + ".epoch")
        epoch.unlink()
        epoch.mkdir()
        network = codec.network_digest(again._settings.network.id)
        beyond = codec.sign_batch(Batch(*run, 5, 1, 0, 0, bytes(32)), b"", network, me.sign)
        self.send_frames(self.joined(again), beyond)
        drained = None
        for failures, wait in enumerate((15, 30, 60), 1):
            self.assertEqual(
                [failure.type for failure in self.happened(again, "failure")], [IdentityError] * failures
            )
            self.assertRaises(KeyInUse, again.send, "lost in a run with a fork")
            self.assertIn(RUN_IS_OVER, again.status().warnings)
            drained = again.drained()
            self.assertNoResult(drained)
            self.network.advance(wait)
        self.assertEqual(len(self.log("no new run can begin: epoch")), 4)
        epoch.rmdir()
        self.network.advance(120)
        assert drained is not None
        self.successResultOf(drained)
        self.assertEqual(self.parts_of(again).driver.renewals, 1)
        self.link((again, self.other))
        self.send(again, "of the new run", after=1)
        self.assertEqual(self.received(self.other)[-1].packets[1], "of the new run")
        self.assertEqual(again.status().warnings, [])

    def test_nor_does_one_go_on_that_has_not_joined_beside_another_of_its_number(self) -> None:
        file = Path(self.mktemp())
        again = self.node(identity=Identity.create(file))
        driver = self.parts_of(again).driver
        file.with_name(file.name + ".epoch").unlink()
        file.with_name(file.name + ".epoch").mkdir()
        driver.handle(SameKey(9, self.status_of(again).stream[1], False))
        self.network.pump()
        self.assertRaises(KeyInUse, again.send, "under a number that is used twice")
        self.assertEqual(driver.renewals, 0)
        file.with_name(file.name + ".epoch").rmdir()
        self.network.advance(15)
        self.assertEqual(driver.renewals, 1)
        again.send("of the new run")
        self.happened(again, "failure")


class TestRestoredFromABackup(MeshCase):
    """The key and its epoch are restored from one backup before each start, and the clock is dead."""

    def setUp(self) -> None:
        super().setUp()
        self.file = Path(self.mktemp())
        self.kept = Identity.create(self.file).next_epoch(int(time.time() * 1000) + AHEAD)
        self.other = self.node(limits={"history_seconds": 100.0, "member_memory": 200.0})

    def restored(self, *packets: object) -> set[int]:
        """Run the node and send messages that the other must have; the epochs under which they came."""
        self.file.with_name(self.file.name + ".epoch").write_text(f"{self.kept}\n")
        service = self.node(identity=Identity.load(self.file))
        self.link((service, self.other), after=1)
        receipts = [service.send(packet, receipt=True) for packet in packets]
        self.network.advance(5)
        self.assertEqual([receipt.delivered for receipt in receipts], [{self.other.id}] * len(packets))
        self.stop(service)
        came = [message for message in self.received(self.other) if message.packets[1] in packets]
        self.assertEqual([message.packets[1] for message in came], list(packets))
        self.assertEqual([message.id[2] for message in came], list(range(1, len(packets) + 1)))
        return {message.id[1] for message in came}

    def forget(self) -> None:
        """Let the other hold nothing of the earlier runs but their heads."""
        self.network.advance(1000)
        footprint = self.other.footprint()
        self.assertEqual((footprint["open_streams"], footprint["members"]), (0, 0))

    def test_each_run_has_an_epoch_of_its_own(self) -> None:
        epochs = self.restored(*range(6))
        self.forget()
        epochs |= self.restored(*range(6, 12))
        self.assertEqual(len(epochs), 2)
        self.assertGreater(min(epochs), self.kept)

    def test_an_epoch_that_chance_gives_twice_is_told_by_whoever_knows_the_head(self) -> None:
        self.patch(MemoryService, "_draw", lambda service, below: 0)
        self.assertEqual(self.restored(*range(6)), {self.kept + 1})
        self.forget()
        self.assertEqual(self.restored(*range(6, 12)), {self.kept + 2})
        self.forget()
        self.assertEqual(self.restored(*range(12, 18)), {self.kept + 3})


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
        # They have no common neighbour: of two links with one key a node would keep the newer.
        self.link((self.old, self.one), (self.one, self.two))
        self.send(self.old, "old")
        self.assertEqual(self.failures, [])
        self.link((self.two, self.new))

    def test_the_older_run_publishes_no_more_and_says_so_once(self) -> None:
        for number in range(3):
            self.send(self.new, number, after=1)
        (failure,) = self.failures
        self.assertIs(failure.type, KeyInUse)
        self.assertIn("another node uses this node's key", failure.getErrorMessage())
        self.assertEqual(len(self.log("another node uses this node's key")), 1)
        self.assertIn(KEY_IN_USE, self.old.status().warnings)
        error = self.assertRaises(KeyInUse, self.old.send, "no more")
        self.assertIn("may publish no more", str(error))
        self.assertEqual(self.got(self.one), ["old", 0, 1, 2])
        self.assertEqual(self.got(self.two), ["old", 0, 1, 2])
        self.assertEqual(self.at_old, [])  # messages of its own key are not delivered

    def test_it_goes_on_relaying_and_whispering(self) -> None:
        self.send(self.new, "new")
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
        self.send(self.new, "new")
        self.assertEqual(self.happened(self.new, "failure"), [])
        self.new.send("still")


class OneKeyCase(MeshCase):
    """Two nodes with one key and the same peers; the peers know the older one already."""

    #: Options of the newer node.
    options: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        super().setUp()
        self.x, self.y = self.chain(2)
        self.key = Identity.generate()
        self.old = self.copy("old")
        self.network.advance(10)
        self.send(self.old, "early", after=1)
        self.new = self.copy("new", **self.options)

    def copy(self, label: str, **options: Any) -> MeshService:
        """A node with the common key, and x and y as its peers."""
        peers = [self.address(self.x), self.address(self.y)]
        return self.node(identity=self.key, label=label, peers=peers, **options)

    def shown(self) -> set[tuple[str | None, str]]:
        """The label and the state that x and y show for the common key."""
        members = [service.members[self.old.id] for service in (self.x, self.y)]
        return {(member.label, member.state) for member in members}


class TestKeyGivenBack(OneKeyCase):
    """The older of two nodes with one key is refused until the newer has stopped, and then works again."""

    def assert_is_itself_again(self) -> None:
        """Assert that x and y show the older node as up, and get each of its messages once."""
        self.assertEqual(self.shown(), {("old", "up")})
        self.assertEqual(set(self.old.routing_table), {self.x.id, self.y.id})
        receipt = self.old.send("again", receipt=True)
        assert receipt is not None
        self.send(self.x, "to all", after=2)
        self.assertEqual(receipt.delivered, {self.x.id, self.y.id})
        for service in (self.x, self.y):
            self.assertEqual(self.got(service, self.old), ["early", "again"])
        self.assertEqual(self.got(self.old), ["to all"])
        self.assertEqual(len(self.log("the other node with this node's key is gone")), 1)

    def test_once_the_newer_has_stopped(self) -> None:
        self.network.advance(60)
        self.assertEqual(self.shown(), {("new", "up")})
        self.assertRaises(KeyInUse, self.old.send, "no")
        drained = self.old.drained()
        self.assertNoResult(drained)
        self.stop(self.new)
        self.result_of(drained, after=20)
        self.assert_is_itself_again()

    def test_once_the_newer_was_killed_and_counts_as_down(self) -> None:
        self.network.advance(60)
        self.kill(self.new)
        self.network.advance(45)  # up to 18.75 s to the next attempt, and 15 s of suspicion
        self.assert_is_itself_again()

    def test_as_often_as_that_happens(self) -> None:
        for _ in range(3):
            self.network.advance(60)
            self.assertEqual(self.shown(), {("new", "up")})
            self.stop(self.new, after=20)
            self.assertEqual(self.shown(), {("old", "up")})
            self.new = self.copy("new")
        self.assertEqual([failure.type for failure in self.happened(self.old, "failure")], [KeyInUse] * 3)

    def test_until_then_it_tries_seldom_and_both_ends_say_why(self) -> None:
        self.network.advance(30)
        before, [lines] = len(self.network.dials), [len(self.log())]
        self.network.advance(600)
        dials = [source for source, _, _ in self.network.dials[before:]]
        self.assertEqual(set(dials), {self.host(self.old)})
        self.assertLessEqual(len(dials), 2 * 600 / 11.25)  # two peers; key_retry less a quarter
        told = "another node uses this key, in a newer run [key]"
        said = [line for line in self.log()[lines:] if told in line]
        met = [line for line in self.log()[lines:] if SHARED in line]
        self.assertEqual(len(said) + len(met), len(self.log()[lines:]))
        self.assertIn(len(met), range(16, 21))  # ten dials, each logged at both ends
        for beginning in ("cannot link with", f"connection from {self.host(self.old)}"):
            count = sum(line.startswith(beginning) for line in said)
            self.assertGreater(count, len(dials) / 2 - 10, beginning)

    def test_a_direct_message_under_way_is_told_as_lost(self) -> None:
        self.network.advance(3)
        self.assertRaises(KeyInUse, self.old.send, "no")
        direct = self.old.send_to(self.x.id, "nobody will acknowledge this")
        self.stop(self.new, after=20)
        self.assertIn("a new run", self.failureResultOf(direct, Unreachable).getErrorMessage())

    def test_where_no_new_run_can_be_numbered_it_is_tried_again(self) -> None:
        file = Path(self.mktemp())
        self.key = Identity.create(file)
        old, new = self.copy("first"), self.copy("second")
        self.network.advance(60)
        epoch = file.with_name(file.name + ".epoch")
        epoch.unlink()
        epoch.mkdir()
        self.stop(new, after=60)
        failures = [failure.type for failure in self.happened(old, "failure")]
        self.assertEqual(failures[:2], [KeyInUse, IdentityError])
        self.assertRaises(KeyInUse, old.send, "no")
        epoch.rmdir()
        self.network.advance(40)
        self.send(old, "at last", after=1)
        self.assertEqual(self.got(self.x, old), ["at last"])


class TestMeeting(OneKeyCase):
    """The older dials the newer, so that both have proof of each other."""

    def test_both_say_so(self) -> None:
        self.assertIsInstance(self.result_of(self.old.key_in_use(), after=6), KeyInUse)
        self.assertEqual(self.reasons(self.new), ["key"])
        begins = [f"connection from {self.host(self.old)}:", f"connection to {self.host(self.new)}:"]
        lines = self.log(SHARED)
        self.assertEqual(len(lines), 2)
        for beginning in begins:
            self.assertEqual(sum(line.startswith(beginning) for line in lines), 1)

    def test_the_newer_goes_on(self) -> None:
        never = self.new.key_in_use()
        self.network.advance(200)
        self.assertNoResult(never)
        self.send(self.new, "as ever", after=1)
        self.assertEqual(self.got(self.x, self.new), ["early", "as ever"])
        self.assertEqual(self.happened(self.new, "failure"), [])
        self.stop(self.new)
        self.failureResultOf(never, NotRunning)


class TestTheNewerCannotBeDialled(OneKeyCase):
    """The older knows the newer by its records alone, and the newer does not hear of the older."""

    options: ClassVar[dict[str, Any]] = {"listens": False}

    def test_it_is_proven_once_the_newer_speaks_on(self) -> None:
        proven = self.old.key_in_use()
        self.network.advance(3)
        self.assertEqual([failure.type for failure in self.happened(self.old, "failure")], [KeyInUse])
        self.assertNoResult(proven)
        self.assertIsInstance(self.result_of(proven, after=60), KeyInUse)
        self.assertIsInstance(self.successResultOf(self.old.key_in_use()), KeyInUse)
        self.assertEqual(len(self.happened(self.old, "failure")), 1)
        self.assertEqual(self.log(SHARED), [])
        never = self.new.key_in_use()
        self.stop(self.new)
        self.failureResultOf(never, NotRunning)
        self.network.advance(20)
        again = self.old.key_in_use()
        self.assertNoResult(again)
        self.stop(self.old)
        self.failureResultOf(again, NotRunning)


class TestOnlyEachOther(MeshCase):
    """Two nodes with one key and no other neighbour; each of the two may be the dialler."""

    def both(self, older_dials: bool, key: Identity | None = None) -> tuple[MeshService, MeshService]:
        """Return the older and the newer of two nodes, one of which dials the other."""
        key = key or Identity.generate()
        if not older_dials:
            older = self.node(identity=key)
            return older, self.node(identity=key, peers=[self.address(older)])
        newer = self.make(identity=key)
        older = self.node(identity=key, peers=[self.address(newer)])
        self.network.clock.advance(0.01)  # the newer listens when it is dialled
        newer.startService()
        return older, newer

    def test_both_say_so_and_the_newer_goes_on(self) -> None:
        for older_dials in (True, False):
            before = len(self.log(SHARED))
            older, newer = self.both(older_dials)
            self.network.advance(3)
            failures = [failure.type for failure in self.happened(older, "failure")]
            self.assertEqual((failures, self.happened(newer, "failure")), ([KeyInUse], []))
            self.assertIsInstance(self.successResultOf(older.key_in_use()), KeyInUse)
            self.assertRaises(KeyInUse, older.send, "no")
            newer.send("as ever")
            for service in (older, newer):
                self.assertEqual(set(self.reasons(service)), {"key"})
                self.assertEqual(service.routing_table, {})
            self.assertEqual({line.split(" ")[0] for line in self.log(SHARED)[before:]}, {
                "cannot", "connection"
            })  # fmt: skip
            never = newer.key_in_use()
            self.assertNoResult(never)
            self.stop(older)
            self.stop(newer)
            self.failureResultOf(never, NotRunning)

    def test_it_is_tried_seldom_and_told_at_each_attempt(self) -> None:
        older, newer = self.both(older_dials=True)
        self.network.advance(30)
        dials, lines = len(self.network.dials), len(self.log())
        self.network.advance(600)
        count = len(self.network.dials) - dials
        self.assertIn(count, range(600 // 19, 600 // 11))  # key_retry, a quarter more or less
        said = self.log()[lines:]
        self.assertEqual([line for line in said if SHARED not in line], [])
        for beginning in ("cannot link with", f"connection from {self.host(older)}"):
            self.assertGreaterEqual(sum(line.startswith(beginning) for line in said), count - 1, beginning)
        self.assertEqual(self.happened(newer, "failure"), [])

    def test_the_older_is_itself_again_once_the_newer_has_stopped(self) -> None:
        for older_dials in (True, False):
            older, newer = self.both(older_dials)
            self.network.advance(600)
            self.assertRaises(KeyInUse, older.send, "no")
            self.stop(newer, after=90)
            other = self.node()
            self.link((other, older))
            self.send(older, "again", after=1)
            self.assertEqual(self.got(other), ["again"])
            self.stop(older)

    def test_who_connects_is_told(self) -> None:
        key = Identity.generate()
        older, newer = self.node(identity=key), self.node(identity=key)
        refused = self.failure_of(newer.connect(self.host(older), PORT), RemoteError)
        self.assertIs(refused.reason, Reason.KEY)
        self.failure_of(newer.connect(self.host(newer), PORT), SelfConnection)

    def test_who_has_not_the_key_brings_nothing_about(self) -> None:
        key, liar = Identity.generate(), Identity.generate()
        a, _b = self.linked(self.node(identity=key), self.node())
        claims = {"id": key.id, "origin": key.origin, "epoch": 2**42}
        dials = self.met(a, identity=liar, **claims)
        self.assertEqual(dials.bye.reason, "proof")
        self.serve([served := self.puppet(Side.ACCEPTOR, identity=liar, **claims)])
        self.assertIs(self.failure_of(a.connect("10.9.9.9", PORT), RemoteError).reason, Reason.PROOF)
        self.assertIsNotNone(served.lost)
        a.send("as ever")
        self.assertEqual(self.log(SHARED), [])
        self.assertEqual(self.happened(a, "failure"), [])


class TestLateWords(MeshCase):
    """Records of an own run that this node has forgotten, as after a restore, are no second node."""

    def test_a_record_of_it_that_is_replayed_is_given_up_in_time(self) -> None:
        key = Identity.generate()
        a, b = self.linked(self.node(identity=key), self.node())
        proven = a.key_in_use()
        lost = self.puppet(identity=key, epoch=2**42)
        liar = self.joined(a)
        for _ in range(5):
            self.send_frames(liar, presence(lost.me, 7), after=17)
        self.assertRaises(KeyInUse, a.send, "not yet")
        self.network.advance(10)
        self.send_frames(liar, presence(lost.me, 7), after=5)
        self.assertNoResult(proven)
        self.send(a, "a run above it", after=2)
        self.assertEqual(self.got(b), ["a run above it"])
        self.assertGreater(self.received(b)[0].id[1], 2**42)
        proven.addErrback(lambda failure: failure.trap(NotRunning))

    def test_one_that_nobody_signed_brings_nothing_about(self) -> None:
        key = Identity.generate()
        a, _b = self.linked(self.node(identity=key), self.node())
        liar = self.joined(a)
        said = presence(self.puppet(identity=key, epoch=2**42).me, 7)
        liar.send(SignedRecord(said.record, bytes(64), said.array))
        self.network.advance(5)
        self.assertEqual(liar.bye.reason, "signature")  # type: ignore[union-attr]
        a.send("as ever")

    def test_a_peers_word_alone_stops_nothing(self) -> None:
        a = self.node()
        puppet = self.puppet(Side.ACCEPTOR, frontier=False)
        puppet.twist[Stage.PROOF] = lambda answer: answer + codec.encode(Bye("key", "in use"))
        self.serve([puppet])
        self.assertIs(self.failure_of(a.connect("10.9.9.9", PORT), RemoteError).reason, Reason.KEY)
        a.send("as ever")
        self.assertEqual(self.happened(a, "failure"), [])


def presence(author: LocalNode, counter: int) -> SignedRecord:
    """A PRESENCE record that *author* has signed."""
    return Signer(author).signed(
        Presence(
            author.origin, author.epoch, counter, 0, None, Role.MEMBER, None, {}, 600, 30_000, 0, b"", 0,
            bytes(32),
        )
    )  # fmt: skip


class TestEquivocation(MeshCase):
    def test_the_first_wins_and_the_second_is_a_failure_once(self) -> None:
        a, b = self.chain(2)
        puppet = self.joined(b)
        puppet.send(batch(puppet.me, 1, "first"))
        for packet in ("second", "third", "first"):
            puppet.send(batch(puppet.me, 1, packet))
        self.send_frames(puppet, batch(puppet.me, 2, "next"), after=1)
        self.assertEqual((self.got(a), self.got(b)), (["first"], ["first"]))
        id = puppet.me.id.decode()
        text = f"{id} signed two different messages 1"
        for node in (a, b):  # both have the proof
            (failure,) = self.happened(node, "failure")
            self.assertIs(failure.type, RemoteError)
            self.assertIn(text, failure.getErrorMessage())
        self.assertEqual(len(self.log(text.replace(id, id[:8]))), 2)
        self.assertIn(puppet.me.id, b.routing_table)  # the relay is not blamed: it cannot know

    def test_what_the_author_did_not_sign_is_the_links_fault(self) -> None:
        b = self.node()
        puppet = self.joined(b)
        puppet.send(batch(puppet.me, 1, "first"))
        false = batch(puppet.me, 1, "second")
        puppet.send(msgspec.structs.replace(false, signature=bytes(64)))
        self.network.pump()
        self.assertEqual(self.happened(b, "failure"), [])
        self.assertEqual(puppet.bye.reason, "signature")
