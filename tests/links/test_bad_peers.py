"""Whatever a peer sends: its link is closed with a reason, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from msgspec import structs

from tests.support.meshcase import Puppet, Raw, TlsCase, batch
from twisted_mesh.core.handshake import Side, Stage
from twisted_mesh.identity import Identity
from twisted_mesh.network import Protocol
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Snapshot
from twisted_mesh.wire.framing import frame
from twisted_mesh.wire.link import Bye, Intro, Proof, Whisper

#: Bytes that are no frame.
NO_FRAMES = {
    "over-long": b"\xff\xff\xff\xff",
    "empty": bytes(4),
    "http": b"GET / HTTP/1.1\r\n\r\n",
}


class BadPeer(TlsCase):
    """Two linked nodes; afterwards the link must work, and the tables of the first must be as before."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.chain(2)
        self.before = self.lasting(self.a.footprint())

    def assert_nothing_left(self, *, links: int = 1) -> None:
        self.network.advance(3)
        after = self.lasting(self.a.footprint())
        self.assertEqual(after, self.before)
        self.assertEqual(len(self.a.routing_table), links)
        self.a.send("still")
        self.send(self.b, "as before")
        self.assertEqual((self.got(self.a)[-1], self.got(self.b)[-1]), ("as before", "still"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def assert_refused(self, peer: Raw, reason: str) -> None:
        self.network.pump()
        self.assertIsNotNone(peer.bye)
        self.assertEqual(peer.bye.reason, reason)  # type: ignore[union-attr]
        self.assertIsNotNone(peer.lost)


class TestBeforeTheGreeting(BadPeer):
    def test_no_frames(self) -> None:
        for name, data in NO_FRAMES.items():
            raw = self.dial(Raw(), self.a)
            raw.write(data)
            self.assert_refused(raw, "framing")
            self.assertEqual(self.reasons(self.a)[-1], "framing", name)
        self.assert_nothing_left()

    def test_rubbish(self) -> None:
        random = Random(5)
        for _ in range(40):
            raw = self.dial(Raw(), self.a)
            self.network.pump()
            raw.write(random.randbytes(random.randrange(1, 500)))
            self.network.pump()
            raw.close()
        self.network.pump()
        self.assert_nothing_left()

    def test_rubbish_in_place_of_tls(self) -> None:
        random = Random(6)
        for _ in range(20):
            raw = self.dial(Raw(), self.a, encrypted=False)
            raw.write(random.randbytes(300))
        self.network.advance(12)
        self.assert_nothing_left()

    def test_five_megabytes_of_rubbish(self) -> None:
        raw = self.dial(Raw(), self.a)
        raw.write(Random(7).randbytes(5 * 2**20))
        self.assert_refused(raw, "framing")
        self.assert_nothing_left()

    def test_one_byte_a_second(self) -> None:
        raw = self.dial(Raw(), self.a)
        for _ in range(12):
            raw.write(b"\x00")
            self.network.advance(1)
        self.assertIsNotNone(raw.lost)
        self.assert_nothing_left()


class TestInPlaceOfProof(BadPeer):
    def proving(self, change: Callable[[bytes], bytes], **options: Any) -> Puppet:
        puppet = self.puppet(**options)
        puppet.twist[Stage.INTRO] = change
        return self.dial(puppet, self.a)

    def test_a_truncated_frame(self) -> None:
        puppet = self.proving(lambda answer: answer[:-5])
        self.network.pump()
        puppet.close()
        self.network.pump()
        self.assert_nothing_left()

    def test_a_proof_of_another_key(self) -> None:
        other = Identity.generate()
        self.assert_refused(self.dial(self.puppet(sign=other.sign), self.a), "proof")
        self.assert_nothing_left()

    def test_a_proof_that_is_sent_back(self) -> None:
        # The acceptor sends the dialler's own PROOF back to it.
        me = Identity.generate()
        puppet = self.puppet(Side.ACCEPTOR, identity=me)
        self.serve([puppet])
        size = len(codec.encode(Proof(bytes(64), bytes(32))))
        puppet.twist[Stage.PROOF] = lambda _: puppet.received[-size:]
        self.assertEqual(self.failure_of(self.a.connect("10.9.9.9", 4444)).reason, "proof")
        self.assert_refused(puppet, "proof")
        self.assert_nothing_left()


class TestBehindProof(BadPeer):
    def test_what_came_before_the_bad_frame_counts(self) -> None:
        puppet = self.joined(self.a)
        puppet.write(codec.encode(batch(puppet.me, 1, "good")) + frame(b"\x05"))
        self.assert_refused(puppet, "shape")
        self.assertEqual((self.got(self.a), self.got(self.b)), (["good"], ["good"]))

    def refused_behind_proof(self, reason: str, frames: dict[str, codec.Signed | codec.Plain]) -> None:
        """Assert that each of *frames* ends its link with *reason*, and has no other effect."""
        for name, bad in frames.items():
            with self.subTest(name):
                puppet = self.joined(self.a)
                puppet.send(bad)
                self.assert_refused(puppet, reason)
        self.assertEqual(self.got(self.a) + self.got(self.b), [])
        self.assert_nothing_left()

    def test_frames_of_the_handshake(self) -> None:
        frames = {
            "an INTRO": Intro(1, 1, 0, False, bytes(32), bytes(32), 0, 0),
            "a PROOF": Proof(bytes(64), bytes(32)),
            "a SNAPSHOT": Snapshot(True, []),
        }
        self.refused_behind_proof("order", frames)

    def test_a_message_before_the_snapshot(self) -> None:
        for early in (Whisper(b"\x90"), None):
            puppet = self.met(self.a, frontier=False)
            puppet.send(early or batch(puppet.me, 1, "early"))
            self.assert_refused(puppet, "order")
        self.assertEqual(self.got(self.a), [])
        self.assert_nothing_left()

    def test_messages_that_their_author_has_not_signed_for_this_network(self) -> None:
        me = self.puppet().me
        true = batch(me, 1, "true")
        frames = {
            "no signature": structs.replace(true, signature=bytes(64)),
            "of another author": batch(self.puppet(sign=me.sign).me, 1, "forged"),
            "of another network": batch(self.puppet(network=Protocol("elsewhere", "SSL")).me, 1, "astray"),
        }
        self.refused_behind_proof("signature", frames)

    def test_a_whisper_that_is_no_list_of_messages(self) -> None:
        bodies = (b"\xc1", b"\x91\x01", b"\x91\x92\x00\x05", b"\x91\x93\x00\x00\xd4\x01\x00")
        self.refused_behind_proof("shape", {repr(body): Whisper(body) for body in bodies})

    def test_a_poisoned_body_is_its_authors_fault(self) -> None:
        puppet = self.joined(self.a)
        self.send_frames(puppet, batch(puppet.me, 1, body=b"\xc1", count=3), batch(puppet.me, 4, "next"))
        self.assertIsNone(puppet.lost)
        for node in (self.a, self.b):
            (failure,) = self.happened(node, "failure")
            self.assertEqual(failure.type.__name__, "PoisonedBody")
            self.assertEqual(self.got(node), ["next"])
        self.assertEqual(len(self.log("messages 1 to 3 of")), 2)

    def test_a_frame_of_an_unknown_kind_is_passed_over(self) -> None:
        puppet = self.joined(self.a)
        puppet.write(frame(b"\x77\x00anything"))
        self.send_frames(puppet, batch(puppet.me, 1, "next"))
        self.assertIsNone(puppet.lost)
        self.assertEqual(self.got(self.a), ["next"])

    def test_a_bye_of_a_later_version(self) -> None:
        puppet = self.joined(self.a)
        self.send_frames(puppet, Bye("boredom", "nothing on"))
        self.assertIsNotNone(puppet.lost)
        self.assertEqual(len(self.log("the peer closed: nothing on")), 1)
        self.assert_nothing_left()

    def test_a_bye_in_the_handshake(self) -> None:
        puppet = self.puppet()
        puppet.twist[Stage.INTRO] = lambda _: codec.encode(Bye("full", "no room"))
        self.dial(puppet, self.a)
        self.network.pump()
        self.assertEqual(self.reasons(self.a), ["full"])
        self.assert_nothing_left()

    def test_rubbish_in_a_link_leaves_the_chain_alone(self) -> None:
        random = Random(8)
        for _ in range(30):
            puppet = self.joined(self.a)
            puppet.write(frame(random.randbytes(random.randrange(1, 200))) * 3 + random.randbytes(50))
            self.network.pump()
            puppet.close()
            self.network.pump()
        self.assert_nothing_left()


class TestTelling(BadPeer):
    def test_log_lines_about_a_host_are_bounded(self) -> None:
        for _ in range(50):
            self.dial(Raw(), self.a, host="10.9.9.1").write(b"\xff" * 9)
        self.dial(Raw(), self.a, host="10.9.9.2").write(b"\xff" * 9)
        self.network.pump()
        self.assertEqual(len(self.log("connection from 10.9.9.1:")), 5)
        self.assertEqual(len(self.log("connection from 10.9.9.2:")), 1)
        self.assertEqual((len(self.reasons(self.a)), self.a.dropped["dropped_refusals"]), (20, 31))
        self.network.advance(61)
        self.dial(Raw(), self.a, host="10.9.9.1").write(b"\xff" * 9)
        self.network.pump()
        self.assertEqual(len(self.log("(45 more lines about this host were held back)")), 1)

    def test_log_lines_about_an_author_are_bounded_and_what_is_wrong_is_told_all_the_same(self) -> None:
        author = self.puppet().me
        self.joined(self.a).send(*(batch(author, number, "x", encoding=1) for number in range(1, 501)))
        self.network.pump()
        self.assertEqual(len(self.log("cannot be read")), 2 * 5)
        self.network.advance(61)
        self.assertEqual(len(self.log("cannot be read")), 2 * 6)
        self.assertEqual(len(self.log("(15 more lines about authors were held back)")), 2)
        runs = [structs.replace(author, epoch=epoch) for epoch in range(2, 52)]
        self.joined(self.a).send(*(batch(run, 2, "x") for run in runs))
        self.network.advance(31)
        self.assertLessEqual(len(self.log("lost: ")), 2 * 5)
        self.network.advance(150)
        for node in (self.a, self.b):
            failures = self.happened(node, "failure")
            self.assertEqual(len(failures), 20 + 1)
            self.assertIn("messages 21 to 500 of ", failures[-1].getErrorMessage())
            self.assertEqual(sorted(gap.epoch for gap in self.happened(node, "gap")), [*range(2, 52)])

    def test_many_keys_write_no_more_than_is_allowed_for_all_authors(self) -> None:
        puppet = self.joined(self.a)
        for _ in range(70):
            author = self.puppet().me
            puppet.send(*(batch(author, number, "x", encoding=1) for number in (1, 2, 3)))
        self.network.pump()
        self.assertEqual(len(self.happened(self.b, "failure")), 20)
        self.network.advance(10)
        self.assertEqual(len(self.log("cannot be read")), 2 * 60)
        told = [failure.getErrorMessage() for failure in self.happened(self.b, "failure")]
        self.assertEqual(len({text.split(" of ")[1] for text in told}), 70)

    def test_a_peers_words_are_cut_to_size_and_to_one_line(self) -> None:
        puppet = self.joined(self.a)
        self.send_frames(puppet, Bye("slow", "first\nsecond\x1b[31m\u202e" + "x" * 450))
        (line,) = self.log("the peer closed")
        self.assertTrue(line.isprintable())


class TestFloods(BadPeer):
    """A peer that sends without end while the node is busy and others speak has its share."""

    def test_what_is_over_the_share_goes_no_further_and_no_link_is_blamed(self) -> None:
        puppet = self.joined(self.a)
        self.a.send("from a", bytes(5_000))  # so much that the line to b is measured
        self.network.pump()
        self.a.send("from a")
        self.send_frames(puppet, *(batch(puppet.me, at, "flood") for at in range(1, 301)))
        self.network.clock.advance(0.05)  # the timers of these 50 milliseconds fire late
        before = len(self.got(self.b))
        self.send_frames(puppet, *(batch(puppet.me, at, "flood") for at in range(301, 601)))
        self.assertEqual(self.a.dropped["over_share"], 300)
        self.assertEqual((len(self.got(self.b)), puppet.lost), (before, None))
        self.a.send("still")
        self.network.advance(0.1)
        self.assertEqual(self.got(self.b)[-1], "still")
        self.assertEqual(len(self.b.routing_table), 1)
