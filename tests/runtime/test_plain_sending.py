"""The short way of a plain message into a batch, and the way that looks at everything each time."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.properties.profile import fixed
from tests.support.meshcase import BIG, MIB, MeshCase
from twisted_mesh import MeshConfig, MeshService
from twisted_mesh.core.history.storage import Missing
from twisted_mesh.errors import MessageTooLarge, NotRunning, StoreFull

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
turns = st.sampled_from([0.0, 0.001, 0.002])
steps = st.lists(st.one_of(sends, sends, turns), max_size=15)


def sent(steps: Sequence[tuple[list[object], int, bool] | float], debug_level: int) -> list[object]:
    """What comes of *steps* at a node: what each raises and how much waits behind it, and all batches."""
    clock = Clock()
    config = MeshConfig(unsent_bytes=2 * MIB)
    service = MeshService(clock, listen=(), encryption="Plaintext", debug_level=debug_level, config=config)
    service.startService()
    driver = service._running().driver
    seen: list[object] = []
    for step in steps:
        if isinstance(step, float):
            clock.advance(step)
        else:
            packets, type_, receipt = step
            try:
                service.send(*packets, type=type_, receipt=receipt)  # type: ignore[call-overload]
            except Exception as error:
                seen.append((type(error), str(error)))
        seen.append((driver.unsent, driver._batching.bytes, driver.node.status().congested))
    clock.advance(0.01)
    for stream in driver.node.history:
        for batch in stream.serve(1, 10**6, 10**9):
            assert not isinstance(batch, Missing)
            seen.append((batch.batch.first, batch.batch.count, batch.body))
    service.stopService()
    clock.pump([1] * 20)
    return seen


class TestPlainSending(SynchronousTestCase):
    @fixed
    @given(steps)
    def test_both_ways_send_the_same_and_refuse_the_same(
        self, steps: list[tuple[list[object], int, bool] | float]
    ) -> None:
        self.assertEqual(sent(steps, debug_level=0), sent(steps, debug_level=5))


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
