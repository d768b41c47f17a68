"""The short way of a plain message into a batch, and the way that looks at everything each time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import DIGEST, origin_of, signature_of
from tests.properties.profile import fixed
from tests.support.meshcase import BIG, MIB, MeshCase
from twisted_mesh import MeshConfig, MeshService
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.errors import Congested, MessageTooLarge, NotRunning, StoreFull
from twisted_mesh.runtime.batching import Batching
from twisted_mesh.wire.bodies import join_entries, pack_entry
from twisted_mesh.wire.unpack_guard import MAX_CONTAINERS

packets = st.one_of(
    st.text(max_size=3),
    st.binary(max_size=3),
    st.sampled_from([0, -1, 2**63, 1.5, True, None]),
    st.sampled_from([[1, [2]], {"k": b"v"}, (), (1, 2)]),
    st.sampled_from([2**64, "\ud800", object(), {1, 2}, bytearray(b"x"), {"k": object()}]),
    st.integers(100, 400).map(lambda size: bytes(size * 1000)),  # some of them fill a batch
    st.sampled_from([bytes(MIB - 8), bytes(MIB)]),  # the largest that can be sent, and one that cannot
)
sends = st.tuples(
    st.lists(packets, max_size=3),
    st.sampled_from([0, 0, 0, 0x30, 7]),
    st.sampled_from([False, False, True]),
)
many = st.lists(packets, max_size=6)
turns = st.sampled_from([0.0, 0.001, 0.002])
steps = st.lists(st.one_of(sends, sends, many, turns), max_size=15)


#: Packets, type and whether a receipt is wanted; packets for a message each; or seconds.
Step = tuple[list[object], int, bool] | list[object] | float
#: The first number of a batch, the number of its messages, and its body.
BatchFacts = tuple[int, int, bytes]


def outcome(send: Any, *packets: object, **options: object) -> tuple[type[Exception], str] | None:
    """What a call of *send* raised, or None."""
    try:
        send(*packets, **options)
    except Exception as error:
        return type(error), str(error)
    return None


class PlainCase(SynchronousTestCase):
    """Nodes alone, each with a clock of its own."""

    def node(self, **options: Any) -> MeshService:
        self.clock = Clock()
        service = MeshService(self.clock, listen=(), encryption="Plaintext", **options)
        service.startService()
        return service

    def batches(self, service: MeshService) -> list[BatchFacts]:
        """All that *service* has published in the end; it stops."""
        self.clock.advance(0.01)
        found = []
        for stream in service._running().driver.node.history:
            for signed in stream.serve(1, 10**6, 10**9):
                assert not isinstance(signed, Missing)
                found.append((signed.batch.first, signed.batch.count, signed.body))
        service.stopService()
        self.clock.pump([1] * 20)
        return found


class TestPlainSending(PlainCase):
    def sent(self, steps: Sequence[Step], debug_level: int) -> list[object]:
        """What comes of *steps*: what each raises, how much waits behind it, and the batches."""
        service = self.node(debug_level=debug_level, config=MeshConfig(unsent_bytes=2 * MIB))
        driver = service._running().driver
        seen: list[object] = []
        for step in steps:
            match step:
                case float():
                    self.clock.advance(step)
                case list():
                    seen.append(outcome(service.send_many, step))
                case packets, type_, receipt:
                    seen.append(outcome(service.send, *packets, type=type_, receipt=receipt))
            seen.append((driver.unsent, driver._batching.bytes, driver.node.status().congested))
        return [*seen, self.batches(service)]

    @fixed
    @given(steps)
    def test_both_ways_send_the_same_and_refuse_the_same(self, steps: list[Step]) -> None:
        self.assertEqual(self.sent(steps, debug_level=0), self.sent(steps, debug_level=5))

    def test_the_short_way_is_open_behind_the_first_message_of_a_turn(self) -> None:
        service = self.node()
        driver = service._running().driver
        self.assertFalse(driver.send_plain(("before",)))
        service.send("first")
        self.assertTrue(driver.send_plain(("second",)))
        self.clock.advance(0)
        self.assertFalse(driver.send_plain(("behind",)))
        self.assertEqual([count for _, count, _ in self.batches(service)], [2])

    def test_a_large_number_is_refused_behind_the_first_message_as_before_it(self) -> None:
        service = self.node()
        for _ in range(2):
            self.assertRaises(ValueError, service.send, 2**64)
            service.send("a")
        self.assertEqual([count for _, count, _ in self.batches(service)], [2])


class TestSendMany(PlainCase):
    """A message with each of several packets, at one call."""

    @fixed
    @given(many)
    def test_all_are_sent_as_by_a_call_for_each_or_none_is(self, packets: list[object]) -> None:
        node = self.node()
        refusals = [refusal for packet in packets if (refusal := outcome(node.send, packet))]
        each = self.batches(node)
        node = self.node()
        self.assertEqual(outcome(node.send_many, iter(packets)), next(iter(refusals), None))
        self.assertEqual(self.batches(node), [] if refusals else each)

    def test_they_have_a_type(self) -> None:
        node = self.node()
        node.send_many(["a", 1], type=0x30)
        self.assertRaises(ValueError, node.send_many, ["a"], type=7)
        self.assertEqual(
            self.batches(node), [(1, 2, join_entries([pack_entry(0x30, ["a"]), pack_entry(0x30, [1])]))]
        )

    def test_one_packet_is_not_several(self) -> None:
        node = self.node()
        packets: tuple[Any, ...] = ("fire", b"fire", bytearray(b"x"), {"k": 1}, 5, None)
        for packet in packets:
            self.assertIn("a list of packets", str(self.assertRaises(TypeError, node.send_many, packet)))
        self.assertEqual(self.batches(node), [])

    def test_there_is_room_for_all_or_for_none(self) -> None:
        node = self.node(config=MeshConfig(unsent_bytes=2 * MIB))
        node.send_many([BIG] * 4)
        self.clock.advance(0)
        self.assertRaises(Congested, node.send_many, [BIG] * 4)
        node.send_many([BIG] * 2)
        error = self.assertRaises(MessageTooLarge, node.send_many, [BIG] * 7)
        self.assertIn("at most 2097152 can be sent at once", str(error))
        self.assertEqual([count for _, count, _ in self.batches(node)], [1] * 6)


class TestFullBatch(MeshCase):
    """A batch that is full does not wait for ``batch_delay``, whichever way its messages came into it."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.chain(2, limits={"batch_delay": 0.002})
        self.send(self.a, "first")
        self.send(self.a, "waits for the timer")
        self.assertEqual(self.got(self.b), ["first"])

    def test_in_the_turn_after_the_timer_was_set(self) -> None:
        self.send(self.a, BIG)
        self.assertEqual(len(self.got(self.b)), 3)

    def test_behind_another_message_in_its_turn(self) -> None:
        self.a.send("waits as well")
        self.send(self.a, BIG)
        self.assertEqual(len(self.got(self.b)), 4)


class TestInOneTurn(MeshCase):
    """What forbids to send is seen by the next message, also in the turn in which another was sent."""

    def test_a_history_that_cannot_be_written(self) -> None:
        node = self.started()
        self.mesh.fill_disk(0)
        node.send("there was room")
        writer = self.parts_of(node).writer
        assert writer is not None
        writer._flush()
        self.assertRaises(StoreFull, node.send, "no")
        self.network.advance(0.1)
        self.mesh.free_disk(0)

    def test_the_size_of_a_message(self) -> None:
        (node,) = self.chain(1)
        node.send("plain")
        self.assertRaises(MessageTooLarge, node.send, bytes(MIB))
        self.assertEqual(node.footprint()["unsent_bytes"], 0)

    def test_the_stop(self) -> None:
        (node,) = self.chain(1)
        node.send("plain")
        node.stopService()
        self.assertRaises(NotRunning, node.send, "no")


class TestFits(SynchronousTestCase):
    """Of most turns it is known that their messages fit in one batch; the core need not find it out."""

    def published(self, turns: list[list[bytes]], most: int) -> list[tuple[list[bytes], bool]]:
        """The messages of each turn, in batches of *most* bytes, as they go to the core."""
        got: list[tuple[list[bytes], bool]] = []
        batching = Batching(
            Clock(), MeshConfig(batch_bytes=most), lambda entries, fits: got.append((entries, fits))
        )
        for entries in turns:
            batching.add(entries, sum(map(len, entries)))
            batching.stop()
        return got

    def batches(self, entries: list[bytes], most: int, fits: bool) -> list[bytes]:
        """The bodies of the batches of *entries*."""
        anna = origin_of("anna")
        outbox = Outbox(anna, 5, DIGEST, lambda text: signature_of(anna, text), most)
        return [bytes(signed.body) for signed in outbox.publish(entries, 9, fits)]

    @fixed
    @given(
        st.lists(
            st.lists(
                st.sampled_from([*range(0, 120, 20), [], [[]], {"k": 1}]).map(
                    lambda one: pack_entry(0, [bytes(one) if isinstance(one, int) else one])
                ),
                min_size=1,
                max_size=8,
            ),
            max_size=4,
        ),
        st.integers(40, 300),
    )
    def test_they_are_cut_into_the_same_batches(self, turns: list[list[bytes]], most: int) -> None:
        for entries, fits in self.published(turns, most):
            assert self.batches(entries, most, fits) == self.batches(entries, most, False)

    def test_it_is_known_of_plain_messages_up_to_the_size_of_a_batch(self) -> None:
        entry, nested = pack_entry(0, ["x"]), pack_entry(0, [[1]])
        size = len(entry)
        turns = [
            [entry] * 10,
            [entry] * 11,
            [entry] * 12,
            [entry, nested],
            [entry],
            [pack_entry(0, ["x" * 99])],
        ]
        told = [fits for _, fits in self.published(turns, 10 * size + 1)]
        self.assertEqual(told, [True, True, False, False, True, False])

    def test_lists_and_dicts_beyond_those_of_a_batch_begin_another(self) -> None:
        many = [pack_entry(0, [[[]] * (MAX_CONTAINERS // 2)])] * 3
        ((entries, fits),) = self.published([many], 2**18)
        self.assertEqual(len(self.batches(entries, 2**18, fits)), 3)
