"""No target fails on any input that was worth keeping; atheris is not needed."""

from __future__ import annotations

import tracemalloc
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import corpus
from tests.fuzz.mutations import as_step, mutator, stock
from tests.fuzz.nodes import CONFIG, Meeting, Party, steps
from tests.fuzz.targets import TARGETS, Target, chunks, framing
from twisted_mesh.core.events import Close
from twisted_mesh.errors import Reason


class TestCorpus(SynchronousTestCase):
    def tearDown(self) -> None:
        tracemalloc.stop()

    def replay(self, name: str) -> None:
        """Give the target *name* each committed input."""
        inputs = corpus.read(name)
        self.assertTrue(inputs)
        for data in inputs:
            self.assertLessEqual(len(data), TARGETS[name].longest)
            try:
                TARGETS[name].run(data)
            except Exception as error:
                raise AssertionError(f"{name} fails on {data.hex()}") from error

    def test_framing(self) -> None:
        self.replay("framing")

    def test_greeting(self) -> None:
        self.replay("greeting")

    def test_connection(self) -> None:
        self.replay("connection")

    def test_frames(self) -> None:
        self.replay("frames")

    def test_bodies(self) -> None:
        self.replay("bodies")

    def test_core(self) -> None:
        self.replay("core")

    def test_each_target_has_a_corpus(self) -> None:
        self.assertEqual(tuple(TARGETS), corpus.NAMES)
        for name in corpus.NAMES:
            lines = corpus.path(name).read_text().splitlines()
            self.assertEqual(lines, sorted(set(lines), key=lambda line: (len(line), line)), name)


class TestTargets(SynchronousTestCase):
    """A target fails on what it is to find."""

    def tearDown(self) -> None:
        tracemalloc.stop()

    def test_bytes_are_cut_by_the_sizes_in_front(self) -> None:
        self.assertEqual(chunks(bytes((0, 1, 2, 0, 0, 0, 0, 0)) + b"abcdefg"), [b"a", b"bc", b"def", b"g"])
        framing(b"")

    def test_more_memory_than_allowed(self) -> None:
        large = Target(lambda data: [bytes(200_000)].clear(), 10, 0)
        self.assertRaises(AssertionError, large.run, b"")
        Target(large.call, 10, 20_000).run(bytes(10))

    def test_an_honest_link_that_is_closed(self) -> None:
        meeting = Meeting()
        self.patch(meeting.me.node, "handle", lambda event, now: [Close(3, Reason.SHAPE, "")])
        self.assertRaises(AssertionError, meeting.play, b"\xc0")

    def test_a_table_over_its_limit(self) -> None:
        party = Party("me", CONFIG)
        party.check()
        self.patch(party.node, "footprint", lambda: dict.fromkeys(Party("me", CONFIG).node.footprint(), 99))
        self.assertRaises(AssertionError, party.check)

    def test_frames_of_adversaries_come_to_the_honest_neighbour(self) -> None:
        meeting = Meeting()
        meeting.play(b"".join(as_step(frame, 0) for frame in stock()[-60:-55]) + b"\xc0\xd0\xe1\xf0")
        authors = {stream.run[0] for stream in meeting.friend.node.history}
        self.assertGreater(len(authors), 2)


class TestMutations(SynchronousTestCase):
    def test_the_same_seed_gives_the_same(self) -> None:
        frame = stock()[-1]
        for name, given in {"core": as_step(frame, 0), "frames": frame}.items():
            change = mutator(name, lambda data, longest: data[:longest])
            assert change is not None
            changed = {change(given, 4096, seed) for seed in range(30)}
            self.assertGreater(len(changed), 10)
            self.assertEqual(changed, {change(given, 4096, seed) for seed in range(30)})
            self.assertTrue(all(len(data) <= 100 for data in (change(given, 100, 1), change(b"", 100, 2))))

    def test_other_targets_have_the_fuzzers_own(self) -> None:
        self.assertIsNone(mutator("bodies", lambda data, longest: data))

    def test_steps_are_all_of_the_bytes(self) -> None:
        data = Random(1).randbytes(2000)
        self.assertEqual(b"".join(steps(data)), data)
