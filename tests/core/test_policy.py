"""Authors that must show that they belong to the mesh, and a policy that changes."""

from __future__ import annotations

import hashlib

from tests.core.membership_case import MembershipTestCase
from tests.core.network import (
    batch,
    closing,
    direct,
    forged,
    forget,
    have,
    lacks_key,
    of,
    origin_of,
    presence,
    raw_batch,
    records,
    roster,
    suspect,
)
from tests.core.node_case import ALL
from twisted_mesh.config import MeshConfig
from twisted_mesh.core import shares
from twisted_mesh.core.admission import ProvenAuthors
from twisted_mesh.core.authors import Authors
from twisted_mesh.core.broadcast.waiting import BATCHES_MOST, BYTES_MOST, WaitingBatches
from twisted_mesh.core.events import (
    Close,
    Deliver,
    ForgetMember,
    GapFound,
    LinkClosed,
    ListsDiffer,
    MemberGone,
    PolicyChanged,
    SendDirect,
    SendDirects,
    Timer,
)
from twisted_mesh.core.membership.roster import State
from twisted_mesh.core.rate import REFUSED_BURST, REFUSED_RATE
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.network import EVERYBODY, Policy
from twisted_mesh.wire.broadcast import Have, SignedBatch, Want
from twisted_mesh.wire.link import Whisper
from twisted_mesh.wire.membership import FORGOTTEN, PresenceFlags, Records, Role
from twisted_mesh.wire.signed import SignedRecord


class TestPolicy(Policy):
    """A policy that credentials of a *word*, and lists of names, satisfy.

    :ivar barred: names that are no authors and no peers; :ivar named: those that the user has named.
    """

    needs_credentials = True

    def __init__(self) -> None:
        self.word = b"word"
        self.barred: set[bytes] = set()
        self.named: set[bytes] = set()
        self.others: dict[bytes, bytes] = {}  # names for other lists, by credential
        self.listeners: set[bytes] = set()  # those of which no message is taken
        self.guests: set[bytes] = set()  # those that may be no member
        self.ungranted: set[bytes] = set()  # those whose grants let them link no more
        self.false: set[bytes] = set()  # credentials that no honest node hands on

    def may_link(self, origin: bytes, secret: bytes) -> str | None:
        return "barred" if origin in self.barred else None

    def bars(self, origin: bytes) -> bool:
        return origin in self.barred

    def may_speak(self, origin: bytes, credential: bytes) -> bool:
        if credential in self.false:
            raise RemoteError("a false grant", Reason.SIGNATURE)
        return not self.bars(origin) and credential == self.credential(origin)

    def why_not_granted(self, origin: bytes, grant: bytes, is_guest: bool) -> str | None:
        return f"no grant {is_guest}" if origin in self.ungranted else None

    def may_be(self, origin: bytes, is_guest: bool) -> bool:
        return is_guest or origin not in self.guests

    def only_listens(self, origin: bytes) -> bool:
        return origin in self.listeners

    def footprint(self) -> dict[str, int]:
        return {"grants": len(self.listeners)}

    def vouches(self, origin: bytes) -> bool:
        return origin in self.named

    def differs(self, credential: bytes) -> bytes:
        return self.others.get(credential, b"")

    def credential(self, origin: bytes) -> bytes:
        return hashlib.sha256(self.word + origin).digest()


class PolicyCase(MembershipTestCase):
    """A node that is linked with Anna and Bert, who have shown their credentials."""

    def setUp(self) -> None:
        self.policy = TestPolicy()
        self.manner = {"policy": self.policy}
        super().setUp()
        self.star("anna", "bert")
        self.receive(1, self.proven("anna"))
        self.receive(2, self.proven("bert"))

    def proven(self, name: str, counter: int = 1, sequence: int = 0) -> SignedRecord:
        """The record of *name*, with its credential."""
        return presence(name, counter, sequence, credential=self.policy.credential(origin_of(name)))

    def unproven(self) -> int:
        """How many batches wait."""
        return self.node.footprint()["unproven_batches"]


class TestCredentials(PolicyCase):
    def test_the_own_record_has_the_own_credential(self) -> None:
        (frame,) = of(self.all_frames(self.wait(6), 1), SignedRecord)
        self.assertEqual(frame.record.credential, self.policy.credential(origin_of("me")))  # type: ignore[union-attr]

    def test_a_record_without_the_right_credential_is_neither_kept_nor_passed_on(self) -> None:
        for wrong in (b"", b"x" * 32, self.policy.credential(origin_of("anna"))):
            effects = self.receive(1, presence("cleo", credential=wrong))
            effects += self.receive(1, presence("cleo", credential=wrong))
            self.assertEqual(
                (self.state("cleo"), self.presences(effects, 2), of(effects, Close)), (None, [], [])
            )
        self.assertEqual(self.count("refused_authors"), 6)
        self.assertEqual(self.presences(self.receive(1, self.proven("cleo")), 2), [("cleo", 1, 0)])

    def test_a_record_is_refused_before_it_is_verified(self) -> None:
        before = self.verified
        self.receive(1, presence("cleo"))
        self.assertEqual(self.verified, before)

    def test_nor_is_one_of_a_roster(self) -> None:
        self.open(3, "dora")
        effects = self.receive(3, ALL, roster(presence("cleo"), self.proven("emil")))
        self.assertEqual((self.state("cleo"), self.presences(effects, 1)), (None, [("emil", 1, 0)]))

    def test_of_a_link_that_brings_many_false_certificates_no_record_is_looked_at_for_a_while(self) -> None:
        looked: list[bytes] = []
        may_speak = self.policy.may_speak

        def counted(origin: bytes, credential: bytes) -> bool:
            looked.append(origin)
            return may_speak(origin, credential)

        self.patch(self.policy, "may_speak", counted)
        for certificate, least in ((b"", REFUSED_BURST + 50), (b"of this node", REFUSED_BURST)):
            self.policy.certificate = certificate
            looked.clear()
            for number in range(REFUSED_BURST + 50):
                self.receive(1, presence("cleo", number + 1, credential=b"x"))
            self.assertEqual(len(looked), least)
        for link, name, state in ((1, "emil", None), (2, "emil", State.UP), (1, "dora", None)):
            self.receive(link, self.proven(name))
            self.assertEqual(self.state(name), state)
        self.wait(2 / REFUSED_RATE)
        for number in range(5):
            self.receive(1, self.proven("dora", number + 2))
        self.assertEqual(
            (self.state("dora"), self.count("refused_authors")), (State.UP, 2 * REFUSED_BURST + 102)
        )

    def test_a_batch_waits_for_the_record_of_its_author_which_is_asked_for(self) -> None:
        effects = self.receive(1, batch("cleo", 1))
        self.assertEqual((self.delivered(effects), self.sent(effects, 2)), ([], []))
        self.assertEqual(self.wants(effects, 1), [("cleo", 2, 1)])
        self.assertEqual(self.wants(self.receive(1, batch("cleo", 2)), 1), [])
        self.assertEqual(self.unproven(), 2)
        self.assertEqual(self.wants(self.receive(2, batch("cleo", 1)), 2), [("cleo", 2, 1)])
        effects = self.receive(1, self.proven("cleo"))
        self.assertEqual(self.delivered(effects), [(1, [1]), (2, [2])])
        self.assertEqual(self.sent(effects, 2), [(2, 2)])
        self.assertEqual(self.unproven(), 0)

    def test_a_record_in_a_roster_ends_the_wait_too(self) -> None:
        self.receive(1, batch("cleo", 1))
        self.open(3, "dora")
        effects = self.receive(3, ALL, roster(self.proven("cleo")))
        self.assertEqual(self.delivered(effects), [(1, [1])])

    def test_a_forged_batch_does_not_wait_and_ends_its_link(self) -> None:
        effects = self.receive(1, forged(batch("cleo", 1)))
        self.assertEqual(self.closed(effects), [(1, Reason.SIGNATURE)])
        self.assertEqual(self.unproven(), 0)

    def test_a_peer_that_asks_for_a_record_gets_it_before_the_answer(self) -> None:
        guest = {"role": Role.GUEST, "credential": self.policy.credential(origin_of("cleo"))}
        self.receive(1, presence("cleo", **guest), batch("cleo", 1))
        self.open(3, "dora")  # the roster that Dora is told has no guests
        self.receive(3, ALL)
        effects = self.receive(3, Want(origin_of("cleo"), 1, 2, 1, graft=True))
        frames = self.all_frames(effects, 3)
        self.assertEqual([type(frame) for frame in frames], [Records, Have])

    def test_the_batches_of_a_link_that_is_gone_wait_no_longer(self) -> None:
        before = self.node.footprint()
        self.open(3, "dora")
        self.receive(3, ALL, batch("cleo", 1))
        self.assertEqual(self.unproven(), 1)
        self.handle(closing(3))
        self.assertEqual(self.unproven(), 0)
        self.assertEqual(before["unproven_bytes"], 0)

    def test_nor_do_those_that_come_while_it_ends(self) -> None:
        self.open(3, "dora")
        self.receive(3, ALL)
        self.handle(closing(3, Reason.DUPLICATE))
        self.receive(3, batch("cleo", 1))
        self.handle(LinkClosed(3))
        self.assertEqual(self.unproven(), 0)
        self.assertEqual(self.delivered(self.receive(1, self.proven("cleo"))), [])

    def test_an_own_batch_needs_no_record(self) -> None:
        self.receive(1, batch("me", 1, epoch=0))
        self.assertEqual(self.unproven(), 0)

    def test_more_than_wait_at_a_link_are_counted(self) -> None:
        self.receive(1, *(batch("cleo", at) for at in range(1, BATCHES_MOST + 3)))
        self.assertEqual((self.unproven(), self.count("no_room")), (BATCHES_MOST, 2))


class TestForgetting(PolicyCase):
    def test_one_that_only_listens_has_nobody_forgotten(self) -> None:
        self.policy.listeners = {origin_of("anna"), origin_of("me")}
        gone = self.policy.credential(origin_of("cleo"))
        self.receive(1, presence("cleo", 2, flags=PresenceFlags.LEAVING, credential=gone))
        self.assertEqual(self.gone(self.receive(1, forget("anna", "cleo", 2))), [])
        self.assertEqual(self.handle(ForgetMember(origin_of("cleo"))), [])
        self.assertEqual(self.gone(self.receive(1, forget("bert", "cleo", 2))), ["cleo"])
        self.assertEqual(self.node.footprint()["proven_authors"], 1)  # others may hold its messages


class TestGone(PolicyCase):
    """An author that is gone is forgotten sooner than its messages, which others can take all the same."""

    def setUp(self) -> None:
        super().setUp()
        self.receive(1, self.proven("cleo", 1, 1), batch("cleo", 1))
        self.wait(400)
        self.assertIsNone(self.state("cleo"))

    def asked(self, number: int, name: str) -> list[object]:  # type: ignore[override]
        """The frames that a peer gets that asks for Cleo's message."""
        self.open(number, name)
        self.receive(number, ALL)
        self.accept(number)
        return self.all_frames(self.receive(number, Want(origin_of("cleo"), 1, 1, 1, graft=True)), number)

    def test_its_record_goes_before_its_messages_and_shows_nobody(self) -> None:
        frames = [frame for frame in self.asked(3, "dora") if isinstance(frame, Records | SignedBatch)]
        self.assertEqual([type(frame) for frame in frames], [Records, SignedBatch])
        (records, message) = frames
        self.make()
        self.up(1, "anna")
        self.receive(1, roster())
        assert isinstance(records, Records) and isinstance(message, SignedBatch)
        effects = self.receive(1, message) + self.receive(1, records)
        self.assertEqual(self.delivered(effects), [(1, [1])])
        self.assertEqual((self.state("cleo"), self.changed(effects)), (None, []))
        self.assertEqual(self.delivered(self.receive(1, batch("cleo", 2))), [(2, [2])])
        self.assertEqual(self.node.footprint()["proven_authors"], 1)

    def test_it_is_sent_once_over_a_link(self) -> None:
        self.asked(3, "dora")
        again = self.receive(3, Want(origin_of("cleo"), 1, 1, 1, graft=True))
        self.assertEqual([frame for frame in self.all_frames(again, 3) if isinstance(frame, Records)], [])

    def test_its_next_record_shows_it_again(self) -> None:
        self.receive(1, self.proven("cleo", 2, 1))
        self.assertIsNotNone(self.state("cleo"))
        self.assertNotIn(origin_of("cleo"), self.node._admission.proven)

    def test_what_proves_nothing_is_not_kept(self) -> None:
        before = self.node.footprint()["proven_authors"]
        self.receive(1, self.proven("dora"))
        told = [self.proven("me"), self.proven("cleo", 9), self.proven("dora"), presence("emil")]
        self.receive(1, records(*told, age=FORGOTTEN))
        self.assertEqual(self.node.footprint()["proven_authors"], before)
        for false in (forged(self.proven("dora")), suspect("anna", "bert")):
            self.make()
            self.up(1, "anna")
            effects = self.receive(1, records(false))
            self.assertEqual([close.link for close in of(effects, Close)], [1])

    def test_whoever_may_speak_no_more_is_dropped(self) -> None:
        self.handle(PolicyChanged())
        self.assertIn(origin_of("cleo"), self.node._admission.proven)
        self.policy.word = b"new"
        self.handle(PolicyChanged())
        self.assertEqual(self.node.footprint()["proven_authors"], 0)

    def test_they_are_kept_as_long_as_messages_and_are_bounded(self) -> None:
        proven = ProvenAuthors(MeshConfig(members_limit=2, history_seconds=10.0, store_seconds=20.0))
        for at, name in enumerate(("anna", "bert", "cleo", "bert")):
            proven.keep(presence(name), origin_of(name), float(at))
        self.assertEqual(
            [origin_of(name) in proven for name in ("anna", "bert", "cleo")], [False, True, True]
        )
        self.assertIsNone(proven.get(origin_of("anna")))
        proven.tick(21.9)
        self.assertEqual(proven.footprint(), {"proven_authors": 2})
        proven.tick(22.0)
        self.assertEqual(proven.footprint(), {"proven_authors": 1})
        proven.drop(origin_of("anna"))

    def test_without_a_secret_nothing_is_kept(self) -> None:
        self.policy.needs_credentials = False
        self.receive(1, records(self.proven("dora"), age=FORGOTTEN))
        self.assertNotIn(origin_of("dora"), self.node._admission.proven)

    def test_nor_is_it_verified(self) -> None:
        self.policy.needs_credentials = False
        before = self.verified
        for _ in range(3):
            self.receive(1, records(self.proven("anna", 9), self.proven("dora"), age=FORGOTTEN))
        self.assertEqual(self.verified, before)

    def test_it_counts_in_the_share_of_its_author(self) -> None:
        self.make(known_records_burst=2)
        self.up(1, "anna")
        self.up(2, "bert")
        self.receive(1, roster())
        told, proven = records(self.proven("dora"), age=FORGOTTEN), self.node._admission.proven
        self.receive(2, self.proven("bert"), batch("bert", 1))
        for _ in range(3):
            self.receive(1, told)
            self.assertIn(origin_of("dora"), proven)
            proven.drop(origin_of("dora"))
        self.fire(Timer.SHARES, self.now + shares.LOOK + 2 * shares.LATE)
        self.receive(1, told)
        self.assertEqual((origin_of("dora") in proven, self.count("over_share")), (False, 1))


class TestWaiting(MembershipTestCase):
    def test_of_each_link_the_newest_wait(self) -> None:
        waiting = WaitingBatches()
        self.assertFalse(waiting)
        for at in range(1, BATCHES_MOST + 1):
            self.assertEqual(waiting.put(1, batch("anna", at)), (at == 1, 0))
        self.assertEqual(waiting.put(2, batch("anna", 1)), (True, 0))
        self.assertEqual(waiting.put(1, batch("bert", 1)), (True, 1))
        self.assertTrue(waiting)
        self.assertEqual(waiting.footprint()["unproven_batches"], BATCHES_MOST + 1)
        taken = [(link, signed.batch.first) for link, signed in waiting.take(origin_of("anna"))]
        self.assertEqual(taken, [*((1, at) for at in range(2, BATCHES_MOST + 1)), (2, 1)])
        self.assertEqual(waiting.footprint()["unproven_batches"], 1)
        waiting.link_gone(1)
        self.assertFalse(waiting)

    def test_their_bytes_are_counted_and_one_always_has_room(self) -> None:
        waiting = WaitingBatches()
        large = BYTES_MOST // 2
        for at, dropped in ((1, 0), (2, 1), (3, 1)):
            self.assertEqual(waiting.put(1, raw_batch("anna", at, 1, bytes(large)))[1], dropped)
        self.assertEqual(waiting.put(1, raw_batch("anna", 4, 1, bytes(2 * large)))[1], 1)
        self.assertGreater(waiting.footprint()["unproven_bytes"], BYTES_MOST)


class TestBarred(PolicyCase):
    def test_nothing_of_a_barred_author_is_taken_or_asked_for(self) -> None:
        self.policy.barred = {origin_of("cleo")}
        effects = self.receive(1, self.proven("cleo"), batch("cleo", 1), have("cleo", 1, 1))
        effects += self.wait(5)
        self.assertEqual((self.delivered(effects), self.state("cleo"), self.asked(effects)), ([], None, []))
        self.assertEqual((of(effects, Close), self.sent(effects, 2)), ([], []))


class TestChanges(PolicyCase):
    def test_links_and_authors_that_are_struck_out_go(self) -> None:
        self.receive(1, self.proven("cleo"), batch("cleo", 1))
        self.policy.barred = {origin_of("bert"), origin_of("cleo")}
        effects = self.handle(PolicyChanged())
        self.assertEqual(self.count("refused_authors"), 0)
        self.assertEqual(self.closed(effects), [(2, Reason.TRUST)])
        gone = {effect.origin for effect in of(effects, MemberGone)}
        self.assertEqual(gone, self.policy.barred)
        self.assertEqual(
            (self.state("bert"), self.state("cleo"), self.state("anna") is None), (None, None, False)
        )
        self.assertEqual(self.delivered(self.receive(1, batch("cleo", 2))), [])
        # What was held before is still served.
        self.assertEqual(
            self.sent(self.receive(1, Want(origin_of("cleo"), 1, 1, 2, graft=True)), 1), [(1, 1)]
        )

    def test_the_new_credential_is_shown_at_once(self) -> None:
        self.policy.word = b"new"
        effects = self.handle(PolicyChanged())
        (frame,) = of(self.all_frames(effects, 1), SignedRecord)
        self.assertEqual(frame.record.credential, self.policy.credential(origin_of("me")))  # type: ignore[union-attr]

    def test_before_the_first_record_there_is_none_to_renew(self) -> None:
        self.make()
        self.assertEqual(self.handle(PolicyChanged()), [])

    def test_a_guest_and_a_suspect_that_are_struck_out_are_forgotten(self) -> None:
        self.receive(1, presence("cleo", role=1, credential=self.policy.credential(origin_of("cleo"))))
        self.node.roster.suspect(self.entry("bert"), self.now)
        self.policy.barred = {origin_of("bert"), origin_of("cleo")}
        effects = self.handle(PolicyChanged())
        self.assertEqual([effect.origin for effect in of(effects, MemberGone)], [origin_of("bert")])
        self.assertIsNone(self.node.roster.suspected_until)


class TestOwnCredential(PolicyCase):
    def test_a_record_is_sent_at_once_if_it_has_a_new_credential_and_not_if_others_have_changed(
        self,
    ) -> None:
        self.wait(6)
        self.policy.barred = {origin_of("bert")}
        self.assertEqual(self.presences(self.handle(PolicyChanged()), 1), [])
        self.policy.word = b"another"
        for shown in ([("me", 3, 0)], []):
            self.assertEqual(self.presences(self.handle(PolicyChanged()), 1), shown)


class TestGranted(PolicyCase):
    """Authors that may do some things and not others."""

    def test_a_guest_may_be_no_member(self) -> None:
        self.policy.guests = {origin_of("cleo")}
        self.receive(1, self.proven("cleo"))
        self.assertEqual((self.state("cleo"), self.count("refused_authors")), (None, 1))
        credential = self.policy.credential(origin_of("cleo"))
        self.receive(1, presence("cleo", role=1, credential=credential))
        self.assertIsNotNone(self.state("cleo"))

    def test_of_a_member_that_may_only_listen_no_message_is_taken(self) -> None:
        self.policy.listeners = {origin_of("anna")}
        effects = self.receive(1, batch("anna", 1), Whisper(batch("anna", 1).body))
        effects += self.receive(1, direct("anna", "me", 1))
        self.assertEqual((self.delivered(effects), of(effects, Deliver), of(effects, Close)), ([], [], []))
        self.assertEqual(self.sent(effects, 2), [])
        self.assertEqual(self.count("refused_authors"), 3)
        effects = self.receive(2, Whisper(batch("bert", 1).body), direct("bert", "me", 1))
        self.assertEqual(len(of(effects, Deliver)), 2)
        self.assertEqual(self.node.footprint()["grants"], 1)

    def test_messages_of_a_member_that_may_only_listen_are_not_missing(self) -> None:
        self.policy.listeners = {origin_of("anna")}
        said = (have("anna", 1, 50), self.proven("anna", 2, sequence=1000))
        for frame in said:
            effects = self.receive(1, frame)
            for _ in range(4):
                effects += self.wait(MeshConfig().gap_patience / 2)
            self.assertEqual((of(self.all_frames(effects, 1), Want), of(effects, GapFound)), ([], []))
        self.policy.listeners = set()
        wants = of(self.all_frames(self.receive(2, self.proven("anna", 3, sequence=3)), 2), Want)
        wants += of(self.all_frames(self.wait(2), 1), Want)
        self.assertTrue(wants)

    def test_a_link_by_a_grant_that_is_not_good_any_more_is_closed(self) -> None:
        self.policy.ungranted = {origin_of("bert")}
        effects = self.handle(PolicyChanged())
        self.assertEqual(
            [(close.link, close.reason, close.detail) for close in of(effects, Close)],
            [(2, Reason.TRUST, "no grant False")],
        )

    def test_a_record_with_a_false_grant_ends_its_link(self) -> None:
        false = presence("cleo", credential=b"false")
        for number, frame in ((1, false), (2, records(false))):
            self.policy.false = {b"false"}
            self.assertEqual(self.closed(self.receive(number, frame)), [(number, Reason.SIGNATURE)])

    def test_a_false_grant_in_the_answer_of_a_node_is_no_fault_of_the_link_that_brought_it(self) -> None:
        self.handle(SendDirects((SendDirect(1, origin_of("anna"), b"body"),)))
        newest = presence("anna", 9, credential=b"false")
        self.policy.false = {b"false"}
        effects = self.receive(1, lacks_key("anna", "me", 1, newest))
        self.assertEqual(self.closed(effects), [])
        self.assertEqual(self.node.roster.rank(origin_of("anna")), (1, 1))


class TestVouched(PolicyCase):
    def test_an_author_that_the_user_has_named_is_known_at_once(self) -> None:
        self.policy.named = {origin_of("cleo")}
        self.receive(1, self.proven("cleo"), self.proven("dora"))
        authors = self.node.history.authors
        self.assertIsNone(authors.introducer(origin_of("cleo"), self.now))
        self.assertIsNotNone(authors.introducer(origin_of("dora"), self.now))

    def test_one_that_was_new_or_is_known_stays_one_entry(self) -> None:
        authors = Authors(MeshConfig())
        authors.met(origin_of("cleo"), "192.0.2.1", 0.0)
        for _ in range(2):
            authors.vouched(origin_of("cleo"))
            self.assertEqual(authors.footprint(), {"known_authors": 1, "new_authors": 0})


class TestOtherLists(PolicyCase):
    def test_each_difference_is_told_once(self) -> None:
        def told(counter: int, lists: bytes) -> list[bytes]:
            self.policy.others = {self.policy.credential(origin_of("cleo")): lists}
            effects = self.receive(1, self.proven("cleo", counter))
            return [differ.origin for differ in of(effects, ListsDiffer)]

        cleo = [origin_of("cleo")]
        found = [told(at, lists) for at, lists in enumerate((b"", b"x", b"x", b"y", b"", b"y"), 1)]
        self.assertEqual(found, [[], cleo, [], cleo, [], cleo])


class TestEverybody(MembershipTestCase):
    def test_everybody_may_link_and_speak_and_shows_nothing(self) -> None:
        origin = origin_of("anna")
        self.assertIsNone(EVERYBODY.may_link(origin, b""))
        self.assertTrue(EVERYBODY.may_speak(origin, b""))
        self.assertEqual((EVERYBODY.bars(origin), EVERYBODY.vouches(origin)), (False, False))
        self.assertEqual(EVERYBODY.credential(origin), b"")
        self.assertIsNone(EVERYBODY.why_not_granted(origin, b"", False))
        self.assertTrue(EVERYBODY.may_be(origin, True) and not EVERYBODY.only_listens(origin))
        self.assertEqual((EVERYBODY.why_silent, EVERYBODY.footprint()), (None, {}))
        self.assertEqual((EVERYBODY.take(b""), EVERYBODY.newest, EVERYBODY.removed), (False, b"", {}))

    def test_a_policy_without_credentials_takes_authors_whose_record_has_not_come(self) -> None:
        policy = TestPolicy()
        policy.needs_credentials = False
        self.manner = {"policy": policy}
        self.star("anna")
        self.assertEqual(self.delivered(self.receive(1, batch("cleo", 1))), [(1, [1])])
