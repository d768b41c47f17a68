"""Properties of frames, bodies and bytes, whatever is in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.properties.profile import fixed
from tests.support.bodies import unpack_entries
from tests.support.length import at_length
from tests.wire.samples import FOREIGN, VECTORS, greeting, payload
from twisted_mesh.errors import PoisonedBody, RemoteError
from twisted_mesh.wire import codec
from twisted_mesh.wire import greeting as greetings
from twisted_mesh.wire.authority import (
    Cut,
    Grant,
    GrantContent,
    Policy,
    PolicyContent,
    Quota,
    Removed,
    unpack_grant,
    unpack_policy,
)
from twisted_mesh.wire.bodies import (
    USER_ENTRY,
    _unpack_any,
    are_plain,
    join_entries,
    pack_entry,
    pack_plain,
    unpack_weighed,
)
from twisted_mesh.wire.broadcast import (
    MAX_BATCH_COUNT,
    Batch,
    Bucket,
    Digest,
    Have,
    HaveEntry,
    Headers,
    Prune,
    SignedBatch,
    Snapshot,
    SnapshotEntry,
    Want,
)
from twisted_mesh.wire.codec import decode, encode, pack, pack_policy
from twisted_mesh.wire.fields import MAX_CERTIFICATE, MAX_GRANT, MAX_NUMBER, Kind
from twisted_mesh.wire.framing import MAX_FRAME_BYTES, FrameReader, frame
from twisted_mesh.wire.greeting import Greeting
from twisted_mesh.wire.link import Bye, Certificate, Intro, Knock, Ping, Pong, Proof, Whisper
from twisted_mesh.wire.membership import (
    MAX_CONTACTS,
    MAX_CREDENTIAL,
    MAX_INTERVAL,
    MAX_PRESENCE,
    MAX_RECORD,
    MAX_RECORDS,
    MAX_TAGS,
    MAX_WALK,
    Contact,
    ForwardJoin,
    KeepVote,
    Presence,
    Records,
    Roster,
    RosterEntry,
    Shuffle,
    ShuffleReply,
    Suspect,
)
from twisted_mesh.wire.replies import (
    MAX_DIRECTS,
    MAX_RECEIPT,
    MAX_TRIES,
    Direct,
    DirectAck,
    DirectKey,
    Receipt,
    Receipts,
    SignedReceipt,
)
from twisted_mesh.wire.signed import SignedRecord

wire = settings(fixed, max_examples=at_length(1_500, 80), suppress_health_check=[HealthCheck.too_slow])

# Characters at the borders of UTF-8's sizes; a second cheaper than all of Unicode.
texts = st.text("\0\x1f a~\x7f\x80\xff\u07ff\u0800\u20ac\ud7ff\ue000\uffff\U00010000\U0010ffff")

# ---- Frames ----

numbers = st.one_of(st.integers(0, 300), st.integers(0, MAX_NUMBER), st.just(MAX_NUMBER))
heads = numbers.filter(lambda number: number < MAX_NUMBER)
keys = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)


@st.composite
def snapshot_entries(draw: st.DrawFn) -> SnapshotEntry:
    high = draw(heads)
    low = draw(st.integers(1, high + 1))
    return SnapshotEntry(
        draw(keys), draw(numbers), low, high, draw(st.integers(0, high)), draw(st.binary(max_size=351))
    )


@st.composite
def have_entries(draw: st.DrawFn) -> HaveEntry:
    high = draw(heads)
    low, coming, hash = draw(st.integers(1, high + 1)), draw(st.integers(0, 255)), draw(keys | st.just(b""))
    return HaveEntry(draw(keys), draw(numbers), low, high, coming, hash)


@st.composite
def signed_batches(draw: st.DrawFn) -> SignedBatch:
    count = draw(st.integers(1, MAX_BATCH_COUNT))
    first = draw(st.integers(1, MAX_NUMBER - count))
    body = draw(st.binary(max_size=300))
    batch = Batch(draw(keys), draw(numbers), first, count, draw(numbers), draw(numbers), draw(keys))
    return SignedBatch(batch, draw(signatures), pack(batch), body, draw(st.integers(0, 255)))


short_texts = texts.map(lambda text: text[:32])
names = st.text("ab.-:ü", min_size=1, max_size=40)
ports = st.integers(1, 65535)
contacts = st.builds(Contact, st.binary(min_size=32, max_size=66), names, ports)
walks = st.integers(0, MAX_WALK)
sequences = numbers.filter(bool)
tries = st.integers(0, MAX_TRIES)
records = st.one_of(
    st.builds(
        Presence,
        *(keys, numbers, sequences, heads),
        st.none() | st.tuples(names, ports),
        numbers,
        st.none() | short_texts,
        st.dictionaries(short_texts, short_texts, max_size=MAX_TAGS),
        *(numbers, st.integers(1, MAX_INTERVAL), numbers, st.binary(max_size=100), numbers, keys),
    ).filter(lambda record: len(pack(record)) - len(record.credential) <= MAX_RECORD),
    st.builds(Suspect, keys, keys, numbers, numbers),
    st.builds(
        Direct,
        *(keys, numbers, keys, numbers, st.integers(1, MAX_NUMBER - MAX_DIRECTS)),
        *(st.integers(1, MAX_DIRECTS), sequences, tries, numbers, st.binary(max_size=300)),
    ),
    st.builds(DirectAck, keys, numbers, keys, numbers, sequences, tries),
    st.builds(DirectKey, keys, numbers, keys, numbers, sequences, tries, st.binary(max_size=MAX_PRESENCE)),
)
signed_records = st.builds(
    lambda record, signature, hops: SignedRecord(record, signature, pack(record), hops),
    records,
    signatures,
    st.integers(0, 255),
)
receipts = st.builds(
    lambda have, member, epoch: Receipt(have.origin, have.epoch, have.low, have.high, member, epoch),
    *(have_entries(), keys, numbers),
)
signed_receipts = st.builds(
    SignedReceipt,
    signatures,
    receipts.map(pack) | st.binary(max_size=MAX_RECEIPT),
    *[st.integers(0, 255)] * 2,
)
grants = st.builds(GrantContent, keys, st.binary(min_size=32, max_size=66), numbers, numbers, numbers)
cuts = st.builds(Cut, numbers, heads, keys | st.just(b""))
policies = st.builds(
    PolicyContent,
    *(keys, sequences, numbers),
    st.lists(st.builds(Removed, keys, st.lists(cuts, max_size=3)), max_size=4),
    st.lists(st.builds(Quota, keys | st.just(b""), numbers, numbers), max_size=3),
)
roster_entries = st.builds(RosterEntry, numbers, st.binary(max_size=300))

frames = st.one_of(
    signed_records,
    st.builds(Roster, st.booleans(), st.lists(roster_entries, max_size=3), st.sampled_from([*KeepVote])),
    st.builds(ForwardJoin, contacts, walks, st.booleans()),
    st.builds(Shuffle, numbers, st.lists(contacts, max_size=MAX_CONTACTS), walks),
    st.builds(ShuffleReply, numbers, st.lists(contacts, max_size=MAX_CONTACTS)),
    st.builds(Intro, numbers, numbers, numbers, st.booleans(), keys, keys, numbers, numbers),
    st.builds(Proof, signatures, st.binary(min_size=32, max_size=32)),
    st.builds(Knock, keys),
    st.builds(Grant, signatures, st.binary(max_size=MAX_GRANT - 64)),
    st.builds(Certificate, st.binary(max_size=MAX_CERTIFICATE)),
    st.builds(Policy, signatures, st.binary(max_size=300)),
    st.builds(Records, st.lists(roster_entries, max_size=MAX_RECORDS)),
    st.builds(Snapshot, st.booleans(), st.lists(snapshot_entries(), max_size=5)),
    signed_batches(),
    st.builds(Have, st.lists(have_entries(), max_size=5), st.booleans()),
    st.builds(Headers, st.lists(st.binary(max_size=351), max_size=16)),
    st.builds(Want, keys, numbers, numbers.filter(bool), numbers, st.booleans()),
    st.builds(Prune, st.lists(keys, max_size=5)),
    st.builds(Digest, st.lists(st.builds(Bucket, st.integers(0, 63), keys), max_size=5)),
    st.builds(Whisper, st.binary(max_size=300)),
    st.builds(Receipts, st.lists(signed_receipts, max_size=4)),
    st.builds(Ping, numbers),
    st.builds(Pong, numbers),
    st.builds(Bye, texts.map(lambda text: text[:32]), texts),
)

hosts = st.text("a0.:%-ü€", min_size=1, max_size=255)
greeting_values = st.builds(
    Greeting,
    st.text("09AZaz", min_size=1, max_size=128).map(str.encode),
    st.binary(max_size=100),
    st.none() | st.tuples(hosts, st.integers(1, 65535)),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
)

# ---- Packets ----

integers = st.one_of(st.integers(-300, 300), st.integers(-(2**63), 2**64 - 1))
scalars = st.one_of(texts, st.binary(), integers, st.floats(), st.booleans(), st.none())
packets = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(scalars, inner, max_size=5),
    max_leaves=12,
)
messages = st.lists(packets, max_size=5)

types = st.sampled_from([0, 2, 0x30, 127, 128, 2**64 - 1])
ones = st.tuples(st.sampled_from([0, 64]), types, scalars)
odd_ones = st.tuples(st.sampled_from([0, 64, 1, 0.0, False]), types | scalars, packets)
bodies_of_ones = (st.lists(ones, max_size=20) | st.lists(ones | odd_ones, max_size=4)).map(
    msgspec.msgpack.encode
)

odd_things = st.sampled_from([*FOREIGN, 2**64, -(2**63) - 1, "\ud800"])


def hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


anything = st.recursive(
    scalars | odd_things,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(inner.filter(hashable), inner, max_size=3),
    ),
    max_leaves=8,
)


def same(got: object, sent: object) -> bool:
    """Whether *got* equals *sent* and has the same types, with tuples as lists."""
    if isinstance(sent, list | tuple):
        return type(got) is list and len(got) == len(sent) and all(map(same, got, sent))
    if type(got) is not type(sent):
        return False
    if isinstance(sent, dict):
        assert isinstance(got, dict)
        return same([*got], [*sent]) and same([*got.values()], [*sent.values()])
    if isinstance(sent, float):
        assert isinstance(got, float)
        if math.isnan(sent):
            return math.isnan(got)
        return got == sent and math.copysign(1, got) == math.copysign(1, sent)
    return got == sent


# ---- Bytes that are nearly right ----

# First bytes of msgpack values, sizes, and runs of anything.
tokens = st.one_of(
    st.sampled_from([bytes((n,)) for n in (*range(0x80, 0x84), *range(0x90, 0x94), *range(256))]),
    st.sampled_from([b"\0\0\0\1", b"\xff" * 4, b"\xdf\0\0\0\0", b"\x92\0\0", b"\xc4\x20" + bytes(32)]),
    st.binary(max_size=9),
)
soups = st.lists(tokens, max_size=30).map(b"".join)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(tokens)
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])


def refused(handle: Any, data: bytes) -> bool:
    """Whether *data* is refused; any other exception fails the test."""
    try:
        handle(data)
    except RemoteError:
        return True
    return False


class TestFrames(SynchronousTestCase):
    @wire
    @given(frames)
    def test_every_frame_comes_out_as_it_went_in(self, value: Any) -> None:
        encoded = encode(value)
        (data,) = FrameReader(MAX_FRAME_BYTES).feed(encoded)
        got: Any = decode(data)
        assert got == value and type(got) is type(value)
        assert encode(got) == encoded
        assert not isinstance(got, SignedRecord) or len(got.array) <= MAX_RECORD + MAX_CREDENTIAL

    @wire
    @given(st.lists(st.binary(min_size=1, max_size=60), max_size=8), st.data())
    def test_any_split_of_the_stream_gives_the_same_frames(
        self, payloads: list[bytes], data: st.DataObject
    ) -> None:
        stream = b"".join(map(frame, payloads))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
        reader, got = FrameReader(), []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            got += reader.feed(stream[start:end])
        assert got == payloads
        assert reader.kept == 0

    @wire
    @given(soups | damaged(frames.map(encode)), st.integers(1, 9))
    def test_any_bytes_give_frames_or_remote_errors(self, stream: bytes, size: int) -> None:
        reader = FrameReader()

        def read(data: bytes) -> None:
            for at in range(0, len(data), size):
                for got in reader.feed(data[at : at + size]):
                    refused(decode, got)

        refused(read, stream)

    @wire
    @given(soups, st.sampled_from([*Kind]))
    def test_any_array_of_any_kind_is_a_frame_or_a_remote_error(self, array: bytes, kind: int) -> None:
        refused(decode, bytes((kind, 0)) + array)
        refused(decode, bytes((kind, 0)) + bytes(64) + array)

    @wire
    @given(damaged(frames.map(encode).map(payload)))
    def test_a_damaged_frame_is_a_frame_or_a_remote_error(self, data: bytes) -> None:
        refused(decode, data)

    @wire
    @given(receipts)
    def test_every_receipt_comes_out_as_it_went_in(self, value: Receipt) -> None:
        assert codec.receipt(pack(value)) == value
        assert len(pack(value)) <= MAX_RECEIPT - 100

    @wire
    @given(soups | damaged(receipts.map(pack)))
    def test_any_array_is_a_receipt_or_a_remote_error(self, array: bytes) -> None:
        refused(codec.receipt, array)

    @wire
    @given(grants)
    def test_every_grant_comes_out_as_it_went_in(self, value: GrantContent) -> None:
        assert unpack_grant(pack(value)) == value
        assert 64 + len(pack(value)) <= MAX_GRANT - 256

    @wire
    @given(policies)
    def test_every_policy_comes_out_as_it_went_in(self, value: PolicyContent) -> None:
        assert unpack_policy(pack_policy(value)) == value

    @wire
    @given(soups | damaged(policies.map(pack_policy)))
    def test_any_array_is_a_policy_or_a_remote_error(self, array: bytes) -> None:
        refused(unpack_policy, array)

    @wire
    @given(soups | damaged(grants.map(pack)))
    def test_any_array_is_a_grant_or_a_remote_error(self, array: bytes) -> None:
        refused(unpack_grant, array)


class TestGreetings(SynchronousTestCase):
    @wire
    @given(greeting_values)
    def test_every_greeting_comes_out_as_it_went_in(self, value: Greeting) -> None:
        encoded = greetings.encode(value)
        assert greetings.decode(payload(encoded)) == value
        assert len(encoded) % 8 == 0

    @wire
    @given(soups | damaged(st.just(payload(VECTORS["greeting"])[32:])))
    def test_any_bytes_are_a_greeting_or_a_remote_error(self, array: bytes) -> None:
        refused(greetings.decode, array)
        refused(greetings.decode, greeting(array))


class TestPackets(SynchronousTestCase):
    @wire
    @given(messages)
    def test_packets_come_out_as_they_went_in(self, sent: list[object]) -> None:
        (got,) = unpack_entries(join_entries([pack_entry(0x30, sent)]), 1)
        assert same(got, [0, 0x30, *sent])

    @settings(wire, max_examples=at_length(300, 30))  # of packets there are more examples above
    @given(st.lists(messages, min_size=1, max_size=8))
    def test_messages_come_out_in_order(self, sent: list[list[object]]) -> None:
        body = join_entries([pack_entry(2, message) for message in sent])
        assert same(unpack_entries(body, len(sent)), [[0, 2, *message] for message in sent])

    @wire
    @given(bodies_of_ones | damaged(bodies_of_ones), st.none() | st.integers(0, 4))
    def test_a_body_of_one_packet_a_message_is_read_as_any_other(
        self, body: bytes, count: int | None
    ) -> None:
        """There is a faster way for these; both give the same messages, or refuse the same bodies."""
        try:
            entries, size = _unpack_any(body, count)
        except PoisonedBody:
            assert refused(lambda body: unpack_weighed(body, count), body)
            return
        got, weight = unpack_weighed(body, count)
        assert same([*map(list, got)], [*map(list, entries)])
        assert weight == size
        assert not are_plain(got) or {entry[0] for entry in entries} <= {USER_ENTRY}

    @wire
    @given(st.lists(anything, max_size=4))
    def test_anything_is_sent_as_it_is_or_refused(self, sent: list[object]) -> None:
        try:
            packed = pack_entry(0, sent)
        except (TypeError, ValueError):
            return
        (got,) = unpack_entries(join_entries([packed]), 1)
        assert same(got, [0, 0, *sent])

    @wire
    @given(st.lists(scalars | anything, max_size=4))
    def test_a_plain_message_is_packed_as_any_other_or_left_to_the_closer_look(
        self, sent: list[object]
    ) -> None:
        def packed(pack: Callable[[], bytes | None]) -> object:
            try:
                return pack()
            except (TypeError, ValueError) as error:
                return type(error), str(error)

        plain = packed(lambda: pack_plain(sent))
        if plain is not None:
            self.assertEqual(plain, packed(lambda: pack_entry(0, sent)))
        elif not any(isinstance(value, int) for value in sent):  # a large one is left, too
            self.assertFalse({str, bytes, float, type(None)}.issuperset(map(type, sent)))

    @wire
    @given(odd_things, anything)
    def test_an_odd_thing_is_refused_wherever_it_is(self, odd: object, other: object) -> None:
        for around in ([odd], [[other, odd]], [{"k": odd}], [((odd, other),)]):
            with self.assertRaises((TypeError, ValueError)):
                pack_entry(0, around)

    @wire
    @given(soups | damaged(messages.map(lambda sent: join_entries([pack_entry(0, sent)] * 2))))
    def test_any_bytes_are_a_body_or_poisoned(self, body: bytes) -> None:
        refused(unpack_entries, body)
        refused(unpack_entries, b"\x92\x93\0\0\xdf\0\0\0\0" + body)
        refused(unpack_entries, b"\x91\x93\0\0" + body)
