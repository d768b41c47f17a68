"""The frames of membership and overlay: the bounds of their fields; the largest ones fit."""

from __future__ import annotations

from tests.wire.samples import (
    FRAMES,
    IDENTITY,
    KEYS,
    NUMBERS,
    SEQUENCES,
    TRUTHS,
    WireCase,
    fields_of,
    pack,
    payload,
    with_array,
)
from twisted_mesh.wire import codec
from twisted_mesh.wire.codec import decode, encode
from twisted_mesh.wire.fields import MAX_NUMBER, Kind
from twisted_mesh.wire.framing import HANDSHAKE_FRAME_BYTES
from twisted_mesh.wire.membership import (
    MAX_CONTACTS,
    MAX_CREDENTIAL,
    MAX_HOST,
    MAX_INTERVAL,
    MAX_LABEL,
    MAX_RECORD,
    MAX_TAG_KEY,
    MAX_TAG_VALUE,
    MAX_TAGS,
    MAX_WALK,
    KeepVote,
    Presence,
    Roster,
    RosterEntry,
)
from twisted_mesh.wire.signed import SignedRecord

HOSTS = (["a", "x" * MAX_HOST], ["", "x" * (MAX_HOST + 1), b"host", None, 1])
PORTS = ([1, 65535], [0, 65536, -1, "80", None, 80.0])
IDS = ([b"1" * 32, b"z" * 66], [b"1" * 31, b"z" * 67, "1" * 64, None])


class TestBounds(WireCase):
    def test_presence(self) -> None:
        kind, bad = Kind.PRESENCE, NUMBERS[1]
        self.assert_bounds(kind, 0, *KEYS)
        for at in (1, 5, 8, 10, 12):
            self.assert_bounds(kind, at, *NUMBERS)
        self.assert_bounds(kind, 2, *SEQUENCES)
        # The message behind the last one must have a number, too.
        self.assert_bounds(kind, 3, [0, MAX_NUMBER - 1], [MAX_NUMBER, *bad])
        self.assert_bounds(kind, 9, [1, MAX_INTERVAL], [0, MAX_INTERVAL + 1, *bad])
        self.assert_bounds(kind, 11, [b"", bytes(1024)], [bytes(1025), "", None])
        self.assert_bounds(kind, 13, *KEYS)

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

    def test_suspect_and_forget(self) -> None:
        for kind in (Kind.SUSPECT, Kind.FORGET):
            for at in (0, 1):
                self.assert_bounds(kind, at, *KEYS)
            for at in (2, 3):
                self.assert_bounds(kind, at, *NUMBERS)

    def test_roster(self) -> None:
        self.assert_bounds(Kind.ROSTER, 0, *TRUTHS)
        self.assert_bounds(Kind.ROSTER, 2, [*KeepVote], [3, -1, None, True, "1"])
        most = bytes(MAX_RECORD + MAX_CREDENTIAL + 66)
        good = [[], [[0, b""]], [[MAX_NUMBER, most, "later"]], [[0, b""]] * 500]
        bad = [[[-1, b""]], [[0, most + b"x"]], [[0, "text"]], [[0]], [[]], [None], None, {0: b""}]
        self.assert_bounds(Kind.ROSTER, 1, good, bad)

    def test_contacts(self) -> None:
        for kind, at in ((Kind.SHUFFLE, 1), (Kind.SHUFFLE_REPLY, 1)):
            one = [IDENTITY.id, "host", 1]
            good = [[], [one] * MAX_CONTACTS, [[*one, "later"]]]
            self.assert_bounds(kind, at, good, [[one] * (MAX_CONTACTS + 1), [one[:2]], one, None, {}])
            self.assert_bounds_within(kind, at, one, IDS, HOSTS, PORTS)
        self.assert_bounds(Kind.FORWARD_JOIN, 0, [[IDENTITY.id, "host", 1]], [[], None, [b"", "host", 1]])

    def test_walks(self) -> None:
        walks = ([0, MAX_WALK], [-1, MAX_WALK + 1, True, None, 1.0])
        self.assert_bounds(Kind.FORWARD_JOIN, 1, *walks)
        self.assert_bounds(Kind.SHUFFLE, 2, *walks)
        self.assert_bounds(Kind.FORWARD_JOIN, 2, *TRUTHS)
        for kind in (Kind.SHUFFLE, Kind.SHUFFLE_REPLY):
            self.assert_bounds(kind, 0, *NUMBERS)


class TestLargest(WireCase):
    def test_the_largest_that_is_allowed_fits(self) -> None:
        largest = Presence(
            bytes(32),
            *(MAX_NUMBER, MAX_NUMBER, MAX_NUMBER - 1),
            ("h" * MAX_HOST, 65535),
            MAX_NUMBER,
            "\U0001f514" * MAX_LABEL,
            {f"{number:02}": "v" * 17 for number in range(MAX_TAGS)},
            *(MAX_NUMBER, MAX_INTERVAL, MAX_NUMBER),
            bytes(MAX_CREDENTIAL),
            MAX_NUMBER,
            bytes(32),
        )
        frame = SignedRecord(largest, bytes(64), codec.pack(largest))
        self.assertEqual(decode(payload(encode(frame))), frame)
        roster = Roster(True, [RosterEntry(MAX_NUMBER, codec.payload(frame))], KeepVote.WANTED)
        self.assertEqual(decode(payload(encode(roster))), roster)

    def test_a_record_has_at_most_1024_bytes_beside_its_credential(self) -> None:
        names = [f"{number:02}" for number in range(MAX_TAGS)]
        for credential, fits in ((0, True), (MAX_CREDENTIAL, True), (MAX_CREDENTIAL + 1, False)):
            for size in (1024, 1025):
                fields = fields_of(Kind.PRESENCE)
                fields[7], fields[11] = dict.fromkeys(names, "v" * 32), bytes(credential)
                each, rest = divmod(size + credential - len(pack(fields)), MAX_TAGS)
                fields[7] = dict.fromkeys(names, "v" * (32 + each)) | {"00": "v" * (32 + each + rest)}
                array = pack(fields)
                self.assertEqual(len(array) - credential, size)
                if fits and size == 1024:
                    decode(with_array(Kind.PRESENCE, array))
                else:
                    self.assert_refused(with_array(Kind.PRESENCE, array))

    def test_many_entries_of_a_roster_fit_in_a_frame(self) -> None:
        entry = RosterEntry(0, FRAMES[Kind.PRESENCE])
        entries = [entry] * (48 * 1024 // len(entry.frame))
        self.assertLess(len(encode(Roster(True, entries, KeepVote.WANTED))), HANDSHAKE_FRAME_BYTES)
