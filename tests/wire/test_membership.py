"""The frames by which nodes know of each other: shapes, bounds, and what is signed of them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.samples import EPOCH, IDENTITY, NETWORK, payload
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.identity import verify
from twisted_mesh.wire import native
from twisted_mesh.wire.fields import MAX_NUMBER, Kind
from twisted_mesh.wire.framing import HANDSHAKE_FRAME_BYTES, LENGTH_BYTES
from twisted_mesh.wire.membership import (
    MAX_CONTACTS,
    MAX_HOST,
    MAX_INTERVAL,
    MAX_LABEL,
    MAX_RECORD,
    MAX_TAG_KEY,
    MAX_TAG_VALUE,
    MAX_TAGS,
    MAX_WALK,
    Contact,
    ForwardJoin,
    Presence,
    Roster,
    RosterEntry,
    Shuffle,
    ShuffleReply,
    Stay,
    Suspect,
)
from twisted_mesh.wire.native import MAX_LATER, decode, encode
from twisted_mesh.wire.signed import SignedRecord

KEY = IDENTITY.origin
DIGEST = native.network_digest(NETWORK.id)
CONTACT = Contact(IDENTITY.id, "192.0.2.1", 4444)
PRESENCE = Presence(
    KEY, EPOCH, 1, 0, ("192.0.2.1", 4444), 0, "kitchen", {"floor": "1"}, 600, 30_000, 1, b""
)
SUSPECT = Suspect(KEY, bytes(32), EPOCH, 3)

Plain = Roster | ForwardJoin | Shuffle | ShuffleReply


def record(what: Presence | Suspect, array: bytes | None = None) -> SignedRecord:
    """*what* as its author sends it, or *array* in its place."""
    array = native.pack(what) if array is None else array
    kind = Kind.PRESENCE if isinstance(what, Presence) else Kind.SUSPECT
    return SignedRecord(what, IDENTITY.sign(native.signed_text(DIGEST, array, kind)), array)


ENTRY = RosterEntry(0, native.payload(record(PRESENCE)))
PLAIN: list[tuple[Kind, Plain]] = [
    (Kind.ROSTER, Roster(False, [ENTRY, ENTRY], Stay.NEVER)),
    (Kind.FORWARD_JOIN, ForwardJoin(CONTACT, MAX_WALK, True)),
    (Kind.SHUFFLE, Shuffle(MAX_NUMBER, [CONTACT] * 2, 0)),
    (Kind.SHUFFLE_REPLY, ShuffleReply(0, [])),
]
RECORDS: list[tuple[Kind, SignedRecord]] = [
    (Kind.PRESENCE, record(PRESENCE)),
    (Kind.SUSPECT, record(SUSPECT)),
]

NUMBERS = ([0, 1, MAX_NUMBER], [-1, MAX_NUMBER + 1, True, 1.0, "1", None, [1]])
KEYS = ([bytes(32)], [bytes(31), bytes(33), b"", "k" * 32, 32, None])
TRUTHS = ([True, False], [0, 1, None, "true"])
HOSTS = (["a", "x" * MAX_HOST], ["", "x" * (MAX_HOST + 1), b"host", None, 1])
PORTS = ([1, 65535], [0, 65536, -1, "80", None, 80.0])
IDS = ([b"1" * 32, b"z" * 66], [b"1" * 31, b"z" * 67, "1" * 64, None])


def pack(fields: list[Any]) -> bytes:
    return msgspec.msgpack.encode(fields)


def fields_of(frame: Plain | SignedRecord) -> list[Any]:
    array = frame.array if isinstance(frame, SignedRecord) else msgspec.msgpack.encode(frame)
    fields: list[Any] = msgspec.msgpack.decode(array)
    return fields


def with_array(kind: Kind, array: bytes) -> bytes:
    """A payload of *kind*, its signature left out of account."""
    signature = bytes(64) if kind in (Kind.PRESENCE, Kind.SUSPECT) else b""
    return bytes((kind, 0)) + signature + array


class MembershipCase(SynchronousTestCase):
    def assert_refused(self, data: bytes) -> None:
        error = self.assertRaises(RemoteError, decode, data)
        self.assertIs(error.reason, Reason.SHAPE)

    def assert_bounds(self, kind: Kind, at: int, good: list[Any], bad: list[Any]) -> None:
        """Field *at* of a frame of *kind* may be each of *good*, and none of *bad*."""
        everything: list[tuple[Kind, Plain | SignedRecord]] = [*PLAIN, *RECORDS]
        fields = fields_of(dict(everything)[kind])
        for value in good:
            fields[at] = value
            decode(with_array(kind, pack(fields)))
        for value in bad:
            fields[at] = value
            self.assert_refused(with_array(kind, pack(fields)))


class TestFrames(MembershipCase):
    everything: list[tuple[Kind, Plain | SignedRecord]] = [*PLAIN, *RECORDS]

    def test_decode_and_encode_are_inverse(self) -> None:
        for kind, frame in self.everything:
            encoded = encode(frame)
            self.assertEqual(int.from_bytes(encoded[:LENGTH_BYTES], "big"), len(encoded) - LENGTH_BYTES)
            self.assertEqual(payload(encoded)[:2], bytes((kind, 0)))
            self.assertEqual(decode(payload(encoded)), frame)
            self.assertEqual(native.size(frame), len(encoded))

    def test_fields_behind_the_known_ones_are_ignored(self) -> None:
        for kind, frame in self.everything:
            got = decode(with_array(kind, pack([*fields_of(frame), 7, {"later": [None, b"x"]}])))
            if isinstance(frame, SignedRecord):
                assert isinstance(got, SignedRecord)
                self.assertEqual(got.record, frame.record)
            else:
                self.assertEqual(got, frame)

    def test_a_missing_field_is_refused(self) -> None:
        for kind, frame in self.everything:
            self.assert_refused(with_array(kind, pack(fields_of(frame)[:-1])))

    def test_what_is_no_array_is_refused(self) -> None:
        for kind, frame in self.everything:
            for rest in (b"", b"\x80", b"\xc0", b"\x01", b"\xc1", b"\xdd\xff\xff\xff\xff"):
                self.assert_refused(with_array(kind, rest))
            self.assert_refused(with_array(kind, b"\x91" * 3000))
            self.assert_refused(with_array(kind, pack(fields_of(frame)) + b"\0"))


class TestBounds(MembershipCase):
    def test_presence(self) -> None:
        kind, (good, bad) = Kind.PRESENCE, NUMBERS
        self.assert_bounds(kind, 0, *KEYS)
        for at in (1, 5, 8, 10):
            self.assert_bounds(kind, at, good, bad)
        self.assert_bounds(kind, 2, [1, MAX_NUMBER], [0, *bad])
        # What is behind the last message must have a number too.
        self.assert_bounds(kind, 3, [0, MAX_NUMBER - 1], [MAX_NUMBER, *bad])
        self.assert_bounds(kind, 9, [1, MAX_INTERVAL], [0, MAX_INTERVAL + 1, *bad])
        self.assert_bounds(kind, 11, [b"", bytes(1024)], [bytes(1025), "", None])

    def test_the_address_of_a_presence(self) -> None:
        bad = [["host"], ["host", 1, 2], [], "host:1", {"host": 1}]
        self.assert_bounds(Kind.PRESENCE, 4, [None, ["host", 1]], bad)
        for host in HOSTS[0]:
            self.assert_bounds(Kind.PRESENCE, 4, [[host, port] for port in PORTS[0]], [])
        self.assert_bounds(Kind.PRESENCE, 4, [], [[host, 1] for host in HOSTS[1]])
        self.assert_bounds(Kind.PRESENCE, 4, [], [["host", port] for port in PORTS[1]])

    def test_the_label_and_tags_of_a_presence(self) -> None:
        self.assert_bounds(Kind.PRESENCE, 6, [None, "", "ü" * MAX_LABEL], ["x" * (MAX_LABEL + 1), b"x", 1])
        most = {f"{number}": "" for number in range(MAX_TAGS)}
        good = [{}, {"": ""}, {"k" * MAX_TAG_KEY: "v" * MAX_TAG_VALUE}, most]
        bad = [
            {**most, "more": ""},
            {"k" * (MAX_TAG_KEY + 1): ""},
            {"k": "v" * (MAX_TAG_VALUE + 1)},
            *({1: ""}, {"k": 1}, {"k": None}, [], None, "k"),
        ]
        self.assert_bounds(Kind.PRESENCE, 7, good, bad)

    def test_suspect(self) -> None:
        for at in (0, 1):
            self.assert_bounds(Kind.SUSPECT, at, *KEYS)
        for at in (2, 3):
            self.assert_bounds(Kind.SUSPECT, at, *NUMBERS)

    def test_roster(self) -> None:
        self.assert_bounds(Kind.ROSTER, 0, *TRUTHS)
        self.assert_bounds(Kind.ROSTER, 2, [*Stay], [3, -1, None, True, "1"])
        most = bytes(MAX_RECORD + 66)
        good = [[], [[0, b""]], [[MAX_NUMBER, most, "later"]], [[0, b""]] * 500]
        bad = [[[-1, b""]], [[0, most + b"x"]], [[0, "text"]], [[0]], [[]], [None], None, {0: b""}]
        self.assert_bounds(Kind.ROSTER, 1, good, bad)

    def test_contacts(self) -> None:
        for kind, at in ((Kind.SHUFFLE, 1), (Kind.SHUFFLE_REPLY, 1)):
            one = [IDENTITY.id, "host", 1]
            good = [[], [one] * MAX_CONTACTS, [[*one, "later"]]]
            self.assert_bounds(kind, at, good, [[one] * (MAX_CONTACTS + 1), [one[:2]], one, None, {}])
            for place, (fine, wrong) in enumerate((IDS, HOSTS, PORTS)):
                lists = [
                    [[[*one[:place], value, *one[place + 1 :]]] for value in some] for some in (fine, wrong)
                ]
                self.assert_bounds(kind, at, *lists)
        self.assert_bounds(Kind.FORWARD_JOIN, 0, [[IDENTITY.id, "host", 1]], [[], None, [b"", "host", 1]])

    def test_walks(self) -> None:
        walks = ([0, MAX_WALK], [-1, MAX_WALK + 1, True, None, 1.0])
        self.assert_bounds(Kind.FORWARD_JOIN, 1, *walks)
        self.assert_bounds(Kind.SHUFFLE, 2, *walks)
        self.assert_bounds(Kind.FORWARD_JOIN, 2, *TRUTHS)
        for kind in (Kind.SHUFFLE, Kind.SHUFFLE_REPLY):
            self.assert_bounds(kind, 0, *NUMBERS)


class TestRecords(MembershipCase):
    def test_who_it_comes_from_signs_domain_kind_network_and_array(self) -> None:
        for kind, frame in RECORDS:
            text = b"twisted_mesh/1" + bytes((kind,)) + DIGEST + hashlib.sha256(frame.array).digest()
            self.assertEqual(native.signed_text(DIGEST, frame.array, kind), text)
            self.assertTrue(verify(KEY, frame.signature, text))

    def test_a_signature_holds_for_one_kind_only(self) -> None:
        _, frame = RECORDS[0]
        for kind in (Kind.BATCH, Kind.SUSPECT):
            text = native.signed_text(DIGEST, frame.array, kind)
            self.assertFalse(verify(KEY, frame.signature, text))

    def test_the_array_is_kept_as_it_came(self) -> None:
        for kind, frame in RECORDS:
            fields = fields_of(frame)
            unusual = b"\xdc\0" + bytes((len(fields) + 1,)) + pack(fields)[1:] + b"\xa5later"
            got = decode(with_array(kind, unusual))
            assert isinstance(got, SignedRecord)
            self.assertEqual(got.array, unusual)
            self.assertEqual(encode(got)[-len(unusual) :], unusual)

    def test_hops_is_the_only_byte_a_relay_changes_and_it_saturates(self) -> None:
        for _, frame in RECORDS:
            first, second = encode(frame), encode(frame.relayed())
            self.assertEqual([at for at in range(len(first)) if first[at] != second[at]], [5])
            for hops, further in ((0, 1), (254, 255), (255, 255)):
                got = decode(payload(first)[:1] + bytes((hops,)) + payload(first)[2:])
                assert isinstance(got, SignedRecord)
                self.assertEqual((got.hops, got.relayed().hops), (hops, further))

    def test_one_without_its_whole_signature_is_refused(self) -> None:
        for _, frame in RECORDS:
            whole = payload(encode(frame))
            for length in range(2, len(whole)):
                self.assert_refused(whole[:length])

    def test_the_largest_that_is_allowed_fits(self) -> None:
        largest = Presence(
            bytes(32),
            *(MAX_NUMBER, MAX_NUMBER, MAX_NUMBER - 1),
            ("\U0001f514" * MAX_HOST, 65535),
            MAX_NUMBER,
            "\U0001f514" * MAX_LABEL,
            {f"{number:02}" + "k" * (MAX_TAG_KEY - 2): "v" * 64 for number in range(MAX_TAGS)},
            *(MAX_NUMBER, MAX_INTERVAL, MAX_NUMBER),
            b"",
        )
        frame = record(largest)
        self.assertEqual(decode(payload(encode(frame))), frame)
        roster = Roster(True, [RosterEntry(MAX_NUMBER, native.payload(frame))], Stay.WANTED)
        self.assertEqual(decode(payload(encode(roster))), roster)

    def test_more_than_a_record_may_have_is_refused(self) -> None:
        tags = {f"{number:02}": "v" * MAX_TAG_VALUE for number in range(MAX_TAGS)}
        for credential, fits in ((1024, True), (1025, False)):
            fields = [*fields_of(record(PRESENCE))]
            fields[7], fields[11] = tags, bytes(credential)
            array = pack(fields)
            self.assertLess(len(array), MAX_RECORD)
            if fits:
                decode(with_array(Kind.PRESENCE, array))
            else:
                self.assert_refused(with_array(Kind.PRESENCE, array))
        wide = dict.fromkeys(tags, "🔔" * MAX_TAG_VALUE)  # four bytes each
        fields[7], fields[11] = wide, b""
        self.assertGreater(len(pack(fields)), MAX_RECORD)
        self.assert_refused(with_array(Kind.PRESENCE, pack(fields)))

    def test_what_this_version_does_not_know_is_bounded(self) -> None:
        for kind, frame in RECORDS:
            fields = fields_of(frame)
            decode(with_array(kind, pack([*fields, b"x" * (MAX_LATER - 3)])))
            self.assert_refused(with_array(kind, pack([*fields, b"x" * MAX_LATER])))

    def test_the_verdict_is_the_same_on_every_stack(self) -> None:
        # Else an honest link is closed over what another node let pass.
        for kind, frame in RECORDS:
            for depth in (10, 150, 300, 600, 900):
                nested: list[Any] = []
                for _ in range(depth):
                    nested = [nested]
                data = with_array(kind, pack([*fields_of(frame), nested]))
                verdicts = {on_a_stack_of(frames, data) for frames in (0, 200, 400)}
                self.assertEqual(verdicts, {depth <= 150})

    def test_many_entries_of_a_roster_fit_in_a_frame(self) -> None:
        entries = [ENTRY] * (48 * 1024 // len(ENTRY.frame))
        self.assertLess(len(encode(Roster(True, entries, Stay.WANTED))), HANDSHAKE_FRAME_BYTES)


def on_a_stack_of(frames: int, data: bytes) -> bool:
    """Whether *data* passes when so many more functions are running."""
    if frames:
        return on_a_stack_of(frames - 1, data)
    try:
        decode(data)
    except RemoteError:
        return False
    return True
