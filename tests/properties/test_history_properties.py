"""Properties of the history and the outbox: their promises hold for any batches in any order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.core.network import DIGEST, entries, origin_of, signature_of
from tests.properties.profile import fixed
from tests.support.length import at_length
from twisted_mesh.config import MeshConfig
from twisted_mesh.core.broadcast.outbox import Outbox
from twisted_mesh.core.events import GapFound, StreamId
from twisted_mesh.core.history.batches import cost
from twisted_mesh.core.history.history import History
from twisted_mesh.core.history.stream import Ready, Stream
from twisted_mesh.wire import codec
from twisted_mesh.wire.broadcast import Batch, SignedBatch
from twisted_mesh.wire.fields import MAX_NUMBER

ME: StreamId = (origin_of("me"), 1)
RUNS: list[StreamId] = [(origin_of("anna"), 1), (origin_of("anna"), 2), (origin_of("bert"), 1)]
END = 40  # no batch goes further
ALL = 10**9

runs = st.sampled_from(RUNS)
spans = st.tuples(st.integers(1, 33), st.integers(1, 6))  # first, count
steps = st.one_of(
    st.tuples(st.just("take"), runs, spans),
    st.tuples(st.just("take"), runs, spans),
    st.tuples(st.just("take"), st.just(RUNS[0]), spans),
    st.tuples(st.just("whole"), runs, st.randoms(use_true_random=False)),
    st.tuples(st.just("publish"), st.integers(1, 5)),
    st.tuples(st.just("accept"), st.integers(0, 9)),
    st.tuples(st.just("start"), runs, st.integers(0, 12), st.integers(0, 12)),
    st.tuples(st.just("hint"), runs, st.integers(0, END)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
    st.tuples(st.just("age")),
)
#: What can happen to one run, of which a neighbour said where to start.
claimed_steps = st.one_of(
    st.tuples(st.just("take"), st.just(RUNS[0]), spans),
    st.tuples(st.just("take"), st.just(RUNS[0]), st.tuples(st.integers(1, 4), st.integers(1, 4))),
    st.tuples(st.just("hint"), st.just(RUNS[0]), st.integers(0, END)),
    st.tuples(st.just("hint"), st.just(RUNS[0]), st.integers(END // 2, END)),
    st.tuples(st.just("settle"), st.just(RUNS[0]), st.integers(0, END // 2)),
    st.tuples(st.just("wait"), st.integers(1, 30)),
    st.tuples(st.just("age")),
)
#: What can happen to one run of which much is given up.
holed_steps = st.one_of(
    st.tuples(st.just("take"), st.just(RUNS[0]), spans),
    st.tuples(st.just("take"), st.just(RUNS[0]), st.tuples(st.integers(1, 12), st.integers(1, 4))),
    st.tuples(st.just("hint"), st.just(RUNS[0]), st.integers(0, END)),
    st.tuples(st.just("wait"), st.integers(10, 30)),
)


def batch_of(run: StreamId, first: int, count: int) -> SignedBatch:
    """A batch that nobody has signed; its cost depends on where it begins."""
    header = Batch(*run, first, count, 0, 0, bytes(32))
    return SignedBatch(header, bytes(64), codec.pack(header), bytes(first * 7 % 5 * 50))


def numbers(batches: Iterable[SignedBatch]) -> set[int]:
    """The messages in *batches*."""
    return {number for one in batches for number in range(one.batch.first, one.batch.last + 1)}


def readable(stream: Stream, most: int = 1) -> list[SignedBatch]:
    """All that a consumer here reads that has taken nothing, *most* bytes or a batch at a time."""
    got: list[SignedBatch] = []
    while some := list(stream.read(got[-1].batch.last + 1 if got else 1, stream.head, most)):
        got += some
    return got


class KeptHistory:
    """A history as a node keeps it, and the messages that its application is told of."""

    def __init__(self, test: SynchronousTestCase, config: MeshConfig) -> None:
        self._test = test
        self._config = config
        self.history = History(config)
        self.now = 0.0
        self.own_head = self.own_taken = 0
        self._heads: dict[StreamId, int] = defaultdict(int)
        self._told: dict[StreamId, int] = {}  # the last message that was delivered or told as lost
        self.delivered: dict[StreamId, set[int]] = defaultdict(set)
        self._bases: dict[StreamId, int] = defaultdict(int)
        self._signed: dict[StreamId, int] = defaultdict(int)  # the highest number their authors have shown

    def do(self, step: tuple[object, ...]) -> None:
        """Carry out *step*; assert that the history keeps its promises."""
        match step:
            case "take", tuple(run), (int(first), int(count)):
                self.take(run, first, count)
            case "whole", tuple(run), random:
                firsts = list(range(1, END, 3))
                random.shuffle(firsts)  # type: ignore[attr-defined]
                for first in firsts:
                    self.take(run, first, 3)
            case "publish", int(count):
                self.history.add(batch_of(ME, self.own_head + 1, count), self.now)
                self.own_head += count
            case "accept", int(more):
                self.own_taken = min(self.own_taken + more, self.own_head)
            case "start", tuple(run), int(head), int(more):
                if run not in self._bases:
                    self._bases[run] = head + more
                    self.history.start_at(run, head, head + more, self.now)
            case "hint", tuple(run), int(sequence):
                self._bases[run] += 0
                self._signed[run] = max(self._signed[run], sequence)
                self.history.hinted(run, sequence, self.now)
                stream = self.history.get(run)
                self._test.assertGreaterEqual(
                    self.history.head(run) if stream is None else stream.high, sequence
                )
            case "claimed", tuple(run), int(head):
                if run not in self._bases:
                    self._bases[run] = MAX_NUMBER - 1  # nothing is told until the base is known
                    self.history.start_at(run, head, None, self.now)
            case "settle", tuple(run), int(base):
                stream = self.history.get(run)
                if stream is not None and stream.settles:
                    self.settle(run, base)
            case "wait", int(seconds):
                self.now += seconds
                self.lost(self.history.give_up(self.now, 20))
                for stream in self.history:
                    since = stream.hole_since
                    self._test.assertTrue(since is None or since + 20 > self.now)
            case ("age",):
                self.history.age(self.now, ME, self.own_taken)
                self.check_age()
        self.lost(self.history.evict(ME, self.own_taken, self.now))
        self.check()

    def take(self, run: StreamId, first: int, count: int) -> None:
        """Take a batch if a node would."""
        self._bases[run] += 0  # met: it is too late to start elsewhere
        signed = batch_of(run, first, count)
        duplicate = self.history.is_duplicate(signed.batch)
        stream = self.history.get(run)
        if stream is not None:
            held = [one.batch for one in stream.serve(1, END, ALL)]
            within = any(one.first <= first and signed.batch.last <= one.last for one in held)
            self._test.assertEqual(duplicate, within or signed.batch.last <= stream.head)
        if not duplicate and self.history.has_room(signed):
            self._signed[run] = max(self._signed[run], signed.batch.last)
            self.deliver(run, self.history.add(signed, self.now))
            self._test.assertTrue(self.history.is_duplicate(signed.batch))

    def settle(self, run: StreamId, base: int) -> None:
        """The base of *run* is known now."""
        skip = self.history.settle(run, base)
        stream = self.history.get(run)
        assert stream is not None
        self._test.assertEqual(stream.base, base)
        self._bases[run] = base
        self._heads[run] = min(self._heads[run], stream.head)
        self._test.assertNotIn(run, self._told)
        self.lost([skip])

    def lost(self, gaps: Iterable[tuple[GapFound, list[Ready]]]) -> None:
        """Tell the application of *gaps*, and deliver the messages behind each."""
        for gap, ready in gaps:
            run = (gap.origin, gap.epoch)
            if gap.first <= gap.last:
                self.tell(run, gap.first, gap.last)
            self.deliver(run, ready)

    def deliver(self, run: StreamId, ready: list[Ready]) -> None:
        """Hand messages that can be delivered to the application."""
        for item in ready:
            self._test.assertLessEqual(item.signed.batch.first, item.start)
            self.tell(run, item.start, item.signed.batch.last)
            self.delivered[run].update(range(item.start, item.signed.batch.last + 1))

    def tell(self, run: StreamId, first: int, last: int) -> None:
        """Assert that messages are told in order from the base on, each once, delivered or lost."""
        self._test.assertLessEqual(first, last)
        self._test.assertEqual(first, self._told.get(run, self._bases[run]) + 1)
        self._told[run] = last

    def check(self) -> None:
        """Assert all that holds after every step."""
        test, history, config = self._test, self.history, self._config
        for run in RUNS:
            test.assertGreaterEqual(history.head(run), self._heads[run])
            self._heads[run] = history.head(run)
            told = self._told.get(run, self._bases[run])
            test.assertEqual(max(history.head(run), self._bases[run]), told)
        streams = list(history)
        for stream in streams:
            self.check_stream(stream)
        test.assertEqual(history.held_bytes, sum(stream.batches.held_bytes for stream in streams))
        test.assertEqual(history.waiting_bytes, sum(stream.batches.waiting_bytes for stream in streams))
        test.assertLessEqual(history.waiting_bytes, config.waiting_bytes)
        test.assertLessEqual(len(streams), config.open_streams)
        since = [stream.hole_since for stream in streams if stream.hole_since is not None]
        test.assertEqual(history.oldest_hole, min(since, default=None))
        if history.held_bytes > config.history_bytes:
            test.assertEqual({stream.run for stream in streams if stream.batches.held_bytes}, {ME})
            own = history.get(ME)
            oldest = None if own is None else own.batches.oldest()
            assert oldest is not None
            test.assertGreater(oldest[1], self.own_taken)
        if self.own_head:
            own = history.get(ME)
            assert own is not None
            unsent = set(range(self.own_taken + 1, self.own_head + 1))
            test.assertLessEqual(unsent, numbers(own.serve(1, ALL, ALL)))

    def check_stream(self, stream: Stream) -> None:
        """Assert all that one stream says of itself."""
        test = self._test
        kept = list(stream.serve(1, ALL, ALL))
        held = [one for one in kept if one.batch.first <= stream.head]
        waiting = kept[len(held) :]
        # Read all at once: one by one, a consumer may pass over some batches that overlap.
        below_gap = [one for one in readable(stream, ALL) if one not in held]
        test.assertEqual(len(stream), len(kept) + len(below_gap))
        test.assertEqual(stream.batches.held_bytes, sum(map(cost, held + below_gap)))
        test.assertEqual(stream.batches.waiting_bytes, sum(map(cost, waiting)))
        for one, other in pairwise(kept):
            test.assertLess(one.batch.first, other.batch.first)
            test.assertLess(one.batch.last, other.batch.last)
        test.assertTrue(not waiting or waiting[0].batch.first > stream.head + 1)
        test.assertEqual(stream.batches.first_waiting, waiting[0].batch.first if waiting else None)
        # Announced messages are held, and served from any number on.
        test.assertLessEqual(stream.low, stream.head + 1)
        test.assertGreaterEqual(stream.high, max([stream.head, *(one.batch.last for one in waiting)]))
        there = numbers(waiting) | set(range(stream.low, stream.head + 1))
        for number in range(stream.low, END + 1):
            (*before, found) = [None, *stream.serve(number, number, 0)]
            test.assertLessEqual(len(before), 1)
            test.assertEqual(found is not None, number in there)
            test.assertTrue(found is None or number in numbers([found]))
        # The range to ask for next is missing as a whole, and nothing below it is missing.
        come = numbers(waiting) | set(range(1, stream.head + 1))
        for low, high in ((1, END), (stream.head + 1, stream.head + 9), (7, 20), (15, 16)):
            missing = [number for number in range(low, high + 1) if number not in come]
            hole = stream.next_missing(low, high)
            if hole is None:
                test.assertEqual(missing, [])
            else:
                test.assertEqual(missing[0], hole[0])
                test.assertEqual(missing[: hole[1] - hole[0] + 1], list(range(hole[0], hole[1] + 1)))
                test.assertTrue(hole[1] == high or hole[1] + 1 in come)

    def check_age(self) -> None:
        """Assert that nothing too old is left but own messages that no neighbour has."""
        for stream in self.history:
            oldest = stream.batches.oldest()
            if oldest is not None and oldest[0] <= self.now - self._config.history_seconds:
                self._test.assertEqual(stream.run, ME)
                self._test.assertGreater(oldest[1], self.own_taken)


class TestHistory(SynchronousTestCase):
    """Batches of several runs come in any cut and order, also again; nothing stays for ever."""

    @settings(fixed, max_examples=at_length(120, 50))
    @given(
        st.lists(steps, max_size=40),
        st.sampled_from((900, 2000, 10**6)),
        st.sampled_from((700, 2500, 10**6)),
        st.sampled_from((1, 2, 9)),
    )
    def test_whatever_comes(
        self, happens: list[tuple[object, ...]], waiting: int, held: int, open_streams: int
    ) -> None:
        config = MeshConfig(
            waiting_bytes=waiting, history_bytes=held, history_seconds=60, open_streams=open_streams
        )
        writer = KeptHistory(self, config)
        for step in happens:
            writer.do(step)

    @settings(fixed, max_examples=at_length(120, 50))
    @given(st.integers(0, 12), st.lists(claimed_steps, max_size=15))
    def test_a_base_that_is_known_later_delivers_in_order_what_came_before(
        self, head: int, happens: list[tuple[object, ...]]
    ) -> None:
        writer = KeptHistory(self, MeshConfig(history_bytes=700, history_seconds=60))
        writer.do(("claimed", RUNS[0], head))
        for step in happens:
            writer.do(step)

    @settings(fixed, max_examples=at_length(120, 50))
    @given(st.integers(0, 6), st.lists(holed_steps, max_size=25))
    def test_what_was_delivered_is_read_whatever_was_given_up(
        self, base: int, happens: list[tuple[object, ...]]
    ) -> None:
        writer = KeptHistory(self, MeshConfig())
        writer.do(("start", RUNS[0], 0, base))
        for step in happens:
            writer.do(step)
            stream = writer.history.get(RUNS[0])
            assert stream is not None
            self.assertLessEqual(writer.delivered[RUNS[0]], numbers(readable(stream)))

    @fixed
    @given(st.lists(spans, max_size=25), st.randoms(use_true_random=False))
    def test_with_room_and_time_everything_is_delivered(
        self, cuts: list[tuple[int, int]], random: object
    ) -> None:
        writer = KeptHistory(self, MeshConfig())
        comes = cuts + [(first, 1) for first in range(1, END)]
        random.shuffle(comes)  # type: ignore[attr-defined]
        for first, count in comes:
            writer.do(("take", RUNS[0], (first, count)))
        stream = writer.history.get(RUNS[0])
        assert stream is not None
        self.assertEqual((stream.low, stream.head, stream.batches.waiting_bytes), (1, END - 1, 0))


class TestOutbox(SynchronousTestCase):
    """Published messages are unsent until a neighbour has them."""

    @fixed
    @given(st.lists(st.tuples(st.sampled_from(("publish", "accept")), st.integers(0, 8)), max_size=40))
    def test_sums_are_those_of_what_is_unsent(self, happens: list[tuple[str, int]]) -> None:
        outbox = Outbox(*ME, DIGEST, lambda text: signature_of(ME[0], text), 40)
        unsent: dict[int, int] = {}  # last message -> bytes
        taken = 0
        for what, number in happens:
            if what == "publish":
                for signed in outbox.publish(entries(*"abcdefgh"[:number]), 0):
                    unsent[signed.batch.last] = signed.size
                    self.assertEqual(signed.batch.last, outbox.head)
            else:
                outbox.accept(taken + number)
                taken = max([taken, *(last for last in unsent if last <= taken + number)])
                unsent = {last: size for last, size in unsent.items() if last > taken}
            self.assertEqual(outbox.accepted, taken)
            self.assertEqual((len(outbox), outbox.unsent_bytes), (len(unsent), sum(unsent.values())))


class TestNext(SynchronousTestCase):
    """A batch that is the next one of its stream is asked nothing more: that would change nothing."""

    @settings(fixed, max_examples=at_length(200, 40))
    @given(
        st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=8),
        st.lists(st.integers(0, 9), max_size=20),
        st.lists(st.sampled_from(["skip", "cut", "hint", "void"]), max_size=2),
    )
    def test_what_is_asked_of_other_batches_has_one_answer(
        self, sizes: list[tuple[int, bool]], order: list[int], events: list[str]
    ) -> None:
        honest, others = list[SignedBatch](), list[SignedBatch]()
        first, previous = 1, bytes(32)
        for count, is_forked in sizes:
            header = Batch(*RUNS[0], first, count, 0, 0, previous)
            honest.append(codec.sign_batch(header, b"one", DIGEST, lambda text: bytes(64)))
            if is_forked:
                others.append(codec.sign_batch(header, b"other", DIGEST, lambda text: bytes(64)))
            first, previous = first + count, honest[-1].header.hash
        history = History(MeshConfig())
        begun = honest[: len(honest) // 2]
        for at, signed in enumerate(
            [*begun, *((honest + others)[one % len(honest + others)] for one in order), *honest]
        ):
            stream = history.get(RUNS[0])
            if history.follows(signed.batch):
                assert stream is not None
                self.assertFalse(history.is_duplicate(signed.batch))
                self.assertTrue(history.is_known(RUNS[0]))
                self.assertTrue(history.has_room(signed))
                self.assertIsNone(stream.contradicting(signed.header))
                self.assertFalse(stream.equivocated)
            if stream is not None and events and at == len(begun) + 1:
                match events.pop():
                    case "skip" if stream.has_hole:
                        stream.skip()
                    case "cut":
                        list(history.cut({RUNS[0][0]: {RUNS[0][1]: (first // 2, b"")}}, 0.0))
                    case "hint":
                        history.hinted(RUNS[0], first + 3, 0.0)
                    case "void":
                        stream.equivocated = True
            if not history.is_duplicate(signed.batch) and not history.is_beyond_cut(signed):
                history.add(signed, 0.0)
