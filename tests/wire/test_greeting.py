"""The first frame of each side: a py2p handshake that native nodes mark as native."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.samples import IDENTITY, NETWORK, PY2P, VECTORS, greeting, payload
from twisted_mesh.errors import Reason, RemoteError
from twisted_mesh.wire.greeting import NATIVE, Greeting, decode, encode

ID = IDENTITY.id.decode()
PROTOCOL_ID = NETWORK.id


def packed(**changes: Any) -> bytes:
    """The payload of a good greeting but for the fields that are named."""
    fields: dict[str, Any] = {
        "main": 2,
        "sender": ID,
        "time": 5,
        "sub": 5,
        "id": ID,
        "protocol_id": PROTOCOL_ID,
        "address": ["h", 1],
        "compressions": [NATIVE],
    }
    fields.update(changes)
    return greeting(msgspec.msgpack.encode(list(fields.values())))


class TestEncode(SynchronousTestCase):
    def test_the_size_of_the_whole_frame_is_a_multiple_of_8(self) -> None:
        for length in range(1, 40):
            for address in (None, ("h" * length, 4444)):
                frame = encode(Greeting(b"i" * length, PROTOCOL_ID, address, True, 1_800_000_000))
                self.assertEqual(len(frame) % 8, 0)
                self.assertEqual(int.from_bytes(frame[:4], "big"), len(frame) - 4)

    def test_the_node_id_is_text_and_the_protocol_id_bytes(self) -> None:
        array = payload(VECTORS["greeting"])[32:].rstrip(b"\0")
        self.assertEqual(
            msgspec.msgpack.decode(array),
            [2, ID, 1_800_000_000, 5, ID, PROTOCOL_ID, ["192.0.2.1", 4444], [NATIVE]],
        )

    def test_what_is_encoded_is_decoded(self) -> None:
        for address in (None, ("192.0.2.1", 4444), ("::1", 1), ("h" * 255, 65535)):
            for native in (True, False):
                value = Greeting(IDENTITY.id, PROTOCOL_ID, address, native, 1_800_000_000)
                self.assertEqual(decode(payload(encode(value))), value)


class TestDecode(SynchronousTestCase):
    def test_the_handshakes_of_py2p_and_js2p_are_understood(self) -> None:
        for known in PY2P["handshakes"]:
            self.assertEqual(
                decode(payload(bytes.fromhex(known["hex"]))),
                Greeting(
                    id=known["id"].encode(),
                    protocol_id=known["protocol_id"].encode(),
                    address=tuple(known["address"]),
                    native=False,
                    time=known["time"],
                ),
            )

    def test_ids_may_be_text_or_bytes(self) -> None:
        for node_id in (ID, ID.encode()):
            for protocol_id in (PROTOCOL_ID, PROTOCOL_ID.decode()):
                got = decode(packed(id=node_id, sender=node_id, protocol_id=protocol_id))
                self.assertEqual((got.id, got.protocol_id), (IDENTITY.id, PROTOCOL_ID))

    def test_the_native_mark_is_found_among_what_others_announce(self) -> None:
        others: list[Any] = [19, "snappy", -1, 2**40, None, 1.5, b"x", [1], True]
        self.assertTrue(decode(packed(compressions=[*others, NATIVE])).native)
        self.assertTrue(decode(packed(compressions=[NATIVE, *others])).native)
        self.assertFalse(decode(packed(compressions=others)).native)
        self.assertFalse(decode(packed(compressions=[])).native)
        self.assertFalse(decode(packed(compressions=[[NATIVE], "mesh"])).native)

    def test_an_address_that_cannot_be_dialled_is_none(self) -> None:
        hosts = (
            [],
            ["h"],
            ["", 1],
            ["h" * 256, 1],
            ["h\n", 1],
            ["\x1b[2J", 1],
            [b"h", 1],
            [None, 1],
            [["h"], 1],
        )
        ports = (["h", port] for port in (0, -1, 65536, 2**40, True, 80.0, "80", None, []))
        for address in (None, "h:1", 5, {"h": 1}, [[]], [["h", 1]], *hosts, *ports):
            self.assertIsNone(decode(packed(address=address)).address)

    def test_what_stands_behind_an_address_is_ignored(self) -> None:
        self.assertEqual(decode(packed(address=["h", 65535, {"key": b"x"}, 7])).address, ("h", 65535))

    def test_up_to_7_bytes_of_padding_are_ignored(self) -> None:
        array = packed()[32:]
        for padding in (b"", b"\0", bytes(7), b"\x90\xc1\xff\x00junk"[:7]):
            self.assertEqual(decode(greeting(array + padding)), decode(greeting(array)))
        self.assert_refused(greeting(array + bytes(8)))

    def assert_refused(self, data: bytes) -> None:
        error = self.assertRaises(RemoteError, decode, data)
        self.assertIs(error.reason, Reason.GREETING)

    def assert_fields_refused(self, field: str, *values: Any) -> None:
        """Assert that a good greeting but for each of *values* in one field is refused."""
        for value in values:
            self.assert_refused(packed(**{field: value}))

    def test_a_wrong_checksum_is_no_greeting(self) -> None:
        good = packed()
        for bad in (b"", bytes(32), good[:-1], good + b"\0", b"\0" + good, bytes(32) + good[32:]):
            self.assert_refused(bad)

    def test_no_beginning_of_a_greeting_is_one(self) -> None:
        array = packed()[32:]
        for length in range(len(array)):
            self.assert_refused(greeting(array[:length]))

    def test_another_shape_is_refused(self) -> None:
        array = msgspec.msgpack.decode(packed()[32:])
        for value in ([], array[:7], [*array, 1], {}, 5, "text", None, [array]):
            self.assert_refused(greeting(msgspec.msgpack.encode(value)))
        date = datetime.fromtimestamp(5, UTC)
        self.assert_fields_refused("main", 0, "2")
        self.assert_fields_refused("sub", 6)
        self.assert_fields_refused("time", "now", 1.5)
        self.assert_fields_refused("id", 5, None, [1], date)
        self.assert_fields_refused("compressions", None, 19, {"19": 1}, date)

    def test_an_unusable_id_is_refused(self) -> None:
        self.assert_fields_refused("id", "", b"", "i" * 129, b"i" * 129)
        self.assert_fields_refused("id", "two\nlines", b"\x1b[2J", "größe", b"\xff")
        self.assert_fields_refused("protocol_id", None, 5, [])

    def test_what_is_no_msgpack_is_refused(self) -> None:
        array = packed()[32:]
        for data in (
            b"\xc1" * 20,
            b"\x98\xff" + b"\xc1" * 9,
            b"\xdd\xff\xff\xff\xff",
            array.replace(b"\xa1h", b"\xa1\xff"),  # a host that is no UTF-8
            b"\x91" * 4000 + b"\xc0",  # deeper than any stack
        ):
            self.assert_refused(greeting(data))

    def test_a_greeting_of_more_than_4_kib_is_not_unpacked(self) -> None:
        largest = packed(address=["h", 1, bytes(4096 - len(packed(address=["h", 1, b"x" * 256])) + 256)])
        self.assertEqual(len(largest), 4096)
        self.assertEqual(decode(largest).address, ("h", 1))
        self.assert_refused(greeting(largest[32:] + b"\0"))
