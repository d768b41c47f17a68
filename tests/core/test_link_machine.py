"""Which frames may come when over one connection, how it ends, and when the machine has a deadline."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from math import inf
from random import Random

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.config import MeshConfig
from twisted_mesh.core.arriving import REPORTED_AFTER
from twisted_mesh.core.events import Arriving
from twisted_mesh.core.handshake import Handshake, LocalNode, Peer, Side
from twisted_mesh.core.link_machine import GREETING_DUE, TOGETHER, Left, LinkEvent, LinkMachine, Phase
from twisted_mesh.errors import EncryptionMismatch, HandshakeTimeout, Reason, RemoteError
from twisted_mesh.identity import Identity, verify
from twisted_mesh.network import EVERYBODY, Policy, Protocol
from twisted_mesh.runtime.sealing import HpkeKeys
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Snapshot
from twisted_mesh.wire.fields import Kind
from twisted_mesh.wire.framing import GREETING_FRAME_BYTES, MAX_FRAME_BYTES, FrameReader, frame
from twisted_mesh.wire.link import Bye, Intro, Ping, Pong, Proof, Whisper

HERE = Protocol("here", "SSL")
CONFIG = MeshConfig(handshake_timeout=3.0, close_timeout=2.0)
INTRO, PROOF, BATCH = Kind.INTRO, Kind.PROOF, Kind.BATCH
#: Bytes that are no frame at any point of a conversation.
NO_FRAMES = {
    "over-long": b"\xff\xff\xff\xff",
    "over-long by one": (2**20 + 1025).to_bytes(4, "big"),
    "empty": bytes(4),
    "http": b"GET / HTTP/1.1\r\n\r\n",
}
#: Frames of a wrong shape.
SHAPES = {
    "no kind": frame(b"\x05"),
    "no array": frame(bytes((INTRO, 0)) + b"\xc1"),
    "array too short": frame(bytes((INTRO, 0)) + b"\x91\x01"),
    "wrong type": frame(bytes((PROOF, 0)) + b"\x92\x01\xc4\x00"),
    "nested for ever": frame(bytes((INTRO, 0)) + b"\x91" * 60_000),
    "batch without a signature": frame(bytes((BATCH, 0)) + b"abc"),
    "snapshot of nonsense": frame(bytes((Kind.SNAPSHOT, 0)) + b"\x92\xc3\x91\x95\x01\x01\x01\x01\x01"),
    "ping beyond numbers": frame(bytes((Kind.PING, 0)) + b"\x91\xcf" + b"\xff" * 8),
    "bye of bytes": frame(bytes((Kind.BYE, 0)) + b"\x92\xc4\x01a\xa0"),
}


def local_node() -> LocalNode:
    """A node with a key of its own."""
    key = Identity.generate()
    return LocalNode(key.id, key.origin, 7, HERE, None, False, key.sign, verify, HpkeKeys())


def end(side: Side, policy: Policy = EVERYBODY) -> LinkMachine:
    """One end of a connection."""
    me = msgspec.structs.replace(local_node(), policy=policy)
    handshake = Handshake(side, me, nonce=side.value[:1] * 32, time=1)
    return LinkMachine(5, handshake, CONFIG, lambda: b"s" * 32)


class MachineCase(SynchronousTestCase):
    """Anna dials Bert at the time 100; their bytes take no time."""

    def setUp(self) -> None:
        self.anna, self.bert = end(Side.DIALLER), end(Side.ACCEPTOR)
        self.now = 100.0
        self.read = 0
        self.said = {self.anna: self.anna.start(self.now), self.bert: self.bert.start(self.now)}

    def take(self, machine: LinkMachine, data: bytes) -> list[LinkEvent]:
        """Let *machine* receive *data*; its events, without the bytes, which are kept in *said*."""
        self.read += len(data)
        events = []
        for event in machine.receive(data, self.read, self.now):
            if isinstance(event, bytes):
                self.said[machine] += event
            else:
                events.append(event)
        return events

    def turn(self, machine: LinkMachine) -> list[LinkEvent]:
        """Let *machine* receive all that the other end has said."""
        other = self.bert if machine is self.anna else self.anna
        data, self.said[other] = self.said[other], b""
        return self.take(machine, data)

    def shake(self, turns: str) -> None:
        """Let Anna (a) and Bert (b) receive by turns what the other has said."""
        for who in turns:
            self.turn(self.anna if who == "a" else self.bert)

    def up_to(self, stage: str) -> LinkMachine:
        """Begin anew, and bring both ends to *stage*; the end to test: Bert, or Anna if open."""
        MachineCase.setUp(self)
        self.shake({"greeting": "", "INTRO": "a", "PROOF": "ab", "open": "ababa"}[stage])
        if stage == "INTRO":
            greeting, intro = FrameReader().feed(self.said[self.anna])
            self.take(self.bert, frame(greeting))
            self.said[self.anna] = frame(intro)
        return self.anna if stage == "open" else self.bert

    def refusal(self, machine: LinkMachine, data: bytes) -> RemoteError:
        """The error that *machine* raises when it receives *data*."""
        return self.assertRaises(RemoteError, self.take, machine, data)


def frames_in(data: bytes) -> list[codec.Frame]:
    """The frames in *data*, all of which are whole."""
    return [codec.decode(payload) for payload in FrameReader(MAX_FRAME_BYTES).feed(data)]


class TestHandshake(MachineCase):
    """From the first byte to a proven peer."""

    def test_both_ends_are_proven_and_open(self) -> None:
        self.assertEqual((self.turn(self.anna), self.turn(self.bert), self.turn(self.anna)), ([], [], []))
        ((anna,), (bert,)) = self.turn(self.bert), self.turn(self.anna)
        self.assertIsInstance(anna, Peer)
        self.assertEqual((self.bert.peer, self.anna.peer), (anna, bert))
        self.assertEqual((self.anna.phase, self.bert.phase), (Phase.OPEN, Phase.OPEN))

    def test_how_the_bytes_are_cut_changes_nothing(self) -> None:
        random = Random(3)
        for most in (1, 2, 7, 1000):
            self.setUp()
            events: list[LinkEvent] = []
            while any(self.said.values()):
                for machine, other in ((self.anna, self.bert), (self.bert, self.anna)):
                    cut = random.randint(1, most)
                    data, self.said[other] = self.said[other][:cut], self.said[other][cut:]
                    events += self.take(machine, data)
            self.assertEqual([type(event) for event in events], [Peer, Peer], most)

    def test_what_is_no_frame_or_of_another_shape_is_refused_at_every_point(self) -> None:
        for stage in ("greeting", "INTRO", "PROOF", "open"):
            for name, data in NO_FRAMES.items():
                self.assertIs(self.refusal(self.up_to(stage), data).reason, Reason.FRAMING, (stage, name))
            for name, data in SHAPES.items():
                is_first = stage == "greeting"
                too_long = is_first and len(data) > GREETING_FRAME_BYTES
                reason = Reason.FRAMING if too_long else Reason.GREETING if is_first else Reason.SHAPE
                self.assertIs(self.refusal(self.up_to(stage), data).reason, reason, (stage, name))

    def test_so_is_a_dialler_that_is_greeted_with_it(self) -> None:
        for data in (*NO_FRAMES.values(), *SHAPES.values()):
            self.setUp()
            self.assertIn(self.refusal(self.anna, data).reason, (Reason.FRAMING, Reason.GREETING))

    def test_what_comes_out_of_order_is_refused(self) -> None:
        later = (Snapshot(True, []), Whisper(b"\x90"), Ping(1))
        intro, proof = Intro(1, 1, 0, False, bytes(32), bytes(32), 0, 0), Proof(bytes(64), bytes(32))
        for stage, wrong in (("INTRO", (proof, *later)), ("PROOF", (intro, *later))):
            for one in wrong:
                self.assertIs(self.refusal(self.up_to(stage), codec.encode(one)).reason, Reason.ORDER, one)

    def test_before_the_greeting_eight_kibibytes_are_kept_and_no_more(self) -> None:
        most = b"\0\0\x20\0" + b"x" * (2**13 - 1)
        self.assertEqual(self.take(self.up_to("greeting"), most), [])
        too_much = (2**13 + 1).to_bytes(4, "big")
        for side in ("anna", "bert"):
            self.up_to("greeting")
            self.assertIs(self.refusal(getattr(self, side), too_much).reason, Reason.FRAMING)
        self.assertEqual(self.take(self.up_to("INTRO"), too_much), [])

    def test_a_handshake_may_say_less_than_a_link(self) -> None:
        large = (2**16 + 1).to_bytes(4, "big")
        for stage in ("greeting", "INTRO", "PROOF"):
            self.assertIs(self.refusal(self.up_to(stage), large).reason, Reason.FRAMING)
        self.assertEqual(self.take(self.up_to("open"), large), [])

    def test_tls_is_known_by_its_first_bytes_however_they_come(self) -> None:
        self.take(self.bert, b"\x16")
        self.take(self.bert, b"\x03")
        self.assertIsInstance(self.refusal(self.bert, b"\x01\x02\x00\x01"), EncryptionMismatch)

    def test_a_bye_is_the_peers_refusal(self) -> None:
        error = self.refusal(self.up_to("PROOF"), codec.encode(Bye("full", "no room")))
        self.assertEqual((error.reason, error.detail), (Reason.FULL, "the peer closed: no room"))


class OpenCase(MachineCase):
    """The handshake of Anna and Bert is over."""

    def setUp(self) -> None:
        super().setUp()
        self.shake("ababa")


class TestFrames(OpenCase):
    """Over an open link."""

    def test_all_of_one_read_come_together(self) -> None:
        pings = [Ping(1), Ping(2), Whisper(b"\x90")]
        self.assertEqual(self.take(self.anna, b"".join(map(codec.encode, pings))), [pings])

    def test_but_no_more_than_are_handled_in_a_short_time(self) -> None:
        pings = [Ping(number) for number in range(2 * TOGETHER + 1)]
        events = self.take(self.anna, b"".join(map(codec.encode, pings)))
        self.assertEqual(events, [pings[:TOGETHER], pings[TOGETHER : 2 * TOGETHER], pings[2 * TOGETHER :]])

    def test_nor_more_than_were_handled_in_a_millisecond_before(self) -> None:
        pings = b"".join(codec.encode(Ping(number)) for number in range(4 * TOGETHER))

        def sizes(frames: int, seconds: float) -> list[int]:
            self.anna.took(frames, seconds)
            return [len(event) for event in self.take(self.anna, pings) if isinstance(event, list)]

        self.assertEqual(set(sizes(32, 0.008)), {4})
        self.assertEqual(set(sizes(4, 0.008)), {1})
        self.assertEqual(set(sizes(1, 0)), {2})  # it becomes no more than twice as many at a time
        self.assertEqual(set(sizes(2, 0.0001)), {4})
        for _ in range(4):
            self.anna.took(32, 0.0002)
        self.assertEqual(set(sizes(32, 0)), {TOGETHER})

    def test_whoever_is_closed_between_them_is_read_no_more(self) -> None:
        pings = [Ping(number) for number in range(2 * TOGETHER)]
        events = self.anna.receive(b"".join(map(codec.encode, pings)), 99, 100)
        self.assertEqual(next(events), pings[:TOGETHER])
        self.anna.close(RemoteError("too much", Reason.LIMIT), 99, 100)
        self.assertEqual(list(events), [])

    def test_what_came_before_a_bad_frame_counts(self) -> None:
        events = self.anna.receive(codec.encode(Ping(1)) + SHAPES["no kind"], 99, 100)
        self.assertEqual(next(events), [Ping(1)])
        self.assertRaises(RemoteError, next, events)

    def test_and_before_a_bye_behind_which_nothing_does(self) -> None:
        said = [Ping(1), Bye("leaving", "so long"), Ping(2)]
        came, left = self.take(self.anna, b"".join(map(codec.encode, said)))
        self.assertEqual(came, [Ping(1)])
        assert isinstance(left, Left)
        self.assertIs(left.error.reason, Reason.LEAVING)
        self.assertEqual((self.anna.phase, self.anna.error), (Phase.CLOSING, left.error))
        self.assertEqual(self.take(self.anna, codec.encode(Ping(3))), [])

    def test_whoever_is_closed_between_two_events_hears_no_more(self) -> None:
        self.up_to("PROOF")
        self.turn(self.anna)
        proof, self.said[self.anna] = self.said[self.anna], b""
        events = self.bert.receive(proof + codec.encode(Ping(1)), 99, 100)
        for event in events:
            if isinstance(event, Peer):
                self.bert.close(RemoteError("no room", Reason.FULL), 99, 100)
        self.assertIs(self.bert.phase, Phase.CLOSING)

    def test_a_frame_that_takes_long_is_told_of(self) -> None:
        said = frame(bytes((Kind.WHISPER, 0)) + bytes(5000))
        self.assertEqual(self.take(self.anna, said[:1000]), [])
        self.now += REPORTED_AFTER
        self.assertEqual(self.take(self.anna, said[1000:2000]), [Arriving(5, None, 2000, len(said))])
        ((whisper,),) = self.take(self.anna, said[2000:])  # type: ignore[misc]
        self.assertIsInstance(whisper, Whisper)

    def test_bytes_that_no_event_tells_of_are_seen_by_a_check(self) -> None:
        said = codec.encode(Ping(1))
        self.assertFalse(self.anna.check_flow(self.read))
        self.assertEqual(self.take(self.anna, said[:5]), [])
        self.assertTrue(self.anna.check_flow(self.read))
        self.assertFalse(self.anna.check_flow(self.read))
        self.assertTrue(self.anna.check_flow(self.read + 100))  # of a TLS record that is not whole
        self.read += 100
        self.assertEqual(self.take(self.anna, said[5:]), [[Ping(1)]])
        self.assertFalse(self.anna.check_flow(self.read))
        self.anna.close(RemoteError("so long", Reason.DONE), self.read, self.now)
        self.assertFalse(self.anna.check_flow(self.read + 100))

    def test_one_behind_a_slow_handshake_no_sooner_than_any_other(self) -> None:
        MachineCase.setUp(self)
        self.shake("abab")
        proof, self.said[self.bert] = self.said[self.bert], b""
        self.take(self.anna, proof[:-10])
        self.now += 1
        said = proof[-10:] + frame(bytes((Kind.WHISPER, 0)) + bytes(5000))
        (peer,) = self.take(self.anna, said[:1000])
        self.assertIsInstance(peer, Peer)
        self.now += 2 * REPORTED_AFTER
        self.assertEqual([type(event) for event in self.take(self.anna, said[1000:2000])], [Arriving])


class TestClosing(OpenCase):
    """This end closes an open link."""

    def close(self, reason: Reason) -> bytes:
        """Close the link at Anna's end; her last bytes."""
        return self.anna.close(RemoteError("so long", reason), self.read, self.now)

    def test_where_nobody_is_to_blame_what_is_queued_goes_first_and_what_comes_counts(self) -> None:
        self.assertEqual(frames_in(self.close(Reason.DISCONNECT)), [Bye("disconnect", "so long")])
        self.assertIs(self.anna.phase, Phase.DRAINING)
        self.assertEqual(self.take(self.anna, codec.encode(Ping(1))), [[Ping(1)]])

    def test_rubbish_behind_our_bye_is_refused(self) -> None:
        self.close(Reason.DISCONNECT)
        self.refusal(self.anna, NO_FRAMES["over-long"])

    def test_whoever_is_to_blame_is_read_no_more(self) -> None:
        self.assertEqual(frames_in(self.close(Reason.SLOW)), [Bye("slow", "so long")])
        self.assertIs(self.anna.phase, Phase.CLOSING)
        self.assertEqual(self.take(self.anna, codec.encode(Ping(1))), [])

    def test_a_second_close_changes_nothing(self) -> None:
        for reason in (Reason.DISCONNECT, Reason.SLOW):
            self.close(reason)
        self.assertEqual((self.anna.phase, self.anna.error.reason), (Phase.DRAINING, Reason.DISCONNECT))  # type: ignore[union-attr]

    def test_a_sentence_is_cut_to_what_a_bye_may_hold(self) -> None:
        last = self.anna.close(RemoteError("x" * 600, Reason.DONE), 0, 100)
        self.assertEqual(frames_in(last), [Bye("done", "x" * 512)])

    def test_a_stranger_is_told_no_more_than_the_reason(self) -> None:
        bert = end(Side.ACCEPTOR)
        last = bert.close(RemoteError("our affair", Reason.FULL), 0, 100)
        self.assertEqual(frames_in(last), [Bye("full", "")])

    def test_a_lost_connection_is_lost_unless_something_was_said(self) -> None:
        for said, reason in ((None, Reason.LOST), (Reason.DONE, Reason.DONE)):
            self.setUp()
            if said is not None:
                self.close(said)
            self.anna.lost(RemoteError("gone", Reason.LOST))
            assert self.anna.error is not None
            self.anna.read_no_more()  # which a connection that is gone does anyhow
            self.assertEqual((self.anna.error.reason, self.anna.phase), (reason, Phase.CLOSED))
            self.assertEqual(self.anna.deadline, inf)


class Word:
    """A stand-in for a secret."""

    id = b"the word"

    def knock(self, text: bytes) -> bytes:
        return hashlib.sha256(text).digest()

    def proof(self, text: bytes) -> bytes:
        return hashlib.sha256(b"proof" + text).digest()


class Guarded(Policy):
    """A policy with a secret."""

    mode = "secret"
    secrets = (Word(),)


class TestSecrets(MachineCase):
    """Nodes that share a secret, and a node that has none."""

    def guarded(self, dialler: Policy, acceptor: Policy) -> None:
        """Give both ends a policy."""
        self.anna, self.bert = end(Side.DIALLER, dialler), end(Side.ACCEPTOR, acceptor)
        self.said = {self.anna: self.anna.start(self.now), self.bert: self.bert.start(self.now)}

    def test_the_dialler_speaks_first_once_there_is_a_session(self) -> None:
        self.guarded(Guarded(), Guarded())
        self.assertEqual(set(self.said.values()), {b""})
        self.assertEqual(self.bert.session_made(self.now), b"")
        self.said[self.anna] = self.anna.session_made(self.now)
        self.shake("bababa")
        self.assertEqual((self.anna.phase, self.bert.phase), (Phase.OPEN, Phase.OPEN))

    def test_a_connection_that_is_closed_already_is_sent_no_knock(self) -> None:
        self.guarded(Guarded(), Guarded())
        self.assertEqual(self.anna.close(RemoteError("over", Reason.LEAVING), 0, self.now), b"")
        self.assertEqual(self.anna.session_made(self.now), b"")

    def test_a_connection_that_ends_at_the_knock_says_what_that_means(self) -> None:
        self.guarded(Guarded(), Guarded())
        self.anna.session_made(self.now)
        self.anna.lost(RemoteError("the connection was lost", Reason.LOST))
        assert self.anna.error is not None
        self.assertIs(self.anna.error.reason, Reason.TRUST)

    def test_a_knock_that_nothing_answers_ends_in_time(self) -> None:
        self.guarded(Guarded(), Guarded())
        self.anna.session_made(self.now)
        self.assertEqual(self.anna.deadline, self.now + CONFIG.handshake_timeout)
        error = self.anna.expired(0, 0, self.anna.deadline)
        self.assertIn("does a node of this mesh listen there?", str(error))
        error = self.bert.expired(0, 0, self.bert.deadline)
        self.assertIn("no knock came: the peer has no secret, or is a stranger", str(error))

    def test_a_dialler_that_hears_no_greeting_knows_in_two_seconds_why_that_may_be(self) -> None:
        self.guarded(EVERYBODY, Guarded())
        self.assertEqual(self.anna.session_made(self.now + 0.5), b"")
        self.assertEqual(self.anna.deadline, self.now + 0.5 + GREETING_DUE)
        self.assertIsNone(self.anna.expired(0, 0, self.anna.deadline))
        self.assertTrue(self.anna.is_unanswered)
        self.assertEqual(self.anna.deadline, self.now + CONFIG.handshake_timeout)
        error = self.anna.expired(0, 0, self.anna.deadline)
        self.assertIsInstance(error, HandshakeTimeout)
        self.assertIn("it may want a secret", str(error))

    def test_a_slow_greeting_is_waited_for_like_any_other(self) -> None:
        self.guarded(EVERYBODY, EVERYBODY)
        self.anna.session_made(self.now)
        self.take(self.anna, self.said[self.bert][:2])
        self.assertIsNone(self.anna.expired(2, 0, self.anna.deadline))
        self.assertFalse(self.anna.is_unanswered)
        self.assertEqual(self.anna.deadline, self.now + CONFIG.handshake_timeout)

    def test_of_an_established_link_no_greeting_is_due_any_more(self) -> None:
        self.guarded(EVERYBODY, EVERYBODY)
        self.anna.session_made(self.now)
        self.shake("ababa")
        self.anna.established(self.read, self.now)
        said = codec.encode(Whisper(b"\x90"))
        self.take(self.anna, said[:5])
        self.take(self.anna, said[5:])
        self.assertIsNone(self.anna.expired(self.read, 0, self.anna.deadline))
        self.assertEqual(self.anna.deadline, inf)

    def test_a_short_handshake_timeout_comes_before_that(self) -> None:
        self.guarded(EVERYBODY, Guarded())
        late = self.now + CONFIG.handshake_timeout - 1.0
        self.anna.session_made(late)
        self.assertEqual(self.anna.deadline, self.now + CONFIG.handshake_timeout)
        self.assertIn("it may want a secret", str(self.anna.expired(0, 0, self.anna.deadline)))


class TestDeadlines(MachineCase):
    """The machine says when it must be looked at, and what follows then."""

    def expire(self, machine: LinkMachine, read: int = 0, in_transit: int = 0) -> RemoteError | None:
        """Let the deadline of *machine* come."""
        self.now = machine.deadline
        return machine.expired(read, in_transit, self.now)

    def test_a_handshake_has_its_time(self) -> None:
        for stage in ("greeting", "INTRO", "PROOF"):
            machine = self.up_to(stage)
            self.assertEqual(machine.deadline, 103)
            error = self.expire(machine)
            self.assertIsInstance(error, HandshakeTimeout)
            hint = "; nothing came: does only one side speak TLS?" if stage == "greeting" else ""
            self.assertEqual(str(error), f"the handshake was not over after 3 s{hint} [timeout]")

    def test_so_has_the_frontier_behind_it(self) -> None:
        machine = self.up_to("open")
        self.assertEqual(machine.deadline, 103)
        self.assertIsInstance(self.expire(machine, machine.read), HandshakeTimeout)

    def test_a_link_that_is_established_has_no_deadline(self) -> None:
        machine = self.up_to("open")
        machine.established(machine.read, self.now)
        self.assertEqual(machine.deadline, inf)

    def established(self) -> LinkMachine:
        machine = self.up_to("open")
        machine.established(machine.read, self.now)
        self.read = machine.read
        return machine

    def test_half_a_frame_behind_proof_does_not_stand_for_ever(self) -> None:
        said = codec.encode(Whisper(b"\x90"))
        for kept_before in (True, False):
            machine = self.established() if not kept_before else self.up_to("open")
            self.read = machine.read
            self.take(machine, said[:5])
            if kept_before:
                machine.established(self.read, self.now)
            self.assertEqual(machine.deadline, 107.5)
            self.assertIsNone(self.expire(machine, self.read))
            error = self.expire(machine, self.read)
            assert error is not None
            self.assertEqual((error.reason, self.now), (Reason.SILENT, 115))

    def test_it_stands_while_more_comes(self) -> None:
        machine = self.established()
        self.take(machine, frame(bytes(1000))[:5])
        for _ in range(20):
            self.assertIsNone(self.expire(machine, self.read))
            self.take(machine, b"x")
            self.assertIsNone(self.expire(machine, self.read))

    def test_nor_does_time_count_in_which_this_node_was_held_up(self) -> None:
        machine = self.established()
        self.take(machine, frame(bytes(1000))[:5])
        for _ in range(4):
            self.now = machine.deadline + 20
            self.assertIsNone(machine.expired(self.read, 0, self.now))
            self.assertEqual(machine.deadline, self.now + 7.5)

    def test_once_it_is_whole_there_is_no_deadline(self) -> None:
        machine = self.established()
        said = codec.encode(Whisper(b"\x90"))
        self.take(machine, said[:5])
        self.take(machine, said[5:])
        self.assertIsNone(self.expire(machine, self.read))
        self.assertEqual((machine.unfinished_bytes, machine.deadline), (0, inf))

    def test_a_frontier_that_comes_is_waited_for_and_one_that_drips_is_not(self) -> None:
        for least, waits in ((1024, True), (1023, False)):
            machine = self.up_to("open")
            error = self.expire(machine, machine.read + least)
            self.assertEqual((error is None, machine.deadline), (waits, 106 if waits else inf))

    def test_no_frontier_takes_for_ever(self) -> None:
        machine = self.up_to("open")
        waits = 0
        while self.expire(machine, 5000 * (waits + 1)) is None:
            waits += 1
        self.assertEqual((waits, self.now), (29, 190))

    def closing(self, reason: Reason) -> LinkMachine:
        """An open link that this end closes."""
        machine = self.up_to("open")
        machine.close(RemoteError("so long", reason), 0, self.now)
        return machine

    def looks(self, machine: LinkMachine, moves: Callable[[int], tuple[int, int]]) -> int:
        """How many deadlines come until the connection is cut."""
        looks = 0
        while machine.phase is not Phase.CLOSED:
            looks += 1
            self.assertIsNone(self.expire(machine, *moves(looks)))
        return looks

    def test_a_patient_end_comes_when_nothing_moves_for_close_timeout(self) -> None:
        machine = self.closing(Reason.DISCONNECT)
        self.looks(machine, lambda look: (0, 500))
        self.assertEqual(self.now, 102)
        machine = self.closing(Reason.DISCONNECT)
        self.looks(machine, lambda look: (min(look, 5), 0))
        self.assertEqual(self.now, 107)

    def test_what_the_far_end_takes_moves_as_well(self) -> None:
        machine = self.closing(Reason.DISCONNECT)
        self.looks(machine, lambda look: (0, max(0, 500 - look)))
        self.assertEqual(self.now, 400)
        self.assertTrue(machine.gives_way)

    def test_it_comes_whatever_still_moves(self) -> None:
        machine = self.closing(Reason.DISCONNECT)
        self.assertEqual(self.looks(machine, lambda look: (look, 0)), 300)

    def test_a_link_gives_way_once_its_end_lasts_longer_than_close_timeout(self) -> None:
        machine = self.closing(Reason.DISCONNECT)
        given = []
        for look in range(1, 4):
            self.expire(machine, look)
            given.append(machine.gives_way)
        self.assertEqual(given, [False, True, True])

    def test_whoever_leaves_waits_for_close_timeout_and_no_longer(self) -> None:
        for reason in (Reason.LEAVING, Reason.DISCONNECT):
            machine = self.closing(reason)
            machine.close(RemoteError("the node stops", Reason.LEAVING), 0, self.now)
            self.assertEqual(machine.deadline, 102)
            self.assertEqual(self.looks(machine, lambda look: (look, look)), 1)

    def test_so_does_whoever_closes_on_a_peer_to_blame_or_on_a_stranger(self) -> None:
        for reason in (None, Reason.SLOW):
            machine = self.up_to("PROOF") if reason is None else self.closing(reason)
            if reason is None:
                bye = self.refusal(machine, codec.encode(Bye("disconnect", "")))
                machine.close(bye, 0, self.now)
            self.assertEqual((machine.deadline, machine.is_patient), (102, False))
            self.assertEqual(self.looks(machine, lambda look: (look, look)), 1)

    def test_a_peer_that_says_goodbye_is_waited_for_likewise(self) -> None:
        machine = self.up_to("open")
        self.take(machine, codec.encode(Bye("disconnect", "")))
        self.assertTrue(machine.is_patient)
        self.looks(machine, lambda look: (self.read, 0))
        self.assertEqual(self.now, 102)

    def test_what_the_host_takes_for_events_counts_for_no_deadline(self) -> None:
        self.anna.start(0.0)
        deadline = self.anna.deadline
        self.anna.put_off(7.0)
        self.assertEqual(self.anna.deadline, deadline + 7.0)

    def test_signs_of_life_are_no_frontier(self) -> None:
        signs = codec.encode(Pong(1)) * 10  # one and a half a second
        machine = self.up_to("open")
        self.take(machine, signs)
        self.assertIsInstance(self.expire(machine, self.read), HandshakeTimeout)
