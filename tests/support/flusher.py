"""A process that flushes until it is killed: ``python -m tests.support.flusher PATH SEED``.

It prints the number of each flush once that is stored.
"""

from __future__ import annotations

import sys
from random import Random

from tests.support.shelves import ANNA, BERT, ME, Script, open_store
from twisted_mesh.storage import sqlite_file

RUNS = [ANNA, BERT, ME]
LIMITS = {"bytes_limit": 200_000, "closed_limit": 3}
SIZE = 6000
FLUSHES = 1_000_000  # nobody is there to kill it


def main() -> None:
    """Flush."""
    path, seed = sys.argv[1:]
    sqlite_file._WAL_PAGES = 25  # so that the log is copied now and then
    script = Script(Random(int(seed)), RUNS, SIZE)
    store = open_store(path, wall_ms=lambda: script.now, **LIMITS)
    for number in range(1, FLUSHES):
        script.lows(store.flush(script.flush()).lows)
        print(number)


if __name__ == "__main__":
    main()
