"""Properties of the store: whatever a core flushes, a few rules say what is stored."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.properties.profile import fixed
from tests.support.length import at_length
from tests.support.stores import ANNA, BERT, ME, Model, Script, contents, folder_of, open_store
from twisted_mesh.core.history.stream import StreamId
from twisted_mesh.storage.sqlite import SqliteStore

RUNS: list[StreamId] = [ANNA, (ANNA[0], 8), BERT, ME]


class TestStore(SynchronousTestCase):
    """Any flushes, with limits of any size, and openings between them."""

    def setUp(self) -> None:
        self.folder = folder_of(self)

    @settings(fixed, max_examples=at_length(25, 12))
    @given(
        st.randoms(use_true_random=False),
        st.integers(1, 25),
        st.sampled_from((1200, 4000, 2**40)),
        st.sampled_from((2, 60, 10**9)),
        st.sampled_from((1, 2, 1000)),
    )
    def test_what_is_stored_is_what_the_rules_say(
        self, random: Random, flushes: int, bytes_limit: int, seconds_limit: int, closed_limit: int
    ) -> None:
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "history"
        model, script = Model(bytes_limit, seconds_limit, closed_limit), Script(random, RUNS)

        def opened() -> SqliteStore:
            return open_store(path, wall_ms=lambda: script.now, **model.limits)

        store = opened()
        for _ in range(flushes):
            flush = script.flush()
            flushed = store.flush(flush)
            self.assertEqual(dict(flushed.lows), model.flush(flush, script.now))
            script.lows(flushed.lows)
            self.check(store, model, script.now)
            if random.random() < 0.2:
                store.close()
                store = opened()
                self.assertEqual(contents(store), model.contents())
                self.check(store, model, script.now)
        store.close()

    def check(self, store: SqliteStore, model: Model, now: int) -> None:
        """Assert that *store*, which is open, answers as *model* does."""
        self.assertEqual(store.footprint(), model.footprint)
        expected = model.contents()
        for run, batches in expected.batches.items():
            self.assertEqual(list(store.read(run, 1, 10**9, 10**9)), batches)
            marks = expected.marks[run]
            held = {number for one in batches for number in range(one.batch.first, one.batch.last + 1)}
            self.assertLessEqual(set(range(marks.low, marks.head + 1)), held)
            for seconds in (0, 1, 20, 10**6):
                since = model.first_since(run, now - seconds * 1000)
                self.assertEqual(store.first_since(run, seconds), since)
