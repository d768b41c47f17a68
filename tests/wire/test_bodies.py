"""Messages as packed entries, which are checked when they are sent and when they come."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from tests.support.bodies import unpack_entries
from tests.support.length import at_length
from tests.wire.samples import FOREIGN
from twisted_mesh.errors import MessageTooLarge, PoisonedBody
from twisted_mesh.wire.bodies import (  # fmt: skip
    _unpack_ones,
    are_plain,
    containers_in,
    join_entries,
    pack_entry,
    pack_plain,
    split_entries,
    unpack_weighed,
)
from twisted_mesh.wire.broadcast import MAX_BATCH_COUNT
from twisted_mesh.wire.framing import MAX_MESSAGE_BYTES
from twisted_mesh.wire.unpack_guard import MAX_CONTAINERS, MAX_DEPTH, MAX_NUMBER_KEYS


def round_trip(*packets: object) -> list[Any]:
    (entry,) = unpack_entries(join_entries([pack_entry(0x30, packets)]), 1)
    return entry


def nested(depth: int) -> list[Any]:
    """A value of *depth* lists and dicts in turn, one in the other."""
    value: list[Any] | dict[str, Any] = [] if depth % 2 else {}
    for level in range(depth - 1, 0, -1):
        value = [value] if level % 2 else {"": value}
    return [value]


class TestPackEntry(SynchronousTestCase):
    def test_an_entry_is_kind_type_and_packets(self) -> None:
        self.assertEqual(pack_entry(2, ["yes", b"I did"]), b"\x94\0\2\xa3yes\xc4\5I did")
        self.assertEqual(pack_entry(0, []), b"\x92\0\0")

    def test_packets_keep_their_type(self) -> None:
        packets = ["ü", b"\xff", 1, 1.0, True, None, "", b"", 0, -0.0, False, [], {}]
        packets += [[1, [b"x", {"k": [None, 1.5]}]], {"a": {"b": b"c"}, b"a": 1, 2: 3, None: 4, 0.5: 5}]
        got = round_trip(*packets)
        self.assertEqual(got, [0, 0x30, *packets])
        self.assertEqual(repr(got), repr([0, 0x30, *packets]))

    def test_tuples_become_lists(self) -> None:
        self.assertEqual(round_trip((), (1, (2, [(3,)]))), [0, 0x30, [], [1, [2, [[3]]]]])

    def test_any_other_type_is_refused_wherever_it_is(self) -> None:
        for value in FOREIGN:
            for packets in ([value], ["x", [1, value]], [{"k": [value]}], [(value,)], [{"k": value}]):
                self.assertRaises(TypeError, pack_entry, 0, packets)

    def test_a_dict_key_is_a_scalar(self) -> None:
        for key in (value for value in FOREIGN if getattr(value, "__hash__", None)):
            try:
                packets = [{key: 1}]
            except TypeError:
                continue  # a memoryview of something that can change, say
            self.assertRaises(TypeError, pack_entry, 0, packets)
        for key in ((), (1, 2)):
            self.assertRaises(TypeError, pack_entry, 0, [[{"k": {key: 1}}]])

    def test_the_refusal_names_the_type(self) -> None:
        error = self.assertRaises(TypeError, pack_entry, 0, [[{1}]])
        self.assertIn("a packet holds 'set'; only str, bytes,", str(error))

    def test_integers_of_64_bits_are_taken_and_no_others(self) -> None:
        limits = [-(2**63), 2**64 - 1]
        self.assertEqual(round_trip(*limits, limits), [0, 0x30, *limits, limits])
        for number in (-(2**63) - 1, 2**64, 10**5000):
            for packets in ([number], [[number]], [{"k": number}], [{number: 1}]):
                self.assertRaises(ValueError, pack_entry, 0, packets)

    def test_text_that_is_no_unicode_is_refused(self) -> None:
        for packets in (["\ud800"], [["\udfff"]], [{"k": "\ud800"}], [{"\ud800": 1}]):
            self.assertRaises(ValueError, pack_entry, 0, packets)

    def test_lists_and_dicts_may_be_32_deep(self) -> None:
        self.assertEqual(round_trip(*nested(MAX_DEPTH)), [0, 0x30, *nested(MAX_DEPTH)])
        for depth in (33, 34, 5000):
            self.assertRaises(ValueError, pack_entry, 0, nested(depth))

    def test_what_holds_itself_is_refused(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        ring: dict[str, Any] = {}
        ring["k"] = ([ring],)
        for value in (loop, ring):
            error = self.assertRaises(ValueError, pack_entry, 0, ["x", value])
            self.assertIn("holds itself", str(error))

    def test_what_is_held_twice_is_sent_twice(self) -> None:
        shared = [1, {"k": "v"}]
        self.assertEqual(round_trip(shared, [shared, shared])[2:], [shared, [shared, shared]])

    def test_a_message_may_have_1_mib_packed(self) -> None:
        room = MAX_MESSAGE_BYTES - len(pack_entry(0, [b"x" * 2**16])) + 2**16
        for value in (bytes(room), "x" * room, [bytes(room - 1)]):
            self.assertEqual(len(pack_entry(0, [value])), MAX_MESSAGE_BYTES)
        for value in (bytes(room + 1), "x" * (room + 1), [bytes(room)], "ü" * room, ["ü" * room]):
            self.assertRaises(MessageTooLarge, pack_entry, 0, [value])

    def test_many_values_are_too_large_without_being_packed(self) -> None:
        self.assertRaises(MessageTooLarge, pack_entry, 0, [[None] * (MAX_MESSAGE_BYTES + 1)])
        self.assertRaises(MessageTooLarge, pack_entry, 0, [{}] * (MAX_MESSAGE_BYTES + 1))

    def test_what_shared_values_unfold_to_is_too_large_without_being_unfolded(self) -> None:
        text, key = "x" * MAX_MESSAGE_BYTES, {"k" * MAX_MESSAGE_BYTES: 1}
        leaves: list[Any] = [[None] * 1000, [text], {"k": text}, key, [], {}]
        for leaf in at_length(leaves, leaves[:-2]):
            value: list[Any] = [leaf]
            for _ in range(28):
                value = [value, value]
            self.assertRaises(ValueError, pack_entry, 0, [value])
        self.assertRaises(MessageTooLarge, pack_entry, 0, [[text] * 100_000])

    def test_a_dict_has_at_most_4096_numbers_as_keys(self) -> None:
        numbers = dict.fromkeys(range(MAX_NUMBER_KEYS))
        texts = dict.fromkeys(map(str, range(2 * MAX_NUMBER_KEYS)))
        self.assertEqual(round_trip(numbers, {**numbers, **texts})[3], {**numbers, **texts})
        error = self.assertRaises(ValueError, pack_entry, 0, [{**numbers, -0.5: 1}])
        self.assertIn("4096 numbers as keys", str(error))

    def test_a_message_has_at_most_16384_lists_and_dicts(self) -> None:
        for value in ([], {}, (), [1], {"k": 1}):
            pack_entry(0, [value] * MAX_CONTAINERS)
            for packets in (
                [value] * (MAX_CONTAINERS + 1),
                [[value] * MAX_CONTAINERS],
                [{"k": [value] * MAX_CONTAINERS}],
            ):
                error = self.assertRaises(ValueError, pack_entry, 0, packets)
                self.assertIn("at most 16384 lists and dicts", str(error))

    def test_a_list_in_many_places_counts_in_each(self) -> None:
        shared: list[Any] = [[]] * 127
        pack_entry(0, [shared] * 128)
        self.assertRaises(ValueError, pack_entry, 0, [shared] * 129)

    def test_an_entry_knows_how_many_lists_and_dicts_it_holds(self) -> None:
        for packets, want in ((["x", 1], 0), ([[]], 1), ([[1, [2]], {"k": {}}, "x"], 4)):
            packed = pack_entry(0, packets)
            self.assertEqual(containers_in(packed), want)
            self.assertEqual(
                [containers_in(entry) for entry in split_entries(join_entries([packed] * 2))], [want] * 2
            )

    def test_a_nan_comes_out_as_one(self) -> None:
        got = round_trip(float("nan"), float("inf"), {float("nan"): -float("inf")})
        self.assertEqual(repr(got), "[0, 48, nan, inf, {nan: -inf}]")


class TestPackPlain(SynchronousTestCase):
    def test_a_large_number_is_left_to_the_closer_look(self) -> None:
        for number in (-(2**63) - 1, 2**64):
            self.assertIsNone(pack_plain(("a", number)))


class TestJoinEntries(SynchronousTestCase):
    def test_a_body_is_an_array_of_entries(self) -> None:
        for many in (1, 2, 15, 16, 17, MAX_BATCH_COUNT):
            entries = [pack_entry(0, [number % 100]) for number in range(many)]
            got = unpack_entries(join_entries(entries), many)
            self.assertEqual(got, [[0, 0, number % 100] for number in range(many)])


class TestBodiesOfOnePacketEach(SynchronousTestCase):
    """Most bodies: a faster way reads them.  That both ways agree is a property."""

    def is_one(self, *messages: list[Any], type_: int = 0, count: int | None = None) -> bool:
        body = join_entries([pack_entry(type_, packets, asks=type_ == 2) for packets in messages])
        return _unpack_ones(body, count) is not None

    def test_text_or_bytes_beside_numbers(self) -> None:
        self.assertTrue(self.is_one(["x"], [1], [None], [2.5], [True]))
        self.assertTrue(self.is_one([b"x"], *[[1]] * 20, count=21))
        self.assertTrue(self.is_one(["x"], type_=2, count=1))
        self.assertTrue(self.is_one(*[["x"]] * MAX_BATCH_COUNT))

    def test_it_is_known_of_those_of_the_usual_types_that_they_ask_for_nothing(self) -> None:
        for type_ in (0, 2):
            for packets in (["x"], [b"x"], [1], ["x" * 300], [bytes(300)], [bytes(70_000)]):
                for many in (1, 20):
                    body = join_entries([pack_entry(type_, packets)] * many)
                    self.assertTrue(are_plain(unpack_weighed(body, many)[0]))
        first = pack_entry(0, ["x"])
        for other in (
            pack_entry(0, ["x"], asks=True),
            pack_entry(0x30, ["x"]),
            pack_entry(0, [b"x"]),
            pack_entry(0, [[]]),
        ):
            for entries in ([first, other], [other, first], [other]):
                got = unpack_weighed(join_entries(entries), len(entries))[0]
                self.assertEqual(are_plain(got), entries == [pack_entry(0, [b"x"])])

    def test_the_others_are_read_as_any_body(self) -> None:
        for messages in ([["x"], [b"x"]], [[["x"]]], [["x", 1]], [[]], [], [["x"], []]):
            self.assertFalse(self.is_one(*messages))
        self.assertFalse(self.is_one(["x"], count=2))
        self.assertFalse(self.is_one(*[["x"]] * (MAX_BATCH_COUNT + 1)))
        for body in (b"", b"\x93", b"\x93\x93", b"\xc4\x93\0\0", b"\x91\x93\0\x05\xc3", b"\x91\x93\0\0"):
            self.assertIsNone(_unpack_ones(body, None))


class TestWeight(SynchronousTestCase):
    """The bytes of a body's messages, of which each value has some."""

    def assert_weighs(self, more: int, *messages: list[Any]) -> None:
        body = join_entries([pack_entry(0, packets) for packets in messages])
        self.assertEqual(unpack_weighed(body, len(messages))[1], len(body) + more)

    def test_a_message_with_few_values_weighs_what_it_has_packed(self) -> None:
        self.assert_weighs(0, ["x" * 64], [], [1, 2, 3], [["x"], {"k": 1}])
        self.assert_weighs(0, ["x" * 2**19])

    def test_many_values_weigh_more_and_lists_and_dicts_most(self) -> None:
        self.assert_weighs(16 * (2 + 1000 - 16), ["ab"] * 1000)
        self.assert_weighs(16 * (2 + 20_000 - 16), ["ab"] * 20_000)
        self.assert_weighs(16 * (2 + 1 + 4 + 1000 - 16), [["ab"] * 1000])
        self.assert_weighs(16 * (2 + 1000 + 4000 - 16), [[]] * 1000)
        self.assert_weighs(16 * (2 + 100 * (1 + 4 + 2) - 16), [{"k": 1}] * 100)
        self.assert_weighs(16 * (2 + 1000 + 2 - 2 * 16), ["ab"] * 1000, [])


class TestUnpackEntries(SynchronousTestCase):
    def assert_poisoned(self, body: bytes, many: int | None = None) -> None:
        self.assertRaises(PoisonedBody, unpack_entries, body, many)

    def test_the_number_of_messages_is_the_one_told(self) -> None:
        body = join_entries([pack_entry(0, [1]), pack_entry(2, [])])
        self.assertEqual(unpack_entries(body, 2), unpack_entries(body))
        for many in (0, 1, 3):
            self.assert_poisoned(body, many)

    def test_what_is_no_list_of_lists_is_poisoned(self) -> None:
        for body in (b"", b"\xc0", b"\x05", b"\x80", b"\x91\xc0", b"\x91\x80", b"\xa1x", b"\xc1"):
            self.assert_poisoned(body)

    def test_a_body_cut_off_or_with_more_behind_it_is_poisoned(self) -> None:
        body = join_entries([pack_entry(0, ["text", b"bytes", 1.5, [{"k": 2**40}]])] * 2)
        for length in range(len(body)):
            self.assert_poisoned(body[:length])
        self.assert_poisoned(body + b"\0")

    def test_an_entry_begins_with_its_kind_and_type(self) -> None:
        for entry in ([], [0], [None, 0], [0, None], [True, 0], [0, False], [0.0, 0], ["0", 0]):
            self.assert_poisoned(msgspec.msgpack.encode([[0, 0], entry]))

    def test_a_message_has_a_type_that_applications_may_use(self) -> None:
        for type_ in (0, 2, 0x30, 2**64 - 1):
            unpack_entries(msgspec.msgpack.encode([[0, type_]]))
        for type_ in (1, 5, 0x2F, -1):
            self.assert_poisoned(msgspec.msgpack.encode([[0, 0], [0, type_]]))

    def test_other_kinds_of_entry_have_types_of_their_own(self) -> None:
        self.assertEqual(unpack_entries(b"\x91\x93\x01\x05\xc3"), [[1, 5, True]])

    def test_dates_and_extensions_are_poisoned(self) -> None:
        for value in (b"\xd6\xff\0\0\0\1", b"\xd7\xff" + bytes(8), b"\xc7\x0c\xff" + bytes(12)):
            self.assert_value_poisoned(value)
        for value in (b"\xd4\5x", b"\xc7\0\5", b"\xd8\xfe" + bytes(16), b"\xd7\xff" + b"\xff" * 8):
            self.assert_value_poisoned(value)

    def assert_value_poisoned(self, value: bytes) -> None:
        for around in (b"%s", b"\x91%s", b"\x81\xa1k%s", b"\x81%s\xa1v"):
            self.assert_poisoned(b"\x92\x92\0\0\x93\0\0" + around % value)

    def test_a_list_or_dict_as_key_is_poisoned(self) -> None:
        for key in (b"\x90", b"\x92\1\2", b"\x80"):
            self.assert_poisoned(b"\x91\x93\0\0\x81%s\1" % key)

    def test_text_that_is_no_utf_8_is_poisoned(self) -> None:
        for text in (b"\xa1\xff", b"\xa3\xed\xa0\x80", b"\xa2\xc0\x80"):
            self.assert_value_poisoned(text)

    def test_lists_and_dicts_deeper_than_32_are_poisoned(self) -> None:
        for depth in (32, 33, 500, 100_000):
            for level, leaf in ((b"\x91", b"\x90"), (b"\x81\1", b"\x80")):
                body = b"\x91\x93\0\0" + level * (depth - 1) + leaf
                if depth == 32:
                    unpack_entries(body)
                else:
                    self.assert_poisoned(body)

    def test_any_packing_of_a_value_is_understood(self) -> None:
        for value, want in (
            (b"\xcf" + bytes(7) + b"\1", 1),
            (b"\xd3" + b"\xff" * 8, -1),
            (b"\xca\x3f\xc0\0\0", 1.5),
            (b"\xdb\0\0\0\1x", "x"),
            (b"\xc6\0\0\0\1x", b"x"),
            (b"\xdd\0\0\0\1\xc0", [None]),
            (b"\xdf\0\0\0\1\1\2", {1: 2}),
            (b"\x82\1\2\1\3", {1: 3}),
        ):
            self.assertEqual(unpack_entries(b"\x91\x93\0\0" + value), [[0, 0, want]])

    def test_a_claimed_size_takes_no_memory(self) -> None:
        for head in (b"\xdd", b"\xdf", b"\xdb", b"\xc6"):
            self.assert_poisoned(b"\x91\x93\0\0" + head + b"\x7f\xff\xff\xff")
            self.assert_poisoned(b"\x91\x93\0\0" + head + b"\x00\x0f\xff\xff")

    def test_keys_that_all_collide_are_not_unpacked(self) -> None:
        """A peer can choose keys whose hashes collide: 70 seconds a MiB."""
        keys = list(islice(colliding(), 2000))
        self.assertEqual(len(set(map(hash, keys))), 1)
        pairs = b"".join(msgspec.msgpack.encode(key) + b"\0" for key in keys)
        self.assert_poisoned(b"\x91\x93\0\0\xde" + len(keys).to_bytes(2, "big") + pairs)

    def test_1_mib_of_lists_or_dicts_is_not_unpacked(self) -> None:
        """They would take 70 MiB and 0.7 s."""
        for value in (b"\x90", b"\x80", b"\x91\0", b"\x81\0\0", b"\xdc\0\0", b"\x90\xa1x", b"\x90\xd9\0"):
            many = 2**20 // len(value)
            tracemalloc.start()
            self.assert_poisoned(b"\x91\xdd" + (many + 2).to_bytes(4, "big") + b"\0\0" + value * many)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertLess(most, 4 * 2**20)

    def test_1_mib_of_messages_is_not_unpacked(self) -> None:
        many = 2**20 // 3
        for count_ in (None, MAX_BATCH_COUNT, many):
            self.assert_poisoned(b"\xdd" + many.to_bytes(4, "big") + b"\x92\0\0" * many, count_)

    def test_the_messages_of_a_body_hold_16384_lists_and_dicts_and_no_more(self) -> None:
        for filler in ("", "x" * 40, b"x" * 300, bytes(range(128, 192)) * 4000):
            for messages in (1, 2, 64):
                packed = [
                    msgspec.msgpack.encode([0, 0, filler, *[[]] * (MAX_CONTAINERS // messages)])
                ] * messages
                self.assertEqual(len(unpack_entries(join_entries(packed), messages)), messages)
                packed[-1] = packed[-1][:-1] + b"\x91\x90"
                self.assert_poisoned(join_entries(packed), messages)

    def test_a_large_body_without_lists_is_read_whatever_its_bytes_look_like(self) -> None:
        odd = b"\x90" * 2**17
        for packets in (
            [odd],
            ["text", odd],
            ["text"] * 2**15,
            [odd, [odd, "text"]],
            [None, 1.5, odd[:40]] * 2**12,
        ):
            body = join_entries([pack_entry(0, packets), pack_entry(0, [])])
            self.assertEqual(unpack_entries(body, 2), [[0, 0, *packets], [0, 0]])

    def test_a_large_body_that_ends_too_early_is_poisoned(self) -> None:
        body = join_entries([pack_entry(0, ["text", [1.5], b"x" * 2**16, [2**40]])])
        for length in (1, 3, 20, len(body) - 20, len(body) - 10, len(body) - 9, len(body) - 1):
            self.assert_poisoned(body[:length])

    def test_more_than_4096_numbers_as_keys_are_not_unpacked(self) -> None:
        for many in (MAX_NUMBER_KEYS, MAX_NUMBER_KEYS + 1):
            for number in (b"\1", b"\xff", b"\xcb" + bytes(8), b"\xcd\1\2"):
                body = b"\x91\x93\0\0\xde" + many.to_bytes(2, "big") + (number + b"\0") * many
                if many == MAX_NUMBER_KEYS:
                    self.assertEqual(len(unpack_entries(body)[0][2]), 1)
                else:
                    self.assert_poisoned(body)


def colliding() -> Iterator[tuple[int, int]]:
    """Tuples of two integers whose hashes are all the same (CPython's xxHash, run backwards)."""
    one, two, five = 11400714785074694791, 14029467366897019727, 2870177450012600261
    whole, undo = 2**64, pow(14029467366897019727, -1, 2**64)

    def rotated(number: int, by: int) -> int:
        return ((number << by) | (number >> (64 - by))) % whole

    wanted = rotated(12345 * pow(one, -1, whole) % whole, 33)
    for first in count(1):
        lane = rotated((five + first * two) % whole, 31) * one % whole
        second = (wanted - lane) * undo % whole
        if second < 2**61 - 1:
            yield first, second
