"""Properties of the core: its promises hold for any events in any order."""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import (
    batch,
    closing,
    entries,
    local_node,
    origin_of,
    peer,
    presence,
    raw_batch,
    roster,
    suspect,
)
from tests.core.node_case import ALL, NodeTestCase
from tests.properties.profile import fixed
from tests.support.length import at_length
from twisted_mesh.core import events
from twisted_mesh.core.broadcast.frontier import digest
from twisted_mesh.core.handshake import Handshake, Profile, Side, Stage
from twisted_mesh.core.link import LifeState
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire import codec
from twisted_mesh.wire.bodies import join_entries
from twisted_mesh.wire.broadcast import (
    Have,
    HaveEntry,
    Headers,
    Prune,
    SignedBatch,
    Snapshot,
    SnapshotEntry,
    Want,
)
from twisted_mesh.wire.framing import LENGTH_BYTES
from twisted_mesh.wire.link import Bye, Intro, Ping, Pong, Proof, Unknown, Whisper
from twisted_mesh.wire.membership import (
    Contact,
    ForwardJoin,
    KeepVote,
    Purpose,
    Role,
    Shuffle,
    ShuffleReply,
)

NAMES = ("anna", "bert", "me")
spans = st.tuples(st.integers(1, 30), st.integers(1, 6))  # first, count
links = st.integers(0, 3)
names = st.sampled_from(NAMES)
snapshot_entries = st.builds(
    lambda name, epoch, high, base: SnapshotEntry(
        origin_of(name), epoch, high + 1, high, min(base, high), b""
    ),
    names,
    st.integers(1, 2),
    st.integers(0, 9),
    st.integers(0, 9),
)
batches = st.builds(
    lambda name, span, epoch: batch(name, *span, epoch=epoch), names, spans, st.integers(1, 2)
)
numbers = st.one_of(st.integers(0, 40), st.sampled_from((2**62 - 1, 2**62)))
have_entries = st.builds(
    lambda name, epoch, low, high: HaveEntry(origin_of(name), epoch, max(min(low, high + 1), 1), high),
    names,
    st.integers(1, 3),
    numbers,
    numbers,
)
presences = st.builds(
    lambda name, counter, sequence, epoch, interval, flags, role, address: presence(
        name, counter, sequence, epoch, interval=interval, flags=flags, role=role, address=address
    ),
    names,
    st.integers(1, 4),
    st.one_of(st.integers(0, 30), st.just(2**62 - 1)),
    st.integers(1, 3),
    st.sampled_from((1, 1000, 30_000)),
    st.integers(0, 3),
    st.sampled_from((Role.MEMBER, Role.MEMBER, Role.GUEST)),
    st.sampled_from((None, ("192.0.2.7", 1), ("nowhere!", 1))),
)
rosters = st.builds(
    lambda some, age, last, vote: roster(*some, age=age, last=last, vote=vote),
    st.lists(presences, max_size=3),
    st.sampled_from((0, 5, 100, 10**9)),
    st.booleans(),
    st.sampled_from([*KeepVote]),
)
contacts = st.builds(
    lambda name, host: Contact(peer(name).id, host, 1), names, st.sampled_from(("192.0.2.7", "::1"))
)
society = st.one_of(
    presences,
    presences,
    rosters,
    st.builds(suspect, names, names, st.integers(0, 4), st.integers(1, 3)),
    st.builds(lambda signed: msgspec.structs.replace(signed, signature=bytes(64)), presences),
    st.builds(ForwardJoin, contacts, st.integers(0, 9), st.booleans()),
    st.builds(Shuffle, st.integers(0, 3), st.lists(contacts, max_size=3), st.integers(0, 9)),
    st.builds(ShuffleReply, st.integers(0, 3), st.lists(contacts, max_size=3)),
)
frames = st.one_of(
    society,
    batches,
    batches,
    batches,
    st.builds(Have, st.lists(have_entries, max_size=3), st.booleans()),
    st.builds(Have, st.lists(have_entries, max_size=3), st.booleans()),
    st.builds(
        lambda name, epoch, first, last, graft: Want(origin_of(name), epoch, max(first, 1), last, graft),
        names,
        st.integers(1, 2),
        numbers,
        numbers,
        st.booleans(),
    ),
    st.builds(lambda some: Prune([origin_of(name) for name in some]), st.lists(names, max_size=2)),
    st.builds(
        lambda some: digest([((origin_of(name), 1), head, b"") for name, head in some.items()]),
        st.dictionaries(names, st.integers(1, 9), max_size=3),
    ),
    st.builds(Snapshot, st.booleans(), st.lists(snapshot_entries, max_size=3)),
    st.builds(lambda signed: msgspec.structs.replace(signed, signature=bytes(64)), batches),
    st.builds(lambda name, span, body: raw_batch(name, *span, body), names, spans, st.binary(max_size=4)),
    st.builds(
        lambda some: Headers([codec.pack_header(one.header) for one in some]), st.lists(batches, max_size=3)
    ),
    st.builds(Whisper, st.sampled_from([join_entries(entries("psst")), b"\xc1"])),
    st.sampled_from(
        [
            Ping(1),
            Pong(1),
            Unknown(77),
            Bye("full", ""),
            Intro(1, 1, 0, True, bytes(32), bytes(32), 0, 0),
            Proof(bytes(64), bytes(32)),
        ]
    ),
)
steps = st.one_of(
    st.tuples(
        *(st.just("open"), links, names, st.integers(1, 2), st.booleans(), st.booleans()),
        st.sampled_from([*Purpose, Purpose.JOIN]),
    ),
    st.tuples(st.just("greet"), links),
    st.tuples(st.just("receive"), links, st.lists(society, max_size=4)),
    st.tuples(st.just("dialled"), names),
    st.tuples(st.just("stall"), st.integers(1, 60)),
    st.tuples(st.just("leaving")),
    st.tuples(st.just("receive"), links, st.lists(frames, max_size=4)),
    st.tuples(st.just("receive"), links, st.lists(batches, max_size=4)),
    st.tuples(st.just("publish"), st.integers(0, 4)),
    st.tuples(st.just("accept"), links, st.integers(1, 2000)),
    st.tuples(st.just("closing"), links, st.sampled_from((Reason.DISCONNECT, Reason.LOST))),
    st.tuples(st.just("closed"), links),
    st.tuples(st.just("wait"), st.integers(1, 20)),
    st.tuples(st.just("wait"), st.floats(0.01, 0.5)),
)


class StrictTestCase(NodeTestCase):
    """A node whose surroundings and effects keep to the contract of events, and to nothing more."""

    def make(self, epoch: int = 2, **limits: float) -> None:
        super().make(epoch, **limits)
        self.numbers = 0
        self.slots: dict[int, int] = {}  # the link of each slot
        self.may_send: set[int] = set()  # links that may be sent to
        self.links_up: set[int] = set()
        self.far_ends: dict[int, str] = {}  # the node at the far end of each link there ever was
        self.accepted: Counter[int] = Counter()
        self.last_told: dict[tuple[bytes, int], int] = defaultdict(int)  # by run

    def do(self, step: tuple[object, ...]) -> None:
        """Carry out *step* if it makes sense now."""
        match step:
            case "open", int(slot), str(name), int(epoch), *said:
                outgoing, settled, purpose = said
                assert isinstance(outgoing, bool) and isinstance(settled, bool)
                assert isinstance(purpose, Purpose)
                if slot not in self.slots and name != "me":
                    self.numbers += 1
                    self.slots[slot] = self.numbers
                    self.may_send.add(self.numbers)
                    self.far_ends[self.numbers] = name
                    who = msgspec.structs.replace(peer(name, epoch, settled), address=("192.0.2.7", 1))
                    said_here = self.node.settled
                    self.handle(
                        events.LinkOpened(self.numbers, who, outgoing, said_here, purpose, "192.0.2.7")
                    )
            case "greet", int(slot):
                self.do(("receive", slot, [ALL]))
            case "dialled", str(name):
                self.handle(events.DialFailed(peer(name).id))
            case "stall", int(seconds):
                self.now += seconds
            case ("leaving",):
                self.handle(events.Leaving())
            case "receive", int(slot), list(frames):
                if slot in self.slots:
                    self.receive(self.slots[slot], *frames)
            case "publish", int(count):
                self.publish(*range(count))
            case "accept", int(slot), int(size):
                number = self.slots.get(slot, 0)
                if self.accepted[number] < self.queued[number]:
                    self.accepted[number] = min(self.accepted[number] + size, self.queued[number])
                    self.handle(events.Accepted(number, self.accepted[number]))
            case "closing", int(slot), Reason() as reason:
                number = self.slots.get(slot, 0)
                self.may_send.discard(number)
                self.handle(closing(number, reason))
            case "closed", int(slot):
                number = self.slots.pop(slot, 0)
                self.may_send.discard(number)
                self.handle(events.LinkClosed(number))
            case "wait", int(seconds) | float(seconds):
                self.wait(seconds)

    def handle(self, event: events.Event) -> list[events.Effect]:
        """Let the node handle *event*; assert that its effects keep to their contract."""
        effects = super().handle(event)
        for effect in effects:
            match effect:
                case events.Send():
                    self.assertLessEqual(set(effect.links), self.may_send)
                    self.assertEqual(len(set(effect.links)), len(effect.links))
                    data = codec.encode(effect.frame)
                    codec.decode(data[LENGTH_BYTES:])
                    self.assertEqual(len(data), effect.size)
                case events.Deliver() if effect.first:
                    self.assertNotEqual(effect.origin, origin_of("me"))
                    last = effect.first + len(effect.entries) - 1
                    self.tell(effect.origin, effect.epoch, effect.first, last)
                case events.Close():
                    self.may_send.discard(effect.link)
                case events.SetTimer():
                    self.assertGreater(effect.at, self.now - 61)  # one that was due in a stall
                case events.Emit(what=events.GapFound() | events.Poisoned() as what):
                    self.tell(what.origin, what.epoch, what.first, what.last)
                case events.Emit(what=events.LinkUp() as what):
                    self.links_up.add(what.link)
                case events.Emit(what=events.LinkDown() as what):
                    self.links_up.remove(what.link)
        # A link that is gone stays in the routing table only while another link to its node is proven.
        for number in self.links_up - self.may_send:
            self.assertIn(self.far_ends[number], {self.far_ends[other] for other in self.may_send})
        return effects

    def tell(self, origin: bytes, epoch: int, first: int, last: int) -> None:
        """Assert that messages are delivered, or told as lost or unreadable, once and without a hole."""
        before = self.last_told.get((origin, epoch))
        self.assertLessEqual(first, last)
        if before is not None and origin != origin_of("me"):
            self.assertEqual(first, before + 1)
        self.last_told[origin, epoch] = last

    def end(self) -> None:
        """Let all links go; assert that nothing of them is left."""
        for slot in list(self.slots):
            self.do(("closed", slot))
        # Nobody told the node of the end of links that it closed itself.
        self.assertEqual(self.links_up, set())
        self.wait(400)
        footprint = self.node.footprint()
        for table in (
            *("links", "fed_links", "linked_nodes", "snapshot_entries", "claims", "waiting_bytes"),
            *("pulls", "queued_pulls", "failures", "wakes", "lazy_by_us", "lazy_by_peer", "owed", "wants"),
            *("exchange_links", "exchanges", "known_records", "sought_authors"),
        ):
            self.assertEqual(footprint[table], 0, table)


class TestNode(StrictTestCase):
    """Whatever events come, nothing raises, no message is told twice, and nothing is left behind."""

    @settings(fixed, max_examples=at_length(150, 60))
    @given(st.lists(steps, max_size=40), st.sampled_from((1, 2, 100)), st.booleans())
    def test_whatever_happens(
        self, happens: list[tuple[object, ...]], open_streams: int, overlay: bool
    ) -> None:
        self.manner = {"profile": Profile(overlay=overlay), "address": ("192.0.2.1", 1)}
        self.make(
            ping_after=5.0,
            dead_after=15.0,
            members_limit=2,
            authors_burst=2,
            exchanges_limit=1,
            remembered_contacts=2,
            batch_bytes=1,
            waiting_bytes=1500,
            history_bytes=4000,
            history_seconds=30,
            link_queue_bytes=1500,
            answer_bytes=1000,
            claims_limit=4,
            open_streams=open_streams,
        )
        for slot, name in enumerate(("anna", "bert", "anna")):
            self.do(("open", slot, name, 1, slot == 2, False, Purpose.JOIN))
        self.do(("greet", 0))
        for step in happens:
            self.do(step)
        self.end()

    @fixed
    @given(st.lists(st.tuples(links, st.lists(batches, max_size=3)), max_size=25))
    def test_open_links_and_batches_alone(self, comes: list[tuple[int, list[SignedBatch]]]) -> None:
        self.make()  # silence ends no link
        for slot, name in enumerate(("anna", "bert", "cleo", "dora")):
            self.do(("open", slot, name, 1, True, False, Purpose.JOIN))
            self.do(("greet", slot))
        for slot, some in comes:
            self.do(("receive", slot, some))
        self.wait(1000)
        self.assertEqual(self.node.footprint()["waiting_bytes"], 0)
        self.assertEqual(self.node.footprint()["fed_links"], 4)
        self.end()


class TestHandshake(SynchronousTestCase):
    """Whatever bytes come, nothing but RemoteError is raised."""

    def fed(self, payloads: list[bytes]) -> None:
        """Feed *payloads*, which may be anything, to either side."""
        for side in Side:
            shake = Handshake(side, local_node("me"), nonce=bytes(32), time=0)
            shake.start()
            try:
                for payload in payloads:
                    shake.receive(payload, bytes)
            except RemoteError as error:
                shake.farewell(error.reason, error.detail)
            self.assertIsNot(shake.stage, Stage.DONE)

    @fixed
    @given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=3))
    def test_any_bytes(self, payloads: list[bytes]) -> None:
        self.fed(payloads)

    @fixed
    @given(st.integers(0, 2), st.integers(0, 10**6), st.integers(1, 255))
    def test_a_byte_changed_anywhere(self, which: int, at: int, by: int) -> None:
        dialler = Handshake(Side.DIALLER, local_node("anna"), nonce=b"a" * 32, time=0)
        acceptor = Handshake(Side.ACCEPTOR, local_node("bert"), nonce=b"b" * 32, time=0)
        hello = acceptor.start()
        answer = dialler.receive(hello[LENGTH_BYTES:], bytes)
        cut = LENGTH_BYTES + int.from_bytes(answer[:LENGTH_BYTES], "big")
        intro = acceptor.receive(answer[LENGTH_BYTES:cut], bytes)
        acceptor.receive(answer[cut + LENGTH_BYTES :], bytes)
        proof = dialler.receive(intro[LENGTH_BYTES:], bytes)
        # Bert receives all that Anna said, with one byte changed.
        heard = [answer[LENGTH_BYTES:cut], answer[cut + LENGTH_BYTES :], proof[LENGTH_BYTES:]]
        changed = bytearray(heard[which])
        at %= len(changed)
        changed[at] ^= by
        heard[which] = bytes(changed)
        bert = Handshake(Side.ACCEPTOR, local_node("bert"), nonce=b"b" * 32, time=0)
        bert.start()
        try:
            for payload in heard:
                bert.receive(payload, bytes)
        except RemoteError:
            return
        # Only the hops may change, which are not in the frame's array.
        self.assertIn(which, (2,))
        self.assertEqual(at, 1)


class TestLiveness(SynchronousTestCase):
    """Only the clock tells whether a link is silent."""

    @fixed
    @given(st.lists(st.tuples(st.sampled_from(("heard", "taken", "wait", "stall")), st.integers(0, 9))))
    def test_a_link_is_dead_only_after_silence_both_ways(self, happens: list[tuple[str, int]]) -> None:
        life = LifeState(0)
        now = last = 0
        for what, seconds in happens:
            match what:
                case "heard":
                    life.last_bytes_at = now
                    last = now
                case "taken":
                    life.resumed_at = last = now
                case "wait":
                    now += seconds
                case "stall":
                    now += seconds
                    last += seconds
                    life.doubt(seconds)
            self.assertEqual(life.is_silent(15, now), now - last >= 15)
