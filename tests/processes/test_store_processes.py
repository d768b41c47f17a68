"""The history of a process that is killed, and of two that want the same file."""

from __future__ import annotations

from random import Random

from tests.support.flusher import LIMITS, RUNS, SIZE
from tests.support.length import at_length
from tests.support.processes import Child, ProcessCase
from tests.support.shelves import Model, Script, contents, open_store
from twisted_mesh.errors import StoreError

KILLS = at_length(60, 4)
AT_ONCE = 4
FLUSHER = "from tests.support.flusher import main; main()"


class KilledWriterTests(ProcessCase):
    timeout = at_length(400, 100)

    async def test_a_process_that_is_killed_at_any_moment_loses_nothing_that_was_flushed(self) -> None:
        random = Random(6)
        for first in range(0, KILLS, AT_ONCE):
            seeds = range(first, first + AT_ONCE)
            children = [self.fork(FLUSHER, f"history{seed}", str(seed)) for seed in seeds]
            for seed, child in zip(seeds, children, strict=True):
                some = random.randrange(1, 200)
                await self.until(lambda child=child, some=some: len(child.lines) >= some)
                error = self.assertRaises(StoreError, open_store, self.directory / f"history{seed}")
                self.assertIn("is in use by another node", str(error))
                child.signal("KILL")
                await self.until_ended(child)
                self.check(seed, child)

    def check(self, seed: int, child: Child) -> None:
        """What is there is what was flushed, all of it, and perhaps the flush that was under way."""
        script, model = Script(Random(seed), RUNS, SIZE), Model(**LIMITS)
        store = open_store(self.directory / f"history{seed}", **LIMITS)
        self.addCleanup(store.close)
        self.assertEqual(store._writer.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        allowed = []
        for number in range(1, int(child.lines[-1]) + 2):
            flush = script.flush()
            script.lows(list(model.flush(flush, script.now).items()))
            if number >= int(child.lines[-1]):
                allowed.append(model.contents())
        self.assertIn(contents(store), allowed)
