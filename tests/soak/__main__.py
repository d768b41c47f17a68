"""``python -m tests.soak``: real processes, a proxy between them, and what the judge says of them."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.soak.judge import Judge
from tests.soak.stage import Soak
from tests.soak.table import table
from tests.support.processes import reactor


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="Trouble a mesh of processes, and hold the promises against what they tell.",
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="of trouble (default 2)")
    parser.add_argument("--seed", type=int, default=1, help="what happens is drawn from it (default 1)")
    parser.add_argument("--nodes", type=int, default=6, help="to begin with (default 6)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds from fault to fault (default 1)")
    parser.add_argument("--no-kills", action="store_true", help="no process ends before the end")
    parser.add_argument("--keep", type=Path, help="where logs and histories are kept; empty")
    options = parser.parse_args(arguments)
    if options.keep is not None and options.keep.exists() and any(options.keep.iterdir()):
        parser.error(f"{options.keep} is not empty")
    return options


def report(soak: Soak, options: argparse.Namespace) -> int:
    """Print what came of it; the exit status."""
    judge = Judge(soak.lives)
    broken = judge.all()
    for line in table(soak.actors, judge):
        print(line)
    done = ", ".join(f"{count} {kind}" for kind, count in sorted(soak.faults.done.items()))
    print(f"seed {options.seed}, {options.minutes:g} minutes, {soak.proxy.carried} connections: {done}")
    unseen = sum(judge.unseen(life) for life in judge.lives)
    print(f"{unseen} messages were lost with their authors before anybody had them")
    if soak.settled is None:
        broken.append("not at rest in time")
    else:
        print(f"at rest {soak.settled:.0f} s after the last of it")
    for text in broken:
        print(f"BROKEN: {text}")
    if broken:
        print(
            f"again: python -m tests.soak --seed {options.seed} --minutes {options.minutes:g}"
            f" --nodes {options.nodes} --every {options.every:g}{' --no-kills' * options.no_kills}"
            " --keep FOLDER"
        )
    return 1 if broken else 0


def main(arguments: Sequence[str]) -> int:
    """Play one soak."""
    options = parse(arguments)
    # In memory where that can be had: how fast a disk syncs is not tested.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="soak-", dir=memory) as temporary:
        folder = Path(temporary) if options.keep is None else options.keep
        folder.mkdir(parents=True, exist_ok=True)
        soak = Soak(options, folder.absolute())
        ended: list[Failure | None] = []

        def begin() -> None:
            playing = Deferred.fromCoroutine(soak.play())
            playing.addBoth(ended.append)
            playing.addBoth(lambda _: reactor.stop())

        reactor.callWhenRunning(begin)
        reactor.run()
        if ended == [None]:
            return report(soak, options)
        for failure in ended:
            if failure is not None:
                failure.printTraceback()
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
